//! Topics that a client makes, gives more partitions and deletes, as one that has a quota of it does
//! (KIP-599), in versions that know of being refused and in older ones.
//!
//! What such a request uses of the quota depends on how many partitions its topic has. That is known
//! while every answer comes; once one is lost, what it answered may be carried out at any moment until
//! its broker ends, and only what is made anew counts.

use std::time::Duration;

use trialog_engine::id::TopicId;
use trialog_engine::wire::api::{
    ApiKey, CreatableTopic, CreatePartitionsRequest, CreatePartitionsResponse,
    CreatePartitionsTopic, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicState,
    DeleteTopicsRequest, DeleteTopicsResponse, Message,
};
use trialog_engine::wire::code::ErrorCode;
use trialog_engine::wire::codec::Reader;

use super::wire::Wire;
use crate::scenario::shape::LIMITED_TOPICS;
use crate::world::Process;

/// Partitions of a topic at most.
const PARTITIONS_MAX: i32 = 4;
const TIMEOUT_MS: i32 = 5000;

/// One request.
pub struct Mutation {
    topic: &'static str,
    what: What,
    /// Whether its version knows of being refused.
    is_strict: bool,
}

#[derive(Clone, Copy)]
enum What {
    /// So many partitions.
    Make(i32),
    /// From so many partitions to so many.
    Grow(i32, i32),
    /// Of so many partitions; none if that is not known.
    Delete(Option<i32>),
}

/// What is known of a topic: nothing at first, because it may be there from an earlier life of its client.
#[derive(Default)]
pub struct Made {
    /// Its partitions, 0 if it is not there; none if that is not known.
    partitions: Option<i32>,
    /// The process that may yet carry out what it was asked for and has not answered.
    doubted: Option<Process>,
}

impl Made {
    /// What to ask for next of the topic at this place.
    pub fn next(&self, place: usize, draw: u64) -> Mutation {
        let some = 1 + ((draw >> 8) % (PARTITIONS_MAX as u64 - 1)) as i32;
        let what = match self.partitions {
            Some(0) => What::Make(some),
            Some(known) if known < PARTITIONS_MAX && draw.is_multiple_of(3) => {
                What::Grow(known, known + 1)
            }
            known => What::Delete(known),
        };
        let is_strict = (draw >> 32).is_multiple_of(2);
        Mutation { topic: LIMITED_TOPICS[place], what, is_strict }
    }

    /// Takes note of an answer of this process. Returns what was used of the quota at least.
    pub fn heard(&mut self, asked: &Mutation, error: ErrorCode, process: Process) -> u64 {
        let certain = self.doubted != Some(process);
        let (used, partitions) = match (asked.what, error) {
            (_, ErrorCode::ThrottlingQuotaExceeded) => return 0,
            (What::Make(count), ErrorCode::None) => (count, Some(count)),
            (What::Grow(before, count), ErrorCode::None) if certain => {
                (count - before, Some(count))
            }
            (What::Delete(before), ErrorCode::None) if certain => (before.unwrap_or(0), Some(0)),
            (What::Grow(_, count), ErrorCode::None) => (0, Some(count)),
            (What::Delete(_), ErrorCode::None | ErrorCode::UnknownTopicOrPartition) => (0, Some(0)),
            _ => (0, None),
        };
        self.partitions = partitions;
        used as u64
    }

    /// No answer came, while this process ran.
    pub fn lost(&mut self, running: Option<Process>) {
        *self = Made { partitions: None, doubted: running };
    }
}

impl Mutation {
    /// What an answer says that it must not, if its client has no other quota.
    pub fn contradiction(&self, error: ErrorCode, wait: Duration) -> Option<&'static str> {
        let refused = error == ErrorCode::ThrottlingQuotaExceeded;
        match (self.is_strict, refused, wait.is_zero()) {
            (false, true, _) => Some("a client that knows nothing of it is refused for its quota"),
            (true, true, true) => Some("it is refused for its quota, and not told to wait"),
            (true, false, false) => Some("what it made was let through, and it is told to wait"),
            _ => None,
        }
    }

    /// Asks for it: the code of the answer, and how long that tells to wait, in ms.
    pub async fn ask(&self, wire: &mut Wire) -> Option<(ErrorCode, i32)> {
        let (code, wait_ms) = match self.what {
            What::Make(num_partitions) => {
                let wanted = CreatableTopic {
                    name: self.topic.to_owned(),
                    num_partitions,
                    replication_factor: 1,
                    ..CreatableTopic::default()
                };
                let request = CreateTopicsRequest {
                    topics: vec![wanted],
                    timeout_ms: TIMEOUT_MS,
                    validate_only: false,
                };
                let version = if self.is_strict { 7 } else { 5 };
                let answer: CreateTopicsResponse =
                    exchange(wire, ApiKey::CreateTopics, version, &request).await?;
                (answer.topics.first()?.error_code, answer.throttle_time_ms)
            }
            What::Grow(_, count) => {
                let name = self.topic.to_owned();
                let wanted = CreatePartitionsTopic { name, count, assignments: None };
                let request = CreatePartitionsRequest {
                    topics: vec![wanted],
                    timeout_ms: TIMEOUT_MS,
                    validate_only: false,
                };
                let version = if self.is_strict { 3 } else { 2 };
                let answer: CreatePartitionsResponse =
                    exchange(wire, ApiKey::CreatePartitions, version, &request).await?;
                (answer.results.first()?.error_code, answer.throttle_time_ms)
            }
            What::Delete(_) => {
                let name = self.topic.to_owned();
                let state = DeleteTopicState { name: Some(name.clone()), topic_id: TopicId::NONE };
                // By one way or the other, as the version has it.
                let (topics, topic_names, version) = match self.is_strict {
                    true => (vec![state], Vec::new(), 6),
                    false => (Vec::new(), vec![name], 4),
                };
                let request = DeleteTopicsRequest { topics, topic_names, timeout_ms: TIMEOUT_MS };
                let answer: DeleteTopicsResponse =
                    exchange(wire, ApiKey::DeleteTopics, version, &request).await?;
                (answer.responses.first()?.error_code, answer.throttle_time_ms)
            }
        };
        Some((ErrorCode::from_code(code)?, wait_ms))
    }
}

async fn exchange<T: Message>(
    wire: &mut Wire,
    key: ApiKey,
    version: i16,
    request: &impl Message,
) -> Option<T> {
    wire.ask(key, version, |out| request.encode(out, version)).await?;
    let answer = wire.hear().await?;
    T::decode(&mut Reader::new(answer.body(key, version)?), version).ok()
}
