//! A log's folder as it is found after a crash: flags, a checkpoint, an index, a second segment,
//! each with its length in front, and the first segment.
//!
//! Opening it never panics. Where the checkpoint promises nothing, all of it is verified: then what
//! is served has its checksum and its place, opening a second time changes nothing, and the log
//! goes on. Where the checkpoint itself is arbitrary (its checksum mended, so that it is believed),
//! everything it says may be wrong, and reading is refused or goes on, without a panic.

use std::path::{Path, PathBuf};

use trialog_engine::id::{LeaderEpoch, Offset};
use trialog_engine::io::ram::Ram;
use trialog_engine::io::{Buf, Io, Open, Pool, fill_at, write_all_at};
use trialog_engine::log::{Config, First, Log, verify};
use trialog_engine::wire::batch::{Batch, Builder, stamp};

use super::batch::{built, mend};
use crate::numbers::{byte, part, put_part};

const DIR: &str = "/p-0";
const MENDED: u8 = 1;
const PROMISED: u8 = 2;
const INDEXED: u8 = 4;
const SMALL: u8 = 8;
const SECOND: u8 = 16;

fn name(base: u64, extension: &str) -> PathBuf {
    Path::new(DIR).join(format!("{base:020}.{extension}"))
}

async fn put(io: &Ram, path: &Path, bytes: &[u8]) {
    let _ = io.remove(path).await;
    let file = io.open(path, Open::CreateNew).await.expect("a new file");
    if !bytes.is_empty() {
        write_all_at(&file, vec![Buf::from(bytes)], 0).await.0.expect("room");
    }
}

fn settings(flags: u8) -> Config {
    let small = flags & SMALL != 0;
    Config {
        segment_bytes: if small { 600 } else { 1 << 20 },
        index_interval_bytes: if small { 100 } else { 4096 },
        checkpoint_bytes: if small { 300 } else { 1 << 20 },
        ..Config::default()
    }
}

/// The checkpoint with the checksum and the length that make it believed.
fn mend_checkpoint(bytes: &mut [u8]) {
    if bytes.len() < 16 {
        return;
    }
    let length = (bytes.len() - 16) as u32;
    bytes[12..16].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_be_bytes());
}

/// CRC-32C, bit by bit: a program of its own would only be needed for speed.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0x82f6_3b78 }
        })
    })
}

pub fn run(mut data: &[u8]) {
    let flags = byte(&mut data);
    let mut checkpoint = part(&mut data).to_vec();
    let index = part(&mut data);
    let base = u64::from(byte(&mut data));
    let mut second = part(&mut data).to_vec();
    let mut first = data.to_vec();
    if flags & MENDED != 0 {
        mend(&mut first);
        mend(&mut second);
        mend_checkpoint(&mut checkpoint);
    }
    let ram = Ram::new(1);
    let io = ram.clone();
    ram.block_on(async move {
        // What a new log promises: nothing.
        let pool = Pool::new();
        let config = settings(flags);
        drop(Log::open(&io, &pool, Path::new(DIR), config.clone()).await.expect("a new log"));
        let promised = flags & PROMISED != 0;
        if promised {
            put(&io, &Path::new(DIR).join("checkpoint"), &checkpoint).await;
        }
        put(&io, &name(0, "log"), &first).await;
        if flags & INDEXED != 0 {
            put(&io, &name(0, "index"), index).await;
        }
        if flags & SECOND != 0 && base > 0 {
            put(&io, &name(base, "log"), &second).await;
        }
        // The tool that looks from outside.
        let _ = verify(&io, Path::new(DIR)).await;
        let opened = Log::open(&io, &pool, Path::new(DIR), config.clone()).await;
        let (mut log, recovery) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                assert!(promised, "nothing was promised, and yet: {error}");
                return;
            }
        };
        assert!(promised || recovery.damage.is_empty());
        let (start, end) = (log.start(), log.end());
        let served = walk(&log, promised).await;
        look(&log).await;
        if promised {
            append(&mut log, flags).await;
            return;
        }
        assert_eq!((start, served), (Offset(0), end), "all that is there can be read");
        drop(log);
        let opened = Log::open(&io, &pool, Path::new(DIR), config.clone()).await;
        let (mut log, again) = opened.expect("a second time");
        assert_eq!((log.start(), log.end()), (start, end));
        assert!(again.damage.is_empty() && again.cut_bytes == 0, "{again:?}");
        assert_eq!(walk(&log, false).await, end);
        let more = append(&mut log, flags).await.expect("it goes on");
        drop(log);
        let opened = Log::open(&io, &pool, Path::new(DIR), config).await;
        let (log, _) = opened.expect("a third time");
        assert_eq!(log.end(), more);
        assert_eq!(walk(&log, false).await, more);
    });
}

/// Reads from start to end as a consumer does, and says how far it came.
async fn walk(log: &Log<Ram>, promised: bool) -> Offset {
    let (mut at, end) = (log.start(), log.end());
    while at < end {
        let plan = match log.plan(at, end, 500, First::AtLeastOneBatch).await {
            Ok(plan) => plan,
            Err(error) => {
                assert!(promised, "at {at:?}: {error}");
                return at;
            }
        };
        let mut bytes = Vec::new();
        for slice in &plan.slices {
            let length = usize::try_from(slice.length).expect("small");
            assert!(length <= 1 << 20 || promised);
            let buf = Buf::with_capacity(length.min(1 << 20));
            let (result, buf) = fill_at(&slice.file, buf, slice.position).await;
            if result.is_err() {
                assert!(promised);
                return at;
            }
            bytes.extend_from_slice(&buf[..length.min(buf.len())]);
        }
        if promised {
            let Ok(batch) = Batch::parse(&bytes) else { return at };
            if batch.last_offset() < at {
                return at;
            }
            at = Offset(batch.last_offset().0.saturating_add(1));
            continue;
        }
        assert!(!bytes.is_empty(), "there is more at {at:?} of {end:?}");
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let batch = Batch::parse(rest).expect("whole batches are served");
            assert!(batch.crc_matches(), "served what its checksum refuses");
            assert_eq!(batch.base_offset(), at, "served in order");
            at = Offset(batch.last_offset().0 + 1);
            assert!(at <= end);
            rest = &rest[batch.size()..];
        }
    }
    at
}

/// Everything else that a log can be asked.
async fn look(log: &Log<Ram>) {
    for ms in [i64::MIN, -1, 0, 1_700_000_000_001, i64::MAX] {
        let _ = log.offset_for_time(ms, log.end()).await;
    }
    let _ = log.max_timestamp(log.end()).await;
    for epoch in [-1, 0, 1, i32::MAX] {
        let _ = log.epoch_end(LeaderEpoch(epoch));
    }
    let _ = (log.producers_seen(), log.size_bytes(), log.segment_count());
}

/// Appends and flushes one batch, and tells the new end.
async fn append(log: &mut Log<Ram>, flags: u8) -> Option<Offset> {
    let mut builder = Builder::new();
    builder.push(1_700_000_000_000, None, Some(&[flags; 20]), &[]);
    let bytes = builder.finish();
    let epoch = LeaderEpoch(log.latest_epoch().0.max(0));
    let now = trialog_engine::io::Wall(1_700_000_000_000);
    let mut answers = log.append(vec![Buf::from(bytes)], epoch, now).await;
    answers.pop()?.ok()?;
    let flushed = log.flush()?.run().await;
    log.flushed(flushed).ok()?;
    Some(log.end())
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let batches = built();
    let placed = |from: usize, count: usize, mut base: i64| {
        let mut bytes = Vec::new();
        for batch in batches.iter().cycle().skip(from).take(count) {
            let mut batch = batch.clone();
            stamp(&mut batch, Offset(base), LeaderEpoch(1 + base as i32 / 4));
            base += i64::from(Batch::parse(&batch).expect("built").count());
            bytes.extend(batch);
        }
        (bytes, base)
    };
    let seed =
        |flags: u8, checkpoint: &[u8], index: &[u8], base: u8, second: &[u8], first: &[u8]| {
            let mut seed = vec![flags];
            put_part(&mut seed, checkpoint);
            put_part(&mut seed, index);
            seed.push(base);
            put_part(&mut seed, second);
            seed.extend_from_slice(first);
            seed
        };
    for from in [0, 6, 12, 18, 24] {
        let (first, end) = placed(from, 3, 0);
        let (second, _) = placed(from + 3, 2, end);
        for flags in [0, MENDED, MENDED | SMALL] {
            seeds.push(seed(flags, &[], &[], 0, &[], &first));
        }
        let both = MENDED | SECOND | SMALL;
        seeds.push(seed(both, &[], &[], end as u8, &second, &first));
    }
    // Folders that a log has written itself, with their checkpoints and indexes.
    for from in [0, 7] {
        let ram = Ram::new(2);
        let io = ram.clone();
        let own: Vec<Buf> = batches.iter().skip(from).take(5).cloned().map(Buf::from).collect();
        ram.block_on(async move {
            let config = Config { segment_bytes: 1 << 20, ..settings(SMALL) };
            let opened = Log::open(&io, &Pool::new(), Path::new(DIR), config).await;
            let (mut log, _) = opened.expect("a new log");
            for batch in own {
                let now = trialog_engine::io::Wall(1_700_000_000_000);
                log.append(vec![batch], LeaderEpoch(1), now).await;
                if let Some(ticket) = log.flush() {
                    let flushed = ticket.run().await;
                    log.flushed(flushed).expect("a good disk");
                }
            }
            log.close().await.expect("a good disk");
        });
        let read = |path: PathBuf| ram.peek(&path).unwrap_or_default();
        let checkpoint = read(Path::new(DIR).join("checkpoint"));
        let (index, first) = (read(name(0, "index")), read(name(0, "log")));
        for flags in [MENDED | PROMISED | INDEXED, MENDED | INDEXED | SMALL, PROMISED] {
            seeds.push(seed(flags, &checkpoint, &index, 0, &[], &first));
        }
    }
    seeds
}
