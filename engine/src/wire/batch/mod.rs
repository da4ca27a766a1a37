//! The Kafka record batch (format v2): the one unit of wire, disk and replication.
//!
//! A batch is viewed and stamped where it lies; nothing on the data path re-encodes it. This file
//! owns the header's layout and the view; `verify` holds what a broker checks before it takes a
//! client's batch, `record` walks the records, `build` makes batches, `fault` says what was wrong.
//! All of it is bytes and numbers: no time, no files, no tasks.
//!
//! ```text
//!   0 base offset         i64   stamped by the leader  ┐ not covered
//!   8 batch length        i32   bytes after this field │ by the
//!  12 leader epoch        i32   stamped by the leader  │ checksum
//!  16 magic               i8    2                      │
//!  17 CRC-32C             u32   of everything below    ┘
//!  21 attributes          i16   codec 0-2, timestamp type 3, transactional 4, control 5
//!  23 last offset delta   i32   last offset - base offset
//!  27 base timestamp      i64   ms
//!  35 max timestamp       i64   ms
//!  43 producer id         i64   -1: none
//!  51 producer epoch      i16
//!  53 base sequence       i32
//!  57 record count        i32
//!  61 records, compressed together if the codec says so
//! ```

mod build;
mod fault;
mod recompress;
mod record;
mod retain;
mod varint;
mod verify;
mod walk;

use std::ops::Deref;

use crate::id::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

pub use build::{Builder, RecordHeader};
pub use fault::{BatchError, RecordError, RecordFault};
pub use recompress::recompress;
pub use record::{Contents, Record, Records};
pub use retain::{Retained, emptied, retain};
pub use verify::{Rules, Verified, verify};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

/// Bytes that [`Header::size`] needs: base offset and batch length.
pub const PREFIX_BYTES: usize = 12;

/// The only batch format that is taken, kept and served.
pub const MAGIC: i8 = 2;

const LENGTH_AT: usize = 8;
const EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const LAST_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const COUNT_AT: usize = 57;

const CODEC_BITS: i16 = 0b111;
const APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Raw Snappy, or Snappy in the frames of snappy-java ("Xerial").
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// RFC 8878 (KIP-110).
    Zstd,
}

impl Compression {
    /// The codec with this number in the attributes, 0 to 4.
    #[must_use]
    pub fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => return None,
        })
    }

    /// Its number in the attributes.
    #[must_use]
    pub fn bits(self) -> u8 {
        self as u8
    }
}

/// What the timestamps of a batch mean (KIP-32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// Each record's own, given by the producer.
    #[default]
    CreateTime,
    /// The batch's max timestamp, given by the broker, counts for every record.
    LogAppendTime,
}

/// The header of one batch, decoded. Enough to walk a log without reading records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    base_offset: i64,
    size: usize,
    leader_epoch: i32,
    crc: u32,
    attributes: i16,
    compression: Compression,
    last_offset_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    count: i32,
}

impl Header {
    /// Reads the header at the start of `bytes`, which need not hold the records. Checks structure
    /// only: magic, a length that covers the header, a known codec, and numbers that are not
    /// negative where they count something.
    ///
    /// # Errors
    /// [`BatchError::Truncated`] if there are fewer than [`HEADER_BYTES`] bytes, and the fault that
    /// was found otherwise.
    pub fn parse(bytes: &[u8]) -> Result<Header, BatchError> {
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Truncated { needed: HEADER_BYTES, found: bytes.len() });
        };
        let magic = head[MAGIC_AT] as i8;
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let length = i32_at(head, LENGTH_AT);
        let size = match usize::try_from(length) {
            Ok(length) if length + PREFIX_BYTES >= HEADER_BYTES => length + PREFIX_BYTES,
            _ => return Err(BatchError::Length(length)),
        };
        let attributes = i16_at(head, ATTRIBUTES_AT);
        let codec = (attributes & CODEC_BITS) as u8;
        let compression = Compression::from_bits(codec).ok_or(BatchError::UnknownCodec(codec))?;
        let header = Header {
            base_offset: i64_at(head, 0),
            size,
            leader_epoch: i32_at(head, EPOCH_AT),
            crc: i32_at(head, CRC_AT) as u32,
            attributes,
            compression,
            last_offset_delta: i32_at(head, LAST_DELTA_AT),
            base_timestamp: i64_at(head, BASE_TIMESTAMP_AT),
            max_timestamp: i64_at(head, MAX_TIMESTAMP_AT),
            producer_id: i64_at(head, PRODUCER_ID_AT),
            producer_epoch: i16_at(head, PRODUCER_EPOCH_AT),
            base_sequence: i32_at(head, BASE_SEQUENCE_AT),
            count: i32_at(head, COUNT_AT),
        };
        let last = header.base_offset.checked_add(i64::from(header.last_offset_delta));
        if header.last_offset_delta < 0 || header.base_offset < 0 || last.is_none() {
            return Err(BatchError::Offsets {
                base: header.base_offset,
                last_delta: header.last_offset_delta,
            });
        }
        if header.count < 0 {
            return Err(BatchError::Count {
                count: header.count,
                last_delta: header.last_offset_delta,
            });
        }
        Ok(header)
    }

    /// Offset of the first record; the producer writes 0 and the leader stamps it.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        Offset(self.base_offset)
    }

    /// Bytes of the whole batch, header and prefix included; at least [`HEADER_BYTES`].
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The epoch of the leader that appended it; -1 from a producer.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.leader_epoch)
    }

    /// The checksum that the batch announces.
    #[must_use]
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// The attribute bits as they are.
    #[must_use]
    pub fn attributes(&self) -> i16 {
        self.attributes
    }

    /// How the records are compressed.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// What the timestamps mean.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether it holds control records (transaction markers), which clients do not show.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Whether the base timestamp is a delete horizon (KIP-534), set by compaction.
    #[must_use]
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & DELETE_HORIZON_BIT != 0
    }

    /// What the records' timestamps are relative to, in ms since 1970; -1 if they have none.
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// The largest timestamp of the records, or the append time, in ms since 1970.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Last offset minus base offset; not negative.
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        self.last_offset_delta
    }

    /// The last offset that the batch covers; compaction may have removed the record itself.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset + i64::from(self.last_offset_delta))
    }

    /// The idempotent producer, or [`ProducerId::NONE`].
    #[must_use]
    pub fn producer_id(&self) -> ProducerId {
        ProducerId(self.producer_id)
    }

    /// That producer's epoch; -1 if there is none.
    #[must_use]
    pub fn producer_epoch(&self) -> ProducerEpoch {
        ProducerEpoch(self.producer_epoch)
    }

    /// Sequence number of the first record; -1 if there is no producer. Wraps to 0 after
    /// `i32::MAX`.
    #[must_use]
    pub fn base_sequence(&self) -> i32 {
        self.base_sequence
    }

    /// Number of records; not negative, and 0 only after compaction.
    #[must_use]
    pub fn count(&self) -> i32 {
        self.count
    }
}

/// A view of one whole batch.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    header: Header,
    bytes: &'a [u8],
}

impl Deref for Batch<'_> {
    type Target = Header;

    fn deref(&self) -> &Header {
        &self.header
    }
}

impl<'a> Batch<'a> {
    /// Views the batch at the start of `bytes`; more may follow it. Structure only, see
    /// [`Header::parse`]; the checksum is [`Batch::crc_matches`].
    ///
    /// # Errors
    /// [`BatchError::Truncated`] if `bytes` ends before the batch does, and what was wrong
    /// otherwise.
    pub fn parse(bytes: &'a [u8]) -> Result<Batch<'a>, BatchError> {
        let header = Header::parse(bytes)?;
        match bytes.get(..header.size) {
            Some(bytes) => Ok(Batch { header, bytes }),
            None => Err(BatchError::Truncated { needed: header.size, found: bytes.len() }),
        }
    }

    /// The batch's bytes, exactly [`Header::size`] of them.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes behind the header: records, compressed if the codec says so.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// Whether the contents have the checksum that the header announces.
    #[must_use]
    pub fn crc_matches(&self) -> bool {
        crc(self.bytes) == self.header.crc
    }
}

/// Writes the leader's part into a batch in place: the offset of its first record and the leader's
/// epoch. The checksum does not cover them.
///
/// # Panics
/// If `batch` is shorter than a header: stamping comes after verification.
pub fn stamp(batch: &mut [u8], base: Offset, epoch: LeaderEpoch) {
    assert!(batch.len() >= HEADER_BYTES, "stamped bytes are no batch");
    batch[..8].copy_from_slice(&base.0.to_be_bytes());
    batch[EPOCH_AT..MAGIC_AT].copy_from_slice(&epoch.0.to_be_bytes());
}

/// Turns a batch into one with `LogAppendTime` (KIP-32): sets the attribute and the max timestamp,
/// and renews the checksum. The records' own timestamps stay and no longer count.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn stamp_append_time(batch: &mut [u8], ms: i64) {
    assert!(batch.len() >= HEADER_BYTES, "stamped bytes are no batch");
    let attributes = i16_at(batch, ATTRIBUTES_AT) | APPEND_TIME_BIT;
    batch[ATTRIBUTES_AT..LAST_DELTA_AT].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..PRODUCER_ID_AT].copy_from_slice(&ms.to_be_bytes());
    stamp_crc(batch);
}

/// Sets the header's max timestamp to that of the records ([`Verified::max_timestamp`]), for
/// clients that do not fill it in, and renews the checksum.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn stamp_max_timestamp(batch: &mut [u8], ms: i64) {
    assert!(batch.len() >= HEADER_BYTES, "stamped bytes are no batch");
    batch[MAX_TIMESTAMP_AT..PRODUCER_ID_AT].copy_from_slice(&ms.to_be_bytes());
    stamp_crc(batch);
}

/// Gives a batch another producer identity and sequence, and renews the checksum. For clients,
/// before a batch is first sent.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn stamp_producer(batch: &mut [u8], id: ProducerId, epoch: ProducerEpoch, sequence: i32) {
    assert!(batch.len() >= HEADER_BYTES, "stamped bytes are no batch");
    batch[PRODUCER_ID_AT..PRODUCER_EPOCH_AT].copy_from_slice(&id.0.to_be_bytes());
    batch[PRODUCER_EPOCH_AT..BASE_SEQUENCE_AT].copy_from_slice(&epoch.0.to_be_bytes());
    batch[BASE_SEQUENCE_AT..COUNT_AT].copy_from_slice(&sequence.to_be_bytes());
    stamp_crc(batch);
}

fn stamp_crc(batch: &mut [u8]) {
    let crc = crc(batch);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

/// CRC-32C of what the checksum covers.
fn crc(batch: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(&batch[ATTRIBUTES_AT..])
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    let (high, low) = (i32_at(bytes, at), i32_at(bytes, at + 4));
    i64::from(high) << 32 | i64::from(low as u32)
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod verify_tests;
