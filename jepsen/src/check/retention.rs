//! retention: records are still there that retention by time had every reason, and the time, to take.
//!
//! Retention takes whole segments, and a young record keeps those that share its segment. So this looks
//! only at partitions that are old as a whole: when the final reading went to the beginning for the last
//! time, nothing had been sent to them for longer than anything is kept.

use super::gone::Gone;
use super::view::{Part, Place, Source, View};
use super::{Anomaly, Report};

pub fn check(view: &View<'_>, gone: &Gone<'_, '_>, report: &mut Report) {
    for part in view.parts().filter(|part| view.stays(*part)) {
        let Some(age) = view.promise(part).expired else { continue };
        let walk = gone.last_walk(part);
        let due =
            last_sent(view, part).saturating_add(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
        if view.time_ns(walk) < due {
            continue;
        }
        let is_there = |place: &&Place| place.source == Source::ReadFinally && place.event() > walk;
        let Some(place) = view.places_in(part).iter().find(is_there) else { continue };
        report.add(Anomaly::Retention, vec![walk, place.event()], || {
            format!(
                "{} at {} offset {} is still there, and all that was sent there was too old to stay",
                place.value,
                view.part_name(part),
                place.offset
            )
        });
    }
}

/// When anything was last sent to a partition that may have come to it: until it was answered it may have
/// come late.
fn last_sent(view: &View<'_>, part: Part) -> u64 {
    let sends = view.sends.iter().filter(|send| send.topic == view.topic_of(part));
    sends.map(|send| view.time_ns(send.ended)).max().unwrap_or(0)
}
