//! What a seed draws of operators: how often brokers are stopped in order, and at which moments.

use std::time::Duration;

use crate::seed::Stream;

/// How an operator stops brokers.
#[derive(Clone, Debug)]
pub struct OperatorShape {
    /// The longest time between two stops.
    pub pause: Duration,
    /// The moments that it chooses; picked from evenly.
    pub moments: Vec<Moment>,
}

/// When a broker is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Any time.
    Any,
    /// While a topic is being deleted.
    Deletion,
    /// While more is asked of a partition than its queue holds, perhaps because it is deleting
    /// records.
    Rush,
    /// While a log is being compacted.
    Compaction,
}

impl Moment {
    /// All of them.
    pub const ALL: [Moment; 4] = [Moment::Any, Moment::Deletion, Moment::Rush, Moment::Compaction];
}

pub(super) fn operator(random: &mut Stream, chaos: Duration) -> OperatorShape {
    let mut moments: Vec<Moment> =
        Moment::ALL.into_iter().filter(|_| random.chance(2, 3)).collect();
    moments.push(random.pick(&Moment::ALL));
    OperatorShape { pause: chaos / random.within(2..7) as u32, moments }
}
