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

/// The fetches parked at one partition.
#[derive(Default)]
pub struct Parked {
    waits: Vec<Weak<Wait>>,
    sweep_at: usize,
}

impl Parked {
    /// Adds a fetch, and forgets those that were answered once they are half of all.
    pub fn park(&mut self, wait: &Arc<Wait>) {
        if self.waits.len() >= self.sweep_at.max(ANSWERED_MAX) {
            self.forget_answered();
        }
        self.waits.push(Arc::downgrade(wait));
    }

    fn forget_answered(&mut self) {
        self.waits.retain(|wait| wait.strong_count() > 0);
        self.sweep_at = 2 * self.waits.len();
    }

    /// Keeps no more memory than those need that still wait.
    pub fn shrink(&mut self) {
        self.forget_answered();
        self.waits.shrink_to_fit();
    }

    /// Reports `bytes` more to read. A fetch that still has too little stays.
    pub fn report(&mut self, bytes: u64) {
        self.waits.retain(|wait| match wait.upgrade() {
            Some(wait) => {
                wait.add(bytes);
                true
            }
            None => false,
        });
    }

    /// Makes every parked fetch look again: the partition's state has changed.
    pub fn wake_all(&mut self) {
        for wait in self.waits.drain(..).filter_map(|wait| wait.upgrade()) {
            wait.add(wait.needed);
        }
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
        assert!(parked.waits.is_empty());
        for _ in 0..1000 {
            parked.park(&Wait::new(1));
        }
        assert!(parked.waits.len() <= ANSWERED_MAX);
        let wait = Wait::new(1);
        parked.park(&wait);
        parked.shrink();
        assert_eq!(parked.waits.len(), 1, "who waits still does");
        drop(wait);
        parked.shrink();
        assert_eq!(parked.waits.capacity(), 0);
    }
}
