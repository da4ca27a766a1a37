//! Turns the ring's world on: for a broker, one pinned thread per core; for a client, this thread.

use std::future::Future;

use trialog_engine::io::ring::{self, RingIo};
use trialog_engine::io::{self, ErrorKind};

use super::failure::Failure;

/// Runs a client's work on this thread.
pub fn client<T, F>(body: impl FnOnce(RingIo) -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    ring::run(0, body).map_err(|error| refused(&error))?
}

/// Why the ring's world could not be turned on.
pub fn refused(error: &io::Error) -> Failure {
    let remedy = match error.kind() {
        ErrorKind::Unsupported | ErrorKind::PermissionDenied => {
            "; trialog needs Linux 6.0 or newer with io_uring allowed (containers often forbid \
             it: for Docker, run with --security-opt seccomp=unconfined)"
        }
        _ => "",
    };
    Failure::Other(format!("io_uring cannot be used: {error}{remedy}"))
}

/// How many cores this process may run on.
pub fn cores_available() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cores).unwrap_or(u16::MAX)
}

/// Shows what the engine reports, on standard error. `TRIALOG_LOG` chooses what, in the notation
/// of `tracing`, such as `debug` or `trialog_engine::broker=debug`.
pub fn show_reports(unless_chosen: &str) {
    let chosen = std::env::var("TRIALOG_LOG").unwrap_or_default();
    let filter = match chosen.as_str() {
        "" => tracing_subscriber::EnvFilter::new(unless_chosen),
        directives => tracing_subscriber::EnvFilter::new(directives),
    };
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false)
        .init();
}
