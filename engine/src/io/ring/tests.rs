//! What only the ring has; what all worlds share is in `conform`.

use std::future::poll_fn;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::task::Poll;

use futures_util::future::poll_immediate;

use super::*;
use crate::io::{
    Buf, Connection, File, Flow, Listener, Pool, fill_at, send_file_all, write_all, write_all_at,
};

/// Whether there are no rings here; says so.
fn skipped() -> bool {
    let reason = available().err();
    if let Some(reason) = &reason {
        eprintln!("SKIPPED, THE RING WAS NOT TESTED: {reason}");
    }
    reason.is_some()
}

fn localhost() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 9)) as u8).collect()
}

async fn make(io: &RingIo, path: &Path, bytes: &[u8]) -> RingFile {
    let file = io.open(path, Open::Create).await.expect("open");
    write_all_at(&file, vec![Buf::from(bytes)], 0).await.0.expect("write");
    file.sync().await.expect("sync");
    file
}

/// Drops the file from the page cache, where the file system has one to drop it from.
fn chill(file: &RingFile) {
    // SAFETY: the descriptor is open.
    unsafe { libc::posix_fadvise(file.0.raw(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

/// A folder on a real disk where there is one: the target folder is more likely to be on it than
/// the temporary one.
fn folder() -> tempfile::TempDir {
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target");
    tempfile::tempdir_in(target).or_else(|_| tempfile::tempdir()).expect("a folder")
}

#[test]
fn cold_files_are_read_and_sent() {
    const LEN: usize = 5_000_000;
    if skipped() {
        return;
    }
    let dir = folder();
    let path = dir.path().join("cold");
    run(0, |io| async move {
        let file = make(&io, &path, &pattern(LEN)).await;
        chill(&file);
        let (result, buf) = fill_at(&file, Buf::with_capacity(LEN), 12_345).await;
        result.expect("read");
        assert!(*buf == pattern(LEN)[12_345..]);
        chill(&file);
        let listener = io.listen(localhost()).await.expect("listen");
        let near = io.connect(listener.local_address()).await.expect("connect");
        let far = listener.accept().await.expect("accept");
        io.spawn(async move {
            send_file_all(&far, &file, 1, LEN as u64 - 1, Flow::Done).await.expect("send");
        });
        let mut buf = Buf::with_capacity(LEN);
        loop {
            let (result, returned) = near.read(buf).await;
            buf = returned;
            if result.expect("read") == 0 {
                break;
            }
        }
        assert!(*buf == pattern(LEN)[1..]);
    })
    .expect("a ring");
}

/// Opened on one core, sent and closed by another; connections spread over all that accept.
#[test]
fn files_and_listeners_cross_cores() {
    const PEERS: usize = 40;
    if skipped() {
        return;
    }
    let dir = folder();
    let path = dir.path().join("shared");
    let (files, opened) = mpsc::channel();
    let (accepts, accepted) = mpsc::channel();
    run(0, |io| async move {
        let file = make(&io, &path, b"shared bytes").await;
        io.remove(&path).await.expect("remove");
        let listener = io.listen(localhost()).await.expect("listen");
        files.send((file, listener)).expect("somebody waits");
    })
    .expect("a ring");
    // Both outlive the core that made them.
    let (file, listener) = opened.recv().expect("sent above");
    let address = listener.local_address();
    let cores: Vec<_> = (0..3)
        .map(|core| {
            let (file, listener, accepts) = (file.clone(), listener.clone(), accepts.clone());
            std::thread::spawn(move || {
                run(core, |io| async move {
                    loop {
                        let far = listener.accept().await.expect("accept");
                        let (result, buf) = far.read(Buf::with_capacity(1)).await;
                        result.expect("read");
                        if *buf == *b"q" {
                            break;
                        }
                        send_file_all(&far, &file, 0, 12, Flow::Done).await.expect("send");
                        accepts.send(core).expect("somebody counts");
                        io.sleep(Duration::from_micros(100)).await;
                    }
                })
                .expect("a ring");
            })
        })
        .collect();
    drop((file, listener, accepts));
    run(0, |io| async move {
        for _ in 0..PEERS {
            let near = io.connect(address).await.expect("connect");
            write_all(&near, Buf::from(&b"?"[..]), Flow::Done).await.expect("write");
            let mut buf = Buf::with_capacity(12);
            while buf.len() < 12 {
                let (result, returned) = near.read(buf).await;
                assert_ne!(result.expect("read"), 0);
                buf = returned;
            }
            assert_eq!(&*buf, b"shared bytes");
        }
        for _ in 0..3 {
            let near = io.connect(address).await.expect("connect");
            write_all(&near, Buf::from(&b"q"[..]), Flow::Done).await.expect("write");
            // The core that took this one takes no more, so wait until it is gone.
            near.read(Buf::with_capacity(1)).await.0.expect("the end");
        }
    })
    .expect("a ring");
    for core in cores {
        core.join().expect("no panic");
    }
    assert_eq!(accepted.iter().count(), PEERS);
}

/// Futures are dropped with their operations in flight, and the core ends on top of it: the
/// buffers come home when the kernel is done with them, none is lost, none is freed too early.
#[test]
fn abandoned_operations_keep_their_buffers() {
    const EACH: usize = 16;
    if skipped() {
        return;
    }
    let dir = folder();
    let path = dir.path().join("abandoned");
    let pool = Pool::new();
    for round in 0..5 {
        let (path, taken) = (path.clone(), pool.clone());
        run(0, |io| async move {
            let file = make(&io, &path, &pattern(2 << 20)).await;
            let listener = io.listen(localhost()).await.expect("listen");
            let mut ends = Vec::new();
            for _ in 0..EACH {
                let near = io.connect(listener.local_address()).await.expect("connect");
                ends.extend([near, listener.accept().await.expect("accept")]);
            }
            chill(&file);
            for number in 0..EACH {
                let cold = file.read_at(taken.take(4096), (number as u64) << 16);
                let idle = ends[number * 2].read(taken.take(4096));
                let accept = listener.accept();
                assert!(poll_immediate(idle).await.is_none());
                assert!(poll_immediate(accept).await.is_none());
                // May be there at once, if the file system has no cache to drop it from.
                drop(poll_immediate(cold).await);
                drop(poll_immediate(file.sync()).await);
                drop(poll_immediate(io.open(&path, Open::Read)).await);
            }
            if round % 2 == 0 {
                // Sometimes the operations end before the core does, sometimes with it.
                drop(ends);
                io.sleep(Duration::from_millis(20)).await;
            }
        })
        .expect("a ring");
        // All are back: those that waited for a peer at the same time, and at most all others.
        let idle = format!("{pool:?}");
        let expected = |count| format!("Pool {{ idle: [{count}, 0, 0, 0, 0] }}");
        assert!((EACH..=2 * EACH).any(|count| idle == expected(count)), "{idle}");
    }
}

/// A panic unwinds through `run` past what is in flight, and the thread may run a core again.
#[test]
fn a_panic_in_the_body_leaves_the_thread_usable() {
    if skipped() {
        return;
    }
    let panicked = catch_unwind(|| {
        run(0, |io| async move {
            let listener = io.listen(localhost()).await.expect("listen");
            let near = io.connect(listener.local_address()).await.expect("connect");
            io.spawn(async move { drop(near.read(Buf::with_capacity(9)).await) });
            drop(poll_immediate(listener.accept()).await);
            assert_eq!(listener.local_address().port(), 0, "on purpose");
        })
    });
    assert!(panicked.is_err());
    assert!(run(0, |io| async move { io.now() > Instant(0) }).expect("a ring"));
}

/// Runs the named test of this module again in a process of its own, where it may do its worst.
fn alone(name: &str) -> Output {
    let binary = std::env::current_exe().expect("this test's binary");
    Command::new(binary)
        .args(["--exact", &format!("io::ring::tests::{name}"), "--nocapture"])
        .env(ALONE, name)
        .output()
        .expect("a process")
}

const ALONE: &str = "TRIALOG_TEST_ALONE";

#[test]
fn a_panic_in_a_task_ends_the_process() {
    let name = "a_panic_in_a_task_ends_the_process";
    if skipped() {
        return;
    }
    if std::env::var_os(ALONE).is_none() {
        let output = alone(name);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("a task panicked: on purpose"));
        return;
    }
    let _ = run(0, |io| async move {
        io.spawn(async { panic!("on {}", "purpose") });
        poll_fn(|_| Poll::<()>::Pending).await;
    });
}

/// Out of descriptors, accepting reports it, rests, and goes on when there are some again.
#[test]
fn accepting_survives_a_lack_of_descriptors() {
    let name = "accepting_survives_a_lack_of_descriptors";
    if skipped() {
        return;
    }
    if std::env::var_os(ALONE).is_none() {
        let output = alone(name);
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
    // SAFETY: the limit outlives the call. This process runs nothing but this test.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    run(0, |io| async move {
        let listener = io.listen(localhost()).await.expect("listen");
        let near = io.connect(listener.local_address()).await.expect("connect");
        let mut hoard = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push(file);
        }
        let start = io.now();
        let error = listener.accept().await.err().expect("no descriptor is left");
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        assert!(io.now().since(start) >= Duration::from_millis(50), "it did not rest");
        drop(hoard);
        let far = listener.accept().await.expect("there are some again");
        assert_eq!(far.peer_address(), near.local_address());
    })
    .expect("a ring");
}
