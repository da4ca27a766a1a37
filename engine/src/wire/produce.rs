//! Produce (key 0), versions 3 to 13, by hand: the request is a view into the frame it came in,
//! and the record batches in it are ranges, so that they can be split off without a copy.
//!
//! Versions 0 to 2 are advertised (librdkafka needs to see them: KAFKA-18659) and not decoded: like a
//! version of any API that it does not serve, they make a broker close the connection, as in Kafka 4.
//!
//! ```text
//! request   transactional id | acks i16 | timeout ms i32
//!           | [topic name (3-12) or id (13) | [partition i32 | records, nullable bytes]]
//! response  [topic name or id | [partition i32 | error i16 | base offset i64
//!           | append time ms i64 | log start offset i64 (5+)
//!           | [record index i32, message (8+)] | message (8+) | tag 0: current leader (10+)]]
//!           | throttle time ms i32 | tag 0: node endpoints (10+)
//! ```

use std::ops::Range;

use super::code::ErrorCode;
use super::codec::{self, DecodeError, Fault, Reader};
use super::leader::{self, NodeEndpoint};
use crate::id::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId};

/// Produce's API key.
pub const KEY: i16 = 0;

/// The lowest version that is decoded.
pub const VERSION_MIN: i16 = 3;

/// The highest version that is decoded.
pub const VERSION_MAX: i16 = 13;

const FLEXIBLE_FROM: i16 = 9;
const TOPIC_ID_FROM: i16 = 13;

/// A produce request. `R` is how records are held: ranges of the frame after decoding, bytes when
/// a client encodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceRequest<'a, R = Range<usize>> {
    /// The transaction's name, if the producer is transactional.
    pub transactional_id: Option<&'a str>,
    /// 0: no answer. 1: the leader has it. -1: all in-sync replicas have it.
    pub acks: i16,
    /// How long the broker may wait for the replicas, in ms.
    pub timeout_ms: i32,
    /// What to append.
    pub topics: Vec<ProduceTopic<'a, R>>,
}

/// One topic of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceTopic<'a, R = Range<usize>> {
    /// Its name, up to version 12; empty above.
    pub name: &'a str,
    /// Its id, from version 13 on; zero below.
    pub topic_id: TopicId,
    /// Its partitions.
    pub partitions: Vec<ProducePartition<R>>,
}

/// One partition of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducePartition<R = Range<usize>> {
    /// Its number.
    pub index: PartitionIndex,
    /// The record batch, not looked at yet.
    pub records: Option<R>,
}

/// The answer to a produce request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceResponse {
    /// One entry per topic asked for.
    pub topics: Vec<ProduceTopicResponse>,
    /// How long the client is asked to wait, in ms.
    pub throttle_time_ms: i32,
    /// Where the leaders that `current_leader` names are; from version 10 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One topic of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceTopicResponse {
    /// Its name, up to version 12.
    pub name: String,
    /// Its id, from version 13 on.
    pub topic_id: TopicId,
    /// Its partitions.
    pub partitions: Vec<ProducePartitionResponse>,
}

/// One partition of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartitionResponse {
    /// Its number.
    pub index: PartitionIndex,
    /// What became of the batch.
    pub error: ErrorCode,
    /// The offset of the batch's first record; -1 with an error.
    pub base_offset: Offset,
    /// The append time in ms for topics with LogAppendTime, else -1.
    pub log_append_time_ms: i64,
    /// Where the log starts; -1 if unknown. From version 5 on.
    pub log_start_offset: Offset,
    /// Which records were wrong, and why. From version 8 on.
    pub record_errors: Vec<(i32, Option<String>)>,
    /// What was wrong, for people. From version 8 on.
    pub error_message: Option<String>,
    /// Who leads, if it is not this broker. From version 10 on.
    pub current_leader: Option<(NodeId, LeaderEpoch)>,
}

impl Default for ProducePartitionResponse {
    fn default() -> Self {
        ProducePartitionResponse {
            index: PartitionIndex(0),
            error: ErrorCode::None,
            base_offset: Offset(-1),
            log_append_time_ms: -1,
            log_start_offset: Offset(-1),
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }
    }
}

fn check(version: i16, reader: &Reader<'_>) -> Result<bool, DecodeError> {
    if (VERSION_MIN..=VERSION_MAX).contains(&version) {
        Ok(version >= FLEXIBLE_FROM)
    } else {
        Err(reader.fault(Fault::UnsupportedVersion))
    }
}

/// The fewest bytes of a topic: name or id, partition count, tagged fields.
fn topic_bytes_min(version: i16) -> usize {
    match version {
        TOPIC_ID_FROM.. => 16 + 1 + 1,
        FLEXIBLE_FROM.. => 1 + 1 + 1,
        _ => 2 + 4,
    }
}

/// The fewest bytes of a partition: number, length of the records, tagged fields.
fn partition_bytes_min(flexible: bool) -> usize {
    if flexible { 4 + 1 + 1 } else { 4 + 4 }
}

impl<'a> ProduceRequest<'a> {
    /// Reads the body of a request. The ranges are positions in `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`], also for versions that are not decoded and for bytes left over.
    pub fn decode(bytes: &'a [u8], version: i16) -> Result<ProduceRequest<'a>, DecodeError> {
        let r = &mut Reader::new(bytes);
        let flexible = check(version, r)?;
        let transactional_id =
            r.nullable_string(flexible).map_err(|e| e.within("transactional_id"))?;
        let acks = r.i16()?;
        let timeout_ms = r.i32()?;
        let count = r.array::<ProduceTopic<'_>>(flexible, topic_bytes_min(version));
        let count = count.map_err(|e| e.within("topic_data"))?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            topics.push(ProduceTopic::decode(r, version).map_err(|e| e.within("topic_data"))?);
        }
        if flexible {
            r.skip_tagged()?;
        }
        r.finish()?;
        Ok(ProduceRequest { transactional_id, acks, timeout_ms, topics })
    }
}

impl<'a> ProduceTopic<'a> {
    fn decode(r: &mut Reader<'a>, version: i16) -> Result<ProduceTopic<'a>, DecodeError> {
        let flexible = version >= FLEXIBLE_FROM;
        let (name, topic_id) = if version >= TOPIC_ID_FROM {
            ("", r.topic_id()?)
        } else {
            (r.string(flexible)?, TopicId::NONE)
        };
        let count = r.array::<ProducePartition>(flexible, partition_bytes_min(flexible))?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            let index = PartitionIndex(r.i32()?);
            let records = r.nullable_bytes(flexible).map_err(|e| e.within("records"))?;
            let records = records.map(|bytes| r.position() - bytes.len()..r.position());
            if flexible {
                r.skip_tagged()?;
            }
            partitions.push(ProducePartition { index, records });
        }
        if flexible {
            r.skip_tagged()?;
        }
        Ok(ProduceTopic { name, topic_id, partitions })
    }
}

/// A produce request about one partition that is not of a transaction, as nearly all small ones
/// are; decoded without any memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceOne<'a> {
    /// As in [`ProduceRequest`].
    pub acks: i16,
    /// As in [`ProduceRequest`].
    pub timeout_ms: i32,
    /// The topic's name, up to version 12; empty above.
    pub name: &'a str,
    /// The topic's id, from version 13 on; zero below.
    pub topic_id: TopicId,
    /// The partition's number.
    pub index: PartitionIndex,
    /// Where in the bytes the record batch is, not looked at yet.
    pub records: Range<usize>,
}

impl<'a> ProduceOne<'a> {
    /// Reads the body of a request; `None` if it is any other, or malformed:
    /// [`ProduceRequest::decode`] tells which.
    #[must_use]
    pub fn decode(bytes: &'a [u8], version: i16) -> Option<ProduceOne<'a>> {
        let r = &mut Reader::new(bytes);
        let flexible = check(version, r).ok()?;
        let is_one = |count: Result<usize, DecodeError>| count == Ok(1);
        let transaction = r.nullable_string(flexible).ok()?;
        let (acks, timeout_ms) = (r.i16().ok()?, r.i32().ok()?);
        let topics = r.array::<ProduceTopic<'_>>(flexible, topic_bytes_min(version));
        if transaction.is_some() || !is_one(topics) {
            return None;
        }
        let (name, topic_id) = if version >= TOPIC_ID_FROM {
            ("", r.topic_id().ok()?)
        } else {
            (r.string(flexible).ok()?, TopicId::NONE)
        };
        if !is_one(r.array::<ProducePartition>(flexible, partition_bytes_min(flexible))) {
            return None;
        }
        let index = PartitionIndex(r.i32().ok()?);
        let length = r.nullable_bytes(flexible).ok()??.len();
        let records = r.position() - length..r.position();
        if flexible {
            // Of the partition, the topic and the request.
            for _ in 0..3 {
                r.skip_tagged().ok()?;
            }
        }
        r.finish().ok()?;
        Some(ProduceOne { acks, timeout_ms, name, topic_id, index, records })
    }
}

impl<R: AsRef<[u8]>> ProduceRequest<'_, R> {
    /// Appends the body of a request, for clients.
    ///
    /// # Panics
    /// If the version is not one that is decoded.
    pub fn encode(&self, out: &mut Vec<u8>, version: i16) {
        assert!((VERSION_MIN..=VERSION_MAX).contains(&version), "produce version {version}");
        let flexible = version >= FLEXIBLE_FROM;
        codec::put_nullable_string(out, flexible, self.transactional_id);
        codec::put_i16(out, self.acks);
        codec::put_i32(out, self.timeout_ms);
        codec::put_array(out, flexible, self.topics.len());
        for topic in &self.topics {
            put_topic(out, version, topic.name, topic.topic_id);
            codec::put_array(out, flexible, topic.partitions.len());
            for partition in &topic.partitions {
                codec::put_i32(out, partition.index.0);
                let records = partition.records.as_ref().map(AsRef::as_ref);
                codec::put_nullable_bytes(out, flexible, records);
                put_no_tagged(out, flexible);
            }
            put_no_tagged(out, flexible);
        }
        put_no_tagged(out, flexible);
    }
}

impl ProduceResponse {
    /// Appends the body of an answer.
    ///
    /// # Panics
    /// If the version is not one that is decoded.
    pub fn encode(&self, out: &mut Vec<u8>, version: i16) {
        assert!((VERSION_MIN..=VERSION_MAX).contains(&version), "produce version {version}");
        let flexible = version >= FLEXIBLE_FROM;
        codec::put_array(out, flexible, self.topics.len());
        for topic in &self.topics {
            put_topic(out, version, &topic.name, topic.topic_id);
            codec::put_array(out, flexible, topic.partitions.len());
            for partition in &topic.partitions {
                partition.encode(out, version);
            }
            put_no_tagged(out, flexible);
        }
        codec::put_i32(out, self.throttle_time_ms);
        if version >= 10 {
            leader::put_endpoints(out, &self.node_endpoints);
        } else {
            put_no_tagged(out, flexible);
        }
    }

    /// Appends the body of an answer about one partition: the same bytes as
    /// [`ProduceResponse::encode`], without an answer to be put together first.
    ///
    /// # Panics
    /// If the version is not one that is decoded.
    pub fn encode_one(
        out: &mut Vec<u8>,
        version: i16,
        name: &str,
        topic_id: TopicId,
        partition: &ProducePartitionResponse,
    ) {
        assert!((VERSION_MIN..=VERSION_MAX).contains(&version), "produce version {version}");
        let flexible = version >= FLEXIBLE_FROM;
        codec::put_array(out, flexible, 1);
        put_topic(out, version, name, topic_id);
        codec::put_array(out, flexible, 1);
        partition.encode(out, version);
        put_no_tagged(out, flexible);
        let end = ProduceResponse::default();
        codec::put_i32(out, end.throttle_time_ms);
        if version >= 10 {
            leader::put_endpoints(out, &end.node_endpoints);
        } else {
            put_no_tagged(out, flexible);
        }
    }

    /// Reads the body of an answer, for clients.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8], version: i16) -> Result<ProduceResponse, DecodeError> {
        let r = &mut Reader::new(bytes);
        let flexible = check(version, r)?;
        let count = r.array::<ProduceTopicResponse>(flexible, topic_bytes_min(version))?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            topics.push(ProduceTopicResponse::decode(r, version)?);
        }
        let throttle_time_ms = r.i32()?;
        let mut node_endpoints = Vec::new();
        if flexible {
            r.tagged(|tag, field| {
                if tag != 0 || version < 10 {
                    return Ok(false);
                }
                node_endpoints = leader::read_endpoints(field)?;
                Ok(true)
            })?;
        }
        r.finish()?;
        Ok(ProduceResponse { topics, throttle_time_ms, node_endpoints })
    }
}

impl ProduceTopicResponse {
    fn decode(r: &mut Reader<'_>, version: i16) -> Result<ProduceTopicResponse, DecodeError> {
        let flexible = version >= FLEXIBLE_FROM;
        let (name, topic_id) = if version >= TOPIC_ID_FROM {
            (String::new(), r.topic_id()?)
        } else {
            (r.string(flexible)?.to_owned(), TopicId::NONE)
        };
        // Index, error, base offset and append time are in every version.
        let count = r.array::<ProducePartitionResponse>(flexible, 4 + 2 + 8 + 8)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(ProducePartitionResponse::decode(r, version)?);
        }
        if flexible {
            r.skip_tagged()?;
        }
        Ok(ProduceTopicResponse { name, topic_id, partitions })
    }
}

impl ProducePartitionResponse {
    fn encode(&self, out: &mut Vec<u8>, version: i16) {
        let flexible = version >= FLEXIBLE_FROM;
        codec::put_i32(out, self.index.0);
        codec::put_i16(out, self.error.code());
        codec::put_i64(out, self.base_offset.0);
        codec::put_i64(out, self.log_append_time_ms);
        if version >= 5 {
            codec::put_i64(out, self.log_start_offset.0);
        }
        if version >= 8 {
            codec::put_array(out, flexible, self.record_errors.len());
            for (index, message) in &self.record_errors {
                codec::put_i32(out, *index);
                codec::put_nullable_string(out, flexible, message.as_deref());
                put_no_tagged(out, flexible);
            }
            codec::put_nullable_string(out, flexible, self.error_message.as_deref());
        }
        match self.current_leader {
            Some(leader) if version >= 10 => {
                codec::put_unsigned_varint(out, 1);
                leader::put_leader(out, 0, leader);
            }
            _ => put_no_tagged(out, flexible),
        }
    }

    fn decode(r: &mut Reader<'_>, version: i16) -> Result<ProducePartitionResponse, DecodeError> {
        let flexible = version >= FLEXIBLE_FROM;
        let mut partition = ProducePartitionResponse {
            index: PartitionIndex(r.i32()?),
            error: leader::read_error(r)?,
            base_offset: Offset(r.i64()?),
            log_append_time_ms: r.i64()?,
            ..ProducePartitionResponse::default()
        };
        if version >= 5 {
            partition.log_start_offset = Offset(r.i64()?);
        }
        if version >= 8 {
            // Index, empty or null message, and tagged fields where there are such.
            let bytes_min = 4 + 2;
            let count = r.array::<(i32, Option<String>)>(flexible, bytes_min)?;
            partition.record_errors.reserve_exact(count);
            for _ in 0..count {
                let index = r.i32()?;
                let message = r.nullable_string(flexible)?.map(str::to_owned);
                if flexible {
                    r.skip_tagged()?;
                }
                partition.record_errors.push((index, message));
            }
            partition.error_message = r.nullable_string(flexible)?.map(str::to_owned);
        }
        if flexible {
            r.tagged(|tag, field| {
                if tag != 0 || version < 10 {
                    return Ok(false);
                }
                partition.current_leader = leader::read_leader(field)?;
                Ok(true)
            })?;
        }
        Ok(partition)
    }
}

fn put_topic(out: &mut Vec<u8>, version: i16, name: &str, id: TopicId) {
    if version >= TOPIC_ID_FROM {
        codec::put_topic_id(out, id);
    } else {
        codec::put_string(out, version >= FLEXIBLE_FROM, name);
    }
}

fn put_no_tagged(out: &mut Vec<u8>, flexible: bool) {
    if flexible {
        codec::put_no_tagged(out);
    }
}

#[cfg(test)]
#[path = "produce_tests.rs"]
mod tests;
