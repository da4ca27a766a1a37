//! ListGroups, DescribeGroups and DeleteGroups: groups for those who look after them.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::{group_said, may_in_group};
use crate::broker::Core;
use crate::broker::auth::Operation;
use crate::broker::dispatch::Incoming;
use crate::broker::host::group;
use crate::io::Io;
use crate::machine::group::{Command, Listed, Reply};
use crate::machine::name::OFFSETS_TOPIC;
use crate::wire::api::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, DescribedGroup, ListGroupsRequest, ListGroupsResponse, ListedGroup,
};
use crate::wire::code::ErrorCode;

/// The kind of all groups here, in ListGroups (KIP-848).
const CLASSIC: &str = "classic";
/// Kafka's bits of all operations that exist on a group: read, delete, describe, describe configs,
/// alter configs.
const GROUP_OPERATIONS: i32 = 0b1101_0100_1000;
/// The first version of DescribeGroups in which a group that does not exist is an error; before, it
/// is a group in the state `Dead`.
const DEAD_IS_AN_ERROR: i16 = 6;

/// Lists all groups of the states and types that are asked for.
pub async fn list<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let image = core.shared.image();
    // Each filter once, however often it is named: every group is held against it.
    let filter = |wanted: Vec<String>| -> BTreeSet<String> {
        wanted.into_iter().map(|one| one.to_ascii_lowercase()).collect()
    };
    let (states, types) = (filter(request.states_filter), filter(request.types_filter));
    let among = |wanted: &BTreeSet<String>, value: &str| {
        wanted.is_empty() || wanted.contains(&value.to_ascii_lowercase())
    };
    let mut groups = Vec::new();
    let Some(topic) = image.topic(OFFSETS_TOPIC) else { return ListGroupsResponse::default() };
    for (index, _) in topic.indexed() {
        let command = Command::List { ticket: core.ticket() };
        let listed = match group::ask_partition(&core, (topic.id, index), command).await {
            Ok(Reply::Listed(listed)) => listed,
            Ok(other) => unreachable!("a question for groups is answered with some, not {other:?}"),
            Err(code) => {
                let (error_code, why) = (code.code(), code.message());
                incoming.refused(code, format_args!("groups of {OFFSETS_TOPIC} {index}: {why}"));
                return ListGroupsResponse { error_code, ..ListGroupsResponse::default() };
            }
        };
        let wanted = |one: &Listed| {
            among(&states, one.state)
                && among(&types, CLASSIC)
                && may_in_group(&incoming, Operation::Describe, &one.group).is_ok()
        };
        groups.extend(listed.into_iter().filter(wanted).map(|one| ListedGroup {
            group_id: one.group,
            protocol_type: one.protocol_type,
            group_state: one.state.to_owned(),
            group_type: CLASSIC.to_owned(),
        }));
    }
    ListGroupsResponse { groups, ..ListGroupsResponse::default() }
}

/// Describes groups with their members.
pub async fn describe<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    // What is named again is not answered again: a small request has no huge answer.
    let mut named = BTreeSet::new();
    for id in request.groups {
        if !named.insert(id.clone()) {
            continue;
        }
        let command = Command::Describe { ticket: core.ticket(), group: id.clone() };
        let reply = match may_in_group(&incoming, Operation::Describe, &id) {
            Ok(()) => group::ask(&core, &id, command).await,
            Err(code) => Err(code),
        };
        let mut described = match reply {
            Ok(Reply::Described(described)) => *described,
            Ok(other) => unreachable!("a description is answered with one, not {other:?}"),
            Err(code) => DescribedGroup {
                error_code: code.code(),
                group_id: id,
                ..DescribedGroup::default()
            },
        };
        group_said(&incoming, &described.group_id, described.error_code);
        let missing = described.error_code == ErrorCode::GroupIdNotFound.code();
        if missing && incoming.version < DEAD_IS_AN_ERROR {
            described.error_code = ErrorCode::None.code();
        }
        if request.include_authorized_operations && described.error_code == 0 && !missing {
            described.authorized_operations = GROUP_OPERATIONS;
        }
        groups.push(described);
    }
    DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() }
}

/// Deletes groups without members, and their offsets.
pub async fn delete<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut results = Vec::new();
    let mut named = BTreeSet::new();
    for group_id in request.groups_names {
        if !named.insert(group_id.clone()) {
            continue;
        }
        let command = Command::Delete { ticket: core.ticket(), group: group_id.clone() };
        let reply = match may_in_group(&incoming, Operation::Delete, &group_id) {
            Ok(()) => group::ask(&core, &group_id, command).await,
            Err(code) => Err(code),
        };
        let code = match reply {
            Ok(Reply::Code(code)) | Err(code) => code,
            Ok(other) => unreachable!("a deletion is answered with a code, not {other:?}"),
        };
        group_said(&incoming, &group_id, code.code());
        results.push(DeletableGroupResult { group_id, error_code: code.code() });
    }
    DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() }
}
