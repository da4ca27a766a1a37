//! A broker's settings: the table, and the values parsed from what was given at its start.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::kind::{boolean, list};
use super::suggest::nearest;
use super::{ConfigError, Groups, Key, Kind, Level};
use crate::id::NodeId;
use crate::limit::{FRAME_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX};

const FRAME_MAX: i32 = FRAME_BYTES_MAX as i32;
const IN_FLIGHT_MAX: i32 = REQUESTS_IN_FLIGHT_MAX as i32;
const _: () = assert!(FRAME_BYTES_MAX <= i32::MAX as usize);
const _: () = assert!(REQUESTS_IN_FLIGHT_MAX <= i32::MAX as usize);

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default: Some(default), doc }
}

/// A key that, when absent, leaves the decision to another one.
const fn or_else(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, default: None, doc }
}

const ANY: Kind = Kind::Long(i64::MIN, i64::MAX);

/// Every key of a broker. Those of topics' defaults come second.
pub const KEYS: &[Key] = &[
    key(
        "node.id",
        Kind::Int(0, i32::MAX),
        "1",
        "The broker's number. Data remember it: a broker with another number refuses to start on \
         them.",
    ),
    key(
        "listeners",
        Kind::Listeners,
        "PLAINTEXT://127.0.0.1:9092",
        "Where the broker listens. An empty host, as in PLAINTEXT://:9092, means every interface; \
         port 0 lets the system choose.",
    ),
    or_else(
        "advertised.listeners",
        Kind::Listeners,
        "The addresses that clients are told to connect to, by listener name. Without it a client \
         is told the address that it reached; set it behind a port mapping or a proxy.",
    ),
    key(
        "trialog.admin.listener",
        Kind::AddressOrOff,
        "127.0.0.1:9644",
        "Where the broker answers operators over plain HTTP, read only: /metrics, /livez, /readyz, \
         /startupz. An empty host means every interface; off means nowhere. Unless it is given, \
         a broker that finds the default address in use goes on without.",
    ),
    key(
        "log.dirs",
        Kind::Folder,
        "./trialog-data",
        "The folder that holds everything the broker stores.",
    ),
    key(
        "trialog.disk.free.warn.bytes",
        Kind::Long(0, i64::MAX),
        "536870912",
        "With fewer free bytes than this where the data are, the broker warns: in its log, in its \
         metrics and at /readyz.",
    ),
    key(
        "trialog.disk.free.min.bytes",
        Kind::Long(0, i64::MAX),
        "67108864",
        "With fewer free bytes than this, records of producers are refused (KAFKA_STORAGE_ERROR, \
         which producers repeat) until a quarter more is free. Everything else goes on: fetches, \
         commits, deletions, retention. 0 refuses them only when a write finds no room.",
    ),
    or_else("log.dir", Kind::Folder, "The same as log.dirs, which wins if both are given."),
    key(
        "trialog.cores",
        Kind::Int(0, 1024),
        "0",
        "How many cores the broker uses; 0 means all that the machine offers. May change from \
         start to start.",
    ),
    key(
        "trialog.io",
        Kind::OneOf(&["auto", "ring", "pool"]),
        "auto",
        "What carries flushes, cold reads and the like: io_uring (ring), a few threads that make \
         blocking calls (pool), or io_uring unless the kernel refuses it (auto).",
    ),
    key(
        "trialog.partition.idle.ms",
        Kind::Long(1, i64::MAX),
        "60000",
        "How many milliseconds after the last request a partition's files are closed. The next \
         request opens them again.",
    ),
    key(
        "trialog.partitions.open.max",
        Kind::Int(1, 1_000_000),
        "16384",
        "How many partitions may have their files open. With more, those that were not asked for \
         longest are closed. Half of the limit of open files of the process, if that is less.",
    ),
    key(
        "num.partitions",
        Kind::Int(1, 10_000),
        "1",
        "How many partitions a topic gets if its maker does not say.",
    ),
    key(
        "default.replication.factor",
        Kind::Int(1, 32_767),
        "1",
        "How many copies a topic's partitions get if its maker does not say.",
    ),
    key(
        "auto.create.topics.enable",
        Kind::Bool,
        "true",
        "Whether a topic is made when a client first asks for it.",
    ),
    key("delete.topic.enable", Kind::Bool, "true", "Whether topics may be deleted."),
    key(
        "fetch.max.bytes",
        Kind::Int(1024, i32::MAX),
        "57671680",
        "The most bytes of records that one fetch is answered with, except that a first batch is \
         always sent whole.",
    ),
    key(
        "max.incremental.fetch.session.cache.slots",
        Kind::Int(0, 1_000_000),
        "1000",
        "How many incremental fetch sessions (KIP-227) the broker keeps.",
    ),
    key(
        "connections.max.idle.ms",
        Kind::Long(-1, i64::MAX),
        "600000",
        "A connection without requests is closed after this many milliseconds; -1 never.",
    ),
    key(
        "socket.request.max.bytes",
        Kind::Int(1024, FRAME_MAX),
        "104857600",
        "The largest request. A larger one closes its connection.",
    ),
    key(
        "queued.max.request.bytes",
        Kind::Long(-1, i64::MAX),
        "-1",
        "Memory of all cores together for requests that are being read and are larger than 128 KiB; \
         a larger request than a core's part of it cannot be read. -1 is 512 MiB for each core, \
         which is also the most.",
    ),
    key(
        "trialog.requests.in.flight.max",
        Kind::Int(1, IN_FLIGHT_MAX),
        "256",
        "Requests of one connection that may wait for their answers; the next is not read from the \
         socket until an answer has left.",
    ),
    key(
        "producer.id.expiration.ms",
        Kind::Int(1, i32::MAX),
        "86400000",
        "A partition forgets an idempotent producer that has sent nothing for this many \
         milliseconds.",
    ),
    // Consumer groups.
    key(
        "offsets.topic.num.partitions",
        Kind::Int(1, 10_000),
        "50",
        "How many partitions the topic of consumer groups gets when it is made. It cannot be changed \
         afterwards: which groups lie where goes by it.",
    ),
    key(
        "offsets.topic.replication.factor",
        Kind::Int(1, 32_767),
        "3",
        "How many copies its partitions get; fewer if there are fewer brokers.",
    ),
    key(
        "offsets.topic.segment.bytes",
        Kind::Int(1 << 20, i32::MAX),
        "104857600",
        "Its segment.bytes.",
    ),
    key(
        "offsets.retention.minutes",
        Kind::Int(1, i32::MAX),
        "10080",
        "A committed offset is forgotten when nobody has been in the group, or has read the topic, \
         for this many minutes (KIP-211).",
    ),
    key(
        "offsets.retention.check.interval.ms",
        Kind::Long(1, i64::MAX),
        "600000",
        "How often committed offsets are looked through for old ones, in milliseconds.",
    ),
    key(
        "offset.metadata.max.bytes",
        Kind::Int(0, 32_767),
        "4096",
        "The longest text that may be committed with an offset, in bytes.",
    ),
    key(
        "group.min.session.timeout.ms",
        Kind::Int(1, i32::MAX),
        "6000",
        "The shortest session.timeout.ms that a member of a group may ask for.",
    ),
    key(
        "group.max.session.timeout.ms",
        Kind::Int(1, i32::MAX),
        "1800000",
        "The longest session.timeout.ms that a member of a group may ask for.",
    ),
    key(
        "group.initial.rebalance.delay.ms",
        Kind::Int(0, i32::MAX),
        "3000",
        "How long a group that was empty waits for more members before its first assignment, in \
         milliseconds.",
    ),
    key(
        "group.max.size",
        Kind::Int(1, i32::MAX),
        "2147483647",
        "The most members of a group. More than 10000 are never taken.",
    ),
    key(
        "log.retention.check.interval.ms",
        Kind::Long(1, i64::MAX),
        "300000",
        "How often partitions look for segments that are old or too many, in milliseconds.",
    ),
    key(
        "log.cleaner.dedupe.buffer.size",
        Kind::Long(0, i64::MAX),
        "134217728",
        "Memory for the keys that compactions remember, in bytes; the cores divide it. 24 bytes \
         hold one key. A log with more keys takes several passes.",
    ),
    key(
        "log.cleaner.backoff.ms",
        Kind::Long(0, i64::MAX),
        "15000",
        "How often a log with something to compact looks whether it is time, in milliseconds.",
    ),
    key(
        "log.cleaner.io.max.bytes.per.second",
        Kind::Ratio(1.0, f64::MAX),
        "1.7976931348623157E308",
        "How many bytes one core's compaction reads in a second at most.",
    ),
    // What topics without a setting of their own get.
    key(
        "log.cleanup.policy",
        super::topic::CLEANUP,
        "delete",
        "Topics' cleanup.policy unless they have their own.",
    ),
    key(
        "compression.type",
        super::topic::COMPRESSION,
        "producer",
        "Topics' compression.type unless they have their own.",
    ),
    key(
        "log.cleaner.delete.retention.ms",
        Kind::Long(0, i64::MAX),
        "86400000",
        "Topics' delete.retention.ms unless they have their own.",
    ),
    key(
        "log.cleaner.min.compaction.lag.ms",
        Kind::Long(0, i64::MAX),
        "0",
        "Topics' min.compaction.lag.ms unless they have their own.",
    ),
    key(
        "log.cleaner.max.compaction.lag.ms",
        Kind::Long(1, i64::MAX),
        "9223372036854775807",
        "Topics' max.compaction.lag.ms unless they have their own.",
    ),
    key(
        "log.cleaner.min.cleanable.ratio",
        Kind::Ratio(0.0, 1.0),
        "0.5",
        "Topics' min.cleanable.dirty.ratio unless they have their own.",
    ),
    key(
        "log.segment.delete.delay.ms",
        Kind::Long(0, i64::MAX),
        "60000",
        "Topics' file.delete.delay.ms unless they have their own.",
    ),
    key(
        "log.flush.interval.messages",
        Kind::Long(1, i64::MAX),
        "9223372036854775807",
        "Topics' flush.messages unless they have their own.",
    ),
    key(
        "log.flush.interval.ms",
        Kind::Long(0, i64::MAX),
        "9223372036854775807",
        "Topics' flush.ms unless they have their own.",
    ),
    key(
        "log.index.interval.bytes",
        Kind::Int(0, i32::MAX),
        "4096",
        "Topics' index.interval.bytes unless they have their own.",
    ),
    key(
        "log.index.size.max.bytes",
        Kind::Int(4, i32::MAX),
        "10485760",
        "Topics' segment.index.bytes unless they have their own.",
    ),
    key(
        "message.max.bytes",
        Kind::Int(0, i32::MAX),
        "1048588",
        "Topics' max.message.bytes unless they have their own.",
    ),
    key(
        "log.message.timestamp.type",
        super::topic::TIMESTAMP,
        "CreateTime",
        "Topics' message.timestamp.type unless they have their own.",
    ),
    key(
        "log.message.timestamp.before.max.ms",
        Kind::Long(0, i64::MAX),
        "9223372036854775807",
        "Topics' message.timestamp.before.max.ms unless they have their own.",
    ),
    key(
        "log.message.timestamp.after.max.ms",
        Kind::Long(0, i64::MAX),
        "3600000",
        "Topics' message.timestamp.after.max.ms unless they have their own.",
    ),
    key(
        "min.insync.replicas",
        Kind::Int(1, i32::MAX),
        "1",
        "Topics' min.insync.replicas unless they have their own.",
    ),
    key("log.preallocate", Kind::Bool, "false", "Topics' preallocate unless they have their own."),
    key(
        "log.retention.bytes",
        ANY,
        "-1",
        "Topics' retention.bytes unless they have their own; negative means no limit.",
    ),
    or_else(
        "log.retention.ms",
        Kind::Long(-1, i64::MAX),
        "Topics' retention.ms unless they have their own; -1 keeps records for ever. Without it \
         log.retention.minutes decides.",
    ),
    or_else(
        "log.retention.minutes",
        Kind::Int(-1, i32::MAX),
        "The same in minutes. Without it log.retention.hours decides.",
    ),
    key("log.retention.hours", Kind::Int(-1, i32::MAX), "168", "The same in hours."),
    key(
        "log.segment.bytes",
        Kind::Int(1 << 20, i32::MAX),
        "1073741824",
        "Topics' segment.bytes unless they have their own.",
    ),
    or_else(
        "internal.segment.bytes",
        Kind::Int(1024, i32::MAX),
        "For tests: as log.segment.bytes, which it wins over, without the lower bound.",
    ),
    or_else(
        "log.roll.ms",
        Kind::Long(1, i64::MAX),
        "Topics' segment.ms unless they have their own. Without it log.roll.hours decides.",
    ),
    key("log.roll.hours", Kind::Int(1, i32::MAX), "168", "The same in hours."),
    or_else(
        "log.roll.jitter.ms",
        Kind::Long(0, i64::MAX),
        "Topics' segment.jitter.ms unless they have their own. Without it log.roll.jitter.hours \
         decides.",
    ),
    key("log.roll.jitter.hours", Kind::Int(0, i32::MAX), "0", "The same in hours."),
    key(
        "unclean.leader.election.enable",
        Kind::Bool,
        "false",
        "Topics' unclean.leader.election.enable unless they have their own.",
    ),
    key(
        "trialog.durability",
        super::topic::DURABILITY,
        "flush",
        "Topics' trialog.durability unless they have their own.",
    ),
];

/// Where a broker listens, or what it advertises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The listener's name; today's are all plain text.
    pub name: String,
    /// A host name or address; empty for every interface.
    pub host: String,
    /// The port; 0 lets the system choose.
    pub port: u16,
}

/// A broker's settings, parsed. Built by [`Broker::parse`]; the fields may be changed afterwards
/// by tests and by whoever fills in the number of cores.
#[derive(Clone, Debug, PartialEq)]
pub struct Broker {
    /// `node.id`
    pub node_id: NodeId,
    /// `listeners`; never empty.
    pub listeners: Vec<Listener>,
    /// `advertised.listeners`; empty if clients are told the address that they reached.
    pub advertised_listeners: Vec<Listener>,
    /// `trialog.admin.listener`; `None` for off.
    pub admin_listener: Option<Listener>,
    /// `log.dirs`
    pub log_dir: PathBuf,
    /// `trialog.disk.free.warn.bytes`
    pub disk_free_warn_bytes: u64,
    /// `trialog.disk.free.min.bytes`
    pub disk_free_min_bytes: u64,
    /// `trialog.cores`; 0 for all that the machine offers.
    pub cores: u16,
    /// `trialog.io`
    pub io: IoMode,
    /// `trialog.partition.idle.ms`
    pub partition_idle_ms: u64,
    /// `trialog.partitions.open.max`; of all cores together.
    pub partitions_open_max: usize,
    /// `num.partitions`
    pub num_partitions: i32,
    /// `default.replication.factor`
    pub default_replication_factor: i16,
    /// `auto.create.topics.enable`
    pub auto_create_topics_enable: bool,
    /// `delete.topic.enable`
    pub delete_topic_enable: bool,
    /// `fetch.max.bytes`
    pub fetch_max_bytes: u32,
    /// `max.incremental.fetch.session.cache.slots`
    pub fetch_sessions_max: usize,
    /// `connections.max.idle.ms`; `None` for never.
    pub connections_idle_ms_max: Option<u64>,
    /// `socket.request.max.bytes`
    pub request_bytes_max: usize,
    /// `queued.max.request.bytes`; `None` for what there is.
    pub queued_bytes_max: Option<usize>,
    /// `trialog.requests.in.flight.max`
    pub requests_in_flight_max: usize,
    /// `producer.id.expiration.ms`
    pub producer_id_expiration_ms: i64,
    /// The settings of consumer groups.
    pub groups: Groups,
    /// `log.retention.check.interval.ms`
    pub retention_check_interval_ms: u64,
    /// `log.cleaner.dedupe.buffer.size`
    pub cleaner_memory_bytes: u64,
    /// `log.cleaner.backoff.ms`
    pub cleaner_backoff_ms: i64,
    /// `log.cleaner.io.max.bytes.per.second`
    pub cleaner_bytes_per_second: u64,
    /// What was given at the start, by key, every value legal.
    given: Given,
    /// What the cluster keeps for this broker, and for all.
    dynamic: [Given; 2],
}

/// What carries operations on files: `trialog.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoMode {
    /// io_uring unless the kernel refuses it.
    Auto,
    /// io_uring or nothing.
    Ring,
    /// Threads that make blocking calls.
    Pool,
}

/// Settings by key, every value legal.
type Given = BTreeMap<&'static str, String>;

impl Default for Broker {
    fn default() -> Self {
        Broker::parse::<&str, &str>([]).expect("the table's own defaults are legal")
    }
}

impl Broker {
    /// The settings that `given` keys and values make, the last of several values of one key.
    ///
    /// # Errors
    /// A [`ConfigError`] for the first key that is unknown or whose value is not legal.
    pub fn parse<K: AsRef<str>, V: AsRef<str>>(
        given: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Broker, ConfigError> {
        let mut legal = BTreeMap::new();
        for (name, value) in given {
            let key = find(name.as_ref())?;
            let value = super::given::plain(key, value.as_ref());
            key.check(&value)?;
            legal.insert(key.name, value);
        }
        Ok(Broker::from_legal(legal, [Given::new(), Given::new()]))
    }

    /// The same start with other dynamic settings: for this broker, and for all.
    pub(super) fn layered(&self, own: Given, all: Given) -> Broker {
        Broker::from_legal(self.given.clone(), [own, all])
    }

    fn from_legal(given: Given, dynamic: [Given; 2]) -> Broker {
        let text = |name: &str| -> String {
            let default = || row(name).default.expect("this key has a default").to_owned();
            let mut layers = dynamic.iter().chain([&given]);
            layers.find_map(|layer| layer.get(name)).cloned().unwrap_or_else(default)
        };
        let number = |name: &str| text(name).parse::<i64>().expect("checked by its kind");
        let truth = |name: &str| boolean(&text(name)).expect("checked by its kind");
        let listeners = |text: &str| parse_listeners(text).expect("checked by its kind");
        let log_dir = match (given.get("log.dirs"), given.get("log.dir")) {
            (None, Some(dir)) => dir.clone(),
            _ => text("log.dirs"),
        };
        Broker {
            node_id: NodeId(narrow(number("node.id"))),
            listeners: listeners(&text("listeners")),
            advertised_listeners: given
                .get("advertised.listeners")
                .map(|text| listeners(text))
                .unwrap_or_default(),
            admin_listener: parse_address_or_off(&text("trialog.admin.listener"))
                .expect("checked by its kind"),
            log_dir: PathBuf::from(log_dir),
            disk_free_warn_bytes: narrow(number("trialog.disk.free.warn.bytes")),
            disk_free_min_bytes: narrow(number("trialog.disk.free.min.bytes")),
            cores: narrow(number("trialog.cores")),
            io: match text("trialog.io").as_str() {
                "ring" => IoMode::Ring,
                "pool" => IoMode::Pool,
                _ => IoMode::Auto,
            },
            partition_idle_ms: narrow(number("trialog.partition.idle.ms")),
            partitions_open_max: narrow(number("trialog.partitions.open.max")),
            num_partitions: narrow(number("num.partitions")),
            default_replication_factor: narrow(number("default.replication.factor")),
            auto_create_topics_enable: truth("auto.create.topics.enable"),
            delete_topic_enable: truth("delete.topic.enable"),
            fetch_max_bytes: narrow(number("fetch.max.bytes")),
            fetch_sessions_max: narrow(number("max.incremental.fetch.session.cache.slots")),
            connections_idle_ms_max: u64::try_from(number("connections.max.idle.ms")).ok(),
            request_bytes_max: narrow(number("socket.request.max.bytes")),
            queued_bytes_max: usize::try_from(number("queued.max.request.bytes")).ok(),
            requests_in_flight_max: narrow(number("trialog.requests.in.flight.max")),
            producer_id_expiration_ms: number("producer.id.expiration.ms"),
            groups: Groups::parse(number),
            retention_check_interval_ms: narrow(number("log.retention.check.interval.ms")),
            cleaner_memory_bytes: narrow(number("log.cleaner.dedupe.buffer.size")),
            cleaner_backoff_ms: number("log.cleaner.backoff.ms"),
            // More than 64 bits hold is no limit.
            cleaner_bytes_per_second: text("log.cleaner.io.max.bytes.per.second")
                .parse::<f64>()
                .expect("checked by its kind") as u64,
            given,
            dynamic,
        }
    }

    /// Everything that is set for a key, the winner first: for this broker, for all, at the start.
    pub fn set(&self, key: &str) -> impl Iterator<Item = (&str, super::Source)> {
        use super::Source::{Broker, DynamicBroker, DynamicDefault};
        let layers = [
            (&self.dynamic[0], DynamicBroker),
            (&self.dynamic[1], DynamicDefault),
            (&self.given, Broker),
        ];
        let mut set = Vec::new();
        for (layer, source) in layers {
            set.extend(layer.get(key).map(|value| (value.as_str(), source)));
        }
        set.into_iter()
    }

    /// What was given for a key at the start, if anything was.
    #[must_use]
    pub fn given(&self, key: &str) -> Option<&str> {
        self.given.get(key).map(String::as_str)
    }

    /// Every key with its value and where that comes from, for DescribeConfigs. Keys without a value
    /// have none.
    pub fn entries(&self) -> impl Iterator<Item = (&'static Key, Option<&str>, super::Source)> {
        KEYS.iter().map(|key| match self.set(key.name).next() {
            Some((value, source)) => (key, Some(value), source),
            None => (key, key.default, super::Source::Default),
        })
    }
}

/// The row of a key that a user named.
///
/// # Errors
/// [`ConfigError::Unknown`] with the nearest key.
pub fn find(name: &str) -> Result<&'static Key, ConfigError> {
    let name = name.trim();
    KEYS.iter().find(|key| key.name == name).ok_or_else(|| ConfigError::Unknown {
        level: Level::Broker,
        key: name.to_owned(),
        nearest: super::topic::broker_key(name)
            .or_else(|| nearest(name, KEYS.iter().map(|key| key.name))),
    })
}

/// The row of a key that this program names.
pub(super) fn row(name: &str) -> &'static Key {
    let found = KEYS.iter().find(|key| key.name == name);
    found.unwrap_or_else(|| panic!("the table of broker settings has a row {name}"))
}

pub(super) fn narrow<T: TryFrom<i64>>(number: i64) -> T {
    T::try_from(number).ok().expect("its kind's range fits its type")
}

/// `key=value`, as the command line takes it.
///
/// # Errors
/// [`ConfigError::Syntax`] if there is no `=` or nothing before it.
pub fn split_pair(given: &str) -> Result<(&str, &str), ConfigError> {
    match given.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim(), value.trim())),
        _ => Err(ConfigError::Syntax { given: given.to_owned() }),
    }
}

/// The listeners in a value; `None` if it is not legal.
pub(super) fn parse_listeners(value: &str) -> Option<Vec<Listener>> {
    let mut listeners: Vec<Listener> = Vec::new();
    for part in list(value) {
        let (name, address) = part.split_once("://").unwrap_or(("PLAINTEXT", part));
        let (host, port) = address.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']')?,
            None => host,
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let encrypted = ["SSL", "SASL_PLAINTEXT", "SASL_SSL"].contains(&name);
        if name.is_empty() || !name.chars().all(legal) || encrypted {
            return None;
        }
        if host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '[' | ']')) {
            return None;
        }
        if listeners.iter().any(|other| other.name == name) {
            return None;
        }
        let (name, host) = (name.to_owned(), host.to_owned());
        listeners.push(Listener { name, host, port: port.parse().ok()? });
    }
    Some(listeners)
}

/// The one address in a value, or none for `off`; `None` if the value is neither.
pub(super) fn parse_address_or_off(value: &str) -> Option<Option<Listener>> {
    let value = value.trim();
    if value.eq_ignore_ascii_case("off") {
        return Some(None);
    }
    if value.contains("://") {
        return None;
    }
    let mut listeners = parse_listeners(value)?;
    let one = listeners.pop().filter(|_| listeners.is_empty())?;
    Some(Some(Listener { name: "HTTP".to_owned(), ..one }))
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Listener { name, host, port } = self;
        if host.contains(':') {
            write!(f, "{name}://[{host}]:{port}")
        } else {
            write!(f, "{name}://{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_sound() {
        let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), KEYS.len(), "a key twice");
        for key in KEYS {
            assert!(key.doc.ends_with('.'), "{}", key.name);
            if let Some(default) = key.default {
                assert_eq!(key.check(default), Ok(()), "{}", key.name);
            }
        }
    }

    #[test]
    fn defaults_are_kafkas() {
        let broker = Broker::default();
        assert_eq!(broker.num_partitions, 1);
        assert_eq!(broker.fetch_max_bytes, 55 << 20);
        assert_eq!(broker.request_bytes_max, 100 << 20);
        assert_eq!(broker.connections_idle_ms_max, Some(600_000));
        assert_eq!(broker.log_dir, PathBuf::from("./trialog-data"));
        assert_eq!(broker.listeners[0].to_string(), "PLAINTEXT://127.0.0.1:9092");
        assert!(broker.advertised_listeners.is_empty());
    }

    #[test]
    fn every_extreme_of_every_range_parses() {
        for key in KEYS {
            let ends = match key.kind {
                Kind::Int(min, max) => [i64::from(min), i64::from(max)],
                Kind::Long(min, max) => [min, max],
                _ => continue,
            };
            for end in ends {
                let broker = Broker::parse([(key.name, end.to_string())]).expect("legal");
                assert_eq!(broker.given(key.name), Some(end.to_string().as_str()));
                super::super::Topic::resolve(&broker, &BTreeMap::new()).expect("legal");
            }
        }
    }

    #[test]
    fn given_values_are_taken_the_last_one_wins() {
        let given = [
            ("num.partitions", "2"),
            ("num.partitions", " 4 "),
            ("connections.max.idle.ms", "-1"),
            ("log.dir", "/a"),
            ("delete.topic.enable", "False"),
        ];
        let broker = Broker::parse(given).expect("legal");
        assert_eq!(broker.num_partitions, 4);
        assert_eq!(broker.connections_idle_ms_max, None);
        assert_eq!(broker.log_dir, PathBuf::from("/a"));
        assert!(!broker.delete_topic_enable);
    }

    #[test]
    fn errors_say_what_to_do() {
        let error = |key: &str, value: &str| {
            Broker::parse([(key, value)]).expect_err("not legal").to_string()
        };
        assert_eq!(
            error("num.partitoins", "1"),
            "unknown broker setting 'num.partitoins'; did you mean 'num.partitions'?"
        );
        assert_eq!(
            error("retention.ms", "1"),
            "unknown broker setting 'retention.ms'; did you mean 'log.retention.ms'?"
        );
        assert_eq!(
            error("max.message.bytes", "1"),
            "unknown broker setting 'max.message.bytes'; did you mean 'message.max.bytes'?"
        );
        assert_eq!(
            error("num.partitions", "0"),
            "'0' is not a value for 'num.partitions': it takes a whole number from 1 to 10000"
        );
        assert_eq!(
            split_pair("nonsense").expect_err("no =").to_string(),
            "'nonsense' is not a setting: write it as key=value"
        );
        assert_eq!(split_pair("a=b=c"), Ok(("a", "b=c")));
    }

    #[test]
    fn the_admin_listener_is_one_address_or_off() {
        let parsed = |value: &str| parse_address_or_off(value);
        assert_eq!(parsed(" Off "), Some(None));
        let one = parsed(":9644").expect("legal").expect("an address");
        assert_eq!((one.host.as_str(), one.port), ("", 9644));
        let one = parsed("[::1]:0").expect("legal").expect("an address");
        assert_eq!((one.host.as_str(), one.port), ("::1", 0));
        for bad in ["", "on", "localhost", "HTTP://a:1", "a:1,b:2"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn listeners() {
        let parsed = parse_listeners("PLAINTEXT://:9092,INSIDE://[::1]:0").expect("legal");
        assert_eq!(parsed[0].host, "");
        assert_eq!(parsed[1].to_string(), "INSIDE://[::1]:0");
        assert_eq!(parse_listeners("localhost:9092").expect("legal")[0].name, "PLAINTEXT");
        for bad in [
            "",
            "localhost",
            "PLAINTEXT://a:99999",
            "PLAINTEXT://a:1,PLAINTEXT://b:2",
            "SSL://a:1",
            "://a:1",
            "A B://a:1",
            "A://[::1:1",
            "A://a/b:1",
        ] {
            assert_eq!(parse_listeners(bad), None, "{bad}");
        }
    }
}
