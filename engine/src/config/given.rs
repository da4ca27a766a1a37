//! Settings as people write them: a `server.properties` file, names in the environment, and numbers
//! with units. All of it becomes pairs of a key and a plain value, which the tables judge.
//!
//! Pure: whoever reads the file and the environment hands in their text.

use super::{ConfigError, Key, Kind};

/// The pairs of a Java properties file: `key=value`, `key: value` or `key value` in a line, `#` and
/// `!` begin comments, a backslash at its end continues a line, and before any other character it
/// takes that for itself, apart from `\t`, `\n`, `\r`, `\f` and `\uXXXX`
/// (`java.util.Properties.load`).
///
/// # Errors
/// [`ConfigError::Syntax`] with the first line that is no pair.
pub fn properties(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let mut pairs = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = String::new();
        let mut part = line;
        // Two of them at the end are one that is meant.
        while (part.len() - part.trim_end_matches('\\').len()) % 2 == 1 {
            whole.push_str(&part[..part.len() - 1]);
            part = lines.next().unwrap_or_default().trim_start();
        }
        whole.push_str(part);
        pairs.push(pair(&whole)?);
    }
    Ok(pairs)
}

fn pair(line: &str) -> Result<(String, String), ConfigError> {
    let syntax = || ConfigError::Syntax { given: line.to_owned() };
    let mut escaped = false;
    let end = line.find(|c: char| {
        let is_end = !escaped && (matches!(c, '=' | ':') || c.is_whitespace());
        escaped = c == '\\' && !escaped;
        is_end
    });
    let (key, rest) = line.split_at(end.ok_or_else(syntax)?);
    let rest = rest.trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim();
    if key.is_empty() { Err(syntax()) } else { Ok((unescaped(key), unescaped(value))) }
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.extend(match rest.next() {
            Some('t') => Some('\t'),
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('f') => Some('\u{c}'),
            Some('u') => {
                let digits: String = rest.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok();
                code.and_then(char::from_u32).or(Some(char::REPLACEMENT_CHARACTER))
            }
            other => other,
        });
    }
    out
}

/// Names that begin as settings do and are for the scripts that start Kafka's Java program.
const NOT_SETTINGS: &[&str] = &[
    "KAFKA_BOOTSTRAP_SERVER",
    "KAFKA_BOOTSTRAP_SERVERS",
    "KAFKA_BROKERS",
    "KAFKA_BROKER_LIST",
    "KAFKA_DEBUG",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_HEAP_OPTS",
    "KAFKA_HOME",
    "KAFKA_JMX_HOSTNAME",
    "KAFKA_JMX_OPTS",
    "KAFKA_JMX_PORT",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_OPTS",
    "KAFKA_PORT",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
    "KAFKA_VERSION",
];

/// Whether Kubernetes has put a name into the environment of everything that runs beside a service
/// called `kafka` or `kafka-...`.
fn is_of_a_service(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || name.ends_with("_PORT")
}

/// The key that a name in the environment stands for, as Kafka's containers have it: `KAFKA_`,
/// then the key in capitals with `_` for a dot, `__` for an underscore and `___` for a hyphen; in
/// those of Bitnami with `CFG_` in between. `None` for a name that is no setting.
#[must_use]
pub fn environment_key(name: &str) -> Option<String> {
    let rest = name.strip_prefix("KAFKA_")?;
    let rest = rest.strip_prefix("CFG_").unwrap_or(rest);
    if rest.is_empty() || NOT_SETTINGS.contains(&name) || is_of_a_service(name) {
        return None;
    }
    let key = rest.replace("___", "-").replace("__", "\0").replace('_', ".").replace('\0', "_");
    Some(key.to_ascii_lowercase())
}

/// Milliseconds of the units of time.
const TIMES: &[(&str, i64)] =
    &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Bytes of the units of size: `1GB` is 1024 to the power of three, as in Kafka's own defaults.
const SIZES: &[(&str, i64)] = &[
    ("b", 1),
    ("kb", 1 << 10),
    ("kib", 1 << 10),
    ("mb", 1 << 20),
    ("mib", 1 << 20),
    ("gb", 1 << 30),
    ("gib", 1 << 30),
    ("tb", 1 << 40),
    ("tib", 1 << 40),
];

/// The value of `key` in plain numbers: `7d` of a key in milliseconds is 604800000, `1GB` of one in
/// bytes is 1073741824. Whatever is not a whole number with a unit that fits stays as it is, and so
/// does a time that is no whole number of the key's own unit.
#[must_use]
pub fn plain(key: &Key, value: &str) -> String {
    with_unit(key, value.trim()).map_or_else(|| value.trim().to_owned(), |plain| plain.to_string())
}

fn with_unit(key: &Key, value: &str) -> Option<i64> {
    if !matches!(key.kind, Kind::Int(..) | Kind::Long(..)) {
        return None;
    }
    let (units, of_key) = match key.name.rsplit('.').next()? {
        "ms" => (TIMES, 1),
        "minutes" => (TIMES, 60_000),
        "hours" => (TIMES, 3_600_000),
        "bytes" | "size" => (SIZES, 1),
        _ => return None,
    };
    let digits = value.find(|c: char| !c.is_ascii_digit()).filter(|&digits| digits > 0)?;
    let (number, unit) = value.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    let total = number.parse::<i64>().ok()?.checked_mul(factor)?;
    (total % of_key == 0).then_some(total / of_key)
}

#[cfg(test)]
mod tests {
    use super::super::{broker, topic};
    use super::*;

    #[test]
    fn a_properties_file_is_read_as_java_does() {
        let text = "# a comment\n! another\n\nnode.id=7\n  log.dirs = /var/a=b \n\
                    num.partitions: 4\nlog.retention.hours 5\nlisteners=PLAINTEXT://\\\n   :9092\n\
                    broker.rack=\n\
                    advertised.listeners=PLAINTEXT\\://h\\:1\na\\=b=\\u0041\\\\\n";
        let pairs = properties(text).expect("legal");
        let expected = [
            ("node.id", "7"),
            ("log.dirs", "/var/a=b"),
            ("num.partitions", "4"),
            ("log.retention.hours", "5"),
            ("listeners", "PLAINTEXT://:9092"),
            ("broker.rack", ""),
            ("advertised.listeners", "PLAINTEXT://h:1"),
            ("a=b", "A\\"),
        ];
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(pairs, expected);
        for bad in ["alone", "=value"] {
            assert!(properties(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_in_the_environment() {
        let key = |name| environment_key(name);
        assert_eq!(key("KAFKA_LOG_RETENTION_MS").as_deref(), Some("log.retention.ms"));
        assert_eq!(key("KAFKA_A__B___C").as_deref(), Some("a_b-c"));
        assert_eq!(key("KAFKA_HEAP_OPTS"), None);
        assert_eq!(key("KAFKA_"), None);
        assert_eq!(key("KAFKA_CFG_"), None);
        assert_eq!(key("KAFKA_CFG_NUM_PARTITIONS").as_deref(), Some("num.partitions"));
        for foreign in ["KAFKA_PORT", "KAFKA_SERVICE_HOST", "KAFKA_PORT_9092_TCP_ADDR"] {
            assert_eq!(key(foreign), None);
        }
        assert_eq!(key("KAFKA_BOOTSTRAP_SERVERS"), None);
        assert_eq!(key("PATH"), None);
    }

    #[test]
    fn units_become_the_keys_own() {
        let plain = |name: &str, value| plain(broker::find(name).expect("a key"), value);
        assert_eq!(plain("log.retention.ms", "7d"), "604800000");
        assert_eq!(plain("log.retention.ms", " 90 s "), "90000");
        assert_eq!(plain("log.retention.hours", "2d"), "48");
        assert_eq!(plain("log.retention.hours", "90m"), "90m", "no whole hours");
        assert_eq!(plain("log.segment.bytes", "1GB"), "1073741824");
        assert_eq!(plain("log.segment.bytes", "512MiB"), "536870912");
        assert_eq!(plain("log.segment.bytes", "12"), "12");
        assert_eq!(plain("log.segment.bytes", "7d"), "7d");
        assert_eq!(plain("log.retention.bytes", "-1"), "-1");
        assert_eq!(plain("log.retention.bytes", "9999999999TB"), "9999999999TB");
        assert_eq!(plain("num.partitions", "4"), "4");
        let own = topic::key_of("retention.ms").expect("a key");
        assert_eq!(super::plain(own, "1h"), "3600000");
    }
}
