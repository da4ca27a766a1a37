//! The memory-order model of what cores share: the inbox and the return path of buffers.
//!
//! Their source files are compiled a second time here, word for word, over primitives of loom,
//! which run a handful of operations in every order that the memory model allows, and let each load
//! see every value that it may see. A stress test on real threads finds what the machine happens to
//! do; this finds what it is allowed to do.
//!
//! The inbox over primitives that lack something ([`deaf`], [`fenceless`]) must fail, or the model is
//! blind.

mod buf;
mod deaf;
mod fenceless;
mod honest;
mod inbox;
mod queue;
mod twins;

/// Explores `scene` in every order with at most `preemptions` unforced changes of threads. Most
/// errors need one or two; the number keeps the exploration in seconds.
fn explore(preemptions: usize, scene: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(scene);
}
