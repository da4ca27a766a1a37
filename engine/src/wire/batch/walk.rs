//! The structure of one record, walked once: in place over uncompressed bytes, or over a stream
//! that decompresses. Both forms of walking are the same function over a [`Source`].
//!
//! ```text
//! length            varint   bytes of what follows
//! attributes        i8       unused
//! timestamp delta   varlong  to the batch's base timestamp
//! offset delta      varint   to the batch's base offset
//! key               varint length, -1 for null; bytes
//! value             varint length, -1 for null; bytes
//! headers           varint count; each: key as above but never null, value as above
//! ```

use super::fault::RecordFault;
use super::varint;
use crate::wire::compress::{Decompress, Unreadable};

/// Where a walk takes its bytes from.
pub trait Source {
    /// The next byte, `None` at the end or after a failure.
    fn byte(&mut self) -> Option<u8>;
    /// Skips `count` bytes; `None` if there are not so many.
    fn skip(&mut self, count: usize) -> Option<()>;
    /// Bytes taken so far.
    fn position(&self) -> usize;
}

/// Bytes in memory.
pub struct Plain<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Plain<'a> {
    pub fn new(bytes: &'a [u8]) -> Plain<'a> {
        Plain { bytes, position: 0 }
    }
}

impl Source for Plain<'_> {
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.position)?;
        self.position += 1;
        Some(byte)
    }

    #[inline]
    fn skip(&mut self, count: usize) -> Option<()> {
        if count > self.bytes.len() - self.position {
            return None;
        }
        self.position += count;
        Some(())
    }

    #[inline]
    fn position(&self) -> usize {
        self.position
    }
}

/// What a stream holds at once.
const WINDOW_BYTES: usize = 8192;

/// Bytes that are decompressed as they are walked.
pub struct Stream<'a> {
    stream: Decompress<'a>,
    window: [u8; WINDOW_BYTES],
    next: usize,
    filled: usize,
    /// Position of the window's first byte.
    before: usize,
    fault: Option<Unreadable>,
}

impl<'a> Stream<'a> {
    pub fn new(stream: Decompress<'a>) -> Stream<'a> {
        Stream { stream, window: [0; WINDOW_BYTES], next: 0, filled: 0, before: 0, fault: None }
    }

    /// Why the stream could not be read on, if it could not.
    pub fn fault(&self) -> Option<Unreadable> {
        self.fault
    }

    /// Fills the used-up window; `None` at the end or after a failure.
    #[cold]
    fn refill(&mut self) -> Option<()> {
        self.before += self.filled;
        self.next = 0;
        self.filled = 0;
        match self.stream.read(&mut self.window) {
            Ok(0) => None,
            Ok(count) => {
                self.filled = count;
                Some(())
            }
            Err(fault) => {
                self.fault = Some(fault);
                None
            }
        }
    }
}

impl Source for Stream<'_> {
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        if self.next == self.filled {
            self.refill()?;
        }
        let byte = self.window[self.next];
        self.next += 1;
        Some(byte)
    }

    fn skip(&mut self, mut count: usize) -> Option<()> {
        loop {
            let step = count.min(self.filled - self.next);
            self.next += step;
            count -= step;
            if count == 0 {
                return Some(());
            }
            self.refill()?;
        }
    }

    fn position(&self) -> usize {
        self.before + self.next
    }
}

/// A part of a record: where it starts and how long it is, or null.
pub type Part = Option<(usize, usize)>;

/// What a record consists of, as positions in its source.
pub struct Shape {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Part,
    pub value: Part,
    pub headers: i32,
    /// Where the first header starts.
    pub headers_at: usize,
}

/// Walks over the next record and checks its structure.
#[inline]
pub fn record<S: Source>(source: &mut S) -> Result<Shape, RecordFault> {
    let length = varint::read_int(|| source.byte()).ok_or(RecordFault::Length)?;
    let length = usize::try_from(length).map_err(|_| RecordFault::Length)?;
    let end = source.position() + length;
    source.byte().ok_or(RecordFault::Truncated)?;
    let timestamp_delta = varint::read_long(|| source.byte()).ok_or(RecordFault::Truncated)?;
    let offset_delta = int(source)?;
    let key = part(source, end)?;
    let value = part(source, end)?;
    let headers = int(source)?;
    if headers < 0 {
        return Err(RecordFault::Headers);
    }
    let headers_at = source.position();
    for _ in 0..headers {
        // A record that claims more headers than it has room for ends here, at its own end.
        if source.position() >= end || part(source, end)?.is_none() {
            return Err(RecordFault::Headers);
        }
        part(source, end)?;
    }
    if source.position() != end {
        return Err(RecordFault::Length);
    }
    Ok(Shape { timestamp_delta, offset_delta, key, value, headers, headers_at })
}

/// A nullable length and that many bytes, which must end at `end` or before.
#[inline]
pub fn part<S: Source>(source: &mut S, end: usize) -> Result<Part, RecordFault> {
    let length = int(source)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| RecordFault::Length)?;
    let at = source.position();
    if length > end.saturating_sub(at) {
        return Err(RecordFault::Truncated);
    }
    source.skip(length).ok_or(RecordFault::Truncated)?;
    Ok(Some((at, length)))
}

#[inline]
fn int<S: Source>(source: &mut S) -> Result<i32, RecordFault> {
    varint::read_int(|| source.byte()).ok_or(RecordFault::Truncated)
}
