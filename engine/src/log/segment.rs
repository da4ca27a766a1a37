//! One segment: a file of batches, what is known about it, and walks over its batch headers.
//!
//! A segment's file and index are opened when they are first needed, so that an idle or old one
//! costs neither descriptor nor memory. Everything below `size` is whole batches that never
//! change; a walk that finds anything else has found damage.

use std::cell::{Cell, RefCell};
use std::path::Path;

use super::checkpoint::Row;
use super::fault::PlanError;
use super::index::{Entry, FileId, Index, NO_TIME};
use super::scan::{Chain, Found, Scan};
use crate::id::{LeaderEpoch, Offset};
use crate::io::{self, Buf, ErrorKind, File, Io, Open, Pool, fill_at};
use crate::probe::{self, Probe};
use crate::wire::batch::{HEADER_BYTES, Header};

/// Bytes that a walk reads at once: two intervals of the default index.
const WALK_BYTES: u64 = 8192;

/// See the module's head.
pub(super) struct Segment<F> {
    pub(super) base: Offset,
    /// Above 0 if compaction wrote it: then offsets are missing between its batches.
    pub(super) generation: u32,
    /// The offset behind its last record; compaction may have removed the record itself.
    pub(super) end: Offset,
    /// Bytes of batches.
    pub(super) size: u64,
    /// The file's length as far as this log made it longer; at least `size`.
    pub(super) allocated: u64,
    pub(super) max_timestamp: i64,
    /// Wall time of its first append.
    pub(super) created_ms: i64,
    /// Wall time of its last append, where its records do not say how old they are.
    pub(super) appended_ms: i64,
    pub(super) file: RefCell<Option<F>>,
    pub(super) index: RefCell<Option<Index>>,
    /// The producer table at its base, encoded, until its index file is begun.
    pub(super) producers: Option<Vec<u8>>,
    /// When it was last used, for closing the one unused longest.
    pub(super) used: Cell<u64>,
    /// Its file is missing, short, or was found damaged at this position.
    pub(super) damage: Cell<Option<u64>>,
}

/// A batch's place in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) position: u64,
    /// The batch's base offset or, in a compacted segment, one below it and behind the batch
    /// before; the segment's end at its size.
    pub(super) base: Offset,
}

impl<F: File> Segment<F> {
    /// A new segment whose file was just created.
    pub(super) fn new(base: Offset, file: F, now_ms: i64, producers: Vec<u8>) -> Self {
        let row = Row::begun(base, now_ms);
        let mut segment = Segment::known(row);
        segment.file = RefCell::new(Some(file));
        segment.index = RefCell::new(Some(Index::default()));
        segment.producers = Some(producers);
        segment
    }

    /// A segment that a checkpoint tells of.
    pub(super) fn known(row: Row) -> Self {
        Segment {
            base: row.base,
            generation: row.generation,
            end: row.end,
            size: row.size,
            allocated: row.size,
            max_timestamp: row.max_timestamp,
            created_ms: row.created_ms,
            appended_ms: row.created_ms,
            file: RefCell::new(None),
            index: RefCell::new(None),
            producers: None,
            used: Cell::new(0),
            damage: Cell::new(None),
        }
    }

    pub(super) fn row(&self) -> Row {
        Row {
            base: self.base,
            generation: self.generation,
            end: self.end,
            size: self.size,
            max_timestamp: self.max_timestamp,
            created_ms: if self.is_timeless() { self.appended_ms } else { self.created_ms },
        }
    }

    /// Whether none of its records says how old it is.
    fn is_timeless(&self) -> bool {
        self.max_timestamp < 0
    }

    /// The time that retention judges it by: of its newest record, or else of its last append.
    pub(super) fn newest_ms(&self) -> i64 {
        if self.is_timeless() { self.appended_ms } else { self.max_timestamp }
    }

    pub(super) fn id(&self) -> FileId {
        FileId { base: self.base, generation: self.generation }
    }

    /// An offset as the index holds it. Segments are rolled before one would not fit.
    pub(super) fn relative(&self, offset: Offset) -> u32 {
        u32::try_from((offset.0 - self.base.0).max(0)).unwrap_or(u32::MAX)
    }

    pub(super) fn corrupt(&self, position: u64) -> PlanError {
        PlanError::Corrupt { segment: self.base, position }
    }

    /// The file, if it is open and nothing is wrong with it.
    pub(super) fn opened(&self) -> Option<F> {
        if self.damage.get().is_some() {
            return None;
        }
        self.file.borrow().clone()
    }

    /// The open file; opens it if need be.
    pub(super) async fn open<I: Io<File = F>>(&self, io: &I, dir: &Path) -> Result<F, PlanError> {
        if let Some(position) = self.damage.get() {
            return Err(self.corrupt(position));
        }
        if let Some(file) = self.file.borrow().as_ref() {
            return Ok(file.clone());
        }
        let opened = async {
            let file = io.open(&dir.join(self.id().log_name()), Open::Write).await?;
            let length = file.length().await?;
            io::Result::Ok((file, length))
        };
        match opened.await {
            Ok((file, length)) if length >= self.size => {
                *self.file.borrow_mut() = Some(file.clone());
                Ok(file)
            }
            Ok((_, length)) => {
                self.damage.set(Some(length));
                Err(self.corrupt(length))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.damage.set(Some(0));
                Err(self.corrupt(0))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Walks over the headers from a known batch on, up to the segment's size.
    pub(super) fn walk<'a>(&'a self, file: F, pool: &'a Pool, from: Place) -> Walk<'a, F> {
        let holes = self.generation > 0;
        Walk { segment: self, file, pool, next: from, holes, chunk: Buf::new(), chunk_at: 0 }
    }

    /// Walks over the headers from where an index entry leads to, or from the beginning. What the
    /// entry leads to must be the very batch that it speaks of.
    pub(super) fn walk_at<'a>(
        &'a self,
        file: F,
        pool: &'a Pool,
        entry: Option<Entry>,
    ) -> Walk<'a, F> {
        match entry {
            Some(entry) => {
                let holes = false;
                Walk { holes, ..self.walk(file, pool, self.place(entry)) }
            }
            None => self.walk(file, pool, Place { position: 0, base: self.base }),
        }
    }

    /// Reads the index from its file and completes it from the log, or makes it from the log.
    pub(super) async fn load_index<I: Io<File = F>>(
        &self,
        io: &I,
        pool: &Pool,
        dir: &Path,
        interval_bytes: u32,
    ) -> Result<(), PlanError> {
        if self.index.borrow().is_some() {
            return Ok(());
        }
        let bytes = read_file(io, &dir.join(self.id().index_name())).await;
        let bytes = bytes.map_err(PlanError::from)?.unwrap_or_default();
        let decoded = Index::decode(&bytes, self.size, self.id().seal(dir));
        let complete = decoded.covered >= self.size && !decoded.index.entries().is_empty();
        let index = if complete || self.size == 0 {
            decoded.index
        } else {
            probe::hit(if decoded.index.entries().is_empty() {
                Probe::IndexRebuilt
            } else {
                Probe::IndexCompleted
            });
            match self.complete(io, pool, dir, interval_bytes, decoded.index).await {
                Err(PlanError::Corrupt { .. }) => {
                    probe::hit(Probe::IndexMistrusted);
                    self.complete(io, pool, dir, interval_bytes, Index::default()).await?
                }
                other => other?,
            }
        };
        *self.index.borrow_mut() = Some(index);
        Ok(())
    }

    /// Makes the index from the log alone: the one in memory has led to a wrong place.
    pub(super) async fn rebuild_index<I: Io<File = F>>(
        &self,
        io: &I,
        pool: &Pool,
        dir: &Path,
        interval_bytes: u32,
    ) -> Result<(), PlanError> {
        let index = self.complete(io, pool, dir, interval_bytes, Index::default()).await?;
        *self.index.borrow_mut() = Some(index);
        Ok(())
    }

    /// Notes in `index` the batches from its last entry on. Only batches whose checksums match are
    /// believed, for an index outlives the damage of a header; if one does not, its place is noted
    /// all the same, and the index is doubtful.
    async fn complete<I: Io<File = F>>(
        &self,
        io: &I,
        pool: &Pool,
        dir: &Path,
        interval_bytes: u32,
        mut index: Index,
    ) -> Result<Index, PlanError> {
        let file = self.open(io, dir).await?;
        let last = index.entries().last().copied();
        let mut time = last.map_or(NO_TIME, |entry| entry.time_before);
        let from = last.map_or(Place { position: 0, base: self.base }, |last| self.place(last));
        let mut scan = Scan::of_segment(file.clone(), self.id(), self.size).at(from.position);
        let mut chain = Chain { next: from.base, epoch: LeaderEpoch::NONE };
        while scan.position() < self.size {
            let before = Place { position: scan.position(), base: chain.next };
            let found = scan.next(&mut chain).await;
            let found = found.map_err(PlanError::from)?;
            let is_first = before.position == from.position;
            let Found::Batch(header) = found else {
                probe::hit(Probe::IndexDoubtful);
                index.doubt();
                let mut walk = match last {
                    Some(_) if is_first => self.walk_at(file, pool, last),
                    _ => self.walk(file, pool, before),
                };
                while let Some((place, _)) = walk.next().await? {
                    if last.is_none_or(|entry| u64::from(entry.position) < place.position) {
                        index.note(self.relative(place.base), place.position, time, interval_bytes);
                    }
                }
                break;
            };
            let base = header.base_offset();
            let is_stranger = is_first && last.is_some() && base != from.base;
            if is_stranger || header.last_offset() >= self.end {
                return Err(self.corrupt(before.position));
            }
            if last.is_none_or(|entry| u64::from(entry.position) < before.position) {
                index.note(self.relative(base), before.position, time, interval_bytes);
            }
            time = time.max(header.max_timestamp());
        }
        Ok(index)
    }

    pub(super) fn place(&self, entry: Entry) -> Place {
        Place {
            position: u64::from(entry.position),
            base: self.base.plus(i64::from(entry.relative)),
        }
    }
}

/// A walk from batch to batch that reads headers only.
pub(super) struct Walk<'a, F> {
    segment: &'a Segment<F>,
    file: F,
    pool: &'a Pool,
    next: Place,
    /// The next batch may begin behind the offset that is expected.
    holes: bool,
    chunk: Buf,
    chunk_at: u64,
}

impl<F: File> Walk<'_, F> {
    /// The next batch, or `None` at the end of the segment's batches.
    pub(super) async fn next(&mut self) -> Result<Option<(Place, Header)>, PlanError> {
        let place = self.next;
        let left = self.segment.size.saturating_sub(place.position);
        if left == 0 {
            return Ok(None);
        }
        let wanted = place.position + (HEADER_BYTES as u64).min(left);
        let held = self.chunk_at..self.chunk_at + self.chunk.len() as u64;
        if place.position < held.start || wanted > held.end {
            let chunk = self.pool.take(left.min(WALK_BYTES) as usize);
            let (result, chunk) = fill_at(&self.file, chunk, place.position).await;
            result.map_err(PlanError::from)?;
            self.chunk = chunk;
            self.chunk_at = place.position;
        }
        let skip = usize::try_from(place.position - self.chunk_at).unwrap_or(usize::MAX);
        let bytes = self.chunk.get(skip..).unwrap_or_default();
        let corrupt = || self.segment.corrupt(place.position);
        let header = Header::parse(bytes).map_err(|_| corrupt())?;
        let base = header.base_offset();
        let follows = base == place.base || (self.holes && base > place.base);
        let fits = header.size() as u64 <= left && header.last_offset() < self.segment.end;
        if !follows || !fits {
            return Err(corrupt());
        }
        self.next = Place {
            position: place.position + header.size() as u64,
            base: header.last_offset().plus(1),
        };
        self.holes = self.segment.generation > 0;
        Ok(Some((Place { position: place.position, base }, header)))
    }

    /// Where the walk stands: the place of the batch that [`Walk::next`] would return, which may
    /// begin at a later offset in a compacted segment.
    pub(super) fn place(&self) -> Place {
        self.next
    }
}

/// All bytes of a small file, or `None` if there is none.
pub(super) async fn read_file<I: Io>(io: &I, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match io.open(path, Open::Read).await {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(file.length().await?).map_err(|_| ErrorKind::FileTooLarge)?;
    let (result, buf) = fill_at(&file, Buf::with_capacity(length), 0).await;
    result?;
    Ok(Some(buf.to_vec()))
}
