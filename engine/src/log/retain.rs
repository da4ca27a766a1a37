//! What time does to a log, and what takes records away: age, retention, DeleteRecords,
//! truncation, closing and removal.
//!
//! The start is raised in a durable checkpoint first and files go afterwards, so that a crash in
//! between leaves files that nobody needs and never a log that misses some.

use std::path::Path;
use std::time::Duration;

use super::checkpoint::{IndexJob, Job, removed, replace_index, write_index};
use super::fate::Rule;
use super::fault::{ChangeError, PlanError, Poisoned};
use super::index::{FileId, Index, NO_TIME};
use super::producer::Producers;
use super::recover::purge;
use super::segment::{Place, Segment, read_file};
use super::{Durability, Log, Saved};
use crate::id::Offset;
use crate::io::{self, File, Io, Wall};
use crate::probe::{self, Probe};

/// Kafka's `log.retention.check.interval.ms`.
const TICK_MS_MAX: i64 = 300_000;
/// A tick that could not do what was due is not repeated at once.
const TICK_MS_MIN: i64 = 100;
/// A log at rest gets a checkpoint after this time.
const CHECKPOINT_IDLE: Duration = Duration::from_secs(60);

impl<I: Io> Log<I> {
    /// Closes a segment that is old enough, removes what retention gives up, forgets silent
    /// producers. Call it about when [`Log::next_tick_ms`] says, and flush afterwards if
    /// [`Log::flush_due`].
    pub async fn tick(&mut self, now: Wall) -> Result<(), Poisoned> {
        self.usable()?;
        let expiry = u64::try_from(self.config.producer_expiry_ms).unwrap_or(u64::MAX);
        self.producers.expire(self.io.now(), Duration::from_millis(expiry));
        let active = self.segments.last().filter(|_| !self.closed);
        if active.is_some_and(|active| self.is_old(active, now)) {
            probe::hit(Probe::RolledAtRest);
            self.close_active().await;
        }
        let to = self.retention_start(now);
        if to > self.start() {
            if to == self.end() {
                self.close_active().await;
            }
            if let Err(error) = self.advance(to).await {
                tracing::warn!(dir = %self.dir.display(), %error, "retention will try again");
            }
        } else if self.is_flushed()
            && (self.checkpoint_lags() || self.compaction_wants_checkpoint())
        {
            probe::hit(Probe::CheckpointAtRest);
            if let Err(error) = self.save_now(self.start()).await {
                probe::hit(Probe::CheckpointLost);
                tracing::warn!(dir = %self.dir.display(), %error, "a checkpoint will be retried");
            }
        }
        self.remove_unneeded().await;
        self.usable()
    }

    /// In how many milliseconds [`Log::tick`] or [`Log::flush_due`] may have something to do; at
    /// most five minutes.
    pub fn next_tick_ms(&self, now: Wall) -> i64 {
        let until = |since: i64, ms: i64| since.saturating_add(ms).saturating_sub(now.0);
        let mut next = TICK_MS_MAX;
        if let Some(active) = self.segments.last().filter(|last| !self.closed && last.size > 0) {
            next = next.min(until(active.created_ms, self.config.roll_ms()));
        }
        if let Some(oldest) = self.oldest_readable().filter(|_| self.retains_by_time()) {
            next = next.min(until(oldest.newest_ms(), self.config.retention_ms));
        }
        if let (Durability::PageCache, Some(since)) = (self.config.durability, self.dirt.since) {
            next = next.min(until(since.0, self.flush_within_ms()));
        }
        if self.saver.written() < self.end() {
            next = next.min(CHECKPOINT_IDLE.as_millis() as i64);
        }
        next = next.min(self.compaction_tick_ms().unwrap_or(TICK_MS_MAX));
        next.clamp(TICK_MS_MIN, TICK_MS_MAX)
    }

    /// From when on a log that is closed now has something to do by itself once it is opened:
    /// segments to remove or to compact. `None` if only an append or other settings can change that.
    pub fn upkeep_due(&self, now: Wall) -> Option<Wall> {
        let mut due = None;
        let mut by = |ms: i64| due = Some(due.map_or(ms, |due: i64| due.min(ms)));
        let written = |segment: &&Segment<I::File>| segment.size > 0;
        if let Some(oldest) = self.oldest_readable().filter(|_| self.retains_by_time()) {
            by(oldest.newest_ms().saturating_add(self.config.retention_ms));
        }
        if self.config.compact
            && !self.closed
            && let Some(active) = self.segments.last().filter(written)
        {
            by(active.created_ms.saturating_add(self.config.roll_ms()));
        }
        if let Some(ms) = self.compaction_tick_ms() {
            by(now.0.saturating_add(ms));
        }
        // It closes before anybody has looked, if it is used for short times only.
        if self.retention_start(now) > self.start() || self.begins_below_start() {
            by(now.0);
        }
        due.map(Wall)
    }

    /// Whether nothing is under way, so that it may be closed and opened again.
    pub fn is_at_rest(&self) -> bool {
        self.ticket.is_none() && self.failure.is_none() && !self.compaction.is_running()
    }

    /// Whether the first segment holds nothing that may be read, and is not the last.
    fn begins_below_start(&self) -> bool {
        self.segments.len() > 1 && self.segments[0].end <= self.start()
    }

    fn retains_by_time(&self) -> bool {
        self.config.delete && self.config.retention_ms >= 0
    }

    /// The first segment with something that may be read.
    fn oldest_readable(&self) -> Option<&Segment<I::File>> {
        self.segments.iter().find(|segment| segment.size > 0 && segment.end > self.start())
    }

    /// How old what is not flushed may become in the page cache: retention takes only what is flushed.
    pub(super) fn flush_within_ms(&self) -> i64 {
        let retention_ms = self.retains_by_time().then_some(self.config.retention_ms);
        retention_ms.unwrap_or(i64::MAX).min(self.config.flush_ms)
    }

    /// Where the log begins when retention has had its way: whole flushed segments go.
    fn retention_start(&self, now: Wall) -> Offset {
        let mut start = self.start();
        if !self.config.delete {
            return start;
        }
        for fate in self.judge(now) {
            match fate.due {
                Some(Rule::BelowStart) => continue,
                Some(Rule::Time) => probe::hit(Probe::RetainedByTime),
                Some(Rule::Size) => probe::hit(Probe::RetainedBySize),
                None => break,
            }
            start = start.max(fate.end);
        }
        start
    }

    /// Raises the start to `to`, durably, and removes segments that are wholly below it
    /// (DeleteRecords). A `to` at or below the start changes nothing. `Busy` if it is not flushed
    /// and a flush ticket is out.
    pub async fn advance_start(&mut self, to: Offset) -> Result<(), ChangeError> {
        self.usable()?;
        let (start, end) = (self.start(), self.readable_end());
        if to <= start {
            return Ok(());
        }
        if to > end {
            return Err(ChangeError::OutOfRange { start, end });
        }
        let storage = |error: io::Error| ChangeError::Storage(error.kind());
        if to > self.flushed_end() {
            // The log must not come back shorter than its own start.
            if self.ticket.is_some() {
                return Err(ChangeError::Busy);
            }
            if let Err(error) = self.flush_now().await {
                self.poison("a flush", &error);
                return Err(storage(error));
            }
        }
        self.advance(to).await.map_err(storage)?;
        self.remove_unneeded().await;
        Ok(())
    }

    async fn advance(&mut self, to: Offset) -> io::Result<()> {
        assert!(to <= self.flushed_end(), "LOG-1: the start would pass the flushed end");
        self.save_now(to).await?;
        self.offsets.advance(to);
        self.epochs.advance(to);
        Ok(())
    }

    /// Writes a checkpoint with this start: at the end if all is flushed, else with the old point.
    async fn save_now(&mut self, start: Offset) -> io::Result<()> {
        let (mut job, saved) = if self.is_flushed() && self.saved.point < self.end() {
            self.job_at_end()
        } else {
            self.jobs += 1;
            let point = self.saved.point;
            let job = Job { number: self.jobs, point, index: None, checkpoint: Vec::new() };
            (job, self.saved.clone())
        };
        job.checkpoint = self.checkpoint(&saved, start).encode();
        // Also if it fails: it may be on the disk, and a truncation must know.
        self.saved = saved;
        self.saver.save(job).await
    }

    fn is_flushed(&self) -> bool {
        let dirty = self.dirt.active || self.dirt.names || !self.dirt.closed.is_empty();
        !dirty && self.ticket.is_none()
    }

    fn checkpoint_lags(&self) -> bool {
        // One that failed, or was overtaken by an older one, is written again.
        let lags = self.saver.written() < self.end();
        lags && self.io.now().since(self.saved.at) >= CHECKPOINT_IDLE
    }

    /// Removes segments that neither readers nor recovery need: those below both the start and
    /// the point on the disk. A recovery from an older point would miss them and end there.
    pub(super) async fn remove_unneeded(&mut self) {
        if self.remove_replaced().await.is_err() {
            return;
        }
        let floor = self.start().min(self.saver.written());
        while let Some(oldest) = self.segments.first() {
            let active = self.segments.len() == 1 && !self.closed;
            if active || oldest.end > floor || oldest.base == oldest.end {
                if oldest.end <= self.start() && oldest.end > floor {
                    probe::hit(Probe::SegmentNeeded);
                }
                break;
            }
            if self.remove_files(oldest.id()).await.is_err() {
                break;
            }
            probe::hit(Probe::SegmentRemoved);
            let gone = self.segments.remove(0);
            self.dirt.closed.retain(|dirty| dirty.base != gone.base);
            if self.saved.row.is_some_and(|row| row.base == gone.base) {
                self.saved.row = None;
            }
        }
    }

    pub(super) async fn remove_files(&self, id: FileId) -> io::Result<()> {
        for name in [id.log_name(), id.index_name()] {
            let path = self.dir.join(name);
            if let Err(error) = removed(self.io.remove(&path).await) {
                tracing::warn!(path = %path.display(), %error, "a file was not removed");
                return Err(error);
            }
        }
        Ok(())
    }

    /// Removes everything from `to` on (a batch that contains `to` goes whole), durably. The log
    /// ends where the last batch that stays does: below `to` if compaction has removed what was
    /// before it. At or below the start it empties the log, which then begins at `to`. `Busy` while
    /// a flush ticket is out. A failed read changes nothing; any other failure of the disk poisons
    /// the log.
    pub async fn truncate(&mut self, to: Offset) -> Result<(), ChangeError> {
        self.usable()?;
        if self.ticket.is_some() {
            return Err(ChangeError::Busy);
        }
        if to >= self.end() {
            return Ok(());
        }
        self.compaction.cut(self.jobs);
        self.saver.overtake(self.jobs).await;
        let number = self.segments.partition_point(|segment| segment.end <= to);
        let place = match self.segments.get(number) {
            Some(segment) if to > self.start() => self.locate(segment, to).await?,
            _ => Place { position: 0, base: to.min(self.start()) },
        };
        // Where compaction has removed what was before the place, the log ends before the hole.
        let base = match self.segments.get(number) {
            Some(segment) if to > self.start() => self.end_before(segment, place).await?,
            _ => place.base,
        };
        let place = Place { base, ..place };
        let result = if place.base <= self.start() {
            self.reset(to.min(self.start())).await
        } else {
            self.cut_at(number, place).await
        };
        self.recent.get_mut().clear();
        match result {
            Err(ChangeError::Storage(kind)) => {
                self.poison("a truncation", &kind.into());
                result
            }
            other => other,
        }
    }

    /// Empties the log; it begins at `to`.
    async fn reset(&mut self, to: Offset) -> Result<(), ChangeError> {
        let storage = |error: io::Error| ChangeError::Storage(error.kind());
        self.producers = Producers::default();
        self.epochs.cut(to);
        let producers = self.producer_table();
        let at = self.io.now();
        let epochs = self.epochs.clone();
        self.saved = Saved { point: to, row: None, epochs, producers, bytes_since: 0, at };
        // First the promise is taken back, then the files go.
        self.save_point(to).await.map_err(storage)?;
        self.compacted = self.compacted.min(to);
        self.remove_behind(0).await.map_err(storage)?;
        self.closed = true;
        self.offsets = super::Offsets::flushed_log(to, to);
        Ok(())
    }

    /// Cuts segment `number` at `place`, which is above the start.
    async fn cut_at(&mut self, number: usize, place: Place) -> Result<(), ChangeError> {
        let storage = |error: io::Error| ChangeError::Storage(error.kind());
        let (producers, at_base) = self.producers_at(number, place).await?;
        let max_timestamp = self.time_before(&self.segments[number], place).await?;
        // The segment that stays last: its row as of the cut.
        let keep = if place.position > 0 { number + 1 } else { number };
        let row = self.segments[..keep].last().map(|last| {
            let mut row = last.row();
            if place.position > 0 {
                row.end = place.base;
                row.size = place.position;
                row.max_timestamp = max_timestamp;
            }
            row
        });
        self.producers = producers;
        self.epochs.cut(place.base);
        self.compacted = self.compacted.min(place.base);
        if self.saved.point > place.base {
            let producers = self.producer_table();
            let at = self.io.now();
            let (point, epochs) = (place.base, self.epochs.clone());
            self.saved = Saved { point, row, epochs, producers, bytes_since: 0, at };
            self.save_point(self.start()).await.map_err(storage)?;
        }
        self.remove_behind(keep).await.map_err(storage)?;
        self.closed = true;
        if let (true, Some(row)) = (place.position > 0, row) {
            let file = self.file(&self.segments[number]).await?;
            file.truncate(row.size).await.map_err(storage)?;
            file.sync().await.map_err(storage)?;
            let segment = &mut self.segments[number];
            segment.end = row.end;
            segment.size = row.size;
            segment.allocated = row.size;
            segment.max_timestamp = row.max_timestamp;
            let mut index = segment.index.take().unwrap_or_default();
            index.cut(row.size);
            let (at, bytes) = index.save(row.size, Some(&at_base), row.id().seal(&self.dir));
            *segment.index.get_mut() = Some(index);
            segment.producers = None;
            let job = IndexJob { id: row.id(), at, bytes };
            replace_index(&self.io, &self.dir, job).await.map_err(storage)?;
            self.dirt.closed.retain(|dirty| dirty.base != row.base);
            self.dirt.active = false;
            self.closed = row.generation > 0;
        }
        self.io.sync_dir(&self.dir).await.map_err(storage)?;
        self.dirt.names = false;
        self.offsets.cut(place.base);
        if self.is_flushed() {
            self.offsets.flush(place.base);
        }
        Ok(())
    }

    /// Writes a checkpoint with the point that was just set.
    async fn save_point(&mut self, start: Offset) -> io::Result<()> {
        self.jobs += 1;
        let checkpoint = self.checkpoint(&self.saved, start).encode();
        let job = Job { number: self.jobs, point: self.saved.point, index: None, checkpoint };
        self.saver.save(job).await
    }

    /// Removes the segments from number `keep` on, the last one first, durably.
    async fn remove_behind(&mut self, keep: usize) -> io::Result<()> {
        // What is appended next may get one of their names.
        self.remove_replaced().await?;
        while self.segments.len() > keep {
            let last = self.segments.last().expect("longer than what is kept");
            self.remove_files(last.id()).await?;
            let gone = self.segments.pop().expect("longer than what is kept");
            self.dirt.closed.retain(|dirty| dirty.base != gone.base);
            self.dirt.active = false;
        }
        self.io.sync_dir(&self.dir).await
    }

    /// The largest max timestamp of the segment's batches before `place`.
    pub(super) async fn time_before(
        &self,
        segment: &Segment<I::File>,
        place: Place,
    ) -> Result<i64, PlanError> {
        if place.position == 0 {
            return Ok(NO_TIME);
        }
        if place.position == segment.size {
            return Ok(segment.max_timestamp);
        }
        let entry = self.ask(segment, |index| index.floor_position_timed(place.position)).await?;
        let mut time = entry.map_or(NO_TIME, |entry| entry.time_before);
        let mut walk = segment.walk_at(self.file(segment).await?, &self.pool, entry);
        while walk.place().position < place.position {
            let Some((_, header)) = self.noticed(walk.next().await)? else { break };
            time = time.max(header.max_timestamp());
        }
        Ok(time)
    }

    /// Where the batch before `place` ends, or the segment begins.
    async fn end_before(
        &self,
        segment: &Segment<I::File>,
        place: Place,
    ) -> Result<Offset, PlanError> {
        if place.position == 0 {
            return Ok(segment.base);
        }
        if segment.generation == 0 {
            return Ok(place.base);
        }
        let entry = self.ask(segment, |index| index.floor_position(place.position - 1)).await?;
        let mut end = segment.base;
        let mut walk = segment.walk_at(self.file(segment).await?, &self.pool, entry);
        while walk.place().position < place.position {
            let Some((_, header)) = self.noticed(walk.next().await)? else { break };
            end = header.last_offset().plus(1);
        }
        Ok(end)
    }

    /// The producer table as of `place` in segment `number`, and the encoded one at that segment's
    /// base: from the nearest table that a segment's index begins with, and the headers behind it.
    async fn producers_at(
        &self,
        number: usize,
        place: Place,
    ) -> Result<(Producers, Vec<u8>), PlanError> {
        let seen = self.io.now();
        // What wrote nothing that is still here is known from no segment.
        let mut producers = self.producers.before(self.segments[0].base);
        let mut first = 0;
        for (nearest, segment) in self.segments[..=number].iter().enumerate().rev() {
            let table = match &segment.producers {
                Some(table) => Some(table.clone()),
                None => {
                    let path = self.dir.join(segment.id().index_name());
                    let bytes = read_file(&self.io, &path).await;
                    let bytes = bytes.map_err(PlanError::from)?;
                    let seal = segment.id().seal(&self.dir);
                    bytes.and_then(|bytes| Index::decode(&bytes, segment.size, seal).producers)
                }
            };
            if let Some(table) = table.and_then(|table| Producers::decode(&table, seen)) {
                producers = table;
                first = nearest;
                break;
            }
        }
        let mut at_base = Vec::new();
        for segment in &self.segments[first..=number] {
            at_base.clear();
            producers.encode(&mut at_base);
            let from = Place { position: 0, base: segment.base };
            let mut walk = segment.walk(self.file(segment).await?, &self.pool, from);
            while let Some((at, header)) = self.noticed(walk.next().await)? {
                if at.base >= place.base {
                    break;
                }
                producers.apply(&header, seen);
            }
        }
        Ok((producers, at_base))
    }

    /// Flushes, gives back what was allocated ahead and leaves a checkpoint, so that the next open
    /// has nothing to verify. A poisoned log, or one with a ticket out, closes as after a crash.
    pub async fn close(mut self) -> Result<(), Poisoned> {
        self.usable()?;
        if self.ticket.is_some() {
            return Err(Poisoned);
        }
        self.compaction.abandon(self.jobs);
        self.saver.overtake(self.jobs).await;
        match self.close_cleanly().await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.poison("closing", &error)),
        }
    }

    /// Closes a log that is at rest ([`Log::is_at_rest`]), to be opened again later. After a failure
    /// it is as after a crash: the next open recovers it.
    pub async fn rest(mut self) -> io::Result<()> {
        assert!(self.is_at_rest(), "nothing is under way in a log that rests");
        self.saver.overtake(self.jobs).await;
        self.close_cleanly().await
    }

    /// Flushes everything without a ticket; nobody appends meanwhile.
    async fn flush_now(&mut self) -> io::Result<()> {
        for dirty in std::mem::take(&mut self.dirt.closed) {
            dirty.flush().await?;
        }
        if self.dirt.active {
            let active = self.segments.last().expect("an active segment is dirty");
            let file = active.file.borrow().clone().expect("the active segment is open");
            file.sync().await?;
        }
        if self.dirt.names {
            self.io.sync_dir(&self.dir).await?;
        }
        self.dirt.active = false;
        self.dirt.names = false;
        self.dirt.bytes = 0;
        self.dirt.since = None;
        self.offsets.flush(self.end());
        Ok(())
    }

    async fn close_cleanly(&mut self) -> io::Result<()> {
        if let Some(active) = self.segments.last_mut().filter(|_| !self.closed) {
            let ahead = active.allocated > active.size;
            if let (true, Some(file)) = (ahead, active.file.get_mut()) {
                file.truncate(active.size).await?;
                active.allocated = active.size;
                self.dirt.active = true;
            }
        }
        self.flush_now().await?;
        if self.saver.written() == self.end() {
            probe::hit(Probe::ClosedAtRest);
            return Ok(());
        }
        let (mut job, _) = self.job_at_end();
        if let Some(index) = job.index.take()
            && let Some(file) = write_index(&self.io, &self.dir, index).await
        {
            file.sync().await?;
        }
        self.saver.save(job).await
    }

    /// Removes the log and its folder. Slices of it stay readable while they are held. After a
    /// crash in the middle the rest lies in a folder whose name ends in `-delete`; see [`purge`].
    pub async fn delete(self) -> Result<(), ChangeError> {
        self.saver.overtake(u64::MAX).await;
        let removed = async {
            let doomed = doomed(&self.dir);
            purge(&self.io, &doomed).await?;
            self.io.rename(&self.dir, &doomed).await?;
            if let Some(parent) = doomed.parent() {
                self.io.sync_dir(parent).await?;
            }
            purge(&self.io, &doomed).await
        };
        removed.await.map_err(|error: io::Error| ChangeError::Storage(error.kind()))
    }
}

/// The name under which a folder is removed.
fn doomed(dir: &Path) -> std::path::PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push("-delete");
    dir.with_file_name(name)
}
