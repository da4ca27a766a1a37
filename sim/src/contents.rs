//! What an event moved, in 128 bits: bytes that were written or read, paths, listings, words.
//!
//! It goes into the hash of a run behind the event's facts (see [`crate::trace`]), and stands, shortened,
//! in the event's line, so that two runs that differ in contents alone show where. Every part counts
//! with its length: two buffers are not one that holds both.
//!
//! Two lanes, each a chain of multiplications whose halves are folded together, take 16 bytes a
//! round: every byte that a run moves passes here, often more than once.

/// The hash of parts, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    lanes: [u64; 2],
}

/// Bytes of a round.
const ROUND: usize = 16;
/// Odd numbers without a pattern, one for each lane.
const KEYS: [u64; 2] = [0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3];

impl Contents {
    /// No parts yet.
    pub const NONE: Contents = Contents { lanes: [0x4528_21e6_38d0_1377, 0xbe54_66cf_34e9_0c6c] };

    /// One part.
    #[must_use]
    pub fn of(part: &[u8]) -> Contents {
        Contents::NONE.and(part)
    }

    /// One more part.
    #[must_use]
    pub fn and(mut self, part: &[u8]) -> Contents {
        let mut rounds = part.chunks_exact(ROUND);
        for round in &mut rounds {
            self.take(round.try_into().expect("a whole round"));
        }
        let mut last = [0; ROUND];
        last[..rounds.remainder().len()].copy_from_slice(rounds.remainder());
        self.take(&last);
        self.and_number(part.len() as u64)
    }

    /// A number as one more part.
    #[must_use]
    pub fn and_number(mut self, number: u64) -> Contents {
        self.round(number, !number);
        self
    }

    /// All of it.
    #[must_use]
    pub fn words(self) -> [u64; 2] {
        self.lanes
    }

    /// As much of it as a line shows.
    #[must_use]
    pub fn short(self) -> u32 {
        (self.lanes[0] >> 32) as u32
    }

    fn take(&mut self, round: &[u8; ROUND]) {
        let (first, second) = round.split_at(ROUND / 2);
        let word = |half: &[u8]| u64::from_le_bytes(half.try_into().expect("eight bytes"));
        self.round(word(first), word(second));
    }

    fn round(&mut self, first: u64, second: u64) {
        let [low, high] = self.lanes;
        self.lanes = [fold(low ^ first, second ^ KEYS[0]), fold(high ^ second, first ^ KEYS[1])];
    }
}

fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_bit_every_length_and_every_border_between_parts_counts() {
        let bytes: Vec<u8> = (0..67).collect();
        let mut seen = BTreeSet::new();
        let mut all = 0;
        let mut add = |contents: Contents| {
            let [low, high] = contents.words();
            // Either lane by itself tells them apart.
            seen.insert((0, low));
            seen.insert((1, high));
            all += 2;
        };
        add(Contents::NONE);
        for end in 0..=bytes.len() {
            add(Contents::of(&bytes[..end]));
            add(Contents::of(&vec![0; end]).and_number(1));
            if end > 0 && end < bytes.len() {
                add(Contents::of(&bytes[..end]).and(&bytes[end..]));
            }
        }
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            add(Contents::of(&other));
        }
        assert_eq!(seen.len(), all);
        assert_eq!(Contents::of(&bytes), Contents::of(&bytes.clone()));
    }
}
