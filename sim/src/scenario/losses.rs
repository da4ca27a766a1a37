//! Losses: what does not heal, and the core that must get its work done all the same.
//!
//! In the second act everything heals but what is drawn here, and what is left must converge. Some
//! clients are gone, or cut off from everybody: what they were at will never end, and others must not
//! wait for it. In a group a member may have stopped polling, and others have to read what it does not.
//! The core that nothing here touches holds the client that brings a run to its goal, and one member of
//! each group. Each loss is a fault of the plan, so that it is printed, counted and left out as the
//! others are.

use std::collections::BTreeSet;
use std::time::Duration;

use super::shape::{Role, Shape};
use crate::fault::Fault;
use crate::machine::Crash;
use crate::plan::{Kind, Planned};
use crate::seed::{Seed, Stream};

/// Clients that are gone or cut off in one run at most.
const LOST_MAX: u64 = 4;

/// What is lost for good in the run of a seed.
pub fn draw(seed: Seed, shape: &Shape) -> Vec<Planned> {
    let mut faults = stuck(seed, shape);
    let random = &mut seed.stream("lost clients", 0);
    let core: BTreeSet<usize> =
        (0..shape.groups.len()).map(|group| sound(seed, shape, group)).chain([0]).collect();
    let is_stuck = |client: usize| {
        let machine = shape.machine(client);
        faults.iter().any(|planned| planned.fault == Fault::Stuck { machine })
    };
    let mut outside: Vec<usize> = (0..shape.clients.len())
        .filter(|client| !core.contains(client) && !is_stuck(*client))
        .collect();
    if outside.is_empty() || random.chance(2, 3) {
        return faults;
    }
    // Half of them stay.
    let most = LOST_MAX.min(outside.len().div_ceil(2) as u64);
    for _ in 0..random.within(1..most + 1) {
        let place = random.below(outside.len() as u64) as usize;
        let machine = shape.machine(outside.swap_remove(place));
        let fault = match random.below(4) {
            0 => Fault::Gone { machine, crash: Crash::Kill },
            1 => Fault::Gone { machine, crash: Crash::PowerLoss },
            _ => Fault::CutOff { machine },
        };
        let kind = match fault {
            Fault::Gone { .. } => Kind::GoneForGood,
            _ => Kind::CutOffForGood,
        };
        faults.push(Planned { at: moment(random, shape.chaos), kind, fault });
    }
    faults
}

/// Members of groups that never poll again.
fn stuck(seed: Seed, shape: &Shape) -> Vec<Planned> {
    let mut faults = Vec::new();
    for group in 0..shape.groups.len() {
        let random = &mut seed.stream("stuck member", group as u64);
        let mut members: BTreeSet<usize> = members(shape, group).collect();
        members.remove(&sound(seed, shape, group));
        let others: Vec<usize> = members.into_iter().collect();
        if !others.is_empty() && random.chance(1, 2) {
            let machine = shape.machine(random.pick(&others));
            let (at, kind) = (moment(random, shape.chaos), Kind::NeverPolls);
            faults.push(Planned { at, kind, fault: Fault::Stuck { machine } });
        }
    }
    faults
}

/// The member of a group that goes on whatever becomes of the others.
fn sound(seed: Seed, shape: &Shape, group: usize) -> usize {
    let members: Vec<usize> = members(shape, group).collect();
    seed.stream("sound member", group as u64).pick(&members)
}

/// The members of a group, as clients.
fn members(shape: &Shape, group: usize) -> impl Iterator<Item = usize> + '_ {
    let clients = shape.clients.iter().enumerate();
    let members = clients.filter(
        move |(_, client)| matches!(&client.role, Role::Member(shape) if shape.group == group),
    );
    members.map(|(client, _)| client)
}

/// When somebody is lost: any time, and often so late that nothing else happens that would hide it.
fn moment(random: &mut Stream, chaos: Duration) -> Duration {
    let from = if random.chance(1, 2) { chaos * 9 / 10 } else { chaos / 5 };
    random.duration(from..chaos)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::scenario::Size;

    #[test]
    fn somebody_is_lost_and_somebody_stays() {
        let mut counts: BTreeMap<Kind, u64> = BTreeMap::new();
        for number in 0..300 {
            let (seed, shape) = (Seed(number), Shape::draw(Seed(number), Size::Small));
            let lost = draw(seed, &shape);
            assert_eq!(lost, draw(seed, &shape));
            let machines: Vec<usize> =
                lost.iter().flat_map(|planned| planned.fault.machines()).collect();
            assert!(machines.iter().collect::<BTreeSet<_>>().len() == machines.len(), "{number}");
            let stays = |client: usize| !machines.contains(&shape.machine(client));
            assert!(stays(0), "{number}: who brings the run to its goal");
            for group in 0..shape.groups.len() {
                assert!(members(&shape, group).any(stays), "{number}: a member of a group");
            }
            for planned in lost {
                assert!(planned.kind.is_for_good() && planned.at < shape.chaos);
                *counts.entry(planned.kind).or_default() += 1;
            }
        }
        assert!(counts.len() == 3 && counts.values().all(|count| *count > 30), "{counts:?}");
    }
}
