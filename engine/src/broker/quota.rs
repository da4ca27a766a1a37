//! How much users and clients have used of their quotas (KIP-13, KIP-124, KIP-599), and how long a
//! client that used too much has to wait (KIP-219: it is answered at once, told the time, and not
//! read from until that has passed).
//!
//! A meter is one moment: until when what was used is paid for at the quota's rate. It may lie a
//! burst back ([`QUOTA_BURST`], [`MUTATION_BURST`]), so that a client may use so many seconds' worth
//! at once; what it lies ahead is the time to wait. So over any time a client gets its rate and one
//! burst, whatever the sizes of its requests. (Kafka's bucket of tokens is the same, seen from the
//! other side: it holds what the moment lies back, times the rate.)
//!
//! What a client does is done, and charged. Only what it makes or deletes may be refused instead,
//! while it owes something already.
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
use crate::limit::{MUTATION_BURST, QUOTA_BURST, QUOTA_METERS_MAX, THROTTLE_MAX};
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

    /// Notes that `own.0` used `amount` of a quota of `rate`; returns how long it has to wait.
    fn charge(&self, now: Instant, own: (Entity, Quota), rate: Rate, amount: f64) -> Duration {
        self.with_meter(now, own, |paid_until, now| {
            *paid_until = paid_until.after(worth(rate, amount));
            paid_until.since(now).min(THROTTLE_MAX)
        })
    }

    /// The same if `own.0` owes nothing, and then it need not wait, however much it uses. Else nothing
    /// is noted, and it has to wait until it has paid.
    fn charge_if_paid(
        &self,
        now: Instant,
        own: (Entity, Quota),
        rate: Rate,
        amount: f64,
    ) -> Result<(), Duration> {
        self.with_meter(now, own, |paid_until, now| {
            let owed = paid_until.since(now);
            if !owed.is_zero() {
                return Err(owed.min(THROTTLE_MAX));
            }
            *paid_until = paid_until.after(worth(rate, amount));
            Ok(())
        })
    }

    /// What `change` makes of a meter, which lies no further back than its burst, and of the time by
    /// which meters go: ahead of the clock, which may have begun less than a burst ago.
    fn with_meter<T>(
        &self,
        now: Instant,
        own: (Entity, Quota),
        change: impl FnOnce(&mut Instant, Instant) -> T,
    ) -> T {
        let now = now.after(MUTATION_BURST);
        let earliest = Instant(now.0.saturating_sub(nanos(burst(own.1))));
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let key = paid.key(now, own);
        let meter = paid.until.entry(key).or_insert(earliest);
        *meter = (*meter).max(earliest);
        change(meter, now)
    }
}

/// What may be used of a quota at once, as the time in which its rate brings as much.
fn burst(quota: Quota) -> Duration {
    match quota {
        Quota::ProducerByteRate | Quota::ConsumerByteRate | Quota::RequestPercentage => QUOTA_BURST,
        Quota::ControllerMutationRate => MUTATION_BURST,
    }
}

/// The time in which `rate` brings `amount`.
fn worth(rate: Rate, amount: f64) -> Duration {
    Duration::try_from_secs_f64(amount / rate.get()).unwrap_or(Duration::MAX)
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
            self.until.retain(|key, until| {
                let burst = key.as_ref().map_or(MUTATION_BURST, |(_, quota)| burst(*quota));
                until.after(burst) > now
            });
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
    have_wait(client, now, pause);
    pause
}

/// Notes that `client` is about to use `amount` of `quota`. If it owes some of it already it must not,
/// and its connection waits: so long, which is returned as the error.
pub fn charge_if_paid<I: Io>(
    core: &Core<I>,
    client: &Client,
    quota: Quota,
    amount: f64,
) -> Result<(), Duration> {
    let image = core.shared.image();
    let Some((entity, rate)) = image.quota(quota, user(client), &client.name()) else {
        return Ok(());
    };
    let now = core.io.now();
    let outcome = core.shared.meters.charge_if_paid(now, (entity, quota), rate, amount);
    if let Err(pause) = outcome {
        probe::hit(Probe::MutationRefused);
        have_wait(client, now, pause);
    }
    outcome
}

fn have_wait(client: &Client, now: Instant, pause: Duration) {
    if !pause.is_zero() {
        probe::hit(Probe::Throttled);
        client.link.mute(now.after(pause));
    }
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

    /// KIP-599: a burst can be used up at once, and by one request a good deal more than that; then
    /// nothing is let through before it is paid for, and what was refused costs nothing.
    #[test]
    fn nothing_is_made_while_something_is_owed() {
        let mutations = || (entity(1).0, Quota::ControllerMutationRate);
        let rate = Rate::new(2.0).expect("a rate");
        let meters = Meters::default();
        let ask = |ms, partitions| meters.charge_if_paid(at(ms), mutations(), rate, partitions);
        for _ in 0..22 {
            assert_eq!(ask(0, 1.0), Ok(()), "eleven seconds' worth at once");
        }
        assert_eq!(ask(0, 30.0), Ok(()), "nothing is owed yet");
        for _ in 0..3 {
            assert_eq!(ask(0, 1.0), Err(Duration::from_secs(15)));
        }
        assert_eq!(ask(14_999, 1.0), Err(Duration::from_millis(1)));
        assert_eq!(ask(15_000, 1.0), Ok(()));
        assert_eq!(ask(15_499, 1.0), Err(Duration::from_millis(1)));
        // The same meter, for clients that do not know of being refused.
        assert_eq!(meters.charge(at(15_500), mutations(), rate, 4.0), Duration::from_secs(2));
        assert_eq!(ask(15_500, 1.0), Err(Duration::from_secs(2)));
        // However long nothing is made, it comes to one burst.
        assert_eq!(meters.charge(at(9_000_000), mutations(), rate, 22.0), Duration::ZERO);
        assert_eq!(
            meters.charge(at(9_000_000), mutations(), rate, 1.0),
            Duration::from_millis(500)
        );
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
