//! What will become of each segment: which rule removes it, and when.
//!
//! Retention itself decides by [`judge`], so that what is told cannot differ from what is done.
//! Whole segments go, from the first on; one that has to stay holds back all behind it. Pure.

use super::{Config, Log};
use crate::id::Offset;
use crate::io::{Io, Wall};

/// Why a segment goes, or would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// All its records are below the log's start: DeleteRecords, or retention before, has raised it.
    BelowStart,
    /// Its newest record is older than `retention.ms`.
    Time,
    /// The segments behind it are as large as `retention.bytes` alone.
    Size,
}

/// One segment, and what will become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// The offset of its first record.
    pub base: Offset,
    /// The offset behind its last.
    pub end: Offset,
    /// Bytes of batches.
    pub size: u64,
    /// The largest time stamp in it in milliseconds, or when it was last appended to if it has none.
    pub newest_ms: i64,
    /// Whether it is still written to.
    pub active: bool,
    /// The rule that removes it at the next check.
    pub due: Option<Rule>,
    /// From when on time removes it, at the check that follows; earlier segments go first.
    pub at_ms: Option<i64>,
    /// How many bytes must be appended until size removes it; an active one must be closed, too.
    pub after_bytes: Option<u64>,
}

/// A log with the fates of its segments.
#[derive(Clone, Debug)]
pub struct Fates {
    /// The first offset that can be read.
    pub start: Offset,
    /// The offset that the next record will get.
    pub end: Offset,
    /// Below, every key has one record at most; 0 for a log that was never compacted.
    pub compacted: Offset,
    /// Whether a compaction would begin now.
    pub compaction_due: bool,
    /// The settings in force.
    pub config: Config,
    /// The segments in order.
    pub segments: Vec<Fate>,
}

/// What retention knows of a segment.
pub(super) struct Facts {
    pub base: Offset,
    pub end: Offset,
    pub size: u64,
    pub newest_ms: i64,
    pub active: bool,
}

/// What becomes of segments under the settings, with everything below `flushed` on the disk.
pub(super) fn judge(
    segments: &[Facts],
    config: &Config,
    (start, flushed): (Offset, Offset),
    now: Wall,
) -> Vec<Fate> {
    let by_time = config.delete && config.retention_ms >= 0;
    let spare = u64::try_from(config.retention_bytes).ok().filter(|_| config.delete);
    let mut left: u64 = segments.iter().map(|segment| segment.size).sum();
    let mut held = false;
    let mut at_ms = i64::MIN;
    let fate = |one: &Facts| {
        let age = now.0.saturating_sub(one.newest_ms);
        left -= one.size;
        at_ms = at_ms.max(one.newest_ms.saturating_add(config.retention_ms).saturating_add(1));
        let old = by_time && age > config.retention_ms;
        let surplus = !one.active && spare.is_some_and(|spare| left >= spare);
        let safe = one.end <= flushed && one.base < one.end;
        let rule = if one.base < one.end && one.end <= start {
            Some(Rule::BelowStart)
        } else if old {
            Some(Rule::Time)
        } else if surplus {
            Some(Rule::Size)
        } else {
            None
        };
        held |= !safe || !(old || surplus);
        let below = rule == Some(Rule::BelowStart);
        Fate {
            base: one.base,
            end: one.end,
            size: one.size,
            newest_ms: one.newest_ms,
            active: one.active,
            due: rule.filter(|_| !held || below),
            at_ms: by_time.then_some(at_ms),
            after_bytes: spare.map(|spare| spare.saturating_sub(left)),
        }
    };
    segments.iter().map(fate).collect()
}

impl<I: Io> Log<I> {
    /// What retention does with each segment now, and will do later.
    pub(super) fn judge(&self, now: Wall) -> Vec<Fate> {
        let last = self.segments.len().saturating_sub(1);
        let facts: Vec<Facts> = (self.segments.iter().enumerate())
            .map(|(number, segment)| Facts {
                base: segment.base,
                end: segment.end,
                size: segment.size,
                newest_ms: segment.newest_ms(),
                active: number == last && !self.closed,
            })
            .collect();
        judge(&facts, &self.config, (self.start(), self.flushed_end()), now)
    }

    /// The log with the fates of its segments.
    pub fn fates(&self, now: Wall) -> Fates {
        Fates {
            start: self.start(),
            end: self.end(),
            compacted: self.compacted_end(),
            compaction_due: self.config.compact && self.compaction_due(now),
            config: self.config.clone(),
            segments: self.judge(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of ten records and 100 bytes each with these newest time stamps; the last is active.
    fn segments(newest: &[i64]) -> Vec<Facts> {
        let last = newest.len() - 1;
        let facts = newest.iter().enumerate().map(|(number, &newest_ms)| Facts {
            base: Offset(10 * number as i64),
            end: Offset(10 * number as i64 + 10),
            size: 100,
            newest_ms,
            active: number == last,
        });
        facts.collect()
    }

    fn told(segments: &[Facts], ms: i64, bytes: i64, start: i64) -> Vec<Fate> {
        let config = Config { retention_ms: ms, retention_bytes: bytes, ..Config::default() };
        judge(segments, &config, (Offset(start), Offset(1000)), Wall(1000))
    }

    fn due(fates: &[Fate]) -> Vec<Option<Rule>> {
        fates.iter().map(|fate| fate.due).collect()
    }

    #[test]
    fn time_takes_the_old_ones_and_stops_at_the_first_that_is_not() {
        let fates = told(&segments(&[100, 950, 200, 980]), 500, -1, 0);
        assert_eq!(due(&fates), [Some(Rule::Time), None, None, None]);
        // The third is old, and waits for the second.
        let at: Vec<_> = fates.iter().map(|fate| fate.at_ms).collect();
        assert_eq!(at, [Some(601), Some(1451), Some(1451), Some(1481)]);
        assert!(fates.iter().all(|fate| fate.after_bytes.is_none()));
        let all = told(&segments(&[100, 200]), 500, -1, 0);
        assert_eq!(due(&all), [Some(Rule::Time); 2], "the active one, too");
    }

    #[test]
    fn size_takes_what_is_too_much_without_it_and_never_the_active_one() {
        let fates = told(&segments(&[1000; 4]), -1, 150, 0);
        assert_eq!(due(&fates), [Some(Rule::Size), Some(Rule::Size), None, None]);
        let after: Vec<_> = fates.iter().map(|fate| fate.after_bytes).collect();
        assert_eq!(after, [Some(0), Some(0), Some(50), Some(150)]);
        assert!(fates.iter().all(|fate| fate.at_ms.is_none()));
        assert_eq!(due(&told(&segments(&[1000]), -1, 0, 0)), [None]);
    }

    #[test]
    fn what_is_below_the_start_goes_whatever_the_settings() {
        let fates = told(&segments(&[1000; 3]), -1, -1, 15);
        assert_eq!(due(&fates), [Some(Rule::BelowStart), None, None]);
        let config = Config { delete: false, retention_ms: 0, ..Config::default() };
        let kept = judge(&segments(&[0; 2]), &config, (Offset(0), Offset(1000)), Wall(1000));
        assert_eq!(due(&kept), [None; 2], "cleanup.policy=compact removes no segment");
        assert!(kept.iter().all(|fate| fate.at_ms.is_none() && fate.after_bytes.is_none()));
    }

    #[test]
    fn what_is_not_flushed_stays() {
        let config = Config { retention_ms: 0, ..Config::default() };
        let fates = judge(&segments(&[0; 3]), &config, (Offset(0), Offset(15)), Wall(1000));
        assert_eq!(due(&fates), [Some(Rule::Time), None, None]);
    }
}
