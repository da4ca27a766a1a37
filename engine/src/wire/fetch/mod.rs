//! Fetch (key 1), versions 4 to 18, by hand: an answer is written as a head with holes, and the
//! record bytes that belong into the holes go from the file to the socket.
//!
//! Up to version 12 topics have names, from 13 on ids (KIP-516). Sessions (KIP-227) start with
//! version 7, compact forms with 12. `request` and `response` hold one direction each.

mod request;
mod response;

pub use request::{FetchOne, FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
pub use response::{FetchPartitionResponse, FetchResponse, FetchTopicResponse};

use super::codec::{self, DecodeError, Fault, Reader};
use crate::id::TopicId;

/// Fetch's API key.
pub const KEY: i16 = 1;

/// The lowest version.
pub const VERSION_MIN: i16 = 4;

/// The highest version.
pub const VERSION_MAX: i16 = 18;

const FLEXIBLE_FROM: i16 = 12;
const TOPIC_ID_FROM: i16 = 13;

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

fn read_topic(r: &mut Reader<'_>, version: i16) -> Result<(String, TopicId), DecodeError> {
    if version >= TOPIC_ID_FROM {
        Ok((String::new(), r.topic_id()?))
    } else {
        Ok((r.string(version >= FLEXIBLE_FROM)?.to_owned(), TopicId::NONE))
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
mod tests;
