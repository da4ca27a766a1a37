//! A topic that is deleted and made again under its name is another one (META-6): the second begins empty,
//! whatever the first one held and whoever still writes to that.
//!
//! Records are written to the first one, by its id, until the second one is there, and a group commits
//! for it, at last by its id, whose coordinator has others to serve meanwhile. Of all that nothing may be
//! read, fetched or found committed in the second one, not behind a crash either, and what is asked of
//! the first one's id once its deletion is acknowledged must be refused. Everything is asked once: where
//! an answer is lost nobody knows which of the two there is, and the rest is left.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, join, join_all, select};
use trialog_engine::client::{Client, ConsumedRecord, ConsumerOptions, Place, Start};
use trialog_engine::id::{Offset, PartitionIndex, TopicId};
use trialog_engine::io::Io;
use trialog_engine::wire::api::{
    ApiKey, CreatableTopic, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicState,
    DeleteTopicsRequest, DeleteTopicsResponse, Message, OffsetCommitRequest,
};
use trialog_engine::wire::batch::Builder;
use trialog_engine::wire::code::ErrorCode;
use trialog_engine::wire::codec::Reader;
use trialog_engine::wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use trialog_engine::wire::produce::{
    ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic,
};

use super::admin::create_request;
use super::caretaker::{NAMED_VERSION, commit_request};
use super::wire::{Wire, at_most};
use crate::io::SimIo;
use crate::scenario::stage::Actor;
use crate::seed::Stream;

/// Versions in which topics have ids, or are told them.
const CREATE_VERSION: i16 = 7;
const DELETE_VERSION: i16 = 6;
const PRODUCE_VERSION: i16 = 13;
const FETCH_VERSION: i16 = 13;
/// What is written to the first topic, and to the second.
const OLD: &[u8] = b"of the first";
const NEW: &[u8] = b"of the second";
/// How the names of topics begin that are made again.
pub const REBORN: &str = "reborn-";
/// Its partition.
const ONLY: PartitionIndex = PartitionIndex(0);
/// What is committed for the first one.
const COMMITTED: Offset = Offset(1);
/// How many commit for something else meanwhile.
const OTHERS: usize = 3;
/// How often the last look is tried.
const LOOKS_MAX: u32 = 20;

/// Makes a topic, has it deleted and made again, and looks at what there is.
pub(super) async fn play(actor: &Actor, random: &mut Stream) -> Option<()> {
    let name = format!("{REBORN}{}-{}", actor.shape().home, random.bits());
    let rebirth = Rebirth::new(actor, name);
    let old = rebirth.create().await?;
    let mut writer = Writer { actor, id: old, wire: None };
    for _ in 0..random.within(1..4) {
        writer.write(OLD).await;
    }
    if random.chance(2, 3) {
        rebirth.commit().await?;
    }
    // Whoever writes to the first one goes on.
    let refused = async {
        loop {
            writer.write(OLD).await;
            actor.io.sleep(Duration::from_millis(3)).await;
        }
    };
    let commits =
        join(rebirth.commit_late(old), join_all((0..OTHERS).map(|_| rebirth.commit_elsewhere())));
    let others = join(refused, commits);
    let changed = match select(pin!(others), pin!(rebirth.replace())).await {
        Either::Left(((never, _), _)) => never,
        Either::Right((changed, _)) => changed,
    };
    let new = changed?;
    if new == old {
        rebirth.accuse(&format!("the second topic has the first one's id, {old}"));
    }
    rebirth.look_for_commit().await;
    rebirth.ask_for_first(old).await;
    let mut writer = Writer { actor, id: new, wire: None };
    let mut stored = Vec::new();
    for _ in 0..random.within(0..4) {
        stored.extend(writer.write(NEW).await);
    }
    actor.pause(random, Duration::from_secs(3)).await;
    rebirth.look_for_commit().await;
    rebirth.ask_for_first(old).await;
    rebirth.read(&stored).await;
    rebirth.delete().await
}

struct Rebirth<'a> {
    actor: &'a Actor,
    client: Client<SimIo>,
    name: String,
    place: Place,
    group: String,
}

impl<'a> Rebirth<'a> {
    fn new(actor: &'a Actor, name: String) -> Rebirth<'a> {
        let (place, group) = ((name.clone(), ONLY), format!("reader-of-{name}"));
        Rebirth { actor, client: client(actor), place, group, name }
    }

    fn accuse(&self, what: &str) {
        self.actor.stage.accuse("META-6", format!("{}: {what}", self.name));
    }

    async fn create(&self) -> Option<TopicId> {
        id_of(&self.client.call(&self.creation()).await.ok()?)
    }

    async fn delete(&self) -> Option<()> {
        let answer = self.client.call(&self.deletion()).await.ok()?;
        (answer.responses.first()?.error_code == ErrorCode::None.code()).then_some(())
    }

    fn creation(&self) -> CreateTopicsRequest {
        let name = self.name.clone();
        let (num_partitions, replication_factor) = (1, 1);
        let wanted =
            CreatableTopic { name, num_partitions, replication_factor, ..Default::default() };
        create_request(vec![wanted])
    }

    fn deletion(&self) -> DeleteTopicsRequest {
        let name = Some(self.name.clone());
        let state = DeleteTopicState { name, topic_id: TopicId::NONE };
        DeleteTopicsRequest { topics: vec![state], topic_names: Vec::new(), timeout_ms: 5000 }
    }

    /// Has the second topic take the place of the first one as fast as can be: asks for both at once.
    async fn replace(&self) -> Option<TopicId> {
        self.actor.io.sleep(Duration::from_millis(self.actor.io.random() % 20)).await;
        let wire = &mut Wire::open(self.actor, "rebirth").await?;
        let both = async {
            let (delete, create) = (DELETE_VERSION, CREATE_VERSION);
            let request = self.deletion();
            wire.ask(ApiKey::DeleteTopics, delete, |out| request.encode(out, delete)).await?;
            let request = self.creation();
            wire.ask(ApiKey::CreateTopics, create, |out| request.encode(out, create)).await?;
            let deleted = wire.hear().await?;
            let created = wire.hear().await?;
            let body = deleted.body(ApiKey::DeleteTopics, delete)?;
            let deleted = DeleteTopicsResponse::decode(&mut Reader::new(body), delete).ok()?;
            let body = created.body(ApiKey::CreateTopics, create)?;
            let created = CreateTopicsResponse::decode(&mut Reader::new(body), create).ok()?;
            let is_done = deleted.responses.first()?.error_code == ErrorCode::None.code();
            id_of(&created).filter(|_| is_done)
        };
        at_most(&self.actor.io, self.actor.shape().request_timeout, both).await
    }

    /// Commits for the first topic, by its id, for as long as there may be something to be late for.
    async fn commit_late(&self, old: TopicId) {
        let shape = self.actor.shape();
        let client = self.actor.client_of(shape.home, shape.request_timeout, BTreeMap::new());
        let mut request = commit_request(&self.group, &self.place, COMMITTED.0);
        request.topics[0].topic_id = old;
        loop {
            let _ = client.call(&request).await;
            self.actor.io.sleep(Duration::from_micros(self.actor.io.random() % 500)).await;
        }
    }

    /// Commits for a topic that lasts, again and again, so that the coordinator is at work.
    async fn commit_elsewhere(&self) {
        // With a connection of its own: what comes by one is done in turn.
        let client = client(self.actor);
        let topic = self.actor.topic(self.actor.shape().topics[0]).name.clone();
        let request = commit_request(&self.group, &(topic, ONLY), 0);
        loop {
            if client.call(&request).await.is_err() {
                self.actor.io.sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Commits for the first topic; none if that may come as late as to be for the second.
    async fn commit(&self) -> Option<()> {
        let request: OffsetCommitRequest = commit_request(&self.group, &self.place, COMMITTED.0);
        self.client.call(&request).await.ok().map(drop)
    }

    /// Nobody has committed anything for the second topic.
    async fn look_for_commit(&self) {
        let places = std::slice::from_ref(&self.place);
        let Ok(found) = self.client.admin().group_offsets(&self.group, places).await else {
            return;
        };
        if let Some(offset) = found.get(&self.place) {
            self.accuse(&format!("{} has committed {offset} for the second topic", self.group));
        }
    }

    /// The first topic's id means nothing any more.
    async fn ask_for_first(&self, old: TopicId) {
        let told = async {
            let wire = &mut Wire::open(self.actor, "rebirth").await?;
            fetch(wire, old).await
        };
        let limit = self.actor.shape().request_timeout;
        let Some(error) = at_most(&self.actor.io, limit, told).await else { return };
        if error == ErrorCode::None {
            self.accuse("a fetch by the id of the first topic was answered");
        }
        let late = Writer { actor: self.actor, id: old, wire: None }.write(OLD).await;
        if let Some(offset) = late {
            self.accuse(&format!("the first topic took a record at offset {offset}"));
        }
    }

    /// In the second topic there is what was written to it, and nothing else.
    async fn read(&self, stored: &[Offset]) {
        let admin = self.client.admin();
        let Ok(Some((end, _))) = admin.list_offset(&self.name, ONLY, Start::Latest).await else {
            return;
        };
        let mut consumer = self.client.consumer(ConsumerOptions::default());
        consumer.assign(&self.name, ONLY, Start::Offset(Offset(0)));
        let mut found: BTreeMap<Offset, ConsumedRecord> = BTreeMap::new();
        for _ in 0..LOOKS_MAX {
            if consumer.position(&self.name, ONLY).is_some_and(|position| position >= end) {
                break;
            }
            match consumer.poll(Duration::from_millis(200)).await {
                Ok(records) => {
                    found.extend(records.into_iter().map(|record| (record.offset, record)));
                }
                Err(_) => self.actor.io.sleep(Duration::from_millis(100)).await,
            }
        }
        for (offset, record) in &found {
            if record.value.as_deref() != Some(NEW) {
                self.accuse(&format!(
                    "the second topic shows {:?} at offset {offset}",
                    record.value
                ));
            }
        }
        let is_read = consumer.position(&self.name, ONLY).is_some_and(|position| position >= end);
        let lost = stored.iter().find(|offset| **offset >= end || !found.contains_key(offset));
        if let Some(lost) = lost.filter(|_| is_read) {
            self.accuse(&format!("offset {lost} of the second topic was acknowledged and is lost"));
        }
    }
}

/// A client that is told ids, and commits by name.
fn client(actor: &Actor) -> Client<SimIo> {
    let shape = actor.shape();
    let versions = BTreeMap::from([(ApiKey::OffsetCommit, NAMED_VERSION)]);
    actor.client_of(shape.home, shape.request_timeout, versions)
}

/// The id of a topic that was made.
fn id_of(created: &CreateTopicsResponse) -> Option<TopicId> {
    let told = created.topics.first()?;
    (told.error_code == ErrorCode::None.code()).then_some(told.topic_id)
}

/// Somebody who writes to a topic by its id.
struct Writer<'a> {
    actor: &'a Actor,
    id: TopicId,
    wire: Option<Wire>,
}

impl Writer<'_> {
    /// The record's offset, if that is told.
    async fn write(&mut self, value: &[u8]) -> Option<Offset> {
        let limit = self.actor.shape().request_timeout;
        let io = self.actor.io.clone();
        let told = at_most(&io, limit, self.ask(value)).await;
        if told.is_none() {
            self.wire = None;
        }
        let (error, offset) = told?;
        (error == ErrorCode::None).then_some(offset)
    }

    async fn ask(&mut self, value: &[u8]) -> Option<(ErrorCode, Offset)> {
        if self.wire.is_none() {
            self.wire = Some(Wire::open(self.actor, "rebirth").await?);
        }
        let wire = self.wire.as_mut()?;
        let mut batch = Builder::new();
        batch.push(self.actor.io.wall().0, None, Some(value), &[]);
        let bytes = batch.finish();
        let partition = ProducePartition { index: ONLY, records: Some(&bytes) };
        let topic = ProduceTopic { name: "", topic_id: self.id, partitions: vec![partition] };
        let (acks, timeout_ms, topics) = (-1, 5000, vec![topic]);
        let request = ProduceRequest { transactional_id: None, acks, timeout_ms, topics };
        let (key, version) = (ApiKey::Produce, PRODUCE_VERSION);
        wire.ask(key, version, |out| request.encode(out, version)).await?;
        let answer = wire.hear().await?;
        let response = ProduceResponse::decode(answer.body(key, version)?, version).ok()?;
        let told = response.topics.into_iter().next()?.partitions.into_iter().next()?;
        Some((told.error, told.base_offset))
    }
}

/// How a fetch of a topic's first record by its id is answered.
async fn fetch(wire: &mut Wire, topic_id: TopicId) -> Option<ErrorCode> {
    let partition = FetchPartition { max_bytes: 1000, ..FetchPartition::default() };
    let topic = FetchTopic { topic_id, partitions: vec![partition], ..FetchTopic::default() };
    let request = FetchRequest {
        max_bytes: 1000,
        session_epoch: -1,
        topics: vec![topic],
        ..FetchRequest::default()
    };
    let (key, version) = (ApiKey::Fetch, FETCH_VERSION);
    wire.ask(key, version, |out| request.encode(out, version)).await?;
    let answer = wire.hear().await?;
    let response = FetchResponse::decode(answer.body(key, version)?, version).ok()?;
    Some(response.topics.first()?.partitions.first()?.error)
}
