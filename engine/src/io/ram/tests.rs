//! The RAM world's own promises; what all worlds share is in `conform`.

use super::*;
use crate::io::{Connection, ErrorKind, File, Flow, Listener, Open, send_file_all, write_all_at};

fn path(name: &str) -> &Path {
    Path::new(name)
}

async fn write(file: &RamFile, offset: u64, bytes: &[u8]) -> Result<()> {
    write_all_at(file, vec![Buf::from(bytes)], offset).await.0
}

/// A world with the durable file `/f` of 2048 `a`.
fn world(seed: u64) -> (Ram, RamFile) {
    let ram = Ram::new(seed);
    let file = ram.block_on(async {
        let file = ram.open(path("/f"), Open::CreateNew).await.expect("open");
        ram.sync_dir(path("/")).await.expect("sync");
        write(&file, 0, &[b'a'; 2048]).await.expect("write");
        file.sync().await.expect("sync");
        file
    });
    (ram, file)
}

#[test]
fn a_crash_keeps_any_subset_of_sectors_but_never_a_torn_one() {
    let mut mixed = 0;
    for seed in 0..200 {
        let (ram, file) = world(seed);
        ram.block_on(write(&file, 100, &[b'b'; 1800])).expect("write");
        let left = ram.crash(Loss::Some(seed)).peek(path("/f")).expect("synced name");
        assert_eq!(left.len(), 2048);
        assert!(left[..100].iter().chain(&left[1900..]).all(|&byte| byte == b'a'));
        let mut kept = 0;
        for sector in [&left[100..512], &left[512..1024], &left[1024..1536], &left[1536..1900]] {
            // A write may have been split, so a sector may have seen a part of it.
            kept += usize::from(sector.iter().all(|&byte| byte == b'b'));
            let changes = sector.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(changes <= 1);
        }
        mixed += usize::from(kept == 1 || kept == 2 || kept == 3);
    }
    assert!(mixed > 20, "only {mixed} mixed images");
}

#[test]
fn everything_and_nothing_are_what_they_say() {
    let (ram, file) = world(1);
    ram.block_on(write(&file, 2048, b"tail")).expect("write");
    let killed = ram.crash(Loss::Nothing);
    assert_eq!(killed.peek(path("/f")).expect("there").len(), 2052);
    // What a kill left in the cache is still not durable.
    assert_eq!(killed.crash(Loss::Everything).peek(path("/f")).expect("there").len(), 2048);
    // Old handles only return errors, in whatever world they are used.
    let error = Ram::new(0).block_on(async { (file.length().await, file.sync().await) });
    assert!(error.0.is_err());
    assert!(error.1.is_err());
}

#[test]
fn names_need_their_folder_synced() {
    let (mut old, mut new, mut both, mut none) = (0, 0, 0, 0);
    for seed in 0..100 {
        let ram = Ram::new(seed);
        ram.block_on(async {
            ram.make_dir(path("/d")).await.expect("make");
            ram.sync_dir(path("/")).await.expect("sync");
            let file = ram.open(path("/d/a"), Open::CreateNew).await.expect("open");
            write(&file, 0, b"x").await.expect("write");
            file.sync().await.expect("sync");
            ram.sync_dir(path("/d")).await.expect("sync");
            ram.rename(path("/d/a"), path("/d/b")).await.expect("rename");
            ram.open(path("/d/c"), Open::CreateNew).await.expect("open");
        });
        let ram = ram.crash(Loss::Some(seed));
        let names: Vec<String> = ram
            .block_on(ram.list(path("/d")))
            .expect("synced")
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        match (names.contains(&"a".to_owned()), names.contains(&"b".to_owned())) {
            (true, false) => old += 1,
            (false, true) => new += 1,
            other => panic!("a rename is whole: {other:?}"),
        }
        if names.contains(&"c".to_owned()) {
            both += 1
        } else {
            none += 1
        }
        let name = if names.contains(&"a".to_owned()) { "/d/a" } else { "/d/b" };
        assert_eq!(ram.peek(path(name)).expect("there"), b"x");
    }
    assert!(old > 10 && new > 10 && both > 10 && none > 10);
}

#[test]
fn a_removed_name_comes_back_unless_synced() {
    for synced in [false, true] {
        let (ram, file) = world(3);
        ram.block_on(async {
            ram.remove(path("/f")).await.expect("remove");
            if synced {
                ram.sync_dir(path("/")).await.expect("sync");
            }
            // An open file outlives its name.
            write(&file, 0, b"still").await.expect("write");
            assert_eq!(file.length().await.expect("length"), 2048);
        });
        let ram = ram.crash(Loss::Everything);
        assert_eq!(ram.peek(path("/f")).is_ok(), !synced);
    }
}

#[test]
fn a_failed_sync_cleans_pages_that_a_crash_then_loses() {
    let mut lost = 0;
    for seed in 0..50 {
        let (ram, file) = world(seed);
        ram.inject(Fault { call: Call::Sync, after: 0, times: 1, effect: Effect::Eio });
        ram.block_on(async {
            write(&file, 0, b"new").await.expect("write");
            file.sync().await.expect_err("planned");
            file.sync().await.expect("the second one reports success");
        });
        assert_eq!(ram.faults_hit(), 1);
        assert_eq!(&ram.peek(path("/f")).expect("there")[..3], b"new");
        let left = ram.crash(Loss::Everything).peek(path("/f")).expect("there");
        lost += usize::from(&left[..3] == b"aaa");
    }
    assert!(lost > 5);
}

#[test]
fn faults_hit_the_call_they_were_planned_for() {
    let (ram, file) = world(5);
    ram.inject(Fault { call: Call::Write, after: 1, times: 1, effect: Effect::Full });
    ram.inject(Fault { call: Call::Read, after: 0, times: 1, effect: Effect::Eio });
    ram.block_on(async {
        let bytes = || vec![Buf::from(&b"z"[..])];
        assert_eq!(file.write_at(bytes(), 0).await.0.expect("first"), 1);
        let error = file.write_at(bytes(), 0).await.0.expect_err("second");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!(file.write_at(bytes(), 0).await.0.expect("third"), 1);
        let error = file.read_at(Buf::with_capacity(4), 0).await.0.expect_err("read");
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
    });
    assert_eq!(ram.faults_hit(), 2);
}

#[test]
fn a_full_disk_writes_what_fits() {
    let (ram, file) = world(6);
    ram.set_capacity(2050);
    ram.block_on(async {
        let space = ram.space(path("/")).await.expect("space");
        assert_eq!((space.total, space.free), (2050, 2));
        let error = write(&file, 2048, b"four").await.expect_err("full");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        let error = file.allocate(0, 4096).await.expect_err("full");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        write(&file, 0, b"in place is fine").await.expect("no growth");
    });
    assert_eq!(&ram.peek(path("/f")).expect("there")[2048..], b"fo");
}

#[test]
fn the_power_can_be_cut_at_every_operation() {
    let script = async |ram: &Ram| -> Result<()> {
        let file = ram.open(path("/t"), Open::CreateNew).await?;
        write(&file, 0, b"one").await?;
        file.sync().await?;
        ram.rename(path("/t"), path("/done")).await?;
        ram.sync_dir(path("/")).await
    };
    let whole = Ram::new(9);
    whole.block_on(script(&whole)).expect("no fault");
    for operation in 1..=whole.operations() {
        let ram = Ram::new(9);
        ram.cut_power_at(operation);
        assert!(ram.run(script(&ram)).is_none());
        assert_eq!(ram.operations(), operation - 1);
        let next = ram.crash(Loss::Some(operation));
        // The rename came after the sync, so a new name means whole contents.
        if let Ok(bytes) = next.peek(path("/done")) {
            assert_eq!(bytes, b"one");
        }
    }
}

#[test]
fn one_seed_is_one_history() {
    let history = |seed| {
        let (ram, file) = world(seed);
        ram.block_on(async {
            let turns = Rc::new(RefCell::new(Vec::new()));
            for task in 0..5 {
                let (ram, turns, file) = (ram.clone(), turns.clone(), file.clone());
                ram.clone().spawn(async move {
                    for _ in 0..5 {
                        write(&file, task, b"x").await.expect("write");
                        turns.borrow_mut().push(task);
                        ram.sleep(Duration::from_micros(ram.random() % 9)).await;
                    }
                });
            }
            ram.sleep(Duration::from_secs(3600)).await;
            let turns = turns.borrow().clone();
            assert_eq!(turns.len(), 25);
            (turns, ram.now(), ram.wall())
        })
    };
    assert_eq!(history(1), history(1));
    assert_ne!(history(1).0, history(2).0);
}

#[test]
fn locks_are_exclusive_until_the_last_clone_is_gone() {
    let (ram, _) = world(2);
    ram.block_on(async {
        let lock = ram.lock(path("/lock")).await.expect("free");
        let clone = lock.clone();
        drop(lock);
        let error = ram.lock(path("/lock")).await.err().expect("held");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        drop(clone);
        ram.lock(path("/lock")).await.expect("free again");
    });
    // A crash frees every lock.
    let lock = ram.block_on(ram.lock(path("/lock"))).expect("free");
    let next = ram.crash(Loss::Nothing);
    next.block_on(next.lock(path("/lock"))).expect("free");
    drop(lock);
}

/// What a socket holds of a file are its pages: whoever changes sent bytes in place, or cuts them
/// off, is found out here as on the kernel.
#[test]
fn sent_bytes_that_change_arrive_changed() {
    let (ram, file) = world(4);
    ram.block_on(async {
        let listener = ram.listen("127.0.0.1:0".parse().expect("address")).await.expect("listen");
        let near = ram.connect(listener.local_address()).await.expect("connect");
        let far = listener.accept().await.expect("accept");
        send_file_all(&far, &file, 0, 2048, Flow::Done).await.expect("send");
        write(&file, 100, b"changed").await.expect("write");
        file.truncate(2000).await.expect("truncate");
        far.shutdown().await.expect("shutdown");
        let mut buf = Buf::with_capacity(2048);
        while !buf.spare().is_empty() {
            let (result, returned) = near.read(buf).await;
            assert_ne!(result.expect("read"), 0);
            buf = returned;
        }
        assert_eq!(&buf[99..108], b"achangeda");
        assert_eq!(&buf[1999..2002], b"a\0\0");
    });
}
