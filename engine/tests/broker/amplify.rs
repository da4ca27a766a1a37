//! Large requests that are well formed and name one thing very many times: an answer, and the memory that it
//! takes, stay within a small multiple of the request, or its connection is closed.

use std::time::Duration;

use super::peer::{Peer, To, batch};
use super::{topic, with_broker};
use crate::meter;
use trialog_engine::broker::SERVED;
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::io::Io;
use trialog_engine::io::ram::Ram;
use trialog_engine::wire::api::*;
use trialog_engine::wire::code::ErrorCode;
use trialog_engine::wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use trialog_engine::wire::produce::{ProducePartition, ProduceRequest, ProduceTopic};

/// How often it is named.
const TIMES: usize = 20_000;
/// Bytes of an answer for each byte of its request, and beyond that in any case.
const ANSWER_MAX: (usize, usize) = (8, 64 << 10);
/// The same of all memory that is allocated meanwhile, by the client, too.
const MEMORY_MAX: (usize, usize) = (150, 8 << 20);

fn many<T: Clone>(one: T) -> Vec<T> {
    vec![one; TIMES]
}

fn body<R: Request>(version: i16, request: &R) -> Vec<u8> {
    let mut out = Vec::new();
    request.encode(&mut out, version);
    out
}

/// What is named: the topic, and a group.
const TOPIC: &str = "named";
const GROUP: &str = "group-with-a-name-that-is-not-the-shortest-one-of-all";

/// Bodies for an API in its newest version, each of which names one thing very many times.
fn bodies(api: ApiKey, version: i16, to: &To<'_>) -> Vec<Vec<u8>> {
    let name = || TOPIC.to_owned();
    let group = || GROUP.to_owned();
    match api {
        ApiKey::Produce => {
            let whole = batch(&["x"]);
            let partitions = |records| many(ProducePartition { index: PartitionIndex(0), records });
            let topic = |partitions| ProduceTopic { name: TOPIC, topic_id: to.id, partitions };
            let one = [topic(partitions(None)), topic(partitions(Some(&whole[..])))];
            let apart =
                || many(topic(vec![ProducePartition { index: PartitionIndex(0), records: None }]));
            let all = one.into_iter().map(|topic| vec![topic]).chain([apart()]);
            let encoded = all.map(|topics| {
                let request =
                    ProduceRequest { transactional_id: None, acks: -1, timeout_ms: 1000, topics };
                let mut out = Vec::new();
                request.encode(&mut out, version);
                out
            });
            encoded.collect()
        }
        ApiKey::Fetch => {
            let partition = FetchPartition {
                index: to.index,
                fetch_offset: Offset(0),
                max_bytes: 1 << 20,
                ..FetchPartition::default()
            };
            let topic = |partitions| FetchTopic { name: name(), topic_id: to.id, partitions };
            let all = [vec![topic(many(partition.clone()))], many(topic(vec![partition]))];
            let encoded = all.into_iter().map(|topics| {
                let request = FetchRequest { topics, ..FetchRequest::default() };
                let mut out = Vec::new();
                request.encode(&mut out, version);
                out
            });
            encoded.collect()
        }
        ApiKey::ListOffsets => {
            let partition = ListOffsetsPartition { timestamp: -1, ..Default::default() };
            let topic = ListOffsetsTopic { name: name(), partitions: many(partition) };
            let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
            vec![body(version, &request)]
        }
        ApiKey::Metadata => {
            let topics = many(MetadataRequestTopic { name: Some(name()), ..Default::default() });
            let request = MetadataRequest { topics: Some(topics), ..Default::default() };
            vec![body(version, &request)]
        }
        ApiKey::OffsetCommit => {
            let partition = OffsetCommitRequestPartition::default();
            let topic =
                |partitions| OffsetCommitRequestTopic { name: name(), topic_id: to.id, partitions };
            let request = |topics| OffsetCommitRequest {
                group_id: GROUP.repeat(500),
                generation_id_or_member_epoch: -1,
                topics,
                ..Default::default()
            };
            let unknown = |number: usize| OffsetCommitRequestTopic {
                name: format!("unknown-{number}"),
                topic_id: trialog_engine::id::TopicId::from_random(1, number as u64),
                partitions: vec![OffsetCommitRequestPartition::default()],
            };
            vec![
                body(version, &request(vec![topic(many(partition.clone()))])),
                body(version, &request(many(topic(vec![partition])))),
                body(version, &request((0..TIMES).map(unknown).collect())),
            ]
        }
        ApiKey::OffsetFetch => {
            let topics = |indexes| {
                let topic = OffsetFetchRequestTopics {
                    name: name(),
                    topic_id: to.id,
                    partition_indexes: indexes,
                };
                Some(vec![topic])
            };
            let wanted = |topics| OffsetFetchRequestGroup {
                group_id: group(),
                topics,
                ..Default::default()
            };
            let request = |groups| OffsetFetchRequest { groups, ..Default::default() };
            vec![
                body(version, &request(vec![wanted(topics(many(0)))])),
                body(version, &request(many(wanted(topics(vec![0]))))),
                body(version, &request(many(wanted(None)))),
            ]
        }
        ApiKey::FindCoordinator => {
            let keys = many(group());
            vec![body(
                version,
                &FindCoordinatorRequest { coordinator_keys: keys, ..Default::default() },
            )]
        }
        ApiKey::JoinGroup => {
            let strategy = JoinGroupRequestProtocol { name: "range".into(), metadata: Vec::new() };
            let request = JoinGroupRequest {
                group_id: group(),
                session_timeout_ms: 6000,
                rebalance_timeout_ms: 6000,
                group_instance_id: Some("me".into()),
                protocol_type: "consumer".into(),
                protocols: many(strategy),
                ..Default::default()
            };
            vec![body(version, &request)]
        }
        ApiKey::SyncGroup => {
            let share =
                SyncGroupRequestAssignment { member_id: "me".into(), assignment: vec![1; 9] };
            let request = SyncGroupRequest {
                group_id: group(),
                protocol_type: Some("consumer".into()),
                protocol_name: Some("range".into()),
                assignments: many(share),
                ..Default::default()
            };
            vec![body(version, &request)]
        }
        ApiKey::Heartbeat => vec![body(version, &HeartbeatRequest::default())],
        ApiKey::LeaveGroup => {
            let members = many(MemberIdentity { member_id: "me".into(), ..Default::default() });
            let request = LeaveGroupRequest { group_id: group(), members, ..Default::default() };
            vec![body(version, &request)]
        }
        ApiKey::DescribeGroups => {
            let groups = many(group());
            vec![body(version, &DescribeGroupsRequest { groups, ..Default::default() })]
        }
        ApiKey::ListGroups => {
            let (states, types) = (many("Stable".to_owned()), many("classic".to_owned()));
            vec![body(version, &ListGroupsRequest { states_filter: states, types_filter: types })]
        }
        ApiKey::ApiVersions => vec![body(version, &ApiVersionsRequest::default())],
        ApiKey::CreateTopics => {
            let topic = CreatableTopic {
                name: "new".into(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            };
            let config =
                CreatableTopicConfig { name: "retention.ms".into(), value: Some("1".into()) };
            let configured = CreatableTopic { configs: many(config), ..topic.clone() };
            let request = |topics| CreateTopicsRequest { topics, ..Default::default() };
            vec![body(version, &request(many(topic))), body(version, &request(vec![configured]))]
        }
        ApiKey::DeleteTopics => {
            let topics = many(DeleteTopicState { name: Some("x".into()), ..Default::default() });
            vec![body(version, &DeleteTopicsRequest { topics, ..Default::default() })]
        }
        ApiKey::DeleteRecords => {
            let partition = DeleteRecordsPartition { partition_index: 0, offset: 0 };
            let topic = DeleteRecordsTopic { name: name(), partitions: many(partition) };
            vec![body(version, &DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 })]
        }
        ApiKey::InitProducerId => {
            let request =
                InitProducerIdRequest { producer_id: -1, producer_epoch: -1, ..Default::default() };
            vec![body(version, &request)]
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partition = OffsetForLeaderPartition::default();
            let topic = OffsetForLeaderTopic { topic: name(), partitions: many(partition) };
            let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
            vec![body(version, &request)]
        }
        ApiKey::DeleteGroups => {
            vec![body(version, &DeleteGroupsRequest { groups_names: many("g".to_owned()) })]
        }
        ApiKey::OffsetDelete => {
            let partition = OffsetDeleteRequestPartition { partition_index: 0 };
            let topic = OffsetDeleteRequestTopic { name: name(), partitions: many(partition) };
            vec![body(version, &OffsetDeleteRequest { group_id: group(), topics: vec![topic] })]
        }
        ApiKey::DescribeClientQuotas => {
            let component = QuotaComponent { entity_type: "user".into(), ..Default::default() };
            let request =
                DescribeClientQuotasRequest { components: many(component), ..Default::default() };
            vec![body(version, &request)]
        }
        ApiKey::AlterClientQuotas => {
            let entity = vec![AlteredEntity { entity_type: "user".into(), entity_name: None }];
            let op = QuotaOperation { key: "producer_byte_rate".into(), value: 1e9, remove: false };
            let entry = |ops| AlteredQuotas { entity: entity.clone(), ops };
            let request = |entries| AlterClientQuotasRequest { entries, ..Default::default() };
            vec![
                body(version, &request(many(entry(vec![op.clone()])))),
                body(version, &request(vec![entry(many(op))])),
            ]
        }
        ApiKey::DescribeConfigs => {
            let resource = |keys| DescribeConfigsResource {
                resource_type: 2,
                resource_name: name(),
                configuration_keys: keys,
            };
            let request = |resources| DescribeConfigsRequest { resources, ..Default::default() };
            vec![
                body(version, &request(many(resource(None)))),
                body(version, &request(vec![resource(Some(many("retention.ms".to_owned())))])),
            ]
        }
        ApiKey::AlterConfigs => {
            let config = AlterableConfig { name: "retention.ms".into(), value: Some("1".into()) };
            let resource =
                |configs| AlterConfigsResource { resource_type: 2, resource_name: name(), configs };
            let request = |resources| AlterConfigsRequest { resources, ..Default::default() };
            vec![
                body(version, &request(many(resource(Vec::new())))),
                body(version, &request(vec![resource(many(config))])),
            ]
        }
        ApiKey::IncrementalAlterConfigs => {
            let config = IncrementalAlterableConfig {
                name: "cleanup.policy".into(),
                config_operation: 2,
                value: Some("compact".into()),
            };
            let resource = |configs| IncrementalAlterConfigsResource {
                resource_type: 2,
                resource_name: name(),
                configs,
            };
            let request =
                |resources| IncrementalAlterConfigsRequest { resources, ..Default::default() };
            vec![
                body(version, &request(many(resource(Vec::new())))),
                body(version, &request(vec![resource(many(config))])),
            ]
        }
        ApiKey::DescribeLogDirs => {
            let topic = DescribableLogDirTopic { topic: name(), partitions: many(0) };
            vec![body(version, &DescribeLogDirsRequest { topics: Some(vec![topic]) })]
        }
        ApiKey::CreatePartitions => {
            let topic = CreatePartitionsTopic { name: name(), count: 9, assignments: None };
            vec![body(
                version,
                &CreatePartitionsRequest { topics: many(topic), ..Default::default() },
            )]
        }
        ApiKey::ElectLeaders => {
            let all = TopicPartitions { topic: name(), partitions: many(0) };
            let request =
                ElectLeadersRequest { topic_partitions: Some(vec![all]), ..Default::default() };
            vec![body(version, &request)]
        }
        ApiKey::ListPartitionReassignments => {
            let topic =
                ListPartitionReassignmentsTopics { name: name(), partition_indexes: many(0) };
            let request = ListPartitionReassignmentsRequest {
                topics: Some(vec![topic]),
                ..Default::default()
            };
            vec![body(version, &request)]
        }
        ApiKey::DescribeCluster => vec![body(version, &DescribeClusterRequest::default())],
        ApiKey::DescribeUserScramCredentials => {
            let users = Some(many(ScramUserName { name: "user".into() }));
            vec![body(version, &DescribeUserScramCredentialsRequest { users })]
        }
        ApiKey::DescribeProducers => {
            let topic = DescribeProducersTopicRequest { name: name(), partition_indexes: many(1) };
            vec![body(version, &DescribeProducersRequest { topics: vec![topic] })]
        }
        ApiKey::ListConfigResources => {
            vec![body(version, &ListConfigResourcesRequest { resource_types: many(2) })]
        }
        ApiKey::DescribeTopicPartitions => {
            let topics = many(DescribeTopicPartitionsTopicRequest { name: name() });
            vec![body(version, &DescribeTopicPartitionsRequest { topics, ..Default::default() })]
        }
        other => panic!("{other:?} is served, and what it can name many times stands nowhere here"),
    }
}

/// What there is to be named: a topic with records and producers, and a group with an offset and its text.
async fn prepare<'a>(peer: &mut Peer) -> To<'a> {
    let to = topic(peer, TOPIC, &[]).await;
    assert_eq!(peer.produce(9, &to, &batch(&[&"x".repeat(1000)])).await.error, ErrorCode::None);
    for producer in 0..20 {
        let batch = super::peer::idempotent(producer, 0, 0, &["x"]);
        assert_eq!(peer.produce(9, &to, &batch).await.error, ErrorCode::None);
    }
    let find =
        FindCoordinatorRequest { coordinator_keys: vec![GROUP.into()], ..Default::default() };
    assert_eq!(peer.call(6, &find).await.coordinators[0].error_code, 0);
    let partition = OffsetCommitRequestPartition {
        committed_offset: 1,
        committed_metadata: Some("m".repeat(4000)),
        ..Default::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: TOPIC.into(),
        partitions: vec![partition],
        ..Default::default()
    };
    let commit = OffsetCommitRequest {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    assert_eq!(peer.call(9, &commit).await.topics[0].partitions[0].error_code, 0);
    to
}

/// Bytes of the answer to a request; `None` if the connection was closed instead.
async fn answered(
    ram: &Ram,
    peer: &mut Peer,
    api: ApiKey,
    version: i16,
    body: &[u8],
) -> Option<usize> {
    peer.send(api as i16, version, |out| out.extend_from_slice(body)).await;
    tokio::select! {
        biased; // An answer, or the end of the connection.
        answer = peer.receive() => answer.map(|answer| answer.len()),
        () = ram.sleep(Duration::from_secs(120)) => panic!("{api:?}: neither answered nor closed"),
    }
}

#[test]
fn one_thing_named_very_many_times_has_no_huge_answer() {
    with_broker(1, &[], async |ram, shared, mut peer| {
        let to = prepare(&mut peer).await;
        let mut wrong = Vec::new();
        for &(api, ref versions) in SERVED {
            let version = *versions.end();
            for (number, body) in bodies(api, version, &to).into_iter().enumerate() {
                let mut hostile = Peer::connect(&ram, &shared).await;
                let before = meter::allocated_so_far();
                let answer = answered(&ram, &mut hostile, api, version, &body).await;
                let memory = meter::allocated_so_far().wrapping_sub(before);
                let bound = |(factor, least): (usize, usize)| factor * body.len() + least;
                let answer = answer.unwrap_or(0);
                if answer > bound(ANSWER_MAX) || memory > bound(MEMORY_MAX) {
                    wrong.push(format!(
                        "{api:?} ({number}): {} bytes had {answer} in the answer and {memory} of memory",
                        body.len()
                    ));
                }
                println!(
                    "{api:?} ({number}): {} bytes, {answer} in the answer, {memory} of memory: {} each",
                    body.len(),
                    memory / body.len()
                );
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let fine = peer.produce(9, &to, &batch(&["fine"])).await;
        assert_eq!(fine.error, ErrorCode::None);
    });
}
