//! How a run is judged, what counts in it, and that somebody looks while it goes on.

use std::collections::BTreeMap;

use trialog_engine::client::NewTopic;
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_jepsen::check::{self, Anomaly};
use trialog_jepsen::history::{Event, History, Op, Phase, Process, Topic, Value};

use super::*;
use crate::scenario::shape::{Nature, TopicShape};
use crate::scenario::stage::Actor;
use crate::scenario::{Cut, Size};

/// The power cuts behind which disks are examined counted as if they had met the run.
#[test]
fn a_run_without_faults_counts_none() {
    for seed in [3, 4, 12] {
        let cut = Cut { faults: (0..10_000).collect(), ..Cut::default() };
        let passed = run(&Run { cut, ..Run::new(seed, Size::Small) });
        let facts = passed.expect("a calm run").facts;
        assert_eq!(facts.counts, Counts::default(), "seed {seed}");
    }
}

fn acknowledged(topic: Topic, value: Value, offset: Option<Offset>) -> Op {
    let partition = Some(PartitionIndex(0));
    Op::Send { topic, partition, key: None, value, tombstone: false, timestamp_ms: None, offset }
}

/// All clients hung, and nobody looked.
#[test]
fn a_broker_is_looked_at_while_no_client_is_told_anything() {
    let body = |cluster: Cluster| async move {
        let shape = Arc::new(Shape::draw(Seed(1), Size::Small));
        let recorder = Recorder::new(cluster.world().clone(), Arc::default());
        let (cut, kept) = (Cut::default(), Kept::default());
        let stage = Stage::new(Seed(1), shape.clone(), recorder, cut, kept);
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
        let op = acknowledged(stage.topic(at), Value(1), Some(Offset(1000)));
        stage.prove(Phase::Ok, &op);
        cluster.pass(Duration::from_millis(1100)).await;
        let found: Vec<&str> = stage.sightings().iter().map(|wrong| wrong.found_by).collect();
        stage.forget_brokers();
        found
    };
    assert_eq!(simulate(Frame::new(1), body).expect("no panic").value, ["ACK-2"]);
}

fn unsafe_() -> Wrong {
    let text = "one: two records at one offset\n".to_owned();
    Wrong { how: Failed::Safety, found_by: vec!["inconsistent-offsets".to_owned()], text }
}

#[test]
fn safety_counts_more_than_liveness_and_tells_of_both() {
    let stuck = || Err(Wrong::stuck(STUCK_CLIENT, "a client is stuck".to_owned()));
    assert_eq!(gravest(Ok(()), Ok(())), Ok(()));
    assert_eq!(gravest(Ok(()), stuck()), stuck());
    assert_eq!(gravest(Err(unsafe_()), Ok(())), Err(unsafe_()));
    let both = gravest(Err(unsafe_()), stuck()).expect_err("both");
    let found_by = [unsafe_().found_by, vec![STUCK_CLIENT.to_owned()]].concat();
    assert_eq!((both.how, both.found_by), (Failed::Safety, found_by));
    assert_eq!(both.text, "one: two records at one offset\nbesides, a client is stuck\n");
}

/// A client is stuck before the final reading. That a record was seen by nobody proves nothing
/// then; that two readers saw different ones at one offset does.
#[test]
fn a_stuck_run_is_judged_by_all_that_needs_no_final_reading() {
    let mut history = History::default();
    let topic = history.topic("t");
    let mut push = |process, phase, op| {
        let (time_ns, process) = (0, Process(process));
        history.push(Event { time_ns, process, phase, op });
    };
    for (offset, value) in [(0, Value(1)), (0, Value(2)), (9, Value(3))] {
        push(1, Phase::Invoke, acknowledged(topic, value, None));
        push(1, Phase::Ok, acknowledged(topic, value, Some(Offset(offset))));
    }
    push(2, Phase::Info, Op::Final);
    let judged = |acted| {
        let expect = Expect { caught_up: caught_up(&acted), ..Expect::default() };
        let report = check::all(&history, &expect);
        (report.count(Anomaly::InconsistentOffsets) > 0, report.count(Anomaly::Unseen) > 0)
    };
    assert_eq!(judged(Ok(())), (true, true));
    for stuck in [STUCK_CLIENT, STUCK_READER] {
        assert_eq!(judged(Err(Wrong::stuck(stuck, String::new()))), (true, false), "{stuck}");
    }
    // The examiner comes after the final reading.
    assert_eq!(judged(Err(Wrong::stuck("stuck-examiner", String::new()))), (true, true));
}
