//! offsets-dense: a hole in the offsets of a partition that has neither transactions nor compaction.
//!
//! Acknowledged offsets count as filled: whether their records can be read is for others to say.

use trialog_engine::id::Offset;

use super::view::View;
use super::{Anomaly, Expect, Report};

pub fn check(view: &View<'_>, expect: &Expect, report: &mut Report) {
    for part in view.parts() {
        let places = view.places_in(part);
        let Some(first) = places.first() else { continue };
        let mut due = if expect.trimmed { first.offset } else { Offset(0) };
        let mut before = first.event;
        for place in places {
            if place.offset > due {
                report.add(Anomaly::OffsetsDense, vec![before, place.event], || {
                    let name = view.part_name(part);
                    format!("{name} has no record at offset {due}, the next is at {}", place.offset)
                });
            }
            (due, before) = (place.offset.plus(1), place.event);
        }
    }
}
