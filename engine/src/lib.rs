//! Trialog's engine: a Kafka-compatible event log.
//!
//! The rooms, from the ground up: [`io`] is the one seam to the outside world; [`wire`] is the
//! Kafka protocol as bytes; [`log`] stores one partition; [`machine`] holds the pure state
//! machines; [`client`] speaks Kafka over the seam; [`broker`] serves it. [`probe`] marks the rare
//! paths of log and broker for the simulator. `docs/map.md` in this
//! package says where everything is, and which room may know which.

pub mod broker;
pub mod client;
pub mod config;
pub mod id;
pub mod io;
pub mod limit;
pub mod log;
pub mod machine;
pub mod probe;
mod sync;
pub mod wire;
