//! The judges are judged: generated valid histories raise nothing, each injected anomaly is caught
//! by name, and so are the anomalies of published reports (`fixtures/`).
//!
//! Every history follows from a seed; a failure prints it. `TRIALOG_HISTORIES=100000` widens the
//! sweep.

mod inject;
mod timed;
mod wide;
mod wide_inject;
mod world;

use super::{Anomaly, Expect, Promise, Report, Retention, all};
use crate::history::{Admin, Event, History, Op, Phase, Process, Value};
use crate::scale;

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

#[test]
fn valid_histories_of_everything_raise_nothing() {
    let (mut calls, mut read) = (0, 0);
    for seed in seeds() {
        let history = wide::run(seed);
        let report = all(&history, &wide::promises());
        assert!(report.clean(), "seed {seed}: {report}");
        assert_eq!(report.tally.undecided, 0, "seed {seed}");
        let done = |event: &&Event| event.phase == Phase::Ok && matches!(event.op, Op::Admin(_));
        calls += history.events().iter().filter(done).count();
        read += report.tally.read_finally;
    }
    let histories = seeds().end as usize;
    assert!(calls > 10 * histories, "{calls} calls: too little is judged");
    assert!(read > 40 * histories, "{read} records: too little is judged");
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
    let some = 0..seeds().end / 4;
    each_is_caught(&inject::ALL, some, world::run, &Expect::default());
}

#[test]
fn each_injected_anomaly_of_everything_else_is_caught_and_named() {
    let some = 0..seeds().end / 10;
    each_is_caught(&wide_inject::ALL, some, wide::run, &wide::promises());
}

#[test]
fn every_anomaly_is_injected() {
    for anomaly in Anomaly::ALL {
        let mut injected = inject::ALL.iter().chain(&wide_inject::ALL);
        assert!(injected.any(|(_, named, _)| *named == anomaly), "nothing injects {anomaly}");
    }
}

fn each_is_caught(
    injections: &[(&str, Anomaly, inject::Inject)],
    seeds: std::ops::Range<u64>,
    run: fn(u64) -> History,
    expect: &Expect,
) {
    for (name, anomaly, inject) in injections {
        let mut applied = 0;
        for seed in seeds.clone() {
            let mut history = run(seed);
            if !inject(&mut history, &mut world::Random::new(seed ^ 0x5eed)) {
                continue;
            }
            applied += 1;
            let report = all(&history, expect);
            assert!(report.count(*anomaly) > 0, "seed {seed}, {name}: not caught: {report}");
            for found in names(&report) {
                let allowed = found == *anomaly || implied(*anomaly).contains(&found);
                assert!(allowed, "seed {seed}, {name}: also {report}");
            }
            let witness = &report.findings.iter().find(|finding| finding.anomaly == *anomaly);
            let witness = &witness.expect("it was counted").witness;
            assert!((1..=6).contains(&witness.len()), "seed {seed}, {name}: witness {witness:?}");
            let events = history.events().len();
            assert!(witness.iter().all(|at| *at < events), "seed {seed}, {name}: {witness:?}");
        }
        println!("{anomaly}: {name}: caught in {applied} histories");
        assert!(applied * 10 > seeds.end, "{name} fitted only {applied} histories");
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
    let explained = report.explained(&history);
    let line = format!("  line {:>6}  {{\"time\"", report.findings[0].witness[0] + 2);
    assert!(explained.contains(&line), "{explained}");
    assert!(explained.contains("phantom: 40 in all"), "{explained}");
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

#[test]
fn what_readers_jumped_over_is_lost_only_after_a_reading_of_everything() {
    let text = r#"{"format":"trialog-history","version":2}
{"time":1,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"value":1}
{"time":2,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"value":1,"offset":1}
{"time":3,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"value":2}
{"time":4,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"value":2,"offset":3}
{"time":5,"process":2,"type":"ok","f":"assign","partitions":[["t",0]]}
{"time":6,"process":2,"type":"ok","f":"seek","topic":"t","partition":0,"offset":3}
{"time":7,"process":2,"type":"ok","f":"poll","records":[["t",0,3,2]]}
"#;
    let history = History::read(&mut text.as_bytes()).expect("a history");
    let found = |caught_up| names(&all(&history, &Expect { caught_up, ..Expect::default() }));
    assert_eq!(found(false), []);
    assert!(found(true).contains(&Anomaly::LostWrite));
}

/// Retention goes on while the final reading does: a reader that begins again finds the beginning
/// elsewhere, and what it has not met is not lost for that. What is missing behind is.
#[test]
fn what_goes_during_the_final_reading_is_not_lost() {
    let sends: String = (0..4)
        .map(|value| {
            let (asked, at) = (2 * value + 1, 2 * value + 2);
            let send =
                format!(r#""process":1,"f":"send","topic":"t","partition":0,"value":{value}"#);
            format!(
                "{{\"time\":{asked},\"type\":\"invoke\",{send}}}\n\
                 {{\"time\":{at},\"type\":\"ok\",{send},\"offset\":{value}}}\n"
            )
        })
        .collect();
    let text = r#"{"format":"trialog-history","version":2}
SENDS{"time":20,"process":900,"type":"info","f":"final"}
{"time":21,"process":50,"type":"ok","f":"assign","partitions":[["t",0]]}
{"time":22,"process":50,"type":"ok","f":"seek","topic":"t","partition":0,"offset":-2}
{"time":23,"process":50,"type":"ok","f":"poll","records":[["t",0,0,0]]}
{"time":24,"process":50,"type":"ok","f":"seek","topic":"t","partition":0,"offset":-2}
POLL"#;
    let poll = r#"{"time":25,"process":50,"type":"ok","f":"poll","records":[RECORDS]}"#;
    let judged = |records: &str| {
        let poll = if records.is_empty() { "" } else { &poll.replace("RECORDS", records) };
        let text = text.replace("SENDS", &sends).replace("POLL", poll);
        let history = History::read(&mut text.as_bytes()).expect("a history");
        let promise = Promise { dense: false, ..Promise::retained(Retention::Anytime) };
        names(&all(&history, &Expect::of_all(promise)))
    };
    assert_eq!(judged(r#"["t",0,2,2],["t",0,3,3]"#), []);
    assert_eq!(judged(""), []);
    assert!(judged(r#"["t",0,1,1],["t",0,3,3]"#).contains(&Anomaly::LostWrite));
    assert!(judged(r#"["t",0,2,2]"#).contains(&Anomaly::Unseen));
}

/// Where the last reading finds nothing, what is above the start that it is told afterwards is not gone.
#[test]
fn an_empty_final_reading_excuses_nothing_above_the_start() {
    let text = r#"{"format":"trialog-history","version":2}
{"time":1,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"value":0}
{"time":2,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"value":0,"offset":0}
{"time":3,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"value":1}
{"time":4,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"value":1,"offset":1}
{"time":20,"process":900,"type":"info","f":"final"}
{"time":21,"process":50,"type":"ok","f":"assign","partitions":[["t",0]]}
{"time":22,"process":50,"type":"ok","f":"seek","topic":"t","partition":0,"offset":-2}
READ{"time":23,"process":WHO,"type":"invoke","f":"list-offset","topic":"t","partition":0,"ask":-1}
{"time":24,"process":WHO,"type":"ok","f":"list-offset","topic":"t","partition":0,"ask":END,"offset":2}
{"time":24,"process":WHO,"type":"invoke","f":"list-offset","topic":"t","partition":0,"ask":-2}
{"time":25,"process":WHO,"type":"ok","f":"list-offset","topic":"t","partition":0,"ask":-2,"offset":START}
"#;
    // It read a record, and began anew.
    let before = r#"{"time":23,"process":50,"type":"ok","f":"poll","records":[["t",0,0,0]]}
{"time":23,"process":50,"type":"ok","f":"seek","topic":"t","partition":0,"offset":-2}
"#;
    let judged_as = |who: &str, start: &str, read: &str, end: &str| {
        let text = text.replace("WHO", who).replace("START", start).replace("READ", read);
        let text = text.replace("END", end);
        let history = History::read(&mut text.as_bytes()).expect("a history");
        names(&all(&history, &Expect::of_all(Promise::retained(Retention::Anytime))))
    };
    let judged = |who: &str, start: &str, read: &str| judged_as(who, start, read, "-1");
    for read in ["", before] {
        assert_eq!(judged("50", "2", read), []);
        assert_eq!(judged("50", "1", read), [Anomaly::Unseen]);
        // Whoever else asks, or is not at the end, may ask before all goes that was not read yet.
        assert_eq!(judged("60", "1", read), []);
        assert_eq!(judged_as("50", "1", read, "7"), []);
    }
    assert_eq!(judged("50", "0", ""), [Anomaly::Unseen]);
    // What another one hears of late ends nobody's walk: what it stands for may have gone.
    let stray = r#"{"time":23,"process":60,"type":"ok","f":"poll","records":[["t",0,0,0]]}
"#;
    assert_eq!(judged("50", "2", stray), []);
}

/// The same for a key that was deleted: its old value was read before both went.
#[test]
fn a_key_that_goes_with_its_tombstone_is_not_there_again() {
    let text = r#"{"format":"trialog-history","version":2}
{"time":1,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"key":"k","value":0}
{"time":2,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"key":"k","value":0,"offset":0}
{"time":3,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"key":"k","value":1,"tombstone":true}
{"time":4,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"key":"k","value":1,"tombstone":true,"offset":1}
{"time":20,"process":900,"type":"info","f":"final"}
{"time":21,"process":50,"type":"ok","f":"assign","partitions":[["t",0]]}
{"time":22,"process":50,"type":"ok","f":"seek","topic":"t","partition":0,"offset":-2}
{"time":23,"process":50,"type":"ok","f":"poll","records":[["t",0,0,0]]}
"#;
    let again = r#"{"time":24,"process":50,"type":"ok","f":"seek","topic":"t","partition":0,"offset":-2}
"#;
    let judged = |again: &str| {
        let history = History::read(&mut [text, again].concat().as_bytes()).expect("a history");
        let promise = Promise { retention: Retention::Anytime, ..Promise::compacted() };
        names(&all(&history, &Expect::of_all(promise)))
    };
    assert_eq!(judged(again), []);
    assert!(judged("").contains(&Anomaly::Compaction));
}

/// Compaction takes both between the reader's first walk and its second.
#[test]
fn what_was_gone_at_the_second_walk_is_not_there_again() {
    let text = r#"{"format":"trialog-history","version":2}
{"time":1,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"key":"j","value":0}
{"time":2,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"key":"j","value":0,"offset":0}
{"time":3,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"key":"k","value":1}
{"time":4,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"key":"k","value":1,"offset":1}
{"time":5,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"key":"k","value":2,"tombstone":true}
{"time":6,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"key":"k","value":2,"tombstone":true,"offset":2}
{"time":7,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"key":"l","value":3}
{"time":8,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"key":"l","value":3,"offset":3}
{"time":20,"process":900,"type":"info","f":"final"}
{"time":21,"process":50,"type":"ok","f":"assign","partitions":[["t",0]]}
{"time":22,"process":50,"type":"ok","f":"seek","topic":"t","partition":0,"offset":-2}
{"time":23,"process":50,"type":"ok","f":"poll","records":[["t",0,0,0],["t",0,1,1]]}
{"time":24,"process":51,"type":"ok","f":"assign","partitions":[["t",0]]}
{"time":25,"process":51,"type":"ok","f":"seek","topic":"t","partition":0,"offset":-2}
"#;
    let judged = |records: &str| {
        let poll = format!(
            "{{\"time\":26,\"process\":51,\"type\":\"ok\",\"f\":\"poll\",\"records\":[{records}]}}\n"
        );
        let history = [text, &poll].concat();
        let history = History::read(&mut history.as_bytes()).expect("a history");
        names(&all(&history, &Expect::of_all(Promise::compacted())))
    };
    assert_eq!(judged(r#"["t",0,0,0],["t",0,3,3]"#), []);
    assert_eq!(judged(r#"["t",0,0,0],["t",0,2,2],["t",0,3,3]"#), []);
    let there_again = judged(r#"["t",0,0,0],["t",0,1,1],["t",0,3,3]"#);
    assert_eq!(there_again, [Anomaly::Compaction]);
}

/// The later record of its key is no reason for it to go before its time, whoever saw it.
#[test]
fn compaction_takes_nothing_that_is_too_young() {
    let text = r#"{"format":"trialog-history","version":2}
{"time":10,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"key":"j","value":0}
{"time":12,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"key":"j","value":0,"offset":0}
{"time":13,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"key":"k","value":1}
{"time":14,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"key":"k","value":1,"offset":1}
{"time":15,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"key":"k","value":2}
{"time":16,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"key":"k","value":2,"offset":2}
{"time":17,"process":40,"type":"ok","f":"assign","partitions":[["t",0]]}
{"time":18,"process":40,"type":"ok","f":"seek","topic":"t","partition":0,"offset":0}
SEEN{"time":NOW,"process":40,"type":"ok","f":"seek","topic":"t","partition":0,"offset":0}
{"time":NOW,"process":40,"type":"ok","f":"poll","records":[["t",0,0,0],["t",0,2,2]]}
{"time":END,"process":900,"type":"info","f":"final"}
{"time":END,"process":50,"type":"ok","f":"assign","partitions":[["t",0]]}
{"time":END,"process":50,"type":"ok","f":"seek","topic":"t","partition":0,"offset":-2}
{"time":END,"process":50,"type":"ok","f":"poll","records":[["t",0,0,0],["t",0,2,2]]}
"#;
    let seen = r#"{"time":19,"process":40,"type":"ok","f":"poll","records":[["t",0,0,0],["t",0,1,1],["t",0,2,2]]}
"#;
    let judged = |seen: &str, now: &str, end: &str| {
        let text = text.replace("SEEN", seen).replace("NOW", now).replace("END", end);
        let history = History::read(&mut text.as_bytes()).expect("a history");
        let compaction_lag = std::time::Duration::from_nanos(100);
        let promise = Promise { compaction_lag, ..Promise::compacted() };
        names(&all(&history, &Expect::of_all(promise)))
    };
    for (seen, skips) in [("", Anomaly::Compaction), (seen, Anomaly::PollSkip)] {
        assert_eq!(judged(seen, "112", "200"), [skips]);
        assert_eq!(judged(seen, "113", "200"), []);
    }
    // It is missing in the final reading, too.
    assert_eq!(judged(seen, "20", "112"), [Anomaly::PollSkip, Anomaly::Compaction]);
}

/// It need not come to the last segment, which is whatever has nothing behind it that came much later.
#[test]
fn compaction_comes_to_everything_in_the_end() {
    let text = r#"{"format":"trialog-history","version":2}
{"time":10,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"key":"k","value":0}
{"time":11,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"key":"k","value":0,"offset":0}
{"time":12,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"key":"k","value":1}
{"time":13,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"key":"k","value":1,"offset":1}
{"time":LAST,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"key":"l","value":2}
{"time":LAST,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"key":"l","value":2,"offset":2}
{"time":900,"process":900,"type":"info","f":"final"}
{"time":901,"process":50,"type":"ok","f":"assign","partitions":[["t",0]]}
{"time":902,"process":50,"type":"ok","f":"seek","topic":"t","partition":0,"offset":-2}
{"time":903,"process":50,"type":"ok","f":"poll","records":[FIRST["t",0,1,1],["t",0,2,2]]}
"#;
    let judged = |last: &str, first: &str, tidied: Option<u64>| {
        let text = text.replace("LAST", last).replace("FIRST", first);
        let history = History::read(&mut text.as_bytes()).expect("a history");
        let tidied = tidied.map(std::time::Duration::from_nanos);
        names(&all(&history, &Expect::of_all(Promise { tidied, ..Promise::compacted() })))
    };
    let there = r#"["t",0,0,0],"#;
    assert_eq!(judged("213", there, Some(200)), [Anomaly::Compaction]);
    assert_eq!(judged("212", there, Some(200)), []);
    assert_eq!(judged("213", there, None), []);
    assert_eq!(judged("213", "", Some(200)), []);
}

/// What the published reports describe; the first line of each file names the report.
#[test]
fn anomalies_of_published_reports_are_named() {
    // Those logs had invisible records, and some fixtures begin in their middle.
    let sparse = Expect::of_all(Promise { dense: false, ..Promise::default() });
    let open = Expect { caught_up: false, ..sparse.clone() };
    let aging = Expect::of_all(Promise { dense: false, ..Promise::retained(Retention::Anytime) });
    let table = Expect::of_all(Promise::compacted());
    macro_rules! report {
        ($name:literal, $expect:expr, $($anomaly:ident)+) => {
            let text = include_str!(concat!("../../fixtures/", $name, ".jsonl"));
            let history = History::read(&mut text.as_bytes()).expect($name);
            let report = all(&history, &$expect);
            assert_eq!(names(&report), [$(Anomaly::$anomaly),+], "{}: {report}", $name);
            print!("{}: {report}", $name);
        };
    }
    report!("redpanda-3003-inconsistent-offsets", sparse, LostWrite InconsistentOffsets);
    report!("redpanda-3039-duplicate", sparse, Duplicate);
    report!("redpanda-21.10-poll-skip", sparse, NonmonotonicPoll PollSkip);
    report!("bufstream-lost-write", sparse, LostWrite);
    report!(
        "bufstream-zero-offsets", sparse, Duplicate InconsistentOffsets NonmonotonicSend
    );
    report!("unflushed-tail-after-power-loss", sparse, Unseen);
    report!("kafka-0.8-unclean-leader", sparse, LostWrite Unseen InconsistentOffsets);
    report!("redpanda-339-deleted-topic-listed", open, MetadataNonlinearizable);
    report!("automq-3556-settings-of-a-predecessor", open, MetadataNonlinearizable);
    report!("redpanda-12549-start-goes-back", aging, StartOffset);
    report!(
        "redpanda-2326-offsets-shift", aging,
        LostWrite Duplicate InconsistentOffsets EndOffset
    );
    report!("kip-107-deleted-records-return", sparse, StartOffset);
    report!("franz-1422-time-lookup-early", sparse, TimeLookup);
    report!("franz-1422-time-lookup-late", sparse, TimeLookup);
    report!("kafka-4529-tombstone-too-early", table, Compaction);
    report!("dotnet-1672-offset-regression", open, OffsetRegression);
    report!("redpanda-31483-lost-commit", open, LostCommit);
    report!("kop-1289-resumed-too-early", sparse, LostCommit);
    report!("kafka-7026-double-ownership", open, DoubleOwnership);
    report!("brod-649-zombie-commit", open, ZombieCommit);
}

/// Two topics of full runs of the simulator: one was made and deleted by many who got no answer, one
/// was given many settings. A search that tells changes apart which do the same, or keeps all that
/// explains what it has read, has too many orders to look at here. A last look that fits none of them
/// is seen, too.
#[test]
fn topics_with_many_possible_orders_are_judged() {
    let expect = Expect { caught_up: false, ..Expect::default() };
    for text in [
        include_str!("../../fixtures/many-orders-made-and-deleted.jsonl"),
        include_str!("../../fixtures/many-orders-configured.jsonl"),
    ] {
        let mut history = History::read(&mut text.as_bytes()).expect("a history");
        let report = all(&history, &expect);
        assert!(report.clean(), "{report}");
        assert_eq!(report.tally.undecided, 0);
        let (time_ns, process) = (u64::MAX, Process(9));
        let topic = history.topics().next().expect("it is about one");
        for (phase, topics) in [(Phase::Invoke, vec![]), (Phase::Ok, vec![(topic, Some(99))])] {
            let look = Admin::Metadata { all: false, topics, leaders: Vec::new() };
            history.push(Event { time_ns, process, phase, op: Op::Admin(Box::new(look)) });
        }
        let report = all(&history, &expect);
        assert_eq!(names(&report), [Anomaly::MetadataNonlinearizable], "{report}");
        assert_eq!(report.tally.undecided, 0);
    }
}

/// A deleted key of which nothing is left: right once its tombstone may go, and wrong while a reader
/// must still be told that the key is gone.
#[test]
fn a_tombstone_stays_for_as_long_as_it_is_promised() {
    let text = r#"{"format":"trialog-history","version":2}
{"time":1,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"value":1,"key":"a"}
{"time":2,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"value":1,"offset":0}
{"time":3,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"value":2,"key":"a","tombstone":true}
{"time":4,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"value":2,"offset":1}
{"time":5,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"value":3,"key":"b"}
{"time":6,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"value":3,"offset":2}
{"time":7,"process":900,"type":"info","f":"final"}
{"time":8,"process":50,"type":"ok","f":"seek","topic":"t","partition":0,"offset":-2}
{"time":9,"process":50,"type":"ok","f":"poll","records":[["t",0,2,3]]}
"#;
    let history = History::read(&mut text.as_bytes()).expect("a history");
    let judged = |tombstones_stay| {
        let promise = Promise { tombstones_stay, ..Promise::compacted() };
        names(&all(&history, &Expect::of_all(promise)))
    };
    assert_eq!(judged(false), []);
    assert_eq!(judged(true), [Anomaly::Compaction]);
}

/// After a group was deleted its generations begin anew, and nothing is committed; a look that still
/// shows what was is wrong.
#[test]
fn a_deleted_group_begins_anew() {
    let text = r#"{"format":"trialog-history","version":2}
{"time":1,"process":1,"type":"ok","f":"assigned","group":"g","generation":1,"partitions":[["t",0]]}
{"time":2,"process":1,"type":"invoke","f":"commit","group":"g","generation":1,"offsets":[["t",0,5]]}
{"time":3,"process":1,"type":"ok","f":"commit","group":"g","generation":1,"offsets":[["t",0,5]]}
{"time":4,"process":3,"type":"invoke","f":"forget","group":"g","partitions":[["t",0]]}
{"time":5,"process":3,"type":"ok","f":"forget","group":"g","partitions":[["t",0]]}
{"time":6,"process":3,"type":"invoke","f":"committed","group":"g","offsets":[]}
{"time":7,"process":3,"type":"ok","f":"committed","group":"g","offsets":[["t",0,null]]}
{"time":8,"process":2,"type":"ok","f":"assigned","group":"g","generation":1,"partitions":[["t",0]]}
"#;
    let expect = Expect { caught_up: false, ..Expect::default() };
    let judged = |text: &str| {
        let history = History::read(&mut text.as_bytes()).expect("a history");
        let mut again = Vec::new();
        history.write(&mut again).expect("memory");
        let again = History::read(&mut again.as_slice()).expect("what was written");
        assert_eq!(again.events(), history.events());
        names(&all(&history, &expect))
    };
    assert_eq!(judged(text), []);
    assert_eq!(judged(&text.replace("[\"t\",0,null]", "[\"t\",0,5]")), [Anomaly::LostCommit]);
    let refused = text.replace("\"ok\",\"f\":\"forget\"", "\"fail\",\"f\":\"forget\"");
    assert_eq!(judged(&refused), [Anomaly::LostCommit, Anomaly::DoubleOwnership]);
}

/// What nobody answered may be carried out late, but not by a process that was not asked.
#[test]
fn what_is_not_answered_ends_with_its_broker() {
    let forgotten = r#"{"format":"trialog-history","version":2}
{"time":1,"process":3,"type":"invoke","f":"forget","group":"g","partitions":[["t",0]]}
{"time":2,"process":3,"type":"info","f":"forget","group":"g","partitions":[["t",0]]}
CRASH{"time":5,"process":1,"type":"invoke","f":"commit","group":"g","offsets":[["t",0,5]]}
{"time":6,"process":1,"type":"ok","f":"commit","group":"g","offsets":[["t",0,5]]}
{"time":7,"process":3,"type":"invoke","f":"committed","group":"g","offsets":[]}
{"time":8,"process":3,"type":"ok","f":"committed","group":"g","offsets":[["t",0,null]]}
"#;
    let trimmed = r#"{"format":"trialog-history","version":2}
{"time":1,"process":3,"type":"invoke","f":"trim","topic":"t","partition":0,"offset":-1}
{"time":2,"process":3,"type":"info","f":"trim","topic":"t","partition":0,"offset":-1}
CRASH{"time":5,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"value":7}
{"time":6,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"value":7,"offset":4}
{"time":7,"process":2,"type":"invoke","f":"list-offset","topic":"t","partition":0,"ask":-2}
{"time":8,"process":2,"type":"ok","f":"list-offset","topic":"t","partition":0,"ask":-2,"offset":5}
"#;
    let crash = |node| {
        format!("{{\"time\":3,\"process\":9,\"type\":\"info\",\"f\":\"crash\",\"node\":{node}}}\n")
    };
    let expect = Expect { caught_up: false, ..Expect::default() };
    let judged = |text: &str, crash: &str, expect: &Expect| {
        let text = text.replace("CRASH", crash);
        names(&all(&History::read(&mut text.as_bytes()).expect("a history"), expect))
    };
    for (text, wrong) in [(forgotten, Anomaly::LostCommit), (trimmed, Anomaly::StartOffset)] {
        let served = expect.clone().served("t", 0);
        assert_eq!(judged(text, "", &served), []);
        assert_eq!(judged(text, &crash(1), &served), []);
        assert_eq!(judged(text, &crash(0), &expect), [], "nobody knows whom it asked");
        assert_eq!(judged(text, &crash(0), &served), [wrong]);
    }
}

/// A member may hear of its share so late that the group has been deleted meanwhile: what others do
/// in the group that began anew is not measured by it. By what it hears later, it is.
#[test]
fn a_share_that_is_heard_of_late_is_of_the_deleted_group() {
    let text = r#"{"format":"trialog-history","version":2}
{"time":1,"process":3,"type":"invoke","f":"forget","group":"g","partitions":[["t",0]]}
{"time":2,"process":3,"type":"ok","f":"forget","group":"g","partitions":[["t",0]]}
{"time":3,"process":1,"type":"ok","f":"assigned","group":"g","generation":18,"partitions":[["t",0]]}
LATER{"time":5,"process":2,"type":"ok","f":"assigned","group":"g","generation":1,"partitions":[["t",0]]}
{"time":6,"process":2,"type":"invoke","f":"commit","group":"g","generation":1,"offsets":[["t",0,5]]}
{"time":7,"process":2,"type":"ok","f":"commit","group":"g","generation":1,"offsets":[["t",0,5]]}
"#;
    let later = r#"{"time":4,"process":1,"type":"ok","f":"assigned","group":"g","generation":2,"partitions":[["t",0]]}
"#;
    let judged = |later: &str| {
        let text = text.replace("LATER", later);
        let history = History::read(&mut text.as_bytes()).expect("a history");
        names(&all(&history, &Expect { caught_up: false, ..Expect::default() }))
    };
    assert_eq!(judged(""), []);
    assert_eq!(judged(later), [Anomaly::ZombieCommit]);
}

/// Where groups without members and commits go by themselves, nobody is told when: a share is sure to
/// be of the group that is there if its member has been told something since the group had a commit.
#[test]
fn a_share_that_is_heard_of_late_may_be_of_a_group_that_went_by_itself() {
    let text = r#"{"format":"trialog-history","version":2}
{"time":1,"process":2,"type":"invoke","f":"commit","group":"g","generation":1,"offsets":[["t",0,4]]}
{"time":2,"process":2,"type":"ok","f":"commit","group":"g","generation":1,"offsets":[["t",0,4]]}
{"time":3,"process":1,"type":"ok","f":"assigned","group":"g","generation":3,"partitions":[["t",0]]}
LATER{"time":6,"process":2,"type":"invoke","f":"commit","group":"g","generation":2,"offsets":[["t",0,5]]}
{"time":7,"process":2,"type":"ok","f":"commit","group":"g","generation":2,"offsets":[["t",0,5]]}
"#;
    let later = r#"{"time":4,"process":1,"type":"ok","f":"assigned","group":"g","generation":4,"partitions":[["t",0]]}
"#;
    let judged = |later: &str, vacant_groups_go| {
        let text = text.replace("LATER", later);
        let history = History::read(&mut text.as_bytes()).expect("a history");
        names(&all(&history, &Expect { caught_up: false, vacant_groups_go, ..Expect::default() }))
    };
    assert_eq!(judged("", true), []);
    assert_eq!(judged(later, true), [Anomaly::ZombieCommit]);
    assert_eq!(judged("", false), [Anomaly::ZombieCommit]);
}

/// A large history takes no time to speak of; the bound is loose because test builds are little
/// optimised and machines are shared. `cargo jepsen bench` measures.
#[test]
#[allow(clippy::disallowed_methods, reason = "measures real time")]
fn a_large_history_is_judged_quickly() {
    let history = scale::mixed(50_000);
    let begun = std::time::Instant::now();
    let report = all(&history, &scale::promises());
    assert!(report.clean(), "{report}");
    let taken = begun.elapsed();
    assert!(taken.as_secs() < 5, "50,000 operations took {taken:?}");
}
