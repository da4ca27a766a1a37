//! What takes records away while clients look on: DeleteRecords and compaction.

use std::time::Duration;

use futures_util::future::join;
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::io::ram::{Loss, Ram};
use trialog_engine::io::{Io, Wall};
use trialog_engine::wire::api::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use trialog_engine::wire::batch::Builder;
use trialog_engine::wire::code::ErrorCode;

use super::peer::{Peer, To, batch, start, values};
use super::{offset_at, topic, with_broker};

pub async fn delete_below(peer: &mut Peer, version: i16, to: &To<'_>, offset: i64) -> (i16, i64) {
    let partition = DeleteRecordsPartition { partition_index: to.index.0, offset };
    let topic = DeleteRecordsTopic { name: to.name.to_owned(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 };
    let answer = peer.call(version, &request).await;
    let result = &answer.topics[0].partitions[0];
    (result.error_code, result.low_watermark)
}

#[test]
fn a_raised_start_is_in_every_answer_and_survives_a_power_cut() {
    let ram = Ram::new(7);
    let world = ram.clone();
    let (name, id) = ram.block_on(async {
        let shared = start(&world, 2, &[]);
        let mut peer = Peer::connect(&world, &shared).await;
        let to = topic(&mut peer, "trimmed", &[]).await;
        for _ in 0..5 {
            peer.produce(9, &to, &batch(&["a", "b"])).await;
        }
        assert_eq!(delete_below(&mut peer, 0, &to, 3).await, (0, 3));
        // Never back, and never beyond what can be read.
        assert_eq!(delete_below(&mut peer, 1, &to, 1).await, (0, 3));
        let out_of_range = ErrorCode::OffsetOutOfRange.code();
        assert_eq!(delete_below(&mut peer, 1, &to, 11).await, (out_of_range, -1));
        assert_eq!(delete_below(&mut peer, 1, &to, -2).await, (out_of_range, -1));
        assert_eq!(offset_at(&mut peer, 5, &to, -2).await, (0, 3, -1));
        let (partition, _) = peer.fetch(12, &to, 2, 0).await;
        assert_eq!(partition.error, ErrorCode::OffsetOutOfRange);
        let (partition, records) = peer.fetch(12, &to, 3, 0).await;
        assert_eq!((partition.error, partition.log_start_offset), (ErrorCode::None, Offset(3)));
        // The batch comes whole; the client skips what is below.
        assert_eq!(values(&records)[0].0, 2);
        let answer = peer.produce(9, &to, &batch(&["c"])).await;
        assert_eq!(answer.log_start_offset, Offset(3));
        let unknown = To { index: PartitionIndex(77), ..to };
        let (code, _) = delete_below(&mut peer, 2, &unknown, 1).await;
        assert_eq!(code, ErrorCode::UnknownTopicOrPartition.code());
        (to.name, to.id)
    });
    let ram = ram.crash(Loss::Everything);
    let world = ram.clone();
    ram.block_on(async {
        let shared = start(&world, 1, &[]);
        let mut peer = Peer::connect(&world, &shared).await;
        let to = To { name, id, index: PartitionIndex(1) };
        assert_eq!(offset_at(&mut peer, 5, &to, -2).await, (0, 3, -1));
        assert_eq!(delete_below(&mut peer, 2, &to, -1).await, (0, 11));
        assert_eq!(offset_at(&mut peer, 5, &to, -2).await, (0, 11, -1));
        assert_eq!(offset_at(&mut peer, 5, &to, -1).await, (0, 11, -1));
    });
}

#[test]
fn a_start_that_is_raised_during_a_flush_leaves_it_alone() {
    with_broker(1, &[], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "trimmed", &[]).await;
        let mut other = Peer::connect(&ram, &shared).await;
        for end in 0..40 {
            // Sooner and later within the flush of what is produced.
            let raised = async {
                ram.sleep(Duration::from_micros(end as u64 * 5)).await;
                delete_below(&mut other, 2, &to, end).await
            };
            let batch = batch(&["a"]);
            let (answer, raised) = join(peer.produce(9, &to, &batch), raised).await;
            assert_eq!((answer.error, answer.base_offset), (ErrorCode::None, Offset(end)));
            assert_eq!(raised, (0, end));
        }
    });
}

/// KIP-1161: an empty list of policies keeps what retention would take.
#[test]
fn a_topic_without_a_policy_keeps_all_but_what_is_deleted() {
    let settings = [("log.retention.check.interval.ms", "1000")];
    with_broker(1, &settings, async |ram, _, mut peer| {
        let limits = [("retention.ms", "1000"), ("retention.bytes", "1"), ("segment.ms", "500")];
        let without = [&limits[..], &[("cleanup.policy", "")]].concat();
        let kept = topic(&mut peer, "kept", &without).await;
        let taken = topic(&mut peer, "taken", &limits).await;
        for _ in 0..3 {
            for to in [&kept, &taken] {
                // Its time stamp is years old.
                peer.produce(9, to, &batch(&["old"])).await;
            }
            ram.sleep(Duration::from_secs(2)).await;
        }
        ram.sleep(Duration::from_secs(5)).await;
        assert_eq!(offset_at(&mut peer, 5, &taken, -2).await.1, 3);
        assert_eq!(offset_at(&mut peer, 5, &kept, -2).await.1, 0);
        assert_eq!(delete_below(&mut peer, 2, &kept, 2).await, (0, 2));
        assert_eq!(offset_at(&mut peer, 5, &kept, -2).await.1, 2);
    });
}

fn keyed(now: Wall, key: usize, value: Option<&str>) -> Vec<u8> {
    let mut builder = Builder::new();
    builder.push(now.0, Some(format!("key-{key}").as_bytes()), value.map(str::as_bytes), &[]);
    builder.finish()
}

#[test]
fn a_compacted_topic_keeps_the_last_value_of_each_key() {
    let settings = [("log.cleaner.backoff.ms", "1000"), ("internal.segment.bytes", "4096")];
    with_broker(2, &settings, async |ram, _, mut peer| {
        let policy = [("cleanup.policy", "compact"), ("delete.retention.ms", "5000")];
        let to = topic(&mut peer, "latest", &policy).await;
        let refused = delete_below(&mut peer, 2, &to, 0).await;
        assert_eq!(refused.0, ErrorCode::PolicyViolation.code());
        let filler = "x".repeat(100);
        let mut count = 0;
        for round in 0..40 {
            for key in 0..10 {
                let value = format!("{round}.{filler}");
                let gone = key == 3 && round >= 20;
                let value = if gone { None } else { Some(&value[..]) };
                peer.produce(9, &to, &keyed(ram.wall(), key, value)).await;
                count += 1;
            }
        }
        let mut left = Vec::new();
        for _ in 0..20 {
            ram.sleep(Duration::from_secs(1)).await;
            left = whole(&mut peer, &to, count).await;
            if left.len() < 100 {
                break;
            }
        }
        assert!(left.len() < 100, "{} records are left of {count}", left.len());
        assert!(left.windows(2).all(|two| two[0].0 < two[1].0), "offsets rise");
        for offset in count - 10..count {
            assert!(left.iter().any(|record| record.0 == offset), "the newest, {offset}, is lost");
        }
        // Everything in between can be asked for; what is gone leads to what follows.
        let (partition, records) = peer.fetch(12, &to, 1, 0).await;
        assert_eq!(partition.error, ErrorCode::None);
        assert_eq!(values(&records)[0].0, left[0].0);
        assert_eq!(offset_at(&mut peer, 5, &to, -2).await, (0, 0, -1));
        assert_eq!(offset_at(&mut peer, 5, &to, -1).await, (0, count, -1));
    });
}

#[test]
fn a_topic_with_a_codec_of_its_own_compresses_what_arrives() {
    with_broker(1, &[], async |_, _, mut peer| {
        let to = topic(&mut peer, "small", &[("compression.type", "zstd")]).await;
        let text = "again and again and ".repeat(50);
        let sent = batch(&[&text, "end"]);
        let answer = peer.produce(9, &to, &sent).await;
        assert_eq!(answer.error, ErrorCode::None);
        let (_, records) = peer.fetch(12, &to, 0, 0).await;
        assert!(records.len() * 5 < sent.len(), "{} of {}", records.len(), sent.len());
        assert_eq!(values(&records), [(0, text), (1, "end".to_owned())]);
    });
}

/// All records, as a consumer reads them.
async fn whole(peer: &mut Peer, to: &To<'_>, end: i64) -> Vec<(i64, String)> {
    let mut all = Vec::new();
    let mut next = 0;
    while next < end {
        let (partition, records) = peer.fetch(12, to, next, 0).await;
        assert_eq!(partition.error, ErrorCode::None);
        let records = values(&records);
        next = records.last().expect("a fetch below the end brings records").0 + 1;
        all.extend(records);
    }
    all
}
