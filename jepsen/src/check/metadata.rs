//! metadata-nonlinearizable: what clients read of topics, settings and leaders contradicts any order
//! of the changes that were acknowledged.
//!
//! Each topic is an object of its own (`linear`): whether it exists, how many partitions it has, what
//! is set on it. A topic that nobody created in this history may have been there before, with
//! anything set; one that nobody changed in it is not judged. Of leaders: an epoch has one leader, and later reads show no earlier epoch. Every
//! attempt of a change is an operation of its own, see [`crate::history`].

use std::collections::BTreeMap;

use super::calls::Call;
use super::linear::{self, Object, Operation, Verdict};
use super::view::{Part, View};
use super::{Anomaly, Report};
use crate::history::{Admin, Configs, Op, PartialConfigs, Phase, Topic};

/// A topic that exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Existing {
    /// `None`: the broker's default, or what it was before the history began.
    partitions: Option<i32>,
    /// What is known to be set, or not.
    configs: PartialConfigs,
    /// A setting that is not named in `configs` can be anything.
    open: bool,
}

/// What is done to a topic, or seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step<'a> {
    Create(i32, &'a Configs),
    Delete,
    Grow(i32),
    Configure(&'a PartialConfigs),
    /// What was set of what was asked for, if the topic existed.
    Described(Option<&'a PartialConfigs>),
    /// How many partitions it had, if it existed.
    Listed(Option<i32>),
}

struct TopicObject<'a>(std::marker::PhantomData<&'a ()>);

impl<'a> Object for TopicObject<'a> {
    type State = Option<Existing>;
    type Step = Step<'a>;

    fn step(state: &Option<Existing>, step: &Step<'a>) -> Option<Option<Existing>> {
        match (state, step) {
            (None, Step::Create(partitions, configs)) => {
                let set = |(key, value): (&String, &String)| (key.clone(), Some(value.clone()));
                let configs = configs.iter().map(set).collect();
                let partitions = (*partitions > 0).then_some(*partitions);
                Some(Some(Existing { partitions, configs, open: false }))
            }
            (Some(_), Step::Delete) => Some(None),
            (Some(topic), Step::Grow(count)) if topic.partitions.is_none_or(|old| old < *count) => {
                Some(Some(Existing { partitions: Some(*count), ..topic.clone() }))
            }
            (Some(topic), Step::Configure(changes)) => {
                let mut topic = topic.clone();
                for (key, value) in *changes {
                    topic.configs.insert(key.clone(), value.clone());
                }
                Some(Some(topic))
            }
            (Some(topic), Step::Described(Some(seen))) => {
                let fits = |(key, value): (&String, &Option<String>)| match topic.configs.get(key) {
                    Some(known) => known == value,
                    None => topic.open || value.is_none(),
                };
                seen.iter().all(fits).then(|| state.clone())
            }
            (None, Step::Described(None) | Step::Listed(None)) => Some(None),
            (Some(topic), Step::Listed(Some(count))) => {
                topic.partitions.is_none_or(|known| known == *count).then(|| state.clone())
            }
            _ => None,
        }
    }

    fn is_read(step: &Step<'a>) -> bool {
        matches!(step, Step::Described(_) | Step::Listed(_))
    }
}

/// Judges; returns how many topics had too many possible orders to be judged.
pub fn check(view: &View<'_>, calls: &[Call<'_>], report: &mut Report) -> usize {
    let mut undecided = 0;
    for (topic, operations) in by_topic(view, calls) {
        if operations.iter().all(|operation| TopicObject::is_read(&operation.step)) {
            continue;
        }
        let created = |operation: &Operation<Step<'_>>| matches!(operation.step, Step::Create(..));
        let known = operations.iter().any(created);
        let before = Existing { partitions: None, configs: BTreeMap::new(), open: true };
        let initial = if known { vec![None] } else { vec![None, Some(before)] };
        match linear::check::<TopicObject<'_>>(initial, &operations) {
            Verdict::Fine => {}
            Verdict::Undecided => undecided += 1,
            Verdict::Broken(at) => explain(view, topic, &operations, at, report),
        }
    }
    leaders(view, calls, report);
    undecided
}

fn by_topic<'a>(view: &View<'_>, calls: &[Call<'a>]) -> BTreeMap<Topic, Vec<Operation<Step<'a>>>> {
    let mut topics: BTreeMap<Topic, Vec<Operation<Step<'a>>>> = BTreeMap::new();
    for call in calls.iter().filter(|call| !call.failed) {
        let Op::Admin(ask) = call.ask else { continue };
        let (invoked, ended) = (call.invoked, call.ended);
        let mut add = |topic: Topic, step| {
            topics.entry(topic).or_default().push(Operation { step, invoked, ended });
        };
        match &**ask {
            Admin::Create { topic, partitions, configs } => {
                add(*topic, Step::Create(*partitions, configs));
            }
            Admin::Delete { topic } => add(*topic, Step::Delete),
            Admin::Grow { topic, partitions } => add(*topic, Step::Grow(*partitions)),
            Admin::Configure { topic, configs } => add(*topic, Step::Configure(configs)),
            Admin::Describe { .. } | Admin::Metadata { .. } => {}
        }
        let Some(Op::Admin(answer)) = call.answer else { continue };
        match &**answer {
            Admin::Describe { topic, configs } => {
                add(*topic, Step::Described(configs.as_ref()));
            }
            Admin::Metadata { all, topics, .. } => {
                for (topic, count) in topics {
                    add(*topic, Step::Listed(*count));
                }
                let listed = |topic: &Topic| topics.iter().any(|(listed, _)| listed == topic);
                for topic in view.history.topics().filter(|topic| *all && !listed(topic)) {
                    add(topic, Step::Listed(None));
                }
            }
            _ => {}
        }
    }
    topics
}

fn explain(
    view: &View<'_>,
    topic: Topic,
    operations: &[Operation<Step<'_>>],
    at: usize,
    report: &mut Report,
) {
    let broken = &operations[at];
    // The last change that was over when this one was asked: usually the one that was forgotten.
    let earlier = operations
        .iter()
        .filter(|other| !TopicObject::is_read(&other.step) && other.ended < broken.invoked);
    let last = earlier.max_by_key(|other| other.ended);
    let mut witness: Vec<usize> = last.iter().flat_map(|last| [last.invoked, last.ended]).collect();
    witness.extend([broken.invoked, broken.ended]);
    report.add(Anomaly::MetadataNonlinearizable, witness, || {
        let name = view.history.name(topic);
        let before = last.map_or(String::new(), |last| {
            format!("; the last change acknowledged before that: {}", told(&last.step))
        });
        format!("topic {name}: {} fits no order of the changes so far{before}", told(&broken.step))
    });
}

fn told(step: &Step<'_>) -> String {
    match step {
        Step::Create(count, configs) if configs.is_empty() => {
            format!("that it was created with {count} partitions")
        }
        Step::Create(count, configs) => {
            format!("that it was created with {count} partitions and {configs:?}")
        }
        Step::Delete => "that it was deleted".to_owned(),
        Step::Grow(count) => format!("that it grew to {count} partitions"),
        Step::Configure(configs) => format!("that it was given {configs:?}"),
        Step::Described(None) | Step::Listed(None) => "a look that shows no such topic".to_owned(),
        Step::Described(Some(configs)) => format!("a look that shows {configs:?}"),
        Step::Listed(Some(count)) => format!("a look that shows {count} partitions"),
    }
}

/// One leader for each epoch, and no later look at an earlier epoch.
fn leaders(view: &View<'_>, calls: &[Call<'_>], report: &mut Report) {
    // By event: what was known when it came.
    let mut leader_of: BTreeMap<(Part, i32), (i32, usize)> = BTreeMap::new();
    let mut newest: Vec<(i32, usize)> = vec![(i32::MIN, 0); view.parts().count()];
    let by_invocation: BTreeMap<usize, &Call<'_>> =
        calls.iter().map(|call| (call.invoked, call)).collect();
    // What each process's open look must not fall behind.
    let mut bounds: BTreeMap<usize, Vec<(i32, usize)>> = BTreeMap::new();
    for (at, event) in view.history.events().iter().enumerate() {
        let Op::Admin(admin) = &event.op else { continue };
        let Admin::Metadata { leaders, .. } = &**admin else { continue };
        if event.phase == Phase::Invoke {
            if let Some(call) = by_invocation.get(&at).filter(|call| call.answer.is_some()) {
                bounds.insert(call.ended, newest.clone());
            }
            continue;
        }
        let Some(bound) = bounds.remove(&at) else { continue };
        for leader in leaders.iter().filter(|leader| view.single(leader.topic)) {
            let part = view.part(leader.topic, leader.partition);
            let key = (part, leader.epoch);
            let (node, since) = *leader_of.entry(key).or_insert((leader.node, at));
            if node != leader.node {
                report.add(Anomaly::MetadataNonlinearizable, vec![since, at], || {
                    let name = view.part_name(part);
                    let (epoch, other) = (leader.epoch, leader.node);
                    format!("{name} had two leaders in epoch {epoch}: {node} and {other}")
                });
            }
            let (epoch, by) = bound[part as usize];
            if leader.epoch < epoch {
                report.add(Anomaly::MetadataNonlinearizable, vec![by, at], || {
                    let name = view.part_name(part);
                    format!("{name} was in epoch {epoch} and is later shown in {}", leader.epoch)
                });
            }
            if leader.epoch > newest[part as usize].0 {
                newest[part as usize] = (leader.epoch, at);
            }
        }
    }
}
