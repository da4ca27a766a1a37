//! Our client against our broker, in a RAM world: what is promised about each record, on a good
//! network and on a bad one.

mod fencing;
mod group;
mod proxy;
mod restart;

use std::collections::BTreeMap;
use std::time::Duration;

use proxy::{BROKER, PROXY, Proxy, through_proxy};
use trialog_engine::client::{
    Acks, AdminError, CallError, Client, ConsumeError, ConsumedRecord, ConsumerOptions, Failure,
    NewRecord, NewTopic, Options, OutOfRange, Outcome, ProducerOptions, Start,
};
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::io::ram::Ram;
use trialog_engine::io::{Io, Pool};
use trialog_engine::wire::api::ApiKey;
use trialog_engine::wire::batch::{Compression, RecordHeader};
use trialog_engine::wire::code::ErrorCode;

use crate::broker::peer::start;

const P0: PartitionIndex = PartitionIndex(0);

/// Runs `body` with a broker and a client that talks to it directly.
fn with_client(seed: u64, options: Options, body: impl AsyncFnOnce(Ram, Client<Ram>)) {
    let ram = Ram::new(seed);
    let world = ram.clone();
    ram.block_on(async {
        let shared = start(&world, 2, &[]);
        shared.listening().await.expect("it listens");
        let bootstrap = vec![BROKER.parse().expect("an address")];
        let client = Client::connect(world.clone(), Pool::new(), bootstrap, options).await;
        body(world, client.expect("the broker is there")).await;
    });
}

async fn create(client: &Client<Ram>, name: &str, partitions: i32) {
    let topic = NewTopic::new(name, partitions);
    client.admin().create_topic(&topic).await.expect("created");
}

/// Everything in a partition, from its start.
async fn read_all(
    client: &Client<Ram>,
    topic: &str,
    partition: PartitionIndex,
) -> Vec<ConsumedRecord> {
    let end = client.admin().list_offset(topic, partition, Start::Latest).await;
    let (end, _) = end.expect("listed").expect("there is an end");
    let mut consumer = client.consumer(ConsumerOptions::default());
    consumer.assign(topic, partition, Start::Earliest);
    let mut records = Vec::new();
    while consumer.position(topic, partition).is_none_or(|position| position < end) {
        records.extend(consumer.poll(Duration::from_secs(5)).await.expect("readable"));
    }
    records
}

fn stored(outcome: Outcome) -> (PartitionIndex, Offset) {
    match outcome {
        Outcome::Stored(receipt) => (receipt.partition, receipt.offset.expect("acknowledged")),
        other => panic!("not stored: {other:?}"),
    }
}

/// A batch is sent as soon as nothing more can come to it: it is full, or the memory is. Else each
/// of these records would take ten minutes.
#[test]
fn a_batch_that_can_only_wait_does_not_linger() {
    let linger = Duration::from_secs(600);
    let lingering = ProducerOptions { linger, ..ProducerOptions::default() };
    let full = ProducerOptions { batch_bytes: 500, ..lingering.clone() };
    let starved = ProducerOptions { buffer_bytes: 1_500, ..lingering };
    with_client(5, Options::default(), async |ram, client| {
        create(&client, "t", 3).await;
        let record = |partition| NewRecord {
            topic: "t",
            partition: Some(PartitionIndex(partition)),
            value: Some(&[7; 600]),
            ..NewRecord::default()
        };
        let begun = ram.now();
        let producer = client.producer(full);
        stored(producer.send(record(0)).await);
        let producer = client.producer(starved);
        for partition in [0, 1, 2, 2, 1, 0] {
            producer.enqueue(record(partition)).await.expect("room");
        }
        producer.flush().await;
        let took = ram.now().since(begun);
        assert!(took < Duration::from_secs(1), "{took:?}");
    });
}

#[test]
fn records_come_back_as_they_were_in_every_codec() {
    with_client(1, Options::default(), async |_, client| {
        create(&client, "t", 3).await;
        let codecs = [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ];
        let mut expected: BTreeMap<(PartitionIndex, Offset), Vec<u8>> = BTreeMap::new();
        for compression in codecs {
            let producer = client.producer(ProducerOptions {
                compression,
                batch_bytes: 2_000,
                ..ProducerOptions::default()
            });
            let mut tickets = Vec::new();
            for number in 0..300u32 {
                let value = format!("{compression:?} {number} {}", "x".repeat(number as usize));
                let key = number.to_be_bytes();
                let headers = [
                    RecordHeader { key: b"n", value: Some(&key) },
                    RecordHeader { key: b"null", value: None },
                ];
                let record = NewRecord {
                    topic: "t",
                    key: (number % 3 != 0).then_some(&key[..]),
                    value: Some(value.as_bytes()),
                    headers: &headers,
                    timestamp: Some(1_000_000 + i64::from(number)),
                    ..NewRecord::default()
                };
                let ticket = producer.enqueue(record).await.expect("room");
                tickets.push((ticket, value));
            }
            producer.flush().await;
            for (ticket, value) in tickets {
                let place = stored(ticket.await);
                assert_eq!(expected.insert(place, value.into_bytes()), None);
            }
        }
        let mut found = BTreeMap::new();
        for partition in (0..3).map(PartitionIndex) {
            let records = read_all(&client, "t", partition).await;
            assert!(records.len() > 300, "all partitions are used: {}", records.len());
            for (record, offset) in records.into_iter().zip(0..) {
                assert_eq!(record.offset, Offset(offset));
                let number = u32::try_from(record.timestamp - 1_000_000).expect("small");
                let bytes = number.to_be_bytes().to_vec();
                assert_eq!(record.key, (number % 3 != 0).then_some(bytes.clone()));
                let headers = [("n".to_owned(), Some(bytes)), ("null".to_owned(), None)];
                assert_eq!(record.headers, headers);
                found.insert((partition, record.offset), record.value.expect("a value"));
            }
        }
        assert_eq!(found, expected);
    });
}

#[test]
fn every_version_of_produce_and_fetch_is_spoken() {
    for step in 0..15 {
        let versions_max = BTreeMap::from([
            (ApiKey::Produce, (3 + step).min(13)),
            (ApiKey::Fetch, 4 + step),
            (ApiKey::Metadata, (1 + step).min(13)),
            (ApiKey::ListOffsets, (1 + step).min(11)),
            (ApiKey::InitProducerId, (step).min(5)),
            (ApiKey::CreateTopics, (2 + step).min(7)),
            (ApiKey::DeleteTopics, (1 + step).min(6)),
        ]);
        let options = Options { versions_max, ..Options::default() };
        with_client(2, options, async |_, client| {
            create(&client, "t", 1).await;
            let producer = client.producer(ProducerOptions::default());
            for value in ["a", "b"] {
                let value = Some(value.as_bytes());
                let record = NewRecord { topic: "t", value, ..NewRecord::default() };
                stored(producer.send(record).await);
            }
            let records = read_all(&client, "t", P0).await;
            let values: Vec<_> = records.into_iter().filter_map(|record| record.value).collect();
            assert_eq!(values, [b"a", b"b"], "step {step}");
            client.admin().delete_topic("t").await.expect("deleted");
        });
    }
}

#[test]
fn places_are_found_by_name_and_by_time() {
    with_client(3, Options::default(), async |ram, client| {
        create(&client, "t", 1).await;
        // Not so long ago that retention would take them.
        let begin = ram.wall().0;
        let producer = client.producer(ProducerOptions::default());
        for number in 0..10i64 {
            let record = NewRecord {
                topic: "t",
                partition: Some(P0),
                timestamp: Some(begin + 1_000 * number),
                ..NewRecord::default()
            };
            assert_eq!(stored(producer.send(record).await), (P0, Offset(number)));
        }
        let admin = client.admin();
        let at = async |start| admin.list_offset("t", P0, start).await.expect("listed");
        assert_eq!(at(Start::Earliest).await.map(|(offset, _)| offset), Some(Offset(0)));
        assert_eq!(at(Start::Latest).await.map(|(offset, _)| offset), Some(Offset(10)));
        assert_eq!(at(Start::Time(begin + 3_000)).await, Some((Offset(3), begin + 3_000)));
        assert_eq!(at(Start::Time(begin + 3_001)).await, Some((Offset(4), begin + 4_000)));
        assert_eq!(at(Start::Time(begin + 9_001)).await, None);

        let mut consumer = client.consumer(ConsumerOptions::default());
        for (start, first) in
            [(Start::Time(begin + 6_500), 7), (Start::Offset(Offset(2)), 2), (Start::Earliest, 0)]
        {
            consumer.seek("t", P0, start);
            let records = consumer.poll(Duration::from_secs(5)).await.expect("readable");
            assert_eq!(records[0].offset, Offset(first));
            assert_eq!(consumer.position("t", P0), Some(Offset(10)));
            assert_eq!(consumer.high_watermark("t", P0), Some(Offset(10)));
        }
        consumer.seek("t", P0, Start::Latest);
        let began = ram.now();
        assert_eq!(consumer.poll(Duration::from_secs(2)).await, Ok(Vec::new()));
        assert!(ram.now().since(began) >= Duration::from_secs(2));
        let waiting = consumer.poll(Duration::from_secs(60));
        let record = NewRecord { topic: "t", value: Some(b"new"), ..NewRecord::default() };
        let (records, outcome) = futures_util::future::join(waiting, producer.send(record)).await;
        assert_eq!(stored(outcome), (P0, Offset(10)));
        assert_eq!(records.expect("readable")[0].offset, Offset(10));

        consumer.seek("t", P0, Start::Offset(Offset(99)));
        let error = consumer.poll(Duration::from_secs(5)).await.expect_err("beyond the end");
        assert!(matches!(error, ConsumeError::OutOfRange { offset: Offset(99), .. }), "{error}");
        let options = ConsumerOptions { out_of_range: OutOfRange::Earliest, ..Default::default() };
        let mut consumer = client.consumer(options);
        consumer.assign("t", P0, Start::Offset(Offset(99)));
        let records = consumer.poll(Duration::from_secs(5)).await.expect("readable");
        assert_eq!(records.len(), 11);
    });
}

#[test]
fn topics_are_made_listed_and_removed() {
    with_client(4, Options::default(), async |_, client| {
        let admin = client.admin();
        assert_eq!(admin.list_topics().await, Ok(Vec::new()));
        create(&client, "b", 2).await;
        create(&client, "a", 1).await;
        let again = admin.create_topic(&NewTopic::new("a", 1)).await.expect_err("exists");
        let is_refused = |error: AdminError, code: ErrorCode| matches!(error, AdminError::Refused { code: found, .. } if found == code);
        assert!(is_refused(again, ErrorCode::TopicAlreadyExists));
        let listed = admin.list_topics().await.expect("listed");
        let listed: Vec<_> =
            listed.iter().map(|topic| (topic.name.as_str(), topic.partitions)).collect();
        assert_eq!(listed, [("a", 1), ("b", 2)]);
        assert_eq!(client.topic("b").await.expect("there").partitions.len(), 2);
        admin.delete_topic("b").await.expect("deleted");
        let gone = admin.delete_topic("b").await.expect_err("gone");
        assert!(is_refused(gone, ErrorCode::UnknownTopicOrPartition));
        assert_eq!(admin.list_topics().await.expect("listed").len(), 1);
    });
}

#[test]
fn what_a_broker_refuses_has_certainly_failed_and_the_rest_goes_on() {
    with_client(5, Options::default(), async |_, client| {
        let mut topic = NewTopic::new("small", 1);
        topic.configs.insert("max.message.bytes".to_owned(), "1000".to_owned());
        client.admin().create_topic(&topic).await.expect("created");
        let options = ProducerOptions { batch_bytes: 500, ..ProducerOptions::default() };
        let producer = client.producer(options);
        let large = vec![b'x'; 2_000];
        let mut tickets = Vec::new();
        for number in 0..60 {
            let value = if number % 6 == 3 { &large[..] } else { &large[..200] };
            let record = NewRecord { topic: "small", value: Some(value), ..NewRecord::default() };
            tickets.push((number, producer.enqueue(record).await.expect("room")));
        }
        producer.flush().await;
        let mut next = 0;
        for (number, ticket) in tickets {
            match ticket.await {
                Outcome::Stored(receipt) => {
                    assert_ne!(number % 6, 3);
                    assert_eq!(receipt.offset, Some(Offset(next)), "record {number}");
                    next += 1;
                }
                Outcome::Failed(Failure::Refused { code: ErrorCode::MessageTooLarge, .. }) => {
                    assert_eq!(number % 6, 3);
                }
                other => panic!("record {number}: {other:?}"),
            }
        }
        assert_eq!(next, 50);
        let nowhere = NewRecord {
            topic: "small",
            partition: Some(PartitionIndex(7)),
            ..NewRecord::default()
        };
        let outcome = producer.send(nowhere).await;
        assert_eq!(outcome, Outcome::Failed(Failure::NoPartition(PartitionIndex(7))));
    });
}

#[test]
fn weaker_acks_store_too() {
    with_client(6, Options::default(), async |_, client| {
        create(&client, "t", 1).await;
        for acks in [Acks::None, Acks::Leader] {
            let producer = client.producer(ProducerOptions { acks, ..ProducerOptions::default() });
            let record = NewRecord { topic: "t", value: Some(b"v"), ..NewRecord::default() };
            match producer.send(record).await {
                Outcome::Stored(receipt) => {
                    assert_eq!(receipt.offset.is_some(), acks == Acks::Leader);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(read_all(&client, "t", P0).await.len(), 2);
    });
}

#[test]
fn nobody_there_is_a_certain_failure() {
    let ram = Ram::new(8);
    ram.block_on(async {
        let bootstrap = vec![BROKER.parse().expect("an address")];
        let connected =
            Client::connect(ram.clone(), Pool::new(), bootstrap.clone(), Options::default()).await;
        assert!(matches!(connected.err(), Some(CallError::Unreachable(_))));
        let client = Client::new(ram.clone(), Pool::new(), bootstrap, Options::default());
        let timeout = Duration::from_secs(7);
        let options = ProducerOptions { delivery_timeout: timeout, ..ProducerOptions::default() };
        let began = ram.now();
        let record = NewRecord { topic: "t", ..NewRecord::default() };
        let outcome = client.producer(options).send(record).await;
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
        let took = ram.now().since(began);
        assert!(took >= timeout && took < timeout * 2, "{took:?}");
    });
}

/// A client whose only way to the broker is the proxy.
fn client_behind(ram: &Ram, request_timeout: Duration) -> Client<Ram> {
    let options = Options { resolve: through_proxy, request_timeout, ..Options::default() };
    let bootstrap = vec![PROXY.parse().expect("an address")];
    Client::new(ram.clone(), Pool::new(), bootstrap, options)
}

/// Who gives up after refusals that might have passed tells what they were.
#[test]
fn a_record_refused_until_the_time_is_up_says_why() {
    with_client(6, Options::default(), async |ram, client| {
        create(&client, "t", 1).await;
        ram.set_capacity(ram.used() + 500_000);
        ram.sleep(Duration::from_secs(2)).await;
        let delivery_timeout = Duration::from_secs(5);
        let options = ProducerOptions { delivery_timeout, ..ProducerOptions::default() };
        let record = NewRecord { topic: "t", value: Some(b"x"), ..NewRecord::default() };
        match client.producer(options).send(record).await {
            Outcome::Failed(why) | Outcome::Unknown(why) => {
                assert!(why.to_string().contains("disk is full"), "{why}");
            }
            Outcome::Stored(receipt) => panic!("stored on a full disk: {receipt:?}"),
        }
    });
}

#[test]
fn silence_leaves_a_sent_record_unknown_and_an_unsent_one_failed() {
    with_client(9, Options::default(), async |ram, direct| {
        create(&direct, "t", 1).await;
        let proxy = Proxy::start(&ram, 0).await;
        let client = client_behind(&ram, Duration::from_secs(3));
        let timeout = Duration::from_secs(10);
        let options = ProducerOptions { delivery_timeout: timeout, ..ProducerOptions::default() };
        let producer = client.producer(options);
        let record = NewRecord { topic: "t", value: Some(b"first"), ..NewRecord::default() };
        stored(producer.send(record).await);
        proxy.silent.set(true);
        let sent = producer.enqueue(record).await.expect("room");
        let outcome = sent.await;
        assert!(matches!(outcome, Outcome::Unknown(Failure::TimedOut)), "{outcome:?}");
        // No link is alive any more, so this one never leaves.
        let outcome = producer.send(record).await;
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
        proxy.silent.set(false);
        let (_, offset) = stored(producer.send(record).await);
        // The unknown one was held up on its way, and may have arrived.
        assert!(matches!(offset.0, 1 | 2), "{offset}");
    });
}

/// The promise about outcomes, on a network that cuts, halves, delays and swallows: every stored
/// record is there, once, where its receipt says; no failed one is there; an unknown one is there at
/// most once; and each partition has the records in the order in which they were handed over, the
/// unknown ones among them.
#[test]
fn outcomes_are_true_on_a_bad_network() {
    let seeds = std::env::var("TRIALOG_CLIENT_SEEDS").ok().and_then(|text| text.parse().ok());
    let mut totals = [0u64; 4];
    for seed in 0..seeds.unwrap_or(150) {
        with_client(seed, Options::default(), async |ram, direct| {
            create(&direct, "t", 2).await;
            // Every other network is so bad that batches are given up.
            let is_dreadful = seed % 2 == 1;
            let (fault_in, patience) = if is_dreadful { (3, 2) } else { (12, 20) };
            let proxy = Proxy::start(&ram, fault_in).await;
            let client = client_behind(&ram, Duration::from_secs(if is_dreadful { 1 } else { 3 }));
            let producer = client.producer(ProducerOptions {
                delivery_timeout: Duration::from_secs(patience),
                batch_bytes: 400,
                ..ProducerOptions::default()
            });
            let mut tickets = Vec::new();
            for number in 0..400u32 {
                let value = number.to_string();
                let record = NewRecord {
                    topic: "t",
                    partition: Some(PartitionIndex((number % 2).cast_signed())),
                    value: Some(value.as_bytes()),
                    ..NewRecord::default()
                };
                if let Ok(ticket) = producer.enqueue(record).await {
                    tickets.push((number, ticket));
                }
                ram.sleep(Duration::from_millis(ram.random() % 60)).await;
            }
            producer.flush().await;
            totals[3] += proxy.cuts.get();
            // What is still on its way in dead connections arrives.
            proxy.fault_in.set(0);
            ram.sleep(Duration::from_secs(30)).await;

            let mut there: BTreeMap<u32, (PartitionIndex, Offset)> = BTreeMap::new();
            let mut log = [Vec::new(), Vec::new()];
            for partition in 0..2 {
                for record in read_all(&direct, "t", PartitionIndex(partition)).await {
                    let value = String::from_utf8(record.value.expect("a value")).expect("text");
                    let number = value.parse().expect("a number");
                    let place = (record.partition, record.offset);
                    let twice = there.insert(number, place);
                    assert_eq!(twice, None, "seed {seed}: record {number} is there twice");
                    log[partition as usize].push(number);
                }
            }
            for (number, ticket) in tickets {
                let found = there.get(&number).copied();
                match ticket.await {
                    Outcome::Stored(receipt) => {
                        totals[0] += 1;
                        let (partition, offset) =
                            found.unwrap_or_else(|| panic!("seed {seed}: record {number} is lost"));
                        assert_eq!(partition, receipt.partition);
                        assert!(receipt.offset.is_none_or(|told| told == offset));
                    }
                    Outcome::Failed(failure) => {
                        totals[1] += 1;
                        assert_eq!(found, None, "seed {seed}: {number} failed by {failure}");
                    }
                    Outcome::Unknown(_) => totals[2] += 1,
                }
            }
            for log in log {
                assert!(log.is_sorted(), "seed {seed}: order: {log:?}");
            }
        });
    }
    let [stored, failed, unknown, cuts] = totals;
    println!("{stored} stored, {failed} failed, {unknown} unknown, {cuts} connections cut");
    assert!(stored > 1000 && cuts > 100, "the network is bad and the client gets through");
    assert!(failed > 0 && unknown > 0, "some records are given up");
}

/// A consumer behind a network that cuts and delays skips nothing and shows nothing twice.
#[test]
fn a_consumer_on_a_bad_network_reads_on_where_it_was() {
    let mut cuts = 0;
    for seed in 0..15 {
        with_client(seed, Options::default(), async |ram, direct| {
            create(&direct, "t", 3).await;
            let producer =
                direct.producer(ProducerOptions { batch_bytes: 300, ..ProducerOptions::default() });
            let writer = async {
                for number in 0..600u32 {
                    let value = number.to_string();
                    let record = NewRecord {
                        topic: "t",
                        partition: Some(PartitionIndex((number % 3).cast_signed())),
                        value: Some(value.as_bytes()),
                        ..NewRecord::default()
                    };
                    producer.enqueue(record).await.expect("room");
                    ram.sleep(Duration::from_millis(ram.random() % 30)).await;
                }
                producer.flush().await;
            };
            let proxy = Proxy::start(&ram, 4).await;
            let client = client_behind(&ram, Duration::from_secs(2));
            let reader = async {
                let mut consumer = client.consumer(ConsumerOptions {
                    partition_bytes_max: 700,
                    ..ConsumerOptions::default()
                });
                let mut found = [Vec::new(), Vec::new(), Vec::new()];
                for partition in 0..3 {
                    consumer.assign("t", PartitionIndex(partition), Start::Earliest);
                }
                while found.iter().map(Vec::len).sum::<usize>() < 600 {
                    // Short ones, so that polls end with fetches under way.
                    let limit = Duration::from_millis(1 + ram.random() % 400);
                    for record in consumer.poll(limit).await.expect("readable") {
                        let value = String::from_utf8(record.value.expect("a value"));
                        let number: u32 = value.expect("text").parse().expect("a number");
                        found[record.partition.0 as usize].push((record.offset.0, number));
                    }
                }
                found
            };
            let ((), found) = futures_util::future::join(writer, reader).await;
            for (partition, found) in (0..).zip(found) {
                let expected: Vec<_> =
                    (0..200).map(|offset| (offset, 3 * offset as u32 + partition)).collect();
                assert_eq!(found, expected, "seed {seed}");
            }
            cuts += proxy.cuts.get();
        });
    }
    assert!(cuts > 1000, "the network is bad: {cuts}");
}
