//! CreateTopics.

use crate::id::TopicId;
use crate::wire::api::schema::messages;

messages! {
    CreateTopics: CreateTopicsRequest -> CreateTopicsResponse, versions 2-7, flexible 5+;

    struct CreateTopicsRequest {
        topics: Vec<CreatableTopic> [0+],
        timeout_ms: i32 [0+] = 60_000,
        /// Whether to check only and create nothing.
        validate_only: bool [1+],
    }

    struct CreatableTopic {
        name: String [0+],
        /// -1 for the broker's default (KIP-464), or if there are assignments.
        num_partitions: i32 [0+],
        /// -1 for the broker's default, or if there are assignments.
        replication_factor: i16 [0+],
        /// Which brokers get which partition; empty leaves that to the cluster.
        assignments: Vec<CreatableReplicaAssignment> [0+],
        configs: Vec<CreatableTopicConfig> [0+],
    }

    struct CreatableReplicaAssignment {
        partition_index: i32 [0+],
        broker_ids: Vec<i32> [0+],
    }

    struct CreatableTopicConfig {
        name: String [0+],
        value: Option<String> [0+ null 0+],
    }

    struct CreateTopicsResponse {
        throttle_time_ms: i32 [2+],
        topics: Vec<CreatableTopicResult> [0+],
    }

    struct CreatableTopicResult {
        name: String [0+],
        topic_id: TopicId [7+],
        error_code: i16 [0+],
        error_message: Option<String> [1+ null 0+],
        /// Why the configs are not given, if they are not (KIP-525).
        topic_config_error_code: i16 [5+ tag 0],
        num_partitions: i32 [5+] = -1,
        replication_factor: i16 [5+] = -1,
        configs: Option<Vec<CreatableTopicConfigs>> [5+ null 5+],
    }

    struct CreatableTopicConfigs {
        name: String [5+],
        value: Option<String> [5+ null 5+],
        read_only: bool [5+],
        /// As in DescribeConfigs: 1 topic, 4 static broker, 5 default, ...
        config_source: i8 [5+] = -1,
        is_sensitive: bool [5+],
    }
}
