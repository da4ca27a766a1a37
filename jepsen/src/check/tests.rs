//! The judges are judged: generated valid histories raise nothing, each injected anomaly is caught
//! by name, and so are the anomalies of published reports (`fixtures/`).
//!
//! Every history follows from a seed; a failure prints it. `TRIALOG_HISTORIES=100000` widens the
//! sweep.

mod inject;
mod world;

use super::{Anomaly, Expect, Promise, Report, all};
use crate::history::{Event, History, Op, Phase, Process, Value};

/// Histories that each test generates, unless the environment says otherwise.
const HISTORIES: u64 = 2_000;

fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("TRIALOG_HISTORIES").ok().and_then(|text| text.parse().ok());
    0..asked.unwrap_or(HISTORIES)
}

fn names(report: &Report) -> Vec<Anomaly> {
    report.anomalies().map(|(anomaly, _)| anomaly).collect()
}

#[test]
fn valid_histories_raise_nothing() {
    let mut acknowledged = 0;
    let mut crashes = 0;
    for seed in seeds() {
        let history = world::run(seed);
        let report = all(&history, &Expect::default());
        assert!(report.clean(), "seed {seed}: {report}");
        let relaxed = Expect::of_all(Promise::page_cache());
        assert!(all(&history, &relaxed).clean(), "seed {seed} without durability");
        acknowledged += report.tally.acknowledged;
        crashes += report.tally.crashes;
    }
    let histories = seeds().end as usize;
    assert!(acknowledged > 20 * histories, "{acknowledged} acknowledged: too little is judged");
    assert!(crashes > histories, "{crashes} crashes: too little is judged");
}

/// What may be reported beside the injected anomaly, because it is implied by it.
fn implied(anomaly: Anomaly) -> &'static [Anomaly] {
    match anomaly {
        // The value that replaces another's is one whose send nobody answered: it was seen, is not
        // there at the end, and may stand before what its producer had sent earlier.
        Anomaly::InconsistentOffsets => &[Anomaly::Unseen, Anomaly::NonmonotonicSend],
        _ => &[],
    }
}

#[test]
fn each_injected_anomaly_is_caught_and_named() {
    for (name, anomaly, inject) in inject::ALL {
        let mut applied = 0;
        for seed in seeds() {
            let mut history = world::run(seed);
            if !inject(&mut history, &mut world::Random::new(seed ^ 0x5eed)) {
                continue;
            }
            applied += 1;
            let report = all(&history, &Expect::default());
            assert!(report.count(anomaly) > 0, "seed {seed}, {name}: not caught: {report}");
            for found in names(&report) {
                let allowed = found == anomaly || implied(anomaly).contains(&found);
                assert!(allowed, "seed {seed}, {name}: also {report}");
            }
            let witness = &report.findings.iter().find(|finding| finding.anomaly == anomaly);
            let witness = &witness.expect("it was counted").witness;
            assert!((1..=6).contains(&witness.len()), "seed {seed}, {name}: witness {witness:?}");
        }
        assert!(applied * 2 > seeds().end, "{name} fitted only {applied} histories");
    }
}

#[test]
fn reports_are_the_same_each_time_and_bounded() {
    let mut history = world::run(7);
    for seed in 0..40 {
        inject::foreign_payload(&mut history, &mut world::Random::new(seed));
    }
    let report = all(&history, &Expect::default());
    assert_eq!(report, all(&history, &Expect::default()));
    assert_eq!(report.count(Anomaly::Phantom), 40);
    assert_eq!(report.findings.len(), super::FINDINGS_PER_ANOMALY_MAX);
}

#[test]
fn a_history_that_contradicts_itself_is_malformed() {
    let mut history = History::new();
    let topic = history.topic("a");
    let send = |value| Op::send(topic, None, value);
    for (phase, value) in [
        (Phase::Invoke, Value(1)),
        (Phase::Invoke, Value(1)),
        (Phase::Ok, Value(1)),
        (Phase::Info, Value(1)),
        (Phase::Ok, Value(2)),
    ] {
        history.push(Event { time_ns: 0, process: Process(0), phase, op: send(value) });
    }
    let report = all(&history, &Expect { caught_up: false, ..Expect::default() });
    assert_eq!(report.count(Anomaly::Malformed), 3, "{report}");
}

fn fixture(text: &str) -> Report {
    let history = History::read(&mut text.as_bytes()).expect("a valid fixture");
    // Those logs had invisible records, and the fixtures begin in their middle.
    all(&history, &Expect::of_all(Promise { dense: false, ..Promise::default() }))
}

/// What the published reports describe; the first line of each file tells which one.
#[test]
fn anomalies_of_published_reports_are_named() {
    let reports = [
        (
            include_str!("../../fixtures/redpanda-3003-inconsistent-offsets.jsonl"),
            &[Anomaly::LostWrite, Anomaly::InconsistentOffsets][..],
        ),
        (include_str!("../../fixtures/redpanda-3039-duplicate.jsonl"), &[Anomaly::Duplicate]),
        (include_str!("../../fixtures/bufstream-lost-write.jsonl"), &[Anomaly::LostWrite]),
        (
            include_str!("../../fixtures/bufstream-zero-offsets.jsonl"),
            &[Anomaly::Duplicate, Anomaly::InconsistentOffsets, Anomaly::NonmonotonicSend],
        ),
        (include_str!("../../fixtures/unflushed-tail-after-power-loss.jsonl"), &[Anomaly::Unseen]),
    ];
    for (text, expected) in reports {
        let report = fixture(text);
        assert_eq!(names(&report), expected, "{report}");
    }
}

/// A million operations in the time of a coffee sip, not of a meal; the bound is loose because
/// test builds are little optimised and machines are shared.
#[test]
#[allow(clippy::disallowed_methods, reason = "measures real time")]
fn a_large_history_is_judged_quickly() {
    let mut history = History::new();
    let topic = history.topic("a");
    let partition = trialog_engine::id::PartitionIndex(0);
    let mut records = Vec::new();
    for count in 0..100_000_u32 {
        let value = Value::new(1, count);
        let at = trialog_engine::id::Offset(i64::from(count));
        for (phase, offset) in [(Phase::Invoke, None), (Phase::Ok, Some(at))] {
            let op = Op::stored(topic, partition, value, offset);
            history.push(Event { time_ns: 0, process: Process(1), phase, op });
        }
        records.push(crate::history::Record { topic, partition, offset: at, value });
    }
    for chunk in records.chunks(500) {
        let op = Op::Poll { records: chunk.to_vec() };
        history.push(Event { time_ns: 1, process: Process(2), phase: Phase::Ok, op });
    }
    let begun = std::time::Instant::now();
    assert!(all(&history, &Expect::default()).clean());
    let taken = begun.elapsed();
    assert!(taken.as_secs() < 5, "100,000 sends took {taken:?}");
}
