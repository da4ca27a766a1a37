//! Histories: what every client asked for, what it was told, and what was done to the brokers.
//!
//! Owns the in-memory form and its file format, the same for simulated and for real runs. Keeps:
//! events are in the order of their times, and each value is sent once in a history (`check` says
//! so if not). Must not know: brokers, the simulator, what is right or wrong.
//!
//! # File format, version 1
//!
//! JSON lines, UTF-8, one object a line. The first line of a file names the format; the lines that
//! follow are events:
//!
//! ```text
//! {"format":"trialog-history","version":1}
//! {"time":17,"process":0,"type":"invoke","f":"send","topic":"a","partition":0,"value":4294967296}
//! {"time":19,"process":0,"type":"ok","f":"send","topic":"a","partition":0,"value":4294967296,"offset":3}
//! {"time":20,"process":7,"type":"ok","f":"assign","partitions":[["a",0],["a",1]]}
//! {"time":21,"process":7,"type":"ok","f":"seek","topic":"a","partition":0,"offset":0}
//! {"time":24,"process":7,"type":"ok","f":"poll","records":[["a",0,3,4294967296]]}
//! {"time":30,"process":99,"type":"info","f":"crash","node":0}
//! {"time":31,"process":99,"type":"info","f":"restart","node":0}
//! {"time":40,"process":99,"type":"info","f":"final"}
//! ```
//!
//! | field | meaning |
//! |---|---|
//! | `time` | nanoseconds since any fixed instant, the same one for all processes of a run |
//! | `process` | one client (a producer or a consumer), or the nemesis |
//! | `type` | `invoke` asked · `ok` done · `fail` certainly not done · `info` nobody knows |
//! | `f` | `send` `poll` `assign` `seek` by clients; `crash` `restart` `pause` `resume` `final` by the nemesis |
//! | `value` | unsigned, unique for each send; -1 in a poll's record: a payload no client of ours wrote |
//! | `partition` | may be absent in a send whose partition the client chooses; `ok` should name it |
//! | `key` | optional text |
//! | `offset` | of a send: absent when the acknowledgement carried none (acks=0). Of a seek: where the next record is expected; -2 the beginning, -1 the end |
//! | `records` | topic, partition, offset, value; in the order in which the consumer got them |
//! | `partitions` | what the consumer reads from now on; replaces what it read before. A partition that stays keeps its position unless a seek follows |
//!
//! A client may have many sends in flight: a completion belongs to its invocation by `value`.
//! Consumers need no `invoke` lines. After `final`, consumers read every partition from its
//! beginning to its end, so that what they do not see is not there.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};
use trialog_engine::id::{Offset, PartitionIndex};

/// The version of the file format that this library writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;
const FORMAT_NAME: &str = "trialog-history";
/// A line longer than this is refused, in bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Seek target: the first offset of the partition.
pub const BEGINNING: Offset = Offset(-2);
/// Seek target: the end of the partition.
pub const END: Offset = Offset(-1);

/// A topic of one history: an index into its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(pub u32);

/// One client, or the nemesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process(pub u32);

/// What a record carries: unique in a history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u64);

impl Value {
    /// A payload that no client of the run wrote, or one that was altered.
    pub const FOREIGN: Value = Value(u64::MAX);

    /// The value of one producer's record number `counter`.
    #[must_use]
    pub fn new(producer: u32, counter: u32) -> Value {
        Value((u64::from(producer) << 32) | u64::from(counter))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Value::FOREIGN => f.write_str("(foreign payload)"),
            Value(number) => write!(f, "{}-{}", number >> 32, number & 0xffff_ffff),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How far an operation got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Asked.
    Invoke,
    /// Done, and the client knows.
    Ok,
    /// Certainly not done, now or later.
    Fail,
    /// Done or not done: nobody told the client. Also the phase of everything the nemesis does.
    Info,
}

/// One record as a consumer got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub topic: Topic,
    pub partition: PartitionIndex,
    pub offset: Offset,
    pub value: Value,
}

/// What is done to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed, or its machine loses power.
    Crash,
    Restart,
    Pause,
    Resume,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Send {
        topic: Topic,
        /// None: the client chooses, and its `ok` names it.
        partition: Option<PartitionIndex>,
        key: Option<Box<str>>,
        value: Value,
        /// Only in `ok`, and only if the acknowledgement carried one.
        offset: Option<Offset>,
    },
    Poll {
        records: Vec<Record>,
    },
    Assign {
        partitions: Vec<(Topic, PartitionIndex)>,
    },
    Seek {
        topic: Topic,
        partition: PartitionIndex,
        /// Where the next record is expected; [`BEGINNING`] and [`END`] have their meaning.
        offset: Offset,
    },
    /// Done by the nemesis.
    Nemesis {
        fault: Fault,
        node: u32,
    },
    /// From here on consumers read everything, from the beginning to the end.
    Final,
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since the run's fixed instant.
    pub time_ns: u64,
    pub process: Process,
    pub phase: Phase,
    pub op: Op,
}

/// A whole run, in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    names: Vec<String>,
    by_name: BTreeMap<String, Topic>,
    events: Vec<Event>,
}

impl History {
    #[must_use]
    pub fn new() -> History {
        History::default()
    }

    /// The number of a topic's name in this history; known from now on if it was not.
    pub fn topic(&mut self, name: &str) -> Topic {
        if let Some(topic) = self.by_name.get(name) {
            return *topic;
        }
        let topic = Topic(u32::try_from(self.names.len()).expect("fewer topics than 2^32"));
        self.names.push(name.to_owned());
        self.by_name.insert(name.to_owned(), topic);
        topic
    }

    /// The name of a topic of this history.
    #[must_use]
    pub fn name(&self, topic: Topic) -> &str {
        self.names.get(topic.0 as usize).map_or("(unknown topic)", String::as_str)
    }

    /// Adds an event. Its topics must be this history's, its time not before the last event's.
    ///
    /// # Panics
    /// If time goes back: whoever merges several sources uses [`History::merge`].
    pub fn push(&mut self, event: Event) {
        let last_ns = self.events.last().map_or(0, |last| last.time_ns);
        assert!(event.time_ns >= last_ns, "a history's time goes back");
        self.events.push(event);
    }

    /// All events in order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Puts several histories of one run into one, by time; equal times keep the order of `parts`.
    #[must_use]
    pub fn merge(parts: Vec<History>) -> History {
        let mut whole = History::new();
        let mut events = Vec::with_capacity(parts.iter().map(|part| part.events.len()).sum());
        for part in parts {
            let topics: Vec<Topic> = part.names.iter().map(|name| whole.topic(name)).collect();
            events.extend(part.events.into_iter().map(|event| renamed(event, &topics)));
        }
        events.sort_by_key(|event| event.time_ns);
        whole.events = events;
        whole
    }

    /// Reads a file of the format above. Lines may be out of order: they are sorted by time.
    ///
    /// # Errors
    /// What is wrong, with the number of the line.
    pub fn read(input: &mut impl BufRead) -> Result<History, ReadError> {
        let mut history = History::new();
        let mut line = String::new();
        let mut number = 0;
        loop {
            number += 1;
            line.clear();
            let wrong = |what: String| ReadError { line: number, what };
            io::Read::take(&mut *input, LINE_BYTES_MAX)
                .read_line(&mut line)
                .map_err(|error| wrong(error.to_string()))?;
            if line.is_empty() {
                break;
            }
            if number == 1 {
                let head: Head =
                    serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
                if head.format != FORMAT_NAME || head.version > FORMAT_VERSION {
                    let Head { format, version } = head;
                    return Err(wrong(format!("cannot read format {format} version {version}")));
                }
                continue;
            }
            let parsed: Line<'_> =
                serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
            let event = parsed.into_event(&mut history).map_err(|what| wrong(what.to_owned()))?;
            history.events.push(event);
        }
        if number == 1 {
            return Err(ReadError { line: 1, what: "the file is empty".to_owned() });
        }
        history.events.sort_by_key(|event| event.time_ns);
        Ok(history)
    }

    /// Writes the file format above.
    ///
    /// # Errors
    /// Whatever `out` refuses.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let head = Head { format: FORMAT_NAME.into(), version: FORMAT_VERSION };
        write_line(out, &head)?;
        for event in &self.events {
            write_line(out, &Line::from_event(event, self))?;
        }
        Ok(())
    }
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

fn renamed(mut event: Event, topics: &[Topic]) -> Event {
    let new = |topic: &mut Topic| *topic = topics[topic.0 as usize];
    match &mut event.op {
        Op::Send { topic, .. } | Op::Seek { topic, .. } => new(topic),
        Op::Poll { records } => records.iter_mut().for_each(|record| new(&mut record.topic)),
        Op::Assign { partitions } => partitions.iter_mut().for_each(|(topic, _)| new(topic)),
        Op::Nemesis { .. } | Op::Final => {}
    }
    event
}

/// Why a file is not a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// Counted from 1.
    pub line: usize,
    pub what: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ReadError {}

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verb {
    Send,
    Poll,
    Assign,
    Seek,
    Crash,
    Restart,
    Pause,
    Resume,
    Final,
}

/// A line as it stands in the file.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    time: u64,
    process: u32,
    #[serde(rename = "type")]
    phase: Phase,
    f: Verb,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    topic: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    records: Option<Vec<(Text<'a>, i32, i64, Payload)>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    partitions: Option<Vec<(Text<'a>, i32)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<u32>,
}

/// Text that is borrowed from the line unless it holds escapes.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

/// A record's value, or -1 for a payload that is nobody's.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Payload {
    Ours(u64),
    Foreign(i64),
}

impl<'a> Line<'a> {
    fn from_event(event: &'a Event, history: &'a History) -> Line<'a> {
        let text = |topic: Topic| Text(history.name(topic).into());
        let verb = match &event.op {
            Op::Send { .. } => Verb::Send,
            Op::Poll { .. } => Verb::Poll,
            Op::Assign { .. } => Verb::Assign,
            Op::Seek { .. } => Verb::Seek,
            Op::Nemesis { fault: Fault::Crash, .. } => Verb::Crash,
            Op::Nemesis { fault: Fault::Restart, .. } => Verb::Restart,
            Op::Nemesis { fault: Fault::Pause, .. } => Verb::Pause,
            Op::Nemesis { fault: Fault::Resume, .. } => Verb::Resume,
            Op::Final => Verb::Final,
        };
        let mut line = Line {
            time: event.time_ns,
            process: event.process.0,
            phase: event.phase,
            f: verb,
            topic: None,
            partition: None,
            key: None,
            value: None,
            offset: None,
            records: None,
            partitions: None,
            node: None,
        };
        match &event.op {
            Op::Send { topic, partition, key, value, offset } => {
                line.topic = Some(text(*topic));
                line.partition = partition.map(|partition| partition.0);
                line.key = key.as_deref().map(|key| Text(key.into()));
                line.value = Some(value.0);
                line.offset = offset.map(|offset| offset.0);
            }
            Op::Poll { records } => {
                let row = |record: &Record| {
                    let payload = match record.value {
                        Value::FOREIGN => Payload::Foreign(-1),
                        Value(number) => Payload::Ours(number),
                    };
                    (text(record.topic), record.partition.0, record.offset.0, payload)
                };
                line.records = Some(records.iter().map(row).collect());
            }
            Op::Assign { partitions } => {
                let row =
                    |(topic, partition): &(Topic, PartitionIndex)| (text(*topic), partition.0);
                line.partitions = Some(partitions.iter().map(row).collect());
            }
            Op::Seek { topic, partition, offset } => {
                line.topic = Some(text(*topic));
                line.partition = Some(partition.0);
                line.offset = Some(offset.0);
            }
            Op::Nemesis { node, .. } => line.node = Some(*node),
            Op::Final => {}
        }
        line
    }

    fn into_event(self, history: &mut History) -> Result<Event, &'static str> {
        let nemesis = |fault, node: Option<u32>| Op::Nemesis { fault, node: node.unwrap_or(0) };
        let op = match self.f {
            Verb::Send => Op::Send {
                topic: history.topic(&self.topic.ok_or("a send without topic")?.0),
                partition: self.partition.map(PartitionIndex),
                key: self.key.map(|key| key.0.into()),
                value: Value(self.value.ok_or("a send without value")?),
                // Clients report -1 where the answer carried no offset.
                offset: self.offset.filter(|offset| *offset >= 0).map(Offset),
            },
            Verb::Poll => {
                let rows = self.records.unwrap_or_default();
                let mut records = Vec::with_capacity(rows.len());
                for (topic, partition, offset, payload) in rows {
                    records.push(Record {
                        topic: history.topic(&topic.0),
                        partition: PartitionIndex(partition),
                        offset: Offset(offset),
                        value: match payload {
                            Payload::Ours(number) => Value(number),
                            Payload::Foreign(_) => Value::FOREIGN,
                        },
                    });
                }
                Op::Poll { records }
            }
            Verb::Assign => {
                let rows = self.partitions.ok_or("an assign without partitions")?;
                let row = |(topic, partition): (Text<'_>, i32)| {
                    (history.topic(&topic.0), PartitionIndex(partition))
                };
                Op::Assign { partitions: rows.into_iter().map(row).collect() }
            }
            Verb::Seek => Op::Seek {
                topic: history.topic(&self.topic.ok_or("a seek without topic")?.0),
                partition: PartitionIndex(self.partition.ok_or("a seek without partition")?),
                offset: Offset(self.offset.ok_or("a seek without offset")?),
            },
            Verb::Crash => nemesis(Fault::Crash, self.node),
            Verb::Restart => nemesis(Fault::Restart, self.node),
            Verb::Pause => nemesis(Fault::Pause, self.node),
            Verb::Resume => nemesis(Fault::Resume, self.node),
            Verb::Final => Op::Final,
        };
        let process = Process(self.process);
        Ok(Event { time_ns: self.time, process, phase: self.phase, op })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<History, ReadError> {
        History::read(&mut text.as_bytes())
    }

    #[test]
    fn the_documented_example_survives_a_round_trip() {
        let source = include_str!("history.rs");
        let lines = source.lines().filter_map(|line| line.strip_prefix("//! {"));
        let text: String = lines.map(|line| format!("{{{line}\n")).collect();
        let history = parse(&text).expect("the documented example is valid");
        assert_eq!(history.events().len(), 8);
        let mut written = Vec::new();
        history.write(&mut written).expect("memory takes everything");
        assert_eq!(String::from_utf8(written).expect("JSON is UTF-8"), text);
    }

    #[test]
    fn foreign_payloads_and_absent_offsets_are_kept_apart_from_real_ones() {
        let history = parse(concat!(
            "{\"format\":\"trialog-history\",\"version\":1}\n",
            "{\"time\":9,\"process\":1,\"type\":\"ok\",\"f\":\"poll\",\"records\":[[\"\\u0061\",0,0,-1]]}\n",
            "{\"time\":5,\"process\":1,\"type\":\"ok\",\"f\":\"send\",\"topic\":\"a\",\"value\":3,\"offset\":-1}\n",
        ))
        .expect("valid");
        let [first, second] = history.events() else { panic!("two events") };
        assert!(matches!(first.op, Op::Send { offset: None, partition: None, .. }), "sorted");
        let Op::Poll { records } = &second.op else { panic!("a poll") };
        assert_eq!(records[0].value, Value::FOREIGN);
        assert_eq!(history.name(records[0].topic), "a");
    }

    #[test]
    fn what_is_not_a_history_is_refused_with_its_line() {
        let head = "{\"format\":\"trialog-history\",\"version\":1}\n";
        assert_eq!(parse("").expect_err("empty").line, 1);
        assert_eq!(
            parse("{\"format\":\"trialog-history\",\"version\":2}\n").expect_err("new").line,
            1
        );
        assert_eq!(parse(&format!("{head}{{\"time\":1")).expect_err("torn").line, 2);
        let no_value =
            "{\"time\":5,\"process\":1,\"type\":\"ok\",\"f\":\"send\",\"topic\":\"a\"}\n";
        let error = parse(&format!("{head}{no_value}")).expect_err("no value");
        assert_eq!(error.to_string(), "line 2: a send without value");
    }

    #[test]
    fn merging_orders_by_time_and_joins_topics_by_name() {
        let send = |history: &mut History, name: &str, time_ns, value| {
            let topic = history.topic(name);
            history.push(Event {
                time_ns,
                process: Process(1),
                phase: Phase::Invoke,
                op: Op::Send { topic, partition: None, key: None, value, offset: None },
            });
        };
        let (mut one, mut two) = (History::new(), History::new());
        send(&mut one, "b", 1, Value(1));
        send(&mut one, "a", 5, Value(2));
        send(&mut two, "a", 3, Value(3));
        let whole = History::merge(vec![one, two]);
        let names: Vec<_> = whole
            .events()
            .iter()
            .map(|event| match event.op {
                Op::Send { topic, value, .. } => (whole.name(topic), value.0),
                _ => panic!("only sends"),
            })
            .collect();
        assert_eq!(names, [("b", 1), ("a", 3), ("a", 2)]);
    }
}
