//! Reading Snappy as a stream, raw or in the frames of snappy-java ("Xerial").
//!
//! librdkafka sends a batch as one raw block of any size, and a decoder for whole blocks would need
//! memory for all that a block announces. This one keeps a window. Encoders look back at most
//! 64 KiB, because they work on blocks of that size; the format would allow more, no encoder known
//! to us writes it, and it is refused here.
//!
//! ```text
//! block    announced length, varint | elements
//! element  tag: kind in bits 0-1
//!          0 literal: length - 1 in bits 2-7, or above 59 in 1 to 4 bytes that follow; bytes
//!          1 copy:    length - 4 in bits 2-4, offset in bits 5-7 (high) and the next byte
//!          2 copy:    length - 1 in bits 2-7, offset in two bytes, little-endian
//!          3 copy:    as 2, with four bytes
//! Xerial   magic, version i32, compatible i32 | (block length i32 | block) ...
//! ```

use super::compress::Unreadable;

/// The first bytes of Snappy in the frames of snappy-java, which Java clients write.
pub const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];

/// Magic, version and lowest compatible version.
const XERIAL_HEADER_BYTES: usize = 16;

/// How far back a copy may look, at least.
const WINDOW_BYTES: usize = 64 * 1024;

/// Snappy, raw (one block) or in Xerial frames (many).
pub struct Snappy<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Option<Block<'a>>,
    /// What came out of the block, as far as it can be copied from or has not been taken.
    window: Vec<u8>,
    taken: usize,
}

/// A block that is being read.
struct Block<'a> {
    rest: &'a [u8],
    /// Bytes that have yet to come out.
    left: usize,
    /// Bytes of them that are part of a literal.
    literal: usize,
}

/// What stands next in a block.
enum Element {
    Literal { length: usize },
    Copy { length: usize, offset: usize },
}

impl<'a> Snappy<'a> {
    pub fn new(payload: &'a [u8]) -> Snappy<'a> {
        let framed = payload.starts_with(&XERIAL_MAGIC);
        Snappy { rest: payload, framed, block: None, window: Vec::new(), taken: 0 }
    }

    /// Reads some bytes; 0 at the end.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, Unreadable> {
        while self.taken == self.window.len() {
            match &mut self.block {
                Some(block) if !block.is_done() => {
                    let behind = self.window.len().saturating_sub(WINDOW_BYTES);
                    self.window.drain(..behind);
                    self.taken = self.window.len();
                    block.read(&mut self.window, self.taken + WINDOW_BYTES)?;
                }
                _ => {
                    self.window.clear();
                    self.taken = 0;
                    self.block = match self.next_block()? {
                        Some(bytes) => Some(Block::new(bytes)?),
                        None => return Ok(0),
                    };
                }
            }
        }
        let ready = &self.window[self.taken..];
        let count = ready.len().min(into.len());
        into[..count].copy_from_slice(&ready[..count]);
        self.taken += count;
        Ok(count)
    }

    fn next_block(&mut self) -> Result<Option<&'a [u8]>, Unreadable> {
        if !self.framed {
            let all = std::mem::take(&mut self.rest);
            return Ok((!all.is_empty()).then_some(all));
        }
        // Streams may be concatenated: a new header can stand wherever a block can.
        while self.rest.starts_with(&XERIAL_MAGIC) {
            self.rest = self.rest.get(XERIAL_HEADER_BYTES..).ok_or(Unreadable::Damaged)?;
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (length, rest) = self.rest.split_first_chunk::<4>().ok_or(Unreadable::Damaged)?;
        let length = usize::try_from(i32::from_be_bytes(*length));
        let length = length.map_err(|_| Unreadable::Damaged)?;
        let (block, rest) = rest.split_at_checked(length).ok_or(Unreadable::Damaged)?;
        self.rest = rest;
        Ok(Some(block))
    }
}

impl<'a> Block<'a> {
    fn new(mut rest: &'a [u8]) -> Result<Block<'a>, Unreadable> {
        let mut announced = 0u64;
        for place in 0..5 {
            let (&byte, behind) = rest.split_first().ok_or(Unreadable::Damaged)?;
            rest = behind;
            announced |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                let left = u32::try_from(announced).map_err(|_| Unreadable::Damaged)?;
                let block = Block { rest, left: left as usize, literal: 0 };
                // An empty block has no elements.
                return if left > 0 || rest.is_empty() {
                    Ok(block)
                } else {
                    Err(Unreadable::Damaged)
                };
            }
        }
        Err(Unreadable::Damaged)
    }

    fn is_done(&self) -> bool {
        self.left == 0 && self.rest.is_empty()
    }

    /// Appends to `window` until it has `goal` bytes or a few more, or the block ends.
    fn read(&mut self, window: &mut Vec<u8>, goal: usize) -> Result<(), Unreadable> {
        while window.len() < goal && !self.is_done() {
            if self.literal > 0 {
                let count = self.literal.min(goal - window.len());
                let (bytes, rest) = self.rest.split_at_checked(count).ok_or(Unreadable::Damaged)?;
                window.extend_from_slice(bytes);
                self.rest = rest;
                self.literal -= count;
                self.left -= count;
                continue;
            }
            match self.element()? {
                Element::Literal { length } if length <= self.left => self.literal = length,
                Element::Copy { length, offset }
                    if length <= self.left && offset > 0 && offset <= window.len() =>
                {
                    copy(window, length, offset);
                    self.left -= length;
                }
                _ => return Err(Unreadable::Damaged),
            }
        }
        Ok(())
    }

    fn element(&mut self) -> Result<Element, Unreadable> {
        let tag = self.number(1)?;
        let high = tag >> 2;
        Ok(match tag & 3 {
            0 if high < 60 => Element::Literal { length: high + 1 },
            0 => Element::Literal { length: self.number(high - 59)? + 1 },
            1 => {
                let offset = (tag & 0xe0) << 3 | self.number(1)?;
                Element::Copy { length: 4 + (high & 7), offset }
            }
            2 => Element::Copy { length: high + 1, offset: self.number(2)? },
            _ => Element::Copy { length: high + 1, offset: self.number(4)? },
        })
    }

    /// The next `count` bytes, 1 to 4, as a little-endian number.
    fn number(&mut self, count: usize) -> Result<usize, Unreadable> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(Unreadable::Damaged)?;
        self.rest = rest;
        Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }
}

/// Repeats `length` bytes that stand `offset` before the end; a copy may reach into itself.
fn copy(window: &mut Vec<u8>, mut length: usize, offset: usize) {
    let from = window.len() - offset;
    while length > 0 {
        // What has been copied doubles what can be copied at once.
        let count = length.min(window.len() - from);
        window.extend_from_within(from..from + count);
        length -= count;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(payload: &[u8], step: usize) -> Result<Vec<u8>, Unreadable> {
        let mut snappy = Snappy::new(payload);
        let (mut out, mut part) = (Vec::new(), vec![0; step]);
        loop {
            match snappy.read(&mut part)? {
                0 => return Ok(out),
                count => out.extend_from_slice(&part[..count]),
            }
            assert!(snappy.window.len() <= 2 * WINDOW_BYTES + 64);
        }
    }

    /// Text that repeats itself near and far, with noise.
    fn plain() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..300),
            (any::<u8>(), 0usize..5000).prop_map(|(byte, count)| vec![byte; count]),
            (1usize..90, 1usize..900).prop_map(|(period, times)| {
                (0..period).map(|at| at as u8).collect::<Vec<_>>().repeat(times)
            }),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn blocks_of_the_encoder_are_read(plain in plain(), step in 1usize..20_000) {
            let packed = snap::raw::Encoder::new().compress_vec(&plain).expect("small");
            let read = read_all(&packed, step);
            prop_assert_eq!(read.as_deref(), Ok(&plain[..]));
        }

        /// As the library's decoder judges it, but for looking back too far.
        #[test]
        fn damaged_blocks_are_judged_as_the_library_does(
            plain in plain(),
            damage in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 1..3),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut packed = snap::raw::Encoder::new().compress_vec(&plain).expect("small");
            for (at, byte) in damage {
                let at = at.index(packed.len());
                packed[at] ^= byte;
            }
            for packed in [&packed[..], &packed[..cut.index(packed.len())]] {
                let announced = snap::raw::decompress_len(packed).unwrap_or(usize::MAX);
                if packed.starts_with(&XERIAL_MAGIC) || announced > 1 << 24 {
                    let _ = read_all(packed, 512);
                    continue;
                }
                let theirs = snap::raw::Decoder::new().decompress_vec(packed);
                match (read_all(packed, 512), theirs) {
                    (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
                    (Err(_), Err(_)) => {}
                    (Err(_), Ok(theirs)) => prop_assert!(theirs.len() > WINDOW_BYTES),
                    // The library calls an empty input damaged; here it is an empty stream.
                    (Ok(ours), Err(_)) => prop_assert!(packed.is_empty() && ours.is_empty()),
                }
            }
        }
    }

    #[test]
    fn a_huge_announcement_costs_nothing() {
        let (result, bytes) = crate::wire::api::meter::allocated(|| {
            read_all(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, b'x'], 512)
        });
        assert_eq!(result, Err(Unreadable::Damaged));
        assert!(bytes < 4096, "{bytes}");
    }

    #[test]
    fn the_longest_way_back_is_64_kib() {
        let mut plain: Vec<u8> = (0..=255u8).cycle().take(WINDOW_BYTES).collect();
        plain[0] = 77;
        let mut packed = vec![0x84, 0x80, 0x04];
        let length = (WINDOW_BYTES - 1) as u16;
        packed.push(61 << 2);
        packed.extend_from_slice(&length.to_le_bytes());
        packed.extend_from_slice(&plain);
        // A copy of four bytes from 65 536 back.
        packed.push(3 << 2 | 3);
        packed.extend_from_slice(&(WINDOW_BYTES as u32).to_le_bytes());
        let mut expected = plain.clone();
        expected.extend_from_slice(&plain[..4]);
        assert_eq!(read_all(&packed, 100), Ok(expected));
    }
}
