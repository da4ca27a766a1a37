//! How many lines about refused requests one connection may cause in the log.
//!
//! A client may send thousands of requests a second that are all refused for one reason: the first
//! lines say all there is to say, and the rest would push what others need to know out of sight. So
//! each connection may cause [`REFUSALS_LOGGED_MAX`] lines at once, and one more every
//! [`REFUSALS_LOGGED_INTERVAL`]; what is not written is counted. Pure; belongs to a connection, and
//! with it to one core.

use crate::io::Instant;
use crate::limit::{REFUSALS_LOGGED_INTERVAL, REFUSALS_LOGGED_MAX};

/// What a connection may still have written.
#[derive(Debug, Default)]
pub struct Allowance {
    /// When all of it will be there again.
    whole_at: Instant,
    withheld: u64,
}

impl Allowance {
    /// Takes one line, and tells how many were withheld since the last one. `None` if this one is
    /// withheld.
    pub fn take(&mut self, now: Instant) -> Option<u64> {
        let whole_at = self.whole_at.max(now).after(REFUSALS_LOGGED_INTERVAL);
        if whole_at > now.after(REFUSALS_LOGGED_INTERVAL * REFUSALS_LOGGED_MAX) {
            self.withheld += 1;
            return None;
        }
        self.whole_at = whole_at;
        Some(std::mem::take(&mut self.withheld))
    }

    /// How many lines were withheld since the last one that was not.
    pub fn withheld(&self) -> u64 {
        self.withheld
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_off_and_counted() {
        let mut allowance = Allowance::default();
        let flood = |allowance: &mut Allowance, now| {
            (0..1000).filter(|_| allowance.take(now).is_some()).count()
        };
        let first = Instant(7);
        assert_eq!(flood(&mut allowance, first), REFUSALS_LOGGED_MAX as usize);
        assert_eq!(allowance.withheld(), 1000 - u64::from(REFUSALS_LOGGED_MAX));
        assert_eq!(allowance.take(first.after(REFUSALS_LOGGED_INTERVAL / 2)), None);
        let later = first.after(REFUSALS_LOGGED_INTERVAL);
        assert_eq!(allowance.take(later), Some(1001 - u64::from(REFUSALS_LOGGED_MAX)));
        assert_eq!((allowance.take(later), allowance.withheld()), (None, 1));
        // After a long silence there is all of it again, and no more.
        let much_later = later.after(REFUSALS_LOGGED_INTERVAL * 1000);
        assert_eq!(flood(&mut allowance, much_later), REFUSALS_LOGGED_MAX as usize);
    }

    #[test]
    fn who_is_refused_now_and_then_is_always_heard() {
        let mut allowance = Allowance::default();
        for turn in 0..1000 {
            let now = Instant(0).after(REFUSALS_LOGGED_INTERVAL * turn);
            assert_eq!(allowance.take(now), Some(0));
        }
    }
}
