//! lost-commit: an acknowledged commit vanished, for a reader of commits or for a member that
//! resumes. Where an earlier look had shown more, it is `offset-regression`.

use std::collections::BTreeMap;

use super::commit::{Key, Register, name, shown};
use super::view::View;
use super::walk::Resume;
use super::{Anomaly, Report};

pub fn check(
    view: &View<'_>,
    registers: &BTreeMap<Key, Register>,
    resumes: &[Resume],
    report: &mut Report,
) {
    for (key, register) in registers {
        for look in register.impossible().iter().filter(|look| look.before.is_none()) {
            let (read, last) = (look.read, look.last);
            let witness = vec![last.invoked, last.ended, read.invoked, read.ended];
            report.add(Anomaly::LostCommit, witness, || {
                format!(
                    "the commit of {} for {} was acknowledged, and a later look shows {}",
                    shown(last.offset),
                    name(view, *key),
                    shown(read.offset)
                )
            });
        }
    }
    for resume in resumes {
        let key = (resume.group, resume.part);
        let Some(register) = registers.get(&key) else { continue };
        let possible = register.possible(resume.since, resume.event);
        let least = possible.and_then(|writes| writes.min_by_key(|write| write.offset));
        let Some(least) = least.filter(|least| Some(resume.offset) < least.offset) else {
            continue;
        };
        let witness = vec![least.invoked, resume.since, resume.event];
        report.add(Anomaly::LostCommit, witness, || {
            format!(
                "member {} resumed {} from offset {}, although {} was committed",
                resume.process.0,
                name(view, key),
                resume.offset,
                shown(least.offset)
            )
        });
    }
}
