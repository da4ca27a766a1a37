//! Room on the disk: a state that a broker is in, and comes out of by itself.
//!
//! Core 0 asks once a second how much is free where the data are. Below the soft mark
//! (`trialog.disk.free.warn.bytes`) the broker says so; below the hard one
//! (`trialog.disk.free.min.bytes`), or when a write found no room at all, it refuses records of
//! producers with `KAFKA_STORAGE_ERROR` and goes on with everything else: what is left is for
//! committed offsets, metadata and checkpoints, without which nothing could be deleted either. It
//! takes records again once there is a quarter more than the hard mark. A look that fails changes
//! nothing, unless several do in a row: then only a write can tell.
//!
//! Every producer repeats that code with a pause and keeps the order of its records, and a log
//! that found no room has taken nothing ([ADR 11](../../../docs/adr/0011-a-full-disk-is-a-state.md)).
//! Read on every core, with one plain load for each request; written on any.

use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use tracing::{error, info, warn};

use super::Core;
use crate::io::Io;
use crate::limit::{ROOM_LOOK_INTERVAL, ROOM_LOOKS_IN_VAIN_MAX};
use crate::probe::{self, Probe};

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// More than the soft mark.
    Plenty,
    /// Less than that.
    Little,
    /// Less than the hard mark, or a write found none.
    None,
}

/// The two marks, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Below it the broker warns.
    pub warn: u64,
    /// Below it the broker takes no records.
    pub min: u64,
}

/// How much room there is where a broker's data are.
#[derive(Debug)]
pub struct Room {
    level: AtomicU8,
    /// Free bytes when last asked; `u64::MAX` if that is not known.
    free: AtomicU64,
    /// A write found no room since the last look.
    found_none: AtomicBool,
}

impl Default for Room {
    fn default() -> Self {
        Room {
            level: AtomicU8::new(Level::Plenty as u8),
            free: AtomicU64::new(u64::MAX),
            found_none: AtomicBool::new(false),
        }
    }
}

impl Room {
    /// How much there is.
    pub fn level(&self) -> Level {
        match self.level.load(Ordering::Relaxed) {
            0 => Level::Plenty,
            1 => Level::Little,
            _ => Level::None,
        }
    }

    /// Whether records of producers are refused.
    pub fn is_none(&self) -> bool {
        self.level.load(Ordering::Relaxed) >= Level::None as u8
    }

    /// Free bytes when last asked, if that is known.
    pub fn free(&self) -> Option<u64> {
        Some(self.free.load(Ordering::Relaxed)).filter(|free| *free != u64::MAX)
    }

    /// A write found no room.
    pub fn found_none(&self) {
        self.found_none.store(true, Ordering::Relaxed);
        self.level.store(Level::None as u8, Ordering::Relaxed);
    }

    /// Why records are refused, and what helps.
    pub fn refusal(&self, data: &Path, marks: Marks) -> String {
        let free = self.free().unwrap_or(0);
        format!(
            "the broker's disk is full: {free} bytes are free at {}, and it takes no records below \
             {} (trialog.disk.free.min.bytes); it takes them again by itself once there is room: \
             delete records or topics, keep less, or make the disk larger",
            data.display(),
            marks.min
        )
    }

    /// Takes note of so many free bytes, and returns the level that makes.
    fn look(&self, free: u64, marks: Marks) -> Level {
        let found_none = self.found_none.swap(false, Ordering::Relaxed);
        let level = if found_none { Level::None } else { judge(self.level(), free, marks) };
        self.free.store(free, Ordering::Relaxed);
        self.level.store(level as u8, Ordering::Relaxed);
        level
    }
}

/// The level with so many free bytes. To a better one it takes a quarter more than to a worse one,
/// so that a broker on the edge does not change its mind every second.
fn judge(before: Level, free: u64, marks: Marks) -> Level {
    let below = |mark: u64, level: Level| {
        let spare = if before >= level { mark / 4 } else { 0 };
        free < mark.saturating_add(spare)
    };
    if below(marks.min, Level::None) {
        Level::None
    } else if below(marks.warn.max(marks.min), Level::Little) {
        Level::Little
    } else {
        Level::Plenty
    }
}

/// Looks again and again, for as long as the core runs, and reports what changes.
pub async fn watch<I: Io>(core: Rc<Core<I>>) {
    let data = &core.shared.data;
    let mut reported = Level::Plenty;
    let mut in_vain = 0;
    loop {
        let marks = core.marks();
        let free = match core.io.space(data).await {
            Ok(space) => {
                in_vain = 0;
                Some(space.free)
            }
            Err(error) => {
                in_vain = ROOM_LOOKS_IN_VAIN_MAX.min(in_vain + 1);
                if in_vain == 1 {
                    warn!(data = %data.display(), %error,
                        "the system does not say how much room there is; if it goes on like that, \
                         only a write can tell");
                }
                // A disk that was full is not to be believed to have room because it does not answer.
                (in_vain == ROOM_LOOKS_IN_VAIN_MAX).then_some(u64::MAX)
            }
        };
        if let Some(free) = free {
            let level = core.shared.room.look(free, marks);
            report(data, free, marks, reported, level);
            reported = level;
        }
        core.io.sleep(ROOM_LOOK_INTERVAL).await;
    }
}

/// Logs a change from what was reported last.
fn report(data: &Path, free: u64, marks: Marks, before: Level, after: Level) {
    let data = data.display();
    match after {
        Level::None if before < Level::None => {
            probe::hit(Probe::RoomNone);
            error!(%data, free, min = marks.min, "the disk is full: producers are refused until \
                there is room (trialog.disk.free.min.bytes); everything else goes on");
        }
        Level::Little if before == Level::None => {
            probe::hit(Probe::RoomAgain);
            warn!(%data, free, warn = marks.warn, "producers are served again; the disk is nearly \
                full still (trialog.disk.free.warn.bytes)");
        }
        Level::Little if before == Level::Plenty => {
            probe::hit(Probe::RoomLittle);
            warn!(%data, free, warn = marks.warn, min = marks.min, "the disk is nearly full \
                (trialog.disk.free.warn.bytes); below the minimum producers are refused");
        }
        Level::Plenty if before > Level::Plenty => {
            probe::hit(Probe::RoomPlenty);
            info!(%data, free, "there is room on the disk again");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks { warn: 1000, min: 100 };

    #[test]
    fn worse_comes_at_the_mark_and_better_a_quarter_above_it() {
        let mut level = Level::Plenty;
        for (free, expected) in [
            (5000, Level::Plenty),
            (1000, Level::Plenty),
            (999, Level::Little),
            (1249, Level::Little),
            (1250, Level::Plenty),
            (99, Level::None),
            (124, Level::None),
            (125, Level::Little),
            (100, Level::Little),
            (0, Level::None),
            (5000, Level::Plenty),
        ] {
            level = judge(level, free, MARKS);
            assert_eq!(level, expected, "{free}");
        }
    }

    #[test]
    fn marks_of_zero_warn_and_refuse_only_who_found_no_room() {
        let room = Room::default();
        let off = Marks { warn: 0, min: 0 };
        assert_eq!(room.look(0, off), Level::Plenty);
        room.found_none();
        assert!(room.is_none());
        assert_eq!(room.look(0, off), Level::None, "the look that hears of it");
        assert_eq!(room.look(0, off), Level::Plenty, "the next one");
    }

    #[test]
    fn a_soft_mark_below_the_hard_one_counts_as_that() {
        let marks = Marks { warn: 0, min: 100 };
        assert_eq!(judge(Level::Plenty, 100, marks), Level::Plenty);
        assert_eq!(judge(Level::None, 124, marks), Level::None);
        assert_eq!(judge(Level::None, 125, marks), Level::Plenty);
    }

    #[test]
    fn it_is_known_how_much_is_free_once_somebody_has_looked() {
        let room = Room::default();
        assert_eq!((room.free(), room.level()), (None, Level::Plenty));
        room.look(u64::MAX, MARKS);
        assert_eq!(room.free(), None);
        room.look(7, MARKS);
        assert_eq!((room.free(), room.level()), (Some(7), Level::None));
        let text = room.refusal(Path::new("/srv"), MARKS);
        assert!(text.contains("7 bytes are free at /srv") && text.contains("below 100"), "{text}");
    }
}
