//! The floors: blocking loops on one thread that do the bare system work.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::machine::{SERVER_CORE, pin, thread_cpu};

/// What a floor answers with.
pub const ANSWER_BYTES: usize = 64;

/// Receives requests of `size` bytes, takes their CRC-32C, writes them one after another into a
/// file with `total` bytes of allocated space, and answers each. Serves one connection.
#[must_use]
pub fn append(dir: &Path, size: usize, total: u64) -> SocketAddr {
    append_flushing(dir, size, total, u64::MAX)
}

/// The same, and flushes the file whenever `flush_bytes` more were written, as the broker's logs do
/// on their own so that a kernel in want of memory need not.
#[must_use]
pub fn append_flushing(dir: &Path, size: usize, total: u64, flush_bytes: u64) -> SocketAddr {
    let path = dir.join(format!("floor-{flush_bytes}.log"));
    serve(move |mut stream| {
        let file = fresh(&path, total);
        let mut buffer = vec![0; size];
        let (mut at, mut dirty) = (0, 0);
        while stream.read_exact(&mut buffer).is_ok() {
            let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &buffer);
            std::hint::black_box(crc);
            file.write_all_at(&buffer, at).expect("there is room");
            at += size as u64;
            dirty += size as u64;
            if dirty >= flush_bytes {
                file.sync_data().expect("it can be flushed");
                dirty = 0;
            }
            stream.write_all(&[0; ANSWER_BYTES]).expect("the load reads its answers");
        }
        let _ = fs::remove_file(&path);
    })
}

/// Takes whatever one receive brought of requests of `size` bytes, writes it in one piece, and
/// answers all of them together.
#[must_use]
pub fn append_gathered(dir: &Path, size: usize, total: u64) -> SocketAddr {
    let path = dir.join("floor-gathered.log");
    serve(move |mut stream| {
        let file = fresh(&path, total);
        let mut buffer = vec![0; 64 << 10];
        let answers = vec![0; buffer.len() / size * ANSWER_BYTES + ANSWER_BYTES];
        let (mut at, mut partial) = (0, 0);
        loop {
            let read = match stream.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) => read,
            };
            let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &buffer[..read]);
            std::hint::black_box(crc);
            file.write_all_at(&buffer[..read], at).expect("there is room");
            at += read as u64;
            let whole = (partial + read) / size;
            partial = (partial + read) % size;
            stream.write_all(&answers[..whole * ANSWER_BYTES]).expect("the load reads");
        }
        let _ = fs::remove_file(&path);
    })
}

/// Where a floor's file has room before it is written to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// It is allocated: writing it changes the file's map.
    Allocated,
    /// It was written and flushed before.
    Written,
}

/// Receives requests of `size` bytes, writes each, flushes, and answers. Serves one connection.
#[must_use]
pub fn append_flushed(dir: &Path, size: usize, total: u64, space: Space) -> SocketAddr {
    let path = dir.join("floor-flushed.log");
    let file = fresh(&path, total);
    if space == Space::Written {
        file.write_all_at(&vec![0; usize::try_from(total).expect("small")], 0).expect("room");
    }
    file.sync_all().expect("it can be flushed");
    serve(move |mut stream| {
        let mut buffer = vec![0; size];
        let mut at = 0;
        while stream.read_exact(&mut buffer).is_ok() {
            file.write_all_at(&buffer, at).expect("there is room");
            file.sync_data().expect("it can be flushed");
            at += size as u64;
            stream.write_all(&[0; ANSWER_BYTES]).expect("the load reads its answers");
        }
    })
}

/// Many files that grow together.
pub struct Files {
    files: Vec<File>,
    piece: Vec<u8>,
    at: u64,
}

impl Files {
    /// `count` of them in `folder`; each grows by `size` bytes at a time.
    #[must_use]
    pub fn new(folder: &Path, count: usize, size: usize) -> Files {
        fs::create_dir_all(folder).expect("the folder is writable");
        let file = |number| fresh(&folder.join(format!("{number}.log")), 64 << 10);
        let files: Vec<_> = (0..count).map(file).collect();
        files.iter().for_each(|file| file.sync_all().expect("it can be flushed"));
        Files { files, piece: vec![1; size], at: 0 }
    }

    /// Writes one piece to each and flushes them with one `syncfs`; how long that took.
    pub fn append_and_flush(&mut self) -> Duration {
        let begun = Instant::now();
        for file in &self.files {
            file.write_all_at(&self.piece, self.at).expect("there is room");
        }
        self.at += self.piece.len() as u64;
        // SAFETY: a plain system call on an open descriptor.
        let failed = unsafe { libc::syncfs(self.files[0].as_raw_fd()) };
        assert_eq!(failed, 0, "the file system can be flushed");
        begun.elapsed()
    }
}

/// Writes `count` pieces of `size` bytes one after another, each with a call of its own, as a
/// broker's batches come to lie in a segment: on no boundary of pages.
pub fn pieces(path: &Path, size: usize, count: u64) {
    let file = fresh(path, count * size as u64);
    let piece = vec![1; size];
    for at in 0..count {
        file.write_all_at(&piece, at * size as u64).expect("there is room");
    }
}

/// The same into a new file with allocated space, and flushes each piece before the next; how long
/// that took.
pub fn flush_pieces(path: &Path, size: usize, count: u64) -> Duration {
    let file = fresh(path, count * size as u64);
    let piece = vec![1; size];
    file.sync_all().expect("it can be flushed");
    let begun = Instant::now();
    for at in 0..count {
        file.write_all_at(&piece, at * size as u64).expect("there is room");
        file.sync_data().expect("it can be flushed");
    }
    begun.elapsed()
}

/// Answers each request of [`ANSWER_BYTES`] with `head` bytes from memory and the next `size` bytes
/// of `path`, from the page cache by `sendfile`.
#[must_use]
pub fn send_file(path: &Path, size: usize, head: usize) -> SocketAddr {
    let file = File::open(path).expect("it was written");
    let length = file.metadata().expect("it is there").len();
    serve(move |mut stream| {
        let mut request = [0; ANSWER_BYTES];
        let head = vec![0_u8; head];
        let mut offset: libc::off_t = 0;
        while stream.read_exact(&mut request).is_ok() {
            if u64::try_from(offset).expect("positive") + size as u64 > length {
                offset = 0;
            }
            if !head.is_empty() {
                let fd = stream.as_raw_fd();
                // SAFETY: the descriptor is open and the head outlives the call.
                let sent =
                    unsafe { libc::send(fd, head.as_ptr().cast(), head.len(), libc::MSG_MORE) };
                assert_eq!(usize::try_from(sent), Ok(head.len()), "a head fits");
            }
            let mut left = size;
            while left > 0 {
                // SAFETY: both descriptors are open, and `offset` is ours to be moved.
                let sent = unsafe {
                    libc::sendfile(stream.as_raw_fd(), file.as_raw_fd(), &raw mut offset, left)
                };
                left -= usize::try_from(sent).expect("the file does not shrink");
            }
        }
    })
}

/// Hands each frame of a first connection on to a second one that asks for it with a frame of its own,
/// and answers the first with an empty one; pairs of connections one after another. What end to end
/// costs when nothing is kept: in, out, and the next question.
#[must_use]
pub fn forward() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        pin(SERVER_CORE);
        let next = || {
            let (stream, _) = listener.accept().expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            stream
        };
        loop {
            let (writer, reader) = (next(), next());
            // Ends when either is closed.
            let _ = forward_all(writer, reader);
        }
    });
    address
}

fn forward_all(mut writer: TcpStream, mut reader: TcpStream) -> std::io::Result<()> {
    let mut frame = Vec::new();
    let mut question = [0; 5];
    loop {
        let mut size = [0; 4];
        writer.read_exact(&mut size)?;
        frame.clear();
        frame.extend_from_slice(&size);
        frame.resize(4 + usize::try_from(u32::from_be_bytes(size)).expect("64 bits"), 0);
        writer.read_exact(&mut frame[4..])?;
        writer.write_all(&[0; 4])?;
        reader.read_exact(&mut question)?;
        reader.write_all(&frame)?;
    }
}

/// What a thread spends that only sends [`ANSWER_BYTES`] on each of `many` connections, of each of
/// them. Nothing is near in the caches, as in a broker whose waiting consumers are all told together.
#[must_use]
pub fn tell_each(many: usize) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let told = std::thread::spawn(move || {
        pin(SERVER_CORE);
        let accept = |_| listener.accept().expect("a connection").0;
        let mut streams: Vec<_> = (0..many).map(accept).collect();
        let begun = thread_cpu();
        for stream in &mut streams {
            stream.write_all(&[0; ANSWER_BYTES]).expect("it has room");
        }
        (thread_cpu() - begun, streams)
    });
    let clients: Vec<_> =
        (0..many).map(|_| TcpStream::connect(address).expect("it listens")).collect();
    let (spent, streams) = told.join().expect("it ends");
    drop((clients, streams));
    spent / u32::try_from(many).expect("a few")
}

/// Sends back what one receive brought, on as many connections as come, with one epoll.
#[must_use]
pub fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        pin(SERVER_CORE);
        echo_all(&listener);
    });
    address
}

fn echo_all(listener: &TcpListener) {
    listener.set_nonblocking(true).expect("a socket");
    // SAFETY: plain system calls; every pointer is to a live local for the length of the call.
    let epoll = unsafe { libc::epoll_create1(0) };
    let watch = |fd: i32| {
        let events = libc::EPOLLIN.cast_unsigned();
        let mut event = libc::epoll_event { events, u64: fd.cast_unsigned().into() };
        // SAFETY: as above.
        let failed = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        assert_eq!(failed, 0, "it can be watched");
    };
    watch(listener.as_raw_fd());
    let mut streams = std::collections::BTreeMap::new();
    let mut buffer = vec![0; 64 << 10];
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
    loop {
        // SAFETY: as above; the kernel fills at most the length that is given.
        let ready = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 64, -1) };
        for event in &events[..usize::try_from(ready).unwrap_or(0)] {
            let fd = i32::try_from(event.u64).expect("a descriptor");
            if fd == listener.as_raw_fd() {
                let Ok((stream, _)) = listener.accept() else { continue };
                stream.set_nonblocking(true).expect("a socket");
                stream.set_nodelay(true).expect("a socket");
                watch(stream.as_raw_fd());
                streams.insert(stream.as_raw_fd(), stream);
                continue;
            }
            let Some(stream) = streams.get_mut(&fd) else { continue };
            match stream.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => {
                    streams.remove(&fd);
                }
                Ok(read) => stream.write_all(&buffer[..read]).expect("small answers fit"),
            }
        }
    }
}

fn fresh(path: &Path, total: u64) -> File {
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(true).open(path);
    let file = file.expect("the folder is writable");
    let total = libc::off_t::try_from(total).expect("less than an exabyte");
    // SAFETY: a plain system call on an open descriptor.
    unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, total) };
    file
}

/// Accepts connections one after another on the server's core, and gives each to `body`.
fn serve(body: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        pin(SERVER_CORE);
        for stream in listener.incoming() {
            let stream = stream.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            body(stream);
        }
    });
    address
}
