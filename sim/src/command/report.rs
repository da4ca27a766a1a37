//! `cargo sim report`: one run on one page.

use std::path::PathBuf;

use clap::Args;
use trialog_sim::outcome::on;
use trialog_sim::panicked;
use trialog_sim::report;
use trialog_sim::scenario::{self, Failed, Run, Watch};

use super::One;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    one: One,
    /// Where to write it; seed-SEED.html if it is not said.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs the seed and writes the page.
pub fn run(arguments: &Arguments) -> Result<Option<Failed>, String> {
    let run = Run { watch: Watch::Tape, ..arguments.one.run() };
    panicked::hush();
    let result = scenario::run_on(arguments.one.disk(), &run);
    let mut data = report::Data::of(&result);
    data.command = on(data.command, arguments.one.disk());
    let page = report::page(&data);
    let path = arguments.output.clone();
    let path = path.unwrap_or_else(|| format!("seed-{}.html", run.seed).into());
    std::fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{}: {} events", path.display(), data.events());
    Ok(result.err().map(|failure| failure.how))
}
