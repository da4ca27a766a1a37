//! The host of consumer groups: one task for each partition of `__consumer_offsets`, on the core
//! that owns the partition.
//!
//! It carries out all commands that wait, writes their records with one write through the
//! partition's owner, and answers when that is flushed; commands that come meanwhile share the next
//! write. So no answer shows what a crash could take back. When a write fails, the machine is
//! dropped and built anew from the log: whatever it did not get to write has not happened.
//!
//! Keeps: GROUP-5, an answer leaves only when all records that were decided before it are flushed;
//! GROUP-9, no command is decided before the metadata are known that it was checked against; META-6, what
//! was committed for a topic is never another one's that has its name.
//! Must not know what groups are about.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::each_record;
use crate::broker::ask::{Ask as AskPartition, Fetch, Produce};
use crate::broker::{Core, inbox, shard};
use crate::id::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use crate::io::{self, Buf, Io, Wall, watch};
use crate::limit::{
    GROUP_BATCH_BYTES, GROUP_BYTES_MAX, GROUP_COMMANDS_MAX, GROUP_MEMBERS_MAX, GROUP_READ_BYTES,
    GROUP_RELOAD_PAUSE, GROUP_WRITE_BYTES, MEMBERS_BYTES_MAX, OFFSETS_BYTES_MAX,
};
use crate::log::First;
use crate::machine::group::{
    Allowance, Command, Decision, Groups, Now, Record, RecordError, Reply, Settings, TOPIC_ID,
    Ticket, Weight,
};
use crate::machine::name::OFFSETS_TOPIC;
use crate::machine::{Image, Layout, NewTopic, place};
use crate::probe::{self, Probe};
use crate::wire::batch::{self, Builder, RecordHeader};
use crate::wire::code::ErrorCode;

/// A command on its way to the groups of one partition.
pub struct Ask {
    /// The partition of `__consumer_offsets`.
    pub to: shard::Key,
    /// What is wanted.
    pub command: Command,
    /// The answer; dropped without one, it is unknown.
    pub answer: oneshot::Sender<Result<Reply, ErrorCode>>,
}

/// The hosts that run on one core.
#[derive(Default)]
pub struct Hosts {
    queues: RefCell<BTreeMap<shard::Key, mpsc::Sender<Ask>>>,
    /// What the groups of all of them take of memory.
    weight: Cell<Weight>,
}

impl Hosts {
    /// What groups may take that take `own` of what all take: together they have a bound as well.
    fn allowance(&self, own: Weight) -> Allowance {
        let all = self.weight.get();
        let most = Allowance::default();
        let left = |most: usize, all: usize| most.saturating_sub(all);
        Allowance {
            joins: most.joins.min(own.members + left(MEMBERS_BYTES_MAX / 4 * 3, all.members)),
            members: most.members.min(own.members + left(MEMBERS_BYTES_MAX, all.members)),
            offsets: most.offsets.min(own.places + left(OFFSETS_BYTES_MAX, all.places)),
        }
    }

    /// Groups that took `before` take `now`.
    fn weigh(&self, before: Weight, now: Weight) {
        let mut all = self.weight.get();
        all.change(before, now);
        self.weight.set(all);
    }
}

/// The partition of `__consumer_offsets` that a group belongs to: Kafka's rule, the absolute value
/// of the name's Java hash modulo the number of partitions.
#[must_use]
pub fn partition_of(group: &str, partitions: usize) -> PartitionIndex {
    let hash = group
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka clears the sign of the one number that has no absolute value to 0.
    let hash = hash.checked_abs().unwrap_or(0).unsigned_abs();
    let partitions = u32::try_from(partitions.max(1)).expect("bounded at creation");
    PartitionIndex(i32::try_from(hash % partitions).expect("less than 2^31"))
}

/// `__consumer_offsets`, as it is made when it is first needed.
pub fn offsets_topic<I: Io>(core: &Core<I>) -> NewTopic {
    let config = &core.shared.config.groups;
    let brokers = core.shared.image().brokers().len();
    let brokers = i16::try_from(brokers).unwrap_or(i16::MAX).max(1);
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", config.topic_segment_bytes.to_string()),
        // An acknowledged commit survives, whatever other topics prefer.
        ("trialog.durability", "flush".to_owned()),
    ];
    NewTopic {
        name: OFFSETS_TOPIC.to_owned(),
        id: TopicId::from_random(core.io.random(), core.io.random()),
        layout: Layout::Count {
            partitions: config.topic_partitions,
            replication_factor: config.topic_replication_factor.min(brokers),
        },
        configs: configs.map(|(key, value)| (key.to_owned(), value)).into(),
    }
}

/// Asks the coordinator of `group`, and waits for its answer.
pub async fn ask<I: Io>(
    core: &Rc<Core<I>>,
    group: &str,
    command: Command,
) -> Result<Reply, ErrorCode> {
    let image = core.shared.image();
    // Without the topic nobody has been told a coordinator; asking for one makes it.
    let topic = image.topic(OFFSETS_TOPIC).ok_or(ErrorCode::NotCoordinator)?;
    let to = (topic.id, partition_of(group, topic.partitions.len()));
    ask_partition(core, to, command).await
}

/// Asks the groups of one partition, and waits for their answer.
pub async fn ask_partition<I: Io>(
    core: &Rc<Core<I>>,
    to: shard::Key,
    command: Command,
) -> Result<Reply, ErrorCode> {
    let (answer, reply) = oneshot::channel();
    let ask = Ask { to, command, answer };
    let owner = place::owner(to.0, to.1, core.shared.cores());
    if owner == core.id {
        deliver(core, ask).await;
    } else {
        core.shared.group_inbox(owner).send(ask).await;
    }
    // Dropped: the broker is stopping.
    reply.await.unwrap_or(Err(ErrorCode::NotCoordinator))
}

/// Hands on what the other cores send, for as long as the core runs.
pub async fn pump<I: Io>(core: Rc<Core<I>>, mut inbox: inbox::Receiver<Ask>) {
    loop {
        let ask = inbox.receive().await;
        deliver(&core, ask).await;
    }
}

async fn deliver<I: Io>(core: &Rc<Core<I>>, ask: Ask) {
    let queue = match reach(core, ask.to) {
        Some(queue) => queue,
        None => {
            let _ = ask.answer.send(Err(ErrorCode::NotCoordinator));
            return;
        }
    };
    if let Err(mpsc::error::SendError(ask)) = queue.send(ask).await {
        let _ = ask.answer.send(Err(ErrorCode::NotCoordinator));
    }
}

/// The queue of a host, started if need be.
fn reach<I: Io>(core: &Rc<Core<I>>, key: shard::Key) -> Option<mpsc::Sender<Ask>> {
    if let Some(queue) = core.groups.queues.borrow().get(&key) {
        return Some(queue.clone());
    }
    if *core.shared.stop.borrow() {
        return None;
    }
    core.shared.image().partition(key.0, key.1)?;
    let (queue, asks) = mpsc::channel(GROUP_COMMANDS_MAX);
    core.io.spawn(run(core.clone(), key, asks));
    core.groups.queues.borrow_mut().insert(key, queue.clone());
    Some(queue)
}

/// Follows the cluster's metadata: starts the host of each partition of `__consumer_offsets` that
/// this core owns, so that members that are gone are noticed without anybody asking.
pub async fn follow<I: Io>(core: Rc<Core<I>>) {
    let mut images = core.shared.images();
    loop {
        let image = images.borrow_and_update().clone();
        let mine: BTreeSet<shard::Key> = image
            .topic(OFFSETS_TOPIC)
            .into_iter()
            .flat_map(|topic| topic.indexed().map(|(index, _)| (topic.id, index)))
            .filter(|key| place::owner(key.0, key.1, core.shared.cores()) == core.id)
            .collect();
        core.groups.queues.borrow_mut().retain(|key, _| mine.contains(key));
        for key in mine {
            reach(&core, key);
        }
        if images.changed().await.is_err() {
            return;
        }
    }
}

/// Why a host stopped serving.
enum End {
    /// Nobody can ask any more, or the broker stops.
    Over,
    /// The partition could not be read or written.
    Failed(String),
}

/// One host: loads, serves, and begins again when the partition fails.
async fn run<I: Io>(core: Rc<Core<I>>, key: shard::Key, asks: mpsc::Receiver<Ask>) {
    let groups = Groups::new(settings(&core, key));
    let weight = Weight::default();
    let mut images = core.shared.images();
    let image = images.borrow_and_update().clone();
    let waiting = BTreeMap::new();
    let mut host = Host { core, key, groups, weight, waiting, asks, images, image };
    let mut last_reason = String::new();
    loop {
        let end = match host.load().await {
            Ok(()) => host.serve().await,
            Err(end) => end,
        };
        match end {
            End::Over => return host.refuse_all(),
            End::Failed(reason) => {
                if reason != last_reason {
                    error!(partition = %key.1, reason,
                        "the consumer groups of this partition are away");
                    last_reason = reason;
                }
                probe::hit(Probe::GroupsFailed);
                host.refuse_all();
                let pause = host.core.io.sleep(GROUP_RELOAD_PAUSE);
                if host.answer_during(pause, ErrorCode::CoordinatorNotAvailable).await.is_none() {
                    return;
                }
            }
        }
    }
}

struct Host<I: Io> {
    core: Rc<Core<I>>,
    key: shard::Key,
    groups: Groups,
    /// What they took of memory when that was last counted.
    weight: Weight,
    /// Who waits for an answer.
    waiting: BTreeMap<Ticket, oneshot::Sender<Result<Reply, ErrorCode>>>,
    asks: mpsc::Receiver<Ask>,
    images: watch::Receiver<Arc<Image>>,
    /// The one that the groups know: what it does not have has no offsets.
    image: Arc<Image>,
}

impl<I: Io> Host<I> {
    fn now(&self) -> Now {
        let nanos = self.core.io.now().0;
        Now { monotonic_ms: nanos / 1_000_000, wall_ms: self.core.io.wall().0 }
    }

    /// Answers everything with `code` until `work` is done; `None` if the host has to end.
    async fn answer_during<T>(
        &mut self,
        work: impl Future<Output = T>,
        code: ErrorCode,
    ) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let mut stop = self.core.shared.stop.subscribe();
        loop {
            tokio::select! {
                biased; // A stop ends everything; work that is done is not put off by questions.
                _ = stop.wait_for(|stop| *stop) => return None,
                done = &mut work => return Some(done),
                ask = self.asks.recv() => {
                    probe::hit(match code {
                        ErrorCode::CoordinatorLoadInProgress => Probe::GroupsLoading,
                        _ => Probe::GroupsAway,
                    });
                    let _ = ask?.answer.send(Err(code));
                }
            }
        }
    }

    /// Builds the machine from the partition's records.
    async fn load(&mut self) -> Result<(), End> {
        let loading = load(self.core.clone(), self.key);
        let loaded = self.answer_during(loading, ErrorCode::CoordinatorLoadInProgress).await;
        self.groups = loaded.ok_or(End::Over)?.map_err(End::Failed)?;
        let now = self.now();
        self.groups.loaded(now);
        self.weigh();
        Ok(())
    }

    /// Counts anew what the groups take of memory, and what they may.
    fn weigh(&mut self) {
        let now = self.groups.weight();
        self.core.groups.weigh(std::mem::replace(&mut self.weight, now), now);
        self.groups.allow(self.core.groups.allowance(now));
    }

    async fn serve(&mut self) -> End {
        let mut stop = self.core.shared.stop.subscribe();
        self.image = self.images.borrow_and_update().clone();
        let mut decided = Decision::default();
        self.forget_strangers(&mut decided);
        if let Err(end) = self.finish(decided).await {
            return end;
        }
        loop {
            let now_ms = self.now().monotonic_ms;
            let until = self.groups.wake_at();
            let due = async {
                match until {
                    Some(at) => {
                        let wait = Duration::from_millis(at.saturating_sub(now_ms));
                        self.core.io.sleep(wait).await;
                    }
                    None => std::future::pending().await,
                }
            };
            let first = tokio::select! {
                biased; // What members have said counts before the time that has passed.
                _ = stop.wait_for(|stop| *stop) => return End::Over,
                ask = self.asks.recv() => match ask {
                    Some(ask) => Some(ask),
                    None => return End::Over,
                },
                changed = self.images.changed() => {
                    if changed.is_err() {
                        return End::Over;
                    }
                    None
                }
                () = due => None,
            };
            if let Err(end) = self.round(first).await {
                return end;
            }
        }
    }

    /// Carries out `first` and what waits behind it, then what is due, with one write.
    async fn round(&mut self, first: Option<Ask>) -> Result<(), End> {
        let mut decided = Decision::default();
        let mut next = first;
        let mut bytes = 0;
        // Those of other partitions may have come to take more, or less.
        self.weigh();
        self.keep_up(&mut decided);
        for _ in 0..GROUP_COMMANDS_MAX {
            let Some(Ask { mut command, answer, .. }) = next.take() else { break };
            let ticket = command.ticket().expect("only the host itself asks for no answer");
            let before = self.waiting.insert(ticket, answer);
            assert!(before.is_none(), "GROUP-4: a ticket is given once");
            bytes += self.keep_up(&mut decided);
            self.leave_out_gone(&mut command);
            let now = self.now();
            let decision = self.groups.decide(now, command);
            bytes += self.take(decision, &mut decided);
            if bytes >= GROUP_WRITE_BYTES {
                break;
            }
            next = self.asks.try_recv().ok();
            if next.is_some() {
                probe::hit(Probe::GroupWriteShared);
            }
        }
        // Whoever was heard of in this round is not sent away by it.
        let now = self.now();
        let decision = self.groups.tick(now);
        self.take(decision, &mut decided);
        self.weigh();
        self.finish(decided).await
    }

    /// Applies a decision and adds it to what this round has decided; returns its records' size.
    fn take(&mut self, decision: Decision, decided: &mut Decision) -> usize {
        let mut bytes = 0;
        for record in &decision.records {
            self.groups.apply(record.clone());
            bytes += record.key().len() + record.value().map_or(0, |value| value.len());
        }
        decided.records.extend(decision.records);
        decided.replies.extend(decision.replies);
        bytes
    }

    /// Makes what was decided durable, and lets the answers go.
    async fn finish(&mut self, decided: Decision) -> Result<(), End> {
        let Decision { records, replies } = decided;
        if !records.is_empty() {
            self.write(&records).await.map_err(End::Failed)?;
        }
        for (ticket, reply) in replies {
            let answer = self.waiting.remove(&ticket).expect("GROUP-4: answered once");
            // Whoever asked may be gone.
            let _ = answer.send(Ok(reply));
        }
        let waiting = self.waiting.len();
        debug_assert_eq!(waiting, self.groups.waiting(), "QUEUE-2: only members wait");
        Ok(())
    }

    /// Appends the records through the partition's owner, and waits until they are flushed.
    async fn write(&self, records: &[Record]) -> Result<(), String> {
        let now = self.core.io.wall();
        let room = GROUP_BATCH_BYTES.min(segment_bytes(&self.core, self.key));
        let batches = in_batches(records, now, room).into_iter().map(Buf::from).collect();
        let (answer, written) = self.core.outcomes.take();
        let produce = AskPartition::Produce(Produce { batches, answer });
        shard::ask(&self.core, self.key, produce).await;
        let outcomes = written.await.map_err(|_| "the partition closed".to_owned())?;
        match outcomes.into_iter().find_map(Result::err) {
            None => Ok(()),
            Some(rejection) => Err(rejection.message),
        }
    }

    /// Takes over the newest image, of which a command that comes now may know: it is asked only for
    /// topics that its handler has found. Returns the size of the records.
    fn keep_up(&mut self, decided: &mut Decision) -> usize {
        let newest = self.images.borrow_and_update().clone();
        if Arc::ptr_eq(&newest, &self.image) {
            return 0;
        }
        let before = std::mem::replace(&mut self.image, newest);
        self.groups.configure(settings(&self.core, self.key));
        self.forget_topics(&before, decided)
    }

    /// META-6: what a commit was asked for may be gone by now, and another topic have its name. Its handler
    /// refuses what is not answered.
    fn leave_out_gone(&self, command: &mut Command) {
        if let Command::Commit { request, .. } = command {
            request.topics.retain(|topic| {
                let now = self.image.topic(&topic.name);
                let is_there = now.is_some_and(|now| now.id == topic.topic_id);
                if !is_there {
                    probe::hit(Probe::GroupTopicReplaced);
                }
                is_there
            });
        }
    }

    /// Forgets the offsets of topics that are gone since the image `before`, or that are others under their
    /// old names. Returns the size of the records.
    fn forget_topics(&mut self, before: &Image, decided: &mut Decision) -> usize {
        let id = |image: &Image, name: &str| image.topic(name).map(|topic| topic.id);
        let is_gone = |name: &str| {
            let id_now = id(&self.image, name);
            id_now.is_none() || id(before, name) != id_now
        };
        let topics = self.groups.topics().filter(|name| is_gone(name));
        let topics = topics.map(|name| (name.to_owned(), None)).collect();
        self.forget(topics, decided)
    }

    /// Forgets the offsets, just loaded, of topics that are not there: nobody knows what they have seen of
    /// the metadata who wrote them, but whose they are.
    fn forget_strangers(&mut self, decided: &mut Decision) -> usize {
        let stranger = |(name, id): (&str, TopicId)| match self.image.topic(name) {
            None => Some((name.to_owned(), None)),
            Some(now) => (id != TopicId::NONE && id != now.id).then(|| (name.to_owned(), Some(id))),
        };
        let topics = self.groups.places().filter_map(stranger).collect();
        self.forget(topics, decided)
    }

    fn forget(
        &mut self,
        topics: BTreeSet<(String, Option<TopicId>)>,
        decided: &mut Decision,
    ) -> usize {
        if topics.is_empty() {
            return 0;
        }
        probe::hit(Probe::GroupTopicForgotten);
        info!(partition = %self.key.1, ?topics, "forgetting the offsets of deleted topics");
        let time = self.now();
        let topics = topics.into_iter().collect();
        let decision = self.groups.decide(time, Command::TopicsGone { topics });
        self.take(decision, decided)
    }

    /// Tells everybody who waits that they have to ask again.
    fn refuse_all(&mut self) {
        for (_, answer) in std::mem::take(&mut self.waiting) {
            probe::hit(Probe::GroupWaiterRefused);
            let _ = answer.send(Err(ErrorCode::NotCoordinator));
        }
    }
}

impl<I: Io> Drop for Host<I> {
    fn drop(&mut self) {
        self.core.groups.weigh(self.weight, Weight::default());
    }
}

/// Reads the partition from its first record to its present end.
async fn load<I: Io>(core: Rc<Core<I>>, key: shard::Key) -> Result<Groups, String> {
    let mut groups = Groups::new(settings(&core, key));
    let mut next: Option<Offset> = None;
    let mut records = 0_u64;
    loop {
        let (answer, fetched) = core.plans.take();
        let fetch = Fetch {
            from: next.unwrap_or(Offset(0)),
            leader_epoch: LeaderEpoch::NONE,
            last_fetched_epoch: LeaderEpoch::NONE,
            max_bytes: GROUP_READ_BYTES,
            first: First::AtLeastOneBatch,
            wait: None,
            answer,
        };
        shard::ask(&core, key, AskPartition::Fetch(fetch)).await;
        let fetched = fetched.await.map_err(|_| "the partition closed".to_owned())?;
        match fetched.error {
            ErrorCode::None => {}
            // What was compacted or removed is not missed.
            ErrorCode::OffsetOutOfRange if next.is_none() && fetched.start > Offset(0) => {
                next = Some(fetched.start);
                continue;
            }
            code => return Err(code.to_string()),
        }
        let before = next.unwrap_or(Offset(0));
        let mut reached = before;
        for slice in fetched.slices {
            let room = usize::try_from(slice.length).map_err(|error| error.to_string())?;
            let (result, bytes) =
                io::fill_at(&slice.file, Buf::with_capacity(room), slice.position).await;
            result.map_err(|error| error.to_string())?;
            reached = each_record(&bytes, |record| {
                records += 1;
                groups.apply(decoded(&record).map_err(|error| error.to_string())?);
                Ok(())
            })?
            .max(reached);
        }
        if reached >= fetched.high_watermark {
            if records > 0 {
                probe::hit(Probe::GroupsLoaded);
                info!(partition = %key.1, records, "consumer groups loaded");
            }
            return Ok(groups);
        }
        if reached == before {
            return Err(format!(
                "the log ends at offset {reached} and should reach {}",
                fetched.high_watermark
            ));
        }
        next = Some(reached);
    }
}

/// A record of the partition.
fn decoded(record: &batch::Record<'_>) -> Result<Record, RecordError> {
    let mut headers = record.headers();
    let header = headers.find(|header| header.key == TOPIC_ID.as_bytes());
    let topic_id = header.and_then(|header| header.value?.try_into().ok()).map(TopicId);
    Record::decode(record.key.unwrap_or_default(), record.value, topic_id)
}

/// Batches of at most `room` bytes, unless one record alone is larger.
fn in_batches(records: &[Record], now: Wall, room: usize) -> Vec<Vec<u8>> {
    let mut batches = Vec::new();
    let mut batch = Builder::new();
    for record in records {
        let (key, value, topic_id) = (record.key(), record.value(), record.topic_id());
        let header = topic_id.as_ref().map(|id| {
            let (key, value) = (TOPIC_ID.as_bytes(), Some(&id.0[..]));
            RecordHeader { key, value }
        });
        let size = Builder::record_size_max(Some(&key), value.as_deref(), header.as_slice());
        if batch.count() > 0 && batch.size() + size > room {
            batches.push(std::mem::take(&mut batch).finish());
        }
        batch.push(now.0, Some(&key), value.as_deref(), header.as_slice());
    }
    batches.push(batch.finish());
    batches
}

/// How large the segments of a partition are.
fn segment_bytes<I: Io>(core: &Core<I>, key: shard::Key) -> usize {
    let image = core.shared.image();
    let bytes =
        image.partition(key.0, key.1).map(|(topic, _)| core.topic_config(topic).segment_bytes);
    // One that is gone is written to no more.
    bytes.map_or(usize::MAX, |bytes| bytes as usize)
}

fn settings<I: Io>(core: &Core<I>, key: shard::Key) -> Settings {
    // Both together, and the members' names, are one record.
    let group_bytes_max = GROUP_BYTES_MAX.min(segment_bytes(core, key) / 3);
    let config = &core.shared.config.groups;
    Settings {
        session_ms_min: config.session_ms_min,
        session_ms_max: config.session_ms_max,
        members_max: config.members_max.min(GROUP_MEMBERS_MAX),
        initial_delay_ms: config.initial_delay_ms,
        group_bytes_max,
        metadata_bytes_max: config.metadata_bytes_max,
        retention_ms: config.retention_ms,
        expiry_interval_ms: config.expiry_interval_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::group::Committed;
    use crate::wire::batch::Batch;

    #[test]
    fn records_are_written_in_batches_that_fit() {
        let record = |number: usize, size: usize| Record::Committed {
            group: "g".repeat(size),
            topic: "t".to_owned(),
            partition: PartitionIndex(number as i32),
            place: number.is_multiple_of(2).then(|| Committed {
                topic_id: TopicId([number as u8; 16]),
                offset: Offset(1),
                leader_epoch: LeaderEpoch::NONE,
                metadata: String::new(),
                committed_ms: 3,
                expires_ms: None,
            }),
        };
        let sizes = [10, 400, 300, 3000, 10, 10];
        let records: Vec<Record> =
            sizes.into_iter().enumerate().map(|(number, size)| record(number, size)).collect();
        let batches = in_batches(&records, Wall(7), 1000);
        let counts: Vec<i32> =
            batches.iter().map(|bytes| Batch::parse(bytes).expect("a batch").count()).collect();
        assert_eq!(counts, [3, 1, 2]);
        assert!(batches[0].len() <= 1000 && batches[2].len() <= 1000);
        let mut read = Vec::new();
        for bytes in &batches {
            let end = each_record(bytes, |record| {
                read.push(decoded(&record).expect("ours"));
                Ok(())
            });
            end.expect("readable");
        }
        assert_eq!(read, records);
    }

    #[test]
    fn groups_lie_where_kafka_puts_them() {
        // Java: "hello".hashCode() is 99162322.
        for (group, hash) in [("", 0), ("g", 103), ("hello", 99_162_322)] {
            assert_eq!(partition_of(group, 50), PartitionIndex(hash % 50), "{group}");
            assert_eq!(partition_of(group, 7), PartitionIndex(hash % 7), "{group}");
        }
        // A negative hash: "my-group".hashCode() is -1906497762.
        assert_eq!(partition_of("my-group", 50), PartitionIndex(12));
        // "polygenelubricants" hashes to the one number that has no absolute value.
        assert_eq!(partition_of("polygenelubricants", 50), PartitionIndex(0));
    }
}
