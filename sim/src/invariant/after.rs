//! After the run: what a last power cut left on a broker's disk, recovered without the broker.
//!
//! Every partition's folder is read as `trialog log verify` does, opened as the broker does, closed
//! and read again. It must hold what was acknowledged, and the log's derived data (producer table,
//! indexes, checkpoint) must agree with its batches, of which this keeps a naive model of its own. So
//! must what clients were told of the ends of leader epochs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use trialog_engine::id::{LeaderEpoch, Offset, PartitionIndex};
use trialog_engine::io::{Io, Pool};
use trialog_engine::log::{self, Item, Log, Severity};
use trialog_engine::wire::batch::{Batch, Header};
use trialog_jepsen::history::Value;

use super::groups::{self, Replay};
use super::producers::Producers;
use super::{Keeps, Part, Violation};
use crate::io::SimIo;

/// What is known of a partition whose records are flushed before they are acknowledged.
#[derive(Debug)]
pub struct Proven {
    /// What becomes of its records.
    pub keeps: Keeps,
    /// The records that were acknowledged or read, by offset.
    pub values: BTreeMap<Offset, Value>,
    /// What was told of epochs that were over.
    pub ends: BTreeSet<EpochEnd>,
    /// So many bytes are to be left by retention by size, which had the time to take the rest.
    pub kept_bytes: Option<u64>,
}

/// An answer to a question for the end of a leader epoch (KIP-320).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EpochEnd {
    /// The epoch that was asked for, an older one than the leader's.
    pub asked: LeaderEpoch,
    /// The newest one up to that which has written anything.
    pub epoch: LeaderEpoch,
    /// Where it ends.
    pub end: Offset,
}

/// Looks at every partition in the data folder `data`. `proven` is what is known of partitions that are
/// never deleted. What cannot be read of topics that come and go (`is_fleeting`) is no matter: a
/// deletion may have got no further, and the next start would end it. Returns what is wrong, and what
/// groups have committed.
pub(crate) async fn examine(
    io: &SimIo,
    data: &Path,
    proven: &BTreeMap<Part, Proven>,
    is_fleeting: impl Fn(&str) -> bool,
) -> (Vec<Violation>, groups::Committed) {
    let mut wrong = Vec::new();
    let mut committed = groups::Committed::new();
    let mut found = 0;
    let topics = data.join("topics");
    for topic in io.list(&topics).await.unwrap_or_default() {
        for entry in io.list(&topics.join(&topic.name)).await.unwrap_or_default() {
            let Some(index) = entry.name.rsplit_once('-').and_then(|(_, last)| last.parse().ok())
            else {
                continue;
            };
            let part = (topic.name.clone(), PartitionIndex(index));
            let dir = topics.join(&topic.name).join(&entry.name);
            let must = proven.get(&part);
            found += usize::from(must.is_some());
            let mut replay = (topic.name == groups::TOPIC).then(Replay::default);
            let half_deleted = |id| id == "LOG-6" && is_fleeting(&topic.name);
            if let Err((id, text)) = examine_partition(io, dir, must, &mut replay).await
                && !half_deleted(id)
            {
                wrong.push(Violation { id, text: format!("{}/{}: {text}", part.0, part.1) });
            }
            // One group lies in one partition.
            let replay = replay.unwrap_or_default();
            if let Some(text) = replay.wrong() {
                wrong.push(Violation { id: "GROUP-6", text });
            }
            committed.extend(replay.committed);
        }
    }
    if found < proven.len() {
        let text = format!("{found} of {} partitions are on the disk", proven.len());
        wrong.push(Violation { id: "LOG-6", text });
    }
    (wrong, committed)
}

/// What a log's batches say.
#[derive(Default)]
struct Model {
    values: BTreeMap<Offset, Value>,
    producers: Producers,
    /// With which offset each epoch begins.
    epochs: Vec<(LeaderEpoch, Offset)>,
    /// The bytes of each segment's batches, by its first offset.
    sizes: BTreeMap<Offset, u64>,
    end: Offset,
}

impl Model {
    fn take(&mut self, segment: Offset, header: &Header, bytes: &[u8]) {
        *self.sizes.entry(segment).or_default() += bytes.len() as u64;
        self.end = header.base_offset().plus(i64::from(header.last_offset_delta()) + 1);
        let epoch = header.leader_epoch();
        if self.epochs.last().is_none_or(|(last, _)| *last != epoch) {
            self.epochs.push((epoch, header.base_offset()));
        }
        self.producers.take(header);
        let Ok(batch) = Batch::parse(bytes) else { return };
        let Ok(contents) = batch.contents() else { return };
        for (record, delta) in contents.records().zip(0..) {
            let value = record.ok().and_then(|record| record.value).and_then(<[u8]>::first_chunk);
            let value = value.map_or(Value::FOREIGN, |head| Value(u64::from_be_bytes(*head)));
            self.values.insert(header.base_offset().plus(delta), value);
        }
    }

    /// What must be told of an epoch that is over.
    fn end_of(&self, asked: LeaderEpoch) -> EpochEnd {
        let next = self.epochs.partition_point(|(epoch, _)| *epoch <= asked);
        let epoch = next.checked_sub(1).map_or(asked, |last| self.epochs[last].0);
        let end = self.epochs.get(next).map_or(self.end, |(_, begin)| *begin);
        EpochEnd { asked, epoch, end }
    }
}

type Wrong = (&'static str, String);

async fn examine_partition(
    io: &SimIo,
    dir: PathBuf,
    must: Option<&Proven>,
    replay: &mut Option<Replay>,
) -> Result<(), Wrong> {
    let unreadable =
        |what: &str, error: &dyn std::fmt::Display| ("LOG-6", format!("{what}: {error}"));
    let report = log::verify(io, &dir).await.map_err(|error| unreadable("dump", &error))?;
    let damage = report.problems.iter().find(|problem| problem.severity == Severity::Damage);
    if let Some(problem) = damage {
        return Err(unreadable("damage", problem));
    }
    let opened = Log::open(io, &Pool::new(), &dir, log::Config::default()).await;
    let (log, recovery) = opened.map_err(|error| unreadable("open", &error))?;
    if let Some(damage) = recovery.damage.first() {
        return Err(unreadable("recovery", damage));
    }
    let (table, start, end) = (log.producer_table(), log.start(), log.end());
    log.close().await.map_err(|error| unreadable("close", &error))?;
    let mut model = Model::default();
    let report =
        read(io, &dir, &mut model, replay).await.map_err(|error| unreadable("dump", &error))?;
    if let Some(problem) = report.problems.first() {
        return Err(("LOG-7", format!("after a clean close: {problem}")));
    }
    if start < end && model.end != end {
        return Err(("LOG-6", format!("the log ends at {end}, its batches at {}", model.end)));
    }
    let Some(Proven { keeps, values, ends, kept_bytes }) = must else { return Ok(()) };
    // What lies below the start is as good as gone.
    let behind_first: u64 = model.sizes.range(start..).skip(1).map(|(_, bytes)| bytes).sum();
    if let Some(kept) = kept_bytes.filter(|kept| behind_first >= *kept) {
        let text = format!("{behind_first} bytes behind the first segment, {kept} are to stay");
        return Err(("LOG-9", text));
    }
    // What is below the start is for the judge of the history.
    let from = if *keeps == Keeps::Everything { Offset(0) } else { start };
    for (offset, value) in values.range(from..) {
        let there = model.values.get(offset);
        if there != Some(value) {
            let there = there.map_or("nothing".to_owned(), ToString::to_string);
            return Err(("LOG-6", format!("offset {offset} held {value}, and now {there}")));
        }
    }
    if *keeps != Keeps::Everything {
        return Ok(());
    }
    for told in ends {
        let by_batches = model.end_of(told.asked);
        if *told != by_batches {
            return Err(("LOG-11", format!("told {told:?}, by the batches {by_batches:?}")));
        }
    }
    let table =
        Producers::parse(&table).ok_or(("LOG-8", "unreadable producer table".to_owned()))?;
    if table != model.producers {
        let told = &model.producers;
        return Err(("LOG-8", format!("producer table {table:?}, by the batches {told:?}")));
    }
    Ok(())
}

async fn read(
    io: &SimIo,
    dir: &Path,
    model: &mut Model,
    replay: &mut Option<Replay>,
) -> Result<log::Report, log::OpenError> {
    log::dump(io, dir, &mut |item| {
        if let Item::Batch { segment, header, bytes, .. } = item {
            model.take(segment, header, bytes);
            if let Some(replay) = replay {
                for_each_record(bytes, |key, value| replay.take(key, value));
            }
        }
    })
    .await
}

fn for_each_record(bytes: &[u8], mut take: impl FnMut(&[u8], Option<&[u8]>)) {
    let Ok(batch) = Batch::parse(bytes) else { return };
    let Ok(contents) = batch.contents() else { return };
    for record in contents.records().flatten() {
        take(record.key.unwrap_or_default(), record.value);
    }
}
