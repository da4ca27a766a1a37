//! ListOffsets (by time or by name, KIP-79, KIP-734) and OffsetForLeaderEpoch (KIP-320): both ask
//! each partition one question.

use std::rc::Rc;

use tokio::sync::oneshot;

use super::{find_topic, repeated};
use crate::broker::Core;
use crate::broker::ask::{Ask, FoundOffset};
use crate::broker::auth::Operation;
use crate::broker::dispatch::Incoming;
use crate::broker::shard;
use crate::id::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use crate::io::Io;
use crate::machine::Image;
use crate::wire::api::{
    EpochEndOffset, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
};
use crate::wire::code::ErrorCode;

/// Finds offsets by time or by name.
pub async fn list<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let image = core.shared.image();
    // As in Kafka, what is named again is refused.
    let repeated =
        repeated(request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|one| (&*topic.name, one.partition_index))
        }));
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let index = PartitionIndex(partition.partition_index);
            if repeated.contains(&(&*topic.name, index.0)) {
                partitions.push(offset_response(index, Err(ErrorCode::InvalidRequest)));
                continue;
            }
            let leader_epoch = LeaderEpoch(partition.current_leader_epoch);
            let timestamp = partition.timestamp;
            let found = ask(&core, &incoming, &image, &topic.name, index, |answer| Ask::Offset {
                timestamp,
                leader_epoch,
                answer,
            });
            let found = if newest_name(incoming.version) <= timestamp {
                found.await
            } else {
                Err(ErrorCode::UnsupportedVersion)
            };
            if let Err(code) = found {
                let (name, why) = (&topic.name, code.message());
                incoming.refused(
                    code,
                    format_args!("{name} partition {index}, timestamp {timestamp}: {why}"),
                );
            }
            partitions.push(offset_response(index, found));
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name.clone(), partitions });
    }
    ListOffsetsResponse { topics, ..ListOffsetsResponse::default() }
}

/// The lowest of the negative names that a version knows.
fn newest_name(version: i16) -> i64 {
    match version {
        ..7 => -2,
        7 => -3,
        8 => -4,
        9 | 10 => -5,
        _ => -6,
    }
}

fn offset_response(
    index: PartitionIndex,
    found: Result<FoundOffset, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let none = ListOffsetsPartitionResponse {
        partition_index: index.0,
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
        ..ListOffsetsPartitionResponse::default()
    };
    match found {
        Ok(found) => ListOffsetsPartitionResponse {
            timestamp: found.timestamp,
            offset: found.offset.0,
            leader_epoch: found.leader_epoch.0,
            ..none
        },
        Err(code) => ListOffsetsPartitionResponse { error_code: code.code(), ..none },
    }
}

/// Tells where leader epochs end.
pub async fn for_leader_epoch<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let image = core.shared.image();
    let repeated = repeated(
        request
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|one| (&*topic.topic, one.partition))),
    );
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let index = PartitionIndex(partition.partition);
            let current = LeaderEpoch(partition.current_leader_epoch);
            let asked = LeaderEpoch(partition.leader_epoch);
            let found = ask(&core, &incoming, &image, &topic.topic, index, |answer| {
                Ask::EpochEnd { current, asked, answer }
            });
            let found = match repeated.contains(&(&*topic.topic, index.0)) {
                false => found.await,
                true => Err(ErrorCode::InvalidRequest),
            };
            let (error, (epoch, end)) = match found {
                Ok(found) => (ErrorCode::None, found),
                Err(code) => {
                    let (name, why) = (&topic.topic, code.message());
                    incoming.refused(
                        code,
                        format_args!(
                            "{name} partition {index}, the end of epoch {asked} by one who believes \
                             in {current}: {why}"
                        ),
                    );
                    (code, (LeaderEpoch::NONE, Offset(-1)))
                }
            };
            partitions.push(EpochEndOffset {
                error_code: error.code(),
                partition: index.0,
                leader_epoch: epoch.0,
                end_offset: end.0,
            });
        }
        topics.push(OffsetForLeaderTopicResult { topic: topic.topic.clone(), partitions });
    }
    OffsetForLeaderEpochResponse { topics, ..OffsetForLeaderEpochResponse::default() }
}

/// Asks a partition, if it exists, and waits for its answer.
async fn ask<I: Io, T>(
    core: &Rc<Core<I>>,
    incoming: &Incoming,
    image: &Image,
    name: &str,
    index: PartitionIndex,
    question: impl FnOnce(oneshot::Sender<Result<T, ErrorCode>>) -> Ask<I::File>,
) -> Result<T, ErrorCode> {
    let topic = find_topic(image, &incoming.client, Operation::Describe, name, TopicId::NONE)?;
    topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let (answer, found) = oneshot::channel();
    shard::ask(core, (topic.id, index), question(answer)).await;
    // A dropped answer: the partition closed meanwhile, and the client asks again.
    found.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower))
}
