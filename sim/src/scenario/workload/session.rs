//! A reader with incremental fetch sessions (KIP-227), made of nothing but frames: it names only what
//! has changed since its last request, as Kafka's own consumers do, and the broker must remember the
//! rest.
//!
//! It reads topics that last, records what it reads as any assigned consumer, and leaves only when it
//! has read every partition up to where it ended after the curtain: a partition that its session
//! has forgotten keeps it waiting for ever. Topics have their names in its requests or, as those of
//! consumers of today, their ids. Now and then it sends another request right behind a
//! fetch that waits; the answers must come in the order of the requests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trialog_engine::client::Start;
use trialog_engine::id::{Offset, PartitionIndex, TopicId};
use trialog_engine::wire::api::{
    ApiKey, ApiVersionsRequest, Message, MetadataRequest, MetadataRequestTopic,
};
use trialog_engine::wire::batch::{Batch, BatchError};
use trialog_engine::wire::code::ErrorCode;
use trialog_engine::wire::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic,
};
use trialog_jepsen::history::{BEGINNING, Op, Phase, Record, Value};

use super::wire::{Answer, Wire, at_most};
use crate::scenario::shape::SessionShape;
use crate::scenario::stage::{Actor, Voice};
use crate::seed::Stream;

/// The first version of Fetch in which topics have ids instead of names.
const BY_ID: i16 = 13;
/// A version of ApiVersions, for the request behind a fetch.
const OTHER_VERSION: i16 = 0;

/// After the curtain it rests no longer than this: a fetch may bring it no more than one batch, and
/// there may be thousands.
const HURRY: Duration = Duration::from_millis(20);
/// After the curtain it waits for an answer at least so long: megabytes may be on their way.
const PATIENCE: Duration = Duration::from_secs(15);

/// A partition: the place of its topic in the shape, and its number.
type Part = (usize, PartitionIndex);

/// A session's program.
pub(super) async fn perform(actor: Actor, shape: SessionShape) {
    super::admin::prepare(&actor).await;
    let mut reader = Reader::new(&actor, shape);
    let mut goal: Option<BTreeMap<Part, Offset>> = None;
    loop {
        let (mut random, left_out) = actor.step();
        if actor.stage.curtain() {
            if goal.is_none() {
                reader.take_all();
                goal = reader.ends().await;
            }
            if left_out || goal.as_ref().is_some_and(|goal| reader.has_reached(goal)) {
                return;
            }
        }
        if !left_out {
            if !actor.stage.curtain() {
                reader.change(&mut random);
            }
            if reader.find_ids().await.is_some() {
                reader.fetch(&mut random).await;
            }
        }
        let pause = reader.shape.pause;
        let most = if actor.stage.curtain() { pause.min(HURRY) } else { pause };
        actor.pause(&mut random, most).await;
    }
}

struct Reader {
    voice: Voice,
    shape: SessionShape,
    wire: Option<Wire>,
    /// Of its topics, by their places in the shape, as far as they were found out; without ids it has
    /// none to look for.
    ids: BTreeMap<usize, TopicId>,
    /// The session and the epoch of the next request; `(0, 0)` asks for a session.
    session: (i32, i32),
    /// What it reads, and from where.
    places: BTreeMap<Part, Offset>,
    /// What the broker has been told of that.
    told: BTreeMap<Part, Offset>,
    forgotten: BTreeSet<Part>,
}

impl Reader {
    fn new(actor: &Actor, shape: SessionShape) -> Reader {
        let mut reader = Reader {
            voice: actor.voice(),
            shape,
            wire: None,
            ids: BTreeMap::new(),
            session: (0, 0),
            places: BTreeMap::new(),
            told: BTreeMap::new(),
            forgotten: BTreeSet::new(),
        };
        reader.take_all();
        reader
    }

    /// All partitions of its topics that last.
    fn parts(&self) -> Vec<Part> {
        let actor = &self.voice.actor;
        let topics = actor.shape().topics.iter().filter(|&&at| actor.is_lasting(at));
        let parts =
            |&at: &usize| (0..actor.topic(at).partitions).map(move |n| (at, PartitionIndex(n)));
        topics.flat_map(parts).collect()
    }

    /// Takes on what it does not read.
    fn take_all(&mut self) {
        for part in self.parts() {
            self.take(part);
        }
    }

    /// Reads a partition from its beginning, unless it reads it already.
    fn take(&mut self, part: Part) {
        if self.places.contains_key(&part) {
            return;
        }
        self.places.insert(part, Offset(0));
        self.forgotten.remove(&part);
        self.assign();
        let topic = self.voice.actor.stage.topic(part.0);
        self.voice.record(Phase::Ok, Op::Seek { topic, partition: part.1, offset: BEGINNING });
    }

    /// Records what it reads from now on.
    fn assign(&self) {
        let stage = &self.voice.actor.stage;
        let partitions = self.places.keys().map(|&(at, index)| (stage.topic(at), index)).collect();
        self.voice.record(Phase::Ok, Op::Assign { partitions });
    }

    /// Takes a partition off or on, or begins with another connection and session.
    fn change(&mut self, random: &mut Stream) {
        if random.chance(1, self.shape.renewed_every) {
            self.hang_up();
        }
        if random.chance(1, self.shape.changes_every) {
            let part = random.pick(&self.parts());
            if self.places.remove(&part).is_some() {
                self.told.remove(&part);
                self.forgotten.insert(part);
                self.assign();
            } else {
                self.take(part);
            }
        }
    }

    /// The connection is of no use any more, and perhaps the session neither.
    fn hang_up(&mut self) {
        self.wire = None;
        self.session.1 = 0;
    }

    /// Where its partitions end now; none if nobody tells.
    async fn ends(&self) -> Option<BTreeMap<Part, Offset>> {
        let actor = &self.voice.actor;
        let client = actor.client();
        let mut ends = BTreeMap::new();
        for part in self.parts() {
            let name = &actor.topic(part.0).name;
            let end = client.admin().list_offset(name, part.1, Start::Latest).await;
            ends.insert(part, end.ok()??.0);
        }
        Some(ends)
    }

    fn has_reached(&self, goal: &BTreeMap<Part, Offset>) -> bool {
        goal.iter().all(|(part, end)| self.places.get(part).is_some_and(|place| place >= end))
    }

    /// Finds out what its topics are called in requests. None if it could not.
    async fn find_ids(&mut self) -> Option<()> {
        if self.shape.version < BY_ID {
            return Some(());
        }
        let actor = &self.voice.actor;
        let topics: BTreeSet<usize> = self.parts().into_iter().map(|(at, _)| at).collect();
        for at in topics {
            if self.ids.contains_key(&at) {
                continue;
            }
            let name = Some(actor.topic(at).name.clone());
            let topic = MetadataRequestTopic { name, ..MetadataRequestTopic::default() };
            let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
            let client = actor.client_of(actor.shape().home, PATIENCE, BTreeMap::new());
            let found = client.call(&request).await.ok()?;
            let id = found.topics.first().filter(|topic| topic.error_code == 0)?.topic_id;
            self.ids.insert(at, id);
        }
        Some(())
    }

    /// A topic's name and id in a request: one of them is empty.
    fn called(&self, at: usize) -> (String, TopicId) {
        match self.ids.get(&at) {
            Some(&id) => (String::new(), id),
            None => (self.voice.actor.topic(at).name.clone(), TopicId::NONE),
        }
    }

    /// One fetch.
    async fn fetch(&mut self, random: &mut Stream) {
        let another = random.chance(1, self.shape.pipelined_every);
        let io = self.voice.actor.io.clone();
        let mut limit = self.voice.actor.shape().request_timeout + self.shape.wait;
        if self.voice.actor.stage.curtain() {
            limit = limit.max(PATIENCE);
        }
        match at_most(&io, limit, self.exchange(another)).await {
            Some(answer) => {
                if self.take_in(&answer).is_none() {
                    self.hang_up();
                }
            }
            None => self.hang_up(),
        }
    }

    /// Sends a fetch, perhaps with another request behind it, and returns its answer.
    async fn exchange(&mut self, another: bool) -> Option<Answer> {
        let request = self.request();
        if self.wire.is_none() {
            self.wire = Wire::open(&self.voice.actor, "session").await;
        }
        let wire = self.wire.as_mut()?;
        let version = self.shape.version;
        let asked = wire.ask(ApiKey::Fetch, version, |out| request.encode(out, version)).await?;
        let mut behind = None;
        if another {
            let other = ApiVersionsRequest::default();
            let encode = |out: &mut Vec<u8>| other.encode(out, OTHER_VERSION);
            behind = Some(wire.ask(ApiKey::ApiVersions, OTHER_VERSION, encode).await?);
        }
        let answer = wire.hear().await?;
        if answer.correlation != asked {
            let text = format!(
                "session {}: request {asked} was not answered before request {}",
                self.voice, answer.correlation
            );
            self.voice.actor.stage.accuse("answer-order", text);
            return None;
        }
        if let Some(behind) = behind {
            let other = wire.hear().await?;
            if other.correlation != behind {
                let text = format!(
                    "session {}: request {behind} was answered as request {}",
                    self.voice, other.correlation
                );
                self.voice.actor.stage.accuse("answer-order", text);
                return None;
            }
        }
        Some(answer)
    }

    /// All of what it reads if there is no session, else what the broker does not know yet.
    fn request(&mut self) -> FetchRequest {
        if self.session.1 == 0 {
            self.told.clear();
            self.forgotten.clear();
        }
        let mut topics: Vec<FetchTopic> = Vec::new();
        for (&(at, index), &place) in &self.places {
            if self.told.get(&(at, index)) == Some(&place) {
                continue;
            }
            let (name, topic_id) = self.called(at);
            if topics.last().is_none_or(|topic| (&topic.name, topic.topic_id) != (&name, topic_id))
            {
                topics.push(FetchTopic { name, topic_id, ..FetchTopic::default() });
            }
            let max_bytes = self.shape.partition_bytes_max;
            let partition = FetchPartition {
                index,
                fetch_offset: place,
                max_bytes,
                ..FetchPartition::default()
            };
            topics.last_mut().expect("there is one").partitions.push(partition);
        }
        let forgotten = self.forgotten.iter().map(|&(at, index)| {
            let (name, topic_id) = self.called(at);
            ForgottenTopic { name, topic_id, partitions: vec![index] }
        });
        FetchRequest {
            max_wait_ms: self.shape.wait.as_millis() as i32,
            min_bytes: 1,
            max_bytes: self.shape.bytes_max,
            session_id: self.session.0,
            session_epoch: self.session.1,
            forgotten_topics: forgotten.collect(),
            topics,
            ..FetchRequest::default()
        }
    }

    /// Reads on over an answer. None if it is none.
    fn take_in(&mut self, answer: &Answer) -> Option<()> {
        let version = self.shape.version;
        let body = answer.body(ApiKey::Fetch, version)?;
        let response = FetchResponse::decode(body, version).ok()?;
        if response.error != ErrorCode::None {
            // The session is gone, or at another epoch: the next request asks for a new one.
            self.session.1 = 0;
            return Some(());
        }
        self.session = match (response.session_id, self.session.1) {
            // The broker has no room for a session: everything is named each time.
            (0, _) => (0, 0),
            (id, epoch) => (id, epoch.checked_add(1).unwrap_or(1)),
        };
        self.told = self.places.clone();
        self.forgotten.clear();
        let mut records = Vec::new();
        for topic in &response.topics {
            for one in &topic.partitions {
                let called = (&topic.name, topic.topic_id);
                let told = |at: &usize| {
                    let (name, id) = self.called(*at);
                    (&name, id) == called
                };
                let at = (0..self.voice.actor.stage.shape.topics.len()).find(told);
                let part = (at?, one.index);
                // What was taken off may still be in an answer of the session.
                if self.places.contains_key(&part) {
                    self.read(part, one.error, &body[one.records.clone()], &mut records);
                }
            }
        }
        if !records.is_empty() {
            self.voice.record(Phase::Ok, Op::Poll { records });
        }
        Some(())
    }

    /// Reads what came of one partition.
    fn read(&mut self, part: Part, code: ErrorCode, mut bytes: &[u8], out: &mut Vec<Record>) {
        if code == ErrorCode::OffsetOutOfRange {
            self.complain(part, "its place is out of range");
        }
        if code != ErrorCode::None {
            return;
        }
        loop {
            let batch = match Batch::parse(bytes) {
                Ok(batch) if batch.crc_matches() => batch,
                Err(BatchError::Truncated { .. }) => return,
                Ok(_) | Err(_) => return self.damaged(part),
            };
            bytes = &bytes[batch.size()..];
            let Ok(contents) = batch.contents() else { return self.damaged(part) };
            for record in contents.records() {
                let Ok(record) = record else { return self.damaged(part) };
                let place = self.places.get_mut(&part).expect("it is read");
                if record.offset < *place {
                    continue;
                }
                *place = record.offset.plus(1);
                let head = record.value.and_then(|bytes| bytes.first_chunk());
                let value = head.map_or(Value::FOREIGN, |head| Value(u64::from_be_bytes(*head)));
                let topic = self.voice.actor.stage.topic(part.0);
                let (partition, offset) = (part.1, record.offset);
                out.push(Record { topic, partition, offset, value });
            }
        }
    }

    /// A batch is damaged: nothing is read of it, and it is asked for again.
    fn damaged(&mut self, part: Part) {
        self.told.remove(&part);
        let Actor { io, stage, .. } = &self.voice.actor;
        if !stage.may_be_damaged(io, part.0, part.1) {
            self.complain(part, "a batch is damaged");
        }
    }

    fn complain(&self, (at, index): Part, what: &str) {
        let name = &self.voice.actor.topic(at).name;
        let text = format!("session {}: {name}/{index}: {what}", self.voice);
        self.voice.actor.stage.complain(text);
    }
}
