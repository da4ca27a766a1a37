//! What a consumer or a follower asks for.
//!
//! ```text
//! replica id i32 (-14) | max wait ms i32 | min bytes i32 | max bytes i32 | isolation level i8
//! | session id i32, session epoch i32 (7+)
//! | [topic name (-12) or id (13+)
//!    | [partition i32 | current leader epoch i32 (9+) | offset i64 | last fetched epoch i32 (12+)
//!       | log start offset i64 (5+) | max bytes i32
//!       | tag 0: directory id (17+), tag 1: high watermark i64 (18+)]]
//! | forgotten (7+): [topic name or id | [partition i32]]
//! | rack id (11+) | tag 0: cluster id (12+), tag 1: replica id i32 and epoch i64 (15+)
//! ```

use super::{
    FLEXIBLE_FROM, TOPIC_ID_FROM, VERSION_MAX, VERSION_MIN, check, put_no_tagged, put_topic,
    read_topic, topic_bytes_min,
};
use crate::id::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId};
use crate::wire::codec::{self, DecodeError, Reader};

/// A fetch request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// The cluster that the client believes to talk to. From version 12 on.
    pub cluster_id: Option<String>,
    /// The follower that asks, -1 for a consumer.
    pub replica_id: NodeId,
    /// The follower's incarnation, -1 if unknown. From version 15 on.
    pub replica_epoch: i64,
    /// How long the broker may wait for `min_bytes`, in ms.
    pub max_wait_ms: i32,
    /// How many bytes are worth an answer.
    pub min_bytes: i32,
    /// How many bytes the answer may have (KIP-74: the first batch may exceed it).
    pub max_bytes: i32,
    /// 0: read uncommitted. 1: read committed.
    pub isolation_level: i8,
    /// The session, 0 for none or a new one. From version 7 on.
    pub session_id: i32,
    /// 0 opens a session, -1 goes without (and is what older versions mean).
    pub session_epoch: i32,
    /// What to read; within a session, what changed.
    pub topics: Vec<FetchTopic>,
    /// What to remove from the session. From version 7 on.
    pub forgotten_topics: Vec<ForgottenTopic>,
    /// The client's rack (KIP-392), empty if it has none. From version 11 on.
    pub rack_id: String,
}

impl Default for FetchRequest {
    fn default() -> Self {
        FetchRequest {
            cluster_id: None,
            replica_id: NodeId(-1),
            replica_epoch: -1,
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: i32::MAX,
            isolation_level: 0,
            session_id: 0,
            session_epoch: -1,
            topics: Vec::new(),
            forgotten_topics: Vec::new(),
            rack_id: String::new(),
        }
    }
}

/// The fewest bytes of a partition: index, offset and max bytes are in every version.
const PARTITION_BYTES_MIN: usize = 4 + 8 + 4;

/// One topic of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchTopic {
    /// Its name, up to version 12.
    pub name: String,
    /// Its id, from version 13 on.
    pub topic_id: TopicId,
    /// Its partitions.
    pub partitions: Vec<FetchPartition>,
}

/// One partition of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// Its number.
    pub index: PartitionIndex,
    /// The epoch that the client believes current, or none (KIP-320). From version 9 on.
    pub current_leader_epoch: LeaderEpoch,
    /// Where to read from.
    pub fetch_offset: Offset,
    /// The epoch of the last record that the follower has, or none. From version 12 on.
    pub last_fetched_epoch: LeaderEpoch,
    /// Where the follower's log starts, -1 from a consumer. From version 5 on.
    pub log_start_offset: Offset,
    /// How many bytes this partition may take (KIP-74: the first batch may exceed it).
    pub max_bytes: i32,
    /// The follower's directory. From version 17 on.
    pub replica_directory_id: TopicId,
    /// The high watermark that the follower knows; `i64::MAX` if it does not say. From version
    /// 18 on.
    pub high_watermark: Offset,
}

impl Default for FetchPartition {
    fn default() -> Self {
        FetchPartition {
            index: PartitionIndex(0),
            current_leader_epoch: LeaderEpoch::NONE,
            fetch_offset: Offset(0),
            last_fetched_epoch: LeaderEpoch::NONE,
            log_start_offset: Offset(-1),
            max_bytes: 0,
            replica_directory_id: TopicId::NONE,
            high_watermark: Offset(i64::MAX),
        }
    }
}

/// What leaves a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForgottenTopic {
    /// The topic's name, up to version 12.
    pub name: String,
    /// The topic's id, from version 13 on.
    pub topic_id: TopicId,
    /// The partitions' numbers.
    pub partitions: Vec<PartitionIndex>,
}

impl FetchRequest {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`DecodeError`], also for versions that do not exist and for bytes left over.
    pub fn decode(bytes: &[u8], version: i16) -> Result<FetchRequest, DecodeError> {
        let r = &mut Reader::new(bytes);
        let flexible = check(version, r)?;
        let mut request = FetchRequest::default();
        if version <= 14 {
            request.replica_id = NodeId(r.i32()?);
        }
        request.max_wait_ms = r.i32()?;
        request.min_bytes = r.i32()?;
        request.max_bytes = r.i32()?;
        request.isolation_level = r.i8()?;
        if version >= 7 {
            request.session_id = r.i32()?;
            request.session_epoch = r.i32()?;
        }
        let count = r.array::<FetchTopic>(flexible, topic_bytes_min(version));
        let count = count.map_err(|e| e.within("topics"))?;
        request.topics.reserve_exact(count);
        for _ in 0..count {
            let topic = FetchTopic::decode(r, version).map_err(|e| e.within("topics"))?;
            request.topics.push(topic);
        }
        if version >= 7 {
            let count = r.array::<ForgottenTopic>(flexible, topic_bytes_min(version));
            let count = count.map_err(|e| e.within("forgotten_topics_data"))?;
            request.forgotten_topics.reserve_exact(count);
            for _ in 0..count {
                request.forgotten_topics.push(ForgottenTopic::decode(r, version)?);
            }
        }
        if version >= 11 {
            r.string(flexible).map_err(|e| e.within("rack_id"))?.clone_into(&mut request.rack_id);
        }
        if flexible {
            r.tagged(|tag, field| request.decode_tagged(tag, field, version))?;
        }
        r.finish()?;
        Ok(request)
    }

    fn decode_tagged(
        &mut self,
        tag: u32,
        field: &mut Reader<'_>,
        version: i16,
    ) -> Result<bool, DecodeError> {
        match tag {
            0 => self.cluster_id = field.nullable_string(true)?.map(str::to_owned),
            1 if version >= 15 => {
                self.replica_id = NodeId(field.i32()?);
                self.replica_epoch = field.i64()?;
                field.skip_tagged()?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Appends the body of a request, for clients and followers.
    ///
    /// # Panics
    /// If the version does not exist.
    pub fn encode(&self, out: &mut Vec<u8>, version: i16) {
        assert!((VERSION_MIN..=VERSION_MAX).contains(&version), "fetch version {version}");
        let flexible = version >= FLEXIBLE_FROM;
        if version <= 14 {
            codec::put_i32(out, self.replica_id.0);
        }
        codec::put_i32(out, self.max_wait_ms);
        codec::put_i32(out, self.min_bytes);
        codec::put_i32(out, self.max_bytes);
        codec::put_i8(out, self.isolation_level);
        if version >= 7 {
            codec::put_i32(out, self.session_id);
            codec::put_i32(out, self.session_epoch);
        }
        codec::put_array(out, flexible, self.topics.len());
        for topic in &self.topics {
            put_topic(out, version, &topic.name, topic.topic_id);
            codec::put_array(out, flexible, topic.partitions.len());
            for partition in &topic.partitions {
                partition.encode(out, version);
            }
            put_no_tagged(out, flexible);
        }
        if version >= 7 {
            codec::put_array(out, flexible, self.forgotten_topics.len());
            for topic in &self.forgotten_topics {
                put_topic(out, version, &topic.name, topic.topic_id);
                codec::put_array(out, flexible, topic.partitions.len());
                for partition in &topic.partitions {
                    codec::put_i32(out, partition.0);
                }
                put_no_tagged(out, flexible);
            }
        }
        if version >= 11 {
            codec::put_string(out, flexible, &self.rack_id);
        }
        if flexible {
            self.encode_tagged(out, version);
        }
    }

    fn encode_tagged(&self, out: &mut Vec<u8>, version: i16) {
        let is_replica = version >= 15 && (self.replica_id.0 != -1 || self.replica_epoch != -1);
        let count = u32::from(self.cluster_id.is_some()) + u32::from(is_replica);
        codec::put_unsigned_varint(out, count);
        if let Some(cluster_id) = &self.cluster_id {
            let mut field = Vec::with_capacity(cluster_id.len() + 5);
            codec::put_string(&mut field, true, cluster_id);
            codec::put_unsigned_varint(out, 0);
            codec::put_unsigned_varint(out, field.len() as u32);
            out.extend_from_slice(&field);
        }
        if is_replica {
            codec::put_unsigned_varint(out, 1);
            codec::put_unsigned_varint(out, 4 + 8 + 1);
            codec::put_i32(out, self.replica_id.0);
            codec::put_i64(out, self.replica_epoch);
            codec::put_no_tagged(out);
        }
    }
}

impl FetchTopic {
    fn decode(r: &mut Reader<'_>, version: i16) -> Result<FetchTopic, DecodeError> {
        let flexible = version >= FLEXIBLE_FROM;
        let (name, topic_id) = read_topic(r, version)?;
        let count = r.array::<FetchPartition>(flexible, PARTITION_BYTES_MIN)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(FetchPartition::decode(r, version)?);
        }
        if flexible {
            r.skip_tagged()?;
        }
        Ok(FetchTopic { name, topic_id, partitions })
    }
}

/// A consumer's fetch of one partition without a session; decoded without any memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOne<'a> {
    /// As in [`FetchRequest`].
    pub max_wait_ms: i32,
    /// As in [`FetchRequest`].
    pub min_bytes: i32,
    /// As in [`FetchRequest`].
    pub max_bytes: i32,
    /// The topic's name, up to version 12; empty above.
    pub name: &'a str,
    /// The topic's id, from version 13 on; zero below.
    pub topic_id: TopicId,
    /// What is wanted of the partition.
    pub partition: FetchPartition,
}

impl<'a> FetchOne<'a> {
    /// Reads the body of a request; `None` if it is any other, or malformed:
    /// [`FetchRequest::decode`] tells which.
    #[must_use]
    pub fn decode(bytes: &'a [u8], version: i16) -> Option<FetchOne<'a>> {
        let r = &mut Reader::new(bytes);
        let flexible = check(version, r).ok()?;
        if version <= 14 && r.i32().ok()? >= 0 {
            return None;
        }
        let (max_wait_ms, min_bytes) = (r.i32().ok()?, r.i32().ok()?);
        let max_bytes = r.i32().ok()?;
        r.i8().ok()?;
        if version >= 7 && (r.i32().ok()?, r.i32().ok()?) != (0, -1) {
            return None;
        }
        if r.array::<FetchTopic>(flexible, topic_bytes_min(version)) != Ok(1) {
            return None;
        }
        let (name, topic_id) = if version >= TOPIC_ID_FROM {
            ("", r.topic_id().ok()?)
        } else {
            (r.string(flexible).ok()?, TopicId::NONE)
        };
        if r.array::<FetchPartition>(flexible, PARTITION_BYTES_MIN) != Ok(1) {
            return None;
        }
        let partition = FetchPartition::decode(r, version).ok()?;
        if flexible {
            r.skip_tagged().ok()?;
        }
        if version >= 7 && r.array::<ForgottenTopic>(flexible, topic_bytes_min(version)) != Ok(0) {
            return None;
        }
        if version >= 11 {
            r.string(flexible).ok()?;
        }
        // A follower names itself in a tagged field.
        if flexible && r.unsigned_varint() != Ok(0) {
            return None;
        }
        r.finish().ok()?;
        Some(FetchOne { max_wait_ms, min_bytes, max_bytes, name, topic_id, partition })
    }
}

impl FetchPartition {
    fn decode(r: &mut Reader<'_>, version: i16) -> Result<FetchPartition, DecodeError> {
        let mut partition =
            FetchPartition { index: PartitionIndex(r.i32()?), ..FetchPartition::default() };
        if version >= 9 {
            partition.current_leader_epoch = LeaderEpoch(r.i32()?);
        }
        partition.fetch_offset = Offset(r.i64()?);
        if version >= 12 {
            partition.last_fetched_epoch = LeaderEpoch(r.i32()?);
        }
        if version >= 5 {
            partition.log_start_offset = Offset(r.i64()?);
        }
        partition.max_bytes = r.i32()?;
        if version >= FLEXIBLE_FROM {
            r.tagged(|tag, field| {
                match tag {
                    0 if version >= 17 => partition.replica_directory_id = field.topic_id()?,
                    1 if version >= 18 => partition.high_watermark = Offset(field.i64()?),
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        Ok(partition)
    }

    fn encode(&self, out: &mut Vec<u8>, version: i16) {
        codec::put_i32(out, self.index.0);
        if version >= 9 {
            codec::put_i32(out, self.current_leader_epoch.0);
        }
        codec::put_i64(out, self.fetch_offset.0);
        if version >= 12 {
            codec::put_i32(out, self.last_fetched_epoch.0);
        }
        if version >= 5 {
            codec::put_i64(out, self.log_start_offset.0);
        }
        codec::put_i32(out, self.max_bytes);
        if version >= FLEXIBLE_FROM {
            let has_directory = version >= 17 && self.replica_directory_id != TopicId::NONE;
            let has_watermark = version >= 18 && self.high_watermark.0 != i64::MAX;
            codec::put_unsigned_varint(out, u32::from(has_directory) + u32::from(has_watermark));
            if has_directory {
                codec::put_unsigned_varint(out, 0);
                codec::put_unsigned_varint(out, 16);
                codec::put_topic_id(out, self.replica_directory_id);
            }
            if has_watermark {
                codec::put_unsigned_varint(out, 1);
                codec::put_unsigned_varint(out, 8);
                codec::put_i64(out, self.high_watermark.0);
            }
        }
    }
}

impl ForgottenTopic {
    fn decode(r: &mut Reader<'_>, version: i16) -> Result<ForgottenTopic, DecodeError> {
        let flexible = version >= FLEXIBLE_FROM;
        let (name, topic_id) = read_topic(r, version)?;
        let count = r.array::<PartitionIndex>(flexible, 4)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(PartitionIndex(r.i32()?));
        }
        if flexible {
            r.skip_tagged()?;
        }
        Ok(ForgottenTopic { name, topic_id, partitions })
    }
}
