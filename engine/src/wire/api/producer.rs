//! InitProducerId and DescribeProducers: identities of idempotent and transactional producers.

use super::schema::messages;

messages! {
    InitProducerId: InitProducerIdRequest -> InitProducerIdResponse, versions 0-5, flexible 2+;

    /// Asks for a producer id, or for a new epoch of one (KIP-98, KIP-360).
    struct InitProducerIdRequest {
        /// Null for a producer that is idempotent only.
        transactional_id: Option<String> [0+ null 0+],
        /// After how many milliseconds without news an open transaction is aborted.
        transaction_timeout_ms: i32 [0+],
        /// The id that the producer has and wants a new epoch of, -1 for none.
        producer_id: i64 [3+] = -1,
        producer_epoch: i16 [3+] = -1,
    }

    struct InitProducerIdResponse {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        producer_id: i64 [0+] = -1,
        producer_epoch: i16 [0+],
    }
}

messages! {
    DescribeProducers: DescribeProducersRequest -> DescribeProducersResponse,
    versions 0-0, flexible 0+;

    /// Asks what partitions know of their producers (KIP-664).
    struct DescribeProducersRequest {
        topics: Vec<DescribeProducersTopicRequest> [0+],
    }

    struct DescribeProducersTopicRequest {
        name: String [0+],
        partition_indexes: Vec<i32> [0+],
    }

    struct DescribeProducersResponse {
        throttle_time_ms: i32 [0+],
        topics: Vec<DescribeProducersTopicResponse> [0+],
    }

    struct DescribeProducersTopicResponse {
        name: String [0+],
        partitions: Vec<DescribeProducersPartitionResponse> [0+],
    }

    struct DescribeProducersPartitionResponse {
        partition_index: i32 [0+],
        error_code: i16 [0+],
        error_message: Option<String> [0+ null 0+],
        active_producers: Vec<ProducerState> [0+],
    }

    struct ProducerState {
        producer_id: i64 [0+],
        producer_epoch: i32 [0+],
        last_sequence: i32 [0+] = -1,
        /// Milliseconds since 1970.
        last_timestamp: i64 [0+] = -1,
        coordinator_epoch: i32 [0+],
        /// Where the open transaction begins, -1 if there is none.
        current_txn_start_offset: i64 [0+] = -1,
    }
}
