//! One trial after the other: a broker under load, broken at random moments, then judged.
//!
//! Owns the order of things within a run. Everything random follows from the run's seed (the
//! moments themselves still depend on the machine). A run's verdict comes from the library's
//! checkers, and from what no history shows: clients that gave up, brokers that did not come back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use trialog_jepsen::check::{self, Anomaly, Expect, Report};
use trialog_jepsen::history::{Event, Fault, History, Op, Phase, Process};

use crate::chance::{Random, monotonic_ns};
use crate::disk::Disk;
use crate::node::Node;
use crate::stop::{Stop, broken, sleep, until};
use crate::traffic::{Client, Load, Summary, Writers, load};

/// Acknowledgements that must arrive between two crashes: a crash without load proves nothing.
const PROGRESS: u64 = 100;
/// How long clients may take to make that progress, reconnecting and recovery included.
const PROGRESS_PATIENCE: Duration = Duration::from_secs(90);
/// What a client says of a broker that is gone.
const EXPECTED: [&str; 2] = ["_TRANSPORT", "_ALL_BROKERS_DOWN"];
const NEMESIS: Process = Process(9_999);

/// What is done to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nemesis {
    /// kill -9: what the process wrote stays in the kernel's hands.
    Kill,
    /// The disk loses power: what was not flushed is gone.
    Power,
    /// The same to a broker that acknowledges without flushing: it must lose records.
    PowerWithoutFlush,
}

/// What all runs of a trial share.
pub struct Plan {
    pub nemesis: Nemesis,
    pub binary: PathBuf,
    pub settings: Vec<String>,
    pub client: Client,
    /// Crashes of each run.
    pub crashes: u32,
    pub load: Load,
    /// Where the runs have their folders.
    pub root: PathBuf,
}

/// How one run ended.
pub struct Verdict {
    pub report: Report,
    /// What is wrong beyond the history.
    pub troubles: Vec<String>,
    /// Errors that clients met and that crashes do not explain, with counts. No verdict, a hint.
    pub told: BTreeMap<String, u64>,
    pub folder: PathBuf,
    pub taken: Duration,
}

impl Verdict {
    pub fn clean(&self) -> bool {
        self.report.clean() && self.troubles.is_empty()
    }

    /// Acknowledged records that are not there any more.
    pub fn lost(&self) -> usize {
        self.report.count(Anomaly::LostWrite) + self.report.count(Anomaly::Unseen)
    }
}

impl Plan {
    /// One run, numbered from 1.
    pub fn run(&self, number: u32) -> Result<Verdict, Stop> {
        let folder = self.root.join(format!("run-{number:03}"));
        std::fs::create_dir_all(&folder).map_err(broken(folder.display()))?;
        let begun = Instant::now();
        let load = Load { seed: self.load.seed.wrapping_add(u64::from(number)), ..self.load };
        let disk = match self.nemesis {
            Nemesis::Kill => None,
            Nemesis::Power | Nemesis::PowerWithoutFlush => Some(Disk::create(&folder)?),
        };
        let data = disk.as_ref().map_or(folder.as_path(), Disk::path).join("data");
        let node = Node::new(&self.binary, &data, &folder.join("broker.log"), &self.settings)?;
        // Fields are dropped in their order: the process ends before its disk goes.
        let mut run = Run {
            node,
            disk,
            random: Random::new(load.seed),
            marks: History::new(),
            folder,
            summaries: Vec::new(),
        };
        let parts = match self.nemesis {
            Nemesis::PowerWithoutFlush => run.one_cut_and_out(&self.client, load)?,
            Nemesis::Kill | Nemesis::Power => run.crashes(&self.client, load, self.crashes)?,
        };
        run.judge(parts, begun)
    }
}

struct Run {
    node: Node,
    disk: Option<Disk>,
    random: Random,
    /// What was done to the broker.
    marks: History,
    folder: PathBuf,
    summaries: Vec<Summary>,
}

impl Run {
    /// Crash after crash under the same clients, which live through them.
    fn crashes(&mut self, client: &Client, load: Load, crashes: u32) -> Result<Vec<History>, Stop> {
        self.start()?;
        let mut writers = client.write(self.node.address(), &self.folder, load)?;
        for crash in 0..crashes {
            self.load_a_while(&mut writers)?;
            self.crash()?;
            sleep(self.random.duration_ms(0, 400))?;
            let during_start = crash + 1 < crashes && self.random.one_in(4);
            if during_start {
                // The next crash comes while this start is still recovering, or shortly after.
                self.spawn()?;
                sleep(self.random.duration_ms(0, 250))?;
                self.crash()?;
            }
            self.start()?;
            self.mark(Fault::Restart);
        }
        self.load_a_while(&mut writers)?;
        let (written, summary) = writers.stop()?;
        self.summaries.push(summary);
        if self.random.one_in(2) {
            // Half of the runs are read through a graceful stop and a clean start.
            self.node.stop()?;
            self.start()?;
        }
        self.read_everything(client, load.members, written)
    }

    /// A single cut; the clients end with it, because what follows may make no sense to them.
    fn one_cut_and_out(&mut self, client: &Client, load: Load) -> Result<Vec<History>, Stop> {
        self.start()?;
        let mut writers = client.write(self.node.address(), &self.folder, load)?;
        self.load_a_while(&mut writers)?;
        // What there is now survives, as if the kernel had written it out in its own time: the
        // topics stay, and what is lost is records, not the place where they would be.
        self.disk.as_ref().expect("a power cut has a disk").sync()?;
        self.load_a_while(&mut writers)?;
        sleep(Duration::from_millis(500))?;
        self.node.pause()?;
        self.disk.as_ref().expect("a power cut has a disk").fail_power()?;
        self.mark(Fault::Crash);
        // Answers that are on their way count: the broker had given them.
        sleep(Duration::from_millis(300))?;
        let (written, summary) = writers.abandon()?;
        self.summaries.push(summary);
        self.node.kill();
        self.disk.as_mut().expect("a power cut has a disk").power_on()?;
        self.start()?;
        self.mark(Fault::Restart);
        self.read_everything(client, load.members, written)
    }

    /// Starts the broker on one core or on two: nothing on disk may depend on their number.
    fn spawn(&mut self) -> Result<(), Stop> {
        let cores = if self.random.one_in(3) { 1 } else { 2 };
        self.node.spawn(&format!("trialog.cores={cores}"))
    }

    fn start(&mut self) -> Result<(), Stop> {
        self.spawn()?;
        self.node.wait_ready()
    }

    /// Waits until clients get their answers, and then a random time.
    fn load_a_while(&mut self, writers: &mut Writers) -> Result<(), Stop> {
        let from = writers.acknowledged()?;
        let progress = until(PROGRESS_PATIENCE, || {
            self.node.check_alive()?;
            writers.check_alive()?;
            Ok((writers.acknowledged()? >= from + PROGRESS).then_some(()))
        })?;
        if progress.is_none() {
            return Err(Stop::Broker(format!(
                "clients got fewer than {PROGRESS} answers in {PROGRESS_PATIENCE:?}; see {}",
                self.folder.display()
            )));
        }
        sleep(self.random.duration_ms(0, 1500))?;
        self.node.check_alive()
    }

    fn crash(&mut self) -> Result<(), Stop> {
        match &mut self.disk {
            None => self.node.kill(),
            Some(disk) => {
                // Stopped first, so that no answer leaves after the power has failed.
                self.node.pause()?;
                disk.fail_power()?;
                self.node.kill();
                disk.power_on()?;
            }
        }
        self.mark(Fault::Crash);
        Ok(())
    }

    fn mark(&mut self, fault: Fault) {
        self.push(Op::Nemesis { fault, node: 0 });
    }

    fn push(&mut self, op: Op) {
        let (time_ns, process, phase) = (monotonic_ns(), NEMESIS, Phase::Info);
        self.marks.push(Event { time_ns, process, phase, op });
    }

    fn read_everything(
        &mut self,
        client: &Client,
        members: u32,
        written: History,
    ) -> Result<Vec<History>, Stop> {
        self.push(Op::Final);
        let (read, summary) = client.read(self.node.address(), &self.folder, members)?;
        self.summaries.push(summary);
        self.node.stop()?;
        Ok(vec![written, read])
    }

    fn judge(self, mut parts: Vec<History>, begun: Instant) -> Result<Verdict, Stop> {
        let Run { node, disk, marks, folder, summaries, .. } = self;
        parts.push(marks);
        let history = History::merge(parts);
        keep(&history, &folder)?;
        let report = check::all(&history, &Expect::default());
        let mut troubles = Vec::new();
        let mut told = BTreeMap::new();
        for summary in summaries {
            for (error, count) in summary.errors {
                *told.entry(error).or_default() += count;
            }
            troubles.extend(summary.fatal);
            troubles.extend(summary.lost_position.into_iter().map(|it| format!("consumer {it}")));
            let behind = |it| format!("the group has not caught up with {it}");
            troubles.extend(summary.behind.into_iter().map(behind));
            troubles.extend(summary.missing.into_iter().map(|it| format!("{it} is not there")));
            if summary.undelivered > 0 {
                troubles.push(format!("{} records could not be delivered", summary.undelivered));
            }
        }
        if (report.tally.acknowledged as u64) < PROGRESS {
            troubles.push("hardly anything was acknowledged: this run proves nothing".to_owned());
        }
        told.retain(|error, _| !EXPECTED.contains(&error.as_str()));
        let verdict = Verdict { report, troubles, told, folder, taken: begun.elapsed() };
        drop(node);
        if verdict.clean() {
            let image = disk.as_ref().map(|disk| disk.image().to_owned());
            drop(disk);
            tidy(&verdict.folder, image.as_deref());
        }
        Ok(verdict)
    }
}

/// Writes the history to its place, and reads it back: what is judged later is what was judged now.
fn keep(history: &History, folder: &Path) -> Result<(), Stop> {
    let path = folder.join("history.jsonl");
    let file = std::fs::File::create(&path).map_err(broken(path.display()))?;
    let mut out = std::io::BufWriter::new(file);
    history.write(&mut out).map_err(broken(path.display()))?;
    std::io::Write::flush(&mut out).map_err(broken(path.display()))?;
    drop(out);
    let again = load(&path)?;
    if again != *history {
        return Err(Stop::Broken(format!("{} does not read as written", path.display())));
    }
    for part in ["clients.jsonl", "reading.jsonl"] {
        let _ = std::fs::remove_file(folder.join(part));
    }
    Ok(())
}

/// Of a clean run only the history and the logs are kept.
fn tidy(folder: &Path, image: Option<&Path>) {
    let _ = std::fs::remove_dir_all(folder.join("data"));
    if let Some(image) = image {
        let _ = std::fs::remove_file(image);
        let _ = std::fs::remove_dir(folder.join("mount"));
    }
}
