//! JoinGroup: how members come in, come back, and take over from their former selves.

use super::classic::{
    Classic, NEW_MEMBER_JOIN_MS, Opening, Round, State, refuse, refused_join, superseded,
};
use super::command::{Decision, Join, Now, Reply};
use super::member::{Member, millis};
use super::record::Record;
use super::{Group, Groups, weight};
use crate::limit::{GROUP_MEMBER_BYTES_MAX, GROUP_STRATEGIES_MAX, GROUPS_PER_COORDINATOR_MAX};
use crate::probe::{self, Probe};
use crate::wire::api::JoinGroupResponse;
use crate::wire::code::ErrorCode;

/// The first version in which a new member first gets its id and then joins (KIP-394).
const ID_FIRST: i16 = 4;
/// The first version in which a leader can be told to keep its hands off (KIP-814).
const CAN_SKIP: i16 = 9;
/// The longest part of a member's id that comes from its client, in bytes.
const NAME_BYTES_MAX: usize = 255;

impl Groups {
    pub(super) fn join(&mut self, now: Now, join: Join, out: &mut Decision) {
        let (ticket, member_id) = (join.ticket, join.request.member_id.clone());
        if let Err(code) = self.admit(now, join, out) {
            out.reply(ticket, refused_join(&member_id, code));
        }
    }

    /// Takes the member in, or says why not.
    fn admit(&mut self, now: Now, join: Join, out: &mut Decision) -> Result<(), ErrorCode> {
        let request = &join.request;
        let settings = &self.settings;
        if request.group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        if !(settings.session_ms_min..=settings.session_ms_max)
            .contains(&request.session_timeout_ms)
        {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        let bytes = weight::strategies(&request.protocols);
        if bytes > GROUP_MEMBER_BYTES_MAX || request.protocols.len() > GROUP_STRATEGIES_MAX {
            let (group, strategies) = (&request.group_id, request.protocols.len());
            tracing::warn!(
                group,
                bytes,
                strategies,
                "a join is refused: it says too much of itself"
            );
            return Err(ErrorCode::InvalidRequest);
        }
        if !self.groups.contains_key(&request.group_id) {
            if !request.member_id.is_empty() {
                return Err(ErrorCode::UnknownMemberId);
            }
            if self.groups.len() >= GROUPS_PER_COORDINATOR_MAX {
                return Err(ErrorCode::GroupMaxSizeReached);
            }
        }
        let id = request.group_id.clone();
        let group = self.groups.entry(id.clone()).or_default();
        let more = group.more_with(&id, &join);
        let Group { classic, recorded, .. } = group;
        let recorded = recorded.as_ref();
        let mut round = Round { settings, id: &id, recorded, now, out };
        classic.check_room(&join, settings.members_max)?;
        if classic.bytes() > settings.group_bytes_max {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        let room = self.allowance.joins;
        if more > 0 && self.weight.members + more > room {
            probe::hit(Probe::GroupsFull);
            tracing::warn!(
                group = id,
                client_id = join.client_id,
                client_host = join.client_host,
                more,
                bytes = self.weight.members,
                room,
                "a join is refused: the members of this partition's groups take all the memory that they \
                 may; find the clients that join so many groups or say so much of themselves, or spread \
                 groups over more partitions (offsets.topic.num.partitions)"
            );
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        let names = join.request.protocols.iter().map(|one| one.name.as_str());
        if !classic.suits(&join.request.protocol_type, names) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if join.request.member_id.is_empty() {
            classic.join_new(join, &mut round);
            return Ok(());
        }
        classic.join_known(join, &mut round)
    }
}

impl Classic {
    /// Whether the group may have one more member, if this is one.
    fn check_room(&self, join: &Join, most: usize) -> Result<(), ErrorCode> {
        let id = join.request.member_id.as_str();
        let known = self.members.get(id);
        let room = match self.state {
            State::Empty => true,
            State::Preparing { .. } => {
                let joined = self.members.values().filter(|one| one.joining.is_some()).count();
                known.is_some_and(|member| member.joining.is_some()) || joined < most
            }
            State::Completing | State::Stable => {
                known.is_some() || self.replaces(join) || self.members.len() < most
            }
        };
        // Promised ids cost memory too, and everybody can have some: when there are many, nobody gets
        // another one. Who needs none is not kept out by them.
        let asks_for_id =
            id.is_empty() && join.request.group_instance_id.is_none() && join.version >= ID_FIRST;
        if room && (!asks_for_id || self.promised.len() < most) {
            return Ok(());
        }
        probe::hit(Probe::GroupFull);
        Err(ErrorCode::GroupMaxSizeReached)
    }

    /// What all members have said about themselves, in bytes.
    fn bytes(&self) -> usize {
        let protocols = self.members.values().flat_map(|member| &member.protocols);
        protocols.map(|one| one.name.len() + one.metadata.len()).sum()
    }

    /// Whether the join is a static member's that comes back without its id.
    fn replaces(&self, join: &Join) -> bool {
        let instance = join.request.group_instance_id.as_deref();
        join.request.member_id.is_empty()
            && instance.is_some_and(|instance| self.statics.contains_key(instance))
    }

    /// A member that has no id yet.
    fn join_new(&mut self, join: Join, round: &mut Round<'_>) {
        let instance = join.request.group_instance_id.clone();
        let name = instance.as_deref().unwrap_or(&join.client_id);
        let id = format!("{}-{}", shortened(name), join.fresh);
        match instance.and_then(|instance| Some((self.statics.get(&instance)?.clone(), instance))) {
            Some((old, instance)) => self.replace(&old, id, instance, &join, round),
            None if join.request.group_instance_id.is_some() || join.version < ID_FIRST => {
                self.add(id, &join, round);
            }
            None => {
                let until = round.now.monotonic_ms + millis(join.request.session_timeout_ms);
                self.promised.insert(id.clone(), until);
                round.out.reply(join.ticket, refused_join(&id, ErrorCode::MemberIdRequired));
            }
        }
    }

    /// A member that says its id.
    fn join_known(&mut self, join: Join, round: &mut Round<'_>) -> Result<(), ErrorCode> {
        let id = join.request.member_id.clone();
        if self.promised.contains_key(&id) {
            if join.request.group_instance_id.is_some() {
                return Err(ErrorCode::UnknownMemberId);
            }
            self.promised.remove(&id);
            self.add(id, &join, round);
            return Ok(());
        }
        self.check_member(&id, join.request.group_instance_id.as_deref())?;
        let member = &self.members[&id];
        let same = member.protocols == join.request.protocols;
        let leads = self.leader.as_deref() == Some(&id);
        match self.state {
            State::Preparing { .. } => self.join_again(&id, &join, round),
            // It may have missed the answer to its first join.
            State::Completing if same => self.repeat(&id, &join, round),
            // A leader that joins again wants a new assignment; the others do if they say
            // something new.
            State::Stable if same && !leads => self.repeat(&id, &join, round),
            State::Completing | State::Stable => self.join_again(&id, &join, round),
            State::Empty => return Err(ErrorCode::UnknownMemberId),
        }
        Ok(())
    }

    /// Tells a member of the present generation what it should know already.
    fn repeat(&mut self, id: &str, join: &Join, round: &mut Round<'_>) {
        probe::hit(Probe::JoinRepeated);
        self.members.get_mut(id).expect("checked").heard(round.now);
        round.out.reply(join.ticket, Reply::Joined(Box::new(self.joined(id))));
    }

    fn join_again(&mut self, id: &str, join: &Join, round: &mut Round<'_>) {
        let member = self.members.get_mut(id).expect("checked");
        let before = member.join_again(join);
        if !member.is_new {
            member.heard(round.now);
        }
        superseded(before, id, round.out);
        self.rebalance(round);
    }

    fn add(&mut self, id: String, join: &Join, round: &mut Round<'_>) {
        let mut member = Member::new(join);
        member.silent_at = Some(round.now.monotonic_ms + NEW_MEMBER_JOIN_MS);
        if self.members.is_empty() {
            self.protocol_type = Some(join.request.protocol_type.clone());
        }
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        let before = self.members.insert(id, member);
        assert!(before.is_none(), "GROUP: a new member has an id of its own");
        if matches!(self.state, State::Preparing { opening: Some(Opening { .. }), .. }) {
            self.someone_came();
        }
        self.rebalance(round);
    }

    /// A static member has started again: it takes over its former self's place under a new id,
    /// and whoever uses the old id is fenced (KIP-345).
    fn replace(
        &mut self,
        old: &str,
        id: String,
        instance: String,
        join: &Join,
        round: &mut Round<'_>,
    ) {
        let mut member = self.members.remove(old).expect("GROUP: static members are members");
        refuse(&mut member, old, ErrorCode::FencedInstanceId, round.out);
        let before = member.join_again(join);
        assert!(before.is_none(), "GROUP-4: it was answered just now");
        member.heard(round.now);
        self.members.insert(id.clone(), member);
        self.statics.insert(instance, id.clone());
        if self.leader.as_deref() == Some(old) {
            self.leader = Some(id.clone());
        }
        tracing::info!(group = round.id, old, new = id, "a static member has started again");
        record_replaced(old, &id, round);
        let rejoins = self.state == State::Stable && self.choose_protocol() == self.protocol;
        if rejoins {
            probe::hit(Probe::StaticKept);
            // Nothing else changes: it goes on with the share that it had.
            let member = self.members.get_mut(&id).expect("just put there");
            let ticket = member.joining.take().expect("it has just joined");
            let response = self.kept(&id, old, join.version);
            round.out.reply(ticket, Reply::Joined(Box::new(response)));
        } else {
            probe::hit(Probe::StaticReplaced);
            self.rebalance(round);
        }
    }

    /// The answer to a static member that keeps its share.
    fn kept(&self, id: &str, old: &str, version: i16) -> JoinGroupResponse {
        let joined = self.joined(id);
        if joined.leader != id {
            return joined;
        }
        if version >= CAN_SKIP {
            return JoinGroupResponse { skip_assignment: true, ..joined };
        }
        // It must not make an assignment that nobody waits for: it is told that its former self
        // leads.
        JoinGroupResponse { leader: old.to_owned(), members: Vec::new(), ..joined }
    }
}

/// The recorded generation knows the member under its old id; after a crash it would be fenced
/// instead of its former self.
fn record_replaced(old: &str, id: &str, round: &mut Round<'_>) {
    let earlier = round.out.records.iter().rev().find_map(|record| match record {
        Record::Generation { group, generation } if group == round.id => generation.as_ref(),
        _ => None,
    });
    let Some(mut generation) = earlier.or(round.recorded).cloned() else { return };
    let Some(member) = generation.members.iter_mut().find(|member| member.id == old) else {
        return;
    };
    id.clone_into(&mut member.id);
    generation.members.sort_by(|a, b| a.id.cmp(&b.id));
    if generation.leader.as_deref() == Some(old) {
        generation.leader = Some(id.to_owned());
    }
    let group = round.id.to_owned();
    round.out.records.push(Record::Generation { group, generation: Some(generation) });
}

/// The beginning of a client's name.
fn shortened(name: &str) -> &str {
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}
