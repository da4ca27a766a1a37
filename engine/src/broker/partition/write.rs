//! Into the log: neighbouring produces with one write, and the flushes that let them be answered.
//!
//! Whatever is appended while a flush is under way shares the next one (group commit). An
//! acknowledgement leaves when the flushed end has passed its last record.
//!
//! Keeps: ACK-1, nothing is acknowledged before it is flushed, unless the topic says otherwise;
//! FLUSH-1, a flush is run to its end; FLUSH-2, who waits, waits for a flush that is under way.

use std::future::Future;
use std::pin::Pin;

use tracing::error;

use super::owner::Owner;
use crate::broker::answer;
use crate::broker::ask::{Accepted, Outcomes, Produce, Rejection};
use crate::id::Offset;
use crate::io::{Buf, Io};
use crate::log::{self, AppendError, Appended, Flushed};
use crate::probe::{self, Probe};
use crate::wire::code::ErrorCode;

pub(super) type Flushing = Pin<Box<dyn Future<Output = Flushed>>>;

/// Produces that wait for the flush.
pub(super) struct Waiting {
    end: Offset,
    outcomes: Outcomes,
    answer: answer::Sender<Outcomes>,
}

/// Neighbouring produces on their way into the log with one write. Empty in between; its memory is
/// used again.
#[derive(Default)]
pub(super) struct Group {
    pub(super) batches: Vec<Buf>,
    results: Vec<Result<Appended, AppendError>>,
    /// Who waits, and for how many of the batches.
    answers: Vec<(usize, answer::Sender<Outcomes>)>,
}

impl Group {
    pub(super) fn add(&mut self, Produce { batches, answer }: Produce) {
        self.answers.push((batches.len(), answer));
        self.batches.extend(batches);
    }
}

impl<I: Io> Owner<I> {
    /// Appends the group and answers it, or has it wait for the flush.
    pub(super) async fn produce(&mut self) {
        let Group { mut batches, mut results, mut answers } = std::mem::take(&mut self.group);
        let asked = batches.len();
        let (segments, dirty) = (self.log.segment_count(), self.log.is_dirty());
        self.gauge.expect(self.waiting.len() + asked);
        self.log.append_from(&mut batches, self.epoch, self.core.io.wall(), &mut results).await;
        // What was just closed may be waited for by compaction.
        self.rescheduled |= self.log.config().compact && self.log.segment_count() != segments;
        assert_eq!(results.len(), asked, "LOG: one outcome for each batch");
        let start = self.log.start();
        let flushed = self.log.flushed_end();
        let at_once = self.durability == log::Durability::PageCache;
        // It has a term now (`flush.ms`).
        self.rescheduled |= at_once && !dirty;
        let mut next = results.drain(..);
        for (count, answer) in answers.drain(..) {
            let mut end = flushed;
            let outcome = |result| match result {
                Ok(Appended { base, last, append_time_ms, duplicate }) => {
                    if duplicate && last >= flushed {
                        probe::hit(Probe::DuplicateWaits);
                    }
                    end = end.max(last.plus(1));
                    Ok(Accepted { base, append_time_ms, start })
                }
                Err(error) => Err(self.reject(&error)),
            };
            let outcomes: Outcomes = next.by_ref().take(count).map(outcome).collect();
            if at_once || end <= flushed {
                answer.send(outcomes);
            } else {
                self.waiting.push_back(Waiting { end, outcomes, answer });
            }
        }
        drop(next);
        self.group = Group { batches, results, answers };
    }

    fn reject(&self, error: &AppendError) -> Rejection {
        let rejection = Rejection { code: append_code(error), message: error.to_string() };
        match error {
            AppendError::Storage(_) => self.log_failure(&rejection.message),
            AppendError::Full => self.core.shared.room.found_none(),
            _ => {}
        }
        rejection
    }

    pub(super) fn flush_if_due(&mut self) {
        if self.flushing.is_none() && self.log.flush_due(|| self.core.io.wall()) {
            self.flushing = self.log.flush().map(|flush| {
                let flushing: Flushing = Box::pin(flush.run());
                flushing
            });
        }
        assert!(
            self.flushing.is_some() || !self.log.is_flushing(),
            "FLUSH-1: a flush is forgotten"
        );
        if self.flushing.is_none() && !self.waiting.is_empty() {
            // It went out of use between two writes of one group.
            let failed = self.log.failure().is_some();
            assert!(failed, "FLUSH-2: somebody waits, and there is no flush to wait for");
            self.refuse_waiting(&AppendError::Poisoned.to_string());
        }
    }

    /// Has everything flushed, and answers who waits for it.
    pub(super) async fn settle(&mut self) {
        if let Some(flushing) = self.flushing.take() {
            self.on_flushed(flushing.await);
        }
        if let Some(flush) = self.log.flush() {
            self.on_flushed(flush.run().await);
        }
    }

    pub(super) fn on_flushed(&mut self, flushed: Flushed) {
        match self.log.flushed(flushed) {
            Ok(end) => {
                if self.waiting.get(1).is_some_and(|waiting| waiting.end <= end) {
                    probe::hit(Probe::FlushShared);
                }
                while self.waiting.front().is_some_and(|waiting| waiting.end <= end) {
                    let waiting = self.waiting.pop_front().expect("there is a front");
                    waiting.answer.send(waiting.outcomes);
                }
            }
            Err(poisoned) => {
                let message = poisoned.to_string();
                self.log_failure(&message);
                self.refuse_waiting(&message);
                self.parked.wake_all();
            }
        }
    }

    /// What waits will never be flushed.
    fn refuse_waiting(&mut self, message: &str) {
        if !self.waiting.is_empty() {
            probe::hit(Probe::FlushFailedWaiting);
        }
        let code = ErrorCode::KafkaStorageError;
        for Waiting { mut outcomes, answer, .. } in self.waiting.drain(..) {
            for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
                *outcome = Err(Rejection { code, message: message.to_owned() });
            }
            answer.send(outcomes);
        }
    }

    /// Raises the start to `to`, durably; the start as it then is.
    pub(super) async fn raise_start(&mut self, to: Option<Offset>) -> Result<Offset, ErrorCode> {
        let to = to.unwrap_or(self.log.readable_end());
        let mut raised = self.log.advance_start(to).await;
        if matches!(raised, Err(log::ChangeError::Busy))
            && let Some(flushing) = self.flushing.take()
        {
            probe::hit(Probe::StartWaitedForFlush);
            self.on_flushed(flushing.await);
            raised = self.log.advance_start(to).await;
        }
        match raised {
            Ok(()) => {
                probe::hit(Probe::StartRaised);
                self.note_size();
                Ok(self.log.start())
            }
            Err(log::ChangeError::OutOfRange { .. }) => Err(ErrorCode::OffsetOutOfRange),
            Err(error) => {
                error!(topic = %self.topic.name, partition = %self.index, %error,
                    "the start of the partition could not be raised");
                Err(ErrorCode::KafkaStorageError)
            }
        }
    }
}

fn append_code(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::TooLarge => ErrorCode::RecordListTooLarge,
        AppendError::Malformed => ErrorCode::CorruptMessage,
        AppendError::Poisoned
        | AppendError::Storage(_)
        | AppendError::Full
        | AppendError::Scarce => ErrorCode::KafkaStorageError,
    }
}
