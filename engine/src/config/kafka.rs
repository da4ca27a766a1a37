//! Settings that are written for Apache Kafka: the file that it comes with starts this broker as well.
//!
//! What Kafka's own keys would decide that has no meaning on one node in one process (roles,
//! controllers, threads, replication, transactions) is accepted and listed, so that it can be named
//! once. Only keys of Kafka are: a typing error is still an error. So is what was meant to protect
//! something: rather no broker than one that is open against its settings.
//!
//! Pure: it works on pairs of a key and a value.

mod keys;

use self::keys::{REFUSED, Refusal, WITHOUT_EFFECT};
use super::ConfigError;
use super::kind::list;

/// What of Kafka's settings is for this broker.
#[derive(Debug, PartialEq, Eq)]
pub struct Adapted {
    /// The settings that it knows.
    pub given: Vec<(String, String)>,
    /// The keys that have no effect, in order.
    pub without_effect: Vec<String>,
}

/// Takes out what has no effect, and the listeners of controllers, and calls `broker.id` `node.id`.
/// Of several pairs with one key the last counts.
///
/// # Errors
/// [`ConfigError::Value`] if `listener.security.protocol.map` gives a listener of clients another
/// protocol than `PLAINTEXT`: nothing that was meant to be encrypted is served in the clear. Those of
/// [`is_known`].
pub fn adapt(pairs: Vec<(String, String)>) -> Result<Adapted, ConfigError> {
    let last = |key: &str| pairs.iter().rfind(|(name, _)| name == key).map(|(_, value)| &**value);
    let controllers: Vec<String> = last("controller.listener.names")
        .map(list)
        .into_iter()
        .flatten()
        .map(str::to_owned)
        .collect();
    let is_controllers = |listener: &str| {
        let name = listener.split("://").next().unwrap_or_default();
        controllers.iter().any(|controller| controller == name)
    };
    for mapping in last("listener.security.protocol.map").map(list).into_iter().flatten() {
        let (name, protocol) = mapping.split_once(':').unwrap_or((mapping, ""));
        let used = ["listeners", "advertised.listeners"].iter().any(|key| {
            let mut listeners = last(key).map(list).into_iter().flatten();
            listeners.any(|one| one.split("://").next() == Some(name) && !is_controllers(one))
        });
        if used && protocol != "PLAINTEXT" {
            return Err(ConfigError::Value {
                key: "listener.security.protocol.map",
                value: mapping.to_owned(),
                allowed: "PLAINTEXT for the listeners of clients: this version has no other".into(),
            });
        }
    }
    let has_node_id = last("node.id").is_some();
    let mut adapted = Adapted { given: Vec::new(), without_effect: Vec::new() };
    for (key, value) in &pairs {
        match key.as_str() {
            "broker.id" if !has_node_id => {
                adapted.given.push(("node.id".to_owned(), value.clone()))
            }
            "broker.id" => {}
            "listeners" | "advertised.listeners" if !controllers.is_empty() => {
                let clients: Vec<&str> = list(value).filter(|one| !is_controllers(one)).collect();
                adapted.given.push((key.clone(), clients.join(",")));
            }
            _ if is_known(key, value)? => {
                if !adapted.without_effect.iter().any(|known| known == key) {
                    adapted.without_effect.push(key.to_owned());
                }
            }
            _ => adapted.given.push((key.clone(), value.clone())),
        }
    }
    Ok(adapted)
}

/// What a key of Kafka's that the table of this broker lacks is to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It has no effect, because.
    NoEffect(&'static str),
    /// A broker with it does not start.
    Refused {
        /// Why.
        because: &'static str,
        /// With these values it has no effect.
        unless: &'static [&'static str],
    },
    /// It is another name of a key of this broker.
    Alias(&'static str),
}

/// What a key is to this broker; `None` if it is one of its own, or nobody's.
#[must_use]
pub fn meaning(key: &str) -> Option<Meaning> {
    if key == "broker.id" {
        return Some(Meaning::Alias("node.id"));
    }
    if let Some(&Refusal { because, harmless: unless, .. }) = refusal(key) {
        return Some(Meaning::Refused { because, unless });
    }
    if of_listener(key) == Some("max.connections") {
        return Some(Meaning::NoEffect(
            "connections are bounded over all listeners: max.connections, max.connections.per.ip",
        ));
    }
    let key = of_listener(key).unwrap_or(key);
    let group = WITHOUT_EFFECT.iter().find(|group| has(group.keys, key))?;
    Some(Meaning::NoEffect(group.because))
}

/// Whether a pair is Kafka's and has no effect here, or none of its own (`broker.id` and the map of
/// listeners are looked at by [`adapt`]).
///
/// # Errors
/// [`ConfigError::Refused`] if it may not be passed over.
pub fn is_known(key: &str, value: &str) -> Result<bool, ConfigError> {
    let value = value.trim();
    if let Some(Refusal { because, harmless, .. }) = refusal(key)
        && !value.is_empty()
        && !harmless.iter().any(|word| word.eq_ignore_ascii_case(value))
    {
        return Err(ConfigError::Refused { key: key.to_owned(), because });
    }
    Ok(meaning(key).is_some())
}

fn refusal(key: &str) -> Option<&'static Refusal> {
    let key = of_listener(key).unwrap_or(key);
    REFUSED.iter().find(|refusal| has(refusal.keys, key))
}

fn has(keys: &[&str], key: &str) -> bool {
    keys.iter().any(|one| if one.ends_with('.') { key.starts_with(one) } else { key == *one })
}

/// The key in `listener.name.NAME.KEY`, and in `listener.name.NAME.MECHANISM.sasl.KEY`.
fn of_listener(key: &str) -> Option<&str> {
    let (_, key) = key.strip_prefix("listener.name.")?.split_once('.')?;
    match key.find(".sasl.") {
        Some(mechanism) => Some(&key[mechanism + 1..]),
        None => Some(key),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::{Broker, broker, given};

    fn pairs(text: &str) -> Vec<(String, String)> {
        given::properties(text).expect("a file of properties")
    }

    /// The settings of the file that Kafka 4 comes with (`config/server.properties`).
    const SHIPPED: &str = "\
        process.roles=broker,controller\n\
        node.id=1\n\
        controller.quorum.bootstrap.servers=localhost:9093\n\
        listeners=PLAINTEXT://:9092,CONTROLLER://:9093\n\
        inter.broker.listener.name=PLAINTEXT\n\
        advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
        controller.listener.names=CONTROLLER\n\
        listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,\
        SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL\n\
        num.network.threads=3\n\
        num.io.threads=8\n\
        socket.send.buffer.bytes=102400\n\
        socket.receive.buffer.bytes=102400\n\
        socket.request.max.bytes=104857600\n\
        log.dirs=/tmp/kraft-combined-logs\n\
        num.partitions=1\n\
        num.recovery.threads.per.data.dir=1\n\
        offsets.topic.replication.factor=1\n\
        share.coordinator.state.topic.replication.factor=1\n\
        share.coordinator.state.topic.min.isr=1\n\
        transaction.state.log.replication.factor=1\n\
        transaction.state.log.min.isr=1\n\
        log.retention.hours=168\n\
        log.segment.bytes=1073741824\n\
        log.retention.check.interval.ms=300000\n";

    #[test]
    fn the_file_that_kafka_comes_with_is_understood() {
        let adapted = adapt(pairs(SHIPPED)).expect("nothing is encrypted");
        assert_eq!(adapted.without_effect.len(), 14, "{:?}", adapted.without_effect);
        let broker = Broker::parse(adapted.given).expect("all known");
        let ports: Vec<u16> = broker.listeners.iter().map(|listener| listener.port).collect();
        assert_eq!(ports, [9092]);
        assert_eq!(broker.advertised_listeners.len(), 1);
        assert_eq!(broker.node_id.0, 1);
    }

    #[test]
    fn what_was_to_be_encrypted_is_refused() {
        let text = "listeners=CLIENT://:9092\nlistener.security.protocol.map=CLIENT:SASL_SSL\n";
        let refused = adapt(pairs(text)).expect_err("not in the clear");
        assert!(refused.to_string().contains("CLIENT:SASL_SSL"), "{refused}");
        let text = "listeners=CLIENT://:9092\nlistener.security.protocol.map=CLIENT:PLAINTEXT\n";
        assert!(adapt(pairs(text)).is_ok());
    }

    #[test]
    fn a_broker_of_old_has_its_id() {
        let adapted = adapt(pairs("broker.id=7\n")).expect("fine");
        assert_eq!(adapted.given, [("node.id".to_owned(), "7".to_owned())]);
        let adapted = adapt(pairs("broker.id=7\nnode.id=8\n")).expect("fine");
        assert_eq!(adapted.given, [("node.id".to_owned(), "8".to_owned())]);
    }

    #[test]
    fn what_has_an_effect_is_not_called_without_one() {
        let silent = WITHOUT_EFFECT.iter().map(|group| (group.because, group.keys));
        let refused = REFUSED.iter().map(|refusal| (refusal.because, refusal.keys));
        let mut seen = BTreeSet::new();
        for (because, keys) in silent.chain(refused) {
            assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
            assert!(!because.ends_with('.'), "{because}");
            for key in keys {
                assert!(seen.insert(*key), "{key} twice");
                let own = broker::KEYS.iter().find(|own| has(&[*key], own.name));
                assert!(own.is_none(), "{key}");
            }
        }
    }

    /// The broker configs of Kafka 4.3, as it logs them at its start.
    const ALL: &str = include_str!("kafka/all.txt");

    #[test]
    fn every_key_of_kafka_is_known_for_something() {
        let unknown = |key: &&str| broker::find(key).is_err() && meaning(key).is_none();
        let unknown: Vec<&str> = ALL.lines().filter(unknown).collect();
        assert_eq!(unknown, [""; 0]);
        assert!(ALL.lines().count() > 300);
    }

    #[test]
    fn what_was_to_protect_something_is_refused() {
        let refused = |key: &str, value: &str| match is_known(key, value) {
            Err(error @ ConfigError::Refused { .. }) => error.to_string(),
            other => panic!("{key}={value}: {other:?}"),
        };
        for (key, value) in [
            ("ssl.keystore.location", "/etc/key.pem"),
            ("sasl.enabled.mechanisms", "PLAIN"),
            ("listener.name.external.ssl.client.auth", "required"),
            ("listener.name.external.scram-sha-512.sasl.jaas.config", "x"),
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
            ("allow.everyone.if.no.acl.found", "false"),
            ("create.topic.policy.class.name", "com.example.Policy"),
            ("remote.log.storage.system.enable", "true"),
        ] {
            assert!(refused(key, value).contains(key));
        }
        assert_eq!(
            refused("sasl.enabled.mechanisms", "PLAIN"),
            "'sasl.enabled.mechanisms' is Kafka's and may not be passed over, because this version \
             has no authentication: everybody would be let in"
        );
        assert!(refused("log.cleaner.enable", "false").contains("min.cleanable.dirty.ratio"));
        for (key, value) in [
            ("log.cleaner.enable", "True"),
            ("authorizer.class.name", " "),
            ("allow.everyone.if.no.acl.found", "true"),
            ("remote.log.storage.system.enable", "false"),
            ("listener.name.external.max.connections", "7"),
            ("group.share.max.size", "9"),
        ] {
            assert_eq!(is_known(key, value), Ok(true), "{key}={value}");
        }
        assert_eq!(is_known("log.cleaner.enabled", "true"), Ok(false));
        assert_eq!(is_known("listener.name.external", "true"), Ok(false));
        // However it is given.
        assert!(adapt(pairs("ssl.keystore.type=PEM\n")).is_err());
    }
}
