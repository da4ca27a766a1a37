//! What can be wrong with a record batch: a closed list that says it precisely.

use thiserror::Error;

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
    /// The offsets of the header make no sense.
    #[error("base offset {base} with a last offset delta of {last_delta}")]
    Offsets {
        /// The header's base offset.
        base: i64,
        /// The header's last offset delta.
        last_delta: i32,
    },
    /// The number of records makes no sense, or does not fit the offsets.
    #[error("{count} records with a last offset delta of {last_delta}")]
    Count {
        /// The header's record count.
        count: i32,
        /// The header's last offset delta.
        last_delta: i32,
    },
}
