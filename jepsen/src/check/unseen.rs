//! unseen: acknowledged or read before, and not there when everything was read at the end.
//!
//! Stricter than Jepsen's in one point: a record that a reader saw before a crash and that is gone
//! afterwards counts too, because nothing may be served that can still be lost. What `lost-write`
//! names is left to it.

use super::view::{Fate, Place, Source, View};
use super::{Anomaly, Report};

pub fn check(view: &View<'_>, report: &mut Report) {
    let bounds: Vec<Option<&Place>> = view.parts().map(|part| view.last_read(part)).collect();
    for send in &view.sends {
        let places = view.places_of(send.value);
        if places.iter().any(|place| place.source == Source::ReadFinally) {
            continue;
        }
        if let Some(seen) = places.iter().find(|place| place.read()) {
            report.add(Anomaly::Unseen, vec![send.invoked, seen.event], || {
                let name = view.part_name(seen.part);
                format!(
                    "{} was read at {name} offset {} and is gone from the final reading",
                    send.value, seen.offset
                )
            });
            continue;
        }
        if send.fate != Fate::Acknowledged {
            continue;
        }
        let bound = send.part.and_then(|part| bounds[part as usize]);
        if let (Some(offset), Some(bound)) = (send.offset, bound)
            && offset <= bound.offset
        {
            continue; // a lost-write
        }
        let witness = [Some(send.ended), bound.map(|bound| bound.event)];
        report.add(Anomaly::Unseen, witness.into_iter().flatten().collect(), || {
            let at = send.offset.map_or(String::new(), |offset| format!(" at offset {offset}"));
            let name = send.part.map_or_else(
                || view.history.name(send.topic).to_owned(),
                |part| view.part_name(part),
            );
            let end = bound.map_or("nothing".to_owned(), |bound| format!("up to {}", bound.offset));
            format!(
                "{} was acknowledged in {name}{at}, and the final reading saw {end}",
                send.value
            )
        });
    }
}
