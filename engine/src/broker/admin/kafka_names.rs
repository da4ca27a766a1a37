//! The names under which dashboards made for Kafka look for the same numbers: those of
//! Prometheus' JMX exporter with its rules for Kafka (`kafka_server_...`, `kafka_network_...`), of
//! kafka_exporter (`kafka_topic_partition_...`, `kafka_consumergroup_...`) and of kminion
//! (`kminion_kafka_...`). Only what is true of this broker is here; what it has no equal of, such as
//! idle threads, is left out.

use std::fmt::Display;

use super::answer::Answer;
use super::durations;
use super::exposition::{self, Kind, sample};
use super::metrics::{self, BrokerRow, GroupRow, PartitionRow, Place, PlaceRow, TopicRow};
use super::survey::{Sum, Survey};
use crate::broker::gauge::Reading;
use crate::broker::tally::{FETCH, PRODUCE};
use crate::io::{self, Io};

use Kind::{Counter, Gauge};

const BROKER: &[BrokerRow] = &[
    BrokerRow(
        "kafka_server_kafkaserver_brokerstate",
        Gauge,
        "1 starting, 2 recovering, 3 running, 6 stopping.",
        |all| match (all.stopping, all.started, all.start.listens) {
            (true, ..) => 6.0,
            (_, true, _) => 3.0,
            (_, _, true) => 2.0,
            _ => 1.0,
        },
    ),
    BrokerRow("kafka_server_replicamanager_partitioncount", Gauge, "Partitions here.", |all| {
        all.readings.len() as f64
    }),
    BrokerRow("kafka_server_replicamanager_leadercount", Gauge, "Partitions led here.", |all| {
        all.readings.len() as f64
    }),
    BrokerRow(
        "kafka_server_replicamanager_underreplicatedpartitions",
        Gauge,
        "Partitions with a replica that is not in sync.",
        |all| under_replicated(all) as f64,
    ),
    BrokerRow(
        "kafka_server_replicamanager_underminisrpartitioncount",
        Gauge,
        "Partitions with fewer replicas in sync than a produce with acks=all needs: none, each has \
         its only one.",
        |_| 0.0,
    ),
    BrokerRow(
        "kafka_server_replicamanager_isrshrinks_total",
        Counter,
        "How often a replica fell out of sync: never, there is one.",
        |_| 0.0,
    ),
    BrokerRow(
        "kafka_server_replicamanager_isrexpands_total",
        Counter,
        "How often a replica came in sync again: never, there is one.",
        |_| 0.0,
    ),
    BrokerRow(
        "kafka_controller_controllerstats_uncleanleaderelections_total",
        Counter,
        "How often a replica led that was not in sync: never, there is one.",
        |_| 0.0,
    ),
    BrokerRow(
        "kafka_server_replicamanager_offlinereplicacount",
        Gauge,
        "Partitions whose log is out of use.",
        |all| all.offline() as f64,
    ),
    BrokerRow(
        "kafka_controller_kafkacontroller_activecontrollercount",
        Gauge,
        "1 if this broker orders the cluster's metadata.",
        |_| 1.0,
    ),
    BrokerRow("kafka_controller_kafkacontroller_activebrokercount", Gauge, "Brokers.", |all| {
        all.image.brokers().len() as f64
    }),
    BrokerRow("kafka_controller_kafkacontroller_globaltopiccount", Gauge, "Topics.", |all| {
        all.image.topics().len() as f64
    }),
    BrokerRow(
        "kafka_controller_kafkacontroller_globalpartitioncount",
        Gauge,
        "Partitions.",
        |all| all.image.partition_count() as f64,
    ),
    BrokerRow(
        "kafka_controller_kafkacontroller_offlinepartitionscount",
        Gauge,
        "Partitions without a leader that can serve them.",
        |all| all.offline() as f64,
    ),
    BrokerRow(
        "kafka_server_socket_server_metrics_connection_count",
        Gauge,
        "Open connections.",
        |all| all.counts.connections as f64,
    ),
    BrokerRow(
        "kafka_coordinator_group_groupmetadatamanager_numgroups",
        Gauge,
        "Consumer groups.",
        |all| all.groups.len() as f64,
    ),
    BrokerRow(
        "kafka_coordinator_group_groupmetadatamanager_numoffsets",
        Gauge,
        "Committed offsets.",
        offsets,
    ),
    BrokerRow(
        "kafka_server_group_coordinator_metrics_offset_count",
        Gauge,
        "Committed offsets (KIP-1301).",
        offsets,
    ),
    BrokerRow("kafka_brokers", Gauge, "Brokers.", |all| all.image.brokers().len() as f64),
];

const fn topic_counter(
    name: &'static str,
    help: &'static str,
    value: fn(&super::survey::Sum) -> f64,
    all: fn(&Survey) -> f64,
) -> TopicRow {
    TopicRow { name, kind: Counter, help, label: "topic", value, all: Some(all) }
}

const fn kminion_topic(name: &'static str, help: &'static str, value: fn(&Sum) -> f64) -> TopicRow {
    TopicRow { name, kind: Gauge, help, label: "topic_name", value, all: None }
}

const TOPICS: &[TopicRow] = &[
    topic_counter(
        "kafka_server_brokertopicmetrics_messagesin_total",
        "Records appended; without a label in all topics.",
        |sum| sum.messages_in as f64,
        |all| all.all.messages_in as f64,
    ),
    topic_counter(
        "kafka_server_brokertopicmetrics_bytesin_total",
        "Bytes appended; without a label in all topics.",
        |sum| sum.bytes_in as f64,
        |all| all.all.bytes_in as f64,
    ),
    topic_counter(
        "kafka_server_brokertopicmetrics_bytesout_total",
        "Bytes sent to consumers; without a label of all topics.",
        |sum| sum.bytes_out as f64,
        |all| all.all.bytes_out as f64,
    ),
    TopicRow {
        name: "kafka_topic_partitions",
        kind: Gauge,
        help: "Partitions of a topic.",
        label: "topic",
        value: |sum| sum.partitions as f64,
        all: None,
    },
    kminion_topic(
        "kminion_kafka_topic_high_water_mark_sum",
        "High watermarks of a topic's partitions together.",
        |sum| sum.ends as f64,
    ),
    kminion_topic(
        "kminion_kafka_topic_low_water_mark_sum",
        "First offsets of a topic's partitions together.",
        |sum| sum.starts as f64,
    ),
    kminion_topic("kminion_kafka_topic_log_dir_size_total_bytes", "Bytes on the disk.", |sum| {
        sum.size_bytes as f64
    }),
];

/// Counters that Kafka has by topic, and this broker for all topics together.
const TOTALS: &[BrokerRow] = &[
    BrokerRow(
        "kafka_server_brokertopicmetrics_totalproducerequests_total",
        Counter,
        "Produce requests.",
        |all| all.times.latencies[PRODUCE.number()].count() as f64,
    ),
    BrokerRow(
        "kafka_server_brokertopicmetrics_totalfetchrequests_total",
        Counter,
        "Fetch requests.",
        |all| all.times.latencies[FETCH.number()].count() as f64,
    ),
    BrokerRow(
        "kafka_server_brokertopicmetrics_failedproducerequests_total",
        Counter,
        "Partitions of produces that were refused.",
        |all| all.refused[PRODUCE.number()] as f64,
    ),
    BrokerRow(
        "kafka_server_brokertopicmetrics_failedfetchrequests_total",
        Counter,
        "Partitions of fetches that were answered with an error.",
        |all| all.counts.fetches_failed as f64,
    ),
];

const fn partition_gauge(
    name: &'static str,
    help: &'static str,
    value: fn(&Survey, &Reading) -> f64,
) -> PartitionRow {
    PartitionRow { name, kind: Gauge, help, labels: ("topic", "partition"), value }
}

const fn kminion_partition(
    name: &'static str,
    help: &'static str,
    value: fn(&Survey, &Reading) -> f64,
) -> PartitionRow {
    PartitionRow { name, kind: Gauge, help, labels: ("topic_name", "partition_id"), value }
}

const PARTITIONS: &[PartitionRow] = &[
    partition_gauge("kafka_log_log_size", "Bytes on the disk.", |_, one| one.bytes as f64),
    partition_gauge("kafka_log_log_logstartoffset", "The first offset.", |_, one| {
        one.start.0 as f64
    }),
    partition_gauge("kafka_log_log_logendoffset", "The next record's offset.", |_, one| {
        one.end.0 as f64
    }),
    partition_gauge("kafka_topic_partition_current_offset", "The high watermark.", |_, one| {
        one.readable.0 as f64
    }),
    partition_gauge("kafka_topic_partition_oldest_offset", "The first offset.", |_, one| {
        one.start.0 as f64
    }),
    partition_gauge("kafka_topic_partition_leader", "The broker that leads it.", |all, _| {
        f64::from(all.node)
    }),
    partition_gauge(
        "kafka_topic_partition_leader_is_preferred",
        "1 if it is its first.",
        |all, one| {
            let first = all.image.partition(one.topic_id, one.partition);
            let first = first.and_then(|(_, partition)| partition.replicas.first());
            f64::from(u8::from(first.is_some_and(|node| node.0 == all.node)))
        },
    ),
    partition_gauge("kafka_topic_partition_replicas", "Replicas.", |all, one| {
        replicas(all, one).0 as f64
    }),
    partition_gauge("kafka_topic_partition_in_sync_replica", "Those in sync.", |all, one| {
        replicas(all, one).1 as f64
    }),
    partition_gauge(
        "kafka_topic_partition_under_replicated_partition",
        "1 if a replica is not in sync.",
        |all, one| {
            let (replicas, in_sync) = replicas(all, one);
            f64::from(u8::from(in_sync < replicas))
        },
    ),
    kminion_partition(
        "kminion_kafka_topic_partition_high_water_mark",
        "The high watermark.",
        |_, one| one.readable.0 as f64,
    ),
    kminion_partition(
        "kminion_kafka_topic_partition_low_water_mark",
        "The first offset.",
        |_, one| one.start.0 as f64,
    ),
];

const GROUPS: &[GroupRow] = &[
    GroupRow {
        name: "kafka_consumergroup_members",
        help: "Members of a group.",
        label: "consumergroup",
        value: |group| group.members as f64,
    },
    GroupRow {
        name: "kminion_kafka_consumer_group_members",
        help: "Members of a group.",
        label: "group_id",
        value: |group| group.members as f64,
    },
    GroupRow {
        name: "kminion_kafka_consumer_group_empty_members",
        help: "Members of a group without a partition.",
        label: "group_id",
        value: |group| group.idle as f64,
    },
];

const EXPORTER: (&str, &str) = ("consumergroup", "topic");
const KMINION: (&str, &str) = ("group_id", "topic_name");

const fn places(
    name: &'static str,
    help: &'static str,
    labels: (&'static str, &'static str),
    partition: Option<&'static str>,
    value: fn(Place) -> Option<i64>,
) -> PlaceRow {
    PlaceRow { name, help, labels, partition, value }
}

const PLACES: &[PlaceRow] = &[
    places(
        "kafka_consumergroup_current_offset",
        "A group's committed offset.",
        EXPORTER,
        Some("partition"),
        |place| Some(place.offset),
    ),
    places(
        "kafka_consumergroup_current_offset_sum",
        "A group's committed offsets of a topic together.",
        EXPORTER,
        None,
        |place| Some(place.offset),
    ),
    places(
        "kafka_consumergroup_lag",
        "Records that a group has not committed yet.",
        EXPORTER,
        Some("partition"),
        |place| place.lag,
    ),
    places(
        "kafka_consumergroup_lag_sum",
        "Records of a topic that a group has not committed yet.",
        EXPORTER,
        None,
        |place| place.lag,
    ),
    places(
        "kminion_kafka_consumer_group_topic_partition_lag",
        "Records that a group has not committed yet.",
        KMINION,
        Some("partition_id"),
        |place| place.lag,
    ),
    places(
        "kminion_kafka_consumer_group_topic_lag",
        "Records of a topic that a group has not committed yet.",
        KMINION,
        None,
        |place| place.lag,
    ),
    places(
        "kminion_kafka_consumer_group_topic_offset_sum",
        "A group's committed offsets of a topic together.",
        KMINION,
        None,
        |place| Some(place.offset),
    ),
];

fn offsets(all: &Survey) -> f64 {
    let offsets = all.groups.iter().flat_map(|group| group.offsets.values());
    offsets.map(|offsets| offsets.len()).sum::<usize>() as f64
}

fn replicas(all: &Survey, one: &Reading) -> (usize, usize) {
    let partition = all.image.partition(one.topic_id, one.partition);
    partition.map_or((0, 0), |(_, one)| (one.replicas.len(), one.isr.len()))
}

fn under_replicated(all: &Survey) -> usize {
    let lacks = |one: &&Reading| {
        let (replicas, in_sync) = replicas(all, one);
        in_sync < replicas
    };
    all.readings.iter().filter(lacks).count()
}

/// Writes all of it.
pub async fn write<I: Io>(all: &Survey, answer: &mut Answer<'_, I>) -> io::Result<()> {
    metrics::brokers(all, BROKER, answer).await?;
    metrics::brokers(all, TOTALS, answer).await?;
    group_counts(all, answer).await?;
    durations::write_kafka(all, answer).await?;
    metrics::topics(all, TOPICS, answer).await?;
    metrics::partitions(all, PARTITIONS, answer).await?;
    metrics::groups(all, GROUPS, answer).await?;
    metrics::places(all, PLACES, answer).await?;
    infos(all, answer).await
}

/// Groups by state, under Kafka's names of before and since KIP-1301.
async fn group_counts<I: Io>(all: &Survey, answer: &mut Answer<'_, I>) -> io::Result<()> {
    const COUNT: &str = "kafka_server_group_coordinator_metrics_group_count";
    const BY_STATE: &str = "kafka_server_group_coordinator_metrics_classic_group_count";
    const STATES: [(&str, &str); 5] = [
        (
            "PreparingRebalance",
            "kafka_coordinator_group_groupmetadatamanager_numgroupspreparingrebalance",
        ),
        (
            "CompletingRebalance",
            "kafka_coordinator_group_groupmetadatamanager_numgroupscompletingrebalance",
        ),
        ("Stable", "kafka_coordinator_group_groupmetadatamanager_numgroupsstable"),
        ("Empty", "kafka_coordinator_group_groupmetadatamanager_numgroupsempty"),
        ("Dead", "kafka_coordinator_group_groupmetadatamanager_numgroupsdead"),
    ];
    let count = |state| all.groups.iter().filter(|group| group.state == state).count();
    let out = &mut answer.text;
    for (state, name) in STATES {
        exposition::family(out, name, Gauge, "Consumer groups in this state.");
        sample(out, name, &[], count(state));
    }
    exposition::family(out, COUNT, Gauge, "Consumer groups, by protocol.");
    sample(out, COUNT, &[("protocol", &"classic")], all.groups.len());
    exposition::family(out, BY_STATE, Gauge, "Consumer groups, by state.");
    for (state, _) in STATES {
        sample(out, BY_STATE, &[("state", &state)], count(state));
    }
    answer.pause().await
}

/// kminion's families whose labels are what they tell.
async fn infos<I: Io>(all: &Survey, answer: &mut Answer<'_, I>) -> io::Result<()> {
    const CLUSTER: &str = "kminion_kafka_cluster_info";
    const TOPIC: &str = "kminion_kafka_topic_info";
    const GROUP: &str = "kminion_kafka_consumer_group_info";
    exposition::family(&mut answer.text, CLUSTER, Gauge, "1; the cluster is in the labels.");
    let labels: [(&str, &dyn Display); 4] = [
        ("broker_count", &all.image.brokers().count()),
        ("cluster_id", &all.image.cluster_id()),
        ("cluster_version", &concat!("trialog ", env!("CARGO_PKG_VERSION"))),
        ("controller_id", &all.node),
    ];
    sample(&mut answer.text, CLUSTER, &labels, 1);
    exposition::family(&mut answer.text, TOPIC, Gauge, "1; the topic is in the labels.");
    for topic in all.image.topics() {
        let copies = topic.partitions.first().map_or(0, |one| one.replicas.len());
        let labels: [(&str, &dyn Display); 4] = [
            ("cleanup_policy", &all.policies.get(&topic.name).copied().unwrap_or_default()),
            ("partition_count", &topic.partitions.len()),
            ("replication_factor", &copies),
            ("topic_name", &topic.name),
        ];
        sample(&mut answer.text, TOPIC, &labels, 1);
        answer.pause().await?;
    }
    exposition::family(&mut answer.text, GROUP, Gauge, "1 for a group that is stable, else 0.");
    for group in &all.groups {
        let labels: [(&str, &dyn Display); 5] = [
            ("coordinator_id", &all.node),
            ("group_id", &group.name),
            ("protocol", &group.protocol.1),
            ("protocol_type", &group.protocol.0),
            ("state", &group.state),
        ];
        sample(&mut answer.text, GROUP, &labels, u8::from(group.state == "Stable"));
        answer.pause().await?;
    }
    Ok(())
}
