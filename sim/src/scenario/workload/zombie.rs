//! A zombie: a producer made of nothing but frames, which repeats batches that the broker has.
//!
//! It sends numbered batches on one connection and, now and then, one of its last ones again on
//! another, while the next is under way: as a producer does that believes its answer lost, and as
//! a network does that delivers twice. Each record must be stored once, and a repetition must be
//! answered with the first offset: the broker knows the last five batches of each producer. Or it
//! sends one batch on two connections at once.
//!
//! Now and then it begins a new epoch of its identity, as an idempotent producer does that has lost
//! its sequence (KIP-360), and then sends a batch of the old epoch: one that was under way for too
//! long. From a fenced epoch nothing may be stored; it tells the history of its epochs, and the judge
//! looks (`zombie-write`).
//!
//! And now and then one of its batches is not what its checksum says, as if bits had flipped in its
//! memory: the broker must refuse it.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use trialog_engine::id::{Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId};
use trialog_engine::io::Io;
use trialog_engine::wire::api::{ApiKey, InitProducerIdRequest};
use trialog_engine::wire::batch::{Builder, RecordHeader};
use trialog_engine::wire::code::ErrorCode;
use trialog_engine::wire::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic,
};
use trialog_jepsen::history::{Acks, Identity, Op, Phase, Value};

use super::seal;
use super::wire::{Wire, at_most};
use crate::scenario::shape::ZombieShape;
use crate::scenario::stage::{Actor, Voice};

/// The newest version in which topics have names.
const VERSION: i16 = 12;
/// Batches that a broker must recognise: the last ones of an epoch.
const KEPT: u32 = 5;
/// One in so many batches is followed by one that is broken.
const BROKEN_EVERY: u64 = 6;

/// A zombie's program.
pub(super) async fn perform(actor: Actor, shape: ZombieShape) {
    super::admin::prepare(&actor).await;
    let mut zombie: Option<Zombie> = None;
    while !actor.stage.curtain() {
        let (mut random, left_out) = actor.step();
        let records = random.within(1..shape.batch + 1);
        let at = random.pick(&actor.shape().topics);
        let repeated = random.chance(1, shape.repeats_every).then(|| random.bits());
        let fences = random.chance(1, shape.fences_every);
        let twice = random.chance(1, shape.repeats_every);
        let broken = random.chance(1, BROKEN_EVERY);
        if !left_out && actor.is_lasting(at) {
            if zombie.is_none() {
                zombie = Zombie::new(&actor, at).await;
            }
            if let Some(mut now) = zombie.take() {
                let old = fences.then(|| now.begin_epoch()).flatten();
                let is_known = now.send(records, repeated, twice).await;
                if let Some(old) = old.filter(|_| is_known) {
                    now.come_late(old).await;
                }
                if is_known && broken {
                    now.send_broken().await;
                }
                zombie = is_known.then_some(now);
            }
        }
        actor.pause(&mut random, shape.pause).await;
    }
}

struct Zombie {
    voice: Voice,
    at: usize,
    id: ProducerId,
    epoch: ProducerEpoch,
    sequence: i32,
    counter: u32,
    wire: Option<Wire>,
    sent: Vec<Sent>,
    /// How many batches of this epoch were begun, for those that are repeated meanwhile; another
    /// epoch has another count.
    begun: Rc<Cell<u32>>,
}

/// A batch that the broker has.
#[derive(Clone)]
struct Sent {
    bytes: Vec<u8>,
    base: Offset,
    /// How many were begun before it in its epoch.
    number: u32,
}

/// Where an epoch ended that is fenced.
struct Old {
    epoch: ProducerEpoch,
    sequence: i32,
}

impl Zombie {
    /// A new identity; `None` if nobody gives one.
    async fn new(actor: &Actor, at: usize) -> Option<Zombie> {
        let request = InitProducerIdRequest {
            transaction_timeout_ms: 1000,
            ..InitProducerIdRequest::default()
        };
        let answer = actor.client().call(&request).await.ok()?;
        if answer.error_code != ErrorCode::None.code() {
            return None;
        }
        let voice = actor.voice();
        let zombie = Zombie {
            voice,
            at,
            id: ProducerId(answer.producer_id),
            epoch: ProducerEpoch(answer.producer_epoch),
            sequence: 0,
            counter: 0,
            wire: None,
            sent: Vec::new(),
            begun: Rc::default(),
        };
        zombie.announce(zombie.epoch);
        Some(zombie)
    }

    /// Says that it writes in this epoch from now on.
    fn announce(&self, epoch: ProducerEpoch) {
        let identity = Some(Identity { id: self.id, epoch });
        let manner = Op::Producer { acks: Acks::All, idempotent: true, identity };
        self.voice.record(Phase::Info, manner);
    }

    /// Sends a batch until somebody says what became of it, and repeats another meanwhile; if
    /// `twice`, on two connections at the same time. False if this identity is of no use any more.
    async fn send(&mut self, records: u64, repeated: Option<u64>, twice: bool) -> bool {
        let (values, bytes) = self.batch(records, self.epoch, self.sequence);
        let number = self.begun.get();
        self.begun.set(number + 1);
        if let Some(draw) = repeated
            && !self.sent.is_empty()
        {
            let sent = self.sent[draw as usize % self.sent.len()].clone();
            let (voice, at, begun) = (self.voice.clone(), self.at, self.begun.clone());
            self.voice.actor.io.spawn(repeat(voice, at, sent, begun));
        }
        let base = self.until_told(&bytes, twice).await;
        for (value, delta) in values.iter().zip(0..) {
            match base {
                Some(base) => {
                    self.record(Phase::Ok, *value, Some(base.plus(delta)));
                    self.voice.actor.stage.advance(1);
                }
                None => self.record(Phase::Info, *value, None),
            }
        }
        let Some(base) = base else { return false };
        self.sequence += records as i32;
        // With the next one, these are what the broker must recognise.
        if self.sent.len() == KEPT as usize - 1 {
            self.sent.remove(0);
        }
        self.sent.push(Sent { bytes, base, number });
        true
    }

    /// A batch of fresh records, which count as sent.
    fn batch(
        &mut self,
        records: u64,
        epoch: ProducerEpoch,
        sequence: i32,
    ) -> (Vec<Value>, Vec<u8>) {
        let mut batch = Builder::new().producer(self.id, epoch, sequence);
        let now = self.voice.actor.io.wall().0;
        let values: Vec<Value> = (0..records)
            .map(|_| {
                self.counter += 1;
                self.voice.value(self.counter)
            })
            .collect();
        for value in &values {
            let bytes = value.0.to_be_bytes();
            let seal = seal::of_value(&bytes);
            let seal = RecordHeader { key: seal::NAME.as_bytes(), value: Some(&seal) };
            batch.push(now, None, Some(&bytes), &[seal]);
            self.record(Phase::Invoke, *value, None);
        }
        (values, batch.finish())
    }

    /// From now on it writes in the next epoch; tells of the one that ends, if it wrote in it.
    fn begin_epoch(&mut self) -> Option<Old> {
        let old = Old { epoch: self.epoch, sequence: self.sequence };
        self.epoch = ProducerEpoch(self.epoch.0.checked_add(1)?);
        self.sequence = 0;
        self.sent.clear();
        self.begun = Rc::default();
        self.announce(self.epoch);
        (old.sequence > 0).then_some(old)
    }

    /// A batch of an old epoch arrives now, behind one of the new epoch that is acknowledged.
    async fn come_late(&mut self, old: Old) {
        self.announce(old.epoch);
        let (values, bytes) = self.batch(1, old.epoch, old.sequence);
        self.announce(self.epoch);
        let told = exchange(&self.voice, self.at, &mut self.wire, &bytes).await;
        let (phase, offset) = match told {
            Some(told) if told.error == ErrorCode::None => (Phase::Ok, Some(told.base_offset)),
            Some(told) if told.error == ErrorCode::InvalidProducerEpoch => (Phase::Fail, None),
            _ => (Phase::Info, None),
        };
        values.iter().for_each(|value| self.record(phase, *value, offset));
    }

    /// READ-3: a batch that is not what its checksum says is refused. It has the next sequence, so
    /// that nothing else is wrong with it.
    async fn send_broken(&mut self) {
        let (values, mut bytes) = self.batch(1, self.epoch, self.sequence);
        // In the record's value: behind it stands only how many headers it has.
        let place = bytes.len() - 2;
        bytes[place] ^= 1;
        let told = exchange(&self.voice, self.at, &mut self.wire, &bytes).await;
        let code = told.map(|told| told.error);
        let refused = code == Some(ErrorCode::CorruptMessage);
        if code == Some(ErrorCode::None) {
            let text = format!("zombie {}: a batch with a wrong checksum was taken", self.voice);
            self.voice.actor.stage.accuse("READ-3", text);
        }
        let phase = if refused { Phase::Fail } else { Phase::Info };
        values.iter().for_each(|value| self.record(phase, *value, None));
    }

    /// The batch's first offset; `None` if that will not be known.
    async fn until_told(&mut self, bytes: &[u8], twice: bool) -> Option<Offset> {
        loop {
            let told = match twice {
                true => self.race(bytes).await,
                false => exchange(&self.voice, self.at, &mut self.wire, bytes).await,
            };
            match told {
                Some(told) => match told.error {
                    ErrorCode::None if told.base_offset.0 >= 0 => return Some(told.base_offset),
                    code if code.retriable() => {}
                    _ => return None,
                },
                None if self.voice.actor.stage.curtain() => return None,
                None => {}
            }
            self.voice.actor.io.sleep(Duration::from_millis(100)).await;
        }
    }

    /// Sends a batch on two connections, and believes what comes first: the second one to arrive
    /// may be answered no sooner than the first one is durable.
    async fn race(&mut self, bytes: &[u8]) -> Option<ProducePartitionResponse> {
        let (mut one, mut other) = (self.wire.take(), None);
        {
            let first = pin!(exchange(&self.voice, self.at, &mut one, bytes));
            let second = pin!(exchange(&self.voice, self.at, &mut other, bytes));
            match select(first, second).await {
                Either::Left((None, rest)) => rest.await,
                Either::Right((None, rest)) => rest.await,
                Either::Left((told, _)) | Either::Right((told, _)) => told,
            }
        }
    }

    fn record(&self, phase: Phase, value: Value, offset: Option<Offset>) {
        let topic = self.voice.actor.stage.topic(self.at);
        let (key, tombstone, timestamp_ms) = (None, false, None);
        let partition = Some(PartitionIndex(0));
        let op = Op::Send { topic, partition, key, value, tombstone, timestamp_ms, offset };
        self.voice.record(phase, op);
    }
}

/// Sends a batch that the broker has again, on a connection of its own.
async fn repeat(voice: Voice, at: usize, sent: Sent, begun: Rc<Cell<u32>>) {
    let Some(told) = exchange(&voice, at, &mut None, &sent.bytes).await else { return };
    let is_remembered = begun.get() - sent.number <= KEPT;
    let wrong = match told.error {
        ErrorCode::None if told.base_offset != sent.base => {
            format!("was answered {}", told.base_offset)
        }
        // An epoch that has ended meanwhile begins a count of its own, which this one does not see;
        // it is refused with another code.
        ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId if is_remembered => {
            format!("was refused with {:?}", told.error)
        }
        _ => return,
    };
    let base = sent.base;
    let text = format!("zombie {voice}: a repeated batch stands at offset {base}, it {wrong}");
    voice.actor.stage.accuse("repetition", text);
}

/// One produce request and its answer. What goes wrong ends the connection.
async fn exchange(
    voice: &Voice,
    at: usize,
    wire: &mut Option<Wire>,
    bytes: &[u8],
) -> Option<ProducePartitionResponse> {
    let actor = &voice.actor;
    let limit = actor.shape().request_timeout;
    let told = at_most(&actor.io, limit, ask(voice, at, wire, bytes)).await;
    if told.is_none() {
        *wire = None;
    }
    told
}

async fn ask(
    voice: &Voice,
    at: usize,
    wire: &mut Option<Wire>,
    bytes: &[u8],
) -> Option<ProducePartitionResponse> {
    let actor = &voice.actor;
    if wire.is_none() {
        *wire = Some(Wire::open(actor, "zombie").await?);
    }
    let wire = wire.as_mut()?;
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 5000,
        topics: vec![ProduceTopic {
            name: &actor.topic(at).name,
            topic_id: TopicId::NONE,
            partitions: vec![ProducePartition { index: PartitionIndex(0), records: Some(bytes) }],
        }],
    };
    wire.ask(ApiKey::Produce, VERSION, |out| request.encode(out, VERSION)).await?;
    let answer = wire.hear().await?;
    let body = answer.body(ApiKey::Produce, VERSION)?;
    let response = ProduceResponse::decode(body, VERSION).ok()?;
    response.topics.into_iter().next()?.partitions.into_iter().next()
}
