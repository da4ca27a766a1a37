//! How long requests took, and clients had to wait: since the start, and of late.
//!
//! The cores' histograms only grow. A copy of them is kept every [`RECENT_INTERVAL`], and what they
//! have grown by since the copy before the last one is what happened in the last one to two
//! intervals. So a core that serves has nothing more to do than to count. Lives on core 0.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::broker::Core;
use crate::broker::tally::{APIS, Durations, Histogram, Tally};
use crate::io::Io;
use crate::limit::RECENT_INTERVAL;
use crate::machine::quota::Quota;

const QUOTAS: usize = Quota::ALL.len();

/// The histograms of all cores together.
#[derive(Clone, Debug)]
pub struct Times {
    /// From receipt to answer, by API.
    pub latencies: Vec<Durations>,
    /// For how long clients were told to wait, by quota.
    pub throttles: Vec<Durations>,
}

impl Times {
    /// As they stand.
    pub fn of(tallies: &[Arc<Tally>]) -> Times {
        let together = |histogram: &dyn Fn(&Tally) -> &Histogram| {
            let mut all = Durations::default();
            tallies.iter().for_each(|tally| all.take(histogram(tally)));
            all
        };
        Times {
            latencies: (0..APIS).map(|api| together(&|tally| &tally.latencies.0[api])).collect(),
            throttles: (0..QUOTAS).map(|one| together(&|tally| &tally.throttles[one])).collect(),
        }
    }

    fn since(&self, before: &Times) -> Times {
        let since = |now: &[Durations], then: &[Durations]| {
            now.iter().zip(then).map(|(now, then)| now.since(then)).collect()
        };
        Times {
            latencies: since(&self.latencies, &before.latencies),
            throttles: since(&self.throttles, &before.throttles),
        }
    }
}

/// The copies: the last one, and the one before, if there are any yet.
#[derive(Default)]
pub struct Recent {
    copies: RefCell<[Option<Times>; 2]>,
}

impl Recent {
    /// What came to `now` since the copy before the last one.
    pub fn since(&self, now: &Times) -> Times {
        self.copies.borrow()[1].as_ref().map_or_else(|| now.clone(), |before| now.since(before))
    }

    fn copy(&self, now: Times) {
        let mut copies = self.copies.borrow_mut();
        copies.swap(0, 1);
        copies[0] = Some(now);
    }
}

/// Copies again and again, until the broker has ended.
pub async fn keep<I: Io>(core: Rc<Core<I>>) {
    let mut ended = core.shared.ended.subscribe();
    loop {
        tokio::select! {
            biased; // Nothing is begun after the end.
            _ = ended.wait_for(|ended| *ended) => return,
            () = core.io.sleep(RECENT_INTERVAL) => {}
        }
        core.recent.copy(Times::of(&core.shared.tallies));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_older_than_two_copies_counts_no_more() {
        let tallies = [Arc::new(Tally::default()), Arc::new(Tally::default())];
        let recent = Recent::default();
        let seen = || recent.since(&Times::of(&tallies)).latencies[3].count();
        tallies[0].latencies.0[3].add(Duration::from_millis(7), 5);
        tallies[1].latencies.0[3].add(Duration::from_millis(7), 5);
        assert_eq!(seen(), 10);
        recent.copy(Times::of(&tallies));
        tallies[1].latencies.0[3].add(Duration::from_millis(7), 1);
        assert_eq!(seen(), 11);
        recent.copy(Times::of(&tallies));
        assert_eq!(seen(), 1);
        recent.copy(Times::of(&tallies));
        assert_eq!(seen(), 0);
    }
}
