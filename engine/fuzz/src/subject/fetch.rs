//! Fetch: which version, request or answer, then the bytes.

use std::ops::Range;

use trialog_engine::id::{LeaderEpoch, NodeId, Offset, ProducerId, TopicId};
use trialog_engine::wire::fetch::{
    FetchOne, FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic,
    FetchTopicResponse, ForgottenTopic, VERSION_MAX, VERSION_MIN,
};

use crate::numbers::byte;

pub fn run(mut data: &[u8]) {
    let version = VERSION_MIN + i16::from(byte(&mut data)) % (VERSION_MAX - VERSION_MIN + 1);
    if byte(&mut data) % 3 == 0 {
        answer(data, version);
    } else {
        request(data, version);
    }
}

fn request(data: &[u8], version: i16) {
    let decoded = FetchRequest::decode(data, version);
    // What the short way takes, the long way takes for the same.
    if let Some(one) = FetchOne::decode(data, version) {
        let whole = decoded.as_ref().expect("the long way takes it too");
        let topic = FetchTopic {
            name: one.name.to_owned(),
            topic_id: one.topic_id,
            partitions: vec![one.partition],
        };
        assert_eq!(whole.topics, [topic]);
        assert_eq!(
            (one.max_wait_ms, one.min_bytes, one.max_bytes),
            (whole.max_wait_ms, whole.min_bytes, whole.max_bytes)
        );
        assert!(whole.forgotten_topics.is_empty() && whole.replica_id.0 < 0);
    }
    let Ok(decoded) = decoded else { return };
    let mut again = Vec::new();
    decoded.encode(&mut again, version);
    assert_eq!(FetchRequest::decode(&again, version).as_ref(), Ok(&decoded));
}

fn answer(data: &[u8], version: i16) {
    let Ok(decoded) = FetchResponse::<Range<usize>>::decode(data, version) else { return };
    let again = written(&decoded, data, version);
    let second = FetchResponse::<Range<usize>>::decode(&again, version).expect("what we wrote");
    assert_eq!(sized(&second), sized(&decoded));
    assert!(records(&second, &again).eq(records(&decoded, data)));
}

fn records<'a>(
    answer: &'a FetchResponse<Range<usize>>,
    bytes: &'a [u8],
) -> impl Iterator<Item = &'a [u8]> {
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| &bytes[partition.records.clone()])
}

/// The same with the lengths of the records, as a broker makes it.
fn sized(answer: &FetchResponse<Range<usize>>) -> FetchResponse {
    let partition = |partition: &FetchPartitionResponse<Range<usize>>| FetchPartitionResponse {
        index: partition.index,
        error: partition.error,
        high_watermark: partition.high_watermark,
        last_stable_offset: partition.last_stable_offset,
        log_start_offset: partition.log_start_offset,
        aborted: partition.aborted.clone(),
        diverging_epoch: partition.diverging_epoch,
        current_leader: partition.current_leader,
        preferred_read_replica: partition.preferred_read_replica,
        records: partition.records.len() as u32,
    };
    let topic = |topic: &FetchTopicResponse<Range<usize>>| FetchTopicResponse {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().map(partition).collect(),
    };
    FetchResponse {
        throttle_time_ms: answer.throttle_time_ms,
        error: answer.error,
        session_id: answer.session_id,
        topics: answer.topics.iter().map(topic).collect(),
        node_endpoints: answer.node_endpoints.clone(),
    }
}

/// The head, with the records put into its holes.
fn written(answer: &FetchResponse<Range<usize>>, bytes: &[u8], version: i16) -> Vec<u8> {
    let mut head = Vec::new();
    let holes = sized(answer).encode_head(&mut head, version);
    let (mut out, mut done) = (Vec::new(), 0);
    for (hole, records) in holes.into_iter().zip(records(answer, bytes)) {
        out.extend_from_slice(&head[done..hole]);
        out.extend_from_slice(records);
        done = hole;
    }
    out.extend_from_slice(&head[done..]);
    out
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let id = TopicId::from_random(3, 4);
    for version in VERSION_MIN..=VERSION_MAX {
        let step = (version - VERSION_MIN) as u8;
        for wide in [false, true] {
            let partition = FetchPartition {
                fetch_offset: Offset(5),
                max_bytes: 100,
                replica_directory_id: if wide { id } else { TopicId::NONE },
                ..FetchPartition::default()
            };
            let topic = FetchTopic {
                name: "topic".to_owned(),
                topic_id: id,
                partitions: vec![partition; if wide { 3 } else { 1 }],
            };
            let forgotten = ForgottenTopic { name: "gone".to_owned(), ..Default::default() };
            let request = FetchRequest {
                replica_id: NodeId(if wide { 2 } else { -1 }),
                session_epoch: -1,
                topics: vec![topic],
                forgotten_topics: if wide { vec![forgotten] } else { Vec::new() },
                cluster_id: wide.then(|| "cluster".to_owned()),
                ..FetchRequest::default()
            };
            let mut seed = vec![step, 1];
            request.encode(&mut seed, version);
            seeds.push(seed);
            let partition = FetchPartitionResponse {
                aborted: wide.then(|| vec![(ProducerId(1), Offset(2))]),
                diverging_epoch: wide.then_some((LeaderEpoch(1), Offset(2))),
                current_leader: wide.then_some((NodeId(1), LeaderEpoch(2))),
                records: 0..10,
                ..FetchPartitionResponse::default()
            };
            let topic = FetchTopicResponse {
                name: "topic".to_owned(),
                topic_id: id,
                partitions: vec![partition; if wide { 2 } else { 1 }],
            };
            let answer = FetchResponse { topics: vec![topic], ..FetchResponse::default() };
            let mut seed = vec![step, 0];
            seed.extend(written(&answer, &[9; 10], version));
            seeds.push(seed);
        }
    }
    seeds
}
