//! What a seed draws of consumer groups: which there are, and what their members and those who look
//! after them do.

use std::ops::Range;
use std::time::Duration;

use trialog_engine::client::{ConsumerOptions, GroupOptions, Start, Strategy};

use super::{BrokerShape, Nature, TopicShape};
use crate::scenario::Size;
use crate::seed::{Seed, Stream};

/// One consumer group.
#[derive(Clone, Debug)]
pub struct GroupShape {
    /// Its name, unique over all brokers.
    pub name: String,
    /// The index of its broker.
    pub broker: usize,
    /// What it reads, as indexes.
    pub topics: Vec<usize>,
    /// How partitions are shared out.
    pub strategy: Strategy,
    /// How long a member may be silent.
    pub session: Duration,
    /// How long the group waits for a member in a rebalance.
    pub rebalance: Duration,
    /// When all members leave and stay away, from the beginning of the run.
    pub rest: Option<Range<Duration>>,
}

/// How a member of a group behaves.
#[derive(Clone, Debug)]
pub struct MemberShape {
    /// The group, as an index.
    pub group: usize,
    /// A static member's own name.
    pub instance: Option<String>,
    /// How it reads.
    pub options: ConsumerOptions,
    /// How it commits.
    pub commits: Commits,
    /// How long one poll lasts at most.
    pub poll: Duration,
    /// The longest pause between two polls.
    pub pause: Duration,
    /// How long it may go without a poll.
    pub poll_interval: Duration,
    /// How often a leader looks for new partitions.
    pub metadata_max_age: Duration,
    /// One in so many steps is followed by a sleep that is longer than that.
    pub dozes_every: u64,
    /// One in so many steps begins with a new member.
    pub renewed_every: u64,
    /// Whether it leaves when it ends, or is only missed.
    pub leaves: bool,
}

/// When a member commits what it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commits {
    /// After each poll that brought something.
    EachPoll,
    /// Once so much time has passed, and when partitions are taken from it.
    Every(Duration),
}

/// How somebody keeps an offset for a while.
#[derive(Clone, Debug)]
pub struct LodgerShape {
    /// How long it is in its group after it has committed; none if it never joins.
    pub stays: Option<Duration>,
    /// The longest pause between two looks.
    pub pause: Duration,
}

/// How somebody looks after a group.
#[derive(Clone, Debug)]
pub struct CaretakerShape {
    /// The group, as an index.
    pub group: usize,
    /// The longest pause between two calls.
    pub pause: Duration,
    /// Which calls it makes; picked from evenly.
    pub calls: Vec<Care>,
}

/// One kind of call about groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum Care {
    List,
    Describe,
    Committed,
    Reset,
    /// Deletes the group, if nobody is in it, or one of its offsets, if nobody reads the topic.
    Delete,
    Forget,
    /// Commits for a group of its own, of which nothing is promised: its offsets may expire.
    CommitForMayfly,
    ForgetMayfly,
    DeleteMayfly,
    JoinWrongly,
    /// Is a member of another group for a while, as no client is.
    PlayPuppet,
    /// Has the topic of consumer groups closed often and compacted soon.
    CompactOffsets,
    /// Commits for a topic that was just made, and looks whether that stays.
    Settle,
}

impl Care {
    /// All of them.
    pub const ALL: [Care; 13] = [
        Care::List,
        Care::Describe,
        Care::Committed,
        Care::Reset,
        Care::Delete,
        Care::Forget,
        Care::CommitForMayfly,
        Care::ForgetMayfly,
        Care::DeleteMayfly,
        Care::JoinWrongly,
        Care::PlayPuppet,
        Care::CompactOffsets,
        Care::Settle,
    ];
}

impl GroupShape {
    /// The options of one of its members.
    #[must_use]
    pub fn options(&self, member: &MemberShape) -> GroupOptions {
        GroupOptions {
            instance: member.instance.clone(),
            strategy: self.strategy,
            session_timeout: self.session,
            rebalance_timeout: self.rebalance,
            heartbeat: self.session / 4,
            poll_interval: member.poll_interval,
            metadata_max_age: member.metadata_max_age,
            start: Start::Earliest,
            consumer: member.options.clone(),
            ..GroupOptions::new(&self.name)
        }
    }
}

/// How long a broker with a lodger keeps offsets that are of no use any more: as short as it can be.
pub const OFFSETS_KEPT: Duration = Duration::from_secs(60);

/// The setting that says so.
pub(super) fn offsets_kept() -> (&'static str, String) {
    (RETENTION, (OFFSETS_KEPT.as_secs() / 60).to_string())
}

/// How long offsets are kept.
const RETENTION: &str = "offsets.retention.minutes";

/// What a broker is told about groups.
pub(super) fn settings(random: &mut Stream, broker: &mut BrokerShape) {
    let mut set = |key, value: i64| broker.settings.insert(key, value.to_string());
    // Which groups lie where is not what is on trial; fifty partitions cost much at every start.
    set("offsets.topic.num.partitions", random.pick(&[1, 1, 2, 5]));
    // Clocks jump here by years; what expires says so itself.
    set(RETENTION, i64::from(i32::MAX));
    set("offsets.retention.check.interval.ms", random.pick(&[200, 2000]));
    set("group.min.session.timeout.ms", 100);
    set("group.initial.rebalance.delay.ms", random.pick(&[0, 0, 300, 2000]));
    if random.chance(1, 8) {
        set("group.max.size", random.pick(&[1, 2]));
    }
    if random.chance(1, 8) {
        set("offset.metadata.max.bytes", 10);
    }
}

/// The groups of a seed: one in every second, two now and then.
pub(super) fn groups(seed: Seed, topics: &[TopicShape], chaos: Duration) -> Vec<GroupShape> {
    let random = &mut seed.stream("groups", 0);
    let brokers = topics.iter().map(|topic| topic.broker).max().map_or(0, |last| last as u64 + 1);
    let count = random.pick(&[0, 0, 0, 1, 1, 1, 1, 2]).min(brokers);
    let first = random.below(brokers);
    let broker = |number| ((first + number) % brokers) as usize;
    (0..count).map(|number| group(random, broker(number), topics, chaos)).collect()
}

fn group(random: &mut Stream, broker: usize, topics: &[TopicShape], chaos: Duration) -> GroupShape {
    let of_broker = (0..topics.len()).filter(|&at| topics[at].broker == broker);
    let mut read: Vec<usize> = Vec::new();
    for at in of_broker {
        // The first one lasts: something is always there to read.
        let chance = if topics[at].nature == Nature::Fleeting { 1 } else { 2 };
        if read.is_empty() || random.chance(chance, 3) {
            read.push(at);
        }
    }
    let session = Duration::from_millis(random.pick(&[800, 2000, 6000]));
    let rest = random.chance(1, 2).then(|| {
        let begin = random.duration(chaos / 4..chaos * 3 / 4);
        begin..begin + random.duration(chaos / 20..chaos / 8)
    });
    GroupShape {
        name: format!("group-{broker}"),
        broker,
        topics: read,
        strategy: random.pick(&[Strategy::Range, Strategy::CooperativeSticky]),
        session,
        rebalance: Duration::from_millis(random.pick(&[1500, 5000])),
        rest,
    }
}

/// Member number `number` of a group.
pub(super) fn member(random: &mut Stream, group: usize, number: usize) -> MemberShape {
    let wait_max = random.pick(&[200, 500, 1500]);
    MemberShape {
        group,
        instance: random.chance(1, 3).then(|| format!("member-{number}")),
        options: ConsumerOptions {
            wait_max: Duration::from_millis(wait_max),
            bytes_max: random.pick(&[1000, 100_000, 50 << 20]),
            partition_bytes_max: random.pick(&[300, 20_000, 1 << 20]),
            ..ConsumerOptions::default()
        },
        commits: match random.below(4) {
            0 | 1 => Commits::EachPoll,
            _ => Commits::Every(Duration::from_millis(random.pick(&[500, 2000, 5000]))),
        },
        poll: Duration::from_millis(random.pick(&[300, 1000])),
        pause: Duration::from_millis(random.pick(&[50, 200, 1000])),
        poll_interval: Duration::from_millis(random.pick(&[2500, 6000])),
        metadata_max_age: Duration::from_millis(random.pick(&[1000, 5000])),
        dozes_every: random.pick(&[u64::MAX, 60, 15]),
        renewed_every: random.pick(&[u64::MAX, 60, 15]),
        leaves: random.chance(2, 3),
    }
}

/// The broker with a lodger, if any has one: no other group may be there, since offsets of it would go as
/// well, and a run must be long enough.
pub(super) fn lodging(
    seed: Seed,
    size: Size,
    groups: &[GroupShape],
    brokers: usize,
) -> Option<usize> {
    let random = &mut seed.stream("lodging", 0);
    let is_free = |broker: &usize| groups.iter().all(|group| group.broker != *broker);
    let free: Vec<usize> = (0..brokers).filter(is_free).collect();
    let may_be = size == Size::Full && !free.is_empty() && random.chance(1, 3);
    may_be.then(|| random.pick(&free))
}

/// Somebody who keeps an offset for a while: for a moment, for a good part of the run, or all the time.
pub(super) fn lodger(random: &mut Stream) -> LodgerShape {
    let stays = [None, Some(1), Some(12), Some(1000)];
    LodgerShape {
        stays: random.pick(&stays).map(Duration::from_secs),
        pause: Duration::from_millis(random.pick(&[300, 1000, 2500])),
    }
}

/// Somebody who looks after a group.
pub(super) fn caretaker(random: &mut Stream, group: usize) -> CaretakerShape {
    let mut calls: Vec<Care> = Care::ALL.into_iter().filter(|_| random.chance(1, 2)).collect();
    calls.push(random.pick(&[Care::Committed, Care::Reset]));
    CaretakerShape { group, pause: Duration::from_millis(random.pick(&[300, 1000, 3000])), calls }
}
