//! The program `trialog`: everything starts here, and only here is it named that the outside world
//! is the kernel.

#![allow(
    clippy::disallowed_methods,
    reason = "the program itself is never simulated: it starts threads, and its main thread sleeps"
)]

mod command;

fn main() -> std::process::ExitCode {
    command::main()
}
