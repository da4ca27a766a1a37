//! Two shippers share the orders as a consumer group. One that commits before it ships loses orders
//! when it dies in between; one that ships first asks the ledger whether the parcel is out already.

use std::time::Duration;

use trialog_engine::client::{GroupOptions, NewRecord, ProducerOptions};
use trialog_sim::trial::{Faults, Ledger, Node, Scene, Trial};

const ORDERS: u64 = 30;

pub fn trial(commits_first: bool) -> Trial {
    Trial::new(move |scene: &mut Scene| {
        let parcels = Ledger::new();
        scene.topic("orders", 4);
        scene.node("shop", shop);
        for name in ["shipper one", "shipper two"] {
            let shipped = parcels.clone();
            scene.service(name, move |node| ship(node, shipped.clone(), commits_first));
        }
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

async fn ship(node: Node, parcels: Ledger<u64>, commits_first: bool) {
    let options = GroupOptions {
        session_timeout: Duration::from_secs(6),
        rebalance_timeout: Duration::from_secs(10),
        ..GroupOptions::new("shippers")
    };
    let mut member = node.member(options, &["orders"]);
    loop {
        let orders = member.next().await;
        // A commit that a rebalance has overtaken is refused; others read these again.
        if commits_first && member.commit().await.is_err() {
            continue;
        }
        for order in orders.iter().map(|one| u64::from(one.value.as_ref().expect("a value")[0])) {
            if !parcels.entries().contains(&order) {
                node.sleep(Duration::from_millis(20)).await; // The label is printed.
                parcels.write(&node, order);
            }
        }
        let _ = commits_first || member.commit().await.is_ok();
    }
}
