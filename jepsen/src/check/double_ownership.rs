//! double-ownership: two members own one partition in one generation of their group.
//!
//! A member with a static name (KIP-345) may come back as another process and own what it owned.

use std::collections::BTreeMap;

use super::commit::Lives;
use super::view::{Part, View};
use super::{Anomaly, Report};
use crate::history::{Group, Membership, Op, Phase, Process};

/// Who was given a partition, and by which event.
type Owner<'a> = (Process, Option<&'a str>, usize);

/// A generation, in one life of its group.
type Generation = (Group, usize, i32);

pub fn check(view: &View<'_>, lives: &Lives, report: &mut Report) {
    let mut owners: BTreeMap<(Generation, Part), Owner<'_>> = BTreeMap::new();
    for (at, event) in view.history.events().iter().enumerate() {
        let Op::Group(group, membership) = &event.op else { continue };
        let Membership::Assigned { member, generation, partitions } = &**membership else {
            continue;
        };
        if event.phase != Phase::Ok {
            continue;
        }
        let Some(life) = lives.of_share(*group, event.process, at) else { continue };
        for (topic, partition) in partitions {
            let part = view.part(*topic, *partition);
            let new = (event.process, member.as_deref(), at);
            let (process, name, since) =
                *owners.entry(((*group, life, *generation), part)).or_insert(new);
            let same = process == event.process || (name.is_some() && name == new.1);
            if same {
                continue;
            }
            report.add(Anomaly::DoubleOwnership, vec![since, at], || {
                format!(
                    "in generation {generation} of group {} both member {} and member {} own {}",
                    view.history.group_name(*group),
                    process.0,
                    event.process.0,
                    view.part_name(part)
                )
            });
        }
    }
}
