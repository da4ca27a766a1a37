//! Files, folders, locks.

use std::path::Path;

use super::{done, get, pattern, put, task};
use crate::io::{Buf, Entry, ErrorKind, File, Io, Open, Result, write_all_at};

pub(super) async fn run<I: Io>(io: &I, dir: &Path) {
    opening(io, dir).await;
    reading_and_writing(io, dir).await;
    lengths(io, dir).await;
    folders(io, dir).await;
    renaming(io, dir).await;
    names_and_open_files(io, dir).await;
    locks(io, dir).await;
    side_by_side(io, dir).await;
    let left = io.list(dir).await.expect("list");
    assert_eq!(left, [], "the script cleans up behind itself");
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("succeeded where it must fail"),
        Err(error) => error.kind(),
    }
}

async fn names<I: Io>(io: &I, dir: &Path) -> Vec<String> {
    io.list(dir).await.expect("list").into_iter().map(|entry| entry.name).collect()
}

async fn opening<I: Io>(io: &I, dir: &Path) {
    let path = dir.join("file");
    assert_eq!(kind(io.open(&path, Open::Read).await), ErrorKind::NotFound);
    assert_eq!(kind(io.open(&path, Open::Write).await), ErrorKind::NotFound);
    let file = io.open(&path, Open::CreateNew).await.expect("it is new");
    put(&file, 0, b"first").await;
    assert_eq!(kind(io.open(&path, Open::CreateNew).await), ErrorKind::AlreadyExists);
    let again = io.open(&path, Open::Create).await.expect("it is there");
    assert_eq!(get(&again, 0, 9).await, b"first", "opening cuts nothing off");
    put(&again, 5, b"!").await;
    let reader = io.open(&path, Open::Read).await.expect("it is there");
    assert_eq!(get(&reader, 0, 9).await, b"first!");

    // What is open for reading is for reading; the buffers come back all the same.
    let (result, bufs) = reader.write_at(vec![Buf::from(&b"no"[..])], 0).await;
    result.expect_err("it is open for reading");
    assert_eq!(&*bufs[0], b"no");
    reader.truncate(0).await.expect_err("it is open for reading");
    assert_eq!(get(&file, 0, 9).await, b"first!");
    reader.sync().await.expect("sync");

    let below = path.join("below");
    assert_eq!(kind(io.open(&below, Open::Create).await), ErrorKind::NotADirectory);
    let missing = dir.join("missing").join("file");
    assert_eq!(kind(io.open(&missing, Open::Create).await), ErrorKind::NotFound);
    assert_eq!(kind(io.open(dir, Open::Read).await), ErrorKind::IsADirectory);
    assert_eq!(kind(io.open(dir, Open::Write).await), ErrorKind::IsADirectory);
    io.remove(&path).await.expect("remove");
}

async fn reading_and_writing<I: Io>(io: &I, dir: &Path) {
    let path = dir.join("file");
    let file = io.open(&path, Open::CreateNew).await.expect("open");
    assert_eq!(file.length().await.expect("length"), 0);
    assert_eq!(get(&file, 0, 4).await, b"");

    // Many buffers, some of them empty, are one write.
    let bytes = pattern(0, 3 << 20);
    let mut rest = &bytes[..];
    let mut bufs = vec![Buf::new()];
    for size in (1..).step_by(37) {
        let (front, behind) = rest.split_at(rest.len().min(size));
        bufs.extend([Buf::from(front), Buf::new()]);
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    let (result, bufs) = write_all_at(&file, bufs, 0).await;
    result.expect("write");
    assert!(bufs.is_empty());
    assert_eq!(file.length().await.expect("length"), 3 << 20);
    assert!(get(&file, 0, 4 << 20).await == bytes);
    file.write_back();
    file.write_back();
    assert!(get(&file, 0, 4 << 20).await == bytes, "writing back changes nothing");
    file.sync().await.expect("sync");
    let (result, bufs) = file.write_at(vec![], 0).await;
    assert_eq!((result.expect("nothing"), bufs.len()), (0, 0));

    // Reads: behind the contents of the buffer, no further than its room, and to the file's end.
    let mut buf = Buf::with_capacity(8);
    buf.put(b"ab");
    let (result, buf) = file.read_at(buf, 1000).await;
    let count = result.expect("read");
    assert!((1..=6).contains(&count));
    assert_eq!(buf.len(), 2 + count);
    assert_eq!(buf[..2], *b"ab");
    assert_eq!(buf[2..], pattern(1000, count));
    let end = 3 << 20;
    assert_eq!(get(&file, end - 3, 100).await, pattern(end - 3, 3));
    for past in [end, end + 1, end + (1 << 30)] {
        assert_eq!(file.read_at(Buf::with_capacity(5), past).await.0.expect("read"), 0);
    }
    assert_eq!(file.read_at(Buf::new(), 0).await.0.expect("no room"), 0);

    // Another open file sees a write at once; a hole reads as zeros.
    let other = io.open(&path, Open::Read).await.expect("open");
    put(&file, 1, b"over").await;
    assert_eq!(get(&other, 0, 6).await, [&pattern(0, 1)[..], b"over", &pattern(5, 1)].concat());
    put(&file, end + 5000, b"x").await;
    let hole = get(&other, end, 5001).await;
    assert!(hole[..5000].iter().all(|&byte| byte == 0));
    assert_eq!(hole[5000..], *b"x");

    // A write that nobody waits for may happen or not, but not in part later than a sync that
    // was asked for once it is seen.
    let abandoned = file.write_at(vec![Buf::from(&b"?"[..])], 0);
    let _ = futures_util::future::poll_immediate(abandoned).await;
    file.sync().await.expect("sync");
    let seen = get(&file, 0, 1).await;
    assert!(seen == b"?" || seen == pattern(0, 1));
    io.remove(&path).await.expect("remove");
}

async fn lengths<I: Io>(io: &I, dir: &Path) {
    let path = dir.join("file");
    let file = io.open(&path, Open::CreateNew).await.expect("open");
    put(&file, 0, &pattern(0, 10_000)).await;
    match file.allocate(5000, 15_000).await {
        Ok(()) => {
            assert_eq!(file.length().await.expect("length"), 20_000);
            file.allocate(0, 100).await.expect("allocated already");
            assert_eq!(file.length().await.expect("length"), 20_000);
            let bytes = get(&file, 0, 30_000).await;
            assert_eq!(bytes.len(), 20_000);
            assert!(bytes[..10_000] == pattern(0, 10_000));
            assert!(bytes[10_000..].iter().all(|&byte| byte == 0));
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
    }
    file.truncate(7001).await.expect("truncate");
    assert_eq!(file.length().await.expect("length"), 7001);
    assert!(get(&file, 0, 30_000).await == pattern(0, 7001));
    // What was cut off does not come back.
    file.truncate(9000).await.expect("truncate");
    assert_eq!(file.length().await.expect("length"), 9000);
    assert!(get(&file, 7001, 9000).await == [0; 1999]);
    file.truncate(9000).await.expect("truncate");
    file.sync().await.expect("sync");
    assert_eq!(file.clone().length().await.expect("length"), 9000);
    file.truncate(0).await.expect("truncate");
    assert_eq!(get(&file, 0, 1).await, b"");
    io.remove(&path).await.expect("remove");
}

async fn folders<I: Io>(io: &I, dir: &Path) {
    let inner = dir.join("inner");
    assert_eq!(kind(io.list(&inner).await), ErrorKind::NotFound);
    assert_eq!(kind(io.sync_dir(&inner).await), ErrorKind::NotFound);
    assert_eq!(kind(io.make_dir(&inner.join("deep")).await), ErrorKind::NotFound);
    io.make_dir(&inner).await.expect("make");
    assert_eq!(kind(io.make_dir(&inner).await), ErrorKind::AlreadyExists);
    assert_eq!(io.list(&inner).await.expect("list"), []);
    for name in ["b", "a", "10", "9"] {
        io.open(&inner.join(name), Open::CreateNew).await.expect("open");
    }
    io.make_dir(&inner.join("aa")).await.expect("make");
    assert_eq!(kind(io.make_dir(&inner.join("a")).await), ErrorKind::AlreadyExists);
    let entry = |name: &str, is_dir| Entry { name: name.to_owned(), is_dir };
    let expected = [
        entry("10", false),
        entry("9", false),
        entry("a", false),
        entry("aa", true),
        entry("b", false),
    ];
    assert_eq!(io.list(&inner).await.expect("list"), expected);
    assert_eq!(kind(io.list(&inner.join("a")).await), ErrorKind::NotADirectory);
    io.sync_dir(&inner).await.expect("sync");
    io.sync_dir(dir).await.expect("sync");
    assert_eq!(kind(io.sync_dir(&inner.join("a")).await), ErrorKind::NotADirectory);
    let space = io.space(&inner).await.expect("space");
    assert!(0 < space.free && space.free <= space.total, "{space:?}");
    assert_eq!(kind(io.space(&inner.join("missing")).await), ErrorKind::NotFound);

    assert_eq!(kind(io.remove(&inner).await), ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(io.remove(&inner.join("missing")).await), ErrorKind::NotFound);
    for name in ["b", "a", "10", "9", "aa"] {
        io.remove(&inner.join(name)).await.expect("remove");
    }
    io.remove(&inner).await.expect("it is empty");
    assert_eq!(kind(io.remove(&inner).await), ErrorKind::NotFound);
}

async fn renaming<I: Io>(io: &I, dir: &Path) {
    let (a, b) = (dir.join("a"), dir.join("b"));
    assert_eq!(kind(io.rename(&a, &b).await), ErrorKind::NotFound);
    let file = io.open(&a, Open::CreateNew).await.expect("open");
    put(&file, 0, b"a").await;
    io.rename(&a, &b).await.expect("rename");
    assert_eq!(names(io, dir).await, ["b"]);
    io.rename(&b, &b).await.expect("to itself");
    // Replacing: the open file of the old name keeps its contents.
    let new = io.open(&a, Open::CreateNew).await.expect("open");
    put(&new, 0, b"new").await;
    io.rename(&a, &b).await.expect("rename");
    assert_eq!(names(io, dir).await, ["b"]);
    assert_eq!(get(&file, 0, 9).await, b"a");
    let found = io.open(&b, Open::Read).await.expect("open");
    assert_eq!(get(&found, 0, 9).await, b"new");

    // Folders move with what is in them.
    let (one, two) = (dir.join("one"), dir.join("two"));
    io.make_dir(&one).await.expect("make");
    io.rename(&b, &one.join("b")).await.expect("rename");
    assert_eq!(kind(io.rename(&one, &one.join("b").join("c")).await.map(drop)), {
        // Which of its two faults is reported is the kernel's choice.
        match io.rename(&one, &one.join("b").join("c")).await {
            Err(error) => error.kind(),
            Ok(()) => panic!("a folder moved into itself"),
        }
    });
    io.rename(&one, &two).await.expect("rename");
    assert_eq!(names(io, dir).await, ["two"]);
    assert_eq!(names(io, &two).await, ["b"]);
    io.make_dir(&one).await.expect("make");
    io.rename(&one, &two).await.expect_err("not empty");
    assert_eq!(kind(io.rename(&one, &two).await), ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(io.rename(&two.join("b"), &one).await), ErrorKind::IsADirectory);
    assert_eq!(kind(io.rename(&one, &two.join("b")).await), ErrorKind::NotADirectory);
    io.rename(&two, &one).await.expect("an empty folder is replaced");
    assert_eq!(names(io, &one).await, ["b"]);
    io.sync_dir(&one).await.expect("sync");
    io.sync_dir(dir).await.expect("sync");
    io.remove(&one.join("b")).await.expect("remove");
    io.remove(&one).await.expect("remove");
}

async fn names_and_open_files<I: Io>(io: &I, dir: &Path) {
    let path = dir.join("file");
    let file = io.open(&path, Open::CreateNew).await.expect("open");
    put(&file, 0, b"old").await;
    let moved = dir.join("moved");
    io.rename(&path, &moved).await.expect("rename");
    put(&file, 3, b"er").await;
    assert_eq!(get(&io.open(&moved, Open::Read).await.expect("open"), 0, 9).await, b"older");
    io.remove(&moved).await.expect("remove");
    assert_eq!(kind(io.open(&moved, Open::Read).await), ErrorKind::NotFound);
    // Without a name, and beside a new file of the same one, the old file lives on.
    let new = io.open(&moved, Open::CreateNew).await.expect("open");
    put(&new, 0, b"new").await;
    put(&file, 5, b" still").await;
    file.sync().await.expect("sync");
    let clone = file.clone();
    drop(file);
    assert_eq!(get(&clone, 0, 99).await, b"older still");
    assert_eq!(get(&new, 0, 99).await, b"new");
    io.remove(&moved).await.expect("remove");
}

async fn locks<I: Io>(io: &I, dir: &Path) {
    let path = dir.join("lock");
    let lock = io.lock(&path).await.expect("nobody has it");
    assert_eq!(kind(io.lock(&path).await), ErrorKind::WouldBlock);
    put(&lock, 0, b"1234").await;
    let clone = lock.clone();
    drop(lock);
    assert_eq!(kind(io.lock(&path).await), ErrorKind::WouldBlock);
    // A lock is between lockers: others read the file.
    let file = io.open(&path, Open::Read).await.expect("open");
    assert_eq!(get(&file, 0, 9).await, b"1234");
    drop((file, clone));
    let lock = io.lock(&path).await.expect("nobody has it any more");
    assert_eq!(get(&lock, 0, 9).await, b"1234");
    let missing = dir.join("missing").join("lock");
    assert_eq!(kind(io.lock(&missing).await), ErrorKind::NotFound);
    io.remove(&path).await.expect("remove");
}

/// Writers of disjoint ranges, syncs and reads beside each other.
async fn side_by_side<I: Io>(io: &I, dir: &Path) {
    const TASKS: u64 = 24;
    const BYTES: usize = 9000;
    let path = dir.join("file");
    let file = io.open(&path, Open::CreateNew).await.expect("open");
    let tasks: Vec<_> = (0..TASKS)
        .map(|number| {
            let (io2, file) = (io.clone(), file.clone());
            task(io, async move {
                let from = number * BYTES as u64;
                let bytes = pattern(from, BYTES);
                for (place, part) in (0..).step_by(1000).zip(bytes.chunks(1000)) {
                    put(&file, from + place, part).await;
                    if io2.random().is_multiple_of(4) {
                        file.sync().await.expect("sync");
                    }
                }
                assert!(get(&file, from, BYTES).await == bytes);
            })
        })
        .collect();
    for task in tasks {
        done(task).await;
    }
    file.sync().await.expect("sync");
    let len = TASKS as usize * BYTES;
    assert!(get(&file, 0, len + 1).await == pattern(0, len));
    io.remove(&path).await.expect("remove");
}
