//! lost-write: an acknowledged record that no reader ever saw although later offsets were read.
//!
//! Jepsen's definition: the largest offset that any reader saw bounds what must have been seen.
//! What was acknowledged beyond it is `unseen`, if a final reading should have found it.

use super::view::{Fate, Place, View};
use super::{Anomaly, Report};

pub fn check(view: &View<'_>, report: &mut Report) {
    let bounds: Vec<Option<&Place>> = view.parts().map(|part| view.last_read(part)).collect();
    for send in view.sends.iter().filter(|send| send.fate == Fate::Acknowledged) {
        let (Some(part), Some(offset)) = (send.part, send.offset) else { continue };
        let Some(bound) = bounds[part as usize] else { continue };
        if offset > bound.offset || view.places_of(send.value).iter().any(Place::read) {
            continue;
        }
        report.add(Anomaly::LostWrite, vec![send.ended, bound.event], || {
            let (value, name) = (send.value, view.part_name(part));
            format!(
                "{value} was acknowledged at {name} offset {offset}, readers came to offset {}, \
                 and none saw it",
                bound.offset
            )
        });
    }
}
