//! Produces that are refused, in whole or in part.

use trialog_engine::id::{Offset, PartitionIndex, ProducerEpoch, ProducerId};
use trialog_engine::limit::RECORD_ERRORS_PER_REQUEST_MAX;
use trialog_engine::wire::api::{ApiKey, DescribeProducersRequest, DescribeProducersTopicRequest};
use trialog_engine::wire::batch::{Builder, Compression};
use trialog_engine::wire::code::ErrorCode;
use trialog_engine::wire::frame;
use trialog_engine::wire::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic,
};

use super::peer::{Peer, To, batch, fetch_request};
use super::{topic, with_broker};

fn one(builder: Builder) -> Vec<u8> {
    let mut builder = builder;
    builder.push(1_700_000_000_000, Some(b"key"), Some(b"value"), &[]);
    builder.finish()
}

fn of_producer() -> Builder {
    Builder::new().producer(ProducerId(4000), ProducerEpoch(0), 0)
}

/// Sends batches to partitions of one topic with one request, and takes the answers about them.
async fn produce_all(
    peer: &mut Peer,
    to: &To<'_>,
    batches: &[(i32, Vec<u8>)],
) -> Vec<ProducePartitionResponse> {
    let partition = |(index, batch): &(i32, Vec<u8>)| ProducePartition {
        index: PartitionIndex(*index),
        records: Some(batch.clone()),
    };
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![ProduceTopic {
            name: to.name,
            topic_id: to.id,
            partitions: batches.iter().map(partition).collect(),
        }],
    };
    peer.send(ApiKey::Produce as i16, 9, |out| request.encode(out, 9)).await;
    let frame = peer.receive().await.expect("an answer");
    let body = frame::response_body(&frame, ApiKey::Produce as i16, 9).expect("a header");
    let mut response = ProduceResponse::decode(&frame[body..], 9).expect("an answer");
    response.topics.remove(0).partitions
}

/// A transaction that nothing can end would hold its producer and the topic's compaction for ever.
/// Requests of one batch are taken in trains, but where batches are compressed anew.
#[test]
fn nothing_opens_a_transaction_and_nobody_writes_markers() {
    with_broker(1, &[], async |_, _, mut peer| {
        for (name, configs) in [("coupled", &[][..]), ("alone", &[("compression.type", "gzip")])] {
            let to = topic(&mut peer, name, configs).await;
            let opening = one(of_producer().transactional());
            let marker = one(of_producer().control());
            let ending = one(of_producer().transactional().control());
            for (batch, code) in [
                (&opening, ErrorCode::InvalidTxnState),
                (&marker, ErrorCode::InvalidRecord),
                (&ending, ErrorCode::InvalidRecord),
            ] {
                for version in [3, 9, 13] {
                    let answer = peer.produce(version, &to, batch).await;
                    assert_eq!((answer.error, answer.base_offset), (code, Offset(-1)), "{name}");
                }
            }
            // With others in one request, which are taken.
            let batches = [(0, opening.clone()), (1, one(of_producer())), (2, marker)];
            let answers = produce_all(&mut peer, &to, &batches).await;
            let told: Vec<_> = answers.iter().map(|one| (one.error, one.base_offset.0)).collect();
            let refused = [(ErrorCode::InvalidTxnState, -1), (ErrorCode::InvalidRecord, -1)];
            assert_eq!(told, [refused[0], (ErrorCode::None, 0), refused[1]], "{name}");
            let asked = DescribeProducersTopicRequest {
                name: name.to_owned(),
                partition_indexes: vec![0, 1, 2],
            };
            let request = DescribeProducersRequest { topics: vec![asked] };
            let known = peer.call(0, &request).await.topics[0].partitions.clone();
            let open: Vec<_> = known
                .iter()
                .flat_map(|one| &one.active_producers)
                .map(|producer| producer.current_txn_start_offset)
                .collect();
            assert_eq!(open, [-1], "{name}: one producer, and no transaction of it");
        }
    });
}

#[test]
fn a_transaction_without_an_answer_closes_the_connection() {
    with_broker(1, &[], async |_, _, mut peer| {
        let to = topic(&mut peer, "silent", &[]).await;
        peer.send_produce(9, &to, 0, &one(of_producer().transactional())).await;
        // Were it open still, this would be answered.
        peer.send_fetch(12, &fetch_request(&to, 0, 0)).await;
        assert_eq!(peer.receive().await, None);
    });
}

/// A hundred records that are a few bytes compressed, each with a sentence about it: many such batches
/// in one request would have an answer larger than any frame.
#[test]
fn the_records_that_one_answer_names_are_bounded() {
    with_broker(1, &[], async |_, _, mut peer| {
        let to = topic(&mut peer, "keyed", &[("cleanup.policy", "compact")]).await;
        let mut builder = Builder::new().compression(Compression::Zstd);
        for _ in 0..100 {
            builder.push(1_700_000_000_000, None, None, &[]);
        }
        let bad = builder.finish();
        let count = 2 * RECORD_ERRORS_PER_REQUEST_MAX / 100;
        let batches: Vec<_> = (0..count).map(|_| (1, bad.clone())).collect();
        let answers = produce_all(&mut peer, &to, &batches).await;
        assert_eq!(answers.len(), count);
        assert!(answers.iter().all(|one| one.error == ErrorCode::InvalidRecord));
        assert!(answers.iter().all(|one| one.error_message.is_some()));
        assert_eq!(answers[0].record_errors.len(), 100);
        let named: usize = answers.iter().map(|one| one.record_errors.len()).sum();
        assert_eq!(named, RECORD_ERRORS_PER_REQUEST_MAX);
        // The next request may name as many again.
        assert_eq!(peer.produce(9, &to, &bad).await.record_errors.len(), 100);
        assert_eq!(peer.produce(9, &to, &batch(&["no key"])).await.record_errors.len(), 1);
    });
}
