//! nonmonotonic-send: a producer's later send landed before its earlier one.
//!
//! A send's place is its acknowledgement's, or else where it was read first. Sends of one producer
//! may be in flight together; their order is that of their invocations, per partition.

use std::collections::BTreeMap;

use trialog_engine::id::Offset;

use super::view::{Fate, Part, Place, Send, View};
use super::{Anomaly, Report};
use crate::history::Process;

pub fn check(view: &View<'_>, report: &mut Report) {
    let mut last: BTreeMap<(Process, Part), (Offset, &Send<'_>)> = BTreeMap::new();
    for send in view.sends.iter().filter(|send| send.fate != Fate::Failed && send.idempotent) {
        let Some((part, offset)) = place(view, send) else { continue };
        let before = last.insert((send.process, part), (offset, send));
        let Some((previous, earlier)) = before.filter(|(previous, _)| *previous > offset) else {
            continue;
        };
        report.add(Anomaly::NonmonotonicSend, vec![earlier.invoked, send.invoked], || {
            format!(
                "producer {} sent {} before {} to {}, and they stand at offsets {previous} and {offset}",
                send.process.0,
                earlier.value,
                send.value,
                view.part_name(part)
            )
        });
    }
}

fn place(view: &View<'_>, send: &Send<'_>) -> Option<(Part, Offset)> {
    let acknowledged = view.places_of(send.value).find(|place| !place.read());
    let place: Option<&Place> = acknowledged.or_else(|| view.places_of(send.value).next());
    place.map(|place| (place.part, place.offset))
}
