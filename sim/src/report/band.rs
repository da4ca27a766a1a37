//! When each fault was at work: from the first thing that it touched until it ended.
//!
//! The plan says what was to come and for how long; the tape says what came of it. A fault may touch
//! nothing at all (a cut that no packet met), touch something late (a trap that waits for its call),
//! or be through with what it can do long before it is lifted. When everything heals, what is still
//! at work ends, but for clocks, which nobody sets right, and for what is lost for good.

use std::collections::{BTreeMap, BTreeSet};

use crate::cause::{Cause, Turn};
use crate::clock::Mischief;
use crate::disk::Trouble;
use crate::fault::Fault;
use crate::tape::{Entry, What};
use crate::trace::Event;

/// One fault on the time line, in simulated nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// When it first touched something; when it came, if it never did.
    pub from: u64,
    /// When it ended; until then it was at work, or lay in wait for something to touch.
    pub to: u64,
    /// Whether it touched anything.
    pub struck: bool,
}

/// What ends a fault, beside being lifted and the healing of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    /// Nothing.
    Lifted,
    /// It is over as soon as it has touched what it touches.
    Moment,
    /// It can touch so many things and no more.
    Times(u32),
    /// What it did stays when it is lifted, until it is mended.
    Damage,
    /// Healing does not end it.
    Stays,
}

/// What one cause has done.
#[derive(Clone, Copy, Debug, Default)]
struct Deed {
    came: u64,
    /// First and last thing that it touched.
    struck: Option<(u64, u64)>,
    times: u32,
    ended: Option<u64>,
}

/// The bands of `faults`, those that came in their order; none for one that had not come when the run
/// ended, at `end`.
pub fn bands(faults: &[&Fault], tape: &[Entry], end: u64) -> Vec<Option<Band>> {
    let mut walk = Walk { faults, ..Walk::default() };
    tape.iter().take_while(|entry| entry.at <= end).for_each(|entry| walk.entry(entry));
    let healed = walk.healed.unwrap_or(end);
    let band = |place: usize| {
        let deeds = walk.deeds.values().filter(|(of, _)| *of == place).map(|(_, deed)| deed);
        let deeds: Vec<&Deed> = deeds.collect();
        let stay = stay(faults[place]);
        let from = deeds.iter().filter_map(|deed| Some(deed.struck?.0)).min();
        let over = deeds.iter().filter_map(|deed| deed.over(stay, healed, end)).max();
        if let (Some(from), Some(to)) = (from, over) {
            return Some(Band { from, to: to.max(from), struck: true });
        }
        let came = deeds.iter().map(|deed| deed.came).min()?;
        let lifted = deeds.iter().filter_map(|deed| deed.ended).max();
        let last = if stay == Stay::Stays { end } else { healed };
        let to = if waits(faults[place]) { lifted.unwrap_or(last).max(came) } else { came };
        Some(Band { from: came, to, struck: false })
    };
    (0..faults.len()).map(band).collect()
}

impl Deed {
    /// When it was over, if it ever touched anything.
    fn over(&self, stay: Stay, healed: u64, end: u64) -> Option<u64> {
        let (_, last) = self.struck?;
        Some(match stay {
            Stay::Moment => last,
            Stay::Times(most) if self.times >= most => last,
            Stay::Times(_) | Stay::Lifted => self.ended.unwrap_or(healed),
            Stay::Damage => healed,
            Stay::Stays => self.ended.unwrap_or(end),
        })
    }
}

/// What is known at one place of the tape.
#[derive(Default)]
struct Walk<'a> {
    faults: &'a [&'a Fault],
    /// Of each cause, the place of its fault.
    deeds: BTreeMap<Cause, (usize, Deed)>,
    healed: Option<u64>,
    /// Machines without power.
    off: BTreeSet<usize>,
}

impl Walk<'_> {
    fn entry(&mut self, entry: &Entry) {
        match &entry.what {
            What::Fault { cause, turn: Turn::Comes(place) } => {
                let deed = Deed { came: entry.at, ..Deed::default() };
                self.deeds.insert(*cause, (*place, deed));
            }
            What::Fault { cause, turn: Turn::Strikes } => self.strikes(*cause, entry.at),
            What::Fault { cause, turn: Turn::Ends } => {
                if let Some((_, deed)) = self.deeds.get_mut(cause) {
                    deed.ended = Some(entry.at);
                }
            }
            What::Event { event: Event::Heal, .. } => self.healed = Some(entry.at),
            What::Event { event: Event::DiskCrash, facts, .. } => {
                self.off.extend(facts.first().map(|&machine| machine as usize));
            }
            What::Event { event: Event::Boot, facts, .. } => {
                if let Some(&machine) = facts.first()
                    && self.off.remove(&(machine as usize))
                {
                    self.boots(machine as usize, entry.at);
                }
            }
            _ => {}
        }
    }

    fn strikes(&mut self, cause: Cause, at: u64) {
        let Some((place, deed)) = self.deeds.get_mut(&cause) else { return };
        let first = deed.struck.map_or(at, |(first, _)| first);
        deed.struck = Some((first, at));
        deed.times += 1;
        deed.ended = None;
        // A rate holds until another one is set.
        let fault = self.faults.get(*place).copied();
        if let Some(Fault::Clock { machine, mischief }) = fault
            && matches!(mischief, Mischief::Drift(_) | Mischief::Slew(_))
        {
            for (other, (place, deed)) in &mut self.deeds {
                let sets = |it: &Fault| match it {
                    Fault::Clock { machine: its, mischief: what } => {
                        its == machine
                            && std::mem::discriminant(what) == std::mem::discriminant(mischief)
                    }
                    _ => false,
                };
                if *other != cause && self.faults.get(*place).is_some_and(|it| sets(it)) {
                    deed.ended.get_or_insert(at);
                }
            }
        }
    }

    /// A machine that had no power boots: it is now that a dead battery shows.
    fn boots(&mut self, machine: usize, at: u64) {
        let dead = Fault::Clock { machine, mischief: Mischief::DeadBattery };
        let shows = |(cause, (place, deed)): (&Cause, &(usize, Deed))| {
            let is_dead = self.faults.get(*place).is_some_and(|fault| **fault == dead);
            (is_dead && deed.struck.is_none()).then_some(*cause)
        };
        let shown: Vec<Cause> = self.deeds.iter().filter_map(shows).collect();
        shown.into_iter().for_each(|cause| self.strikes(cause, at));
    }
}

fn stay(fault: &Fault) -> Stay {
    match fault {
        Fault::Connections { .. } => Stay::Moment,
        Fault::Clock { mischief, .. } => match mischief {
            Mischief::Jump(_) | Mischief::Leap(_) | Mischief::DeadBattery => Stay::Moment,
            Mischief::Drift(_) | Mischief::Slew(_) => Stay::Stays,
        },
        Fault::ClockStrobe { .. } => Stay::Stays,
        Fault::LittleMemory { .. }
        | Fault::Gone { .. }
        | Fault::CutOff { .. }
        | Fault::Stuck { .. } => Stay::Stays,
        Fault::Rot { .. } | Fault::Misdirected { .. } => Stay::Damage,
        Fault::Disk { trouble: Trouble::Phantom(_), .. } => Stay::Damage,
        Fault::Disk { trouble: Trouble::Fails(_, times), .. } => Stay::Times(*times),
        Fault::Misread { times, .. } => Stay::Times(*times),
        _ => Stay::Lifted,
    }
}

/// Whether a fault lies in wait for something to touch, rather than being in vain at once.
fn waits(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Trap { .. }
            | Fault::Disk { .. }
            | Fault::Rot { .. }
            | Fault::Misread { .. }
            | Fault::Misdirected { .. }
            | Fault::Links { .. }
            | Fault::Swizzle { .. }
            | Fault::Flapping { .. }
            | Fault::HiddenDeath { .. }
            | Fault::LittleMemory { .. }
            | Fault::CutOff { .. }
            | Fault::Stuck { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::atlas::Rot;
    use crate::disk::Call;
    use crate::machine::Crash;
    use crate::net::link::Hindrance;

    const LASTING: Duration = Duration::from_secs(1);

    fn links() -> Fault {
        let between = vec![(0, 1)];
        Fault::Links { between, hindrance: Hindrance::Cut, lasting: LASTING }
    }

    fn turn(at: u64, cause: u64, turn: Turn) -> Entry {
        Entry { at, what: What::Fault { cause: Cause(cause), turn } }
    }

    /// One fault that comes at 10 under cause 0, and what then happens to it; it heals at 100 and
    /// ends at 200.
    fn alone(fault: &Fault, turns: &[(u64, Turn)]) -> (u64, u64, bool) {
        let mut tape = vec![turn(10, 0, Turn::Comes(0))];
        tape.extend(turns.iter().map(|&(at, what)| turn(at, 0, what)));
        tape.push(Entry::event(100, Event::Heal, &[], None));
        tape.sort_by_key(|entry| entry.at);
        let band = bands(&[fault], &tape, 200)[0].expect("it came");
        (band.from, band.to, band.struck)
    }

    #[test]
    fn a_fault_is_at_work_from_what_it_first_touched_until_it_is_lifted_or_everything_heals() {
        use Turn::{Ends, Strikes};
        assert_eq!(alone(&links(), &[(30, Strikes), (40, Strikes), (60, Ends)]), (30, 60, true));
        assert_eq!(alone(&links(), &[(30, Strikes)]), (30, 100, true));
        // What crashes again and again is at work until the last start.
        let (crash, times) = (Crash::Kill, 2);
        let crashes = Fault::CrashLoop { machine: 0, crash, times, pause: LASTING };
        let turns = [(20, Strikes), (30, Ends), (50, Strikes), (70, Ends)];
        assert_eq!(alone(&crashes, &turns), (20, 70, true));
        assert_eq!(alone(&crashes, &turns[..3]), (20, 100, true));
    }

    #[test]
    fn a_fault_that_touches_nothing_is_told_apart() {
        assert_eq!(alone(&links(), &[(60, Turn::Ends)]), (10, 60, false));
        assert_eq!(alone(&links(), &[]), (10, 100, false));
        // There was no process to stop.
        let pause = Fault::Pause { machine: 0, lasting: LASTING };
        assert_eq!(alone(&pause, &[]), (10, 10, false));
        // The run ended before it came.
        assert_eq!(bands(&[&links()], &[], 200), [None]);
        let late = [turn(300, 0, Turn::Comes(0))];
        assert_eq!(bands(&[&links()], &late, 200), [None]);
    }

    #[test]
    fn what_is_used_up_ends_before_it_is_lifted_and_damage_stays_until_it_is_mended() {
        use Turn::{Ends, Strikes};
        let disk = |trouble| Fault::Disk { machine: 0, trouble, lasting: LASTING };
        let fails = disk(Trouble::Fails(Call::Sync, 2));
        assert_eq!(alone(&fails, &[(20, Strikes), (30, Strikes), (60, Ends)]), (20, 30, true));
        assert_eq!(alone(&fails, &[(20, Strikes), (60, Ends)]), (20, 60, true));
        let phantom = disk(Trouble::Phantom(1));
        assert_eq!(alone(&phantom, &[(20, Strikes), (60, Ends)]), (20, 100, true));
        let rot = Fault::Rot { machine: 0, rot: Rot::Bits, draw: 1 };
        assert_eq!(alone(&rot, &[(20, Strikes)]), (20, 100, true));
    }

    #[test]
    fn clocks_do_not_heal_and_a_dead_battery_shows_at_the_next_boot_with_power() {
        use Turn::{Comes, Strikes};
        let clock = |mischief| Fault::Clock { machine: 0, mischief };
        assert_eq!(alone(&clock(Mischief::Jump(5)), &[(10, Strikes)]), (10, 10, true));
        assert_eq!(alone(&clock(Mischief::Drift(5)), &[(10, Strikes)]), (10, 200, true));
        let (one, other) = (clock(Mischief::Drift(5)), clock(Mischief::Drift(6)));
        let set = [Comes(0), Strikes, Comes(1), Strikes];
        let tape = [10, 10, 50, 50].into_iter().zip([0, 0, 1, 1]).zip(set);
        let tape: Vec<Entry> = tape.map(|((at, cause), what)| turn(at, cause, what)).collect();
        let ends: Vec<u64> =
            bands(&[&one, &other], &tape, 200).into_iter().flatten().map(|band| band.to).collect();
        assert_eq!(ends, [50, 200]);
        let battery = clock(Mischief::DeadBattery);
        let tape = [
            turn(10, 0, Comes(0)),
            Entry::event(20, Event::Boot, &[0, 7], None),
            Entry::event(30, Event::DiskCrash, &[0, 0, 0, 0], None),
            Entry::event(40, Event::Boot, &[0, 8], None),
        ];
        let at = |tape: &[Entry]| bands(&[&battery], tape, 200)[0].expect("it came");
        assert_eq!(at(&tape), Band { from: 40, to: 40, struck: true });
        assert_eq!(at(&tape[..3]), Band { from: 10, to: 10, struck: false });
    }

    #[test]
    fn what_is_lost_for_good_is_so_until_the_end() {
        let gone = Fault::Gone { machine: 0, crash: Crash::Kill };
        assert_eq!(alone(&gone, &[(10, Turn::Strikes)]), (10, 200, true));
        let memory = Fault::LittleMemory { machine: 0, bytes: 300_000 };
        for fault in [Fault::CutOff { machine: 0 }, Fault::Stuck { machine: 0 }, memory] {
            assert_eq!(alone(&fault, &[(30, Turn::Strikes), (40, Turn::Strikes)]), (30, 200, true));
            assert_eq!(alone(&fault, &[(120, Turn::Strikes)]), (120, 200, true));
            assert_eq!(alone(&fault, &[]), (10, 200, false));
        }
    }

    #[test]
    fn what_is_done_in_several_ways_is_at_work_until_the_last_of_them_ends() {
        let death = Fault::HiddenDeath { machine: 0, lasting: LASTING, down: LASTING };
        let tape = [
            turn(10, 0, Turn::Comes(0)),
            turn(10, 1, Turn::Comes(0)),
            turn(10, 1, Turn::Strikes),
            turn(20, 1, Turn::Ends),
            turn(30, 0, Turn::Strikes),
            turn(80, 0, Turn::Ends),
        ];
        let band = bands(&[&death], &tape, 200)[0];
        assert_eq!(band, Some(Band { from: 10, to: 80, struck: true }));
    }
}
