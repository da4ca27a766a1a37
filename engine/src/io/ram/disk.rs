//! The RAM world's disk: folders, files, faults, and what a power loss leaves.
//!
//! Every folder has a live and a durable set of names. A change of a name is pending until the
//! folder is synced; a power loss keeps any subset of what is pending. A rename between two
//! folders is pending until both are synced, and survives as a whole or not at all.
//!
//! Owned by one world. Every change is counted, so that a test can cut the power at each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::image::Contents;
use crate::io::chance::Chance;
use crate::io::{Entry, Error, ErrorKind, Open, Result, Space};

/// What a power loss takes of the changes that were not made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: the process was killed, and the kernel's caches live on.
    Nothing,
    /// Any subset, drawn from this seed.
    Some(u64),
    /// All of them.
    Everything,
}

/// The calls that a fault can hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// `File::read_at`, and reads by `Connection::send_file`.
    Read,
    /// `File::write_at`.
    Write,
    /// `File::sync`.
    Sync,
    /// `File::allocate`.
    Allocate,
    /// `File::truncate`.
    Truncate,
    /// `Io::open` and `Io::lock`.
    Open,
    /// `Io::remove`.
    Remove,
    /// `Io::rename`.
    Rename,
    /// `Io::list`.
    List,
    /// `Io::make_dir`.
    MakeDir,
    /// `Io::sync_dir`.
    SyncDir,
    /// `File::length`.
    Length,
    /// `Io::space`.
    Space,
}

/// What a fault does to the call that it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `EIO`. A sync marks its dirty pages clean; a write may have written some bytes.
    Eio,
    /// `StorageFull`; a write may have written some bytes.
    Full,
    /// `EMFILE`: the process has as many descriptors as it may have.
    Scarce,
    /// A read or a write of at least two bytes does less than it was asked. No error.
    Short,
}

/// A planned fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The calls that count and are hit.
    pub call: Call,
    /// How many of those calls go well first.
    pub after: u64,
    /// How many are hit then.
    pub times: u64,
    /// What happens to them.
    pub effect: Effect,
}

pub(super) type Id = u64;

const ROOT: Id = 0;

#[derive(Clone, Default)]
struct Names {
    live: BTreeMap<String, Id>,
    durable: BTreeMap<String, Id>,
}

enum Node {
    Dir(Names),
    File(Contents),
}

/// A change of a name that is not durable yet.
struct Change {
    what: What,
    /// The folders that must still be synced.
    waits: BTreeSet<Id>,
}

enum What {
    Link { dir: Id, name: String, node: Id },
    Unlink { dir: Id, name: String, node: Id },
    Rename { from: (Id, String), to: (Id, String), node: Id },
}

pub(super) struct Disk {
    nodes: BTreeMap<Id, Node>,
    node_next: Id,
    changes: Vec<Change>,
    opens: BTreeMap<Id, u64>,
    locked: BTreeSet<Id>,
    faults: Vec<Fault>,
    faults_hit: u64,
    capacity: u64,
    operations: u64,
    pub(super) write_backs: u64,
    cut_at: Option<u64>,
    dead: bool,
    halted: Arc<AtomicBool>,
    chance: Chance,
}

fn eio() -> Error {
    Error::from_raw_os_error(libc::EIO)
}

fn full() -> Error {
    Error::from_raw_os_error(libc::ENOSPC)
}

fn scarce() -> Error {
    Error::from_raw_os_error(libc::EMFILE)
}

impl What {
    fn keys(&self) -> Vec<(Id, &str)> {
        match self {
            What::Link { dir, name, .. } | What::Unlink { dir, name, .. } => vec![(*dir, name)],
            What::Rename { from, to, .. } => vec![(from.0, &from.1), (to.0, &to.1)],
        }
    }

    fn node(&self) -> Id {
        match self {
            What::Link { node, .. } | What::Unlink { node, .. } | What::Rename { node, .. } => {
                *node
            }
        }
    }
}

impl Disk {
    pub(super) fn new(seed: u64, halted: Arc<AtomicBool>) -> Disk {
        Disk {
            nodes: BTreeMap::from([(ROOT, Node::Dir(Names::default()))]),
            node_next: ROOT + 1,
            changes: Vec::new(),
            opens: BTreeMap::new(),
            locked: BTreeSet::new(),
            faults: Vec::new(),
            faults_hit: 0,
            capacity: u64::MAX,
            operations: 0,
            write_backs: 0,
            cut_at: None,
            dead: false,
            halted,
            chance: Chance::new(seed),
        }
    }

    /// Moves what is on the disk into the next world; this one is dead from here on.
    pub(super) fn crash(&mut self, loss: Loss, halted: Arc<AtomicBool>) -> Disk {
        let seed = self.chance.bits();
        let mut next = Disk::new(seed, halted);
        next.capacity = self.capacity;
        next.node_next = self.node_next;
        next.nodes = std::mem::take(&mut self.nodes);
        next.changes = std::mem::take(&mut self.changes);
        self.dead = true;
        match loss {
            Loss::Nothing => {}
            Loss::Everything => next.lose(None),
            Loss::Some(seed) => next.lose(Some(Chance::new(seed))),
        }
        next.collect();
        next
    }

    fn lose(&mut self, mut chance: Option<Chance>) {
        for change in std::mem::take(&mut self.changes) {
            if chance.as_mut().is_some_and(|chance| chance.one_in(2)) {
                self.make_durable(&change.what);
            }
        }
        for node in self.nodes.values_mut() {
            match node {
                Node::Dir(names) => names.live = names.durable.clone(),
                Node::File(contents) => {
                    *contents = match &mut chance {
                        None => contents.lose_everything(),
                        Some(chance) => contents.lose_some(chance),
                    };
                }
            }
        }
    }

    pub(super) fn inject(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn faults_hit(&self) -> u64 {
        self.faults_hit
    }

    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    pub(super) fn cut_power_at(&mut self, operation: u64) {
        assert!(operation > self.operations, "that operation has happened already");
        self.cut_at = Some(operation);
    }

    pub(super) fn set_capacity(&mut self, bytes: u64) {
        self.capacity = bytes;
    }

    fn alive(&self) -> Result<()> {
        if self.dead { Err(Error::other("this RAM world has crashed")) } else { Ok(()) }
    }

    /// Counts a change. Once the power is cut, nothing changes any more, and nobody who could
    /// notice is polled again.
    fn count(&mut self) -> Result<()> {
        self.alive()?;
        if self.halted.load(Ordering::Relaxed) {
            return Err(Error::other("the power is cut"));
        }
        if self.cut_at == Some(self.operations + 1) {
            self.halted.store(true, Ordering::Relaxed);
            return Err(Error::other("the power is cut"));
        }
        self.operations += 1;
        Ok(())
    }

    fn fault(&mut self, call: Call) -> Option<Effect> {
        let mut effect = None;
        for fault in self.faults.iter_mut().filter(|fault| fault.call == call) {
            if fault.after > 0 {
                fault.after -= 1;
            } else if effect.is_none() && fault.times > 0 {
                fault.times -= 1;
                effect = Some(fault.effect);
                self.faults_hit += 1;
            }
        }
        self.faults.retain(|fault| fault.times > 0);
        effect
    }

    /// A fault of a call that either happens or does not.
    fn whole(&mut self, call: Call) -> Result<()> {
        match self.fault(call) {
            None | Some(Effect::Short) => Ok(()),
            Some(Effect::Eio) => Err(eio()),
            Some(Effect::Full) => Err(full()),
            Some(Effect::Scarce) => Err(scarce()),
        }
    }

    // Names.

    fn names(&mut self, dir: Id) -> Result<&mut Names> {
        match self.nodes.get_mut(&dir) {
            Some(Node::Dir(names)) => Ok(names),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn find(&mut self, path: &Path) -> Result<Id> {
        let mut at = ROOT;
        for part in path.components() {
            match part {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    let name = name.to_str().ok_or(ErrorKind::InvalidInput)?;
                    at = *self.names(at)?.live.get(name).ok_or(ErrorKind::NotFound)?;
                }
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(ErrorKind::InvalidInput.into());
                }
            }
        }
        Ok(at)
    }

    /// The folder and the name that `path` ends in.
    fn place(&mut self, path: &Path) -> Result<(Id, String)> {
        let name =
            path.file_name().and_then(|name| name.to_str()).ok_or(ErrorKind::InvalidInput)?;
        let dir = self.find(path.parent().ok_or(ErrorKind::InvalidInput)?)?;
        self.names(dir)?;
        Ok((dir, name.to_owned()))
    }

    fn look_up(&mut self, place: &(Id, String)) -> Result<Option<Id>> {
        Ok(self.names(place.0)?.live.get(&place.1).copied())
    }

    fn is_dir(&self, node: Id) -> bool {
        matches!(self.nodes.get(&node), Some(Node::Dir(_)))
    }

    /// Whether `inner` is `dir` or somewhere below it.
    fn holds(&self, dir: Id, inner: Id) -> bool {
        dir == inner
            || matches!(self.nodes.get(&dir), Some(Node::Dir(names))
                if names.live.values().any(|&below| self.holds(below, inner)))
    }

    fn is_empty_dir(&self, node: Id) -> bool {
        matches!(self.nodes.get(&node), Some(Node::Dir(names)) if names.live.is_empty())
    }

    fn create(&mut self, (dir, name): (Id, String), node: Node) -> Result<Id> {
        let id = self.node_next;
        self.node_next += 1;
        self.nodes.insert(id, node);
        self.names(dir)?.live.insert(name.clone(), id);
        let what = What::Link { dir, name, node: id };
        self.changes.push(Change { what, waits: BTreeSet::from([dir]) });
        Ok(id)
    }

    pub(super) fn open(&mut self, path: &Path, how: Open) -> Result<Id> {
        self.alive()?;
        self.whole(Call::Open)?;
        let place = self.place(path)?;
        let id = match (self.look_up(&place)?, how) {
            (Some(_), Open::CreateNew) => return Err(ErrorKind::AlreadyExists.into()),
            (Some(id), _) if self.is_dir(id) => return Err(ErrorKind::IsADirectory.into()),
            (Some(id), _) => id,
            (None, Open::Read | Open::Write) => return Err(ErrorKind::NotFound.into()),
            (None, Open::Create | Open::CreateNew) => {
                self.count()?;
                self.create(place, Node::File(Contents::default()))?
            }
        };
        *self.opens.entry(id).or_default() += 1;
        Ok(id)
    }

    pub(super) fn lock(&mut self, path: &Path) -> Result<Id> {
        let id = self.open(path, Open::Create)?;
        if !self.locked.insert(id) {
            self.release(id, false);
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(id)
    }

    /// The last clone of an open file is gone.
    pub(super) fn release(&mut self, id: Id, locked: bool) {
        if locked {
            self.locked.remove(&id);
        }
        if let Some(count) = self.opens.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.opens.remove(&id);
            }
        }
    }

    pub(super) fn remove(&mut self, path: &Path) -> Result<()> {
        self.count()?;
        self.whole(Call::Remove)?;
        let (dir, name) = self.place(path)?;
        let node = self.look_up(&(dir, name.clone()))?.ok_or(ErrorKind::NotFound)?;
        if self.is_dir(node) && !self.is_empty_dir(node) {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.names(dir)?.live.remove(&name);
        let what = What::Unlink { dir, name, node };
        self.changes.push(Change { what, waits: BTreeSet::from([dir]) });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<()> {
        self.count()?;
        self.whole(Call::Rename)?;
        let from = self.place(from)?;
        let to = self.place(to)?;
        let node = self.look_up(&from)?.ok_or(ErrorKind::NotFound)?;
        if self.holds(node, to.0) {
            return Err(ErrorKind::InvalidInput.into());
        }
        if let Some(old) = self.look_up(&to)? {
            if old == node {
                return Ok(());
            }
            if self.holds(old, from.0) {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            match (self.is_dir(node), self.is_dir(old)) {
                (false, true) => return Err(ErrorKind::IsADirectory.into()),
                (true, false) => return Err(ErrorKind::NotADirectory.into()),
                (true, true) if !self.is_empty_dir(old) => {
                    return Err(ErrorKind::DirectoryNotEmpty.into());
                }
                _ => {}
            }
        }
        self.names(from.0)?.live.remove(&from.1);
        self.names(to.0)?.live.insert(to.1.clone(), node);
        let waits = BTreeSet::from([from.0, to.0]);
        self.changes.push(Change { what: What::Rename { from, to, node }, waits });
        Ok(())
    }

    pub(super) fn list(&mut self, dir: &Path) -> Result<Vec<Entry>> {
        self.alive()?;
        self.whole(Call::List)?;
        let id = self.find(dir)?;
        let names = self.names(id)?.live.clone();
        Ok(names.into_iter().map(|(name, id)| Entry { name, is_dir: self.is_dir(id) }).collect())
    }

    pub(super) fn make_dir(&mut self, dir: &Path) -> Result<()> {
        self.count()?;
        self.whole(Call::MakeDir)?;
        if dir.parent().is_none() {
            // The root itself.
            return Err(ErrorKind::AlreadyExists.into());
        }
        let place = self.place(dir)?;
        if self.look_up(&place)?.is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.create(place, Node::Dir(Names::default()))?;
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> Result<()> {
        self.count()?;
        self.whole(Call::SyncDir)?;
        let id = self.find(dir)?;
        self.names(id)?;
        for change in &mut self.changes {
            change.waits.remove(&id);
        }
        // A change that is durable makes those before it durable that concern the same names.
        let mut keys: BTreeSet<(Id, String)> = BTreeSet::new();
        let mut durable = vec![false; self.changes.len()];
        for (change, durable) in self.changes.iter().zip(&mut durable).rev() {
            let own: Vec<(Id, String)> =
                change.what.keys().into_iter().map(|(id, name)| (id, name.to_owned())).collect();
            *durable = change.waits.is_empty() || own.iter().any(|key| keys.contains(key));
            if *durable {
                keys.extend(own);
            }
        }
        let mut pending = Vec::new();
        for (change, durable) in std::mem::take(&mut self.changes).into_iter().zip(durable) {
            if durable {
                self.make_durable(&change.what);
            } else {
                pending.push(change);
            }
        }
        self.changes = pending;
        self.collect();
        Ok(())
    }

    fn make_durable(&mut self, what: &What) {
        match what {
            What::Link { dir, name, node } => self.durable_link(*dir, name, *node),
            What::Unlink { dir, name, node } => self.durable_unlink(*dir, name, *node),
            What::Rename { from, to, node } => {
                self.durable_unlink(from.0, &from.1, *node);
                self.durable_link(to.0, &to.1, *node);
            }
        }
    }

    fn durable_link(&mut self, dir: Id, name: &str, node: Id) {
        if let Some(Node::Dir(names)) = self.nodes.get_mut(&dir) {
            names.durable.insert(name.to_owned(), node);
        }
    }

    fn durable_unlink(&mut self, dir: Id, name: &str, node: Id) {
        if let Some(Node::Dir(names)) = self.nodes.get_mut(&dir)
            && names.durable.get(name) == Some(&node)
        {
            names.durable.remove(name);
        }
    }

    /// Forgets nodes that no name leads to, now or after any power loss, and nobody has open.
    fn collect(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut todo: Vec<Id> = vec![ROOT];
        todo.extend(self.opens.keys());
        todo.extend(self.changes.iter().map(|change| change.what.node()));
        todo.extend(self.changes.iter().flat_map(|change| change.what.keys()).map(|key| key.0));
        while let Some(id) = todo.pop() {
            reached.insert(id);
            if let Some(Node::Dir(names)) = self.nodes.get(&id) {
                let below = names.live.values().chain(names.durable.values());
                todo.extend(below.filter(|id| !reached.contains(id)));
            }
        }
        self.nodes.retain(|id, _| reached.contains(id));
    }

    // Contents.

    fn contents(&mut self, id: Id) -> Result<&mut Contents> {
        self.alive()?;
        match self.nodes.get_mut(&id) {
            Some(Node::File(contents)) => Ok(contents),
            _ => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn used(&self) -> u64 {
        self.nodes
            .values()
            .map(|node| match node {
                Node::File(contents) => contents.live().len(),
                Node::Dir(_) => 0,
            })
            .sum()
    }

    pub(super) fn space(&mut self, dir: &Path) -> Result<Space> {
        self.alive()?;
        self.whole(Call::Space)?;
        self.find(dir)?;
        self.collect();
        let free = self.capacity.saturating_sub(self.used());
        Ok(Space { total: self.capacity, free })
    }

    /// How far a file that is `len` bytes long may grow.
    fn length_max(&mut self, len: u64) -> u64 {
        if self.capacity == u64::MAX {
            return u64::MAX;
        }
        self.collect();
        len + self.capacity.saturating_sub(self.used())
    }

    pub(super) fn read(&mut self, id: Id, into: &mut [u8], offset: u64) -> Result<usize> {
        self.alive()?;
        let room = match self.fault(Call::Read) {
            Some(Effect::Eio | Effect::Full | Effect::Scarce) => return Err(eio()),
            Some(Effect::Short) if into.len() > 1 => 1 + self.chance.below(into.len() - 1),
            Some(Effect::Short) | None => into.len(),
        };
        Ok(self.contents(id)?.live().read(offset, &mut into[..room]))
    }

    /// Reads for a socket that holds a reference to the file's pages: no faults, and zeros where
    /// the file has become shorter.
    pub(super) fn read_pages(&mut self, id: Id, into: &mut [u8], offset: u64) -> Result<()> {
        into.fill(0);
        self.contents(id)?.live().read(offset, into);
        Ok(())
    }

    pub(super) fn write(&mut self, id: Id, mut bytes: Vec<u8>, offset: u64) -> Result<usize> {
        self.count()?;
        let asked = bytes.len();
        let effect = self.fault(Call::Write);
        let kept = match effect {
            Some(Effect::Short) if asked > 1 => 1 + self.chance.below(asked - 1),
            Some(Effect::Eio | Effect::Full | Effect::Scarce)
                if asked > 1 && self.chance.one_in(2) =>
            {
                self.chance.below(asked)
            }
            Some(Effect::Eio | Effect::Full | Effect::Scarce) => 0,
            Some(Effect::Short) | None => asked,
        };
        let len = self.contents(id)?.live().len();
        let room = self.length_max(len).saturating_sub(offset);
        bytes.truncate(kept.min(usize::try_from(room).unwrap_or(usize::MAX)));
        let written = bytes.len();
        if written > 0 {
            self.contents(id)?.write(offset, bytes);
        }
        match effect {
            Some(Effect::Eio) => Err(eio()),
            Some(Effect::Full) => Err(full()),
            Some(Effect::Scarce) => Err(scarce()),
            None | Some(Effect::Short) if written == 0 && asked > 0 => Err(full()),
            None | Some(Effect::Short) => Ok(written),
        }
    }

    pub(super) fn sync(&mut self, id: Id) -> Result<()> {
        self.count()?;
        if let Err(error) = self.whole(Call::Sync) {
            let mut chance = Chance::new(self.chance.bits());
            self.contents(id)?.fail_sync(&mut chance);
            return Err(error);
        }
        self.contents(id)?.sync();
        Ok(())
    }

    pub(super) fn allocate(&mut self, id: Id, end: u64) -> Result<()> {
        self.count()?;
        self.whole(Call::Allocate)?;
        let len = self.contents(id)?.live().len();
        if end > self.length_max(len) {
            return Err(full());
        }
        if end > len {
            self.contents(id)?.set_length(end);
        }
        Ok(())
    }

    pub(super) fn truncate(&mut self, id: Id, len: u64) -> Result<()> {
        self.count()?;
        self.whole(Call::Truncate)?;
        self.contents(id)?.set_length(len);
        Ok(())
    }

    pub(super) fn tell_length(&mut self, id: Id) -> Result<u64> {
        self.alive()?;
        self.whole(Call::Length)?;
        self.length(id)
    }

    pub(super) fn length(&mut self, id: Id) -> Result<u64> {
        Ok(self.contents(id)?.live().len())
    }

    // A test's view from outside.

    pub(super) fn peek(&mut self, path: &Path) -> Result<Vec<u8>> {
        let id = self.find(path)?;
        let image = self.contents(id)?.live();
        let mut bytes = vec![0; usize::try_from(image.len()).expect("fits in memory")];
        image.read(0, &mut bytes);
        Ok(bytes)
    }

    pub(super) fn poke(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
        let id = self.find(path)?;
        self.contents(id)?.rot(offset, bytes);
        Ok(())
    }
}
