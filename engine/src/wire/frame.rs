//! Frames and the headers in them.
//!
//! ```text
//! frame     size i32 (of what follows) | header | body
//! request   api key i16 | api version i16 | correlation id i32
//!           | client id, nullable string           (header v1; always the classic form)
//!           | tagged fields                        (header v2: flexible versions)
//! response  correlation id i32                     (header v0)
//!           | tagged fields                        (header v1: flexible versions, not ApiVersions)
//! ```
//!
//! Owns these layouts and nothing of the bodies. A frame's size is bounded before anything is
//! reserved for it.

use std::fmt;

use super::api::ApiKey;
use super::codec::{self, DecodeError, Reader};
use crate::id::CorrelationId;
use crate::limit::FRAME_BYTES_MAX;

/// Bytes of the size in front of every frame.
pub const SIZE_BYTES: usize = 4;

const API_VERSIONS: i16 = ApiKey::ApiVersions as i16;

/// A frame that cannot be: its size is negative or beyond [`FRAME_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameError {
    /// The size that was announced.
    pub size: i32,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a frame of {} bytes, allowed are 0 to {FRAME_BYTES_MAX}", self.size)
    }
}

impl std::error::Error for FrameError {}

/// The size of the frame at the start of `bytes`: how many bytes follow the [`SIZE_BYTES`] of the
/// size itself. `None` if the size is not there yet.
///
/// # Errors
/// [`FrameError`] if it is negative or larger than [`FRAME_BYTES_MAX`].
pub fn frame_size(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(prefix) = bytes.first_chunk::<SIZE_BYTES>() else { return Ok(None) };
    let size = i32::from_be_bytes(*prefix);
    match usize::try_from(size) {
        Ok(bytes) if bytes <= FRAME_BYTES_MAX => Ok(Some(bytes)),
        _ => Err(FrameError { size }),
    }
}

/// Makes room for a frame's size at the end of `out` and returns where it is.
#[must_use]
pub fn begin_frame(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; SIZE_BYTES]);
    start
}

/// A frame whose size does not fit into its 31 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oversize {
    /// Its size.
    pub bytes: usize,
}

impl fmt::Display for Oversize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a frame of {} bytes, and no more than {} can be told", self.bytes, i32::MAX)
    }
}

impl std::error::Error for Oversize {}

/// Fills in the size of the frame that began at `start` and ends with `out`, plus `further` bytes
/// that will be sent behind it or between its parts.
///
/// # Panics
/// If the frame does not fit into 31 bits. Where a peer chooses how much it asks for, use
/// [`try_end_frame`].
pub fn end_frame(out: &mut [u8], start: usize, further: usize) {
    try_end_frame(out, start, further).expect("a frame fits into 31 bits");
}

/// As [`end_frame`], for a frame that may turn out too large to be one.
///
/// # Errors
/// [`Oversize`] if it does not fit into 31 bits.
pub fn try_end_frame(out: &mut [u8], start: usize, further: usize) -> Result<(), Oversize> {
    let bytes = out.len() - start - SIZE_BYTES + further;
    let size = i32::try_from(bytes).map_err(|_| Oversize { bytes })?;
    out[start..start + SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
    Ok(())
}

/// What stands in front of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// The API's number, known or not.
    pub api_key: i16,
    /// The version that the body has.
    pub api_version: i16,
    /// Comes back with the answer.
    pub correlation_id: CorrelationId,
    /// What the client calls itself.
    pub client_id: Option<&'a str>,
}

impl<'a> RequestHeader<'a> {
    /// Reads the header of a frame (without its size) and tells where the body starts.
    ///
    /// Unknown APIs are read as far as all requests agree. A version of ApiVersions that does not
    /// exist is read leniently: it must be answered, and its body does not matter.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes end too soon or are no header.
    pub fn decode(frame: &'a [u8]) -> Result<(RequestHeader<'a>, usize), DecodeError> {
        let mut reader = Reader::new(frame);
        let api_key = reader.i16()?;
        let api_version = reader.i16()?;
        let correlation_id = CorrelationId(reader.i32()?);
        let client_id = reader.nullable_string(false).map_err(|e| e.within("client_id"))?;
        let header = RequestHeader { api_key, api_version, correlation_id, client_id };
        if is_flexible(api_key, api_version) {
            let skipped = reader.skip_tagged();
            if api_key != API_VERSIONS {
                skipped?;
            }
        }
        Ok((header, reader.position()))
    }

    /// Appends the header to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        codec::put_i16(out, self.api_key);
        codec::put_i16(out, self.api_version);
        codec::put_i32(out, self.correlation_id.0);
        codec::put_nullable_string(out, false, self.client_id);
        if is_flexible(self.api_key, self.api_version) {
            codec::put_no_tagged(out);
        }
    }
}

/// Appends the header of the answer to a request of this API and version.
pub fn put_response_header(
    out: &mut Vec<u8>,
    api_key: i16,
    api_version: i16,
    correlation_id: CorrelationId,
) {
    codec::put_i32(out, correlation_id.0);
    if response_is_flexible(api_key, api_version) {
        codec::put_no_tagged(out);
    }
}

/// The correlation id of an answer's frame (without its size), which says what the rest is.
///
/// # Errors
/// `Truncated`.
pub fn response_correlation_id(frame: &[u8]) -> Result<CorrelationId, DecodeError> {
    Ok(CorrelationId(Reader::new(frame).i32()?))
}

/// Where the body starts in the frame (without its size) of an answer to this API and version.
///
/// # Errors
/// [`DecodeError`] if the bytes end too soon or are no header.
pub fn response_body(frame: &[u8], api_key: i16, api_version: i16) -> Result<usize, DecodeError> {
    let mut reader = Reader::new(frame);
    reader.i32()?;
    if response_is_flexible(api_key, api_version) {
        reader.skip_tagged()?;
    }
    Ok(reader.position())
}

/// KIP-511: a client that does not know the broker's age must be able to read this answer.
fn response_is_flexible(api_key: i16, api_version: i16) -> bool {
    api_key != API_VERSIONS && is_flexible(api_key, api_version)
}

/// Whether a version of an API has the compact forms and tagged fields of KIP-482; false for an
/// unknown API.
#[must_use]
pub fn is_flexible(api_key: i16, api_version: i16) -> bool {
    ApiKey::from_code(api_key).is_some_and(|key| api_version >= key.flexible_from())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages;
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

    #[test]
    fn header_versions_are_those_of_kafka() {
        for number in -1..200 {
            let Ok(key) = messages::ApiKey::try_from(number) else { continue };
            let versions = key.valid_versions();
            for version in versions.min..=versions.max {
                let flexible = is_flexible(number, version);
                assert_eq!(flexible, key.request_header_version(version) == 2, "{key:?} {version}");
                let flexible = response_is_flexible(number, version);
                assert_eq!(flexible, key.response_header_version(version) == 1, "{key:?}");
            }
        }
    }

    #[test]
    fn headers_agree_with_the_oracle() {
        for (api_key, api_version) in [(0, 8), (0, 9), (18, 2), (18, 3), (17, 1)] {
            for client_id in [None, Some(""), Some("me")] {
                let correlation_id = CorrelationId(77);
                let header = RequestHeader { api_key, api_version, correlation_id, client_id };
                let mut out = Vec::new();
                header.encode(&mut out);
                assert_eq!(RequestHeader::decode(&out), Ok((header, out.len())));
                let form = if is_flexible(api_key, api_version) { 2 } else { 1 };
                let theirs = messages::RequestHeader::default()
                    .with_request_api_key(api_key)
                    .with_request_api_version(api_version)
                    .with_correlation_id(77)
                    .with_client_id(client_id.map(|id| StrBytes::from_string(id.into())));
                let mut bytes = Vec::new();
                theirs.encode(&mut bytes, form).expect("encodes");
                assert_eq!(out, bytes);
                for end in 0..out.len() {
                    let lenient = api_key == 18 && form == 2 && end + 1 == out.len();
                    assert_eq!(RequestHeader::decode(&out[..end]).is_err(), !lenient);
                }
            }
            let mut out = Vec::new();
            put_response_header(&mut out, api_key, api_version, CorrelationId(5));
            let form = i16::from(response_is_flexible(api_key, api_version));
            let theirs = messages::ResponseHeader::decode(&mut &out[..], form).expect("decodes");
            assert_eq!(theirs.correlation_id, 5);
            assert_eq!(response_correlation_id(&out), Ok(CorrelationId(5)));
            assert_eq!(response_body(&out, api_key, api_version), Ok(out.len()));
        }
    }

    #[test]
    fn a_future_version_of_api_versions_has_a_header() {
        let bytes = [0, 18, 0x7f, 0, 0, 0, 0, 9, 0xff, 0xff, 0xee, 0xee];
        let (header, _) = RequestHeader::decode(&bytes).expect("lenient");
        assert_eq!(header.api_version, 0x7f00);
        assert_eq!(header.correlation_id, CorrelationId(9));
    }

    #[test]
    fn frame_sizes_are_bounded() {
        assert_eq!(frame_size(&[0, 0, 0]), Ok(None));
        assert_eq!(frame_size(&[0, 0, 1, 2, 99]), Ok(Some(258)));
        assert_eq!(frame_size(&[0x80, 0, 0, 0]), Err(FrameError { size: i32::MIN }));
        let large = i32::try_from(FRAME_BYTES_MAX + 1).expect("fits");
        assert_eq!(frame_size(&large.to_be_bytes()), Err(FrameError { size: large }));
        let mut out = vec![9];
        let start = begin_frame(&mut out);
        out.extend_from_slice(b"body");
        end_frame(&mut out, start, 100);
        assert_eq!(frame_size(&out[1..]), Ok(Some(104)));
        // The largest that can be told, and one byte more.
        let most = i32::MAX as usize - b"body".len();
        assert_eq!(try_end_frame(&mut out, start, most), Ok(()));
        assert_eq!(out[1..5], i32::MAX.to_be_bytes());
        let oversize = Oversize { bytes: 1 << 31 };
        assert_eq!(try_end_frame(&mut out, start, most + 1), Err(oversize));
    }
}
