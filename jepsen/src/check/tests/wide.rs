//! A correct broker beyond sends and polls, played from a seed: topics that come and go, settings,
//! trims, retention, compaction, look-ups of offsets and times, producers that begin a new epoch, and
//! a group that rebalances and commits. Calls take their time: each is asked, takes effect, and is answered at moments of its
//! own, and now and then the answer is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use trialog_engine::id::{Offset, PartitionIndex, ProducerEpoch, ProducerId};

use super::world::Random;
use crate::check::{Expect, Promise, Retention};
use crate::history::{
    Acks, Admin, BEGINNING, END, Event, Fault, Group, History, Identity, Leader, Membership, Op,
    Phase, Process, Record, Topic, Value,
};

/// Topics with records: flushed and trimmed; compacted; retained for nobody knows how long; in the
/// page cache only; retained for a time.
pub const KEPT: Topic = Topic(0);
pub const TABLE: Topic = Topic(1);
pub const AGING: Topic = Topic(2);
pub const CACHED: Topic = Topic(3);
pub const TIMED: Topic = Topic(4);
const RECORDED: [Topic; 5] = [KEPT, TABLE, AGING, CACHED, TIMED];
/// How long the last one keeps its records, and how long after its last one it is empty.
pub const AGE: Duration = Duration::from_nanos(150);
pub const EMPTY_AFTER: Duration = Duration::from_nanos(500);
/// Topics that come and go; they hold no records.
pub const PASSING: [Topic; 2] = [Topic(5), Topic(6)];
pub const GROUP: Group = Group(0);
pub const PART: PartitionIndex = PartitionIndex(0);
pub const NEMESIS: Process = Process(99);
pub const FINAL_READER: Process = Process(50);
const CALLERS: usize = 3;
const MEMBERS: usize = 3;
/// So many records, of all producers, before one of them begins a new epoch.
const EPOCH_EVERY: u32 = 7;

/// What the topics of [`run`] are called.
const NAMES: [&str; 7] = ["kept", "table", "aging", "cached", "timed", "passing-0", "passing-1"];

/// What the broker of [`run`] promises.
pub fn promises() -> Expect {
    let served = |expect: Expect, name: &&str| expect.served(name, 0);
    NAMES
        .iter()
        .fold(Expect::default(), served)
        .but("table", Promise::compacted())
        .but("aging", Promise::retained(Retention::Anytime))
        .but("cached", Promise::page_cache())
        .but("timed", timed())
}

fn timed() -> Promise {
    Promise { expired: Some(EMPTY_AFTER), ..Promise::retained(Retention::AtLeast(AGE)) }
}

#[derive(Clone)]
struct Entry {
    value: Value,
    key: Option<u32>,
    tombstone: bool,
    time_ms: i64,
    /// When it was asked for.
    sent_ns: u64,
    /// Compaction has taken it.
    gone: bool,
}

#[derive(Default)]
struct Log {
    entries: Vec<Entry>,
    start: usize,
    /// What a crash leaves of it.
    flushed: usize,
}

/// A call that is under way.
enum Flight {
    Asked(Op),
    Done(Op),
}

struct World {
    random: Random,
    history: History,
    logs: [Log; RECORDED.len()],
    counter: u32,
    /// Of the producer of each topic.
    epochs: [i16; RECORDED.len()],
    clock_ms: i64,
    topics: BTreeMap<Topic, (i32, BTreeMap<String, String>)>,
    epoch: i32,
    flights: BTreeMap<Process, Flight>,
    /// Where each consumer of each topic is.
    positions: BTreeMap<(Process, Topic), usize>,
    generation: i32,
    owner: Option<Process>,
    committed: Option<usize>,
}

/// One run, with a final reading of everything.
pub fn run(seed: u64) -> History {
    let mut history = History::new();
    for name in NAMES {
        history.topic(name);
    }
    history.group("g");
    let mut world = World {
        random: Random::new(seed),
        history,
        logs: Default::default(),
        counter: 0,
        epochs: [0; RECORDED.len()],
        clock_ms: 1_000,
        topics: BTreeMap::new(),
        epoch: 1,
        flights: BTreeMap::new(),
        positions: BTreeMap::new(),
        generation: 0,
        owner: None,
        committed: None,
    };
    for _ in 0..400 + world.random.below(200) {
        world.step();
    }
    world.read_everything();
    world.history
}

impl World {
    fn now(&self) -> u64 {
        self.history.events().len() as u64
    }

    fn push(&mut self, process: Process, phase: Phase, op: Op) {
        let time_ns = self.now();
        self.history.push(Event { time_ns, process, phase, op });
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..30 => self.send(),
            30..60 => self.call(),
            60..75 => self.consume(),
            75..80 => self.tidy(),
            80..84 => self.rebalance(),
            84..98 => self.member(),
            _ => self.crash(),
        }
    }

    /// One record, sent and answered at once; now and then the answer is lost.
    fn send(&mut self) {
        self.counter += 1;
        self.clock_ms += self.random.below(40) as i64 - 10;
        let topic = RECORDED[self.random.below(RECORDED.len())];
        let process = Process(topic.0);
        if self.counter.is_multiple_of(EPOCH_EVERY) {
            let epoch = &mut self.epochs[topic.0 as usize];
            *epoch += 1;
            let (id, epoch) = (ProducerId(i64::from(topic.0)), ProducerEpoch(*epoch));
            let identity = Some(Identity { id, epoch });
            let manner = Op::Producer { acks: Acks::All, idempotent: true, identity };
            self.push(process, Phase::Info, manner);
        }
        let key = (topic == TABLE).then(|| self.random.below(6) as u32);
        let tombstone = key.is_some() && self.random.one_in(4);
        let (value, time_ms) = (Value::new(topic.0, self.counter), self.clock_ms);
        let asked = Op::Send {
            topic,
            partition: Some(PART),
            key: key.map(|key| key.to_string().into()),
            value,
            tombstone,
            timestamp_ms: Some(time_ms),
            offset: None,
        };
        let sent_ns = self.now();
        self.push(process, Phase::Invoke, asked);
        let entry = Entry { value, key, tombstone, time_ms, sent_ns, gone: false };
        let log = &mut self.logs[topic.0 as usize];
        let offset = Offset(log.entries.len() as i64);
        if self.random.one_in(12) {
            if self.random.one_in(2) {
                log.entries.push(entry);
            }
            return self.push(process, Phase::Info, Op::send(topic, Some(PART), value));
        }
        log.entries.push(entry);
        if topic != CACHED {
            log.flushed = log.entries.len();
        }
        self.push(process, Phase::Ok, Op::stored(topic, PART, value, Some(offset)));
    }

    /// Moves one call on: asks, lets it take effect, or answers it.
    fn call(&mut self) {
        let process = Process(20 + self.random.below(CALLERS) as u32);
        match self.flights.remove(&process) {
            None => {
                let op = self.question();
                self.push(process, Phase::Invoke, op.clone());
                self.flights.insert(process, Flight::Asked(op));
            }
            Some(Flight::Asked(op)) => {
                if self.random.one_in(15) {
                    // Nobody hears of it again; it is carried out now or never.
                    if self.random.one_in(2) {
                        let _ = self.carry_out(&op);
                    }
                    return self.push(process, Phase::Info, op);
                }
                match self.carry_out(&op) {
                    Some(answer) => {
                        self.flights.insert(process, Flight::Done(answer));
                    }
                    None => self.push(process, Phase::Fail, op),
                }
            }
            Some(Flight::Done(answer)) => {
                let phase = if self.random.one_in(15) { Phase::Info } else { Phase::Ok };
                self.push(process, phase, answer);
            }
        }
    }

    fn question(&mut self) -> Op {
        let topic = PASSING[self.random.below(2)];
        let setting = |random: &mut Random| {
            let value = random.below(3).to_string();
            (["retention.ms", "segment.ms"][random.below(2)].to_owned(), value)
        };
        let admin = match self.random.below(12) {
            0 | 1 => {
                let set = self.random.one_in(2);
                let configs = set.then(|| setting(&mut self.random)).into_iter().collect();
                Admin::Create { topic, partitions: 1 + self.random.below(3) as i32, configs }
            }
            2 => Admin::Delete { topic },
            3 => Admin::Grow { topic, partitions: 2 + self.random.below(4) as i32 },
            4 => {
                let (key, value) = setting(&mut self.random);
                let value = (!self.random.one_in(3)).then_some(value);
                Admin::Configure { topic, configs: [(key, value)].into() }
            }
            5 | 6 => Admin::Describe { topic, configs: None },
            7 | 8 => Admin::Metadata { all: true, topics: Vec::new(), leaders: Vec::new() },
            _ => {
                let (topic, partition) = ([KEPT, AGING, TIMED][self.random.below(3)], PART);
                let log = &self.logs[topic.0 as usize];
                let (start, end) = (log.start, log.entries.len());
                if topic == KEPT && end > 0 && self.random.one_in(6) {
                    let below = (end / 2).min(start + 4);
                    return Op::Trim { topic, partition, offset: Offset(below as i64) };
                }
                let time = self.clock_ms - 100 + self.random.below(150) as i64;
                let ask = [BEGINNING.0, END.0, time][self.random.below(3)];
                return Op::ListOffset { topic, partition, ask, offset: None };
            }
        };
        Op::Admin(Box::new(admin))
    }

    /// The effect of a call, and its answer; none if it is refused.
    fn carry_out(&mut self, op: &Op) -> Option<Op> {
        match op {
            Op::Trim { topic, partition, offset } => {
                let log = &mut self.logs[topic.0 as usize];
                log.start = log.start.max(usize::try_from(offset.0).expect("not negative"));
                let offset = Offset(log.start as i64);
                Some(Op::Trim { topic: *topic, partition: *partition, offset })
            }
            Op::ListOffset { topic, partition, ask, .. } => {
                let log = &self.logs[topic.0 as usize];
                let offset = match *ask {
                    ask if ask == BEGINNING.0 => Some(log.start),
                    ask if ask == END.0 => Some(log.entries.len()),
                    ask => {
                        (log.start..log.entries.len()).find(|at| log.entries[*at].time_ms >= ask)
                    }
                };
                let offset = offset.map(|offset| Offset(offset as i64));
                let (topic, partition, ask) = (*topic, *partition, *ask);
                Some(Op::ListOffset { topic, partition, ask, offset })
            }
            Op::Admin(admin) => self.administer(admin).map(|admin| Op::Admin(Box::new(admin))),
            _ => None,
        }
    }

    fn administer(&mut self, admin: &Admin) -> Option<Admin> {
        match admin {
            Admin::Create { topic, partitions, configs } => {
                if self.topics.contains_key(topic) {
                    return None;
                }
                self.topics.insert(*topic, (*partitions, configs.clone()));
            }
            Admin::Delete { topic } => drop(self.topics.remove(topic)?),
            Admin::Grow { topic, partitions } => {
                let (count, _) = self.topics.get_mut(topic)?;
                if *partitions <= *count {
                    return None;
                }
                *count = *partitions;
            }
            Admin::Configure { topic, configs } => {
                let (_, set) = self.topics.get_mut(topic)?;
                for (key, value) in configs {
                    match value {
                        Some(value) => drop(set.insert(key.clone(), value.clone())),
                        None => drop(set.remove(key)),
                    }
                }
            }
            Admin::Describe { topic, .. } => {
                let shown = |(_, set): &(i32, BTreeMap<String, String>)| {
                    let key = |key: &str| (key.to_owned(), set.get(key).cloned());
                    [key("retention.ms"), key("segment.ms")].into()
                };
                let configs = self.topics.get(topic).map(shown);
                return Some(Admin::Describe { topic: *topic, configs });
            }
            Admin::Metadata { .. } => {
                let mut topics: Vec<(Topic, Option<i32>)> =
                    self.topics.iter().map(|(topic, (count, _))| (*topic, Some(*count))).collect();
                topics.extend(RECORDED.map(|topic| (topic, Some(1))));
                let (partition, node, epoch) = (PART, 0, self.epoch);
                let leaders = vec![Leader { topic: KEPT, partition, node, epoch }];
                return Some(Admin::Metadata { all: true, topics, leaders });
            }
        }
        Some(admin.clone())
    }

    /// A consumer reads on in one topic, or goes to its beginning first.
    fn consume(&mut self) {
        let process = Process(40 + self.random.below(2) as u32);
        let topic = RECORDED[self.random.below(RECORDED.len())];
        let start = self.logs[topic.0 as usize].start;
        let position = self.positions.get(&(process, topic)).copied();
        let position = match position.filter(|position| *position >= start) {
            Some(position) if !self.random.one_in(6) => position,
            _ => {
                let seek = Op::Seek { topic, partition: PART, offset: BEGINNING };
                self.push(process, Phase::Ok, seek);
                start
            }
        };
        let most = 1 + self.random.below(12);
        let next = self.read(process, topic, position, most);
        self.positions.insert((process, topic), next);
    }

    /// One poll from a position; returns the next one.
    fn read(&mut self, process: Process, topic: Topic, from: usize, most: usize) -> usize {
        let log = &self.logs[topic.0 as usize];
        let to = log.entries.len().min(from + most);
        let mut records = Vec::new();
        for (at, entry) in log.entries.iter().enumerate().take(to).skip(from) {
            if !entry.gone {
                let (offset, value) = (Offset(at as i64), entry.value);
                records.push(Record { topic, partition: PART, offset, value });
            }
        }
        self.push(process, Phase::Ok, Op::Poll { records });
        to.max(from)
    }

    /// Retention and compaction.
    fn tidy(&mut self) {
        let aging = &mut self.logs[AGING.0 as usize];
        aging.start = aging.entries.len().min(aging.start + self.random.below(4));
        let now = self.now();
        let timed = &mut self.logs[TIMED.0 as usize];
        let old = |entry: &Entry| now >= entry.sent_ns + AGE.as_nanos() as u64;
        timed.start += timed.entries[timed.start..].iter().take_while(|entry| old(entry)).count();
        for topic in [AGING, TIMED] {
            if self.random.one_in(2) {
                let offset = Offset(self.logs[topic.0 as usize].start as i64);
                self.push(NEMESIS, Phase::Info, Op::Start { topic, partition: PART, offset });
            }
        }
        let table = &mut self.logs[TABLE.0 as usize];
        // What is behind the clean point stays as it is: the active segment.
        let clean = table.entries.len() * 2 / 3;
        for at in 0..clean {
            let (key, tombstone) = (table.entries[at].key, table.entries[at].tombstone);
            let later = table.entries[at + 1..].iter().any(|later| later.key == key);
            let older = table.entries[..at].iter().any(|old| old.key == key && !old.gone);
            let gone = later || (tombstone && !older && self.random.one_in(2));
            table.entries[at].gone |= gone;
        }
    }

    fn crash(&mut self) {
        let cached = &mut self.logs[CACHED.0 as usize];
        let lost = self.random.below(3);
        let left = cached.flushed.max(cached.entries.len().saturating_sub(lost));
        cached.entries.truncate(left);
        cached.flushed = left;
        self.epoch += 1;
        for fault in [Fault::Crash, Fault::Restart] {
            self.push(NEMESIS, Phase::Info, Op::Nemesis { fault, node: 0 });
        }
    }

    fn rebalance(&mut self) {
        let new = Process(60 + self.random.below(MEMBERS) as u32);
        let partitions = vec![(KEPT, PART)];
        if let Some(old) = self.owner.take() {
            let (generation, partitions) = (self.generation, partitions.clone());
            self.belong(old, Phase::Ok, Membership::Revoked { generation, partitions });
        }
        self.generation += 1;
        self.owner = Some(new);
        let (member, generation) = (None, self.generation);
        self.belong(new, Phase::Ok, Membership::Assigned { member, generation, partitions });
        let start = self.logs[KEPT.0 as usize].start;
        let resumed = self.committed.map_or(start, |committed| committed.max(start));
        self.positions.insert((new, KEPT), resumed);
    }

    /// The owner reads and commits; or somebody asks what is committed.
    fn member(&mut self) {
        if self.random.one_in(4) {
            let outsider = Process(70);
            self.belong(outsider, Phase::Invoke, Membership::Committed { offsets: Vec::new() });
            let offset = self.committed.map(|offset| Offset(offset as i64));
            let offsets = vec![(KEPT, PART, offset)];
            return self.belong(outsider, Phase::Ok, Membership::Committed { offsets });
        }
        let Some(owner) = self.owner else { return };
        let start = self.logs[KEPT.0 as usize].start;
        let from = self.positions[&(owner, KEPT)].max(start);
        let next = self.read(owner, KEPT, from, 3);
        self.positions.insert((owner, KEPT), next);
        if !self.random.one_in(2) {
            return;
        }
        let (generation, offsets) =
            (Some(self.generation), vec![(KEPT, PART, Offset(next as i64))]);
        let commit = Membership::Commit { generation, offsets };
        self.belong(owner, Phase::Invoke, commit.clone());
        match self.random.below(8) {
            0 => self.belong(owner, Phase::Info, commit),
            1 => {
                self.committed = Some(next);
                self.belong(owner, Phase::Info, commit);
            }
            _ => {
                self.committed = Some(next);
                self.belong(owner, Phase::Ok, commit);
            }
        }
    }

    fn belong(&mut self, process: Process, phase: Phase, membership: Membership) {
        self.push(process, phase, Op::Group(GROUP, Box::new(membership)));
    }

    fn read_everything(&mut self) {
        // Whatever is due is done.
        self.tidy();
        self.push(NEMESIS, Phase::Info, Op::Final);
        for topic in RECORDED {
            let seek = Op::Seek { topic, partition: PART, offset: BEGINNING };
            self.push(FINAL_READER, Phase::Ok, seek);
            let (mut next, end) =
                (self.logs[topic.0 as usize].start, self.logs[topic.0 as usize].entries.len());
            while next < end {
                next = self.read(FINAL_READER, topic, next, 9);
            }
        }
    }
}
