//! How fast the simulator is: time on a processor, the checkers' share, and percentiles.
//!
//! Real time is read here for figures only; nothing that is simulated sees it. It is asked of the
//! kernel itself: in a simulated thread, the C library's clocks (and so those of `std`) show
//! simulated time.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

thread_local! {
    static JUDGED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Runs a checker, and counts its time on a processor for [`judged`].
pub fn judging<T>(check: impl FnOnce() -> T) -> T {
    let begun = thread_cpu();
    let verdict = check();
    JUDGED.with(|judged| judged.set(judged.get() + thread_cpu().saturating_sub(begun)));
    verdict
}

/// As [`judging`], for a checker that waits in between: its own turns count.
pub async fn judging_in_turns<F: Future>(check: F) -> F::Output {
    let mut check = pin!(check);
    poll_fn(|cx| judging(|| check.as_mut().poll(cx))).await
}

/// The time that checkers took on this thread so far. A run is one thread.
#[must_use]
pub fn judged() -> Duration {
    JUDGED.with(Cell::get)
}

/// The time that this thread has been on a processor.
#[must_use]
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The value below or at which `per_cent` of the sorted `values` lie; zero if there are none.
#[must_use]
pub fn percentile(values: &[u64], per_cent: usize) -> u64 {
    debug_assert!(values.is_sorted(), "sort first");
    let rank = (values.len() * per_cent).div_ceil(100).max(1) - 1;
    values.get(rank).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!([50, 99, 100].map(|share| percentile(&values, share)), [100, 198, 200]);
        assert_eq!(percentile(&[7], 1), 7);
        assert_eq!(percentile(&[], 50), 0);
    }

    #[test]
    fn time_is_counted() {
        let before = judged();
        assert_eq!(judging(|| 3), 3);
        let once = judged();
        assert!(once > before);
        assert_eq!(judging_in_turns(async { 4 }).now_or_never(), Some(4));
        assert!(judged() > once);
        assert!(thread_cpu() > Duration::ZERO);
    }
}
