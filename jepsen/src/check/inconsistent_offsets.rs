//! inconsistent-offsets: one partition and offset with two values, by readers or acknowledgements.

use super::view::{Place, View};
use super::{Anomaly, Report};

pub fn check(view: &View<'_>, report: &mut Report) {
    let same = |one: &Place, other: &Place| (one.part, one.offset) == (other.part, other.offset);
    for places in view.places.chunk_by(same) {
        let first = places[0];
        let Some(second) = places.iter().find(|place| place.value != first.value) else {
            continue;
        };
        report.add(Anomaly::InconsistentOffsets, vec![first.event(), second.event()], || {
            let name = view.part_name(first.part);
            format!("{name} offset {} held {} and {}", first.offset, first.value, second.value)
        });
    }
}
