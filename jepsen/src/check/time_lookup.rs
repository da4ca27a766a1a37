//! time-lookup: the offset of a time is not that of the first record that is so young (KIP-79).
//!
//! Judged by the timestamps that the senders chose, so only in topics that keep them. Too early: the
//! record there is older. Too late: an acknowledged record before it is young enough.

use std::collections::BTreeMap;

use trialog_engine::id::Offset;

use super::calls::Call;
use super::gone::Gone;
use super::view::{Fate, Part, Send, View};
use super::{Anomaly, Report};
use crate::history::{Op, Value};

/// An acknowledged record that has a time.
#[derive(Clone, Copy)]
struct Timed {
    offset: Offset,
    timestamp_ms: i64,
    /// The largest time up to here.
    latest_ms: i64,
    value: Value,
    ended: usize,
}

pub fn check(view: &View<'_>, gone: &Gone<'_, '_>, calls: &[Call<'_>], report: &mut Report) {
    let mut timed: BTreeMap<Part, Vec<Timed>> = BTreeMap::new();
    for call in calls {
        let Some(Op::ListOffset { topic, partition, ask, offset }) = call.answer else { continue };
        let part = view.part(*topic, *partition);
        if *ask < 0 || !view.stays(part) || view.promise(part).durable.is_none() {
            continue;
        }
        let records = timed.entry(part).or_insert_with(|| gather(view, part));
        if let Some(offset) = offset {
            too_early(view, call, (part, *ask, *offset), report);
        }
        too_late(view, gone, call, (part, *ask, *offset), records, report);
    }
}

fn gather(view: &View<'_>, part: Part) -> Vec<Timed> {
    let here = |send: &&Send<'_>| {
        send.part == Some(part) && send.fate == Fate::Acknowledged && send.durable
    };
    let timed = |send: &Send<'_>| {
        let (offset, timestamp_ms) = (send.offset?, send.timestamp_ms?);
        let (value, ended) = (send.value, send.ended);
        Some(Timed { offset, timestamp_ms, latest_ms: timestamp_ms, value, ended })
    };
    let mut records: Vec<Timed> = view.sends.iter().filter(here).filter_map(timed).collect();
    records.sort_by_key(|record| record.offset);
    let mut latest_ms = i64::MIN;
    for record in &mut records {
        latest_ms = latest_ms.max(record.timestamp_ms);
        record.latest_ms = latest_ms;
    }
    records
}

fn too_early(
    view: &View<'_>,
    call: &Call<'_>,
    (part, ask, offset): (Part, i64, Offset),
    report: &mut Report,
) {
    let there = view.places_between(part, offset, offset.plus(1)).first();
    let time = there.and_then(|place| view.send_of(place.value)?.timestamp_ms);
    let (Some(place), Some(time)) = (there, time.filter(|time| *time < ask)) else { return };
    report.add(Anomaly::TimeLookup, vec![place.event(), call.invoked, call.ended], || {
        let name = view.part_name(part);
        format!("{name} was asked for time {ask} and named offset {offset}, whose time is {time}")
    });
}

fn too_late(
    view: &View<'_>,
    gone: &Gone<'_, '_>,
    call: &Call<'_>,
    (part, ask, offset): (Part, i64, Option<Offset>),
    records: &[Timed],
    report: &mut Report,
) {
    let first = records.partition_point(|record| record.latest_ms < ask);
    let passed = records[first..].iter().find(|record| {
        record.timestamp_ms >= ask
            && record.ended < call.invoked
            && !gone.may_be(part, record.offset, record.value, call.ended)
    });
    let Some(missed) = passed.filter(|record| offset.is_none_or(|offset| record.offset < offset))
    else {
        return;
    };
    report.add(Anomaly::TimeLookup, vec![missed.ended, call.invoked, call.ended], || {
        let (name, time) = (view.part_name(part), missed.timestamp_ms);
        let named = offset.map_or("none".to_owned(), |offset| format!("offset {offset}"));
        format!(
            "{name} was asked for time {ask} and named {named}, over offset {} whose time is {time}",
            missed.offset
        )
    });
}
