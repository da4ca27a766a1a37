//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup: each is one command to the group's machine.

use std::rc::Rc;

use super::{group_said, may_in_group};
use crate::broker::Core;
use crate::broker::auth::Operation;
use crate::broker::dispatch::Incoming;
use crate::broker::host::group;
use crate::io::Io;
use crate::machine::group::{Command, Join, Reply};
use crate::wire::api::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, MemberIdentity, SyncGroupRequest, SyncGroupResponse,
};
use crate::wire::code::ErrorCode;

/// The first version of LeaveGroup that names several members.
const LEAVE_BATCHED: i16 = 3;

/// The first version of SyncGroup that has to say what the group is for, and how it shares (KIP-559).
const SYNC_SAYS_PROTOCOL: i16 = 5;

/// Takes a member into the group's next generation.
pub async fn join<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let group = request.group_id.clone();
    let member_id = request.member_id.clone();
    let command = Command::Join(Box::new(Join {
        ticket: core.ticket(),
        version: incoming.version,
        client_id: incoming.client.name(),
        client_host: format!("/{}", incoming.client.address.ip().to_canonical()),
        fresh: fresh(core.io.random(), core.io.random()),
        request,
    }));
    let response = match asked(&core, &incoming, &group, command).await {
        Ok(Reply::Joined(response)) => *response,
        Ok(other) => unreachable!("a join is answered with a join, not {other:?}"),
        Err(code) => {
            JoinGroupResponse { error_code: code.code(), member_id, ..JoinGroupResponse::default() }
        }
    };
    group_said(&incoming, &group, response.error_code);
    response
}

/// Gives a member its share.
pub async fn sync<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let group = request.group_id.clone();
    let says_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if incoming.version >= SYNC_SAYS_PROTOCOL && !says_protocol {
        let code = ErrorCode::InconsistentGroupProtocol;
        group_said(&incoming, &group, code.code());
        return SyncGroupResponse { error_code: code.code(), ..SyncGroupResponse::default() };
    }
    let command = Command::Sync { ticket: core.ticket(), request };
    let response = match asked(&core, &incoming, &group, command).await {
        Ok(Reply::Synced(response)) => response,
        Ok(other) => unreachable!("a sync is answered with a sync, not {other:?}"),
        Err(code) => SyncGroupResponse { error_code: code.code(), ..SyncGroupResponse::default() },
    };
    group_said(&incoming, &group, response.error_code);
    response
}

/// Hears that a member is alive, and tells it what its group is up to.
pub async fn heartbeat<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let group = request.group_id.clone();
    let command = Command::Heartbeat { ticket: core.ticket(), request };
    let code = match asked(&core, &incoming, &group, command).await {
        // As Kafka answers: the member is to go on, and will be heard of once the group is known.
        Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
        Ok(Reply::Code(code)) | Err(code) => code,
        Ok(other) => unreachable!("a heartbeat is answered with a code, not {other:?}"),
    };
    group_said(&incoming, &group, code.code());
    HeartbeatResponse { error_code: code.code(), ..HeartbeatResponse::default() }
}

/// Lets members go.
pub async fn leave<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    mut request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let group = request.group_id.clone();
    if incoming.version < LEAVE_BATCHED {
        let member_id = std::mem::take(&mut request.member_id);
        request.members = vec![MemberIdentity { member_id, ..MemberIdentity::default() }];
    }
    let command = Command::Leave { ticket: core.ticket(), request };
    let mut response = match asked(&core, &incoming, &group, command).await {
        Ok(Reply::Left(response)) => response,
        Ok(other) => unreachable!("a leave is answered with a leave, not {other:?}"),
        Err(code) => {
            LeaveGroupResponse { error_code: code.code(), ..LeaveGroupResponse::default() }
        }
    };
    if incoming.version < LEAVE_BATCHED
        && let Some(member) = response.members.first()
        && response.error_code == ErrorCode::None.code()
    {
        response.error_code = member.error_code;
    }
    group_said(&incoming, &group, response.error_code);
    response
}

async fn asked<I: Io>(
    core: &Rc<Core<I>>,
    incoming: &Incoming,
    group: &str,
    command: Command,
) -> Result<Reply, ErrorCode> {
    may_in_group(incoming, Operation::Read, group)?;
    group::ask(core, group, command).await
}

/// A random text in the form of a UUID, as Kafka puts it into members' ids.
fn fresh(high: u64, low: u64) -> String {
    crate::id::TopicId::from_random(high, low).to_string()
}
