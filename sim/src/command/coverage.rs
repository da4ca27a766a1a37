//! `cargo sim coverage`: what does a sweep reach?

use clap::Args;
use trialog_sim::coverage::Coverage;

use super::run::{Printing, sweep};
use super::{Ended, Many};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    many: Many,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// Sweeps and lists what was reached.
pub fn run(arguments: &Arguments) -> Result<Ended, String> {
    let mut coverage = Coverage::of(arguments.many.size);
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
    Ok((&totals).into())
}
