//! The owner of one partition: the only task that touches its log.
//!
//! It takes what waits in its queue, appends all neighbouring produces with one write, and keeps at
//! most one flush under way; whatever is appended meanwhile shares the next one (group commit). An
//! acknowledgement leaves when the flushed end has passed its last record. Fetches get a plan, never
//! bytes.
//!
//! Keeps: ACK-1, nothing is acknowledged before it is flushed, unless the topic says otherwise;
//! READ-1, no plan reaches beyond the readable end; FLUSH-1, a flush is run to its end. Lives on the
//! core that `machine::place` names, and ends, with the log closed, when the partition has had nothing
//! to do for some time ([`super::rest`]).

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::{error, info, warn};

use super::answer;
use super::ask::{
    Accepted, Ask, Described, Fetch, Fetched, FoundOffset, Outcomes, Produce, Rejection,
};
use super::clean::Stand;
use super::compacting::{self, Compacting};
use super::gauge::Gauge;
use super::rest::Resting;
use super::wait::Parked;
use super::{Core, data};
use crate::id::{LeaderEpoch, Offset, PartitionIndex};
use crate::io::{self, Buf, Instant, Io, Wall};
use crate::limit::{GROUP_BATCHES_MAX, PARTITION_MESSAGES_MAX, ROOM_RETRY_PAUSE};
use crate::log::{self, AppendError, Appended, Flushed, Log, PlanError};
use crate::machine::Topic;
use crate::probe::{self, Probe};
use crate::wire::code::ErrorCode;

/// Kafka's names among the timestamps of ListOffsets.
pub(super) mod timestamp {
    pub const LATEST: i64 = -1;
    pub const EARLIEST: i64 = -2;
    /// The record with the largest time stamp (KIP-734).
    pub const MAX: i64 = -3;
    /// The first record on this broker's own disk (KIP-405).
    pub const EARLIEST_LOCAL: i64 = -4;
    /// The last record in tiered storage, and the first one waiting for it: there is none.
    pub const LATEST_TIERED: i64 = -5;
    pub const EARLIEST_PENDING_UPLOAD: i64 = -6;
}

/// Produces that wait for the flush.
struct Waiting {
    end: Offset,
    outcomes: Outcomes,
    answer: answer::Sender<Outcomes>,
}

/// Neighbouring produces on their way into the log with one write. Empty in between; its memory is
/// used again.
#[derive(Default)]
struct Group {
    batches: Vec<Buf>,
    results: Vec<Result<Appended, AppendError>>,
    /// Who waits, and for how many of the batches.
    answers: Vec<(usize, answer::Sender<Outcomes>)>,
}

impl Group {
    fn add(&mut self, Produce { batches, answer }: Produce) {
        self.answers.push((batches.len(), answer));
        self.batches.extend(batches);
    }
}

/// How long after it could not rest an idle partition tries again.
const IDLE_LOOK: Duration = Duration::from_secs(1);

type Flushing = Pin<Box<dyn Future<Output = Flushed>>>;

type Turn = Pin<Box<dyn Future<Output = OwnedSemaphorePermit>>>;

struct Owner<I: Io> {
    core: Rc<Core<I>>,
    topic: Arc<Topic>,
    index: PartitionIndex,
    epoch: LeaderEpoch,
    log: Log<I>,
    durability: log::Durability,
    group: Group,
    /// In the order of their ends.
    waiting: VecDeque<Waiting>,
    flushing: Option<Flushing>,
    compacting: Option<Compacting<I>>,
    parked: Parked,
    /// The readable end that parked fetches were last told of, and the log's size then.
    reported: Offset,
    size_reported: u64,
    gauge: Gauge,
    tick_at: Instant,
    /// When the log has upkeep to do.
    upkeep_at: Instant,
    /// The next tick is computed anew.
    rescheduled: bool,
    /// When it was last asked for something; `None` if it was opened only to be looked at.
    used: Option<Instant>,
    /// It is to rest, whenever it was used.
    rest_asked: bool,
    /// It waits for its turn to rest.
    turn: Option<Turn>,
}

/// How an owner's work ended.
enum Ended {
    /// For good.
    Closed,
    /// Its log is closed, and it may be opened again.
    Rested(Arc<Topic>, Resting),
    /// Its log could not be closed.
    Failed(Arc<Topic>, Resting, io::Error),
}

/// Starts the task that owns partition `index` of `topic`, which may have rested, and returns the way
/// to it.
pub fn start<I: Io>(
    core: &Rc<Core<I>>,
    topic: Arc<Topic>,
    index: PartitionIndex,
    rested: Option<Resting>,
) -> mpsc::Sender<Ask<I::File>> {
    let (sender, asks) = mpsc::channel(PARTITION_MESSAGES_MAX);
    core.io.spawn(run(core.clone(), topic, index, rested, asks));
    sender
}

async fn run<I: Io>(
    core: Rc<Core<I>>,
    mut topic: Arc<Topic>,
    index: PartitionIndex,
    mut rested: Option<Resting>,
    mut asks: mpsc::Receiver<Ask<I::File>>,
) {
    let mut told = false;
    loop {
        let Unopened { reason, full } = match open(&core, &topic, index, rested.take()).await {
            Ok(owner) => match owner.serve(&mut asks).await {
                Ended::Closed => return,
                Ended::Rested(newest, resting) => {
                    topic = newest;
                    match core.shard.rest((topic.id, index), resting, &asks) {
                        Ok(()) => {
                            core.shared.rested.send_modify(|times| *times += 1);
                            return;
                        }
                        Err(back) => rested = Some(back),
                    }
                    continue;
                }
                Ended::Failed(newest, resting, error) => {
                    topic = newest;
                    if io::is_full(&error) {
                        // What could not be written says nothing about the log: it is opened again.
                        core.shared.room.found_none();
                        rested = Some(resting);
                        continue;
                    }
                    let reason = format!("its log could not be closed: {error}");
                    Unopened { reason, full: false }
                }
            },
            Err(unopened) => unopened,
        };
        if full {
            core.shared.room.found_none();
            if !std::mem::replace(&mut told, true) {
                probe::hit(Probe::PartitionWaitedForRoom);
                warn!(topic = %topic.name, partition = %index, reason,
                    "the partition is offline until there is room on the disk to open its log");
            }
        } else {
            probe::hit(Probe::PartitionOffline);
            error!(topic = %topic.name, partition = %index, reason,
                "the partition is offline: its log cannot be opened; `trialog log verify` on its \
                 folder says where it is damaged");
        }
        core.tally.logs_offline.add(1);
        let retry = full.then_some(ROOM_RETRY_PAUSE);
        let ended = offline(&core, &topic, index, &mut asks, retry).await;
        core.tally.logs_offline.set(core.tally.logs_offline.get() - 1);
        if ended {
            return;
        }
    }
}

/// Why a log could not be opened, and whether it was for lack of room.
struct Unopened {
    reason: String,
    full: bool,
}

impl Unopened {
    fn storage(error: &io::Error) -> Unopened {
        Unopened { reason: error.to_string(), full: io::is_full(error) }
    }

    fn log(error: &log::OpenError) -> Unopened {
        let full = match error {
            log::OpenError::Storage { source, .. } => io::is_full(source),
            _ => false,
        };
        Unopened { reason: error.to_string(), full }
    }
}

async fn open<I: Io>(
    core: &Rc<Core<I>>,
    topic: &Arc<Topic>,
    index: PartitionIndex,
    mut rested: Option<Resting>,
) -> Result<Owner<I>, Unopened> {
    let epoch = topic.partition(index).map_or(LeaderEpoch(0), |partition| partition.leader_epoch);
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
        opened.map_err(|error| Unopened::log(&error))
    };
    let (mut log, recovery) = match opened.await {
        Ok(opened) => opened,
        Err(unopened) => {
            // Fetches that wait at its end are not to wait for ever.
            rested.iter_mut().for_each(|rested| rested.parked.wake_all());
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

/// Answers everything with a storage error: the log could not be opened. False if it is time to try
/// that again, true at the end.
async fn offline<I: Io>(
    core: &Rc<Core<I>>,
    topic: &Arc<Topic>,
    index: PartitionIndex,
    asks: &mut mpsc::Receiver<Ask<I::File>>,
    retry: Option<Duration>,
) -> bool {
    let mut pause = std::pin::pin!(async {
        match retry {
            Some(pause) => core.io.sleep(pause).await,
            None => std::future::pending().await,
        }
    });
    loop {
        let ask = tokio::select! {
            biased; // Questions do not put the next attempt off.
            () = &mut pause => return false,
            ask = asks.recv() => ask,
        };
        match ask {
            None => return true,
            Some(Ask::Close(done)) => {
                refuse_rest(asks);
                let _ = done.send(());
                return true;
            }
            Some(Ask::Delete(done)) => {
                refuse_rest(asks);
                let folder = data::partition_folder(&core.shared.data, topic, index);
                let removed = data::remove_tree(&core.io, &folder).await;
                core.shared.left_behind.fetch_or(removed.is_err(), Ordering::Relaxed);
                let _ = done.send(());
                return true;
            }
            Some(other) => other.refuse(ErrorCode::KafkaStorageError),
        }
    }
}

impl<I: Io> Owner<I> {
    async fn serve(mut self, asks: &mut mpsc::Receiver<Ask<I::File>>) -> Ended {
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
            if std::mem::take(&mut self.rescheduled) {
                let next = self.tick_in();
                tick = Box::pin(self.core.io.sleep(next));
            }
            self.flush_if_due();
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
        let Owner { topic, epoch, log, parked, gauge, .. } = self;
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
            if !matches!(ask, Ask::Upkeep(_) | Ask::Rest) {
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
                Ask::Describe(answer) => {
                    let size_bytes = self.log.size_bytes();
                    let producers = self.log.producers_seen();
                    let _ = answer.send(Ok(Described { size_bytes, producers }));
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
                Ask::Configure(topic) => self.configure(topic),
                end @ (Ask::Close(_) | Ask::Delete(_)) => return Some(end),
            }
        }
        None
    }

    /// Appends the group and answers it, or has it wait for the flush.
    async fn produce(&mut self) {
        let Group { mut batches, mut results, mut answers } = std::mem::take(&mut self.group);
        let asked = batches.len();
        let segments = self.log.segment_count();
        self.gauge.expect(self.waiting.len() + asked);
        self.log.append_from(&mut batches, self.epoch, self.core.io.wall(), &mut results).await;
        // What was just closed may be waited for by compaction.
        self.rescheduled |= self.log.config().compact && self.log.segment_count() != segments;
        assert_eq!(results.len(), asked, "LOG: one outcome for each batch");
        let start = self.log.start();
        let flushed = self.log.flushed_end();
        let at_once = self.durability == log::Durability::PageCache;
        let mut next = results.drain(..);
        for (count, answer) in answers.drain(..) {
            let mut end = flushed;
            let outcome = |result| match result {
                Ok(Appended { base, last, append_time_ms, duplicate }) => {
                    if duplicate && last >= flushed {
                        probe::hit(Probe::DuplicateWaits);
                    }
                    end = end.max(last.plus(1));
                    Ok(Accepted { base, append_time_ms, start })
                }
                Err(error) => Err(self.reject(&error)),
            };
            let outcomes: Outcomes = next.by_ref().take(count).map(outcome).collect();
            if at_once || end <= flushed {
                answer.send(outcomes);
            } else {
                self.waiting.push_back(Waiting { end, outcomes, answer });
            }
        }
        drop(next);
        self.group = Group { batches, results, answers };
    }

    fn reject(&self, error: &AppendError) -> Rejection {
        let rejection = Rejection { code: append_code(error), message: error.to_string() };
        match error {
            AppendError::Storage(_) => self.log_failure(&rejection.message),
            AppendError::Full => self.core.shared.room.found_none(),
            _ => {}
        }
        rejection
    }

    fn log_failure(&self, reason: &str) {
        error!(topic = %self.topic.name, partition = %self.index, reason,
            "the partition is offline until the broker is restarted: its disk failed");
    }

    fn flush_if_due(&mut self) {
        if self.flushing.is_none() && self.log.flush_due(self.core.io.wall()) {
            self.flushing = self.log.flush().map(|flush| {
                let flushing: Flushing = Box::pin(flush.run());
                flushing
            });
        }
        assert!(
            self.flushing.is_some() || !self.log.is_flushing(),
            "FLUSH-1: a flush is forgotten"
        );
    }

    fn on_flushed(&mut self, flushed: Flushed) {
        match self.log.flushed(flushed) {
            Ok(end) => {
                if self.waiting.get(1).is_some_and(|waiting| waiting.end <= end) {
                    probe::hit(Probe::FlushShared);
                }
                while self.waiting.front().is_some_and(|waiting| waiting.end <= end) {
                    let waiting = self.waiting.pop_front().expect("there is a front");
                    waiting.answer.send(waiting.outcomes);
                }
            }
            Err(poisoned) => {
                let message = poisoned.to_string();
                self.log_failure(&message);
                if !self.waiting.is_empty() {
                    probe::hit(Probe::FlushFailedWaiting);
                }
                let code = ErrorCode::KafkaStorageError;
                for Waiting { mut outcomes, answer, .. } in self.waiting.drain(..) {
                    for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
                        *outcome = Err(Rejection { code, message: message.clone() });
                    }
                    answer.send(outcomes);
                }
                self.parked.wake_all();
            }
        }
    }

    /// Tells parked fetches how much more there is to read.
    fn report(&mut self) {
        let end = self.log.readable_end();
        assert!(end >= self.reported, "READ-2: the readable end never goes back");
        if end > self.reported {
            let size = self.log.size_bytes();
            self.parked.report(size.saturating_sub(self.size_reported).max(1));
            self.reported = end;
            self.size_reported = size;
        }
        self.gauge.set(&self.log, self.waiting.len());
    }

    async fn fetch(&mut self, fetch: Fetch<I::File>) {
        let Fetch { from, leader_epoch, last_fetched_epoch, max_bytes, first, wait, answer } =
            fetch;
        let high_watermark = self.log.readable_end();
        let mut fetched = Fetched {
            high_watermark,
            start: self.log.start(),
            leader_epoch: self.epoch,
            ..Fetched::failed(ErrorCode::None)
        };
        if let Err(code) = self.check_epoch(leader_epoch) {
            fetched.error = code;
        } else if let Some(diverging) = self.diverging(last_fetched_epoch, from) {
            probe::hit(Probe::Diverging);
            fetched.diverging = Some(diverging);
        } else {
            match self.log.plan(from, high_watermark, max_bytes, first).await {
                Ok(plan) => {
                    fetched.slices = plan.slices;
                    fetched.bytes = plan.bytes;
                    fetched.gauge = (plan.bytes > 0).then(|| self.gauge.clone());
                }
                Err(error) => {
                    fetched.error = plan_code(&error);
                    if matches!(error, PlanError::OutOfRange { .. }) {
                        probe::hit(Probe::OutOfRange);
                    } else {
                        error!(topic = %self.topic.name, partition = %self.index, %from, %error,
                            "cannot read");
                    }
                }
            }
        }
        if let Some(wait) = wait.filter(|_| fetched.error == ErrorCode::None) {
            probe::hit(Probe::FetchParked);
            self.parked.park(&wait);
        }
        answer.send(fetched);
    }

    fn diverging(&self, fetched: LeaderEpoch, from: Offset) -> Option<(LeaderEpoch, Offset)> {
        if fetched == LeaderEpoch::NONE {
            return None;
        }
        let (epoch, end) = self.log.epoch_end(fetched);
        (epoch < fetched || end < from).then_some((epoch, end))
    }

    fn check_epoch(&self, claimed: LeaderEpoch) -> Result<(), ErrorCode> {
        if claimed == LeaderEpoch::NONE || claimed == self.epoch {
            Ok(())
        } else if claimed < self.epoch {
            probe::hit(Probe::EpochFenced);
            Err(ErrorCode::FencedLeaderEpoch)
        } else {
            probe::hit(Probe::EpochUnknown);
            Err(ErrorCode::UnknownLeaderEpoch)
        }
    }

    async fn find_offset(
        &mut self,
        timestamp: i64,
        leader_epoch: LeaderEpoch,
    ) -> Result<FoundOffset, ErrorCode> {
        self.check_epoch(leader_epoch)?;
        let end = self.log.readable_end();
        let named = |offset, leader_epoch| FoundOffset { offset, timestamp: -1, leader_epoch };
        let found = match timestamp {
            timestamp::LATEST => return Ok(named(end, self.epoch)),
            timestamp::EARLIEST | timestamp::EARLIEST_LOCAL => {
                return Ok(named(self.log.start(), LeaderEpoch::NONE));
            }
            timestamp::MAX => self.log.max_timestamp(end).await,
            timestamp::LATEST_TIERED | timestamp::EARLIEST_PENDING_UPLOAD => Ok(None),
            ms if ms >= 0 => self.log.offset_for_time(ms, end).await,
            _ => return Err(ErrorCode::InvalidRequest),
        };
        match found {
            Ok(Some((offset, timestamp, leader_epoch))) => {
                Ok(FoundOffset { offset, timestamp, leader_epoch })
            }
            Ok(None) => Ok(FoundOffset::NONE),
            Err(error) => {
                error!(topic = %self.topic.name, partition = %self.index, %error,
                    "cannot look up a time stamp");
                Err(plan_code(&error))
            }
        }
    }

    fn configure(&mut self, topic: Arc<Topic>) {
        let config = self.core.topic_config(&topic).log(&self.core.config());
        self.durability = config.durability;
        self.log.set_config(config);
        self.topic = topic;
        self.rescheduled = true;
    }

    /// Raises the start to `to`, durably; the start as it then is.
    async fn raise_start(&mut self, to: Option<Offset>) -> Result<Offset, ErrorCode> {
        let to = to.unwrap_or(self.log.readable_end());
        let mut raised = self.log.advance_start(to).await;
        if matches!(raised, Err(log::ChangeError::Busy))
            && let Some(flushing) = self.flushing.take()
        {
            probe::hit(Probe::StartWaitedForFlush);
            self.on_flushed(flushing.await);
            raised = self.log.advance_start(to).await;
        }
        match raised {
            Ok(()) => {
                probe::hit(Probe::StartRaised);
                Ok(self.log.start())
            }
            Err(log::ChangeError::OutOfRange { .. }) => Err(ErrorCode::OffsetOutOfRange),
            Err(error) => {
                error!(topic = %self.topic.name, partition = %self.index, %error,
                    "the start of the partition could not be raised");
                Err(ErrorCode::KafkaStorageError)
            }
        }
    }

    fn on_compacted(&mut self, (compacted, turn): compacting::Outcome<I>) {
        self.compacting = None;
        match self.log.compacted(compacted) {
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
                self.core.shared.left_behind.fetch_or(delete, Ordering::Relaxed);
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

/// Refuses what was asked before a partition's end and came too late.
fn refuse_rest<F>(asks: &mut mpsc::Receiver<Ask<F>>) {
    asks.close();
    while let Ok(ask) = asks.try_recv() {
        probe::hit(Probe::ClosedWithAsks);
        ask.refuse(ErrorCode::NotLeaderOrFollower);
    }
}

pub(super) fn retention_check<I: Io>(core: &Core<I>) -> Duration {
    Duration::from_millis(core.shared.config.retention_check_interval_ms)
}

async fn or_never<F: Future + Unpin>(work: &mut Option<F>) -> F::Output {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

fn append_code(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::TooLarge => ErrorCode::RecordListTooLarge,
        AppendError::Malformed => ErrorCode::CorruptMessage,
        AppendError::Poisoned | AppendError::Storage(_) | AppendError::Full => {
            ErrorCode::KafkaStorageError
        }
    }
}

fn plan_code(error: &PlanError) -> ErrorCode {
    match error {
        PlanError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        PlanError::Corrupt { .. } | PlanError::Storage(_) | PlanError::Poisoned => {
            ErrorCode::KafkaStorageError
        }
    }
}
