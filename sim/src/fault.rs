//! Faults: what can go wrong, as values, and the kinds by which they are drawn and counted.
//!
//! A [`Fault`] is what the nemesis carries out; its [`Kind`] is what a plan switches on or off, what
//! a sweep counts when it really fired, and what a coverage table shows pairs of. [`mod@draw`] makes a
//! fault of a kind. Some kinds are not carried out by themselves but seen: what a power cut does to
//! unflushed bytes is drawn, and what it did is counted.
//!
//! Memory is a domain of its own, with one kind: where a broker has little of it for requests
//! ([`Kind::LittleMemory`]), whoever needs more waits unread, and nothing is aborted. What else takes
//! memory has bounds at which it is refused, such as members and offsets of groups, fetch sessions, and
//! the keys of a compaction: rare paths, and no faults.

mod draw;
mod kind;

use std::time::Duration;

use crate::atlas::Rot;
use crate::clock::Mischief;
use crate::disk::{Call, Trouble, Wreck};
use crate::machine::Crash;
use crate::net::link::Hindrance;

pub use draw::{draw, suspension};
pub use kind::Kind;

/// One thing that goes wrong. Machines are named by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Fault {
    /// The process dies, or the power fails, at whatever await point that moment finds.
    Crash { machine: usize, crash: Crash, down: Duration },
    /// The same, right after a disk call is made: `calls` calls from now, counting those of one
    /// sort if one is named, and flushes only if they have to write so many sectors. A power cut
    /// then takes what it is wished to take.
    Trap {
        machine: usize,
        crash: Crash,
        call: Option<Call>,
        calls: u64,
        sectors_min: u64,
        wreck: Option<Wreck>,
        down: Duration,
    },
    /// The process dies again soon after each start.
    CrashLoop { machine: usize, crash: Crash, times: u32, pause: Duration },
    /// The power fails for all of these at once.
    Blackout { machines: Vec<usize>, down: Duration },
    /// One after another is stopped in order, and started again.
    RollingRestart { machines: Vec<usize>, down: Duration },
    /// The process is told to stop, and is started again once it has.
    GracefulStop { machine: usize, down: Duration },
    /// The power fails, and the machine comes back with an empty disk. It counts if something was on it.
    LostData { machine: usize, down: Duration },
    /// The process makes no progress; its kernel does.
    Pause { machine: usize, lasting: Duration },
    /// The process gets one millisecond in ten.
    SlowNode { machine: usize, lasting: Duration },
    /// The disk, or the ring before it, misbehaves.
    Disk { machine: usize, trouble: Trouble, lasting: Duration },
    /// Silent damage to what lies on the disk, drawn from `draw` once there is something to damage.
    Rot { machine: usize, rot: Rot, draw: u64 },
    /// Reads return what lies elsewhere, where that is noticed.
    Misread { machine: usize, times: u32, lasting: Duration },
    /// A write hits another place, once there is one that may be hit.
    Misdirected { machine: usize, draw: u64, lasting: Duration },
    /// Links are hindered.
    Links { between: Vec<(usize, usize)>, hindrance: Hindrance, lasting: Duration },
    /// Links are held one after another, a `pause` apart, and released in another order.
    Swizzle { order: Vec<usize>, release: Vec<usize>, with: Vec<usize>, pause: Duration },
    /// Links are cut and healed again and again.
    Flapping { between: Vec<(usize, usize)>, times: u32, period: Duration },
    /// A machine is cut off, and then its process dies: nobody is told before the cut heals.
    HiddenDeath { machine: usize, lasting: Duration, down: Duration },
    /// Something befalls all connections between the two.
    Connections { one: usize, other: usize, breach: Breach },
    /// Something befalls a machine's clocks.
    Clock { machine: usize, mischief: Mischief },
    /// The wall clock is set forward and back again, and again.
    ClockStrobe { machine: usize, by_ms: i64, times: u32, period: Duration },
    /// Brokers of a machine have memory for so many bytes of large requests, from the next start on. It
    /// counts when a request had to wait for some.
    LittleMemory { machine: usize, bytes: u64 },
    /// A machine's process dies, or its power fails, for good: nobody starts it again.
    Gone { machine: usize, crash: Crash },
    /// Nothing arrives at or from a machine any more: for good.
    CutOff { machine: usize },
    /// The program of a machine gets stuck, and its process lives: for good.
    Stuck { machine: usize },
}

/// What can befall a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// Both sides see it break.
    Reset,
    /// It breaks in the middle of what is being sent.
    MidFrame,
    /// A box on the way forgets it.
    Forgotten,
    /// A box on the way ends what the first machine sends.
    HalfClosed,
}

impl Fault {
    /// How long it lasts, as far as that is known before it comes.
    #[must_use]
    pub fn lasting(&self) -> Duration {
        match self {
            Fault::Crash { down, .. }
            | Fault::Trap { down, .. }
            | Fault::Blackout { down, .. }
            | Fault::GracefulStop { down, .. }
            | Fault::LostData { down, .. } => *down,
            Fault::CrashLoop { times, pause, .. } => *pause * *times,
            Fault::RollingRestart { machines, down } => *down * machines.len() as u32,
            Fault::Pause { lasting, .. }
            | Fault::SlowNode { lasting, .. }
            | Fault::Disk { lasting, .. }
            | Fault::Misread { lasting, .. }
            | Fault::Misdirected { lasting, .. }
            | Fault::Links { lasting, .. }
            | Fault::HiddenDeath { lasting, .. } => *lasting,
            Fault::Swizzle { order, pause, .. } => *pause * (2 * order.len() as u32 + 1),
            Fault::Flapping { times, period, .. } | Fault::ClockStrobe { times, period, .. } => {
                *period * *times
            }
            Fault::Rot { .. } | Fault::Connections { .. } | Fault::Clock { .. } => Duration::ZERO,
            Fault::LittleMemory { .. }
            | Fault::Gone { .. }
            | Fault::CutOff { .. }
            | Fault::Stuck { .. } => Duration::MAX,
        }
    }

    /// Whether what was written, and not flushed, may be lost by it.
    #[must_use]
    pub fn takes_page_cache(&self) -> bool {
        match self {
            Fault::Crash { crash, .. }
            | Fault::Trap { crash, .. }
            | Fault::CrashLoop { crash, .. }
            | Fault::Gone { crash, .. } => *crash == Crash::PowerLoss,
            Fault::Blackout { .. }
            | Fault::LostData { .. }
            | Fault::Rot { .. }
            | Fault::Misread { .. }
            | Fault::Misdirected { .. } => true,
            // A disk that is only slow or small writes what it has taken.
            Fault::Disk { trouble, .. } => !matches!(
                trouble,
                Trouble::Full(_)
                    | Trouble::Crammed
                    | Trouble::NoAllocation
                    | Trouble::NoDescriptors
                    | Trouble::Short(_)
                    | Trouble::Interrupted(_)
                    | Trouble::Slow(_)
                    | Trouble::Stalled
                    | Trouble::Spikes(_)
                    | Trouble::Disorder
                    | Trouble::QueueFull(_)
            ),
            Fault::RollingRestart { .. }
            | Fault::GracefulStop { .. }
            | Fault::Pause { .. }
            | Fault::SlowNode { .. }
            | Fault::Links { .. }
            | Fault::Swizzle { .. }
            | Fault::Flapping { .. }
            | Fault::HiddenDeath { .. }
            | Fault::Connections { .. }
            | Fault::Clock { .. }
            | Fault::ClockStrobe { .. }
            | Fault::LittleMemory { .. }
            | Fault::CutOff { .. }
            | Fault::Stuck { .. } => false,
        }
    }

    /// Whom it meets, each once, in order.
    #[must_use]
    pub fn machines(&self) -> Vec<usize> {
        let mut machines = match self {
            Fault::Crash { machine, .. }
            | Fault::Trap { machine, .. }
            | Fault::CrashLoop { machine, .. }
            | Fault::GracefulStop { machine, .. }
            | Fault::LostData { machine, .. }
            | Fault::Pause { machine, .. }
            | Fault::SlowNode { machine, .. }
            | Fault::Disk { machine, .. }
            | Fault::Rot { machine, .. }
            | Fault::Misread { machine, .. }
            | Fault::Misdirected { machine, .. }
            | Fault::HiddenDeath { machine, .. }
            | Fault::Clock { machine, .. }
            | Fault::ClockStrobe { machine, .. }
            | Fault::LittleMemory { machine, .. }
            | Fault::Gone { machine, .. }
            | Fault::CutOff { machine }
            | Fault::Stuck { machine } => vec![*machine],
            Fault::Blackout { machines, .. } | Fault::RollingRestart { machines, .. } => {
                machines.clone()
            }
            Fault::Links { between, .. } | Fault::Flapping { between, .. } => {
                between.iter().flat_map(|(from, to)| [*from, *to]).collect()
            }
            Fault::Swizzle { order, with, .. } => [&order[..], with].concat(),
            Fault::Connections { one, other, .. } => vec![*one, *other],
        };
        machines.sort_unstable();
        machines.dedup();
        machines
    }
}
