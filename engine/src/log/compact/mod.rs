//! Compaction: of each key only the last record is kept (KIP-58, KIP-354, KIP-534).
//!
//! A [`Compaction`] is one pass over a log, from its start to the last segment that may be touched.
//! It borrows nothing of the log: it reads closed, flushed segments by name and writes new files
//! beside them, at its own [`Pace`] ([`copy`]). After each new file the owner of the log takes it
//! in ([`Log::compacted`]), which only changes what is known in memory and saves a checkpoint: the
//! checkpoint names the files that are the log, so that replacing it is the swap. Files that were
//! replaced stay until a checkpoint without them is on the disk, and readers keep what they hold.
//!
//! Keeps:
//! * COMPACT-1: below `compacted` every key has one record at most.
//! * COMPACT-2: the newest record of a key goes only if it is a tombstone whose delete horizon has
//!   passed, and by then nothing older of the key is left. Therefore a pass goes from low to high
//!   offsets, ends at the first thing that does not go as expected, and gives tombstones a horizon
//!   only below what it has mapped. A log whose end was cut takes in nothing of a pass that was
//!   begun before: what made older records needless may be gone.
//! * Offsets, producers' last sequences and the table of leader epochs stay what they were. The last
//!   batch of a segment stays, emptied if need be, so that readers get to the end.
//!
//! What belongs to a transaction is not touched, and nothing behind it is.

mod copy;
mod map;

use std::cell::Cell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::checkpoint::{Job, Row};
use super::index::FileId;
use super::segment::Segment;
use super::{Config, Log};
use crate::id::Offset;
use crate::io::{self, Instant, Io, Wall};
use crate::limit::COMPACTION_FAILED_PAUSE;
use crate::probe::{self, Probe};

use copy::Lasts;
use map::OffsetMap;

/// How fast a compaction may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Bytes that it reads in a second at most (`log.cleaner.io.max.bytes.per.second`).
    pub bytes_per_second: u64,
}

impl Default for Pace {
    /// As fast as half of a core goes.
    fn default() -> Self {
        Pace { bytes_per_second: u64::MAX }
    }
}

impl Pace {
    /// How long to rest after reading `bytes` in `took`: at least as long as the work took, so
    /// that half of the core is left at any time.
    fn rest(&self, bytes: usize, took: Duration) -> Duration {
        const REST_MIN: Duration = Duration::from_micros(200);
        let due = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.max(1) as f64);
        took.max(due.saturating_sub(took)).max(REST_MIN)
    }
}

/// What a log knows of its compactions beside what is on the disk.
#[derive(Default)]
pub(super) struct State {
    /// One is out.
    running: bool,
    /// The highest generation that may have been used.
    generation: u32,
    /// How often the log's end was cut: what made older records needless may have gone with it.
    cuts: u64,
    /// Files that were replaced, and the number of the checkpoint that no longer names them.
    replaced: VecDeque<(u64, FileId)>,
    /// Bytes that should be good are not: no more compaction until the log is opened again.
    blocked: bool,
    /// The last pass did not come to its end; the next one waits until then.
    retry_at: Option<Instant>,
}

impl State {
    /// The log's end is cut: no pass under way is right any more.
    pub(super) fn cut(&mut self) {
        self.cuts += 1;
    }

    /// Whether one is out.
    pub(super) fn is_running(&self) -> bool {
        self.running
    }

    /// The log was opened, and files up to this generation were found.
    pub(super) fn begin(&mut self, generation: Option<u32>) {
        self.generation = self.generation.max(generation.unwrap_or(0));
    }
}

/// One pass under way; see the module's head. Run it, and give the outcome to
/// [`Log::compacted`], until that returns `None`.
#[must_use = "a log gives out one at a time"]
pub struct Compaction<I: Io> {
    io: I,
    dir: PathBuf,
    config: Config,
    /// What is still to be rewritten, in order.
    rows: VecDeque<Row>,
    /// Records below are not kept.
    start: Offset,
    /// Below, the keys are unique already.
    dirty: Offset,
    /// Nothing from here on is touched.
    limit: Offset,
    now_ms: i64,
    lasts: Lasts,
    map: OffsetMap,
    /// Up to where the map goes, once it is filled.
    mapped: Option<Offset>,
    generation: u32,
    /// As of its begin; see [`State`].
    cuts: u64,
    stopped: Rc<Cell<bool>>,
}

/// How one step of a [`Compaction`] ended.
#[must_use = "the log learns the outcome from it"]
pub struct Compacted<I: Io> {
    compaction: Compaction<I>,
    outcome: Result<Option<Replacement>, Failure>,
}

/// A file in the place of others.
struct Replacement {
    sources: Vec<Row>,
    row: Row,
}

/// Why a pass does not go on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The log has changed meanwhile, or is being closed.
    #[error("the log has changed meanwhile")]
    Overtaken,
    /// Bytes that were flushed are not what was written.
    #[error("a segment is damaged")]
    Corrupt,
    #[error("{0}")]
    Storage(#[from] io::Error),
}

/// Ends a [`Compaction`] at its next batch, from outside.
#[derive(Clone, Debug)]
pub struct Stop(Rc<Cell<bool>>);

impl Stop {
    /// Do not go on.
    pub fn stop(&self) {
        self.0.set(true);
    }
}

impl<I: Io> Compaction<I> {
    /// What ends it.
    pub fn stop(&self) -> Stop {
        Stop(self.stopped.clone())
    }

    /// Does the next step: writes one segment, durably.
    pub async fn run(mut self, pace: &Pace) -> Compacted<I> {
        let outcome = self.next(pace).await;
        Compacted { compaction: self, outcome }
    }
}

/// What a pass would work on.
struct Range {
    /// How many segments, from the first on.
    count: usize,
    limit: Offset,
    clean_bytes: u64,
    dirty_bytes: u64,
    /// The oldest time of what is not compacted.
    oldest_ms: i64,
}

impl<I: Io> Log<I> {
    /// Whether policy wants a compaction now.
    pub fn compaction_due(&self, now: Wall) -> bool {
        let Some(range) = self.compactable(now) else { return false };
        let waits = self.compaction.retry_at.is_some_and(|at| self.io.now() < at);
        let overdue = now.0.saturating_sub(range.oldest_ms) > self.config.max_compaction_lag_ms;
        let all = (range.clean_bytes + range.dirty_bytes) as f64;
        let ratio = range.dirty_bytes as f64 / all;
        !waits && (overdue || ratio > self.config.min_dirty_ratio)
    }

    /// A pass over all that may be compacted. `None` if there is nothing, or one is out.
    pub fn compact(&mut self, now: Wall) -> Option<Compaction<I>> {
        let range = self.compactable(now)?;
        self.compaction.running = true;
        self.compaction.generation += 1;
        let rows = self.segments[..range.count].iter().map(Segment::row).collect();
        Some(Compaction {
            io: self.io.clone(),
            dir: self.dir.clone(),
            config: self.config.clone(),
            rows,
            start: self.start(),
            dirty: self.compacted.max(self.start()),
            limit: range.limit,
            now_ms: now.0,
            lasts: self.producers.last_bases(),
            map: copy::map(&self.io, self.config.compaction_memory_bytes),
            mapped: None,
            generation: self.compaction.generation,
            cuts: self.compaction.cuts,
            stopped: Rc::default(),
        })
    }

    /// Takes in a step of a compaction; the rest of it, if there is one.
    pub fn compacted(&mut self, compacted: Compacted<I>) -> Option<Compaction<I>> {
        let Compacted { compaction, outcome } = compacted;
        assert!(self.compaction.running, "an outcome belongs to the compaction that is out");
        let is_cut = compaction.cuts != self.compaction.cuts;
        let outcome = outcome.and_then(|replacement| match replacement {
            _ if is_cut => Err(Failure::Overtaken),
            Some(replacement) => self.replace(replacement).map(|()| true),
            None => Ok(false),
        });
        match outcome {
            Ok(true) => return Some(compaction),
            Ok(false) => self.pass_ended(compaction.mapped.expect("a pass that ended has mapped")),
            Err(failure) => self.pass_failed(&failure),
        }
        self.compaction.running = false;
        None
    }

    /// Removes files that were replaced, once no checkpoint on the disk may name them.
    pub(super) async fn remove_replaced(&mut self) -> io::Result<()> {
        let written = self.saver.number();
        while let Some(&(number, id)) = self.compaction.replaced.front() {
            if number > written {
                break;
            }
            probe::hit(Probe::ReplacedRemoved);
            self.remove_files(id).await?;
            self.compaction.replaced.pop_front();
        }
        Ok(())
    }

    /// In how many milliseconds there may be something to do for compaction.
    pub(super) fn compaction_tick_ms(&self) -> Option<i64> {
        const REPLACED_MS: i64 = 1000;
        if !self.compaction.replaced.is_empty() {
            return Some(REPLACED_MS);
        }
        let waits = self.config.compact
            && self.segments.len() > 1
            && self.segments[self.segments.len() - 2].end > self.compacted;
        waits.then_some(self.config.compaction_backoff_ms)
    }

    /// Whether a new checkpoint would let compaction get at more.
    pub(super) fn compaction_wants_checkpoint(&self) -> bool {
        let last = self.segments.last().map(|last| last.base);
        self.config.compact && self.saved.row.map(|row| row.base) < last
    }

    /// What may be compacted: whole segments, never the last, that the checkpoint speaks of in
    /// their final form, old enough, and without an open transaction.
    fn compactable(&self, now: Wall) -> Option<Range> {
        let free = self.config.compact
            && !self.compaction.running
            && !self.compaction.blocked
            && self.failure.is_none();
        let saved = self.saved.row.filter(|_| free)?;
        let open = self.producers.first_open().unwrap_or(Offset(i64::MAX));
        let mut range = Range {
            count: 0,
            limit: self.compacted,
            clean_bytes: 0,
            dirty_bytes: 0,
            oldest_ms: i64::MAX,
        };
        for segment in &self.segments {
            let is_dirty = segment.end > self.compacted;
            let age = now.0.saturating_sub(super::retain::newest_ms(segment));
            let young = is_dirty && age < self.config.min_compaction_lag_ms;
            if segment.base >= saved.base || segment.base >= open || young {
                break;
            }
            if segment.damage.get().is_some() {
                return None;
            }
            if is_dirty {
                range.dirty_bytes += segment.size;
                range.oldest_ms = range.oldest_ms.min(segment.created_ms);
            } else {
                range.clean_bytes += segment.size;
            }
            range.count += 1;
            range.limit = segment.end.min(open);
        }
        (range.dirty_bytes > 0 && range.limit > self.compacted).then_some(range)
    }

    /// A new segment takes the place of its sources, if they are still there.
    fn replace(&mut self, replacement: Replacement) -> Result<(), Failure> {
        let Replacement { sources, row } = replacement;
        let count = sources.len();
        let first = self.segments.iter().position(|segment| segment.base == row.base);
        let first = first.ok_or(Failure::Overtaken)?;
        let there = self.segments[first..].iter().map(Segment::row).take(count);
        if self.failure.is_some() || !there.eq(sources.iter().copied()) {
            return Err(Failure::Overtaken);
        }
        assert!(row.end <= self.saved.point, "LOG-4: compacted behind the checkpoint's point");
        self.segments.splice(first..first + count, [Segment::known(row)]);
        probe::hit(if count > 1 { Probe::CompactedTogether } else { Probe::Compacted });
        self.recent.get_mut().replaced();
        self.dirt.closed.retain(|dirty| !sources.iter().any(|row| row.base == dirty.base));
        let number = self.save_compaction();
        self.compaction.replaced.extend(sources.iter().map(|row| (number, row.id())));
        Ok(())
    }

    /// Saves a checkpoint beside whatever else goes on, and returns its number.
    fn save_compaction(&mut self) -> u64 {
        self.jobs += 1;
        let number = self.jobs;
        let checkpoint = self.checkpoint(&self.saved, self.start()).encode();
        let job = Job { number, point: self.saved.point, index: None, checkpoint };
        let saver = self.saver.clone();
        self.io.spawn(async move {
            if let Err(error) = saver.save(job).await {
                tracing::warn!(%error, "what compaction saved stays on the disk twice for now");
            }
        });
        number
    }

    fn pass_ended(&mut self, mapped: Offset) {
        let got_on = mapped > self.compacted;
        self.compaction.retry_at = (!got_on).then(|| self.retry_at());
        if got_on {
            self.compacted = mapped.min(self.end());
            self.save_compaction();
        }
    }

    fn pass_failed(&mut self, failure: &Failure) {
        let retry_at = self.retry_at();
        self.compaction.retry_at = Some(retry_at);
        match failure {
            Failure::Overtaken => probe::hit(Probe::CompactionOvertaken),
            Failure::Storage(error) => {
                // Nor is a disk that fails, or is full, asked at once again without a backoff.
                let rested = self.io.now().after(COMPACTION_FAILED_PAUSE);
                self.compaction.retry_at = Some(retry_at.max(rested));
                probe::hit(Probe::CompactionFailed);
                tracing::warn!(dir = %self.dir.display(), %error, "compaction will try again");
            }
            Failure::Corrupt => {
                probe::hit(Probe::CompactionBlocked);
                self.compaction.blocked = true;
                tracing::error!(dir = %self.dir.display(),
                    "compaction met damaged bytes and leaves this log alone until a restart");
            }
        }
    }

    fn retry_at(&self) -> Instant {
        let backoff = u64::try_from(self.config.compaction_backoff_ms).unwrap_or(0);
        self.io.now().after(Duration::from_millis(backoff))
    }
}
