//! What each idempotent producer wrote last (KIP-98, KIP-360).
//!
//! Pure. For each producer the last five batches are kept, so that a batch that comes again is
//! answered with its first offsets, and one that does not continue the sequence is refused. A
//! producer that is not known may start anywhere: its records may have been removed since.
//!
//! Keeps: LOG-8, the table is a function of the batches in the log, but for producers that were
//! forgotten; LOG-10, the last five batches of a producer's newest epoch are recognised, and nothing of
//! an older one is taken. Silence is measured in monotonic time of this process, because nothing's safety may
//! depend on the wall clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::fault::AppendError;
use crate::id::{Offset, ProducerEpoch, ProducerId};
use crate::io::Instant;
use crate::limit::PRODUCERS_PER_LOG_MAX;
use crate::probe::{self, Probe};
use crate::wire::batch::Header;

/// As many as a producer may have in flight.
const BATCHES_KEPT: usize = 5;

/// One batch of a producer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    base_sequence: i32,
    last_offset_delta: i32,
    base: Offset,
    max_timestamp: i64,
}

/// One producer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Producer {
    epoch: ProducerEpoch,
    last_timestamp: i64,
    /// First offset of the open transaction, -1 if none.
    transaction: Offset,
    coordinator_epoch: i32,
    kept: [Kept; BATCHES_KEPT],
    count: usize,
    seen: Instant,
}

/// One producer as tools see it (KIP-664).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerSeen {
    /// Who it is.
    pub id: ProducerId,
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of its last record, -1 if only a marker was seen in this epoch.
    pub last_sequence: i32,
    /// The max timestamp of its last batch, in ms since 1970.
    pub last_timestamp: i64,
    /// The epoch of the coordinator that wrote its last marker, -1 if there is none.
    pub coordinator_epoch: i32,
    /// The first offset of its open transaction, -1 if there is none.
    pub transaction: Offset,
}

/// All producers of one log.
#[derive(Clone, Debug, Default)]
pub(super) struct Producers {
    table: BTreeMap<ProducerId, Producer>,
}

/// What is to happen with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Append,
    /// It is in the log already.
    Duplicate {
        base: Offset,
        last: Offset,
        max_timestamp: i64,
    },
}

/// The sequence number `steps` after `sequence`; they wrap from `i32::MAX` to 0.
fn sequence_after(sequence: i32, steps: i32) -> i32 {
    sequence.wrapping_add(steps) & i32::MAX
}

impl Kept {
    fn last_sequence(self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }
}

impl Producer {
    fn kept(&self) -> &[Kept] {
        &self.kept[..self.count]
    }

    fn push(&mut self, kept: Kept) {
        if self.count == BATCHES_KEPT {
            self.kept.rotate_left(1);
            self.kept[BATCHES_KEPT - 1] = kept;
        } else {
            self.kept[self.count] = kept;
            self.count += 1;
        }
    }
}

/// Whether the batch is of a producer that numbers its batches; all others leave the table as it is.
pub(super) fn is_idempotent(header: &Header) -> bool {
    header.producer_id().0 >= 0
}

impl Producers {
    /// What is to happen with a batch that a producer sent; its offsets do not count.
    pub(super) fn check(&self, header: &Header) -> Result<Verdict, AppendError> {
        if !is_idempotent(header) {
            return Ok(Verdict::Append);
        }
        let Some(producer) = self.table.get(&header.producer_id()) else {
            return Ok(Verdict::Append);
        };
        if header.producer_epoch() < producer.epoch {
            probe::hit(Probe::ProducerFenced);
            let (current, found) = (producer.epoch, header.producer_epoch());
            return Err(AppendError::InvalidProducerEpoch { current, found });
        }
        if header.is_control() {
            return Ok(Verdict::Append);
        }
        let found = header.base_sequence();
        let expected = if header.producer_epoch() > producer.epoch {
            0
        } else {
            let again = |kept: &&Kept| {
                kept.base_sequence == found && kept.last_offset_delta == header.last_offset_delta()
            };
            if let Some(kept) = producer.kept().iter().find(again) {
                return Ok(Verdict::Duplicate {
                    base: kept.base,
                    last: kept.base.plus(i64::from(kept.last_offset_delta)),
                    max_timestamp: kept.max_timestamp,
                });
            }
            match producer.kept().last() {
                Some(kept) => sequence_after(kept.last_sequence(), 1),
                // Only a marker was seen in this epoch.
                None => 0,
            }
        };
        if found == expected {
            Ok(Verdict::Append)
        } else {
            probe::hit(Probe::SequenceRefused);
            Err(AppendError::OutOfOrderSequence { expected, found })
        }
    }

    /// Takes in a batch that is in the log, and returns what was known of its producer before.
    pub(super) fn apply(
        &mut self,
        header: &Header,
        seen: Instant,
    ) -> Option<(ProducerId, Option<Producer>)> {
        if !is_idempotent(header) {
            return None;
        }
        let id = header.producer_id();
        let before = self.table.get(&id).copied();
        let mut producer = match before {
            Some(known) if known.epoch == header.producer_epoch() => known,
            _ => Producer {
                epoch: header.producer_epoch(),
                last_timestamp: -1,
                transaction: Offset(-1),
                coordinator_epoch: before.map_or(-1, |known| known.coordinator_epoch),
                kept: [Kept::default(); BATCHES_KEPT],
                count: 0,
                seen,
            },
        };
        producer.last_timestamp = header.max_timestamp();
        producer.seen = seen;
        if header.is_control() {
            producer.transaction = Offset(-1);
        } else {
            if header.is_transactional() && producer.transaction == Offset(-1) {
                producer.transaction = header.base_offset();
            }
            producer.push(Kept {
                base_sequence: header.base_sequence(),
                last_offset_delta: header.last_offset_delta(),
                base: header.base_offset(),
                max_timestamp: header.max_timestamp(),
            });
        }
        self.table.insert(id, producer);
        if self.table.len() > PRODUCERS_PER_LOG_MAX {
            self.forget_oldest(id);
        }
        Some((id, before))
    }

    /// All of them, for tools.
    pub(super) fn seen(&self) -> Vec<ProducerSeen> {
        let seen = |(&id, producer): (&ProducerId, &Producer)| ProducerSeen {
            id,
            epoch: producer.epoch,
            last_sequence: producer.kept().last().map_or(-1, |kept| kept.last_sequence()),
            last_timestamp: producer.last_timestamp,
            coordinator_epoch: producer.coordinator_epoch,
            transaction: producer.transaction,
        };
        self.table.iter().map(seen).collect()
    }

    /// The base offset of each producer's last batch, which compaction keeps.
    pub(super) fn last_bases(&self) -> BTreeSet<Offset> {
        let last = |producer: &Producer| producer.kept().last().map(|kept| kept.base);
        self.table.values().filter_map(last).collect()
    }

    /// The first offset of the oldest open transaction.
    pub(super) fn first_open(&self) -> Option<Offset> {
        let open = |producer: &Producer| Some(producer.transaction).filter(|open| open.0 >= 0);
        self.table.values().filter_map(open).min()
    }

    /// Takes back what [`Producers::apply`] did, newest first.
    pub(super) fn undo(&mut self, undo: &mut Vec<(ProducerId, Option<Producer>)>) {
        while let Some((id, before)) = undo.pop() {
            match before {
                Some(producer) => self.table.insert(id, producer),
                None => self.table.remove(&id),
            };
        }
    }

    /// Forgets the sixteenth that was silent longest, but never `except`.
    fn forget_oldest(&mut self, except: ProducerId) {
        probe::hit(Probe::ProducersEvicted);
        let mut seen: Vec<(Instant, ProducerId)> =
            self.table.iter().map(|(&id, producer)| (producer.seen, id)).collect();
        seen.sort_unstable();
        for &(_, id) in seen.iter().filter(|entry| entry.1 != except).take(seen.len() / 16 + 1) {
            self.table.remove(&id);
        }
    }

    /// Forgets producers that were silent for `expiry` and have no open transaction.
    pub(super) fn expire(&mut self, now: Instant, expiry: Duration) {
        self.table.retain(|_, producer| {
            let keep = now.since(producer.seen) < expiry || producer.transaction != Offset(-1);
            if !keep {
                probe::hit(Probe::ProducerExpired);
            }
            keep
        });
    }

    /// What is still known of these producers when all batches from `offset` on are forgotten.
    pub(super) fn before(&self, offset: Offset) -> Producers {
        let cut = |(&id, producer): (&ProducerId, &Producer)| {
            let count = producer.kept().partition_point(|kept| kept.base < offset);
            let last = producer.kept()[..count].last()?;
            let last_timestamp = last.max_timestamp;
            Some((id, Producer { count, last_timestamp, ..*producer }))
        };
        Producers { table: self.table.iter().filter_map(cut).collect() }
    }

    /// The table as `docs/format.md` draws it.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let count = u32::try_from(self.table.len()).expect("bounded by PRODUCERS_PER_LOG_MAX");
        out.extend_from_slice(&count.to_be_bytes());
        for (id, producer) in &self.table {
            out.extend_from_slice(&id.0.to_be_bytes());
            out.extend_from_slice(&producer.epoch.0.to_be_bytes());
            out.extend_from_slice(&producer.last_timestamp.to_be_bytes());
            out.extend_from_slice(&producer.transaction.0.to_be_bytes());
            out.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
            out.push(producer.count as u8);
            for kept in producer.kept() {
                out.extend_from_slice(&kept.base_sequence.to_be_bytes());
                out.extend_from_slice(&kept.last_offset_delta.to_be_bytes());
                out.extend_from_slice(&kept.base.0.to_be_bytes());
                out.extend_from_slice(&kept.max_timestamp.to_be_bytes());
            }
        }
    }

    /// Reads a table that fills `bytes`; `None` if it does not.
    pub(super) fn decode(bytes: &[u8], seen: Instant) -> Option<Self> {
        let mut bytes = super::bytes::Bytes(bytes);
        let count = bytes.u32()?;
        let mut table = BTreeMap::new();
        for _ in 0..count {
            let id = ProducerId(bytes.i64()?);
            let mut producer = Producer {
                epoch: ProducerEpoch(bytes.i16()?),
                last_timestamp: bytes.i64()?,
                transaction: Offset(bytes.i64()?),
                coordinator_epoch: bytes.i32()?,
                kept: [Kept::default(); BATCHES_KEPT],
                count: 0,
                seen,
            };
            let kept = usize::from(bytes.u8()?);
            if kept > BATCHES_KEPT {
                return None;
            }
            for _ in 0..kept {
                producer.push(Kept {
                    base_sequence: bytes.i32()?,
                    last_offset_delta: bytes.i32()?,
                    base: Offset(bytes.i64()?),
                    max_timestamp: bytes.i64()?,
                });
            }
            table.insert(id, producer);
        }
        bytes.0.is_empty().then_some(Producers { table })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::LeaderEpoch;
    use crate::wire::batch::Builder;

    fn batch(id: i64, epoch: i16, sequence: i32, count: i32, base: i64) -> Header {
        let mut builder = Builder::new().placed(Offset(base), LeaderEpoch(0)).producer(
            ProducerId(id),
            ProducerEpoch(epoch),
            sequence,
        );
        for _ in 0..count {
            builder.push(5, None, None, &[]);
        }
        Header::parse(&builder.finish()).expect("a built batch")
    }

    fn add(producers: &mut Producers, header: &Header) {
        assert_eq!(producers.check(header), Ok(Verdict::Append));
        producers.apply(header, Instant(0));
    }

    #[test]
    fn duplicates_of_the_last_five_are_known() {
        let mut producers = Producers::default();
        for i in 0..7 {
            add(&mut producers, &batch(1, 0, i * 2, 2, i64::from(i) * 10));
        }
        for i in 2..7 {
            let base = Offset(i64::from(i) * 10);
            let verdict = producers.check(&batch(1, 0, i * 2, 2, 999));
            let expected = Verdict::Duplicate { base, last: base.plus(1), max_timestamp: 5 };
            assert_eq!(verdict, Ok(expected));
        }
        for (sequence, count) in [(2, 2), (12, 1), (13, 1), (15, 1)] {
            let refused = AppendError::OutOfOrderSequence { expected: 14, found: sequence };
            assert_eq!(producers.check(&batch(1, 0, sequence, count, 0)), Err(refused));
        }
    }

    #[test]
    fn epochs_fence_and_restart_the_sequence() {
        let mut producers = Producers::default();
        add(&mut producers, &batch(1, 3, 40, 1, 0));
        let fenced = AppendError::InvalidProducerEpoch {
            current: ProducerEpoch(3),
            found: ProducerEpoch(2),
        };
        assert_eq!(producers.check(&batch(1, 2, 41, 1, 0)), Err(fenced));
        assert!(producers.check(&batch(1, 4, 41, 1, 0)).is_err());
        add(&mut producers, &batch(1, 4, 0, 1, 1));
        assert!(producers.check(&batch(1, 3, 41, 1, 0)).is_err());
        add(&mut producers, &batch(2, 0, 77, 1, 2));
    }

    #[test]
    fn sequences_wrap() {
        let mut producers = Producers::default();
        add(&mut producers, &batch(1, 0, i32::MAX - 1, 4, 0));
        add(&mut producers, &batch(1, 0, 2, 1, 4));
    }

    #[test]
    fn the_table_survives_its_encoding_and_undo() {
        let mut producers = Producers::default();
        add(&mut producers, &batch(1, 0, 0, 3, 0));
        add(&mut producers, &batch(9, 2, 5, 1, 3));
        let mut before = Vec::new();
        producers.encode(&mut before);
        let again = Producers::decode(&before, Instant(0)).expect("decodes");
        let mut out = Vec::new();
        again.encode(&mut out);
        assert_eq!(out, before);
        for cut in 0..before.len() {
            assert!(Producers::decode(&before[..cut], Instant(0)).is_none());
        }
        let mut undo = Vec::new();
        for header in [batch(1, 0, 3, 1, 4), batch(4, 0, 0, 1, 5), batch(1, 1, 0, 1, 6)] {
            undo.extend(producers.apply(&header, Instant(0)));
        }
        producers.undo(&mut undo);
        out.clear();
        producers.encode(&mut out);
        assert_eq!(out, before);
    }

    #[test]
    fn silence_is_forgotten() {
        let mut producers = Producers::default();
        add(&mut producers, &batch(1, 0, 0, 1, 0));
        producers.apply(&batch(2, 0, 0, 1, 0), Instant(5_000_000_000));
        producers.expire(Instant(6_000_000_000), Duration::from_secs(6));
        assert!(producers.check(&batch(1, 0, 9, 1, 0)).is_ok());
        assert!(producers.check(&batch(2, 0, 9, 1, 0)).is_err());
    }
}
