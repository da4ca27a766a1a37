//! zombie-write: a record of an old epoch of its producer stands behind one of a newer epoch.
//!
//! Whoever begins the next epoch of a producer's number fences those that still write in an earlier
//! one: an idempotent producer that has lost its sequence and begins anew (KIP-360), or a second one
//! that is started under the same transactional id (KIP-98). A partition hears of the new epoch with
//! its first record; behind it, nothing of an older one may become visible. Judged are producers
//! whose identity the history tells.

use std::collections::BTreeMap;

use trialog_engine::id::{Offset, ProducerEpoch, ProducerId};

use super::view::{Part, Place, Send, View};
use super::{Anomaly, Report};

/// A record in its partition.
#[derive(Clone, Copy)]
struct Stood<'v> {
    epoch: ProducerEpoch,
    send: &'v Send<'v>,
    place: &'v Place,
}

pub fn check(view: &View<'_>, report: &mut Report) {
    let mut logs: BTreeMap<(ProducerId, Part), Vec<Stood<'_>>> = BTreeMap::new();
    for send in &view.sends {
        let Some(identity) = send.identity else { continue };
        let mut last: Option<(Part, Offset)> = None;
        for place in view.places_of(send.value) {
            // What several saw at one place stands there once.
            if last.replace((place.part, place.offset)) != Some((place.part, place.offset)) {
                let stood = Stood { epoch: identity.epoch, send, place };
                logs.entry((identity.id, place.part)).or_default().push(stood);
            }
        }
    }
    for ((id, part), mut log) in logs {
        log.sort_by_key(|stood| stood.place.offset);
        let mut newest = log[0];
        for stood in log {
            if stood.epoch >= newest.epoch {
                newest = stood;
                continue;
            }
            let witness = vec![newest.place.event(), stood.send.invoked, stood.place.event()];
            report.add(Anomaly::ZombieWrite, witness, || {
                format!(
                    "producer {id}: {} of epoch {} stands at {} offset {}, behind {} of epoch {} at \
                     offset {}",
                    stood.send.value,
                    stood.epoch,
                    view.part_name(part),
                    stood.place.offset,
                    newest.send.value,
                    newest.epoch,
                    newest.place.offset
                )
            });
        }
    }
}
