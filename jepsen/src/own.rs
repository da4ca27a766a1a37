//! Traffic of our own client, recorded as a history: the same orders, the same answers and the same
//! payloads as `workload/traffic.py`, in a process of its own.
//!
//! Owns one thread with the ring. What it cannot know for sure it records as unknown; its outcomes
//! are the client's, and the client is on trial as much as the broker.

mod member;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use trialog_engine::client::{
    Client, ConsumeError, ConsumedRecord, Consumer, ConsumerOptions, NewRecord, NewTopic, Options,
    Outcome, Producer, ProducerOptions, Receipt, Start,
};
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::io::kernel::{self, KernelIo};
use trialog_engine::io::{Io, Pool};
use trialog_engine::wire::batch::Compression;
use trialog_jepsen::history::{
    BEGINNING, Event, History, Op, Phase, Process, Record, Topic, Value,
};

use crate::chance::{Random, monotonic_ns};
use crate::stop::{Stop, broken};

/// Process numbers, as the script has them.
const CONSUMERS_FROM: u32 = 100;
const FINAL_READER: u32 = 200;
/// Unanswered records of one producer.
const IN_FLIGHT_MAX: usize = 400;
const READ_PATIENCE: Duration = Duration::from_secs(120);
/// How long the group may need for what is left once nobody writes any more.
const CATCH_UP: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(50);
const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Lz4,
    Compression::Zstd,
    Compression::Gzip,
    Compression::Snappy,
];

/// What to do, in the words of the script's command line.
#[derive(clap::Args)]
pub struct Order {
    #[arg(value_parser = ["write", "read"])]
    job: String,
    #[arg(long)]
    bootstrap: SocketAddr,
    #[arg(long)]
    history: PathBuf,
    /// `name:partitions`, with commas between
    #[arg(long)]
    topics: String,
    #[arg(long, default_value_t = 4)]
    producers: u32,
    #[arg(long, default_value_t = 2)]
    consumers: u32,
    #[arg(long, default_value_t = 0)]
    members: u32,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// A partition by name.
type Part = (Rc<str>, PartitionIndex);

/// What all tasks of the process share.
#[derive(Clone)]
struct Stage {
    io: KernelIo,
    client: Client<KernelIo>,
    topics: Rc<Vec<(Rc<str>, i32)>>,
    notes: Rc<RefCell<Notes>>,
    stopping: Rc<Cell<bool>>,
    /// Tasks that are still at it.
    busy: Rc<Cell<usize>>,
    /// Readers end too.
    is_over: Rc<Cell<bool>>,
}

#[derive(Default)]
struct Notes {
    history: History,
    acknowledged: u64,
    read: u64,
    /// Of each partition, one past the last acknowledged record,
    ends: BTreeMap<(String, PartitionIndex), Offset>,
    /// and one past the last that a member of the group has read.
    progress: BTreeMap<(String, PartitionIndex), Offset>,
    lost_position: Vec<String>,
    missing: Vec<String>,
    errors: BTreeMap<String, u64>,
}

/// Does what it is told; returns when it has said "done".
pub fn run(order: Order) -> Result<(), Stop> {
    let mut topics: Vec<(Rc<str>, i32)> = Vec::new();
    for pair in order.topics.split(',') {
        let parsed =
            pair.split_once(':').and_then(|(name, count)| Some((name, count.parse().ok()?)));
        let (name, count) = parsed.ok_or_else(|| Stop::Broken(format!("topics {pair:?}")))?;
        topics.push((name.into(), count));
    }
    let done = kernel::run(0, |io| async move {
        let options = Options {
            client_id: "jepsen-own".to_owned(),
            backoff_first: Duration::from_millis(20),
            backoff_max: Duration::from_millis(500),
            auto_create_topics: false,
            ..Options::default()
        };
        let client = Client::new(io.clone(), Pool::new(), vec![order.bootstrap], options);
        let stage = Stage {
            io,
            client,
            topics: Rc::new(topics),
            notes: Rc::default(),
            stopping: Rc::default(),
            busy: Rc::default(),
            is_over: Rc::default(),
        };
        match order.job.as_str() {
            "write" => write(&stage, &order).await,
            _ => read(&stage, &order).await,
        }
    });
    done.map_err(broken("turning on the ring"))?
}

async fn write(stage: &Stage, order: &Order) -> Result<(), Stop> {
    create_topics(stage).await?;
    for number in 0..order.producers {
        let (stage, random) = (stage.clone(), Random::new(order.seed * 1000 + u64::from(number)));
        stage.busy.set(stage.busy.get() + 1);
        stage.io.clone().spawn(async move { Writer::new(stage, number, random).run().await });
    }
    for number in 0..order.consumers {
        let process = CONSUMERS_FROM + number;
        let (stage, random) = (stage.clone(), Random::new(order.seed * 1000 + u64::from(process)));
        stage
            .io
            .clone()
            .spawn(async move { follow(stage, process, number % 2 == 1, random).await });
    }
    for number in 0..order.members {
        stage.io.spawn(member::run(stage.clone(), number, order.seed));
    }
    println!("ready");
    let orders = listen();
    let stop = loop {
        stage.io.sleep(TICK).await;
        println!("acknowledged {}", stage.notes.borrow().acknowledged);
        match orders.try_recv() {
            Ok(order) => break order.trim() == "stop",
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => break false,
        }
    };
    stage.stopping.set(true);
    while stop && stage.busy.get() > 0 {
        stage.io.sleep(TICK).await;
    }
    let begun = stage.io.now();
    let catches_up = stop && order.members > 0;
    while catches_up && !stage.behind().is_empty() && stage.io.now().since(begun) < CATCH_UP {
        stage.io.sleep(TICK).await;
    }
    let behind = if catches_up { stage.behind() } else { Vec::new() };
    stage.is_over.set(true);
    finish(stage, &order.history, behind)
}

/// Lines from stdin; a thread, because reading them blocks.
fn listen() -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line).is_ok() {
            // The other end is gone only when the process ends.
            let _ = sender.send(line);
        }
    });
    receiver
}

async fn create_topics(stage: &Stage) -> Result<(), Stop> {
    for (number, (name, partitions)) in stage.topics.iter().enumerate() {
        let mut topic = NewTopic::new(name, *partitions);
        if number == 0 {
            // The smallest segments that Kafka knows, so that logs roll during the trial.
            topic.configs.insert("segment.bytes".to_owned(), "1048576".to_owned());
        }
        let created = stage.client.admin().create_topic(&topic).await;
        created.map_err(broken(format!("creating {name}")))?;
    }
    Ok(())
}

/// Writes the history, and says what there is to say beyond it.
fn finish(stage: &Stage, path: &Path, behind: Vec<String>) -> Result<(), Stop> {
    let notes = stage.notes.borrow();
    let file = std::fs::File::create(path).map_err(broken(path.display()))?;
    let mut out = BufWriter::new(file);
    notes.history.write(&mut out).map_err(broken(path.display()))?;
    out.flush().map_err(broken(path.display()))?;
    let report = serde_json::json!({
        "acknowledged": notes.acknowledged,
        "read": notes.read,
        "lost_position": notes.lost_position,
        "missing": notes.missing,
        "behind": behind,
        "errors": notes.errors,
    });
    println!("done {report}");
    Ok(())
}

impl Stage {
    fn record(&self, process: u32, phase: Phase, op: Op) {
        let event = Event { time_ns: monotonic_ns(), process: Process(process), phase, op };
        self.notes.borrow_mut().history.push(event);
    }

    fn topic(&self, name: &str) -> Topic {
        self.notes.borrow_mut().history.topic(name)
    }

    fn acknowledged(&self, topic: &str, receipt: &Receipt) {
        let mut notes = self.notes.borrow_mut();
        notes.acknowledged += 1;
        if let Some(offset) = receipt.offset {
            raise_to(&mut notes.ends, (topic.to_owned(), receipt.partition), offset.plus(1));
        }
    }

    /// A member of the group has read up to there.
    fn progressed(&self, place: &(String, PartitionIndex), next: Offset) {
        raise_to(&mut self.notes.borrow_mut().progress, place.clone(), next);
    }

    /// Partitions that the group has not read to their acknowledged end.
    fn behind(&self) -> Vec<String> {
        let notes = self.notes.borrow();
        let at = |place| notes.progress.get(place).copied().unwrap_or(Offset(0));
        let behind = notes.ends.iter().filter(|(place, end)| at(place) < **end);
        behind.map(|(p, end)| format!("{}/{} at {} of {end}", p.0, p.1, at(p))).collect()
    }

    fn error(&self, what: String) {
        *self.notes.borrow_mut().errors.entry(what).or_default() += 1;
    }

    fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let of = |(name, count): &(Rc<str>, i32)| {
            let name = name.clone();
            (0..*count).map(move |index| (name.clone(), PartitionIndex(index)))
        };
        self.topics.iter().flat_map(of)
    }

    /// Reads from the given places on; recorded as leaving everything and then seeking.
    fn assign(&self, process: u32, consumer: &mut Consumer<KernelIo>, places: &[(Part, Offset)]) {
        let ids: Vec<_> =
            places.iter().map(|((name, index), _)| (self.topic(name), *index)).collect();
        self.record(process, Phase::Ok, Op::Assign { partitions: Vec::new() });
        self.record(process, Phase::Ok, Op::Assign { partitions: ids.clone() });
        for (((name, index), offset), (topic, partition)) in places.iter().zip(ids) {
            let offset = *offset;
            self.record(process, Phase::Ok, Op::Seek { topic, partition, offset });
            let start = if offset == BEGINNING { Start::Earliest } else { Start::Offset(offset) };
            consumer.assign(name, *index, start);
        }
    }

    fn polled(&self, process: u32, records: &[ConsumedRecord]) {
        let row = |record: &ConsumedRecord| Record {
            topic: self.topic(&record.topic),
            partition: record.partition,
            offset: record.offset,
            value: record.value.as_deref().map_or(Value::FOREIGN, value_of),
        };
        let records: Vec<Record> = records.iter().map(row).collect();
        self.notes.borrow_mut().read += records.len() as u64;
        self.record(process, Phase::Ok, Op::Poll { records });
    }
}

fn raise_to(
    marks: &mut BTreeMap<(String, PartitionIndex), Offset>,
    place: (String, PartitionIndex),
    next: Offset,
) {
    let mark = marks.entry(place).or_insert(next);
    *mark = next.max(*mark);
}

/// One producer.
struct Writer {
    stage: Stage,
    number: u32,
    random: Random,
    producer: Producer<KernelIo>,
    counter: u32,
    in_flight: Rc<Cell<usize>>,
}

impl Writer {
    fn new(stage: Stage, number: u32, mut random: Random) -> Writer {
        let producer = stage.client.producer(ProducerOptions {
            compression: CODECS[number as usize % CODECS.len()],
            linger: Duration::from_millis([0, 2, 10][random.below(3)]),
            delivery_timeout: Duration::from_secs(300),
            in_flight: 1 + random.below(5),
            ..ProducerOptions::default()
        });
        Writer { stage, number, random, producer, counter: 0, in_flight: Rc::default() }
    }

    async fn run(mut self) {
        while !self.stage.stopping.get() {
            if self.in_flight.get() >= IN_FLIGHT_MAX {
                self.stage.io.sleep(Duration::from_millis(20)).await;
                continue;
            }
            for _ in 0..=self.random.below(28) {
                self.send().await;
            }
            let pause_ms = self.random.below(100);
            self.stage.io.sleep(Duration::from_millis(pause_ms as u64)).await;
        }
        while self.in_flight.get() > 0 {
            self.producer.flush().await;
            self.stage.io.sleep(Duration::from_millis(5)).await;
        }
        self.stage.busy.set(self.stage.busy.get() - 1);
    }

    async fn send(&mut self) {
        let topics = self.stage.topics.clone();
        let (name, count) = &topics[self.random.below(topics.len())];
        let value = Value::new(self.number, self.counter);
        self.counter += 1;
        let index = self.random.below(usize::try_from(*count).unwrap_or(1));
        let explicit = self.random.one_in(2);
        let partition = explicit.then(|| PartitionIndex(i32::try_from(index).unwrap_or(0)));
        let keyed = !explicit && self.random.one_in(2);
        let key = keyed.then(|| format!("key-{}", self.random.below(20)));
        let topic = self.stage.topic(name);
        let mut asked = Op::send(topic, partition, value);
        if let Op::Send { key: shown, .. } = &mut asked {
            *shown = key.as_deref().map(Box::from);
        }
        self.stage.record(self.number, Phase::Invoke, asked);
        let payload = payload(value);
        let record = NewRecord {
            topic: name,
            partition,
            key: key.as_deref().map(str::as_bytes),
            value: Some(&payload),
            ..NewRecord::default()
        };
        let ticket = match self.producer.enqueue(record).await {
            Ok(ticket) => ticket,
            Err(failure) => {
                self.stage.error(failure.to_string());
                let never = Op::send(topic, partition, value);
                return self.stage.record(self.number, Phase::Fail, never);
            }
        };
        self.in_flight.set(self.in_flight.get() + 1);
        let (stage, number, in_flight) = (self.stage.clone(), self.number, self.in_flight.clone());
        let name = name.clone();
        self.stage.io.spawn(async move {
            let outcome = ticket.await;
            in_flight.set(in_flight.get() - 1);
            match outcome {
                Outcome::Stored(receipt) => {
                    stage.acknowledged(&name, &receipt);
                    let op = Op::stored(topic, receipt.partition, value, receipt.offset);
                    stage.record(number, Phase::Ok, op);
                }
                Outcome::Failed(failure) => {
                    stage.error(failure.to_string());
                    stage.record(number, Phase::Fail, Op::send(topic, partition, value));
                }
                Outcome::Unknown(failure) => {
                    stage.error(failure.to_string());
                    stage.record(number, Phase::Info, Op::send(topic, partition, value));
                }
            }
        });
    }
}

/// A consumer that follows the ends; one that wanders goes back now and then.
async fn follow(stage: Stage, process: u32, wanders: bool, mut random: Random) {
    let options = ConsumerOptions { wait_max: Duration::from_millis(100), ..Default::default() };
    let mut consumer = stage.client.consumer(options);
    let mut ends: BTreeMap<Part, i64> = stage.parts().map(|part| (part, 0)).collect();
    let beginning: Vec<_> = ends.keys().map(|part| (part.clone(), BEGINNING)).collect();
    stage.assign(process, &mut consumer, &beginning);
    let mut turn = monotonic_ns() + random.duration_ms(1000, 3000).as_nanos() as u64;
    while !stage.stopping.get() {
        match consumer.poll(Duration::from_millis(200)).await {
            Ok(records) if records.is_empty() => {}
            Ok(records) => {
                stage.polled(process, &records);
                for record in records {
                    ends.insert((record.topic, record.partition), record.offset.0 + 1);
                }
            }
            Err(error @ ConsumeError::OutOfRange { .. }) => {
                // What was read before is not there any more.
                stage.notes.borrow_mut().lost_position.push(format!("{process}: {error}"));
                return;
            }
            Err(error) => {
                stage.error(error.to_string());
                stage.io.sleep(TICK).await;
            }
        }
        if wanders && monotonic_ns() > turn {
            let mut back = |end: i64| Offset((end - 1 - random.below(300) as i64).max(0));
            let places: Vec<_> =
                ends.iter().map(|(part, end)| (part.clone(), back(*end))).collect();
            stage.assign(process, &mut consumer, &places);
            turn = monotonic_ns() + random.duration_ms(1000, 3000).as_nanos() as u64;
        }
    }
}

/// Reads every partition from its beginning to the end that it has now.
async fn read(stage: &Stage, order: &Order) -> Result<(), Stop> {
    let admin = stage.client.admin();
    let listed = admin.list_topics().await.map_err(broken("listing topics"))?;
    let known: BTreeMap<&str, usize> =
        listed.iter().map(|topic| (topic.name.as_str(), topic.partitions)).collect();
    let mut places = Vec::new();
    let mut open: BTreeSet<Part> = BTreeSet::new();
    let mut ends: BTreeMap<Part, Offset> = BTreeMap::new();
    for (name, index) in stage.parts() {
        let partitions = known.get(&*name).copied().unwrap_or(0);
        if usize::try_from(index.0).is_ok_and(|index| index < partitions) {
            let end = admin.list_offset(&name, index, Start::Latest).await;
            let end = end.map_err(broken(format!("the end of {name}/{index}")))?;
            ends.insert((name.clone(), index), end.map_or(Offset(0), |(offset, _)| offset));
            open.insert((name.clone(), index));
            places.push(((name, index), BEGINNING));
        } else {
            stage.notes.borrow_mut().missing.push(format!("{name}/{index}"));
        }
    }
    let mut consumer = stage.client.consumer(ConsumerOptions::default());
    stage.assign(FINAL_READER, &mut consumer, &places);
    let begun = stage.io.now();
    loop {
        open.retain(|part| {
            consumer.position(&part.0, part.1).is_none_or(|position| position < ends[part])
        });
        if open.is_empty() {
            if order.members > 0 {
                member::look(stage).await?;
            }
            return finish(stage, &order.history, Vec::new());
        }
        if stage.io.now().since(begun) > READ_PATIENCE {
            return Err(Stop::Broken(format!("no end of {open:?} within {READ_PATIENCE:?}")));
        }
        let polled = consumer.poll(Duration::from_millis(200)).await;
        let records = polled.map_err(broken("reading"))?;
        if !records.is_empty() {
            stage.polled(FINAL_READER, &records);
        }
    }
}

/// The one payload of a value, as the script makes it.
fn payload(value: Value) -> Vec<u8> {
    let mixed = (u128::from(value.0) * 0x9e37_79b9_7f4a_7c15) >> 20;
    let length = if mixed.is_multiple_of(10) { mixed % 30_000 } else { mixed % 600 };
    let length = usize::try_from(length).expect("less than 30,000");
    let first = value.0 % 251;
    let mut bytes = format!("{:016x}:", value.0).into_bytes();
    bytes.extend((0..length as u64).map(|place| ((first + place) % 251) as u8));
    bytes
}

/// The value that a payload carries, if a client of ours wrote exactly this.
fn value_of(bytes: &[u8]) -> Value {
    let digits = bytes.get(..16).and_then(|digits| std::str::from_utf8(digits).ok());
    let value = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).map(Value);
    value.filter(|value| payload(*value) == bytes).unwrap_or(Value::FOREIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_tells_its_value_and_any_change_of_it() {
        for number in (0..40).chain([1 << 32, (7 << 32) | 12_345]) {
            let mut bytes = payload(Value(number));
            assert_eq!(value_of(&bytes), Value(number));
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            assert_eq!(value_of(&bytes), Value::FOREIGN);
            bytes[last] ^= 1;
            bytes.push(0xff);
            assert_eq!(value_of(&bytes), Value::FOREIGN);
        }
        assert_eq!(value_of(b"short"), Value::FOREIGN);
    }
}
