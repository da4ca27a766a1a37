//! One group in the classic protocol: its state, and how it comes from one generation to the next.
//!
//! Joins are gathered while the group is preparing; when all members have joined, or the time is
//! up, the next generation begins and its leader is asked for the assignment. Until that is
//! recorded, nobody has a share. The rules are Kafka's; where its code and its documents differ,
//! clients rely on the code.

use std::collections::{BTreeMap, BTreeSet};

use super::command::{Decision, Now, Reply, Settings, Ticket};
use super::member::{Member, millis};
use super::record::{Generation, Record, RecordedMember};
use super::topics::Topics;

use crate::probe::{self, Probe};
use crate::wire::api::{JoinGroupResponse, JoinGroupResponseMember, SyncGroupResponse};
use crate::wire::code::ErrorCode;
use crate::wire::subscription;

/// How long a member that nothing has told its id yet may wait in a join, in ms: nobody can tell
/// whether its client still waits.
pub(super) const NEW_MEMBER_JOIN_MS: u64 = 5 * 60 * 1000;

/// What a group is up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody is in it.
    #[default]
    Empty,
    /// Joins are gathered.
    Preparing {
        /// When they are no longer waited for, in ms of monotonic time.
        until: u64,
        /// For a group that was empty: how long it may still be put off for more to come.
        opening: Option<Opening>,
    },
    /// The leader is making the assignment.
    Completing,
    /// All members have, or can get, their shares.
    Stable,
}

/// The beginning of a group, when members are given time to start together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    delay_ms: u64,
    remaining_ms: u64,
    /// Whether anybody has come since it was last put off.
    someone_came: bool,
}

/// One group. See the module's head.
#[derive(Debug, Default)]
pub(super) struct Classic {
    pub state: State,
    pub generation: i32,
    pub protocol_type: Option<String>,
    /// The strategy of the present generation.
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub members: BTreeMap<String, Member>,
    /// The ids of static members by their own names.
    pub statics: BTreeMap<String, String>,
    /// Ids that were given out (KIP-394) and until when they wait for their join, in ms of
    /// monotonic time.
    pub promised: BTreeMap<String, u64>,
    /// When members that owe a sync are sent away, in ms of monotonic time.
    pub sync_until: Option<u64>,
    /// When the state was entered, in ms since 1970.
    pub since_ms: i64,
    /// The topics of the present generation; `None` if they are not known.
    pub topics: Option<Topics>,
}

/// What a step of a group is given beside the group itself.
pub(super) struct Round<'a> {
    pub settings: &'a Settings,
    pub id: &'a str,
    pub recorded: Option<&'a Generation>,
    pub now: Now,
    pub out: &'a mut Decision,
}

impl Classic {
    /// The group that a record describes.
    pub fn of(recorded: &Generation, now: Now) -> Classic {
        let protocol = recorded.protocol.as_deref();
        let mut members = BTreeMap::new();
        let mut statics = BTreeMap::new();
        for member in &recorded.members {
            if let Some(instance) = &member.instance {
                statics.insert(instance.clone(), member.id.clone());
            }
            members.insert(member.id.clone(), Member::of(member, protocol, now));
        }
        let mut group = Classic {
            state: if members.is_empty() { State::Empty } else { State::Stable },
            generation: recorded.number,
            protocol_type: Some(recorded.protocol_type.clone()).filter(|name| !name.is_empty()),
            protocol: recorded.protocol.clone(),
            leader: recorded.leader.clone(),
            members,
            statics,
            promised: BTreeMap::new(),
            sync_until: None,
            since_ms: recorded.since_ms,
            topics: None,
        };
        group.topics = group.subscribed();
        group
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Whether it is as if it had never been.
    pub fn is_vacant(&self) -> bool {
        self.is_empty() && self.generation == 0 && self.promised.is_empty()
    }

    /// Kafka's name of its state.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::Preparing { .. } => "PreparingRebalance",
            State::Completing => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }

    /// When [`Classic::tick`] has something to do.
    pub fn wake_at(&self) -> Option<u64> {
        let until = match self.state {
            State::Preparing { until, .. } => Some(until),
            _ => None,
        };
        let members = self.members.values().filter(|member| !member.is_waiting());
        let silent = members.filter_map(|member| member.silent_at);
        let promised = self.promised.values().copied();
        until.into_iter().chain(self.sync_until).chain(silent).chain(promised).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, round: &mut Round<'_>) {
        let now = round.now;
        let broken = self.promised.len();
        self.promised.retain(|_, until| *until > now.monotonic_ms);
        if self.promised.len() < broken {
            probe::hit(Probe::PromiseBroken);
            self.complete_join_if_all_have(round);
        }
        loop {
            let silent = |member: &Member| !member.is_waiting() && member.is_silent(now);
            let found = self.members.iter().find(|(_, member)| silent(member));
            let Some(id) = found.map(|(id, _)| id.clone()) else { break };
            probe::hit(Probe::MemberSilent);
            tracing::info!(group = round.id, member = id, "a member was silent for too long");
            self.remove(&id, round.out);
            self.go_on_without(round);
        }
        if let State::Preparing { until, opening } = self.state
            && until <= now.monotonic_ms
        {
            match opening {
                Some(Opening { delay_ms, remaining_ms, someone_came: true })
                    if remaining_ms > 0 =>
                {
                    // Somebody has come: more may follow.
                    probe::hit(Probe::GroupPutOff);
                    let next_ms = round.settings.initial_delay_ms.min(remaining_ms);
                    let opening = Opening {
                        delay_ms: next_ms,
                        remaining_ms: remaining_ms.saturating_sub(delay_ms),
                        someone_came: false,
                    };
                    let until = now.monotonic_ms + next_ms;
                    self.state = State::Preparing { until, opening: Some(opening) };
                }
                _ => self.complete_join(round),
            }
        }
        if self.sync_until.is_some_and(|until| until <= now.monotonic_ms) {
            self.sync_until = None;
            let owing = self.members.iter().filter(|(_, member)| member.sync_owed);
            let owing: Vec<String> = owing.map(|(id, _)| id.clone()).collect();
            for id in &owing {
                probe::hit(Probe::MemberOwedSync);
                tracing::info!(group = round.id, member = id, "a member never asked for its share");
                self.remove(id, round.out);
            }
            if !owing.is_empty() {
                self.rebalance(round);
            }
        }
    }

    /// Begins to gather joins, unless that goes on already; ends it if all have joined.
    pub fn rebalance(&mut self, round: &mut Round<'_>) {
        let was = self.state;
        match was {
            State::Preparing { .. } => return self.complete_join_if_all_have(round),
            State::Completing => {
                // Their assignment will never come: they have to join again.
                for member in self.members.values_mut() {
                    member.assignment.clear();
                    if let Some(ticket) = member.syncing.take() {
                        probe::hit(Probe::SyncOvertaken);
                        let refused = refused_sync(ErrorCode::RebalanceInProgress);
                        round.out.reply(ticket, Reply::Synced(refused));
                        member.heard(round.now);
                    }
                }
            }
            State::Empty | State::Stable => {}
        }
        self.sync_until = None;
        self.members.values_mut().for_each(|member| member.sync_owed = false);
        let patience = self.rebalance_ms();
        let now_ms = round.now.monotonic_ms;
        if was == State::Empty {
            let delay_ms = round.settings.initial_delay_ms;
            let remaining_ms = patience.saturating_sub(delay_ms);
            let opening = Opening { delay_ms, remaining_ms, someone_came: false };
            self.enter(
                State::Preparing { until: now_ms + delay_ms, opening: Some(opening) },
                round,
            );
        } else {
            self.enter(State::Preparing { until: now_ms + patience, opening: None }, round);
            self.complete_join_if_all_have(round);
        }
    }

    /// Somebody came while the group is beginning: it may be put off once more.
    pub fn someone_came(&mut self) {
        if let State::Preparing { opening: Some(opening), .. } = &mut self.state {
            opening.someone_came = true;
        }
    }

    /// A member has left or was sent away.
    pub fn go_on_without(&mut self, round: &mut Round<'_>) {
        match self.state {
            State::Stable | State::Completing => self.rebalance(round),
            State::Preparing { .. } => self.complete_join_if_all_have(round),
            State::Empty => {}
        }
    }

    pub fn complete_join_if_all_have(&mut self, round: &mut Round<'_>) {
        let all = self.promised.is_empty()
            && self.members.values().all(|member| member.joining.is_some());
        // A beginning group waits for its delay in any case.
        if all && matches!(self.state, State::Preparing { opening: None, .. }) {
            self.complete_join(round);
        }
    }

    /// Begins the next generation with those who have joined.
    fn complete_join(&mut self, round: &mut Round<'_>) {
        assert!(matches!(self.state, State::Preparing { .. }), "GROUP: joins were gathered");
        let missing =
            self.members.iter().filter(|(_, member)| member.joining.is_none()).collect::<Vec<_>>();
        // Static members may come back under their old name until their session ends.
        let gone: Vec<String> = missing
            .iter()
            .filter(|(_, member)| member.instance.is_none())
            .map(|(id, _)| (*id).clone())
            .collect();
        for id in gone {
            probe::hit(Probe::MemberMissing);
            tracing::info!(group = round.id, member = id, "a member did not join again in time");
            self.remove(&id, round.out);
        }
        if !self.elect() && !self.members.is_empty() {
            // Only silent static members: somebody has to make the assignment.
            probe::hit(Probe::GroupLeaderless);
            let until = round.now.monotonic_ms + self.rebalance_ms().max(1);
            self.state = State::Preparing { until, opening: None };
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.protocol = None;
            self.leader = None;
            self.enter(State::Empty, round);
            self.topics = self.subscribed();
            tracing::info!(group = round.id, generation = self.generation, "the group is empty");
            self.record(round);
            return;
        }
        self.protocol = self.choose_protocol();
        self.enter(State::Completing, round);
        self.topics = self.subscribed();
        self.sync_until = Some(round.now.monotonic_ms + self.rebalance_ms());
        tracing::info!(
            group = round.id,
            generation = self.generation,
            members = self.members.len(),
            protocol = self.protocol,
            "a new generation"
        );
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let response = self.joined(&id);
            let member = self.members.get_mut(&id).expect("just listed");
            member.assignment.clear();
            member.is_new = false;
            member.sync_owed = true;
            member.heard(round.now);
            if let Some(ticket) = member.joining.take() {
                round.out.reply(ticket, Reply::Joined(Box::new(response)));
            }
        }
    }

    /// The answer to a member's join, as the present generation has it.
    pub fn joined(&self, id: &str) -> JoinGroupResponse {
        let leads = self.leader.as_deref() == Some(id);
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: id.to_owned(),
            members: if leads { self.described_members() } else { Vec::new() },
            ..JoinGroupResponse::default()
        }
    }

    /// All members, for the leader.
    pub fn described_members(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let describe = |(id, member): (&String, &Member)| JoinGroupResponseMember {
            member_id: id.clone(),
            group_instance_id: member.instance.clone(),
            metadata: member.metadata(protocol).to_vec(),
        };
        self.members.iter().map(describe).collect()
    }

    /// The record of the present generation with its assignment.
    pub fn record(&self, round: &mut Round<'_>) {
        let before = round.recorded.map_or(0, |generation| generation.number);
        assert!(before <= self.generation, "GROUP-6: generations never go back");
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let member = |(id, member): (&String, &Member)| RecordedMember {
            id: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_ms: member.rebalance_ms,
            session_ms: member.session_ms,
            subscription: member.metadata(protocol).to_vec(),
            assignment: member.assignment.clone(),
        };
        let generation = Generation {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            number: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            since_ms: self.since_ms,
            members: self.members.iter().map(member).collect(),
        };
        let group = round.id.to_owned();
        round.out.records.push(Record::Generation { group, generation: Some(generation) });
    }

    pub fn enter(&mut self, state: State, round: &Round<'_>) {
        self.state = state;
        self.since_ms = round.now.wall_ms;
    }

    /// Takes a member out; whatever it waits for is refused.
    pub fn remove(&mut self, id: &str, out: &mut Decision) -> Option<Member> {
        let mut member = self.members.remove(id)?;
        refuse(&mut member, id, ErrorCode::UnknownMemberId, out);
        if let Some(instance) = &member.instance {
            self.statics.remove(instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        assert!(self.statics.len() <= self.members.len(), "GROUP: static members are members");
        Some(member)
    }

    /// Makes sure that the leader is one of those who have joined; false if nobody has.
    fn elect(&mut self) -> bool {
        let joined = |id: &String| self.members.get(id).is_some_and(|one| one.joining.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let mut members = self.members.iter();
        let first = members.find(|(_, member)| member.joining.is_some());
        match first.map(|(id, _)| id.clone()) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// The strategy that all members can do and most prefer; the first by name of several.
    pub fn choose_protocol(&self) -> Option<String> {
        let first = self.members.values().next()?;
        let shared = |name: &str| self.members.values().all(|member| member.can(name));
        let candidates: BTreeSet<&str> = first
            .protocols
            .iter()
            .map(|one| one.name.as_str())
            .filter(|name| shared(name))
            .collect();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let mut names = member.protocols.iter().map(|one| one.name.as_str());
            if let Some(vote) = names.find(|name| candidates.contains(name)) {
                *votes.entry(vote).or_default() += 1;
            }
        }
        let most = votes.values().max()?;
        votes.iter().find(|(_, count)| *count == most).map(|(name, _)| (*name).to_owned())
    }

    /// Whether somebody who can do `protocols` of `protocol_type` may be a member.
    pub fn suits<'a>(
        &self,
        protocol_type: &str,
        mut protocols: impl Iterator<Item = &'a str>,
    ) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && protocols.next().is_some();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.any(|name| self.members.values().all(|member| member.can(name)))
    }

    /// The topics of all members, as far as they speak the consumer's protocol.
    fn subscribed(&self) -> Option<Topics> {
        if self.protocol_type.as_deref() != Some(subscription::PROTOCOL_TYPE) {
            return None;
        }
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let mut topics = Vec::new();
        for member in self.members.values() {
            topics.extend(subscription::topics(member.metadata(protocol))?);
            // Members mostly name the same ones.
            topics.sort_unstable();
            topics.dedup();
        }
        Some(Topics::of(topics))
    }

    /// The longest that any member wants a rebalance to wait for it, in ms.
    pub fn rebalance_ms(&self) -> u64 {
        self.members.values().map(|member| millis(member.rebalance_ms)).max().unwrap_or(0)
    }

    /// Checks that a request comes from a member: by its id, and by a static member's own name.
    pub fn check_member(&self, id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(known) if known != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }
}

/// Refuses whatever a member waits for.
pub(super) fn refuse(member: &mut Member, id: &str, code: ErrorCode, out: &mut Decision) {
    if let Some(ticket) = member.joining.take() {
        out.reply(ticket, refused_join(id, code));
    }
    if let Some(ticket) = member.syncing.take() {
        out.reply(ticket, Reply::Synced(refused_sync(code)));
    }
}

pub(super) fn refused_join(member_id: &str, code: ErrorCode) -> Reply {
    Reply::Joined(Box::new(JoinGroupResponse {
        error_code: code.code(),
        member_id: member_id.to_owned(),
        ..JoinGroupResponse::default()
    }))
}

pub(super) fn refused_sync(code: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse { error_code: code.code(), ..SyncGroupResponse::default() }
}

/// A request that a newer one of the same member has overtaken: its client waits no more.
pub(super) fn superseded(ticket: Option<Ticket>, member_id: &str, out: &mut Decision) {
    if let Some(ticket) = ticket {
        probe::hit(Probe::JoinSuperseded);
        out.reply(ticket, refused_join(member_id, ErrorCode::RebalanceInProgress));
    }
}
