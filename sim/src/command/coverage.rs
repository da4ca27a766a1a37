//! `cargo sim coverage`: what does a sweep reach?

use clap::Args;
use trialog_sim::coverage::Coverage;
use trialog_sim::scenario::Failed;

use super::Many;
use super::run::{Printing, sweep};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    many: Many,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// Sweeps and lists what was reached.
pub fn run(arguments: &Arguments) -> Result<Option<Failed>, String> {
    let mut coverage = Coverage::default();
    let totals = sweep(
        &arguments.many,
        |_| false,
        false,
        Printing::Nothing,
        |outcome| {
            coverage.add(outcome);
        },
    )?;
    if arguments.json {
        println!("{}", serde_json::to_string(&coverage).expect("plain data"));
    } else {
        print!("{coverage}");
        for failure in &totals.failures {
            println!("\n{failure}");
        }
    }
    Ok(totals.gravest())
}
