//! `cargo sim run`: a sweep.

#![allow(clippy::disallowed_methods, reason = "how long a sweep takes is real time")]

use std::ops::ControlFlow;
use std::time::Instant;

use clap::Args;
use trialog_sim::coverage::Coverage;
use trialog_sim::outcome::Outcome;
use trialog_sim::sweep::Totals;

use super::progress::Progress;
use super::{Ended, Many, record, signal};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    many: Many,
    /// Stop at the first failure; without --seeds, go on until there is one.
    #[arg(long)]
    until_fail: bool,
    /// Print the totals as JSON.
    #[arg(long)]
    json: bool,
    /// Add the seeds to sim/record.md.
    #[arg(long)]
    record: bool,
    /// List what was reached, too, as `coverage` does.
    #[arg(long, conflicts_with = "json")]
    coverage: bool,
}

/// How many seeds a sweep has if nobody says it.
const SEEDS: u64 = 100;

/// Sweeps.
pub fn run(arguments: &Arguments) -> Result<Ended, String> {
    let Arguments { many, until_fail, json, record, coverage } = arguments;
    let printing = if *json { Printing::Nothing } else { Printing::Failures };
    let mut reached = Coverage::of(many.size);
    let totals = sweep(many, is_sample, *until_fail, printing, |outcome| reached.add(outcome))?;
    if *json {
        println!("{}", serde_json::to_string(&totals).expect("plain data"));
    } else {
        print!("{totals}");
    }
    if *coverage {
        print!("\n{reached}");
    }
    if *record {
        record::add(many.size, &totals)?;
    }
    Ok((&totals).into())
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
    // All there are, if only a failure is to end it.
    let seeds = if until_fail { u64::MAX } else { SEEDS };
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
