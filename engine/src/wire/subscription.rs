//! What a consumer says of itself and what it is given: the two messages that members of
//! `consumer` groups exchange through their leader (`ConsumerProtocolSubscription` and
//! `ConsumerProtocolAssignment`).
//!
//! ```text
//! Subscription  version 2, topics LIST of STRING, user data NBYTES,
//!               owned LIST of (topic STRING, partitions LIST of 4)   1+
//!               generation 4                                         2+
//!               rack NSTRING                                         3+
//! Assignment    version 2, LIST of (topic STRING, partitions LIST of 4), user data NBYTES
//! ```
//!
//! Later versions only add at the end, so a reader takes what it knows. The broker hands both on
//! as bytes; it looks at the topics only, to know which offsets are in use.

use std::collections::BTreeMap;

use crate::id::PartitionIndex;
use crate::wire::codec::{self, DecodeError, Reader};

/// The protocol type of groups whose members are consumers.
pub const PROTOCOL_TYPE: &str = "consumer";

/// Partitions by topic.
pub type Partitions = BTreeMap<String, Vec<PartitionIndex>>;

/// What a consumer tells the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The topics it wants.
    pub topics: Vec<String>,
    /// The partitions it holds, for strategies that leave them where they are.
    pub owned: Partitions,
    /// The generation in which it got them; -1 if none.
    pub generation: i32,
}

const CLASSIC: bool = false;

impl Subscription {
    /// Its bytes, in version 2.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        codec::put_i16(&mut out, 2);
        codec::put_array(&mut out, CLASSIC, self.topics.len());
        self.topics.iter().for_each(|topic| codec::put_string(&mut out, CLASSIC, topic));
        codec::put_nullable_bytes(&mut out, CLASSIC, None);
        put_partitions(&mut out, &self.owned);
        codec::put_i32(&mut out, self.generation);
        out
    }

    /// Reads a subscription of any version.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Subscription, DecodeError> {
        let mut r = Reader::new(bytes);
        let version = r.i16()?;
        let mut topics = Vec::new();
        for _ in 0..r.nullable_array::<String>(CLASSIC, 2)?.unwrap_or(0) {
            topics.push(r.string(CLASSIC)?.to_owned());
        }
        r.nullable_bytes(CLASSIC)?;
        let owned = if version >= 1 { read_partitions(&mut r)? } else { Partitions::new() };
        let generation = if version >= 2 { r.i32()? } else { -1 };
        Ok(Subscription { topics, owned, generation })
    }
}

/// The topics of a subscription, `None` if the bytes are not one. Copies nothing: members may say a lot.
#[must_use]
pub fn topics(bytes: &[u8]) -> Option<Vec<&str>> {
    let read = || {
        let mut r = Reader::new(bytes);
        let version = r.i16()?;
        let mut topics = Vec::new();
        for _ in 0..r.nullable_array::<&str>(CLASSIC, 2)?.unwrap_or(0) {
            topics.push(r.string(CLASSIC)?);
        }
        r.nullable_bytes(CLASSIC)?;
        if version >= 1 {
            for _ in 0..r.nullable_array::<(String, Vec<i32>)>(CLASSIC, 6)?.unwrap_or(0) {
                r.string(CLASSIC)?;
                let indexes = r.nullable_array::<i32>(CLASSIC, 4)?.unwrap_or(0);
                r.take(4 * indexes)?;
            }
        }
        if version >= 2 {
            r.i32()?;
        }
        Ok::<_, DecodeError>(topics)
    };
    read().ok()
}

/// The bytes of an assignment, in version 1.
#[must_use]
pub fn assignment_to_bytes(partitions: &Partitions) -> Vec<u8> {
    let mut out = Vec::new();
    codec::put_i16(&mut out, 1);
    put_partitions(&mut out, partitions);
    codec::put_nullable_bytes(&mut out, CLASSIC, None);
    out
}

/// Reads an assignment of any version. No bytes at all are no partitions: a leader may leave a
/// member out.
///
/// # Errors
/// Whatever is wrong with the bytes.
pub fn parse_assignment(bytes: &[u8]) -> Result<Partitions, DecodeError> {
    if bytes.is_empty() {
        return Ok(Partitions::new());
    }
    let mut r = Reader::new(bytes);
    r.i16()?;
    read_partitions(&mut r)
}

fn put_partitions(out: &mut Vec<u8>, partitions: &Partitions) {
    codec::put_array(out, CLASSIC, partitions.len());
    for (topic, indexes) in partitions {
        codec::put_string(out, CLASSIC, topic);
        codec::put_array(out, CLASSIC, indexes.len());
        indexes.iter().for_each(|index| codec::put_i32(out, index.0));
    }
}

fn read_partitions(r: &mut Reader<'_>) -> Result<Partitions, DecodeError> {
    let mut partitions = Partitions::new();
    for _ in 0..r.nullable_array::<(String, Vec<i32>)>(CLASSIC, 6)?.unwrap_or(0) {
        let topic = r.string(CLASSIC)?.to_owned();
        let indexes = partitions.entry(topic).or_default();
        for _ in 0..r.nullable_array::<i32>(CLASSIC, 4)?.unwrap_or(0) {
            indexes.push(PartitionIndex(r.i32()?));
        }
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as Assigned;
    use kafka_protocol::messages::consumer_protocol_subscription::TopicPartition as Owned;
    use kafka_protocol::messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName,
    };
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

    use super::*;

    fn name(topic: &str) -> TopicName {
        TopicName(StrBytes::from_string(topic.to_owned()))
    }

    #[test]
    fn the_oracle_reads_what_we_write_and_the_other_way_round() {
        let owned = Partitions::from([("a".into(), vec![PartitionIndex(3), PartitionIndex(0)])]);
        let ours = Subscription { topics: vec!["a".into(), "b".into()], owned, generation: 7 };
        let mut bytes = Bytes::from(ours.to_bytes()).slice(2..);
        let theirs = ConsumerProtocolSubscription::decode(&mut bytes, 2).expect("readable");
        assert_eq!(theirs.topics.len(), 2);
        let expected = Owned::default().with_topic(name("a")).with_partitions(vec![3, 0]);
        assert_eq!(theirs.owned_partitions, vec![expected]);
        assert_eq!(theirs.generation_id, 7);
        for version in 0..=3 {
            let mut out = BytesMut::from(&[0, version][..]);
            let mut theirs = theirs.clone();
            if version < 2 {
                theirs.generation_id = -1;
            }
            if version < 1 {
                theirs.owned_partitions.clear();
            }
            theirs.encode(&mut out, i16::from(version)).expect("encodable");
            let read = Subscription::parse(&out).expect("readable");
            assert_eq!(read.topics, ours.topics);
            assert_eq!(topics(&out), Some(vec!["a", "b"]));
            assert_eq!(read.generation, if version < 2 { -1 } else { 7 });
        }

        let given = Partitions::from([("a".into(), vec![PartitionIndex(1)])]);
        let mut bytes = Bytes::from(assignment_to_bytes(&given)).slice(2..);
        let theirs = ConsumerProtocolAssignment::decode(&mut bytes, 1).expect("readable");
        let expected = Assigned::default().with_topic(name("a")).with_partitions(vec![1]);
        assert_eq!(theirs.assigned_partitions, vec![expected]);
        assert_eq!(parse_assignment(&assignment_to_bytes(&given)), Ok(given));
        assert_eq!(parse_assignment(&[]), Ok(Partitions::new()));
    }

    #[test]
    fn rubbish_is_no_subscription() {
        assert_eq!(topics(b"connect"), None);
        assert_eq!(topics(&[]), None);
        let whole = Subscription { topics: vec!["a".into()], ..Subscription::default() }.to_bytes();
        for end in 0..whole.len() {
            assert_eq!(topics(&whole[..end]), None, "{end} bytes");
            assert!(Subscription::parse(&whole[..end]).is_err(), "{end} bytes");
        }
    }
}
