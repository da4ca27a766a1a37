//! Looking up offsets by time, exactly (KIP-79, KIP-734).
//!
//! Segments and index entries only say where not to look; the answer is read from the records of
//! the one batch that holds it.

use std::cell::Cell;

use super::Log;
use super::fault::PlanError;
use super::segment::{Place, Segment};
use crate::id::{LeaderEpoch, Offset};
use crate::io::{Io, fill_at};
use crate::probe::{self, Probe};
use crate::wire::batch::{Batch, Header};

impl<I: Io> Log<I> {
    /// The first record below `bound` whose timestamp is at least `ms`: its offset, timestamp and
    /// leader epoch (KIP-79).
    pub async fn offset_for_time(
        &self,
        ms: i64,
        bound: Offset,
    ) -> Result<Option<(Offset, i64, LeaderEpoch)>, PlanError> {
        self.usable()?;
        for segment in self.segments_from(self.start()) {
            if segment.base >= bound {
                break;
            }
            if segment.damage.get().is_none() && segment.max_timestamp < ms {
                continue;
            }
            let found = match self.search(segment, ms, bound).await {
                Err(PlanError::Corrupt { .. }) if segment.damage.get().is_none() => {
                    self.mistrust(segment).await?;
                    self.noticed(self.search(segment, ms, bound).await)?
                }
                other => self.noticed(other)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        probe::hit(Probe::TimeBeyondAll);
        Ok(None)
    }

    /// The first record below `bound` with the largest timestamp: its offset, timestamp and leader
    /// epoch (KIP-734).
    pub async fn max_timestamp(
        &self,
        bound: Offset,
    ) -> Result<Option<(Offset, i64, LeaderEpoch)>, PlanError> {
        self.usable()?;
        let mut newest = -1;
        for segment in self.segments_from(self.start()) {
            if segment.base >= bound {
                break;
            }
            newest = newest.max(self.newest_in(segment, bound).await?);
        }
        if newest < 0 {
            return Ok(None);
        }
        let found = self.offset_for_time(newest, bound).await?;
        if found.is_some() || self.start() <= Offset(0) {
            return Ok(found);
        }
        // The largest one lies below the start, in the batch or segment that the start cuts.
        self.newest_record(bound).await
    }

    /// The largest max timestamp of the segment's batches below `bound`.
    async fn newest_in(&self, segment: &Segment<I::File>, bound: Offset) -> Result<i64, PlanError> {
        if segment.end <= bound {
            return Ok(segment.max_timestamp);
        }
        let place = self.locate(segment, bound).await?;
        self.time_before(segment, place).await
    }

    /// The first batch of the segment that may hold the answer, and its record if it does.
    async fn search(
        &self,
        segment: &Segment<I::File>,
        ms: i64,
        bound: Offset,
    ) -> Result<Option<(Offset, i64, LeaderEpoch)>, PlanError> {
        let file = self.file(segment).await?;
        let entry = self.ask(segment, |index| index.floor_time(ms)).await?;
        let mut walk = segment.walk_at(file.clone(), &self.pool, entry);
        while let Some((place, header)) = walk.next().await? {
            if header.last_offset() >= bound {
                break;
            }
            if header.last_offset() < self.start() || header.max_timestamp() < ms {
                continue;
            }
            let late = |_, timestamp| timestamp >= ms;
            let found = self.first_record(segment, &file, place, &header, late).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The newest record at or behind the start, by reading every header: the slow way, for when
    /// the answer by segments lies below the start.
    async fn newest_record(
        &self,
        bound: Offset,
    ) -> Result<Option<(Offset, i64, LeaderEpoch)>, PlanError> {
        let mut best: Option<(Offset, i64, LeaderEpoch)> = None;
        for segment in self.segments_from(self.start()) {
            let file = self.file(segment).await?;
            let from = self.locate(segment, self.start().max(segment.base)).await?;
            let mut walk = segment.walk(file.clone(), &self.pool, from);
            while let Some((place, header)) = self.noticed(walk.next().await)? {
                if header.last_offset() >= bound {
                    return Ok(best);
                }
                let above = best.map_or(-1, |best| best.1);
                if header.max_timestamp() <= above {
                    continue;
                }
                let newest = Cell::new(above);
                let look = |_, timestamp| {
                    newest.set(newest.get().max(timestamp));
                    false
                };
                let _ = self.first_record(segment, &file, place, &header, look).await?;
                if newest.get() > above {
                    let is_it = |_, timestamp| timestamp == newest.get();
                    best = self.first_record(segment, &file, place, &header, is_it).await?;
                }
            }
        }
        Ok(best)
    }

    /// The first record of a batch, at or behind the start, that is `wanted` by its offset and
    /// timestamp.
    async fn first_record(
        &self,
        segment: &Segment<I::File>,
        file: &I::File,
        place: Place,
        header: &Header,
        wanted: impl Fn(Offset, i64) -> bool,
    ) -> Result<Option<(Offset, i64, LeaderEpoch)>, PlanError> {
        let corrupt = || segment.corrupt(place.position);
        let (result, bytes) = fill_at(file, self.pool.take(header.size()), place.position).await;
        result.map_err(PlanError::from)?;
        let batch = Batch::parse(&bytes).map_err(|_| corrupt())?;
        if !batch.crc_matches() {
            return Err(corrupt());
        }
        let contents = batch.contents().map_err(|_| corrupt())?;
        for record in contents.records() {
            let record = record.map_err(|_| corrupt())?;
            if record.offset >= self.start() && wanted(record.offset, record.timestamp) {
                if record.offset > place.base {
                    probe::hit(Probe::TimeInsideBatch);
                }
                return Ok(Some((record.offset, record.timestamp, header.leader_epoch())));
            }
        }
        Ok(None)
    }
}
