//! The fault atlas: where damage may strike that nobody announces, so that what is destroyed stays
//! within what is promised.
//!
//! **On the wire.** TCP's checksum of 16 bits misses one damaged packet in some ten thousand; what
//! passes it is the protocol's to notice. Kafka's requests and answers carry no checksum, so damage
//! in their heads would change what was asked, and no broker or client could know. What has one is
//! the record batch: CRC-32C from its attributes to its end (KIP-98). Altered bits therefore strike
//! within batches only, at the checksum or what it covers.

use std::ops::Range;

use trialog_engine::wire::batch::{Batch, HEADER_BYTES};

use crate::seed::Stream;

/// Where the checksum of a batch begins; what it covers comes right behind it. What is before is
/// covered by nothing: base offset, length, leader epoch, magic.
const CHECKSUM_AT: usize = 17;
/// Where the magic byte of a batch is.
const MAGIC_AT: usize = 16;

/// The whole batches in `bytes`, wherever they begin, by their ranges.
#[must_use]
pub fn batches(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + HEADER_BYTES <= bytes.len() {
        if bytes[at + MAGIC_AT] == 2
            && let Ok(batch) = Batch::parse(&bytes[at..])
            && batch.crc_matches()
        {
            found.push(at..at + batch.size());
            at += batch.size();
        } else {
            at += 1;
        }
    }
    found
}

/// Flips 1 to 32 bits of one batch in `bytes` where its checksum shows it. False if there is no
/// whole batch.
pub fn alter_batch(bytes: &mut [u8], random: &mut Stream) -> bool {
    let batches = batches(bytes);
    if batches.is_empty() {
        return false;
    }
    let batch = batches[random.below(batches.len() as u64) as usize].clone();
    let bits = random.within(1..33);
    flip(&mut bytes[batch.start + CHECKSUM_AT..batch.end], bits, random);
    true
}

/// Flips so many bits, near each other as a burst or anywhere; at least one changes in the end.
pub fn flip(bytes: &mut [u8], bits: u64, random: &mut Stream) {
    let total = bytes.len() as u64 * 8;
    let burst = random.chance(1, 2);
    let start = random.below(total);
    let mut flipped = std::collections::BTreeSet::from([start]);
    for _ in 1..bits {
        let place = if burst { (start + random.below(64)) % total } else { random.below(total) };
        flipped.insert(place);
    }
    for bit in flipped {
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trialog_engine::wire::batch::{Builder, Compression};

    fn batch(value: &[u8]) -> Vec<u8> {
        let mut builder = Builder::new().compression(Compression::None);
        builder.push(7, None, Some(value), &[]);
        builder.finish()
    }

    #[test]
    fn altered_bits_strike_batches_and_are_always_noticed() {
        let mut random = Stream::new(1);
        for round in 0..500 {
            let (head, one, two) = ([2; 90], batch(b"first"), batch(&[2; 70]));
            let whole = [&head[..], &one, &two, b"tail"].concat();
            assert_eq!(batches(&whole).len(), 2);
            let mut altered = whole.clone();
            assert!(alter_batch(&mut altered, &mut random));
            let changed = whole.iter().zip(&altered).map(|(a, b)| (a ^ b).count_ones());
            assert!((1..=32).contains(&changed.sum::<u32>()), "round {round}");
            assert_eq!(altered[..90], whole[..90]);
            assert_eq!(altered[whole.len() - 4..], *b"tail");
            assert_eq!(batches(&altered).len(), 1, "the other one is not touched");
        }
        assert!(!alter_batch(&mut [2; 300], &mut random));
        assert!(!alter_batch(&mut batch(b"cut off")[..60], &mut random));
    }
}
