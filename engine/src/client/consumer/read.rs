//! Taking in what a fetch brought.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::{
    ConsumeError, ConsumedRecord, Consumer, Fetching, Isolation, Key, OutOfRange, Place, Start,
    Wish, refused,
};
use crate::client::fault::CallError;
use crate::client::link::Reply;
use crate::id::{Offset, PartitionIndex, ProducerId};
use crate::io::Io;
use crate::wire::api::ApiKey;
use crate::wire::batch::{Batch, BatchError};
use crate::wire::code::ErrorCode;
use crate::wire::fetch::{FetchPartitionResponse, FetchResponse};

type Answered = FetchPartitionResponse<std::ops::Range<usize>>;

impl<I: Io> Consumer<I> {
    /// Moves the partitions forward over the answer and returns the records. Errors come only if
    /// there are no records: the partition that has one will have it again.
    pub(super) fn take_in(
        &mut self,
        fetching: Fetching<I>,
        result: Result<Reply, CallError>,
    ) -> Result<Vec<ConsumedRecord>, ConsumeError> {
        let parsed = result.and_then(|reply| {
            let response = FetchResponse::decode(reply.body(), reply.version)?;
            if let Some(observer) = &self.cluster.options.observer {
                observer.see_code(ApiKey::Fetch, reply.version, response.error);
                for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
                    observer.see_code(ApiKey::Fetch, reply.version, partition.error);
                }
            }
            match response.error {
                ErrorCode::None => Ok((reply, response)),
                code => Err(CallError::Refused(code)),
            }
        });
        let (reply, response) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                for wish in &fetching.asked {
                    self.pause(&wish.key, &error);
                }
                self.astray = true;
                if error == CallError::TimedOut {
                    fetching.answer.abandon();
                }
                return if error.retriable() { Ok(Vec::new()) } else { Err(error.into()) };
            }
        };
        let mut records = Vec::new();
        let mut failed = None;
        for topic in &response.topics {
            for partition in &topic.partitions {
                let asked = fetching.asked.iter().find(|wish| {
                    let is_topic = match topic.name.as_str() {
                        "" => wish.topic_id == topic.topic_id,
                        name => *wish.key.0 == *name,
                    };
                    is_topic && wish.key.1 == partition.index
                });
                let Some(Wish { key, generation, offset, .. }) = asked else { continue };
                let current = self.assigned.get(key).map(|now| (now.generation, now.place));
                if current != Some((*generation, Place::At(*offset))) {
                    continue;
                }
                let leader = partition.current_leader;
                self.cluster.hint(&key.0, key.1, leader, &response.node_endpoints);
                let bytes = &reply.body()[partition.records.clone()];
                let taken = self.take_partition(key, *offset, partition, bytes, &mut records);
                failed = failed.or(taken.err());
            }
        }
        match failed {
            Some(error) if records.is_empty() => Err(error),
            _ => Ok(records),
        }
    }

    fn take_partition(
        &mut self,
        key: &Key,
        from: Offset,
        answer: &Answered,
        bytes: &[u8],
        records: &mut Vec<ConsumedRecord>,
    ) -> Result<(), ConsumeError> {
        let assigned = self.assigned.get_mut(key).expect("it was looked at");
        match answer.error {
            ErrorCode::None => {
                assigned.high_watermark = Some(answer.high_watermark);
                let aborted = match self.options.isolation {
                    Isolation::ReadCommitted => answer.aborted.as_deref().unwrap_or_default(),
                    Isolation::ReadUncommitted => &[],
                };
                let before = records.len();
                let (next, error) = read(key, from, bytes, aborted, records);
                assigned.settle(next);
                match error {
                    // What was readable comes first; the damage is met again at the next poll.
                    Some(error) if records.len() == before => Err(ConsumeError::Corrupt {
                        topic: key.0.to_string(),
                        partition: key.1,
                        offset: next,
                        error,
                    }),
                    _ => Ok(()),
                }
            }
            ErrorCode::OffsetOutOfRange => match self.options.out_of_range {
                OutOfRange::Earliest => {
                    assigned.place = Place::Wanted(Start::Earliest);
                    Ok(())
                }
                OutOfRange::Latest => {
                    assigned.place = Place::Wanted(Start::Latest);
                    Ok(())
                }
                OutOfRange::Fail => Err(ConsumeError::OutOfRange {
                    topic: key.0.to_string(),
                    partition: key.1,
                    offset: from,
                }),
            },
            code if code.retriable() => {
                self.pause(key, &code.message());
                self.astray = true;
                Ok(())
            }
            code => Err(refused(key, code)),
        }
    }
}

/// Reads the whole batches of `bytes` from the offset `from` on, and returns the offset of the next
/// record and what was wrong there, if anything. A batch that is cut off at the end is nothing
/// wrong: the next fetch brings it.
fn read(
    (topic, partition): &(Rc<str>, PartitionIndex),
    from: Offset,
    mut bytes: &[u8],
    aborted: &[(ProducerId, Offset)],
    out: &mut Vec<ConsumedRecord>,
) -> (Offset, Option<BatchError>) {
    let mut next = from;
    let mut aborted = Aborted { coming: aborted, now: BTreeSet::new() };
    loop {
        let batch = match Batch::parse(bytes) {
            Ok(batch) => batch,
            Err(BatchError::Truncated { .. }) => return (next, None),
            Err(error) => return (next, Some(error)),
        };
        bytes = &bytes[batch.size()..];
        if !batch.crc_matches() {
            return (next, Some(BatchError::Checksum));
        }
        let is_shown = !aborted.hides(&batch) && batch.last_offset() >= from;
        if is_shown && let Err(error) = read_batch(&batch, from, topic, *partition, out) {
            return (next, Some(error));
        }
        next = next.max(batch.last_offset().plus(1));
    }
}

fn read_batch(
    batch: &Batch<'_>,
    from: Offset,
    topic: &Rc<str>,
    partition: PartitionIndex,
    out: &mut Vec<ConsumedRecord>,
) -> Result<(), BatchError> {
    let before = out.len();
    let contents = batch.contents()?;
    for record in contents.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                // All or nothing, so that the place stays at a batch.
                out.truncate(before);
                return Err(error);
            }
        };
        // A fetch from within a batch brings the whole batch.
        if record.offset < from {
            continue;
        }
        let headers = record.headers().map(|header| {
            let key = String::from_utf8_lossy(header.key).into_owned();
            (key, header.value.map(<[u8]>::to_vec))
        });
        out.push(ConsumedRecord {
            topic: topic.clone(),
            partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.collect(),
        });
    }
    Ok(())
}

/// Which producers' transactions are being skipped (KIP-98): from the first offset of an aborted
/// one to its marker.
struct Aborted<'a> {
    /// By first offset.
    coming: &'a [(ProducerId, Offset)],
    now: BTreeSet<ProducerId>,
}

impl Aborted<'_> {
    fn hides(&mut self, batch: &Batch<'_>) -> bool {
        while let Some(((producer, first), rest)) = self.coming.split_first()
            && *first <= batch.last_offset()
        {
            self.now.insert(*producer);
            self.coming = rest;
        }
        let producer = batch.producer_id();
        if batch.is_control() {
            // Either marker ends the transaction; an aborted one that is told of ends by an abort.
            self.now.remove(&producer);
            return true;
        }
        batch.is_transactional() && self.now.contains(&producer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{LeaderEpoch, ProducerEpoch};
    use crate::wire::batch::{Builder, Compression};

    fn batch(base: i64, values: &[&str], producer: Option<i64>, is_control: bool) -> Vec<u8> {
        let mut builder =
            Builder::new().compression(Compression::Lz4).placed(Offset(base), LeaderEpoch(0));
        if let Some(id) = producer {
            builder = builder.producer(ProducerId(id), ProducerEpoch(0), 0).transactional();
        }
        if is_control {
            builder = builder.control();
        }
        for value in values {
            builder.push(base, None, Some(value.as_bytes()), &[]);
        }
        builder.finish()
    }

    fn read_all(
        bytes: &[u8],
        from: i64,
        aborted: &[(ProducerId, Offset)],
    ) -> (Vec<(i64, String)>, i64, Option<BatchError>) {
        let mut out = Vec::new();
        let key = ("t".into(), PartitionIndex(0));
        let (next, error) = read(&key, Offset(from), bytes, aborted, &mut out);
        let text = |record: &ConsumedRecord| {
            String::from_utf8(record.value.clone().unwrap_or_default()).expect("text")
        };
        (out.iter().map(|record| (record.offset.0, text(record))).collect(), next.0, error)
    }

    #[test]
    fn records_before_the_place_and_after_the_cut_are_left_out() {
        let mut bytes = batch(10, &["a", "b", "c"], None, false);
        let whole = bytes.len();
        bytes.extend(batch(13, &["d"], None, false));
        let (records, next, error) = read_all(&bytes, 11, &[]);
        assert_eq!(records, [(11, "b".into()), (12, "c".into()), (13, "d".into())]);
        assert_eq!((next, error), (14, None));
        for end in 0..bytes.len() {
            let (records, next, error) = read_all(&bytes[..end], 11, &[]);
            assert_eq!(error, None);
            assert_eq!((records.len(), next), if end < whole { (0, 11) } else { (2, 13) });
        }
        let at = whole + 70;
        bytes[at] ^= 1;
        let (records, next, error) = read_all(&bytes, 11, &[]);
        assert_eq!((records.len(), next, error), (2, 13, Some(BatchError::Checksum)));
    }

    #[test]
    fn aborted_transactions_are_skipped_up_to_their_markers() {
        let mut bytes = batch(0, &["kept"], Some(1), false);
        bytes.extend(batch(1, &["gone"], Some(2), false));
        bytes.extend(batch(2, &["plain"], None, false));
        bytes.extend(batch(3, &["\0\0\0\0"], Some(2), true));
        bytes.extend(batch(4, &["again"], Some(2), false));
        let (records, next, _) = read_all(&bytes, 0, &[(ProducerId(2), Offset(1))]);
        assert_eq!(records, [(0, "kept".into()), (2, "plain".into()), (4, "again".into())]);
        assert_eq!(next, 5);
        let (records, ..) = read_all(&bytes, 0, &[]);
        assert_eq!(records.len(), 4);
    }
}
