//! Produce: which version, request or answer, then the bytes.

use trialog_engine::id::{LeaderEpoch, NodeId, PartitionIndex, TopicId};
use trialog_engine::wire::code::ErrorCode;
use trialog_engine::wire::produce::{
    ProduceOne, ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse,
    ProduceTopic, ProduceTopicResponse, VERSION_MAX, VERSION_MIN,
};

use crate::numbers::byte;

pub fn run(mut data: &[u8]) {
    let version = VERSION_MIN + i16::from(byte(&mut data)) % (VERSION_MAX - VERSION_MIN + 1);
    if byte(&mut data) % 4 == 0 {
        answer(data, version);
    } else {
        request(data, version);
    }
}

fn request(data: &[u8], version: i16) {
    let decoded = ProduceRequest::decode(data, version);
    // What the short way takes, the long way takes for the same.
    if let Some(one) = ProduceOne::decode(data, version) {
        let ProduceOne { acks, timeout_ms, name, topic_id, index, records } = one;
        let partitions = vec![ProducePartition { index, records: Some(records) }];
        let topics = vec![ProduceTopic { name, topic_id, partitions }];
        let whole = ProduceRequest { transactional_id: None, acks, timeout_ms, topics };
        assert_eq!(decoded.as_ref(), Ok(&whole));
    }
    let Ok(decoded) = decoded else { return };
    let sliced = over(&decoded, data);
    let mut again = Vec::new();
    sliced.encode(&mut again, version);
    let second = ProduceRequest::decode(&again, version).expect("what we wrote");
    assert_eq!(over(&second, &again), sliced);
}

/// The same request with the records themselves.
fn over<'a>(request: &ProduceRequest<'a>, bytes: &'a [u8]) -> ProduceRequest<'a, &'a [u8]> {
    let topic = |topic: &ProduceTopic<'a>| ProduceTopic {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| ProducePartition {
                index: partition.index,
                records: partition.records.clone().map(|range| &bytes[range]),
            })
            .collect(),
    };
    ProduceRequest {
        transactional_id: request.transactional_id,
        acks: request.acks,
        timeout_ms: request.timeout_ms,
        topics: request.topics.iter().map(topic).collect(),
    }
}

fn answer(data: &[u8], version: i16) {
    let Ok(decoded) = ProduceResponse::decode(data, version) else { return };
    let mut again = Vec::new();
    decoded.encode(&mut again, version);
    assert_eq!(ProduceResponse::decode(&again, version).as_ref(), Ok(&decoded));
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for version in VERSION_MIN..=VERSION_MAX {
        let step = (version - VERSION_MIN) as u8;
        for (transactional_id, topics, partitions) in [(None, 1, 1), (Some("t"), 2, 3)] {
            let one = |index| ProducePartition {
                index: PartitionIndex(index),
                records: (index != 2).then_some(&[7_u8; 70][..]),
            };
            let topic = ProduceTopic {
                name: "topic",
                topic_id: TopicId::from_random(1, 2),
                partitions: (0..partitions).map(one).collect(),
            };
            let topics = vec![topic; topics];
            let request = ProduceRequest { transactional_id, acks: -1, timeout_ms: 9, topics };
            let mut seed = vec![step, 1];
            request.encode(&mut seed, version);
            seeds.push(seed);
            let partition = ProducePartitionResponse {
                error: ErrorCode::InvalidRecord,
                record_errors: vec![(0, None), (5, Some("why".to_owned()))],
                error_message: Some("what".to_owned()),
                current_leader: Some((NodeId(3), LeaderEpoch(4))),
                ..ProducePartitionResponse::default()
            };
            let topic = ProduceTopicResponse {
                name: "topic".to_owned(),
                topic_id: TopicId::from_random(1, 2),
                partitions: vec![partition; partitions as usize],
            };
            let topics = vec![topic];
            let answer = ProduceResponse { topics, ..ProduceResponse::default() };
            let mut seed = vec![step, 0];
            answer.encode(&mut seed, version);
            seeds.push(seed);
        }
    }
    seeds
}
