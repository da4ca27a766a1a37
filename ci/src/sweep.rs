//! The simulator's part of the gate: a sweep of fresh seeds, the old ones, determinism.
//!
//! What the simulator prints is shown as it comes; what is checked here is its exit code, and that
//! builds agree. All of it is bounded in time: the gate must stay well under an hour.

#![allow(clippy::disallowed_methods, reason = "the date picks the seeds of the day")]

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

/// How many fresh seeds a day has; more than any gate runs.
const SEEDS_PER_DAY: u64 = 1_000_000;
/// The profiles whose runs must agree: with assertions and without, optimised and hardly.
const PROFILES: [&str; 3] = ["test", "sim", "release"];
/// What must agree: seeds of each size. The large ones take most of the time in builds that are hardly
/// optimised, so there are few.
const AGREE: [(&str, &str); 2] = [("small", "10"), ("full", "3")];

/// Sweeps a range of seeds that nobody has run before today.
pub fn fresh(root: &Path) -> Result<String, String> {
    let from = today() * SEEDS_PER_DAY;
    let arguments = format!("run --seeds 400 --from {from} --time-limit 4m");
    println!("      cargo sim {arguments}");
    sim(root, "sim", &arguments.split(' ').collect::<Vec<_>>(), Output::Shown)?;
    Ok(format!("seeds from {from}"))
}

/// Runs every seed that ever failed.
pub fn old(root: &Path) -> Result<String, String> {
    sim(root, "sim", &["seeds"], Output::Shown).map(|_| String::new())
}

/// Runs a few seeds twice in processes of their own, in builds of every profile: all hashes of a
/// seed must be the same.
pub fn agree(root: &Path) -> Result<String, String> {
    let from = (today() * SEEDS_PER_DAY).to_string();
    for (size, seeds) in AGREE {
        let arguments = ["twice", "--seeds", seeds, "--from", &from, "--size", size, "--digests"];
        let mut first: Option<(&str, String)> = None;
        for profile in PROFILES {
            let digests = sim(root, profile, &arguments, Output::Taken)?;
            match &first {
                None => first = Some((profile, digests)),
                Some((other, expected)) if *expected != digests => {
                    let lines = expected.lines().zip(digests.lines());
                    let differ: Vec<String> = lines
                        .filter(|(a, b)| a != b)
                        .map(|(a, b)| format!("  {other}: {a}\n  {profile}: {b}"))
                        .collect();
                    return Err(format!("builds do not agree:\n{}", differ.join("\n")));
                }
                Some(_) => {}
            }
        }
    }
    let seeds = AGREE.map(|(size, seeds)| format!("{seeds} {size}")).join(" and ");
    Ok(format!("{seeds} seeds from {from} in {}", PROFILES.join(", ")))
}

/// What becomes of what the simulator prints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Shown,
    Taken,
}

/// How the simulator ended.
pub struct Ended {
    /// Its exit code; none if a signal ended it. `cargo sim --help` says what they mean.
    pub code: Option<i32>,
    /// What it printed, if that was taken.
    pub text: String,
}

/// Runs the simulator as it is built in `profile`; anything but success is an error.
fn sim(root: &Path, profile: &str, arguments: &[&str], output: Output) -> Result<String, String> {
    let Ended { code, text } = run(root, profile, arguments, output)?;
    if code == Some(0) {
        return Ok(text);
    }
    let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
    let command = arguments.join(" ");
    Err(format!("{text}exit code {code}; reproduce with: cargo sim {command}"))
}

/// Runs the simulator as it is built in `profile`.
pub fn run(
    root: &Path,
    profile: &str,
    arguments: &[&str],
    output: Output,
) -> Result<Ended, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["run", "--quiet", "--profile", profile]);
    command.args(["--package", "trialog-sim", "--bin", "trialog-sim", "--"]).args(arguments);
    let failed = |error: std::io::Error| format!("cannot run cargo: {error}");
    Ok(match output {
        Output::Shown => {
            Ended { code: command.status().map_err(failed)?.code(), text: String::new() }
        }
        Output::Taken => {
            let taken = command.output().map_err(failed)?;
            let text = String::from_utf8_lossy(&taken.stdout).into_owned();
            Ended { code: taken.status.code(), text }
        }
    })
}

/// Days since 1970.
fn today() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() / 86_400)
}
