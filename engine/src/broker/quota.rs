//! How much users and clients have used of their quotas (KIP-13, KIP-124), and how long a client
//! that used too much has to wait (KIP-219: it is answered at once, told the time, and not read
//! from until that has passed).
//!
//! A meter is one moment: until when what was used is paid for at the quota's rate. It may lie up to
//! [`QUOTA_BURST`] back, so that a client may use a second's worth at once; what it lies ahead is the
//! time to wait. So over any time a client gets its rate and one burst, whatever the sizes of its
//! requests.
//!
//! Cores share the meters, because a client may be connected to several of them: under a lock that
//! is taken only for requests of clients that have a quota.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use super::Core;
use super::dispatch::Client;
use crate::io::{Instant, Io};
use crate::limit::{QUOTA_BURST, QUOTA_METERS_MAX, THROTTLE_MAX};
use crate::machine::Image;
use crate::machine::quota::{Entity, Quota, Rate};
use crate::probe::{self, Probe};

/// What one broker measures.
#[derive(Default)]
pub struct Meters {
    /// The version of the image while it has quotas, or 0.
    version: AtomicU64,
    paid: Mutex<Paid>,
}

#[derive(Default)]
struct Paid {
    /// Until when the use of a quota is paid for; `None` stands for all that have no meter.
    until: BTreeMap<Option<(Entity, Quota)>, Instant>,
    /// When meters were last looked through for idle ones.
    swept: Instant,
}

impl Meters {
    /// A number that changes with every image as long as any quota is set, and 0 if none is: then
    /// nobody need ask for more.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Takes note of what `image` says of quotas.
    pub fn heed(&self, image: &Image) {
        let version = if image.quotas().len() > 0 { image.version() } else { 0 };
        self.version.store(version, Ordering::Release);
    }

    /// Notes that `entity` used `amount` of a quota of `rate`; returns how long it has to wait.
    fn charge(
        &self,
        now: Instant,
        (entity, quota): (Entity, Quota),
        rate: Rate,
        amount: f64,
    ) -> Duration {
        let worth = Duration::try_from_secs_f64(amount / rate.get()).unwrap_or(Duration::MAX);
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let key = paid.key(now, (entity, quota));
        let earliest = Instant(now.0.saturating_sub(nanos(QUOTA_BURST)));
        let meter = paid.until.entry(key).or_insert(earliest);
        *meter = (*meter).max(earliest).after(worth);
        meter.since(now).min(THROTTLE_MAX)
    }
}

impl Paid {
    /// The meter to use: its own, or the common one if there are too many.
    fn key(&mut self, now: Instant, own: (Entity, Quota)) -> Option<(Entity, Quota)> {
        let own = Some(own);
        if self.until.contains_key(&own) {
            return own;
        }
        if self.until.len() >= QUOTA_METERS_MAX && now.since(self.swept) >= QUOTA_BURST {
            self.swept = now;
            // Whoever owes nothing for a whole burst is as if never seen.
            self.until.retain(|_, until| until.after(QUOTA_BURST) > now);
        }
        if self.until.len() < QUOTA_METERS_MAX { own } else { None }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether anything that `client` uses has to be measured. The answer is kept until the cluster
/// changes.
pub fn is_measured<I: Io>(core: &Core<I>, client: &Client) -> bool {
    let version = core.shared.meters.version();
    if version == 0 {
        return false;
    }
    let (known, measured) = client.measured.get();
    if known == version {
        return measured;
    }
    let image = core.shared.image();
    let (user, name) = (user(client), client.name());
    let measured = Quota::ALL.into_iter().any(|quota| image.quota(quota, user, &name).is_some());
    client.measured.set((version, measured));
    measured
}

fn user(client: &Client) -> &str {
    client.principal.strip_prefix("User:").unwrap_or(client.principal)
}

/// Notes that `client` used `amount` of `quota`, and has its connection wait if that is too much.
/// Returns how long.
pub fn charge<I: Io>(core: &Core<I>, client: &Client, quota: Quota, amount: f64) -> Duration {
    let image = core.shared.image();
    let Some((entity, rate)) = image.quota(quota, user(client), &client.name()) else {
        return Duration::ZERO;
    };
    let now = core.io.now();
    let pause = core.shared.meters.charge(now, (entity, quota), rate, amount);
    if !pause.is_zero() {
        probe::hit(Probe::Throttled);
        client.link.mute(now.after(pause));
    }
    pause
}

/// A future that knows how long it was worked on: the time in its polls, not the time between.
pub struct Timed<'a, I, F> {
    io: &'a I,
    busy: Duration,
    work: Pin<Box<F>>,
}

impl<'a, I: Io, F: Future> Timed<'a, I, F> {
    /// `work`, by the clock of `io`.
    pub fn new(io: &'a I, work: F) -> Self {
        Timed { io, busy: Duration::ZERO, work: Box::pin(work) }
    }
}

impl<I: Io, F: Future> Future for Timed<'_, I, F> {
    type Output = (F::Output, Duration);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let began = self.io.now();
        let polled = self.work.as_mut().poll(cx);
        let spent = self.io.now().since(began);
        self.busy += spent;
        polled.map(|output| (output, self.busy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::quota::Whose;

    fn entity(number: usize) -> (Entity, Quota) {
        let client = Some(Whose::Named(format!("client-{number}").as_str().into()));
        (Entity::new(None, client).expect("somebody"), Quota::ProducerByteRate)
    }

    fn at(ms: u64) -> Instant {
        Instant(1_000_000_000_000 + ms * 1_000_000)
    }

    /// Requests of every size, each sent as soon as it may be: in the long run the rate, and never
    /// more than the rate and a burst.
    #[test]
    fn a_client_gets_its_rate_whatever_the_sizes_of_its_requests() {
        let rate = Rate::new(1000.0).expect("a rate");
        for size in [2_u64, 10, 333, 1000, 2500, 40_000] {
            let meters = Meters::default();
            let (mut now, mut used, mut waited) = (0, 0, 0);
            while now < 400_000 {
                used += size;
                let pause = meters.charge(at(now), entity(1), rate, size as f64);
                let pause = u64::try_from(pause.as_micros().div_ceil(1000)).expect("short");
                now += pause.max(1);
                waited += pause;
                assert!(used <= now + 1000 + size, "{used} bytes in {now} ms");
            }
            assert!(used + 1 >= now, "{used} bytes of {size} in {now} ms: slower than its rate");
            assert!(waited > 0);
        }
    }

    #[test]
    fn a_debt_is_paid_in_parts_and_nobody_waits_for_ever() {
        let meters = Meters::default();
        let rate = Rate::new(1.0).expect("a rate");
        let pause = meters.charge(at(0), entity(1), rate, 1e30);
        assert_eq!(pause, THROTTLE_MAX);
        assert_eq!(meters.charge(at(0), entity(2), rate, 1.0), Duration::ZERO, "a burst");
        assert_eq!(meters.charge(at(0), entity(2), rate, 2.0), Duration::from_secs(2));
        assert_eq!(meters.charge(at(2000), entity(2), rate, 1.0), Duration::from_secs(1));
    }

    /// Any number of names costs a bounded number of meters, and who is measured already stays so.
    #[test]
    fn meters_are_bounded() {
        let meters = Meters::default();
        let rate = Rate::new(1.0).expect("a rate");
        for number in 0..2 * QUOTA_METERS_MAX {
            meters.charge(at(0), entity(number), rate, 5.0);
        }
        let count = || meters.paid.lock().expect("no panic").until.len();
        assert!(count() <= QUOTA_METERS_MAX + 1);
        assert_eq!(meters.charge(at(0), entity(0), rate, 1.0), Duration::from_secs(5));
        // Once they owe nothing they make room.
        assert_eq!(meters.charge(at(3_600_000), entity(99_999), rate, 1.0), Duration::ZERO);
        assert!(count() < 10, "{}", count());
    }
}
