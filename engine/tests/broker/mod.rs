//! The broker over real frames, in a RAM world: what clients of every age send, what they get, and
//! what happens to those who send rubbish.

mod admin;
mod amplify;
mod door;
mod durability;
mod groups;
mod hostile;
mod looks;
mod offsets;
mod operator;
pub(crate) mod peer;
mod produce;
mod quotas;
mod refusals;
mod rest;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use peer::{Peer, To, batch, fetch_request, idempotent, start, values};
use trialog_engine::broker::Shared;
use trialog_engine::id::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use trialog_engine::io::ram::{Loss, Ram};
use trialog_engine::io::{Instant, Io};
use trialog_engine::wire::api::{
    ApiVersionsRequest, InitProducerIdRequest, ListOffsetsPartition, ListOffsetsRequest,
    ListOffsetsTopic, MetadataRequest, MetadataRequestTopic, MetadataResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use trialog_engine::wire::code::ErrorCode;

/// Runs `body` with a broker of `cores` cores and one peer.
fn with_broker(
    cores: u16,
    settings: &[(&str, &str)],
    body: impl AsyncFnOnce(Ram, Arc<Shared<Ram>>, Peer),
) {
    let ram = Ram::new(7);
    let world = ram.clone();
    ram.block_on(async {
        let shared = start(&world, cores, settings);
        let peer = Peer::connect(&world, &shared).await;
        body(world.clone(), shared, peer).await;
    });
}

async fn topic<'a>(peer: &mut Peer, name: &'a str, configs: &[(&str, &str)]) -> To<'a> {
    let made = peer.create(name, 3, configs).await;
    assert_eq!(made.topics[0].error_code, 0, "{:?}", made.topics[0].error_message);
    To { name, id: made.topics[0].topic_id, index: PartitionIndex(1) }
}

async fn metadata(peer: &mut Peer, version: i16, name: &str) -> MetadataResponse {
    let topic = MetadataRequestTopic { name: Some(name.to_owned()), ..Default::default() };
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: true,
        ..MetadataRequest::default()
    };
    peer.call(version, &request).await
}

async fn offset_at(peer: &mut Peer, version: i16, to: &To<'_>, timestamp: i64) -> (i16, i64, i64) {
    let partition =
        ListOffsetsPartition { partition_index: to.index.0, current_leader_epoch: -1, timestamp };
    let topic = ListOffsetsTopic { name: to.name.to_owned(), partitions: vec![partition] };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    let found = peer.call(version, &request).await.topics[0].partitions[0].clone();
    (found.error_code, found.offset, found.timestamp)
}

#[test]
fn every_version_produces_and_fetches_the_same_records() {
    with_broker(2, &[], async |_, _, mut peer| {
        let to = topic(&mut peer, "all-versions", &[]).await;
        let mut sent = Vec::new();
        for version in 3..=13 {
            let value = format!("by version {version}");
            let answer = peer.produce(version, &to, &batch(&[&value, "and more"])).await;
            assert_eq!(answer.error, ErrorCode::None, "version {version}");
            assert_eq!(answer.base_offset, Offset(sent.len() as i64));
            sent.extend([value, "and more".to_owned()]);
        }
        let expected: Vec<_> = (0..).zip(sent.iter().cloned()).collect();
        for version in 4..=18 {
            let (partition, records) = peer.fetch(version, &to, 0, 0).await;
            assert_eq!(partition.error, ErrorCode::None, "version {version}");
            assert_eq!(partition.high_watermark, Offset(22));
            assert_eq!(values(&records), expected, "version {version}");
            // In the middle of a batch: the whole batch comes.
            let (_, records) = peer.fetch(version, &to, 3, 0).await;
            assert_eq!(values(&records)[0].0, 2);
            let (partition, _) = peer.fetch(version, &to, 99, 0).await;
            assert_eq!(partition.error, ErrorCode::OffsetOutOfRange);
        }
    });
}

#[test]
fn answers_keep_their_order_and_pipelined_produces_theirs() {
    with_broker(2, &[], async |_, _, mut peer| {
        let to = topic(&mut peer, "pipeline", &[]).await;
        for number in 0..100 {
            peer.send_produce(9, &to, -1, &batch(&[&number.to_string()])).await;
        }
        for number in 0..100 {
            let answer = peer.receive_produce(9).await;
            assert_eq!((answer.error, answer.base_offset), (ErrorCode::None, Offset(number)));
        }
        let (_, records) = peer.fetch(12, &to, 0, 0).await;
        let expected: Vec<_> = (0..100).map(|number| (number, number.to_string())).collect();
        assert_eq!(values(&records), expected);
    });
}

/// What one receive brings is handed on in trains; what does not fit into one, and what is refused,
/// leaves them where it stands.
#[test]
fn produces_that_come_together_are_answered_one_by_one_and_in_order() {
    with_broker(2, &[], async |_, _, mut peer| {
        let one = topic(&mut peer, "together", &[]).await;
        let two = To { index: PartitionIndex(2), ..one };
        let unnamed = To { name: "", ..one };
        let by_name = To { id: TopicId::NONE, ..one };
        let first = peer.last_sent() + 1;
        let good = |value: &str| batch(&[value]);
        let mut damaged = batch(&["bits"]);
        *damaged.last_mut().expect("bytes") ^= 1;
        peer.hold();
        peer.send_produce(9, &by_name, -1, &good("a")).await;
        peer.send_produce(9, &by_name, -1, &batch(&["b", "c"])).await;
        peer.send_produce(9, &two, -1, &good("x")).await;
        peer.send_produce(9, &by_name, -1, &good("d")).await;
        peer.send_produce(9, &by_name, -1, &damaged).await;
        peer.send_produce(9, &by_name, 1, &good("e")).await;
        peer.send_produce(13, &unnamed, 1, &good("f")).await;
        peer.send_produce(9, &by_name, 0, &good("silent")).await;
        peer.send_produce(9, &by_name, 1, &good("g")).await;
        peer.release().await;
        let expected = [
            (9, ErrorCode::None, 0),
            (9, ErrorCode::None, 1),
            (9, ErrorCode::None, 0),
            (9, ErrorCode::None, 3),
            (9, ErrorCode::CorruptMessage, -1),
            (9, ErrorCode::None, 4),
            (13, ErrorCode::None, 5),
        ];
        for (number, (version, error, base)) in (first..).zip(expected) {
            let (id, answer) = peer.receive_numbered(version).await;
            assert_eq!((id, answer.error, answer.base_offset), (number, error, Offset(base)));
        }
        let (id, answer) = peer.receive_numbered(9).await;
        assert_eq!((id, answer.base_offset), (first + 8, Offset(7)), "acks=0 is not answered");
        let (_, records) = peer.fetch(12, &by_name, 0, 0).await;
        let read: Vec<_> = values(&records).into_iter().map(|(_, value)| value).collect();
        assert_eq!(read, ["a", "b", "c", "d", "e", "f", "silent", "g"]);
        // What is whole is answered before what is no request ends the connection.
        peer.hold();
        peer.send_produce(9, &by_name, -1, &good("last")).await;
        peer.send_raw(&[0xff; 4]).await;
        peer.release().await;
        assert_eq!(peer.receive_produce(9).await.base_offset, Offset(8));
        assert!(peer.receive().await.is_none());
    });
}

/// More than a train takes, more than may be in flight, and one of them refused by the partition.
#[test]
fn a_long_row_of_produces_is_cut_into_trains() {
    with_broker(1, &[("trialog.requests.in.flight.max", "3")], async |_, _, mut peer| {
        let to = topic(&mut peer, "row", &[]).await;
        let producer = peer.call(4, &InitProducerIdRequest::default()).await.producer_id;
        peer.hold();
        // One of them leaves a gap; what follows it goes on where the others were.
        let sequence = |number| if number > 100 { number - 1 } else { number };
        for number in 0..200 {
            let sequence = if number == 100 { 500 } else { sequence(number) };
            peer.send_produce(9, &to, -1, &idempotent(producer, 0, sequence, &["x"])).await;
        }
        peer.release().await;
        for number in 0..200 {
            let expected = match number {
                100 => (ErrorCode::OutOfOrderSequenceNumber, -1),
                _ => (ErrorCode::None, i64::from(sequence(number))),
            };
            let answer = peer.receive_produce(9).await;
            assert_eq!((answer.error, answer.base_offset.0), expected, "answer {number}");
        }
    });
}

/// QUEUE-1: many are sent at once, and three at a time wait for the disk.
#[test]
fn no_more_requests_are_under_way_than_may_be() {
    with_broker(1, &[("trialog.requests.in.flight.max", "3")], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "three-by-three", &[]).await;
        peer.hold();
        for _ in 0..60 {
            peer.send_produce(9, &to, -1, &batch(&["x"])).await;
        }
        peer.release().await;
        let mut most = 0;
        for _ in 0..2000 {
            let waiting = shared.readings().iter().map(|reading| reading.waiting).sum::<u64>();
            most = most.max(waiting);
            ram.sleep(Duration::from_nanos(100)).await;
        }
        for _ in 0..60 {
            assert_eq!(peer.receive_produce(9).await.error, ErrorCode::None);
        }
        // One of them may be on its way to the log whenever somebody looks.
        assert!((2..=3).contains(&most), "{most} at once");
    });
}

#[test]
fn a_fetch_waits_for_data_and_for_no_longer_than_it_says() {
    with_broker(2, &[], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "waiting", &[]).await;
        let began = ram.now();
        let (partition, records) = peer.fetch(12, &to, 0, 500).await;
        assert_eq!((partition.error, records.len()), (ErrorCode::None, 0));
        let waited = ram.now().since(began).as_millis();
        assert!((500..600).contains(&waited), "{waited} ms");

        let mut other = Peer::connect(&ram, &shared).await;
        peer.send_fetch(12, &fetch_request(&to, 0, 60_000)).await;
        let began: Instant = ram.now();
        other.produce(9, &to, &batch(&["wake up"])).await;
        let (_, records) = peer.receive_fetch(12).await;
        assert_eq!(values(&records), [(0, "wake up".to_owned())]);
        assert!(ram.now().since(began).as_secs() < 1);
    });
}

/// What was there at first, and what was written while it waited, although neither was enough.
#[test]
fn a_fetch_whose_time_is_up_brings_what_there_is() {
    with_broker(2, &[], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "too-little", &[]).await;
        let mut other = Peer::connect(&ram, &shared).await;
        // With a session and without: they wait in different ways.
        for (round, session_epoch) in [-1, 0, -1, 0].into_iter().enumerate() {
            // Where there is nothing yet, and where there is something.
            let from = if round < 2 { round as i64 } else { 0 };
            let mut request = fetch_request(&to, from, 500);
            (request.min_bytes, request.session_epoch) = (1 << 20, session_epoch);
            let began = ram.now();
            peer.send_fetch(12, &request).await;
            ram.sleep(Duration::from_millis(100)).await;
            other.produce(9, &to, &batch(&["meanwhile"])).await;
            let (answer, records) = peer.receive_fetch(12).await;
            let end = round as i64 + 1;
            let waited = ram.now().since(began).as_millis();
            assert!((500..600).contains(&waited), "{waited} ms");
            assert_eq!(answer.topics[0].partitions[0].high_watermark, Offset(end));
            let offsets: Vec<_> = values(&records).into_iter().map(|(offset, _)| offset).collect();
            assert_eq!(offsets, (from..end).collect::<Vec<_>>());
        }
    });
}

#[test]
fn incremental_sessions_name_only_what_is_new() {
    with_broker(1, &[], async |_, _, mut peer| {
        let to = topic(&mut peer, "session", &[]).await;
        let mut request = fetch_request(&to, 0, 0);
        request.session_epoch = 0;
        peer.send_fetch(13, &request).await;
        let (full, _) = peer.receive_fetch(13).await;
        assert_ne!(full.session_id, 0);
        assert_eq!(full.topics.len(), 1);

        request.session_id = full.session_id;
        request.session_epoch = 1;
        request.topics.clear();
        peer.send_fetch(13, &request).await;
        let (quiet, _) = peer.receive_fetch(13).await;
        assert_eq!((quiet.error, quiet.topics.len()), (ErrorCode::None, 0));

        peer.produce(9, &to, &batch(&["news"])).await;
        request.session_epoch = 2;
        peer.send_fetch(13, &request).await;
        let (news, records) = peer.receive_fetch(13).await;
        assert_eq!(news.topics[0].partitions[0].index, to.index);
        assert_eq!(values(&records), [(0, "news".to_owned())]);

        peer.send_fetch(13, &request).await;
        let (again, _) = peer.receive_fetch(13).await;
        assert_eq!(again.error, ErrorCode::InvalidFetchSessionEpoch);
    });
}

#[test]
fn an_idempotent_producer_is_heard_once_and_in_order() {
    with_broker(2, &[], async |_, _, mut peer| {
        let to = topic(&mut peer, "idempotent", &[]).await;
        let first = peer.call(4, &InitProducerIdRequest::default()).await;
        let second = peer.call(5, &InitProducerIdRequest::default()).await;
        assert_eq!((first.error_code, second.error_code), (0, 0));
        assert_ne!(first.producer_id, second.producer_id);
        let send = |sequence, value| idempotent(first.producer_id, 0, sequence, &[value]);
        for (sequence, value) in [(0, "a"), (1, "b"), (2, "c")] {
            let answer = peer.produce(9, &to, &send(sequence, value)).await;
            assert_eq!(
                (answer.error, answer.base_offset.0),
                (ErrorCode::None, i64::from(sequence))
            );
        }
        let again = peer.produce(9, &to, &send(1, "b")).await;
        assert_eq!((again.error, again.base_offset), (ErrorCode::None, Offset(1)));
        let gap = peer.produce(9, &to, &send(7, "x")).await;
        assert_eq!(gap.error, ErrorCode::OutOfOrderSequenceNumber);
        let (_, records) = peer.fetch(12, &to, 0, 0).await;
        let read: Vec<_> = values(&records).into_iter().map(|(_, value)| value).collect();
        assert_eq!(read, ["a", "b", "c"]);
    });
}

/// KIP-360: a producer that lost track raises its epoch and begins at 0. From then on nothing of an
/// older epoch is taken, after a power cut neither; other partitions know nothing of it.
#[test]
fn a_raised_epoch_keeps_out_what_is_older() {
    let ram = Ram::new(7);
    let world = ram.clone();
    let tries = async |peer: &mut Peer, to: &To<'_>, id, epoch, sequence, value: &str| {
        let answer = peer.produce(9, to, &idempotent(id, epoch, sequence, &[value])).await;
        (answer.error, answer.base_offset.0)
    };
    let refused = |code| (code, -1);
    let id = ram.block_on(async {
        let shared = start(&world, 2, &[]);
        let mut peer = Peer::connect(&world, &shared).await;
        let to = topic(&mut peer, "fenced", &[]).await;
        let other = To { index: PartitionIndex(2), ..to };
        let id = peer.call(4, &InitProducerIdRequest::default()).await.producer_id;
        assert_eq!(tries(&mut peer, &to, id, 0, 0, "a").await, (ErrorCode::None, 0));
        assert_eq!(tries(&mut peer, &other, id, 0, 0, "a").await, (ErrorCode::None, 0));
        // A new epoch begins at 0, and until it has begun the old one goes on.
        let gap = refused(ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(tries(&mut peer, &to, id, 1, 1, "x").await, gap);
        assert_eq!(tries(&mut peer, &to, id, 0, 1, "b").await, (ErrorCode::None, 1));
        assert_eq!(tries(&mut peer, &to, id, 1, 0, "c").await, (ErrorCode::None, 2));
        let fenced = refused(ErrorCode::InvalidProducerEpoch);
        assert_eq!(tries(&mut peer, &to, id, 0, 2, "x").await, fenced);
        // What it has of the old epoch is no duplicate any more: its sender is not who it was.
        assert_eq!(tries(&mut peer, &to, id, 0, 1, "b").await, fenced);
        assert_eq!(tries(&mut peer, &to, id, 1, 0, "c").await, (ErrorCode::None, 2));
        assert_eq!(tries(&mut peer, &other, id, 0, 1, "b").await, (ErrorCode::None, 1));
        id
    });
    let ram = ram.crash(Loss::Everything);
    let world = ram.clone();
    ram.block_on(async {
        let shared = start(&world, 2, &[]);
        let mut peer = Peer::connect(&world, &shared).await;
        let known = metadata(&mut peer, 12, "fenced").await.topics[0].topic_id;
        let to = To { name: "fenced", id: known, index: PartitionIndex(1) };
        let fenced = refused(ErrorCode::InvalidProducerEpoch);
        assert_eq!(tries(&mut peer, &to, id, 0, 2, "x").await, fenced);
        assert_eq!(tries(&mut peer, &to, id, 1, 1, "d").await, (ErrorCode::None, 3));
        let (_, records) = peer.fetch(12, &to, 0, 0).await;
        let read: Vec<_> = values(&records).into_iter().map(|(_, value)| value).collect();
        assert_eq!(read, ["a", "b", "c", "d"]);
    });
}

/// As Kafka's broker: a producer without a transactional id gets a new id whatever it had, and half
/// an identity is a mistake.
#[test]
fn an_identity_is_asked_for_with_a_whole_one_or_with_none() {
    with_broker(1, &[], async |_, _, mut peer| {
        let had = peer.call(5, &InitProducerIdRequest::default()).await;
        let asks = |producer_id, producer_epoch| InitProducerIdRequest {
            producer_id,
            producer_epoch,
            ..InitProducerIdRequest::default()
        };
        let again = peer.call(5, &asks(had.producer_id, 3)).await;
        assert_eq!((again.error_code, again.producer_epoch), (0, 0));
        assert_ne!(again.producer_id, had.producer_id);
        for (id, epoch) in [(had.producer_id, -1), (-1, 3)] {
            let refused = peer.call(5, &asks(id, epoch)).await;
            assert_eq!(refused.error_code, ErrorCode::InvalidRequest.code());
            assert_eq!((refused.producer_id, refused.producer_epoch), (-1, -1));
        }
    });
}

#[test]
fn acks_0_is_silent_and_closes_on_errors() {
    with_broker(1, &[], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "silent", &[]).await;
        peer.send_produce(9, &to, 0, &batch(&["one"])).await;
        // The next answer on the connection is the fetch's.
        let (_, records) = peer.fetch(12, &to, 0, 10_000).await;
        assert_eq!(values(&records), [(0, "one".to_owned())]);
        let missing = To { name: "missing", ..to };
        peer.send_produce(9, &missing, 0, &batch(&["lost"])).await;
        assert_eq!(peer.receive().await, None);

        let mut peer = Peer::connect(&ram, &shared).await;
        peer.send_produce(9, &missing, 1, &batch(&["lost"])).await;
        assert_eq!(peer.receive_produce(9).await.error, ErrorCode::UnknownTopicOrPartition);
        let known = To { name: "silent", ..missing };
        peer.send_produce(9, &known, 7, &batch(&["lost"])).await;
        assert_eq!(peer.receive_produce(9).await.error, ErrorCode::InvalidRequiredAcks);
    });
}

/// A process was killed when it had just made the data folder, whose name was not on the disk yet.
#[test]
fn a_data_folder_that_was_there_already_survives_a_power_cut() {
    let ram = Ram::new(4);
    let world = ram.clone();
    ram.block_on(async {
        world.make_dir(std::path::Path::new("/data")).await.expect("there is none");
        let shared = start(&world, 1, &[]);
        let mut peer = Peer::connect(&world, &shared).await;
        let to = topic(&mut peer, "kept", &[]).await;
        assert_eq!(peer.produce(9, &to, &batch(&["a"])).await.error, ErrorCode::None);
    });
    let ram = ram.crash(Loss::Everything);
    let world = ram.clone();
    ram.block_on(async {
        let shared = start(&world, 1, &[("auto.create.topics.enable", "false")]);
        let mut peer = Peer::connect(&world, &shared).await;
        let there = metadata(&mut peer, 12, "kept").await;
        let id = there.topics[0].topic_id;
        let to = To { name: "kept", id, index: PartitionIndex(1) };
        let (_, records) = peer.fetch(13, &to, 0, 0).await;
        assert_eq!(values(&records), [(0, "a".to_owned())]);
    });
}

#[test]
fn topics_come_by_asking_and_survive_a_power_cut_with_a_higher_epoch() {
    let ram = Ram::new(3);
    let world = ram.clone();
    let before = ram.block_on(async {
        let shared = start(&world, 2, &[("num.partitions", "4")]);
        let mut peer = Peer::connect(&world, &shared).await;
        let made = metadata(&mut peer, 9, "auto").await;
        assert_eq!(made.topics[0].error_code, 0);
        assert_eq!(made.topics[0].partitions.len(), 4);
        assert_eq!((made.brokers[0].host.as_str(), made.brokers[0].port), ("127.0.0.1", 9092));
        let bad = metadata(&mut peer, 9, "no/such name").await;
        assert_eq!(bad.topics[0].error_code, ErrorCode::InvalidTopicException.code());
        let to = To { name: "auto", id: TopicId::NONE, index: PartitionIndex(2) };
        assert_eq!(peer.produce(9, &to, &batch(&["kept"])).await.error, ErrorCode::None);
        metadata(&mut peer, 12, "auto").await
    });
    let ram = ram.crash(Loss::Everything);
    let world = ram.clone();
    ram.block_on(async {
        // As many cores as it likes: nothing on disk depends on their number.
        let shared = start(&world, 3, &[]);
        let mut peer = Peer::connect(&world, &shared).await;
        let after = metadata(&mut peer, 12, "auto").await;
        assert_eq!(after.topics[0].topic_id, before.topics[0].topic_id);
        assert_eq!(after.cluster_id, before.cluster_id);
        let epoch = |metadata: &MetadataResponse| metadata.topics[0].partitions[2].leader_epoch;
        assert!(epoch(&after) > epoch(&before));
        let to = To { name: "auto", id: after.topics[0].topic_id, index: PartitionIndex(2) };
        let (partition, records) = peer.fetch(13, &to, 0, 0).await;
        assert_eq!(partition.high_watermark, Offset(1));
        assert_eq!(values(&records), [(0, "kept".to_owned())]);
        let answer = peer.produce(9, &to, &batch(&["next"])).await;
        assert_eq!((answer.error, answer.base_offset), (ErrorCode::None, Offset(1)));

        let asked = |current, leader_epoch| OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![OffsetForLeaderTopic {
                topic: "auto".to_owned(),
                partitions: vec![OffsetForLeaderPartition {
                    partition: 2,
                    current_leader_epoch: current,
                    leader_epoch,
                }],
            }],
        };
        let old = peer.call(4, &asked(epoch(&after), epoch(&before))).await;
        let old = &old.topics[0].partitions[0];
        assert_eq!((old.error_code, old.leader_epoch, old.end_offset), (0, epoch(&before), 1));
        let fenced = peer.call(4, &asked(epoch(&before), 0)).await;
        let code = fenced.topics[0].partitions[0].error_code;
        assert_eq!(code, ErrorCode::FencedLeaderEpoch.code());
        let mut request = fetch_request(&to, 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = LeaderEpoch(epoch(&before));
        peer.send_fetch(13, &request).await;
        let (refused, _) = peer.receive_fetch(13).await;
        assert_eq!(refused.topics[0].partitions[0].error, ErrorCode::FencedLeaderEpoch);
    });
}

#[test]
fn offsets_are_found_by_time_and_by_name() {
    with_broker(2, &[], async |_, _, mut peer| {
        let to = topic(&mut peer, "times", &[]).await;
        for version in 1..=11 {
            assert_eq!(offset_at(&mut peer, version, &to, -1).await.1, 0, "version {version}");
        }
        for at in [10, 30, 20] {
            let mut builder = trialog_engine::wire::batch::Builder::new();
            builder.push(1_700_000_000_000 + at, None, Some(b"x"), &[]);
            assert_eq!(peer.produce(9, &to, &builder.finish()).await.error, ErrorCode::None);
        }
        let base = 1_700_000_000_000;
        assert_eq!(offset_at(&mut peer, 7, &to, -1).await, (0, 3, -1));
        assert_eq!(offset_at(&mut peer, 7, &to, -2).await, (0, 0, -1));
        assert_eq!(offset_at(&mut peer, 7, &to, -3).await, (0, 1, base + 30));
        assert_eq!(offset_at(&mut peer, 7, &to, base + 11).await, (0, 1, base + 30));
        assert_eq!(offset_at(&mut peer, 7, &to, base + 31).await, (0, -1, -1));
        let too_new = offset_at(&mut peer, 6, &to, -3).await;
        assert_eq!(too_new.0, ErrorCode::UnsupportedVersion.code());
    });
}

#[test]
fn a_topics_limits_are_enforced_and_explained() {
    with_broker(1, &[], async |_, _, mut peer| {
        let to = topic(&mut peer, "small", &[("max.message.bytes", "200")]).await;
        let large = peer.produce(9, &to, &batch(&[&"x".repeat(500)])).await;
        assert_eq!(large.error, ErrorCode::MessageTooLarge);
        assert!(large.error_message.is_some());
        let mut damaged = batch(&["bits"]);
        *damaged.last_mut().expect("bytes") ^= 1;
        assert_eq!(peer.produce(9, &to, &damaged).await.error, ErrorCode::CorruptMessage);
        let again = peer.create("small", 1, &[]).await;
        assert_eq!(again.topics[0].error_code, ErrorCode::TopicAlreadyExists.code());
        let misspelt = peer.create("other", 1, &[("retention.m", "1")]).await;
        assert_eq!(misspelt.topics[0].error_code, ErrorCode::InvalidConfig.code());
        let message = misspelt.topics[0].error_message.clone().unwrap_or_default();
        assert!(message.contains("retention.ms"), "{message}");
        assert_eq!(peer.produce(9, &to, &batch(&["fits"])).await.base_offset, Offset(0));
    });
}

#[test]
fn a_deleted_topic_is_gone_and_its_name_is_free() {
    with_broker(2, &[], async |ram, _, mut peer| {
        use trialog_engine::wire::api::{DeleteTopicState, DeleteTopicsRequest};
        let old = topic(&mut peer, "again", &[]).await;
        peer.produce(9, &old, &batch(&["old"])).await;
        let state = DeleteTopicState { name: Some("again".to_owned()), topic_id: TopicId::NONE };
        let request = DeleteTopicsRequest {
            topics: vec![state],
            timeout_ms: 1000,
            ..DeleteTopicsRequest::default()
        };
        assert_eq!(peer.call(6, &request).await.responses[0].error_code, 0);
        let gone = peer.call(6, &request).await.responses[0].error_code;
        assert_eq!(gone, ErrorCode::UnknownTopicOrPartition.code());
        let new = topic(&mut peer, "again", &[]).await;
        assert_ne!(old.id, new.id);
        let (by_old_id, _) = peer.fetch(13, &old, 0, 0).await;
        assert_eq!(by_old_id.error, ErrorCode::UnknownTopicId);
        let (empty, records) = peer.fetch(13, &new, 0, 0).await;
        assert_eq!((empty.high_watermark, records.len()), (Offset(0), 0));
        ram.sleep(std::time::Duration::from_secs(1)).await;
        let folders = ram.list(std::path::Path::new("/data/topics/again")).await.expect("a folder");
        assert!(folders.iter().all(|folder| folder.name.starts_with(&new.id.to_string())));
    });
}

#[test]
fn api_versions_are_told_to_everybody() {
    with_broker(1, &[], async |_, _, mut peer| {
        for version in 0..=4 {
            let request = ApiVersionsRequest {
                client_software_name: "peer".to_owned(),
                client_software_version: "1.0".to_owned(),
            };
            let answer = peer.call(version, &request).await;
            assert_eq!(answer.error_code, 0);
            let produce = answer.api_keys.iter().find(|api| api.api_key == 0).expect("Produce");
            assert_eq!((produce.min_version, produce.max_version), (0, 13));
        }
        // An unknown version is answered with version 0.
        peer.send(18, 99, |out| out.extend_from_slice(b"whatever")).await;
        let frame = peer.receive().await.expect("an answer");
        assert_eq!(&frame[4..6], &35_i16.to_be_bytes());
        assert_eq!(&frame[6..16], &[0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
    });
}

#[test]
fn a_stop_is_clean_and_the_folder_is_free_again() {
    with_broker(3, &[], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "stopped", &[]).await;
        peer.produce(9, &to, &batch(&["kept"])).await;
        shared.stop();
        ram.sleep(std::time::Duration::from_secs(5)).await;
        let again = start(&ram, 1, &[]);
        let mut peer = Peer::connect(&ram, &again).await;
        let (_, records) = peer.fetch(12, &to, 0, 0).await;
        assert_eq!(values(&records), [(0, "kept".to_owned())]);
    });
}
