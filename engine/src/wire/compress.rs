//! The codecs of record batches: streams of decompressed bytes with a bound, and compression.
//!
//! A batch from a peer may announce or hide any amount of data, so reading is a stream with a
//! limit on what comes out, and nothing is reserved by an announced size alone. What is in memory
//! at once is the codec's window: 32 KiB (gzip), 128 KiB (Snappy), two blocks of at most 4 MiB (LZ4),
//! at most the output so far (Zstandard).

use std::io::{self, Read};

use super::batch::Compression;
use super::snappy::{Snappy, XERIAL_MAGIC};

/// Bytes of plain data per chunk that we write, as snappy-java does.
const XERIAL_CHUNK_BYTES: usize = 32 * 1024;

/// Zstandard's level 22 announces windows of 2^27 bytes; memory for them is touched only as far as
/// there is output.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

const ZSTD_LEVEL: i32 = 3;

/// Why compressed bytes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// They are not what the codec writes.
    Damaged,
    /// More comes out than is allowed.
    TooMuch,
}

/// A stream of decompressed bytes that ends with a failure once more than a limit came out.
pub struct Decompress<'a> {
    codec: Codec<'a>,
    left: usize,
    fault: Option<Unreadable>,
}

/// Large states are boxed: a stream is made per batch, and moved.
enum Codec<'a> {
    Plain(&'a [u8]),
    Gzip(Box<flate2::bufread::MultiGzDecoder<&'a [u8]>>),
    Snappy(Snappy<'a>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<&'a [u8]>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
}

impl<'a> Decompress<'a> {
    /// Reads `payload`, which `compression` wrote; at most `limit` bytes come out.
    #[must_use]
    pub fn new(compression: Compression, payload: &'a [u8], limit: usize) -> Decompress<'a> {
        let mut fault = None;
        let codec = match compression {
            Compression::None => Codec::Plain(payload),
            Compression::Gzip => {
                Codec::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(payload)))
            }
            Compression::Snappy => Codec::Snappy(Snappy::new(payload)),
            Compression::Lz4 => Codec::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(payload))),
            Compression::Zstd => match zstd_decoder(payload) {
                Ok(decoder) => Codec::Zstd(Box::new(decoder)),
                Err(_) => {
                    fault = Some(Unreadable::Damaged);
                    Codec::Plain(&[])
                }
            },
        };
        Decompress { codec, left: limit, fault }
    }

    /// Reads some bytes into `into`, which must not be empty; 0 at the end.
    ///
    /// # Errors
    /// [`Unreadable`], and from then on always.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, Unreadable> {
        assert!(!into.is_empty(), "a read needs room");
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let result = match &mut self.codec {
            Codec::Plain(rest) => rest.read(into).map_err(|_| Unreadable::Damaged),
            Codec::Gzip(decoder) => decoder.read(into).map_err(|_| Unreadable::Damaged),
            Codec::Snappy(decoder) => decoder.read(into),
            Codec::Lz4(decoder) => decoder.read(into).map_err(|_| Unreadable::Damaged),
            Codec::Zstd(decoder) => decoder.read(into).map_err(|_| Unreadable::Damaged),
        };
        let result = match result {
            Ok(count) if count > self.left => Err(Unreadable::TooMuch),
            other => other,
        };
        match result {
            Ok(count) => self.left -= count,
            Err(fault) => self.fault = Some(fault),
        }
        result
    }

    /// Reads all of it. Memory grows with what really comes out.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read_all(mut self) -> Result<Vec<u8>, Unreadable> {
        let mut out = Vec::new();
        let mut part = [0; 8192];
        loop {
            match self.read(&mut part)? {
                0 => return Ok(out),
                count => out.extend_from_slice(&part[..count]),
            }
        }
    }
}

fn zstd_decoder(payload: &[u8]) -> io::Result<zstd::stream::read::Decoder<'static, &[u8]>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(payload)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

/// Appends `plain`, compressed, to `out`, in the form that the Java client writes.
pub fn compress(compression: Compression, plain: &[u8], out: &mut Vec<u8>) {
    /// All writers write into memory.
    const MEMORY: &str = "writing to memory does not fail";
    use io::Write;
    match compression {
        Compression::None => out.extend_from_slice(plain),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
            encoder.write_all(plain).expect(MEMORY);
            encoder.finish().expect(MEMORY);
        }
        Compression::Snappy => compress_snappy(plain, out),
        Compression::Lz4 => {
            let info = lz4_flex::frame::FrameInfo::new()
                .block_size(lz4_flex::frame::BlockSize::Max64KB)
                .block_mode(lz4_flex::frame::BlockMode::Independent);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, out);
            encoder.write_all(plain).expect(MEMORY);
            encoder.finish().expect(MEMORY);
        }
        Compression::Zstd => {
            let mut encoder =
                zstd::stream::write::Encoder::new(out, ZSTD_LEVEL).expect("the level exists");
            encoder.write_all(plain).expect(MEMORY);
            encoder.finish().expect(MEMORY);
        }
    }
}

fn compress_snappy(plain: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for chunk in plain.chunks(XERIAL_CHUNK_BYTES) {
        let at = out.len();
        out.resize(at + 4 + snap::raw::max_compress_len(chunk.len()), 0);
        let length = encoder.compress(chunk, &mut out[at + 4..]).expect("there is room enough");
        let announced = i32::try_from(length).expect("a chunk is short");
        out[at..at + 4].copy_from_slice(&announced.to_be_bytes());
        out.truncate(at + 4 + length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODECS: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    fn compressed(codec: Compression, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compress(codec, plain, &mut out);
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_codec_returns_what_went_in(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            times in 1usize..400,
        ) {
            let plain = bytes.repeat(times);
            for codec in CODECS {
                let packed = compressed(codec, &plain);
                let stream = Decompress::new(codec, &packed, plain.len());
                let unpacked = stream.read_all();
                prop_assert_eq!(unpacked.as_deref(), Ok(&plain[..]));
                if !plain.is_empty() {
                    let stream = Decompress::new(codec, &packed, plain.len() - 1);
                    prop_assert_eq!(stream.read_all(), Err(Unreadable::TooMuch));
                }
            }
        }

        #[test]
        fn garbage_ends_in_an_error_or_in_bytes(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            damage in any::<(prop::sample::Index, u8)>(),
        ) {
            for codec in CODECS {
                let _ = Decompress::new(codec, &bytes, 1 << 20).read_all();
            }
            let plain = bytes.repeat(50);
            for codec in CODECS {
                let mut packed = compressed(codec, &plain);
                if !packed.is_empty() {
                    let at = damage.0.index(packed.len());
                    packed[at] ^= damage.1;
                    let _ = Decompress::new(codec, &packed, 1 << 20).read_all();
                    packed.truncate(at);
                    let _ = Decompress::new(codec, &packed, 1 << 20).read_all();
                }
            }
            bytes.splice(0..0, XERIAL_MAGIC);
            let _ = Decompress::new(Compression::Snappy, &bytes, 1 << 20).read_all();
        }
    }

    #[test]
    fn raw_snappy_is_read() {
        let plain = b"librdkafka writes it so ".repeat(9000);
        let packed = snap::raw::Encoder::new().compress_vec(&plain).expect("small");
        let stream = Decompress::new(Compression::Snappy, &packed, plain.len());
        assert_eq!(stream.read_all(), Ok(plain));
    }

    #[test]
    fn concatenated_xerial_streams_are_read() {
        let mut packed = compressed(Compression::Snappy, b"one ");
        packed.extend(compressed(Compression::Snappy, b"two"));
        let stream = Decompress::new(Compression::Snappy, &packed, 100);
        assert_eq!(stream.read_all(), Ok(b"one two".to_vec()));
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let plain = vec![0; 32 << 20];
        for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
            let packed = compressed(codec, &plain);
            assert!(packed.len() < 200_000);
            let stream = Decompress::new(codec, &packed, 1 << 20);
            assert_eq!(stream.read_all(), Err(Unreadable::TooMuch));
        }
    }
}
