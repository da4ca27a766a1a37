//! Random calls whose outcomes every world must agree on.
//!
//! One number draws a sequence of calls; each says in a line what it was and how it ended. Two
//! worlds are compared by their lines. What no world promises (how short a read is, how long
//! anything takes, the words of an error) is not in them. Most calls are made one by one; some are under
//! way together, where the seam says what comes of that whoever is first.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use futures_util::future::{join, join_all, join3, join4};

use super::network::pair;
use super::{pattern, try_receive};
use crate::io::ram::Chance;
use crate::io::{
    Buf, Connection, Error, File, Flow, Io, Listener, Open, fill_at, send_file_all, write_all,
    write_all_at,
};

/// Makes as many calls on files and folders within `dir`, an empty folder, as `seed` draws.
pub async fn files<I: Io>(io: &I, dir: &Path, seed: u64, calls: usize) -> Vec<String> {
    let mut chance = Chance::new(seed);
    let mut files: Vec<Option<I::File>> = vec![None, None, None, None];
    let mut said = Vec::new();
    for _ in 0..calls {
        let line = if chance.one_in(2) {
            let slot = chance.below(files.len());
            match files[slot].clone() {
                Some(file) => on_file(&file, &mut files[slot], &mut chance).await,
                None => open(io, dir, &mut files[slot], &mut chance).await,
            }
        } else {
            on_names(io, dir, &mut chance).await
        };
        said.push(line);
    }
    said
}

fn any_path(chance: &mut Chance) -> &'static str {
    const PATHS: [&str; 10] =
        ["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "d/e/f", "a/x", "d/e/f/g"];
    PATHS[chance.below(PATHS.len())]
}

async fn open<I: Io>(
    io: &I,
    dir: &Path,
    slot: &mut Option<I::File>,
    chance: &mut Chance,
) -> String {
    let path = any_path(chance);
    let how = match chance.below(5) {
        0 => Open::Read,
        1 => Open::Write,
        2 => Open::CreateNew,
        3 => Open::Create,
        _ => {
            let result = io.lock(&dir.join(path)).await;
            let line = format!("lock {path}: {:?}", end(result.as_ref().map(drop)));
            *slot = result.ok();
            return line;
        }
    };
    let result = io.open(&dir.join(path), how).await;
    let line = format!("open {path} {how:?}: {:?}", end(result.as_ref().map(drop)));
    *slot = result.ok();
    line
}

async fn on_names<I: Io>(io: &I, dir: &Path, chance: &mut Chance) -> String {
    let path = any_path(chance);
    let at = dir.join(path);
    match chance.below(7) {
        0 => format!("remove {path}: {:?}", end(io.remove(&at).await.as_ref())),
        1 | 2 => {
            let to = any_path(chance);
            let result = io.rename(&at, &dir.join(to)).await;
            format!("rename {path} {to}: {:?}", end(result.as_ref()))
        }
        3 => format!("list {path}: {:?}", end(io.list(&at).await.as_ref())),
        4 => format!("make {path}: {:?}", end(io.make_dir(&at).await.as_ref())),
        5 => {
            // One of them makes it, whichever.
            let makers = (0..2 + chance.below(3)).map(|_| io.open(&at, Open::CreateNew));
            let made = join_all(makers).await.into_iter();
            let mut made: Vec<_> = made.map(|made| end(made.as_ref().map(drop))).collect();
            made.sort();
            format!("open {path} CreateNew at once: {made:?}")
        }
        _ => format!("sync {path}: {:?}", end(io.sync_dir(&at).await.as_ref())),
    }
}

async fn on_file<F: File>(file: &F, slot: &mut Option<F>, chance: &mut Chance) -> String {
    let offset = chance.below(20_000) as u64;
    let len = chance.below(9000);
    match chance.below(10) {
        0 | 1 => {
            let bytes: Vec<u8> = (0..len).map(|_| chance.bits() as u8).collect();
            let (result, _) = write_all_at(file, vec![Buf::from(bytes)], offset).await;
            format!("write {offset} {len}: {:?}", end(result.as_ref()))
        }
        2..=4 => {
            let (result, buf) = fill_at(file, Buf::with_capacity(len), offset).await;
            let sum = sum(&buf);
            format!("read {offset} {len}: {} {sum} {:?}", buf.len(), end(result.as_ref()))
        }
        5 => format!("cut {offset}: {:?}", end(file.truncate(offset).await.as_ref())),
        6 => {
            let result = file.allocate(offset, len as u64).await;
            format!("allocate {offset} {len}: {:?}", end(result.as_ref()))
        }
        7 => {
            let synced = file.sync().await;
            let length = file.length().await;
            format!("sync: {:?} {:?}", end(synced.as_ref()), end(length.as_ref()))
        }
        8 => at_once(file, chance).await,
        _ => {
            *slot = None;
            "close".to_owned()
        }
    }
}

/// Below it the calls of [`at_once`] read, and above it they write.
const APART: usize = 10_000;
/// Each of them writes in a range of its own, of so many bytes.
const RANGE: usize = 4000;
const WRITES_MAX: usize = 4;

/// Reads, writes and a sync that are under way together and do not touch each other, and what they left.
async fn at_once<F: File>(file: &F, chance: &mut Chance) -> String {
    let there = file.length().await.map_or(0, |there| (APART as u64).min(there) as usize);
    let reads: Vec<(usize, usize)> = (0..chance.below(5))
        .map(|_| {
            let from = chance.below(there + 1);
            (from, chance.below(there - from + 1))
        })
        .collect();
    let writes: Vec<(usize, Vec<u8>)> = (0..1 + chance.below(WRITES_MAX))
        .map(|number| {
            let skipped = chance.below(RANGE);
            let bytes = (0..chance.below(RANGE - skipped)).map(|_| chance.bits() as u8).collect();
            (APART + number * RANGE + skipped, bytes)
        })
        .collect();
    let reading =
        reads.iter().map(|&(from, len)| fill_at(file, Buf::with_capacity(len), from as u64));
    let writing = writes
        .iter()
        .map(|(offset, bytes)| write_all_at(file, vec![Buf::from(bytes.clone())], *offset as u64));
    let (read, written, synced) = join3(join_all(reading), join_all(writing), file.sync()).await;
    let read: Vec<_> =
        read.iter().map(|(result, buf)| (buf.len(), sum(buf), end(result.as_ref()))).collect();
    let written: Vec<_> = written.iter().map(|(result, _)| end(result.as_ref())).collect();
    let whole = Buf::with_capacity(APART + WRITES_MAX * RANGE + 20_000);
    let (left, whole) = fill_at(file, whole, 0).await;
    format!(
        "at once: {read:?} {written:?} {:?}, leaves {} {} {:?}",
        end(synced.as_ref()),
        whole.len(),
        sum(&whole),
        end(left.as_ref())
    )
}

/// Unread bytes that one direction holds at most: every world's buffers take so many.
const UNREAD_MAX: usize = 3000;
const FILE_BYTES: usize = 10_000;

/// One connection of the random script: end 0 is the client's, end 1 the server's.
struct Line<C> {
    ends: [C; 2],
    /// What each end has sent so far, and how much of that its peer has read.
    sent: [Vec<u8>; 2],
    read: [usize; 2],
    ended: [bool; 2],
}

impl<C> Line<C> {
    fn unread(&self, from: usize) -> usize {
        self.sent[from].len() - self.read[from]
    }
}

/// Makes as many calls on connections as `seed` draws: the client's end is `client`'s, the
/// server's is `server`'s, which listens on `ip` and keeps a file in `dir`.
pub async fn network<I: Io>(
    server: &I,
    client: &I,
    dir: &Path,
    ip: IpAddr,
    seed: u64,
    calls: usize,
) -> Vec<String> {
    let mut chance = Chance::new(seed);
    let path = dir.join("sent");
    let file = server.open(&path, Open::Create).await.expect("open");
    write_all_at(&file, vec![Buf::from(pattern(0, FILE_BYTES))], 0).await.0.expect("write");
    let mut said = Vec::new();
    let mut line: Option<Line<I::Connection>> = None;
    while said.len() < calls {
        let Some(open) = &mut line else {
            if chance.one_in(4) {
                said.push(no_connection(server, client, ip, &mut chance).await);
            }
            if chance.one_in(4) {
                said.push(crowd(server, client, ip, &mut chance).await);
            }
            let (far, near) = pair(server, client, ip).await;
            let sent = [Vec::new(), Vec::new()];
            line = Some(Line { ends: [near, far], sent, read: [0; 2], ended: [false; 2] });
            continue;
        };
        let side = chance.below(2);
        match chance.below(40) {
            0 => {
                let result = open.ends[side].shutdown().await;
                // Whether a second time is an error is not promised.
                if !open.ended[side] {
                    said.push(format!("{side} ends its half: {:?}", end(result.as_ref())));
                }
                open.ended[side] = true;
            }
            1 => {
                let open = line.take().expect("just seen");
                said.push(close(open, side).await);
            }
            2 => said.extend(both_ways(open, &mut chance).await),
            3..18 => said.push(send(open, side, &file, &mut chance).await),
            _ => said.extend(receive(open, side, &mut chance).await),
        }
    }
    drop((line, file));
    server.remove(&path).await.expect("remove");
    said
}

async fn no_connection<I: Io>(server: &I, client: &I, ip: IpAddr, chance: &mut Chance) -> String {
    let listener = server.listen(SocketAddr::new(ip, 0)).await.expect("a port");
    let address = listener.local_address();
    if chance.one_in(2) {
        let result = server.listen(address).await;
        return format!("listen twice: {:?}", end(result.as_ref().map(drop)));
    }
    drop(listener);
    for _ in 0..100 {
        // The kernel may take a moment to close it.
        if let Err(error) = client.connect(address).await {
            return format!("connect to nobody: {:?}", error.kind());
        }
        client.sleep(Duration::from_millis(5)).await;
    }
    "connected to nobody".to_owned()
}

/// Several connect at once where several accept: each finds somebody of its own.
async fn crowd<I: Io>(server: &I, client: &I, ip: IpAddr, chance: &mut Chance) -> String {
    let listener = server.listen(SocketAddr::new(ip, 0)).await.expect("a port");
    let address = listener.local_address();
    let count = 2 + chance.below(4) as u8;
    let callers = (0..count).map(|number| async move {
        let connection = client.connect(address).await?;
        write_all(&connection, Buf::from(vec![number]), Flow::Done).await?;
        try_receive(&connection, 2).await
    });
    let answerers = (0..count).map(|_| async {
        let connection = listener.accept().await?;
        let asked = try_receive(&connection, 1).await?;
        write_all(&connection, Buf::from(asked.repeat(2)), Flow::Done).await?;
        Ok::<_, Error>(asked)
    });
    let (answers, asked) = join(join_all(callers), join_all(answerers)).await;
    let answers: Vec<_> = answers.iter().map(|answer| end(answer.as_ref())).collect();
    let mut asked: Vec<_> = asked.iter().map(|asked| end(asked.as_ref())).collect();
    asked.sort();
    format!("{count} connect at once: {answers:?} {asked:?}")
}

/// Bytes that each side writes in [`both_ways`] at most: more than buffers may hold.
const MUCH_BYTES: usize = 60_000;

/// Both sides write and read, all at the same time. `None` if one of them has ended its half.
async fn both_ways<C: Connection>(line: &mut Line<C>, chance: &mut Chance) -> Option<String> {
    if line.ended.contains(&true) {
        return None;
    }
    let bytes = [(); 2].map(|()| pattern(chance.bits() >> 32, 1 + chance.below(MUCH_BYTES)));
    for (sent, bytes) in line.sent.iter_mut().zip(&bytes) {
        sent.extend(bytes);
    }
    let due = [0, 1].map(|from| line.sent[from][line.read[from]..].to_vec());
    let [near, far] = &line.ends;
    let write = |from, side: usize| write_all(from, Buf::from(bytes[side].clone()), Flow::Done);
    let (to_far, to_near, at_near, at_far) = join4(
        write(near, 0),
        write(far, 1),
        try_receive(near, due[1].len()),
        try_receive(far, due[0].len()),
    )
    .await;
    line.read = [0, 1].map(|from| line.sent[from].len());
    let wrote = [to_far, to_near].map(|result| end(result.as_ref().map(drop)));
    let read = [(at_far, &due[0]), (at_near, &due[1])]
        .map(|(got, due)| end(got.as_ref().map(|got| (got.len(), got == due))));
    Some(format!("both ways at once: {wrote:?} {read:?}"))
}

async fn send<C: Connection>(
    line: &mut Line<C>,
    side: usize,
    file: &C::File,
    chance: &mut Chance,
) -> String {
    let room = UNREAD_MAX - line.unread(side);
    let len = chance.below(room + 1);
    // Rarely: the kernel believes a promise of more for 200 ms.
    let flow = if chance.one_in(200) { Flow::More } else { Flow::Done };
    let (result, bytes, what) = if side == 1 && chance.one_in(2) && !line.ended[1] {
        let offset = chance.below(FILE_BYTES - len);
        let result = send_file_all(&line.ends[1], file, offset as u64, len as u64, flow).await;
        (result, pattern(offset as u64, len), "sends a file")
    } else {
        let bytes: Vec<u8> = (0..len).map(|_| chance.bits() as u8).collect();
        (write_all(&line.ends[side], Buf::from(bytes.clone()), flow).await, bytes, "writes")
    };
    let said = format!("{side} {what} {len}: {:?}", end(result.as_ref()));
    if result.is_ok() {
        line.sent[side].extend(bytes);
    }
    said
}

/// Reads some of what is there for this side, or the end. `None` if it would wait for ever.
async fn receive<C: Connection>(
    line: &mut Line<C>,
    side: usize,
    chance: &mut Chance,
) -> Option<String> {
    let peer = 1 - side;
    let unread = line.unread(peer);
    if unread == 0 && !line.ended[peer] {
        return None;
    }
    let wanted = if unread == 0 { 10 } else { 1 + chance.below(unread) };
    let result = try_receive(&line.ends[side], wanted).await;
    let expected = &line.sent[peer][line.read[peer]..][..wanted.min(unread)];
    let right = result.as_ref().is_ok_and(|bytes| bytes == expected);
    line.read[peer] += wanted.min(unread);
    let result = result.as_ref().map(Vec::len);
    Some(format!("{side} reads {wanted}: {:?} {right}", end(result)))
}

/// One side closes; what the other one then reads to the end. With something unread that is a
/// reset, and what comes before it is not promised.
async fn close<C: Connection>(line: Line<C>, side: usize) -> String {
    let (unread, due) = (line.unread(1 - side), line.unread(side));
    let unseen = format!("{side} closes and leaves {unread}");
    line.ends[side].close();
    let mut got = 0;
    loop {
        match try_receive(&line.ends[1 - side], UNREAD_MAX).await {
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => got += bytes.len(),
            Err(error) => {
                assert!(unread > 0, "a reset for no reason: {error}");
                return unseen;
            }
        }
    }
    if unread > 0 { unseen } else { format!("{side} closes: {got} of {due}") }
}

/// A sum that depends on order, so that a difference does not print thousands of bytes.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

/// How a call ended, without the words of an error, which no world promises.
fn end<T: std::fmt::Debug>(
    result: std::result::Result<T, &Error>,
) -> std::result::Result<T, String> {
    result.map_err(|error| match error.raw_os_error() {
        Some(libc::EBADF) => "not open for writing".to_owned(),
        _ => format!("{:?}", error.kind()),
    })
}
