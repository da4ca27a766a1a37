//! OffsetCommit, OffsetFetch and OffsetDelete: how far groups have read.

use super::schema::messages;
use crate::id::TopicId;

messages! {
    OffsetCommit: OffsetCommitRequest -> OffsetCommitResponse, versions 2-10, flexible 8+;

    struct OffsetCommitRequest {
        group_id: String [0+],
        /// The generation of a classic group, the member's epoch of a new one (KIP-848), -1 from
        /// a consumer that manages its partitions itself.
        generation_id_or_member_epoch: i32 [1+] = -1,
        member_id: String [1+],
        group_instance_id: Option<String> [7+ null 7+],
        /// How long to keep the offsets, in milliseconds; -1 for the broker's setting.
        retention_time_ms: i64 [2-4] = -1,
        topics: Vec<OffsetCommitRequestTopic> [0+],
    }

    struct OffsetCommitRequestTopic {
        name: String [0-9],
        topic_id: TopicId [10+],
        partitions: Vec<OffsetCommitRequestPartition> [0+],
    }

    struct OffsetCommitRequestPartition {
        partition_index: i32 [0+],
        committed_offset: i64 [0+],
        committed_leader_epoch: i32 [6+] = -1,
        /// Any text, handed back by OffsetFetch.
        committed_metadata: Option<String> [0+ null 0+],
    }

    struct OffsetCommitResponse {
        throttle_time_ms: i32 [3+],
        topics: Vec<OffsetCommitResponseTopic> [0+],
    }

    struct OffsetCommitResponseTopic {
        name: String [0-9],
        topic_id: TopicId [10+],
        partitions: Vec<OffsetCommitResponsePartition> [0+],
    }

    struct OffsetCommitResponsePartition {
        partition_index: i32 [0+],
        error_code: i16 [0+],
    }
}

messages! {
    OffsetFetch: OffsetFetchRequest -> OffsetFetchResponse, versions 1-10, flexible 6+;

    /// Before version 8 one group is asked about, from then on several (KIP-709).
    struct OffsetFetchRequest {
        group_id: String [0-7],
        /// Null asks for every partition with an offset.
        topics: Option<Vec<OffsetFetchRequestTopic>> [0-7 null 2-7],
        groups: Vec<OffsetFetchRequestGroup> [8+],
        /// Whether offsets of open transactions hold up the answer (KIP-447).
        require_stable: bool [7+],
    }

    struct OffsetFetchRequestTopic {
        name: String [0-7],
        partition_indexes: Vec<i32> [0-7],
    }

    struct OffsetFetchRequestGroup {
        group_id: String [8+],
        member_id: Option<String> [9+ null 9+],
        member_epoch: i32 [9+] = -1,
        /// Null asks for every partition with an offset.
        topics: Option<Vec<OffsetFetchRequestTopics>> [8+ null 8+],
    }

    struct OffsetFetchRequestTopics {
        name: String [8-9],
        topic_id: TopicId [10+],
        partition_indexes: Vec<i32> [8+],
    }

    struct OffsetFetchResponse {
        throttle_time_ms: i32 [3+],
        topics: Vec<OffsetFetchResponseTopic> [0-7],
        error_code: i16 [2-7],
        groups: Vec<OffsetFetchResponseGroup> [8+],
    }

    struct OffsetFetchResponseTopic {
        name: String [0-7],
        partitions: Vec<OffsetFetchResponsePartition> [0-7],
    }

    struct OffsetFetchResponsePartition {
        partition_index: i32 [0-7],
        /// -1 if the group has committed none.
        committed_offset: i64 [0-7],
        committed_leader_epoch: i32 [5-7] = -1,
        metadata: Option<String> [0-7 null 0-7],
        error_code: i16 [0-7],
    }

    struct OffsetFetchResponseGroup {
        group_id: String [8+],
        topics: Vec<OffsetFetchResponseTopics> [8+],
        error_code: i16 [8+],
    }

    struct OffsetFetchResponseTopics {
        name: String [8-9],
        topic_id: TopicId [10+],
        partitions: Vec<OffsetFetchResponsePartitions> [8+],
    }

    struct OffsetFetchResponsePartitions {
        partition_index: i32 [8+],
        /// -1 if the group has committed none.
        committed_offset: i64 [8+],
        committed_leader_epoch: i32 [8+] = -1,
        metadata: Option<String> [8+ null 8+],
        error_code: i16 [8+],
    }
}

messages! {
    OffsetDelete: OffsetDeleteRequest -> OffsetDeleteResponse, versions 0-0, flexible none;

    /// Asks to forget committed offsets (KIP-496).
    struct OffsetDeleteRequest {
        group_id: String [0+],
        topics: Vec<OffsetDeleteRequestTopic> [0+],
    }

    struct OffsetDeleteRequestTopic {
        name: String [0+],
        partitions: Vec<OffsetDeleteRequestPartition> [0+],
    }

    struct OffsetDeleteRequestPartition {
        partition_index: i32 [0+],
    }

    struct OffsetDeleteResponse {
        error_code: i16 [0+],
        throttle_time_ms: i32 [0+],
        topics: Vec<OffsetDeleteResponseTopic> [0+],
    }

    struct OffsetDeleteResponseTopic {
        name: String [0+],
        partitions: Vec<OffsetDeleteResponsePartition> [0+],
    }

    struct OffsetDeleteResponsePartition {
        partition_index: i32 [0+],
        error_code: i16 [0+],
    }
}
