//! One answer from a partition's owner to a connection, over memory that is used again.
//!
//! A [`Slots`] belongs to one core. It hands out a sender, which travels with a question, and a
//! receiver, which stays; both refer to one slot, which goes back to the core with the receiver. So
//! a steady stream of requests allocates nothing. A one-shot channel otherwise: a dropped sender is
//! an answer too ([`Closed`]), and a dropped receiver means that nobody waits any more.
//!
//! The sender may be used on any core; everything that both sides touch is under the slot's lock.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::limit::ANSWER_SLOTS_IDLE_MAX;

/// Where one core keeps the slots that are not in use. Clones share them.
pub struct Slots<T>(Rc<RefCell<Vec<Arc<Slot<T>>>>>);

struct Slot<T>(Mutex<State<T>>);

enum State<T> {
    /// Nothing was sent, and nobody waits.
    Open,
    /// Nothing was sent yet.
    Awaited(Waker),
    Sent(T),
    /// The sender was dropped, or the answer was taken.
    Closed,
}

/// The side that answers. Dropped without an answer, it says so.
pub struct Sender<T>(Option<Arc<Slot<T>>>);

/// The side that waits for the answer: a future that completes with it, once.
pub struct Receiver<T> {
    /// There until dropped.
    slot: Option<Arc<Slot<T>>>,
    home: Slots<T>,
}

/// The sender was dropped, so there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots(Rc::default())
    }
}

impl<T> Slots<T> {
    /// The two sides of one answer.
    pub fn take(&self) -> (Sender<T>, Receiver<T>) {
        let idle = self.0.borrow_mut().pop();
        let slot = idle.unwrap_or_else(|| Arc::new(Slot(Mutex::new(State::Open))));
        (Sender(Some(slot.clone())), Receiver { slot: Some(slot), home: Slots(self.0.clone()) })
    }

    /// Takes a slot back, unless its sender still has it.
    fn put_back(&self, mut slot: Arc<Slot<T>>) {
        let Some(Slot(state)) = Arc::get_mut(&mut slot) else { return };
        let state = state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let unread = std::mem::replace(state, State::Open);
        let mut idle = self.0.borrow_mut();
        if idle.len() < ANSWER_SLOTS_IDLE_MAX {
            idle.push(slot);
        }
        drop(idle);
        // After the borrow: what an answer owns may come back to this core.
        drop(unread);
    }
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, state: State<T>) {
        let before = std::mem::replace(&mut *self.lock(), state);
        if let State::Awaited(waker) = before {
            waker.wake();
        }
    }

    /// What was answered. As long as nothing was, `waker` waits for it.
    fn take(&self, waker: Option<&Waker>) -> Option<Result<T, Closed>> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Closed) {
            State::Sent(answer) => Some(Ok(answer)),
            State::Closed => Some(Err(Closed)),
            open @ (State::Open | State::Awaited(_)) => {
                *state = waker.map_or(open, |waker| State::Awaited(waker.clone()));
                None
            }
        }
    }
}

impl<T> Sender<T> {
    /// Answers. If nobody waits any more, the answer is dropped with the slot.
    pub fn send(mut self, answer: T) {
        let slot = self.0.take().expect("a sender answers once");
        slot.end(State::Sent(answer));
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.end(State::Closed);
        }
    }
}

impl<T> Receiver<T> {
    fn slot(&self) -> &Slot<T> {
        self.slot.as_ref().expect("there until dropped")
    }

    /// The answer, if it is there; `None` while it may still come.
    pub fn try_answer(&mut self) -> Option<Result<T, Closed>> {
        self.slot().take(None)
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Closed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.slot().take(Some(context.waker())).map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.home.put_back(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn address<T>(receiver: &Receiver<T>) -> *const () {
        std::ptr::from_ref(receiver.slot()).cast()
    }

    #[test]
    fn a_slot_is_used_again_once_its_answer_was_taken() {
        let slots = Slots::default();
        let (sender, mut receiver) = slots.take();
        let slot = address(&receiver);
        assert_eq!(receiver.try_answer(), None);
        assert_eq!((&mut receiver).now_or_never(), None);
        sender.send(7);
        assert_eq!((&mut receiver).now_or_never(), Some(Ok(7)));
        drop(receiver);
        let (sender, mut receiver) = slots.take();
        assert_eq!(address(&receiver), slot);
        assert_eq!(receiver.try_answer(), None, "nothing of the answer before");
        drop(sender);
        assert_eq!(receiver.try_answer(), Some(Err(Closed)));
    }

    #[test]
    fn an_answer_nobody_took_is_gone() {
        let slots = Slots::default();
        let (sender, receiver) = slots.take();
        sender.send(1);
        drop(receiver);
        let (_sender, mut receiver) = slots.take();
        assert_eq!(receiver.try_answer(), None);
    }

    #[test]
    fn a_slot_whose_sender_is_still_there_is_not_used_again() {
        let slots = Slots::default();
        let (sender, receiver) = slots.take();
        let slot = address(&receiver);
        drop(receiver);
        let (_other, mut waiting) = slots.take();
        assert_ne!(address(&waiting), slot);
        sender.send(1);
        assert_eq!(waiting.try_answer(), None, "not meant for this one");
    }

    /// Wakes a thread.
    struct Unpark(std::thread::Thread);

    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "real threads are what is tested")]
    fn an_answer_from_another_core_wakes_who_waits() {
        let slots = Slots::default();
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        for round in 0..1000 {
            let (sender, mut receiver) = slots.take();
            let other = std::thread::spawn(move || sender.send(round));
            let answer = loop {
                match Pin::new(&mut receiver).poll(&mut context) {
                    Poll::Ready(answer) => break answer,
                    Poll::Pending => std::thread::park(),
                }
            };
            assert_eq!(answer, Ok(round));
            other.join().expect("it answers");
        }
    }
}
