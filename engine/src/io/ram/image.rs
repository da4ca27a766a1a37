//! The bytes of one file, live and durable, and what of them a power loss keeps.
//!
//! Writes and changes of length go to the live image and into a list of what is pending. A sync
//! carries the list over to the durable image. A power loss keeps, for every sector of 512 bytes
//! apart, the pending writes up to some moment, and for the length, the changes up to another.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::io::chance::Chance;

/// What a disk writes atomically, in bytes.
pub const SECTOR_BYTES: u64 = 512;

const PAGE_BYTES: u64 = 4096;

type Page = [u8; PAGE_BYTES as usize];

/// Sparse bytes: pages that are missing read as zero. Clones share pages until they change.
#[derive(Clone, Default)]
pub(super) struct Image {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

/// A change of a file that is not durable yet.
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

/// One file's bytes.
#[derive(Default)]
pub(super) struct Contents {
    live: Image,
    durable: Image,
    pending: Vec<Change>,
}

impl Image {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Copies what there is from `offset` on; returns how much that was.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let end = self.len.min(offset.saturating_add(into.len() as u64));
        let mut at = offset;
        while at < end {
            let within = at % PAGE_BYTES;
            let count = (PAGE_BYTES - within).min(end - at);
            let target = &mut into[(at - offset) as usize..][..count as usize];
            match self.pages.get(&(at / PAGE_BYTES)) {
                Some(page) => target.copy_from_slice(&page[within as usize..][..count as usize]),
                None => target.fill(0),
            }
            at += count;
        }
        (at - offset) as usize
    }

    /// Puts bytes in place without regard to the length.
    fn place(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        let mut at = offset;
        while at < end {
            let within = at % PAGE_BYTES;
            let count = (PAGE_BYTES - within).min(end - at);
            let page = self
                .pages
                .entry(at / PAGE_BYTES)
                .or_insert_with(|| Arc::new([0; PAGE_BYTES as usize]));
            Arc::make_mut(page)[within as usize..][..count as usize]
                .copy_from_slice(&bytes[(at - offset) as usize..][..count as usize]);
            at += count;
        }
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.place(offset, bytes);
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    fn set_length(&mut self, len: u64) {
        let within = len % PAGE_BYTES;
        drop(self.pages.split_off(&len.div_ceil(PAGE_BYTES)));
        if within > 0
            && let Some(page) = self.pages.get_mut(&(len / PAGE_BYTES))
        {
            Arc::make_mut(page)[within as usize..].fill(0);
        }
        self.len = len;
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, bytes } => self.write(*offset, bytes),
            Change::Length(len) => self.set_length(*len),
        }
    }
}

impl Contents {
    pub(super) fn live(&self) -> &Image {
        &self.live
    }

    /// Changes bytes behind everybody's back: in the cache and on the disk.
    pub(super) fn rot(&mut self, offset: u64, bytes: &[u8]) {
        self.live.write(offset, bytes);
        self.durable.write(offset, bytes);
    }

    pub(super) fn write(&mut self, offset: u64, bytes: Vec<u8>) {
        self.change(Change::Write { offset, bytes });
    }

    pub(super) fn set_length(&mut self, len: u64) {
        self.change(Change::Length(len));
    }

    fn change(&mut self, change: Change) {
        self.live.apply(&change);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            self.durable.apply(&change);
        }
    }

    /// As Linux does it: some of what was pending reached the disk, the rest stays in the cache
    /// and is taken for clean, so no later sync writes it.
    pub(super) fn fail_sync(&mut self, chance: &mut Chance) {
        self.durable = self.survivor(chance);
        self.pending.clear();
    }

    /// The file after a power loss that took everything unflushed.
    pub(super) fn lose_everything(&self) -> Contents {
        Contents::clean(self.durable.clone())
    }

    /// The file after a power loss that took some of what was unflushed.
    pub(super) fn lose_some(&self, chance: &mut Chance) -> Contents {
        Contents::clean(self.survivor(chance))
    }

    fn clean(image: Image) -> Contents {
        Contents { live: image.clone(), durable: image, pending: Vec::new() }
    }

    fn survivor(&self, chance: &mut Chance) -> Image {
        let count = self.pending.len();
        let cut = |chance: &mut Chance| match chance.below(3) {
            0 => 0,
            1 => count,
            _ => chance.below(count + 1),
        };
        let together = chance.one_in(4).then(|| cut(chance));
        let length_cut = together.unwrap_or_else(|| cut(chance));
        let mut cuts = BTreeMap::new();
        let mut image = self.durable.clone();
        for (number, change) in self.pending.iter().enumerate() {
            match change {
                Change::Length(len) if number < length_cut => image.set_length(*len),
                Change::Length(_) => {}
                Change::Write { offset, bytes } => {
                    for (at, piece) in sectors(*offset, bytes) {
                        let sector = at / SECTOR_BYTES;
                        let cut = *cuts
                            .entry(sector)
                            .or_insert_with(|| together.unwrap_or_else(|| cut(chance)));
                        if number < cut {
                            image.place(at, piece);
                        } else if sector * SECTOR_BYTES >= self.durable.len && chance.one_in(16) {
                            // A block that never held anything of ours may hold anything.
                            let garbage: Vec<u8> =
                                piece.iter().map(|_| chance.bits() as u8).collect();
                            image.place(at, &garbage);
                        }
                    }
                    if number < length_cut {
                        image.len = image.len.max(offset + bytes.len() as u64);
                    }
                }
            }
        }
        let len = image.len;
        image.set_length(len);
        image
    }
}

/// The parts of a write, sector by sector.
fn sectors(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut at = offset;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let room = (SECTOR_BYTES - at % SECTOR_BYTES) as usize;
        let (piece, behind) = rest.split_at(room.min(rest.len()));
        let piece_at = at;
        rest = behind;
        at += piece.len() as u64;
        Some((piece_at, piece))
    })
}
