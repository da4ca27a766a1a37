//! duplicate: one value at more than one offset, although its producer was idempotent.
//!
//! An acknowledgement counts as a place: acknowledged at one offset and read at another is two.

use super::view::View;
use super::{Anomaly, Report};
use crate::history::Value;

pub fn check(view: &View<'_>, report: &mut Report) {
    for mut places in view.values() {
        let first = places.next().expect("a value has a place");
        let second = places.find(|place| (place.part, place.offset) != (first.part, first.offset));
        let Some(second) = second.filter(|place| place.value != Value::FOREIGN) else { continue };
        if view.send_of(first.value).is_some_and(|send| !send.idempotent) {
            continue;
        }
        report.add(Anomaly::Duplicate, vec![first.event(), second.event()], || {
            let (one, two) = (view.part_name(first.part), view.part_name(second.part));
            format!(
                "{} stands at {one} offset {} and at {two} offset {}",
                first.value, first.offset, second.offset
            )
        });
    }
}
