//! Planted bugs: what the simulator must find, or it is no judge.
//!
//! `sim/mutants/NAME.patch` each re-create a bug that a real system had. Before the diff stands a
//! header, one field a line, a field going on in the lines that begin with a space:
//!
//! ```text
//! bug: what goes wrong
//! like: the real bug that it re-creates, and where that is described
//! caught-by: checkers and invariants, each of which names it rightly
//! seeds: within how many seeds it must be caught
//! ```
//!
//! A patch is applied to a copy of the tree below `target/mutants`, so that the product carries no
//! trace of it; that copy is built into a target directory of its own, which keeps everything but
//! the engine and what stands on it. Bugs behind a switch share a build ([`stand`]). A bug counts as
//! found when the first seed that fails is failed by a checker that should.

mod names;
mod patch;
mod score;
mod stand;

use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use patch::{FOLDER, Mutant};
use score::{Score, list, verdict};
use stand::{Catch, Effort, Stand};

pub use names::check as check_names;

/// Sweeps of one bug by `cargo ci mutants`.
const SWEEPS: u64 = 3;
/// Seeds that the tree without a bug must pass, or no catch means anything.
const CONTROL_SEEDS: u64 = 100;
/// Bugs that the gate sweeps, other ones each day.
const SAMPLE: usize = 2;

/// How to call it.
pub const USAGE: &str = "cargo ci mutants [--sweeps N] [--from SEED] [--most SEEDS] [--jobs N] [--control | [--keep] NAME...]";

/// What `cargo ci mutants` was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    effort: Effort,
    /// Only the tree without a bug.
    control: bool,
    /// Write the outcome into the table that is kept.
    keep: bool,
    /// These bugs only; all if there are none.
    names: Vec<String>,
}

impl Wish {
    fn read(arguments: &[String]) -> Result<Wish, String> {
        let mut effort = Effort { sweeps: SWEEPS, from: 0, jobs: cores(), most: u64::MAX };
        let (mut control, mut keep, mut names) = (false, false, Vec::new());
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut number = || {
                let text = rest.next().map_or("", String::as_str);
                let number = text.parse::<u64>();
                number.map_err(|_| format!("{argument} '{text}' is not a number; {USAGE}"))
            };
            match argument.as_str() {
                "--sweeps" => effort.sweeps = number()?.max(1),
                "--from" => effort.from = number()?,
                "--most" => effort.most = number()?,
                "--jobs" => effort.jobs = number()?.clamp(1, 64) as usize,
                "--control" => control = true,
                "--keep" => keep = true,
                option if option.starts_with('-') => {
                    return Err(format!("there is no option {option}; {USAGE}"));
                }
                name => names.push(name.to_owned()),
            }
        }
        if control && (keep || !names.is_empty()) {
            return Err(format!("that contradicts itself; {USAGE}"));
        }
        Ok(Wish { effort, control, keep, names })
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `cargo ci mutants`: plants all, or those named, and prints the score.
pub fn all(root: &Path, arguments: &[String]) -> Result<String, String> {
    let Wish { effort, control, keep, names } = Wish::read(arguments)?;
    let mutants = patch::read_all(root)?;
    if let Some(unknown) = names.iter().find(|name| mutants.iter().all(|one| one.name != **name)) {
        let known: Vec<&str> = mutants.iter().map(|one| one.name.as_str()).collect();
        return Err(format!("there is no {unknown} in {FOLDER}; there are {}", known.join(", ")));
    }
    let stand = Stand::set_up(root)?;
    if names.is_empty() {
        let binary = stand.build()?;
        let control = stand.sweep(&binary, "", effort.from, CONTROL_SEEDS, effort.jobs)?;
        if let Catch::Caught { seed, by, .. } = control {
            let by = list(&by);
            return Err(format!("without any bug, seed {seed} is failed by {by}: mend that first"));
        }
        println!("no bug: {CONTROL_SEEDS} seeds pass\n");
    }
    if control {
        return Ok(String::new());
    }
    println!("{}", Score::HEAD);
    let chosen = mutants.iter().filter(|one| names.is_empty() || names.contains(&one.name));
    let (scores, broken) = try_all(&stand, chosen.collect(), effort, |line| println!("{line}"));
    if keep {
        let bugs: Vec<String> = mutants.into_iter().map(|mutant| mutant.name).collect();
        score::keep(root, &scores, &bugs)?;
    }
    if broken.is_empty() { verdict(&scores) } else { Err(broken) }
}

/// Plants and sweeps; `say` is told each score. Also returns what could not be tried, and why.
fn try_all(
    stand: &Stand,
    mut left: Vec<&Mutant>,
    effort: Effort,
    say: impl Fn(&str),
) -> (Vec<Score>, String) {
    let (mut scores, mut broken) = (Vec::new(), String::new());
    while let Some(first) = left.first() {
        let name = first.name.clone();
        let (planted, rest) = match stand.plant(&left) {
            Ok(planted) => planted,
            Err(reason) => {
                let _ = writeln!(broken, "{reason}");
                left.remove(0);
                continue;
            }
        };
        left = rest;
        let binary = match stand.build() {
            Ok(binary) => binary,
            Err(reason) => {
                let _ = writeln!(broken, "with {name} the simulator does not build:\n{reason}");
                continue;
            }
        };
        for mutant in planted {
            match stand.try_out(&binary, mutant, effort) {
                Ok(score) => {
                    say(&score.line());
                    scores.push(score);
                }
                Err(reason) => {
                    let _ = writeln!(broken, "{}: {reason}", mutant.name);
                }
            }
        }
    }
    (scores, broken)
}

/// The gate's step: every patch applies, all that can be planted together are built, and two of them
/// are found.
pub fn sample(root: &Path) -> Result<String, String> {
    let mutants = patch::read_all(root)?;
    let mut wrong = String::new();
    for mutant in &mutants {
        if let Err(reason) = mutant.apply(root, &["--check"]) {
            let _ = writeln!(wrong, "{reason}");
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let day = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let day = day.map_or(0, |since| since.as_secs() / (24 * 60 * 60)) as usize;
    let stand = Stand::set_up(root)?;
    // Those of the day come first: the others are planted beside them as far as they fit.
    let mut turn: Vec<&Mutant> = mutants.iter().collect();
    turn.rotate_left(SAMPLE * day % mutants.len().max(1));
    let (planted, _) = stand.plant(&turn)?;
    let binary = stand.build().map_err(|reason| {
        format!("{} planted bugs together do not build:\n{reason}", planted.len())
    })?;
    let effort = Effort { sweeps: 1, from: 0, jobs: cores(), most: u64::MAX };
    let chosen = planted.iter().take(SAMPLE);
    let scores: Result<Vec<Score>, String> =
        chosen.map(|mutant| stand.try_out(&binary, mutant, effort)).collect();
    let scores = scores?;
    verdict(&scores)?;
    let found: Vec<String> = scores.iter().map(Score::short).collect();
    let (all, found) = (mutants.len(), found.join(", "));
    Ok(format!("{all} patches apply, {} build together; found: {found}", planted.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_understood() {
        let read = |text: &str| {
            Wish::read(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        let wish = read("--sweeps 1 a --jobs 2 --from 7 b").expect("as the usage says");
        assert_eq!(wish.effort, Effort { sweeps: 1, from: 7, jobs: 2, most: u64::MAX });
        assert_eq!((wish.keep, wish.names), (false, vec!["a".to_owned(), "b".to_owned()]));
        assert!(read("--keep").is_ok_and(|wish| wish.keep && wish.effort.sweeps == SWEEPS));
        for bad in ["--control a", "--control --keep", "--sweeps", "--sweeps few", "--fast"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
