//! Which fault of a run something is due to.
//!
//! Every fault that comes gets a number. Whatever it hinders, on links or disks, carries that
//! number, so that ending one fault takes away only its own, and so that each thing it really
//! touched is counted as its doing. If the run is taped, the tape is told of it as well: only then is
//! it known when a fault was at work.

use std::collections::BTreeMap;
use std::fmt;

use madsim::time::TimeHandle;

use crate::seed::nanos;
use crate::tape::{Entry, Tape, What};

/// The number of a fault in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause(pub u64);

/// What a fault does, for the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It comes. Its place among the faults that came, from 0: what it does in several ways, each of
    /// which ends by itself, has a cause for each of them.
    Comes(usize),
    /// It touches something.
    Strikes,
    /// It is lifted, or what it brought down runs again.
    Ends,
}

/// How often each cause has touched something.
#[derive(Clone, Default)]
pub struct Bites {
    counts: BTreeMap<Cause, u64>,
    witness: Option<Witness>,
}

/// Who tells the tape, and when.
#[derive(Clone)]
struct Witness {
    tape: Tape,
    time: TimeHandle,
}

impl Bites {
    /// Bites that a tape is told of, with the time that `time` shows.
    #[must_use]
    pub fn taped(tape: Tape, time: TimeHandle) -> Bites {
        Bites { counts: BTreeMap::new(), witness: Some(Witness { tape, time }) }
    }

    /// Counts one for `cause`.
    pub fn count(&mut self, cause: Cause) {
        *self.counts.entry(cause).or_default() += 1;
        if let Some(Witness { tape, time }) = &self.witness {
            let what = What::Fault { cause, turn: Turn::Strikes };
            tape.add(Entry { at: nanos(time.elapsed()), what });
        }
    }

    /// How often `cause` has.
    #[must_use]
    pub fn of(&self, cause: Cause) -> u64 {
        self.counts.get(&cause).copied().unwrap_or(0)
    }
}

impl fmt::Debug for Bites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bites").field(&self.counts).finish()
    }
}
