//! The house rules that a compiler does not check, each with a small test.

use std::path::Path;

use super::mutants;
use super::rust::{self, Source};

/// What may lie visibly at the top of the repository.
const TOP: &[&str] =
    &["Cargo.toml", "Cargo.lock", "engine", "sim", "bench", "jepsen", "ci", "README.md"];

/// File names that say nothing and so attract everything.
const DRAWERS: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "manager", "misc", "types"];

/// How many methods the seam has. A larger number is a decision, not an accident.
const SEAM_METHODS_MAX: usize = 32;

/// A file of more lines is two things.
const LINES_MAX: usize = 1000;

/// Rooms with probes, which mark the rare paths that a sweep of the simulator must reach.
const PROBED: &[&str] = &["engine/src/log/", "engine/src/machine/group/", "engine/src/broker/"];

/// A probed room has at least one probe for so many lines of code.
const LINES_PER_PROBE_MAX: usize = 150;

/// Checks every file.
pub fn check(root: &Path) -> Result<String, String> {
    let sources = rust::sources(root)?;
    let mut wrong = top_level(&rust::tracked(root)?);
    for source in &sources {
        wrong.extend(file(source));
        wrong.extend(lines(source));
    }
    wrong.extend(probes(&sources));
    wrong.extend(invariants(root, &sources)?);
    wrong.extend(mutants::check_names(root, &sources)?);
    let seam = sources.iter().find(|source| source.path == "engine/src/io/mod.rs");
    wrong.extend(seam.ok_or("the seam is not where it belongs")?.seam_methods());
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    let mut sizes: Vec<_> =
        sources.iter().map(|source| (source.text.lines().count(), &source.path)).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let largest: Vec<_> =
        sizes.iter().take(5).map(|(lines, path)| format!("{path} {lines}")).collect();
    Ok(format!("{} files; largest: {}", sources.len(), largest.join(", ")))
}

fn top_level(tracked: &[String]) -> Vec<String> {
    let mut strange: Vec<&str> = tracked
        .iter()
        .filter_map(|path| path.split('/').next())
        .filter(|name| !name.starts_with('.') && !name.starts_with("LICENSE"))
        .filter(|name| !TOP.contains(name))
        .collect();
    strange.dedup();
    strange.iter().map(|name| format!("{name}: does not belong at the top level")).collect()
}

fn file(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    let path = &source.path;
    if !source.text.starts_with("//!") {
        wrong.push(format!("{path}: does not begin by saying what it is"));
    }
    let count = source.text.lines().count();
    if count > LINES_MAX {
        wrong.push(format!("{path}: {count} lines; it has become two things"));
    }
    let name = path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    if DRAWERS.contains(&name) {
        wrong.push(format!("{path}: '{name}' says nothing; name it after what it holds"));
    }
    wrong
}

fn lines(source: &Source) -> Vec<String> {
    let path = source.path.as_str();
    if path.starts_with("ci/") {
        // This package names what it forbids.
        return Vec::new();
    }
    let mut wrong = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        let bare = Source::bare(line);
        for (found, why) in [
            ("todo!(", "unfinished"),
            ("unimplemented!(", "unfinished"),
            ("#[ignore", "a test that never runs asserts nothing"),
            ("unbounded_channel", "every queue has a bound"),
            ("dbg!(", "left over"),
        ] {
            if bare.contains(found) {
                wrong.push(format!("{path}:{}: {found}: {why}", number + 1));
            }
        }
        // A root of code generation in every binary of its crate, the unit tests among them: one of
        // them brought the whole broker into those of the simulator. The seam's take any file.
        let root = bare.starts_with("pub async fn") && !bare.contains('<');
        if root && path.contains("/src/") && !path.starts_with("engine/src/io/") {
            let why = "with pub(crate) it is compiled only where somebody calls it";
            wrong.push(format!("{path}:{}: pub async fn: {why}", number + 1));
        }
        if bare.contains("madsim") && !path.starts_with("sim/") {
            wrong.push(format!("{path}:{}: only `sim` knows its runtime", number + 1));
        }
    }
    if path.starts_with("engine/src/") {
        for (number, line) in source.code_lines() {
            if Source::bare(line).contains(".unwrap()") {
                let why = "handle it, or say with expect() why it cannot fail";
                wrong.push(format!("{path}:{number}: unwrap(): {why}"));
            }
        }
    }
    wrong
}

/// Probes are dense enough, and each of them stands somewhere.
fn probes(sources: &[Source]) -> Vec<String> {
    const HIT: &str = "probe::hit(";
    let mut wrong = Vec::new();
    for room in PROBED {
        let files = sources.iter().filter(|source| source.path.starts_with(room));
        let (mut count, mut placed) = (0, 0);
        for (_, line) in files.flat_map(Source::code_lines) {
            count += 1;
            placed += Source::bare(line).matches(HIT).count();
        }
        if placed * LINES_PER_PROBE_MAX < count {
            wrong.push(format!(
                "{room}: {placed} probes in {count} lines; agreed is one in {LINES_PER_PROBE_MAX}"
            ));
        }
    }
    let Some(table) = sources.iter().find(|source| source.path == "engine/src/probe.rs") else {
        wrong.push("engine/src/probe.rs is not where it belongs".to_owned());
        return wrong;
    };
    let named = table.code_lines().skip_while(|(_, line)| !line.starts_with("probes! {"));
    let named = named.skip(1).take_while(|(_, line)| !line.starts_with('}'));
    let names = named.filter_map(|(_, line)| line.trim().strip_suffix(',').map(str::to_owned));
    for name in names {
        let mark = format!("Probe::{name}");
        let ends = |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric());
        let mut lines = sources
            .iter()
            .filter(|source| PROBED.iter().any(|room| source.path.starts_with(room)))
            .flat_map(Source::code_lines);
        let stands = |line: &str| line.split(&mark).skip(1).any(ends);
        if !lines.any(|(_, line)| stands(&Source::bare(line))) {
            wrong.push(format!("{}: {name} stands nowhere", table.path));
        }
    }
    wrong
}

/// What the page of invariants speaks of is there: its ids in the source, and the files that it names.
fn invariants(root: &Path, sources: &[Source]) -> Result<Vec<String>, String> {
    const PAGE: &str = "engine/docs/invariants.md";
    let text =
        std::fs::read_to_string(root.join(PAGE)).map_err(|error| format!("{PAGE}: {error}"))?;
    let is_there = |path: &str| {
        ["engine/src", "engine", ""].iter().any(|room| root.join(room).join(path).exists())
    };
    let stands = |id: &str| {
        let rooms = ["engine/src/", "sim/src/"];
        let mut files = sources.iter().filter(|one| rooms.iter().any(|r| one.path.starts_with(r)));
        files.any(|source| names_id(&source.text, id))
    };
    let mut wrong = Vec::new();
    for (id, paths) in rows(&text) {
        if !stands(id) {
            wrong.push(format!("{PAGE}: {id} stands nowhere in the source"));
        }
        let missing = paths.into_iter().filter(|path| !is_there(path));
        wrong.extend(missing.map(|path| format!("{PAGE}: {id}: there is no {path}")));
    }
    Ok(wrong)
}

/// Each id with the paths that stand in its row: what is in backticks and has a slash.
fn rows(page: &str) -> Vec<(&str, Vec<&str>)> {
    let row = |line: &'_ str| line.starts_with("| ") && line.contains('-');
    let lines = page.lines().filter(|line| row(line) && !line.starts_with("| id"));
    lines
        .filter_map(|line| {
            let id = line.split('|').nth(1)?.trim();
            let words = line.split('`').skip(1).step_by(2);
            let paths = words.filter(|word| word.contains('/') && !word.contains([' ', '(']));
            Some((id, paths.filter(|path| !path.starts_with("DATA/")).collect()))
        })
        .collect()
}

/// Whether a text has an id, and not only a longer one that begins like it.
fn names_id(text: &str, id: &str) -> bool {
    text.split(id).skip(1).any(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

impl Source {
    fn seam_methods(&self) -> Option<String> {
        let methods = self.code_lines().filter(|(_, line)| line.starts_with("    fn ")).count();
        (methods > SEAM_METHODS_MAX)
            .then(|| format!("{}: {methods} methods, agreed are {SEAM_METHODS_MAX}", self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    #[test]
    fn unfinished_work_is_found() {
        for text in ["fn f() { todo!() }", "#[ignore]", "unimplemented!()", "dbg!(x)"] {
            assert_eq!(lines(&source("sim/src/a.rs", text)).len(), 1, "{text}");
        }
        assert!(lines(&source("sim/src/a.rs", "// todo!()")).is_empty());
    }

    #[test]
    fn what_is_compiled_into_every_binary_is_generic_or_private() {
        assert_eq!(lines(&source("sim/src/a.rs", "pub async fn f(a: A) {")).len(), 1);
        for fine in [
            "pub(crate) async fn f(a: A) {",
            "pub async fn f<I: Io>(io: &I) {",
            "    pub async fn f(&self) {",
        ] {
            assert!(lines(&source("sim/src/a.rs", fine)).is_empty(), "{fine}");
        }
    }

    #[test]
    fn the_simulators_runtime_stays_in_its_room() {
        assert_eq!(lines(&source("engine/src/a.rs", "use madsim::time;")).len(), 1);
        assert!(lines(&source("sim/src/a.rs", "use madsim::time;")).is_empty());
    }

    #[test]
    fn unwrap_is_for_tests() {
        assert_eq!(lines(&source("engine/src/a.rs", "x.unwrap();")).len(), 1);
        let tested = "#[cfg(test)]\nmod tests {\n    x.unwrap();\n}\n";
        assert!(lines(&source("engine/src/a.rs", tested)).is_empty());
        assert!(lines(&source("engine/src/a/tests.rs", "x.unwrap();")).is_empty());
    }

    #[test]
    fn files_say_what_they_are_and_have_real_names() {
        assert_eq!(file(&source("engine/src/a.rs", "use x;\n")).len(), 1);
        assert_eq!(file(&source("engine/src/util.rs", "//! U.\n")).len(), 1);
        assert_eq!(file(&source("engine/src/a.rs", &"//! x\n".repeat(1001))).len(), 1);
        assert!(file(&source("engine/src/a.rs", "//! A.\n")).is_empty());
    }

    #[test]
    fn the_top_level_is_fixed() {
        let tracked = ["engine/x", "docs/y", ".gitignore", "README.md"].map(str::to_owned);
        assert_eq!(top_level(&tracked).len(), 1);
    }

    #[test]
    fn probes_are_counted_and_looked_for() {
        let table = source("engine/src/probe.rs", "probes! {\n    /// A.\n    A,\n    Ab,\n}\n");
        let with = |lines: usize, marks: &str| {
            let log = format!("{marks}{}", "x;\n".repeat(lines));
            let broker = source("engine/src/broker/b.rs", "");
            [source("engine/src/log/a.rs", &log), broker, source("", "")]
                .into_iter()
                .chain([source(&table.path, &table.text)])
                .collect::<Vec<_>>()
        };
        let both = "probe::hit(Probe::A);\nprobe::hit(Probe::Ab);\n";
        assert!(probes(&with(298, both)).is_empty());
        assert_eq!(probes(&with(299, both)).len(), 1);
        assert_eq!(probes(&with(10, "probe::hit(Probe::Ab);\n")).len(), 1);
        assert_eq!(probes(&with(10, "probe::hit(Probe::A); // Probe::Ab\n")).len(), 1);
        assert_eq!(probes(&[]).len(), 1);
    }

    #[test]
    fn invariants_are_read_off_their_page() {
        let page = "| id | a |\n|---|---|\n| LOG-1 | `start` <= `end` of `DATA/x` | `log/a.rs`, \
                    `log/b` | `lost-write` |\n";
        assert_eq!(rows(page), [("LOG-1", vec!["log/a.rs", "log/b"])]);
        assert!(names_id("//! Keeps: LOG-1, this", "LOG-1"));
        assert!(!names_id("LOG-10", "LOG-1"));
    }

    #[test]
    fn the_seam_is_counted() {
        let with = |methods| source("a", &"    fn method(&self);\n".repeat(methods));
        assert!(with(SEAM_METHODS_MAX + 1).seam_methods().is_some());
        assert!(with(SEAM_METHODS_MAX).seam_methods().is_none());
    }
}
