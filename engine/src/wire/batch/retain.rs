//! Takes records out of a batch: for compaction, the only writer of batches that are not whole.
//!
//! What remains keeps its offsets and timestamps, and the batch keeps the range of offsets that it
//! stands for, its producer and its sequence numbers: for them it is the batch that was sent.

use super::{
    ATTRIBUTES_AT, BASE_TIMESTAMP_AT, Batch, BatchError, CODEC_BITS, COUNT_AT, Compression,
    DELETE_HORIZON_BIT, HEADER_BYTES, LAST_DELTA_AT, LENGTH_AT, MAX_TIMESTAMP_AT, PREFIX_BYTES,
    PRODUCER_ID_AT, Record, TimestampType, build, stamp_crc, varint,
};
use crate::wire::compress::compress;

/// What remains of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retained {
    /// All of it, and nothing had to be written into its header.
    Whole,
    /// This batch in its place.
    Part(Vec<u8>),
    /// No record.
    Nothing,
}

/// Takes out of `batch` the records that `keep` does not want. If what remains holds a tombstone
/// (a record with a key and no value) and the batch has no delete horizon yet, it gets `horizon_ms`
/// (KIP-534): in the place of the base timestamp, with every delta taken anew from it. Where a
/// record is so far from the horizon that 64 bits do not hold the delta, there is none, and the
/// tombstone stays.
///
/// # Errors
/// [`BatchError`] if the records cannot be read.
pub fn retain(
    batch: &Batch<'_>,
    mut keep: impl FnMut(&Record<'_>) -> bool,
    horizon_ms: i64,
) -> Result<Retained, BatchError> {
    let contents = batch.contents()?;
    let mut kept = Vec::new();
    let mut tombstones = false;
    for record in contents.records() {
        let record = record?;
        if keep(&record) {
            tombstones |= record.value.is_none();
            kept.push(record);
        }
    }
    let append_time = batch.timestamp_type() == TimestampType::LogAppendTime;
    let fits = |record: &Record<'_>| record.timestamp.checked_sub(horizon_ms).is_some();
    let begins =
        tombstones && !batch.has_delete_horizon() && (append_time || kept.iter().all(fits));
    if kept.is_empty() {
        return Ok(Retained::Nothing);
    }
    if kept.len() as i64 == i64::from(batch.count()) && !begins {
        return Ok(Retained::Whole);
    }
    let base_timestamp = if begins { horizon_ms } else { batch.base_timestamp() };
    let mut plain = batch.bytes()[..HEADER_BYTES].to_vec();
    for record in &kept {
        // The records of a batch with an append time have the header's, whatever their deltas say.
        let delta = if append_time { 0 } else { record.timestamp - base_timestamp };
        put_record(&mut plain, batch, delta, record);
    }
    let mut out = plain;
    if batch.compression() != Compression::None {
        let plain = out;
        out = plain[..HEADER_BYTES].to_vec();
        compress(batch.compression(), &plain[HEADER_BYTES..], &mut out);
    }
    let newest = kept.iter().map(|record| record.timestamp).max();
    let max_timestamp = match (batch.timestamp_type(), newest) {
        (TimestampType::CreateTime, Some(newest)) => newest,
        _ => batch.max_timestamp(),
    };
    let horizon = if begins { DELETE_HORIZON_BIT } else { 0 };
    let attributes = batch.attributes() | horizon;
    // As many as there were, or fewer.
    let count = i32::try_from(kept.len()).expect("a batch's records fit into 31 bits");
    finish(&mut out, attributes, base_timestamp, max_timestamp, count);
    Ok(Retained::Part(out))
}

/// The batch without any record and without a time, for what it says of its producer.
#[must_use]
pub fn emptied(batch: &Batch<'_>) -> Vec<u8> {
    let mut out = batch.bytes()[..HEADER_BYTES].to_vec();
    let attributes = batch.attributes() & !CODEC_BITS & !DELETE_HORIZON_BIT;
    finish(&mut out, attributes, -1, -1, 0);
    out
}

fn put_record(out: &mut Vec<u8>, batch: &Batch<'_>, delta: i64, record: &Record<'_>) {
    let offset_delta = record.offset.0 - batch.base_offset().0;
    let headers = i64::from(record.headers);
    let body = 1
        + varint::size(delta)
        + varint::size(offset_delta)
        + build::nullable_size(record.key)
        + build::nullable_size(record.value)
        + varint::size(headers)
        + record.headers_bytes.len();
    varint::put(out, body as i64);
    let start = out.len();
    out.push(0);
    varint::put(out, delta);
    varint::put(out, offset_delta);
    build::put_nullable(out, record.key);
    build::put_nullable(out, record.value);
    varint::put(out, headers);
    out.extend_from_slice(record.headers_bytes);
    assert_eq!(out.len() - start, body, "a record has the announced size");
}

fn finish(out: &mut [u8], attributes: i16, base_timestamp: i64, max_timestamp: i64, count: i32) {
    let length = i32::try_from(out.len() - PREFIX_BYTES).expect("a batch fits into 31 bits");
    out[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
    out[ATTRIBUTES_AT..LAST_DELTA_AT].copy_from_slice(&attributes.to_be_bytes());
    out[BASE_TIMESTAMP_AT..MAX_TIMESTAMP_AT].copy_from_slice(&base_timestamp.to_be_bytes());
    out[MAX_TIMESTAMP_AT..PRODUCER_ID_AT].copy_from_slice(&max_timestamp.to_be_bytes());
    out[COUNT_AT..HEADER_BYTES].copy_from_slice(&count.to_be_bytes());
    stamp_crc(out);
}

#[cfg(test)]
mod tests {
    use super::super::{Builder, RecordHeader, stamp_append_time};
    use super::*;
    use crate::id::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

    fn sent(compression: Compression) -> Vec<u8> {
        let mut builder = Builder::new()
            .compression(compression)
            .placed(Offset(100), LeaderEpoch(3))
            .producer(ProducerId(7), ProducerEpoch(2), 40);
        let headers = [RecordHeader { key: b"h", value: None }];
        builder.push(1000, Some(b"a"), Some(b"1"), &headers);
        builder.push(3000, Some(b"b"), None, &[]);
        builder.push(2000, Some(b"c"), Some(b"3"), &[]);
        builder.finish()
    }

    type Shown = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, usize);

    fn show(bytes: &[u8]) -> Vec<Shown> {
        let batch = Batch::parse(bytes).expect("a batch");
        assert!(batch.crc_matches());
        let contents = batch.contents().expect("readable");
        let shown = contents.records().map(|record| {
            let record = record.expect("a record");
            let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
            (record.offset.0, record.timestamp, key, value, record.headers().len())
        });
        shown.collect()
    }

    #[test]
    fn what_remains_keeps_its_place_and_time() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let bytes = sent(compression);
            let batch = Batch::parse(&bytes).expect("a batch");
            let kept = retain(&batch, |record| record.key != Some(b"a"), 9999).expect("readable");
            let Retained::Part(part) = kept else { panic!("{kept:?}") };
            assert_eq!(show(&part), show(&bytes)[1..]);
            let after = Batch::parse(&part).expect("a batch");
            assert_eq!(after.base_offset(), Offset(100));
            assert_eq!(after.last_offset(), Offset(102));
            assert_eq!((after.base_sequence(), after.count()), (40, 2));
            assert_eq!(after.compression(), compression);
            // A tombstone is in it.
            assert_eq!((after.has_delete_horizon(), after.base_timestamp()), (true, 9999));
            assert_eq!(after.max_timestamp(), 3000);
            let again = retain(&after, |record| record.value.is_some(), 5).expect("readable");
            let Retained::Part(again) = again else { panic!("{again:?}") };
            assert_eq!(show(&again), show(&bytes)[2..]);
            let again = Batch::parse(&again).expect("a batch");
            assert_eq!((again.base_timestamp(), again.max_timestamp()), (9999, 2000));
            assert_eq!(retain(&after, |_| true, 5), Ok(Retained::Whole));
            assert_eq!(retain(&after, |_| false, 5), Ok(Retained::Nothing));
        }
    }

    #[test]
    fn a_horizon_that_no_delta_reaches_is_left_out() {
        let mut builder = Builder::new();
        builder.push(i64::MIN, Some(b"a"), Some(b"1"), &[]);
        builder.push(i64::MIN + 5, Some(b"b"), None, &[]);
        let mut bytes = builder.finish();
        let batch = Batch::parse(&bytes).expect("a batch");
        assert_eq!(retain(&batch, |_| true, 9999), Ok(Retained::Whole));
        let kept = retain(&batch, |record| record.key == Some(b"b"), 9999).expect("readable");
        let Retained::Part(part) = kept else { panic!("{kept:?}") };
        assert_eq!(show(&part), show(&bytes)[1..]);
        assert!(!Batch::parse(&part).expect("a batch").has_delete_horizon());
        // With an append time the deltas do not count.
        stamp_append_time(&mut bytes, 5000);
        let batch = Batch::parse(&bytes).expect("a batch");
        let kept = retain(&batch, |record| record.key == Some(b"b"), 9999).expect("readable");
        let Retained::Part(part) = kept else { panic!("{kept:?}") };
        assert_eq!(show(&part), show(&bytes)[1..]);
        assert!(Batch::parse(&part).expect("a batch").has_delete_horizon());
    }

    #[test]
    fn append_time_counts_for_what_remains() {
        let mut bytes = sent(Compression::None);
        stamp_append_time(&mut bytes, 5000);
        let batch = Batch::parse(&bytes).expect("a batch");
        let kept = retain(&batch, |record| record.key == Some(b"a"), 1).expect("readable");
        let Retained::Part(part) = kept else { panic!("{kept:?}") };
        assert_eq!(show(&part)[0].1, 5000);
        assert_eq!(Batch::parse(&part).expect("a batch").max_timestamp(), 5000);
    }

    #[test]
    fn an_emptied_batch_still_speaks_of_its_producer() {
        let bytes = sent(Compression::Lz4);
        let batch = Batch::parse(&bytes).expect("a batch");
        let empty = emptied(&batch);
        assert_eq!(show(&empty), []);
        let after = Batch::parse(&empty).expect("a batch");
        assert_eq!(after.size(), HEADER_BYTES);
        assert_eq!((after.base_offset(), after.last_offset()), (Offset(100), Offset(102)));
        assert_eq!((after.producer_id(), after.base_sequence()), (ProducerId(7), 40));
        assert_eq!((after.max_timestamp(), after.leader_epoch()), (-1, LeaderEpoch(3)));
    }
}
