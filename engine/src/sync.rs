//! What cores share memory through, in the inbox and in the pools of buffers: one short list.
//!
//! The two files that use it name it `super::sync`, so that the model in `tests/model` can compile
//! the same files over instrumented primitives and try every order in which two cores may see what
//! they share. Whoever adds a primitive here adds its twin there.

pub use std::sync::atomic::{AtomicBool, Ordering, fence};
pub use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use atomic_waker::AtomicWaker;
pub use crossbeam::queue::ArrayQueue;
