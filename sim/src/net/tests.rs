//! What each fault of the network looks like to the two programs of a connection.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trialog_engine::io::{Buf, Connection as _, Flow, Io, Listener as _, write_all};

use super::*;
use crate::cluster::{Cluster, Frame, simulate};
use crate::io::SimConnection;
use crate::machine::Machine;

const DISK: u64 = 1 << 20;
const BYTES: usize = 40_000;
const FAULT: Cause = Cause(1);

/// What the server's program saw of a client that sends [`BYTES`] after half a second, ends its
/// half, and then reads.
#[derive(Clone, Debug, Default)]
struct Seen {
    got: Vec<u8>,
    /// When the last of it came, in milliseconds.
    last: u64,
    /// How the server's reading ended: the end, or an error.
    ended: Option<Option<ErrorKind>>,
    /// How the client's sending or reading ended, and when in milliseconds.
    client: Option<(Option<ErrorKind>, u64)>,
}

fn sent() -> Vec<u8> {
    (0..BYTES).map(|at| (at ^ (at >> 8)) as u8).collect()
}

async fn read_to_end(connection: &SimConnection, mut each: impl FnMut(&[u8])) -> Option<ErrorKind> {
    loop {
        match connection.read(Buf::with_capacity(3000)).await {
            (Ok(0), _) => return None,
            (Ok(_), buf) => each(&buf),
            (Err(error), _) => return Some(error.kind()),
        }
    }
}

/// Lets the two talk, with `fault` coming at a certain moment.
fn talk(
    seed: u64,
    seconds: u64,
    at: Duration,
    fault: impl FnOnce(&Cluster) + Send + 'static,
) -> Seen {
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let shared = Arc::clone(&seen);
    let body = move |cluster: Cluster| async move {
        let own = Arc::clone(&shared);
        cluster.add("server", DISK, move |io| {
            let own = Arc::clone(&own);
            async move {
                let listener = io.listen(io.address(9)).await.expect("free");
                let connection = listener.accept().await.expect("a peer");
                let ended = read_to_end(&connection, |bytes| {
                    let mut seen = own.lock().expect("one thread");
                    seen.got.extend(bytes);
                    seen.last = io.world().now() / MILLISECOND;
                });
                let ended = ended.await;
                own.lock().expect("one thread").ended = Some(ended);
                io.sleep(Duration::from_secs(3600)).await;
            }
        });
        cluster.add("client", DISK, move |io| {
            let own = Arc::clone(&shared);
            async move {
                let server = SocketAddr::new(Machine::address(0), 9);
                let work = async {
                    let connection = io.connect(server).await?;
                    io.sleep(Duration::from_millis(500)).await;
                    write_all(&connection, sent().into(), Flow::Done).await?;
                    connection.shutdown().await?;
                    match read_to_end(&connection, |_| {}).await {
                        None => Ok(()),
                        Some(kind) => Err(kind.into()),
                    }
                };
                let result: std::io::Result<()> = work.await;
                let at = io.world().now() / MILLISECOND;
                let kind = result.err().map(|error| error.kind());
                own.lock().expect("one thread").client = Some((kind, at));
                io.sleep(Duration::from_secs(3600)).await;
            }
        });
        cluster.pass(at).await;
        fault(&cluster);
        cluster.pass(Duration::from_secs(seconds)).await;
    };
    simulate(Frame::new(seed), body).expect("no panic");
    seen.lock().expect("one thread").clone()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// From the client to the server.
fn hinder(cluster: &Cluster, hindrance: Hindrance) {
    cluster.world().net(|net| net.hinder(1, 0, FAULT, hindrance));
}

fn each_connection(cluster: &Cluster, mut what: impl FnMut(&mut Net, &mut Around<'_>, u64)) {
    cluster.world().around(|net, around| {
        let open = net.connections_between(0, 1);
        assert_eq!(open.len(), 1);
        open.into_iter().for_each(|id| what(net, around, id));
    });
}

#[test]
fn lost_doubled_late_and_damaged_packets_are_mended_by_the_stream() {
    for hindrance in [
        Hindrance::Lossy(200),
        Hindrance::Damaged(200),
        Hindrance::Doubled(500),
        Hindrance::Shuffled(500),
        Hindrance::Tail(200),
        Hindrance::Slow(50),
        Hindrance::Tiny(1),
        Hindrance::Tiny(1500),
        Hindrance::Altered(1000),
    ] {
        for seed in 0..4 {
            let seen = talk(seed, 500, Duration::ZERO, move |cluster| hinder(cluster, hindrance));
            assert!(seen.got == sent(), "{hindrance:?}, seed {seed}: {} bytes", seen.got.len());
            assert_eq!(seen.ended, Some(None), "{hindrance:?}, seed {seed}");
        }
    }
}

#[test]
fn a_narrow_link_takes_its_time() {
    let wide = talk(1, 60, Duration::ZERO, |_| {});
    let narrow = talk(1, 60, Duration::ZERO, |c| hinder(c, Hindrance::Narrow(10_000)));
    assert!(wide.last < 1_000, "{}", wide.last);
    assert!((4_000..9_000).contains(&narrow.last), "{}", narrow.last);
    assert!(narrow.got == sent());
}

#[test]
fn what_is_held_comes_at_once_when_it_is_released() {
    for seed in 0..6 {
        let before = talk(seed, 3, ms(300), |cluster| hinder(cluster, Hindrance::Held));
        assert_eq!((before.got.len(), before.client), (0, None));
        let seen = talk(seed, 60, ms(300), |cluster| {
            hinder(cluster, Hindrance::Held);
            let world = cluster.world().clone();
            let later = cluster.clone();
            madsim::task::spawn_local(async move {
                later.pass(ms(5_000)).await;
                world.around(|net, around| net.lift(around, FAULT));
            });
        });
        assert!(seen.got == sent());
        assert!((5_300..5_900).contains(&seen.last), "{}", seen.last);
    }
}

#[test]
fn a_connection_that_breaks_mid_frame_leaves_a_part() {
    let mut parts = 0;
    for seed in 0..10 {
        let seen = talk(seed, 10, ms(300), |cluster| {
            each_connection(cluster, |net, _, id| net.break_mid_frame(id, FAULT));
        });
        assert!(seen.got.len() < BYTES && seen.got == sent()[..seen.got.len()]);
        assert_eq!(seen.ended, Some(Some(ErrorKind::ConnectionReset)));
        let client = seen.client.expect("it ended").0.expect("in an error");
        assert!(matches!(client, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{client}");
        parts += u32::from(!seen.got.is_empty());
    }
    assert_eq!(parts, 10, "a part of a packet always arrives");
}

#[test]
fn a_forgotten_connection_looks_open_until_its_sender_gives_up() {
    let seen = talk(2, 60, ms(300), |cluster| {
        each_connection(cluster, |net, _, id| net.forget(id, FAULT));
    });
    assert!(seen.got.is_empty());
    assert_eq!(seen.ended, None, "the reader is told nothing");
    let (kind, at) = seen.client.expect("the sender gives up");
    assert_eq!(kind, Some(ErrorKind::TimedOut));
    assert!((10_000..45_000).contains(&at), "after its patience: {at}");
}

#[test]
fn a_half_that_a_box_has_ended_is_an_end_here_and_a_reset_there() {
    let seen = talk(2, 10, ms(300), |cluster| {
        each_connection(cluster, |net, around, id| net.end_half(around, id, 1, FAULT));
    });
    assert!(seen.got.is_empty());
    assert_eq!(seen.ended, Some(None), "the reader sees the end");
    let client = seen.client.expect("it ended").0.expect("in an error");
    assert!(matches!(client, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{client}");
}

#[test]
fn wishes_to_connect_hang_are_refused_or_slammed() {
    let hang = talk(1, 20, Duration::ZERO, |cluster| hinder(cluster, Hindrance::Deaf));
    assert_eq!((hang.ended, hang.client), (None, None));
    let refused = talk(1, 5, Duration::ZERO, |cluster| hinder(cluster, Hindrance::Refusing));
    assert_eq!(refused.client.expect("at once").0, Some(ErrorKind::ConnectionRefused));
    let slammed = talk(1, 5, Duration::ZERO, |cluster| hinder(cluster, Hindrance::Slamming));
    assert_eq!(slammed.client.expect("soon").0, Some(ErrorKind::ConnectionReset));
    assert_eq!(slammed.ended, Some(Some(ErrorKind::ConnectionReset)));
}

/// Cut in one direction only: what the client sends does not arrive, what the server says would.
#[test]
fn a_cut_has_a_direction() {
    let there = talk(1, 5, ms(300), |cluster| hinder(cluster, Hindrance::Cut));
    assert_eq!((there.got.len(), there.ended), (0, None));
    let back = talk(1, 60, ms(300), |cluster| {
        cluster.world().net(|net| net.hinder(0, 1, FAULT, Hindrance::Cut));
    });
    assert!(!back.got.is_empty(), "bytes pass the other way");
    assert!(back.got == sent()[..back.got.len()]);
}
