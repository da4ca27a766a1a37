//! Makes a fault of a kind: whom it meets, how hard, and for how long.

use std::time::Duration;

use super::{Breach, Fault, Kind};
use crate::atlas::Rot;
use crate::clock::Mischief;
use crate::disk::{Call, Trouble, Wreck};
use crate::machine::Crash;
use crate::net::link::Hindrance;
use crate::plan::Scope;
use crate::seed::Stream;

/// Draws a fault of this kind.
#[must_use]
pub fn draw(random: &mut Stream, scope: &Scope, kind: Kind) -> Fault {
    let machine = random.pick(&scope.brokers);
    let client = random.pick(&scope.clients);
    let any = random.pick(&[machine, client]);
    let lasting = random.duration(Duration::from_millis(50)..Duration::from_secs(4));
    let down = random.duration(Duration::from_millis(1)..Duration::from_millis(1500));
    let per_mille = random.pick(&[50, 300, 1000]);
    match kind {
        Kind::Kill => Fault::Crash { machine, crash: Crash::Kill, down },
        Kind::PowerLoss => Fault::Crash { machine, crash: Crash::PowerLoss, down },
        Kind::ClientCrash => Fault::Crash { machine: client, crash: Crash::Kill, down },
        Kind::CrashLoop => Fault::CrashLoop {
            machine,
            crash: random.pick(&[Crash::Kill, Crash::PowerLoss]),
            times: random.within(3..7) as u32,
            pause: random.duration(Duration::from_millis(20)..Duration::from_millis(400)),
        },
        Kind::Blackout => {
            let machines = [&scope.brokers[..], &scope.clients].concat();
            Fault::Blackout { machines, down }
        }
        Kind::RollingRestart => Fault::RollingRestart { machines: scope.brokers.clone(), down },
        Kind::GracefulStop => Fault::GracefulStop { machine, down },
        Kind::LostData => {
            let keeper = scope.keepers.get(client % scope.keepers.len().max(1));
            Fault::LostData { machine: keeper.copied().unwrap_or(client), down }
        }
        Kind::Pause => Fault::Pause { machine: any, lasting },
        Kind::SlowNode => Fault::SlowNode { machine: any, lasting },
        Kind::BitRot => Fault::Rot { machine, rot: Rot::Bits, draw: random.bits() },
        Kind::LatentSector => Fault::Rot { machine, rot: Rot::Unreadable, draw: random.bits() },
        Kind::StaleSector => Fault::Rot { machine, rot: Rot::Stale, draw: random.bits() },
        Kind::MisdirectedRead => {
            Fault::Misread { machine, times: random.within(1..6) as u32, lasting: 2 * lasting }
        }
        Kind::MisdirectedWrite => {
            Fault::Misdirected { machine, draw: random.bits(), lasting: 2 * lasting }
        }
        Kind::ClockStrobe => Fault::ClockStrobe {
            machine: any,
            by_ms: random.pick(&[10, 2_000, 3_600_000]),
            times: random.within(4..40) as u32,
            period: random.duration(Duration::from_millis(1)..Duration::from_millis(100)),
        },
        Kind::LittleMemory => {
            Fault::LittleMemory { machine, bytes: random.pick(&[300_000, 600_000]) }
        }
        Kind::GoneForGood => {
            Fault::Gone { machine: client, crash: random.pick(&[Crash::Kill, Crash::PowerLoss]) }
        }
        Kind::CutOffForGood => Fault::CutOff { machine: client },
        Kind::NeverPolls => Fault::Stuck { machine: client },
        _ => trap(random, kind, machine, down)
            .or_else(|| {
                let trouble = disk(random, kind, per_mille)?;
                // Some calls are rare.
                let rare = matches!(
                    kind,
                    Kind::NoAllocation
                        | Kind::AllocateError
                        | Kind::TruncateError
                        | Kind::LookError
                        | Kind::SpaceError
                );
                let lasting = match kind {
                    _ if rare => 10 * lasting,
                    Kind::FullDisk => 3 * lasting,
                    _ => lasting,
                };
                Some(Fault::Disk { machine, trouble, lasting })
            })
            .or_else(|| clock(random, kind).map(|mischief| Fault::Clock { machine: any, mischief }))
            .unwrap_or_else(|| network(random, scope, kind, [machine, client], lasting)),
    }
}

/// Crashes at disk calls, the most telling moments for what a power cut takes.
fn trap(random: &mut Stream, kind: Kind, machine: usize, down: Duration) -> Option<Fault> {
    let (crash, call, calls, wreck) = match kind {
        Kind::KillAtCall => (Crash::Kill, None, 60, None),
        Kind::PowerLossAtCall => (Crash::PowerLoss, None, 60, None),
        Kind::KillAtWrite => (Crash::Kill, Some(Call::Write), 20, None),
        Kind::PowerLossAtFlush => (Crash::PowerLoss, Some(Call::Sync), 10, None),
        Kind::LostWrite => (Crash::PowerLoss, Some(Call::Sync), 10, Some(Wreck::All)),
        Kind::KeptFirst => (Crash::PowerLoss, Some(Call::Sync), 10, Some(Wreck::ButFirst)),
        Kind::KeptLast => (Crash::PowerLoss, Some(Call::Sync), 10, Some(Wreck::ButLast)),
        Kind::KeptMiddle => (Crash::PowerLoss, Some(Call::Sync), 10, Some(Wreck::ButMiddle)),
        Kind::LostMiddle => (Crash::PowerLoss, Some(Call::Sync), 10, Some(Wreck::Middle)),
        Kind::Scattered => (Crash::PowerLoss, Some(Call::Sync), 10, Some(Wreck::Scattered)),
        Kind::Garbage => (Crash::PowerLoss, Some(Call::Sync), 10, Some(Wreck::Garbage)),
        Kind::LengthWithoutData => (Crash::PowerLoss, Some(Call::Sync), 10, Some(Wreck::Bytes)),
        Kind::LostName | Kind::LostRename => {
            (Crash::PowerLoss, Some(Call::SyncDir), 3, Some(Wreck::Names))
        }
        Kind::LostRemoval => (Crash::PowerLoss, Some(Call::Name), 3, Some(Wreck::Names)),
        Kind::LostTruncate => (Crash::PowerLoss, Some(Call::Truncate), 2, Some(Wreck::Lengths)),
        _ => return None,
    };
    // A part of a write can only be taken where there are parts.
    let sectors_min = match wreck {
        Some(Wreck::ButFirst | Wreck::ButLast) => 2,
        Some(Wreck::ButMiddle | Wreck::Middle | Wreck::Scattered) => 4,
        _ => 0,
    };
    let calls = if sectors_min > 0 { 1 } else { 1 + random.below(calls) };
    Some(Fault::Trap { machine, crash, call, calls, sectors_min, wreck, down })
}

fn disk(random: &mut Stream, kind: Kind, per_mille: u64) -> Option<Trouble> {
    let count = random.within(1..4) as u32;
    Some(match kind {
        Kind::ReadError => Trouble::Fails(Call::Read, count),
        Kind::WriteError => Trouble::Fails(Call::Write, count),
        Kind::FlushError => Trouble::Fails(Call::Sync, count),
        Kind::FolderFlushError => Trouble::Fails(Call::SyncDir, count),
        Kind::OpenError => Trouble::Fails(Call::Open, count),
        Kind::NameError => Trouble::Fails(Call::Name, count),
        Kind::LookError => Trouble::Fails(Call::Look, count),
        Kind::SpaceError => Trouble::Fails(Call::Space, count),
        Kind::AllocateError => Trouble::Fails(Call::Allocate, count),
        Kind::TruncateError => Trouble::Fails(Call::Truncate, count),
        Kind::NoAllocation => Trouble::NoAllocation,
        Kind::NoDescriptors => Trouble::NoDescriptors,
        Kind::FullDisk => {
            // To the last page, so that not even an empty file can be made, or somewhere in one.
            let pages = random.below(5) * 4096;
            match random.below(3) {
                0 => Trouble::Crammed,
                1 => Trouble::Full(pages),
                _ => Trouble::Full(random.below(20_000)),
            }
        }
        Kind::ShortTransfer => Trouble::Short(per_mille),
        Kind::Interrupted => Trouble::Interrupted(per_mille.min(300)),
        Kind::SlowDisk => Trouble::Slow(random.pick(&[10, 50, 300])),
        Kind::StalledDisk => Trouble::Stalled,
        Kind::LatencySpikes => Trouble::Spikes(per_mille.min(300)),
        Kind::Disorder => Trouble::Disorder,
        Kind::QueueFull => Trouble::QueueFull(random.within(1..4) as usize),
        Kind::PhantomWrite => Trouble::Phantom(count),
        _ => return None,
    })
}

fn clock(random: &mut Stream, kind: Kind) -> Option<Mischief> {
    let by_ms = 1 + random.below(random.clone().pick(&[100, 10_000, 100_000_000])) as i64;
    let rate = random.within(1_000..200_000_000) as i64 * random.pick(&[1, -1]);
    Some(match kind {
        Kind::ClockForward => Mischief::Jump(by_ms),
        Kind::ClockBack => Mischief::Jump(-by_ms),
        Kind::ClockDrift => Mischief::Drift(rate),
        Kind::ClockSlew => Mischief::Slew(rate),
        Kind::MonotonicLeap => Mischief::Leap(if random.chance(1, 4) {
            suspension(random)
        } else {
            random.within(1..20_000) * 1_000_000
        }),
        Kind::DeadBattery => Mischief::DeadBattery,
        _ => return None,
    })
}

/// How long a guest was suspended, in nanoseconds: longer than anything idle is kept for.
pub fn suspension(random: &mut Stream) -> u64 {
    random.within(125_000..300_000) * 1_000_000
}

fn network(
    random: &mut Stream,
    scope: &Scope,
    kind: Kind,
    [one, other]: [usize; 2],
    lasting: Duration,
) -> Fault {
    let all: Vec<usize> = [&scope.brokers[..], &scope.clients].concat();
    let (from, to) = if random.chance(1, 2) { (one, other) } else { (other, one) };
    let both = vec![(one, other), (other, one)];
    let often = random.pick(&[20, 100, 400]);
    let connections = |breach| Fault::Connections { one: from, other: to, breach };
    let links = |between, hindrance| Fault::Links { between, hindrance, lasting };
    let inbound = || all.iter().filter(|&&from| from != one).map(|&from| (from, one)).collect();
    match kind {
        Kind::Cut => links(vec![(from, to)], Hindrance::Cut),
        Kind::Partition => links(both, Hindrance::Cut),
        Kind::Isolation => links(around(&all, &[from]), Hindrance::Cut),
        Kind::Bridge => {
            let order = shuffled(random, &all);
            let half = random.within(1..order.len() as u64) as usize;
            // The last one sees both halves.
            let (left, right) = order[..order.len() - 1].split_at(half.min(order.len() - 2));
            let across =
                left.iter().flat_map(|&a| right.iter().flat_map(move |&b| [(a, b), (b, a)]));
            links(across.collect(), Hindrance::Cut)
        }
        Kind::Clog => {
            links(if random.chance(1, 2) { both } else { vec![(from, to)] }, Hindrance::Held)
        }
        Kind::Swizzle => {
            let order = shuffled(random, &all);
            let order = order[..random.within(1..order.len() as u64 + 1) as usize].to_vec();
            let release = shuffled(random, &order);
            let pause = random.duration(Duration::from_millis(20)..Duration::from_millis(600));
            Fault::Swizzle { order, release, with: all, pause }
        }
        Kind::Flapping => Fault::Flapping {
            between: if random.chance(1, 2) { both } else { around(&all, &[one]) },
            times: random.within(2..12) as u32,
            period: random.duration(Duration::from_millis(20)..Duration::from_millis(800)),
        },
        Kind::HiddenDeath => {
            let down = random.duration(Duration::from_millis(1)..Duration::from_secs(2));
            Fault::HiddenDeath { machine: one, lasting, down }
        }
        Kind::SlowLink => links(both, Hindrance::Slow(random.pick(&[10, 100, 400]))),
        Kind::SlowTail => links(both, Hindrance::Tail(often)),
        Kind::LossyLink => links(both, Hindrance::Lossy(often.min(200))),
        Kind::Duplication => links(both, Hindrance::Doubled(often)),
        Kind::Reordering => links(both, Hindrance::Shuffled(often)),
        Kind::DamagedPacket => links(both, Hindrance::Damaged(often.min(200))),
        Kind::AlteredBatch => links(both, Hindrance::Altered(random.pick(&[200, 1000]))),
        Kind::NarrowLink => links(both, Hindrance::Narrow(random.pick(&[10_000, 100_000]))),
        Kind::TinyBuffers => links(both, Hindrance::Tiny(random.pick(&[1, 100, 1500]))),
        Kind::Reset => connections(Breach::Reset),
        Kind::ResetMidFrame => connections(Breach::MidFrame),
        Kind::HalfOpen => connections(Breach::Forgotten),
        Kind::HalfClosed => connections(Breach::HalfClosed),
        Kind::ConnectsHang => links(inbound(), Hindrance::Deaf),
        Kind::ConnectsRefused => links(inbound(), Hindrance::Refusing),
        Kind::ConnectsReset => links(inbound(), Hindrance::Slamming),
        other => unreachable!("{other} is drawn elsewhere"),
    }
}

/// Both directions of every link between `inner` machines and the others.
fn around(all: &[usize], inner: &[usize]) -> Vec<(usize, usize)> {
    let outer = all.iter().filter(|machine| !inner.contains(machine));
    outer.flat_map(|&a| inner.iter().flat_map(move |&b| [(a, b), (b, a)])).collect()
}

fn shuffled(random: &mut Stream, machines: &[usize]) -> Vec<usize> {
    let mut order = machines.to_vec();
    for place in (1..order.len()).rev() {
        order.swap(place, random.below(place as u64 + 1) as usize);
    }
    order
}
