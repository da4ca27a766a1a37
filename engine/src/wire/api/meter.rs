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

/// How many bytes were asked of the allocator on this thread so far, all in all; the difference of two such
/// numbers means something.
pub(crate) fn allocated_so_far() -> usize {
    ALLOCATED.get()
}

/// What `work` gives, and how many bytes it asked the allocator for on this thread, all in all.
pub(crate) fn allocated<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = allocated_so_far();
    let value = work();
    (value, allocated_so_far().wrapping_sub(before))
}

/// Hands `decode` what can go wrong with the bytes of a good message, and with those of an `empty` one: cut,
/// longer, with huge counts wherever one may stand, and with as many empty elements as there can be. None of
/// it may cost more memory than honest bytes of that size, nor panic. `decode` says whether it took them.
#[allow(
    dead_code,
    reason = "the integration tests, which count as well, have this file and no need of it"
)]
pub(crate) fn withstands(
    (good, empty): (&[u8], &[u8]),
    flexible: bool,
    decode: &dyn Fn(&[u8]) -> bool,
) {
    let tried = |bytes: &[u8]| {
        let (is_taken, memory) = allocated(|| decode(bytes));
        let most = 64 * bytes.len() + 1024;
        assert!(memory <= most, "{memory} bytes of memory for {} bytes: {bytes:02x?}", bytes.len());
        is_taken
    };
    assert!(tried(good) && tried(empty));
    for end in 0..good.len() {
        assert!(!tried(&good[..end]), "{end} bytes");
    }
    assert!(!tried(&[good, &[0]].concat()), "one byte more");
    let huge: [&[u8]; 4] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x80, 0x80, 0x80, 0x80, 0x08],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0x03],
    ];
    for at in 0..good.len() {
        for count in huge {
            let end = good.len().min(at + count.len());
            tried(&[&good[..at], count, &good[end..]].concat());
        }
        for bit in 0..8 {
            let mut flipped = good.to_vec();
            flipped[at] ^= 1 << bit;
            tried(&flipped);
        }
    }
    for at in 0..empty.len() {
        for count in [300_u32, 1000, 2000, 4000] {
            let mut bomb = empty[..at].to_vec();
            match flexible {
                // A varint of two bytes.
                true => bomb.extend([(count + 1) as u8 | 0x80, ((count + 1) >> 7) as u8]),
                false => bomb.extend(count.to_be_bytes()),
            }
            // Empty is 0 in the classic form and 1 in the compact one.
            bomb.resize(at + 8000, u8::from(flexible));
            tried(&bomb);
        }
    }
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
