//! `sim/record.md`: how many seeds each commit has been through.

use std::process::Command;

use trialog_sim::scenario::Size;
use trialog_sim::sweep::Totals;
use trialog_sim::tally::Commit;

use super::own_file;

const HEAD: &str = "\
# Seeds that have been run

`cargo sim run --record` adds to this table: one row per commit and size, and a last row for all. So
does `cargo sim sum --record`, of what several machines have run. A commit with a plus sign had
uncommitted changes.

| commit | of | size | seeds | failed | run twice | simulated hours |
|---|---|---|---:|---:|---:|---:|
";

/// One row of the table.
#[derive(Clone, Debug, Default, PartialEq)]
struct Row {
    commit: String,
    date: String,
    size: String,
    seeds: u64,
    failed: u64,
    twice: u64,
    hours: f64,
}

/// The commit of the sources as they are now.
pub fn commit() -> Result<Commit, String> {
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    let name = git(&["rev-parse", "--short=10", "HEAD"])? + if changed { "+" } else { "" };
    Ok(Commit { name, date: git(&["show", "--no-patch", "--format=%cs", "HEAD"])? })
}

/// Adds a sweep; returns its own row, whatever the table has of its commit besides.
pub fn add(commit: &Commit, size: Size, totals: &Totals) -> Result<String, String> {
    let path = own_file("record.md");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let row = Row {
        commit: commit.name.clone(),
        date: commit.date.clone(),
        size: size.to_string(),
        seeds: totals.seeds(),
        failed: totals.failures.len() as u64,
        twice: totals.twice,
        hours: totals.simulated.as_secs_f64() / 3600.0,
    };
    let own = line(&row);
    let text = with(&text, row);
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(own)
}

fn git(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    let output = command.args(arguments).current_dir(own_file(".")).output();
    let output = output.map_err(|error| format!("cannot run git: {error}"))?;
    if !output.status.success() {
        return Err(format!("git {} failed", arguments.join(" ")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The table with one more sweep in it.
fn with(text: &str, row: Row) -> String {
    let mut rows: Vec<Row> = text.lines().filter_map(read).collect();
    let same = |other: &&mut Row| other.commit == row.commit && other.size == row.size;
    match rows.iter_mut().find(same) {
        Some(other) => other.add(&row),
        None => rows.push(row),
    }
    let mut all = Row { commit: "all".to_owned(), ..Row::default() };
    rows.iter().for_each(|row| all.add(row));
    rows.push(all);
    HEAD.to_owned() + &rows.iter().map(line).collect::<String>()
}

impl Row {
    fn add(&mut self, other: &Row) {
        self.seeds += other.seeds;
        self.failed += other.failed;
        self.twice += other.twice;
        self.hours += other.hours;
    }
}

fn line(row: &Row) -> String {
    let Row { commit, date, size, seeds, failed, twice, hours } = row;
    format!("| {commit} | {date} | {size} | {seeds} | {failed} | {twice} | {hours:.2} |\n")
}

/// A row of the table, unless it is its head or its sum.
fn read(line: &str) -> Option<Row> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let [_, commit, date, size, seeds, failed, twice, hours, _] = cells[..] else { return None };
    let row = Row {
        commit: commit.to_owned(),
        date: date.to_owned(),
        size: size.to_owned(),
        seeds: seeds.parse().ok()?,
        failed: failed.parse().ok()?,
        twice: twice.parse().ok()?,
        hours: hours.parse().ok()?,
    };
    (commit != "all").then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_of_one_commit_are_added_up() {
        let row = |commit: &str, seeds| Row {
            commit: commit.to_owned(),
            date: "2026-01-02".to_owned(),
            size: "full".to_owned(),
            seeds,
            failed: 1,
            twice: 2,
            hours: 0.5,
        };
        let text = with("", row("aaaa", 10));
        let text = with(&text, row("bbbb", 20));
        let text = with(&text, row("aaaa", 5));
        let rows: Vec<&str> = text.lines().rev().take(3).collect();
        assert_eq!(rows[2], "| aaaa | 2026-01-02 | full | 15 | 2 | 4 | 1.00 |");
        assert_eq!(rows[1], "| bbbb | 2026-01-02 | full | 20 | 1 | 2 | 0.50 |");
        assert_eq!(rows[0], "| all |  |  | 35 | 3 | 6 | 1.50 |");
        assert!(text.starts_with("# Seeds"));
    }
}
