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

#[allow(clippy::duplicate_mod, reason = "the same file over other primitives is the point")]
#[path = "../../src/broker/inbox.rs"]
pub mod inbox;
