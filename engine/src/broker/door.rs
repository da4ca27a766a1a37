//! Where clients come in, and who may: how many connections there are, of everybody and of each address (Kafka's
//! `max.connections`, `max.connections.per.ip` and its overrides; KIP-402).
//!
//! One door for all cores, behind a lock that is held for a few instructions whenever a connection
//! comes or goes. It counts always, because limits may change while the broker runs.
//!
//! Keeps: DOOR-1. Must not know: what a connection is for.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

use super::{Core, conn};
use crate::io::{Connection, Io, Listener};
use crate::limit::{CONNECTIONS_MAX, DOOR_RETRY_PAUSE};
use crate::probe::{self, Probe};

/// A listener that is open.
#[derive(Clone)]
pub(super) struct Open<L> {
    /// What it is called.
    pub(super) name: Arc<str>,
    /// Where its connections come from.
    pub(super) listener: L,
}

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

/// Lets connections in through a listener, and serves them, until it is dropped.
pub(super) async fn accept<I: Io>(core: &Rc<Core<I>>, Open { name, listener }: Open<I::Listener>) {
    loop {
        let connection = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                probe::hit(Probe::AcceptFailed);
                warn!(%error, "could not accept a connection");
                core.io.sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let peer = connection.peer_address();
        if !admit(core, peer).await {
            core.tally.turned_away.add(1);
            connection.close();
            continue;
        }
        core.connections.set(core.connections.get() + 1);
        core.tally.accepted.add(1);
        core.tally.connections.set(core.connections.get() as u64);
        let (core, name) = (core.clone(), name.clone());
        let io = core.io.clone();
        io.spawn(async move {
            conn::serve(core.clone(), connection, name).await;
            core.shared.door.leave(peer);
            core.connections.set(core.connections.get() - 1);
            core.tally.connections.set(core.connections.get() as u64);
        });
    }
}

/// Lets a new connection in through the door, once there is room; false if it is to be closed.
async fn admit<I: Io>(core: &Core<I>, peer: SocketAddr) -> bool {
    if core.connections.get() >= CONNECTIONS_MAX {
        warn!(client = %peer, limit = CONNECTIONS_MAX,
            "closing a new connection: this core has as many as it takes");
        return false;
    }
    let mut told = false;
    loop {
        let config = core.config();
        let (most, most_of) = (config.connections_max, config.connections_max_of(peer.ip()));
        match core.shared.door.enter(peer, most, most_of) {
            Entry::In => return true,
            Entry::FullOfAddress => {
                probe::hit(Probe::AddressTurnedAway);
                warn!(client = %peer, limit = most_of,
                    "closing a new connection: its address has as many as it may; raise \
                     max.connections.per.ip, or name the address in max.connections.per.ip.overrides");
                return false;
            }
            Entry::Full => {
                if !std::mem::replace(&mut told, true) {
                    probe::hit(Probe::DoorFull);
                    warn!(client = %peer, limit = most,
                        "new connections wait until others have ended; raise max.connections");
                }
                core.io.sleep(DOOR_RETRY_PAUSE).await;
            }
        }
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
