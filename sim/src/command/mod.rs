//! The command line of `cargo sim`: what it understands, and the exit codes.
//!
//! One file per command; each returns how the runs failed, if they did. What a command needs beyond
//! reading arguments and printing lives in the library.

mod bench;
mod coverage;
mod progress;
mod record;
mod replay;
mod report;
mod run;
mod seeds;
mod shrink;
mod signal;
mod sum;
mod twice;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use trialog_sim::crew::{self, Crew, Stop};
use trialog_sim::scenario::{BrokerDisk, Cut, Failed, Run, Size};
use trialog_sim::sweep::Totals;
use trialog_sim::tally::Part;

/// The exit code of what was told to end, as shells have it of SIGINT.
const INTERRUPTED: u8 = 130;

/// The exit code of what the judge left undecided too often.
const UNDECIDED: u8 = 15;

/// The exit code of what has not reached all that was demanded.
const UNREACHED: u8 = 16;

/// A run that takes longer than this, in real time, hangs.
const HANG: Duration = Duration::from_secs(180);

/// Runs the broker in simulated worlds full of faults. Everything follows from a seed.
///
/// Exit codes; of several, the gravest, which is the lowest number from 10 on:
///
///    0  all is well
///    1  the command could not do its work
///    2  the command line is wrong
///   10  safety: what must never happen was seen
///   11  liveness: the healed system did not do its work, or a run hung
///   12  determinism: a seed went two ways
///   13  a crash: something panicked, or the process died
///   14  thin: a run proved too little
///   15  undecided: no run failed, and in more than one of 1,000 seeds (of fewer: in more than one seed)
///       the judge could not tell whether metadata was linearizable
///   16  unreached: no run failed, and the sweep did not reach what --demand asks for
///  130  a sweep was told to end (Ctrl-C, SIGTERM), and nothing had failed until then
#[derive(Parser)]
#[command(name = "cargo sim", verbatim_doc_comment)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs many seeds and prints a command for each that fails.
    Run(run::Arguments),
    /// Adds up what `run --tally` has written on several machines, and ends as one sweep would.
    Sum(sum::Arguments),
    /// Runs one seed, twice, in processes of their own, and compares.
    Replay(replay::Arguments),
    /// Leaves faults and client steps out of a failing seed while the same checker still fires.
    Shrink(shrink::Arguments),
    /// Writes a page that shows one run: who did what when, and what went wrong.
    Report(report::Arguments),
    /// Lists what a sweep has reached: faults, pairs of them, answers, rare paths.
    Coverage(coverage::Arguments),
    /// Runs every seed twice, in fresh processes, and compares the hashes.
    Twice(twice::Arguments),
    /// Measures how fast seeds run.
    Bench(bench::Arguments),
    /// Runs every seed that ever failed, from seeds.txt.
    Seeds(seeds::Arguments),
    /// Carries out what is asked on standard input; the other commands start it.
    #[command(hide = true)]
    Work {
        #[arg(long)]
        lying_disk: bool,
    },
}

/// Which run.
#[derive(Args)]
struct One {
    /// The seed.
    seed: u64,
    /// How large the run is: small or full.
    #[arg(long, default_value = "full")]
    size: Size,
    /// What to leave out, as `shrink` prints it: faults=0-3,7/clients=2/steps=0:4-90,3:0.
    #[arg(long, value_name = "CUT", default_value = "", hide_default_value = true)]
    without: Cut,
    /// Put the brokers on disks that say that they have flushed, and have not: a failure to
    /// practise on.
    #[arg(long)]
    lying_disk: bool,
}

/// Which seeds, and how many at a time.
#[derive(Args)]
struct Many {
    /// How many [default: 100; with --until-fail, until one fails].
    #[arg(long)]
    seeds: Option<u64>,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many at a time; as many as there are processors if it is not said.
    #[arg(long)]
    jobs: Option<usize>,
    /// How large each run is: small or full.
    #[arg(long, default_value = "full")]
    size: Size,
    /// Only the i-th of n parts, counted from 1, so that n machines share a sweep.
    #[arg(long, value_name = "i/n", default_value = "1/1", hide_default_value = true)]
    shard: Shard,
    /// Begin no further seed after this long: 90s, 10m, 8h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    time_limit: Option<Duration>,
}

/// One of several parts of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shard {
    part: u64,
    parts: u64,
}

/// How a command ended that did its work.
enum Ended {
    /// All is well.
    Well,
    /// Runs failed, the gravest of them so.
    Failed(Failed),
    /// None failed, and of too many the judge could not tell whether it did.
    Undecided,
    /// None failed, and together they did not reach this.
    Unreached(Vec<String>),
    /// It was told to end before it was done.
    Interrupted,
}

/// Reads the command line and does what it says.
pub fn run() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Sum(arguments) => sum::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments).map(Ended::from),
        Command::Shrink(arguments) => shrink::run(&arguments).map(Ended::from),
        Command::Report(arguments) => report::run(&arguments).map(Ended::from),
        Command::Coverage(arguments) => coverage::run(&arguments),
        Command::Twice(arguments) => twice::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Seeds(arguments) => seeds::run(&arguments),
        Command::Work { lying_disk } => crew::serve(disk(lying_disk)).map(|()| Ended::Well),
    };
    match ended {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Failed(how)) => ExitCode::from(exit_code(how)),
        Ok(Ended::Undecided) => {
            eprintln!(
                "cargo sim: in more seeds than one in 1,000 the judge could not settle topics"
            );
            ExitCode::from(UNDECIDED)
        }
        Ok(Ended::Unreached(unmet)) => {
            for what in unmet {
                eprintln!("cargo sim: demanded, and not reached: {what}");
            }
            ExitCode::from(UNREACHED)
        }
        Ok(Ended::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(reason) => {
            eprintln!("cargo sim: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// An exit code for each way to fail.
fn exit_code(how: Failed) -> u8 {
    match how {
        Failed::Safety => 10,
        Failed::Liveness => 11,
        Failed::Determinism => 12,
        Failed::Panic => 13,
        Failed::Thin => 14,
    }
}

impl From<Option<Failed>> for Ended {
    fn from(failed: Option<Failed>) -> Ended {
        failed.map_or(Ended::Well, Ended::Failed)
    }
}

impl From<&Totals> for Ended {
    fn from(totals: &Totals) -> Ended {
        Ended::of(totals, Vec::new())
    }
}

impl Ended {
    /// How a sweep ended that did not reach so much that was demanded. What failed counts more than
    /// that there was more to do.
    fn of(totals: &Totals, unmet: Vec<String>) -> Ended {
        match totals.gravest() {
            None if totals.too_undecided() => Ended::Undecided,
            None if !unmet.is_empty() => Ended::Unreached(unmet),
            None if totals.interrupted => Ended::Interrupted,
            gravest => gravest.into(),
        }
    }
}

impl One {
    fn run(&self) -> Run {
        Run { cut: self.without.clone(), ..Run::new(self.seed, self.size) }
    }

    fn disk(&self) -> BrokerDisk {
        disk(self.lying_disk)
    }
}

impl Many {
    /// The runs of this shard, in order; `seeds` of all shards if nothing else was said.
    fn runs(&self, seeds: u64) -> impl Iterator<Item = Run> + Send + use<> {
        let seeds = self.seeds.unwrap_or(seeds);
        let Shard { part, parts } = self.shard;
        let (from, size) = (self.from, self.size);
        let all = (0..seeds).filter(move |place| place % parts == part - 1);
        all.map(move |place| Run::new(from.wrapping_add(place), size))
    }

    /// How many they are.
    fn count(&self, seeds: u64) -> u64 {
        let seeds = self.seeds.unwrap_or(seeds);
        let Shard { part, parts } = self.shard;
        seeds / parts + u64::from(part <= seeds % parts)
    }

    /// Which part of which sweep it is.
    fn part(&self, seeds: u64) -> Part {
        let Shard { part, parts } = self.shard;
        Part { from: self.from, seeds: self.seeds.unwrap_or(seeds), parts, part }
    }

    fn crew(&self) -> Result<Crew, String> {
        crew(self.jobs)
    }
}

fn disk(lying: bool) -> BrokerDisk {
    if lying { BrokerDisk::Lying } else { BrokerDisk::Honest }
}

/// Workers of this very program, for brokers on honest disks.
fn crew(jobs: Option<usize>) -> Result<Crew, String> {
    let program = std::env::current_exe().map_err(|error| format!("where am I? {error}"))?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (jobs, disk) = (jobs.unwrap_or(processors), BrokerDisk::Honest);
    Ok(Crew { program, jobs, limit: HANG, disk, stop: Stop::default() })
}

/// A file of the simulator's own folder in the sources.
fn own_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let numbers = text.split_once('/').and_then(|(part, parts)| {
            Some(Shard { part: part.parse().ok()?, parts: parts.parse().ok()? })
        });
        let possible = |shard: &Shard| shard.part >= 1 && shard.part <= shard.parts;
        numbers.filter(possible).ok_or_else(|| "expected i/n with 1 <= i <= n".to_owned())
    }
}

/// Reads `90s`, `10m` or `8h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number and s, m or h, as 90s".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn shards_part_the_seeds_among_them() {
        let many = |part| Many {
            seeds: None,
            from: 100,
            jobs: None,
            size: Size::Small,
            shard: Shard { part, parts: 3 },
            time_limit: None,
        };
        let seeds = |part| many(part).runs(10).map(|run| run.seed).collect::<Vec<_>>();
        let mut all: Vec<u64> = (1..=3).flat_map(seeds).collect();
        all.sort_unstable();
        assert_eq!(all, (100..110).collect::<Vec<_>>());
        assert_eq!([1, 2, 3].map(|part| many(part).count(10)), [4, 3, 3]);
        assert_eq!("2/3".parse(), Ok(Shard { part: 2, parts: 3 }));
        for wrong in ["0/3", "4/3", "1", "a/b", "1/0"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_read() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("8h"), Ok(Duration::from_secs(8 * 3600)));
        for wrong in ["", "s", "10", "5d", "1.5m", "99999999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
