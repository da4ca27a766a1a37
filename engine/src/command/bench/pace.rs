//! When the next record is due: at a steady rate, or at once.

use std::time::Duration;

use trialog_engine::io::{Instant, Io};

use super::super::cli::BenchLoad;

/// How long the producer sleeps when nothing is due, so that a steady rate is kept to about this.
const STEP: Duration = Duration::from_millis(1);

/// Hands out the moments at which records should be sent.
pub struct Pace {
    start: Instant,
    rate: Option<u64>,
    left: u64,
    ends: Option<Instant>,
    sent: u64,
}

impl Pace {
    /// The pace that `load` asks for, from now on.
    pub fn begin(io: &impl Io, load: &BenchLoad) -> Pace {
        let start = io.now();
        let seconds = load.seconds.or(load.records.is_none().then_some(10));
        Pace {
            start,
            rate: load.rate,
            left: load.records.unwrap_or(u64::MAX),
            ends: seconds.map(|seconds| start.after(Duration::from_secs(seconds))),
            sent: 0,
        }
    }

    /// The intended moment of the next record, once it has come; `None` when there is no more.
    pub async fn next(&mut self, io: &impl Io) -> Option<Instant> {
        loop {
            let now = io.now();
            if self.left == 0 || self.ends.is_some_and(|ends| now >= ends) {
                return None;
            }
            let due = match self.rate {
                None => now,
                Some(rate) => self.start.after(moment(self.sent, rate)),
            };
            if due <= now {
                self.sent += 1;
                self.left -= 1;
                return Some(due);
            }
            io.sleep(due.since(now).min(STEP)).await;
        }
    }
}

/// How long after the start record number `number` is due at `rate` records a second.
fn moment(number: u64, rate: u64) -> Duration {
    let nanos = u128::from(number) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_exact_over_any_time() {
        assert_eq!(moment(0, 3), Duration::ZERO);
        assert_eq!(moment(3, 3), Duration::from_secs(1));
        assert_eq!(moment(u64::MAX, 1), Duration::from_nanos(u64::MAX));
        assert_eq!(moment(7_000_000_000, 1_000_000), Duration::from_secs(7000));
    }
}
