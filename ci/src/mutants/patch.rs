//! A planted bug as it lies in `sim/mutants`: the header that says what it is, and the diff.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the patches lie.
pub const FOLDER: &str = "sim/mutants";

/// The function that a patch may ask whether its bug is the one that is on; see [`super::stand`].
pub const SWITCH: &str = "crate::probe::planted";

/// A planted bug.
#[derive(Debug, PartialEq, Eq)]
pub struct Mutant {
    /// The patch's name without its ending.
    pub name: String,
    /// What goes wrong.
    pub bug: String,
    /// Who may find it.
    pub expected: BTreeSet<String>,
    /// Within how many seeds.
    pub seeds: u64,
    /// The file.
    pub patch: PathBuf,
    /// It does nothing unless it is switched on, and can be planted beside others.
    pub has_switch: bool,
}

/// All patches, by name.
pub fn read_all(root: &Path) -> Result<Vec<Mutant>, String> {
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
    pub fn read(name: &str, text: &str, patch: PathBuf) -> Result<Mutant, String> {
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
        let has_switch = text.contains(&format!("{SWITCH}(\"{name}\")"));
        let (name, bug) = (name.to_owned(), field("bug")?);
        Ok(Mutant { name, bug, expected, seeds, patch, has_switch })
    }

    /// Has git apply the patch to the tree in `tree`, with these options.
    pub fn apply(&self, tree: &Path, options: &[&str]) -> Result<(), String> {
        let output = Command::new("git")
            .current_dir(tree)
            // The copy lies within the repository and is none of its folders.
            .env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree))
            .arg("apply")
            .args(options)
            .arg(&self.patch)
            .output()
            .map_err(|error| format!("cannot run git: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let reason = String::from_utf8_lossy(&output.stderr);
        Err(format!("{}.patch does not apply: {}", self.name, reason.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "bug: Acknowledged before\n it is flushed.\nlike: NATS\n\
                         caught-by: lost-write, unseen\nseeds: 50\n\n--- a/x\n+++ b/x\n";

    #[test]
    fn a_header_is_read_and_must_be_whole() {
        let mutant = Mutant::read("m", PATCH, PathBuf::new()).expect("a good header");
        let expected = ["lost-write", "unseen"].map(str::to_owned).into();
        assert_eq!(mutant.bug, "Acknowledged before it is flushed.");
        assert_eq!((mutant.expected, mutant.seeds, mutant.has_switch), (expected, 50, false));
        let switched = format!("{PATCH}+    if crate::probe::planted(\"m\") {{\n");
        assert!(Mutant::read("m", &switched, PathBuf::new()).is_ok_and(|mutant| mutant.has_switch));
        assert!(Mutant::read("n", &switched, PathBuf::new()).is_ok_and(|other| !other.has_switch));
        for field in ["bug", "like", "caught-by", "seeds"] {
            let without = PATCH.replace(&format!("{field}: "), &format!("un{field}: "));
            assert!(Mutant::read("m", &without, PathBuf::new()).is_err(), "{field}");
        }
    }
}
