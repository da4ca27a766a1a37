//! Reading records: partitions that are assigned by hand, from a place that is named.
//!
//! [`Consumer::poll`] keeps one fetch under way per leader and returns what the first one brings.
//! A fetch that is still under way when `poll` returns is awaited by the next one. An answer counts
//! for a partition only if it is still where it was when the fetch was sent.

mod read;
mod seek;

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use thiserror::Error;

use super::cluster::Cluster;
use super::fault::CallError;
use super::link::{Answer, Reply};
use super::wait::{backoff, until, within};
use crate::id::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId};
use crate::io::{Instant, Io};
use crate::wire::api::ApiKey;
use crate::wire::batch::BatchError;
use crate::wire::code::ErrorCode;
use crate::wire::fetch::{self, FetchPartition, FetchRequest, FetchTopic};

pub use seek::Start;
use seek::find;
pub(super) use seek::list_offset;

/// The highest version in which topics have names.
const NAMED_VERSION_MAX: i16 = 12;

/// What a consumer does when the place it wants to read from is not in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfRange {
    /// Tells the caller.
    #[default]
    Fail,
    /// Goes to the oldest record.
    Earliest,
    /// Goes to the end.
    Latest,
}

/// Which records of transactions are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All of them, those of aborted transactions too.
    #[default]
    ReadUncommitted,
    /// Those of committed transactions.
    ReadCommitted,
}

impl Isolation {
    fn level(self) -> i8 {
        match self {
            Isolation::ReadUncommitted => 0,
            Isolation::ReadCommitted => 1,
        }
    }
}

/// How a consumer reads.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// How long a broker may wait for `bytes_min`.
    pub wait_max: Duration,
    /// How many bytes are worth an answer.
    pub bytes_min: i32,
    /// How many bytes one answer may have.
    pub bytes_max: i32,
    /// How many bytes of one partition an answer may have.
    pub partition_bytes_max: i32,
    /// Which records of transactions are shown.
    pub isolation: Isolation,
    /// What to do when a place is not in the log.
    pub out_of_range: OutOfRange,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        ConsumerOptions {
            wait_max: Duration::from_millis(500),
            bytes_min: 1,
            bytes_max: 50 * 1024 * 1024,
            partition_bytes_max: 1024 * 1024,
            isolation: Isolation::ReadUncommitted,
            out_of_range: OutOfRange::Fail,
        }
    }
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Its topic.
    pub topic: Rc<str>,
    /// Its partition.
    pub partition: PartitionIndex,
    /// Its offset.
    pub offset: Offset,
    /// In ms since 1970.
    pub timestamp: i64,
    /// Its key, or null.
    pub key: Option<Vec<u8>>,
    /// Its value, or null.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order; names that are not UTF-8 are made so.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Why reading cannot go on. The partition stays assigned where it is; polling again tries again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConsumeError {
    /// The place is not in the log, and [`OutOfRange::Fail`] is set.
    #[error("{topic}-{partition}: offset {offset} is not in the log")]
    OutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// Where reading was to go on.
        offset: Offset,
    },
    /// The broker refused for good.
    #[error("{topic}-{partition}: {}", .code.message())]
    Refused {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// The broker's code.
        code: ErrorCode,
    },
    /// A batch cannot be read.
    #[error("{topic}-{partition} at offset {offset}: {error}")]
    Corrupt {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// Where reading was to go on.
        offset: Offset,
        /// What was wrong.
        error: BatchError,
    },
    /// The cluster could not be asked, and asking again will not help.
    #[error(transparent)]
    Call(#[from] CallError),
}

type Key = (Rc<str>, PartitionIndex);

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// To be looked up.
    Wanted(Start),
    /// The next record to return.
    At(Offset),
}

struct Assigned {
    place: Place,
    /// Set anew by each assignment and seek, so that old answers are recognised.
    generation: u64,
    high_watermark: Option<Offset>,
    failures: u32,
    /// After a failure: when to try again.
    paused: Option<Instant>,
}

impl Assigned {
    /// After success.
    fn settle(&mut self, offset: Offset) {
        self.place = Place::At(offset);
        self.failures = 0;
        self.paused = None;
    }
}

/// What is asked for in a fetch.
struct Wish {
    key: Key,
    generation: u64,
    offset: Offset,
    topic_id: TopicId,
    epoch: LeaderEpoch,
}

/// A fetch that is under way.
struct Fetching<I: Io> {
    answer: Answer<I>,
    deadline: Instant,
    asked: Vec<Wish>,
}

/// A look-up that is under way, for the assignment of this generation.
struct Finding {
    generation: u64,
    found: Pin<Box<dyn Future<Output = Result<Offset, CallError>>>>,
}

/// Reads records of the partitions assigned to it. See the module's head.
pub struct Consumer<I: Io> {
    cluster: Rc<Cluster<I>>,
    options: ConsumerOptions,
    assigned: BTreeMap<Key, Assigned>,
    fetching: BTreeMap<NodeId, Fetching<I>>,
    finding: Option<Finding>,
    generation: u64,
    /// The metadata have led us wrong.
    astray: bool,
    /// Rotates which partition a fetch names first, so that none starves.
    turn: usize,
}

impl<I: Io> Consumer<I> {
    pub(super) fn new(cluster: Rc<Cluster<I>>, options: ConsumerOptions) -> Consumer<I> {
        Consumer {
            cluster,
            options,
            assigned: BTreeMap::new(),
            fetching: BTreeMap::new(),
            finding: None,
            generation: 0,
            astray: false,
            turn: 0,
        }
    }

    /// Reads a partition from `start` on; one that is read already is moved there.
    pub fn assign(&mut self, topic: &str, partition: PartitionIndex, start: Start) {
        self.generation += 1;
        let place = match start {
            Start::Offset(offset) => Place::At(offset),
            start => Place::Wanted(start),
        };
        let assigned = Assigned {
            place,
            generation: self.generation,
            high_watermark: None,
            failures: 0,
            paused: None,
        };
        self.assigned.insert((topic.into(), partition), assigned);
    }

    /// Moves a partition; the same as [`Consumer::assign`].
    pub fn seek(&mut self, topic: &str, partition: PartitionIndex, start: Start) {
        self.assign(topic, partition, start);
    }

    /// Stops reading a partition.
    pub fn unassign(&mut self, topic: &str, partition: PartitionIndex) {
        self.assigned.remove(&(topic.into(), partition));
    }

    /// The offset of the next record of a partition; `None` if it is not assigned, or its start has
    /// not been looked up yet.
    #[must_use]
    pub fn position(&self, topic: &str, partition: PartitionIndex) -> Option<Offset> {
        match self.assigned.get(&(topic.into(), partition))?.place {
            Place::At(offset) => Some(offset),
            Place::Wanted(_) => None,
        }
    }

    /// The end of what can be read of a partition, as the last fetch told it.
    #[must_use]
    pub fn high_watermark(&self, topic: &str, partition: PartitionIndex) -> Option<Offset> {
        self.assigned.get(&(topic.into(), partition))?.high_watermark
    }

    /// The next records, of any partitions, each partition's in order; none if `timeout` passes
    /// first. Failures that may pass are retried silently.
    ///
    /// # Errors
    /// [`ConsumeError`] for what will not pass by waiting. No record is lost by it: what was read
    /// before is returned first.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<ConsumedRecord>, ConsumeError> {
        let io = self.cluster.io.clone();
        let deadline = io.now().after(timeout);
        loop {
            match within(&io, until(&io, deadline), self.step()).await {
                None => return Ok(Vec::new()),
                Some(Ok(records)) if records.is_empty() && io.now() < deadline => {}
                Some(result) => return result,
            }
        }
    }

    /// One round: look up, fetch, take in one answer. May be dropped anywhere: what it has learnt
    /// is kept as it learns it.
    async fn step(&mut self) -> Result<Vec<ConsumedRecord>, ConsumeError> {
        self.look_up().await?;
        self.fetch().await?;
        match self.next_answer().await {
            None => Ok(Vec::new()),
            Some((node, result)) => {
                let fetching = self.fetching.remove(&node).expect("it was under way");
                self.take_in(fetching, result)
            }
        }
    }

    /// Partitions that may be asked for now.
    fn ready(&self) -> Vec<Key> {
        let now = self.cluster.io.now();
        let ready = self.assigned.iter();
        let ready = ready.filter(|(_, assigned)| assigned.paused.is_none_or(|until| now >= until));
        ready.map(|(key, _)| key.clone()).collect()
    }

    /// Puts a partition off after a failure.
    fn pause(&mut self, key: &Key, reason: &dyn std::fmt::Display) {
        tracing::debug!(topic = &*key.0, partition = key.1.0, %reason, "consume again");
        let options = &self.cluster.options;
        let Some(assigned) = self.assigned.get_mut(key) else { return };
        let (first, most) = (options.backoff_first, options.backoff_max);
        let pause = backoff(&self.cluster.io, first, most, assigned.failures);
        assigned.failures = assigned.failures.saturating_add(1);
        assigned.paused = Some(self.cluster.io.now().after(pause));
    }

    /// Finds out the offsets of the starts that are wanted.
    async fn look_up(&mut self) -> Result<(), ConsumeError> {
        for key in self.ready() {
            let Some(&Assigned { place: Place::Wanted(start), generation, .. }) =
                self.assigned.get(&key)
            else {
                continue;
            };
            // One may take longer than a poll.
            let begun = self.finding.take().filter(|finding| finding.generation == generation);
            let finding = self.finding.insert(begun.unwrap_or_else(|| {
                let isolation = self.options.isolation;
                let found = find(self.cluster.clone(), key.clone(), start, isolation);
                Finding { generation, found: Box::pin(found) }
            }));
            let found = finding.found.as_mut().await;
            self.finding = None;
            match found {
                Ok(offset) => {
                    let assigned = self.assigned.get_mut(&key).expect("nobody else unassigns");
                    assigned.settle(offset);
                }
                Err(error) if error.retriable() => {
                    self.pause(&key, &error);
                    self.astray = true;
                }
                Err(CallError::Refused(code)) => return Err(refused(&key, code)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends a fetch to each leader that has partitions to read and none under way.
    async fn fetch(&mut self) -> Result<(), ConsumeError> {
        let mut wishes: BTreeMap<NodeId, Vec<Wish>> = BTreeMap::new();
        let ready = self.ready();
        let leaderless = ready.iter().filter(|key| self.leader(key).is_none());
        let astray = leaderless.inspect(|key| self.cluster.follow(&key.0)).count() > 0;
        // Once for all of them: the others wait for it.
        if self.astray || astray {
            let _ = self.cluster.refresh().await;
            self.astray = false;
        }
        for key in ready {
            let assigned = &self.assigned[&key];
            let Place::At(offset) = assigned.place else { continue };
            let generation = assigned.generation;
            match self.leader(&key) {
                Some((topic_id, leader, epoch)) => {
                    let wish = Wish { key, generation, offset, topic_id, epoch };
                    wishes.entry(leader).or_default().push(wish);
                }
                None => self.pause(&key, &"no leader is known"),
            }
        }
        for (leader, mut wishes) in wishes {
            if self.fetching.contains_key(&leader) {
                continue;
            }
            let first = self.turn % wishes.len();
            wishes.rotate_left(first);
            let keys: Vec<Key> = wishes.iter().map(|wish| wish.key.clone()).collect();
            if let Err(error) = self.send(leader, wishes).await {
                if !error.retriable() {
                    return Err(error.into());
                }
                for key in &keys {
                    self.pause(key, &error);
                }
                self.astray = true;
            }
        }
        self.turn = self.turn.wrapping_add(1);
        Ok(())
    }

    /// Whom to ask for a partition, with its topic's id and its epoch.
    fn leader(&self, key: &Key) -> Option<(TopicId, NodeId, LeaderEpoch)> {
        let (id, partition) = self.cluster.partition(&key.0, key.1)?;
        Some((id, partition.leader?, partition.epoch))
    }

    async fn send(&mut self, leader: NodeId, wishes: Vec<Wish>) -> Result<(), CallError> {
        let link = self.cluster.link(leader).await?;
        let version = link.version(ApiKey::Fetch, fetch::VERSION_MIN..=fetch::VERSION_MAX)?;
        let has_ids = wishes.iter().all(|wish| wish.topic_id != TopicId::NONE);
        let version = if has_ids { version } else { version.min(NAMED_VERSION_MAX) };
        let place = link.reserve().await?;
        let options = &self.options;
        let request = FetchRequest {
            max_wait_ms: i32::try_from(options.wait_max.as_millis()).unwrap_or(i32::MAX),
            min_bytes: options.bytes_min,
            max_bytes: options.bytes_max,
            isolation_level: options.isolation.level(),
            topics: fetch_topics(&wishes, options.partition_bytes_max),
            ..FetchRequest::default()
        };
        let encode = |out: &mut Vec<u8>| request.encode(out, version);
        let answer = link.send(place, ApiKey::Fetch, version, encode)?;
        let limit = options.wait_max.saturating_add(self.cluster.options.request_timeout);
        let deadline = self.cluster.io.now().after(limit);
        self.fetching.insert(leader, Fetching { answer, deadline, asked: wishes });
        Ok(())
    }

    /// The first answer of all fetches under way; `None` when it is time to look what else can be
    /// done.
    async fn next_answer(&mut self) -> Option<(NodeId, Result<Reply, CallError>)> {
        let io = self.cluster.io.clone();
        let paused = self.assigned.values().filter_map(|assigned| assigned.paused);
        let now = io.now();
        let resume = paused.filter(|&until| until > now);
        let deadlines = self.fetching.values().map(|fetching| fetching.deadline);
        let wake = resume.chain(deadlines).min();
        let pause = wake.map_or(self.cluster.options.backoff_max, |wake| until(&io, wake));
        let mut sleep = pin!(io.sleep(pause));
        let fetching = &mut self.fetching;
        let answered = poll_fn(|cx| {
            for (&node, fetching) in fetching.iter_mut() {
                if let Poll::Ready(result) = Pin::new(&mut fetching.answer).poll(cx) {
                    return Poll::Ready(Some((node, result)));
                }
            }
            sleep.as_mut().poll(cx).map(|()| None)
        });
        if let Some(answered) = answered.await {
            return Some(answered);
        }
        let now = io.now();
        let late = self.fetching.iter().find(|(_, fetching)| now >= fetching.deadline);
        let node = late.map(|(&node, _)| node)?;
        Some((node, Err(CallError::TimedOut)))
    }
}

/// The wishes by topic, in the order in which the topics come first.
fn fetch_topics(wishes: &[Wish], max_bytes: i32) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for wish in wishes {
        let at = topics.iter().position(|topic| *topic.name == *wish.key.0);
        let at = at.unwrap_or_else(|| {
            let (name, topic_id) = (wish.key.0.to_string(), wish.topic_id);
            topics.push(FetchTopic { name, topic_id, partitions: Vec::new() });
            topics.len() - 1
        });
        topics[at].partitions.push(FetchPartition {
            index: wish.key.1,
            current_leader_epoch: wish.epoch,
            fetch_offset: wish.offset,
            max_bytes,
            ..FetchPartition::default()
        });
    }
    topics
}

fn refused(key: &Key, code: ErrorCode) -> ConsumeError {
    ConsumeError::Refused { topic: key.0.to_string(), partition: key.1, code }
}
