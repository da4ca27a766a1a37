//! A broker that stops and starts again under its clients: leaders' epochs rise, connections end,
//! and nobody who writes or reads notices more than a pause.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use trialog_engine::broker::{self, Shared};
use trialog_engine::client::{
    Client, ConsumerOptions, NewRecord, Options, Outcome, ProducerOptions, Start,
};
use trialog_engine::config;
use trialog_engine::id::{CoreId, Offset, PartitionIndex};
use trialog_engine::io::ram::Ram;
use trialog_engine::io::{Io, Pool};

use super::proxy::BROKER;

const P0: PartitionIndex = PartitionIndex(0);
const RECORDS: i64 = 300;

/// A broker of one core, and word of its end.
fn start(ram: &Ram) -> (Arc<Shared<Ram>>, oneshot::Receiver<()>) {
    let shared = Shared::new(broker::Options {
        config: config::Broker::parse::<&str, &str>([]).expect("legal settings"),
        data: PathBuf::from("/data"),
        listen: vec![BROKER.parse::<SocketAddr>().expect("an address").into()],
        admin: None,
        loggers: None,
        cores: 1,
    });
    let (ended, end) = oneshot::channel();
    let (io, running) = (ram.clone(), shared.clone());
    ram.spawn(async move {
        broker::run(io, CoreId(0), running).await.expect("the broker runs");
        let _ = ended.send(());
    });
    (shared, end)
}

#[test]
fn writing_and_reading_go_on_over_restarts() {
    for seed in 0..20 {
        let ram = Ram::new(seed);
        let world = ram.clone();
        ram.block_on(async {
            let (stop, mut stopped) = oneshot::channel::<()>();
            let (over, is_over) = oneshot::channel();
            let io = world.clone();
            world.spawn(async move {
                let mut restarts = 0;
                loop {
                    let (shared, end) = start(&io);
                    io.sleep(Duration::from_millis(500 + io.random() % 2000)).await;
                    shared.stop();
                    end.await.expect("it ends");
                    if stopped.try_recv().is_ok() {
                        let _ = over.send(restarts);
                        return;
                    }
                    restarts += 1;
                    io.sleep(Duration::from_millis(io.random() % 1500)).await;
                }
            });
            let bootstrap = vec![BROKER.parse().expect("an address")];
            let client = Client::new(world.clone(), Pool::new(), bootstrap, Options::default());
            let producer =
                client.producer(ProducerOptions { batch_bytes: 200, ..Default::default() });
            let write = async {
                let mut tickets = Vec::new();
                for number in 0..RECORDS {
                    let value = number.to_be_bytes();
                    let value = Some(&value[..]);
                    let record =
                        NewRecord { topic: "t", partition: Some(P0), value, ..Default::default() };
                    tickets.push(producer.enqueue(record).await.expect("in time"));
                    world.sleep(Duration::from_millis(world.random() % 60)).await;
                }
                producer.flush().await;
                for (ticket, number) in tickets.into_iter().zip(0..) {
                    match ticket.await {
                        Outcome::Stored(receipt) => {
                            assert_eq!(receipt.offset, Some(Offset(number)), "seed {seed}");
                        }
                        other => panic!("seed {seed}: record {number}: {other:?}"),
                    }
                }
            };
            let read = async {
                let mut consumer = client.consumer(ConsumerOptions::default());
                consumer.assign("t", P0, Start::Earliest);
                let mut next = 0;
                while next < RECORDS {
                    let records = consumer.poll(Duration::from_secs(1)).await.expect("readable");
                    for record in records {
                        assert_eq!(record.offset, Offset(next), "seed {seed}");
                        let value = next.to_be_bytes();
                        assert_eq!(record.value.as_deref(), Some(&value[..]), "seed {seed}");
                        next += 1;
                    }
                }
            };
            futures_util::future::join(write, read).await;
            let _ = stop.send(());
            let restarts: u32 = is_over.await.expect("told");
            assert!(restarts >= 2, "seed {seed}: {restarts} restarts");
        });
    }
}
