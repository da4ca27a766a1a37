//! An order service on trial: one version has an honest-looking bug, the other does not.
//!
//! `cargo run -p trialog-sim --example orders` shows what a found bug looks like. `cargo test` runs
//! both: the bug must be found, and nothing must be found in the corrected version.

mod careful;
mod hasty;

fn main() {
    for (name, trial) in [("hasty", hasty::trial()), ("careful", careful::trial())] {
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
fn the_careful_service_is_sound() {
    careful::trial().seeds(40).run();
}
