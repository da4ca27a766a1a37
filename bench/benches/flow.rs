//! What flows through: end to end at 50 MB/s, many consumers beside one, and catching up from the disk
//! beside somebody who must not notice (rows 7, 14 and 16 of the performance bars).
//!
//! `cargo bench -p trialog-bench --bench flow`; the server on one core, the load on the other, rounds
//! in turn, medians. Ends with an error if a bar is missed. The load is one thread that never sleeps.

#![allow(clippy::disallowed_methods, reason = "real time is what is measured")]

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use trialog_bench::broker::{Broker, fetch, produce};
use trialog_bench::floor::{self, ANSWER_BYTES};
use trialog_bench::load::{Frames, call, connect, in_turn, pipelined, poll, send};
use trialog_bench::machine::{LOAD_CORE, load_average, pin, private_network};
use trialog_bench::verdict::{Row, print_head};
use trialog_bench::versus::{ROUNDS, Unit, at, median, versus};

/// Bytes of a record of row 7.
const RECORD_BYTES: usize = 1024;
/// One record is due every so many nanoseconds: 50 MB/s.
const RECORD_NS: u64 = RECORD_BYTES as u64 * 1_000_000_000 / 50_000_000;
/// Records of one round: two seconds.
const RECORDS: usize = 100_000;
/// A producer sends what is due, at most so many records at once.
const BATCH_RECORDS: usize = 64;
/// A producer has at most so many requests unanswered, as Kafka's.
const IN_FLIGHT_MAX: usize = 5;
/// What a consumer takes at most.
const FETCH_BYTES: i32 = 1 << 20;

fn main() {
    // `cargo test --benches` asks harness-less benches for a list; there is nothing to list.
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let network = private_network();
    pin(LOAD_CORE);
    // Not in memory: one of the two reads from a disk.
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
    let dir = tempfile::tempdir_in(target).expect("a folder for the data");
    println!("{network}; load average {}", load_average());
    print_head();
    let broker = Broker::start(dir.path());
    let met = end_to_end(&broker) & consumers(&broker) & catch_up(&broker, dir.path());
    drop(broker);
    println!("load average {}", load_average());
    if !met {
        std::process::exit(1);
    }
}

/// Row 7, microseconds.
fn end_to_end(broker: &Broker) -> bool {
    broker.create("flow");
    let requests: Vec<_> =
        (1..=BATCH_RECORDS).map(|records| produce("flow", records, RECORD_BYTES)).collect();
    // The floor forwards the same bytes: a frame is a frame.
    let forward = floor::forward();
    let mut end = 0;
    let (mut floors, mut ours) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let mut passed = 0;
        let bare = flow(forward, &requests, |frame: Option<&[u8]>| {
            // A frame that was forwarded is one of the requests.
            if let Some(frame) = frame {
                let same = |request: &Vec<u8>| request.len() == frame.len() + 4;
                passed += requests.iter().position(same).expect("one of them") + 1;
            }
            (passed, vec![0, 0, 0, 1, 0])
        });
        let from = end;
        let served = flow(broker.address, &requests, |frame: Option<&[u8]>| {
            if let Some(frame) = frame {
                end = next_offset(frame, "flow").unwrap_or(end);
            }
            (usize::try_from(end - from).expect("forward"), fetch("flow", end, FETCH_BYTES))
        });
        // The first of each warms up.
        if round > 0 {
            floors.push(bare);
            ours.push(served);
        }
    }
    let of = |rounds: &[Vec<Duration>], percent| {
        median(rounds.iter().map(|round| at(round, percent).as_secs_f64() * 1e6).collect())
    };
    let row = |name, percent, bar| Row(name).ratio(of(&floors, percent), of(&ours, percent), bar);
    let mut met = row("7 end to end, 50 MB/s of 1 KiB records, p50, µs", 50.0, 1.5);
    met &= row("7 the same, p99, µs", 99.0, 2.0);
    // Printed, not promised.
    let _ = row("  the same, p99.9, µs", 99.9, f64::INFINITY);
    met
}

/// Sends records as they become due and reads along on a second connection: how long after it was due
/// each was read. `heard` takes what the reader was sent, if anything yet, and says how many records
/// that makes and what to ask next.
fn flow(
    address: std::net::SocketAddr,
    requests: &[Vec<u8>],
    mut heard: impl FnMut(Option<&[u8]>) -> (usize, Vec<u8>),
) -> Vec<Duration> {
    let (mut writer, mut reader) = (connect(address), connect(address));
    let (mut answers, mut frames) = (Frames::default(), Frames::default());
    let (mut sent, mut in_flight, mut read) = (0, 0, 0);
    let mut times = Vec::with_capacity(RECORDS);
    send(&mut reader, &heard(None).1);
    let begun = Instant::now();
    while read < RECORDS {
        let passed = u64::try_from(begun.elapsed().as_nanos()).expect("not that long");
        let due = usize::try_from(passed / RECORD_NS).expect("64 bits").min(RECORDS);
        if sent < due && in_flight < IN_FLIGHT_MAX {
            let records = (due - sent).min(BATCH_RECORDS);
            send(&mut writer, &requests[records - 1]);
            sent += records;
            in_flight += 1;
        }
        while answers.next(&mut writer).is_some() {
            in_flight -= 1;
        }
        while let Some(frame) = frames.next(&mut reader) {
            let now = begun.elapsed();
            let (records, ask) = heard(Some(frame));
            let of = |record: usize| Duration::from_nanos(record as u64 * RECORD_NS);
            times.extend((read..records).map(|record| now.saturating_sub(of(record))));
            read = records;
            send(&mut reader, &ask);
        }
    }
    times
}

/// The offset behind the last record of a fetch's answer, if there is one: the batches are walked as
/// a consumer does.
fn next_offset(frame: &[u8], topic: &str) -> Option<i64> {
    let mut batches = &frame[records_at(topic)..];
    let mut end = None;
    while let Some((head, _)) = batches.split_at_checked(61) {
        let field =
            |at: usize| i32::from_be_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let base = i64::from_be_bytes(head[..8].try_into().expect("eight bytes"));
        end = Some(base + i64::from(field(23)) + 1);
        let size = usize::try_from(field(8)).expect("positive") + 12;
        batches = batches.get(size..).unwrap_or_default();
    }
    end
}

/// Where the records are in an answer of version 11 about one partition.
fn records_at(topic: &str) -> usize {
    // Correlation id, throttle time, error, session; topics, name, partitions; number, error, high
    // watermark, last stable offset, log start, aborted, preferred replica, size of the records.
    4 + 4 + 2 + 4 + 4 + (2 + topic.len()) + 4 + 4 + 2 + 8 + 8 + 8 + 4 + 4 + 4
}

/// The half of row 14 that is about consumers: 64 of them read the same 256 KiB, beside one.
fn consumers(broker: &Broker) -> bool {
    const MANY: usize = 64;
    const TURNS: u64 = 8;
    broker.create("shared");
    let mut stream = connect(broker.address);
    call(&mut stream, &produce("shared", 252, 1024));
    let request = fetch("shared", 0, 256 << 10);
    let answer = call(&mut stream, &request).len() + 4;
    let mut one = [stream];
    let mut many: Vec<_> = (0..MANY).map(|_| connect(broker.address)).collect();
    let requests = MANY as u64 * TURNS;
    let bytes = requests * answer as u64;
    let row = versus(
        "14 CPU of 64 consumers beside one, s/GB",
        Unit::PerGigabyte,
        1.1,
        |meter| meter.run(bytes, requests, || in_turn(&mut one, &request, answer, requests)),
        |meter| meter.run(bytes, requests, || in_turn(&mut many, &request, answer, TURNS)),
    );
    Row(&row.name).ratio(row.figures.0, row.figures.1, row.bar)
}

/// Row 16.
fn catch_up(broker: &Broker, dir: &Path) -> bool {
    const PIECE: usize = 1 << 20;
    const PIECES: u64 = 1500;
    broker.create("cold");
    broker.create("hot");
    let large = produce("cold", 100, PIECE / 100 - 10);
    let mut stream = connect(broker.address);
    let answer = call(&mut stream, &large).len() + 4;
    pipelined(&mut stream, &large, answer, PIECES, 4);
    let path = dir.join("floor-cold.log");
    floor::pieces(&path, large.len(), PIECES);
    let bare = floor::send_file(&path, PIECE, 0);
    let segments = segments(dir);
    let hot = produce("hot", 1, 100);
    let hot_answer = call(&mut stream, &hot).len() + 4;

    let (mut floors, mut ours) = (Vec::new(), Vec::new());
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..=3 {
        evict(std::slice::from_ref(&path));
        let begun = Instant::now();
        pipelined(&mut connect(bare), &[0; ANSWER_BYTES], PIECE, PIECES - 1, 1);
        let floor_rate = (PIECES - 1) as f64 * PIECE as f64 / begun.elapsed().as_secs_f64() / 1e9;
        evict(&segments);
        let rate = cold(broker, PIECES);
        let quiet = beat(broker, &hot, hot_answer, None);
        evict(&segments);
        let busy = beat(broker, &hot, hot_answer, Some(PIECES));
        if round > 0 {
            floors.push(floor_rate);
            ours.push(rate);
            alone.push(at(&quiet, 99.9).as_secs_f64() * 1e6);
            beside.push(at(&busy, 99.9).as_secs_f64() * 1e6);
        }
    }
    // A throughput of 0.8 is a time of 1.25.
    let (floor, rate) = (1.0 / median(floors), 1.0 / median(ours));
    let met = Row("16 cold catch-up, 1 MiB, beside sendfile, s/GB").ratio(floor, rate, 1.25);
    let (alone, beside) = (median(alone), median(beside));
    met & Row("16 hot 100 B produce p99.9 while it runs, µs").ratio(alone, beside, 2.0)
}

/// Reads `pieces` MiB of the cold topic one fetch after the other, in GB/s.
fn cold(broker: &Broker, pieces: u64) -> f64 {
    let mut stream = connect(broker.address);
    let (mut end, mut bytes) = (0, 0_u64);
    let begun = Instant::now();
    while bytes < (pieces - 2) << 20 {
        let frame = call(&mut stream, &fetch("cold", end, 1 << 20));
        bytes += frame.len() as u64;
        end = next_offset(&frame, "cold").expect("there is more");
    }
    bytes as f64 / begun.elapsed().as_secs_f64() / 1e9
}

/// A produce each millisecond, open loop, until the cold topic has been read, or for two seconds: how
/// long after it was due each was acknowledged.
fn beat(broker: &Broker, request: &[u8], answer: usize, pieces: Option<u64>) -> Vec<Duration> {
    const EVERY: Duration = Duration::from_millis(1);
    let (mut stream, mut cold) = (connect(broker.address), connect(broker.address));
    let mut frames = Frames::default();
    let (mut end, mut bytes) = (0, 0_u64);
    if pieces.is_some() {
        send(&mut cold, &fetch("cold", end, 1 << 20));
    }
    let mut waiting: VecDeque<Duration> = VecDeque::new();
    let (mut times, mut got) = (Vec::new(), 0);
    let mut next = Duration::ZERO;
    let mut buffer = vec![0; 64 << 10];
    let begun = Instant::now();
    loop {
        let now = begun.elapsed();
        let over = match pieces {
            Some(pieces) => bytes >= (pieces - 2) << 20,
            None => now >= Duration::from_secs(2),
        };
        if over && waiting.is_empty() {
            return times;
        }
        if !over && next <= now {
            send(&mut stream, request);
            waiting.push_back(next);
            next += EVERY;
        }
        got += poll(&mut stream, &mut buffer);
        while got >= answer {
            got -= answer;
            let due = waiting.pop_front().expect("one answer to each");
            times.push(begun.elapsed().saturating_sub(due));
        }
        if let Some(frame) = frames.next(&mut cold) {
            bytes += frame.len() as u64;
            end = next_offset(frame, "cold").expect("there is more");
            send(&mut cold, &fetch("cold", end, 1 << 20));
        }
    }
}

/// The segments of all topics that are large.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.join("data")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            let length = entry.metadata().map_or(0, |metadata| metadata.len());
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|is| is == "log") && length > 100 << 20 {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "there is a large segment");
    found
}

/// Has the kernel forget what it holds of files.
fn evict(paths: &[PathBuf]) {
    for path in paths {
        let file = File::open(path).expect("it is there");
        file.sync_all().expect("it can be flushed");
        // SAFETY: a plain system call on an open descriptor.
        let failed =
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        assert_eq!(failed, 0, "the kernel takes advice");
    }
}
