//! A zombie: a producer made of nothing but frames, which repeats batches that the broker has.
//!
//! It sends numbered batches on one connection and, now and then, one of its last ones again on
//! another, while the next is under way: as a producer does that believes its answer lost, and as
//! a network does that delivers twice. Each record must be stored once, and a repetition must be
//! answered with the first offset.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

use trialog_engine::id::{
    CorrelationId, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId,
};
use trialog_engine::io::{self, Buf, Connection, Flow, Io};
use trialog_engine::wire::api::InitProducerIdRequest;
use trialog_engine::wire::batch::Builder;
use trialog_engine::wire::code::ErrorCode;
use trialog_engine::wire::frame::{self, RequestHeader};
use trialog_engine::wire::produce::{
    KEY, ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic,
};
use trialog_jepsen::history::{Acks, Op, Phase, Value};

use crate::io::SimIo;
use crate::machine::Machine;
use crate::scenario::shape::ZombieShape;
use crate::scenario::stage::{Actor, PORT, Voice};

/// The newest version in which topics have names.
const VERSION: i16 = 12;
/// Batches that it may still repeat: as many as a broker must recognise.
const KEPT: usize = 5;

/// A zombie's program.
pub async fn perform(actor: Actor, shape: ZombieShape) {
    super::admin::prepare(&actor).await;
    let mut zombie: Option<Zombie> = None;
    while !actor.stage.curtain() {
        let (mut random, left_out) = actor.step();
        let records = random.within(1..shape.batch + 1);
        let at = random.pick(&actor.shape().topics);
        let repeated = random.chance(1, shape.repeats_every).then(|| random.bits());
        if !left_out && actor.is_lasting(at) {
            if zombie.is_none() {
                zombie = Zombie::new(&actor, at).await;
            }
            if let Some(mut now) = zombie.take()
                && now.send(records, repeated).await
            {
                zombie = Some(now);
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
    wire: Option<SimWire>,
    sent: Vec<Sent>,
}

type SimWire = <SimIo as Io>::Connection;

/// A batch that the broker has.
#[derive(Clone)]
struct Sent {
    bytes: Vec<u8>,
    base: Offset,
}

/// What became of a request.
enum Answer {
    Told(ProducePartitionResponse),
    Nothing,
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
        voice.record(Phase::Info, Op::Producer { acks: Acks::All, idempotent: true });
        Some(Zombie {
            voice,
            at,
            id: ProducerId(answer.producer_id),
            epoch: ProducerEpoch(answer.producer_epoch),
            sequence: 0,
            counter: 0,
            wire: None,
            sent: Vec::new(),
        })
    }

    /// Sends a batch until somebody says what became of it, and repeats another meanwhile. False
    /// if this identity is of no use any more.
    async fn send(&mut self, records: u64, repeated: Option<u64>) -> bool {
        let values: Vec<Value> = (0..records)
            .map(|_| {
                self.counter += 1;
                self.voice.value(self.counter)
            })
            .collect();
        let mut batch = Builder::new().producer(self.id, self.epoch, self.sequence);
        let now = self.voice.actor.io.wall().0;
        for value in &values {
            batch.push(now, None, Some(&value.0.to_be_bytes()), &[]);
        }
        let bytes = batch.finish();
        values.iter().for_each(|value| self.record(Phase::Invoke, *value, None));
        if let Some(draw) = repeated
            && !self.sent.is_empty()
        {
            let sent = self.sent[draw as usize % self.sent.len()].clone();
            let (voice, at) = (self.voice.clone(), self.at);
            self.voice.actor.io.spawn(repeat(voice, at, sent));
        }
        let base = self.until_told(&bytes).await;
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
        if self.sent.len() == KEPT - 1 {
            self.sent.remove(0);
        }
        self.sent.push(Sent { bytes, base });
        true
    }

    /// The batch's first offset; `None` if that will not be known.
    async fn until_told(&mut self, bytes: &[u8]) -> Option<Offset> {
        loop {
            let told = exchange(&self.voice, self.at, &mut self.wire, bytes).await;
            match told {
                Answer::Told(told) => match told.error {
                    ErrorCode::None if told.base_offset.0 >= 0 => return Some(told.base_offset),
                    code if code.retriable() => {}
                    _ => return None,
                },
                Answer::Nothing if self.voice.actor.stage.curtain() => return None,
                Answer::Nothing => {}
            }
            self.voice.actor.io.sleep(Duration::from_millis(100)).await;
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
async fn repeat(voice: Voice, at: usize, sent: Sent) {
    let mut wire = None;
    let Answer::Told(told) = exchange(&voice, at, &mut wire, &sent.bytes).await else { return };
    if told.error == ErrorCode::None && told.base_offset != sent.base {
        voice.actor.stage.complain(format!(
            "zombie {voice}: a repeated batch stands at offset {}, it was answered {}",
            sent.base, told.base_offset
        ));
    }
}

/// One produce request and its answer. What goes wrong ends the connection.
async fn exchange(voice: &Voice, at: usize, wire: &mut Option<SimWire>, bytes: &[u8]) -> Answer {
    let actor = &voice.actor;
    let told = {
        let asked = pin!(ask(voice, at, wire, bytes));
        let limit = pin!(actor.io.sleep(actor.shape().request_timeout));
        match select(asked, limit).await {
            Either::Left((told, _)) => told,
            Either::Right(_) => None,
        }
    };
    match told {
        Some(told) => Answer::Told(told),
        None => {
            if let Some(wire) = wire.take() {
                wire.close();
            }
            Answer::Nothing
        }
    }
}

async fn ask(
    voice: &Voice,
    at: usize,
    wire: &mut Option<SimWire>,
    bytes: &[u8],
) -> Option<ProducePartitionResponse> {
    let actor = &voice.actor;
    if wire.is_none() {
        let broker = SocketAddr::new(Machine::address(actor.shape().home), PORT);
        *wire = Some(actor.io.connect(broker).await.ok()?);
    }
    let wire = wire.as_ref()?;
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
    let mut out = Vec::new();
    let start = frame::begin_frame(&mut out);
    let header = RequestHeader {
        api_key: KEY,
        api_version: VERSION,
        correlation_id: CorrelationId(1),
        client_id: Some("zombie"),
    };
    header.encode(&mut out);
    request.encode(&mut out, VERSION);
    frame::end_frame(&mut out, start, 0);
    io::write_all(wire, Buf::from(out), Flow::Done).await.ok()?;
    let mut read = Vec::new();
    loop {
        if let Some(size) = frame::frame_size(&read).ok()?
            && read.len() >= frame::SIZE_BYTES + size
        {
            let frame = &read[frame::SIZE_BYTES..frame::SIZE_BYTES + size];
            let body = frame::response_body(frame, KEY, VERSION).ok()?;
            let response = ProduceResponse::decode(&frame[body..], VERSION).ok()?;
            return response.topics.into_iter().next()?.partitions.into_iter().next();
        }
        let (count, buf) = wire.read(Buf::with_capacity(4096)).await;
        if count.ok()? == 0 {
            return None;
        }
        read.extend_from_slice(&buf);
    }
}
