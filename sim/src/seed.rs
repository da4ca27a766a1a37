//! One seed, many independent streams of random numbers.
//!
//! Every concern (schedule, network, each disk, each clock, each client, the fault plan) draws from
//! a [`Stream`] of its own, made from the run's seed and the concern's name. Turning a checker on
//! or taking one fault out of a plan therefore shifts nothing else. Nothing in a simulation may
//! draw from anywhere else.

use std::ops::Range;
use std::time::Duration;

/// The number that a whole run follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

/// A stream of random numbers (xoshiro256++), the same for the same seed, concern and index.
#[derive(Clone, Debug)]
pub struct Stream {
    state: [u64; 4],
}

impl Seed {
    /// The stream of `concern`, for the thing that has number `index` within it.
    #[must_use]
    pub fn stream(self, concern: &str, index: u64) -> Stream {
        Stream::new(self.derive(concern, index))
    }

    /// A seed of its own for `concern`.
    #[must_use]
    pub fn derive(self, concern: &str, index: u64) -> u64 {
        let name = concern.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut mixed = self.0 ^ name.rotate_left(17);
        let first = split_mix(&mut mixed);
        mixed ^= index.wrapping_mul(0xd6e8_feb8_6659_fd93);
        first ^ split_mix(&mut mixed)
    }
}

impl Stream {
    /// A stream from 64 bits of seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut mixed = seed;
        Stream { state: std::array::from_fn(|_| split_mix(&mut mixed)) }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `bound`, or 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of a multiply-shift is below 2^-32 for every bound that is used here.
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `range`, which must not be empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end, "an empty range");
        range.start + self.below(range.end - range.start)
    }

    /// True in `parts` of `whole` cases.
    pub fn chance(&mut self, parts: u64, whole: u64) -> bool {
        self.below(whole) < parts
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A duration in the range.
    pub fn duration(&mut self, range: Range<Duration>) -> Duration {
        Duration::from_nanos(self.within(nanos(range.start)..nanos(range.end)))
    }

    /// A delay in nanoseconds around `typical`: mostly near it, sometimes many times as long, as
    /// devices and networks behave.
    pub fn delay(&mut self, typical: u64) -> u64 {
        let base = typical / 2 + self.below(typical + 1);
        match self.below(64) {
            0 => base * self.within(5..40),
            1..=4 => base * self.within(2..5),
            _ => base,
        }
    }

    /// Fills `bytes` with random ones.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.bits().to_le_bytes()[..part.len()]);
        }
    }
}

/// A duration in whole nanoseconds; longer than 584 years counts as that.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_reproducible_and_independent() {
        let draw = |seed: u64, name: &str, index| {
            let mut stream = Seed(seed).stream(name, index);
            [stream.bits(), stream.bits(), stream.bits()]
        };
        assert_eq!(draw(7, "disk", 0), draw(7, "disk", 0));
        let others = [draw(7, "disk", 1), draw(7, "net", 0), draw(8, "disk", 0)];
        for (place, other) in others.iter().enumerate() {
            assert_ne!(*other, draw(7, "disk", 0));
            assert!(!others[..place].contains(other));
        }
    }

    #[test]
    fn draws_cover_their_range() {
        let mut stream = Stream::new(1);
        let mut seen = [0_u32; 5];
        for _ in 0..5000 {
            seen[stream.within(10..15) as usize - 10] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
        assert_eq!(stream.below(0), 0);
    }
}
