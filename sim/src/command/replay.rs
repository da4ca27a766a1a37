//! `cargo sim replay`: one seed, the same as ever.

#![allow(clippy::disallowed_methods, reason = "how long a run takes is real time")]

use std::time::Instant;

use clap::Args;
use trialog_sim::crew::Crew;
use trialog_sim::outcome::{Outcome, Wrong};
use trialog_sim::panicked;
use trialog_sim::scenario::{self, Failed, Run, Watch};

use super::{One, crew};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    one: One,
    /// Print every event to standard error, and of what brokers and clients report that which
    /// TRIALOG_LOG names: info, or trialog_engine::machine=debug.
    #[arg(long)]
    trace: bool,
    /// Run it once only, without comparing.
    #[arg(long)]
    once: bool,
}

/// Runs the seed in this process, and again in another one.
pub fn run(arguments: &Arguments) -> Result<Option<Failed>, String> {
    let run = arguments.one.run();
    let watch = if arguments.trace { Watch::Loud } else { Watch::Quiet };
    if arguments.trace {
        show_reports()?;
    }
    // The outcome carries a panic's text.
    panicked::hush();
    let begun = Instant::now();
    let disk = arguments.one.disk();
    let result = scenario::run_on(disk, &Run { watch, ..run.clone() });
    let mut outcome = Outcome::of(&result, begun.elapsed()).on(disk);
    if !arguments.once {
        outcome = Crew { disk, ..crew(Some(1))? }.confirm(&run, outcome);
    }
    print!("{outcome}");
    if outcome.wrong.is_none() {
        let Outcome { sent, acknowledged, read, simulated_ns, faults, .. } = &outcome;
        let seconds = *simulated_ns as f64 / 1e9;
        println!("{sent} sent, {acknowledged} acknowledged, {read} read in {seconds:.1} s");
        let faults: Vec<String> = faults.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        println!("faults fired: {}", faults.join(", "));
        if outcome.undecided > 0 {
            println!("topics that the judge could not settle: {}", outcome.undecided);
        }
        if !arguments.once {
            println!("a second run in another process went the same way");
        }
    }
    Ok(outcome.wrong.map(|Wrong { how, .. }| how))
}

/// Shows what the engine reports in between the events, whose times are the simulated ones.
fn show_reports() -> Result<(), String> {
    let Ok(directives) = std::env::var("TRIALOG_LOG") else { return Ok(()) };
    let filter = tracing_subscriber::EnvFilter::try_new(&directives)
        .map_err(|error| format!("TRIALOG_LOG={directives}: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
    Ok(())
}
