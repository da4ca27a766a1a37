//! Waiting with an end: everything that a client awaits is bounded in time.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

use crate::io::{Instant, Io};

/// What `future` gives, or `None` once `limit` has passed. `future` is looked at first, so what is
/// ready at the last moment still counts.
pub async fn within<T>(
    io: &impl Io,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    match select(pin!(future), pin!(io.sleep(limit))).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(((), _)) => None,
    }
}

/// When something that must be done by `moment` is late; no time at all if it is already.
pub fn until(io: &impl Io, moment: Instant) -> Duration {
    moment.since(io.now())
}

/// The pause before the attempt number `failures` + 1: doubling from `first` to `most`, each time
/// shortened at random by up to a half, so that clients that failed together come back apart.
pub fn backoff(io: &impl Io, first: Duration, most: Duration, failures: u32) -> Duration {
    let doubled = first.saturating_mul(1 << failures.min(16)).min(most);
    let half = doubled / 2;
    let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_nanos(io.random() % nanos)
}
