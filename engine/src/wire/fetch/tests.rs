//! Fetch against kafka-protocol: equal bytes from both, and what is written is read.

use bytes::Bytes;
use kafka_protocol::messages::{self as theirs, BrokerId, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::id::{LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerId};
use crate::wire::api::meter::withstands;
use crate::wire::code::ErrorCode;
use crate::wire::leader::NodeEndpoint;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn uuid(id: TopicId) -> uuid::Uuid {
    uuid::Uuid::from_bytes(id.0)
}

/// A topic as a version writes it: by name or by id.
fn topic(version: i16, name: String, id: [u8; 16]) -> (String, TopicId) {
    if version >= TOPIC_ID_FROM { (String::new(), TopicId(id)) } else { (name, TopicId::NONE) }
}

fn fetch_partition() -> impl Strategy<Value = FetchPartition> {
    any::<(i32, i32, i64, i32, i64, i32, [u8; 16], i64)>().prop_map(|fields| FetchPartition {
        index: PartitionIndex(fields.0),
        current_leader_epoch: LeaderEpoch(fields.1),
        fetch_offset: Offset(fields.2),
        last_fetched_epoch: LeaderEpoch(fields.3),
        log_start_offset: Offset(fields.4),
        max_bytes: fields.5,
        replica_directory_id: if fields.7 < 0 { TopicId::NONE } else { TopicId(fields.6) },
        high_watermark: if fields.7 < 0 { Offset(i64::MAX) } else { Offset(fields.7) },
    })
}

fn mask_partition(mut full: FetchPartition, version: i16) -> FetchPartition {
    let none = FetchPartition::default();
    if version < 9 {
        full.current_leader_epoch = none.current_leader_epoch;
    }
    if version < 12 {
        full.last_fetched_epoch = none.last_fetched_epoch;
    }
    if version < 5 {
        full.log_start_offset = none.log_start_offset;
    }
    if version < 17 {
        full.replica_directory_id = none.replica_directory_id;
    }
    if version < 18 {
        full.high_watermark = none.high_watermark;
    }
    full
}

type Named<T> = Vec<(String, [u8; 16], Vec<T>)>;

fn named<T: std::fmt::Debug>(inner: impl Strategy<Value = T>) -> impl Strategy<Value = Named<T>> {
    vec(("[a-z]{1,4}", any::<[u8; 16]>(), vec(inner, 0..3)), 0..3)
}

fn request(
    version: i16,
    numbers: (i32, i64, i32, i32, i32, i8, i32, i32),
    topics: Named<FetchPartition>,
    forgotten: Named<i32>,
    texts: (Option<String>, String),
) -> FetchRequest {
    let none = FetchRequest::default();
    let session = version >= 7;
    FetchRequest {
        cluster_id: texts.0.filter(|_| version >= 12),
        replica_id: NodeId(numbers.0),
        replica_epoch: if version >= 15 { numbers.1 } else { none.replica_epoch },
        max_wait_ms: numbers.2,
        min_bytes: numbers.3,
        max_bytes: numbers.4,
        isolation_level: numbers.5,
        session_id: if session { numbers.6 } else { none.session_id },
        session_epoch: if session { numbers.7 } else { none.session_epoch },
        topics: topics
            .into_iter()
            .map(|(name, id, partitions)| {
                let (name, topic_id) = topic(version, name, id);
                let partitions = partitions.into_iter().map(|full| mask_partition(full, version));
                FetchTopic { name, topic_id, partitions: partitions.collect() }
            })
            .collect(),
        forgotten_topics: forgotten
            .into_iter()
            .filter(|_| session)
            .map(|(name, id, partitions)| {
                let (name, topic_id) = topic(version, name, id);
                let partitions = partitions.into_iter().map(PartitionIndex).collect();
                ForgottenTopic { name, topic_id, partitions }
            })
            .collect(),
        rack_id: if version >= 11 { texts.1 } else { none.rack_id },
    }
}

fn request_to_theirs(ours: &FetchRequest, version: i16) -> theirs::FetchRequest {
    let mut oracle = theirs::FetchRequest::default()
        .with_cluster_id(ours.cluster_id.as_deref().map(text))
        .with_max_wait_ms(ours.max_wait_ms)
        .with_min_bytes(ours.min_bytes)
        .with_max_bytes(ours.max_bytes)
        .with_isolation_level(ours.isolation_level)
        .with_session_id(ours.session_id)
        .with_session_epoch(ours.session_epoch)
        .with_rack_id(text(&ours.rack_id));
    if version <= 14 {
        oracle.replica_id = BrokerId(ours.replica_id.0);
    } else {
        oracle.replica_state = theirs::fetch_request::ReplicaState::default()
            .with_replica_id(BrokerId(ours.replica_id.0))
            .with_replica_epoch(ours.replica_epoch);
    }
    for topic in &ours.topics {
        let partitions = topic.partitions.iter().map(|partition| {
            theirs::fetch_request::FetchPartition::default()
                .with_partition(partition.index.0)
                .with_current_leader_epoch(partition.current_leader_epoch.0)
                .with_fetch_offset(partition.fetch_offset.0)
                .with_last_fetched_epoch(partition.last_fetched_epoch.0)
                .with_log_start_offset(partition.log_start_offset.0)
                .with_partition_max_bytes(partition.max_bytes)
                .with_replica_directory_id(uuid(partition.replica_directory_id))
                .with_high_watermark(partition.high_watermark.0)
        });
        oracle.topics.push(
            theirs::fetch_request::FetchTopic::default()
                .with_topic(TopicName(text(&topic.name)))
                .with_topic_id(uuid(topic.topic_id))
                .with_partitions(partitions.collect()),
        );
    }
    for topic in &ours.forgotten_topics {
        oracle.forgotten_topics_data.push(
            theirs::fetch_request::ForgottenTopic::default()
                .with_topic(TopicName(text(&topic.name)))
                .with_topic_id(uuid(topic.topic_id))
                .with_partitions(topic.partitions.iter().map(|index| index.0).collect()),
        );
    }
    oracle
}

/// A partition of an answer, and its record bytes.
type Answer = (FetchPartitionResponse, Vec<u8>);

fn answer() -> impl Strategy<Value = Answer> {
    (
        any::<(i32, i64, i64, i64, i32)>(),
        option::of(vec(any::<(i64, i64)>(), 0..3)),
        option::of((0i32..9, any::<i64>())),
        option::of((0i32..9, any::<i32>())),
        vec(any::<u8>(), 0..200),
    )
        .prop_map(|(numbers, aborted, diverging, leader, records)| {
            let partition = FetchPartitionResponse {
                index: PartitionIndex(numbers.0),
                error: if numbers.1 < 0 { ErrorCode::OffsetOutOfRange } else { ErrorCode::None },
                high_watermark: Offset(numbers.1),
                last_stable_offset: Offset(numbers.2),
                log_start_offset: Offset(numbers.3),
                aborted: aborted.map(|list| {
                    list.into_iter().map(|(id, first)| (ProducerId(id), Offset(first))).collect()
                }),
                diverging_epoch: diverging.map(|(epoch, end)| (LeaderEpoch(epoch), Offset(end))),
                current_leader: leader.map(|(id, epoch)| (NodeId(id), LeaderEpoch(epoch))),
                preferred_read_replica: NodeId(numbers.4),
                records: u32::try_from(records.len()).expect("short"),
            };
            (partition, records)
        })
}

fn mask_answer(mut full: FetchPartitionResponse, version: i16) -> FetchPartitionResponse {
    let none = FetchPartitionResponse::<u32>::default();
    if version < 5 {
        full.log_start_offset = none.log_start_offset;
    }
    if version < 11 {
        full.preferred_read_replica = none.preferred_read_replica;
    }
    if version < 12 {
        full.diverging_epoch = none.diverging_epoch;
        full.current_leader = none.current_leader;
    }
    full
}

fn answer_to_theirs(
    ours: &FetchPartitionResponse,
    records: &[u8],
) -> theirs::fetch_response::PartitionData {
    let mut partition = theirs::fetch_response::PartitionData::default()
        .with_partition_index(ours.index.0)
        .with_error_code(ours.error.code())
        .with_high_watermark(ours.high_watermark.0)
        .with_last_stable_offset(ours.last_stable_offset.0)
        .with_log_start_offset(ours.log_start_offset.0)
        .with_preferred_read_replica(BrokerId(ours.preferred_read_replica.0))
        .with_records(Some(Bytes::copy_from_slice(records)))
        .with_aborted_transactions(ours.aborted.as_ref().map(|list| {
            let list = list.iter().map(|(id, first)| {
                theirs::fetch_response::AbortedTransaction::default()
                    .with_producer_id(theirs::ProducerId(id.0))
                    .with_first_offset(first.0)
            });
            list.collect()
        }));
    if let Some((epoch, end)) = ours.diverging_epoch {
        partition.diverging_epoch = theirs::fetch_response::EpochEndOffset::default()
            .with_epoch(epoch.0)
            .with_end_offset(end.0);
    }
    if let Some((id, epoch)) = ours.current_leader {
        partition.current_leader = theirs::fetch_response::LeaderIdAndEpoch::default()
            .with_leader_id(BrokerId(id.0))
            .with_leader_epoch(epoch.0);
    }
    partition
}

/// Puts the record bytes into the holes, as sending does.
fn filled(head: &[u8], holes: &[usize], records: &[&[u8]]) -> Vec<u8> {
    assert_eq!(holes.len(), records.len());
    let mut whole = Vec::new();
    let mut sent = 0;
    for (&hole, records) in holes.iter().zip(records) {
        whole.extend_from_slice(&head[sent..hole]);
        whole.extend_from_slice(records);
        sent = hole;
    }
    whole.extend_from_slice(&head[sent..]);
    whole
}

/// What such a fetch stands for.
fn request_of(one: FetchOne<'_>) -> FetchRequest {
    let FetchOne { max_wait_ms, min_bytes, max_bytes, name, topic_id, partition } = one;
    let topic = FetchTopic { name: name.to_owned(), topic_id, partitions: vec![partition] };
    let topics = vec![topic];
    FetchRequest { max_wait_ms, min_bytes, max_bytes, topics, ..FetchRequest::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn requests_agree(
        version in VERSION_MIN..=VERSION_MAX,
        numbers: (i32, i64, i32, i32, i32, i8, i32, i32),
        topics in named(fetch_partition()),
        forgotten in named(any::<i32>()),
        texts in (option::of("[a-z]{0,200}"), "[a-z]{0,3}"),
        damage in vec(any::<(prop::sample::Index, u8)>(), 4),
    ) {
        let ours = request(version, numbers, topics, forgotten, texts);
        let mut out = Vec::new();
        ours.encode(&mut out, version);
        let mut expected = Vec::new();
        request_to_theirs(&ours, version).encode(&mut expected, version).expect("encodes");
        prop_assert_eq!(&out, &expected);
        let back = FetchRequest::decode(&expected, version);
        prop_assert_eq!(back.as_ref(), Ok(&ours));
        for end in 0..out.len() {
            prop_assert!(FetchRequest::decode(&out[..end], version).is_err());
        }
        for (at, byte) in damage {
            let at = at.index(out.len());
            out[at] ^= byte;
            let _ = FetchRequest::decode(&out, version);
        }
    }

    #[test]
    fn a_lone_fetch_is_seen_as_one(
        version in VERSION_MIN..=VERSION_MAX,
        numbers in any::<(i32, i32, i32)>(),
        (name, id) in ("[a-z]{1,4}", any::<[u8; 16]>()),
        partition in fetch_partition(),
        other in 0..7,
    ) {
        let (name, topic_id) = topic(version, name, id);
        let partition = mask_partition(partition, version);
        let lone = FetchRequest {
            max_wait_ms: numbers.0,
            min_bytes: numbers.1,
            max_bytes: numbers.2,
            topics: vec![FetchTopic { name, topic_id, partitions: vec![partition] }],
            ..FetchRequest::default()
        };
        let mut out = Vec::new();
        lone.encode(&mut out, version);
        let one = FetchOne::decode(&out, version).expect("it is one");
        prop_assert_eq!(request_of(one), lone.clone());
        for end in 0..out.len() {
            prop_assert!(FetchOne::decode(&out[..end], version).is_none());
        }

        let mut request = lone.clone();
        match other {
            0 => request.replica_id = NodeId(3),
            1 if version >= 7 => request.session_epoch = 0,
            2 if version >= 7 => (request.session_id, request.session_epoch) = (5, -1),
            3 if version >= 7 => request.forgotten_topics.push(ForgottenTopic::default()),
            4 => request.topics.push(FetchTopic::default()),
            5 => request.topics[0].partitions.push(FetchPartition::default()),
            _ => request.topics.clear(),
        }
        let mut out = Vec::new();
        request.encode(&mut out, version);
        prop_assert!(FetchOne::decode(&out, version).is_none());
    }

    #[test]
    fn responses_agree(
        version in VERSION_MIN..=VERSION_MAX,
        throttle_time_ms: i32,
        session_id: i32,
        topics in named(answer()),
        endpoints in vec((any::<i32>(), "[a-z.]{0,9}", any::<i32>(), option::of("[a-z]{0,3}")), 0..3),
        damage in vec(any::<(prop::sample::Index, u8)>(), 4),
    ) {
        let mut records = Vec::new();
        let mut ours = FetchResponse {
            throttle_time_ms,
            error: if version >= 7 { ErrorCode::FetchSessionIdNotFound } else { ErrorCode::None },
            session_id: if version >= 7 { session_id } else { 0 },
            ..FetchResponse::default()
        };
        if version >= 16 {
            ours.node_endpoints = endpoints.into_iter().map(|(node_id, host, port, rack)| {
                NodeEndpoint { node_id: NodeId(node_id), host, port, rack }
            }).collect();
        }
        for (name, id, partitions) in &topics {
            let (name, topic_id) = topic(version, name.clone(), *id);
            let partitions = partitions.iter().map(|(partition, bytes)| {
                records.push(&bytes[..]);
                mask_answer(partition.clone(), version)
            });
            let partitions = partitions.collect();
            ours.topics.push(FetchTopicResponse { name, topic_id, partitions });
        }
        let mut head = b"before".to_vec();
        let holes = ours.encode_head(&mut head, version);
        for topic in &ours.topics {
            for partition in &topic.partitions {
                let alone =
                    FetchTopicResponse { partitions: vec![partition.clone()], ..topic.clone() };
                let alone = FetchResponse { topics: vec![alone], ..FetchResponse::default() };
                let (mut whole, mut one) = (Vec::new(), Vec::new());
                let holes = alone.encode_head(&mut whole, version);
                let (name, id) = (&topic.name, topic.topic_id);
                let hole = FetchResponse::encode_one(&mut one, version, name, id, partition);
                prop_assert_eq!((whole, holes), (one, vec![hole]));
            }
        }
        let whole = filled(&head, &holes, &records)[6..].to_vec();
        prop_assert_eq!(whole.len() as u64, head.len() as u64 - 6 + ours.records_bytes());

        let mut left = records.iter();
        let oracle = theirs::FetchResponse::default()
            .with_throttle_time_ms(throttle_time_ms)
            .with_error_code(ours.error.code())
            .with_session_id(ours.session_id)
            .with_node_endpoints(ours.node_endpoints.iter().map(|endpoint| {
                theirs::fetch_response::NodeEndpoint::default()
                    .with_node_id(BrokerId(endpoint.node_id.0))
                    .with_host(text(&endpoint.host))
                    .with_port(endpoint.port)
                    .with_rack(endpoint.rack.as_deref().map(text))
            }).collect())
            .with_responses(ours.topics.iter().map(|topic| {
                theirs::fetch_response::FetchableTopicResponse::default()
                    .with_topic(TopicName(text(&topic.name)))
                    .with_topic_id(uuid(topic.topic_id))
                    .with_partitions(topic.partitions.iter().map(|partition| {
                        answer_to_theirs(partition, left.next().expect("one each"))
                    }).collect())
            }).collect());
        let mut expected = Vec::new();
        oracle.encode(&mut expected, version).expect("encodes");
        prop_assert_eq!(&whole, &expected);

        let back = FetchResponse::decode(&whole, version).expect("decodes");
        let partitions = back.topics.iter().flat_map(|topic| &topic.partitions);
        let found: Vec<_> =
            partitions.map(|partition| &whole[partition.records.clone()]).collect();
        prop_assert_eq!(&found, &records);
        prop_assert_eq!(with_sizes(back), ours);

        for end in 0..whole.len() {
            prop_assert!(FetchResponse::decode(&whole[..end], version).is_err());
        }
        let mut damaged = whole;
        for (at, byte) in damage {
            let at = at.index(damaged.len());
            damaged[at] ^= byte;
            let _ = FetchResponse::decode(&damaged, version);
        }
    }
}

fn with_sizes(back: FetchResponse<std::ops::Range<usize>>) -> FetchResponse {
    let topics = back.topics.into_iter().map(|topic| FetchTopicResponse {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| FetchPartitionResponse {
                index: partition.index,
                error: partition.error,
                high_watermark: partition.high_watermark,
                last_stable_offset: partition.last_stable_offset,
                log_start_offset: partition.log_start_offset,
                aborted: partition.aborted,
                diverging_epoch: partition.diverging_epoch,
                current_leader: partition.current_leader,
                preferred_read_replica: partition.preferred_read_replica,
                records: u32::try_from(partition.records.len()).expect("short"),
            })
            .collect(),
    });
    FetchResponse {
        throttle_time_ms: back.throttle_time_ms,
        error: back.error,
        session_id: back.session_id,
        topics: topics.collect(),
        node_endpoints: back.node_endpoints,
    }
}

#[test]
fn other_versions_are_refused() {
    for version in [-1, 0, 3, 19, i16::MAX] {
        let error = FetchRequest::decode(&[0; 64], version).expect_err("no such version");
        assert_eq!(error.fault, Fault::UnsupportedVersion);
        let error = FetchResponse::decode(&[0; 64], version).expect_err("no such version");
        assert_eq!(error.fault, Fault::UnsupportedVersion);
    }
}

#[test]
fn hostile_bytes_cost_no_memory() {
    for version in VERSION_MIN..=VERSION_MAX {
        let flexible = version >= FLEXIBLE_FROM;
        let named = |partitions| {
            let (name, topic_id) = topic(version, "topic".to_owned(), [7; 16]);
            FetchTopic { name, topic_id, partitions }
        };
        let forgotten = |partitions| {
            let (name, topic_id) = topic(version, "topic".to_owned(), [7; 16]);
            ForgottenTopic { name, topic_id, partitions }
        };
        let encoded = |topics, forgotten_topics| {
            let mut out = Vec::new();
            let request = FetchRequest { topics, forgotten_topics, ..FetchRequest::default() };
            request.encode(&mut out, version);
            out
        };
        let partitions = || vec![FetchPartition::default(); 2];
        let indexes = vec![PartitionIndex(1); if version >= 7 { 2 } else { 0 }];
        let gone = vec![forgotten(indexes); if version >= 7 { 2 } else { 0 }];
        let good = encoded(vec![named(partitions()), named(partitions())], gone);
        let empty = encoded(Vec::new(), Vec::new());
        withstands((&good, &empty), flexible, &|bytes| {
            FetchRequest::decode(bytes, version).is_ok()
        });
        let one = encoded(vec![named(vec![FetchPartition::default()])], Vec::new());
        withstands((&one, &one), flexible, &|bytes| FetchOne::decode(bytes, version).is_some());

        let partition = FetchPartitionResponse {
            aborted: Some(vec![(ProducerId(1), Offset(2)); 2]),
            current_leader: (version >= 12).then_some((NodeId(1), LeaderEpoch(2))),
            ..FetchPartitionResponse::default()
        };
        let answer = || {
            let (name, topic_id) = topic(version, "topic".to_owned(), [7; 16]);
            FetchTopicResponse { name, topic_id, partitions: vec![partition.clone(); 2] }
        };
        let encoded = |topics| {
            let mut out = Vec::new();
            let _ =
                FetchResponse { topics, ..FetchResponse::default() }.encode_head(&mut out, version);
            out
        };
        let (good, empty) = (encoded(vec![answer(), answer()]), encoded(Vec::new()));
        withstands((&good, &empty), flexible, &|bytes| {
            FetchResponse::decode(bytes, version).is_ok()
        });
    }
}
