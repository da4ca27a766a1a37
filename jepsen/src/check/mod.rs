//! Checkers: what a history proves about the log behind it.
//!
//! One file per anomaly, each a function of what is prepared once: the [`view::View`] of records, the
//! [`calls::Call`]s, the [`walk::Moves`] of consumers, the [`commit::Register`]s of groups, and what
//! may be missing ([`gone::Gone`]). The definitions of what is wrong with records are those of
//! Jepsen's workload for Kafka-like logs (its `tests/kafka.clj`), without transactions. Keeps:
//! findings in a fixed order, the same on every run, each with a witness of a few events; no
//! randomness; work in O(n log n). Must not know: who made the history.

mod calls;
mod commit;
mod compaction;
mod double_ownership;
mod duplicate;
mod end_offset;
mod expect;
mod gone;
mod inconsistent_offsets;
mod linear;
mod lost_commit;
mod lost_write;
mod metadata;
mod nonmonotonic_poll;
mod nonmonotonic_send;
mod offset_regression;
mod offsets_dense;
mod phantom;
mod poll_skip;
mod retention;
mod start_offset;
#[cfg(test)]
mod tests;
mod time_lookup;
mod unseen;
mod view;
mod walk;
mod zombie_commit;
mod zombie_write;

use std::fmt;

use crate::history::History;
use gone::Gone;
use start_offset::Starts;
use view::View;
use walk::Moves;

pub use calls::kind as call_kind;
pub use expect::{Expect, Promise, Retention};

/// Findings of one anomaly that are kept with witness and sentence; the rest is only counted.
const FINDINGS_PER_ANOMALY_MAX: usize = 10;
/// Of an event that is shown, so many bytes at most.
const EVENT_TEXT_MAX: usize = 160;

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
    /// A record of a producer's old epoch behind one of a newer epoch.
    ZombieWrite,
    /// A hole in the offsets of a partition.
    OffsetsDense,
    /// A record that nobody sent, at least not there, or whose send had certainly failed.
    Phantom,
    /// The start of a partition went back, moved without leave, or was read below.
    StartOffset,
    /// The end of a partition went back, or lies below what is there.
    EndOffset,
    /// The offset of a time is not that of the first record that is so young.
    TimeLookup,
    /// Compaction took the last record of a key, or brought an old one back.
    Compaction,
    /// Retention did not take what it had to.
    Retention,
    /// What was read of topics, settings and leaders fits no order of the acknowledged changes.
    MetadataNonlinearizable,
    /// An acknowledged commit of a group vanished.
    LostCommit,
    /// What a group had committed went back.
    OffsetRegression,
    /// A commit of an old generation was accepted.
    ZombieCommit,
    /// Two members owned one partition in one generation.
    DoubleOwnership,
}

impl Anomaly {
    pub const ALL: [Anomaly; 21] = [
        Anomaly::Malformed,
        Anomaly::LostWrite,
        Anomaly::Unseen,
        Anomaly::Duplicate,
        Anomaly::InconsistentOffsets,
        Anomaly::NonmonotonicPoll,
        Anomaly::PollSkip,
        Anomaly::NonmonotonicSend,
        Anomaly::ZombieWrite,
        Anomaly::OffsetsDense,
        Anomaly::Phantom,
        Anomaly::StartOffset,
        Anomaly::EndOffset,
        Anomaly::TimeLookup,
        Anomaly::Compaction,
        Anomaly::Retention,
        Anomaly::MetadataNonlinearizable,
        Anomaly::LostCommit,
        Anomaly::OffsetRegression,
        Anomaly::ZombieCommit,
        Anomaly::DoubleOwnership,
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
            Anomaly::ZombieWrite => "zombie-write",
            Anomaly::OffsetsDense => "offsets-dense",
            Anomaly::Phantom => "phantom",
            Anomaly::StartOffset => "start-offset",
            Anomaly::EndOffset => "end-offset",
            Anomaly::TimeLookup => "time-lookup",
            Anomaly::Compaction => "compaction",
            Anomaly::Retention => "retention",
            Anomaly::MetadataNonlinearizable => "metadata-nonlinearizable",
            Anomaly::LostCommit => "lost-commit",
            Anomaly::OffsetRegression => "offset-regression",
            Anomaly::ZombieCommit => "zombie-commit",
            Anomaly::DoubleOwnership => "double-ownership",
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
    /// Topics whose metadata had too many possible orders to be judged.
    pub undecided: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { sent, acknowledged, unknown, read, crashes, undecided, .. } = self;
        write!(
            f,
            "{sent} sent, {acknowledged} acknowledged, {unknown} unknown, {read} read, \
             {crashes} crashes"
        )?;
        match undecided {
            0 => Ok(()),
            topics => write!(f, "; the metadata of {topics} topics could not be judged"),
        }
    }
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
    /// Nothing is wrong. Whether anything was judged at all says the tally, and whether everything
    /// could be ([`Tally::undecided`]): who asks for a verdict must look at that, too.
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

    /// The report with the events that prove each finding, numbered as the lines of a file are.
    #[must_use]
    pub fn explained(&self, history: &History) -> String {
        let mut text = String::new();
        for Finding { anomaly, sentence, witness } in &self.findings {
            text.push_str(&format!("{anomaly}: {sentence}\n"));
            for at in witness {
                let mut event = history.text(*at);
                if let Some(end) = event.char_indices().map(|(end, _)| end).nth(EVENT_TEXT_MAX) {
                    event.truncate(end);
                    event.push('…');
                }
                text.push_str(&format!("  line {:>6}  {event}\n", at + 2));
            }
        }
        for (anomaly, count) in
            self.anomalies().filter(|(_, count)| *count > FINDINGS_PER_ANOMALY_MAX)
        {
            text.push_str(&format!("{anomaly}: {count} in all\n"));
        }
        text
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
        writeln!(f, "{}", self.tally)?;
        for (anomaly, count) in self.anomalies() {
            writeln!(f, "{anomaly}: {count}")?;
            for finding in self.findings.iter().filter(|finding| finding.anomaly == anomaly) {
                writeln!(f, "  {}", finding.sentence)?;
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
    let calls = calls::calls(&view, &mut report);
    let gone = Gone::new(&view, &calls);
    phantom::check(&view, &mut report);
    inconsistent_offsets::check(&view, &mut report);
    if expect.caught_up {
        lost_write::check(&view, &gone, &mut report);
        unseen::check(&view, &gone, &mut report);
        offsets_dense::check(&view, &gone, &mut report);
    }
    duplicate::check(&view, &mut report);
    nonmonotonic_send::check(&view, &mut report);
    zombie_write::check(&view, &mut report);
    let starts = Starts::new(&view, &calls);
    let Moves { jumps, lows, resumes } = walk::moves(&view, &gone, &starts);
    nonmonotonic_poll::check(&view, &jumps, &mut report);
    poll_skip::check(&view, &gone, &jumps, &mut report);
    start_offset::check(&view, &gone, &starts, &lows, &mut report);
    end_offset::check(&view, &calls, &mut report);
    time_lookup::check(&view, &gone, &calls, &mut report);
    if expect.caught_up {
        compaction::check(&view, &gone, &jumps, &mut report);
        retention::check(&view, &gone, &mut report);
    }
    report.tally.undecided = metadata::check(&view, &calls, &mut report);
    let registers = commit::registers(&view, &calls);
    lost_commit::check(&view, &registers, &resumes, &mut report);
    offset_regression::check(&view, &registers, &mut report);
    let lives = commit::Lives::new(&view, &calls, expect.vacant_groups_go);
    zombie_commit::check(&view, &registers, &lives, &mut report);
    double_ownership::check(&view, &lives, &mut report);
    poll_skip::resumed(&view, &gone, &registers, &resumes, &mut report);
    report.findings.sort_by_key(|finding| finding.anomaly);
    report
}
