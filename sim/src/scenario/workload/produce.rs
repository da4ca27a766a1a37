//! A producer: bursts of records until all clients together have their share.
//!
//! Each record carries its value in its first eight bytes. Its outcome is recorded when its ticket
//! says it; with acks=0 nobody knows what became of a record.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use trialog_engine::client::{Acks, NewRecord, Outcome, Producer, ProducerOptions, Ticket};
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::io::Io;
use trialog_engine::wire::batch::RecordHeader;
use trialog_jepsen::history::{self, Op, Phase, Topic, Value};

use super::consume::VALUE_HEADER;
use super::seal;
use crate::io::SimIo;
use crate::scenario::shape::{Nature, ProducerShape};
use crate::scenario::stage::{Actor, Voice};
use crate::seed::Stream;

/// Records of one producer that wait for their outcome at most; it then waits itself.
const PENDING_MAX: u64 = 60;
/// So many keys at most in a compacted topic: each is to be written again and again.
const KEYS_COMPACTED: u64 = 30;
/// After the curtain nobody rests longer than this ...
const REST_MAX: Duration = Duration::from_millis(300);
/// ... and who has records to get acknowledged hurries: it sends each burst at once, and hardly
/// rests. One alone may have all of them to send. Larger bursts could make batches that are too
/// large for the topic's segments.
const HURRY: Duration = Duration::from_millis(20);

/// A producer's program.
pub(super) async fn perform(actor: Actor, shape: ProducerShape) {
    super::admin::prepare(&actor).await;
    let pending = Rc::new(Cell::new(0_u64));
    let mut writer = Writer::new(&actor, &shape, &pending);
    loop {
        let (done, goal) = actor.stage.progress();
        if actor.stage.curtain() && done >= goal {
            break;
        }
        let (mut random, left_out) = actor.step();
        let burst = random.within(1..shape.burst + 1);
        // What runs far ahead of the goal would only make the run long.
        let enough = done >= 2 * goal;
        if left_out {
            if actor.shape().is_heard() {
                actor.stage.advance(burst);
            }
        } else if !enough {
            if random.chance(1, shape.renewed_every) {
                writer = Writer::new(&actor, &shape, &pending);
            }
            for _ in 0..burst {
                writer.write(&mut random).await;
            }
        }
        let most = match (actor.stage.curtain(), actor.shape().is_heard()) {
            (false, _) => shape.pause,
            (true, false) => shape.pause.min(REST_MAX),
            (true, true) => {
                writer.producer.flush().await;
                shape.pause.min(HURRY)
            }
        };
        actor.pause(&mut random, most).await;
        while pending.get() > PENDING_MAX {
            actor.io.sleep(Duration::from_millis(10)).await;
        }
    }
    writer.producer.flush().await;
    while pending.get() > 0 {
        actor.io.sleep(Duration::from_millis(10)).await;
    }
}

/// One producer of the engine's client, with what is drawn for it.
struct Writer<'a> {
    voice: Voice,
    shape: &'a ProducerShape,
    producer: Producer<SimIo>,
    pending: Rc<Cell<u64>>,
    counter: u32,
}

impl<'a> Writer<'a> {
    fn new(actor: &Actor, shape: &'a ProducerShape, pending: &Rc<Cell<u64>>) -> Writer<'a> {
        let voice = actor.voice();
        voice.record(Phase::Info, announced(&shape.options));
        let producer = actor.client().producer(shape.options.clone());
        Writer { voice, shape, producer, pending: pending.clone(), counter: 0 }
    }

    /// Hands one record over.
    async fn write(&mut self, random: &mut Stream) {
        let (shape, actor) = (self.shape, &self.voice.actor);
        let at = self.pick_topic(random);
        let topic = actor.topic(at);
        let partition = PartitionIndex(random.below(topic.partitions as u64) as i32);
        let partition = shape.names_partition.then_some(partition);
        let value = self.voice.value(self.counter);
        self.counter += 1;
        let mut bytes = value.0.to_be_bytes().to_vec();
        bytes.resize(shape.value_bytes, self.counter as u8);
        // A compacted topic takes no records without a key.
        let compacted = topic.nature == Nature::Compacted;
        let keys = if compacted { shape.keys.clamp(5, KEYS_COMPACTED) } else { shape.keys };
        // What may stand twice tells little of what compaction may take: it has keys of its own.
        let kind = if is_idempotent(&shape.options) { "k" } else { "d" };
        let key = (keys > 0).then(|| format!("{kind}{}", random.below(keys)));
        let tombstone = compacted && random.chance(1, 5);
        let around = random.below(2 * shape.times_around_ms + 1) as i64;
        let timestamp = (shape.times_around_ms > 0)
            .then(|| (actor.io.wall().0 + around - shape.times_around_ms as i64).max(0));
        let header = RecordHeader { key: b"header", value: Some(b"content") };
        let mut headers = vec![header; shape.headers];
        if tombstone {
            headers.push(RecordHeader { key: VALUE_HEADER.as_bytes(), value: Some(&bytes[..8]) });
        }
        let send = Sending { topic: actor.stage.topic(at), partition, value, tombstone };
        // A topic that stamps its records itself keeps no time of a sender.
        let kept = timestamp.filter(|_| !topic.stamps());
        self.voice.record(Phase::Invoke, send.asked(key.as_deref(), kept));
        let bare = NewRecord {
            topic: &topic.name,
            partition,
            timestamp,
            key: key.as_deref().map(str::as_bytes),
            value: (!tombstone).then_some(&*bytes),
            headers: &[],
        };
        let seal = seal::of(&NewRecord { headers: &headers, ..bare }, kept);
        headers.push(RecordHeader { key: seal::NAME.as_bytes(), value: Some(&seal) });
        let record = NewRecord { headers: &headers, ..bare };
        match self.producer.enqueue(record).await {
            Ok(ticket) => {
                self.pending.set(self.pending.get() + 1);
                let acks = shape.options.acks;
                let settle = settle(self.voice.clone(), send, acks, ticket, self.pending.clone());
                actor.io.spawn(settle);
            }
            Err(_) => {
                self.voice.record(Phase::Fail, send.ended(None, None));
                if topic.nature == Nature::Fleeting {
                    super::admin::create(actor, at).await;
                }
            }
        }
    }

    /// A topic of its client; one that may not be there less often, and not after the curtain.
    fn pick_topic(&self, random: &mut Stream) -> usize {
        let actor = &self.voice.actor;
        let picks = [random.pick(&actor.shape().topics), random.pick(&actor.shape().topics)];
        let fleeting = |at: &usize| actor.topic(*at).nature == Nature::Fleeting;
        let last = if actor.stage.curtain() { actor.shape().topics[0] } else { picks[1] };
        if fleeting(&picks[0]) { last } else { picks[0] }
    }
}

/// How a producer sends, for the judge.
fn announced(options: &ProducerOptions) -> Op {
    let acks = match options.acks {
        Acks::None => history::Acks::None,
        Acks::Leader => history::Acks::Leader,
        Acks::All => history::Acks::All,
    };
    Op::Producer { acks, idempotent: is_idempotent(options), identity: None }
}

/// Whether each of its records is stored once at most.
fn is_idempotent(options: &ProducerOptions) -> bool {
    options.idempotent && options.acks == Acks::All
}

#[derive(Clone, Copy)]
struct Sending {
    topic: Topic,
    partition: Option<PartitionIndex>,
    value: Value,
    tombstone: bool,
}

impl Sending {
    fn asked(self, key: Option<&str>, timestamp_ms: Option<i64>) -> Op {
        let Sending { topic, partition, value, tombstone } = self;
        let key = key.map(Into::into);
        Op::Send { topic, partition, key, value, tombstone, timestamp_ms, offset: None }
    }

    fn ended(self, partition: Option<PartitionIndex>, offset: Option<Offset>) -> Op {
        let Sending { topic, value, tombstone, .. } = self;
        let (key, timestamp_ms) = (None, None);
        let partition = partition.or(self.partition);
        Op::Send { topic, partition, key, value, tombstone, timestamp_ms, offset }
    }
}

/// Records what became of a record.
async fn settle(voice: Voice, send: Sending, acks: Acks, ticket: Ticket, pending: Rc<Cell<u64>>) {
    let world = voice.actor.io.world().clone();
    match ticket.await {
        Outcome::Stored(receipt) if acks != Acks::None => {
            let ended = send.ended(Some(receipt.partition), receipt.offset);
            voice.record(Phase::Ok, ended);
            voice.actor.stage.advance(1);
        }
        Outcome::Stored(_) => {
            voice.record(Phase::Info, send.ended(None, None));
        }
        Outcome::Failed(reason) => {
            world.say(&format!("{} failed: {reason}", send.value));
            voice.record(Phase::Fail, send.ended(None, None));
        }
        Outcome::Unknown(reason) => {
            world.say(&format!("{} unknown: {reason}", send.value));
            voice.record(Phase::Info, send.ended(None, None));
        }
    }
    pending.set(pending.get() - 1);
}
