//! The seam on a Linux kernel: production.
//!
//! One thread per core, pinned, runs a current-thread runtime: tokio-uring's, or where the kernel
//! refuses io_uring tokio's own. Each core has a [`queue`] of operations on files, which a ring or
//! a few threads carry out ([`Carrier`]); the ring accepts and connects too. What is cheaper inline is
//! inline in either case: appends into the page cache, reads out of it, and, when the runtime's
//! reactor says that the socket has bytes or room, receives, sends and send file.
//!
//! [`run`] is the way in. A file may be used from any core's `run`, a connection only from the
//! one that made it.

#![allow(clippy::disallowed_methods, reason = "this is where the seam's time comes from")]

mod descriptor;
mod file;
mod job;
mod net;
mod pool;
mod queue;
mod ring;
mod sendfile;
mod setup;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use file::KernelFile;
pub use net::{KernelConnection, KernelListener};
pub use setup::{Carrier, Unavailable, available, carrier};

use self::job::Job;
use self::pool::Pool;
use self::queue::Queue;
use self::ring::Ring;
use super::chance::Chance;
use super::{Entry, Error, Instant, Io, Open, Result, Space, Wall, when_woken};

/// One core's world. Clones are handles to the same one; it cannot leave its thread.
#[derive(Clone)]
pub struct KernelIo {
    chance: Rc<RefCell<Chance>>,
}

/// Runs `body` on the calling thread as core number `core`, counted from 0, until it is done, and
/// returns what it returned. Tasks that are left then are dropped. Files go by a ring where the
/// kernel has one ([`carrier`]).
///
/// # Errors
/// If the kernel refuses a runtime, threads or the pinning.
///
/// # Panics
/// If this thread runs a core already.
pub fn run<T, F>(core: usize, body: impl FnOnce(KernelIo) -> F) -> Result<T>
where
    F: Future<Output = T>,
{
    run_by(carrier().0, core, body)
}

/// The same with files going by `carrier`.
///
/// # Errors
/// As [`run`]; and if the kernel refuses rings ([`available`] tells why) and one is asked for.
///
/// # Panics
/// As [`run`].
pub fn run_by<T, F>(carrier: Carrier, core: usize, body: impl FnOnce(KernelIo) -> F) -> Result<T>
where
    F: Future<Output = T>,
{
    let refused = |reason| Error::new(super::ErrorKind::Unsupported, reason);
    let carries = match carrier {
        Carrier::Ring => {
            available().map_err(refused)?;
            queue::Carrier::Ring(Box::new(Ring::new(setup::storage_ring()?)))
        }
        Carrier::Pool => queue::Carrier::Pool(Pool::new()?),
    };
    setup::pin(core)?;
    let entered = Entered::new(Queue::new(carries));
    // Dropped before the queue, on a panic too: the tasks leave operations behind, which the ring
    // then waits for.
    let runtime = setup::Runtime::new(carrier)?;
    let io = KernelIo { chance: Rc::new(RefCell::new(Chance::new(seed()?))) };
    let driver = entered.0.clone();
    Ok(runtime.block_on(async move {
        tokio::task::spawn_local(driver.drive());
        // The runtime polls what it was started with whenever any task runs.
        when_woken(body(io)).await
    }))
}

/// Makes a queue the thread's until dropped, and then ends it.
struct Entered(Rc<Queue>);

impl Entered {
    fn new(queue: Rc<Queue>) -> Entered {
        Queue::set_current(Some(queue.clone()));
        Entered(queue)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.finish();
        Queue::set_current(None);
    }
}

fn seed() -> Result<u64> {
    let mut bytes = [0_u8; 8];
    // SAFETY: the buffer has room for as many bytes as are asked for.
    descriptor::checked(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) })?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Polls a task. One that panics takes the process with it: what it owned is in no known state,
/// and the runtime would only drop it.
fn poll_or_abort(task: Pin<&mut impl Future<Output = ()>>, cx: &mut Context<'_>) -> Poll<()> {
    let polled = catch_unwind(AssertUnwindSafe(|| task.poll(cx)));
    polled.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        // Not by the macro: a test would keep the line to itself.
        let _ = writeln!(std::io::stderr(), "a task panicked: {}", message.unwrap_or("?"));
        std::process::abort()
    })
}

impl Io for KernelIo {
    type File = KernelFile;
    type Listener = KernelListener;
    type Connection = KernelConnection;

    fn now(&self) -> Instant {
        // All cores count from the same start, because they compare.
        static START: OnceLock<std::time::Instant> = OnceLock::new();
        let elapsed = START.get_or_init(std::time::Instant::now).elapsed();
        Instant(u64::try_from(elapsed.as_nanos()).expect("less than 584 years"))
    }

    fn wall(&self) -> Wall {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Wall(match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => ms(since),
            Err(error) => -ms(error.duration()),
        })
    }

    fn random(&self) -> u64 {
        self.chance.borrow_mut().bits()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        tokio::time::sleep(duration)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(async move {
            let mut task = pin!(task);
            std::future::poll_fn(|cx| poll_or_abort(task.as_mut(), cx)).await;
        });
    }

    fn release_memory(&self) {
        // Nobody waits for it; it happens all the same.
        drop(Queue::current().start(Job::ReleaseMemory));
    }

    async fn open(&self, path: &Path, how: Open) -> Result<KernelFile> {
        file::open(path, how).await
    }

    async fn remove(&self, path: &Path) -> Result<()> {
        file::remove(path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        file::rename(from, to).await
    }

    /// Blocks the core; there is no entry for it. Meant for the start.
    async fn list(&self, dir: &Path) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.push(Entry { name, is_dir: entry.file_type()?.is_dir() });
        }
        entries.sort();
        Ok(entries)
    }

    async fn make_dir(&self, dir: &Path) -> Result<()> {
        file::make_dir(dir).await
    }

    async fn sync_dir(&self, dir: &Path) -> Result<()> {
        file::sync_dir(dir).await
    }

    async fn lock(&self, path: &Path) -> Result<KernelFile> {
        file::lock(path).await
    }

    async fn space(&self, dir: &Path) -> Result<Space> {
        file::space(dir)
    }

    async fn listen(&self, address: SocketAddr) -> Result<KernelListener> {
        net::listen(address)
    }

    async fn connect(&self, address: SocketAddr) -> Result<KernelConnection> {
        net::connect(address).await
    }
}
