//! `cargo sim report`: one run on one page.

use std::path::PathBuf;

use clap::Args;
use trialog_sim::report;
use trialog_sim::scenario::BrokerDisk;
use trialog_sim::scenario::{self, Failed, Run, Watch};

use super::One;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    one: One,
    /// Where to write it; seed-SEED.html if it is not said.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Put the brokers on disks that say that they have flushed, and have not: to see the report
    /// of a failure.
    #[arg(long)]
    lying_disk: bool,
}

/// Runs the seed and writes the page.
pub fn run(arguments: &Arguments) -> Result<Option<Failed>, String> {
    let run = Run { watch: Watch::Tape, ..arguments.one.run() };
    std::panic::set_hook(Box::new(|_| {}));
    let disk = if arguments.lying_disk { BrokerDisk::Lying } else { BrokerDisk::Honest };
    let result = scenario::run_on(disk, &run);
    let page = report::page(&report::Data::of(&result));
    let path = arguments.output.clone();
    let path = path.unwrap_or_else(|| format!("seed-{}.html", run.seed).into());
    std::fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{}", path.display());
    Ok(result.err().map(|failure| failure.how))
}
