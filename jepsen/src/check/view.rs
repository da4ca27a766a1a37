//! A history prepared for the checkers: every send with its fate, every place where a value stood.
//!
//! Built once, in O(n log n), as sorted arrays (no hashing, so that two runs agree in everything).
//! Keeps: `places` sorted by partition, offset, value, event; `by_value` a permutation of it sorted
//! by value first. Reports what makes a history malformed, and then leaves that out.

use std::collections::BTreeMap;

use trialog_engine::id::{Offset, PartitionIndex};

use super::{Anomaly, Expect, Report, Tally};
use crate::history::{Fault, History, Op, Phase, Process, Topic, Value};

/// A partition of the history, numbered in the order of topic and index.
pub type Part = u32;

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Acknowledged,
    Failed,
    Unknown,
}

/// One send.
#[derive(Clone, Copy, Debug)]
pub struct Send {
    pub value: Value,
    pub process: Process,
    pub topic: Topic,
    /// Where it was sent, as asked or as acknowledged.
    pub part: Option<Part>,
    pub fate: Fate,
    /// From the acknowledgement.
    pub offset: Option<Offset>,
    /// The event that asked.
    pub invoked: usize,
    /// The event that ended it; the one that asked if none did.
    pub ended: usize,
}

/// How it is known that a value stood at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Acknowledged,
    Read,
    ReadFinally,
}

/// A value at an offset, by one witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub part: Part,
    pub offset: Offset,
    pub value: Value,
    pub event: usize,
    pub source: Source,
}

impl Place {
    pub fn read(&self) -> bool {
        self.source != Source::Acknowledged
    }
}

/// See the head of the file.
pub struct View<'a> {
    pub history: &'a History,
    parts: Vec<(Topic, PartitionIndex)>,
    /// In the order in which they were asked.
    pub sends: Vec<Send>,
    /// Indexes into `sends`, sorted by value.
    sends_by_value: Vec<usize>,
    pub places: Vec<Place>,
    places_by_value: Vec<Place>,
    tally: Tally,
}

impl<'a> View<'a> {
    pub fn new(history: &'a History, expect: &Expect, report: &mut Report) -> View<'a> {
        let by_part = number_parts(history);
        let (mut sends, sends_by_value) = gather_sends(history, report);
        end_sends(history, &by_part, &mut sends, &sends_by_value, report);
        let places = gather_places(history, expect, &by_part, &sends);
        let mut places_by_value = places.clone();
        places_by_value.sort_unstable_by_key(|place| (place.value, *place));
        let parts = by_part.into_keys().collect();
        let tally = Tally::default();
        let mut view =
            View { history, parts, sends, sends_by_value, places, places_by_value, tally };
        view.tally = view.count();
        view
    }

    pub fn tally(&self) -> Tally {
        self.tally
    }

    pub fn parts(&self) -> impl Iterator<Item = Part> {
        0..Part::try_from(self.parts.len()).expect("numbered as Part")
    }

    pub fn part(&self, topic: Topic, partition: PartitionIndex) -> Part {
        let place = self.parts.binary_search(&(topic, partition));
        Part::try_from(place.expect("every partition of the history is numbered"))
            .expect("numbered as Part")
    }

    pub fn topic_of(&self, part: Part) -> Topic {
        self.parts[part as usize].0
    }

    /// `topic/partition`, for sentences.
    pub fn part_name(&self, part: Part) -> String {
        let (topic, partition) = self.parts[part as usize];
        format!("{}/{partition}", self.history.name(topic))
    }

    pub fn send_of(&self, value: Value) -> Option<&Send> {
        let found = self.sends_by_value.binary_search_by_key(&value, |at| self.sends[*at].value);
        found.ok().map(|at| &self.sends[self.sends_by_value[at]])
    }

    /// Where a value stood, sorted by partition and offset.
    pub fn places_of(&self, value: Value) -> &[Place] {
        let from = self.places_by_value.partition_point(|place| place.value < value);
        let rest = &self.places_by_value[from..];
        &rest[..rest.partition_point(|place| place.value == value)]
    }

    /// All values with their places, in the order of values.
    pub fn values(&self) -> impl Iterator<Item = &[Place]> {
        self.places_by_value.chunk_by(|one, other| one.value == other.value)
    }

    /// The places of one partition, sorted by offset.
    pub fn places_in(&self, part: Part) -> &[Place] {
        let from = self.places.partition_point(|place| place.part < part);
        let rest = &self.places[from..];
        &rest[..rest.partition_point(|place| place.part == part)]
    }

    /// The places of one partition with offsets in `from..to`.
    pub fn places_between(&self, part: Part, from: Offset, to: Offset) -> &[Place] {
        let all = self.places_in(part);
        let start = all.partition_point(|place| place.offset < from);
        let end = all.partition_point(|place| place.offset < to);
        &all[start..end.max(start)]
    }

    /// A reading of the largest offset that any reader saw in a partition.
    pub fn last_read(&self, part: Part) -> Option<&Place> {
        self.places_in(part).iter().rev().find(|place| place.read())
    }

    fn count(&self) -> Tally {
        let fates = |fate| self.sends.iter().filter(|send| send.fate == fate).count();
        let read = |finally: bool| {
            let seen = |place: &Place| match finally {
                true => place.source == Source::ReadFinally,
                false => place.read(),
            };
            self.values().filter(|places| places.iter().any(seen)).count()
        };
        let crash = |op: &Op| matches!(op, Op::Nemesis { fault: Fault::Crash, .. });
        Tally {
            sent: self.sends.len(),
            acknowledged: fates(Fate::Acknowledged),
            unknown: fates(Fate::Unknown),
            read: read(false),
            read_finally: read(true),
            crashes: self.history.events().iter().filter(|event| crash(&event.op)).count(),
        }
    }
}

fn number_parts(history: &History) -> BTreeMap<(Topic, PartitionIndex), Part> {
    let mut numbers = BTreeMap::new();
    for event in history.events() {
        match &event.op {
            Op::Send { topic, partition: Some(partition), .. }
            | Op::Seek { topic, partition, .. } => {
                numbers.insert((*topic, *partition), 0);
            }
            Op::Poll { records } => {
                let mut last = None;
                for record in records {
                    let part = (record.topic, record.partition);
                    if last.replace(part) != Some(part) {
                        numbers.insert(part, 0);
                    }
                }
            }
            Op::Assign { partitions } => {
                numbers.extend(partitions.iter().map(|part| (*part, 0)));
            }
            Op::Send { partition: None, .. } | Op::Nemesis { .. } | Op::Final => {}
        }
    }
    for (number, part) in numbers.values_mut().enumerate() {
        *part = Part::try_from(number).expect("fewer partitions than 2^32");
    }
    numbers
}

/// All invocations, in order, and their indexes sorted by value.
fn gather_sends(history: &History, report: &mut Report) -> (Vec<Send>, Vec<usize>) {
    let mut sends = Vec::new();
    for (at, event) in history.events().iter().enumerate() {
        let (Phase::Invoke, Op::Send { topic, value, .. }) = (event.phase, &event.op) else {
            continue;
        };
        sends.push(Send {
            value: *value,
            process: event.process,
            topic: *topic,
            part: None,
            fate: Fate::Unknown,
            offset: None,
            invoked: at,
            ended: at,
        });
    }
    let mut by_value: Vec<usize> = (0..sends.len()).collect();
    by_value.sort_by_key(|at| (sends[*at].value, *at));
    by_value.dedup_by(|later, first| {
        let (later, first) = (&sends[*later], &sends[*first]);
        let twice = later.value == first.value;
        if twice {
            report.add(Anomaly::Malformed, vec![first.invoked, later.invoked], || {
                format!("value {} was sent twice by the clients themselves", later.value)
            });
        }
        twice
    });
    (sends, by_value)
}

/// Gives every send the fate and place that its completion tells.
fn end_sends(
    history: &History,
    by_part: &BTreeMap<(Topic, PartitionIndex), Part>,
    sends: &mut [Send],
    by_value: &[usize],
    report: &mut Report,
) {
    for (at, event) in history.events().iter().enumerate() {
        let Op::Send { topic, partition, value, offset, .. } = &event.op else { continue };
        let part = partition.map(|partition| by_part[&(*topic, partition)]);
        let found = by_value.binary_search_by_key(value, |at| sends[*at].value);
        let Ok(found) = found else {
            report.add(Anomaly::Malformed, vec![at], || {
                format!("value {value} was answered, but nobody had sent it")
            });
            continue;
        };
        let send = &mut sends[by_value[found]];
        if event.phase == Phase::Invoke {
            if send.invoked == at {
                send.part = part;
            }
            continue;
        }
        if send.ended != send.invoked || send.invoked > at {
            report.add(Anomaly::Malformed, vec![send.invoked, send.ended, at], || {
                format!("value {value} was answered twice, or before it was sent")
            });
            continue;
        }
        if send.topic != *topic || (send.part.is_some() && part.is_some() && send.part != part) {
            report.add(Anomaly::Phantom, vec![send.invoked, at], || {
                format!("value {value} was acknowledged for another partition than it was sent to")
            });
        }
        send.ended = at;
        send.part = send.part.or(part);
        send.fate = match event.phase {
            Phase::Ok => Fate::Acknowledged,
            Phase::Fail => Fate::Failed,
            Phase::Invoke | Phase::Info => Fate::Unknown,
        };
        send.offset = offset.filter(|_| event.phase == Phase::Ok);
    }
}

fn gather_places(
    history: &History,
    expect: &Expect,
    by_part: &BTreeMap<(Topic, PartitionIndex), Part>,
    sends: &[Send],
) -> Vec<Place> {
    let final_from = final_from(history);
    let mut places = Vec::new();
    if expect.durable {
        for send in sends {
            let (Some(part), Some(offset)) = (send.part, send.offset) else { continue };
            let (value, event) = (send.value, send.ended);
            places.push(Place { part, offset, value, event, source: Source::Acknowledged });
        }
    }
    for (event, entry) in history.events().iter().enumerate() {
        let Op::Poll { records } = &entry.op else { continue };
        let source = if event >= final_from { Source::ReadFinally } else { Source::Read };
        if source == Source::Read && !expect.durable {
            continue;
        }
        let mut last = None;
        for record in records {
            let key = (record.topic, record.partition);
            let part = match last {
                Some((known, part)) if known == key => part,
                _ => by_part[&key],
            };
            last = Some((key, part));
            places.push(Place { part, offset: record.offset, value: record.value, event, source });
        }
    }
    places.sort_unstable();
    places
}

/// The first event of the final reading; the whole history if none is marked.
pub fn final_from(history: &History) -> usize {
    history.events().iter().position(|event| event.op == Op::Final).unwrap_or(0)
}
