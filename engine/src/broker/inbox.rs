//! A core's inbox: the bounded queue through which the other cores, and its own connections,
//! reach the partitions that it owns.
//!
//! Many senders, one receiver. Messages of one sender arrive in the order they were sent. A full
//! inbox makes senders wait, which is how a slow core holds back the sockets that feed it. This and the
//! return queue of [`crate::io::Pool`] are the queues between cores that do without a lock; what else they
//! share (answers, watches, gauges) lies behind a lock or is a single atomic value.
//!
//! How nobody sleeps through a message: the receiver registers its waker and *then* looks once
//! more; a sender pushes and *then* wakes. Whichever order the two take, either the second look
//! finds the message or the wake finds the waker. The same holds the other way round for room.
//! `tests/model` compiles this file over primitives that try every order, and shows that without
//! one of these steps somebody sleeps for ever.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use super::sync::{
    Arc, ArrayQueue, AtomicBool, AtomicWaker, Mutex, MutexGuard, Ordering, PoisonError, fence,
};

struct Shared<T> {
    queue: ArrayQueue<T>,
    receiver: AtomicWaker,
    /// Senders that found the queue full, and whether there are any.
    waiting: Mutex<VecDeque<Waker>>,
    anyone_waits: AtomicBool,
}

/// The sending side. Clones send to the same inbox.
pub struct Sender<T>(Arc<Shared<T>>);

/// The receiving side; there is one.
pub struct Receiver<T>(Arc<Shared<T>>);

/// An inbox that holds `capacity` messages.
#[must_use]
pub fn inbox<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity),
        receiver: AtomicWaker::new(),
        waiting: Mutex::new(VecDeque::new()),
        anyone_waits: AtomicBool::new(false),
    });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Shared<T> {
    fn lock_waiting(&self) -> MutexGuard<'_, VecDeque<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender(self.0.clone())
    }
}

impl<T> Sender<T> {
    /// Puts `message` in, waiting for room if there is none.
    pub async fn send(&self, message: T) {
        let mut message = Some(message);
        poll_fn(|context| self.poll_send(&mut message, context)).await;
    }

    fn poll_send(&self, message: &mut Option<T>, context: &mut Context<'_>) -> Poll<()> {
        let Some(unsent) = message.take() else { return Poll::Ready(()) };
        let Err(unsent) = self.push(unsent) else { return Poll::Ready(()) };
        {
            let mut waiting = self.0.lock_waiting();
            waiting.push_back(context.waker().clone());
            self.0.anyone_waits.store(true, Ordering::Relaxed);
        }
        // The fence orders the flag before the second look, as the receiver's orders its pop before
        // its look at the flag: one of the two sees the other.
        fence(Ordering::SeqCst);
        match self.push(unsent) {
            Ok(()) => Poll::Ready(()),
            Err(unsent) => {
                *message = Some(unsent);
                Poll::Pending
            }
        }
    }

    /// Puts `message` in, or gives it back if there is no room.
    pub fn push(&self, message: T) -> Result<(), T> {
        self.0.queue.push(message)?;
        self.0.receiver.wake();
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// The next message.
    pub async fn receive(&mut self) -> T {
        poll_fn(|context| {
            if let Some(message) = self.try_receive() {
                return Poll::Ready(message);
            }
            self.0.receiver.register(context.waker());
            match self.try_receive() {
                Some(message) => Poll::Ready(message),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// The next message, if there is one.
    pub fn try_receive(&mut self) -> Option<T> {
        let message = self.0.queue.pop()?;
        fence(Ordering::SeqCst);
        if self.0.anyone_waits.load(Ordering::Relaxed) {
            let senders = {
                let mut waiting = self.0.lock_waiting();
                self.0.anyone_waits.store(false, Ordering::Relaxed);
                std::mem::take(&mut *waiting)
            };
            senders.into_iter().for_each(Waker::wake);
        }
        Some(message)
    }
}
