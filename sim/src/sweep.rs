//! Many seeds: what a sweep adds up to, and sweeps within one process, for tests.
//!
//! `cargo sim` sweeps with worker processes (see [`crate::crew`]); `cargo test` uses [`sweep`],
//! which takes a thread a job. Both add to the same [`Totals`].

#![allow(clippy::disallowed_methods, reason = "how long a sweep takes is real time")]

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::plan::Kind;
use crate::scenario::{Failed, Failure, Passed};
use crate::timing::percentile;

/// In at most one of so many seeds the judge may leave something undecided, and in one of fewer.
const UNDECIDED_ONE_IN: u64 = 1000;
/// So many of them are named.
const UNDECIDED_NAMED: usize = 10;

/// What a sweep came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// It was told to end before all its seeds were run.
    pub interrupted: bool,
    /// Seeds that passed.
    pub passed: u64,
    /// Seeds that failed, in order.
    pub failures: Vec<Outcome>,
    /// Seeds that were run twice.
    pub twice: u64,
    /// Records acknowledged.
    pub acknowledged: u64,
    /// The fewest records that one seed had acknowledged.
    pub acknowledged_min: u64,
    /// Records read.
    pub read: u64,
    /// Topics whose life the judge could not settle: what was answered about them is not judged.
    pub undecided: u64,
    /// The seeds that have such topics, in order.
    pub undecided_seeds: Vec<u64>,
    /// How often each kind of fault fired, by name.
    pub faults: BTreeMap<String, u64>,
    /// Broker crashes.
    pub crashes: u64,
    /// The fewest broker crashes in one seed.
    pub crashes_min: u64,
    /// Events that went into the hashes.
    pub events: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// Time on processors.
    pub cpu: Duration,
    /// The part of it that checkers and invariants took.
    pub judged: Duration,
    /// Real time.
    pub elapsed: Duration,
    /// The slowest seed and its real time.
    pub slowest: Option<(u64, Duration)>,
    /// Real time of each seed in nanoseconds, sorted in the end.
    pub took: Vec<u64>,
}

/// Runs the seeds of `range` on `jobs` threads; `each` hears of every one that is done.
#[must_use]
pub fn sweep(
    range: Range<u64>,
    jobs: usize,
    run: impl Fn(u64) -> Result<Passed, Failure> + Sync,
    each: impl Fn(&Result<Passed, Failure>) + Sync,
) -> Totals {
    let (next, start) = (AtomicU64::new(range.start), Instant::now());
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= range.end {
                        break;
                    }
                    let begun = Instant::now();
                    let result = run(seed);
                    each(&result);
                    let outcome = Outcome::of(&result, begun.elapsed());
                    totals.lock().expect("nobody panics with it").add(outcome);
                }
            });
        }
    });
    let mut totals = totals.into_inner().expect("nobody panics with it");
    totals.finish(start.elapsed());
    totals
}

/// Runs one seed twice and compares the hashes.
///
/// # Errors
/// The failure of the run, or the two hashes.
pub fn twice(seed: u64, run: impl Fn(u64) -> Result<Passed, Failure>) -> Result<Passed, Failure> {
    let (first, second) = (run(seed)?, run(seed)?);
    let digests = [first.facts.digest, second.facts.digest];
    if digests[0] != digests[1] {
        let [one, other] = digests.map(|digest| digest.map_or_else(String::new, |d| d.to_string()));
        let text = format!("two runs, two hashes: {one} and {other}");
        let (how, found_by) = (Failed::Determinism, vec!["digest".to_owned()]);
        return Err(Failure { how, found_by, text, facts: second.facts });
    }
    Ok(first)
}

impl Totals {
    /// Adds one run.
    pub fn add(&mut self, outcome: Outcome) {
        let took = Duration::from_nanos(outcome.took_ns);
        self.took.push(outcome.took_ns);
        if self.slowest.is_none_or(|(_, slowest)| took > slowest) {
            self.slowest = Some((outcome.seed, took));
        }
        self.events += outcome.events;
        self.simulated += Duration::from_nanos(outcome.simulated_ns);
        self.cpu += Duration::from_nanos(outcome.cpu_ns);
        self.judged += Duration::from_nanos(outcome.judged_ns);
        self.undecided += outcome.undecided;
        if outcome.undecided > 0 {
            self.undecided_seeds.push(outcome.seed);
        }
        for (kind, count) in &outcome.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
        if outcome.wrong.is_some() {
            return self.failures.push(outcome);
        }
        let Outcome { acknowledged, crashes, read, .. } = outcome;
        let first = self.passed == 0;
        self.acknowledged_min =
            if first { acknowledged } else { self.acknowledged_min.min(acknowledged) };
        self.crashes_min = if first { crashes } else { self.crashes_min.min(crashes) };
        self.passed += 1;
        self.acknowledged += acknowledged;
        self.crashes += crashes;
        self.read += read;
    }

    /// Adds another part of the same sweep, over as this one is: they were run beside each other.
    pub fn merge(&mut self, other: Totals) {
        self.interrupted |= other.interrupted;
        self.twice += other.twice;
        self.undecided += other.undecided;
        self.events += other.events;
        self.simulated += other.simulated;
        self.cpu += other.cpu;
        self.judged += other.judged;
        for (kind, count) in other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        let least = |mine: u64, theirs: u64| match (self.passed, other.passed) {
            (_, 0) => mine,
            (0, _) => theirs,
            _ => mine.min(theirs),
        };
        let acknowledged_min = least(self.acknowledged_min, other.acknowledged_min);
        let crashes_min = least(self.crashes_min, other.crashes_min);
        (self.acknowledged_min, self.crashes_min) = (acknowledged_min, crashes_min);
        self.passed += other.passed;
        self.acknowledged += other.acknowledged;
        self.crashes += other.crashes;
        self.read += other.read;
        let both = self.slowest.into_iter().chain(other.slowest);
        self.slowest = both.max_by_key(|(_, took)| *took);
        self.failures.extend(other.failures);
        self.undecided_seeds.extend(other.undecided_seeds);
        self.took.extend(other.took);
        self.finish(self.elapsed.max(other.elapsed));
    }

    /// The sweep is over, after `elapsed` of real time.
    pub fn finish(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
        self.failures.sort_by_key(|failure| failure.seed);
        self.undecided_seeds.sort_unstable();
        self.took.sort_unstable();
    }

    /// Seeds that were run.
    #[must_use]
    pub fn seeds(&self) -> u64 {
        self.passed + self.failures.len() as u64
    }

    /// Faults that fired, all kinds together.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Whether more was left undecided than a sweep may leave: one seed, or one in a thousand.
    #[must_use]
    pub fn too_undecided(&self) -> bool {
        self.undecided_seeds.len() as u64 > self.seeds().div_ceil(UNDECIDED_ONE_IN)
    }

    /// The gravest way in which a seed failed, if one did.
    #[must_use]
    pub fn gravest(&self) -> Option<Failed> {
        self.failures.iter().filter_map(|outcome| outcome.wrong.as_ref()).map(|w| w.how).min()
    }
}

/// Broker crashes among the faults that fired.
#[must_use]
pub fn crashes(counts: &BTreeMap<Kind, u64>) -> u64 {
    counts.iter().filter(|(kind, _)| kind.is_broker_crash()).map(|(_, count)| count).sum()
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seeds, elapsed) = (self.seeds(), self.elapsed.as_secs_f64());
        if self.interrupted {
            write!(f, "interrupted after ")?;
        }
        writeln!(
            f,
            "{seeds} seeds, {} passed, {} failed, {} run twice: {} records acknowledged (at least \
             {} a seed), {} broker crashes (at least {} a seed)",
            self.passed,
            self.failures.len(),
            self.twice,
            self.acknowledged,
            self.acknowledged_min,
            self.crashes,
            self.crashes_min,
        )?;
        writeln!(
            f,
            "{:.2} simulated hours and {} events in {elapsed:.1} s: {:.1} seeds per second",
            self.simulated.as_secs_f64() / 3600.0,
            self.events,
            seeds as f64 / elapsed,
        )?;
        if let Some((seed, took)) = self.slowest {
            let [half, most] = [50, 99].map(|share| percentile(&self.took, share) as f64 / 1e9);
            let took = took.as_secs_f64();
            writeln!(
                f,
                "a seed takes {half:.2} s (p50), {most:.2} s (p99); {seed} took {took:.2} s"
            )?;
        }
        if self.undecided > 0 {
            let (topics, all) = (self.undecided, &self.undecided_seeds);
            let named: Vec<String> =
                all.iter().take(UNDECIDED_NAMED).map(ToString::to_string).collect();
            let (named, all) = (named.join(", "), all.len());
            let verdict = if self.too_undecided() { "too many" } else { "few enough" };
            writeln!(
                f,
                "topics that the judge could not settle: {topics} in {all} seeds, {verdict}: {named}"
            )?;
        }
        let fired = |kind: &Kind| {
            let name = kind.to_string();
            format!("{name} {}", self.faults.get(&name).copied().unwrap_or(0))
        };
        let fired: Vec<String> = Kind::ALL.iter().map(fired).collect();
        writeln!(f, "faults fired: {}", fired.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Run, Size};

    #[test]
    fn totals_add_up_and_the_gravest_failure_counts() {
        let mut totals = Totals::default();
        let passed = |seed, acknowledged| Outcome {
            seed,
            acknowledged,
            crashes: 2 + seed,
            took_ns: seed * 1000,
            faults: [("Kill".to_owned(), 2)].into(),
            ..Outcome::default()
        };
        totals.add(passed(4, 500));
        totals.add(passed(3, 300));
        let failed = |seed, how| Outcome::silent(&Run::new(seed, Size::Small), how, String::new());
        totals.add(failed(9, Failed::Thin));
        totals.add(failed(1, Failed::Safety));
        totals.finish(Duration::from_secs(2));
        assert_eq!((totals.seeds(), totals.passed, totals.fired()), (4, 2, 4));
        assert_eq!((totals.acknowledged, totals.acknowledged_min), (800, 300));
        assert_eq!((totals.crashes, totals.crashes_min), (11, 5));
        assert_eq!(totals.gravest(), Some(Failed::Safety));
        assert_eq!(totals.failures[0].seed, 1);
        assert_eq!(totals.slowest, Some((4, Duration::from_nanos(4000))));
        assert!(totals.to_string().starts_with("4 seeds, 2 passed, 2 failed"));
        assert!(!totals.too_undecided() && !totals.to_string().contains("settle"));
        totals.interrupted = true;
        assert!(totals.to_string().starts_with("interrupted after 4 seeds, 2 passed"));
    }

    #[test]
    fn one_seed_in_a_thousand_may_be_undecided() {
        let mut totals = Totals::default();
        let mut add = |seeds: std::ops::Range<u64>, undecided| {
            seeds.for_each(|seed| totals.add(Outcome { seed, undecided, ..Outcome::default() }));
            (totals.too_undecided(), totals.to_string())
        };
        assert!(!add(0..1, 2).0, "one may be");
        let (too_many, text) = add(1..2, 1);
        assert!(too_many, "two of two may not");
        assert!(text.contains("3 in 2 seeds, too many: 0, 1\n"), "{text}");
        assert!(add(2..1000, 0).0);
        let (too_many, text) = add(1000..1001, 0);
        assert!(!too_many, "two of 1,001 may be");
        assert!(text.contains("3 in 2 seeds, few enough: 0, 1\n"), "{text}");
    }
}
