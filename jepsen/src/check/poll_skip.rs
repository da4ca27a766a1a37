//! poll-skip: an assigned consumer jumps over records that some reader saw.
//!
//! A hole alone is no skip (`offsets-dense` judges holes), and neither is a record that nobody ever
//! saw (`lost-write` names it), nor one that was entitled to go. A member of a group skips, too, if it
//! resumes beyond everything that the group may have committed.

use std::collections::BTreeMap;

use trialog_engine::id::Offset;

use super::commit::{Key, Register, name, shown};
use super::gone::Gone;
use super::view::{Part, Place, View};
use super::walk::{Jump, Resume};
use super::{Anomaly, Report};

pub fn check(view: &View<'_>, gone: &Gone<'_, '_>, jumps: &[Jump], report: &mut Report) {
    for jump in jumps.iter().filter(|jump| jump.offset > jump.due) {
        let range = (jump.due, jump.offset);
        let Some(skipped) = skipped(view, gone, jump.part, range, jump.event) else { continue };
        let witness = vec![jump.due_since, jump.event, skipped.event()];
        report.add(Anomaly::PollSkip, witness, || {
            format!(
                "consumer {} went in {} from offset {} to {}, over {} at offset {}",
                jump.process.0,
                view.part_name(jump.part),
                jump.due,
                jump.offset,
                skipped.value,
                skipped.offset
            )
        });
    }
}

/// Members of groups that resume too far on.
pub fn resumed(
    view: &View<'_>,
    gone: &Gone<'_, '_>,
    registers: &BTreeMap<Key, Register>,
    resumes: &[Resume],
    report: &mut Report,
) {
    for resume in resumes {
        let key = (resume.group, resume.part);
        let Some(register) = registers.get(&key) else { continue };
        let possible = register.possible(resume.since, resume.event);
        let most = possible.and_then(|writes| writes.max_by_key(|write| write.offset));
        let Some(most) = most.filter(|most| Some(resume.offset) > most.offset) else { continue };
        // Where nothing is committed, who resumes may begin anywhere.
        let Some(from) = most.offset else { continue };
        let range = (from, resume.offset);
        let skipped = skipped(view, gone, resume.part, range, resume.event);
        let Some(skipped) = skipped else { continue };
        let witness = vec![most.invoked, resume.since, resume.event, skipped.event()];
        report.add(Anomaly::PollSkip, witness, || {
            format!(
                "member {} resumed {} from offset {}, but {} at most was committed: it went over {}",
                resume.process.0,
                name(view, key),
                resume.offset,
                shown(most.offset),
                skipped.value
            )
        });
    }
}

/// A record between two offsets that a consumer should have got by event `at`.
fn skipped<'v>(
    view: &'v View<'_>,
    gone: &Gone<'_, '_>,
    part: Part,
    (from, to): (Offset, Offset),
    at: usize,
) -> Option<&'v Place> {
    let there =
        |place: &&Place| place.read() && !gone.may_be(place.part, place.offset, place.value, at);
    view.places_between(part, from, to).iter().find(there)
}
