//! Every kind of fault, alone, on a small cluster that is busy with disks and connections: two
//! servers and two clients on nodes of their own. It fires, and when all is healed the clients get
//! their answers again.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use trialog_engine::io::{
    Buf, Connection, File, Flow, Io, Listener, Open, fill_at, write_all, write_all_at,
};
use trialog_engine::wire::batch::{Builder, Compression};

use super::*;
use crate::cluster::{Frame, simulate};
use crate::fault::{Fault, draw};
use crate::io::{SimConnection, SimIo};
use crate::plan::{Planned, Scope};
use crate::seed::Seed;

const PORT: u16 = 9;
const DISK: u64 = 8 << 20;
const SERVERS: usize = 2;

/// What the clients send and the servers store: one record batch, several sectors long.
fn batch() -> Vec<u8> {
    let mut builder = Builder::new().compression(Compression::None);
    builder.push(0, None, Some(&[3; 2500]), &[]);
    builder.finish()
}

/// Serves echoes, and uses its disk as a log does, until it is told to stop.
async fn serve(io: SimIo) {
    let address = SocketAddr::new([0, 0, 0, 0].into(), PORT);
    let listener = io.listen(address).await.expect("one server per machine");
    let disk = io.clone();
    io.spawn(async move {
        loop {
            // Whatever fails: again from the start.
            let _ = write_a_log(&disk).await;
            disk.sleep(Duration::from_millis(20)).await;
        }
    });
    let own = io.clone();
    io.spawn(async move {
        while let Ok(connection) = listener.accept().await {
            own.spawn(async move {
                while let Ok(part) = read_some(&connection).await {
                    if part.is_empty()
                        || write_all(&connection, part.into(), Flow::Done).await.is_err()
                    {
                        break;
                    }
                }
            });
        }
    });
    io.told_to_stop().await;
}

/// A log as the atlas knows it, one file that is made, renamed, cut and removed, and reads.
async fn write_a_log(io: &SimIo) -> std::io::Result<()> {
    for dir in ["/data", "/data/t-0"] {
        if io.make_dir(Path::new(dir)).await.is_ok() {
            io.sync_dir(Path::new(dir).parent().expect("it has one")).await?;
        }
    }
    let dir = Path::new("/data/t-0");
    let name = |extension: &str| dir.join(format!("{:020}.{extension}", 0));
    let log = io.open(&name("log"), Open::Create).await?;
    let index = io.open(&name("index"), Open::Create).await?;
    io.sync_dir(dir).await?;
    let one = batch();
    let mut end = log.length().await? / one.len() as u64 * one.len() as u64;
    for round in 0..400_u64 {
        io.sleep(Duration::from_millis(8)).await;
        if end > 60_000 {
            log.truncate(0).await?;
            end = 0;
        }
        // Reserving what is there already is refused or not, all the same.
        let _ = log.allocate(end, one.len() as u64).await;
        write_all_at(&log, vec![one.clone().into()], end).await.0?;
        let beside = io.clone();
        io.spawn(async move {
            // Calls under way together, for the ring.
            let _ = beside.list(Path::new("/")).await;
            let _ = beside.space(Path::new("/")).await;
        });
        log.sync().await?;
        end += one.len() as u64;
        write_all_at(&index, vec![vec![4; 700].into()], round % 9 * 700).await.0?;
        fill_at(&log, Buf::with_capacity(4000), 0).await.0?;
        if round % 3 == 0 {
            let mut checkpoint = b"TLCP".to_vec();
            checkpoint.extend([2_u32, 0, 0].map(u32::to_be_bytes).concat());
            checkpoint.extend([0_u64, 7, 0].map(u64::to_be_bytes).concat());
            checkpoint.extend(1_u32.to_be_bytes());
            checkpoint.extend(0_u64.to_be_bytes());
            checkpoint.extend(0_u32.to_be_bytes());
            checkpoint.extend([7, end, 0, 0].map(u64::to_be_bytes).concat());
            let new = io.open(&dir.join("checkpoint.new"), Open::Create).await?;
            write_all_at(&new, vec![checkpoint.into()], 0).await.0?;
            new.sync().await?;
            io.rename(&dir.join("checkpoint.new"), &dir.join("checkpoint")).await?;
            io.sync_dir(dir).await?;
        }
        let short = io.open(Path::new("/short"), Open::Create).await?;
        write_all_at(&short, vec![vec![round as u8; 3000].into()], 0).await.0?;
        short.sync().await?;
        short.truncate(100).await?;
        short.sync().await?;
        io.sync_dir(Path::new("/")).await?;
        io.remove(Path::new("/short")).await?;
    }
    Ok(())
}

async fn read_some(connection: &SimConnection) -> std::io::Result<Vec<u8>> {
    let (result, buf) = connection.read(Buf::with_capacity(4000)).await;
    result.map(|_| buf.to_vec())
}

/// Asks the servers in turn, for ever, and counts the answers that are right. Keeps a file.
async fn ask(io: SimIo, answers: Arc<AtomicU64>) {
    let kept = io.open(Path::new("/kept"), Open::Create).await.expect("a sound disk");
    write_all_at(&kept, vec![vec![1; 100].into()], 0).await.0.expect("a sound disk");
    for turn in 0.. {
        let server = SocketAddr::new(Machine::address(turn % SERVERS), PORT);
        let talk = async {
            let connection = io.connect(server).await.ok()?;
            for _ in 0..15 {
                write_all(&connection, batch().into(), Flow::Done).await.ok()?;
                let mut got = Vec::new();
                while got.len() < batch().len() {
                    let part = read_some(&connection).await.ok().filter(|part| !part.is_empty())?;
                    got.extend(part);
                }
                if got != batch() {
                    return None;
                }
                answers.fetch_add(1, Ordering::Relaxed);
                io.sleep(Duration::from_millis(25)).await;
            }
            Some(())
        };
        tokio::select! {
            biased; // Who is done in time is done.
            _ = talk => {}
            () = io.sleep(Duration::from_secs(2)) => {}
        }
        io.sleep(Duration::from_millis(5)).await;
    }
}

/// A run under faults of one kind only; which kinds fired, and how many answers came after healing.
fn run(kind: Kind, seed: u64) -> (Counts, u64) {
    let body = move |cluster: Cluster| async move {
        let answers: Arc<AtomicU64> = Arc::default();
        for number in 0..SERVERS {
            cluster.add(&format!("server {number}"), DISK, serve);
        }
        let clients: Vec<usize> = ["one", "two"]
            .map(|name| {
                let answers = Arc::clone(&answers);
                cluster.add(name, DISK, move |io| ask(io, Arc::clone(&answers)))
            })
            .to_vec();
        let servers: Vec<usize> = (0..SERVERS).collect();
        let chaos = Duration::from_secs(4);
        let (brokers, keepers) = (servers.clone(), Vec::new());
        let scope = Scope { brokers, clients, keepers, chaos, crashes_min: 0 };
        let mut random = Seed(seed).stream("plan", 0);
        let planned = |number: u64| Planned {
            at: Duration::from_millis(200 + 300 * number),
            kind,
            fault: draw(&mut random, &scope, kind),
        };
        let plan = Plan { faults: (0..10).map(planned).collect() };
        let nemesis = Nemesis::new(cluster.clone(), servers);
        nemesis.run(&plan).await;
        if kind == Kind::DeadBattery {
            for machine in 0..SERVERS {
                nemesis.crash(machine, Crash::PowerLoss);
            }
        }
        cluster.pass(Duration::from_secs(1)).await;
        nemesis.heal().await;
        cluster.pass(Duration::from_secs(4)).await;
        let before = answers.load(Ordering::Relaxed);
        cluster.pass(Duration::from_secs(2)).await;
        let after = answers.load(Ordering::Relaxed);
        let counts = nemesis.counts();
        (counts, after - before)
    };
    simulate(Frame::new(seed), body).expect("no panic").value
}

/// Every second kind, from this one on: two tests run side by side.
fn kinds_fire_and_are_healed(first: usize) {
    let kinds = Kind::ALL.into_iter().skip(first).step_by(2);
    for kind in kinds.filter(|kind| !kind.is_for_good()) {
        let fired = (0..6).any(|seed| {
            let (counts, answers) = run(kind, seed);
            assert!(answers > 20, "{kind}, seed {seed}: {answers} answers after healing");
            counts.contains_key(&kind)
        });
        assert!(fired, "{kind} never fired");
    }
}

#[test]
fn every_even_kind_of_fault_fires_and_is_healed() {
    kinds_fire_and_are_healed(0);
}

#[test]
fn every_odd_kind_of_fault_fires_and_is_healed() {
    kinds_fire_and_are_healed(1);
}

#[test]
fn the_same_faults_come_the_same_way_twice() {
    for kind in [Kind::Swizzle, Kind::MisdirectedWrite] {
        assert_eq!(run(kind, 3), run(kind, 3), "{kind}");
    }
}

/// A paused process does nothing, its peers' bytes wait in its kernel, and it goes on where it was
/// once no fault keeps it any more.
#[test]
fn a_paused_process_stands_still_until_the_last_pause_ends() {
    let body = |cluster: Cluster| async move {
        let ticks: Arc<AtomicU64> = Arc::default();
        let own = Arc::clone(&ticks);
        cluster.add("host", DISK, move |io| {
            let own = Arc::clone(&own);
            async move {
                let rounds = Rc::new(Cell::new(0_u64));
                loop {
                    io.sleep(Duration::from_millis(10)).await;
                    rounds.set(rounds.get() + 1);
                    own.store(rounds.get(), Ordering::Relaxed);
                }
            }
        });
        let nemesis = Nemesis::new(cluster.clone(), vec![0]);
        let pause = |at, lasting| Planned {
            at: Duration::from_millis(at),
            kind: Kind::Pause,
            fault: Fault::Pause { machine: 0, lasting: Duration::from_millis(lasting) },
        };
        let plan = Plan { faults: vec![pause(200, 1000), pause(300, 200)] };
        nemesis.run(&plan).await;
        cluster.pass(Duration::from_millis(50)).await;
        let paused = ticks.load(Ordering::Relaxed);
        cluster.pass(Duration::from_millis(700)).await;
        assert_eq!(ticks.load(Ordering::Relaxed), paused, "the shorter pause has ended");
        cluster.pass(Duration::from_millis(500)).await;
        assert!(ticks.load(Ordering::Relaxed) > paused + 20, "the same process goes on");
    };
    simulate(Frame::new(1), body).expect("no panic");
}

/// What is lost for good stays so when all else heals, and nobody starts it again: neither healing nor
/// a fault that ends later.
#[test]
fn what_is_lost_for_good_does_not_heal() {
    let body = |cluster: Cluster| async move {
        let answers: [Arc<AtomicU64>; 3] = Default::default();
        cluster.add("server 0", DISK, serve);
        cluster.add("server 1", DISK, serve);
        for (number, own) in answers.iter().enumerate() {
            let own = Arc::clone(own);
            cluster.add(&format!("client {number}"), DISK, move |io| ask(io, Arc::clone(&own)));
        }
        let nemesis = Nemesis::new(cluster.clone(), vec![0, 1]);
        let fault = |number, kind, fault| Planned { at: Duration::from_secs(number), kind, fault };
        let down = Duration::from_millis(1500);
        let faults = vec![
            fault(1, Kind::Blackout, Fault::Blackout { machines: vec![2, 3], down }),
            fault(2, Kind::GoneForGood, Fault::Gone { machine: 2, crash: Crash::PowerLoss }),
            fault(2, Kind::CutOffForGood, Fault::CutOff { machine: 3 }),
        ];
        nemesis.run(&Plan { faults }).await;
        cluster.pass(Duration::from_secs(2)).await;
        nemesis.heal().await;
        cluster.pass(Duration::from_secs(4)).await;
        let lost = [2, 3, 4].map(|machine| nemesis.is_lost(machine));
        let runs = [2, 3, 4].map(|machine| cluster.is_running(machine));
        let before = answers.each_ref().map(|count| count.load(Ordering::Relaxed));
        cluster.pass(Duration::from_secs(2)).await;
        let after = answers.each_ref().map(|count| count.load(Ordering::Relaxed));
        let still = [0, 1, 2].map(|client| after[client] > before[client]);
        (lost, runs, still, nemesis.counts())
    };
    let (lost, runs, still, counts) = simulate(Frame::new(4), body).expect("no panic").value;
    assert_eq!(lost, [true, true, false]);
    assert_eq!(runs, [false, true, true]);
    assert_eq!(still, [false, false, true]);
    for kind in [Kind::GoneForGood, Kind::CutOffForGood] {
        assert_eq!(counts.get(&kind), Some(&1), "{kind}");
    }
}

/// A program gets stuck where it asks whether it is to, each time that it is started; one that never
/// asks does not, and the fault has not fired.
#[test]
fn a_program_gets_stuck_where_it_asks() {
    let body = |cluster: Cluster| async move {
        let ticks: Arc<AtomicU64> = Arc::default();
        let own = Arc::clone(&ticks);
        cluster.add("host", DISK, serve);
        cluster.add("client", DISK, move |io| {
            let own = Arc::clone(&own);
            async move {
                while !io.world().machine(1, Machine::gets_stuck) {
                    own.fetch_add(1, Ordering::Relaxed);
                    io.sleep(Duration::from_millis(10)).await;
                }
                std::future::pending::<()>().await;
            }
        });
        let nemesis = Nemesis::new(cluster.clone(), vec![0]);
        let plan = |machine| {
            let fault = Fault::Stuck { machine };
            Plan { faults: vec![Planned { at: Duration::ZERO, kind: Kind::NeverPolls, fault }] }
        };
        nemesis.run(&plan(0)).await;
        cluster.pass(Duration::from_secs(1)).await;
        assert!(!nemesis.is_lost(1) && nemesis.counts().is_empty());
        nemesis.run(&plan(1)).await;
        cluster.pass(Duration::from_secs(1)).await;
        assert!(nemesis.is_lost(1));
        let before = ticks.load(Ordering::Relaxed);
        nemesis.crash(1, Crash::Kill);
        assert!(!nemesis.is_lost(1), "there is no process that is stuck");
        nemesis.heal().await;
        cluster.pass(Duration::from_secs(1)).await;
        assert!(nemesis.is_lost(1));
        (before, ticks.load(Ordering::Relaxed), nemesis.counts())
    };
    let (before, after, counts) = simulate(Frame::new(6), body).expect("no panic").value;
    assert!(before > 50);
    assert_eq!(before, after);
    assert_eq!(counts, [(Kind::NeverPolls, 1)].into());
}
