//! The settings of a broker and of a topic: Kafka's keys, and a few of our own under `trialog.`.
//!
//! Each level has one table ([`broker::KEYS`], [`topic::KEYS`]) that holds name, kind, range,
//! default and explanation; parsing, errors, DescribeConfigs and the reference all come from it.
//! [`Broker`] and [`Topic`] are the parsed values, made once, so that nothing further in looks at
//! text. A topic's setting comes from the topic, else from the broker's key of the same meaning,
//! else from the table. Of the rest of the engine it knows only the log's own settings, which
//! [`Topic::log`] fills in.
//!
//! Pure: no files, no environment, no clock. A key that is not in the table is an error with the
//! nearest known key, never silently ignored: a typing error in a durability setting must not
//! look like success. What Kafka has and this program does not is listed in [`kafka`], with the reason.
//!
//! Some of a broker's keys may be changed while it runs ([`dynamic`]): for one broker, which wins over
//! for all brokers, which wins over what it was started with.

pub mod broker;
pub mod dynamic;
pub mod given;
mod group;
pub mod kafka;
pub mod kind;
pub mod suggest;
pub mod topic;

use std::fmt;

pub use broker::{Broker, IoMode, Listener};
pub use group::Groups;
pub use kind::Kind;
pub use topic::{Compression, Topic};

/// One row of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// The name.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The value if nobody gives one; `None` if another key then decides.
    pub default: Option<&'static str>,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
}

/// Whose settings are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A broker's.
    Broker,
    /// A topic's.
    Topic,
}

/// Where a value comes from, most specific first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Given for the topic itself.
    Topic,
    /// Kept by the cluster for one broker, changed while it runs.
    DynamicBroker,
    /// Kept by the cluster for all brokers, changed while they run.
    DynamicDefault,
    /// Given to the broker at its start.
    Broker,
    /// The table's.
    Default,
}

impl Source {
    /// Kafka's number for it in DescribeConfigs (`DescribeConfigsResponse.ConfigSource`).
    #[must_use]
    pub fn code(self) -> i8 {
        match self {
            Source::Topic => 1,
            Source::DynamicBroker => 2,
            Source::DynamicDefault => 3,
            Source::Broker => 4,
            Source::Default => 5,
        }
    }
}

/// Why a setting was refused. Shown, it names the key, the value and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// There is no such key.
    Unknown {
        /// Whose key it would be.
        level: Level,
        /// What was given.
        key: String,
        /// The nearest key there is, if one is near.
        nearest: Option<&'static str>,
    },
    /// The value is not one the key takes.
    Value {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What it takes.
        allowed: String,
    },
    /// Two values that exclude each other: the first key's may not be larger than the second's.
    Crossed {
        /// The key of the smaller one.
        low: &'static str,
        /// The key of the larger one.
        high: &'static str,
    },
    /// The key can only be given at a broker's start.
    ReadOnly {
        /// The key.
        key: &'static str,
    },
    /// The key is Kafka's, and what it asks for may not be passed over.
    Refused {
        /// The key.
        key: String,
        /// Why.
        because: &'static str,
    },
    /// `key=value` was expected.
    Syntax {
        /// What was given.
        given: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unknown { level, key, nearest } => {
                let level = match level {
                    Level::Broker => "broker",
                    Level::Topic => "topic",
                };
                write!(f, "unknown {level} setting '{key}'")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean '{nearest}'?"),
                    None => f.write_str("; leave it out if this version has no use for it"),
                }
            }
            ConfigError::Value { key, value, allowed } => {
                write!(f, "'{value}' is not a value for '{key}': it takes {allowed}")
            }
            ConfigError::Crossed { low, high } => {
                write!(f, "'{low}' is larger than '{high}': lower the one or raise the other")
            }
            ConfigError::ReadOnly { key } => write!(
                f,
                "'{key}' cannot be changed while a broker runs: give it at its start, with --set, \
                 with --config, or as a KAFKA_ name in its environment"
            ),
            ConfigError::Refused { key, because } => {
                write!(f, "'{key}' is Kafka's and may not be passed over, because {because}")
            }
            ConfigError::Syntax { given } => {
                write!(f, "'{given}' is not a setting: write it as key=value")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl Key {
    /// Checks that the key takes `value`.
    ///
    /// # Errors
    /// [`ConfigError::Value`] names the key, the value and what is allowed.
    pub fn check(&self, value: &str) -> Result<(), ConfigError> {
        if self.kind.takes(value) {
            return Ok(());
        }
        let allowed = self.kind.to_string();
        Err(ConfigError::Value { key: self.name, value: value.to_owned(), allowed })
    }
}
