//! Somebody who looks after a consumer group: asks how it stands, moves it while it rests, and tries
//! what must be refused. What it deletes and lets expire is a group of its own, the mayfly, of which
//! nothing is promised.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select, select_all};
use trialog_engine::client::{Admin, CallError, Client, Place, Start};
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::io::Io;
use trialog_engine::wire::api::{
    ApiKey, CreatableTopic, DeleteGroupsRequest, JoinGroupRequest, JoinGroupRequestProtocol,
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use trialog_engine::wire::code::ErrorCode;
use trialog_jepsen::history::{Group, Membership, Op, Phase, Topic};

use super::admin::create_request;
use super::change::configure_request;
use crate::fate::{fate, fate_of};
use crate::invariant::groups;
use crate::io::SimIo;
use crate::scenario::shape::{Care, CaretakerShape, GroupShape};
use crate::scenario::stage::{Actor, Voice};
use crate::seed::Stream;

/// The last version of OffsetCommit that says how long offsets are kept.
const RETENTION_VERSION: i16 = 4;

/// The last version of OffsetCommit in which topics have names.
pub const NAMED_VERSION: i16 = 9;

/// What is committed for a topic that was just made.
const SETTLED: Offset = Offset(7);
/// How many connections commit for it.
const SETTLERS: usize = 6;
/// The partition that it commits for.
const FIRST: PartitionIndex = PartitionIndex(0);

/// A caretaker's program.
pub(super) async fn perform(actor: Actor, shape: CaretakerShape) {
    super::admin::prepare(&actor).await;
    let group = actor.stage.shape.groups[shape.group].clone();
    let desk = Desk::new(&actor, &group);
    while !actor.stage.curtain() {
        let (mut random, left_out) = actor.step();
        let call = random.pick(&shape.calls);
        if !left_out {
            desk.make(call, &mut random).await;
        }
        actor.pause(&mut random, shape.pause).await;
    }
    // Whatever came in between, this can be told.
    desk.committed().await;
}

struct Desk<'a> {
    voice: Voice,
    shape: &'a GroupShape,
    group: Group,
    /// Asks again until it is answered.
    patient: Admin<SimIo>,
    /// Asks once: each attempt of a change is an operation of its own.
    once: Client<SimIo>,
}

impl<'a> Desk<'a> {
    fn new(actor: &Actor, shape: &'a GroupShape) -> Desk<'a> {
        let client = actor.client();
        Desk {
            voice: actor.voice(),
            shape,
            group: actor.stage.recorder.group(&shape.name),
            patient: client.admin(),
            once: client,
        }
    }

    fn actor(&self) -> &Actor {
        &self.voice.actor
    }

    fn mayfly(&self) -> String {
        format!("mayfly-{}", self.shape.broker)
    }

    async fn make(&self, call: Care, random: &mut Stream) {
        let draw = random.bits();
        match call {
            Care::List => {
                let _ = self.patient.list_groups().await;
            }
            Care::Describe => {
                let _ = self.patient.describe_group(&self.shape.name).await;
            }
            Care::Committed => self.committed().await,
            Care::Reset => self.reset(draw).await,
            Care::Delete => self.delete().await,
            Care::Forget => self.forget(draw).await,
            Care::CommitForMayfly => self.commit_for_mayfly(random).await,
            Care::ForgetMayfly => {
                let partition = OffsetDeleteRequestPartition { partition_index: 0 };
                let name = self.topic_name(draw);
                let topic = OffsetDeleteRequestTopic { name, partitions: vec![partition] };
                let request = OffsetDeleteRequest { group_id: self.mayfly(), topics: vec![topic] };
                let _ = self.once.call(&request).await;
            }
            Care::DeleteMayfly => {
                let _ = self.patient.delete_group(&self.mayfly()).await;
            }
            Care::PlayPuppet => {
                let group = format!("puppets-{}", self.shape.broker);
                super::puppet::play(self.actor(), &group, random).await;
            }
            Care::CompactOffsets => {
                let settings = [
                    ("segment.ms", random.pick(&["150", "1000"])),
                    ("min.cleanable.dirty.ratio", random.pick(&["0.0", "0.5"])),
                    ("delete.retention.ms", random.pick(&["0", "2000"])),
                ];
                let (key, value) = random.pick(&settings);
                let request = configure_request(groups::TOPIC, key, Some(value.to_owned()));
                let _ = self.once.call(&request).await;
            }
            Care::JoinWrongly => self.join_wrongly(random).await,
            Care::Settle => self.settle(random).await,
        }
    }

    /// Makes a topic, for which many commit from before it is there until the first of them is taken;
    /// maybe by a coordinator that has not heard of the topic yet.
    async fn settle(&self, random: &mut Stream) {
        let name = format!("settled-{}-{}", self.shape.broker, random.bits());
        let group = format!("settler-{name}");
        let place = (name, FIRST);
        let mut request = commit_request(&group, &(self.topic_name(random.bits()), FIRST), 0);
        request.topics.extend(commit_request(&group, &place, SETTLED.0).topics);
        let io = &self.actor().io;
        let settlers = select_all((0..SETTLERS).map(|_| {
            Box::pin(async {
                // Each has a connection of its own: what comes by one is done in turn.
                let client = self.commit_client(NAMED_VERSION);
                loop {
                    let pause = match client.call(&request).await {
                        Ok(answer) => {
                            let new = answer.topics.iter().find(|topic| topic.name == place.0);
                            let new = new.and_then(|topic| topic.partitions.first());
                            if new.is_some_and(|one| one.error_code == 0) {
                                return;
                            }
                            Duration::from_micros(io.random() % 500)
                        }
                        Err(_) => Duration::from_millis(50),
                    };
                    io.sleep(pause).await;
                }
            })
        }));
        let made = async {
            io.sleep(Duration::from_micros(io.random() % 20_000)).await;
            let _ = self.once.call(&create_request(vec![wanted(&place.0)])).await;
            io.sleep(Duration::from_millis(50)).await;
        };
        if let Either::Right(_) = select(settlers, pin!(made)).await {
            return;
        }
        self.actor().pause(random, Duration::from_secs(3)).await;
        let places = std::slice::from_ref(&place);
        let Ok(found) = self.patient.group_offsets(&group, places).await else { return };
        if found.get(&place) != Some(&SETTLED) {
            let text = format!("{group} has committed {SETTLED} and is told {found:?}");
            self.actor().stage.accuse("GROUP-9", text);
        }
    }

    fn topic_name(&self, draw: u64) -> String {
        let topics = &self.shape.topics;
        self.actor().topic(topics[draw as usize % topics.len()]).name.clone()
    }

    fn places(&self) -> Vec<Place> {
        let topics = self.shape.topics.iter().map(|&at| self.actor().topic(at));
        let places = topics.flat_map(|topic| {
            let indexes = (0..topic.partitions_most).map(PartitionIndex);
            indexes.map(|index| (topic.name.clone(), index))
        });
        places.collect()
    }

    fn record(&self, phase: Phase, membership: Membership) {
        self.voice.record(phase, Op::Group(self.group, Box::new(membership)));
    }

    /// Reads what is committed.
    async fn committed(&self) {
        let asked = Membership::Committed { offsets: Vec::new() };
        self.record(Phase::Invoke, asked.clone());
        let places = self.places();
        let Ok(found) = self.patient.group_offsets(&self.shape.name, &places).await else {
            return self.record(Phase::Info, asked);
        };
        let stage = &self.actor().stage;
        let offsets = places.iter().map(|place| {
            let topic = stage.topic(stage.topic_named(&place.0));
            (topic, place.1, found.get(place).copied())
        });
        self.record(Phase::Ok, Membership::Committed { offsets: offsets.collect() });
    }

    /// Moves the group in one partition; it must be empty, or it is refused.
    async fn reset(&self, draw: u64) {
        let places = self.places();
        let place = places[draw as usize % places.len()].clone();
        let told = self.patient.list_offset(&place.0, place.1, Start::Latest).await;
        let Ok(Some((end, _))) = told else { return };
        let offset = Offset(((draw >> 32) % (end.0 as u64 + 1)) as i64);
        let (topic, index) = self.parts(std::slice::from_ref(&place))[0];
        let commit = Membership::Commit { generation: None, offsets: vec![(topic, index, offset)] };
        let request = commit_request(&self.shape.name, &place, offset.0);
        self.record(Phase::Invoke, commit.clone());
        let code = self.commit_client(NAMED_VERSION).call(&request).await.map(|answer| {
            let one = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
            one.map(|one| one.error_code)
        });
        self.record(ended(code), commit);
    }

    /// Deletes the group; it must be empty, or that is refused.
    async fn delete(&self) {
        let request = DeleteGroupsRequest { groups_names: vec![self.shape.name.clone()] };
        let forget = Membership::Forget { partitions: self.parts(&self.places()) };
        self.record(Phase::Invoke, forget.clone());
        let answer = self.once.call(&request).await;
        let code = answer.map(|answer| answer.results.first().map(|one| one.error_code));
        self.record(ended(code), forget);
    }

    /// Deletes the offset of one partition; nobody may read its topic, or that is refused.
    async fn forget(&self, draw: u64) {
        let places = self.places();
        let place = places[draw as usize % places.len()].clone();
        let partition = OffsetDeleteRequestPartition { partition_index: place.1.0 };
        let topic = OffsetDeleteRequestTopic { name: place.0.clone(), partitions: vec![partition] };
        let group_id = self.shape.name.clone();
        let request = OffsetDeleteRequest { group_id, topics: vec![topic] };
        let forget = Membership::Forget { partitions: self.parts(&[place]) };
        self.record(Phase::Invoke, forget.clone());
        let code = self.once.call(&request).await.map(|answer| {
            let inner = answer.topics.iter().flat_map(|topic| &topic.partitions).next();
            match answer.error_code {
                0 => inner.map(|one| one.error_code),
                code => Some(code),
            }
        });
        self.record(ended(code), forget);
    }

    fn parts(&self, places: &[Place]) -> Vec<(Topic, PartitionIndex)> {
        let stage = &self.actor().stage;
        let part = |(name, index): &Place| (stage.topic(stage.topic_named(name)), *index);
        places.iter().map(part).collect()
    }

    /// A client that commits in no version above this one.
    fn commit_client(&self, version: i16) -> Client<SimIo> {
        let shape = self.actor().shape();
        let mut versions = shape.versions_max.clone();
        let most = versions.get(&ApiKey::OffsetCommit).map_or(version, |most| version.min(*most));
        versions.insert(ApiKey::OffsetCommit, most);
        self.actor().client_of(shape.home, shape.request_timeout, versions)
    }

    /// Commits for the mayfly, in the days of old with a time to keep it.
    async fn commit_for_mayfly(&self, random: &mut Stream) {
        let text = random.pick(&["", "a few words about it"]);
        let place = (self.topic_name(random.bits()), PartitionIndex(0));
        let mut request = commit_request(&self.mayfly(), &place, random.below(100) as i64);
        request.retention_time_ms = random.within(1..3000) as i64;
        request.topics[0].partitions[0].committed_metadata = Some(text.to_owned());
        let _ = self.commit_client(RETENTION_VERSION).call(&request).await;
    }

    /// Joins as nobody can, or promises to and does not.
    async fn join_wrongly(&self, random: &mut Stream) {
        let mut request = JoinGroupRequest {
            group_id: self.shape.name.clone(),
            session_timeout_ms: 1000,
            rebalance_timeout_ms: 1000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".to_owned(),
                metadata: Vec::new(),
            }],
            ..JoinGroupRequest::default()
        };
        match random.below(5) {
            // Nothing comes after this: the id that it gets is never used.
            0 | 1 => {
                let shape = self.actor().shape();
                let mut versions = shape.versions_max.clone();
                versions.remove(&ApiKey::JoinGroup);
                let client = self.actor().client_of(shape.home, shape.request_timeout, versions);
                let _ = client.call(&request).await;
                return;
            }
            2 => request.session_timeout_ms = 1,
            3 => request.protocol_type = "other".to_owned(),
            _ => request.member_id = "nobody".to_owned(),
        }
        let _ = self.once.call(&request).await;
    }
}

/// A topic of one partition.
fn wanted(name: &str) -> CreatableTopic {
    CreatableTopic {
        name: name.to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    }
}

/// What an answer to a change says of it.
fn ended(code: Result<Option<i16>, CallError>) -> Phase {
    match code {
        Ok(Some(0)) => Phase::Ok,
        Ok(code) => code.and_then(ErrorCode::from_code).map_or(Phase::Info, fate),
        Err(error) => fate_of(&error),
    }
}

/// A commit of one partition from outside of a group.
pub fn commit_request(group: &str, place: &Place, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        partition_index: place.1.0,
        committed_offset: offset,
        ..OffsetCommitRequestPartition::default()
    };
    OffsetCommitRequest {
        group_id: group.to_owned(),
        topics: vec![OffsetCommitRequestTopic {
            name: place.0.clone(),
            partitions: vec![partition],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    }
}
