//! How operations on a log fail. The caller maps these to Kafka's codes.
//!
//! Three kinds: the peer's mistakes (a sequence, an offset), the disk's (storage, corruption), and
//! [`Poisoned`]: an earlier failure of the disk after which this log answers nothing until the
//! process restarts and recovery reads what is really there.

use std::path::PathBuf;

use thiserror::Error;

use crate::id::{Offset, ProducerEpoch};
use crate::io;

/// The log is out of use because an earlier write or flush failed.
///
/// There is no retry: after a failed flush the kernel may have dropped the data and would report
/// success the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the log is offline after a storage failure")]
pub struct Poisoned;

/// Why a log could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("{path}: {source}")]
    Storage {
        /// What was being read or written.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The file was written by a newer version of the program. Nothing was changed.
    #[error("{path} has format version {version}, this program knows up to {known}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format version.
        version: u32,
        /// The newest version this program reads.
        known: u32,
    },
    /// What was durable is damaged so that it is unknown which data was. Nothing was changed.
    #[error("{path} is damaged: {what}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// Why a batch was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AppendError {
    /// See [`Poisoned`]. Maps to `KAFKA_STORAGE_ERROR`.
    #[error("the log is offline after a storage failure")]
    Poisoned,
    /// This write failed; the batch may or may not be there after a restart, and the log is
    /// poisoned from now on. Maps to `KAFKA_STORAGE_ERROR`.
    #[error("the write failed: {0}")]
    Storage(io::ErrorKind),
    /// The disk is full. Nothing was appended, and the log stays in use. Maps to
    /// `KAFKA_STORAGE_ERROR`.
    #[error("the disk is full")]
    Full,
    /// The system has no descriptor, or no memory, for the segment's file. Nothing was appended, and the
    /// log stays in use. Maps to `KAFKA_STORAGE_ERROR`.
    #[error(
        "the system has no descriptor or memory for the segment's file: raise the limit (`ulimit -n`), \
         or lower trialog.partitions.open.max"
    )]
    Scarce,
    /// The bytes are not one record batch that fits a segment. Maps to `CORRUPT_MESSAGE` or
    /// `RECORD_LIST_TOO_LARGE`; a caller that verified them does not see it.
    #[error("the batch does not fit a segment of this log")]
    TooLarge,
    /// The bytes are not exactly one whole record batch. Maps to `CORRUPT_MESSAGE`.
    #[error("not one whole record batch")]
    Malformed,
    /// The batch does not continue its producer's sequence (KIP-98). Maps to
    /// `OUT_OF_ORDER_SEQUENCE_NUMBER`.
    #[error("sequence {found} does not continue the producer's batches: expected {expected}")]
    OutOfOrderSequence {
        /// The sequence number that would have been accepted.
        expected: i32,
        /// The batch's first sequence number.
        found: i32,
    },
    /// A newer instance of the producer has written here (KIP-98). Maps to
    /// `INVALID_PRODUCER_EPOCH`.
    #[error("producer epoch {} is fenced by {}", found.0, current.0)]
    InvalidProducerEpoch {
        /// The newest epoch seen of this producer.
        current: ProducerEpoch,
        /// The batch's epoch.
        found: ProducerEpoch,
    },
}

/// Why a read was not planned or a look-up failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The offset is before the start or after the bound. Maps to `OFFSET_OUT_OF_RANGE`.
    #[error("offset out of range: the log holds {start} to {end}")]
    OutOfRange {
        /// The first offset that can be read.
        start: Offset,
        /// The bound that was asked for, at most the log's end.
        end: Offset,
    },
    /// The bytes on the disk are damaged below what was flushed. They are not served and not
    /// removed. Maps to `KAFKA_STORAGE_ERROR`.
    #[error("the segment that starts at {segment} is damaged at byte {position}")]
    Corrupt {
        /// The damaged segment's base offset.
        segment: Offset,
        /// Where in its file the damage was noticed.
        position: u64,
    },
    /// The disk failed to read. Maps to `KAFKA_STORAGE_ERROR`.
    #[error("the read failed: {0}")]
    Storage(io::ErrorKind),
    /// The system has no descriptor, or no memory, to open the segment's file. Maps to
    /// `KAFKA_STORAGE_ERROR`.
    #[error("the system has no descriptor or memory for the segment's file")]
    Scarce,
    /// See [`Poisoned`]. Maps to `KAFKA_STORAGE_ERROR`.
    #[error("the log is offline after a storage failure")]
    Poisoned,
}

/// Why the log's range was not changed (truncation, raising the start).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// The offset is beyond what can be read. Maps to `OFFSET_OUT_OF_RANGE`.
    #[error("offset out of range: the log holds {start} to {end}")]
    OutOfRange {
        /// The log's start.
        start: Offset,
        /// The end of what can be read.
        end: Offset,
    },
    /// A flush ticket is out: try again after [`super::Log::flushed`].
    #[error("a flush is under way")]
    Busy,
    /// The disk failed. Whether the change survives a restart is unknown.
    #[error("the change failed: {0}")]
    Storage(io::ErrorKind),
    /// The system has no descriptor, or no memory, for a file. Nothing was changed.
    #[error("the system has no descriptor or memory for a file")]
    Scarce,
    /// The bytes on the disk are damaged where they had to be read.
    #[error("the segment that starts at {segment} is damaged at byte {position}")]
    Corrupt {
        /// The damaged segment's base offset.
        segment: Offset,
        /// Where in its file the damage was noticed.
        position: u64,
    },
    /// See [`Poisoned`].
    #[error("the log is offline after a storage failure")]
    Poisoned,
}

impl From<io::Error> for PlanError {
    fn from(error: io::Error) -> Self {
        match io::is_scarce(&error) {
            true => PlanError::Scarce,
            false => PlanError::Storage(error.kind()),
        }
    }
}

impl From<Poisoned> for AppendError {
    fn from(_: Poisoned) -> Self {
        AppendError::Poisoned
    }
}

impl From<Poisoned> for PlanError {
    fn from(_: Poisoned) -> Self {
        PlanError::Poisoned
    }
}

impl From<Poisoned> for ChangeError {
    fn from(_: Poisoned) -> Self {
        ChangeError::Poisoned
    }
}

impl From<PlanError> for ChangeError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::OutOfRange { start, end } => ChangeError::OutOfRange { start, end },
            PlanError::Corrupt { segment, position } => ChangeError::Corrupt { segment, position },
            PlanError::Storage(kind) => ChangeError::Storage(kind),
            PlanError::Scarce => ChangeError::Scarce,
            PlanError::Poisoned => ChangeError::Poisoned,
        }
    }
}
