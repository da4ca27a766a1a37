//! Coverage-guided fuzzing of whatever reads a peer's or a disk's bytes: `engine/fuzz`, built with
//! the compiler's own coverage counters on the stable toolchain, and run by libFuzzer.
//!
//! In the gate each target has a few seconds, after every input that ever failed (they lie in
//! `engine/fuzz/failed/TARGET/`). `cargo ci fuzz --long EXECUTIONS [TARGET...]` gives each target a
//! number of executions. What a run learnt (`target/fuzz/corpus`) is where the next one begins.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::SKIPPED;

/// What `engine/fuzz/src/subject/mod.rs` lists.
const TARGETS: &[&str] =
    &["frame", "message", "produce", "fetch", "batch", "compress", "config", "record", "segment"];
/// Seconds that a target has in the gate.
const GATE_SECONDS: u32 = 4;
/// Where it is built and what it learns, below the root.
const FOLDER: &str = "target/fuzz";
/// Edges, and what comparisons compare, as libFuzzer wants them.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Bytes of the largest input, seconds that one may take, and megabytes of the whole process.
const BOUNDS: [&str; 3] = ["-max_len=65536", "-timeout=10", "-rss_limit_mb=3000"];

/// How much a target is run.
#[derive(Clone, Copy)]
enum Amount {
    Seconds(u32),
    Executions(u64),
}

/// The gate's step.
pub fn gate(root: &Path) -> Result<String, String> {
    if Command::new("c++").arg("--version").output().is_err() {
        return Ok(format!("{SKIPPED}no C++ compiler (c++) to build libFuzzer with"));
    }
    run(root, TARGETS, Amount::Seconds(GATE_SECONDS))
}

/// `cargo ci fuzz --long EXECUTIONS [TARGET...]`.
pub fn long(root: &Path, arguments: &[String]) -> Result<String, String> {
    let usage =
        || format!("cargo ci fuzz --long EXECUTIONS [TARGET...], of each: {}", TARGETS.join(" "));
    let (count, names) = arguments.split_first().ok_or_else(usage)?;
    let count = count.parse().map_err(|_| usage())?;
    let unknown = names.iter().any(|name| !TARGETS.contains(&name.as_str()));
    if unknown {
        return Err(usage());
    }
    let chosen = |target: &&&str| names.is_empty() || names.iter().any(|name| name == **target);
    let chosen: Vec<&str> = TARGETS.iter().filter(chosen).copied().collect();
    run(root, &chosen, Amount::Executions(count))
}

fn run(root: &Path, targets: &[&str], amount: Amount) -> Result<String, String> {
    let binary = build(root)?;
    let mut total = 0;
    let mut failed = Vec::new();
    for target in targets {
        match fuzz(root, &binary, target, amount) {
            Ok(executions) => {
                println!("      {target:10} {executions:>9} executions");
                total += executions;
            }
            Err(reason) => failed.push(reason),
        }
    }
    if failed.is_empty() {
        Ok(format!("{total} executions of {} targets", targets.len()))
    } else {
        Err(failed.join("\n"))
    }
}

/// Builds the program, apart from everything else: its flags concern every crate below it.
fn build(root: &Path) -> Result<PathBuf, String> {
    let version = Command::new("rustc").arg("-vV").output();
    let version = version.map_err(|error| format!("cannot run rustc: {error}"))?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc does not say for which host it is")?;
    let manifest = "engine/fuzz/Cargo.toml";
    // With a target named, what runs while building is built without the flags.
    let arguments = ["build", "--quiet", "--release", "--manifest-path", manifest];
    let rest = ["--target", host, "--target-dir", FOLDER, "--locked"];
    let arguments = [&arguments[..], &rest].concat();
    super::cargo(root, &arguments, &[("RUSTFLAGS", FLAGS)])
        .map_err(|_| format!("RUSTFLAGS=\"{FLAGS}\" cargo {}", arguments.join(" ")))?;
    Ok(root.join(FOLDER).join(host).join("release/trialog-fuzz"))
}

/// Runs one target and tells how many executions that were.
fn fuzz(root: &Path, binary: &Path, target: &str, amount: Amount) -> Result<u64, String> {
    let corpus = root.join(FOLDER).join("corpus").join(target);
    let (seeds, found) = (corpus.join("seeds"), corpus.join("found"));
    let crashes = root.join(FOLDER).join("crashes");
    for folder in [&seeds, &found, &crashes] {
        let made = fs::create_dir_all(folder);
        made.map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let program = || {
        let mut command = Command::new(binary);
        command.env("TRIALOG_FUZZ", target).current_dir(root);
        command
    };
    let output = |mut command: Command| -> Result<(bool, String), String> {
        let output = command.output().map_err(|error| format!("{target}: {error}"))?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    };
    let mut seeding = program();
    seeding.env("TRIALOG_FUZZ_SEEDS", &seeds);
    let (seeded, said) = output(seeding)?;
    if !seeded {
        return Err(format!("{target}: no seeds: {said}"));
    }
    let old = root.join("engine/fuzz/failed").join(target);
    let old: Vec<PathBuf> = fs::read_dir(old)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    let mut before = 0;
    if !old.is_empty() {
        before = old.len() as u64;
        let mut again = program();
        again.args(BOUNDS).args(&old);
        let (passed, said) = output(again)?;
        if !passed {
            return Err(format!("{target}: an input that failed before fails again:\n{said}"));
        }
    }
    let mut running = program();
    running.args([&found, &seeds]).args(BOUNDS).args(["-print_final_stats=1", "-reload=0"]);
    running.arg(format!("-artifact_prefix={}/{target}-", crashes.display()));
    running.arg(match amount {
        Amount::Seconds(seconds) => format!("-max_total_time={seconds}"),
        Amount::Executions(count) => format!("-runs={count}"),
    });
    let (passed, said) = output(running)?;
    if !passed {
        let written = said.lines().find_map(|line| line.split("Test unit written to ").nth(1));
        let input = written.unwrap_or("nothing");
        let tail: Vec<&str> = said.lines().rev().take(40).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        return Err(format!(
            "{target} fails on {input}; again: TRIALOG_FUZZ={target} {} {input}\n{}",
            binary.display(),
            tail.join("\n")
        ));
    }
    let count = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let count: u64 = count.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
    Ok(before + count)
}
