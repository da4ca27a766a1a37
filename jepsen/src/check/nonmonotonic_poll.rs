//! nonmonotonic-poll: an assigned consumer goes back, or gets a record again.

use super::view::View;
use super::walk::Jump;
use super::{Anomaly, Report};

pub fn check(view: &View<'_>, jumps: &[Jump], report: &mut Report) {
    for jump in jumps.iter().filter(|jump| jump.offset < jump.due) {
        report.add(Anomaly::NonmonotonicPoll, vec![jump.due_since, jump.event], || {
            format!(
                "consumer {} was due {} offset {} and got offset {} ({})",
                jump.process.0,
                view.part_name(jump.part),
                jump.due,
                jump.offset,
                jump.value
            )
        });
    }
}
