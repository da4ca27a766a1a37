//! The fault plan of a run: a list, drawn from the seed before the run begins.
//!
//! Each seed switches a random part of the fault kinds on, each with a weight of its own (a swarm:
//! what is always there hides what is rare), and draws when each fault comes, whom it meets and how
//! long it lasts. Some seeds are calm but for their crashes, some have everything on. A plan can be
//! printed, and shortened by hand or machine, without any other draw of the run shifting. So can the
//! list of kinds become longer: a new kind takes the place of some faults, and leaves all others of all
//! seeds as they are. Carrying a plan out is `nemesis`'s work.

use std::fmt;
use std::time::Duration;

use crate::clock::Mischief;
use crate::fault::{Fault, draw, suspension};
use crate::machine::Crash;
use crate::seed::{Seed, Stream};

pub use crate::fault::Kind;

/// The faults of a run, by time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Sorted by time.
    pub faults: Vec<Planned>,
}

/// One fault and when it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Time since the start of the chaos.
    pub at: Duration,
    /// What it counts as.
    pub kind: Kind,
    /// What comes.
    pub fault: Fault,
}

/// Whom the faults of a plan may meet, and for how long.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Machines that run brokers.
    pub brokers: Vec<usize>,
    /// Machines that run clients.
    pub clients: Vec<usize>,
    /// Those of them that keep something on their disks; if none is named, any may.
    pub keepers: Vec<usize>,
    /// How long the chaos lasts.
    pub chaos: Duration,
    /// How many broker crashes there are at least.
    pub crashes_min: usize,
}

/// Kinds that seldom meet what they are about.
const RARE: [Kind; 4] =
    [Kind::AllocateError, Kind::NoAllocation, Kind::FullDisk, Kind::AlteredBatch];

/// What a seed is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Crashes and nothing else.
    Calm,
    /// Some kinds, each as often as it happens.
    Swarm,
    /// Every kind.
    Wild,
}

/// A kind that is on. What it draws is its own, so that no other draws something else because of it.
struct Candidate {
    kind: Kind,
    weight: usize,
    random: Stream,
}

impl Plan {
    /// Draws a plan.
    #[must_use]
    pub fn draw(seed: Seed, scope: &Scope) -> Plan {
        // Who is lost for good is for the run to say: somebody has to be left.
        Plan::draw_of(seed, scope, Kind::ALL.into_iter().filter(|kind| !kind.is_for_good()))
    }

    fn draw_of(seed: Seed, scope: &Scope, kinds: impl Iterator<Item = Kind>) -> Plan {
        let random = &mut seed.stream("plan", 0);
        let mood = match random.below(16) {
            0 => Mood::Calm,
            1 => Mood::Wild,
            _ => Mood::Swarm,
        };
        let mut faults = Vec::new();
        for _ in 0..scope.crashes_min {
            // The crashes that must happen come by time; what waits for a call may wait in vain.
            let kind = random.pick(&[Kind::Kill, Kind::PowerLoss]);
            faults.push(planned(random, scope, kind));
        }
        // Of ten kinds so many are on.
        let part = match mood {
            Mood::Calm => 0,
            Mood::Swarm => random.pick(&[1, 2, 4]),
            Mood::Wild => 10,
        };
        let mut on: Vec<Candidate> =
            kinds.filter_map(|kind| Candidate::draw(seed, kind, part)).collect();
        let few = if random.chance(3, 4) { 2..12 } else { 12..30 };
        let stretch = 1.0_f64.max(scope.chaos.as_secs_f64() / 20.0);
        for turn in 0..(random.within(few) as f64 * stretch) as u64 {
            let bids = on.iter_mut().map(|candidate| (candidate.bid(), candidate.kind));
            if let Some((_, kind)) = bids.max() {
                let random = &mut seed.stream(&format!("fault {kind}"), turn);
                faults.push(planned(random, scope, kind));
            }
        }
        faults.sort_by_key(|planned| planned.at);
        Plan { faults }
    }

    /// Adds that a machine is suspended for minutes, some time in `chaos`.
    pub fn suspend(&mut self, random: &mut Stream, machine: usize, chaos: Duration) {
        let at = random.duration(chaos / 4..chaos);
        let mischief = Mischief::Leap(suspension(random));
        let fault = Fault::Clock { machine, mischief };
        self.add(vec![Planned { at, kind: Kind::MonotonicLeap, fault }]);
    }

    /// Whether a machine keeps what is written to it, flushed or not.
    #[must_use]
    pub fn keeps_page_cache(&self, machine: usize) -> bool {
        let takes = |planned: &Planned| {
            planned.fault.takes_page_cache() && planned.fault.machines().contains(&machine)
        };
        !self.faults.iter().any(takes)
    }

    /// Spares the page cache of a machine: its process is killed where its power was to fail, and what
    /// else would take what is not flushed does not come to it.
    pub fn spare_page_cache(&mut self, machine: usize) {
        for Planned { kind, fault, .. } in &mut self.faults {
            match fault {
                Fault::Crash { machine: of, crash, .. } if *of == machine => {
                    (*crash, *kind) = (Crash::Kill, Kind::Kill);
                }
                Fault::CrashLoop { machine: of, crash, .. } if *of == machine => {
                    *crash = Crash::Kill;
                }
                Fault::Blackout { machines, .. } => machines.retain(|of| *of != machine),
                _ => {}
            }
        }
        self.faults.retain(|planned| {
            !(planned.fault.takes_page_cache() && planned.fault.machines().contains(&machine))
        });
    }

    /// Adds faults, each at its time.
    pub fn add(&mut self, faults: Vec<Planned>) {
        self.faults.extend(faults);
        self.faults.sort_by_key(|planned| planned.at);
    }

    /// Draws a plan of `count` faults, each of one of `kinds`.
    #[must_use]
    pub fn of(random: &mut Stream, scope: &Scope, kinds: &[Kind], count: u64) -> Plan {
        let mut faults: Vec<Planned> = (0..count)
            .map(|_| {
                let kind = random.pick(kinds);
                planned(random, scope, kind)
            })
            .collect();
        faults.sort_by_key(|planned| planned.at);
        Plan { faults }
    }
}

impl Candidate {
    /// The kind, if it is among the `part` of ten that are on.
    fn draw(seed: Seed, kind: Kind, part: u64) -> Option<Candidate> {
        let mut random = seed.stream(&format!("swarm {kind}"), 0);
        random.chance(part, 10).then(|| {
            let weight = random.pick(&[1, 1, 1, 3, 8]) * if RARE.contains(&kind) { 4 } else { 1 };
            Candidate { kind, weight, random }
        })
    }

    /// What it bids for the next turn. The highest bid has it, as in highest random weight hashing
    /// (Thaler and Ravishankar, 1998): that is each as often as its weight says.
    fn bid(&mut self) -> u64 {
        (0..self.weight).map(|_| self.random.bits()).max().expect("no weight is 0")
    }
}

fn planned(random: &mut Stream, scope: &Scope, kind: Kind) -> Planned {
    let at = Duration::from_nanos(random.below(crate::seed::nanos(scope.chaos)));
    Planned { at, kind, fault: draw(random, scope, kind) }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Planned { at, kind, fault } in &self.faults {
            writeln!(f, "{:>10.3} s  {kind}: {fault:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn scope() -> Scope {
        Scope {
            brokers: vec![0],
            clients: vec![1, 2],
            keepers: vec![2],
            chaos: Duration::from_secs(10),
            crashes_min: 2,
        }
    }

    #[test]
    fn a_page_cache_is_spared_and_crashes_stay() {
        let mut taken = 0;
        for seed in 0..200 {
            let mut plan = Plan::draw(Seed(seed), &scope());
            let crashes = |plan: &Plan| {
                let of_broker = |planned: &&Planned| {
                    matches!(
                        planned.fault,
                        Fault::Crash { machine: 0, .. } | Fault::CrashLoop { .. }
                    )
                };
                plan.faults.iter().filter(of_broker).count()
            };
            let before = crashes(&plan);
            taken += usize::from(!plan.keeps_page_cache(0));
            plan.spare_page_cache(0);
            assert!(plan.keeps_page_cache(0), "{plan}");
            assert_eq!(crashes(&plan), before);
        }
        assert!((100..200).contains(&taken), "{taken} plans take what is not flushed");
    }

    #[test]
    fn plans_crash_often_enough_and_swarm() {
        let scope = scope();
        let mut lengths = BTreeSet::new();
        let (mut calm, mut seen) = (0, BTreeMap::new());
        for seed in 0..600 {
            let plan = Plan::draw(Seed(seed), &scope);
            assert_eq!(plan, Plan::draw(Seed(seed), &scope));
            let sure =
                |planned: &&Planned| matches!(planned.fault, Fault::Crash { machine: 0, .. });
            assert!(plan.faults.iter().filter(sure).count() >= 2, "{plan}");
            assert!(plan.faults.is_sorted_by_key(|planned| planned.at));
            assert!(plan.faults.iter().all(|planned| planned.at < scope.chaos));
            lengths.insert(plan.faults.len());
            calm += u32::from(plan.faults.len() == 2);
            for planned in plan.faults {
                assert!(planned.fault.machines().iter().all(|&machine| machine < 3));
                let keeps = planned.kind != Kind::LostData || planned.fault.machines() == [2];
                assert!(keeps, "{:?}", planned.fault);
                *seen.entry(planned.kind).or_insert(0) += 1;
            }
        }
        assert!(lengths.len() > 20 && calm > 10, "{calm} {lengths:?}");
        let drawn = |kind: &Kind| seen.contains_key(kind) != kind.is_for_good();
        assert!(Kind::ALL.iter().all(drawn), "{seen:?}");
    }

    #[test]
    fn a_kind_that_is_added_shifts_no_other() {
        let scope = scope();
        let (mut replaced, mut kept) = (0, 0);
        for seed in (0..200).map(Seed) {
            let passing = || Kind::ALL.into_iter().filter(|kind| !kind.is_for_good());
            let after = Plan::draw_of(seed, &scope, passing());
            let before = passing().filter(|kind| *kind != Kind::NoDescriptors);
            let before = Plan::draw_of(seed, &scope, before);
            // Where nothing else is on the new one has all turns.
            let is_alone = before.faults.len() == scope.crashes_min;
            assert!(before.faults.len() == after.faults.len() || is_alone, "{before}{after}");
            for planned in &after.faults {
                let is_old = before.faults.contains(planned);
                assert!(is_old || planned.kind == Kind::NoDescriptors, "{planned:?}");
                *(if is_old { &mut kept } else { &mut replaced }) += 1;
            }
        }
        assert!(replaced > 10 && kept > 50 * replaced, "{replaced} of {kept} are new");
    }
}
