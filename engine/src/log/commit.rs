//! Flushing: the tickets that a log hands out.
//!
//! A [`Flush`] is everything that must reach the disk before the log may raise its flushed end. It
//! borrows nothing of the log, so appends go on while it runs. A log has at most one ticket out:
//! an error of one flush must not be hidden by the success of another that ran beside it.
//!
//! Each file is flushed by itself, however many logs of a core are dirty
//! ([ADR 15](../../docs/adr/0015-each-file-is-flushed-by-itself.md)).

use std::path::PathBuf;

use futures_util::future::join_all;

use crate::id::Offset;
use crate::io::{self, File, Io};
use crate::limit::DESCRIPTORS_PAUSE;
use crate::probe::{self, Probe};

/// What one log must flush: files, and the names in its folder.
///
/// Run it to its end and hand the outcome to [`super::Log::flushed`]; until then the log gives out
/// no other ticket.
#[must_use = "a log whose ticket is not run never flushes again"]
pub struct Flush<I: Io> {
    pub(super) io: I,
    pub(super) files: Vec<Dirty<I::File>>,
    /// The folder, if names in it are not durable yet.
    pub(super) dir: Option<PathBuf>,
    pub(super) bytes: u64,
}

/// One file to flush.
pub(super) struct Dirty<F> {
    /// The segment's base offset.
    pub(super) base: Offset,
    pub(super) file: F,
    /// Cut what was allocated ahead, first: the segment is closed.
    pub(super) cut: Option<u64>,
}

/// How a flush ended.
#[must_use = "the log learns the outcome from it"]
pub struct Flushed {
    pub(super) result: io::Result<()>,
}

impl<I: Io> Flush<I> {
    /// How many bytes of batches it covers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Flushes everything; all at once, because the log waits for the last of it anyway.
    pub async fn run(self) -> Flushed {
        let Flush { io, mut files, dir, bytes: _ } = self;
        let names = async {
            let Some(dir) = &dir else { return Ok(()) };
            loop {
                match io.sync_dir(dir).await {
                    // The folder could not be opened: nothing was tried, so nothing can be lost by it.
                    Err(error) if io::lacks_descriptors(&error) => {
                        probe::hit(Probe::FlushScarce);
                        io.sleep(DESCRIPTORS_PAUSE).await;
                    }
                    flushed => return flushed,
                }
            }
        };
        let contents = async {
            match files.len() {
                0 => Ok(()),
                1 => files.remove(0).flush().await,
                _ => join_all(files.into_iter().map(Dirty::flush)).await.into_iter().collect(),
            }
        };
        let (contents, names) = futures_util::future::join(contents, names).await;
        Flushed { result: contents.and(names) }
    }
}

impl<F: File> Dirty<F> {
    pub(super) async fn flush(self) -> io::Result<()> {
        if let Some(len) = self.cut {
            self.file.truncate(len).await?;
        }
        self.file.sync().await
    }
}
