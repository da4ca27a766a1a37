//! Which partition a record without one goes to, as the Java client decides it: by murmur2 of the
//! key, and without a key to one partition until a batch's worth of bytes has gone there, then to
//! the next (KIP-480 in spirit: fuller batches, and all partitions in turn).

use crate::id::PartitionIndex;

/// Remembers where records without keys go at present.
#[derive(Clone, Debug)]
pub struct Sticky {
    current: u64,
    bytes: usize,
}

impl Sticky {
    /// Starts at a partition that `random` chooses.
    pub fn new(random: u64) -> Sticky {
        // Room for going on without wrapping.
        Sticky { current: random >> 1, bytes: 0 }
    }

    /// The partition of a record of `bytes` bytes, out of `count`.
    pub fn next(&mut self, count: usize, bytes: usize, switch_after: usize) -> PartitionIndex {
        assert!(count > 0, "a topic has partitions");
        if self.bytes >= switch_after {
            self.bytes = 0;
            self.current += 1;
        }
        self.bytes += bytes;
        index(self.current % count as u64)
    }
}

/// The partition of a key, out of `count`.
pub fn by_key(key: &[u8], count: usize) -> PartitionIndex {
    assert!(count > 0, "a topic has partitions");
    index(u64::from(murmur2(key) & 0x7fff_ffff) % count as u64)
}

fn index(number: u64) -> PartitionIndex {
    PartitionIndex(i32::try_from(number).expect("partitions are numbered in 31 bits"))
}

/// Murmur2 with the seed that Kafka's clients use.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        k = k.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (place, &byte) in rest.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own test (`UtilsTest.testMurmur2`).
    #[test]
    fn murmur2_is_kafkas() {
        let cases: [(&str, i32); 7] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
            ("", 275_646_681),
        ];
        for (text, hash) in cases {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    #[test]
    fn keyless_records_visit_every_partition() {
        let mut sticky = Sticky::new(u64::MAX);
        let mut seen = [0; 3];
        for _ in 0..90 {
            seen[sticky.next(3, 10, 100).0 as usize] += 1;
        }
        assert_eq!(seen, [30, 30, 30]);
    }
}
