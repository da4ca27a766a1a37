//! The seam in RAM, for tests: one core, one disk, one network, virtual time.
//!
//! Everything that happens follows from the seed: who runs next, how long a call takes, where a
//! read or write is short. [`Ram::run`] drives a world until its future is done or the power is
//! cut ([`Ram::cut_power_at`]); [`Ram::crash`] then makes the next world out of what the disk
//! kept. Handles of the old world only return errors from then on.
//!
//! Keeps: nothing unflushed is ever promised. Unlike the simulator it has one node, one clock and
//! no network faults.
//!
//! ```
//! use std::path::Path;
//! use trialog_engine::io::ram::{Loss, Ram};
//! use trialog_engine::io::{Buf, File, Io, Open, write_all_at};
//!
//! let ram = Ram::new(1);
//! ram.block_on(async {
//!     let file = ram.open(Path::new("/a"), Open::Create).await.unwrap();
//!     ram.sync_dir(Path::new("/")).await.unwrap();
//!     write_all_at(&file, vec![Buf::from(&b"kept"[..])], 0).await.0.unwrap();
//!     file.sync().await.unwrap();
//!     write_all_at(&file, vec![Buf::from(&b"lost"[..])], 4).await.0.unwrap();
//! });
//! let ram = ram.crash(Loss::Everything);
//! assert_eq!(ram.peek(Path::new("/a")).unwrap(), b"kept");
//! ```

mod core;
mod disk;
mod image;
mod net;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

pub use self::disk::{Call, Effect, Fault, Loss};
pub use self::image::SECTOR_BYTES;
pub use self::net::{RamConnection, RamListener};
pub use super::chance::Chance;

use self::core::Core;
use self::disk::{Disk, Id};
use self::net::Net;
use super::{Buf, Entry, Instant, Io, Result, Space, Wall};

/// The wall clock's reading when a world begins.
const WALL_MS_START: i64 = 1_700_000_000_000;

/// One world. Clones are handles to the same one. See the module's head.
#[derive(Clone)]
pub struct Ram {
    core: Rc<Core>,
    disk: Arc<Mutex<Disk>>,
    net: Rc<RefCell<Net>>,
    halted: Arc<AtomicBool>,
    wall_offset_ms: Rc<Cell<i64>>,
    memory_releases: Rc<Cell<u64>>,
}

/// An open file of a RAM world.
#[derive(Clone)]
pub struct RamFile(Arc<Open>);

/// What the clones of a file share; gone means closed.
pub(crate) struct Open {
    disk: Arc<Mutex<Disk>>,
    id: Id,
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Read,
    Write,
    Locked,
}

impl Ram {
    /// A new world with an empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Ram {
        let halted = Arc::new(AtomicBool::new(false));
        let mut chance = Chance::new(seed);
        let disk = Disk::new(chance.bits(), halted.clone());
        Ram::over(disk, chance.bits(), halted)
    }

    fn over(disk: Disk, seed: u64, halted: Arc<AtomicBool>) -> Ram {
        Ram {
            core: Core::new(seed, halted.clone()),
            disk: Arc::new(Mutex::new(disk)),
            net: Rc::default(),
            halted,
            wall_offset_ms: Rc::new(Cell::new(WALL_MS_START)),
            memory_releases: Rc::default(),
        }
    }

    fn disk<T>(&self, act: impl FnOnce(&mut Disk) -> T) -> T {
        act(&mut self.disk.lock().expect("no panic under this lock"))
    }

    /// Runs `future` and all that it spawns until it is done. Tasks that are left go on in the
    /// next call.
    ///
    /// # Panics
    /// If the power is cut meanwhile ([`Ram::run`] is for that), or if nothing can ever run again.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.run(future).expect("the power was not to be cut in this run")
    }

    /// Like [`Ram::block_on`], but None if the power was cut.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.core.run(future)
    }

    /// Ends this world and makes the next one out of what its disk kept. Planned faults and power
    /// cuts are forgotten; the clocks go on; the count of operations starts again.
    #[must_use]
    pub fn crash(&self, loss: Loss) -> Ram {
        self.halted.store(true, Ordering::Relaxed);
        let halted = Arc::new(AtomicBool::new(false));
        let disk = self.disk(|disk| disk.crash(loss, halted.clone()));
        self.core.clear();
        let next = Ram::over(disk, self.core.random(), halted);
        // A monotonic clock starts anew with its host; what time it is goes on.
        next.wall_offset_ms.set(self.wall().0 - next.core.now().0 as i64 / 1_000_000);
        next
    }

    /// Cuts the power when the change of the disk with this number is about to happen: it does
    /// not, and [`Ram::run`] returns None at once. Changes are creating opens and locks, removes,
    /// renames, make and sync directory, writes, syncs, allocates and truncates, counted from 1.
    pub fn cut_power_at(&self, operation: u64) {
        self.disk(|disk| disk.cut_power_at(operation));
    }

    /// How many changes of the disk this world has seen.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.disk(|disk| disk.operations())
    }

    /// How often a file of this world was to be written back.
    #[must_use]
    pub fn write_backs(&self) -> u64 {
        self.disk(|disk| disk.write_backs)
    }

    /// How often this world was asked to give memory back.
    #[must_use]
    pub fn memory_releases(&self) -> u64 {
        self.memory_releases.get()
    }

    /// Plans a fault. Several may be planned for one call; each counts for itself.
    pub fn inject(&self, fault: Fault) {
        self.disk(|disk| disk.inject(fault));
    }

    /// How many calls planned faults have hit.
    #[must_use]
    pub fn faults_hit(&self) -> u64 {
        self.disk(|disk| disk.faults_hit())
    }

    /// Bounds what all files may take together, in bytes.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk(|disk| disk.set_capacity(bytes));
    }

    /// Bytes that the disk's files take, what is reserved for them included.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.disk(|disk| disk.used())
    }

    /// Sets the wall clock, forward or back.
    pub fn set_wall(&self, wall: Wall) {
        self.wall_offset_ms.set(wall.0 - self.core.now().0 as i64 / 1_000_000);
    }

    /// A file's present contents.
    ///
    /// # Errors
    /// `NotFound` if there is no such file.
    pub fn peek(&self, path: &Path) -> Result<Vec<u8>> {
        self.disk(|disk| disk.peek(path))
    }

    /// Changes bytes of a file in the cache and on the disk, unnoticed, as rot does.
    ///
    /// # Errors
    /// `NotFound` if there is no such file.
    pub fn poke(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
        self.disk(|disk| disk.poke(path, offset, bytes))
    }

    /// Carries out a call that concerns names.
    async fn call<T: 'static>(
        &self,
        path: &Path,
        act: impl FnOnce(&mut Disk, &Path) -> Result<T> + 'static,
    ) -> Result<T> {
        let disk = self.disk.clone();
        let path = path.to_owned();
        Core::current()
            .perform(move || act(&mut disk.lock().expect("no panic under this lock"), &path))
            .await
    }

    async fn open_as(&self, path: &Path, how: How, open: OpenCall) -> Result<RamFile> {
        let disk = self.disk.clone();
        let path = path.to_owned();
        let effect = move || {
            let id = open(&mut disk.lock().expect("no panic under this lock"), &path)?;
            // Made here, so that a file which nobody waits for any more is closed again.
            Ok(RamFile(Arc::new(Open { disk, id, how })))
        };
        Core::current().perform(effect).await
    }
}

type OpenCall = Box<dyn FnOnce(&mut Disk, &Path) -> Result<Id>>;

impl Io for Ram {
    type File = RamFile;
    type Listener = RamListener;
    type Connection = RamConnection;

    fn now(&self) -> Instant {
        self.core.now()
    }

    fn wall(&self) -> Wall {
        Wall(self.wall_offset_ms.get() + self.core.now().0 as i64 / 1_000_000)
    }

    fn random(&self) -> u64 {
        self.core.random()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        self.core.sleep(duration)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.core.spawn(task);
    }

    fn release_memory(&self) {
        self.memory_releases.set(self.memory_releases.get() + 1);
    }

    async fn open(&self, path: &Path, how: super::Open) -> Result<RamFile> {
        let access = if how == super::Open::Read { How::Read } else { How::Write };
        self.open_as(path, access, Box::new(move |disk, path| disk.open(path, how))).await
    }

    async fn remove(&self, path: &Path) -> Result<()> {
        self.call(path, |disk, path| disk.remove(path)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let to = to.to_owned();
        self.call(from, move |disk, from| disk.rename(from, &to)).await
    }

    async fn list(&self, dir: &Path) -> Result<Vec<Entry>> {
        self.call(dir, |disk, dir| disk.list(dir)).await
    }

    async fn make_dir(&self, dir: &Path) -> Result<()> {
        self.call(dir, |disk, dir| disk.make_dir(dir)).await
    }

    async fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.call(dir, |disk, dir| disk.sync_dir(dir)).await
    }

    async fn lock(&self, path: &Path) -> Result<RamFile> {
        self.open_as(path, How::Locked, Box::new(Disk::lock)).await
    }

    async fn space(&self, dir: &Path) -> Result<Space> {
        self.call(dir, |disk, dir| disk.space(dir)).await
    }

    async fn listen(&self, address: SocketAddr) -> Result<RamListener> {
        self.net.borrow_mut().listen(address, self.halted.clone())
    }

    async fn connect(&self, address: SocketAddr) -> Result<RamConnection> {
        Core::current().lag().await;
        std::future::poll_fn(|cx| {
            if self.halted.load(Ordering::Relaxed) {
                return Poll::Ready(Err(super::Error::other("this RAM world has crashed")));
            }
            self.net.borrow_mut().connect(address, &self.halted, cx.waker())
        })
        .await
    }
}

impl Open {
    fn disk<T>(&self, act: impl FnOnce(&mut Disk, Id) -> T) -> T {
        act(&mut self.disk.lock().expect("no panic under this lock"), self.id)
    }

    fn writable(&self) -> Result<()> {
        match self.how {
            // EBADF, as the kernel says it.
            How::Read => Err(super::Error::from_raw_os_error(libc::EBADF)),
            How::Write | How::Locked => Ok(()),
        }
    }

    fn read_pages(&self, into: &mut [u8], offset: u64) -> Result<()> {
        self.disk(|disk, id| disk.read_pages(id, into, offset))
    }

    /// How many of `len` bytes from `offset` on there are to send.
    fn readable(&self, offset: u64, len: u64) -> Result<usize> {
        let there = self.disk(|disk, id| {
            disk.read(id, &mut [], 0)?;
            disk.length(id)
        })?;
        Ok(usize::try_from(there.saturating_sub(offset).min(len)).unwrap_or(usize::MAX))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // A panic elsewhere must not become a second one here.
        if let Ok(mut disk) = self.disk.lock() {
            disk.release(self.id, self.how == How::Locked);
        }
    }
}

impl RamFile {
    async fn change<T: 'static>(
        &self,
        act: impl FnOnce(&mut Disk, Id) -> Result<T> + 'static,
    ) -> Result<T> {
        self.0.writable()?;
        let open = self.0.clone();
        Core::current().perform(move || open.disk(act)).await
    }
}

impl super::File for RamFile {
    async fn read_at(&self, mut buf: Buf, offset: u64) -> (Result<usize>, Buf) {
        let core = Core::current();
        core.lag().await;
        let room = core.shorten(buf.spare().len());
        let result = self.0.disk(|disk, id| disk.read(id, &mut buf.spare()[..room], offset));
        if let Ok(count) = result {
            buf.commit(count);
        }
        (result, buf)
    }

    async fn write_at(&self, bufs: Vec<Buf>, offset: u64) -> (Result<usize>, Vec<Buf>) {
        let mut bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        bytes.truncate(Core::current().shorten(bytes.len()));
        let result = self.change(move |disk, id| disk.write(id, bytes, offset)).await;
        (result, bufs)
    }

    async fn sync(&self) -> Result<()> {
        // A file opened for reading may be synced, as the kernel allows it.
        let open = self.0.clone();
        Core::current().perform(move || open.disk(Disk::sync)).await
    }

    fn write_back(&self) {
        // Whatever is not flushed may have reached the disk at any crash anyway.
        self.0.disk(|disk, _| disk.write_backs += 1);
    }

    async fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        let end = offset.checked_add(len).filter(|_| len > 0);
        let end = end.ok_or(super::ErrorKind::InvalidInput)?;
        self.change(move |disk, id| disk.allocate(id, end)).await
    }

    async fn truncate(&self, len: u64) -> Result<()> {
        // The kernel has an error of its own for this one.
        self.0.writable().map_err(|_| super::ErrorKind::InvalidInput)?;
        self.change(move |disk, id| disk.truncate(id, len)).await
    }

    async fn length(&self) -> Result<u64> {
        self.0.disk(Disk::tell_length)
    }
}
