//! Joins what clients asked with what they were told.
//!
//! A send belongs to its answer by its value; of all other calls a process has one under way at a
//! time. What is no call (a poll, a seek, an announcement) is one event. A call whose process died, or
//! that was given up, has no answer.

use std::collections::BTreeMap;

use trialog_jepsen::check::call_kind;
use trialog_jepsen::history::{Event, Op, Phase, Process, Value};

/// The calls that are under way at one place of a history, each with its number.
#[derive(Default)]
pub struct Open {
    sends: BTreeMap<(Process, Value), usize>,
    calls: BTreeMap<Process, (u8, usize)>,
}

impl Open {
    /// A call begins.
    pub fn begins(&mut self, event: &Event, number: usize) {
        let process = event.process;
        if let Op::Send { value, .. } = event.op {
            self.sends.insert((process, value), number);
        } else if let Some(kind) = call_kind(&event.op) {
            self.calls.insert(process, (kind, number));
        }
    }

    /// The call that an answer ends; none if it was not asked for.
    pub fn ends(&mut self, event: &Event) -> Option<usize> {
        let process = event.process;
        if let Op::Send { value, .. } = event.op {
            return self.sends.remove(&(process, value));
        }
        let kind = call_kind(&event.op)?;
        self.calls.remove(&process).filter(|(asked, _)| *asked == kind).map(|(_, number)| number)
    }
}

/// How far an event says that an operation got: nothing for what only begins, or is said and not
/// asked.
pub fn phase(event: &Event) -> &'static str {
    let is_call = matches!(event.op, Op::Send { .. }) || call_kind(&event.op).is_some();
    match event.phase {
        Phase::Invoke => "",
        Phase::Ok => "ok",
        Phase::Fail => "fail",
        Phase::Info if is_call => "info",
        Phase::Info => "",
    }
}

#[cfg(test)]
mod tests {
    use trialog_engine::id::{Offset, PartitionIndex};
    use trialog_jepsen::history::{Admin, Group, Membership, Topic};

    use super::*;

    fn event(process: u32, phase: Phase, op: Op) -> Event {
        Event { time_ns: 0, process: Process(process), phase, op }
    }

    #[test]
    fn every_kind_of_call_is_joined_with_its_answer_by_its_process() {
        let (topic, partition) = (Topic(0), PartitionIndex(0));
        let group = |membership| Op::Group(Group(0), Box::new(membership));
        let commit = group(Membership::Commit { generation: None, offsets: Vec::new() });
        let committed = group(Membership::Committed { offsets: Vec::new() });
        let forget = group(Membership::Forget { partitions: Vec::new() });
        let list = Op::ListOffset { topic, partition, ask: -1, offset: None };
        let trim = Op::Trim { topic, partition, offset: Offset(3) };
        let delete = Op::Admin(Box::new(Admin::Delete { topic }));
        let calls = [commit, committed, forget, list, trim, delete];
        for call in &calls {
            for phase in [Phase::Ok, Phase::Fail, Phase::Info] {
                let mut open = Open::default();
                open.begins(&event(7, Phase::Invoke, call.clone()), 1);
                open.begins(&event(8, Phase::Invoke, call.clone()), 2);
                assert_eq!(open.ends(&event(8, phase, call.clone())), Some(2), "{call:?}");
                assert_eq!(open.ends(&event(7, phase, call.clone())), Some(1), "{call:?}");
                assert_eq!(open.ends(&event(7, phase, call.clone())), None, "{call:?}");
            }
        }
        // An answer to something else is no answer.
        let mut open = Open::default();
        open.begins(&event(7, Phase::Invoke, calls[0].clone()), 1);
        assert_eq!(open.ends(&event(7, Phase::Ok, calls[1].clone())), None);
    }

    #[test]
    fn sends_overlap_and_belong_together_by_value() {
        let send = |value| Op::send(Topic(0), None, Value(value));
        let mut open = Open::default();
        open.begins(&event(7, Phase::Invoke, send(1)), 1);
        open.begins(&event(7, Phase::Invoke, send(2)), 2);
        assert_eq!(open.ends(&event(7, Phase::Ok, send(1))), Some(1));
        assert_eq!(open.ends(&event(9, Phase::Ok, send(2))), None);
        assert_eq!(open.ends(&event(7, Phase::Info, send(2))), Some(2));
    }

    #[test]
    fn what_is_said_and_not_asked_is_not_unknown() {
        let note = event(7, Phase::Info, Op::Note("words".into()));
        assert_eq!(phase(&note), "");
        assert_eq!(phase(&event(7, Phase::Info, Op::send(Topic(0), None, Value(1)))), "info");
    }
}
