//! SyncGroup, Heartbeat and LeaveGroup: what members of a generation do.

use super::classic::{Classic, Round, State, refused_sync};
use super::command::{Decision, Now, Reply, Ticket};
use super::{Group, Groups};
use crate::probe::{self, Probe};
use crate::wire::api::{
    HeartbeatRequest, LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use crate::wire::code::ErrorCode;

/// What a SyncGroup brings: how many bytes of shares, and whether the group may take as much.
struct Shares {
    bytes: usize,
    has_room: bool,
}

impl Groups {
    pub(super) fn sync(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: SyncGroupRequest,
        out: &mut Decision,
    ) {
        let id = request.group_id.clone();
        let room = self.allowance.members.saturating_sub(self.weight.members);
        let outcome = match self.groups.get_mut(&id) {
            _ if id.is_empty() => Err(ErrorCode::InvalidGroupId),
            None => Err(ErrorCode::UnknownMemberId),
            Some(group) => {
                // The leader brings all shares, the others none.
                let bytes = request.assignments.iter().map(|share| share.assignment.len()).sum();
                let more = if bytes > 0 { group.more_with_shares(bytes) } else { 0 };
                let shares = Shares { bytes, has_room: more <= room };
                let (settings, recorded) = (&self.settings, group.recorded.as_ref());
                let mut round = Round { settings, id: &id, recorded, now, out };
                group.classic.sync(ticket, request, shares, &mut round)
            }
        };
        if let Err(code) = outcome {
            out.reply(ticket, Reply::Synced(refused_sync(code)));
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: &HeartbeatRequest,
        out: &mut Decision,
    ) {
        let code = match self.groups.get_mut(&request.group_id) {
            _ if request.group_id.is_empty() => ErrorCode::InvalidGroupId,
            None => ErrorCode::UnknownMemberId,
            Some(group) => match group.classic.heartbeat(now, request) {
                Ok(()) => ErrorCode::None,
                Err(code) => code,
            },
        };
        out.reply(ticket, Reply::Code(code));
    }

    pub(super) fn leave(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: LeaveGroupRequest,
        out: &mut Decision,
    ) {
        let id = request.group_id;
        let refused = |code: ErrorCode| LeaveGroupResponse {
            error_code: code.code(),
            ..LeaveGroupResponse::default()
        };
        if id.is_empty() {
            return out.reply(ticket, Reply::Left(refused(ErrorCode::InvalidGroupId)));
        }
        let mut members = Vec::with_capacity(request.members.len());
        let mut left = false;
        for identity in request.members {
            let group = self.groups.get_mut(&id);
            let outcome = group.map_or(Err(ErrorCode::UnknownMemberId), |group| {
                group.classic.leave(&identity, out)
            });
            left |= outcome.is_ok();
            let MemberIdentity { member_id, group_instance_id, reason } = identity;
            if outcome.is_ok() {
                tracing::info!(group = id, member = member_id, reason, "a member left");
            }
            let error_code = outcome.err().unwrap_or(ErrorCode::None).code();
            members.push(MemberResponse { member_id, group_instance_id, error_code });
        }
        if left && let Some(Group { classic, recorded, .. }) = self.groups.get_mut(&id) {
            let (settings, recorded) = (&self.settings, recorded.as_ref());
            classic.go_on_without(&mut Round { settings, id: &id, recorded, now, out });
        }
        let response = LeaveGroupResponse { members, ..LeaveGroupResponse::default() };
        out.reply(ticket, Reply::Left(response));
    }
}

impl Classic {
    fn sync(
        &mut self,
        ticket: Ticket,
        request: SyncGroupRequest,
        shares: Shares,
        round: &mut Round<'_>,
    ) -> Result<(), ErrorCode> {
        let id = &request.member_id;
        self.check_member(id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs =
            |given: &Option<String>, ours: &Option<String>| given.is_some() && given != ours;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => return Err(ErrorCode::UnknownMemberId),
            State::Preparing { .. } => return Err(ErrorCode::RebalanceInProgress),
            State::Completing => {
                let Shares { bytes, has_room } = shares;
                if bytes > round.settings.group_bytes_max || !has_room {
                    probe::hit(Probe::GroupSharesTooLarge);
                    tracing::warn!(
                        group = round.id,
                        bytes,
                        has_room,
                        "an assignment is refused: it is too large for a record, or the members of this \
                         partition's groups take all the memory that they may; assign fewer partitions \
                         to a group, or spread groups over more partitions (offsets.topic.num.partitions)"
                    );
                    // As Kafka answers a generation that is too large for a record.
                    return Err(ErrorCode::UnknownServerError);
                }
                let member = self.members.get_mut(id).expect("checked");
                member.sync_owed = false;
                if let Some(before) = member.syncing.replace(ticket) {
                    let refused = refused_sync(ErrorCode::RebalanceInProgress);
                    round.out.reply(before, Reply::Synced(refused));
                }
                if self.leader.as_deref() == Some(id) {
                    self.assign(request, round);
                }
            }
            State::Stable => {
                let member = self.members.get_mut(id).expect("checked");
                member.sync_owed = false;
                member.heard(round.now);
                let share = self.share(id);
                round.out.reply(ticket, Reply::Synced(share));
            }
        }
        if self.members.values().all(|member| !member.sync_owed) {
            self.sync_until = None;
        }
        Ok(())
    }

    /// The leader's assignment is there: it is recorded, and everybody who waits gets a share.
    fn assign(&mut self, request: SyncGroupRequest, round: &mut Round<'_>) {
        for member in self.members.values_mut() {
            member.assignment.clear();
        }
        for share in request.assignments {
            if let Some(member) = self.members.get_mut(&share.member_id) {
                member.assignment = share.assignment;
            }
        }
        self.enter(State::Stable, round);
        // GROUP-1: the shares leave behind this record.
        self.record(round);
        let waiting: Vec<String> = self.members.keys().cloned().collect();
        for id in waiting {
            let share = self.share(&id);
            let member = self.members.get_mut(&id).expect("just listed");
            if let Some(ticket) = member.syncing.take() {
                if share.assignment.is_empty() {
                    probe::hit(Probe::MemberLeftOut);
                    tracing::warn!(group = round.id, member = id, "the leader left a member out");
                }
                member.heard(round.now);
                round.out.reply(ticket, Reply::Synced(share));
            }
        }
    }

    fn share(&self, id: &str) -> SyncGroupResponse {
        SyncGroupResponse {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment: self.members[id].assignment.clone(),
            ..SyncGroupResponse::default()
        }
    }

    fn heartbeat(&mut self, now: Now, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let member = self.members.get_mut(&request.member_id).expect("checked");
        member.heard(now);
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::Preparing { .. } => Err(ErrorCode::RebalanceInProgress),
            // Members may begin with heartbeats before their share is there.
            State::Completing | State::Stable => Ok(()),
        }
    }

    /// Takes out one member; the group goes on without it afterwards.
    fn leave(&mut self, identity: &MemberIdentity, out: &mut Decision) -> Result<(), ErrorCode> {
        let id = &identity.member_id;
        let instance = identity.group_instance_id.as_deref();
        if let Some(instance) = instance.filter(|_| id.is_empty()) {
            // An operator sends a static member away by its name alone.
            let id = self.statics.get(instance).ok_or(ErrorCode::UnknownMemberId)?.clone();
            self.remove(&id, out);
            return Ok(());
        }
        if self.promised.remove(id).is_some() {
            return Ok(());
        }
        self.check_member(id, instance)?;
        self.remove(id, out);
        Ok(())
    }
}
