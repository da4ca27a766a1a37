//! A core's io_uring for files, accepting and connecting: entries in, completions out.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::{IoUring, opcode, squeue};

/// The user data of entries that nobody waits for.
const NOBODY: u64 = u64::MAX;

pub(super) struct Ring {
    uring: IoUring,
    /// Completions taken early, to make room for the kernel.
    early: VecDeque<(u64, i32)>,
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.uring.as_raw_fd()
    }
}

impl Ring {
    pub(super) fn new(uring: IoUring) -> Ring {
        Ring { uring, early: VecDeque::new() }
    }

    /// Gathers an entry; [`Ring::submit`] hands it to the kernel.
    ///
    /// # Safety
    /// What the entry points to must stay where it is, and its descriptors open, until its
    /// completion was taken.
    pub(super) unsafe fn push(&mut self, key: usize, entry: squeue::Entry) {
        // SAFETY: passed on to the caller.
        unsafe { self.push_as(key as u64, entry) };
    }

    /// # Safety
    /// As [`Ring::push`].
    unsafe fn push_as(&mut self, data: u64, entry: squeue::Entry) {
        let entry = entry.user_data(data);
        // SAFETY: passed on to the caller.
        while unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.submit();
        }
    }

    /// Asks for an early end of an operation.
    pub(super) fn cancel(&mut self, key: usize) {
        // SAFETY: a cancellation has no pointers.
        unsafe { self.push_as(NOBODY, opcode::AsyncCancel::new(key as u64).build()) };
    }

    /// Hands over what was gathered, in one system call.
    pub(super) fn submit(&mut self) {
        while !self.uring.submission().is_empty() {
            self.enter();
        }
    }

    /// One system call, which hands over what was gathered and, where completions had no room, gets
    /// those for which there is room now.
    fn enter(&mut self) {
        match self.uring.submit() {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // The kernel is out of room or memory for the moment. Nothing was taken.
                Some(libc::EBUSY | libc::EAGAIN) => {
                    let Ring { uring, early } = self;
                    let taken = uring.completion();
                    early.extend(taken.map(|entry| (entry.user_data(), entry.result())));
                    std::thread::yield_now();
                }
                _ => panic!("the storage ring refuses entries: {error}"),
            },
        }
    }

    /// The next completion: whose, and the result.
    pub(super) fn take(&mut self) -> Option<(usize, i32)> {
        loop {
            let next = self.early.pop_front().or_else(|| {
                self.uring.completion().next().map(|entry| (entry.user_data(), entry.result()))
            });
            match next {
                Some((NOBODY, _)) => {}
                Some((data, result)) => {
                    return Some((usize::try_from(data).expect("a slot's key"), result));
                }
                // More had completed than the queue holds. The kernel keeps the others, and hands
                // them out only when it is entered: it announces nothing by itself.
                None if self.uring.submission().cq_overflow() => self.enter(),
                None => return None,
            }
        }
    }
}
