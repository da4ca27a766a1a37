//! The simulated disk of one machine: files, folders, room, locks and faults.
//!
//! It is a plain data structure, without time or tasks: the world decides when a call takes
//! effect. Contents are in [`mod@file`], names in [`names`]; this module joins them, counts room, and
//! lets each call meet what ails the disk: [`trouble`] while it runs, [`rot`](Rot) in silence. Contracts are
//! those of `trialog_engine::io`.
//!
//! The three ways in which a process can end are three methods: [`Disk::process_death`] (the page
//! cache stays), [`Disk::power_loss`] (any subset of what was not flushed stays), and neither.

mod astray;
pub mod file;
pub mod names;
mod rot;
pub mod trouble;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};
use std::path::{Component, Path, PathBuf};

use trialog_engine::io::{Entry, Open, Space};

use crate::seed::Stream;
pub use file::{Damage, Flush, PAGE, SECTOR, Wreck};
pub use names::{FolderSync, Ino};
pub use trouble::{Call, Trouble, Troubles};

use file::Contents;
use names::Names;
use rot::Rot;
use trouble::Stray;

/// Unused room of a read's buffer holds this: whoever believes more than the call reports is found
/// out.
const POISON: u8 = 0xa5;
/// Linux's `EMFILE`.
const TOO_MANY_FILES: i32 = 24;

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
    rot: Rot,
    /// What ails it.
    pub troubles: Troubles,
    /// What the next power cut is to take, if a fault has a wish.
    pub wreck: Option<Wreck>,
    /// What power cuts have taken so far.
    pub damage: Damage,
    /// Writes that went astray and have yet to hit something.
    pub strays: Vec<(Ino, u64, Vec<u8>)>,
    /// Something failed that a program may have taken for final.
    pub hurt: bool,
    /// Files that readers may be sent damaged bytes of, or may have been; see [`Disk::struck`].
    struck: BTreeSet<PathBuf>,
    /// Flushes of files report success and do nothing. Nobody can keep a promise on such a disk:
    /// it is for showing that a trial bites.
    pub flushes_lie: bool,
    /// How often it was replaced by an empty one.
    pub replaced: u64,
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
            rot: Rot::default(),
            troubles: Troubles::default(),
            wreck: None,
            damage: Damage::default(),
            strays: Vec::new(),
            hurt: false,
            struck: BTreeSet::new(),
            flushes_lie: false,
            replaced: 0,
        }
    }

    /// Opens a file and counts one user of it; [`Disk::close`] gives it back.
    ///
    /// # Errors
    /// Those of [`trialog_engine::io::Io::open`], `StorageFull` where a name needs a page.
    pub fn open(&mut self, path: &Path, how: Open) -> Result<Ino> {
        self.fail(Call::Open)?;
        self.find_descriptor()?;
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
    /// What ails the disk.
    pub fn read(&mut self, ino: Ino, offset: u64, into: &mut [u8]) -> Result<usize> {
        self.fail(Call::Read)?;
        if self.troubles.interrupts(&mut self.random) {
            return Err(ErrorKind::Interrupted.into());
        }
        let mut count = self.troubles.shorten(into.len(), &mut self.random);
        let there = self.length(ino).saturating_sub(offset).min(count as u64);
        if let Some(bad) = self.rot.unreadable(ino, offset, there) {
            if bad == offset {
                self.hurt = true;
                return Err(Error::other("simulated sector that cannot be read"));
            }
            count = (bad - offset) as usize;
        }
        let (into, rest) = into.split_at_mut(count);
        rest.fill(POISON);
        let read = self.file(ino).read(offset, into);
        let (into, rest) = into.split_at_mut(read);
        rest.fill(POISON);
        self.misread(ino, offset, into);
        Ok(read)
    }

    /// How many bytes from `offset` on can be read before the first sector that cannot.
    #[must_use]
    pub fn readable(&self, ino: Ino, offset: u64, len: u64) -> u64 {
        self.rot.unreadable(ino, offset, len).map_or(len, |bad| bad - offset)
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
        if let Err(error) = self.fail(Call::Write) {
            let written = self.random.below(2 * total as u64 + 1) as usize;
            let room = self.room_from(ino, offset).min(written.saturating_sub(total) as u64);
            self.write_parts(ino, offset, parts, room as usize);
            return Err(error);
        }
        if self.troubles.interrupts(&mut self.random) {
            return Err(ErrorKind::Interrupted.into());
        }
        let mut count = self.troubles.shorten(total, &mut self.random);
        let room = self.room_from(ino, offset);
        if (count as u64) > room {
            let full = self.full();
            count = room as usize;
            if count == 0 {
                return Err(full);
            }
        }
        let may_be_lost = count > 0 && self.troubles.lose_writes() && self.is_unbelieved(ino);
        match may_be_lost.then(|| self.troubles.loses()).flatten() {
            None => self.write_parts(ino, offset, parts, count),
            Some(stray) => {
                let before = self.sectors(ino, offset, count);
                self.write_parts(ino, offset, parts, count);
                for (sector, bytes) in before {
                    self.alter(ino, sector, &bytes);
                }
                if let Stray::Sector(victim, sector) = stray {
                    let mut bytes = parts.concat();
                    bytes.resize(SECTOR, 0);
                    self.strays.push((victim, sector, bytes));
                }
            }
        }
        Ok(count)
    }

    /// How many sectors of a file a flush would have to write.
    #[must_use]
    pub fn sectors_dirty(&self, ino: Ino) -> u64 {
        self.files.get(&ino).map_or(0, Contents::sectors_dirty)
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
        let result = self.fail(Call::Sync);
        if self.flushes_lie && result.is_ok() {
            return Ok(());
        }
        let contents = self.files.get_mut(&ino).expect("an open file");
        if result.is_err() {
            contents.flush_fail(flush, &mut self.random);
            return result;
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
        self.fail(Call::SyncDir)?;
        self.find_descriptor()?;
        self.names.sync_end(sync);
        Ok(())
    }

    /// As `File::allocate`.
    ///
    /// # Errors
    /// `StorageFull`, `Unsupported`, or what ails the disk; nothing is reserved then.
    pub fn allocate(&mut self, ino: Ino, offset: u64, len: u64) -> Result<()> {
        let end = offset.checked_add(len).filter(|_| len > 0).ok_or(ErrorKind::InvalidInput)?;
        self.fail(Call::Allocate)?;
        if self.troubles.refuses_allocation() {
            return Err(ErrorKind::Unsupported.into());
        }
        if end > offset + self.room_from(ino, offset) {
            return Err(self.full());
        }
        self.resize(ino, |contents| contents.allocate(end));
        Ok(())
    }

    /// As `File::truncate`.
    ///
    /// # Errors
    /// What ails the disk; nothing is cut then.
    pub fn truncate(&mut self, ino: Ino, len: u64) -> Result<()> {
        self.fail(Call::Truncate)?;
        self.rot.cut(ino, len);
        self.resize(ino, |contents| contents.truncate(len));
        Ok(())
    }

    /// As `File::length`.
    ///
    /// # Errors
    /// What ails the disk.
    pub fn tell_length(&mut self, ino: Ino) -> Result<u64> {
        self.fail(Call::Look)?;
        Ok(self.length(ino))
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
        self.fail(Call::Name)?;
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
        self.fail(Call::Name)?;
        let (from_folder, from_name) = self.parent(from)?;
        let (to_folder, to_name) = self.parent(to)?;
        let ino = self.names.get(from_folder, from_name).ok_or(ErrorKind::NotFound)?;
        let replaced = self.names.get(to_folder, to_name);
        if replaced == Some(ino) {
            return Ok(());
        }
        if self.names.folder(ino).is_some() && self.leads_through(to, ino)? {
            return Err(ErrorKind::InvalidInput.into());
        }
        if let Some(replaced) = replaced {
            // A folder on the way to what is renamed is not empty, whatever else may be wrong.
            if self.leads_through(from, replaced)? {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
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
    /// `NotFound`, `NotADirectory`, or what ails the disk.
    pub fn list(&mut self, dir: &Path) -> Result<Vec<Entry>> {
        self.fail(Call::Look)?;
        self.find_descriptor()?;
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
        self.fail(Call::Name)?;
        let (folder, name) = self.parent(dir)?;
        if self.names.get(folder, name).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let ino = self.number();
        self.names.make_folder(folder, name, ino);
        Ok(())
    }

    /// As `Io::space`.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, or what ails the disk.
    pub fn space(&mut self, dir: &Path) -> Result<Space> {
        if self.troubles.fails(Call::Space) {
            // As of a full disk, nobody may take it for final.
            return Err(failed(Call::Space));
        }
        self.folder(dir)?;
        Ok(Space { total: self.capacity, free: self.free() })
    }

    /// Bytes that can still be written.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.troubles.capacity(self.capacity).saturating_sub(self.used)
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
        let wreck = self.wreck.take();
        let names = self.names.power_loss(wreck == Some(Wreck::Names), &mut self.random);
        let mut total = Damage { names, ..Damage::default() };
        for contents in self.files.values_mut() {
            total += contents.power_loss(wreck, &mut self.random);
        }
        self.damage += total;
        self.forget_unreachable();
        total
    }

    /// The machine comes back with another disk, which is empty.
    pub fn replace(&mut self) {
        assert!(self.users.is_empty(), "a disk that is in use");
        self.files.clear();
        self.names = Names::default();
        (self.gone, self.used) = (BTreeSet::new(), 0);
        self.rot = Rot::default();
        self.replaced += 1;
    }

    /// Changes a sector behind everybody's back.
    pub fn alter(&mut self, ino: Ino, sector: u64, bytes: &[u8; SECTOR]) {
        if let Some(contents) = self.files.get_mut(&ino) {
            self.rot.alter(ino, contents, sector, bytes);
            self.strikes(ino);
            self.hurt = true;
        }
    }

    /// Makes a sector unreadable behind everybody's back.
    pub fn spoil(&mut self, ino: Ino, sector: u64) {
        self.rot.spoil(ino, sector);
    }

    /// Undoes all silent damage, and ends every trouble.
    pub fn mend(&mut self) {
        self.troubles.lift_all();
        self.strays.clear();
        self.wreck = None;
        self.rot.mend(&mut self.files);
    }

    /// Every folder with its names, for those who look from outside.
    pub fn folders(&self) -> impl Iterator<Item = (Ino, &BTreeMap<String, Ino>)> {
        self.names.folders()
    }

    /// What a file or folder is called.
    #[must_use]
    pub fn name_of(&self, ino: Ino) -> Option<&str> {
        self.names.name_of(ino)
    }

    /// What a power cut is certain to leave of the file of this name, and its number.
    #[must_use]
    pub fn durable(&self, folder: Ino, name: &str) -> Option<(Ino, Vec<u8>)> {
        let ino = self.names.durable(folder, name)?;
        Some((ino, self.files.get(&ino)?.durable_bytes()))
    }

    /// Whether nothing that this file says is believed without a check: its writes may get lost.
    fn is_unbelieved(&self, ino: Ino) -> bool {
        self.names.name_of(ino).is_some_and(crate::atlas::is_unbelieved)
    }

    /// The sectors that a write touches, as they are before it.
    fn sectors(&self, ino: Ino, offset: u64, len: usize) -> Vec<(u64, [u8; SECTOR])> {
        let last = (offset + len as u64 - 1) / SECTOR as u64;
        let contents = self.file(ino);
        (offset / SECTOR as u64..=last).map(|sector| (sector, contents.sector(sector))).collect()
    }

    fn fail(&mut self, call: Call) -> Result<()> {
        if self.troubles.fails(call) {
            self.hurt = true;
            return Err(failed(call));
        }
        Ok(())
    }

    /// Whatever is opened takes one, folders too.
    fn find_descriptor(&mut self) -> Result<()> {
        if self.troubles.lacks_descriptors() {
            // Nothing that a program may take for final either.
            return Err(Error::from_raw_os_error(TOO_MANY_FILES));
        }
        Ok(())
    }

    fn number(&mut self) -> Ino {
        self.next += 1;
        self.next - 1
    }

    fn file(&self, ino: Ino) -> &Contents {
        self.files.get(&ino).expect("an open file")
    }

    fn full(&mut self) -> Error {
        // Nothing that a program may take for final: once there is room, it has to go on by itself.
        self.troubles.found_full();
        ErrorKind::StorageFull.into()
    }

    /// How many bytes from `offset` on the file could take.
    fn room_from(&self, ino: Ino, offset: u64) -> u64 {
        let page = PAGE as u64;
        let free = self.free() / page * page;
        if self.troubles.is_crammed() {
            return free.saturating_sub(offset % page);
        }
        (pages(self.file(ino).reserved()) + free).saturating_sub(offset)
    }

    fn write_parts(&mut self, ino: Ino, offset: u64, parts: &[&[u8]], mut count: usize) {
        let mut at = offset;
        let mut left = count;
        for part in parts {
            let size = part.len().min(left);
            self.rot.written(ino, at, &part[..size]);
            (at, left) = (at + size as u64, left - size);
        }
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

fn failed(call: Call) -> Error {
    Error::other(format!("simulated I/O error ({call:?})"))
}

fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE as u64) * PAGE as u64
}

#[cfg(test)]
mod tests;
