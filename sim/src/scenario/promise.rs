//! What the topics of a run promise, for the judge.
//!
//! Retention by time goes by wall clocks and by the times that senders give to records, and both may
//! be wrong. How wrong each clock was is known when the run is over: so much is taken off the time for
//! which a record must be there. Where nothing is left of it, anything may go.

use std::time::Duration;

use trialog_jepsen::check::{Expect, Promise, Retention};

use super::shape::{Nature, Role, Shape, TopicShape};
use crate::clock::Off;
use crate::world::World;

const NANOS_PER_MS: i128 = 1_000_000;

/// What the topics of a shape have promised in the run that is over now.
#[must_use]
pub fn expect(shape: &Shape, world: &World) -> Expect {
    let now = world.now();
    let off = |machine| world.machine(machine, |machine| machine.clock.wall_off(now));
    let topics = shape.topics.iter().enumerate();
    let expect = Expect { vacant_groups_go: true, ..Expect::default() };
    topics.fold(expect, |expect, (at, topic)| {
        expect.but(&topic.name, promise(topic, || retention(shape, at, off)))
    })
}

fn promise(topic: &TopicShape, retention: impl Fn() -> Retention) -> Promise {
    match topic.nature {
        Nature::Lasting | Nature::Fleeting | Nature::Shortened => Promise::default(),
        Nature::Compacted => {
            let tombstones_stay = topic.keeps_tombstones();
            Promise { tombstones_stay, retention: retention(), ..Promise::compacted() }
        }
        Nature::Cached => Promise::page_cache(),
        Nature::Trimmed => Promise::retained(retention()),
    }
}

/// For how long a topic keeps its records at least. `off` says how far a machine's clock was off.
fn retention(shape: &Shape, at: usize, off: impl Fn(usize) -> Off) -> Retention {
    let topic = &shape.topics[at];
    if topic.kept_bytes().is_some() || shape.keeps_less(at) {
        return Retention::Anytime;
    }
    let Some(kept_ms) = topic.kept_ms() else { return Retention::Forever };
    let broker = off(topic.broker);
    // How far the time of a record may lie before the moment at which it was sent.
    let back = if topic.stamps() {
        Some(-broker.least)
    } else {
        let writers = shape.clients.iter().enumerate().filter(|(_, one)| one.topics.contains(&at));
        let back = writers.filter_map(|(number, one)| match &one.role {
            Role::Producer(producer) => {
                let around = i128::from(producer.times_around_ms) * NANOS_PER_MS;
                Some(around - off(shape.machine(number)).least)
            }
            _ => None,
        });
        back.max()
    };
    // A topic to which nobody writes has nothing to keep.
    let age = i128::from(kept_ms) * NANOS_PER_MS - broker.most - back.unwrap_or_default();
    match u64::try_from(age) {
        Ok(age) if age > 0 => Retention::AtLeast(Duration::from_nanos(age)),
        _ => Retention::Anytime,
    }
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
