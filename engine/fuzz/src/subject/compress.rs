//! Compressed bytes on their own: which codec, then the bytes.

use trialog_engine::wire::batch::Compression;
use trialog_engine::wire::compress::{Decompress, Unreadable, compress};

use crate::numbers::byte;

const LIMIT: usize = 1 << 20;

pub const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

pub fn run(mut data: &[u8]) {
    let codec = CODECS[usize::from(byte(&mut data)) % CODECS.len()];
    let limit = if byte(&mut data) % 2 == 0 { LIMIT } else { data.len() };
    // In small pieces and at once: the same. (Of two faults either may be met first.)
    let pieces = in_pieces(Decompress::new(codec, data, limit));
    let whole = Decompress::new(codec, data, limit).read_all();
    assert!(pieces.ok() == whole.clone().ok(), "{codec:?}");
    let Ok(plain) = whole else { return };
    assert!(plain.len() <= limit, "{codec:?}: {} bytes of {limit}", plain.len());
    let mut again = Vec::new();
    compress(codec, &plain, &mut again);
    let second = Decompress::new(codec, &again, plain.len()).read_all();
    assert!(second.as_ref() == Ok(&plain), "{codec:?}");
}

fn in_pieces(mut stream: Decompress<'_>) -> Result<Vec<u8>, Unreadable> {
    let (mut out, mut part) = (Vec::new(), [0; 601]);
    loop {
        match stream.read(&mut part)? {
            0 => return Ok(out),
            count => out.extend_from_slice(&part[..count]),
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (number, codec) in CODECS.into_iter().enumerate() {
        for plain in [&b""[..], b"x", b"abcabcabcabc abcabcabc", &[0; 3000], &[7; 40_000]] {
            let mut seed = vec![number as u8, 0];
            compress(codec, plain, &mut seed);
            seeds.push(seed);
        }
    }
    // Raw Snappy, as some clients send it: a length, then literals and copies.
    seeds.push([&[2, 0, 5, 16][..], b"hello"].concat());
    seeds
}
