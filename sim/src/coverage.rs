//! What a sweep has reached: faults and pairs of them, answers, pairs of faults and APIs, probes.
//!
//! A sweep that never did something proves nothing about it. Adds up outcomes; knows nothing of
//! how they came about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use trialog_engine::broker::SERVED;
use trialog_engine::probe::Probe;
use trialog_engine::wire::api::ApiKey;
use trialog_engine::wire::code::ErrorCode;

use crate::outcome::Outcome;
use crate::plan::Kind;
use crate::scenario::{Pair, Size, pairs_possible, versions_possible};

/// How many of a list that is long are named.
const NAMED: usize = 40;
/// Of pairs so many per cent must be reached where everything is demanded.
const PAIRS_DEMANDED: usize = 99;

/// What has been reached, and in how many seeds or how often.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Coverage {
    /// How large the runs were.
    size: Size,
    /// Seeds.
    pub seeds: u64,
    /// Kinds of faults, by the seeds in which they fired.
    pub faults: BTreeMap<String, u64>,
    /// Two kinds of faults in one seed.
    pairs: BTreeSet<(String, String)>,
    /// A kind of fault and an API in one seed.
    fault_apis: BTreeSet<(String, String)>,
    /// Answers (API, version, error code) by how many arrived.
    pub answers: BTreeMap<String, u64>,
    /// Two options of one client.
    option_pairs: BTreeSet<Pair>,
    /// Rare paths, by how often they were taken.
    pub probes: BTreeMap<String, u64>,
}

/// How many of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Reached.
    pub reached: usize,
    /// All there are.
    pub all: usize,
}

impl Coverage {
    /// Nothing yet, of runs of a size.
    #[must_use]
    pub fn of(size: Size) -> Coverage {
        Coverage { size, ..Coverage::default() }
    }

    /// Adds one run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        let kinds: Vec<&String> = outcome.faults.keys().collect();
        let apis: BTreeSet<&str> = outcome.answers.keys().map(|answer| api(answer)).collect();
        for (place, kind) in kinds.iter().enumerate() {
            *self.faults.entry((*kind).clone()).or_default() += 1;
            for other in &kinds[place + 1..] {
                self.pairs.insert(((*kind).clone(), (*other).clone()));
            }
            for api in &apis {
                self.fault_apis.insert(((*kind).clone(), (*api).to_owned()));
            }
        }
        self.option_pairs.extend(outcome.option_pairs.iter().cloned());
        for (mine, theirs) in
            [(&mut self.answers, &outcome.answers), (&mut self.probes, &outcome.probes)]
        {
            for (name, count) in theirs {
                *mine.entry(name.clone()).or_default() += count;
            }
        }
    }

    /// Adds what other runs of the same size have reached.
    pub fn merge(&mut self, other: Coverage) {
        self.seeds += other.seeds;
        self.pairs.extend(other.pairs);
        self.fault_apis.extend(other.fault_apis);
        self.option_pairs.extend(other.option_pairs);
        for (mine, theirs) in [
            (&mut self.faults, other.faults),
            (&mut self.answers, other.answers),
            (&mut self.probes, other.probes),
        ] {
            for (name, count) in theirs {
                *mine.entry(name).or_default() += count;
            }
        }
    }

    /// Pairs of kinds of faults that fired in one seed.
    #[must_use]
    pub fn pairs(&self) -> Share {
        let kinds = Kind::ALL.len();
        Share { reached: self.pairs.len(), all: kinds * (kinds - 1) / 2 }
    }

    /// Pairs of a kind of fault and an API that answered in one seed, of all APIs that brokers serve.
    #[must_use]
    pub fn fault_apis(&self) -> Share {
        Share { reached: self.fault_apis.len(), all: Kind::ALL.len() * SERVED.len() }
    }

    fn fault_apis_missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for kind in Kind::ALL.iter().map(Kind::to_string) {
            for (api, _) in SERVED {
                let pair = (kind.clone(), api.name().to_owned());
                if !self.fault_apis.contains(&pair) {
                    missed.push(format!("{kind} with {}", api.name()));
                }
            }
        }
        missed
    }

    /// Pairs of options that one client had, of those that clients of this size can have.
    #[must_use]
    pub fn option_pairs(&self) -> Share {
        let all = pairs_possible(self.size);
        Share { reached: all.intersection(&self.option_pairs).count(), all: all.len() }
    }

    fn options_missed(&self) -> Vec<String> {
        let missed = pairs_possible(self.size).difference(&self.option_pairs);
        missed.map(|(one, other)| format!("{one} with {other}")).collect()
    }

    /// What a long sweep must reach and this one has not, a sentence each: every kind of fault, every
    /// rare path that can be taken, every version of every API, and of pairs almost all.
    #[must_use]
    pub fn unmet(&self) -> Vec<String> {
        let mut unmet = Vec::new();
        let mut never = |what: &str, names: Vec<String>| {
            if !names.is_empty() {
                unmet.push(format!("{what}: {}", named(names)));
            }
        };
        never("faults that never fired", self.faults_missed());
        let probes = self.probes_missed().into_iter().map(|probe| probe.name().to_owned());
        never("rare paths never taken", probes.collect());
        never("versions that never answered", self.versions_missed());
        for (what, pairs) in [
            ("pairs of faults in one seed", self.pairs()),
            ("pairs of a fault and an API in one seed", self.fault_apis()),
            ("pairs of options of one client", self.option_pairs()),
        ] {
            if pairs.reached * 100 < pairs.all * PAIRS_DEMANDED {
                unmet.push(format!("{what}: {pairs}, less than {PAIRS_DEMANDED} %"));
            }
        }
        unmet
    }

    /// Kinds of faults that never fired.
    #[must_use]
    pub fn faults_missed(&self) -> Vec<String> {
        let names = Kind::ALL.iter().map(Kind::to_string);
        names.filter(|name| !self.faults.contains_key(name)).collect()
    }

    /// Rare paths that were never taken and could have been.
    #[must_use]
    pub fn probes_missed(&self) -> Vec<Probe> {
        let missed =
            |probe: &Probe| probe.beyond().is_none() && !self.probes.contains_key(probe.name());
        Probe::ALL.iter().copied().filter(missed).collect()
    }

    /// Rare paths that were taken, of those that can be.
    #[must_use]
    pub fn probes_taken(&self) -> Share {
        let all = Probe::ALL.iter().filter(|probe| probe.beyond().is_none()).count();
        Share { reached: all - self.probes_missed().len(), all }
    }

    /// Versions of APIs that answered, of those that brokers serve.
    #[must_use]
    pub fn versions(&self) -> Share {
        let all = versions_possible().count();
        Share { reached: all - self.versions_missed().len(), all }
    }

    fn versions_missed(&self) -> Vec<String> {
        let asked = |name: &String| {
            let from = self.answers.range(format!("{name} ")..).next();
            from.is_some_and(|(answer, _)| answer.starts_with(&format!("{name} ")))
        };
        let names = versions_possible().map(|(api, version)| format!("{} {version}", api.name()));
        names.filter(|name| !asked(name)).collect()
    }

    fn apis(&self) -> BTreeSet<&str> {
        self.answers.keys().map(|answer| api(answer)).collect()
    }

    fn pairs_missed(&self) -> Vec<String> {
        let names: Vec<String> = Kind::ALL.iter().map(Kind::to_string).collect();
        let mut missed = Vec::new();
        for (place, one) in names.iter().enumerate() {
            for other in &names[place + 1..] {
                let (first, second) = if one < other { (one, other) } else { (other, one) };
                if !self.pairs.contains(&(first.clone(), second.clone())) {
                    missed.push(format!("{first} with {second}"));
                }
            }
        }
        missed
    }
}

/// The text form of an answer.
#[must_use]
pub fn answer(api: ApiKey, version: i16, code: ErrorCode) -> String {
    format!("{} {version} {code:?}", api.name())
}

fn api(answer: &str) -> &str {
    answer.split(' ').next().unwrap_or_default()
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Share { reached, all } = self;
        let share = 100.0 * *reached as f64 / (*all).max(1) as f64;
        write!(f, "{reached} of {all} ({share:.1} %)")
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = Share { reached: self.faults.len(), all: Kind::ALL.len() };
        writeln!(f, "{} seeds\n\nkinds of faults that fired: {kinds}", self.seeds)?;
        for (kind, seeds) in &self.faults {
            writeln!(f, "  {kind:24} in {seeds} seeds")?;
        }
        list(f, "never", self.faults_missed())?;
        writeln!(f, "\npairs of faults in one seed: {}", self.pairs())?;
        list(f, "never", self.pairs_missed())?;
        writeln!(f, "\npairs of a fault and an API in one seed: {}", self.fault_apis())?;
        list(f, "never", self.fault_apis_missed())?;
        writeln!(f, "\nanswers that arrived, {} kinds:", self.answers.len())?;
        for api in self.apis() {
            let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for (answer, count) in &self.answers {
                let mut parts = answer.split(' ');
                if parts.next() == Some(api) {
                    let (version, error) = (parts.next(), parts.next());
                    let error = format!("{} {count}", error.unwrap_or_default());
                    versions.entry(version.unwrap_or_default()).or_default().push(error);
                }
            }
            for (version, errors) in versions {
                writeln!(f, "  {api} {version}: {}", errors.join(", "))?;
            }
        }
        writeln!(f, "\nversions of APIs that answered: {}", self.versions())?;
        list(f, "never", self.versions_missed())?;
        writeln!(f, "\npairs of options of one client: {}", self.option_pairs())?;
        list(f, "never", self.options_missed())?;
        writeln!(f, "\nrare paths taken: {}", self.probes_taken())?;
        for probe in Probe::ALL {
            if let Some(count) = self.probes.get(probe.name()) {
                writeln!(f, "  {:24} {count:>8}  {}", probe.name(), probe.about())?;
            }
        }
        writeln!(f, "never taken:")?;
        for probe in self.probes_missed() {
            writeln!(f, "  {:24}           {}", probe.name(), probe.about())?;
        }
        writeln!(f, "beyond any run:")?;
        for probe in Probe::ALL {
            if let Some(why) = probe.beyond() {
                writeln!(f, "  {:24}           {why}", probe.name())?;
            }
        }
        Ok(())
    }
}

fn list(f: &mut fmt::Formatter<'_>, what: &str, names: Vec<String>) -> fmt::Result {
    if names.is_empty() {
        return Ok(());
    }
    writeln!(f, "  {what}: {}", named(names))
}

fn named(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    names.truncate(NAMED);
    names.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that is demanded, reached in one seed.
    fn complete() -> Coverage {
        let mut coverage = Coverage::default();
        coverage.add(&Outcome {
            faults: Kind::ALL.iter().map(|kind| (kind.to_string(), 1)).collect(),
            answers: versions_possible()
                .map(|(api, version)| (answer(api, version, ErrorCode::None), 1))
                .collect(),
            option_pairs: pairs_possible(Size::default()).iter().cloned().collect(),
            probes: Probe::ALL.iter().map(|probe| (probe.name().to_owned(), 1)).collect(),
            ..Outcome::default()
        });
        coverage
    }

    #[test]
    fn what_is_demanded_is_every_fault_probe_and_version_and_almost_every_pair() {
        assert_eq!(complete().unmet(), Vec::<String>::new());
        let mut less = complete();
        less.faults.remove("PowerLoss");
        less.probes.remove(Probe::Duplicate.name());
        // Nobody can take it, so nobody asks for it.
        less.probes.remove(Probe::ProducersEvicted.name());
        less.answers.remove("Produce 9 None");
        assert_eq!(
            less.unmet(),
            [
                "faults that never fired: PowerLoss",
                "rare paths never taken: Duplicate",
                "versions that never answered: Produce 9"
            ]
        );
        let mut less = complete();
        // As many as one per cent are forgiven.
        for _ in 0..less.pairs().all / 100 {
            less.pairs.pop_first();
        }
        assert_eq!(less.unmet(), Vec::<String>::new());
        less.pairs.pop_first();
        less.fault_apis.clear();
        less.option_pairs.clear();
        let unmet = less.unmet();
        assert_eq!(unmet.len(), 3);
        assert!(unmet[0].starts_with("pairs of faults in one seed: "), "{unmet:?}");
        assert!(unmet[1].ends_with("(0.0 %), less than 99 %"), "{unmet:?}");
        assert!(unmet[2].starts_with("pairs of options of one client: 0 of "), "{unmet:?}");
    }

    #[test]
    fn pairs_count_once_whatever_their_order() {
        let outcome = |faults: &[&str], api: ApiKey| Outcome {
            faults: faults.iter().map(|&kind| (kind.to_owned(), 3)).collect(),
            answers: [(answer(api, 9, ErrorCode::None), 5)].into(),
            option_pairs: vec![("acks=1".to_owned(), "linger=0".to_owned())],
            ..Outcome::default()
        };
        let mut coverage = Coverage::default();
        coverage.add(&outcome(&["Kill", "Cut"], ApiKey::Produce));
        coverage.add(&outcome(&["Cut", "Kill"], ApiKey::Fetch));
        coverage.add(&outcome(&["Reset"], ApiKey::Fetch));
        assert_eq!(coverage.pairs().reached, 1);
        assert_eq!(coverage.fault_apis().reached, 5);
        assert_eq!(coverage.fault_apis().all, SERVED.len() * Kind::ALL.len());
        assert_eq!(coverage.faults.get("Kill"), Some(&2));
        assert_eq!(coverage.answers.get("Fetch 9 None"), Some(&10));
        assert_eq!(coverage.option_pairs.len(), 1);
        assert_eq!(coverage.versions().reached, 2);
        assert!(coverage.faults_missed().contains(&"PowerLoss".to_owned()));
        assert!(!coverage.pairs_missed().contains(&"Cut with Kill".to_owned()));
        assert_eq!(coverage.probes_missed().len(), coverage.probes_taken().all);
        assert_eq!(coverage.seeds, 3);
    }
}
