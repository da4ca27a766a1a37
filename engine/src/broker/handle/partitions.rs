//! CreatePartitions (KIP-195), and what a cluster of one node answers about where partitions are:
//! ElectLeaders (KIP-460) and ListPartitionReassignments (KIP-455).

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::find_topic;
use crate::broker::Core;
use crate::broker::auth::{Operation, Resource};
use crate::broker::dispatch::Incoming;
use crate::id::{NodeId, PartitionIndex, TopicId};
use crate::io::Io;
use crate::machine::{Command, MorePartitions, Reply, Topic};
use crate::wire::api::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult, ElectLeadersRequest, ElectLeadersResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, PartitionElectionResult,
    ReplicaElectionResult,
};
use crate::wire::code::ErrorCode;

type Failure = (ErrorCode, String);

/// The first version whose clients know that a quota may have nothing made (KIP-599).
const STRICT_SINCE: i16 = 3;

/// Adds partitions to topics, each on its own.
pub async fn create<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<String> = request
        .topics
        .iter()
        .filter(|topic| !seen.insert(&topic.name))
        .map(|topic| topic.name.clone())
        .collect();
    let mut results = Vec::new();
    let mut told = BTreeSet::new();
    let mut grown = Vec::new();
    for wanted in request.topics {
        let name = wanted.name.clone();
        // As in Kafka, a topic is answered once.
        if twice.contains(&name) && !told.insert(name.clone()) {
            continue;
        }
        let outcome = if twice.contains(&name) {
            let message = "the request names this topic more than once".to_owned();
            Err((ErrorCode::InvalidRequest, message))
        } else {
            create_one(&core, &incoming, wanted, request.validate_only).await
        };
        let (code, error_message) = match outcome {
            Ok(topic) => {
                grown.extend((!request.validate_only).then_some(topic));
                (ErrorCode::None, None)
            }
            Err((code, message)) => {
                super::topic_refused(&incoming, &name, code, &message);
                (code, Some(message))
            }
        };
        results.push(CreatePartitionsTopicResult { name, error_code: code.code(), error_message });
    }
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let ready = async {
        for topic in &grown {
            super::ready(&core, topic).await;
        }
    };
    tokio::select! {
        biased; // Being ready counts, however late it is; the partitions exist either way.
        () = ready => {}
        () = core.io.sleep(timeout) => {}
    }
    CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() }
}

async fn create_one<I: Io>(
    core: &Core<I>,
    incoming: &Incoming,
    wanted: CreatePartitionsTopic,
    validate_only: bool,
) -> Result<Arc<Topic>, Failure> {
    let plain = |code: ErrorCode| (code, code.message().to_owned());
    let image = core.shared.image();
    let client = &incoming.client;
    let topic =
        find_topic(&image, client, Operation::Alter, &wanted.name, TopicId::NONE).map_err(plain)?;
    if topic.is_internal() {
        let message = "an internal topic's keys are spread over a fixed number of partitions";
        return Err((ErrorCode::InvalidTopicException, message.to_owned()));
    }
    let brokers = |one: Vec<i32>| one.into_iter().map(NodeId).collect();
    let assignments = wanted.assignments;
    let more = MorePartitions {
        name: wanted.name,
        count: wanted.count,
        assignment: assignments
            .map(|all| all.into_iter().map(|one| brokers(one.broker_ids)).collect()),
    };
    if validate_only {
        return ordered(core, Command::ValidatePartitions(more)).await;
    }
    if incoming.is_measured() {
        let checked = ordered(core, Command::ValidatePartitions(more.clone())).await?;
        let added = checked.partitions.len().saturating_sub(topic.partitions.len());
        super::may_mutate(core, incoming, STRICT_SINCE, added).map_err(plain)?;
    }
    ordered(core, Command::CreatePartitions(more)).await
}

/// Has a topic given more partitions, or looks whether it could be.
async fn ordered<I: Io>(core: &Core<I>, command: Command) -> Result<Arc<Topic>, Failure> {
    match core.shared.order(command).await {
        Ok(Reply::PartitionsCreated(topic)) => Ok(topic),
        Ok(other) => unreachable!("more partitions are answered with a topic, not {other:?}"),
        Err(refused) => Err((refused.code(), refused.to_string())),
    }
}

/// Answers that every partition is led by the only replica it has.
pub async fn elect<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let client = &incoming.client;
    if !client.authorizer.allows(client, Operation::Alter, Resource::Cluster) {
        return ElectLeadersResponse {
            error_code: ErrorCode::ClusterAuthorizationFailed.code(),
            ..ElectLeadersResponse::default()
        };
    }
    let image = core.shared.image();
    let result = |index: PartitionIndex, code: ErrorCode| PartitionElectionResult {
        partition_id: index.0,
        error_code: code.code(),
        error_message: Some(code.message().to_owned()),
    };
    // Null means all, of which only those that need an election are told: none.
    let asked = request.topic_partitions.unwrap_or_default();
    let mut named = BTreeSet::new();
    let results = asked.into_iter().map(|asked| {
        let topic = image.topic(&asked.topic);
        // One that is named again is not answered again.
        let mut indexes = asked.partitions;
        indexes.retain(|index| named.insert((asked.topic.clone(), *index)));
        let results = indexes.into_iter().map(PartitionIndex).map(|index| {
            let known = topic.is_some_and(|topic| topic.partition(index).is_some());
            let code = ErrorCode::UnknownTopicOrPartition;
            result(index, if known { ErrorCode::ElectionNotNeeded } else { code })
        });
        ReplicaElectionResult { topic: asked.topic, partition_result: results.collect() }
    });
    ElectLeadersResponse {
        replica_election_results: results.collect(),
        ..ElectLeadersResponse::default()
    }
}

/// Answers that nothing is being moved: there is nowhere to move it.
pub async fn reassignments<I: Io>(
    _core: Rc<Core<I>>,
    incoming: Incoming,
    _request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let client = &incoming.client;
    let mut response = ListPartitionReassignmentsResponse::default();
    if !client.authorizer.allows(client, Operation::Describe, Resource::Cluster) {
        response.error_code = ErrorCode::ClusterAuthorizationFailed.code();
    }
    response
}
