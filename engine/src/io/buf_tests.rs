//! Buffers and pools, on real threads too. (Their source may hold no tests: the model compiles it a
//! second time.)

#![allow(clippy::disallowed_methods, reason = "real threads are what is tested")]

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::buf::{Buf, Pool};
use crate::limit::POOL_BUFFERS_MAX;

#[test]
fn parts_of_a_split_are_disjoint_and_whole() {
    let mut rest = Pool::new().take(100);
    rest.put(b"headtail");
    let mut head = rest.split_to(4);
    head.copy_from_slice(b"HEAD");
    assert_eq!(&*head, b"HEAD");
    assert_eq!(&*rest, b"tail");
    assert_eq!(rest.capacity(), 96);
    assert!(head.spare().is_empty());
}

#[test]
fn a_chunk_returns_to_its_pool_with_its_last_part() {
    let pool = Pool::new();
    let mut buf = pool.take(10);
    buf.put(b"abcdef");
    let front = buf.split_to(3);
    drop(buf);
    assert_eq!(pool.idle(), 0);
    std::thread::scope(|scope| scope.spawn(move || drop(front)).join().expect("no panic"));
    assert_eq!(pool.idle(), 1);
    let again = pool.take(4096);
    assert_eq!(again.capacity(), 4096);
    assert_eq!(pool.idle(), 0);
}

/// Parts of one chunk are written and dropped on different threads, in any order, while the
/// chunk's pool hands it out again: whoever takes a buffer is alone in it, and sees nothing of
/// a write that began before. Run it under a sanitizer or miri to have the orders checked too.
#[test]
fn chunks_come_home_from_other_threads_whole() {
    const PARTS: usize = 4;
    let rounds = match std::env::var("TRIALOG_STRESS_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("a number"),
        Err(_) if cfg!(miri) => 50,
        Err(_) => 30_000,
    };
    let pool = Pool::new();
    let lanes: Vec<_> = (0..3).map(|_| Arc::new(ArrayQueue::<(Buf, u8)>::new(8))).collect();
    let finished = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for lane in &lanes {
            // A reader: checks that nobody else wrote to its part, writes, checks again.
            let finished = &finished;
            scope.spawn(move || {
                loop {
                    let done = finished.load(std::sync::atomic::Ordering::Acquire) == 2;
                    let Some((mut part, stamp)) = lane.pop() else {
                        if done {
                            break;
                        }
                        std::thread::yield_now();
                        continue;
                    };
                    assert!(part.iter().all(|&byte| byte == stamp));
                    part.fill(!stamp);
                    assert!(part.iter().all(|&byte| byte == !stamp));
                }
            });
        }
        for maker in 0..2_usize {
            let (pool, lanes, finished) = (pool.clone(), &lanes, &finished);
            scope.spawn(move || {
                for round in 0..rounds {
                    let mut buf = pool.take(64);
                    for part in 0..PARTS {
                        buf.put(&[(round * PARTS + part) as u8; 8]);
                    }
                    for part in 0..PARTS {
                        let stamp = (round * PARTS + part) as u8;
                        let piece = buf.split_to(8);
                        let lane = &lanes[(round + part + maker) % lanes.len()];
                        // A full lane hands the part back, and it is dropped here.
                        let _ = lane.push((piece, stamp));
                    }
                    // The rest of the chunk is dropped on this thread, often last.
                    buf.spare().fill(0xff);
                }
                finished.fetch_add(1, std::sync::atomic::Ordering::Release);
            });
        }
    });
    // All that was taken is idle again, and the queue's bound holds.
    let idle = pool.idle();
    assert!((1..=POOL_BUFFERS_MAX).contains(&idle), "{idle} idle chunks");
}

#[test]
fn memory_is_reclaimed_by_its_last_part_alone() {
    let mut buf = Pool::new().take(100);
    buf.put(b"abcdef");
    let front = buf.split_to(3);
    assert!(!buf.reclaim(1));
    assert_eq!((&*front, &*buf), (&b"abc"[..], &b"def"[..]));
    drop(front);
    assert!(!buf.reclaim((4 << 10) + 1));
    assert!(buf.reclaim(2000));
    assert_eq!((buf.len(), buf.spare().len()), (0, 2000));
    assert!(!Buf::new().reclaim(0));
}

#[test]
fn large_and_empty_buffers_work() {
    assert_eq!(Pool::new().take(3 << 20).capacity(), 3 << 20);
    assert!(Buf::new().is_empty());
    assert!(Buf::new().spare().is_empty());
    assert_eq!(&*Buf::from(&b"xyz"[..]), b"xyz");
}

#[test]
fn the_memory_of_a_buffer_is_known_before_it_is_taken() {
    for capacity in [1, 4096, 70_000, 128 << 10, 300_000, (2 << 20) + 1] {
        assert_eq!(Pool::new().take(capacity).memory(), Pool::memory_for(capacity), "{capacity}");
    }
    // Not much more than was asked for, where much is.
    assert_eq!(Pool::memory_for((256 << 10) + 1), 512 << 10);
}
