//! Twins of the primitives in `engine/src/sync.rs`: the same names, explored by loom.

pub use std::sync::PoisonError;

pub use loom::sync::atomic::{AtomicBool, Ordering, fence};
pub use loom::sync::{Arc, Mutex, MutexGuard};

pub use super::queue::ArrayQueue;

/// A place for one waker. What was written before a wake is seen after the register that comes
/// behind it: that much, and no more, does `atomic_waker` promise.
pub struct AtomicWaker(loom::future::AtomicWaker);

impl AtomicWaker {
    pub fn new() -> Self {
        AtomicWaker(loom::future::AtomicWaker::new())
    }

    pub fn register(&self, waker: &std::task::Waker) {
        self.0.register_by_ref(waker);
    }

    pub fn wake(&self) {
        self.0.wake();
    }
}
