//! The names of checkers that a header may give: those that stand in the code, and no others.
//!
//! * anomalies: `Anomaly::X => "name"` in the judge's list;
//! * what the simulator is stuck in, or complains of: `const STUCK_X`, `Wrong::stuck("name"`,
//!   `accuse("name"`, and `found_by.push("name"`;
//! * invariants: an id such as LOG-3 in quotes in `sim/src/invariant`, or at the head of an
//!   assertion's message in the engine.

use std::collections::BTreeSet;
use std::path::Path;

use super::patch;
use crate::rust::Source;

/// What nobody may hope for: it says that a run or its history is worth nothing.
const NO_CHECKER: &[&str] = &["malformed-history", "thin"];

/// Complains of every patch that does not apply, and of every name in a header that no checker has.
pub fn check(root: &Path, sources: &[Source]) -> Result<Vec<String>, String> {
    let known = known(sources);
    let mut wrong = Vec::new();
    for mutant in patch::read_all(root)? {
        wrong.extend(mutant.apply(root, &["--check"]).err());
        for name in mutant.expected.difference(&known) {
            let path = format!("{}/{}.patch", patch::FOLDER, mutant.name);
            wrong.push(format!("{path}: caught-by: no checker is called {name}"));
        }
    }
    Ok(wrong)
}

/// All names of checkers in the code.
fn known(sources: &[Source]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in sources {
        let path = source.path.as_str();
        let lines = source.code_lines().map(|(_, line)| line.trim_start());
        let code: Vec<&str> = lines.filter(|line| !line.starts_with("//")).collect();
        let all = code.join("\n");
        if path == "jepsen/src/check/mod.rs" {
            let named = code.iter().filter(|line| line.starts_with("Anomaly::"));
            names.extend(named.flat_map(|line| quoted_behind(line, " => ")));
        } else if path.starts_with("sim/src/invariant/") {
            let ids = code.iter().flat_map(|line| literals(line)).filter(|text| is_id(text));
            names.extend(ids.map(str::to_owned));
        } else if path.starts_with("sim/src/scenario/") {
            for mark in ["Wrong::stuck(", "accuse(", "found_by.push("] {
                names.extend(quoted_behind(&all, mark));
            }
            let stuck = code.iter().filter(|line| line.starts_with("const STUCK_"));
            names.extend(stuck.flat_map(|line| literals(line)).map(str::to_owned));
        } else if path.starts_with("engine/src/") {
            let texts = code.iter().flat_map(|line| literals(line));
            let ids = texts.filter_map(|text| text.split_once(": ")).map(|(id, _)| id);
            names.extend(ids.filter(|id| is_id(id)).map(str::to_owned));
        }
    }
    names.retain(|name| !NO_CHECKER.contains(&name.as_str()));
    names
}

/// The string literals that stand right behind a `mark`.
fn quoted_behind(code: &str, mark: &str) -> Vec<String> {
    let behind = code.split(mark).skip(1);
    let texts = behind.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split_once('"'));
    texts.map(|(text, _)| text.to_owned()).collect()
}

/// The string literals of a line.
fn literals(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

/// Whether it has the form of an invariant's id: LOG-3.
fn is_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(word, number)| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_uppercase())
            && number.parse::<u16>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let source = Source { path: path.to_owned(), text: text.to_owned() };
        known(&[source]).into_iter().collect()
    }

    #[test]
    fn names_stand_where_checkers_are() {
        let judge =
            "Anomaly::LostWrite => \"lost-write\",\nAnomaly::Malformed => \"malformed-history\",";
        assert_eq!(found("jepsen/src/check/mod.rs", judge), ["lost-write"]);
        let play =
            "const STUCK_X: &str = \"stuck-x\";\nErr(Wrong::stuck(\"stuck-y\", text));\n\"z\";";
        assert_eq!(found("sim/src/scenario/play.rs", play), ["stuck-x", "stuck-y"]);
        let stage = "// accuse(\"no\", x)\nself.accuse(\n    \"zombie-write\", format!(\"a b\"));";
        assert_eq!(found("sim/src/scenario/stage.rs", stage), ["zombie-write"]);
        let watch = "claim(a, \"LOG-1\", \"the start went back\");";
        assert_eq!(found("sim/src/invariant/offsets.rs", watch), ["LOG-1"]);
        let engine = "assert!(a, \"READ-2: it never goes back\"); // READ-3: no";
        assert_eq!(found("engine/src/broker/partition/read.rs", engine), ["READ-2"]);
        assert!(found("engine/src/x.rs", "\"KAFKA: x\"; \"-3: y\"; \"LOG-x: z\"").is_empty());
    }
}
