//! One broker, several producers and consumers, and everything that can befall them.
//!
//! Act one: producers write values to one topic and consumers read and rewind, each on a machine
//! of its own, while the nemesis crashes the broker at least twice and does what else the plan
//! says. Act two: everything heals; the producers must get their share acknowledged and a last
//! reader must read each partition to its end, both within a bound. Then the judge reads the
//! history: every acknowledged record is there once, in order, offsets dense, and nobody ever saw
//! anything else.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trialog_engine::broker;
use trialog_engine::client::{
    Client, ConsumeError, Consumer, ConsumerOptions, NewRecord, NewTopic, Options, Outcome,
    ProducerOptions, Start, Ticket,
};
use trialog_engine::config;
use trialog_engine::id::{CoreId, Offset, PartitionIndex};
use trialog_engine::io::{Io, Pool};
use trialog_engine::wire::batch::Compression;
use trialog_jepsen::check::{Expect, Report, Tally};
use trialog_jepsen::history::{BEGINNING, History, Op, Phase, Record, Topic, Value};

use super::{Cut, Facts, Failed, Failure, Passed, Recorder, Run, Size, Step, Watch};
use crate::cluster::{Cluster, Frame, simulate};
use crate::io::SimIo;
use crate::machine::Machine;
use crate::nemesis::{Counts, Nemesis};
use crate::plan::{Plan, Scope};
use crate::seed::{Seed, Stream};
use crate::sweep::crashes;
use crate::tape::Tape;
use crate::trace::Watcher;

const PORT: u16 = 9092;
const TOPIC: &str = "trial";
/// How long the healed system may take to get the producers' work done, in simulated time.
const LIVENESS: Duration = Duration::from_secs(90);
/// How long the last reader may take.
const CATCH_UP: Duration = Duration::from_secs(60);

/// What a seed draws for its workload.
#[derive(Clone, Debug)]
struct Shape {
    cores: u16,
    partitions: i32,
    producers: usize,
    consumers: usize,
    /// Records to get acknowledged, all producers together.
    goal: u64,
    chaos: Duration,
    /// Records that a producer hands over together at most.
    burst: u64,
    /// The longest pause between bursts.
    pause: Duration,
    value_bytes: usize,
    producer: ProducerOptions,
    request_timeout: Duration,
    topic: BTreeMap<String, String>,
    disk_bytes: u64,
}

impl Shape {
    fn draw(size: Size, random: &mut Stream) -> Shape {
        let mut topic = BTreeMap::new();
        let mut set = |key: &str, value: String| topic.insert(key.to_owned(), value);
        set("retention.ms", "-1".to_owned());
        // Clocks jump here; what a record's timestamp says is not what is on trial.
        set("message.timestamp.after.max.ms", i64::MAX.to_string());
        set("message.timestamp.before.max.ms", i64::MAX.to_string());
        if random.chance(1, 2) {
            set("segment.ms", random.within(200..4000).to_string());
        }
        if random.chance(1, 4) {
            set("message.timestamp.type", "LogAppendTime".to_owned());
        }
        if random.chance(1, 4) {
            set("index.interval.bytes", random.pick(&[1, 500]).to_string());
        }
        let compressions = [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ];
        Shape {
            cores: random.pick(&[1, 2, 3]),
            partitions: random.within(1..5) as i32,
            producers: random.within(2..4) as usize,
            consumers: 2,
            goal: match size {
                Size::Small => random.within(220..320),
                Size::Full => random.within(1050..1400),
            },
            chaos: match size {
                Size::Small => random.duration(Duration::from_secs(6)..Duration::from_secs(12)),
                Size::Full => random.duration(Duration::from_secs(60)..Duration::from_secs(70)),
            },
            burst: random.within(1..12),
            pause: Duration::from_millis(random.pick(&[20, 100, 300])),
            value_bytes: random.pick(&[8, 8, 100, 2000]),
            producer: ProducerOptions {
                compression: random.pick(&compressions),
                batch_bytes: random.pick(&[200, 4000, 64 * 1024]),
                linger: Duration::from_millis(random.pick(&[0, 1, 20])),
                delivery_timeout: Duration::from_secs(random.pick(&[2, 15, 60])),
                in_flight: random.pick(&[1, 5, 5]),
                ..ProducerOptions::default()
            },
            request_timeout: Duration::from_millis(random.pick(&[500, 1500, 5000])),
            topic,
            disk_bytes: 64 << 20,
        }
    }
}

/// What all programs of a run share with the frame around them.
#[derive(Clone)]
struct Stage {
    seed: Seed,
    shape: Arc<Shape>,
    recorder: Recorder,
    topic: Topic,
    cut: Arc<Cut>,
    kept: Kept,
    /// Records that were acknowledged, or left out.
    done: Arc<AtomicU64>,
    /// What a client saw that no history shows.
    complaints: Arc<Mutex<Vec<String>>>,
}

/// The disk under the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerDisk {
    /// Fails, but keeps its word.
    Honest,
    /// Says that it has flushed, and has not. A trial on it must fail, or it does not bite.
    Lying,
}

/// Carries a run out.
///
/// # Errors
/// What went wrong, with the command that repeats it.
pub fn run(run: &Run) -> Result<Passed, Failure> {
    run_on(BrokerDisk::Honest, run)
}

/// Carries a run out on a certain kind of disk.
///
/// # Errors
/// What went wrong; the command repeats it only on an honest disk.
pub fn run_on(disk: BrokerDisk, run: &Run) -> Result<Passed, Failure> {
    let seed = Seed(run.seed);
    let shape = Arc::new(Shape::draw(run.size, &mut seed.stream("shape", 0)));
    let plan = plan(seed, run.size, &shape);
    let kept = Kept { history: Arc::default(), steps: Arc::default() };
    kept.steps().resize(shape.producers + shape.consumers + 1, 0);
    let mut facts = Box::new(Facts {
        run: run.clone(),
        plan: plan.clone(),
        steps: Vec::new(),
        tally: Tally::default(),
        counts: Counts::default(),
        digest: None,
        simulated: Duration::ZERO,
        history: None,
        tape: Vec::new(),
    });
    let tape = Tape::new();
    let watcher = match run.watch {
        Watch::Quiet => Watcher::Nobody,
        Watch::Loud => Watcher::Print,
        Watch::Tape => Watcher::Tape(tape.clone()),
    };
    let frame = Frame { watcher, ..Frame::new(run.seed) };
    let play = {
        let (run, kept) = (run.clone(), kept.clone());
        move |cluster| play(cluster, run, disk, shape, plan, kept)
    };
    let verdict = match simulate(frame, play) {
        Ok(outcome) => {
            facts.digest = Some(outcome.digest);
            facts.simulated = outcome.simulated;
            facts.counts = outcome.value.counts;
            facts.tally = outcome.value.tally;
            outcome.value.verdict
        }
        Err(text) => Err(Wrong { how: Failed::Panic, found_by: vec!["panic".to_owned()], text }),
    };
    facts.steps.clone_from(&kept.steps());
    if run.watch == Watch::Tape {
        let mut history = kept.history.lock().unwrap_or_else(PoisonError::into_inner);
        facts.history = Some(std::mem::take(&mut history));
        facts.tape = tape.take();
    }
    match verdict.and_then(|()| thick_enough(&facts)) {
        Ok(()) => Ok(Passed { facts }),
        Err(Wrong { how, found_by, text }) => Err(Failure { how, found_by, text, facts }),
    }
}

/// Whether a run of which nothing was left out proved enough.
fn thick_enough(facts: &Facts) -> Result<(), Wrong> {
    let Facts { run, tally, simulated, .. } = facts;
    let (size, crashes) = (run.size, crashes(&facts.counts));
    let enough = tally.acknowledged >= size.acknowledged_min()
        && crashes >= size.crashes_min() as u64
        && *simulated >= size.simulated_min();
    if enough || !run.cut.is_empty() {
        return Ok(());
    }
    let (acknowledged, seconds) = (tally.acknowledged, simulated.as_secs_f64());
    let text = format!("only {acknowledged} records, {crashes} crashes and {seconds:.1} s");
    Err(Wrong { how: Failed::Thin, found_by: vec!["thin".to_owned()], text })
}

/// The fault plan of a seed.
fn plan(seed: Seed, size: Size, shape: &Shape) -> Plan {
    let clients = (1..=shape.producers + shape.consumers).collect();
    let crashes_min = size.crashes_min();
    let scope = Scope { brokers: vec![0], clients, chaos: shape.chaos, crashes_min };
    Plan::draw(&mut seed.stream("plan", 0), &scope)
}

/// What outlives the simulated world, even if it ends in a panic.
#[derive(Clone)]
struct Kept {
    history: Arc<Mutex<History>>,
    steps: Arc<Mutex<Vec<u32>>>,
}

/// What a run in its world came to.
struct Played {
    verdict: Result<(), Wrong>,
    counts: Counts,
    tally: Tally,
}

/// What went wrong.
struct Wrong {
    how: Failed,
    found_by: Vec<String>,
    text: String,
}

impl Wrong {
    fn stuck(what: &str, text: String) -> Wrong {
        Wrong { how: Failed::Liveness, found_by: vec![what.to_owned()], text }
    }
}

async fn play(
    cluster: Cluster,
    run: Run,
    broker_disk: BrokerDisk,
    shape: Arc<Shape>,
    plan: Plan,
    kept: Kept,
) -> Played {
    let world = cluster.world().clone();
    world.say(&format!("{shape:#?}\n{plan}"));
    let recorder = Recorder::new(world, kept.history.clone());
    let stage = Stage {
        seed: Seed(run.seed),
        topic: recorder.topic(TOPIC),
        recorder,
        done: Arc::default(),
        complaints: Arc::default(),
        shape: Arc::clone(&shape),
        cut: Arc::new(run.cut.clone()),
        kept,
    };
    let disk = shape.disk_bytes;
    let host = cluster.add("broker", disk, with(&stage, serve));
    cluster.world().machine(host, |machine| {
        machine.disk.faults.flushes_lie = broker_disk == BrokerDisk::Lying;
    });
    let producers: Vec<usize> = (0..shape.producers)
        .map(|number| cluster.add(&format!("producer {number}"), disk, with(&stage, produce)))
        .collect();
    for number in 0..shape.consumers {
        let name = format!("consumer {number}");
        cluster.add(&name, disk, with(&stage, |io, stage| consume(io, stage, Reading::Rewinding)));
    }
    let nemesis = Nemesis::new(cluster.clone(), vec![host]);
    stage.recorder.watch(&nemesis, vec![host]);
    let faults = plan.faults.iter().enumerate();
    let faults = faults.filter(|(index, _)| !run.cut.faults.contains(index));
    let plan = Plan { faults: faults.map(|(_, fault)| fault.clone()).collect() };
    let stuck = act(&cluster, &stage, &nemesis, &plan, &producers).await;
    let report = stage.recorder.judge(&Expect::default());
    let verdict = match stuck {
        Err(stuck) => Err(stuck),
        Ok(()) => verdict(&stage, &report),
    };
    Played { verdict, counts: nemesis.counts(), tally: report.tally }
}

/// The two acts.
async fn act(
    cluster: &Cluster,
    stage: &Stage,
    nemesis: &Nemesis,
    plan: &Plan,
    producers: &[usize],
) -> Result<(), Wrong> {
    let begun = cluster.world().now();
    nemesis.run(plan).await;
    let over = begun + crate::seed::nanos(stage.shape.chaos);
    cluster.pass(Duration::from_nanos(over.saturating_sub(cluster.world().now()))).await;
    nemesis.heal().await;
    if !within(cluster, LIVENESS, || producers.iter().all(|&m| cluster.has_exited(m))).await {
        let text = format!(
            "{} of {} records were acknowledged {} s after everything healed\n{}",
            stage.done.load(Ordering::Relaxed),
            stage.shape.goal,
            LIVENESS.as_secs(),
            stage.complaints()
        );
        return Err(Wrong::stuck("stuck-producer", text));
    }
    stage.recorder.finale();
    let last = with(stage, |io, stage| consume(io, stage, Reading::ToTheEnd));
    let last = cluster.add("last reader", stage.shape.disk_bytes, last);
    if !within(cluster, CATCH_UP, || cluster.has_exited(last)).await {
        let text = format!("the last reader is stuck\n{}", stage.complaints());
        return Err(Wrong::stuck("stuck-reader", text));
    }
    Ok(())
}

/// Whether the history and the complaints are what they must be.
fn verdict(stage: &Stage, report: &Report) -> Result<(), Wrong> {
    let mut found_by: Vec<String> =
        report.anomalies().map(|(anomaly, _)| anomaly.to_string()).collect();
    let mut text = String::new();
    if !found_by.is_empty() {
        text = report.to_string();
    }
    let complaints = stage.complaints();
    if !complaints.is_empty() {
        found_by.push("complaint".to_owned());
        text.push_str(&complaints);
    }
    if found_by.is_empty() {
        return Ok(());
    }
    Err(Wrong { how: Failed::Safety, found_by, text })
}

/// A program that is given the stage.
fn with<F: Future<Output = ()> + 'static>(
    stage: &Stage,
    program: impl Fn(SimIo, Stage) -> F + Send + Sync + 'static,
) -> impl Fn(SimIo) -> F + Send + Sync + 'static {
    let stage = stage.clone();
    move |io| program(io, stage.clone())
}

/// Waits until `done`, at most for `limit`.
async fn within(cluster: &Cluster, limit: Duration, done: impl Fn() -> bool) -> bool {
    let step = Duration::from_millis(100);
    for _ in 0..limit.as_millis() / step.as_millis() {
        if done() {
            return true;
        }
        cluster.pass(step).await;
    }
    done()
}

impl Stage {
    /// How many records the producers that are not left out have to get acknowledged.
    fn goal(&self) -> u64 {
        let here = (0..self.shape.producers).filter(|client| !self.cut.clients.contains(client));
        self.shape.goal * here.count() as u64 / self.shape.producers as u64
    }

    fn complain(&self, text: String) {
        self.recorder.world().say(&text);
        self.complaints.lock().expect("nobody panics with it").push(text);
    }

    fn complaints(&self) -> String {
        self.complaints.lock().expect("nobody panics with it").join("\n")
    }

    fn client(&self, io: &SimIo) -> Client<SimIo> {
        let options = Options {
            client_id: format!("client {}", Recorder::client(io)),
            request_timeout: self.shape.request_timeout,
            patience: Duration::from_secs(20),
            auto_create_topics: false,
            ..Options::default()
        };
        let broker = SocketAddr::new(Machine::address(0), PORT);
        Client::new(io.clone(), Pool::new(), vec![broker], options)
    }

    /// The next step of the client that runs on this machine: what it draws from, whatever the
    /// rest of the world does, and whether it is left out.
    fn step(&self, io: &SimIo) -> (Stream, bool) {
        let client = client_number(io);
        let number = {
            let mut steps = self.kept.steps();
            steps[client] += 1;
            steps[client] - 1
        };
        let random = self.seed.stream("step", (client as u64) << 32 | u64::from(number));
        (random, self.cut.steps.contains(&Step { client, number }))
    }

    /// Whether the client that runs on this machine is left out.
    fn left_out(&self, io: &SimIo) -> bool {
        self.cut.clients.contains(&client_number(io))
    }

    fn partitions(&self) -> impl Iterator<Item = PartitionIndex> + use<> {
        (0..self.shape.partitions).map(PartitionIndex)
    }
}

impl Kept {
    fn steps(&self) -> MutexGuard<'_, Vec<u32>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clients are on the machines behind the broker's.
fn client_number(io: &SimIo) -> usize {
    io.process().machine - 1
}

/// The broker's program.
async fn serve(io: SimIo, stage: Stage) {
    let options = broker::Options {
        config: config::Broker::default(),
        data: PathBuf::from("/data"),
        listen: SocketAddr::new([0, 0, 0, 0].into(), PORT),
        cores: stage.shape.cores,
    };
    let shared = broker::Shared::new(options);
    for core in (1..stage.shape.cores).map(CoreId) {
        let (own, shared) = (io.on_core(core), Arc::clone(&shared));
        io.spawn(async move {
            // Core 0 reports why the broker did not start.
            let _ = broker::run(own, core, shared).await;
        });
    }
    if let Err(error) = broker::run(io.clone(), CoreId(0), shared).await {
        io.world().say(&format!("the broker did not start: {error}"));
    }
}

/// Makes the topic; whoever comes first does.
async fn prepare(io: &SimIo, stage: &Stage, client: &Client<SimIo>) {
    let admin = client.admin();
    let mut topic = NewTopic::new(TOPIC, stage.shape.partitions);
    topic.configs.clone_from(&stage.shape.topic);
    loop {
        let _ = admin.create_topic(&topic).await;
        // Known or refused as existing: what counts is that it is there.
        if let Ok(topics) = admin.list_topics().await
            && topics.iter().any(|topic| topic.name == TOPIC)
        {
            return;
        }
        io.sleep(Duration::from_millis(100)).await;
    }
}

/// A producer's program: bursts of records until all producers together have their share.
async fn produce(io: SimIo, stage: Stage) {
    if stage.left_out(&io) {
        return;
    }
    let shape = Arc::clone(&stage.shape);
    let client = stage.client(&io);
    prepare(&io, &stage, &client).await;
    let producer = client.producer(shape.producer.clone());
    let pending = Rc::new(Cell::new(0_u64));
    let mut counter = 0;
    while stage.done.load(Ordering::Relaxed) < stage.goal() {
        let (mut random, left_out) = stage.step(&io);
        let burst = random.within(1..shape.burst + 1);
        if left_out {
            stage.done.fetch_add(burst, Ordering::Relaxed);
        }
        for _ in 0..if left_out { 0 } else { burst } {
            let partition = PartitionIndex(random.below(shape.partitions as u64) as i32);
            let value = Value::new(Recorder::client(&io), counter);
            counter += 1;
            let mut bytes = value.0.to_be_bytes().to_vec();
            bytes.resize(shape.value_bytes, counter as u8);
            let send = Sending { topic: stage.topic, partition, value };
            stage.recorder.record(&io, Phase::Invoke, send.op(None));
            let record = NewRecord {
                topic: TOPIC,
                partition: Some(partition),
                value: Some(&bytes),
                ..NewRecord::default()
            };
            match producer.enqueue(record).await {
                Ok(ticket) => {
                    pending.set(pending.get() + 1);
                    io.spawn(settle(io.clone(), stage.clone(), send, ticket, pending.clone()));
                }
                Err(_) => stage.recorder.record(&io, Phase::Fail, send.op(None)),
            }
        }
        let most = crate::seed::nanos(shape.pause);
        io.sleep(Duration::from_nanos(random.below(most))).await;
        while pending.get() > 40 {
            io.sleep(Duration::from_millis(10)).await;
        }
    }
    producer.flush().await;
    while pending.get() > 0 {
        io.sleep(Duration::from_millis(10)).await;
    }
}

#[derive(Clone, Copy)]
struct Sending {
    topic: Topic,
    partition: PartitionIndex,
    value: Value,
}

impl Sending {
    fn op(self, offset: Option<Offset>) -> Op {
        let Sending { topic, partition, value } = self;
        Op::stored(topic, partition, value, offset)
    }
}

/// Records what became of a record.
async fn settle(io: SimIo, stage: Stage, send: Sending, ticket: Ticket, pending: Rc<Cell<u64>>) {
    match ticket.await {
        Outcome::Stored(receipt) => {
            stage.recorder.record(&io, Phase::Ok, send.op(receipt.offset));
            stage.done.fetch_add(1, Ordering::Relaxed);
        }
        Outcome::Failed(reason) => {
            io.world().say(&format!("{} failed: {reason}", send.value));
            stage.recorder.record(&io, Phase::Fail, send.op(None));
        }
        Outcome::Unknown(reason) => {
            io.world().say(&format!("{} unknown: {reason}", send.value));
            stage.recorder.record(&io, Phase::Info, send.op(None));
        }
    }
    pending.set(pending.get() - 1);
}

/// How a consumer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// From the beginning for ever, going back now and then.
    Rewinding,
    /// From the beginning to the end of each partition.
    ToTheEnd,
}

/// A consumer's program.
async fn consume(io: SimIo, stage: Stage, reading: Reading) {
    if stage.left_out(&io) {
        return;
    }
    let (mut random, _) = stage.step(&io);
    let client = stage.client(&io);
    let mut options = ConsumerOptions {
        wait_max: Duration::from_millis(random.pick(&[0, 50, 500])),
        bytes_min: random.pick(&[1, 1, 2000]),
        partition_bytes_max: random.pick(&[300, 20_000, 1 << 20]),
        ..ConsumerOptions::default()
    };
    if reading == Reading::ToTheEnd {
        // More than one answer may hold: each would wait to the end of its patience, by right.
        options.bytes_min = 1;
    }
    let mut consumer = client.consumer(options);
    let partitions = stage.partitions().map(|partition| (stage.topic, partition)).collect();
    stage.recorder.record(&io, Phase::Ok, Op::Assign { partitions });
    for partition in stage.partitions() {
        begin(&io, &stage, &mut consumer, partition);
    }
    loop {
        let (mut random, left_out) = stage.step(&io);
        if left_out {
            io.sleep(Duration::from_millis(300)).await;
            continue;
        }
        match consumer.poll(Duration::from_millis(300)).await {
            Ok(records) => hear(&io, &stage, &records),
            Err(error) => {
                // The broker may be without its topic or its disk; nothing else is its right.
                if !matches!(error, ConsumeError::Refused { .. } | ConsumeError::Call(_)) {
                    stage.complain(format!("{reading:?} consumer: {error}"));
                }
                io.sleep(Duration::from_millis(50)).await;
            }
        }
        match reading {
            Reading::ToTheEnd => {
                if at_the_end(&client, &consumer, &stage).await {
                    return;
                }
            }
            Reading::Rewinding => {
                if random.chance(1, 12) {
                    let number = random.below(stage.shape.partitions as u64) as i32;
                    begin(&io, &stage, &mut consumer, PartitionIndex(number));
                }
                io.sleep(Duration::from_millis(random.below(60))).await;
            }
        }
    }
}

/// Goes to the beginning of a partition.
fn begin(io: &SimIo, stage: &Stage, consumer: &mut Consumer<SimIo>, partition: PartitionIndex) {
    let op = Op::Seek { topic: stage.topic, partition, offset: BEGINNING };
    stage.recorder.record(io, Phase::Ok, op);
    consumer.assign(TOPIC, partition, Start::Earliest);
}

/// Records what a poll brought.
fn hear(io: &SimIo, stage: &Stage, records: &[trialog_engine::client::ConsumedRecord]) {
    if records.is_empty() {
        return;
    }
    let record = |got: &trialog_engine::client::ConsumedRecord| {
        let bytes = got.value.as_deref().unwrap_or_default();
        let whole = bytes.len() == stage.shape.value_bytes;
        let value = bytes.first_chunk().filter(|_| whole).map(|head| u64::from_be_bytes(*head));
        Record {
            topic: stage.topic,
            partition: got.partition,
            offset: got.offset,
            value: value.map_or(Value::FOREIGN, Value),
        }
    };
    let records = records.iter().map(record).collect();
    stage.recorder.record(io, Phase::Ok, Op::Poll { records });
}

/// Whether the consumer has read every partition to its end.
async fn at_the_end(client: &Client<SimIo>, consumer: &Consumer<SimIo>, stage: &Stage) -> bool {
    for partition in stage.partitions() {
        let end = client.admin().list_offset(TOPIC, partition, Start::Latest).await;
        let Ok(Some((end, _))) = end else { return false };
        if consumer.position(TOPIC, partition) != Some(end) {
            return false;
        }
    }
    true
}
