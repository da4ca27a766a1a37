//! What a broker answers: a head with holes for the record bytes.
//!
//! ```text
//! throttle time ms i32 | error i16, session id i32 (7+)
//! | [topic name (-12) or id (13+)
//!    | [partition i32 | error i16 | high watermark i64 | last stable offset i64
//!       | log start offset i64 (5+) | aborted: [producer id i64 | first offset i64], nullable
//!       | preferred read replica i32 (11+) | records: length, then the hole
//!       | tag 0: diverging epoch (12+), tag 1: current leader (12+), tag 2: snapshot]]
//! | tag 0: node endpoints (16+)
//! ```

use std::ops::Range;

use super::{
    FLEXIBLE_FROM, VERSION_MAX, VERSION_MIN, check, put_no_tagged, put_topic, read_topic,
    topic_bytes_min,
};
use crate::id::{LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerId, TopicId};
use crate::wire::code::ErrorCode;
use crate::wire::codec::{self, DecodeError, Reader};
use crate::wire::leader::{self, NodeEndpoint};

/// The answer to a fetch. `R` is what is known of the records: how many bytes they are when a
/// broker writes the head, where they are when a client reads the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchResponse<R = u32> {
    /// How long the client is asked to wait, in ms.
    pub throttle_time_ms: i32,
    /// An error of the whole request, such as an unknown session. From version 7 on.
    pub error: ErrorCode,
    /// The session, 0 for none. From version 7 on.
    pub session_id: i32,
    /// One entry per topic asked for; within a session, those with news.
    pub topics: Vec<FetchTopicResponse<R>>,
    /// Where the leaders that `current_leader` names are. From version 16 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One topic of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopicResponse<R = u32> {
    /// Its name, up to version 12.
    pub name: String,
    /// Its id, from version 13 on.
    pub topic_id: TopicId,
    /// Its partitions.
    pub partitions: Vec<FetchPartitionResponse<R>>,
}

/// One partition of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartitionResponse<R = u32> {
    /// Its number.
    pub index: PartitionIndex,
    /// What went wrong with it.
    pub error: ErrorCode,
    /// Where consumers' reading ends; -1 with most errors.
    pub high_watermark: Offset,
    /// Where reading committed ends; -1 if unknown.
    pub last_stable_offset: Offset,
    /// Where the log starts; -1 if unknown. From version 5 on.
    pub log_start_offset: Offset,
    /// Aborted transactions within the records, in order of offset; null unless asked for.
    pub aborted: Option<Vec<(ProducerId, Offset)>>,
    /// Where the follower's log departs from the leader's: the largest common epoch and its end.
    /// From version 12 on.
    pub diverging_epoch: Option<(LeaderEpoch, Offset)>,
    /// Who leads, if it is not this broker. From version 12 on.
    pub current_leader: Option<(NodeId, LeaderEpoch)>,
    /// A replica that is nearer to the client (KIP-392), or -1. From version 11 on.
    pub preferred_read_replica: NodeId,
    /// The record batches.
    pub records: R,
}

impl<R> Default for FetchResponse<R> {
    fn default() -> Self {
        FetchResponse {
            throttle_time_ms: 0,
            error: ErrorCode::None,
            session_id: 0,
            topics: Vec::new(),
            node_endpoints: Vec::new(),
        }
    }
}

impl<R> Default for FetchTopicResponse<R> {
    fn default() -> Self {
        FetchTopicResponse { name: String::new(), topic_id: TopicId::NONE, partitions: Vec::new() }
    }
}

impl<R: Default> Default for FetchPartitionResponse<R> {
    fn default() -> Self {
        FetchPartitionResponse {
            index: PartitionIndex(0),
            error: ErrorCode::None,
            high_watermark: Offset(-1),
            last_stable_offset: Offset(-1),
            log_start_offset: Offset(-1),
            aborted: None,
            diverging_epoch: None,
            current_leader: None,
            preferred_read_replica: NodeId(-1),
            records: R::default(),
        }
    }
}

impl FetchResponse {
    /// Appends the body of an answer without its record bytes, and returns for each partition, in
    /// order, the position in `out` where its `records` bytes are to be sent. Positions never
    /// decrease: what goes out is `out` up to the first position, the first partition's records,
    /// `out` from there to the second, and so on to the end of `out`.
    ///
    /// # Panics
    /// If the version does not exist.
    #[must_use]
    pub fn encode_head(&self, out: &mut Vec<u8>, version: i16) -> Vec<usize> {
        assert!((VERSION_MIN..=VERSION_MAX).contains(&version), "fetch version {version}");
        let flexible = version >= FLEXIBLE_FROM;
        let count = self.topics.iter().map(|topic| topic.partitions.len()).sum();
        let mut holes = Vec::with_capacity(count);
        self.put_start(out, version);
        codec::put_array(out, flexible, self.topics.len());
        for topic in &self.topics {
            put_topic(out, version, &topic.name, topic.topic_id);
            codec::put_array(out, flexible, topic.partitions.len());
            for partition in &topic.partitions {
                holes.push(partition.encode_head(out, version));
            }
            put_no_tagged(out, flexible);
        }
        self.put_end(out, version);
        holes
    }

    /// Appends the body of an answer about one partition, without a session and without its record
    /// bytes, and returns the position in `out` where those are to be sent: the same bytes as
    /// [`FetchResponse::encode_head`], without an answer to be put together first.
    ///
    /// # Panics
    /// If the version does not exist.
    #[must_use]
    pub fn encode_one(
        out: &mut Vec<u8>,
        version: i16,
        name: &str,
        topic_id: TopicId,
        partition: &FetchPartitionResponse,
    ) -> usize {
        assert!((VERSION_MIN..=VERSION_MAX).contains(&version), "fetch version {version}");
        let flexible = version >= FLEXIBLE_FROM;
        FetchResponse::default().put_start(out, version);
        codec::put_array(out, flexible, 1);
        put_topic(out, version, name, topic_id);
        codec::put_array(out, flexible, 1);
        let hole = partition.encode_head(out, version);
        put_no_tagged(out, flexible);
        FetchResponse::default().put_end(out, version);
        hole
    }

    fn put_start(&self, out: &mut Vec<u8>, version: i16) {
        codec::put_i32(out, self.throttle_time_ms);
        if version >= 7 {
            codec::put_i16(out, self.error.code());
            codec::put_i32(out, self.session_id);
        }
    }

    fn put_end(&self, out: &mut Vec<u8>, version: i16) {
        if version >= 16 {
            leader::put_endpoints(out, &self.node_endpoints);
        } else {
            put_no_tagged(out, version >= FLEXIBLE_FROM);
        }
    }

    /// The record bytes of all partitions together.
    #[must_use]
    pub fn records_bytes(&self) -> u64 {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|partition| u64::from(partition.records)).sum()
    }
}

impl FetchPartitionResponse {
    /// Returns the position of the hole.
    fn encode_head(&self, out: &mut Vec<u8>, version: i16) -> usize {
        let flexible = version >= FLEXIBLE_FROM;
        codec::put_i32(out, self.index.0);
        codec::put_i16(out, self.error.code());
        codec::put_i64(out, self.high_watermark.0);
        codec::put_i64(out, self.last_stable_offset.0);
        if version >= 5 {
            codec::put_i64(out, self.log_start_offset.0);
        }
        match &self.aborted {
            None => codec::put_null_array(out, flexible),
            Some(aborted) => {
                codec::put_array(out, flexible, aborted.len());
                for (producer, first) in aborted {
                    codec::put_i64(out, producer.0);
                    codec::put_i64(out, first.0);
                    put_no_tagged(out, flexible);
                }
            }
        }
        if version >= 11 {
            codec::put_i32(out, self.preferred_read_replica.0);
        }
        // A length looks like a count. No records are written as zero bytes, not as null.
        codec::put_array(out, flexible, self.records as usize);
        let hole = out.len();
        if flexible {
            let count = u32::from(self.diverging_epoch.is_some())
                + u32::from(self.current_leader.is_some());
            codec::put_unsigned_varint(out, count);
            if let Some((epoch, end)) = self.diverging_epoch {
                codec::put_unsigned_varint(out, 0);
                codec::put_unsigned_varint(out, 4 + 8 + 1);
                codec::put_i32(out, epoch.0);
                codec::put_i64(out, end.0);
                codec::put_no_tagged(out);
            }
            if let Some(current) = self.current_leader {
                leader::put_leader(out, 1, current);
            }
        }
        hole
    }
}

impl FetchResponse<Range<usize>> {
    /// Reads the body of an answer, for clients and followers. The ranges are positions in
    /// `bytes`; a broker may end them within a batch.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8], version: i16) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(bytes);
        let flexible = check(version, r)?;
        let mut response = FetchResponse { throttle_time_ms: r.i32()?, ..Self::default() };
        if version >= 7 {
            response.error = leader::read_error(r)?;
            response.session_id = r.i32()?;
        }
        let bytes_min = topic_bytes_min(version);
        let count = r.array::<FetchTopicResponse<Range<usize>>>(flexible, bytes_min)?;
        response.topics.reserve_exact(count);
        for _ in 0..count {
            response.topics.push(FetchTopicResponse::decode(r, version)?);
        }
        if flexible {
            r.tagged(|tag, field| {
                if tag != 0 || version < 16 {
                    return Ok(false);
                }
                response.node_endpoints = leader::read_endpoints(field)?;
                Ok(true)
            })?;
        }
        r.finish()?;
        Ok(response)
    }
}

impl FetchTopicResponse<Range<usize>> {
    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= FLEXIBLE_FROM;
        let (name, topic_id) = read_topic(r, version)?;
        // Index, error, high watermark, last stable offset, aborted and records are everywhere.
        let bytes_min = 4 + 2 + 8 + 8 + 1 + 1;
        let count = r.array::<FetchPartitionResponse<Range<usize>>>(flexible, bytes_min)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(FetchPartitionResponse::decode(r, version)?);
        }
        if flexible {
            r.skip_tagged()?;
        }
        Ok(FetchTopicResponse { name, topic_id, partitions })
    }
}

impl FetchPartitionResponse<Range<usize>> {
    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= FLEXIBLE_FROM;
        let mut partition = FetchPartitionResponse {
            index: PartitionIndex(r.i32()?),
            error: leader::read_error(r)?,
            high_watermark: Offset(r.i64()?),
            last_stable_offset: Offset(r.i64()?),
            ..Self::default()
        };
        if version >= 5 {
            partition.log_start_offset = Offset(r.i64()?);
        }
        partition.aborted = read_aborted(r, flexible)?;
        if version >= 11 {
            partition.preferred_read_replica = NodeId(r.i32()?);
        }
        let records = r.nullable_bytes(flexible)?.unwrap_or_default();
        partition.records = r.position() - records.len()..r.position();
        if flexible {
            r.tagged(|tag, field| {
                match tag {
                    0 => partition.diverging_epoch = read_diverging(field)?,
                    1 => partition.current_leader = leader::read_leader(field)?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        Ok(partition)
    }
}

fn read_aborted(
    r: &mut Reader<'_>,
    flexible: bool,
) -> Result<Option<Vec<(ProducerId, Offset)>>, DecodeError> {
    let bytes_min = 8 + 8 + usize::from(flexible);
    let Some(count) = r.nullable_array::<(ProducerId, Offset)>(flexible, bytes_min)? else {
        return Ok(None);
    };
    let mut aborted = Vec::with_capacity(count);
    for _ in 0..count {
        aborted.push((ProducerId(r.i64()?), Offset(r.i64()?)));
        if flexible {
            r.skip_tagged()?;
        }
    }
    Ok(Some(aborted))
}

fn read_diverging(r: &mut Reader<'_>) -> Result<Option<(LeaderEpoch, Offset)>, DecodeError> {
    let diverging = (LeaderEpoch(r.i32()?), Offset(r.i64()?));
    r.skip_tagged()?;
    Ok((diverging != (LeaderEpoch::NONE, Offset(-1))).then_some(diverging))
}
