//! `cargo sim run`: a sweep.

#![allow(clippy::disallowed_methods, reason = "how long a sweep takes is real time")]

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use trialog_sim::outcome::Outcome;
use trialog_sim::sweep::Totals;
use trialog_sim::tally::Tally;

use super::progress::Progress;
use super::{Ended, Many, record, signal};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    many: Many,
    /// Stop at the first failure; without --seeds, go on until there is one.
    #[arg(long)]
    until_fail: bool,
    /// Write what the seeds came to into this file, for `sum`.
    #[arg(long, value_name = "FILE")]
    tally: Option<PathBuf>,
    #[command(flatten)]
    end: End,
}

/// What is told of a sweep when it is over.
#[derive(Args)]
pub struct End {
    /// Print the totals as JSON.
    #[arg(long)]
    json: bool,
    /// Add the seeds to sim/record.md, and print their row of it.
    #[arg(long)]
    record: bool,
    /// List what was reached, too, as `coverage` does.
    #[arg(long, conflicts_with = "json")]
    coverage: bool,
    /// Fail if a kind of fault never fired, if a rare path was never taken that a run can take, or if
    /// of the pairs of faults, or of a fault and an API, fewer than 99 % came together in a seed.
    #[arg(long, requires = "coverage")]
    demand: bool,
}

/// How many seeds a sweep has if nobody says it.
const SEEDS: u64 = 100;

/// The same; all there are, if only a failure is to end it.
fn seeds_unless_said(until_fail: bool) -> u64 {
    if until_fail { u64::MAX } else { SEEDS }
}

/// Sweeps.
pub fn run(arguments: &Arguments) -> Result<Ended, String> {
    let Arguments { many, until_fail, tally: file, end } = arguments;
    // Now, and not after hours.
    let commit = (end.record || file.is_some()).then(record::commit).transpose()?;
    let mut tally = Tally::new(commit, many.size, many.part(seeds_unless_said(*until_fail)));
    let printing = if end.json { Printing::Nothing } else { Printing::Failures };
    let totals = sweep(many, is_sample, *until_fail, printing, |outcome| tally.add(outcome))?;
    tally.totals = totals;
    if let Some(file) = file {
        let text = serde_json::to_string(&tally).expect("plain data") + "\n";
        std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    end.tell(&tally)
}

impl End {
    /// Prints each failure with its command, as a sweep does that goes on.
    pub fn tell_failures(&self, tally: &Tally) {
        let told = tally.totals.failures.iter().filter(|_| !self.json);
        told.for_each(|failure| eprintln!("{failure}"));
    }

    /// Prints what was asked for, and says how it ended.
    pub fn tell(&self, tally: &Tally) -> Result<Ended, String> {
        let Tally { commit, size, totals, coverage, .. } = tally;
        if self.json {
            println!("{}", serde_json::to_string(totals).expect("plain data"));
        } else {
            print!("{totals}");
        }
        if self.coverage {
            print!("\n{coverage}");
        }
        if self.record {
            let commit = commit.as_ref().ok_or("nobody knows of which commit it is")?;
            let row = record::add(commit, *size, totals)?;
            if !self.json {
                print!("{row}");
            }
        }
        let unmet = if self.demand { coverage.unmet() } else { Vec::new() };
        Ok(Ended::of(totals, unmet))
    }
}

/// Whether a run is repeated in a fresh process: every failure, and one in ten that passed.
fn is_sample(outcome: &Outcome) -> bool {
    outcome.wrong.is_some() || outcome.seed.is_multiple_of(10)
}

/// What a sweep prints on standard error while it goes on, beside its progress.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Printing {
    /// Each failure, with its command.
    Failures,
    /// Nothing: what comes at the end is all.
    Nothing,
}

/// Runs the seeds of `many`; `each` hears of every one, failed or not. Ends early when a signal says so.
pub fn sweep(
    many: &Many,
    again: impl Fn(&Outcome) -> bool + Sync,
    until_fail: bool,
    printing: Printing,
    mut each: impl FnMut(&Outcome),
) -> Result<Totals, String> {
    let seeds = seeds_unless_said(until_fail);
    let (mut totals, mut progress) = (Totals::default(), Progress::new(many.count(seeds)));
    let deadline = many.time_limit.map(|limit| Instant::now() + limit);
    let in_time = move || deadline.is_none_or(|deadline| Instant::now() < deadline);
    let runs = many.runs(seeds).take_while(move |_| in_time());
    let crew = many.crew()?;
    signal::watch(crew.stop.clone())?;
    crew.work(runs, &again, |_, outcome| {
        totals.twice += u64::from(again(&outcome));
        each(&outcome);
        let failed = outcome.wrong.is_some();
        if failed && printing == Printing::Failures {
            progress.print(&outcome);
        }
        totals.add(outcome);
        progress.step(&totals);
        if failed && until_fail { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    totals.interrupted = crew.stop.is_asked();
    totals.finish(progress.end());
    Ok(totals)
}
