//! One fuzzing program for all targets: `TRIALOG_FUZZ=NAME` says which one runs, and
//! `TRIALOG_FUZZ_SEEDS=FOLDER` has it write that target's seeds instead. `cargo ci fuzz` does both.
//!
//! A target is a function that takes any bytes and panics when a promise is broken. What holds for
//! all of them: no panic, no abort, no input that takes ten seconds, and no more memory than the
//! target allows, counted by our own allocator ([`meter`]).

#![no_main]
// Only what is not simulated runs here.
#![allow(clippy::disallowed_methods)]

mod meter;
mod numbers;
mod subject;

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use subject::Target;

static CHOSEN: OnceLock<&Target> = OnceLock::new();

/// Finds the target that was asked for, and writes its seeds if those are wanted.
fn choose() {
    let name = std::env::var("TRIALOG_FUZZ").unwrap_or_default();
    let Some(target) = subject::ALL.iter().find(|target| target.name == name) else {
        let names: Vec<_> = subject::ALL.iter().map(|target| target.name).collect();
        eprintln!("TRIALOG_FUZZ names no target; there are: {}", names.join(" "));
        std::process::exit(2);
    };
    if let Some(folder) = std::env::var_os("TRIALOG_FUZZ_SEEDS").map(PathBuf::from) {
        let seeds = (target.seeds)();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:05}")), seed).expect("a folder");
        }
        println!("{} seeds", seeds.len());
        std::process::exit(0);
    }
    let _ = CHOSEN.set(target);
}

fuzz_target!(init: choose(), |data: &[u8]| {
    let target = CHOSEN.get().expect("chosen at the start");
    let most = target.memory_bytes_max;
    let ((), peak) = meter::peak(|| (target.run)(data));
    assert!(peak <= most, "{peak} bytes of memory for {} bytes of input", data.len());
});
