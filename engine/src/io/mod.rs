//! The seam: everything the engine asks of the outside world, and nothing else.
//!
//! [`Io`] is a cloneable handle to one core's world: time, randomness, tasks, files, sockets. It
//! is the only type parameter in the code base, and it has three implementations: `kernel`
//! (Linux, production), `ram` (tests), and the simulator's in the `sim` package. Nothing above
//! this module knows which one it runs on, and there is no conditional compilation.
//!
//! Rules that hold for all of it:
//!
//! * **Futures belong to a core.** They are not `Send`; a core polls what it created.
//! * **Files and buffers are `Send`; connections are not.** A file is a counted descriptor: it
//!   closes when its last clone is dropped, even when its name was removed long before. The calling
//!   core's ring, or pool of threads, does the work.
//! * **Buffers are owned.** They go in with the call and come back with its result, on failure too.
//! * **A dropped future still happens.** Dropping the future of a call that changes something
//!   (write, sync, truncate, rename ...) does not cancel it: it may take effect at any later
//!   moment, or never. Dropping a `read` of a connection may lose bytes; do not race one.
//! * **A call reports what it did, not what was asked.** Reads and writes may be short; callers
//!   loop ([`fill_at`], [`write_all_at`], [`write_all`], [`send_file_all`]).
//! * **Nothing is durable before a sync says so.** Contents and length of a file: [`File::sync`].
//!   Names (create, rename, remove): [`Io::sync_dir`] of the folder that holds them.
//! * **A failed sync is final.** The kernel may have dropped the dirty pages and will report
//!   success the next time. The caller stops using the file.

pub mod buf;
#[cfg(test)]
mod buf_tests;
mod chance;
#[doc(hidden)]
pub mod conform;
pub mod kernel;
pub mod ram;
pub mod watch;
mod woken;

use std::future::Future;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

// For `buf`, which names its primitives by way of its parent.
use crate::sync;

pub use buf::{Buf, Pool};
pub use std::io::{Error, ErrorKind, Result};
pub use woken::{when_woken, yield_now};

/// Monotonic time of one node, in nanoseconds since an arbitrary start. Never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The time from `earlier` to this, zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `duration` after this, at most the end of time.
    #[must_use]
    pub fn after(self, duration: Duration) -> Instant {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(nanos))
    }
}

/// Wall-clock time in milliseconds since 1970 (UTC). May jump either way at any moment, so
/// nothing's safety may depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub i64);

/// How [`Io::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading; `NotFound` otherwise.
    Read,
    /// An existing file, for reading and writing; `NotFound` otherwise.
    Write,
    /// A file that must not exist yet (`AlreadyExists`), for reading and writing.
    CreateNew,
    /// For reading and writing, created empty if it does not exist.
    Create,
}

/// The bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of them.
    pub total: u64,
    /// Those that can still be written.
    pub free: u64,
}

/// One name in a folder, as [`Io::list`] reports it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name within the folder.
    pub name: String,
    /// Whether it is a folder itself.
    pub is_dir: bool,
}

/// Whether more bytes follow at once, so that the kernel may wait for them and fill a packet
/// (`MSG_MORE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Another write or send file follows immediately.
    More,
    /// This is the end of what there is to say for now.
    Done,
}

/// One core's world. See the module's rules.
pub trait Io: Clone + 'static {
    /// An open file.
    type File: File;
    /// A listening socket.
    type Listener: Listener<Connection = Self::Connection>;
    /// A connected stream socket.
    type Connection: Connection<File = Self::File>;

    /// Monotonic time.
    fn now(&self) -> Instant;

    /// Wall-clock time.
    fn wall(&self) -> Wall;

    /// 64 random bits; not for secrets.
    fn random(&self) -> u64;

    /// Completes once `duration` of monotonic time has passed, or later.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static;

    /// Runs `task` on this core. There is no handle: a task that must be waited for says so
    /// itself. A task that panics takes the process with it.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// Has memory that this process has freed given back to the system, soon and beside the core's
    /// work. It may do nothing; whoever frees memory a second time may wait for it a moment.
    fn release_memory(&self);

    /// Opens a file. A created name is durable only after [`Io::sync_dir`] of its folder.
    fn open(&self, path: &Path, how: Open) -> impl Future<Output = Result<Self::File>>;

    /// Removes a file's name or an empty folder (`DirectoryNotEmpty` otherwise). Open files live
    /// on until their last clone is dropped. Durable after `sync_dir` of the parent; before that a
    /// crash may bring the name back.
    fn remove(&self, path: &Path) -> impl Future<Output = Result<()>>;

    /// Renames a file or a folder, atomically replacing a file of the new name. Durable after
    /// `sync_dir` of the parents; before that a crash leaves either the old state or the new one.
    /// It does **not** make the file's contents durable: sync those first.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = Result<()>>;

    /// The names in a folder, sorted.
    fn list(&self, dir: &Path) -> impl Future<Output = Result<Vec<Entry>>>;

    /// Makes one folder; `AlreadyExists` if there is one, `NotFound` if its parent is missing.
    fn make_dir(&self, dir: &Path) -> impl Future<Output = Result<()>>;

    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> impl Future<Output = Result<()>>;

    /// Opens (creating if need be) and locks a file for this process alone, until the last clone
    /// of the result is dropped or the process ends. `WouldBlock` if another process holds it.
    fn lock(&self, path: &Path) -> impl Future<Output = Result<Self::File>>;

    /// How large the file system of `dir` is, and how much can still be written to it.
    fn space(&self, dir: &Path) -> impl Future<Output = Result<Space>>;

    /// Listens on `address`; port 0 lets the system choose ([`Listener::local_address`] tells).
    fn listen(&self, address: SocketAddr) -> impl Future<Output = Result<Self::Listener>>;

    /// Connects to `address`. May hang as long as the network pleases: bound it with a sleep.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = Result<Self::Connection>>;
}

/// An open file. Clones share one descriptor.
pub trait File: Clone + Send + Sync + 'static {
    /// Reads into the spare room of `buf` (see [`Buf::spare`]), from `offset` on, and returns how
    /// many bytes that added; 0 at or past the end of the file. May be short anywhere.
    fn read_at(&self, buf: Buf, offset: u64) -> impl Future<Output = (Result<usize>, Buf)>;

    /// Writes the bytes of `bufs` one after another from `offset` on, and returns how many bytes
    /// were written; may be short. Visible to every read of this file at once, durable after
    /// [`File::sync`]. `StorageFull` when there is no room.
    fn write_at(
        &self,
        bufs: Vec<Buf>,
        offset: u64,
    ) -> impl Future<Output = (Result<usize>, Vec<Buf>)>;

    /// Makes everything written, allocated and truncated before the call durable, the length
    /// included. Writes that run beside it may be durable or not. A failure is final for the file.
    fn sync(&self) -> impl Future<Output = Result<()>>;

    /// Has the system begin to write to the disk what was written, if it is not at it already. Nobody
    /// waits for it and nothing is promised: a later [`File::sync`] has less to do, and tells of a
    /// failure.
    fn write_back(&self);

    /// Reserves room so that writes in `offset .. offset + len` need none. The file becomes at
    /// least that long; new bytes read as zero. `Unsupported` where the file system cannot.
    fn allocate(&self, offset: u64, len: u64) -> impl Future<Output = Result<()>>;

    /// Cuts or extends (with zeros) the file to `len` bytes.
    fn truncate(&self, len: u64) -> impl Future<Output = Result<()>>;

    /// The file's length in bytes.
    fn length(&self) -> impl Future<Output = Result<u64>>;
}

/// A listening socket. Clones share it, and may be sent to other cores: a connection belongs to
/// the core that accepted it.
pub trait Listener: Clone + Send + 'static {
    /// What [`Listener::accept`] returns.
    type Connection;

    /// The next connection. An error concerns one peer or a passing shortage, never the listener.
    fn accept(&self) -> impl Future<Output = Result<Self::Connection>>;

    /// The address it listens on, with the real port.
    fn local_address(&self) -> SocketAddr;
}

/// A connected stream socket. Clones share it. At most one read and one write or send file may be
/// under way at a time; a read and a write may overlap.
pub trait Connection: Clone + 'static {
    /// What [`Connection::send_file`] takes.
    type File;

    /// Reads into the spare room of `buf` and returns how many bytes that added; 0 when the peer
    /// has finished. May be short. Dropping the future may lose bytes.
    fn read(&self, buf: Buf) -> impl Future<Output = (Result<usize>, Buf)>;

    /// Writes the bytes of `buf` and returns how many were taken; may be short. Taken is not
    /// delivered.
    fn write(&self, buf: Buf, flow: Flow) -> impl Future<Output = (Result<usize>, Buf)>;

    /// Sends `len` bytes of `file` from `offset` on without copying them through user memory, and
    /// returns how many were taken; may be short, and 0 past the end of the file. The peer may
    /// receive the file's bytes as they are at any later moment: bytes that may have been sent
    /// must never change.
    fn send_file(
        &self,
        file: &Self::File,
        offset: u64,
        len: u64,
        flow: Flow,
    ) -> impl Future<Output = Result<usize>>;

    /// Ends this side's half: the peer reads to the end, then sees 0.
    fn shutdown(&self) -> impl Future<Output = Result<()>>;

    /// Ends both halves now. Reads and writes that are under way fail or end. Idempotent.
    fn close(&self);

    /// The peer's address.
    fn peer_address(&self) -> SocketAddr;

    /// This side's address, as the peer reached it.
    fn local_address(&self) -> SocketAddr;
}

/// Whether there is no room: the disk is full, or as much of it as this user may fill.
#[must_use]
pub fn is_full(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Whether there was too little of what comes back by itself: descriptors, or the kernel's memory.
#[must_use]
pub fn is_scarce(error: &Error) -> bool {
    lacks_descriptors(error) || error.raw_os_error() == Some(libc::ENOMEM)
}

/// Whether nothing could be opened for want of descriptors: the process's own, or all of the system.
#[must_use]
pub fn lacks_descriptors(error: &Error) -> bool {
    error.raw_os_error().is_some_and(|code| [libc::EMFILE, libc::ENFILE].contains(&code))
}

/// Writes all of `bufs` at `offset`. The buffers come back advanced past what was written.
pub async fn write_all_at(
    file: &impl File,
    mut bufs: Vec<Buf>,
    mut offset: u64,
) -> (Result<()>, Vec<Buf>) {
    loop {
        bufs.retain(|buf| !buf.is_empty());
        if bufs.is_empty() {
            return (Ok(()), bufs);
        }
        let (result, returned) = file.write_at(bufs, offset).await;
        bufs = returned;
        match result {
            Ok(0) => return (Err(ErrorKind::WriteZero.into()), bufs),
            Ok(mut written) => {
                offset += written as u64;
                for buf in &mut bufs {
                    let taken = written.min(buf.len());
                    buf.advance(taken);
                    written -= taken;
                }
                assert_eq!(written, 0, "a file wrote more than it was given");
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (Err(error), bufs),
        }
    }
}

/// Reads from `offset` on until `buf` has no spare room or the file ends. The buffer's length says
/// how far that was.
pub async fn fill_at(file: &impl File, mut buf: Buf, mut offset: u64) -> (Result<()>, Buf) {
    while !buf.spare().is_empty() {
        let (result, returned) = file.read_at(buf, offset).await;
        buf = returned;
        match result {
            Ok(0) => break,
            Ok(read) => offset += read as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (Err(error), buf),
        }
    }
    (Ok(()), buf)
}

/// Writes all of `buf` to the connection.
pub async fn write_all(connection: &impl Connection, buf: Buf, flow: Flow) -> Result<()> {
    write_out(connection, buf, flow, || {}).await.0
}

/// Writes all of `buf` to the connection, and gives the buffer back for another use. Calls `partly`
/// whenever a part of it was taken and more is left.
pub async fn write_out(
    connection: &impl Connection,
    mut buf: Buf,
    flow: Flow,
    mut partly: impl FnMut(),
) -> (Result<()>, Buf) {
    while !buf.is_empty() {
        let (result, returned) = connection.write(buf, flow).await;
        buf = returned;
        match result {
            Ok(0) => return (Err(ErrorKind::WriteZero.into()), buf),
            Ok(written) => {
                buf.advance(written);
                if !buf.is_empty() {
                    partly();
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (Err(error), buf),
        }
    }
    (Ok(()), buf)
}

/// Sends all of `offset .. offset + len` of `file`. A file that ends sooner is `UnexpectedEof`.
pub async fn send_file_all<C: Connection>(
    connection: &C,
    file: &C::File,
    offset: u64,
    len: u64,
    flow: Flow,
) -> Result<()> {
    send_file_out(connection, file, offset..offset + len, flow, || {}).await
}

/// The same for a range. Calls `partly` whenever a part of it was taken and more is left.
pub async fn send_file_out<C: Connection>(
    connection: &C,
    file: &C::File,
    range: Range<u64>,
    flow: Flow,
    mut partly: impl FnMut(),
) -> Result<()> {
    let (mut offset, end) = (range.start, range.end);
    while offset < end {
        match connection.send_file(file, offset, end - offset, flow).await {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(sent) => {
                offset += sent as u64;
                if offset < end {
                    partly();
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
