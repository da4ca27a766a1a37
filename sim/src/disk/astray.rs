//! Reads that are misled, and the account of what silent damage has struck.
//!
//! A read that is misled returns what lies elsewhere in the file, to the process or to the peer that is
//! sent a part of it. Where it may is for [`crate::atlas`] to say.

use std::path::{Path, PathBuf};

use super::{Disk, Ino, SECTOR};
use crate::atlas;

/// Fewer bytes than this are not misread: so few could not show it.
const MISREAD_BYTES_MIN: usize = 61;

impl Disk {
    /// The files whose bytes silent damage has ever changed, by what they were called then; the root
    /// stands for those that had no name any more.
    pub fn struck(&self) -> impl Iterator<Item = &Path> {
        self.struck.iter().map(PathBuf::as_path)
    }

    /// What is sent to a peer instead of `len` bytes of a file, if reading them is misled now.
    pub fn send_astray(&mut self, ino: Ino, offset: u64, len: usize) -> Option<Vec<u8>> {
        let length = self.length(ino);
        if len < MISREAD_BYTES_MIN || length <= SECTOR as u64 || !self.troubles.mislead() {
            return None;
        }
        let elsewhere = self.elsewhere(offset, length);
        let wrong = self.peek(ino, elsewhere, len);
        let astray = atlas::is_noticed(self, ino, offset, &wrong)
            && self.troubles.misleads(ino, offset, len, false);
        astray.then(|| {
            self.strikes(ino);
            wrong
        })
    }

    /// Puts what lies elsewhere in the file in the place of what was read, if the read is misled.
    pub(super) fn misread(&mut self, ino: Ino, offset: u64, into: &mut [u8]) {
        if into.len() < MISREAD_BYTES_MIN || !self.troubles.mislead() {
            return;
        }
        let free = self.is_unbelieved(ino);
        let length = self.length(ino);
        if length <= SECTOR as u64 || !self.troubles.misleads(ino, offset, into.len(), free) {
            return;
        }
        let elsewhere = self.elsewhere(offset, length);
        let mut wrong = vec![0; into.len()];
        self.file(ino).read(elsewhere, &mut wrong);
        // Another batch, whole and right, in the place of this one: nobody could tell.
        if atlas::batches(&wrong).is_empty() {
            into.copy_from_slice(&wrong);
            self.hurt = true;
        }
    }

    /// Where in a file of this length a misled read ends up.
    fn elsewhere(&mut self, offset: u64, length: u64) -> u64 {
        (offset + SECTOR as u64 * self.random.within(1..9)) % length
    }

    /// Bytes of a file are other ones, on the disk or on their way from it.
    pub(super) fn strikes(&mut self, ino: Ino) {
        self.struck.insert(self.names.way_to(ino).unwrap_or_else(|| PathBuf::from("/")));
    }
}
