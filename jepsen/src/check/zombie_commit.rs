//! zombie-commit: a commit of an old generation was accepted, after another member had been given
//! the partition in a later one.

use std::collections::BTreeMap;

use super::commit::{Key, Lives, Register, Write, name, shown};
use super::view::View;
use super::{Anomaly, Report};
use crate::history::{Membership, Op, Phase, Process};

/// Who was given a partition by which event, in which life of the group.
struct Given {
    event: usize,
    life: usize,
    generation: i32,
    process: Process,
}

pub fn check(
    view: &View<'_>,
    registers: &BTreeMap<Key, Register>,
    lives: &Lives,
    report: &mut Report,
) {
    let given = given(view, lives);
    for (key, register) in registers {
        let Some(given) = given.get(key) else { continue };
        for write in register.writes.iter().filter(|write| write.acknowledged) {
            let Some(generation) = write.generation else { continue };
            // Generations grow with time: the last one given before is the highest.
            let before = given.partition_point(|given| given.event < write.invoked);
            let Some(given) = given[..before].last() else { continue };
            if lives.at(key.0, write.invoked) != Some(given.life) {
                continue;
            }
            if given.generation > generation && given.process != write.process {
                found(view, *key, write, given, report);
            }
        }
    }
}

fn given(view: &View<'_>, lives: &Lives) -> BTreeMap<Key, Vec<Given>> {
    let mut all: BTreeMap<Key, Vec<Given>> = BTreeMap::new();
    for (at, event) in view.history.events().iter().enumerate() {
        let Op::Group(group, membership) = &event.op else { continue };
        let Membership::Assigned { generation, partitions, .. } = &**membership else { continue };
        if event.phase != Phase::Ok {
            continue;
        }
        let Some(life) = lives.of_share(*group, event.process, at) else { continue };
        for (topic, partition) in partitions {
            let list = all.entry((*group, view.part(*topic, *partition))).or_default();
            let (event, generation, process) = (at, *generation, event.process);
            let newer = |last: &Given| (last.life, last.generation) < (life, generation);
            if list.last().is_none_or(newer) {
                list.push(Given { event, life, generation, process });
            }
        }
    }
    all
}

fn found(view: &View<'_>, key: Key, write: &Write, given: &Given, report: &mut Report) {
    let witness = vec![given.event, write.invoked, write.ended];
    report.add(Anomaly::ZombieCommit, witness, || {
        format!(
            "member {} of generation {} committed {} for {} after generation {} had given it \
             to member {}",
            write.process.0,
            write.generation.unwrap_or_default(),
            shown(write.offset),
            name(view, key),
            given.generation,
            given.process.0
        )
    });
}
