//! The command line: what can be asked for, and where each answer is made.
//!
//! `cli` says what can be written, one file per command carries it out, `failure` says how it may
//! end, `output` writes results as text or JSON, `runtime` turns the kernel's world on. Results go to
//! standard output, everything else to standard error. Commands know the engine's parts; no part
//! of the engine knows them.

mod bench;
mod cli;
mod config;
mod consume;
mod doctor;
mod failure;
mod group;
mod lines;
mod log;
mod output;
mod produce;
mod quota;
mod reach;
mod retention;
mod runtime;
mod serve;
mod time;
mod topic;
mod usage;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use cli::{Cli, Command};
use failure::Failure;
use output::Output;

/// Reads the arguments, carries the command out, and says how it went.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { failure::USAGE.into() };
        }
    };
    let mut output = Output::new(cli.json);
    let result = run(cli, &mut output).and_then(|()| output.flush());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            failure.exit_code().into()
        }
    }
}

fn run(cli: Cli, output: &mut Output) -> Result<(), Failure> {
    match cli.command.unwrap_or_default() {
        Command::Serve(arguments) => serve::run(arguments, output),
        Command::Topic(command) => topic::run(command, output),
        Command::Config(command) => config::run(command, output),
        Command::Produce(arguments) => produce::run(arguments, output),
        Command::Consume(arguments) => consume::run(arguments, output),
        Command::Group(command) => group::run(command, output),
        Command::Quota(command) => quota::run(command, output),
        Command::Log(command) => log::run(command, output),
        Command::Bench(command) => bench::run(command, output),
        Command::Doctor(arguments) => doctor::run(&arguments, output),
        Command::Completions { shell } => {
            let (mut command, mut script) = (Cli::command(), Vec::new());
            clap_complete::generate(shell, &mut command, "trialog", &mut script);
            output.bytes(&script)
        }
    }
}
