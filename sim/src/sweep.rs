//! Many seeds: runs them one after another or on several threads, and adds up what they proved.

#![allow(clippy::disallowed_methods, reason = "how long a sweep takes is real time")]

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::plan::Kind;
use crate::scenario::{Failed, Failure, Passed};

/// What a sweep came to.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Seeds that passed.
    pub passed: u64,
    /// Seeds that failed, in order.
    pub failures: Vec<Failure>,
    /// Records acknowledged.
    pub acknowledged: usize,
    /// The fewest records that one seed had acknowledged.
    pub acknowledged_min: usize,
    /// Records read.
    pub read: usize,
    /// Faults that fired.
    pub counts: BTreeMap<Kind, u64>,
    /// The fewest broker crashes in one seed.
    pub crashes_min: u64,
    /// Events that went into the hashes.
    pub events: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// Real time.
    pub elapsed: Duration,
    /// The slowest seed and its real time.
    pub slowest: Option<(u64, Duration)>,
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
                    let mut totals = totals.lock().expect("nobody panics with it");
                    totals.add(seed, result, begun.elapsed());
                }
            });
        }
    });
    let mut totals = totals.into_inner().expect("nobody panics with it");
    totals.failures.sort_by_key(Failure::seed);
    totals.elapsed = start.elapsed();
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
    fn add(&mut self, seed: u64, result: Result<Passed, Failure>, took: Duration) {
        if self.slowest.is_none_or(|(_, slowest)| took > slowest) {
            self.slowest = Some((seed, took));
        }
        let facts = match result {
            Ok(passed) => passed.facts,
            Err(failure) => return self.failures.push(failure),
        };
        let crashes = crashes(&facts.counts);
        let first = self.passed == 0;
        let acknowledged = facts.tally.acknowledged;
        self.acknowledged_min =
            if first { acknowledged } else { self.acknowledged_min.min(acknowledged) };
        self.crashes_min = if first { crashes } else { self.crashes_min.min(crashes) };
        self.passed += 1;
        self.acknowledged += acknowledged;
        self.read += facts.tally.read;
        self.events += facts.digest.map_or(0, |digest| digest.events);
        self.simulated += facts.simulated;
        for (kind, count) in facts.counts {
            *self.counts.entry(kind).or_default() += count;
        }
    }
}

/// Broker crashes among the faults that fired.
#[must_use]
pub fn crashes(counts: &BTreeMap<Kind, u64>) -> u64 {
    let kinds = [Kind::Kill, Kind::PowerLoss, Kind::KillAtCall, Kind::PowerLossAtCall];
    kinds.iter().filter_map(|kind| counts.get(kind)).sum()
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seeds = self.passed + self.failures.len() as u64;
        let elapsed = self.elapsed.as_secs_f64();
        writeln!(
            f,
            "{seeds} seeds, {} passed, {} failed: {} records acknowledged (at least {} a seed), \
             {} broker crashes (at least {} a seed)",
            self.passed,
            self.failures.len(),
            self.acknowledged,
            self.acknowledged_min,
            crashes(&self.counts),
            self.crashes_min,
        )?;
        writeln!(
            f,
            "{:.0} simulated seconds and {} events in {elapsed:.1} s: {:.1} seeds per second",
            self.simulated.as_secs_f64(),
            self.events,
            seeds as f64 / elapsed,
        )?;
        if let Some((seed, took)) = self.slowest {
            writeln!(f, "slowest: seed {seed}, {:.2} s", took.as_secs_f64())?;
        }
        let fired = |kind: &Kind| {
            let count = self.counts.get(kind).copied().unwrap_or(0);
            format!("{kind} {count}")
        };
        let fired: Vec<String> = Kind::ALL.iter().map(fired).collect();
        writeln!(f, "faults fired: {}", fired.join(", "))
    }
}
