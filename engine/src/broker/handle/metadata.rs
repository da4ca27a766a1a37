//! Metadata: brokers, topics and leaders, and topics that come into being by being asked for.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use crate::broker::Core;
use crate::broker::advertise;
use crate::broker::auth::{Operation, Resource};
use crate::broker::dispatch::Incoming;
use crate::broker::host::{Refused, group};
use crate::id::TopicId;
use crate::io::Io;
use crate::machine::name::OFFSETS_TOPIC;
use crate::machine::{Command, Image, Layout, NewTopic, Refusal, Reply, Topic};
use crate::probe::{self, Probe};
use crate::wire::api::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use crate::wire::code::ErrorCode;

/// "Not asked for", in the fields of authorized operations (KIP-430).
pub(super) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;
/// Kafka's bits of all operations that exist on a topic: read, write, create, delete, alter,
/// describe, describe configs, alter configs.
pub(super) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// The same of the cluster: create, alter, describe, cluster action, describe configs, alter
/// configs, idempotent write.
pub(super) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// Describes the cluster, and all topics or those that are named.
pub async fn describe<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: MetadataRequest,
) -> MetadataResponse {
    let version = incoming.version;
    let everything = match &request.topics {
        None => true,
        // Version 0 has no null: an empty list stands for all topics.
        Some(topics) => version == 0 && topics.is_empty(),
    };
    let operations = if request.include_topic_authorized_operations {
        TOPIC_OPERATIONS
    } else {
        OPERATIONS_NOT_ASKED
    };
    let topics = if everything {
        let image = core.shared.image();
        let allowed = |topic: &&Arc<Topic>| {
            let resource = Resource::Topic(&topic.name);
            incoming.client.authorizer.allows(&incoming.client, Operation::Describe, resource)
        };
        image.topics().filter(allowed).map(|topic| found(topic, operations)).collect()
    } else {
        let create =
            core.shared.config.auto_create_topics_enable && request.allow_auto_topic_creation;
        let mut topics = Vec::new();
        // As in Kafka, what is named again is not answered again: a small request has no huge answer.
        let mut named = BTreeSet::new();
        for wanted in request.topics.unwrap_or_default() {
            if !named.insert((wanted.name.clone(), wanted.topic_id)) {
                continue;
            }
            topics.push(one(&core, &incoming, wanted, create, operations).await);
        }
        topics
    };
    let image = core.shared.image();
    MetadataResponse {
        brokers: vec![broker(&core, &incoming)],
        cluster_id: Some(image.cluster_id().to_string()),
        controller_id: core.shared.node.0,
        topics,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            OPERATIONS_NOT_ASKED
        },
        ..MetadataResponse::default()
    }
}

async fn one<I: Io>(
    core: &Rc<Core<I>>,
    incoming: &Incoming,
    wanted: MetadataRequestTopic,
    create: bool,
    operations: i32,
) -> MetadataResponseTopic {
    let failed = |code: ErrorCode| MetadataResponseTopic {
        error_code: code.code(),
        name: wanted.name.clone(),
        topic_id: wanted.topic_id,
        topic_authorized_operations: OPERATIONS_NOT_ASKED,
        ..MetadataResponseTopic::default()
    };
    let refused = |code: ErrorCode| {
        let why = code.message();
        match &wanted.name {
            Some(name) => incoming.refused(code, format_args!("topic {name:?}: {why}")),
            None => incoming.refused(code, format_args!("topic id {}: {why}", wanted.topic_id)),
        }
        failed(code)
    };
    if wanted.topic_id != TopicId::NONE && wanted.name.is_some() && incoming.version < 12 {
        // KIP-516: versions 10 and 11 have the field and no broker that answers it.
        return refused(ErrorCode::InvalidRequest);
    }
    let image: Arc<Image> = core.shared.image();
    let name = wanted.name.as_deref().unwrap_or("");
    match super::find_topic(&image, &incoming.client, Operation::Describe, name, wanted.topic_id) {
        Ok(topic) => found(&topic, operations),
        Err(ErrorCode::UnknownTopicOrPartition) if create => {
            match make(core, incoming, name).await {
                Ok(topic) => found(&topic, operations),
                // It has said why.
                Err(code) => failed(code),
            }
        }
        Err(ErrorCode::UnknownTopicOrPartition) => {
            let legal = crate::machine::name::check(name).is_ok();
            refused(if legal {
                ErrorCode::UnknownTopicOrPartition
            } else {
                ErrorCode::InvalidTopicException
            })
        }
        Err(code) => refused(code),
    }
}

/// Makes a topic with the broker's defaults.
async fn make<I: Io>(
    core: &Rc<Core<I>>,
    incoming: &Incoming,
    name: &str,
) -> Result<Arc<Topic>, ErrorCode> {
    let client = &incoming.client;
    if !client.authorizer.allows(client, Operation::Create, Resource::Topic(name)) {
        let code = ErrorCode::TopicAuthorizationFailed;
        incoming.refused(code, format_args!("topic {name:?}: {}", code.message()));
        return Err(code);
    }
    let config = &core.shared.config;
    let topic = if name == OFFSETS_TOPIC {
        group::offsets_topic(core)
    } else {
        NewTopic {
            name: name.to_owned(),
            id: TopicId::from_random(core.io.random(), core.io.random()),
            layout: Layout::Count {
                partitions: config.num_partitions,
                replication_factor: config.default_replication_factor,
            },
            configs: std::collections::BTreeMap::new(),
        }
    };
    if incoming.is_measured()
        && let Ok(Reply::TopicCreated(checked)) =
            core.shared.order(Command::ValidateTopic(topic.clone())).await
    {
        // Clients of every version ask again for a topic that is not there yet.
        super::may_mutate(core, incoming, 0, checked.partitions.len()).map_err(|code| {
            incoming.refused(code, format_args!("topic {name:?}: {}", code.message()));
            ErrorCode::UnknownTopicOrPartition
        })?;
    }
    match core.shared.order(Command::CreateTopic(topic)).await {
        Ok(Reply::TopicCreated(topic)) => {
            super::ready(core, &topic).await;
            Ok(topic)
        }
        Ok(other) => unreachable!("a creation is answered with a topic, not {other:?}"),
        // Another client was faster.
        Err(Refused::Machine(Refusal::TopicExists { .. })) => {
            probe::hit(Probe::AutoCreateRace);
            let image = core.shared.image();
            image.topic(name).cloned().ok_or(ErrorCode::LeaderNotAvailable)
        }
        Err(refused) => {
            incoming.warn(
                &format!("topic {name} cannot be made by asking for it: {refused}"),
                "use a legal name, or turn this off with auto.create.topics.enable=false",
            );
            Err(refused.code())
        }
    }
}

fn found(topic: &Topic, operations: i32) -> MetadataResponseTopic {
    let partitions = topic.indexed().map(|(index, partition)| MetadataResponsePartition {
        partition_index: index.0,
        leader_id: partition.leader.0,
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: partition.replicas.iter().map(|node| node.0).collect(),
        isr_nodes: partition.isr.iter().map(|node| node.0).collect(),
        ..MetadataResponsePartition::default()
    });
    MetadataResponseTopic {
        name: Some(topic.name.to_string()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        topic_authorized_operations: operations,
        ..MetadataResponseTopic::default()
    }
}

fn broker<I: Io>(core: &Core<I>, incoming: &Incoming) -> MetadataResponseBroker {
    let (host, port) = advertise::address(core, &incoming.client);
    MetadataResponseBroker {
        node_id: core.shared.node.0,
        host,
        port: i32::from(port),
        ..MetadataResponseBroker::default()
    }
}
