//! Writing records: batched per partition, in order, without duplicates, with a truthful outcome.
//!
//! Each partition written to has a task of its own (`lane`), which owns its batches from the first
//! record to the answer. This handle finds the partition, waits for memory, and hands the record
//! over; [`Ticket`]s come back with what became of it.

mod flight;
mod identity;
mod lane;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::cluster::Cluster;
use super::fault::CallError;
use super::partitioner::{Sticky, by_key};
use super::wait::{until, within};
use crate::id::{Offset, PartitionIndex, ProducerEpoch, ProducerId};
use crate::io::{Instant, Io};
use crate::limit::CLIENT_RECORDS_QUEUED_MAX;
use crate::wire::api::InitProducerIdRequest;
use crate::wire::batch::{Builder, Compression, RecordHeader};
use crate::wire::code::ErrorCode;

use flight::OwnedRecord;
use identity::{Identities, Identity, Inquiry};
use lane::{Command, Lane};

/// Who must have a record before the broker answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// Nobody, and nothing is answered.
    None,
    /// The leader.
    Leader,
    /// All in-sync replicas.
    #[default]
    All,
}

impl Acks {
    fn number(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// How a producer writes.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// Who must have a record. Anything but [`Acks::All`] also turns idempotence off.
    pub acks: Acks,
    /// Whether the broker recognises repeated batches (KIP-98). Without it a retry may duplicate.
    pub idempotent: bool,
    /// How batches are compressed.
    pub compression: Compression,
    /// A batch is sent when the next record would make it larger than this, in bytes before
    /// compression. A larger single record makes a batch of its own.
    pub batch_bytes: usize,
    /// How long a batch that is not full waits for more records. None waits while
    /// [`ProducerOptions::buffer_bytes`] are used up.
    pub linger: Duration,
    /// How long after it was handed over a record may take before the producer gives up.
    pub delivery_timeout: Duration,
    /// Bytes of records that may be on their way; further ones wait.
    pub buffer_bytes: usize,
    /// Batches of one partition that may be under way at once, 1 to 5.
    pub in_flight: usize,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        ProducerOptions {
            acks: Acks::All,
            idempotent: true,
            compression: Compression::None,
            batch_bytes: 64 * 1024,
            linger: Duration::from_millis(5),
            delivery_timeout: Duration::from_secs(120),
            buffer_bytes: 32 * 1024 * 1024,
            in_flight: 5,
        }
    }
}

/// A record to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewRecord<'a> {
    /// Where to.
    pub topic: &'a str,
    /// Which partition; by default the key decides, or the producer.
    pub partition: Option<PartitionIndex>,
    /// In ms since 1970; by default the time it is handed over.
    pub timestamp: Option<i64>,
    /// Its key, or null.
    pub key: Option<&'a [u8]>,
    /// Its value, or null.
    pub value: Option<&'a [u8]>,
    /// Its headers, in order.
    pub headers: &'a [RecordHeader<'a>],
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its partition.
    pub partition: PartitionIndex,
    /// Its offset; `None` with [`Acks::None`], or if the broker knows only that it has it.
    pub offset: Option<Offset>,
    /// Its timestamp in ms since 1970: the append time if the topic is kept that way.
    pub timestamp: i64,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log, as far as [`ProducerOptions::acks`] asked for.
    Stored(Receipt),
    /// It is not in the log and will not be.
    Failed(Failure),
    /// It may be in the log, now or later.
    Unknown(Failure),
}

/// Why a record is not stored, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    /// [`ProducerOptions::delivery_timeout`] passed, and no refusal tells why.
    #[error("not delivered in time")]
    TimedOut,
    /// The cluster could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The broker refused, for good or again and again until the time was up; with its words if it
    /// gave any.
    #[error("{}{}", .code.message(), .message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Refused {
        /// The broker's code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<String>,
    },
    /// The topic has no such partition.
    #[error("the topic has no partition {0}")]
    NoPartition(PartitionIndex),
    /// The record alone is larger than [`ProducerOptions::buffer_bytes`].
    #[error("a record of {0} bytes does not fit into the producer's memory")]
    TooLarge(usize),
    /// The producer ended.
    #[error("the producer ended")]
    Closed,
}

/// A future of a record's [`Outcome`]. Dropping it changes nothing.
#[derive(Debug)]
pub struct Ticket {
    receiver: oneshot::Receiver<Outcome>,
}

impl Future for Ticket {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = Pin::new(&mut self.receiver).poll(cx);
        outcome.map(|outcome| outcome.unwrap_or(Outcome::Unknown(Failure::Closed)))
    }
}

/// The queues of the partitions' tasks.
type Lanes = BTreeMap<(String, PartitionIndex), mpsc::Sender<Command>>;

/// Writes records. Clones are the same producer. When the last one is dropped, what was handed
/// over is still delivered as far as the tasks of this core go on.
pub struct Producer<I: Io> {
    shared: Rc<Shared<I>>,
    lanes: Rc<RefCell<Lanes>>,
    sticky: Rc<RefCell<BTreeMap<String, Sticky>>>,
}

impl<I: Io> Clone for Producer<I> {
    fn clone(&self) -> Self {
        let (lanes, sticky) = (self.lanes.clone(), self.sticky.clone());
        Producer { shared: self.shared.clone(), lanes, sticky }
    }
}

/// What the lanes of a producer share.
struct Shared<I: Io> {
    cluster: Rc<Cluster<I>>,
    options: ProducerOptions,
    memory: Arc<Semaphore>,
    /// How many records wait for memory.
    hungry: Cell<usize>,
    identities: Identities,
}

/// A record that waits for memory, also if its sender gives up.
struct Hungry<'a> {
    count: &'a Cell<usize>,
}

impl Hungry<'_> {
    fn new(count: &Cell<usize>) -> Hungry<'_> {
        count.set(count.get() + 1);
        Hungry { count }
    }
}

impl Drop for Hungry<'_> {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
    }
}

impl<I: Io> Shared<I> {
    /// The identity that batches are to have now. Asked of a broker if there is none; whoever wants
    /// it meanwhile waits for the same answer.
    async fn identity(&self) -> Result<Identity, Failure> {
        loop {
            if let Some(identity) = self.identities.current() {
                return Ok(identity);
            }
            match self.identities.inquiry() {
                Inquiry::Mine(inquirer) => {
                    inquirer.answered(self.fresh_identity().await?);
                }
                Inquiry::Anothers(mut answered) => {
                    // An error says that the other failed or gave up. Somebody asks again.
                    let _ = answered.changed().await;
                }
            }
        }
    }

    /// An identity that nobody has used.
    async fn fresh_identity(&self) -> Result<Identity, Failure> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..InitProducerIdRequest::default()
        };
        let response = self.cluster.call_any(&request).await?;
        match ErrorCode::from_code(response.error_code).unwrap_or(ErrorCode::UnknownServerError) {
            ErrorCode::None => Ok(Identity {
                id: ProducerId(response.producer_id),
                epoch: ProducerEpoch(response.producer_epoch),
            }),
            code => Err(Failure::Refused { code, message: None }),
        }
    }
}

impl<I: Io> Producer<I> {
    pub(super) fn new(cluster: Rc<Cluster<I>>, mut options: ProducerOptions) -> Producer<I> {
        options.in_flight = options.in_flight.clamp(1, crate::limit::CLIENT_BATCHES_IN_FLIGHT_MAX);
        options.idempotent &= options.acks == Acks::All;
        options.buffer_bytes = options.buffer_bytes.clamp(1, u32::MAX as usize >> 4);
        let memory = Arc::new(Semaphore::new(options.buffer_bytes));
        let identities = Identities::default();
        Producer {
            shared: Rc::new(Shared { cluster, options, memory, hungry: Cell::new(0), identities }),
            lanes: Rc::default(),
            sticky: Rc::default(),
        }
    }

    /// Writes a record and waits for what becomes of it.
    pub async fn send(&self, record: NewRecord<'_>) -> Outcome {
        match self.enqueue(record).await {
            Ok(ticket) => ticket.await,
            Err(failure) => Outcome::Failed(failure),
        }
    }

    /// Hands a record over, waiting for metadata and for memory if need be, and returns a ticket
    /// for its outcome. Records handed over one after another for one partition are stored in that
    /// order.
    ///
    /// # Errors
    /// [`Failure`]: the record was not handed over.
    pub async fn enqueue(&self, record: NewRecord<'_>) -> Result<Ticket, Failure> {
        let shared = &self.shared;
        let cluster = &shared.cluster;
        let deadline = cluster.io.now().after(shared.options.delivery_timeout);
        let partitions = match cluster.known_topic(record.topic) {
            Some(topic) if !topic.partitions.is_empty() => topic.partitions.len(),
            _ => cluster.topic(record.topic, deadline).await?.partitions.len(),
        };
        let bytes = Builder::record_size_max(record.key, record.value, record.headers);
        let index = self.place(&record, partitions, bytes)?;
        let permits = u32::try_from(bytes).ok().filter(|_| bytes <= shared.options.buffer_bytes);
        let permits = permits.ok_or(Failure::TooLarge(bytes))?;
        let memory = self.memory(permits, deadline).await?;
        let (sender, receiver) = oneshot::channel();
        let command = Command::Record(OwnedRecord {
            timestamp: record.timestamp.unwrap_or_else(|| cluster.io.wall().0),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .iter()
                .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                .collect(),
            ticket: sender,
            memory,
        });
        let lane = self.lane(record.topic, index);
        let sent = within(&cluster.io, until(&cluster.io, deadline), lane.send(command)).await;
        match sent {
            Some(Ok(())) => Ok(Ticket { receiver }),
            Some(Err(_)) => Err(Failure::Closed),
            None => Err(Failure::TimedOut),
        }
    }

    /// Sends what has been handed over without lingering, and waits until all of it has an outcome.
    pub async fn flush(&self) {
        let lanes: Vec<_> = self.lanes.borrow().values().cloned().collect();
        let mut waiters = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let (done, waiter) = oneshot::channel();
            if lane.send(Command::Flush(done)).await.is_ok() {
                waiters.push(waiter);
            }
        }
        for waiter in waiters {
            let _ = waiter.await;
        }
    }

    /// Memory for a record. Batches that linger are sent while it is waited for.
    async fn memory(
        &self,
        permits: u32,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, Failure> {
        let shared = &self.shared;
        if let Ok(memory) = shared.memory.clone().try_acquire_many_owned(permits) {
            return Ok(memory);
        }
        let _hungry = Hungry::new(&shared.hungry);
        for lane in self.lanes.borrow().values() {
            // One whose queue is full does not sleep.
            let _ = lane.try_send(Command::Hurry);
        }
        let io = &shared.cluster.io;
        let memory = shared.memory.clone().acquire_many_owned(permits);
        let memory = within(io, until(io, deadline), memory).await;
        memory.ok_or(Failure::TimedOut)?.map_err(|_| Failure::Closed)
    }

    /// The partition of a record.
    fn place(
        &self,
        record: &NewRecord<'_>,
        partitions: usize,
        bytes: usize,
    ) -> Result<PartitionIndex, Failure> {
        match (record.partition, record.key) {
            (Some(index), _) => match usize::try_from(index.0) {
                Ok(number) if number < partitions => Ok(index),
                _ => Err(Failure::NoPartition(index)),
            },
            (None, Some(key)) => Ok(by_key(key, partitions)),
            (None, None) => {
                let random = || Sticky::new(self.shared.cluster.io.random());
                let mut sticky = self.sticky.borrow_mut();
                let sticky = sticky.entry(record.topic.to_owned()).or_insert_with(random);
                Ok(sticky.next(partitions, bytes, self.shared.options.batch_bytes))
            }
        }
    }

    /// The queue of a partition's task, which is started if there is none.
    fn lane(&self, topic: &str, index: PartitionIndex) -> mpsc::Sender<Command> {
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.entry((topic.to_owned(), index)).or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(CLIENT_RECORDS_QUEUED_MAX);
            let lane = Lane::new(self.shared.clone(), topic.to_owned(), index, receiver);
            self.shared.cluster.io.spawn(lane.run());
            sender
        });
        lane.clone()
    }
}
