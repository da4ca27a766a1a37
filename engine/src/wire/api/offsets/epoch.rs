//! OffsetForLeaderEpoch: where a leader epoch ends (KIP-101, KIP-320).

use crate::wire::api::schema::messages;

messages! {
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest -> OffsetForLeaderEpochResponse,
    versions 2-4, flexible 4+;

    /// Asks where epochs end.
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
