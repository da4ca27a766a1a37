//! The trace of a run: a rolling 128-bit hash over every event, and who watches them pass.
//!
//! Two runs of one seed must end with the same [`Digest`]; each operation on disk and network,
//! each fault and each thing that a client did goes in with its simulated time. The trace draws no
//! randomness and changes nothing, whoever watches: [`Watcher`] says whether events are also printed,
//! or kept on a [`Tape`] for reports and for finding the first event in which two runs differ.

use std::fmt;

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
    Boot [machine process],
    Kill [machine process],
    PowerLoss [machine process],
    Exit [machine process],
    DiskCall [call kind file offset machine],
    DiskDone [call ok number],
    DiskCrash [machine kept dropped garbled],
    Listen [machine port],
    Connect [machine server attempt],
    Connected [attempt connection],
    Refused [attempt],
    Accept [machine connection],
    Write [connection side bytes],
    SendFile [connection side bytes],
    Read [connection side bytes],
    Deliver [connection side bytes end refused],
    Shutdown [connection side],
    Close [connection side],
    Reset [connection side],
    TimedOut [connection side],
    Duplicate [connection side],
    HalfClosed [connection side],
    Fault [],
    Heal [],
    Client [client phase],
    Tick [],
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
#[derive(Debug, Default)]
pub struct Trace {
    low: u64,
    high: u64,
    events: u64,
    watcher: Watcher,
    tap: Tap,
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
        }
    }

    /// Takes in one event of simulated time `at` (nanoseconds).
    pub fn note(&mut self, at: u64, event: Event, facts: &[u64]) {
        self.events += 1;
        self.mix(at ^ ((event as u64) << 56));
        for &fact in facts {
            self.mix(fact);
        }
        match &self.watcher {
            Watcher::Nobody => {}
            Watcher::Print => eprintln!("{}", Entry::event(at, event, facts)),
            Watcher::Tape(tape) => tape.add(Entry::event(at, event, facts)),
        }
    }

    /// Takes in one event together with the bytes that it moved.
    pub fn note_bytes(&mut self, at: u64, event: Event, facts: &[u64], bytes: &[u8]) {
        self.note(at, event, facts);
        if let (Watcher::Tape(tape), Event::Deliver, &[connection, side, ..]) =
            (&self.watcher, event, facts)
        {
            let side = side as usize;
            for heard in self.tap.hear(connection, side, bytes) {
                tape.add(Entry { at, what: What::Frame { connection, side, heard } });
            }
        }
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.mix(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        self.mix(u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 1));
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
        match &self.watcher {
            Watcher::Nobody => {}
            Watcher::Print => eprintln!("{}", Entry::text(at, what)),
            Watcher::Tape(tape) => tape.add(Entry::text(at, what)),
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

    #[test]
    fn order_time_facts_and_bytes_all_count() {
        let digest = |events: &[(u64, Event, u64, &[u8])]| {
            let mut trace = Trace::new(Watcher::Nobody);
            for (at, event, fact, bytes) in events {
                trace.note_bytes(*at, *event, &[*fact], bytes);
            }
            trace.digest()
        };
        let plain = digest(&[(1, Event::Read, 1, b"abc"), (2, Event::Write, 2, b"")]);
        assert_eq!(plain, digest(&[(1, Event::Read, 1, b"abc"), (2, Event::Write, 2, b"")]));
        for other in [
            digest(&[(2, Event::Write, 2, b""), (1, Event::Read, 1, b"abc")]),
            digest(&[(1, Event::Read, 1, b"abd"), (2, Event::Write, 2, b"")]),
            digest(&[(1, Event::Read, 1, b"abc"), (2, Event::Write, 3, b"")]),
            digest(&[(1, Event::Read, 1, b"abc"), (3, Event::Write, 2, b"")]),
            digest(&[(1, Event::Read, 1, b"abc\0"), (2, Event::Write, 2, b"")]),
        ] {
            assert_ne!(plain, other);
        }
    }
}
