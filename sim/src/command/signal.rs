//! Ctrl-C and SIGTERM: what is told to end stops its work, and still says what it has done.

#![allow(clippy::disallowed_methods, reason = "signals come to a thread of their own")]

use std::io;
use std::sync::mpsc::sync_channel;
use std::thread;

use futures_util::future::select_all;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use trialog_sim::crew::Stop;

use super::INTERRUPTED;

/// From now on the first signal asks for a stop, and the second one ends the process at once.
///
/// # Errors
/// The system refuses a thread or a signal.
pub fn watch(stop: Stop) -> Result<(), String> {
    let (ready, begun) = sync_channel(1);
    let watching = move || {
        let runtime = runtime::Builder::new_current_thread().enable_io().build();
        let watched = runtime.and_then(|runtime| {
            runtime.block_on(async {
                let mut signals = signals()?;
                let _ = ready.send(Ok(()));
                next(&mut signals).await;
                stop.ask();
                eprintln!("stopping; a second signal ends at once");
                next(&mut signals).await;
                std::process::exit(INTERRUPTED.into());
            })
        });
        let _ = ready.send(watched);
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(watching)
        .and_then(|_| begun.recv().unwrap_or(Ok(())))
        .map_err(|error| format!("cannot watch for signals: {error}"))
}

/// SIGTERM, and SIGINT unless it is to be ignored, as in what a shell runs in the background.
fn signals() -> io::Result<Vec<Signal>> {
    let mut kinds = vec![SignalKind::terminate()];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !is_ignored(&status, SignalKind::interrupt()) {
        kinds.push(SignalKind::interrupt());
    }
    kinds.into_iter().map(signal).collect()
}

/// What the mask of ignored signals in `proc(5)`'s `status` says of one.
fn is_ignored(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}

async fn next(signals: &mut [Signal]) {
    select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = "Name:\tsim\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001002\n";
        assert!(is_ignored(status, SignalKind::interrupt()));
        assert!(!is_ignored(status, SignalKind::terminate()));
        assert!(!is_ignored("", SignalKind::interrupt()));
    }
}
