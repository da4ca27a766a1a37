//! The simulator's side of the engine's seam.
//!
//! A [`SimIo`] belongs to one core of one process; the cores of a process are tasks of one madsim
//! node. Once the process is over, its calls never complete and dropping what it held does
//! nothing. See `trialog_engine::io` for the contracts; what may be short, late or lost is, with
//! the odds of [`crate::net::Tuning`] and of whatever [troubles](crate::disk::Troubles) the disk has.

use std::future::{Future, pending, poll_fn};
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use trialog_engine::id::CoreId;
use trialog_engine::io::{
    Buf, Connection, Entry, File, Flow, Instant, Io, Listener, Open, Space, Wall,
};

use crate::disk::Ino;
use crate::machine::{Ask, Machine, Reply};
use crate::net::pipe::Piece;
use crate::world::{Process, Sleep, World};

/// One core's world, simulated. See the module's head.
#[derive(Clone)]
pub struct SimIo {
    world: World,
    process: Process,
    core: CoreId,
}

/// An open simulated file.
#[derive(Clone)]
pub struct SimFile {
    descriptor: Arc<Descriptor>,
}

struct Descriptor {
    world: World,
    process: Process,
    ino: Ino,
    /// Whether it was opened for writing.
    writable: bool,
    /// Whether it holds the file's lock.
    locked: bool,
}

/// A simulated listening socket.
#[derive(Clone)]
pub struct SimListener {
    socket: Arc<Listening>,
}

struct Listening {
    world: World,
    process: Process,
    address: SocketAddr,
}

/// A connected simulated socket.
#[derive(Clone)]
pub struct SimConnection {
    socket: Rc<Socket>,
}

struct Socket {
    world: World,
    process: Process,
    id: u64,
    side: usize,
    own: SocketAddr,
    peer: SocketAddr,
}

impl SimIo {
    /// The handle of one core of a process.
    #[must_use]
    pub fn new(world: World, process: Process, core: CoreId) -> Self {
        SimIo { world, process, core }
    }

    /// The same process's handle for another of its cores.
    #[must_use]
    pub fn on_core(&self, core: CoreId) -> Self {
        SimIo { core, ..self.clone() }
    }

    /// Which core it belongs to.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.core
    }

    /// Which process it belongs to.
    #[must_use]
    pub fn process(&self) -> Process {
        self.process
    }

    /// The world it is a part of.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The address of its machine, with a port.
    #[must_use]
    pub fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(Machine::address(self.process.machine), port)
    }

    /// Completes once this process has been told to stop, as by a signal.
    pub async fn told_to_stop(&self) {
        poll_fn(|cx| match self.world.told_to_stop(self.process, cx.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    async fn call(&self, ask: Ask) -> Reply {
        call(&self.world, self.process, ask).await
    }

    async fn name(&self, ask: Ask) -> Result<()> {
        match self.call(ask).await {
            Reply::Done(result) => result,
            other => unreachable!("{other:?}"),
        }
    }

    async fn descriptor(&self, ask: Ask) -> Result<SimFile> {
        let writable = !matches!(ask, Ask::Open(_, Open::Read));
        let locked = matches!(ask, Ask::Lock(_));
        let (world, process) = (self.world.clone(), self.process);
        let file = |ino| SimFile {
            descriptor: Arc::new(Descriptor { world, process, ino, writable, locked }),
        };
        match self.call(ask).await {
            Reply::File(result) => result.map(file),
            other => unreachable!("{other:?}"),
        }
    }
}

/// A call that is under way; dropping it leaves the call to its fate.
struct Call<'w> {
    world: &'w World,
    process: Process,
    id: u64,
    over: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.world.call_drop(self.process, self.id);
        }
    }
}

async fn call(world: &World, process: Process, ask: Ask) -> Reply {
    let Some(id) = world.call_start(process, ask) else { return pending().await };
    let mut call = Call { world, process, id, over: false };
    let reply = poll_fn(|cx| world.call_poll(process, id, cx)).await;
    call.over = true;
    reply
}

impl Io for SimIo {
    type File = SimFile;
    type Listener = SimListener;
    type Connection = SimConnection;

    fn now(&self) -> Instant {
        self.world.monotonic(self.process)
    }

    fn wall(&self) -> Wall {
        self.world.wall(self.process)
    }

    fn random(&self) -> u64 {
        self.world.random(self.process)
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        Sleep::new(self.world.clone(), self.process, duration)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        if self.world.is_alive(self.process) {
            // In a box, or each kind of task would be compiled with all of the executor.
            madsim::task::spawn_local(task.boxed_local());
        }
    }

    /// Memory is the simulator's own.
    fn release_memory(&self) {}

    async fn open(&self, path: &Path, how: Open) -> Result<SimFile> {
        self.descriptor(Ask::Open(path.to_owned(), how)).await
    }

    async fn remove(&self, path: &Path) -> Result<()> {
        self.name(Ask::Remove(path.to_owned())).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.name(Ask::Rename(from.to_owned(), to.to_owned())).await
    }

    async fn list(&self, dir: &Path) -> Result<Vec<Entry>> {
        match self.call(Ask::List(dir.to_owned())).await {
            Reply::Names(result) => result,
            other => unreachable!("{other:?}"),
        }
    }

    async fn make_dir(&self, dir: &Path) -> Result<()> {
        self.name(Ask::MakeDir(dir.to_owned())).await
    }

    async fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.name(Ask::SyncDir(dir.to_owned(), None)).await
    }

    async fn lock(&self, path: &Path) -> Result<SimFile> {
        self.descriptor(Ask::Lock(path.to_owned())).await
    }

    async fn space(&self, dir: &Path) -> Result<Space> {
        match self.call(Ask::Space(dir.to_owned())).await {
            Reply::Space(result) => result,
            other => unreachable!("{other:?}"),
        }
    }

    async fn listen(&self, address: SocketAddr) -> Result<SimListener> {
        if !self.world.is_alive(self.process) {
            return pending().await;
        }
        let Process { machine, number } = self.process;
        let address =
            self.world.around(|net, around| net.listen(around, machine, number, address))?;
        let (world, process) = (self.world.clone(), self.process);
        Ok(SimListener { socket: Arc::new(Listening { world, process, address }) })
    }

    async fn connect(&self, address: SocketAddr) -> Result<SimConnection> {
        if !self.world.is_alive(self.process) {
            return pending().await;
        }
        let Process { machine, number } = self.process;
        let id = self.world.around(|net, around| net.connect(around, machine, number, address));
        let mut attempt = Attempt { io: self, id, over: false };
        let result = poll_fn(|cx| {
            if !self.world.is_alive(self.process) {
                return Poll::Pending;
            }
            match self.world.net(|net| net.connected(id, cx.waker())) {
                Some(result) => Poll::Ready(result),
                None => Poll::Pending,
            }
        })
        .await;
        attempt.over = true;
        Ok(SimConnection::new(self.world.clone(), self.process, result?, 0))
    }
}

/// A wish to connect that is under way.
struct Attempt<'i> {
    io: &'i SimIo,
    id: u64,
    over: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.over && self.io.world.is_alive(self.io.process) {
            self.io.world.around(|net, around| net.give_up(around, self.id));
        }
    }
}

impl File for SimFile {
    async fn read_at(&self, buf: Buf, offset: u64) -> (Result<usize>, Buf) {
        match self.call(|ino| Ask::Read(ino, offset, buf)).await {
            Reply::Read(result, buf) => (result, buf),
            other => unreachable!("{other:?}"),
        }
    }

    async fn write_at(&self, bufs: Vec<Buf>, offset: u64) -> (Result<usize>, Vec<Buf>) {
        if let Err(error) = self.check_writable() {
            return (Err(error), bufs);
        }
        match self.call(|ino| Ask::Write(ino, offset, bufs)).await {
            Reply::Written(result, bufs) => (result, bufs),
            other => unreachable!("{other:?}"),
        }
    }

    async fn sync(&self) -> Result<()> {
        self.change(|ino| Ask::Sync(ino, crate::disk::Flush::default())).await
    }

    fn write_back(&self) {
        // A crash keeps any of what is not flushed anyway.
    }

    async fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.check_writable()?;
        self.change(|ino| Ask::Allocate(ino, offset, len)).await
    }

    async fn truncate(&self, len: u64) -> Result<()> {
        // EINVAL, as the kernel says it of this call alone.
        self.check_writable().map_err(|_| ErrorKind::InvalidInput)?;
        self.change(|ino| Ask::Truncate(ino, len)).await
    }

    async fn length(&self) -> Result<u64> {
        match self.call(Ask::Length).await {
            Reply::Number(result) => result,
            other => unreachable!("{other:?}"),
        }
    }
}

impl SimFile {
    fn check_writable(&self) -> Result<()> {
        // EBADF, as the kernel says it.
        if self.descriptor.writable { Ok(()) } else { Err(Error::from_raw_os_error(9)) }
    }

    async fn call(&self, ask: impl FnOnce(Ino) -> Ask) -> Reply {
        let Descriptor { world, process, ino, .. } = &*self.descriptor;
        call(world, *process, ask(*ino)).await
    }

    async fn change(&self, ask: impl FnOnce(Ino) -> Ask) -> Result<()> {
        match self.call(ask).await {
            Reply::Done(result) => result,
            other => unreachable!("{other:?}"),
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.world.file_close(self.process, self.ino, self.locked);
    }
}

impl Listener for SimListener {
    type Connection = SimConnection;

    async fn accept(&self) -> Result<SimConnection> {
        let Listening { world, process, address } = &*self.socket;
        let id = poll_fn(|cx| {
            if !world.is_alive(*process) {
                return Poll::Pending;
            }
            match world
                .around(|net, around| net.accept(around, process.machine, *address, cx.waker()))
            {
                Some(id) => Poll::Ready(id),
                None => Poll::Pending,
            }
        })
        .await;
        Ok(SimConnection::new(world.clone(), *process, id, 1))
    }

    fn local_address(&self) -> SocketAddr {
        self.socket.address
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if self.world.is_alive(self.process) {
            let Process { machine, number } = self.process;
            self.world.around(|net, around| net.unlisten(around, machine, number, self.address));
        }
    }
}

impl SimConnection {
    fn new(world: World, process: Process, id: u64, side: usize) -> Self {
        let unknown = SocketAddr::new(Machine::address(process.machine), 0);
        let (own, peer) = world.net(|net| net.addresses(id, side)).unwrap_or((unknown, unknown));
        SimConnection { socket: Rc::new(Socket { world, process, id, side, own, peer }) }
    }

    /// How many bytes may be handed over; waits until it is at least one.
    async fn room(&self) -> Result<usize> {
        let Socket { world, process, id, side, .. } = &*self.socket;
        poll_fn(|cx| {
            if !world.is_alive(*process) {
                return Poll::Pending;
            }
            match world.net(|net| net.room(*id, *side, cx.waker())) {
                Some(result) => Poll::Ready(result),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn send(&self, piece: Piece, flow: Flow) {
        let Socket { world, id, side, .. } = &*self.socket;
        world.around(|net, around| net.send(around, *id, *side, piece, flow));
    }
}

impl Connection for SimConnection {
    type File = SimFile;

    async fn read(&self, mut buf: Buf) -> (Result<usize>, Buf) {
        let Socket { world, process, id, side, .. } = &*self.socket;
        let mut read = Read { socket: &self.socket, wanted: buf.spare().len(), waiting: false };
        let result = poll_fn(|cx| {
            if !world.is_alive(*process) {
                return Poll::Pending;
            }
            let outcome =
                world.around(|net, around| net.read(around, *id, *side, buf.spare(), cx.waker()));
            read.waiting = outcome.is_none();
            outcome.map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        if let Ok(count) = result {
            buf.commit(count);
        }
        (result, buf)
    }

    async fn write(&self, buf: Buf, flow: Flow) -> (Result<usize>, Buf) {
        if buf.is_empty() {
            return (Ok(0), buf);
        }
        match self.room().await {
            Ok(room) => {
                let count = room.min(buf.len());
                self.send(Piece::Bytes(buf[..count].to_vec()), flow);
                (Ok(count), buf)
            }
            Err(error) => (Err(error), buf),
        }
    }

    async fn send_file(&self, file: &SimFile, offset: u64, len: u64, flow: Flow) -> Result<usize> {
        let Descriptor { world, process, ino, .. } = &*file.descriptor;
        assert_eq!(*process, self.socket.process, "a file of another process");
        // The page cache, or the disk behind it, has to have the bytes: that takes time and may
        // fail, as a read does.
        let probe = usize::from(len > 0);
        let read = call(world, *process, Ask::Read(*ino, offset, Buf::with_capacity(probe))).await;
        match read {
            Reply::Read(Ok(0), _) => return Ok(0),
            Reply::Read(Ok(_), _) => {}
            Reply::Read(Err(error), _) => return Err(error),
            other => unreachable!("{other:?}"),
        }
        let room = self.room().await?;
        let left = world.machine(process.machine, |machine| {
            let there = machine.disk.length(*ino).saturating_sub(offset).min(len);
            machine.disk.readable(*ino, offset, there)
        });
        let count = room.min(usize::try_from(left).unwrap_or(usize::MAX));
        if count > 0 {
            let (machine, ino) = (process.machine, *ino);
            let piece = world.machine(machine, |Machine { disk, .. }| {
                if let Some(bytes) = disk.send_astray(ino, offset, count) {
                    return Piece::Bytes(bytes);
                }
                disk.use_file(ino);
                Piece::File { machine, ino, offset, len: count }
            });
            self.send(piece, flow);
        }
        Ok(count)
    }

    async fn shutdown(&self) -> Result<()> {
        let Socket { world, process, id, side, .. } = &*self.socket;
        if !world.is_alive(*process) {
            return pending().await;
        }
        world.around(|net, around| net.shutdown(around, *id, *side))
    }

    fn close(&self) {
        self.socket.close();
    }

    fn peer_address(&self) -> SocketAddr {
        self.socket.peer
    }

    fn local_address(&self) -> SocketAddr {
        self.socket.own
    }
}

impl Socket {
    fn close(&self) {
        if self.world.is_alive(self.process) {
            self.world.around(|net, around| net.close(around, self.id, self.side));
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close();
    }
}

/// A read that is under way. Dropped while it waits, it may swallow bytes.
struct Read<'s> {
    socket: &'s Socket,
    wanted: usize,
    waiting: bool,
}

impl Drop for Read<'_> {
    fn drop(&mut self) {
        let Socket { world, process, id, side, .. } = self.socket;
        if self.waiting && world.is_alive(*process) {
            world.net(|net| net.read_dropped(*id, *side, self.wanted));
        }
    }
}
