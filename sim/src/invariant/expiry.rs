//! GROUP-8: how long what a group has committed is kept (KIP-211), whatever its broker goes through.
//!
//! A naive model of one offset, in true time. The broker goes by its wall clock: how far that was off
//! at most is taken off the time for which the offset must be there, and added to the time after which
//! it must be gone.

use std::time::Duration;

/// How long a broker may take, once all is well, to see that an offset is too old: two of the longest
/// intervals between looks that a run has, on a clock that runs slow, and time to begin.
const LATE: u64 = 15_000_000_000;

/// What is known of an offset that was committed and acknowledged. All times are true ones, in
/// nanoseconds.
#[derive(Debug)]
pub struct Stay {
    retention: u64,
    /// When it was certainly of use: somebody was in the group, or committed it.
    used: u64,
    /// Since when it certainly is not.
    vacant: Option<u64>,
    gone: bool,
}

/// How a look at it went.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// When it was asked for.
    pub asked: u64,
    /// When the answer was there.
    pub answered: u64,
    /// Whether it was found.
    pub found: bool,
    /// Since when nothing goes wrong any more, if that is so.
    pub healed: Option<u64>,
    /// How far the broker's wall clock was off at one time against another, at most.
    pub astray: u64,
}

impl Stay {
    /// Of an offset that is kept for so long after it was last of use, as it is at `used`.
    #[must_use]
    pub fn new(retention: Duration, used: u64) -> Stay {
        Stay { retention: crate::seed::nanos(retention), used, vacant: None, gone: false }
    }

    /// It was of use at that time.
    pub fn used(&mut self, at: u64) {
        self.used = self.used.max(at);
        self.vacant = None;
    }

    /// From that time on, at the latest, it is of no use to anybody.
    pub fn vacant(&mut self, at: u64) {
        self.vacant.get_or_insert(at);
    }

    /// Whether it was found gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// When it must be gone at the latest, if nothing goes wrong from `healed` on.
    #[must_use]
    pub fn due(&self, healed: u64, astray: u64) -> Option<u64> {
        let old = self.vacant?.saturating_add(self.retention).saturating_add(astray);
        Some(old.max(healed).saturating_add(LATE))
    }

    /// Somebody has looked. Says what is wrong with what he found.
    pub fn look(&mut self, look: &Look) -> Option<String> {
        let Look { asked, answered, found, healed, astray } = *look;
        if !found {
            let age = answered.saturating_sub(self.used);
            let early = !self.gone && age.saturating_add(astray) < self.retention;
            self.gone = true;
            return early.then(|| {
                let (age, kept) = (seconds(age), seconds(self.retention));
                format!("it is gone {age} s after it was of use, and is kept for {kept} s")
            });
        }
        if self.gone {
            return Some("it was gone, and is back".to_owned());
        }
        let due = healed.and_then(|healed| self.due(healed, astray))?;
        (asked > due).then(|| {
            let over = seconds(asked - due);
            format!("it is there {over} s after it had to be gone")
        })
    }
}

fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn look(at: u64, found: bool) -> Look {
        let (asked, answered) = (at * SECOND, at * SECOND + 1);
        Look { asked, answered, found, healed: Some(0), astray: 0 }
    }

    fn stay() -> Stay {
        Stay::new(Duration::from_secs(60), 5 * SECOND)
    }

    #[test]
    fn what_is_of_use_stays_and_what_is_not_goes() {
        let mut kept = stay();
        kept.used(50 * SECOND);
        kept.vacant(52 * SECOND);
        assert_eq!(kept.look(&look(109, true)), None);
        assert_eq!(kept.look(&look(111, true)), None, "it may take a while");
        assert!(kept.look(&look(128, true)).is_some_and(|wrong| wrong.contains("had to be")));
        assert_eq!(kept.look(&look(129, false)), None);
        assert!(kept.is_gone());
        assert!(kept.look(&look(130, true)).is_some_and(|wrong| wrong.contains("back")));
    }

    #[test]
    fn nothing_goes_too_early() {
        let mut gone = stay();
        gone.vacant(6 * SECOND);
        assert!(gone.look(&look(64, false)).is_some_and(|wrong| wrong.contains("59")));
        assert_eq!(stay().look(&look(65, false)), None);
        // Nobody knows how old it is for a broker whose clock was off.
        assert_eq!(stay().look(&Look { astray: 30 * SECOND, ..look(40, false) }), None);
        assert!(stay().look(&Look { astray: 30 * SECOND, ..look(30, false) }).is_some());
    }

    #[test]
    fn it_must_be_gone_only_when_all_is_well_and_nobody_is_there() {
        let mut kept = stay();
        assert_eq!(kept.look(&look(500, true)), None, "somebody may be there");
        kept.vacant(10 * SECOND);
        assert_eq!(kept.look(&Look { healed: None, ..look(500, true) }), None);
        assert_eq!(kept.look(&Look { healed: Some(490 * SECOND), ..look(500, true) }), None);
        assert_eq!(kept.look(&Look { astray: 500 * SECOND, ..look(500, true) }), None);
        assert!(kept.look(&look(500, true)).is_some());
        kept.used(500 * SECOND);
        assert_eq!(kept.look(&look(559, true)), None, "somebody is back");
    }
}
