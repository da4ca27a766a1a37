//! What one core has done since it started, in plain counters.
//!
//! The core alone adds to its tally, with a load and a store of its own memory; whoever watches
//! sums the tallies of all cores when asked. So counting costs a core what an addition costs, and
//! nothing is shared while nobody asks. Numbers read from another core are recent ones, and two of
//! them need not be of the same moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::dispatch::SERVED;
use crate::io::Instant;
use crate::machine::quota::Quota;
use crate::wire::api::ApiKey;

/// How many APIs are counted apart.
pub const APIS: usize = SERVED.len();

/// A counter that one core adds to and every core may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `more`. Called on the counter's core alone.
    pub fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    /// Sets it. Called on the counter's core alone.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Parts that each doubling of a duration is divided into: a bucket is at most a quarter of its
/// lower end wide.
const PARTS: usize = 4;
const PART_BITS: u32 = PARTS.trailing_zeros();
/// Doublings of a microsecond that have buckets: the last one begins at 67 s, and takes all above.
pub const DOUBLINGS: usize = 27;
const BUCKETS: usize = PARTS * DOUBLINGS;

/// One of each API that is served, in the order of [`SERVED`].
#[derive(Debug)]
pub struct PerApi<T>(pub [T; APIS]);

impl<T: Default> Default for PerApi<T> {
    fn default() -> Self {
        PerApi(std::array::from_fn(|_| T::default()))
    }
}

/// Durations in buckets that double in width, each doubling in equal parts.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum_nanos: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            buckets: std::array::from_fn(|_| Counter::default()),
            sum_nanos: Counter::default(),
        }
    }
}

impl Histogram {
    /// Adds `count` events that each took `took`.
    pub fn add(&self, took: Duration, count: u64) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos / 1000)].add(count);
        self.sum_nanos.add(nanos.saturating_mul(count));
    }
}

/// The bucket of a duration in microseconds.
fn bucket(micros: u64) -> usize {
    // The first doublings have fewer microseconds than parts: each value has a bucket of its own.
    if micros < PARTS as u64 {
        return usize::try_from(micros).expect("less than the parts");
    }
    let doubling = micros.ilog2();
    let part = (micros >> (doubling - PART_BITS)) & (PARTS as u64 - 1);
    let number = (doubling - PART_BITS + 1) as usize * PARTS;
    (number + usize::try_from(part).expect("less than the parts")).min(BUCKETS - 1)
}

/// The durations in bucket `number` are below this many microseconds.
fn bound(number: usize) -> u64 {
    if number < PARTS {
        return number as u64 + 1;
    }
    let width = 1_u64 << (number / PARTS - 1);
    (PARTS as u64 + (number % PARTS) as u64 + 1) * width
}

/// A histogram as it stood, or several together.
#[derive(Clone, Debug)]
pub struct Durations {
    buckets: [u64; BUCKETS],
    sum_nanos: u64,
}

impl Default for Durations {
    fn default() -> Self {
        Durations { buckets: [0; BUCKETS], sum_nanos: 0 }
    }
}

impl Durations {
    /// What was added since it stood at `before`.
    #[must_use]
    pub fn since(&self, before: &Durations) -> Durations {
        let buckets = self.buckets.iter().zip(&before.buckets);
        let mut more = buckets.map(|(now, then)| now.saturating_sub(*then));
        Durations {
            buckets: std::array::from_fn(|_| more.next().expect("as many as there are")),
            sum_nanos: self.sum_nanos.wrapping_sub(before.sum_nanos),
        }
    }

    /// Adds what `histogram` holds.
    pub fn take(&mut self, histogram: &Histogram) {
        for (all, one) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *all += one.get();
        }
        self.sum_nanos = self.sum_nanos.wrapping_add(histogram.sum_nanos.get());
    }

    /// How many events there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How long they took together, in seconds.
    pub fn seconds(&self) -> f64 {
        self.sum_nanos as f64 / 1e9
    }

    /// How many events took less than 2 to the power of `doubling` microseconds.
    pub fn below(&self, doubling: usize) -> u64 {
        let end = self.buckets.iter().enumerate().take_while(|(n, _)| bound(*n) <= 1 << doubling);
        end.map(|(_, count)| count).sum()
    }

    /// The duration in milliseconds that a share of all events did not reach; 0 without events.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (number, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted {
                return bound(number) as f64 / 1000.0;
            }
        }
        0.0
    }
}

/// What one core has done.
#[derive(Debug, Default)]
pub struct Tally {
    /// When the core last had a turn, in nanoseconds of its clock; 0 before its first.
    pub turn_at: Counter,
    /// Connections that are open, were accepted, and were turned away because there were too many.
    pub connections: Counter,
    /// See [`Tally::connections`].
    pub accepted: Counter,
    /// See [`Tally::connections`].
    pub turned_away: Counter,
    /// How often a request had to wait for memory.
    pub memory_waits: Counter,
    /// Bytes read from sockets.
    pub received_bytes: Counter,
    /// Bytes written to sockets.
    pub sent_bytes: Counter,
    /// From a request's receipt to its answer's departure, by API.
    pub latencies: PerApi<Histogram>,
    /// For how long clients were told to wait because they had used up a quota, in the order of
    /// [`Quota::ALL`].
    pub throttles: [Histogram; Quota::ALL.len()],
    /// Requests that were refused in whole or in part, by API.
    pub refused: PerApi<Counter>,
    /// Partitions of fetches that were answered with an error.
    pub fetches_failed: Counter,
    /// Batches that were refused because the disk is full.
    pub produces_without_room: Counter,
    /// Logs that this core has to open before the broker has started; 1 more than they are, so
    /// that 0 says that they have not been counted.
    pub logs_to_open: Counter,
    /// How many of them are open, or are offline.
    pub logs_opened: Counter,
    /// How many had not been closed cleanly, and were recovered.
    pub logs_recovered: Counter,
    /// Bytes that were looked at in recovery.
    pub recovered_bytes: Counter,
    /// Partitions whose log cannot be used.
    pub logs_offline: Counter,
}

/// The place of an API in a tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u8);

/// The place of each API key that is served, by its code.
const SLOTS: [u8; 128] = {
    let mut slots = [u8::MAX; 128];
    let mut at = 0;
    assert!(APIS < u8::MAX as usize);
    while at < APIS {
        slots[SERVED[at].0 as usize] = at as u8;
        at += 1;
    }
    slots
};

impl Slot {
    /// The place of an API by its code on the wire, if it is served.
    pub fn of(code: i16) -> Option<Slot> {
        let slot = *SLOTS.get(usize::try_from(code).ok()?)?;
        (slot != u8::MAX).then_some(Slot(slot))
    }

    /// The place of the API of a request's frame.
    pub fn of_frame(frame: &[u8]) -> Option<Slot> {
        let code = frame.first_chunk::<2>()?;
        Slot::of(i16::from_be_bytes(*code))
    }

    /// Its number in the tally's arrays.
    pub fn number(self) -> usize {
        usize::from(self.0)
    }
}

/// The place of a served API.
pub const PRODUCE: Slot = Slot(SLOTS[ApiKey::Produce as usize]);
/// See [`PRODUCE`].
pub const FETCH: Slot = Slot(SLOTS[ApiKey::Fetch as usize]);

impl Tally {
    /// Notes that requests of one API, received at `received`, have been answered at `now`.
    pub fn answered(&self, slot: Slot, requests: u64, received: Instant, now: Instant) {
        self.latencies.0[slot.number()].add(now.since(received), requests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gaps() {
        for number in 0..BUCKETS - 1 {
            assert_eq!(bucket(bound(number) - 1), number, "the last of {number}");
            assert_eq!(bucket(bound(number)), number + 1, "the first behind {number}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn what_is_below_a_power_of_two_is_counted_exactly() {
        let histogram = Histogram::default();
        for micros in [0, 1, 63, 64, 65, 127, 128, 1023, 1024, 90_000_000] {
            histogram.add(Duration::from_micros(micros), 2);
        }
        let mut durations = Durations::default();
        durations.take(&histogram);
        let below: Vec<u64> = [6, 7, 10, 26].map(|n| durations.below(n)).into();
        assert_eq!(below, [6, 12, 16, 18]);
        assert_eq!(durations.count(), 20);
        assert!((durations.seconds() - 180.004_990).abs() < 1e-6, "{}", durations.seconds());
    }

    #[test]
    fn quantiles_are_a_quarter_too_large_at_most() {
        let histogram = Histogram::default();
        for micros in 1..=1000 {
            histogram.add(Duration::from_micros(micros), 1);
        }
        let mut durations = Durations::default();
        durations.take(&histogram);
        for (share, exact) in [(0.5, 0.5), (0.95, 0.95), (0.99, 0.99), (0.999, 0.999)] {
            let found = durations.quantile_ms(share);
            assert!((exact..=exact * 1.26).contains(&found), "{share}: {found}");
        }
        assert_eq!(Durations::default().quantile_ms(0.99), 0.0);
        // Of what came later alone.
        let before = durations.clone();
        histogram.add(Duration::from_secs(1), 10);
        let mut all = Durations::default();
        all.take(&histogram);
        let later = all.since(&before);
        assert_eq!((later.count(), later.seconds()), (10, 10.0));
        assert!(later.quantile_ms(0.5) >= 1000.0 && all.quantile_ms(0.5) < 1.0);
    }

    #[test]
    fn every_api_has_a_place_and_others_have_none() {
        for (number, (api, _)) in SERVED.iter().enumerate() {
            assert_eq!(Slot::of(*api as i16).map(Slot::number), Some(number));
        }
        assert_eq!(PRODUCE.number(), 0);
        assert_eq!(Slot::of_frame(&[0, 1, 9]), Some(FETCH));
        for code in [-1, 4, 127, 128, i16::MAX] {
            assert_eq!(Slot::of(code), None, "{code}");
        }
        assert_eq!(Slot::of_frame(&[0]), None);
    }
}
