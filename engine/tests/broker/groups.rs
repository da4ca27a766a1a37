//! Consumer groups over real frames: every version of every message, power cuts, and the topic
//! that remembers it all.

use trialog_engine::io::ram::Loss;
use trialog_engine::wire::api::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, DeleteGroupsRequest,
    DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest,
    JoinGroupRequestProtocol, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest,
    MemberIdentity, OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    SyncGroupRequest, SyncGroupRequestAssignment,
};

use super::*;

const QUICK: &[(&str, &str)] =
    &[("group.initial.rebalance.delay.ms", "10"), ("offsets.topic.num.partitions", "7")];

pub async fn coordinator(peer: &mut Peer, version: i16, group: &str) {
    let request = FindCoordinatorRequest {
        key: group.to_owned(),
        coordinator_keys: vec![group.to_owned()],
        key_type: 0,
    };
    let found = peer.call(version, &request).await;
    if version >= 4 {
        let one = &found.coordinators[0];
        assert_eq!((one.error_code, one.node_id, one.port), (0, 1, 9092), "version {version}");
        assert_eq!(one.key, group);
    } else {
        assert_eq!((found.error_code, found.node_id, found.port), (0, 1, 9092));
        assert_eq!(found.host, "127.0.0.1");
    }
}

/// Commits for partition 1 of `to`.
pub async fn commit(
    peer: &mut Peer,
    version: i16,
    to: &To<'_>,
    by: (&str, &str, i32),
    offset: i64,
) -> i16 {
    let (group, member_id, generation) = by;
    let partition = OffsetCommitRequestPartition {
        partition_index: to.index.0,
        committed_offset: offset,
        committed_leader_epoch: 0,
        committed_metadata: Some(format!("by version {version}")),
    };
    let topic = OffsetCommitRequestTopic {
        name: to.name.to_owned(),
        topic_id: to.id,
        partitions: vec![partition],
    };
    let request = OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: generation,
        member_id: member_id.to_owned(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    let answer = peer.call(version, &request).await;
    assert_eq!(answer.topics.len(), 1);
    answer.topics[0].partitions[0].error_code
}

/// The committed offset of partition 1 of `to`, and the text with it.
async fn committed(peer: &mut Peer, version: i16, to: &To<'_>, group: &str) -> (i64, String) {
    let mut request = OffsetFetchRequest { require_stable: version >= 7, ..Default::default() };
    if version >= 8 {
        let topic = OffsetFetchRequestTopics {
            name: to.name.to_owned(),
            topic_id: to.id,
            partition_indexes: vec![to.index.0],
        };
        request.groups = vec![OffsetFetchRequestGroup {
            group_id: group.to_owned(),
            topics: Some(vec![topic]),
            ..OffsetFetchRequestGroup::default()
        }];
    } else {
        request.group_id = group.to_owned();
        let topic = OffsetFetchRequestTopic {
            name: to.name.to_owned(),
            partition_indexes: vec![to.index.0],
        };
        request.topics = Some(vec![topic]);
    }
    let mut answer = peer.call(version, &request).await;
    if version >= 8 {
        let mut group = answer.groups.remove(0);
        assert_eq!(group.error_code, 0);
        let partition = group.topics[0].partitions.remove(0);
        assert_eq!(partition.error_code, 0);
        (partition.committed_offset, partition.metadata.unwrap_or_default())
    } else {
        assert_eq!(answer.error_code, 0);
        let partition = answer.topics[0].partitions.remove(0);
        assert_eq!(partition.error_code, 0);
        (partition.committed_offset, partition.metadata.unwrap_or_default())
    }
}

async fn join(peer: &mut Peer, version: i16, group: &str, member_id: &str) -> JoinGroupResponse {
    let protocol =
        JoinGroupRequestProtocol { name: "range".to_owned(), metadata: b"what I want".to_vec() };
    let request = JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member_id.to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    };
    peer.call(version, &request).await
}

async fn sync(
    peer: &mut Peer,
    version: i16,
    group: &str,
    member: (&str, i32),
    share: Option<&[u8]>,
) -> (i16, Vec<u8>) {
    let share = share.map(|share| SyncGroupRequestAssignment {
        member_id: member.0.to_owned(),
        assignment: share.to_vec(),
    });
    let request = SyncGroupRequest {
        group_id: group.to_owned(),
        generation_id: member.1,
        member_id: member.0.to_owned(),
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        assignments: share.into_iter().collect(),
        ..SyncGroupRequest::default()
    };
    let answer = peer.call(version, &request).await;
    (answer.error_code, answer.assignment)
}

/// KIP-559: from version 5 on a member says what its group is for, and how it shares.
#[test]
fn a_sync_of_version_5_says_its_protocol() {
    with_broker(1, QUICK, async |_, _, mut peer| {
        coordinator(&mut peer, 4, "nobody").await;
        for (kind, name) in [(None, None), (Some("consumer"), None), (None, Some("range"))] {
            for version in [4, 5] {
                let request = SyncGroupRequest {
                    group_id: "nobody".to_owned(),
                    member_id: "me".to_owned(),
                    protocol_type: kind.map(str::to_owned),
                    protocol_name: name.map(str::to_owned),
                    ..SyncGroupRequest::default()
                };
                let expected = match version {
                    5 => ErrorCode::InconsistentGroupProtocol,
                    _ => ErrorCode::UnknownMemberId,
                };
                let answer = peer.call(version, &request).await.error_code;
                assert_eq!(answer, expected.code(), "{kind:?}, {name:?}, version {version}");
            }
        }
    });
}

async fn beat(peer: &mut Peer, version: i16, group: &str, member: (&str, i32)) -> i16 {
    let request = HeartbeatRequest {
        group_id: group.to_owned(),
        generation_id: member.1,
        member_id: member.0.to_owned(),
        group_instance_id: None,
    };
    peer.call(version, &request).await.error_code
}

async fn leave(peer: &mut Peer, version: i16, group: &str, member_id: &str) -> i16 {
    let identity = MemberIdentity { member_id: member_id.to_owned(), ..Default::default() };
    let request = LeaveGroupRequest {
        group_id: group.to_owned(),
        member_id: member_id.to_owned(),
        members: vec![identity],
    };
    let answer = peer.call(version, &request).await;
    if version < 3 { answer.error_code } else { answer.members[0].error_code }
}

#[test]
fn every_version_of_every_group_message_does_its_work() {
    with_broker(2, QUICK, async |_, _, mut peer| {
        for version in 0..=6 {
            coordinator(&mut peer, version, "g").await;
        }
        let to = topic(&mut peer, "t", &[]).await;
        for version in 2..=10 {
            let offset = 100 + i64::from(version);
            let code = commit(&mut peer, version, &to, ("simple", "", -1), offset).await;
            assert_eq!(code, 0, "version {version}");
            for fetch in 1..=10 {
                let found = committed(&mut peer, fetch, &to, "simple").await;
                assert_eq!(found, (offset, format!("by version {version}")), "version {fetch}");
            }
        }
        for version in 0..=9_i16 {
            let group = format!("members of {version}");
            let mut joined = join(&mut peer, version, &group, "").await;
            if version >= 4 {
                assert_eq!(joined.error_code, ErrorCode::MemberIdRequired.code());
                joined = join(&mut peer, version, &group, &joined.member_id).await;
            }
            assert_eq!((joined.error_code, joined.generation_id), (0, 1), "version {version}");
            assert_eq!(joined.members[0].metadata, b"what I want");
            let member = (joined.member_id.as_str(), 1);
            let (syncs, beats, leaves) = (version.min(5), version.min(4), version.min(5));
            let synced = sync(&mut peer, syncs, &group, member, Some(b"yours")).await;
            assert_eq!(synced, (0, b"yours".to_vec()));
            assert_eq!(beat(&mut peer, beats, &group, member).await, 0);
            let old = ErrorCode::IllegalGeneration.code();
            assert_eq!(beat(&mut peer, beats, &group, (member.0, 0)).await, old);
            let stranger = ErrorCode::UnknownMemberId.code();
            assert_eq!(beat(&mut peer, beats, &group, ("stranger", 1)).await, stranger);
            let by = (group.as_str(), member.0, 1);
            assert_eq!(commit(&mut peer, 8, &to, by, 5).await, 0);

            let describe = DescribeGroupsRequest {
                groups: vec![group.clone(), "nobody".to_owned()],
                include_authorized_operations: true,
            };
            let version = version.min(6);
            let described = peer.call(version, &describe).await.groups;
            assert_eq!((&*described[0].group_state, described[0].members.len()), ("Stable", 1));
            assert_eq!(described[0].members[0].member_assignment, b"yours");
            assert_eq!(described[0].members[0].client_id, "peer");
            assert_eq!(described[1].group_state, "Dead");
            let missing = if version == 6 { ErrorCode::GroupIdNotFound.code() } else { 0 };
            assert_eq!(described[1].error_code, missing);
            assert_eq!(leave(&mut peer, leaves, &group, member.0).await, 0);
            assert_eq!(leave(&mut peer, leaves, &group, member.0).await, stranger);
        }
        for version in 0..=5 {
            let listed = peer.call(version, &ListGroupsRequest::default()).await;
            assert_eq!((listed.error_code, listed.groups.len()), (0, 11), "version {version}");
        }
        let only = |states: &[&str], types: &[&str]| ListGroupsRequest {
            states_filter: states.iter().map(|one| (*one).to_owned()).collect(),
            types_filter: types.iter().map(|one| (*one).to_owned()).collect(),
        };
        assert_eq!(peer.call(5, &only(&["Empty"], &["Classic"])).await.groups.len(), 11);
        assert_eq!(peer.call(5, &only(&["Stable"], &[])).await.groups.len(), 0);
        assert_eq!(peer.call(5, &only(&[], &["consumer"])).await.groups.len(), 0);
        for version in 0..=2 {
            let names = vec![format!("members of {version}"), "nobody".to_owned()];
            let answer = peer.call(version, &DeleteGroupsRequest { groups_names: names }).await;
            let codes = answer.results.iter().map(|one| one.error_code).collect::<Vec<_>>();
            assert_eq!(codes, [0, ErrorCode::GroupIdNotFound.code()]);
        }
        let partition = |partition_index| OffsetDeleteRequestPartition { partition_index };
        let topic = OffsetDeleteRequestTopic {
            name: "t".to_owned(),
            partitions: vec![partition(1), partition(99)],
        };
        let request = OffsetDeleteRequest { group_id: "simple".to_owned(), topics: vec![topic] };
        let answer = peer.call(0, &request).await;
        let codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let codes: Vec<_> = codes.map(|one| (one.partition_index, one.error_code)).collect();
        assert_eq!(codes, [(99, ErrorCode::UnknownTopicOrPartition.code()), (1, 0)]);
        assert_eq!(committed(&mut peer, 9, &to, "simple").await.0, -1);
    });
}

#[test]
fn what_was_committed_and_assigned_survives_a_power_cut() {
    let ram = Ram::new(3);
    let world = ram.clone();
    let (member, id) = ram.block_on(async {
        let shared = start(&world, 3, QUICK);
        let mut peer = Peer::connect(&world, &shared).await;
        coordinator(&mut peer, 6, "g").await;
        let to = topic(&mut peer, "t", &[]).await;
        let joined = join(&mut peer, 9, "g", "").await;
        let joined = join(&mut peer, 9, "g", &joined.member_id).await;
        let member = joined.member_id;
        let synced = sync(&mut peer, 5, "g", (&member, 1), Some(b"yours")).await;
        assert_eq!(synced.0, 0);
        assert_eq!(commit(&mut peer, 9, &to, ("g", &member, 1), 42).await, 0);
        assert_eq!(commit(&mut peer, 9, &to, ("other", "", -1), 7).await, 0);
        (member, to.id)
    });
    let ram = ram.crash(Loss::Everything);
    let world = ram.clone();
    ram.block_on(async {
        // Another number of cores: where a group lives has nothing to do with it.
        let shared = start(&world, 2, QUICK);
        let mut peer = Peer::connect(&world, &shared).await;
        let to = To { name: "t", id, index: PartitionIndex(1) };
        world.sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(beat(&mut peer, 4, "g", (&member, 1)).await, 0, "it is still a member");
        assert_eq!(committed(&mut peer, 8, &to, "g").await.0, 42);
        assert_eq!(committed(&mut peer, 8, &to, "other").await.0, 7);
        let synced = sync(&mut peer, 5, "g", (&member, 1), None).await;
        assert_eq!(synced, (0, b"yours".to_vec()));
        // Nobody hears of it any more: its session ends, as that of any member.
        world.sleep(std::time::Duration::from_secs(11)).await;
        let gone = ErrorCode::UnknownMemberId.code();
        assert_eq!(beat(&mut peer, 4, "g", (&member, 1)).await, gone);
    });
}

#[test]
fn offsets_of_a_deleted_topic_are_forgotten() {
    with_broker(2, QUICK, async |ram, _, mut peer| {
        coordinator(&mut peer, 2, "g").await;
        let to = topic(&mut peer, "t", &[]).await;
        assert_eq!(commit(&mut peer, 9, &to, ("g", "", -1), 42).await, 0);
        let request = trialog_engine::wire::api::DeleteTopicsRequest {
            topic_names: vec!["t".to_owned()],
            timeout_ms: 10_000,
            ..Default::default()
        };
        assert_eq!(peer.call(5, &request).await.responses[0].error_code, 0);
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        assert_eq!(commit(&mut peer, 9, &to, ("g", "", -1), 43).await, unknown);
        let by_id = ErrorCode::UnknownTopicId.code();
        assert_eq!(commit(&mut peer, 10, &to, ("g", "", -1), 43).await, by_id);
        let again = topic(&mut peer, "t", &[]).await;
        ram.sleep(std::time::Duration::from_millis(100)).await;
        assert_eq!(commit(&mut peer, 10, &to, ("g", "", -1), 43).await, by_id);
        assert_eq!(committed(&mut peer, 9, &again, "g").await.0, -1);
        assert_eq!(commit(&mut peer, 10, &again, ("g", "", -1), 44).await, 0);
        assert_eq!(committed(&mut peer, 9, &again, "g").await.0, 44);
    });
}

/// Its coordinator hears of the topic while it flushes what others have committed.
#[test]
fn a_commit_for_a_new_topic_stays() {
    const COMMITTED: i64 = 7;
    let settings = [("offsets.topic.num.partitions", "1")];
    with_broker(2, &settings, async |ram, shared, mut peer| {
        coordinator(&mut peer, 2, "g").await;
        let known = topic(&mut peer, "known", &[]).await;
        let mut other = Peer::connect(&ram, &shared).await;
        for round in 0..40 {
            let name = format!("new-{round}");
            let new = async {
                ram.sleep(Duration::from_micros(round * 5)).await;
                let to = topic(&mut peer, &name, &[]).await;
                assert_eq!(commit(&mut peer, 9, &to, ("g", "", -1), COMMITTED).await, 0);
                to
            };
            let busy = async {
                for offset in 0..20 {
                    assert_eq!(commit(&mut other, 9, &known, ("busy", "", -1), offset).await, 0);
                }
            };
            let (to, ()) = futures_util::future::join(new, busy).await;
            ram.sleep(Duration::from_millis(100)).await;
            assert_eq!(committed(&mut peer, 9, &to, "g").await.0, COMMITTED, "{name}");
        }
    });
}

#[test]
fn the_topic_of_groups_is_internal_can_be_read_and_not_be_written() {
    with_broker(2, QUICK, async |_, _, mut peer| {
        coordinator(&mut peer, 0, "g").await;
        let t = topic(&mut peer, "t", &[]).await;
        assert_eq!(commit(&mut peer, 9, &t, ("g", "", -1), 42).await, 0);
        let described = metadata(&mut peer, 12, "__consumer_offsets").await;
        let described = &described.topics[0];
        assert_eq!((described.is_internal, described.partitions.len()), (true, 7));
        // "g".hashCode() is 103.
        let index = PartitionIndex(103 % 7);
        let to = To { name: "__consumer_offsets", id: described.topic_id, index };
        let answer = peer.produce(9, &to, &batch(&["mine"])).await;
        assert_eq!(answer.error, ErrorCode::InvalidTopicException);
        let (partition, records) = peer.fetch(12, &to, 0, 0).await;
        assert_eq!((partition.error, partition.high_watermark), (ErrorCode::None, Offset(1)));
        let found = trialog_engine::wire::batch::Batch::parse(&records).expect("a batch");
        let contents = found.contents().expect("readable");
        let record = contents.records().next().expect("a record").expect("a record");
        assert_eq!(record.key, Some(&[0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 1][..]));
        assert_eq!(record.value.map(|value| value[..10].to_vec()), {
            Some([&[0, 3][..], &42_i64.to_be_bytes()].concat())
        });
    });
}

/// Whoever makes the topic of commits, and however it is wanted: an acknowledged commit survives.
#[test]
fn the_topic_of_commits_has_its_own_settings_whoever_makes_it() {
    with_broker(2, QUICK, async |_, _, mut peer| {
        let config = |name: &str, value: &str| CreatableTopicConfig {
            name: name.to_owned(),
            value: Some(value.to_owned()),
        };
        let wanted = CreatableTopic {
            name: "__consumer_offsets".to_owned(),
            num_partitions: 5,
            replication_factor: 1,
            configs: vec![
                config("cleanup.policy", "delete"),
                config("trialog.durability", "page-cache"),
                config("retention.ms", "1000"),
            ],
            ..CreatableTopic::default()
        };
        let as_told = CreatableTopic {
            num_partitions: -1,
            replication_factor: -1,
            configs: Vec::new(),
            ..wanted.clone()
        };
        for (topic, validate_only, partitions) in [(as_told, true, 7), (wanted, false, 5)] {
            let topics = vec![topic];
            let request =
                CreateTopicsRequest { topics, validate_only, ..CreateTopicsRequest::default() };
            let made = peer.call(7, &request).await.topics.remove(0);
            assert_eq!((made.error_code, made.num_partitions), (0, partitions));
            let configs = made.configs.expect("they are told");
            let value = |name: &str| {
                let config = configs.iter().find(|config| config.name == name);
                config.and_then(|config| config.value.clone())
            };
            assert_eq!(value("cleanup.policy").as_deref(), Some("compact"));
            assert_eq!(value("trialog.durability").as_deref(), Some("flush"));
        }
        coordinator(&mut peer, 6, "g").await;
    });
}
