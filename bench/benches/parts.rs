//! The parts by themselves (criterion): what verifying, appending, planning and recovering cost,
//! each beside its floor.
//!
//! `cargo bench -p trialog-bench --bench parts`. All times are processor time, kernel workers
//! included, so that a busy machine disturbs them little; what the table at the end of each group
//! shows are ratios of medians.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use crc_fast::{CrcAlgorithm, checksum};
use criterion::{Criterion, SamplingMode, Throughput};
use trialog_bench::machine::{SERVER_CORE, load_average, pin, process_cpu};
use trialog_bench::versus::median;
use trialog_engine::id::{LeaderEpoch, Offset};
use trialog_engine::io::kernel::{self, KernelIo};
use trialog_engine::io::{Buf, Io, Pool};
use trialog_engine::log::{Config, Durability, First, Log};
use trialog_engine::wire::batch::{self, Builder, Rules};

/// Batches of one append or recovery, and the bytes of each, about.
const BATCHES: usize = 256;
const BATCH_BYTES: usize = 64 << 10;

fn main() {
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    pin(SERVER_CORE);
    let mut criterion = Criterion::default()
        .sample_size(15)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let dir = tempfile::tempdir().expect("a folder for the data");
    verify(&mut criterion, "verify, records of 1 KiB", 1024);
    verify(&mut criterion, "verify, records of 100 B", 100);
    append(&mut criterion, dir.path());
    plan(&mut criterion, dir.path());
    recover(&mut criterion, dir.path());
    criterion.final_summary();
}

/// A batch of about [`BATCH_BYTES`] with records of `size` bytes.
fn batch_of(size: usize) -> Vec<u8> {
    let mut batch = Builder::new();
    let value = vec![b'x'; size];
    for _ in 0..BATCH_BYTES / (size + 12) {
        batch.push(0, None, Some(&value), &[]);
    }
    batch.finish()
}

/// Benches both sides and prints their ratio. Each takes a number of repetitions and returns the
/// processor time that they took.
fn beside(
    criterion: &mut Criterion,
    name: &str,
    floor: (&str, &mut dyn FnMut(u64) -> Duration),
    trialog: &mut dyn FnMut(u64) -> Duration,
    bytes: Option<u64>,
) {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    if let Some(bytes) = bytes {
        group.throughput(Throughput::Bytes(bytes));
    }
    let mut bench = |side: &str, body: &mut dyn FnMut(u64) -> Duration| {
        let mut each = Vec::new();
        group.bench_function(side, |bencher| {
            bencher.iter_custom(|times| {
                let spent = body(times);
                each.push(spent.as_secs_f64() / times as f64);
                spent
            });
        });
        // Nothing if the command line asks for others only.
        (!each.is_empty()).then(|| median(each))
    };
    let floors = bench(floor.0, floor.1);
    let ours = bench("trialog", trialog);
    group.finish();
    let (Some(floors), Some(ours)) = (floors, ours) else { return };
    println!(
        "{name}: {:.2} times the floor ({}); load average {}\n",
        ours / floors,
        floor.0,
        load_average()
    );
}

fn timed(mut body: impl FnMut()) -> Duration {
    let before = process_cpu();
    body();
    process_cpu() - before
}

/// Against the checksum alone over the same bytes.
fn verify(criterion: &mut Criterion, name: &str, size: usize) {
    let bytes = batch_of(size);
    let rules = Rules::default();
    let mut floor = |times| {
        timed(|| {
            for _ in 0..times {
                black_box(checksum(CrcAlgorithm::Crc32Iscsi, black_box(&bytes)));
            }
        })
    };
    let mut ours = |times| {
        timed(|| {
            for _ in 0..times {
                batch::verify(black_box(&bytes), &rules).expect("a good batch");
            }
        })
    };
    let length = bytes.len() as u64;
    beside(criterion, name, ("CRC", &mut floor), &mut ours, Some(length));
}

fn config() -> Config {
    Config {
        durability: Durability::PageCache,
        // So that a recovery has all of the log to read.
        checkpoint_bytes: u64::MAX,
        ..Config::default()
    }
}

/// Runs `body` as a core and returns the processor time it measured.
fn on_core<T, F: Future<Output = T>>(body: impl FnOnce(KernelIo) -> F) -> T {
    kernel::run(0, body).expect("the kernel allows rings")
}

fn copies(batch: &[u8]) -> Vec<Buf> {
    (0..BATCHES).map(|_| Buf::from(batch)).collect()
}

async fn fill(io: &KernelIo, log: &mut Log<KernelIo>, batches: Vec<Buf>) {
    for batch in batches {
        let appended = log.append(vec![batch], LeaderEpoch(1), io.wall()).await;
        assert!(appended[0].is_ok(), "it was appended");
    }
}

/// Against `pwrite` of the same bytes from as many buffers into allocated space.
fn append(criterion: &mut Criterion, dir: &Path) {
    let batch = batch_of(1024);
    let total = (batch.len() * BATCHES) as u64;
    let path = dir.join("append-floor");
    let mut floor = |times| {
        let mut spent = Duration::ZERO;
        for _ in 0..times {
            let file = fresh(&path, total);
            let batches = copies(&batch);
            spent += timed(|| {
                for (number, batch) in batches.iter().enumerate() {
                    file.write_all_at(batch, (number * batch.len()) as u64).expect("room");
                }
            });
            drop(file);
            fs::remove_file(&path).expect("it is ours");
        }
        spent
    };
    let folder = dir.join("append");
    let mut ours = |times| {
        let mut spent = Duration::ZERO;
        for _ in 0..times {
            spent += on_core(async |io| {
                let (mut log, _) = open(&io, &folder).await;
                let batches = copies(&batch);
                let before = process_cpu();
                fill(&io, &mut log, batches).await;
                let spent = process_cpu() - before;
                log.delete().await.expect("it is ours");
                spent
            });
        }
        spent
    };
    let name = "append, batches of 64 KiB";
    beside(criterion, name, ("pwrite into allocated space", &mut floor), &mut ours, Some(total));
}

async fn open(io: &KernelIo, folder: &Path) -> (Log<KernelIo>, trialog_engine::log::Recovery) {
    Log::open(io, &Pool::new(), folder, config()).await.expect("it opens")
}

fn fresh(path: &Path, total: u64) -> File {
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(true).open(path);
    let file = file.expect("the folder is writable");
    let total = libc::off_t::try_from(total).expect("less than an exabyte");
    // SAFETY: a plain system call on an open descriptor.
    unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, total) };
    file
}

/// Against two look-ups in a B-tree of all batches in memory.
fn plan(criterion: &mut Criterion, dir: &Path) {
    const SMALL: usize = 4 << 10;
    const COUNT: u64 = 16 << 10;
    let mut builder = Builder::new();
    for _ in 0..4 {
        builder.push(0, None, Some(&[b'x'; SMALL / 4 - 32]), &[]);
    }
    let (count, batch) = (builder.count(), builder.finish());
    let places: BTreeMap<i64, u64> = (0..COUNT)
        .map(|number| {
            let offset = i64::try_from(number).expect("small") * i64::from(count);
            (offset, number * batch.len() as u64)
        })
        .collect();
    let end = i64::try_from(COUNT).expect("small") * i64::from(count);
    // Any order will do that visits everywhere.
    let offset = |turn: u64| i64::try_from(turn).expect("small") * 7_919_993 % (end - 100);
    let mut floor = |times| {
        timed(|| {
            for turn in 0..times {
                let from = offset(turn);
                let first = places.range(..=from).next_back().expect("0 is there");
                let stop = first.1 + BATCH_BYTES as u64;
                let last = places.range(from..).find(|place| *place.1 >= stop);
                black_box((first, last));
            }
        })
    };
    let folder = dir.join("plan");
    on_core(async |io| {
        let (mut log, _) = open(&io, &folder).await;
        for _ in 0..COUNT / BATCHES as u64 {
            fill(&io, &mut log, copies(&batch)).await;
        }
        log.close().await.expect("it closes");
    });
    let mut ours = |times| {
        on_core(async |io| {
            let (log, _) = open(&io, &folder).await;
            let bound = log.end();
            let bytes = BATCH_BYTES as u64;
            log.plan(Offset(0), bound, bytes, First::AtLeastOneBatch).await.expect("a plan");
            let before = process_cpu();
            for turn in 0..times {
                let from = Offset(offset(turn));
                let plan = log.plan(from, bound, bytes, First::AtLeastOneBatch).await;
                black_box(plan.expect("a plan"));
            }
            let spent = process_cpu() - before;
            log.close().await.expect("it closes");
            spent
        })
    };
    let name = "plan anywhere, batches of 4 KiB";
    beside(criterion, name, ("B-tree of all batches", &mut floor), &mut ours, None);
}

/// Against reading the file and taking its checksum; and against that, writing it again and
/// flushing it, which recovery must do (`docs/format.md`), on top.
fn recover(criterion: &mut Criterion, dir: &Path) {
    let batch = batch_of(1024);
    let total = (batch.len() * BATCHES) as u64;
    let crashed = dir.join("crashed");
    on_core(async |io| {
        let (mut log, _) = open(&io, &crashed).await;
        fill(&io, &mut log, copies(&batch)).await;
    });
    let segment = crashed.join(format!("{:020}.log", 0));
    let folder = dir.join("recover");
    let copy = || {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("it is ours");
        for entry in fs::read_dir(&crashed).expect("it is there") {
            let entry = entry.expect("it is there");
            fs::copy(entry.path(), folder.join(entry.file_name())).expect("there is room");
            File::open(folder.join(entry.file_name())).expect("a copy").sync_all().expect("flush");
        }
    };
    let mut buffer = vec![0; 1 << 20];
    let mut read = |file: &File, then: &dyn Fn(&[u8], u64)| {
        let mut at = 0;
        while at < total {
            let length = buffer.len().min(usize::try_from(total - at).expect("64 bits"));
            file.read_exact_at(&mut buffer[..length], at).expect("it is that long");
            black_box(checksum(CrcAlgorithm::Crc32Iscsi, &buffer[..length]));
            then(&buffer[..length], at);
            at += length as u64;
        }
    };
    let mut floor = |times| {
        let file = File::open(&segment).expect("it is there");
        timed(|| (0..times).for_each(|_| read(&file, &|_, _| {})))
    };
    let mut ours = |times| {
        let mut spent = Duration::ZERO;
        for _ in 0..times {
            copy();
            spent += on_core(async |io| {
                let before = process_cpu();
                let (log, recovery) = open(&io, &folder).await;
                let spent = process_cpu() - before;
                assert_eq!(recovery.kept_bytes, total);
                log.delete().await.expect("it is ours");
                spent
            });
        }
        spent
    };
    let name = "recovery";
    beside(criterion, name, ("read + CRC", &mut floor), &mut ours, Some(total));
    let mut floor = |times| {
        let file = File::options().read(true).write(true).open(&segment).expect("it is there");
        let again = |bytes: &[u8], at| file.write_all_at(bytes, at).expect("it is that long");
        timed(|| {
            for _ in 0..times {
                read(&file, &again);
                file.sync_data().expect("the disk works");
            }
        })
    };
    let name = "recovery, all of it";
    let all = "read + CRC + write + flush";
    beside(criterion, name, (all, &mut floor), &mut ours, Some(total));
}
