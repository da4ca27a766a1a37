//! CreateTopics, DeleteTopics, CreatePartitions, DeleteRecords and DescribeTopicPartitions.

use super::schema::messages;
use crate::id::TopicId;

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

messages! {
    DeleteTopics: DeleteTopicsRequest -> DeleteTopicsResponse, versions 1-6, flexible 4+;

    struct DeleteTopicsRequest {
        topics: Vec<DeleteTopicState> [6+],
        topic_names: Vec<String> [0-5],
        timeout_ms: i32 [0+],
    }

    /// A topic by name or by id.
    struct DeleteTopicState {
        name: Option<String> [6+ null 6+],
        topic_id: TopicId [6+],
    }

    struct DeleteTopicsResponse {
        throttle_time_ms: i32 [1+],
        responses: Vec<DeletableTopicResult> [0+],
    }

    struct DeletableTopicResult {
        /// Null for an id that does not exist.
        name: Option<String> [0+ null 6+],
        topic_id: TopicId [6+],
        error_code: i16 [0+],
        error_message: Option<String> [5+ null 5+],
    }
}

messages! {
    CreatePartitions: CreatePartitionsRequest -> CreatePartitionsResponse,
    versions 0-3, flexible 2+;

    /// Asks for more partitions of existing topics (KIP-195).
    struct CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic> [0+],
        timeout_ms: i32 [0+],
        /// Whether to check only and create nothing.
        validate_only: bool [0+],
    }

    struct CreatePartitionsTopic {
        name: String [0+],
        /// How many partitions the topic is to have in the end.
        count: i32 [0+],
        /// Which brokers get the new partitions; null leaves that to the cluster.
        assignments: Option<Vec<CreatePartitionsAssignment>> [0+ null 0+],
    }

    struct CreatePartitionsAssignment {
        broker_ids: Vec<i32> [0+],
    }

    struct CreatePartitionsResponse {
        throttle_time_ms: i32 [0+],
        results: Vec<CreatePartitionsTopicResult> [0+],
    }

    struct CreatePartitionsTopicResult {
        name: String [0+],
        error_code: i16 [0+],
        error_message: Option<String> [0+ null 0+],
    }
}

messages! {
    DeleteRecords: DeleteRecordsRequest -> DeleteRecordsResponse, versions 0-2, flexible 2+;

    /// Asks to forget the records below an offset (KIP-107).
    struct DeleteRecordsRequest {
        topics: Vec<DeleteRecordsTopic> [0+],
        timeout_ms: i32 [0+],
    }

    struct DeleteRecordsTopic {
        name: String [0+],
        partitions: Vec<DeleteRecordsPartition> [0+],
    }

    struct DeleteRecordsPartition {
        partition_index: i32 [0+],
        /// The first offset to keep, -1 for the high watermark.
        offset: i64 [0+],
    }

    struct DeleteRecordsResponse {
        throttle_time_ms: i32 [0+],
        topics: Vec<DeleteRecordsTopicResult> [0+],
    }

    struct DeleteRecordsTopicResult {
        name: String [0+],
        partitions: Vec<DeleteRecordsPartitionResult> [0+],
    }

    struct DeleteRecordsPartitionResult {
        partition_index: i32 [0+],
        /// The partition's first offset now.
        low_watermark: i64 [0+],
        error_code: i16 [0+],
    }
}

messages! {
    DescribeTopicPartitions: DescribeTopicPartitionsRequest -> DescribeTopicPartitionsResponse,
    versions 0-0, flexible 0+;

    /// Asks for topics and their partitions page by page (KIP-966).
    struct DescribeTopicPartitionsRequest {
        /// Empty asks for all topics.
        topics: Vec<DescribeTopicPartitionsTopicRequest> [0+],
        /// The largest number of partitions in the answer.
        response_partition_limit: i32 [0+] = 2000,
        /// Where to go on; null for the first page.
        cursor: Option<DescribeTopicPartitionsCursor> [0+ null 0+],
    }

    struct DescribeTopicPartitionsTopicRequest {
        name: String [0+],
    }

    /// The first topic and partition of a page.
    struct DescribeTopicPartitionsCursor {
        topic_name: String [0+],
        partition_index: i32 [0+],
    }

    struct DescribeTopicPartitionsResponse {
        throttle_time_ms: i32 [0+],
        topics: Vec<DescribeTopicPartitionsResponseTopic> [0+],
        /// Where the next page begins; null after the last one.
        next_cursor: Option<DescribeTopicPartitionsCursor> [0+ null 0+],
    }

    struct DescribeTopicPartitionsResponseTopic {
        error_code: i16 [0+],
        name: Option<String> [0+ null 0+],
        topic_id: TopicId [0+],
        is_internal: bool [0+],
        partitions: Vec<DescribeTopicPartitionsResponsePartition> [0+],
        /// A set of operations as bits, `i32::MIN` if it is not given.
        topic_authorized_operations: i32 [0+] = i32::MIN,
    }

    struct DescribeTopicPartitionsResponsePartition {
        error_code: i16 [0+],
        partition_index: i32 [0+],
        /// -1 while there is no leader.
        leader_id: i32 [0+],
        leader_epoch: i32 [0+] = -1,
        replica_nodes: Vec<i32> [0+],
        isr_nodes: Vec<i32> [0+],
        /// Replicas outside of the in-sync set that may lead without losing records.
        eligible_leader_replicas: Option<Vec<i32>> [0+ null 0+],
        last_known_elr: Option<Vec<i32>> [0+ null 0+],
        offline_replicas: Vec<i32> [0+],
    }
}
