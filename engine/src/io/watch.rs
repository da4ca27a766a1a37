//! A value that is published: writers replace it, readers see the latest and can wait for a new
//! one. It may be used from any core.
//!
//! The same as tokio's `sync::watch`, which cannot be used here: it wakes its readers in an order
//! that it draws from a generator of its own, seeded once per thread out of a counter of the whole
//! process, so that a simulated run would depend on the runs before it. Here readers are woken in
//! the order in which they began to wait.
//!
//! How nobody sleeps through a value: a reader leaves its waker and *then* looks; a writer writes
//! and *then* wakes. Whichever order the two take, one sees the other.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Poll, Waker};

/// The writing side.
pub struct Sender<T>(Arc<Shared<T>>);

/// A reader, which knows which value it saw last.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// The value, for as long as this is held. Writers wait meanwhile: hold it shortly, and never
/// across an await.
pub struct Ref<'a, T>(RwLockReadGuard<'a, Published<T>>);

/// There is no writer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

struct Shared<T> {
    published: RwLock<Published<T>>,
    waiting: Mutex<Waiting>,
}

struct Published<T> {
    value: T,
    version: u64,
    open: bool,
}

#[derive(Default)]
struct Waiting {
    wakers: BTreeMap<u64, Waker>,
    numbered: u64,
}

/// A writer and a reader of `value`. The reader counts it as seen.
#[must_use]
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let published = RwLock::new(Published { value, version: 0, open: true });
    let shared = Arc::new(Shared { published, waiting: Mutex::default() });
    (Sender(shared.clone()), Receiver { shared, seen: 0 })
}

impl<T> Shared<T> {
    fn read(&self) -> RwLockReadGuard<'_, Published<T>> {
        self.published.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for another version than `seen`, and returns it.
    async fn next(&self, seen: u64) -> Result<u64, Closed> {
        let mut place = Place { shared: self, number: None };
        poll_fn(|context| {
            place.wait(context.waker());
            let published = self.read();
            match published.open {
                // A last value counts also when its writer is gone.
                _ if published.version != seen => Poll::Ready(Ok(published.version)),
                true => Poll::Pending,
                false => Poll::Ready(Err(Closed)),
            }
        })
        .await
    }

    fn publish<R>(&self, change: impl FnOnce(&mut Published<T>) -> R) -> R {
        let result = {
            let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
            change(&mut published)
        };
        let wakers = std::mem::take(&mut self.waiting().wakers);
        wakers.into_values().for_each(Waker::wake);
        result
    }
}

impl<T> Sender<T> {
    /// Publishes `value` and returns the one before.
    pub fn send_replace(&self, value: T) -> T {
        self.0.publish(|published| {
            published.version += 1;
            std::mem::replace(&mut published.value, value)
        })
    }

    /// Changes the value in place and publishes it.
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.0.publish(|published| {
            published.version += 1;
            change(&mut published.value);
        });
    }

    /// The value.
    #[must_use]
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.0.read())
    }

    /// A further reader, which counts the present value as seen.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        let seen = self.0.read().version;
        Receiver { shared: self.0.clone(), seen }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.publish(|published| published.open = false);
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver { shared: self.shared.clone(), seen: self.seen }
    }
}

impl<T> Receiver<T> {
    /// The value, which counts as seen from now on.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let published = self.shared.read();
        self.seen = published.version;
        Ref(published)
    }

    /// Waits for a value that was not seen yet, and counts it as seen.
    ///
    /// # Errors
    /// [`Closed`] if there is none and will be none.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        self.seen = self.shared.next(self.seen).await?;
        Ok(())
    }

    /// Waits until the value, seen or not, is as `wanted`.
    ///
    /// # Errors
    /// [`Closed`] if it is not and never will be.
    pub async fn wait_for(&mut self, wanted: impl Fn(&T) -> bool) -> Result<Ref<'_, T>, Closed> {
        loop {
            {
                let published = self.shared.read();
                self.seen = published.version;
                if wanted(&published.value) {
                    return Ok(Ref(published));
                }
                if !published.open {
                    return Err(Closed);
                }
            }
            // An end that comes now is looked at with the value it left.
            let _ = self.shared.next(self.seen).await;
        }
    }
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

/// A reader's place among those who wait.
struct Place<'a, T> {
    shared: &'a Shared<T>,
    number: Option<u64>,
}

impl<T> Place<'_, T> {
    fn wait(&mut self, waker: &Waker) {
        let mut waiting = self.shared.waiting();
        let number = *self.number.get_or_insert_with(|| {
            waiting.numbered += 1;
            waiting.numbered
        });
        waiting.wakers.insert(number, waker.clone());
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.shared.waiting().wakers.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::poll_immediate;

    use super::*;

    #[test]
    fn a_new_value_is_seen_once_and_the_end_for_ever() {
        let (sender, mut reader) = channel(1);
        assert_eq!(reader.changed().now_or_never(), None);
        assert_eq!(sender.send_replace(2), 1);
        sender.send_modify(|value| *value += 1);
        assert_eq!(reader.changed().now_or_never(), Some(Ok(())));
        assert_eq!(reader.changed().now_or_never(), None);
        assert_eq!((*reader.borrow_and_update(), *sender.borrow()), (3, 3));
        let mut late = sender.subscribe();
        assert_eq!(late.changed().now_or_never(), None);
        sender.send_replace(3);
        drop(sender);
        assert_eq!(late.changed().now_or_never(), Some(Ok(())), "the last value comes first");
        assert_eq!(late.changed().now_or_never(), Some(Err(Closed)));
        assert_eq!(late.changed().now_or_never(), Some(Err(Closed)));
        assert_eq!(*late.borrow_and_update(), 3);
    }

    #[test]
    fn waiting_for_a_value_looks_at_the_present_one_first() {
        let (sender, mut reader) = channel(5);
        assert!(reader.wait_for(|value| *value == 5).now_or_never().is_some());
        assert!(reader.wait_for(|value| *value == 6).now_or_never().is_none());
        sender.send_replace(6);
        drop(sender);
        let found = reader.wait_for(|value| *value == 6).now_or_never();
        assert!(found.expect("ready").is_ok());
        let found = reader.wait_for(|value| *value == 7).now_or_never();
        assert!(found.expect("ready").is_err());
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "real threads are what is tested")]
    fn who_waits_is_woken_from_another_thread_and_leaves_no_trace() {
        let (sender, reader) = channel(0_u64);
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let mut reader = reader.clone();
                std::thread::spawn(move || {
                    let wait = async { reader.wait_for(|value| *value == 1000).await.is_ok() };
                    block(wait)
                })
            })
            .collect();
        for _ in 0..1000 {
            sender.send_modify(|value| *value += 1);
        }
        assert!(readers.into_iter().all(|reader| reader.join().expect("no panic")));
        let mut quitter = reader;
        let _ = quitter.borrow_and_update();
        let _ = poll_immediate(quitter.changed()).now_or_never();
        assert!(sender.0.waiting().wakers.is_empty());
    }

    /// Runs a future on this thread, parked while it waits.
    fn block<F: Future>(future: F) -> F::Output {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = std::task::Context::from_waker(&waker);
        let mut future = std::pin::pin!(future);
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(value) => return value,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}
