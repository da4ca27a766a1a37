//! The records of `__consumer_offsets`, as bytes: Kafka's own schemas, so that Kafka's formatters
//! and lag exporters read the topic.
//!
//! All numbers are big-endian. Keys begin with a version that also says what the record is about.
//!
//! ```text
//! key 1  OffsetCommitKey     version 2 (= 0 or 1), group STRING, topic STRING, partition 4
//! key 2  GroupMetadataKey    version 2 (= 2), group STRING
//!
//! OffsetCommitValue    version 2 (1 or 3 is written, 0 to 3 are read), offset 8,
//!                      leader epoch 4 (3), metadata STRING, committed at 8, expires at 8 (1)
//! GroupMetadataValue   version 2 (3 is written, 0 to 3 are read), protocol type STRING,
//!                      generation 4, protocol NSTRING, leader NSTRING, state since 8 (2+),
//!                      members LIST of
//!     member id STRING, instance NSTRING (3+), client id STRING, client host STRING,
//!     rebalance timeout 4 (1+), session timeout 4, subscription BYTES, assignment BYTES
//!
//! STRING  length 2, UTF-8      NSTRING  the same, length -1 for null
//! BYTES   length 4, bytes      LIST     count 4, items
//! ```
//!
//! No value is a tombstone: the group has forgotten the offset, or is gone. A committed offset has a
//! header beside them, [`TOPIC_ID`] with the 16 bytes of its topic's id: keys name topics, and another
//! topic may have the name one day. Must not know what groups do with them.

use thiserror::Error;

use crate::id::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use crate::wire::codec::{self, DecodeError, Reader};

/// The header of a committed offset that says which topic its key names.
pub const TOPIC_ID: &str = "topic-id";

/// What is written of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// How far a group has read of a partition.
    Committed {
        /// The group.
        group: String,
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// Where it stands; `None` forgets it.
        place: Option<Committed>,
    },
    /// A generation of a group that has its assignment, or a group without members.
    Generation {
        /// The group.
        group: String,
        /// The generation; `None` removes the group.
        generation: Option<Generation>,
    },
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The topic that had the name; none in records that others wrote.
    pub topic_id: TopicId,
    /// The offset of the next record to read.
    pub offset: Offset,
    /// The epoch of the last record that was read, or none.
    pub leader_epoch: LeaderEpoch,
    /// Whatever text the client gave with it.
    pub metadata: String,
    /// When it was committed, in ms since 1970.
    pub committed_ms: i64,
    /// When it expires, if the client said so (OffsetCommit up to version 4).
    pub expires_ms: Option<i64>,
}

/// A group's members with their shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// `consumer`, `connect`, ...; empty if nobody has ever joined.
    pub protocol_type: String,
    /// Its number.
    pub number: i32,
    /// The assignment strategy; none without members.
    pub protocol: Option<String>,
    /// The member that made the assignment; none without members.
    pub leader: Option<String>,
    /// When the group came into this state, in ms since 1970; -1 if not known.
    pub since_ms: i64,
    /// The members in the order of their ids.
    pub members: Vec<RecordedMember>,
}

/// One member of a recorded generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedMember {
    /// Its id.
    pub id: String,
    /// A static member's own name (KIP-345).
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// How long a rebalance waits for it, in ms.
    pub rebalance_ms: i32,
    /// How long it may be silent, in ms.
    pub session_ms: i32,
    /// What it said about itself, for the chosen protocol.
    pub subscription: Vec<u8>,
    /// Its share.
    pub assignment: Vec<u8>,
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The key or value has a version that this program does not know.
    #[error(
        "a record of __consumer_offsets has {what} version {version}, which this program does not \
         read; start it with the program that wrote it, or a newer one"
    )]
    Newer {
        /// Which part.
        what: &'static str,
        /// Its version.
        version: i16,
    },
    /// The bytes are damaged.
    #[error("a record of __consumer_offsets is damaged: {0}")]
    Damaged(DecodeError),
}

impl From<DecodeError> for RecordError {
    fn from(error: DecodeError) -> Self {
        RecordError::Damaged(error)
    }
}

/// The keys' strings are never in the compact form.
const CLASSIC: bool = false;

impl Record {
    /// The record's key.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Record::Committed { group, topic, partition, .. } => {
                codec::put_i16(&mut out, 1);
                codec::put_string(&mut out, CLASSIC, group);
                codec::put_string(&mut out, CLASSIC, topic);
                codec::put_i32(&mut out, partition.0);
            }
            Record::Generation { group, .. } => {
                codec::put_i16(&mut out, 2);
                codec::put_string(&mut out, CLASSIC, group);
            }
        }
        out
    }

    /// The record's value; none for a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<Vec<u8>> {
        match self {
            Record::Committed { place, .. } => place.as_ref().map(Committed::to_bytes),
            Record::Generation { generation, .. } => generation.as_ref().map(Generation::to_bytes),
        }
    }

    /// What its header [`TOPIC_ID`] says, if it has one.
    #[must_use]
    pub fn topic_id(&self) -> Option<TopicId> {
        match self {
            Record::Committed { place: Some(place), .. } => Some(place.topic_id),
            Record::Committed { .. } | Record::Generation { .. } => None,
        }
        .filter(|id| *id != TopicId::NONE)
    }

    /// Reads a record with what its header [`TOPIC_ID`] says. Memory is bounded by the number of bytes
    /// given.
    ///
    /// # Errors
    /// [`RecordError`] says what is wrong with them.
    pub fn decode(
        key: &[u8],
        value: Option<&[u8]>,
        topic_id: Option<TopicId>,
    ) -> Result<Record, RecordError> {
        let mut r = Reader::new(key);
        match r.i16()? {
            0 | 1 => {
                let group = r.string(CLASSIC)?.to_owned();
                let topic = r.string(CLASSIC)?.to_owned();
                let partition = PartitionIndex(r.i32()?);
                r.finish()?;
                let topic_id = topic_id.unwrap_or(TopicId::NONE);
                let place =
                    value.map(|value| Committed::from_bytes(value, topic_id)).transpose()?;
                Ok(Record::Committed { group, topic, partition, place })
            }
            2 => {
                let group = r.string(CLASSIC)?.to_owned();
                r.finish()?;
                let generation = value.map(Generation::from_bytes).transpose()?;
                Ok(Record::Generation { group, generation })
            }
            version => Err(RecordError::Newer { what: "key", version }),
        }
    }
}

impl Committed {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // Version 1 is the last one that can say when an offset expires, and cannot say an epoch.
        codec::put_i16(&mut out, if self.expires_ms.is_some() { 1 } else { 3 });
        codec::put_i64(&mut out, self.offset.0);
        if self.expires_ms.is_none() {
            codec::put_i32(&mut out, self.leader_epoch.0);
        }
        codec::put_string(&mut out, CLASSIC, &self.metadata);
        codec::put_i64(&mut out, self.committed_ms);
        if let Some(expires_ms) = self.expires_ms {
            codec::put_i64(&mut out, expires_ms);
        }
        out
    }

    fn from_bytes(bytes: &[u8], topic_id: TopicId) -> Result<Committed, RecordError> {
        let mut r = Reader::new(bytes);
        let version = r.i16()?;
        if !(0..=3).contains(&version) {
            return Err(RecordError::Newer { what: "offset", version });
        }
        let offset = Offset(r.i64()?);
        let leader_epoch = LeaderEpoch(if version == 3 { r.i32()? } else { -1 });
        let metadata = r.string(CLASSIC)?.to_owned();
        let committed_ms = r.i64()?;
        let expires_ms = if version == 1 { Some(r.i64()?) } else { None };
        r.finish()?;
        // Kafka writes -1 for "never said" in version 1.
        let expires_ms = expires_ms.filter(|ms| *ms >= 0);
        Ok(Committed { topic_id, offset, leader_epoch, metadata, committed_ms, expires_ms })
    }
}

impl Generation {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        codec::put_i16(&mut out, 3);
        codec::put_string(&mut out, CLASSIC, &self.protocol_type);
        codec::put_i32(&mut out, self.number);
        codec::put_nullable_string(&mut out, CLASSIC, self.protocol.as_deref());
        codec::put_nullable_string(&mut out, CLASSIC, self.leader.as_deref());
        codec::put_i64(&mut out, self.since_ms);
        codec::put_array(&mut out, CLASSIC, self.members.len());
        for member in &self.members {
            codec::put_string(&mut out, CLASSIC, &member.id);
            codec::put_nullable_string(&mut out, CLASSIC, member.instance.as_deref());
            codec::put_string(&mut out, CLASSIC, &member.client_id);
            codec::put_string(&mut out, CLASSIC, &member.client_host);
            codec::put_i32(&mut out, member.rebalance_ms);
            codec::put_i32(&mut out, member.session_ms);
            codec::put_bytes(&mut out, CLASSIC, &member.subscription);
            codec::put_bytes(&mut out, CLASSIC, &member.assignment);
        }
        out
    }

    fn from_bytes(bytes: &[u8]) -> Result<Generation, RecordError> {
        let mut r = Reader::new(bytes);
        let version = r.i16()?;
        if !(0..=3).contains(&version) {
            return Err(RecordError::Newer { what: "group", version });
        }
        let protocol_type = r.string(CLASSIC)?.to_owned();
        let number = r.i32()?;
        let protocol = r.nullable_string(CLASSIC)?.map(str::to_owned);
        let leader = r.nullable_string(CLASSIC)?.map(str::to_owned);
        let since_ms = if version >= 2 { r.i64()? } else { -1 };
        // A member is at least four strings or byte strings and a number.
        let count = r.nullable_array::<RecordedMember>(CLASSIC, 18)?.unwrap_or(0);
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            let id = r.string(CLASSIC)?.to_owned();
            let instance = match version {
                3 => r.nullable_string(CLASSIC)?.map(str::to_owned),
                _ => None,
            };
            let client_id = r.string(CLASSIC)?.to_owned();
            let client_host = r.string(CLASSIC)?.to_owned();
            let rebalance_ms = if version >= 1 { Some(r.i32()?) } else { None };
            let session_ms = r.i32()?;
            members.push(RecordedMember {
                id,
                instance,
                client_id,
                client_host,
                rebalance_ms: rebalance_ms.unwrap_or(session_ms),
                session_ms,
                subscription: r.bytes(CLASSIC)?.to_vec(),
                assignment: r.bytes(CLASSIC)?.to_vec(),
            });
        }
        r.finish()?;
        members.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Generation { protocol_type, number, protocol, leader, since_ms, members })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_committed() -> impl Strategy<Value = Committed> {
        let expires_ms = proptest::option::of(0..i64::MAX);
        (any::<[u8; 16]>(), any::<i64>(), any::<i32>(), ".{0,12}", any::<i64>(), expires_ms)
            .prop_map(|(id, offset, epoch, metadata, committed_ms, expires_ms)| Committed {
                topic_id: TopicId(id),
                offset: Offset(offset),
                // Version 1 has no room for an epoch.
                leader_epoch: LeaderEpoch(if expires_ms.is_some() { -1 } else { epoch }),
                metadata,
                committed_ms,
                expires_ms,
            })
    }

    fn any_member() -> impl Strategy<Value = RecordedMember> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..9);
        (
            ".{0,9}",
            proptest::option::of(".{0,9}"),
            ".{0,9}",
            any::<i32>(),
            any::<i32>(),
            bytes(),
            bytes(),
        )
            .prop_map(
                |(id, instance, client_id, rebalance_ms, session_ms, first, second)| {
                    RecordedMember {
                        id,
                        instance,
                        client_host: format!("/{client_id}"),
                        client_id,
                        rebalance_ms,
                        session_ms,
                        subscription: first,
                        assignment: second,
                    }
                },
            )
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let text = || proptest::option::of(".{0,9}");
        let generation = (
            ".{0,9}",
            any::<i32>(),
            text(),
            text(),
            any::<i64>(),
            proptest::collection::btree_map(".{0,9}", any_member(), 0..4),
        )
            .prop_map(|(protocol_type, number, protocol, leader, since_ms, members)| {
                let member = |(id, member)| RecordedMember { id, ..member };
                let members = members.into_iter().map(member).collect();
                Generation { protocol_type, number, protocol, leader, since_ms, members }
            });
        prop_oneof![
            (".{0,9}", "[a-z]{1,9}", any::<i32>(), proptest::option::of(any_committed())).prop_map(
                |(group, topic, partition, place)| Record::Committed {
                    group,
                    topic,
                    partition: PartitionIndex(partition),
                    place
                }
            ),
            (".{0,9}", proptest::option::of(generation))
                .prop_map(|(group, generation)| Record::Generation { group, generation }),
        ]
    }

    proptest! {
        #[test]
        fn a_record_survives_its_bytes(record in any_record()) {
            let read = Record::decode(&record.key(), record.value().as_deref(), record.topic_id());
            prop_assert_eq!(read, Ok(record));
        }

        #[test]
        fn every_prefix_is_refused(record in any_record()) {
            let key = record.key();
            for end in 0..key.len() {
                prop_assert!(Record::decode(&key[..end], None, None).is_err());
            }
            let value = record.value().unwrap_or_default();
            for end in 0..value.len() {
                prop_assert!(Record::decode(&key, Some(&value[..end]), None).is_err());
            }
        }

        #[test]
        fn any_bytes_are_a_record_or_an_error(
            key in proptest::collection::vec(any::<u8>(), 0..40),
            value in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = Record::decode(&key, Some(&value), None);
        }
    }

    /// The bytes of Kafka's own `OffsetCommitKey`, `OffsetCommitValue`, `GroupMetadataKey` and
    /// `GroupMetadataValue`, put together by hand from its schemas.
    #[test]
    fn the_bytes_are_kafkas() {
        let record = Record::Committed {
            group: "g".into(),
            topic: "to".into(),
            partition: PartitionIndex(5),
            place: Some(Committed {
                topic_id: TopicId::NONE,
                offset: Offset(7),
                leader_epoch: LeaderEpoch(2),
                metadata: "m".into(),
                committed_ms: 9,
                expires_ms: None,
            }),
        };
        let mut key = vec![0, 1, 0, 1, b'g', 0, 2, b't', b'o'];
        key.extend([0, 0, 0, 5]);
        assert_eq!(record.key(), key);
        let mut value = vec![0, 3, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2, 0, 1, b'm'];
        value.extend([0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(record.value(), Some(value));

        let record = Record::Generation {
            group: "g".into(),
            generation: Some(Generation {
                protocol_type: "c".into(),
                number: 3,
                protocol: Some("r".into()),
                leader: None,
                since_ms: 4,
                members: vec![RecordedMember {
                    id: "i".into(),
                    instance: None,
                    client_id: "x".into(),
                    client_host: "/".into(),
                    rebalance_ms: 5,
                    session_ms: 6,
                    subscription: vec![1],
                    assignment: vec![2, 3],
                }],
            }),
        };
        assert_eq!(record.key(), [0, 2, 0, 1, b'g']);
        let mut value = vec![0, 3, 0, 1, b'c', 0, 0, 0, 3, 0, 1, b'r', 0xff, 0xff];
        value.extend([0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1]);
        value.extend([0, 1, b'i', 0xff, 0xff, 0, 1, b'x', 0, 1, b'/', 0, 0, 0, 5, 0, 0, 0, 6]);
        value.extend([0, 0, 0, 1, 1, 0, 0, 0, 2, 2, 3]);
        assert_eq!(record.value(), Some(value));
    }

    #[test]
    fn newer_records_are_refused_by_name() {
        let newer = Record::decode(&[0, 3, 0, 1, b'g'], None, None).expect_err("a new kind");
        assert_eq!(newer, RecordError::Newer { what: "key", version: 3 });
        let newer =
            Record::decode(&[0, 2, 0, 1, b'g'], Some(&[0, 4]), None).expect_err("a new version");
        assert_eq!(newer, RecordError::Newer { what: "group", version: 4 });
    }
}
