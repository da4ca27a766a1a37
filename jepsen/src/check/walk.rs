//! How each consumer moved: the steps that `nonmonotonic-poll` and `poll-skip` judge.
//!
//! A position is the offset that must come next. It exists from a partition's first record, or from
//! a seek; an assign that leaves the partition out forgets it.

use std::collections::BTreeMap;

use trialog_engine::id::Offset;

use super::Expect;
use super::view::{Part, View, final_from};
use crate::history::{BEGINNING, Op, Phase, Process, Value};

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

/// Every jump of every consumer, in the order of events.
pub fn jumps(view: &View<'_>, expect: &Expect) -> Vec<Jump> {
    let events = view.history.events();
    // Without durability a log may shrink under its readers; only the final reading is judged.
    let from = if expect.durable { 0 } else { final_from(view.history) };
    let mut positions: BTreeMap<(Process, Part), (Offset, usize)> = BTreeMap::new();
    let mut jumps = Vec::new();
    for (at, event) in events.iter().enumerate().skip(from) {
        if event.phase != Phase::Ok {
            continue;
        }
        let process = event.process;
        match &event.op {
            Op::Assign { partitions } => {
                let mut kept: Vec<Part> =
                    partitions.iter().map(|(topic, part)| view.part(*topic, *part)).collect();
                kept.sort_unstable();
                positions.retain(|(owner, part), _| {
                    *owner != process || kept.binary_search(part).is_ok()
                });
            }
            Op::Seek { topic, partition, offset } => {
                let key = (process, view.part(*topic, *partition));
                let due = match *offset {
                    BEGINNING if !expect.trimmed => Some(Offset(0)),
                    offset if offset.0 < 0 => None,
                    offset => Some(offset),
                };
                positions.remove(&key);
                positions.extend(due.map(|due| (key, (due, at))));
            }
            Op::Poll { records } => {
                for run in records.chunk_by(|one, other| {
                    (one.topic, one.partition) == (other.topic, other.partition)
                }) {
                    let part = view.part(run[0].topic, run[0].partition);
                    let (mut due, mut since) = match positions.get(&(process, part)) {
                        Some(position) => *position,
                        None => (run[0].offset, at),
                    };
                    for record in run {
                        let (offset, value) = (record.offset, record.value);
                        if offset != due {
                            let due_since = since;
                            jumps.push(Jump {
                                process,
                                part,
                                due,
                                due_since,
                                offset,
                                value,
                                event: at,
                            });
                        }
                        (due, since) = (offset.plus(1), at);
                    }
                    positions.insert((process, part), (due, since));
                }
            }
            Op::Send { .. } | Op::Nemesis { .. } | Op::Final => {}
        }
    }
    jumps
}
