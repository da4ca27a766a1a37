//! What can be asked of a partition, and what it answers.
//!
//! An [`Ask`] is made by a handler on the core of a connection and travels to the partition's
//! owner, on whichever core that is; its answer comes back over the channel in it. Everything here
//! is plain data: who refuses, and why, is decided by the sender on the way or by the owner.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::answer;
use super::gauge::Gauge;
use super::wait::Wait;
use crate::id::{LeaderEpoch, Offset};
use crate::io::Buf;
use crate::log::{Fates, First, ProducerSeen, Slices};
use crate::machine::Topic;
use crate::wire::code::ErrorCode;

/// Everything that can be asked of a partition. A dropped answer channel means that nobody waits
/// any more.
pub enum Ask<F> {
    /// Append verified batches.
    Produce(Produce),
    /// Plan a read.
    Fetch(Fetch<F>),
    /// Find an offset by time or by name.
    Offset {
        /// Kafka's timestamp argument: milliseconds, or one of the negative names.
        timestamp: i64,
        /// The epoch the client believes in, or none.
        leader_epoch: LeaderEpoch,
        /// The answer.
        answer: oneshot::Sender<Result<FoundOffset, ErrorCode>>,
    },
    /// Where an epoch ends (KIP-320).
    EpochEnd {
        /// The epoch the client believes to be the current one, or none.
        current: LeaderEpoch,
        /// The epoch whose end is asked for.
        asked: LeaderEpoch,
        /// The answer.
        answer: oneshot::Sender<Result<(LeaderEpoch, Offset), ErrorCode>>,
    },
    /// Forget the records below an offset (KIP-107).
    RaiseStart {
        /// The first record to keep, or none of those that can be read.
        to: Option<Offset>,
        /// The start as it then is.
        answer: oneshot::Sender<Result<Offset, ErrorCode>>,
    },
    /// Tell how many bytes of batches there are. Answered at rest, and no use: whoever watches sizes
    /// keeps nothing open.
    Size(oneshot::Sender<Result<u64, ErrorCode>>),
    /// Tell which idempotent producers are remembered, in the order of their ids.
    Producers(oneshot::Sender<Result<Vec<ProducerSeen>, ErrorCode>>),
    /// Tell what will become of each segment.
    Fates(oneshot::Sender<Result<Fates, ErrorCode>>),
    /// Answer once the log is open.
    Ready(oneshot::Sender<Result<(), ErrorCode>>),
    /// Answer once upkeep was done. It wakes a partition, but not for long: this counts as no use.
    Upkeep(oneshot::Sender<Result<(), ErrorCode>>),
    /// Rest if there is nothing to do.
    Rest,
    /// Take over changed settings.
    Configure(Arc<Topic>),
    /// Close the log cleanly and end.
    Close(oneshot::Sender<()>),
    /// Remove the log and end.
    Delete(oneshot::Sender<()>),
}

/// Batches to append in order, with nothing in between.
pub struct Produce {
    /// Each exactly one verified batch.
    pub batches: SmallVec<[Buf; 1]>,
    /// The answer: leaves when all of them are as durable as the topic promises.
    pub answer: answer::Sender<Outcomes>,
}

/// What became of each batch, in order.
pub type Outcomes = SmallVec<[Result<Accepted, Rejection>; 1]>;

/// A batch that was appended, or had been before.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// The offset of its first record.
    pub base: Offset,
    /// The broker's time stamp in milliseconds, -1 with CreateTime.
    pub append_time_ms: i64,
    /// The first offset the partition still has.
    pub start: Offset,
}

/// A batch that was not appended.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// Kafka's code.
    pub code: ErrorCode,
    /// What was wrong.
    pub message: String,
}

/// One read to plan.
pub struct Fetch<F> {
    /// Where to begin.
    pub from: Offset,
    /// The epoch the client believes in, or none.
    pub leader_epoch: LeaderEpoch,
    /// The epoch of the record before `from`, if the client says (KIP-595).
    pub last_fetched_epoch: LeaderEpoch,
    /// The most bytes, unless the first batch alone is larger and `first` lets it pass.
    pub max_bytes: u64,
    /// Whether one batch may exceed `max_bytes`.
    pub first: First,
    /// Told about later appends if the plan is short of what the client wants.
    pub wait: Option<Arc<Wait>>,
    /// The answer.
    pub answer: answer::Sender<Fetched<F>>,
}

/// A planned read.
pub struct Fetched<F> {
    /// Kafka's code; with anything but `None` there are no slices.
    pub error: ErrorCode,
    /// The end of what consumers may read.
    pub high_watermark: Offset,
    /// The first offset there is.
    pub start: Offset,
    /// Where the client's history parts from this log's (KIP-595).
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// The epoch in force, for clients that have another.
    pub leader_epoch: LeaderEpoch,
    /// Whole batches, in order.
    pub slices: Slices<F>,
    /// Their size together.
    pub bytes: u64,
    /// Told when they are sent, if there are any.
    pub gauge: Option<Gauge>,
}

/// An offset found by time or by name.
#[derive(Clone, Copy, Debug)]
pub struct FoundOffset {
    /// The offset, -1 for none.
    pub offset: Offset,
    /// Its record's time stamp, -1 where that has no meaning.
    pub timestamp: i64,
    /// Its record's epoch, or none.
    pub leader_epoch: LeaderEpoch,
}

impl FoundOffset {
    /// Nothing is there.
    pub const NONE: FoundOffset =
        FoundOffset { offset: Offset(-1), timestamp: -1, leader_epoch: LeaderEpoch::NONE };
}

impl<F> Ask<F> {
    /// Whether somebody uses the partition, so that it stays open for a while.
    pub fn is_use(&self) -> bool {
        !matches!(self, Ask::Size(_) | Ask::Upkeep(_) | Ask::Rest)
    }

    /// Answers that it cannot be done, and why.
    pub fn refuse(self, code: ErrorCode) {
        // Whoever asked may be gone; then there is nobody to tell.
        match self {
            Ask::Produce(Produce { batches, answer }) => {
                let refusal = || Rejection { code, message: code.message().to_owned() };
                answer.send(batches.iter().map(|_| Err(refusal())).collect());
            }
            Ask::Fetch(Fetch { answer, .. }) => {
                answer.send(Fetched::failed(code));
            }
            Ask::Offset { answer, .. } => {
                let _ = answer.send(Err(code));
            }
            Ask::EpochEnd { answer, .. } => {
                let _ = answer.send(Err(code));
            }
            Ask::RaiseStart { answer, .. } => {
                let _ = answer.send(Err(code));
            }
            Ask::Size(answer) => {
                let _ = answer.send(Err(code));
            }
            Ask::Producers(answer) => {
                let _ = answer.send(Err(code));
            }
            Ask::Fates(answer) => {
                let _ = answer.send(Err(code));
            }
            Ask::Ready(answer) | Ask::Upkeep(answer) => {
                let _ = answer.send(Err(code));
            }
            Ask::Configure(_) | Ask::Rest => {}
            Ask::Close(done) | Ask::Delete(done) => {
                let _ = done.send(());
            }
        }
    }
}

impl<F> Fetched<F> {
    /// Whether the client must hear of it at once, also without data.
    pub fn is_news(&self) -> bool {
        self.error != ErrorCode::None || self.diverging.is_some()
    }

    /// A read that failed.
    #[must_use]
    pub fn failed(error: ErrorCode) -> Self {
        Fetched {
            error,
            high_watermark: Offset(-1),
            start: Offset(-1),
            diverging: None,
            leader_epoch: LeaderEpoch::NONE,
            slices: Slices::new(),
            bytes: 0,
            gauge: None,
        }
    }
}
