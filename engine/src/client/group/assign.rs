//! How a leader shares partitions out: `range`, which lays each topic's partitions side by side, and
//! `cooperative-sticky`, which moves as few as it can and takes none away from who still reads it.
//!
//! Pure, and the same for the same input, whatever its order was.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::PartitionIndex;
use crate::wire::subscription::{Partitions, Subscription};

/// How partitions are shared out among the members of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Each topic on its own, neighbouring partitions together (KIP-726's `range`). Every change
    /// takes all partitions from all members first.
    #[default]
    Range,
    /// As even as can be, with as few moves as can be (KIP-429). Members go on reading what stays
    /// with them.
    CooperativeSticky,
}

impl Strategy {
    /// Kafka's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Range => "range",
            Strategy::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// Whether members keep their partitions while they join again.
    #[must_use]
    pub fn keeps(self) -> bool {
        self == Strategy::CooperativeSticky
    }

    /// Every member's share.
    #[must_use]
    pub fn share_out(
        self,
        members: &BTreeMap<String, Subscription>,
        topics: &BTreeMap<String, BTreeSet<PartitionIndex>>,
    ) -> BTreeMap<String, Partitions> {
        match self {
            Strategy::Range => range(members, topics),
            Strategy::CooperativeSticky => sticky(members, topics),
        }
    }
}

type Place<'a> = (&'a str, PartitionIndex);

fn range(
    members: &BTreeMap<String, Subscription>,
    topics: &BTreeMap<String, BTreeSet<PartitionIndex>>,
) -> BTreeMap<String, Partitions> {
    let mut shares: BTreeMap<String, Partitions> =
        members.keys().map(|id| (id.clone(), Partitions::new())).collect();
    for (topic, partitions) in topics {
        let readers: Vec<&String> = members
            .iter()
            .filter(|(_, member)| member.topics.contains(topic))
            .map(|(id, _)| id)
            .collect();
        if readers.is_empty() {
            continue;
        }
        let (each, more) = (partitions.len() / readers.len(), partitions.len() % readers.len());
        let mut rest = partitions.iter().copied();
        for (place, id) in readers.into_iter().enumerate() {
            let count = each + usize::from(place < more);
            let own: Vec<PartitionIndex> = rest.by_ref().take(count).collect();
            if !own.is_empty() {
                shares.get_mut(id).expect("a member").insert(topic.clone(), own);
            }
        }
    }
    shares
}

fn sticky(
    members: &BTreeMap<String, Subscription>,
    topics: &BTreeMap<String, BTreeSet<PartitionIndex>>,
) -> BTreeMap<String, Partitions> {
    let wanted =
        |topic: &str| members.values().any(|member| member.topics.iter().any(|t| t == topic));
    let all: BTreeSet<Place<'_>> = topics
        .iter()
        .filter(|(topic, _)| wanted(topic))
        .flat_map(|(topic, indexes)| indexes.iter().map(|index| (topic.as_str(), *index)))
        .collect();
    // Of several who say they have a partition, the one of the latest generation has it.
    let mut owners: BTreeMap<Place<'_>, (&str, i32)> = BTreeMap::new();
    for (id, member) in members {
        for (topic, indexes) in &member.owned {
            for index in indexes {
                let place = (topic.as_str(), *index);
                let older = owners.get(&place).is_none_or(|(_, known)| member.generation > *known);
                if all.contains(&place) && member.topics.contains(topic) && older {
                    owners.insert(place, (id, member.generation));
                }
            }
        }
    }
    let (each, mut more) = (all.len() / members.len().max(1), all.len() % members.len().max(1));
    let mut kept: BTreeMap<&str, Vec<Place<'_>>> =
        members.keys().map(|id| (id.as_str(), Vec::new())).collect();
    for (place, (owner, _)) in &owners {
        let own = kept.get_mut(owner).expect("a member");
        if own.len() < each {
            own.push(*place);
        } else if own.len() == each && more > 0 {
            more -= 1;
            own.push(*place);
        }
    }
    let settled: BTreeSet<Place<'_>> = kept.values().flatten().copied().collect();
    let mut shares = kept;
    for place in all.iter().filter(|place| !settled.contains(place)) {
        let reads = |id: &str| members[id].topics.iter().any(|topic| topic == place.0);
        let least = shares
            .iter()
            .filter(|(id, _)| reads(id))
            .min_by_key(|(_, own)| own.len())
            .map(|(id, _)| *id);
        let Some(id) = least else { continue };
        shares.get_mut(id).expect("a member").push(*place);
    }
    // What another one still reads is given out when that one has given it up, in the next round.
    let mut given = BTreeMap::new();
    for (id, places) in shares {
        let mut own = Partitions::new();
        for place in places {
            if owners.get(&place).is_none_or(|(owner, _)| *owner == id) {
                own.entry(place.0.to_owned()).or_default().push(place.1);
            }
        }
        own.values_mut().for_each(|indexes| indexes.sort_unstable());
        given.insert(id.to_owned(), own);
    }
    given
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn topics(counts: &[i32]) -> BTreeMap<String, BTreeSet<PartitionIndex>> {
        let indexes = |count: &i32| (0..*count).map(PartitionIndex).collect();
        counts.iter().enumerate().map(|(n, count)| (format!("t{n}"), indexes(count))).collect()
    }

    fn members(count: usize, topics: usize) -> BTreeMap<String, Subscription> {
        let topics: Vec<String> = (0..topics).map(|n| format!("t{n}")).collect();
        let one = Subscription { topics, generation: -1, ..Subscription::default() };
        (0..count).map(|n| (format!("m{n}"), one.clone())).collect()
    }

    /// Every partition that is given out, once.
    fn places(shares: &BTreeMap<String, Partitions>) -> BTreeSet<(String, i32)> {
        let mut seen = BTreeSet::new();
        for (topic, indexes) in shares.values().flatten() {
            for index in indexes {
                assert!(seen.insert((topic.clone(), index.0)), "one owner for {topic}-{index}");
            }
        }
        seen
    }

    fn count(share: &Partitions) -> usize {
        share.values().map(Vec::len).sum()
    }

    #[test]
    fn range_lays_neighbours_together() {
        let shares = Strategy::Range.share_out(&members(2, 1), &topics(&[3]));
        assert_eq!(shares["m0"]["t0"], [PartitionIndex(0), PartitionIndex(1)]);
        assert_eq!(shares["m1"]["t0"], [PartitionIndex(2)]);
    }

    proptest! {
        #[test]
        fn rounds_end_even_and_move_little(
            counts in proptest::collection::vec(0..7_i32, 1..4),
            sizes in proptest::collection::vec(1..6_usize, 1..6),
        ) {
            let topics = topics(&counts);
            let all = usize::try_from(counts.iter().sum::<i32>()).expect("small");
            for strategy in [Strategy::Range, Strategy::CooperativeSticky] {
                let mut group = members(0, counts.len());
                let mut generation = 0;
                for size in &sizes {
                    // Members come and go.
                    let fresh = members(*size, counts.len());
                    group.retain(|id, _| fresh.contains_key(id));
                    for (id, member) in fresh {
                        group.entry(id).or_insert(member);
                    }
                    for round in 0..3 {
                        generation += 1;
                        let shares = strategy.share_out(&group, &topics);
                        prop_assert_eq!(shares.len(), group.len());
                        let given = places(&shares);
                        if strategy == Strategy::Range || round == 2 {
                            prop_assert_eq!(given.len(), all);
                        }
                        for (id, member) in &mut group {
                            if strategy.keeps() {
                                member.owned = shares[id].clone();
                                member.generation = generation;
                            }
                        }
                    }
                    if strategy.keeps() {
                        let loads: Vec<usize> =
                            group.values().map(|member| count(&member.owned)).collect();
                        let most = loads.iter().max().copied().unwrap_or(0);
                        let least = loads.iter().min().copied().unwrap_or(0);
                        prop_assert!(most - least <= 1, "{:?}", loads);
                        let again = strategy.share_out(&group, &topics);
                        for (id, member) in &group {
                            prop_assert_eq!(&again[id], &member.owned, "nothing moves for nothing");
                        }
                    }
                }
            }
        }

        #[test]
        fn nobody_is_given_what_another_still_reads(
            partitions in 1..9_i32,
            first in 1..4_usize,
            second in 1..6_usize,
        ) {
            let topics = topics(&[partitions]);
            let strategy = Strategy::CooperativeSticky;
            let mut group = members(first, 1);
            let shares = strategy.share_out(&group, &topics);
            for (id, member) in &mut group {
                member.owned = shares[id].clone();
                member.generation = 1;
            }
            let before = group.clone();
            for (id, member) in members(second, 1) {
                group.entry(id).or_insert(member);
            }
            for (id, share) in strategy.share_out(&group, &topics) {
                for (topic, indexes) in share {
                    for index in indexes {
                        let mut others = before.iter().filter(|(other, _)| **other != id);
                        let taken = others.any(|(_, other)| {
                            other.owned.get(&topic).is_some_and(|own| own.contains(&index))
                        });
                        prop_assert!(!taken);
                    }
                }
            }
        }
    }
}
