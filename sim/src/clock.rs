//! The clocks of one node: monotonic and wall, each apart from the true (simulated) time.
//!
//! True time is nanoseconds since the run began. The monotonic clock starts somewhere at every
//! boot, runs at its own rate and never goes back; the wall clock runs at the same rate, is off by
//! an offset, and may be set to anything at any moment.

use trialog_engine::io::{Instant, Wall};

/// Milliseconds since 1970 at the start of every run.
pub const EPOCH_MS: i64 = 1_700_000_000_000;

/// One node's clocks. All arguments named `now` are true time in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// True time from which on the present rate holds.
    since: u64,
    /// What the monotonic clock showed then.
    monotonic: u64,
    /// What the wall clock showed then, in nanoseconds since 1970.
    wall: i128,
    /// How much faster than true time it runs, in parts per billion.
    drift: i64,
}

impl Clock {
    /// A clock of a machine that is switched on at `now`, off the true wall time by `offset_ms`
    /// and running `drift` parts per billion fast.
    #[must_use]
    pub fn new(now: u64, offset_ms: i64, drift: i64) -> Self {
        assert!(drift.abs() < 500_000_000, "a clock that runs wild");
        let wall = (i128::from(EPOCH_MS) + i128::from(offset_ms)) * 1_000_000 + i128::from(now);
        Clock { since: now, monotonic: 0, wall, drift }
    }

    /// What the monotonic clock shows.
    #[must_use]
    pub fn monotonic(&self, now: u64) -> Instant {
        Instant(self.monotonic + self.passed(now))
    }

    /// What the wall clock shows.
    #[must_use]
    pub fn wall(&self, now: u64) -> Wall {
        let nanos = self.wall + i128::from(self.passed(now));
        Wall(i64::try_from(nanos.div_euclid(1_000_000)).expect("a date within reason"))
    }

    /// How much true time passes while this clock counts `nanos`, at least.
    #[must_use]
    pub fn true_time(&self, nanos: u64) -> u64 {
        let rate = 1_000_000_000 + i128::from(self.drift);
        let exact = (i128::from(nanos) * 1_000_000_000 + rate - 1) / rate;
        u64::try_from(exact).unwrap_or(u64::MAX)
    }

    /// Sets the wall clock forward (or back, if negative) by `by_ms`.
    pub fn jump(&mut self, by_ms: i64) {
        self.wall += i128::from(by_ms) * 1_000_000;
    }

    /// Changes the rate from `now` on.
    pub fn set_drift(&mut self, now: u64, drift: i64) {
        assert!(drift.abs() < 500_000_000, "a clock that runs wild");
        let passed = self.passed(now);
        *self = Clock {
            since: now,
            monotonic: self.monotonic + passed,
            wall: self.wall + i128::from(passed),
            drift,
        };
    }

    /// The machine was switched off and on: the monotonic clock begins again, the wall clock went
    /// on in its battery.
    pub fn reboot(&mut self, now: u64) {
        self.set_drift(now, self.drift);
        self.monotonic = 0;
    }

    fn passed(&self, now: u64) -> u64 {
        let truly = i128::from(now.saturating_sub(self.since));
        let shown = truly + truly * i128::from(self.drift) / 1_000_000_000;
        u64::try_from(shown).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn drift_and_jumps_move_each_clock_apart() {
        let mut clock = Clock::new(0, 500, 1_000_000);
        assert_eq!(clock.monotonic(SECOND), Instant(SECOND + 1_000_000));
        assert_eq!(clock.wall(SECOND), Wall(EPOCH_MS + 1_501));
        clock.jump(-10_000);
        assert_eq!(clock.wall(SECOND), Wall(EPOCH_MS - 8_499));
        assert_eq!(clock.monotonic(SECOND), Instant(SECOND + 1_000_000));
        clock.set_drift(SECOND, 0);
        assert_eq!(clock.monotonic(2 * SECOND), Instant(2 * SECOND + 1_000_000));
        clock.reboot(3 * SECOND);
        assert_eq!(clock.monotonic(3 * SECOND), Instant(0));
    }

    #[test]
    fn a_sleep_is_never_too_short() {
        for drift in [-400_000_000, -1, 0, 1, 333_333_333] {
            let clock = Clock::new(0, 0, drift);
            for nanos in [1, 999, 1_000_000, 7 * SECOND + 13] {
                let truly = clock.true_time(nanos);
                assert!(clock.monotonic(truly).0 >= nanos, "{drift} {nanos}");
            }
        }
    }
}
