//! White-box invariants: what must hold inside of the brokers while a run goes on.
//!
//! A [`Watch`] looks at the brokers' gauges (`trialog_engine::broker::Reading`) and at their disks
//! whenever a client is told something, and once in every simulated second besides, and remembers
//! what must still be true later. It draws no randomness, starts no tasks and changes nothing, so
//! that a run with it and one without are the same run. Each violation carries the id of
//! `engine/docs/invariants.md`, and is kept as a [`Sighting`]: with the time and the machine at which
//! it was seen. Where partitions have come to begin it tells, for the history and its judge.
//!
//! It looks some ten thousand times in a run, and between two looks most partitions stand still. One
//! that stands where it stood, and of which nothing more is known to be there, was judged then.
//!
//! [`quota`] judges what clients with a quota were let through, and [`expiry`] how long an offset was
//! kept; those who see it tell it themselves.
//! [`after`] and [`groups`] look at what a last power cut left on the disks, without a broker.

pub mod after;
mod disk;
pub mod expiry;
pub mod groups;
mod offsets;
mod producers;
pub mod quota;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use trialog_engine::broker::Reading;
use trialog_engine::id::{Offset, PartitionIndex};

use crate::world::{Process, World};

/// How long between two looks at the disks, in simulated nanoseconds.
const DISK_EVERY: u64 = 200_000_000;
/// More room than any mark of any run asks for, in bytes.
const ROOM_AMPLE: u64 = 128 << 10;
/// How long a broker may refuse records for want of room when there is ample room, in simulated
/// nanoseconds: it looks once a second, on a disk that may stall for a while.
const ROOM_UNSEEN_MAX: u64 = 20_000_000_000;
/// Violations that are kept; the first ones tell the most.
const VIOLATIONS_MAX: usize = 20;

/// What must hold and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's id.
    pub id: &'static str,
    /// What was seen.
    pub text: String,
}

/// Something wrong that no history shows, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// When, in simulated nanoseconds. It may have become wrong a while before.
    pub at: u64,
    /// On which machine; none if it is no matter of one machine.
    pub machine: Option<usize>,
    /// What found it: the id of an invariant, or the name of a complaint.
    pub found_by: &'static str,
    /// What was seen.
    pub text: String,
}

/// What becomes of the records of a topic that flushes before it acknowledges, and is never deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// They stay.
    Everything,
    /// They go from the front.
    TheRest,
    /// Those go whose key has a later one.
    TheLatest,
}

/// A partition of a topic by name: names are unique over all brokers of a run.
pub(crate) type Part = (String, PartitionIndex);

/// What is known of all brokers, and what was wrong. See the module's head.
#[derive(Debug, Default)]
pub struct Watch {
    /// Topics that flush before they acknowledge and are never deleted.
    lasting: BTreeMap<String, Lasting>,
    /// Of topics that retention trims by size: how many bytes it must leave.
    kept_bytes: BTreeMap<String, u64>,
    /// What each machine's broker showed when it was looked at last.
    seen: BTreeMap<usize, Look>,
    /// What the partitions of each broker's running process last stood at, those included that it
    /// does not have any more.
    last: BTreeMap<(u64, Part), Reading>,
    /// The newest epoch that each partition of these ever had, and whose it was.
    epochs: BTreeMap<Part, (i32, u64)>,
    /// Partitions whose floor was raised since they were judged.
    raised: Vec<Part>,
    /// At which points the checkpoints of those that keep everything have been judged, by each process.
    points: BTreeMap<(u64, Part), Option<Offset>>,
    disk_seen: BTreeMap<usize, u64>,
    /// Partitions whose start was elsewhere when it was last looked at, with where it is.
    moved: Vec<(Part, Offset)>,
    /// Since when processes of brokers have refused records although there is ample room.
    refusing: BTreeMap<u64, u64>,
    /// How often requests have waited for memory in each process.
    waits: BTreeMap<u64, u64>,
    violations: Vec<Sighting>,
}

/// What is known of a topic.
#[derive(Debug)]
struct Lasting {
    keeps: Keeps,
    /// The floors of its partitions: below, everything was acknowledged or read.
    floors: BTreeMap<PartitionIndex, Offset>,
}

/// All that one look at a broker was given.
#[derive(Debug)]
struct Look {
    process: u64,
    readings: Vec<Reading>,
    hurt: bool,
}

impl Watch {
    /// A watch over brokers with these topics that flush before they acknowledge and are never deleted,
    /// and with topics of which retention by size leaves so many bytes.
    #[must_use]
    pub fn new(
        lasting: impl IntoIterator<Item = (String, Keeps)>,
        kept_bytes: impl IntoIterator<Item = (String, u64)>,
    ) -> Watch {
        let unknown = |keeps| Lasting { keeps, floors: BTreeMap::new() };
        let lasting = lasting.into_iter().map(|(name, keeps)| (name, unknown(keeps))).collect();
        Watch { lasting, kept_bytes: kept_bytes.into_iter().collect(), ..Watch::default() }
    }

    /// A record was acknowledged, or read: it is there from now on, if its topic is lasting.
    pub fn proven(&mut self, topic: &str, partition: PartitionIndex, offset: Offset) {
        let Some(Lasting { floors, .. }) = self.lasting.get_mut(topic) else { return };
        let floor = floors.entry(partition).or_default();
        if *floor > offset {
            return;
        }
        *floor = offset.plus(1);
        let is_it = |part: &Part| part.1 == partition && part.0 == topic;
        if !self.raised.iter().any(is_it) {
            self.raised.push((topic.to_owned(), partition));
        }
    }

    /// Looks at a running broker with its data in `data`. `hurt` says that its disk has done what a
    /// log may take for final; being full is not that.
    pub fn look(
        &mut self,
        world: &World,
        broker: Process,
        data: &std::path::Path,
        now: Vec<Reading>,
        hurt: bool,
    ) {
        let at = world.now();
        let disk_due =
            self.disk_seen.get(&broker.machine).is_none_or(|seen| at >= seen + DISK_EVERY);
        let before = self.seen.remove(&broker.machine);
        let before = before.filter(|seen| (seen.process, seen.hurt) == (broker.number, hurt));
        let before = before.map(|seen| seen.readings).unwrap_or_default();
        for (place, reading) in now.iter().enumerate() {
            let stands = before.get(place) == Some(reading) && !self.is_raised(reading);
            if !stands || (disk_due && self.lasting.contains_key(&*reading.topic)) {
                self.judge(world, broker, data, reading, hurt, disk_due);
            }
        }
        self.seen.insert(broker.machine, Look { process: broker.number, readings: now, hurt });
        if disk_due {
            self.disk_seen.insert(broker.machine, at);
        }
    }

    /// Whether more is known to be in a partition than when it was judged.
    fn is_raised(&self, reading: &Reading) -> bool {
        let mut raised = self.raised.iter();
        raised.any(|(topic, index)| *index == reading.partition && **topic == *reading.topic)
    }

    /// Judges one partition.
    fn judge(
        &mut self,
        world: &World,
        broker: Process,
        data: &std::path::Path,
        reading: &Reading,
        hurt: bool,
        disk_due: bool,
    ) {
        let key = (broker.number, (reading.topic.to_string(), reading.partition));
        let (number, part) = (key.0, &key.1);
        self.raised.retain(|raised| raised != part);
        let before = self.last.get(&key);
        if before.map_or(Offset(0), |before| before.start) != reading.start {
            self.moved.push((part.clone(), reading.start));
        }
        let mut wrong = offsets::check(reading, before);
        if let Some(kept) = self.kept_bytes.get(&part.0) {
            wrong.extend(offsets::check_kept(reading, before, *kept));
        }
        if let Some(Lasting { keeps, floors }) = self.lasting.get(&part.0) {
            let newest = self.epochs.entry(part.clone()).or_insert((reading.epoch.0, number));
            wrong.extend(offsets::check_epoch(reading, number, newest));
            wrong.extend(offsets::check_floor(reading, floors.get(&part.1)));
            if disk_due {
                let dir = folder(data, reading);
                // What compaction writes comes beside what is there.
                if *keeps != Keeps::TheLatest {
                    wrong.extend(disk::check(world, broker.machine, &dir, reading));
                }
                if *keeps == Keeps::Everything {
                    let judged = self.points.entry(key.clone()).or_default();
                    wrong.extend(producers::check(world, broker.machine, &dir, reading, judged));
                }
            }
        }
        wrong.extend(disk::check_named(world, broker.machine, data, reading, before));
        wrong.extend(check_room(reading, hurt));
        let at = world.now();
        for violation in wrong {
            self.report(at, broker.machine, violation);
        }
        self.last.insert(key, reading.clone());
    }

    /// The partitions whose start has moved since this was asked last, with where it is. A process
    /// that is looked at for the first time counts as one whose starts have moved.
    pub fn take_moved(&mut self) -> Vec<(Part, Offset)> {
        std::mem::take(&mut self.moved)
    }

    /// Whether a request has waited for memory in a broker's process since it was last asked, which by
    /// then have waited so often.
    pub fn lacks_memory(&mut self, broker: Process, waits: u64) -> bool {
        self.waits.insert(broker.number, waits).unwrap_or(0) < waits
    }

    /// ROOM-1: a broker takes records again once there is room. Looks at a running one that refuses
    /// them, or does not.
    pub fn look_at_room(&mut self, world: &World, broker: Process, refuses: bool) {
        let ample = || world.machine(broker.machine, |machine| machine.disk.free()) >= ROOM_AMPLE;
        if !refuses || !ample() {
            self.refusing.remove(&broker.number);
            return;
        }
        let now = world.now();
        let since = *self.refusing.entry(broker.number).or_insert(now);
        if now - since > ROOM_UNSEEN_MAX {
            self.refusing.insert(broker.number, now);
            let seconds = ROOM_UNSEEN_MAX / 1_000_000_000;
            let text = format!("a broker takes no records after {seconds} s with ample room");
            self.report(now, broker.machine, Violation { id: "ROOM-1", text });
        }
    }

    /// DOOR-1: a broker serves no more connections than it may, of all and of one address. Each core may
    /// hold one more of each listener, that waits to be let in.
    pub fn look_at_door(
        &mut self,
        world: &World,
        broker: Process,
        ports: &[u16],
        cores: u16,
        (most, most_of): (usize, usize),
    ) {
        let peers = world.net(|net| {
            let accepted = |port: &u16| net.accepted(broker.machine, broker.number, *port);
            ports.iter().flat_map(accepted).collect::<Vec<_>>()
        });
        let mut of: BTreeMap<IpAddr, usize> = BTreeMap::new();
        peers.iter().for_each(|peer| *of.entry(*peer).or_default() += 1);
        let waiting = ports.len() * usize::from(cores);
        let mut wrong = Vec::new();
        if peers.len() > most.saturating_add(waiting) {
            wrong.push(format!("{} connections, {most} at most", peers.len()));
        }
        for (address, count) in of {
            if count > most_of.saturating_add(waiting) {
                wrong.push(format!("{count} connections of {address}, {most_of} at most"));
            }
        }
        for text in wrong {
            self.report(world.now(), broker.machine, Violation { id: "DOOR-1", text });
        }
    }

    /// Something else that must hold does not, as was seen `at` that time on this machine.
    pub fn report(&mut self, at: u64, machine: usize, violation: Violation) {
        let Violation { id: found_by, text } = violation;
        let known =
            self.violations.iter().any(|seen| seen.found_by == found_by && seen.text == text);
        if self.violations.len() < VIOLATIONS_MAX && !known {
            self.violations.push(Sighting { at, machine: Some(machine), found_by, text });
        }
    }

    /// What was wrong so far, in the order in which it was seen.
    #[must_use]
    pub fn violations(&self) -> &[Sighting] {
        &self.violations
    }
}

/// The folder of a partition in a data folder.
pub(crate) fn folder(data: &std::path::Path, reading: &Reading) -> PathBuf {
    let name = format!("{}-{}", reading.topic_id, reading.partition);
    data.join("topics").join(&*reading.topic).join(name)
}

/// ROOM-1: a log is never put out of use by a disk that only lacks room.
fn check_room(reading: &Reading, hurt: bool) -> Option<Violation> {
    (reading.failed && !hurt).then(|| Violation {
        id: "ROOM-1",
        text: format!("the log of {} is out of use, and its disk never failed", name(reading)),
    })
}

/// `topic/partition`, for sentences.
fn name(reading: &Reading) -> String {
    format!("{}/{}", reading.topic, reading.partition)
}
