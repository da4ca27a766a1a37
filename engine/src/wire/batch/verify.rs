//! What a broker checks before it takes a client's batch.
//!
//! The header first, then the checksum, then every record once: in place if they are not
//! compressed, through a small window if they are. Nothing is allocated for an uncompressed batch
//! that passes. The rules are those of Kafka's `LogValidator` and `ProduceRequest`, and where Kafka
//! repairs silently (a wrong max timestamp), the caller is told the true value.

use super::fault::{BatchError, RecordError, RecordFault};
use super::walk::{self, Plain, Shape, Source, Stream};
use super::{Batch, Compression, TimestampType};
use crate::id::ProducerId;
use crate::limit::{BATCH_DECOMPRESSED_BYTES_MAX, RECORD_ERRORS_MAX};
use crate::wire::compress::Decompress;

/// The bytes of the smallest record: a length, an attribute byte and five varints.
const RECORD_BYTES_MIN: usize = 7;

/// What a topic demands of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `max.message.bytes`: the largest batch as sent, compressed, in bytes.
    pub batch_bytes_max: usize,
    /// Zstandard is not allowed before Produce 7 (KIP-110).
    pub zstd: bool,
    /// Every record must have a key, because the topic is compacted.
    pub keys_required: bool,
    /// The topic has LogAppendTime: timestamps are replaced, so they are not checked.
    pub append_time: bool,
    /// The broker's wall clock, in ms since 1970.
    pub now_ms: i64,
    /// `message.timestamp.before.max.ms`: how old a record may be; `i64::MAX` for any age.
    pub timestamp_before_ms_max: i64,
    /// `message.timestamp.after.max.ms`: how far ahead of the clock a record may be.
    pub timestamp_after_ms_max: i64,
}

impl Default for Rules {
    /// Kafka's defaults at the clock's zero: a megabyte and twelve bytes, any age, an hour ahead.
    fn default() -> Self {
        Rules {
            batch_bytes_max: 1024 * 1024 + super::PREFIX_BYTES,
            zstd: true,
            keys_required: false,
            append_time: false,
            now_ms: 0,
            timestamp_before_ms_max: i64::MAX,
            timestamp_after_ms_max: 3_600_000,
        }
    }
}

/// What verification learnt on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The largest timestamp of the records. Where the header says otherwise (some clients do not
    /// fill it in), Kafka writes this one: see [`super::stamp_max_timestamp`].
    pub max_timestamp: i64,
}

/// Checks that `bytes` are exactly one batch that a client may append under `rules`.
///
/// # Errors
/// [`BatchError`], which names its Kafka code and, where single records are to blame, those.
pub fn verify(bytes: &[u8], rules: &Rules) -> Result<Verified, BatchError> {
    let batch = Batch::parse(bytes)?;
    if batch.size() != bytes.len() {
        return Err(BatchError::Trailing(bytes.len() - batch.size()));
    }
    verify_header(&batch, rules)?;
    if !batch.crc_matches() {
        return Err(BatchError::Checksum);
    }
    // There is no coordinator that could end the transaction: it would stay open, its producer would
    // never be forgotten, and compaction would stop in front of it for ever. After the checksum,
    // because no client tries again for this reason, and a bit may have been flipped on the way.
    if batch.is_transactional() {
        return Err(BatchError::Transactional);
    }
    let payload = batch.payload();
    let mut check = Check { batch: &batch, rules, max: i64::MIN, errors: Vec::new(), wrong: 0 };
    let compression = batch.compression();
    if compression == Compression::None {
        let mut source = Plain::new(payload);
        check.records(&mut source)?;
        if source.position() != payload.len() {
            return Err(BatchError::Trailing(payload.len() - source.position()));
        }
    } else {
        let limit = BATCH_DECOMPRESSED_BYTES_MAX;
        let mut source = Stream::new(Decompress::new(compression, payload, limit));
        let result = check.records(&mut source);
        let rest = if result.is_ok() { source.byte() } else { None };
        // What the codec says explains best why a record was cut short.
        if let Some(fault) = source.fault() {
            return Err(BatchError::unreadable(fault, compression, limit));
        }
        result?;
        if rest.is_some() {
            return Err(BatchError::Trailing(1));
        }
    }
    check.finish()
}

fn verify_header(batch: &Batch<'_>, rules: &Rules) -> Result<(), BatchError> {
    if batch.size() > rules.batch_bytes_max {
        return Err(BatchError::TooLarge { bytes: batch.size(), max: rules.batch_bytes_max });
    }
    if batch.compression() == Compression::Zstd && !rules.zstd {
        return Err(BatchError::CodecRefused(Compression::Zstd));
    }
    if batch.is_control() {
        return Err(BatchError::Control);
    }
    let (count, last_delta) = (batch.count(), batch.last_offset_delta());
    if count == 0 || count - 1 != last_delta {
        return Err(BatchError::Count { count, last_delta });
    }
    if batch.base_offset().0 != 0 {
        return Err(BatchError::Offsets { base: batch.base_offset().0, last_delta });
    }
    let (id, epoch) = (batch.producer_id(), batch.producer_epoch());
    let sequence = batch.base_sequence();
    let has_producer = id != ProducerId::NONE;
    let is_complete = id.0 >= 0 && epoch.0 >= 0 && sequence >= 0;
    if has_producer && !is_complete || !has_producer && batch.is_transactional() {
        return Err(BatchError::Producer { id, epoch, sequence });
    }
    if !rules.append_time && batch.timestamp_type() == TimestampType::LogAppendTime {
        return Err(BatchError::AppendTime);
    }
    // A cheap bound before the walk: that many records are not in there.
    let payload = batch.payload().len();
    let least = (count as usize).saturating_mul(RECORD_BYTES_MIN);
    if batch.compression() == Compression::None && least > payload {
        return Err(BatchError::Count { count, last_delta });
    }
    Ok(())
}

/// One walk over the records.
struct Check<'a> {
    batch: &'a Batch<'a>,
    rules: &'a Rules,
    max: i64,
    errors: Vec<RecordError>,
    wrong: u32,
}

impl Check<'_> {
    fn records<S: Source>(&mut self, source: &mut S) -> Result<(), BatchError> {
        for index in 0..self.batch.count() {
            let at_record = |fault| BatchError::Record { index, fault };
            let shape = walk::record(source).map_err(at_record)?;
            if shape.offset_delta != index {
                return Err(at_record(RecordFault::OffsetDelta(shape.offset_delta)));
            }
            let timestamp = self.batch.base_timestamp().checked_add(shape.timestamp_delta);
            let timestamp = timestamp.ok_or(at_record(RecordFault::TimestampOverflow))?;
            self.max = self.max.max(timestamp);
            if let Some(fault) = self.wrong(&shape, timestamp) {
                self.note(index, fault);
            }
        }
        Ok(())
    }

    /// What is wrong with a well-formed record under the topic's rules.
    #[inline]
    fn wrong(&self, shape: &Shape, timestamp: i64) -> Option<RecordFault> {
        let rules = self.rules;
        if rules.keys_required && shape.key.is_none() {
            return Some(RecordFault::NullKey);
        }
        // -1 means that the record has none.
        if rules.append_time || timestamp == -1 {
            return None;
        }
        let earliest = rules.now_ms.saturating_sub(rules.timestamp_before_ms_max);
        let latest = rules.now_ms.saturating_add(rules.timestamp_after_ms_max);
        let is_old = rules.timestamp_before_ms_max != i64::MAX && timestamp < earliest;
        (is_old || timestamp > latest).then_some(RecordFault::Timestamp(timestamp))
    }

    #[cold]
    fn note(&mut self, index: i32, fault: RecordFault) {
        self.wrong += 1;
        if self.errors.len() < RECORD_ERRORS_MAX {
            self.errors.push(RecordError { index, fault });
        }
    }

    fn finish(self) -> Result<Verified, BatchError> {
        if self.wrong == 0 {
            Ok(Verified { max_timestamp: self.max })
        } else {
            Err(BatchError::Records { errors: self.errors, wrong: self.wrong })
        }
    }
}
