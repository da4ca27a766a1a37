//! One anomaly at a time, put into a valid history of `wide`. Each returns whether there was a place.
//!
//! Most are told by new processes right before the final reading; some take records out of it.

use trialog_engine::id::{Offset, ProducerEpoch};

use super::inject::{Inject, for_records, pick, rewrite};
use super::wide::{AGING, EMPTY_AFTER, FINAL_READER, GROUP, KEPT, PART, PASSING, TABLE, TIMED};
use super::world::Random;
use crate::check::Anomaly;
use crate::history::{
    Admin, BEGINNING, END, Event, Group, History, Leader, Membership, Op, Phase, Process, Record,
    Topic, Value,
};

pub const ALL: [(&str, Anomaly, Inject); 25] = [
    ("an epoch that was fenced", Anomaly::ZombieWrite, fenced_epoch),
    ("a start that goes back", Anomaly::StartOffset, start_back),
    ("a start that nobody moved", Anomaly::StartOffset, start_unasked),
    ("a trimmed record that is read", Anomaly::StartOffset, read_below),
    ("an end that goes back", Anomaly::EndOffset, end_back),
    ("an end below an acknowledged record", Anomaly::EndOffset, end_too_low),
    ("a time's offset that is too early", Anomaly::TimeLookup, time_early),
    ("a time's offset that is too late", Anomaly::TimeLookup, time_late),
    ("a key whose last record is gone", Anomaly::Compaction, last_record_gone),
    ("a tombstone that goes before its value", Anomaly::Compaction, tombstone_gone),
    ("a record that was compacted and is back", Anomaly::Compaction, back_again),
    ("retention that leaves a hole", Anomaly::LostWrite, hole_in_the_middle),
    ("retention that does not come", Anomaly::Retention, never_expired),
    ("a topic that exists and is not listed", Anomaly::MetadataNonlinearizable, not_listed),
    ("a number of partitions that never was", Anomaly::MetadataNonlinearizable, wrong_count),
    ("a setting that nobody made", Anomaly::MetadataNonlinearizable, wrong_setting),
    ("two leaders in one epoch", Anomaly::MetadataNonlinearizable, two_leaders),
    ("an epoch that goes back", Anomaly::MetadataNonlinearizable, epoch_back),
    ("a commit that vanished", Anomaly::LostCommit, commit_gone),
    ("a member that resumes too early", Anomaly::LostCommit, resumes_early),
    ("a committed offset that goes back", Anomaly::OffsetRegression, commit_back),
    ("a commit of an old generation", Anomaly::ZombieCommit, zombie),
    ("two owners", Anomaly::DoubleOwnership, two_owners),
    ("a member that resumes too late", Anomaly::PollSkip, resumes_late),
    ("an answer to what was not asked", Anomaly::Malformed, unasked_answer),
];

/// Nobody in the valid history has these numbers.
const NEW: Process = Process(80);
const OTHER: Process = Process(81);

/// Adds events of their own time right before the final reading.
fn before_final(history: &mut History, new: Vec<(Process, Phase, Op)>) {
    let mut changed = history.named_alike();
    for event in history.events() {
        if event.op == Op::Final {
            for (process, phase, op) in &new {
                let (time_ns, process, phase) = (event.time_ns, *process, *phase);
                changed.push(Event { time_ns, process, phase, op: op.clone() });
            }
        }
        changed.push(event.clone());
    }
    *history = changed;
}

/// A call with its answer.
fn call(ask: Op, answer: Op) -> Vec<(Process, Phase, Op)> {
    vec![(NEW, Phase::Invoke, ask), (NEW, Phase::Ok, answer)]
}

fn list_offset(topic: Topic, ask: i64, offset: i64) -> Vec<(Process, Phase, Op)> {
    let op = |offset| Op::ListOffset { topic, partition: PART, ask, offset };
    call(op(None), op(Some(Offset(offset))))
}

/// A producer that has begun an epoch, and whose records were acknowledged before and after, was in an
/// older one after all.
fn fenced_epoch(history: &mut History, random: &mut Random) -> bool {
    let mut announced: Vec<usize> = Vec::new();
    let mut acknowledged = Vec::new();
    let own = history.events().iter().enumerate();
    for (at, event) in own.filter(|(_, event)| event.process == Process(KEPT.0)) {
        match (&event.op, event.phase) {
            (Op::Producer { .. }, _) => announced.push(at),
            (Op::Send { .. }, Phase::Ok) => acknowledged.push(at),
            _ => {}
        }
    }
    // The first one has nothing to be behind: before it, nobody says in which epoch it was.
    let spans = announced.windows(2).zip(announced.get(2..).unwrap_or(&[]));
    let any = |from: usize, to: usize| acknowledged.iter().any(|at| (from..to).contains(at));
    let fits = spans.filter(|(pair, next)| any(pair[0], pair[1]) && any(pair[1], **next));
    let candidates: Vec<usize> = fits.map(|(pair, _)| pair[1]).collect();
    let Some(chosen) = pick(random, &candidates) else { return false };
    let mut at = 0;
    rewrite(history, |event| {
        if let Op::Producer { identity: Some(identity), .. } = &mut event.op
            && at == chosen
        {
            identity.epoch = ProducerEpoch(0);
        }
        at += 1;
    });
    true
}

/// What the final reading saw of a topic.
fn finally(history: &History, topic: Topic) -> Vec<Record> {
    let polls = history.events().iter().filter(|event| event.process == FINAL_READER);
    let records = polls.flat_map(|event| match &event.op {
        Op::Poll { records } => records.clone(),
        _ => Vec::new(),
    });
    records.filter(|record| record.topic == topic).collect()
}

fn end(history: &History, topic: Topic) -> i64 {
    finally(history, topic).last().map_or(0, |record| record.offset.0 + 1)
}

/// A send that was acknowledged.
struct Stored {
    value: Value,
    key: Option<Box<str>>,
    tombstone: bool,
    time_ms: i64,
    offset: Offset,
}

/// Sends of a topic that were acknowledged before the final reading.
fn stored(history: &History, of: Topic) -> Vec<Stored> {
    let mut found = Vec::new();
    for event in history.events().iter().filter(|event| event.phase == Phase::Ok) {
        let Op::Send { topic, value: stored, offset: Some(offset), .. } = event.op else {
            continue;
        };
        if topic != of {
            continue;
        }
        let asked = history.events().iter().find_map(|event| match &event.op {
            Op::Send { key, value, tombstone, timestamp_ms, .. }
                if *value == stored && event.phase == Phase::Invoke =>
            {
                let (key, time_ms) = (key.clone(), timestamp_ms.unwrap_or(0));
                Some(Stored { value: stored, key, tombstone: *tombstone, time_ms, offset })
            }
            _ => None,
        });
        found.push(asked.expect("it was sent"));
    }
    found
}

fn largest(history: &History, of: impl Fn(&Op) -> Option<i64>) -> i64 {
    let done = history.events().iter().filter(|event| event.phase == Phase::Ok);
    done.filter_map(|event| of(&event.op)).max().unwrap_or(0)
}

fn start_back(history: &mut History, _: &mut Random) -> bool {
    let known = largest(history, |op| match op {
        Op::ListOffset { topic, ask, offset: Some(offset), .. }
            if *topic == AGING && *ask == BEGINNING.0 =>
        {
            Some(offset.0)
        }
        _ => None,
    });
    let fits = known > 0;
    if fits {
        before_final(history, list_offset(AGING, BEGINNING.0, known - 1));
    }
    fits
}

/// The largest offset below which somebody asked to take everything.
fn trim_asked(history: &History) -> i64 {
    let asked = history.events().iter().filter_map(|event| match &event.op {
        Op::Trim { offset, .. } => Some(offset.0),
        _ => None,
    });
    asked.max().unwrap_or(0)
}

fn start_unasked(history: &mut History, _: &mut Random) -> bool {
    let end = end(history, KEPT);
    let fits = trim_asked(history) + 1 < end;
    if fits {
        before_final(history, list_offset(KEPT, BEGINNING.0, end - 1));
    }
    fits
}

fn read_below(history: &mut History, _: &mut Random) -> bool {
    let trimmed = largest(history, |op| match op {
        Op::Trim { offset, .. } => Some(offset.0),
        _ => None,
    });
    let records = stored(history, KEPT);
    let Some(Stored { offset, value, .. }) = records.iter().find(|it| it.offset.0 < trimmed) else {
        return false;
    };
    let record = Record { topic: KEPT, partition: PART, offset: *offset, value: *value };
    let seek = Op::Seek { topic: KEPT, partition: PART, offset: *offset };
    let poll = Op::Poll { records: vec![record] };
    before_final(history, vec![(NEW, Phase::Ok, seek), (NEW, Phase::Ok, poll)]);
    true
}

fn end_back(history: &mut History, _: &mut Random) -> bool {
    let known = largest(history, |op| match op {
        Op::ListOffset { topic, ask, offset: Some(offset), .. }
            if *topic == KEPT && *ask == END.0 =>
        {
            Some(offset.0)
        }
        _ => None,
    });
    if known > 0 {
        before_final(history, list_offset(KEPT, END.0, known - 1));
    }
    known > 0
}

fn end_too_low(history: &mut History, _: &mut Random) -> bool {
    let Some(last) = stored(history, AGING).last().map(|it| it.offset.0) else { return false };
    before_final(history, list_offset(AGING, END.0, last));
    true
}

fn time_early(history: &mut History, random: &mut Random) -> bool {
    let records = stored(history, KEPT);
    if records.is_empty() {
        return false;
    }
    let Stored { time_ms, offset, .. } = records[random.below(records.len())];
    before_final(history, list_offset(KEPT, time_ms + 1, offset.0));
    true
}

fn time_late(history: &mut History, random: &mut Random) -> bool {
    let there = finally(history, KEPT);
    let mut records = stored(history, KEPT);
    records.retain(|it| there.iter().any(|record| record.value == it.value));
    if records.is_empty() {
        return false;
    }
    // The answer must not be too early at the same time: let it be none.
    let ask = records[random.below(records.len())].time_ms;
    let op = Op::ListOffset { topic: KEPT, partition: PART, ask, offset: None };
    before_final(history, call(op.clone(), op));
    true
}

/// Takes a value out of the final reading, or out of all.
fn vanish(history: &mut History, value: Value) {
    for_records(history, |_, records| records.retain(|record| record.value != value));
}

fn last_record_gone(history: &mut History, random: &mut Random) -> bool {
    let (there, end) = (finally(history, TABLE), end(history, TABLE));
    let (records, unsure) = (stored(history, TABLE), unsure_keys(history));
    let last = |it: &&Stored| {
        let later = records.iter().any(|other| other.key == it.key && other.offset > it.offset);
        let seen = there.iter().any(|record| record.value == it.value);
        let certain = !unsure.contains(&it.key);
        !later && !it.tombstone && seen && certain && it.offset.0 + 1 < end
    };
    let candidates: Vec<Value> = records.iter().filter(last).map(|it| it.value).collect();
    pick(random, &candidates).inspect(|value| vanish(history, *value)).is_some()
}

/// Keys of sends whose fate nobody knows: each may have a later record than it shows.
fn unsure_keys(history: &History) -> Vec<Option<Box<str>>> {
    let known: Vec<Value> = stored(history, TABLE).iter().map(|it| it.value).collect();
    let sends = history.events().iter().filter_map(|event| match &event.op {
        Op::Send { topic: TABLE, key, value, .. } if event.phase == Phase::Invoke => {
            (!known.contains(value)).then(|| key.clone())
        }
        _ => None,
    });
    sends.collect()
}

fn tombstone_gone(history: &mut History, random: &mut Random) -> bool {
    let there = finally(history, TABLE);
    let (records, unsure) = (stored(history, TABLE), unsure_keys(history));
    let shown = |it: &Stored| there.iter().any(|record| record.value == it.value);
    // A key that shows a value and then its tombstone, which is the last of it.
    let last = |it: &&Stored| {
        let of_key = |other: &&Stored| other.key == it.key;
        let later = records.iter().filter(of_key).any(|other| other.offset > it.offset);
        let older = records
            .iter()
            .filter(of_key)
            .any(|old| !old.tombstone && old.offset < it.offset && shown(old));
        it.tombstone && shown(it) && !later && older && !unsure.contains(&it.key)
    };
    let candidates: Vec<Value> = records.iter().filter(last).map(|it| it.value).collect();
    pick(random, &candidates).inspect(|value| vanish(history, *value)).is_some()
}

fn back_again(history: &mut History, random: &mut Random) -> bool {
    let (there, end) = (finally(history, TABLE), end(history, TABLE));
    // What nobody shows any more although it was stored, between what is shown.
    let inside = |it: &&Stored| {
        let shown = there.iter().any(|record| record.value == it.value);
        let after_first = there.first().is_some_and(|first| first.offset < it.offset);
        !shown && after_first && it.offset.0 + 1 < end
    };
    let records = stored(history, TABLE);
    let gone: Vec<(Value, Offset)> =
        records.iter().filter(inside).map(|it| (it.value, it.offset)).collect();
    let Some((value, offset)) = pick(random, &gone) else { return false };
    let before = there.iter().rfind(|record| record.offset < offset).expect("it is inside");
    let after = *there.iter().find(|record| record.offset > offset).expect("it is inside");
    let poll = Op::Poll { records: vec![*before, after] };
    before_final(history, vec![(NEW, Phase::Ok, poll)]);
    let record = Record { topic: TABLE, partition: PART, offset, value };
    let last = history.events().iter().position(|event| event.op == Op::Final);
    for_records(history, |at, records| {
        let place = records.iter().position(|it| it.value == after.value);
        if let Some(place) = place.filter(|_| Some(at) > last) {
            records.insert(place, record);
        }
    });
    true
}

fn hole_in_the_middle(history: &mut History, random: &mut Random) -> bool {
    let there = finally(history, AGING);
    let acknowledged = stored(history, AGING);
    let inner: Vec<Value> = there
        .iter()
        .skip(1)
        .take(there.len().saturating_sub(2))
        .map(|record| record.value)
        .filter(|value| acknowledged.iter().any(|it| it.value == *value))
        .collect();
    let Some(value) = pick(random, &inner) else { return false };
    vanish(history, value);
    true
}

/// The final reading goes to the beginning so late that nothing should be there, and finds what it found.
fn never_expired(history: &mut History, _: &mut Random) -> bool {
    if finally(history, TIMED).is_empty() {
        return false;
    }
    let walks = |event: &Event| {
        let Op::Seek { topic, .. } = event.op else { return false };
        topic == TIMED && event.process == FINAL_READER
    };
    let mut later = 0;
    let mut changed = history.named_alike();
    for event in history.events() {
        if walks(event) {
            later = u64::try_from(EMPTY_AFTER.as_nanos()).expect("little");
        }
        changed.push(Event { time_ns: event.time_ns + later, ..event.clone() });
    }
    *history = changed;
    true
}

fn listing(topics: Vec<(Topic, Option<i32>)>, leaders: Vec<Leader>) -> Vec<(Process, Phase, Op)> {
    let ask = Admin::Metadata { all: false, topics: Vec::new(), leaders: Vec::new() };
    let answer = Admin::Metadata { all: false, topics, leaders };
    call(Op::Admin(Box::new(ask)), Op::Admin(Box::new(answer)))
}

/// A passing topic that certainly exists, or certainly does not, at the end: nothing is under way or
/// of unknown fate, and the last change was acknowledged.
fn certain(history: &History, exists: bool) -> Option<Topic> {
    PASSING.into_iter().find(|topic| {
        let mut state = None;
        let mut open = 0;
        for event in history.events() {
            let Op::Admin(admin) = &event.op else { continue };
            let (about, now) = match &**admin {
                Admin::Create { topic, .. } => (*topic, true),
                Admin::Delete { topic } => (*topic, false),
                _ => continue,
            };
            if about != *topic {
                continue;
            }
            match event.phase {
                Phase::Invoke => open += 1,
                Phase::Ok => (open, state) = (open - 1, Some(now)),
                Phase::Fail => open -= 1,
                Phase::Info => return false,
            }
        }
        open == 0 && state == Some(exists)
    })
}

fn not_listed(history: &mut History, random: &mut Random) -> bool {
    let exists = random.one_in(2);
    let topic = certain(history, exists).or_else(|| certain(history, !exists));
    let Some(topic) = topic else { return false };
    let exists = certain(history, true) == Some(topic);
    let seen = if exists { None } else { Some(1) };
    before_final(history, listing(vec![(topic, seen)], Vec::new()));
    true
}

fn wrong_count(history: &mut History, _: &mut Random) -> bool {
    let topic = changed_topic(history);
    if let Some(topic) = topic {
        before_final(history, listing(vec![(topic, Some(77))], Vec::new()));
    }
    topic.is_some()
}

fn changed_topic(history: &History) -> Option<Topic> {
    history.events().iter().find_map(|event| match &event.op {
        Op::Admin(admin) => match &**admin {
            Admin::Create { topic, .. } => Some(*topic),
            _ => None,
        },
        _ => None,
    })
}

fn wrong_setting(history: &mut History, _: &mut Random) -> bool {
    let Some(topic) = changed_topic(history) else { return false };
    let seen = Some([("segment.ms".to_owned(), Some("nobody's".to_owned()))].into());
    let op = |configs| Op::Admin(Box::new(Admin::Describe { topic, configs }));
    before_final(history, call(op(None), op(seen)));
    true
}

fn leader(node: i32, epoch: i32) -> Leader {
    Leader { topic: KEPT, partition: PART, node, epoch }
}

fn two_leaders(history: &mut History, _: &mut Random) -> bool {
    let mut events = listing(Vec::new(), vec![leader(0, 9000)]);
    events.extend(listing(Vec::new(), vec![leader(1, 9000)]));
    before_final(history, events);
    true
}

fn epoch_back(history: &mut History, _: &mut Random) -> bool {
    let mut events = listing(Vec::new(), vec![leader(0, 9001)]);
    events.extend(listing(Vec::new(), vec![leader(0, 9000)]));
    before_final(history, events);
    true
}

fn commit(
    group: Group,
    process: Process,
    generation: Option<i32>,
    offset: i64,
) -> Vec<(Process, Phase, Op)> {
    let offsets = vec![(KEPT, PART, Offset(offset))];
    let op = Op::Group(group, Box::new(Membership::Commit { generation, offsets }));
    vec![(process, Phase::Invoke, op.clone()), (process, Phase::Ok, op)]
}

fn look(group: Group, offset: Option<i64>) -> Vec<(Process, Phase, Op)> {
    let op = |offsets| Op::Group(group, Box::new(Membership::Committed { offsets }));
    call(op(Vec::new()), op(vec![(KEPT, PART, offset.map(Offset))]))
}

fn commit_gone(history: &mut History, random: &mut Random) -> bool {
    let group = history.group("other");
    let mut events = commit(group, NEW, None, 5);
    events.extend(commit(group, NEW, None, 6));
    events.extend(look(group, if random.one_in(2) { None } else { Some(5) }));
    before_final(history, events);
    true
}

fn commit_back(history: &mut History, random: &mut Random) -> bool {
    let group = history.group("other");
    let mut events = commit(group, NEW, None, 5);
    events.extend(commit(group, NEW, None, 6));
    events.extend(look(group, Some(6)));
    events.extend(look(group, if random.one_in(2) { None } else { Some(5) }));
    before_final(history, events);
    true
}

fn assigned(group: Group, process: Process, generation: i32) -> (Process, Phase, Op) {
    let partitions = vec![(KEPT, PART)];
    let assigned = Membership::Assigned { member: None, generation, partitions };
    (process, Phase::Ok, Op::Group(group, Box::new(assigned)))
}

/// Two records, the second of which comes after the first, with nothing uncertain between.
fn resumes(history: &mut History, random: &mut Random, early: bool) -> bool {
    let mut there = finally(history, KEPT);
    // What a trim was asked to take may be skipped, even if the trim never came.
    let asked = trim_asked(history);
    there.retain(|record| record.offset.0 >= asked);
    if there.len() < 4 {
        return false;
    }
    let at = 1 + random.below(there.len() - 2);
    let committed = there[at].offset.0;
    let first = if early { there[at - 1] } else { there[at + 1] };
    // In a group of their own: in the other one a commit of unknown fate may still come.
    let group = history.group("other");
    let mut events = vec![assigned(group, NEW, 1)];
    events.extend(commit(group, NEW, Some(1), committed));
    events.push(assigned(group, OTHER, 2));
    events.push((OTHER, Phase::Ok, Op::Poll { records: vec![first] }));
    before_final(history, events);
    true
}

fn resumes_early(history: &mut History, random: &mut Random) -> bool {
    resumes(history, random, true)
}

fn resumes_late(history: &mut History, random: &mut Random) -> bool {
    resumes(history, random, false)
}

fn zombie(history: &mut History, _: &mut Random) -> bool {
    let mut events = vec![assigned(GROUP, NEW, 9000), assigned(GROUP, OTHER, 9001)];
    events.extend(commit(GROUP, NEW, Some(9000), 1));
    before_final(history, events);
    true
}

fn two_owners(history: &mut History, _: &mut Random) -> bool {
    before_final(history, vec![assigned(GROUP, NEW, 9000), assigned(GROUP, OTHER, 9000)]);
    true
}

fn unasked_answer(history: &mut History, _: &mut Random) -> bool {
    let op = Op::ListOffset { topic: KEPT, partition: PART, ask: END.0, offset: None };
    before_final(history, vec![(NEW, Phase::Ok, op)]);
    true
}
