//! Waiting beside others without being asked each time that they are.

use std::future::{Future, poll_fn};
use std::task::Poll;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

/// Polls `future` only when it was woken itself. Without this, what a task waits for seldom (a stop, a
/// time limit) is polled, and leaves its waker anew, whenever anything else of the task goes on.
pub async fn when_woken<T>(future: impl Future<Output = T>) -> T {
    let mut alone = FuturesUnordered::from_iter([future]);
    alone.next().await.expect("there is one")
}

/// Gives everybody else a turn.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn it_is_polled_once_for_each_time_that_it_was_woken() {
        let (polls, kept) = (Cell::new(0), Cell::new(None::<Waker>));
        let mut alone = pin!(when_woken(poll_fn(|context| {
            polls.set(polls.get() + 1);
            kept.set(Some(context.waker().clone()));
            if polls.get() < 3 { Poll::Pending } else { Poll::Ready(polls.get()) }
        })));
        let mut poll = || alone.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        for wakes in 1..3 {
            for _ in 0..3 {
                assert_eq!(poll(), Poll::Pending);
                assert_eq!(polls.get(), wakes);
            }
            kept.take().expect("it was polled").wake();
        }
        assert_eq!(poll(), Poll::Ready(3));
    }
}
