//! `cargo sim`: sweeps of simulated seeds, and replays of single ones.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use trialog_sim::scenario::{Failed, Failure, first_light};
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
        /// Print every event of the (first) run to standard error.
        #[arg(long)]
        trace: bool,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { seeds, from, jobs } => {
            let run = |seed| first_light::run(seed, false);
            let totals = sweep(from..from.saturating_add(seeds), jobs, run, |result| {
                if let Err(failure) = result {
                    eprintln!("{failure}");
                }
            });
            print!("{totals}");
            totals.failures.first().map_or(ExitCode::SUCCESS, exit)
        }
        Command::Replay { seed, trace } => {
            if trace {
                let _ = first_light::run(seed, true);
            }
            match twice(seed, |seed| first_light::run(seed, false)) {
                Ok(passed) => {
                    println!("seed {seed} passed, twice the same: {}", passed.digest);
                    println!("{:?}\n{:?}", passed.tally, passed.counts);
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
