//! Somebody who changes topics under their users: deletes records, changes settings, adds
//! partitions, and asks for what must be refused.
//!
//! Each attempt is an operation of its own, as an admin's are.

use trialog_engine::client::Start;
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::wire::api::{
    CreatePartitionsRequest, CreatePartitionsTopic, DeleteRecordsPartition, DeleteRecordsRequest,
    DeleteRecordsTopic, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource,
    IncrementalAlterableConfig,
};
use trialog_jepsen::history::{Admin, BEGINNING, END, Op, PartialConfigs, Phase};

use super::admin::{Desk, phase};
use crate::scenario::shape::{Change, ChangerShape};
use crate::scenario::stage::Actor;
use crate::seed::Stream;

/// Kafka's number for topics among what has settings.
pub const TOPIC: i8 = 2;
/// A setting is given a value, or taken off.
const SET: i8 = 0;
const DELETE: i8 = 1;

/// A changer's program.
pub(super) async fn perform(actor: Actor, shape: ChangerShape) {
    super::admin::prepare(&actor).await;
    let mut desk = Desk::new(&actor);
    while !actor.stage.curtain() {
        let (mut random, left_out) = actor.step();
        let call = random.pick(&shape.calls);
        if !left_out {
            desk.change(call, &mut random).await;
        }
        actor.pause(&mut random, shape.pause).await;
    }
}

impl Desk {
    async fn change(&mut self, call: Change, random: &mut Stream) {
        let actor = self.voice.actor.clone();
        let at = random.pick(&actor.shape().topics);
        let shape = actor.topic(at);
        let partition = PartitionIndex(random.below(shape.partitions as u64) as i32);
        let mut shortened = actor.shape().topics.clone();
        shortened.retain(|&at| actor.topic(at).may_be_shortened());
        match call {
            Change::Trim | Change::TrimToEnd if !shortened.is_empty() => {
                let at = random.pick(&shortened);
                let count = actor.topic(at).partitions as u64;
                let partition = PartitionIndex(random.below(count) as i32);
                let draw = random.bits();
                let place = match call {
                    Change::TrimToEnd => Some(END),
                    _ => self.place_within(at, partition, draw).await,
                };
                if let Some(place) = place {
                    self.trim(at, partition, place).await;
                }
                self.list_offset(at, partition, BEGINNING.0).await;
            }
            Change::Trim | Change::TrimToEnd | Change::Start => {
                self.list_offset(at, partition, BEGINNING.0).await;
            }
            Change::Configure => {
                let (key, values) = random.pick(&shape.alterations());
                self.configure(at, key, random.pick(values)).await;
            }
            Change::Describe => {
                let (key, _) = random.pick(&shape.alterations());
                self.settings(at, key).await;
            }
            Change::Grow => {
                let (least, most) = (shape.partitions, shape.partitions_most);
                if most > least {
                    self.grow(at, least + 1 + random.below((most - least) as u64) as i32).await;
                } else {
                    self.metadata().await;
                }
            }
            Change::Wrongly => self.change_wrongly(at, random).await,
        }
    }

    /// A place in the first half of a partition; none if nobody tells where that is.
    pub async fn place_within(
        &self,
        at: usize,
        partition: PartitionIndex,
        draw: u64,
    ) -> Option<Offset> {
        let name = &self.voice.actor.topic(at).name;
        let admin = self.client.admin();
        let bound = async |start| {
            let told = admin.list_offset(name, partition, start).await;
            told.ok().flatten().map(|(offset, _)| offset.0)
        };
        let (start, end) = (bound(Start::Earliest).await?, bound(Start::Latest).await?);
        Some(Offset(start + (draw % (1 + (end - start).max(0) as u64 / 2)) as i64))
    }

    /// Deletes the records of a partition below a place.
    pub async fn trim(&mut self, at: usize, partition: PartitionIndex, offset: Offset) {
        let actor = self.voice.actor.clone();
        let name = actor.topic(at).name.clone();
        let topic = actor.stage.topic(at);
        let op = |offset| Op::Trim { topic, partition, offset };
        let request = trim_request(&name, partition, offset.0);
        self.voice.record(Phase::Invoke, op(offset));
        let answer = self.client.call(&request).await;
        let answer = answer.map(|answer| {
            let topic = answer.topics.into_iter().next();
            topic.and_then(|topic| topic.partitions.into_iter().next())
        });
        let low = answer.as_ref().ok().and_then(|one| one.as_ref()).map(|one| one.low_watermark);
        let ended = phase(answer.map(|one| one.map(|one| one.error_code)));
        let low = low.filter(|_| ended == Phase::Ok).map_or(offset, Offset);
        self.voice.record(ended, op(low));
    }

    /// Sets one setting of a topic, or takes it off.
    async fn configure(&mut self, at: usize, key: &str, value: Option<&str>) {
        let actor = &self.voice.actor;
        let value = value.map(str::to_owned);
        let configs = PartialConfigs::from([(key.to_owned(), value.clone())]);
        let topic = actor.stage.topic(at);
        let op = Op::Admin(Box::new(Admin::Configure { topic, configs }));
        let request = configure_request(&actor.topic(at).name, key, value);
        self.voice.record(Phase::Invoke, op.clone());
        let answer = self.client.call(&request).await;
        let code = answer.map(|answer| answer.responses.first().map(|one| one.error_code));
        self.voice.record(phase(code), op);
    }

    /// Reads one setting of a topic.
    async fn settings(&mut self, at: usize, key: &str) {
        let actor = &self.voice.actor;
        let topic = actor.stage.topic(at);
        let op = |configs| Op::Admin(Box::new(Admin::Describe { topic, configs }));
        self.voice.record(Phase::Invoke, op(None));
        match self.client.admin().topic_settings(&actor.topic(at).name).await {
            Ok(settings) => {
                let own = settings.into_iter().find(|setting| setting.own && setting.name == key);
                let value = own.and_then(|setting| setting.value);
                let configs = PartialConfigs::from([(key.to_owned(), value)]);
                self.voice.record(Phase::Ok, op(Some(configs)));
            }
            Err(_) => self.voice.record(Phase::Info, op(None)),
        }
    }

    /// Gives a topic more partitions.
    async fn grow(&mut self, at: usize, partitions: i32) {
        let actor = &self.voice.actor;
        let topic = actor.stage.topic(at);
        let op = Op::Admin(Box::new(Admin::Grow { topic, partitions }));
        let request = grow_request(&actor.topic(at).name, partitions);
        self.voice.record(Phase::Invoke, op.clone());
        let answer = self.client.call(&request).await;
        let code = answer.map(|answer| answer.results.first().map(|one| one.error_code));
        self.voice.record(phase(code), op);
    }

    /// Asks for what must be refused, and changes nothing.
    async fn change_wrongly(&mut self, at: usize, random: &mut Stream) {
        let name = self.voice.actor.topic(at).name.clone();
        match random.below(6) {
            0 => drop(self.client.call(&grow_request(&name, 1)).await),
            1 => drop(self.client.call(&grow_request("nowhere", 5)).await),
            2 => {
                let (key, value) = random.pick(&[("no.such.setting", "1"), ("segment.ms", "soon")]);
                let request = configure_request(&name, key, Some(value.to_owned()));
                drop(self.client.call(&request).await);
            }
            3 => {
                let request = configure_request("nowhere", "segment.ms", None);
                drop(self.client.call(&request).await);
            }
            4 => {
                let request = trim_request(&name, PartitionIndex(0), i64::MAX);
                drop(self.client.call(&request).await);
            }
            _ => {
                let request = trim_request(&name, PartitionIndex(99), 0);
                drop(self.client.call(&request).await);
            }
        }
    }
}

fn trim_request(name: &str, partition: PartitionIndex, offset: i64) -> DeleteRecordsRequest {
    let partition = DeleteRecordsPartition { partition_index: partition.0, offset };
    let topic = DeleteRecordsTopic { name: name.to_owned(), partitions: vec![partition] };
    DeleteRecordsRequest { topics: vec![topic], timeout_ms: 5000 }
}

/// Sets one setting of a topic, or takes it off.
pub fn configure_request(
    name: &str,
    key: &str,
    value: Option<String>,
) -> IncrementalAlterConfigsRequest {
    let config_operation = if value.is_some() { SET } else { DELETE };
    let config = IncrementalAlterableConfig { name: key.to_owned(), config_operation, value };
    let resource = IncrementalAlterConfigsResource {
        resource_type: TOPIC,
        resource_name: name.to_owned(),
        configs: vec![config],
    };
    IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false }
}

fn grow_request(name: &str, count: i32) -> CreatePartitionsRequest {
    let topic = CreatePartitionsTopic { name: name.to_owned(), count, assignments: None };
    CreatePartitionsRequest { topics: vec![topic], timeout_ms: 5000, validate_only: false }
}
