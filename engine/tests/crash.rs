//! The log against a naive model on the RAM disk, with a power cut before every single change of
//! the disk, and with every kind of disk failure.
//!
//! A script is up to three lives of a log. Every life but the last ends in a crash of its own; the
//! last one is played once whole to count the changes of the disk it makes, and then once for each
//! of them, with the power cut just before it and any subset of unflushed writes and names left.
//! Then the log is opened and compared with the model: what was answered as flushed is there, in
//! order and byte for byte; nothing is there that was not sent; start, leader epochs, producers,
//! plans and time look-ups are those of the model. A second recovery changes nothing, and the log
//! goes on.
//!
//! `TRIALOG_CRASH_CASES` sets the number of scripts, `TRIALOG_CRASH_SEED` which ones they are.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, RngAlgorithm, TestRng, TestRunner};
use tokio::sync::oneshot;
use trialog_engine::id::{LeaderEpoch, Offset};
use trialog_engine::io::ram::{Call, Effect, Fault, Loss, Ram};
use trialog_engine::io::{Buf, Pool, Wall, fill_at};
use trialog_engine::log::{
    AppendError, ChangeError, Config, Durability, First, Flush, Flushed, Log, Plan, Recovery,
};

use crate::crash_model::{Draft, Model, Pending, Verdict};

const DIR: &str = "/p-0";

type File = <Ram as trialog_engine::io::Io>::File;

/// One batch to send.
#[derive(Clone, Debug)]
struct Piece {
    /// 0 for none.
    producer: u8,
    trick: Trick,
    records: u8,
    bytes: u16,
    time: i8,
}

#[derive(Clone, Copy, Debug)]
enum Trick {
    Honest,
    /// Sends one of its last batches again.
    Again(u8),
    Gap,
    OldEpoch,
    NewEpoch,
}

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<Piece>),
    Flush,
    /// A flush that runs beside what follows, until the next one of these.
    FlushBeside,
    Tick(u16),
    /// A fraction of the log, of 255.
    Truncate(u8),
    AdvanceStart(u8),
    Reopen,
    NewEpoch,
    Read(u8, u8, u16),
}

#[derive(Clone, Debug)]
struct Script {
    seed: u64,
    config: Config,
    lives: Vec<(Vec<Op>, Option<u64>)>,
}

fn piece() -> impl Strategy<Value = Piece> {
    let trick = prop_oneof![
        12 => Just(Trick::Honest),
        2 => (0u8..6).prop_map(Trick::Again),
        1 => Just(Trick::Gap),
        1 => Just(Trick::OldEpoch),
        1 => Just(Trick::NewEpoch),
    ];
    (0u8..4, trick, 1u8..4, prop_oneof![3 => 0u16..120, 1 => 120u16..700], any::<i8>()).prop_map(
        |(producer, trick, records, bytes, time)| Piece { producer, trick, records, bytes, time },
    )
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => prop::collection::vec(piece(), 1..5).prop_map(Op::Append),
        5 => Just(Op::Flush),
        4 => Just(Op::FlushBeside),
        2 => (0u16..600).prop_map(Op::Tick),
        1 => any::<u8>().prop_map(Op::Truncate),
        1 => any::<u8>().prop_map(Op::AdvanceStart),
        1 => Just(Op::Reopen),
        1 => Just(Op::NewEpoch),
        2 => (any::<u8>(), any::<u8>(), 0u16..3000).prop_map(|(a, b, c)| Op::Read(a, b, c)),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    (
        900u32..4000,
        100u32..500,
        200u64..4000,
        prop_oneof![Just(0u64), Just(600), Just(u64::MAX)],
        prop_oneof![2 => Just(-1i64), 1 => 1500i64..8000],
        prop_oneof![Just(i64::MAX), 200i64..1000],
        any::<bool>(),
        prop_oneof![3 => Just(Durability::Flushed), 1 => Just(Durability::PageCache)],
    )
        .prop_map(
            |(segment, interval, checkpoint, allocate, bytes, ms, append_time, durability)| {
                Config {
                    segment_bytes: segment,
                    segment_ms: ms,
                    retention_ms: -1,
                    retention_bytes: bytes,
                    index_interval_bytes: interval,
                    append_time,
                    durability,
                    checkpoint_bytes: checkpoint,
                    allocate_from_bytes: allocate,
                    ..Config::default()
                }
            },
        )
}

fn script(ops: usize) -> impl Strategy<Value = Script> {
    let life = (prop::collection::vec(op(), 1..ops), prop::option::of(any::<u64>()));
    (any::<u64>(), config(), prop::collection::vec(life, 1..4))
        .prop_map(|(seed, config, lives)| Script { seed, config, lives })
}

/// Keeps a script's model; the log itself dies with its world.
type Witness = Rc<RefCell<Model>>;

/// One life of a log: a player in one world.
struct Player {
    ram: Ram,
    config: Config,
    witness: Witness,
    log: Log<Ram>,
    /// The outcome of a flush that runs beside.
    beside: Option<oneshot::Receiver<Flushed>>,
    /// The disk was told to fail: operations may, too.
    faulty: bool,
}

/// Whether the log is still in use.
enum Goes {
    On,
    Over,
}

impl Player {
    /// Opens the log and compares it with the model. `None` if a fault kept it shut.
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
        witness.borrow_mut().recovered(log.start().0, log.end().0);
        assert_eq!(log.flushed_end(), log.end(), "recovery flushes what it keeps");
        let (ram, config, witness) = (ram.clone(), config.clone(), witness.clone());
        let player = Player { ram, config, witness, log, beside: None, faulty };
        player.compare().await;
        player.witness.borrow_mut().epoch += 1;
        Some(player)
    }

    /// The whole log against the model.
    async fn compare(&self) {
        let model = self.witness.borrow().clone();
        let (start, end) = (Offset(model.start), Offset(model.end()));
        assert_eq!((self.log.start(), self.log.end()), (start, end));
        let Some(plan) = self.tried(self.log.plan(start, end, u64::MAX, First::WithinLimit).await)
        else {
            return;
        };
        let Some(bytes) = self.read(&plan).await else { return };
        let expected: Vec<u8> =
            model.between(start.0, end.0).flat_map(|sent| sent.bytes.iter().copied()).collect();
        if self.faulty && bytes.len() < expected.len() {
            // A plan ends before a segment that could not be opened.
            assert!(expected.starts_with(&bytes));
            return;
        }
        assert!(bytes == expected, "the log's bytes are not those that were sent");
        let epochs = if model.epochs_unknown { 0 } else { model.epoch + 3 };
        for epoch in (-1..).take(epochs as usize) {
            let (found, offset) = self.log.epoch_end(LeaderEpoch(epoch));
            assert_eq!((found.0, offset.0), model.epoch_end(epoch), "end of epoch {epoch}");
        }
        if !model.table_unknown {
            let table = self.log.producer_table();
            assert_eq!(table, model.encoded_table(), "producers: {:?}", model.table());
        }
        let records = model.records(end.0);
        let mut times: Vec<i64> = records.iter().map(|record| record.1).collect();
        times.sort_unstable();
        times.dedup();
        let some = times.iter().step_by(times.len() / 6 + 1).flat_map(|&time| [time, time + 1]);
        for ms in some {
            let naive = records.iter().find(|record| record.1 >= ms);
            let naive =
                naive.map(|&(offset, time, epoch)| (Offset(offset), time, LeaderEpoch(epoch)));
            if let Some(found) = self.tried(self.log.offset_for_time(ms, end).await) {
                assert_eq!(found, naive, "first record at or after {ms}");
            }
        }
        let newest = times.last().map(|&newest| {
            let record = records.iter().find(|record| record.1 == newest).expect("it is there");
            (Offset(record.0), newest, LeaderEpoch(record.2))
        });
        if let Some(found) = self.tried(self.log.max_timestamp(end).await) {
            assert_eq!(found, newest);
        }
    }

    /// The value, or `None` if the disk may have failed.
    fn tried<T, E: std::fmt::Display>(&self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| assert!(self.faulty, "{error}")).ok()
    }

    async fn read(&self, plan: &Plan<File>) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for slice in &plan.slices {
            let buf = Buf::with_capacity(slice.length as usize);
            let (result, buf) = fill_at(&slice.file, buf, slice.position).await;
            self.tried(result)?;
            assert_eq!(buf.len() as u64, slice.length, "a slice is within its file");
            bytes.extend_from_slice(&buf);
        }
        assert_eq!(bytes.len() as u64, plan.bytes);
        Some(bytes)
    }

    async fn play(mut self, ops: &[Op]) {
        for op in ops {
            match self.step(op).await {
                Some(Goes::On) => {}
                Some(Goes::Over) => {
                    let results = self.log.append(vec![Buf::new()], LeaderEpoch(99), Wall(0)).await;
                    assert_eq!(results, [Err(AppendError::Poisoned)], "no retry");
                    return;
                }
                None => {
                    assert!(self.faulty);
                    return;
                }
            }
            if !matches!(op, Op::Read(..)) && !matches!(op, Op::Append(_)) {
                self.compare().await;
            }
        }
        self.finish_flush().await;
    }

    /// Does one thing; `None` if the log could not be opened again.
    async fn step(&mut self, op: &Op) -> Option<Goes> {
        let wall = Wall(self.witness.borrow().wall);
        let goes = match op {
            Op::Append(pieces) => self.append(pieces, wall).await,
            Op::Flush => match self.finish_flush().await {
                Goes::On => self.flush().await,
                Goes::Over => Goes::Over,
            },
            Op::FlushBeside => match self.finish_flush().await {
                Goes::On => self.flush_beside(),
                Goes::Over => Goes::Over,
            },
            Op::Tick(ms) => self.tick(*ms).await,
            Op::Truncate(part) => match self.finish_flush().await {
                Goes::On => self.truncate(*part).await,
                Goes::Over => Goes::Over,
            },
            Op::AdvanceStart(part) => self.advance_start(*part).await,
            Op::Reopen => match self.finish_flush().await {
                Goes::On => return self.reopen().await,
                Goes::Over => Goes::Over,
            },
            Op::NewEpoch => {
                self.witness.borrow_mut().epoch += 1;
                Goes::On
            }
            Op::Read(from, to, bytes) => {
                self.plan(*from, *to, u64::from(*bytes)).await;
                Goes::On
            }
        };
        Some(goes)
    }

    fn drafts(&self, pieces: &[Piece]) -> Vec<Draft> {
        let model = self.witness.borrow();
        let mut next = model.table();
        let mut drafts = Vec::new();
        for piece in pieces {
            let id = i64::from(piece.producer);
            let mut records = usize::from(piece.records);
            let mut producer = None;
            if piece.producer > 0 && !model.table_unknown {
                let known = next.get(&id);
                let epoch = known.map_or(3, |known| known.0);
                let sequence = known.and_then(|known| known.2.last());
                let sequence = sequence.map_or(0, |last| last.0 + last.1 + 1);
                producer = Some(match piece.trick {
                    Trick::Honest => (id, epoch, sequence),
                    Trick::Again(which) => {
                        let kept = known.and_then(|known| known.2.get(usize::from(which)));
                        records = kept.map_or(records, |kept| kept.1 as usize + 1);
                        (id, epoch, kept.map_or(sequence, |kept| kept.0))
                    }
                    Trick::Gap => (id, epoch, sequence + 3),
                    Trick::OldEpoch => (id, epoch - 1, sequence),
                    Trick::NewEpoch => (id, epoch + 1, 0),
                });
            }
            let times = (0..records).map(|number| {
                model.wall + i64::from(piece.time) * if number % 2 == 0 { 3 } else { -2 }
            });
            let value = vec![piece.time as u8; usize::from(piece.bytes) / records];
            let draft = Draft { producer, times: times.collect(), value };
            // What follows in the same group continues it, if it is honest.
            if let (Some((id, epoch, sequence)), Trick::Honest | Trick::NewEpoch) =
                (draft.producer, piece.trick)
            {
                let known = next.entry(id).or_insert((epoch, 0, Vec::new()));
                known.0 = epoch;
                known.2.push((sequence, records as i32 - 1, 0, 0));
            }
            drafts.push(draft);
        }
        drafts
    }

    async fn append(&mut self, pieces: &[Piece], wall: Wall) -> Goes {
        let drafts = self.drafts(pieces);
        let append_time = self.config.append_time.then_some(wall.0);
        let (verdicts, placed) = self.witness.borrow().judge(&drafts, append_time);
        self.witness.borrow_mut().pending = Pending::Append(placed.clone());
        let epoch = LeaderEpoch(self.witness.borrow().epoch);
        let bufs = drafts.iter().map(|draft| Buf::from(draft.bytes())).collect();
        let results = self.log.append(bufs, epoch, wall).await;
        assert_eq!(results.len(), drafts.len());
        let mut placed = placed.into_iter();
        let mut full = false;
        for (result, verdict) in results.iter().zip(verdicts) {
            match (result, verdict) {
                (Err(AppendError::Storage(_)), _) if self.faulty => {
                    self.witness.borrow_mut().pending = Pending::Append(placed.collect());
                    return Goes::Over;
                }
                (Err(AppendError::Full), _) if self.faulty => full = true,
                (Ok(appended), Verdict::Append) => {
                    assert!(!full, "nothing is appended behind what did not fit");
                    let sent = placed.next().expect("as many as verdicts");
                    assert_eq!((appended.base.0, appended.last.0), (sent.base, sent.last));
                    assert_eq!(appended.append_time_ms, append_time.unwrap_or(-1));
                    assert!(!appended.duplicate);
                    let mut model = self.witness.borrow_mut();
                    model.may_return.clear();
                    model.lineage.push(sent);
                }
                (Ok(appended), Verdict::Duplicate { base, last }) => {
                    assert!(appended.duplicate);
                    assert_eq!((appended.base.0, appended.last.0), (base, last));
                }
                (Err(AppendError::OutOfOrderSequence { .. }), Verdict::OutOfOrder) => {}
                (Err(AppendError::InvalidProducerEpoch { .. }), Verdict::Fenced) => {}
                (result, verdict) => panic!("{result:?} where {verdict:?} was expected"),
            }
        }
        self.witness.borrow_mut().pending = Pending::Nothing;
        assert_eq!(self.log.end().0, self.witness.borrow().end());
        Goes::On
    }

    async fn flush(&mut self) -> Goes {
        let Some(ticket) = self.log.flush() else {
            assert_eq!(self.log.flushed_end(), self.log.end(), "nothing to flush");
            return Goes::On;
        };
        let outcome = ticket.run().await;
        self.settle(outcome)
    }

    fn flush_beside(&mut self) -> Goes {
        if let Some(ticket) = self.log.flush() {
            assert!(self.log.flush().is_none(), "one ticket at a time");
            let (send, receive) = oneshot::channel();
            let run = |ticket: Flush<Ram>| async move {
                let _ = send.send(ticket.run().await);
            };
            trialog_engine::io::Io::spawn(&self.ram, run(ticket));
            self.beside = Some(receive);
        }
        Goes::On
    }

    async fn finish_flush(&mut self) -> Goes {
        match self.beside.take() {
            Some(outcome) => {
                let outcome = outcome.await.expect("the flush runs to its end");
                self.settle(outcome)
            }
            None => Goes::On,
        }
    }

    fn settle(&mut self, outcome: Flushed) -> Goes {
        match self.log.flushed(outcome) {
            Ok(end) => {
                let mut model = self.witness.borrow_mut();
                assert!(end.0 <= model.end());
                model.acked = model.acked.max(end.0);
                Goes::On
            }
            Err(_) => {
                assert!(self.faulty);
                Goes::Over
            }
        }
    }

    async fn tick(&mut self, ms: u16) -> Goes {
        self.witness.borrow_mut().wall += i64::from(ms);
        let (start, wall) = (self.log.start(), Wall(self.witness.borrow().wall));
        let may_go = self.log.flushed_end().0;
        self.witness.borrow_mut().pending = Pending::Start(may_go);
        if self.log.tick(wall).await.is_err() {
            assert!(self.faulty);
            return Goes::Over;
        }
        let mut model = self.witness.borrow_mut();
        model.pending = Pending::Nothing;
        // A tick that failed to raise the start may still have put it on the disk.
        if self.faulty {
            model.start_may_be = model.start_may_be.max(may_go);
        }
        model.start = self.log.start().0;
        assert!(self.log.start() >= start);
        assert!(model.start <= may_go, "retention took what was not flushed");
        if self.config.retention_bytes < 0 {
            assert_eq!(self.log.start(), start, "nothing asked for retention");
        }
        Goes::On
    }

    async fn truncate(&mut self, part: u8) -> Goes {
        let (start, end) = (self.log.start().0, self.log.end().0);
        // From two below the start to the end.
        let low = (start - 2).max(0);
        let to = low + (end - low) * i64::from(part) / 255;
        let contains = self.witness.borrow().between(to, to + 1).next().map(|sent| sent.base);
        let cut = contains.unwrap_or(end).max(start);
        let reset = cut <= start && to < end;
        self.witness.borrow_mut().pending =
            if reset { Pending::Reset(to.min(start)) } else { Pending::Cut(cut) };
        let result = self.log.truncate(Offset(to)).await;
        let mut model = self.witness.borrow_mut();
        match result {
            Ok(()) if reset => model.reset(to.min(start)),
            Ok(()) if to < end => model.cut(cut),
            Ok(()) => model.pending = Pending::Nothing,
            // Before anything was changed, or in the middle of it.
            Err(ChangeError::Storage(_)) if self.faulty => {
                if self.log.failure().is_some() {
                    return Goes::Over;
                }
                model.pending = Pending::Nothing;
            }
            Err(error) => panic!("{error}"),
        }
        model.table_unknown |= self.faulty;
        Goes::On
    }

    async fn advance_start(&mut self, part: u8) -> Goes {
        let (start, end) = (self.log.start().0, self.log.readable_end().0);
        let to = start + (end - start) * i64::from(part) / 255;
        self.witness.borrow_mut().pending = Pending::Start(to);
        let result = self.log.advance_start(Offset(to)).await;
        let mut model = self.witness.borrow_mut();
        match result {
            Ok(()) => {
                model.start = to;
                model.acked = model.acked.max(to);
                model.pending = Pending::Nothing;
            }
            Err(ChangeError::Busy) => {
                assert!(to > self.log.flushed_end().0);
                model.pending = Pending::Nothing;
            }
            Err(error) => {
                assert!(self.faulty, "{error}");
                model.pending = Pending::Nothing;
                model.start_may_be = model.start_may_be.max(to);
                if self.log.failure().is_some() {
                    return Goes::Over;
                }
            }
        }
        Goes::On
    }

    async fn reopen(&mut self) -> Option<Goes> {
        let (start, end) = (self.log.start(), self.log.end());
        let empty = Log::open(&self.ram, &Pool::new(), Path::new("/none"), Config::default()).await;
        let (empty, _) = self.tried(empty)?;
        let closed = std::mem::replace(&mut self.log, empty).close().await;
        self.tried(closed)?;
        let opened = Log::open(&self.ram, &Pool::new(), Path::new(DIR), self.config.clone()).await;
        let (log, recovery) = self.tried(opened)?;
        if !self.faulty {
            let clean = Recovery { clean: true, ..Recovery::default() };
            assert_eq!(recovery, clean, "a closed log needs no recovery");
        }
        self.log = log;
        let mut model = self.witness.borrow_mut();
        if self.faulty {
            assert!(model.start <= model.start_may_be || self.log.start() == start);
            model.start = self.log.start().0;
        } else {
            assert_eq!(self.log.start(), start);
        }
        assert_eq!(self.log.end(), end);
        model.acked = end.0;
        model.epoch += 1;
        Some(Goes::On)
    }

    async fn plan(&self, from: u8, bound: u8, max_bytes: u64) {
        let model = self.witness.borrow().clone();
        let (start, end) = (model.start, model.end());
        let at = |part: u8| start + (end - start) * i64::from(part) / 255;
        let (from, bound) = (at(from), at(bound));
        for first in [First::WithinLimit, First::AtLeastOneBatch] {
            let plan = self.log.plan(Offset(from), Offset(bound), max_bytes, first).await;
            let Some(plan) = self.tried(plan) else { return };
            let Some(bytes) = self.read(&plan).await else { return };
            let whole: Vec<_> =
                model.between(from, bound).filter(|sent| sent.last < bound).collect();
            let mut expected = Vec::new();
            let mut count = 0;
            while expected.len() < bytes.len() {
                expected.extend_from_slice(&whole[count].bytes);
                count += 1;
            }
            assert!(bytes == expected, "a plan is whole batches from {from} on, below {bound}");
            match first {
                First::AtLeastOneBatch if !whole.is_empty() && from < bound => {
                    assert!(count > 0, "the first batch comes whatever its size");
                }
                _ => {}
            }
            assert!(plan.bytes <= max_bytes || (first == First::AtLeastOneBatch && count == 1));
            let first_fits = whole.first().is_some_and(|sent| sent.bytes.len() as u64 <= max_bytes);
            assert!(count > 0 || !first_fits || from >= bound, "what fits is planned");
        }
    }
}

/// Says what was tried when a comparison fails.
struct Tried(String);

impl Drop for Tried {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with {}", self.0);
        }
    }
}

fn loss_of(seed: Option<u64>) -> Loss {
    match seed {
        None => Loss::Nothing,
        Some(seed) if seed % 8 == 0 => Loss::Everything,
        Some(seed) => Loss::Some(seed),
    }
}

/// Plays the lives before the last one, each ending in its crash.
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

async fn live(ram: &Ram, script: &Script, witness: &Witness, ops: &[Op], faulty: bool) {
    if let Some(player) = Player::open(ram, &script.config, witness, faulty).await {
        player.play(ops).await;
    }
}

/// After a crash: recovers, recovers again, goes on, and loses all that is not flushed.
fn aftermath(ram: Ram, script: &Script, witness: &Witness, seed: u64) {
    let piece = |producer| Piece { producer, trick: Trick::Honest, records: 2, bytes: 90, time: 5 };
    ram.block_on(live(&ram, script, witness, &[], false));
    let before = witness.borrow().clone();
    let ram = ram.crash(if seed.is_multiple_of(2) { Loss::Some(seed) } else { Loss::Everything });
    let again = ram.operations();
    ram.block_on(live(&ram, script, witness, &[], false));
    assert_eq!(ram.operations() - again, 2, "a second recovery only makes and flushes its folder");
    let after = witness.borrow().clone();
    assert_eq!((before.start, before.end()), (after.start, after.end()));
    let goes_on = [
        Op::Append(vec![piece(1), piece(0)]),
        Op::Flush,
        Op::Append(vec![piece(2)]),
        Op::Append(vec![piece(0); 4]),
    ];
    ram.block_on(live(&ram, script, witness, &goes_on, false));
    let ram = ram.crash(if seed.is_multiple_of(3) { Loss::Everything } else { Loss::Some(!seed) });
    ram.block_on(live(&ram, script, witness, &[Op::Flush], false));
}

/// The power is cut before every change of the disk in the script's last life.
fn cut_everywhere(script: &Script) {
    let (ops, _) = script.lives.last().expect("a script has lives");
    let (ram, witness) = lead_up(script);
    ram.block_on(live(&ram, script, &witness, ops, false));
    let operations = ram.operations();
    aftermath(ram.crash(Loss::Everything), script, &witness, 1);
    for operation in 1..=operations {
        let (ram, witness) = lead_up(script);
        let _tried = Tried(format!("a power cut before change {operation}"));
        ram.cut_power_at(operation);
        let done = ram.run(live(&ram, script, &witness, ops, false));
        assert!(done.is_none(), "the same script makes the same changes");
        let seed = script.seed ^ operation.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let loss = if operation % 5 == 0 { Loss::Everything } else { Loss::Some(seed) };
        aftermath(ram.crash(loss), script, &witness, seed);
    }
}

/// The disk fails in one way in the script's last life; the process is started again, serves what
/// it recovered, and then the power is cut.
fn fail_once(script: &Script, fault: Fault, spare: Option<u64>) -> u64 {
    let _tried = Tried(format!("{fault:?}, spare {spare:?}"));
    let (ram, witness) = lead_up(script);
    let (ops, loss) = script.lives.last().expect("a script has lives");
    witness.borrow_mut().table_unknown = true;
    match spare {
        Some(bytes) => ram.set_capacity(bytes),
        None => ram.inject(fault),
    }
    ram.block_on(live(&ram, script, &witness, ops, true));
    let hit = ram.faults_hit();
    ram.set_capacity(u64::MAX);
    let ram = ram.crash(Loss::Nothing);
    // What it serves now must be there after a power cut, whatever the failed disk kept.
    ram.block_on(live(&ram, script, &witness, &[], false));
    aftermath(ram.crash(Loss::Everything), script, &witness, loss.unwrap_or(7));
    hit
}

/// The same scripts in every run, unless the environment asks for more or for others.
pub fn runner(default: u32) -> TestRunner {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    let cases = number("TRIALOG_CRASH_CASES").unwrap_or(default);
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&number("TRIALOG_CRASH_SEED").unwrap_or(0).to_be_bytes());
    let runs = Runs { cases, failure_persistence: None, ..Runs::default() };
    TestRunner::new_with_rng(runs, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

#[test]
fn a_power_cut_at_every_change_of_the_disk() {
    let mut runner = runner(30);
    let result = runner.run(&script(14), |script| {
        cut_everywhere(&script);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_failure_of_the_disk() {
    let calls = [
        (Call::Write, Effect::Eio),
        (Call::Sync, Effect::Eio),
        (Call::Write, Effect::Full),
        (Call::Write, Effect::Short),
        (Call::SyncDir, Effect::Eio),
        (Call::Allocate, Effect::Full),
        (Call::Truncate, Effect::Eio),
        (Call::Open, Effect::Full),
        (Call::Open, Effect::Eio),
        (Call::Rename, Effect::Eio),
        (Call::Remove, Effect::Eio),
        (Call::Read, Effect::Eio),
        (Call::List, Effect::Eio),
        (Call::Length, Effect::Eio),
    ];
    let hits = Rc::new(RefCell::new(vec![0; calls.len()]));
    let mut runner = runner(20);
    let counted = hits.clone();
    let result = runner.run(&(script(14), 0u64..4, 1u64..4), move |(script, step, times)| {
        for (number, &(call, effect)) in calls.iter().enumerate() {
            for after in [0, 1, 2, 4, 7, 11, 16] {
                let fault = Fault { call, after: after + step, times, effect };
                counted.borrow_mut()[number] += fail_once(&script, fault, None);
            }
        }
        for spare in [0, 300, 1000, 2500, 6000] {
            let fault = Fault { call: Call::Write, after: 0, times: 1, effect: Effect::Short };
            fail_once(&script, fault, Some(spare + step * 70));
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!(hits.borrow().iter().all(|&count| count > 0), "some fault never struck: {hits:?}");
}
