//! The read side of the cluster's metadata: an immutable picture that every core may hold.
//!
//! An [`Image`] is one counted pointer; the machine makes the next one beside it and the broker
//! publishes it. Topics are counted one by one, so that two successive images share all but the
//! topics that changed. Whoever holds an old image sees an old but consistent cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::name;
use super::quota::{Entity, Quotas};
use crate::id::{LeaderEpoch, NodeId, PartitionIndex, ProducerId, TopicId};

/// The cluster's identity, shown as Kafka shows it: 22 characters of URL-safe base64.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

/// One broker as the cluster knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The random number of its last start; tells one start from another.
    pub incarnation: u64,
}

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The broker that serves it.
    pub leader: NodeId,
    /// The leader's term (KIP-101); rises whenever the leader starts.
    pub leader_epoch: LeaderEpoch,
    /// The brokers that hold a copy, the preferred leader first. Never empty.
    pub replicas: Vec<NodeId>,
    /// The replicas that are in sync.
    pub isr: Vec<NodeId>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its legal, unique name.
    pub name: Arc<str>,
    /// Its identity; a topic of the same name made later has another.
    pub id: TopicId,
    /// Its partitions, by index. Never empty.
    pub partitions: Vec<Partition>,
    /// The settings given for this topic alone, by Kafka's names; everything else has its default.
    pub configs: BTreeMap<String, String>,
}

/// The state of the whole cluster at one moment. Cloning costs one counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub(super) state: Arc<State>,
}

/// What an image holds; the machine changes it through [`Arc::make_mut`], which copies the tables
/// (not the topics) only while somebody else holds the old image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub cluster: ClusterId,
    pub brokers: BTreeMap<NodeId, Registration>,
    pub by_name: BTreeMap<Arc<str>, Arc<Topic>>,
    pub by_id: BTreeMap<TopicId, Arc<Topic>>,
    /// Folded names (see [`name::folded`]) to the topics that hold them.
    pub by_folded: BTreeMap<String, Arc<str>>,
    pub partitions: usize,
    pub quotas: BTreeMap<Entity, Quotas>,
    pub producer_ids_next: ProducerIdsNext,
    pub broker_configs: Arc<BrokerConfigs>,
    pub records_applied: u64,
}

/// The settings that the cluster keeps for brokers: for each that has some, and under `None` for
/// all.
pub type BrokerConfigs = BTreeMap<Option<NodeId>, BTreeMap<String, String>>;

/// The first producer id that has not been given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProducerIdsNext(pub ProducerId);

impl Default for ProducerIdsNext {
    fn default() -> Self {
        ProducerIdsNext(ProducerId(0))
    }
}

impl Image {
    /// The cluster's identity; all zeros until its first broker has started once.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.state.cluster
    }

    /// How many records led to this image: a later image has a larger number.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.state.records_applied
    }

    /// The topic called `name`.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.state.by_name.get(name)
    }

    /// The topic with this id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.state.by_id.get(&id)
    }

    /// The partition, and the topic it belongs to.
    #[must_use]
    pub fn partition(
        &self,
        id: TopicId,
        index: PartitionIndex,
    ) -> Option<(&Arc<Topic>, &Partition)> {
        let topic = self.topic_by_id(id)?;
        topic.partition(index).map(|partition| (topic, partition))
    }

    /// All topics in the order of their names.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.state.by_name.values()
    }

    /// How many partitions all topics have together.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.state.partitions
    }

    /// The brokers that ever registered, in the order of their ids.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = (NodeId, Registration)> {
        self.state.brokers.iter().map(|(&node, &registration)| (node, registration))
    }

    /// The settings that the cluster keeps for brokers, by Kafka's names.
    #[must_use]
    pub fn broker_configs(&self) -> &Arc<BrokerConfigs> {
        &self.state.broker_configs
    }

    /// One broker's registration.
    #[must_use]
    pub fn broker(&self, node: NodeId) -> Option<Registration> {
        self.state.brokers.get(&node).copied()
    }
}

impl Topic {
    /// One partition; `None` for an index the topic does not have, a negative one included.
    #[must_use]
    pub fn partition(&self, index: PartitionIndex) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index.0).ok()?)
    }

    /// All partitions with their indexes.
    pub fn indexed(&self) -> impl ExactSizeIterator<Item = (PartitionIndex, &Partition)> {
        let index = |place| PartitionIndex(i32::try_from(place).expect("bounded at creation"));
        self.partitions.iter().enumerate().map(move |(place, one)| (index(place), one))
    }

    /// Whether the topic belongs to the broker itself.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        name::is_internal(&self.name)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let number = u128::from_be_bytes(self.0);
        // 128 bits are 21 letters of six bits and one of two, padded with zeros at its end.
        for place in 0..22_u32 {
            let six = if place < 21 { number >> (122 - 6 * place) } else { number << 4 };
            let letter = LETTERS[usize::try_from(six & 63).expect("six bits")];
            write!(f, "{}", char::from(letter))?;
        }
        Ok(())
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_reads_like_kafkas() {
        assert_eq!(ClusterId([0; 16]).to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(ClusterId([0xff; 16]).to_string(), "_____________________w");
        let counting = ClusterId(std::array::from_fn(|place| place as u8));
        assert_eq!(counting.to_string(), "AAECAwQFBgcICQoLDA0ODw");
    }

    #[test]
    fn a_partition_index_out_of_range_is_none() {
        let partition = Partition {
            leader: NodeId(1),
            leader_epoch: LeaderEpoch(0),
            replicas: vec![NodeId(1)],
            isr: vec![NodeId(1)],
        };
        let topic = Topic {
            name: "t".into(),
            id: TopicId([1; 16]),
            partitions: vec![partition],
            configs: BTreeMap::new(),
        };
        assert!(topic.partition(PartitionIndex(0)).is_some());
        assert!(topic.partition(PartitionIndex(1)).is_none());
        assert!(topic.partition(PartitionIndex(-1)).is_none());
    }
}
