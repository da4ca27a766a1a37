//! What a seed draws before its run: brokers, topics, and what each client does (swarm testing).
//!
//! Every seed switches features on and off and weighs the rest at random, so that each run is
//! strange in its own way and all of them together cover the pairs. Everything here is data: a
//! shape can be printed, and the same seed and size always draw the same one.

mod group;
mod odd;
mod operator;
mod topic;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trialog_engine::broker::SERVED;
use trialog_engine::client::{Acks, ConsumerOptions, Isolation, ProducerOptions};
use trialog_engine::wire::api::ApiKey;
use trialog_engine::wire::batch::Compression;

use super::Size;
use crate::seed::{Seed, Stream};

pub use group::{
    Care, CaretakerShape, Commits, GroupShape, LodgerShape, MemberShape, OFFSETS_KEPT,
};
pub use odd::{HaulerShape, LIMITED_TOPICS, LimitedShape, Oddity, REQUEST_MEMORY, StrangerShape};
pub use operator::{Moment, OperatorShape};
pub use topic::{Nature, TopicShape};

/// Everything that is drawn for one run.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Each is a cluster of its own.
    pub brokers: Vec<BrokerShape>,
    /// The topics of all brokers.
    pub topics: Vec<TopicShape>,
    /// The consumer groups of all brokers.
    pub groups: Vec<GroupShape>,
    /// On a machine each, behind the brokers'.
    pub clients: Vec<ClientShape>,
    /// How long the chaos lasts.
    pub chaos: Duration,
    /// Records to get acknowledged, all clients together.
    pub goal: u64,
    /// The size of every disk.
    pub disk_bytes: u64,
}

/// One broker.
#[derive(Clone, Debug)]
pub struct BrokerShape {
    /// How many cores it may start with; each start picks one of them.
    pub cores: Vec<u16>,
    /// Settings that differ from the defaults.
    pub settings: BTreeMap<&'static str, String>,
    /// Bytes of its memory for large requests, if that is little.
    pub request_memory: Option<u64>,
}

impl BrokerShape {
    /// The most connections that it may serve, of all and of one address, if there are limits.
    #[must_use]
    pub fn door(&self) -> Option<(usize, usize)> {
        let limit = |key| self.settings.get(key).and_then(|most| most.parse().ok());
        let (all, of_address) = (limit(odd::DOOR), limit(odd::DOOR_OF_ADDRESS));
        let is_narrow = all.is_some() || of_address.is_some();
        is_narrow.then_some((all.unwrap_or(usize::MAX), of_address.unwrap_or(usize::MAX)))
    }
}

/// One client.
#[derive(Clone, Debug)]
pub struct ClientShape {
    /// The index of the broker that it talks to.
    pub home: usize,
    /// What it does.
    pub role: Role,
    /// The topics it knows, as indexes.
    pub topics: Vec<usize>,
    /// For connecting and for each request.
    pub request_timeout: Duration,
    /// Highest protocol versions it speaks, where it is older than the broker.
    pub versions_max: BTreeMap<ApiKey, i16>,
}

/// What a client does.
#[derive(Clone, Debug)]
pub enum Role {
    /// Writes records.
    Producer(ProducerShape),
    /// Reads records.
    Consumer(ConsumerShape),
    /// Asks about topics, makes and deletes them.
    Admin(AdminShape),
    /// Changes topics under their users.
    Changer(ChangerShape),
    /// Repeats batches that a broker has, as a producer does whose answers got lost.
    Zombie(ZombieShape),
    /// Reads as a member of a group.
    Member(MemberShape),
    /// Looks after a group.
    Caretaker(CaretakerShape),
    /// Reads with incremental fetch sessions.
    Session(SessionShape),
    /// Asks wrongly.
    Stranger(StrangerShape),
    /// Asks for more than its quota.
    Limited(LimitedShape),
    /// Commits once, and looks when that is gone.
    Lodger(LodgerShape),
    /// Stops brokers in order.
    Operator(OperatorShape),
    /// Asks with requests that a broker has little memory for.
    Hauler(HaulerShape),
}

/// How a producer writes.
#[derive(Clone, Debug)]
pub struct ProducerShape {
    /// The client's options.
    pub options: ProducerOptions,
    /// Records that it hands over together at most.
    pub burst: u64,
    /// The longest pause between bursts.
    pub pause: Duration,
    /// The size of values, at least 8 bytes.
    pub value_bytes: usize,
    /// How many different keys it uses; none for records without a key.
    pub keys: u64,
    /// Whether it names the partition, or the client chooses.
    pub names_partition: bool,
    /// How many headers a record has.
    pub headers: usize,
    /// Record times up to so many ms around its clock.
    pub times_around_ms: u64,
    /// One in so many steps begins with a new producer.
    pub renewed_every: u64,
}

/// How a consumer reads.
#[derive(Clone, Debug)]
pub struct ConsumerShape {
    /// The client's options.
    pub options: ConsumerOptions,
    /// How long one poll lasts at most.
    pub poll: Duration,
    /// The longest pause between two polls.
    pub pause: Duration,
    /// One in so many steps goes elsewhere in a partition.
    pub seeks_every: u64,
    /// One in so many steps takes partitions on or off.
    pub changes_every: u64,
    /// One in so many steps begins with a new consumer and new connections.
    pub renewed_every: u64,
    /// Whether it keeps its positions in a file of its machine, and goes on where that says. It then
    /// reads everything in order, and goes nowhere else.
    pub keeps: bool,
}

/// How an admin asks.
#[derive(Clone, Debug)]
pub struct AdminShape {
    /// The longest pause between two calls.
    pub pause: Duration,
    /// Which calls it makes, drawn anew for each seed; picked from evenly.
    pub calls: Vec<Call>,
}

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum Call {
    Create,
    Delete,
    Metadata,
    MetadataOfUnknown,
    EndByName,
    StartByName,
    OffsetByTime,
    OffsetOfUnknown,
    EpochEnd,
    ProducerId,
    Coordinator,
    Versions,
    /// Of the admin listener.
    Scrape,
    /// Changes settings of its broker, or of all.
    Reconfigure,
    CreateWrongly,
    /// What only tools ask.
    Inspect,
    /// Makes a topic again that was deleted.
    Rebirth,
}

/// How somebody changes topics.
#[derive(Clone, Debug)]
pub struct ChangerShape {
    /// The longest pause between two calls.
    pub pause: Duration,
    /// Which calls it makes, drawn anew for each seed; picked from evenly.
    pub calls: Vec<Change>,
}

/// One kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum Change {
    /// DeleteRecords, and then where the partition begins.
    Trim,
    TrimToEnd,
    Start,
    Configure,
    Describe,
    Grow,
    Wrongly,
}

impl Change {
    /// All of them.
    pub const ALL: [Change; 7] = [
        Change::Trim,
        Change::TrimToEnd,
        Change::Start,
        Change::Configure,
        Change::Describe,
        Change::Grow,
        Change::Wrongly,
    ];
}

/// How a zombie repeats.
#[derive(Clone, Debug)]
pub struct ZombieShape {
    /// The longest pause between two batches.
    pub pause: Duration,
    /// One in so many batches is sent again.
    pub repeats_every: u64,
    /// One in so many batches begins a new epoch, and one of the old epoch comes late.
    pub fences_every: u64,
    /// Records in a batch at most.
    pub batch: u64,
}

/// How a session reads.
#[derive(Clone, Debug)]
pub struct SessionShape {
    /// The version of Fetch that it speaks: from 13 on it names topics by their ids.
    pub version: i16,
    /// How long one fetch waits at the broker.
    pub wait: Duration,
    /// The longest pause between two fetches.
    pub pause: Duration,
    /// Bytes of an answer.
    pub bytes_max: i32,
    /// Bytes of one partition in an answer.
    pub partition_bytes_max: i32,
    /// One in so many steps takes a partition off or on.
    pub changes_every: u64,
    /// One in so many steps begins with a new connection.
    pub renewed_every: u64,
    /// One in so many fetches has another request right behind it.
    pub pipelined_every: u64,
}

impl Call {
    /// All of them.
    pub const ALL: [Call; 17] = [
        Call::Create,
        Call::Delete,
        Call::Metadata,
        Call::MetadataOfUnknown,
        Call::EndByName,
        Call::StartByName,
        Call::OffsetByTime,
        Call::OffsetOfUnknown,
        Call::EpochEnd,
        Call::ProducerId,
        Call::Coordinator,
        Call::Versions,
        Call::Scrape,
        Call::Reconfigure,
        Call::CreateWrongly,
        Call::Inspect,
        Call::Rebirth,
    ];
}

impl ClientShape {
    /// Whether its records are acknowledged, so that it brings the run nearer to its goal.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        let Role::Producer(ProducerShape { options, .. }) = &self.role else { return false };
        // Before version 7 a produce request must not carry zstd.
        let version = self.versions_max.get(&ApiKey::Produce).copied().unwrap_or(i16::MAX);
        options.acks != Acks::None && (options.compression != Compression::Zstd || version >= 7)
    }
}

impl Role {
    /// For people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Role::Producer(_) => "producer",
            Role::Consumer(_) => "consumer",
            Role::Admin(_) => "admin",
            Role::Changer(_) => "changer",
            Role::Zombie(_) => "zombie",
            Role::Member(_) => "member",
            Role::Caretaker(_) => "caretaker",
            Role::Session(_) => "session",
            Role::Limited(_) => "limited",
            Role::Lodger(_) => "lodger",
            Role::Stranger(_) => "stranger",
            Role::Operator(_) => "operator",
            Role::Hauler(_) => "hauler",
        }
    }
}

impl Shape {
    /// Draws the shape of a seed.
    #[must_use]
    pub fn draw(seed: Seed, size: Size) -> Shape {
        let mut random = seed.stream("shape", 0);
        let brokers = match size {
            Size::Small => random.pick(&[1, 1, 1, 2]),
            Size::Full => 3,
        };
        let (goal, chaos) = match size {
            Size::Small => (220..320, Duration::from_secs(6)..Duration::from_secs(10)),
            Size::Full => (1050..1400, Duration::from_secs(60)..Duration::from_secs(66)),
        };
        let (goal, chaos) = (random.within(goal), random.duration(chaos));
        let topics: Vec<TopicShape> = (0..brokers)
            .flat_map(|broker| topic::topics(&mut seed.stream("topics", broker as u64), broker))
            .collect();
        let writers = brokers + random.within(1..3) as usize;
        let readers = brokers + random.below(2) as usize;
        let mut homes: Vec<(usize, u8)> = Vec::new();
        homes.extend((0..writers).map(|number| (number % brokers, 0)));
        homes.extend((0..readers).map(|number| (number % brokers, 1)));
        let fleeting: Vec<usize> = (0..brokers)
            .filter(|&broker| {
                let of_broker = topics.iter().filter(|topic| topic.broker == broker);
                of_broker.into_iter().any(|topic| topic.nature == Nature::Fleeting)
            })
            .collect();
        for (kind, chance) in [(2, 3), (3, 2), (4, 2), (5, 2)] {
            if random.chance(chance, 5) {
                let home = random.below(brokers as u64) as usize;
                // An admin and an operator have most to do where topics come and go.
                let busy = [2, 4].contains(&kind) && !fleeting.is_empty() && random.chance(2, 3);
                homes.push((if busy { random.pick(&fleeting) } else { home }, kind));
            }
        }
        let pace = Pace { chaos, goal, writers: writers as u64 };
        let mut clients: Vec<ClientShape> = Vec::new();
        for (number, (home, kind)) in homes.into_iter().enumerate() {
            let random = &mut seed.stream("client shape", number as u64);
            let role = match kind {
                0 => Role::Producer(producer(random, &pace, number == 0)),
                1 => Role::Consumer(consumer(random, &mut seed.stream("keeper", number as u64))),
                2 => Role::Admin(admin(random, fleeting.contains(&home))),
                3 => Role::Zombie(zombie(random)),
                5 => Role::Session(session(random)),
                _ => Role::Operator(operator::operator(random, chaos)),
            };
            let mut client = client(random, home, role, &topics);
            if matches!(client.role, Role::Admin(_) | Role::Operator(_)) {
                client.topics = (0..topics.len()).filter(|&at| topics[at].broker == home).collect();
            }
            if number == 0 && !client.is_heard() {
                // Somebody must bring the run to its goal.
                client.versions_max.remove(&ApiKey::Produce);
            }
            clients.push(client);
        }
        let crowded = crowd(seed, &topics, &mut clients);
        for broker in 0..brokers {
            let random = &mut seed.stream("changer", broker as u64);
            let may_change = |topic: &&TopicShape| topic.broker == broker && topic.may_change();
            let busy = topics.iter().any(|topic| may_change(&topic));
            if busy && random.chance(2, 3) {
                let role = Role::Changer(changer(random));
                let mut client = client(random, broker, role, &topics);
                client.topics =
                    (0..topics.len()).filter(|&at| topics[at].broker == broker).collect();
                clients.push(client);
            }
        }
        let groups = group::groups(seed, &topics, chaos);
        for (number, one) in groups.iter().enumerate() {
            let random = &mut seed.stream("group", number as u64);
            let members = random.within(1..5) as usize;
            let members =
                (0..members).map(|place| Role::Member(group::member(random, number, place)));
            let mut roles: Vec<Role> = members.collect();
            if random.chance(3, 4) {
                roles.push(Role::Caretaker(group::caretaker(random, number)));
            }
            for role in roles {
                let mut client = client(random, one.broker, role, &topics);
                client.topics.clone_from(&one.topics);
                if let Role::Member(MemberShape { instance, options, .. }) = &client.role {
                    if options.partition_bytes_max.min(options.bytes_max) > LARGE_ANSWER {
                        // A member gives a late answer up and asks for the same again; it must get
                        // through in the end.
                        client.request_timeout = client.request_timeout.max(LARGE_ANSWER_WAIT);
                    }
                    // Everything must be read in the end, and before version 10 a fetch cannot be
                    // answered with zstd.
                    client
                        .versions_max
                        .retain(|api, version| *api != ApiKey::Fetch || *version >= 10);
                    // Older clients have no static members.
                    let statically = instance.is_some();
                    client.versions_max.retain(|api, _| !statically || !GROUP_APIS.contains(api));
                }
                clients.push(client);
            }
        }
        if random.chance(1, 5) {
            let home = random.below(brokers as u64) as usize;
            let random = &mut seed.stream("stranger", 0);
            let role = Role::Stranger(odd::stranger(random));
            clients.push(client(random, home, role, &topics));
        }
        if random.chance(2, 5) {
            let home = random.below(brokers as u64) as usize;
            let random = &mut seed.stream("limited", 0);
            let role = Role::Limited(odd::limited(random));
            clients.push(client(random, home, role, &topics));
        }
        let lodged = group::lodging(seed, size, &groups, brokers);
        if let Some(home) = lodged {
            let random = &mut seed.stream("lodger", 0);
            let role = Role::Lodger(group::lodger(random));
            let mut client = client(random, home, role, &topics);
            // It must be able to read whatever there is.
            client.versions_max.remove(&ApiKey::Fetch);
            clients.push(client);
        }
        let random = &mut seed.stream("hauler", 0);
        let hauled = random.chance(1, 4).then(|| random.below(brokers as u64) as usize);
        let mut queues = false;
        if let Some(home) = hauled {
            let shape = odd::hauler(random);
            queues = shape.queues;
            clients.push(client(random, home, Role::Hauler(shape), &topics));
        }
        let brokers = (0..brokers).map(|broker| {
            let mut host = host(&mut seed.stream("host", broker as u64));
            host.settings.extend(rest(&mut seed.stream("rest", broker as u64)));
            let is_bulky = |client: &ClientShape| match &client.role {
                Role::Producer(shape) => client.home == broker && shape.value_bytes == BULKY,
                _ => false,
            };
            if clients.iter().any(is_bulky)
                && let Some(bytes) = host.settings.get_mut(SEGMENT_BYTES)
            {
                // No batch may be larger than a segment.
                *bytes = "20000".to_owned();
            }
            if crowded == Some(broker) {
                let slots = seed.stream("slots", broker as u64).pick(&["1", "1", "2"]);
                host.settings.insert(SESSION_SLOTS, slots.to_owned());
            }
            if lodged == Some(broker) {
                host.settings.extend([group::offsets_kept()]);
            }
            if hauled == Some(broker) {
                odd::little_memory(&mut seed.stream("request memory", 0), &mut host, queues);
            }
            odd::narrow_door(&mut seed.stream("door", broker as u64), &mut host);
            if fleeting.contains(&broker) {
                // Old clients cannot say that a topic is not to be made by asking for it.
                host.settings.insert("auto.create.topics.enable", "false".to_owned());
            }
            host
        });
        let mut brokers: Vec<BrokerShape> = brokers.collect();
        let disk_bytes = 64 << 20;
        fit(&mut brokers, &mut clients[0]);
        Shape { brokers, groups, clients, topics, chaos, goal, disk_bytes }
    }

    /// The machine of a client.
    #[must_use]
    pub fn machine(&self, client: usize) -> usize {
        self.brokers.len() + client
    }

    /// The clients that keep something on the disks of their machines.
    pub fn keepers(&self) -> impl Iterator<Item = usize> + '_ {
        let clients = self.clients.iter().enumerate();
        let keepers = clients
            .filter(|(_, client)| matches!(&client.role, Role::Consumer(shape) if shape.keeps));
        keepers.map(|(client, _)| client)
    }

    /// The brokers with more readers in sessions than they have room for.
    pub fn crowded(&self) -> impl Iterator<Item = usize> + '_ {
        let sessions = |broker| {
            let mut all = self.clients.iter();
            all.any(|client| client.home == broker && matches!(client.role, Role::Session(_)))
        };
        (0..self.brokers.len()).filter(move |&broker| {
            let slots = self.brokers[broker].settings.get(SESSION_SLOTS);
            sessions(broker) && slots.is_some_and(|slots| slots != "0")
        })
    }

    /// The topics of which retention by size leaves as many bytes as it was told to, since nobody
    /// tells it anything else.
    pub fn kept_bytes(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let topics = self.topics.iter().enumerate().filter(|(at, _)| !self.keeps_less(*at));
        topics.filter_map(|(_, topic)| Some((topic.name.clone(), topic.kept_bytes()?)))
    }

    /// Whether somebody may have retention of a topic take more than its settings say.
    #[must_use]
    pub fn keeps_less(&self, at: usize) -> bool {
        let changes = |client: &ClientShape| {
            matches!(client.role, Role::Changer(_)) && client.topics.contains(&at)
        };
        self.topics[at].may_keep_less() && self.clients.iter().any(changes)
    }

    /// Whether compaction has the memory to come to the end of a broker's topics in one pass.
    #[must_use]
    pub fn has_memory_for_keys(&self, broker: usize) -> bool {
        !self.brokers[broker].settings.contains_key(KEYS_BYTES)
    }

    /// The topics of a broker, as indexes.
    pub fn topics_of(&self, broker: usize) -> impl Iterator<Item = usize> + '_ {
        let topics = self.topics.iter().enumerate();
        topics.filter(move |(_, topic)| topic.broker == broker).map(|(index, _)| index)
    }
}

/// What a member of a group says to its coordinator.
const GROUP_APIS: [ApiKey; 5] = [
    ApiKey::JoinGroup,
    ApiKey::SyncGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::OffsetCommit,
];

/// Has what a producer sends fit into the segments of its broker: larger batches are refused for
/// ever, and this one must bring the run to its goal.
fn fit(brokers: &mut [BrokerShape], client: &mut ClientShape) {
    let Role::Producer(producer) = &mut client.role else { return };
    let Some(bytes) = brokers[client.home].settings.get_mut(SEGMENT_BYTES) else { return };
    let segment: usize = bytes.parse().expect("drawn as a number");
    // With its key and headers, and as much again.
    let segment = segment.max(2 * producer.value_bytes);
    *bytes = segment.to_string();
    producer.options.batch_bytes = producer.options.batch_bytes.min(segment / 2);
}

/// An answer of more bytes may take long over a slow link, and its reader waits at least so long.
const LARGE_ANSWER: i32 = 100_000;
const LARGE_ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Memory of a broker for the keys of a log that is compacted.
const KEYS_BYTES: &str = "log.cleaner.dedupe.buffer.size";
/// How large a segment may become.
const SEGMENT_BYTES: &str = "internal.segment.bytes";
/// How many fetch sessions a core of a broker keeps.
const SESSION_SLOTS: &str = "max.incremental.fetch.session.cache.slots";

/// Now and then a reader in a session has company, more than its broker is to have room for.
/// Returns the broker.
fn crowd(seed: Seed, topics: &[TopicShape], clients: &mut Vec<ClientShape>) -> Option<usize> {
    let random = &mut seed.stream("crowd", 0);
    let of_session = |client: &&ClientShape| matches!(client.role, Role::Session(_));
    let home = clients.iter().find(of_session)?.home;
    if random.chance(1, 2) {
        return None;
    }
    for _ in 0..random.within(1..3) {
        let role = Role::Session(session(random));
        let client = client(random, home, role, topics);
        clients.push(client);
    }
    Some(home)
}

/// How fast the records of a run come: the goal is to be reached about when the chaos ends.
struct Pace {
    chaos: Duration,
    goal: u64,
    writers: u64,
}

fn host(random: &mut Stream) -> BrokerShape {
    let mut settings = BTreeMap::new();
    let mut set = |key, value: String| settings.insert(key, value);
    set("log.retention.check.interval.ms", random.within(300..3000).to_string());
    set("auto.create.topics.enable", random.chance(1, 4).to_string());
    set("log.cleaner.backoff.ms", random.pick(&[0, 200, 2000]).to_string());
    if random.chance(1, 2) {
        set(SEGMENT_BYTES, random.pick(&[1024, 4000, 20_000]).to_string());
    }
    if random.chance(1, 4) {
        set("fetch.max.bytes", random.pick(&[1024, 10_000]).to_string());
    }
    if random.chance(1, 4) {
        set("connections.max.idle.ms", random.pick(&[300, 2000]).to_string());
    }
    if random.chance(1, 4) {
        set("trialog.requests.in.flight.max", random.pick(&[1, 2, 5]).to_string());
    }
    if random.chance(1, 4) {
        set(SESSION_SLOTS, random.pick(&[0, 1]).to_string());
    }
    if random.chance(1, 4) {
        // So few keys that a compaction needs several passes.
        set(KEYS_BYTES, random.pick(&[0, 200, 1000]).to_string());
    }
    let count = random.within(1..4);
    let cores = (0..count).map(|_| random.pick(&[1, 2, 3])).collect();
    // What a full disk leaves is less than this, or enough for a while.
    let mut set = |key, value: u64| settings.insert(key, value.to_string());
    set("trialog.disk.free.min.bytes", random.pick(&[0, 0, 4096, 16_384]));
    set("trialog.disk.free.warn.bytes", random.pick(&[0, 16_384, 60 << 20]));
    let mut broker = BrokerShape { cores, settings, request_memory: None };
    group::settings(random, &mut broker);
    broker
}

/// When partitions rest: never in some runs, all the time in others.
fn rest(random: &mut Stream) -> BTreeMap<&'static str, String> {
    let mut settings = BTreeMap::new();
    if random.chance(2, 3) {
        let idle = random.pick(&[1, 30, 400, 3000]).to_string();
        settings.insert("trialog.partition.idle.ms", idle);
    }
    if random.chance(1, 4) {
        settings.insert("trialog.partitions.open.max", random.pick(&[1, 3]).to_string());
    }
    settings
}

fn client(random: &mut Stream, home: usize, role: Role, all: &[TopicShape]) -> ClientShape {
    let here: Vec<usize> = (0..all.len()).filter(|&topic| all[topic].broker == home).collect();
    let mut topics: BTreeSet<usize> =
        here.iter().copied().filter(|_| random.chance(2, 3)).collect();
    // The first one lasts: something is always there to work on.
    topics.insert(here[0]);
    let mut versions_max = BTreeMap::new();
    let old = random.pick(&[0, 0, 1, 3]);
    for (api, versions) in SERVED {
        let (min, max) = (*versions.start() as u64, *versions.end() as u64);
        // Three ages of clients: of today, with some old habits, and of the first hour.
        if old == 3 {
            versions_max.insert(*api, (min + random.below(3)).min(max) as i16);
        } else if random.chance(old, 2) {
            versions_max.insert(*api, random.within(min..max + 1) as i16);
        }
    }
    let request_timeout = Duration::from_millis(random.pick(&[500, 1500, 5000]));
    ClientShape { home, role, topics: topics.into_iter().collect(), request_timeout, versions_max }
}

/// The size of values with which a log is soon large enough to have room reserved.
const BULKY: usize = 8000;

/// A producer; one that `must_be_heard` asks for acknowledgements.
fn producer(random: &mut Stream, pace: &Pace, must_be_heard: bool) -> ProducerShape {
    let compressions = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let burst = random.pick(&[1, 4, 12, 12, 40]);
    let value_bytes = random.pick(&[8, 8, 8, 100, 100, 2000, 2000, BULKY]);
    // Pauses are half of their longest in the mean; a tenth more than the goal is written.
    let steps = (pace.goal * 11 / 10 / pace.writers * 2 / (burst + 1)).max(1);
    let pause = (pace.chaos * 2 / steps as u32).min(Duration::from_secs(8));
    ProducerShape {
        options: ProducerOptions {
            acks: match random.pick(&[Acks::All, Acks::All, Acks::All, Acks::Leader, Acks::None]) {
                Acks::None if must_be_heard => Acks::Leader,
                acks => acks,
            },
            idempotent: random.chance(4, 5),
            compression: match random.pick(&compressions) {
                // As pictures are.
                _ if value_bytes == BULKY => Compression::None,
                compression => compression,
            },
            batch_bytes: match random.pick(&[200, 4000, 64 * 1024]) {
                most if value_bytes == BULKY => BULKY.min(most),
                most => most,
            },
            linger: Duration::from_millis(random.pick(&[0, 1, 20, 200])),
            delivery_timeout: Duration::from_secs(random.pick(&[2, 15, 60])),
            buffer_bytes: random.pick(&[10_000, 1 << 20, 1 << 20]),
            in_flight: random.pick(&[1, 2, 5, 5]),
        },
        burst,
        pause,
        value_bytes,
        keys: random.pick(&[0, 0, 1, 10, 1000]),
        names_partition: random.chance(2, 3),
        headers: random.pick(&[0, 0, 1, 3]),
        times_around_ms: random.pick(&[0, 0, 5_000, 100_000_000]),
        renewed_every: random.pick(&[u64::MAX, u64::MAX, 30, 5]),
    }
}

fn consumer(random: &mut Stream, keeper: &mut Stream) -> ConsumerShape {
    let wait_max = random.pick(&[0, 50, 500, 500, 2000]);
    let shape = ConsumerShape {
        options: ConsumerOptions {
            wait_max: Duration::from_millis(wait_max),
            bytes_min: random.pick(&[1, 1, 1, 2000]),
            bytes_max: random.pick(&[1000, 100_000, 50 << 20]),
            partition_bytes_max: random.pick(&[300, 20_000, 1 << 20]),
            isolation: random.pick(&[Isolation::ReadUncommitted, Isolation::ReadCommitted]),
            ..ConsumerOptions::default()
        },
        // Without waiting at the broker, a long poll would ask thousands of times.
        poll: Duration::from_millis(if wait_max < 50 { 5 } else { random.pick(&[100, 400, 1000]) }),
        pause: Duration::from_millis(random.pick(&[60, 200, 200, 1000, 5000])),
        seeks_every: random.pick(&[4, 15, 60]),
        changes_every: random.pick(&[u64::MAX, 30, 8]),
        renewed_every: random.pick(&[u64::MAX, 50, 10]),
        keeps: false,
    };
    if keeper.chance(2, 3) {
        return shape;
    }
    ConsumerShape { seeks_every: u64::MAX, changes_every: u64::MAX, keeps: true, ..shape }
}

/// An admin; one that is `busy` deletes and makes topics again and again.
fn admin(random: &mut Stream, busy: bool) -> AdminShape {
    let mut calls: Vec<Call> = Call::ALL.into_iter().filter(|_| random.chance(1, 2)).collect();
    if busy {
        calls.extend([Call::Delete, Call::Delete, Call::Create, Call::Create]);
    }
    if calls.is_empty() {
        calls.push(random.pick(&Call::ALL));
    }
    AdminShape { pause: Duration::from_millis(random.pick(&[100, 500, 2000])), calls }
}

fn changer(random: &mut Stream) -> ChangerShape {
    let mut calls: Vec<Change> = Change::ALL.into_iter().filter(|_| random.chance(2, 3)).collect();
    calls.push(random.pick(&[Change::Trim, Change::Configure, Change::Grow]));
    ChangerShape { pause: Duration::from_millis(random.pick(&[300, 1000, 3000])), calls }
}

fn zombie(random: &mut Stream) -> ZombieShape {
    ZombieShape {
        pause: Duration::from_millis(random.pick(&[100, 500, 2000])),
        repeats_every: random.pick(&[2, 4]),
        fences_every: random.pick(&[5, 20]),
        batch: random.within(1..6),
    }
}

fn session(random: &mut Stream) -> SessionShape {
    SessionShape {
        version: random.pick(&[12, 12, 13, 15, 18]),
        wait: Duration::from_millis(random.pick(&[0, 50, 400])),
        pause: Duration::from_millis(random.pick(&[60, 200, 1000])),
        bytes_max: random.pick(&[1000, 100_000, 50 << 20]),
        partition_bytes_max: random.pick(&[300, 20_000, 1 << 20]),
        changes_every: random.pick(&[u64::MAX, 30, 8]),
        renewed_every: random.pick(&[u64::MAX, 50, 10]),
        pipelined_every: random.pick(&[2, 10]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_draw_every_feature_and_the_same_one_twice() {
        let mut seen = BTreeSet::new();
        // The size by turns: what takes long comes only in full runs.
        for (seed, size) in (0..300).zip([Size::Small, Size::Full].into_iter().cycle()) {
            let shape = Shape::draw(Seed(seed), size);
            let again = Shape::draw(Seed(seed), size);
            assert_eq!(format!("{shape:?}"), format!("{again:?}"));
            for topic in &shape.topics {
                assert!(topic.broker < shape.brokers.len());
                seen.insert(format!("{:?}", topic.nature));
            }
            for client in &shape.clients {
                assert!(!client.topics.is_empty());
                assert!(client.topics.iter().all(|&at| shape.topics[at].broker == client.home));
                let text = format!("{:?}", client.role);
                seen.insert(text.split([' ', '(']).next().expect("a word").to_owned());
            }
            if let Role::Producer(ProducerShape { options, value_bytes, .. }) =
                &shape.clients[0].role
                && let Some(bytes) =
                    shape.brokers[shape.clients[0].home].settings.get(SEGMENT_BYTES)
            {
                let segment: usize = bytes.parse().expect("a number");
                assert!(options.batch_bytes.max(*value_bytes) <= segment / 2, "{seed}");
                seen.insert("a limit for batches".to_owned());
            }
            for broker in 0..shape.brokers.len() {
                let first = shape.topics_of(broker).next().expect("each broker has a topic");
                assert_eq!(shape.topics[first].nature, Nature::Lasting);
            }
        }
        let all = ["Lasting", "Cached", "Trimmed", "Fleeting", "Shortened", "Compacted"];
        let roles = [
            "Changer",
            "Producer",
            "Consumer",
            "Admin",
            "Zombie",
            "Session",
            "Limited",
            "Lodger",
            "Stranger",
            "Operator",
            "Hauler",
            "Member",
            "Caretaker",
        ];
        for feature in all.into_iter().chain(roles).chain(["a limit for batches"]) {
            assert!(seen.contains(feature), "{feature} is never drawn: {seen:?}");
        }
    }
}
