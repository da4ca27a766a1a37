//! The clocks of one node: monotonic and wall, each apart from the true (simulated) time.
//!
//! True time is nanoseconds since the run began. The monotonic clock starts somewhere at every
//! boot, runs at its own rate (a crystal's) and never goes back, but may leap ahead, as in a guest
//! whose host was suspended. The wall clock is off by an offset, may be set to anything at any
//! moment, and may be slewed: run at another rate than the crystal, as a time service makes it. A
//! battery that is dead makes it begin in 1970 at the next boot.

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
    /// How much faster than the monotonic clock the wall clock runs, in parts per billion.
    slew: i64,
    /// The wall clock does not outlive the power.
    battery_dead: bool,
    /// How far the wall clock has been off until then.
    off: Off,
}

/// How far a wall clock has been off the true time since it was first switched on, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Off {
    /// Below zero if it was ever late.
    pub least: i128,
    /// Above zero if it was ever early.
    pub most: i128,
}

/// What can happen to a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// The wall clock is set forward, or back, by so many milliseconds.
    Jump(i64),
    /// Both clocks run at another rate, in parts per billion off.
    Drift(i64),
    /// The wall clock runs at another rate than the monotonic one, in parts per billion off.
    Slew(i64),
    /// The monotonic clock leaps ahead by so many nanoseconds.
    Leap(u64),
    /// The next boot finds the wall clock at 1970.
    DeadBattery,
}

impl Clock {
    /// A clock of a machine that is switched on at `now`, off the true wall time by `offset_ms`
    /// and running `drift` parts per billion fast.
    #[must_use]
    pub fn new(now: u64, offset_ms: i64, drift: i64) -> Self {
        assert!(drift.abs() < 500_000_000, "a clock that runs wild");
        let wall = (i128::from(EPOCH_MS) + i128::from(offset_ms)) * 1_000_000 + i128::from(now);
        let off = i128::from(offset_ms) * 1_000_000;
        let off = Off { least: off, most: off };
        Clock { since: now, monotonic: 0, wall, drift, slew: 0, battery_dead: false, off }
    }

    /// How far the wall clock has been off until `now`.
    #[must_use]
    pub fn wall_off(mut self, now: u64) -> Off {
        self.settle(now);
        self.off
    }

    /// What the monotonic clock shows.
    #[must_use]
    pub fn monotonic(&self, now: u64) -> Instant {
        Instant(self.monotonic + self.passed(now))
    }

    /// What the wall clock shows.
    #[must_use]
    pub fn wall(&self, now: u64) -> Wall {
        let nanos = self.wall + i128::from(self.wall_passed(now));
        Wall(i64::try_from(nanos.div_euclid(1_000_000)).expect("a date within reason"))
    }

    /// How much true time passes while this clock counts `nanos`, at least.
    #[must_use]
    pub fn true_time(&self, nanos: u64) -> u64 {
        let rate = 1_000_000_000 + i128::from(self.drift);
        let exact = (i128::from(nanos) * 1_000_000_000 + rate - 1) / rate;
        u64::try_from(exact).unwrap_or(u64::MAX)
    }

    /// Lets something happen to it at `now`.
    pub fn suffer(&mut self, now: u64, mischief: Mischief) {
        self.settle(now);
        match mischief {
            Mischief::Jump(by_ms) => self.wall += i128::from(by_ms) * 1_000_000,
            Mischief::Drift(drift) => self.drift = tame(drift),
            Mischief::Slew(slew) => self.slew = tame(slew),
            Mischief::Leap(by) => self.monotonic += by,
            Mischief::DeadBattery => self.battery_dead = true,
        }
        self.note_off();
    }

    /// The machine was switched off and on: the monotonic clock begins again, the wall clock went
    /// on in its battery, if that is alive.
    pub fn reboot(&mut self, now: u64) {
        self.settle(now);
        self.monotonic = 0;
        if std::mem::take(&mut self.battery_dead) {
            self.wall = 0;
            self.note_off();
        }
    }

    fn settle(&mut self, now: u64) {
        self.wall += i128::from(self.wall_passed(now));
        self.monotonic += self.passed(now);
        self.since = now;
        self.note_off();
    }

    /// Between two calls it goes straight from the one to the other.
    fn note_off(&mut self) {
        let off = self.wall - i128::from(EPOCH_MS) * 1_000_000 - i128::from(self.since);
        self.off = Off { least: self.off.least.min(off), most: self.off.most.max(off) };
    }

    fn wall_passed(&self, now: u64) -> u64 {
        faster(self.passed(now), self.slew)
    }

    fn passed(&self, now: u64) -> u64 {
        faster(now.saturating_sub(self.since), self.drift)
    }
}

fn faster(nanos: u64, by_billionths: i64) -> u64 {
    let truly = i128::from(nanos);
    u64::try_from(truly + truly * i128::from(by_billionths) / 1_000_000_000).unwrap_or(u64::MAX)
}

fn tame(rate: i64) -> i64 {
    assert!(rate.abs() < 500_000_000, "a clock that runs wild");
    rate
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
        clock.suffer(SECOND, Mischief::Jump(-10_000));
        assert_eq!(clock.wall(SECOND), Wall(EPOCH_MS - 8_499));
        assert_eq!(clock.monotonic(SECOND), Instant(SECOND + 1_000_000));
        clock.suffer(SECOND, Mischief::Drift(0));
        assert_eq!(clock.monotonic(2 * SECOND), Instant(2 * SECOND + 1_000_000));
        clock.suffer(2 * SECOND, Mischief::Slew(100_000_000));
        assert_eq!(clock.monotonic(3 * SECOND), Instant(3 * SECOND + 1_000_000));
        assert_eq!(clock.wall(3 * SECOND), Wall(EPOCH_MS - 6_399));
        clock.suffer(3 * SECOND, Mischief::Leap(5 * SECOND));
        assert_eq!(clock.monotonic(3 * SECOND), Instant(8 * SECOND + 1_000_000));
        assert_eq!(clock.wall(3 * SECOND), Wall(EPOCH_MS - 6_399));
        clock.reboot(3 * SECOND);
        assert_eq!(clock.monotonic(3 * SECOND), Instant(0));
        assert_eq!(clock.wall(3 * SECOND), Wall(EPOCH_MS - 6_399));
    }

    #[test]
    fn a_dead_battery_shows_at_the_next_boot_and_only_then() {
        let mut clock = Clock::new(0, 0, 0);
        clock.suffer(0, Mischief::DeadBattery);
        assert_eq!(clock.wall(SECOND), Wall(EPOCH_MS + 1000));
        clock.reboot(SECOND);
        assert_eq!(clock.wall(3 * SECOND), Wall(2000));
        clock.reboot(3 * SECOND);
        assert_eq!(clock.wall(4 * SECOND), Wall(3000));
    }

    #[test]
    fn the_wall_clock_is_known_to_be_off_as_far_as_it_ever_was() {
        let off = |clock: Clock, seconds: u64| {
            let Off { least, most } = clock.wall_off(seconds * SECOND);
            (least / 1_000_000, most / 1_000_000)
        };
        let mut clock = Clock::new(0, 500, 1_000_000);
        assert_eq!(off(clock, 0), (500, 500));
        assert_eq!(off(clock, 2), (500, 502));
        clock.suffer(2 * SECOND, Mischief::Jump(-3000));
        clock.suffer(2 * SECOND, Mischief::Leap(SECOND));
        assert_eq!(off(clock, 2), (-2498, 502));
        clock.suffer(3 * SECOND, Mischief::Jump(5000));
        clock.suffer(3 * SECOND, Mischief::Jump(-5000));
        assert_eq!(off(clock, 3), (-2498, 2503));
        clock.suffer(3 * SECOND, Mischief::Slew(-100_000_000));
        assert_eq!(off(clock, 13), (-3488, 2503));
        clock.suffer(13 * SECOND, Mischief::DeadBattery);
        clock.reboot(13 * SECOND);
        assert_eq!(off(clock, 13), (-i128::from(EPOCH_MS) - 13_000, 2503));
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
