//! compaction: a compacted partition lost the last record of a key, or one that was too young, or brought
//! an old one back, or kept one for too long.
//!
//! A record may go only if its key has a later one, or if it is a tombstone, and if it is as old as
//! `min.compaction.lag.ms` says; a tombstone may go only after what it deletes; and what is gone stays
//! gone. The end of a partition is `unseen`'s: what is
//! missing there was lost, not compacted.

use std::collections::BTreeMap;

use trialog_engine::id::Offset;

use super::gone::Gone;
use super::view::{Fate, Part, Place, Send, Source, View};
use super::walk::Jump;
use super::{Anomaly, Report};

pub fn check(view: &View<'_>, gone: &Gone<'_, '_>, jumps: &[Jump], report: &mut Report) {
    let compacted = |part: &Part| view.promise(*part).compacted && view.stays(*part);
    if !view.parts().any(|part| compacted(&part)) {
        return;
    }
    last_of_key(view, gone, report);
    for part in view.parts().filter(compacted) {
        tombstones(view, gone, part, report);
        gaps(view, gone, part, jumps, report);
        too_young(view, gone, part, jumps, report);
        too_old(view, gone, part, report);
    }
}

/// A reader must not find gone what was acknowledged so lately that it is there whatever came after it.
/// What some reader saw is for `poll-skip` to name.
fn too_young(
    view: &View<'_>,
    gone: &Gone<'_, '_>,
    part: Part,
    jumps: &[Jump],
    report: &mut Report,
) {
    if view.promise(part).compaction_lag.is_zero() {
        return;
    }
    for jump in jumps.iter().filter(|jump| jump.part == part && jump.offset > jump.due) {
        let over = view.places_between(part, jump.due, jump.offset);
        let missed = |place: &&Place| {
            !gone.may_be(part, place.offset, place.value, jump.event)
                && !view.places_of(place.value).any(Place::read)
        };
        let Some(place) = over.iter().find(missed) else { continue };
        report.add(Anomaly::Compaction, vec![place.event(), jump.event], || {
            format!(
                "{} at {} offset {} was gone when consumer {} went over it, and too young to go",
                place.value,
                view.part_name(part),
                place.offset,
                jump.process.0
            )
        });
    }
}

/// Where compaction had the time to come to everything but the last segment, no key may have two records
/// that are not there.
fn too_old(view: &View<'_>, gone: &Gone<'_, '_>, part: Part, report: &mut Report) {
    let Some(rolled) = view.promise(part).tidied else { return };
    let rolled = u64::try_from(rolled.as_nanos()).unwrap_or(u64::MAX);
    let walk = gone.last_walk(part);
    // When what lies behind a place was asked for last, from the end on.
    let mut latest = 0;
    let mut newer: BTreeMap<&str, &Place> = BTreeMap::new();
    for place in view.places_in(part).iter().rev() {
        let Some(send) = view.send_of(place.value) else { continue };
        let is_final = place.source == Source::ReadFinally && place.event() >= walk;
        if let Some(key) = send.key.filter(|_| is_final) {
            match newer.get(key).filter(|newer| newer.offset > place.offset) {
                Some(newer) => report.add(
                    Anomaly::Compaction,
                    vec![place.event(), newer.event()],
                    || {
                        format!(
                            "key {key:?} of {} has two records in the end, {} at offset {} and {} at \
                             offset {}",
                            view.part_name(part),
                            place.value,
                            place.offset,
                            newer.value,
                            newer.offset
                        )
                    },
                ),
                None if send.durable
                    && send.fate == Fate::Acknowledged
                    && latest >= view.time_ns(send.ended).saturating_add(rolled) =>
                {
                    newer.insert(key, place);
                }
                None => {}
            }
        }
        latest = latest.max(view.time_ns(send.invoked));
    }
}

fn seen_finally(view: &View<'_>, send: &Send<'_>) -> bool {
    view.places_of(send.value).any(|place| place.source == Source::ReadFinally)
}

/// Records that nothing superseded, or that are too young to go, must be there.
fn last_of_key(view: &View<'_>, gone: &Gone<'_, '_>, report: &mut Report) {
    let bounds = view.last_reads();
    for send in view.sends.iter().filter(|send| send.fate != Fate::Failed) {
        let known = |place: &Place| (place.part, place.offset, place.event());
        let place = view.places_of(send.value).next().map(known);
        let Some((part, offset, event)) = place else { continue };
        let inside = bounds[part as usize].is_some_and(|bound| offset < bound.offset);
        if !view.promise(part).compacted || !inside || seen_finally(view, send) {
            continue;
        }
        if gone.may_be(part, offset, send.value, usize::MAX) {
            continue;
        }
        let bound = bounds[part as usize].map_or(event, Place::event);
        report.add(Anomaly::Compaction, vec![event, bound], || {
            let (value, name) = (send.value, view.part_name(part));
            let key = send.key.map_or("without key".to_owned(), |key| format!("of key {key:?}"));
            format!(
                "{value} {key} stood at {name} offset {offset}, nothing replaced it long enough ago, \
                 and it is gone"
            )
        });
    }
}

/// No key whose last record was a tombstone may show an older value without it. What stood before the
/// beginning that the final reading found last may have gone with the tombstone, and so may what it
/// read before it went there.
fn tombstones(view: &View<'_>, gone: &Gone<'_, '_>, part: Part, report: &mut Report) {
    let (front, walk) = (gone.front(part).unwrap_or_default(), gone.last_walk(part));
    // By key: its last known record, and the last one that the final reading saw.
    let mut last: BTreeMap<&str, (&Place, &Send<'_>)> = BTreeMap::new();
    let mut shown: BTreeMap<&str, (&Place, &Send<'_>)> = BTreeMap::new();
    for place in view.places_in(part) {
        let Some(send) = view.send_of(place.value) else { continue };
        let Some(key) = send.key else { continue };
        last.insert(key, (place, send));
        let is_final = place.source == Source::ReadFinally && place.event() >= walk;
        if is_final && place.offset >= front {
            shown.insert(key, (place, send));
        }
    }
    for (key, (old, older)) in shown {
        let (place, tombstone) = last[key];
        if !tombstone.tombstone || older.value == tombstone.value || place.offset <= old.offset {
            continue;
        }
        report.add(Anomaly::Compaction, vec![place.event(), old.event()], || {
            let name = view.part_name(part);
            format!(
                "key {key:?} of {name} was deleted at offset {}; the tombstone is gone, and {} at \
                 offset {} is there again",
                place.offset, older.value, old.offset
            )
        });
    }
}

/// What a reader found gone, and may have been, must not be in the final reading. (What may not be
/// gone was skipped.)
fn gaps(view: &View<'_>, gone: &Gone<'_, '_>, part: Part, jumps: &[Jump], report: &mut Report) {
    let over = |jump: &&Jump| {
        jump.part == part && jump.offset > jump.due && jump.event < view.final_from()
    };
    // Gaps overlap; each offset is judged once.
    let mut gaps: Vec<&Jump> = jumps.iter().filter(over).collect();
    gaps.sort_by_key(|jump| (jump.due, jump.offset));
    let mut passed = Offset(0);
    for gap in gaps {
        let back = view.places_between(part, gap.due.max(passed), gap.offset);
        passed = passed.max(gap.offset);
        for place in back.iter().filter(|place| place.source == Source::ReadFinally) {
            if !gone.may_be(part, place.offset, place.value, gap.event) {
                continue;
            }
            report.add(Anomaly::Compaction, vec![gap.event, place.event()], || {
                format!(
                    "{} offset {} was gone when consumer {} went over it, and is back as {}",
                    view.part_name(part),
                    place.offset,
                    gap.process.0,
                    place.value
                )
            });
        }
    }
}
