//! Prometheus' text format, version 0.0.4: families of samples, each with its kind and a sentence.
//! Pure: it writes into a string.

use std::fmt::{Display, Write as _};

/// What Prometheus calls it, and what the answer's `Content-Type` says.
pub const CONTENT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The kinds of families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows; its name ends in `_total` unless it copies another program's.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// Counts by upper bound, with their sum.
    Histogram,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Begins a family. All its samples must follow at once.
pub fn family(out: &mut String, name: &str, kind: Kind, help: &str) {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}", kind.word());
}

/// One sample of the family that was begun last.
pub fn sample(out: &mut String, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
    out.push_str(name);
    let mut open = '{';
    for (label, text) in labels {
        let _ = write!(out, "{open}{label}=\"");
        let _ = write!(Escaped(out), "{text}");
        out.push('"');
        open = ',';
    }
    if !labels.is_empty() {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

/// Writes a label's value as the format wants it.
struct Escaped<'a>(&'a mut String);

impl std::fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for char in text.chars() {
            match char {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_reads_as_prometheus_draws_it() {
        let mut out = String::new();
        family(&mut out, "a_total", Kind::Counter, "Counts\nwith \\.");
        sample(&mut out, "a_total", &[], 3);
        sample(&mut out, "a_total", &[("name", &"q\"b\\n\nx"), ("n", &7)], 0.5);
        assert_eq!(
            out,
            "# HELP a_total Counts\\nwith \\\\.\n# TYPE a_total counter\na_total 3\n\
             a_total{name=\"q\\\"b\\\\n\\nx\",n=\"7\"} 0.5\n"
        );
    }
}
