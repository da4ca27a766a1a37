//! A client with a quota, made of nothing but frames: it sets its own quota, takes no notice of what
//! it is told to wait, and asks again at once, on one connection or on two. It writes, it reads, or it
//! makes and deletes topics of its own.
//!
//! What it is let through is what QUOTA-1 allows, by the clock of its broker. A second client that
//! has no quota asks the same now and then: it must never be told to wait. What a request to make or
//! to delete something used is known from its answer only as long as none before it was lost, which may
//! be carried out later.
//!
//! What is asked under one number is asked once: a change of the quota that was not answered may come
//! about later, so that from then on the greater quota counts for good.

use std::time::Duration;

use futures_util::future::join_all;
use trialog_engine::client::Client;
use trialog_engine::id::{Offset, PartitionIndex, TopicId};
use trialog_engine::io::{Instant, Io};
use trialog_engine::machine::quota::Quota;
use trialog_engine::wire::api::{
    AlterClientQuotasRequest, AlteredEntity, AlteredQuotas, ApiKey, QuotaOperation,
};
use trialog_engine::wire::batch::{Builder, RecordHeader};
use trialog_engine::wire::code::ErrorCode;
use trialog_engine::wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use trialog_engine::wire::produce::{
    ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic,
};
use trialog_jepsen::history::{Acks, Op, Phase, Value};

use super::mutate::{Made, Mutation};
use super::seal;
use super::wire::{Wire, at_most};
use crate::invariant::quota::{Allowance, Use};
use crate::io::SimIo;
use crate::scenario::shape::{LIMITED_TOPICS, LimitedShape};
use crate::scenario::stage::{Actor, Voice};
use crate::seed::Stream;
use crate::world::Process;

/// The newest version of Produce and Fetch in which topics have names.
const VERSION: i16 = 12;
/// What it calls itself, and whom the quota is for.
const LIMITED: &str = "limited";
/// What it calls itself when it has none.
const FREE: &str = "free";
/// The longest that a quota makes it wait, and more.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The program of a client with a quota.
pub(super) async fn perform(actor: Actor, shape: LimitedShape) {
    super::admin::prepare(&actor).await;
    let mut limited = Limited::new(&actor, shape);
    while !actor.stage.curtain() {
        let (mut random, left_out) = actor.step();
        if !left_out {
            limited.step(&mut random).await;
        }
        actor.pause(&mut random, limited.shape.pause).await;
    }
}

struct Limited {
    voice: Voice,
    shape: LimitedShape,
    client: Client<SimIo>,
    /// Its records so far.
    counter: u32,
    /// The quota that it knows to hold.
    rate: Option<u64>,
    /// The greatest one that may come to hold at any moment.
    doubtful: u64,
    connections: Vec<Option<Connected>>,
    free: Option<Connected>,
    /// What it was let through, since its quota or one of its connections is new.
    allowance: Option<(Process, Allowance)>,
    /// Its topics: of each connection, and of the client without a quota.
    made: [Made; LIMITED_TOPICS.len()],
}

/// A connection, and the process of the broker at its other end.
struct Connected {
    wire: Wire,
    process: Process,
}

/// What it asks for at a time.
enum Demand {
    /// To write a batch.
    Write(Value, Vec<u8>),
    /// To read so many bytes at most.
    Read(i32),
    /// To make or delete something.
    Mutate(Mutation),
}

/// How it was answered.
struct Told {
    /// When it asked, by the clock of the broker.
    asked: Instant,
    answered: Instant,
    used: u64,
    wait: Duration,
    error: ErrorCode,
    base: Offset,
}

impl Limited {
    fn new(actor: &Actor, shape: LimitedShape) -> Limited {
        let voice = actor.voice();
        if shape.quota == Quota::ProducerByteRate {
            let manner = Op::Producer { acks: Acks::All, idempotent: false, identity: None };
            voice.record(Phase::Info, manner);
        }
        let connections = (0..shape.connections).map(|_| None).collect();
        Limited {
            voice,
            client: actor.client(),
            counter: 0,
            rate: None,
            doubtful: 0,
            connections,
            free: None,
            allowance: None,
            made: Default::default(),
            shape,
        }
    }

    async fn step(&mut self, random: &mut Stream) {
        if self.rate.is_none() || random.chance(1, self.shape.changes_every) {
            self.change(random.pick(&self.shape.rates)).await;
        }
        let demands: Vec<Demand> = self
            .connections
            .iter()
            .map(|_| random.bits())
            .collect::<Vec<_>>()
            .into_iter()
            .enumerate()
            .map(|(place, draw)| self.demand(place, draw))
            .collect();
        let asks_free = random.chance(1, 4);
        let voice = self.voice.clone();
        let asked = self.connections.iter_mut().zip(&demands);
        let asked = asked.map(|(connection, demand)| exchange(&voice, connection, LIMITED, demand));
        let answers = join_all(asked).await;
        for (number, (demand, mut told)) in demands.into_iter().zip(answers).enumerate() {
            self.settle(number, &demand, told.as_mut());
            match told {
                Some((process, told)) => self.judge(number, process, &demand, &told),
                None => self.allowance = None,
            }
        }
        if asks_free {
            self.ask_freely(random.bits()).await;
        }
    }

    /// Sets its own quota.
    async fn change(&mut self, rate: u64) {
        let name = Some(LIMITED.to_owned());
        let entity = AlteredEntity { entity_type: "client-id".to_owned(), entity_name: name };
        let key = self.shape.quota.name().to_owned();
        let operation = QuotaOperation { key, value: rate as f64, remove: false };
        let altered = AlteredQuotas { entity: vec![entity], ops: vec![operation] };
        let request = AlterClientQuotasRequest { entries: vec![altered], validate_only: false };
        let told = self.client.call(&request).await.ok();
        let told = told.and_then(|answer| answer.entries.into_iter().next());
        if told.is_some_and(|told| told.error_code == ErrorCode::None.code()) {
            self.rate = Some(rate);
        } else {
            self.doubtful = self.doubtful.max(rate);
        }
        self.allowance = None;
    }

    /// What it asks for from one of its places.
    fn demand(&mut self, place: usize, draw: u64) -> Demand {
        let size = self.shape.size_max / 4 + draw % (self.shape.size_max * 3 / 4);
        match self.shape.quota {
            Quota::ControllerMutationRate => Demand::Mutate(self.made[place].next(place, draw)),
            Quota::ProducerByteRate => {
                let value = self.voice.value(self.counter);
                self.counter += 1;
                let mut bytes = value.0.to_be_bytes().to_vec();
                bytes.resize(size as usize, self.counter as u8);
                let mut batch = Builder::new();
                let seal = seal::of_value(&bytes);
                let seal = RecordHeader { key: seal::NAME.as_bytes(), value: Some(&seal) };
                batch.push(self.voice.actor.io.wall().0, None, Some(&bytes), &[seal]);
                self.record(Phase::Invoke, value, None);
                Demand::Write(value, batch.finish())
            }
            _ => Demand::Read(size as i32),
        }
    }

    /// Takes note of what became of what was asked for.
    fn settle(&mut self, place: usize, demand: &Demand, told: Option<&mut (Process, Told)>) {
        match demand {
            Demand::Read(_) => {}
            Demand::Write(value, _) => match told.map(|(_, told)| (told.error, told.base)) {
                Some((ErrorCode::None, base)) if base.0 >= 0 => {
                    self.record(Phase::Ok, *value, Some(base));
                    self.voice.actor.stage.advance(1);
                }
                _ => self.record(Phase::Info, *value, None),
            },
            Demand::Mutate(mutation) => match told {
                Some((process, told)) => {
                    told.used = self.made[place].heard(mutation, told.error, *process);
                }
                None => {
                    let actor = &self.voice.actor;
                    let running = actor.stage.broker_clock(actor.shape().home);
                    self.made[place].lost(running.map(|(process, _)| process));
                }
            },
        }
    }

    /// QUOTA-1, for one that has a quota.
    fn judge(&mut self, connection: usize, process: Process, demand: &Demand, told: &Told) {
        let Some(rate) = self.rate else { return };
        let rate = rate.max(self.doubtful);
        let (quota, count) = (self.shape.quota, self.connections.len());
        let known = self.allowance.take().filter(|(of, _)| *of == process);
        let (_, mut allowance) =
            known.unwrap_or_else(|| (process, Allowance::new(quota, rate, count)));
        let Told { asked, answered, used, wait, .. } = *told;
        let now = Use { connection, asked, answered, used, told: wait };
        if let Some(wrong) = allowance.let_through(now) {
            self.accuse(&format!("its {} is {rate}: {wrong}", quota.name()));
        }
        if let Demand::Mutate(mutation) = demand
            && let Some(wrong) = mutation.contradiction(told.error, wait)
        {
            self.accuse(wrong);
        }
        self.allowance = Some((process, allowance));
    }

    /// QUOTA-1, for one that has none.
    async fn ask_freely(&mut self, draw: u64) {
        let place = LIMITED_TOPICS.len() - 1;
        let demand = self.demand(place, draw);
        let voice = self.voice.clone();
        let mut told = exchange(&voice, &mut self.free, FREE, &demand).await;
        self.settle(place, &demand, told.as_mut());
        if let Some((_, told)) = told
            && (!told.wait.is_zero() || told.error == ErrorCode::ThrottlingQuotaExceeded)
        {
            self.accuse(&format!("a client without a quota is told to wait {:?}", told.wait));
        }
    }

    fn accuse(&self, what: &str) {
        let text = format!("client {}: {what}", self.voice);
        self.voice.actor.stage.accuse("QUOTA-1", text);
    }

    fn record(&self, phase: Phase, value: Value, offset: Option<Offset>) {
        let actor = &self.voice.actor;
        let topic = actor.stage.topic(actor.shape().topics[0]);
        let (key, tombstone, timestamp_ms) = (None, false, None);
        let partition = Some(PartitionIndex(0));
        let op = Op::Send { topic, partition, key, value, tombstone, timestamp_ms, offset };
        self.voice.record(phase, op);
    }
}

/// One request and its answer, and the process that gave it. What goes wrong ends the connection.
async fn exchange(
    voice: &Voice,
    connection: &mut Option<Connected>,
    client_id: &'static str,
    demand: &Demand,
) -> Option<(Process, Told)> {
    let actor = &voice.actor;
    let limit = actor.shape().request_timeout + WAIT_MAX;
    let told = at_most(&actor.io, limit, ask(actor, connection, client_id, demand)).await;
    if told.is_none() {
        *connection = None;
        actor.io.sleep(Duration::from_millis(50)).await;
    }
    told
}

async fn ask(
    actor: &Actor,
    connection: &mut Option<Connected>,
    client_id: &'static str,
    demand: &Demand,
) -> Option<(Process, Told)> {
    let (stage, home) = (&actor.stage, actor.shape().home);
    let (process, mut asked) = stage.broker_clock(home)?;
    if connection.is_none() {
        let wire = Wire::open(actor, client_id).await?;
        *connection = Some(Connected { wire, process });
        asked = stage.broker_clock(home).filter(|(now, _)| *now == process)?.1;
    }
    let Connected { wire, process: known } = connection.as_mut()?;
    if *known != process {
        return None;
    }
    let name = &actor.topic(actor.shape().topics[0]).name;
    let (error, base, wait_ms, used) = match demand {
        Demand::Write(_, batch) => produce(wire, name, batch).await?,
        Demand::Read(bytes_max) => fetch(wire, name, *bytes_max).await?,
        Demand::Mutate(mutation) => {
            let (error, wait_ms) = mutation.ask(wire).await?;
            // What it used is known when it is compared with what is there.
            (error, Offset(-1), wait_ms, 0)
        }
    };
    let (_, answered) = stage.broker_clock(home).filter(|(now, _)| *now == process)?;
    let wait = Duration::from_millis(u64::try_from(wait_ms).ok()?);
    Some((process, Told { asked, answered, used, wait, error, base }))
}

/// What came of it, and what it used of a quota.
type Outcome = (ErrorCode, Offset, i32, u64);

async fn produce(wire: &mut Wire, name: &str, batch: &[u8]) -> Option<Outcome> {
    let partition = ProducePartition { index: PartitionIndex(0), records: Some(batch) };
    let topic = ProduceTopic { name, topic_id: TopicId::NONE, partitions: vec![partition] };
    let request =
        ProduceRequest { transactional_id: None, acks: -1, timeout_ms: 5000, topics: vec![topic] };
    wire.ask(ApiKey::Produce, VERSION, |out| request.encode(out, VERSION)).await?;
    let answer = wire.hear().await?;
    let response = ProduceResponse::decode(answer.body(ApiKey::Produce, VERSION)?, VERSION).ok()?;
    let wait = response.throttle_time_ms;
    let told = response.topics.into_iter().next()?.partitions.into_iter().next()?;
    // The frame around the batch counts, too; a little less than all of it is no false alarm.
    Some((told.error, told.base_offset, wait, batch.len() as u64))
}

async fn fetch(wire: &mut Wire, name: &str, max_bytes: i32) -> Option<Outcome> {
    // Always from the beginning: something is there, and who reads it learns nothing new.
    let partition = FetchPartition { max_bytes, ..FetchPartition::default() };
    let topic =
        FetchTopic { name: name.to_owned(), partitions: vec![partition], ..FetchTopic::default() };
    let request = FetchRequest {
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes,
        session_epoch: -1,
        topics: vec![topic],
        ..FetchRequest::default()
    };
    wire.ask(ApiKey::Fetch, VERSION, |out| request.encode(out, VERSION)).await?;
    let answer = wire.hear().await?;
    let response = FetchResponse::decode(answer.body(ApiKey::Fetch, VERSION)?, VERSION).ok()?;
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let bytes = partitions.map(|one| one.records.len() as u64).sum();
    Some((ErrorCode::None, Offset(-1), response.throttle_time_ms, bytes))
}
