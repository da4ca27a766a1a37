//! What the broker's process takes of its machine, under the names that Prometheus' client libraries
//! give it in every program.

use super::answer::Answer;
use super::exposition::{self, Kind, sample};
use crate::io::{self, Io};

/// What a process takes of its machine. Whoever starts a broker knows how to find it out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Processor time since it started, in seconds: its own and the kernel's for it.
    pub cpu_seconds: f64,
    /// When it started, in seconds since 1970.
    pub started_at: f64,
    /// Memory that it has mapped, in bytes.
    pub virtual_bytes: u64,
    /// Memory that is really there for it, in bytes.
    pub resident_bytes: u64,
    /// File descriptors that it has open.
    pub open_fds: u64,
    /// How many it may have; `None` if there is no limit.
    pub max_fds: Option<u64>,
}

struct Row(&'static str, Kind, &'static str, fn(&Usage) -> f64);

const ROWS: &[Row] = &[
    Row("process_cpu_seconds_total", Kind::Counter, "Processor time in seconds.", |usage| {
        usage.cpu_seconds
    }),
    Row(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started, in seconds since 1970.",
        |usage| usage.started_at,
    ),
    Row("process_virtual_memory_bytes", Kind::Gauge, "Mapped memory.", |usage| {
        usage.virtual_bytes as f64
    }),
    Row("process_resident_memory_bytes", Kind::Gauge, "Resident memory.", |usage| {
        usage.resident_bytes as f64
    }),
    Row("process_open_fds", Kind::Gauge, "Open file descriptors.", |usage| usage.open_fds as f64),
    Row("process_max_fds", Kind::Gauge, "File descriptors that may be open.", |usage| {
        usage.max_fds.map_or(f64::INFINITY, |max| max as f64)
    }),
];

/// Writes the families, if anything is known.
pub async fn write<I: Io>(usage: Option<Usage>, answer: &mut Answer<'_, I>) -> io::Result<()> {
    let Some(usage) = usage else { return Ok(()) };
    for Row(name, kind, help, value) in ROWS {
        exposition::family(&mut answer.text, name, *kind, help);
        // The format writes infinity with a sign.
        match value(&usage) {
            f64::INFINITY => sample(&mut answer.text, name, &[], "+Inf"),
            value => sample(&mut answer.text, name, &[], value),
        }
    }
    answer.pause().await
}
