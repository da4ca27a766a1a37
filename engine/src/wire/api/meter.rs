//! Counts what a test allocates: decoding hostile bytes must not cost memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which adds up what each thread asks for.
struct Meter;

fn count(bytes: usize) {
    // A thread that is being taken down has no counter any more.
    let _ = ALLOCATED.try_with(|allocated| allocated.set(allocated.get().wrapping_add(bytes)));
}

// SAFETY: every call is handed on unchanged to the system's allocator; counting allocates nothing,
// because the counter is a constant-initialised thread local without a destructor.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are the ones `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are the ones `System` asks for.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promises are the ones `System` asks for.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the ones `System` asks for.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static METER: Meter = Meter;

/// What `work` gives, and how many bytes it asked the allocator for on this thread, all in all.
pub(crate) fn allocated<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.get();
    let value = work();
    (value, ALLOCATED.get().wrapping_sub(before))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_meter_sees_allocations() {
        let (kept, bytes) = super::allocated(|| Vec::<u8>::with_capacity(100_000));
        assert!(bytes >= kept.capacity());
        assert!(bytes < 110_000);
    }
}
