//! Why the cluster machine did not carry out a command: a closed list, each with a Kafka code and
//! a sentence for whoever asked.

use std::fmt;
use std::sync::Arc;

use super::name;
use super::quota::QuotaError;
use crate::config;
use crate::id::{NodeId, PartitionIndex, TopicId};
use crate::wire::code::ErrorCode;

/// Why a command was not carried out. [`Refusal::code`] is its Kafka code; shown, it says what was
/// wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The name breaks a rule.
    TopicName {
        /// The name that was asked for.
        name: String,
        /// The rule.
        error: name::NameError,
    },
    /// The name differs from an existing one only in `.` and `_`.
    TopicNameCollides {
        /// The name that was asked for.
        name: String,
        /// The topic in its way.
        existing: Arc<str>,
    },
    /// There is a topic of this name.
    TopicExists {
        /// The name.
        name: String,
    },
    /// There is a topic with this id: ids must be fresh random numbers.
    TopicIdExists {
        /// The id.
        id: TopicId,
    },
    /// The number of partitions is not 1 or more.
    Partitions {
        /// What was asked for.
        partitions: i32,
    },
    /// A topic cannot have fewer partitions than it has, or as many.
    NotMorePartitions {
        /// What was asked for.
        partitions: i32,
        /// What it has.
        before: usize,
    },
    /// A manual assignment of new partitions is not for as many as there will be.
    AssignmentCount {
        /// For how many it is.
        given: usize,
        /// How many there will be.
        added: usize,
    },
    /// There are not so many brokers, or the number is not 1 or more.
    ReplicationFactor {
        /// What was asked for.
        replication_factor: i16,
        /// The brokers there are.
        brokers: usize,
    },
    /// A manual assignment that cannot be.
    Assignment {
        /// The partition it concerns.
        partition: PartitionIndex,
        /// What is wrong with it.
        why: AssignmentError,
    },
    /// A setting that does not exist or has an illegal value.
    Config(config::ConfigError),
    /// The same of a setting that is to be kept for brokers.
    BrokerConfig(config::ConfigError),
    /// There is no topic of this name.
    UnknownTopic {
        /// The name.
        name: String,
    },
    /// There is no topic with this id.
    UnknownTopicId {
        /// The id.
        id: TopicId,
    },
    /// More than one topic or the cluster may have.
    Limit {
        /// Of what.
        what: &'static str,
        /// The most there may be.
        most: usize,
    },
    /// The broker's id is not the one these data were written under.
    OtherNode {
        /// The broker that asks.
        node: NodeId,
        /// The broker that owns the data.
        owner: NodeId,
    },
    /// A negative node id.
    NodeId {
        /// The id.
        node: NodeId,
    },
    /// A quota that cannot be.
    Quota(QuotaError),
    /// The broker has not started.
    UnregisteredBroker {
        /// The broker that asks.
        node: NodeId,
    },
    /// All 2^63 producer ids have been given out.
    ProducerIdsExhausted,
}

/// What is wrong with a manual assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssignmentError {
    /// The indexes are not 0, 1, 2 and so on; this one is missing.
    Missing,
    /// No brokers at all.
    Empty,
    /// A broker that the cluster does not know.
    UnknownBroker(NodeId),
    /// The same broker twice.
    Repeated(NodeId),
    /// Not as many brokers as the other partitions have.
    Uneven,
}

impl Refusal {
    /// The Kafka code that a client gets.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Refusal::TopicName { .. } | Refusal::TopicNameCollides { .. } => {
                ErrorCode::InvalidTopicException
            }
            Refusal::TopicExists { .. } => ErrorCode::TopicAlreadyExists,
            Refusal::TopicIdExists { .. } | Refusal::ProducerIdsExhausted => {
                ErrorCode::UnknownServerError
            }
            Refusal::Partitions { .. } | Refusal::NotMorePartitions { .. } => {
                ErrorCode::InvalidPartitions
            }
            Refusal::ReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
            Refusal::Assignment { .. } | Refusal::AssignmentCount { .. } => {
                ErrorCode::InvalidReplicaAssignment
            }
            Refusal::Config(_) => ErrorCode::InvalidConfig,
            // Kafka's own code for these (KAFKA-13609 regrets it, and keeps it).
            Refusal::BrokerConfig(_) => ErrorCode::InvalidRequest,
            Refusal::Quota(_) => ErrorCode::InvalidRequest,
            Refusal::UnknownTopic { .. } => ErrorCode::UnknownTopicOrPartition,
            Refusal::UnknownTopicId { .. } => ErrorCode::UnknownTopicId,
            Refusal::Limit { .. } => ErrorCode::PolicyViolation,
            Refusal::OtherNode { .. } | Refusal::NodeId { .. } => ErrorCode::InconsistentClusterId,
            Refusal::UnregisteredBroker { .. } => ErrorCode::BrokerIdNotRegistered,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::TopicName { name, error } => {
                write!(f, "topic name {name:?} is not legal: {error}")
            }
            Refusal::TopicNameCollides { name, existing } => write!(
                f,
                "topic name '{name}' collides with the existing topic '{existing}': names may not \
                 differ only in '.' and '_'; choose another name"
            ),
            Refusal::TopicExists { name } => write!(f, "topic '{name}' already exists"),
            Refusal::TopicIdExists { id } => {
                write!(f, "topic id {id} is none or in use; ask again with a fresh random id")
            }
            Refusal::Partitions { partitions } => write!(
                f,
                "{partitions} partitions are not possible: give 1 or more, or -1 for the broker's \
                 num.partitions"
            ),
            Refusal::NotMorePartitions { partitions, before } => write!(
                f,
                "the topic has {before} partition(s), and {partitions} are not more: partitions \
                 can only be added"
            ),
            Refusal::AssignmentCount { given, added } => write!(
                f,
                "{added} partition(s) would be added and the assignment names brokers for {given}"
            ),
            Refusal::ReplicationFactor { replication_factor, brokers } => write!(
                f,
                "replication factor {replication_factor} is not possible: this cluster has \
                 {brokers} broker(s); give a number from 1 to that, or -1 for the broker's \
                 default.replication.factor"
            ),
            Refusal::Assignment { partition, why } => {
                write!(f, "the assignment of partition {partition} is not possible: {why}")
            }
            Refusal::Config(error) | Refusal::BrokerConfig(error) => error.fmt(f),
            Refusal::Quota(error) => error.fmt(f),
            Refusal::UnknownTopic { name } => write!(f, "there is no topic '{name}'"),
            Refusal::UnknownTopicId { id } => write!(f, "there is no topic with id {id}"),
            Refusal::Limit { what, most } => {
                write!(f, "the {what} would be more than {most}, the most this version allows")
            }
            Refusal::OtherNode { node, owner } => write!(
                f,
                "these data belong to node.id {owner}, and this broker is node.id {node}; start it \
                 with node.id={owner} or with other data"
            ),
            Refusal::NodeId { node } => write!(f, "node.id {node} is negative; give 0 or more"),
            Refusal::UnregisteredBroker { node } => {
                write!(f, "broker {node} has not registered with the cluster")
            }
            Refusal::ProducerIdsExhausted => {
                f.write_str("all producer ids have been given out; no producer can be added")
            }
        }
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for AssignmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AssignmentError::Missing => {
                f.write_str("it is missing; partitions are numbered from 0 without gaps")
            }
            AssignmentError::Empty => f.write_str("it names no broker"),
            AssignmentError::UnknownBroker(node) => write!(f, "there is no broker {node}"),
            AssignmentError::Repeated(node) => write!(f, "it names broker {node} twice"),
            AssignmentError::Uneven => {
                f.write_str("it does not name as many brokers as partition 0 does")
            }
        }
    }
}
