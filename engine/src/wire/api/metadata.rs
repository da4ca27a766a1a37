//! Metadata: the cluster's brokers, topics, partitions and their leaders.

use super::schema::messages;
use crate::id::TopicId;

messages! {
    Metadata: MetadataRequest -> MetadataResponse, versions 0-13, flexible 9+;

    /// Asks for brokers and topics.
    struct MetadataRequest {
        /// The topics asked about; null asks about all. In version 0, which knows no null, the
        /// empty list asks about all, from version 1 on about none.
        topics: Option<Vec<MetadataRequestTopic>> [0+ null 1+],
        /// Whether the broker may create topics that are named here and do not exist.
        allow_auto_topic_creation: bool [4+] = true,
        include_cluster_authorized_operations: bool [8-10],
        include_topic_authorized_operations: bool [8+],
    }

    /// A topic asked about, by name or (from version 12 on) by id.
    struct MetadataRequestTopic {
        topic_id: TopicId [10+],
        name: Option<String> [0+ null 10+],
    }

    /// Brokers and topics.
    struct MetadataResponse {
        throttle_time_ms: i32 [3+],
        brokers: Vec<MetadataResponseBroker> [0+],
        cluster_id: Option<String> [2+ null 2+],
        /// A broker that takes requests for the controller, -1 if none is known.
        controller_id: i32 [1+] = -1,
        topics: Vec<MetadataResponseTopic> [0+],
        /// A set of operations as bits, `i32::MIN` if it was not asked for.
        cluster_authorized_operations: i32 [8-10] = i32::MIN,
        /// An error that concerns the whole request (KIP-1102).
        error_code: i16 [13+],
    }

    /// A broker and how to reach it.
    struct MetadataResponseBroker {
        node_id: i32 [0+],
        host: String [0+],
        port: i32 [0+],
        rack: Option<String> [1+ null 1+],
    }

    /// A topic with its partitions, or why there is none.
    struct MetadataResponseTopic {
        error_code: i16 [0+],
        /// Null for an id that does not exist.
        name: Option<String> [0+ null 12+],
        /// `TopicId::NONE` for a name that does not exist.
        topic_id: TopicId [10+],
        is_internal: bool [1+],
        partitions: Vec<MetadataResponsePartition> [0+],
        /// A set of operations as bits, `i32::MIN` if it was not asked for.
        topic_authorized_operations: i32 [8+] = i32::MIN,
    }

    /// A partition's leader and replicas, by broker id.
    struct MetadataResponsePartition {
        error_code: i16 [0+],
        partition_index: i32 [0+],
        /// -1 while there is no leader.
        leader_id: i32 [0+],
        leader_epoch: i32 [7+] = -1,
        replica_nodes: Vec<i32> [0+],
        isr_nodes: Vec<i32> [0+],
        offline_replicas: Vec<i32> [5+],
    }
}
