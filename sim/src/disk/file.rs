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
    /// Sectors that a failed flush marked clean without writing them.
    lost: BTreeMap<u64, u8>,
    len: u64,
    durable_len: u64,
    /// Every length since the last flush, in order; the last is `len`. A crash picks one.
    lengths: Vec<Length>,
    /// Bytes from the start for which the disk has given room.
    reserved: u64,
}

/// One change of a file's length.
#[derive(Clone, Copy, Debug)]
struct Length {
    len: u64,
    /// Whether it was a truncation, which also zeroes what lay behind.
    cut: bool,
}

/// What a flush will make durable: the file as it was when the flush was asked for.
#[derive(Debug, Default)]
pub struct Flush {
    pages: Vec<(u64, u8, Arc<Page>)>,
    lengths: usize,
    len: u64,
}

/// What a power cut did to a file, for the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Dirty sectors whose new contents survived.
    pub kept: u64,
    /// Dirty sectors that fell back to what was durable.
    pub dropped: u64,
    /// Sectors that had never been flushed and now hold garbage.
    pub garbled: u64,
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

    /// Whether a power cut can take none of the bytes that were written.
    #[must_use]
    pub fn is_all_durable(&self) -> bool {
        let none = |sectors: &BTreeMap<u64, u8>| sectors.values().all(|&mask| mask == 0);
        none(&self.dirty) && none(&self.lost)
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

    /// Begins a flush of everything that has been written so far.
    #[must_use]
    pub fn flush_begin(&self) -> Flush {
        let pages = self.dirty.iter().filter_map(|(&page, &mask)| {
            self.live.get(&page).map(|bytes| (page, mask, Arc::clone(bytes)))
        });
        Flush { pages: pages.collect(), lengths: self.lengths.len(), len: self.len }
    }

    /// The flush has succeeded: what it covers is durable.
    pub fn flush_end(&mut self, flush: &Flush, random: &mut Stream) {
        self.harden_length(flush);
        for (page, mask, then) in &flush.pages {
            // The kernel may have written the page late, with changes that came after the call.
            let late = random.chance(1, 2);
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
    pub fn power_loss(&mut self, random: &mut Stream) -> Damage {
        let mut damage = Damage::default();
        let kept_lengths = random.below(self.lengths.len() as u64 + 1) as usize;
        let mut image = std::mem::take(&mut self.durable);
        let mut len = self.durable_len;
        for length in &self.lengths[..kept_lengths] {
            if length.cut {
                cut(&mut image, length.len);
            }
            len = length.len;
        }
        for run in runs(&self.dirty) {
            let keep = survivors(run.len(), random);
            for (place, &(page, sector)) in run.iter().enumerate() {
                let start = sector * SECTOR;
                let virgin = image
                    .get(&page)
                    .is_none_or(|bytes| bytes[start..start + SECTOR].iter().all(|&byte| byte == 0));
                let target =
                    Arc::make_mut(image.entry(page).or_insert_with(|| Arc::new([0; PAGE])));
                let target = &mut target[start..start + SECTOR];
                if keep[place] {
                    damage.kept += 1;
                    if let Some(live) = self.live.get(&page) {
                        target.copy_from_slice(&live[start..start + SECTOR]);
                    }
                } else if virgin && random.chance(1, 8) {
                    damage.garbled += 1;
                    random.fill(target);
                } else {
                    damage.dropped += 1;
                }
            }
        }
        cut(&mut image, len);
        *self = Contents {
            live: image.clone(),
            durable: image,
            len,
            durable_len: len,
            reserved: len,
            ..Contents::default()
        };
        damage
    }

    fn set_len(&mut self, len: u64, cut: bool) {
        self.len = len;
        // Of a file that grows in many small steps, a crash knows the first few and the last.
        let steps = self.lengths.len();
        match self.lengths.last_mut() {
            Some(last) if !cut && !last.cut && steps > 8 => last.len = len,
            _ => self.lengths.push(Length { len, cut }),
        }
    }

    fn harden_length(&mut self, flush: &Flush) {
        for length in &self.lengths[..flush.lengths.min(self.lengths.len())] {
            if length.cut {
                cut(&mut self.durable, length.len);
            }
        }
        self.durable_len = flush.len;
        self.lengths.drain(..flush.lengths.min(self.lengths.len()));
        if self.lengths.is_empty() && self.len != self.durable_len {
            // The last step was widened after the flush began.
            self.lengths.push(Length { len: self.len, cut: false });
        }
    }

    fn harden_page(&mut self, page: u64, mask: u8, then: &Arc<Page>, late: bool) {
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

/// Which sectors of one run of `len` dirty sectors survive a power cut.
fn survivors(len: usize, random: &mut Stream) -> Vec<bool> {
    let edge = random.below(len as u64 + 1) as usize;
    let other = random.below(len as u64 + 1) as usize;
    let (low, high) = (edge.min(other), edge.max(other));
    match random.below(6) {
        0 => vec![true; len],
        1 => vec![false; len],
        2 => (0..len).map(|place| place < edge).collect(),
        3 => (0..len).map(|place| place >= edge).collect(),
        4 => (0..len).map(|place| !(low..high).contains(&place)).collect(),
        _ => (0..len).map(|_| random.chance(1, 2)).collect(),
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(contents: &Contents) -> Vec<u8> {
        let mut bytes = vec![0xee; usize::try_from(contents.len()).expect("small")];
        assert_eq!(contents.read(0, &mut bytes), bytes.len());
        bytes
    }

    fn flush(contents: &mut Contents, random: &mut Stream) {
        let flush = contents.flush_begin();
        contents.flush_end(&flush, random);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, usize, u8),
        Truncate(u64),
        Allocate(u64),
        Flush,
        FlushAround(u64, usize, u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..20_000_u64, 1..6000_usize, 1..255_u8).prop_map(|(o, n, b)| Step::Write(o, n, b)),
            (0..24_000_u64).prop_map(Step::Truncate),
            (0..30_000_u64).prop_map(Step::Allocate),
            Just(Step::Flush),
            (0..20_000_u64, 1..6000_usize, 1..255_u8)
                .prop_map(|(o, n, b)| Step::FlushAround(o, n, b)),
        ];
        proptest::collection::vec(step, 1..25)
    }

    fn write_model(model: &mut Vec<u8>, offset: u64, count: usize, byte: u8) {
        let start = offset as usize;
        if model.len() < start + count {
            model.resize(start + count, 0);
        }
        model[start..start + count].fill(byte);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Reads see exactly what a plain vector would hold, whatever is flushed.
        #[test]
        fn reads_agree_with_a_vector(steps in steps(), seed: u64) {
            let mut random = Stream::new(seed);
            let (mut contents, mut model) = (Contents::default(), Vec::new());
            for step in steps {
                match step {
                    Step::Write(offset, count, byte) => {
                        contents.write(offset, &vec![byte; count]);
                        write_model(&mut model, offset, count, byte);
                    }
                    Step::Truncate(len) => {
                        contents.truncate(len);
                        model.resize(len as usize, 0);
                    }
                    Step::Allocate(end) => {
                        contents.allocate(end);
                        model.resize(model.len().max(end as usize), 0);
                    }
                    Step::Flush => flush(&mut contents, &mut random),
                    Step::FlushAround(offset, count, byte) => {
                        let under_way = contents.flush_begin();
                        contents.write(offset, &vec![byte; count]);
                        write_model(&mut model, offset, count, byte);
                        contents.flush_end(&under_way, &mut random);
                    }
                }
                prop_assert_eq!(&all(&contents), &model);
            }
            flush(&mut contents, &mut random);
            prop_assert!(contents.is_clean());
            contents.power_loss(&mut random);
            prop_assert_eq!(&all(&contents), &model);
        }

        /// After any history, a power cut leaves every sector that was durable and not written
        /// since as it was, and every other one old, new or (if it was never flushed) anything.
        #[test]
        fn a_power_cut_keeps_what_was_flushed(
            before in steps(), after in proptest::collection::vec((0..20_000_u64, 1..6000_usize, 1..255_u8), 0..6), seed: u64,
        ) {
            let mut random = Stream::new(seed);
            let mut contents = Contents::default();
            for step in before {
                match step {
                    Step::Write(offset, count, byte) | Step::FlushAround(offset, count, byte) =>
                        contents.write(offset, &vec![byte; count]),
                    Step::Truncate(len) => contents.truncate(len),
                    Step::Allocate(end) => contents.allocate(end),
                    Step::Flush => flush(&mut contents, &mut random),
                }
            }
            flush(&mut contents, &mut random);
            let old = all(&contents);
            let mut versions = vec![old.clone()];
            for (offset, count, byte) in after {
                contents.write(offset, &vec![byte; count]);
                versions.push(all(&contents));
            }
            contents.power_loss(&mut random);
            let crashed = all(&contents);
            prop_assert!(versions.iter().any(|version| version.len() == crashed.len()));
            let newest = versions.last().expect("one at least");
            for start in (0..crashed.len()).step_by(SECTOR) {
                let part = |bytes: &[u8]| {
                    let end = (start + SECTOR).min(crashed.len());
                    let mut part: Vec<u8> = bytes.get(start..end.min(bytes.len())).unwrap_or(&[]).to_vec();
                    part.resize(end - start, 0);
                    part
                };
                let (was, is, would) = (part(&old), part(&crashed), part(newest));
                if was.iter().any(|&byte| byte != 0) || was == would {
                    prop_assert!(is == was || is == would, "sector at {}", start);
                }
            }
        }
    }

    #[test]
    fn crashes_show_every_kind_of_damage() {
        let mut total = Damage::default();
        let (mut kept_all, mut lost_all, mut zero_tail) = (0, 0, 0);
        for seed in 0..300 {
            let mut random = Stream::new(seed);
            let mut contents = Contents::default();
            contents.write(0, &[7; 6 * SECTOR]);
            let damage = contents.power_loss(&mut random);
            total.kept += damage.kept;
            total.dropped += damage.dropped;
            total.garbled += damage.garbled;
            kept_all += u32::from(damage.kept == 6 && contents.len() == 6 * SECTOR as u64);
            lost_all += u32::from(contents.len() == 0);
            zero_tail += u32::from(contents.len() > 0 && all(&contents).ends_with(&[0]));
        }
        assert!(total.kept > 300 && total.dropped > 300 && total.garbled > 30, "{total:?}");
        assert!(kept_all > 5 && lost_all > 5 && zero_tail > 5, "{kept_all} {lost_all} {zero_tail}");
    }

    /// A flush fails, the next one succeeds, and yet the power cut takes the bytes: the reason why
    /// a failed flush is final.
    #[test]
    fn a_failed_flush_marks_dirty_pages_clean() {
        let mut lost = 0;
        for seed in 0..50 {
            let mut random = Stream::new(seed);
            let mut contents = Contents::default();
            contents.write(0, &[1; 8 * SECTOR]);
            let first = contents.flush_begin();
            contents.flush_fail(&first, &mut random);
            assert_eq!(all(&contents), vec![1; 8 * SECTOR]);
            flush(&mut contents, &mut random);
            assert!(contents.is_clean());
            contents.power_loss(&mut random);
            lost += u32::from(all(&contents) != vec![1; 8 * SECTOR]);
        }
        assert!(lost > 40, "{lost} of 50");
    }

    #[test]
    fn a_dead_process_leaves_its_page_cache() {
        let mut contents = Contents::default();
        contents.write(0, b"unflushed");
        contents.process_death();
        assert_eq!(all(&contents), b"unflushed");
        assert!(!contents.is_clean());
    }
}
