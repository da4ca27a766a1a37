//! What ails a running disk, and the ring in front of it.
//!
//! As with links, a fault adds a [`Trouble`] under its [`Cause`] and takes it away again; what a
//! call meets is everything that ails the disk at that moment. What a trouble really does to a call
//! is counted under its cause.

use std::collections::{BTreeMap, BTreeSet};

use super::Ino;
use crate::cause::{Bites, Cause};
use crate::seed::Stream;

const MILLISECOND: u64 = 1_000_000;
/// What a call takes at most, whatever slows it down together: a disk that needs longer is stalled,
/// and a stall ends when everything heals.
const DELAY_MAX: u64 = 10_000 * MILLISECOND;

/// The sorts of calls that a fault can single out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Call {
    Open,
    /// Remove, rename, make a folder.
    Name,
    Read,
    Write,
    Sync,
    SyncDir,
    Allocate,
    Truncate,
    /// List a folder, ask how long a file is.
    Look,
    /// Ask how much room there is.
    Space,
}

/// One thing that ails a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The next so many calls of a sort fail with an I/O error: a write perhaps after a part of it,
    /// a flush after it has marked clean what was dirty.
    Fails(Call, u32),
    /// There is room for so many more bytes.
    Full(u64),
    /// There is no room at all, nor where files have some already: a file system that writes nothing
    /// in place (btrfs, ZFS) needs new room for every write.
    Crammed,
    /// Room cannot be reserved on this file system.
    NoAllocation,
    /// No file can be opened: there are as many descriptors as there may be.
    NoDescriptors,
    /// So many of 1,000 reads and writes are cut short.
    Short(u64),
    /// So many of 1,000 reads and writes are interrupted before they did anything.
    Interrupted(u64),
    /// Every call takes so many times as long.
    Slow(u64),
    /// Nothing ends before the trouble does.
    Stalled,
    /// So many of 1,000 calls take up to a second longer.
    Spikes(u64),
    /// Calls that are under way together end in any order.
    Disorder,
    /// The ring takes so many calls at a time; those that find it full wait for room.
    QueueFull(usize),
    /// The next so many reads that may be misled return what lies elsewhere in the file. May be:
    /// below the positions named here, and in files of which nothing is believed unchecked.
    Misread(u32, BTreeMap<Ino, u64>),
    /// The next so many writes that may be lost report success and never reach the disk.
    Phantom(u32),
    /// The next write that may be lost goes to this sector of another file instead.
    Misdirected(Ino, u64),
}

/// Everything that ails one disk.
#[derive(Debug, Default)]
pub struct Troubles {
    active: Vec<(Cause, Trouble)>,
    /// Absolute limits of the disks that are full, by cause.
    limits: BTreeMap<Cause, u64>,
    /// Those of them on which nothing is written in place.
    crammed: BTreeSet<Cause>,
    /// When each stall ends.
    stalls: BTreeMap<Cause, u64>,
    /// What each cause has done.
    pub bites: Bites,
}

/// What a lost write does instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// Nothing.
    Nowhere,
    /// It hits this sector of this file.
    Sector(Ino, u64),
}

impl Troubles {
    /// Adds a trouble. `used` is how many bytes are taken now, `until` when it is to end.
    pub fn add(&mut self, cause: Cause, trouble: Trouble, used: u64, until: u64) {
        match &trouble {
            Trouble::Full(room) => drop(self.limits.insert(cause, used + room)),
            Trouble::Crammed => {
                self.limits.insert(cause, used);
                self.crammed.insert(cause);
            }
            Trouble::Stalled => drop(self.stalls.insert(cause, until)),
            _ => self.active.push((cause, trouble)),
        }
    }

    /// Ends what `cause` has brought.
    pub fn lift(&mut self, cause: Cause) {
        self.limits.remove(&cause);
        self.crammed.remove(&cause);
        self.stalls.remove(&cause);
        self.active.retain(|(other, _)| *other != cause);
    }

    /// Ends everything.
    pub fn lift_all(&mut self) {
        self.limits.clear();
        self.crammed.clear();
        self.stalls.clear();
        self.active.clear();
    }

    /// How many bytes fit on a disk of `capacity` now.
    #[must_use]
    pub fn capacity(&self, capacity: u64) -> u64 {
        self.limits.values().copied().fold(capacity, u64::min)
    }

    /// Whether there is no room for writes in place either.
    #[must_use]
    pub fn is_crammed(&self) -> bool {
        !self.crammed.is_empty()
    }

    /// There was no room; it counts for whoever took it away.
    pub fn found_full(&mut self) {
        for cause in self.limits.keys() {
            self.bites.count(*cause);
        }
    }

    /// Whether the next call of this sort fails.
    pub fn fails(&mut self, call: Call) -> bool {
        self.strikes(|trouble| match trouble {
            Trouble::Fails(other, left) if *other == call && *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        })
    }

    /// Whether there is no descriptor for another open file.
    pub fn lacks_descriptors(&mut self) -> bool {
        self.strikes(|trouble| matches!(trouble, Trouble::NoDescriptors))
    }

    /// Whether room cannot be reserved.
    pub fn refuses_allocation(&mut self) -> bool {
        self.strikes(|trouble| matches!(trouble, Trouble::NoAllocation))
    }

    /// How many of `count` bytes a read or a write moves, at least one.
    pub fn shorten(&mut self, count: usize, random: &mut Stream) -> usize {
        let short = count > 1
            && self.strikes(|trouble| {
                matches!(trouble, Trouble::Short(per_mille) if random.chance(*per_mille, 1000))
            });
        if short { 1 + random.below(count as u64 - 1) as usize } else { count }
    }

    /// Whether a read or a write is interrupted.
    pub fn interrupts(&mut self, random: &mut Stream) -> bool {
        self.strikes(|trouble| {
            matches!(trouble, Trouble::Interrupted(per_mille) if random.chance(*per_mille, 1000))
        })
    }

    /// Whether a read at `offset` of a file is misled. `free` says that nothing is believed of the
    /// file without a check.
    pub fn misleads(&mut self, ino: Ino, offset: u64, len: usize, free: bool) -> bool {
        self.strikes(|trouble| match trouble {
            Trouble::Misread(left, safe) if *left > 0 => {
                let below = safe.get(&ino).is_some_and(|safe| offset + len as u64 <= *safe);
                let strikes = free || below;
                *left -= u32::from(strikes);
                strikes
            }
            _ => false,
        })
    }

    /// Whether any read may be misled now.
    #[must_use]
    pub fn mislead(&self) -> bool {
        self.active.iter().any(|(_, trouble)| matches!(trouble, Trouble::Misread(1.., _)))
    }

    /// Whether any write may be lost now.
    #[must_use]
    pub fn lose_writes(&self) -> bool {
        let loses =
            |trouble: &Trouble| matches!(trouble, Trouble::Phantom(1..) | Trouble::Misdirected(..));
        self.active.iter().any(|(_, trouble)| loses(trouble))
    }

    /// Where a write to a file that may lose it goes instead, if it does.
    pub fn loses(&mut self) -> Option<Stray> {
        let mut stray = None;
        for (cause, trouble) in &mut self.active {
            match trouble {
                Trouble::Phantom(left) if *left > 0 => {
                    *left -= 1;
                    stray = Some((*cause, Stray::Nowhere));
                }
                Trouble::Misdirected(ino, sector) => {
                    stray = Some((*cause, Stray::Sector(*ino, *sector)));
                }
                _ => continue,
            }
            break;
        }
        if let Some((cause, to)) = stray {
            self.bites.count(cause);
            if to != Stray::Nowhere {
                self.lift(cause);
            }
        }
        stray.map(|(_, to)| to)
    }

    /// When a call ends that is made at `now` and would take `delay` on a healthy disk; `ends` is
    /// when each of those before it ends.
    pub fn ends_at(
        &mut self,
        now: u64,
        mut delay: u64,
        ends: impl Iterator<Item = u64> + Clone,
        random: &mut Stream,
    ) -> u64 {
        if self.active.is_empty() && self.stalls.is_empty() {
            return now + delay;
        }
        let mut start = now;
        let bites = &mut self.bites;
        for (cause, trouble) in &self.active {
            match trouble {
                Trouble::Slow(factor) => delay = delay.saturating_mul(*factor),
                Trouble::Spikes(per_mille) if random.chance(*per_mille, 1000) => {
                    delay += (1 + random.below(8 * MILLISECOND)) << random.below(8);
                }
                Trouble::Disorder => {
                    delay *= random.within(1..60);
                    if ends.clone().all(|end| end <= now + delay) {
                        continue;
                    }
                }
                Trouble::QueueFull(depth) => {
                    let mut under_way: Vec<u64> = ends.clone().filter(|end| *end > now).collect();
                    if under_way.len() < *depth {
                        continue;
                    }
                    under_way.sort_unstable();
                    start = start.max(under_way[under_way.len() - depth]);
                }
                _ => continue,
            }
            bites.count(*cause);
        }
        let mut end = start + delay.min(DELAY_MAX);
        for (cause, until) in &self.stalls {
            if end < *until {
                end = *until;
                bites.count(*cause);
            }
        }
        end
    }

    /// Counts one for the first trouble that strikes, if any does.
    fn strikes(&mut self, mut strikes: impl FnMut(&mut Trouble) -> bool) -> bool {
        for (cause, trouble) in &mut self.active {
            if strikes(trouble) {
                self.bites.count(*cause);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn troubles(active: &[Trouble]) -> Troubles {
        let mut troubles = Troubles::default();
        for (number, trouble) in active.iter().enumerate() {
            troubles.add(Cause(number as u64), trouble.clone(), 1000, 900 * MILLISECOND);
        }
        troubles
    }

    fn end(troubles: &mut Troubles, ends: &[u64], random: &mut Stream) -> u64 {
        troubles.ends_at(100, 10, ends.iter().copied(), random)
    }

    #[test]
    fn the_fullest_limit_holds_and_each_ends_for_itself() {
        let mut troubles = troubles(&[Trouble::Full(500), Trouble::Full(20)]);
        assert_eq!(troubles.capacity(10_000), 1020);
        troubles.lift(Cause(1));
        assert_eq!(troubles.capacity(10_000), 1500);
        troubles.found_full();
        assert_eq!((troubles.bites.of(Cause(0)), troubles.bites.of(Cause(1))), (1, 0));
        assert!(!troubles.is_crammed());
        troubles.add(Cause(2), Trouble::Crammed, 1200, 0);
        assert_eq!((troubles.capacity(10_000), troubles.is_crammed()), (1200, true));
        troubles.lift(Cause(2));
        assert_eq!((troubles.capacity(10_000), troubles.is_crammed()), (1500, false));
        troubles.lift_all();
        assert_eq!(troubles.capacity(10_000), 10_000);
    }

    #[test]
    fn only_calls_of_their_sort_fail_and_only_so_often() {
        let mut troubles =
            troubles(&[Trouble::Fails(Call::Sync, 2), Trouble::Fails(Call::Sync, 1)]);
        assert!(!troubles.fails(Call::SyncDir));
        let failed: Vec<bool> = (0..4).map(|_| troubles.fails(Call::Sync)).collect();
        assert_eq!(failed, [true, true, true, false]);
        assert_eq!((troubles.bites.of(Cause(0)), troubles.bites.of(Cause(1))), (2, 1));
    }

    #[test]
    fn slowness_multiplies_a_stall_ends_with_its_fault_and_a_full_ring_makes_wait() {
        let mut random = Stream::new(3);
        let random = &mut random;
        assert_eq!(end(&mut troubles(&[]), &[500], random), 110);
        let mut slow = troubles(&[Trouble::Slow(5), Trouble::Slow(3)]);
        assert_eq!(end(&mut slow, &[], random), 250);
        let mut slow = troubles(&vec![Trouble::Slow(300); 9]);
        assert_eq!(end(&mut slow, &[], random), 100 + DELAY_MAX);
        let mut stalled = troubles(&[Trouble::Stalled]);
        assert_eq!(end(&mut stalled, &[], random), 900 * MILLISECOND);
        stalled.lift(Cause(0));
        assert_eq!(end(&mut stalled, &[], random), 110);
        let mut full = troubles(&[Trouble::QueueFull(2)]);
        assert_eq!(end(&mut full, &[50, 300], random), 110, "one place is free");
        assert_eq!(end(&mut full, &[400, 300, 200], random), 310, "the second to end makes room");
        assert_eq!(full.bites.of(Cause(0)), 1);
    }

    #[test]
    fn disorder_lets_later_calls_overtake_earlier_ones() {
        let mut random = Stream::new(3);
        let mut troubles = troubles(&[Trouble::Disorder]);
        let ends: Vec<u64> = (0..200).map(|_| end(&mut troubles, &[400], &mut random)).collect();
        let overtaking = ends.iter().filter(|end| **end < 400).count() as u64;
        assert!((50..150).contains(&overtaking), "{overtaking}");
        assert_eq!(troubles.bites.of(Cause(0)), overtaking);
    }

    #[test]
    fn spikes_are_rare_and_long() {
        let mut random = Stream::new(3);
        let mut troubles = troubles(&[Trouble::Spikes(100)]);
        let ends: Vec<u64> = (0..1000).map(|_| end(&mut troubles, &[], &mut random)).collect();
        let late = ends.iter().filter(|end| **end > MILLISECOND).count();
        let very = ends.iter().filter(|end| **end > 200 * MILLISECOND).count();
        assert!((60..140).contains(&late) && very > 3, "{late} {very}");
    }

    #[test]
    fn reads_are_misled_where_that_is_noticed_and_nowhere_else() {
        let safe = BTreeMap::from([(7, 1000)]);
        let mut troubles = troubles(&[Trouble::Misread(2, safe)]);
        assert!(!troubles.misleads(7, 900, 101, false), "reaches above what is safe");
        assert!(!troubles.misleads(8, 0, 1, false));
        assert!(troubles.misleads(8, 0, 1, true));
        assert!(troubles.misleads(7, 900, 100, false));
        assert!(!troubles.misleads(7, 900, 100, false), "twice it was to be");
    }

    #[test]
    fn a_stray_write_goes_to_one_place_once() {
        let mut troubles = troubles(&[Trouble::Misdirected(4, 9), Trouble::Phantom(1)]);
        assert!(troubles.lose_writes());
        assert_eq!(troubles.loses(), Some(Stray::Sector(4, 9)));
        assert_eq!(troubles.loses(), Some(Stray::Nowhere));
        assert_eq!(troubles.loses(), None);
        assert!(!troubles.lose_writes());
        assert_eq!((troubles.bites.of(Cause(0)), troubles.bites.of(Cause(1))), (1, 1));
    }
}
