//! A topic's settings: the table, and the values that a topic has on one broker.

use std::collections::BTreeMap;

use super::kind::list;
use super::suggest::nearest;
use super::{Broker, ConfigError, Key, Kind, Level, Source, broker};
use crate::log::{self, Durability};

/// What `cleanup.policy` takes.
pub(super) const CLEANUP: Kind = Kind::SomeOf(&["delete", "compact"]);
/// What `compression.type` takes.
pub(super) const COMPRESSION: Kind =
    Kind::OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]);
/// What `message.timestamp.type` takes.
pub(super) const TIMESTAMP: Kind = Kind::OneOf(&["CreateTime", "LogAppendTime"]);
/// What `trialog.durability` takes.
pub(super) const DURABILITY: Kind = Kind::OneOf(&["flush", "page-cache"]);

/// A row of the table: a key, and the broker's keys that give its default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopicKey {
    /// The key. Its default stands in the broker's table, unless there is no such key.
    pub key: Key,
    /// The broker's keys of the same meaning, the one that wins first, with the factor that turns
    /// a positive value of theirs into this key's unit.
    pub synonyms: &'static [(&'static str, i64)],
}

const fn key(
    name: &'static str,
    kind: Kind,
    synonyms: &'static [(&'static str, i64)],
    doc: &'static str,
) -> TopicKey {
    TopicKey { key: Key { name, kind, default: None, doc }, synonyms }
}

/// A key for which brokers have none.
const fn alone(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> TopicKey {
    TopicKey { key: Key { name, kind, default: Some(default), doc }, synonyms: &[] }
}

const MINUTE_MS: i64 = 60 * 1000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Every key of a topic, in the order of their names.
pub const KEYS: &[TopicKey] = &[
    key(
        "cleanup.policy",
        CLEANUP,
        &[("log.cleanup.policy", 1)],
        "What happens to old segments: 'delete' removes them by retention, 'compact' keeps the \
         last record of each key. With neither all is kept (KIP-1161).",
    ),
    alone(
        "compression.gzip.level",
        Kind::Int(-1, 9),
        "-1",
        "Without effect: each codec compresses at the level that it has by default.",
    ),
    alone(
        "compression.lz4.level",
        Kind::Int(1, 17),
        "9",
        "Without effect: each codec compresses at the level that it has by default.",
    ),
    key(
        "compression.type",
        COMPRESSION,
        &[("compression.type", 1)],
        "'producer' keeps batches as they were sent. With another value every batch that has not \
         that codec is compressed anew when it arrives.",
    ),
    alone(
        "compression.zstd.level",
        Kind::Int(-131_072, 22),
        "3",
        "Without effect: each codec compresses at the level that it has by default.",
    ),
    key(
        "delete.retention.ms",
        Kind::Long(0, i64::MAX),
        &[("log.cleaner.delete.retention.ms", 1)],
        "How long compaction keeps the marker of a deleted key, in milliseconds.",
    ),
    key(
        "file.delete.delay.ms",
        Kind::Long(0, i64::MAX),
        &[("log.segment.delete.delay.ms", 1)],
        "How long a removed segment's file stays. Without effect: readers keep a removed file open \
         as long as they need it.",
    ),
    key(
        "flush.messages",
        Kind::Long(1, i64::MAX),
        &[("log.flush.interval.messages", 1)],
        "With trialog.durability=page-cache, flush after this many records. With flush every \
         append is flushed anyway.",
    ),
    key(
        "flush.ms",
        Kind::Long(0, i64::MAX),
        &[("log.flush.interval.ms", 1)],
        "With trialog.durability=page-cache, flush after this many milliseconds. With flush every \
         append is flushed anyway.",
    ),
    alone(
        "follower.replication.throttled.replicas",
        Kind::OneOf(&["", "*"]),
        "",
        "Without effect on one node.",
    ),
    key(
        "index.interval.bytes",
        Kind::Int(0, i32::MAX),
        &[("log.index.interval.bytes", 1)],
        "One entry of a segment's index for so many bytes of records.",
    ),
    alone(
        "leader.replication.throttled.replicas",
        Kind::OneOf(&["", "*"]),
        "",
        "Without effect on one node.",
    ),
    alone(
        "local.retention.bytes",
        Kind::Long(-2, i64::MAX),
        "-2",
        "Without effect: there is no tiered storage, so that retention.bytes decides.",
    ),
    alone(
        "local.retention.ms",
        Kind::Long(-2, i64::MAX),
        "-2",
        "Without effect: there is no tiered storage, so that retention.ms decides.",
    ),
    key(
        "max.compaction.lag.ms",
        Kind::Long(1, i64::MAX),
        &[("log.cleaner.max.compaction.lag.ms", 1)],
        "The longest a record waits for compaction.",
    ),
    key(
        "max.message.bytes",
        Kind::Int(0, i32::MAX),
        &[("message.max.bytes", 1)],
        "The largest batch of records, in bytes, compressed as it was sent.",
    ),
    key(
        "message.timestamp.after.max.ms",
        Kind::Long(0, i64::MAX),
        &[("log.message.timestamp.after.max.ms", 1)],
        "A record whose timestamp is further ahead of the broker's clock is refused. For \
         CreateTime only.",
    ),
    key(
        "message.timestamp.before.max.ms",
        Kind::Long(0, i64::MAX),
        &[("log.message.timestamp.before.max.ms", 1)],
        "A record whose timestamp is further behind the broker's clock is refused. For CreateTime \
         only.",
    ),
    key(
        "message.timestamp.type",
        TIMESTAMP,
        &[("log.message.timestamp.type", 1)],
        "CreateTime keeps the producer's timestamps, LogAppendTime replaces them with the broker's \
         clock.",
    ),
    key(
        "min.cleanable.dirty.ratio",
        Kind::Ratio(0.0, 1.0),
        &[("log.cleaner.min.cleanable.ratio", 1)],
        "How much of a log must be uncompacted before compaction begins.",
    ),
    key(
        "min.compaction.lag.ms",
        Kind::Long(0, i64::MAX),
        &[("log.cleaner.min.compaction.lag.ms", 1)],
        "The shortest a record waits for compaction.",
    ),
    key(
        "min.insync.replicas",
        Kind::Int(1, i32::MAX),
        &[("min.insync.replicas", 1)],
        "How many copies must be in sync for a produce with acks=all.",
    ),
    key(
        "preallocate",
        Kind::Bool,
        &[("log.preallocate", 1)],
        "Without effect: segments are always allocated ahead of their use.",
    ),
    alone(
        "remote.log.copy.disable",
        Kind::OneOf(&["false"]),
        "false",
        "There is no tiered storage.",
    ),
    alone(
        "remote.log.delete.on.disable",
        Kind::OneOf(&["false"]),
        "false",
        "There is no tiered storage.",
    ),
    alone("remote.storage.enable", Kind::OneOf(&["false"]), "false", "There is no tiered storage."),
    key(
        "retention.bytes",
        Kind::Long(i64::MIN, i64::MAX),
        &[("log.retention.bytes", 1)],
        "The oldest segments are removed while a partition holds more than so many bytes; negative \
         means no limit.",
    ),
    key(
        "retention.ms",
        Kind::Long(-1, i64::MAX),
        &[
            ("log.retention.ms", 1),
            ("log.retention.minutes", MINUTE_MS),
            ("log.retention.hours", HOUR_MS),
        ],
        "Segments whose newest record is older are removed; -1 keeps them for ever.",
    ),
    key(
        "segment.bytes",
        Kind::Int(1 << 20, i32::MAX),
        &[("internal.segment.bytes", 1), ("log.segment.bytes", 1)],
        "A segment that reached this size is followed by a new one.",
    ),
    key(
        "segment.index.bytes",
        Kind::Int(4, i32::MAX),
        &[("log.index.size.max.bytes", 1)],
        "Without effect: an index grows as it needs to.",
    ),
    key(
        "segment.jitter.ms",
        Kind::Long(0, i64::MAX),
        &[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR_MS)],
        "Without effect: segments roll at segment.ms exactly.",
    ),
    key(
        "segment.ms",
        Kind::Long(1, i64::MAX),
        &[("log.roll.ms", 1), ("log.roll.hours", HOUR_MS)],
        "A segment that reached this age is followed by a new one, so that retention can remove \
         it.",
    ),
    key(
        "trialog.durability",
        DURABILITY,
        &[("trialog.durability", 1)],
        "'flush' acknowledges a record once it is on the disk. 'page-cache' acknowledges it once \
         the operating system has it: a crash of the machine may lose acknowledged records.",
    ),
    key(
        "unclean.leader.election.enable",
        Kind::Bool,
        &[("unclean.leader.election.enable", 1)],
        "Whether a copy that is not in sync may lead, losing records. Without effect on one node.",
    ),
];

/// `compression.type`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As the producer sent it.
    Producer,
    /// Always plain.
    Uncompressed,
    /// Always gzip.
    Gzip,
    /// Always snappy.
    Snappy,
    /// Always lz4.
    Lz4,
    /// Always zstd.
    Zstd,
}

/// The settings of one topic on one broker, parsed; those that something looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// `cleanup.policy` contains `delete`.
    pub delete: bool,
    /// `cleanup.policy` contains `compact`.
    pub compact: bool,
    /// `delete.retention.ms`
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`
    pub max_compaction_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`
    pub min_dirty_ratio: f64,
    /// `compression.type`
    pub compression: Compression,
    /// `flush.messages`
    pub flush_messages: i64,
    /// `flush.ms`
    pub flush_ms: i64,
    /// `index.interval.bytes`
    pub index_interval_bytes: u32,
    /// `max.message.bytes`
    pub message_bytes_max: usize,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_ms_max: i64,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_ms_max: i64,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub append_time: bool,
    /// `min.insync.replicas`
    pub min_insync_replicas: usize,
    /// `retention.bytes`; -1 for no limit.
    pub retention_bytes: i64,
    /// `retention.ms`; -1 for ever.
    pub retention_ms: i64,
    /// `segment.bytes`
    pub segment_bytes: u32,
    /// `segment.ms`
    pub segment_ms: i64,
    /// `trialog.durability`
    pub durability: Durability,
}

/// One setting of a topic, as DescribeConfigs tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its row.
    pub key: &'static Key,
    /// Its value.
    pub value: String,
    /// Where the value comes from.
    pub source: Source,
    /// Everything that was considered, the winner first: name, value, source.
    pub synonyms: Vec<(&'static str, String, Source)>,
}

impl Topic {
    /// The settings of a topic with `own` settings on a broker.
    ///
    /// # Errors
    /// A [`ConfigError`] for the first of `own` that is unknown or not legal.
    pub fn resolve(broker: &Broker, own: &BTreeMap<String, String>) -> Result<Topic, ConfigError> {
        for (name, value) in own {
            check(name, value)?;
        }
        let text = |name: &str| entry(row(name), broker, own).value;
        let number = |name: &str| text(name).parse::<i64>().expect("checked by its kind");
        let cleanup = text("cleanup.policy");
        Ok(Topic {
            delete: list(&cleanup).any(|word| word == "delete"),
            compact: list(&cleanup).any(|word| word == "compact"),
            delete_retention_ms: number("delete.retention.ms"),
            min_compaction_lag_ms: number("min.compaction.lag.ms"),
            max_compaction_lag_ms: number("max.compaction.lag.ms"),
            min_dirty_ratio: text("min.cleanable.dirty.ratio")
                .parse()
                .expect("checked by its kind"),
            compression: match text("compression.type").as_str() {
                "uncompressed" => Compression::Uncompressed,
                "gzip" => Compression::Gzip,
                "snappy" => Compression::Snappy,
                "lz4" => Compression::Lz4,
                "zstd" => Compression::Zstd,
                _ => Compression::Producer,
            },
            flush_messages: number("flush.messages"),
            flush_ms: number("flush.ms"),
            index_interval_bytes: narrow(number("index.interval.bytes")),
            message_bytes_max: narrow(number("max.message.bytes")),
            timestamp_after_ms_max: number("message.timestamp.after.max.ms"),
            timestamp_before_ms_max: number("message.timestamp.before.max.ms"),
            append_time: text("message.timestamp.type") == "LogAppendTime",
            min_insync_replicas: narrow(number("min.insync.replicas")),
            retention_bytes: number("retention.bytes").max(-1),
            retention_ms: number("retention.ms"),
            segment_bytes: narrow(number("segment.bytes")),
            segment_ms: number("segment.ms"),
            durability: match text("trialog.durability").as_str() {
                "page-cache" => Durability::PageCache,
                _ => Durability::Flushed,
            },
        })
    }

    /// What the topic's partitions tell their logs.
    #[must_use]
    pub fn log(&self, broker: &Broker) -> log::Config {
        log::Config {
            segment_bytes: self.segment_bytes,
            segment_ms: self.segment_ms,
            retention_ms: self.retention_ms,
            retention_bytes: self.retention_bytes,
            index_interval_bytes: self.index_interval_bytes,
            append_time: self.append_time,
            durability: self.durability,
            flush_messages: self.flush_messages,
            flush_ms: self.flush_ms,
            compact: self.compact,
            delete: self.delete,
            delete_retention_ms: self.delete_retention_ms,
            min_compaction_lag_ms: self.min_compaction_lag_ms,
            max_compaction_lag_ms: self.max_compaction_lag_ms,
            min_dirty_ratio: self.min_dirty_ratio,
            compaction_memory_bytes: broker.cleaner_memory_bytes / u64::from(broker.cores.max(1)),
            compaction_backoff_ms: broker.cleaner_backoff_ms,
            producer_expiry_ms: broker.producer_id_expiration_ms,
            ..log::Config::default()
        }
    }

    /// Every setting of a topic with its value and source, for DescribeConfigs.
    pub fn entries(broker: &Broker, own: &BTreeMap<String, String>) -> impl Iterator<Item = Entry> {
        KEYS.iter().map(move |row| entry(row, broker, own))
    }
}

/// One setting's value and where it comes from.
fn entry(row: &'static TopicKey, broker: &Broker, own: &BTreeMap<String, String>) -> Entry {
    let name = row.key.name;
    let own = own.get(name).map(|value| (name, value.trim().to_owned(), Source::Topic));
    let given = row.synonyms.iter().flat_map(|&(name, factor)| {
        broker.set(name).map(move |(value, source)| (name, scale(value, factor), source))
    });
    let table = row.synonyms.iter().filter_map(|&(name, factor)| {
        let default = broker::row(name).default?;
        Some((name, scale(default, factor), Source::Default))
    });
    let alone = row.key.default.map(|default| (name, default.to_owned(), Source::Default));
    let synonyms: Vec<_> = own.into_iter().chain(given).chain(table).chain(alone).collect();
    let (_, value, source) = synonyms.first().expect("the last synonym has a default").clone();
    Entry { key: &row.key, value, source, synonyms }
}

/// A broker's value in the topic's unit. Negative numbers mean "for ever" in every unit.
fn scale(value: &str, factor: i64) -> String {
    match value.parse::<i64>() {
        Ok(number) if factor != 1 && number > 0 => number.saturating_mul(factor).to_string(),
        _ => value.to_owned(),
    }
}

/// Checks that `name` is a topic's key; its row.
///
/// # Errors
/// [`ConfigError::Unknown`] with the nearest key.
pub fn key_of(name: &str) -> Result<&'static Key, ConfigError> {
    let found = KEYS.iter().find(|row| row.key.name == name);
    found.map(|row| &row.key).ok_or_else(|| ConfigError::Unknown {
        level: Level::Topic,
        key: name.to_owned(),
        nearest: topic_key(name).or_else(|| nearest(name, KEYS.iter().map(|row| row.key.name))),
    })
}

/// Checks that a topic may have this setting.
///
/// # Errors
/// [`ConfigError`]: an unknown key, or a value that is not legal.
pub fn check(name: &str, value: &str) -> Result<(), ConfigError> {
    key_of(name)?.check(value)
}

/// Checks that settings of one topic, each of which it may have, go together. A topic that has others
/// from before this was checked takes no change that leaves it so.
///
/// # Errors
/// [`ConfigError::Crossed`]
pub fn check_together(configs: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let (low, high) = ("min.compaction.lag.ms", "max.compaction.lag.ms");
    let number = |key| configs.get(key).and_then(|value| value.parse::<i64>().ok());
    match (number(low), number(high)) {
        (Some(least), Some(most)) if least > most => Err(ConfigError::Crossed { low, high }),
        _ => Ok(()),
    }
}

/// The broker's keys that decide where a topic has no setting of its own, the first one first.
#[must_use]
pub fn synonyms(name: &str) -> Vec<&'static str> {
    let row = KEYS.iter().find(|row| row.key.name == name);
    row.map(|row| row.synonyms.iter().map(|&(name, _)| name).collect()).unwrap_or_default()
}

/// The broker's key that means what a topic's key means.
pub(super) fn broker_key(name: &str) -> Option<&'static str> {
    let row = KEYS.iter().find(|row| row.key.name == name)?;
    row.synonyms.iter().map(|&(name, _)| name).find(|name| !name.starts_with("internal."))
}

/// The topic's key that means what a broker's key means.
fn topic_key(name: &str) -> Option<&'static str> {
    let means = |row: &&TopicKey| row.synonyms.iter().any(|&(synonym, _)| synonym == name);
    KEYS.iter().find(means).map(|row| row.key.name)
}

fn row(name: &str) -> &'static TopicKey {
    let found = KEYS.iter().find(|row| row.key.name == name);
    found.unwrap_or_else(|| panic!("the table of topic settings has a row {name}"))
}

fn narrow<T: TryFrom<i64>>(number: i64) -> T {
    T::try_from(number).ok().expect("its kind's range fits its type")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn the_table_is_sound() {
        for pair in KEYS.windows(2) {
            assert!(pair[0].key.name < pair[1].key.name, "{}", pair[1].key.name);
        }
        for row in KEYS {
            assert!(row.key.doc.ends_with('.'), "{}", row.key.name);
            let synonym = row.synonyms.last().and_then(|(last, _)| broker::row(last).default);
            let default = synonym.or(row.key.default).expect("one of them has a default");
            assert_eq!(row.key.check(default), Ok(()), "{}", row.key.name);
        }
    }

    #[test]
    fn defaults_are_kafkas() {
        let topic = Topic::resolve(&Broker::default(), &own(&[])).expect("legal");
        assert_eq!(topic.retention_ms, 7 * 24 * HOUR_MS);
        assert_eq!(topic.segment_ms, 7 * 24 * HOUR_MS);
        assert_eq!(topic.segment_bytes, 1 << 30);
        assert_eq!(topic.message_bytes_max, 1_048_588);
        assert_eq!(topic.retention_bytes, -1);
        assert_eq!(topic.durability, Durability::Flushed);
        assert!(topic.delete);
        assert!(!topic.compact);
        assert!(!topic.append_time);
    }

    #[test]
    fn a_log_with_nothing_set_has_the_logs_own_defaults() {
        let broker = Broker::default();
        let topic = Topic::resolve(&broker, &own(&[])).expect("legal");
        assert_eq!(topic.log(&broker), log::Config::default());
    }

    #[test]
    fn the_topic_wins_over_the_broker_and_the_smaller_unit_over_the_larger() {
        let given = [("log.retention.hours", "1"), ("log.retention.minutes", "2")];
        let broker = Broker::parse(given).expect("legal");
        let resolve = |pairs: &[(&str, &str)]| Topic::resolve(&broker, &own(pairs));
        assert_eq!(resolve(&[]).expect("legal").retention_ms, 2 * MINUTE_MS);
        assert_eq!(resolve(&[("retention.ms", "5")]).expect("legal").retention_ms, 5);

        let own = own(&[("retention.ms", "5")]);
        let entry = Topic::entries(&broker, &own)
            .find(|entry| entry.key.name == "retention.ms")
            .expect("a row");
        assert_eq!((entry.value.as_str(), entry.source), ("5", Source::Topic));
        assert_eq!(
            entry.synonyms,
            vec![
                ("retention.ms", "5".to_owned(), Source::Topic),
                ("log.retention.minutes", "120000".to_owned(), Source::Broker),
                ("log.retention.hours", "3600000".to_owned(), Source::Broker),
                ("log.retention.hours", "604800000".to_owned(), Source::Default),
            ]
        );
    }

    #[test]
    fn for_ever_is_for_ever_in_every_unit() {
        for key in ["log.retention.ms", "log.retention.minutes", "log.retention.hours"] {
            let broker = Broker::parse([(key, "-1")]).expect("legal");
            assert_eq!(Topic::resolve(&broker, &own(&[])).expect("legal").retention_ms, -1);
        }
        let broker = Broker::parse([("log.roll.hours", "2147483647")]).expect("legal");
        let topic = Topic::resolve(&broker, &own(&[])).expect("legal");
        assert_eq!(topic.segment_ms, 2_147_483_647 * HOUR_MS);
    }

    #[test]
    fn both_policies_at_once_and_neither() {
        for (value, both) in [("compact,delete", true), ("", false)] {
            let own = own(&[("cleanup.policy", value)]);
            let topic = Topic::resolve(&Broker::default(), &own).expect("legal");
            assert_eq!((topic.delete, topic.compact), (both, both));
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        assert_eq!(
            check("log.retention.ms", "1").expect_err("a broker's").to_string(),
            "unknown topic setting 'log.retention.ms'; did you mean 'retention.ms'?"
        );
        assert_eq!(
            check("cleanup.polcy", "x").expect_err("mistyped").to_string(),
            "unknown topic setting 'cleanup.polcy'; did you mean 'cleanup.policy'?"
        );
        assert_eq!(
            check("cleanup.policy", "keep").expect_err("not legal").to_string(),
            "'keep' is not a value for 'cleanup.policy': it takes any of delete, compact, \
             separated by commas, or nothing"
        );
    }
}
