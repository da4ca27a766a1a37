//! What the two tasks of a connection, its requests, and the memory for requests tell each other about it:
//! whether its peer is there, whether it may be read, how its answers get on, and whether it has to end.
//!
//! Lives on the connection's core. Decides nothing.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, Semaphore};

use super::memory::Why;
use crate::io::Instant;

/// What the two tasks and the requests of one connection share.
pub struct Link {
    /// Set when the peer will send no more, so that nothing waits on its behalf.
    gone: Cell<bool>,
    leaving: Notify,
    last_active: Cell<Instant>,
    /// Until when nothing is read from it, because its client has used more than its quota.
    muted_until: Cell<Option<Instant>>,
    writes: Cell<Writes>,
    /// Room for its requests that wait for their answers, one of `places` for each small one.
    room: Arc<Semaphore>,
    places: usize,
    /// Set when its answer waits for what others do: for records, or for the members of a group.
    is_put_off: Cell<bool>,
    /// Set when it is to end because it keeps so many bytes of memory that others wait for.
    put_out: Cell<Option<(Why, usize)>>,
    putting_out: Notify,
}

/// How writing to the peer goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Whether the peer has yet to take what is written.
    pub is_under_way: bool,
    /// Rises whenever a write begins or ends, or a part of it is taken, and when an answer is put off.
    steps: u64,
}

impl Link {
    /// Of a connection that has just been made, which may have so many requests that wait for their answers.
    pub fn new(now: Instant, places: usize) -> Rc<Link> {
        Rc::new(Link {
            gone: Cell::new(false),
            leaving: Notify::new(),
            last_active: Cell::new(now),
            muted_until: Cell::new(None),
            writes: Cell::default(),
            room: Arc::new(Semaphore::new(places)),
            places,
            is_put_off: Cell::new(false),
            put_out: Cell::new(None),
            putting_out: Notify::new(),
        })
    }

    /// The places for its requests that wait for their answers.
    pub fn room(&self) -> &Arc<Semaphore> {
        &self.room
    }

    /// Whether it waits for any answer.
    pub fn awaits_answer(&self) -> bool {
        self.room.available_permits() < self.places
    }

    /// Completes when the peer has gone: whatever waits for its sake stops waiting.
    pub async fn gone(&self) {
        while !self.gone.get() {
            self.leaving.notified().await;
        }
    }

    /// Nothing is read before `until`.
    pub fn mute(&self, until: Instant) {
        self.muted_until.set(self.muted_until.get().max(Some(until)));
    }

    /// Until when it is muted, if it is.
    pub fn muted_until(&self) -> Option<Instant> {
        self.muted_until.get()
    }

    /// It may be read again.
    pub fn unmute(&self) {
        self.muted_until.set(None);
    }

    /// When anything last came or left.
    pub fn last_active(&self) -> Instant {
        self.last_active.get()
    }

    /// Something has come or left, or it counts as if it had until then.
    pub fn active(&self, now: Instant) {
        self.last_active.set(self.last_active.get().max(now));
    }

    /// How writing goes.
    pub fn writes(&self) -> Writes {
        self.writes.get()
    }

    /// A write begins, or ends.
    pub fn writing(&self, is_under_way: bool) {
        self.writes.set(Writes { is_under_way, steps: self.writes.get().steps + 1 });
    }

    /// The peer has taken a part of what is written.
    pub fn progressed(&self, now: Instant) {
        self.writing(true);
        self.active(now);
    }

    /// An answer begins to wait for what others do, or ends to.
    pub fn put_off(&self, is_put_off: bool) {
        self.is_put_off.set(is_put_off);
        self.writing(false);
    }

    /// While its answers wait for the peer or for others: a number that stays the same as long as they get
    /// nowhere.
    pub fn still(&self) -> Option<u64> {
        let Writes { is_under_way, steps } = self.writes.get();
        (is_under_way || self.is_put_off.get()).then_some(steps)
    }

    /// Ends the connection, which keeps so many bytes of memory that others wait for. Whether that is new.
    pub fn put_out(&self, why: Why, bytes: usize) -> bool {
        if self.is_put_out() {
            return false;
        }
        self.put_out.set(Some((why, bytes)));
        self.putting_out.notify_waiters();
        true
    }

    /// Whether it is to end for that.
    pub fn is_put_out(&self) -> bool {
        self.put_out.get().is_some()
    }

    /// Why, and how many bytes it keeps, if it is to end for that.
    pub fn why_put_out(&self) -> Option<(Why, usize)> {
        self.put_out.get()
    }

    /// Completes when it is to end for that: says why, and how many bytes it keeps.
    pub async fn until_put_out(&self) -> (Why, usize) {
        loop {
            if let Some(put_out) = self.why_put_out() {
                return put_out;
            }
            self.putting_out.notified().await;
        }
    }

    /// The peer will send no more.
    pub fn leave(&self) {
        self.gone.set(true);
        self.leaving.notify_waiters();
    }
}
