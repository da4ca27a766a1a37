//! Everything that `/metrics` shows, gathered at one go.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::health::{self, Start};
use super::lag::{self, Group};
use super::process::Usage;
use super::recent::Times;
use crate::broker::Core;
use crate::broker::gauge::{Reading, Retired};
use crate::broker::room::{Level, Marks};
use crate::broker::tally::{APIS, Counter, Tally};
use crate::io::Io;
use crate::limit::ADMIN_GROUPS_WAIT;
use crate::machine::{Image, Topic};

/// A broker as it stands.
pub struct Survey {
    /// Its number.
    pub node: i32,
    /// What its process takes of its machine.
    pub usage: Option<Usage>,
    /// Its number of cores.
    pub cores: usize,
    /// The cluster.
    pub image: Arc<Image>,
    /// How far its start has come, and whether that is over.
    pub start: Start,
    /// See [`Survey::start`].
    pub started: bool,
    /// How much room there is on its disk: level, free bytes, and the marks.
    pub room: (Level, Option<u64>, Marks),
    /// Whether it has been told to stop.
    pub stopping: bool,
    /// Where its partitions stand.
    pub readings: Vec<Reading>,
    /// The same by topic.
    pub topics: BTreeMap<Arc<str>, Sum>,
    /// What the topics keep (`cleanup.policy`).
    pub policies: BTreeMap<Arc<str>, &'static str>,
    /// What its partitions did together, those that are closed or gone included.
    pub all: Retired,
    /// Its cores' counters together.
    pub counts: Counts,
    /// How long requests took, and clients had to wait, since the start.
    pub times: Times,
    /// The same of the last minutes.
    pub recent: Times,
    /// By API.
    pub refused: Vec<u64>,
    /// Its consumer groups.
    pub groups: Vec<Group>,
    /// Partitions of `__consumer_offsets` that did not tell their groups.
    pub groups_silent: u64,
}

/// Counters of all cores together.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Counts {
    pub connections: u64,
    pub accepted: u64,
    pub turned_away: u64,
    pub memory_waits: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub fetches_failed: u64,
    pub produces_without_room: u64,
    pub logs_offline: u64,
}

/// The partitions of one topic together.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Sum {
    pub partitions: u64,
    pub messages_in: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub size_bytes: u64,
    pub starts: i64,
    pub ends: i64,
}

/// Looks at everything once.
pub async fn take<I: Io>(core: &Rc<Core<I>>) -> Survey {
    let shared = &core.shared;
    let (groups, groups_silent) = tokio::select! {
        biased; // Answers that are there count, however late it is.
        groups = lag::groups(core) => groups,
        () = core.io.sleep(ADMIN_GROUPS_WAIT) => (Vec::new(), 1),
    };
    let image = shared.image();
    let start = health::start(shared);
    let (readings, all) = shared.gauges.read_all();
    let mut topics: BTreeMap<Arc<str>, Sum> = BTreeMap::new();
    for reading in &readings {
        let sum = topics.entry(reading.topic.clone()).or_default();
        sum.partitions += 1;
        sum.messages_in += reading.messages_in;
        sum.bytes_in += reading.bytes_in;
        sum.bytes_out += reading.bytes_out;
        sum.size_bytes += reading.bytes;
        sum.starts += reading.start.0;
        sum.ends += reading.readable.0;
    }
    let policy = |topic: &Arc<Topic>| {
        let settings = core.topic_config(topic);
        let policy = match (settings.compact, settings.delete) {
            (true, true) => "compact,delete",
            (true, false) => "compact",
            (false, true) => "delete",
            (false, false) => "",
        };
        (topic.name.clone(), policy)
    };
    let policies = image.topics().map(policy).collect();
    let sum = |counter: fn(&Tally) -> &Counter| {
        shared.tallies.iter().map(|tally| counter(tally).get()).sum()
    };
    let times = Times::of(&shared.tallies);
    let recent = core.recent.since(&times);
    let refused =
        |number: usize| shared.tallies.iter().map(|tally| tally.refused.0[number].get()).sum();
    Survey {
        node: shared.node.0,
        usage: shared.admin.and_then(|wish| (wish.usage)()),
        cores: shared.tallies.len(),
        image,
        started: start.is_over(shared.tallies.len()),
        start,
        room: (shared.room.level(), shared.room.free(), core.marks()),
        stopping: *shared.stop.borrow(),
        readings,
        topics,
        policies,
        all,
        counts: Counts {
            connections: sum(|tally| &tally.connections),
            accepted: sum(|tally| &tally.accepted),
            turned_away: sum(|tally| &tally.turned_away),
            memory_waits: sum(|tally| &tally.memory_waits),
            received_bytes: sum(|tally| &tally.received_bytes),
            sent_bytes: sum(|tally| &tally.sent_bytes),
            fetches_failed: sum(|tally| &tally.fetches_failed),
            produces_without_room: sum(|tally| &tally.produces_without_room),
            logs_offline: sum(|tally| &tally.logs_offline),
        },
        times,
        recent,
        refused: (0..APIS).map(refused).collect(),
        groups,
        groups_silent,
    }
}

impl Survey {
    /// How many partitions of this broker cannot be served.
    pub fn offline(&self) -> u64 {
        let failed = self.readings.iter().filter(|one| one.failed).count();
        self.counts.logs_offline + failed as u64
    }

    /// The readable end of every open partition, by topic and number.
    pub fn ends(&self) -> BTreeMap<(&str, i32), i64> {
        let readings = self.readings.iter();
        readings.map(|one| ((&*one.topic, one.partition.0), one.readable.0)).collect()
    }
}
