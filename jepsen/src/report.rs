//! What a trial prints: a row per run, what is wrong in sentences, and one closing line.

use std::time::Duration;

use trialog_jepsen::check::Report;

use crate::stop::Stop;
use crate::trial::{Nemesis, Verdict};

/// Findings of one anomaly that are printed of a run; `check` on its history shows more.
const FINDINGS_SHOWN_MAX: usize = 3;

/// The heads of the columns that [`row`] fills.
pub fn head() {
    println!(
        "{:>4} {:>8} {:>8} {:>13} {:>8} {:>10} {:>8}  anomalies",
        "run", "crashes", "sent", "acknowledged", "unknown", "read back", "seconds"
    );
}

/// One run.
pub fn row(number: u32, verdict: &Verdict) {
    let tally = &verdict.report.tally;
    println!(
        "{number:>4} {:>8} {:>8} {:>13} {:>8} {:>10} {:>8.1}  {}",
        tally.crashes,
        tally.sent,
        tally.acknowledged,
        tally.unknown,
        tally.read_finally,
        verdict.taken.as_secs_f64(),
        anomalies(verdict)
    );
    if tally.undecided > 0 {
        println!("     the metadata of {} topics could not be judged", tally.undecided);
    }
    for (error, count) in &verdict.told {
        println!("     clients were told {count} times: {error}");
    }
}

fn anomalies(verdict: &Verdict) -> String {
    let mut names = named(&verdict.report);
    if !verdict.troubles.is_empty() {
        names.push(format!("client trouble ({})", verdict.troubles.len()));
    }
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn named(report: &Report) -> Vec<String> {
    report.anomalies().map(|(anomaly, count)| format!("{anomaly} ({count})")).collect()
}

/// A run that ended because the broker failed.
pub fn failed(number: u32, stop: &Stop) {
    println!("{number:>4} {stop}");
}

/// What is wrong in a run, with the place of its history.
pub fn explain(verdict: &Verdict) {
    let mut last = None;
    let mut shown = 0;
    for finding in &verdict.report.findings {
        shown = if last.replace(finding.anomaly) == Some(finding.anomaly) { shown + 1 } else { 0 };
        if shown >= FINDINGS_SHOWN_MAX {
            continue;
        }
        let lines: Vec<String> = finding.witness.iter().map(|at| (at + 2).to_string()).collect();
        println!("     {}: {} (lines {})", finding.anomaly, finding.sentence, lines.join(", "));
    }
    for trouble in &verdict.troubles {
        println!("     {trouble}");
    }
    println!("     history: {}", verdict.folder.join("history.jsonl").display());
}

/// Sums of all runs.
#[derive(Default)]
pub struct Sum {
    pub runs: u32,
    pub crashes: usize,
    pub acknowledged: usize,
    pub read: usize,
    /// Runs that are not clean.
    pub guilty: u32,
    /// Runs in which acknowledged records were lost.
    pub losing: u32,
    /// Topics whose metadata could not be judged.
    pub undecided: usize,
    pub taken: Duration,
}

impl Sum {
    pub fn add(&mut self, verdict: &Verdict) {
        let tally = &verdict.report.tally;
        self.runs += 1;
        self.crashes += tally.crashes;
        self.acknowledged += tally.acknowledged;
        self.read += tally.read_finally;
        self.guilty += u32::from(!verdict.clean());
        self.losing += u32::from(verdict.lost() > 0);
        self.undecided += tally.undecided;
        self.taken += verdict.taken;
    }

    /// A run that the broker did not live through.
    pub fn add_failed(&mut self) {
        self.runs += 1;
        self.guilty += 1;
    }

    /// The closing line.
    pub fn close(&self, nemesis: Nemesis) {
        let Sum { runs, crashes, acknowledged, read, guilty, losing, taken, .. } = self;
        let what = match nemesis {
            Nemesis::Kill => "kills",
            Nemesis::Power | Nemesis::PowerWithoutFlush => "power cuts",
        };
        let verdict = match nemesis {
            _ if *runs == 0 => "NO VERDICT, no run came to its end".to_owned(),
            Nemesis::PowerWithoutFlush if losing == runs => {
                "without the flush every run lost records: the power cut bites".to_owned()
            }
            Nemesis::PowerWithoutFlush => {
                format!("{} runs lost NOTHING without the flush: the test is broken", runs - losing)
            }
            _ if *guilty == 0 => "nothing lost, nothing doubled, no anomaly".to_owned(),
            _ => format!("{guilty} runs with ANOMALIES or failures"),
        };
        println!(
            "{runs} runs, {crashes} {what}, {acknowledged} acknowledged, {read} read back, {:.0} s: \
             {verdict}",
            taken.as_secs_f64()
        );
    }

    /// Whether the trial showed what it should.
    pub fn passed(&self, nemesis: Nemesis) -> bool {
        let shown = match nemesis {
            Nemesis::PowerWithoutFlush => self.losing == self.runs,
            Nemesis::Kill | Nemesis::Power => self.guilty == 0,
        };
        self.runs > 0 && shown
    }
}
