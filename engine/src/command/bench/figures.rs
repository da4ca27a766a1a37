//! What a run came to: counts, time and latencies, as a live line while it goes and a table at the
//! end.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::rc::Rc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use trialog_engine::io::{Instant, Io};

use super::super::failure::Failure;
use super::super::output::Output;

/// How often the live line is renewed.
const LIVE: Duration = Duration::from_secs(1);

/// The longest latency that is told apart, in nanoseconds; longer ones count as that.
const LONGEST_NS: u64 = 600_000_000_000;

/// What has been counted. Clones count into the same.
#[derive(Clone)]
pub struct Figures(Rc<RefCell<Counted>>);

struct Counted {
    records: u64,
    bytes: u64,
    latency_ns: Histogram<u64>,
    from: Instant,
    until: Instant,
    /// What the live line has told already.
    told: (u64, u64),
    live: bool,
}

impl Figures {
    /// Nothing yet; a live line on standard error tells every second what has come since.
    pub fn begin(io: &(impl Io + 'static)) -> Figures {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3);
        let now = io.now();
        let counted = Counted {
            records: 0,
            bytes: 0,
            latency_ns: histogram.expect("the bounds are legal"),
            from: now,
            until: now,
            told: (0, 0),
            live: true,
        };
        let figures = Figures(Rc::new(RefCell::new(counted)));
        io.spawn(figures.clone().tell(io.clone()));
        figures
    }

    /// Counts a record of `bytes` bytes that was done at `now`.
    pub fn count(&self, now: Instant, bytes: usize) {
        let mut counted = self.0.borrow_mut();
        counted.records += 1;
        counted.bytes += bytes as u64;
        counted.until = now;
    }

    /// Counts a record and how long after its intended moment it was done.
    pub fn count_since(&self, due: Instant, now: Instant, bytes: usize) {
        self.count(now, bytes);
        let nanos = u64::try_from(now.since(due).as_nanos()).unwrap_or(u64::MAX);
        self.0.borrow_mut().latency_ns.saturating_record(nanos.max(1));
    }

    /// How many records have been counted.
    pub fn records(&self) -> u64 {
        self.0.borrow().records
    }

    async fn tell(self, io: impl Io) {
        let terminal = std::io::stderr().is_terminal();
        loop {
            io.sleep(LIVE).await;
            let mut counted = self.0.borrow_mut();
            if !counted.live {
                return;
            }
            let (records, bytes) =
                (counted.records - counted.told.0, counted.bytes - counted.told.1);
            counted.told = (counted.records, counted.bytes);
            let mut line = format!(
                "{} s: {records} records/s, {:.1} MB/s",
                io.now().since(counted.from).as_secs(),
                bytes as f64 / 1e6,
            );
            if !counted.latency_ns.is_empty() {
                let p99 = counted.latency_ns.value_at_quantile(0.99);
                let _ = write!(line, ", p99 so far {:.2} ms", p99 as f64 / 1e6);
            }
            // A live line that cannot be shown is no reason to stop.
            let _ = if terminal {
                write!(std::io::stderr(), "\r{line:<72}")
            } else {
                writeln!(std::io::stderr(), "{line}")
            };
        }
    }

    /// Prints the table, `what` was done to the records and with which `settings`.
    pub fn print(
        self,
        output: &mut Output,
        what: &str,
        settings: &[(&'static str, Value)],
    ) -> Result<(), Failure> {
        let mut counted = self.0.borrow_mut();
        counted.live = false;
        if std::io::stderr().is_terminal() {
            let _ = write!(std::io::stderr(), "\r{:<72}\r", "");
        }
        let seconds = counted.until.since(counted.from).as_secs_f64();
        let per_second = |count: u64| count as f64 / seconds.max(f64::MIN_POSITIVE);
        let Counted { records, bytes, ref latency_ns, .. } = *counted;
        let quantiles: Vec<(&str, f64)> =
            [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)]
                .map(|(name, quantile)| (name, latency_ns.value_at_quantile(quantile) as f64 / 1e6))
                .to_vec();
        let mut text = format!(
            "{what} {records} records, {:.1} MB, in {seconds:.2} s\n\n  \
             {:<20}{:.0} records/s\n  {:<20}{:.1} MB/s\n",
            bytes as f64 / 1e6,
            "throughput",
            per_second(records),
            "",
            per_second(bytes) / 1e6,
        );
        let mut object = Map::from_iter([
            ("records".to_owned(), json!(records)),
            ("bytes".to_owned(), json!(bytes)),
            ("seconds".to_owned(), json!(seconds)),
            ("records_per_second".to_owned(), json!(per_second(records))),
            ("bytes_per_second".to_owned(), json!(per_second(bytes))),
        ]);
        if !latency_ns.is_empty() {
            let mut milliseconds = Map::new();
            for (place, (name, value)) in quantiles.into_iter().enumerate() {
                let label = if place == 0 { "latency ms" } else { "" };
                let _ = writeln!(text, "  {label:<20}{name:<6}{value:>10.3}");
                milliseconds.insert(name.to_owned(), json!(value));
            }
            object.insert("latency_ms".to_owned(), Value::Object(milliseconds));
        }
        text.push('\n');
        for (name, value) in settings {
            let words = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let _ = writeln!(text, "  {name:<20}{words}");
            let before = object.insert(name.replace(' ', "_"), value.clone());
            debug_assert!(before.is_none(), "the setting {name} hides what was measured");
        }
        output.line(text.trim_end(), &Value::Object(object))
    }
}
