//! What the client knows of its cluster: brokers, topics, leaders. Pure; fed by metadata answers
//! and by the hints that Produce and Fetch give.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::id::{LeaderEpoch, NodeId, PartitionIndex, TopicId};
use crate::wire::api::{MetadataResponse, MetadataResponseTopic};
use crate::wire::code::ErrorCode;
use crate::wire::leader::NodeEndpoint;

/// Turns an advertised host and port into an address; `None` if it cannot.
pub type Resolve = fn(&str, u16) -> Option<SocketAddr>;

/// The client's picture of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Where the brokers are.
    pub brokers: BTreeMap<NodeId, SocketAddr>,
    /// Whom to ask for new topics, if anybody in particular.
    pub controller: Option<NodeId>,
    /// The topics asked for so far.
    pub topics: BTreeMap<String, Topic>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id, none from old brokers.
    pub id: TopicId,
    /// Why there are no partitions, if there are none.
    pub error: ErrorCode,
    /// Its partitions.
    pub partitions: BTreeMap<PartitionIndex, Partition>,
}

/// One partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Who leads, if anybody does.
    pub leader: Option<NodeId>,
    /// The leader's epoch, if the broker tells.
    pub epoch: LeaderEpoch,
}

/// Resolves numbers, and the name that needs no resolver.
pub fn resolve_literal(host: &str, port: u16) -> Option<SocketAddr> {
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    host.trim_matches(['[', ']']).parse().ok().map(|ip| SocketAddr::new(ip, port))
}

impl Image {
    /// Takes over an answer. Topics that it does not speak of stay as they are, and so does a
    /// leader of a higher epoch: an answer from a broker that lags must not lead back.
    pub fn apply(&mut self, response: MetadataResponse, resolve: Resolve) {
        self.brokers.clear();
        for broker in response.brokers {
            let port = u16::try_from(broker.port).ok();
            if let Some(address) = port.and_then(|port| resolve(&broker.host, port)) {
                self.brokers.insert(NodeId(broker.node_id), address);
            }
        }
        let controller = NodeId(response.controller_id);
        self.controller = self.brokers.contains_key(&controller).then_some(controller);
        for topic in response.topics {
            self.apply_topic(topic);
        }
    }

    fn apply_topic(&mut self, topic: MetadataResponseTopic) {
        let Some(name) = topic.name else { return };
        let mut next = Topic {
            id: topic.topic_id,
            error: ErrorCode::from_code(topic.error_code).unwrap_or(ErrorCode::UnknownServerError),
            partitions: BTreeMap::new(),
        };
        let old = self.topics.get(&name).filter(|old| old.id == next.id);
        for partition in topic.partitions {
            let index = PartitionIndex(partition.partition_index);
            let epoch = LeaderEpoch(partition.leader_epoch);
            let leader = Some(NodeId(partition.leader_id)).filter(|leader| leader.0 >= 0);
            let old = old.and_then(|old| old.partitions.get(&index)).copied();
            let next_partition = Partition { leader, epoch };
            let kept = old.filter(|old| old.epoch > epoch && epoch != LeaderEpoch::NONE);
            next.partitions.insert(index, kept.unwrap_or(next_partition));
        }
        self.topics.insert(name, next);
    }

    /// Takes over a broker's hint at another leader (KIP-951), if it is newer.
    pub fn apply_hint(
        &mut self,
        topic: &str,
        index: PartitionIndex,
        (leader, epoch): (NodeId, LeaderEpoch),
        endpoints: &[NodeEndpoint],
        resolve: Resolve,
    ) -> bool {
        let partitions = self.topics.get_mut(topic).map(|topic| &mut topic.partitions);
        let Some(partition) = partitions.and_then(|partitions| partitions.get_mut(&index)) else {
            return false;
        };
        if epoch <= partition.epoch || leader.0 < 0 {
            return false;
        }
        if let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.node_id == leader) {
            let port = u16::try_from(endpoint.port).ok();
            if let Some(address) = port.and_then(|port| resolve(&endpoint.host, port)) {
                self.brokers.insert(leader, address);
            }
        }
        *partition = Partition { leader: Some(leader), epoch };
        self.brokers.contains_key(&leader)
    }

    /// The partition and its topic's id, if they are known.
    #[must_use]
    pub fn partition(&self, topic: &str, index: PartitionIndex) -> Option<(TopicId, Partition)> {
        let topic = self.topics.get(topic)?;
        Some((topic.id, *topic.partitions.get(&index)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::api::{MetadataResponseBroker, MetadataResponsePartition};

    fn answer(leader: i32, epoch: i32) -> MetadataResponse {
        let broker = |node_id| MetadataResponseBroker {
            node_id,
            host: "localhost".to_owned(),
            port: 9000 + node_id,
            ..MetadataResponseBroker::default()
        };
        let partition = MetadataResponsePartition {
            leader_id: leader,
            leader_epoch: epoch,
            ..MetadataResponsePartition::default()
        };
        let topic = MetadataResponseTopic {
            name: Some("t".to_owned()),
            topic_id: TopicId([7; 16]),
            partitions: vec![partition],
            ..MetadataResponseTopic::default()
        };
        MetadataResponse {
            brokers: vec![broker(1), broker(2)],
            controller_id: 2,
            topics: vec![topic],
            ..MetadataResponse::default()
        }
    }

    fn leader(image: &Image) -> (Option<NodeId>, LeaderEpoch) {
        let (id, partition) = image.partition("t", PartitionIndex(0)).expect("known");
        assert_eq!(id, TopicId([7; 16]));
        (partition.leader, partition.epoch)
    }

    #[test]
    fn leaders_never_go_back() {
        let mut image = Image::default();
        image.apply(answer(1, 5), resolve_literal);
        assert_eq!(image.controller, Some(NodeId(2)));
        assert_eq!(leader(&image), (Some(NodeId(1)), LeaderEpoch(5)));
        image.apply(answer(2, 4), resolve_literal);
        assert_eq!(leader(&image), (Some(NodeId(1)), LeaderEpoch(5)));
        image.apply(answer(2, 6), resolve_literal);
        assert_eq!(leader(&image), (Some(NodeId(2)), LeaderEpoch(6)));
        image.apply(answer(-1, 7), resolve_literal);
        assert_eq!(leader(&image), (None, LeaderEpoch(7)));
        let hint = |image: &mut Image, epoch: i32| {
            let leader = (NodeId(1), LeaderEpoch(epoch));
            image.apply_hint("t", PartitionIndex(0), leader, &[], resolve_literal)
        };
        assert!(!hint(&mut image, 7));
        assert!(hint(&mut image, 8));
        assert_eq!(leader(&image), (Some(NodeId(1)), LeaderEpoch(8)));
    }

    #[test]
    fn literals_resolve_and_names_do_not() {
        let address = |text: &str| Some(text.parse().expect("an address"));
        assert_eq!(resolve_literal("localhost", 1), address("127.0.0.1:1"));
        assert_eq!(resolve_literal("10.0.0.9", 2), address("10.0.0.9:2"));
        assert_eq!(resolve_literal("[::1]", 3), address("[::1]:3"));
        assert_eq!(resolve_literal("broker.example", 4), None);
    }
}
