//! Members of the one group: they commit what they have read, leave now and then and come back.

use std::collections::BTreeMap;
use std::time::Duration;

use trialog_engine::client::{GroupConsumer, GroupError, GroupOptions, Place, Polled, Strategy};
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::io::Io;
use trialog_engine::io::kernel::KernelIo;
use trialog_jepsen::history::{Group, Membership, Op, Phase, Topic};

use super::{FINAL_READER, Part, Stage, TICK};
use crate::chance::{Random, monotonic_ns};
use crate::stop::{Stop, broken};

/// The group, as the script calls it.
const GROUP: &str = "jepsen-group";
const MEMBERS_FROM: u32 = 300;
/// Added for each new life of a member.
const LIFE: u32 = 1000;
const LIVES_MAX: u32 = 8;

/// All lives of one member.
pub(crate) async fn run(stage: Stage, number: u32, seed: u64) {
    let process = MEMBERS_FROM + number;
    let mut random = Random::new(seed * 1000 + u64::from(process));
    // All members of a group must agree on how they share.
    let strategy =
        if seed.is_multiple_of(2) { Strategy::Range } else { Strategy::CooperativeSticky };
    for life in 0..LIVES_MAX {
        let leaves = (life + 1 < LIVES_MAX)
            .then(|| monotonic_ns() + random.duration_ms(4_000, 20_000).as_nanos() as u64);
        Member::new(&stage, process + life * LIFE, strategy).live(leaves).await;
        if stage.is_over.get() {
            return;
        }
    }
}

/// One life.
struct Member<'s> {
    stage: &'s Stage,
    process: u32,
    group: Group,
    consumer: GroupConsumer<KernelIo>,
    /// The next offset to read of each partition, where it is not committed.
    due: BTreeMap<Place, Offset>,
    generation: i32,
}

impl<'s> Member<'s> {
    fn new(stage: &'s Stage, process: u32, strategy: Strategy) -> Member<'s> {
        let mut options = GroupOptions::new(GROUP);
        options.strategy = strategy;
        options.session_timeout = Duration::from_secs(6);
        options.heartbeat = Duration::from_millis(500);
        options.consumer.wait_max = Duration::from_millis(100);
        let names: Vec<&str> = stage.topics.iter().map(|(name, _)| &**name).collect();
        let topics = names.iter().map(|name| stage.topic(name)).collect();
        let group = stage.notes.borrow_mut().history.group(GROUP);
        let consumer = stage.client.subscribe(options, &names);
        let member =
            Member { stage, process, group, consumer, due: BTreeMap::new(), generation: 0 };
        member.record(Phase::Ok, Membership::Subscribe { topics });
        member
    }

    fn record(&self, phase: Phase, membership: Membership) {
        self.stage.record(self.process, phase, Op::Group(self.group, Box::new(membership)));
    }

    fn named(&self, places: &[Place]) -> Vec<(Topic, PartitionIndex)> {
        places.iter().map(|(name, index)| (self.stage.topic(name), *index)).collect()
    }

    async fn live(mut self, leaves: Option<u64>) {
        while !self.stage.is_over.get() && leaves.is_none_or(|leaves| monotonic_ns() < leaves) {
            match self.consumer.poll(Duration::from_millis(200)).await {
                Ok(Polled::Records(records)) if records.is_empty() => {}
                Ok(Polled::Records(records)) => {
                    self.stage.polled(self.process, &records);
                    for record in records {
                        let place = (record.topic.to_string(), record.partition);
                        self.stage.progressed(&place, record.offset.plus(1));
                        self.due.insert(place, record.offset.plus(1));
                    }
                    self.commit().await;
                }
                Ok(Polled::Assigned(generation, _)) => {
                    self.generation = generation;
                    let partitions = self.named(&self.consumer.owned());
                    let assigned = Membership::Assigned { member: None, generation, partitions };
                    self.record(Phase::Ok, assigned);
                }
                Ok(Polled::Revoked(places)) => {
                    self.commit().await;
                    self.gave_up(&places);
                }
                Ok(Polled::Lost(places)) => self.gave_up(&places),
                Err(error) => {
                    self.stage.error(error.to_string());
                    self.stage.io.sleep(TICK).await;
                }
            }
        }
        if let Err(error) = self.consumer.close().await {
            self.stage.error(error.to_string());
        }
    }

    fn gave_up(&mut self, places: &[Place]) {
        self.due.retain(|place, _| !places.contains(place));
        let (generation, partitions) = (self.generation, self.named(places));
        self.record(Phase::Ok, Membership::Revoked { generation, partitions });
    }

    async fn commit(&mut self) {
        let due: Vec<(Place, Offset)> = std::mem::take(&mut self.due).into_iter().collect();
        if due.is_empty() {
            return;
        }
        let row =
            |((name, index), offset): &(Place, Offset)| (self.stage.topic(name), *index, *offset);
        let offsets: Vec<_> = due.iter().map(row).collect();
        let asked = Membership::Commit { generation: Some(self.generation), offsets };
        self.record(Phase::Invoke, asked.clone());
        let phase = match self.consumer.commit_at(&due).await {
            Ok(()) => Phase::Ok,
            Err(error) => {
                self.stage.error(error.to_string());
                if matches!(error, GroupError::NotMember) { Phase::Fail } else { Phase::Info }
            }
        };
        self.record(phase, asked);
    }
}

/// Records what the group has committed in the end.
pub(crate) async fn look(stage: &Stage) -> Result<(), Stop> {
    let group = stage.notes.borrow_mut().history.group(GROUP);
    let record = |phase, offsets| {
        let look = Membership::Committed { offsets };
        stage.record(FINAL_READER, phase, Op::Group(group, Box::new(look)));
    };
    record(Phase::Invoke, Vec::new());
    let found = stage.client.admin().describe_group(GROUP).await;
    let found = found.map_err(broken(format!("what {GROUP} has committed")))?.standings;
    let found: BTreeMap<Place, _> = found.into_iter().collect();
    let of = |(name, index): Part| {
        let standing = found.get(&(name.to_string(), index));
        (stage.topic(&name), index, standing.and_then(|standing| standing.committed))
    };
    record(Phase::Ok, stage.parts().map(of).collect());
    Ok(())
}
