//! Produce against kafka-protocol: equal bytes from both, and what is written is read.

use bytes::Bytes;
use kafka_protocol::messages::{self as theirs, BrokerId, TopicName, TransactionalId};
use kafka_protocol::protocol::{Encodable, StrBytes};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::wire::api::meter::withstands;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

type Partitions = Vec<(i32, Option<Vec<u8>>)>;

fn partitions() -> impl Strategy<Value = Partitions> {
    vec((any::<i32>(), option::of(vec(any::<u8>(), 0..200))), 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn requests_agree(
        version in VERSION_MIN..=VERSION_MAX,
        transactional_id in option::of("[a-z]{0,3}"),
        acks: i16,
        timeout_ms: i32,
        topics in vec(("[a-z]{1,4}", any::<[u8; 16]>(), partitions()), 0..3),
        damage in vec(any::<(prop::sample::Index, u8)>(), 4),
    ) {
        let by_id = version >= TOPIC_ID_FROM;
        let ours = ProduceRequest {
            transactional_id: transactional_id.as_deref(),
            acks,
            timeout_ms,
            topics: topics.iter().map(|(name, id, partitions)| ProduceTopic {
                name: if by_id { "" } else { name },
                topic_id: if by_id { TopicId(*id) } else { TopicId::NONE },
                partitions: partitions.iter().map(|(index, records)| ProducePartition {
                    index: PartitionIndex(*index),
                    records: records.as_deref(),
                }).collect(),
            }).collect(),
        };
        let mut out = Vec::new();
        ours.encode(&mut out, version);

        let oracle = theirs::ProduceRequest::default()
            .with_transactional_id(transactional_id.as_deref().map(|id| TransactionalId(text(id))))
            .with_acks(acks)
            .with_timeout_ms(timeout_ms)
            .with_topic_data(ours.topics.iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| {
                    theirs::produce_request::PartitionProduceData::default()
                        .with_index(partition.index.0)
                        .with_records(partition.records.map(Bytes::copy_from_slice))
                });
                theirs::produce_request::TopicProduceData::default()
                    .with_name(TopicName(text(topic.name)))
                    .with_topic_id(uuid::Uuid::from_bytes(topic.topic_id.0))
                    .with_partition_data(partitions.collect())
            }).collect());
        let mut expected = Vec::new();
        oracle.encode(&mut expected, version).expect("encodes");
        prop_assert_eq!(&out, &expected);

        let back = ProduceRequest::decode(&expected, version).expect("decodes");
        prop_assert_eq!(back.transactional_id, ours.transactional_id);
        prop_assert_eq!((back.acks, back.timeout_ms), (acks, timeout_ms));
        prop_assert_eq!(back.topics.len(), ours.topics.len());
        for (back, ours) in back.topics.iter().zip(&ours.topics) {
            prop_assert_eq!((back.name, back.topic_id), (ours.name, ours.topic_id));
            let found: Vec<_> = back.partitions.iter().map(|partition| {
                (partition.index, partition.records.clone().map(|range| &expected[range]))
            }).collect();
            let given =
                ours.partitions.iter().map(|partition| (partition.index, partition.records));
            prop_assert_eq!(found, given.collect::<Vec<_>>());
        }

        let one = ProduceOne::decode(&expected, version);
        let only = match &ours.topics[..] {
            [topic] if transactional_id.is_none() => match &topic.partitions[..] {
                [ProducePartition { index, records: Some(records) }] => {
                    Some((topic.name, topic.topic_id, *index, *records))
                }
                _ => None,
            },
            _ => None,
        };
        prop_assert_eq!(one.is_some(), only.is_some());
        if let Some(one) = one {
            let found = (one.name, one.topic_id, one.index, &expected[one.records]);
            prop_assert_eq!((one.acks, one.timeout_ms, Some(found)), (acks, timeout_ms, only));
        }

        for end in 0..out.len() {
            prop_assert!(ProduceRequest::decode(&out[..end], version).is_err());
            prop_assert!(ProduceOne::decode(&out[..end], version).is_none());
        }
        for (at, byte) in damage {
            let at = at.index(out.len());
            out[at] ^= byte;
            if let Ok(request) = ProduceRequest::decode(&out, version) {
                let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
                for range in partitions.filter_map(|partition| partition.records.clone()) {
                    prop_assert!(out.get(range).is_some());
                }
            }
            if let Some(one) = ProduceOne::decode(&out, version) {
                prop_assert!(out.get(one.records).is_some());
                prop_assert!(ProduceRequest::decode(&out, version).is_ok());
            }
            let _ = ProduceResponse::decode(&out, version);
        }
    }

    #[test]
    fn responses_agree(
        version in VERSION_MIN..=VERSION_MAX,
        throttle_time_ms: i32,
        topics in vec(("[a-z]{1,4}", any::<[u8; 16]>(), vec(partition_response(), 0..3)), 0..3),
        endpoints in vec((any::<i32>(), "[a-z.]{0,9}", any::<i32>(), option::of("[a-z]{0,3}")), 0..3),
    ) {
        let by_id = version >= TOPIC_ID_FROM;
        let ours = ProduceResponse {
            topics: topics.into_iter().map(|(name, id, partitions)| ProduceTopicResponse {
                name: if by_id { String::new() } else { name },
                topic_id: if by_id { TopicId(id) } else { TopicId::NONE },
                partitions: partitions.into_iter().map(|full| masked(full, version)).collect(),
            }).collect(),
            throttle_time_ms,
            node_endpoints: endpoints.into_iter().filter(|_| version >= 10).map(|endpoint| {
                let (node_id, host, port, rack) = endpoint;
                NodeEndpoint { node_id: NodeId(node_id), host, port, rack }
            }).collect(),
        };
        let mut out = Vec::new();
        ours.encode(&mut out, version);

        let oracle = theirs::ProduceResponse::default()
            .with_throttle_time_ms(throttle_time_ms)
            .with_node_endpoints(ours.node_endpoints.iter().map(|endpoint| {
                theirs::produce_response::NodeEndpoint::default()
                    .with_node_id(BrokerId(endpoint.node_id.0))
                    .with_host(text(&endpoint.host))
                    .with_port(endpoint.port)
                    .with_rack(endpoint.rack.as_deref().map(text))
            }).collect())
            .with_responses(ours.topics.iter().map(|topic| {
                theirs::produce_response::TopicProduceResponse::default()
                    .with_name(TopicName(text(&topic.name)))
                    .with_topic_id(uuid::Uuid::from_bytes(topic.topic_id.0))
                    .with_partition_responses(topic.partitions.iter().map(to_theirs).collect())
            }).collect());
        let mut expected = Vec::new();
        oracle.encode(&mut expected, version).expect("encodes");
        prop_assert_eq!(&out, &expected);
        let back = ProduceResponse::decode(&expected, version);
        prop_assert_eq!(back.as_ref(), Ok(&ours));
        for topic in &ours.topics {
            for partition in &topic.partitions {
                let alone = ProduceTopicResponse {
                    partitions: vec![partition.clone()],
                    ..topic.clone()
                };
                let (mut whole, mut one) = (Vec::new(), Vec::new());
                let alone = ProduceResponse { topics: vec![alone], ..ProduceResponse::default() };
                alone.encode(&mut whole, version);
                let (name, id) = (&topic.name, topic.topic_id);
                ProduceResponse::encode_one(&mut one, version, name, id, partition);
                prop_assert_eq!(whole, one);
            }
        }
        for end in 0..out.len() {
            prop_assert!(ProduceResponse::decode(&out[..end], version).is_err());
        }
    }
}

fn partition_response() -> impl Strategy<Value = ProducePartitionResponse> {
    (
        any::<(i32, i64, i64, i64)>(),
        vec((any::<i32>(), option::of("[a-z]{0,4}")), 0..3),
        option::of("[a-z]{0,4}"),
        option::of(any::<(i32, i32)>()),
    )
        .prop_map(|((index, base, append, start), record_errors, error_message, leader)| {
            ProducePartitionResponse {
                index: PartitionIndex(index),
                error: if base < 0 { ErrorCode::NotLeaderOrFollower } else { ErrorCode::None },
                base_offset: Offset(base),
                log_append_time_ms: append,
                log_start_offset: Offset(start),
                record_errors,
                error_message,
                current_leader: leader.map(|(id, epoch)| (NodeId(id), LeaderEpoch(epoch))),
            }
        })
}

/// What is left of a full answer in a version that lacks some fields.
fn masked(mut full: ProducePartitionResponse, version: i16) -> ProducePartitionResponse {
    let none = ProducePartitionResponse::default();
    if version < 5 {
        full.log_start_offset = none.log_start_offset;
    }
    if version < 8 {
        full.record_errors = none.record_errors;
        full.error_message = none.error_message;
    }
    if version < 10 {
        full.current_leader = none.current_leader;
    }
    full
}

fn to_theirs(
    ours: &ProducePartitionResponse,
) -> theirs::produce_response::PartitionProduceResponse {
    let mut partition = theirs::produce_response::PartitionProduceResponse::default()
        .with_index(ours.index.0)
        .with_error_code(ours.error.code())
        .with_base_offset(ours.base_offset.0)
        .with_log_append_time_ms(ours.log_append_time_ms)
        .with_log_start_offset(ours.log_start_offset.0)
        .with_error_message(ours.error_message.as_deref().map(text))
        .with_record_errors(
            ours.record_errors
                .iter()
                .map(|(index, message)| {
                    theirs::produce_response::BatchIndexAndErrorMessage::default()
                        .with_batch_index(*index)
                        .with_batch_index_error_message(message.as_deref().map(text))
                })
                .collect(),
        );
    if let Some((id, epoch)) = ours.current_leader {
        partition.current_leader = theirs::produce_response::LeaderIdAndEpoch::default()
            .with_leader_id(BrokerId(id.0))
            .with_leader_epoch(epoch.0);
    }
    partition
}

#[test]
fn other_versions_are_refused() {
    for version in [-1, 0, 2, 14, i16::MAX] {
        let error = ProduceRequest::decode(&[0; 64], version).expect_err("no such version");
        assert_eq!(error.fault, Fault::UnsupportedVersion);
        let error = ProduceResponse::decode(&[0; 64], version).expect_err("no such version");
        assert_eq!(error.fault, Fault::UnsupportedVersion);
    }
}

#[test]
fn hostile_bytes_cost_no_memory() {
    let records: &[u8] = b"records";
    for version in VERSION_MIN..=VERSION_MAX {
        let by_id = version >= TOPIC_ID_FROM;
        let topic = |partitions| ProduceTopic {
            name: if by_id { "" } else { "topic" },
            topic_id: if by_id { TopicId([7; 16]) } else { TopicId::NONE },
            partitions,
        };
        let partition = |records| ProducePartition { index: PartitionIndex(3), records };
        let both = vec![partition(Some(records)), partition(None)];
        let encoded = |topics: Vec<ProduceTopic<'_, &[u8]>>| {
            let mut out = Vec::new();
            let request =
                ProduceRequest { transactional_id: None, acks: -1, timeout_ms: 1000, topics };
            request.encode(&mut out, version);
            out
        };
        let flexible = version >= FLEXIBLE_FROM;
        let (good, empty) = (encoded(vec![topic(both.clone()), topic(both)]), encoded(Vec::new()));
        withstands((&good, &empty), flexible, &|bytes| {
            ProduceRequest::decode(bytes, version).is_ok()
        });
        let one = encoded(vec![topic(vec![partition(Some(records))])]);
        withstands((&one, &one), flexible, &|bytes| ProduceOne::decode(bytes, version).is_some());

        let partition = ProducePartitionResponse {
            record_errors: vec![(1, None); if version >= 8 { 2 } else { 0 }],
            current_leader: (version >= 10).then_some((NodeId(1), LeaderEpoch(2))),
            ..ProducePartitionResponse::default()
        };
        let topic = ProduceTopicResponse {
            name: if by_id { String::new() } else { "topic".to_owned() },
            partitions: vec![masked(partition, version); 2],
            ..ProduceTopicResponse::default()
        };
        let encoded = |topics| {
            let mut out = Vec::new();
            ProduceResponse { topics, ..ProduceResponse::default() }.encode(&mut out, version);
            out
        };
        let (good, empty) = (encoded(vec![topic.clone(), topic]), encoded(Vec::new()));
        withstands((&good, &empty), flexible, &|bytes| {
            ProduceResponse::decode(bytes, version).is_ok()
        });
    }
}
