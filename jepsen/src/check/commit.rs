//! What groups have committed: a register for each group and partition, with everything that was
//! written to it and read from it.
//!
//! A read may show what the last acknowledged commit before it wrote, what any commit that overlaps
//! that one or the read wrote, or what a commit wrote whose fate nobody knows. `lost-commit`,
//! `offset-regression`, `zombie-commit` and, for members that skip what nobody had committed,
//! `poll-skip` are judged from it. Where the commits of a group expire by design, its history must
//! not be judged by these.

use std::collections::BTreeMap;

use trialog_engine::id::Offset;

use super::calls::Call;
use super::view::{Part, View};
use crate::history::{Group, Membership, Op, Phase, Process};

/// So many commits are looked at for one that was over: they come one after the other, so the first
/// few tell.
const KEPT_LOOKED_AT: usize = 16;

/// A group and a partition.
pub type Key = (Group, Part);

/// One commit of one partition.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    pub process: Process,
    pub generation: Option<i32>,
    /// `None` forgets what there was.
    pub offset: Option<Offset>,
    pub acknowledged: bool,
    pub invoked: usize,
    /// The answer or, without one, the event from which on it does not come any more; `usize::MAX` if it
    /// may come yet.
    pub ended: usize,
}

/// One look at what is committed.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    pub offset: Option<Offset>,
    pub invoked: usize,
    pub ended: usize,
}

/// One register.
#[derive(Default)]
pub struct Register {
    /// In the order in which they were asked.
    pub writes: Vec<Write>,
    /// In the order in which they were answered.
    pub reads: Vec<Read>,
    /// Acknowledged writes in the order of their ends: the end, and the index of the one among all
    /// so far that was asked last.
    settled: Vec<(usize, usize)>,
    /// Up to each write, the largest end of an acknowledged one.
    reach: Vec<usize>,
    /// Writes of unknown fate.
    loose: Vec<usize>,
}

/// A look that shows what no order of the commits allows.
pub struct Impossible<'r> {
    pub read: &'r Read,
    /// The acknowledged commit that it should have shown, or a later one.
    pub last: &'r Write,
    /// An earlier look that had shown more.
    pub before: Option<&'r Read>,
}

impl Register {
    /// The acknowledged write that was asked last, of those that ended before event `at`.
    pub fn settled(&self, at: usize) -> Option<&Write> {
        let count = self.settled.partition_point(|(ended, _)| *ended < at);
        count.checked_sub(1).map(|last| &self.writes[self.settled[last].1])
    }

    /// What a look between two events may have shown, if something must have been there.
    pub fn possible(&self, from: usize, to: usize) -> Option<impl Iterator<Item = &Write>> {
        let last = self.settled(from)?;
        let asked = self.writes.partition_point(|write| write.invoked < to);
        let recent = (0..asked).rev().take_while(|at| self.reach[*at] >= last.invoked);
        let loose = self.loose.iter().copied().take_while(move |at| *at < asked);
        let recent = recent.filter(|at| self.writes[*at].acknowledged);
        let writes = recent.chain(loose).map(|at| &self.writes[at]);
        Some(writes.filter(|write| write.ended >= last.invoked))
    }

    /// Every look that shows what it cannot.
    pub fn impossible(&self) -> Vec<Impossible<'_>> {
        let mut found = Vec::new();
        let mut highest: Option<&Read> = None;
        for read in &self.reads {
            let before = highest.filter(|before| before.ended < read.invoked);
            let before = before.filter(|before| before.offset > read.offset);
            if let Some(last) = self.settled(read.invoked) {
                let mut possible = self.possible(read.invoked, read.ended).into_iter().flatten();
                if !possible.any(|write| write.offset == read.offset) {
                    found.push(Impossible { read, last, before });
                }
            }
            if highest.is_none_or(|highest| read.offset > highest.offset) {
                highest = Some(read);
            }
        }
        found
    }
}

/// All registers.
pub fn registers(view: &View<'_>, calls: &[Call<'_>]) -> BTreeMap<Key, Register> {
    let mut registers: BTreeMap<Key, Register> = BTreeMap::new();
    for call in calls.iter().filter(|call| !call.failed) {
        let Op::Group(group, ask) = call.ask else { continue };
        let mut write = |topic, partition, generation, offset| {
            let key = (*group, view.part(topic, partition));
            registers.entry(key).or_default().writes.push(Write {
                process: call.process,
                generation,
                offset,
                acknowledged: call.answer.is_some(),
                invoked: call.invoked,
                ended: call.over,
            });
        };
        match &**ask {
            Membership::Commit { generation, offsets } => {
                for (topic, partition, offset) in offsets {
                    write(*topic, *partition, *generation, Some(*offset));
                }
            }
            Membership::Forget { partitions } => {
                for (topic, partition) in partitions {
                    write(*topic, *partition, None, None);
                }
            }
            _ => {}
        }
        let Some(Op::Group(_, answer)) = call.answer else { continue };
        if let Membership::Committed { offsets } = &**answer {
            for (topic, partition, offset) in offsets {
                let key = (*group, view.part(*topic, *partition));
                let (offset, invoked, ended) = (*offset, call.invoked, call.ended);
                registers.entry(key).or_default().reads.push(Read { offset, invoked, ended });
            }
        }
    }
    // What a group knows of a topic goes with the topic.
    registers.retain(|(_, part), _| view.stays(*part));
    for register in registers.values_mut() {
        register.reads.sort_by_key(|read| read.ended);
        let acknowledged = register.writes.iter().enumerate();
        let acknowledged = acknowledged.filter(|(_, write)| write.acknowledged);
        let mut settled: Vec<(usize, usize)> =
            acknowledged.map(|(at, write)| (write.ended, at)).collect();
        settled.sort_unstable();
        let mut last = 0;
        for (_, at) in &mut settled {
            last = last.max(*at);
            *at = last;
        }
        register.settled = settled;
        let mut reach = 0;
        for (at, write) in register.writes.iter().enumerate() {
            match write.acknowledged {
                true => reach = reach.max(write.ended),
                false => register.loose.push(at),
            }
            register.reach.push(reach);
        }
    }
    registers
}

/// `offset 5`, or `nothing`, for sentences.
pub fn shown(offset: Option<Offset>) -> String {
    offset.map_or("nothing".to_owned(), |offset| format!("offset {offset}"))
}

/// Tells in which life of each group an event is: where a group is deleted, or may be, its
/// generations begin anew.
pub struct Lives {
    /// When groups were deleted, or may have been: from the question to the answer.
    ends: BTreeMap<Group, Vec<(usize, usize)>>,
    /// Acknowledged commits, from the question to the answer, if groups go without them.
    kept_by: Option<BTreeMap<Group, Vec<(usize, usize)>>>,
    /// When members were told of a share, or that they lost one.
    told: BTreeMap<(Group, Process), Vec<usize>>,
}

impl Lives {
    pub fn new(view: &View<'_>, calls: &[Call<'_>], vacant_groups_go: bool) -> Lives {
        let mut ends: BTreeMap<Group, Vec<(usize, usize)>> = BTreeMap::new();
        let mut kept_by: BTreeMap<Group, Vec<(usize, usize)>> = BTreeMap::new();
        for call in calls.iter().filter(|call| !call.failed) {
            let Op::Group(group, ask) = call.ask else { continue };
            let span = (call.invoked, call.over);
            match &**ask {
                Membership::Forget { .. } => ends.entry(*group).or_default().push(span),
                Membership::Commit { offsets, .. } if call.answer.is_some() => {
                    let stays = |topic, part| view.stays(view.part(topic, part));
                    if offsets.iter().any(|(topic, part, _)| stays(*topic, *part)) {
                        kept_by.entry(*group).or_default().push(span);
                    }
                }
                _ => {}
            }
        }
        let mut told: BTreeMap<(Group, Process), Vec<usize>> = BTreeMap::new();
        for (at, event) in view.history.events().iter().enumerate() {
            let Op::Group(group, membership) = &event.op else { continue };
            let tells =
                matches!(**membership, Membership::Assigned { .. } | Membership::Revoked { .. });
            if tells && event.phase == Phase::Ok {
                told.entry((*group, event.process)).or_default().push(at);
            }
        }
        Lives { ends, kept_by: vacant_groups_go.then_some(kept_by), told }
    }

    /// The life of a group in which a member was given the share that it is told of at an event. The
    /// news may come late: it is sure to be of this life if that is the first one, or if the member
    /// has been told something in it before, since it has joined anew after that.
    pub fn of_share(&self, group: Group, process: Process, event: usize) -> Option<usize> {
        let (life, since) = self.known(group, event)?;
        let told = self.told.get(&(group, process)).map_or(&[][..], Vec::as_slice);
        let told_before = |since| told.iter().any(|&told| since < told && told < event);
        since.is_none_or(told_before).then_some(life)
    }

    /// The life of a group at an event; `None` while nobody can tell.
    pub fn at(&self, group: Group, event: usize) -> Option<usize> {
        self.known(group, event).map(|(life, _)| life)
    }

    /// That life, and an event from which on the group is known to be in it; none if it never was in
    /// another one.
    fn known(&self, group: Group, event: usize) -> Option<(usize, Option<usize>)> {
        let ends = self.ends.get(&group).map_or(&[][..], Vec::as_slice);
        // Between the question and the answer it is one or the other, and without an answer until
        // nothing comes of it any more.
        if ends.iter().any(|(asked, ended)| *asked <= event && event <= *ended) {
            return None;
        }
        let over = || ends.iter().map(|(_, ended)| *ended).filter(|ended| *ended < event);
        let begun = over().max();
        let since = match &self.kept_by {
            None => begun,
            Some(kept_by) => {
                let commits = kept_by.get(&group)?;
                // In the order of the questions.
                let first =
                    commits.partition_point(|(asked, _)| begun.is_some_and(|end| *asked < end));
                let mut looked_at = commits[first..].iter().take(KEPT_LOOKED_AT);
                // Before it the group may have gone, and begun anew, any number of times.
                Some(looked_at.find(|(_, ended)| *ended < event)?.1)
            }
        };
        Some((over().count(), since))
    }
}

/// `group g at a/0`, for sentences.
pub fn name(view: &View<'_>, (group, part): Key) -> String {
    format!("group {} at {}", view.history.group_name(group), view.part_name(part))
}
