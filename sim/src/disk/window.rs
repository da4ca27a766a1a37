//! A look at what a power cut could take, for invariants. Changes nothing and draws nothing.

use std::io::Result;
use std::path::Path;

use super::Disk;

impl Disk {
    /// The files of a folder whose contents, or whose very names, are only in the page cache, and
    /// those of which a failed flush lost something.
    ///
    /// # Errors
    /// As `Io::list`.
    pub fn unflushed(&self, dir: &Path) -> Result<Vec<String>> {
        let folder = self.folder(dir)?;
        let names = self.names.folder(folder).expect("a folder");
        let risky = names.iter().filter(|(name, ino)| {
            let contents = self.files.get(ino);
            let unflushed = contents.is_some_and(|contents| !contents.is_all_durable());
            contents.is_some() && (unflushed || !self.names.is_durable(folder, name, **ino))
        });
        Ok(risky.map(|(name, _)| name.clone()).collect())
    }

    /// What a process finds in the first `most` bytes of a file now; none if something of the file is
    /// rotten.
    #[must_use]
    pub fn seen(&self, dir: &Path, name: &str, most: u64) -> Option<Vec<u8>> {
        let ino = self.names.get(self.folder(dir).ok()?, name)?;
        let length = self.files.get(&ino)?.len().min(most) as usize;
        (!self.rot.is_in(ino)).then(|| self.peek(ino, 0, length))
    }

    /// What a power cut would leave of a file, if it is certain to be left; none if something of it
    /// is rotten.
    #[must_use]
    pub fn lasting(&self, dir: &Path, name: &str) -> Option<Vec<u8>> {
        let (ino, bytes) = self.durable(self.folder(dir).ok()?, name)?;
        (!self.rot.is_in(ino)).then_some(bytes)
    }
}
