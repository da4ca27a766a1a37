//! One node with 10,000 partitions: how long it takes to start, what an idle partition costs, and
//! what a request costs beside so many (rows 12 to 15 and 22 of the performance bars). Ends with an
//! error if a bar is missed.
//!
//! `cargo bench -p trialog-bench --bench scale`. The broker is a process of its own, because its
//! memory and descriptors are counted, and because it is killed. `SCALE_PARTITIONS` sets another
//! number.

#![allow(clippy::disallowed_methods, reason = "this side of the wire is real, and not simulated")]

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use trialog_bench::broker::{create, fetch_from, metadata, produce_to};
use trialog_bench::floor::tell_each;
use trialog_bench::load::{Stream, answer, connect, each, send};
use trialog_bench::machine::{LOAD_CORE, load_average, pin, private_network, raise_descriptors};
use trialog_bench::process::{Broker, served};
use trialog_bench::verdict::{Row, print_head};
use trialog_bench::versus::median;
use trialog_engine::limit::RELEASE_INTERVAL_MIN;

/// Partitions of each topic but the last.
const PER_TOPIC: i32 = 1000;

/// How long a partition rests before its files are closed, in milliseconds: short, so that the bench
/// need not wait.
const IDLE_MS: u64 = 2000;

fn main() {
    // `cargo test --benches` asks harness-less benches for a list; there is nothing to list.
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let idle = IDLE_MS.to_string();
    if served(&[("trialog.partition.idle.ms", &idle)]) {
        return;
    }
    let many: i32 = match std::env::var("SCALE_PARTITIONS") {
        Ok(number) => number.parse().expect("a number of partitions"),
        Err(_) => 10_000,
    };
    raise_descriptors();
    println!("{}; load average {}", private_network(), load_average());
    pin(LOAD_CORE);
    print_head();
    let dir = tempfile::tempdir_in("target").or_else(|_| tempfile::tempdir()).expect("a folder");
    let data = dir.path().join("data");
    let met = rows(&data, many);
    if !met {
        std::process::exit(1);
    }
}

fn rows(data: &Path, many: i32) -> bool {
    let mut met = true;
    let mut written = Written(vec![0; usize::try_from(many).expect("positive")]);

    // Row 22, empty; what an empty broker takes, and what a produce costs in one partition.
    let starts = (0..5).map(|round| {
        let empty = data.with_file_name(format!("empty-{round}"));
        let broker = Broker::start(&empty, None);
        let first = broker.first_answer.as_secs_f64() * 1e3;
        broker.stop();
        first
    });
    met &= Row("22 start to first answer, empty, ms").judge(median(starts.collect()), 100.0);
    let broker = Broker::start(&data.with_file_name("one"), None);
    create(broker.address, "t0", 1);
    let one = Written(vec![0]).cost(&broker, 1);
    settle();
    let empty = (broker.resident(), broker.descriptors());
    broker.stop();

    // The partitions are made, and each gets a record.
    let broker = Broker::start(data, None);
    let begun = Instant::now();
    for topic in 0..topics(many) {
        create(broker.address, &name(topic), PER_TOPIC.min(many - topic * PER_TOPIC));
    }
    let made = begun.elapsed();
    written.write(&broker, many, 1);
    println!(
        "{many} partitions made in {made:.1?}, a record in each after {:.1?}",
        begun.elapsed()
    );
    let busy = (broker.resident() >> 20, broker.descriptors());
    println!("with all in use: {} MiB of memory, {} descriptors", busy.0, busy.1);
    let spread = written.cost(&broker, many);
    met &= Row("14 CPU of a 100 B produce, µs, against 1 partition").ratio(one, spread, 1.3);
    settle();
    met &= idle(&broker, "13 bytes of a partition that was used and rests", many, empty);
    let begun = Instant::now();
    broker.stop();
    println!("stopped cleanly in {:.1?}", begun.elapsed());

    // Clean starts.
    let floor = open_and_stat(data).as_secs_f64() * 1e3;
    let mut starts = Vec::new();
    for _ in 0..5 {
        let broker = Broker::start(data, Some(&metadata("t0")));
        starts.push(broker.first_answer.as_secs_f64() * 1e3);
        broker.stop();
    }
    let start = median(starts);
    let what = format!("22 start to first answer, {many} partitions, ms");
    met &= Row(&what).judge(start, 500.0);
    met &= Row("12 clean start against open and stat, ms").ratio(floor, start, 3.0);
    let broker = Broker::start(data, None);
    settle();
    met &= idle(&broker, "13 bytes of a partition that was not used", many, empty);
    let begun = Instant::now();
    written.write(&broker, 1, 1);
    println!("the first produce to one of them took {:.1?}", begun.elapsed());

    // Killed while all are in use.
    written.write(&broker, many, 1);
    broker.kill();
    let broker = Broker::start(data, Some(&metadata("t0")));
    let begun = Instant::now();
    written.write(&broker, 1, 1);
    let first = broker.first_answer + begun.elapsed();
    let answer = broker.first_answer;
    println!("killed with all in use: first answer after {answer:.1?}, first produce {first:.1?}");
    written.write(&broker, many, 1);
    println!("a produce to each of them after {:.1?}", broker.first_answer + begun.elapsed());
    settle();
    met &= parked(&broker, &written, many);
    broker.stop();
    met
}

/// Row 13.
fn idle(broker: &Broker, what: &str, many: i32, empty: (u64, u64)) -> bool {
    let many = f64::from(many);
    let bytes = broker.resident().saturating_sub(empty.0) as f64 / many;
    let met = Row(what).judge(bytes, 4096.0);
    let files = broker.descriptors().saturating_sub(empty.1) as f64 / many;
    Row("   its descriptors").judge(files, 1.0) && met
}

/// Row 15: as many fetches as there are partitions, each on a connection of its own, wait at the
/// ends of partitions where nothing happens.
fn parked(broker: &Broker, written: &Written, many: i32) -> bool {
    let mut streams: Vec<Stream> = (0..many).map(|_| connect(broker.address)).collect();
    let ask = |streams: &mut [Stream], wait_ms: i32| {
        for (number, stream) in (0..).zip(streams) {
            let (topic, partition) = place(number);
            let end = written.0[usize::try_from(number).expect("positive")];
            send(stream, &fetch_from(&topic, partition, end, 1, wait_ms));
        }
    };
    ask(&mut streams, 3000);
    std::thread::sleep(Duration::from_secs(1));
    let before = broker.cpu();
    streams.iter_mut().for_each(|stream| drop(answer(stream)));
    std::thread::sleep(Duration::from_millis(20));
    let each = (broker.cpu() - before).as_secs_f64() * 1e6 / f64::from(many);
    let mut met = Row("15 one expiry of a fetch, with its answer, µs").judge(each, 7.0);
    // A quarter as many: both ends are in this process, beside those that wait.
    let bare = tell_each(streams.len() / 4).as_secs_f64() * 1e6;
    println!("{:52} {bare:>10.2}", "   a bare loop that only sends as many answers");
    ask(&mut streams, 300_000);
    settle();
    let (before, begun) = (broker.cpu(), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let share = (broker.cpu() - before).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    met &= Row("15 idle CPU with as many parked, % of a core").judge(share, 1.0);
    met
}

/// What has been written, and so where each partition ends.
struct Written(Vec<i64>);

impl Written {
    /// Produces one record of 100 B to each of the first `many` partitions; `times` in turn.
    fn write(&mut self, broker: &Broker, many: i32, times: usize) {
        let requests: Vec<Vec<u8>> = (0..many)
            .map(|number| {
                let (topic, partition) = place(number);
                produce_to(&topic, partition, 1, 100)
            })
            .collect();
        let mut stream = connect(broker.address);
        for _ in 0..times {
            each(&mut stream, &requests, 16);
        }
        for end in &mut self.0[..requests.len()] {
            *end += i64::try_from(times).expect("few");
        }
    }

    /// Row 14: processor time of one produce at a time, in microseconds.
    fn cost(&mut self, broker: &Broker, many: i32) -> f64 {
        let times = usize::try_from(20_000 / many).expect("positive").max(2);
        let rounds = (0..5).map(|_| {
            let before = broker.cpu();
            self.write(broker, many, times);
            let spent = broker.cpu() - before;
            spent.as_secs_f64() * 1e6 / (times as f64 * f64::from(many))
        });
        median(rounds.collect())
    }
}

/// Opens every file of the logs and asks for its length: the least that a start could do which
/// looks at each.
fn open_and_stat(data: &Path) -> Duration {
    let mut files = Vec::new();
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    let rounds = (0..5).map(|_| {
        let begun = Instant::now();
        let bytes: u64 = files.iter().map(|file| length(file.as_path())).sum();
        assert!(bytes > 0, "there are logs");
        begun.elapsed().as_secs_f64()
    });
    Duration::from_secs_f64(median(rounds.collect()))
}

fn length(path: &Path) -> u64 {
    let file = std::fs::File::open(path).expect("it was there");
    file.metadata().expect("it is open").size()
}

/// Waits until what rests is closed, all is quiet, and memory has been given back, which may have to wait
/// for its turn.
fn settle() {
    std::thread::sleep(Duration::from_millis(4 * IDLE_MS) + RELEASE_INTERVAL_MIN);
}

fn name(topic: i32) -> String {
    format!("t{topic}")
}

fn place(number: i32) -> (String, i32) {
    (name(number / PER_TOPIC), number % PER_TOPIC)
}

fn topics(many: i32) -> i32 {
    (many + PER_TOPIC - 1) / PER_TOPIC
}
