//! A history as a file: JSON lines.
//!
//! Owns the names of fields and events, which are documented at the head of [`super`]. Keeps: what
//! is written reads back as the same events; nothing in a file makes reading panic, and a line has a
//! bound.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};
use trialog_engine::id::{Offset, PartitionIndex, ProducerEpoch, ProducerId};

use super::{
    Acks, Admin, Event, Fault, History, Identity, Leader, Membership, Op, Phase, Process, Record,
    Topic, Value,
};

/// The version of the file format that this library writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 2;
const FORMAT_NAME: &str = "trialog-history";
/// A line longer than this is refused, in bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

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

/// Reads a whole file; see [`History::read`].
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
        let event = parsed.into_event(&mut history).map_err(wrong)?;
        history.events.push(event);
    }
    if number == 1 {
        return Err(ReadError { line: 1, what: "the file is empty".to_owned() });
    }
    history.events.sort_by_key(|event| event.time_ns);
    Ok(history)
}

/// Writes a whole file; see [`History::write`].
pub fn write(history: &History, out: &mut impl Write) -> io::Result<()> {
    let head = Head { format: FORMAT_NAME.into(), version: FORMAT_VERSION };
    write_line(out, &head)?;
    for event in &history.events {
        write_line(out, &Line::from_event(event, history))?;
    }
    Ok(())
}

/// One event as it stands in the file, without the line's end.
pub fn text(history: &History, event: &Event) -> String {
    serde_json::to_string(&Line::from_event(event, history)).expect("text and numbers")
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Verb {
    Producer,
    Send,
    Poll,
    Assign,
    Seek,
    Trim,
    ListOffset,
    Start,
    Create,
    Delete,
    Grow,
    Configure,
    Describe,
    Metadata,
    Subscribe,
    Assigned,
    Revoked,
    Commit,
    Committed,
    Forget,
    Note,
    Crash,
    Restart,
    Pause,
    Resume,
    Final,
}

/// Text that is borrowed from the line unless it holds escapes.
#[derive(Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A record's value, or -1 for a payload that is nobody's.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Payload {
    Ours(u64),
    Foreign(i64),
}

/// A topic in a metadata read or in a subscription.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Listed {
    Counted(String, Option<i32>),
    Named(String),
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
    group: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    member: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generation: Option<i32>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    topic: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tombstone: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ask: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    records: Option<Vec<(Text<'a>, i32, i64, Payload)>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    partitions: Option<Vec<(Text<'a>, i32)>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    offsets: Option<Vec<(Text<'a>, i32, Option<i64>)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acks: Option<i16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idempotent: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<(i64, i16)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<i32>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    configs: Option<BTreeMap<Text<'a>, Option<Text<'a>>>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topics: Option<Vec<Listed>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    leaders: Option<Vec<(Text<'a>, i32, i32, i32)>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    text: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<u32>,
}

fn verb(op: &Op) -> Verb {
    match op {
        Op::Producer { .. } => Verb::Producer,
        Op::Send { .. } => Verb::Send,
        Op::Poll { .. } => Verb::Poll,
        Op::Assign { .. } => Verb::Assign,
        Op::Seek { .. } => Verb::Seek,
        Op::Trim { .. } => Verb::Trim,
        Op::ListOffset { .. } => Verb::ListOffset,
        Op::Start { .. } => Verb::Start,
        Op::Admin(admin) => match &**admin {
            Admin::Create { .. } => Verb::Create,
            Admin::Delete { .. } => Verb::Delete,
            Admin::Grow { .. } => Verb::Grow,
            Admin::Configure { .. } => Verb::Configure,
            Admin::Describe { .. } => Verb::Describe,
            Admin::Metadata { .. } => Verb::Metadata,
        },
        Op::Group(_, membership) => match &**membership {
            Membership::Subscribe { .. } => Verb::Subscribe,
            Membership::Assigned { .. } => Verb::Assigned,
            Membership::Revoked { .. } => Verb::Revoked,
            Membership::Commit { .. } => Verb::Commit,
            Membership::Committed { .. } => Verb::Committed,
            Membership::Forget { .. } => Verb::Forget,
        },
        Op::Note(_) => Verb::Note,
        Op::Nemesis { fault: Fault::Crash, .. } => Verb::Crash,
        Op::Nemesis { fault: Fault::Restart, .. } => Verb::Restart,
        Op::Nemesis { fault: Fault::Pause, .. } => Verb::Pause,
        Op::Nemesis { fault: Fault::Resume, .. } => Verb::Resume,
        Op::Final => Verb::Final,
    }
}

/// From an event to its line.
impl<'a> Line<'a> {
    fn from_event(event: &'a Event, history: &'a History) -> Line<'a> {
        let mut line = Line {
            time: event.time_ns,
            process: event.process.0,
            phase: event.phase,
            f: verb(&event.op),
            group: None,
            member: None,
            generation: None,
            topic: None,
            partition: None,
            key: None,
            value: None,
            tombstone: false,
            timestamp: None,
            ask: None,
            offset: None,
            records: None,
            partitions: None,
            offsets: None,
            acks: None,
            idempotent: None,
            identity: None,
            count: None,
            configs: None,
            all: false,
            topics: None,
            leaders: None,
            text: None,
            node: None,
        };
        line.fill(&event.op, history);
        line
    }

    fn fill(&mut self, op: &'a Op, history: &'a History) {
        let text = |topic: Topic| Text(history.name(topic).into());
        match op {
            Op::Producer { acks, idempotent, identity } => {
                self.acks = Some(match acks {
                    Acks::None => 0,
                    Acks::Leader => 1,
                    Acks::All => -1,
                });
                self.idempotent = Some(*idempotent);
                self.identity = identity.map(|Identity { id, epoch }| (id.0, epoch.0));
            }
            Op::Send { topic, partition, key, value, tombstone, timestamp_ms, offset } => {
                self.topic = Some(text(*topic));
                self.partition = partition.map(|partition| partition.0);
                self.key = key.as_deref().map(|key| Text(key.into()));
                self.value = Some(value.0);
                self.tombstone = *tombstone;
                self.timestamp = *timestamp_ms;
                self.offset = offset.map(|offset| offset.0);
            }
            Op::Poll { records } => {
                let row = |record: &Record| {
                    let payload = match record.value {
                        Value::FOREIGN => Payload::Foreign(-1),
                        Value(number) => Payload::Ours(number),
                    };
                    (text(record.topic), record.partition.0, record.offset.0, payload)
                };
                self.records = Some(records.iter().map(row).collect());
            }
            Op::Assign { partitions } => self.partitions = Some(rows(partitions, history)),
            Op::Seek { topic, partition, offset }
            | Op::Trim { topic, partition, offset }
            | Op::Start { topic, partition, offset } => {
                self.topic = Some(text(*topic));
                self.partition = Some(partition.0);
                self.offset = Some(offset.0);
            }
            Op::ListOffset { topic, partition, ask, offset } => {
                self.topic = Some(text(*topic));
                self.partition = Some(partition.0);
                self.ask = Some(*ask);
                self.offset = offset.map(|offset| offset.0);
            }
            Op::Admin(admin) => self.fill_admin(admin, history),
            Op::Group(group, membership) => {
                self.group = Some(Text(history.group_name(*group).into()));
                self.fill_membership(membership, history);
            }
            Op::Note(note) => self.text = Some(Text((&**note).into())),
            Op::Nemesis { node, .. } => self.node = Some(*node),
            Op::Final => {}
        }
    }

    fn fill_admin(&mut self, admin: &'a Admin, history: &'a History) {
        let text = |topic: Topic| Text(history.name(topic).into());
        match admin {
            Admin::Create { topic, partitions, configs } => {
                self.topic = Some(text(*topic));
                self.count = Some(*partitions);
                let row = |(key, value): (&'a String, &'a String)| {
                    (Text(key.as_str().into()), Some(Text(value.as_str().into())))
                };
                self.configs = Some(configs.iter().map(row).collect());
            }
            Admin::Delete { topic } => self.topic = Some(text(*topic)),
            Admin::Grow { topic, partitions } => {
                self.topic = Some(text(*topic));
                self.count = Some(*partitions);
            }
            Admin::Configure { topic, configs } => {
                self.topic = Some(text(*topic));
                self.configs = Some(partial(configs));
            }
            Admin::Describe { topic, configs } => {
                self.topic = Some(text(*topic));
                self.configs = configs.as_ref().map(partial);
            }
            Admin::Metadata { all, topics, leaders } => {
                self.all = *all;
                let row = |(topic, count): &(Topic, Option<i32>)| {
                    Listed::Counted(history.name(*topic).to_owned(), *count)
                };
                self.topics = (!topics.is_empty()).then(|| topics.iter().map(row).collect());
                let row = |leader: &Leader| {
                    (text(leader.topic), leader.partition.0, leader.node, leader.epoch)
                };
                self.leaders = (!leaders.is_empty()).then(|| leaders.iter().map(row).collect());
            }
        }
    }

    fn fill_membership(&mut self, membership: &'a Membership, history: &'a History) {
        let text = |topic: Topic| Text(history.name(topic).into());
        let named = |topic: Topic| Listed::Named(history.name(topic).to_owned());
        match membership {
            Membership::Subscribe { topics } => {
                self.topics = Some(topics.iter().map(|topic| named(*topic)).collect());
            }
            Membership::Assigned { member, generation, partitions } => {
                self.member = member.as_deref().map(|member| Text(member.into()));
                self.generation = Some(*generation);
                self.partitions = Some(rows(partitions, history));
            }
            Membership::Revoked { generation, partitions } => {
                self.generation = Some(*generation);
                self.partitions = Some(rows(partitions, history));
            }
            Membership::Forget { partitions } => {
                self.partitions = Some(rows(partitions, history));
            }
            Membership::Commit { generation, offsets } => {
                self.generation = *generation;
                let row = |(topic, partition, offset): &(Topic, PartitionIndex, Offset)| {
                    (text(*topic), partition.0, Some(offset.0))
                };
                self.offsets = Some(offsets.iter().map(row).collect());
            }
            Membership::Committed { offsets } => {
                let row = |(topic, partition, offset): &(Topic, PartitionIndex, Option<Offset>)| {
                    (text(*topic), partition.0, offset.map(|offset| offset.0))
                };
                self.offsets = (!offsets.is_empty()).then(|| offsets.iter().map(row).collect());
            }
        }
    }
}

fn rows<'a>(partitions: &[(Topic, PartitionIndex)], history: &'a History) -> Vec<(Text<'a>, i32)> {
    let row = |(topic, partition): &(Topic, PartitionIndex)| {
        (Text(history.name(*topic).into()), partition.0)
    };
    partitions.iter().map(row).collect()
}

fn partial(configs: &BTreeMap<String, Option<String>>) -> BTreeMap<Text<'_>, Option<Text<'_>>> {
    let text = |text: &'_ String| -> Text<'_> { Text(Cow::Owned(text.clone())) };
    configs.iter().map(|(key, value)| (text(key), value.as_ref().map(text))).collect()
}

/// From a line to its event. Errors are sentences.
impl Line<'_> {
    fn into_event(self, history: &mut History) -> Result<Event, String> {
        let (time_ns, process, phase) = (self.time, Process(self.process), self.phase);
        Ok(Event { time_ns, process, phase, op: self.into_op(history)? })
    }

    fn into_op(self, history: &mut History) -> Result<Op, String> {
        Ok(match self.f {
            Verb::Producer => Op::Producer {
                acks: match self.acks.unwrap_or(-1) {
                    0 => Acks::None,
                    1 => Acks::Leader,
                    _ => Acks::All,
                },
                idempotent: self.idempotent.unwrap_or(true),
                identity: self.identity.map(|(id, epoch)| Identity {
                    id: ProducerId(id),
                    epoch: ProducerEpoch(epoch),
                }),
            },
            Verb::Send => Op::Send {
                topic: self.topic(history)?,
                partition: self.partition.map(PartitionIndex),
                value: Value(self.need("value", self.value)?),
                tombstone: self.tombstone,
                timestamp_ms: self.timestamp,
                // Clients report -1 where the answer carried no offset.
                offset: self.offset.filter(|offset| *offset >= 0).map(Offset),
                key: self.key.map(|key| key.0.into()),
            },
            Verb::Poll => Op::Poll { records: self.records(history) },
            Verb::Assign => Op::Assign { partitions: self.partitions(history)? },
            Verb::Seek => {
                let (topic, partition, offset) = self.place(history)?;
                Op::Seek { topic, partition, offset }
            }
            Verb::Trim => {
                let (topic, partition, offset) = self.place(history)?;
                Op::Trim { topic, partition, offset }
            }
            Verb::Start => {
                let (topic, partition, offset) = self.place(history)?;
                Op::Start { topic, partition, offset }
            }
            Verb::ListOffset => Op::ListOffset {
                topic: self.topic(history)?,
                partition: PartitionIndex(self.need("partition", self.partition)?),
                ask: self.need("ask", self.ask)?,
                offset: self.offset.filter(|offset| *offset >= 0).map(Offset),
            },
            Verb::Create
            | Verb::Delete
            | Verb::Grow
            | Verb::Configure
            | Verb::Describe
            | Verb::Metadata => Op::Admin(Box::new(self.into_admin(history)?)),
            Verb::Subscribe
            | Verb::Assigned
            | Verb::Revoked
            | Verb::Commit
            | Verb::Committed
            | Verb::Forget => {
                let group = self.group.as_ref().map(|group| history.group(&group.0));
                let group = self.need("group", group)?;
                Op::Group(group, Box::new(self.into_membership(history)?))
            }
            Verb::Note => Op::Note(self.text.map_or("".into(), |text| text.0.into())),
            Verb::Crash => self.nemesis(Fault::Crash),
            Verb::Restart => self.nemesis(Fault::Restart),
            Verb::Pause => self.nemesis(Fault::Pause),
            Verb::Resume => self.nemesis(Fault::Resume),
            Verb::Final => Op::Final,
        })
    }

    fn into_admin(self, history: &mut History) -> Result<Admin, String> {
        if self.f == Verb::Metadata {
            let mut topics = Vec::new();
            for listed in self.topics.unwrap_or_default() {
                match listed {
                    Listed::Counted(name, count) => topics.push((history.topic(&name), count)),
                    Listed::Named(name) => topics.push((history.topic(&name), None)),
                }
            }
            let leader = |(name, partition, node, epoch): (Text<'_>, i32, i32, i32)| Leader {
                topic: history.topic(&name.0),
                partition: PartitionIndex(partition),
                node,
                epoch,
            };
            let leaders = self.leaders.unwrap_or_default().into_iter().map(leader).collect();
            return Ok(Admin::Metadata { all: self.all, topics, leaders });
        }
        let topic = self.topic(history)?;
        let count = self.need("count", self.count);
        let configs = self.configs.map(|configs| {
            let row = |(key, value): (Text<'_>, Option<Text<'_>>)| {
                (key.0.into_owned(), value.map(|value| value.0.into_owned()))
            };
            configs.into_iter().map(row).collect::<BTreeMap<_, _>>()
        });
        Ok(match self.f {
            Verb::Create => {
                let set = configs.unwrap_or_default().into_iter();
                let configs = set.filter_map(|(key, value)| Some((key, value?))).collect();
                Admin::Create { topic, partitions: count?, configs }
            }
            Verb::Delete => Admin::Delete { topic },
            Verb::Grow => Admin::Grow { topic, partitions: count? },
            Verb::Configure => Admin::Configure { topic, configs: configs.unwrap_or_default() },
            _ => Admin::Describe { topic, configs },
        })
    }

    fn into_membership(self, history: &mut History) -> Result<Membership, String> {
        Ok(match self.f {
            Verb::Subscribe => {
                let name = |listed| match listed {
                    Listed::Counted(name, _) | Listed::Named(name) => history.topic(&name),
                };
                let topics = self.topics.unwrap_or_default().into_iter().map(name).collect();
                Membership::Subscribe { topics }
            }
            Verb::Assigned | Verb::Revoked => {
                let generation = self.need("generation", self.generation)?;
                let assigned = self.f == Verb::Assigned;
                let member = self.member.as_ref().map(|member| Box::from(&*member.0));
                let partitions = self.partitions(history)?;
                match assigned {
                    true => Membership::Assigned { member, generation, partitions },
                    false => Membership::Revoked { generation, partitions },
                }
            }
            Verb::Forget => Membership::Forget { partitions: self.partitions(history)? },
            Verb::Commit => {
                let generation = self.generation.filter(|generation| *generation >= 0);
                let missing = "a commit without an offset".to_owned();
                let row = |(name, partition, offset): (Text<'_>, i32, Option<i64>)| {
                    let offset = Offset(offset?);
                    Some((history.topic(&name.0), PartitionIndex(partition), offset))
                };
                let rows = self.offsets.unwrap_or_default().into_iter().map(row);
                let offsets = rows.collect::<Option<_>>().ok_or(missing)?;
                Membership::Commit { generation, offsets }
            }
            _ => {
                let row = |(name, partition, offset): (Text<'_>, i32, Option<i64>)| {
                    // The protocol says -1 for a group that has no offset there.
                    let offset = offset.filter(|offset| *offset >= 0).map(Offset);
                    (history.topic(&name.0), PartitionIndex(partition), offset)
                };
                let offsets = self.offsets.unwrap_or_default().into_iter().map(row).collect();
                Membership::Committed { offsets }
            }
        })
    }

    fn need<T>(&self, field: &str, value: Option<T>) -> Result<T, String> {
        value.ok_or_else(|| {
            let verb = serde_json::to_string(&self.f).unwrap_or_default();
            format!("a {} without {field}", verb.trim_matches('"'))
        })
    }

    fn topic(&self, history: &mut History) -> Result<Topic, String> {
        self.need("topic", self.topic.as_ref().map(|topic| history.topic(&topic.0)))
    }

    fn place(&self, history: &mut History) -> Result<(Topic, PartitionIndex, Offset), String> {
        let topic = self.topic(history)?;
        let partition = PartitionIndex(self.need("partition", self.partition)?);
        Ok((topic, partition, Offset(self.need("offset", self.offset)?)))
    }

    fn partitions(self, history: &mut History) -> Result<Vec<(Topic, PartitionIndex)>, String> {
        let missing = self.need("partitions", self.partitions.as_ref().map(|_| ()));
        missing?;
        let row = |(topic, partition): (Text<'_>, i32)| {
            (history.topic(&topic.0), PartitionIndex(partition))
        };
        Ok(self.partitions.unwrap_or_default().into_iter().map(row).collect())
    }

    fn records(self, history: &mut History) -> Vec<Record> {
        let row = |(topic, partition, offset, payload): (Text<'_>, i32, i64, Payload)| Record {
            topic: history.topic(&topic.0),
            partition: PartitionIndex(partition),
            offset: Offset(offset),
            value: match payload {
                Payload::Ours(number) => Value(number),
                Payload::Foreign(_) => Value::FOREIGN,
            },
        };
        self.records.unwrap_or_default().into_iter().map(row).collect()
    }

    fn nemesis(&self, fault: Fault) -> Op {
        Op::Nemesis { fault, node: self.node.unwrap_or(0) }
    }
}
