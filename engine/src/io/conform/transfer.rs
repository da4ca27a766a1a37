//! Much data: back-pressure, and files that are sent while they change.

use std::cell::Cell;
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::network::pair;
use super::{done, pattern, put, receive, send, task};
use crate::io::{Buf, Connection, ErrorKind, File, Flow, Io, Open, send_file_all, write_all};

pub(super) async fn run<I: Io>(server: &I, client: &I, dir: &Path, ip: IpAddr) {
    back_pressure(server, client, ip).await;
    both_ways(server, client, ip).await;
    sending_files(server, client, dir, ip).await;
    growing_files(server, client, dir, ip).await;
    stalled_reader(server, client, dir, ip).await;
    interrupted_send(server, client, dir, ip).await;
}

/// More than any pair of sockets buffers by itself.
const MUCH: usize = 24 << 20;

/// Reads `len` bytes, which must be the pattern from `from` on.
async fn expect_pattern(connection: &impl Connection, mut from: u64, len: usize) {
    let end = from + len as u64;
    while from < end {
        let len = usize::try_from(end - from).expect("small").min(1 << 18);
        let bytes = receive(connection, len).await;
        assert!(bytes == pattern(from, len), "wrong bytes near {from}");
        from += len as u64;
    }
}

async fn back_pressure<I: Io>(server: &I, client: &I, ip: IpAddr) {
    let (far, near) = pair(server, client, ip).await;
    let taken = Rc::new(Cell::new(0));
    let writing = task(server, {
        let taken = taken.clone();
        async move {
            let mut buf = Buf::from(pattern(0, MUCH));
            while !buf.is_empty() {
                let (result, returned) = far.write(buf, Flow::Done).await;
                buf = returned;
                let count = result.expect("write");
                assert!(count > 0);
                buf.advance(count);
                taken.set(taken.get() + count);
            }
        }
    });
    // Nobody reads: the writer comes to a halt.
    client.sleep(Duration::from_millis(300)).await;
    let halted = taken.get();
    assert!(halted < MUCH, "{halted} bytes were taken although nobody reads");
    client.sleep(Duration::from_millis(100)).await;
    assert_eq!(taken.get(), halted);
    expect_pattern(&near, 0, MUCH).await;
    done(writing).await;
    assert_eq!(receive(&near, 1).await, b"");
}

async fn both_ways<I: Io>(server: &I, client: &I, ip: IpAddr) {
    const LEN: usize = 4 << 20;
    let (far, near) = pair(server, client, ip).await;
    let mut tasks = Vec::new();
    for (io, end, from) in [(server, far, 0), (client, near, 1 << 32)] {
        let (reader, writer) = (end.clone(), end);
        tasks.push(task(io, async move {
            write_all(&writer, Buf::from(pattern(from, LEN)), Flow::Done).await.expect("write");
        }));
        tasks.push(task(io, async move {
            expect_pattern(&reader, from ^ (1 << 32), LEN).await;
        }));
    }
    for task in tasks {
        done(task).await;
    }
}

async fn sending_files<I: Io>(server: &I, client: &I, dir: &Path, ip: IpAddr) {
    let (far, near) = pair(server, client, ip).await;
    let path = dir.join("sent");
    let file = server.open(&path, Open::CreateNew).await.expect("open");
    put(&file, 0, &pattern(0, MUCH)).await;

    // A head, slices in any order, a tail: all in the order in which they were sent.
    let reading = task(client, {
        let near = near.clone();
        async move {
            assert_eq!(receive(&near, 4).await, b"head");
            expect_pattern(&near, 5_000_001, 2_000_003).await;
            expect_pattern(&near, 3, 1).await;
            expect_pattern(&near, 0, MUCH).await;
            assert_eq!(receive(&near, 4).await, b"tail");
        }
    });
    write_all(&far, Buf::from(&b"head"[..]), Flow::More).await.expect("write");
    send_file_all(&far, &file, 5_000_001, 2_000_003, Flow::More).await.expect("send");
    send_file_all(&far, &file, 3, 1, Flow::More).await.expect("send");
    send_file_all(&far, &file, 0, MUCH as u64, Flow::More).await.expect("send");
    send(&far, b"tail").await;
    done(reading).await;

    // At the end of the file.
    let end = MUCH as u64;
    assert_eq!(far.send_file(&file, end, 10, Flow::Done).await.expect("nothing"), 0);
    assert_eq!(far.send_file(&file, end + 5000, 10, Flow::Done).await.expect("nothing"), 0);
    assert_eq!(far.send_file(&file, 0, 0, Flow::Done).await.expect("nothing"), 0);
    let result = send_file_all(&far, &file, end - 7, 100, Flow::Done).await;
    assert_eq!(result.expect_err("the file ends").kind(), ErrorKind::UnexpectedEof);
    expect_pattern(&near, end - 7, 7).await;

    // A reader that is gone.
    drop(near);
    let result = send_file_all(&far, &file, 0, end, Flow::Done).await;
    let kind = result.expect_err("the peer is gone").kind();
    assert!(matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{kind}");
    far.close();
    far.send_file(&file, 0, 1, Flow::Done).await.expect_err("it is closed");
    server.remove(&path).await.expect("remove");
}

/// A file is sent up to where it was, again and again, while it is written.
async fn growing_files<I: Io>(server: &I, client: &I, dir: &Path, ip: IpAddr) {
    const PART: usize = 100_001;
    const PARTS: usize = 20;
    let (far, near) = pair(server, client, ip).await;
    let path = dir.join("grows");
    let file = server.open(&path, Open::CreateNew).await.expect("open");
    let reading = task(client, async move { expect_pattern(&near, 0, PART * PARTS).await });
    let reader = server.open(&path, Open::Read).await.expect("open");
    for part in 0..PARTS {
        let from = (part * PART) as u64;
        assert_eq!(far.send_file(&reader, from, 10, Flow::Done).await.expect("none yet"), 0);
        put(&file, from, &pattern(from, PART)).await;
        send_file_all(&far, &reader, from, PART as u64, Flow::Done).await.expect("send");
    }
    done(reading).await;
    server.remove(&path).await.expect("remove");
}

/// What was sent is what the file held, however late it is read, and although the file has been
/// appended to, renamed, removed and closed meanwhile.
async fn stalled_reader<I: Io>(server: &I, client: &I, dir: &Path, ip: IpAddr) {
    const LEN: usize = 300_000;
    let (far, near) = pair(server, client, ip).await;
    let path = dir.join("stalled");
    let file = server.open(&path, Open::CreateNew).await.expect("open");
    // The end is in the middle of a sector and of a page, and room is allocated behind it.
    put(&file, 0, &pattern(0, LEN)).await;
    if let Err(error) = file.allocate(0, 4 << 20).await {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
    let sending = task(server, {
        let file = file.clone();
        async move {
            send_file_all(&far, &file, 0, LEN as u64, Flow::Done).await.expect("send");
            far
        }
    });
    server.sleep(Duration::from_millis(20)).await;
    put(&file, LEN as u64, &pattern(7, 1_000_000)).await;
    file.sync().await.expect("sync");
    let moved = dir.join("moved");
    server.rename(&path, &moved).await.expect("rename");
    server.remove(&moved).await.expect("remove");
    server.sync_dir(dir).await.expect("sync");
    drop(file);
    // A new file takes the name, and perhaps the blocks.
    let new = server.open(&path, Open::CreateNew).await.expect("open");
    put(&new, 0, &vec![0xee; LEN]).await;
    new.sync().await.expect("sync");
    client.sleep(Duration::from_millis(20)).await;
    expect_pattern(&near, 0, LEN).await;
    let far = done(sending).await;
    drop(far);
    assert_eq!(receive(&near, 1).await, b"");
    server.remove(&path).await.expect("remove");
}

/// A send that waits for room ends when its connection is closed, and the file is still usable.
async fn interrupted_send<I: Io>(server: &I, client: &I, dir: &Path, ip: IpAddr) {
    let (far, near) = pair(server, client, ip).await;
    let path = dir.join("sent");
    let file = server.open(&path, Open::CreateNew).await.expect("open");
    put(&file, 0, &pattern(0, MUCH)).await;
    let sending = task(server, {
        let (far, file) = (far.clone(), file.clone());
        async move { send_file_all(&far, &file, 0, MUCH as u64, Flow::Done).await }
    });
    server.sleep(Duration::from_millis(50)).await;
    far.close();
    done(sending).await.expect_err("it was closed under way");
    assert_eq!(file.length().await.expect("length"), MUCH as u64);
    drop(near);
    server.remove(&path).await.expect("remove");
}
