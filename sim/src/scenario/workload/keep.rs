//! What a consumer keeps in a file of its own machine: where it stands, so that it goes on there after a
//! crash and skips nothing.
//!
//! The file is written beside, flushed, and renamed over the one before, so that a crash leaves one of
//! the two. A machine that has lost its data has none, and its consumer begins at the beginning again. A
//! [`Ledger`] that no crash touches says what the file must hold: a position that was never reached, or
//! one that is lost without a reason, is found here; what the broker leaves out behind it, by the judge.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::io::{Buf, File, Io, Open, fill_at, write_all_at};

use super::consume::Part;
use crate::scenario::stage::Actor;

const FILE: &str = "/positions";
const NEW_FILE: &str = "/positions.new";

/// Positions in partitions.
type Positions = BTreeMap<Part, Offset>;

/// The file of one consumer.
pub struct Keep {
    actor: Actor,
    kept: Positions,
}

impl Keep {
    /// What an earlier incarnation has kept, if its machine still has it.
    pub async fn open(actor: &Actor) -> Keep {
        let found = read(actor).await.unwrap_or_default();
        let (actor, machine) = (actor.clone(), actor.io.process().machine);
        let disk = actor.io.world().machine(machine, |machine| machine.disk.replaced);
        if let Some(wrong) = actor.stage.ledgers.found(machine, &found, disk) {
            actor.stage.accuse("kept-positions", format!("the file of machine {machine}: {wrong}"));
        }
        Keep { actor, kept: found }
    }

    /// Where it stood in a partition.
    pub fn position(&self, part: Part) -> Option<Offset> {
        self.kept.get(&part).copied()
    }

    /// Keeps these from now on.
    pub async fn save(&mut self, now: Positions) {
        if now == self.kept {
            return;
        }
        let machine = self.actor.io.process().machine;
        self.actor.stage.ledgers.saving(machine, now.clone());
        if write(&self.actor, &now).await.is_ok() {
            self.actor.stage.ledgers.saved(machine);
            self.kept = now;
        }
    }
}

async fn read(actor: &Actor) -> std::io::Result<Positions> {
    let file = actor.io.open(Path::new(FILE), Open::Read).await?;
    let length = usize::try_from(file.length().await?).expect("a small file");
    let (result, bytes) = fill_at(&file, Buf::with_capacity(length), 0).await;
    result?;
    let text = String::from_utf8_lossy(&bytes);
    let position = |line: &str| {
        let mut numbers = line.split(' ').map(str::parse::<i64>);
        let mut next = || numbers.next()?.ok();
        let (at, index, offset) = (next()?, next()?, next()?);
        let index = PartitionIndex(i32::try_from(index).ok()?);
        Some(((usize::try_from(at).ok()?, index), Offset(offset)))
    };
    Ok(text.lines().filter_map(position).collect())
}

async fn write(actor: &Actor, positions: &Positions) -> std::io::Result<()> {
    let line = |((at, index), offset): (&Part, &Offset)| format!("{at} {} {}\n", index.0, offset.0);
    let text: String = positions.iter().map(line).collect();
    let file = actor.io.open(Path::new(NEW_FILE), Open::Create).await?;
    // A crash may have left another one.
    file.truncate(0).await?;
    write_all_at(&file, vec![text.into_bytes().into()], 0).await.0?;
    file.sync().await?;
    actor.io.rename(Path::new(NEW_FILE), Path::new(FILE)).await?;
    actor.io.sync_dir(Path::new("/")).await
}

/// What the files of all consumers must hold, by machine. Clones share it.
#[derive(Clone, Default)]
pub struct Ledgers(Arc<Mutex<BTreeMap<usize, Ledger>>>);

/// What one file must hold.
#[derive(Default)]
struct Ledger {
    /// It was written and flushed.
    sure: Positions,
    /// What was on the way to it since.
    under_way: Vec<Positions>,
    /// On which of its machine's disks it lies.
    disk: u64,
}

impl Ledgers {
    fn saving(&self, machine: usize, positions: Positions) {
        self.with(machine, |ledger| ledger.under_way.push(positions));
    }

    fn saved(&self, machine: usize) {
        self.with(machine, |ledger| {
            ledger.sure = ledger.under_way.pop().expect("it was under way");
            ledger.under_way.clear();
        });
    }

    /// The file was found so, on this disk of its machine; says what is wrong with that.
    fn found(&self, machine: usize, found: &Positions, disk: u64) -> Option<String> {
        self.with(machine, |ledger| {
            if disk != ledger.disk {
                *ledger = Ledger { disk, ..Ledger::default() };
            }
            let known = *found == ledger.sure || ledger.under_way.contains(found);
            let text = (!known).then(|| format!("{found:?} is not {:?}", ledger.sure));
            // What a dead process left in the page cache is not sure to stay.
            ledger.under_way.retain(|positions| positions == found);
            text
        })
    }

    fn with<T>(&self, machine: usize, look: impl FnOnce(&mut Ledger) -> T) -> T {
        look(self.0.lock().expect("nobody panics with it").entry(machine).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(offset: i64) -> Positions {
        [((1, PartitionIndex(0)), Offset(offset))].into()
    }

    #[test]
    fn a_file_holds_what_was_saved_last_or_is_under_way() {
        let ledgers = Ledgers::default();
        assert_eq!(ledgers.found(5, &Positions::new(), 0), None);
        ledgers.saving(5, positions(3));
        ledgers.saved(5);
        ledgers.saving(5, positions(5));
        ledgers.saving(5, positions(7));
        assert_eq!(ledgers.found(5, &positions(7), 0), None);
        assert_eq!(ledgers.found(5, &positions(3), 0), None, "a power cut after a kill");
        assert!(ledgers.found(5, &positions(5), 0).is_some(), "it had been replaced");
        ledgers.saving(5, positions(7));
        ledgers.saved(5);
        assert_eq!(ledgers.found(5, &positions(7), 0), None);
        let skipped = ledgers.found(5, &positions(9), 0).expect("nobody was there");
        assert!(skipped.contains('9'), "{skipped}");
        assert!(ledgers.found(5, &Positions::new(), 0).is_some(), "it was lost without a reason");
    }

    #[test]
    fn who_has_lost_its_data_begins_anew() {
        let ledgers = Ledgers::default();
        ledgers.saving(5, positions(3));
        ledgers.saved(5);
        assert_eq!(ledgers.found(5, &Positions::new(), 1), None);
        ledgers.saving(5, positions(1));
        ledgers.saved(5);
        assert!(ledgers.found(5, &positions(3), 2).is_some(), "a new disk has nothing");
    }
}
