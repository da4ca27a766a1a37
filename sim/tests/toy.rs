//! The simulator on trial: a small append service, right and wrong, under every fault.
//!
//! The service keeps a list of numbers in one file. The right one acknowledges and serves what it
//! has flushed; its wrong twins each make one mistake that only a crash, or only a full history,
//! can show. All seeds of the right one must pass, and each mistake must be found.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Result};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::io::{
    Buf, Connection, File, Flow, Io, Listener, Open, fill_at, write_all, write_all_at,
};
use trialog_jepsen::check::{Anomaly, Expect, Report};
use trialog_jepsen::history::{Op, Phase, Process, Record, Value};
use trialog_sim::cluster::{Cluster, Frame, simulate};
use trialog_sim::io::{SimConnection, SimFile, SimIo};
use trialog_sim::machine::Machine;
use trialog_sim::nemesis::Nemesis;
use trialog_sim::plan::{Plan, Scope};
use trialog_sim::scenario::Recorder;
use trialog_sim::trace::Digest;

const PORT: u16 = 7;
/// Each entry has a sector of its own, so that no later write repairs what a flush has lost.
const ENTRY: usize = 512;
/// Within how many seeds each mistake must be found.
const MISTAKE_SEEDS: u64 = 2000;
const MARK: u64 = 0x7471_6961_6c6f_6721;

/// What the service does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    None,
    /// It acknowledges what the next power cut can take.
    AcknowledgesBeforeFlush,
    /// It shows readers what the next power cut can take.
    ServesBeforeFlush,
    /// It stores a repeated request again.
    ForgetsWhatItHas,
    /// It flushes once more when a flush has failed, and believes the second answer.
    RetriesFlush,
}

struct Service {
    file: SimFile,
    mistake: Mistake,
    values: RefCell<Vec<u64>>,
    flushed: RefCell<usize>,
    by_value: RefCell<BTreeMap<u64, usize>>,
    writing: tokio::sync::Mutex<()>,
    poisoned: RefCell<bool>,
}

/// Reads exactly `count` bytes.
async fn read_exact(connection: &SimConnection, count: usize) -> Result<Buf> {
    let mut buf = Buf::with_capacity(count);
    while buf.len() < count {
        let (result, returned) = connection.read(buf).await;
        buf = returned;
        if result? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buf)
}

fn word(bytes: &[u8], place: usize) -> u64 {
    u64::from_le_bytes(bytes[place * 8..place * 8 + 8].try_into().expect("eight bytes"))
}

fn words(words: &[u64]) -> Buf {
    words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>().into()
}

impl Service {
    async fn open(io: &SimIo, mistake: Mistake) -> Result<Service> {
        let file = io.open(Path::new("/list"), Open::Create).await?;
        io.sync_dir(Path::new("/")).await?;
        let (result, buf) = fill_at(&file, Buf::with_capacity(1 << 17), 0).await;
        result?;
        let entries = buf.chunks_exact(ENTRY).map(|entry| (word(entry, 0), word(entry, 1)));
        let values: Vec<u64> = entries
            .enumerate()
            .take_while(|(place, (value, check))| value ^ MARK ^ *place as u64 == *check)
            .map(|(_, (value, _))| value)
            .collect();
        file.truncate((values.len() * ENTRY) as u64).await?;
        file.sync().await?;
        let by_value = values.iter().enumerate().map(|(place, value)| (*value, place)).collect();
        Ok(Service {
            file,
            mistake,
            flushed: RefCell::new(values.len()),
            values: RefCell::new(values),
            by_value: RefCell::new(by_value),
            writing: tokio::sync::Mutex::new(()),
            poisoned: RefCell::new(false),
        })
    }

    async fn append(&self, value: u64) -> Result<usize> {
        let known = self.by_value.borrow().get(&value).copied();
        let _turn = self.writing.lock().await;
        if *self.poisoned.borrow() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let place = match known.or_else(|| self.by_value.borrow().get(&value).copied()) {
            Some(place) if self.mistake != Mistake::ForgetsWhatItHas => place,
            _ => {
                let place = self.values.borrow().len();
                let mut entry = vec![0; ENTRY / 8];
                (entry[0], entry[1]) = (value, value ^ MARK ^ place as u64);
                let entry = words(&entry);
                *self.poisoned.borrow_mut() = true;
                let written = write_all_at(&self.file, vec![entry], (place * ENTRY) as u64).await.0;
                // A full disk passes: the next entry goes to the same place.
                let is_full = |error: &std::io::Error| error.kind() == ErrorKind::StorageFull;
                *self.poisoned.borrow_mut() = written.as_ref().is_err_and(|it| !is_full(it));
                written?;
                self.values.borrow_mut().push(value);
                self.by_value.borrow_mut().insert(value, place);
                place
            }
        };
        if self.mistake == Mistake::AcknowledgesBeforeFlush {
            *self.flushed.borrow_mut() = place + 1;
            return Ok(place);
        }
        if place >= *self.flushed.borrow() {
            *self.poisoned.borrow_mut() = true;
            match self.file.sync().await {
                Err(_) if self.mistake == Mistake::RetriesFlush => self.file.sync().await?,
                result => result?,
            }
            *self.poisoned.borrow_mut() = false;
            *self.flushed.borrow_mut() = place + 1;
        }
        Ok(place)
    }

    async fn serve(&self, connection: &SimConnection) -> Result<()> {
        loop {
            let request = read_exact(connection, 16).await?;
            let (verb, argument) = (word(&request, 0), word(&request, 1));
            let answer = if verb == 0 {
                words(&[self.append(argument).await? as u64])
            } else {
                let values = self.values.borrow();
                let end = match self.mistake {
                    Mistake::ServesBeforeFlush => values.len(),
                    _ => *self.flushed.borrow(),
                };
                let from = (argument as usize).min(end);
                let part = &values[from..end.min(from + 50)];
                words(&[&[part.len() as u64], part].concat())
            };
            write_all(connection, answer, Flow::Done).await?;
        }
    }
}

async fn server(io: SimIo, mistake: Mistake) {
    let Ok(service) = Service::open(&io, mistake).await else { return };
    let service = Rc::new(service);
    let address = SocketAddr::new([0, 0, 0, 0].into(), PORT);
    let listener = io.listen(address).await.expect("nobody else listens");
    while let Ok(connection) = listener.accept().await {
        let service = Rc::clone(&service);
        io.spawn(async move {
            let _ = service.serve(&connection).await;
        });
    }
}

/// Something that must not take longer than two seconds.
async fn soon<T>(io: &SimIo, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased; // What is done in time counts.
        result = work => result,
        () = io.sleep(Duration::from_secs(2)) => Err(ErrorKind::TimedOut.into()),
    }
}

async fn call(io: &SimIo, link: &mut Option<SimConnection>, request: [u64; 2]) -> Result<Vec<u64>> {
    let result = soon(io, async {
        if link.is_none() {
            let address = SocketAddr::new(Machine::address(0), PORT);
            *link = Some(io.connect(address).await?);
        }
        let connection = link.as_ref().expect("just made");
        write_all(connection, words(&request), Flow::Done).await?;
        let head = word(&read_exact(connection, 8).await?, 0);
        if request[0] == 0 {
            return Ok(vec![head]);
        }
        let rest = read_exact(connection, 8 * head as usize).await?;
        Ok((0..head as usize).map(|place| word(&rest, place)).collect())
    });
    let result = result.await;
    if result.is_err() {
        *link = None;
        io.sleep(Duration::from_millis(100)).await;
    }
    result
}

async fn producer(io: SimIo, recorder: Recorder, done: Arc<AtomicU64>, goal: u64) {
    let topic = recorder.topic("list");
    let partition = PartitionIndex(0);
    let mut link = None;
    for counter in 0.. {
        if done.load(Ordering::Relaxed) >= goal {
            return;
        }
        let value = Value::new(Recorder::client(&io), counter);
        let send = |offset| Op::stored(topic, partition, value, offset);
        recorder.record(&io, Process(Recorder::client(&io)), Phase::Invoke, send(None));
        let place = loop {
            if let Ok(answer) = call(&io, &mut link, [0, value.0]).await {
                break answer[0];
            }
        };
        recorder.record(
            &io,
            Process(Recorder::client(&io)),
            Phase::Ok,
            send(Some(Offset(place as i64))),
        );
        done.fetch_add(1, Ordering::Relaxed);
        io.sleep(Duration::from_nanos(io.random() % 60_000_000)).await;
    }
}

async fn consumer(io: SimIo, recorder: Recorder, until: Option<usize>) {
    let topic = recorder.topic("list");
    let partition = PartitionIndex(0);
    recorder.record(
        &io,
        Process(Recorder::client(&io)),
        Phase::Ok,
        Op::Assign { partitions: vec![(topic, partition)] },
    );
    let start = Op::Seek { topic, partition, offset: Offset(0) };
    recorder.record(&io, Process(Recorder::client(&io)), Phase::Ok, start);
    let (mut link, mut next) = (None, 0_usize);
    while until.is_none_or(|until| next < until) {
        let Ok(values) = call(&io, &mut link, [1, next as u64]).await else { continue };
        let record = |(place, value): (usize, &u64)| Record {
            topic,
            partition,
            offset: Offset((next + place) as i64),
            value: Value(*value),
        };
        let records: Vec<Record> = values.iter().enumerate().map(record).collect();
        next += records.len();
        recorder.record(&io, Process(Recorder::client(&io)), Phase::Ok, Op::Poll { records });
        io.sleep(Duration::from_millis(20)).await;
    }
}

/// One run: chaos, then healing, then a reading of everything.
async fn trial(cluster: Cluster, seed: u64, mistake: Mistake) -> Report {
    let recorder = Recorder::new(cluster.world().clone(), std::sync::Arc::default());
    let done = Arc::new(AtomicU64::new(0));
    let (goal, chaos) = (150, Duration::from_secs(6));
    let host = cluster.add("service", 1 << 20, move |io| server(io, mistake));
    let mut clients = Vec::new();
    for name in ["one", "two"] {
        let (recorder, done) = (recorder.clone(), Arc::clone(&done));
        clients.push(
            cluster.add(name, 1 << 20, move |io| {
                producer(io, recorder.clone(), Arc::clone(&done), goal)
            }),
        );
    }
    let reading = recorder.clone();
    clients.push(cluster.add("reader", 1 << 20, move |io| consumer(io, reading.clone(), None)));
    let (brokers, keepers) = (vec![host], Vec::new());
    let scope = Scope { brokers, clients, keepers, chaos, crashes_min: 2 };
    let plan = Plan::draw(trialog_sim::seed::Seed(seed), &scope);
    let nemesis = Nemesis::new(cluster.clone(), vec![host]);
    recorder.watch(&nemesis, vec![host]);
    nemesis.run(&plan).await;
    nemesis.heal().await;
    for _ in 0..120 {
        cluster.pass(Duration::from_secs(1)).await;
        if done.load(Ordering::Relaxed) >= goal {
            break;
        }
    }
    assert!(done.load(Ordering::Relaxed) >= goal, "stuck after healing");
    cluster.pass(Duration::from_secs(5)).await;
    recorder.finale();
    let finale = recorder.clone();
    cluster.add("last reader", 1 << 20, move |io| consumer(io, finale.clone(), None));
    cluster.pass(Duration::from_secs(20)).await;
    recorder.judge(&Expect::default())
}

fn run(seed: u64, mistake: Mistake) -> (Report, Digest) {
    let outcome = simulate(Frame::new(seed), move |cluster| trial(cluster, seed, mistake));
    let outcome = outcome.unwrap_or_else(|text| panic!("seed {seed}, {mistake:?}: {text}"));
    (outcome.value, outcome.digest)
}

#[test]
fn the_right_service_passes_every_seed_the_same_way_twice() {
    for seed in 0..60 {
        let (report, digest) = run(seed, Mistake::None);
        assert!(report.clean(), "seed {seed}: {report}");
        assert!(report.tally.crashes >= 2, "seed {seed}: {report}");
        assert!(report.tally.read_finally >= 150, "seed {seed}: {report}");
        if seed % 10 == 0 {
            assert_eq!(digest, run(seed, Mistake::None).1, "seed {seed}");
        }
    }
}

#[test]
fn every_mistake_is_found() {
    for (mistake, expected) in [
        (Mistake::AcknowledgesBeforeFlush, &[Anomaly::Unseen, Anomaly::LostWrite][..]),
        (Mistake::ServesBeforeFlush, &[Anomaly::InconsistentOffsets, Anomaly::Unseen]),
        (Mistake::ForgetsWhatItHas, &[Anomaly::Duplicate]),
        (Mistake::RetriesFlush, &[Anomaly::Unseen, Anomaly::LostWrite]),
    ] {
        let caught = |seed: &u64| {
            let report = run(*seed, mistake).0;
            expected.iter().any(|anomaly| report.count(*anomaly) > 0)
        };
        let seed = (0..MISTAKE_SEEDS).find(caught);
        println!("{mistake:?}: found by seed {seed:?}");
        assert!(seed.is_some(), "{mistake:?} was not found in {MISTAKE_SEEDS} seeds");
    }
}
