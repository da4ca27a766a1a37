//! An admin: asks about topics and offsets, makes and deletes topics, and asks wrongly on purpose.
//!
//! Each attempt is an operation of its own: what is not answered may still be carried out, and is
//! never sent again under the same name.

use std::time::Duration;

use futures_util::future::join;
use trialog_engine::client::{CallError, Client};
use trialog_engine::id::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use trialog_engine::io::Io;
use trialog_engine::wire::api::{
    ApiVersionsRequest, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
    DeleteTopicState, DeleteTopicsRequest, FindCoordinatorRequest, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource, IncrementalAlterableConfig, InitProducerIdRequest,
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic, MetadataRequest,
    MetadataRequestTopic, MetadataResponse, OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
    OffsetForLeaderTopic,
};
use trialog_engine::wire::code::ErrorCode;
use trialog_jepsen::history::{Admin, BEGINNING, END, Leader, Op, Phase};

use crate::invariant::after::EpochEnd;
use crate::io::SimIo;
use crate::scenario::shape::{AdminShape, Call, Nature};
use crate::scenario::stage::{Actor, Voice};
use crate::seed::Stream;

/// An admin's program.
pub(super) async fn perform(actor: Actor, shape: AdminShape) {
    let mut desk = Desk::new(&actor);
    while !actor.stage.curtain() {
        let (mut random, left_out) = actor.step();
        let call = random.pick(&shape.calls);
        if !left_out {
            desk.make(call, &mut random).await;
        }
        actor.pause(&mut random, shape.pause).await;
    }
}

/// Makes the topics of a client that are not there; whoever comes first does. Those that come and
/// go need not be there in the end.
pub(super) async fn prepare(actor: &Actor) {
    let mut desk = Desk::new(actor);
    for &at in &actor.shape().topics {
        let needed = || actor.topic(at).nature != Nature::Fleeting || !actor.stage.curtain();
        while needed() && !desk.is_there(at).await {
            desk.create(at).await;
            actor.io.sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Tries once to make a topic.
pub(super) async fn create(actor: &Actor, at: usize) {
    Desk::new(actor).create(at).await;
}

/// Where calls are made, and written down.
pub struct Desk {
    /// Who calls.
    pub voice: Voice,
    /// Whom it calls with.
    pub client: Client<SimIo>,
}

impl Desk {
    /// A desk with a client and a voice of its own.
    pub fn new(actor: &Actor) -> Desk {
        Desk { voice: actor.voice(), client: actor.client() }
    }

    fn actor(&self) -> &Actor {
        &self.voice.actor
    }

    async fn make(&mut self, call: Call, random: &mut Stream) {
        let actor = self.actor().clone();
        let at = random.pick(&actor.shape().topics);
        let partition = PartitionIndex(random.below(actor.topic(at).partitions as u64) as i32);
        let is_fleeting = |at: &usize| actor.topic(*at).nature == Nature::Fleeting;
        let fleeting: Vec<usize> =
            actor.shape().topics.iter().copied().filter(is_fleeting).collect();
        match call {
            Call::Create => {
                let at = if fleeting.is_empty() { at } else { random.pick(&fleeting) };
                // Now and then too short for its partitions to be ready.
                self.create_within(at, random.pick(&[0, 1, 5000, 5000])).await;
            }
            Call::Delete if !fleeting.is_empty() => self.delete(random.pick(&fleeting)).await,
            // Only what is made to be deleted is.
            Call::Delete | Call::Metadata => self.describe().await,
            Call::MetadataOfUnknown => self.ask_unknown(random).await,
            Call::EndByName => self.list_offset(at, partition, END.0).await,
            Call::StartByName => self.list_offset(at, partition, BEGINNING.0).await,
            Call::OffsetByTime => {
                let ms = (actor.io.wall().0 - random.below(20_000) as i64).max(0);
                self.list_offset(at, partition, ms).await;
            }
            Call::OffsetOfUnknown => self.offsets_of_unknown(at, random).await,
            Call::EpochEnd => self.epoch_end(at, random).await,
            Call::ProducerId => {
                let named = random.chance(1, 4).then(|| "a transaction".to_owned());
                let request = InitProducerIdRequest {
                    transactional_id: named,
                    transaction_timeout_ms: 1000,
                    ..InitProducerIdRequest::default()
                };
                let _ = self.client.call(&request).await;
            }
            Call::Coordinator => {
                let request = FindCoordinatorRequest {
                    key: "a group".to_owned(),
                    key_type: random.pick(&[0, 1, 9]),
                    coordinator_keys: vec!["a group".to_owned()],
                };
                let _ = self.client.call(&request).await;
            }
            Call::Versions => {
                let request = ApiVersionsRequest {
                    client_software_name: random.pick(&["trialog", "", "not a name!"]).to_owned(),
                    client_software_version: "1".to_owned(),
                };
                let _ = self.client.call(&request).await;
            }
            Call::Reconfigure => self.reconfigure(random).await,
            Call::Scrape => super::scrape::scrape(&actor, random).await,
            Call::CreateWrongly => self.create_wrongly(random).await,
            Call::Rebirth => {
                // What is not answered ends it.
                let _ = super::rebirth::play(&actor, random).await;
            }
            Call::Inspect => super::inspect::inspect(&self.client, &actor, random).await,
        }
    }

    /// Changes or resets a setting of its broker, or of all; none that loses records.
    async fn reconfigure(&mut self, random: &mut Stream) {
        let (key, value) = match random.below(4) {
            0 => ("log.roll.ms", random.within(100..5000)),
            1 => ("log.index.interval.bytes", random.within(0..5000)),
            2 => ("trialog.disk.free.min.bytes", random.within(0..20_000)),
            // One that cannot be changed while a broker runs: refused.
            _ => ("num.partitions", 3),
        };
        let (set, reset) = (0, 1);
        let (config_operation, value) = match random.chance(1, 3) {
            true => (reset, None),
            false => (set, Some(value.to_string())),
        };
        let name = key.to_owned();
        let request = IncrementalAlterConfigsRequest {
            resources: vec![IncrementalAlterConfigsResource {
                // A broker's; all of them share the number 1, each in a cluster of its own.
                resource_type: 4,
                resource_name: random.pick(&["", "1"]).to_owned(),
                configs: vec![IncrementalAlterableConfig { name, config_operation, value }],
            }],
            validate_only: random.chance(1, 5),
        };
        let _ = self.client.call(&request).await;
    }

    /// Creates a topic of the shape.
    pub async fn create(&mut self, at: usize) {
        self.create_within(at, 5000).await;
    }

    /// The same, and waits so many ms at most until it is ready.
    async fn create_within(&mut self, at: usize, timeout_ms: i32) {
        let shape = self.actor().topic(at);
        let (partitions, configs) = (shape.partitions, shape.configs.clone());
        let topic = self.actor().stage.topic(at);
        let op = Op::Admin(Box::new(Admin::Create { topic, partitions, configs }));
        let configs = shape.configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: name.clone(),
            value: Some(value.clone()),
        });
        let wanted = CreatableTopic {
            name: shape.name.clone(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { timeout_ms, ..create_request(vec![wanted]) };
        self.voice.record(Phase::Invoke, op.clone());
        let outcome = self.client.call(&request).await;
        let code = outcome.map(|answer| answer.topics.first().map(|topic| topic.error_code));
        self.voice.record(phase(code), op);
    }

    /// Deletes a topic of the shape.
    pub async fn delete(&mut self, at: usize) {
        let name = self.actor().topic(at).name.clone();
        let topic = self.actor().stage.topic(at);
        let op = Op::Admin(Box::new(Admin::Delete { topic }));
        let state = DeleteTopicState { name: Some(name.clone()), topic_id: TopicId::NONE };
        let request =
            DeleteTopicsRequest { topics: vec![state], topic_names: vec![name], timeout_ms: 5000 };
        self.voice.record(Phase::Invoke, op.clone());
        let outcome = self.client.call(&request).await;
        let code = outcome.map(|answer| answer.responses.first().map(|topic| topic.error_code));
        self.voice.record(phase(code), op);
    }

    /// Reads which of its broker's topics there are.
    async fn describe(&mut self) {
        self.metadata().await;
    }

    /// Whether a topic exists, as far as somebody says.
    async fn is_there(&mut self, at: usize) -> bool {
        let name = self.actor().topic(at).name.clone();
        let response = self.metadata().await;
        response.is_some_and(|response| {
            let there = |code: i16| code == ErrorCode::None.code();
            let named = |other: &Option<String>| other.as_ref() == Some(&name);
            response.topics.iter().any(|topic| named(&topic.name) && there(topic.error_code))
        })
    }

    /// Asks for all topics of the broker. The history holds what that says of the broker's own
    /// topics: other brokers are other clusters.
    pub async fn metadata(&mut self) -> Option<MetadataResponse> {
        let request = MetadataRequest {
            topics: None,
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        let op =
            |topics, leaders| Op::Admin(Box::new(Admin::Metadata { all: false, topics, leaders }));
        self.voice.record(Phase::Invoke, op(Vec::new(), Vec::new()));
        let Ok(response) = self.client.call(&request).await else {
            self.voice.record(Phase::Info, op(Vec::new(), Vec::new()));
            return None;
        };
        let (stage, home) = (&self.actor().stage, self.actor().shape().home);
        let (mut topics, mut leaders) = (Vec::new(), Vec::new());
        for at in stage.shape.topics_of(home) {
            let name = &stage.shape.topics[at].name;
            let told = response.topics.iter().find(|topic| topic.name.as_ref() == Some(name));
            let told = told.filter(|topic| topic.error_code == ErrorCode::None.code());
            let count = told.map(|topic| i32::try_from(topic.partitions.len()).expect("few"));
            topics.push((stage.topic(at), count));
            for partition in told.iter().flat_map(|topic| &topic.partitions) {
                if partition.leader_id >= 0 && partition.leader_epoch >= 0 {
                    leaders.push(Leader {
                        topic: stage.topic(at),
                        partition: PartitionIndex(partition.partition_index),
                        node: partition.leader_id,
                        epoch: partition.leader_epoch,
                    });
                }
            }
        }
        self.voice.record(Phase::Ok, op(topics, leaders));
        Some(response)
    }

    /// Asks about topics that do not exist, by name and by id. Some brokers make such topics, and two
    /// clients may ask at once.
    async fn ask_unknown(&mut self, random: &mut Stream) {
        let by_id = random.chance(1, 2);
        let nowhere = format!("nowhere-{}", random.below(3));
        let names = [nowhere.as_str(), &nowhere, "", "no/such.name"];
        let asked = MetadataRequestTopic {
            topic_id: if by_id { TopicId([7; 16]) } else { TopicId::NONE },
            name: (!by_id).then(|| random.pick(&names).to_owned()),
        };
        let request = MetadataRequest {
            topics: Some(vec![asked]),
            allow_auto_topic_creation: random.chance(1, 2),
            ..MetadataRequest::default()
        };
        if random.chance(1, 2) {
            let other = self.actor().client();
            let _ = join(self.client.call(&request), other.call(&request)).await;
        } else {
            let _ = self.client.call(&request).await;
        }
    }

    /// Asks for an offset, by name or by time.
    pub async fn list_offset(&mut self, at: usize, partition: PartitionIndex, ask: i64) {
        let actor = self.actor();
        let topic = actor.stage.topic(at);
        let op = |offset| Op::ListOffset { topic, partition, ask, offset };
        let request = offsets_request(&actor.topic(at).name, partition, -1, ask);
        self.voice.record(Phase::Invoke, op(None));
        let answer = self.client.call(&request).await.ok();
        let answer = answer.and_then(|answer| answer.topics.into_iter().next());
        let answer = answer.and_then(|topic| topic.partitions.into_iter().next());
        match answer.filter(|answer| answer.error_code == ErrorCode::None.code()) {
            Some(answer) => {
                let offset = (answer.offset >= 0).then_some(Offset(answer.offset));
                self.voice.record(Phase::Ok, op(offset));
            }
            None => self.voice.record(Phase::Fail, op(None)),
        }
    }

    /// Asks for offsets of partitions that do not exist, in epochs that are over or to come, and
    /// by names that mean nothing here.
    async fn offsets_of_unknown(&mut self, at: usize, random: &mut Stream) {
        let name = self.actor().topic(at).name.clone();
        let name = if random.chance(1, 3) { "nowhere".to_owned() } else { name };
        let partition = PartitionIndex(random.pick(&[0, 99, -1]));
        let ask = random.pick(&[-1, -2, -3, -4, -5, -6, -9]);
        let epoch = random.pick(&[-1, 0, 1, 1000]);
        let _ = self.client.call(&offsets_request(&name, partition, epoch, ask)).await;
    }

    /// Asks where an epoch ends, mostly one that is over; now and then as one who knows nothing of the
    /// present epoch, or of one that never was (KIP-320).
    async fn epoch_end(&mut self, at: usize, random: &mut Stream) {
        let name = self.actor().topic(at).name.clone();
        let (index, draw) = (random.pick(&[0, 0, 0, 99]), random.bits());
        let Some(response) = self.metadata().await else { return };
        let told = response.topics.iter().find(|topic| topic.name.as_ref() == Some(&name));
        let told = told.and_then(|topic| topic.partitions.first());
        let Some(now) = told.map(|partition| partition.leader_epoch) else { return };
        let asked = (draw % (now.max(0) as u64 + 2)) as i32;
        let believed = [-1, -1, now, now - 1, now + 1000][(draw >> 32) as usize % 5];
        let partition = OffsetForLeaderPartition {
            partition: index,
            current_leader_epoch: believed,
            leader_epoch: asked,
        };
        let topics = vec![OffsetForLeaderTopic { topic: name, partitions: vec![partition] }];
        let request = OffsetForLeaderEpochRequest { topics, ..Default::default() };
        let Ok(answer) = self.client.call(&request).await else { return };
        let Some(told) = answer.topics.iter().flat_map(|topic| &topic.partitions).next() else {
            return;
        };
        if told.error_code != ErrorCode::None.code() {
            return;
        }
        let is_lasting = self.actor().topic(at).nature != Nature::Fleeting;
        let is_wrong = believed >= 0 && [now - 1, now + 1000].contains(&believed);
        if index == 99 || (is_wrong && is_lasting) {
            let text =
                format!("{told:?} was told to one who believes in epoch {believed} of {now}");
            return self.actor().stage.accuse("LOG-11", text);
        }
        if asked < now {
            let (asked, epoch) = (LeaderEpoch(asked), LeaderEpoch(told.leader_epoch));
            let told = EpochEnd { asked, epoch, end: Offset(told.end_offset) };
            self.actor().stage.told_end(at, PartitionIndex(index), told);
        }
    }

    /// Asks for topics that cannot be.
    async fn create_wrongly(&mut self, random: &mut Stream) {
        let mut wanted = CreatableTopic {
            name: "never".to_owned(),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        match random.below(5) {
            0 => wanted.name = random.pick(&["", ".", "no/name"]).to_owned(),
            1 => wanted.num_partitions = random.pick(&[0, -7, i32::MAX]),
            2 => wanted.replication_factor = random.pick(&[0, 9]),
            3 => wanted.configs.push(CreatableTopicConfig {
                name: random.pick(&["no.such.setting", "retention.ms"]).to_owned(),
                value: Some("many".to_owned()),
            }),
            _ => {
                let at = random.pick(&self.actor().shape().topics);
                wanted.name = self.actor().topic(at).name.replace('-', "_").replace('_', "-");
                wanted.num_partitions = -7;
            }
        }
        let _ = self.client.call(&create_request(vec![wanted])).await;
    }
}

pub(super) fn create_request(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest { topics, timeout_ms: 5000, ..CreateTopicsRequest::default() }
}

fn offsets_request(
    name: &str,
    partition: PartitionIndex,
    epoch: i32,
    timestamp: i64,
) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition {
        partition_index: partition.0,
        current_leader_epoch: epoch,
        timestamp,
    };
    let topic = ListOffsetsTopic { name: name.to_owned(), partitions: vec![partition] };
    ListOffsetsRequest { topics: vec![topic], timeout_ms: 5000, ..ListOffsetsRequest::default() }
}

/// What an answer to a change says of it.
pub fn phase(code: Result<Option<i16>, CallError>) -> Phase {
    match code {
        Ok(Some(0)) => Phase::Ok,
        Ok(Some(code)) => match ErrorCode::from_code(code) {
            // It may have reached the disk all the same.
            Some(
                ErrorCode::KafkaStorageError
                | ErrorCode::RequestTimedOut
                | ErrorCode::UnknownServerError,
            )
            | None => Phase::Info,
            Some(_) => Phase::Fail,
        },
        Ok(None) => Phase::Info,
        Err(error) if error.may_have_happened() => Phase::Info,
        Err(_) => Phase::Fail,
    }
}
