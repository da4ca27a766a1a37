//! What every implementation of the seam must do: one script, run on the kernel, in RAM and in the
//! simulator.
//!
//! It lives in the library so that other packages can hold their own [`Io`] to it. It panics
//! where a world breaks the contract, and knows nothing of any particular world: not how long a
//! call takes, nor where a read or a write is short.

mod files;
mod network;
pub mod random;
mod transfer;

use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Buf, Connection, File, Flow, Instant, Io, Result, fill_at, write_all, write_all_at};

/// The whole script: one world as both ends of every connection.
pub async fn all<I: Io>(io: &I, dir: &Path, ip: IpAddr) {
    time(io).await;
    files(io, dir).await;
    network(io, io, dir, ip).await;
}

/// Files, folders and locks, within the empty folder `dir`.
pub async fn files<I: Io>(io: &I, dir: &Path) {
    files::run(io, dir).await;
}

/// Sockets: `server` listens on `ip` and keeps files in `dir`, `client` connects. They may be two
/// hosts.
pub async fn network<I: Io>(server: &I, client: &I, dir: &Path, ip: IpAddr) {
    network::run(server, client, ip).await;
    transfer::run(server, client, dir, ip).await;
}

/// Clocks, sleeping, tasks, randomness.
pub async fn time<I: Io>(io: &I) {
    let start = io.now();
    io.sleep(Duration::ZERO).await;
    io.sleep(Duration::from_millis(5)).await;
    let slept = io.now().since(start);
    assert!(slept >= Duration::from_millis(5), "woke after {slept:?}");
    assert!(io.wall().0 > 1_000_000_000_000, "the wall clock is before 2001");

    // Sleeps end in the order of their length, and a spawned task runs beside its maker.
    let long = task(io, sleep(io.clone(), 40));
    let short = task(io, sleep(io.clone(), 10));
    let (long, short): (Instant, Instant) = (done(long).await, done(short).await);
    assert!(short < long);

    let numbers: std::collections::BTreeSet<u64> = (0..64).map(|_| io.random()).collect();
    assert!(numbers.len() > 60, "random numbers repeat");
}

async fn sleep<I: Io>(io: I, ms: u64) -> Instant {
    io.sleep(Duration::from_millis(ms)).await;
    io.now()
}

/// Runs `work` as a task of its own; [`done`] waits for what it returns.
fn task<F: Future + 'static>(io: &impl Io, work: F) -> oneshot::Receiver<F::Output> {
    let (sender, receiver) = oneshot::channel();
    io.spawn(async move {
        // Whoever started it may not care.
        let _ = sender.send(work.await);
    });
    receiver
}

async fn done<T>(task: oneshot::Receiver<T>) -> T {
    task.await.expect("a task runs to its end")
}

/// Bytes that tell their position: no two neighbouring ranges are equal.
fn pattern(from: u64, len: usize) -> Vec<u8> {
    let byte = |at: u64| (at ^ (at >> 8).wrapping_mul(31) ^ (at >> 16).wrapping_mul(17)) as u8;
    (from..from + len as u64).map(byte).collect()
}

async fn put(file: &impl File, offset: u64, bytes: &[u8]) {
    write_all_at(file, vec![Buf::from(bytes)], offset).await.0.expect("a write");
}

/// Up to `len` bytes from `offset` on.
async fn get(file: &impl File, offset: u64, len: usize) -> Vec<u8> {
    let (result, buf) = fill_at(file, Buf::with_capacity(len), offset).await;
    result.expect("a read");
    buf.to_vec()
}

async fn send(connection: &impl Connection, bytes: &[u8]) {
    write_all(connection, Buf::from(bytes), Flow::Done).await.expect("a write");
}

/// Exactly `len` bytes, or fewer if the peer finishes first.
async fn receive(connection: &impl Connection, len: usize) -> Vec<u8> {
    try_receive(connection, len).await.expect("a read")
}

async fn try_receive(connection: &impl Connection, len: usize) -> Result<Vec<u8>> {
    let mut buf = Buf::with_capacity(len);
    while !buf.spare().is_empty() {
        let before = buf.len();
        let (result, returned) = connection.read(buf).await;
        buf = returned;
        let count = result?;
        assert_eq!(buf.len(), before + count, "a read reports what it added");
        if count == 0 {
            break;
        }
    }
    Ok(buf.to_vec())
}
