//! The product's files over faithful twins.

use super::twins as sync;

#[path = "../../src/io/buf.rs"]
#[expect(dead_code, reason = "the model uses a part of it")]
pub mod buf;
#[allow(clippy::duplicate_mod, reason = "the same file over other primitives is the point")]
#[path = "../../src/broker/inbox.rs"]
pub mod inbox;
