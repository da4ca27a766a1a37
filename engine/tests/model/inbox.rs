//! The inbox: whoever finds nothing, or no room, is woken once there is some.
//!
//! Each side looks once, in every order of the two; who was told to wait must have been woken when
//! both are done. (Nobody really sleeps here: a sleeper that is never woken could only be reported
//! by an abort.)

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use loom::thread;

use super::explore;

/// A waker that remembers.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What came of one look: the outcome, or what will be woken.
enum Look<T> {
    Done(T),
    Waits(Arc<Woken>),
}

impl<T> Look<T> {
    fn at(future: impl Future<Output = T>) -> Self {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        match pin!(future).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => Look::Done(done),
            Poll::Pending => Look::Waits(woken),
        }
    }

    fn is_done(&self) -> bool {
        matches!(self, Look::Done(_))
    }

    /// Whether nobody need look again, or who must was told.
    fn is_done_or_woken(&self) -> bool {
        match self {
            Look::Done(_) => true,
            Look::Waits(woken) => woken.0.load(Ordering::SeqCst),
        }
    }
}

/// The scenes, over the inbox of one of the modules that compile it.
macro_rules! scenes {
    ($files:ident) => {
        /// A message comes while the receiver looks for one.
        fn a_message_comes() {
            let (sender, mut receiver) = super::super::$files::inbox::inbox::<u32>(1);
            let sending = thread::spawn(move || Look::at(sender.send(1)));
            let look = Look::at(receiver.receive());
            assert!(sending.join().expect("no panic").is_done(), "there is room");
            assert!(look.is_done_or_woken(), "the receiver sleeps through a message");
            if !look.is_done() {
                assert_eq!(receiver.try_receive(), Some(1));
            }
        }

        /// Room comes while a sender looks for some.
        fn room_comes() {
            let (sender, mut receiver) = super::super::$files::inbox::inbox::<u32>(1);
            assert!(Look::at(sender.send(1)).is_done());
            let sending = thread::spawn(move || Look::at(sender.send(2)));
            assert_eq!(receiver.try_receive(), Some(1));
            let look = sending.join().expect("no panic");
            assert!(look.is_done_or_woken(), "the sender sleeps through room");
            assert_eq!(receiver.try_receive(), look.is_done().then_some(2));
        }
    };
}

mod honest {
    use super::*;

    scenes!(honest);

    #[test]
    fn the_receiver_hears_of_a_message() {
        explore(4, a_message_comes);
    }

    #[test]
    fn a_sender_hears_of_room() {
        explore(4, room_comes);
    }

    /// Two senders want one place: one gets it, and the other hears when that is taken out.
    #[test]
    fn both_senders_hear_of_room() {
        explore(3, || {
            let (sender, mut receiver) = super::super::honest::inbox::inbox::<u32>(1);
            assert!(Look::at(sender.send(0)).is_done());
            let sending = thread::spawn(move || {
                let other = sender.clone();
                [Look::at(sender.send(1)), Look::at(other.send(2))]
            });
            assert_eq!(receiver.try_receive(), Some(0));
            let looks = sending.join().expect("no panic");
            assert!(looks.iter().any(Look::is_done_or_woken), "nobody heard of the room");
            let sent = looks.iter().filter(|look| look.is_done()).count();
            assert!(sent <= 1, "there is one place");
            assert_eq!(receiver.try_receive().is_some(), sent == 1);
            assert!(looks.iter().all(Look::is_done_or_woken), "one of them sleeps");
        });
    }

    /// Messages of one sender come in its order, however the two sides meet.
    #[test]
    fn messages_keep_their_order() {
        explore(3, || {
            let (sender, mut receiver) = super::super::honest::inbox::inbox::<u32>(2);
            let sending = thread::spawn(move || {
                assert!(Look::at(sender.send(1)).is_done());
                assert!(Look::at(sender.send(2)).is_done());
            });
            let early: Vec<u32> = std::iter::from_fn(|| receiver.try_receive()).collect();
            sending.join().expect("no panic");
            let late = std::iter::from_fn(|| receiver.try_receive());
            assert_eq!(early.iter().copied().chain(late).collect::<Vec<_>>(), [1, 2]);
        });
    }
}

/// Nobody is woken.
mod deaf {
    use super::*;

    scenes!(deaf);

    #[test]
    #[should_panic(expected = "the receiver sleeps through a message")]
    fn the_model_sees_a_lost_message() {
        explore(4, a_message_comes);
    }

    #[test]
    fn and_room_is_told_otherwise() {
        explore(4, room_comes);
    }
}

/// Nothing orders what one side wrote before what it looks at.
mod fenceless {
    use super::*;

    scenes!(fenceless);

    #[test]
    fn messages_need_no_fence() {
        explore(4, a_message_comes);
    }

    #[test]
    #[should_panic(expected = "the sender sleeps through room")]
    fn the_model_sees_lost_room() {
        explore(4, room_comes);
    }
}
