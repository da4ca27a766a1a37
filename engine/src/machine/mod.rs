//! The pure state machines: what the cluster knows, decided and applied without a clock, a task or
//! a socket.
//!
//! A machine has two halves. `decide` reads its state and turns a command into records and a
//! reply, or refuses; `apply` takes one record and changes the state. Whoever hosts a machine
//! makes the records durable between the two; recovery is to replay them. The same records in the
//! same order always give the same state, on every node and every core count.
//!
//! [`cluster`] is the metadata of the whole cluster, [`image`] its read side, [`record`] its
//! records as bytes, [`group`] the consumer groups, [`refusal`] why it says no, [`name`] which topic names are legal, and
//! [`place`] which core owns a partition.
//!
//! Nothing here knows logs, replicas, connections or which core it runs on.

pub mod cluster;
pub mod group;
pub mod image;
pub mod name;
pub mod place;
pub mod quota;
pub mod record;
pub mod refusal;

#[cfg(test)]
mod tests;

pub use cluster::{
    Cluster, Command, Contradiction, Layout, MorePartitions, NewQuotas, NewTopic, Reply,
};
pub use image::{BrokerConfigs, ClusterId, Image, Partition, Topic};
pub use record::{Record, RecordError};
pub use refusal::Refusal;
