//! The program `trialog`: everything starts here, and only here is it named that the outside world
//! is the ring.

mod command;

fn main() -> std::process::ExitCode {
    command::main()
}
