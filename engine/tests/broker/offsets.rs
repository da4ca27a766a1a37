//! ListOffsets, OffsetForLeaderEpoch and Metadata in the versions in which they mean something else.

use trialog_engine::id::{LeaderEpoch, NodeId, PartitionIndex};
use trialog_engine::io::ram::{Loss, Ram};
use trialog_engine::wire::api::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic, ListOffsetsPartition,
    ListOffsetsRequest, ListOffsetsTopic, MetadataRequest, OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use trialog_engine::wire::code::ErrorCode;

use super::peer::{Peer, To, batch, fetch_request, start};
use super::{metadata, offset_at, topic, with_broker};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

async fn raise_start(peer: &mut Peer, to: &To<'_>, offset: i64) {
    let partition = DeleteRecordsPartition { partition_index: to.index.0, offset };
    let topic = DeleteRecordsTopic { name: to.name.to_owned(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 };
    let raised = peer.call(2, &request).await.topics[0].partitions[0].clone();
    assert_eq!((raised.error_code, raised.low_watermark), (0, offset));
}

/// Nothing is in tiered storage or waits for it, so all that is here is local (KIP-405, KIP-1005,
/// KIP-1023).
#[test]
fn offsets_of_tiers_are_known_from_their_versions_on() {
    with_broker(1, &[], async |_, _, mut peer| {
        let to = topic(&mut peer, "tiers", &[]).await;
        for value in ["a", "b", "c"] {
            peer.produce(9, &to, &batch(&[value])).await;
        }
        raise_start(&mut peer, &to, 2).await;
        let unknown = (ErrorCode::UnsupportedVersion.code(), -1, -1);
        let (start, none) = ((0, 2, -1), (0, -1, -1));
        for version in 1..=11 {
            let since = |first, known| if version < first { unknown } else { known };
            for (name, expected) in [
                (EARLIEST, start),
                (EARLIEST_LOCAL, since(8, start)),
                (LATEST_TIERED, since(9, none)),
                (EARLIEST_PENDING_UPLOAD, since(11, none)),
                (-7, unknown),
            ] {
                let found = offset_at(&mut peer, version, &to, name).await;
                assert_eq!(found, expected, "version {version}, {name}");
            }
        }
    });
}

/// The first offset is told with the epoch that wrote it, which a consumer says again when it asks
/// whether its log was cut (KIP-320).
#[test]
fn the_first_offset_is_of_the_first_epoch() {
    with_broker(1, &[], async |_, _, mut peer| {
        let to = topic(&mut peer, "first", &[]).await;
        peer.produce(9, &to, &batch(&["a", "b"])).await;
        for version in 4..=11 {
            let mut epoch = async |timestamp| {
                let partition = ListOffsetsPartition {
                    partition_index: to.index.0,
                    current_leader_epoch: -1,
                    timestamp,
                };
                let topic =
                    ListOffsetsTopic { name: to.name.to_owned(), partitions: vec![partition] };
                let request = ListOffsetsRequest {
                    replica_id: -1,
                    topics: vec![topic],
                    ..Default::default()
                };
                peer.call(version, &request).await.topics[0].partitions[0].leader_epoch
            };
            let newest = epoch(LATEST).await;
            assert!(newest >= 0, "version {version}");
            assert_eq!(epoch(EARLIEST).await, newest, "version {version}: there is one epoch only");
        }
    });
}

#[test]
fn the_end_of_an_epoch_is_the_same_in_every_version() {
    with_broker(1, &[], async |_, _, mut peer| {
        let to = topic(&mut peer, "epochs", &[]).await;
        peer.produce(9, &to, &batch(&["a", "b"])).await;
        let asked = |index, current_leader_epoch, leader_epoch| OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![OffsetForLeaderTopic {
                topic: "epochs".to_owned(),
                partitions: vec![OffsetForLeaderPartition {
                    partition: index,
                    current_leader_epoch,
                    leader_epoch,
                }],
            }],
        };
        let mut answers = Vec::new();
        for version in 2..=4 {
            let mut answer = async |request: OffsetForLeaderEpochRequest| {
                let one = peer.call(version, &request).await.topics[0].partitions[0].clone();
                (one.error_code, one.partition, one.leader_epoch, one.end_offset)
            };
            let (error, partition, epoch, end) = answer(asked(1, -1, 0)).await;
            assert_eq!((error, partition, end), (0, 1, 2), "version {version}");
            // The newest epoch ends where the log does.
            assert_eq!(answer(asked(1, epoch, epoch)).await, (0, 1, epoch, 2));
            // One that is yet to come has no end.
            assert_eq!(answer(asked(1, -1, epoch + 1)).await, (0, 1, -1, -1));
            let newer = ErrorCode::UnknownLeaderEpoch.code();
            assert_eq!(answer(asked(1, epoch + 1, epoch)).await, (newer, 1, -1, -1));
            let missing = ErrorCode::UnknownTopicOrPartition.code();
            assert_eq!(answer(asked(77, -1, epoch)).await, (missing, 77, -1, -1));
            answers.push(epoch);
        }
        assert!(answers.iter().all(|epoch| *epoch == answers[0]));
    });
}

/// Version 0 has no null, and an empty list stands for all topics; later ones have both.
#[test]
fn metadata_of_no_topics_is_of_all_in_version_0() {
    with_broker(1, &[], async |_, _, mut peer| {
        for name in ["one", "two"] {
            topic(&mut peer, name, &[]).await;
        }
        for version in 0..=13 {
            let mut names = async |topics| {
                let request = MetadataRequest { topics, ..MetadataRequest::default() };
                let answer = peer.call(version, &request).await;
                assert_eq!(answer.brokers.len(), 1);
                let mut names: Vec<_> =
                    answer.topics.into_iter().filter_map(|topic| topic.name).collect();
                names.sort();
                names
            };
            let of_none = names(Some(Vec::new())).await;
            let expected: &[&str] = if version == 0 { &["one", "two"] } else { &[] };
            assert_eq!(of_none, expected, "version {version}");
            if version > 0 {
                assert_eq!(names(None).await, ["one", "two"], "version {version}");
            }
        }
    });
}

/// KIP-951: who is told that it has missed an epoch is told the new one. There is no other broker whose
/// address it could lack.
#[test]
fn a_missed_epoch_is_told_without_addresses() {
    let ram = Ram::new(7);
    let world = ram.clone();
    ram.block_on(async {
        let shared = start(&world, 1, &[]);
        topic(&mut Peer::connect(&world, &shared).await, "fenced", &[]).await;
    });
    // A start raises the epoch.
    let ram = ram.crash(Loss::Everything);
    let world = ram.clone();
    ram.block_on(async {
        let shared = start(&world, 1, &[]);
        let mut peer = Peer::connect(&world, &shared).await;
        let id = metadata(&mut peer, 12, "fenced").await.topics[0].topic_id;
        let to = To { name: "fenced", id, index: PartitionIndex(1) };
        for version in [11, 12, 13, 15, 16, 18] {
            let mut request = fetch_request(&to, 0, 0);
            request.topics[0].partitions[0].current_leader_epoch = LeaderEpoch(0);
            peer.send_fetch(version, &request).await;
            let (answer, _) = peer.receive_fetch(version).await;
            let partition = &answer.topics[0].partitions[0];
            assert_eq!(partition.error, ErrorCode::FencedLeaderEpoch, "version {version}");
            let told = (version >= 12).then_some((NodeId(1), LeaderEpoch(1)));
            assert_eq!(partition.current_leader, told, "version {version}");
            assert_eq!(answer.node_endpoints, []);
        }
    });
}
