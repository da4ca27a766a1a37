//! Bytes that no client sends: each is answered or the connection is closed, and nobody else
//! notices.

use std::time::Duration;

use tokio::sync::oneshot;

use super::peer::{Peer, To, batch, fetch_request, values};
use super::{offset_at, topic, with_broker};
use crate::meter;
use trialog_engine::broker::Shared;
use trialog_engine::id::{CorrelationId, PartitionIndex};
use trialog_engine::io::ram::{Chance, Ram};
use trialog_engine::io::{Instant, Io};
use trialog_engine::wire::api::{
    ApiKey, DescribeConfigsRequest, DescribeConfigsResource, DescribeGroupsRequest,
    FindCoordinatorRequest, JoinGroupRequest, JoinGroupRequestProtocol, Message, MetadataRequest,
    MetadataRequestTopic, OffsetFetchRequest, OffsetFetchRequestGroup,
};
use trialog_engine::wire::code::ErrorCode;
use trialog_engine::wire::fetch::FetchPartition;
use trialog_engine::wire::frame::{self, RequestHeader};
use trialog_engine::wire::produce::{ProducePartition, ProduceRequest, ProduceTopic};

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

/// What is sent, in pieces of a size, with pauses in between.
type Part = (Vec<u8>, usize, Duration);

/// Sends in a task of its own, and says whether an answer came, and when, or when the end did.
fn send_and_wait(
    ram: &Ram,
    mut peer: Peer,
    parts: Vec<Part>,
) -> oneshot::Receiver<(bool, Instant)> {
    let world = ram.clone();
    let (done, answered) = oneshot::channel();
    ram.spawn(async move {
        for (bytes, piece, pause) in parts {
            for piece in bytes.chunks(piece.min(bytes.len().max(1))) {
                peer.send_raw(piece).await;
                world.sleep(pause).await;
            }
        }
        let _ = done.send((peer.receive().await.is_some(), world.now()));
    });
    answered
}

fn at_once(bytes: Vec<u8>) -> Vec<Part> {
    vec![(bytes, usize::MAX, Duration::ZERO)]
}

/// Memory for all requests that are larger than what each connection has by itself.
const SCARCE: [(&str, &str); 1] = [("queued.max.request.bytes", "4194304")];

/// A produce of one record of so many bytes, as it is sent.
fn produce_frame(to: &To<'_>, bytes: usize) -> Vec<u8> {
    let batch = batch(&[&"x".repeat(bytes)]);
    let partition = ProducePartition { index: to.index, records: Some(&batch[..]) };
    let topic = ProduceTopic { name: to.name, topic_id: to.id, partitions: vec![partition] };
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![topic],
    };
    let mut out = Vec::new();
    let start = frame::begin_frame(&mut out);
    let header = RequestHeader {
        api_key: 0,
        api_version: 9,
        correlation_id: CorrelationId(1),
        client_id: None,
    };
    header.encode(&mut out);
    request.encode(&mut out, 9);
    frame::end_frame(&mut out, start, 0);
    out
}

/// Half-sent large requests, some of which trickle on, use all the memory for requests up. Who wants some
/// has it within seconds, and neither it nor one that is slow and honest is closed.
#[test]
fn half_sent_requests_give_way_to_those_who_wait() {
    with_broker(1, &SCARCE, async |ram, shared, mut peer| {
        let to = topic(&mut peer, "bystander", &[]).await;
        let mut hostile = Vec::new();
        for number in 0..8 {
            // Some claim as much as there is, and some no more than honest ones.
            let half = match number % 4 {
                0 => framed(3 << 20, &vec![0; 1 << 20]),
                _ => framed(900_000, &vec![0; 800_000]),
            };
            let mut parts = at_once(half);
            if number % 2 == 0 {
                // It goes on for ever, a byte now and then.
                parts.push((vec![0; 1000], 1, Duration::from_millis(500)));
            }
            let peer = Peer::connect(&ram, &shared).await;
            hostile.push(send_and_wait(&ram, peer, parts));
        }
        ram.sleep(Duration::from_secs(1)).await;
        let began = ram.now();
        let mut honest = Vec::new();
        for _ in 0..6 {
            let peer = Peer::connect(&ram, &shared).await;
            honest.push(send_and_wait(&ram, peer, at_once(produce_frame(&to, 900_000))));
        }
        // 150 KB a second.
        let peer = Peer::connect(&ram, &shared).await;
        let slowly = vec![(produce_frame(&to, 900_000), 15_000, Duration::from_millis(100))];
        let slow = send_and_wait(&ram, peer, slowly);
        for answered in honest {
            let (is_answered, at) = answered.await.expect("it ran");
            assert!(is_answered, "an honest request was closed");
            let took = at.since(began);
            assert!(took < Duration::from_secs(30), "it took {took:?}");
        }
        assert!(slow.await.expect("it ran").0, "a slow one was closed");
        let ended = hostile.iter_mut().filter_map(|ended| ended.try_recv().ok()).count();
        assert!(ended > 0, "nobody was closed");
        unharmed(&ram, &shared, &to).await;
    });
}

/// Honest frames of all sizes that grow at the same time never wait for each other for ever.
#[test]
fn large_requests_that_come_together_are_all_answered() {
    with_broker(1, &SCARCE, async |ram, shared, mut peer| {
        let to = topic(&mut peer, "large", &[("max.message.bytes", "4000000")]).await;
        let mut answers = Vec::new();
        for number in 0..24_usize {
            let peer = Peer::connect(&ram, &shared).await;
            let pause = Duration::from_millis(number as u64 % 7);
            let parts = vec![(produce_frame(&to, 200_000 + 150_000 * number), 100_000, pause)];
            answers.push(send_and_wait(&ram, peer, parts));
        }
        for (number, answered) in answers.into_iter().enumerate() {
            assert!(answered.await.expect("it ran").0, "{number} was closed");
        }
    });
}

/// A large request is as a rule followed by another one, but it may be long until then: who has been answered
/// keeps nothing from others, and is not closed for their sake.
#[test]
fn who_is_between_two_large_requests_keeps_no_memory() {
    with_broker(1, &SCARCE, async |ram, shared, mut peer| {
        let to = topic(&mut peer, "large", &[("max.message.bytes", "4000000")]).await;
        let mut idle = Vec::new();
        for _ in 0..4 {
            let mut peer = Peer::connect(&ram, &shared).await;
            for bytes in [900_000, 850_000] {
                peer.send_raw(&produce_frame(&to, bytes)).await;
                assert!(peer.receive().await.is_some());
            }
            idle.push(peer);
        }
        ram.sleep(Duration::from_secs(60)).await;
        let began = ram.now();
        let mut other = Peer::connect(&ram, &shared).await;
        other.send_raw(&produce_frame(&to, 3_900_000)).await;
        assert!(other.receive().await.is_some());
        let took = ram.now().since(began);
        assert!(took < Duration::from_secs(1), "it took {took:?}");
        for mut peer in idle {
            peer.send_raw(&produce_frame(&to, 900_000)).await;
            assert!(peer.receive().await.is_some(), "an idle one was closed");
        }
    });
}

/// Produces of any size are charged beside the few that a connection may have under way by itself: one that
/// takes no answers is not read for ever, and gives way to who needs memory.
#[test]
fn produces_that_wait_for_their_answers_are_charged() {
    with_broker(1, &SCARCE, async |ram, shared, mut peer| {
        let to = topic(&mut peer, "bystander", &[]).await;
        for _ in 0..8 {
            assert_eq!(
                peer.produce(9, &to, &batch(&[&"x".repeat(500_000)])).await.error,
                ErrorCode::None
            );
        }
        let elsewhere = To { index: PartitionIndex(2), ..to };
        let mut greedy = Peer::connect(&ram, &shared).await;
        for _ in 0..16 {
            greedy.send_fetch(12, &fetch_request(&to, 0, 0)).await;
        }
        let (frame, world) = (produce_frame(&elsewhere, 100_000), ram.clone());
        ram.spawn(async move {
            for _ in 0..200 {
                greedy.send_raw(&frame).await;
            }
            world.sleep(Duration::from_secs(3600)).await;
        });
        ram.sleep(Duration::from_secs(1)).await;
        let (_, taken, _) = offset_at(&mut peer, 5, &elsewhere, -1).await;
        // A few more than the memory is for: what the connection has by itself.
        assert!((10..50).contains(&taken), "{taken} produces were taken");
        let began = ram.now();
        let mut honest = Peer::connect(&ram, &shared).await;
        honest.send_raw(&produce_frame(&to, 900_000)).await;
        assert!(honest.receive().await.is_some(), "an honest request was closed");
        let took = ram.now().since(began);
        assert!(took < Duration::from_secs(10), "it took {took:?}");
    });
}

/// Who waits for memory is not idle, however long it has to.
#[test]
fn who_waits_for_memory_is_not_closed_as_idle() {
    let settings = [SCARCE[0], ("connections.max.idle.ms", "5000")];
    with_broker(1, &settings, async |ram, shared, mut peer| {
        let to = topic(&mut peer, "large", &[("max.message.bytes", "4000000")]).await;
        let slow = Peer::connect(&ram, &shared).await;
        // 150 KB a second.
        let slowly = vec![(produce_frame(&to, 3_900_000), 15_000, Duration::from_millis(100))];
        let slow = send_and_wait(&ram, slow, slowly);
        // All of its memory has been given to it by now.
        ram.sleep(Duration::from_secs(18)).await;
        let peer = Peer::connect(&ram, &shared).await;
        let waits = send_and_wait(&ram, peer, at_once(produce_frame(&to, 900_000)));
        let began = ram.now();
        let (is_answered, at) = waits.await.expect("it ran");
        assert!(is_answered, "it was closed");
        let took = at.since(began);
        assert!(took > Duration::from_secs(6), "it took {took:?}");
        assert!(slow.await.expect("it ran").0, "the slow one was closed");
    });
}

/// Large requests whose answers are put off by those who asked, or are not taken, do not keep their memory for
/// as long as they like.
#[test]
fn requests_whose_answers_wait_give_way_to_those_who_wait_for_memory() {
    with_broker(1, &SCARCE, async |ram, shared, mut peer| {
        let to = topic(&mut peer, "bystander", &[]).await;
        let find = FindCoordinatorRequest {
            coordinator_keys: vec!["g".to_owned()],
            ..FindCoordinatorRequest::default()
        };
        assert_eq!(peer.call(6, &find).await.coordinators[0].error_code, 0);
        let mut joining = Vec::new();
        for number in 0..20 {
            let mut hostile = Peer::connect(&ram, &shared).await;
            let strategy =
                JoinGroupRequestProtocol { name: "range".to_owned(), metadata: vec![0; 500_000] };
            let join = JoinGroupRequest {
                // The first member of each has its answer soon, the second when the first joins again.
                group_id: format!("g{}", number % 4),
                session_timeout_ms: 1_800_000,
                rebalance_timeout_ms: 1_800_000,
                protocol_type: "consumer".to_owned(),
                protocols: vec![strategy],
                ..JoinGroupRequest::default()
            };
            let (done, ended) = oneshot::channel();
            ram.spawn(async move {
                hostile.send(11, 3, |out| join.encode(out, 3)).await;
                while hostile.receive().await.is_some() {}
                let _ = done.send(());
            });
            joining.push(ended);
            ram.sleep(Duration::from_secs(4)).await;
        }
        let began = ram.now();
        let mut honest = Peer::connect(&ram, &shared).await;
        honest.send_raw(&produce_frame(&to, 900_000)).await;
        assert!(honest.receive().await.is_some(), "an honest request was closed");
        let took = ram.now().since(began);
        assert!(took < Duration::from_secs(25), "it took {took:?}");
        unharmed(&ram, &shared, &to).await;
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
                    // Mostly short, so that what follows the first fields is looked at as well.
                    let most = if round % 5 == 4 { 100_000 } else { 64 };
                    let length = usize::try_from(chance.bits() % most).expect("small");
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
                    let before = meter::allocated_so_far();
                    hostile.send_raw(&out).await;
                    // An answer, or the end of the connection; but who asks for it may have to wait.
                    let may_wait = [ApiKey::Fetch, ApiKey::JoinGroup, ApiKey::SyncGroup];
                    let limit = ram.sleep(Duration::from_secs(1));
                    tokio::select! {
                        biased;
                        _ = hostile.receive() => {}
                        () = limit => {
                            assert!(may_wait.contains(&key), "{key:?} {version}: no answer, no end");
                        }
                    }
                    let memory = meter::allocated_so_far().wrapping_sub(before);
                    let most = (2 << 20) + 200 * out.len();
                    assert!(memory <= most, "{key:?} {version}: {memory} for {} bytes", out.len());
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
