//! A correct log with clients, crashes and lost answers, played from a seed: valid histories.

use std::collections::VecDeque;

use trialog_engine::id::{Offset, PartitionIndex};

use crate::history::{BEGINNING, Event, Fault, History, Op, Phase, Process, Record, Topic, Value};

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

const PRODUCERS: usize = 3;
const CONSUMERS: usize = 2;
const NEMESIS: Process = Process(99);
pub const FINAL_READER: Process = Process(50);

struct InFlight {
    value: Value,
    partition: usize,
    /// Set once the log has it.
    offset: Option<Offset>,
}

struct World {
    random: Random,
    history: History,
    partitions: Vec<(Topic, PartitionIndex)>,
    /// What each partition holds.
    logs: Vec<Vec<Value>>,
    in_flight: Vec<VecDeque<InFlight>>,
    counters: [u32; PRODUCERS],
    /// Per consumer: partition and next offset.
    positions: Vec<Vec<(usize, usize)>>,
}

/// One run, with a final reading of everything.
pub fn run(seed: u64) -> History {
    let mut history = History::new();
    let mut partitions = Vec::new();
    for (name, count) in [("orders", 2), ("events", 1)] {
        let topic = history.topic(name);
        partitions.extend((0..count).map(|index| (topic, PartitionIndex(index))));
    }
    let mut world = World {
        random: Random::new(seed),
        history,
        logs: vec![Vec::new(); partitions.len()],
        partitions,
        in_flight: (0..PRODUCERS).map(|_| VecDeque::new()).collect(),
        counters: [0; PRODUCERS],
        positions: vec![Vec::new(); CONSUMERS],
    };
    for _ in 0..150 + world.random.below(150) {
        world.step();
    }
    for producer in 0..PRODUCERS {
        while !world.in_flight[producer].is_empty() {
            world.append(producer);
            world.answer(producer);
        }
    }
    world.read_everything();
    world.history
}

impl World {
    fn push(&mut self, process: Process, phase: Phase, op: Op) {
        let time_ns = self.history.events().len() as u64;
        self.history.push(Event { time_ns, process, phase, op });
    }

    fn step(&mut self) {
        let producer = self.random.below(PRODUCERS);
        let consumer = self.random.below(CONSUMERS);
        match self.random.below(100) {
            0..30 => self.send(producer),
            30..55 => self.append(producer),
            55..75 => self.answer(producer),
            75..80 => self.assign(consumer),
            80..98 => self.poll(consumer),
            _ => {
                let fault = |fault| Op::Nemesis { fault, node: 0 };
                self.push(NEMESIS, Phase::Info, fault(Fault::Crash));
                self.push(NEMESIS, Phase::Info, fault(Fault::Restart));
            }
        }
    }

    fn send(&mut self, producer: usize) {
        self.counters[producer] += 1;
        let value = Value::new(producer as u32, self.counters[producer]);
        let partition = self.random.below(self.partitions.len());
        let (topic, index) = self.partitions[partition];
        let keyed = self.random.one_in(3);
        let op = Op::Send {
            topic,
            partition: (!keyed).then_some(index),
            key: keyed.then(|| "key".into()),
            value,
            tombstone: false,
            timestamp_ms: None,
            offset: None,
        };
        self.push(Process(producer as u32), Phase::Invoke, op);
        if self.random.one_in(20) {
            self.end(producer, InFlight { value, partition, offset: None }, Phase::Fail);
        } else {
            self.in_flight[producer].push_back(InFlight { value, partition, offset: None });
        }
    }

    /// The log takes the producer's oldest send that it does not have.
    fn append(&mut self, producer: usize) {
        let Some(send) = self.in_flight[producer].iter_mut().find(|send| send.offset.is_none())
        else {
            return;
        };
        let log = &mut self.logs[send.partition];
        send.offset = Some(Offset(log.len() as i64));
        log.push(send.value);
    }

    /// The producer's oldest send ends: acknowledged if the log has it, given up, or forgotten.
    fn answer(&mut self, producer: usize) {
        let Some(send) = self.in_flight[producer].pop_front() else { return };
        match self.random.below(12) {
            0 => self.end(producer, send, Phase::Info),
            1 => {}
            _ if send.offset.is_some() => self.end(producer, send, Phase::Ok),
            _ => self.in_flight[producer].push_front(send),
        }
    }

    fn end(&mut self, producer: usize, send: InFlight, phase: Phase) {
        let (topic, partition) = self.partitions[send.partition];
        let offset = send.offset.filter(|_| phase == Phase::Ok);
        let op = Op::stored(topic, partition, send.value, offset);
        self.push(Process(producer as u32), phase, op);
    }

    fn assign(&mut self, consumer: usize) {
        let mut kept = Vec::new();
        for partition in 0..self.partitions.len() {
            let old = self.positions[consumer].iter().find(|(known, _)| *known == partition);
            if self.random.one_in(2) {
                let from = self.random.below(self.logs[partition].len() + 1);
                kept.push(old.copied().unwrap_or((partition, from)));
            }
        }
        self.positions[consumer] = kept;
        let partitions = self.assigned(consumer);
        let process = Process(10 + consumer as u32);
        self.push(process, Phase::Ok, Op::Assign { partitions });
        if let Some((partition, next)) = self.positions[consumer].first_mut()
            && self.random.one_in(2)
        {
            *next = self.random.below(self.logs[*partition].len() + 1);
            let (topic, index) = self.partitions[*partition];
            let offset = Offset(*next as i64);
            self.push(process, Phase::Ok, Op::Seek { topic, partition: index, offset });
        }
    }

    fn assigned(&self, consumer: usize) -> Vec<(Topic, PartitionIndex)> {
        self.positions[consumer].iter().map(|(at, _)| self.partitions[*at]).collect()
    }

    fn poll(&mut self, consumer: usize) {
        let mut records = Vec::new();
        for (partition, next) in &mut self.positions[consumer] {
            let (topic, index) = self.partitions[*partition];
            for _ in 0..self.random.below(8) {
                let Some(value) = self.logs[*partition].get(*next).copied() else { break };
                let offset = Offset(*next as i64);
                records.push(Record { topic, partition: index, offset, value });
                *next += 1;
            }
        }
        self.push(Process(10 + consumer as u32), Phase::Ok, Op::Poll { records });
    }

    fn read_everything(&mut self) {
        self.push(NEMESIS, Phase::Info, Op::Final);
        let partitions = self.partitions.clone();
        self.push(FINAL_READER, Phase::Ok, Op::Assign { partitions: partitions.clone() });
        for (at, (topic, partition)) in partitions.into_iter().enumerate() {
            let seek = Op::Seek { topic, partition, offset: BEGINNING };
            self.push(FINAL_READER, Phase::Ok, seek);
            let log = self.logs[at].clone();
            for (chunk, values) in log.chunks(7).enumerate() {
                let record = |(place, value): (usize, &Value)| {
                    let offset = Offset((chunk * 7 + place) as i64);
                    Record { topic, partition, offset, value: *value }
                };
                let records = values.iter().enumerate().map(record).collect();
                self.push(FINAL_READER, Phase::Ok, Op::Poll { records });
            }
        }
    }
}
