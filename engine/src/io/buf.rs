//! Owned buffers, pooled per core.
//!
//! A [`Buf`] owns one range of a chunk of memory: `len` bytes of contents, then spare room. It can
//! be split, so that the frames that one receive brought, and the batches of one frame, travel to
//! different cores without a copy; no two buffers ever share a byte. When the last buffer of a
//! chunk is dropped, on whichever core, the chunk returns to the pool it came from through a
//! bounded queue, or is freed if that queue is full or the pool is gone.
//!
//! Memory is zeroed when it is allocated and not again: spare room holds bytes of an earlier use,
//! never uninitialised memory.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::limit::POOL_BUFFERS_MAX;

/// Sizes that a pool keeps. A larger request is served by the allocator alone.
const CLASSES: [usize; 5] = [4 << 10, 64 << 10, 256 << 10, 1 << 20, 2 << 20];

type Queue = ArrayQueue<Box<[u8]>>;

/// Where buffers come from and return to. Clones share it; it may be used from any core.
#[derive(Clone)]
pub struct Pool {
    classes: Arc<[Queue; CLASSES.len()]>,
}

/// Memory that one or more [`Buf`]s divide among them.
struct Chunk {
    memory: NonNull<[u8]>,
    home: Option<(Pool, usize)>,
}

// SAFETY: the memory is plain bytes that the chunk owns; each byte is reached through exactly one
// `Buf` at a time, and the pool's queues are made to be shared.
unsafe impl Send for Chunk {}
// SAFETY: as above; a shared chunk gives out no references itself.
unsafe impl Sync for Chunk {}

/// One exclusively owned range of memory: contents, then spare room. See the module's head.
pub struct Buf {
    chunk: Option<Arc<Chunk>>,
    start: usize,
    len: usize,
    capacity: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Pool::new()
    }
}

impl Pool {
    /// An empty pool; memory is claimed as it is asked for.
    #[must_use]
    pub fn new() -> Self {
        Pool { classes: Arc::new(CLASSES.map(|_| ArrayQueue::new(POOL_BUFFERS_MAX))) }
    }

    /// An empty buffer with room for exactly `capacity` bytes.
    #[must_use]
    pub fn take(&self, capacity: usize) -> Buf {
        let Some(class) = CLASSES.iter().position(|&size| capacity <= size) else {
            return Buf::with_capacity(capacity);
        };
        let memory =
            self.classes[class].pop().unwrap_or_else(|| vec![0; CLASSES[class]].into_boxed_slice());
        Buf::over(memory, Some((self.clone(), class)), 0, capacity)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle: Vec<usize> = self.classes.iter().map(ArrayQueue::len).collect();
        f.debug_struct("Pool").field("idle", &idle).finish()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: `memory` came from `Box::into_raw` in `Buf::over`, and the last `Buf` is gone.
        let memory = unsafe { Box::from_raw(self.memory.as_ptr()) };
        if let Some((pool, class)) = self.home.take() {
            // A full queue hands the memory back, and it is freed here.
            let _ = pool.classes[class].push(memory);
        }
    }
}

impl Buf {
    /// A buffer without contents or room.
    #[must_use]
    pub const fn new() -> Self {
        Buf { chunk: None, start: 0, len: 0, capacity: 0 }
    }

    /// An empty buffer with room for `capacity` bytes, which belongs to no pool.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Buf::over(vec![0; capacity].into_boxed_slice(), None, 0, capacity)
    }

    fn over(memory: Box<[u8]>, home: Option<(Pool, usize)>, len: usize, capacity: usize) -> Self {
        assert!(len <= capacity);
        assert!(capacity <= memory.len());
        let memory = NonNull::from(Box::leak(memory));
        Buf { chunk: Some(Arc::new(Chunk { memory, home })), start: 0, len, capacity }
    }

    fn pointer(&self) -> *mut u8 {
        match &self.chunk {
            // SAFETY: `start` is within the chunk: every constructor and split keeps
            // `start + capacity <= memory.len()`.
            Some(chunk) => unsafe { chunk.memory.as_ptr().cast::<u8>().add(self.start) },
            None => NonNull::dangling().as_ptr(),
        }
    }

    /// The room behind the contents. It holds old bytes; [`Buf::commit`] makes them contents.
    #[must_use]
    pub fn spare(&mut self) -> &mut [u8] {
        // SAFETY: the range is within this buffer's exclusive part of initialised memory.
        unsafe {
            std::slice::from_raw_parts_mut(self.pointer().add(self.len), self.capacity - self.len)
        }
    }

    /// How many bytes the buffer can hold, contents and spare room together.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Declares the first `count` bytes of the spare room to be contents.
    pub fn commit(&mut self, count: usize) {
        assert!(count <= self.capacity - self.len, "commit beyond the spare room");
        self.len += count;
    }

    /// Drops the first `count` bytes of the contents.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len, "advance beyond the contents");
        self.start += count;
        self.len -= count;
        self.capacity -= count;
    }

    /// Drops all contents behind the first `len` bytes; the room stays.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Takes the first `count` bytes of the contents out, without spare room; the rest stays.
    #[must_use]
    pub fn split_to(&mut self, count: usize) -> Buf {
        assert!(count <= self.len, "split beyond the contents");
        let front =
            Buf { chunk: self.chunk.clone(), start: self.start, len: count, capacity: count };
        self.advance(count);
        front
    }

    /// Copies `bytes` behind the contents.
    ///
    /// # Panics
    /// If there is not enough spare room.
    pub fn put(&mut self, bytes: &[u8]) {
        self.spare()[..bytes.len()].copy_from_slice(bytes);
        self.commit(bytes.len());
    }
}

impl Default for Buf {
    fn default() -> Self {
        Buf::new()
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range is within this buffer's exclusive part of initialised memory.
        unsafe { std::slice::from_raw_parts(self.pointer(), self.len) }
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(), self.len) }
    }
}

impl From<Vec<u8>> for Buf {
    fn from(bytes: Vec<u8>) -> Self {
        let mut bytes = bytes;
        let len = bytes.len();
        // Filled to its capacity, the vector becomes a box where it stands.
        bytes.resize(bytes.capacity(), 0);
        Buf::over(bytes.into_boxed_slice(), None, len, len)
    }
}

impl From<&[u8]> for Buf {
    fn from(bytes: &[u8]) -> Self {
        Buf::from(bytes.to_vec())
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} of {} bytes)", self.len, self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_split_are_disjoint_and_whole() {
        let mut rest = Pool::new().take(100);
        rest.put(b"headtail");
        let mut head = rest.split_to(4);
        head.copy_from_slice(b"HEAD");
        assert_eq!(&*head, b"HEAD");
        assert_eq!(&*rest, b"tail");
        assert_eq!(rest.capacity(), 96);
        assert!(head.spare().is_empty());
    }

    #[test]
    fn a_chunk_returns_to_its_pool_with_its_last_part() {
        let pool = Pool::new();
        let mut buf = pool.take(10);
        buf.put(b"abcdef");
        let front = buf.split_to(3);
        drop(buf);
        assert_eq!(pool.classes[0].len(), 0);
        std::thread::scope(|scope| scope.spawn(move || drop(front)).join().expect("no panic"));
        assert_eq!(pool.classes[0].len(), 1);
        let again = pool.take(4096);
        assert_eq!(again.capacity(), 4096);
        assert_eq!(pool.classes[0].len(), 0);
    }

    /// Parts of one chunk are written and dropped on different threads, in any order, while the
    /// chunk's pool hands it out again: whoever takes a buffer is alone in it, and sees nothing of
    /// a write that began before. Run it under a sanitizer or miri to have the orders checked too.
    #[test]
    fn chunks_come_home_from_other_threads_whole() {
        const PARTS: usize = 4;
        let rounds = match std::env::var("TRIALOG_STRESS_ROUNDS") {
            Ok(rounds) => rounds.parse().expect("a number"),
            Err(_) if cfg!(miri) => 50,
            Err(_) => 30_000,
        };
        let pool = Pool::new();
        let lanes: Vec<_> = (0..3).map(|_| Arc::new(ArrayQueue::<(Buf, u8)>::new(8))).collect();
        let finished = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for lane in &lanes {
                // A reader: checks that nobody else wrote to its part, writes, checks again.
                let finished = &finished;
                scope.spawn(move || {
                    loop {
                        let done = finished.load(std::sync::atomic::Ordering::Acquire) == 2;
                        let Some((mut part, stamp)) = lane.pop() else {
                            if done {
                                break;
                            }
                            std::thread::yield_now();
                            continue;
                        };
                        assert!(part.iter().all(|&byte| byte == stamp));
                        part.fill(!stamp);
                        assert!(part.iter().all(|&byte| byte == !stamp));
                    }
                });
            }
            for maker in 0..2_usize {
                let (pool, lanes, finished) = (pool.clone(), &lanes, &finished);
                scope.spawn(move || {
                    for round in 0..rounds {
                        let mut buf = pool.take(64);
                        for part in 0..PARTS {
                            buf.put(&[(round * PARTS + part) as u8; 8]);
                        }
                        for part in 0..PARTS {
                            let stamp = (round * PARTS + part) as u8;
                            let piece = buf.split_to(8);
                            let lane = &lanes[(round + part + maker) % lanes.len()];
                            // A full lane hands the part back, and it is dropped here.
                            let _ = lane.push((piece, stamp));
                        }
                        // The rest of the chunk is dropped on this thread, often last.
                        buf.spare().fill(0xff);
                    }
                    finished.fetch_add(1, std::sync::atomic::Ordering::Release);
                });
            }
        });
        // All that was taken is idle again, and the queue's bound holds.
        let idle = pool.classes[0].len();
        assert!((1..=POOL_BUFFERS_MAX).contains(&idle), "{idle} idle chunks");
    }

    #[test]
    fn large_and_empty_buffers_work() {
        assert_eq!(Pool::new().take(3 << 20).capacity(), 3 << 20);
        assert!(Buf::new().is_empty());
        assert!(Buf::new().spare().is_empty());
        assert_eq!(&*Buf::from(&b"xyz"[..]), b"xyz");
    }
}
