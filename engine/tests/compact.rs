//! Compaction against a naive model on the RAM disk: a list of all records that were sent.
//!
//! Scripts append keyed records and tombstones, roll, flush, compact at once or beside other work,
//! raise the start, cut, close and open again. Whatever happens, with the power cut before every
//! change of the disk and with every kind of disk failure: each record that can be read is the one
//! that was sent with this offset; the newest value of every key is there; of a key whose newest
//! record is a tombstone that is gone nothing older is there; below the compacted end no key is
//! there twice; every producer's last batch is there; and slices that a reader took before keep
//! their bytes.
//!
//! `TRIALOG_CRASH_CASES` and `TRIALOG_CRASH_SEED` as in `crash.rs`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use proptest::prelude::*;
use trialog_engine::id::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use trialog_engine::io::ram::{Call, Effect, Fault, Loss, Ram};
use trialog_engine::io::{Buf, Pool, Wall, fill_at};
use trialog_engine::log::{
    AppendError, ChangeError, Compacted, Compaction, Config, First, Log, Pace, Plan, Severity,
    verify,
};
use trialog_engine::probe::{self, Probe};
use trialog_engine::wire::batch::{Batch, Builder, Compression};

use crate::crash::runner;

const DIR: &str = "/p-0";

/// One record to send: a key out of a few, none, and the length of its value, none for a tombstone.
type Note = (Option<u8>, Option<u8>);

#[derive(Clone, Debug)]
enum Op {
    Append {
        notes: Vec<Note>,
        producer: u8,
        compression: u8,
    },
    Flush,
    Tick(u16),
    /// A pass to its end.
    Compact,
    /// One step of a pass; the rest goes on at the next one of these.
    Step,
    AdvanceStart(u8),
    Truncate(u8),
    Reopen,
}

#[derive(Clone, Debug)]
struct Script {
    seed: u64,
    config: Config,
    lives: Vec<(Vec<Op>, Option<u64>)>,
}

fn op() -> impl Strategy<Value = Op> {
    let note = (prop::option::weighted(0.95, 0u8..14), prop::option::weighted(0.75, 0u8..60));
    let append = (prop::collection::vec(note, 1..6), 0u8..3, 0u8..5);
    prop_oneof![
        14 => append.prop_map(|(notes, producer, compression)| {
            Op::Append { notes, producer, compression }
        }),
        5 => Just(Op::Flush),
        3 => (0u16..600).prop_map(Op::Tick),
        3 => Just(Op::Compact),
        4 => Just(Op::Step),
        1 => any::<u8>().prop_map(Op::AdvanceStart),
        1 => any::<u8>().prop_map(Op::Truncate),
        1 => Just(Op::Reopen),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let memory = prop_oneof![Just(0u64), Just(1 << 20)];
    let lag = prop_oneof![2 => Just(0i64), 1 => Just(300)];
    let bytes = prop_oneof![3 => Just(-1i64), 1 => 1500i64..4000];
    // A segment that rolls by its age leaves an empty one behind it, and nothing may come after.
    let segment_ms = prop_oneof![1 => Just(i64::MAX), 1 => 200i64..1500];
    (300u32..1200, 100u32..400, memory, 0i64..700, lag, bytes, segment_ms).prop_map(
        |(
            segment_bytes,
            index_interval_bytes,
            memory,
            delete_retention_ms,
            lag,
            bytes,
            segment_ms,
        )| Config {
            segment_bytes,
            segment_ms,
            index_interval_bytes,
            compact: true,
            delete: bytes >= 0,
            retention_ms: -1,
            retention_bytes: bytes,
            compaction_memory_bytes: memory,
            delete_retention_ms,
            min_compaction_lag_ms: lag,
            min_dirty_ratio: 0.0,
            compaction_backoff_ms: 0,
            ..Config::default()
        },
    )
}

fn script(ops: usize) -> impl Strategy<Value = Script> {
    let life = (prop::collection::vec(op(), 1..ops), prop::option::of(any::<u64>()));
    (any::<u64>(), config(), prop::collection::vec(life, 1..4))
        .prop_map(|(seed, config, lives)| Script { seed, config, lives })
}

/// A record as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    time: i64,
    /// The base offset of its batch, and whose it is.
    batch: i64,
    producer: u8,
}

/// What may have happened when the power was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Nothing,
    Append,
    Start(i64),
    /// The end may be anywhere from here on.
    Cut(i64),
}

#[derive(Clone, Debug)]
struct Model {
    /// Everything that was sent and is not known to be gone, by offset.
    sent: BTreeMap<i64, Sent>,
    /// What readers have seen gone does not come back.
    gone: BTreeSet<i64>,
    start: i64,
    acked: i64,
    end: i64,
    pending: Pending,
    /// A cut may have taken what was known of producers: none writes any more.
    producers_unknown: bool,
    epoch: i32,
    wall: i64,
    count: u64,
}

type Witness = Rc<RefCell<Model>>;

/// What lies in the log: records by offset, and the base offsets of all batches.
type Contents = (BTreeMap<i64, Sent>, BTreeSet<i64>);

struct Player {
    ram: Ram,
    config: Config,
    witness: Witness,
    log: Log<Ram>,
    running: Option<Compaction<Ram>>,
    /// A step that was copied and that the log has not taken in yet.
    copied: Option<Compacted<Ram>>,
    /// Slices that a slow reader holds, and what they held when it took them.
    held: Vec<(Plan<<Ram as trialog_engine::io::Io>::File>, Vec<u8>)>,
    faulty: bool,
}

impl Player {
    async fn open(ram: &Ram, config: &Config, witness: &Witness, faulty: bool) -> Option<Player> {
        let opened = Log::open(ram, &Pool::new(), Path::new(DIR), config.clone()).await;
        let (log, recovery) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                assert!(faulty, "{error}");
                return None;
            }
        };
        assert_eq!(recovery.damage, Vec::<String>::new());
        let (ram, config, witness) = (ram.clone(), config.clone(), witness.clone());
        let (running, copied, held) = (None, None, Vec::new());
        let player = Player { ram, config, witness, log, running, copied, held, faulty };
        player.recovered().await;
        player.compare().await;
        player.witness.borrow_mut().epoch += 1;
        Some(player)
    }

    /// Checks what a recovery left, and takes it over.
    async fn recovered(&self) {
        let (start, end) = (self.log.start().0, self.log.end().0);
        let contents = self.contents().await;
        let mut model = self.witness.borrow_mut();
        let pending = std::mem::replace(&mut model.pending, Pending::Nothing);
        let start_max = if let Pending::Start(to) = pending { to } else { model.start };
        let floor = if let Pending::Cut(to) = pending { to } else { model.acked };
        assert!(end >= floor.min(model.acked), "acknowledged {floor}, recovered {end}");
        assert!(start >= model.start && start <= start_max.max(model.start), "start {start}");
        model.sent.retain(|&offset, _| offset < end);
        model.gone.retain(|&offset| offset < end);
        if let (Pending::Cut(_), Some((records, _))) = (pending, contents) {
            model.adopt(&records);
        }
        (model.start, model.acked, model.end) = (start, end, end);
    }

    async fn contents(&self) -> Option<Contents> {
        let (start, end) = (self.log.start(), self.log.end());
        let mut at = start;
        let mut contents = Contents::default();
        while at < end {
            let plan = self.log.plan(at, end, 150, First::AtLeastOneBatch).await;
            let plan = self.tried(plan)?;
            let bytes = self.read(&plan).await?;
            if bytes.is_empty() {
                assert!(self.faulty, "nothing to read at {at} of {end}");
                return None;
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let batch = Batch::parse(rest).expect("a whole batch");
                assert!(batch.crc_matches());
                assert!(batch.last_offset() >= at, "batches rise");
                contents.1.insert(batch.base_offset().0);
                let inner = batch.contents().expect("readable");
                for record in inner.records() {
                    let record = record.expect("a record");
                    let sent = Sent {
                        key: record.key.map(<[u8]>::to_vec),
                        value: record.value.map(<[u8]>::to_vec),
                        time: record.timestamp,
                        batch: batch.base_offset().0,
                        producer: u8::try_from(batch.producer_id().0 + 1).expect("one of ours"),
                    };
                    if record.offset >= start {
                        contents.0.insert(record.offset.0, sent);
                    }
                }
                at = batch.last_offset().plus(1);
                rest = &rest[batch.size()..];
            }
        }
        Some(contents)
    }

    /// The log against the model.
    async fn compare(&self) {
        let Some((records, batches)) = self.contents().await else { return };
        let model = self.witness.borrow().clone();
        assert_eq!((self.log.start().0, self.log.end().0), (model.start, model.end));
        for (offset, record) in &records {
            assert_eq!(Some(record), model.sent.get(offset), "record {offset}");
            assert!(!model.gone.contains(offset), "record {offset} is back");
        }
        let gone = model.sent.range(model.start..).map(|(offset, _)| *offset);
        let gone = gone.filter(|offset| !records.contains_key(offset));
        self.witness.borrow_mut().gone.extend(gone);
        let mut newest: BTreeMap<&[u8], i64> = BTreeMap::new();
        let mut last_batch: BTreeMap<u8, i64> = BTreeMap::new();
        for (&offset, sent) in &model.sent {
            if let Some(key) = &sent.key {
                newest.insert(key, offset);
            }
            if sent.producer > 0 && !model.producers_unknown {
                last_batch.insert(sent.producer, sent.batch);
            }
        }
        for (key, &offset) in newest.iter().filter(|(_, offset)| **offset >= model.start) {
            if !records.contains_key(&offset) {
                let sent = &model.sent[&offset];
                assert_eq!(sent.value, None, "the newest value of {key:?}, at {offset}, is lost");
                let back = records.values().find(|record| record.key.as_deref() == Some(key));
                assert_eq!(back, None, "{key:?} came back to life");
            }
        }
        let compacted = self.log.compacted_end().0;
        let mut seen = BTreeSet::new();
        for (offset, record) in records.range(..compacted) {
            assert!(record.key.is_none() || seen.insert(&record.key), "twice, at {offset}");
        }
        for offset in model.sent.range(compacted.max(model.start)..).map(|(offset, _)| offset) {
            let kept = records.contains_key(offset) || self.touched(*offset, &model, &newest);
            assert!(kept, "record {offset} is gone and was never compacted");
        }
        for (producer, base) in last_batch.iter().filter(|(_, base)| **base >= model.start) {
            assert!(batches.contains(base), "the last batch of producer {producer}, at {base}");
        }
        for (ms, found) in [0, model.wall - 200, model.wall].map(|ms| {
            (ms, records.iter().find(|(_, record)| record.time >= ms).map(|(offset, _)| *offset))
        }) {
            let end = self.log.end();
            if let Some(answer) = self.tried(self.log.offset_for_time(ms, end).await) {
                assert_eq!(answer.map(|answer| answer.0.0), found, "first record from {ms} on");
            }
        }
        if let Some(answer) = self.tried(self.log.max_timestamp(self.log.end()).await) {
            let newest = records.values().map(|record| record.time).max();
            assert_eq!(answer.map(|answer| answer.1), newest);
        }
    }

    /// Whether an unfinished pass may have removed it: something newer has its key, it has none,
    /// or it is a tombstone that is the newest (judged above).
    fn touched(&self, offset: i64, model: &Model, newest: &BTreeMap<&[u8], i64>) -> bool {
        let sent = &model.sent[&offset];
        let Some(key) = &sent.key else { return true };
        newest[&key[..]] > offset || sent.value.is_none()
    }

    fn tried<T, E: std::fmt::Display>(&self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| assert!(self.faulty, "{error}")).ok()
    }

    async fn read(&self, plan: &Plan<<Ram as trialog_engine::io::Io>::File>) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for slice in &plan.slices {
            let buf = Buf::with_capacity(slice.length as usize);
            let (result, buf) = fill_at(&slice.file, buf, slice.position).await;
            self.tried(result)?;
            bytes.extend_from_slice(&buf);
        }
        Some(bytes)
    }

    async fn play(mut self, ops: &[Op]) {
        for op in ops {
            if !self.step(op).await {
                assert!(self.faulty);
                return;
            }
            self.compare().await;
        }
        let held = std::mem::take(&mut self.held);
        for (plan, before) in &held {
            if let Some(now) = self.read(plan).await {
                assert!(now == *before, "bytes on their way to a reader have changed");
            }
        }
    }

    /// Does one thing; false if the log is out of use.
    async fn step(&mut self, op: &Op) -> bool {
        match op {
            Op::Append { notes, producer, compression } => {
                self.append(notes, *producer, *compression).await
            }
            Op::Flush => self.flush().await,
            Op::Tick(ms) => self.tick(*ms).await,
            Op::Compact => {
                while self.copy().await {
                    self.take_in().await;
                }
                self.log.failure().is_none()
            }
            Op::Step => {
                if self.copied.is_some() {
                    self.take_in().await;
                } else {
                    self.copy().await;
                }
                self.log.failure().is_none()
            }
            Op::AdvanceStart(part) => self.advance_start(*part).await,
            Op::Truncate(part) => self.truncate(*part).await,
            Op::Reopen => self.reopen().await,
        }
    }

    async fn append(&mut self, notes: &[Note], producer: u8, compression: u8) -> bool {
        let compression = Compression::from_bits(compression).expect("one of five");
        let mut builder = Builder::new().compression(compression);
        let mut model = self.witness.borrow().clone();
        model.wall += 20;
        model.count += 1;
        let producer = if model.producers_unknown { 0 } else { producer };
        if producer > 0 {
            let own = model.sent.values().filter(|sent| sent.producer == producer);
            let id = ProducerId(i64::from(producer) - 1);
            builder = builder.producer(id, ProducerEpoch(0), own.count() as i32);
        }
        let base = model.end;
        for (number, &(key, length)) in notes.iter().enumerate() {
            let key = key.map(|key| format!("key-{key}").into_bytes());
            let value = length.map(|length| {
                let mut value = format!("{}.{number}.", model.count).into_bytes();
                value.resize(value.len() + usize::from(length), b'x');
                value
            });
            let time = model.wall + i64::from(length.unwrap_or(3)) - 30;
            builder.push(time, key.as_deref(), value.as_deref(), &[]);
            let sent = Sent { key, value, time, batch: base, producer };
            model.sent.insert(base + number as i64, sent);
        }
        model.pending = Pending::Append;
        let (epoch, wall) = (LeaderEpoch(model.epoch), Wall(model.wall));
        *self.witness.borrow_mut() = model.clone();
        let result = self.log.append(vec![Buf::from(builder.finish())], epoch, wall).await;
        model.pending = Pending::Nothing;
        match result[0] {
            Ok(appended) => {
                assert_eq!(appended.base.0, base);
                model.end = base + notes.len() as i64;
                *self.witness.borrow_mut() = model;
                true
            }
            Err(error) => {
                assert!(self.faulty, "{error}");
                let mut model = self.witness.borrow_mut();
                if error == AppendError::Full {
                    model.pending = Pending::Nothing;
                    model.sent.split_off(&base);
                }
                false
            }
        }
    }

    async fn flush(&mut self) -> bool {
        let Some(ticket) = self.log.flush() else { return true };
        let flushed = ticket.run().await;
        match self.log.flushed(flushed) {
            Ok(end) => {
                self.witness.borrow_mut().acked = end.0;
                true
            }
            Err(_) => {
                assert!(self.faulty);
                false
            }
        }
    }

    async fn tick(&mut self, ms: u16) -> bool {
        self.witness.borrow_mut().wall += i64::from(ms);
        let wall = Wall(self.witness.borrow().wall);
        self.witness.borrow_mut().pending = Pending::Start(self.log.flushed_end().0);
        if self.log.tick(wall).await.is_err() {
            assert!(self.faulty);
            return false;
        }
        let mut model = self.witness.borrow_mut();
        if !self.faulty {
            model.pending = Pending::Nothing;
        }
        model.start = self.log.start().0;
        true
    }

    /// Begins a pass, or goes on with the one that is under way; whether there is something to take
    /// in.
    async fn copy(&mut self) -> bool {
        if self.copied.is_some() {
            return true;
        }
        let wall = Wall(self.witness.borrow().wall);
        if self.running.is_none() && self.log.compaction_due(wall) {
            self.hold().await;
            self.running = self.log.compact(wall);
        }
        let Some(running) = self.running.take() else { return false };
        self.copied = Some(running.run(&Pace::default()).await);
        true
    }

    /// Has the log take in what was copied, whatever has become of the log since.
    async fn take_in(&mut self) {
        let Some(copied) = self.copied.take() else { return };
        let table = self.log.producer_table();
        self.running = self.log.compacted(copied);
        assert_eq!(self.log.producer_table(), table, "compaction changed what producers wrote");
        // Lets the checkpoint be saved, before or after whatever comes next.
        let turns = self.witness.borrow().count % 3;
        for _ in 0..turns {
            trialog_engine::io::Io::sleep(&self.ram, std::time::Duration::from_micros(10)).await;
        }
    }

    /// Plays a slow reader of the whole log.
    async fn hold(&mut self) {
        let (start, end) = (self.log.start(), self.log.end());
        let plan = self.log.plan(start, end, u64::MAX, First::WithinLimit).await;
        let Some(plan) = self.tried(plan) else { return };
        if let Some(bytes) = self.read(&plan).await {
            self.held.push((plan, bytes));
        }
    }

    async fn advance_start(&mut self, part: u8) -> bool {
        let (start, end) = (self.log.start().0, self.log.readable_end().0);
        let to = start + (end - start) * i64::from(part) / 255;
        self.witness.borrow_mut().pending = Pending::Start(to);
        match self.log.advance_start(Offset(to)).await {
            Ok(()) => {
                let mut model = self.witness.borrow_mut();
                model.start = to;
                model.pending = Pending::Nothing;
                true
            }
            Err(error) => {
                assert!(self.faulty, "{error}");
                false
            }
        }
    }

    async fn truncate(&mut self, part: u8) -> bool {
        let (start, end) = (self.log.start().0, self.log.end().0);
        let to = start + (end - start) * i64::from(part) / 255;
        // It would empty the log and move its start.
        if to <= start || self.witness.borrow().sent.get(&to).is_some_and(|s| s.batch <= start) {
            return true;
        }
        let base = self.witness.borrow().sent.get(&to).map_or(to, |sent| sent.batch);
        let Some((before, _)) = self.contents().await else { return false };
        let below = before.range(..base).next_back().map_or(start, |(offset, _)| offset + 1);
        self.witness.borrow_mut().pending = Pending::Cut(below);
        // What runs beside was begun before, and is noticed to be too old.
        match self.log.truncate(Offset(to)).await {
            Ok(()) => {}
            Err(ChangeError::Storage(_)) if self.faulty => return false,
            Err(error) => panic!("{error}"),
        }
        let end = self.log.end().0;
        assert!(end >= below && end <= to, "{below} <= {end} <= {to}");
        let Some((records, _)) = self.contents().await else { return false };
        // A reader whose bytes are cut off reads on elsewhere.
        self.held.clear();
        let mut model = self.witness.borrow_mut();
        for offset in model.sent.range(..end).map(|(offset, _)| *offset) {
            let gone = offset >= model.start && !records.contains_key(&offset);
            assert!(!gone || offset < self.log.end().0);
        }
        model.adopt(&records);
        model.pending = Pending::Nothing;
        model.end = end;
        model.acked = model.acked.min(end);
        true
    }

    async fn reopen(&mut self) -> bool {
        let empty = Log::open(&self.ram, &Pool::new(), Path::new("/none"), Config::default()).await;
        let Some((empty, _)) = self.tried(empty) else { return false };
        let table = self.log.producer_table();
        (self.running, self.copied) = (None, None);
        let closed = std::mem::replace(&mut self.log, empty).close().await;
        if self.tried(closed).is_none() {
            return false;
        }
        let report = verify(&self.ram, Path::new(DIR)).await;
        let Some(report) = self.tried(report) else { return false };
        let damage = |problem: &&trialog_engine::log::Problem| problem.severity != Severity::Index;
        assert_eq!(report.problems.iter().find(damage), None);
        let opened = Log::open(&self.ram, &Pool::new(), Path::new(DIR), self.config.clone()).await;
        let Some((log, _)) = self.tried(opened) else { return false };
        self.log = log;
        assert!(self.faulty || self.log.producer_table() == table, "producers are forgotten");
        let mut model = self.witness.borrow_mut();
        model.start = self.log.start().0;
        model.acked = model.end;
        model.epoch += 1;
        true
    }
}

impl Model {
    fn new() -> Model {
        Model {
            sent: BTreeMap::new(),
            gone: BTreeSet::new(),
            start: 0,
            acked: 0,
            end: 0,
            pending: Pending::Nothing,
            producers_unknown: false,
            epoch: 0,
            wall: 1_700_000_000_000,
            count: 0,
        }
    }

    /// A cut takes what made older records needless, and those do not come back: what is there is
    /// what there is. Producers begin anew, because what was known of them may have gone.
    fn adopt(&mut self, records: &BTreeMap<i64, Sent>) {
        self.sent.retain(|offset, _| records.contains_key(offset));
        self.gone.clear();
        self.producers_unknown = true;
    }
}

fn loss_of(seed: Option<u64>) -> Loss {
    match seed {
        None => Loss::Nothing,
        Some(seed) if seed % 8 == 0 => Loss::Everything,
        Some(seed) => Loss::Some(seed),
    }
}

async fn live(ram: &Ram, script: &Script, witness: &Witness, ops: &[Op], faulty: bool) {
    if let Some(player) = Player::open(ram, &script.config, witness, faulty).await {
        player.play(ops).await;
    }
}

fn lead_up(script: &Script) -> (Ram, Witness) {
    let witness = Rc::new(RefCell::new(Model::new()));
    let mut ram = Ram::new(script.seed);
    let (_, before) = script.lives.split_last().expect("a script has lives");
    for (ops, loss) in before {
        ram.block_on(live(&ram, script, &witness, ops, false));
        ram = ram.crash(loss_of(*loss));
    }
    (ram, witness)
}

fn aftermath(ram: Ram, script: &Script, witness: &Witness, seed: u64) {
    let append =
        |key| Op::Append { notes: vec![(Some(key), Some(40)); 4], producer: 0, compression: 0 };
    let goes_on = [append(1), append(2), append(3), Op::Flush, append(4), Op::Flush];
    let compacts = [Op::Tick(1000), Op::Compact, Op::Tick(0), Op::Reopen];
    ram.block_on(live(&ram, script, witness, &[], false));
    let ram = ram.crash(if seed.is_multiple_of(2) { Loss::Some(seed) } else { Loss::Everything });
    ram.block_on(live(&ram, script, witness, &[&goes_on[..], &compacts].concat(), false));
    let ram = ram.crash(Loss::Everything);
    ram.block_on(live(&ram, script, witness, &compacts, false));
}

/// In two halves, so that two cores share the work.
#[test]
fn a_power_cut_at_every_odd_change_while_compacting() {
    power_cuts_while_compacting(1);
}

#[test]
fn a_power_cut_at_every_even_change_while_compacting() {
    power_cuts_while_compacting(2);
}

/// Cuts the power at every second change from the one of this number on.
fn power_cuts_while_compacting(first: u64) {
    let result = runner(10).run(&script(19), |script| {
        let (ops, _) = script.lives.last().expect("a script has lives");
        let (ram, witness) = lead_up(&script);
        ram.block_on(live(&ram, &script, &witness, ops, false));
        let operations = ram.operations();
        aftermath(ram.crash(Loss::Everything), &script, &witness, 1);
        for operation in (first..=operations).step_by(2) {
            let (ram, witness) = lead_up(&script);
            ram.cut_power_at(operation);
            let done = ram.run(live(&ram, &script, &witness, ops, false));
            assert!(done.is_none(), "the same script makes the same changes");
            let seed = script.seed ^ operation.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let loss = if operation % 5 == 0 { Loss::Everything } else { Loss::Some(seed) };
            aftermath(ram.crash(loss), &script, &witness, seed);
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    reached(&[
        Probe::Compacted,
        Probe::CompactedTogether,
        Probe::CompactedInVain,
        Probe::KeysDoNotFit,
        Probe::BatchEmptied,
        Probe::BatchCompactedAway,
        Probe::TombstoneDated,
        Probe::TombstoneExpired,
        Probe::ReplacedRemoved,
    ]);
}

#[test]
fn a_log_that_has_changed_meanwhile_overtakes_its_compaction() {
    let append =
        |key| Op::Append { notes: vec![(Some(key), Some(40)); 4], producer: 0, compression: 0 };
    let config = Config {
        segment_bytes: 600,
        compact: true,
        delete: false,
        min_dirty_ratio: 0.0,
        ..Config::default()
    };
    // When the file is written, when it is to be named, when it is named.
    for steps in 1..=3 {
        for change in [Op::AdvanceStart(255), Op::Truncate(60)] {
            let mut ops: Vec<Op> = (0..12).map(|number| append(number % 3)).collect();
            ops.extend([Op::Flush, Op::Tick(0)]);
            ops.extend(std::iter::repeat_n(Op::Step, steps));
            ops.extend([change, Op::Tick(0), Op::Step, Op::Step]);
            let lives = vec![(ops.clone(), None)];
            let script = Script { seed: 1, config: config.clone(), lives };
            let (ram, witness) = lead_up(&script);
            ram.block_on(live(&ram, &script, &witness, &ops, false));
            reached(&[Probe::CompactionOvertaken]);
            aftermath(ram.crash(Loss::Everything), &script, &witness, 1);
        }
    }
}

/// Plays this on a log whose segments close by their age only, and reads all of it.
fn on_one_segment(ops: &[Op]) {
    let config = Config {
        segment_ms: 1000,
        compact: true,
        delete: false,
        min_dirty_ratio: 0.0,
        compaction_backoff_ms: 0,
        ..Config::default()
    };
    let script = Script { seed: 1, config, lives: vec![(ops.to_vec(), None)] };
    let (ram, witness) = lead_up(&script);
    ram.block_on(live(&ram, &script, &witness, ops, false));
    reached(&[Probe::Compacted]);
    aftermath(ram.crash(Loss::Everything), &script, &witness, 1);
}

/// However little of the log is dirty.
#[test]
fn a_record_waits_for_compaction_no_longer_than_it_may() {
    let append =
        |key| Op::Append { notes: vec![(Some(key), Some(9))], producer: 0, compression: 0 };
    let fills = [append(1), append(1), Op::Flush, Op::Tick(2000), append(2), Op::Flush];
    let ops = [&fills[..], &[Op::Tick(0), Op::Compact, Op::Tick(0)]].concat();
    for (max_compaction_lag_ms, is_overdue) in [(1000, true), (60_000, false)] {
        let config = Config {
            segment_ms: 1000,
            compact: true,
            delete: false,
            // More than all of it.
            min_dirty_ratio: 1.0,
            max_compaction_lag_ms,
            compaction_backoff_ms: 0,
            ..Config::default()
        };
        let script = Script { seed: 1, config, lives: vec![(ops.clone(), None)] };
        let (ram, witness) = lead_up(&script);
        let _ = probe::take();
        ram.block_on(live(&ram, &script, &witness, &ops, false));
        let hits = probe::take();
        let came = [Probe::CompactionOverdue, Probe::Compacted].map(|probe| hits.of(probe) > 0);
        assert_eq!(came, [is_overdue; 2], "{max_compaction_lag_ms} ms");
    }
}

/// A sender's clock may be ahead, by years; that is no reason to compact nothing behind its records.
#[test]
fn times_yet_to_come_hold_compaction_up_only_where_a_lag_is_asked_for() {
    const NOW: Wall = Wall(1_000_000);
    for (min_compaction_lag_ms, is_due) in [(0, true), (1, false)] {
        let config = Config {
            segment_ms: 1000,
            compact: true,
            delete: false,
            min_dirty_ratio: 0.0,
            min_compaction_lag_ms,
            ..Config::default()
        };
        let ram = Ram::new(1);
        let io = ram.clone();
        let due = ram.block_on(async {
            let opened = Log::open(&io, &Pool::new(), Path::new(DIR), config).await;
            let (mut log, _) = opened.expect("nothing fails");
            for (time, wall) in [(NOW.0 + 900_000, NOW), (NOW.0, Wall(NOW.0 + 2000))] {
                let mut batch = Builder::new();
                batch.push(time, Some(b"key"), Some(b"value"), &[]);
                let batches = vec![Buf::from(batch.finish())];
                let appended = log.append(batches, LeaderEpoch(1), wall).await;
                assert!(appended[0].is_ok());
            }
            let flushed = log.flush().expect("there is something to flush").run().await;
            log.flushed(flushed).expect("nothing fails");
            log.tick(Wall(NOW.0 + 2000)).await.expect("nothing fails");
            log.compaction_due(Wall(NOW.0 + 2000))
        });
        assert_eq!(due, is_due, "a lag of {min_compaction_lag_ms} ms");
    }
}

#[test]
fn a_reader_gets_to_the_end_though_nothing_is_left_there() {
    let append = |key| Op::Append { notes: vec![(key, Some(9))], producer: 0, compression: 0 };
    let fills = [append(Some(1)), append(None), Op::Flush, Op::Tick(2000), append(Some(2))];
    let compacts = [Op::Flush, Op::Tick(0), Op::Compact, Op::Tick(0)];
    // What came behind the compacted segment goes again.
    on_one_segment(&[&fills[..], &compacts, &[Op::Truncate(170)]].concat());
}

#[test]
fn a_reader_gets_a_large_batch_behind_a_hole() {
    let notes = |keys: std::ops::Range<u8>| keys.map(|key| (Some(key), Some(59))).collect();
    let append = |keys| Op::Append { notes: notes(keys), producer: 0, compression: 0 };
    let fills = [append(0..4), append(0..4), Op::Flush, Op::Tick(2000), append(5..6)];
    on_one_segment(&[&fills[..], &[Op::Flush, Op::Tick(0), Op::Compact, Op::Tick(0)]].concat());
}

#[test]
fn every_failure_of_the_disk_while_compacting() {
    let calls = [
        (Call::Write, Effect::Eio),
        (Call::Sync, Effect::Eio),
        (Call::Write, Effect::Full),
        (Call::SyncDir, Effect::Eio),
        (Call::Open, Effect::Full),
        (Call::Rename, Effect::Eio),
        (Call::Remove, Effect::Eio),
        (Call::Read, Effect::Eio),
        (Call::Length, Effect::Eio),
    ];
    let result = runner(3).run(&(script(22), 0u64..6), |(mut script, step)| {
        // A cut that failed half-way may come back; `crash.rs` looks at those.
        for (ops, _) in &mut script.lives {
            ops.retain(|op| !matches!(op, Op::Truncate(_)));
        }
        for &(call, effect) in &calls {
            for after in [0, 2, 5, 9, 14, 20, 27] {
                let (ram, witness) = lead_up(&script);
                let (ops, loss) = script.lives.last().expect("a script has lives");
                ram.inject(Fault { call, after: after + step, times: 1, effect });
                ram.block_on(live(&ram, &script, &witness, ops, true));
                aftermath(ram.crash(loss_of(*loss)), &script, &witness, after);
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    reached(&[Probe::CompactionFailed]);
}

/// The scripts were about what they should be about.
fn reached(probes: &[Probe]) {
    let hits = probe::take();
    for &probe in probes {
        assert!(hits.of(probe) > 0, "no script has led to {probe:?}");
    }
}
