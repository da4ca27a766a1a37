//! The stage: what the programs of a run share with each other and with the frame around them.
//!
//! A [`Stage`] is the run; an [`Actor`] is one incarnation of one client on it. What outlives the
//! simulated world (its history, the steps taken) is in [`Kept`], so that it is there even when a
//! run ends in a panic.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trialog_engine::broker::Shared;
use trialog_engine::client::{Client, Observer, Options};
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::io::{Instant, Io, Pool};
use trialog_engine::wire::api::ApiKey;
use trialog_jepsen::history::{History, Membership, Op, Phase, Process, Topic, Value};

use super::host::DATA;
use super::seen::Answer;
use super::shape::{ClientShape, GroupShape, LIMITED_TOPICS, Nature, Shape, TopicShape};
use super::workload::{Ledgers, REBORN};
use super::{Cut, Recorder, Step};
use crate::invariant::after::{EpochEnd, Proven};
use crate::invariant::{self, Keeps, Sighting, Watch};
use crate::io::SimIo;
use crate::machine::Machine;
use crate::seed::{Seed, Stream};
use crate::world;

/// Where brokers listen.
pub const PORT: u16 = 9092;
/// Where they listen as well: half of the clients come in here.
pub const INSIDE_PORT: u16 = 9094;
/// Where they answer operators.
pub const ADMIN_PORT: u16 = 9644;

/// The lower bits of a voice's number in the history are those of its simulated process.
const VOICE_BITS: u32 = 16;

/// What outlives the simulated world.
#[derive(Clone, Default)]
pub struct Kept {
    /// What happened, for the judge.
    pub history: Arc<Mutex<History>>,
    steps: Arc<Mutex<Vec<u32>>>,
    answers: Arc<Mutex<BTreeMap<Answer, u64>>>,
    /// What must hold inside of the brokers.
    watch: Arc<Mutex<Watch>>,
    /// What clients were told of epochs that were over, by the places of topics.
    ends: Arc<Mutex<EpochEnds>>,
    /// What clients saw that no history shows.
    complaints: Arc<Mutex<Vec<Sighting>>>,
}

/// The run. Clones share it.
#[derive(Clone)]
pub struct Stage {
    seed: Seed,
    /// What was drawn.
    pub shape: Arc<Shape>,
    /// Writes the history.
    pub recorder: Recorder,
    /// The numbers of the topics in the history, by their places in the shape.
    topics: Arc<Vec<Topic>>,
    cut: Arc<Cut>,
    kept: Kept,
    /// Records that were acknowledged, or left out.
    done: Arc<AtomicU64>,
    /// Clients finish what they are at, and leave.
    curtain: Arc<AtomicBool>,
    /// What the files of clients must hold.
    pub ledgers: Ledgers,
    /// The running brokers.
    brokers: Arc<Mutex<BTreeMap<usize, Running>>>,
    /// The run is over: brokers' machines only show what is on their disks.
    examined: Arc<AtomicBool>,
}

/// What was told of the ends of epochs, by partition.
type EpochEnds = BTreeMap<(usize, PartitionIndex), BTreeSet<EpochEnd>>;

/// What a group has committed.
type Places = BTreeMap<(String, PartitionIndex), Offset>;

/// A broker that runs, or ran last: its process, and the broker.
type Running = (world::Process, Arc<Shared<SimIo>>);

/// What becomes of what is in a topic, if it is flushed before it is acknowledged and never deleted.
fn keeps(topic: &TopicShape) -> Option<Keeps> {
    match topic.nature {
        Nature::Lasting => Some(Keeps::Everything),
        Nature::Trimmed | Nature::Shortened => Some(Keeps::TheRest),
        Nature::Compacted => Some(Keeps::TheLatest),
        Nature::Cached | Nature::Fleeting => None,
    }
}

/// The simulated process that a process of the history speaks for.
#[must_use]
pub fn speaker(process: Process) -> u64 {
    u64::from(process.0 & ((1 << VOICE_BITS) - 1))
}

/// One incarnation of a client.
#[derive(Clone)]
pub struct Actor {
    /// Its machine's first core.
    pub io: SimIo,
    /// The run.
    pub stage: Stage,
    number: usize,
    voices: Rc<Cell<u32>>,
}

/// One producer or consumer of a client. In the history it is a process of its own, since nothing
/// is promised about the order between what two of them do.
#[derive(Clone)]
pub struct Voice {
    /// Whose it is.
    pub actor: Actor,
    process: Process,
}

impl Kept {
    /// Makes room for the steps of so many clients.
    pub fn expect_clients(&self, count: usize) {
        self.lock().resize(count, 0);
    }

    /// How many steps each client took.
    #[must_use]
    pub fn steps(&self) -> Vec<u32> {
        self.lock().clone()
    }

    /// What clients were answered, and how often.
    #[must_use]
    pub fn answers(&self) -> BTreeMap<Answer, u64> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All that no history shows and is wrong, in the order in which it was seen.
    #[must_use]
    pub fn sightings(&self) -> Vec<Sighting> {
        let mut sightings = self.watch().violations().to_vec();
        sightings.extend(self.complaints());
        sightings.sort_by_key(|sighting| sighting.at);
        sightings
    }

    /// Those of them that clients complained of.
    #[must_use]
    pub fn complaints(&self) -> Vec<Sighting> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        // A panic may have come while it looked; what it had seen by then is whole.
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody who counts answers.
    fn observer(&self) -> Observer {
        let answers = Arc::clone(&self.answers);
        Observer::new(move |api, version, code| {
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            *answers.entry(Answer { api, version, code }).or_default() += 1;
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u32>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage {
    /// The stage of a run in its world.
    #[must_use]
    pub fn new(seed: Seed, shape: Arc<Shape>, recorder: Recorder, cut: Cut, kept: Kept) -> Stage {
        let topics = shape.topics.iter().map(|topic| recorder.topic(&topic.name)).collect();
        let lasting = shape.topics.iter();
        let lasting = lasting.filter_map(|topic| Some((topic.name.clone(), keeps(topic)?)));
        *kept.watch() = Watch::new(lasting, shape.kept_bytes());
        Stage {
            seed,
            shape,
            recorder,
            topics: Arc::new(topics),
            cut: Arc::new(cut),
            kept,
            done: Arc::default(),
            curtain: Arc::default(),
            ledgers: Ledgers::default(),
            brokers: Arc::default(),
            examined: Arc::default(),
        }
    }

    /// A stream that belongs to `concern`.
    #[must_use]
    pub fn stream(&self, concern: &str, index: u64) -> Stream {
        self.seed.stream(concern, index)
    }

    /// The first act is over.
    pub fn draw_curtain(&self) {
        self.curtain.store(true, Ordering::Relaxed);
    }

    /// Whether the first act is over.
    #[must_use]
    pub fn curtain(&self) -> bool {
        self.curtain.load(Ordering::Relaxed)
    }

    /// How many records were acknowledged or left out, and how many are to be: those of clients
    /// that are left out do not count.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        let writers = self.shape.clients.iter().map(|client| client.is_heard());
        let writers: Vec<usize> =
            writers.enumerate().filter(|(_, heard)| *heard).map(|(number, _)| number).collect();
        let here = writers.iter().filter(|number| !self.cut.clients.contains(number)).count();
        let goal = self.shape.goal * here as u64 / writers.len() as u64;
        (self.done.load(Ordering::Relaxed), goal)
    }

    /// So many more records were acknowledged or left out.
    pub fn advance(&self, records: u64) {
        self.done.fetch_add(records, Ordering::Relaxed);
    }

    /// Says that something is wrong that no history shows.
    pub fn complain(&self, text: String) {
        self.accuse("complaint", text);
    }

    /// The same, for what has a name of its own.
    pub fn accuse(&self, found_by: &'static str, text: String) {
        let world = self.recorder.world();
        world.say(&text);
        let sighting = Sighting { at: world.now(), machine: None, found_by, text };
        self.kept.complaints.lock().expect("nobody panics with it").push(sighting);
    }

    /// All that was complained about.
    #[must_use]
    pub fn complaints(&self) -> Vec<Sighting> {
        self.kept.complaints()
    }

    /// The number of a topic in the history.
    #[must_use]
    pub fn topic(&self, index: usize) -> Topic {
        self.topics[index]
    }

    /// The place of a topic in the shape.
    #[must_use]
    pub fn topic_named(&self, name: &str) -> usize {
        let at = self.shape.topics.iter().position(|topic| topic.name == name);
        at.expect("only topics of the shape are read")
    }

    /// A broker has begun.
    pub fn broker_runs(&self, broker: usize, io: &SimIo, shared: Arc<Shared<SimIo>>) {
        let running = (io.process(), shared);
        self.brokers.lock().expect("nobody panics with it").insert(broker, running);
    }

    /// Keeps in mind what `op` proves, which is told to a client.
    pub fn prove(&self, phase: Phase, op: &Op) {
        let mut watch = self.kept.watch();
        let place = |topic| self.topics.iter().position(|&known| known == topic);
        let mut proven = |topic, partition, offset| {
            if let Some(at) = place(topic) {
                watch.proven(&self.shape.topics[at].name, partition, offset);
            }
        };
        match op {
            Op::Send { topic, partition: Some(partition), offset: Some(offset), .. }
                if phase == Phase::Ok =>
            {
                proven(*topic, *partition, *offset);
            }
            Op::Poll { records } => records
                .iter()
                .for_each(|record| proven(record.topic, record.partition, record.offset)),
            _ => {}
        }
    }

    /// A client was told where an epoch ends that was over before it asked.
    pub fn told_end(&self, at: usize, partition: PartitionIndex, told: EpochEnd) {
        let mut ends = self.kept.ends.lock().expect("nobody panics with it");
        ends.entry((at, partition)).or_default().insert(told);
    }

    /// Looks whether everything holds that must hold inside of the brokers: whenever a client is
    /// told something, and once a second, since all clients may hang.
    pub fn look(&self) {
        let moved = crate::timing::judging(|| {
            let mut watch = self.kept.watch();
            let world = self.recorder.world();
            for (process, shared) in self.brokers.lock().expect("nobody panics with it").values() {
                if world.is_alive(*process) {
                    let hurt = world.machine(process.machine, |machine| machine.disk.hurt);
                    watch.look(world, *process, Path::new(DATA), shared.readings(), hurt);
                    watch.look_at_room(world, *process, shared.is_full());
                    let shape = &self.shape.brokers[process.machine];
                    if let Some(limits) = shape.door() {
                        let cores = shape.cores.iter().copied().max().unwrap_or(1);
                        watch.look_at_door(world, *process, &[PORT, INSIDE_PORT], cores, limits);
                    }
                    if watch.lacks_memory(*process, shared.memory_waits()) {
                        world.machine(process.machine, Machine::lacks_memory);
                    }
                }
            }
            watch.take_moved()
        });
        for ((name, partition), offset) in moved {
            let at = self.shape.topics.iter().position(|topic| topic.name == name);
            if let Some(at) = at {
                self.recorder.observe_start(self.topics[at], partition, offset);
            }
        }
    }

    /// All that no history shows and is wrong, in the order in which it was seen.
    #[must_use]
    pub fn sightings(&self) -> Vec<Sighting> {
        self.kept.sightings()
    }

    /// From now on brokers' machines only show what is on their disks.
    pub fn begin_examination(&self) {
        self.examined.store(true, Ordering::Relaxed);
    }

    /// Whether that is so.
    #[must_use]
    pub fn is_examined(&self) -> bool {
        self.examined.load(Ordering::Relaxed)
    }

    /// Examines the disk of a broker that does not run any more.
    pub async fn examine(&self, io: &SimIo, broker: usize) {
        let mut proven = self.proven(broker);
        for (name, bytes) in self.shape.kept_bytes() {
            let parts = proven.iter_mut().filter(|(part, _)| part.0 == name);
            parts.for_each(|(_, proven)| proven.kept_bytes = Some(bytes));
        }
        let fleeting = self.shape.topics.iter().filter(|topic| topic.nature == Nature::Fleeting);
        let fleeting: BTreeSet<&str> =
            fleeting.map(|topic| &*topic.name).chain(LIMITED_TOPICS).collect();
        let is_fleeting = |name: &str| fleeting.contains(name) || name.starts_with(REBORN);
        let examined = invariant::after::examine(io, Path::new(DATA), &proven, is_fleeting);
        let (wrong, committed) = examined.await;
        for group in self.shape.groups.iter().filter(|group| group.broker == broker) {
            self.look_at_group(io, group, committed.get(&group.name));
        }
        let (now, mut watch) = (io.world().now(), self.kept.watch());
        wrong.into_iter().for_each(|violation| watch.report(now, broker, violation));
    }

    /// A last look at what a group has committed, for the judge.
    fn look_at_group(&self, io: &SimIo, group: &GroupShape, found: Option<&Places>) {
        let mut offsets = Vec::new();
        for &at in &group.topics {
            let shape = &self.shape.topics[at];
            for index in (0..shape.partitions_most).map(PartitionIndex) {
                let offset = found.and_then(|found| found.get(&(shape.name.clone(), index)));
                offsets.push((self.topic(at), index, offset.copied()));
            }
        }
        let number = self.recorder.group(&group.name);
        let op = |offsets| Op::Group(number, Box::new(Membership::Committed { offsets }));
        let process = Process(Recorder::client(io));
        self.recorder.record(io, process, Phase::Invoke, op(Vec::new()));
        self.recorder.record(io, process, Phase::Ok, op(offsets));
    }

    /// What is known of the partitions of a broker's topics of which not just any record may go: all that
    /// was acknowledged with an offset, or read, and what was told of epochs.
    fn proven(&self, broker: usize) -> BTreeMap<(String, PartitionIndex), Proven> {
        let history = self.kept.history.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = self.kept.ends.lock().expect("nobody panics with it");
        let kept = |at: usize| {
            let shape = &self.shape.topics[at];
            keeps(shape).filter(|keeps| shape.broker == broker && *keeps != Keeps::TheLatest)
        };
        let places: BTreeMap<Topic, (usize, Keeps)> = (0..self.topics.len())
            .filter_map(|at| Some((self.topics[at], (at, kept(at)?))))
            .collect();
        let mut proven: BTreeMap<(usize, PartitionIndex), Proven> = BTreeMap::new();
        let mut add = |topic, partition, offset, value| {
            let Some(&(at, keeps)) = places.get(&topic) else { return };
            let part = proven.entry((at, partition)).or_insert_with(|| {
                let ends = ends.get(&(at, partition)).cloned().unwrap_or_default();
                Proven { keeps, values: BTreeMap::new(), ends, kept_bytes: None }
            });
            part.values.insert(offset, value);
        };
        for event in history.events().iter().filter(|event| event.phase == Phase::Ok) {
            match &event.op {
                Op::Send {
                    topic, partition: Some(partition), offset: Some(offset), value, ..
                } => {
                    add(*topic, *partition, *offset, *value);
                }
                Op::Poll { records } => records
                    .iter()
                    .for_each(|got| add(got.topic, got.partition, got.offset, got.value)),
                _ => {}
            }
        }
        let named = |(at, partition): (usize, _)| (self.shape.topics[at].name.clone(), partition);
        proven.into_iter().map(|(part, proven)| (named(part), proven)).collect()
    }

    /// The process of a broker and what its monotonic clock shows, if it runs.
    #[must_use]
    pub fn broker_clock(&self, broker: usize) -> Option<(world::Process, Instant)> {
        let world = self.recorder.world();
        let process = self.brokers.lock().expect("nobody panics with it").get(&broker)?.0;
        let now = world.now();
        let shown = || world.machine(process.machine, |machine| machine.clock.monotonic(now));
        world.is_alive(process).then(|| (process, shown()))
    }

    /// Asks a broker to stop in order, if it runs.
    pub fn stop_broker(&self, broker: usize) {
        let brokers = self.brokers.lock().expect("nobody panics with it");
        if let Some((_, shared)) = brokers.get(&broker) {
            shared.stop();
        }
    }

    /// Lets go of all brokers; for the end of a run.
    pub fn forget_brokers(&self) {
        self.brokers.lock().expect("nobody panics with it").clear();
    }
}

impl Actor {
    /// The client that runs on the machine of `io`; `None` if it is left out.
    #[must_use]
    pub fn new(io: SimIo, stage: Stage) -> Option<Actor> {
        let number = io.process().machine - stage.shape.brokers.len();
        let voices = Rc::default();
        (!stage.cut.clients.contains(&number)).then_some(Actor { io, stage, number, voices })
    }

    /// What was drawn for it.
    #[must_use]
    pub fn shape(&self) -> &ClientShape {
        &self.stage.shape.clients[self.number]
    }

    /// The topic at a place of the shape.
    #[must_use]
    pub fn topic(&self, index: usize) -> &TopicShape {
        &self.stage.shape.topics[index]
    }

    /// Whether all that happens to a topic is told by the history.
    #[must_use]
    pub fn is_lasting(&self, index: usize) -> bool {
        self.topic(index).nature == Nature::Lasting
    }

    /// Takes the next step: what it draws from, whatever the rest of the world does, and whether
    /// it is left out.
    #[must_use]
    pub fn step(&self) -> (Stream, bool) {
        let client = self.number;
        let number = {
            let mut steps = self.stage.kept.lock();
            steps[client] += 1;
            steps[client] - 1
        };
        let random = self.stage.seed.stream("step", (client as u64) << 32 | u64::from(number));
        (random, self.stage.cut.steps.contains(&Step { client, number }))
    }

    /// A new producer or consumer.
    #[must_use]
    pub fn voice(&self) -> Voice {
        let number = self.voices.get();
        self.voices.set(number + 1);
        let process = Process(Recorder::client(&self.io) + (number << VOICE_BITS));
        Voice { actor: self.clone(), process }
    }

    /// A client of its broker, with fresh connections.
    #[must_use]
    pub fn client(&self) -> Client<SimIo> {
        let shape = self.shape();
        self.client_of(shape.home, shape.request_timeout, shape.versions_max.clone())
    }

    /// A client of any broker.
    #[must_use]
    pub fn client_of(
        &self,
        broker: usize,
        request_timeout: Duration,
        versions_max: BTreeMap<ApiKey, i16>,
    ) -> Client<SimIo> {
        let options = Options {
            client_id: format!("client {}", Recorder::client(&self.io)),
            request_timeout,
            patience: Duration::from_secs(20),
            auto_create_topics: false,
            versions_max,
            observer: Some(self.stage.kept.observer()),
            ..Options::default()
        };
        let inside = self.io.process().machine % 2 == 1;
        let port = if inside { INSIDE_PORT } else { PORT };
        let address = SocketAddr::new(Machine::address(broker), port);
        Client::new(self.io.clone(), Pool::new(), vec![address], options)
    }

    /// Sleeps for up to `most`.
    pub async fn pause(&self, random: &mut Stream, most: Duration) {
        let nanos = random.below(crate::seed::nanos(most));
        self.io.sleep(Duration::from_nanos(nanos)).await;
    }
}

impl Voice {
    /// Records what it does or is told.
    pub fn record(&self, phase: Phase, op: Op) {
        self.actor.stage.prove(phase, &op);
        self.actor.stage.look();
        self.actor.stage.recorder.record(&self.actor.io, self.process, phase, op);
    }

    /// The value of its record number `counter`.
    #[must_use]
    pub fn value(&self, counter: u32) -> Value {
        Value::new(self.process.0, counter)
    }
}

impl fmt::Display for Voice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.process.0.fmt(f)
    }
}
