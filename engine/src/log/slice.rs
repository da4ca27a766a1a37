//! Reading: which bytes of which files answer a fetch.
//!
//! A [`Plan`] is a list of whole-batch slices. Making one reads index entries and batch headers,
//! never payload; whoever holds it sends the bytes, on any core, and keeps the files open by
//! holding it, also when retention removes their names meanwhile.

/// Whether a plan must hold a batch even if that is larger than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The first batch is included whatever its size, so that the reader gets on (KIP-74).
    AtLeastOneBatch,
    /// Nothing beyond the limit.
    WithinLimit,
}

/// A range of one file that holds whole batches.
#[derive(Clone, Debug)]
pub struct Slice<F> {
    /// The segment.
    pub file: F,
    /// The first byte.
    pub position: u64,
    /// How many bytes.
    pub length: u64,
}

/// The bytes that answer one read, in order.
#[derive(Clone, Debug)]
pub struct Plan<F> {
    /// Slices of successive segments.
    pub slices: Vec<Slice<F>>,
    /// Their lengths together.
    pub bytes: u64,
}

impl<F> Default for Plan<F> {
    fn default() -> Self {
        Plan { slices: Vec::new(), bytes: 0 }
    }
}
