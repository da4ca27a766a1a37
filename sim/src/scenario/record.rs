//! The recorder: writes the history of a run, which the judge reads.
//!
//! Everything that a client does or is told goes through [`Recorder::record`], into the history and
//! into the trace. What a dead client would still say is not heard, and its calls have given up, as in
//! Jepsen. Draws no randomness.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use trialog_engine::id::{Offset, PartitionIndex};
use trialog_jepsen::check::{self, Expect, Report};
use trialog_jepsen::history::{Event, Fault, Group, History, Op, Phase, Process, Topic};

use crate::contents::Contents;
use crate::io::SimIo;
use crate::nemesis::{Nemesis, Seen};
use crate::trace;
use crate::world::World;

/// The process number under which the nemesis appears in a history, and who looks into brokers.
const NEMESIS: Process = Process(u32::MAX);

/// Writes the history of a run. Clones write to the same one.
#[derive(Clone)]
pub struct Recorder {
    world: World,
    history: Arc<Mutex<History>>,
    open: Arc<Mutex<Open>>,
}

/// Calls that wait for their answers, and the machine that each was made on.
type Open = BTreeMap<Process, (usize, Op)>;

impl Recorder {
    /// A recorder that writes to `history`.
    #[must_use]
    pub fn new(world: World, history: Arc<Mutex<History>>) -> Self {
        Recorder { world, history, open: Arc::default() }
    }

    /// The world that the run is in.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The number of a topic in this history.
    #[must_use]
    pub fn topic(&self, name: &str) -> Topic {
        let topic = self.with(|history| history.topic(name));
        self.note_name(topic.0, name);
        topic
    }

    /// The number of a consumer group in this history.
    #[must_use]
    pub fn group(&self, name: &str) -> Group {
        let group = self.with(|history| history.group(name));
        self.note_name(group.0, name);
        group
    }

    /// The number of a client: its process, so that one that was restarted is another client.
    #[must_use]
    pub fn client(io: &SimIo) -> u32 {
        u32::try_from(io.process().number).expect("few processes in a run")
    }

    /// Records what one of a client's processes did. What a dead client would say is not heard.
    pub fn record(&self, io: &SimIo, process: Process, phase: Phase, op: Op) {
        if !self.world.is_alive(io.process()) {
            return;
        }
        if check::call_kind(&op).is_some() {
            let mut open = self.open.lock().expect("nobody panics with it");
            match phase {
                Phase::Invoke => open.insert(process, (io.process().machine, op.clone())),
                Phase::Ok | Phase::Fail | Phase::Info => open.remove(&process),
            };
        }
        self.push(process, phase, op);
    }

    /// Whoever waited on this machine waits no more, and will never know.
    fn give_up(&self, machine: usize) {
        let mut open = self.open.lock().expect("nobody panics with it");
        open.retain(|process, (of, op)| {
            let stays = *of != machine;
            if !stays {
                self.push(*process, Phase::Info, op.clone());
            }
            stays
        });
    }

    /// Records every crash and start of a broker, and what ends with a client.
    pub fn watch(&self, nemesis: &Nemesis, brokers: Vec<usize>) {
        let recorder = self.clone();
        nemesis.watch(move |machine, seen| {
            if brokers.contains(&machine) {
                let fault = match seen {
                    Seen::Crash(_) => Fault::Crash,
                    Seen::Start => Fault::Restart,
                };
                let node = machine as u32;
                recorder.push(NEMESIS, Phase::Info, Op::Nemesis { fault, node });
            } else if matches!(seen, Seen::Crash(_)) {
                recorder.give_up(machine);
            }
        });
    }

    /// An observer saw where a partition begins.
    pub fn observe_start(&self, topic: Topic, partition: PartitionIndex, offset: Offset) {
        self.push(NEMESIS, Phase::Info, Op::Start { topic, partition, offset });
    }

    /// From here on readers read everything.
    pub fn finale(&self) {
        self.push(NEMESIS, Phase::Info, Op::Final);
    }

    /// Judges what has been recorded.
    #[must_use]
    pub fn judge(&self, expect: &Expect) -> Report {
        crate::timing::judging(|| self.with(|history| check::all(history, expect)))
    }

    fn push(&self, process: Process, phase: Phase, op: Op) {
        let time_ns = self.world.now();
        let mut facts = vec![u64::from(process.0), phase as u64];
        let mut contents = Contents::NONE;
        match &op {
            Op::Send { topic, partition, key, value, tombstone, timestamp_ms, offset } => {
                let partition = partition.map_or(-1, |partition| partition.0);
                let offset = offset.map_or(-1, |offset| offset.0);
                facts.extend([u64::from(topic.0), partition as u64, value.0, offset as u64]);
                let key = key.as_ref().map_or(Contents::NONE, |key| Contents::of(key.as_bytes()));
                let time = timestamp_ms.unwrap_or(-1) as u64;
                contents = key.and_number(u64::from(*tombstone)).and_number(time);
            }
            Op::Poll { records } => {
                for record in records {
                    let (partition, offset) = (record.partition.0 as u64, record.offset.0 as u64);
                    facts.extend([u64::from(record.topic.0), partition, offset, record.value.0]);
                }
            }
            // Rare ones: their text says it all.
            other => contents = Contents::of(format!("{other:?}").as_bytes()),
        }
        self.world.note_with(trace::Event::Client, &facts, contents);
        if self.world.is_watched() {
            self.world.say(&format!("client {}: {phase:?} {op:?}", process.0));
        }
        self.with(|history| history.push(Event { time_ns, process, phase, op }));
    }

    /// A number that will stand for a name.
    fn note_name(&self, number: u32, name: &str) {
        let contents = Contents::of(name.as_bytes());
        self.world.note_with(trace::Event::Name, &[u64::from(number)], contents);
    }

    fn with<T>(&self, look: impl FnOnce(&mut History) -> T) -> T {
        look(&mut self.history.lock().expect("nobody panics with it"))
    }
}
