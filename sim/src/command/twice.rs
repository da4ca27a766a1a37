//! `cargo sim twice`: is it deterministic?

use clap::Args;
use trialog_sim::scenario::Failed;

use super::run::{Printing, sweep};
use super::{Ended, Many};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    many: Many,
    /// Print the hash of every seed, to compare with those of another build.
    #[arg(long)]
    digests: bool,
}

/// Runs every seed twice.
pub fn run(arguments: &Arguments) -> Result<Ended, String> {
    let mut digests = Vec::new();
    let totals = sweep(
        &arguments.many,
        |_| true,
        false,
        Printing::Failures,
        |outcome| {
            let digest = outcome.digest.clone().unwrap_or_else(|| "-".to_owned());
            digests.push((outcome.seed, digest));
        },
    )?;
    if arguments.digests {
        digests.sort_unstable();
        for (seed, digest) in digests {
            println!("{seed} {digest}");
        }
    }
    let differ = totals.failures.iter().filter_map(|outcome| outcome.wrong.as_ref());
    let differ = differ.filter(|wrong| wrong.how == Failed::Determinism).count();
    eprintln!("{} seeds, each twice in processes of its own: {differ} differ", totals.seeds());
    Ok((&totals).into())
}
