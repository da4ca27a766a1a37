//! `cargo sim sum`: a sweep that several machines have shared.

use std::path::{Path, PathBuf};

use clap::Args;
use trialog_sim::tally::Tally;

use super::Ended;
use super::run::End;

#[derive(Args)]
pub struct Arguments {
    /// What `run --tally` has written on each of them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    end: End,
}

/// Adds the tallies up, and tells of the sum as `run` does of a sweep.
pub fn run(arguments: &Arguments) -> Result<Ended, String> {
    let mut sum: Option<Tally> = None;
    for file in &arguments.files {
        let of_file = |error: String| format!("{}: {error}", file.display());
        let tally = read(file).map_err(of_file)?;
        match &mut sum {
            None => sum = Some(tally),
            Some(sum) => sum.merge(tally).map_err(of_file)?,
        }
    }
    let sum = sum.ok_or("no tally was named")?;
    arguments.end.tell_failures(&sum);
    let ended = arguments.end.tell(&sum)?;
    let missing = sum.missing();
    match ended {
        // A part that nobody has heard of may have failed; what did fail says more.
        Ended::Failed(how) => Ok(Ended::Failed(how)),
        _ if !missing.is_empty() => Err(format!("parts are missing: {}", missing.join(", "))),
        ended => Ok(ended),
    }
}

fn read(file: &Path) -> Result<Tally, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}
