//! How each consumer moved: the steps that `nonmonotonic-poll`, `poll-skip`, `start-offset` and
//! `compaction` judge.
//!
//! A position is the offset that must come next. It exists from a partition's first record, or from
//! a seek; an assign that leaves the partition out forgets it. A member of a group forgets the
//! positions of what it is newly assigned: they are the group's (`commit`).

use std::collections::BTreeMap;

use trialog_engine::id::Offset;

use super::expect::Retention;
use super::gone::Gone;
use super::view::{Part, View};
use crate::history::{BEGINNING, Event, Membership, Op, Phase, Process, Record, Value};

/// A record that a consumer got although another offset was due.
pub struct Jump {
    pub process: Process,
    pub part: Part,
    /// The offset that was due.
    pub due: Offset,
    /// The event that set it: a poll or a seek.
    pub due_since: usize,
    /// The record that came.
    pub offset: Offset,
    pub value: Value,
    pub event: usize,
}

/// Where a consumer stands in a partition.
#[derive(Clone, Copy)]
struct Stand {
    due: Option<Offset>,
    since: usize,
}

/// Every jump of every consumer, in the order of events.
pub fn jumps(view: &View<'_>, gone: &Gone<'_, '_>) -> Vec<Jump> {
    let mut walk = Walk { view, gone, stands: BTreeMap::new(), jumps: Vec::new() };
    for (at, event) in view.history.events().iter().enumerate() {
        if event.phase == Phase::Ok {
            walk.step(at, event);
        }
    }
    walk.jumps
}

struct Walk<'w, 'a> {
    view: &'w View<'a>,
    gone: &'w Gone<'w, 'a>,
    stands: BTreeMap<(Process, Part), Stand>,
    jumps: Vec<Jump>,
}

impl Walk<'_, '_> {
    fn step(&mut self, at: usize, event: &Event) {
        let process = event.process;
        match &event.op {
            Op::Assign { partitions } => {
                let mut kept: Vec<Part> =
                    partitions.iter().map(|(topic, part)| self.view.part(*topic, *part)).collect();
                kept.sort_unstable();
                self.keep(process, &kept);
            }
            Op::Group(_, membership) => {
                if let Membership::Revoked { partitions, .. } = &**membership {
                    for (topic, partition) in partitions {
                        self.stands.remove(&(process, self.view.part(*topic, *partition)));
                    }
                }
                if let Membership::Assigned { partitions, .. } = &**membership {
                    let part = |(topic, part): &_| self.view.part(*topic, *part);
                    let mut kept: Vec<Part> = partitions.iter().map(part).collect();
                    kept.sort_unstable();
                    self.keep(process, &kept);
                }
            }
            Op::Seek { topic, partition, offset } => {
                let part = self.view.part(*topic, *partition);
                let whole = self.view.promise(part).retention == Retention::Forever
                    && !self.gone.trimmed(part);
                let due = match *offset {
                    BEGINNING if whole => Some(Offset(0)),
                    offset if offset.0 < 0 => None,
                    offset => Some(offset),
                };
                self.stands.insert((process, part), Stand { due, since: at });
            }
            Op::Poll { records } => {
                for run in records.chunk_by(|one, other| {
                    (one.topic, one.partition) == (other.topic, other.partition)
                }) {
                    self.read(at, process, run);
                }
            }
            _ => {}
        }
    }

    /// Forgets where a consumer stood in partitions that it reads no longer.
    fn keep(&mut self, process: Process, kept: &[Part]) {
        let owned = (process, Part::MIN)..=(process, Part::MAX);
        let left = self.stands.range(owned).map(|(key, _)| *key);
        let left: Vec<_> = left.filter(|(_, part)| kept.binary_search(part).is_err()).collect();
        for key in left {
            self.stands.remove(&key);
        }
    }

    /// Takes in records of one partition.
    fn read(&mut self, at: usize, process: Process, run: &[Record]) {
        let part = self.view.part(run[0].topic, run[0].partition);
        // Without durability a log may shrink under its readers; only the final reading is judged.
        let judged = self.view.promise(part).durable.is_some() || at >= self.view.final_from();
        if !judged || !self.view.single(run[0].topic) {
            return;
        }
        let stand = self.stands.get(&(process, part)).copied();
        let Stand { mut due, mut since } = stand.unwrap_or(Stand { due: None, since: at });
        for record in run {
            let (offset, value) = (record.offset, record.value);
            if let Some(due) = due.filter(|due| *due != offset) {
                let due_since = since;
                self.jumps.push(Jump { process, part, due, due_since, offset, value, event: at });
            }
            (due, since) = (Some(offset.plus(1)), at);
        }
        self.stands.insert((process, part), Stand { due, since });
    }
}
