//! Operations that a process does one at a time, each with its answer: everything but sends, polls
//! and moves.
//!
//! A call without an answer is one whose fate nobody knows, like one that ended with `info`. It can be
//! carried out until the process of its broker has ended that it was sent to: what a request has come
//! to by then is all that it ever comes to.

use std::collections::BTreeMap;

use super::view::View;
use super::{Anomaly, Report};
use crate::history::{Admin, Event, Fault, Membership, Op, Phase, Process, Topic};

/// One operation from invocation to answer.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub process: Process,
    pub ask: &'a Op,
    /// Only of calls that went well.
    pub answer: Option<&'a Op>,
    /// Certainly not done.
    pub failed: bool,
    /// The event that asked.
    pub invoked: usize,
    /// The event that answered; `usize::MAX` if none did.
    pub ended: usize,
    /// The event from which on nothing comes of it any more: its answer or, without one, the first crash
    /// of its broker after whoever asked had given it up; `usize::MAX` if there was none.
    pub over: usize,
}

/// All calls, in the order in which they were asked.
pub fn calls<'a>(view: &View<'a>, report: &mut Report) -> Vec<Call<'a>> {
    let history = view.history;
    let crashes = crashes(view);
    let mut calls: Vec<Call<'a>> = Vec::new();
    let mut open: BTreeMap<Process, usize> = BTreeMap::new();
    for (at, event) in history.events().iter().enumerate() {
        let Some(kind) = kind(&event.op) else { continue };
        let Event { process, phase, op, .. } = event;
        if *phase == Phase::Invoke {
            open.insert(*process, calls.len());
            let (process, ask, never) = (*process, op, usize::MAX);
            let (answer, failed, invoked) = (None, false, at);
            calls.push(Call { process, ask, answer, failed, invoked, ended: never, over: never });
            continue;
        }
        let asked = open.remove(process).map(|asked| &mut calls[asked]);
        let Some(call) = asked.filter(|call| self::kind(call.ask) == Some(kind)) else {
            report.add(Anomaly::Malformed, vec![at], || {
                format!("process {} was answered what it had not asked", process.0)
            });
            continue;
        };
        match phase {
            Phase::Ok => (call.answer, call.ended, call.over) = (Some(op), at, at),
            Phase::Fail => (call.failed, call.ended, call.over) = (true, at, at),
            Phase::Info => {
                let of_broker = topic(op).and_then(|topic| crashes.get(&view.node_of(topic)?));
                let mut later = of_broker.into_iter().flatten().filter(|crash| **crash > at);
                call.over = later.next().copied().unwrap_or(usize::MAX);
            }
            Phase::Invoke => {}
        }
    }
    calls
}

/// When each node crashed.
fn crashes(view: &View<'_>) -> BTreeMap<u32, Vec<usize>> {
    let mut crashes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (at, event) in view.history.events().iter().enumerate() {
        if let Op::Nemesis { fault: Fault::Crash, node } = event.op {
            crashes.entry(node).or_default().push(at);
        }
    }
    crashes
}

/// A topic that a call is about: all are of one cluster.
fn topic(op: &Op) -> Option<Topic> {
    match op {
        Op::Trim { topic, .. } | Op::ListOffset { topic, .. } => Some(*topic),
        Op::Admin(admin) => match &**admin {
            Admin::Create { topic, .. }
            | Admin::Delete { topic }
            | Admin::Grow { topic, .. }
            | Admin::Configure { topic, .. }
            | Admin::Describe { topic, .. } => Some(*topic),
            Admin::Metadata { .. } => None,
        },
        Op::Group(_, membership) => match &**membership {
            Membership::Commit { offsets, .. } => offsets.first().map(|(topic, ..)| *topic),
            Membership::Forget { partitions } => partitions.first().map(|(topic, _)| *topic),
            _ => None,
        },
        _ => None,
    }
}

/// A number for each kind of call; none for what is not one.
#[must_use]
pub fn kind(op: &Op) -> Option<u8> {
    Some(match op {
        Op::Trim { .. } => 0,
        Op::ListOffset { .. } => 1,
        Op::Admin(admin) => match &**admin {
            Admin::Create { .. } => 2,
            Admin::Delete { .. } => 3,
            Admin::Grow { .. } => 4,
            Admin::Configure { .. } => 5,
            Admin::Describe { .. } => 6,
            Admin::Metadata { .. } => 7,
        },
        Op::Group(_, membership) => match &**membership {
            Membership::Commit { .. } => 8,
            Membership::Committed { .. } => 9,
            Membership::Forget { .. } => 10,
            Membership::Subscribe { .. }
            | Membership::Assigned { .. }
            | Membership::Revoked { .. } => return None,
        },
        _ => return None,
    })
}
