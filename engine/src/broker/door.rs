//! Who may come in: how many connections there are, of everybody and of each address (Kafka's
//! `max.connections`, `max.connections.per.ip` and its overrides; KIP-402).
//!
//! One door for all cores, behind a lock that is held for a few instructions whenever a connection
//! comes or goes. It counts always, because limits may change while the broker runs.
//!
//! Keeps: DOOR-1. Must not know: what a connection is for.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts who is inside.
#[derive(Debug, Default)]
pub(super) struct Door(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    of: HashMap<IpAddr, usize>,
}

/// What somebody at the door is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Comes in, and has to leave.
    In,
    /// There are as many as there may be.
    Full,
    /// Of this address there are as many as there may be.
    FullOfAddress,
}

impl Door {
    /// Lets a connection in if there are fewer than `most`, and of its address fewer than `most_of`.
    pub(super) fn enter(&self, peer: SocketAddr, most: usize, most_of: usize) -> Entry {
        let mut inside = self.inside();
        let address = peer.ip().to_canonical();
        if inside.of.get(&address).copied().unwrap_or(0) >= most_of {
            return Entry::FullOfAddress;
        }
        if inside.all >= most {
            return Entry::Full;
        }
        inside.all += 1;
        *inside.of.entry(address).or_default() += 1;
        Entry::In
    }

    /// A connection that was let in has ended.
    pub(super) fn leave(&self, peer: SocketAddr) {
        let mut inside = self.inside();
        let address = peer.ip().to_canonical();
        let left = inside.of.get_mut(&address).expect("DOOR-1: who leaves has come");
        *left -= 1;
        if *left == 0 {
            inside.of.remove(&address);
        }
        inside.all -= 1;
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_address_and_together() {
        let at = |address: &str| -> SocketAddr { address.parse().expect("an address") };
        let (one, other) = (at("10.0.0.1:7"), at("10.0.0.2:7"));
        let door = Door::default();
        assert_eq!(door.enter(one, 3, 2), Entry::In);
        // An IPv4 client of a listener for both is the same client.
        assert_eq!(door.enter(at("[::ffff:10.0.0.1]:8"), 3, 2), Entry::In);
        assert_eq!(door.enter(one, 3, 2), Entry::FullOfAddress);
        assert_eq!(door.enter(other, 3, 2), Entry::In);
        assert_eq!(door.enter(other, 3, 2), Entry::Full);
        door.leave(one);
        assert_eq!(door.enter(other, 3, 2), Entry::In);
        assert_eq!(door.enter(other, 3, 0), Entry::FullOfAddress);
        for peer in [one, other, other] {
            door.leave(peer);
        }
        assert_eq!(door.inside().all, 0);
        assert!(door.inside().of.is_empty(), "nothing is kept of who has left");
    }
}
