//! The gate. `cargo ci` runs all of it; `cargo ci STEP...` runs some steps; `cargo ci mutants
//! [NAME...]` plants bugs and prints how the simulator finds them; with `--keep` it writes that
//! into `sim/mutants/score.md`; `cargo ci fuzz --long EXECUTIONS [TARGET...]` feeds hostile bytes to
//! everything that decodes some, for longer than the gate does.
//!
//! Everything the project promises about its own text and structure is a step here, in Rust, so
//! that it runs the same on a laptop and in CI. Steps print nothing but what is wrong, and one line
//! when they pass. A step that cannot look, for want of a tool, says so there and at the end.

#![allow(clippy::disallowed_methods, reason = "how long a step takes is real time")]

mod arrows;
mod fuzz;
mod mutants;
mod page;
mod rust;
mod sweep;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// How the note of a step begins that could not look.
const SKIPPED: &str = "SKIPPED: ";

/// One part of the gate.
struct Step {
    name: &'static str,
    what: &'static str,
    run: fn(&Path) -> Result<String, String>,
}

const STEPS: &[Step] = &[
    Step { name: "fmt", what: "rustfmt would change nothing", run: fmt },
    Step { name: "tidy", what: "the house rules", run: tidy::check },
    Step { name: "arrows", what: "who may know whom", run: arrows::check },
    Step { name: "clippy", what: "no warnings, and none of the banned calls", run: clippy },
    Step { name: "test", what: "all tests of all packages", run: test },
    Step { name: "sweep", what: "fresh seeds of the day pass", run: sweep::fresh },
    Step { name: "seeds", what: "every seed that ever failed passes", run: sweep::old },
    Step { name: "agree", what: "one seed, one hash, in every build", run: sweep::agree },
    Step { name: "page", what: "a browser draws reports of runs", run: page::check },
    Step { name: "fuzz", what: "decoders and recovery keep their promises", run: fuzz::gate },
    Step { name: "doc", what: "the documentation builds without warnings", run: doc },
    Step { name: "bench", what: "the benches compile, requests allocate little", run: bench },
    Step { name: "canaries", what: "planted bugs are found, two each day", run: mutants::sample },
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, arguments)) = wanted.split_first()
        && first == "mutants"
    {
        return match mutants::all(&root(), arguments) {
            Ok(note) => {
                println!("\n{note}");
                ExitCode::SUCCESS
            }
            Err(reason) => {
                println!("\n{reason}");
                ExitCode::FAILURE
            }
        };
    }
    if let [first, second, arguments @ ..] = wanted.as_slice()
        && (first.as_str(), second.as_str()) == ("fuzz", "--long")
    {
        return match fuzz::long(&root(), arguments) {
            Ok(note) => {
                println!("{note}");
                ExitCode::SUCCESS
            }
            Err(reason) => {
                println!("{reason}");
                ExitCode::FAILURE
            }
        };
    }
    if let Some(unknown) = wanted.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        eprintln!("cargo ci: there is no step '{unknown}'; the steps are:");
        for step in STEPS {
            eprintln!("  {:8} {}", step.name, step.what);
        }
        eprintln!("or: {}", mutants::USAGE);
        eprintln!("or: cargo ci fuzz --long EXECUTIONS [TARGET...]");
        return ExitCode::from(2);
    }
    let root = root();
    let (mut failed, mut skipped) = (Vec::new(), Vec::new());
    for step in STEPS {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == step.name) {
            continue;
        }
        let begun = Instant::now();
        match (step.run)(&root) {
            Ok(note) => {
                let is_skipped = note.starts_with(SKIPPED);
                let verdict = if is_skipped { "skip" } else { "ok" };
                let seconds = begun.elapsed().as_secs_f64();
                println!("{verdict:5} {:8} {seconds:5.1} s  {note}", step.name);
                skipped.extend(is_skipped.then_some(step.name));
            }
            Err(reason) => {
                println!("FAIL  {:8} {}\n{reason}", step.name, step.what);
                failed.push(step.name);
            }
        }
    }
    if !skipped.is_empty() {
        println!("not looked at, for want of a tool: {}", skipped.join(", "));
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        println!("the gate is closed: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}

/// The repository's root: the parent of this package.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package lies in the workspace").to_owned()
}

/// Runs cargo with its output shown.
fn cargo(root: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Result<(), String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(arguments).envs(environment.iter().copied());
    let status = command.status().map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("reproduce with: cargo {}", arguments.join(" ")))
    }
}

fn fmt(root: &Path) -> Result<String, String> {
    cargo(root, &["fmt", "--all", "--check"], &[]).map(|()| String::new())
}

fn clippy(root: &Path) -> Result<String, String> {
    let arguments = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    cargo(root, &arguments, &[]).map(|()| String::new())
}

fn test(root: &Path) -> Result<String, String> {
    cargo(root, &["test", "--workspace"], &[]).map(|()| String::new())
}

fn doc(root: &Path) -> Result<String, String> {
    // The workspace's own flag must stay: an environment variable replaces the setting. Private
    // items are documented too, so links to them lead somewhere.
    let flags = [("RUSTDOCFLAGS", "--cfg madsim -D warnings -A rustdoc::private_intra_doc_links")];
    let arguments = ["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"];
    cargo(root, &arguments, &flags).map(|()| String::new())
}

fn bench(root: &Path) -> Result<String, String> {
    cargo(root, &["check", "--quiet", "-p", "trialog-bench", "--benches"], &[])?;
    // What it counts is exact on any machine; what the others measure is not.
    cargo(root, &["bench", "--quiet", "-p", "trialog-bench", "--bench", "budget"], &[])
        .map(|()| String::new())
}
