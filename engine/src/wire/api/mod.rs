//! Every message of the Kafka protocol but Produce and Fetch, as plain structures.
//!
//! Owns: the table of APIs ([`ApiKey`]), the traits of messages, and one file per family of
//! messages, each declared in the notation of `schema.rs`. Fields are named as in Kafka's own
//! schemas, in snake case; error codes are the bare `i16` that [`ErrorCode`] converts.
//!
//! Keeps: decoding is bounded (see `codec`), takes bytes of any origin and never panics; bytes
//! that a version defines are read into fields and written again unchanged; unknown tagged
//! fields are skipped; a null array and an empty one are two values.
//!
//! Must not know: what the messages mean, or which versions a broker advertises.
//!
//! [`ErrorCode`]: super::code::ErrorCode

use std::ops::RangeInclusive;

use super::codec::{DecodeError, Reader};

mod field;
mod key;
mod list;
pub mod sample;
mod schema;

#[cfg(test)]
pub(crate) mod meter;
#[cfg(test)]
mod tests;

pub mod cluster;
pub mod commit;
pub mod configs;
pub mod coordinator;
pub mod groups;
pub mod membership;
pub mod metadata;
pub mod offsets;
pub mod placement;
pub mod producer;
pub mod quotas;
pub mod sasl;
pub mod topics;
pub mod transaction;
pub mod versions;

pub use cluster::*;
pub use commit::*;
pub use configs::*;
pub use coordinator::*;
pub use groups::*;
pub use key::ApiKey;
pub use membership::*;
pub use metadata::*;
pub use offsets::*;
pub use placement::*;
pub use producer::*;
pub use quotas::*;
pub use sasl::*;
pub use topics::*;
pub use transaction::*;
pub use versions::*;

/// A request's or response's body.
pub trait Message: Sized {
    /// The versions that can be encoded and decoded.
    const VERSIONS: RangeInclusive<i16>;

    /// Reads a message and leaves the reader behind it. Fields that the version does not have
    /// get their defaults.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes; `UnsupportedVersion` outside of `VERSIONS`.
    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError>;

    /// Appends the message to `out`. Fields that the version does not have are left out.
    ///
    /// # Panics
    /// If the version is not one of `VERSIONS`: a programmer's error.
    fn encode(&self, out: &mut Vec<u8>, version: i16);

    /// Shows `visit` every error code that the message has in this version, in the order of the
    /// wire.
    fn error_codes(&self, version: i16, visit: &mut dyn FnMut(i16));

    /// Puts `ms` into the field that tells a client how long it is throttled (KIP-219), if the
    /// message has one.
    fn set_throttle_time(&mut self, ms: i32);

    /// Reads a message that takes all of `bytes`.
    ///
    /// # Errors
    /// As [`Message::decode`], and `TrailingBytes`.
    fn parse(bytes: &[u8], version: i16) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let message = Self::decode(&mut r, version)?;
        r.finish()?;
        Ok(message)
    }
}

/// A request's body.
pub trait Request: Message {
    /// The number that its header carries.
    const KEY: ApiKey;
    /// What answers it, in the same version.
    type Response: Message;
}
