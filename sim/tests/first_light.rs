//! The broker on trial: the sweep that plain `cargo test` runs.

use trialog_sim::scenario::first_light;
use trialog_sim::sweep::{sweep, twice};

/// How many seeds a test run covers; TRIALOG_SEEDS changes it.
fn seeds() -> u64 {
    std::env::var("TRIALOG_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

#[test]
fn every_acknowledged_record_is_there_once_and_in_order() {
    let totals = sweep(0..seeds(), 2, |seed| first_light::run(seed, false), |_| {});
    println!("{totals}");
    for failure in &totals.failures {
        println!("{failure}");
    }
    assert!(totals.failures.is_empty(), "{} seeds failed", totals.failures.len());
    assert!(totals.acknowledged_min >= 200, "{totals}");
    assert!(totals.crashes_min >= 2, "{totals}");
}

#[test]
fn one_seed_runs_twice_the_same() {
    for seed in [1, 17] {
        let passed = twice(seed, |seed| first_light::run(seed, false));
        match passed {
            Ok(passed) => println!("seed {seed}: {}", passed.digest),
            Err(failure) => panic!("{failure}"),
        }
    }
}
