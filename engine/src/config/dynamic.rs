//! The settings of brokers that may be changed while they run: Kafka's dynamic broker configs
//! (KIP-226), as far as this broker has them, and a few of our own.

use std::collections::BTreeMap;

use super::broker::{Broker, find};
use super::{ConfigError, Key};

/// The keys. Kafka has them, too, but for those of our own, and sets each for one broker or for all.
pub const KEYS: &[&str] = &[
    "compression.type",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.delete.retention.ms",
    "log.cleaner.io.max.bytes.per.second",
    "log.cleaner.max.compaction.lag.ms",
    "log.cleaner.min.cleanable.ratio",
    "log.cleaner.min.compaction.lag.ms",
    "log.cleanup.policy",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.index.interval.bytes",
    "log.index.size.max.bytes",
    "log.message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms",
    "log.message.timestamp.type",
    "log.preallocate",
    "log.retention.bytes",
    "log.retention.ms",
    "log.roll.jitter.ms",
    "log.roll.ms",
    "log.segment.bytes",
    "log.segment.delete.delay.ms",
    "max.connections",
    "max.connections.per.ip",
    "max.connections.per.ip.overrides",
    "message.max.bytes",
    "min.insync.replicas",
    "producer.id.expiration.ms",
    "trialog.disk.free.min.bytes",
    "trialog.disk.free.warn.bytes",
    "trialog.durability",
    "unclean.leader.election.enable",
];

/// Settings by key, as the cluster keeps them for one broker or for all.
pub type Layer = BTreeMap<String, String>;

/// Whether a broker's key may be changed while it runs.
#[must_use]
pub fn is_dynamic(key: &str) -> bool {
    KEYS.binary_search(&key).is_ok()
}

/// The row of a key that may be changed.
///
/// # Errors
/// [`ConfigError::Unknown`] with the nearest key, or [`ConfigError::ReadOnly`].
pub fn key_of(name: &str) -> Result<&'static Key, ConfigError> {
    let key = find(name)?;
    if is_dynamic(key.name) { Ok(key) } else { Err(ConfigError::ReadOnly { key: key.name }) }
}

/// Checks that a setting may be kept for brokers.
///
/// # Errors
/// Those of [`key_of`], and [`ConfigError::Value`].
pub fn check(name: &str, value: &str) -> Result<(), ConfigError> {
    key_of(name)?.check(value)
}

impl Broker {
    /// These settings with what the cluster keeps for this broker, and for all. What it may not keep
    /// is left out.
    #[must_use]
    pub fn with_dynamic(&self, own: Option<&Layer>, all: Option<&Layer>) -> Broker {
        let legal = |layer: Option<&Layer>| {
            let mut legal = BTreeMap::new();
            for (name, value) in layer.into_iter().flatten() {
                if let Ok(key) = key_of(name)
                    && key.check(value).is_ok()
                {
                    legal.insert(key.name, value.trim().to_owned());
                }
            }
            legal
        };
        let mut changed = self.layered(legal(own), legal(all));
        // Filled in after the start, not by a key.
        changed.cores = self.cores;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, Topic, broker};

    fn layer(pairs: &[(&str, &str)]) -> Layer {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn the_table_is_sound() {
        assert!(KEYS.is_sorted_by(|a, b| a < b));
        for key in KEYS {
            assert!(broker::KEYS.iter().any(|row| row.name == *key), "{key}");
        }
    }

    #[test]
    fn one_broker_wins_over_all_and_all_over_the_start() {
        let start = Broker::parse([("log.retention.ms", "1"), ("log.retention.hours", "7")]);
        let start = start.expect("legal");
        let own = layer(&[("log.retention.ms", "3")]);
        let all = layer(&[("log.retention.ms", "2"), ("message.max.bytes", "5000")]);
        let retention =
            |broker: &Broker| Topic::resolve(broker, &BTreeMap::new()).expect("legal").retention_ms;
        assert_eq!(retention(&start), 1);
        assert_eq!(retention(&start.with_dynamic(None, Some(&all))), 2);
        let both = start.with_dynamic(Some(&own), Some(&all));
        assert_eq!(retention(&both), 3);
        assert_eq!(retention(&both.with_dynamic(None, None)), 1, "nothing is left of before");
        let topic = Topic::resolve(&both, &BTreeMap::new()).expect("legal");
        assert_eq!(topic.message_bytes_max, 5000);
        let none = BTreeMap::new();
        let mut entries = Topic::entries(&both, &none);
        let entry = entries.find(|one| one.key.name == "retention.ms").expect("a row");
        let sources: Vec<_> = entry.synonyms.iter().map(|(_, _, source)| *source).collect();
        assert_eq!(
            sources,
            [
                Source::DynamicBroker,
                Source::DynamicDefault,
                Source::Broker,
                Source::Broker,
                Source::Default
            ]
        );
    }

    #[test]
    fn what_the_parsed_values_say_changes_too() {
        let mut start = Broker::default();
        start.cores = 7;
        let all = layer(&[
            ("trialog.disk.free.min.bytes", "5"),
            ("log.cleaner.io.max.bytes.per.second", "1000.5"),
        ]);
        let changed = start.with_dynamic(None, Some(&all));
        assert_eq!((changed.disk_free_min_bytes, changed.cores), (5, 7));
        assert_eq!(changed.cleaner_bytes_per_second, 1000);
    }

    #[test]
    fn a_key_of_the_start_says_where_it_belongs() {
        let error = check("num.partitions", "3").expect_err("only at the start").to_string();
        assert_eq!(
            error,
            "'num.partitions' cannot be changed while a broker runs: give it at its start, with \
             --set, with --config, or as a KAFKA_ name in its environment"
        );
        assert!(matches!(check("retention.ms", "3"), Err(ConfigError::Unknown { .. })));
        assert!(matches!(check("log.retention.ms", "x"), Err(ConfigError::Value { .. })));
    }
}
