//! The tape: every event of one run, kept in memory in order.
//!
//! Reports are drawn from it, two runs are compared by it, and `replay --trace` prints its lines.
//! Owns the entries and how one is written in a line; knows nothing of what they mean. Clones
//! share the tape, so that whoever hands it to a run still holds it when the run panics.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cause::{Cause, Turn};
use crate::contents::Contents;
use crate::tap::Heard;
use crate::trace::Event;

/// One thing on the tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Simulated nanoseconds since the run began.
    pub at: u64,
    /// What it is.
    pub what: What,
}

/// An event that went into the hash, or a text that only watchers are told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum What {
    Event {
        event: Event,
        facts: Box<[u64]>,
        /// A short hash of what it moved, if it moved something.
        contents: Option<u32>,
    },
    Text(Box<str>),
    /// A Kafka frame that has arrived whole.
    Frame {
        connection: u64,
        side: usize,
        heard: Heard,
    },
    /// What a fault does.
    Fault {
        cause: Cause,
        turn: Turn,
    },
    /// A machine is there from now on. The first one is number 0.
    Machine {
        name: Box<str>,
    },
    /// The state of a machine's disk, in bytes.
    Disk {
        machine: usize,
        used: u64,
        dirty: u64,
        capacity: u64,
    },
}

/// Entries in the order in which they happened. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Entry {
    /// An event with its facts, and with what it moved.
    #[must_use]
    pub fn event(at: u64, event: Event, facts: &[u64], contents: Option<Contents>) -> Self {
        let contents = contents.map(Contents::short);
        Entry { at, what: What::Event { event, facts: facts.into(), contents } }
    }

    /// Something that was said.
    #[must_use]
    pub fn text(at: u64, what: fmt::Arguments<'_>) -> Self {
        Entry { at, what: What::Text(what.to_string().into()) }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>14.6} ms  ", self.at as f64 / 1e6)?;
        match &self.what {
            What::Text(text) => f.write_str(text),
            What::Frame { connection, side, heard: Heard { bytes, api, version, .. } } => {
                let name = api.name();
                write!(f, "{name} {version} connection={connection} side={side} bytes={bytes}")
            }
            What::Fault { cause: Cause(cause), turn } => write!(f, "fault cause={cause} {turn:?}"),
            What::Machine { name } => write!(f, "machine {name}"),
            What::Disk { machine, used, dirty, capacity } => {
                write!(f, "disk machine={machine} used={used} dirty={dirty} capacity={capacity}")
            }
            What::Event { event, facts, contents } => {
                write!(f, "{event:?}")?;
                let names = event.facts().iter().copied().chain(std::iter::repeat(""));
                for (fact, name) in facts.iter().zip(names) {
                    // What is negative in its place was noted as two's complement.
                    let (fact, equals) = (*fact as i64, if name.is_empty() { "" } else { "=" });
                    write!(f, " {name}{equals}{fact}")?;
                }
                contents.map_or(Ok(()), |contents| write!(f, " ~{contents:08x}"))
            }
        }
    }
}

impl Tape {
    /// An empty tape.
    #[must_use]
    pub fn new() -> Self {
        Tape::default()
    }

    /// Adds an entry at the end.
    pub fn add(&self, entry: Entry) {
        self.entries().push(entry);
    }

    /// A copy of what is on it.
    #[must_use]
    pub fn copy(&self) -> Vec<Entry> {
        self.entries().clone()
    }

    /// Takes everything off it.
    #[must_use]
    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.entries())
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        // A run that panicked leaves its tape behind whole: entries are added in one piece.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first place in which two runs differ: its number, and the lines there, if there are any.
#[must_use]
pub fn divergence<'a>(
    one: impl IntoIterator<Item = &'a str>,
    other: impl IntoIterator<Item = &'a str>,
) -> Option<(usize, Option<&'a str>, Option<&'a str>)> {
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    for place in 0.. {
        match (one.next(), other.next()) {
            (None, None) => return None,
            (a, b) if a != b => return Some((place, a, b)),
            _ => {}
        }
    }
    unreachable!("no tape is endless")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_is_known() {
        let entry = Entry::event(1_500_000, Event::Deliver, &[3, 0, 99, 0, 1, u64::MAX], None);
        let line = "      1.500000 ms  Deliver connection=3 side=0 bytes=99 end=0 refused=1 -1";
        assert_eq!(entry.to_string(), line);
        let contents = Contents::of(b"abc");
        let entry = Entry::event(0, Event::Heal, &[], Some(contents));
        let line = format!("      0.000000 ms  Heal ~{:08x}", contents.short());
        assert_eq!(entry.to_string(), line);
        assert_eq!(Entry::text(0, format_args!("so")).to_string(), "      0.000000 ms  so");
    }

    #[test]
    fn the_first_difference_is_found() {
        assert_eq!(divergence(["a", "b"], ["a", "b"]), None);
        assert_eq!(divergence(["a", "b"], ["a", "c"]), Some((1, Some("b"), Some("c"))));
        assert_eq!(divergence(["a"], ["a", "c"]), Some((1, None, Some("c"))));
    }

    #[test]
    fn a_tape_is_shared() {
        let tape = Tape::new();
        tape.clone().add(Entry::event(1, Event::Heal, &[], None));
        assert_eq!(tape.copy(), tape.take());
        assert!(tape.copy().is_empty());
    }
}
