//! The compaction of a partition's log, under way beside its owner.
//!
//! One task for each step: it waits for its turn (one of a core's partitions is compacted at a
//! time, so that the memory for keys is bounded), copies at the broker's pace, and hands the
//! outcome to the owner. Lives on the partition's core.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Core;
use crate::io::Io;
use crate::log::{Compacted, Compaction, Pace, Stop};

/// One step under way.
pub struct Compacting<I: Io> {
    begun: Rc<Cell<bool>>,
    stop: Stop,
    outcome: oneshot::Receiver<Outcome<I>>,
}

/// A step that is done, and the turn for the next one.
pub type Outcome<I> = (Compacted<I>, OwnedSemaphorePermit);

impl<I: Io> Compacting<I> {
    /// Starts a step; the first of a pass waits for its turn.
    pub fn start(
        core: &Rc<Core<I>>,
        compaction: Compaction<I>,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let (done, outcome) = oneshot::channel();
        let begun = Rc::new(Cell::new(turn.is_some()));
        let stop = compaction.stop();
        let pace = Pace { bytes_per_second: core.config().cleaner_bytes_per_second };
        let (core, begins) = (core.clone(), begun.clone());
        let io = core.io.clone();
        io.spawn(async move {
            let turn = match turn {
                Some(turn) => turn,
                None => {
                    let turns = core.compactions.clone();
                    turns.acquire_owned().await.expect("turns are never closed")
                }
            };
            begins.set(true);
            let compacted = compaction.run(&pace).await;
            // An owner that is gone has no use for it.
            let _ = done.send((compacted, turn));
        });
        Compacting { begun, stop, outcome }
    }

    /// The outcome, once there is one. May be dropped and asked again.
    pub async fn outcome(&mut self) -> Outcome<I> {
        (&mut self.outcome).await.expect("a step runs to its end")
    }

    /// Ends it before its log is closed or removed: nothing is written any more afterwards. Returns
    /// how the step under way ended.
    pub async fn end(self) -> Option<Compacted<I>> {
        self.stop.stop();
        // One that has not had its turn will find that it is to stop.
        if !self.begun.get() {
            return None;
        }
        self.outcome.await.ok().map(|(compacted, _turn)| compacted)
    }
}

/// The outcome of what is under way, or never.
pub async fn under_way<I: Io>(compacting: &mut Option<Compacting<I>>) -> Outcome<I> {
    match compacting {
        Some(compacting) => compacting.outcome().await,
        None => std::future::pending().await,
    }
}
