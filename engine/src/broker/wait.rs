//! Parking a fetch until enough has been written, or its time is up.
//!
//! A fetch that found less than its minimum leaves a [`Wait`] with every partition it asked; a
//! partition whose readable end advances adds the bytes and forgets the wait, and the fetch plans
//! once more. Partitions hold it weakly, so a fetch that has been answered costs nothing more.
//! Lives on two cores at most at a time per partition: the fetch's and the partition's.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;

use atomic_waker::AtomicWaker;

/// One parked fetch.
pub struct Wait {
    needed: u64,
    bytes: AtomicU64,
    waker: AtomicWaker,
}

impl Wait {
    /// Waits for `needed` bytes.
    #[must_use]
    pub fn new(needed: u64) -> Arc<Self> {
        Arc::new(Wait { needed, bytes: AtomicU64::new(0), waker: AtomicWaker::new() })
    }

    /// Completes when the partitions have reported as many bytes as are needed.
    pub async fn enough(&self) {
        poll_fn(|context| {
            self.waker.register(context.waker());
            // Acquire and release pair with `add`: registered first, looked second.
            if self.bytes.load(Ordering::SeqCst) >= self.needed {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Whether nothing has been reported.
    pub fn is_untouched(&self) -> bool {
        self.bytes.load(Ordering::SeqCst) == 0
    }

    /// Reports `bytes` more.
    pub fn add(&self, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::SeqCst);
        if before.saturating_add(bytes) >= self.needed {
            self.waker.wake();
        }
    }
}

/// So many fetches that were answered are kept without looking for them.
const ANSWERED_MAX: usize = 4;

/// The fetches parked at one partition. Where none was for long, which is most of many partitions, it is
/// one word.
#[derive(Default)]
pub struct Parked {
    some: Option<Box<Waits>>,
}

#[derive(Default)]
struct Waits {
    all: Vec<Weak<Wait>>,
    sweep_at: usize,
}

impl Waits {
    fn forget_answered(&mut self) {
        self.all.retain(|wait| wait.strong_count() > 0);
        self.sweep_at = 2 * self.all.len();
    }
}

impl Parked {
    /// Adds a fetch, and forgets those that were answered once they are half of all.
    pub fn park(&mut self, wait: &Arc<Wait>) {
        let waits = self.some.get_or_insert_default();
        if waits.all.len() >= waits.sweep_at.max(ANSWERED_MAX) {
            waits.forget_answered();
        }
        waits.all.push(Arc::downgrade(wait));
    }

    /// Keeps no more memory than those need that still wait.
    pub fn shrink(&mut self) {
        let Some(waits) = &mut self.some else { return };
        waits.forget_answered();
        waits.all.shrink_to_fit();
        if waits.all.is_empty() {
            self.some = None;
        }
    }

    /// Reports `bytes` more to read. A fetch that still has too little stays.
    pub fn report(&mut self, bytes: u64) {
        let Some(waits) = &mut self.some else { return };
        waits.all.retain(|wait| match wait.upgrade() {
            Some(wait) => {
                wait.add(bytes);
                true
            }
            None => false,
        });
    }

    /// Makes every parked fetch look again: the partition's state has changed.
    pub fn wake_all(&mut self) {
        let waits = self.some.iter_mut().flat_map(|waits| waits.all.drain(..));
        for wait in waits.filter_map(|wait| wait.upgrade()) {
            wait.add(wait.needed);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.some.as_ref().map_or(0, |waits| waits.all.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_at_the_minimum_and_forgets_the_answered() {
        let mut parked = Parked::default();
        let wait = Wait::new(10);
        parked.park(&wait);
        parked.report(9);
        assert!(futures_util::FutureExt::now_or_never(wait.enough()).is_none());
        parked.report(1);
        assert!(futures_util::FutureExt::now_or_never(wait.enough()).is_some());
        drop(wait);
        parked.report(1);
        assert_eq!(parked.len(), 0);
        for _ in 0..1000 {
            parked.park(&Wait::new(1));
        }
        assert!(parked.len() <= ANSWERED_MAX);
        let wait = Wait::new(1);
        parked.park(&wait);
        parked.shrink();
        assert_eq!(parked.len(), 1, "who waits still does");
        drop(wait);
        parked.shrink();
        assert!(parked.some.is_none());
    }
}
