//! When acknowledgements leave, and that none is forgotten while a topic's settings change or its
//! disk fails.

use std::time::Duration;

use futures_util::future::{join, join3};
use trialog_engine::id::Offset;
use trialog_engine::io::Io;
use trialog_engine::io::ram::{Call, Effect, Fault, Loss, Ram};
use trialog_engine::wire::code::ErrorCode;

use super::admin::set;
use super::operator::delete_topic;
use super::peer::{Peer, batch, start};
use super::{offset_at, topic, with_broker};

const DURABILITY: &str = "trialog.durability";

#[test]
fn a_topic_changes_its_durability_while_it_is_written() {
    with_broker(1, &[], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "changed", &[(DURABILITY, "page-cache")]).await;
        let mut second = Peer::connect(&ram, &shared).await;
        let mut operator = Peer::connect(&ram, &shared).await;
        for round in 0..60_u64 {
            let one = batch(&["a"]);
            let another = async {
                ram.sleep(Duration::from_micros(round)).await;
                second.send_produce(9, &to, 1, &one).await;
                second.receive_produce(9).await
            };
            let changed = async {
                // Sooner and later within the flush of what is produced.
                ram.sleep(Duration::from_micros(round * 3)).await;
                let word = if round % 2 == 0 { "flush" } else { "page-cache" };
                set(&mut operator, "changed", DURABILITY, word).await;
            };
            let (first, another, ()) = join3(peer.produce(9, &to, &one), another, changed).await;
            assert_eq!((first.error, another.error), (ErrorCode::None, ErrorCode::None));
            let end = 2 * (round as i64 + 1);
            if round % 2 == 0 {
                assert_eq!(offset_at(&mut peer, 5, &to, -1).await, (0, end, -1), "round {round}");
            }
        }
    });
}

#[test]
fn what_waits_in_the_page_cache_is_flushed_when_it_is_old_enough() {
    let ram = Ram::new(7);
    let world = ram.clone();
    let (name, id, index) = ram.block_on(async {
        let shared = start(&world, 1, &[]);
        let mut peer = Peer::connect(&world, &shared).await;
        let settings = [(DURABILITY, "page-cache"), ("flush.ms", "1000")];
        let to = topic(&mut peer, "aged", &settings).await;
        // The first is found when the partition, which nobody had used, looks whether it may rest.
        for _ in 0..2 {
            world.sleep(Duration::from_secs(4)).await;
            peer.produce(9, &to, &batch(&["a"])).await;
        }
        world.sleep(Duration::from_millis(1500)).await;
        (to.name, to.id, to.index)
    });
    let ram = ram.crash(Loss::Everything);
    let world = ram.clone();
    ram.block_on(async {
        let shared = start(&world, 1, &[]);
        let mut peer = Peer::connect(&world, &shared).await;
        let to = super::peer::To { name, id, index };
        assert_eq!(offset_at(&mut peer, 5, &to, -1).await, (0, 2, -1));
    });
}

#[test]
fn a_disk_that_fails_between_two_segments_leaves_nobody_waiting() {
    for after in 0..12 {
        let settings = [("internal.segment.bytes", "1024")];
        with_broker(1, &settings, async |ram, shared, mut peer| {
            let to = topic(&mut peer, "split", &[]).await;
            let mut others = Vec::new();
            for _ in 0..3 {
                others.push(Peer::connect(&ram, &shared).await);
            }
            let value = "x".repeat(400);
            peer.produce(9, &to, &batch(&[&value])).await;
            ram.inject(Fault { call: Call::Write, after, times: 1, effect: Effect::Eio });
            // Taken together, they do not fit into one segment.
            let batch = batch(&[&value]);
            for other in &mut others {
                other.send_produce(9, &to, 1, &batch).await;
            }
            for other in &mut others {
                let answer = other.receive_produce(9).await;
                let known = [ErrorCode::None, ErrorCode::KafkaStorageError];
                assert!(known.contains(&answer.error), "{:?}", answer.error);
            }
        });
    }
}

#[test]
fn settings_that_change_while_others_are_deleted_arrive() {
    with_broker(1, &[], async |ram, shared, mut peer| {
        let mut operator = Peer::connect(&ram, &shared).await;
        for round in 0..8_u64 {
            let made = peer.create("crowd", 40, &[]).await;
            assert_eq!(made.topics[0].error_code, 0);
            let name = format!("late-{round}");
            let late = async {
                ram.sleep(Duration::from_micros(50 * round)).await;
                let to = topic(&mut peer, &name, &[]).await;
                peer.produce(9, &to, &batch(&["a"])).await;
                set(&mut peer, &name, "message.timestamp.type", "LogAppendTime").await;
                to
            };
            let (to, ()) = join(late, delete_topic(&mut operator, "crowd")).await;
            ram.sleep(Duration::from_secs(1)).await;
            let answer = peer.produce(9, &to, &batch(&["b"])).await;
            assert_eq!(answer.base_offset, Offset(1));
            assert!(answer.log_append_time_ms >= 0, "round {round}: {answer:?}");
        }
    });
}

#[test]
fn more_copies_than_there_can_be_are_not_waited_for() {
    with_broker(1, &[("min.insync.replicas", "3")], async |_, _, mut peer| {
        let to = topic(&mut peer, "safe", &[("min.insync.replicas", "2")]).await;
        let answer = peer.produce(9, &to, &batch(&["a"])).await;
        assert_eq!((answer.error, answer.base_offset), (ErrorCode::None, Offset(0)));
    });
}
