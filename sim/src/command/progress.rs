//! The progress of a sweep: a live bar in a terminal, a plain line now and then elsewhere.

#![allow(clippy::disallowed_methods, reason = "how long a sweep takes is real time")]

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use trialog_sim::outcome::Outcome;
use trialog_sim::sweep::Totals;

/// How often a plain line is printed.
const PLAIN: Duration = Duration::from_secs(10);

/// Whether nobody will see the end of so many seeds.
fn is_endless(count: u64) -> bool {
    count > u64::from(u32::MAX)
}

/// Shows how far a sweep is, on standard error.
pub struct Progress {
    bar: Option<ProgressBar>,
    /// What comes after the number of those that are done: how many there are, if they end.
    of: String,
    begun: Instant,
    told: Option<Instant>,
}

impl Progress {
    /// The progress of `count` seeds.
    pub fn new(count: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(count);
            let style = match is_endless(count) {
                true => "{spinner:.cyan} {pos} seeds  {msg}  {elapsed}",
                false => "{bar:30.cyan/dim} {pos}/{len} seeds  {msg}  {elapsed} of {duration}",
            };
            bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        let now = Instant::now();
        let of = if is_endless(count) { String::new() } else { format!("/{count}") };
        Progress { bar, of, begun: now, told: None }
    }

    /// One more seed is done.
    pub fn step(&mut self, totals: &Totals) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(self.text(totals));
                bar.set_position(totals.seeds());
            }
            None if self.told.is_none_or(|told| told.elapsed() >= PLAIN) => {
                self.told = Some(Instant::now());
                eprintln!("{}{} seeds  {}", totals.seeds(), self.of, self.text(totals));
            }
            None => {}
        }
    }

    /// Prints a failure, above the bar if there is one.
    pub fn print(&self, failure: &Outcome) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{failure}")),
            None => eprintln!("{failure}"),
        }
    }

    /// Takes the bar away.
    pub fn end(&self) -> Duration {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.begun.elapsed()
    }

    fn text(&self, totals: &Totals) -> String {
        let failed = totals.failures.len();
        let rate = totals.seeds() as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        let hours = totals.simulated.as_secs_f64() / 3600.0;
        let fired = totals.fired();
        format!("{rate:.1}/s  {hours:.2} simulated hours  {fired} faults  {failed} failed")
    }
}
