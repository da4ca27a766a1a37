//! What a sweep came to, in a file: machines that share a sweep write one each, and all of them add up
//! to what the whole sweep would have come to.
//!
//! Owns what is added and what cannot be: parts of two commits or sizes, and seeds that were run by
//! two of them. Knows which parts of a sweep are missing; knows nothing of files.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::coverage::Coverage;
use crate::outcome::Outcome;
use crate::scenario::Size;
use crate::sweep::Totals;

/// How many of the parts that are missing are named.
const NAMED: usize = 10;

/// What the seeds of a sweep came to, or those of a part of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tally {
    /// Of which sources; none if nobody asked.
    pub commit: Option<Commit>,
    /// How large the runs were.
    pub size: Size,
    /// What was to be run.
    asked: BTreeSet<Part>,
    /// The seeds that were run.
    seeds: BTreeSet<u64>,
    /// What they came to.
    pub totals: Totals,
    /// What they reached.
    pub coverage: Coverage,
}

/// The sources that a simulator was built of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Its short hash, with a plus sign if there were uncommitted changes.
    pub name: String,
    /// Its date.
    pub date: String,
}

/// A part of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Part {
    /// The first seed of all parts.
    pub from: u64,
    /// How many seeds all parts have.
    pub seeds: u64,
    /// How many parts there are.
    pub parts: u64,
    /// Which one it is, counted from 1.
    pub part: u64,
}

impl Tally {
    /// Nothing yet, of a part of a sweep.
    #[must_use]
    pub fn new(commit: Option<Commit>, size: Size, part: Part) -> Tally {
        Tally {
            commit,
            size,
            asked: [part].into(),
            seeds: BTreeSet::new(),
            totals: Totals::default(),
            coverage: Coverage::of(size),
        }
    }

    /// Adds one run to all but the totals, which whoever sweeps adds up.
    pub fn add(&mut self, outcome: &Outcome) {
        self.seeds.insert(outcome.seed);
        self.coverage.add(outcome);
    }

    /// Adds another part.
    ///
    /// # Errors
    /// Why the two do not add up; then nothing was added.
    pub fn merge(&mut self, other: Tally) -> Result<(), String> {
        if self.commit != other.commit {
            let name = |commit: &Option<Commit>| {
                commit.as_ref().map_or("none".to_owned(), |commit| commit.name.clone())
            };
            let (one, two) = (name(&self.commit), name(&other.commit));
            return Err(format!("tallies of two commits: {one} and {two}"));
        }
        if self.size != other.size {
            let (one, two) = (self.size, other.size);
            return Err(format!("tallies of two sizes: {one} and {two}"));
        }
        if let Some(seed) = self.seeds.intersection(&other.seeds).next() {
            return Err(format!("seed {seed} is in two tallies"));
        }
        self.asked.extend(other.asked);
        self.seeds.extend(other.seeds);
        self.coverage.merge(other.coverage);
        self.totals.merge(other.totals);
        Ok(())
    }

    /// The parts that are missing, if parts of a sweep were added up and not all of them; a few are
    /// named.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let mut sweeps: BTreeMap<(u64, u64, u64), BTreeSet<u64>> = BTreeMap::new();
        for Part { from, seeds, parts, part } in &self.asked {
            sweeps.entry((*from, *seeds, *parts)).or_default().insert(*part);
        }
        let missing = sweeps.into_iter().flat_map(|((from, seeds, parts), there)| {
            let missing = (1..=parts).filter(move |part| !there.contains(part));
            missing.map(move |part| format!("{part}/{parts} of the {seeds} seeds from {from}"))
        });
        missing.take(NAMED).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::{Failed, Run};

    fn outcome(seed: u64) -> Outcome {
        let faults = if seed.is_multiple_of(2) { ["Kill", "Cut"] } else { ["Kill", "Reset"] };
        let good = Outcome {
            seed,
            acknowledged: 100 + seed,
            crashes: 3 + seed % 4,
            read: seed,
            events: 7 * seed,
            undecided: u64::from(seed == 12),
            took_ns: 1000 + seed * 77 % 13,
            faults: faults.map(|kind| (kind.to_owned(), seed)).into(),
            answers: [("Fetch 9 None".to_owned(), 2)].into(),
            option_pairs: vec![("acks=1".to_owned(), format!("linger={}", seed % 3))],
            probes: [("Duplicate".to_owned(), seed)].into(),
            ..Outcome::default()
        };
        match seed {
            13 | 16 => Outcome::silent(&Run::new(seed, Size::Small), Failed::Thin, String::new()),
            _ => good,
        }
    }

    /// One part of twelve seeds from 10.
    fn part(part: u64, parts: u64) -> Tally {
        let asked = Part { from: 10, seeds: 12, parts, part };
        let commit = Commit { name: "abc".to_owned(), date: "2026-01-02".to_owned() };
        let mut tally = Tally::new(Some(commit), Size::Small, asked);
        let places = (0..12).filter(|place| place % parts == part - 1);
        for place in places {
            tally.totals.twice += u64::from(place == 5);
            tally.add(&outcome(10 + place));
            tally.totals.add(outcome(10 + place));
        }
        tally.totals.finish(Duration::from_secs(part));
        tally
    }

    /// As a file holds it.
    fn written(tally: &Tally) -> Tally {
        let text = serde_json::to_string(tally).expect("plain data");
        serde_json::from_str(&text).expect("what was written")
    }

    #[test]
    fn parts_add_up_to_the_whole_in_any_order() {
        let whole = part(1, 1);
        assert!(whole.missing().is_empty());
        for order in [[1, 2, 3], [3, 1, 2], [2, 3, 1]] {
            let mut sum = written(&part(order[0], 3));
            for &other in &order[1..] {
                sum.merge(written(&part(other, 3))).expect("they fit");
            }
            assert!(sum.missing().is_empty());
            // Only that took longer: as long as the slowest part.
            assert_eq!(sum.totals.elapsed, Duration::from_secs(3));
            sum.totals.elapsed = whole.totals.elapsed;
            assert_eq!(sum.totals.to_string(), whole.totals.to_string());
            let json = |tally: &Tally| {
                let Tally { totals, coverage, seeds, .. } = tally;
                serde_json::to_string(&(totals, coverage, seeds)).expect("plain data")
            };
            assert_eq!(json(&sum), json(&whole));
            assert_eq!(sum.totals.gravest(), Some(Failed::Thin));
        }
        assert!(whole.totals.to_string().starts_with("12 seeds, 10 passed, 2 failed, 1 run twice"));
    }

    #[test]
    fn a_part_that_is_missing_is_named() {
        let mut sum = part(1, 3);
        let missing = |part| format!("{part}/3 of the 12 seeds from 10");
        assert_eq!(sum.missing(), [missing(2), missing(3)]);
        sum.merge(part(3, 3)).expect("they fit");
        assert_eq!(sum.missing(), [missing(2)]);
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        let refused = |other: Tally| part(1, 3).merge(other).expect_err("it does not fit");
        assert_eq!(refused(part(1, 3)), "seed 10 is in two tallies");
        assert_eq!(
            refused(Tally { commit: None, ..part(2, 3) }),
            "tallies of two commits: abc and none"
        );
        assert_eq!(
            refused(Tally { size: Size::Full, ..part(2, 3) }),
            "tallies of two sizes: small and full"
        );
    }
}
