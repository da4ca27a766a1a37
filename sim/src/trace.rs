//! The trace of a run: a rolling 128-bit hash over every event.
//!
//! Two runs of one seed must end with the same [`Digest`]; each operation on disk and network,
//! each fault and each thing that a client did goes in with its simulated time. The trace draws no
//! randomness and changes nothing. When it is loud, it also prints each event, for `replay --trace`.

use std::fmt;

/// What happened, for [`Trace::note`]. The names are what a loud trace prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Event {
    Boot,
    Kill,
    PowerLoss,
    Exit,
    DiskCall,
    DiskDone,
    DiskCrash,
    Listen,
    Connect,
    Connected,
    Refused,
    Accept,
    Write,
    SendFile,
    Read,
    Deliver,
    Shutdown,
    Close,
    Reset,
    TimedOut,
    Fault,
    Heal,
    Client,
    Tick,
}

/// The rolling hash of one run.
#[derive(Debug, Default)]
pub struct Trace {
    low: u64,
    high: u64,
    events: u64,
    loud: bool,
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
    /// An empty trace; a loud one prints every event to standard error.
    #[must_use]
    pub fn new(loud: bool) -> Self {
        Trace { low: 0x243f_6a88_85a3_08d3, high: 0x1319_8a2e_0370_7344, events: 0, loud }
    }

    /// Takes in one event of simulated time `at` (nanoseconds).
    pub fn note(&mut self, at: u64, event: Event, facts: &[u64]) {
        self.events += 1;
        self.mix(at ^ ((event as u64) << 56));
        for &fact in facts {
            self.mix(fact);
        }
        if self.loud {
            eprintln!("{:>14.6} ms {event:?} {facts:x?}", at as f64 / 1e6);
        }
    }

    /// Takes in one event together with the bytes that it moved.
    pub fn note_bytes(&mut self, at: u64, event: Event, facts: &[u64], bytes: &[u8]) {
        self.note(at, event, facts);
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.mix(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        self.mix(u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 1));
    }

    /// Prints `what` if the trace is loud. Not part of the hash.
    pub fn say(&self, at: u64, what: fmt::Arguments<'_>) {
        if self.loud {
            eprintln!("{:>14.6} ms {what}", at as f64 / 1e6);
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
            let mut trace = Trace::new(false);
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
