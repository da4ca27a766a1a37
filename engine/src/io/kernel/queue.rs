//! The operations of one core: in flight, what they own, and who waits for them.
//!
//! A slot per operation, and a carrier that does them: an io_uring, or the threads of a
//! [`Pool`]. Beside a ring there are threads too, for the few jobs that are better theirs, from when
//! the first of those comes. While a ring works on an operation its slot owns every buffer, path and
//! descriptor that the kernel may touch, whether or not somebody still waits; a thread owns its job
//! itself. When nobody waits, the outcome is dropped with it, and a descriptor that it brought
//! is closed.
//!
//! Keeps: nothing that the kernel may touch is freed or closed before its completion; not even
//! when the ring is torn down, where what does not complete in time is leaked.
//!
//! Lives on one core and is found through a thread-local. One task per core ([`Queue::drive`])
//! hands over what the other tasks pushed since its last turn, to a ring in one system call, and
//! hands out completions.

use std::cell::RefCell;
use std::future::Future;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use io_uring::squeue;
use slab::Slab;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::job::Job;
use super::net::Listening;
use super::pool::Pool;
use super::ring::Ring;
use crate::io::{Error, Result};

/// How long the end of a core waits for what is in flight.
const FINISH_MAX: Duration = Duration::from_secs(5);

thread_local! {
    static CURRENT: RefCell<Option<Rc<Queue>>> = const { RefCell::new(None) };
}

/// What an operation owns while it is in flight.
pub(super) enum Held {
    Job(Job),
    /// The result is a connection that must not get lost.
    Accept(Arc<Listening>),
    Connect(
        OwnedFd,
        #[expect(dead_code, reason = "the kernel reads it")] Box<libc::sockaddr_storage>,
    ),
    /// With a thread of the pool.
    Away,
}

enum Slot {
    Waiting { held: Held, waker: Option<Waker> },
    Abandoned(Held),
    Done(Held, i32),
}

/// What does the work.
pub(super) enum Carrier {
    Ring(Box<Ring>),
    Pool(Pool),
}

/// Threads for what a ring would do worse.
enum Aside {
    /// Nobody needed them so far.
    Unused,
    Used(Pool),
    /// There can be none: the ring does everything.
    Refused,
}

struct Inner {
    carrier: Carrier,
    /// The threads beside a ring.
    aside: Aside,
    slots: Slab<Slot>,
    driver: Option<Waker>,
}

pub(super) struct Queue {
    inner: RefCell<Inner>,
    has_ring: bool,
}

/// The ring, as the reactor wants to see it.
struct Watched(RawFd, #[expect(dead_code, reason = "keeps the descriptor open")] Rc<Queue>);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// An operation in flight. Dropping it abandons the operation.
pub(super) struct Operation {
    queue: Rc<Queue>,
    key: usize,
    finished: bool,
}

impl Queue {
    pub(super) fn new(carrier: Carrier) -> Rc<Queue> {
        let has_ring = matches!(carrier, Carrier::Ring(_));
        let aside = Aside::Unused;
        let inner = Inner { carrier, aside, slots: Slab::new(), driver: None };
        Rc::new(Queue { inner: RefCell::new(inner), has_ring })
    }

    /// Makes this the thread's queue, or none.
    pub(super) fn set_current(queue: Option<Rc<Queue>>) {
        let old = CURRENT.replace(queue);
        drop(old);
    }

    /// The thread's queue.
    ///
    /// # Panics
    /// If there is none: a kernel's file or socket was used outside of `kernel::run`.
    pub(super) fn current() -> Rc<Queue> {
        Queue::try_current().expect("used outside of kernel::run")
    }

    fn try_current() -> Option<Rc<Queue>> {
        // Destructors may run while the thread's locals go away.
        CURRENT.try_with(|queue| queue.borrow().clone()).ok().flatten()
    }

    /// Whether a ring does the work, and then accepts and connects too.
    pub(super) fn has_ring(&self) -> bool {
        self.has_ring
    }

    /// Starts an operation on files.
    pub(super) fn start(self: Rc<Self>, mut job: Job) -> Operation {
        let mut inner = self.inner.borrow_mut();
        let Inner { carrier, aside, slots, .. } = &mut *inner;
        let slot = slots.vacant_entry();
        let key = slot.key();
        let held = match carrier {
            Carrier::Ring(_)
                if job.is_for_threads()
                    && let Some(pool) = aside.pool() =>
            {
                pool.push(key, job);
                Held::Away
            }
            Carrier::Ring(ring) => {
                // SAFETY: the job owns what its entry points to, at stable addresses, and goes
                // into the slot, which outlives the operation.
                unsafe { ring.push(key, job.entry()) };
                Held::Job(job)
            }
            Carrier::Pool(pool) => {
                pool.push(key, job);
                Held::Away
            }
        };
        slot.insert(Slot::Waiting { held, waker: None });
        self.started(inner.driver.take(), key)
    }

    /// Starts an operation on sockets.
    ///
    /// # Safety
    /// Every pointer in `entry` must lead to memory that `held` owns at a stable address (or that
    /// is static), and every descriptor in it must be kept open by `held`.
    ///
    /// # Panics
    /// If there is no ring.
    pub(super) unsafe fn start_entry(
        self: Rc<Self>,
        entry: squeue::Entry,
        held: Held,
    ) -> Operation {
        let mut inner = self.inner.borrow_mut();
        let key = inner.slots.insert(Slot::Waiting { held, waker: None });
        let Carrier::Ring(ring) = &mut inner.carrier else { panic!("there is no ring") };
        // SAFETY: passed on to the caller; the slot outlives the operation.
        unsafe { ring.push(key, entry) };
        self.started(inner.driver.take(), key)
    }

    fn started(self: &Rc<Self>, driver: Option<Waker>, key: usize) -> Operation {
        if let Some(driver) = driver {
            driver.wake();
        }
        Operation { queue: self.clone(), key, finished: false }
    }

    /// Closes a descriptor off this core: the last close of a removed file frees its blocks, which
    /// takes long for a large one. Without a queue, closes it here.
    pub(super) fn close(fd: OwnedFd) {
        let Some(queue) = Queue::try_current() else { return };
        drop(queue.start(Job::Close(Some(fd))));
    }

    /// Submits and completes, for as long as the core lives.
    pub(super) async fn drive(self: Rc<Self>) {
        let ring = match &self.inner.borrow().carrier {
            Carrier::Ring(ring) => Some(ring.as_raw_fd()),
            Carrier::Pool(_) => None,
        };
        let Some(ring) = ring else {
            return std::future::poll_fn(|cx| self.turn_of_pool(cx)).await;
        };
        let watched = Watched(ring, self.clone());
        // SAFETY: the ring's descriptor is open for as long as `watched` holds the queue.
        let watched = unsafe { AsyncFd::register_with_interest(watched, Interest::READABLE) };
        let watched = watched.map_err(Error::from).expect("the reactor watches the storage ring");
        std::future::poll_fn(|cx| self.turn(&watched, cx)).await
    }

    fn turn(&self, watched: &AsyncFd<Watched>, cx: &mut Context<'_>) -> Poll<()> {
        self.submit(cx);
        // What completed inline is picked up at once; the rest announces itself.
        self.reap();
        loop {
            let mut guard = ready!(watched.poll_read_ready(cx))
                .expect("the reactor lives as long as its tasks");
            self.reap();
            guard.clear_ready();
        }
    }

    fn turn_of_pool(&self, cx: &mut Context<'_>) -> Poll<()> {
        if let Carrier::Pool(pool) = &self.inner.borrow().carrier {
            pool.watch(cx.waker());
        }
        self.reap();
        // There is room for more now.
        self.submit(cx);
        Poll::Pending
    }

    fn submit(&self, cx: &Context<'_>) {
        let mut inner = self.inner.borrow_mut();
        inner.carrier.submit();
        if let Aside::Used(pool) = &mut inner.aside {
            pool.watch(cx.waker());
            pool.hand_out();
        }
        inner.driver = Some(cx.waker().clone());
    }

    fn reap(&self) {
        // Wakers and destructors may come back to this queue, so they run after the borrow.
        loop {
            let mut inner = self.inner.borrow_mut();
            let Some((key, back, result)) = inner.next() else { return };
            let slot = std::mem::replace(&mut inner.slots[key], Slot::Abandoned(Held::Away));
            let whole = |held| back.map_or(held, Held::Job);
            match slot {
                Slot::Waiting { held, waker } => {
                    inner.slots[key] = Slot::Done(whole(held), result);
                    drop(inner);
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                }
                Slot::Abandoned(held) => {
                    inner.slots.remove(key);
                    drop(inner);
                    whole(held).forget(result);
                }
                Slot::Done(..) => panic!("operation {key} completed twice"),
            }
        }
    }

    /// Ends it: waits for what is in flight, but not for ever.
    pub(super) fn finish(&self) {
        let deadline = Instant::now() + FINISH_MAX;
        loop {
            let mut inner = self.inner.borrow_mut();
            let in_flight = inner.slots.iter().filter(|(_, slot)| !matches!(slot, Slot::Done(..)));
            let pending: Vec<usize> = in_flight.map(|(key, _)| key).collect();
            if pending.is_empty() {
                return;
            }
            for key in pending {
                inner.carrier.cancel(key);
            }
            inner.carrier.submit();
            if let Aside::Used(pool) = &mut inner.aside {
                pool.hand_out();
            }
            drop(inner);
            self.reap();
            if Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let operations = self.inner.borrow().slots.len();
        tracing::warn!(operations, "the kernel does not finish; what they own is leaked");
    }
}

/// Whose, what comes back from a thread, and the result.
type Completion = (usize, Option<Job>, i32);

fn from_thread(pool: &mut Pool) -> Option<Completion> {
    pool.take().map(|(key, job, result)| (key, Some(job), result))
}

impl Inner {
    /// The next completion.
    fn next(&mut self) -> Option<Completion> {
        let Inner { carrier, aside, .. } = self;
        carrier.next().or_else(|| match aside {
            Aside::Used(pool) => from_thread(pool),
            Aside::Unused | Aside::Refused => None,
        })
    }
}

impl Aside {
    /// The threads, if there can be any.
    fn pool(&mut self) -> Option<&mut Pool> {
        if let Aside::Unused = self {
            *self = Pool::new().map_or_else(
                |error| {
                    tracing::warn!(%error, "no threads for cold files: who reads one holds its core");
                    Aside::Refused
                },
                Aside::Used,
            );
        }
        match self {
            Aside::Used(pool) => Some(pool),
            Aside::Unused | Aside::Refused => None,
        }
    }
}

impl Carrier {
    fn submit(&mut self) {
        match self {
            Carrier::Ring(ring) => ring.submit(),
            Carrier::Pool(pool) => pool.hand_out(),
        }
    }

    /// The next completion.
    fn next(&mut self) -> Option<Completion> {
        match self {
            Carrier::Ring(ring) => ring.take().map(|(key, result)| (key, None, result)),
            Carrier::Pool(pool) => from_thread(pool),
        }
    }

    /// Asks for an early end, where there is one.
    fn cancel(&mut self, key: usize) {
        match self {
            Carrier::Ring(ring) => ring.cancel(key),
            // A thread ends when its call does.
            Carrier::Pool(_) => {}
        }
    }
}

impl Held {
    /// What nobody waits for must still not leak, and an accepted peer must not be dropped.
    fn forget(self, result: i32) {
        match self {
            Held::Accept(listening) if result >= 0 => {
                // SAFETY: a successful accept returns a new descriptor that nobody else owns.
                listening.put_back(unsafe { OwnedFd::from_raw_fd(result) });
            }
            Held::Job(job) => job.forget(result),
            Held::Accept(_) | Held::Connect(..) | Held::Away => {}
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What is left here the kernel may still write to.
        std::mem::forget(std::mem::take(&mut self.slots));
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
        match std::mem::replace(&mut inner.slots[self.key], Slot::Abandoned(Held::Away)) {
            Slot::Waiting { held, .. } => {
                // Only what waits for a peer may wait for ever.
                let endless = matches!(held, Held::Accept(_) | Held::Connect(..));
                inner.slots[self.key] = Slot::Abandoned(held);
                if endless {
                    inner.carrier.cancel(self.key);
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
                held.forget(result);
            }
            Slot::Abandoned(_) => panic!("abandoned twice"),
        }
    }
}
