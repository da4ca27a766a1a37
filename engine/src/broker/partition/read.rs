//! Out of the log: plans for fetches, never bytes, and what is found by time.
//!
//! Keeps: READ-1, no plan reaches beyond the readable end; READ-2, that never goes back.

use tracing::error;

use super::owner::Owner;
use crate::broker::ask::{Fetch, Fetched, FoundOffset};
use crate::id::{LeaderEpoch, Offset};
use crate::io::Io;
use crate::log::PlanError;
use crate::probe::{self, Probe};
use crate::wire::code::ErrorCode;

/// Kafka's names among the timestamps of ListOffsets.
pub(in crate::broker) mod timestamp {
    pub const LATEST: i64 = -1;
    pub const EARLIEST: i64 = -2;
    /// The record with the largest time stamp (KIP-734).
    pub const MAX: i64 = -3;
    /// The first record on this broker's own disk (KIP-405).
    pub const EARLIEST_LOCAL: i64 = -4;
    /// The last record in tiered storage, and the first one waiting for it: there is none.
    pub const LATEST_TIERED: i64 = -5;
    pub const EARLIEST_PENDING_UPLOAD: i64 = -6;
}

impl<I: Io> Owner<I> {
    /// Tells parked fetches how much more there is to read.
    pub(super) fn report(&mut self) {
        let end = self.log.readable_end();
        assert!(end >= self.reported, "READ-2: the readable end never goes back");
        if end > self.reported {
            let size = self.log.size_bytes();
            self.parked.report(size.saturating_sub(self.size_reported).max(1));
            self.reported = end;
            self.size_reported = size;
        }
        self.gauge.set(&self.log, self.waiting.len());
    }

    /// The log may have become smaller, which is no news for parked fetches.
    pub(super) fn note_size(&mut self) {
        self.size_reported = self.size_reported.min(self.log.size_bytes());
    }

    pub(super) async fn fetch(&mut self, fetch: Fetch<I::File>) {
        let Fetch { from, leader_epoch, last_fetched_epoch, max_bytes, first, wait, answer } =
            fetch;
        let high_watermark = self.log.readable_end();
        let mut fetched = Fetched {
            high_watermark,
            start: self.log.start(),
            leader_epoch: self.epoch,
            ..Fetched::failed(ErrorCode::None)
        };
        if let Err(code) = self.check_epoch(leader_epoch) {
            fetched.error = code;
        } else if let Some(diverging) = self.diverging(last_fetched_epoch, from) {
            probe::hit(Probe::Diverging);
            fetched.diverging = Some(diverging);
        } else {
            match self.log.plan(from, high_watermark, max_bytes, first).await {
                Ok(plan) => {
                    fetched.slices = plan.slices;
                    fetched.bytes = plan.bytes;
                    fetched.gauge = (plan.bytes > 0).then(|| self.gauge.clone());
                }
                Err(error) => {
                    fetched.error = plan_code(&error);
                    if matches!(error, PlanError::OutOfRange { .. }) {
                        probe::hit(Probe::OutOfRange);
                    } else {
                        error!(topic = %self.topic.name, partition = %self.index, %from, %error,
                            "cannot read");
                    }
                }
            }
        }
        if let Some(wait) = wait.filter(|_| fetched.error == ErrorCode::None) {
            probe::hit(Probe::FetchParked);
            self.parked.park(&wait);
        }
        answer.send(fetched);
    }

    fn diverging(&self, fetched: LeaderEpoch, from: Offset) -> Option<(LeaderEpoch, Offset)> {
        if fetched == LeaderEpoch::NONE {
            return None;
        }
        let (epoch, end) = self.log.epoch_end(fetched);
        (epoch < fetched || end < from).then_some((epoch, end))
    }

    pub(super) fn check_epoch(&self, claimed: LeaderEpoch) -> Result<(), ErrorCode> {
        if claimed == LeaderEpoch::NONE || claimed == self.epoch {
            Ok(())
        } else if claimed < self.epoch {
            probe::hit(Probe::EpochFenced);
            Err(ErrorCode::FencedLeaderEpoch)
        } else {
            probe::hit(Probe::EpochUnknown);
            Err(ErrorCode::UnknownLeaderEpoch)
        }
    }

    pub(super) async fn find_offset(
        &mut self,
        timestamp: i64,
        leader_epoch: LeaderEpoch,
    ) -> Result<FoundOffset, ErrorCode> {
        self.check_epoch(leader_epoch)?;
        let end = self.log.readable_end();
        let named = |offset, leader_epoch| FoundOffset { offset, timestamp: -1, leader_epoch };
        let found = match timestamp {
            timestamp::LATEST => return Ok(named(end, self.epoch)),
            timestamp::EARLIEST | timestamp::EARLIEST_LOCAL => {
                return Ok(named(self.log.start(), self.log.start_epoch()));
            }
            timestamp::MAX => self.log.max_timestamp(end).await,
            timestamp::LATEST_TIERED | timestamp::EARLIEST_PENDING_UPLOAD => Ok(None),
            ms if ms >= 0 => self.log.offset_for_time(ms, end).await,
            _ => return Err(ErrorCode::InvalidRequest),
        };
        match found {
            Ok(Some((offset, timestamp, leader_epoch))) => {
                Ok(FoundOffset { offset, timestamp, leader_epoch })
            }
            Ok(None) => Ok(FoundOffset::NONE),
            Err(error) => {
                error!(topic = %self.topic.name, partition = %self.index, %error,
                    "cannot look up a time stamp");
                Err(plan_code(&error))
            }
        }
    }
}

fn plan_code(error: &PlanError) -> ErrorCode {
    match error {
        PlanError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        PlanError::Corrupt { .. }
        | PlanError::Storage(_)
        | PlanError::Scarce
        | PlanError::Poisoned => ErrorCode::KafkaStorageError,
    }
}
