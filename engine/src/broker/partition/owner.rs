//! The owner of one partition: the only task that touches its log.
//!
//! It takes what waits in its queue, one thing after the other but for neighbouring produces, keeps at
//! most one flush and one compaction under way beside it, and does the log's upkeep.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::{error, info};

use super::write::{Flushing, Group, Waiting};
use super::{Ended, Unopened, refuse_rest, retention_check};
use crate::broker::ask::Ask;
use crate::broker::clean::Stand;
use crate::broker::compacting::{self, Compacting};
use crate::broker::gauge::Gauge;
use crate::broker::rest::Resting;
use crate::broker::wait::Parked;
use crate::broker::{Core, data};
use crate::id::{LeaderEpoch, Offset, PartitionIndex};
use crate::io::{Instant, Io, Wall};
use crate::limit::GROUP_BATCHES_MAX;
use crate::log::{self, Log};
use crate::machine::Topic;
use crate::probe::{self, Probe};

/// How long after it could not rest an idle partition tries again.
const IDLE_LOOK: Duration = Duration::from_secs(1);

type Turn = Pin<Box<dyn Future<Output = OwnedSemaphorePermit>>>;

pub(super) struct Owner<I: Io> {
    pub(super) core: Rc<Core<I>>,
    pub(super) topic: Arc<Topic>,
    pub(super) index: PartitionIndex,
    pub(super) epoch: LeaderEpoch,
    pub(super) log: Log<I>,
    pub(super) durability: log::Durability,
    pub(super) group: Group,
    /// In the order of their ends.
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) flushing: Option<Flushing>,
    pub(super) compacting: Option<Compacting<I>>,
    pub(super) parked: Parked,
    /// The readable end that parked fetches were last told of, and the log's size then.
    pub(super) reported: Offset,
    pub(super) size_reported: u64,
    pub(super) gauge: Gauge,
    pub(super) tick_at: Instant,
    /// When the log has upkeep to do.
    pub(super) upkeep_at: Instant,
    /// The next tick is computed anew.
    pub(super) rescheduled: bool,
    /// When it was last asked for something; `None` if it was opened only to be looked at.
    pub(super) used: Option<Instant>,
    /// It is to rest, whenever it was used.
    pub(super) rest_asked: bool,
    /// It waits for its turn to rest.
    pub(super) turn: Option<Turn>,
}

impl<I: Io> Owner<I> {
    /// Opens the log of partition `index` of `topic`, which may have rested.
    pub(super) async fn open(
        core: &Rc<Core<I>>,
        topic: &Arc<Topic>,
        index: PartitionIndex,
        mut rested: Option<Resting>,
    ) -> Result<Self, Unopened> {
        let epoch =
            topic.partition(index).map_or(LeaderEpoch(0), |partition| partition.leader_epoch);
        let config = core.topic_config(topic).log(&core.config());
        let durability = config.durability;
        let opened = async {
            let folder = match &rested {
                // Its name is durable since it was opened first.
                Some(_) => data::partition_folder(&core.shared.data, topic, index),
                None => data::prepare_partition(&core.io, &core.shared.data, topic, index)
                    .await
                    .map_err(|error| Unopened::storage(&error))?,
            };
            let opened = Log::open(&core.io, &core.pool, &folder, config).await;
            let (log, recovery) = opened.map_err(|error| Unopened::log(&error))?;
            // No checksum covers the epoch of a batch.
            match log.latest_epoch() {
                latest if latest > epoch => Err(Unopened::ahead(latest, epoch)),
                _ => Ok((log, recovery)),
            }
        };
        let (mut log, recovery) = match opened.await {
            Ok(opened) => opened,
            Err(unopened) => {
                if let Some(rested) = &mut rested {
                    // Fetches that wait at its end are not to wait for ever.
                    rested.parked.wake_all();
                    core.shared.gauges.close((topic.id, index));
                }
                return Err(unopened);
            }
        };
        if !recovery.clean && !recovery.created {
            core.tally.logs_recovered.add(1);
            core.tally.recovered_bytes.add(recovery.kept_bytes + recovery.cut_bytes);
            info!(topic = %topic.name, partition = %index, kept = recovery.kept_bytes,
                cut = recovery.cut_bytes, "recovered");
        }
        for damage in &recovery.damage {
            error!(topic = %topic.name, partition = %index, damage,
                "damaged data; it is neither served nor removed");
        }
        let (gauge, parked) = match rested {
            None => {
                let gauge = core.shared.gauges.make(core.id, topic.name.clone(), epoch, log.end());
                gauge.set(&log, 0);
                core.shared.gauges.open((topic.id, index), gauge.clone());
                (gauge, Parked::default())
            }
            Some(Resting { stand, gauge, parked, .. }) => {
                let (start, end) = (log.start(), log.end());
                if (start, end) != (stand.start, stand.end) {
                    error!(topic = %topic.name, partition = %index, %start, %end,
                        closed_start = %stand.start, closed_end = %stand.end,
                        "the log is not as it was closed: something else has changed its files");
                }
                gauge.set(&log, 0);
                (gauge, parked)
            }
        };
        log.begin_epoch(epoch);
        let reported = log.readable_end();
        let size_reported = log.size_bytes();
        Ok(Owner {
            core: core.clone(),
            topic: topic.clone(),
            index,
            epoch,
            log,
            durability,
            group: Group::default(),
            waiting: VecDeque::new(),
            flushing: None,
            compacting: None,
            parked,
            reported,
            size_reported,
            gauge,
            tick_at: core.io.now().after(retention_check(core)),
            upkeep_at: core.io.now(),
            rescheduled: false,
            used: None,
            rest_asked: false,
            turn: None,
        })
    }

    pub(super) async fn serve(mut self, asks: &mut mpsc::Receiver<Ask<I::File>>) -> Ended {
        let first = self.tick_in();
        let mut tick = Box::pin(self.core.io.sleep(first));
        loop {
            let mut may_rest = false;
            tokio::select! {
                biased; // Finished flushes first: they let others go. Upkeep comes last.
                flushed = or_never(&mut self.flushing) => {
                    self.flushing = None;
                    self.on_flushed(flushed);
                }
                ask = asks.recv() => {
                    let Some(ask) = ask else { return Ended::Closed };
                    if let Some(end) = self.take(ask, asks).await {
                        Box::pin(self.finish(end, asks)).await;
                        return Ended::Closed;
                    }
                }
                compacted = compacting::under_way(&mut self.compacting) => {
                    self.on_compacted(compacted);
                }
                turn = or_never(&mut self.turn) => {
                    self.turn = None;
                    let wanted = std::mem::take(&mut self.rest_asked) || self.is_idle();
                    if wanted && self.has_nothing_to_do(asks) {
                        return Box::pin(self.rest(turn)).await;
                    }
                }
                () = &mut tick => {
                    self.rescheduled = true;
                    may_rest = self.is_idle() && self.has_nothing_to_do(asks);
                    if !may_rest && self.core.io.now() >= self.upkeep_at {
                        Box::pin(self.tick()).await;
                    }
                }
            }
            if may_rest || self.rest_asked {
                if !self.has_nothing_to_do(asks) {
                    self.rest_asked = false;
                } else if self.turn.is_none() {
                    let turn = self.core.rests.clone().acquire_owned();
                    self.turn = Some(Box::pin(async {
                        turn.await.expect("the semaphore is never closed")
                    }));
                }
            }
            self.flush_if_due();
            if std::mem::take(&mut self.rescheduled) {
                let next = self.tick_in();
                tick = Box::pin(self.core.io.sleep(next));
            }
            self.report();
        }
    }

    fn idle_after(&self) -> Duration {
        Duration::from_millis(self.core.shared.config.partition_idle_ms)
    }

    /// Whether nobody has asked it for anything for so long that it may rest.
    fn is_idle(&self) -> bool {
        self.used.is_none_or(|used| self.core.io.now().since(used) >= self.idle_after())
    }

    fn has_nothing_to_do(&self, asks: &mpsc::Receiver<Ask<I::File>>) -> bool {
        self.flushing.is_none()
            && self.compacting.is_none()
            && self.waiting.is_empty()
            && self.log.is_at_rest()
            && self.log.readable_end() == self.log.end()
            // Closing writes.
            && !self.core.shared.room.is_none()
            && asks.is_empty()
    }

    /// Closes the log, while it has its turn. What is asked meanwhile waits in the queue.
    async fn rest(mut self, _turn: OwnedSemaphorePermit) -> Ended {
        let stand = self.stand();
        self.report();
        let Owner { topic, epoch, log, mut parked, gauge, .. } = self;
        parked.shrink();
        let mut resting = Resting { stand, epoch, parked, gauge };
        match log.rest().await {
            Ok(()) => {
                resting.gauge.stand(&stand);
                Ended::Rested(topic, resting)
            }
            Err(error) => {
                resting.gauge.stand(&stand);
                resting.parked.wake_all();
                Ended::Failed(topic, resting, error)
            }
        }
    }

    /// Where the log stands once it is closed.
    fn stand(&self) -> Stand {
        let now = self.core.io.wall();
        // What is due already and could not be done is not tried again at once.
        let pause = i64::try_from(retention_check(&self.core).as_millis()).unwrap_or(i64::MAX);
        let soonest = Wall(now.0.saturating_add(pause));
        Stand {
            start: self.log.start(),
            end: self.log.end(),
            bytes: self.log.size_bytes(),
            due: self.log.upkeep_due(now).map(|due| due.max(soonest)),
            producers: !self.log.producers_seen().is_empty(),
        }
    }

    /// Does `ask` and, if it is a produce, all produces right behind it; returns a closing request.
    async fn take(
        &mut self,
        ask: Ask<I::File>,
        asks: &mut mpsc::Receiver<Ask<I::File>>,
    ) -> Option<Ask<I::File>> {
        let mut next = Some(ask);
        while let Some(ask) = next.take() {
            if ask.is_use() {
                self.used = Some(self.core.io.now());
            }
            match ask {
                Ask::Produce(first) => {
                    self.group.add(first);
                    while self.group.batches.len() < GROUP_BATCHES_MAX
                        && let Ok(ask) = asks.try_recv()
                    {
                        match ask {
                            Ask::Produce(produce) => self.group.add(produce),
                            other => {
                                next = Some(other);
                                break;
                            }
                        }
                    }
                    if self.group.batches.len() > 1 {
                        probe::hit(Probe::ProducesTogether);
                    }
                    self.produce().await;
                }
                Ask::Fetch(fetch) => self.fetch(fetch).await,
                Ask::Offset { timestamp, leader_epoch, answer } => {
                    let _ = answer.send(Box::pin(self.find_offset(timestamp, leader_epoch)).await);
                }
                Ask::EpochEnd { current, asked, answer } => {
                    let found = self.check_epoch(current).map(|()| self.log.epoch_end(asked));
                    let _ = answer.send(found);
                }
                Ask::RaiseStart { to, answer } => {
                    let _ = answer.send(Box::pin(self.raise_start(to)).await);
                }
                Ask::Size(answer) => {
                    let _ = answer.send(Ok(self.log.size_bytes()));
                }
                Ask::Producers(answer) => {
                    let _ = answer.send(Ok(self.log.producers_seen()));
                }
                Ask::Fates(answer) => {
                    let _ = answer.send(Ok(self.log.fates(self.core.io.wall())));
                }
                Ask::Ready(answer) => {
                    let _ = answer.send(Ok(()));
                }
                Ask::Upkeep(answer) => {
                    Box::pin(self.tick()).await;
                    self.rest_asked |= self.is_idle();
                    let _ = answer.send(Ok(()));
                }
                Ask::Rest => {
                    self.rest_asked = true;
                }
                Ask::Configure(topic) => Box::pin(self.configure(topic)).await,
                end @ (Ask::Close(_) | Ask::Delete(_)) => return Some(end),
            }
        }
        None
    }

    pub(super) fn log_failure(&self, reason: &str) {
        error!(topic = %self.topic.name, partition = %self.index, reason,
            "the partition is offline until the broker is restarted: its disk failed");
    }

    async fn configure(&mut self, topic: Arc<Topic>) {
        let mut config = self.core.topic_config(&topic).log(&self.core.config());
        if config.durability != self.durability {
            // What may be read is not taken back (READ-2), and who waits is not forgotten (FLUSH-2).
            probe::hit(Probe::DurabilityChanged);
            self.settle().await;
            if self.log.failure().is_some() {
                config.durability = self.durability;
            }
        }
        self.durability = config.durability;
        self.log.set_config(config);
        self.topic = topic;
        self.rescheduled = true;
    }

    fn on_compacted(&mut self, (compacted, turn): compacting::Outcome<I>) {
        self.compacting = None;
        let rest = self.log.compacted(compacted);
        self.note_size();
        match rest {
            Some(rest) => {
                self.compacting = Some(Compacting::start(&self.core, rest, Some(turn)));
            }
            None => {
                self.rescheduled = true;
                drop(turn);
                self.compact_if_due();
            }
        }
    }

    fn compact_if_due(&mut self) {
        let wall = self.core.io.wall();
        if self.compacting.is_none() && self.log.compaction_due(wall) {
            let compaction = self.log.compact(wall);
            self.compacting = compaction.map(|one| Compacting::start(&self.core, one, None));
        }
    }

    /// In what time the log has upkeep to do, or the partition may rest.
    fn tick_in(&mut self) -> Duration {
        let now = self.core.io.now();
        let ms = self.log.next_tick_ms(self.core.io.wall());
        let upkeep = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let upkeep = self.tick_at.since(now).min(upkeep);
        self.upkeep_at = now.after(upkeep);
        let rest = self.used.map(|used| used.after(self.idle_after()).since(now));
        // One that is idle and has something to do looks again.
        upkeep.min(rest.filter(|rest| !rest.is_zero()).unwrap_or(IDLE_LOOK))
    }

    async fn tick(&mut self) {
        let now = self.core.io.now();
        if self.tick_at <= now {
            self.tick_at = now.after(retention_check(&self.core));
        }
        if let Err(poisoned) = self.log.tick(self.core.io.wall()).await {
            self.log_failure(&poisoned.to_string());
        }
        self.note_size();
        self.compact_if_due();
    }

    async fn finish(mut self, end: Ask<I::File>, asks: &mut mpsc::Receiver<Ask<I::File>>) {
        self.core.shared.gauges.close((self.topic.id, self.index));
        self.parked.wake_all();
        refuse_rest(asks);
        let delete = matches!(end, Ask::Delete(_));
        if let Some(compacting) = self.compacting.take() {
            probe::hit(Probe::ClosedInCompaction);
            if let Some(compacted) = compacting.end().await {
                // Whatever is left of the pass is left to the next one.
                drop(self.log.compacted(compacted));
            }
        }
        if let Some(flushing) = self.flushing.take().filter(|_| !delete) {
            probe::hit(Probe::ClosedInFlush);
            let flushed = flushing.await;
            self.on_flushed(flushed);
        }
        if delete && !self.waiting.is_empty() {
            probe::hit(Probe::DeletedWithWaiting);
        }
        let stand = self.stand();
        let outcome = if delete {
            self.log.delete().await
        } else {
            self.log.close().await.map_err(log::ChangeError::from)
        };
        match &outcome {
            Ok(()) if delete => {}
            Ok(()) => self.core.shard.closed_at((self.topic.id, self.index), stand),
            Err(_) => {
                let left = usize::from(delete);
                self.core.shared.left_behind.fetch_add(left, Ordering::Relaxed);
            }
        }
        if let Err(error) = outcome {
            error!(topic = %self.topic.name, partition = %self.index, %error,
                "could not end cleanly; the next start recovers the log");
        }
        // Produces that were still waiting see their channel dropped, and answer that they do not
        // know: on a deleted or closing partition nobody can say more.
        let (Ask::Close(done) | Ask::Delete(done)) = end else { unreachable!("only these end") };
        let _ = done.send(());
    }
}

async fn or_never<F: Future + Unpin>(work: &mut Option<F>) -> F::Output {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}
