//! Which leader epoch wrote which offsets (KIP-101, KIP-279).
//!
//! Pure. Keeps: epochs rise, and so do their start offsets; an epoch that wrote nothing before the
//! next one began leaves no entry.

use crate::id::{LeaderEpoch, Offset};
use crate::probe::{self, Probe};

/// The table. See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Epochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl Epochs {
    /// Out of entries read from a disk; `None` if they do not rise.
    pub(super) fn from_entries(entries: Vec<(LeaderEpoch, Offset)>) -> Option<Self> {
        let rises = entries.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 < two[1].1);
        rises.then_some(Epochs { entries })
    }

    pub(super) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    pub(super) fn latest(&self) -> LeaderEpoch {
        self.entries.last().map_or(LeaderEpoch::NONE, |entry| entry.0)
    }

    /// Whose `offset` is, if anything is known of it.
    pub(super) fn at(&self, offset: Offset) -> LeaderEpoch {
        let after = self.entries.partition_point(|entry| entry.1 <= offset);
        after.checked_sub(1).map_or(LeaderEpoch::NONE, |entry| self.entries[entry].0)
    }

    /// `epoch` writes from `start` on. An epoch that is not newer than the latest changes nothing.
    pub(super) fn begin(&mut self, epoch: LeaderEpoch, start: Offset) {
        if epoch <= self.latest() {
            return;
        }
        while self.entries.last().is_some_and(|entry| entry.1 >= start) {
            probe::hit(Probe::EpochEmpty);
            self.entries.pop();
        }
        self.entries.push((epoch, start));
    }

    /// See [`super::Log::epoch_end`]; `end` is the log's.
    pub(super) fn end_of(&self, epoch: LeaderEpoch, end: Offset) -> (LeaderEpoch, Offset) {
        const UNKNOWN: (LeaderEpoch, Offset) = (LeaderEpoch::NONE, Offset(-1));
        if epoch == LeaderEpoch::NONE || epoch > self.latest() {
            return UNKNOWN;
        }
        if epoch == self.latest() {
            return (epoch, end);
        }
        let next = self.entries.partition_point(|entry| entry.0 <= epoch);
        let next_start = self.entries[next].1;
        match next.checked_sub(1) {
            Some(floor) => (self.entries[floor].0, next_start),
            // Older than all known: whatever it wrote ended where the oldest known begins.
            None => {
                probe::hit(Probe::EpochForgotten);
                (epoch, next_start)
            }
        }
    }

    /// Records from `to` on are gone.
    pub(super) fn cut(&mut self, to: Offset) {
        self.entries.retain(|entry| entry.1 < to);
    }

    /// Records below `to` are gone.
    pub(super) fn advance(&mut self, to: Offset) {
        let keep = self.entries.partition_point(|entry| entry.1 <= to);
        if keep > 1 {
            probe::hit(Probe::EpochCut);
        }
        if keep > 0 {
            self.entries.drain(..keep - 1);
            self.entries[0].1 = self.entries[0].1.max(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(i32, i64)]) -> Epochs {
        let mut epochs = Epochs::default();
        for &(epoch, start) in entries {
            epochs.begin(LeaderEpoch(epoch), Offset(start));
        }
        epochs
    }

    fn end_of(epochs: &Epochs, epoch: i32) -> (i32, i64) {
        let (found, end) = epochs.end_of(LeaderEpoch(epoch), Offset(100));
        (found.0, end.0)
    }

    #[test]
    fn ends_of_known_and_unknown_epochs() {
        let epochs = table(&[(2, 10), (3, 20), (7, 50)]);
        assert_eq!(end_of(&epochs, 7), (7, 100));
        assert_eq!(end_of(&epochs, 8), (-1, -1));
        assert_eq!(end_of(&epochs, -1), (-1, -1));
        assert_eq!(end_of(&epochs, 3), (3, 50));
        assert_eq!(end_of(&epochs, 5), (3, 50));
        assert_eq!(end_of(&epochs, 2), (2, 20));
        assert_eq!(end_of(&epochs, 1), (1, 10));
    }

    #[test]
    fn offsets_are_of_the_epoch_that_began_last_before_them() {
        let epochs = table(&[(2, 10), (3, 20)]);
        let at = |offset| epochs.at(Offset(offset)).0;
        assert_eq!([9, 10, 19, 20, 99].map(at), [-1, 2, 2, 3, 3]);
    }

    #[test]
    fn an_epoch_without_records_leaves_nothing() {
        let epochs = table(&[(1, 0), (2, 5), (3, 5), (3, 9), (2, 12)]);
        assert_eq!(epochs.entries(), table(&[(1, 0), (3, 5)]).entries());
    }

    #[test]
    fn cuts_at_both_ends() {
        let mut epochs = table(&[(1, 0), (2, 5), (4, 9)]);
        epochs.cut(Offset(9));
        assert_eq!(epochs.entries(), table(&[(1, 0), (2, 5)]).entries());
        epochs.advance(Offset(7));
        assert_eq!(epochs.entries(), table(&[(2, 7)]).entries());
        epochs.advance(Offset(7));
        assert_eq!(epochs.entries(), table(&[(2, 7)]).entries());
    }
}
