//! `trialog doctor`: looks at the machine as a broker would use it, and says what to do.
//!
//! Each check finds a fact, judges it, and where it is not good names the remedy. `machine` looks at
//! kernel, rings, limits, memory (`cgroup`) and clock, `disk` at the data folder's file system. Nothing is changed; one
//! small file is written and removed to time a flush.

mod cgroup;
mod disk;
mod machine;

use serde_json::json;

use super::cli::Doctor;
use super::failure::Failure;
use super::output::Output;

/// How serious what was found is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// As it should be.
    Good,
    /// A broker runs, but something will hurt one day.
    Caution,
    /// A broker does not run, or loses what it promised to keep.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug)]
struct Finding {
    what: &'static str,
    found: String,
    verdict: Verdict,
    /// What to do, where something is to be done.
    remedy: Option<String>,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Finding {
        Finding { what, found: found.into(), verdict: Verdict::Good, remedy: None }
    }

    fn caution(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        let verdict = Verdict::Caution;
        Finding { what, found: found.into(), verdict, remedy: Some(remedy.into()) }
    }

    fn bad(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Bad, ..Finding::caution(what, found, remedy) }
    }
}

/// Looks at everything; fails if something is bad.
pub fn run(arguments: &Doctor, output: &mut Output) -> Result<(), Failure> {
    let mut findings = machine::look();
    findings.extend(disk::look(&arguments.data));
    for Finding { what, found, verdict, remedy } in &findings {
        let mark = match verdict {
            Verdict::Good => "ok",
            Verdict::Caution => "!",
            Verdict::Bad => "BAD",
        };
        let mut text = format!("{mark:<4}{what:<18}{found}");
        if let Some(remedy) = remedy {
            text.push_str(&format!("\n{:22}{remedy}", ""));
        }
        let verdict = format!("{verdict:?}").to_lowercase();
        let json = json!({ "what": what, "found": found, "verdict": verdict, "remedy": remedy });
        output.line(&text, &json)?;
    }
    let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count();
    match bad {
        0 => Ok(()),
        _ => Err(Failure::Other(format!("{bad} of {} things are bad", findings.len()))),
    }
}
