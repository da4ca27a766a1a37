//! poll-skip: an assigned consumer jumps over records that some reader saw.
//!
//! A hole alone is no skip (`offsets-dense` judges holes), and neither is a record that nobody ever
//! saw (`lost-write` names it), nor one that was entitled to go.

use super::gone::Gone;
use super::view::View;
use super::walk::Jump;
use super::{Anomaly, Report};

pub fn check(view: &View<'_>, gone: &Gone<'_, '_>, jumps: &[Jump], report: &mut Report) {
    for jump in jumps.iter().filter(|jump| jump.offset > jump.due) {
        let between = view.places_between(jump.part, jump.due, jump.offset);
        let there = between.iter().find(|place| {
            place.read() && !gone.may_be(place.part, place.offset, place.value, jump.event)
        });
        let Some(skipped) = there else { continue };
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
