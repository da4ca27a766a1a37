//! Reading: which bytes of which files answer a fetch.
//!
//! A [`Plan`] is a list of whole-batch slices. Making one reads index entries and batch headers,
//! never payload; whoever holds it sends the bytes, on any core, and keeps the files open by
//! holding it, also when retention removes their names meanwhile.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::Log;
use super::fault::PlanError;
use super::index::{Entry, Index};
use super::segment::{Place, Segment};
use crate::id::Offset;
use crate::io::Io;
use crate::limit::{OPEN_SEGMENTS_PER_LOG_MAX, RECENT_BATCHES_MAX, RECENT_READS_MAX};
use crate::probe::{self, Probe};

/// Whether a plan must hold a batch even if that is larger than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The first batch is included whatever its size, so that the reader gets on (KIP-74).
    AtLeastOneBatch,
    /// Nothing beyond the limit.
    WithinLimit,
}

/// A range of one file that holds whole batches.
#[derive(Clone, Debug)]
pub struct Slice<F> {
    /// The segment.
    pub file: F,
    /// The first byte.
    pub position: u64,
    /// How many bytes.
    pub length: u64,
}

/// Slices of successive segments; nearly always there is one.
pub type Slices<F> = SmallVec<[Slice<F>; 1]>;

/// The bytes that answer one read, in order.
#[derive(Clone, Debug)]
pub struct Plan<F> {
    /// Slices of successive segments.
    pub slices: Slices<F>,
    /// Their lengths together.
    pub bytes: u64,
}

/// What one segment contributes to a plan.
enum Part<F> {
    /// This; and the plan may go on in the next segment.
    Slice { slice: Slice<F>, more: bool },
    /// Compaction has removed what it held from there on.
    Nothing,
    /// The plan has no room for more, or has reached its bound.
    Full,
}

impl<F> Default for Plan<F> {
    fn default() -> Self {
        Plan { slices: Slices::new(), bytes: 0 }
    }
}

/// Places in the log that need no file to be read: the newest batches, and where recent plans
/// ended, which is where the next ones begin.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The newest batches of the last segment, in order.
    batches: VecDeque<Place>,
    /// Where plans ended within a segment: the segment's base, and the place.
    reads: VecDeque<(Offset, Place)>,
}

impl Recent {
    /// A batch was appended.
    pub(super) fn push(&mut self, place: Place) {
        if self.batches.len() == RECENT_BATCHES_MAX {
            self.batches.pop_front();
        }
        self.batches.push_back(place);
    }

    /// A new segment begins.
    pub(super) fn roll(&mut self) {
        self.batches.clear();
    }

    /// Places may have changed.
    pub(super) fn clear(&mut self) {
        self.batches.clear();
        self.reads.clear();
    }

    /// Compaction has replaced segments; the last one stays as it is.
    pub(super) fn replaced(&mut self) {
        self.reads.clear();
    }

    fn remember(&mut self, segment: Offset, place: Place) {
        if self.reads.contains(&(segment, place)) {
            return;
        }
        if self.reads.len() == RECENT_READS_MAX {
            self.reads.pop_front();
        }
        self.reads.push_back((segment, place));
    }

    /// The newest batch at or below `offset`.
    fn batch(&self, offset: Offset) -> Option<Place> {
        let after = self.batches.partition_point(|place| place.base <= offset);
        Some(self.batches[after.checked_sub(1)?])
    }

    /// The newest batch that begins at or below `position`.
    fn boundary(&self, position: u64) -> Option<Place> {
        let after = self.batches.partition_point(|place| place.position <= position);
        Some(self.batches[after.checked_sub(1)?])
    }

    fn read(&self, segment: Offset, offset: Offset) -> Option<Place> {
        let found = self.reads.iter().find(|read| read.0 == segment && read.1.base == offset);
        found.map(|read| read.1)
    }
}

impl<I: Io> Log<I> {
    /// Whole batches from the one that contains `from` on, all of them below `bound` (at most the
    /// end), of at most `max_bytes` together but for `first`. Empty when `from` is at or behind
    /// the bound.
    ///
    /// # Errors
    /// `OutOfRange` if `from` is below the start or behind the end.
    pub async fn plan(
        &self,
        from: Offset,
        bound: Offset,
        max_bytes: u64,
        first: First,
    ) -> Result<Plan<I::File>, PlanError> {
        self.usable()?;
        let (start, end) = (self.start(), self.end());
        if from < start || from > end {
            return Err(PlanError::OutOfRange { start, end });
        }
        let bound = bound.min(end);
        let mut plan = Plan::default();
        let mut at = from;
        for segment in self.segments_from(from) {
            if at >= bound {
                break;
            }
            if !plan.slices.is_empty() {
                probe::hit(Probe::PlanAcrossSegments);
            }
            let whole = first == First::AtLeastOneBatch && plan.slices.is_empty();
            let left = max_bytes - plan.bytes.min(max_bytes);
            match self.plan_segment(segment, at, bound, left, whole).await {
                Ok(Part::Slice { slice, more }) => {
                    plan.bytes += slice.length;
                    plan.slices.push(slice);
                    if !more {
                        break;
                    }
                }
                Ok(Part::Nothing) => {}
                Ok(Part::Full) => break,
                // What was found before the damage is good; the next plan meets the damage.
                Err(_) if !plan.slices.is_empty() => {
                    probe::hit(Probe::PlanBeforeDamage);
                    break;
                }
                Err(error) => return Err(error),
            }
            at = segment.end;
        }
        Ok(plan)
    }

    /// The part of one segment from `at` on.
    async fn plan_segment(
        &self,
        segment: &Segment<I::File>,
        at: Offset,
        bound: Offset,
        left: u64,
        whole: bool,
    ) -> Result<Part<I::File>, PlanError> {
        let file = self.file(segment).await?;
        let from = self.locate(segment, at).await?;
        let stop = self.locate(segment, bound).await?;
        if from.position == segment.size {
            return Ok(Part::Nothing);
        }
        let to = if stop.position - from.position <= left {
            stop
        } else {
            probe::hit(Probe::PlanCut);
            self.cut(segment, from, left, whole, stop).await?
        };
        if from.base < at {
            probe::hit(Probe::ReadInsideBatch);
        }
        if to.position <= from.position {
            return Ok(Part::Full);
        }
        if to.position < segment.size {
            self.recent.borrow_mut().remember(segment.base, to);
        }
        let length = to.position - from.position;
        let slice = Slice { file, position: from.position, length };
        Ok(Part::Slice { slice, more: to.position == segment.size })
    }

    /// The segments from the one that contains `offset` on, without empty ones.
    pub(super) fn segments_from(&self, offset: Offset) -> impl Iterator<Item = &Segment<I::File>> {
        let first = self.segments.partition_point(|segment| segment.end <= offset);
        self.segments[first..].iter()
    }

    /// The segment's open file. Opening one more may close the one unused longest.
    pub(super) async fn file(&self, segment: &Segment<I::File>) -> Result<I::File, PlanError> {
        let tick = self.uses.get() + 1;
        self.uses.set(tick);
        segment.used.set(tick);
        if let Some(file) = segment.opened() {
            return Ok(file);
        }
        // Rarely needed, and kept out of the futures of every append and plan (`docs/performance.md`).
        Box::pin(self.open_file(segment)).await
    }

    async fn open_file(&self, segment: &Segment<I::File>) -> Result<I::File, PlanError> {
        let opens = segment.file.borrow().is_none();
        let file = segment.open(&self.io, &self.dir).await;
        if opens {
            self.close_unused();
        }
        self.noticed(file)
    }

    /// Closes the files of older segments beyond so many, those first that were read longest ago.
    /// What is to be flushed of them has files of its own.
    pub(super) fn close_unused(&self) {
        let Some((_, old)) = self.segments.split_last() else { return };
        let open = || old.iter().filter(|segment| segment.file.borrow().is_some());
        for _ in OPEN_SEGMENTS_PER_LOG_MAX..open().count() {
            let Some(unused) = open().min_by_key(|segment| segment.used.get()) else { return };
            probe::hit(Probe::SegmentUnused);
            *unused.file.borrow_mut() = None;
            *unused.index.borrow_mut() = None;
        }
    }

    /// Logs damage where it is noticed.
    pub(super) fn noticed<T>(&self, result: Result<T, PlanError>) -> Result<T, PlanError> {
        if let Err(
            error @ (PlanError::Corrupt { .. } | PlanError::Storage(_) | PlanError::Scarce),
        ) = &result
        {
            tracing::error!(dir = %self.dir.display(), %error, "a read of the log failed");
        }
        result
    }

    /// Asks the segment's index.
    pub(super) async fn ask<T>(
        &self,
        segment: &Segment<I::File>,
        question: impl FnOnce(&Index) -> T,
    ) -> Result<T, PlanError> {
        if segment.index.borrow().is_none() {
            let interval = self.config.index_interval_bytes;
            let load = segment.load_index(&self.io, &self.pool, &self.dir, interval);
            self.noticed(Box::pin(load).await)?;
        }
        let index = segment.index.borrow();
        Ok(question(index.as_ref().expect("just loaded, and nobody else ran")))
    }

    pub(super) async fn mistrust(&self, segment: &Segment<I::File>) -> Result<(), PlanError> {
        probe::hit(Probe::IndexMistrusted);
        let interval = self.config.index_interval_bytes;
        self.noticed(segment.rebuild_index(&self.io, &self.pool, &self.dir, interval).await)
    }

    /// The place of the batch that contains `offset` or, if compaction has removed that, of the
    /// next one; the segment's end if there is none.
    pub(super) async fn locate(
        &self,
        segment: &Segment<I::File>,
        offset: Offset,
    ) -> Result<Place, PlanError> {
        if offset >= segment.end {
            return Ok(Place { position: segment.size, base: segment.end });
        }
        if offset <= segment.base {
            return Ok(Place { position: 0, base: segment.base });
        }
        {
            let recent = self.recent.borrow();
            let is_last = self.segments.last().is_some_and(|last| last.base == segment.base);
            let batch = if is_last { recent.batch(offset) } else { None };
            if let Some(place) = batch.or_else(|| recent.read(segment.base, offset)) {
                return Ok(place);
            }
        }
        Box::pin(self.locate_cold(segment, offset)).await
    }

    /// The same by the index and the headers in the file.
    async fn locate_cold(
        &self,
        segment: &Segment<I::File>,
        offset: Offset,
    ) -> Result<Place, PlanError> {
        probe::hit(Probe::ColdRead);
        let relative = segment.relative(offset);
        let hint = self.ask(segment, |index| index.floor_offset(relative)).await?;
        match self.walk_to(segment, hint, offset).await {
            Err(PlanError::Corrupt { .. }) if hint.is_some_and(|entry| entry.position > 0) => {
                self.mistrust(segment).await?;
                let hint = self.ask(segment, |index| index.floor_offset(relative)).await?;
                self.noticed(self.walk_to(segment, hint, offset).await)
            }
            other => self.noticed(other),
        }
    }

    async fn walk_to(
        &self,
        segment: &Segment<I::File>,
        hint: Option<Entry>,
        offset: Offset,
    ) -> Result<Place, PlanError> {
        let mut walk = segment.walk_at(self.file(segment).await?, &self.pool, hint);
        while let Some((place, header)) = walk.next().await? {
            if header.last_offset() >= offset {
                return Ok(place);
            }
        }
        if segment.generation > 0 {
            return Ok(Place { position: segment.size, base: segment.end });
        }
        // The segment knows of records that its batches do not hold.
        Err(segment.corrupt(segment.size))
    }

    /// A boundary between batches at most `left` bytes behind `from`; with `whole`, behind the
    /// first batch at least. Where the index tells one without a read, it need not be the last.
    async fn cut(
        &self,
        segment: &Segment<I::File>,
        from: Place,
        left: u64,
        whole: bool,
        stop: Place,
    ) -> Result<Place, PlanError> {
        let limit = from.position + left;
        let is_last = self.segments.last().is_some_and(|last| last.base == segment.base);
        let recent = if is_last { self.recent.borrow().boundary(limit) } else { None };
        if let Some(place) = recent.filter(|place| place.position > from.position) {
            return Ok(place);
        }
        let hint = self.ask(segment, |index| index.floor_position(limit)).await?;
        if let Some(entry) = hint.filter(|entry| u64::from(entry.position) > from.position) {
            return Ok(segment.place(entry));
        }
        Box::pin(self.cut_cold(segment, from, limit, whole, stop)).await
    }

    /// The same by the headers in the file.
    async fn cut_cold(
        &self,
        segment: &Segment<I::File>,
        from: Place,
        limit: u64,
        whole: bool,
        stop: Place,
    ) -> Result<Place, PlanError> {
        let mut walk = segment.walk(self.file(segment).await?, &self.pool, from);
        let mut to = from;
        while let Some((place, _)) = self.noticed(walk.next().await)? {
            let next = walk.place();
            let is_first = place.position == from.position;
            let fits = next.position <= limit || (whole && is_first);
            if fits && next.position > limit {
                probe::hit(Probe::PlanOfOneLarge);
            }
            if !fits || next.position > stop.position {
                break;
            }
            to = next;
        }
        Ok(to)
    }
}
