//! FindCoordinator: there are no groups and no transactions yet, and the answer says so politely:
//! a retriable error, as from a Kafka whose coordinator is not there.

use std::rc::Rc;

use crate::broker::Core;
use crate::broker::dispatch::Incoming;
use crate::io::Io;
use crate::wire::api::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use crate::wire::code::ErrorCode;

const WHY: &str = "this broker has no group or transaction coordinator yet; consume with assigned \
                   partitions";

/// Answers COORDINATOR_NOT_AVAILABLE for every key.
pub async fn find<I: Io>(
    _core: Rc<Core<I>>,
    incoming: Incoming,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    incoming.warn("groups and transactions are not served", "assign partitions by hand");
    let error_code = ErrorCode::CoordinatorNotAvailable.code();
    let error_message = Some(WHY.to_owned());
    let none = |key| Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code,
        error_message: error_message.clone(),
        ..Coordinator::default()
    };
    FindCoordinatorResponse {
        // Up to version 3 there is one key, and the answer stands at the top.
        error_code,
        error_message: error_message.clone(),
        node_id: -1,
        port: -1,
        coordinators: request.coordinator_keys.into_iter().map(none).collect(),
        ..FindCoordinatorResponse::default()
    }
}
