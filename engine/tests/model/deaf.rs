//! The inbox over a waker that wakes nobody: the model must notice.

mod sync {
    pub use super::super::twins::*;

    pub struct AtomicWaker;

    impl AtomicWaker {
        pub fn new() -> Self {
            AtomicWaker
        }

        pub fn register(&self, _: &std::task::Waker) {}

        pub fn wake(&self) {}
    }
}

#[path = "../../src/broker/inbox.rs"]
pub mod inbox;
