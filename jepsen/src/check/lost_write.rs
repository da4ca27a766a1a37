//! lost-write: an acknowledged record that no reader ever saw although later offsets were read.
//!
//! Jepsen's definition: the largest offset that any reader saw bounds what must have been seen.
//! What was acknowledged beyond it is `unseen`, if a final reading should have found it; what is
//! missing in the middle of a compacted partition is for `compaction` to judge.

use super::gone::Gone;
use super::view::{Fate, Place, View};
use super::{Anomaly, Report};

pub fn check(view: &View<'_>, gone: &Gone<'_, '_>, report: &mut Report) {
    let bounds = view.last_reads();
    let kept = |send: &&super::view::Send<'_>| send.fate == Fate::Acknowledged && send.durable;
    for send in view.sends.iter().filter(kept) {
        let (Some(part), Some(offset)) = (send.part, send.offset) else { continue };
        let Some(bound) = bounds[part as usize] else { continue };
        let past = offset > bound.offset || view.promise(part).compacted;
        if past || view.places_of(send.value).any(Place::read) {
            continue;
        }
        if gone.may_be(part, offset, send.value, usize::MAX) {
            continue;
        }
        report.add(Anomaly::LostWrite, vec![send.ended, bound.event()], || {
            let (value, name) = (send.value, view.part_name(part));
            format!(
                "{value} was acknowledged at {name} offset {offset}, readers came to offset {}, \
                 and none saw it",
                bound.offset
            )
        });
    }
}
