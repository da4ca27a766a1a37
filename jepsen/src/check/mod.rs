//! Checkers: what a history proves about the log behind it.
//!
//! One file per anomaly, each a function of the same prepared [`view::View`]. The definitions are
//! those of Jepsen's workload for Kafka-like logs (its `tests/kafka.clj`), reduced to what exists
//! without transactions and groups. Keeps: findings in a fixed order, the same on every run; no
//! randomness; work in O(n log n). Must not know: who made the history.

mod duplicate;
mod expect;
mod gone;
mod inconsistent_offsets;
mod lost_write;
mod nonmonotonic_poll;
mod nonmonotonic_send;
mod offsets_dense;
mod phantom;
mod poll_skip;
#[cfg(test)]
mod tests;
mod unseen;
mod view;
mod walk;

use std::fmt;

use crate::history::History;
use gone::Gone;
use view::View;

pub use expect::{Expect, Promise, Retention};

/// Findings of one anomaly that are kept with witness and sentence; the rest is only counted.
const FINDINGS_PER_ANOMALY_MAX: usize = 10;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anomaly {
    /// The history itself is not one: a fault of whoever recorded it, never to be ignored.
    Malformed,
    /// An acknowledged record that no reader ever saw although later offsets were read.
    LostWrite,
    /// Acknowledged or read before, and not there in the final reading.
    Unseen,
    /// One value at more than one offset, from an idempotent producer.
    Duplicate,
    /// One partition and offset with two values.
    InconsistentOffsets,
    /// A consumer went back, or got a record again.
    NonmonotonicPoll,
    /// A consumer jumped over records that are there.
    PollSkip,
    /// A producer's later send landed before its earlier one.
    NonmonotonicSend,
    /// A hole in the offsets of a partition.
    OffsetsDense,
    /// A record that nobody sent, at least not there, or whose send had certainly failed.
    Phantom,
}

impl Anomaly {
    pub const ALL: [Anomaly; 10] = [
        Anomaly::Malformed,
        Anomaly::LostWrite,
        Anomaly::Unseen,
        Anomaly::Duplicate,
        Anomaly::InconsistentOffsets,
        Anomaly::NonmonotonicPoll,
        Anomaly::PollSkip,
        Anomaly::NonmonotonicSend,
        Anomaly::OffsetsDense,
        Anomaly::Phantom,
    ];

    /// The name under which reports and documents speak of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Anomaly::Malformed => "malformed-history",
            Anomaly::LostWrite => "lost-write",
            Anomaly::Unseen => "unseen",
            Anomaly::Duplicate => "duplicate",
            Anomaly::InconsistentOffsets => "inconsistent-offsets",
            Anomaly::NonmonotonicPoll => "nonmonotonic-poll",
            Anomaly::PollSkip => "poll-skip",
            Anomaly::NonmonotonicSend => "nonmonotonic-send",
            Anomaly::OffsetsDense => "offsets-dense",
            Anomaly::Phantom => "phantom",
        }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that is wrong, with its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub anomaly: Anomaly,
    pub sentence: String,
    /// The events that prove it: indexes into [`History::events`], a handful at most.
    pub witness: Vec<usize>,
}

/// How much was judged: a run without acknowledged or read records proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub sent: usize,
    pub acknowledged: usize,
    /// Sends whose fate nobody knows.
    pub unknown: usize,
    /// Distinct values that any reader saw.
    pub read: usize,
    /// Distinct values that were seen in the final reading.
    pub read_finally: usize,
    pub crashes: usize,
}

/// The verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub tally: Tally,
    /// At most ten of each anomaly; see [`Report::count`] for how many there are.
    pub findings: Vec<Finding>,
    counts: [usize; Anomaly::ALL.len()],
}

impl Report {
    /// Nothing is wrong. Whether anything was judged at all says the tally.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    /// How often an anomaly was found.
    #[must_use]
    pub fn count(&self, anomaly: Anomaly) -> usize {
        self.counts[anomaly as usize]
    }

    /// All anomalies that were found, with their counts.
    pub fn anomalies(&self) -> impl Iterator<Item = (Anomaly, usize)> + '_ {
        let counted = Anomaly::ALL.into_iter().map(|anomaly| (anomaly, self.count(anomaly)));
        counted.filter(|(_, count)| *count > 0)
    }

    fn add(&mut self, anomaly: Anomaly, witness: Vec<usize>, sentence: impl FnOnce() -> String) {
        let count = &mut self.counts[anomaly as usize];
        *count += 1;
        if *count <= FINDINGS_PER_ANOMALY_MAX {
            self.findings.push(Finding { anomaly, sentence: sentence(), witness });
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { sent, acknowledged, unknown, read, crashes, .. } = self.tally;
        writeln!(
            f,
            "{sent} sent, {acknowledged} acknowledged, {unknown} unknown, {read} read, \
             {crashes} crashes"
        )?;
        for (anomaly, count) in self.anomalies() {
            writeln!(f, "{anomaly}: {count}")?;
            for finding in self.findings.iter().filter(|finding| finding.anomaly == anomaly) {
                writeln!(f, "  {} (events {:?})", finding.sentence, finding.witness)?;
            }
        }
        Ok(())
    }
}

/// Judges a history by everything in this module.
#[must_use]
pub fn all(history: &History, expect: &Expect) -> Report {
    let mut report = Report::default();
    let view = View::new(history, expect, &mut report);
    report.tally = view.tally();
    let gone = Gone::new(&view);
    phantom::check(&view, &mut report);
    inconsistent_offsets::check(&view, &mut report);
    lost_write::check(&view, &gone, &mut report);
    if expect.caught_up {
        unseen::check(&view, &gone, &mut report);
    }
    duplicate::check(&view, &mut report);
    nonmonotonic_send::check(&view, &mut report);
    let jumps = walk::jumps(&view, &gone);
    nonmonotonic_poll::check(&view, &jumps, &mut report);
    poll_skip::check(&view, &gone, &jumps, &mut report);
    offsets_dense::check(&view, &gone, &mut report);
    report.findings.sort_by_key(|finding| finding.anomaly);
    report
}
