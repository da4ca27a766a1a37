//! What can be wrong with a record batch: a closed list that says it precisely, and the one mapping
//! to Kafka's codes.

use thiserror::Error;

use super::Compression;
use crate::id::{ProducerEpoch, ProducerId};
use crate::wire::code::ErrorCode;
use crate::wire::compress::Unreadable;

/// Why bytes are not a batch, or not one that is taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the batch needs {needed} bytes and there are {found}")]
    Truncated {
        /// Bytes that the batch, or its header, takes.
        needed: usize,
        /// Bytes that there are.
        found: usize,
    },
    /// Another record format than v2.
    #[error("record format {0} is not 2")]
    Magic(i8),
    /// The length field cannot cover the header.
    #[error("batch length {0} is too short")]
    Length(i32),
    /// The attributes name a codec that does not exist.
    #[error("compression codec {0} is unknown")]
    UnknownCodec(u8),
    /// The offsets of the header make no sense, or a client's do not start with 0.
    #[error("base offset {base} with a last offset delta of {last_delta}")]
    Offsets {
        /// The header's base offset.
        base: i64,
        /// The header's last offset delta.
        last_delta: i32,
    },
    /// The number of records makes no sense, or does not fit the offsets or the bytes.
    #[error("{count} records with a last offset delta of {last_delta}")]
    Count {
        /// The header's record count.
        count: i32,
        /// The header's last offset delta.
        last_delta: i32,
    },
    /// The checksum is not that of the contents.
    #[error("the checksum does not match")]
    Checksum,
    /// At least that many bytes follow the batch, or its last record.
    #[error("{0} bytes or more follow where exactly one batch was expected")]
    Trailing(usize),
    /// The batch is larger than the topic allows.
    #[error("a batch of {bytes} bytes, and max.message.bytes is {max}")]
    TooLarge {
        /// The batch's bytes.
        bytes: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// The codec exists and is not allowed here.
    #[error("compression {0:?} is not allowed in this version of the request")]
    CodecRefused(Compression),
    /// Clients do not write control records.
    #[error("clients may not write control batches")]
    Control,
    /// The batch would open a transaction.
    #[error("the batch is of a transaction, and this broker has none yet")]
    Transactional,
    /// Clients do not decide on LogAppendTime.
    #[error("clients may not set the timestamp type LogAppendTime")]
    AppendTime,
    /// Producer id, epoch and sequence do not fit each other, or the transactional flag.
    #[error("producer id {id} with epoch {epoch} and sequence {sequence}")]
    Producer {
        /// The header's producer id.
        id: ProducerId,
        /// The header's producer epoch.
        epoch: ProducerEpoch,
        /// The header's base sequence.
        sequence: i32,
    },
    /// The compressed records cannot be read.
    #[error("the records are not what {0:?} writes")]
    Undecodable(Compression),
    /// The compressed records are too many bytes.
    #[error("the records decompress to more than {max} bytes")]
    Inflated {
        /// The most that is allowed.
        max: usize,
    },
    /// One record is malformed, and what follows it cannot be found.
    #[error("record {index}: {fault}")]
    Record {
        /// Its index in the batch.
        index: i32,
        /// What was wrong.
        fault: RecordFault,
    },
    /// Well-formed records break the topic's rules.
    #[error("{wrong} records are not allowed; the first is {}", .errors[0])]
    Records {
        /// The first of them, at least one.
        errors: Vec<RecordError>,
        /// How many there are.
        wrong: u32,
    },
}

/// A record that is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("record {index}: {fault}")]
pub struct RecordError {
    /// Its index in the batch.
    pub index: i32,
    /// What was wrong.
    pub fault: RecordFault,
}

/// What can be wrong with one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordFault {
    /// Its length is none, or not that of its parts.
    #[error("its length is wrong")]
    Length,
    /// A part reaches beyond its end, or the records end within it.
    #[error("it is cut short")]
    Truncated,
    /// The number of headers is negative or more than there are, or one has a null key.
    #[error("its headers are malformed")]
    Headers,
    /// Its offset is not the next one.
    #[error("its offset delta {0} is not the next one")]
    OffsetDelta(i32),
    /// Its timestamp does not fit into 64 bits.
    #[error("its timestamp overflows")]
    TimestampOverflow,
    /// A compacted topic needs keys.
    #[error("a compacted topic takes no record without a key")]
    NullKey,
    /// Its timestamp, in ms, is too old or too far ahead.
    #[error("its timestamp {0} is too far from the broker's clock")]
    Timestamp(i64),
}

impl BatchError {
    pub(super) fn unreadable(fault: Unreadable, codec: Compression, max: usize) -> BatchError {
        match fault {
            Unreadable::Damaged => BatchError::Undecodable(codec),
            Unreadable::TooMuch => BatchError::Inflated { max },
        }
    }

    /// The code that a produce request is answered with.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            BatchError::Truncated { .. } | BatchError::Length(_) | BatchError::Checksum => {
                ErrorCode::CorruptMessage
            }
            BatchError::TooLarge { .. } | BatchError::Inflated { .. } => ErrorCode::MessageTooLarge,
            BatchError::CodecRefused(_) | BatchError::UnknownCodec(_) => {
                ErrorCode::UnsupportedCompressionType
            }
            BatchError::AppendTime => ErrorCode::InvalidTimestamp,
            // As Kafka answers for a transaction that its coordinator knows nothing of, and as a
            // request with a transactional id is answered here. (Under no such id, Kafka says that
            // it is not authorized: that would have people look for rights that nobody lacks.)
            BatchError::Transactional => ErrorCode::InvalidTxnState,
            // As in Kafka: one bad timestamp names the batch's error.
            BatchError::Records { errors, .. } => {
                let is_timestamp = |e: &RecordError| matches!(e.fault, RecordFault::Timestamp(_));
                if errors.iter().any(is_timestamp) {
                    ErrorCode::InvalidTimestamp
                } else {
                    ErrorCode::InvalidRecord
                }
            }
            BatchError::Magic(_)
            | BatchError::Offsets { .. }
            | BatchError::Count { .. }
            | BatchError::Trailing(_)
            | BatchError::Control
            | BatchError::Producer { .. }
            | BatchError::Undecodable(_)
            | BatchError::Record { .. } => ErrorCode::InvalidRecord,
        }
    }

    /// The records to blame, as a produce answer lists them (KIP-467): index and message.
    #[must_use]
    pub fn record_errors(&self) -> Vec<(i32, Option<String>)> {
        match self {
            BatchError::Records { errors, .. } => {
                errors.iter().map(|error| (error.index, Some(error.fault.to_string()))).collect()
            }
            BatchError::Record { index, fault } => vec![(*index, Some(fault.to_string()))],
            _ => Vec::new(),
        }
    }
}
