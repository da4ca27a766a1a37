//! The storage ring of one core: operations in flight, what they own, and who waits for them.
//!
//! Owns one io_uring and a slot per operation. A slot owns every buffer, path and descriptor that
//! the kernel may touch until the operation completes, whether or not somebody still waits for
//! it. When nobody does, the outcome is dropped with it, and a descriptor that it brought is
//! closed.
//!
//! Keeps: nothing that the kernel may touch is freed or closed before its completion; not even
//! when the ring is torn down, where what does not complete in time is leaked.
//!
//! Lives on one core and is found through a thread-local. One task per core ([`Queue::drive`])
//! submits what the other tasks pushed since its last turn, in one system call, and hands out
//! completions.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::CString;
use std::future::Future;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use io_uring::{IoUring, opcode, squeue};
use slab::Slab;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::descriptor::Descriptor;
use super::net::Listening;
use crate::io::{Buf, Error, Result};

/// The user data of entries that nobody waits for.
const NOBODY: u64 = u64::MAX;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Queue>>> = const { RefCell::new(None) };
}

/// What an operation owns while it is in flight.
#[expect(dead_code, reason = "most of it is kept for the kernel and not looked at again")]
pub(super) enum Held {
    Nothing,
    File(Arc<Descriptor>),
    Read(Arc<Descriptor>, Buf),
    Path(CString),
    Paths(CString, CString),
    /// The result is a descriptor.
    Open(CString),
    /// The result is a connection that must not get lost.
    Accept(Arc<Listening>),
    Connect(OwnedFd, Box<libc::sockaddr_storage>),
}

enum Slot {
    Waiting { held: Held, waker: Option<Waker> },
    Abandoned(Held),
    Done(Held, i32),
}

struct Inner {
    uring: IoUring,
    slots: Slab<Slot>,
    /// Completions taken early, to make room for the kernel.
    early: VecDeque<(u64, i32)>,
    driver: Option<Waker>,
}

pub(super) struct Queue {
    inner: RefCell<Inner>,
}

/// The ring, as the reactor wants to see it.
struct Watched(Rc<Queue>);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.inner.borrow().uring.as_raw_fd()
    }
}

/// An operation in flight. Dropping it abandons the operation.
pub(super) struct Operation {
    queue: Rc<Queue>,
    key: usize,
    finished: bool,
}

impl Queue {
    pub(super) fn new(uring: IoUring) -> Rc<Queue> {
        let inner = Inner { uring, slots: Slab::new(), early: VecDeque::new(), driver: None };
        Rc::new(Queue { inner: RefCell::new(inner) })
    }

    /// Makes this the thread's ring, or none.
    pub(super) fn set_current(queue: Option<Rc<Queue>>) {
        let old = CURRENT.replace(queue);
        drop(old);
    }

    /// The thread's ring.
    ///
    /// # Panics
    /// If there is none: a ring's file or socket was used outside of `ring::run`.
    pub(super) fn current() -> Rc<Queue> {
        Queue::try_current().expect("used outside of ring::run")
    }

    fn try_current() -> Option<Rc<Queue>> {
        // Destructors may run while the thread's locals go away.
        CURRENT.try_with(|queue| queue.borrow().clone()).ok().flatten()
    }

    /// Starts an operation.
    ///
    /// # Safety
    /// Every pointer in `entry` must lead to memory that `held` owns at a stable address (or that
    /// is static), and every descriptor in it must be kept open by `held`.
    pub(super) unsafe fn start(self: Rc<Self>, entry: squeue::Entry, held: Held) -> Operation {
        let mut inner = self.inner.borrow_mut();
        let key = inner.slots.insert(Slot::Waiting { held, waker: None });
        // SAFETY: passed on to the caller; the slot outlives the operation.
        unsafe { inner.push(&entry.user_data(key as u64)) };
        let driver = inner.driver.take();
        drop(inner);
        if let Some(driver) = driver {
            driver.wake();
        }
        Operation { queue: self, key, finished: false }
    }

    /// Closes a descriptor off this core: the last close of a removed file frees its blocks, which
    /// takes long for a large one. Without a ring, closes it here.
    pub(super) fn close(fd: OwnedFd) {
        let Some(queue) = Queue::try_current() else { return };
        let raw = std::os::fd::IntoRawFd::into_raw_fd(fd);
        let entry = opcode::Close::new(io_uring::types::Fd(raw)).build();
        let entry = entry.flags(squeue::Flags::ASYNC);
        // SAFETY: there are no pointers, and the descriptor was given up to this entry.
        drop(unsafe { queue.start(entry, Held::Nothing) });
    }

    /// Submits and completes, for as long as the core lives.
    pub(super) async fn drive(self: Rc<Self>) {
        let watched = Watched(self.clone());
        // SAFETY: the ring's descriptor is open for as long as `watched` holds the ring.
        let watched = unsafe { AsyncFd::register_with_interest(watched, Interest::READABLE) };
        let watched = watched.map_err(Error::from).expect("the reactor watches the storage ring");
        std::future::poll_fn(|cx| self.turn(&watched, cx)).await
    }

    fn turn(&self, watched: &AsyncFd<Watched>, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.borrow_mut();
        inner.submit();
        inner.driver = Some(cx.waker().clone());
        drop(inner);
        // What completed inline is picked up at once; the rest announces itself.
        self.reap();
        loop {
            let mut guard = ready!(watched.poll_read_ready(cx))
                .expect("the reactor lives as long as its tasks");
            self.reap();
            guard.clear_ready();
        }
    }

    fn reap(&self) {
        // Wakers and destructors may come back to this ring, so they run after the borrow.
        loop {
            let mut inner = self.inner.borrow_mut();
            let Some((data, result)) = inner.next_completion() else { return };
            if data == NOBODY {
                continue;
            }
            let key = usize::try_from(data).expect("a slot's key");
            match std::mem::replace(&mut inner.slots[key], Slot::Abandoned(Held::Nothing)) {
                Slot::Waiting { held, waker } => {
                    inner.slots[key] = Slot::Done(held, result);
                    drop(inner);
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                }
                Slot::Abandoned(held) => {
                    inner.slots.remove(key);
                    drop(inner);
                    forget_outcome(held, result);
                }
                Slot::Done(..) => panic!("operation {key} completed twice"),
            }
        }
    }

    /// Ends the ring: waits for what is in flight, but not for ever.
    pub(super) fn finish(&self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        loop {
            let mut inner = self.inner.borrow_mut();
            let in_flight = inner.slots.iter().filter(|(_, slot)| !matches!(slot, Slot::Done(..)));
            let pending: Vec<usize> = in_flight.map(|(key, _)| key).collect();
            if pending.is_empty() {
                return;
            }
            for key in pending {
                // SAFETY: a cancellation has no pointers.
                unsafe { inner.push(&cancellation(key)) };
            }
            inner.submit();
            drop(inner);
            self.reap();
            if std::time::Instant::now() > deadline {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let operations = self.inner.borrow().slots.len();
        tracing::warn!(operations, "the kernel does not finish; what they own is leaked");
    }
}

fn cancellation(key: usize) -> squeue::Entry {
    opcode::AsyncCancel::new(key as u64).build().user_data(NOBODY)
}

/// What nobody waits for must still not leak, and an accepted peer must not be dropped.
fn forget_outcome(held: Held, result: i32) {
    match held {
        Held::Accept(listening) if result >= 0 => {
            // SAFETY: a successful accept returns a new descriptor that nobody else owns.
            listening.put_back(unsafe { OwnedFd::from_raw_fd(result) });
        }
        Held::Open(_) if result >= 0 => {
            // SAFETY: a successful open returns a new descriptor that nobody else owns.
            drop(unsafe { OwnedFd::from_raw_fd(result) });
        }
        held => drop(held),
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What is left here the kernel may still write to.
        std::mem::forget(std::mem::take(&mut self.slots));
    }
}

impl Inner {
    /// # Safety
    /// As [`Queue::start`].
    unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: passed on to the caller.
        while unsafe { self.uring.submission().push(entry) }.is_err() {
            self.submit();
        }
    }

    fn submit(&mut self) {
        while !self.uring.submission().is_empty() {
            match self.uring.submit() {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // The kernel is out of room or memory for the moment. Nothing was taken.
                    Some(libc::EBUSY | libc::EAGAIN) => {
                        let Inner { uring, early, .. } = self;
                        let taken = uring.completion();
                        early.extend(taken.map(|entry| (entry.user_data(), entry.result())));
                        std::thread::yield_now();
                    }
                    _ => panic!("the storage ring refuses entries: {error}"),
                },
            }
        }
    }

    fn next_completion(&mut self) -> Option<(u64, i32)> {
        self.early.pop_front().or_else(|| {
            self.uring.completion().next().map(|entry| (entry.user_data(), entry.result()))
        })
    }
}

impl Future for Operation {
    type Output = (Result<u32>, Held);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.finished, "polled after its end");
        let mut inner = self.queue.inner.borrow_mut();
        match &mut inner.slots[self.key] {
            Slot::Waiting { waker, .. } => {
                match waker {
                    Some(waker) if waker.will_wake(cx.waker()) => {}
                    waker => *waker = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            }
            Slot::Abandoned(_) => panic!("an abandoned operation is awaited"),
            Slot::Done(..) => {}
        }
        let Slot::Done(held, result) = inner.slots.remove(self.key) else {
            unreachable!("matched above")
        };
        drop(inner);
        self.finished = true;
        Poll::Ready((outcome(result), held))
    }
}

fn outcome(result: i32) -> Result<u32> {
    u32::try_from(result).map_err(|_| Error::from_raw_os_error(-result))
}

impl Drop for Operation {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut inner = self.queue.inner.borrow_mut();
        match std::mem::replace(&mut inner.slots[self.key], Slot::Abandoned(Held::Nothing)) {
            Slot::Waiting { held, .. } => {
                // Only what waits for a peer may wait for ever.
                let endless = matches!(held, Held::Accept(_) | Held::Connect(..));
                inner.slots[self.key] = Slot::Abandoned(held);
                if endless {
                    // SAFETY: a cancellation has no pointers.
                    unsafe { inner.push(&cancellation(self.key)) };
                    let driver = inner.driver.take();
                    drop(inner);
                    if let Some(driver) = driver {
                        driver.wake();
                    }
                }
            }
            Slot::Done(held, result) => {
                inner.slots.remove(self.key);
                drop(inner);
                forget_outcome(held, result);
            }
            Slot::Abandoned(_) => panic!("abandoned twice"),
        }
    }
}
