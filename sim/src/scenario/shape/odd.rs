//! What a seed draws of clients that do what no well-behaved client does.

use std::time::Duration;

use trialog_engine::machine::quota::Quota;

use super::BrokerShape;
use crate::seed::Stream;

/// How a stranger asks.
#[derive(Clone, Debug)]
pub struct StrangerShape {
    /// The longest pause between two requests.
    pub pause: Duration,
    /// What is odd about them; picked from evenly.
    pub oddities: Vec<Oddity>,
}

/// What is odd about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oddity {
    /// It is too short, or means nothing.
    Malformed,
    /// Its version is not served.
    Version,
    /// It names a fetch session that is not there.
    SessionOfNobody,
    /// It names a turn of its fetch session that is yet to come.
    SessionEpoch,
    /// It tells of a history that parts from the log's.
    Diverging,
    /// It asks one partition for more than its queue holds.
    Rush,
}

impl Oddity {
    /// All of them.
    pub const ALL: [Oddity; 6] = [
        Oddity::Malformed,
        Oddity::Version,
        Oddity::SessionOfNobody,
        Oddity::SessionEpoch,
        Oddity::Diverging,
        Oddity::Rush,
    ];
}

/// How a client with a quota asks.
#[derive(Clone, Debug)]
pub struct LimitedShape {
    /// What is limited: the bytes that it writes, those that it reads, or the partitions that it makes
    /// and deletes.
    pub quota: Quota,
    /// So much in a second, one of these at a time.
    pub rates: Vec<u64>,
    /// One in so many steps begins with another rate.
    pub changes_every: u64,
    /// How many connections it asks on at the same time.
    pub connections: usize,
    /// The size of what it asks for, in bytes, at most.
    pub size_max: u64,
    /// The longest pause between two steps.
    pub pause: Duration,
}

/// How a client asks whose requests are large.
#[derive(Clone, Debug)]
pub struct HaulerShape {
    /// How many requests it has under way at the same time, each on a connection of its own.
    pub at_once: usize,
    /// One in so many of them takes very long to arrive.
    pub dawdles_every: u64,
    /// The longest pause between two rounds.
    pub pause: Duration,
    /// Whether in the end it asks for all memory with several requests at once, which come so evenly
    /// that nobody may put them out.
    pub queues: bool,
}

/// Memory of a broker for large requests, in bytes.
pub const REQUEST_MEMORY: &str = "queued.max.request.bytes";

pub(super) fn hauler(random: &mut Stream) -> HaulerShape {
    HaulerShape {
        at_once: random.pick(&[2, 4]),
        dawdles_every: random.pick(&[u64::MAX, 2, 6]),
        pause: Duration::from_millis(random.pick(&[500, 2000, 5000])),
        queues: random.chance(1, 3),
    }
}

/// A broker has memory for a few large requests at most.
pub(super) fn little_memory(random: &mut Stream, broker: &mut BrokerShape, queues: bool) {
    let (mut bytes, mut idle_ms) = (random.pick(&[300_000, 600_000]), random.pick(&[2000, 40_000]));
    if queues {
        // All wait at one core, and nobody is idle who waits.
        broker.cores = vec![1];
        (bytes, idle_ms) = (600_000, 40_000);
    }
    broker.request_memory = Some(bytes);
    // What somebody holds who is not there any more has to be free again before the run ends.
    broker.settings.insert("connections.max.idle.ms", idle_ms.to_string());
}

/// The most connections of a broker, and of one address.
pub const DOOR: &str = "max.connections";
/// See [`DOOR`].
pub const DOOR_OF_ADDRESS: &str = "max.connections.per.ip";

/// A broker lets only so many in: fewer than come with a rush, more than all clients need. Only where
/// idle connections are soon closed, because of those who are gone some stay for as long.
pub(super) fn narrow_door(random: &mut Stream, broker: &mut BrokerShape) {
    let idle_ms = broker.settings.get("connections.max.idle.ms").and_then(|ms| ms.parse().ok());
    if idle_ms.is_none_or(|ms: u64| ms > 2000) {
        return;
    }
    match random.below(3) {
        0 => broker.settings.insert(DOOR_OF_ADDRESS, random.pick(&["40", "80"]).to_owned()),
        1 => broker.settings.insert(DOOR, random.pick(&["150", "250"]).to_owned()),
        _ => None,
    };
}

pub(super) fn stranger(random: &mut Stream) -> StrangerShape {
    let mut oddities: Vec<Oddity> =
        Oddity::ALL.into_iter().filter(|_| random.chance(2, 3)).collect();
    oddities.push(random.pick(&Oddity::ALL));
    StrangerShape { pause: Duration::from_millis(random.pick(&[500, 2000, 5000])), oddities }
}

/// The topics that a client makes and deletes whose quota is of that: one for each of its connections,
/// and one for when it has no quota.
pub const LIMITED_TOPICS: [&str; 3] = ["limited-0", "limited-1", "limited-free"];

pub(super) fn limited(random: &mut Stream) -> LimitedShape {
    let quota = random.pick(&[
        Quota::ProducerByteRate,
        Quota::ConsumerByteRate,
        Quota::ControllerMutationRate,
    ]);
    LimitedShape {
        quota,
        rates: match quota {
            Quota::ControllerMutationRate => vec![random.pick(&[1, 2]), random.pick(&[2, 4])],
            _ => vec![random.pick(&[400, 1000]), random.pick(&[1000, 3000])],
        },
        changes_every: random.pick(&[u64::MAX, u64::MAX, 30]),
        connections: random.pick(&[1, 2]),
        size_max: random.pick(&[400, 1200]),
        pause: Duration::from_millis(random.pick(&[100, 400, 3000])),
    }
}
