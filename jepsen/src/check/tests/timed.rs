//! Retention by time, on trial: what goes too early is named, whether an observer sees the start move,
//! a consumer goes over it, or the last reader does not find it.
//!
//! Each test takes a valid history of `wide`, has records of its timed topic go, and asks twice: as
//! the topic promises, and as one whose records may go at any time, where nothing is wrong.

use trialog_engine::id::Offset;

use super::wide::{self, AGE, FINAL_READER, NEMESIS, PART, TIMED};
use super::{HISTORIES, names};
use crate::check::{Anomaly, Expect, Promise, Retention, all};
use crate::history::{Event, History, Op, Phase, Process, Record};

/// Nobody in the valid history has this number.
const NEW: Process = Process(80);

/// A record of the timed topic that was acknowledged.
#[derive(Clone, Copy)]
struct Stored {
    record: Record,
    sent_ns: u64,
    /// The event that acknowledged it.
    ended: usize,
}

/// All of them, in the order of their offsets.
fn stored(history: &History) -> Vec<Stored> {
    let mut found: Vec<Stored> = Vec::new();
    for (ended, event) in history.events().iter().enumerate() {
        let Op::Send { topic: TIMED, value, offset: Some(offset), .. } = event.op else { continue };
        let asked = history.events().iter().find(|event| {
            event.phase == Phase::Invoke
                && matches!(event.op, Op::Send { value: asked, .. } if asked == value)
        });
        let sent_ns = asked.expect("it was sent").time_ns;
        let record = Record { topic: TIMED, partition: PART, offset, value };
        found.push(Stored { record, sent_ns, ended });
    }
    found
}

/// The history with what is `new` behind event `at`, at its time, and without what the final reading
/// saw of the timed topic below `front`.
fn changed(history: &History, at: usize, new: Vec<(Process, Phase, Op)>, front: Offset) -> History {
    let mut changed = history.named_alike();
    for (number, event) in history.events().iter().enumerate() {
        let mut event = event.clone();
        let time_ns = event.time_ns;
        if let (Op::Poll { records }, FINAL_READER) = (&mut event.op, event.process) {
            records.retain(|record| record.topic != TIMED || record.offset >= front);
        }
        changed.push(event);
        if number == at {
            for (process, phase, op) in new.clone() {
                changed.push(Event { time_ns, process, phase, op });
            }
        }
    }
    changed
}

/// What is found if the topic keeps its promise, and if it makes none. Both are the same of a history
/// in which nothing of it went too early.
fn judged(history: &History) -> (Vec<Anomaly>, Vec<Anomaly>) {
    let loose = Promise::retained(Retention::Anytime);
    let found = |expect: &Expect| names(&all(history, expect));
    (found(&wide::promises()), found(&wide::promises().but("timed", loose)))
}

fn final_at(history: &History) -> usize {
    history.events().iter().position(|event| event.op == Op::Final).expect("it has a final reading")
}

/// Tries it on many histories; enough of them must have a place for it.
fn many(mut one: impl FnMut(u64, &History) -> bool) {
    let seeds = HISTORIES / 10;
    let applied = (0..seeds).filter(|&seed| one(seed, &wide::run(seed))).count() as u64;
    assert!(applied * 10 > seeds, "it fitted only {applied} histories");
}

#[test]
fn a_start_that_passes_what_is_too_young_is_named() {
    many(|seed, history| {
        let last = final_at(history);
        let now = history.events()[last].time_ns;
        let young = |stored: &Stored| now < stored.sent_ns + AGE.as_nanos() as u64;
        let Some(first) = stored(history).into_iter().find(young) else { return false };
        let offset = first.record.offset.plus(1);
        let start = Op::Start { topic: TIMED, partition: PART, offset };
        let history = changed(history, last - 1, vec![(NEMESIS, Phase::Info, start)], offset);
        let (strict, loose) = judged(&history);
        assert!(strict.contains(&Anomaly::StartOffset), "seed {seed}: {strict:?}");
        assert_eq!(loose, [], "seed {seed}");
        true
    });
}

/// At the end it is old enough to be gone; when it was gone over it was not.
#[test]
fn a_consumer_that_goes_over_what_is_too_young_skips_it() {
    many(|seed, history| {
        let end = history.events().last().expect("it is not empty").time_ns;
        let records = stored(history);
        let age = AGE.as_nanos() as u64;
        let fits = |pair: &&[Stored]| {
            let [one, next] = pair else { return false };
            let told = history.events()[next.ended].time_ns;
            told < one.sent_ns + age && end >= one.sent_ns + age && was_read(history, one)
        };
        let Some([one, next]) = records.windows(2).find(fits) else { return false };
        let partition = PART;
        let seek = Op::Seek { topic: TIMED, partition, offset: one.record.offset };
        let poll = Op::Poll { records: vec![next.record] };
        let new = vec![(NEW, Phase::Ok, seek), (NEW, Phase::Ok, poll)];
        let gone = changed(history, next.ended, new, one.record.offset.plus(1));
        let (strict, loose) = judged(&gone);
        assert_eq!(strict, [Anomaly::PollSkip], "seed {seed}");
        assert_eq!(loose, [], "seed {seed}");
        true
    });
}

fn was_read(history: &History, stored: &Stored) -> bool {
    let mut polls = history.events().iter();
    polls.any(|event| match &event.op {
        Op::Poll { records } => records.contains(&stored.record),
        _ => false,
    })
}

#[test]
fn what_is_too_young_and_not_read_at_the_end_is_lost() {
    many(|seed, history| {
        let end = history.events().last().expect("it is not empty").time_ns;
        let young = |stored: &&Stored| end < stored.sent_ns + AGE.as_nanos() as u64;
        let records = stored(history);
        let mut young = records.iter().filter(young);
        let Some(first) = young.next().filter(|_| young.next().is_some()) else { return false };
        let nothing = changed(history, 0, Vec::new(), first.record.offset.plus(1));
        let (strict, loose) = judged(&nothing);
        let lost = [Anomaly::LostWrite, Anomaly::Unseen];
        assert!(strict.iter().any(|found| lost.contains(found)), "seed {seed}: {strict:?}");
        assert_eq!(loose, [], "seed {seed}");
        true
    });
}

/// Records need not come in the order in which they were sent, and a start may pass an old one
/// together with a young one before it. What compaction has taken meanwhile is no matter.
#[test]
fn a_start_passes_nothing_young_unless_its_key_has_a_later_record() {
    let text = r#"{"format":"trialog-history","version":2}
{"time":1,"process":1,"type":"invoke","f":"send","topic":"t","partition":0,"key":"k","value":1}
{"time":90,"process":2,"type":"invoke","f":"send","topic":"t","partition":0,"key":"KEY","value":2}
{"time":91,"process":2,"type":"ok","f":"send","topic":"t","partition":0,"value":2,"offset":0}
{"time":92,"process":1,"type":"ok","f":"send","topic":"t","partition":0,"value":1,"offset":1}
{"time":95,"process":2,"type":"invoke","f":"send","topic":"t","partition":0,"key":"l","value":3}
{"time":96,"process":2,"type":"ok","f":"send","topic":"t","partition":0,"value":3,"offset":2}
{"time":NOW,"process":900,"type":"info","f":"start","topic":"t","partition":0,"offset":2}
"#;
    let judged = |key: &str, now: &str, compacted| {
        let text = text.replace("KEY", key).replace("NOW", now);
        let history = History::read(&mut text.as_bytes()).expect("a history");
        let retention = Retention::AtLeast(std::time::Duration::from_nanos(100));
        let promise = Promise { compacted, ..Promise::retained(retention) };
        names(&all(&history, &Expect { caught_up: false, ..Expect::of_all(promise) }))
    };
    assert_eq!(judged("j", "189", false), [Anomaly::StartOffset]);
    assert_eq!(judged("j", "190", false), []);
    assert_eq!(judged("j", "189", true), [Anomaly::StartOffset]);
    assert_eq!(judged("l", "189", true), []);
    assert_eq!(judged("l", "189", false), [Anomaly::StartOffset]);
    assert_eq!(judged("l", "100", true), [Anomaly::StartOffset]);
}
