//! offsets-dense: a hole in the offsets of a partition that has neither transactions nor compaction.
//!
//! Acknowledged offsets count as filled: whether their records can be read is for others to say.
//! Where records may go from the front, only what the final reading saw must be whole.

use trialog_engine::id::Offset;

use super::expect::Retention;
use super::gone::Gone;
use super::view::View;
use super::{Anomaly, Report};

pub fn check(view: &View<'_>, gone: &Gone<'_, '_>, report: &mut Report) {
    for part in view.parts().filter(|part| view.promise(*part).dense && view.stays(*part)) {
        let places = view.places_in(part);
        let Some(first) = places.first() else { continue };
        let front_goes = view.promise(part).retention != Retention::Forever || gone.trimmed(part);
        let mut due = match gone.front(part) {
            Some(front) if front_goes => front,
            None if front_goes => continue,
            _ => Offset(0),
        };
        let mut before = first.event();
        for place in places {
            if place.offset > due {
                report.add(Anomaly::OffsetsDense, vec![before, place.event()], || {
                    let name = view.part_name(part);
                    format!("{name} has no record at offset {due}, the next is at {}", place.offset)
                });
            }
            (due, before) = (due.max(place.offset.plus(1)), place.event());
        }
    }
}
