//! A run that ended in a panic, of its body or of any simulated program: the message, the place, and
//! the hash over all that came before, by which two such runs are compared as others are.
//!
//! The place is known to the panic hook alone; [`listen`] puts one in front of whichever there is. It
//! holds for the whole process, and keeps the place for the thread that panicked: a run is one thread.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::trace::Digest;

/// What is known of such a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    /// The message.
    pub text: String,
    /// File, line and column; nothing if no hook heard of it.
    pub place: Option<String>,
    /// The hash over every event before it; none if it came before the first.
    pub digest: Option<Digest>,
    /// Simulated time until then.
    pub simulated: Duration,
}

thread_local! {
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Whether panics are printed, as they are without us.
static HUSHED: AtomicBool = AtomicBool::new(false);

/// From now on the places of panics are kept.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string);
            PLACE.with(|last| last.replace(place));
            if !HUSHED.load(Ordering::Relaxed) {
                before(info);
            }
        }));
    });
}

/// From now on panics are not printed either: what comes of a run carries their texts.
pub fn hush() {
    HUSHED.store(true, Ordering::Relaxed);
    listen();
}

impl Panicked {
    /// What this thread has just panicked with.
    #[must_use]
    pub fn with(
        payload: &(dyn Any + Send),
        digest: Option<Digest>,
        simulated: Duration,
    ) -> Panicked {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or(payload.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("a panic without a text").to_owned();
        Panicked { text, place: PLACE.with(RefCell::take), digest, simulated }
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{}\nat {place}", self.text),
            None => f.write_str(&self.text),
        }
    }
}
