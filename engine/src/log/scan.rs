//! Reading a segment batch by batch, whole and suspicious: for recovery and for the tools.

use super::index::FileId;
use crate::id::{LeaderEpoch, Offset};
use crate::io::{self, Buf, File, fill_at};
use crate::limit::FRAME_BYTES_MAX;
use crate::wire::batch::{Batch, BatchError, Header};

/// Bytes read at once; a larger batch is read whole.
const CHUNK_BYTES: usize = 1 << 20;

/// What must hold from one batch to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// The next batch's base offset.
    pub(super) next: Offset,
    /// The last batch's leader epoch.
    pub(super) epoch: LeaderEpoch,
}

/// What lies at a position.
#[derive(Debug)]
pub(super) enum Found {
    /// A good batch.
    Batch(Header),
    /// The end of the file, or space that was never written.
    End,
    /// Something else.
    Bad(Bad),
}

/// What is wrong with bytes that should be a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// It does not have a batch's structure.
    #[error("not a batch: {0}")]
    Structure(BatchError),
    /// It is larger than any batch can be.
    #[error("a batch of {0} bytes is too large")]
    Size(usize),
    /// Its checksum does not match.
    #[error("the checksum does not match")]
    Checksum,
    /// It does not continue the offsets.
    #[error("base offset {found} where {expected} was expected")]
    Offset {
        /// What the batches before it ask for.
        expected: Offset,
        /// What it says.
        found: Offset,
    },
    /// It is older than the batch before it.
    #[error("leader epoch {found} after {before}")]
    Epoch {
        /// The epoch of the batch before it.
        before: LeaderEpoch,
        /// What it says.
        found: LeaderEpoch,
    },
}

/// A reader of one file from a position on.
pub(super) struct Scan<F> {
    file: F,
    position: u64,
    length: u64,
    /// Offsets may be missing between batches.
    holes: bool,
    chunk: Buf,
    chunk_at: u64,
}

impl<F: File> Scan<F> {
    pub(super) fn new(file: F, position: u64, length: u64) -> Self {
        Scan { file, position, length, holes: false, chunk: Buf::new(), chunk_at: 0 }
    }

    /// A reader of the first `length` bytes of a segment that compaction may have written.
    pub(super) fn of_segment(file: F, id: FileId, length: u64) -> Self {
        Scan { holes: id.generation > 0, ..Scan::new(file, 0, length) }
    }

    /// The same from a later position on.
    pub(super) fn at(self, position: u64) -> Self {
        Scan { position, ..self }
    }

    /// Where the scan stands: behind the last good batch.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The bytes of the batch that [`Scan::next`] found last.
    pub(super) fn bytes(&self, header: &Header) -> &[u8] {
        let end = (self.position - self.chunk_at) as usize;
        &self.chunk[end - header.size()..end]
    }

    /// What comes next. Moves on only past a good batch.
    pub(super) async fn next(&mut self, chain: &mut Chain) -> io::Result<Found> {
        self.hold(crate::wire::batch::HEADER_BYTES).await?;
        let held = self.held();
        if held.iter().take(crate::wire::batch::HEADER_BYTES).all(|&byte| byte == 0) {
            return Ok(Found::End);
        }
        let header = match Header::parse(held) {
            Ok(header) => header,
            Err(error) => return Ok(Found::Bad(Bad::Structure(error))),
        };
        if header.size() > FRAME_BYTES_MAX {
            return Ok(Found::Bad(Bad::Size(header.size())));
        }
        let follows =
            header.base_offset() == chain.next || (self.holes && header.base_offset() > chain.next);
        if !follows {
            let (expected, found) = (chain.next, header.base_offset());
            return Ok(Found::Bad(Bad::Offset { expected, found }));
        }
        if header.leader_epoch() < chain.epoch {
            let (before, found) = (chain.epoch, header.leader_epoch());
            return Ok(Found::Bad(Bad::Epoch { before, found }));
        }
        self.hold(header.size()).await?;
        match Batch::parse(self.held()) {
            Ok(batch) if batch.crc_matches() => {}
            Ok(_) => return Ok(Found::Bad(Bad::Checksum)),
            Err(error) => return Ok(Found::Bad(Bad::Structure(error))),
        }
        self.position += header.size() as u64;
        *chain = Chain { next: header.last_offset().plus(1), epoch: header.leader_epoch() };
        Ok(Found::Batch(header))
    }

    fn held(&self) -> &[u8] {
        let skip = self.position.saturating_sub(self.chunk_at) as usize;
        self.chunk.get(skip..).unwrap_or_default()
    }

    /// Reads on until `count` bytes from the position on are held, or the file ends.
    async fn hold(&mut self, count: usize) -> io::Result<()> {
        let left = self.length.saturating_sub(self.position);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(count);
        if self.held().len() >= wanted {
            return Ok(());
        }
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(wanted.max(CHUNK_BYTES));
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.truncate(0);
        if chunk.capacity() < room {
            chunk = Buf::with_capacity(room);
        }
        let (result, chunk) = fill_at(&self.file, chunk, self.position).await;
        self.chunk = chunk;
        self.chunk_at = self.position;
        result
    }
}
