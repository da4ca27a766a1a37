//! `cargo sim`: sweeps of simulated seeds, and everything that helps with the ones that fail.

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::run()
}
