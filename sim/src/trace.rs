//! The trace of a run: a rolling 128-bit hash over every event, and who watches them pass.
//!
//! Two runs of one seed must end with the same [`Digest`]; all that passes the seam goes in with its
//! simulated time and its contents: operations on disk and network with their bytes, paths and
//! listings, timers that fire, random numbers and clocks that were read; and so does each fault and
//! each thing that a client did. A run that panics has a digest too, of all that came before.
//! The trace draws no randomness and changes nothing, whoever watches: [`Watcher`] says whether
//! events are also printed, or kept on a [`Tape`] for reports and for finding the first event in
//! which two runs differ. Nothing goes into the hash that does not show in a line.

use std::fmt;

use crate::contents::Contents;
use crate::tap::Tap;
use crate::tape::{Entry, Tape, What};

/// Declares the events: names as they are printed, and the names of the facts that each carries.
macro_rules! events {
    ($($name:ident [$($fact:ident)*],)*) => {
        /// What happened, for [`Trace::note`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "their facts say what they are")]
        pub enum Event {
            $($name,)*
        }

        impl Event {
            /// What the facts of this event are, in order. Further ones have no name.
            #[must_use]
            pub const fn facts(self) -> &'static [&'static str] {
                match self {
                    $(Event::$name => &[$(stringify!($fact),)*],)*
                }
            }
        }
    };
}

events! {
    Machine [machine],
    Boot [machine process],
    Kill [machine process],
    PowerLoss [machine process],
    Exit [machine process],
    Stop [machine],
    Pause [machine],
    Resume [machine],
    DiskCall [call kind file offset machine],
    DiskDone [call ok number],
    DiskCrash [machine kept dropped garbled],
    Timer [timer],
    Random [machine process number],
    Clock [reads],
    Listen [machine port],
    Connect [machine server attempt port],
    Unanswered [attempt tries],
    Queued [attempt connection],
    Connected [attempt connection],
    Refused [attempt],
    Accept [machine connection],
    Write [connection side bytes more],
    SendFile [connection side bytes more file offset],
    Read [connection side bytes],
    Held [from to],
    Undelivered [connection side times],
    Deliver [connection side bytes end refused],
    Ack [connection side bytes],
    Shutdown [connection side bytes more],
    Close [connection side],
    Reset [connection side],
    TimedOut [connection side],
    Duplicate [connection side],
    HalfClosed [connection side],
    Fault [],
    Heal [],
    Name [number],
    Client [client phase],
}

/// Who watches the events of a run. None of them changes the run.
#[derive(Clone, Debug, Default)]
pub enum Watcher {
    /// Nobody: the hash is all that is kept.
    #[default]
    Nobody,
    /// Every event is printed to standard error.
    Print,
    /// Every event is kept. The tape is shared: it outlives a run that panics.
    Tape(Tape),
}

/// The rolling hash of one run.
#[derive(Debug)]
pub struct Trace {
    low: u64,
    high: u64,
    events: u64,
    watcher: Watcher,
    tap: Tap,
    /// Clocks that were read since the last event, for whoever watches.
    reads: u64,
    clocks: Contents,
}

/// The hash of a whole run and how many events went into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// 128 bits over every event in order.
    pub hash: u128,
    /// How many events there were.
    pub events: u64,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new(watcher: Watcher) -> Self {
        Trace {
            low: 0x243f_6a88_85a3_08d3,
            high: 0x1319_8a2e_0370_7344,
            events: 0,
            watcher,
            tap: Tap::default(),
            reads: 0,
            clocks: Contents::NONE,
        }
    }

    /// Takes in one event of simulated time `at` (nanoseconds).
    pub fn note(&mut self, at: u64, event: Event, facts: &[u64]) {
        self.take(at, event, facts, None);
    }

    /// Takes in one event together with what it moved, or what it is about, if that is anything.
    pub fn note_with(&mut self, at: u64, event: Event, facts: &[u64], contents: Contents) {
        self.take(at, event, facts, Some(contents));
    }

    /// Takes in that bytes have arrived at the end of a connection.
    pub fn note_arrival(&mut self, at: u64, facts: &[u64; 5], bytes: &[u8]) {
        self.take(at, Event::Deliver, facts, Some(Contents::of(bytes)));
        if let Watcher::Tape(tape) = &self.watcher {
            let [connection, side, ..] = *facts;
            let side = side as usize;
            for heard in self.tap.hear(connection, side, bytes) {
                tape.add(Entry { at, what: What::Frame { connection, side, heard } });
            }
        }
    }

    /// Takes in what a clock showed to a program. No event of its own, as programs look at clocks all
    /// the time: the line in front of the next event tells of all that were read before it.
    pub fn note_clock(&mut self, shown: u64) {
        if std::thread::panicking() {
            return;
        }
        self.mix(shown);
        if self.is_watched() {
            self.reads += 1;
            self.clocks = self.clocks.and_number(shown);
        }
    }

    fn take(&mut self, at: u64, event: Event, facts: &[u64], contents: Option<Contents>) {
        // What destructors do on the way out of a panic is no part of the run.
        if std::thread::panicking() {
            return;
        }
        let contents = contents.filter(|&contents| contents != Contents::NONE);
        self.events += 1;
        self.mix(at ^ ((facts.len() as u64) << 48) ^ ((event as u64) << 56));
        for &fact in facts {
            self.mix(fact);
        }
        for word in contents.into_iter().flat_map(Contents::words) {
            self.mix(word);
        }
        if self.is_watched() {
            if self.reads > 0 {
                let (reads, clocks) = (self.reads, self.clocks);
                (self.reads, self.clocks) = (0, Contents::NONE);
                self.tell(Entry::event(at, Event::Clock, &[reads], Some(clocks)));
            }
            self.tell(Entry::event(at, event, facts, contents));
        }
    }

    fn tell(&self, entry: Entry) {
        match &self.watcher {
            Watcher::Nobody => {}
            Watcher::Print => eprintln!("{entry}"),
            Watcher::Tape(tape) => tape.add(entry),
        }
    }

    /// Whether anybody watches: texts for [`Trace::say`] need not be made otherwise.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        !matches!(self.watcher, Watcher::Nobody)
    }

    /// The tape that the events are kept on, if they are.
    #[must_use]
    pub fn tape(&self) -> Option<&Tape> {
        match &self.watcher {
            Watcher::Tape(tape) => Some(tape),
            Watcher::Nobody | Watcher::Print => None,
        }
    }

    /// Tells `what` to whoever watches. Not part of the hash.
    pub fn say(&self, at: u64, what: fmt::Arguments<'_>) {
        if self.is_watched() {
            self.tell(Entry::text(at, what));
        }
    }

    /// The hash so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest { hash: (u128::from(self.high) << 64) | u128::from(self.low), events: self.events }
    }

    fn mix(&mut self, word: u64) {
        let product = u128::from(self.low ^ word) * 0xf39c_c060_5ced_c835;
        let folded = (product as u64) ^ ((product >> 64) as u64);
        self.low = folded.wrapping_add(self.high.rotate_left(29));
        self.high = (self.high ^ word).wrapping_mul(0xa076_1d64_78bd_642f).rotate_left(31) ^ folded;
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x} over {} events", self.hash, self.events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::divergence;

    /// The digest of events at 1 ms, 2 ms and so on, and their lines.
    fn traced(events: &[(u64, Event, &[u64], &[u8])]) -> (Digest, Vec<String>) {
        let tape = Tape::new();
        let [mut quiet, mut taped] = [Watcher::Nobody, Watcher::Tape(tape.clone())].map(Trace::new);
        for trace in [&mut quiet, &mut taped] {
            for (at, event, facts, bytes) in events {
                trace.note_with(*at, *event, facts, Contents::of(bytes));
            }
        }
        assert_eq!(quiet.digest(), taped.digest(), "who watches changes nothing");
        (quiet.digest(), tape.take().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn order_time_facts_and_contents_all_count_and_show() {
        let write: (u64, Event, &[u64], &[u8]) = (2, Event::Write, &[2], b"");
        let plain = traced(&[(1, Event::Read, &[1], b"abc"), write]);
        assert_eq!(plain, traced(&[(1, Event::Read, &[1], b"abc"), write]));
        for (line, other) in [
            (0, traced(&[write, (1, Event::Read, &[1], b"abc")])),
            (0, traced(&[(1, Event::Read, &[1], b"abd"), write])),
            (1, traced(&[(1, Event::Read, &[1], b"abc"), (2, Event::Write, &[3], b"")])),
            (1, traced(&[(1, Event::Read, &[1], b"abc"), (3, Event::Write, &[2], b"")])),
            (0, traced(&[(1, Event::Read, &[1], b"abc\0"), write])),
            (0, traced(&[(1, Event::Read, &[1, 0], b"abc"), write])),
        ] {
            assert_ne!(plain.0, other.0);
            let lines = |(_, lines): &(Digest, Vec<String>)| lines.clone();
            let (one, other) = (lines(&plain), lines(&other));
            let found = divergence(one.iter().map(|s| &**s), other.iter().map(|s| &**s));
            assert_eq!(found.map(|(line, ..)| line), Some(line), "{one:?} {other:?}");
        }
    }

    #[test]
    fn clocks_that_were_read_count_and_show_in_front_of_the_next_event() {
        let read = |clocks: &[u64]| {
            let tape = Tape::new();
            let mut trace = Trace::new(Watcher::Tape(tape.clone()));
            clocks.iter().for_each(|&shown| trace.note_clock(shown));
            trace.note(7, Event::Heal, &[]);
            trace.note(7, Event::Heal, &[]);
            (trace.digest(), tape.take())
        };
        let (digest, entries) = read(&[5, 6]);
        assert_eq!(entries.len(), 3);
        assert!(entries[0].to_string().contains("Clock reads=2 ~"), "{}", entries[0]);
        for other in [&[5][..], &[6, 5], &[5, 6, 6], &[]] {
            let (other, lines) = read(other);
            assert_ne!(digest, other);
            assert_ne!(entries[0], lines[0]);
        }
    }
}
