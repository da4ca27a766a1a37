//! The fault plan of a run: a list, drawn from the seed before the run begins.
//!
//! Each seed switches a random part of the fault kinds on and draws when each fault comes, whom it
//! meets and how long it lasts. A plan can be printed, and shortened by hand or machine, without
//! any other draw of the run shifting. Carrying it out is `nemesis`'s work.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::machine::Crash;
use crate::seed::Stream;

/// The faults of a run, by time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Sorted by time.
    pub faults: Vec<Planned>,
}

/// One fault and when it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Time since the start of the chaos.
    pub at: Duration,
    /// What comes.
    pub fault: Fault,
}

/// A fault. Machines are named by their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub enum Fault {
    /// The process dies, or the power fails, at whatever await point that moment finds.
    Crash { machine: usize, crash: Crash, down: Duration },
    /// The same, right after a disk call is made: `calls` calls from now.
    CrashAtCall { machine: usize, crash: Crash, calls: u64, down: Duration },
    /// Everything that the disk does takes `factor` times as long.
    SlowDisk { machine: usize, factor: u64, lasting: Duration },
    /// Nothing that the disk does ends.
    StalledDisk { machine: usize, lasting: Duration },
    /// There is room for `room` more bytes.
    FullDisk { machine: usize, room: u64, lasting: Duration },
    /// The next reads fail.
    ReadErrors { machine: usize, count: u32 },
    /// The next writes fail.
    WriteErrors { machine: usize, count: u32 },
    /// The next flushes fail, and what was dirty counts as clean.
    FlushErrors { machine: usize, count: u32 },
    /// Reads and writes of files are cut short.
    ShortTransfers { machine: usize, per_mille: u64, lasting: Duration },
    /// Nothing arrives in this direction.
    Cut { from: usize, to: usize, lasting: Duration },
    /// Nothing arrives in either direction.
    Partition { one: usize, other: usize, lasting: Duration },
    /// Packets take `factor` times as long in both directions.
    SlowLink { one: usize, other: usize, factor: u64, lasting: Duration },
    /// Packets get lost and are sent again, in both directions.
    LossyLink { one: usize, other: usize, per_mille: u64, lasting: Duration },
    /// Connections between the two break.
    Reset { one: usize, other: usize },
    /// Connecting hangs, what is connected stays so.
    ConnectsHang { from: usize, to: usize, lasting: Duration },
    /// Connecting is refused.
    ConnectsRefused { machine: usize, lasting: Duration },
    /// The wall clock is set to another time.
    ClockJump { machine: usize, by_ms: i64 },
    /// Both clocks run at another rate from now on.
    ClockDrift { machine: usize, drift: i64 },
}

/// The kinds of faults, for counting; a plan switches each on or off as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Kind {
    Kill,
    PowerLoss,
    KillAtCall,
    PowerLossAtCall,
    ClientCrash,
    SlowDisk,
    StalledDisk,
    FullDisk,
    ReadError,
    WriteError,
    FlushError,
    ShortTransfer,
    Cut,
    Partition,
    SlowLink,
    LossyLink,
    Reset,
    ConnectsHang,
    ConnectsRefused,
    ClockJump,
    ClockDrift,
}

/// Whom the faults of a plan may meet, and for how long.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Machines that run brokers.
    pub brokers: Vec<usize>,
    /// Machines that run clients.
    pub clients: Vec<usize>,
    /// How long the chaos lasts.
    pub chaos: Duration,
    /// How many broker crashes there are at least.
    pub crashes_min: usize,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 21] = [
        Kind::Kill,
        Kind::PowerLoss,
        Kind::KillAtCall,
        Kind::PowerLossAtCall,
        Kind::ClientCrash,
        Kind::SlowDisk,
        Kind::StalledDisk,
        Kind::FullDisk,
        Kind::ReadError,
        Kind::WriteError,
        Kind::FlushError,
        Kind::ShortTransfer,
        Kind::Cut,
        Kind::Partition,
        Kind::SlowLink,
        Kind::LossyLink,
        Kind::Reset,
        Kind::ConnectsHang,
        Kind::ConnectsRefused,
        Kind::ClockJump,
        Kind::ClockDrift,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Plan {
    /// Draws a plan.
    #[must_use]
    pub fn draw(random: &mut Stream, scope: &Scope) -> Plan {
        let crash_kinds = [Kind::Kill, Kind::PowerLoss, Kind::KillAtCall, Kind::PowerLossAtCall];
        let others = Kind::ALL.into_iter().filter(|kind| !crash_kinds.contains(kind));
        let on: Vec<Kind> = others.filter(|_| random.chance(2, 5)).collect();
        let mut faults = Vec::new();
        let crashes = scope.crashes_min as u64 + random.below(4);
        for number in 0..crashes {
            // The crashes that must happen come by time; what waits for a call may wait in vain.
            let sure = number < scope.crashes_min as u64;
            let kind = random.pick(&crash_kinds[..if sure { 2 } else { 4 }]);
            faults.push(planned(random, scope, kind));
        }
        if !on.is_empty() {
            for _ in 0..random.within(2..12) {
                let kind = random.pick(&on);
                faults.push(planned(random, scope, kind));
            }
        }
        faults.sort_by_key(|planned| planned.at);
        Plan { faults }
    }

    /// Draws a plan of `count` faults, each of one of `kinds`.
    #[must_use]
    pub fn of(random: &mut Stream, scope: &Scope, kinds: &[Kind], count: u64) -> Plan {
        let mut faults: Vec<Planned> = (0..count)
            .map(|_| {
                let kind = random.pick(kinds);
                planned(random, scope, kind)
            })
            .collect();
        faults.sort_by_key(|planned| planned.at);
        Plan { faults }
    }
}

fn planned(random: &mut Stream, scope: &Scope, kind: Kind) -> Planned {
    let at = Duration::from_nanos(random.below(crate::seed::nanos(scope.chaos)));
    Planned { at, fault: fault(random, scope, kind) }
}

fn fault(random: &mut Stream, scope: &Scope, kind: Kind) -> Fault {
    let broker = random.pick(&scope.brokers);
    let client = random.pick(&scope.clients);
    let lasting = random.duration(Duration::from_millis(50)..Duration::from_secs(4));
    let down = random.duration(Duration::from_millis(1)..Duration::from_millis(1500));
    let count = random.within(1..4) as u32;
    let (one, other) = (broker, client);
    let (from, to) = if random.chance(1, 2) { (one, other) } else { (other, one) };
    let crash = match kind {
        Kind::PowerLoss | Kind::PowerLossAtCall => Crash::PowerLoss,
        _ => Crash::Kill,
    };
    match kind {
        Kind::Kill | Kind::PowerLoss => Fault::Crash { machine: broker, crash, down },
        Kind::KillAtCall | Kind::PowerLossAtCall => {
            let calls = 1 + random.below(60);
            Fault::CrashAtCall { machine: broker, crash, calls, down }
        }
        Kind::ClientCrash => Fault::Crash { machine: client, crash, down },
        Kind::SlowDisk => {
            let factor = random.pick(&[10, 50, 300]);
            Fault::SlowDisk { machine: broker, factor, lasting }
        }
        Kind::StalledDisk => Fault::StalledDisk { machine: broker, lasting },
        Kind::FullDisk => Fault::FullDisk { machine: broker, room: random.below(20_000), lasting },
        Kind::ReadError => Fault::ReadErrors { machine: broker, count },
        Kind::WriteError => Fault::WriteErrors { machine: broker, count },
        Kind::FlushError => Fault::FlushErrors { machine: broker, count },
        Kind::ShortTransfer => {
            let per_mille = random.pick(&[50, 500, 1000]);
            Fault::ShortTransfers { machine: broker, per_mille, lasting }
        }
        Kind::Cut => Fault::Cut { from, to, lasting },
        Kind::Partition => Fault::Partition { one, other, lasting },
        Kind::SlowLink => {
            let factor = random.pick(&[10, 100, 400]);
            Fault::SlowLink { one, other, factor, lasting }
        }
        Kind::LossyLink => {
            let per_mille = random.pick(&[20, 200]);
            Fault::LossyLink { one, other, per_mille, lasting }
        }
        Kind::Reset => Fault::Reset { one, other },
        Kind::ConnectsHang => Fault::ConnectsHang { from: client, to: broker, lasting },
        Kind::ConnectsRefused => Fault::ConnectsRefused { machine: broker, lasting },
        Kind::ClockJump => {
            let most = random.pick(&[100, 10_000, 100_000_000]);
            let by_ms = random.below(2 * most) as i64 - most as i64;
            Fault::ClockJump { machine: random.pick(&[broker, client]), by_ms }
        }
        Kind::ClockDrift => {
            let drift = random.below(200_000_000) as i64 - 100_000_000;
            Fault::ClockDrift { machine: random.pick(&[broker, client]), drift }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Planned { at, fault } in &self.faults {
            writeln!(f, "{:>10.3} s  {fault:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn plans_crash_often_enough_and_swarm() {
        let scope = Scope {
            brokers: vec![0],
            clients: vec![1, 2],
            chaos: Duration::from_secs(10),
            crashes_min: 2,
        };
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let plan = Plan::draw(&mut Seed(seed).stream("plan", 0), &scope);
            assert_eq!(plan, Plan::draw(&mut Seed(seed).stream("plan", 0), &scope));
            let sure =
                |planned: &&Planned| matches!(planned.fault, Fault::Crash { machine: 0, .. });
            assert!(plan.faults.iter().filter(sure).count() >= 2, "{plan}");
            assert!(plan.faults.is_sorted_by_key(|planned| planned.at));
            assert!(plan.faults.iter().all(|planned| planned.at < scope.chaos));
            lengths.insert(plan.faults.len());
        }
        assert!(lengths.len() > 8, "{lengths:?}");
    }
}
