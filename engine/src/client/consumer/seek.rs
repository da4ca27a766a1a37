//! Places in a log by name or by time, and looking them up.

use std::rc::Rc;

use super::Isolation;
use crate::client::cluster::Cluster;
use crate::client::fault::CallError;
use crate::id::{Offset, PartitionIndex};
use crate::io::Io;
use crate::wire::api::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use crate::wire::code::ErrorCode;

/// A place in a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// This offset.
    Offset(Offset),
    /// The oldest record that there is.
    Earliest,
    /// The end: the next record to be written.
    Latest,
    /// The first record whose timestamp, in ms since 1970, is this or later (KIP-79); the end if
    /// there is none.
    Time(i64),
}

/// Asks the leader for the offset of a place, with the timestamp of its record or -1. `None` if
/// no record is that young.
pub async fn list_offset<I: Io>(
    cluster: &Rc<Cluster<I>>,
    topic: &str,
    index: PartitionIndex,
    start: Start,
    isolation: Isolation,
) -> Result<Option<(Offset, i64)>, CallError> {
    let timestamp = match start {
        Start::Offset(offset) => return Ok(Some((offset, -1))),
        Start::Latest => -1,
        Start::Earliest => -2,
        Start::Time(ms) => ms.max(0),
    };
    let known = cluster.partition(topic, index);
    let (_, partition) = known.ok_or(CallError::Refused(ErrorCode::UnknownTopicOrPartition))?;
    let leader = partition.leader.ok_or(CallError::Refused(ErrorCode::LeaderNotAvailable))?;
    let request = ListOffsetsRequest {
        isolation_level: isolation.level(),
        topics: vec![ListOffsetsTopic {
            name: topic.to_owned(),
            partitions: vec![ListOffsetsPartition {
                partition_index: index.0,
                current_leader_epoch: partition.epoch.0,
                timestamp,
            }],
        }],
        timeout_ms: i32::try_from(cluster.options.request_timeout.as_millis()).unwrap_or(i32::MAX),
        ..ListOffsetsRequest::default()
    };
    let response = cluster.call_node(leader, &request).await?;
    let answer = response.topics.iter().flat_map(|topic| &topic.partitions).next();
    let answer = answer.ok_or(CallError::Refused(ErrorCode::UnknownServerError))?;
    match ErrorCode::from_code(answer.error_code).unwrap_or(ErrorCode::UnknownServerError) {
        ErrorCode::None if answer.offset < 0 => Ok(None),
        ErrorCode::None => Ok(Some((Offset(answer.offset), answer.timestamp))),
        code => Err(CallError::Refused(code)),
    }
}

/// The offset of a place; the end if no record is that young. Holds on to nothing of its caller's.
pub(super) async fn find<I: Io>(
    cluster: Rc<Cluster<I>>,
    (topic, partition): (Rc<str>, PartitionIndex),
    start: Start,
    isolation: Isolation,
) -> Result<Offset, CallError> {
    if cluster.known_topic(&topic).is_none() {
        cluster.topic(&topic, cluster.io.now()).await?;
    }
    let found = list_offset(&cluster, &topic, partition, start, isolation).await?;
    match found {
        Some((offset, _)) => Ok(offset),
        // Read what comes.
        None => {
            let end = list_offset(&cluster, &topic, partition, Start::Latest, isolation).await?;
            end.map(|(offset, _)| offset).ok_or(CallError::Refused(ErrorCode::UnknownServerError))
        }
    }
}
