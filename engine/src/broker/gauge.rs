//! Gauges: where each partition stands, for whoever watches a broker from outside.
//!
//! Each open partition has one; its owner sets it whenever something may have changed, and anybody
//! may read it from any core, without asking the owner. Written with plain stores: on one core they
//! are exact, between cores each number is a recent one, and two of them need not be of the same
//! moment. Nothing in the broker depends on them.
//!
//! A gauge lives as long as its partition, and what else the partition needs while it is in use comes
//! and goes. So the numbers of many gauges lie side by side in one piece of memory, and hold back few
//! pages of what is given up around them when thousands of partitions rest.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clean::Stand;
use super::shard::Key;
use crate::id::{CoreId, LeaderEpoch, Offset, PartitionIndex, TopicId};
use crate::io::Io;
use crate::log::Log;

/// Where one partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its topic's identity: a topic that was made again has another.
    pub topic_id: TopicId,
    /// Its number.
    pub partition: PartitionIndex,
    /// The epoch of its leader, this broker.
    pub epoch: LeaderEpoch,
    /// The first offset that can be read.
    pub start: Offset,
    /// Everything below is on the disk.
    pub flushed: Offset,
    /// Everything below may be read.
    pub readable: Offset,
    /// The offset that the next record will get.
    pub end: Offset,
    /// Bytes of records.
    pub bytes: u64,
    /// Produces that wait for a flush, or are being appended right now.
    pub waiting: u64,
    /// Whether its disk failed.
    pub failed: bool,
    /// The segment that compaction has put in the place of others last since it was opened: its base
    /// offset, and which pass has written it.
    pub compacted: Option<(Offset, u32)>,
    /// Records appended since it was opened.
    pub messages_in: u64,
    /// Bytes of batches appended since then.
    pub bytes_in: u64,
    /// Bytes of batches sent in answers to fetches since then.
    pub bytes_out: u64,
}

/// What partitions did together, those that are closed or gone included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// Records appended.
    pub messages_in: u64,
    /// Bytes of batches appended.
    pub bytes_in: u64,
    /// Bytes of batches sent in answers to fetches.
    pub bytes_out: u64,
}

/// The gauge of one partition. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Gauge {
    topic: Arc<str>,
    block: Arc<Block>,
    place: usize,
}

/// How many gauges lie side by side.
const BLOCK_GAUGES: usize = 32;

/// Gauges of partitions that were opened one after another. It goes with the last of them: a place is
/// not used again.
#[derive(Debug, Default)]
struct Block([Numbers; BLOCK_GAUGES]);

#[derive(Debug, Default)]
struct Numbers {
    /// The end when it was opened.
    opened_at: AtomicI64,
    bytes_in: AtomicU64,
    /// As of when its log was last closed to rest.
    bytes_in_before: AtomicU64,
    bytes_out: AtomicU64,
    epoch: AtomicI32,
    start: AtomicI64,
    flushed: AtomicI64,
    readable: AtomicI64,
    end: AtomicI64,
    bytes: AtomicU64,
    waiting: AtomicU64,
    failed: AtomicBool,
    compacted_base: AtomicI64,
    /// 0 stands for none.
    compacted_generation: AtomicU32,
}

/// The gauges of all open partitions of a broker.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    open: Mutex<Open>,
}

/// In one piece, for the same reason: the nodes of a tree would lie between what is given up. Its
/// hasher has no seed, and nothing may depend on the order of its rows.
type Table = HashMap<Key, Gauge, BuildHasherDefault<DefaultHasher>>;

#[derive(Debug, Default)]
struct Open {
    gauges: Table,
    /// Where each core's next gauge goes, and its place there. Cores write to their own blocks alone:
    /// neighbours share lines of their caches.
    blocks: BTreeMap<CoreId, (Arc<Block>, usize)>,
    /// What those did that are not open any more.
    retired: Retired,
}

impl Retired {
    fn add(&mut self, reading: &Reading) {
        self.messages_in += reading.messages_in;
        self.bytes_in += reading.bytes_in;
        self.bytes_out += reading.bytes_out;
    }
}

impl Gauge {
    /// Where they are.
    fn numbers(&self) -> &Numbers {
        &self.block.0[self.place]
    }

    /// Sets it to where the log stands.
    pub(super) fn set<I: Io>(&self, log: &Log<I>, waiting: usize) {
        let to = self.numbers();
        to.start.store(log.start().0, Ordering::Relaxed);
        to.flushed.store(log.flushed_end().0, Ordering::Relaxed);
        to.readable.store(log.readable_end().0, Ordering::Relaxed);
        to.end.store(log.end().0, Ordering::Relaxed);
        to.bytes.store(log.size_bytes(), Ordering::Relaxed);
        to.waiting.store(waiting as u64, Ordering::Relaxed);
        to.failed.store(log.failure().is_some(), Ordering::Relaxed);
        let (base, generation) = log.newest_compacted().unwrap_or_default();
        to.compacted_base.store(base.0, Ordering::Relaxed);
        to.compacted_generation.store(generation, Ordering::Relaxed);
        let before = to.bytes_in_before.load(Ordering::Relaxed);
        to.bytes_in.store(before + log.appended_bytes(), Ordering::Relaxed);
    }

    /// So many bytes of the partition are sent in an answer. Called from connections' cores.
    pub(super) fn sent(&self, bytes: u64) {
        self.numbers().bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Sets it to where a closed log stands.
    pub(super) fn stand(&self, stand: &Stand) {
        let to = self.numbers();
        to.start.store(stand.start.0, Ordering::Relaxed);
        to.flushed.store(stand.end.0, Ordering::Relaxed);
        to.readable.store(stand.end.0, Ordering::Relaxed);
        to.end.store(stand.end.0, Ordering::Relaxed);
        to.bytes.store(stand.bytes, Ordering::Relaxed);
        to.waiting.store(0, Ordering::Relaxed);
        to.bytes_in_before.store(to.bytes_in.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The topic's name.
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// So many produces wait or are about to be appended: the log on the disk is ahead of this gauge.
    pub(super) fn expect(&self, waiting: usize) {
        self.numbers().waiting.store(waiting as u64, Ordering::Relaxed);
    }

    fn read(&self, (topic_id, partition): Key) -> Reading {
        let of = self.numbers();
        let end = Offset(of.end.load(Ordering::Relaxed));
        let generation = of.compacted_generation.load(Ordering::Relaxed);
        let base = Offset(of.compacted_base.load(Ordering::Relaxed));
        Reading {
            messages_in: u64::try_from(end.0 - of.opened_at.load(Ordering::Relaxed)).unwrap_or(0),
            bytes_in: of.bytes_in.load(Ordering::Relaxed),
            bytes_out: of.bytes_out.load(Ordering::Relaxed),
            topic: self.topic.clone(),
            topic_id,
            partition,
            epoch: LeaderEpoch(of.epoch.load(Ordering::Relaxed)),
            start: Offset(of.start.load(Ordering::Relaxed)),
            flushed: Offset(of.flushed.load(Ordering::Relaxed)),
            readable: Offset(of.readable.load(Ordering::Relaxed)),
            end,
            bytes: of.bytes.load(Ordering::Relaxed),
            waiting: of.waiting.load(Ordering::Relaxed),
            failed: of.failed.load(Ordering::Relaxed),
            compacted: (generation > 0).then_some((base, generation)),
        }
    }
}

impl Gauges {
    /// A gauge of a partition of `topic` that `core` opened with this end, not set yet.
    pub(super) fn make(
        &self,
        core: CoreId,
        topic: Arc<str>,
        epoch: LeaderEpoch,
        end: Offset,
    ) -> Gauge {
        let mut open = self.lock();
        let (block, next) = open.blocks.entry(core).or_default();
        if *next == BLOCK_GAUGES {
            (*block, *next) = (Arc::default(), 0);
        }
        let gauge = Gauge { topic, block: block.clone(), place: *next };
        *next += 1;
        gauge.numbers().epoch.store(epoch.0, Ordering::Relaxed);
        gauge.numbers().opened_at.store(end.0, Ordering::Relaxed);
        gauge
    }

    /// A partition is open from now on.
    pub(super) fn open(&self, key: Key, gauge: Gauge) {
        self.lock().gauges.insert(key, gauge);
    }

    /// A partition is closed or deleted.
    pub(super) fn close(&self, key: Key) {
        let mut open = self.lock();
        if let Some(gauge) = open.gauges.remove(&key) {
            open.retired.add(&gauge.read(key));
        }
    }

    /// All open partitions, by topic identity and number.
    pub(super) fn read(&self) -> Vec<Reading> {
        self.read_all().0
    }

    /// The same, and what all partitions did together, those that are closed included.
    pub(super) fn read_all(&self) -> (Vec<Reading>, Retired) {
        let open = self.lock();
        let read = |(key, gauge): (&Key, &Gauge)| gauge.read(*key);
        let mut readings: Vec<_> = open.gauges.iter().map(read).collect();
        let mut all = open.retired;
        drop(open);
        readings.sort_unstable_by_key(|reading| (reading.topic_id, reading.partition));
        readings.iter().for_each(|reading| all.add(reading));
        (readings, all)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
