//! A consumer of assigned partitions: reads on, goes elsewhere, takes partitions on and off, and
//! is slow now and then. Some keep their positions in a file ([`super::keep`]), and go on there after a
//! crash. And the last readers, which read everything there is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trialog_engine::client::{
    Client, ConsumeError, ConsumedRecord, Consumer, ConsumerOptions, Start,
};
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::io::Io;
use trialog_jepsen::history::{BEGINNING, END, Op, Phase, Record, Value};

use super::keep::Keep;
use super::operate;
use super::seal;
use crate::io::SimIo;
use crate::net::MODEST_ANSWER_BYTES;
use crate::scenario::shape::ConsumerShape;
use crate::scenario::stage::{Actor, Stage, Voice};
use crate::seed::Stream;

/// The header that says a tombstone's value.
pub const VALUE_HEADER: &str = "value";

/// A partition: the place of its topic in the shape, and its number.
pub type Part = (usize, PartitionIndex);

/// A consumer's program.
pub(super) async fn perform(actor: Actor, shape: ConsumerShape) {
    super::admin::prepare(&actor).await;
    let mut keep = if shape.keeps { Some(Keep::open(&actor).await) } else { None };
    let mut reader = Reader::new(&actor, &shape, keep.as_ref());
    while !actor.stage.curtain() {
        let (mut random, left_out) = actor.step();
        if !left_out {
            if random.chance(1, shape.renewed_every) {
                reader = Reader::new(&actor, &shape, keep.as_ref());
            }
            if random.chance(1, shape.changes_every) {
                reader.change(&mut random);
            }
            if random.chance(1, shape.seeks_every) {
                reader.go_elsewhere(&mut random).await;
            }
            reader.poll(shape.poll).await;
            if let Some(keep) = &mut keep {
                keep.save(reader.positions()).await;
            }
        }
        actor.pause(&mut random, shape.pause).await;
    }
}

/// How often the last reader begins anew because of compaction; after the curtain nothing is written,
/// and compaction comes to its end.
const WALKS_MAX: u32 = 10;

/// The program of the last reader of a broker: everything from its beginning to its end, and again if
/// compaction went on meanwhile. What is read of a log is then what it was at one time.
pub(crate) async fn read_everything(io: SimIo, stage: Stage, broker: usize) {
    let Some(actor) = Actor::new(io, stage) else { return };
    let asking = actor.client_of(broker, Duration::from_secs(2), BTreeMap::new());
    let mut walks = 0;
    loop {
        walks += 1;
        let before = operate::compacted(&actor, broker);
        // What a late request makes or deletes is found by looking again.
        let Ok(listed) = asking.admin().list_topics().await else { continue };
        // Topics may have come and gone, and partitions been added.
        let count = |at: usize| {
            let topic = listed.iter().find(|topic| topic.name == actor.topic(at).name);
            topic.map_or(0, |topic| topic.partitions as i32)
        };
        let topics = actor.stage.shape.topics_of(broker);
        let options = ConsumerOptions {
            wait_max: Duration::from_millis(50),
            bytes_max: MODEST_ANSWER_BYTES,
            ..ConsumerOptions::default()
        };
        let mut reader = Reader {
            voice: actor.voice(),
            consumer: asking.consumer(options),
            client: asking.clone(),
            reads: BTreeSet::new(),
            times: BTreeMap::new(),
        };
        for at in topics {
            reader.reads.extend((0..count(at)).map(|index| (at, PartitionIndex(index))));
        }
        reader.assign();
        for part in reader.reads.clone() {
            reader.seek(part, BEGINNING);
        }
        loop {
            match reader.poll(Duration::from_millis(200)).await {
                Polled::Records => {}
                Polled::Nothing if reader.is_at_the_end().await => {
                    if walks >= WALKS_MAX || operate::compacted(&actor, broker) == before {
                        return;
                    }
                    break;
                }
                Polled::Nothing => {}
                Polled::Refused => break,
            }
        }
    }
}

fn partitions(actor: &Actor, at: usize) -> impl Iterator<Item = PartitionIndex> + use<> {
    (0..actor.topic(at).partitions).map(PartitionIndex)
}

/// A record as it stands in the history.
pub fn heard(stage: &Stage, got: &ConsumedRecord) -> Record {
    let at = stage.topic_named(&got.topic);
    // A tombstone's value travels in a header.
    let beside = || got.headers.iter().find(|(name, _)| name == VALUE_HEADER)?.1.as_deref();
    let bytes = got.value.as_deref().or_else(beside);
    let head = bytes.filter(|_| seal::is_whole(got)).and_then(|bytes| bytes.first_chunk());
    let value = head.map_or(Value::FOREIGN, |head| Value(u64::from_be_bytes(*head)));
    Record { topic: stage.topic(at), partition: got.partition, offset: got.offset, value }
}

/// Damage is noticed as it must be; but something must have struck.
pub fn on_damage(voice: &Voice, topic: &str, partition: PartitionIndex, error: &ConsumeError) {
    let Actor { io, stage, .. } = &voice.actor;
    if !stage.may_be_damaged(io, stage.topic_named(topic), partition) {
        stage.complain(format!("consumer {voice}: {error}"));
    }
}

/// One consumer of the engine's client, with what it reads.
struct Reader {
    voice: Voice,
    client: Client<SimIo>,
    consumer: Consumer<SimIo>,
    reads: BTreeSet<Part>,
    /// The time of the last record that it got of a partition, unless it had to begin anew since.
    times: BTreeMap<Part, i64>,
}

/// What a poll brought.
enum Polled {
    Records,
    Nothing,
    Refused,
}

impl Reader {
    /// A consumer of all partitions of its topics, from where it has kept that it was, or else from
    /// their beginnings.
    fn new(actor: &Actor, shape: &ConsumerShape, keep: Option<&Keep>) -> Reader {
        let client = actor.client();
        let consumer = client.consumer(shape.options.clone());
        let topics = actor.shape().topics.iter();
        let reads: BTreeSet<Part> =
            topics.flat_map(|&at| partitions(actor, at).map(move |index| (at, index))).collect();
        let times = BTreeMap::new();
        let mut reader = Reader { voice: actor.voice(), client, consumer, reads, times };
        reader.assign();
        for part in reader.reads.clone() {
            let kept = keep.and_then(|keep| keep.position(part));
            reader.seek(part, kept.unwrap_or(BEGINNING));
        }
        reader
    }

    /// Where it stands, where that is known.
    fn positions(&self) -> BTreeMap<Part, Offset> {
        let position = |part: &Part| {
            let name = &self.voice.actor.topic(part.0).name;
            Some((*part, self.consumer.position(name, part.1)?))
        };
        self.reads.iter().filter_map(position).collect()
    }

    /// Records what it reads from now on.
    fn assign(&self) {
        let stage = &self.voice.actor.stage;
        let partitions = self.reads.iter().map(|&(at, index)| (stage.topic(at), index)).collect();
        self.voice.record(Phase::Ok, Op::Assign { partitions });
    }

    /// Goes to an offset, or to one of the named places.
    fn seek(&mut self, (at, partition): Part, offset: Offset) {
        let actor = &self.voice.actor;
        let topic = actor.stage.topic(at);
        self.voice.record(Phase::Ok, Op::Seek { topic, partition, offset });
        let start = match offset {
            BEGINNING => Start::Earliest,
            END => Start::Latest,
            offset => Start::Offset(offset),
        };
        self.consumer.assign(&actor.topic(at).name, partition, start);
    }

    /// Takes a partition off, or on again from its beginning.
    fn change(&mut self, random: &mut Stream) {
        let actor = self.voice.actor.clone();
        let at = random.pick(&actor.shape().topics);
        let index = PartitionIndex(random.below(actor.topic(at).partitions as u64) as i32);
        if self.reads.remove(&(at, index)) {
            self.consumer.unassign(&actor.topic(at).name, index);
            self.assign();
        } else {
            self.reads.insert((at, index));
            self.assign();
            self.seek((at, index), BEGINNING);
        }
    }

    /// Goes to the beginning, the end, an offset before its own, or a time.
    async fn go_elsewhere(&mut self, random: &mut Stream) {
        if self.reads.is_empty() {
            return;
        }
        let reads: Vec<Part> = self.reads.iter().copied().collect();
        let part = random.pick(&reads);
        let name = self.voice.actor.topic(part.0).name.clone();
        let draw = random.bits();
        match random.below(6) {
            0..3 => self.seek(part, BEGINNING),
            3 => self.seek(part, END),
            4 => {
                let position = self.consumer.position(&name, part.1).map_or(0, |offset| offset.0);
                let offset = draw % (position.max(0) as u64 + 1);
                self.seek(part, Offset(offset as i64));
            }
            _ => {
                let back = (draw % 20_000) as i64;
                let ago = self.voice.actor.io.wall().0 - back;
                // The time of a record is where a look-up is wrong by one, if it is.
                let exact = self.times.get(&part).copied().filter(|_| !draw.is_multiple_of(3));
                let ms = exact.unwrap_or(ago).max(0);
                if let Some(offset) = self.offset_of_time(part, ms).await {
                    self.seek(part, offset);
                }
            }
        }
    }

    /// The first offset of a time or later, the end if there is none; `None` if nobody told it.
    async fn offset_of_time(&self, (at, partition): Part, ms: i64) -> Option<Offset> {
        let actor = &self.voice.actor;
        let op =
            |offset| Op::ListOffset { topic: actor.stage.topic(at), partition, ask: ms, offset };
        self.voice.record(Phase::Invoke, op(None));
        let start = Start::Time(ms);
        match self.client.admin().list_offset(&actor.topic(at).name, partition, start).await {
            Ok(found) => {
                let offset = found.map(|(offset, _)| offset);
                self.voice.record(Phase::Ok, op(offset));
                Some(offset.unwrap_or(END))
            }
            Err(_) => {
                self.voice.record(Phase::Info, op(None));
                None
            }
        }
    }

    /// Reads on, and records what came.
    async fn poll(&mut self, timeout: Duration) -> Polled {
        match self.consumer.poll(timeout).await {
            Ok(records) if records.is_empty() => Polled::Nothing,
            Ok(records) => {
                let stage = &self.voice.actor.stage;
                let topics = &stage.shape.topics;
                for got in &records {
                    let at = topics.iter().position(|topic| *topic.name == *got.topic);
                    let at = at.expect("only topics of the shape are read");
                    self.times.insert((at, got.partition), got.timestamp);
                }
                let records = records.iter().map(|got| heard(stage, got)).collect();
                self.voice.record(Phase::Ok, Op::Poll { records });
                Polled::Records
            }
            Err(error) => {
                self.on_error(&error);
                self.voice.actor.io.sleep(Duration::from_millis(50)).await;
                Polled::Refused
            }
        }
    }

    /// The broker may be without its topic or its disk, or a batch may have rotted. What else is
    /// wrong must have a reason in the nature of the topic.
    fn on_error(&mut self, error: &ConsumeError) {
        let actor = self.voice.actor.clone();
        match error {
            ConsumeError::Refused { .. } | ConsumeError::Call(_) => {}
            ConsumeError::OutOfRange { topic, partition, .. } => {
                let at = actor.stage.topic_named(topic);
                if actor.is_lasting(at) {
                    actor.stage.complain(format!("consumer {}: {error}", self.voice));
                }
                // What it has read is gone, and it may find nothing more.
                self.times.remove(&(at, *partition));
                self.seek((at, *partition), BEGINNING);
            }
            ConsumeError::Corrupt { topic, partition, .. } => {
                on_damage(&self.voice, topic, *partition, error);
            }
        }
    }

    /// Where a partition begins of which nothing was read; false if nobody tells.
    async fn tells_start(&self, at: usize, partition: PartitionIndex) -> bool {
        let name = &self.voice.actor.topic(at).name;
        let topic = self.voice.actor.stage.topic(at);
        let op = |offset| Op::ListOffset { topic, partition, ask: BEGINNING.0, offset };
        self.voice.record(Phase::Invoke, op(None));
        match self.client.admin().list_offset(name, partition, Start::Earliest).await {
            Ok(Some((start, _))) => {
                self.voice.record(Phase::Ok, op(Some(start)));
                true
            }
            _ => {
                self.voice.record(Phase::Fail, op(None));
                false
            }
        }
    }

    /// Whether every partition has been read to its end.
    async fn is_at_the_end(&self) -> bool {
        for &(at, partition) in &self.reads {
            let name = &self.voice.actor.topic(at).name;
            let topic = self.voice.actor.stage.topic(at);
            let told = |offset| Op::ListOffset { topic, partition, ask: END.0, offset };
            self.voice.record(Phase::Invoke, told(None));
            let end = self.client.admin().list_offset(name, partition, Start::Latest).await;
            let Ok(Some((end, _))) = end else {
                self.voice.record(Phase::Fail, told(None));
                return false;
            };
            // Whatever retention takes, it does not take back.
            self.voice.record(Phase::Ok, told(Some(end)));
            if !self.times.contains_key(&(at, partition)) && !self.tells_start(at, partition).await
            {
                return false;
            }
            let position = self.consumer.position(name, partition);
            if position != Some(end) {
                let world = self.voice.actor.io.world();
                world.say(&format!("{name}-{partition} is read up to {position:?} of {end}"));
                return false;
            }
        }
        true
    }
}
