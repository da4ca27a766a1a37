//! The broker beside its floors: processor time per gigabyte or per request, rows of the table of
//! performance bars in `engine/docs/performance.md`.
//!
//! `cargo bench -p trialog-bench --bench floors`; the server on one core, the load on the other,
//! rounds in turn, medians.

use std::net::SocketAddr;
use std::path::Path;

use trialog_bench::broker::{Broker, batch, fetch, produce};
use trialog_bench::floor::{self, ANSWER_BYTES};
use trialog_bench::load::{call, connect, in_turn, pipelined};
use trialog_bench::machine::{LOAD_CORE, load_average, pin, private_network};
use trialog_bench::versus::{Row, Unit, print_head, versus};
use trialog_engine::limit::DIRTY_BYTES_PER_LOG_MAX;

const MEBI: usize = 1 << 20;

fn main() {
    // `cargo test --benches` asks harness-less benches for a list; there is nothing to list.
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let network = private_network();
    pin(LOAD_CORE);
    let dir = tempfile::tempdir().expect("a folder for the data");
    println!("{network}; D1 (page cache); load average {}", load_average());
    print_head();
    let broker = Broker::start(dir.path());
    if asked_for("fetch") {
        let row = ("1 hot fetch, 256 KiB", 256 << 10, 1.25);
        hot_fetch(&broker, dir.path(), row, Head::None).print();
        let row = ("2 hot fetch, 64 KiB", 64 << 10, 1.4);
        hot_fetch(&broker, dir.path(), row, Head::AsOurs).print();
    }
    // The bars are against floors that never flush. Beside each stands what is left of the ratio when
    // the floor flushes as often as the broker does.
    let large = |name: &'static str, size, bar| {
        let floor = floor::append;
        produce_large(&broker, dir.path(), (name, size, bar), floor).print();
        let floor = |dir: &Path, size, total| {
            floor::append_flushing(dir, size, total, DIRTY_BYTES_PER_LOG_MAX)
        };
        produce_large(&broker, dir.path(), ("  against a floor that flushes", size, bar), floor)
            .print();
    };
    if asked_for("large") || asked_for("mebi") {
        large("4 produce D1, 1 MiB", MEBI, 1.3);
    }
    if asked_for("large") {
        large("4 produce D1, 256 KiB", 256 << 10, 1.3);
        large("5 produce D1, 64 KiB", 64 << 10, 1.4);
    }
    if asked_for("one") {
        produce_one(&broker).print();
    }
    if asked_for("deep") {
        produce_deep(&broker, dir.path()).print();
    }
    if asked_for("wide") {
        produce_wide(&broker).print();
    }
    println!("load average {}", load_average());
}

/// Whether the command line names this group of rows, or none.
fn asked_for(group: &str) -> bool {
    let mut names = std::env::args().skip(1).filter(|name| !name.starts_with('-')).peekable();
    names.peek().is_none() || names.any(|name| name == group)
}

type Sized = (&'static str, usize, f64);

/// How many records of 1 KiB make a batch of about `size` bytes.
fn records(size: usize) -> usize {
    (size / 1040).max(1)
}

/// What a floor of a fetch sends in front of the batches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    /// Nothing: it is the bare loop of `sendfile`.
    None,
    /// As much as the broker: the row counts the answer to one request.
    AsOurs,
}

fn hot_fetch(broker: &Broker, dir: &Path, (name, size, bar): Sized, head: Head) -> Row {
    const BATCHES: u64 = 128;
    let topic = format!("fetch-{size}");
    broker.create(&topic);
    let count = records(size);
    let request = produce(&topic, count, 1024);
    let mut stream = connect(broker.address);
    let answer = call(&mut stream, &request).len() + 4;
    pipelined(&mut stream, &request, answer, BATCHES - 1, 2);
    // One batch for each fetch: the limit is below two batches.
    let limit = i32::try_from(size).expect("small");
    let offset = |batch: u64| i64::try_from(batch % BATCHES * count as u64).expect("small");
    let requests: Vec<_> = (0..BATCHES).map(|batch| fetch(&topic, offset(batch), limit)).collect();
    let whole = call(&mut stream, &requests[0]).len() + 4;

    // The floor sends the same bytes from the same places.
    let batch = batch(count, 1024).len();
    let head = if head == Head::AsOurs { whole - batch } else { 0 };
    let path = dir.join(format!("hot-{size}"));
    floor::pieces(&path, batch, BATCHES);
    let floor = floor::send_file(&path, batch, head);
    let mut bare = connect(floor);
    let rounds = (64 * MEBI / size) as u64;
    let bytes = rounds * batch as u64;
    versus(
        name,
        Unit::PerGigabyte,
        bar,
        |meter| {
            meter.run(bytes, rounds, || {
                pipelined(&mut bare, &[0; ANSWER_BYTES], head + batch, rounds, 1);
            });
        },
        |meter| {
            meter.run(bytes, rounds, || {
                for round in 0..rounds {
                    let request = &requests[usize::try_from(round % BATCHES).expect("small")];
                    pipelined(&mut stream, request, whole, 1, 1);
                }
            });
        },
    )
}

fn produce_large(
    broker: &Broker,
    dir: &Path,
    (name, size, bar): Sized,
    floor: impl Fn(&Path, usize, u64) -> SocketAddr,
) -> Row {
    let count = records(size);
    let probe = produce("probe", count, 1024);
    let rounds = (64 * MEBI / probe.len()) as u64;
    let total = rounds * probe.len() as u64;
    let floor = floor(dir, probe.len(), total);
    versus(
        name,
        Unit::PerGigabyte,
        bar,
        |meter| {
            let mut bare = connect(floor);
            meter.run(total, rounds, || {
                pipelined(&mut bare, &probe, ANSWER_BYTES, rounds, 2);
            });
        },
        |meter| {
            broker.create("large");
            let request = produce("large", count, 1024);
            let mut stream = connect(broker.address);
            let answer = call(&mut stream, &request).len() + 4;
            meter.run(total, rounds, || {
                pipelined(&mut stream, &request, answer, rounds, 2);
            });
            broker.delete("large");
        },
    )
}

fn produce_one(broker: &Broker) -> Row {
    const TIMES: u64 = 5_000;
    broker.create("one");
    let request = produce("one", 1, 100);
    let mut stream = connect(broker.address);
    let answer = call(&mut stream, &request).len() + 4;
    let mut bare = connect(floor::echo());
    versus(
        "6 produce D1, one 100 B record",
        Unit::PerRequest,
        2.0,
        |meter| meter.run(0, TIMES, || pipelined(&mut bare, &[0; 128], 128, TIMES, 1)),
        |meter| meter.run(0, TIMES, || pipelined(&mut stream, &request, answer, TIMES, 1)),
    )
}

fn produce_deep(broker: &Broker, dir: &Path) -> Row {
    const TIMES: u64 = 100_000;
    broker.create("deep");
    let request = produce("deep", 1, 100);
    let mut stream = connect(broker.address);
    let answer = call(&mut stream, &request).len() + 4;
    let total = TIMES * request.len() as u64;
    let floor = floor::append_gathered(dir, request.len(), total);
    versus(
        "20 produce D1, 100 B, 64 deep",
        Unit::PerRequest,
        4.0,
        |meter| {
            let mut bare = connect(floor);
            meter.run(0, TIMES, || pipelined(&mut bare, &request, ANSWER_BYTES, TIMES, 64));
        },
        |meter| meter.run(0, TIMES, || pipelined(&mut stream, &request, answer, TIMES, 64)),
    )
}

fn produce_wide(broker: &Broker) -> Row {
    const CONNECTIONS: usize = 64;
    const ROUNDS: u64 = 200;
    broker.create("wide");
    let request = produce("wide", 1, 100);
    let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| connect(broker.address)).collect();
    let answer = call(&mut streams[0], &request).len() + 4;
    let echo = floor::echo();
    let mut bare: Vec<_> = (0..CONNECTIONS).map(|_| connect(echo)).collect();
    let requests = ROUNDS * CONNECTIONS as u64;
    versus(
        "21 produce D1, 100 B, 64 connections",
        Unit::PerRequest,
        2.0,
        |meter| meter.run(0, requests, || in_turn(&mut bare, &[0; 128], 128, ROUNDS)),
        |meter| meter.run(0, requests, || in_turn(&mut streams, &request, answer, ROUNDS)),
    )
}
