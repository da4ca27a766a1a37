//! Takes from a taped run what its report shows.
//!
//! The tape knows sockets, processes and bytes; the page shows machines and messages. This is the
//! way from one to the other: who owned which connection, when the first byte of a frame was
//! handed over, what was seen first of all that is wrong.

use std::collections::{BTreeMap, VecDeque};

use trialog_engine::wire::code::ErrorCode;
use trialog_jepsen::check::Anomaly;
use trialog_jepsen::history::{History, Op, Phase};

use super::band::{self, Band};
use super::join::{self, Open};
use super::{Bad, Data, OperationRow, words};
use crate::fault::Fault;
use crate::invariant::Sighting;
use crate::outcome::command;
use crate::plan::Planned;
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
    // What comes later is the world being taken down; the processes that live to the end are killed
    // then. A run that panicked is not taken down: its end is the panic.
    let over = end(facts);
    let taken_down = facts.digest.map(|_| data.end);
    let mut walk = Walk { taken_down, ..Walk::default() };
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
    /// When what lives is killed because the run is over.
    taken_down: Option<f64>,
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
            // See `band`.
            What::Fault { .. } => {}
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
            (Event::Kill, _) if self.taken_down == Some(at) => {}
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

/// The plan's faults as they came, those left out and those that never came taken out.
fn faults(facts: &Facts, data: &mut Data) {
    let planned = facts.plan.faults.iter().enumerate();
    let planned = planned.filter(|(index, _)| !facts.run.cut.faults.contains(index));
    let planned: Vec<&Planned> = planned.map(|(_, planned)| planned).collect();
    let faults: Vec<&Fault> = planned.iter().map(|planned| &planned.fault).collect();
    let bands = band::bands(&faults, &facts.tape, end(facts));
    for (Planned { kind, fault, .. }, band) in planned.into_iter().zip(bands) {
        let Some(Band { from, to, struck }) = band else { continue };
        let (text, machines) = (format!("{fault:?}"), fault.machines());
        data.faults.push((ms(from), ms(to), kind.to_string(), text, machines, struck));
    }
    data.faults.sort_by(|a, b| a.0.total_cmp(&b.0));
}

/// Joins the events of the history into operations; returns the operation of each event.
fn operations(history: &History, walk: &Walk, data: &mut Data) -> Vec<Option<usize>> {
    let mut index = Vec::new();
    let mut open = Open::default();
    let mut partitions = walk.partitions.clone();
    let (mut ends, mut reads) = (BTreeMap::new(), BTreeMap::new());
    for (number, event) in history.events().iter().enumerate() {
        let at = ms(event.time_ns);
        let Some(&machine) = walk.machine_of.get(&speaker(event.process)) else {
            index.push(None);
            continue;
        };
        let mut place = |name: String| label_of(&mut partitions, &mut data.partitions, name);
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
        let asks = event.phase == Phase::Invoke;
        let asked = if asks { None } else { open.ends(event) };
        if let Some(operation) = asked {
            let row: &mut OperationRow = &mut data.operations[operation];
            (row.1, row.3) = (at, join::phase(event));
            if event.phase == Phase::Ok {
                row.4 = words::of(history, &event.op);
            }
            row.5.push(number);
            index.push(Some(operation));
            continue;
        }
        let operation = data.operations.len();
        let done = if asks { -1.0 } else { at };
        let text = words::of(history, &event.op);
        data.operations.push((at, done, machine, join::phase(event), text, vec![number]));
        index.push(Some(operation));
        if asks {
            open.begins(event, operation);
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

/// What the judge found and what else was seen to be wrong, and the first bad event.
fn findings(facts: &Facts, failure: Option<&Failure>, index: &[Option<usize>], data: &mut Data) {
    let events = facts.history.as_ref().map(History::events).unwrap_or_default();
    // What is missing from the final reading is known to be missing when that is over.
    let last_read = events.iter().rposition(|event| matches!(event.op, Op::Poll { .. }));
    let mut proofs = Vec::new();
    for (number, finding) in facts.findings.iter().enumerate() {
        let missing = last_read.filter(|_| finding.anomaly == Anomaly::Unseen);
        let witness = || finding.witness.iter().copied().chain(missing);
        // A finding is proven by the last of its events.
        let proof = witness().filter(|&event| event < events.len()).max();
        let operation = |event: usize| index.get(event).copied().flatten();
        if let Some(proof) = proof {
            let at = ms(events[proof].time_ns);
            let text = format!("{}: {}", finding.anomaly, finding.sentence);
            let machine = operation(proof).map(|row| data.operations[row].2);
            let operation = operation(proof);
            proofs.push(Bad { at, machine, operation, finding: Some(number), text });
        }
        let mut operations: Vec<usize> = witness().filter_map(operation).collect();
        operations.sort_unstable();
        operations.dedup();
        data.findings.push((finding.anomaly.to_string(), finding.sentence.clone(), operations));
    }
    for Sighting { at, machine, found_by, text } in &facts.sightings {
        let (at, found_by) = (ms(*at), (*found_by).to_owned());
        let words = format!("{found_by}: {text}");
        data.sightings.push((at, *machine, found_by, text.clone()));
        let (machine, operation, finding) = (*machine, None, None);
        proofs.push(Bad { at, machine, operation, finding, text: words });
    }
    // The run is known to be wrong by what shows it first; at its end, if nothing else does.
    data.bad = proofs.into_iter().min_by(|a, b| a.at.total_cmp(&b.at)).or_else(|| {
        let text = failure?.text.lines().next().unwrap_or_default().to_owned();
        let (machine, operation, finding) = (None, None, None);
        Some(Bad { at: data.end, machine, operation, finding, text })
    });
}

/// The name of an error code.
fn error_name(code: i16) -> String {
    ErrorCode::from_code(code).map_or_else(|| code.to_string(), |error| format!("{error:?}"))
}
