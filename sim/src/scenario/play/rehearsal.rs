//! What the tests of whole runs in `tests/trial.rs` need of a scenario, and nobody else.
//!
//! They are no unit tests, because a unit test that runs a broker has the compiler make the whole
//! broker a second time.

use std::collections::BTreeMap;

use trialog_engine::client::NewTopic;
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_jepsen::history::{Op, Phase, Value};

use super::*;
use crate::scenario::shape::{Nature, Oddity, Role, TopicShape};
use crate::scenario::stage::Actor;
use crate::scenario::{Cut, Size};

/// The faults of a small run.
#[must_use]
pub fn faults(seed: u64) -> Plan {
    plan(&Run::new(seed, Size::Small), &Shape::draw(Seed(seed), Size::Small))
}

/// The first seeds of small runs with a client of such a role.
fn seeds_with(is_meant: impl Fn(&Role) -> bool) -> impl Iterator<Item = u64> {
    (0..).filter(move |seed| {
        let shape = Shape::draw(Seed(*seed), Size::Small);
        shape.clients.iter().any(|client| is_meant(&client.role))
    })
}

/// Small runs in which large requests queue for memory.
pub fn seeds_that_queue() -> impl Iterator<Item = u64> {
    seeds_with(|role| matches!(role, Role::Hauler(shape) if shape.queues))
}

/// Small runs in which half of what a stranger does is to ask more of a partition at once than its
/// queue holds.
pub fn seeds_that_rush() -> impl Iterator<Item = u64> {
    seeds_with(|role| match role {
        Role::Stranger(shape) => {
            let rushes = shape.oddities.iter().filter(|oddity| **oddity == Oddity::Rush).count();
            2 * rushes >= shape.oddities.len()
        }
        _ => false,
    })
}

/// A topic is made, all clients fall silent, and a record counts as proven that no broker has. Returns
/// who found that out before any client was told anything.
#[must_use]
pub fn proven_in_silence(seed: u64) -> Vec<&'static str> {
    let body = move |cluster: Cluster| async move {
        let shape = Arc::new(Shape::draw(Seed(seed), Size::Small));
        let recorder = Recorder::new(cluster.world().clone(), Arc::default());
        let (cut, kept) = (Cut::default(), Kept::default());
        let stage = Stage::new(Seed(seed), shape.clone(), recorder, cut, kept);
        start_brokers(&cluster, &stage, BrokerDisk::Honest);
        let lasting = |topic: &TopicShape| topic.nature == Nature::Lasting;
        let at = shape.topics.iter().position(lasting).expect("there is one");
        let silent = with(&stage, move |io, stage| async move {
            let topic = stage.shape.topics[at].clone();
            let actor = Actor::new(io, stage).expect("nobody is left out");
            let client = actor.client_of(topic.broker, Duration::from_secs(2), BTreeMap::new());
            let new = NewTopic::new(&topic.name, 1);
            client.admin().create_topic(&new).await.expect("a calm world");
        });
        let silent = cluster.add("silent", shape.disk_bytes, silent);
        assert!(within(&cluster, CATCH_UP, || cluster.has_exited(silent)).await);
        cluster.pass(Duration::from_secs(2)).await;
        assert_eq!(stage.sightings(), []);
        let op = Op::Send {
            topic: stage.topic(at),
            partition: Some(PartitionIndex(0)),
            key: None,
            value: Value(1),
            tombstone: false,
            timestamp_ms: None,
            offset: Some(Offset(1000)),
        };
        stage.prove(Phase::Ok, &op);
        cluster.pass(Duration::from_millis(1100)).await;
        let found: Vec<&str> = stage.sightings().iter().map(|wrong| wrong.found_by).collect();
        stage.forget_brokers();
        found
    };
    simulate(Frame::new(seed), body).expect("no panic").value
}
