//! The simulated disk of one machine: files, folders, room, locks and faults.
//!
//! It is a plain data structure, without time or tasks: the world decides when a call takes
//! effect. Contents are in [`mod@file`], names in [`names`]; this module joins them, counts room, and
//! injects the faults that are armed in [`Faults`]. Contracts are those of `trialog_engine::io`.
//!
//! The three ways in which a process can end are three methods: [`Disk::process_death`] (the page
//! cache stays), [`Disk::power_loss`] (any subset of what was not flushed stays), and neither.

pub mod file;
pub mod names;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};
use std::path::{Component, Path};

use trialog_engine::io::{Entry, Open};

use crate::seed::Stream;
pub use file::{Damage, Flush, PAGE, SECTOR};
pub use names::{FolderSync, Ino};

use file::Contents;
use names::Names;

/// Faults of a running disk. A count arms that many calls to come; each one that fires counts one
/// up in [`Fired`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Reads that fail with an I/O error.
    pub read_errors: u32,
    /// Writes that fail with an I/O error, some of them after a part was written.
    pub write_errors: u32,
    /// Flushes (of files or folders) that fail and mark what was dirty clean.
    pub sync_errors: u32,
    /// In how many of 1,000 calls a read or a write is cut short.
    pub short_per_mille: u64,
    /// Flushes of files report success and do nothing. Nobody can keep a promise on such a disk:
    /// it is for showing that a trial bites.
    pub flushes_lie: bool,
}

/// How often each running fault really happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fired {
    /// Failed reads.
    pub read_errors: u64,
    /// Failed writes.
    pub write_errors: u64,
    /// Failed flushes.
    pub sync_errors: u64,
    /// Calls that found no room.
    pub full: u64,
    /// Reads and writes cut short.
    pub short: u64,
}

/// One machine's file system. See the module's head.
#[derive(Debug)]
pub struct Disk {
    files: BTreeMap<Ino, Contents>,
    names: Names,
    /// How many descriptors (and packets on their way) keep a file alive.
    users: BTreeMap<Ino, u64>,
    locks: BTreeSet<Ino>,
    /// Files that nobody can reach, except after a power cut that brings their names back. They
    /// take no room.
    gone: BTreeSet<Ino>,
    next: Ino,
    /// Bytes that fit.
    capacity: u64,
    /// Bytes that are taken, in whole pages.
    used: u64,
    random: Stream,
    /// What goes wrong from now on.
    pub faults: Faults,
    /// What has gone wrong.
    pub fired: Fired,
}

impl Disk {
    /// An empty disk with room for `capacity` bytes.
    #[must_use]
    pub fn new(capacity: u64, random: Stream) -> Self {
        Disk {
            files: BTreeMap::new(),
            names: Names::default(),
            users: BTreeMap::new(),
            locks: BTreeSet::new(),
            gone: BTreeSet::new(),
            next: 1,
            capacity,
            used: 0,
            random,
            faults: Faults::default(),
            fired: Fired::default(),
        }
    }

    /// Opens a file and counts one user of it; [`Disk::close`] gives it back.
    ///
    /// # Errors
    /// Those of [`trialog_engine::io::Io::open`], `StorageFull` where a name needs a page.
    pub fn open(&mut self, path: &Path, how: Open) -> Result<Ino> {
        let (folder, name) = self.parent(path)?;
        let ino = match (self.names.get(folder, name), how) {
            (Some(_), Open::CreateNew) => return Err(ErrorKind::AlreadyExists.into()),
            (Some(ino), _) if self.names.folder(ino).is_some() => {
                return Err(ErrorKind::IsADirectory.into());
            }
            (Some(ino), _) => ino,
            (None, Open::Read | Open::Write) => return Err(ErrorKind::NotFound.into()),
            (None, Open::Create | Open::CreateNew) => {
                if self.free() == 0 {
                    return Err(self.full());
                }
                let ino = self.number();
                self.files.insert(ino, Contents::default());
                self.names.link(folder, name, ino);
                ino
            }
        };
        self.use_file(ino);
        Ok(ino)
    }

    /// One more user of an open file.
    pub fn use_file(&mut self, ino: Ino) {
        *self.users.entry(ino).or_default() += 1;
    }

    /// One user fewer; the last one of a file without a name frees its room.
    pub fn close(&mut self, ino: Ino) {
        let users = self.users.get_mut(&ino).expect("closed as often as opened");
        *users -= 1;
        if *users == 0 {
            self.users.remove(&ino);
            self.free_if_unreachable(ino);
        }
    }

    /// Locks an open file; [`Disk::unlock`] ends that.
    ///
    /// # Errors
    /// `WouldBlock` if it is locked.
    pub fn lock(&mut self, ino: Ino) -> Result<()> {
        if self.locks.insert(ino) { Ok(()) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    /// Ends a lock.
    pub fn unlock(&mut self, ino: Ino) {
        assert!(self.locks.remove(&ino), "a lock ends once");
    }

    /// Reads into `into`, as `File::read_at`.
    ///
    /// # Errors
    /// An armed fault.
    pub fn read(&mut self, ino: Ino, offset: u64, into: &mut [u8]) -> Result<usize> {
        if take(&mut self.faults.read_errors, &mut self.fired.read_errors) {
            return Err(Error::other("simulated read error"));
        }
        let count = self.shorten(into.len());
        Ok(self.file(ino).read(offset, &mut into[..count]))
    }

    /// The bytes of a file as they are now, zeros where it has none: what a packet that carries a
    /// part of the file holds at the moment it leaves.
    #[must_use]
    pub fn peek(&self, ino: Ino, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        if let Some(contents) = self.files.get(&ino) {
            contents.read(offset, &mut bytes);
        }
        bytes
    }

    /// Writes `parts` one after another, as `File::write_at`.
    ///
    /// # Errors
    /// `StorageFull`, or an armed fault.
    pub fn write(&mut self, ino: Ino, offset: u64, parts: &[&[u8]]) -> Result<usize> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if take(&mut self.faults.write_errors, &mut self.fired.write_errors) {
            let written = self.random.below(2 * total as u64 + 1) as usize;
            self.write_parts(ino, offset, parts, written.saturating_sub(total));
            return Err(Error::other("simulated write error"));
        }
        let mut count = self.shorten(total);
        let room = self.room_from(ino, offset);
        if (count as u64) > room {
            self.fired.full += 1;
            count = room as usize;
            if count == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
        }
        self.write_parts(ino, offset, parts, count);
        Ok(count)
    }

    /// Begins a flush of a file.
    #[must_use]
    pub fn sync_begin(&self, ino: Ino) -> Flush {
        self.files.get(&ino).expect("an open file").flush_begin()
    }

    /// Ends a flush, well or (if a fault is armed) badly.
    ///
    /// # Errors
    /// An armed fault. What was dirty is then marked clean all the same.
    pub fn sync_end(&mut self, ino: Ino, flush: &Flush) -> Result<()> {
        let failed = take(&mut self.faults.sync_errors, &mut self.fired.sync_errors);
        if self.faults.flushes_lie && !failed {
            return Ok(());
        }
        let contents = self.files.get_mut(&ino).expect("an open file");
        if failed {
            contents.flush_fail(flush, &mut self.random);
            return Err(Error::other("simulated flush error"));
        }
        contents.flush_end(flush, &mut self.random);
        Ok(())
    }

    /// Begins to make the names of a folder durable.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn sync_dir_begin(&self, dir: &Path) -> Result<FolderSync> {
        Ok(self.names.sync_begin(self.folder(dir)?))
    }

    /// Ends it.
    ///
    /// # Errors
    /// An armed fault; nothing is durable then.
    pub fn sync_dir_end(&mut self, sync: FolderSync) -> Result<()> {
        if take(&mut self.faults.sync_errors, &mut self.fired.sync_errors) {
            return Err(Error::other("simulated flush error"));
        }
        self.names.sync_end(sync);
        Ok(())
    }

    /// As `File::allocate`.
    ///
    /// # Errors
    /// `StorageFull`; nothing is reserved then.
    pub fn allocate(&mut self, ino: Ino, offset: u64, len: u64) -> Result<()> {
        let end = offset.checked_add(len).ok_or(ErrorKind::InvalidInput)?;
        if end > offset + self.room_from(ino, offset) {
            return Err(self.full());
        }
        self.resize(ino, |contents| contents.allocate(end));
        Ok(())
    }

    /// As `File::truncate`.
    pub fn truncate(&mut self, ino: Ino, len: u64) {
        self.resize(ino, |contents| contents.truncate(len));
    }

    /// A file's length.
    #[must_use]
    pub fn length(&self, ino: Ino) -> u64 {
        self.file(ino).len()
    }

    /// As `Io::remove`.
    ///
    /// # Errors
    /// `NotFound`, `DirectoryNotEmpty`.
    pub fn remove(&mut self, path: &Path) -> Result<()> {
        let (folder, name) = self.parent(path)?;
        let ino = self.names.get(folder, name).ok_or(ErrorKind::NotFound)?;
        if self.names.folder(ino).is_some_and(|names| !names.is_empty()) {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.names.unlink(folder, name);
        self.free_if_unreachable(ino);
        Ok(())
    }

    /// As `Io::rename`.
    ///
    /// # Errors
    /// `NotFound`; `IsADirectory` or `NotADirectory` where a folder meets a file;
    /// `DirectoryNotEmpty`.
    pub fn rename(&mut self, from: &Path, to: &Path) -> Result<()> {
        let (from_folder, from_name) = self.parent(from)?;
        let (to_folder, to_name) = self.parent(to)?;
        let ino = self.names.get(from_folder, from_name).ok_or(ErrorKind::NotFound)?;
        if self.names.folder(ino).is_some() && self.leads_through(to, ino)? {
            return Err(ErrorKind::InvalidInput.into());
        }
        let replaced = self.names.get(to_folder, to_name);
        if replaced == Some(ino) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            match (self.names.folder(ino), self.names.folder(replaced)) {
                (Some(_), None) => return Err(ErrorKind::NotADirectory.into()),
                (None, Some(_)) => return Err(ErrorKind::IsADirectory.into()),
                (_, Some(names)) if !names.is_empty() => {
                    return Err(ErrorKind::DirectoryNotEmpty.into());
                }
                _ => {}
            }
        }
        self.names.rename((from_folder, from_name), (to_folder, to_name));
        if let Some(replaced) = replaced {
            self.free_if_unreachable(replaced);
        }
        Ok(())
    }

    /// As `Io::list`.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn list(&self, dir: &Path) -> Result<Vec<Entry>> {
        let folder = self.folder(dir)?;
        let names = self.names.folder(folder).expect("a folder");
        let entry = |(name, ino): (&String, &Ino)| Entry {
            name: name.clone(),
            is_dir: self.names.folder(*ino).is_some(),
        };
        Ok(names.iter().map(entry).collect())
    }

    /// As `Io::make_dir`.
    ///
    /// # Errors
    /// `AlreadyExists`, `NotFound`.
    pub fn make_dir(&mut self, dir: &Path) -> Result<()> {
        let (folder, name) = self.parent(dir)?;
        if self.names.get(folder, name).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let ino = self.number();
        self.names.make_folder(folder, name, ino);
        Ok(())
    }

    /// As `Io::free_space`.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn free_in(&self, dir: &Path) -> Result<u64> {
        self.folder(dir).map(|_| self.free())
    }

    /// Bytes that can still be written.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used)
    }

    /// Bytes that are taken.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Bytes that were written and have not been flushed, over all files.
    #[must_use]
    pub fn dirty(&self) -> u64 {
        self.files.values().map(Contents::dirty).sum()
    }

    /// Changes how much fits; less than is used means that the disk is full.
    pub fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
    }

    /// The process that used this disk is gone: its descriptors and locks with it. Packets that
    /// carry parts of files keep theirs (`kept` says how many users each file still has).
    pub fn process_death(&mut self, kept: BTreeMap<Ino, u64>) {
        self.locks.clear();
        self.users = kept;
        for contents in self.files.values_mut() {
            contents.process_death();
        }
        self.forget_unreachable();
    }

    /// The power fails. What survives is drawn from the disk's own stream.
    pub fn power_loss(&mut self) -> Damage {
        self.locks.clear();
        self.users.clear();
        self.names.power_loss(&mut self.random);
        let mut total = Damage::default();
        for contents in self.files.values_mut() {
            let damage = contents.power_loss(&mut self.random);
            total.kept += damage.kept;
            total.dropped += damage.dropped;
            total.garbled += damage.garbled;
        }
        self.forget_unreachable();
        total
    }

    fn number(&mut self) -> Ino {
        self.next += 1;
        self.next - 1
    }

    fn file(&self, ino: Ino) -> &Contents {
        self.files.get(&ino).expect("an open file")
    }

    fn full(&mut self) -> Error {
        self.fired.full += 1;
        ErrorKind::StorageFull.into()
    }

    fn shorten(&mut self, count: usize) -> usize {
        if count > 1 && self.random.chance(self.faults.short_per_mille, 1000) {
            self.fired.short += 1;
            return 1 + self.random.below(count as u64 - 1) as usize;
        }
        count
    }

    /// How many bytes from `offset` on the file could take.
    fn room_from(&self, ino: Ino, offset: u64) -> u64 {
        let reserved = pages(self.file(ino).reserved());
        (reserved + self.free() / PAGE as u64 * PAGE as u64).saturating_sub(offset)
    }

    fn write_parts(&mut self, ino: Ino, offset: u64, parts: &[&[u8]], mut count: usize) {
        self.resize(ino, |contents| {
            let mut at = offset;
            for part in parts {
                let size = part.len().min(count);
                if size > 0 {
                    contents.write(at, &part[..size]);
                }
                at += size as u64;
                count -= size;
            }
        });
    }

    fn resize(&mut self, ino: Ino, change: impl FnOnce(&mut Contents)) {
        assert!(!self.gone.contains(&ino), "a file without users changes");
        let contents = self.files.get_mut(&ino).expect("an open file");
        let before = pages(contents.reserved());
        change(contents);
        self.used = self.used - before + pages(contents.reserved());
    }

    fn free_if_unreachable(&mut self, ino: Ino) {
        if self.users.contains_key(&ino) || self.names.live().any(|named| named == ino) {
            return;
        }
        if let Some(contents) = self.files.get(&ino)
            && self.gone.insert(ino)
        {
            self.used -= pages(contents.reserved());
        }
    }

    fn forget(&mut self, ino: Ino) {
        self.gone.remove(&ino);
        if self.files.remove(&ino).is_none() {
            self.names.forget(ino);
        }
    }

    fn forget_unreachable(&mut self) {
        loop {
            let reachable = self.names.reachable();
            let folders = (1..self.next).filter(|ino| self.names.folder(*ino).is_some());
            let gone: Vec<Ino> = self
                .files
                .keys()
                .copied()
                .chain(folders)
                .filter(|ino| !reachable.contains(ino) && !self.users.contains_key(ino))
                .collect();
            if gone.is_empty() {
                break;
            }
            gone.into_iter().for_each(|ino| self.forget(ino));
        }
        let named: BTreeSet<Ino> = self.names.live().collect();
        let unused = |ino: &&Ino| !named.contains(ino) && !self.users.contains_key(ino);
        self.gone = self.files.keys().filter(unused).copied().collect();
        let counted = self.files.iter().filter(|(ino, _)| !self.gone.contains(ino));
        self.used = counted.map(|(_, contents)| pages(contents.reserved())).sum();
    }

    fn folder(&self, path: &Path) -> Result<Ino> {
        let mut at = 0;
        for name in components(path)? {
            at = self.names.get(at, name).ok_or(ErrorKind::NotFound)?;
            if self.names.folder(at).is_none() {
                return Err(ErrorKind::NotADirectory.into());
            }
        }
        Ok(at)
    }

    /// Whether the way to `path` leads through `ino`.
    fn leads_through(&self, path: &Path, ino: Ino) -> Result<bool> {
        let mut at = 0;
        for name in components(path)? {
            match self.names.get(at, name) {
                Some(next) => at = next,
                None => return Ok(false),
            }
            if at == ino && self.names.folder(ino).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn parent<'p>(&self, path: &'p Path) -> Result<(Ino, &'p str)> {
        let name = components(path)?.pop().ok_or(ErrorKind::InvalidInput)?;
        Ok((self.folder(path.parent().unwrap_or(Path::new("")))?, name))
    }
}

/// The names on the way from the root; a relative path starts there too.
fn components(path: &Path) -> Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_str().ok_or(ErrorKind::InvalidInput)?),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}

fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE as u64) * PAGE as u64
}

fn take(armed: &mut u32, fired: &mut u64) -> bool {
    let fires = *armed > 0;
    if fires {
        *armed -= 1;
        *fired += 1;
    }
    fires
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(capacity: u64, seed: u64) -> Disk {
        Disk::new(capacity, Stream::new(seed))
    }

    fn contents(disk: &mut Disk, path: &str) -> Option<Vec<u8>> {
        let ino = disk.open(Path::new(path), Open::Read).ok()?;
        let bytes = disk.peek(ino, 0, disk.length(ino) as usize);
        disk.close(ino);
        Some(bytes)
    }

    #[test]
    fn a_flushed_and_named_file_survives_every_power_cut() {
        let (mut nameless, mut named) = (0, 0);
        for seed in 0..100 {
            let mut disk = disk(1 << 20, seed);
            disk.make_dir(Path::new("/d")).expect("made");
            let sync = disk.sync_dir_begin(Path::new("/")).expect("there");
            disk.sync_dir_end(sync).expect("synced");
            for (path, with_name) in [("/d/a", true), ("/d/b", false)] {
                let ino = disk.open(Path::new(path), Open::CreateNew).expect("created");
                disk.write(ino, 0, &[b"hel", b"lo"]).expect("written");
                let flush = disk.sync_begin(ino);
                disk.sync_end(ino, &flush).expect("flushed");
                if with_name {
                    let sync = disk.sync_dir_begin(Path::new("/d")).expect("there");
                    disk.sync_dir_end(sync).expect("synced");
                }
            }
            disk.power_loss();
            assert_eq!(contents(&mut disk, "/d/a").as_deref(), Some(&b"hello"[..]));
            match contents(&mut disk, "/d/b") {
                Some(bytes) => {
                    assert_eq!(bytes, b"hello");
                    named += 1;
                }
                None => nameless += 1,
            }
        }
        assert!(named > 10 && nameless > 10, "{named} {nameless}");
    }

    #[test]
    fn a_full_disk_writes_what_fits_and_recovers() {
        let mut disk = disk(2 * PAGE as u64, 1);
        let ino = disk.open(Path::new("f"), Open::Create).expect("created");
        assert_eq!(disk.write(ino, 0, &[&[1; 3 * PAGE]]).expect("short"), 2 * PAGE);
        let error = disk.write(ino, 2 * PAGE as u64, &[&[1]]).expect_err("full");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!(disk.write(ino, 0, &[&[2; PAGE]]).expect("room is there"), PAGE);
        let error = disk.open(Path::new("g"), Open::Create).expect_err("no room for a name");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        disk.truncate(ino, 10);
        assert_eq!(disk.free(), PAGE as u64);
        assert_eq!(disk.fired.full, 3);
        disk.remove(Path::new("f")).expect("removed");
        assert_eq!(disk.used(), PAGE as u64, "still open");
    }

    #[test]
    fn a_removed_file_lives_on_while_it_is_open_and_frees_its_room() {
        let mut disk = disk(1 << 20, 1);
        let ino = disk.open(Path::new("f"), Open::Create).expect("created");
        disk.write(ino, 0, &[b"x"]).expect("written");
        let sync = disk.sync_dir_begin(Path::new("/")).expect("there");
        disk.sync_dir_end(sync).expect("synced");
        disk.remove(Path::new("/f")).expect("removed");
        assert_eq!(disk.peek(ino, 0, 1), b"x");
        assert_eq!(disk.used(), PAGE as u64);
        disk.close(ino);
        assert_eq!(disk.used(), 0);
        let error = disk.open(Path::new("f"), Open::Write).expect_err("gone");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn armed_faults_fire_once_each() {
        let mut disk = disk(1 << 20, 3);
        let ino = disk.open(Path::new("f"), Open::Create).expect("created");
        disk.faults =
            Faults { read_errors: 1, write_errors: 1, sync_errors: 2, ..Faults::default() };
        disk.write(ino, 0, &[b"abc"]).expect_err("armed");
        assert_eq!(disk.write(ino, 0, &[b"abc"]).expect("fired already"), 3);
        let mut byte = [0];
        disk.read(ino, 0, &mut byte).expect_err("armed");
        assert_eq!(disk.read(ino, 1, &mut byte).expect("fired already"), 1);
        let flush = disk.sync_begin(ino);
        disk.sync_end(ino, &flush).expect_err("armed");
        let sync = disk.sync_dir_begin(Path::new("/")).expect("there");
        disk.sync_dir_end(sync).expect_err("armed");
        let flush = disk.sync_begin(ino);
        disk.sync_end(ino, &flush).expect("fired already");
        let fired = Fired { read_errors: 1, write_errors: 1, sync_errors: 2, full: 0, short: 0 };
        assert_eq!(disk.fired, fired);
    }

    #[test]
    fn folders_are_listed_renamed_and_removed() {
        let mut disk = disk(1 << 20, 1);
        disk.make_dir(Path::new("/a")).expect("made");
        let error = disk.make_dir(Path::new("/a")).expect_err("there already");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        let ino = disk.open(Path::new("/a/f"), Open::CreateNew).expect("created");
        let error = disk.remove(Path::new("/a")).expect_err("not empty");
        assert_eq!(error.kind(), ErrorKind::DirectoryNotEmpty);
        disk.rename(Path::new("/a"), Path::new("/b")).expect("renamed");
        let names = disk.list(Path::new("/b")).expect("a folder");
        assert_eq!(names, [Entry { name: "f".to_owned(), is_dir: false }]);
        disk.remove(Path::new("/b/f")).expect("removed");
        disk.remove(Path::new("/b")).expect("empty");
        assert!(disk.list(Path::new("/")).expect("the root").is_empty());
        disk.close(ino);
    }

    #[test]
    fn a_lock_ends_with_its_process() {
        let mut disk = disk(1 << 20, 1);
        let ino = disk.open(Path::new("lock"), Open::Create).expect("created");
        disk.lock(ino).expect("free");
        assert_eq!(disk.lock(ino).expect_err("held").kind(), ErrorKind::WouldBlock);
        disk.unlock(ino);
        disk.lock(ino).expect("free");
        disk.process_death(BTreeMap::new());
        let ino = disk.open(Path::new("lock"), Open::Create).expect("there");
        disk.lock(ino).expect("free again");
    }
}
