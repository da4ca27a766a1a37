//! What can go wrong between a client and its cluster.

use std::io;

use thiserror::Error;

use crate::wire::api::ApiKey;
use crate::wire::code::ErrorCode;
use crate::wire::codec::DecodeError;

/// Why a request has no answer. The difference that matters is whether the broker may have acted
/// on it: see [`CallError::may_have_happened`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// No connection could be made; nothing was sent.
    #[error("no connection: {0}")]
    Unreachable(io::ErrorKind),
    /// Metadata name no broker that could be asked; nothing was sent.
    #[error("no broker to ask")]
    NoBroker,
    /// The broker's and our versions of the API do not overlap; nothing was sent.
    #[error("the broker speaks no version of {0:?} that we speak")]
    Unsupported(ApiKey),
    /// The connection ended before the answer came.
    #[error("the connection was lost: {0}")]
    Lost(io::ErrorKind),
    /// No answer came in time, and the connection was closed.
    #[error("no answer in time")]
    TimedOut,
    /// The answer cannot be read.
    #[error("the answer is malformed: {0}")]
    Malformed(DecodeError),
    /// The whole request was refused.
    #[error("refused: {}", .0.message())]
    Refused(ErrorCode),
}

impl CallError {
    /// Whether the broker may have done what was asked.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        match self {
            CallError::Unreachable(_)
            | CallError::NoBroker
            | CallError::Unsupported(_)
            | CallError::Refused(_) => false,
            CallError::Lost(_) | CallError::TimedOut | CallError::Malformed(_) => true,
        }
    }

    /// Whether the same request may succeed later, perhaps elsewhere.
    #[must_use]
    pub fn retriable(&self) -> bool {
        match self {
            CallError::Unsupported(_) | CallError::Malformed(_) => false,
            CallError::Refused(code) => code.retriable(),
            _ => true,
        }
    }
}

impl From<DecodeError> for CallError {
    fn from(error: DecodeError) -> Self {
        CallError::Malformed(error)
    }
}
