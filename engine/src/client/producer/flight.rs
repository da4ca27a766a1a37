//! One batch of a producer, from its first record to its outcome.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::identity::Identity;
use super::{Failure, Outcome, Receipt};
use crate::client::link::Answer;
use crate::id::{Offset, PartitionIndex};
use crate::io::{Instant, Io};
use crate::wire::batch::{Builder, Compression, RecordHeader, stamp_producer};
use crate::wire::code::ErrorCode;
use crate::wire::produce::ProducePartitionResponse;

/// A record on its way to a batch.
pub struct OwnedRecord {
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub ticket: oneshot::Sender<Outcome>,
    pub memory: OwnedSemaphorePermit,
}

/// What a batch consists of so far.
enum Body {
    Open(Builder),
    Finished(Vec<u8>),
}

/// A batch that is being filled, waits, is under way, or waits to be sent again.
pub struct Flight<I: Io> {
    body: Body,
    tickets: Vec<(i64, oneshot::Sender<Outcome>)>,
    memory: Option<OwnedSemaphorePermit>,
    /// When its first record came.
    pub opened: Instant,
    /// The identity and first sequence it was sent with.
    pub stamp: Option<(Identity, i32)>,
    /// The answer that is awaited, and since when.
    pub answer: Option<(Answer<I>, Instant)>,
    /// An attempt ended without telling whether the broker has it.
    pub maybe_stored: bool,
}

/// The sequence number `count` records after `sequence`: after the largest comes 0.
pub fn sequence_after(sequence: i32, count: i32) -> i32 {
    (i64::from(sequence) + i64::from(count)).rem_euclid(1 << 31) as i32
}

impl<I: Io> Flight<I> {
    pub fn new(compression: Compression, opened: Instant) -> Flight<I> {
        Flight {
            body: Body::Open(Builder::new().compression(compression)),
            tickets: Vec::new(),
            memory: None,
            opened,
            stamp: None,
            answer: None,
            maybe_stored: false,
        }
    }

    /// Whether a record fits into a batch of at most `batch_bytes`. The first always does.
    pub fn fits(&self, record: &OwnedRecord, batch_bytes: usize) -> bool {
        let Body::Open(builder) = &self.body else { return false };
        let headers = headers(record);
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let more = Builder::record_size_max(key, value, &headers);
        builder.count() == 0 || builder.size() + more <= batch_bytes
    }

    /// Whether nothing more fits into a batch of at most `batch_bytes`.
    pub fn is_full(&self, batch_bytes: usize) -> bool {
        let Body::Open(builder) = &self.body else { return true };
        builder.count() > 0 && builder.size() >= batch_bytes
    }

    pub fn push(&mut self, record: OwnedRecord) {
        let Body::Open(builder) = &mut self.body else {
            unreachable!("records are added before the batch is first sent");
        };
        let headers = headers(&record);
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.push(record.timestamp, key, value, &headers);
        self.tickets.push((record.timestamp, record.ticket));
        match &mut self.memory {
            Some(memory) => memory.merge(record.memory),
            none => *none = Some(record.memory),
        }
    }

    pub fn count(&self) -> i32 {
        i32::try_from(self.tickets.len()).expect("a batch's records are counted in 31 bits")
    }

    /// Gives the batch the identity and sequence that it is sent with, if it is to have one.
    pub fn prepare(&mut self, stamp: Option<(Identity, i32)>) {
        match &mut self.body {
            Body::Open(builder) => {
                let mut builder = std::mem::take(builder);
                if let Some((identity, sequence)) = stamp {
                    builder = builder.producer(identity.id, identity.epoch, sequence);
                }
                self.body = Body::Finished(builder.finish());
            }
            Body::Finished(bytes) => {
                if let Some((identity, sequence)) = stamp.filter(|_| stamp != self.stamp) {
                    stamp_producer(bytes, identity.id, identity.epoch, sequence);
                }
            }
        }
        self.stamp = stamp;
    }

    /// The batch as it is sent; empty before [`Flight::prepare`].
    pub fn bytes(&self) -> &[u8] {
        match &self.body {
            Body::Open(_) => &[],
            Body::Finished(bytes) => bytes,
        }
    }

    /// Tells everybody that the records are stored.
    pub fn stored(self, partition: PartitionIndex, answer: Option<&ProducePartitionResponse>) {
        let base = answer.map(|answer| answer.base_offset).filter(|base| base.0 >= 0);
        let append = answer.map(|answer| answer.log_append_time_ms).filter(|&ms| ms >= 0);
        for (index, (timestamp, ticket)) in (0..).zip(self.tickets) {
            let offset: Option<Offset> = base.map(|base| base.plus(index));
            let timestamp = append.unwrap_or(timestamp);
            // Whoever handed the record over may not want to know.
            let _ = ticket.send(Outcome::Stored(Receipt { partition, offset, timestamp }));
        }
    }

    /// Tells everybody that the records are not stored, or not known to be.
    pub fn failed(self, failure: &Failure) {
        for (_, ticket) in self.tickets {
            let failure = failure.clone();
            let is_unknown = self.maybe_stored;
            let _ = ticket.send(if is_unknown {
                Outcome::Unknown(failure)
            } else {
                Outcome::Failed(failure)
            });
        }
    }

    /// Tells everybody that the broker refused the batch, with its words about each record.
    pub fn refused(mut self, code: ErrorCode, answer: &ProducePartitionResponse) {
        let whole = || answer.error_message.clone();
        if self.maybe_stored {
            return self.failed(&Failure::Refused { code, message: whole() });
        }
        for (index, (_, ticket)) in (0i32..).zip(std::mem::take(&mut self.tickets)) {
            let named = answer.record_errors.iter().find(|(at, _)| *at == index);
            let message = named.and_then(|(_, message)| message.clone()).or_else(whole);
            let _ = ticket.send(Outcome::Failed(Failure::Refused { code, message }));
        }
    }
}

fn headers(record: &OwnedRecord) -> Vec<RecordHeader<'_>> {
    let headers = record.headers.iter();
    headers.map(|(key, value)| RecordHeader { key, value: value.as_deref() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(0, 5), 5);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 5), 3);
    }
}
