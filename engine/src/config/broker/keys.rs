//! The table of a broker's settings: every key with its kind, its default and what it is about.

use crate::config::{Key, Kind};
use crate::limit::{FETCH_BYTES_MAX, FRAME_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX};

const FETCH_MAX: i32 = FETCH_BYTES_MAX as i32;
const FRAME_MAX: i32 = FRAME_BYTES_MAX as i32;
const IN_FLIGHT_MAX: i32 = REQUESTS_IN_FLIGHT_MAX as i32;
const _: () = assert!(FETCH_BYTES_MAX <= i32::MAX as usize);
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
        "Where the broker listens. An empty host, as in PLAINTEXT://:9092, means every interface, \
         by IPv4 and IPv6; port 0 lets the system choose.",
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
        Kind::Int(1024, FETCH_MAX),
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
        "max.connections",
        Kind::Int(0, i32::MAX),
        "2147483647",
        "How many connections the broker has at most; new ones wait until others have ended. A core \
         takes 20,000 in any case.",
    ),
    key(
        "max.connections.per.ip",
        Kind::Int(0, i32::MAX),
        "2147483647",
        "How many connections one address may have; more are closed at once. With 0 only those come \
         in whom max.connections.per.ip.overrides names.",
    ),
    key(
        "max.connections.per.ip.overrides",
        Kind::AddressLimits,
        "",
        "How many connections single addresses may have instead: 10.0.0.7:100,fe80::1:20. Addresses \
         only, host names are not looked up.",
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
         a larger request than a core's part of it cannot be read. 0 and -1 are 512 MiB for each \
         core, which is also the most.",
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
        crate::config::topic::CLEANUP,
        "delete",
        "Topics' cleanup.policy unless they have their own.",
    ),
    key(
        "compression.type",
        crate::config::topic::COMPRESSION,
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
        crate::config::topic::TIMESTAMP,
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
        crate::config::topic::DURABILITY,
        "flush",
        "Topics' trialog.durability unless they have their own.",
    ),
];
