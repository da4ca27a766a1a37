//! One anomaly at a time, put into a valid history. Each returns whether the history had a place.

use trialog_engine::id::{Offset, PartitionIndex};

use super::world::{FINAL_READER, Random};
use crate::check::Anomaly;
use crate::history::{Event, History, Op, Phase, Record, Topic, Value};

pub type Inject = fn(&mut History, &mut Random) -> bool;

pub const ALL: [(&str, Anomaly, Inject); 14] = [
    ("an acknowledged record that nobody sees", Anomaly::LostWrite, lost_write),
    ("an acknowledged tail that nobody sees", Anomaly::Unseen, unseen_tail),
    ("a record that is read and later gone", Anomaly::Unseen, gone_after_reading),
    ("a record stored twice", Anomaly::Duplicate, stored_twice),
    ("a reader with another value at an offset", Anomaly::InconsistentOffsets, two_values),
    ("a poll delivered again", Anomaly::NonmonotonicPoll, poll_again),
    ("a record left out of one poll", Anomaly::PollSkip, poll_skip),
    ("two records of one producer swapped", Anomaly::NonmonotonicSend, swapped),
    ("a hole", Anomaly::OffsetsDense, hole),
    ("a foreign payload", Anomaly::Phantom, foreign_payload),
    ("a payload nobody sent", Anomaly::Phantom, never_sent),
    ("a failed send that is read", Anomaly::Phantom, failed_but_read),
    ("a value sent twice by its client", Anomaly::Malformed, sent_twice),
    ("an answer to nothing", Anomaly::Malformed, answer_to_nothing),
];

type Part = (Topic, PartitionIndex);

/// The events of a history, rewritten.
pub fn rewrite(history: &mut History, mut change: impl FnMut(&mut Event)) {
    let mut new = history.named_alike();
    for event in history.events() {
        let mut event = event.clone();
        change(&mut event);
        new.push(event);
    }
    *history = new;
}

/// Adds an event where `at` stands now, with its time and process.
fn insert(history: &mut History, at: usize, op: Op, phase: Phase) {
    let mut events = history.events().to_vec();
    let mut event = events[at.min(events.len() - 1)].clone();
    (event.op, event.phase) = (op, phase);
    events.insert(at, event);
    let mut new = history.named_alike();
    events.into_iter().for_each(|event| new.push(event));
    *history = new;
}

pub fn for_records(history: &mut History, mut change: impl FnMut(usize, &mut Vec<Record>)) {
    let mut at = 0;
    rewrite(history, |event| {
        if let Op::Poll { records } = &mut event.op {
            change(at, records);
        }
        at += 1;
    });
}

/// What the final reading saw, in order.
fn finally(history: &History) -> Vec<Record> {
    let polls = history.events().iter().filter(|event| event.process == FINAL_READER);
    polls
        .flat_map(|event| match &event.op {
            Op::Poll { records } => records.clone(),
            _ => Vec::new(),
        })
        .collect()
}

/// Acknowledged values with their places.
fn acknowledged(history: &History) -> Vec<Record> {
    let mut found = Vec::new();
    for event in history.events() {
        if let (Phase::Ok, Op::Send { topic, partition, value, offset, .. }) =
            (event.phase, &event.op)
        {
            let partition = partition.expect("the world names it");
            let offset = offset.expect("the world gives it");
            found.push(Record { topic: *topic, partition, offset, value: *value });
        }
    }
    found
}

fn ends(history: &History) -> Vec<(Part, Offset)> {
    let mut ends: Vec<(Part, Offset)> = Vec::new();
    for record in finally(history) {
        let part = (record.topic, record.partition);
        ends.retain(|(known, _)| *known != part);
        ends.push((part, record.offset));
    }
    ends
}

pub fn pick<T: Copy>(random: &mut Random, from: &[T]) -> Option<T> {
    (!from.is_empty()).then(|| from[random.below(from.len())])
}

fn unread(history: &mut History, value: Value) {
    for_records(history, |_, records| records.retain(|record| record.value != value));
}

fn lost_write(history: &mut History, random: &mut Random) -> bool {
    let ends = ends(history);
    let below_end =
        |record: &Record| ends.contains(&((record.topic, record.partition), record.offset));
    let mut candidates = acknowledged(history);
    candidates.retain(|record| !below_end(record));
    let Some(record) = pick(random, &candidates) else { return false };
    unread(history, record.value);
    true
}

fn unseen_tail(history: &mut History, random: &mut Random) -> bool {
    let ends = ends(history);
    let mut candidates = acknowledged(history);
    candidates.retain(|record| ends.contains(&((record.topic, record.partition), record.offset)));
    let Some(record) = pick(random, &candidates) else { return false };
    unread(history, record.value);
    true
}

fn gone_after_reading(history: &mut History, random: &mut Random) -> bool {
    let ends = ends(history);
    let mut candidates = Vec::new();
    for event in history.events().iter().filter(|event| event.process != FINAL_READER) {
        let Op::Poll { records } = &event.op else { continue };
        let at_end =
            |record: &&Record| ends.contains(&((record.topic, record.partition), record.offset));
        candidates.extend(records.iter().filter(at_end).copied());
    }
    let record = match pick(random, &candidates) {
        Some(record) => record,
        None => {
            // Nobody was that far: let somebody be, right before the final reading.
            let Some(((topic, partition), offset)) = pick(random, &ends) else { return false };
            let all = finally(history);
            let same = |record: &&Record| {
                (record.topic, record.partition, record.offset) == (topic, partition, offset)
            };
            let record = *all.iter().find(same).expect("it was read finally");
            let at = history.events().iter().position(|event| event.op == Op::Final);
            let at = at.expect("the world marks it");
            insert(history, at, Op::Poll { records: vec![record] }, Phase::Ok);
            record
        }
    };
    let mut is_final = false;
    rewrite(history, |event| match &mut event.op {
        Op::Final => is_final = true,
        Op::Poll { records } if is_final => records.retain(|seen| seen.value != record.value),
        _ => {}
    });
    true
}

fn stored_twice(history: &mut History, random: &mut Random) -> bool {
    let ends = ends(history);
    let Some(record) = pick(random, &finally(history)) else { return false };
    let part = (record.topic, record.partition);
    let end = ends.iter().find(|(known, _)| *known == part).expect("it holds records").1;
    let mut is_final = false;
    rewrite(history, |event| match &mut event.op {
        Op::Final => is_final = true,
        Op::Poll { records } if is_final => {
            let last = records.last().map(|last| ((last.topic, last.partition), last.offset));
            if last == Some((part, end)) {
                records.push(Record { offset: end.plus(1), ..record });
            }
        }
        _ => {}
    });
    true
}

fn two_values(history: &mut History, random: &mut Random) -> bool {
    let read: Vec<Value> = finally(history).iter().map(|record| record.value).collect();
    let mut candidates = Vec::new();
    for (at, event) in history.events().iter().enumerate() {
        let Op::Poll { records } = &event.op else { continue };
        if event.process != FINAL_READER {
            candidates.extend((0..records.len()).map(|place| (at, place)));
        }
    }
    let Some((at, place)) = pick(random, &candidates) else { return false };
    let Op::Poll { records } = &history.events()[at].op else { return false };
    let target = records[place];
    let end_kinds = history.events().iter().filter_map(|event| match (&event.op, event.phase) {
        (Op::Send { value, .. }, Phase::Ok | Phase::Fail) => Some(*value),
        _ => None,
    });
    let ended: Vec<Value> = end_kinds.collect();
    // A send to that partition, asked before, that nobody answered and that never landed.
    let stray = history.events()[..at].iter().find_map(|event| match (&event.op, event.phase) {
        (Op::Send { topic, partition: Some(partition), value, .. }, Phase::Invoke) => {
            let here = (*topic, *partition) == (target.topic, target.partition);
            (here && !read.contains(value) && !ended.contains(value)).then_some(*value)
        }
        _ => None,
    });
    let value = stray.unwrap_or(Value::new(40, 1));
    for_records(history, |seen, records| {
        if seen == at {
            records[place].value = value;
        }
    });
    if stray.is_none() {
        let Record { topic, partition, .. } = target;
        let partition = Some(partition);
        insert(history, 0, Op::send(topic, partition, value), Phase::Invoke);
    }
    true
}

fn poll_again(history: &mut History, random: &mut Random) -> bool {
    let mut candidates = Vec::new();
    for (at, event) in history.events().iter().enumerate() {
        if matches!(&event.op, Op::Poll { records } if !records.is_empty()) {
            candidates.push(at);
        }
    }
    let Some(at) = pick(random, &candidates) else { return false };
    let op = history.events()[at].op.clone();
    insert(history, at, op, Phase::Ok);
    true
}

fn poll_skip(history: &mut History, random: &mut Random) -> bool {
    let mut candidates = Vec::new();
    for (at, event) in history.events().iter().enumerate() {
        let Op::Poll { records } = &event.op else { continue };
        for place in 1..records.len().saturating_sub(1) {
            let part = |record: &Record| (record.topic, record.partition);
            let inner = part(&records[place - 1]) == part(&records[place + 1]);
            // The final reading's skips are lost writes; here somebody else must have seen it.
            if inner && event.process != FINAL_READER {
                candidates.push((at, place));
            }
        }
    }
    let Some((at, place)) = pick(random, &candidates) else { return false };
    for_records(history, |seen, records| {
        if seen == at {
            records.remove(place);
        }
    });
    true
}

fn swapped(history: &mut History, random: &mut Random) -> bool {
    let events = history.events();
    let invoked = |value: Value| {
        events.iter().position(|event| {
            event.phase == Phase::Invoke
                && matches!(event.op, Op::Send { value: sent, .. } if sent == value)
        })
    };
    let touched = |value: Value| {
        events.iter().position(|event| match &event.op {
            Op::Send { value: sent, .. } => event.phase != Phase::Invoke && *sent == value,
            Op::Poll { records } => records.iter().any(|record| record.value == value),
            _ => false,
        })
    };
    let read = finally(history);
    let mut candidates = Vec::new();
    for one in &read {
        for other in &read {
            let together = (one.topic, one.partition) == (other.topic, other.partition);
            if !together || one.value >= other.value || one.value.0 >> 32 != other.value.0 >> 32 {
                continue;
            }
            // The first must not show before the second was sent, or the swap is impossible.
            if invoked(other.value) < touched(one.value) && one.offset < other.offset {
                candidates.push((*one, *other));
            }
        }
    }
    let Some((one, other)) = pick(random, &candidates) else { return false };
    let swap = |value: &mut Value| {
        *value = match *value {
            value if value == one.value => other.value,
            value if value == other.value => one.value,
            value => value,
        }
    };
    rewrite(history, |event| match &mut event.op {
        Op::Poll { records } => records.iter_mut().for_each(|record| swap(&mut record.value)),
        Op::Send { value, .. } if event.phase != Phase::Invoke => swap(value),
        _ => {}
    });
    true
}

fn hole(history: &mut History, random: &mut Random) -> bool {
    let Some(from) = pick(random, &finally(history)) else { return false };
    let moved = |topic: Topic, partition: PartitionIndex, offset: &mut Offset| {
        if (topic, partition) == (from.topic, from.partition) && *offset >= from.offset {
            *offset = offset.plus(1);
        }
    };
    rewrite(history, |event| match &mut event.op {
        Op::Poll { records } => {
            records
                .iter_mut()
                .for_each(|record| moved(record.topic, record.partition, &mut record.offset));
        }
        Op::Send { topic, partition: Some(partition), offset: Some(offset), .. }
        | Op::Seek { topic, partition, offset } => moved(*topic, *partition, offset),
        _ => {}
    });
    true
}

pub fn foreign_payload(history: &mut History, random: &mut Random) -> bool {
    at_final_end(history, random, Value::FOREIGN)
}

fn never_sent(history: &mut History, random: &mut Random) -> bool {
    at_final_end(history, random, Value::new(77, 77))
}

fn failed_but_read(history: &mut History, random: &mut Random) -> bool {
    let mut candidates = Vec::new();
    for event in history.events() {
        if let (Phase::Fail, Op::Send { topic, partition: Some(partition), value, .. }) =
            (event.phase, &event.op)
        {
            candidates.push((*topic, *partition, *value));
        }
    }
    let Some((topic, partition, value)) = pick(random, &candidates) else { return false };
    let end = ends(history).into_iter().find(|(part, _)| *part == (topic, partition));
    let offset = end.map_or(Offset(0), |(_, end)| end.plus(1));
    let events = history.events().len();
    let op = Op::Poll { records: vec![Record { topic, partition, offset, value }] };
    insert(history, events, op, Phase::Ok);
    true
}

/// Puts a record behind the end of a partition, at the end of the history.
fn at_final_end(history: &mut History, random: &mut Random, value: Value) -> bool {
    let Some(((topic, partition), end)) = pick(random, &ends(history)) else { return false };
    let events = history.events().len();
    let op = Op::Poll { records: vec![Record { topic, partition, offset: end.plus(1), value }] };
    insert(history, events, op, Phase::Ok);
    true
}

fn sent_twice(history: &mut History, _: &mut Random) -> bool {
    let first = history
        .events()
        .iter()
        .find(|event| event.phase == Phase::Invoke && matches!(event.op, Op::Send { .. }));
    let Some(op) = first.map(|event| event.op.clone()) else { return false };
    let events = history.events().len();
    insert(history, events, op, Phase::Invoke);
    true
}

fn answer_to_nothing(history: &mut History, _: &mut Random) -> bool {
    let op = Op::send(Topic(0), None, Value::new(88, 8));
    insert(history, 0, op, Phase::Info);
    true
}
