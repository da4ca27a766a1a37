//! The admin listener: what an operator's tools get, while a broker starts, serves and stops, and
//! what becomes of those who misuse it.

mod exposition;

use std::sync::Arc;
use std::time::Duration;

use super::peer::{self, Peer, To, batch, values};
use super::{groups, quotas};
use exposition::Page;
use trialog_engine::broker::{AdminWish, Shared};
use trialog_engine::id::{PartitionIndex, TopicId};
use trialog_engine::io::ram::{Loss, Ram, RamConnection};
use trialog_engine::io::{self, Buf, Connection, ErrorKind, Flow, Io, Listener};
use trialog_engine::limit::{
    ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_BYTES_MAX, ADMIN_HEAD_WAIT, RECENT_INTERVAL,
};
use trialog_engine::wire::api::{DeleteTopicState, DeleteTopicsRequest};
use trialog_engine::wire::code::ErrorCode;

const ADMIN: &str = "127.0.0.1:9644";

fn wish(optional: bool) -> Option<AdminWish> {
    Some(AdminWish { address: ADMIN.parse().expect("an address"), optional, usage: || None })
}

/// Runs `body` with a broker of two cores that has an admin listener.
fn with_operator(body: impl AsyncFnOnce(Ram, Arc<Shared<Ram>>, Peer)) {
    let ram = Ram::new(11);
    let world = ram.clone();
    ram.block_on(async {
        let shared = peer::prepare(2, &[], wish(false));
        peer::run(&world, &shared, 2);
        let peer = Peer::connect(&world, &shared).await;
        body(world.clone(), shared, peer).await;
    });
}

async fn connect(ram: &Ram) -> RamConnection {
    ram.connect(ADMIN.parse().expect("an address")).await.expect("it accepts")
}

async fn send(connection: &RamConnection, text: &str) {
    // A listener that has closed the connection meanwhile is noticed when reading.
    let _ = io::write_all(connection, Buf::from(text.as_bytes()), Flow::Done).await;
}

/// All that comes until the other side ends.
async fn receive(connection: &RamConnection) -> String {
    let mut all = Vec::new();
    loop {
        let (read, buf) = connection.read(Buf::with_capacity(1 << 16)).await;
        match read {
            Ok(read) if read > 0 => all.extend_from_slice(&buf),
            _ => return String::from_utf8(all).expect("text"),
        }
    }
}

/// Status, head and body of an answer, put together from its chunks.
fn split(answer: &str) -> (u16, &str, String) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    if !head.contains("Transfer-Encoding: chunked") {
        return (status, head, body.to_owned());
    }
    let (mut whole, mut rest) = (String::new(), body);
    loop {
        let (size, after) = rest.split_once("\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(size, 16).expect("a size");
        whole.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").expect("a chunk ends with its size");
        if size == 0 {
            assert_eq!(rest, "", "nothing behind the last chunk");
            return (status, head, whole);
        }
    }
}

async fn get(ram: &Ram, path: &str) -> (u16, String) {
    let connection = connect(ram).await;
    send(&connection, &format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n")).await;
    let answer = receive(&connection).await;
    let (status, _, body) = split(&answer);
    (status, body)
}

async fn metrics(ram: &Ram) -> Page {
    let (status, body) = get(ram, "/metrics").await;
    assert_eq!(status, 200);
    Page::read(&body)
}

pub async fn delete_topic(peer: &mut Peer, name: &str) {
    let topic = DeleteTopicState { name: Some(name.to_owned()), topic_id: TopicId::NONE };
    let delete = DeleteTopicsRequest {
        topics: vec![topic],
        timeout_ms: 1000,
        ..DeleteTopicsRequest::default()
    };
    assert_eq!(peer.call(6, &delete).await.responses[0].error_code, 0);
}

#[test]
fn metrics_count_what_was_done_under_our_names_and_kafkas() {
    with_operator(async |ram, shared, mut peer| {
        let to = super::topic(&mut peer, "counted", &[]).await;
        let batches = [batch(&["a", "b", "c"]), batch(&["d"])];
        let bytes: usize = batches.iter().map(Vec::len).sum();
        for batch in &batches {
            assert_eq!(peer.produce(9, &to, batch).await.error, ErrorCode::None);
        }
        let (_, records) = peer.fetch(12, &to, 0, 0).await;
        assert_eq!(values(&records).len(), 4);
        // One that waits for more bytes than there are, and is answered once with all of them.
        let mut request = peer::fetch_request(&to, 0, 50);
        request.min_bytes = 1 << 20;
        peer.send_fetch(12, &request).await;
        peer.receive_fetch(12).await;
        let (missing, _) = peer.fetch(12, &to, 99, 0).await;
        assert_eq!(missing.error, ErrorCode::OffsetOutOfRange);
        let mut damaged = batch(&["bits"]);
        *damaged.last_mut().expect("bytes") ^= 1;
        assert_eq!(peer.produce(9, &to, &damaged).await.error, ErrorCode::CorruptMessage);
        groups::coordinator(&mut peer, 4, "readers").await;
        assert_eq!(groups::commit(&mut peer, 8, &to, ("readers", "", -1), 1).await, 0);

        let page = metrics(&ram).await;
        let counted = [("topic", "counted")];
        let one = [("topic", "counted"), ("partition", "1")];
        let group = [("group", "readers"), ("topic", "counted"), ("partition", "1")];
        let readers = [("consumergroup", "readers"), ("topic", "counted"), ("partition", "1")];
        let kminion = [("group_id", "readers"), ("topic_name", "counted")];
        let topic_info = [
            ("cleanup_policy", "delete"),
            ("partition_count", "3"),
            ("replication_factor", "1"),
            ("topic_name", "counted"),
        ];
        let group_info = [
            ("coordinator_id", "1"),
            ("group_id", "readers"),
            ("protocol", ""),
            ("protocol_type", ""),
            ("state", "Empty"),
        ];
        for (name, labels, value) in [
            ("trialog_cores", &[][..], 2.0),
            ("trialog_started", &[], 1.0),
            ("trialog_connections", &[], 1.0),
            ("trialog_topic_records_in_total", &counted, 4.0),
            ("trialog_topic_bytes_in_total", &counted, bytes as f64),
            ("trialog_topic_bytes_out_total", &counted, 2.0 * bytes as f64),
            ("trialog_topic_size_bytes", &counted, bytes as f64),
            ("trialog_partition_readable_end_offset", &one, 4.0),
            ("trialog_partition_unflushed_records", &one, 0.0),
            ("trialog_fetch_partitions_failed_total", &[], 1.0),
            ("trialog_requests_refused_total", &[("api", "Produce")], 1.0),
            ("trialog_request_seconds_count", &[("api", "Produce")], 3.0),
            ("trialog_request_seconds_count", &[("api", "Fetch")], 3.0),
            ("trialog_group_offset", &group, 1.0),
            ("trialog_group_lag_records", &group, 3.0),
            ("trialog_group_state", &[("group", "readers"), ("state", "Empty")], 1.0),
            ("kafka_server_brokertopicmetrics_messagesin_total", &counted, 4.0),
            ("kafka_server_brokertopicmetrics_bytesin_total", &counted, bytes as f64),
            ("kafka_server_brokertopicmetrics_bytesout_total", &counted, 2.0 * bytes as f64),
            ("kafka_server_brokertopicmetrics_failedproducerequests_total", &[], 1.0),
            ("kafka_server_brokertopicmetrics_totalfetchrequests_total", &[], 3.0),
            ("kafka_server_kafkaserver_brokerstate", &[], 3.0),
            ("kafka_network_requestmetrics_requests_total", &[("request", "Produce")], 3.0),
            ("kafka_network_requestmetrics_requests_total", &[("request", "FetchConsumer")], 3.0),
            ("kafka_log_log_logendoffset", &one, 4.0),
            ("kafka_topic_partition_current_offset", &one, 4.0),
            ("kafka_topic_partition_oldest_offset", &one, 0.0),
            ("kafka_topic_partitions", &counted, 3.0),
            ("kafka_consumergroup_lag", &readers, 3.0),
            ("kafka_consumergroup_lag_sum", &readers[..2], 3.0),
            ("kminion_kafka_consumer_group_topic_lag", &kminion, 3.0),
            ("kminion_kafka_consumer_group_empty_members", &kminion[..1], 0.0),
            ("kminion_kafka_topic_low_water_mark_sum", &kminion[1..], 0.0),
            ("kminion_kafka_topic_log_dir_size_total_bytes", &kminion[1..], bytes as f64),
            ("kminion_kafka_topic_info", &topic_info, 1.0),
            ("kminion_kafka_consumer_group_info", &group_info, 0.0),
            ("kafka_coordinator_group_groupmetadatamanager_numgroups", &[], 1.0),
            ("kafka_coordinator_group_groupmetadatamanager_numgroupsempty", &[], 1.0),
            ("kafka_coordinator_group_groupmetadatamanager_numgroupsstable", &[], 0.0),
            ("kafka_server_group_coordinator_metrics_offset_count", &[], 1.0),
            ("kafka_server_group_coordinator_metrics_group_count", &[("protocol", "classic")], 1.0),
            (
                "kafka_server_group_coordinator_metrics_classic_group_count",
                &[("state", "Empty")],
                1.0,
            ),
        ] {
            assert_eq!(page.value(name, labels), Some(value), "{name} {labels:?}");
        }
        // The wait of 50 ms is in there.
        let slow = [("api", "Fetch"), ("le", "0.032768")];
        let all = [("api", "Fetch"), ("le", "0.131072")];
        assert_eq!(page.value("trialog_request_seconds_bucket", &slow), Some(2.0));
        assert_eq!(page.value("trialog_request_seconds_bucket", &all), Some(3.0));

        // What a deleted topic did stays in the sum of all.
        let name = "kafka_server_brokertopicmetrics_messagesin_total";
        let before = page.value(name, &[]).expect("it is there");
        delete_topic(&mut peer, "counted").await;
        let page = loop {
            let page = metrics(&ram).await;
            if page.value(name, &counted).is_none() {
                break page;
            }
            ram.sleep(Duration::from_millis(10)).await;
        };
        assert!(page.value(name, &[]) >= Some(before));
        drop(shared);
    });
}

#[test]
fn pages_and_errors_say_what_they_are() {
    with_operator(async |ram, shared, _peer| {
        assert_eq!(shared.admin_address().map(|at| at.to_string()).as_deref(), Some(ADMIN));
        assert_eq!(get(&ram, "/livez").await, (200, "live\n".to_owned()));
        let (status, pages) = get(&ram, "/").await;
        assert_eq!(status, 200);
        let (status, text) = get(&ram, "/metric").await;
        assert_eq!(status, 404);
        assert!(text.starts_with("there is no page \"/metric\" here") && text.contains(&pages));
        for (sent, status, told) in [
            ("POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405, "use GET or HEAD"),
            ("GET /metrics HTTP/3\r\n\r\n", 505, "HTTP/1.1"),
            ("GET /metrics\r\n\r\n", 400, "no HTTP request"),
            ("\u{16}\u{3}\u{1}", 400, "TLS"),
        ] {
            let connection = connect(&ram).await;
            send(&connection, sent).await;
            let answer = receive(&connection).await;
            let (found, head, text) = split(&answer);
            assert_eq!(found, status, "{sent:?}");
            assert!(text.contains(told), "{text}");
            assert_eq!(head.contains("Allow: GET, HEAD"), status == 405);
        }
        let connection = connect(&ram).await;
        send(&connection, &format!("GET / HTTP/1.1\r\n{}", "x".repeat(ADMIN_HEAD_BYTES_MAX))).await;
        assert_eq!(split(&receive(&connection).await).0, 431);
        // A head alone, and a client that knows no chunks.
        let connection = connect(&ram).await;
        send(&connection, "HEAD /metrics HTTP/1.1\r\n\r\n").await;
        assert!(receive(&connection).await.ends_with("chunked\r\n\r\n"));
        let connection = connect(&ram).await;
        send(&connection, "GET /metrics HTTP/1.0\r\n\r\n").await;
        let answer = receive(&connection).await;
        let (_, head, body) = split(&answer);
        assert!(!head.contains("Transfer-Encoding") && !head.contains("Content-Length"));
        Page::read(&body);
    });
}

/// Quantiles are of the last minutes, and clients that are held back are seen.
#[test]
fn what_was_slow_long_ago_is_not_slow_now() {
    with_operator(async |ram, shared, mut peer| {
        let to = super::topic(&mut peer, "held", &[]).await;
        let rate = [("producer_byte_rate", 2000.0)];
        let slow = [("client-id", Some("slow"))];
        assert_eq!(quotas::set(&mut peer, 1, &slow, &rate, false).await.0, 0);
        let mut slow = Peer::connect(&ram, &shared).await;
        slow.call_itself("slow");
        let mut told_ms = 0;
        for _ in 0..3 {
            told_ms += quotas::produce(&mut slow, &to, 3000).await;
        }
        assert!(told_ms > 1000);
        let quota = [("quota", "producer_byte_rate")];
        let quantile = [("request", "Produce"), ("quantile", "0.99")];
        let page = metrics(&ram).await;
        let number = |page: &Page, name: &str, labels: &[_]| page.value(name, labels);
        assert_eq!(number(&page, "trialog_throttle_seconds_count", &quota), Some(3.0));
        let sum = number(&page, "trialog_throttle_seconds_sum", &quota).expect("it is told");
        assert!((sum - f64::from(told_ms) / 1000.0).abs() < 0.01, "{sum} {told_ms}");
        let mean = number(&page, "kafka_server_produce_throttle_time", &[]).expect("it is told");
        assert!((mean - f64::from(told_ms) / 3.0).abs() < 10.0, "{mean} {told_ms}");
        assert_eq!(number(&page, "kafka_server_fetch_throttle_time", &[]), Some(0.0));
        let time = "kafka_network_requestmetrics_totaltimems";
        assert!(number(&page, time, &quantile).is_some());
        ram.sleep(2 * RECENT_INTERVAL + Duration::from_secs(1)).await;
        let page = metrics(&ram).await;
        assert_eq!(number(&page, time, &quantile), None, "nothing was produced of late");
        assert_eq!(number(&page, &format!("{time}_count"), &quantile[..1]), Some(3.0));
        assert_eq!(number(&page, "kafka_server_produce_throttle_time", &[]), Some(0.0));
        assert_eq!(number(&page, "trialog_throttle_seconds_count", &quota), Some(3.0));
    });
}

#[test]
fn health_follows_the_broker_through_start_and_stop() {
    let ram = Ram::new(3);
    let world = ram.clone();
    ram.block_on(async {
        let shared = peer::start(&world, 2, &[]);
        let mut peer = Peer::connect(&world, &shared).await;
        for name in ["a", "b", "c", "d"] {
            let to = super::topic(&mut peer, name, &[]).await;
            for index in 0..3 {
                let to = To { index: PartitionIndex(index), ..to };
                assert_eq!(peer.produce(9, &to, &batch(&["x"])).await.error, ErrorCode::None);
            }
        }
    });
    let ram = ram.crash(Loss::Everything);
    let world = ram.clone();
    ram.block_on(async {
        let shared = peer::prepare(2, &[], wish(false));
        peer::run(&world, &shared, 2);
        shared.admin_listening().await.expect("it listens");
        let mut seen = Vec::new();
        let text = loop {
            let (live, _) = get(&world, "/livez").await;
            assert_eq!(live, 200);
            let (ready, not_ready) = get(&world, "/readyz").await;
            let (started, text) = get(&world, "/startupz").await;
            seen.push((ready, started));
            if ready == 200 {
                assert_eq!((started, not_ready.as_str()), (200, "ready\n"));
                break text;
            }
            assert!(not_ready.starts_with("not ready\nstarting: "), "{not_ready}");
        };
        assert_eq!(seen.first(), Some(&(503, 503)), "{seen:?}");
        assert!(text.starts_with("started\nlogs: 12 of 12 opened\nrecovery: 12 logs, "), "{text}");

        // Who came before the end is answered, and told.
        let early = connect(&world).await;
        send(&early, "GET /readyz HT").await;
        world.sleep(Duration::from_millis(5)).await;
        shared.stop();
        send(&early, "TP/1.1\r\n\r\n").await;
        let answer = receive(&early).await;
        assert_eq!(split(&answer), (503, split(&answer).1, "stopping\n".to_owned()));
        world.sleep(Duration::from_millis(100)).await;
        let late = world.connect(ADMIN.parse().expect("an address")).await;
        let late = match late {
            Ok(connection) => receive(&connection).await,
            Err(_) => String::new(),
        };
        assert_eq!(late, "", "nobody is answered after the end");
    });
}

#[test]
fn an_address_in_use_stops_only_the_broker_that_was_given_it() {
    for optional in [true, false] {
        let ram = Ram::new(5);
        let world = ram.clone();
        ram.block_on(async {
            let other = world.listen(ADMIN.parse().expect("an address")).await.expect("free");
            assert_eq!(other.local_address().to_string(), ADMIN);
            let shared = peer::prepare(1, &[], wish(optional));
            let run = trialog_engine::broker::run(
                world.clone(),
                trialog_engine::id::CoreId(0),
                shared.clone(),
            );
            if optional {
                world.spawn(async move { run.await.expect("it starts") });
                assert!(shared.listening().await.is_some());
                assert_eq!(shared.admin_address(), None);
            } else {
                let error = run.await.expect_err("it was told to use this one").to_string();
                assert!(error.contains("--set trialog.admin.listener=HOST:PORT"), "{error}");
            }
        });
    }
}

/// More silent visitors than there are places, some that send a byte at a time, one that never
/// reads: Kafka's clients notice nothing, and who asks properly is answered at once.
#[test]
fn misuse_disturbs_nobody() {
    with_operator(async |ram, _shared, mut peer| {
        let to = super::topic(&mut peer, "calm", &[]).await;
        let mut silent = Vec::new();
        for number in 0..3 * ADMIN_CONNECTIONS_MAX {
            let connection = connect(&ram).await;
            if number % 3 == 0 {
                send(&connection, "GET /metr").await;
            }
            silent.push(connection);
        }
        let began = ram.now();
        assert_eq!(get(&ram, "/livez").await.0, 200);
        assert_eq!(peer.produce(9, &to, &batch(&["x"])).await.error, ErrorCode::None);
        assert!(ram.now().since(began) < Duration::from_secs(1), "answered at once");
        // Those who came first have lost their places to those who came later.
        let first = silent.remove(0);
        assert_eq!(receive(&first).await, "");
        assert!(ram.now().since(began) < Duration::from_secs(1), "closed by the next who came");
        // The others lose theirs when their time is up.
        let last = silent.pop().expect("many");
        assert_eq!(receive(&last).await, "");
        let waited = ram.now().since(began);
        assert!(waited <= ADMIN_HEAD_WAIT + Duration::from_secs(1), "{waited:?}");

        // Who goes on sending after the answer is not listened to for ever.
        let chatty = connect(&ram).await;
        send(&chatty, "GET /livez HTTP/1.1\r\n\r\n").await;
        for _ in 0..200 {
            let bytes = Buf::from(&[b'x'; 1024][..]);
            if io::write_all(&chatty, bytes, Flow::Done).await.is_err() {
                break;
            }
            ram.sleep(Duration::from_millis(20)).await;
        }
        let (result, _) = chatty.write(Buf::from(&b"x"[..]), Flow::Done).await;
        let closed = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset, ErrorKind::NotConnected];
        assert!(result.is_err_and(|error| closed.contains(&error.kind())), "it was closed");
        assert_eq!(get(&ram, "/readyz").await, (200, "ready\n".to_owned()));
    });
}

/// A disk that fills up refuses producers and nobody else, says so everywhere, and serves them again
/// when there is room, by itself; what was acknowledged meanwhile survives a power cut.
#[test]
fn a_full_disk_is_a_state_and_passes() {
    const MIN: u64 = 100_000;
    const WARN: u64 = 200_000;
    let (min, warn) = (MIN.to_string(), WARN.to_string());
    let settings = [
        ("trialog.disk.free.min.bytes", min.as_str()),
        ("trialog.disk.free.warn.bytes", warn.as_str()),
        ("offsets.topic.num.partitions", "2"),
    ];
    for to_the_last_byte in [false, true] {
        let ram = Ram::new(13);
        let world = ram.clone();
        let kept = ram.block_on(async {
            let shared = peer::prepare(2, &settings, wish(false));
            peer::run(&world, &shared, 2);
            let mut peer = Peer::connect(&world, &shared).await;
            let to = super::topic(&mut peer, "full", &[("retention.bytes", "-1")]).await;
            let other = super::topic(&mut peer, "other", &[]).await;
            groups::coordinator(&mut peer, 4, "readers").await;
            assert_eq!(get(&world, "/readyz").await.1, "ready\n");
            let value = "x".repeat(1000);
            let mut kept = 0;
            for _ in 0..10 {
                let answer = peer.produce(9, &to, &batch(&[&value])).await;
                assert_eq!((answer.error, answer.base_offset.0), (ErrorCode::None, kept));
                kept += 1;
            }
            let used = world.used();
            world.set_capacity(used + MIN + WARN / 4);
            world.sleep(Duration::from_secs(2)).await;
            let (status, text) = get(&world, "/readyz").await;
            assert!(status == 200 && text.contains("warning: the disk is nearly full"), "{text}");
            assert_eq!(metrics(&world).await.value("trialog_disk_level", &[]), Some(1.0));
            let answer = peer.produce(9, &to, &batch(&[&value])).await;
            assert_eq!(answer.error, ErrorCode::None, "a warning refuses nobody");
            kept += 1;

            // Other programs take the rest: all but the reserve, or the last byte.
            let left = if to_the_last_byte { 1500 } else { MIN / 2 };
            world.set_capacity(world.used() + left);
            if to_the_last_byte {
                // The look of the next second is not needed: a write that finds no room is enough.
                while peer.produce(9, &to, &batch(&[&value])).await.error == ErrorCode::None {
                    kept += 1;
                }
            } else {
                world.sleep(Duration::from_secs(2)).await;
            }
            let answer = peer.produce(9, &to, &batch(&[&value])).await;
            assert_eq!(answer.error, ErrorCode::KafkaStorageError);
            let told = answer.error_message.expect("a reason");
            assert!(told.contains("trialog.disk.free.min.bytes"), "{told}");
            world.sleep(Duration::from_secs(2)).await;
            let (status, text) = get(&world, "/readyz").await;
            assert!(status == 200 && text.contains("error: the disk is full"), "{text}");
            let page = metrics(&world).await;
            assert_eq!(page.value("trialog_disk_level", &[]), Some(2.0));
            assert!(page.value("trialog_batches_refused_full_total", &[]) >= Some(1.0));
            assert_eq!(page.value("trialog_partitions_offline", &[]), Some(0.0));

            // Readers go on; and with the reserve, so does all that makes room.
            let (_, records) = peer.fetch(12, &to, 0, 0).await;
            assert_eq!(values(&records).len() as i64, kept);
            if !to_the_last_byte {
                assert_eq!(groups::commit(&mut peer, 8, &to, ("readers", "", -1), 3).await, 0);
                assert_eq!(super::upkeep::delete_below(&mut peer, 1, &to, 2).await, (0, 2));
                delete_topic(&mut peer, other.name).await;
            }

            // There is room again; nobody restarts anything.
            world.set_capacity(u64::MAX);
            let mut refused = 0;
            loop {
                let answer = peer.produce(9, &to, &batch(&["after"])).await;
                if answer.error == ErrorCode::None {
                    assert_eq!(answer.base_offset.0, kept, "what was refused took no offset");
                    kept += 1;
                    break;
                }
                assert_eq!(answer.error, ErrorCode::KafkaStorageError);
                refused += 1;
                assert!(refused < 100, "it never takes records again");
                world.sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(get(&world, "/readyz").await.1, "ready\n");
            // A log that is made while the disk is full waits for room, and is not lost.
            world.set_capacity(world.used());
            let made = peer.create("late", 1, &[]).await.topics[0].error_code;
            let storage = ErrorCode::KafkaStorageError.code();
            assert!([0, storage].contains(&made), "{made}");
            world.set_capacity(u64::MAX);
            world.sleep(Duration::from_secs(3)).await;
            if made == storage {
                assert_eq!(peer.create("late", 1, &[]).await.topics[0].error_code, 0);
            }
            let late = To { name: "late", id: TopicId::NONE, index: PartitionIndex(0) };
            assert_eq!(peer.produce(9, &late, &batch(&["x"])).await.error, ErrorCode::None);
            kept
        });
        let ram = ram.crash(Loss::Everything);
        let world = ram.clone();
        ram.block_on(async {
            let shared = peer::prepare(1, &settings, None);
            peer::run(&world, &shared, 1);
            let mut peer = Peer::connect(&world, &shared).await;
            let to = To { name: "full", id: TopicId::NONE, index: PartitionIndex(1) };
            let from = if to_the_last_byte { 0 } else { 2 };
            let (partition, records) = peer.fetch(12, &to, from, 0).await;
            assert_eq!((partition.error, partition.high_watermark.0), (ErrorCode::None, kept));
            assert_eq!(values(&records).len() as i64, kept - from);
        });
    }
}

/// What the page says goes at the next check goes then, and nothing else does.
#[test]
fn retention_is_explained_before_it_happens() {
    let ram = Ram::new(19);
    let world = ram.clone();
    ram.block_on(async {
        let settings = [("log.retention.check.interval.ms", "60000")];
        let shared = peer::prepare(1, &settings, wish(false));
        peer::run(&world, &shared, 1);
        let mut peer = Peer::connect(&world, &shared).await;
        let configs = [("segment.ms", "1000"), ("retention.ms", "-1")];
        let to = super::topic(&mut peer, "doomed", &configs).await;
        for _ in 0..5 {
            assert_eq!(peer.produce(9, &to, &batch(&["some bytes"])).await.error, ErrorCode::None);
            world.sleep(Duration::from_millis(1500)).await;
        }
        let told = async || {
            let (status, text) = get(&world, "/topics/doomed/retention").await;
            assert_eq!(status, 200, "{text}");
            let page: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(page["partitions"].as_array().map(Vec::len), Some(3));
            let partition = page["partitions"][1].clone();
            let segments = partition["segments"].as_array().expect("a list").clone();
            (page, segments)
        };
        super::admin::set(&mut peer, "doomed", "retention.bytes", "250").await;
        let (page, segments) = told().await;
        assert_eq!(page["retention_bytes"], 250);
        let doomed: Vec<_> =
            segments.iter().filter(|segment| segment["due"] == "size").cloned().collect();
        assert!(!doomed.is_empty() && doomed.len() < segments.len(), "{segments:?}");
        let end = doomed.last().expect("one").get("end").and_then(serde_json::Value::as_i64);
        world.sleep(Duration::from_secs(61)).await;
        let start = super::offset_at(&mut peer, 5, &to, -2).await.1;
        assert_eq!(Some(start), end, "what was told has happened");
        // Time, from now on: everything is years old.
        super::admin::set(&mut peer, "doomed", "retention.ms", "1000").await;
        let (_, segments) = told().await;
        assert!(segments.iter().all(|segment| segment["due"] == "time"), "{segments:?}");
        let (status, text) = get(&world, "/topics/nobody/retention").await;
        assert_eq!((status, text.as_str()), (404, "there is no topic \"nobody\"\n"));
    });
}
