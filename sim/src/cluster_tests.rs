//! The world as programs see it: files, sockets, time and death, on whole simulated machines.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trialog_engine::io::{
    Buf, Connection, File, Flow, Io, Listener, Open, conform, fill_at, send_file_all, write_all,
    write_all_at,
};

use super::*;
use crate::cause::Cause;
use crate::clock::Mischief;
use crate::machine::Machine;
use crate::net::link::Hindrance;

const DISK: u64 = 64 << 20;
const PORT: u16 = 9092;

fn server() -> SocketAddr {
    SocketAddr::new(Machine::address(0), PORT)
}

async fn read_some(connection: &impl Connection, max: usize) -> std::io::Result<Vec<u8>> {
    let (result, buf) = connection.read(Buf::with_capacity(max)).await;
    result.map(|_| buf.to_vec())
}

async fn read_to_end(connection: &impl Connection) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let part = read_some(connection, 8192).await?;
        if part.is_empty() {
            return Ok(all);
        }
        all.extend(part);
    }
}

/// Sends everything back to whoever connects.
async fn echo(io: SimIo) {
    let listener = io.listen(SocketAddr::new([0, 0, 0, 0].into(), PORT)).await.expect("free");
    loop {
        let connection = listener.accept().await.expect("a peer");
        io.spawn(async move {
            while let Ok(part) = read_some(&connection, 4096).await {
                if part.is_empty() {
                    let _ = connection.shutdown().await;
                    break;
                }
                if write_all(&connection, part.into(), Flow::Done).await.is_err() {
                    break;
                }
            }
        });
    }
}

type Notes<T> = Arc<Mutex<Vec<T>>>;

fn note<T>(notes: &Notes<T>, value: T) {
    notes.lock().expect("one thread").push(value);
}

fn taken<T>(notes: &Notes<T>) -> Vec<T> {
    std::mem::take(&mut *notes.lock().expect("one thread"))
}

/// Runs `body` for several seeds, each twice, and insists on equal hashes.
fn each_seed<F: Future<Output = ()> + 'static>(
    body: impl Fn(Cluster) -> F + Send + Copy + 'static,
) {
    for seed in 0..4 {
        let run = || simulate(Frame::new(seed), body).expect("no panic").digest;
        assert_eq!(run(), run(), "seed {seed}");
    }
}

/// Who looks sees each second once, and leaves everything as it is.
#[test]
fn a_look_each_second_changes_nothing() {
    let run = |looks: bool| {
        let body = move |cluster: Cluster| async move {
            cluster.add("server", DISK, echo);
            let seen: Notes<u64> = Arc::default();
            if looks {
                let (world, own) = (cluster.world().clone(), Arc::clone(&seen));
                cluster.look_each_second(move || note(&own, world.now() / 1_000_000_000));
            }
            cluster.add("client", DISK, |io| async move {
                let connection = io.connect(server()).await.expect("a server");
                for _ in 0..100 {
                    write_all(&connection, vec![1; 50].into(), Flow::Done).await.expect("sent");
                    read_some(&connection, 50).await.expect("answered");
                    io.sleep(Duration::from_nanos(io.random() % 90_000_000)).await;
                }
            });
            cluster.pass(Duration::from_millis(4500)).await;
            taken(&seen)
        };
        simulate(Frame::new(1), body).expect("no panic")
    };
    let (with, without) = (run(true), run(false));
    assert_eq!((with.digest, &with.value[..]), (without.digest, &[1, 2, 3, 4][..]));
}

#[test]
fn bytes_come_back_in_order_and_the_end_after_them() {
    each_seed(|cluster| async move {
        cluster.add("server", DISK, echo);
        let got: Notes<Vec<u8>> = Arc::default();
        let notes = Arc::clone(&got);
        cluster.add("client", DISK, move |io| {
            let notes = Arc::clone(&notes);
            async move {
                let connection = io.connect(server()).await.expect("there");
                assert_eq!(connection.peer_address(), server());
                let sender = connection.clone();
                io.spawn(async move {
                    for number in 0..2000_u32 {
                        let bytes = [number.to_be_bytes(); 64].concat();
                        write_all(&sender, bytes.into(), Flow::More).await.expect("taken");
                    }
                    sender.shutdown().await.expect("open");
                });
                note(&notes, read_to_end(&connection).await.expect("all"));
            }
        });
        cluster.pass(Duration::from_secs(60)).await;
        let expected: Vec<u8> =
            (0..2000_u32).flat_map(|number| [number.to_be_bytes(); 64].concat()).collect();
        assert!(taken(&got) == [expected], "not what was sent");
    });
}

#[test]
fn a_writer_waits_for_its_reader() {
    each_seed(|cluster| async move {
        let notes: Notes<usize> = Arc::default();
        cluster.add("server", DISK, |io| async move {
            let listener = io.listen(server()).await.expect("free");
            let _connection = listener.accept().await.expect("a peer");
            io.sleep(Duration::from_secs(3600)).await;
        });
        let sent = Arc::clone(&notes);
        cluster.add("client", DISK, move |io| {
            let sent = Arc::clone(&sent);
            async move {
                let connection = io.connect(server()).await.expect("there");
                loop {
                    let (result, _) = connection.write(vec![1; 10_000].into(), Flow::Done).await;
                    note(&sent, result.expect("never refused"));
                }
            }
        });
        cluster.pass(Duration::from_secs(60)).await;
        let total: usize = taken(&notes).iter().sum();
        assert!((4 << 10..=512 << 10).contains(&total), "{total} bytes in two finite buffers");
    });
}

/// What a peer of a crashed machine sees: a goodbye after a kill, nothing after a power loss until
/// it speaks itself and the machine is back, nothing at all across a cut.
#[test]
fn death_is_seen_as_the_network_allows() {
    for (crash, cut, ends) in
        [(Crash::Kill, false, true), (Crash::Kill, true, false), (Crash::PowerLoss, false, false)]
    {
        let body = move |cluster: Cluster| async move {
            let host = cluster.add("server", DISK, |io| async move {
                let listener = io.listen(server()).await.expect("free");
                let _connection = listener.accept().await.expect("a peer");
                io.sleep(Duration::from_secs(3600)).await;
            });
            let ended: Notes<bool> = Arc::default();
            let notes = Arc::clone(&ended);
            let client = cluster.add("client", DISK, move |io| {
                let notes = Arc::clone(&notes);
                async move {
                    let connection = io.connect(server()).await.expect("there");
                    let _ = read_some(&connection, 10).await;
                    note(&notes, true);
                    io.sleep(Duration::from_secs(3600)).await;
                }
            });
            cluster.pass(Duration::from_secs(1)).await;
            if cut {
                cluster.world().net(|net| net.hinder(host, client, Cause(1), Hindrance::Cut));
            }
            cluster.crash(host, crash);
            cluster.pass(Duration::from_secs(5)).await;
            cluster.start(host);
            cluster.pass(Duration::from_secs(15)).await;
            assert_eq!(taken(&ended).len(), usize::from(ends), "{crash:?} {cut}");
        };
        simulate(Frame::new(1), body).expect("no panic");
    }
}

#[test]
fn a_machine_that_lost_power_resets_old_connections_when_it_is_back() {
    each_seed(|cluster| async move {
        let host = cluster.add("server", DISK, echo);
        let seen: Notes<ErrorKind> = Arc::default();
        let notes = Arc::clone(&seen);
        cluster.add("client", DISK, move |io| {
            let notes = Arc::clone(&notes);
            async move {
                let connection = io.connect(server()).await.expect("there");
                io.sleep(Duration::from_secs(2)).await;
                write_all(&connection, vec![7; 100].into(), Flow::Done).await.expect("taken");
                note(&notes, read_some(&connection, 10).await.expect_err("a reset").kind());
            }
        });
        cluster.pass(Duration::from_secs(1)).await;
        cluster.crash(host, Crash::PowerLoss);
        cluster.pass(Duration::from_secs(4)).await;
        cluster.start(host);
        cluster.pass(Duration::from_secs(20)).await;
        assert_eq!(taken(&seen), [ErrorKind::ConnectionReset]);
    });
}

/// Nothing of it is on its way: it waits for a window that nobody opens any more.
#[test]
fn a_machine_that_lost_power_resets_who_waits_for_its_window() {
    each_seed(|cluster| async move {
        let host = cluster.add("server", DISK, |io| async move {
            let listener = io.listen(io.address(server().port())).await.expect("free");
            let _unread = listener.accept().await.expect("a peer");
            io.told_to_stop().await;
        });
        let seen: Notes<ErrorKind> = Arc::default();
        let notes = Arc::clone(&seen);
        cluster.add("client", DISK, move |io| {
            let notes = Arc::clone(&notes);
            async move {
                io.sleep(Duration::from_millis(100)).await;
                let connection = io.connect(server()).await.expect("there");
                let much = vec![7; 4 << 20];
                let broken = write_all(&connection, much.into(), Flow::Done).await;
                note(&notes, broken.expect_err("a reset").kind());
            }
        });
        cluster.pass(Duration::from_secs(30)).await;
        cluster.crash(host, Crash::PowerLoss);
        cluster.pass(Duration::from_secs(4)).await;
        assert_eq!(taken(&seen), []);
        cluster.start(host);
        cluster.pass(Duration::from_secs(20)).await;
        assert_eq!(taken(&seen), [ErrorKind::ConnectionReset]);
    });
}

#[test]
fn connecting_is_refused_hangs_or_waits_for_the_cut_to_heal() {
    each_seed(|cluster| async move {
        let host = cluster.add("server", DISK, |io| async move {
            io.sleep(Duration::from_secs(1)).await;
            echo(io).await;
        });
        let seen: Notes<(u64, Option<ErrorKind>)> = Arc::default();
        let notes = Arc::clone(&seen);
        let client = cluster.add("client", DISK, move |io| {
            let notes = Arc::clone(&notes);
            async move {
                loop {
                    let result = io.connect(server()).await;
                    let seconds = io.now().0 / 1_000_000_000;
                    note(&notes, (seconds, result.err().map(|error| error.kind())));
                    io.sleep(Duration::from_millis(800)).await;
                }
            }
        });
        cluster.pass(Duration::from_millis(1500)).await;
        let early = taken(&seen);
        assert_eq!(early[0], (0, Some(ErrorKind::ConnectionRefused)));
        assert!(early.len() >= 2, "{early:?}");
        cluster.world().net(|net| net.hinder(client, host, Cause(1), Hindrance::Cut));
        cluster.pass(Duration::from_secs(9)).await;
        assert!(taken(&seen).len() <= 1, "one may have passed before the cut");
        cluster.world().around(|net, around| net.lift(around, Cause(1)));
        cluster.pass(Duration::from_secs(20)).await;
        assert!(taken(&seen).iter().any(|(_, error)| error.is_none()));
    });
}

#[test]
fn send_file_sends_the_file_as_it_is_on_delivery() {
    let mut changed = 0;
    for seed in 0..20 {
        let seen: Notes<Vec<u8>> = Arc::default();
        let notes = Arc::clone(&seen);
        let body = move |cluster: Cluster| async move {
            cluster.add("server", DISK, |io| async move {
                let path = Path::new("file");
                let file = io.open(path, Open::Create).await.expect("room");
                write_all_at(&file, vec![vec![1; 9000].into()], 0).await.0.expect("room");
                let listener = io.listen(server()).await.expect("free");
                let connection = listener.accept().await.expect("a peer");
                send_file_all(&connection, &file, 500, 8000, Flow::Done).await.expect("taken");
                write_all_at(&file, vec![vec![2; 9000].into()], 0).await.0.expect("room");
                connection.shutdown().await.expect("open");
                io.sleep(Duration::from_secs(3600)).await;
            });
            cluster.add("client", DISK, move |io| {
                let notes = Arc::clone(&notes);
                async move {
                    io.sleep(Duration::from_secs(1)).await;
                    let connection = io.connect(server()).await.expect("there");
                    note(&notes, read_to_end(&connection).await.expect("all"));
                }
            });
            cluster.pass(Duration::from_secs(30)).await;
        };
        simulate(Frame::new(seed), body).expect("no panic");
        let bytes = taken(&seen).pop().expect("it has read");
        assert_eq!(bytes.len(), 8000);
        changed += u32::from(bytes.contains(&2));
    }
    assert!(changed > 3, "a change in place shows in {changed} of 20 runs");
}

/// The program appends numbers, flushing each; whatever it saw flushed is there after any crash,
/// and no write of a dead process comes later.
#[test]
fn flushed_bytes_survive_every_crash_and_dead_processes_write_nothing() {
    each_seed(|cluster| async move {
        let acknowledged: Notes<u64> = Arc::default();
        let notes = Arc::clone(&acknowledged);
        let host = cluster.add("host", DISK, move |io| {
            let notes = Arc::clone(&notes);
            async move {
                let file = io.open(Path::new("log"), Open::Create).await.expect("room");
                io.sync_dir(Path::new("/")).await.expect("no faults");
                let (result, buf) = fill_at(&file, Buf::with_capacity(1 << 16), 0).await;
                result.expect("no faults");
                let words = buf.chunks_exact(8).map(|word| word.try_into().expect("eight"));
                let words: Vec<u64> = words.map(u64::from_le_bytes).collect();
                let known = notes.lock().expect("one thread").last().copied().unwrap_or(0);
                let valid = words.iter().zip(1..).take_while(|(word, place)| *word == place);
                let valid = valid.count() as u64;
                assert!(valid >= known, "lost: {valid} of {known} are there");
                for number in valid + 1.. {
                    let bytes = number.to_le_bytes().to_vec();
                    let at = (number - 1) * 8;
                    write_all_at(&file, vec![bytes.into()], at).await.0.expect("room");
                    file.sync().await.expect("no faults");
                    note(&notes, number);
                }
            }
        });
        let mut random = Seed(7).stream("test", 0);
        for round in 0..10 {
            cluster.pass(Duration::from_micros(3000 + random.below(40_000))).await;
            let crash = if round % 2 == 0 { Crash::PowerLoss } else { Crash::Kill };
            cluster.crash(host, crash);
            let count = acknowledged.lock().expect("one thread").len();
            cluster.pass(Duration::from_millis(20)).await;
            assert_eq!(acknowledged.lock().expect("one thread").len(), count, "a ghost writes");
            cluster.start(host);
        }
        assert!(acknowledged.lock().expect("one thread").len() > 20);
    });
}

#[test]
fn sleeps_follow_the_clock_of_their_machine() {
    let body = |cluster: Cluster| async move {
        let woke: Notes<u64> = Arc::default();
        let notes = Arc::clone(&woke);
        let host = cluster.add("host", DISK, move |io| {
            let notes = Arc::clone(&notes);
            async move {
                io.sleep(Duration::from_millis(100)).await;
                let world = io.world().clone();
                let drift = Mischief::Drift(100_000_000);
                world.machine(0, |machine| machine.clock.suffer(world.now(), drift));
                let (before, truly) = (io.now(), world.now());
                io.sleep(Duration::from_millis(1100)).await;
                assert!(io.now().since(before) >= Duration::from_millis(1100));
                note(&notes, world.now() - truly);
            }
        });
        cluster.pass(Duration::from_secs(3)).await;
        let waited = taken(&woke)[0];
        assert!((1_000_000_000..1_010_000_000).contains(&waited), "{waited}");
        assert!(!cluster.is_running(host), "its program has returned");
    };
    simulate(Frame::new(3), body).expect("no panic");
}

#[test]
fn a_panic_of_a_program_ends_the_run_with_its_text() {
    let body = |cluster: Cluster| async move {
        cluster.add("host", DISK, |io| async move {
            io.sleep(Duration::from_millis(5)).await;
            panic!("seven");
        });
        cluster.pass(Duration::from_secs(1)).await;
    };
    let error = simulate(Frame::new(3), body).expect_err("it panicked");
    assert_eq!(error.text, "seven");
}

/// The script that every implementation of the seam must pass, here on one machine and on two.
#[test]
fn the_engine_s_conformance_script_passes() {
    for seed in 0..2 {
        let done: Notes<&str> = Arc::default();
        let notes = Arc::clone(&done);
        let body = move |cluster: Cluster| async move {
            let alone = Arc::clone(&notes);
            cluster.add("alone", DISK, move |io| {
                let alone = Arc::clone(&alone);
                async move {
                    io.make_dir(Path::new("/conform")).await.expect("an empty disk");
                    conform::all(&io, Path::new("/conform"), Machine::address(0)).await;
                    note(&alone, "alone");
                }
            });
            cluster.pass(Duration::from_secs(120)).await;
        };
        simulate(Frame::new(seed), body).expect("no panic");
        assert_eq!(taken(&done), ["alone"], "seed {seed}: the script did not end");
    }
}
