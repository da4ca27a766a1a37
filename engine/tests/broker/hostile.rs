//! Bytes that no client sends: each is answered or the connection is closed, and nobody else
//! notices.

use std::time::Duration;

use super::peer::{Peer, To, batch, fetch_request, values};
use super::{topic, with_broker};
use trialog_engine::broker::Shared;
use trialog_engine::id::{CorrelationId, PartitionIndex};
use trialog_engine::io::Io;
use trialog_engine::io::ram::{Chance, Ram};
use trialog_engine::wire::api::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeGroupsRequest, MetadataRequest,
    MetadataRequestTopic, OffsetFetchRequest, OffsetFetchRequestGroup,
};
use trialog_engine::wire::code::ErrorCode;
use trialog_engine::wire::fetch::FetchPartition;
use trialog_engine::wire::frame::{self, RequestHeader};

/// The broker still serves others.
async fn unharmed(ram: &Ram, shared: &Shared<Ram>, to: &To<'_>) {
    let mut peer = Peer::connect(ram, shared).await;
    assert_eq!(peer.produce(9, to, &batch(&["fine"])).await.error, ErrorCode::None);
    let (_, records) = peer.fetch(12, to, 0, 0).await;
    assert!(!values(&records).is_empty());
}

fn framed(size: i32, rest: &[u8]) -> Vec<u8> {
    [&size.to_be_bytes()[..], rest].concat()
}

#[test]
fn sizes_that_cannot_be_close_the_connection() {
    with_broker(1, &[], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "bystander", &[]).await;
        let http = b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n".to_vec();
        for bytes in [framed(-1, b""), framed(i32::MAX, b"x"), framed(0, b""), http] {
            let mut hostile = Peer::connect(&ram, &shared).await;
            hostile.send_raw(&bytes).await;
            assert_eq!(hostile.receive().await, None, "{bytes:?}");
        }
        unharmed(&ram, &shared, &to).await;
    });
}

#[test]
fn half_frames_and_silence_hold_nobody_up() {
    with_broker(1, &[("connections.max.idle.ms", "5000")], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "bystander", &[]).await;
        let mut waiting = Vec::new();
        for _ in 0..50 {
            let mut half = Peer::connect(&ram, &shared).await;
            // Announces 90 MB, sends a little.
            half.send_raw(&framed(90 << 20, &[0; 100])).await;
            waiting.push(half);
        }
        unharmed(&ram, &shared, &to).await;
        let began = ram.now();
        for mut half in waiting {
            assert_eq!(half.receive().await, None);
        }
        assert!(ram.now().since(began).as_secs() >= 4, "closed for being idle");
    });
}

#[test]
fn unknown_apis_and_versions_close_the_connection() {
    with_broker(1, &[], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "bystander", &[]).await;
        for (key, version) in [(0, 2), (0, 14), (1, 3), (1, 19), (3, 14), (3, -1), (7, 0), (999, 0)]
        {
            let mut hostile = Peer::connect(&ram, &shared).await;
            hostile.send(key, version, |out| out.extend_from_slice(&[0; 16])).await;
            assert_eq!(hostile.receive().await, None, "key {key} version {version}");
        }
        unharmed(&ram, &shared, &to).await;
    });
}

/// Random bodies behind good headers, for every API and version that is served.
#[test]
fn garbage_in_every_api_and_version_harms_nobody() {
    with_broker(2, &[], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "bystander", &[]).await;
        let mut chance = Chance::new(11);
        for &(key, ref versions) in trialog_engine::broker::SERVED {
            for version in versions.clone() {
                for round in 0..20_usize {
                    let mut hostile = Peer::connect(&ram, &shared).await;
                    let length = usize::try_from(chance.bits() % 64).expect("small");
                    let mut body: Vec<u8> = (0..length).map(|_| chance.bits() as u8).collect();
                    if round % 3 == 0 {
                        // Counts and lengths that promise everything.
                        body.extend_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x07]);
                    }
                    let mut out = Vec::new();
                    let start = frame::begin_frame(&mut out);
                    let header = RequestHeader {
                        api_key: key as i16,
                        api_version: version,
                        correlation_id: CorrelationId(1),
                        client_id: None,
                    };
                    header.encode(&mut out);
                    out.extend_from_slice(&body);
                    frame::end_frame(&mut out, start, 0);
                    hostile.send_raw(&out).await;
                    // An answer, or the end of the connection; but a fetch may choose to wait.
                    let limit = ram.sleep(std::time::Duration::from_secs(1));
                    tokio::select! {
                        biased;
                        _ = hostile.receive() => {}
                        () = limit => {}
                    }
                }
            }
        }
        unharmed(&ram, &shared, &to).await;
    });
}

#[test]
fn what_is_named_a_thousand_times_is_answered_once() {
    with_broker(1, &[], async |_, _, mut peer| {
        topic(&mut peer, "named", &[]).await;
        let wanted = || MetadataRequestTopic { name: Some("named".into()), ..Default::default() };
        let topics = Some((0..1000).map(|_| wanted()).collect());
        let request = MetadataRequest { topics, ..MetadataRequest::default() };
        assert_eq!(peer.call(9, &request).await.topics.len(), 1);

        let resource = || DescribeConfigsResource {
            resource_type: 2,
            resource_name: "named".to_owned(),
            configuration_keys: Some(Vec::new()),
        };
        let resources = (0..1000).map(|_| resource()).collect();
        let request = DescribeConfigsRequest { resources, ..DescribeConfigsRequest::default() };
        let results = peer.call(4, &request).await.results;
        // Kafka takes an empty list of keys for all of them.
        assert!(results[0].configs.len() > 10, "{}", results[0].configs.len());
        assert_eq!(results.len(), 1);

        let groups = vec!["group".to_owned(); 1000];
        let request = DescribeGroupsRequest { groups, ..DescribeGroupsRequest::default() };
        assert_eq!(peer.call(5, &request).await.groups.len(), 1);
        let group = || OffsetFetchRequestGroup { group_id: "group".into(), ..Default::default() };
        let groups = (0..1000).map(|_| OffsetFetchRequestGroup { topics: None, ..group() });
        let request = OffsetFetchRequest { groups: groups.collect(), ..Default::default() };
        assert_eq!(peer.call(8, &request).await.groups.len(), 1);
    });
}

#[test]
fn whoever_takes_no_answers_is_closed_like_an_idle_one() {
    let settings = [("connections.max.idle.ms", "2000")];
    with_broker(1, &settings, async |ram, shared, mut peer| {
        let to = topic(&mut peer, "large", &[]).await;
        let batch = batch(&[&"x".repeat(500_000)]);
        for _ in 0..8 {
            assert_eq!(peer.produce(9, &to, &batch).await.error, ErrorCode::None);
        }
        for _ in 0..8 {
            peer.send_fetch(12, &fetch_request(&to, 0, 0)).await;
        }
        ram.sleep(Duration::from_secs(30)).await;
        unharmed(&ram, &shared, &to).await;
        let mut answers = 0;
        while peer.receive().await.is_some() {
            answers += 1;
        }
        assert!(answers < 8, "all {answers} answers were kept for it");
    });
}

/// A reader gets one batch whatever its limit is, and no more: of ten thousand partitions together they
/// would be larger than any frame.
#[test]
fn a_fetch_of_no_bytes_brings_one_batch_of_all_partitions() {
    with_broker(2, &[], async |_, _, mut peer| {
        let to = topic(&mut peer, "greedy", &[]).await;
        for index in 0..3 {
            let to = To { index: PartitionIndex(index), ..to };
            peer.produce(9, &to, &batch(&["a", "b"])).await;
            peer.produce(9, &to, &batch(&["c"])).await;
        }
        // With a session, too; and as often as a partition is named.
        for (max_bytes, session_epoch) in [(0, -1), (0, 0), (-1, -1), (i32::MIN, 0), (1, -1)] {
            let mut request = fetch_request(&to, 0, 0);
            (request.max_bytes, request.session_epoch) = (max_bytes, session_epoch);
            let one = request.topics[0].partitions[0].clone();
            let all = [0, 1, 2, 2, 1, 0].map(PartitionIndex);
            request.topics[0].partitions =
                all.map(|index| FetchPartition { index, ..one.clone() }).into();
            peer.send_fetch(12, &request).await;
            let (answer, records) = peer.receive_fetch(12).await;
            assert!(answer.topics[0].partitions.iter().all(|one| one.error == ErrorCode::None));
            let read: Vec<_> = values(&records).into_iter().map(|(_, value)| value).collect();
            assert_eq!(read, ["a", "b"], "at most {max_bytes} bytes");
        }
    });
}
