//! Kafka's primitive types: a bounded reader and the writers.
//!
//! Every type has two forms. The classic one puts a fixed-width length (or -1 for null) in front
//! of strings, bytes and arrays; the compact one of flexible versions (KIP-482) puts
//! `length + 1` there as an unsigned varint (0 for null) and ends each structure with tagged
//! fields.
//!
//! ```text
//!              classic                     compact
//! string       int16 length, utf-8         uvarint length + 1, utf-8
//! bytes        int32 length, bytes         uvarint length + 1, bytes
//! array        int32 count, elements       uvarint count + 1, elements
//! structure    fields                      fields, uvarint n, n x (uvarint tag, uvarint size, data)
//! ```
//!
//! Keeps: no length is believed before it has been compared with the bytes that remain, and
//! nothing is reserved for an array whose elements could not all be there. What arrays may
//! reserve in one message is bounded on top of that (`MESSAGE_MEMORY_BYTES_MAX`). Nothing here
//! recurses over data, and nothing panics on bytes from a peer.
//!
//! Must not know: messages, files, sockets, time.

use std::fmt;

use crate::id::TopicId;
use crate::limit::{MESSAGE_MEMORY_BYTES_MAX, STRING_BYTES_MAX};

/// What was wrong with the bytes of a message, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What was wrong.
    pub fault: Fault,
    /// The position of the fault, in bytes from the start of what the reader was given.
    pub position: usize,
    /// The innermost message field that was being read, or "" outside of a message.
    pub field: &'static str,
}

/// The ways in which bytes fail to be a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The bytes end before the value does, or a length or count exceeds what remains.
    Truncated,
    /// A length or count is negative and not the -1 of null.
    NegativeLength,
    /// Null where the version in use does not allow it.
    UnexpectedNull,
    /// A string is not UTF-8.
    NotUtf8,
    /// A string is longer than `STRING_BYTES_MAX`.
    StringTooLong,
    /// A varint has more bytes or bits than its type.
    VarintTooLong,
    /// The arrays of this message would take more memory than `MESSAGE_MEMORY_BYTES_MAX`.
    TooLarge,
    /// Bytes are left over after the value: at the end of a message or of a tagged field.
    TrailingBytes,
    /// The message has no such version.
    UnsupportedVersion,
}

impl DecodeError {
    /// Names the field that was being read, unless one further in has already been named.
    #[must_use]
    pub fn within(mut self, field: &'static str) -> DecodeError {
        if self.field.is_empty() {
            self.field = field;
        }
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.fault {
            Fault::Truncated => "the bytes end before the value does",
            Fault::NegativeLength => "negative length",
            Fault::UnexpectedNull => "null where a value must be",
            Fault::NotUtf8 => "a string that is not UTF-8",
            Fault::StringTooLong => "a string that is too long",
            Fault::VarintTooLong => "a varint that is too long",
            Fault::TooLarge => "arrays that would take too much memory",
            Fault::TrailingBytes => "bytes left over after the value",
            Fault::UnsupportedVersion => "a version that does not exist",
        };
        if self.field.is_empty() {
            write!(f, "{what} at byte {}", self.position)
        } else {
            write!(f, "{what} in field {} at byte {}", self.field, self.position)
        }
    }
}

impl std::error::Error for DecodeError {}

/// Reads values off the front of a slice of bytes from a peer or a disk.
///
/// Methods with `flexible: bool` read the compact form when it is true, else the classic one.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Bytes of memory that arrays of this message may still reserve.
    allowance: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, position: 0, allowance: MESSAGE_MEMORY_BYTES_MAX }
    }

    /// Bytes read so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes that remain.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// An error of this kind at the current position.
    #[must_use]
    pub fn fault(&self, fault: Fault) -> DecodeError {
        DecodeError { fault, position: self.position, field: "" }
    }

    /// Requires that nothing remains.
    ///
    /// # Errors
    /// `TrailingBytes`.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.fault(Fault::TrailingBytes)) }
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// `Truncated` if there are not as many.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let rest = &self.bytes[self.position..];
        let Some(taken) = rest.get(..length) else {
            return Err(self.fault(Fault::Truncated));
        };
        self.position += length;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = &self.bytes[self.position..];
        let Some(taken) = rest.first_chunk::<N>() else {
            return Err(self.fault(Fault::Truncated));
        };
        self.position += N;
        Ok(*taken)
    }

    /// One byte; anything but 0 is true, as Kafka's own broker reads it.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.fixed::<1>()? != [0])
    }

    /// # Errors
    /// `Truncated`.
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    /// # Errors
    /// `Truncated`.
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    /// # Errors
    /// `Truncated`.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }

    /// # Errors
    /// `Truncated`.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    /// # Errors
    /// `Truncated`.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    /// # Errors
    /// `Truncated`.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    /// # Errors
    /// `Truncated`.
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.fixed()?))
    }

    /// A uuid, sixteen bytes as they are.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn topic_id(&mut self) -> Result<TopicId, DecodeError> {
        Ok(TopicId(self.fixed()?))
    }

    /// An unsigned varint of up to 32 bits.
    ///
    /// # Errors
    /// `Truncated`, `VarintTooLong`.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let value = self.unsigned(5)?;
        u32::try_from(value).map_err(|_| self.fault(Fault::VarintTooLong))
    }

    /// A zigzag varint of up to 32 bits.
    ///
    /// # Errors
    /// `Truncated`, `VarintTooLong`.
    pub fn varint(&mut self) -> Result<i32, DecodeError> {
        let raw = self.unsigned_varint()?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// A zigzag varint of up to 64 bits.
    ///
    /// # Errors
    /// `Truncated`, `VarintTooLong`.
    pub fn varlong(&mut self) -> Result<i64, DecodeError> {
        let raw = self.unsigned(10)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// Seven bits per byte, lowest first, in at most `bytes_max` bytes.
    fn unsigned(&mut self, bytes_max: u32) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for place in 0..bytes_max {
            let [byte] = self.fixed::<1>()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only.
            if place == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.fault(Fault::VarintTooLong))
    }

    /// A length or count in compact form, `None` for null. Not yet compared with what remains.
    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        let raw = self.unsigned_varint()?;
        Ok(raw.checked_sub(1).map(|length| length as usize))
    }

    /// A length or count that was read as a signed integer, `None` for null.
    fn signed_length(&self, length: i32) -> Result<Option<usize>, DecodeError> {
        match length {
            -1 => Ok(None),
            _ => match usize::try_from(length) {
                Ok(length) => Ok(Some(length)),
                Err(_) => Err(self.fault(Fault::NegativeLength)),
            },
        }
    }

    /// A string that may be null.
    ///
    /// # Errors
    /// `Truncated`, `NegativeLength`, `VarintTooLong`, `StringTooLong`, `NotUtf8`.
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<&'a str>, DecodeError> {
        let length = if flexible {
            self.compact_length()?
        } else {
            let length = self.i16()?;
            self.signed_length(length.into())?
        };
        let Some(length) = length else { return Ok(None) };
        if length > STRING_BYTES_MAX {
            return Err(self.fault(Fault::StringTooLong));
        }
        let fault = self.fault(Fault::NotUtf8);
        std::str::from_utf8(self.take(length)?).map(Some).map_err(|_| fault)
    }

    /// A string.
    ///
    /// # Errors
    /// As [`Reader::nullable_string`], and `UnexpectedNull`.
    pub fn string(&mut self, flexible: bool) -> Result<&'a str, DecodeError> {
        self.nullable_string(flexible)?.ok_or(self.fault(Fault::UnexpectedNull))
    }

    /// Bytes that may be null.
    ///
    /// # Errors
    /// `Truncated`, `NegativeLength`, `VarintTooLong`.
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.length(flexible)? {
            None => Ok(None),
            Some(length) => self.take(length).map(Some),
        }
    }

    /// Bytes.
    ///
    /// # Errors
    /// As [`Reader::nullable_bytes`], and `UnexpectedNull`.
    pub fn bytes(&mut self, flexible: bool) -> Result<&'a [u8], DecodeError> {
        self.nullable_bytes(flexible)?.ok_or(self.fault(Fault::UnexpectedNull))
    }

    /// The 32-bit or compact length in front of bytes or an array, `None` for null.
    fn length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            self.compact_length()
        } else {
            let length = self.i32()?;
            self.signed_length(length)
        }
    }

    /// The count of an array that may be null, whose elements take at least `bytes_min` bytes
    /// each on the wire and `size_of::<T>()` in memory. It is safe to reserve that many.
    ///
    /// # Errors
    /// `Truncated` if that many elements cannot be there, `TooLarge` if they would take more
    /// memory than a message may, `NegativeLength`, `VarintTooLong`.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        bytes_min: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.length(flexible)? else { return Ok(None) };
        // An element of no bytes at all would let a count of any size through.
        if count > self.remaining() / bytes_min.max(1) {
            return Err(self.fault(Fault::Truncated));
        }
        let memory = count.saturating_mul(size_of::<T>());
        match self.allowance.checked_sub(memory) {
            Some(left) => self.allowance = left,
            None => return Err(self.fault(Fault::TooLarge)),
        }
        Ok(Some(count))
    }

    /// The count of an array.
    ///
    /// # Errors
    /// As [`Reader::nullable_array`], and `UnexpectedNull`.
    pub fn array<T>(&mut self, flexible: bool, bytes_min: usize) -> Result<usize, DecodeError> {
        self.nullable_array::<T>(flexible, bytes_min)?.ok_or(self.fault(Fault::UnexpectedNull))
    }

    /// The tagged fields at the end of a flexible structure. `read` gets each tag with a reader
    /// that ends where the field ends; it answers whether it knew the tag, and unknown ones are
    /// skipped. If a tag comes twice the last one counts.
    ///
    /// # Errors
    /// `Truncated`, `VarintTooLong`, those of `read`, and `TrailingBytes` if `read` left some.
    pub fn tagged(
        &mut self,
        mut read: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.unsigned_varint()?;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            let from = self.position;
            self.take(size)?;
            let end = self.position;
            let mut field =
                Reader { bytes: &self.bytes[..end], position: from, allowance: self.allowance };
            if read(tag, &mut field)? {
                field.finish()?;
            }
            self.allowance = field.allowance;
        }
        Ok(())
    }

    /// Skips the tagged fields of a structure that knows none.
    ///
    /// # Errors
    /// `Truncated`, `VarintTooLong`.
    pub fn skip_tagged(&mut self) -> Result<(), DecodeError> {
        self.tagged(|_, _| Ok(false))
    }
}

/// Writes one byte, 1 for true.
pub fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(u8::from(value));
}

/// Writes a big-endian integer.
pub fn put_i8(out: &mut Vec<u8>, value: i8) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Writes a big-endian integer.
pub fn put_i16(out: &mut Vec<u8>, value: i16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Writes a big-endian integer.
pub fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Writes a big-endian integer.
pub fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Writes a big-endian integer.
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Writes a big-endian integer.
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Writes a big-endian IEEE 754 number.
pub fn put_f64(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Writes the sixteen bytes of a uuid.
pub fn put_topic_id(out: &mut Vec<u8>, value: TopicId) {
    out.extend_from_slice(&value.0);
}

/// Writes an unsigned varint.
pub fn put_unsigned_varint(out: &mut Vec<u8>, value: u32) {
    put_unsigned(out, value.into());
}

/// Writes a zigzag varint.
pub fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_unsigned_varint(out, ((value << 1) ^ (value >> 31)).cast_unsigned());
}

/// Writes a zigzag varint.
pub fn put_varlong(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a string. What exceeds `STRING_BYTES_MAX` is cut off at a character's border: names
/// cannot (the reader refuses such), a message text composed of several may.
pub fn put_string(out: &mut Vec<u8>, flexible: bool, value: &str) {
    let mut kept = value;
    if value.len() > STRING_BYTES_MAX {
        let mut end = STRING_BYTES_MAX;
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        kept = &value[..end];
    }
    if flexible {
        put_unsigned_varint(out, kept.len() as u32 + 1);
    } else {
        put_i16(out, kept.len() as i16);
    }
    out.extend_from_slice(kept.as_bytes());
}

/// Writes a string or null.
pub fn put_nullable_string(out: &mut Vec<u8>, flexible: bool, value: Option<&str>) {
    match value {
        Some(value) => put_string(out, flexible, value),
        None if flexible => put_unsigned_varint(out, 0),
        None => put_i16(out, -1),
    }
}

/// Writes bytes.
pub fn put_bytes(out: &mut Vec<u8>, flexible: bool, value: &[u8]) {
    put_array(out, flexible, value.len());
    out.extend_from_slice(value);
}

/// Writes bytes or null.
pub fn put_nullable_bytes(out: &mut Vec<u8>, flexible: bool, value: Option<&[u8]>) {
    match value {
        Some(value) => put_bytes(out, flexible, value),
        None => put_null_array(out, flexible),
    }
}

/// Writes the count in front of an array's elements, or the length in front of bytes.
///
/// # Panics
/// If the count does not fit a frame: a programmer's error, for no frame is that large.
pub fn put_array(out: &mut Vec<u8>, flexible: bool, count: usize) {
    let count = i32::try_from(count).expect("counts are bounded by the size of a frame");
    if flexible {
        put_unsigned_varint(out, count.cast_unsigned() + 1);
    } else {
        put_i32(out, count);
    }
}

/// Writes null in place of an array or of bytes.
pub fn put_null_array(out: &mut Vec<u8>, flexible: bool) {
    if flexible { put_unsigned_varint(out, 0) } else { put_i32(out, -1) }
}

/// Writes the end of a flexible structure without tagged fields.
pub fn put_no_tagged(out: &mut Vec<u8>) {
    out.push(0);
}

#[cfg(test)]
mod tests;
