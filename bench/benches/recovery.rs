//! `kill -9` with gigabytes written in segments that are still appended to: how long until the first
//! produce is acknowledged again, and until one in each partition is (rows 11 and 23 of the
//! performance bars). Ends with an error if a bar is missed.
//!
//! `cargo bench -p trialog-bench --bench recovery`. `RECOVERY_GB` sets other amounts than 5 and 10, in
//! GB (1e9 bytes) separated by commas. The broker is killed in the midst of a load, with no pause for
//! its flushes or the kernel's.

#![allow(clippy::disallowed_methods, reason = "this side of the wire is real, and not simulated")]

use std::path::Path;
use std::time::{Duration, Instant};

use trialog_bench::broker::{Durability, create_as, metadata, produce_to};
use trialog_bench::load::{Stream, answer, call, connect, pipelined, send};
use trialog_bench::machine::{LOAD_CORE, load_average, pin, private_network};
use trialog_bench::process::{Broker, served};
use trialog_bench::verdict::{Row, print_head};

/// Bytes of each produce, about.
const BATCH_BYTES: usize = 1_000_000;

/// Produces to one partition before the next one has its turn.
const TURN: u64 = 7;

/// What one partition is given, in bytes: less than a segment, so that all of it lies in one that is
/// still appended to.
const PARTITION_BYTES: u64 = 625_000_000;

/// What a recovery may read of one log: what is written between two checkpoints (16 MiB), and what
/// was on its way.
const INTERVAL_BYTES: f64 = (16 << 20) as f64;

fn main() {
    // `cargo test --benches` asks harness-less benches for a list; there is nothing to list.
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    if served(&[]) {
        return;
    }
    let amounts = std::env::var("RECOVERY_GB").unwrap_or_else(|_| "5,10".to_owned());
    println!("{}; load average {}", private_network(), load_average());
    pin(LOAD_CORE);
    print_head();
    let mut met = true;
    for amount in amounts.split(',') {
        let gigabytes: u64 = amount.trim().parse().expect("RECOVERY_GB is a list of whole numbers");
        for durability in [Durability::PageCache, Durability::Flushed] {
            let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
            let dir = tempfile::tempdir_in(target).expect("a folder for the data");
            met &= killed(dir.path(), gigabytes, durability);
        }
    }
    if !met {
        std::process::exit(1);
    }
}

fn killed(dir: &Path, gigabytes: u64, durability: Durability) -> bool {
    let data = dir.join("data");
    let bytes = gigabytes * 1_000_000_000;
    let many = i32::try_from(bytes.div_ceil(PARTITION_BYTES)).expect("a few");
    let how = durability.name();
    let broker = Broker::start(&data, None);
    create_as(broker.address, "t", many, durability);
    let begun = Instant::now();
    write(&broker, many, bytes);
    let took = begun.elapsed();
    broker.kill();
    println!("{gigabytes} GB in {many} partitions ({how}) after {took:.1?}; then kill -9");

    let begun = Instant::now();
    let broker = Broker::start(&data, Some(&metadata("t")));
    let requests: Vec<_> = (0..many).map(|partition| produce_to("t", partition, 1, 100)).collect();
    let mut streams: Vec<_> = requests.iter().map(|_| connect(broker.address)).collect();
    acknowledged(&call(&mut streams[0], &requests[0]));
    let first = begun.elapsed();
    streams.iter_mut().zip(&requests).skip(1).for_each(|(stream, request)| send(stream, request));
    streams.iter_mut().skip(1).for_each(|stream| acknowledged(&answer(stream)));
    let each = begun.elapsed();
    let read = broker.metric("trialog_start_recovered_bytes") / f64::from(many);
    broker.stop();

    let name = |what: &str| format!("{what}, {gigabytes} GB, {how}");
    let seconds = |time: Duration| time.as_secs_f64();
    let mut met = Row(&name("23 kill -9 to first produce, s")).judge(seconds(first), 1.0);
    println!(
        "{:52} {:>10} {:>10.2}",
        name("   to a produce in each partition, s"),
        "",
        seconds(each)
    );
    let intervals = read / INTERVAL_BYTES;
    met &= Row(&name("11 intervals read of each log")).judge(intervals, 1.0);
    met
}

/// Writes `bytes` to the first `many` partitions in turn, and leaves a load on its way.
fn write(broker: &Broker, many: i32, bytes: u64) {
    let records = BATCH_BYTES / 10_000;
    let requests: Vec<_> =
        (0..many).map(|number| produce_to("t", number, records, 10_000)).collect();
    let mut stream = connect(broker.address);
    let frame = call(&mut stream, &requests[0]);
    acknowledged(&frame);
    let mut left = bytes;
    loop {
        for request in &requests {
            pipelined(&mut stream, request, frame.len() + 4, TURN, 4);
            left = left.saturating_sub(TURN * request.len() as u64);
            if left == 0 {
                let mut unanswered: Vec<Stream> =
                    requests.iter().map(|_| connect(broker.address)).collect();
                let all = unanswered.iter_mut().zip(&requests);
                all.for_each(|(stream, request)| send(stream, request));
                return;
            }
        }
    }
}

/// Holds an answer of one partition to success: the topic's name has one byte, so the error is
/// where it is.
fn acknowledged(frame: &[u8]) {
    // Correlation id, tags, topics + 1, name (2 bytes), partitions + 1, number.
    let error = &frame[4 + 1 + 1 + 2 + 1 + 4..][..2];
    assert_eq!(error, [0, 0], "a produce was refused");
}
