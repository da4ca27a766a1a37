//! Opening a log: what the checkpoint promises, what lies behind it, and what of that is kept.
//!
//! The steps and why each crash in between is harmless are in `docs/format.md`. Nothing is read
//! below the checkpoint's point but the lengths of files; nothing above it is believed before it
//! was verified, and nothing is served before it was flushed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::checkpoint::{self, Checkpoint, Saver, Unusable, removed, replace_index};
use super::epoch::Epochs;
use super::fault::{OpenError, PlanError};
use super::index::{FileId, Index};
use super::offset::Offsets;
use super::producer::Producers;
use super::scan::{Bad, Chain, Found, Scan};
use super::segment::{Segment, read_file};
use super::slice::Recent;
use super::{Config, Dirt, IndexJob, Log, Row, Saved, Scratch};
use crate::id::Offset;
use crate::io::{self, Buf, ErrorKind, File, Instant, Io, Open, Pool, fill_at, write_all_at};
use crate::probe::{self, Probe};

/// What opening a log found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The folder, or what must be in it, was made new.
    pub created: bool,
    /// Nothing had been written since the last checkpoint: the log was closed cleanly.
    pub clean: bool,
    /// Bytes of batches behind the last checkpoint that were verified and kept.
    pub kept_bytes: u64,
    /// Bytes behind the last good batch that were cut, space allocated ahead not counted. They
    /// were never known to be flushed.
    pub cut_bytes: u64,
    /// Damage below the last checkpoint, in words. It is not served and not cut.
    pub damage: Vec<String>,
}

/// The names in a log's folder.
#[derive(Default)]
pub(super) struct Names {
    pub(super) logs: BTreeSet<FileId>,
    pub(super) indexes: BTreeSet<FileId>,
    pub(super) checkpoint: bool,
    /// Files that were being written.
    pub(super) new: Vec<String>,
}

fn storage(path: PathBuf) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Storage { path, source }
}

/// Removes a folder with all its files, durably; does nothing if there is none. For logs that are
/// deleted (`...-delete`).
pub async fn purge<I: Io>(io: &I, dir: &Path) -> io::Result<()> {
    let entries = match io.list(dir).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        removed(io.remove(&dir.join(entry.name)).await)?;
    }
    removed(io.remove(dir).await)?;
    match dir.parent() {
        Some(parent) => io.sync_dir(parent).await,
        None => Ok(()),
    }
}

impl Names {
    pub(super) async fn read<I: Io>(io: &I, dir: &Path) -> io::Result<Names> {
        let mut names = Names::default();
        for entry in io.list(dir).await? {
            let name = entry.name.as_str();
            if let Some(id) = FileId::of_name(name, "log") {
                names.logs.insert(id);
            } else if let Some(id) = FileId::of_name(name, "index") {
                names.indexes.insert(id);
            } else if name == checkpoint::NAME {
                names.checkpoint = true;
            } else if name.ends_with(checkpoint::NEW_SUFFIX) {
                names.new.push(entry.name);
            }
        }
        Ok(names)
    }
}

/// Reads the checkpoint of a log's folder.
pub(super) async fn read_checkpoint<I: Io>(io: &I, dir: &Path) -> Result<Checkpoint, OpenError> {
    let path = dir.join(checkpoint::NAME);
    let bytes = read_file(io, &path).await.map_err(storage(path.clone()))?.unwrap_or_default();
    Checkpoint::decode(&bytes).map_err(|error| match error {
        Unusable::Newer(version) => OpenError::Newer { path, version, known: checkpoint::VERSION },
        Unusable::Damaged(what) => OpenError::Corrupt { path, what: what.to_owned() },
    })
}

impl<I: Io> Log<I> {
    /// Opens the log in `dir`, making the folder if it is missing (its parent must exist), and
    /// recovers it otherwise: what lies behind the last checkpoint is verified, cut at the first
    /// bad batch, and flushed.
    ///
    /// # Errors
    /// `Newer` and `Corrupt` change nothing on the disk. After `Storage` the log may be opened
    /// again.
    pub async fn open(
        io: &I,
        pool: &Pool,
        dir: &Path,
        config: Config,
    ) -> Result<(Log<I>, Recovery), OpenError> {
        match io.make_dir(dir).await {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(storage(dir.to_owned())(error));
            }
            _ => {}
        }
        let names = Names::read(io, dir).await.map_err(storage(dir.to_owned()))?;
        if !names.checkpoint {
            if !names.logs.is_empty() {
                let what = "it is missing, but there are segments".to_owned();
                return Err(OpenError::Corrupt { path: dir.join(checkpoint::NAME), what });
            }
            return Log::create(io, pool, dir, config).await;
        }
        let checkpoint = read_checkpoint(io, dir).await?;
        let path = dir.join(checkpoint::NAME);
        let corrupt = |what: &str| OpenError::Corrupt { path: path.clone(), what: what.into() };
        let epochs = Epochs::from_entries(checkpoint.epochs.clone())
            .ok_or_else(|| corrupt("its leader epochs do not rise"))?;
        let producers = Producers::decode(&checkpoint.producers, io.now())
            .ok_or_else(|| corrupt("its producer table does not fit"))?;
        let mut log = Log::over(io, pool, dir, config, &checkpoint, epochs, producers);
        let recovery = log.recover(checkpoint, names).await.map_err(storage(dir.to_owned()))?;
        if recovery.clean {
            probe::hit(Probe::OpenedClean);
        }
        for damage in &recovery.damage {
            tracing::error!(dir = %dir.display(), "{damage}");
        }
        Ok((log, recovery))
    }

    async fn create(
        io: &I,
        pool: &Pool,
        dir: &Path,
        config: Config,
    ) -> Result<(Log<I>, Recovery), OpenError> {
        if let Some(parent) = dir.parent() {
            io.sync_dir(parent).await.map_err(storage(parent.to_owned()))?;
        }
        let producers = Producers::default();
        let mut table = Vec::new();
        producers.encode(&mut table);
        let checkpoint = Checkpoint {
            start: Offset(0),
            point: Offset(0),
            compacted: Offset(0),
            rows: Vec::new(),
            epochs: Vec::new(),
            producers: table,
        };
        let mut log = Log::over(io, pool, dir, config, &checkpoint, Epochs::default(), producers);
        log.jobs += 1;
        let job = checkpoint::Job {
            number: log.jobs,
            point: Offset(0),
            index: None,
            checkpoint: checkpoint.encode(),
        };
        log.saver.save(job).await.map_err(storage(dir.join(checkpoint::NAME)))?;
        Ok((log, Recovery { created: true, clean: true, ..Recovery::default() }))
    }

    fn over(
        io: &I,
        pool: &Pool,
        dir: &Path,
        config: Config,
        checkpoint: &Checkpoint,
        epochs: Epochs,
        producers: Producers,
    ) -> Log<I> {
        let end = checkpoint.point.max(checkpoint.start);
        Log {
            io: io.clone(),
            pool: pool.clone(),
            dir: dir.to_owned(),
            config,
            segments: Vec::new(),
            closed: true,
            offsets: Offsets::flushed_log(checkpoint.start, end),
            epochs: epochs.clone(),
            producers,
            recent: RefCell::new(Recent::default()),
            uses: Cell::new(0),
            dirt: Dirt {
                closed: Vec::new(),
                active: false,
                names: false,
                bytes: 0,
                kept_back: 0,
                written_back: Instant::default(),
                since: None,
            },
            ticket: None,
            saver: Saver::new(io, dir, checkpoint.point),
            saved: Saved {
                point: checkpoint.point,
                row: checkpoint.rows.last().copied(),
                epochs,
                producers: checkpoint.producers.clone(),
                bytes_since: 0,
                at: io.now(),
            },
            jobs: 0,
            compacted: checkpoint.compacted,
            compaction: super::compact::State::default(),
            appended_bytes: 0,
            can_allocate: true,
            failure: None,
            scratch: Scratch::default(),
        }
    }

    async fn recover(&mut self, checkpoint: Checkpoint, names: Names) -> io::Result<Recovery> {
        let mut recovery = Recovery::default();
        self.compaction.begin(names.logs.iter().map(|id| id.generation).max());
        for name in &names.new {
            probe::hit(Probe::UnfinishedRemoved);
            removed(self.io.remove(&self.dir.join(name)).await)?;
        }
        self.take_rows(&checkpoint, &names, &mut recovery).await?;
        let end = self.scan_tail(checkpoint.point, &names, &mut recovery).await?;
        self.offsets = Offsets::flushed_log(checkpoint.start.min(end), end);
        if end < checkpoint.start {
            // The start was raised over records that were never flushed, and they are lost: there
            // is nothing left but the promise of where the log begins.
            probe::hit(Probe::StartBeyondEnd);
            self.segments.clear();
            self.closed = true;
            self.offsets = Offsets::flushed_log(checkpoint.start, checkpoint.start);
        }
        // Always, and before anything is removed: the checkpoint that was just believed may have been
        // renamed and not flushed when the process ended, and the one before it may name files that
        // compaction has replaced since.
        self.io.sync_dir(&self.dir).await?;
        let kept: BTreeSet<FileId> = self.segments.iter().map(Segment::id).collect();
        let stale: Vec<FileId> = names.logs.difference(&kept).copied().collect();
        if !stale.is_empty() {
            recovery.clean = false;
            for id in &stale {
                probe::hit(Probe::SegmentStale);
                removed(self.io.remove(&self.dir.join(id.log_name())).await)?;
            }
        }
        let strays: Vec<FileId> = names.indexes.difference(&kept).copied().collect();
        for id in &strays {
            probe::hit(Probe::IndexStale);
            removed(self.io.remove(&self.dir.join(id.index_name())).await)?;
        }
        if !stale.is_empty() || !strays.is_empty() {
            self.io.sync_dir(&self.dir).await?;
        }
        self.epochs.advance(self.start());
        if !recovery.clean {
            self.save_recovered().await;
            self.remove_unneeded().await;
            self.io.sync_dir(&self.dir).await?;
        }
        Ok(recovery)
    }

    /// Makes segments of the checkpoint's rows, as far as their files are there.
    async fn take_rows(
        &mut self,
        checkpoint: &Checkpoint,
        names: &Names,
        recovery: &mut Recovery,
    ) -> io::Result<()> {
        recovery.clean = true;
        let last = checkpoint.rows.len().saturating_sub(1);
        for (number, row) in checkpoint.rows.iter().enumerate() {
            let there = names.logs.contains(&row.id());
            let unneeded = row.end <= checkpoint.start && (number != last || !there);
            if unneeded || (row.size == 0 && !there) {
                probe::hit(Probe::RowRemoved);
                // Removed, or about to be when the process ended. Nothing is appended before it.
                self.closed |= number == last;
                continue;
            }
            let segment = Segment::known(*row);
            self.closed = false;
            if there {
                let path = self.dir.join(row.id().log_name());
                let file = self.io.open(&path, Open::Write).await?;
                let length = file.length().await?;
                if length < row.size {
                    segment.damage.set(Some(length));
                } else if number == last {
                    *segment.file.borrow_mut() = Some(file);
                }
            } else {
                segment.damage.set(Some(0));
            }
            if let Some(position) = segment.damage.get() {
                probe::hit(Probe::SegmentDamaged);
                recovery.damage.push(format!(
                    "{}: {} bytes were flushed, {position} are there",
                    row.id().log_name(),
                    row.size
                ));
                self.closed = number == last;
            }
            // Nothing is ever appended to what compaction wrote.
            self.closed |= number == last && row.generation > 0;
            self.segments.push(segment);
        }
        Ok(())
    }

    /// Verifies what lies behind the point, keeps what is good, and returns the end.
    async fn scan_tail(
        &mut self,
        point: Offset,
        names: &Names,
        recovery: &mut Recovery,
    ) -> io::Result<Offset> {
        let mut chain = Chain { next: point, epoch: self.epochs.latest() };
        if !self.closed {
            self.scan_segment(&mut chain, recovery).await?;
        }
        loop {
            let last = self.segments.last();
            let behind = last.map_or(Offset(-1), |last| last.base).max(Offset(point.0 - 1));
            // What compaction wrote and no checkpoint names was never part of the log.
            let next = |id: &&FileId| id.base > behind && id.generation == 0;
            let Some(&FileId { base, .. }) = names.logs.iter().find(next) else { break };
            match self.segments.last_mut() {
                // What a damaged segment held behind the point is lost, and what came after it is
                // not: its end is where the next one begins.
                Some(lost) if lost.damage.get().is_some() => {
                    lost.end = base;
                    chain.next = base;
                }
                _ if base != chain.next => break,
                _ => {}
            }
            let mut segment = Segment::known(Row::begun(base, self.io.wall().0));
            segment.producers = Some(self.producer_table());
            let file = self.io.open(&self.dir.join(segment.id().log_name()), Open::Write).await?;
            *segment.file.borrow_mut() = Some(file);
            self.segments.push(segment);
            self.closed = false;
            recovery.clean = false;
            probe::hit(Probe::SegmentFound);
            self.scan_segment(&mut chain, recovery).await?;
        }
        Ok(chain.next)
    }

    /// Verifies the last segment from its known size on, and makes what is kept the truth. Whether
    /// the log may go on in another file is for its name to say.
    async fn scan_segment(&mut self, chain: &mut Chain, recovery: &mut Recovery) -> io::Result<()> {
        let number = self.segments.len() - 1;
        let segment = &mut self.segments[number];
        let file = segment.file.get_mut().clone().expect("opened before the scan");
        let length = file.length().await?;
        let from = segment.size;
        let known = self.saved.row.is_some_and(|row| row.base == segment.base);
        if length == from && known {
            if from == 0 {
                let mut table = Vec::new();
                self.producers.encode(&mut table);
                segment.producers = Some(table);
            }
            return Ok(());
        }
        recovery.clean = false;
        let interval = self.config.index_interval_bytes;
        let index = match segment.load_index(&self.io, &self.pool, &self.dir, interval).await {
            Ok(()) => segment.index.take(),
            // Damage below the point is met again by whoever reads there.
            Err(error @ PlanError::Corrupt { .. }) => {
                recovery.damage.push(error.to_string());
                None
            }
            Err(_) => None,
        };
        let mut index = index.unwrap_or_default();
        if segment.producers.is_none() {
            let path = self.dir.join(segment.id().index_name());
            let bytes = read_file(&self.io, &path).await?.unwrap_or_default();
            segment.producers = Index::decode(&bytes, from, segment.id().seal(&self.dir)).producers;
        }
        let mut scan = Scan::new(file.clone(), from, length);
        let bad: Option<Bad> = loop {
            let (position, base) = (scan.position(), chain.next);
            match scan.next(chain).await? {
                Found::Batch(header) => {
                    index.note(segment.relative(base), position, segment.max_timestamp, interval);
                    segment.max_timestamp = segment.max_timestamp.max(header.max_timestamp());
                    self.epochs.begin(header.leader_epoch(), base);
                    self.producers.apply(&header, self.io.now());
                }
                Found::End => break None,
                Found::Bad(bad) => {
                    probe::hit(match bad {
                        Bad::Structure(_) | Bad::Size(_) => Probe::TailTorn,
                        Bad::Checksum => Probe::TailChecksum,
                        Bad::Offset { .. } | Bad::Epoch { .. } => Probe::TailStranger,
                    });
                    break Some(bad);
                }
            }
        };
        let size = scan.position();
        drop(scan);
        segment.end = chain.next;
        segment.appended_ms = self.io.wall().0;
        segment.size = size;
        segment.allocated = size;
        if let Some(bad) = &bad {
            let file = segment.id().log_name();
            tracing::warn!(dir = %self.dir.display(), "{file} ends at byte {size}: {bad}");
            recovery.cut_bytes += length - size;
        }
        if size > from {
            probe::hit(Probe::TailKept);
        }
        if length > size && bad.is_none() {
            probe::hit(Probe::TailZeros);
        }
        recovery.kept_bytes += size - from;
        rewrite(&file, &self.pool, from, size).await?;
        if length > size {
            file.truncate(size).await?;
        }
        file.sync().await?;
        // A stale index must not come back once something else was appended here.
        index.forget_file();
        let (at, bytes) =
            index.save(size, segment.producers.take().as_deref(), segment.id().seal(&self.dir));
        *segment.index.get_mut() = Some(index);
        let job = IndexJob { id: segment.id(), at, bytes };
        replace_index(&self.io, &self.dir, job).await?;
        Ok(())
    }

    /// Leaves a checkpoint, so that the next recovery is short; it is not needed for safety.
    async fn save_recovered(&mut self) {
        let (job, saved) = self.job_at_end();
        self.saved = saved;
        if let Err(error) = self.saver.save(job).await {
            probe::hit(Probe::CheckpointLost);
            tracing::warn!(dir = %self.dir.display(), %error, "no checkpoint after recovery");
        }
    }
}

/// Writes a range again as it is. After a failed flush the page cache may hold it as clean while
/// the disk does not have it; then only new writes make a flush flush it.
async fn rewrite<F: File>(file: &F, pool: &Pool, from: u64, to: u64) -> io::Result<()> {
    const CHUNK_BYTES: u64 = 1 << 20;
    let mut position = from;
    while position < to {
        let chunk = pool.take((to - position).min(CHUNK_BYTES) as usize);
        let (result, chunk): (_, Buf) = fill_at(file, chunk, position).await;
        result?;
        let length = chunk.len() as u64;
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        write_all_at(file, vec![chunk], position).await.0?;
        position += length;
    }
    Ok(())
}
