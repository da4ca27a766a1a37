//! Trials of the real program under real faults, with real Kafka clients.
//!
//! `cargo jepsen kill` kills the broker with -9, `cargo jepsen power` cuts its disk's power, both at
//! random moments under `acks=all` traffic, and the library's checkers judge what the clients saw.
//! `cargo jepsen check FILE` judges a history that exists; `cargo jepsen bench` measures the judge.
//!
//! Exit codes: 0 clean, 1 guilty, 2 the trial could not be carried out, 3 nothing is wrong as far as it
//! could be judged, and the metadata of some topic could not, 77 not possible on this machine, 130
//! interrupted.

#![allow(clippy::disallowed_methods, reason = "real processes live in real time and real threads")]

mod binary;
mod chance;
mod disk;
mod node;
mod own;
mod process;
mod report;
mod stop;
mod traffic;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand, ValueEnum};
use trialog_jepsen::check::{self, Expect, Promise, Retention};
use trialog_jepsen::history::Acks;
use trialog_jepsen::scale;

use report::Sum;
use stop::{Stop, broken};
use traffic::Load;
use trial::{Nemesis, Plan};

#[derive(Parser)]
#[command(name = "trialog-jepsen", about = "Breaks real brokers and judges what clients saw")]
struct Cli {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Kill the broker with -9 under load, restart it on the same data, read everything
    Kill(Options),
    /// Cut the power of the broker's disk under load (needs root and loop devices)
    Power {
        #[command(flatten)]
        options: Options,
        /// Take the flush out of a copy of the broker: every run must lose records
        #[arg(long)]
        without_flush: bool,
    },
    /// Traffic of our own client, as the other commands start it
    #[command(hide = true)]
    Traffic(own::Order),
    /// Judge a recorded history
    Check {
        file: PathBuf,
        /// Acknowledged records may be lost (page-cache acknowledgement and a power cut)
        #[arg(long)]
        not_durable: bool,
        /// Offsets may have holes (transactions, compaction)
        #[arg(long)]
        sparse: bool,
        /// The history ends without a reading of everything
        #[arg(long)]
        unfinished: bool,
        /// Topics that keep the last record of each key only
        #[arg(long, value_name = "TOPIC")]
        compacted: Vec<String>,
        /// Topics that retention may take records from
        #[arg(long, value_name = "TOPIC")]
        retained: Vec<String>,
    },
    /// Measure the judge on a made-up history
    Bench {
        #[arg(long, default_value_t = 1_000_000)]
        operations: usize,
    },
}

#[derive(Args)]
struct Options {
    /// Runs, each with a broker and a data directory of its own
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Crashes of each run
    #[arg(long, default_value_t = 3)]
    crashes: u32,
    /// The client that makes the traffic
    #[arg(long, value_enum, default_value_t = Client::Python)]
    client: Client,
    #[arg(long, default_value_t = 4)]
    producers: u32,
    /// Consumers that read during the run, beside the reading of everything at its end
    #[arg(long, default_value_t = 2)]
    consumers: u32,
    /// Members of a consumer group that commit what they read, leave, and come back
    #[arg(long, default_value_t = 3)]
    members: u32,
    /// Random choices follow from it; by default from the clock
    #[arg(long)]
    seed: Option<u64>,
    /// A broker that is built already, instead of building this tree's
    #[arg(long)]
    binary: Option<PathBuf>,
    /// A setting for the broker, as its own `--set` takes it
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Client {
    /// confluent-kafka-python, that is librdkafka
    Python,
    /// Our own client
    Own,
}

fn main() -> ExitCode {
    stop::catch_interrupts();
    let done = match Cli::parse().job {
        Job::Kill(options) => trial(&options, Nemesis::Kill),
        Job::Power { options, without_flush: false } => trial(&options, Nemesis::Power),
        Job::Power { options, without_flush: true } => trial(&options, Nemesis::PowerWithoutFlush),
        Job::Traffic(order) => own::run(order).map(|()| true),
        Job::Check { file, not_durable, sparse, unfinished, compacted, retained } => {
            let durable = (!not_durable).then_some(Acks::Leader);
            let promise = Promise { durable, dense: !sparse, ..Promise::default() };
            let mut expect = Expect { caught_up: !unfinished, ..Expect::of_all(promise) };
            for topic in compacted {
                expect = expect.but(&topic, Promise { durable, ..Promise::compacted() });
            }
            for topic in retained {
                let retention = Retention::Anytime;
                expect = expect.but(&topic, Promise { retention, ..promise });
            }
            judge(&file, &expect)
        }
        Job::Bench { operations } => bench(operations),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(stop) => {
            eprintln!("{stop}");
            ExitCode::from(stop.code())
        }
    }
}

/// All runs of a trial; whether it showed what it should.
fn trial(options: &Options, nemesis: Nemesis) -> Result<bool, Stop> {
    if nemesis != Nemesis::Kill {
        disk::prepare()?;
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = options.seed.unwrap_or(clock.as_millis() as u64);
    let binary = match (&options.binary, nemesis) {
        (Some(binary), _) => binary.canonicalize().map_err(broken(binary.display()))?,
        (None, Nemesis::PowerWithoutFlush) => binary::build_without_flush()?,
        (None, Nemesis::Kill | Nemesis::Power) => binary::build()?,
    };
    let name = match nemesis {
        Nemesis::Kill => "kill",
        Nemesis::Power => "power",
        Nemesis::PowerWithoutFlush => "power-without-flush",
    };
    let client = match options.client {
        Client::Python => traffic::Client::python()?,
        Client::Own => traffic::Client::own()?,
    };
    let mut settings = options.settings.clone();
    if nemesis == Nemesis::PowerWithoutFlush {
        // The flush is taken out of the ring. Where rings are refused, the pool would go on flushing.
        settings.push("trialog.io=ring".to_owned());
    }
    let plan = Plan {
        nemesis,
        binary,
        settings,
        client,
        crashes: options.crashes,
        load: Load {
            producers: options.producers,
            consumers: options.consumers,
            members: options.members,
            seed,
        },
        root: binary::work_root().join(format!("{name}-{}", clock.as_secs())),
    };
    println!("broker: {}", plan.binary.display());
    println!("histories: {} (seed {seed})", plan.root.display());
    report::head();
    let mut sum = Sum::default();
    let ended = (1..=options.runs).try_for_each(|number| {
        let verdict = match plan.run(number) {
            Ok(verdict) => verdict,
            Err(stop @ Stop::Broker(_)) => {
                // A verdict on the broker too; the next run has a new one.
                report::failed(number, &stop);
                sum.add_failed();
                return Ok(());
            }
            Err(stop) => return Err(stop),
        };
        report::row(number, &verdict);
        if !verdict.clean() {
            report::explain(&verdict);
        }
        sum.add(&verdict);
        Ok(())
    });
    sum.close(nemesis);
    ended.and_then(|()| decided(sum.passed(nemesis), sum.undecided))
}

/// Judges a file.
fn judge(file: &std::path::Path, expect: &Expect) -> Result<bool, Stop> {
    let history = traffic::load(file)?;
    let report = check::all(&history, expect);
    print!("{}\n{}", report.tally, report.explained(&history));
    println!("{}", if report.clean() { "no anomaly" } else { "ANOMALIES" });
    decided(report.clean(), report.tally.undecided)
}

/// A verdict; that nothing is wrong is none if not everything could be judged.
fn decided(clean: bool, undecided: usize) -> Result<bool, Stop> {
    if clean && undecided > 0 { Err(Stop::Undecided(undecided)) } else { Ok(clean) }
}

/// Judges a made-up history and tells how long that took, and how much memory.
fn bench(operations: usize) -> Result<bool, Stop> {
    let history = scale::mixed(operations);
    let before = status_mib("VmRSS:");
    let begun = std::time::Instant::now();
    let report = check::all(&history, &scale::promises());
    let taken = begun.elapsed().as_secs_f64();
    println!(
        "{operations} operations, {} events: all checkers in {taken:.2} s, {:.2} million operations \
         a second; the history {before} MiB, at most {} MiB with the judge's work",
        history.events().len(),
        operations as f64 / taken / 1e6,
        status_mib("VmHWM:")
    );
    print!("{report}");
    decided(report.clean(), report.tally.undecided)
}

/// A line of what the kernel says of this process's memory; 0 if it does not say.
fn status_mib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_judged_is_not_called_clean() {
        assert!(matches!(decided(true, 0), Ok(true)));
        assert!(matches!(decided(false, 0), Ok(false)));
        assert!(matches!(decided(true, 2), Err(Stop::Undecided(2))));
        // An anomaly is one whatever else is not known.
        assert!(matches!(decided(false, 2), Ok(false)));
    }
}
