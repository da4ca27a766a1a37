//! A broker's settings: the values parsed from what was given at its start.

mod keys;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use super::kind::{boolean, list};
use super::suggest::nearest;
use super::{ConfigError, Groups, Key, Level};
use crate::id::NodeId;

pub use keys::KEYS;

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
    /// `max.connections`
    pub connections_max: usize,
    /// `max.connections.per.ip`
    connections_per_address_max: usize,
    /// `max.connections.per.ip.overrides`
    connections_of_address_max: BTreeMap<IpAddr, usize>,
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
            connections_max: narrow(number("max.connections")),
            connections_per_address_max: narrow(number("max.connections.per.ip")),
            connections_of_address_max: parse_address_limits(&text(
                "max.connections.per.ip.overrides",
            ))
            .expect("checked by its kind"),
            request_bytes_max: narrow(number("socket.request.max.bytes")),
            queued_bytes_max: usize::try_from(number("queued.max.request.bytes"))
                .ok()
                .filter(|bytes| *bytes > 0),
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

    /// How many connections an address may have.
    #[must_use]
    pub fn connections_max_of(&self, address: IpAddr) -> usize {
        let own = self.connections_of_address_max.get(&address.to_canonical());
        own.copied().unwrap_or(self.connections_per_address_max)
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

/// `address:number` pairs, separated by commas; `None` if one is not legal, or named twice.
pub(super) fn parse_address_limits(value: &str) -> Option<BTreeMap<IpAddr, usize>> {
    let mut limits = BTreeMap::new();
    for pair in list(value).filter(|pair| !pair.is_empty()) {
        let (address, most) = pair.rsplit_once(':')?;
        let address = address.trim().trim_start_matches('[').trim_end_matches(']');
        let address: IpAddr = address.parse().ok()?;
        let most: i32 = most.trim().parse().ok()?;
        if limits.insert(address.to_canonical(), usize::try_from(most).ok()?).is_some() {
            return None;
        }
    }
    Some(limits)
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
    use crate::config::Kind;
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
        // Kafka takes 2147483647. No frame has room for that and for what stands around it.
        assert_eq!(
            error("fetch.max.bytes", "2147483647"),
            "'2147483647' is not a value for 'fetch.max.bytes': it takes a whole number from 1024 \
             to 1073741824"
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
