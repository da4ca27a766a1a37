//! `cargo sim bench`: how fast seeds run, beside the bars and beside the best so far. It fails if a
//! bar is missed.

use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use trialog_sim::scenario::Size;
use trialog_sim::sweep::Totals;
use trialog_sim::timing::percentile;

use super::run::{Printing, sweep};
use super::{Ended, Many, own_file};

/// Seeds of full size that two cores run in an hour, at least.
const SEEDS_PER_HOUR_MIN: f64 = 6_000.0;
/// The slowest of 100 seeds takes so long at most, in real time.
const P99_MAX: Duration = Duration::from_secs(5);
/// The checkers' share of the processors' time at most.
const JUDGED_MAX: f64 = 0.20;
/// A figure may fall by this share before `--hold` fails.
const TOLERANCE: f64 = 0.10;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    many: Many,
    /// Fail if a figure is more than a tenth below sim/speed.json, which --ratchet has written on
    /// this machine. For a quiet one.
    #[arg(long)]
    hold: bool,
    /// Write better figures to sim/speed.json.
    #[arg(long)]
    ratchet: bool,
}

/// What the ratchet keeps: figures that only rise. They hold for one machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Speed {
    seeds_per_hour: f64,
    events_per_core_second: f64,
    acknowledged_per_core_second: f64,
}

/// Measures.
pub fn run(arguments: &Arguments) -> Result<Ended, String> {
    let totals = sweep(&arguments.many, |_| false, false, Printing::Failures, |_| {})?;
    if totals.seeds() == 0 {
        return Err("no seed was run".to_owned());
    }
    let path = own_file("speed.json");
    let best = match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| format!("speed.json: {error}"))?,
        Err(error) if arguments.hold => {
            return Err(format!(
                "nothing to hold: {}: {error}; run it with --ratchet first, on this machine",
                path.display()
            ));
        }
        Err(_) => Speed::default(),
    };
    let now = Speed::of(&totals);
    print(&totals, now, best);
    if arguments.ratchet {
        let text = serde_json::to_string_pretty(&now.raised(best)).expect("plain data") + "\n";
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let fallen = now.fallen(best);
    if arguments.hold && !fallen.is_empty() {
        return Err(format!("more than a tenth below the best: {}", fallen.join(", ")));
    }
    let missed = missed(&totals, now);
    // The bars are of full runs, and what has failed says more.
    if arguments.many.size == Size::Full && totals.failures.is_empty() && !missed.is_empty() {
        return Err(format!("missed on this machine: {}", missed.join(", ")));
    }
    Ok((&totals).into())
}

/// The bars that were missed, in words.
fn missed(totals: &Totals, now: Speed) -> Vec<String> {
    let mut missed = Vec::new();
    if now.seeds_per_hour < SEEDS_PER_HOUR_MIN {
        missed.push(format!("{SEEDS_PER_HOUR_MIN:.0} seeds an hour at least"));
    }
    if percentile(&totals.took, 99) > P99_MAX.as_nanos() as u64 {
        missed.push(format!("p99 within {} s", P99_MAX.as_secs()));
    }
    if judged(totals) > JUDGED_MAX {
        missed.push(format!("checkers within {:.0} %", 100.0 * JUDGED_MAX));
    }
    missed
}

/// The checkers' share of the time.
fn judged(totals: &Totals) -> f64 {
    totals.judged.as_secs_f64() / totals.cpu.as_secs_f64().max(0.001)
}

impl Speed {
    fn of(totals: &Totals) -> Speed {
        let cores = totals.cpu.as_secs_f64().max(0.001);
        let hours = totals.elapsed.as_secs_f64().max(0.001) / 3600.0;
        Speed {
            seeds_per_hour: (totals.seeds() as f64 / hours).round(),
            events_per_core_second: (totals.events as f64 / cores).round(),
            acknowledged_per_core_second: (totals.acknowledged as f64 / cores).round(),
        }
    }

    fn figures(self) -> [(&'static str, f64); 3] {
        [
            ("seeds per hour", self.seeds_per_hour),
            ("events per core-second", self.events_per_core_second),
            ("acknowledged records per core-second", self.acknowledged_per_core_second),
        ]
    }

    /// The better of both, figure by figure.
    fn raised(self, best: Speed) -> Speed {
        let rate = |now: f64, best: f64| now.max(best);
        Speed {
            seeds_per_hour: rate(self.seeds_per_hour, best.seeds_per_hour),
            events_per_core_second: rate(self.events_per_core_second, best.events_per_core_second),
            acknowledged_per_core_second: rate(
                self.acknowledged_per_core_second,
                best.acknowledged_per_core_second,
            ),
        }
    }

    /// Names of the figures that have fallen too far.
    fn fallen(self, best: Speed) -> Vec<&'static str> {
        let both = self.figures().into_iter().zip(best.figures());
        let fallen = both.filter(|((_, now), (_, best))| *now < *best * (1.0 - TOLERANCE));
        fallen.map(|((name, _), _)| name).collect()
    }
}

fn print(totals: &Totals, now: Speed, best: Speed) {
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    println!("{} seeds in {:.1} s", totals.seeds(), totals.elapsed.as_secs_f64());
    for ((name, now), (_, best)) in now.figures().into_iter().zip(best.figures()) {
        let beside =
            if best > 0.0 { format!("  {:.2} of the best", now / best) } else { String::new() };
        println!("{name:38} {now:>12.0}{beside}");
    }
    let ratio = totals.simulated.as_secs_f64() / totals.cpu.as_secs_f64().max(0.001);
    println!("{:38} {ratio:>12.0}", "simulated over processor time");
    for (name, share) in [("p50", 50), ("p99", 99), ("slowest", 100)] {
        let took = seconds(percentile(&totals.took, share));
        println!("{:38} {took:>12.2}", format!("seconds of a seed, {name}"));
    }
    println!("{:38} {:>12.1}", "per cent of the time in checkers", 100.0 * judged(totals));
    println!("bars: 6,000 seeds an hour at least, p99 below 5 s, checkers below 20 %");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_only_rise_and_a_tenth_is_forgiven() {
        let speed = |seeds, events| Speed {
            seeds_per_hour: seeds,
            events_per_core_second: events,
            acknowledged_per_core_second: 1.0,
        };
        let best = speed(100.0, 100.0);
        assert_eq!(speed(95.0, 120.0).fallen(best), Vec::<&str>::new());
        assert_eq!(speed(89.0, 120.0).fallen(best), ["seeds per hour"]);
        assert_eq!(speed(89.0, 120.0).raised(best), speed(100.0, 120.0));
    }
}
