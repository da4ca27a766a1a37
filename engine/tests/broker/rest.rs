//! Partitions at rest: what they answer, what wakes them, and that nobody can tell.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trialog_engine::broker::Shared;
use trialog_engine::id::{Offset, PartitionIndex, TopicId};
use trialog_engine::io::Io;
use trialog_engine::io::ram::{Call, Effect, Fault, Loss, Ram};
use trialog_engine::wire::api::{
    DeleteTopicState, DeleteTopicsRequest, DescribeLogDirsRequest, DescribeProducersRequest,
    DescribeProducersTopicRequest,
};
use trialog_engine::wire::code::ErrorCode;

use super::admin::set_of_brokers;
use super::peer::{Peer, To, batch, fetch_request, idempotent, start, values};
use super::{offset_at, topic, with_broker};

const IDLE: (&str, &str) = ("trialog.partition.idle.ms", "1000");

/// Until everything rests.
async fn rest(ram: &Ram) {
    ram.sleep(Duration::from_secs(5)).await;
}

async fn stop(ram: &Ram, shared: &Arc<Shared<Ram>>) {
    shared.stop();
    ram.sleep(Duration::from_secs(5)).await;
}

/// How many operations on files `work` took.
async fn operations<T>(ram: &Ram, work: impl Future<Output = T>) -> (T, u64) {
    let before = ram.operations();
    let result = work.await;
    (result, ram.operations() - before)
}

#[test]
fn what_needs_no_log_is_answered_at_rest() {
    with_broker(2, &[IDLE], async |ram, _, mut peer| {
        let to = topic(&mut peer, "quiet", &[]).await;
        peer.produce(9, &to, &batch(&["a", "b"])).await;
        rest(&ram).await;
        let asked = async {
            assert_eq!(offset_at(&mut peer, 5, &to, -1).await, (0, 2, -1));
            assert_eq!(offset_at(&mut peer, 5, &to, -2).await, (0, 0, -1));
            let (end, records) = peer.fetch(12, &to, 2, 0).await;
            assert_eq!((end.error, end.high_watermark), (ErrorCode::None, Offset(2)));
            assert!(records.is_empty());
        };
        assert_eq!(operations(&ram, asked).await.1, 0, "a log was opened");
        let (read, opened) = operations(&ram, peer.fetch(12, &to, 0, 0)).await;
        assert_eq!(values(&read.1).len(), 2);
        assert!(opened > 0);
        // In use again.
        assert_eq!(operations(&ram, offset_at(&mut peer, 5, &to, 5)).await.0.0, 0);
        let beyond = peer.fetch(12, &to, 3, 0).await.0;
        assert_eq!(beyond.error, ErrorCode::OffsetOutOfRange);
    });
}

/// Descriptors come back by themselves, and so does what could not be opened without one.
#[test]
fn a_partition_that_finds_no_descriptor_is_opened_later() {
    with_broker(2, &[IDLE], async |ram, _, mut peer| {
        let to = topic(&mut peer, "starved", &[]).await;
        peer.produce(9, &to, &batch(&["a"])).await;
        rest(&ram).await;
        let (after, times) = (0, 3);
        ram.inject(Fault { call: Call::Open, after, times, effect: Effect::Scarce });
        let refused = peer.produce(9, &to, &batch(&["b"])).await;
        assert_eq!(refused.error, ErrorCode::KafkaStorageError);
        ram.sleep(Duration::from_secs(10)).await;
        let taken = peer.produce(9, &to, &batch(&["c"])).await;
        assert_eq!((taken.error, taken.base_offset), (ErrorCode::None, Offset(1)));
        let there = values(&peer.fetch(12, &to, 0, 0).await.1);
        assert_eq!(there, [(0, "a".to_owned()), (1, "c".to_owned())]);
    });
}

/// Tools that look at sizes wake nobody, also not who remembers a producer, and keep nobody awake.
#[test]
fn sizes_are_told_at_rest_and_are_no_use() {
    with_broker(2, &[IDLE], async |ram, _, mut peer| {
        let to = topic(&mut peer, "weighed", &[]).await;
        let sent = idempotent(7, 0, 0, &["a", "b"]);
        peer.produce(9, &to, &sent).await;
        let sizes = async |peer: &mut Peer| -> Vec<i64> {
            let dirs = peer.call(5, &DescribeLogDirsRequest { topics: None }).await;
            let topic = dirs.results[0].topics.iter().find(|topic| topic.name == "weighed");
            let partitions = topic.expect("it is told").partitions.iter();
            partitions.map(|partition| partition.partition_size).collect()
        };
        let expected = [0, sent.len() as i64, 0];
        // Asked all the time while it is open, it rests nevertheless.
        for _ in 0..20 {
            assert_eq!(sizes(&mut peer).await, expected);
            ram.sleep(Duration::from_millis(250)).await;
        }
        let (told, opened) = operations(&ram, sizes(&mut peer)).await;
        assert_eq!((&told[..], opened), (&expected[..], 0), "a log was opened");
        let request = DescribeProducersRequest {
            topics: vec![DescribeProducersTopicRequest {
                name: "weighed".into(),
                partition_indexes: vec![1],
            }],
        };
        let (answer, opened) = operations(&ram, peer.call(0, &request)).await;
        let ids = answer.topics[0].partitions[0].active_producers.iter();
        assert_eq!(ids.map(|one| one.producer_id).collect::<Vec<_>>(), [7]);
        assert!(opened > 0, "only the log knows them");
    });
}

/// Waiting at the end of a partition does not keep it open, and what is written there arrives.
#[test]
fn a_fetch_waits_at_the_end_of_a_partition_at_rest() {
    with_broker(2, &[IDLE], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "waited-for", &[]).await;
        peer.produce(9, &to, &batch(&["a"])).await;
        // One began to wait before the partition rests, one does afterwards.
        let mut early = Peer::connect(&ram, &shared).await;
        early.send_fetch(12, &fetch_request(&to, 1, 60_000)).await;
        rest(&ram).await;
        let mut late = Peer::connect(&ram, &shared).await;
        late.send_fetch(12, &fetch_request(&to, 1, 60_000)).await;
        let ((), opened) = operations(&ram, rest(&ram)).await;
        assert_eq!(opened, 0, "something woke it");
        peer.produce(9, &to, &batch(&["b"])).await;
        for waiting in [&mut early, &mut late] {
            let (_, records) = waiting.receive_fetch(12).await;
            assert_eq!(values(&records), [(1, "b".to_owned())]);
        }
    });
}

/// Whatever moment a produce comes at, also while the partition closes its log: nothing is lost,
/// doubled or reordered, and the producer is remembered.
#[test]
fn a_producer_does_not_notice() {
    with_broker(2, &[("trialog.partition.idle.ms", "10")], async |ram, _, mut peer| {
        let to = topic(&mut peer, "on-and-off", &[]).await;
        for sequence in 0..200 {
            let value = sequence.to_string();
            let record = idempotent(7, 0, sequence, &[&value]);
            // Some twice: the second one is a duplicate, also across a rest.
            for _ in 0..1 + sequence % 2 {
                let answer = peer.produce(9, &to, &record).await;
                assert_eq!(answer.error, ErrorCode::None);
                assert_eq!(answer.base_offset, Offset(i64::from(sequence)));
                // From long before it would rest to long after.
                let pause = (sequence as u64 * 137) % 1200;
                ram.sleep(Duration::from_micros(pause * pause / 20)).await;
            }
        }
        let (_, records) = peer.fetch(12, &to, 0, 0).await;
        let expected: Vec<_> = (0..200).map(|number| (number, number.to_string())).collect();
        assert_eq!(values(&records), expected);
    });
}

#[test]
fn more_partitions_than_may_be_open_take_turns() {
    let settings = [("trialog.partitions.open.max", "2"), ("trialog.partition.idle.ms", "3600000")];
    with_broker(2, &settings, async |ram, _, mut peer| {
        let made = peer.create("crowd", 9, &[]).await;
        let id = made.topics[0].topic_id;
        let to = |index| To { name: "crowd", id, index: PartitionIndex(index) };
        for round in 0..5 {
            for index in 0..9 {
                let value = format!("{index}-{round}");
                let answer = peer.produce(9, &to(index), &batch(&[&value])).await;
                assert_eq!((answer.error, answer.base_offset), (ErrorCode::None, Offset(round)));
            }
        }
        ram.sleep(Duration::from_secs(1)).await;
        for index in 0..9 {
            let (_, records) = peer.fetch(12, &to(index), 0, 0).await;
            let expected: Vec<_> =
                (0..5).map(|round| (round, format!("{index}-{round}"))).collect();
            assert_eq!(values(&records), expected);
        }
    });
}

/// Thousands that rest together have their memory given back once, when all of them do; a few do not.
#[test]
fn the_memory_of_many_is_given_back() {
    with_broker(2, &[IDLE], async |ram, _, mut peer| {
        peer.create("few", 200, &[]).await;
        rest(&ram).await;
        assert_eq!(ram.memory_releases(), 0);
        let id = peer.create("more", 200, &[]).await.topics[0].topic_id;
        rest(&ram).await;
        assert_eq!(ram.memory_releases(), 1);
        // Counted anew: what was given back before counts no more.
        for index in 0..200 {
            let to = To { name: "more", id, index: PartitionIndex(index) };
            peer.produce(9, &to, &batch(&["a"])).await;
        }
        ram.sleep(Duration::from_secs(60)).await;
        assert_eq!(ram.memory_releases(), 1);
    });
}

/// Records grow old at rest as well.
#[test]
fn retention_reaches_a_partition_at_rest() {
    let settings = [IDLE, ("log.retention.check.interval.ms", "1000")];
    with_broker(1, &settings, async |ram, _, mut peer| {
        let to = topic(&mut peer, "passing", &[("retention.ms", "60000")]).await;
        let mut fresh = trialog_engine::wire::batch::Builder::new();
        fresh.push(ram.wall().0, None, Some(b"now"), &[]);
        peer.produce(9, &to, &fresh.finish()).await;
        rest(&ram).await;
        assert_eq!(offset_at(&mut peer, 5, &to, -2).await.1, 0);
        let ((), woken) = operations(&ram, ram.sleep(Duration::from_secs(30))).await;
        assert_eq!(woken, 0, "it was looked at before anything was due");
        ram.sleep(Duration::from_secs(60)).await;
        let (found, opened) = operations(&ram, offset_at(&mut peer, 5, &to, -2)).await;
        assert_eq!((found.1, opened), (1, 0), "removed, and at rest again");
    });
}

/// What a setting of all brokers has partitions at rest do they do, and its change waits for none of them.
#[test]
fn a_setting_of_all_brokers_reaches_partitions_at_rest() {
    let settings = [IDLE, ("log.retention.check.interval.ms", "1000")];
    with_broker(2, &settings, async |ram, _, mut peer| {
        let made = peer.create("many", 50, &[]).await;
        let to =
            |index| To { name: "many", id: made.topics[0].topic_id, index: PartitionIndex(index) };
        let mut fresh = trialog_engine::wire::batch::Builder::new();
        fresh.push(ram.wall().0, None, Some(b"now"), &[]);
        let fresh = fresh.finish();
        for index in 0..50 {
            peer.produce(9, &to(index), &fresh).await;
        }
        rest(&ram).await;
        let change = set_of_brokers(&mut peer, "log.retention.ms", "1000");
        let ((), changed) = operations(&ram, change).await;
        assert!(changed < 10, "{changed} operations before the answer");
        rest(&ram).await;
        for index in [0, 49] {
            let (start, opened) = operations(&ram, offset_at(&mut peer, 5, &to(index), -2)).await;
            assert_eq!((start.1, opened), (1, 0), "its time is over, and it rests again");
        }
    });
}

#[test]
fn a_topic_is_deleted_while_it_rests() {
    with_broker(2, &[IDLE], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "done", &[]).await;
        peer.produce(9, &to, &batch(&["x"])).await;
        rest(&ram).await;
        let mut waiting = Peer::connect(&ram, &shared).await;
        waiting.send_fetch(12, &fetch_request(&to, 1, 60_000)).await;
        ram.sleep(Duration::from_millis(100)).await;
        let state = DeleteTopicState { name: Some("done".to_owned()), topic_id: TopicId::NONE };
        let request = DeleteTopicsRequest {
            topics: vec![state],
            timeout_ms: 1000,
            ..DeleteTopicsRequest::default()
        };
        assert_eq!(peer.call(6, &request).await.responses[0].error_code, 0);
        let (answer, _) = waiting.receive_fetch(12).await;
        assert_eq!(answer.topics[0].partitions[0].error, ErrorCode::UnknownTopicOrPartition);
        ram.sleep(Duration::from_secs(1)).await;
        assert!(ram.list(Path::new("/data/topics/done")).await.expect("a folder").is_empty());
    });
}

/// After a clean stop a start opens no partition's log, and knows where each stands; whatever its
/// number of cores.
#[test]
fn a_clean_start_touches_no_partition() {
    with_broker(3, &[IDLE], async |ram, shared, mut peer| {
        let few = topic(&mut peer, "few", &[]).await;
        peer.produce(9, &few, &batch(&["kept"])).await;
        stop(&ram, &shared).await;
        let before = ram.operations();
        let shared = start(&ram, 2, &[IDLE]);
        let mut peer = Peer::connect(&ram, &shared).await;
        rest(&ram).await;
        let with_few = ram.operations() - before;

        let made = peer.create("many", 60, &[]).await;
        let id = made.topics[0].topic_id;
        let to = |index| To { name: "many", id, index: PartitionIndex(index) };
        for index in 0..60 {
            peer.produce(9, &to(index), &batch(&["x"; 3][..1 + index as usize % 3])).await;
        }
        // Some rest when the stop comes, some do not.
        rest(&ram).await;
        peer.produce(9, &to(7), &batch(&["y"])).await;
        stop(&ram, &shared).await;
        assert!(ram.peek(Path::new("/data/clean")).is_ok());
        let before = ram.operations();
        let shared = start(&ram, 1, &[IDLE]);
        let mut peer = Peer::connect(&ram, &shared).await;
        rest(&ram).await;
        let with_many = ram.operations() - before;
        assert!(with_many <= with_few + 5, "{with_many} operations, and {with_few} without them");
        assert!(ram.peek(Path::new("/data/clean")).is_err(), "it is true no longer");
        for index in 0..60 {
            let end = i64::from(1 + index % 3 + i32::from(index == 7));
            assert_eq!(offset_at(&mut peer, 5, &to(index), -1).await.1, end);
            let (_, records) = peer.fetch(12, &to(index), 0, 0).await;
            assert_eq!(values(&records).len() as i64, end);
        }
    });
}

/// A crash after a clean start: what the stop told is not believed a second time.
#[test]
fn word_of_a_clean_stop_is_used_once() {
    let ram = Ram::new(7);
    let world = ram.clone();
    let (name, id) = ram.block_on(async {
        let shared = start(&world, 2, &[IDLE]);
        let mut peer = Peer::connect(&world, &shared).await;
        let to = topic(&mut peer, "twice", &[]).await;
        peer.produce(9, &to, &batch(&["a"])).await;
        stop(&world, &shared).await;
        let shared = start(&world, 2, &[IDLE]);
        let mut peer = Peer::connect(&world, &shared).await;
        assert_eq!(peer.produce(9, &to, &batch(&["b"])).await.base_offset, Offset(1));
        (to.name, to.id)
    });
    let ram = ram.crash(Loss::Everything);
    let world = ram.clone();
    ram.block_on(async {
        let shared = start(&world, 2, &[IDLE]);
        let mut peer = Peer::connect(&world, &shared).await;
        let to = To { name, id, index: PartitionIndex(1) };
        assert_eq!(offset_at(&mut peer, 5, &to, -1).await.1, 2);
        let (_, records) = peer.fetch(12, &to, 0, 0).await;
        assert_eq!(values(&records), [(0, "a".to_owned()), (1, "b".to_owned())]);
    });
}

/// A file of a clean stop that was damaged costs time, not truth; and so does none.
#[test]
fn a_damaged_word_of_a_clean_stop_is_not_believed() {
    with_broker(2, &[IDLE], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "sure", &[]).await;
        peer.produce(9, &to, &batch(&["a", "b"])).await;
        stop(&ram, &shared).await;
        ram.poke(Path::new("/data/clean"), 60, &[9]).expect("it is there");
        let shared = start(&ram, 2, &[IDLE]);
        let mut peer = Peer::connect(&ram, &shared).await;
        rest(&ram).await;
        assert_eq!(offset_at(&mut peer, 5, &to, -1).await.1, 2);
        assert_eq!(values(&peer.fetch(12, &to, 0, 0).await.1).len(), 2);
    });
}

/// What rotted while the broker was down is met, and told, when the partition is opened.
#[test]
fn damage_at_rest_is_reported_when_it_is_met() {
    with_broker(2, &[IDLE], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "rotten", &[]).await;
        peer.produce(9, &to, &batch(&["a"])).await;
        stop(&ram, &shared).await;
        let folder = format!("/data/topics/rotten/{}-1", to.id);
        ram.poke(&Path::new(&folder).join("checkpoint"), 30, &[0xff]).expect("it is there");
        let shared = start(&ram, 2, &[IDLE]);
        let mut peer = Peer::connect(&ram, &shared).await;
        let (answer, _) = peer.fetch(12, &to, 0, 0).await;
        assert_eq!(answer.error, ErrorCode::KafkaStorageError);
        assert_eq!(peer.produce(9, &to, &batch(&["b"])).await.error, ErrorCode::KafkaStorageError);
    });
}

/// No checksum covers a batch's leader epoch, and the broker appends only in newer ones.
#[test]
fn an_epoch_that_no_leader_had_is_damage() {
    let ram = Ram::new(5);
    let world = ram.clone();
    let id = ram.block_on(async {
        let shared = start(&world, 1, &[IDLE]);
        let mut peer = Peer::connect(&world, &shared).await;
        let to = topic(&mut peer, "rotten", &[]).await;
        peer.produce(9, &to, &batch(&["a"])).await;
        to.id
    });
    let ram = ram.crash(Loss::Everything);
    let log = format!("/data/topics/rotten/{id}-1/00000000000000000000.log");
    ram.poke(Path::new(&log), 12, &[0x7f]).expect("it is there");
    let world = ram.clone();
    ram.block_on(async {
        let shared = start(&world, 1, &[IDLE]);
        let mut peer = Peer::connect(&world, &shared).await;
        let to = To { name: "rotten", id, index: PartitionIndex(1) };
        for _ in 0..2 {
            let produced = peer.produce(9, &to, &batch(&["b"])).await;
            assert_eq!(produced.error, ErrorCode::KafkaStorageError);
        }
        let other = To { index: PartitionIndex(0), ..to };
        assert_eq!(peer.produce(9, &other, &batch(&["b"])).await.error, ErrorCode::None);
    });
}

/// After a crash every partition is recovered, also those that nobody asks for, and then rests.
#[test]
fn a_start_after_a_crash_recovers_all_and_lets_them_rest() {
    let ram = Ram::new(3);
    let world = ram.clone();
    ram.block_on(async {
        let shared = start(&world, 2, &[]);
        let mut peer = Peer::connect(&world, &shared).await;
        let made = peer.create("all", 70, &[]).await;
        let id = made.topics[0].topic_id;
        for index in 0..70 {
            let to = To { name: "all", id, index: PartitionIndex(index) };
            peer.produce(9, &to, &batch(&["x"])).await;
        }
    });
    let ram = ram.crash(Loss::Everything);
    let world = ram.clone();
    ram.block_on(async {
        let shared = start(&world, 2, &[IDLE]);
        let mut peer = Peer::connect(&world, &shared).await;
        rest(&world).await;
        assert_eq!(shared.readings().len(), 70, "all were looked at");
        let made = peer.create("after", 1, &[]).await;
        assert_eq!(made.topics[0].error_code, 0);
        rest(&world).await;
        // They rest: a stop has nothing to close.
        let before = world.operations();
        stop(&world, &shared).await;
        assert!(world.operations() - before < 20, "they were open");
    });
}

/// Bursts that are shorter than the time between two looks at a log keep nothing from being trimmed.
#[test]
fn a_log_that_is_used_in_bursts_is_trimmed_by_size() {
    let settings = [IDLE, ("internal.segment.bytes", "1024")];
    with_broker(1, &settings, async |ram, shared, mut peer| {
        let limits = [("retention.bytes", "3000"), ("retention.ms", "-1")];
        let to = topic(&mut peer, "bursts", &limits).await;
        let value = "x".repeat(400);
        for _ in 0..20 {
            for _ in 0..3 {
                peer.produce(9, &to, &batch(&[&value])).await;
            }
            ram.sleep(Duration::from_secs(30)).await;
        }
        ram.sleep(Duration::from_secs(900)).await;
        // The other connection was idle for too long.
        let mut peer = Peer::connect(&ram, &shared).await;
        let (_, start, _) = offset_at(&mut peer, 5, &to, -2).await;
        assert!((45..58).contains(&start), "60 records, and the log begins at {start}");
    });
}

/// What a clean stop says of when a partition has something to do holds for the settings of then.
#[test]
fn a_default_that_changed_between_two_starts_is_heeded_at_rest() {
    let ram = Ram::new(7);
    let world = ram.clone();
    ram.block_on(async {
        let settings = [IDLE, ("internal.segment.bytes", "1024"), ("log.retention.ms", "-1")];
        let shared = start(&world, 1, &settings);
        let mut peer = Peer::connect(&world, &shared).await;
        let to = topic(&mut peer, "idle", &[]).await;
        let value = "x".repeat(400);
        for _ in 0..10 {
            peer.produce(9, &to, &batch(&[&value])).await;
        }
        rest(&world).await;
        drop(peer);
        stop(&world, &shared).await;
        let settings = [IDLE, ("internal.segment.bytes", "1024"), ("log.retention.ms", "60000")];
        let shared = start(&world, 1, &settings);
        let mut peer = Peer::connect(&world, &shared).await;
        assert_eq!(offset_at(&mut peer, 5, &to, -2).await.1, 0);
        world.sleep(Duration::from_secs(1200)).await;
        let mut peer = Peer::connect(&world, &shared).await;
        let (_, start, _) = offset_at(&mut peer, 5, &to, -2).await;
        assert!(start > 5, "the log still begins at {start}");
    });
}
