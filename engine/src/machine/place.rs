//! Which core of a broker owns a partition: a pure function, computed at start, never stored.
//!
//! The partitions of one topic are dealt out in turn, beginning at a core that depends on the
//! topic's id, so that one topic spreads evenly and many small topics do not all begin at core 0.

use crate::id::{CoreId, PartitionIndex, TopicId};

/// The core that owns partition `index` of `topic` on a broker with `cores` cores.
///
/// # Panics
/// If `cores` is 0.
#[must_use]
pub fn owner(topic: TopicId, index: PartitionIndex, cores: u16) -> CoreId {
    assert!(cores > 0, "a broker has at least one core");
    let first = spread(topic) % u64::from(cores);
    let turn = u64::from(index.0.unsigned_abs()) % u64::from(cores);
    let core = (first + turn) % u64::from(cores);
    CoreId(u16::try_from(core).expect("it is below a u16"))
}

/// FNV-1a over the id's bytes, folded so that its low bits depend on all of them.
fn spread(topic: TopicId) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in topic.0 {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_topic_covers_the_cores_evenly() {
        for cores in 1..=9_u16 {
            let mut owned = vec![0; usize::from(cores)];
            for index in 0..i32::from(cores) * 3 {
                let core = owner(TopicId([7; 16]), PartitionIndex(index), cores);
                owned[usize::from(core.0)] += 1;
            }
            assert_eq!(owned, vec![3; usize::from(cores)]);
        }
    }

    #[test]
    fn small_topics_begin_at_different_cores() {
        let mut owned = [0; 4];
        for seed in 0..4000_u64 {
            let topic = TopicId::from_random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), seed);
            owned[usize::from(owner(topic, PartitionIndex(0), 4).0)] += 1;
        }
        assert!(owned.iter().all(|&count| (800..1200).contains(&count)), "{owned:?}");
    }

    #[test]
    fn the_answer_never_changes() {
        // A changed function would be harmless to data (nothing is stored by core), yet move every
        // partition; this pins it so that a change is a decision.
        assert_eq!(owner(TopicId([1; 16]), PartitionIndex(0), 8), CoreId(6));
    }
}
