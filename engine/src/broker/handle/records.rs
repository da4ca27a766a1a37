//! DeleteRecords: raises the start of partitions (KIP-107). A start that was raised never goes
//! back, also not by a power cut, and every answer that tells a start tells the raised one.

use std::rc::Rc;

use tokio::sync::oneshot;

use super::{find_topic, repeated};
use crate::broker::Core;
use crate::broker::ask::Ask;
use crate::broker::auth::Operation;
use crate::broker::dispatch::Incoming;
use crate::broker::shard;
use crate::id::{Offset, PartitionIndex, TopicId};
use crate::io::Io;
use crate::machine::Image;
use crate::wire::api::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use crate::wire::code::ErrorCode;

/// Forgets the records below the given offsets.
pub async fn delete<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let image = core.shared.image();
    // Which of several offsets counts nobody can tell.
    let repeated =
        repeated(request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|one| (&*topic.name, one.partition_index))
        }));
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let index = PartitionIndex(partition.partition_index);
            let raised = match repeated.contains(&(&*topic.name, index.0)) {
                false => {
                    let to = partition.offset;
                    delete_one(&core, &incoming, &image, &topic.name, index, to).await
                }
                true => Err(ErrorCode::InvalidRequest),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: index.0,
                low_watermark: raised.map_or(-1, |start| start.0),
                error_code: raised.err().unwrap_or(ErrorCode::None).code(),
            });
        }
        topics.push(DeleteRecordsTopicResult { name: topic.name.clone(), partitions });
    }
    DeleteRecordsResponse { topics, ..DeleteRecordsResponse::default() }
}

async fn delete_one<I: Io>(
    core: &Rc<Core<I>>,
    incoming: &Incoming,
    image: &Image,
    name: &str,
    index: PartitionIndex,
    offset: i64,
) -> Result<Offset, ErrorCode> {
    let client = &incoming.client;
    let refused = |code: ErrorCode| {
        let why = code.message();
        incoming.refused(code, format_args!("{name} partition {index} up to {offset}: {why}"));
        code
    };
    let topic =
        find_topic(image, client, Operation::Delete, name, TopicId::NONE).map_err(refused)?;
    topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition).map_err(refused)?;
    if topic.is_internal() {
        incoming.warn(&format!("records of {name} are not for deleting"), "leave it alone");
        return Err(ErrorCode::InvalidTopicException);
    }
    let config = core.topic_config(&topic);
    if config.compact && !config.delete {
        let reason = format!("{name} is only compacted: its records go when newer ones come");
        incoming.warn(&reason, "write tombstones, or set cleanup.policy=compact,delete");
        return Err(ErrorCode::PolicyViolation);
    }
    // -1 means all that can be read.
    let to = match offset {
        -1 => None,
        offset if offset >= 0 => Some(Offset(offset)),
        _ => return Err(refused(ErrorCode::OffsetOutOfRange)),
    };
    let (answer, raised) = oneshot::channel();
    shard::ask(core, (topic.id, index), Ask::RaiseStart { to, answer }).await;
    raised.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower)).map_err(refused)
}
