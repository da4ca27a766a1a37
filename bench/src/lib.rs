//! What the benches share: floors, the broker under test, a client that is nothing but sockets,
//! and how processor time is counted.
//!
//! A *floor* is the bare loop that makes the same system calls for the same bytes. Every figure is
//! a ratio to its floor, both sides taken in the same run, in turn, and the median over the rounds;
//! absolute times travel badly between machines, ratios do not.

#![allow(clippy::disallowed_methods, reason = "this side of the wire is real, and not simulated")]

pub mod broker;
pub mod floor;
pub mod load;
pub mod machine;
pub mod process;
pub mod verdict;
pub mod versus;
