//! The log on a RAM disk, without crashes; those are in `tests/crash.rs`.

use std::path::Path;

use super::index::FileId;
use super::*;
use crate::id::ProducerEpoch;
use crate::io::ram::Ram;
use crate::io::{File, Open, fill_at};
use crate::wire::batch::{Batch, Builder};

const EPOCH: LeaderEpoch = LeaderEpoch(3);

fn batch(timestamps: &[i64]) -> Buf {
    let mut builder = Builder::new();
    for timestamp in timestamps {
        builder.push(*timestamp, Some(b"key"), Some(&[7; 40]), &[]);
    }
    Buf::from(builder.finish())
}

fn idempotent(id: i64, sequence: i32, count: i32) -> Buf {
    let mut builder = Builder::new().producer(ProducerId(id), ProducerEpoch(0), sequence);
    for _ in 0..count {
        builder.push(50, None, Some(b"value"), &[]);
    }
    Buf::from(builder.finish())
}

fn small() -> Config {
    Config { segment_bytes: 1000, index_interval_bytes: 200, ..Config::default() }
}

async fn open(ram: &Ram, config: Config) -> (Log<Ram>, Recovery) {
    Log::open(ram, &Pool::new(), Path::new("/p-0"), config).await.expect("opens")
}

async fn add(log: &mut Log<Ram>, batches: Vec<Buf>) -> Vec<Appended> {
    let results = log.append(batches, EPOCH, Wall(1000)).await;
    results.into_iter().map(|result| result.expect("appended")).collect()
}

async fn flush(log: &mut Log<Ram>) -> Offset {
    match log.flush() {
        Some(ticket) => {
            let outcome = ticket.run().await;
            log.flushed(outcome).expect("flushed")
        }
        None => log.flushed_end(),
    }
}

/// The bytes that a plan stands for.
async fn read(plan: &Plan<<Ram as Io>::File>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for slice in &plan.slices {
        let buf = Buf::with_capacity(slice.length as usize);
        let (result, buf) = fill_at(&slice.file, buf, slice.position).await;
        result.expect("reads");
        assert_eq!(buf.len() as u64, slice.length);
        bytes.extend_from_slice(&buf);
    }
    bytes
}

/// Base offsets of the batches in `bytes`.
fn bases(mut bytes: &[u8]) -> Vec<i64> {
    let mut bases = Vec::new();
    while !bytes.is_empty() {
        let batch = Batch::parse(bytes).expect("whole batches");
        assert!(batch.crc_matches());
        bases.push(batch.base_offset().0);
        bytes = &bytes[batch.size()..];
    }
    bases
}

#[test]
fn appends_flushes_and_reads_over_segments() {
    let ram = Ram::new(1);
    ram.block_on(async {
        let (mut log, recovery) = open(&ram, small()).await;
        assert!(recovery.created && recovery.clean);
        let mut end = 0;
        for round in 0..20 {
            let group = vec![batch(&[round; 3]), batch(&[round])];
            let appended = add(&mut log, group).await;
            assert_eq!((appended[0].base.0, appended[0].last.0), (end, end + 2));
            assert_eq!(appended[1].base.0, end + 3);
            end += 4;
        }
        assert_eq!((log.end().0, log.readable_end().0), (80, 0));
        assert!(log.flush_due(|| Wall(0)));
        assert_eq!(flush(&mut log).await, Offset(80));
        assert!(log.segment_count() > 3);
        let plan = log.plan(Offset(0), log.end(), u64::MAX, First::WithinLimit).await.unwrap();
        let every: Vec<i64> = (0..20).flat_map(|round| [round * 4, round * 4 + 3]).collect();
        assert_eq!(bases(&read(&plan).await), every);
        assert_eq!(plan.bytes, log.size_bytes());
        let plan = log.plan(Offset(41), Offset(48), u64::MAX, First::WithinLimit).await.unwrap();
        assert_eq!(bases(&read(&plan).await), [40, 43, 44, 47]);
        let plan = log.plan(Offset(43), Offset(80), 1, First::WithinLimit).await.unwrap();
        assert_eq!((plan.slices.len(), plan.bytes), (0, 0));
        let plan = log.plan(Offset(42), Offset(80), 1, First::AtLeastOneBatch).await.unwrap();
        assert_eq!(bases(&read(&plan).await), [40]);
        for outside in [-1, 81] {
            let plan = log.plan(Offset(outside), Offset(80), 1, First::WithinLimit).await;
            assert!(matches!(plan, Err(PlanError::OutOfRange { .. })));
        }
        log.close().await.expect("closes");
        let (log, recovery) = open(&ram, small()).await;
        assert_eq!(recovery, Recovery { clean: true, ..Recovery::default() });
        assert_eq!((log.end().0, log.readable_end().0), (80, 80));
        let plan = log.plan(Offset(0), log.end(), u64::MAX, First::WithinLimit).await.unwrap();
        assert_eq!(bases(&read(&plan).await), every);
    });
}

#[test]
fn what_waits_in_the_page_cache_is_written_back_now_and_then() {
    use crate::limit::{WRITE_BACK_BYTES, WRITE_BACK_INTERVAL_MIN};
    let ram = Ram::new(1);
    ram.block_on(async {
        let large = || vec![batch(&vec![1; WRITE_BACK_BYTES as usize / 50])];
        for (durability, expected) in [(Durability::Flushed, 0), (Durability::PageCache, 1)] {
            let (mut log, _) = open(&ram, Config { durability, ..Config::default() }).await;
            ram.sleep(WRITE_BACK_INTERVAL_MIN).await;
            add(&mut log, vec![batch(&[1])]).await;
            assert_eq!(ram.write_backs(), 0, "too little");
            add(&mut log, large()).await;
            assert_eq!(ram.write_backs(), expected, "{durability:?}");
            add(&mut log, large()).await;
            assert_eq!(ram.write_backs(), expected, "too soon");
            log.close().await.expect("closes");
        }
    });
}

#[test]
fn a_failed_flush_poisons() {
    use crate::io::ram::{Call, Effect, Fault};
    let ram = Ram::new(2);
    ram.block_on(async {
        let (mut log, _) = open(&ram, small()).await;
        add(&mut log, vec![batch(&[1])]).await;
        ram.inject(Fault { call: Call::Sync, after: 0, times: 1, effect: Effect::Eio });
        let outcome = log.flush().expect("dirty").run().await;
        assert_eq!(log.flushed(outcome), Err(Poisoned));
        assert!(log.failure().is_some());
        let results = log.append(vec![batch(&[1])], EPOCH, Wall(0)).await;
        assert_eq!(results, [Err(AppendError::Poisoned)]);
        assert!(log.flush().is_none());
        assert_eq!(log.tick(Wall(0)).await, Err(Poisoned));
        let plan = log.plan(Offset(0), Offset(1), 1, First::WithinLimit).await;
        assert_eq!(plan.err(), Some(PlanError::Poisoned));
    });
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let ram = Ram::new(3);
    ram.block_on(async {
        let (mut log, _) = open(&ram, Config::default()).await;
        add(&mut log, vec![idempotent(4, 0, 2)]).await;
        ram.set_capacity(500);
        let group = vec![idempotent(4, 2, 1), idempotent(4, 2, 1), batch(&[0; 30])];
        let results = log.append(group, EPOCH, Wall(0)).await;
        assert_eq!(results, vec![Err(AppendError::Full); 3]);
        assert_eq!(log.end(), Offset(2));
        ram.set_capacity(u64::MAX);
        let group = vec![idempotent(4, 2, 1), idempotent(4, 2, 1), idempotent(4, 9, 1)];
        let results = log.append(group, EPOCH, Wall(0)).await;
        assert_eq!(results[0].unwrap().base, Offset(2));
        assert!(results[1].unwrap().duplicate);
        assert!(matches!(results[2], Err(AppendError::OutOfOrderSequence { expected: 3, .. })));
    });
}

/// Every call that opens a file finds no descriptor once: nothing is lost, and the log stays in use.
#[test]
fn without_a_descriptor_an_append_is_refused_and_the_next_one_taken() {
    use crate::io::ram::{Call, Effect, Fault};
    let ram = Ram::new(15);
    ram.block_on(async {
        let (mut log, _) = open(&ram, small()).await;
        let (mut refused, mut end) = (0, Offset(0));
        for _ in 0..40 {
            ram.inject(Fault { call: Call::Open, after: 0, times: 1, effect: Effect::Scarce });
            let mut results = log.append(vec![batch(&[1000; 9])], EPOCH, Wall(1000)).await;
            if results == [Err(AppendError::Scarce)] {
                refused += 1;
                results = log.append(vec![batch(&[1000; 9])], EPOCH, Wall(1000)).await;
            }
            assert_eq!(results[0].map(|appended| appended.base), Ok(end));
            end = end.plus(9);
            // What else wants a file has met it, or will.
            flush(&mut log).await;
        }
        assert!(refused > 3, "{refused} appends found no descriptor");
        assert_eq!((log.failure(), log.end()), (None, end));
        let mut from = Offset(0);
        while from < end {
            let plan = log.plan(from, end, 1, First::AtLeastOneBatch).await;
            from = from.plus(9);
            assert!(plan.is_ok() || plan.err() == Some(PlanError::Scarce));
        }
    });
}

#[test]
fn a_segment_that_found_no_room_for_its_first_batch_is_used_later() {
    let ram = Ram::new(13);
    ram.block_on(async {
        let (mut log, _) = open(&ram, small()).await;
        add(&mut log, vec![batch(&[1000; 9])]).await;
        ram.set_capacity(ram.used());
        while log.append(vec![batch(&[1000; 9])], EPOCH, Wall(1000)).await
            != [Err(AppendError::Full)]
        {}
        assert_eq!(
            log.segments.last().map(|last| last.size),
            Some(0),
            "no roll found the disk full"
        );
        ram.set_capacity(u64::MAX);
        let end = flush(&mut log).await;
        // Retention takes all that there is, and the empty segment has the name of the next one.
        log.set_config(Config { retention_ms: 500, ..small() });
        log.tick(Wall(5000)).await.unwrap();
        assert_eq!((log.start(), log.end()), (end, end));
        let appended = add(&mut log, vec![batch(&[5000])]).await;
        assert_eq!(appended[0].base, end);
        assert_eq!(flush(&mut log).await, end.plus(1));
    });
}

/// Its file is still empty when somebody takes it away.
#[test]
fn a_log_opens_without_the_segment_that_was_never_written_to() {
    let ram = Ram::new(14);
    ram.block_on(async {
        let (mut log, _) = open(&ram, small()).await;
        ram.set_capacity(2000);
        while log.append(vec![batch(&[1000; 9])], EPOCH, Wall(1000)).await
            != [Err(AppendError::Full)]
        {}
        let empty = log.segments.last().filter(|last| last.size == 0);
        let empty = empty.expect("a roll found the disk full").id().log_name();
        ram.set_capacity(u64::MAX);
        let end = flush(&mut log).await;
        log.close().await.expect("closes");
        ram.remove(&Path::new("/p-0").join(empty)).await.expect("it is there");
        let (mut log, recovery) = open(&ram, small()).await;
        assert_eq!((log.end(), recovery.damage), (end, Vec::<String>::new()));
        assert_eq!(add(&mut log, vec![batch(&[1000])]).await[0].base, end);
        assert_eq!(flush(&mut log).await, end.plus(1));
    });
}

#[test]
fn finds_offsets_by_time() {
    let ram = Ram::new(4);
    ram.block_on(async {
        let (mut log, _) = open(&ram, small()).await;
        for times in [[5, 1], [2, 9], [3, 3], [8, 20], [4, 4], [4, 4], [30, 6], [30, 31]] {
            add(&mut log, vec![batch(&times)]).await;
        }
        let end = log.end();
        let times = [5, 1, 2, 9, 3, 3, 8, 20, 4, 4, 4, 4, 30, 6, 30, 31];
        for ms in 0..33 {
            let naive = times.iter().position(|&time| time >= ms);
            let naive = naive.map(|at| (Offset(at as i64), times[at], EPOCH));
            assert_eq!(log.offset_for_time(ms, end).await, Ok(naive), "{ms}");
        }
        assert_eq!(log.offset_for_time(10, Offset(6)).await, Ok(None));
        let newest = |offset, ms| Ok(Some((Offset(offset), ms, EPOCH)));
        assert_eq!(log.max_timestamp(end).await, newest(15, 31));
        assert_eq!(log.max_timestamp(Offset(8)).await, newest(7, 20));
        flush(&mut log).await;
        log.advance_start(Offset(15)).await.unwrap();
        assert_eq!(log.max_timestamp(end).await, newest(15, 31));
        assert_eq!(log.offset_for_time(0, end).await, newest(15, 31));
    });
}

#[test]
fn retention_takes_whole_flushed_segments() {
    let ram = Ram::new(5);
    ram.block_on(async {
        let (mut log, _) = open(&ram, Config { retention_bytes: 2500, ..small() }).await;
        for _ in 0..10 {
            add(&mut log, vec![batch(&[1000; 9])]).await;
        }
        log.tick(Wall(1000)).await.unwrap();
        assert_eq!(log.start(), Offset(0));
        flush(&mut log).await;
        log.tick(Wall(1000)).await.unwrap();
        let size = log.size_bytes();
        assert!((2500..3500).contains(&size), "{size}");
        assert!(log.start() > Offset(0));
        // All of it is too old now: nothing is left, without a single new append.
        log.set_config(Config { retention_ms: 500, ..small() });
        log.tick(Wall(2000)).await.unwrap();
        assert_eq!((log.start(), log.end()), (Offset(90), Offset(90)));
        assert_eq!((log.size_bytes(), log.segment_count()), (0, 0));
        let names = ram.list(Path::new("/p-0")).await.unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
        let appended = add(&mut log, vec![batch(&[3000])]).await;
        assert_eq!(appended[0].base, Offset(90));
    });
}

/// KIP-32: a client may send none. Kafka goes by the file's modification then.
#[test]
fn records_without_times_are_as_old_as_the_last_append() {
    const TIMELESS: [i64; 1] = [-1];
    let ram = Ram::new(15);
    ram.block_on(async {
        let config = || Config { retention_ms: 1000, ..Config::default() };
        let (mut log, _) = open(&ram, config()).await;
        for at in [1000, 1900] {
            log.append(vec![batch(&TIMELESS)], EPOCH, Wall(at)).await[0].expect("appended");
        }
        flush(&mut log).await;
        log.tick(Wall(2900)).await.unwrap();
        assert_eq!((log.start(), log.next_tick_ms(Wall(2500))), (Offset(0), 400));
        log.close().await.expect("closes");
        let (mut log, _) = open(&ram, config()).await;
        log.tick(Wall(2900)).await.unwrap();
        assert_eq!(log.start(), Offset(0));
        log.tick(Wall(2901)).await.unwrap();
        assert_eq!(log.start(), Offset(2));
    });
}

#[test]
fn retention_waits_for_no_flush_that_nobody_begins() {
    let ram = Ram::new(16);
    ram.block_on(async {
        let durability = Durability::PageCache;
        let config = Config { durability, retention_ms: 1000, ..Config::default() };
        let (mut log, _) = open(&ram, config).await;
        // A new file's name is flushed in any case.
        add(&mut log, vec![batch(&[1000])]).await;
        flush(&mut log).await;
        add(&mut log, vec![batch(&[1000])]).await;
        assert_eq!(log.next_tick_ms(Wall(1200)), 800);
        assert!(!log.flush_due(|| Wall(1999)));
        assert!(log.flush_due(|| Wall(2000)));
        flush(&mut log).await;
        log.tick(Wall(2001)).await.unwrap();
        assert_eq!(log.start(), Offset(2));
    });
}

#[test]
fn what_is_below_the_start_asks_for_no_ticks() {
    let ram = Ram::new(17);
    ram.block_on(async {
        let (mut log, _) = open(&ram, Config { retention_ms: 1000, ..Config::default() }).await;
        add(&mut log, vec![batch(&[1000])]).await;
        flush(&mut log).await;
        log.advance_start(Offset(1)).await.expect("advances");
        assert!(log.next_tick_ms(Wall(9000)) > 1000);
        assert_eq!(log.upkeep_due(Wall(9000)), None);
    });
}

#[test]
fn truncates_whole_batches() {
    let ram = Ram::new(6);
    ram.block_on(async {
        let (mut log, _) = open(&ram, small()).await;
        for round in 0..10 {
            add(&mut log, vec![idempotent(1, round * 3, 3)]).await;
        }
        flush(&mut log).await;
        let ticket = {
            add(&mut log, vec![idempotent(1, 30, 1)]).await;
            log.flush()
        }
        .unwrap();
        assert_eq!(log.truncate(Offset(4)).await, Err(ChangeError::Busy));
        let outcome = ticket.run().await;
        log.flushed(outcome).unwrap();
        log.truncate(Offset(5)).await.unwrap();
        assert_eq!((log.end(), log.flushed_end()), (Offset(3), Offset(3)));
        assert_eq!(add(&mut log, vec![idempotent(1, 3, 2)]).await[0].base, Offset(3));
        flush(&mut log).await;
        log.begin_epoch(LeaderEpoch(7));
        log.truncate(Offset(0)).await.unwrap();
        assert_eq!((log.start(), log.end(), log.size_bytes()), (Offset(0), Offset(0), 0));
        let (log, recovery) = open(&ram, small()).await;
        assert!(recovery.clean);
        assert_eq!(log.end(), Offset(0));
    });
}

#[test]
fn deleted_logs_stay_readable_while_held() {
    let ram = Ram::new(7);
    ram.block_on(async {
        let (mut log, _) = open(&ram, small()).await;
        add(&mut log, vec![batch(&[1, 2])]).await;
        let plan = log.plan(Offset(0), Offset(2), 1000, First::WithinLimit).await.unwrap();
        log.delete().await.unwrap();
        assert!(ram.list(Path::new("/")).await.unwrap().is_empty());
        assert_eq!(bases(&read(&plan).await), [0]);
    });
}

#[test]
fn rot_below_the_checkpoint_is_reported_and_kept() {
    let ram = Ram::new(8);
    ram.block_on(async {
        let (mut log, _) = open(&ram, small()).await;
        for _ in 0..12 {
            add(&mut log, vec![batch(&[1; 4])]).await;
        }
        log.close().await.unwrap();
        let first = Path::new("/p-0/00000000000000000000.log");
        ram.poke(first, 16, &[9]).unwrap();
        let second = ram.list(Path::new("/p-0")).await.unwrap();
        let second = second.iter().filter(|entry| entry.name.ends_with(".log")).nth(1).unwrap();
        let second = Path::new("/p-0").join(&second.name);
        let file = ram.open(&second, io::Open::Write).await.unwrap();
        file.truncate(10).await.unwrap();
        let (mut log, recovery) = open(&ram, small()).await;
        assert_eq!(recovery.damage.len(), 1);
        assert_eq!(log.end(), Offset(48));
        let plan = log.plan(Offset(2), log.end(), 1, First::AtLeastOneBatch).await;
        assert!(matches!(plan, Err(PlanError::Corrupt { segment: Offset(0), .. })));
        assert_eq!(ram.peek(&second).unwrap().len(), 10);
        add(&mut log, vec![batch(&[1])]).await;
        let plan = log.plan(Offset(48), log.end(), 1000, First::WithinLimit).await.unwrap();
        assert_eq!(bases(&read(&plan).await), [48]);
    });
}

/// Brokers take no such batch any more, and have taken some: what holds one is recovered, read and
/// written like any other log.
#[test]
fn an_open_transaction_is_recovered_as_it_was() {
    let ram = Ram::new(13);
    let opening = || {
        let producer = (ProducerId(7), ProducerEpoch(0));
        let mut builder = Builder::new().producer(producer.0, producer.1, 0).transactional();
        builder.push(50, Some(b"key"), Some(b"value"), &[]);
        Buf::from(builder.finish())
    };
    ram.block_on(async {
        let (mut log, _) = open(&ram, small()).await;
        add(&mut log, vec![batch(&[1]), opening(), batch(&[2])]).await;
        assert_eq!(flush(&mut log).await, Offset(3));
        let seen = log.producers_seen();
        assert_eq!(seen[0].transaction, Offset(1));
        drop(log);
        // Out of the batches, because it was not closed; and out of a checkpoint.
        for round in 0..2 {
            let (mut log, recovery) = open(&ram, small()).await;
            assert_eq!((recovery.damage, recovery.clean), (Vec::new(), round == 1));
            assert_eq!(log.producers_seen(), seen);
            let plan = log.plan(Offset(0), log.end(), u64::MAX, First::WithinLimit).await.unwrap();
            assert_eq!(bases(&read(&plan).await), [vec![0, 1, 2], vec![0, 1, 2, 3]][round]);
            add(&mut log, vec![batch(&[3])]).await;
            log.close().await.expect("closes");
        }
    });
}

/// A crash between the making of a folder and its first checkpoint leaves nothing to complain of.
#[test]
fn an_index_made_over_rot_tells_no_times() {
    let ram = Ram::new(12);
    let dir = Path::new("/p-0");
    let id = FileId::appended(Offset(0));
    let (path, index) = (dir.join(id.log_name()), dir.join(id.index_name()));
    ram.block_on(async {
        let config = Config { index_interval_bytes: 200, ..Config::default() };
        let (mut log, _) = open(&ram, config.clone()).await;
        let times: Vec<Buf> = [10, 100, 20, 30, 40].map(|time| batch(&[time])).into();
        let newest = times[0].len() as u64 + 42;
        add(&mut log, times).await;
        log.close().await.expect("closes");
        for crashed in [false, true] {
            if crashed {
                // What recovery verifies goes into an index that it makes anew.
                let (mut log, _) = open(&ram, config.clone()).await;
                add(&mut log, vec![batch(&[30; 9])]).await;
            }
            checkpoint::removed(ram.remove(&index).await).expect("removed");
            ram.poke(&path, newest, &[15]).expect("it is there");
            let (log, _) = open(&ram, config.clone()).await;
            let latest = log.offset_for_time(35, log.end()).await.expect("found");
            assert_eq!(latest.map(|found| found.0), Some(Offset(4)), "as the headers are");
            ram.poke(&path, newest, &[100]).expect("it is there");
            let again = log.offset_for_time(35, log.end()).await.expect("found");
            assert_eq!(again.map(|found| found.0), Some(Offset(1)), "the index is not believed");
            log.close().await.expect("closes");
            let (log, _) = open(&ram, config.clone()).await;
            let found = log.offset_for_time(35, log.end()).await.expect("found");
            assert_eq!(found.map(|found| found.0), Some(Offset(1)), "the index was not saved");
            let report = verify(&ram, dir).await.expect("reads");
            assert_eq!(report.problems, []);
        }
    });
}

#[test]
fn verify_finds_nothing_in_a_log_that_never_began() {
    let ram = Ram::new(9);
    ram.block_on(async {
        let dir = Path::new("/p-0");
        ram.make_dir(dir).await.unwrap();
        assert_eq!(verify(&ram, dir).await.unwrap(), Report::default());
        ram.open(&dir.join("00000000000000000000.log"), Open::Create).await.unwrap();
        assert!(verify(&ram, dir).await.is_err(), "segments without a checkpoint are damage");
    });
}

#[test]
fn verify_names_what_is_wrong() {
    let ram = Ram::new(9);
    ram.block_on(async {
        let dir = Path::new("/p-0");
        let (mut log, _) = open(&ram, small()).await;
        for round in 0..12 {
            add(&mut log, vec![batch(&[round; 4])]).await;
        }
        log.close().await.unwrap();
        let report = verify(&ram, dir).await.unwrap();
        assert_eq!((report.batches, report.records, report.worst()), (12, 48, None));
        let mut shown = 0;
        let count = &mut |item: Item<'_>| shown += i32::from(matches!(item, Item::Batch { .. }));
        assert_eq!(dump(&ram, dir, count).await.unwrap(), report);
        assert_eq!(shown, 12);
        // The last segment's file goes on with half a batch: a torn tail.
        let names = ram.list(dir).await.unwrap();
        let last = names.iter().rfind(|entry| entry.name.ends_with(".log")).unwrap();
        let last = dir.join(&last.name);
        let whole = ram.peek(&last).unwrap();
        ram.poke(&last, whole.len() as u64, &whole[..80]).unwrap();
        assert_eq!(verify(&ram, dir).await.unwrap().worst(), Some(Severity::Tail));
        // A flipped bit below the checkpoint is damage, and the rest is still counted.
        let first = names.iter().find(|entry| entry.name.ends_with(".log")).unwrap();
        ram.poke(&dir.join(&first.name), 100, &[0xff]).unwrap();
        let damaged = verify(&ram, dir).await.unwrap();
        assert_eq!(damaged.worst(), Some(Severity::Damage));
        assert!(damaged.batches < 12 && damaged.segments == report.segments);
        assert!(damaged.problems.iter().any(|problem| problem.to_string().starts_with("DAMAGE")));
    });
}
