//! An operator: stops brokers in order, one after the other, so that they start with as many cores
//! as their next start draws (a rolling restart). Some choose bad moments.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::{join, join_all};
use trialog_engine::id::PartitionIndex;
use trialog_engine::io::Io;
use trialog_jepsen::history::END;

use super::admin::Desk;
use super::rush::rush;
use crate::scenario::shape::{Moment, Nature, OperatorShape, TopicShape};
use crate::scenario::stage::Actor;
use crate::seed::Stream;

/// How long a compaction is waited for.
const COMPACTION_MAX: Duration = Duration::from_secs(4);
/// How often it is looked for: it may be over in milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// An operator's program. What stops is started again by the nemesis, as whatever ends is.
pub(super) async fn perform(actor: Actor, shape: OperatorShape) {
    let brokers = actor.stage.shape.brokers.len();
    let mut next = actor.shape().home;
    while !actor.stage.curtain() {
        let (mut random, left_out) = actor.step();
        let slice = Duration::from_millis(200);
        let mut rest = random.duration(shape.pause / 2..shape.pause);
        while rest > Duration::ZERO && !actor.stage.curtain() {
            actor.io.sleep(slice.min(rest)).await;
            rest = rest.saturating_sub(slice);
        }
        if !left_out && !actor.stage.curtain() {
            let moment = random.pick(&shape.moments);
            stop(&actor, next, moment, &mut random).await;
        }
        next = (next + 1) % brokers;
    }
}

/// Stops a broker at such a moment, if that can be had.
async fn stop(actor: &Actor, broker: usize, moment: Moment, random: &mut Stream) {
    let within = Duration::from_millis(random.pick(&[3, 6, 15]));
    let soon = random.duration(Duration::ZERO..within);
    let now = async {
        actor.io.sleep(soon).await;
        actor.io.world().say(&format!("broker {broker} is asked to stop"));
        actor.stage.stop_broker(broker);
    };
    let topics: Vec<usize> = actor.stage.shape.topics_of(broker).collect();
    let with = |keep: &dyn Fn(&TopicShape) -> bool| {
        topics.iter().copied().filter(|&at| keep(actor.topic(at))).collect::<Vec<_>>()
    };
    let fleeting = with(&|topic| topic.nature == Nature::Fleeting);
    let compacted = with(&|topic| topic.nature == Nature::Compacted);
    let shortened = with(&TopicShape::may_be_shortened);
    match moment {
        Moment::Deletion if !fleeting.is_empty() => {
            let at = random.pick(&fleeting);
            let mut desk = desk(actor, broker);
            desk.create(at).await;
            let ends = async {
                join(desk.delete(at), now).await;
            };
            if random.chance(1, 2) {
                rush(actor, broker, &actor.topic(at).name, random, ends).await;
            } else {
                ends.await;
            }
        }
        Moment::Rush if !shortened.is_empty() && random.chance(2, 3) => {
            let at = random.pick(&shortened);
            let (mut desk, index) = (desk(actor, broker), PartitionIndex(0));
            let place = desk.place_within(at, index, random.bits()).await;
            // What is asked meanwhile waits until the start is durable.
            let trim = async {
                if let Some(place) = place {
                    desk.trim(at, index, place).await;
                }
            };
            let ends = async {
                join(trim, now).await;
            };
            rush(actor, broker, &actor.topic(at).name, random, ends).await;
        }
        Moment::Rush => {
            let name = &actor.topic(random.pick(&topics)).name;
            rush(actor, broker, name, random, now).await;
        }
        Moment::Compaction if !compacted.is_empty() && compacts(actor, broker).await => {
            if random.chance(1, 2) {
                let emptied = compacted.into_iter().filter(|at| shortened.contains(at));
                join(empty(actor, broker, emptied), now).await;
            } else {
                actor.stage.stop_broker(broker);
            }
        }
        Moment::Any | Moment::Deletion | Moment::Compaction => now.await,
    }
}

/// Deletes all records of these topics.
async fn empty(actor: &Actor, broker: usize, topics: impl Iterator<Item = usize>) {
    let partitions = |at: usize| {
        let indexes = (0..actor.topic(at).partitions).map(PartitionIndex);
        indexes.map(move |index| async move {
            desk(actor, broker).trim(at, index, END).await;
        })
    };
    join_all(topics.flat_map(partitions)).await;
}

/// Where any broker is asked.
fn desk(actor: &Actor, broker: usize) -> Desk {
    let client = actor.client_of(broker, actor.shape().request_timeout, [].into());
    Desk { voice: actor.voice(), client }
}

/// Waits for a broker to compact a log; whether it does.
async fn compacts(actor: &Actor, broker: usize) -> bool {
    let before = compacted(actor, broker);
    for _ in 0..COMPACTION_MAX.as_millis() / LOOK_EVERY.as_millis() {
        if actor.stage.curtain() {
            return false;
        }
        if !compacted(actor, broker).is_subset(&before) {
            return true;
        }
        actor.io.sleep(LOOK_EVERY).await;
    }
    false
}

/// The segments on a broker's disk that compaction has written, or is writing.
pub(super) fn compacted(actor: &Actor, broker: usize) -> BTreeSet<(u64, String)> {
    let is_compacted = |name: &&String| {
        // `BASE.GENERATION.log`; without a generation it was appended to.
        name.ends_with(".log") && name.matches('.').count() == 2
    };
    actor.io.world().machine(broker, |machine| {
        let folders = machine.disk.folders();
        let all = folders.flat_map(|(folder, names)| {
            names.keys().filter(is_compacted).map(move |name| (folder, name.clone()))
        });
        all.collect()
    })
}
