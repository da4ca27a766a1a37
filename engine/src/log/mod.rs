//! One partition's log: segments of record batches on a disk, and what is known about them.
//!
//! A [`Log`] is owned by one task on one core; nobody else touches its folder. It appends batches
//! as received (offset and epoch stamped), plans reads as slices of files, flushes by tickets that
//! run beside appends ([`Flush`]), and recovers after a crash. `docs/format.md` draws every byte.
//! It knows nothing of clients, leadership or replicas.

mod commit;
mod config;
mod fault;
mod slice;

use std::path::Path;

use crate::id::{LeaderEpoch, Offset};
use crate::io::{Buf, Io, Pool, Wall};

pub use commit::{Committer, Flush, Flushed};
pub use config::{Config, Durability};
pub use fault::{AppendError, ChangeError, OpenError, PlanError, Poisoned};
pub use slice::{First, Plan, Slice};

/// One partition's log. See the module's head.
pub struct Log<I: Io> {
    io: I,
    config: Config,
}

/// What opening a log found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The folder was made new.
    pub created: bool,
    /// Nothing had been written since the last checkpoint: the log was closed cleanly.
    pub clean: bool,
    /// Bytes of batches behind the last checkpoint that were verified and kept.
    pub kept_bytes: u64,
    /// Bytes behind the last good batch that were cut: never acknowledged as flushed.
    pub cut_bytes: u64,
    /// Damage below the last checkpoint, in words. It is not served and not cut.
    pub damage: Vec<String>,
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
    /// Opens the log in `dir`, making the folder if it is missing (its parent must exist), and
    /// recovers it otherwise: what lies behind the last checkpoint is verified, cut at the first
    /// bad batch, and flushed.
    pub async fn open(
        io: &I,
        pool: &Pool,
        dir: &Path,
        config: Config,
    ) -> Result<(Log<I>, Recovery), OpenError> {
        let _ = (pool, dir);
        Ok((Log { io: io.clone(), config }, Recovery::default()))
    }

    /// Appends `batches`, each exactly one verified batch, in order, stamped with their offsets
    /// and `epoch` (not below [`Log::latest_epoch`]). One answer for each. What was accepted is
    /// written with one call per segment; it is readable and durable by [`Log::readable_end`].
    pub async fn append(
        &mut self,
        batches: Vec<Buf>,
        epoch: LeaderEpoch,
        now: Wall,
    ) -> Vec<Result<Appended, AppendError>> {
        let _ = (epoch, now, &self.io);
        batches.iter().map(|_| Err(AppendError::Poisoned)).collect()
    }

    /// A ticket for everything that is not flushed. `None` if there is nothing, if a ticket is
    /// still out, or if the log is poisoned: ask again after [`Log::flushed`].
    pub fn flush(&mut self) -> Option<Flush<I>> {
        None
    }

    /// Whether policy wants a flush now: always while something is unflushed in
    /// [`Durability::Flushed`]; by count, age or dirty bytes otherwise.
    pub fn flush_due(&self, now: Wall) -> bool {
        let _ = now;
        false
    }

    /// Applies a ticket's outcome and returns the new flushed end. A failure poisons the log.
    pub fn flushed(&mut self, outcome: Flushed) -> Result<Offset, Poisoned> {
        outcome.result.map(|()| outcome.receipt.end).map_err(|_| Poisoned)
    }

    /// The first offset that can be read.
    pub fn start(&self) -> Offset {
        Offset(0)
    }

    /// The offset that the next record will get.
    pub fn end(&self) -> Offset {
        Offset(0)
    }

    /// Everything below is on the disk.
    pub fn flushed_end(&self) -> Offset {
        Offset(0)
    }

    /// Everything below may be acknowledged and read: the flushed end, or the end with
    /// [`Durability::PageCache`].
    pub fn readable_end(&self) -> Offset {
        Offset(0)
    }

    /// What failed, once the log is poisoned.
    pub fn failure(&self) -> Option<&str> {
        None
    }

    /// Whole batches from the one that contains `from` on, all of them below `bound` (at most the
    /// end), of at most `max_bytes` together but for `first`. Empty when `from` is the bound.
    pub async fn plan(
        &self,
        from: Offset,
        bound: Offset,
        max_bytes: u64,
        first: First,
    ) -> Result<Plan<I::File>, PlanError> {
        let _ = (from, bound, max_bytes, first);
        Ok(Plan::default())
    }

    /// The first record below `bound` whose timestamp is at least `ms`: its offset, timestamp and
    /// leader epoch (KIP-79).
    pub async fn offset_for_time(
        &self,
        ms: i64,
        bound: Offset,
    ) -> Result<Option<(Offset, i64, LeaderEpoch)>, PlanError> {
        let _ = (ms, bound);
        Ok(None)
    }

    /// The first record below `bound` with the largest timestamp: its offset, timestamp and leader
    /// epoch (KIP-734).
    pub async fn max_timestamp(
        &self,
        bound: Offset,
    ) -> Result<Option<(Offset, i64, LeaderEpoch)>, PlanError> {
        let _ = bound;
        Ok(None)
    }

    /// The largest known epoch that is at most `epoch`, and where it ends (KIP-101, KIP-320):
    /// `(LeaderEpoch::NONE, Offset(-1))` if `epoch` is newer than all known or none.
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let _ = epoch;
        (LeaderEpoch::NONE, Offset(-1))
    }

    /// The newest epoch begun or appended, [`LeaderEpoch::NONE`] if there is none.
    pub fn latest_epoch(&self) -> LeaderEpoch {
        LeaderEpoch::NONE
    }

    /// A leader of `epoch` starts to append at the end.
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch) {
        let _ = epoch;
    }

    /// Closes a segment that is old enough, removes what retention gives up, forgets silent
    /// producers. Call it about when [`Log::next_tick_ms`] says.
    pub async fn tick(&mut self, now: Wall) -> Result<(), Poisoned> {
        let _ = now;
        Ok(())
    }

    /// In how many milliseconds [`Log::tick`] may have something to do; at most five minutes.
    pub fn next_tick_ms(&self, now: Wall) -> i64 {
        let _ = now;
        300_000
    }

    /// Removes everything from `to` on (a batch that contains `to` goes whole), durably. Below the
    /// start it empties the log, which then starts at `to`.
    pub async fn truncate(&mut self, to: Offset) -> Result<(), ChangeError> {
        let _ = to;
        Ok(())
    }

    /// Raises the start to `to`, durably, and removes segments that are wholly below it
    /// (DeleteRecords). A `to` at or below the start changes nothing.
    pub async fn advance_start(&mut self, to: Offset) -> Result<(), ChangeError> {
        let _ = to;
        Ok(())
    }

    /// Flushes, gives back what was allocated ahead and leaves a checkpoint, so that the next open
    /// has nothing to verify. A poisoned log, or one with a ticket out, closes as after a crash.
    pub async fn close(self) -> Result<(), Poisoned> {
        Ok(())
    }

    /// Removes the log and its folder. Slices of it stay readable while they are held.
    pub async fn delete(self) -> Result<(), ChangeError> {
        Ok(())
    }

    /// Changes the settings from now on.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// Bytes of batches in all segments.
    pub fn size_bytes(&self) -> u64 {
        0
    }
}
