//! Two runs that differ in one thing have two digests, and the first line in which their traces differ
//! is the one of that thing. So too for runs that panic.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join;
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::io::{Buf, Connection, File, Flow, Io, Listener, Open, write_all};
use trialog_jepsen::history::{Op, Phase, Process, Value};

use super::*;
use crate::cause::Cause;
use crate::clock::Mischief;
use crate::machine::Machine;
use crate::net::link::Hindrance;
use crate::scenario::Recorder;
use crate::seed::Stream;
use crate::tape::{Tape, divergence};

const DISK: u64 = 1 << 20;
const PORT: u16 = 9092;

/// What may be different, and how the first line begins in which it shows.
const TWISTS: [(&str, &str); 19] = [
    ("a machine's name", "Machine"),
    ("a fault", "Fault"),
    ("a folder's path", "DiskCall"),
    ("how a file is opened", "DiskCall"),
    ("the first buffer of a write", "DiskCall"),
    ("the second buffer of a write", "DiskCall"),
    ("where the buffers of a write meet", "DiskCall"),
    ("a new name", "DiskCall"),
    ("a listing", "DiskDone"),
    ("what is read from a file", "DiskDone"),
    ("an error", "DiskDone"),
    ("a random number", "Random"),
    ("a clock", "Clock"),
    ("how often a clock is read", "Clock"),
    ("a timer", "Timer"),
    ("bytes on the wire", "Write"),
    ("bytes that never arrive", "Write"),
    ("a topic's name", "Name"),
    ("the topic of a send", "Client"),
];

/// Does everything there is, one of it differently.
async fn act(io: SimIo, twist: &'static str) {
    let is = |name: &str| twist == name;
    let world = io.world().clone();
    let machine = io.process().machine;
    let dir = Path::new(if is("a folder's path") { "/e" } else { "/d" });
    io.make_dir(dir).await.expect("room");
    let how = if is("how a file is opened") { Open::CreateNew } else { Open::Create };
    let file = io.open(&dir.join("file"), how).await.expect("room");
    let (mut one, mut other) = (vec![1; 5000], vec![2; 5000]);
    one[4000] = if is("the first buffer of a write") { 3 } else { 1 };
    other[4999] = if is("the second buffer of a write") { 3 } else { 2 };
    if is("where the buffers of a write meet") {
        one.push(other.remove(0));
    }
    file.write_at(vec![one.into(), other.into()], 0).await.0.expect("room");
    let name = if is("a new name") { "new" } else { "old" };
    io.rename(&dir.join("file"), &dir.join(name)).await.expect("it is there");
    let _ = io.rename(&dir.join(name), &dir.join("file")).await;
    // Behind the program's back.
    world.machine(machine, |machine| {
        let disk = &mut machine.disk;
        if is("a listing") {
            disk.make_dir(&dir.join("folder")).expect("room");
        }
        let ino = disk.open(&dir.join("file"), Open::Write).expect("it is there");
        if is("what is read from a file") {
            disk.write(ino, 17, &[&[9]]).expect("room");
        }
        disk.close(ino);
    });
    io.list(dir).await.expect("it is there");
    file.read_at(Buf::with_capacity(100), 0).await.0.expect("no faults");
    if is("an error") {
        world.machine(machine, |machine| machine.disk.make_dir(Path::new("/none")).expect("room"));
    }
    let _ = io.make_dir(Path::new("/none/such")).await;
    if is("a clock") {
        let jump = Mischief::Jump(1);
        world.machine(machine, |machine| machine.clock.suffer(world.now(), jump));
    }
    io.wall();
    if is("how often a clock is read") {
        io.wall();
    }
    if is("a random number") {
        world.machine(machine, |machine| machine.random = Stream::new(9));
    }
    io.random();
    if is("a timer") {
        let timer = io.sleep(Duration::from_millis(1));
        io.spawn(timer);
    }
    io.sleep(Duration::from_millis(2)).await;
    let server = SocketAddr::new(Machine::address(machine), PORT);
    let listener = io.listen(server).await.expect("free");
    let (near, far) = join(io.connect(server), listener.accept()).await;
    let (near, far) = (near.expect("there"), far.expect("there"));
    let bytes = vec![if is("bytes on the wire") { 1 } else { 0 }; 100];
    write_all(&near, bytes.into(), Flow::Done).await.expect("taken");
    far.read(Buf::with_capacity(100)).await.0.expect("bytes");
    world.net(|net| net.hinder(machine, machine, Cause(0), Hindrance::Cut));
    let bytes = vec![if is("bytes that never arrive") { 1 } else { 0 }; 100];
    write_all(&near, bytes.into(), Flow::Done).await.expect("taken");
    let recorder = Recorder::new(world, Arc::default());
    let names = if is("a topic's name") { ["a", "c"] } else { ["a", "b"] };
    let [one, other] = names.map(|name| recorder.topic(name));
    let topic = if is("the topic of a send") { other } else { one };
    let op = Op::stored(topic, PartitionIndex(0), Value(1), Some(Offset(0)));
    recorder.record(&io, Process(1), Phase::Ok, op);
}

/// The digest of a run, and its lines.
fn traced(twist: &'static str) -> (Digest, Vec<String>) {
    let tape = Tape::new();
    let frame = |watcher| Frame { watcher, ..Frame::new(1) };
    let body = move |cluster: Cluster| async move {
        let name = if twist == "a machine's name" { "other" } else { "host" };
        let machine = cluster.add(name, DISK, move |io| act(io, twist));
        let fault = if twist == "a fault" { "rot" } else { "cut" };
        cluster.world().note_text(Event::Fault, &[], fault);
        cluster.pass(Duration::from_secs(1)).await;
        assert!(cluster.has_exited(machine), "it did everything");
    };
    let taped = simulate(frame(Watcher::Tape(tape.clone())), body).expect("no panic").digest;
    let quiet = simulate(frame(Watcher::Nobody), body).expect("no panic").digest;
    assert_eq!(quiet, taped, "{twist}: who watches changes nothing");
    (taped, tape.take().iter().map(ToString::to_string).collect())
}

#[test]
fn whatever_differs_is_in_the_digest_and_its_line_is_the_first_that_differs() {
    let (plain, lines) = traced("nothing");
    assert_eq!(traced("nothing"), (plain, lines.clone()));
    for (twist, event) in TWISTS {
        let (digest, other) = traced(twist);
        assert_ne!(digest, plain, "{twist} is not in the digest");
        let found = divergence(lines.iter().map(|s| &**s), other.iter().map(|s| &**s));
        let (_, one, other) = found.unwrap_or_else(|| panic!("{twist} shows in no line"));
        let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
        let shows = [one, other].iter().any(|line| line.contains(&format!(" ms  {event} ")));
        assert!(shows, "{twist} shows first in other lines:\n{one}\n{other}");
    }
}

/// What a run that panics says of itself.
fn panicked(text: &'static str, pause: u64) -> Panicked {
    let body = move |cluster: Cluster| async move {
        cluster.add("host", DISK, move |io| async move {
            let file = io.open(Path::new("/file"), Open::Create).await.expect("room");
            io.sleep(Duration::from_millis(pause)).await;
            // Closed on the way out, after the end.
            let _file = file;
            match text {
                "one" => panic!("one"),
                "here" => panic!("here or there"),
                "there" => panic!("here or there"),
                other => panic!("{other}"),
            }
        });
        cluster.pass(Duration::from_secs(1)).await;
    };
    simulate(Frame::new(1), body).expect_err("it panics")
}

#[test]
fn a_panic_has_a_digest_a_text_and_a_place_and_no_other_panic_agrees() {
    let first = panicked("one", 5);
    assert!(first.digest.is_some_and(|digest| digest.events >= 4), "{first:?}");
    assert!(first.to_string().starts_with("one\nat sim/src/digest_tests.rs:"), "{first}");
    assert!(first.simulated >= Duration::from_millis(5));
    assert_eq!(first, panicked("one", 5));
    let late = panicked("one", 6);
    assert_eq!((&late.text, &late.place), (&first.text, &first.place));
    assert_ne!(late.digest, first.digest, "it came at another time");
    let two = panicked("two", 5);
    assert_eq!(two.digest, first.digest, "all went the same way until then");
    assert_ne!(two, first);
    let (here, there) = (panicked("here", 5), panicked("there", 5));
    assert_eq!((&here.text, here.digest), (&there.text, there.digest));
    assert_ne!(here.place, there.place);
}
