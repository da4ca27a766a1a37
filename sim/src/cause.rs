//! Which fault of a run something is due to.
//!
//! Every fault that comes gets a number. Whatever it hinders, on links or disks, carries that
//! number, so that ending one fault takes away only its own, and so that each thing it really
//! touched is counted as its doing.

use std::collections::BTreeMap;

/// The number of a fault in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause(pub u64);

/// How often each cause has touched something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bites(BTreeMap<Cause, u64>);

impl Bites {
    /// Counts one for `cause`.
    pub fn count(&mut self, cause: Cause) {
        *self.0.entry(cause).or_default() += 1;
    }

    /// How often `cause` has.
    #[must_use]
    pub fn of(&self, cause: Cause) -> u64 {
        self.0.get(&cause).copied().unwrap_or(0)
    }
}
