//! `/metrics`: this broker's own families, then the same numbers under the names that dashboards
//! made for Kafka ask for ([`super::kafka_names`]).
//!
//! Each family is a row of a table: what there is to know about a broker, a topic, a partition, an
//! API or a group is gathered before ([`super::survey`]), and a row picks one number of it.

use std::fmt::Display;

use super::answer::Answer;
use super::durations;
use super::exposition::{self, Kind, sample};
use super::kafka_names;
use super::lag::Group;
use super::process;
use super::survey::{Sum, Survey};
use crate::broker::dispatch::SERVED;
use crate::broker::gauge::Reading;
use crate::io::{self, Io};

/// A family with one sample.
pub struct BrokerRow(pub &'static str, pub Kind, pub &'static str, pub fn(&Survey) -> f64);

/// A family with a sample for each topic, labelled by its name, and perhaps one of all together.
pub struct TopicRow {
    /// The family's name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// What it tells.
    pub help: &'static str,
    /// How it labels a topic.
    pub label: &'static str,
    /// The number of one topic.
    pub value: fn(&Sum) -> f64,
    /// The number of all topics together, without a label.
    pub all: Option<fn(&Survey) -> f64>,
}

/// A family with a sample for each partition.
pub struct PartitionRow {
    /// The family's name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// What it tells.
    pub help: &'static str,
    /// How it labels a topic and a partition.
    pub labels: (&'static str, &'static str),
    /// The number.
    pub value: fn(&Survey, &Reading) -> f64,
}

/// A family with a sample for each API that was asked for.
pub struct ApiRow(pub &'static str, pub Kind, pub &'static str, pub fn(&Survey, usize) -> f64);

/// A family with a sample for each group.
pub struct GroupRow {
    /// The family's name.
    pub name: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// How it labels a group.
    pub label: &'static str,
    /// The number.
    pub value: fn(&Group) -> f64,
}

/// What a group's offsets say: of one partition, or of a topic's partitions together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// The committed offset.
    pub offset: i64,
    /// How many records are behind it; `None` if it is not known where the partition ends.
    pub lag: Option<i64>,
}

/// A family with a sample for each partition, or each topic, of each group.
pub struct PlaceRow {
    /// The family's name.
    pub name: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// How it labels group and topic.
    pub labels: (&'static str, &'static str),
    /// How it labels a partition; without it all of a topic's are added.
    pub partition: Option<&'static str>,
    /// The number, if there is one.
    pub value: fn(Place) -> Option<i64>,
}

use Kind::{Counter, Gauge};

const BROKER: &[BrokerRow] = &[
    BrokerRow("trialog_cores", Gauge, "Cores that the broker runs on.", |all| all.cores as f64),
    BrokerRow("trialog_started", Gauge, "1 once every log is open, else 0.", |all| {
        f64::from(u8::from(all.started))
    }),
    BrokerRow("trialog_stopping", Gauge, "1 once the broker was told to stop, else 0.", |all| {
        f64::from(u8::from(all.stopping))
    }),
    BrokerRow("trialog_start_logs", Gauge, "Logs to be opened at the start.", |all| {
        all.start.logs as f64
    }),
    BrokerRow("trialog_start_logs_opened", Gauge, "How many of them are open or offline.", |all| {
        all.start.logs_opened as f64
    }),
    BrokerRow(
        "trialog_start_logs_recovered",
        Gauge,
        "How many had not been closed cleanly and were recovered.",
        |all| all.start.logs_recovered as f64,
    ),
    BrokerRow("trialog_start_recovered_bytes", Gauge, "Bytes read to recover them.", |all| {
        all.start.recovered_bytes as f64
    }),
    BrokerRow("trialog_connections", Gauge, "Open connections of Kafka clients.", |all| {
        all.counts.connections as f64
    }),
    BrokerRow("trialog_connections_accepted_total", Counter, "Connections accepted.", |all| {
        all.counts.accepted as f64
    }),
    BrokerRow(
        "trialog_connections_turned_away_total",
        Counter,
        "Connections closed at once because a core had as many as it takes.",
        |all| all.counts.turned_away as f64,
    ),
    BrokerRow(
        "trialog_request_memory_waits_total",
        Counter,
        "How often a large request had to wait for memory (queued.max.request.bytes).",
        |all| all.counts.memory_waits as f64,
    ),
    BrokerRow("trialog_received_bytes_total", Counter, "Bytes read from clients.", |all| {
        all.counts.received_bytes as f64
    }),
    BrokerRow("trialog_sent_bytes_total", Counter, "Bytes written to clients.", |all| {
        all.counts.sent_bytes as f64
    }),
    BrokerRow(
        "trialog_fetch_partitions_failed_total",
        Counter,
        "Partitions of fetches that were answered with an error.",
        |all| all.counts.fetches_failed as f64,
    ),
    BrokerRow(
        "trialog_disk_level",
        Gauge,
        "0: room; 1: less than trialog.disk.free.warn.bytes; 2: full, producers are refused.",
        |all| f64::from(all.room.0 as u8),
    ),
    BrokerRow(
        "trialog_disk_free_bytes",
        Gauge,
        "Free bytes where the data are; -1 if the system does not say.",
        |all| all.room.1.map_or(-1.0, |free| free as f64),
    ),
    BrokerRow(
        "trialog_disk_free_warn_bytes",
        Gauge,
        "The setting trialog.disk.free.warn.bytes.",
        |all| all.room.2.warn as f64,
    ),
    BrokerRow(
        "trialog_disk_free_min_bytes",
        Gauge,
        "The setting trialog.disk.free.min.bytes.",
        |all| all.room.2.min as f64,
    ),
    BrokerRow(
        "trialog_batches_refused_full_total",
        Counter,
        "Batches of producers refused because the disk is full.",
        |all| all.counts.produces_without_room as f64,
    ),
    BrokerRow("trialog_topics", Gauge, "Topics of the cluster.", |all| {
        all.image.topics().len() as f64
    }),
    BrokerRow("trialog_partitions", Gauge, "Partitions of the cluster.", |all| {
        all.image.partition_count() as f64
    }),
    BrokerRow("trialog_partitions_open", Gauge, "Partitions served by this broker.", |all| {
        all.readings.len() as f64
    }),
    BrokerRow(
        "trialog_partitions_offline",
        Gauge,
        "Partitions of this broker whose log is out of use; the broker's log names them.",
        |all| all.offline() as f64,
    ),
    BrokerRow("trialog_groups", Gauge, "Consumer groups.", |all| all.groups.len() as f64),
    BrokerRow(
        "trialog_groups_partitions_silent",
        Gauge,
        "Partitions of __consumer_offsets that did not tell their groups: they are being read.",
        |all| all.groups_silent as f64,
    ),
];

const TOPIC: &str = "topic";

const TOPICS: &[TopicRow] = &[
    TopicRow {
        name: "trialog_topic_records_in_total",
        kind: Counter,
        help: "Records appended, by topic.",
        label: TOPIC,
        value: |sum| sum.messages_in as f64,
        all: None,
    },
    TopicRow {
        name: "trialog_topic_bytes_in_total",
        kind: Counter,
        help: "Bytes of record batches appended, by topic.",
        label: TOPIC,
        value: |sum| sum.bytes_in as f64,
        all: None,
    },
    TopicRow {
        name: "trialog_topic_bytes_out_total",
        kind: Counter,
        help: "Bytes of record batches sent in answers to fetches, by topic.",
        label: TOPIC,
        value: |sum| sum.bytes_out as f64,
        all: None,
    },
    TopicRow {
        name: "trialog_topic_size_bytes",
        kind: Gauge,
        help: "Bytes of record batches on the disk, by topic.",
        label: TOPIC,
        value: |sum| sum.size_bytes as f64,
        all: None,
    },
];

const PARTITION: (&str, &str) = (TOPIC, "partition");

const PARTITIONS: &[PartitionRow] = &[
    PartitionRow {
        name: "trialog_partition_start_offset",
        kind: Gauge,
        help: "The first offset that can be read.",
        labels: PARTITION,
        value: |_, one| one.start.0 as f64,
    },
    PartitionRow {
        name: "trialog_partition_readable_end_offset",
        kind: Gauge,
        help: "The high watermark: everything below may be read.",
        labels: PARTITION,
        value: |_, one| one.readable.0 as f64,
    },
    PartitionRow {
        name: "trialog_partition_end_offset",
        kind: Gauge,
        help: "The offset that the next record will get.",
        labels: PARTITION,
        value: |_, one| one.end.0 as f64,
    },
    PartitionRow {
        name: "trialog_partition_unflushed_records",
        kind: Gauge,
        help: "Records that are not on the disk yet.",
        labels: PARTITION,
        value: |_, one| (one.end.0 - one.flushed.0).max(0) as f64,
    },
    PartitionRow {
        name: "trialog_partition_produces_waiting",
        kind: Gauge,
        help: "Produces that wait for a flush, or are being appended.",
        labels: PARTITION,
        value: |_, one| one.waiting as f64,
    },
    PartitionRow {
        name: "trialog_partition_size_bytes",
        kind: Gauge,
        help: "Bytes of record batches on the disk.",
        labels: PARTITION,
        value: |_, one| one.bytes as f64,
    },
];

const APIS: &[ApiRow] = &[ApiRow(
    "trialog_requests_refused_total",
    Counter,
    "Requests refused in whole or in part, by API; the broker's log says why.",
    |all, api| all.refused[api] as f64,
)];

const GROUPS: &[GroupRow] = &[GroupRow {
    name: "trialog_group_members",
    help: "Members of a consumer group.",
    label: "group",
    value: |group| group.members as f64,
}];

const PLACES: &[PlaceRow] = &[
    PlaceRow {
        name: "trialog_group_offset",
        help: "A group's committed offset.",
        labels: ("group", TOPIC),
        partition: Some("partition"),
        value: |place| Some(place.offset),
    },
    PlaceRow {
        name: "trialog_group_lag_records",
        help: "Records that a group has not committed yet.",
        labels: ("group", TOPIC),
        partition: Some("partition"),
        value: |place| place.lag,
    },
];

/// Writes everything.
pub async fn write<I: Io>(all: &Survey, answer: &mut Answer<'_, I>) -> io::Result<()> {
    let out = &mut answer.text;
    exposition::family(out, "trialog_build_info", Gauge, "1; the version is a label.");
    let version: &dyn Display = &env!("CARGO_PKG_VERSION");
    sample(out, "trialog_build_info", &[("version", version)], 1);
    brokers(all, BROKER, answer).await?;
    durations::write(all, answer).await?;
    apis(all, APIS, answer).await?;
    topics(all, TOPICS, answer).await?;
    partitions(all, PARTITIONS, answer).await?;
    groups(all, GROUPS, answer).await?;
    places(all, PLACES, answer).await?;
    states(all, answer).await?;
    process::write(all.usage, answer).await?;
    kafka_names::write(all, answer).await
}

/// Families of one sample.
pub async fn brokers<I: Io>(
    all: &Survey,
    rows: &[BrokerRow],
    answer: &mut Answer<'_, I>,
) -> io::Result<()> {
    for BrokerRow(name, kind, help, value) in rows {
        exposition::family(&mut answer.text, name, *kind, help);
        sample(&mut answer.text, name, &[], value(all));
    }
    answer.pause().await
}

/// Families of APIs.
pub async fn apis<I: Io>(
    all: &Survey,
    rows: &[ApiRow],
    answer: &mut Answer<'_, I>,
) -> io::Result<()> {
    for ApiRow(name, kind, help, value) in rows {
        exposition::family(&mut answer.text, name, *kind, help);
        for (number, (api, _)) in SERVED.iter().enumerate() {
            if all.times.latencies[number].count() > 0 || all.refused[number] > 0 {
                let labels: [(&str, &dyn Display); 1] = [("api", &api.name())];
                sample(&mut answer.text, name, &labels, value(all, number));
            }
        }
    }
    answer.pause().await
}

/// Families of topics.
pub async fn topics<I: Io>(
    all: &Survey,
    rows: &[TopicRow],
    answer: &mut Answer<'_, I>,
) -> io::Result<()> {
    for TopicRow { name, kind, help, label, value, all: together } in rows {
        exposition::family(&mut answer.text, name, *kind, help);
        if let Some(together) = together {
            sample(&mut answer.text, name, &[], together(all));
        }
        for (topic, sum) in &all.topics {
            sample(&mut answer.text, name, &[(label, topic)], value(sum));
            answer.pause().await?;
        }
    }
    Ok(())
}

/// Families of partitions.
pub async fn partitions<I: Io>(
    all: &Survey,
    rows: &[PartitionRow],
    answer: &mut Answer<'_, I>,
) -> io::Result<()> {
    for PartitionRow { name, kind, help, labels, value } in rows {
        exposition::family(&mut answer.text, name, *kind, help);
        for one in &all.readings {
            let labels: [(&str, &dyn Display); 2] =
                [(labels.0, &one.topic), (labels.1, &one.partition)];
            sample(&mut answer.text, name, &labels, value(all, one));
            answer.pause().await?;
        }
    }
    Ok(())
}

/// Families of groups.
pub async fn groups<I: Io>(
    all: &Survey,
    rows: &[GroupRow],
    answer: &mut Answer<'_, I>,
) -> io::Result<()> {
    for GroupRow { name, help, label, value } in rows {
        exposition::family(&mut answer.text, name, Gauge, help);
        for group in &all.groups {
            sample(&mut answer.text, name, &[(label, &group.name)], value(group));
            answer.pause().await?;
        }
    }
    Ok(())
}

/// Families of groups' offsets.
pub async fn places<I: Io>(
    all: &Survey,
    rows: &[PlaceRow],
    answer: &mut Answer<'_, I>,
) -> io::Result<()> {
    let ends = all.ends();
    for PlaceRow { name, help, labels, partition, value } in rows {
        exposition::family(&mut answer.text, name, Gauge, help);
        for group in &all.groups {
            for (topic, offsets) in &group.offsets {
                let mut sum = None;
                let who: [(&str, &dyn Display); 2] = [(labels.0, &group.name), (labels.1, topic)];
                for (&index, &offset) in offsets {
                    let lag = ends.get(&(topic.as_str(), index)).map(|end| (end - offset).max(0));
                    let Some(number) = value(Place { offset, lag }) else { continue };
                    match partition {
                        Some(label) => {
                            let labels = [who[0], who[1], (*label, &index as &dyn Display)];
                            sample(&mut answer.text, name, &labels, number);
                            answer.pause().await?;
                        }
                        None => sum = Some(sum.unwrap_or(0) + number),
                    }
                }
                if let Some(sum) = sum {
                    sample(&mut answer.text, name, &who, sum);
                    answer.pause().await?;
                }
            }
        }
    }
    Ok(())
}

async fn states<I: Io>(all: &Survey, answer: &mut Answer<'_, I>) -> io::Result<()> {
    const NAME: &str = "trialog_group_state";
    exposition::family(&mut answer.text, NAME, Gauge, "1; a group's state is a label.");
    for group in &all.groups {
        let labels: [(&str, &dyn Display); 2] = [("group", &group.name), ("state", &group.state)];
        sample(&mut answer.text, NAME, &labels, 1);
        answer.pause().await?;
    }
    Ok(())
}
