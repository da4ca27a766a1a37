//! Settings that are written for Apache Kafka: the file that it comes with starts this broker as well.
//!
//! What Kafka's own keys would decide that has no meaning on one node in one process (roles,
//! controllers, threads, replication, transactions) is accepted and listed, so that it can be named
//! once. Only keys of Kafka are: a typing error is still an error.
//!
//! Pure: it works on pairs of a key and a value.

use super::ConfigError;
use super::kind::list;

/// Keys of Kafka 4 that have no effect here.
const WITHOUT_EFFECT: &[&str] = &[
    "auto.leader.rebalance.enable",
    "background.threads",
    "broker.heartbeat.interval.ms",
    "broker.rack",
    "broker.session.timeout.ms",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.zstd.level",
    "controlled.shutdown.enable",
    "controlled.shutdown.max.retries",
    "controlled.shutdown.retry.backoff.ms",
    "controller.listener.names",
    "controller.quorum.bootstrap.servers",
    "controller.quorum.election.timeout.ms",
    "controller.quorum.fetch.timeout.ms",
    "controller.quorum.voters",
    "controller.socket.timeout.ms",
    "group.coordinator.rebalance.protocols",
    "group.coordinator.threads",
    "initial.broker.registration.timeout.ms",
    "inter.broker.listener.name",
    "inter.broker.protocol.version",
    "leader.imbalance.check.interval.seconds",
    "leader.imbalance.per.broker.percentage",
    "log.cleaner.dedupe.buffer.load.factor",
    "log.cleaner.io.buffer.size",
    "log.cleaner.threads",
    "log.local.retention.bytes",
    "log.local.retention.ms",
    "log.message.format.version",
    "metadata.log.dir",
    "metric.reporters",
    "metrics.num.samples",
    "metrics.recording.level",
    "metrics.sample.window.ms",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.alter.log.dirs.threads",
    "num.replica.fetchers",
    "offsets.commit.timeout.ms",
    "offsets.load.buffer.size",
    "process.roles",
    "replica.fetch.backoff.ms",
    "replica.fetch.max.bytes",
    "replica.fetch.min.bytes",
    "replica.fetch.response.max.bytes",
    "replica.fetch.wait.max.ms",
    "replica.lag.time.max.ms",
    "replica.socket.receive.buffer.bytes",
    "replica.socket.timeout.ms",
    "security.inter.broker.protocol",
    "share.coordinator.state.topic.min.isr",
    "share.coordinator.state.topic.num.partitions",
    "share.coordinator.state.topic.replication.factor",
    "socket.listen.backlog.size",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms",
    "transaction.max.timeout.ms",
    "transaction.remove.expired.transaction.cleanup.interval.ms",
    "transaction.state.log.load.buffer.size",
    "transaction.state.log.min.isr",
    "transaction.state.log.num.partitions",
    "transaction.state.log.replication.factor",
    "transaction.state.log.segment.bytes",
    "transactional.id.expiration.ms",
];

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
/// protocol than `PLAINTEXT`: nothing that was meant to be encrypted is served in the clear.
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
            key if has_no_effect(key) => {
                if !adapted.without_effect.iter().any(|known| known == key) {
                    adapted.without_effect.push(key.to_owned());
                }
            }
            _ => adapted.given.push((key.clone(), value.clone())),
        }
    }
    Ok(adapted)
}

/// Whether a key is Kafka's and has no effect here, or none of its own (`broker.id` and the map of
/// listeners are looked at by [`adapt`]).
#[must_use]
pub fn is_known(key: &str) -> bool {
    key == "broker.id" || has_no_effect(key)
}

fn has_no_effect(key: &str) -> bool {
    key == "listener.security.protocol.map" || WITHOUT_EFFECT.binary_search(&key).is_ok()
}

#[cfg(test)]
mod tests {
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
        assert!(WITHOUT_EFFECT.is_sorted());
        for key in WITHOUT_EFFECT {
            assert!(broker::KEYS.iter().all(|known| known.name != *key), "{key}");
        }
    }
}
