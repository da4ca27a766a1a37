//! One file per family of requests. Handlers decide what a request means, ask partitions, groups or
//! the cluster machine, and put the answer together. They never call each other.

pub mod commit;
pub mod configs;
pub mod coordinator;
pub mod describe;
pub mod fetch;
pub mod groups;
pub mod lone;
pub mod membership;
pub mod metadata;
pub mod offsets;
pub mod partitions;
pub mod produce;
pub mod producer_id;
pub mod quotas;
pub mod records;
pub mod scram;
pub mod topics;
pub mod train;
pub mod versions;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::ask::Ask;
use super::auth::{Operation, Resource};
use super::dispatch::{Client, Incoming};
use super::{Core, shard};
use crate::id::{LeaderEpoch, NodeId, PartitionIndex, TopicId};
use crate::io::Io;
use crate::machine::quota::Quota;
use crate::machine::{Image, Topic};
use crate::wire::code::ErrorCode;

/// Finds the topic that a request names by id (from the version on that has ids) or by name, and
/// checks that the client may do `operation` on it.
fn find_topic(
    image: &Image,
    client: &Client,
    operation: Operation,
    name: &str,
    id: TopicId,
) -> Result<Arc<Topic>, ErrorCode> {
    let by_id = id != TopicId::NONE;
    let topic = if by_id { image.topic_by_id(id) } else { image.topic(name) };
    let named = topic.map_or(name, |topic| &topic.name);
    if !client.authorizer.allows(client, operation, Resource::Topic(named)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    topic.cloned().ok_or(if by_id {
        ErrorCode::UnknownTopicId
    } else {
        ErrorCode::UnknownTopicOrPartition
    })
}

/// Checks that the client may do `operation` on a consumer group.
fn may_in_group(incoming: &Incoming, operation: Operation, group: &str) -> Result<(), ErrorCode> {
    let client = &incoming.client;
    if client.authorizer.allows(client, operation, Resource::Group(group)) {
        Ok(())
    } else {
        Err(ErrorCode::GroupAuthorizationFailed)
    }
}

/// Counts and logs why a topic is not made, changed or deleted.
fn topic_refused(incoming: &Incoming, topic: &str, code: ErrorCode, message: &str) {
    incoming.refused(code, format_args!("topic {topic}: {message}"));
}

/// Counts and logs what is said against a request by a group, or about one, if anything is.
fn group_said(incoming: &Incoming, group: &str, code: i16) {
    let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
    if code != ErrorCode::None {
        incoming.refused(code, format_args!("group {group:?}: {}", code.message()));
    }
}

/// Charges so many partitions, which are about to be made or deleted, to the quota of whoever asks
/// (KIP-599). Requests from version `strict_since` on are refused while that is used up: their clients know
/// the error, wait and ask again. Older ones are carried out, and their clients wait afterwards. Checks
/// without consequences cost nothing, nor does what fails them.
fn may_mutate<I: Io>(
    core: &Core<I>,
    incoming: &Incoming,
    strict_since: i16,
    partitions: usize,
) -> Result<(), ErrorCode> {
    let (quota, amount) = (Quota::ControllerMutationRate, partitions as f64);
    if incoming.version < strict_since {
        incoming.charge(core, quota, amount);
        return Ok(());
    }
    let paid = incoming.charge_if_paid(core, quota, amount);
    if paid { Ok(()) } else { Err(ErrorCode::ThrottlingQuotaExceeded) }
}

/// What is named more than once. A request that names one thing very many times is not to have it looked at,
/// or answered, as often.
fn repeated<T: Ord + Copy>(named: impl Iterator<Item = T>) -> BTreeSet<T> {
    let mut seen = BTreeSet::new();
    named.filter(|one| !seen.insert(*one)).collect()
}

/// The leader and epoch of a partition, as the image has them.
fn leader(topic: &Topic, index: PartitionIndex) -> Option<(NodeId, LeaderEpoch)> {
    topic.partition(index).map(|partition| (partition.leader, partition.leader_epoch))
}

/// Completes once every partition of the topic can be read.
async fn ready<I: Io>(core: &Rc<Core<I>>, topic: &Topic) {
    let mut answers = Vec::with_capacity(topic.partitions.len());
    for (index, _) in topic.indexed() {
        let (answer, ready) = oneshot::channel();
        shard::ask(core, (topic.id, index), Ask::Ready(answer)).await;
        answers.push(ready);
    }
    for ready in answers {
        // A partition that cannot be opened has said so in the log, and answers reads itself.
        let _ = ready.await;
    }
}
