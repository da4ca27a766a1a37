//! Ships each order of a topic. It never ships one twice, because it keeps its position before it
//! ships. Do you see the bug?

use std::time::Duration;

use trialog_engine::client::{ConsumerOptions, NewRecord, ProducerOptions, Start};
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_sim::trial::{Faults, Ledger, Node, Scene, Trial};

const ORDERS: u64 = 30;

pub fn trial() -> Trial {
    Trial::new(|scene: &mut Scene| {
        let parcels = Ledger::new();
        scene.topic("orders", 1);
        scene.node("shop", shop);
        let shipped = parcels.clone();
        scene.service("shipping", move |node| ship(node, shipped.clone()));
        scene.eventually("every order is shipped", move || {
            let parcels = parcels.entries();
            (0..ORDERS).all(|order| parcels.contains(&order))
        });
    })
    .faults(Faults::crashes().and(Faults::network()))
}

/// Takes orders. After a crash it takes all of them again, rather than miss one.
async fn shop(node: Node) {
    let producer = node.producer(ProducerOptions::default());
    for order in 0..ORDERS {
        let record = NewRecord { topic: "orders", value: Some(&[order as u8]), ..<_>::default() };
        producer.send_surely(record).await.expect("a small record");
        node.sleep(Duration::from_millis(node.random(400))).await;
    }
}

async fn ship(node: Node, parcels: Ledger<u64>) {
    let kept = node.load("position").await.expect("a healthy disk");
    let position = kept.map_or(0, |bytes| i64::from_be_bytes(bytes.try_into().expect("eight")));
    let mut consumer = node.consumer(ConsumerOptions::default());
    consumer.assign("orders", PartitionIndex(0), Start::Offset(Offset(position)));
    loop {
        for record in consumer.next().await {
            let next = record.offset.0 + 1;
            node.store("position", &next.to_be_bytes()).await.expect("a healthy disk");
            let order = record.value.expect("orders have a value")[0];
            node.sleep(Duration::from_millis(20)).await; // The label is printed.
            parcels.write(&node, u64::from(order));
        }
    }
}
