//! `cargo sim seeds`: every seed that ever failed.

use std::ops::ControlFlow;

use clap::Args;
use trialog_sim::seeds;
use trialog_sim::sweep::Totals;

use super::{Ended, crew};

#[derive(Args)]
pub struct Arguments {
    /// How many at a time; as many as there are processors if it is not said.
    #[arg(long)]
    jobs: Option<usize>,
}

/// Runs the seeds of seeds.txt, each twice.
pub fn run(arguments: &Arguments) -> Result<Ended, String> {
    let stories = seeds::read(seeds::FILE)?;
    let mut totals = Totals::default();
    let runs = stories.iter().map(|story| story.run.clone());
    crew(arguments.jobs)?.work(
        runs,
        |_| true,
        |run, outcome| {
            if outcome.wrong.is_some() {
                let story = stories.iter().find(|story| story.run == *run);
                let story = story.map_or("", |story| story.story.as_str());
                println!("it has failed before: {story}\n{outcome}");
            }
            totals.add(outcome);
            ControlFlow::Continue(())
        },
    );
    println!("{} of {} old seeds pass", totals.passed, totals.seeds());
    Ok((&totals).into())
}
