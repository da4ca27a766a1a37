//! The agenda: what the world will do by itself, and when.
//!
//! Sleeps end, disk calls take effect, packets arrive: each is an entry here, in order of time and
//! then of entering. One task, the driver, carries them out; it is the only user of madsim's
//! timers, so that cancelled sleeps leave nothing behind and microseconds count.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

use crate::net::Packet;

/// Something that will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A sleep ends.
    Timer(u64),
    /// A disk call takes effect.
    Disk {
        /// Whose disk.
        machine: usize,
        /// The call's number.
        call: u64,
    },
    /// Something happens on the network.
    Net(Packet),
}

/// Everything that is due, in order.
#[derive(Debug, Default)]
pub struct Agenda {
    entries: BTreeMap<(u64, u64), Due>,
    entered: u64,
    /// Deadlines for which a timer is running already.
    armed: BTreeSet<u64>,
    driver: Option<Waker>,
}

impl Agenda {
    /// Enters something for true time `at`; the key takes it out again.
    pub fn enter(&mut self, at: u64, due: Due) -> (u64, u64) {
        self.entered += 1;
        let key = (at, self.entered);
        self.entries.insert(key, due);
        if self.armed.first().is_none_or(|&first| first > at)
            && let Some(driver) = &self.driver
        {
            driver.wake_by_ref();
        }
        key
    }

    /// Takes an entry out, if it is still there.
    pub fn cancel(&mut self, key: (u64, u64)) {
        self.entries.remove(&key);
    }

    /// The next thing that is due at `now`, if any.
    pub fn pop(&mut self, now: u64) -> Option<Due> {
        let entry = self.entries.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// The driver will wait at `now`: the deadline for which it must start a timer, if there is
    /// none running for it already.
    pub fn arm(&mut self, now: u64, driver: &Waker) -> Option<u64> {
        self.driver = Some(driver.clone());
        self.armed = self.armed.split_off(&(now + 1));
        let next = self.entries.first_key_value()?.0.0;
        let covered = self.armed.first().is_some_and(|&first| first <= next);
        (!covered && self.armed.insert(next)).then_some(next)
    }

    /// Forgets everything; for the end of a run.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.driver = None;
    }
}
