//! Consumer groups as a state machine: one [`Groups`] holds the groups of one partition of
//! `__consumer_offsets`.
//!
//! [`Groups::decide`] takes a command, answers it or keeps its [`Ticket`] to answer it later, and
//! says which records must be durable before any answer leaves. [`Groups::apply`] takes such a
//! record. What records carry (committed offsets, generations with their assignments) changes in
//! `apply` alone; what they do not carry (who is joining, who was heard of when) changes in
//! `decide` and is gone with the machine: members notice by a refusal, and join again. Recovery is
//! a new machine, every record applied, then [`Groups::loaded`].
//!
//! ```text
//!              join                     all have joined, or the time is up
//!   Empty ------------> Preparing ------------------------------------> Completing
//!     ^                  ^  ^  |                                           |   |
//!     |     nobody left  |  |  |         join, leave, silence              |   | the leader's
//!     +------------------|--|--+         ----------------------------------+   | assignment
//!                        |  +--------------------------------------------------|
//!                        +----------------- Stable <---------------------------+
//! ```
//!
//! Keeps: GROUP-1, an assignment is handed out only from a generation that is recorded, so one
//! generation has one assignment, across crashes too; GROUP-2, a commit is accepted only from the
//! group's present generation, or without members from anybody; GROUP-3, replaying the records
//! gives the same offsets and generations; GROUP-4, every ticket is answered exactly once.
//!
//! Must not know: clocks (time comes with each command), chance (ids come with the command), logs,
//! connections, and which topics exist.

mod classic;
mod command;
mod describe;
mod join;
mod member;
mod offset;
pub mod record;

mod sync;
mod topics;
mod weight;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use command::{
    Allowance, Command, Decision, Join, Listed, Now, Places, Reply, Settings, Ticket,
};
pub use record::{Committed, Generation, Record, RecordError, TOPIC_ID};
pub use weight::Weight;

use classic::{Classic, Round};

use crate::probe::{self, Probe};

/// Everything known of one group.
#[derive(Debug, Default)]
struct Group {
    /// The last generation that is durable.
    recorded: Option<Generation>,
    recorded_bytes: usize,
    /// The committed offsets, by topic and partition.
    places: BTreeMap<String, BTreeMap<i32, Committed>>,
    /// Its members and what they are up to.
    classic: Classic,
    /// When it has to be looked at, in ms of monotonic time.
    alarm: Option<u64>,
    /// What it takes of memory.
    weight: Weight,
}

/// The groups of one partition of `__consumer_offsets`. See the module's head.
#[derive(Debug)]
pub struct Groups {
    settings: Settings,
    allowance: Allowance,
    groups: BTreeMap<String, Group>,
    /// The groups' alarms in order.
    alarms: BTreeSet<(u64, String)>,
    /// When offsets are next looked through for expired ones, in ms of monotonic time.
    expiry_at: Option<u64>,
    /// Committed offsets of all groups.
    places: usize,
    /// What all groups take of memory.
    weight: Weight,
}

impl Groups {
    /// A machine that has seen no record.
    #[must_use]
    pub fn new(settings: Settings) -> Groups {
        Groups {
            settings,
            allowance: Allowance::default(),
            groups: BTreeMap::new(),
            alarms: BTreeSet::new(),
            expiry_at: None,
            places: 0,
            weight: Weight::default(),
        }
    }

    /// Obeys other settings from now on.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// May take so much memory from now on. What is there stays.
    pub fn allow(&mut self, allowance: Allowance) {
        self.allowance = allowance;
    }

    /// What it takes of memory.
    #[must_use]
    pub fn weight(&self) -> Weight {
        self.weight
    }

    /// Carries `command` out: answers go to the tickets in [`Decision::replies`], once
    /// [`Decision::records`] have been applied and are durable.
    #[must_use]
    pub fn decide(&mut self, now: Now, command: Command) -> Decision {
        let mut decision = Decision::default();
        let touched = command.group().map(str::to_owned);
        let weighs = command.changes_members();
        self.carry_out(now, command, &mut decision);
        if let Some(group) = touched {
            if weighs {
                self.weigh(&group);
            }
            self.settle(&group);
        }
        decision
    }

    fn carry_out(&mut self, now: Now, command: Command, out: &mut Decision) {
        match command {
            Command::Join(join) => self.join(now, *join, out),
            Command::Sync { ticket, request } => self.sync(now, ticket, request, out),
            Command::Heartbeat { ticket, request } => self.heartbeat(now, ticket, &request, out),
            Command::Leave { ticket, request } => self.leave(now, ticket, request, out),
            Command::Commit { ticket, request } => self.commit(now, ticket, request, out),
            Command::Places { ticket, group, wanted } => {
                out.reply(ticket, Reply::Places(self.places_of(&group, wanted)));
            }
            Command::Forget { ticket, request } => self.forget(ticket, request, out),
            Command::Delete { ticket, group } => self.delete(ticket, &group, out),
            Command::List { ticket } => out.reply(ticket, Reply::Listed(self.list())),
            Command::Describe { ticket, group } => {
                out.reply(ticket, Reply::Described(Box::new(self.describe(&group))));
            }
            Command::TopicsGone { topics } => self.forget_topics(&topics, out),
        }
    }

    /// When [`Groups::tick`] has something to do, in ms of monotonic time.
    #[must_use]
    pub fn wake_at(&self) -> Option<u64> {
        let alarm = self.alarms.first().map(|(at, _)| *at);
        alarm.into_iter().chain(self.expiry_at).min()
    }

    /// Does what is due: sends away who was silent, ends waiting, expires offsets.
    #[must_use]
    pub fn tick(&mut self, now: Now) -> Decision {
        let mut decision = Decision::default();
        while let Some((at, id)) = self.alarms.first().cloned() {
            if at > now.monotonic_ms {
                break;
            }
            self.alarms.remove(&(at, id.clone()));
            if let Some(group) = self.groups.get_mut(&id) {
                group.alarm = None;
                let Group { classic, recorded, .. } = group;
                let settings = &self.settings;
                let recorded = recorded.as_ref();
                classic.tick(&mut Round { settings, id: &id, recorded, now, out: &mut decision });
            }
            self.weigh(&id);
            self.settle(&id);
        }
        if self.expiry_at.is_some_and(|at| at <= now.monotonic_ms) {
            self.expiry_at = Some(now.monotonic_ms + self.settings.expiry_interval_ms);
            self.expire(now, &mut decision);
        }
        decision
    }

    /// Commands that wait for an answer: joins and syncs of members, and nothing else.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let members = self.groups.values().flat_map(|group| group.classic.members.values());
        let waits = |member: &member::Member| {
            usize::from(member.joining.is_some()) + usize::from(member.syncing.is_some())
        };
        members.map(waits).sum()
    }

    /// Takes a record into the state.
    pub fn apply(&mut self, record: Record) {
        let id = match record {
            Record::Committed { group: id, topic, partition, place } => {
                let group = self.groups.entry(id.clone()).or_default();
                let before = group.weight;
                match place {
                    Some(place) => {
                        let known = group.put_place(&id, topic, partition.0, place).is_some();
                        self.places += usize::from(!known);
                    }
                    None => {
                        let taken = group.take_place(&id, &topic, partition.0).is_some();
                        self.places -= usize::from(taken);
                    }
                }
                self.weight.change(before, group.weight);
                id
            }
            Record::Generation { group: id, generation } => {
                let group = self.groups.entry(id.clone()).or_default();
                if generation.is_none() {
                    assert!(group.classic.is_empty(), "GROUP: a deleted group has no members");
                    group.classic = Classic::default();
                }
                group.recorded_bytes = generation.as_ref().map_or(0, weight::generation);
                group.recorded = generation;
                self.weigh(&id);
                id
            }
        };
        // A group that is deleted forgets the ids it had promised, and when they would be missed.
        self.settle(&id);
    }

    /// Gives the groups the members that their records name, once all records are applied. Every
    /// member has a whole session's time to be heard of. A group with more members than it may have by
    /// now gathers joins at once: those who come first stay, and all can commit what they have done.
    pub fn loaded(&mut self, now: Now) {
        self.expiry_at = Some(now.monotonic_ms + self.settings.expiry_interval_ms);
        for (id, group) in &mut self.groups {
            if let Some(recorded) = &group.recorded {
                group.classic = Classic::of(recorded, now);
                tracing::debug!(
                    group = id,
                    generation = recorded.number,
                    members = recorded.members.len(),
                    "a group is back"
                );
                let settings = &self.settings;
                if recorded.members.len() > settings.members_max {
                    probe::hit(Probe::GroupTooLarge);
                    tracing::info!(
                        group = id,
                        members = recorded.members.len(),
                        most = settings.members_max,
                        "the group is larger than group.max.size: its members have to join again"
                    );
                    let (recorded, mut out) = (Some(recorded), Decision::default());
                    let mut round = Round { settings, id, recorded, now, out: &mut out };
                    group.classic.rebalance(&mut round);
                    assert!(out.replies.is_empty(), "GROUP-4: nobody has asked yet");
                    assert!(out.records.is_empty(), "GROUP-3: what is recorded is what was read");
                }
            }
        }
        let ids: Vec<String> = self.groups.keys().cloned().collect();
        for id in ids {
            self.weigh(&id);
            self.settle(&id);
        }
    }

    /// Counts anew what the group's members take.
    fn weigh(&mut self, id: &str) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let before = group.weight;
        group.weight.members = group.members_weight(id);
        self.weight.change(before, group.weight);
    }

    /// Sets the group's alarm, and drops a group of which nothing is left.
    fn settle(&mut self, id: &str) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let alarm = group.classic.wake_at();
        if group.alarm != alarm {
            if let Some(before) = group.alarm.take() {
                self.alarms.remove(&(before, id.to_owned()));
            }
            if let Some(alarm) = alarm {
                self.alarms.insert((alarm, id.to_owned()));
            }
            group.alarm = alarm;
        }
        self.drop_if_vacant(id);
    }

    /// Forgets a group of which nothing is left.
    fn drop_if_vacant(&mut self, id: &str) {
        let vacant = |group: &Group| {
            group.recorded.is_none() && group.places.is_empty() && group.classic.is_vacant()
        };
        if self.groups.get(id).is_some_and(vacant) {
            let group = self.groups.remove(id).expect("just seen");
            assert!(group.alarm.is_none(), "GROUP: a vacant group waits for nothing");
            self.weight.change(group.weight, Weight::default());
        }
    }
}
