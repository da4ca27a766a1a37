//! Who may know whom. The table is the architecture: an arrow that is not in it is a defect, and a
//! new one needs a decision record (`engine/docs/adr`).
//!
//! Checked on the text: every `crate::ROOM` (or `trialog_engine::ROOM`) outside of unit tests,
//! comments and strings must be allowed for the room it stands in.

use std::collections::BTreeSet;
use std::path::Path;

use super::rust::{self, Source};

/// Engine rooms and the rooms they may use.
const ROOMS: &[(&str, &[&str])] = &[
    ("id", &["limit"]),
    ("limit", &[]),
    ("probe", &[]),
    ("sync", &[]),
    ("io", &["limit", "sync"]),
    ("wire", &["id", "limit"]),
    ("log", &["wire::batch", "io", "id", "limit", "probe"]),
    // A topic's settings are handed to its log, so they know the log's own settings.
    ("config", &["id", "limit", "log"]),
    ("machine", &["config", "wire", "id", "limit", "probe"]),
    ("client", &["wire", "io", "id", "limit"]),
    (
        "broker",
        &["client", "machine", "config", "log", "wire", "io", "id", "limit", "probe", "sync"],
    ),
];

/// Rooms that only `main.rs` and what stands beside it may name: one `Io` of several.
const WORLDS: &[&str] = &["io::kernel", "io::ram"];

/// Packages and the packages they may use.
const PACKAGES: &[(&str, &[&str])] = &[
    ("engine", &[]),
    ("jepsen", &["trialog_engine"]),
    ("sim", &["trialog_engine", "trialog_jepsen"]),
    ("bench", &["trialog_engine"]),
    ("ci", &[]),
];

/// Checks every source file.
pub fn check(root: &Path) -> Result<String, String> {
    let sources = rust::sources(root)?;
    let mut wrong = Vec::new();
    let mut arrows = BTreeSet::new();
    for source in &sources {
        wrong.extend(packages(source));
        wrong.extend(rooms(source, &mut arrows));
    }
    if wrong.is_empty() {
        Ok(format!("{} arrows between rooms, all in the table", arrows.len()))
    } else {
        Err(wrong.join("\n"))
    }
}

/// The names that follow `prefix` in a line: up to two segments.
fn named<'a>(line: &'a str, prefix: &'a str) -> impl Iterator<Item = String> + 'a {
    let word = |text: &str| -> String {
        text.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect()
    };
    line.match_indices(prefix).filter_map(move |(at, _)| {
        let before = line[..at].chars().next_back();
        if before.is_some_and(|char| char.is_alphanumeric() || char == '_' || char == ':') {
            return None;
        }
        let rest = &line[at + prefix.len()..];
        let first = word(rest);
        let second = rest[first.len()..].strip_prefix("::").map(word).unwrap_or_default();
        Some(if second.is_empty() { first } else { format!("{first}::{second}") })
    })
}

fn packages(source: &Source) -> Vec<String> {
    let Some((package, allowed)) =
        PACKAGES.iter().find(|(package, _)| source.path.starts_with(&format!("{package}/")))
    else {
        return vec![format!("{}: in no package of the table", source.path)];
    };
    let own = format!("trialog_{package}");
    let mut wrong = Vec::new();
    for (number, line) in source.code_lines() {
        let line = Source::bare(line);
        for word in line.split(|char: char| !(char.is_alphanumeric() || char == '_')) {
            let known = PACKAGES.iter().any(|(other, _)| word == format!("trialog_{other}"));
            if known && word != own && !allowed.contains(&word) {
                let path = &source.path;
                wrong.push(format!("{path}:{number}: {package} must not know {word}"));
            }
        }
    }
    wrong
}

fn rooms(source: &Source, arrows: &mut BTreeSet<(String, String)>) -> Vec<String> {
    let Some(inside) = source.path.strip_prefix("engine/src/") else { return Vec::new() };
    let room = inside.split(['/', '.']).next().unwrap_or_default();
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        // `main.rs` and the command line may know everything.
        return match room {
            "main" | "lib" | "command" => Vec::new(),
            _ => vec![format!("{}: in no room of the table", source.path)],
        };
    };
    let mut wrong = Vec::new();
    for (number, line) in source.code_lines() {
        for name in named(&Source::bare(line), "crate::") {
            let target = name.split("::").next().unwrap_or_default();
            let world = WORLDS.contains(&name.as_str()) && room != "io";
            let allows = |entry: &str| entry == target || entry == name;
            if target != room && ROOMS.iter().any(|(other, _)| *other == target) {
                arrows.insert((room.to_owned(), target.to_owned()));
                if !allowed.iter().any(|entry| allows(entry)) {
                    let path = &source.path;
                    wrong.push(format!("{path}:{number}: {room} must not know {name}"));
                }
            }
            if world {
                let path = &source.path;
                wrong.push(format!("{path}:{number}: {room} must not know which Io it runs on"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(path: &str, text: &str) -> Vec<String> {
        let source = Source { path: path.into(), text: text.into() };
        let mut found = packages(&source);
        found.extend(rooms(&source, &mut BTreeSet::new()));
        found
    }

    #[test]
    fn an_arrow_against_the_current_is_found() {
        assert_eq!(wrong("engine/src/log/mod.rs", "use crate::broker::Core;\n").len(), 1);
        assert_eq!(wrong("engine/src/wire/frame.rs", "fn f(_: crate::io::Buf) {}\n").len(), 1);
        assert_eq!(wrong("engine/src/log/a.rs", "use crate::wire::frame::X;\n").len(), 1);
        assert_eq!(wrong("engine/src/broker/a.rs", "use crate::io::kernel::KernelIo;\n").len(), 1);
        assert_eq!(wrong("bench/src/lib.rs", "use trialog_sim::X;\n").len(), 1);
        assert_eq!(wrong("engine/src/newroom.rs", "\n").len(), 1);
    }

    #[test]
    fn the_arrows_of_the_table_pass() {
        assert!(wrong("engine/src/log/mod.rs", "use crate::wire::batch::Batch;\n").is_empty());
        assert!(wrong("engine/src/broker/a.rs", "use crate::log::Log; // crate::x\n").is_empty());
        assert!(wrong("sim/src/lib.rs", "use trialog_engine::io::Io;\n").is_empty());
        assert!(wrong("engine/src/main.rs", "use trialog_engine::io::kernel;\n").is_empty());
    }
}
