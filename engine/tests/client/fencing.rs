//! A batch that was given up and is still on its way: it must not arrive behind later records of its
//! producer (KIP-360).

use std::rc::Rc;
use std::time::Duration;

use trialog_engine::client::{
    Client, Failure, NewRecord, Options, Outcome, Producer, ProducerOptions,
};
use trialog_engine::id::PartitionIndex;
use trialog_engine::io::Io;
use trialog_engine::io::ram::Ram;
use trialog_engine::wire::api::{
    DescribeProducersRequest, DescribeProducersTopicRequest, ProducerState,
};

use super::proxy::Proxy;
use super::{client_behind, create, read_all, stored, with_client};

/// When the network lets go of what it holds up.
const HELD: Duration = Duration::from_secs(60);

fn record(partition: i32, value: &str) -> NewRecord<'_> {
    let partition = Some(PartitionIndex(partition));
    NewRecord { topic: "t", partition, value: Some(value.as_bytes()), ..NewRecord::default() }
}

/// What partitions know of their producers.
async fn producers(client: &Client<Ram>, partition: i32) -> Vec<ProducerState> {
    let topic =
        DescribeProducersTopicRequest { name: "t".to_owned(), partition_indexes: vec![partition] };
    let request = DescribeProducersRequest { topics: vec![topic] };
    let mut response = client.call(&request).await.expect("described");
    response.topics.remove(0).partitions.remove(0).active_producers
}

async fn values(client: &Client<Ram>, partition: i32) -> Vec<String> {
    let records = read_all(client, "t", PartitionIndex(partition)).await;
    let value = |value: Option<Vec<u8>>| String::from_utf8(value.expect("a value")).expect("text");
    records.into_iter().map(|record| value(record.value)).collect()
}

/// A producer on a network that can hold things up, with two partitions to write to.
fn with_producer(body: impl AsyncFnOnce(Ram, Client<Ram>, Rc<Proxy>, Producer<Ram>)) {
    with_client(11, Options::default(), async |ram, direct| {
        create(&direct, "t", 2).await;
        let proxy = Proxy::start(&ram, 0).await;
        let client = client_behind(&ram, Duration::from_secs(2));
        let delivery_timeout = Duration::from_secs(5);
        let options = ProducerOptions { delivery_timeout, ..ProducerOptions::default() };
        body(ram, direct, proxy, client.producer(options)).await;
    });
}

/// Sends records that the network holds up until the producer gives them up, and longer.
async fn give_up(ram: &Ram, proxy: &Proxy, producer: &Producer<Ram>, records: &[(i32, &str)]) {
    proxy.held_until.set(Some(ram.now().after(HELD)));
    let mut tickets = Vec::new();
    for &(partition, value) in records {
        tickets.push(producer.enqueue(record(partition, value)).await.expect("room"));
    }
    for ticket in tickets {
        let outcome = ticket.await;
        assert!(matches!(outcome, Outcome::Unknown(Failure::TimedOut)), "{outcome:?}");
    }
    proxy.held_until.set(None);
}

#[test]
fn a_batch_that_was_given_up_does_not_come_after_later_ones() {
    with_producer(async |ram, direct, proxy, producer| {
        stored(producer.send(record(0, "first")).await);
        stored(producer.send(record(1, "first")).await);
        let before = producers(&direct, 0).await;
        give_up(&ram, &proxy, &producer, &[(0, "late")]).await;
        stored(producer.send(record(0, "later")).await);
        ram.sleep(2 * HELD).await;
        assert_eq!(values(&direct, 0).await, ["first", "later"]);
        let after = producers(&direct, 0).await;
        assert_eq!(after.len(), 1, "it has kept its id: {after:?}");
        assert_eq!(after[0].producer_id, before[0].producer_id);
        assert_eq!(after[0].producer_epoch, before[0].producer_epoch + 1);
        assert_eq!(after[0].last_sequence, 0);

        // The other partition has lost nothing, and changes over with the next record.
        let other = producers(&direct, 1).await;
        assert_eq!((other.len(), other[0].producer_epoch), (1, before[0].producer_epoch));
        stored(producer.send(record(1, "second")).await);
        let other = producers(&direct, 1).await;
        assert_eq!((other.len(), other[0].producer_epoch), (1, after[0].producer_epoch));
        assert_eq!(values(&direct, 1).await, ["first", "second"]);
    });
}

/// A broker takes the second batch of a producer that it does not know, whatever became of the first.
#[test]
fn a_first_batch_that_was_altered_on_its_way_does_not_come_after_later_ones() {
    with_client(12, Options::default(), async |ram, direct| {
        create(&direct, "t", 2).await;
        let proxy = Proxy::start(&ram, 0).await;
        let client = client_behind(&ram, Duration::from_secs(2));
        // Each record is a batch.
        let options = ProducerOptions {
            batch_bytes: 1,
            linger: Duration::ZERO,
            ..ProducerOptions::default()
        };
        let producer = client.producer(options);
        // So that it knows where to send, and who it is.
        stored(producer.send(record(1, "elsewhere")).await);
        proxy.alter.set(Some("first"));
        let mut tickets = Vec::new();
        for value in ["first", "second", "third"] {
            tickets.push(producer.enqueue(record(0, value)).await.expect("room"));
        }
        for ticket in tickets {
            stored(ticket.await);
        }
        assert_eq!(proxy.alter.get(), None, "it came by");
        assert_eq!(values(&direct, 0).await, ["first", "second", "third"]);
    });
}

#[test]
fn partitions_that_lose_track_together_raise_the_epoch_once() {
    with_producer(async |ram, direct, proxy, producer| {
        for partition in 0..2 {
            stored(producer.send(record(partition, "first")).await);
        }
        let before = producers(&direct, 0).await;
        give_up(&ram, &proxy, &producer, &[(0, "late"), (1, "late")]).await;
        let tickets = [
            producer.enqueue(record(0, "later")).await.expect("room"),
            producer.enqueue(record(1, "later")).await.expect("room"),
        ];
        for ticket in tickets {
            stored(ticket.await);
        }
        ram.sleep(2 * HELD).await;
        for partition in 0..2 {
            assert_eq!(values(&direct, partition).await, ["first", "later"]);
            let after = producers(&direct, partition).await;
            assert_eq!(after.len(), 1, "{after:?}");
            assert_eq!(after[0].producer_epoch, before[0].producer_epoch + 1);
        }
    });
}

/// Nothing fences an old batch before one of the new epoch is there; but then it is in its place.
#[test]
fn a_batch_that_arrives_before_later_ones_stays_before_them() {
    with_producer(async |ram, direct, proxy, producer| {
        stored(producer.send(record(0, "first")).await);
        give_up(&ram, &proxy, &producer, &[(0, "late")]).await;
        ram.sleep(2 * HELD).await;
        stored(producer.send(record(0, "later")).await);
        assert_eq!(values(&direct, 0).await, ["first", "late", "later"]);
        let after = producers(&direct, 0).await;
        assert_eq!((after[0].producer_epoch, after[0].last_sequence), (0, 2));
    });
}

/// The first batch of a producer is the one that is late: the partition knows nothing of it, takes
/// the next one with the sequence that it has, and then not the first.
#[test]
fn a_first_batch_that_was_given_up_does_not_come_after_later_ones() {
    with_producer(async |ram, direct, proxy, producer| {
        stored(producer.send(record(1, "first")).await);
        give_up(&ram, &proxy, &producer, &[(0, "late")]).await;
        stored(producer.send(record(0, "later")).await);
        ram.sleep(2 * HELD).await;
        assert_eq!(values(&direct, 0).await, ["later"]);
    });
}
