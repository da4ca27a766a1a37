//! CreateTopics and DeleteTopics: commands for the cluster machine. A creation is answered once
//! the topic's partitions can be read, because several clients do not retry on a fresh topic.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::Core;
use crate::broker::auth::{Operation, Resource};
use crate::broker::dispatch::Incoming;
use crate::broker::host::{Refused, group};
use crate::config;
use crate::id::{NodeId, PartitionIndex, TopicId};
use crate::io::Io;
use crate::machine::name::OFFSETS_TOPIC;
use crate::machine::{Command, Layout, NewTopic, Reply, Topic};
use crate::probe::{self, Probe};
use crate::wire::api::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse, DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use crate::wire::code::ErrorCode;

type Failure = (ErrorCode, String);

/// The first versions whose clients know that a quota may have nothing made or deleted (KIP-599).
const CREATE_STRICT_SINCE: i16 = 6;
const DELETE_STRICT_SINCE: i16 = 5;

/// Makes topics, each on its own: one that fails does not hold up the others.
pub async fn create<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut topics = Vec::new();
    let mut told = BTreeSet::new();
    let mut made = Vec::new();
    let mut named: BTreeMap<&str, u32> = BTreeMap::new();
    for wanted in &request.topics {
        *named.entry(&wanted.name).or_default() += 1;
    }
    for wanted in &request.topics {
        // As in Kafka, a topic is answered once.
        if !told.insert(&wanted.name) {
            continue;
        }
        let outcome = if named[wanted.name.as_str()] > 1 {
            let message = "the request names this topic more than once".to_owned();
            Err((ErrorCode::InvalidRequest, message))
        } else {
            create_one(&core, &incoming, wanted, request.validate_only).await
        };
        topics.push(match outcome {
            Ok(topic) => {
                let result = created(&core, &topic);
                if !request.validate_only {
                    made.push(topic);
                }
                result
            }
            Err((code, message)) => {
                super::topic_refused(&incoming, &wanted.name, code, &message);
                CreatableTopicResult {
                    name: wanted.name.clone(),
                    error_code: code.code(),
                    error_message: Some(message),
                    num_partitions: -1,
                    replication_factor: -1,
                    ..CreatableTopicResult::default()
                }
            }
        });
    }
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let ready = async {
        for topic in &made {
            super::ready(&core, topic).await;
        }
    };
    tokio::select! {
        biased; // Being ready counts, however late it is; the topics exist either way.
        () = ready => {}
        () = core.io.sleep(timeout) => probe::hit(Probe::ReadyLate),
    }
    CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }
}

async fn create_one<I: Io>(
    core: &Rc<Core<I>>,
    incoming: &Incoming,
    wanted: &CreatableTopic,
    validate_only: bool,
) -> Result<Arc<Topic>, Failure> {
    let client = &incoming.client;
    if !client.authorizer.allows(client, Operation::Create, Resource::Topic(&wanted.name)) {
        return Err(plain(ErrorCode::TopicAuthorizationFailed));
    }
    let mut topic = NewTopic {
        name: wanted.name.clone(),
        id: TopicId::from_random(core.io.random(), core.io.random()),
        layout: layout(core, wanted)?,
        configs: configs(wanted)?,
    };
    if wanted.name == OFFSETS_TOPIC {
        // Kafka makes it as it is wanted, and commits may then be deleted, or lost in a power cut.
        let own = group::offsets_topic(core);
        if wanted.num_partitions == -1 && wanted.assignments.is_empty() {
            topic.layout = own.layout;
        }
        topic.configs.extend(own.configs);
    }
    if validate_only {
        return ordered(core, Command::ValidateTopic(topic)).await;
    }
    if incoming.is_measured() {
        let checked = ordered(core, Command::ValidateTopic(topic.clone())).await?;
        super::may_mutate(core, incoming, CREATE_STRICT_SINCE, checked.partitions.len())
            .map_err(plain)?;
    }
    ordered(core, Command::CreateTopic(topic)).await
}

/// Has a topic made, or looks whether it could be.
async fn ordered<I: Io>(core: &Core<I>, command: Command) -> Result<Arc<Topic>, Failure> {
    match core.shared.order(command).await {
        Ok(Reply::TopicCreated(topic)) => Ok(topic),
        Ok(other) => unreachable!("a creation is answered with a topic, not {other:?}"),
        Err(refused) => Err(failure(&refused)),
    }
}

fn layout<I: Io>(core: &Core<I>, wanted: &CreatableTopic) -> Result<Layout, Failure> {
    let config = &core.shared.config;
    if wanted.assignments.is_empty() {
        // -1 asks for the broker's default (KIP-464).
        let partitions = match wanted.num_partitions {
            -1 => config.num_partitions,
            given => given,
        };
        let replication_factor = match wanted.replication_factor {
            -1 => config.default_replication_factor,
            given => given,
        };
        return Ok(Layout::Count { partitions, replication_factor });
    }
    if wanted.num_partitions != -1 || wanted.replication_factor != -1 {
        let message = "with a manual assignment, the number of partitions and the replication \
                       factor must both be -1";
        return Err((ErrorCode::InvalidRequest, message.to_owned()));
    }
    let mut manual = BTreeMap::new();
    for assignment in &wanted.assignments {
        let brokers = assignment.broker_ids.iter().copied().map(NodeId).collect();
        if manual.insert(PartitionIndex(assignment.partition_index), brokers).is_some() {
            let message = format!("partition {} is assigned twice", assignment.partition_index);
            return Err((ErrorCode::InvalidReplicaAssignment, message));
        }
    }
    Ok(Layout::Manual(manual))
}

fn configs(wanted: &CreatableTopic) -> Result<BTreeMap<String, String>, Failure> {
    let mut configs = BTreeMap::new();
    for config in &wanted.configs {
        let Some(value) = &config.value else {
            let message = format!("{} has no value; leave it out for its default", config.name);
            return Err((ErrorCode::InvalidConfig, message));
        };
        if configs.insert(config.name.clone(), value.clone()).is_some() {
            let message = format!("{} is given twice", config.name);
            return Err((ErrorCode::InvalidConfig, message));
        }
    }
    Ok(configs)
}

fn created<I: Io>(core: &Core<I>, topic: &Topic) -> CreatableTopicResult {
    let config = |entry: config::topic::Entry| CreatableTopicConfigs {
        name: entry.key.name.to_owned(),
        value: Some(entry.value),
        read_only: false,
        config_source: entry.source.code(),
        is_sensitive: false,
    };
    CreatableTopicResult {
        name: topic.name.to_string(),
        topic_id: topic.id,
        num_partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
        replication_factor: topic
            .partitions
            .first()
            .and_then(|partition| i16::try_from(partition.replicas.len()).ok())
            .unwrap_or(-1),
        configs: Some(config::Topic::entries(&core.config(), &topic.configs).map(config).collect()),
        ..CreatableTopicResult::default()
    }
}

/// Deletes topics by name, or from version 6 on also by id.
pub async fn delete<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let by_name = request.topic_names.iter().map(|name| (Some(name.clone()), TopicId::NONE));
    let named = request.topics.iter().map(|topic| (topic.name.clone(), topic.topic_id));
    let mut responses = Vec::new();
    let mut told = BTreeSet::new();
    for (name, id) in by_name.chain(named) {
        // One that is named again is not answered again.
        if !told.insert((name.clone(), id)) {
            continue;
        }
        let outcome = delete_one(&core, &incoming, name.as_deref(), id).await;
        let (error, message, name, topic_id) = match outcome {
            Ok(topic) => (ErrorCode::None, None, Some(topic.name.to_string()), topic.id),
            Err((code, message)) => {
                let what = name.clone().unwrap_or_else(|| id.to_string());
                super::topic_refused(&incoming, &what, code, &message);
                (code, Some(message), name, id)
            }
        };
        responses.push(DeletableTopicResult {
            name,
            topic_id,
            error_code: error.code(),
            error_message: message,
        });
    }
    DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() }
}

async fn delete_one<I: Io>(
    core: &Rc<Core<I>>,
    incoming: &Incoming,
    name: Option<&str>,
    id: TopicId,
) -> Result<Arc<Topic>, Failure> {
    if !core.shared.config.delete_topic_enable {
        let message = "topics cannot be deleted: delete.topic.enable=false".to_owned();
        return Err((ErrorCode::TopicDeletionDisabled, message));
    }
    if name.is_some() && id != TopicId::NONE {
        let message = "give a name or an id, not both".to_owned();
        return Err((ErrorCode::InvalidRequest, message));
    }
    if name.is_none() && id == TopicId::NONE {
        let message = "give a name or an id".to_owned();
        return Err((ErrorCode::InvalidRequest, message));
    }
    let image = core.shared.image();
    let client = &incoming.client;
    let topic = super::find_topic(&image, client, Operation::Delete, name.unwrap_or(""), id)
        .map_err(plain)?;
    super::may_mutate(core, incoming, DELETE_STRICT_SINCE, topic.partitions.len())
        .map_err(plain)?;
    match core.shared.order(Command::DeleteTopic { id: topic.id }).await {
        Ok(_) => Ok(topic),
        Err(refused) => Err(failure(&refused)),
    }
}

fn plain(code: ErrorCode) -> Failure {
    (code, code.message().to_owned())
}

fn failure(refused: &Refused) -> Failure {
    (refused.code(), refused.to_string())
}
