//! The broker: connections, requests, partitions, and the host of the cluster's metadata.
//!
//! One broker is one [`Shared`] and, for each core, one call of [`run`] with that core's `Io`. A
//! request travels connection → dispatch → handler → partition (on whichever core owns it) and back
//! as an answer over a channel; nothing calls upwards. Core 0 also claims the data folder, hosts
//! the cluster machine and opens the listening socket that all cores accept from.
//!
//! Must not know which `Io` it runs on.

mod admin;
mod advertise;
mod allowance;
mod answer;
mod ask;
mod auth;
mod clean;
mod compacting;
mod conn;
mod data;
mod dispatch;
mod door;
mod gauge;
mod handle;
mod host;
pub mod inbox;
#[cfg(test)]
mod inbox_tests;
mod link;
mod loggers;
mod memory;
mod partition;
mod producer_id;
mod quota;
mod remedy;
mod reply;
mod rest;
mod room;
mod session;
mod settings;
mod shard;
mod tally;
mod wait;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{error, info, warn};

pub use admin::{Usage, Wish as AdminWish};
pub use data::DataError;
pub use dispatch::SERVED;
pub use gauge::Reading;
pub use host::MetadataError;
pub use loggers::{LoggerError, Loggers};

use crate::config;
use crate::id::{CoreId, NodeId};
use crate::io::{self, Io, Listener, Pool, watch};
use crate::limit::{
    INBOX_MESSAGES_MAX, LOGS_CLOSED_AT_ONCE_MAX, METADATA_ORDERS_MAX, REQUEST_MEMORY_MAX,
    ROOM_RETRY_PAUSE, TURN_INTERVAL,
};
use crate::machine::group::Ticket;
use crate::machine::{BrokerConfigs, Command, Image, Refusal, Reply, Topic, place};
use crate::probe::{self, Probe};
// For `inbox`, which names its primitives by way of its parent.
use crate::sync;
use host::{Host, Order, Refused, group};

/// What a broker is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its settings.
    pub config: config::Broker,
    /// Its data folder.
    pub data: PathBuf,
    /// Where it listens for clients, in one place at least.
    pub listen: Vec<Listen>,
    /// Where it answers operators over HTTP, if anywhere.
    pub admin: Option<AdminWish>,
    /// How many cores it runs on, 1 or more.
    pub cores: u16,
    /// The loggers of its process, if clients may see and change what they report.
    pub loggers: Option<Arc<Loggers>>,
}

/// Where a broker listens for clients, and what that is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The listener's name.
    pub name: Arc<str>,
    /// Its address.
    pub address: SocketAddr,
}

impl From<SocketAddr> for Listen {
    /// A listener with Kafka's usual name.
    fn from(address: SocketAddr) -> Listen {
        Listen { name: "PLAINTEXT".into(), address }
    }
}

/// Why a broker did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The metadata cannot be read.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The first record could not be written or was refused.
    #[error("the broker cannot join its cluster: {0}")]
    Register(String),
    /// The listening socket could not be opened.
    #[error(
        "cannot listen on {address}: {error}; choose another address with --listen, or with the \
         setting listeners"
    )]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The admin listener could not be opened.
    #[error(
        "cannot listen on {address} for metrics and health: {error}; choose another address with \
         --set trialog.admin.listener=HOST:PORT, or off"
    )]
    ListenAdmin {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// Core 0 ended before this core could begin; it says why.
    #[error("the broker did not start")]
    NotStarted,
}

/// What all cores of a broker share. `Send`: each core's thread gets a counted pointer.
pub struct Shared<I: Io> {
    config: config::Broker,
    data: PathBuf,
    listen: Vec<Listen>,
    node: NodeId,
    inboxes: Vec<inbox::Sender<shard::Message<I::File>>>,
    group_inboxes: Vec<inbox::Sender<group::Ask>>,
    /// Each core takes its own when it starts.
    receivers: Mutex<Vec<Option<Inbox<I>>>>,
    images: watch::Sender<Arc<Image>>,
    orders: mpsc::Sender<Order>,
    /// Held by whoever changes settings, from the image that the change is worked out from until it is
    /// published: lists have items added and taken away.
    edits: tokio::sync::Mutex<()>,
    orders_taken: Mutex<Option<mpsc::Receiver<Order>>>,
    listeners: watch::Sender<Option<Vec<door::Open<I::Listener>>>>,
    admin: Option<AdminWish>,
    loggers: Option<Arc<Loggers>>,
    /// Where the admin listener is.
    admin_address: watch::Sender<Option<SocketAddr>>,
    stop: watch::Sender<bool>,
    running: watch::Sender<u16>,
    /// Everything is closed.
    ended: watch::Sender<bool>,
    gauges: gauge::Gauges,
    /// How often a partition has gone to rest.
    rested: watch::Sender<u64>,
    /// One for each core.
    tallies: Vec<Arc<tally::Tally>>,
    room: room::Room,
    door: door::Door,
    has_listened: AtomicBool,
    meters: quota::Meters,
    /// Where partitions stand: at the start what the last clean stop told, at the end what the cores
    /// closed.
    rows: Mutex<Vec<clean::Row>>,
    /// Something of a deleted topic could not be removed: the next start is to look for it.
    left_behind: AtomicUsize,
}

/// What a core receives: questions for its partitions, and for its consumer groups.
type Inbox<I> = (inbox::Receiver<shard::Message<<I as Io>::File>>, inbox::Receiver<group::Ask>);

/// One core's view of the broker.
pub struct Core<I: Io> {
    io: I,
    id: CoreId,
    pool: Pool,
    shared: Arc<Shared<I>>,
    shard: shard::Shard<I::File>,
    /// For the answers to what is asked of partitions most.
    outcomes: answer::Slots<ask::Outcomes>,
    plans: answer::Slots<ask::Fetched<I::File>>,
    groups: group::Hosts,
    /// The number of the next command to a group's machine.
    ticket_next: Cell<u64>,
    request_memory: Rc<memory::Memory>,
    /// Whose turn it is to compact its log.
    compactions: Arc<Semaphore>,
    /// A partition that is to rest closes its log when it has its turn.
    rests: Arc<Semaphore>,
    sessions: RefCell<session::Sessions>,
    producer_ids: producer_id::Block,
    connections: Cell<usize>,
    settings: settings::Settings,
    config: RefCell<Config>,
    /// The settings have changed, and partitions have not been told.
    reconfigured: Cell<bool>,
    /// What it has done.
    tally: Arc<tally::Tally>,
    /// What requests took before, on the core that answers operators.
    recent: admin::Recent,
    /// Whether the log has named the setting for a port mapping.
    hinted_mapping: Cell<bool>,
}

/// A broker's settings, and what the cluster kept for it when they were put together.
struct Config {
    kept: Arc<BrokerConfigs>,
    settings: Rc<config::Broker>,
}

impl<I: Io> Core<I> {
    /// How many partitions of this core may have their logs open.
    fn in_use_max(&self) -> usize {
        (self.shared.config.partitions_open_max / usize::from(self.shared.cores())).max(1)
    }

    /// A topic's settings, parsed.
    fn topic_config(&self, topic: &Arc<Topic>) -> Rc<config::Topic> {
        self.settings.of(&self.config.borrow().settings, topic)
    }

    /// The broker's settings as they are now. Those that cannot change while it runs are also in
    /// [`Shared`].
    fn config(&self) -> Rc<config::Broker> {
        self.config.borrow().settings.clone()
    }

    /// Takes over the settings that the newest image keeps for this broker. Called with it at once,
    /// so that an older one never follows a newer one. Partitions are told by [`shard::reconfigure`].
    fn configure(&self, image: &Image) {
        let kept = image.broker_configs();
        if Arc::ptr_eq(kept, &self.config.borrow().kept) {
            return;
        }
        let own = kept.get(&Some(self.shared.node));
        let settings = Rc::new(self.shared.config.with_dynamic(own, kept.get(&None)));
        *self.config.borrow_mut() = Config { kept: kept.clone(), settings };
        self.settings.retain(|_| false);
        self.reconfigured.set(true);
        probe::hit(Probe::BrokerReconfigured);
    }

    /// How much room is to be left on the disk.
    fn marks(&self) -> room::Marks {
        let config = self.config();
        room::Marks { warn: config.disk_free_warn_bytes, min: config.disk_free_min_bytes }
    }
}

impl<I: Io> Core<I> {
    /// A number that no command of any core has had.
    fn ticket(&self) -> Ticket {
        let number = self.ticket_next.get();
        self.ticket_next.set(number + 1);
        Ticket(u64::from(self.id.0) << 48 | number)
    }
}

impl<I: Io> Shared<I> {
    /// A broker that has not started. Every core then calls [`run`] with it.
    ///
    /// # Panics
    /// If there are no cores, or no listeners.
    #[must_use]
    pub fn new(options: Options) -> Arc<Self> {
        assert!(options.cores > 0, "a broker has at least one core");
        assert!(!options.listen.is_empty(), "a broker has at least one listener");
        let mut inboxes = Vec::new();
        let mut group_inboxes = Vec::new();
        let mut receivers = Vec::new();
        for _ in 0..options.cores {
            let (sender, receiver) = inbox::inbox(INBOX_MESSAGES_MAX);
            let (group_sender, group_receiver) = inbox::inbox(INBOX_MESSAGES_MAX);
            inboxes.push(sender);
            group_inboxes.push(group_sender);
            receivers.push(Some((receiver, group_receiver)));
        }
        let (orders, taken) = mpsc::channel(METADATA_ORDERS_MAX);
        Arc::new(Shared {
            node: options.config.node_id,
            config: options.config,
            data: options.data,
            listen: options.listen,
            inboxes,
            group_inboxes,
            receivers: Mutex::new(receivers),
            images: watch::channel(Arc::new(Image::default())).0,
            orders,
            edits: tokio::sync::Mutex::default(),
            orders_taken: Mutex::new(Some(taken)),
            listeners: watch::channel(None).0,
            admin: options.admin,
            loggers: options.loggers,
            admin_address: watch::channel(None).0,
            ended: watch::channel(false).0,
            tallies: (0..options.cores).map(|_| Arc::default()).collect(),
            room: room::Room::default(),
            door: door::Door::default(),
            has_listened: AtomicBool::new(false),
            stop: watch::channel(false).0,
            running: watch::channel(0).0,
            gauges: gauge::Gauges::default(),
            rested: watch::channel(0).0,
            meters: quota::Meters::default(),
            rows: Mutex::default(),
            left_behind: AtomicUsize::new(0),
        })
    }

    /// Asks all cores to stop: no new connections, logs closed cleanly. [`run`] then returns.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// The address it listens on, once it does: the first one of several.
    pub async fn listening(&self) -> Option<SocketAddr> {
        let all = self.listening_everywhere().await?;
        all.first().map(|listen| listen.address)
    }

    /// Everywhere it listens, once it does, with the real ports.
    pub async fn listening_everywhere(&self) -> Option<Vec<Listen>> {
        let mut listeners = self.listeners.subscribe();
        let open = listeners.wait_for(Option::is_some).await.ok()?;
        let listen = |open: &door::Open<I::Listener>| Listen {
            name: open.name.clone(),
            address: open.listener.local_address(),
        };
        open.as_ref().map(|open| open.iter().map(listen).collect())
    }

    /// The address at which it answers operators over HTTP, if it does.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        *self.admin_address.borrow()
    }

    /// Completes once that is so; never if there is no admin listener.
    pub async fn admin_listening(&self) -> Option<SocketAddr> {
        let mut address = self.admin_address.subscribe();
        let open = address.wait_for(Option::is_some).await.ok()?;
        *open
    }

    /// Whether it has begun to listen for clients, even if it has stopped since.
    fn was_listening(&self) -> bool {
        self.has_listened.load(Ordering::Relaxed)
    }

    /// Where every open partition stands, by topic identity and number. May be called from any
    /// thread.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        self.gauges.read()
    }

    /// Whether producers are refused because there is no room on the disk. May be called from any
    /// thread.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.room.is_none()
    }

    /// How often a request has had to wait for memory. May be called from any thread.
    #[must_use]
    pub fn memory_waits(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.memory_waits.get()).sum()
    }

    fn cores(&self) -> u16 {
        u16::try_from(self.inboxes.len()).expect("made from a u16")
    }

    fn inbox(&self, core: CoreId) -> &inbox::Sender<shard::Message<I::File>> {
        &self.inboxes[usize::from(core.0)]
    }

    fn group_inbox(&self, core: CoreId) -> &inbox::Sender<group::Ask> {
        &self.group_inboxes[usize::from(core.0)]
    }

    fn lock_rows(&self) -> MutexGuard<'_, Vec<clean::Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the rows of one core's partitions.
    fn take_rows_of(&self, core: CoreId) -> Vec<clean::Row> {
        let mut rows = self.lock_rows();
        let (own, others) = rows
            .drain(..)
            .partition(|((topic, index), _)| place::owner(*topic, *index, self.cores()) == core);
        *rows = others;
        own
    }

    /// Stands for the settings of a topic that has none of its own: what a partition at rest has to do,
    /// and when, follows from them.
    fn settings_digest(&self, image: &Image) -> u32 {
        let kept = image.broker_configs();
        let broker = self.config.with_dynamic(kept.get(&Some(self.node)), kept.get(&None));
        let own = BTreeMap::new();
        let entries = config::Topic::entries(&broker, &own);
        clean::digest(entries.map(|entry| format!("{}={}\n", entry.key.name, entry.value)))
    }

    /// Tells the next start where every partition stands, if that is all there is to know.
    async fn leave_clean(&self, io: &I) {
        let settings = self.settings_digest(&self.image());
        let rows = std::mem::take(&mut *self.lock_rows());
        let image = self.image();
        let gone = rows.iter().any(|((topic, index), _)| image.partition(*topic, *index).is_none());
        if gone || self.left_behind.load(Ordering::Relaxed) > 0 {
            probe::hit(Probe::LeftBehind);
            return;
        }
        let belongs = clean::Belongs { metadata: image.version(), settings };
        if let Err(error) = clean::leave(io, &self.data, belongs, &rows).await {
            warn!(%error, "the next start looks at every log: where they stand was not written");
        }
    }

    /// The cluster as last published.
    fn image(&self) -> Arc<Image> {
        self.images.borrow().clone()
    }

    /// Shows all cores the cluster as it is now.
    fn publish(&self, image: Image) {
        let image = Arc::new(image);
        self.images.send_replace(image.clone());
        // Afterwards: who sees the number must find the image that it stands for, or a later one.
        self.meters.heed(&image);
    }

    fn images(&self) -> watch::Receiver<Arc<Image>> {
        self.images.subscribe()
    }

    /// Has the cluster machine carry out `command`; its effect is in the image when this returns.
    async fn order(&self, command: Command) -> Result<Reply, Refused> {
        let gone = || Refused::Storage("the broker is stopping".to_owned());
        let (answer, outcome) = oneshot::channel();
        self.orders.send(Order { command, answer }).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }
}

/// Runs one core of a broker until it is stopped.
///
/// Core 0 claims the data, replays the metadata and listens; the others wait for it. Returns an
/// error if the broker cannot start.
pub async fn run<I: Io>(io: I, id: CoreId, shared: Arc<Shared<I>>) -> Result<(), BrokerError> {
    let queued = shared.config.queued_bytes_max.map_or(REQUEST_MEMORY_MAX, |all| {
        (all / usize::from(shared.cores())).min(REQUEST_MEMORY_MAX)
    });
    let core = Rc::new(Core {
        pool: Pool::new(),
        shard: shard::Shard::default(),
        outcomes: answer::Slots::default(),
        plans: answer::Slots::default(),
        groups: group::Hosts::default(),
        ticket_next: Cell::new(0),
        request_memory: memory::Memory::new(queued),
        compactions: Arc::new(Semaphore::new(1)),
        rests: Arc::new(Semaphore::new(LOGS_CLOSED_AT_ONCE_MAX)),
        sessions: RefCell::new(session::Sessions::new(shared.config.fetch_sessions_max)),
        producer_ids: producer_id::Block::default(),
        connections: Cell::new(0),
        settings: settings::Settings::default(),
        config: RefCell::new(Config {
            kept: Arc::default(),
            settings: Rc::new(shared.config.clone()),
        }),
        reconfigured: Cell::new(false),
        tally: shared.tallies[usize::from(id.0)].clone(),
        recent: admin::Recent::default(),
        hinted_mapping: Cell::new(false),
        io,
        id,
        shared,
    });
    if core.shared.admin.is_some() {
        core.io.spawn(show_turns(core.clone()));
    }
    let mut stop = core.shared.stop.subscribe();
    // Held to the end: the lock on the data folder, and the host's task.
    let leading = if id == CoreId(0) {
        let led = lead(&core).await;
        if led.is_err() {
            core.shared.stop();
        }
        Some(led?)
    } else {
        None
    };
    let listeners = {
        let mut opened = core.shared.listeners.subscribe();
        let opened = tokio::select! {
            biased; // A broker that is told to stop does not begin.
            _ = stop.wait_for(|stop| *stop) => return Err(BrokerError::NotStarted),
            opened = opened.wait_for(Option::is_some) => {
                opened.ok().and_then(|open| open.clone())
            }
        };
        opened.ok_or(BrokerError::NotStarted)?
    };
    core.shared.running.send_modify(|running| *running += 1);
    core.configure(&core.shared.image());
    let (receiver, group_receiver) = {
        let mut receivers = core.shared.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        receivers[usize::from(id.0)].take().expect("each core runs once")
    };
    shard::begin(&core, core.shared.take_rows_of(id));
    core.io.spawn(shard::pump(core.clone(), receiver));
    core.io.spawn(shard::reconfigure(core.clone()));
    core.io.spawn(shard::follow(core.clone()));
    core.io.spawn(rest::keep_up(core.clone()));
    core.io.spawn(group::pump(core.clone(), group_receiver));
    core.io.spawn(group::follow(core.clone()));
    tokio::select! {
        biased; // A stop ends accepting at once.
        _ = stop.wait_for(|stop| *stop) => {}
        _ = join_all(listeners.into_iter().map(|open| door::accept(&core, open))) => {}
    }
    core.shared.listeners.send_replace(None);
    shard::close(&core).await;
    core.shared.lock_rows().extend(core.shard.take_rows());
    core.shared.running.send_modify(|running| *running -= 1);
    if let Some((claim, host_done)) = leading {
        // The data folder stays locked until every core has closed its logs.
        let mut running = core.shared.running.subscribe();
        let _ = running.wait_for(|running| *running == 0).await;
        let _ = host_done.await;
        core.shared.leave_clean(&core.io).await;
        drop(claim);
        core.shared.ended.send_replace(true);
        info!("stopped cleanly");
    }
    Ok(())
}

type Leading<I> = (data::Claim<<I as Io>::File>, oneshot::Receiver<()>);

/// What core 0 does before any core serves.
async fn lead<I: Io>(core: &Rc<Core<I>>) -> Result<Leading<I>, BrokerError> {
    let Core { io, shared, .. } = &**core;
    let claim = data::claim(io, &shared.data, shared.node).await?;
    if let Some(wish) = shared.admin {
        let failed = |error| BrokerError::ListenAdmin { address: wish.address, error };
        if let Some(listener) = admin::open(io, wish).await.map_err(failed)? {
            shared.admin_address.send_replace(Some(listener.local_address()));
            io.spawn(admin::serve(core.clone(), listener));
        }
    }
    let mut host = Host::open(io, &core.pool, &shared.data).await?;
    // Before anything is written: from now on it is not true any more.
    let image = host.image();
    let belongs =
        clean::Belongs { metadata: image.version(), settings: shared.settings_digest(&image) };
    let stood = clean::take(io, &shared.data, belongs).await;
    let stood = stood.map_err(|error| DataError::Storage { folder: shared.data.clone(), error })?;
    let started = Command::StartBroker {
        node: shared.node,
        incarnation: io.random(),
        cluster: claim.cluster,
    };
    core.io.spawn(room::watch(core.clone()));
    core.io.spawn(rest::release_memory(core.clone()));
    register(core, &mut host, started).await?;
    // A clean stop leaves nothing of deleted topics.
    if stood.is_none()
        && let Err(error) = data::remove_orphans(io, &shared.data, &host.image()).await
    {
        shared.left_behind.fetch_add(1, Ordering::Relaxed);
        warn!(%error, "could not remove what is left of deleted topics; trying at the next start");
    }
    *shared.lock_rows() = stood.unwrap_or_default();
    shared.publish(host.image());
    let mut listeners = Vec::new();
    for Listen { name, address } in &shared.listen {
        let failed = |error| BrokerError::Listen { address: *address, error };
        let listener = io.listen(*address).await.map_err(failed)?;
        listeners.push(door::Open { name: name.clone(), listener });
    }
    let orders = {
        let mut taken = shared.orders_taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.take().expect("core 0 runs once")
    };
    let (done, host_done) = oneshot::channel();
    core.io.spawn({
        let core = core.clone();
        async move {
            host.serve(orders, &core.shared, core.shared.stop.subscribe()).await;
            let _ = done.send(());
        }
    });
    shared.has_listened.store(true, Ordering::Relaxed);
    shared.listeners.send_replace(Some(listeners));
    Ok((claim, host_done))
}

/// Shows at intervals that the core takes turns.
async fn show_turns<I: Io>(core: Rc<Core<I>>) {
    loop {
        // 0 is for a core that has not had its first turn.
        core.tally.turn_at.set(core.io.now().0.max(1));
        core.io.sleep(TURN_INTERVAL).await;
    }
}

/// Has the cluster know of this start. Where the disk has no room for that, it waits until it has.
async fn register<I: Io>(
    core: &Core<I>,
    host: &mut Host<I>,
    started: Command,
) -> Result<(), BrokerError> {
    let mut told = false;
    loop {
        let refused = match host.carry_out(started.clone()).await {
            Ok(_) => return Ok(()),
            Err(refused) => refused,
        };
        if !matches!(refused, Refused::Full) || *core.shared.stop.borrow() {
            return Err(BrokerError::Register(refused.to_string()));
        }
        core.shared.room.found_none();
        if !std::mem::replace(&mut told, true) {
            probe::hit(Probe::StartWaitedForRoom);
            error!(data = %core.shared.data.display(),
                "the disk is full: the broker begins as soon as there is room");
        }
        core.io.sleep(ROOM_RETRY_PAUSE).await;
    }
}

impl Refused {
    /// Kafka's code for it.
    fn code(&self) -> crate::wire::code::ErrorCode {
        match self {
            Refused::Machine(refusal) => Refusal::code(refusal),
            Refused::Storage(_) | Refused::Full | Refused::Scarce => {
                crate::wire::code::ErrorCode::KafkaStorageError
            }
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Machine(refusal) => refusal.fmt(f),
            Refused::Storage(reason) => f.write_str(reason),
            Refused::Full => f.write_str("the disk is full: try again once there is room"),
            Refused::Scarce => write!(f, "{}", crate::log::AppendError::Scarce),
        }
    }
}
