//! The disk under a partition: what it says to be flushed must be in the durable image.

use std::path::Path;

use trialog_engine::broker::Reading;

use super::{Violation, folder, name};
use crate::atlas::promised;
use crate::world::World;

/// LOG-3, from below, in the folder `dir` of a partition: while a log says that all it holds is
/// flushed, no byte of its segments and no segment's name is only in the page cache.
pub fn check(world: &World, machine: usize, dir: &Path, now: &Reading) -> Option<Violation> {
    if now.flushed != now.end || now.waiting > 0 || now.failed || now.start == now.end {
        return None;
    }
    let unflushed = world.machine(machine, |machine| machine.disk.unflushed(dir));
    // A folder that is not there is one that is being deleted.
    let mut segments = unflushed.ok()?;
    let base = |name: &str| name.strip_suffix(".log").and_then(|base| base.parse::<i64>().ok());
    // A segment that begins at the end is being made and holds nothing yet.
    segments.retain(|name| base(name).is_some_and(|base| base < now.end.0));
    (!segments.is_empty()).then(|| Violation {
        id: "LOG-3",
        text: format!("{}: a power cut would take of {segments:?}: {now:?}", name(now)),
    })
}

/// COMPACT-3: readers have what compaction wrote only when a checkpoint on the disk names it.
pub fn check_named(
    world: &World,
    machine: usize,
    data: &Path,
    now: &Reading,
    before: Option<&Reading>,
) -> Option<Violation> {
    let (base, generation) = now.compacted?;
    // Later the start may have passed it, and a checkpoint need not name it any more.
    if now.start > base || before.is_some_and(|before| before.compacted == now.compacted) {
        return None;
    }
    let dir = folder(data, now);
    let checkpoint = world.machine(machine, |machine| machine.disk.lasting(&dir, "checkpoint"));
    let rows = promised(&checkpoint?)?;
    let there = rows.iter().rfind(|row| row.base <= base.0);
    let named = there.is_some_and(|row| row.generation >= generation);
    (!named).then(|| Violation {
        id: "COMPACT-3",
        text: format!(
            "{}: readers have the segment at {base} as pass {generation} has written it, and on the \
             disk the checkpoint names {there:?}: {now:?}",
            name(now)
        ),
    })
}
