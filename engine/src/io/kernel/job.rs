//! One operation on files, and everything that it needs until it is done: as an entry of a ring,
//! or as the system call that a thread of the pool makes.

use std::ffi::CString;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::{Arc, OnceLock};

use io_uring::{opcode, squeue, types};

use super::descriptor::{Descriptor, WritingBack, checked};
use crate::io::{Buf, Error, ErrorKind, Result};

/// The most that one read or write asks for, in bytes; the kernel's own bound is 2 GiB.
pub(super) const TRANSFER_BYTES_MAX: usize = 1 << 30;

const HERE: i32 = libc::AT_FDCWD;

/// An operation, with the paths, buffers and descriptors that it owns. Its result is what the
/// system call would return, or a negative error number.
pub(super) enum Job {
    /// The result is a descriptor.
    Open {
        path: CString,
        flags: i32,
    },
    Unlink {
        path: CString,
        flags: i32,
    },
    Rename {
        from: CString,
        to: CString,
    },
    MakeDir {
        path: CString,
    },
    /// Reads into the buffer's spare room.
    Read {
        file: Arc<Descriptor>,
        buf: Buf,
        offset: u64,
    },
    /// Data and whatever is needed to read it back, the length included; not the times.
    SyncData {
        file: Arc<Descriptor>,
    },
    /// What is in the page cache is on its way to the disk afterwards.
    WriteBack(WritingBack),
    /// Everything.
    Sync {
        file: Arc<Descriptor>,
    },
    Allocate {
        file: Arc<Descriptor>,
        offset: u64,
        len: u64,
    },
    Truncate {
        file: Arc<Descriptor>,
        len: u64,
    },
    /// Reads a range into the page cache. Meant for a thread ([`Job::is_for_threads`]): what the
    /// kernel reads ahead of somebody who goes through a file lies in large folios, which cost a
    /// tenth of the pages that advice brings, to read and again to send.
    Load {
        file: Arc<Descriptor>,
        offset: u64,
        len: u64,
    },
    /// Gives freed memory back to the kernel. For a thread: it takes milliseconds.
    ReleaseMemory,
    /// `None` once the descriptor was given up.
    Close(Option<OwnedFd>),
}

impl Job {
    /// Whether a ring would do it worse than a thread.
    pub(super) fn is_for_threads(&self) -> bool {
        matches!(self, Job::Load { .. } | Job::ReleaseMemory)
    }

    /// The entry that has a ring do it. It points into what this job owns: paths and buffers on
    /// the heap, which stay where they are when the job moves, and open descriptors.
    pub(super) fn entry(&mut self) -> squeue::Entry {
        let fd = |file: &Arc<Descriptor>| types::Fd(file.raw());
        let here = types::Fd(HERE);
        match self {
            Job::Open { path, flags } => {
                opcode::OpenAt::new(here, path.as_ptr()).flags(*flags).mode(FILE_MODE).build()
            }
            Job::Unlink { path, flags } => {
                opcode::UnlinkAt::new(here, path.as_ptr()).flags(*flags).build()
            }
            Job::Rename { from, to } => {
                opcode::RenameAt::new(here, from.as_ptr(), here, to.as_ptr()).build()
            }
            Job::MakeDir { path } => {
                opcode::MkDirAt::new(here, path.as_ptr()).mode(FOLDER_MODE).build()
            }
            Job::Read { file, buf, offset } => {
                let room = buf.spare();
                let len = u32::try_from(room.len().min(TRANSFER_BYTES_MAX)).expect("bounded");
                opcode::Read::new(fd(file), room.as_mut_ptr(), len).offset(*offset).build()
            }
            Job::SyncData { file } => {
                let flags = types::FsyncFlags::DATASYNC;
                opcode::Fsync::new(fd(file)).flags(flags).build()
            }
            Job::WriteBack(file) => {
                let (all, flags) = (0, libc::SYNC_FILE_RANGE_WRITE);
                opcode::SyncFileRange::new(types::Fd(file.raw()), all).flags(flags).build()
            }
            Job::Sync { file } => opcode::Fsync::new(fd(file)).build(),
            Job::Allocate { file, offset, len } => {
                opcode::Fallocate::new(fd(file), *len).offset(*offset).build()
            }
            Job::Truncate { file, len } => opcode::Ftruncate::new(fd(file), *len).build(),
            Job::Load { file, offset, len } => {
                // Nothing to wait for, and the best that there is without a thread.
                let advice = libc::POSIX_FADV_WILLNEED;
                let len = libc::off_t::try_from(*len).unwrap_or(libc::off_t::MAX);
                opcode::Fadvise::new(fd(file), len, advice).offset(*offset).build()
            }
            Job::ReleaseMemory => opcode::Nop::new().build(),
            Job::Close(given_up) => {
                let fd = given_up.take().map_or(-1, IntoRawFd::into_raw_fd);
                // Off the core also where the kernel could begin inline: the last close of a
                // removed file frees its blocks.
                opcode::Close::new(types::Fd(fd)).build().flags(squeue::Flags::ASYNC)
            }
        }
    }

    /// Does it on the calling thread, however long it takes.
    pub(super) fn run(&mut self) -> i32 {
        loop {
            let result = self.call();
            if result != -libc::EINTR {
                return result;
            }
        }
    }

    fn call(&mut self) -> i32 {
        // A number that the kernel's own type cannot hold is refused as the ring refuses it.
        let signed = |number: u64| libc::off_t::try_from(number);
        match self {
            Job::Open { path, flags } => {
                // SAFETY: the path ends in a zero and outlives the call.
                of(unsafe { libc::openat(HERE, path.as_ptr(), *flags, FILE_MODE) })
            }
            Job::Unlink { path, flags } => {
                // SAFETY: as above.
                of(unsafe { libc::unlinkat(HERE, path.as_ptr(), *flags) })
            }
            Job::Rename { from, to } => {
                // SAFETY: as above, for both.
                of(unsafe { libc::renameat(HERE, from.as_ptr(), HERE, to.as_ptr()) })
            }
            Job::MakeDir { path } => {
                // SAFETY: as above.
                of(unsafe { libc::mkdirat(HERE, path.as_ptr(), FOLDER_MODE) })
            }
            Job::Read { file, buf, offset } => {
                let Ok(offset) = signed(*offset) else { return -libc::EINVAL };
                let room = buf.spare();
                let len = room.len().min(TRANSFER_BYTES_MAX);
                // SAFETY: the descriptor is open, and the call writes into the room alone.
                let read =
                    unsafe { libc::pread(file.raw(), room.as_mut_ptr().cast(), len, offset) };
                match i32::try_from(read).expect("bounded by what was asked for") {
                    -1 => last_error(),
                    read => read,
                }
            }
            // SAFETY: the descriptor is open.
            Job::SyncData { file } => of(unsafe { libc::fdatasync(file.raw()) }),
            Job::WriteBack(file) => {
                let (all, flags) = (0, libc::SYNC_FILE_RANGE_WRITE);
                // SAFETY: the descriptor is open.
                of(unsafe { libc::sync_file_range(file.raw(), 0, all, flags) })
            }
            // SAFETY: the descriptor is open.
            Job::Sync { file } => of(unsafe { libc::fsync(file.raw()) }),
            Job::Allocate { file, offset, len } => {
                let (Ok(offset), Ok(len)) = (signed(*offset), signed(*len)) else {
                    return -libc::EINVAL;
                };
                // SAFETY: the descriptor is open.
                of(unsafe { libc::fallocate(file.raw(), 0, offset, len) })
            }
            Job::Truncate { file, len } => {
                let Ok(len) = signed(*len) else { return -libc::EINVAL };
                // SAFETY: the descriptor is open.
                of(unsafe { libc::ftruncate(file.raw(), len) })
            }
            Job::Load { file, offset, len } => {
                match load(file, *offset..offset.saturating_add(*len), null()) {
                    Ok(()) => 0,
                    Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
                }
            }
            Job::ReleaseMemory => {
                release_memory();
                0
            }
            Job::Close(fd) => {
                drop(fd.take());
                0
            }
        }
    }

    /// What nobody waits for must still not leak.
    pub(super) fn forget(self, result: i32) {
        if let Job::Open { .. } = self
            && result >= 0
        {
            // SAFETY: a successful open returns a new descriptor that nobody else owns.
            drop(unsafe { OwnedFd::from_raw_fd(result) });
        }
    }
}

/// What one call reads at most where the bytes have to be copied, in bytes.
const COPIED_BYTES: usize = 16 << 10;

/// Goes through the range as a reader does, up to the end of the file: the bytes go to the device
/// that takes everything and looks at nothing; where there is none, they are copied.
pub(super) fn load(file: &Descriptor, range: Range<u64>, null: Option<RawFd>) -> Result<()> {
    let mut at = range.start;
    let mut null = null;
    let mut copied = [0_u8; COPIED_BYTES];
    while at < range.end {
        // No file is longer than that.
        let Ok(mut place) = libc::off_t::try_from(at) else { return Ok(()) };
        let left = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(TRANSFER_BYTES_MAX);
        let read = match null {
            // SAFETY: both descriptors are open, and `place` outlives the call.
            Some(null) => checked(unsafe { libc::sendfile(null, file.raw(), &mut place, left) }),
            None => {
                let room = left.min(copied.len());
                // SAFETY: the descriptor is open, and the call writes into the room alone.
                checked(unsafe { libc::pread(file.raw(), copied.as_mut_ptr().cast(), room, place) })
            }
        };
        match read {
            Ok(0) => return Ok(()),
            Ok(read) => at += read as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A file system that cannot send.
            Err(error) if error.kind() == ErrorKind::InvalidInput && null.is_some() => null = None,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Has the allocator give back what lies free between pieces in use, if it is glibc's: others that a
/// program may be built with do that by themselves, or never.
fn release_memory() {
    // SAFETY: the name ends in a zero.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"malloc_trim".as_ptr()) };
    if !found.is_null() {
        // SAFETY: of this name the C library has this function.
        let malloc_trim = unsafe {
            std::mem::transmute::<*mut libc::c_void, extern "C" fn(usize) -> libc::c_int>(found)
        };
        malloc_trim(0);
    }
}

/// The null device, opened once. There may be none in a folder that is a process's root.
fn null() -> Option<RawFd> {
    static NULL: OnceLock<Option<File>> = OnceLock::new();
    let null = NULL.get_or_init(|| File::options().write(true).open("/dev/null").ok());
    null.as_ref().map(File::as_raw_fd)
}

/// Rights of a new file and of a new folder, before the process's mask.
const FILE_MODE: libc::mode_t = 0o644;
const FOLDER_MODE: libc::mode_t = 0o755;

/// A call's result, or the error that it left behind as a ring reports one.
fn of(result: i32) -> i32 {
    if result < 0 { last_error() } else { result }
}

fn last_error() -> i32 {
    -Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
