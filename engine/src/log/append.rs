//! Appending: admit batches, stamp them, write them with one call per segment.
//!
//! Nothing in memory moves before the bytes are written, but for the producer table, which must
//! judge the second batch of a group by the first; it is taken back if the write fails.

use super::commit::Dirty;
use super::fault::{AppendError, PlanError};
use super::index::FileId;
use super::producer::{Verdict, is_idempotent};
use super::segment::{Place, Segment};
use super::{Appended, Durability, Log};
use crate::id::{LeaderEpoch, Offset};
use crate::io::{Buf, Error, ErrorKind, File, Io, Open, Wall, is_full, is_scarce, write_all_at};
use crate::limit::{ALLOCATE_AHEAD_BYTES_MAX, WRITE_BACK_BYTES, WRITE_BACK_INTERVAL_MIN};
use crate::probe::{self, Probe};
use crate::wire::batch::{self, Header};

/// What must be known of a batch once it is written.
pub(super) struct Meta {
    base: Offset,
    last: Offset,
    size: u64,
    max_timestamp: i64,
}

/// Batches that will be written with one call.
struct Group {
    bufs: Vec<Buf>,
    metas: Vec<Meta>,
    bytes: u64,
    /// The base offset of the group's first batch.
    base: Offset,
    /// The offset behind its last one.
    end: Offset,
}

impl<I: Io> Log<I> {
    /// Appends `batches`, each exactly one verified batch, in order, stamped with their offsets
    /// and `epoch` (not below [`Log::latest_epoch`]). One answer for each. What was accepted is
    /// written with one call per segment; it may be read and acknowledged once
    /// [`Log::readable_end`] is behind its last offset, a duplicate as well.
    pub async fn append(
        &mut self,
        mut batches: Vec<Buf>,
        epoch: LeaderEpoch,
        now: Wall,
    ) -> Vec<Result<Appended, AppendError>> {
        let mut results = Vec::with_capacity(batches.len());
        self.append_from(&mut batches, epoch, now, &mut results).await;
        results
    }

    /// As [`Log::append`], for callers that use their memory again: takes all of `batches` and
    /// leaves one answer for each in `results`, which is empty before.
    pub async fn append_from(
        &mut self,
        batches: &mut Vec<Buf>,
        epoch: LeaderEpoch,
        now: Wall,
        results: &mut Vec<Result<Appended, AppendError>>,
    ) {
        assert!(results.is_empty(), "answers of an earlier append");
        if self.failure.is_some() {
            probe::hit(Probe::AppendToPoisoned);
            results.extend(batches.drain(..).map(|_| Err(AppendError::Poisoned)));
            return;
        }
        assert!(epoch >= self.latest_epoch(), "an append of an old leader epoch");
        let total = batches.len();
        let mut group = Group {
            bufs: std::mem::take(&mut self.scratch.bufs),
            metas: std::mem::take(&mut self.scratch.metas),
            bytes: 0,
            base: self.end(),
            end: self.end(),
        };
        let mut failed = None;
        for mut buf in batches.drain(..) {
            let header = match self.admit(&buf) {
                Ok(Admitted::New(header)) => header,
                Ok(Admitted::Duplicate(appended)) => {
                    results.push(Ok(appended));
                    continue;
                }
                Err(error) => {
                    results.push(Err(error));
                    continue;
                }
            };
            if self.must_roll(&header, &group, now) {
                if group.bytes > 0 {
                    probe::hit(Probe::GroupAcrossSegments);
                }
                let rolled = match self.write(&mut group, epoch, now).await {
                    Ok(()) => Box::pin(self.roll(now)).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = rolled {
                    failed = Some(error);
                    break;
                }
            }
            results.push(Ok(self.stamp(&mut buf, &header, &mut group, epoch, now)));
            group.bufs.push(buf);
        }
        if failed.is_none() {
            failed = self.write(&mut group, epoch, now).await.err();
        }
        if let Some(error) = failed {
            // Whatever was not written failed, duplicates of it included.
            for result in &mut *results {
                if result.is_ok_and(|appended| appended.last >= self.end()) {
                    *result = Err(error);
                }
            }
            results.resize(total, Err(error));
        }
        group.bufs.clear();
        group.metas.clear();
        self.scratch.bufs = group.bufs;
        self.scratch.metas = group.metas;
    }

    /// Whether the batch may be appended, from what it says of itself.
    fn admit(&self, buf: &Buf) -> Result<Admitted, AppendError> {
        let header = Header::parse(buf).map_err(|_| AppendError::Malformed)?;
        if header.size() != buf.len() {
            return Err(AppendError::Malformed);
        }
        if header.size() as u64 > u64::from(self.config.segment_bytes) {
            return Err(AppendError::TooLarge);
        }
        match self.producers.check(&header)? {
            Verdict::Append => Ok(Admitted::New(header)),
            Verdict::Duplicate { base, last, max_timestamp } => {
                probe::hit(Probe::Duplicate);
                let append_time_ms = if self.config.append_time { max_timestamp } else { -1 };
                let duplicate = true;
                Ok(Admitted::Duplicate(Appended { base, last, append_time_ms, duplicate }))
            }
        }
    }

    /// Gives the batch its place in the group.
    fn stamp(
        &mut self,
        buf: &mut Buf,
        header: &Header,
        group: &mut Group,
        epoch: LeaderEpoch,
        now: Wall,
    ) -> Appended {
        let base = group.end;
        let last = base.plus(i64::from(header.last_offset_delta()));
        batch::stamp(buf, base, epoch);
        let (max_timestamp, append_time_ms) = if self.config.append_time {
            batch::stamp_append_time(buf, now.0);
            (now.0, now.0)
        } else {
            (header.max_timestamp(), -1)
        };
        if is_idempotent(header) {
            let stamped = Header::parse(buf).expect("stamping keeps the structure");
            self.scratch.undo.extend(self.producers.apply(&stamped, self.io.now()));
        }
        let size = header.size() as u64;
        group.metas.push(Meta { base, last, size, max_timestamp });
        group.bytes += size;
        group.end = last.plus(1);
        Appended { base, last, append_time_ms, duplicate: false }
    }

    fn must_roll(&self, header: &Header, group: &Group, now: Wall) -> bool {
        let Some(active) = self.segments.last().filter(|_| !self.closed) else { return true };
        let filled = active.size + group.bytes;
        if filled == 0 {
            return false;
        }
        let last = group.end.plus(i64::from(header.last_offset_delta()));
        if filled + header.size() as u64 > u64::from(self.config.segment_bytes)
            || last.0 - active.base.0 > i64::from(i32::MAX)
        {
            probe::hit(Probe::RolledBySize);
            return true;
        }
        let old = group.bytes == 0 && self.is_old(active, now);
        if old {
            probe::hit(Probe::RolledByAge);
        }
        old
    }

    pub(super) fn is_old(&self, active: &Segment<I::File>, now: Wall) -> bool {
        active.size > 0 && now.0.saturating_sub(active.created_ms) >= self.config.roll_ms()
    }

    /// Writes the group behind the end of the active segment, and begins the next group.
    async fn write(
        &mut self,
        group: &mut Group,
        epoch: LeaderEpoch,
        now: Wall,
    ) -> Result<(), AppendError> {
        if group.metas.is_empty() {
            return Ok(());
        }
        assert_eq!(group.base, self.end(), "a group continues the log");
        let bufs = std::mem::take(&mut group.bufs);
        let file = self.ready(group.bytes).await?;
        let position = self.active().size;
        let (result, returned) = write_all_at(&file, bufs, position).await;
        group.bufs = returned;
        group.bufs.clear();
        if let Err(error) = result {
            return Err(Box::pin(self.write_failed(&file, position, error)).await);
        }
        self.dirt.kept_back += group.bytes;
        if self.dirt.kept_back >= WRITE_BACK_BYTES {
            self.write_back(&file);
        }
        self.written(group, position, epoch, now);
        Ok(())
    }

    /// Has the system begin to write what nobody flushes for each produce.
    fn write_back(&mut self, file: &I::File) {
        let now = self.io.now();
        if self.config.durability == Durability::PageCache
            && now.since(self.dirt.written_back) >= WRITE_BACK_INTERVAL_MIN
        {
            file.write_back();
            (self.dirt.kept_back, self.dirt.written_back) = (0, now);
        }
    }

    /// The open active segment with its index in memory, and room for `bytes`.
    async fn ready(&mut self, bytes: u64) -> Result<I::File, AppendError> {
        let active = self.segments.last().expect("rolled before");
        let opened = match self.file(active).await {
            Ok(file) => self.ask(active, |_| ()).await.map(|()| file),
            Err(error) => Err(error),
        };
        match opened {
            Ok(file) => self.reserve(&file, bytes).await.map(|()| file),
            Err(PlanError::Scarce) => Err(self.found_none()),
            Err(error) => {
                let kind = match error {
                    PlanError::Storage(kind) => kind,
                    _ => ErrorKind::InvalidData,
                };
                Err(self.append_failed("opening the active segment", kind.into()))
            }
        }
    }

    /// Allocates ahead, in proportion to what this log was used for so far.
    async fn reserve(&mut self, file: &I::File, bytes: u64) -> Result<(), AppendError> {
        let used = self.appended_bytes;
        let segment_bytes = u64::from(self.config.segment_bytes);
        let (size, allocated) = (self.active().size, self.active().allocated);
        let end = size + bytes;
        if !self.can_allocate || end <= allocated || used < self.config.allocate_from_bytes {
            return Ok(());
        }
        let ahead = used.min(ALLOCATE_AHEAD_BYTES_MAX);
        let to = (size + ahead).min(segment_bytes).max(end);
        let from = allocated.max(size);
        match Box::pin(file.allocate(from, to - from)).await {
            Ok(()) => {
                probe::hit(Probe::AllocatedAhead);
                self.active().allocated = to;
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => self.can_allocate = false,
            // There may be just enough for the batches themselves. Some of it may have been
            // allocated, so the segment is cut when it is closed.
            Err(error) if is_full(&error) => {
                probe::hit(Probe::AllocateFull);
                self.active().allocated = to;
            }
            Err(error) => return Err(self.append_failed("allocating", error)),
        }
        Ok(())
    }

    /// Takes note of what was written.
    fn written(&mut self, group: &mut Group, mut position: u64, epoch: LeaderEpoch, now: Wall) {
        self.scratch.undo.clear();
        self.epochs.begin(epoch, group.base);
        let interval = self.config.index_interval_bytes;
        let active = self.segments.last_mut().expect("just written to");
        if active.size == 0 {
            active.created_ms = now.0;
        }
        active.appended_ms = now.0;
        for meta in group.metas.drain(..) {
            let relative = active.relative(meta.base);
            let index = active.index.get_mut().as_mut().expect("made ready");
            index.note(relative, position, active.max_timestamp, interval);
            self.recent.get_mut().push(Place { position, base: meta.base });
            active.max_timestamp = active.max_timestamp.max(meta.max_timestamp);
            active.end = meta.last.plus(1);
            position += meta.size;
        }
        active.size = position;
        active.allocated = active.allocated.max(position);
        assert_eq!(active.end, group.end, "a group ends where its last batch does");
        self.offsets.extend(group.end);
        self.appended_bytes += group.bytes;
        self.saved.bytes_since += group.bytes;
        self.dirt.active = true;
        self.dirt.bytes += group.bytes;
        self.dirt.since.get_or_insert(now);
        group.base = group.end;
        group.bytes = 0;
    }

    /// A full disk is survived if the half-written end can be cut; anything else is final.
    async fn write_failed(&mut self, file: &I::File, position: u64, error: Error) -> AppendError {
        if is_full(&error) {
            // Left there, whole batches of the failed group could pass for successors of what is
            // appended next.
            match file.truncate(position).await {
                Ok(()) => {
                    probe::hit(Probe::WriteFull);
                    let active = self.active();
                    active.allocated = position;
                    self.dirt.active = true;
                    self.take_back();
                    return AppendError::Full;
                }
                Err(error) => return self.append_failed("cutting a half-written end", error),
            }
        }
        self.append_failed("a write", error)
    }

    /// There was no descriptor for a file: nothing has happened, and it is tried again.
    fn found_none(&mut self) -> AppendError {
        probe::hit(Probe::AppendScarce);
        self.take_back();
        AppendError::Scarce
    }

    fn append_failed(&mut self, what: &str, error: Error) -> AppendError {
        let kind = error.kind();
        self.poison(what, &error);
        self.take_back();
        AppendError::Storage(kind)
    }

    fn take_back(&mut self) {
        if !self.scratch.undo.is_empty() {
            probe::hit(Probe::ProducersUndone);
        }
        self.producers.undo(&mut self.scratch.undo);
    }

    fn active(&mut self) -> &mut Segment<I::File> {
        assert!(!self.closed, "an append rolls a closed segment first");
        self.segments.last_mut().expect("an append rolls first if there is no segment")
    }

    /// Begins a new segment at the end; the one before is flushed by the next ticket, before
    /// anything in the new one counts as flushed.
    async fn roll(&mut self, now: Wall) -> Result<(), AppendError> {
        let base = self.end();
        let id = FileId::appended(base);
        let path = self.dir.join(id.log_name());
        let file = match self.io.open(&path, Open::CreateNew).await {
            Ok(file) => file,
            Err(error) if is_full(&error) => {
                probe::hit(Probe::RollFull);
                self.take_back();
                return Err(AppendError::Full);
            }
            Err(error) if is_scarce(&error) => return Err(self.found_none()),
            Err(error) => return Err(self.append_failed("creating a segment", error)),
        };
        self.close_active().await;
        // An index of that name can only be the rest of a crash, and would be believed.
        match self.io.remove(&self.dir.join(id.index_name())).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(self.append_failed("removing a stale index", error));
            }
            Ok(()) => probe::hit(Probe::IndexOfNobody),
            Err(_) => {}
        }
        let producers = self.producer_table();
        self.segments.push(Segment::new(base, file, now.0, producers));
        self.close_unused();
        self.closed = false;
        self.recent.get_mut().roll();
        self.dirt.names = true;
        Ok(())
    }

    /// Nothing more is appended to the active segment.
    pub(super) async fn close_active(&mut self) {
        if self.closed {
            return;
        }
        // Without a batch it goes on: the next segment would have its name.
        let Some(active) = self.segments.last_mut().filter(|active| active.size > 0) else {
            return;
        };
        self.closed = true;
        let size = active.size;
        let cut = (active.allocated > size).then_some(size);
        if cut.is_some() {
            probe::hit(Probe::AheadGivenBack);
        }
        if self.dirt.active || cut.is_some() {
            if let Some(file) = active.file.get_mut().clone() {
                self.dirt.closed.push(Dirty { base: active.base, file, cut });
                active.allocated = size;
            }
            self.dirt.active = false;
        }
        let producers = active.producers.take();
        let seal = active.id().seal(&self.dir);
        if let Some(index) = active.index.get_mut().as_mut() {
            let (at, bytes) = index.save(size, producers.as_deref(), seal);
            let job = super::IndexJob { id: active.id(), at, bytes };
            if let Some(file) = super::checkpoint::write_index(&self.io, &self.dir, job).await {
                self.dirt.closed.push(Dirty { base: active.base, file, cut: None });
            }
        }
    }
}

enum Admitted {
    New(Header),
    Duplicate(Appended),
}
