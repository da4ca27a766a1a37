//! Who leads now: the hints that Produce and Fetch give beside an error (KIP-951), so that a
//! client need not ask for metadata first. Tagged fields of both answers, laid out alike.

use super::code::ErrorCode;
use super::codec::{self, DecodeError, Reader};
use crate::id::{LeaderEpoch, NodeId};

/// Where a node can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// Its `node.id`.
    pub node_id: NodeId,
    /// The host that it advertises.
    pub host: String,
    /// The port that it advertises.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

/// The bytes of the smallest endpoint: id, empty host, port, null rack, no tagged fields.
const ENDPOINT_BYTES_MIN: usize = 4 + 1 + 4 + 1 + 1;

/// The bytes of a current leader: id, epoch, no tagged fields.
const LEADER_BYTES: u32 = 4 + 4 + 1;

/// Appends the tagged field `tag` with a leader.
pub(super) fn put_leader(out: &mut Vec<u8>, tag: u32, leader: (NodeId, LeaderEpoch)) {
    codec::put_unsigned_varint(out, tag);
    codec::put_unsigned_varint(out, LEADER_BYTES);
    codec::put_i32(out, leader.0.0);
    codec::put_i32(out, leader.1.0);
    codec::put_no_tagged(out);
}

/// Reads a leader; -1 and -1 is none.
pub(super) fn read_leader(
    reader: &mut Reader<'_>,
) -> Result<Option<(NodeId, LeaderEpoch)>, DecodeError> {
    let leader = (NodeId(reader.i32()?), LeaderEpoch(reader.i32()?));
    reader.skip_tagged()?;
    Ok((leader != (NodeId(-1), LeaderEpoch::NONE)).then_some(leader))
}

/// Appends all tagged fields of an answer: the endpoints as tag 0, if there are any.
pub(super) fn put_endpoints(out: &mut Vec<u8>, endpoints: &[NodeEndpoint]) {
    if endpoints.is_empty() {
        return codec::put_no_tagged(out);
    }
    let mut field = Vec::new();
    codec::put_array(&mut field, true, endpoints.len());
    for endpoint in endpoints {
        codec::put_i32(&mut field, endpoint.node_id.0);
        codec::put_string(&mut field, true, &endpoint.host);
        codec::put_i32(&mut field, endpoint.port);
        codec::put_nullable_string(&mut field, true, endpoint.rack.as_deref());
        codec::put_no_tagged(&mut field);
    }
    codec::put_unsigned_varint(out, 1);
    codec::put_unsigned_varint(out, 0);
    let size = u32::try_from(field.len()).expect("a few endpoints fit into a frame");
    codec::put_unsigned_varint(out, size);
    out.extend_from_slice(&field);
}

/// Reads the array of endpoints.
pub(super) fn read_endpoints(reader: &mut Reader<'_>) -> Result<Vec<NodeEndpoint>, DecodeError> {
    let count = reader.array::<NodeEndpoint>(true, ENDPOINT_BYTES_MIN)?;
    let mut endpoints = Vec::with_capacity(count);
    for _ in 0..count {
        endpoints.push(NodeEndpoint {
            node_id: NodeId(reader.i32()?),
            host: reader.string(true)?.to_owned(),
            port: reader.i32()?,
            rack: reader.nullable_string(true)?.map(str::to_owned),
        });
        reader.skip_tagged()?;
    }
    Ok(endpoints)
}

/// An error code from the wire. One that we do not know is an unknown error, not a decode error:
/// newer brokers have more of them.
pub(super) fn read_error(reader: &mut Reader<'_>) -> Result<ErrorCode, DecodeError> {
    Ok(ErrorCode::from_code(reader.i16()?).unwrap_or(ErrorCode::UnknownServerError))
}
