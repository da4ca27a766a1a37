//! Operations that a process does one at a time, each with its answer: everything but sends, polls
//! and moves.
//!
//! A call without an answer is one whose fate nobody knows, like one that ended with `info`.

use std::collections::BTreeMap;

use super::{Anomaly, Report};
use crate::history::{Admin, Event, History, Membership, Op, Phase, Process};

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
    /// The event that answered; `usize::MAX` if it can still be carried out.
    pub ended: usize,
}

/// All calls, in the order in which they were asked.
pub fn calls<'a>(history: &'a History, report: &mut Report) -> Vec<Call<'a>> {
    let mut calls: Vec<Call<'a>> = Vec::new();
    let mut open: BTreeMap<Process, usize> = BTreeMap::new();
    for (at, event) in history.events().iter().enumerate() {
        let Some(kind) = kind(&event.op) else { continue };
        let Event { process, phase, op, .. } = event;
        if *phase == Phase::Invoke {
            open.insert(*process, calls.len());
            let (ask, ended) = (op, usize::MAX);
            let (answer, failed) = (None, false);
            calls.push(Call { process: *process, ask, answer, failed, invoked: at, ended });
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
            Phase::Ok => (call.answer, call.ended) = (Some(op), at),
            Phase::Fail => (call.failed, call.ended) = (true, at),
            Phase::Invoke | Phase::Info => {}
        }
    }
    calls
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
