//! Files: what is cheap or must be inline is a plain call, the rest goes to the ring or the pool.
//!
//! * Writes go inline into the page cache: through a ring they would go to a kernel worker and
//!   cost three times as much.
//! * Reads try the page cache inline; only what is not there is somebody else's work.
//! * So are sync, allocate and truncate, and everything that concerns names.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::descriptor::{Close, Descriptor, WritingBack, checked};
use super::job::{Job, TRANSFER_BYTES_MAX};
use super::queue::{Held, Queue};
use crate::io::{self, Buf, Error, ErrorKind, Open, Result, Space};

/// Buffers that one write gathers; more make it a short write.
const GATHER_MAX: usize = 256;

/// An open file. Any core may use it; the calling core's ring or pool does the work.
#[derive(Clone)]
pub struct KernelFile(pub(super) Arc<Descriptor>);

/// Runs one operation to its end.
async fn run(job: Job) -> (Result<u32>, Job) {
    let (result, held) = Queue::current().start(job).await;
    let Held::Job(job) = held else { unreachable!("what went in comes back") };
    (result, job)
}

/// Runs one operation of which nothing but its success is of interest.
async fn run_plain(job: Job) -> Result<()> {
    run(job).await.0.map(drop)
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| ErrorKind::InvalidInput.into())
}

async fn open_as(path: &Path, flags: i32, close: Close) -> Result<Arc<Descriptor>> {
    let job = Job::Open { path: c_path(path)?, flags: flags | libc::O_CLOEXEC };
    let fd = i32::try_from(run(job).await.0?).expect("a descriptor");
    // SAFETY: a successful open returns a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(Arc::new(Descriptor::new(fd, close)))
}

pub(super) async fn open(path: &Path, how: Open) -> Result<KernelFile> {
    let flags = match how {
        Open::Read => libc::O_RDONLY,
        Open::Write => libc::O_RDWR,
        Open::CreateNew => libc::O_RDWR | libc::O_CREAT | libc::O_EXCL,
        Open::Create => libc::O_RDWR | libc::O_CREAT,
    };
    let file = open_as(path, flags, Close::OffCore).await?;
    // The kernel opens a folder for reading without complaint.
    if how == Open::Read && file.stat()?.st_mode & libc::S_IFMT == libc::S_IFDIR {
        return Err(ErrorKind::IsADirectory.into());
    }
    Ok(KernelFile(file))
}

/// The lock belongs to the open file, so it goes with the last clone, and with the process.
pub(super) async fn lock(path: &Path) -> Result<KernelFile> {
    let file = open_as(path, libc::O_RDWR | libc::O_CREAT, Close::Unlock).await?;
    // SAFETY: the descriptor is open. The call does not wait.
    checked(unsafe { libc::flock(file.raw(), libc::LOCK_EX | libc::LOCK_NB) })?;
    Ok(KernelFile(file))
}

pub(super) async fn remove(path: &Path) -> Result<()> {
    match unlink(path, 0).await {
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            unlink(path, libc::AT_REMOVEDIR).await
        }
        result => result,
    }
}

async fn unlink(path: &Path, flags: i32) -> Result<()> {
    run_plain(Job::Unlink { path: c_path(path)?, flags }).await
}

pub(super) async fn rename(from: &Path, to: &Path) -> Result<()> {
    run_plain(Job::Rename { from: c_path(from)?, to: c_path(to)? }).await
}

pub(super) async fn make_dir(dir: &Path) -> Result<()> {
    run_plain(Job::MakeDir { path: c_path(dir)? }).await
}

pub(super) async fn sync_dir(dir: &Path) -> Result<()> {
    let file = open_as(dir, libc::O_RDONLY | libc::O_DIRECTORY, Close::OffCore).await?;
    run_plain(Job::Sync { file }).await
}

/// A plain call: the kernel answers from memory.
pub(super) fn space(dir: &Path) -> Result<Space> {
    let path = c_path(dir)?;
    let mut stat = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends in a zero, and `stat` has room for the answer.
    checked(unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) })?;
    // SAFETY: filled by the call; all zeros would be valid too.
    let stat = unsafe { stat.assume_init() };
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Space { total: bytes(stat.f_blocks), free: bytes(stat.f_bavail) })
}

impl KernelFile {
    /// What the page cache has; `WouldBlock` if that is nothing.
    fn read_cached(&self, buf: &mut Buf, offset: i64) -> Result<usize> {
        let room = buf.spare();
        let part = libc::iovec {
            iov_base: room.as_mut_ptr().cast(),
            iov_len: room.len().min(TRANSFER_BYTES_MAX),
        };
        // SAFETY: the descriptor is open, and `part` is this buffer's own room.
        checked(unsafe { libc::preadv2(self.0.raw(), &part, 1, offset, libc::RWF_NOWAIT) })
    }
}

impl io::File for KernelFile {
    async fn read_at(&self, mut buf: Buf, offset: u64) -> (Result<usize>, Buf) {
        // No file is longer than that.
        let Ok(place) = i64::try_from(offset) else { return (Ok(0), buf) };
        match self.read_cached(&mut buf, place) {
            Ok(count) => {
                buf.commit(count);
                return (Ok(count), buf);
            }
            // Not in the cache, or the file system cannot tell.
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Unsupported) => {}
            Err(error) => return (Err(error), buf),
        }
        let (result, job) = run(Job::Read { file: self.0.clone(), buf, offset }).await;
        let Job::Read { mut buf, .. } = job else { unreachable!("what went in comes back") };
        if let Ok(count) = result {
            buf.commit(count as usize);
        }
        (result.map(|count| count as usize), buf)
    }

    async fn write_at(&self, bufs: Vec<Buf>, offset: u64) -> (Result<usize>, Vec<Buf>) {
        let Ok(place) = i64::try_from(offset) else {
            return (Err(Error::from_raw_os_error(libc::EFBIG)), bufs);
        };
        let mut parts = [const { MaybeUninit::<libc::iovec>::uninit() }; GATHER_MAX];
        let mut count = 0;
        let mut room = TRANSFER_BYTES_MAX;
        for (part, buf) in parts.iter_mut().zip(bufs.iter().filter(|buf| !buf.is_empty())) {
            let len = buf.len().min(room);
            part.write(libc::iovec { iov_base: buf.as_ptr().cast_mut().cast(), iov_len: len });
            count += 1;
            room -= len;
        }
        // SAFETY: the descriptor is open, the first `count` parts were filled in above, and each
        // is the contents of a buffer that lives through the call, which only reads them.
        let result =
            checked(unsafe { libc::pwritev(self.0.raw(), parts.as_ptr().cast(), count, place) });
        (result, bufs)
    }

    async fn sync(&self) -> Result<()> {
        run_plain(Job::SyncData { file: self.0.clone() }).await
    }

    fn write_back(&self) {
        if let Some(writing) = WritingBack::begin(&self.0) {
            // Nobody waits for it; it happens all the same.
            drop(Queue::current().start(Job::WriteBack(writing)));
        }
    }

    async fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        run_plain(Job::Allocate { file: self.0.clone(), offset, len }).await
    }

    async fn truncate(&self, len: u64) -> Result<()> {
        if !Queue::current().has_ring() || super::setup::truncates() {
            return run_plain(Job::Truncate { file: self.0.clone(), len }).await;
        }
        // Before Linux 6.9 there is no such entry.
        let len = i64::try_from(len).map_err(|_| ErrorKind::InvalidInput)?;
        // SAFETY: the descriptor is open.
        checked(unsafe { libc::ftruncate(self.0.raw(), len) }).map(drop)
    }

    async fn length(&self) -> Result<u64> {
        self.0.length()
    }
}
