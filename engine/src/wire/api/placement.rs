//! ElectLeaders and ListPartitionReassignments.

use super::schema::messages;

messages! {
    ElectLeaders: ElectLeadersRequest -> ElectLeadersResponse, versions 0-2, flexible 2+;

    /// Asks for elections of leaders (KIP-460).
    struct ElectLeadersRequest {
        /// 0 the preferred replica, 1 any replica, also one that is not in sync.
        election_type: i8 [1+],
        /// Null asks for all partitions.
        topic_partitions: Option<Vec<TopicPartitions>> [0+ null 0+],
        timeout_ms: i32 [0+] = 60_000,
    }

    struct TopicPartitions {
        topic: String [0+],
        partitions: Vec<i32> [0+],
    }

    struct ElectLeadersResponse {
        throttle_time_ms: i32 [0+],
        error_code: i16 [1+],
        replica_election_results: Vec<ReplicaElectionResult> [0+],
    }

    struct ReplicaElectionResult {
        topic: String [0+],
        partition_result: Vec<PartitionElectionResult> [0+],
    }

    struct PartitionElectionResult {
        partition_id: i32 [0+],
        error_code: i16 [0+],
        error_message: Option<String> [0+ null 0+],
    }
}

messages! {
    ListPartitionReassignments: ListPartitionReassignmentsRequest ->
        ListPartitionReassignmentsResponse,
    versions 0-0, flexible 0+;

    /// Asks which partitions are being moved to other brokers (KIP-455).
    struct ListPartitionReassignmentsRequest {
        timeout_ms: i32 [0+] = 60_000,
        /// Null asks for all topics.
        topics: Option<Vec<ListPartitionReassignmentsTopics>> [0+ null 0+],
    }

    struct ListPartitionReassignmentsTopics {
        name: String [0+],
        partition_indexes: Vec<i32> [0+],
    }

    struct ListPartitionReassignmentsResponse {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        error_message: Option<String> [0+ null 0+],
        topics: Vec<OngoingTopicReassignment> [0+],
    }

    struct OngoingTopicReassignment {
        name: String [0+],
        partitions: Vec<OngoingPartitionReassignment> [0+],
    }

    struct OngoingPartitionReassignment {
        partition_index: i32 [0+],
        replicas: Vec<i32> [0+],
        adding_replicas: Vec<i32> [0+],
        removing_replicas: Vec<i32> [0+],
    }
}
