//! Why a trial ends early, what that means for the exit code, and how Ctrl-C gets there.
//!
//! Owns the one flag that the signal handler sets. Everything that waits asks [`interrupted`], so
//! that a Ctrl-C unwinds through the destructors that end processes and undo mounts.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Why there is no verdict, or none on everything.
#[derive(Debug)]
pub enum Stop {
    /// This machine cannot do it; nothing was tested.
    Skipped(String),
    /// The trial itself could not be carried out.
    Broken(String),
    /// Nothing is wrong as far as could be judged, and not all could be.
    Undecided(usize),
    /// The broker did what no broker may: died on its own, did not come back, stood still.
    Broker(String),
    Interrupted,
}

impl Stop {
    /// The exit code of the program: 0 is only for a clean verdict, 1 for a guilty one.
    pub fn code(&self) -> u8 {
        match self {
            Stop::Broker(_) => 1,
            Stop::Broken(_) => 2,
            Stop::Undecided(_) => 3,
            Stop::Skipped(_) => 77,
            Stop::Interrupted => 130,
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Skipped(why) => write!(f, "SKIPPED, nothing was tested: {why}"),
            Stop::Broken(why) => write!(f, "the trial could not be carried out: {why}"),
            Stop::Undecided(topics) => {
                write!(f, "UNDECIDED: the metadata of {topics} topics had too many possible orders")
            }
            Stop::Broker(why) => write!(f, "the broker failed: {why}"),
            Stop::Interrupted => f.write_str("interrupted"),
        }
    }
}

/// Turns any error into [`Stop::Broken`], with what was being done.
pub fn broken<E: fmt::Display>(doing: impl fmt::Display) -> impl FnOnce(E) -> Stop {
    move |error| Stop::Broken(format!("{doing}: {error}"))
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_interrupt(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From here on SIGINT, SIGTERM and SIGHUP set a flag instead of ending the process.
pub fn catch_interrupts() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let handler = note_interrupt as extern "C" fn(libc::c_int);
        // SAFETY: the handler only stores to an atomic, which is allowed in a signal handler.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// Fails once the user wants to leave.
pub fn interrupted() -> Result<(), Stop> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(Stop::Interrupted) } else { Ok(()) }
}

/// Sleeps in small pieces, so that an interrupt is heard.
pub fn sleep(duration: Duration) -> Result<(), Stop> {
    until(duration, || Ok(None::<()>)).map(|_| ())
}

/// Asks every few milliseconds until there is an answer; none within `patience` is `Ok(None)`.
pub fn until<T>(
    patience: Duration,
    mut ask: impl FnMut() -> Result<Option<T>, Stop>,
) -> Result<Option<T>, Stop> {
    const PAUSE: Duration = Duration::from_millis(5);
    let begun = Instant::now();
    loop {
        interrupted()?;
        if let Some(answer) = ask()? {
            return Ok(Some(answer));
        }
        let left = patience.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        std::thread::sleep(PAUSE.min(left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_endings_share_a_code() {
        let text = String::new;
        let stops = [
            Stop::Broker(text()),
            Stop::Broken(text()),
            Stop::Undecided(1),
            Stop::Skipped(text()),
            Stop::Interrupted,
        ];
        assert_eq!(stops.map(|stop| stop.code()), [1, 2, 3, 77, 130]);
    }
}
