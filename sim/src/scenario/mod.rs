//! Scenarios: what runs in the simulated world, under which faults, and what must hold.
//!
//! [`run`] is the one way in, for tests, sweeps, replays and shrinking alike: a [`Run`] says which
//! seed, how large, what to leave out and what to keep; what comes back is [`Passed`] or a
//! [`Failure`], each with the [`Facts`] of the run. Leaving a fault or a client's step out shifts no
//! other draw: each of them has a stream of its own, and a step that is left out still counts.

mod cut;
mod damage;
mod host;
mod losses;
mod play;
mod promise;
mod record;
mod seen;
mod shape;
mod stage;
mod workload;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trialog_engine::probe::Hits;
use trialog_jepsen::check;
use trialog_jepsen::history::History;

use crate::invariant::Sighting;
use crate::nemesis::Counts;
use crate::plan::Plan;
use crate::tape::Entry;
use crate::trace::Digest;

#[doc(hidden)]
pub use play::rehearsal;
pub use play::{BrokerDisk, run, run_on};
pub use record::Recorder;
pub use seen::{Answer, Pair, Seen, pairs_possible, versions_possible};
pub use stage::speaker;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The number that everything follows from.
    pub seed: u64,
    /// How much of it.
    pub size: Size,
    /// What is left out.
    pub cut: Cut,
    /// What is kept of it beside the facts.
    pub watch: Watch,
}

/// How large a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// For `cargo test`: at least 200 acknowledged records and two broker crashes.
    Small,
    /// For sweeps: at least 1,000 acknowledged records, two broker crashes and 60 simulated
    /// seconds.
    #[default]
    Full,
}

/// What is left out of a run, so that less of it still shows the same. What it proves then may be
/// thin; that is no failure of such a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Faults, as indexes into the drawn plan ([`Facts::plan`]).
    pub faults: BTreeSet<usize>,
    /// Clients that do nothing at all, as indexes into [`Facts::steps`].
    pub clients: BTreeSet<usize>,
    /// Single steps of clients.
    pub steps: BTreeSet<Step>,
}

/// One step of a client: a burst of records, a poll, a call. Steps are counted over all
/// incarnations of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// Index into [`Facts::steps`].
    pub client: usize,
    /// Counted from 0.
    pub number: u32,
}

/// What is kept of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watch {
    /// The facts.
    #[default]
    Quiet,
    /// Every event is printed to standard error.
    Loud,
    /// The history and every event are kept.
    Tape,
}

/// What is known of a run, however it ended.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What was run.
    pub run: Run,
    /// The fault plan as drawn, before anything is left out.
    pub plan: Plan,
    /// How many steps each client took, those left out included.
    pub steps: Vec<u32>,
    /// What the judge counted.
    pub tally: check::Tally,
    /// What the judge found, with witnesses in the history.
    pub findings: Vec<check::Finding>,
    /// What is wrong and shows in no history, in the order in which it was seen; also of a run that
    /// ended in a panic.
    pub sightings: Vec<Sighting>,
    /// Faults that fired.
    pub counts: Counts,
    /// What clients were answered, and which options they had together.
    pub seen: Seen,
    /// The hash over every event, up to a panic if a simulated program panicked.
    pub digest: Option<Digest>,
    /// Simulated time.
    pub simulated: Duration,
    /// What the probes counted; nothing if a simulated program panicked.
    pub probes: Hits,
    /// Time on a processor.
    pub cpu: Duration,
    /// The part of it that checkers and invariants took.
    pub judged: Duration,
    /// The whole history, if it is [taped](Watch::Tape).
    pub history: Option<History>,
    /// Every event, if they are [taped](Watch::Tape).
    pub tape: Vec<Entry>,
}

/// A run that went well.
#[derive(Clone, Debug)]
pub struct Passed {
    /// What is known of it.
    pub facts: Box<Facts>,
}

/// How a run failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Failed {
    /// The history or an invariant shows what must never happen.
    Safety,
    /// The healed system did not do its work in time.
    Liveness,
    /// The same seed went differently.
    Determinism,
    /// A simulated program panicked.
    Panic,
    /// The run proved too little: too few records or crashes.
    Thin,
}

/// A run that failed. Its text ends with the command that repeats it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// How.
    pub how: Failed,
    /// What found it: names of anomalies, ids of invariants, or what was stuck; sorted, each once.
    pub found_by: Vec<String>,
    /// What was seen.
    pub text: String,
    /// What is known of the run.
    pub facts: Box<Facts>,
}

impl Run {
    /// A quiet run of `seed` with nothing left out.
    #[must_use]
    pub fn new(seed: u64, size: Size) -> Run {
        Run { seed, size, cut: Cut::default(), watch: Watch::Quiet }
    }
}

impl Cut {
    /// Whether nothing is left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty() && self.clients.is_empty() && self.steps.is_empty()
    }
}

impl Size {
    /// Acknowledged records that a run must have had, or it proves too little.
    #[must_use]
    pub fn acknowledged_min(self) -> usize {
        match self {
            Size::Small => 200,
            Size::Full => 1000,
        }
    }

    /// Broker crashes that a run must have had.
    #[must_use]
    pub fn crashes_min(self) -> usize {
        2
    }

    /// Simulated time that a run must have taken.
    #[must_use]
    pub fn simulated_min(self) -> Duration {
        match self {
            Size::Small => Duration::ZERO,
            Size::Full => Duration::from_secs(60),
        }
    }
}

impl Failure {
    /// The seed that failed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.facts.run.seed
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let named = [Size::Small, Size::Full].into_iter().find(|size| size.to_string() == text);
        named.ok_or_else(|| format!("'{text}' is no size: small or full"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Size::Small => "small",
            Size::Full => "full",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { how, found_by, text, facts } = self;
        let Run { seed, .. } = facts.run;
        let (found_by, text) = (found_by.join(", "), text.trim_end());
        write!(f, "seed {seed} failed ({how:?}, {found_by}): {text}\n\n")?;
        writeln!(f, "  {}", crate::outcome::command(&facts.run))
    }
}
