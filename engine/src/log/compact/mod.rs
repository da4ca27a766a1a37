//! Compaction: of each key only the last record is kept (KIP-58, KIP-354, KIP-534).
//!
//! A [`Compaction`] is one pass over a log, from its start to the last segment that may be touched.
//! It borrows nothing of the log: it reads closed, flushed segments by name and writes new files
//! beside them, at its own [`Pace`] ([`copy`]). The checkpoint names the files that are the log, so
//! that replacing it is the swap: after each new file the owner of the log plans it
//! ([`Log::compacted`]), the pass saves a checkpoint with the new name, and only when that is on the
//! disk does the owner let readers have the new file. Until then, whatever other checkpoint is
//! written names it as well. So a crash never brings back what a reader has seen gone. Readers keep
//! what they hold of files that were replaced.
//!
//! Keeps:
//! * COMPACT-1: below `compacted` every key has one record at most.
//! * COMPACT-2: the newest record of a key goes only if it is a tombstone whose delete horizon has
//!   passed, and by then nothing older of the key is left. Therefore a pass goes from low to high
//!   offsets, ends at the first thing that does not go as expected, and gives tombstones a horizon
//!   only below what it has mapped. A log whose end was cut takes in nothing of a pass that was
//!   begun before: what made older records needless may be gone.
//! * COMPACT-3: readers have a new file only when a checkpoint on the disk names it.
//! * COMPACT-4: nothing is touched from the first segment on with a record that is younger than
//!   `min.compaction.lag.ms`.
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

use super::checkpoint::{Job, Row, Saver};
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
    /// What the checkpoints written from now on name, and readers do not see yet.
    planned: Option<Replacement>,
    /// The file that took the place of others last.
    newest: Option<FileId>,
    /// Files that are not of the log any more, and the number of the first checkpoint that does not
    /// name them.
    replaced: VecDeque<(u64, FileId)>,
    /// Bytes that should be good are not: no more compaction until the log is opened again.
    blocked: bool,
    /// The last pass did not come to its end; the next one waits until then.
    retry_at: Option<Instant>,
}

impl State {
    /// The log's end is cut: no pass under way is right any more. `jobs` checkpoints were made.
    pub(super) fn cut(&mut self, jobs: u64) {
        self.cuts += 1;
        self.abandon(jobs);
    }

    /// What was planned is not to be, whether or not one of `jobs` checkpoints on the disk names it:
    /// it holds the same as what it would have replaced.
    pub(super) fn abandon(&mut self, jobs: u64) {
        if let Some(planned) = self.planned.take() {
            probe::hit(Probe::CompactedAbandoned);
            self.replaced.push_back((jobs + 1, planned.row.id()));
        }
    }

    /// The segments as checkpoints name them.
    pub(super) fn named(&self, mut rows: Vec<Row>) -> Vec<Row> {
        if let Some(Replacement { sources, row }) = &self.planned
            && let Some(first) = rows.windows(sources.len()).position(|rows| rows == sources)
        {
            rows.splice(first..first + sources.len(), [*row]);
        }
        rows
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
    /// The checkpoint that names what was written last.
    save: Option<(Rc<Saver<I>>, Job)>,
    stopped: Rc<Cell<bool>>,
}

/// How one step of a [`Compaction`] ended.
#[must_use = "the log learns the outcome from it"]
pub struct Compacted<I: Io> {
    compaction: Compaction<I>,
    outcome: Result<Step, Failure>,
}

/// What a step did.
enum Step {
    /// Wrote a file, durably; no checkpoint names it.
    Written(Replacement),
    /// Saved a checkpoint that does.
    Saved,
    /// There is nothing left to do.
    Ended,
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

    /// Does the next step: writes one segment, or saves the checkpoint that names it.
    pub async fn run(mut self, pace: &Pace) -> Compacted<I> {
        let outcome = match self.save.take() {
            Some(_) if self.stopped.get() => Err(Failure::Overtaken),
            Some((saver, job)) => match saver.save(job).await {
                Ok(()) => Ok(Step::Saved),
                Err(error) => Err(Failure::Storage(error)),
            },
            None => self.next(pace).await.map(|written| written.map_or(Step::Ended, Step::Written)),
        };
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
    /// Whether policy wants a compaction now. COMPACT-5: it does if anything has waited for too long.
    pub fn compaction_due(&self, now: Wall) -> bool {
        let Some(range) = self.compactable(now) else { return false };
        let waits = self.compaction.retry_at.is_some_and(|at| self.io.now() < at);
        let overdue = now.0.saturating_sub(range.oldest_ms) > self.config.max_compaction_lag_ms;
        let all = (range.clean_bytes + range.dirty_bytes) as f64;
        let is_dirty = range.dirty_bytes as f64 / all > self.config.min_dirty_ratio;
        if !waits && overdue && !is_dirty {
            probe::hit(Probe::CompactionOverdue);
        }
        !waits && (overdue || is_dirty)
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
            save: None,
            stopped: Rc::default(),
        })
    }

    /// The segment that compaction has put in the place of others last since the log was opened: its
    /// base offset, and which pass has written it.
    pub fn newest_compacted(&self) -> Option<(Offset, u32)> {
        self.compaction.newest.map(|id| (id.base, id.generation))
    }

    /// Takes in a step of a compaction; the rest of it, if there is one.
    pub fn compacted(&mut self, compacted: Compacted<I>) -> Option<Compaction<I>> {
        let Compacted { mut compaction, outcome } = compacted;
        assert!(self.compaction.running, "an outcome belongs to the compaction that is out");
        let is_cut = compaction.cuts != self.compaction.cuts;
        let went = match outcome {
            Ok(Step::Written(replacement)) => {
                let id = replacement.row.id();
                let planned =
                    if is_cut { Err(Failure::Overtaken) } else { self.plan_swap(replacement) };
                if planned.is_err() {
                    // No checkpoint names it, and none will.
                    self.compaction.replaced.push_front((0, id));
                }
                planned.map(|job| {
                    compaction.save = Some((self.saver.clone(), job));
                    true
                })
            }
            Ok(_) if is_cut => Err(Failure::Overtaken),
            Ok(Step::Saved) => self.swap().map(|()| true),
            Ok(Step::Ended) => Ok(false),
            Err(failure) => Err(failure),
        };
        match went {
            Ok(true) => return Some(compaction),
            Ok(false) => self.pass_ended(compaction.mapped.expect("a pass that ended has mapped")),
            Err(failure) => {
                self.compaction.abandon(self.jobs);
                self.pass_failed(&failure);
            }
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
            let age = now.0.saturating_sub(segment.newest_ms());
            let lag = self.config.min_compaction_lag_ms;
            // A time that is yet to come holds nothing up where no lag is asked for, as in Kafka.
            let young = is_dirty && lag > 0 && age < lag;
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

    /// From now on checkpoints name a new segment in the place of its sources, if those are still
    /// there. Returns the first of these checkpoints.
    fn plan_swap(&mut self, replacement: Replacement) -> Result<Job, Failure> {
        assert!(replacement.row.end <= self.saved.point, "LOG-4: compacted behind the point");
        self.place_of(&replacement)?;
        self.compaction.planned = Some(replacement);
        Ok(self.compaction_job())
    }

    /// The checkpoint is on the disk: what it names takes the place of its sources.
    fn swap(&mut self) -> Result<(), Failure> {
        let planned = self.compaction.planned.as_ref().expect("planned before it was saved");
        let first = self.place_of(planned)?;
        let Replacement { sources, row } = self.compaction.planned.take().expect("just seen");
        let count = sources.len();
        self.segments.splice(first..first + count, [Segment::known(row)]);
        self.compaction.newest = Some(row.id());
        probe::hit(if count > 1 { Probe::CompactedTogether } else { Probe::Compacted });
        self.recent.get_mut().replaced();
        self.dirt.closed.retain(|dirty| !sources.iter().any(|row| row.base == dirty.base));
        let number = self.saver.number();
        self.compaction.replaced.extend(sources.iter().map(|row| (number, row.id())));
        Ok(())
    }

    /// The number of the first source's segment; they must all be there as they were.
    fn place_of(&self, replacement: &Replacement) -> Result<usize, Failure> {
        let Replacement { sources, row } = replacement;
        let first = self.segments.iter().position(|segment| segment.base == row.base);
        let first = first.ok_or(Failure::Overtaken)?;
        let there = self.segments[first..].iter().map(Segment::row).take(sources.len());
        if self.failure.is_none() && there.eq(sources.iter().copied()) {
            Ok(first)
        } else {
            Err(Failure::Overtaken)
        }
    }

    fn compaction_job(&mut self) -> Job {
        self.jobs += 1;
        let checkpoint = self.checkpoint(&self.saved, self.start()).encode();
        Job { number: self.jobs, point: self.saved.point, index: None, checkpoint }
    }

    fn pass_ended(&mut self, mapped: Offset) {
        let got_on = mapped > self.compacted;
        self.compaction.retry_at = (!got_on).then(|| self.retry_at());
        if got_on {
            self.compacted = mapped.min(self.end());
            let (job, saver) = (self.compaction_job(), self.saver.clone());
            self.io.spawn(async move {
                if let Err(error) = saver.save(job).await {
                    tracing::warn!(%error, "what is compacted already will be looked at again");
                }
            });
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
