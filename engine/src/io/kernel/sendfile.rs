//! From the page cache to a socket without a copy through user memory, and without ever letting
//! the core wait for a disk.
//!
//! One step sends what the socket takes at once. Before it, the range is looked up in the page
//! cache; what is not there is read ahead off the core first, because the system call itself
//! would stop the whole core for it.

use std::cell::Cell;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::descriptor::{Descriptor, checked};
use super::job::Job;
use super::queue::{Operation, Queue};
use crate::io::{Buf, Result};

/// What one step sends at most, in bytes.
pub(super) const STEP_BYTES_MAX: u64 = 512 << 10;

/// What is read ahead by one piece of advice, in bytes. The kernel cuts off longer ones.
const PIECE_BYTES: u64 = 1 << 20;

/// How far ahead of the reader a cold file is read, in bytes.
const AHEAD_BYTES: u64 = 4 << 20;

/// The distance of the places whose arrival is waited for, in bytes. A disk reads ahead in about
/// such pieces.
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

/// The part of a file that was asked for on a connection's behalf and may still be on its way: it
/// counts as cached as soon as it is asked for, so it is not looked up but waited for.
#[derive(Default)]
pub(super) struct Ahead {
    /// The file's address. Another file that comes to lie there is read ahead once too often.
    file: Cell<usize>,
    from: Cell<u64>,
    until: Cell<u64>,
    seen: Cell<Option<Seen>>,
}

/// A range that was found in the page cache.
#[derive(Clone, Copy)]
struct Seen {
    /// The file's address, as in [`Ahead`].
    file: usize,
    from: u64,
    until: u64,
    at: Instant,
    /// Before this position it is no use to look at more than is to be sent.
    narrow_until: u64,
}

impl Ahead {
    fn holds(&self, file: &Arc<Descriptor>, offset: u64) -> bool {
        let range = self.from.get()..self.until.get();
        self.file.get() == Arc::as_ptr(file).addr() && range.contains(&offset)
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
        let mut narrow_until = seen.map_or(0, |seen| seen.narrow_until);
        let continues = seen.is_some_and(|seen| (seen.from..=seen.until).contains(&offset))
            && offset >= narrow_until;
        let wide = continues && len < WIDE_BYTES && is_cached(file, offset, WIDE_BYTES);
        if continues && !wide {
            narrow_until = offset.saturating_add(WIDE_BYTES);
        }
        if !wide && !is_cached(file, offset, len) {
            self.seen.set(None);
            return false;
        }
        let until = if wide { offset + WIDE_BYTES } else { end };
        let at = Instant::now();
        self.seen.set(Some(Seen { file: address, from: offset, until, at, narrow_until }));
        true
    }
}

/// Whether the range can be sent at once. At most a system call or two, and none of them blocks.
pub(super) fn is_warm(file: &Arc<Descriptor>, ahead: &Ahead, offset: u64, len: u64) -> bool {
    len == 0 || (!ahead.holds(file, offset) && ahead.sees(file, offset, len))
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
    let stop = end.min(offset.saturating_add(len));
    if !ahead.holds(file, offset) {
        ahead.file.set(Arc::as_ptr(file).addr());
        ahead.from.set(offset);
        ahead.until.set(offset + PIECE_BYTES);
        // It is advice: where it is refused, the reads below do the work.
        let _ = advise(file, offset).await;
    }
    let wanted = end.min(offset + AHEAD_BYTES);
    while ahead.until.get() < wanted {
        let from = ahead.until.get();
        if is_cached(file, from, PIECE_BYTES.min(end - from)) {
            break;
        }
        // Nobody waits for it; it happens all the same.
        drop(advise(file, from));
        ahead.until.set(from + PIECE_BYTES);
    }
    let mut probes = Vec::new();
    let mut at = offset;
    while at < stop {
        let next = (at + PROBE_BYTES).min(stop);
        if !has_arrived(file, next - 1) {
            probes.push(probe(file, next - 1));
        }
        at = next;
    }
    for probe in probes {
        probe.await.0?;
    }
    ahead.from.set(stop.max(offset));
    Ok(())
}

/// Reads one byte off the core, so that nothing waits for the disk but this operation.
fn probe(file: &Arc<Descriptor>, at: u64) -> Operation {
    let job = Job::Read { file: file.clone(), buf: Buf::with_capacity(1), offset: at };
    Queue::current().start(job)
}

fn advise(file: &Arc<Descriptor>, from: u64) -> Operation {
    let len = i64::try_from(PIECE_BYTES).expect("small");
    Queue::current().start(Job::Advise { file: file.clone(), offset: from, len })
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

/// Whether the byte can be read without waiting.
fn has_arrived(file: &Descriptor, at: u64) -> bool {
    let mut byte = 0_u8;
    let part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    // SAFETY: the descriptor is open, and `byte` outlives the call.
    unsafe { libc::preadv2(file.raw(), &part, 1, at, libc::RWF_NOWAIT) == 1 }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::OwnedFd;

    use super::super::descriptor::Close;
    use super::*;

    /// A file of so many bytes of which none is in the page cache, where that can be.
    fn cold(len: u64) -> Option<Arc<Descriptor>> {
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR"))
            .or_else(|_| tempfile::tempfile())
            .expect("a file");
        file.write_all(&vec![1; usize::try_from(len).expect("small")]).expect("write");
        file.sync_all().expect("sync");
        let file = Arc::new(Descriptor::new(OwnedFd::from(file), Close::AtOnce));
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
        assert_eq!(seen.narrow_until, STEP + WIDE_BYTES, "one look was too wide");
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
                assert!(is_cached(&file, at, len), "cold at {at}");
                at += len;
            }
            // What was waited for once is looked up from then on, as if it had never been cold.
            assert!(is_warm(&file, &ahead, 5000, STEP_BYTES_MAX));
            // Behind what was read ahead, a look is enough.
            assert!(ahead.until.get() >= LEN);
        })
        .expect("a core");
    }
}
