//! Which offset each key was last written at: what a compaction knows of the records it reads.
//!
//! Pure and bounded: an open-addressed table of hashes, 24 bytes a slot, that doubles up to a
//! limit. A key is known by 128 bits of a hash under a secret of this run, so that nobody can write
//! two keys that pass for one; by chance it happens less often than a disk lies.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::id::Offset;

/// What a log that was given no memory gets: its passes are many, and do end.
const SLOTS_MIN: usize = 1 << 3;

#[derive(Clone, Copy)]
struct Slot {
    hash: [u64; 2],
    /// -1 in a free slot.
    offset: i64,
}

const FREE: Slot = Slot { hash: [0; 2], offset: -1 };
const SLOT_BYTES: usize = size_of::<Slot>();
const _: () = assert!(SLOT_BYTES == 24);

/// See the module's head.
pub(super) struct OffsetMap {
    secret: [u64; 2],
    /// As many as a power of two; at most three quarters are used.
    slots: Vec<Slot>,
    used: usize,
    slots_max: usize,
}

/// There is no room for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl OffsetMap {
    /// An empty map of at most `bytes_max` bytes, but room for some keys.
    pub(super) fn new(secret: [u64; 2], bytes_max: u64) -> Self {
        let slots = usize::try_from(bytes_max).unwrap_or(usize::MAX) / SLOT_BYTES;
        // The largest power of two that fits.
        let slots_max = (slots / 2 + 1).next_power_of_two().max(SLOTS_MIN);
        OffsetMap { secret, slots: vec![FREE; SLOTS_MIN], used: 0, slots_max }
    }

    /// The key was written at `offset`, which is above all offsets before.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> Result<(), Full> {
        let hash = self.hash(key);
        let mut at = self.find(hash);
        if self.slots[at].offset < 0 {
            if (self.used + 1) * 4 > self.slots.len() * 3 {
                if self.slots.len() >= self.slots_max {
                    return Err(Full);
                }
                self.grow();
                at = self.find(hash);
            }
            self.used += 1;
        }
        assert!(self.slots[at].offset < offset.0, "offsets rise");
        self.slots[at] = Slot { hash, offset: offset.0 };
        Ok(())
    }

    /// As [`OffsetMap::put`], beyond the limit if need be.
    pub(super) fn put_anyway(&mut self, key: &[u8], offset: Offset) {
        if self.put(key, offset).is_err() {
            self.slots_max = self.slots.len() * 2;
            self.put(key, offset).expect("there is room for twice as many");
        }
    }

    /// Where the key was last written, if it was.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        let slot = self.slots[self.find(self.hash(key))];
        (slot.offset >= 0).then_some(Offset(slot.offset))
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let mut hasher = SipHasher13::new_with_keys(self.secret[0], self.secret[1]);
        hasher.write(key);
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }

    /// The slot of this hash, or the free one where it belongs.
    fn find(&self, hash: [u64; 2]) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash[0] as usize & mask;
        while self.slots[at].offset >= 0 && self.slots[at].hash != hash {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) {
        let twice = vec![FREE; self.slots.len() * 2];
        for slot in std::mem::replace(&mut self.slots, twice) {
            if slot.offset >= 0 {
                let at = self.find(slot.hash);
                self.slots[at] = slot;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_last_offset_of_each_key_and_no_more_than_it_may() {
        let mut map = OffsetMap::new([1, 2], 4096 * 24);
        let mut held = 0i64;
        while map.put(&held.to_be_bytes(), Offset(held)).is_ok() {
            held += 1;
        }
        assert_eq!(held, 3072);
        assert_eq!(map.slots.len(), 4096);
        for key in (0..held).step_by(7) {
            assert_eq!(map.put(&key.to_be_bytes(), Offset(key + held)), Ok(()));
        }
        for key in 0..held {
            let expected = if key % 7 == 0 { key + held } else { key };
            assert_eq!(map.get(&key.to_be_bytes()), Some(Offset(expected)));
        }
        assert_eq!(map.get(b"absent"), None);
        map.put_anyway(b"one more", Offset(held * 2));
        assert_eq!(map.get(b"one more"), Some(Offset(held * 2)));
    }

    #[test]
    fn the_limit_is_a_limit() {
        for bytes in [0, 24 * 1024, 24 * 4095, 24 * 4096, 24 * 5000, 24 * 8192] {
            let map = OffsetMap::new([0; 2], bytes);
            let held = map.slots_max as u64 * 24;
            assert!(held <= bytes.max(24 * 8), "{bytes}: {held}");
            assert!(held * 2 > bytes, "{bytes}: {held}");
        }
    }
}
