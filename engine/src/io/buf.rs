//! Owned buffers, pooled per core.
//!
//! A [`Buf`] owns one range of a chunk of memory: `len` bytes of contents, then spare room. It can
//! be split, so that the frames that one receive brought, and the batches of one frame, travel to
//! different cores without a copy; no two buffers ever share a byte. When the last buffer of a
//! chunk is dropped, on whichever core, the chunk returns to the pool it came from through a
//! bounded queue, or is freed if that queue is full. A chunk that comes back whole brings its
//! counter along, so that taking it again allocates nothing.
//!
//! Memory is zeroed when it is allocated and not again: spare room holds bytes of an earlier use,
//! never uninitialised memory.
//! `tests/model` compiles this file over primitives that try every order.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::sync::{Arc, ArrayQueue};
use crate::limit::POOL_BUFFERS_MAX;

/// Sizes that a pool keeps. A larger request is served by the allocator alone.
const CLASSES: [usize; 7] = [4 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20];

/// Chunks without a home, each held by nobody else.
type Queue = ArrayQueue<Arc<Chunk>>;

/// Where buffers come from and return to. Clones share it; it may be used from any core.
#[derive(Clone)]
pub struct Pool {
    classes: Arc<[Queue; CLASSES.len()]>,
}

/// Memory that one or more [`Buf`]s divide among them.
struct Chunk {
    memory: NonNull<[u8]>,
    /// The pool, and the class in it, while a [`Buf`] has the chunk.
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
        let fresh = || Arc::new(Chunk::new(vec![0; CLASSES[class]].into_boxed_slice()));
        let mut chunk = self.classes[class].pop().unwrap_or_else(fresh);
        let alone = Arc::get_mut(&mut chunk).expect("nobody else has a chunk that was at home");
        alone.home = Some((self.clone(), class));
        Buf::over(chunk, 0, capacity)
    }

    /// How much memory a buffer takes that has room for `capacity` bytes.
    #[must_use]
    pub fn memory_for(capacity: usize) -> usize {
        CLASSES.into_iter().find(|&size| capacity <= size).unwrap_or(capacity)
    }

    /// How many chunks wait in it to be used again.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.classes.iter().map(ArrayQueue::len).sum()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle: Vec<usize> = self.classes.iter().map(ArrayQueue::len).collect();
        f.debug_struct("Pool").field("idle", &idle).finish()
    }
}

impl Chunk {
    fn new(memory: Box<[u8]>) -> Self {
        Chunk { memory: NonNull::from(Box::leak(memory)), home: None }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: `memory` was leaked from a box in `Chunk::new`, and the last `Buf` is gone.
        let memory = unsafe { Box::from_raw(self.memory.as_ptr()) };
        // Its last two parts were dropped at the same time, so that neither was seen to be the
        // last: the memory comes home all the same.
        if let Some((pool, class)) = self.home.take() {
            let _ = pool.classes[class].push(Arc::new(Chunk::new(memory)));
        }
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        let Some(mut chunk) = self.chunk.take() else { return };
        let home = Arc::get_mut(&mut chunk).and_then(|alone| alone.home.take());
        if let Some((pool, class)) = home {
            // A full queue hands the chunk back, and it is freed here.
            let _ = pool.classes[class].push(chunk);
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
        Buf::over(Arc::new(Chunk::new(vec![0; capacity].into_boxed_slice())), 0, capacity)
    }

    fn over(chunk: Arc<Chunk>, len: usize, capacity: usize) -> Self {
        assert!(len <= capacity);
        assert!(capacity <= chunk.memory.len());
        Buf { chunk: Some(chunk), start: 0, len, capacity }
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

    /// How much memory it keeps from going back, in bytes: that of all parts of its chunk together.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.chunk.as_ref().map_or(0, |chunk| chunk.memory.len())
    }

    /// Whether nobody else has a part of its memory.
    #[must_use]
    pub fn is_alone(&mut self) -> bool {
        self.chunk.as_mut().is_none_or(|chunk| Arc::get_mut(chunk).is_some())
    }

    /// Drops the contents and makes `room` bytes of its memory room again, if there are as many
    /// and nobody else has a part of it. Says whether it did.
    #[must_use]
    pub fn reclaim(&mut self, room: usize) -> bool {
        // Whoever gave up the last other part did so before this look, and has stopped using it.
        let Some(chunk) = self.chunk.as_mut().and_then(Arc::get_mut) else { return false };
        if chunk.memory.len() < room {
            return false;
        }
        (self.start, self.len, self.capacity) = (0, 0, room);
        true
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
        Buf::over(Arc::new(Chunk::new(bytes.into_boxed_slice())), len, len)
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
