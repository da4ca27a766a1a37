//! Trials of other people's programs: your application on nodes of its own, beside a simulated
//! broker, under faults, for many seeds.
//!
//! A [`Trial`] is what a `#[test]` makes: a scene (which nodes run what, and what must hold) and how
//! hard to try. The scene is set up anew for each seed. What a seed does follows from its number
//! alone, so a failure is one command. The tutorial is at the head of this crate's documentation.
//!
//! Owns the loop over seeds and the text of a failure. One seed is `play`'s, what a node can do is
//! [`Node`]'s. Must not know: the workloads and checks of Trialog's own scenarios.

mod broker;
mod client;
mod faults;
mod member;
mod node;
mod play;
mod scene;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::trace::Digest;

pub use client::{Consumer, Producer};
pub use faults::Faults;
pub use member::Member;
pub use node::{Ledger, Node};
pub use scene::Scene;

/// How many seeds a trial has unless it or the environment says otherwise.
const SEEDS: u64 = 100;
/// One passing seed in so many is run twice.
const TWICE_ONE_IN: u64 = 10;

/// A program that sets up a scene.
type Setting = Arc<dyn Fn(&mut Scene) + Send + Sync>;

/// A test of a program under simulated faults. See the module's head.
#[derive(Clone)]
pub struct Trial {
    setting: Setting,
    seeds: u64,
    faults: Faults,
    chaos: Duration,
    patience: Duration,
}

/// What a trial without a failure came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Seeds that ran.
    pub seeds: u64,
    /// Of them, seeds that ran twice, with the same result.
    pub twice: u64,
    /// Records that brokers acknowledged.
    pub acknowledged: u64,
    /// Faults that came.
    pub faults: u64,
    /// Simulated time of all seeds together.
    pub simulated: Duration,
}

/// What failed, and how to see it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The first seed that failed.
    pub seed: u64,
    /// How many seeds were tried, this one included.
    pub tried: u64,
    /// What is wrong: the name of an invariant of the scene, an anomaly of the judge, or what else.
    pub what: String,
    /// In sentences.
    pub text: String,
    /// What to paste into a shell.
    pub command: String,
}

/// How one seed ended, whether well or not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Played {
    /// What is wrong, and in sentences.
    trouble: Option<(String, String)>,
    acknowledged: u64,
    faults: u64,
    digest: Option<Digest>,
    simulated: Duration,
}

impl Trial {
    /// A trial of the scene that `setting` sets up, anew for each seed: what it shares between its
    /// nodes must be made inside.
    #[must_use]
    pub fn new(setting: impl Fn(&mut Scene) + Send + Sync + 'static) -> Trial {
        Trial {
            setting: Arc::new(setting),
            seeds: SEEDS,
            faults: Faults::crashes().and(Faults::network()),
            chaos: Duration::from_secs(8),
            patience: Duration::from_secs(60),
        }
    }

    /// How many seeds to run; `TRIALOG_SEEDS` in the environment changes it. 100 by default.
    #[must_use]
    pub fn seeds(self, seeds: u64) -> Trial {
        Trial { seeds, ..self }
    }

    /// What may go wrong; by default crashes and the network.
    #[must_use]
    pub fn faults(self, faults: Faults) -> Trial {
        Trial { faults, ..self }
    }

    /// How long faults come, in simulated time; then everything heals. 8 s by default.
    #[must_use]
    pub fn chaos(self, chaos: Duration) -> Trial {
        Trial { chaos, ..self }
    }

    /// How long the healed system may take to finish what it is at, in simulated time. 60 s by
    /// default.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Trial {
        Trial { patience, ..self }
    }

    /// Runs the seeds, or the one that `TRIALOG_SEED` names, up to the first that fails.
    ///
    /// # Panics
    /// If one fails, with the [`Failure`].
    pub fn run(&self) {
        match self.find() {
            Ok(summary) => println!("{summary}"),
            Err(failure) => panic!("{failure}"),
        }
    }

    /// As [`Trial::run`], for who wants to look at the failure: a test that a bug is found, say.
    ///
    /// # Errors
    /// The first failure.
    ///
    /// # Panics
    /// If there are no seeds to run, or the environment names something that is no number.
    pub fn find(&self) -> Result<Summary, Box<Failure>> {
        let range = match number("TRIALOG_SEED") {
            Some(seed) => seed..seed.saturating_add(1),
            None => 0..number("TRIALOG_SEEDS").unwrap_or(self.seeds),
        };
        assert!(!range.is_empty(), "a trial of no seeds shows nothing: ask for one at least");
        let single = range.end - range.start == 1;
        let mut summary = Summary::default();
        for seed in range {
            let played = play::play(self, seed);
            summary.seeds += 1;
            summary.acknowledged += played.acknowledged;
            summary.faults += played.faults;
            summary.simulated += played.simulated;
            let fail = |what: &str, text: String| {
                let (what, command) = (what.to_owned(), command(seed));
                Err(Box::new(Failure { seed, tried: summary.seeds, what, text, command }))
            };
            if played.trouble.is_some() || single || seed % TWICE_ONE_IN == 0 {
                let again = play::play(self, seed);
                if again != played {
                    return fail("determinism", different(&played, &again));
                }
                summary.twice += 1;
            }
            if let Some((what, text)) = played.trouble {
                return fail(&what, text);
            }
        }
        Ok(summary)
    }
}

/// Why two runs of one seed can differ.
fn different(one: &Played, other: &Played) -> String {
    let ended = |played: &Played| match (&played.trouble, &played.digest) {
        (Some((what, _)), _) => format!("failed ({what})"),
        (None, Some(digest)) => format!("passed with {digest}"),
        (None, None) => "passed".to_owned(),
    };
    format!(
        "two runs of this seed went differently: one {}, the other {}. Something in the scene is not \
         simulated: the system's time, threads, random numbers that are not the node's, files or \
         sockets of the real machine, or state that is shared between seeds.",
        ended(one),
        ended(other)
    )
}

/// The command that runs one seed of the test or of the example that is running.
fn command(seed: u64) -> String {
    let package = std::env::var("CARGO_PKG_NAME").map(|name| format!(" -p {name}"));
    let package = package.unwrap_or_default();
    // A test's thread has its test's name.
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main").map(|name| format!(" {name}"));
    let example = std::env::current_exe().ok().and_then(|program| example(&program));
    match (test, example) {
        (None, Some(name)) => {
            format!("TRIALOG_SEED={seed} cargo run{package} --example {name}")
        }
        (test, _) => format!("TRIALOG_SEED={seed} cargo test{package}{}", test.unwrap_or_default()),
    }
}

/// The name of the example that a program is, if it is one. Cargo gives its tests, and those of
/// examples, names that end with a hash.
fn example(program: &Path) -> Option<String> {
    let name = program.file_stem()?.to_str()?;
    let folder = program.parent()?.file_name()?;
    let is_hash = |end: &str| end.len() == 16 && end.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hashed = name.rsplit_once('-').is_some_and(|(_, end)| is_hash(end));
    (folder == "examples" && !hashed).then(|| name.to_owned())
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(error) => panic!("{variable}={text}: {error}"),
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { seeds, twice, acknowledged, faults, simulated } = self;
        write!(
            f,
            "{seeds} seeds passed ({twice} of them twice, the same): {acknowledged} records \
             acknowledged, {faults} faults, {:.0} simulated seconds",
            simulated.as_secs_f64()
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, tried, what, text, command } = self;
        let text = text.trim_end();
        write!(f, "seed {seed} (number {tried}) failed: {what}\n{text}\n\n  {command}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_told_from_a_test_by_where_it_is_and_what_it_is_called() {
        let name = |program: &str| example(Path::new(program));
        assert_eq!(name("target/debug/examples/orders"), Some("orders".to_owned()));
        assert_eq!(name("target/debug/examples/two-crews"), Some("two-crews".to_owned()));
        assert_eq!(name("target/debug/examples/orders-0123456789abcdef"), None);
        assert_eq!(name("target/debug/deps/orders-0123456789abcdef"), None);
        assert_eq!(name("target/debug/orders"), None);
    }

    #[test]
    #[should_panic(expected = "a trial of no seeds shows nothing")]
    fn a_trial_of_no_seeds_is_refused() {
        let _ = Trial::new(|_| ()).seeds(0).find();
    }
}
