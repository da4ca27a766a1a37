//! Gauges: where each partition stands, for whoever watches a broker from outside.
//!
//! Each open partition has one; its owner sets it whenever something may have changed, and anybody
//! may read it from any core, without asking the owner. Written with plain stores: on one core they
//! are exact, between cores each number is a recent one, and two of them need not be of the same
//! moment. Nothing in the broker depends on them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::shard::Key;
use crate::id::{LeaderEpoch, Offset, PartitionIndex, TopicId};
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
}

/// The gauge of one partition.
#[derive(Debug)]
pub(super) struct Gauge {
    topic: Arc<str>,
    epoch: AtomicI32,
    start: AtomicI64,
    flushed: AtomicI64,
    readable: AtomicI64,
    end: AtomicI64,
    bytes: AtomicU64,
    waiting: AtomicU64,
    failed: AtomicBool,
}

/// The gauges of all open partitions of a broker.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    open: Mutex<BTreeMap<Key, Arc<Gauge>>>,
}

impl Gauge {
    /// A gauge of a partition of `topic`, not set yet.
    pub(super) fn new(topic: Arc<str>, epoch: LeaderEpoch) -> Arc<Gauge> {
        Arc::new(Gauge {
            topic,
            epoch: AtomicI32::new(epoch.0),
            start: AtomicI64::default(),
            flushed: AtomicI64::default(),
            readable: AtomicI64::default(),
            end: AtomicI64::default(),
            bytes: AtomicU64::default(),
            waiting: AtomicU64::default(),
            failed: AtomicBool::default(),
        })
    }

    /// Sets it to where the log stands.
    pub(super) fn set<I: Io>(&self, log: &Log<I>, waiting: usize) {
        self.start.store(log.start().0, Ordering::Relaxed);
        self.flushed.store(log.flushed_end().0, Ordering::Relaxed);
        self.readable.store(log.readable_end().0, Ordering::Relaxed);
        self.end.store(log.end().0, Ordering::Relaxed);
        self.bytes.store(log.size_bytes(), Ordering::Relaxed);
        self.waiting.store(waiting as u64, Ordering::Relaxed);
        self.failed.store(log.failure().is_some(), Ordering::Relaxed);
    }

    /// So many produces wait or are about to be appended: the log on the disk is ahead of this gauge.
    pub(super) fn expect(&self, waiting: usize) {
        self.waiting.store(waiting as u64, Ordering::Relaxed);
    }

    fn read(&self, (topic_id, partition): Key) -> Reading {
        Reading {
            topic: self.topic.clone(),
            topic_id,
            partition,
            epoch: LeaderEpoch(self.epoch.load(Ordering::Relaxed)),
            start: Offset(self.start.load(Ordering::Relaxed)),
            flushed: Offset(self.flushed.load(Ordering::Relaxed)),
            readable: Offset(self.readable.load(Ordering::Relaxed)),
            end: Offset(self.end.load(Ordering::Relaxed)),
            bytes: self.bytes.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

impl Gauges {
    /// A partition is open from now on.
    pub(super) fn open(&self, key: Key, gauge: Arc<Gauge>) {
        self.lock().insert(key, gauge);
    }

    /// A partition is closed or deleted.
    pub(super) fn close(&self, key: Key) {
        self.lock().remove(&key);
    }

    /// All open partitions, by topic identity and number.
    pub(super) fn read(&self) -> Vec<Reading> {
        self.lock().iter().map(|(key, gauge)| gauge.read(*key)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Gauge>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
