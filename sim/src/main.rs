//! `cargo sim`: sweeps of simulated seeds, and replays of single ones.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use trialog_sim::scenario::{self, Failed, Failure, Run, Size, Watch};
use trialog_sim::sweep::{sweep, twice};

/// Runs the broker in simulated worlds. Everything follows from a seed.
#[derive(Parser)]
#[command(name = "cargo sim")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs many seeds; fails if one of them does.
    Run {
        /// How large each is.
        #[arg(long, default_value = "small")]
        size: SizeName,
        /// How many.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first one.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// How many at a time.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
    },
    /// Runs one seed twice and compares.
    Replay {
        /// Which.
        seed: u64,
        /// How large.
        #[arg(long, default_value = "small")]
        size: SizeName,
        /// Print every event of the (first) run to standard error.
        #[arg(long)]
        trace: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum SizeName {
    Small,
    Full,
}

impl From<SizeName> for Size {
    fn from(name: SizeName) -> Size {
        match name {
            SizeName::Small => Size::Small,
            SizeName::Full => Size::Full,
        }
    }
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { size, seeds, from, jobs } => {
            let run = |seed| scenario::run(&Run::new(seed, size.into()));
            let totals = sweep(from..from.saturating_add(seeds), jobs, run, |result| {
                if let Err(failure) = result {
                    eprintln!("{failure}");
                }
            });
            print!("{totals}");
            totals.failures.first().map_or(ExitCode::SUCCESS, exit)
        }
        Command::Replay { seed, size, trace } => {
            if trace {
                let loud = Run { watch: Watch::Loud, ..Run::new(seed, size.into()) };
                let _ = scenario::run(&loud);
            }
            match twice(seed, |seed| scenario::run(&Run::new(seed, size.into()))) {
                Ok(passed) => {
                    let facts = passed.facts;
                    let digest = facts.digest.map_or_else(String::new, |digest| digest.to_string());
                    println!("seed {seed} passed, twice the same: {digest}");
                    println!("{:?}\n{:?}", facts.tally, facts.counts);
                    ExitCode::SUCCESS
                }
                Err(failure) => {
                    eprintln!("{failure}");
                    exit(&failure)
                }
            }
        }
    }
}

/// An exit code for each way to fail.
fn exit(failure: &Failure) -> ExitCode {
    ExitCode::from(match failure.how {
        Failed::Safety => 10,
        Failed::Liveness => 11,
        Failed::Determinism => 12,
        Failed::Panic => 13,
        Failed::Thin => 14,
    })
}
