//! phantom: a reader saw what nobody sent, at least not there, or what had certainly failed.
//!
//! In Jepsen's terms the aborted read (G1a) of a world without transactions, and with it every
//! altered, invented or misdirected payload.

use super::view::{Fate, Place, Send, View};
use super::{Anomaly, Report};
use crate::history::Value;

pub fn check(view: &View<'_>, report: &mut Report) {
    for places in view.values() {
        let mut reads = places.filter(|place| place.read()).peekable();
        let Some(value) = reads.peek().map(|place| place.value) else { continue };
        let send = view.send_of(value).filter(|_| value != Value::FOREIGN);
        for place in reads {
            judge(view, place, send, report);
        }
    }
}

fn judge(view: &View<'_>, place: &Place, send: Option<&Send<'_>>, report: &mut Report) {
    let (value, offset) = (place.value, place.offset);
    let mut found = |witness, what: &str| {
        report.add(Anomaly::Phantom, witness, || {
            format!("{} offset {offset} was read as {value}: {what}", view.part_name(place.part))
        });
    };
    let Some(send) = send else {
        return found(vec![place.event()], "nobody sent that");
    };
    let witness = vec![send.invoked, send.ended, place.event()];
    if send.fate == Fate::Failed {
        found(witness, "its send had certainly failed");
    } else if send.topic != view.topic_of(place.part)
        || send.part.is_some_and(|part| part != place.part)
    {
        found(witness, "it was sent to another partition");
    } else if send.invoked > place.event() {
        found(witness, "it had not been sent yet");
    }
}
