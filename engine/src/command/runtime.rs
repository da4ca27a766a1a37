//! Turns the kernel's world on: for a broker, one pinned thread per core; for a client, this thread.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;

use trialog_engine::broker::Loggers;
use trialog_engine::config::IoMode;
use trialog_engine::io;
use trialog_engine::io::kernel::{self, Carrier, KernelIo};

use super::failure::Failure;

/// Runs a client's work on this thread.
pub fn client<T, F>(body: impl FnOnce(KernelIo) -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    kernel::run(0, body).map_err(|error| refused(&error))?
}

/// Why a core's world could not be turned on.
pub fn refused(error: &io::Error) -> Failure {
    Failure::Other(format!("the kernel does not let a core start: {error}"))
}

/// What carries a broker's files. Says so in one line if it is not what everybody gets.
pub fn carrier(asked: IoMode) -> Result<Carrier, Failure> {
    match (asked, kernel::available()) {
        (IoMode::Pool, _) => Ok(Carrier::Pool),
        (_, Ok(())) => Ok(Carrier::Ring),
        (IoMode::Ring, Err(refused)) => {
            Err(Failure::Other(format!("{refused}; or let a pool of threads do it: --io pool")))
        }
        (IoMode::Auto, Err(refused)) => {
            tracing::warn!("{refused}. Meanwhile a pool of threads does its work (--io pool)");
            Ok(Carrier::Pool)
        }
    }
}

/// How many files this process may have open, after it has asked for as many as it may ask for.
pub fn open_files_max() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call fills a structure that lives through it.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return u64::MAX;
    }
    let before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the call reads a structure that lives through it.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0;
    if raised { limit.rlim_max } else { before }
}

static ASKED_TO_END: AtomicBool = AtomicBool::new(false);

/// From now on the first SIGINT or SIGTERM is only noted, for a command that has something to put in
/// order before it ends. A second one ends the process.
pub fn watch_for_end() {
    extern "C" fn note(_: libc::c_int) {
        ASKED_TO_END.store(true, Ordering::Relaxed);
    }
    let handler: extern "C" fn(libc::c_int) = note;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: all zeros are a legal structure; the handler does what a handler may.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Whether such a signal came.
pub fn is_asked_to_end() -> bool {
    ASKED_TO_END.load(Ordering::Relaxed)
}

/// How many cores this process may run on.
pub fn cores_available() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cores).unwrap_or(u16::MAX)
}

/// Shows what the engine reports, on standard error. `TRIALOG_LOG` chooses what, in the notation
/// of `tracing`, such as `debug` or `trialog_engine::broker=debug`; the loggers change it.
pub fn show_reports(unless_chosen: &str) -> Loggers {
    let chosen = std::env::var("TRIALOG_LOG").unwrap_or_default();
    let directives = if chosen.is_empty() { unless_chosen } else { &chosen };
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let reports = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false)
        .with_filter_reloading();
    let filter = reports.reload_handle();
    reports.init();
    Loggers::new(directives, move |directives| {
        // It fails only if there is nothing any more that shows reports.
        let _ = filter.reload(EnvFilter::new(directives));
    })
}
