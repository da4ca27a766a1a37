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
//! the engine and what stands on it. A bug counts as found when the first seed that fails is
//! failed by a checker that should.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use super::rust;

/// Where the patches lie.
const FOLDER: &str = "sim/mutants";
/// Sweeps of one bug by `cargo ci mutants`, far apart, so that one lucky seed decides nothing.
const SWEEPS: u64 = 3;
/// The first seeds of two sweeps are so far apart.
const SWEEP_STRIDE: u64 = 1_000_000;
/// Seeds that the tree without a bug must pass, or no catch means anything.
const CONTROL_SEEDS: u64 = 100;
/// Bugs that the gate sweeps, other ones each day.
const SAMPLE: usize = 2;
/// Seeds that are run between two looks at the result.
const SEEDS_AT_ONCE: u64 = 8;
/// Real time after which a run counts as hung.
const RUN_LIMIT: Duration = Duration::from_secs(300);
/// The median of all bugs must be below it.
const MEDIAN_MAX: u64 = 200;

/// A planted bug.
#[derive(Debug, PartialEq, Eq)]
struct Mutant {
    name: String,
    /// What goes wrong.
    bug: String,
    /// Who may find it.
    expected: BTreeSet<String>,
    /// Within how many seeds.
    seeds: u64,
    patch: PathBuf,
}

/// What came of one sweep.
#[derive(Debug, PartialEq, Eq)]
enum Catch {
    /// The first seed that failed, how many seeds that took, and who found what.
    Caught { seed: u64, seeds: u64, by: BTreeSet<String> },
    /// All seeds passed.
    Missed,
}

/// `cargo ci mutants [NAME...]`: plants all, or those named, and prints the score.
pub fn all(root: &Path, names: &[String]) -> Result<String, String> {
    let mutants = read_all(root)?;
    if let Some(unknown) = names.iter().find(|name| mutants.iter().all(|one| one.name != **name)) {
        let known: Vec<&str> = mutants.iter().map(|one| one.name.as_str()).collect();
        return Err(format!("there is no {unknown} in {FOLDER}; there are {}", known.join(", ")));
    }
    let stand = Stand::set_up(root)?;
    if names.is_empty() {
        let binary = stand.build()?;
        if let Catch::Caught { seed, by, .. } = stand.sweep(&binary, 0, CONTROL_SEEDS)? {
            let by = list(&by);
            return Err(format!("without any bug, seed {seed} is failed by {by}: mend that first"));
        }
        println!("no bug: {CONTROL_SEEDS} seeds pass\n");
    }
    println!("{}", Score::HEAD);
    let chosen = mutants.iter().filter(|one| names.is_empty() || names.contains(&one.name));
    let mut scores = Vec::new();
    for mutant in chosen {
        let score = stand.try_out(mutant, SWEEPS)?;
        println!("{}", score.line());
        scores.push(score);
    }
    verdict(&scores)
}

/// The gate's step: every patch applies, and two of them are found.
pub fn sample(root: &Path) -> Result<String, String> {
    let mutants = read_all(root)?;
    let mut wrong = String::new();
    for mutant in &mutants {
        if let Err(reason) = apply(root, mutant, &["--check"]) {
            let _ = writeln!(wrong, "{reason}");
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let day = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let day = day.map_or(0, |since| since.as_secs() / (24 * 60 * 60)) as usize;
    let stand = Stand::set_up(root)?;
    let mut scores = Vec::new();
    for turn in 0..SAMPLE.min(mutants.len()) {
        let mutant = &mutants[(SAMPLE * day + turn) % mutants.len()];
        scores.push(stand.try_out(mutant, 1)?);
    }
    verdict(&scores)?;
    let found: Vec<String> = scores.iter().map(Score::short).collect();
    Ok(format!("{} patches apply; found: {}", mutants.len(), found.join(", ")))
}

/// One line of the table.
struct Score {
    name: String,
    expected: BTreeSet<String>,
    catches: Vec<Catch>,
    elapsed: Duration,
}

impl Score {
    const HEAD: &str = "bug                            found by                        \
                        expected                        seeds            median   time";

    /// Whether every sweep ended with a checker that should.
    fn right(&self) -> bool {
        self.catches.iter().all(|catch| match catch {
            Catch::Caught { by, .. } => by.intersection(&self.expected).next().is_some(),
            Catch::Missed => false,
        })
    }

    /// Seeds of each sweep, `None` where the bug was missed.
    fn seeds(&self) -> impl Iterator<Item = Option<u64>> + '_ {
        self.catches.iter().map(|catch| match catch {
            Catch::Caught { seeds, .. } => Some(*seeds),
            Catch::Missed => None,
        })
    }

    fn median(&self) -> Option<u64> {
        let mut seeds: Vec<u64> = self.seeds().map(|seeds| seeds.unwrap_or(u64::MAX)).collect();
        seeds.sort_unstable();
        seeds.get(seeds.len() / 2).copied().filter(|&median| median < u64::MAX)
    }

    fn found_by(&self) -> BTreeSet<String> {
        let by = self.catches.iter().filter_map(|catch| match catch {
            Catch::Caught { by, .. } => Some(by.clone()),
            Catch::Missed => None,
        });
        by.flatten().collect()
    }

    fn short(&self) -> String {
        let seeds = self.median().map_or_else(|| "never".to_owned(), |seeds| seeds.to_string());
        format!("{} by {} after {seeds}", self.name, list(&self.found_by()))
    }

    /// The sweeps that did not end as they should.
    fn wrong(&self) -> String {
        let mut lines = String::new();
        for catch in &self.catches {
            match catch {
                Catch::Caught { by, .. } if by.intersection(&self.expected).next().is_some() => {}
                Catch::Caught { seed, by, .. } => {
                    let _ = write!(lines, "\n    seed {seed} was failed by {}", list(by));
                }
                Catch::Missed => lines.push_str("\n    one sweep passed"),
            }
        }
        lines
    }

    fn line(&self) -> String {
        let text = |seeds: Option<u64>| seeds.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let seeds: Vec<String> = self.seeds().map(text).collect();
        format!(
            "{:30} {:31} {:31} {:16} {:>6} {:5.0} s{}",
            self.name,
            list(&self.found_by()),
            list(&self.expected),
            seeds.join(" "),
            text(self.median()),
            self.elapsed.as_secs_f64(),
            self.wrong()
        )
    }
}

/// Whether the simulator has found what it should, by whom it should, soon enough.
fn verdict(scores: &[Score]) -> Result<String, String> {
    let wrong: Vec<&str> =
        scores.iter().filter(|score| !score.right()).map(|score| score.name.as_str()).collect();
    if !wrong.is_empty() {
        return Err(format!("not found, or not by whom they should: {}", wrong.join(", ")));
    }
    let mut medians: Vec<u64> = scores.iter().filter_map(Score::median).collect();
    medians.sort_unstable();
    let median = medians.get(medians.len() / 2).copied().unwrap_or(0);
    let most = medians.last().copied().unwrap_or(0);
    if median >= MEDIAN_MAX {
        return Err(format!("half of the bugs take {median} seeds or more; agreed: {MEDIAN_MAX}"));
    }
    Ok(format!("{} bugs, all found; seeds needed: median {median}, most {most}", scores.len()))
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// All patches, by name.
fn read_all(root: &Path) -> Result<Vec<Mutant>, String> {
    let folder = root.join(FOLDER);
    let entries = fs::read_dir(&folder).map_err(|error| format!("{FOLDER}: {error}"))?;
    let mut mutants = Vec::new();
    for entry in entries {
        let patch = entry.map_err(|error| format!("{FOLDER}: {error}"))?.path();
        if patch.extension().is_some_and(|extension| extension == "patch") {
            let text = fs::read_to_string(&patch).map_err(|error| error.to_string())?;
            let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let mutant = Mutant::read(&name, &text, patch);
            mutants.push(mutant.map_err(|what| format!("{FOLDER}/{name}.patch: {what}"))?);
        }
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    if mutants.is_empty() {
        return Err(format!("there is no patch in {FOLDER}"));
    }
    Ok(mutants)
}

impl Mutant {
    /// Reads the header of a patch.
    fn read(name: &str, text: &str, patch: PathBuf) -> Result<Mutant, String> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in text.lines().take_while(|line| !line.starts_with("--- ")) {
            if let (Some(more), Some((_, value))) = (line.strip_prefix(' '), fields.last_mut()) {
                value.push(' ');
                value.push_str(more.trim());
            } else if let Some((key, value)) = line.split_once(": ") {
                fields.push((key.to_owned(), value.trim().to_owned()));
            } else if !line.is_empty() {
                return Err(format!("'{line}' belongs to no field of the header"));
            }
        }
        let field = |key: &str| {
            let found = fields.iter().find(|(name, _)| name == key);
            found.map(|(_, value)| value.clone()).ok_or(format!("the header has no '{key}:'"))
        };
        field("like")?;
        let expected: BTreeSet<String> =
            field("caught-by")?.split(',').map(|name| name.trim().to_owned()).collect();
        let seeds = field("seeds")?.parse().map_err(|_| "'seeds:' is not a number".to_owned())?;
        Ok(Mutant { name: name.to_owned(), bug: field("bug")?, expected, seeds, patch })
    }
}

/// Has git apply a patch to the tree in `tree`, with these options.
fn apply(tree: &Path, mutant: &Mutant, options: &[&str]) -> Result<(), String> {
    let output = Command::new("git")
        .current_dir(tree)
        // The copy lies within the repository and is none of its folders.
        .env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree))
        .arg("apply")
        .args(options)
        .arg(&mutant.patch)
        .output()
        .map_err(|error| format!("cannot run git: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}.patch does not apply: {}", mutant.name, reason.trim()))
}

/// The copy of the tree, and where it is built.
struct Stand {
    root: PathBuf,
    tree: PathBuf,
    target: PathBuf,
}

impl Stand {
    fn set_up(root: &Path) -> Result<Stand, String> {
        let folder = root.join("target/mutants");
        let stand = Stand {
            root: root.to_owned(),
            tree: folder.join("tree"),
            target: folder.join("target"),
        };
        stand.restore()?;
        Ok(stand)
    }

    /// Makes the copy equal to the tree. A file that is equal keeps its time, so that cargo builds
    /// only what a patch changed.
    fn restore(&self) -> Result<(), String> {
        let failed = |path: &Path, error| format!("{}: {error}", path.display());
        // Cargo's settings are found in the folder above, and would count twice.
        let ours = |path: &String| !path.starts_with(".cargo/");
        let paths: BTreeSet<String> = rust::tracked(&self.root)?.into_iter().filter(ours).collect();
        for path in &paths {
            let (from, to) = (self.root.join(path), self.tree.join(path));
            // A file that is deleted and not yet committed so is still listed.
            let Ok(contents) = fs::read(&from) else { continue };
            if fs::read(&to).is_ok_and(|old| old == contents) {
                continue;
            }
            let folder = to.parent().unwrap_or(&self.tree);
            fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
            fs::write(&to, contents).map_err(|error| failed(&to, error))?;
        }
        let mut folders = vec![self.tree.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(|error| failed(&folder, error))? {
                let path = entry.map_err(|error| failed(&folder, error))?.path();
                let inside = path.strip_prefix(&self.tree).map_err(|error| error.to_string())?;
                if path.is_dir() {
                    folders.push(path);
                } else if !paths.contains(&*inside.to_string_lossy()) {
                    fs::remove_file(&path).map_err(|error| failed(&path, error))?;
                }
            }
        }
        Ok(())
    }

    /// Builds the simulator from the copy as it is.
    fn build(&self) -> Result<PathBuf, String> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let output = Command::new(cargo)
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            // Bugs are found in few seeds: what counts is how soon the build is done.
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
            .args(["build", "--quiet", "--package", "trialog-sim", "--bins"])
            .output()
            .map_err(|error| format!("cannot run cargo: {error}"))?;
        if output.status.success() {
            Ok(self.target.join("debug/trialog-sim"))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Plants one bug and sweeps until it is found, `sweeps` times.
    fn try_out(&self, mutant: &Mutant, sweeps: u64) -> Result<Score, String> {
        let begun = Instant::now();
        self.restore()?;
        apply(&self.tree, mutant, &[])?;
        let binary = self.build().map_err(|reason| {
            format!("with {} ({}) the simulator does not build:\n{reason}", mutant.name, mutant.bug)
        });
        let mut catches = Vec::new();
        for sweep in 0..sweeps {
            catches.push(self.sweep(binary.as_ref()?, sweep * SWEEP_STRIDE, mutant.seeds)?);
        }
        self.restore()?;
        Ok(Score {
            name: mutant.name.clone(),
            expected: mutant.expected.clone(),
            catches,
            elapsed: begun.elapsed(),
        })
    }

    /// Runs seeds from `from` on until one fails, `limit` of them at most.
    fn sweep(&self, binary: &Path, from: u64, limit: u64) -> Result<Catch, String> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        let mut done = 0;
        while done < limit {
            let count = SEEDS_AT_ONCE.min(limit - done);
            let said = self.run(binary, from + done, count, &jobs)?;
            let first = said.lines().filter_map(failed_seed).min_by_key(|(seed, _)| *seed);
            if let Some((seed, by)) = first {
                return Ok(Catch::Caught { seed, seeds: seed - from + 1, by });
            }
            done += count;
        }
        Ok(Catch::Missed)
    }

    /// What the simulator says about some seeds.
    fn run(&self, binary: &Path, from: u64, count: u64, jobs: &str) -> Result<String, String> {
        let path = self.target.join("said.txt");
        let file = fs::File::create(&path).map_err(|error| error.to_string())?;
        let mut running = Command::new(binary)
            .args(["run", "--from", &from.to_string(), "--seeds", &count.to_string()])
            .args(["--jobs", jobs])
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = running.try_wait().map_err(|error| error.to_string())? {
                break status;
            }
            if begun.elapsed() > RUN_LIMIT {
                let _ = running.kill();
                let _ = running.wait();
                return Ok(format!("seed {from} failed (Hang, hang): no end in {RUN_LIMIT:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let said = fs::read_to_string(&path).map_err(|error| error.to_string())?;
        if !status.success() && !said.lines().any(|line| failed_seed(line).is_some()) {
            return Err(format!("the simulator ended with {status}:\n{said}"));
        }
        Ok(said)
    }
}

/// The seed that a line of the simulator says has failed, and who found what.
fn failed_seed(line: &str) -> Option<(u64, BTreeSet<String>)> {
    let (seed, rest) = line.strip_prefix("seed ")?.split_once(" failed (")?;
    let (kind_and_names, _) = rest.split_once(')')?;
    let names = kind_and_names.split(", ").skip(1).map(str::to_owned).collect();
    Some((seed.parse().ok()?, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "bug: Acknowledged before\n it is flushed.\nlike: NATS\n\
                         caught-by: lost-write, unseen\nseeds: 50\n\n--- a/x\n+++ b/x\n";

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn score(expected: &[&str], catches: Vec<Catch>) -> Score {
        let elapsed = Duration::ZERO;
        Score { name: "x".to_owned(), expected: names(expected), catches, elapsed }
    }

    fn caught(seeds: u64, by: &[&str]) -> Catch {
        Catch::Caught { seed: seeds - 1, seeds, by: names(by) }
    }

    #[test]
    fn a_header_is_read_and_must_be_whole() {
        let mutant = Mutant::read("m", PATCH, PathBuf::new()).expect("a good header");
        assert_eq!(mutant.bug, "Acknowledged before it is flushed.");
        assert_eq!((mutant.expected, mutant.seeds), (names(&["lost-write", "unseen"]), 50));
        for field in ["bug", "like", "caught-by", "seeds"] {
            let without = PATCH.replace(&format!("{field}: "), &format!("un{field}: "));
            assert!(Mutant::read("m", &without, PathBuf::new()).is_err(), "{field}");
        }
    }

    #[test]
    fn what_the_simulator_says_is_understood() {
        let (seed, by) = failed_seed("seed 7 failed (Safety, lost-write, unseen): 3 sent").unwrap();
        assert_eq!((seed, by), (7, names(&["lost-write", "unseen"])));
        assert_eq!(failed_seed("seed 7 passed"), None);
        assert_eq!(failed_seed("12 seeds, 3 failed (4)"), None);
    }

    #[test]
    fn only_the_right_checker_counts_and_every_time() {
        let good = score(&["unseen"], vec![caught(3, &["lost-write", "unseen"])]);
        assert_eq!((good.right(), good.median()), (true, Some(3)));
        let three = vec![caught(9, &["unseen"]), caught(2, &["unseen"]), caught(5, &["unseen"])];
        assert_eq!(score(&["unseen"], three).median(), Some(5));
        let wrong = score(&["unseen"], vec![caught(3, &["panic"])]);
        let missed = score(&["unseen"], vec![caught(3, &["unseen"]), Catch::Missed]);
        assert!(!wrong.right() && !missed.right());
        assert!(verdict(&[wrong]).is_err());
        assert!(verdict(&[score(&["a"], vec![caught(200, &["a"])])]).is_err());
        assert!(verdict(&[good, score(&["a"], vec![caught(199, &["a"])])]).is_ok());
    }
}
