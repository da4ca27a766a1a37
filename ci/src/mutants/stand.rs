//! Where bugs are planted: a copy of the tree, a folder of its own to build it in, and sweeps over
//! seeds until one fails.
//!
//! A build takes longer than most sweeps. So a patch may put its bug behind a switch,
//! `crate::probe::planted("NAME")`: a function that this adds to the copy, and that is true for the
//! one bug that the environment names. Bugs with switches are planted together, and built once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::patch::Mutant;
use super::score::Score;
use crate::rust;

/// The first seeds of two sweeps are so far apart.
const SWEEP_STRIDE: u64 = 1_000_000;
/// Real time after which a run counts as hung.
const RUN_LIMIT: Duration = Duration::from_secs(300);

/// The file of the copy that gets the switch.
const SWITCH_FILE: &str = "engine/src/probe.rs";
/// The variable that names the bug that is on.
const SWITCH_VARIABLE: &str = "TRIALOG_PLANTED";
/// The switch.
const SWITCH_TEXT: &str = "
/// Whether this planted bug is on.
pub fn planted(name: &str) -> bool {
    static ON: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    ON.get_or_init(|| std::env::var(\"TRIALOG_PLANTED\").unwrap_or_default()) == name
}
";

/// Bugs that were planted together, and those that are left.
pub type Planted<'a> = (Vec<&'a Mutant>, Vec<&'a Mutant>);

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Sweeps of one bug, far apart, so that one lucky seed decides nothing.
    pub sweeps: u64,
    /// The first seed of the first sweep.
    pub from: u64,
    /// Seeds that run at the same time.
    pub jobs: usize,
    /// Seeds of a sweep at most, if that is less than what a bug's header says.
    pub most: u64,
}

/// What came of one sweep.
#[derive(Debug, PartialEq, Eq)]
pub enum Catch {
    /// The first seed that failed, how many seeds that took, and who found what.
    Caught {
        /// The seed.
        seed: u64,
        /// How many seeds it took, this one included.
        seeds: u64,
        /// Who found what is wrong.
        by: BTreeSet<String>,
    },
    /// All seeds passed.
    Missed,
}

/// The copy of the tree, and where it is built.
pub struct Stand {
    root: PathBuf,
    tree: PathBuf,
    target: PathBuf,
}

impl Stand {
    /// Makes the copy.
    pub fn set_up(root: &Path) -> Result<Stand, String> {
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
    pub fn build(&self) -> Result<PathBuf, String> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let output = Command::new(cargo)
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            // Bugs are found in few seeds: what counts is how soon the build is done.
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .args(["build", "--quiet", "--package", "trialog-sim", "--bins"])
            .output()
            .map_err(|error| format!("cannot run cargo: {error}"))?;
        if output.status.success() {
            Ok(self.target.join("debug/trialog-sim"))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Plants the first of these bugs in a fresh copy and, if it has a switch, with it all others
    /// that have one and whose patches do not stand in its way. Returns those that are planted and
    /// those that are not.
    pub fn plant<'a>(&self, mutants: &[&'a Mutant]) -> Result<Planted<'a>, String> {
        self.restore()?;
        let (mut planted, mut left) = (Vec::new(), Vec::new());
        for &mutant in mutants {
            if planted.is_empty() {
                mutant.apply(&self.tree, &[])?;
                planted.push(mutant);
            } else if planted[0].has_switch
                && mutant.has_switch
                && mutant.apply(&self.tree, &[]).is_ok()
            {
                planted.push(mutant);
            } else {
                left.push(mutant);
            }
        }
        if planted.iter().any(|mutant| mutant.has_switch) {
            let path = self.tree.join(SWITCH_FILE);
            let failed = |error| format!("{SWITCH_FILE}: {error}");
            let text = fs::read_to_string(&path).map_err(failed)?;
            fs::write(&path, text + SWITCH_TEXT).map_err(failed)?;
        }
        Ok((planted, left))
    }

    /// Sweeps until a bug is found that is planted in `binary`, as often as the effort says.
    pub fn try_out(&self, binary: &Path, mutant: &Mutant, effort: Effort) -> Result<Score, String> {
        let begun = Instant::now();
        let mut catches = Vec::new();
        for sweep in 0..effort.sweeps {
            let from = effort.from + sweep * SWEEP_STRIDE;
            let limit = mutant.seeds.min(effort.most);
            catches.push(self.sweep(binary, &mutant.name, from, limit, effort.jobs)?);
        }
        Ok(Score {
            name: mutant.name.clone(),
            expected: mutant.expected.clone(),
            catches,
            elapsed: begun.elapsed(),
        })
    }

    /// Runs seeds from `from` on until one fails, `limit` of them at most, with this bug on.
    pub fn sweep(
        &self,
        binary: &Path,
        planted: &str,
        from: u64,
        limit: u64,
        jobs: usize,
    ) -> Result<Catch, String> {
        // What runs at the same time as the seed that fails is wasted.
        let at_once = 2 * jobs as u64;
        let mut done = 0;
        while done < limit {
            let count = at_once.min(limit - done);
            let said = self.run(binary, planted, from + done, count, jobs)?;
            let first = said.lines().filter_map(failed_seed).min_by_key(|(seed, _)| *seed);
            if let Some((seed, by)) = first {
                return Ok(Catch::Caught { seed, seeds: seed - from + 1, by });
            }
            done += count;
        }
        Ok(Catch::Missed)
    }

    /// What the simulator says about some seeds.
    fn run(
        &self,
        binary: &Path,
        planted: &str,
        from: u64,
        count: u64,
        jobs: usize,
    ) -> Result<String, String> {
        let path = self.target.join("said.txt");
        let file = fs::File::create(&path).map_err(|error| error.to_string())?;
        let mut running = Command::new(binary)
            .args(["run", "--from", &from.to_string(), "--seeds", &count.to_string()])
            .args(["--jobs", &jobs.to_string()])
            .env(SWITCH_VARIABLE, planted)
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

    #[test]
    fn what_the_simulator_says_is_understood() {
        let (seed, by) = failed_seed("seed 7 failed (Safety, lost-write, unseen): 3 sent").unwrap();
        assert_eq!((seed, by), (7, ["lost-write", "unseen"].map(str::to_owned).into()));
        assert_eq!(failed_seed("seed 7 passed"), None);
        assert_eq!(failed_seed("12 seeds, 3 failed (4)"), None);
    }
}
