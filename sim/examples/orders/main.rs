//! An order service on trial: one version has an honest-looking bug, the other does not. So have two
//! versions that share the work in a consumer group.
//!
//! `cargo run -p trialog-sim --example orders` shows what a found bug looks like. `cargo test` runs
//! both: the bug must be found, and nothing must be found in the corrected version.

mod careful;
mod crew;
mod hasty;

fn main() {
    let trials = [
        ("hasty", hasty::trial()),
        ("careful", careful::trial()),
        ("a hasty crew", crew::trial(true)),
        ("a careful crew", crew::trial(false)),
    ];
    for (name, trial) in trials {
        match trial.find() {
            Ok(summary) => println!("{name}: nothing found: {summary}"),
            Err(failure) => println!("{name}: {failure}"),
        }
    }
}

#[test]
fn the_hasty_service_is_found_out() {
    let failure = hasty::trial().seeds(200).find().expect_err("it forgets orders");
    println!("{failure}");
    assert!(failure.what.contains("every order is shipped"), "{failure}");
    assert!(failure.command.starts_with("TRIALOG_SEED="), "{failure}");
}

#[test]
fn the_hasty_crew_is_found_out() {
    let failure = crew::trial(true).seeds(200).find().expect_err("it forgets orders");
    assert!(failure.what.contains("every order is shipped"), "{failure}");
}

#[test]
fn the_careful_crew_is_sound() {
    crew::trial(false).seeds(20).run();
}

#[test]
fn the_careful_service_is_sound() {
    careful::trial().seeds(40).run();
}
