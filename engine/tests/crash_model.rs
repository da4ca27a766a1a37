//! The naive log that the crash tests compare the real one with: a list of batches and plain loops.

use std::collections::BTreeMap;

use trialog_engine::id::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use trialog_engine::wire::batch::{self, Builder};

/// One batch as it must lie on the disk.
#[derive(Clone, Debug)]
pub struct Sent {
    pub base: i64,
    pub last: i64,
    pub bytes: Vec<u8>,
    pub epoch: i32,
    /// Each record's timestamp as readers see it.
    pub times: Vec<i64>,
    /// Id, epoch and base sequence.
    pub producer: Option<(i64, i16, i32)>,
}

/// What was under way when the power was cut or the disk failed: it may or may not have happened.
#[derive(Clone, Debug)]
pub enum Pending {
    Nothing,
    Append(Vec<Sent>),
    /// The start may have been raised, at most to here.
    Start(i64),
    /// Everything from here on may be gone.
    Cut(i64),
    /// Everything may be gone, and the log begin here.
    Reset(i64),
}

/// What must be known of one producer: epoch, last timestamp, and for each of its last five
/// batches the base sequence, last offset delta, base offset and max timestamp.
type Table = BTreeMap<i64, (i16, i64, Vec<(i32, i32, i64, i64)>)>;

/// What a producer's batch is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Append,
    Duplicate { base: i64, last: i64 },
    OutOfOrder,
    Fenced,
}

#[derive(Clone, Debug)]
pub struct Model {
    /// All batches since `origin`, those below the start included.
    pub lineage: Vec<Sent>,
    /// Where the log began or was reset to.
    pub origin: i64,
    pub start: i64,
    /// An attempt that failed may have raised the start on the disk up to here.
    pub start_may_be: i64,
    /// Batches that a truncation removed whose flush failed: the page cache shows them as gone
    /// and the disk may not. They may come back until something else is appended.
    pub may_return: Vec<Sent>,
    /// Everything below was answered as flushed.
    pub acked: i64,
    pub pending: Pending,
    /// The disk failed, or a reset was cut off: what is remembered of producers without batches
    /// may differ.
    pub table_unknown: bool,
    /// A reset was cut off: what is remembered of epochs without records may differ.
    pub epochs_unknown: bool,
    pub epoch: i32,
    pub wall: i64,
}

/// What a producer sends, before it is placed.
pub struct Draft {
    pub producer: Option<(i64, i16, i32)>,
    pub times: Vec<i64>,
    pub value: Vec<u8>,
}

impl Draft {
    /// The bytes as a client sends them.
    pub fn bytes(&self) -> Vec<u8> {
        let mut builder = Builder::new();
        if let Some((id, epoch, sequence)) = self.producer {
            builder = builder.producer(ProducerId(id), ProducerEpoch(epoch), sequence);
        }
        for &time in &self.times {
            builder.push(time, None, Some(&self.value), &[]);
        }
        builder.finish()
    }

    /// The batch as a leader of `epoch` must store it.
    pub fn placed(&self, base: i64, epoch: i32, append_time: Option<i64>) -> Sent {
        let mut bytes = self.bytes();
        batch::stamp(&mut bytes, Offset(base), LeaderEpoch(epoch));
        let mut times = self.times.clone();
        if let Some(now) = append_time {
            batch::stamp_append_time(&mut bytes, now);
            times.fill(now);
        }
        let last = base + self.times.len() as i64 - 1;
        Sent { base, last, bytes, epoch, times, producer: self.producer }
    }
}

fn take_in(table: &mut Table, sent: &Sent) {
    let Some((id, epoch, sequence)) = sent.producer else { return };
    let newest = *sent.times.iter().max().expect("a batch has records");
    let entry = table.entry(id).or_insert((epoch, newest, Vec::new()));
    if entry.0 != epoch {
        *entry = (epoch, newest, Vec::new());
    }
    entry.1 = newest;
    entry.2.push((sequence, (sent.last - sent.base) as i32, sent.base, newest));
    if entry.2.len() > 5 {
        entry.2.remove(0);
    }
}

impl Model {
    pub fn new() -> Model {
        Model {
            lineage: Vec::new(),
            origin: 0,
            start: 0,
            start_may_be: 0,
            may_return: Vec::new(),
            acked: 0,
            pending: Pending::Nothing,
            table_unknown: false,
            epochs_unknown: false,
            epoch: 0,
            wall: 1_700_000_000_000,
        }
    }

    pub fn end(&self) -> i64 {
        self.lineage.last().map_or(self.origin, |sent| sent.last + 1)
    }

    pub fn table(&self) -> Table {
        let mut table = Table::new();
        for sent in &self.lineage {
            take_in(&mut table, sent);
        }
        table
    }

    /// The producer table as `docs/format.md` draws it.
    pub fn encoded_table(&self) -> Vec<u8> {
        let table = self.table();
        let mut out = (table.len() as u32).to_be_bytes().to_vec();
        for (id, (epoch, newest, kept)) in table {
            out.extend(id.to_be_bytes());
            out.extend(epoch.to_be_bytes());
            out.extend(newest.to_be_bytes());
            out.extend((-1i64).to_be_bytes());
            out.extend((-1i32).to_be_bytes());
            out.push(kept.len() as u8);
            for (sequence, delta, base, time) in kept {
                out.extend(sequence.to_be_bytes());
                out.extend(delta.to_be_bytes());
                out.extend(base.to_be_bytes());
                out.extend(time.to_be_bytes());
            }
        }
        out
    }

    /// What must happen with each draft of one append, and the batches that are then there.
    pub fn judge(&self, drafts: &[Draft], append_time: Option<i64>) -> (Vec<Verdict>, Vec<Sent>) {
        let mut table = self.table();
        let mut end = self.end();
        let mut placed: Vec<Sent> = Vec::new();
        let mut verdicts = Vec::new();
        for draft in drafts {
            let verdict = verdict(&table, draft);
            if verdict == Verdict::Append {
                let sent = draft.placed(end, self.epoch, append_time);
                end = sent.last + 1;
                take_in(&mut table, &sent);
                placed.push(sent);
            }
            verdicts.push(verdict);
        }
        (verdicts, placed)
    }

    /// The end offset of an epoch, from the batches alone.
    pub fn epoch_end(&self, epoch: i32) -> (i32, i64) {
        let mut entries: Vec<(i32, i64)> = Vec::new();
        for sent in &self.lineage {
            if entries.last().is_none_or(|entry| entry.0 < sent.epoch) {
                entries.push((sent.epoch, sent.base));
            }
        }
        while entries.len() > 1 && entries[1].1 <= self.start {
            entries.remove(0);
        }
        if let Some(first) = entries.first_mut() {
            first.1 = first.1.max(self.start);
        }
        match entries.last() {
            Some(&(latest, _)) if epoch == latest => (epoch, self.end()),
            Some(&(latest, _)) if epoch >= 0 && epoch < latest => {
                let next = entries.iter().position(|entry| entry.0 > epoch).expect("a later one");
                let found = if next == 0 { epoch } else { entries[next - 1].0 };
                (found, entries[next].1)
            }
            _ => (-1, -1),
        }
    }

    /// The batches that hold `from` to `to`.
    pub fn between(&self, from: i64, to: i64) -> impl Iterator<Item = &Sent> {
        self.lineage.iter().filter(move |sent| sent.last >= from && sent.base < to)
    }

    /// Every readable record below `bound`: offset, timestamp, epoch.
    pub fn records(&self, bound: i64) -> Vec<(i64, i64, i32)> {
        let mut records = Vec::new();
        for sent in self.between(self.start, bound) {
            for (delta, time) in sent.times.iter().enumerate() {
                let offset = sent.base + delta as i64;
                if offset >= self.start {
                    records.push((offset, *time, sent.epoch));
                }
            }
        }
        records
    }

    /// Takes over what a recovery left, after checking that it may be so.
    pub fn recovered(&mut self, start: i64, end: i64) {
        let pending = std::mem::replace(&mut self.pending, Pending::Nothing);
        let (mut start_max, mut floor) = (self.start.max(self.start_may_be), self.acked);
        match &pending {
            Pending::Nothing => {}
            Pending::Append(sent) => self.lineage.extend(sent.iter().cloned()),
            Pending::Start(to) => start_max = start_max.max(*to),
            Pending::Cut(to) => floor = floor.min(*to),
            Pending::Reset(to) => floor = floor.min(*to),
        }
        let reset = matches!(pending, Pending::Reset(to) if to == start);
        assert!(end >= floor, "acknowledged up to {floor}, recovered up to {end}");
        if reset {
            self.table_unknown = true;
            self.epochs_unknown = true;
        } else {
            let starts = self.start..=start_max;
            assert!(starts.contains(&start), "start {start}, expected {starts:?}");
        }
        if self.end() < end {
            self.lineage.append(&mut self.may_return);
        }
        if let Pending::Cut(_) | Pending::Reset(_) = pending {
            let gone = self.lineage.iter().filter(|sent| sent.base >= end);
            self.may_return = gone.cloned().collect();
        }
        self.lineage.retain(|sent| sent.base < end);
        if self.end() != end {
            // Only a start that was raised over lost records, or a reset, ends between batches.
            assert!(end == start, "end {end} is inside a batch or was never there: {pending:?}");
            self.lineage.clear();
            self.origin = end;
        }
        self.start = start;
        self.start_may_be = start;
        self.acked = end;
    }

    /// Everything from batch boundary `to` on is gone.
    pub fn cut(&mut self, to: i64) {
        self.lineage.retain(|sent| sent.base < to);
        self.acked = self.acked.min(to);
        self.pending = Pending::Nothing;
    }

    /// The log is empty and begins at `to`.
    pub fn reset(&mut self, to: i64) {
        self.lineage.clear();
        self.origin = to;
        self.start = to;
        self.acked = to;
        self.pending = Pending::Nothing;
    }
}

fn verdict(table: &Table, draft: &Draft) -> Verdict {
    let Some((id, epoch, sequence)) = draft.producer else { return Verdict::Append };
    let Some((known, _, kept)) = table.get(&id) else { return Verdict::Append };
    if epoch < *known {
        return Verdict::Fenced;
    }
    let delta = draft.times.len() as i32 - 1;
    let mut expected = 0;
    if epoch == *known {
        for (kept_sequence, kept_delta, base, _) in kept {
            if *kept_sequence == sequence && *kept_delta == delta {
                return Verdict::Duplicate { base: *base, last: *base + i64::from(delta) };
            }
        }
        let last = kept.last().expect("a known producer has a batch");
        expected = last.0 + last.1 + 1;
    }
    if sequence == expected { Verdict::Append } else { Verdict::OutOfOrder }
}
