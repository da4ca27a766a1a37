//! One partition's log: segments of record batches on a disk, and what is known about them.
//!
//! A [`Log`] is owned by one task on one core; nobody else touches its folder. It appends batches
//! as received (offset and epoch stamped), plans reads as slices of files, flushes by tickets that
//! run beside appends ([`Flush`]), is compacted beside them ([`Compaction`]), and recovers after a
//! crash. `docs/format.md` draws every byte.
//!
//! Keeps:
//! * LOG-1: start <= flushed end <= end.
//! * LOG-2: the bytes of a file below its end never change and never move until a truncation;
//!   compaction puts other files in the place of old ones.
//! * LOG-3: everything below the flushed end survives a power loss.
//! * LOG-4: everything below a checkpoint's point was flushed before it was written.
//!
//! It knows nothing of clients, leadership or replicas.

mod append;
mod bytes;
mod checkpoint;
mod commit;
mod compact;
mod config;
mod dump;
mod epoch;
mod fate;
mod fault;
mod index;
mod offset;
mod producer;
mod recover;
mod retain;
mod scan;
mod segment;
mod slice;
mod time;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

use crate::id::{LeaderEpoch, Offset, ProducerId};
use crate::io::{self, Buf, Instant, Io, Pool, Wall};
use crate::probe::{self, Probe};

use append::Meta;
use checkpoint::{Checkpoint, IndexJob, Job, Row, Saver};
use commit::Dirty;
use epoch::Epochs;
use offset::Offsets;
use producer::{Producer, Producers};
use segment::Segment;
use slice::Recent;

pub use commit::{Flush, Flushed};
pub use compact::{Compacted, Compaction, Pace, Stop};
pub use config::{Config, Durability};
pub use dump::{Item, Problem, Report, Severity, dump, verify};
pub use fate::{Fate, Fates, Rule};
pub use fault::{AppendError, ChangeError, OpenError, PlanError, Poisoned};
pub use producer::ProducerSeen;
pub use recover::{Recovery, purge};
pub use scan::Bad;
pub use slice::{First, Plan, Slice, Slices};

/// One partition's log. See the module's head.
pub struct Log<I: Io> {
    io: I,
    pool: Pool,
    dir: PathBuf,
    config: Config,
    /// In order of base offset, without gaps. The last one is appended to unless `closed`.
    segments: Vec<Segment<I::File>>,
    /// The next append begins a new segment.
    closed: bool,
    offsets: Offsets,
    epochs: Epochs,
    producers: Producers,
    recent: RefCell<Recent>,
    uses: Cell<u64>,
    dirt: Dirt<I::File>,
    ticket: Option<Ticket>,
    saver: Rc<Saver<I>>,
    saved: Saved,
    jobs: u64,
    /// COMPACT-1: below, every key has one record at most.
    compacted: Offset,
    compaction: compact::State,
    /// Bytes appended by this process: how much use there is to allocate ahead for.
    appended_bytes: u64,
    can_allocate: bool,
    failure: Option<String>,
    scratch: Scratch,
}

/// What is not flushed and not in a ticket.
struct Dirt<F> {
    /// Closed segments.
    closed: Vec<Dirty<F>>,
    /// The segment that is appended to.
    active: bool,
    /// Names in the folder.
    names: bool,
    bytes: u64,
    /// Bytes appended since the system was last told to begin to write them to the disk, and when
    /// that was.
    kept_back: u64,
    written_back: Instant,
    /// Wall time of the first append since the last ticket.
    since: Option<Wall>,
}

/// The ticket that is out.
struct Ticket {
    /// What its success makes durable; a truncation lowers it.
    end: Offset,
    /// A checkpoint that becomes true with it.
    job: Option<(Job, Saved)>,
}

/// What the last checkpoint says beside what the log itself knows. It is true from the moment it
/// is made, whether or not it reached the disk: [`Saver::written`] tells.
#[derive(Clone)]
struct Saved {
    point: Offset,
    /// The last segment as of the point; `None` if there was none.
    row: Option<Row>,
    epochs: Epochs,
    producers: Vec<u8>,
    /// Bytes of batches appended since.
    bytes_since: u64,
    at: Instant,
}

/// Memory that appends use again.
#[derive(Default)]
struct Scratch {
    bufs: Vec<Buf>,
    metas: Vec<Meta>,
    undo: Vec<(ProducerId, Option<Producer>)>,
}

/// Where a batch came to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base: Offset,
    /// The offset of its last record.
    pub last: Offset,
    /// The broker's time given to its records in milliseconds, or -1 if they kept their own.
    pub append_time_ms: i64,
    /// It was there already (KIP-98): nothing was written, and these are its original offsets,
    /// which may still wait for a flush.
    pub duplicate: bool,
}

impl<I: Io> Log<I> {
    /// A ticket for everything that is not flushed. `None` if there is nothing, if a ticket is
    /// still out, or if the log is poisoned: ask again after [`Log::flushed`].
    pub fn flush(&mut self) -> Option<Flush<I>> {
        let clean = self.dirt.closed.is_empty() && !self.dirt.active && !self.dirt.names;
        if clean || self.ticket.is_some() || self.failure.is_some() {
            return None;
        }
        let mut files = std::mem::take(&mut self.dirt.closed);
        if self.dirt.active {
            let active = self.segments.last().expect("an active segment is dirty");
            let file = active.file.borrow().clone().expect("the active segment is open");
            files.push(Dirty { base: active.base, file, cut: None });
        }
        let dir = self.dirt.names.then(|| self.dir.clone());
        let bytes = std::mem::take(&mut self.dirt.bytes);
        self.dirt.active = false;
        self.dirt.names = false;
        self.dirt.since = None;
        let job = self.checkpoint_due().then(|| self.job_at_end());
        self.ticket = Some(Ticket { end: self.end(), job });
        Some(Flush { io: self.io.clone(), files, dir, bytes })
    }

    /// Whether something was appended that no ticket covers.
    pub fn is_dirty(&self) -> bool {
        self.dirt.active
    }

    /// Whether a ticket is out whose outcome matters.
    pub fn is_flushing(&self) -> bool {
        self.ticket.is_some() && self.failure.is_none()
    }

    /// Whether policy wants a flush now: always while something is unflushed with
    /// [`Durability::Flushed`]; by count, age or dirty bytes otherwise.
    pub fn flush_due(&self, now: impl FnOnce() -> Wall) -> bool {
        if self.dirt.names || !self.dirt.closed.is_empty() {
            return true;
        }
        let records = self.end().0 - self.flushed_end().0;
        let age = || self.dirt.since.map_or(0, |since| now().0.saturating_sub(since.0));
        match self.config.durability {
            Durability::Flushed => self.dirt.active,
            Durability::PageCache => {
                let due = self.dirt.active
                    && (records >= self.config.flush_messages
                        || self.dirt.bytes >= crate::limit::DIRTY_BYTES_PER_LOG_MAX
                        || age() >= self.flush_within_ms());
                if due {
                    probe::hit(Probe::PageCacheFlush);
                }
                due
            }
        }
    }

    /// Applies a ticket's outcome and returns the new flushed end. A failure poisons the log.
    pub fn flushed(&mut self, outcome: Flushed) -> Result<Offset, Poisoned> {
        self.usable()?;
        let ticket = self.ticket.take().expect("an outcome belongs to the ticket that is out");
        if let Err(error) = outcome.result {
            probe::hit(Probe::FlushFailed);
            return Err(self.poison("a flush", &error));
        }
        if ticket.end < self.end() {
            probe::hit(Probe::FlushOvertaken);
        }
        self.offsets.flush(ticket.end);
        if let Some((job, saved)) = ticket.job {
            probe::hit(Probe::CheckpointByBytes);
            self.saved = Saved { bytes_since: self.saved.bytes_since, ..saved };
            let saver = self.saver.clone();
            self.io.spawn(async move {
                if let Err(error) = saver.save(job).await {
                    probe::hit(Probe::CheckpointLost);
                    tracing::warn!(%error, "a checkpoint was not written; recovery takes longer");
                }
            });
        }
        Ok(self.offsets.flushed())
    }

    /// The first offset that can be read.
    pub fn start(&self) -> Offset {
        self.offsets.start()
    }

    /// The offset that the next record will get.
    pub fn end(&self) -> Offset {
        self.offsets.end()
    }

    /// Everything below is on the disk.
    pub fn flushed_end(&self) -> Offset {
        self.offsets.flushed()
    }

    /// Everything below may be acknowledged and read: the flushed end, or the end with
    /// [`Durability::PageCache`].
    pub fn readable_end(&self) -> Offset {
        match self.config.durability {
            Durability::Flushed => self.offsets.flushed(),
            Durability::PageCache => self.offsets.end(),
        }
    }

    /// What failed, once the log is poisoned.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The largest known epoch that is at most `epoch`, and where it ends (KIP-101, KIP-320):
    /// `(LeaderEpoch::NONE, Offset(-1))` if `epoch` is newer than all known or none. An epoch
    /// older than all known ends where the oldest known begins.
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        self.epochs.end_of(epoch, self.end())
    }

    /// The epoch that began at the log's start or before it, and wrote what stands there now;
    /// [`LeaderEpoch::NONE`] if none is known.
    pub fn start_epoch(&self) -> LeaderEpoch {
        self.epochs.at(self.start())
    }

    /// The newest epoch begun or appended, [`LeaderEpoch::NONE`] if there is none.
    pub fn latest_epoch(&self) -> LeaderEpoch {
        self.epochs.latest()
    }

    /// A leader of `epoch` starts to append at the end. One that is not newer changes nothing.
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch) {
        self.epochs.begin(epoch, self.end());
    }

    /// The settings in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Changes the settings from now on.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// Bytes of batches in all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// Bytes of batches appended since it was opened.
    pub fn appended_bytes(&self) -> u64 {
        self.appended_bytes
    }

    /// Below, every key has one record at most (COMPACT-1).
    pub fn compacted_end(&self) -> Offset {
        self.compacted
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// The idempotent producers that are remembered, in the order of their ids.
    pub fn producers_seen(&self) -> Vec<ProducerSeen> {
        self.producers.seen()
    }

    /// The producer table, encoded as `docs/format.md` draws it; for comparing logs.
    pub fn producer_table(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.producers.encode(&mut out);
        out
    }

    fn usable(&self) -> Result<(), Poisoned> {
        if self.failure.is_some() { Err(Poisoned) } else { Ok(()) }
    }

    /// Takes the log out of use.
    fn poison(&mut self, what: &str, error: &io::Error) -> Poisoned {
        if self.failure.is_none() {
            probe::hit(Probe::LogPoisoned);
            tracing::error!(dir = %self.dir.display(), %error, "{what} failed: the log is offline");
            self.failure = Some(format!("{what} failed: {error}"));
        }
        Poisoned
    }

    /// Whether enough was written since the last checkpoint to pay for a new one.
    fn checkpoint_due(&self) -> bool {
        let written = self.saved.bytes_since;
        let paid = written >= self.config.checkpoint_bytes
            && written >= 4 * self.saved.producers.len() as u64;
        paid || self.compaction_wants_checkpoint()
    }

    /// A checkpoint with the point at the end, true once everything below is flushed.
    fn job_at_end(&mut self) -> (Job, Saved) {
        let saved = Saved {
            point: self.end(),
            row: self.segments.last().map(Segment::row),
            epochs: self.epochs.clone(),
            producers: self.producer_table(),
            bytes_since: 0,
            at: self.io.now(),
        };
        self.saved.bytes_since = 0;
        let index = match self.segments.last_mut() {
            Some(active) if !self.closed => {
                let (id, size) = (active.id(), active.size);
                let producers = active.producers.take();
                active.index.get_mut().as_mut().map(|index| {
                    let (at, bytes) = index.save(size, producers.as_deref(), id.seal(&self.dir));
                    IndexJob { id, at, bytes }
                })
            }
            _ => None,
        };
        let checkpoint = self.checkpoint(&saved, self.start()).encode();
        self.jobs += 1;
        (Job { number: self.jobs, point: saved.point, index, checkpoint }, saved)
    }

    /// The checkpoint with the point of `saved` and this start.
    fn checkpoint(&self, saved: &Saved, start: Offset) -> Checkpoint {
        let before = |row: &Row| saved.row.is_some_and(|last| row.base < last.base);
        let rows = self.segments.iter().map(Segment::row).take_while(before).collect();
        let mut rows = self.compaction.named(rows);
        rows.extend(saved.row);
        let mut epochs = saved.epochs.clone();
        epochs.advance(start);
        Checkpoint {
            start,
            point: saved.point,
            compacted: self.compacted.min(saved.point),
            rows,
            epochs: epochs.entries().to_vec(),
            producers: saved.producers.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
