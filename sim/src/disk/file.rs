//! The contents of one simulated file: a page cache over a durable image, at sector grain.
//!
//! ```text
//!   live      what reads see            pages of 4,096 bytes, shared with `durable` while equal
//!   dirty     per page, a bit for each of its 8 sectors of 512 bytes: not yet flushed
//!   durable   what a power cut cannot take
//! ```
//!
//! A flush covers what was written before it was asked for: [`Contents::flush_begin`] keeps those
//! pages as they are, [`Contents::flush_end`] makes each durable either as it was then or as it is
//! by now. A power cut keeps any subset of the dirty sectors and any of the lengths that the file
//! had since its last flush, torn writes and garbage included ([`Contents::power_loss`]).
//!
//! What it keeps: bytes that a successful flush covered survive every power cut, until something
//! overwrites their sector; and then the sector is the old one or the new one, never a mixture.
//! It knows nothing of names, time or nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names::LostNames;
use crate::seed::Stream;

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Bytes of a sector, the grain of a torn write.
pub const SECTOR: usize = 512;

const SECTORS: usize = PAGE / SECTOR;

type Page = [u8; PAGE];
type Pages = BTreeMap<u64, Arc<Page>>;

/// Everything in one file. See the module's head.
#[derive(Debug, Default)]
pub struct Contents {
    live: Pages,
    durable: Pages,
    dirty: BTreeMap<u64, u8>,
    /// Sectors that the disk has been written to: never garbage again, whatever they hold.
    written: BTreeMap<u64, u8>,
    /// Sectors that a failed flush marked clean without writing them.
    lost: BTreeMap<u64, u8>,
    len: u64,
    durable_len: u64,
    /// Every length since the last flush, in order; the last is `len`. A crash picks one.
    lengths: Vec<Length>,
    /// How many there ever were.
    numbered: u64,
    /// Bytes from the start for which the disk has given room.
    reserved: u64,
}

/// One change of a file's length.
#[derive(Clone, Copy, Debug)]
struct Length {
    /// Rises from change to change.
    number: u64,
    len: u64,
    /// Whether it was a truncation, which also zeroes what lay behind.
    cut: bool,
}

/// What a flush will make durable: the file as it was when the flush was asked for.
#[derive(Debug, Default)]
pub struct Flush {
    pages: Vec<(u64, u8, Arc<Page>)>,
    /// The number of the last change of length that it covers.
    upto: Option<u64>,
    len: u64,
}

/// What a power cut is to take, where a fault has a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wreck {
    /// All that was not flushed.
    All,
    /// All but the first sectors of what was written together.
    ButFirst,
    /// All but the last.
    ButLast,
    /// All but those in the middle.
    ButMiddle,
    /// Those in the middle.
    Middle,
    /// Some, one by one.
    Scattered,
    /// Sectors that were never flushed before hold garbage.
    Garbage,
    /// Changes of names.
    Names,
    /// Changes of length; of what was cut off, all is back.
    Lengths,
    /// The bytes, while the length stays.
    Bytes,
}

/// What power cuts did to files and names: for the trace, and to count each kind of damage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Dirty sectors whose new contents survived.
    pub kept: u64,
    /// Dirty sectors that fell back to what was durable.
    pub dropped: u64,
    /// Sectors that had never been flushed and now hold garbage.
    pub garbled: u64,
    /// Writes (runs of neighbouring dirty sectors) of which nothing survived.
    pub lost: u64,
    /// Of which only the first sectors did.
    pub first: u64,
    /// Only the last.
    pub last: u64,
    /// Only some in the middle.
    pub middle: u64,
    /// All but some in the middle.
    pub hole: u64,
    /// Neighbours did and did not, more than once.
    pub scattered: u64,
    /// Files that kept a length without all of its bytes.
    pub length_only: u64,
    /// Files that are longer again than they were cut to.
    pub uncut: u64,
    /// Names.
    pub names: LostNames,
}

impl std::ops::AddAssign for Damage {
    fn add_assign(&mut self, other: Damage) {
        self.kept += other.kept;
        self.dropped += other.dropped;
        self.garbled += other.garbled;
        self.lost += other.lost;
        self.first += other.first;
        self.last += other.last;
        self.middle += other.middle;
        self.hole += other.hole;
        self.scattered += other.scattered;
        self.length_only += other.length_only;
        self.uncut += other.uncut;
        self.names.creations += other.names.creations;
        self.names.renames += other.names.renames;
        self.names.removals += other.names.removals;
    }
}

impl Damage {
    /// Says what became of one run of dirty sectors.
    fn classify(&mut self, keep: &[bool]) {
        let changes = keep.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let count = match (changes, keep.first()) {
            (0, Some(false)) => &mut self.lost,
            (1, Some(true)) => &mut self.first,
            (1, _) => &mut self.last,
            (2, Some(false)) => &mut self.middle,
            (2, _) => &mut self.hole,
            (0, _) => return,
            _ => &mut self.scattered,
        };
        *count += 1;
    }
}

impl Contents {
    /// The length that reads see.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a file's length is a number")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Bytes for which the disk has given room.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.reserved
    }

    /// Whether everything written has been flushed, or been given up by a failed flush.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty() && self.lengths.is_empty()
    }

    /// Whether a power cut can take none of the bytes that were written. A sector that is dirty
    /// because the file was cut within it holds no other bytes than the durable one.
    #[must_use]
    pub fn is_all_durable(&self) -> bool {
        let sectors = self.dirty.iter().chain(&self.lost);
        let mut sectors = sectors.flat_map(|(&page, &mask)| {
            (0..SECTORS).filter(move |sector| mask & (1 << sector) != 0).map(move |one| (page, one))
        });
        sectors.all(|(page, sector)| self.is_durable(page, sector))
    }

    /// Whether a sector's bytes, as far as the file reaches, are the durable ones.
    fn is_durable(&self, page: u64, sector: usize) -> bool {
        let within = sector * SECTOR;
        let left = self.len.saturating_sub(page * PAGE as u64 + within as u64);
        let end = within + SECTOR.min(usize::try_from(left).unwrap_or(SECTOR));
        let settled = self.written.get(&page).is_some_and(|mask| mask & (1 << sector) != 0);
        match (self.live.get(&page), self.durable.get(&page)) {
            _ if end == within => true,
            (Some(live), Some(durable)) => settled && live[within..end] == durable[within..end],
            _ => false,
        }
    }

    /// Bytes that were written and have not been flushed, in whole sectors.
    #[must_use]
    pub fn dirty(&self) -> u64 {
        self.dirty.values().map(|sectors| u64::from(sectors.count_ones())).sum::<u64>()
            * SECTOR as u64
    }

    /// Copies bytes from `offset` on into `into`; fewer at the end of the file.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let count =
            into.len().min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX));
        for (page, within, range) in pieces(offset, count) {
            match self.live.get(&page) {
                Some(bytes) => {
                    let size = range.len();
                    into[range].copy_from_slice(&bytes[within..within + size]);
                }
                None => into[range].fill(0),
            }
        }
        count
    }

    /// Writes `bytes` at `offset`; a gap before them reads as zeros.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (page, within, range) in pieces(offset, bytes.len()) {
            let size = range.len();
            let target =
                Arc::make_mut(self.live.entry(page).or_insert_with(|| Arc::new([0; PAGE])));
            target[within..within + size].copy_from_slice(&bytes[range]);
            let mask = sector_mask(within, within + size);
            *self.dirty.entry(page).or_default() |= mask;
            if let Some(lost) = self.lost.get_mut(&page) {
                *lost &= !mask;
            }
        }
        let end = offset + bytes.len() as u64;
        self.reserved = self.reserved.max(end);
        if end > self.len {
            self.set_len(end, false);
        }
    }

    /// Gives room up to `end` and makes the file at least that long, with zeros.
    pub fn allocate(&mut self, end: u64) {
        self.reserved = self.reserved.max(end);
        if end > self.len {
            self.set_len(end, false);
        }
    }

    /// Cuts or extends the file to `len`.
    pub fn truncate(&mut self, len: u64) {
        if len >= self.len {
            if len > self.len {
                self.set_len(len, false);
            }
            return;
        }
        cut(&mut self.live, len);
        let first_gone = len.div_ceil(PAGE as u64);
        self.dirty.split_off(&first_gone);
        self.lost.split_off(&first_gone);
        if !len.is_multiple_of(PAGE as u64) && self.live.contains_key(&(len / PAGE as u64)) {
            let within = (len % PAGE as u64) as usize;
            *self.dirty.entry(len / PAGE as u64).or_default() |= sector_mask(within, PAGE);
        }
        self.reserved = self.reserved.min(len);
        self.set_len(len, true);
    }

    /// How many sectors a flush would have to write.
    #[must_use]
    pub fn sectors_dirty(&self) -> u64 {
        self.dirty.values().map(|mask| u64::from(mask.count_ones())).sum()
    }

    /// Begins a flush of everything that has been written so far.
    #[must_use]
    pub fn flush_begin(&self) -> Flush {
        let pages = self.dirty.iter().filter_map(|(&page, &mask)| {
            self.live.get(&page).map(|bytes| (page, mask, Arc::clone(bytes)))
        });
        let upto = self.lengths.last().map(|length| length.number);
        Flush { pages: pages.collect(), upto, len: self.len }
    }

    /// The flush has succeeded: what it covers is durable.
    pub fn flush_end(&mut self, flush: &Flush, random: &mut Stream) {
        self.harden_length(flush);
        // What was written behind a cut is not durable before the cut is: that would take it away.
        let is_cut = self.lengths.iter().any(|length| length.cut);
        for (page, mask, then) in &flush.pages {
            // The kernel may have written the page late, with changes that came after the call.
            let late = random.chance(1, 2) && !is_cut;
            self.harden_page(*page, *mask, then, late);
        }
    }

    /// The flush has failed: some of what it covers is durable, and **all of it is marked clean**,
    /// as Linux does, so that the next flush will report success without having written it.
    pub fn flush_fail(&mut self, flush: &Flush, random: &mut Stream) {
        if random.chance(1, 2) {
            self.harden_length(flush);
        }
        for (page, mask, then) in &flush.pages {
            let written = mask & random.bits() as u8;
            self.harden_page(*page, written, then, false);
            let unwritten = mask & !written;
            if let Some(dirty) = self.dirty.get_mut(page) {
                // Only what nobody has changed since the flush began was under way.
                if self.live.get(page).is_some_and(|live| Arc::ptr_eq(live, then)) {
                    *dirty &= !unwritten;
                    *self.lost.entry(*page).or_default() |= unwritten;
                }
            }
        }
        self.dirty.retain(|_, mask| *mask != 0);
    }

    /// The process that used the file has died, the machine has not: the page cache stays, but
    /// pages whose flush failed are clean in the kernel's eyes and have been dropped by the time
    /// that the next process looks.
    pub fn process_death(&mut self) {
        for (page, mask) in std::mem::take(&mut self.lost) {
            let old = self.durable.get(&page).cloned().unwrap_or_else(|| Arc::new([0; PAGE]));
            if let Some(live) = self.live.get_mut(&page) {
                copy_sectors(Arc::make_mut(live), &old, mask);
            }
        }
    }

    /// The power fails. See the module's head.
    pub fn power_loss(&mut self, wreck: Option<Wreck>, random: &mut Stream) -> Damage {
        let mut damage = Damage::default();
        let steps = self.lengths.len();
        let kept_lengths = match wreck {
            Some(Wreck::Lengths) => 0,
            Some(Wreck::Bytes | Wreck::ButLast | Wreck::ButMiddle | Wreck::Garbage) => steps,
            _ => random.below(steps as u64 + 1) as usize,
        };
        damage.uncut = u64::from(self.lengths[kept_lengths..].iter().any(|length| length.cut));
        let mut image = std::mem::take(&mut self.durable);
        let mut written = std::mem::take(&mut self.written);
        let (mut len, durable_len) = (self.durable_len, self.durable_len);
        for length in &self.lengths[..kept_lengths] {
            if length.cut {
                cut(&mut image, length.len);
                forget(&mut written, length.len);
            }
            len = length.len;
        }
        let mut bare = false;
        for run in runs(&self.dirty) {
            let keep = survivors(run.len(), wreck, random);
            damage.classify(&keep);
            for (place, &(page, sector)) in run.iter().enumerate() {
                let start = sector * SECTOR;
                let mask = written.entry(page).or_default();
                let virgin = *mask & (1 << sector) == 0;
                let target =
                    Arc::make_mut(image.entry(page).or_insert_with(|| Arc::new([0; PAGE])));
                let target = &mut target[start..start + SECTOR];
                let at = page * PAGE as u64 + start as u64;
                if keep[place] {
                    damage.kept += 1;
                    *mask |= 1 << sector;
                    if let Some(live) = self.live.get(&page) {
                        target.copy_from_slice(&live[start..start + SECTOR]);
                    }
                } else if virgin && (wreck == Some(Wreck::Garbage) || random.chance(1, 8)) {
                    damage.garbled += 1;
                    *mask |= 1 << sector;
                    random.fill(target);
                } else {
                    damage.dropped += 1;
                    bare |= at >= durable_len && at < len;
                }
            }
        }
        damage.length_only = u64::from(bare);
        cut(&mut image, len);
        forget(&mut written, len);
        *self = Contents {
            live: image.clone(),
            durable: image,
            written,
            len,
            durable_len: len,
            reserved: len,
            ..Contents::default()
        };
        damage
    }

    /// The bytes of one sector, as reads see them.
    #[must_use]
    pub fn sector(&self, sector: u64) -> [u8; SECTOR] {
        let (page, within) = place(sector);
        let mut bytes = [0; SECTOR];
        if let Some(live) = self.live.get(&page) {
            bytes.copy_from_slice(&live[within..within + SECTOR]);
        }
        bytes
    }

    /// Changes a sector behind everybody's back, in the page cache and on the disk.
    pub fn replace_sector(&mut self, sector: u64, bytes: &[u8; SECTOR]) {
        let (page, within) = place(sector);
        for pages in [&mut self.live, &mut self.durable] {
            let target = Arc::make_mut(pages.entry(page).or_insert_with(|| Arc::new([0; PAGE])));
            target[within..within + SECTOR].copy_from_slice(bytes);
        }
    }

    /// What a power cut is certain to leave, from the start on.
    #[must_use]
    pub fn durable_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.durable_len).unwrap_or(0)];
        for (page, within, range) in pieces(0, bytes.len()) {
            if let Some(durable) = self.durable.get(&page) {
                let size = range.len();
                bytes[range].copy_from_slice(&durable[within..within + size]);
            }
        }
        bytes
    }

    fn set_len(&mut self, len: u64, cut: bool) {
        self.len = len;
        // Of a file that grows in many small steps, a crash knows the first few and the last.
        let steps = self.lengths.len();
        match self.lengths.last_mut() {
            Some(last) if !cut && !last.cut && steps > 8 => last.len = len,
            _ => self.push_length(len, cut),
        }
    }

    fn push_length(&mut self, len: u64, cut: bool) {
        self.numbered += 1;
        self.lengths.push(Length { number: self.numbered, len, cut });
    }

    fn harden_length(&mut self, flush: &Flush) {
        let covered = |length: &&Length| flush.upto.is_some_and(|upto| length.number <= upto);
        let count = self.lengths.iter().take_while(covered).count();
        if count == 0 {
            // There was nothing to change, or a later flush has done it.
            return;
        }
        for length in self.lengths.drain(..count) {
            if length.cut {
                cut(&mut self.durable, length.len);
                forget(&mut self.written, length.len);
            }
        }
        self.durable_len = flush.len;
        if self.lengths.is_empty() && self.len != self.durable_len {
            // The last step was widened after the flush began.
            self.push_length(self.len, false);
        }
    }

    fn harden_page(&mut self, page: u64, mask: u8, then: &Arc<Page>, late: bool) {
        // A sector that is clean by now was flushed by a later call, as it was then.
        let of = |masks: &BTreeMap<u64, u8>| masks.get(&page).copied().unwrap_or_default();
        let mask = mask & (of(&self.dirty) | of(&self.lost));
        *self.written.entry(page).or_default() |= mask;
        let live = self.live.get(&page);
        let unchanged = live.is_some_and(|live| Arc::ptr_eq(live, then));
        let source = match live {
            Some(live) if late => Arc::clone(live),
            _ => Arc::clone(then),
        };
        match self.durable.get_mut(&page) {
            _ if mask == u8::MAX => {
                self.durable.insert(page, Arc::clone(&source));
            }
            Some(durable) => copy_sectors(Arc::make_mut(durable), &source, mask),
            None => {
                let mut fresh = [0; PAGE];
                copy_sectors(&mut fresh, &source, mask);
                self.durable.insert(page, Arc::new(fresh));
            }
        }
        if let (Some(dirty), Some(live)) = (self.dirty.get_mut(&page), self.live.get(&page)) {
            for sector in 0..SECTORS {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                if mask & (1 << sector) != 0 && (unchanged || live[range.clone()] == source[range])
                {
                    *dirty &= !(1 << sector);
                }
            }
            if *dirty == 0 {
                self.dirty.remove(&page);
            }
        }
    }
}

/// The page of a sector, and where in it the sector begins.
fn place(sector: u64) -> (u64, usize) {
    (sector / SECTORS as u64, (sector % SECTORS as u64) as usize * SECTOR)
}

/// Which sectors of one run of `len` dirty sectors survive a power cut.
fn survivors(len: usize, wreck: Option<Wreck>, random: &mut Stream) -> Vec<bool> {
    let mut edges = [0; 2].map(|_| random.below(len as u64 + 1) as usize);
    edges.sort_unstable();
    let [low, high] = edges;
    // A wish for a part gives one where the run has room for it.
    let (inner_low, inner_high) = match len {
        0..3 => (0, len),
        _ => {
            let low = random.within(1..len as u64 - 1);
            (low as usize, random.within(low + 1..len as u64) as usize)
        }
    };
    let edge = if len > 1 { random.within(1..len as u64) as usize } else { len };
    let drawn = match random.below(6) {
        0 => vec![true; len],
        1 => vec![false; len],
        2 => (0..len).map(|place| place < low).collect(),
        3 => (0..len).map(|place| place >= low).collect(),
        4 => (0..len).map(|place| !(low..high).contains(&place)).collect(),
        _ => (0..len).map(|_| random.chance(1, 2)).collect(),
    };
    match wreck {
        None | Some(Wreck::Names) => drawn,
        Some(Wreck::All | Wreck::Garbage | Wreck::Bytes) => vec![false; len],
        Some(Wreck::Lengths) => vec![true; len],
        Some(Wreck::ButFirst) => (0..len).map(|place| place < edge).collect(),
        Some(Wreck::ButLast) => (0..len).map(|place| place >= edge).collect(),
        Some(Wreck::ButMiddle) => {
            (0..len).map(|place| (inner_low..inner_high).contains(&place)).collect()
        }
        Some(Wreck::Middle) => {
            (0..len).map(|place| !(inner_low..inner_high).contains(&place)).collect()
        }
        Some(Wreck::Scattered) => (0..len).map(|_| random.chance(1, 2)).collect(),
    }
}

/// The dirty sectors, as runs of neighbours.
fn runs(dirty: &BTreeMap<u64, u8>) -> Vec<Vec<(u64, usize)>> {
    let mut runs: Vec<Vec<(u64, usize)>> = Vec::new();
    let mut last = None;
    for (&page, &mask) in dirty {
        for sector in (0..SECTORS).filter(|sector| mask & (1 << sector) != 0) {
            let number = page * SECTORS as u64 + sector as u64;
            if last.is_some_and(|last| last + 1 == number) {
                runs.last_mut().expect("a run is open").push((page, sector));
            } else {
                runs.push(vec![(page, sector)]);
            }
            last = Some(number);
        }
    }
    runs
}

fn cut(pages: &mut Pages, len: u64) {
    pages.split_off(&len.div_ceil(PAGE as u64));
    let within = (len % PAGE as u64) as usize;
    if within != 0
        && let Some(last) = pages.get_mut(&(len / PAGE as u64))
        && last[within..].iter().any(|&byte| byte != 0)
    {
        Arc::make_mut(last)[within..].fill(0);
    }
}

/// Sectors that lie wholly behind `len` are as good as never written.
fn forget(written: &mut BTreeMap<u64, u8>, len: u64) {
    let sectors = len.div_ceil(SECTOR as u64);
    written.split_off(&sectors.div_ceil(SECTORS as u64));
    if let Some(mask) = written.get_mut(&(sectors / SECTORS as u64)) {
        *mask &= (1 << (sectors % SECTORS as u64)) - 1;
    }
}

fn copy_sectors(into: &mut Page, from: &Page, mask: u8) {
    for sector in (0..SECTORS).filter(|sector| mask & (1 << sector) != 0) {
        let range = sector * SECTOR..(sector + 1) * SECTOR;
        into[range.clone()].copy_from_slice(&from[range]);
    }
}

fn sector_mask(start: usize, end: usize) -> u8 {
    assert!(start < end && end <= PAGE);
    let (first, last) = (start / SECTOR, (end - 1) / SECTOR);
    (first..=last).fold(0, |mask, sector| mask | (1 << sector))
}

/// The parts of `count` bytes from `offset` on: page, place in the page, place in the bytes.
fn pieces(offset: u64, count: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        (done < count).then(|| {
            let at = offset + done as u64;
            let within = (at % PAGE as u64) as usize;
            let size = (PAGE - within).min(count - done);
            done += size;
            (at / PAGE as u64, within, done - size..done)
        })
    })
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
