//! The three offsets of a log, in one small object that keeps their order.
//!
//! LOG-1: start <= flushed end <= end, always. Every change goes through a method that asserts it.

use crate::id::Offset;

/// See the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offsets {
    start: Offset,
    flushed: Offset,
    end: Offset,
}

impl Offsets {
    /// A log that holds `start` to `end`, all of it flushed.
    pub(super) fn flushed_log(start: Offset, end: Offset) -> Self {
        Offsets { start, flushed: end, end }.checked()
    }

    pub(super) fn start(self) -> Offset {
        self.start
    }

    pub(super) fn flushed(self) -> Offset {
        self.flushed
    }

    pub(super) fn end(self) -> Offset {
        self.end
    }

    /// Records were appended.
    pub(super) fn extend(&mut self, end: Offset) {
        assert!(end >= self.end, "LOG-1: an append moved the end back");
        self.end = end;
        *self = self.checked();
    }

    /// A flush that covered everything below `to` succeeded.
    pub(super) fn flush(&mut self, to: Offset) {
        self.flushed = self.flushed.max(to);
        *self = self.checked();
    }

    /// Records below `to` are no longer readable.
    pub(super) fn advance(&mut self, to: Offset) {
        assert!(to >= self.start, "LOG-1: the start moved back");
        self.start = to;
        *self = self.checked();
    }

    /// Records from `to` on are gone.
    pub(super) fn cut(&mut self, to: Offset) {
        assert!(to <= self.end, "LOG-1: a cut beyond the end");
        self.end = to;
        self.flushed = self.flushed.min(to);
        self.start = self.start.min(to);
        *self = self.checked();
    }

    fn checked(self) -> Self {
        assert!(self.start <= self.flushed, "LOG-1: flushed end below the start: {self:?}");
        assert!(self.flushed <= self.end, "LOG-1: flushed end beyond the end: {self:?}");
        self
    }
}
