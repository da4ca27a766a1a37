//! How each consumer moved: the steps that `nonmonotonic-poll`, `poll-skip`, `start-offset`,
//! `compaction` and the checkers of commits judge.
//!
//! A position is the offset that must come next. It exists from a partition's first record, or from
//! a seek; an assign that leaves the partition out forgets it. What a member of a group is newly
//! assigned, it resumes where the group had committed.

use std::collections::BTreeMap;

use trialog_engine::id::Offset;

use super::expect::Retention;
use super::gone::Gone;
use super::start_offset::Starts;
use super::view::{Part, View};
use crate::history::{BEGINNING, Event, Group, Membership, Op, Phase, Process, Record, Value};

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

/// A record from below what was known to be the start when the consumer went there.
pub struct Low {
    pub process: Process,
    pub part: Part,
    pub offset: Offset,
    pub floor: Offset,
    /// The event that told the start.
    pub known_by: usize,
    /// The event that set the consumer's position.
    pub since: usize,
    pub event: usize,
}

/// The first record that a member of a group got of what it was newly assigned.
pub struct Resume {
    pub process: Process,
    pub group: Group,
    pub part: Part,
    pub offset: Offset,
    /// The event that assigned it.
    pub since: usize,
    pub event: usize,
}

/// Everything that the moves of all consumers show, in the order of events.
pub struct Moves {
    pub jumps: Vec<Jump>,
    pub lows: Vec<Low>,
    pub resumes: Vec<Resume>,
}

/// Where a consumer stands in a partition.
#[derive(Clone, Copy)]
struct Stand {
    due: Option<Offset>,
    since: usize,
    /// The last time that it was put somewhere.
    placed: usize,
    /// The start that was known then, and the event that told it.
    floor: Option<(Offset, usize)>,
    /// It stands where this group has committed, and has not read yet.
    group: Option<Group>,
}

/// Follows every consumer.
pub fn moves(view: &View<'_>, gone: &Gone<'_, '_>, starts: &Starts) -> Moves {
    let moves = Moves { jumps: Vec::new(), lows: Vec::new(), resumes: Vec::new() };
    let mut walk = Walk { view, gone, starts, stands: BTreeMap::new(), moves };
    for (at, event) in view.history.events().iter().enumerate() {
        if event.phase == Phase::Ok {
            walk.step(at, event);
        }
    }
    walk.moves
}

struct Walk<'w, 'a> {
    view: &'w View<'a>,
    gone: &'w Gone<'w, 'a>,
    starts: &'w Starts,
    stands: BTreeMap<(Process, Part), Stand>,
    moves: Moves,
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
            Op::Group(group, membership) => match &**membership {
                Membership::Revoked { partitions, .. } => {
                    for (topic, partition) in partitions {
                        self.stands.remove(&(process, self.view.part(*topic, *partition)));
                    }
                }
                Membership::Assigned { partitions, .. } => {
                    let part = |(topic, part): &_| self.view.part(*topic, *part);
                    let mut kept: Vec<Part> = partitions.iter().map(part).collect();
                    kept.sort_unstable();
                    self.keep(process, &kept);
                    for part in kept {
                        if !self.stands.contains_key(&(process, part)) {
                            self.place(at, process, part, None, Some(*group));
                        }
                    }
                }
                _ => {}
            },
            Op::Seek { topic, partition, offset } => {
                let part = self.view.part(*topic, *partition);
                let whole = self.view.promise(part).retention == Retention::Forever
                    && !self.gone.trimmed(part);
                let due = match *offset {
                    BEGINNING if whole => Some(Offset(0)),
                    offset if offset.0 < 0 => None,
                    offset => Some(offset),
                };
                self.place(at, process, part, due, None);
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

    /// Puts a consumer somewhere.
    fn place(
        &mut self,
        at: usize,
        process: Process,
        part: Part,
        due: Option<Offset>,
        group: Option<Group>,
    ) {
        let floor = self.starts.floor(part, at);
        let stand = Stand { due, since: at, placed: at, floor, group };
        self.stands.insert((process, part), stand);
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
        let fresh = Stand { due: None, since: at, placed: at, floor: None, group: None };
        let mut stand = self.stands.get(&(process, part)).copied().unwrap_or(fresh);
        let since = stand.placed;
        if let Some(group) = stand.group.take() {
            let offset = run[0].offset;
            self.moves.resumes.push(Resume { process, group, part, offset, since, event: at });
        }
        let low = stand.floor.filter(|(floor, _)| run[0].offset < *floor);
        if let Some((floor, known_by)) = low {
            let offset = run[0].offset;
            self.moves.lows.push(Low { process, part, offset, floor, known_by, since, event: at });
        }
        for record in run {
            let (offset, value) = (record.offset, record.value);
            if let Some(due) = stand.due.filter(|due| *due != offset) {
                let due_since = stand.since;
                let jump = Jump { process, part, due, due_since, offset, value, event: at };
                self.moves.jumps.push(jump);
            }
            (stand.due, stand.since) = (Some(offset.plus(1)), at);
        }
        self.stands.insert((process, part), stand);
    }
}
