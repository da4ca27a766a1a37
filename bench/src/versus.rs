//! Two sides in turn, and the medians of both.

use std::time::Duration;

use crate::machine::server_cpu;

/// Rounds of each side that count; one of each goes before.
pub const ROUNDS: usize = 7;

/// Measures one round of one side. Whatever a side does outside of [`Meter::run`] costs nothing.
pub struct Meter {
    unit: Unit,
    figure: f64,
}

impl Meter {
    /// Does `work`, which moves `bytes` of payload and has `requests` answered.
    pub fn run(&mut self, bytes: u64, requests: u64, work: impl FnOnce()) {
        let before = server_cpu();
        work();
        // The last answer may be out before the server has put its things away.
        std::thread::sleep(Duration::from_millis(2));
        let spent = (server_cpu() - before).as_secs_f64();
        self.figure = match self.unit {
            Unit::PerGigabyte => spent / (bytes as f64 / 1e9),
            Unit::PerRequest => spent * 1e6 / requests as f64,
            Unit::Latency | Unit::WallPerGigabyte => unreachable!("a meter counts processor time"),
        };
    }
}

/// How a row is to be read.
#[derive(Clone, Copy)]
pub enum Unit {
    /// Processor seconds per gigabyte (1e9 bytes) of payload.
    PerGigabyte,
    /// Microseconds of processor time per request.
    PerRequest,
    /// Microseconds of wall time that one request waits.
    Latency,
    /// Seconds of wall time per gigabyte of payload.
    WallPerGigabyte,
}

/// One row of the table.
pub struct Row {
    /// What is measured.
    pub name: String,
    /// How to read the figures.
    pub unit: Unit,
    /// The ratio that is promised.
    pub bar: f64,
    /// The medians, the floor's first.
    pub figures: (f64, f64),
}

impl Row {
    /// The ratio to the floor.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.figures.1 / self.figures.0
    }

    /// Prints it under the head of [`print_head`].
    pub fn print(&self) {
        let unit = match self.unit {
            Unit::PerGigabyte => "CPU-s/GB",
            Unit::PerRequest => "µs/request",
            Unit::Latency => "µs",
            Unit::WallPerGigabyte => "s/GB",
        };
        let verdict = if self.ratio() <= self.bar { "met" } else { "MISSED" };
        println!(
            "{:44} {:10} {:>9.3} {:>9.3} {:>7.2} {:>6.2} {verdict}",
            self.name,
            unit,
            self.figures.0,
            self.figures.1,
            self.ratio(),
            self.bar,
        );
    }
}

/// The table's head.
pub fn print_head() {
    println!(
        "{:44} {:10} {:>9} {:>9} {:>7} {:>6}",
        "row", "unit", "floor", "trialog", "ratio", "bar"
    );
}

/// Runs `floor` and `trialog` in turn and takes the medians of their processor time.
pub fn versus(
    name: &str,
    unit: Unit,
    bar: f64,
    mut floor: impl FnMut(&mut Meter),
    mut trialog: impl FnMut(&mut Meter),
) -> Row {
    let mut figures = (Vec::new(), Vec::new());
    let print_all = std::env::var_os("BENCH_ROUNDS").is_some();
    for round in 0..=ROUNDS {
        let floors = measure(unit, &mut floor);
        let ours = measure(unit, &mut trialog);
        if print_all {
            println!("  {name}: round {round}: {floors:.3} {ours:.3}");
        }
        // The first of each warms caches and pools.
        if round > 0 {
            figures.0.push(floors);
            figures.1.push(ours);
        }
    }
    let name = name.to_owned();
    Row { name, unit, bar, figures: (median(figures.0), median(figures.1)) }
}

fn measure(unit: Unit, side: &mut impl FnMut(&mut Meter)) -> f64 {
    let mut meter = Meter { unit, figure: f64::NAN };
    side(&mut meter);
    // What was removed behind the measurement (files, with their memory) is gone before the next:
    // memory that was freed just now is much cheaper to write to than memory never touched.
    std::thread::sleep(Duration::from_millis(100));
    meter.figure
}

/// The middle one, or the upper of two.
#[must_use]
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The time that `percent` of all are at most.
#[must_use]
pub fn at(times: &[Duration], percent: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    let place = (times.len() as f64 * percent / 100.0) as usize;
    times[place.min(times.len() - 1)]
}
