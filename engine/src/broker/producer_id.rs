//! A core's block of producer ids: taken from the cluster machine a thousand at a time, so that a
//! new producer rarely waits for a flush. What is left of a block when the broker ends is never
//! used.

use std::cell::Cell;
use std::sync::Arc;

use super::Shared;
use super::host::Refused;
use crate::id::ProducerId;
use crate::io::Io;
use crate::machine::{Command, Reply};
use crate::probe::{self, Probe};

/// The ids `next .. end`.
#[derive(Default)]
pub struct Block {
    next: Cell<i64>,
    end: Cell<i64>,
}

impl Block {
    /// An id that nobody ever had.
    pub async fn take<I: Io>(&self, shared: &Arc<Shared<I>>) -> Result<ProducerId, Refused> {
        while self.next.get() == self.end.get() {
            let command = Command::AllocateProducerIds { node: shared.node };
            let Reply::ProducerIds { first, count } = shared.order(command).await? else {
                unreachable!("ids are answered with ids");
            };
            // Another request may have brought a block meanwhile; then that one is dropped.
            if self.next.get() != self.end.get() {
                probe::hit(Probe::ProducerBlockDropped);
            }
            self.next.set(first.0);
            self.end.set(first.0 + count);
        }
        let id = self.next.get();
        self.next.set(id + 1);
        Ok(ProducerId(id))
    }
}
