//! ListGroups, DescribeGroups and DeleteGroups: groups seen from outside.

use super::schema::messages;

messages! {
    ListGroups: ListGroupsRequest -> ListGroupsResponse, versions 0-5, flexible 3+;

    /// Asks for the groups this broker coordinates.
    struct ListGroupsRequest {
        /// The states asked for, such as `Stable`; empty for all.
        states_filter: Vec<String> [4+],
        /// The types asked for, such as `classic`; empty for all.
        types_filter: Vec<String> [5+],
    }

    struct ListGroupsResponse {
        throttle_time_ms: i32 [1+],
        error_code: i16 [0+],
        groups: Vec<ListedGroup> [0+],
    }

    struct ListedGroup {
        group_id: String [0+],
        protocol_type: String [0+],
        group_state: String [4+],
        group_type: String [5+],
    }
}

messages! {
    DescribeGroups: DescribeGroupsRequest -> DescribeGroupsResponse, versions 0-6, flexible 5+;

    struct DescribeGroupsRequest {
        groups: Vec<String> [0+],
        include_authorized_operations: bool [3+],
    }

    struct DescribeGroupsResponse {
        throttle_time_ms: i32 [1+],
        groups: Vec<DescribedGroup> [0+],
    }

    struct DescribedGroup {
        error_code: i16 [0+],
        error_message: Option<String> [6+ null 6+],
        group_id: String [0+],
        /// Empty if there was an error.
        group_state: String [0+],
        protocol_type: String [0+],
        /// The name of the assignment strategy.
        protocol_data: String [0+],
        members: Vec<DescribedGroupMember> [0+],
        /// A set of operations as bits, `i32::MIN` if it was not asked for.
        authorized_operations: i32 [3+] = i32::MIN,
    }

    struct DescribedGroupMember {
        member_id: String [0+],
        group_instance_id: Option<String> [4+ null 4+],
        client_id: String [0+],
        client_host: String [0+],
        member_metadata: Vec<u8> [0+],
        member_assignment: Vec<u8> [0+],
    }
}

messages! {
    DeleteGroups: DeleteGroupsRequest -> DeleteGroupsResponse, versions 0-2, flexible 2+;

    struct DeleteGroupsRequest {
        groups_names: Vec<String> [0+],
    }

    struct DeleteGroupsResponse {
        throttle_time_ms: i32 [0+],
        results: Vec<DeletableGroupResult> [0+],
    }

    struct DeletableGroupResult {
        group_id: String [0+],
        error_code: i16 [0+],
    }
}
