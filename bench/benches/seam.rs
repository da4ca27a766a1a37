//! The seam by itself, row 19: what the calls of [`Io`] cost beside the same system calls made by
//! hand, on the same thread, in turn.
//!
//! `cargo bench -p trialog-bench --bench seam`. Processor time of the thread; every figure is the
//! median over rounds of the ratio of two neighbouring measurements, so that a machine that slows
//! down slows both. Nothing waits here: what is received has been sent by the line before. What
//! waiting costs is the runtime's, and rows 6 and 21 count it.

use std::cell::RefCell;
use std::fs::File as Plain;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use trialog_bench::machine::{SERVER_CORE, load_average, pin, private_network, process_cpu};
use trialog_bench::versus::median;
use trialog_engine::io::kernel::{self, KernelConnection, KernelFile, KernelIo};
use trialog_engine::io::{Buf, Connection, File, Flow, Io, Listener, Open};

/// What is promised.
const BAR: f64 = 1.02;
/// Rounds that count, and repetitions in each.
const ROUNDS: usize = 61;
const TIMES: u64 = 400;
/// The part of a file that is written and read again and again.
const FILE_BYTES: u64 = 8 << 20;
/// How much is looked for in the page cache at once, as [`Connection::send_file`] does.
const LOOK_BYTES: u64 = 2 << 20;
const BUFFER_BYTES: usize = 64 << 10;
const SYS_CACHESTAT: libc::c_long = 451;

fn main() {
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    println!("{}; load average {}", private_network(), load_average());
    pin(SERVER_CORE);
    let dir = tempfile::tempdir().expect("a folder for the data");
    println!("{:44} {:>9} {:>9} {:>7} {:>6}", "19 the seam, µs", "by hand", "Io", "ratio", "bar");
    kernel::run(SERVER_CORE, async |io| rows(&io, dir.path()).await).expect("a core");
    println!("load average {}", load_average());
}

async fn rows(io: &KernelIo, dir: &Path) {
    let path = dir.join("seam");
    let plain = Plain::options().read(true).write(true).create(true).truncate(true).open(&path);
    let mut plain = plain.expect("the folder is writable");
    plain.write_all(&vec![1; usize::try_from(FILE_BYTES).expect("small")]).expect("room");
    let file = io.open(&path, Open::Write).await.expect("it is there");
    let (ours, hand) = (Ours::new(io, file).await, Hand::new(plain));
    for size in [4 << 10, 64 << 10] {
        let name = |what: &str| format!("{what}, {} KiB", size >> 10);
        let (ours, hand) = (&ours, &hand);
        let write = async |at| ours.write(at, size).await;
        row(&name("write to a file"), |at| hand.write(at, size), write).await;
        let read = async |at| ours.read(at, size).await;
        row(&name("read from a file"), |at| hand.read(at, size), read).await;
        let pass = async |_| ours.pass(size).await;
        row(&name("send and receive"), |_| hand.pass(size), pass).await;
        let fetch = async |at| ours.fetch(at, size).await;
        row(&name("send file and receive"), |at| hand.fetch(at, size), fetch).await;
    }
}

/// Does the same by hand and through the seam in turn, and prints how they compare.
async fn row(name: &str, hand: impl Fn(u64), ours: impl AsyncFn(u64)) {
    let place = |turn: u64| (turn * (64 << 10)) % FILE_BYTES;
    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / TIMES as f64;
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let mut by_hand = 0.0;
        // Who goes first changes, too.
        for side in [round % 2, (round + 1) % 2] {
            let before = process_cpu();
            if side == 0 {
                (0..TIMES).for_each(|turn| hand(place(turn)));
                by_hand = each(process_cpu() - before);
            } else {
                for turn in 0..TIMES {
                    ours(place(turn)).await;
                }
                rounds.push((0.0, each(process_cpu() - before)));
            }
        }
        rounds.last_mut().expect("just measured").0 = by_hand;
    }
    // The first warms the caches.
    let rounds = &rounds[1..];
    let of = |figure: fn(&(f64, f64)) -> f64| median(rounds.iter().map(figure).collect());
    let ratio = of(|(hand, ours)| ours / hand);
    let verdict = if ratio <= BAR { "met" } else { "MISSED" };
    let (hand, ours) = (of(|both| both.0), of(|both| both.1));
    println!("{name:44} {hand:>9.2} {ours:>9.2} {ratio:>7.3} {BAR:>6.2} {verdict}");
}

/// The calls of the seam.
struct Ours {
    file: KernelFile,
    near: KernelConnection,
    far: KernelConnection,
    /// Two buffers that are used again and again.
    bufs: RefCell<Vec<Buf>>,
}

impl Ours {
    async fn new(io: &KernelIo, file: KernelFile) -> Ours {
        let listener = io.listen("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
        let near = io.connect(listener.local_address()).await.expect("it listens");
        let far = listener.accept().await.expect("a connection");
        let bufs =
            RefCell::new(vec![Buf::with_capacity(BUFFER_BYTES), Buf::with_capacity(BUFFER_BYTES)]);
        Ours { file, near, far, bufs }
    }

    /// A buffer with `len` bytes of contents and no room.
    fn full(&self, len: usize) -> Buf {
        let mut buf = self.empty(len);
        buf.commit(len);
        buf
    }

    /// One with room for `len` bytes.
    fn empty(&self, len: usize) -> Buf {
        let mut buf = self.bufs.borrow_mut().pop().expect("at most two are in use");
        assert!(buf.reclaim(len), "nobody else has a part of it");
        buf
    }

    fn put_back(&self, buf: Buf) {
        self.bufs.borrow_mut().push(buf);
    }

    async fn write(&self, at: u64, size: usize) {
        let (written, mut bufs) = self.file.write_at(vec![self.full(size)], at).await;
        assert_eq!(written.ok(), Some(size));
        self.put_back(bufs.pop().expect("what went in comes back"));
    }

    async fn read(&self, at: u64, size: usize) {
        let (read, buf) = self.file.read_at(self.empty(size), at).await;
        assert_eq!(read.ok(), Some(size));
        self.put_back(buf);
    }

    async fn pass(&self, size: usize) {
        let (sent, buf) = self.near.write(self.full(size), Flow::Done).await;
        assert_eq!(sent.ok(), Some(size));
        self.receive(size).await;
        self.put_back(buf);
    }

    async fn fetch(&self, at: u64, size: usize) {
        let sent = self.near.send_file(&self.file, at, size as u64, Flow::Done).await;
        assert_eq!(sent.ok(), Some(size));
        self.receive(size).await;
    }

    async fn receive(&self, size: usize) {
        let mut buf = self.empty(size);
        while !buf.spare().is_empty() {
            let (received, returned) = self.far.read(buf).await;
            assert!(received.is_ok_and(|count| count > 0));
            buf = returned;
        }
        self.put_back(buf);
    }
}

/// The same system calls, with nothing around them.
struct Hand {
    file: Plain,
    near: TcpStream,
    far: TcpStream,
    buffer: RefCell<Vec<u8>>,
}

impl Hand {
    fn new(file: Plain) -> Hand {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let near = TcpStream::connect(address).expect("it listens");
        let (far, _) = listener.accept().expect("a connection");
        for socket in [&near, &far] {
            socket.set_nodelay(true).expect("a socket");
            socket.set_nonblocking(true).expect("a socket");
        }
        Hand { file, near, far, buffer: RefCell::new(vec![0; BUFFER_BYTES]) }
    }

    fn write(&self, at: u64, size: usize) {
        let mut buffer = self.buffer.borrow_mut();
        let part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: size };
        // SAFETY: the descriptor is open, and the part is the buffer's.
        let written =
            unsafe { libc::pwritev(self.file.as_raw_fd(), &raw const part, 1, place(at)) };
        assert_eq!(usize::try_from(written), Ok(size));
    }

    fn read(&self, at: u64, size: usize) {
        let mut buffer = self.buffer.borrow_mut();
        let part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: size };
        let (file, flags) = (self.file.as_raw_fd(), libc::RWF_NOWAIT);
        // SAFETY: the descriptor is open, and the part is the buffer's.
        let read = unsafe { libc::preadv2(file, &raw const part, 1, place(at), flags) };
        assert_eq!(usize::try_from(read), Ok(size));
    }

    fn pass(&self, size: usize) {
        let buffer = self.buffer.borrow();
        let (near, flags) = (self.near.as_raw_fd(), libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT);
        // SAFETY: the descriptor is open, and the buffer is that long.
        let sent = unsafe { libc::send(near, buffer.as_ptr().cast(), size, flags) };
        assert_eq!(usize::try_from(sent), Ok(size));
        drop(buffer);
        self.receive(size);
    }

    fn fetch(&self, at: u64, size: usize) {
        if at.is_multiple_of(LOOK_BYTES) {
            let (range, mut stat) = ([at, LOOK_BYTES], [0_u64; 5]);
            let file = self.file.as_raw_fd();
            // SAFETY: both arrays are laid out as the kernel wants them and outlive the call.
            let failed = unsafe { libc::syscall(SYS_CACHESTAT, file, &range, &mut stat, 0) };
            assert_eq!(failed, 0, "Linux 6.5 or newer");
        }
        let mut at = place(at);
        let (near, file) = (self.near.as_raw_fd(), self.file.as_raw_fd());
        // SAFETY: both descriptors are open, and `at` outlives the call.
        let sent = unsafe { libc::sendfile(near, file, &raw mut at, size) };
        assert_eq!(usize::try_from(sent), Ok(size));
        self.receive(size);
    }

    fn receive(&self, size: usize) {
        let mut buffer = self.buffer.borrow_mut();
        let far = self.far.as_raw_fd();
        let mut room = &mut buffer[..size];
        while !room.is_empty() {
            let (start, len) = (room.as_mut_ptr(), room.len());
            // SAFETY: the descriptor is open, and the room is the buffer's.
            let count = unsafe { libc::recv(far, start.cast(), len, libc::MSG_DONTWAIT) };
            // Nothing is there yet, or the sender has ended, which it does not.
            room = &mut room[usize::try_from(count).unwrap_or(0)..];
        }
    }
}

fn place(at: u64) -> libc::off_t {
    libc::off_t::try_from(at).expect("the file is small")
}
