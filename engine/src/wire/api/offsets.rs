//! ListOffsets and OffsetForLeaderEpoch: from times, ends and epochs to offsets.

use super::schema::messages;

messages! {
    ListOffsets: ListOffsetsRequest -> ListOffsetsResponse, versions 1-11, flexible 6+;

    /// Asks for one offset per partition.
    struct ListOffsetsRequest {
        /// The asking follower's broker id, -1 from a client.
        replica_id: i32 [0+] = -1,
        /// 0 counts all records, 1 (`read_committed`) only those below the last stable offset.
        isolation_level: i8 [2+],
        topics: Vec<ListOffsetsTopic> [0+],
        /// How long remote storage may take, in milliseconds (KIP-1075).
        timeout_ms: i32 [10+],
    }

    struct ListOffsetsTopic {
        name: String [0+],
        partitions: Vec<ListOffsetsPartition> [0+],
    }

    struct ListOffsetsPartition {
        partition_index: i32 [0+],
        /// The leader epoch the client knows, -1 for none; an older or newer one is refused.
        current_leader_epoch: i32 [4+] = -1,
        /// Milliseconds since 1970, or: -1 the end of the log, -2 its start, -3 the record with
        /// the largest timestamp (version 7), -4 the start of local storage (8), -5 the end of
        /// tiered storage (9), -6 the start of what is not yet uploaded (11).
        timestamp: i64 [0+],
    }

    struct ListOffsetsResponse {
        throttle_time_ms: i32 [2+],
        topics: Vec<ListOffsetsTopicResponse> [0+],
    }

    struct ListOffsetsTopicResponse {
        name: String [0+],
        partitions: Vec<ListOffsetsPartitionResponse> [0+],
    }

    struct ListOffsetsPartitionResponse {
        partition_index: i32 [0+],
        error_code: i16 [0+],
        /// The found record's timestamp in milliseconds, -1 if none was found or asked for.
        timestamp: i64 [1+] = -1,
        /// -1 if none was found.
        offset: i64 [1+] = -1,
        leader_epoch: i32 [4+] = -1,
    }
}

messages! {
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest -> OffsetForLeaderEpochResponse,
    versions 2-4, flexible 4+;

    /// Asks where leader epochs end (KIP-101, KIP-320).
    struct OffsetForLeaderEpochRequest {
        /// A follower's broker id, -1 from a consumer, -2 for reading beyond the high watermark.
        replica_id: i32 [3+] = -2,
        topics: Vec<OffsetForLeaderTopic> [0+],
    }

    struct OffsetForLeaderTopic {
        topic: String [0+],
        partitions: Vec<OffsetForLeaderPartition> [0+],
    }

    struct OffsetForLeaderPartition {
        partition: i32 [0+],
        /// The leader epoch the client knows, -1 for none; an older or newer one is refused.
        current_leader_epoch: i32 [2+] = -1,
        /// The epoch whose end is asked for.
        leader_epoch: i32 [0+],
    }

    struct OffsetForLeaderEpochResponse {
        throttle_time_ms: i32 [2+],
        topics: Vec<OffsetForLeaderTopicResult> [0+],
    }

    struct OffsetForLeaderTopicResult {
        topic: String [0+],
        partitions: Vec<EpochEndOffset> [0+],
    }

    struct EpochEndOffset {
        error_code: i16 [0+],
        partition: i32 [0+],
        /// The largest epoch not above the one asked for, -1 if there is none.
        leader_epoch: i32 [1+] = -1,
        /// The offset after that epoch's last record, -1 if there is none.
        end_offset: i64 [0+] = -1,
    }
}
