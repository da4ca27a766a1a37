//! What durability costs, rows 8 to 10 and 17 of the performance bars: wall time, because what is
//! waited for is a disk. D2 means flushed before it is acknowledged.
//!
//! `cargo bench -p trialog-bench --bench durable`; the server on one core, the load on the other,
//! rounds in turn, medians.

#![allow(clippy::disallowed_methods, reason = "real time is what is measured")]

use std::path::Path;
use std::time::{Duration, Instant};

use trialog_bench::broker::{Broker, Durability, idempotent, produce, produce_to_all};
use trialog_bench::floor::{self, ANSWER_BYTES, Space};
use trialog_bench::load::{Stream, call, connect, one_by_one, pipelined, side_by_side};
use trialog_bench::machine::{LOAD_CORE, load_average, pin, private_network};
use trialog_bench::versus::{ROUNDS, Row, Unit, at, median, print_head, versus};

fn main() {
    // `cargo test --benches` asks harness-less benches for a list; there is nothing to list.
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let network = private_network();
    pin(LOAD_CORE);
    // Not in memory: what is measured is a disk.
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
    let dir = tempfile::tempdir_in(target).expect("a folder for the data");
    println!("{network}; load average {}", load_average());
    print_head();
    let broker = Broker::start(dir.path());
    for (space, name) in [(Space::Allocated, "allocated"), (Space::Written, "prewritten")] {
        for row in acknowledgement(&broker, dir.path(), space, name) {
            row.print();
        }
    }
    commit(&broker, dir.path(), 64, "9 D2 commit, 64 dirty partitions, p50").print();
    commit(&broker, dir.path(), 256, "9 D2 commit, 256 dirty partitions, p50").print();
    throughput(&broker, dir.path()).iter().for_each(Row::print);
    idempotence(&broker).print();
    println!("load average {}", load_average());
}

/// One 100 B record at a time, acknowledged when it is on the disk.
fn acknowledgement(broker: &Broker, dir: &Path, space: Space, name: &str) -> [Row; 2] {
    const TIMES: u64 = 300;
    let topic = format!("acknowledged-{name}");
    broker.create_as(&topic, 1, Durability::Flushed);
    let request = produce(&topic, 1, 100);
    let mut stream = connect(broker.address);
    let answer = call(&mut stream, &request).len() + 4;
    let total = (ROUNDS as u64 + 1) * TIMES * request.len() as u64;
    let mut bare = connect(floor::append_flushed(dir, request.len(), total, space));
    let (mut floors, mut ours) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let bare = one_by_one(&mut bare, &request, ANSWER_BYTES, TIMES);
        let served = one_by_one(&mut stream, &request, answer, TIMES);
        // The first of each warms up.
        if round > 0 {
            floors.push(bare);
            ours.push(served);
        }
    }
    let row = |name: String, percent, bar| {
        let of = |rounds: &[Vec<Duration>]| {
            median(rounds.iter().map(|round| at(round, percent).as_secs_f64() * 1e6).collect())
        };
        Row { name, unit: Unit::Latency, bar, figures: (of(&floors), of(&ours)) }
    };
    [
        row(format!("8 D2 acknowledgement, {name}, p50"), 50.0, 1.3),
        row(format!("8 D2 acknowledgement, {name}, p99"), 99.0, 2.0),
    ]
}

/// One record for each of many partitions in one request, beside as many files and one `syncfs`.
fn commit(broker: &Broker, dir: &Path, partitions: i32, name: &str) -> Row {
    const TIMES: u64 = 20;
    let topic = format!("dirty-{partitions}");
    broker.create_as(&topic, partitions, Durability::Flushed);
    let request = produce_to_all(&topic, partitions, 100);
    let mut stream = connect(broker.address);
    let answer = call(&mut stream, &request).len() + 4;
    let folder = dir.join(format!("floor-{partitions}"));
    let count = usize::try_from(partitions).expect("a few");
    let mut files = floor::Files::new(&folder, count, 200);
    let (mut floors, mut ours) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let bare: Vec<_> = (0..TIMES).map(|_| files.append_and_flush()).collect();
        let served = one_by_one(&mut stream, &request, answer, TIMES);
        if round > 0 {
            floors.push(at(&bare, 50.0).as_secs_f64() * 1e6);
            ours.push(at(&served, 50.0).as_secs_f64() * 1e6);
        }
    }
    let figures = (median(floors), median(ours));
    Row { name: name.to_owned(), unit: Unit::Latency, bar: 1.5, figures }
}

/// Sixteen producers of 64 KiB each, none of which waits for another, flushed, beside the same from the
/// page cache. The ratio of the times: a throughput of 0.7 is a time of 1.43. And beside what the disk takes from a bare loop: where
/// that is slower than the page cache, nobody can keep the first promise.
fn throughput(broker: &Broker, dir: &Path) -> [Row; 2] {
    const PRODUCERS: usize = 16;
    /// What sixteen of them bring.
    const PIECE: usize = 1 << 20;
    const TIMES: u64 = 64;
    let side = |name: &str, durability| {
        broker.create_as(name, 1, durability);
        let request = produce(name, 62, 1024);
        let mut streams: Vec<_> = (0..PRODUCERS).map(|_| connect(broker.address)).collect();
        let answer = call(&mut streams[0], &request).len() + 4;
        move || {
            let begun = Instant::now();
            side_by_side(&mut streams, &request, answer, TIMES);
            let bytes = (TIMES * PRODUCERS as u64 * request.len() as u64) as f64;
            begun.elapsed().as_secs_f64() / (bytes / 1e9)
        }
    };
    let mut cached = side("cached", Durability::PageCache);
    let mut flushed = side("flushed", Durability::Flushed);
    let bare = || {
        let spent = floor::flush_pieces(&dir.join("floor-disk.log"), PIECE, TIMES);
        spent.as_secs_f64() / (TIMES as f64 * PIECE as f64 / 1e9)
    };
    let (mut floors, mut disk, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (cached, bare, flushed) = (cached(), bare(), flushed());
        if round > 0 {
            floors.push(cached);
            disk.push(bare);
            ours.push(flushed);
        }
    }
    let ours = median(ours);
    let row = |name: &str, floors, bar| {
        let (name, unit) = (name.to_owned(), Unit::WallPerGigabyte);
        Row { name, unit, bar, figures: (median(floors), ours) }
    };
    [
        row("10 D2, 16 producers of 64 KiB, beside D1", floors, 1.0 / 0.7),
        row("   the same beside flushing 1 MiB at a time", disk, f64::INFINITY),
    ]
}

/// Produces of one producer with ids and sequences, beside the same without.
fn idempotence(broker: &Broker) -> Row {
    const TIMES: u64 = 5_000;
    broker.create("anonymous");
    broker.create("idempotent");
    let request = produce("anonymous", 1, 100);
    let mut plain = connect(broker.address);
    let answer = call(&mut plain, &request).len() + 4;
    let mut stream = connect(broker.address);
    let mut sequence = 0;
    let mut next = || {
        sequence += 1;
        idempotent("idempotent", 100, sequence - 1)
    };
    assert_eq!(
        call(&mut stream, &next()).len() + 4,
        answer + "idempotent".len() - "anonymous".len()
    );
    let answer_named = answer + "idempotent".len() - "anonymous".len();
    versus(
        "17 idempotence, 100 B",
        Unit::PerRequest,
        1.05,
        |meter| meter.run(0, TIMES, || pipelined(&mut plain, &request, answer, TIMES, 1)),
        |meter| {
            let requests: Vec<_> = (0..TIMES).map(|_| next()).collect();
            meter.run(0, TIMES, || each(&mut stream, &requests, answer_named));
        },
    )
}

fn each(stream: &mut Stream, requests: &[Vec<u8>], answer: usize) {
    for request in requests {
        pipelined(stream, request, answer, 1, 1);
    }
}
