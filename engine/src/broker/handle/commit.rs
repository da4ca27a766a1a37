//! OffsetCommit, OffsetFetch and OffsetDelete: which topics and partitions a request means is
//! decided here, what the group has to say to it by its machine.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::{find_topic, group_said, may_in_group};
use crate::broker::Core;
use crate::broker::auth::Operation;
use crate::broker::dispatch::Incoming;
use crate::broker::host::group;
use crate::id::{PartitionIndex, TopicId};
use crate::io::Io;
use crate::machine::Image;
use crate::machine::group::{Command, Committed, Places, Reply};
use crate::wire::api::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic, OffsetDeleteRequest,
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::wire::code::ErrorCode;

/// The first version of OffsetFetch that asks for several groups (KIP-709).
const FETCH_BATCHED: i16 = 8;
/// The first version of both that names topics by their ids.
const BY_ID: i16 = 10;

/// Remembers how far a group has read.
pub async fn commit<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    mut request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let group = request.group_id.clone();
    if let Err(code) = may_in_group(&incoming, Operation::Read, &group) {
        group_said(&incoming, &group, code.code());
        return refused_commit(request.topics, code);
    }
    let missing = match incoming.version {
        ..BY_ID => ErrorCode::UnknownTopicOrPartition,
        _ => ErrorCode::UnknownTopicId,
    };
    let image = core.shared.image();
    let mut topics = Vec::new();
    let mut known = Vec::new();
    for mut topic in std::mem::take(&mut request.topics) {
        match find_topic(&image, &incoming.client, Operation::Read, &topic.name, topic.topic_id) {
            Ok(found) => {
                // Whatever has the name when it comes to the group.
                (topic.name, topic.topic_id) = (found.name.to_string(), found.id);
                let all = std::mem::take(&mut topic.partitions);
                let (there, missing) = all.into_iter().partition(|one| {
                    found.partition(PartitionIndex(one.partition_index)).is_some()
                });
                topic.partitions = missing;
                if !topic.partitions.is_empty() {
                    topics.push(refused_topic(topic.clone(), ErrorCode::UnknownTopicOrPartition));
                }
                topic.partitions = there;
                known.push(topic);
            }
            Err(code) => topics.push(refused_topic(topic, code)),
        }
    }
    request.topics = known.iter().filter(|topic| !topic.partitions.is_empty()).cloned().collect();
    if !request.topics.is_empty() || topics.is_empty() {
        let command = Command::Commit { ticket: core.ticket(), request };
        match group::ask(&core, &group, command).await {
            Ok(Reply::Committed(response)) => {
                let told: BTreeSet<&str> =
                    response.topics.iter().map(|topic| &*topic.name).collect();
                let is_gone = |one: &OffsetCommitRequestTopic| {
                    !one.partitions.is_empty() && !told.contains(&*one.name)
                };
                let gone = known.into_iter().filter(is_gone);
                topics.extend(gone.map(|topic| refused_topic(topic, missing)));
                topics.extend(response.topics);
            }
            Ok(other) => unreachable!("a commit is answered with a commit, not {other:?}"),
            Err(code) => topics.extend(refused_commit(known, code).topics),
        }
    }
    let topics = joined(topics);
    let mut partitions = topics.iter().flat_map(|topic| &topic.partitions);
    if let Some(first) = partitions.find(|one| one.error_code != ErrorCode::None.code()) {
        group_said(&incoming, &group, first.error_code);
    }
    OffsetCommitResponse { topics, ..OffsetCommitResponse::default() }
}

/// One entry for each topic: some clients look at the first one only.
fn joined(topics: Vec<OffsetCommitResponseTopic>) -> Vec<OffsetCommitResponseTopic> {
    let mut joined: Vec<OffsetCommitResponseTopic> = Vec::with_capacity(topics.len());
    let mut places: BTreeMap<(String, TopicId), usize> = BTreeMap::new();
    for topic in topics {
        match places.entry((topic.name.clone(), topic.topic_id)) {
            Entry::Occupied(place) => joined[*place.get()].partitions.extend(topic.partitions),
            Entry::Vacant(place) => {
                place.insert(joined.len());
                joined.push(topic);
            }
        }
    }
    joined
}

fn refused_topic(topic: OffsetCommitRequestTopic, code: ErrorCode) -> OffsetCommitResponseTopic {
    let refused = |partition_index| OffsetCommitResponsePartition {
        partition_index,
        error_code: code.code(),
    };
    let partitions = topic.partitions.iter().map(|one| refused(one.partition_index)).collect();
    OffsetCommitResponseTopic { name: topic.name, topic_id: topic.topic_id, partitions }
}

fn refused_commit(topics: Vec<OffsetCommitRequestTopic>, code: ErrorCode) -> OffsetCommitResponse {
    let topics = topics.into_iter().map(|topic| refused_topic(topic, code)).collect();
    OffsetCommitResponse { topics, ..OffsetCommitResponse::default() }
}

/// Tells how far groups have read. There are no transactions, so every offset is stable.
pub async fn fetch<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if incoming.version >= FETCH_BATCHED {
        let wanted = each_once(request.groups);
        let mut groups = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            groups.push(fetch_group(&core, &incoming, wanted).await);
        }
        return OffsetFetchResponse { groups, ..OffsetFetchResponse::default() };
    }
    let topics = request.topics.map(|topics| {
        let wanted = |topic: OffsetFetchRequestTopic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..OffsetFetchRequestTopics::default()
        };
        topics.into_iter().map(wanted).collect()
    });
    let wanted = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics,
        ..OffsetFetchRequestGroup::default()
    };
    let found = fetch_group(&core, &incoming, wanted).await;
    let topics = found.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(older).collect(),
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: found.error_code,
        ..OffsetFetchResponse::default()
    }
}

/// Each group with all that is wanted of it: a small request has no huge answer.
fn each_once(wanted: Vec<OffsetFetchRequestGroup>) -> Vec<OffsetFetchRequestGroup> {
    let mut groups: Vec<OffsetFetchRequestGroup> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for one in wanted {
        match places.entry(one.group_id.clone()) {
            Entry::Occupied(place) => {
                let topics = &mut groups[*place.get()].topics;
                // All of them, if any of it wants all.
                *topics = topics.take().zip(one.topics).map(|(mut topics, more)| {
                    topics.extend(more);
                    topics
                });
            }
            Entry::Vacant(place) => {
                place.insert(groups.len());
                groups.push(one);
            }
        }
    }
    groups
}

fn older(one: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: one.partition_index,
        committed_offset: one.committed_offset,
        committed_leader_epoch: one.committed_leader_epoch,
        metadata: one.metadata,
        error_code: one.error_code,
    }
}

async fn fetch_group<I: Io>(
    core: &Rc<Core<I>>,
    incoming: &Incoming,
    wanted: OffsetFetchRequestGroup,
) -> OffsetFetchResponseGroup {
    let OffsetFetchRequestGroup { group_id, topics, .. } = wanted;
    let image = core.shared.image();
    let outcome = fetch_places(core, incoming, &image, &group_id, topics).await;
    let (topics, error_code) = match outcome {
        Ok(topics) => (topics, ErrorCode::None),
        Err((code, topics)) => (topics, code),
    };
    group_said(incoming, &group_id, error_code.code());
    OffsetFetchResponseGroup { group_id, topics, error_code: error_code.code() }
}

type Fetched = Result<Vec<OffsetFetchResponseTopics>, (ErrorCode, Vec<OffsetFetchResponseTopics>)>;

async fn fetch_places<I: Io>(
    core: &Rc<Core<I>>,
    incoming: &Incoming,
    image: &Image,
    group: &str,
    wanted: Option<Vec<OffsetFetchRequestTopics>>,
) -> Fetched {
    let by_id = incoming.version >= BY_ID;
    let mut answered = Vec::new();
    let mut named = Vec::new();
    for mut topic in wanted.iter().flatten().cloned() {
        if by_id {
            match find_topic(image, &incoming.client, Operation::Describe, "", topic.topic_id) {
                Ok(found) => topic.name = found.name.to_string(),
                Err(code) => {
                    answered.push(no_places(&topic, code));
                    continue;
                }
            }
        }
        named.push(topic);
    }
    // Older versions have no room for a code of the whole group but beside each partition.
    let failed =
        |code: ErrorCode| (code, named.iter().map(|topic| no_places(topic, code)).collect());
    may_in_group(incoming, Operation::Describe, group).map_err(failed)?;
    let asked = wanted.as_ref().map(|_| {
        let pair = |topic: &OffsetFetchRequestTopics| {
            (topic.name.clone(), topic.partition_indexes.clone())
        };
        named.iter().map(pair).collect()
    });
    let command = Command::Places { ticket: core.ticket(), group: group.to_owned(), wanted: asked };
    let places = match group::ask(core, group, command).await {
        Ok(Reply::Places(places)) => places,
        Ok(other) => unreachable!("a question for offsets is answered with some, not {other:?}"),
        Err(code) => return Err(failed(code)),
    };
    answered.extend(shown(image, places, by_id));
    Ok(answered)
}

fn shown(
    image: &Image,
    places: Places,
    by_id: bool,
) -> impl Iterator<Item = OffsetFetchResponseTopics> {
    places.into_iter().filter_map(move |(name, places)| {
        let topic_id = image.topic(&name).map(|topic| topic.id);
        let partitions = places.into_iter().map(|(index, place)| shown_place(index, place));
        Some(OffsetFetchResponseTopics {
            // A topic that is being deleted has no id any more.
            topic_id: if by_id { topic_id? } else { TopicId::NONE },
            name,
            partitions: partitions.collect(),
        })
    })
}

fn shown_place(index: i32, place: Option<Committed>) -> OffsetFetchResponsePartitions {
    match place {
        Some(place) => OffsetFetchResponsePartitions {
            partition_index: index,
            committed_offset: place.offset.0,
            committed_leader_epoch: place.leader_epoch.0,
            metadata: Some(place.metadata),
            error_code: ErrorCode::None.code(),
        },
        None => no_place(index, ErrorCode::None),
    }
}

fn no_place(index: i32, code: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(String::new()),
        error_code: code.code(),
    }
}

fn no_places(topic: &OffsetFetchRequestTopics, code: ErrorCode) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.iter().map(|index| no_place(*index, code));
    OffsetFetchResponseTopics {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
    }
}

/// Forgets how far a group has read (KIP-496).
pub async fn forget<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    mut request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let group = request.group_id.clone();
    let failed = |code: ErrorCode| {
        group_said(&incoming, &group, code.code());
        OffsetDeleteResponse { error_code: code.code(), ..OffsetDeleteResponse::default() }
    };
    if let Err(code) = may_in_group(&incoming, Operation::Delete, &group) {
        return failed(code);
    }
    let image = core.shared.image();
    let mut topics = Vec::new();
    for topic in &mut request.topics {
        let client = &incoming.client;
        let found = find_topic(&image, client, Operation::Read, &topic.name, TopicId::NONE);
        let exists = |index| match &found {
            Ok(found) => found
                .partition(PartitionIndex(index))
                .map(|_| ())
                .ok_or(ErrorCode::UnknownTopicOrPartition),
            Err(code) => Err(*code),
        };
        let mut refused = Vec::new();
        topic.partitions.retain(|one| match exists(one.partition_index) {
            Ok(()) => true,
            Err(code) => {
                refused.push(OffsetDeleteResponsePartition {
                    partition_index: one.partition_index,
                    error_code: code.code(),
                });
                false
            }
        });
        if !refused.is_empty() {
            let name = topic.name.clone();
            topics.push(OffsetDeleteResponseTopic { name, partitions: refused });
        }
    }
    request.topics.retain(|topic| !topic.partitions.is_empty());
    let command = Command::Forget { ticket: core.ticket(), request };
    match group::ask(&core, &group, command).await {
        Ok(Reply::Forgotten(response)) if response.error_code == ErrorCode::None.code() => {
            topics.extend(response.topics);
            OffsetDeleteResponse { topics, ..OffsetDeleteResponse::default() }
        }
        Ok(Reply::Forgotten(response)) => {
            group_said(&incoming, &group, response.error_code);
            response
        }
        Ok(other) => unreachable!("the wish to forget is answered in kind, not {other:?}"),
        Err(code) => failed(code),
    }
}
