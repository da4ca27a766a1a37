//! What may be missing: records that a trim, retention, or compaction was entitled to take.
//!
//! Every checker that calls something lost asks here first. Where the history leaves it open, the
//! answer is yes: no alarm without proof.

use std::collections::BTreeMap;
use std::time::Duration;

use trialog_engine::id::Offset;

use super::calls::Call;
use super::expect::Retention;
use super::view::{Fate, Part, Place, Send, Source, View};
use crate::history::{BEGINNING, END, Op, Phase, Process, Topic, Value};

/// What a history allows to be missing.
pub struct Gone<'v, 'a> {
    view: &'v View<'a>,
    /// Trims by part, in the order of their invocations: event, and the largest offset so far below
    /// which anything may be gone.
    trims: Vec<Vec<(usize, Offset)>>,
    /// Where the final reading found the beginning the last time it went there, by part.
    fronts: Vec<Option<Offset>>,
    walks: Vec<usize>,
    /// Keyed records whose offset is known: topic, key, part, offset, and the send's event.
    keyed: Vec<(Topic, &'a str, Part, Offset, usize)>,
    /// Keyed records of unknown place, if they are anywhere.
    strays: Vec<(Topic, &'a str, usize, Option<Part>)>,
}

impl<'v, 'a> Gone<'v, 'a> {
    pub fn new(view: &'v View<'a>, calls: &[Call<'_>]) -> Gone<'v, 'a> {
        let mut keyed = Vec::new();
        let mut strays = Vec::new();
        for send in view.sends.iter().filter(|send| send.fate != Fate::Failed) {
            let Some(key) = send.key else { continue };
            if send.part.is_some_and(|part| !view.promise(part).compacted) {
                continue;
            }
            let places = view.places_of(send.value).map(|place| (place.part, place.offset));
            let known = keyed.len();
            for (part, offset) in places.chain(send.part.zip(send.offset)) {
                keyed.push((send.topic, key, part, offset, send.invoked));
            }
            // Without idempotence it may stand elsewhere, too.
            if keyed.len() == known || !send.idempotent {
                strays.push((send.topic, key, send.invoked, send.part));
            }
        }
        keyed.sort_unstable();
        strays.sort_unstable();
        let (trims, fronts, walks) = (trims(view, calls), fronts(view), walks(view));
        Gone { view, trims, fronts, walks, keyed, strays }
    }

    /// The largest offset below which a trim that was asked before event `at` may have taken
    /// everything.
    pub fn trimmed_to(&self, part: Part, at: usize) -> Offset {
        let trims = &self.trims[part as usize];
        let count = trims.partition_point(|(event, _)| *event < at);
        count.checked_sub(1).map_or(Offset(0), |last| trims[last].1)
    }

    /// Where the final reading found the partition's beginning.
    pub fn front(&self, part: Part) -> Option<Offset> {
        self.fronts[part as usize]
    }

    /// The event with which the final reading went to the partition's beginning for the last time: what
    /// was read before may have gone between the two.
    pub fn last_walk(&self, part: Part) -> usize {
        self.walks[part as usize]
    }

    /// Whether a trim was ever asked for.
    pub fn trimmed(&self, part: Part) -> bool {
        !self.trims[part as usize].is_empty()
    }

    /// Whether the record of a value at an offset may be missing from what is read at event `at`.
    pub fn may_be(&self, part: Part, offset: Offset, value: Value, at: usize) -> bool {
        if !self.view.stays(part) || offset < self.trimmed_to(part, at) {
            return true;
        }
        let before_front = self.fronts[part as usize].is_none_or(|front| offset < front);
        self.compacted_away(part, offset, value, at)
            || (before_front && self.old_enough(part, value, at))
    }

    /// Whether compaction may have taken the record of a value at an offset by event `at`: it was old
    /// enough, and not needed any more.
    pub fn compacted_away(&self, part: Part, offset: Offset, value: Value, at: usize) -> bool {
        let superseded = |send: &Send<'_>| self.superseded(send, part, offset, at);
        let promise = self.view.promise(part);
        promise.compacted
            && self.is_older(promise.compaction_lag, value, at)
            && self.view.send_of(value).is_some_and(superseded)
    }

    /// Whether retention may have taken a record by event `at`, if it is at the front by then. Its
    /// age counts from when it was asked to be stored.
    pub fn old_enough(&self, part: Part, value: Value, at: usize) -> bool {
        let age = match self.view.promise(part).retention {
            Retention::Forever => return false,
            Retention::Anytime => return true,
            Retention::AtLeast(age) => age,
        };
        self.is_older(age, value, at)
    }

    /// Whether so much time had passed at event `at` since a record was asked to be stored.
    fn is_older(&self, age: Duration, value: Value, at: usize) -> bool {
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        let sent = self.view.send_of(value).map_or(0, |send| self.view.time_ns(send.invoked));
        let now = self.view.time_ns(at.min(self.view.history.events().len() - 1));
        now >= sent.saturating_add(age)
    }

    /// Whether compaction may take a record by event `at`: it deletes its key, or its key has a
    /// later record, or may have.
    pub fn superseded(&self, send: &Send<'_>, part: Part, offset: Offset, at: usize) -> bool {
        let Some(key) = send.key else { return false };
        if send.tombstone && !self.view.promise(part).tombstones_stay {
            return true;
        }
        let from = self.keyed.partition_point(|(topic, known, place, known_offset, _)| {
            (*topic, *known, *place, *known_offset) <= (send.topic, key, part, offset)
        });
        let mut later = self.keyed[from..].iter().take_while(|(topic, known, place, ..)| {
            (*topic, *known, *place) == (send.topic, key, part)
        });
        if later.any(|(.., invoked)| *invoked < at) {
            return true;
        }
        let from =
            self.strays.partition_point(|(topic, known, ..)| (*topic, *known) < (send.topic, key));
        let mut strays = self.strays[from..].iter().take_while(|(topic, known, invoked, _)| {
            (*topic, *known) == (send.topic, key) && *invoked < at
        });
        strays.any(|(.., place)| place.is_none_or(|place| place == part))
    }
}

/// The lowest offset that the final reading saw; or, if a reader went to the beginning more than
/// once, where the last such time led: what is below may have gone between the two. If that reader found
/// nothing more, it is what it was told to be the beginning when it had come to the end: what is there then was
/// there before. If it was not told, all may have gone.
fn fronts(view: &View<'_>) -> Vec<Option<Offset>> {
    let seen = |place: &&Place| place.source == Source::ReadFinally;
    let lowest = |part| view.places_in(part).iter().find(seen).map(|place| place.offset);
    let mut fronts: Vec<Option<Offset>> = view.parts().map(lowest).collect();
    // One last reader follows another, and begins anew: who did last, and has found nothing since.
    let mut went: BTreeMap<Part, Walker> = BTreeMap::new();
    for event in view.history.events().iter().skip(view.final_from()) {
        match &event.op {
            Op::Seek { topic, partition, offset } if *offset == BEGINNING => {
                let walker = Walker { process: event.process, at_end: false, told: None };
                went.insert(view.part(*topic, *partition), walker);
            }
            Op::Poll { records } => {
                for record in records {
                    let part = view.part(record.topic, record.partition);
                    if went.get(&part).is_some_and(|walker| walker.process == event.process) {
                        went.remove(&part);
                        let front = &mut fronts[part as usize];
                        *front = (*front).max(Some(record.offset));
                    }
                }
            }
            Op::ListOffset { topic, partition, ask, offset } if event.phase == Phase::Ok => {
                let walker = went.get_mut(&view.part(*topic, *partition));
                match walker.filter(|walker| walker.process == event.process) {
                    Some(walker) if *ask == END.0 => walker.at_end = true,
                    Some(walker) if *ask == BEGINNING.0 && walker.at_end => walker.told = *offset,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    for (part, walker) in went {
        fronts[part as usize] = walker.told;
    }
    fronts
}

/// A last reader that went to the beginning of a partition, and has found nothing since.
struct Walker {
    process: Process,
    /// Whether it has asked since where the end is: who has not come to it does not ask.
    at_end: bool,
    /// Where the partition began then.
    told: Option<Offset>,
}

fn walks(view: &View<'_>) -> Vec<usize> {
    let mut walks = vec![0; view.parts().count()];
    for (at, event) in view.history.events().iter().enumerate().skip(view.final_from()) {
        if let Op::Seek { topic, partition, offset } = &event.op
            && *offset == BEGINNING
        {
            walks[view.part(*topic, *partition) as usize] = at;
        }
    }
    walks
}

fn trims(view: &View<'_>, calls: &[Call<'_>]) -> Vec<Vec<(usize, Offset)>> {
    let mut trims: Vec<Vec<(usize, Offset)>> = vec![Vec::new(); view.parts().count()];
    for call in calls {
        let Op::Trim { topic, partition, offset } = call.ask else { continue };
        let part = view.part(*topic, *partition);
        // Up to the end means up to where the end was, which only the answer tells.
        let below = match call.answer {
            Some(Op::Trim { offset, .. }) => *offset,
            _ if *offset == END && !call.failed => end_by(view, part, call.over),
            _ => *offset,
        };
        trims[part as usize].push((call.invoked, below));
    }
    for list in &mut trims {
        let mut largest = Offset(0);
        for (_, below) in list {
            largest = largest.max(*below);
            *below = largest;
        }
    }
    trims
}

/// Not below where a partition ended at any time before an event: whatever was asked to be stored after
/// that stands behind it.
fn end_by(view: &View<'_>, part: Part, event: usize) -> Offset {
    let is_later = |place: &&Place| {
        view.send_of(place.value).is_some_and(|send: &Send<'_>| send.invoked > event)
    };
    let later = view.places_in(part).iter().find(is_later);
    later.map_or(Offset(i64::MAX), |place| place.offset)
}
