//! How a run is judged. What takes a whole run is tested in `tests/trial.rs`.

use std::sync::Mutex;

use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::io::Io;
use trialog_jepsen::check::{self, Anomaly};
use trialog_jepsen::history::{Event, History, Op, Phase, Process, Topic, Value};

use super::*;
use crate::cluster::{Frame, simulate};
use crate::machine::Crash;
use crate::scenario::Recorder;

fn acknowledged(topic: Topic, value: Value, offset: Option<Offset>) -> Op {
    let partition = Some(PartitionIndex(0));
    Op::Send { topic, partition, key: None, value, tombstone: false, timestamp_ms: None, offset }
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

/// What a client waits for when it dies it waits for no more: its history says so, and no more than that.
#[test]
fn calls_of_a_dead_client_have_given_up() {
    let body = |cluster: Cluster| async move {
        let history = Arc::new(Mutex::new(History::default()));
        let recorder = Recorder::new(cluster.world().clone(), history.clone());
        let ask = recorder.clone();
        let client = cluster.add("client", 1 << 20, move |io| {
            let recorder = ask.clone();
            async move {
                let trim = |topic: &str, offset| {
                    let (topic, partition) = (recorder.topic(topic), PartitionIndex(0));
                    Op::Trim { topic, partition, offset: Offset(offset) }
                };
                recorder.record(&io, Process(1), Phase::Invoke, trim("a", 1));
                recorder.record(&io, Process(1), Phase::Ok, trim("a", 1));
                recorder.record(&io, Process(2), Phase::Invoke, trim("b", 2));
                io.sleep(Duration::from_secs(60)).await;
                recorder.record(&io, Process(2), Phase::Ok, trim("b", 2));
            }
        });
        let nemesis = Nemesis::new(cluster.clone(), Vec::new());
        recorder.watch(&nemesis, Vec::new());
        let down = Duration::from_secs(600);
        let fault = Fault::Crash { machine: client, crash: Crash::Kill, down };
        let planned = Planned { at: Duration::from_secs(1), kind: Kind::ClientCrash, fault };
        nemesis.run(&Plan { faults: vec![planned] }).await;
        cluster.pass(Duration::from_secs(100)).await;
        let history = history.lock().expect("nobody panics with it");
        history.events().iter().map(|event| (event.process.0, event.phase)).collect::<Vec<_>>()
    };
    let told = simulate(Frame::new(1), body).expect("no panic").value;
    use Phase::{Info, Invoke, Ok};
    assert_eq!(told, [(1, Invoke), (1, Ok), (2, Invoke), (2, Info)]);
}
