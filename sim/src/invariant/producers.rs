//! LOG-8: what a log knows of its producers is what its batches say.
//!
//! [`Producers`] is a naive model of that table, fed with headers. Behind the run it is compared with
//! what a log makes of itself (see [`super::after`]); while the run goes on, with the table in each
//! newest checkpoint. Every recovery that found anything leaves a checkpoint, so that what a start has
//! made of a log is looked at before the next crash hides it.

use std::collections::BTreeMap;
use std::path::Path;

use trialog_engine::broker::Reading;
use trialog_engine::id::{Offset, ProducerId};
use trialog_engine::wire::batch::Header;

use super::{Violation, name};
use crate::atlas::promised;
use crate::disk::Disk;
use crate::world::World;

/// Where a checkpoint names the offset that it was written at.
const POINT_AT: usize = 24;
/// As many batches of a producer as the log remembers.
const BATCHES_KEPT: usize = 5;

/// A producer's epoch, and of its last batches sequence, last offset delta, and offset.
type Known = (i16, Vec<(i32, i32, Offset)>);

/// What the batches so far say of each producer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers(BTreeMap<ProducerId, Known>);

impl Producers {
    /// Takes in the next batch of the log.
    pub fn take(&mut self, header: &Header) {
        if header.producer_id().0 < 0 {
            return;
        }
        let producer = self.0.entry(header.producer_id()).or_default();
        if producer.0 != header.producer_epoch().0 {
            *producer = (header.producer_epoch().0, Vec::new());
        }
        let kept = (header.base_sequence(), header.last_offset_delta(), header.base_offset());
        producer.1.push(kept);
        if producer.1.len() > BATCHES_KEPT {
            producer.1.remove(0);
        }
    }

    /// Reads a producer table as `docs/format.md` draws it.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Producers> {
        let mut rest = bytes;
        fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
            let (head, tail) = rest.split_first_chunk()?;
            *rest = tail;
            Some(*head)
        }
        let count = u32::from_be_bytes(take(&mut rest)?);
        let mut table = BTreeMap::new();
        for _ in 0..count {
            let id = ProducerId(i64::from_be_bytes(take(&mut rest)?));
            let epoch = i16::from_be_bytes(take(&mut rest)?);
            // Last timestamp, transaction, and coordinator epoch.
            let _: [u8; 20] = take(&mut rest)?;
            let [kept] = take(&mut rest)?;
            let mut batches = Vec::new();
            for _ in 0..kept {
                let sequence = i32::from_be_bytes(take(&mut rest)?);
                let delta = i32::from_be_bytes(take(&mut rest)?);
                let base = Offset(i64::from_be_bytes(take(&mut rest)?));
                let _: [u8; 8] = take(&mut rest)?;
                batches.push((sequence, delta, base));
            }
            table.insert(id, (epoch, batches));
        }
        rest.is_empty().then_some(Producers(table))
    }
}

/// Compares the table in the checkpoint in the folder `dir` of a log of which nothing was ever removed with the batches
/// below the checkpoint's point, unless that was `judged` before.
pub fn check(
    world: &World,
    machine: usize,
    dir: &Path,
    now: &Reading,
    judged: &mut Option<Offset>,
) -> Option<Violation> {
    let saved = world.machine(machine, |machine| saved(&machine.disk, dir, *judged))?;
    *judged = Some(saved.point);
    let Saved { point, told, by_batches } = saved;
    (told.as_ref() != Some(&by_batches)).then(|| Violation {
        id: "LOG-8",
        text: format!(
            "{}: the checkpoint at {point} has {told:?}, by the batches {by_batches:?}",
            name(now)
        ),
    })
}

/// What a checkpoint and the batches below it say.
struct Saved {
    point: Offset,
    /// None if the table is unreadable.
    told: Option<Producers>,
    by_batches: Producers,
}

/// Reads both, unless the point is still the one that was `judged`. None as well if something of them
/// is rotten or not there: what that means is for others to say.
fn saved(disk: &Disk, dir: &Path, judged: Option<Offset>) -> Option<Saved> {
    let head = disk.seen(dir, "checkpoint", POINT_AT as u64 + 8)?;
    let point = Offset(i64::from_be_bytes(*head.get(POINT_AT..)?.first_chunk()?));
    if judged == Some(point) {
        return None;
    }
    let checkpoint = disk.seen(dir, "checkpoint", u64::MAX)?;
    let rows = promised(&checkpoint)?;
    // Behind the segments come the leader epochs, of 12 bytes each, and then the table.
    let (count, epochs) = checkpoint.get(44 + 44 * rows.len()..)?.split_first_chunk()?;
    let table = epochs.get(12 * u32::from_be_bytes(*count) as usize..)?;
    let mut by_batches = Producers::default();
    for row in &rows {
        let segment = disk.seen(dir, &row.name(), row.size)?;
        let mut rest = &segment[..];
        while !rest.is_empty() {
            let header = Header::parse(rest).ok()?;
            by_batches.take(&header);
            rest = rest.get(header.size()..)?;
        }
    }
    Some(Saved { point, told: Producers::parse(table), by_batches })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trialog_engine::id::{LeaderEpoch, ProducerEpoch};
    use trialog_engine::io::{Buf, Open, Pool, Wall};
    use trialog_engine::log::{Config, Log};
    use trialog_engine::wire::batch::Builder;

    use super::*;
    use crate::cluster::{Frame, simulate};

    fn batch(producer: i64, epoch: i16, sequence: i32) -> Buf {
        let (id, epoch) = (ProducerId(producer), ProducerEpoch(epoch));
        let mut builder = Builder::new().producer(id, epoch, sequence);
        builder.push(7, None, Some(b"x"), &[]);
        Buf::from(builder.finish())
    }

    /// Without it, nothing would be compared once the format of checkpoints has changed.
    #[test]
    fn the_table_of_a_checkpoint_is_what_the_batches_say_and_another_is_noticed() {
        let dir = Path::new("/t-0");
        let outcome = simulate(Frame::new(1), move |cluster| async move {
            let machine = cluster.add("writer", 1 << 20, move |io| async move {
                let opened = Log::open(&io, &Pool::new(), dir, Config::default()).await;
                let (mut log, _) = opened.expect("a fresh disk");
                let many = (0..7).map(|number| batch(1, 0, number));
                let batches = many.chain([batch(2, 3, 0), batch(2, 4, 0)]).collect();
                log.append(batches, LeaderEpoch(0), Wall(1)).await;
                log.close().await.expect("a good disk");
            });
            cluster.pass(Duration::from_secs(5)).await;
            cluster.world().machine(machine, |machine| {
                let disk = &mut machine.disk;
                let right = saved(disk, dir, None).expect("it was saved");
                assert_eq!((right.point, right.by_batches.0.len()), (Offset(9), 2));
                assert_eq!(right.told, Some(right.by_batches));
                assert!(saved(disk, dir, Some(right.point)).is_none(), "it was judged");
                let file = disk.open(&dir.join("checkpoint"), Open::Write).expect("there");
                // Of the last batch in the table, the offset.
                let at = disk.length(file) - 9;
                disk.write(file, at, &[&[7]]).expect("room");
                let wrong = saved(disk, dir, None).expect("it is there");
                assert!(wrong.told.is_some());
                assert_ne!(wrong.told, Some(wrong.by_batches));
                disk.alter(file, 0, &[0; crate::disk::SECTOR]);
                assert!(saved(disk, dir, None).is_none(), "rot is for others to notice");
                disk.close(file);
            });
        });
        outcome.expect("no panic");
    }
}
