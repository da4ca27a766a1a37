//! unseen: acknowledged or read before, and not there when everything was read at the end.
//!
//! Stricter than Jepsen's in one point: a record that a reader saw before a crash and that is gone
//! afterwards counts too, because nothing may be served that can still be lost. What `lost-write`
//! or `compaction` names is left to them.

use super::gone::Gone;
use super::view::{Fate, Place, Send, Source, View};
use super::{Anomaly, Report};

pub fn check(view: &View<'_>, gone: &Gone<'_, '_>, report: &mut Report) {
    let bounds = view.last_reads();
    for send in &view.sends {
        if !view.single(send.topic)
            || view.places_of(send.value).any(|place| place.source == Source::ReadFinally)
        {
            continue;
        }
        let before = view.places_of(send.value).find(|place| place.read());
        match before {
            Some(seen) => gone_again(view, gone, send, seen, &bounds, report),
            None if send.fate == Fate::Acknowledged && send.durable => {
                never_seen(view, gone, send, &bounds, report);
            }
            None => {}
        }
    }
}

fn gone_again(
    view: &View<'_>,
    gone: &Gone<'_, '_>,
    send: &Send<'_>,
    seen: &Place,
    bounds: &[Option<&Place>],
    report: &mut Report,
) {
    let durable = view.promise(seen.part).durable.is_some();
    let inside = bounds[seen.part as usize].is_some_and(|bound| seen.offset < bound.offset);
    let left = inside && view.promise(seen.part).compacted;
    if !durable || left || gone.may_be(seen.part, seen.offset, send.value, usize::MAX) {
        return;
    }
    report.add(Anomaly::Unseen, vec![send.invoked, seen.event()], || {
        let name = view.part_name(seen.part);
        format!(
            "{} was read at {name} offset {} and is gone from the final reading",
            send.value, seen.offset
        )
    });
}

fn never_seen(
    view: &View<'_>,
    gone: &Gone<'_, '_>,
    send: &Send<'_>,
    bounds: &[Option<&Place>],
    report: &mut Report,
) {
    let bound = send.part.and_then(|part| bounds[part as usize]);
    if let (Some(offset), Some(bound)) = (send.offset, bound)
        && offset <= bound.offset
    {
        return; // A lost-write, or compaction's.
    }
    if let Some(part) = send.part {
        // Without an offset it could have been anywhere: the front is the place most easily gone.
        let offset = send.offset.unwrap_or(trialog_engine::id::Offset(0));
        if gone.may_be(part, offset, send.value, usize::MAX) {
            return;
        }
    }
    let witness = [Some(send.ended), bound.map(Place::event)];
    report.add(Anomaly::Unseen, witness.into_iter().flatten().collect(), || {
        let at = send.offset.map_or(String::new(), |offset| format!(" at offset {offset}"));
        let name = send
            .part
            .map_or_else(|| view.history.name(send.topic).to_owned(), |part| view.part_name(part));
        let end = bound.map_or("nothing".to_owned(), |bound| format!("up to {}", bound.offset));
        format!("{} was acknowledged in {name}{at}, and the final reading saw {end}", send.value)
    });
}
