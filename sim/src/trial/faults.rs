//! What may go wrong in a trial, and how often.

use crate::plan::{Kind, Plan, Scope};
use crate::seed::Stream;

/// Kinds of faults, and how many come in a run at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    kinds: Vec<Kind>,
    most: u64,
}

impl Faults {
    /// Nothing goes wrong.
    #[must_use]
    pub fn none() -> Faults {
        Faults { kinds: Vec::new(), most: 0 }
    }

    /// Certain kinds, each as likely as any other; up to eight faults in a run.
    #[must_use]
    pub fn of(kinds: &[Kind]) -> Faults {
        Faults { kinds: kinds.to_vec(), most: 8 }
    }

    /// Processes die, the broker's and yours, and the broker's power fails. All start again.
    #[must_use]
    pub fn crashes() -> Faults {
        Faults::of(&[Kind::Kill, Kind::PowerLoss, Kind::ClientCrash, Kind::ClientCrash])
    }

    /// Partitions, lossy and slow links, connections that break, hang or are refused, between your
    /// nodes and the broker.
    #[must_use]
    pub fn network() -> Faults {
        Faults::of(&[
            Kind::Cut,
            Kind::Partition,
            Kind::SlowLink,
            Kind::LossyLink,
            Kind::Reset,
            Kind::ConnectsHang,
            Kind::ConnectsRefused,
        ])
    }

    /// The broker's disk is slow, stalls, is full or fails.
    #[must_use]
    pub fn disk() -> Faults {
        Faults::of(&[
            Kind::SlowDisk,
            Kind::StalledDisk,
            Kind::FullDisk,
            Kind::ReadError,
            Kind::WriteError,
            Kind::FlushError,
            Kind::ShortTransfer,
        ])
    }

    /// Clocks jump and run wrong, each node's by itself.
    #[must_use]
    pub fn clocks() -> Faults {
        Faults::of(&[Kind::ClockForward, Kind::ClockBack, Kind::ClockDrift])
    }

    /// All of the above.
    #[must_use]
    pub fn everything() -> Faults {
        Faults::crashes().and(Faults::network()).and(Faults::disk()).and(Faults::clocks())
    }

    /// These and those; as many as the busier of the two allows.
    #[must_use]
    pub fn and(mut self, other: Faults) -> Faults {
        self.kinds.extend(other.kinds);
        self.most = self.most.max(other.most);
        self
    }

    /// How many faults come in a run at most; each run draws how many there are.
    #[must_use]
    pub fn at_most(self, most: u64) -> Faults {
        Faults { most, ..self }
    }

    /// The plan of one run.
    pub(super) fn plan(&self, random: &mut Stream, scope: &Scope) -> Plan {
        if self.kinds.is_empty() || self.most == 0 {
            return Plan::default();
        }
        let count = random.within(1..self.most + 1);
        Plan::of(random, scope, &self.kinds, count)
    }
}
