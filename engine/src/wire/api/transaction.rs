//! Transactions (KIP-98, KIP-890): their partitions, offsets and end, and looking at them.

use super::schema::messages;

messages! {
    AddPartitionsToTxn: AddPartitionsToTxnRequest -> AddPartitionsToTxnResponse,
    versions 0-5, flexible 3+;

    /// Up to version 3 a client's one transaction, from 4 on brokers' batches of them.
    struct AddPartitionsToTxnRequest {
        transactions: Vec<AddPartitionsToTxnTransaction> [4+],
        v3_and_below_transactional_id: String [0-3],
        v3_and_below_producer_id: i64 [0-3],
        v3_and_below_producer_epoch: i16 [0-3],
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic> [0-3],
    }

    struct AddPartitionsToTxnTransaction {
        transactional_id: String [4+],
        producer_id: i64 [4+],
        producer_epoch: i16 [4+],
        /// Whether to check only that the partitions belong to the transaction.
        verify_only: bool [4+],
        topics: Vec<AddPartitionsToTxnTopic> [4+],
    }

    struct AddPartitionsToTxnTopic {
        name: String [0+],
        partitions: Vec<i32> [0+],
    }

    struct AddPartitionsToTxnResponse {
        throttle_time_ms: i32 [0+],
        error_code: i16 [4+],
        results_by_transaction: Vec<AddPartitionsToTxnResult> [4+],
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult> [0-3],
    }

    struct AddPartitionsToTxnResult {
        transactional_id: String [4+],
        topic_results: Vec<AddPartitionsToTxnTopicResult> [4+],
    }

    struct AddPartitionsToTxnTopicResult {
        name: String [0+],
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult> [0+],
    }

    struct AddPartitionsToTxnPartitionResult {
        partition_index: i32 [0+],
        partition_error_code: i16 [0+],
    }
}

messages! {
    AddOffsetsToTxn: AddOffsetsToTxnRequest -> AddOffsetsToTxnResponse, versions 0-4, flexible 3+;

    struct AddOffsetsToTxnRequest {
        transactional_id: String [0+],
        producer_id: i64 [0+],
        producer_epoch: i16 [0+],
        group_id: String [0+],
    }

    struct AddOffsetsToTxnResponse {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
    }
}

messages! {
    EndTxn: EndTxnRequest -> EndTxnResponse, versions 0-5, flexible 3+;

    struct EndTxnRequest {
        transactional_id: String [0+],
        producer_id: i64 [0+],
        producer_epoch: i16 [0+],
        /// Commit or abort.
        committed: bool [0+],
    }

    /// From version 5 on every end of a transaction brings a new epoch.
    struct EndTxnResponse {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        producer_id: i64 [5+] = -1,
        producer_epoch: i16 [5+] = -1,
    }
}

messages! {
    TxnOffsetCommit: TxnOffsetCommitRequest -> TxnOffsetCommitResponse, versions 0-5, flexible 3+;

    struct TxnOffsetCommitRequest {
        transactional_id: String [0+],
        group_id: String [0+],
        producer_id: i64 [0+],
        producer_epoch: i16 [0+],
        generation_id: i32 [3+] = -1,
        member_id: String [3+],
        group_instance_id: Option<String> [3+ null 3+],
        topics: Vec<TxnOffsetCommitRequestTopic> [0+],
    }

    struct TxnOffsetCommitRequestTopic {
        name: String [0+],
        partitions: Vec<TxnOffsetCommitRequestPartition> [0+],
    }

    struct TxnOffsetCommitRequestPartition {
        partition_index: i32 [0+],
        committed_offset: i64 [0+],
        committed_leader_epoch: i32 [2+] = -1,
        committed_metadata: Option<String> [0+ null 0+],
    }

    struct TxnOffsetCommitResponse {
        throttle_time_ms: i32 [0+],
        topics: Vec<TxnOffsetCommitResponseTopic> [0+],
    }

    struct TxnOffsetCommitResponseTopic {
        name: String [0+],
        partitions: Vec<TxnOffsetCommitResponsePartition> [0+],
    }

    struct TxnOffsetCommitResponsePartition {
        partition_index: i32 [0+],
        error_code: i16 [0+],
    }
}

messages! {
    DescribeTransactions: DescribeTransactionsRequest -> DescribeTransactionsResponse,
    versions 0-0, flexible 0+;

    struct DescribeTransactionsRequest {
        transactional_ids: Vec<String> [0+],
    }

    struct DescribeTransactionsResponse {
        throttle_time_ms: i32 [0+],
        transaction_states: Vec<DescribeTransactionsState> [0+],
    }

    struct DescribeTransactionsState {
        error_code: i16 [0+],
        transactional_id: String [0+],
        transaction_state: String [0+],
        transaction_timeout_ms: i32 [0+],
        /// Milliseconds since 1970.
        transaction_start_time_ms: i64 [0+],
        producer_id: i64 [0+],
        producer_epoch: i16 [0+],
        topics: Vec<DescribeTransactionsTopic> [0+],
    }

    struct DescribeTransactionsTopic {
        topic: String [0+],
        partitions: Vec<i32> [0+],
    }
}

messages! {
    ListTransactions: ListTransactionsRequest -> ListTransactionsResponse,
    versions 0-2, flexible 0+;

    /// Asks for transactions that pass every filter; an empty filter lets all pass.
    struct ListTransactionsRequest {
        state_filters: Vec<String> [0+],
        producer_id_filters: Vec<i64> [0+],
        /// Open for longer than this many milliseconds; -1 for any.
        duration_filter: i64 [1+] = -1,
        /// A regular expression for the transactional id (KIP-1152).
        transactional_id_pattern: Option<String> [2+ null 2+],
    }

    struct ListTransactionsResponse {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        unknown_state_filters: Vec<String> [0+],
        transaction_states: Vec<ListTransactionsState> [0+],
    }

    struct ListTransactionsState {
        transactional_id: String [0+],
        producer_id: i64 [0+],
        transaction_state: String [0+],
    }
}
