//! The broker's program: built in release from this tree, or from a copy whose flush does nothing.
//!
//! The copy is how the power cut proves that it bites: it acknowledges without flushing, so it must
//! lose records. Nothing in the product knows of it; the change is made to the copy's source.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{how, run};
use crate::stop::{Stop, broken};

/// The root of the source tree that this program was built from.
pub fn source_root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// Where everything that the trials make is kept.
pub fn work_root() -> PathBuf {
    target_root().join("jepsen")
}

fn target_root() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| source_root().join("target"), PathBuf::from)
}

/// Builds the broker from this tree.
pub fn build() -> Result<PathBuf, Stop> {
    build_in(&source_root(), &target_root())
}

/// Builds the broker from a copy of this tree in which the flush to the disk is taken out.
pub fn build_without_flush() -> Result<PathBuf, Stop> {
    let root = source_root();
    let copy = work_root().join("without-flush");
    copy_tree(&root, &copy)?;
    let changed = take_flush_out(&copy)?;
    println!("the flush is taken out of a copy: {changed}");
    build_in(&copy, &copy.join("target"))
}

fn build_in(tree: &Path, target: &Path) -> Result<PathBuf, Stop> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    println!("building the broker: cargo build --release -p trialog-engine --bin trialog");
    println!("  in {}", tree.display());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "-p", "trialog-engine", "--bin", "trialog"]);
    command.arg("--target-dir").arg(target).current_dir(tree);
    let status = command.status().map_err(broken("starting cargo"))?;
    if !status.success() {
        return Err(Stop::Broken(format!("cargo build {}", how(status))));
    }
    Ok(target.join("release").join("trialog"))
}

/// Copies what git would commit. Files that are the same stay untouched, so that a second build is
/// short; files that are gone from the tree are removed from the copy.
fn copy_tree(root: &Path, copy: &Path) -> Result<(), Stop> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let listed = run("git ls-files (the copy needs a git checkout)", &mut git)?;
    let mut names: Vec<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    for name in &names {
        let (from, to) = (root.join(name), copy.join(name));
        if !from.is_file() {
            continue; // deleted, and not yet committed so
        }
        let bytes = std::fs::read(&from).map_err(broken(from.display()))?;
        if std::fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        let folder = to.parent().unwrap_or(copy);
        std::fs::create_dir_all(folder).map_err(broken(folder.display()))?;
        std::fs::write(&to, bytes).map_err(broken(to.display()))?;
    }
    remove_strangers(&copy.join("engine").join("src"), copy, &names)
}

/// A source file that an earlier tree had must not be compiled into this one.
fn remove_strangers(folder: &Path, copy: &Path, names: &[&str]) -> Result<(), Stop> {
    for entry in std::fs::read_dir(folder).map_err(broken(folder.display()))? {
        let path = entry.map_err(broken(folder.display()))?.path();
        if path.is_dir() {
            remove_strangers(&path, copy, names)?;
            continue;
        }
        let name = path.strip_prefix(copy).ok().and_then(Path::to_str).unwrap_or_default();
        if names.binary_search(&name).is_err() {
            std::fs::remove_file(&path).map_err(broken(path.display()))?;
        }
    }
    Ok(())
}

/// The submission that flushes a file to its disk, as the ring writes it.
const FLUSH: &str = "opcode::Fsync::new(";

/// Replaces every flush of the ring by an operation that does nothing. Returns what was changed.
fn take_flush_out(copy: &Path) -> Result<String, Stop> {
    let folder = copy.join("engine").join("src").join("io");
    let mut changed = Vec::new();
    let mut files = Vec::new();
    source_files(&folder, &mut files)?;
    for file in files.iter().filter(|file| file.to_string_lossy().contains("kernel")) {
        let text = std::fs::read_to_string(file).map_err(broken(file.display()))?;
        let Some((new, count)) = without_flush(&text) else { continue };
        std::fs::write(file, new).map_err(broken(file.display()))?;
        let name = file.strip_prefix(copy).unwrap_or(file).display();
        changed.push(format!("{count} in {name}"));
    }
    if changed.is_empty() {
        return Err(Stop::Broken(format!(
            "no `{FLUSH}..)` in {}: the flush has moved; teach {} where it is",
            folder.display(),
            file!()
        )));
    }
    Ok(changed.join(", "))
}

fn source_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Stop> {
    for entry in std::fs::read_dir(folder).map_err(broken(folder.display()))? {
        let path = entry.map_err(broken(folder.display()))?.path();
        match path.is_dir() {
            true => source_files(&path, files)?,
            false => files.push(path),
        }
    }
    files.sort_unstable();
    Ok(())
}

/// `opcode::Fsync::new(fd).flags(..).build()` becomes `{ let _ = fd..; opcode::Nop::new().build() }`:
/// a completion comes, with result 0, and nothing was flushed.
fn without_flush(text: &str) -> Option<(String, usize)> {
    const BUILD: &str = ".build()";
    let mut rest = text;
    let mut new = String::with_capacity(text.len());
    let mut count = 0;
    while let Some(at) = rest.find(FLUSH) {
        let end = at + rest[at..].find(BUILD)?;
        // The path in front of `opcode`, as in `io_uring::opcode`, belongs to both.
        let path = rest[..at].rfind(|c: char| !c.is_alphanumeric() && c != ':' && c != '_');
        let path = path.map_or(0, |path| path + 1);
        let prefix = &rest[path..at];
        new.push_str(&rest[..path]);
        let original = &rest[path..end];
        new.push_str(&format!("{{ let _ = {original}; {prefix}opcode::Nop::new(){BUILD} }}"));
        rest = &rest[end + BUILD.len()..];
        count += 1;
    }
    new.push_str(rest);
    (count > 0).then_some((new, count))
}

#[cfg(test)]
mod tests {
    use super::without_flush;

    #[test]
    fn a_flush_becomes_an_operation_that_does_nothing() {
        let text =
            "let e = io_uring::opcode::Fsync::new(fd)\n  .flags(DATASYNC)\n  .build();\nok()";
        let (new, count) = without_flush(text).expect("there is one");
        assert_eq!(count, 1);
        assert_eq!(
            new,
            "let e = { let _ = io_uring::opcode::Fsync::new(fd)\n  .flags(DATASYNC)\n  ; \
             io_uring::opcode::Nop::new().build() };\nok()"
        );
        assert!(without_flush("nothing of that kind").is_none());
    }
}
