//! start-offset: the start of a partition goes back, moves without leave, or is read below.
//!
//! What is known of the start: answers to list-offset, acknowledged trims, and an observer's word.
//! Once one of them has said that it is at an offset, everything that begins later must agree: it is
//! there or further on, and a consumer that sets its position later gets nothing from below. It may
//! move only where a trim was asked for or where retention takes records, and over none that is too
//! young for that.

use trialog_engine::id::Offset;

use super::calls::Call;
use super::expect::Retention;
use super::gone::Gone;
use super::view::{Part, View};
use super::walk::Low;
use super::{Anomaly, Report};
use crate::history::{BEGINNING, Op};

/// What is known of the starts of partitions, by the event from which on it is known.
pub struct Starts {
    /// By part, by event: the largest start so far, and the event that tells it.
    known: Vec<Vec<(usize, Offset, usize)>>,
    /// Everything that was said, in the order of its end.
    said: Vec<Said>,
}

/// One word about a start.
struct Said {
    part: Part,
    offset: Offset,
    /// It was true at some moment between these two events.
    from: usize,
    to: usize,
    trim: bool,
}

impl Starts {
    pub fn new(view: &View<'_>, calls: &[Call<'_>]) -> Starts {
        let mut said = Vec::new();
        for call in calls {
            let (from, to) = (call.invoked, call.ended);
            match call.answer {
                Some(Op::ListOffset { topic, partition, ask, offset: Some(offset) })
                    if *ask == BEGINNING.0 =>
                {
                    let part = view.part(*topic, *partition);
                    said.push(Said { part, offset: *offset, from, to, trim: false });
                }
                Some(Op::Trim { topic, partition, offset }) => {
                    let part = view.part(*topic, *partition);
                    said.push(Said { part, offset: *offset, from, to, trim: true });
                }
                _ => {}
            }
        }
        for (at, event) in view.history.events().iter().enumerate() {
            if let Op::Start { topic, partition, offset } = &event.op {
                let part = view.part(*topic, *partition);
                said.push(Said { part, offset: *offset, from: at, to: at, trim: false });
            }
        }
        said.retain(|said| view.stays(said.part));
        said.sort_by_key(|said| said.to);
        let mut known: Vec<Vec<(usize, Offset, usize)>> = vec![Vec::new(); view.parts().count()];
        for said in &said {
            let list = &mut known[said.part as usize];
            let before = list.last().map_or((Offset(0), said.to), |(_, offset, by)| (*offset, *by));
            let (offset, by) = if said.offset > before.0 { (said.offset, said.to) } else { before };
            list.push((said.to, offset, by));
        }
        Starts { known, said }
    }

    /// Where a partition is known to start at least, for what begins at event `at`; and the event
    /// that tells it.
    pub fn floor(&self, part: Part, at: usize) -> Option<(Offset, usize)> {
        let list = &self.known[part as usize];
        let count = list.partition_point(|(event, ..)| *event < at);
        count.checked_sub(1).map(|last| (list[last].1, list[last].2))
    }
}

pub fn check(
    view: &View<'_>,
    gone: &Gone<'_, '_>,
    starts: &Starts,
    lows: &[Low],
    report: &mut Report,
) {
    for said in &starts.said {
        let Said { part, offset, from, to, trim } = *said;
        if let Some((floor, by)) = starts.floor(part, from).filter(|(floor, _)| *floor > offset)
            && !trim
        {
            report.add(Anomaly::StartOffset, vec![by, from, to], || {
                let name = view.part_name(part);
                format!("{name} started at offset {floor}, and later at {offset}")
            });
        }
        if !trim {
            unasked(view, gone, starts, said, report);
        }
    }
    for low in lows {
        report.add(Anomaly::StartOffset, vec![low.known_by, low.since, low.event], || {
            format!(
                "consumer {} read offset {} of {}, which was known to start at {}",
                low.process.0,
                low.offset,
                view.part_name(low.part),
                low.floor
            )
        });
    }
}

/// Whether the start moved although nothing could move it there.
fn unasked(
    view: &View<'_>,
    gone: &Gone<'_, '_>,
    starts: &Starts,
    said: &Said,
    report: &mut Report,
) {
    let Said { part, offset, from, to, .. } = *said;
    let asked = gone.trimmed_to(part, to);
    if offset <= asked {
        return;
    }
    match view.promise(part).retention {
        Retention::Forever => report.add(Anomaly::StartOffset, vec![from, to], || {
            let name = view.part_name(part);
            format!("{name} starts at offset {offset}, and nobody asked for more than {asked}")
        }),
        Retention::Anytime => {}
        Retention::AtLeast(_) => {
            // What lies below an earlier start was that one's to pass.
            let known = starts.floor(part, from).map_or(Offset(0), |(floor, _)| floor);
            let passed = view.places_between(part, asked.max(known), offset);
            let young = passed.iter().find(|place| {
                !gone.old_enough(part, place.value, to)
                    && !gone.compacted_away(part, place.offset, place.value, to)
            });
            let Some(young) = young else { return };
            report.add(Anomaly::StartOffset, vec![young.event(), from, to], || {
                let (name, value) = (view.part_name(part), young.value);
                format!(
                    "{name} starts at offset {offset}, but {value} at offset {} was too young to go",
                    young.offset
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{self, Expect};
    use crate::history::{END, Event, History, Phase, Process};
    use trialog_engine::id::PartitionIndex;

    /// A trim to the end that nobody answered may still take everything, whatever its asker asks for
    /// later; one that was answered takes what the answer says.
    #[test]
    fn a_trim_to_the_end_without_an_answer_stays_open() {
        for (answer, is_wrong) in [(Phase::Info, false), (Phase::Ok, true)] {
            let mut history = History::default();
            let topic = history.topic("t");
            let partition = PartitionIndex(0);
            let mut push = |phase, op| {
                let (time_ns, process) = (0, Process(1));
                history.push(Event { time_ns, process, phase, op });
            };
            let trim = |offset| Op::Trim { topic, partition, offset };
            push(Phase::Invoke, trim(END));
            push(answer, trim(Offset(10)));
            push(Phase::Invoke, trim(Offset(15)));
            push(Phase::Ok, trim(Offset(15)));
            let start = |offset| Op::ListOffset { topic, partition, ask: BEGINNING.0, offset };
            push(Phase::Invoke, start(None));
            push(Phase::Ok, start(Some(Offset(23))));
            let report = check::all(&history, &Expect::default());
            assert_eq!(report.count(Anomaly::StartOffset) > 0, is_wrong, "{answer:?}: {report}");
        }
    }
}
