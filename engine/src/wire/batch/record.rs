//! Reading records, for clients and tools: the data path never does.

use super::fault::{BatchError, RecordFault};
use super::walk::{self, Plain, Source};
use super::{Batch, Compression, Header, RecordHeader, TimestampType};
use crate::id::Offset;
use crate::limit::BATCH_DECOMPRESSED_BYTES_MAX;
use crate::wire::compress::Decompress;

use std::borrow::Cow;

/// One record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset.
    pub offset: Offset,
    /// In ms since 1970; its own, or the append time, as the batch says.
    pub timestamp: i64,
    /// Its key, or null.
    pub key: Option<&'a [u8]>,
    /// Its value, or null.
    pub value: Option<&'a [u8]>,
    pub(super) headers: i32,
    pub(super) headers_bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// Its headers, in order.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = RecordHeader<'a>> + use<'a> {
        let bytes = self.headers_bytes;
        let mut source = Plain::new(bytes);
        (0..self.headers).map(move |_| {
            let mut next = || {
                let part = walk::part(&mut source, bytes.len());
                part.expect("headers were walked").map(|(at, length)| &bytes[at..at + length])
            };
            RecordHeader { key: next().unwrap_or_default(), value: next() }
        })
    }
}

/// A batch's records, decompressed.
#[derive(Clone, Debug)]
pub struct Contents<'a> {
    header: Header,
    bytes: Cow<'a, [u8]>,
}

/// Walks the records of a batch; ends after the first error.
#[derive(Debug)]
pub struct Records<'c> {
    header: &'c Header,
    bytes: &'c [u8],
    position: usize,
    index: i32,
}

impl<'a> Batch<'a> {
    /// The records of this batch, decompressed if need be; at most
    /// [`BATCH_DECOMPRESSED_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`BatchError::Undecodable`], [`BatchError::Inflated`].
    pub fn contents(&self) -> Result<Contents<'a>, BatchError> {
        let compression = self.compression();
        let bytes = if compression == Compression::None {
            Cow::Borrowed(self.payload())
        } else {
            let limit = BATCH_DECOMPRESSED_BYTES_MAX;
            let stream = Decompress::new(compression, self.payload(), limit);
            let all = stream.read_all();
            Cow::Owned(all.map_err(|fault| BatchError::unreadable(fault, compression, limit))?)
        };
        Ok(Contents { header: self.header, bytes })
    }
}

impl Contents<'_> {
    /// The records' bytes, decompressed.
    #[must_use]
    pub fn plain(&self) -> &[u8] {
        &self.bytes
    }

    /// Walks the records.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records { header: &self.header, bytes: &self.bytes, position: 0, index: 0 }
    }
}

impl<'c> Records<'c> {
    fn read(&mut self) -> Result<Record<'c>, RecordFault> {
        let bytes = &self.bytes[self.position..];
        let mut source = Plain::new(bytes);
        let shape = walk::record(&mut source)?;
        let end = source.position();
        let offset = self.header.base_offset.checked_add(i64::from(shape.offset_delta));
        let timestamp = match self.header.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => self
                .header
                .base_timestamp
                .checked_add(shape.timestamp_delta)
                .ok_or(RecordFault::TimestampOverflow)?,
        };
        self.position += end;
        let slice = |(at, length): (usize, usize)| &bytes[at..at + length];
        Ok(Record {
            offset: Offset(offset.ok_or(RecordFault::OffsetDelta(shape.offset_delta))?),
            timestamp,
            key: shape.key.map(slice),
            value: shape.value.map(slice),
            headers: shape.headers,
            headers_bytes: &bytes[shape.headers_at..end],
        })
    }
}

impl<'c> Iterator for Records<'c> {
    type Item = Result<Record<'c>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index == self.header.count {
            return None;
        }
        let index = self.index;
        match self.read() {
            Ok(record) => {
                self.index += 1;
                Some(Ok(record))
            }
            Err(fault) => {
                self.index = self.header.count;
                Some(Err(BatchError::Record { index, fault }))
            }
        }
    }
}
