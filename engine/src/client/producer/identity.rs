//! Who a producer is to the brokers: its producer id and epoch (KIP-98, KIP-360).
//!
//! A producer that cannot tell whether a partition has a batch must not go on under the same
//! epoch, because it does not know the next sequence; and must not go on under a new id, because
//! then nothing keeps the old batch out: it may arrive after later ones. So it raises its epoch,
//! by itself and asking nobody. Once a partition has a batch of the new epoch, it takes none of an
//! older one. Before that an old batch may still arrive, and then it stands before all that was
//! sent after it.
//!
//! All partitions of a producer share the identity. One that does not need the new epoch changes
//! over when nothing of it is under way or in doubt, and begins at sequence 0 like the others.
//!
//! A new id is taken only when there is no further epoch, which a producer with a new epoch every
//! second reaches after nine hours, and when a broker knows a newer epoch than we ever had, so that
//! somebody else uses our id. It fences nothing.

use std::cell::{Cell, RefCell};

use crate::id::{ProducerEpoch, ProducerId};
use crate::io::watch;

/// A producer id and its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

impl Identity {
    /// The same producer in its next epoch; `None` after the last.
    fn raised(self) -> Option<Identity> {
        let epoch = self.epoch.0.checked_add(1)?;
        Some(Identity { epoch: ProducerEpoch(epoch), ..self })
    }
}

/// Who a producer is now, and who finds out if nobody knows.
#[derive(Default)]
pub struct Identities {
    current: Cell<Option<Identity>>,
    /// Somebody asks a broker and will say when there is an answer.
    asked: RefCell<Option<watch::Receiver<()>>>,
}

/// Who asks for an identity.
pub enum Inquiry<'a> {
    /// Whoever holds this.
    Mine(Inquirer<'a>),
    /// Another; this changes when there is an answer and closes when there is none.
    Anothers(watch::Receiver<()>),
}

/// The one that asks. If it is dropped before the answer, another may ask.
pub struct Inquirer<'a> {
    identities: &'a Identities,
    says_so: watch::Sender<()>,
}

impl Inquirer<'_> {
    /// This is the answer.
    pub fn answered(self, identity: Identity) {
        self.identities.current.set(Some(identity));
        self.says_so.send_replace(());
    }
}

impl Drop for Inquirer<'_> {
    fn drop(&mut self) {
        self.identities.asked.replace(None);
    }
}

impl Identities {
    /// What new batches are to bear; `None` if a broker must be asked for it.
    pub fn current(&self) -> Option<Identity> {
        self.current.get()
    }

    /// Who asks for an identity: the caller, if nobody does yet.
    pub fn inquiry(&self) -> Inquiry<'_> {
        let mut asked = self.asked.borrow_mut();
        if let Some(answered) = &*asked {
            return Inquiry::Anothers(answered.clone());
        }
        let (says_so, answered) = watch::channel(());
        *asked = Some(answered);
        Inquiry::Mine(Inquirer { identities: self, says_so })
    }

    /// A partition can go on under `lost` no more. If another has said so before, there is a newer
    /// one already.
    pub fn raise(&self, lost: Identity) {
        if self.current.get() == Some(lost) {
            self.current.set(lost.raised());
        }
    }

    /// Somebody else uses the producer id of `lost`.
    pub fn give_up(&self, lost: Identity) {
        if self.current.get().is_some_and(|current| current.id == lost.id) {
            self.current.set(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(id: i64, epoch: i16) -> Identity {
        Identity { id: ProducerId(id), epoch: ProducerEpoch(epoch) }
    }

    #[test]
    fn an_epoch_is_raised_once_however_many_have_lost_it() {
        let identities = Identities::default();
        identities.current.set(Some(identity(7, 3)));
        identities.raise(identity(7, 3));
        identities.raise(identity(7, 3));
        identities.raise(identity(7, 2));
        assert_eq!(identities.current(), Some(identity(7, 4)));
    }

    #[test]
    fn after_the_last_epoch_there_is_none() {
        let identities = Identities::default();
        identities.current.set(Some(identity(7, i16::MAX - 1)));
        identities.raise(identity(7, i16::MAX - 1));
        assert_eq!(identities.current(), Some(identity(7, i16::MAX)));
        identities.raise(identity(7, i16::MAX));
        assert_eq!(identities.current(), None);
    }

    #[test]
    fn an_id_is_given_up_in_every_epoch_and_a_newer_id_is_kept() {
        let identities = Identities::default();
        identities.current.set(Some(identity(7, 5)));
        identities.give_up(identity(7, 3));
        assert_eq!(identities.current(), None);
        identities.current.set(Some(identity(8, 0)));
        identities.give_up(identity(7, 5));
        assert_eq!(identities.current(), Some(identity(8, 0)));
    }
}
