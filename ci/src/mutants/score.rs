//! How the planted bugs were found: one line each, the verdict over all, and the table that is kept.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::stand::Catch;

/// The median of all bugs must be below it.
const MEDIAN_MAX: u64 = 200;
/// Where the table is kept.
const KEPT: &str = "sim/mutants/score.md";

/// One line of the table.
pub struct Score {
    /// The bug's.
    pub name: String,
    /// Who should find it.
    pub expected: BTreeSet<String>,
    /// One for each sweep.
    pub catches: Vec<Catch>,
    /// Real time, the build's included.
    pub elapsed: Duration,
}

impl Score {
    /// The head of the printed table.
    pub const HEAD: &str = "bug                            found by                        \
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

    /// For a sentence.
    pub fn short(&self) -> String {
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

    /// The line as it is printed.
    pub fn line(&self) -> String {
        format!(
            "{:30} {:31} {:31} {:16} {:>6} {:5.0} s{}",
            self.name,
            list(&self.found_by()),
            list(&self.expected),
            self.seeds().map(text).collect::<Vec<_>>().join(" "),
            text(self.median()),
            self.elapsed.as_secs_f64(),
            self.wrong()
        )
    }

    /// The line as it is kept.
    fn row(&self, commit: &str) -> Row {
        Row {
            name: self.name.clone(),
            found_by: self.found_by().into_iter().collect::<Vec<_>>().join(", "),
            seeds: self.seeds().map(text).collect::<Vec<_>>().join(", "),
            median: self.median().unwrap_or(u64::MAX),
            commit: commit.to_owned(),
        }
    }
}

/// One row of the table that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    name: String,
    found_by: String,
    seeds: String,
    median: u64,
    /// Of what the bug was planted in.
    commit: String,
}

impl Row {
    fn line(&self) -> String {
        let Row { name, found_by, seeds, median, commit } = self;
        format!("| {name} | {found_by} | {seeds} | {median} | {commit} |\n")
    }

    /// Reads a row; its head is none.
    fn read(line: &str) -> Option<Row> {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, found_by, seeds, median, commit, _] = cells[..] else { return None };
        let [name, found_by, seeds, commit] = [name, found_by, seeds, commit].map(str::to_owned);
        Some(Row { name, found_by, seeds, median: median.parse().ok()?, commit })
    }
}

fn text(seeds: Option<u64>) -> String {
    seeds.map_or_else(|| "-".to_owned(), |seeds| seeds.to_string())
}

/// Names in a row.
pub fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// The middle and the largest of the bugs' medians.
fn middle_and_most(medians: impl Iterator<Item = u64>) -> (u64, u64) {
    let mut medians: Vec<u64> = medians.collect();
    medians.sort_unstable();
    let most = medians.last().copied().unwrap_or(0);
    (medians.get(medians.len() / 2).copied().unwrap_or(0), most)
}

/// Whether the simulator has found what it should, by whom it should, soon enough.
pub fn verdict(scores: &[Score]) -> Result<String, String> {
    let wrong: Vec<&str> =
        scores.iter().filter(|score| !score.right()).map(|score| score.name.as_str()).collect();
    if !wrong.is_empty() {
        return Err(format!("not found, or not by whom they should: {}", wrong.join(", ")));
    }
    let (median, most) = middle_and_most(scores.iter().filter_map(Score::median));
    if median >= MEDIAN_MAX {
        return Err(format!("half of the bugs take {median} seeds or more; agreed: {MEDIAN_MAX}"));
    }
    Ok(format!("{} bugs, all found; seeds needed: median {median}, most {most}", scores.len()))
}

/// Writes these scores into the table that is kept, with the commit that they are of. Of other bugs
/// what was known stays, as long as there are such `bugs`. What was not found is not kept.
pub fn keep(root: &Path, scores: &[Score], bugs: &[String]) -> Result<(), String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(root).args(arguments).output();
        let output = output.map_err(|error| format!("cannot run git: {error}"))?;
        Ok::<_, String>(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=10", "HEAD"])?;
    let path = root.join(KEPT);
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    // The table itself changes nothing.
    let changed = changed.lines().any(|line| !line.ends_with(KEPT));
    let commit = commit + if changed { "+" } else { "" };
    let text = fs::read_to_string(&path).unwrap_or_default();
    let rows = scores.iter().filter(|score| score.right());
    let rows = rows.map(|score| score.row(&commit)).collect();
    fs::write(path, table(&text, rows, bugs)).map_err(|error| format!("{KEPT}: {error}"))
}

/// The table of `text` with newer rows.
fn table(text: &str, newer: Vec<Row>, bugs: &[String]) -> String {
    let mut rows: Vec<Row> = text.lines().filter_map(Row::read).collect();
    rows.retain(|row| bugs.contains(&row.name) && newer.iter().all(|new| new.name != row.name));
    rows.extend(newer);
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let (median, most) = middle_and_most(rows.iter().map(|row| row.median));
    let lines: String = rows.iter().map(Row::line).collect();
    format!(
        "# Planted bugs, and how they were found\n\n\
         Written by `cargo ci mutants --keep`. A bug is planted in a copy of the tree as of its \
         commit (with a plus sign: and of what was changed since), and seeds are run until one fails: \
         so many of each sweep, a million seeds apart. Agreed: every bug is found, each by a checker \
         that its header names, and the middle one of all medians is below {MEDIAN_MAX} seeds. It is \
         {median} for {count} bugs, and {most} for the one that takes longest.\n\n\
         | bug | found by | seeds | median | commit |\n|---|---|---|---:|---|\n{lines}",
        count = rows.len(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn newer_rows_take_the_place_of_older_ones() {
        let one = score(&["a"], vec![caught(7, &["a", "b"]), Catch::Missed, caught(9, &["a"])]);
        let bugs = ["x", "y"].map(str::to_owned);
        let old = "| bug | found by | seeds | median | commit |\n|---|---|---|---:|---|\n\
                   | gone | a | 1 | 1 | old |\n| x | a | 1 | 1 | old |\n| y | c | 5 | 5 | old |\n";
        let table = table(old, vec![one.row("new")], &bugs);
        let rows = "|---|\n| x | a, b | 7, -, 9 | 9 | new |\n| y | c | 5 | 5 | old |\n";
        assert!(table.ends_with(rows), "{table}");
        assert!(table.contains("It is 9 for 2 bugs"), "{table}");
    }
}
