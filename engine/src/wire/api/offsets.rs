//! ListOffsets and OffsetForLeaderEpoch: from times and epochs to offsets.

mod epoch;
mod list;

pub use epoch::*;
pub use list::*;
