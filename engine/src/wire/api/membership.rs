//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup: membership in classic consumer groups.

use super::schema::messages;

messages! {
    JoinGroup: JoinGroupRequest -> JoinGroupResponse, versions 0-9, flexible 6+;

    struct JoinGroupRequest {
        group_id: String [0+],
        session_timeout_ms: i32 [0+],
        /// How long the group waits for this member when it rebalances; -1 for as long as the
        /// session timeout.
        rebalance_timeout_ms: i32 [1+] = -1,
        /// Empty from a member that has no id yet.
        member_id: String [0+],
        /// The static member's own name (KIP-345).
        group_instance_id: Option<String> [5+ null 5+],
        /// `consumer`, `connect`, ...
        protocol_type: String [0+],
        /// The assignment strategies the member can do, the preferred one first.
        protocols: Vec<JoinGroupRequestProtocol> [0+],
        /// Why the member joins (KIP-800).
        reason: Option<String> [8+ null 8+],
    }

    struct JoinGroupRequestProtocol {
        name: String [0+],
        metadata: Vec<u8> [0+],
    }

    struct JoinGroupResponse {
        throttle_time_ms: i32 [2+],
        error_code: i16 [0+],
        generation_id: i32 [0+] = -1,
        protocol_type: Option<String> [7+ null 7+],
        protocol_name: Option<String> [0+ null 7+],
        leader: String [0+],
        /// Whether the leader keeps its hands off the assignment (KIP-814).
        skip_assignment: bool [9+],
        member_id: String [0+],
        /// All members for the leader, none for the others.
        members: Vec<JoinGroupResponseMember> [0+],
    }

    struct JoinGroupResponseMember {
        member_id: String [0+],
        group_instance_id: Option<String> [5+ null 5+],
        metadata: Vec<u8> [0+],
    }
}

messages! {
    SyncGroup: SyncGroupRequest -> SyncGroupResponse, versions 0-5, flexible 4+;

    struct SyncGroupRequest {
        group_id: String [0+],
        generation_id: i32 [0+],
        member_id: String [0+],
        group_instance_id: Option<String> [3+ null 3+],
        protocol_type: Option<String> [5+ null 5+],
        protocol_name: Option<String> [5+ null 5+],
        /// Every member's share from the leader, nothing from the others.
        assignments: Vec<SyncGroupRequestAssignment> [0+],
    }

    struct SyncGroupRequestAssignment {
        member_id: String [0+],
        assignment: Vec<u8> [0+],
    }

    struct SyncGroupResponse {
        throttle_time_ms: i32 [1+],
        error_code: i16 [0+],
        protocol_type: Option<String> [5+ null 5+],
        protocol_name: Option<String> [5+ null 5+],
        assignment: Vec<u8> [0+],
    }
}

messages! {
    Heartbeat: HeartbeatRequest -> HeartbeatResponse, versions 0-4, flexible 4+;

    struct HeartbeatRequest {
        group_id: String [0+],
        generation_id: i32 [0+],
        member_id: String [0+],
        group_instance_id: Option<String> [3+ null 3+],
    }

    struct HeartbeatResponse {
        throttle_time_ms: i32 [1+],
        error_code: i16 [0+],
    }
}

messages! {
    LeaveGroup: LeaveGroupRequest -> LeaveGroupResponse, versions 0-5, flexible 4+;

    /// Before version 3 one member leaves, from then on several may be sent away.
    struct LeaveGroupRequest {
        group_id: String [0+],
        member_id: String [0-2],
        members: Vec<MemberIdentity> [3+],
    }

    struct MemberIdentity {
        member_id: String [3+],
        group_instance_id: Option<String> [3+ null 3+],
        reason: Option<String> [5+ null 5+],
    }

    struct LeaveGroupResponse {
        throttle_time_ms: i32 [1+],
        error_code: i16 [0+],
        members: Vec<MemberResponse> [3+],
    }

    struct MemberResponse {
        member_id: String [3+],
        group_instance_id: Option<String> [3+ null 3+],
        error_code: i16 [3+],
    }
}
