//! Settings: a properties file, names in the environment, values of brokers and topics.

use std::collections::BTreeMap;

use trialog_engine::config::{self, Broker, Topic, broker, given, topic};

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for line in text.lines() {
        if let Some(key) = given::environment_key(line) {
            assert!(!key.is_empty());
        }
        let _ = broker::split_pair(line);
    }
    let Ok(pairs) = given::properties(&text) else { return };
    let mut own = BTreeMap::new();
    for (name, value) in &pairs {
        if let Ok(key) = broker::find(name) {
            let plain = given::plain(key, value);
            assert_eq!(given::plain(key, &plain), plain, "{name}={value}");
            let _ = key.check(&plain);
        }
        if let Err(error) = topic::check(name, value) {
            assert!(!error.to_string().is_empty());
        } else {
            own.insert(name.trim().to_owned(), value.clone());
        }
    }
    let parsed = Broker::parse(pairs.iter().map(|(name, value)| (name, value)));
    let broker = match parsed {
        Ok(broker) => broker,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Broker::default()
        }
    };
    // What it says of itself makes it again.
    let given: Vec<_> = broker
        .entries()
        .filter(|(_, _, source)| matches!(source, config::Source::Broker))
        .filter_map(|(key, value, _)| value.map(|value| (key.name.to_owned(), value.to_owned())))
        .collect();
    let again = Broker::parse(given).expect("its own settings are legal");
    assert!(broker.entries().eq(again.entries()));
    let resolved = Topic::resolve(&broker, &own);
    assert!(resolved.is_ok(), "every one of {own:?} was taken: {:?}", resolved.err());
    let shown = Topic::entries(&broker, &own).count();
    assert!(shown > 0);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let broker = Broker::default();
    let mut whole = String::new();
    let mut seeds = Vec::new();
    for (key, value, _) in broker.entries() {
        let line = format!("{}={}\n", key.name, value.unwrap_or("PLAINTEXT://localhost:9092"));
        whole.push_str(&line);
        seeds.push(line.into_bytes());
    }
    for entry in Topic::entries(&broker, &BTreeMap::new()) {
        let line = format!("{}: {}\n", entry.key.name, entry.value);
        seeds.push(line.into_bytes());
    }
    seeds.push(whole.into_bytes());
    for text in [
        "# comment\n! another\nnode.id 3\nlisteners = PLAINTEXT://:9092,\\\n  B://[::1]:9093\n",
        "log.retention.ms=7d\nlog.segment.bytes=1GB\nKAFKA_NUM_PARTITIONS\nKAFKA_A__B___C=1\n",
        "cleanup.policy=compact,delete\nmin.cleanable.dirty.ratio=0.3\n",
    ] {
        seeds.push(text.as_bytes().to_vec());
    }
    seeds
}
