//! Sectors that are not what was written, without anybody having been told.
//!
//! Rot knows the truth behind each of them, so that a disk can be mended in the end as if it had
//! been restored from a good copy: what is on trial is whether damage is noticed while it is there.

use std::collections::BTreeMap;

use super::file::{Contents, SECTOR};
use super::names::Ino;

/// What is wrong with one sector.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rotten {
    /// It holds other bytes than these.
    Altered(Box<[u8; SECTOR]>),
    /// It cannot be read.
    Unreadable,
}

/// Everything that is rotten on one disk.
#[derive(Debug, Default)]
pub(super) struct Rot {
    sectors: BTreeMap<(Ino, u64), Rotten>,
}

impl Rot {
    /// Puts other bytes into a sector. What it held before, rot or not, is what it should hold.
    pub(super) fn alter(
        &mut self,
        ino: Ino,
        contents: &mut Contents,
        sector: u64,
        bytes: &[u8; SECTOR],
    ) {
        let truth = contents.sector(sector);
        let key = (ino, sector);
        if !matches!(self.sectors.get(&key), Some(Rotten::Altered(_))) {
            self.sectors.insert(key, Rotten::Altered(Box::new(truth)));
        }
        contents.replace_sector(sector, bytes);
    }

    /// Makes a sector unreadable, unless something else is wrong with it.
    pub(super) fn spoil(&mut self, ino: Ino, sector: u64) {
        self.sectors.entry((ino, sector)).or_insert(Rotten::Unreadable);
    }

    /// Whether something of a file is rotten.
    pub(super) fn is_in(&self, ino: Ino) -> bool {
        self.sectors.range((ino, 0)..=(ino, u64::MAX)).next().is_some()
    }

    /// Where the first unreadable byte in `offset .. offset + len` is.
    pub(super) fn unreadable(&self, ino: Ino, offset: u64, len: u64) -> Option<u64> {
        if self.sectors.is_empty() || len == 0 {
            return None;
        }
        let (first, last) = (offset / SECTOR as u64, (offset + len - 1) / SECTOR as u64);
        let range = self.sectors.range((ino, first)..=(ino, last));
        let bad = range.into_iter().find(|(_, rotten)| **rotten == Rotten::Unreadable);
        bad.map(|((_, sector), _)| (sector * SECTOR as u64).max(offset))
    }

    /// `bytes` were written at `offset`: what they cover is right again.
    pub(super) fn written(&mut self, ino: Ino, offset: u64, bytes: &[u8]) {
        if self.sectors.is_empty() || bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        let (first, last) = (offset / SECTOR as u64, (end - 1) / SECTOR as u64);
        let touched: Vec<u64> =
            self.sectors.range((ino, first)..=(ino, last)).map(|(key, _)| key.1).collect();
        for sector in touched {
            let start = sector * SECTOR as u64;
            let (from, to) = (offset.max(start), end.min(start + SECTOR as u64));
            if to - from == SECTOR as u64 {
                self.sectors.remove(&(ino, sector));
            } else if let Some(Rotten::Altered(truth)) = self.sectors.get_mut(&(ino, sector)) {
                truth[(from - start) as usize..(to - start) as usize]
                    .copy_from_slice(&bytes[(from - offset) as usize..(to - offset) as usize]);
            }
        }
    }

    /// The file was cut to `len`: what was behind it is gone, rot and truth alike.
    pub(super) fn cut(&mut self, ino: Ino, len: u64) {
        self.sectors.retain(|(other, sector), _| *other != ino || sector * (SECTOR as u64) < len);
        if let Some(Rotten::Altered(truth)) = self.sectors.get_mut(&(ino, len / SECTOR as u64)) {
            truth[(len % SECTOR as u64) as usize..].fill(0);
        }
    }

    /// Everything is again what it should be.
    pub(super) fn mend(&mut self, files: &mut BTreeMap<Ino, Contents>) {
        for ((ino, sector), rotten) in std::mem::take(&mut self.sectors) {
            if let (Rotten::Altered(truth), Some(contents)) = (rotten, files.get_mut(&ino)) {
                contents.replace_sector(sector, &truth);
            }
        }
    }
}
