//! `cargo sim shrink`: the smallest run that still fails in the same way.

#![allow(clippy::disallowed_methods, reason = "the search is bounded by real time")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use clap::Args;
use trialog_sim::crew::Crew;
use trialog_sim::outcome::{Outcome, Wrong, command, on};
use trialog_sim::scenario::{self, BrokerDisk, Cut, Failed, Run};
use trialog_sim::shrink::{Shrinking, Size};

use super::{One, crew, duration};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    one: One,
    /// How long to search: 60s, 10m.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    time_limit: Duration,
    /// How many runs at a time; as many as there are processors if it is not said.
    #[arg(long)]
    jobs: Option<usize>,
}

/// Shrinks a failing run.
pub fn run(arguments: &Arguments) -> Result<Option<Failed>, String> {
    let (run, begun) = (arguments.one.run(), Instant::now());
    let disk = arguments.one.disk();
    let crew = Crew { disk, ..crew(arguments.jobs)? };
    let first = crew.alone(&run);
    let Some(wanted) = &first.wrong else {
        return Err(format!("seed {} passes: there is nothing to shrink", run.seed));
    };
    println!("it fails: {:?}, {}", wanted.how, wanted.found_by.join(", "));
    let mut shrinking = Shrinking::new(first.planned, first.steps.clone(), run.cut.clone());
    let whole = shrinking.size();
    let mut tried = 0;
    shrinking.shrink(crew.jobs, |cuts| {
        if begun.elapsed() >= arguments.time_limit {
            return None;
        }
        tried += cuts.len();
        Some(still_fail(&crew, &run, cuts, wanted))
    });
    let small = Run { cut: shrinking.cut().clone(), ..run };
    let left = shrinking.size();
    let (before, after) = (whole.faults + whole.steps, left.faults + left.steps);
    println!(
        "{} faults and {} client steps of {} and {} are left ({:.1} % fewer), after {tried} runs \
         in {:.0} s",
        left.faults,
        left.steps,
        whole.faults,
        whole.steps,
        100.0 * (before - after) as f64 / before.max(1) as f64,
        begun.elapsed().as_secs_f64(),
    );
    explain(disk, &small, &first, left);
    println!("\n  {}", on(command(&small), disk));
    Ok(Some(wanted.how))
}

/// Which of the cuts leave a run that fails in the way that is wanted.
fn still_fail(crew: &Crew, run: &Run, cuts: &[Cut], wanted: &Wrong) -> Vec<bool> {
    let mut verdicts = BTreeMap::new();
    let runs = cuts.iter().map(|cut| Run { cut: cut.clone(), ..run.clone() });
    crew.work(
        runs,
        |_| false,
        |run, outcome| {
            let same = outcome.wrong.is_some_and(|wrong| is_same(&wrong, wanted));
            verdicts.insert(run.cut.to_string(), same);
            ControlFlow::Continue(())
        },
    );
    cuts.iter().map(|cut| verdicts[&cut.to_string()]).collect()
}

/// Whether the same checker fired.
fn is_same(found: &Wrong, wanted: &Wrong) -> bool {
    found.how == wanted.how && found.found_by.iter().any(|by| wanted.found_by.contains(by))
}

/// Prints the plan that is left, who still does something, and what is seen then.
fn explain(disk: BrokerDisk, run: &Run, whole: &Outcome, left: Size) {
    let result = scenario::run_on(disk, run);
    let failure = result.as_ref().err();
    let facts = match &result {
        Ok(passed) => &passed.facts,
        Err(failure) => &failure.facts,
    };
    println!("\nthe faults that are left:");
    for (index, planned) in facts.plan.faults.iter().enumerate() {
        if !run.cut.faults.contains(&index) {
            println!("{:>4} {:>9.3} s  {:?}", index, planned.at.as_secs_f64(), planned.fault);
        }
    }
    println!("the {} steps that are left:", left.steps);
    for client in (0..whole.steps.len()).filter(|client| !run.cut.clients.contains(client)) {
        let gone = run.cut.steps.iter().filter(|step| step.client == client).count();
        println!(
            "{client:>4} {} of {} steps",
            whole.steps[client] as usize - gone,
            whole.steps[client]
        );
    }
    if let Some(failure) = failure {
        println!("\n{}", failure.text.trim_end());
    }
}
