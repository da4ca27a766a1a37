//! What only the kernel's world has; what all worlds share is in `conform`. Each test runs with files
//! going by a ring and by a pool.

use std::future::poll_fn;
use std::net::TcpStream;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::task::Poll;

use futures_util::future::poll_immediate;

use super::*;
use crate::io::{
    Buf, Connection, ErrorKind, File, Flow, Listener, Pool, fill_at, send_file_all, write_all,
    write_all_at,
};
use crate::limit;

/// What can carry files here; says so if it is not everything.
fn carriers() -> Vec<Carrier> {
    match available() {
        Ok(()) => vec![Carrier::Ring, Carrier::Pool],
        Err(refused) => {
            eprintln!("SKIPPED, THE RING WAS NOT TESTED: {refused}");
            vec![Carrier::Pool]
        }
    }
}

fn localhost() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 9)) as u8).collect()
}

async fn make(io: &KernelIo, path: &Path, bytes: &[u8]) -> KernelFile {
    let file = io.open(path, Open::Create).await.expect("open");
    write_all_at(&file, vec![Buf::from(bytes)], 0).await.0.expect("write");
    file.sync().await.expect("sync");
    file
}

/// Drops the file from the page cache, where the file system has one to drop it from.
fn chill(file: &KernelFile) {
    // SAFETY: the descriptor is open.
    unsafe { libc::posix_fadvise(file.0.raw(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

/// A folder on a real disk where there is one: the target folder is more likely to be on it than
/// the temporary one.
fn folder() -> tempfile::TempDir {
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target");
    tempfile::tempdir_in(target).or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// Between fork and exec a child has all descriptors of its parent.
#[test]
fn a_lock_is_free_though_a_starting_process_has_the_descriptor_too() {
    for carrier in carriers() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lock");
        let run = run_by(carrier, 0, |io| async move {
            let lock = io.lock(&path).await.expect("nobody has it");
            // SAFETY: the descriptor is open, and the copy is owned by nobody else.
            let of_child = unsafe { OwnedFd::from_raw_fd(libc::dup(lock.0.raw())) };
            drop(lock);
            io.lock(&path).await.expect("nobody has it any more");
            drop(of_child);
        });
        run.expect("a core");
    }
}

#[test]
fn cold_files_are_read_and_sent() {
    carriers().into_iter().for_each(read_and_send_cold);
}

fn read_and_send_cold(carrier: Carrier) {
    const LEN: usize = 5_000_000;
    let dir = folder();
    let path = dir.path().join("cold");
    run_by(carrier, 0, |io| async move {
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
    .expect("a core");
}

/// Memory that is free between pieces in use goes back to the kernel when that is asked for.
#[test]
fn freed_memory_is_given_back() {
    if let Some(carrier) = alone_with() {
        release_memory(carrier);
        return;
    }
    for carrier in carriers() {
        let output = alone("freed_memory_is_given_back", carrier);
        assert!(output.status.success(), "{output:?}");
    }
}

fn release_memory(carrier: Carrier) {
    const MIB: u64 = 1 << 20;
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a number") << 10
    };
    run_by(carrier, 0, |io| async move {
        let pieces: Vec<_> =
            (0..2000_usize).map(|piece| (vec![1_u8; 20_000], Box::new(piece))).collect();
        let kept: Vec<_> = pieces.into_iter().map(|(_, kept)| kept).collect();
        let before = resident();
        assert!(before > 30 * MIB, "the allocator holds what it was given back: {before}");
        io.release_memory();
        let deadline = io.now().after(Duration::from_secs(10));
        while resident() > before - 20 * MIB {
            assert!(io.now() < deadline, "{before} bytes before, {} now", resident());
            io.sleep(Duration::from_millis(10)).await;
        }
        assert!(kept.iter().enumerate().all(|(piece, kept)| piece == **kept));
    })
    .expect("a core");
}

/// More complete together than a ring's queue of completions holds: none of them gets lost, although
/// nothing else is ever asked of the kernel.
#[test]
fn thousands_of_operations_complete_at_once() {
    carriers().into_iter().for_each(complete_at_once);
}

fn complete_at_once(carrier: Carrier) {
    const MANY: usize = 10_000;
    let dir = folder();
    let path = dir.path().join("missing");
    run_by(carrier, 0, |io| async move {
        // The kernel refuses these at once, so they complete while they are handed over.
        let all = futures_util::future::join_all((0..MANY).map(|_| io.open(&path, Open::Read)));
        let in_time = tokio::time::timeout(Duration::from_secs(60), all).await;
        let outcomes = in_time.expect("all of them complete");
        let refused = |outcome: &Result<KernelFile>| {
            matches!(outcome, Err(error) if error.kind() == ErrorKind::NotFound)
        };
        assert!(outcomes.iter().all(refused));
    })
    .expect("a core");
}

/// Opened on one core, sent and closed by another; connections spread over all that accept.
#[test]
fn files_and_listeners_cross_cores() {
    carriers().into_iter().for_each(cross_cores);
}

fn cross_cores(carrier: Carrier) {
    const PEERS: usize = 40;
    let dir = folder();
    let path = dir.path().join("shared");
    let (files, opened) = mpsc::channel();
    let (accepts, accepted) = mpsc::channel();
    run_by(carrier, 0, |io| async move {
        let file = make(&io, &path, b"shared bytes").await;
        io.remove(&path).await.expect("remove");
        let listener = io.listen(localhost()).await.expect("listen");
        files.send((file, listener)).expect("somebody waits");
    })
    .expect("a core");
    // Both outlive the core that made them.
    let (file, listener) = opened.recv().expect("sent above");
    let address = listener.local_address();
    let cores: Vec<_> = (0..3)
        .map(|core| {
            let (file, listener, accepts) = (file.clone(), listener.clone(), accepts.clone());
            std::thread::spawn(move || {
                run_by(carrier, core, |io| async move {
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
                .expect("a core");
            })
        })
        .collect();
    drop((file, listener, accepts));
    run_by(carrier, 0, |io| async move {
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
    .expect("a core");
    for core in cores {
        core.join().expect("no panic");
    }
    assert_eq!(accepted.iter().count(), PEERS);
}

/// Futures are dropped with their operations in flight, and the core ends on top of it: the
/// buffers come home when the kernel is done with them, none is lost, none is freed too early.
#[test]
fn abandoned_operations_keep_their_buffers() {
    carriers().into_iter().for_each(abandon);
}

fn abandon(carrier: Carrier) {
    const EACH: usize = 16;
    let dir = folder();
    let path = dir.path().join("abandoned");
    let pool = Pool::new();
    for round in 0..5 {
        let (path, taken) = (path.clone(), pool.clone());
        run_by(carrier, 0, |io| async move {
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
        .expect("a core");
        // All are back: those that waited for a peer at the same time, and at most all others.
        let idle = format!("{pool:?}");
        let expected = |count| format!("Pool {{ idle: [{count}, 0, 0, 0, 0, 0, 0] }}");
        assert!((EACH..=2 * EACH).any(|count| idle == expected(count)), "{idle}");
    }
}

/// A panic unwinds through `run` past what is in flight, and the thread may run a core again.
#[test]
fn a_panic_in_the_body_leaves_the_thread_usable() {
    carriers().into_iter().for_each(panic_in_body);
}

fn panic_in_body(carrier: Carrier) {
    let panicked = catch_unwind(|| {
        run_by(carrier, 0, |io| async move {
            let listener = io.listen(localhost()).await.expect("listen");
            let near = io.connect(listener.local_address()).await.expect("connect");
            io.spawn(async move { drop(near.read(Buf::with_capacity(9)).await) });
            drop(poll_immediate(listener.accept()).await);
            assert_eq!(listener.local_address().port(), 0, "on purpose");
        })
    });
    assert!(panicked.is_err());
    assert!(run_by(carrier, 0, |io| async move { io.now() > Instant(0) }).expect("a core"));
}

/// Runs the named test of this module again in a process of its own, where it may do its worst.
fn alone(name: &str, carrier: Carrier) -> Output {
    let binary = std::env::current_exe().expect("this test's binary");
    Command::new(binary)
        .args(["--exact", &format!("io::kernel::tests::{name}"), "--nocapture"])
        .env(ALONE, format!("{carrier:?}"))
        .output()
        .expect("a process")
}

const ALONE: &str = "TRIALOG_TEST_ALONE";

/// What carries files in the process that a test has for itself; `None` in the first one.
fn alone_with() -> Option<Carrier> {
    let carrier = std::env::var(ALONE).ok()?;
    Some(if carrier == "Ring" { Carrier::Ring } else { Carrier::Pool })
}

#[test]
fn a_panic_in_a_task_ends_the_process() {
    let Some(carrier) = alone_with() else {
        for carrier in carriers() {
            let output = alone("a_panic_in_a_task_ends_the_process", carrier);
            assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("a task panicked: on purpose"), "{said}");
        }
        return;
    };
    let _ = run_by(carrier, 0, |io| async move {
        io.spawn(async { panic!("on {}", "purpose") });
        poll_fn(|_| Poll::<()>::Pending).await;
    });
}

/// The system's default for what a socket keeps of what nobody reads, in bytes.
fn receive_buffer_bytes() -> usize {
    let sizes = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem").expect("Linux says");
    sizes.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("the middle of three")
}

/// Else a few hundred peers that do not read would use up the system's memory for TCP.
#[test]
fn the_kernel_keeps_little_for_a_peer_that_does_not_read() {
    const MOST: u64 = 32 << 20;
    // It takes whole packets, of 64 KiB at most, and one for each side may go beyond the bound.
    let bound = (limit::UNSENT_BYTES_MAX as usize + receive_buffer_bytes() + (128 << 10)) as u64;
    run_by(Carrier::Pool, 0, move |io| async move {
        let dir = folder();
        let file = make(&io, &dir.path().join("file"), &pattern(MOST as usize)).await;
        let listener = io.listen(localhost()).await.expect("listen");
        for by_file in [false, true] {
            let _deaf = TcpStream::connect(listener.local_address()).expect("connect");
            let near = listener.accept().await.expect("accept");
            let mut taken = 0;
            while taken < MOST {
                let part = async {
                    let sent = if by_file {
                        near.send_file(&file, taken, MOST - taken, Flow::Done).await
                    } else {
                        near.write(Buf::from(&pattern(64 << 10)[..]), Flow::Done).await.0
                    };
                    sent.expect("the peer is there") as u64
                };
                tokio::select! {
                    biased;
                    count = part => taken += count,
                    () = io.sleep(Duration::from_millis(500)) => break,
                }
            }
            let least = limit::UNSENT_BYTES_MAX as u64 / 2;
            let some = least..=bound;
            assert!(some.contains(&taken), "by file: {by_file}, the kernel took {taken} bytes");
        }
    })
    .expect("a core");
}

/// Out of descriptors, accepting reports it, rests, and goes on when there are some again.
#[test]
fn accepting_survives_a_lack_of_descriptors() {
    let Some(carrier) = alone_with() else {
        for carrier in carriers() {
            let output = alone("accepting_survives_a_lack_of_descriptors", carrier);
            assert!(output.status.success(), "{output:?}");
        }
        return;
    };
    let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
    // SAFETY: the limit outlives the call. This process runs nothing but this test.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    run_by(carrier, 0, |io| async move {
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
    .expect("a core");
}
