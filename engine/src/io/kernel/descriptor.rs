//! A counted file descriptor: closed with its last clone, off the core where possible.

use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::queue::Queue;
use crate::io::{Error, Result};

/// The descriptor that all clones of a file share. It may be used from any core.
pub(super) struct Descriptor {
    fd: ManuallyDrop<OwnedFd>,
    close: Close,
    written_back: AtomicBool,
}

/// A file that is being written to the disk. One at a time for each is enough: it takes all there is.
pub(super) struct WritingBack(Arc<Descriptor>);

impl WritingBack {
    /// Unless it is done already.
    pub(super) fn begin(file: &Arc<Descriptor>) -> Option<WritingBack> {
        let idle = !file.written_back.swap(true, Ordering::Relaxed);
        idle.then(|| WritingBack(file.clone()))
    }

    pub(super) fn raw(&self) -> RawFd {
        self.0.raw()
    }
}

impl Drop for WritingBack {
    fn drop(&mut self) {
        self.0.written_back.store(false, Ordering::Relaxed);
    }
}

/// Where the close happens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// By a kernel worker, a little later.
    OffCore,
    /// In the drop itself, and unlocked first: whoever drops a lock wants it to be free, also if a
    /// process that is just being started has the descriptor as well until it executes its program.
    Unlock,
}

impl Descriptor {
    pub(super) fn new(fd: OwnedFd, close: Close) -> Descriptor {
        Descriptor { fd: ManuallyDrop::new(fd), close, written_back: AtomicBool::new(false) }
    }

    pub(super) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// What the kernel knows of the file. Never blocks on the disk: an open file's inode is in
    /// memory.
    pub(super) fn stat(&self) -> Result<libc::stat> {
        let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: the descriptor is open, and `stat` has room for the answer.
        checked(unsafe { libc::fstat(self.raw(), stat.as_mut_ptr()) })?;
        // SAFETY: filled by the call; all zeros would be valid too.
        Ok(unsafe { stat.assume_init() })
    }

    pub(super) fn length(&self) -> Result<u64> {
        Ok(u64::try_from(self.stat()?.st_size).unwrap_or(0))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: taken once, here, and not used again.
        let fd = unsafe { ManuallyDrop::take(&mut self.fd) };
        match self.close {
            Close::OffCore => Queue::close(fd),
            Close::Unlock => {
                // SAFETY: the descriptor is open. The call does not wait, and of a file that is not
                // locked it is no error.
                unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_UN) };
                drop(fd);
            }
        }
    }
}

/// A system call's result, with the error it left behind.
pub(super) fn checked<T: TryInto<usize>>(result: T) -> Result<usize> {
    result.try_into().map_err(|_| Error::last_os_error())
}
