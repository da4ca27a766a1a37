//! DescribeCluster and DescribeLogDirs.

use super::schema::messages;

messages! {
    DescribeCluster: DescribeClusterRequest -> DescribeClusterResponse, versions 0-2, flexible 0+;

    struct DescribeClusterRequest {
        include_cluster_authorized_operations: bool [0+],
        /// 1 brokers, 2 controllers.
        endpoint_type: i8 [1+] = 1,
        include_fenced_brokers: bool [2+],
    }

    struct DescribeClusterResponse {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        error_message: Option<String> [0+ null 0+],
        endpoint_type: i8 [1+] = 1,
        cluster_id: String [0+],
        controller_id: i32 [0+] = -1,
        brokers: Vec<DescribeClusterBroker> [0+],
        /// A set of operations as bits, `i32::MIN` if it was not asked for.
        cluster_authorized_operations: i32 [0+] = i32::MIN,
    }

    struct DescribeClusterBroker {
        broker_id: i32 [0+],
        host: String [0+],
        port: i32 [0+],
        rack: Option<String> [0+ null 0+],
        is_fenced: bool [2+],
    }
}

messages! {
    DescribeLogDirs: DescribeLogDirsRequest -> DescribeLogDirsResponse, versions 1-5, flexible 2+;

    struct DescribeLogDirsRequest {
        /// Null asks for all topics.
        topics: Option<Vec<DescribableLogDirTopic>> [0+ null 0+],
    }

    struct DescribableLogDirTopic {
        topic: String [0+],
        partitions: Vec<i32> [0+],
    }

    struct DescribeLogDirsResponse {
        throttle_time_ms: i32 [0+],
        error_code: i16 [3+],
        results: Vec<DescribeLogDirsResult> [0+],
    }

    struct DescribeLogDirsResult {
        error_code: i16 [0+],
        log_dir: String [0+],
        topics: Vec<DescribeLogDirsTopic> [0+],
        /// The file system's size (KIP-827), -1 if it is not known.
        total_bytes: i64 [4+] = -1,
        usable_bytes: i64 [4+] = -1,
        /// Whether no new partitions are put there (KIP-1066).
        is_cordoned: bool [5+],
    }

    struct DescribeLogDirsTopic {
        name: String [0+],
        partitions: Vec<DescribeLogDirsPartition> [0+],
    }

    struct DescribeLogDirsPartition {
        partition_index: i32 [0+],
        /// Bytes of the log's segments.
        partition_size: i64 [0+],
        /// How far the log is behind the high watermark, or a future log behind the current one.
        offset_lag: i64 [0+],
        is_future_key: bool [0+],
    }
}
