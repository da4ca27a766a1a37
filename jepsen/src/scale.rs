//! A valid history of any size with something of everything, to see how long the judge takes.
//!
//! Of a hundred operations about 60 are sends, 25 polls of up to three records by consumers that
//! follow, and 15 look-ups, commits, changes and reads of metadata. It ends with a reading of
//! everything.

use trialog_engine::id::{Offset, PartitionIndex};

use crate::check::{Expect, Promise};
use crate::history::{
    Admin, BEGINNING, END, Event, Group, History, Leader, Membership, Op, Phase, Process, Record,
    Topic, Value,
};

const PARTITIONS: usize = 16;
const KEYS: usize = 5_000;
/// Records of one poll in the reading of everything.
const FINAL_POLL: usize = 500;

/// What the topics of [`mixed`] promise: the second one is compacted.
#[must_use]
pub fn promises() -> Expect {
    Expect::default().but("table", Promise::compacted())
}

/// A history of about `operations` operations, the last reading not counted.
#[must_use]
pub fn mixed(operations: usize) -> History {
    let mut history = History::new();
    let topics = [history.topic("events"), history.topic("table")];
    let passing = history.topic("passing");
    let group = history.group("readers");
    let logs = vec![Vec::new(); PARTITIONS];
    let (time_ns, read) = (0, vec![0; PARTITIONS]);
    let mut scene = Scene { history, topics, passing, group, logs, read, time_ns };
    for number in 0..operations {
        match number % 100 {
            0..60 => scene.send(number),
            60..85 => scene.poll(number / 100 % PARTITIONS),
            85..90 => scene.look(number % PARTITIONS),
            90..95 => scene.commit(number % PARTITIONS),
            _ => scene.metadata(number),
        }
    }
    scene.finish()
}

struct Scene {
    history: History,
    topics: [Topic; 2],
    passing: Topic,
    group: Group,
    logs: Vec<Vec<Value>>,
    /// What the consumer of each partition has read.
    read: Vec<usize>,
    time_ns: u64,
}

impl Scene {
    fn push(&mut self, process: u32, phase: Phase, op: Op) {
        self.time_ns += 1000;
        let (time_ns, process) = (self.time_ns, Process(process));
        self.history.push(Event { time_ns, process, phase, op });
    }

    fn call(&mut self, process: u32, ask: Op, answer: Op) {
        self.push(process, Phase::Invoke, ask);
        self.push(process, Phase::Ok, answer);
    }

    /// Even partitions are the first topic's, odd ones the second's.
    fn part(&self, at: usize) -> (Topic, PartitionIndex) {
        (self.topics[at % 2], PartitionIndex(i32::try_from(at / 2).expect("few")))
    }

    fn send(&mut self, number: usize) {
        let at = number % PARTITIONS;
        let (topic, partition) = self.part(at);
        let producer = u32::try_from(at).expect("few");
        let value = Value::new(producer, u32::try_from(number).expect("fewer than 2^32"));
        let offset = Offset(self.logs[at].len() as i64);
        self.logs[at].push(value);
        let mut ask = Op::send(topic, Some(partition), value);
        if let Op::Send { key, timestamp_ms, .. } = &mut ask {
            *key = (at % 2 == 1).then(|| (number / 7 % KEYS).to_string().into());
            *timestamp_ms = Some(number as i64);
        }
        self.call(producer, ask, Op::stored(topic, partition, value, Some(offset)));
    }

    fn records(&self, at: usize, from: usize, most: usize) -> Vec<Record> {
        let (topic, partition) = self.part(at);
        let log = self.logs[at].iter().enumerate().skip(from).take(most);
        let record = |(offset, value): (usize, &Value)| {
            let offset = Offset(offset as i64);
            Record { topic, partition, offset, value: *value }
        };
        log.map(record).collect()
    }

    fn poll(&mut self, at: usize) {
        let records = self.records(at, self.read[at], 3);
        self.read[at] += records.len();
        self.push(100 + u32::try_from(at).expect("few"), Phase::Ok, Op::Poll { records });
    }

    fn look(&mut self, at: usize) {
        let (topic, partition) = self.part(at);
        let end = self.logs[at].len() as i64;
        for (ask, answer) in [(BEGINNING.0, 0), (END.0, end)] {
            let op = |offset| Op::ListOffset { topic, partition, ask, offset };
            self.call(200, op(None), op(Some(Offset(answer))));
        }
    }

    fn commit(&mut self, at: usize) {
        let (topic, partition) = self.part(at);
        let (offset, group) = (Offset(self.read[at] as i64), self.group);
        let op = |membership| Op::Group(group, Box::new(membership));
        let commit =
            op(Membership::Commit { generation: None, offsets: vec![(topic, partition, offset)] });
        let ask = op(Membership::Committed { offsets: Vec::new() });
        let answer = op(Membership::Committed { offsets: vec![(topic, partition, Some(offset))] });
        self.call(201, commit.clone(), commit);
        self.call(201, ask, answer);
    }

    fn metadata(&mut self, number: usize) {
        let topic = self.passing;
        let admin = |admin| Op::Admin(Box::new(admin));
        let read = |topics, leaders| admin(Admin::Metadata { all: false, topics, leaders });
        if number % 100 != 95 {
            return self.call(301, read(vec![], vec![]), read(vec![(topic, None)], vec![]));
        }
        let create = admin(Admin::Create { topic, partitions: 1, configs: [].into() });
        self.call(300, create.clone(), create);
        let leader = Leader { topic, partition: PartitionIndex(0), node: 0, epoch: 1 };
        let seen = read(vec![(topic, Some(1))], vec![leader]);
        self.call(301, read(vec![], vec![]), seen);
        let delete = admin(Admin::Delete { topic });
        self.call(300, delete.clone(), delete);
    }

    fn finish(mut self) -> History {
        self.push(999, Phase::Info, Op::Final);
        for at in 0..PARTITIONS {
            let (topic, partition) = self.part(at);
            self.push(400, Phase::Ok, Op::Seek { topic, partition, offset: BEGINNING });
            for from in (0..self.logs[at].len()).step_by(FINAL_POLL) {
                let records = self.records(at, from, FINAL_POLL);
                self.push(400, Phase::Ok, Op::Poll { records });
            }
        }
        self.history
    }
}
