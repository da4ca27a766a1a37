//! From the page cache to a socket without a copy through user memory, and without ever letting
//! the core wait for a disk.
//!
//! One step sends what the socket takes at once. Before it, the range is looked up in the page
//! cache; what is not there is read ahead through the ring first, because the system call itself
//! would stop the whole core for it.

use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::{opcode, types};

use super::descriptor::{Descriptor, checked};
use super::queue::{Held, Queue};
use crate::io::{Buf, Result};

/// What one step sends at most, in bytes.
pub(super) const STEP_BYTES_MAX: u64 = 512 << 10;

/// How far ahead a cold range is read, in bytes.
const AHEAD_BYTES: u64 = 2 << 20;

/// The distance of the places whose arrival is waited for, in bytes. A disk reads ahead in about
/// such pieces.
const PROBE_BYTES: u64 = 64 << 10;

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

/// Reads the range into the page cache if it is not there, and a little more behind it.
pub(super) async fn warm(file: &Arc<Descriptor>, offset: u64, len: u64) -> Result<()> {
    if len == 0 || is_cached(file, offset, len) {
        return Ok(());
    }
    let fd = types::Fd(file.raw());
    let ahead = i64::try_from(AHEAD_BYTES.max(len)).expect("bounded");
    let advice = opcode::Fadvise::new(fd, ahead, libc::POSIX_FADV_WILLNEED).offset(offset).build();
    // SAFETY: no pointers; the descriptor goes along. Whoever drops this future leaves the
    // reading ahead to go on by itself.
    let advice = unsafe { Queue::current().start(advice, Held::File(file.clone())) };
    // It is advice: where it is refused, the reads below do the work.
    let _ = advice.await;
    let mut probes = Vec::new();
    let end = offset + len;
    let mut at = offset;
    while at < end {
        let next = (at + PROBE_BYTES).min(end);
        let mut byte = Buf::with_capacity(1);
        let entry = opcode::Read::new(fd, byte.spare().as_mut_ptr(), 1).offset(next - 1).build();
        // SAFETY: the byte is on the heap, and it and the descriptor go along.
        probes.push(unsafe { Queue::current().start(entry, Held::Read(file.clone(), byte)) });
        at = next;
    }
    for probe in probes {
        probe.await.0?;
    }
    Ok(())
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
    // Before Linux 6.5 there is no such call: ask for the first and the last byte instead.
    [offset, offset + len - 1].into_iter().all(|at| {
        let mut byte = 0_u8;
        let part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        // SAFETY: the descriptor is open, and `byte` outlives the call.
        unsafe { libc::preadv2(file.raw(), &part, 1, at, libc::RWF_NOWAIT) == 1 }
    })
}
