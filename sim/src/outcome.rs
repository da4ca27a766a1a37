//! What one run came to, in the form in which processes tell each other: one line of JSON.
//!
//! A sweep hands seeds to worker processes and compares runs in fresh processes; all they say
//! about a run is an [`Outcome`]. Owns that form and the command that repeats a run; knows nothing
//! of processes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trialog_engine::probe::Probe;

use crate::coverage;
use crate::plan::Kind;
use crate::scenario::{Answer, BrokerDisk, Facts, Failed, Failure, Passed, Run};
use crate::sweep::crashes;

/// One run and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The command that repeats it.
    pub command: String,
    /// What went wrong, if something did.
    pub wrong: Option<Wrong>,
    /// The hash over every event, up to a panic if there was one; none if the process died or hung.
    pub digest: Option<String>,
    /// Events that went into the hash.
    pub events: u64,
    /// Simulated time in nanoseconds.
    pub simulated_ns: u64,
    /// Real time in nanoseconds, the judge's included.
    pub took_ns: u64,
    /// Time on a processor in nanoseconds, the judge's included.
    pub cpu_ns: u64,
    /// Time that checkers and invariants took in nanoseconds.
    pub judged_ns: u64,
    /// Records that clients sent.
    pub sent: u64,
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Records that were read.
    pub read: u64,
    /// Topics whose life the judge could not settle.
    pub undecided: u64,
    /// Faults of the plan.
    pub planned: usize,
    /// Steps that each client took.
    pub steps: Vec<u32>,
    /// How often each kind of fault fired, by name.
    pub faults: BTreeMap<String, u64>,
    /// Broker crashes among the faults that fired.
    pub crashes: u64,
    /// How often each rare path was taken, by name.
    pub probes: BTreeMap<String, u64>,
    /// How often each kind of answer arrived: API, version, error code.
    pub answers: BTreeMap<String, u64>,
    /// Pairs of options that one client had.
    pub option_pairs: Vec<(String, String)>,
}

/// How a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrong {
    /// The kind.
    pub how: Failed,
    /// The checkers that fired: names of anomalies, ids of invariants, or what was stuck.
    pub found_by: Vec<String>,
    /// What was seen.
    pub text: String,
}

/// What found that a run does not end.
const HUNG: &str = "hung";

impl Outcome {
    /// The outcome of a run that took `took` of real time.
    #[must_use]
    pub fn of(result: &Result<Passed, Failure>, took: Duration) -> Self {
        let (facts, wrong) = match result {
            Ok(passed) => (&passed.facts, None),
            Err(failure) => {
                let Failure { how, found_by, text, facts } = failure;
                let (how, found_by, text) = (*how, found_by.clone(), text.clone());
                (facts, Some(Wrong { how, found_by, text }))
            }
        };
        let Facts { run, plan, steps, tally, counts, digest, simulated, .. } = &**facts;
        let names = |(kind, count): (&Kind, &u64)| (kind.to_string(), *count);
        let probes = Probe::ALL.iter().map(|probe| (probe.name(), facts.probes.of(*probe)));
        let answers = facts.seen.answers.iter().map(|(answer, count)| {
            let Answer { api, version, code } = *answer;
            (coverage::answer(api, version, code), *count)
        });
        let reached = probes.filter(|(_, count)| *count > 0);
        Outcome {
            seed: run.seed,
            command: command(run),
            wrong,
            digest: digest.map(|digest| format!("{:032x}", digest.hash)),
            events: digest.map_or(0, |digest| digest.events),
            simulated_ns: crate::seed::nanos(*simulated),
            took_ns: crate::seed::nanos(took),
            cpu_ns: crate::seed::nanos(facts.cpu),
            judged_ns: crate::seed::nanos(facts.judged),
            sent: tally.sent as u64,
            acknowledged: tally.acknowledged as u64,
            read: tally.read as u64,
            undecided: tally.undecided as u64,
            planned: plan.faults.len(),
            steps: steps.clone(),
            faults: counts.iter().map(names).collect(),
            crashes: crashes(counts),
            answers: answers.collect(),
            option_pairs: facts.seen.pairs.iter().cloned().collect(),
            probes: reached.map(|(name, count)| (name.to_owned(), count)).collect(),
        }
    }

    /// The outcome of a run that never told: its process died, or was killed because it hung.
    #[must_use]
    pub fn silent(run: &Run, how: Failed, text: String) -> Self {
        let found_by = vec![if how == Failed::Liveness { HUNG } else { "abort" }.to_owned()];
        Outcome {
            seed: run.seed,
            command: command(run),
            wrong: Some(Wrong { how, found_by, text }),
            ..Outcome::default()
        }
    }

    /// Whether it was killed because it hung; then there is nothing to compare it by.
    #[must_use]
    pub fn hung(&self) -> bool {
        self.wrong.as_ref().is_some_and(|wrong| wrong.found_by == [HUNG])
    }

    /// The same, for a run whose brokers were on such disks: its command says so.
    #[must_use]
    pub fn on(mut self, disk: BrokerDisk) -> Self {
        self.command = on(self.command, disk);
        self
    }

    /// Whether two runs of one seed went the same way: the same events, and if they failed, by the
    /// same checkers and with the same words.
    #[must_use]
    pub fn agrees(&self, other: &Outcome) -> bool {
        let end = |outcome: &Outcome| {
            let wrong = outcome.wrong.clone().map(|wrong| {
                let Wrong { how, found_by, text } = wrong;
                // Behind how a process died stands what it printed, with numbers of its threads.
                let died = outcome.digest.is_none();
                let text = if died { text.lines().take(1).collect() } else { text };
                (how, found_by, text)
            });
            (outcome.digest.clone(), outcome.events, wrong)
        };
        end(self) == end(other)
    }
}

/// The command that repeats a run.
#[must_use]
pub fn command(run: &Run) -> String {
    let Run { seed, size, cut, .. } = run;
    let without = if cut.is_empty() { String::new() } else { format!(" --without {cut}") };
    format!("cargo sim replay {seed} --size {size}{without}")
}

/// The same command, for brokers on such disks.
#[must_use]
pub fn on(command: String, disk: BrokerDisk) -> String {
    match disk {
        BrokerDisk::Honest => command,
        BrokerDisk::Lying => format!("{command} {}", crate::crew::LYING),
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { seed, command, .. } = self;
        match &self.wrong {
            Some(Wrong { how, found_by, text }) => {
                let found_by = found_by.join(", ");
                let text = text.trim_end();
                writeln!(f, "seed {seed} failed ({how:?}, {found_by}): {text}\n\n  {command}")
            }
            None => {
                let digest = self.digest.as_deref().unwrap_or("no hash");
                writeln!(f, "seed {seed} passed: {digest} over {} events", self.events)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Size;

    #[test]
    fn an_outcome_survives_its_line() {
        let mut run = Run::new(7, Size::Full);
        run.cut.faults.insert(2);
        let hung = Outcome::silent(&run, Failed::Liveness, "hung".to_owned());
        let line = serde_json::to_string(&hung).expect("plain data");
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Outcome>(&line).expect("what was written"), hung);
        assert_eq!(hung.command, "cargo sim replay 7 --size full --without faults=2");
        assert!(hung.to_string().contains(&hung.command));
    }

    #[test]
    fn only_what_failed_the_same_way_agrees() {
        let failed = |digest: Option<&str>, found_by: &str, text: &str| {
            let run = Run::new(7, Size::Small);
            let mut outcome = Outcome::silent(&run, Failed::Panic, text.to_owned());
            outcome.wrong.as_mut().expect("given").found_by = vec![found_by.to_owned()];
            Outcome { digest: digest.map(str::to_owned), ..outcome }
        };
        let first = failed(Some("a"), "LOG-3", "LOG-3: two\nat log.rs:1:2");
        assert!(first.agrees(&first.clone()));
        for other in [
            failed(Some("b"), "LOG-3", "LOG-3: two\nat log.rs:1:2"),
            failed(Some("a"), "LOG-4", "LOG-3: two\nat log.rs:1:2"),
            failed(Some("a"), "LOG-3", "LOG-3: one\nat log.rs:1:2"),
            failed(Some("a"), "LOG-3", "LOG-3: two\nat log.rs:9:2"),
            failed(None, "LOG-3", "LOG-3: two\nat log.rs:1:2"),
        ] {
            assert!(!first.agrees(&other), "{other:?}");
        }
        // Two processes that died, one thread 17 and one thread 18.
        let died = |text| failed(None, "abort", text);
        assert!(died("SIGABRT\nthread 17").agrees(&died("SIGABRT\nthread 18")));
        assert!(!died("SIGABRT\nthread 17").agrees(&died("SIGSEGV\nthread 17")));
    }
}
