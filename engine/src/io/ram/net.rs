//! The RAM world's network: one host, stream sockets with bounded buffers.
//!
//! A pipe carries bytes one way. Bytes that came by send file are carried as a reference to the
//! file and are looked up when the peer reads them, as the kernel does it: whoever changes bytes
//! in place after sending them is found out.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Poll, Waker};

use super::core::Core;
use super::{Open, RamFile};
use crate::io::{self, Buf, Error, ErrorKind, Flow, Result};

/// What a pipe holds before its writer must wait.
const PIPE_BYTES_MAX: usize = 64 << 10;
/// Connections that wait to be accepted before connecting takes longer.
const BACKLOG_MAX: usize = 128;

#[derive(Default)]
pub(super) struct Net {
    listeners: BTreeMap<u16, Weak<Mutex<Backlog>>>,
    port_last: u16,
}

struct Backlog {
    address: SocketAddr,
    waiting: VecDeque<Half>,
    sleepers: Vec<Waker>,
}

/// A listening socket of a RAM world.
#[derive(Clone)]
pub struct RamListener {
    backlog: Arc<Mutex<Backlog>>,
    address: SocketAddr,
    halted: Arc<AtomicBool>,
}

/// A connected socket of a RAM world.
#[derive(Clone)]
pub struct RamConnection(Rc<Half>);

/// One end of a connection; gone means closed.
struct Half {
    inbound: Arc<Mutex<Pipe>>,
    outbound: Arc<Mutex<Pipe>>,
    local: SocketAddr,
    peer: SocketAddr,
    halted: Arc<AtomicBool>,
}

#[derive(Default)]
struct Pipe {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// The writer will write no more.
    finished: bool,
    /// The reader is gone.
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum Chunk {
    Bytes(Buf),
    Pages { file: Arc<Open>, offset: u64, len: usize },
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic under this lock")
}

fn dead() -> Error {
    Error::other("this RAM world has crashed")
}

impl Pipe {
    fn put(&mut self, chunk: Chunk, len: usize) {
        self.chunks.push_back(chunk);
        self.bytes += len;
        assert!(self.bytes <= PIPE_BYTES_MAX);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Fills a part of `into`, which is not longer than what there is.
    fn take(&mut self, mut into: &mut [u8]) -> Result<()> {
        self.bytes -= into.len();
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        while !into.is_empty() {
            let chunk = self.chunks.front_mut().expect("`bytes` counts the chunks");
            let (now, empty) = match chunk {
                Chunk::Bytes(buf) => {
                    let now = buf.len().min(into.len());
                    into[..now].copy_from_slice(&buf[..now]);
                    buf.advance(now);
                    (now, buf.is_empty())
                }
                Chunk::Pages { file, offset, len } => {
                    let now = (*len).min(into.len());
                    file.read_pages(&mut into[..now], *offset)?;
                    *offset += now as u64;
                    *len -= now;
                    (now, *len == 0)
                }
            };
            into = &mut into[now..];
            if empty {
                self.chunks.pop_front();
            }
        }
        Ok(())
    }

    fn wake_all(&mut self) {
        for waker in self.reader.take().into_iter().chain(self.writer.take()) {
            waker.wake();
        }
    }
}

impl Half {
    fn close(&self) {
        let mut outbound = lock(&self.outbound);
        outbound.finished = true;
        outbound.wake_all();
        drop(outbound);
        let mut inbound = lock(&self.inbound);
        inbound.broken = true;
        inbound.bytes = 0;
        let dropped = std::mem::take(&mut inbound.chunks);
        inbound.wake_all();
        drop(inbound);
        // Chunks may hold the last clone of a file.
        drop(dropped);
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        self.close();
    }
}

impl Net {
    fn free_port(&mut self) -> u16 {
        self.port_last = self.port_last.max(40_000) + 1;
        self.port_last
    }

    pub(super) fn listen(
        &mut self,
        mut address: SocketAddr,
        halted: Arc<AtomicBool>,
    ) -> Result<RamListener> {
        if address.port() == 0 {
            address.set_port(self.free_port());
        }
        if self.listeners.get(&address.port()).is_some_and(|old| old.strong_count() > 0) {
            return Err(ErrorKind::AddrInUse.into());
        }
        let backlog = Backlog { address, waiting: VecDeque::new(), sleepers: Vec::new() };
        let backlog = Arc::new(Mutex::new(backlog));
        self.listeners.insert(address.port(), Arc::downgrade(&backlog));
        Ok(RamListener { backlog, address, halted })
    }

    /// A connection to `address`; none yet if too many wait to be accepted there.
    pub(super) fn connect(
        &mut self,
        address: SocketAddr,
        halted: &Arc<AtomicBool>,
        waker: &Waker,
    ) -> Poll<Result<RamConnection>> {
        let backlog = self.listeners.get(&address.port()).and_then(Weak::upgrade);
        let Some(backlog) = backlog else {
            return Poll::Ready(Err(ErrorKind::ConnectionRefused.into()));
        };
        let mut backlog = lock(&backlog);
        if !backlog.address.ip().is_unspecified() && backlog.address.ip() != address.ip() {
            return Poll::Ready(Err(ErrorKind::ConnectionRefused.into()));
        }
        if backlog.waiting.len() >= BACKLOG_MAX {
            backlog.sleepers.push(waker.clone());
            return Poll::Pending;
        }
        let own = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.free_port());
        let up = Arc::new(Mutex::new(Pipe::default()));
        let down = Arc::new(Mutex::new(Pipe::default()));
        let half = |inbound: &Arc<Mutex<Pipe>>, outbound: &Arc<Mutex<Pipe>>, local, peer| Half {
            inbound: inbound.clone(),
            outbound: outbound.clone(),
            local,
            peer,
            halted: halted.clone(),
        };
        backlog.waiting.push_back(half(&up, &down, address, own));
        for sleeper in backlog.sleepers.drain(..) {
            sleeper.wake();
        }
        Poll::Ready(Ok(RamConnection(Rc::new(half(&down, &up, own, address)))))
    }
}

impl io::Listener for RamListener {
    type Connection = RamConnection;

    async fn accept(&self) -> Result<RamConnection> {
        Core::current().lag().await;
        std::future::poll_fn(|cx| {
            if self.halted.load(Ordering::Relaxed) {
                return Poll::Ready(Err(dead()));
            }
            let mut backlog = lock(&self.backlog);
            let Some(half) = backlog.waiting.pop_front() else {
                backlog.sleepers.push(cx.waker().clone());
                return Poll::Pending;
            };
            for sleeper in backlog.sleepers.drain(..) {
                sleeper.wake();
            }
            Poll::Ready(Ok(RamConnection(Rc::new(half))))
        })
        .await
    }

    fn local_address(&self) -> SocketAddr {
        self.address
    }
}

impl RamConnection {
    /// Waits until the other side has room and puts some of `len` bytes there: `chunk` makes the
    /// chunk of the length that it is given.
    async fn send(&self, len: usize, chunk: impl FnOnce(usize) -> Chunk) -> Result<usize> {
        let core = Core::current();
        core.lag().await;
        let mut chunk = Some(chunk);
        std::future::poll_fn(|cx| {
            if self.0.halted.load(Ordering::Relaxed) {
                return Poll::Ready(Err(dead()));
            }
            let mut pipe = lock(&self.0.outbound);
            if pipe.finished || pipe.broken {
                return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
            }
            let room = PIPE_BYTES_MAX - pipe.bytes;
            if room == 0 && len > 0 {
                pipe.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let taken = core.shorten(len.min(room));
            let chunk = chunk.take().expect("polled to its end once");
            if taken > 0 {
                pipe.put(chunk(taken), taken);
            }
            Poll::Ready(Ok(taken))
        })
        .await
    }
}

impl io::Connection for RamConnection {
    type File = RamFile;

    async fn read(&self, mut buf: Buf) -> (Result<usize>, Buf) {
        let core = Core::current();
        core.lag().await;
        let result = std::future::poll_fn(|cx| {
            if self.0.halted.load(Ordering::Relaxed) {
                return Poll::Ready(Err(dead()));
            }
            let mut pipe = lock(&self.0.inbound);
            if buf.spare().is_empty() {
                return Poll::Ready(Ok(0));
            }
            if pipe.bytes == 0 && !pipe.finished && !pipe.broken {
                pipe.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let count = core.shorten(pipe.bytes.min(buf.spare().len()));
            Poll::Ready(pipe.take(&mut buf.spare()[..count]).map(|()| count))
        })
        .await;
        if let Ok(count) = result {
            buf.commit(count);
        }
        (result, buf)
    }

    async fn write(&self, buf: Buf, _: Flow) -> (Result<usize>, Buf) {
        let result = self.send(buf.len(), |len| Chunk::Bytes(Buf::from(&buf[..len]))).await;
        (result, buf)
    }

    async fn send_file(&self, file: &RamFile, offset: u64, len: u64, _: Flow) -> Result<usize> {
        let open = file.0.clone();
        let there = open.readable(offset, len)?;
        let chunk = |len| Chunk::Pages { file: open, offset, len };
        self.send(there, chunk).await
    }

    async fn shutdown(&self) -> Result<()> {
        let mut pipe = lock(&self.0.outbound);
        if pipe.broken {
            return Err(ErrorKind::NotConnected.into());
        }
        pipe.finished = true;
        pipe.wake_all();
        Ok(())
    }

    fn close(&self) {
        self.0.close();
    }

    fn peer_address(&self) -> SocketAddr {
        self.0.peer
    }

    fn local_address(&self) -> SocketAddr {
        self.0.local
    }
}
