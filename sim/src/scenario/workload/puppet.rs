//! A member made of nothing but requests: it does what no client does on purpose, in a group of its
//! own, so that the coordinator meets members that never ask for their share, ask twice, commit too
//! early, or lead and share nothing out.

use std::time::Duration;

use trialog_engine::client::Client;
use trialog_engine::id::PartitionIndex;
use trialog_engine::io::Io;
use trialog_engine::wire::api::{
    ApiKey, JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse, LeaveGroupRequest,
    MemberIdentity, MetadataRequest, MetadataRequestTopic, OffsetFetchRequest,
    OffsetFetchRequestGroup, OffsetFetchRequestTopics, SyncGroupRequest,
    SyncGroupRequestAssignment,
};
use trialog_engine::wire::code::ErrorCode;

use super::caretaker::commit_request;
use crate::io::SimIo;
use crate::scenario::stage::Actor;
use crate::seed::Stream;

/// How long it may be silent, and how long its group waits for it.
const SESSION_MS: i32 = 700;
/// For a join, which is answered when the group has gathered.
const PATIENCE: Duration = Duration::from_secs(5);
/// What it calls the strategy.
const STRATEGY: &str = "by-hand";

/// One life of a puppet in `group`.
pub(super) async fn play(actor: &Actor, group: &str, random: &mut Stream) {
    let client = client(actor);
    let Some(id) = promised(&client, group).await else { return };
    let join = join_request(group, &id);
    if random.chance(1, 4) {
        // A second one, on a connection of its own, while the first one waits.
        let (other, again) = (self::client(actor), join.clone());
        actor.io.spawn(async move {
            let _ = other.call(&again).await;
        });
    }
    let Ok(joined) = client.call(&join).await else { return };
    if joined.error_code != ErrorCode::None.code() {
        return;
    }
    match random.below(6) {
        // It never asks for its share.
        0 => return,
        // It leads, and leaves everybody out.
        1 => drop(client.call(&sync_request(group, &joined, &[])).await),
        // It commits what it has no share of yet.
        2 => {
            let place = (actor.topic(actor.shape().topics[0]).name.clone(), PartitionIndex(0));
            let mut commit = commit_request(group, &place, 0);
            commit.generation_id_or_member_epoch = joined.generation_id;
            commit.member_id.clone_from(&joined.member_id);
            let _ = client_below(actor, ApiKey::OffsetCommit, 9).call(&commit).await;
        }
        // It joins again although nothing has changed.
        3 => drop(client.call(&join).await),
        4 => by_id(actor, &client, group, &joined).await,
        _ => {}
    }
    let shares: Vec<&str> = joined.members.iter().map(|one| one.member_id.as_str()).collect();
    let _ = client.call(&sync_request(group, &joined, &shares)).await;
    if random.chance(1, 2) {
        let identity = MemberIdentity { member_id: id.clone(), ..MemberIdentity::default() };
        let request = LeaveGroupRequest {
            group_id: group.to_owned(),
            member_id: id,
            members: vec![identity],
        };
        let _ = client.call(&request).await;
    }
}

/// It commits, and asks what it has committed, with a topic's id instead of its name (KIP-848), which
/// our own client does not.
async fn by_id(actor: &Actor, client: &Client<SimIo>, group: &str, joined: &JoinGroupResponse) {
    let name = actor.topic(actor.shape().topics[0]).name.clone();
    let topic = MetadataRequestTopic { name: Some(name.clone()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    let Ok(found) = client.call(&request).await else { return };
    let Some(topic_id) = found.topics.first().map(|topic| topic.topic_id) else { return };
    let mut commit = commit_request(group, &(name, PartitionIndex(0)), 0);
    commit.generation_id_or_member_epoch = joined.generation_id;
    commit.member_id.clone_from(&joined.member_id);
    commit.topics[0].topic_id = topic_id;
    let _ = client.call(&commit).await;
    let topic = OffsetFetchRequestTopics {
        topic_id,
        partition_indexes: vec![0],
        ..OffsetFetchRequestTopics::default()
    };
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.to_owned(),
            topics: Some(vec![topic]),
            ..OffsetFetchRequestGroup::default()
        }],
        ..OffsetFetchRequest::default()
    };
    let _ = client.call(&request).await;
}

/// A client of today.
fn client(actor: &Actor) -> Client<SimIo> {
    actor.client_of(actor.shape().home, PATIENCE, [].into())
}

fn client_below(actor: &Actor, api: ApiKey, version: i16) -> Client<SimIo> {
    actor.client_of(actor.shape().home, PATIENCE, [(api, version)].into())
}

/// An id that the group waits for.
async fn promised(client: &Client<SimIo>, group: &str) -> Option<String> {
    let answer = client.call(&join_request(group, "")).await.ok()?;
    let required = answer.error_code == ErrorCode::MemberIdRequired.code();
    required.then_some(answer.member_id)
}

fn join_request(group: &str, member_id: &str) -> JoinGroupRequest {
    let protocol =
        JoinGroupRequestProtocol { name: STRATEGY.to_owned(), metadata: b"nothing".to_vec() };
    JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: SESSION_MS,
        member_id: member_id.to_owned(),
        protocol_type: "puppets".to_owned(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    }
}

fn sync_request(group: &str, joined: &JoinGroupResponse, shares: &[&str]) -> SyncGroupRequest {
    let share = |id: &&str| SyncGroupRequestAssignment {
        member_id: (*id).to_owned(),
        assignment: b"a share".to_vec(),
    };
    SyncGroupRequest {
        group_id: group.to_owned(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some("puppets".to_owned()),
        protocol_name: Some(STRATEGY.to_owned()),
        assignments: shares.iter().map(share).collect(),
        ..SyncGroupRequest::default()
    }
}
