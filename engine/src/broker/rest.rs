//! Partitions at rest: their logs are closed, and what is left of each is a row in its core's table.
//!
//! A partition rests when nobody has asked it for anything for `trialog.partition.idle.ms`, or when
//! more are open than may be. It costs no task, no timer, no descriptor. What can be said without
//! its log is answered from the row: where it begins and ends, how large it is, and that there is
//! nothing to read at its end, where consumers wait. Anything else wakes it: its log is opened, which finds it as it was
//! closed.
//!
//! Keeps: REST-1, a partition at rest has nothing that is not flushed, and its row says where its log
//! ends. Lives on the partition's core.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::ask::{Ask, Fetch, Fetched, FoundOffset};
use super::clean::Stand;
use super::gauge::Gauge;
use super::partition::timestamp;
use super::shard::{self, Key};
use super::wait::Parked;
use super::{Core, partition};
use crate::id::LeaderEpoch;
use crate::io::{Io, Wall};
use crate::limit::{
    RELEASE_INTERVAL_MIN, RELEASE_PUT_OFF_MAX, RELEASE_QUIET, RESTED_BEFORE_RELEASE_MIN,
};
use crate::probe::{self, Probe};
use crate::wire::code::ErrorCode;

/// A partition whose log is closed.
pub struct Resting {
    /// Where it stands.
    pub stand: Stand,
    /// The epoch of its leader, this broker.
    pub epoch: LeaderEpoch,
    /// Fetches that wait at its end.
    pub parked: Parked,
    /// Stays as it was.
    pub gauge: Gauge,
}

impl Resting {
    /// Answers what needs no log; gives everything else back.
    pub fn answer<F>(&mut self, ask: Ask<F>) -> Option<Ask<F>> {
        let current = |epoch| epoch == LeaderEpoch::NONE || epoch == self.epoch;
        match ask {
            Ask::Fetch(fetch) if self.is_at_end(&fetch) => {
                probe::hit(Probe::RestFetched);
                if let Some(wait) = &fetch.wait {
                    self.parked.park(wait);
                }
                fetch.answer.send(Fetched {
                    high_watermark: self.stand.end,
                    start: self.stand.start,
                    leader_epoch: self.epoch,
                    ..Fetched::failed(ErrorCode::None)
                });
            }
            Ask::Offset { timestamp: timestamp::LATEST, leader_epoch, answer }
                if current(leader_epoch) =>
            {
                probe::hit(Probe::RestAnswered);
                let (offset, leader_epoch) = (self.stand.end, self.epoch);
                let _ = answer.send(Ok(FoundOffset { offset, timestamp: -1, leader_epoch }));
            }
            Ask::Offset {
                timestamp: timestamp::EARLIEST | timestamp::EARLIEST_LOCAL,
                leader_epoch,
                answer,
            } if current(leader_epoch) => {
                probe::hit(Probe::RestAnswered);
                let (offset, leader_epoch) = (self.stand.start, LeaderEpoch::NONE);
                let _ = answer.send(Ok(FoundOffset { offset, timestamp: -1, leader_epoch }));
            }
            Ask::Size(answer) => {
                probe::hit(Probe::RestAnswered);
                let _ = answer.send(Ok(self.stand.bytes));
            }
            Ask::Producers(answer) if !self.stand.producers => {
                probe::hit(Probe::RestAnswered);
                let _ = answer.send(Ok(Vec::new()));
            }
            Ask::Ready(answer) => {
                let _ = answer.send(Ok(()));
            }
            Ask::Rest => {}
            other => return Some(other),
        }
        None
    }

    fn is_at_end<F>(&self, fetch: &Fetch<F>) -> bool {
        fetch.from == self.stand.end
            && (fetch.leader_epoch == LeaderEpoch::NONE || fetch.leader_epoch == self.epoch)
            && fetch.last_fetched_epoch == LeaderEpoch::NONE
    }
}

/// When which partition at rest has upkeep to do.
#[derive(Default)]
pub struct Upkeep {
    due: BTreeSet<(Wall, Key)>,
}

impl Upkeep {
    /// The partition rests from now on.
    pub fn add(&mut self, key: Key, stand: &Stand) {
        self.due.extend(stand.due.map(|due| (due, key)));
    }

    /// It does not rest any more.
    pub fn remove(&mut self, key: Key, stand: &Stand) {
        if let Some(due) = stand.due {
            self.due.remove(&(due, key));
        }
    }

    /// It is due now.
    pub fn hurry(&mut self, key: Key, stand: &mut Stand) {
        self.remove(key, stand);
        stand.due = Some(Wall(0));
        self.add(key, stand);
    }

    /// How many milliseconds are left until the first is due.
    fn left(&self, now: Wall) -> Option<i64> {
        self.due.first().map(|(due, _)| due.0.saturating_sub(now.0))
    }

    /// The first if it is due; it is asked for once.
    fn take_due(&mut self, now: Wall) -> Option<Key> {
        let first = self.due.first().filter(|(due, _)| *due <= now)?.1;
        self.due.pop_first();
        Some(first)
    }
}

/// Has the memory of logs that were closed given back once many have been, for all cores. What a
/// partition needs while it is in use comes in pieces between those of others, so that the allocator
/// keeps all of it: it would be used again, but not by anybody else on the machine.
pub async fn release_memory<I: Io>(core: Rc<Core<I>>) {
    let mut stop = core.shared.stop.subscribe();
    let mut rested = core.shared.rested.subscribe();
    let releasing = async {
        let mut released = 0;
        loop {
            let enough = |times: &u64| *times - released >= RESTED_BEFORE_RELEASE_MIN;
            if rested.wait_for(enough).await.is_err() {
                return;
            }
            let mut waited = Duration::ZERO;
            loop {
                let before = *rested.borrow_and_update();
                core.io.sleep(RELEASE_QUIET).await;
                waited += RELEASE_QUIET;
                released = *rested.borrow_and_update();
                if released == before || waited >= RELEASE_PUT_OFF_MAX {
                    break;
                }
            }
            core.io.release_memory();
            core.io.sleep(RELEASE_INTERVAL_MIN).await;
        }
    };
    tokio::select! {
        biased; // Nothing is begun at the end.
        _ = stop.wait_for(|stop| *stop) => {}
        () = releasing => {}
    }
}

/// Wakes partitions at rest when their logs have something to do: segments to remove, or to compact.
/// They rest again when it is done. By the wall clock, looked at every
/// `log.retention.check.interval.ms` at least, because that clock may be set.
pub async fn keep_up<I: Io>(core: Rc<Core<I>>) {
    let mut stop = core.shared.stop.subscribe();
    loop {
        let now = core.io.wall();
        let due = core.shard.upkeep.borrow_mut().take_due(now);
        if let Some(key) = due {
            if *core.shared.stop.borrow() {
                return;
            }
            probe::hit(Probe::WokenForUpkeep);
            let (answer, done) = oneshot::channel();
            shard::deliver(&core, key, Ask::Upkeep(answer)).await;
            // One after another; a partition that fails says so itself.
            let _ = done.await;
            continue;
        }
        let left = core.shard.upkeep.borrow().left(now).map_or(u64::MAX, i64::unsigned_abs);
        let pause = partition::retention_check(&core).min(Duration::from_millis(left));
        tokio::select! {
            biased; // Nothing is begun at the end.
            _ = stop.wait_for(|stop| *stop) => return,
            () = core.shard.hurried.notified() => {}
            () = core.io.sleep(pause) => {}
        }
    }
}
