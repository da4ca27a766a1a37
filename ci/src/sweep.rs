//! The simulator's part of the gate: a sweep of fresh seeds, the old ones, determinism, the page.
//!
//! What the simulator prints is shown as it comes; what is checked here is its exit code, and that
//! builds agree. All of it is bounded in time: the gate must stay well under an hour.

#![allow(clippy::disallowed_methods, reason = "the date picks the seeds of the day")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// How many fresh seeds a day has; more than any gate runs.
const SEEDS_PER_DAY: u64 = 1_000_000;
/// The profiles whose runs must agree: with assertions and without, optimised and hardly.
const PROFILES: [&str; 3] = ["test", "sim", "release"];
/// What must agree: seeds of each size. The large ones take most of the time in builds that are hardly
/// optimised, so there are few.
const AGREE: [(&str, &str); 2] = [("small", "10"), ("full", "3")];
/// Where distributions put the browser.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// Sweeps a range of seeds that nobody has run before today.
pub fn fresh(root: &Path) -> Result<String, String> {
    let from = today() * SEEDS_PER_DAY;
    let arguments = format!("run --seeds 400 --from {from} --time-limit 4m");
    println!("      cargo sim {arguments}");
    sim(root, "sim", &arguments.split(' ').collect::<Vec<_>>(), Output::Shown)?;
    Ok(format!("seeds from {from}"))
}

/// Runs every seed that ever failed.
pub fn old(root: &Path) -> Result<String, String> {
    sim(root, "sim", &["seeds"], Output::Shown).map(|_| String::new())
}

/// Runs a few seeds twice in processes of their own, in builds of every profile: all hashes of a
/// seed must be the same.
pub fn agree(root: &Path) -> Result<String, String> {
    let from = (today() * SEEDS_PER_DAY).to_string();
    for (size, seeds) in AGREE {
        let arguments = ["twice", "--seeds", seeds, "--from", &from, "--size", size, "--digests"];
        let mut first: Option<(&str, String)> = None;
        for profile in PROFILES {
            let digests = sim(root, profile, &arguments, Output::Taken)?;
            match &first {
                None => first = Some((profile, digests)),
                Some((other, expected)) if *expected != digests => {
                    let lines = expected.lines().zip(digests.lines());
                    let differ: Vec<String> = lines
                        .filter(|(a, b)| a != b)
                        .map(|(a, b)| format!("  {other}: {a}\n  {profile}: {b}"))
                        .collect();
                    return Err(format!("builds do not agree:\n{}", differ.join("\n")));
                }
                Some(_) => {}
            }
        }
    }
    let seeds = AGREE.map(|(size, seeds)| format!("{seeds} {size}")).join(" and ");
    Ok(format!("{seeds} seeds from {from} in {}", PROFILES.join(", ")))
}

/// Writes the report of a run that fails and has a browser draw it.
pub fn page(root: &Path) -> Result<String, String> {
    let file = root.join("target/report.html");
    let path = file.to_str().ok_or("a path that is no text")?;
    // A broker that loses what it acknowledged: most seeds show it, the first that does will do.
    let fails = (0..20_u64).map(|seed| seed.to_string()).find(|seed| {
        let arguments = ["report", seed, "--size", "small", "--lying-disk", "-o", path];
        sim(root, "sim", &arguments, Output::Taken).is_err_and(|why| why.contains("exit code 1"))
    });
    let seed = fails.ok_or("no seed fails on a disk that lies: that disk is not bad enough")?;
    let Some(browser) = browser() else {
        println!("      SKIPPED: no browser ({}) to draw the page in", BROWSERS.join(", "));
        return Ok("written, and not drawn".to_owned());
    };
    let mut command = Command::new(&browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000"]);
    command.args(["--dump-dom", &format!("file://{path}#bad")]);
    let drawn = command.output().map_err(|error| format!("{}: {error}", browser.display()))?;
    let drawn = String::from_utf8_lossy(&drawn.stdout).into_owned();
    let body = drawn.split("<body").nth(1).and_then(|rest| rest.split('>').next()).unwrap_or("");
    for sign in [r#"data-ready="yes""#, "data-bad=", "data-drawn="] {
        if !body.contains(sign) {
            return Err(format!("{path}: drawn without {sign}: <body{body}>"));
        }
    }
    if !drawn.contains(r#"id="badlink""#) {
        return Err(format!("{path}: nothing leads to the first bad event"));
    }
    fs::remove_file(&file).map_err(|error| format!("{path}: {error}"))?;
    Ok(format!("seed {seed} in {}", browser.display()))
}

/// What becomes of what the simulator prints.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    Shown,
    Taken,
}

/// Runs the simulator as it is built in `profile`.
fn sim(root: &Path, profile: &str, arguments: &[&str], output: Output) -> Result<String, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["run", "--quiet", "--profile", profile]);
    command.args(["--package", "trialog-sim", "--bin", "trialog-sim", "--"]).args(arguments);
    let failed = |error: std::io::Error| format!("cannot run cargo: {error}");
    let (status, text) = match output {
        Output::Shown => (command.status().map_err(failed)?, String::new()),
        Output::Taken => {
            let taken = command.output().map_err(failed)?;
            (taken.status, String::from_utf8_lossy(&taken.stdout).into_owned())
        }
    };
    if status.success() {
        return Ok(text);
    }
    let code = status.code().map_or_else(|| "none".to_owned(), |code| code.to_string());
    let command = arguments.join(" ");
    Err(format!("{text}exit code {code}; reproduce with: cargo sim {command}"))
}

/// Days since 1970.
fn today() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() / 86_400)
}

fn browser() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
    let all = BROWSERS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    all.into_iter().find(|path| path.is_file())
}
