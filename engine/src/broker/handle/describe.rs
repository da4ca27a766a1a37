//! DescribeCluster (KIP-700), DescribeTopicPartitions (KIP-966), DescribeLogDirs (KIP-113) and
//! DescribeProducers (KIP-664): what tools look at.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::find_topic;
use super::metadata::{CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED, TOPIC_OPERATIONS};
use crate::broker::ask::Ask;
use crate::broker::auth::{Operation, Resource};
use crate::broker::dispatch::Incoming;
use crate::broker::shard;
use crate::broker::{Core, advertise};
use crate::id::{PartitionIndex, TopicId};
use crate::io::Io;
use crate::log::ProducerSeen;
use crate::machine::Topic;
use crate::wire::api::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic, DescribeProducersPartitionResponse,
    DescribeProducersRequest, DescribeProducersResponse, DescribeProducersTopicResponse,
    DescribeTopicPartitionsCursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, ProducerState,
};
use crate::wire::code::ErrorCode;

/// The most partitions of one page (Kafka's `max.request.partition.size.limit`).
const PAGE_PARTITIONS_MAX: usize = 2000;

/// Describes the brokers.
pub async fn cluster<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    const BROKERS: i8 = 1;
    const CONTROLLERS: i8 = 2;
    if request.endpoint_type != BROKERS {
        let code = match request.endpoint_type {
            // They have no listener of their own here (KIP-919).
            CONTROLLERS => ErrorCode::MismatchedEndpointType,
            _ => ErrorCode::UnsupportedEndpointType,
        };
        incoming.refused(code, code.message());
        return DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some(code.message().to_owned()),
            endpoint_type: request.endpoint_type,
            ..DescribeClusterResponse::default()
        };
    }
    let (host, port) = advertise::address(&core, &incoming.client);
    let broker = DescribeClusterBroker {
        broker_id: core.shared.node.0,
        host,
        port: i32::from(port),
        ..DescribeClusterBroker::default()
    };
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: core.shared.image().cluster_id().to_string(),
        controller_id: core.shared.node.0,
        brokers: vec![broker],
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            OPERATIONS_NOT_ASKED
        },
        ..DescribeClusterResponse::default()
    }
}

/// Describes topics and their partitions in the order of names, page by page.
pub async fn topic_partitions<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = core.shared.image();
    let client = &incoming.client;
    let all = request.topics.is_empty();
    let names: BTreeSet<String> = if all {
        let allowed = |topic: &&Arc<Topic>| {
            client.authorizer.allows(client, Operation::Describe, Resource::Topic(&topic.name))
        };
        image.topics().filter(allowed).map(|topic| topic.name.to_string()).collect()
    } else {
        request.topics.into_iter().map(|topic| topic.name).collect()
    };
    let cursor = request.cursor.unwrap_or_default();
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut left = limit.clamp(1, PAGE_PARTITIONS_MAX);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.range(cursor.topic_name.clone()..) {
        if left == 0 {
            let topic_name = name.clone();
            response.next_cursor =
                Some(DescribeTopicPartitionsCursor { topic_name, partition_index: 0 });
            break;
        }
        let topic = match find_topic(&image, client, Operation::Describe, name, TopicId::NONE) {
            Ok(topic) => topic,
            Err(code) => {
                incoming.refused(code, format_args!("topic {name:?}: {}", code.message()));
                response.topics.push(DescribeTopicPartitionsResponseTopic {
                    error_code: code.code(),
                    name: Some(name.clone()),
                    ..DescribeTopicPartitionsResponseTopic::default()
                });
                continue;
            }
        };
        let first = if *name == cursor.topic_name { cursor.partition_index } else { 0 };
        let first = usize::try_from(first).unwrap_or(0);
        let partitions: Vec<_> = topic
            .indexed()
            .skip(first)
            .take(left)
            .map(|(index, partition)| DescribeTopicPartitionsResponsePartition {
                partition_index: index.0,
                leader_id: partition.leader.0,
                leader_epoch: partition.leader_epoch.0,
                replica_nodes: partition.replicas.iter().map(|node| node.0).collect(),
                isr_nodes: partition.isr.iter().map(|node| node.0).collect(),
                eligible_leader_replicas: Some(Vec::new()),
                last_known_elr: Some(Vec::new()),
                ..DescribeTopicPartitionsResponsePartition::default()
            })
            .collect();
        left -= partitions.len();
        let next = first + partitions.len();
        response.topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(name.clone()),
            topic_id: topic.id,
            is_internal: topic.is_internal(),
            partitions,
            topic_authorized_operations: TOPIC_OPERATIONS,
            ..DescribeTopicPartitionsResponseTopic::default()
        });
        if next < topic.partitions.len() {
            let partition_index = i32::try_from(next).expect("bounded at creation");
            let topic_name = name.clone();
            response.next_cursor =
                Some(DescribeTopicPartitionsCursor { topic_name, partition_index });
            break;
        }
    }
    response
}

type Answer<T> = oneshot::Sender<Result<T, ErrorCode>>;

async fn ask<I: Io, T>(
    core: &Rc<Core<I>>,
    topic: &Topic,
    index: PartitionIndex,
    what: fn(Answer<T>) -> Ask<I::File>,
) -> Result<T, ErrorCode> {
    let (answer, answered) = oneshot::channel();
    shard::ask(core, (topic.id, index), what(answer)).await;
    answered.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower))
}

/// Tells how large partitions are. There is one folder for all of them.
pub async fn log_dirs<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let client = &incoming.client;
    if !client.authorizer.allows(client, Operation::Describe, Resource::Cluster) {
        return DescribeLogDirsResponse {
            error_code: ErrorCode::ClusterAuthorizationFailed.code(),
            ..DescribeLogDirsResponse::default()
        };
    }
    let image = core.shared.image();
    let mut wanted: BTreeMap<Arc<str>, (Arc<Topic>, BTreeSet<PartitionIndex>)> = BTreeMap::new();
    match request.topics {
        None => {
            for topic in image.topics() {
                let indexes = topic.indexed().map(|(index, _)| index).collect();
                wanted.insert(topic.name.clone(), (topic.clone(), indexes));
            }
        }
        Some(topics) => {
            for asked in topics {
                let Some(topic) = image.topic(&asked.topic) else { continue };
                let indexes = asked.partitions.into_iter().map(PartitionIndex);
                let there = indexes.filter(|index| topic.partition(*index).is_some());
                let known = (topic.clone(), BTreeSet::new());
                wanted.entry(topic.name.clone()).or_insert(known).1.extend(there);
            }
        }
    }
    let mut topics = Vec::with_capacity(wanted.len());
    for (name, (topic, indexes)) in wanted {
        let mut partitions = Vec::with_capacity(indexes.len());
        for index in indexes {
            // One that cannot be asked has said why in the log.
            if let Ok(size) = ask(&core, &topic, index, Ask::Size).await {
                partitions.push(DescribeLogDirsPartition {
                    partition_index: index.0,
                    partition_size: signed(size),
                    offset_lag: 0,
                    is_future_key: false,
                });
            }
        }
        topics.push(DescribeLogDirsTopic { name: name.to_string(), partitions });
    }
    let space = core.io.space(&core.shared.data).await.ok();
    let result = DescribeLogDirsResult {
        log_dir: core.shared.data.display().to_string(),
        topics,
        total_bytes: space.map_or(-1, |space| signed(space.total)),
        usable_bytes: space.map_or(-1, |space| signed(space.free)),
        ..DescribeLogDirsResult::default()
    };
    DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Tells which idempotent producers partitions know.
pub async fn producers<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let image = core.shared.image();
    let client = &incoming.client;
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut named = BTreeSet::new();
    for asked in request.topics {
        let topic = find_topic(&image, client, Operation::Read, &asked.name, TopicId::NONE);
        let mut partitions = Vec::new();
        for index in asked.partition_indexes.into_iter().map(PartitionIndex) {
            // What is named again is not answered again: a partition may know many producers.
            if !named.insert((asked.name.clone(), index)) {
                continue;
            }
            let producers = match &topic {
                Ok(topic) if topic.partition(index).is_some() => {
                    ask(&core, topic, index, Ask::Producers).await
                }
                Ok(_) => Err(ErrorCode::UnknownTopicOrPartition),
                Err(code) => Err(*code),
            };
            if let Err(code) = &producers {
                let (name, why) = (&asked.name, code.message());
                incoming.refused(*code, format_args!("{name} partition {index}: {why}"));
            }
            partitions.push(producers_of(index, producers));
        }
        topics.push(DescribeProducersTopicResponse { name: asked.name, partitions });
    }
    DescribeProducersResponse { topics, ..DescribeProducersResponse::default() }
}

fn producers_of(
    index: PartitionIndex,
    producers: Result<Vec<ProducerSeen>, ErrorCode>,
) -> DescribeProducersPartitionResponse {
    let (code, producers) = match producers {
        Ok(producers) => (ErrorCode::None, producers),
        Err(code) => (code, Vec::new()),
    };
    let active_producers = producers.into_iter().map(|producer| ProducerState {
        producer_id: producer.id.0,
        producer_epoch: i32::from(producer.epoch.0),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction.0,
    });
    DescribeProducersPartitionResponse {
        partition_index: index.0,
        error_code: code.code(),
        error_message: (code != ErrorCode::None).then(|| code.message().to_owned()),
        active_producers: active_producers.collect(),
    }
}
