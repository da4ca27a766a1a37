//! What the topics of a run promise, for the judge.
//!
//! Retention by time, and the time for which compaction leaves records alone, go by wall clocks and by the
//! times that senders give to records, and both may be wrong. How wrong each clock was is known when the run is over: so much is taken off the time for
//! which a record must be there. Where nothing is left of it, anything may go.

use std::time::Duration;

use trialog_jepsen::check::{Expect, Promise, Retention};

use super::shape::{Nature, Role, Shape};
use crate::clock::Off;
use crate::fault::Fault;
use crate::plan::Plan;
use crate::world::World;

const NANOS_PER_MS: i128 = 1_000_000;

/// What compaction takes, when all is well, after it is due: looks at partitions at rest, at intervals of
/// three seconds at most, before each of its steps.
const TIDYING: Duration = Duration::from_secs(25);
/// What retention takes, when all is well, after it is due: the same looks, and the interval at which it
/// looks itself.
const RETAINING: Duration = Duration::from_secs(12);
/// A broker whose clock was further off at one time than at another is not waited for.
const ASTRAY_MAX: Duration = Duration::from_secs(8);

/// What the topics of a shape have promised in the run that is over now, under the faults of `plan`.
/// Compaction and retention had `waited` before the final reading.
#[must_use]
pub fn expect(shape: &Shape, world: &World, plan: &Plan, waited: Duration) -> Expect {
    let now = world.now();
    let off = |machine| world.machine(machine, |machine| machine.clock.wall_off(now));
    let topics = shape.topics.iter().enumerate();
    let expect = Expect { vacant_groups_go: true, ..Expect::default() };
    topics.fold(expect, |expect, (at, topic)| {
        let tidied = tidied(shape, at, plan, off).filter(|least| *least + TIDYING <= waited);
        let expired = expired(shape, at, plan, off).map(|age| age + RETAINING);
        let promise = Promise { tidied, expired, ..promise(shape, at, plan, off) };
        expect.served(&topic.name, topic.broker as u32).but(&topic.name, promise)
    })
}

/// How long compaction and retention have to be waited for before the final reading.
#[must_use]
pub fn tidying(shape: &Shape, world: &World, plan: &Plan) -> Duration {
    let now = world.now();
    let off = |machine| world.machine(machine, |machine| machine.clock.wall_off(now));
    let topics = 0..shape.topics.len();
    let tidied = topics.clone().filter_map(|at| tidied(shape, at, plan, off)).max();
    let expired = topics.filter_map(|at| expired(shape, at, plan, off)).max();
    let by_size = shape.kept_bytes().next().map(|_| RETAINING);
    let waits = [tidied.map(|least| least + TIDYING), expired.map(|age| age + RETAINING), by_size];
    let longest = waits.into_iter().flatten().max();
    // Clocks may come to be a little further off meanwhile.
    longest.map_or(Duration::ZERO, |longest| longest + Duration::from_secs(1))
}

/// Whether a broker meets rotten bytes in a run: its logs may then be left alone until a restart.
fn meets_rot(plan: &Plan, broker: usize) -> bool {
    let is_rot = |fault: &Fault| {
        matches!(fault, Fault::Rot { .. } | Fault::Misread { .. } | Fault::Misdirected { .. })
            && fault.machines().contains(&broker)
    };
    plan.faults.iter().any(|planned| is_rot(&planned.fault))
}

/// How old a record of a topic is at most, by true time since it was sent, when retention by time finds
/// it too old; none if something may keep retention from it.
fn expired(shape: &Shape, at: usize, plan: &Plan, off: impl Fn(usize) -> Off) -> Option<Duration> {
    let topic = &shape.topics[at];
    let kept_ms = topic.kept_ms().filter(|_| topic.nature == Nature::Trimmed)?;
    if shape.keeps_less(at) || meets_rot(plan, topic.broker) {
        return None;
    }
    let broker = off(topic.broker);
    // How far the time of a record may lie behind the moment at which it was sent.
    let ahead = if topic.stamps() {
        Some(broker.most)
    } else {
        writers(shape, at).map(|(around, machine)| around + off(machine).most).max()
    };
    let astray = ahead.unwrap_or_default() - broker.least;
    let astray = Duration::from_nanos(u64::try_from(astray).unwrap_or_default());
    (astray <= ASTRAY_MAX).then(|| Duration::from_millis(u64::from(kept_ms)) + astray)
}

/// Who writes to a topic: how far around its clock it dates its records, in nanoseconds, and its machine.
fn writers(shape: &Shape, at: usize) -> impl Iterator<Item = (i128, usize)> + '_ {
    let clients = shape.clients.iter().enumerate().filter(move |(_, one)| one.topics.contains(&at));
    clients.filter_map(|(number, one)| match &one.role {
        Role::Producer(producer) => {
            let around = i128::from(producer.times_around_ms) * NANOS_PER_MS;
            Some((around, shape.machine(number)))
        }
        _ => None,
    })
}

/// How old the segments of a topic become before they are closed and compacted, by true time; none if
/// something may keep compaction from it.
fn tidied(shape: &Shape, at: usize, plan: &Plan, off: impl Fn(usize) -> Off) -> Option<Duration> {
    let topic = &shape.topics[at];
    let most_ms = topic.tidied_ms().filter(|_| topic.nature == Nature::Compacted)?;
    if meets_rot(plan, topic.broker) || !shape.has_memory_for_keys(topic.broker) {
        return None;
    }
    let Off { least, most } = off(topic.broker);
    let astray = u64::try_from(most - least).ok().map(Duration::from_nanos)?;
    (astray <= ASTRAY_MAX).then(|| Duration::from_millis(u64::from(most_ms)) + astray)
}

fn promise(shape: &Shape, at: usize, plan: &Plan, off: impl Fn(usize) -> Off) -> Promise {
    let topic = &shape.topics[at];
    match topic.nature {
        Nature::Lasting | Nature::Fleeting | Nature::Shortened => Promise::default(),
        Nature::Compacted => Promise {
            tombstones_stay: topic.keeps_tombstones(),
            compaction_lag: compaction_lag(shape, at, &off),
            retention: retention(shape, at, &off),
            ..Promise::compacted()
        },
        // ACK-3: only the machine can lose it.
        Nature::Cached if plan.keeps_page_cache(topic.broker) => Promise::default(),
        Nature::Cached => Promise::page_cache(),
        Nature::Trimmed => Promise::retained(retention(shape, at, &off)),
    }
}

/// For how long compaction leaves the records of a topic alone at least.
fn compaction_lag(shape: &Shape, at: usize, off: impl Fn(usize) -> Off) -> Duration {
    let lag_ms = shape.topics[at].compaction_lag_ms();
    lag_ms.and_then(|lag_ms| true_age(shape, at, lag_ms, off)).unwrap_or_default()
}

/// For how long a topic keeps its records at least. `off` says how far a machine's clock was off.
fn retention(shape: &Shape, at: usize, off: impl Fn(usize) -> Off) -> Retention {
    let topic = &shape.topics[at];
    if topic.kept_bytes().is_some() || shape.keeps_less(at) {
        return Retention::Anytime;
    }
    let Some(kept_ms) = topic.kept_ms() else { return Retention::Forever };
    true_age(shape, at, kept_ms, off).map_or(Retention::Anytime, Retention::AtLeast)
}

/// The time since the send of a record of a topic was asked for, at least, when its broker takes the
/// record to be so old. None if it may do so at once.
fn true_age(shape: &Shape, at: usize, age_ms: u32, off: impl Fn(usize) -> Off) -> Option<Duration> {
    let topic = &shape.topics[at];
    let broker = off(topic.broker);
    // How far the time of a record may lie before the moment at which it was sent.
    let back = if topic.stamps() {
        Some(-broker.least)
    } else {
        writers(shape, at).map(|(around, machine)| around - off(machine).least).max()
    };
    // A topic to which nobody writes has nothing to keep.
    let age = i128::from(age_ms) * NANOS_PER_MS - broker.most - back.unwrap_or_default();
    u64::try_from(age).ok().filter(|age| *age > 0).map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Size;
    use crate::seed::Seed;

    const MS: i128 = NANOS_PER_MS;

    /// A shape with a topic of which retention by time takes records, and the topic's place.
    fn timed(stamps: bool) -> (Shape, usize) {
        let fits = |shape: &Shape, at: usize| {
            let topic = &shape.topics[at];
            let by_time = topic.nature == Nature::Trimmed && topic.kept_ms().is_some();
            let mut writers = shape.clients.iter().filter(|one| one.topics.contains(&at));
            let written = writers.any(|one| matches!(one.role, Role::Producer(_)));
            by_time && topic.stamps() == stamps && written && !shape.keeps_less(at)
        };
        let mut shapes = (0..).map(|seed| Shape::draw(Seed(seed), Size::Full));
        shapes
            .find_map(|mut shape| {
                let at = (0..shape.topics.len()).find(|&at| fits(&shape, at))?;
                shape.topics[at].configs.insert("retention.ms".to_owned(), "9000".to_owned());
                for client in &mut shape.clients {
                    if let Role::Producer(producer) = &mut client.role {
                        producer.times_around_ms = 0;
                    }
                }
                Some((shape, at))
            })
            .expect("one of all seeds")
    }

    fn off(least: i128, most: i128) -> Off {
        Off { least: least * MS, most: most * MS }
    }

    fn at_least(ms: u64) -> Retention {
        Retention::AtLeast(Duration::from_millis(ms))
    }

    #[test]
    fn what_clocks_were_off_is_taken_off() {
        let (mut shape, at) = timed(false);
        let broker = shape.topics[at].broker;
        let clocks = |broker_off: Off, client_off: Off| {
            move |machine| if machine == broker { broker_off } else { client_off }
        };
        let right = off(0, 0);
        assert_eq!(retention(&shape, at, clocks(right, right)), at_least(9000));
        assert_eq!(retention(&shape, at, clocks(off(-700, 200), right)), at_least(8800));
        assert_eq!(retention(&shape, at, clocks(right, off(-50, 900))), at_least(8950));
        assert_eq!(retention(&shape, at, clocks(off(-9, -5), off(7, 9))), at_least(9012));
        assert_eq!(retention(&shape, at, clocks(off(0, 9000), right)), Retention::Anytime);
        for client in &mut shape.clients {
            if let Role::Producer(producer) = &mut client.role {
                producer.times_around_ms = 3000;
            }
        }
        assert_eq!(retention(&shape, at, clocks(right, off(-50, 0))), at_least(5950));
    }

    #[test]
    fn where_the_broker_gives_times_its_clock_alone_counts() {
        let (shape, at) = timed(true);
        let broker = shape.topics[at].broker;
        let clocks = |machine| if machine == broker { off(100, 400) } else { off(-99_999, 99_999) };
        assert_eq!(retention(&shape, at, clocks), at_least(8700));
    }

    #[test]
    fn compaction_leaves_records_alone_for_as_long_as_clocks_let_it() {
        let (mut shape, at) = timed(true);
        let lag = |shape: &Shape, least, most| {
            compaction_lag(shape, at, |_| off(least, most)).as_millis()
        };
        assert_eq!(lag(&shape, 0, 0), 0);
        shape.topics[at].configs.insert("min.compaction.lag.ms".to_owned(), "5000".to_owned());
        assert_eq!(lag(&shape, 0, 0), 5000);
        assert_eq!(lag(&shape, -300, 900), 3800);
        assert_eq!(lag(&shape, 0, 5000), 0);
        // Nobody changes it who has something to change.
        shape.topics[at].nature = Nature::Compacted;
        let changed = |shape: &Shape| {
            let mut keys = shape.topics[at].alterations().into_iter().map(|(key, _)| key);
            keys.any(|key| key == "min.compaction.lag.ms")
        };
        assert!(!changed(&shape));
        shape.topics[at].configs.remove("min.compaction.lag.ms");
        assert!(changed(&shape));
    }

    #[test]
    fn compaction_comes_in_the_end_unless_something_keeps_it() {
        let (mut shape, at) = timed(true);
        let broker = shape.topics[at].broker;
        shape.topics[at].nature = Nature::Compacted;
        shape.topics[at].configs.insert("max.compaction.lag.ms".to_owned(), "3000".to_owned());
        shape.brokers[broker].settings.remove("log.cleaner.dedupe.buffer.size");
        let nothing = Plan { faults: Vec::new() };
        let judged = |shape: &Shape, plan: &Plan, most| {
            tidied(shape, at, plan, |_| off(0, most)).map(|least| least.as_millis())
        };
        assert_eq!(judged(&shape, &nothing, 0), Some(3000));
        assert_eq!(judged(&shape, &nothing, 700), Some(3700));
        assert_eq!(judged(&shape, &nothing, 9000), None);
        let fault = Fault::Misread { machine: broker, times: 1, lasting: Duration::ZERO };
        let kind = crate::plan::Kind::MisdirectedRead;
        let planned = crate::plan::Planned { at: Duration::ZERO, kind, fault };
        assert_eq!(judged(&shape, &Plan { faults: vec![planned] }, 0), None);
        let mut little = shape.clone();
        little.brokers[broker].settings.insert("log.cleaner.dedupe.buffer.size", "200".to_owned());
        assert_eq!(judged(&little, &nothing, 0), None);
        shape.topics[at].configs.insert("min.compaction.lag.ms".to_owned(), "500".to_owned());
        assert_eq!(judged(&shape, &nothing, 0), None);
    }

    #[test]
    fn retention_comes_in_the_end_unless_something_keeps_it() {
        let (mut shape, at) = timed(false);
        let broker = shape.topics[at].broker;
        let nothing = Plan { faults: Vec::new() };
        let judged = |shape: &Shape, plan: &Plan, broker_off: Off, client_off: Off| {
            let off = |machine| if machine == broker { broker_off } else { client_off };
            expired(shape, at, plan, off).map(|age| age.as_millis())
        };
        let right = off(0, 0);
        assert_eq!(judged(&shape, &nothing, right, right), Some(9000));
        assert_eq!(judged(&shape, &nothing, off(-700, 200), off(-50, 40)), Some(9740));
        assert_eq!(judged(&shape, &nothing, off(-9000, 0), right), None);
        let fault = Fault::Misread { machine: broker, times: 1, lasting: Duration::ZERO };
        let kind = crate::plan::Kind::MisdirectedRead;
        let planned = crate::plan::Planned { at: Duration::ZERO, kind, fault };
        assert_eq!(judged(&shape, &Plan { faults: vec![planned] }, right, right), None);
        for client in &mut shape.clients {
            if let Role::Producer(producer) = &mut client.role {
                producer.times_around_ms = 100_000;
            }
        }
        assert_eq!(judged(&shape, &nothing, right, right), None);
        let (shape, at) = timed(true);
        let age = expired(&shape, at, &nothing, |_| off(-100, 400)).expect("the broker's times");
        assert_eq!(age.as_millis(), 9500);
    }

    #[test]
    fn nothing_is_promised_where_size_counts_or_settings_change() {
        let (mut shape, at) = timed(true);
        let judged = |shape: &Shape| retention(shape, at, |_| off(0, 0));
        let mut by_size = shape.clone();
        by_size.topics[at].configs.insert("retention.bytes".to_owned(), "700".to_owned());
        assert_eq!(judged(&by_size), Retention::Anytime);
        let changers = (0..).map(|seed| Shape::draw(Seed(seed), Size::Full));
        let changer = changers
            .flat_map(|shape| shape.clients)
            .find(|client| matches!(client.role, Role::Changer(_)))
            .expect("one of all seeds");
        shape.clients.push(crate::scenario::shape::ClientShape { topics: vec![at], ..changer });
        assert_eq!(judged(&shape), Retention::Anytime);
        // Of a compacted topic nobody changes what retention takes.
        shape.topics[at].nature = Nature::Compacted;
        assert_eq!(judged(&shape), at_least(9000));
        shape.topics[at].configs.insert("retention.ms".to_owned(), "-1".to_owned());
        assert_eq!(judged(&shape), Retention::Forever);
    }
}
