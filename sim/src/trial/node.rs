//! What a program on a node can do: time, chance, its disk, clients of the broker, and notes.
//!
//! A [`Node`] belongs to one incarnation of the program. Once that is killed, none of its futures
//! goes on, and nothing that it would still write is heard.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trialog_engine::client::{Client, ConsumerOptions, GroupOptions, Options, ProducerOptions};
use trialog_engine::io::{Buf, File, Instant, Io, Open, Pool, Wall, fill_at, write_all_at};
use trialog_jepsen::history::{Event, Group, History, Op, Phase, Process, Topic};

use super::broker;
use super::client::{Consumer, Producer};
use super::member::Member;
use crate::io::SimIo;
use crate::seed::{Seed, Stream};
use crate::trace;

/// Clients of one node have numbers of their own in the history, so many at most.
const VOICES_MAX: u32 = 1 << 12;

/// One incarnation of a program on a simulated machine. Clones are the same.
#[derive(Clone)]
pub struct Node {
    io: SimIo,
    history: Arc<Mutex<History>>,
    client: Client<SimIo>,
    random: Rc<RefCell<Stream>>,
    voices: Rc<Cell<u32>>,
}

impl Node {
    pub(super) fn new(io: SimIo, seed: Seed, history: Arc<Mutex<History>>) -> Node {
        let options = Options {
            request_timeout: Duration::from_secs(2),
            auto_create_topics: false,
            ..Options::default()
        };
        let client = Client::new(io.clone(), Pool::new(), vec![broker::address()], options);
        let random = Rc::new(RefCell::new(seed.stream("trial node", io.process().number)));
        Node { io, history, client, random, voices: Rc::default() }
    }

    /// The seam below everything: files, sockets, tasks.
    #[must_use]
    pub fn io(&self) -> &SimIo {
        &self.io
    }

    /// A client of the broker that the judge does not listen to: for requests that [`Producer`],
    /// [`Consumer`] and [`Member`] do not make.
    #[must_use]
    pub fn client(&self) -> &Client<SimIo> {
        &self.client
    }

    /// A producer whose records the judge knows.
    #[must_use]
    pub fn producer(&self, options: ProducerOptions) -> Producer {
        Producer::new(self.clone(), self.client.producer(options.clone()), &options)
    }

    /// A consumer of whose reading the judge knows.
    #[must_use]
    pub fn consumer(&self, options: ConsumerOptions) -> Consumer {
        Consumer::new(self.clone(), self.client.consumer(options))
    }

    /// A member of a consumer group of whose reading and commits the judge knows. What a killed member
    /// read is read by nobody for as long as its session lasts ([`GroupOptions::session_timeout`], 6 s or
    /// more); and a member that joins when its broker loses power notices that only after
    /// [`GroupOptions::rebalance_timeout`]. Let the trial's patience be longer than both.
    #[must_use]
    pub fn member(&self, options: GroupOptions, topics: &[&str]) -> Member {
        Member::new(self.clone(), options, topics)
    }

    /// Lets time pass, by this node's clock.
    pub async fn sleep(&self, duration: Duration) {
        self.io.sleep(duration).await;
    }

    /// This node's monotonic clock. It drifts, and begins anew when its power fails.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.io.now()
    }

    /// This node's wall clock. It is wrong, and may jump.
    #[must_use]
    pub fn wall(&self) -> Wall {
        self.io.wall()
    }

    /// A random number below `bound`, from this node's own stream.
    #[must_use]
    pub fn random(&self, bound: u64) -> u64 {
        self.random.borrow_mut().below(bound)
    }

    /// Runs something beside, until it ends or the node is killed.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.io.spawn(task);
    }

    /// Keeps `bytes` under `name` on this node's disk. When it returns, they are there after any
    /// crash; if the node dies before, the old ones or the new ones are.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn store(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let (path, new) = (file(name), file(&format!("{name}.new")));
        let place = self.io.open(&new, Open::Create).await?;
        place.truncate(0).await?;
        write_all_at(&place, vec![bytes.to_vec().into()], 0).await.0?;
        place.sync().await?;
        drop(place);
        self.io.rename(&new, &path).await?;
        self.io.sync_dir(Path::new("/")).await
    }

    /// What is kept under `name`, if something is.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn load(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        let place = match self.io.open(&file(name), Open::Read).await {
            Ok(place) => place,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = usize::try_from(place.length().await?).unwrap_or(usize::MAX);
        let (result, bytes) = fill_at(&place, Buf::with_capacity(length), 0).await;
        result.map(|_| Some(bytes.to_vec()))
    }

    /// Puts a sentence into the history, for people.
    pub fn note(&self, text: &str) {
        self.record(self.voice(0), Phase::Info, Op::Note(text.into()));
    }

    /// A number for one more client of this node.
    pub(super) fn next_voice(&self) -> Process {
        let number = self.voices.get() + 1;
        assert!(number < VOICES_MAX, "a node with more than {VOICES_MAX} clients");
        self.voices.set(number);
        self.voice(number)
    }

    fn voice(&self, number: u32) -> Process {
        let process = u32::try_from(self.io.process().number).expect("few processes in a run");
        Process(process * VOICES_MAX + number)
    }

    pub(super) fn topic(&self, name: &str) -> Topic {
        let topic = lock(&self.history).topic(name);
        self.note_name(topic.0, name);
        topic
    }

    pub(super) fn group(&self, name: &str) -> Group {
        let group = lock(&self.history).group(name);
        self.note_name(group.0, name);
        group
    }

    /// A number that stands for a name in what is recorded.
    fn note_name(&self, number: u32, name: &str) {
        self.io.world().note_text(trace::Event::Name, &[u64::from(number)], name);
    }

    /// Puts an event into the history and into the trace, unless the node is dead.
    pub(super) fn record(&self, process: Process, phase: Phase, op: Op) {
        let world = self.io.world();
        if !world.is_alive(self.io.process()) {
            return;
        }
        world.note_text(trace::Event::Client, &[], &format!("{} {phase:?} {op:?}", process.0));
        let time_ns = world.now();
        lock(&self.history).push(Event { time_ns, process, phase, op });
    }
}

fn file(name: &str) -> PathBuf {
    assert!(!name.contains('/'), "a name, not a path: {name}");
    Path::new("/").join(name)
}

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere ends the run anyway.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What your programs did to the outside world: parcels sent, money moved, mails written. Not on any
/// node's disk, and not undone by any crash. Clones are the same ledger.
pub struct Ledger<T> {
    entries: Arc<Mutex<Vec<T>>>,
}

impl<T> Clone for Ledger<T> {
    fn clone(&self) -> Self {
        Ledger { entries: Arc::clone(&self.entries) }
    }
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Ledger { entries: Arc::default() }
    }
}

impl<T: Clone + fmt::Debug> Ledger<T> {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Ledger<T> {
        Ledger::default()
    }

    /// Writes an entry, unless the node is dead.
    pub fn write(&self, node: &Node, entry: T) {
        if node.io.world().is_alive(node.io.process()) {
            node.note(&format!("{entry:?}"));
            lock(&self.entries).push(entry);
        }
    }

    /// Everything that has been written, in order.
    #[must_use]
    pub fn entries(&self) -> Vec<T> {
        lock(&self.entries).clone()
    }
}
