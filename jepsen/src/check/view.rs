//! A history prepared for the checkers: every send with its fate, every place where a value stood.
//!
//! Built once, in O(n log n), as sorted arrays (no hashing, so that two runs agree in everything).
//! Keeps: `places` sorted by partition, offset, value, event. Reports what makes a history malformed,
//! and then leaves that out. A topic that was deleted and made again is several logs under one name,
//! and nobody can tell which one a record was in: its records are left out too.

use std::collections::{BTreeMap, BTreeSet};

use trialog_engine::id::{Offset, PartitionIndex};

use super::expect::{Expect, Promise};
use super::{Anomaly, Report, Tally};
use crate::history::{
    Acks, Admin, Fault, History, Identity, Membership, Op, Phase, Process, Topic, Value,
};

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
pub struct Send<'a> {
    pub value: Value,
    pub process: Process,
    pub topic: Topic,
    /// Where it was sent, as asked or as acknowledged.
    pub part: Option<Part>,
    pub key: Option<&'a str>,
    pub tombstone: bool,
    pub timestamp_ms: Option<i64>,
    pub fate: Fate,
    /// Its acknowledgement, if there is one, means that it survives.
    pub durable: bool,
    /// It is stored once at most, in the order of its producer.
    pub idempotent: bool,
    /// As whom it was sent, if that is told.
    pub identity: Option<Identity>,
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
    event: u32,
    pub source: Source,
}

impl Place {
    pub fn read(&self) -> bool {
        self.source != Source::Acknowledged
    }

    /// The event that says so.
    pub fn event(&self) -> usize {
        self.event as usize
    }
}

/// What became of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Whole,
    /// Somebody tried to delete it.
    Deleted,
    /// And somebody to make it again.
    Again,
}

/// See the head of the file.
pub struct View<'a> {
    pub history: &'a History,
    parts: Vec<(Topic, PartitionIndex)>,
    /// By part.
    promises: Vec<Promise>,
    /// By topic.
    lives: Vec<Life>,
    /// By topic.
    nodes: Vec<Option<u32>>,
    /// In the order in which they were asked.
    pub sends: Vec<Send<'a>>,
    /// Indexes into `sends`.
    sends_by_value: Vec<(Value, u32)>,
    pub places: Vec<Place>,
    /// Indexes into `places`.
    places_by_value: Vec<(Value, u32)>,
    final_from: usize,
    tally: Tally,
}

impl<'a> View<'a> {
    pub fn new(history: &'a History, expect: &Expect, report: &mut Report) -> View<'a> {
        let lives = lives(history);
        let by_part = number_parts(history);
        let promise = |(topic, _): &(Topic, PartitionIndex)| *expect.of(history.name(*topic));
        let mut view = View {
            history,
            promises: by_part.keys().map(promise).collect(),
            lives,
            nodes: history
                .topics()
                .map(|topic| expect.nodes.get(history.name(topic)).copied())
                .collect(),
            sends: Vec::new(),
            sends_by_value: Vec::new(),
            places: Vec::new(),
            places_by_value: Vec::new(),
            final_from: final_from(history),
            tally: Tally::default(),
            parts: by_part.into_keys().collect(),
        };
        view.gather_sends(expect, report);
        view.end_sends(report);
        view.gather_places();
        view.tally = view.count();
        view
    }

    pub fn tally(&self) -> Tally {
        self.tally
    }

    pub fn parts(&self) -> impl Iterator<Item = Part> + use<> {
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

    pub fn promise(&self, part: Part) -> &Promise {
        &self.promises[part as usize]
    }

    /// Whether what is in a partition can be expected to stay there: nobody deleted its topic.
    pub fn stays(&self, part: Part) -> bool {
        self.lives[self.topic_of(part).0 as usize] == Life::Whole
    }

    /// The node that serves a topic, if that is known and no other one does.
    pub fn node_of(&self, topic: Topic) -> Option<u32> {
        self.nodes[topic.0 as usize]
    }

    /// Whether the name stands for one log: nobody deleted it and made it again.
    pub fn single(&self, topic: Topic) -> bool {
        self.lives[topic.0 as usize] != Life::Again
    }

    /// `topic/partition`, for sentences.
    pub fn part_name(&self, part: Part) -> String {
        let (topic, partition) = self.parts[part as usize];
        format!("{}/{partition}", self.history.name(topic))
    }

    pub fn send_of(&self, value: Value) -> Option<&Send<'a>> {
        let found = self.sends_by_value.binary_search_by_key(&value, |(value, _)| *value);
        found.ok().map(|at| &self.sends[self.sends_by_value[at].1 as usize])
    }

    /// Where a value stood, sorted by partition and offset.
    pub fn places_of(&self, value: Value) -> impl Iterator<Item = &Place> {
        let from = self.places_by_value.partition_point(|(known, _)| *known < value);
        let rest = self.places_by_value[from..].iter();
        rest.take_while(move |(known, _)| *known == value).map(|(_, at)| &self.places[*at as usize])
    }

    /// All values with their places, in the order of values, each value's sorted as `places` is.
    pub fn values(&self) -> impl Iterator<Item = impl Iterator<Item = &Place> + Clone> {
        let groups = self.places_by_value.chunk_by(|one, other| one.0 == other.0);
        groups.map(|group| group.iter().map(|(_, at)| &self.places[*at as usize]))
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

    /// For each partition, a reading of the largest offset that any reader saw.
    pub fn last_reads(&self) -> Vec<Option<&Place>> {
        let last = |part| self.places_in(part).iter().rev().find(|place| place.read());
        self.parts().map(last).collect()
    }

    /// The first event of the final reading; 0 if none is marked: then everything is.
    pub fn final_from(&self) -> usize {
        self.final_from
    }

    /// The time of an event.
    pub fn time_ns(&self, event: usize) -> u64 {
        self.history.events()[event].time_ns
    }

    fn count(&self) -> Tally {
        let fates = |fate| self.sends.iter().filter(|send| send.fate == fate).count();
        let mut tally = Tally {
            sent: self.sends.len(),
            acknowledged: fates(Fate::Acknowledged),
            unknown: fates(Fate::Unknown),
            ..Tally::default()
        };
        for places in self.values() {
            tally.read += usize::from(places.clone().any(Place::read));
            let finally = places.clone().any(|place| place.source == Source::ReadFinally);
            tally.read_finally += usize::from(finally);
        }
        for event in self.history.events() {
            let crash = matches!(event.op, Op::Nemesis { fault: Fault::Crash, .. });
            tally.crashes += usize::from(crash);
        }
        tally
    }

    /// All invocations, in order, and by value.
    fn gather_sends(&mut self, expect: &Expect, report: &mut Report) {
        let mut manners: BTreeMap<Process, (Acks, bool, Option<Identity>)> = BTreeMap::new();
        let strictest = (Acks::All, true, None);
        for (at, event) in self.history.events().iter().enumerate() {
            if let Op::Producer { acks, idempotent, identity } = event.op {
                manners.insert(event.process, (acks, idempotent, identity));
            }
            let Op::Send { topic, value, key, tombstone, timestamp_ms, .. } = &event.op else {
                continue;
            };
            if event.phase != Phase::Invoke {
                continue;
            }
            let manner = manners.get(&event.process).copied();
            let (acks, idempotent, identity) = manner.unwrap_or(strictest);
            let promise = expect.of(self.history.name(*topic));
            self.sends.push(Send {
                value: *value,
                process: event.process,
                topic: *topic,
                part: None,
                key: key.as_deref(),
                tombstone: *tombstone,
                timestamp_ms: *timestamp_ms,
                fate: Fate::Unknown,
                durable: acks > Acks::None
                    && promise.durable.is_some_and(|weakest| acks >= weakest),
                idempotent: promise.idempotent && idempotent,
                identity,
                offset: None,
                invoked: at,
                ended: at,
            });
        }
        let numbered = (0_u32..).zip(&self.sends);
        self.sends_by_value = numbered.map(|(at, send)| (send.value, at)).collect();
        self.sends_by_value.sort_unstable();
        let sends = &self.sends;
        self.sends_by_value.dedup_by(|later, first| {
            let twice = later.0 == first.0;
            if twice {
                let witness =
                    vec![sends[first.1 as usize].invoked, sends[later.1 as usize].invoked];
                report.add(Anomaly::Malformed, witness, || {
                    format!("value {} was sent twice by the clients themselves", later.0)
                });
            }
            twice
        });
    }

    /// Gives every send the fate and place that its completion tells.
    fn end_sends(&mut self, report: &mut Report) {
        let history = self.history;
        for (at, event) in history.events().iter().enumerate() {
            let Op::Send { topic, partition, value, offset, .. } = &event.op else { continue };
            let part = partition.map(|partition| self.part(*topic, partition));
            let found = self.sends_by_value.binary_search_by_key(value, |(value, _)| *value);
            let Ok(found) = found else {
                report.add(Anomaly::Malformed, vec![at], || {
                    format!("value {value} was answered, but nobody had sent it")
                });
                continue;
            };
            let send = &mut self.sends[self.sends_by_value[found].1 as usize];
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
            if send.topic != *topic || (send.part.is_some() && part.is_some() && send.part != part)
            {
                report.add(Anomaly::Phantom, vec![send.invoked, at], || {
                    format!(
                        "value {value} was acknowledged for another partition than it was sent to"
                    )
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

    fn gather_places(&mut self) {
        let mut places = Vec::new();
        for send in &self.sends {
            let (Some(part), Some(offset)) = (send.part, send.offset) else { continue };
            if send.durable && self.single(send.topic) {
                let (value, event) = (send.value, index(send.ended));
                places.push(Place { part, offset, value, event, source: Source::Acknowledged });
            }
        }
        for (at, entry) in self.history.events().iter().enumerate() {
            let Op::Poll { records } = &entry.op else { continue };
            let last = at >= self.final_from;
            let source = if last { Source::ReadFinally } else { Source::Read };
            for run in records
                .chunk_by(|one, other| (one.topic, one.partition) == (other.topic, other.partition))
            {
                let part = self.part(run[0].topic, run[0].partition);
                let evidence = last || self.promise(part).durable.is_some();
                if !evidence || !self.single(run[0].topic) {
                    continue;
                }
                places.extend(run.iter().map(|record| Place {
                    part,
                    offset: record.offset,
                    value: record.value,
                    event: index(at),
                    source,
                }));
            }
        }
        places.sort_unstable();
        self.places_by_value =
            (0_u32..).zip(&places).map(|(at, place)| (place.value, at)).collect();
        self.places_by_value.sort_unstable();
        self.places = places;
    }
}

fn index(event: usize) -> u32 {
    u32::try_from(event).expect("fewer events than 2^32")
}

/// The first event of the final reading; the whole history if none is marked.
fn final_from(history: &History) -> usize {
    history.events().iter().position(|event| event.op == Op::Final).unwrap_or(0)
}

/// By topic; a creation that was asked for before a deletion and has no certain answer by then may be
/// carried out after it.
fn lives(history: &History) -> Vec<Life> {
    let mut lives = vec![Life::Whole; history.topics().count()];
    let mut asked: BTreeMap<Process, Topic> = BTreeMap::new();
    let mut loose: BTreeSet<Topic> = BTreeSet::new();
    for event in history.events() {
        let Op::Admin(admin) = &event.op else { continue };
        match (&**admin, event.phase) {
            (Admin::Delete { topic }, Phase::Invoke) => {
                let life = &mut lives[topic.0 as usize];
                let again = loose.contains(topic) || asked.values().any(|other| other == topic);
                *life = if *life == Life::Again || again { Life::Again } else { Life::Deleted };
            }
            (Admin::Create { topic, .. }, Phase::Invoke) => {
                // Whoever asks again had no answer.
                loose.extend(asked.insert(event.process, *topic));
                if lives[topic.0 as usize] == Life::Deleted {
                    lives[topic.0 as usize] = Life::Again;
                }
            }
            (Admin::Create { .. }, Phase::Info) => loose.extend(asked.remove(&event.process)),
            (Admin::Create { .. }, Phase::Ok | Phase::Fail) => drop(asked.remove(&event.process)),
            _ => {}
        }
    }
    lives
}

fn number_parts(history: &History) -> BTreeMap<(Topic, PartitionIndex), Part> {
    let mut numbers = BTreeMap::new();
    let mut last = None;
    let mut number = |topic: Topic, partition: PartitionIndex| {
        if last.replace((topic, partition)) != Some((topic, partition)) {
            numbers.insert((topic, partition), 0);
        }
    };
    for event in history.events() {
        match &event.op {
            Op::Send { topic, partition: Some(partition), .. }
            | Op::Seek { topic, partition, .. }
            | Op::Trim { topic, partition, .. }
            | Op::ListOffset { topic, partition, .. }
            | Op::Start { topic, partition, .. } => number(*topic, *partition),
            Op::Poll { records } => {
                records.iter().for_each(|record| number(record.topic, record.partition));
            }
            Op::Assign { partitions } => {
                partitions.iter().for_each(|(topic, partition)| number(*topic, *partition));
            }
            Op::Admin(admin) => {
                if let Admin::Metadata { leaders, .. } = &**admin {
                    leaders.iter().for_each(|leader| number(leader.topic, leader.partition));
                }
            }
            Op::Group(_, membership) => match &**membership {
                Membership::Assigned { partitions, .. }
                | Membership::Revoked { partitions, .. }
                | Membership::Forget { partitions } => {
                    partitions.iter().for_each(|(topic, partition)| number(*topic, *partition));
                }
                Membership::Commit { offsets, .. } => {
                    offsets.iter().for_each(|(topic, partition, _)| number(*topic, *partition));
                }
                Membership::Committed { offsets } => {
                    offsets.iter().for_each(|(topic, partition, _)| number(*topic, *partition));
                }
                Membership::Subscribe { .. } => {}
            },
            Op::Send { partition: None, .. }
            | Op::Producer { .. }
            | Op::Note(_)
            | Op::Nemesis { .. }
            | Op::Final => {}
        }
    }
    for (number, part) in numbers.values_mut().enumerate() {
        *part = Part::try_from(number).expect("fewer partitions than 2^32");
    }
    numbers
}
