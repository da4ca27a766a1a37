//! The inbox without its fences, so that neither side orders what it wrote before what it looks at:
//! the model must notice.

mod sync {
    pub use super::super::twins::*;

    pub fn fence(_: Ordering) {}
}

#[allow(clippy::duplicate_mod, reason = "the same file over other primitives is the point")]
#[path = "../../src/broker/inbox.rs"]
pub mod inbox;
