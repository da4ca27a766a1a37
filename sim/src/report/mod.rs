//! One run on one page: a self-contained HTML file that works without a network.
//!
//! [`Data`] is everything that the page shows, taken from a taped run; [`page`] puts it into the
//! page, next to the script and the styles that are files beside this one. Nothing here judges: the
//! first bad event is what shows first, of all that the judge, the invariants and the clients found.

mod band;
mod collect;
mod join;
mod words;

use serde::Serialize;

use crate::scenario::{Failure, Passed};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the page shows. Times are simulated milliseconds since the run began; lists are sorted by
/// them. Rows are arrays to keep the page small; their columns are named beside each.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Data {
    /// The run's seed.
    pub seed: u64,
    /// Its size.
    pub size: String,
    /// The command that repeats it.
    pub command: String,
    /// How it failed: safety, liveness, ...; empty if it passed.
    pub how: String,
    /// What found that.
    pub found_by: Vec<String>,
    /// What was seen, for people.
    pub text: String,
    /// The hash of the run.
    pub digest: String,
    /// How long it was.
    pub end: f64,
    /// When act two began; negative if it never did.
    pub healed: f64,
    /// What the judge counted, each as name and value.
    pub tally: Vec<(String, u64)>,
    /// The machines' names.
    pub machines: Vec<String>,
    /// Machine, from, to, how it ended: `exit`, `kill`, `power loss`, or nothing.
    pub lives: Vec<(usize, f64, f64, &'static str)>,
    /// Faults that came: see [`FaultRow`].
    pub faults: Vec<FaultRow>,
    /// Sent, arrived (negative if never), from and to machine, label (see `labels`), bytes, errors.
    pub messages: Vec<MessageRow>,
    /// What messages are called.
    pub labels: Vec<String>,
    /// Begun, done (negative if never), machine, kind (see `disk_kinds`), whether it went well, the
    /// path that it names, if it does.
    pub disk_calls: Vec<(f64, f64, usize, u64, bool, String)>,
    /// What disk calls are called, by number.
    pub disk_kinds: Vec<&'static str>,
    /// Begun, done (negative if never), machine, phase (`ok`, `fail`, `info`; nothing if there was no
    /// answer, or none to wait for), what it is, its events in the history.
    pub operations: Vec<OperationRow>,
    /// At, machine, bytes used, bytes dirty, capacity.
    pub disks: Vec<(f64, usize, u64, u64, u64)>,
    /// Names of partitions.
    pub partitions: Vec<String>,
    /// At, partition, start (negative if unknown), high watermark as a broker told a reader.
    pub marks: Vec<(f64, usize, i64, i64)>,
    /// At, partition, end: the offset behind the last record that is known to be acknowledged.
    pub ends: Vec<(f64, usize, i64)>,
    /// At, partition, the offset behind the last record that a reader has seen.
    pub reads: Vec<(f64, usize, i64)>,
    /// At, what was said.
    pub texts: Vec<(f64, String)>,
    /// What the judge found: anomaly, sentence, operations (indexes into `operations`).
    pub findings: Vec<(String, String, Vec<usize>)>,
    /// What else was seen to be wrong: at, machine (if it is a matter of one), the invariant or
    /// complaint, what was seen.
    pub sightings: Vec<(f64, Option<usize>, String, String)>,
    /// The first bad event.
    pub bad: Option<Bad>,
}

/// A row of [`Data::messages`].
pub type MessageRow = (f64, f64, usize, usize, usize, usize, Vec<String>);

/// A row of [`Data::faults`]: from, to, kind, what it is, the machines that it meets, whether it
/// touched anything. One that did was at work all the time; one that did not only lay in wait.
pub type FaultRow = (f64, f64, String, String, Vec<usize>, bool);

/// A row of [`Data::operations`].
pub type OperationRow = (f64, f64, usize, &'static str, String, Vec<usize>);

/// The first event by which the run is known to be wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bad {
    /// When.
    pub at: f64,
    /// On which machine, if it is a matter of one.
    pub machine: Option<usize>,
    /// The operation, as an index into [`Data::operations`]; none if no operation shows it (the run
    /// hung, it panicked, an invariant did not hold).
    pub operation: Option<usize>,
    /// The finding, as an index into [`Data::findings`].
    pub finding: Option<usize>,
    /// In words.
    pub text: String,
}

impl Data {
    /// What is to be shown of a taped run.
    #[must_use]
    pub fn of(result: &Result<Passed, Failure>) -> Data {
        collect::data(result)
    }

    /// How many messages, disk calls and operations there are.
    #[must_use]
    pub fn events(&self) -> usize {
        self.messages.len() + self.disk_calls.len() + self.operations.len()
    }
}

/// The page.
#[must_use]
pub fn page(data: &Data) -> String {
    let json = serde_json::to_string(data).expect("plain data");
    // The end of a script element is the only thing that could end it early.
    let json = json.replace("</", "<\\/").replace("<!--", "\\u003c!--");
    let title = format!("seed {}", data.seed);
    PAGE.replacen("{title}", &title, 1)
        .replacen("{style}", STYLE, 1)
        .replacen("{script}", SCRIPT, 1)
        .replacen("{data}", &json, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_data_ends_the_page_early() {
        let text = "</script><script>alert(1)</script><!--".to_owned();
        let data = Data { text: text.clone(), ..Data::default() };
        let page = page(&data);
        assert!(!page.contains("</script><script>alert"));
        let json = page.split(r#"<script id="data" type="application/json">"#).nth(1);
        let json = json.and_then(|rest| rest.split("</script>").next()).expect("the data");
        let read: serde_json::Value = serde_json::from_str(json).expect("json");
        assert_eq!(read["text"], text);
        assert!(!page.contains("http://") && !page.contains("https://"), "works offline");
    }
}
