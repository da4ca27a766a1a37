//! FindCoordinator: which broker looks after a group, a transactional id or a share partition.

use super::schema::messages;

messages! {
    FindCoordinator: FindCoordinatorRequest -> FindCoordinatorResponse, versions 0-6, flexible 3+;

    /// Asks for the coordinators of keys; before version 4 of one key (KIP-699).
    struct FindCoordinatorRequest {
        key: String [0-3],
        /// 0 group, 1 transactional id, 2 share partition (version 6).
        key_type: i8 [1+],
        coordinator_keys: Vec<String> [4+],
    }

    /// The coordinators; before version 4 the fields of the one stand here.
    struct FindCoordinatorResponse {
        throttle_time_ms: i32 [1+],
        error_code: i16 [0-3],
        error_message: Option<String> [1-3 null 1-3],
        node_id: i32 [0-3],
        host: String [0-3],
        port: i32 [0-3],
        coordinators: Vec<Coordinator> [4+],
    }

    struct Coordinator {
        key: String [4+],
        node_id: i32 [4+],
        host: String [4+],
        port: i32 [4+],
        error_code: i16 [4+],
        error_message: Option<String> [4+ null 4+],
    }
}
