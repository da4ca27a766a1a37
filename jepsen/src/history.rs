//! Histories: what every client asked for, what it was told, and what was done to the brokers.
//!
//! Owns the in-memory form; [`mod@line`] owns the file format, the same for simulated and for real runs.
//! Keeps: events are in the order of their times, and each value is sent once in a history (`check`
//! says so if not). Must not know: brokers, the simulator, what is right or wrong.
//!
//! # File format, version 2
//!
//! JSON lines, UTF-8, one object a line. The first line of a file names the format; the lines that
//! follow are events. Files of version 1 are read too: they hold fewer kinds of events.
//!
//! ```text
//! {"format":"trialog-history","version":2}
//! {"time":11,"process":3,"type":"invoke","f":"create","topic":"a","count":2,"configs":{"cleanup.policy":"compact"}}
//! {"time":12,"process":3,"type":"ok","f":"create","topic":"a","count":2,"configs":{"cleanup.policy":"compact"}}
//! {"time":13,"process":0,"type":"info","f":"producer","acks":-1,"idempotent":true}
//! {"time":13,"process":5,"type":"info","f":"producer","acks":-1,"idempotent":true,"identity":[17,2]}
//! {"time":17,"process":0,"type":"invoke","f":"send","topic":"a","partition":0,"key":"k","value":4294967296,"timestamp":1700}
//! {"time":19,"process":0,"type":"ok","f":"send","topic":"a","partition":0,"value":4294967296,"offset":3}
//! {"time":19,"process":0,"type":"invoke","f":"send","topic":"a","partition":0,"key":"k","value":4294967297,"tombstone":true}
//! {"time":20,"process":7,"type":"ok","f":"assign","partitions":[["a",0],["a",1]]}
//! {"time":21,"process":7,"type":"ok","f":"seek","topic":"a","partition":0,"offset":0}
//! {"time":24,"process":7,"type":"ok","f":"poll","records":[["a",0,3,4294967296]]}
//! {"time":25,"process":3,"type":"invoke","f":"trim","topic":"a","partition":0,"offset":2}
//! {"time":26,"process":3,"type":"ok","f":"trim","topic":"a","partition":0,"offset":2}
//! {"time":26,"process":3,"type":"invoke","f":"list-offset","topic":"a","partition":0,"ask":-2}
//! {"time":27,"process":3,"type":"ok","f":"list-offset","topic":"a","partition":0,"ask":-2,"offset":2}
//! {"time":27,"process":900,"type":"info","f":"start","topic":"a","partition":0,"offset":2}
//! {"time":27,"process":3,"type":"invoke","f":"grow","topic":"a","count":3}
//! {"time":27,"process":3,"type":"ok","f":"configure","topic":"a","configs":{"cleanup.policy":null}}
//! {"time":27,"process":3,"type":"ok","f":"describe","topic":"a","configs":{"cleanup.policy":null}}
//! {"time":28,"process":3,"type":"invoke","f":"metadata","all":true}
//! {"time":28,"process":3,"type":"ok","f":"metadata","all":true,"topics":[["a",3]],"leaders":[["a",0,1,5]]}
//! {"time":28,"process":3,"type":"fail","f":"delete","topic":"b"}
//! {"time":29,"process":8,"type":"ok","f":"subscribe","group":"g","topics":["a"]}
//! {"time":29,"process":8,"type":"ok","f":"assigned","group":"g","member":"m-1","generation":4,"partitions":[["a",0]]}
//! {"time":29,"process":8,"type":"invoke","f":"commit","group":"g","generation":4,"offsets":[["a",0,4]]}
//! {"time":29,"process":8,"type":"ok","f":"committed","group":"g","offsets":[["a",0,4],["a",1,null]]}
//! {"time":29,"process":8,"type":"ok","f":"revoked","group":"g","generation":4,"partitions":[["a",0]]}
//! {"time":29,"process":3,"type":"invoke","f":"forget","group":"g","partitions":[["a",0]]}
//! {"time":30,"process":8,"type":"info","f":"note","text":"order 17 shipped"}
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
//! | `f` | what; see below |
//! | `topic`, `partition` | which; a send whose partition the client chooses may leave `partition` out, its `ok` should name it |
//! | `value` | of a send: unsigned, unique in the history; -1 in a poll's record: a payload no client of ours wrote |
//! | `key` | optional text |
//! | `tombstone` | the record has a key and no payload; its `value` travels in a header |
//! | `timestamp` | of a send: the record's own time in ms, in a topic that keeps it |
//! | `offset` | of a send: absent when the acknowledgement carried none. Of a seek: where the next record is expected; -2 the beginning, -1 the end. Of a trim: below it, everything goes. Of a list-offset: the answer; absent if there was none |
//! | `records` | topic, partition, offset, value; in the order in which the consumer got them |
//! | `partitions` | what the consumer reads from now on; replaces what it read before. A partition that stays keeps its position unless a seek follows. Of `revoked`: what it gives up. Of `forget`: whose offsets are deleted |
//! | `acks`, `idempotent` | of a producer: 0, 1 or -1 (all), and whether the broker recognises its repetitions |
//! | `identity` | of a producer: the number that the broker gave it, and its epoch (KIP-98); absent if nobody tells |
//! | `ask` | of a list-offset: -2 the oldest record, -1 the end, else the first record of this time (ms) or later |
//! | `count` | how many partitions a topic gets |
//! | `configs` | settings by name; null is "not set on the topic". In `describe` only what was asked for |
//! | `all` | a metadata read that lists every topic there is: what is absent does not exist |
//! | `topics` | of a metadata read: name and number of partitions, null for a topic that does not exist. Of a subscribe: names |
//! | `leaders` | topic, partition, node, leader epoch |
//! | `group`, `generation` | a consumer group and its generation (or member epoch); no generation for commits from outside |
//! | `member` | of `assigned`: the member's static name, if it has one: it may come back as another process |
//! | `offsets` | topic, partition, and the next offset to read; null where the group has none |
//!
//! # Events
//!
//! * `producer` (info): how this process sends from now on; without it, idempotent and acks=all. A
//!   send with acks=0 ends with `info`: nobody knows. Whoever begins another epoch of its identity, or
//!   sends in an old one, says so before the send.
//! * `send`: may overlap; a completion belongs to its invocation by `value`. `fail` only if certain.
//! * `assign`, `seek`, `poll` (ok): one consumer's moves. They need no `invoke`. A seek is recorded
//!   before the consumer asks the broker anything because of it.
//! * `trim`, `list-offset`, `create`, `delete`, `grow`, `configure`, `describe`, `metadata`,
//!   `commit`, `committed`, `forget`: `invoke` and, when it ends, one completion of the same process; a process
//!   has one of these under way at a time. **Each attempt is an operation of its own**: a request
//!   without an answer ends with `info`, even if it is sent again, because both may be carried out.
//! * `start` (info): what an observer saw of a partition's first offset, from inside or outside.
//! * `subscribe`, `assigned`, `revoked` (ok): a member of a group (its process) is told to read. The
//!   position of what is new in `assigned` is the group's committed one, unless a seek follows;
//!   `assigned` is recorded before the member reads. `revoked` is recorded when it has stopped.
//! * `note`: an application's own words, for people.
//! * `crash`, `restart`, `pause`, `resume` (info) with `node`, by the nemesis.
//! * `final`: from here on consumers read every partition from its beginning to its end, so that what
//!   they do not see is not there. One that has found nothing in a partition and come to its end may ask,
//!   as the same process, where it ends and then where it begins (a `list-offset` of -1, and of -2): what
//!   should stand behind that has not gone.
//! * A call of a process that dies should get an `info`: like any other that nobody answered it is over with
//!   the next crash of its broker then.

mod line;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};
use trialog_engine::id::{Offset, PartitionIndex, ProducerEpoch, ProducerId};

pub use line::{FORMAT_VERSION, ReadError};

/// Seek target and list-offset question: the first offset of the partition.
pub const BEGINNING: Offset = Offset(-2);
/// Seek target and list-offset question: the end of the partition.
pub const END: Offset = Offset(-1);

/// A topic of one history: an index into its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(pub u32);

/// A consumer group of one history: an index into its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(pub u32);

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
    /// Done or not done: nobody told the client. Also the phase of what is no operation of a client.
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

/// Who must have a record before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Acks {
    /// Nobody: there is no acknowledgement.
    None,
    /// The leader.
    Leader,
    /// All in-sync replicas.
    All,
}

/// As whom a producer writes: later epochs of one number fence the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

/// Settings of a topic by name.
pub type Configs = BTreeMap<String, String>;
/// Settings by name; `None` is "not set on the topic".
pub type PartialConfigs = BTreeMap<String, Option<String>>;

/// A partition's leader, as a metadata read told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    pub topic: Topic,
    pub partition: PartitionIndex,
    pub node: i32,
    pub epoch: i32,
}

/// What is asked of the cluster's metadata. Invocation and completion both say all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    Create {
        topic: Topic,
        partitions: i32,
        /// Settings that differ from the broker's.
        configs: Configs,
    },
    Delete {
        topic: Topic,
    },
    /// More partitions.
    Grow {
        topic: Topic,
        partitions: i32,
    },
    Configure {
        topic: Topic,
        /// What changes; `None` takes a setting off.
        configs: PartialConfigs,
    },
    /// Reads settings.
    Describe {
        topic: Topic,
        /// Only in `ok`: what is set of what was asked for; `None` if there is no such topic.
        configs: Option<PartialConfigs>,
    },
    /// Reads which topics there are and who leads them.
    Metadata {
        /// Every topic was asked for: one that is not listed does not exist.
        all: bool,
        /// Topics with their number of partitions, `None` if there is no such topic.
        topics: Vec<(Topic, Option<i32>)>,
        leaders: Vec<Leader>,
    },
}

/// What members of a consumer group do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    Subscribe {
        topics: Vec<Topic>,
    },
    /// All that the member reads from now on.
    Assigned {
        /// Its static name (KIP-345), under which it may come back as another process.
        member: Option<Box<str>>,
        generation: i32,
        partitions: Vec<(Topic, PartitionIndex)>,
    },
    /// What the member has stopped reading.
    Revoked {
        generation: i32,
        partitions: Vec<(Topic, PartitionIndex)>,
    },
    Commit {
        /// `None`: from outside of the group.
        generation: Option<i32>,
        /// The next offset to read of each partition.
        offsets: Vec<(Topic, PartitionIndex, Offset)>,
    },
    /// Reads what is committed; the invocation has no offsets.
    Committed {
        offsets: Vec<(Topic, PartitionIndex, Option<Offset>)>,
    },
    /// Deletes what is committed, some of it or all with the group; afterwards generations may
    /// begin anew.
    Forget {
        partitions: Vec<(Topic, PartitionIndex)>,
    },
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// How this process sends from now on.
    Producer {
        acks: Acks,
        idempotent: bool,
        /// `None`: nobody tells.
        identity: Option<Identity>,
    },
    Send {
        topic: Topic,
        /// None: the client chooses, and its `ok` names it.
        partition: Option<PartitionIndex>,
        key: Option<Box<str>>,
        value: Value,
        /// The record has no payload: it deletes its key from a compacted topic.
        tombstone: bool,
        /// The record's own time in ms, in a topic that keeps it; only in the invocation.
        timestamp_ms: Option<i64>,
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
    /// DeleteRecords.
    Trim {
        topic: Topic,
        partition: PartitionIndex,
        /// What lies below it goes.
        offset: Offset,
    },
    ListOffset {
        topic: Topic,
        partition: PartitionIndex,
        /// [`BEGINNING`], [`END`], or a time in ms.
        ask: i64,
        /// Only in `ok`; `None` if there is no record that young.
        offset: Option<Offset>,
    },
    /// The partition begins here, says an observer.
    Start {
        topic: Topic,
        partition: PartitionIndex,
        offset: Offset,
    },
    Admin(Box<Admin>),
    Group(Group, Box<Membership>),
    /// An application's own words.
    Note(Box<str>),
    /// Done by the nemesis.
    Nemesis {
        fault: Fault,
        node: u32,
    },
    /// From here on consumers read everything, from the beginning to the end.
    Final,
}

impl Op {
    /// A send, or its completion, without key, time and offset.
    #[must_use]
    pub fn send(topic: Topic, partition: Option<PartitionIndex>, value: Value) -> Op {
        let (key, tombstone, timestamp_ms, offset) = (None, false, None, None);
        Op::Send { topic, partition, key, value, tombstone, timestamp_ms, offset }
    }

    /// A send's acknowledgement.
    #[must_use]
    pub fn stored(
        topic: Topic,
        partition: PartitionIndex,
        value: Value,
        offset: Option<Offset>,
    ) -> Op {
        let (key, tombstone, timestamp_ms) = (None, false, None);
        let partition = Some(partition);
        Op::Send { topic, partition, key, value, tombstone, timestamp_ms, offset }
    }
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

/// Names in the order in which they were first heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    names: Vec<String>,
    numbers: BTreeMap<String, u32>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).expect("fewer names than 2^32");
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    fn name(&self, number: u32) -> Option<&str> {
        self.names.get(number as usize).map(String::as_str)
    }
}

/// A whole run, in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    topics: Names,
    groups: Names,
    events: Vec<Event>,
}

impl History {
    #[must_use]
    pub fn new() -> History {
        History::default()
    }

    /// The number of a topic's name in this history; known from now on if it was not.
    pub fn topic(&mut self, name: &str) -> Topic {
        Topic(self.topics.number(name))
    }

    /// The name of a topic of this history.
    #[must_use]
    pub fn name(&self, topic: Topic) -> &str {
        self.topics.name(topic.0).unwrap_or("(unknown topic)")
    }

    /// The number of a group's name in this history; known from now on if it was not.
    pub fn group(&mut self, name: &str) -> Group {
        Group(self.groups.number(name))
    }

    /// The name of a group of this history.
    #[must_use]
    pub fn group_name(&self, group: Group) -> &str {
        self.groups.name(group.0).unwrap_or("(unknown group)")
    }

    /// All topics that were named.
    pub fn topics(&self) -> impl Iterator<Item = Topic> + use<> {
        (0..u32::try_from(self.topics.names.len()).expect("numbered as u32")).map(Topic)
    }

    /// An empty history that knows the same names.
    #[must_use]
    pub fn named_alike(&self) -> History {
        History { events: Vec::new(), ..self.clone() }
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

    /// An event as it stands in a file.
    ///
    /// # Panics
    /// If there is no such event.
    #[must_use]
    pub fn text(&self, at: usize) -> String {
        line::text(self, &self.events[at])
    }

    /// Puts several histories of one run into one, by time; equal times keep the order of `parts`.
    #[must_use]
    pub fn merge(parts: Vec<History>) -> History {
        let mut whole = History::new();
        let mut events = Vec::with_capacity(parts.iter().map(|part| part.events.len()).sum());
        for part in parts {
            let topics: Vec<Topic> =
                part.topics.names.iter().map(|name| whole.topic(name)).collect();
            let groups: Vec<Group> =
                part.groups.names.iter().map(|name| whole.group(name)).collect();
            events.extend(part.events.into_iter().map(|mut event| {
                rename(&mut event.op, &topics, &groups);
                event
            }));
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
        line::read(input)
    }

    /// Writes the file format above.
    ///
    /// # Errors
    /// Whatever `out` refuses.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        line::write(self, out)
    }
}

/// Gives an operation the numbers of another history.
fn rename(op: &mut Op, topics: &[Topic], groups: &[Group]) {
    let new = |topic: &mut Topic| *topic = topics[topic.0 as usize];
    match op {
        Op::Send { topic, .. }
        | Op::Seek { topic, .. }
        | Op::Trim { topic, .. }
        | Op::ListOffset { topic, .. }
        | Op::Start { topic, .. } => new(topic),
        Op::Poll { records } => records.iter_mut().for_each(|record| new(&mut record.topic)),
        Op::Assign { partitions } => partitions.iter_mut().for_each(|(topic, _)| new(topic)),
        Op::Admin(admin) => match &mut **admin {
            Admin::Create { topic, .. }
            | Admin::Delete { topic }
            | Admin::Grow { topic, .. }
            | Admin::Configure { topic, .. }
            | Admin::Describe { topic, .. } => new(topic),
            Admin::Metadata { topics, leaders, .. } => {
                topics.iter_mut().for_each(|(topic, _)| new(topic));
                leaders.iter_mut().for_each(|leader| new(&mut leader.topic));
            }
        },
        Op::Group(group, membership) => {
            *group = groups[group.0 as usize];
            match &mut **membership {
                Membership::Subscribe { topics } => topics.iter_mut().for_each(new),
                Membership::Assigned { partitions, .. }
                | Membership::Revoked { partitions, .. }
                | Membership::Forget { partitions } => {
                    partitions.iter_mut().for_each(|(topic, _)| new(topic));
                }
                Membership::Commit { offsets, .. } => {
                    offsets.iter_mut().for_each(|(topic, ..)| new(topic));
                }
                Membership::Committed { offsets } => {
                    offsets.iter_mut().for_each(|(topic, ..)| new(topic));
                }
            }
        }
        Op::Producer { .. } | Op::Note(_) | Op::Nemesis { .. } | Op::Final => {}
    }
}
