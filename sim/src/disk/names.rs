//! The names of one simulated file system: folders whose entries have a durability of their own.
//!
//! Every change of a name (create, remove, rename) is seen at once and is durable after a sync of
//! its folder. Until then a power cut keeps it or not, each for itself, or, as a journal would, all
//! up to some point. Changes that touch the same name keep their order, and a rename is never
//! half done.
//!
//! It knows nothing of contents: an [`Ino`] is a number to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::seed::Stream;

/// The number of a file or folder. Folder 0 is the root.
pub type Ino = u64;

type Folder = BTreeMap<String, Ino>;

/// All folders, as they are and as a power cut at its worst would leave them.
#[derive(Debug)]
pub struct Names {
    live: BTreeMap<Ino, Folder>,
    durable: BTreeMap<Ino, Folder>,
    pending: Vec<Change>,
    numbered: u64,
}

/// The place of one name.
type Slot = (Ino, String);

#[derive(Clone, Debug)]
struct Change {
    number: u64,
    /// The name that goes, if one does.
    from: Option<Slot>,
    /// The name that comes, and what it means, if one does.
    to: Option<(Slot, Ino)>,
}

impl Change {
    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.from.iter().chain(self.to.as_ref().map(|(slot, _)| slot))
    }

    fn apply(&self, folders: &mut BTreeMap<Ino, Folder>) {
        if let Some((folder, name)) = &self.from {
            folders.entry(*folder).or_default().remove(name);
        }
        if let Some(((folder, name), ino)) = &self.to {
            folders.entry(*folder).or_default().insert(name.clone(), *ino);
        }
    }
}

/// Changes of names that a power cut took back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostNames {
    /// Files and folders that have no name again.
    pub creations: u64,
    /// Names that are the old ones again.
    pub renames: u64,
    /// Names that are back.
    pub removals: u64,
}

/// The changes that a sync of a folder will make durable.
#[derive(Debug)]
pub struct FolderSync {
    numbers: BTreeSet<u64>,
}

impl Default for Names {
    fn default() -> Self {
        Names {
            live: BTreeMap::from([(0, Folder::new())]),
            durable: BTreeMap::from([(0, Folder::new())]),
            pending: Vec::new(),
            numbered: 0,
        }
    }
}

impl Names {
    /// What `name` means in `folder`.
    #[must_use]
    pub fn get(&self, folder: Ino, name: &str) -> Option<Ino> {
        self.live.get(&folder)?.get(name).copied()
    }

    /// Whether a name and what it means survive every power cut, provided that its folder does.
    #[must_use]
    pub fn is_durable(&self, folder: Ino, name: &str, ino: Ino) -> bool {
        self.durable.get(&folder).and_then(|names| names.get(name)) == Some(&ino)
    }

    /// The names in a folder, sorted; none if it is no folder.
    #[must_use]
    pub fn folder(&self, folder: Ino) -> Option<&BTreeMap<String, Ino>> {
        self.live.get(&folder)
    }

    /// Gives `ino` a name.
    pub fn link(&mut self, folder: Ino, name: &str, ino: Ino) {
        self.change(None, Some(((folder, name.to_owned()), ino)));
    }

    /// Makes `ino` an empty folder and gives it a name.
    pub fn make_folder(&mut self, folder: Ino, name: &str, ino: Ino) {
        self.live.insert(ino, Folder::new());
        self.link(folder, name, ino);
    }

    /// Takes a name away.
    pub fn unlink(&mut self, folder: Ino, name: &str) {
        self.change(Some((folder, name.to_owned())), None);
    }

    /// Moves a name, replacing what the new one meant.
    pub fn rename(&mut self, from: (Ino, &str), to: (Ino, &str)) {
        let ino = self.get(from.0, from.1).expect("the caller found it");
        let to = (to.0, to.1.to_owned());
        self.change(Some((from.0, from.1.to_owned())), Some((to, ino)));
    }

    /// Begins to make all changes of names in `folder` durable.
    #[must_use]
    pub fn sync_begin(&self, folder: Ino) -> FolderSync {
        let touching = self.pending.iter().filter(|c| c.slots().any(|slot| slot.0 == folder));
        FolderSync { numbers: touching.map(|change| change.number).collect() }
    }

    /// Those changes are durable.
    pub fn sync_end(&mut self, sync: FolderSync) {
        self.harden(sync.numbers);
    }

    /// What a name meant at the last moment that is certain to survive.
    #[must_use]
    pub fn durable(&self, folder: Ino, name: &str) -> Option<Ino> {
        self.durable.get(&folder)?.get(name).copied()
    }

    /// The name of a file or folder now; the first one, if it has several.
    #[must_use]
    pub fn name_of(&self, ino: Ino) -> Option<&str> {
        let names = self.live.values().flatten();
        names.filter(|(_, named)| **named == ino).map(|(name, _)| name.as_str()).next()
    }

    /// The way to a file or folder from the root; the first one, if there are several.
    #[must_use]
    pub fn way_to(&self, ino: Ino) -> Option<PathBuf> {
        let (mut way, mut at) = (Vec::new(), ino);
        while at != 0 {
            let mut all = self.live.iter().flat_map(|(folder, names)| {
                names.iter().map(|(name, named)| (*folder, name, *named))
            });
            let (folder, name, _) = all.find(|(_, _, named)| *named == at)?;
            way.push(name);
            at = folder;
        }
        Some(way.iter().rev().fold(PathBuf::from("/"), |way, name| way.join(name)))
    }

    /// Every folder now, with its number.
    pub fn folders(&self) -> impl Iterator<Item = (Ino, &BTreeMap<String, Ino>)> {
        self.live.iter().map(|(&ino, names)| (ino, names))
    }

    /// The power fails: some of the pending changes were durable, the rest never happened; none
    /// were if the cut is to take `all`. Returns what was lost.
    pub fn power_loss(&mut self, all: bool, random: &mut Stream) -> LostNames {
        let total = self.pending.len() as u64;
        let numbers = if all {
            BTreeSet::new()
        } else if random.chance(1, 2) {
            let kept = random.below(total + 1) as usize;
            self.pending[..kept].iter().map(|change| change.number).collect()
        } else {
            let odds = random.below(5);
            let kept = self.pending.iter().filter(|_| random.chance(odds, 4));
            kept.map(|change| change.number).collect()
        };
        self.harden(numbers);
        let mut lost = LostNames::default();
        for change in std::mem::take(&mut self.pending) {
            match (change.from, change.to) {
                (Some(_), Some(_)) => lost.renames += 1,
                (Some(_), None) => lost.removals += 1,
                (None, _) => lost.creations += 1,
            }
        }
        self.live = self.durable.clone();
        lost
    }

    /// Every number that a name means now.
    pub fn live(&self) -> impl Iterator<Item = Ino> {
        self.live.values().flat_map(|folder| folder.values().copied())
    }

    /// Every number that a name means, or could mean again after a power cut.
    #[must_use]
    pub fn reachable(&self) -> BTreeSet<Ino> {
        let named = self.live.values().chain(self.durable.values()).flat_map(BTreeMap::values);
        let pending = self.pending.iter().filter_map(|c| c.to.as_ref().map(|(_, ino)| ino));
        named.chain(pending).copied().collect()
    }

    /// Forgets folders that no name leads to. Called after a power loss.
    pub fn forget(&mut self, ino: Ino) {
        assert_ne!(ino, 0, "the root stays");
        self.live.remove(&ino);
        self.durable.remove(&ino);
    }

    fn change(&mut self, from: Option<Slot>, to: Option<(Slot, Ino)>) {
        self.numbered += 1;
        let change = Change { number: self.numbered, from, to };
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    /// Makes these changes durable, and with each one every earlier one of the same names.
    fn harden(&mut self, mut numbers: BTreeSet<u64>) {
        let mut slots: BTreeSet<&Slot> = BTreeSet::new();
        for change in self.pending.iter().rev() {
            if numbers.contains(&change.number) || change.slots().any(|slot| slots.contains(slot)) {
                numbers.insert(change.number);
                slots.extend(change.slots());
            }
        }
        let (hardened, pending) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|change| numbers.contains(&change.number));
        self.pending = pending;
        for change in hardened {
            change.apply(&mut self.durable);
            if let Some((_, ino)) = &change.to
                && self.live.contains_key(ino)
            {
                self.durable.entry(*ino).or_default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn durable_after(random: u64, prepare: impl Fn(&mut Names)) -> Vec<(String, Ino)> {
        let mut names = Names::default();
        prepare(&mut names);
        names.power_loss(false, &mut Stream::new(random));
        let folder = names.folder(0).expect("the root");
        folder.iter().map(|(name, ino)| (name.clone(), *ino)).collect()
    }

    #[test]
    fn an_unsynced_name_may_be_lost_and_a_synced_one_not() {
        let mut seen = BTreeSet::new();
        for seed in 0..60 {
            seen.insert(durable_after(seed, |names| {
                names.link(0, "synced", 1);
                let sync = names.sync_begin(0);
                names.link(0, "late", 2);
                names.sync_end(sync);
            }));
        }
        let synced = ("synced".to_owned(), 1);
        let late = ("late".to_owned(), 2);
        assert_eq!(seen, BTreeSet::from([vec![synced.clone()], vec![late, synced]]));
    }

    /// The usual way to replace a file: after any crash there is the old one or the new one.
    #[test]
    fn a_rename_is_old_or_new() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let names = durable_after(seed, |names| {
                names.link(0, "file", 1);
                let sync = names.sync_begin(0);
                names.sync_end(sync);
                names.link(0, "new", 2);
                names.rename((0, "new"), (0, "file"));
            });
            assert!(names.iter().any(|(name, _)| name == "file"), "{names:?}");
            seen.insert(names);
        }
        assert_eq!(seen.len(), 3, "{seen:?}");
    }

    #[test]
    fn a_cut_that_takes_all_names_says_which() {
        let mut names = Names::default();
        names.link(0, "kept", 1);
        names.link(0, "moved", 2);
        let sync = names.sync_begin(0);
        names.sync_end(sync);
        names.link(0, "new", 3);
        names.rename((0, "moved"), (0, "elsewhere"));
        names.unlink(0, "kept");
        assert_eq!(names.durable(0, "elsewhere"), None);
        let lost = names.power_loss(true, &mut Stream::new(1));
        assert_eq!(lost, LostNames { creations: 1, renames: 1, removals: 1 });
        assert_eq!(
            names.folder(0).expect("the root").keys().collect::<Vec<_>>(),
            ["kept", "moved"]
        );
        assert_eq!(names.name_of(2), Some("moved"));
    }

    #[test]
    fn syncing_the_target_folder_of_a_move_settles_the_source_too() {
        let mut names = Names::default();
        names.make_folder(0, "a", 1);
        names.make_folder(0, "b", 2);
        names.link(1, "x", 3);
        let sync = names.sync_begin(0);
        names.sync_end(sync);
        names.rename((1, "x"), (2, "y"));
        let sync = names.sync_begin(2);
        names.sync_end(sync);
        names.power_loss(false, &mut Stream::new(1));
        assert_eq!(names.get(1, "x"), None);
        assert_eq!(names.get(2, "y"), Some(3));
        assert_eq!(names.way_to(3).as_deref(), Some(Path::new("/b/y")));
        names.unlink(2, "y");
        assert_eq!(names.way_to(3), None);
    }
}
