//! What a run was entitled to: the promises that its topics made, for the checkers to hold them to.
//!
//! The default is the strictest: an acknowledgement means durable, nothing is ever deleted, and the
//! run ends with a reading of everything. A workload that mixes topics names those that differ.
//! What single producers asked for (acks, idempotence) stands in the history itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::history::Acks;

/// What a run was entitled to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The history ends with a reading of everything (after [`crate::history::Op::Final`] if that
    /// is marked).
    pub caught_up: bool,
    /// A group with neither members nor offsets is forgotten, so that its generations may begin anew
    /// whenever nothing is committed (brokers look for such groups every
    /// `offsets.retention.check.interval.ms`).
    pub vacant_groups_go: bool,
    /// What topics promise that are not named in `topics`.
    pub promise: Promise,
    /// Topics that promise something else, by name.
    pub topics: BTreeMap<String, Promise>,
    /// The node whose process serves a topic and the groups that read it, where no other one does, by the
    /// topic's name: what was asked of that process and not answered ends with it.
    pub nodes: BTreeMap<String, u32>,
}

/// What one topic promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The weakest acks whose acknowledgement survives whatever the nemesis did. `None`: no
    /// acknowledgement does, and only the final reading is evidence of what the log holds.
    pub durable: Option<Acks>,
    /// An idempotent producer's values are stored at most once, and in their order.
    pub idempotent: bool,
    /// Every offset holds a record: no transactions, no compaction.
    pub dense: bool,
    /// How long records are kept.
    pub retention: Retention,
    /// When nothing was sent to a partition for so long, before the final reading, all its records are
    /// gone.
    pub expired: Option<Duration>,
    /// A record may go once its key has a later one; see [`super::Anomaly::Compaction`].
    pub compacted: bool,
    /// In a compacted topic: how long a record is kept, from when its send was asked for, whatever comes
    /// after it. As for [`Retention::AtLeast`], what clocks may be off is taken off.
    pub compaction_lag: Duration,
    /// In a compacted topic: before the final reading compaction had the time to come to all that is not in
    /// the last segment. A record is not when another was asked to be stored so much later than it was
    /// acknowledged.
    pub tidied: Option<Duration>,
    /// In a compacted topic: a tombstone stays until its key has a later record, because the run is
    /// shorter than `delete.retention.ms`.
    pub tombstones_stay: bool,
}

/// What may take records away from the front of a partition, beside a trim that a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Nothing.
    Forever,
    /// A record may go from the front when this long has passed since its send was asked for. Only
    /// where it is known how far clocks and record times may be off, with that taken off.
    AtLeast(Duration),
    /// Anything, from the front on (retention by size, or clocks that nobody can tell).
    Anytime,
}

impl Default for Expect {
    fn default() -> Expect {
        Expect {
            caught_up: true,
            vacant_groups_go: false,
            promise: Promise::default(),
            topics: BTreeMap::new(),
            nodes: BTreeMap::new(),
        }
    }
}

impl Expect {
    /// The same promise of every topic.
    #[must_use]
    pub fn of_all(promise: Promise) -> Expect {
        Expect { promise, ..Expect::default() }
    }

    /// This, but for one topic.
    #[must_use]
    pub fn but(mut self, topic: &str, promise: Promise) -> Expect {
        self.topics.insert(topic.to_owned(), promise);
        self
    }

    /// This, and one node serves a topic.
    #[must_use]
    pub fn served(mut self, topic: &str, node: u32) -> Expect {
        self.nodes.insert(topic.to_owned(), node);
        self
    }

    /// What a topic promises.
    #[must_use]
    pub fn of(&self, topic: &str) -> &Promise {
        self.topics.get(topic).unwrap_or(&self.promise)
    }
}

impl Default for Promise {
    fn default() -> Promise {
        Promise {
            durable: Some(Acks::Leader),
            idempotent: true,
            dense: true,
            retention: Retention::Forever,
            expired: None,
            compacted: false,
            compaction_lag: Duration::ZERO,
            tidied: None,
            tombstones_stay: false,
        }
    }
}

impl Promise {
    /// No acknowledgement survives a power cut.
    #[must_use]
    pub fn page_cache() -> Promise {
        Promise { durable: None, ..Promise::default() }
    }

    /// The last record of each key is kept.
    #[must_use]
    pub fn compacted() -> Promise {
        Promise { compacted: true, dense: false, ..Promise::default() }
    }

    /// Records go from the front.
    #[must_use]
    pub fn retained(retention: Retention) -> Promise {
        Promise { retention, ..Promise::default() }
    }
}
