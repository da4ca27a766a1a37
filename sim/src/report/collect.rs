//! Takes from a taped run what its report shows.
//!
//! The tape knows sockets, processes and bytes; the page shows machines and messages. This is the
//! way from one to the other: who owned which connection, when the first byte of a frame was
//! handed over, which operations belong together.

use std::collections::{BTreeMap, VecDeque};

use trialog_engine::wire::code::ErrorCode;
use trialog_jepsen::history::{History, Op, Phase};

use super::{Bad, Data, OperationRow};
use crate::outcome::command;
use crate::scenario::{Facts, Failed, Failure, Passed, speaker};
use crate::tape::{Entry, What};
use crate::trace::Event;

/// Names of disk calls by the number that the trace has for them.
const DISK_KINDS: [&str; 15] = [
    "",
    "open",
    "lock",
    "remove",
    "rename",
    "list",
    "make folder",
    "flush folder",
    "free space",
    "read",
    "write",
    "flush",
    "allocate",
    "truncate",
    "length",
];
/// Texts beyond this number are left out: a page is for looking at.
const TEXTS_MAX: usize = 20_000;

/// What is to be shown of a run.
pub fn data(result: &Result<Passed, Failure>) -> Data {
    let (facts, failure) = match result {
        Ok(passed) => (&passed.facts, None),
        Err(failure) => (&failure.facts, Some(failure)),
    };
    let mut data = Data {
        seed: facts.run.seed,
        size: facts.run.size.to_string(),
        command: command(&facts.run),
        digest: facts.digest.map_or_else(String::new, |digest| digest.to_string()),
        end: ms(end(facts)),
        healed: -1.0,
        tally: tally(facts),
        disk_kinds: DISK_KINDS.to_vec(),
        ..Data::default()
    };
    if let Some(Failure { how, found_by, text, .. }) = failure {
        data.how = match how {
            Failed::Safety => "safety",
            Failed::Liveness => "liveness",
            Failed::Determinism => "determinism",
            Failed::Panic => "panic",
            Failed::Thin => "thin",
        }
        .to_owned();
        (data.found_by, data.text) = (found_by.clone(), text.clone());
    }
    let mut walk = Walk::default();
    // What comes later is the world being taken down.
    let over = end(facts);
    for entry in facts.tape.iter().take_while(|entry| entry.at <= over) {
        walk.entry(entry, &mut data);
    }
    walk.end(&mut data);
    faults(facts, &mut data);
    let index = facts.history.as_ref().map(|history| operations(history, &walk, &mut data));
    findings(facts, failure, index.as_deref().unwrap_or_default(), &mut data);
    data
}

fn tally(facts: &Facts) -> Vec<(String, u64)> {
    let tally = &facts.tally;
    let numbers = [
        ("sent", tally.sent),
        ("acknowledged", tally.acknowledged),
        ("unknown", tally.unknown),
        ("read", tally.read),
        ("read finally", tally.read_finally),
        ("broker crashes", tally.crashes),
    ];
    numbers.into_iter().map(|(name, number)| (name.to_owned(), number as u64)).collect()
}

/// When the run ended, or panicked.
fn end(facts: &Facts) -> u64 {
    match crate::seed::nanos(facts.simulated) {
        0 => facts.tape.last().map_or(0, |entry| entry.at),
        simulated => simulated,
    }
}

/// Simulated nanoseconds in milliseconds.
fn ms(at: u64) -> f64 {
    at as f64 / 1e6
}

/// What is known at one place of the tape.
#[derive(Default)]
struct Walk {
    /// Machine and start of each living process.
    alive: BTreeMap<u64, (usize, f64)>,
    /// The machine of every process.
    machine_of: BTreeMap<u64, usize>,
    /// Who wants to connect to whom, by attempt.
    attempts: BTreeMap<u64, (usize, Option<usize>)>,
    /// The two machines of every connection.
    ends: BTreeMap<u64, [usize; 2]>,
    streams: BTreeMap<(u64, usize), Stream>,
    calls: BTreeMap<u64, (f64, usize, u64)>,
    labels: BTreeMap<String, usize>,
    partitions: BTreeMap<String, usize>,
}

/// What one side of a connection has sent.
#[derive(Default)]
struct Stream {
    /// Writes whose bytes have not arrived in whole frames: when, and where in the stream they end.
    writes: VecDeque<(f64, u64)>,
    written: u64,
    framed: u64,
}

impl Stream {
    fn write(&mut self, at: f64, bytes: u64) {
        self.written += bytes;
        self.writes.push_back((at, self.written));
    }

    /// A frame of so many bytes has arrived: when its first byte was handed over.
    fn frame(&mut self, bytes: u64) -> Option<f64> {
        let first = self.framed;
        while self.writes.front().is_some_and(|(_, end)| *end <= first) {
            self.writes.pop_front();
        }
        self.framed += bytes;
        self.writes.front().map(|(at, _)| *at)
    }
}

impl Walk {
    fn entry(&mut self, entry: &Entry, data: &mut Data) {
        let at = ms(entry.at);
        match &entry.what {
            What::Event { event, facts, .. } => self.event(at, *event, facts, data),
            What::Text(text) => say(at, text, data),
            What::Machine { name } => data.machines.push(name.to_string()),
            What::Disk { machine, used, dirty, capacity } => {
                data.disks.push((at, *machine, *used, *dirty, *capacity));
            }
            What::Frame { connection, side, heard } => {
                let stream = self.streams.entry((*connection, *side)).or_default();
                let sent = stream.frame(heard.bytes as u64).unwrap_or(at);
                let Some(ends) = self.ends.get(connection) else { return };
                let what = if *side == 0 { "" } else { " answer" };
                let label = format!("{}{what} v{}", heard.api.name(), heard.version);
                let label = label_of(&mut self.labels, &mut data.labels, label);
                let errors = heard.errors.iter().filter(|&&error| error != 0);
                let errors = errors.map(|&error| error_name(error)).collect();
                let (from, to) = (ends[*side], ends[1 - *side]);
                data.messages.push((sent, at, from, to, label, heard.bytes, errors));
                for mark in &heard.marks {
                    let name = format!("{}/{}", mark.topic, mark.partition);
                    let partition = label_of(&mut self.partitions, &mut data.partitions, name);
                    data.marks.push((at, partition, mark.start, mark.high));
                }
            }
        }
    }

    fn event(&mut self, at: f64, event: Event, facts: &[u64], data: &mut Data) {
        match (event, facts) {
            (Event::Boot, &[machine, process, ..]) => {
                self.alive.insert(process, (machine as usize, at));
                self.machine_of.insert(process, machine as usize);
            }
            (Event::Kill, &[_, process, ..]) => self.over(at, process, "kill", data),
            (Event::PowerLoss, &[_, process, ..]) => self.over(at, process, "power loss", data),
            (Event::Exit, &[_, process, ..]) => self.over(at, process, "exit", data),
            (Event::Heal, _) => data.healed = at,
            (Event::Connect, &[machine, server, attempt, ..]) => {
                let server = usize::try_from(server).ok().filter(|&s| s < data.machines.len());
                self.attempts.insert(attempt, (machine as usize, server));
            }
            (Event::Connected, &[attempt, connection, ..]) => {
                // Noted again when the program is told; by then the attempt is not here any more.
                if let Some((client, Some(server))) = self.attempts.remove(&attempt)
                    && connection > 0
                {
                    self.ends.insert(connection, [client, server]);
                }
            }
            (Event::Write | Event::SendFile, &[connection, side, bytes, ..]) => {
                self.streams.entry((connection, side as usize)).or_default().write(at, bytes);
            }
            (Event::DiskCall, &[call, kind, _, _, machine, ..]) => {
                self.calls.insert(call, (at, machine as usize, kind));
            }
            (Event::DiskDone, &[call, ok, ..]) => {
                if let Some((begun, machine, kind)) = self.calls.remove(&call) {
                    data.disk_calls.push((begun, at, machine, kind, ok == 1, String::new()));
                }
            }
            _ => {}
        }
    }

    fn over(&mut self, at: f64, process: u64, how: &'static str, data: &mut Data) {
        if let Some((machine, begun)) = self.alive.remove(&process) {
            data.lives.push((machine, begun, at, how));
        }
    }

    /// The tape is at its end: what is still open never ended, and what is under way is lost.
    fn end(&mut self, data: &mut Data) {
        let end = data.end;
        data.lives.extend(self.alive.values().map(|&(machine, begun)| (machine, begun, end, "")));
        for (begun, machine, kind) in self.calls.values().copied() {
            data.disk_calls.push((begun, -1.0, machine, kind, false, String::new()));
        }
        let lost =
            label_of(&mut self.labels, &mut data.labels, "bytes that never arrived".to_owned());
        for (&(connection, side), stream) in &self.streams {
            let Some(ends) = self.ends.get(&connection) else { continue };
            let framed = stream.framed;
            for &(at, until) in stream.writes.iter().filter(|(_, until)| *until > framed) {
                let (from, to, bytes) = (ends[side], ends[1 - side], (until - framed) as usize);
                data.messages.push((at, -1.0, from, to, lost, bytes, Vec::new()));
            }
        }
        data.messages.sort_by(|a, b| a.0.total_cmp(&b.0));
        data.disk_calls.sort_by(|a, b| a.0.total_cmp(&b.0));
        data.lives.sort_by(|a, b| a.1.total_cmp(&b.1));
    }
}

/// Takes in a text: the path of the disk call that has just ended, or something to be listed. What
/// clients did comes from the history.
fn say(at: f64, text: &str, data: &mut Data) {
    match (text.strip_prefix("    "), data.disk_calls.last_mut()) {
        (Some(path), Some(call)) => call.5 = path.to_owned(),
        _ if text.starts_with("client ") || data.texts.len() == TEXTS_MAX => {}
        _ => data.texts.push((at, text.to_owned())),
    }
}

/// The number of a name in a list of them; added if it is new.
fn label_of(known: &mut BTreeMap<String, usize>, list: &mut Vec<String>, name: String) -> usize {
    *known.entry(name).or_insert_with_key(|name| {
        list.push(name.clone());
        list.len() - 1
    })
}

/// The plan's faults, with those that are left out taken out.
fn faults(facts: &Facts, data: &mut Data) {
    for (index, planned) in facts.plan.faults.iter().enumerate() {
        if facts.run.cut.faults.contains(&index) {
            continue;
        }
        let text = format!("{:?}", planned.fault);
        let at = planned.at.as_secs_f64() * 1e3;
        let lasting = planned.fault.lasting().as_secs_f64() * 1e3;
        let machines = planned.fault.machines();
        data.faults.push((
            at,
            (at + lasting).min(data.end),
            planned.kind.to_string(),
            text,
            machines,
        ));
    }
}

/// Joins the events of the history into operations; returns the operation of each event.
fn operations(history: &History, walk: &Walk, data: &mut Data) -> Vec<Option<usize>> {
    let mut index = Vec::new();
    let mut open = BTreeMap::new();
    let mut partitions = walk.partitions.clone();
    let (mut ends, mut reads) = (BTreeMap::new(), BTreeMap::new());
    for (number, event) in history.events().iter().enumerate() {
        let at = ms(event.time_ns);
        let Some(&machine) = walk.machine_of.get(&speaker(event.process)) else {
            index.push(None);
            continue;
        };
        let mut place = |name: String| label_of(&mut partitions, &mut data.partitions, name);
        let phase = match event.phase {
            Phase::Invoke => "",
            Phase::Ok => "ok",
            Phase::Fail => "fail",
            Phase::Info => "info",
        };
        match &event.op {
            Op::Send { topic, partition: Some(partition), offset: Some(offset), .. } => {
                let name = format!("{}/{}", history.name(*topic), partition.0);
                higher(&mut ends, place(name), offset.0 + 1, at, &mut data.ends);
            }
            Op::Poll { records } => {
                for record in records {
                    let name = format!("{}/{}", history.name(record.topic), record.partition.0);
                    higher(&mut reads, place(name), record.offset.0 + 1, at, &mut data.reads);
                }
            }
            _ => {}
        }
        let key = match &event.op {
            Op::Send { value, .. } => Some((event.process, value.0)),
            _ => None,
        };
        let begun = key.and_then(|key| open.get(&key).copied());
        match (event.phase, begun) {
            (Phase::Ok | Phase::Fail | Phase::Info, Some(operation)) => {
                let row: &mut OperationRow = &mut data.operations[operation];
                (row.1, row.3) = (at, phase);
                row.4 = text(history, &event.op);
                row.5.push(number);
                index.push(Some(operation));
            }
            _ => {
                let done = if event.phase == Phase::Invoke { -1.0 } else { at };
                let operation = data.operations.len();
                let text = text(history, &event.op);
                data.operations.push((at, done, machine, phase, text, vec![number]));
                index.push(Some(operation));
                if let (Phase::Invoke, Some(key)) = (event.phase, key) {
                    open.insert(key, operation);
                }
            }
        }
    }
    index
}

/// Notes a value of a partition if it is the highest so far.
fn higher(
    highest: &mut BTreeMap<usize, i64>,
    partition: usize,
    value: i64,
    at: f64,
    into: &mut Vec<(f64, usize, i64)>,
) {
    let known = highest.entry(partition).or_insert(0);
    if value > *known {
        *known = value;
        into.push((at, partition, value));
    }
}

fn text(history: &History, op: &Op) -> String {
    match op {
        Op::Send { topic, partition, value, offset, .. } => {
            let partition = partition.map_or_else(|| "?".to_owned(), |p| p.0.to_string());
            let offset =
                offset.map_or_else(String::new, |offset| format!(" at offset {}", offset.0));
            format!("send {value} to {}/{partition}{offset}", history.name(*topic))
        }
        Op::Poll { records } => {
            let few = records.iter().take(8).map(|record| {
                let (topic, partition) = (history.name(record.topic), record.partition.0);
                format!("{topic}/{partition}@{}={}", record.offset.0, record.value)
            });
            let few: Vec<String> = few.collect();
            let more = if records.len() > 8 { ", ..." } else { "" };
            format!("poll of {}: {}{more}", records.len(), few.join(", "))
        }
        Op::Seek { topic, partition, offset } => {
            format!("seek {}/{} to {}", history.name(*topic), partition.0, offset.0)
        }
        other => format!("{other:?}"),
    }
}

/// What the judge found, and the first bad event.
fn findings(facts: &Facts, failure: Option<&Failure>, index: &[Option<usize>], data: &mut Data) {
    for finding in &facts.findings {
        let at = |event: &usize| index.get(*event).copied().flatten();
        let mut operations: Vec<usize> = finding.witness.iter().filter_map(at).collect();
        operations.sort_unstable();
        operations.dedup();
        data.findings.push((finding.anomaly.to_string(), finding.sentence.clone(), operations));
    }
    let when = |operation: usize| {
        let row = &data.operations[operation];
        if row.1 >= 0.0 { row.1 } else { row.0 }
    };
    // A finding is proven by the last of its events; the run is known to be wrong by the first
    // finding that is.
    let proofs = data.findings.iter().enumerate().filter_map(|(finding, (_, _, operations))| {
        let last = operations.iter().copied().max_by(|a, b| when(*a).total_cmp(&when(*b)))?;
        Some((when(last), last, finding))
    });
    let first = proofs.min_by(|a, b| a.0.total_cmp(&b.0));
    data.bad = match (first, failure) {
        (Some((at, operation, finding)), _) => {
            let (anomaly, sentence, _) = &data.findings[finding];
            let text = format!("{anomaly}: {sentence}");
            Some(Bad { at, operation: Some(operation), finding: Some(finding), text })
        }
        (None, Some(failure)) => {
            let text = failure.text.lines().next().unwrap_or_default().to_owned();
            Some(Bad { at: data.end, operation: None, finding: None, text })
        }
        (None, None) => None,
    };
}

/// The name of an error code.
fn error_name(code: i16) -> String {
    ErrorCode::from_code(code).map_or_else(|| code.to_string(), |error| format!("{error:?}"))
}
