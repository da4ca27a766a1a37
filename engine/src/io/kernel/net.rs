//! Sockets: receiving and sending inline whenever the reactor says that there is something to do,
//! accepting and connecting through the storage ring (which loses no peer when it is not waited
//! for any more), or by readiness too where there is no ring.
//!
//! A receive through a ring costs an entry, a poll, and a signal to the thread on top of the copy;
//! with a readiness that is remembered, one system call per receive is all, and a dropped read
//! loses no bytes (`docs/adr/0006-sockets-by-readiness.md`).
//!
//! All sockets are non-blocking and send without delay; what must be gathered is marked with the
//! more-data flag instead.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{Either, select};
use io_uring::{opcode, types};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::descriptor::checked;
use super::file::KernelFile;
use super::queue::{Held, Queue};
use super::sendfile::{self, Ahead};
use crate::io::{self, Buf, ErrorKind, Flow, Result};
use crate::limit::{LISTEN_BACKLOG, UNSENT_BYTES_MAX};

/// How long accepting rests when descriptors or memory are short.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Every socket's.
const PEER_FLAGS: i32 = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;

/// What one receive asks for at most, in bytes.
const RECEIVE_BYTES_MAX: usize = 1 << 30;

/// How many bytes a core moves inline before everybody else has a turn.
const TURN_BYTES: usize = 1 << 20;

/// What one call counts at least, in bytes: small ones take their time too.
const CALL_BYTES: usize = 8 << 10;

thread_local! {
    static MOVED: Cell<usize> = const { Cell::new(0) };
}

/// A listening socket. All cores accept from the one descriptor: a second broker on the same port
/// fails with `AddrInUse` instead of taking a share of the connections.
#[derive(Clone)]
pub struct KernelListener(Arc<Listening>);

/// What the clones of a listener share.
pub(super) struct Listening {
    socket: TcpListener,
    address: SocketAddr,
    /// Peers that were accepted when nobody waited for them any more.
    put_back: Mutex<VecDeque<OwnedFd>>,
    was_put_back: Notify,
}

/// A connected socket. It lives on the core that made it.
#[derive(Clone)]
pub struct KernelConnection(Rc<End>);

/// What the clones of a connection share.
struct End {
    socket: AsyncFd<TcpStream>,
    local: SocketAddr,
    peer: SocketAddr,
    ahead: Ahead,
}

impl Listening {
    pub(super) fn put_back(&self, peer: OwnedFd) {
        self.put_back.lock().expect("no panic under this lock").push_back(peer);
        self.was_put_back.notify_one();
    }
}

pub(super) fn listen(address: SocketAddr) -> Result<KernelListener> {
    let socket = TcpListener::bind(address)?;
    // SAFETY: the descriptor is open. Listening again only changes how many may wait.
    checked(unsafe { libc::listen(socket.as_raw_fd(), LISTEN_BACKLOG) })?;
    // A ring would report at once that nobody is there yet.
    socket.set_nonblocking(!Queue::current().has_ring())?;
    let address = socket.local_addr()?;
    let (put_back, was_put_back) = (Mutex::default(), Notify::new());
    Ok(KernelListener(Arc::new(Listening { socket, address, put_back, was_put_back })))
}

impl io::Listener for KernelListener {
    type Connection = KernelConnection;

    async fn accept(&self) -> Result<KernelConnection> {
        loop {
            let waiting = self.0.put_back.lock().expect("no panic under this lock").pop_front();
            let peer = match waiting {
                Some(peer) => Ok(peer),
                // Peers that were there before come first. An entry that is dropped here puts its
                // peer back too.
                None => match select(pin!(self.0.was_put_back.notified()), pin!(self.next())).await
                {
                    Either::Left(_) => continue,
                    Either::Right((peer, _)) => peer,
                },
            };
            match peer.and_then(KernelConnection::over) {
                Ok(connection) => return Ok(connection),
                Err(error) => match error.raw_os_error() {
                    // The peer went away meanwhile, or nothing happened at all.
                    Some(
                        libc::ECONNABORTED
                        | libc::ECONNRESET
                        | libc::ENOTCONN
                        | libc::EINVAL
                        | libc::EINTR
                        | libc::EAGAIN
                        | libc::ECANCELED,
                    ) => {}
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                        tokio::time::sleep(ACCEPT_REST).await;
                        return Err(error);
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    fn local_address(&self) -> SocketAddr {
        self.0.address
    }
}

impl KernelListener {
    async fn next(&self) -> Result<OwnedFd> {
        let queue = Queue::current();
        if !queue.has_ring() {
            return self.next_ready().await;
        }
        let fd = types::Fd(self.0.socket.as_raw_fd());
        let entry = opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut())
            .flags(PEER_FLAGS)
            .build();
        // SAFETY: no pointers; the listening socket goes along.
        let operation = unsafe { queue.start_entry(entry, Held::Accept(self.0.clone())) };
        let peer = i32::try_from(operation.await.0?).expect("a descriptor");
        // SAFETY: a successful accept returns a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(peer) })
    }

    /// The next peer without a ring. It is accepted only when somebody waits for it.
    async fn next_ready(&self) -> Result<OwnedFd> {
        // Each core and each waiting task watches a descriptor of its own.
        let socket = self.0.socket.try_clone()?;
        let socket = watch(socket, Interest::READABLE)?;
        loop {
            let mut ready = socket.readable().await?;
            // SAFETY: the descriptor is open, and no address is asked for.
            let peer = checked(unsafe {
                let (address, len) = (std::ptr::null_mut(), std::ptr::null_mut());
                libc::accept4(socket.as_raw_fd(), address, len, PEER_FLAGS)
            });
            match peer {
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Err(error),
                Ok(peer) => {
                    let peer = i32::try_from(peer).expect("a descriptor");
                    // SAFETY: a successful accept returns a new descriptor that nobody else owns.
                    return Ok(unsafe { OwnedFd::from_raw_fd(peer) });
                }
            }
        }
    }
}

pub(super) async fn connect(address: SocketAddr) -> Result<KernelConnection> {
    let domain = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(domain, libc::SOCK_STREAM | PEER_FLAGS, 0) };
    checked(fd)?;
    // SAFETY: a successful call returns a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let (raw, len) = raw_address(address);
    let queue = Queue::current();
    if !queue.has_ring() {
        return connect_ready(socket, &raw, len).await;
    }
    let raw = Box::new(raw);
    let pointer = (&raw const *raw).cast();
    let entry = opcode::Connect::new(types::Fd(fd), pointer, len).build();
    // SAFETY: the address is on the heap, and it and the socket go along.
    let operation = unsafe { queue.start_entry(entry, Held::Connect(socket, raw)) };
    let (result, held) = operation.await;
    let Held::Connect(socket, _) = held else { unreachable!("what went in comes back") };
    result?;
    KernelConnection::over(socket)
}

/// Connects without a ring.
async fn connect_ready(
    socket: OwnedFd,
    raw: &libc::sockaddr_storage,
    len: libc::socklen_t,
) -> Result<KernelConnection> {
    // SAFETY: the descriptor is open, and the address lives through the call.
    let begun = unsafe { libc::connect(socket.as_raw_fd(), (&raw const *raw).cast(), len) };
    match checked(begun) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
        Ok(_) => return KernelConnection::over(socket),
    }
    let socket = watch(TcpStream::from(socket), Interest::WRITABLE)?;
    loop {
        let mut ready = socket.writable().await?;
        if let Some(error) = socket.get_ref().take_error()? {
            return Err(error);
        }
        match socket.get_ref().peer_addr() {
            // The readiness was one of before.
            Err(error) if error.kind() == ErrorKind::NotConnected => ready.clear_ready(),
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    KernelConnection::over(OwnedFd::from(socket.into_inner()))
}

/// Has the core's reactor watch a socket.
fn watch<S: AsRawFd>(socket: S, interest: Interest) -> Result<AsyncFd<S>> {
    // SAFETY: only the sockets of this file come here, whose descriptors stay open and the same
    // for as long as they live.
    unsafe { AsyncFd::register_with_interest(socket, interest) }.map_err(io::Error::from)
}

fn raw_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    let mut storage = std::mem::MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let len = match address {
        SocketAddr::V4(address) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is made to hold any kind of address.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: the storage is made to hold any kind of address.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in6>().write(raw) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    // SAFETY: zeroed, then partly overwritten with valid values.
    (unsafe { storage.assume_init() }, libc::socklen_t::try_from(len).expect("small"))
}

/// The kernel takes no more of what the socket sends as soon as so much of it has not left for the peer.
///
/// What is on its way to a fast peer may be as much as it likes, but one that does not read makes the system
/// keep little: else a few hundred of them would use up all memory for TCP (`net.ipv4.tcp_mem`), from where on
/// the kernel drops what others send.
fn bound_unsent(socket: &TcpStream) -> Result<()> {
    let bytes = UNSENT_BYTES_MAX;
    let len = libc::socklen_t::try_from(size_of_val(&bytes)).expect("small");
    // SAFETY: the descriptor is open, and the call reads the number alone.
    checked(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const bytes).cast(),
            len,
        )
    })?;
    Ok(())
}

/// Lets the others have a turn once enough was moved inline. Before the next operation, not after
/// the last: what was done must be reported.
async fn take_turns() {
    if MOVED.get() >= TURN_BYTES {
        MOVED.set(0);
        tokio::task::yield_now().await;
    }
}

/// A listener on `[::]` sees peers of IPv4 as `::ffff:192.0.2.1`; nobody else calls them that.
fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        // With its scope.
        IpAddr::V6(_) => address,
    }
}

fn moved(count: usize) {
    MOVED.set(MOVED.get() + count.max(CALL_BYTES));
}

impl KernelConnection {
    fn over(fd: OwnedFd) -> Result<KernelConnection> {
        let socket = TcpStream::from(fd);
        socket.set_nodelay(true)?;
        bound_unsent(&socket)?;
        let peer = plain(socket.peer_addr()?);
        let local = plain(socket.local_addr()?);
        let socket = watch(socket, Interest::READABLE | Interest::WRITABLE)?;
        Ok(KernelConnection(Rc::new(End { socket, local, peer, ahead: Ahead::default() })))
    }

    fn raw(&self) -> RawFd {
        self.0.socket.as_raw_fd()
    }

    /// Repeats `attempt` until the socket has room for some of it.
    async fn when_writable(&self, attempt: impl Fn() -> Result<usize>) -> Result<usize> {
        loop {
            // One writes and one reads at a time, so there is one waker to keep for each.
            let mut ready = poll_fn(|cx| self.0.socket.poll_write_ready(cx)).await?;
            match attempt() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready.clear_ready(),
                Ok(count) => {
                    moved(count);
                    return Ok(count);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Receives into `room` once there is something.
    async fn receive(&self, room: &mut [u8]) -> Result<usize> {
        let len = room.len().min(RECEIVE_BYTES_MAX);
        loop {
            let mut ready = poll_fn(|cx| self.0.socket.poll_read_ready(cx)).await?;
            // SAFETY: the descriptor is open, and the call writes into the room alone.
            let result = checked(unsafe {
                libc::recv(self.raw(), room.as_mut_ptr().cast(), len, libc::MSG_DONTWAIT)
            });
            match result {
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready.clear_ready(),
                Ok(count) => {
                    // There was less than the room: what comes next announces itself. An end that
                    // was announced stays so.
                    if count < len {
                        ready.clear_ready();
                    }
                    moved(count);
                    return Ok(count);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl io::Connection for KernelConnection {
    type File = KernelFile;

    async fn read(&self, mut buf: Buf) -> (Result<usize>, Buf) {
        if buf.spare().is_empty() {
            return (Ok(0), buf);
        }
        take_turns().await;
        let result = self.receive(buf.spare()).await;
        if let Ok(count) = result {
            buf.commit(count);
        }
        (result, buf)
    }

    async fn write(&self, buf: Buf, flow: Flow) -> (Result<usize>, Buf) {
        let more = if flow == Flow::More { libc::MSG_MORE } else { 0 };
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | more;
        take_turns().await;
        // SAFETY: the descriptor is open, and the call only reads the buffer's contents.
        let send =
            || checked(unsafe { libc::send(self.raw(), buf.as_ptr().cast(), buf.len(), flags) });
        let result = self.when_writable(send).await;
        (result, buf)
    }

    async fn send_file(&self, file: &KernelFile, offset: u64, len: u64, _: Flow) -> Result<usize> {
        take_turns().await;
        // No file is longer than that.
        let Some(room) = i64::MAX.unsigned_abs().checked_sub(offset) else { return Ok(0) };
        // The kernel marks the last part of what one call sends as the end of a run by itself.
        let len = len.min(room).min(sendfile::STEP_BYTES_MAX);
        if !sendfile::is_warm(&file.0, &self.0.ahead, offset, len) {
            sendfile::warm(&file.0, &self.0.ahead, offset, len).await?;
        }
        let socket = self.0.socket.get_ref();
        self.when_writable(|| sendfile::step(socket, &file.0, offset, len)).await
    }

    async fn shutdown(&self) -> Result<()> {
        self.0.socket.get_ref().shutdown(Shutdown::Write)
    }

    fn close(&self) {
        // A peer that is gone already is as closed as can be.
        let _ = self.0.socket.get_ref().shutdown(Shutdown::Both);
    }

    fn peer_address(&self) -> SocketAddr {
        self.0.peer
    }

    fn local_address(&self) -> SocketAddr {
        self.0.local
    }
}
