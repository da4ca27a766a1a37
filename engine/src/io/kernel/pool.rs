//! File operations without a ring: a few threads of one core that make the blocking calls.
//!
//! The core hands jobs out through one bounded queue and takes them back, with their results,
//! through another. It never has more of them out than either holds, so a thread that is done
//! never waits; what is more waits with the core. There are as many threads as jobs were ever out at
//! once, up to [`RING_WORKERS_MAX`].
//!
//! How the core does not sleep through a result: it leaves its waker and *then* looks; a thread
//! puts the result in and *then* wakes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::thread::{Builder, JoinHandle};

use atomic_waker::AtomicWaker;
use crossbeam::channel::{Receiver, Sender, bounded};
use crossbeam::queue::ArrayQueue;

use super::job::Job;
use super::setup;
use crate::io::Result;
use crate::limit::{RING_ENTRIES, RING_WORKERS_MAX};

/// What a thread needs at most: it makes one system call at a time.
const STACK_BYTES: usize = 128 << 10;

/// A job on its way out: where it belongs, and what it is.
type Order = (usize, Job);

/// A job on its way back, with its result.
pub(super) type Done = (usize, Job, i32);

pub(super) struct Pool {
    /// `None` at the end.
    orders: Option<Sender<Order>>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Not handed out yet.
    backlog: VecDeque<Order>,
    /// Handed out and not taken back.
    out: usize,
}

struct Shared {
    orders: Receiver<Order>,
    done: ArrayQueue<Done>,
    core: AtomicWaker,
}

impl Pool {
    /// A pool of one thread to begin with.
    pub(super) fn new() -> Result<Pool> {
        let room = RING_ENTRIES as usize;
        let (sender, orders) = bounded(room);
        let (done, core) = (ArrayQueue::new(room), AtomicWaker::new());
        let shared = Arc::new(Shared { orders, done, core });
        let (threads, backlog) = (Vec::new(), VecDeque::new());
        let mut pool = Pool { orders: Some(sender), shared, threads, backlog, out: 0 };
        pool.start_thread()?;
        Ok(pool)
    }

    fn start_thread(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        let name = format!("files {}", self.threads.len());
        let thread = Builder::new().name(name).stack_size(STACK_BYTES);
        self.threads.push(thread.spawn(move || shared.work())?);
        Ok(())
    }

    /// Takes a job; [`Pool::hand_out`] sends it off.
    pub(super) fn push(&mut self, key: usize, job: Job) {
        self.backlog.push_back((key, job));
    }

    /// Hands out what there is room for.
    pub(super) fn hand_out(&mut self) {
        while self.out < RING_ENTRIES as usize
            && let Some(order) = self.backlog.pop_front()
        {
            let sent = self.orders.as_ref().map(|orders| orders.try_send(order));
            assert!(matches!(sent, Some(Ok(()))), "there is room for all that may be out");
            self.out += 1;
        }
        while self.threads.len() < self.out.min(RING_WORKERS_MAX as usize) {
            // Fewer threads are slower, and there is one.
            if let Err(error) = self.start_thread() {
                tracing::warn!(%error, threads = self.threads.len(), "no more threads for files");
                break;
            }
        }
    }

    /// Has the core woken by the next result.
    pub(super) fn watch(&self, core: &Waker) {
        self.shared.core.register(core);
    }

    /// A job that is done.
    pub(super) fn take(&mut self) -> Option<Done> {
        let done = self.shared.done.pop()?;
        self.out -= 1;
        Some(done)
    }
}

impl Drop for Pool {
    /// Ends the threads, and waits for them if they have nothing to do.
    fn drop(&mut self) {
        self.orders = None;
        if self.out == 0 {
            for thread in self.threads.drain(..) {
                // One that panicked has said so.
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn work(&self) {
        // The core is pinned, and its threads would be beside it.
        if let Err(error) = setup::unpin() {
            tracing::debug!(%error, "a thread for files stays on its core's processor");
        }
        loop {
            let Ok((key, mut job)) = self.orders.recv() else { return };
            let result = job.run();
            if self.done.push((key, job, result)).is_err() {
                unreachable!("there is room for all that may be out");
            }
            self.core.wake();
        }
    }
}
