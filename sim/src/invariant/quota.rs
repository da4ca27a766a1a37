//! QUOTA-1: what a client with a quota is let through, by the broker's own clock.
//!
//! A naive model beside the broker's meters: it keeps what was asked and answered, and looks at
//! every stretch of time between a request and an answer. In each of them the broker may have let
//! through the quota's rate, one burst, and one request of each connection, since a connection is
//! read until one of its requests is too much. What a client makes or deletes in a version that knows of
//! being refused is too much only for whoever comes next (KIP-599), and its connection is read on: that is
//! one request more.

use std::collections::VecDeque;
use std::time::Duration;

use trialog_engine::io::Instant;
use trialog_engine::limit::{MUTATION_BURST, QUOTA_BURST};
use trialog_engine::machine::quota::Quota;

/// Requests that are looked back at.
const KEPT: usize = 64;
/// A broker tells whole milliseconds, and clocks are read a little apart.
const SLACK: Duration = Duration::from_millis(2);

/// One request that was let through.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// The connection that it came on.
    pub connection: usize,
    /// When it was sent.
    pub asked: Instant,
    /// When its answer was there.
    pub answered: Instant,
    /// What it used of the quota: bytes, or partitions.
    pub used: u64,
    /// How long its answer told to wait.
    pub told: Duration,
}

/// What one client was let through of one quota, by one process of a broker.
#[derive(Debug)]
pub struct Allowance {
    rate: u64,
    burst: Duration,
    /// Requests that are let through although they are too much.
    excess: u64,
    used: VecDeque<Use>,
}

impl Allowance {
    /// Of so much of a quota in a second, for a client with so many connections.
    #[must_use]
    pub fn new(quota: Quota, rate: u64, connections: usize) -> Allowance {
        let (burst, strict) = match quota {
            Quota::ControllerMutationRate => (MUTATION_BURST, 1),
            _ => (QUOTA_BURST, 0),
        };
        Allowance { rate, burst, excess: connections as u64 + strict, used: VecDeque::new() }
    }

    /// A request was let through. Says what is wrong with that.
    pub fn let_through(&mut self, now: Use) -> Option<String> {
        let before = self.used.iter().rev().find(|one| one.connection == now.connection);
        let early = before.filter(|one| one.asked.after(one.told) > now.answered.after(SLACK));
        if let Some(before) = early {
            let passed = now.answered.since(before.asked);
            let told = before.told;
            return Some(format!("told to wait {told:?} and answered again after {passed:?}"));
        }
        self.used.push_back(now);
        if self.used.len() > KEPT {
            self.used.pop_front();
        }
        self.used.iter().find_map(|first| self.check(first.asked, now.answered))
    }

    /// Looks at the time between `from` and `to`.
    fn check(&self, from: Instant, to: Instant) -> Option<String> {
        let inside = self.used.iter().filter(|one| one.asked >= from && one.answered <= to);
        let (mut used, mut largest) = (0, 0);
        for one in inside {
            used += one.used;
            largest = largest.max(one.used);
        }
        let time = to.since(from);
        let paid = self.rate as f64 * (time + self.burst + SLACK).as_secs_f64();
        let most = paid + (self.excess * largest) as f64;
        let rate = self.rate;
        (used as f64 > most).then(|| format!("{used} in {time:?} at {rate} a second and a burst"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant(1_000_000_000 + ms * 1_000_000)
    }

    const BYTES: Quota = Quota::ProducerByteRate;

    fn used(asked: u64, answered: u64, used: u64, told: u64) -> Use {
        let told = Duration::from_millis(told);
        Use { connection: 0, asked: at(asked), answered: at(answered), used, told }
    }

    #[test]
    fn a_rate_a_burst_and_a_request_are_let_through_and_no_more() {
        let mut fine = Allowance::new(BYTES, 1000, 1);
        for second in 0..100 {
            let asked = second * 1000;
            assert_eq!(fine.let_through(used(asked, asked + 5, 1000, 0)), None);
        }
        let mut swift = Allowance::new(BYTES, 1000, 1);
        let wrong = (0..100).find_map(|step| {
            let asked = step * 800;
            swift.let_through(used(asked, asked + 5, 1000, 0))
        });
        assert!(wrong.expect("a quarter more").ends_with("at 1000 a second and a burst"));
    }

    #[test]
    fn of_partitions_a_burst_is_larger() {
        let mut maker = Allowance::new(Quota::ControllerMutationRate, 2, 1);
        // Eleven seconds' worth, and two requests.
        for step in 0..24 {
            assert_eq!(maker.let_through(used(step * 10, step * 10 + 5, 1, 0)), None, "{step}");
        }
        assert!(maker.let_through(used(240, 245, 1, 0)).is_some());
    }

    #[test]
    fn who_is_told_to_wait_is_not_answered_meanwhile() {
        let mut one = Allowance::new(BYTES, 1000, 2);
        assert_eq!(one.let_through(used(0, 10, 3000, 2000)), None);
        let other = Use { connection: 1, ..used(20, 30, 10, 2000) };
        assert_eq!(one.let_through(other), None);
        assert!(
            one.let_through(used(20, 30, 10, 2000)).is_some_and(|wrong| wrong.contains("told"))
        );
        assert_eq!(one.let_through(used(20, 2000, 10, 0)), None);
    }
}
