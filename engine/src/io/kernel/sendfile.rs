//! From the page cache to a socket without a copy through user memory, and without ever letting
//! the core wait for a disk.
//!
//! One step sends what the socket takes at once. Before it, the range is looked up in the page
//! cache; what is not there is read ahead off the core first, because the system call itself
//! would stop the whole core for it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::descriptor::{Descriptor, checked};
use super::job::Job;
use super::queue::{Operation, Queue};
use crate::io::{ErrorKind, Result};

/// What one step sends at most, in bytes.
pub(super) const STEP_BYTES_MAX: u64 = 512 << 10;

/// What one thread reads ahead at a time, in bytes.
const PIECE_BYTES: u64 = 1 << 20;

/// How far ahead of the reader a cold file is read, in bytes: while the client takes what it was
/// sent, the disk goes on.
const AHEAD_BYTES: u64 = 4 << 20;

/// The distance of the places of which a byte is asked for to see whether a range is there, in bytes.
/// The kernel reads ahead in such pieces at least.
const PROBE_BYTES: u64 = 64 << 10;

/// How much is looked up at once where a reader goes on and on, in bytes.
const WIDE_BYTES: u64 = 2 << 20;

/// How long what was found in the page cache counts as being there. The kernel drops first what
/// nobody has used for long; where it does drop a page so soon, one send waits for the disk.
const SEEN_FOR: Duration = Duration::from_millis(20);

const PAGE_BYTES: u64 = 4096;

const SYS_CACHESTAT: libc::c_long = 451;

#[repr(C)]
struct CacheRange {
    offset: u64,
    len: u64,
}

#[repr(C)]
#[derive(Default)]
struct CacheStat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// Sends some of the range, without waiting; `WouldBlock` if the socket is full.
pub(super) fn step(socket: &TcpStream, file: &Descriptor, offset: u64, len: u64) -> Result<usize> {
    let Ok(mut place) = i64::try_from(offset) else { return Ok(0) };
    let len = usize::try_from(len).expect("bounded by the caller");
    // SAFETY: both descriptors are open, and `place` outlives the call.
    checked(unsafe { libc::sendfile(socket.as_raw_fd(), file.raw(), &mut place, len) })
}

/// What is known of the files that are sent to one connection.
#[derive(Default)]
pub(super) struct Ahead {
    run: RefCell<Option<Run>>,
    seen: Cell<Option<Seen>>,
}

/// The part of a cold file that is being read for a connection's sake. It counts as cached as soon
/// as its pages are there, before their contents are, so it is not looked up but waited for.
struct Run {
    /// The file's address. Another file that comes to lie there is read ahead once too often.
    file: usize,
    /// Where the reader is.
    from: u64,
    until: u64,
    /// What is on its way, in order, with the beginnings.
    pieces: VecDeque<(u64, Operation)>,
}

/// A range that was found in the page cache.
#[derive(Clone, Copy)]
struct Seen {
    /// The file's address, as in [`Run`].
    file: usize,
    from: u64,
    until: u64,
    at: Instant,
    /// From where a look at more than was to be sent was of no use. The next such look is worth its
    /// while [`WIDE_BYTES`] further on, or where the reader has gone back.
    narrow: Option<u64>,
}

impl Ahead {
    fn holds(&self, file: &Arc<Descriptor>, offset: u64) -> bool {
        self.run.borrow().as_ref().is_some_and(|run| run.holds(file, offset))
    }

    /// Whether the range is in the page cache, or was a moment ago. One that continues another is
    /// looked at together with what follows it, unless that was of no use just now.
    fn sees(&self, file: &Arc<Descriptor>, offset: u64, len: u64) -> bool {
        let address = Arc::as_ptr(file).addr();
        let seen = self.seen.get().filter(|seen| seen.file == address);
        let end = offset.saturating_add(len);
        if let Some(Seen { from, until, at, .. }) = seen
            && from <= offset
            && end <= until
            && at.elapsed() < SEEN_FOR
        {
            return true;
        }
        let mut narrow = seen.and_then(|seen| seen.narrow);
        let continues = seen.is_some_and(|seen| (seen.from..=seen.until).contains(&offset));
        let worth = narrow.is_none_or(|at| !(at..at.saturating_add(WIDE_BYTES)).contains(&offset));
        let look = continues && worth && len < WIDE_BYTES;
        let wide = look && is_there(file, offset, WIDE_BYTES);
        if look {
            narrow = Some(offset).filter(|_| !wide);
        }
        if !wide && !is_there(file, offset, len) {
            self.seen.set(None);
            return false;
        }
        let until = if wide { offset + WIDE_BYTES } else { end };
        let at = Instant::now();
        self.seen.set(Some(Seen { file: address, from: offset, until, at, narrow }));
        true
    }
}

/// Whether the range can be sent at once. At most a system call or two, and none of them blocks.
pub(super) fn is_warm(file: &Arc<Descriptor>, ahead: &Ahead, offset: u64, len: u64) -> bool {
    len == 0 || (!ahead.holds(file, offset) && ahead.sees(file, offset, len))
}

impl Run {
    fn new(file: &Arc<Descriptor>, from: u64) -> Run {
        let (file, pieces) = (Arc::as_ptr(file).addr(), VecDeque::new());
        Run { file, from, until: from, pieces }
    }

    fn holds(&self, file: &Arc<Descriptor>, offset: u64) -> bool {
        self.file == Arc::as_ptr(file).addr() && (self.from..self.until).contains(&offset)
    }

    /// Has the next piece read.
    fn read(&mut self, file: &Arc<Descriptor>, until: u64) {
        let (offset, len) = (self.until, until - self.until);
        let job = Job::Load { file: file.clone(), offset, len };
        self.pieces.push_back((offset, Queue::current().start(job)));
        self.until = until;
    }
}

/// Sees to it that a range that is not warm is in the page cache: has it read, and what follows in
/// the file beside the sending.
pub(super) async fn warm(
    file: &Arc<Descriptor>,
    ahead: &Ahead,
    offset: u64,
    len: u64,
) -> Result<()> {
    // Beyond the end there is nothing to warm.
    let end = file.length()?;
    let stop = end.min(offset.saturating_add(len)).max(offset);
    // Out of its place: what is dropped while it waits, or fails, leaves nothing that others trust.
    let run = ahead.run.take().filter(|run| run.holds(file, offset));
    let mut run = run.unwrap_or_else(|| Run::new(file, offset));
    if run.until < stop && !has_arrived_all(file, run.until, stop) {
        // No more than what is waited for.
        run.read(file, stop);
    }
    // It may be there although the look did not see it.
    run.until = run.until.max(stop);
    while run.until < end.min(stop + AHEAD_BYTES) {
        let (from, until) = (run.until, end.min(run.until + PIECE_BYTES));
        if is_there(file, from, until - from) {
            break;
        }
        run.read(file, until);
    }
    while run.pieces.front().is_some_and(|(from, _)| *from < stop)
        && let Some((_, piece)) = run.pieces.pop_front()
    {
        piece.await.0?;
    }
    run.from = stop;
    ahead.run.replace(Some(run));
    Ok(())
}

/// Whether the range can be sent without waiting. Pages that somebody has asked for count as cached
/// before their contents are there (a kernel may read megabytes ahead), so the last of each piece
/// is tried.
fn is_there(file: &Descriptor, offset: u64, len: u64) -> bool {
    is_cached(file, offset, len)
        && places(offset, offset + len, PIECE_BYTES).all(|at| !is_on_its_way(file, at))
}

fn is_cached(file: &Descriptor, offset: u64, len: u64) -> bool {
    let range = CacheRange { offset, len };
    let mut stat = CacheStat::default();
    // SAFETY: both structures are laid out as the kernel wants them and outlive the call.
    let result = unsafe { libc::syscall(SYS_CACHESTAT, file.raw(), &range, &mut stat, 0) };
    if result == 0 {
        let pages = (offset + len).div_ceil(PAGE_BYTES) - offset / PAGE_BYTES;
        return stat.cached >= pages;
    }
    // Before Linux 6.5 there is no such call: ask for the first and the last byte instead, which say
    // too little about a wide range.
    len <= STEP_BYTES_MAX && [offset, offset + len - 1].into_iter().all(|at| has_arrived(file, at))
}

/// Whether, by a few bytes of it, the range can be read without waiting.
fn has_arrived_all(file: &Descriptor, from: u64, until: u64) -> bool {
    places(from, until, PROBE_BYTES).all(|at| has_arrived(file, at))
}

/// The last byte of each `step` of a range that is not empty.
fn places(from: u64, until: u64, step: u64) -> impl Iterator<Item = u64> {
    let step_size = usize::try_from(step).expect("64 bits");
    (from + step..until).step_by(step_size).chain([until]).map(|end| end - 1)
}

/// Whether the byte can be read without waiting. If it is not even asked for, it is now.
fn has_arrived(file: &Descriptor, at: u64) -> bool {
    matches!(try_byte(file, at), Ok(1))
}

/// Whether one would have to wait for the byte, as far as the file system can tell.
fn is_on_its_way(file: &Descriptor, at: u64) -> bool {
    matches!(try_byte(file, at), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

fn try_byte(file: &Descriptor, at: u64) -> Result<usize> {
    let mut byte = 0_u8;
    let part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    // SAFETY: the descriptor is open, and `byte` outlives the call.
    checked(unsafe { libc::preadv2(file.raw(), &part, 1, at, libc::RWF_NOWAIT) })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::OwnedFd;

    use super::super::descriptor::Close;
    use super::super::job;
    use super::*;

    /// A file of so many bytes of which none is in the page cache, where that can be.
    fn cold(len: u64) -> Option<Arc<Descriptor>> {
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR"))
            .or_else(|_| tempfile::tempfile())
            .expect("a file");
        file.write_all(&vec![1; usize::try_from(len).expect("small")]).expect("write");
        file.sync_all().expect("sync");
        let file = Arc::new(Descriptor::new(OwnedFd::from(file), Close::OffCore));
        assert!(has_arrived(&file, 0));
        drop_cache(&file);
        let dropped = !has_arrived(&file, 0);
        if !dropped {
            eprintln!("SKIPPED: this file system has no cache to drop a file from");
        }
        dropped.then_some(file)
    }

    /// Reads it into the page cache.
    fn heat(file: &Descriptor, len: u64) {
        let mut byte = [0];
        for at in (0..len).step_by(4096) {
            let at = i64::try_from(at).expect("small");
            // SAFETY: the descriptor is open, and there is room for the byte.
            unsafe { libc::pread(file.raw(), byte.as_mut_ptr().cast(), 1, at) };
        }
    }

    fn drop_cache(file: &Descriptor) {
        // SAFETY: the descriptor is open.
        unsafe { libc::posix_fadvise(file.raw(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    }

    #[test]
    fn what_was_seen_counts_for_a_moment() {
        const LEN: u64 = 8 << 20;
        const STEP: u64 = 64 << 10;
        let Some(file) = cold(LEN) else { return };
        let ahead = Ahead::default();
        assert!(!is_warm(&file, &ahead, 0, STEP));
        heat(&file, LEN);
        assert!(is_warm(&file, &ahead, 0, STEP));
        assert!(is_warm(&file, &ahead, STEP, STEP));
        let seen = ahead.seen.get().expect("just seen");
        assert_eq!((seen.from, seen.until), (STEP, STEP + WIDE_BYTES), "it reads on");
        drop_cache(&file);
        std::thread::sleep(SEEN_FOR);
        assert!(!is_warm(&file, &ahead, 2 * STEP, STEP), "it is looked for again");
    }

    #[test]
    fn who_reads_at_the_end_looks_at_what_there_is() {
        const STEP: u64 = 64 << 10;
        let Some(file) = cold(8 * STEP) else { return };
        let ahead = Ahead::default();
        heat(&file, 8 * STEP);
        for step in 0..8 {
            assert!(is_warm(&file, &ahead, step * STEP, STEP));
        }
        let seen = ahead.seen.get().expect("just seen");
        assert_eq!(seen.until, 8 * STEP);
        assert_eq!(seen.narrow, Some(STEP), "one look was too wide");
    }

    #[test]
    fn who_goes_back_from_the_end_reads_on_as_before() {
        const LEN: u64 = 4 << 20;
        const STEP: u64 = 64 << 10;
        let Some(file) = cold(LEN) else { return };
        let ahead = Ahead::default();
        heat(&file, LEN);
        for step in (0..LEN / STEP).chain(0..3) {
            assert!(is_warm(&file, &ahead, step * STEP, STEP));
        }
        let seen = ahead.seen.get().expect("just seen");
        assert_eq!((seen.from, seen.until), (STEP, STEP + WIDE_BYTES));
    }

    #[test]
    fn a_range_is_loaded_with_a_null_device_and_without() {
        const LEN: u64 = 2 << 20;
        let Some(file) = cold(LEN) else { return };
        let null = std::fs::File::options().write(true).open("/dev/null").expect("there is one");
        for null in [Some(null.as_raw_fd()), None] {
            drop_cache(&file);
            assert!(!has_arrived_all(&file, 5000, LEN));
            // To the end of the file, where the range is longer.
            job::load(&file, 5000..2 * LEN, null).expect("it is read");
            assert!(is_there(&file, 5000, LEN - 5000));
        }
    }

    #[test]
    fn a_cold_range_is_warm_before_it_is_sent() {
        const LEN: u64 = 8 << 20;
        let Some(file) = cold(LEN) else { return };
        super::super::run(0, |_| async move {
            let ahead = Ahead::default();
            let mut at = 5000;
            while at < LEN {
                let len = STEP_BYTES_MAX.min(LEN - at);
                if !is_warm(&file, &ahead, at, len) {
                    warm(&file, &ahead, at, len).await.expect("warm");
                }
                assert!(has_arrived_all(&file, at, at + len), "cold at {at}");
                at += len;
            }
            // What was waited for once is looked up from then on, as if it had never been cold.
            assert!(is_warm(&file, &ahead, 5000, STEP_BYTES_MAX));
        })
        .expect("a core");
    }
}
