//! Makes record batches: for the client, for coordinators' own records, and for tests.

use super::{
    ATTRIBUTES_AT, BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, CONTROL_BIT, COUNT_AT, Compression,
    EPOCH_AT, HEADER_BYTES, LAST_DELTA_AT, LENGTH_AT, MAGIC, MAGIC_AT, MAX_TIMESTAMP_AT,
    PREFIX_BYTES, PRODUCER_EPOCH_AT, PRODUCER_ID_AT, TRANSACTIONAL_BIT, stamp_crc, varint,
};
use crate::id::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use crate::wire::compress::compress;

/// One header of a record (KIP-82). Values may be null; the key should be UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// Its name; names may repeat.
    pub key: &'a [u8],
    /// Its value, or null.
    pub value: Option<&'a [u8]>,
}

/// A batch that is being filled.
#[derive(Clone, Debug)]
pub struct Builder {
    out: Vec<u8>,
    base_offset: Offset,
    epoch: LeaderEpoch,
    compression: Compression,
    flags: i16,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
}

impl Default for Builder {
    fn default() -> Self {
        Builder::new()
    }
}

impl Builder {
    /// An empty batch: uncompressed, no producer, offset 0, CreateTime.
    #[must_use]
    pub fn new() -> Builder {
        Builder {
            out: vec![0; HEADER_BYTES],
            base_offset: Offset(0),
            epoch: LeaderEpoch::NONE,
            compression: Compression::None,
            flags: 0,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(-1),
            base_sequence: -1,
            base_timestamp: -1,
            max_timestamp: -1,
            count: 0,
        }
    }

    /// Compresses the records with `compression` when the batch is finished.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Builder {
        self.compression = compression;
        self
    }

    /// Sets what a leader stamps; a producer leaves 0 and -1.
    #[must_use]
    pub fn placed(mut self, base: Offset, epoch: LeaderEpoch) -> Builder {
        self.base_offset = base;
        self.epoch = epoch;
        self
    }

    /// Makes the batch an idempotent producer's (KIP-98).
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Builder {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// Makes the batch part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Builder {
        self.flags |= TRANSACTIONAL_BIT;
        self
    }

    /// Makes it a batch of control records.
    #[must_use]
    pub fn control(mut self) -> Builder {
        self.flags |= CONTROL_BIT;
        self
    }

    /// Adds one record with a timestamp in ms since 1970.
    ///
    /// # Panics
    /// If the record, or the number of records, does not fit into 31 bits.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let delta = timestamp.wrapping_sub(self.base_timestamp);
        let body = body_size(delta, self.count, key, value, headers);
        let length = i32::try_from(body).expect("a record fits into 31 bits");
        let out = &mut self.out;
        varint::put(out, i64::from(length));
        let start = out.len();
        out.push(0);
        varint::put(out, delta);
        varint::put(out, i64::from(self.count));
        put_nullable(out, key);
        put_nullable(out, value);
        varint::put(out, headers.len() as i64);
        for header in headers {
            put_nullable(out, Some(header.key));
            put_nullable(out, header.value);
        }
        assert_eq!(out.len() - start, body, "a record has the announced size");
        self.count = self.count.checked_add(1).expect("a batch's records fit into 31 bits");
    }

    /// Number of records so far.
    #[must_use]
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Bytes of the batch so far, before compression.
    #[must_use]
    pub fn size(&self) -> usize {
        self.out.len()
    }

    /// The most bytes that one more record can add, before compression.
    #[must_use]
    pub fn record_size_max(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) -> usize {
        5 + body_size(i64::MIN, i32::MAX, key, value, headers)
    }

    /// The finished batch.
    ///
    /// # Panics
    /// If it has no records or does not fit into 31 bits.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        assert!(self.count > 0, "a batch has records");
        let mut out = self.out;
        if self.compression != Compression::None {
            let plain = out;
            out = Vec::with_capacity(HEADER_BYTES + plain.len() / 2);
            out.resize(HEADER_BYTES, 0);
            compress(self.compression, &plain[HEADER_BYTES..], &mut out);
        }
        let length = i32::try_from(out.len() - PREFIX_BYTES).expect("a batch fits into 31 bits");
        let attributes = self.flags | i16::from(self.compression.bits());
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.base_offset.0.to_be_bytes());
        put(LENGTH_AT, &length.to_be_bytes());
        put(EPOCH_AT, &self.epoch.0.to_be_bytes());
        put(MAGIC_AT, &MAGIC.to_be_bytes());
        put(ATTRIBUTES_AT, &attributes.to_be_bytes());
        put(LAST_DELTA_AT, &(self.count - 1).to_be_bytes());
        put(BASE_TIMESTAMP_AT, &self.base_timestamp.to_be_bytes());
        put(MAX_TIMESTAMP_AT, &self.max_timestamp.to_be_bytes());
        put(PRODUCER_ID_AT, &self.producer_id.0.to_be_bytes());
        put(PRODUCER_EPOCH_AT, &self.producer_epoch.0.to_be_bytes());
        put(BASE_SEQUENCE_AT, &self.base_sequence.to_be_bytes());
        put(COUNT_AT, &self.count.to_be_bytes());
        stamp_crc(&mut out);
        out
    }
}

/// Bytes of a record behind its length.
fn body_size(
    delta: i64,
    index: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[RecordHeader<'_>],
) -> usize {
    let headers_size: usize = headers
        .iter()
        .map(|header| nullable_size(Some(header.key)) + nullable_size(header.value))
        .sum();
    1 + varint::size(delta)
        + varint::size(i64::from(index))
        + nullable_size(key)
        + nullable_size(value)
        + varint::size(headers.len() as i64)
        + headers_size
}

pub(super) fn nullable_size(bytes: Option<&[u8]>) -> usize {
    match bytes {
        Some(bytes) => varint::size(bytes.len() as i64) + bytes.len(),
        None => varint::size(-1),
    }
}

pub(super) fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => varint::put(out, -1),
    }
}
