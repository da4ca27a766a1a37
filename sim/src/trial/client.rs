//! Producers and consumers whose every step goes into the history that the judge reads.
//!
//! A record carries its number in the history, and a sum of its key and payload, in a header that
//! only these clients see. What comes without it, or altered, is nobody's record.

use trialog_engine::client::{
    self, Acks, ConsumeError, ConsumedRecord, Failure, NewRecord, Outcome, ProducerOptions, Start,
};
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::wire::batch::RecordHeader;
use trialog_jepsen::history::{self, BEGINNING, END, Op, Phase, Process, Record, Topic, Value};

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::node::Node;
use crate::io::SimIo;
use crate::sum::sum;

const HEADER: &str = "trialog-trial";

/// Writes records. Clones are the same producer.
#[derive(Clone)]
pub struct Producer {
    node: Node,
    inner: client::Producer<SimIo>,
    process: Process,
    counter: Rc<Cell<u32>>,
    /// An acknowledgement of nobody is none.
    unheard: bool,
}

impl Producer {
    pub(super) fn new(
        node: Node,
        inner: client::Producer<SimIo>,
        options: &ProducerOptions,
    ) -> Producer {
        let process = node.next_voice();
        let acks = match options.acks {
            Acks::None => history::Acks::None,
            Acks::Leader => history::Acks::Leader,
            Acks::All => history::Acks::All,
        };
        let idempotent = options.idempotent && options.acks == Acks::All;
        node.record(process, Phase::Info, Op::Producer { acks, idempotent, identity: None });
        let unheard = options.acks == Acks::None;
        Producer { node, inner, process, counter: Rc::default(), unheard }
    }

    /// Writes a record and waits for what becomes of it.
    pub async fn send(&self, record: NewRecord<'_>) -> Outcome {
        let number = self.counter.get();
        self.counter.set(number + 1);
        let value = Value::new(self.process.0, number);
        let sum = sum([record.key, record.value]).to_be_bytes();
        let mark = [value.0.to_be_bytes(), sum].concat();
        let mut headers = record.headers.to_vec();
        headers.push(RecordHeader { key: HEADER.as_bytes(), value: Some(&mark) });
        let topic = self.node.topic(record.topic);
        let mut asked = Op::send(topic, record.partition, value);
        if let Op::Send { key, tombstone, timestamp_ms, .. } = &mut asked {
            *key = record.key.map(|key| String::from_utf8_lossy(key).into());
            *tombstone = record.key.is_some() && record.value.is_none();
            *timestamp_ms = record.timestamp;
        }
        self.node.record(self.process, Phase::Invoke, asked);
        let outcome = self.inner.send(NewRecord { headers: &headers, ..record }).await;
        let (phase, op) = match &outcome {
            Outcome::Stored(receipt) if !self.unheard => {
                (Phase::Ok, Op::stored(topic, receipt.partition, value, receipt.offset))
            }
            Outcome::Failed(_) => (Phase::Fail, Op::send(topic, record.partition, value)),
            Outcome::Stored(_) | Outcome::Unknown(_) => {
                (Phase::Info, Op::send(topic, record.partition, value))
            }
        };
        self.node.record(self.process, phase, op);
        outcome
    }

    /// Writes a record, again and again if need be, until it is stored: at least once.
    ///
    /// # Errors
    /// Why it certainly cannot be: too large, no such partition, refused for good.
    pub async fn send_surely(&self, record: NewRecord<'_>) -> Result<(), Failure> {
        loop {
            match self.send(record).await {
                Outcome::Stored(_) => return Ok(()),
                Outcome::Failed(failure @ (Failure::TooLarge(_) | Failure::NoPartition(_))) => {
                    return Err(failure);
                }
                Outcome::Failed(_) | Outcome::Unknown(_) => {
                    self.node.sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Reads records.
pub struct Consumer {
    node: Node,
    inner: client::Consumer<SimIo>,
    process: Process,
    assigned: Vec<(Topic, PartitionIndex)>,
}

impl Consumer {
    pub(super) fn new(node: Node, inner: client::Consumer<SimIo>) -> Consumer {
        let process = node.next_voice();
        Consumer { node, inner, process, assigned: Vec::new() }
    }

    /// Reads a partition from `start` on; one that is read already is moved there.
    pub fn assign(&mut self, name: &str, partition: PartitionIndex, start: Start) {
        let topic = self.node.topic(name);
        if !self.assigned.contains(&(topic, partition)) {
            self.assigned.push((topic, partition));
            let partitions = self.assigned.clone();
            self.node.record(self.process, Phase::Ok, Op::Assign { partitions });
        }
        let offset = match start {
            Start::Offset(offset) => offset,
            Start::Earliest => BEGINNING,
            // Where a time is, only the broker knows.
            Start::Latest | Start::Time(_) => END,
        };
        self.node.record(self.process, Phase::Ok, Op::Seek { topic, partition, offset });
        self.inner.assign(name, partition, start);
    }

    /// The next records; none if `timeout` passes first.
    ///
    /// # Errors
    /// As [`client::Consumer::poll`].
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<ConsumedRecord>, ConsumeError> {
        let mut records = self.inner.poll(timeout).await?;
        if !records.is_empty() {
            let records = records.iter_mut().map(|record| seen(&self.node, record)).collect();
            self.node.record(self.process, Phase::Ok, Op::Poll { records });
        }
        Ok(records)
    }

    /// The next records, waiting for some for ever, through every failure that may pass. Reading
    /// goes on at the oldest record if what comes next is not in the log any more.
    pub async fn next(&mut self) -> Vec<ConsumedRecord> {
        loop {
            match self.poll(Duration::from_millis(500)).await {
                Ok(records) if !records.is_empty() => return records,
                Ok(_) => {}
                Err(ConsumeError::OutOfRange { topic, partition, .. }) => {
                    self.assign(&topic, partition, Start::Earliest);
                }
                Err(_) => self.node.sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// The offset of the next record of a partition, if it is known.
    #[must_use]
    pub fn position(&self, topic: &str, partition: PartitionIndex) -> Option<Offset> {
        self.inner.position(topic, partition)
    }
}

/// A record as the judge is to know it. Takes its mark off.
pub(super) fn seen(node: &Node, record: &mut ConsumedRecord) -> Record {
    Record {
        topic: node.topic(&record.topic),
        partition: record.partition,
        offset: record.offset,
        value: unmark(record),
    }
}

/// Takes the mark off a record, and says whose it is.
fn unmark(record: &mut ConsumedRecord) -> Value {
    let place = record.headers.iter().rposition(|(name, _)| name == HEADER);
    let mark = place.and_then(|place| record.headers.remove(place).1);
    let words = mark.as_deref().and_then(|mark| Some((mark.first_chunk()?, mark.last_chunk()?)));
    let ours = words.filter(|(_, mark)| {
        u64::from_be_bytes(**mark) == sum([record.key.as_deref(), record.value.as_deref()])
    });
    ours.map_or(Value::FOREIGN, |(value, _)| Value(u64::from_be_bytes(*value)))
}
