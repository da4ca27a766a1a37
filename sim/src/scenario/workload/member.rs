//! A member of a consumer group: joins, reads, commits, dozes, leaves and comes back.
//!
//! Everything that it is given and gives up stands in the history, and so does every attempt to
//! commit. In the second act all members go on until the group has read everything, so that a run
//! shows that a group settles and gets its work done.
//!
//! A member that is to get stuck (`Fault::Stuck`) never polls again once it has something to read: its
//! process lives, and its client says so until `max.poll.interval.ms` has passed. Others must read what
//! it does not.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use trialog_engine::client::{
    Admin, ConsumeError, GroupConsumer, GroupError, Place, Polled, Start,
};
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::io::Io;
use trialog_jepsen::history::{BEGINNING, Group, Membership, Op, Phase, Topic};

use crate::fate::fate_of_commit;
use crate::io::SimIo;
use crate::machine::Machine;
use crate::scenario::shape::{Commits, GroupShape, MemberShape, Nature};
use crate::scenario::stage::{Actor, Voice};

/// How long a member goes on without looking whether the group has read everything.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The longest pause between two polls in the second act.
const HURRY: Duration = Duration::from_millis(50);

/// A member's program.
pub(super) async fn perform(actor: Actor, shape: MemberShape) {
    super::admin::prepare(&actor).await;
    let group = actor.stage.shape.groups[shape.group].clone();
    let asking = actor.client().admin();
    let mut reader: Option<Reader<'_>> = None;
    loop {
        let over = actor.stage.curtain();
        if over && has_read_everything(&actor, &group, &asking).await {
            break;
        }
        let (mut random, left_out) = actor.step();
        let (renewed, dozes) =
            (random.chance(1, shape.renewed_every), random.chance(1, shape.dozes_every));
        let rests = !over && rests(&actor, &group);
        if (rests || (renewed && !over))
            && let Some(reader) = reader.take()
        {
            reader.end().await;
        }
        if !left_out && !rests {
            let now = reader.get_or_insert_with(|| Reader::new(&actor, &shape, &group));
            let poll = if over { LOOK_EVERY } else { shape.poll };
            // It works so long on what it has got that the others go on without it.
            let work = (dozes && !over).then(|| shape.poll_interval.mul_f32(1.2));
            if !now.poll(poll, work).await {
                reader = None;
            } else if now.gets_stuck() {
                pending::<()>().await;
            }
        }
        // In the second act it has to catch up, however slow it was.
        let pause = if over { shape.pause.min(HURRY) } else { shape.pause };
        actor.pause(&mut random, pause).await;
    }
    if let Some(reader) = reader {
        reader.end().await;
    }
}

/// Whether the group rests just now.
fn rests(actor: &Actor, group: &GroupShape) -> bool {
    let now = Duration::from_nanos(actor.stage.recorder.world().now());
    group.rest.as_ref().is_some_and(|rest| rest.contains(&now))
}

/// Whether the group has committed the end of every partition that it reads, of topics that stay.
async fn has_read_everything(actor: &Actor, group: &GroupShape, asking: &Admin<SimIo>) -> bool {
    let Ok(listed) = asking.list_topics().await else { return false };
    let stays = |at: &&usize| actor.topic(**at).nature != Nature::Fleeting;
    let mut places: Vec<Place> = Vec::new();
    for &at in group.topics.iter().filter(stays) {
        let name = &actor.topic(at).name;
        // Partitions may have been added.
        let Some(topic) = listed.iter().find(|topic| topic.name == *name) else { return false };
        let indexes = (0..topic.partitions as i32).map(PartitionIndex);
        places.extend(indexes.map(|index| (name.clone(), index)));
    }
    let Ok(committed) = asking.group_offsets(&group.name, &places).await else { return false };
    for place in &places {
        let bound = async |start| {
            let told = asking.list_offset(&place.0, place.1, start).await;
            told.ok().flatten().map(|(offset, _)| offset)
        };
        let Some(end) = bound(Start::Latest).await else { return false };
        let done = match committed.get(place) {
            Some(offset) => *offset >= end,
            // Nothing to read, nothing to commit.
            None => bound(Start::Earliest).await == Some(end),
        };
        if !done {
            return false;
        }
    }
    true
}

/// One membership, with what the history needs to know of it.
struct Reader<'a> {
    voice: Voice,
    shape: &'a MemberShape,
    group: Group,
    member: GroupConsumer<SimIo>,
    /// The last generation in which it was given something.
    generation: i32,
    /// Up to where it has read, of what it has not committed yet.
    uncommitted: BTreeMap<Place, Offset>,
    /// What it has committed itself, of what it reads.
    committed: BTreeMap<Place, Offset>,
    /// When it committed last, in simulated nanoseconds.
    committed_at: u64,
}

impl<'a> Reader<'a> {
    fn new(actor: &Actor, shape: &'a MemberShape, group: &GroupShape) -> Reader<'a> {
        let voice = actor.voice();
        let names: Vec<&str> =
            group.topics.iter().map(|&at| actor.topic(at).name.as_str()).collect();
        let member = actor.client().subscribe(group.options(shape), &names);
        let reader = Reader {
            group: actor.stage.recorder.group(&group.name),
            voice,
            shape,
            member,
            generation: -1,
            uncommitted: BTreeMap::new(),
            committed: BTreeMap::new(),
            committed_at: actor.stage.recorder.world().now(),
        };
        let topics = group.topics.iter().map(|&at| actor.stage.topic(at)).collect();
        reader.record(Phase::Ok, Membership::Subscribe { topics });
        reader
    }

    /// Whether it never polls again, with all that it holds.
    fn gets_stuck(&self) -> bool {
        let (io, holds) = (&self.voice.actor.io, !self.member.owned().is_empty());
        let stuck = holds && io.world().machine(io.process().machine, Machine::gets_stuck);
        if stuck {
            self.voice.record(Phase::Info, Op::Note("never polls again".into()));
        }
        stuck
    }

    fn record(&self, phase: Phase, membership: Membership) {
        self.voice.record(phase, Op::Group(self.group, Box::new(membership)));
    }

    fn topic(&self, name: &str) -> Topic {
        let stage = &self.voice.actor.stage;
        stage.topic(stage.topic_named(name))
    }

    fn parts(&self, places: &[Place]) -> Vec<(Topic, PartitionIndex)> {
        places.iter().map(|(topic, index)| (self.topic(topic), *index)).collect()
    }

    /// One poll and what follows from it, after some work; false if this membership is over.
    async fn poll(&mut self, timeout: Duration, work: Option<Duration>) -> bool {
        match self.member.poll(timeout).await {
            Ok(Polled::Records(records)) => {
                if !records.is_empty() {
                    let heard = |got| super::consume::heard(&self.voice.actor.stage, got);
                    let records = records.iter().map(heard).collect();
                    self.voice.record(Phase::Ok, Op::Poll { records });
                }
                for place in self.member.owned() {
                    // A position moves without records, too: to where retention has got.
                    let Some(offset) = self.member.position(&place.0, place.1) else { continue };
                    if self.committed.get(&place) != Some(&offset) {
                        self.uncommitted.insert(place, offset);
                    }
                }
                if let Some(work) = work {
                    self.voice.actor.io.sleep(work).await;
                }
                self.commit_if_due().await;
            }
            Ok(Polled::Assigned(generation, new)) => {
                self.generation = generation;
                self.committed.retain(|place, _| !new.contains(place));
                let partitions = self.parts(&self.member.owned());
                let member = self.shape.instance.as_deref().map(Into::into);
                let assigned = Membership::Assigned { member, generation, partitions };
                self.record(Phase::Ok, assigned);
            }
            Ok(Polled::Revoked(places)) => {
                self.give_up(&places);
                let last = places.into_iter();
                let last = last.filter_map(|place| self.uncommitted.remove_entry(&place));
                let last: Vec<(Place, Offset)> = last.collect();
                self.commit(&last).await;
            }
            Ok(Polled::Lost(places)) => {
                self.give_up(&places);
                self.uncommitted.clear();
            }
            Err(GroupError::Consume(error)) => self.on_error(&error).await,
            Err(error) => {
                let told = format!("member {}: {error}", self.voice);
                self.voice.actor.io.world().say(&told);
                self.voice.actor.io.sleep(Duration::from_millis(100)).await;
                return false;
            }
        }
        true
    }

    fn give_up(&self, places: &[Place]) {
        let (generation, partitions) = (self.generation, self.parts(places));
        self.record(Phase::Ok, Membership::Revoked { generation, partitions });
    }

    async fn commit_if_due(&mut self) {
        let now = self.voice.actor.stage.recorder.world().now();
        let due = match self.shape.commits {
            Commits::EachPoll => true,
            Commits::Every(interval) => {
                // In the end nobody waits.
                let over = self.voice.actor.stage.curtain();
                over || now >= self.committed_at + crate::seed::nanos(interval)
            }
        };
        if due {
            let all: Vec<(Place, Offset)> = self.uncommitted.clone().into_iter().collect();
            if self.commit(&all).await {
                self.uncommitted.clear();
            }
        }
    }

    /// One attempt to commit; true if it is known to have worked.
    async fn commit(&mut self, offsets: &[(Place, Offset)]) -> bool {
        let Some((generation, _)) = self.member.generation() else { return false };
        if offsets.is_empty() {
            return true;
        }
        self.committed_at = self.voice.actor.stage.recorder.world().now();
        let parts = offsets.iter().map(|((topic, index), at)| (self.topic(topic), *index, *at));
        let (generation, offsets_told) = (Some(generation), parts.collect());
        let commit = Membership::Commit { generation, offsets: offsets_told };
        self.record(Phase::Invoke, commit.clone());
        let outcome = self.member.commit_at(offsets).await;
        self.record(fate_of_commit(&outcome), commit);
        if outcome.is_ok() {
            self.committed.extend(offsets.iter().cloned());
        }
        outcome.is_ok()
    }

    async fn on_error(&mut self, error: &ConsumeError) {
        let actor = self.voice.actor.clone();
        match error {
            ConsumeError::Refused { .. } | ConsumeError::Call(_) => {}
            ConsumeError::OutOfRange { topic, partition, .. } => {
                let at = actor.stage.topic_named(topic);
                if actor.is_lasting(at) {
                    actor.stage.complain(format!("member {}: {error}", self.voice));
                }
                self.uncommitted.remove(&(topic.clone(), *partition));
                let (topic_told, partition) = (actor.stage.topic(at), *partition);
                let seek = Op::Seek { topic: topic_told, partition, offset: BEGINNING };
                self.voice.record(Phase::Ok, seek);
                self.member.seek(topic, partition, Start::Earliest);
            }
            ConsumeError::Corrupt { topic, partition, .. } => {
                super::consume::on_damage(&self.voice, topic, *partition, error);
            }
        }
        actor.io.sleep(Duration::from_millis(50)).await;
    }

    /// Ends the membership: commits, and leaves or is only missed.
    async fn end(mut self) {
        let all: Vec<(Place, Offset)> = std::mem::take(&mut self.uncommitted).into_iter().collect();
        self.commit(&all).await;
        self.give_up(&self.member.owned());
        if self.shape.leaves {
            let _ = self.member.close().await;
        }
    }
}
