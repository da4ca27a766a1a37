//! offset-regression: what a group has committed went back, and nobody had sent it back.

use std::collections::BTreeMap;

use super::commit::{Key, Register, name, shown};
use super::view::View;
use super::{Anomaly, Report};

pub fn check(view: &View<'_>, registers: &BTreeMap<Key, Register>, report: &mut Report) {
    for (key, register) in registers {
        for look in register.impossible() {
            let Some(before) = look.before else { continue };
            let read = look.read;
            report.add(
                Anomaly::OffsetRegression,
                vec![before.ended, read.invoked, read.ended],
                || {
                    format!(
                        "{} showed {} and later {}, to which nobody had gone back",
                        name(view, *key),
                        shown(before.offset),
                        shown(read.offset)
                    )
                },
            );
        }
    }
}
