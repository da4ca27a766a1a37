//! The return path of buffers: who takes a chunk out of its pool is alone in it, and sees nothing of
//! a write that began before.
//!
//! The bytes themselves are out of loom's sight, so each part of a chunk has a cell beside it that is
//! touched whenever the part is: loom reports two touches that nothing orders.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::explore;
use super::honest::buf::{Buf, Pool};

/// What stands for the bytes of two parts of one chunk.
struct Parts([UnsafeCell<u8>; 2]);

// SAFETY: loom checks that the touches are ordered; that is what is on trial.
unsafe impl Sync for Parts {}
// SAFETY: as above.
unsafe impl Send for Parts {}

impl Parts {
    fn touch(&self, part: usize, mut buf: Buf) {
        let byte = part as u8;
        // SAFETY: see above.
        self.0[part].with_mut(|cell| unsafe { *cell = byte });
        buf.fill(byte);
        drop(buf);
    }
}

#[test]
fn a_chunk_comes_home_behind_every_write_to_it() {
    explore(3, || {
        let (pool, parts) =
            (Pool::new(), Arc::new(Parts([UnsafeCell::new(0), UnsafeCell::new(0)])));
        let mut whole = pool.take(4096);
        let memory = whole.as_ptr();
        whole.put(&[9; 4096]);
        let front = whole.split_to(2048);
        let other = thread::spawn({
            let parts = parts.clone();
            move || parts.touch(0, front)
        });
        parts.touch(1, whole);
        let again = pool.take(4096);
        if again.as_ptr() == memory {
            // Both parts are done with, whichever thread was the last one.
            for cell in &parts.0 {
                // SAFETY: see above.
                cell.with_mut(|cell| unsafe { *cell = 7 });
            }
        }
        other.join().expect("it wrote");
    });
}
