//! end-offset: the end of a partition goes back, or lies below what was acknowledged or read.
//!
//! The end is what list-offset says of it (KIP-207: it never goes back, whoever leads). What was
//! acknowledged, read, or said to be the end before a question was asked bounds the answer.

use std::collections::BTreeMap;

use trialog_engine::id::Offset;

use super::calls::Call;
use super::view::{Part, View};
use super::{Anomaly, Report};
use crate::history::{END, Op, Phase};

pub fn check(view: &View<'_>, calls: &[Call<'_>], report: &mut Report) {
    let question = |call: &Call<'_>| match call.answer {
        Some(Op::ListOffset { topic, partition, ask, offset: Some(offset) }) if *ask == END.0 => {
            Some((view.part(*topic, *partition), *offset))
        }
        _ => None,
    };
    let questions: BTreeMap<usize, (Part, Offset, usize)> = calls
        .iter()
        .filter_map(|call| {
            question(call).map(|(part, end)| (call.invoked, (part, end, call.ended)))
        })
        .filter(|(_, (part, ..))| view.stays(*part) && view.promise(*part).durable.is_some())
        .collect();
    if questions.is_empty() {
        return;
    }
    let answers: BTreeMap<usize, (Part, Offset)> =
        questions.values().map(|(part, end, ended)| (*ended, (*part, *end))).collect();
    // By part: the least end that is known by now, and the event that tells it.
    let mut known: Vec<(Offset, usize)> = vec![(Offset(0), 0); view.parts().count()];
    for (at, event) in view.history.events().iter().enumerate() {
        if let Some((part, end, ended)) = questions.get(&at) {
            let (least, by) = known[*part as usize];
            if *end < least {
                report.add(Anomaly::EndOffset, vec![by, at, *ended], || {
                    let name = view.part_name(*part);
                    format!("{name} was said to end at {end}, but it was known to reach {least}")
                });
            }
        }
        let mut reaches = |part: Part, end: Offset| {
            let least = &mut known[part as usize];
            if end > least.0 {
                *least = (end, at);
            }
        };
        match &event.op {
            _ if event.phase != Phase::Ok => {}
            Op::ListOffset { .. } => {
                if let Some((part, end)) = answers.get(&at) {
                    reaches(*part, *end);
                }
            }
            Op::Send { topic, partition: Some(partition), value, offset: Some(offset), .. }
                if view.send_of(*value).is_some_and(|send| send.durable) =>
            {
                reaches(view.part(*topic, *partition), offset.plus(1));
            }
            Op::Poll { records } => {
                for record in records {
                    reaches(view.part(record.topic, record.partition), record.offset.plus(1));
                }
            }
            _ => {}
        }
    }
}
