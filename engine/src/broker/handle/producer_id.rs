//! InitProducerId without transactions: an identity for an idempotent producer (KIP-98, KIP-360).

use std::rc::Rc;

use crate::broker::Core;
use crate::broker::auth::{Operation, Resource};
use crate::broker::dispatch::Incoming;
use crate::io::Io;
use crate::wire::api::{InitProducerIdRequest, InitProducerIdResponse};
use crate::wire::code::ErrorCode;

/// Gives a fresh identity. A producer without a transactional id raises its epoch by itself; when it
/// asks, it needs another id, and what it had is not looked at, as in Kafka.
pub async fn init<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let refuse = |code: ErrorCode| InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    };
    let client = &incoming.client;
    if !client.authorizer.allows(client, Operation::IdempotentWrite, Resource::Cluster) {
        return refuse(ErrorCode::ClusterAuthorizationFailed);
    }
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        let what = format!(
            "InitProducerId with producer id {} and epoch {}",
            request.producer_id, request.producer_epoch
        );
        incoming.warn(&what, "send both, or -1 for both");
        return refuse(ErrorCode::InvalidRequest);
    }
    if request.transactional_id.as_ref().is_some_and(String::is_empty) {
        incoming.warn("InitProducerId with an empty transactional id", "leave it unset");
        return refuse(ErrorCode::InvalidRequest);
    }
    if request.transactional_id.is_some() {
        incoming.warn("transactions are not served", "leave transactional.id unset");
        return refuse(ErrorCode::UnsupportedVersion);
    }
    match core.producer_ids.take(&core.shared).await {
        Ok(id) => InitProducerIdResponse {
            producer_id: id.0,
            producer_epoch: 0,
            ..InitProducerIdResponse::default()
        },
        Err(refused) => {
            incoming.warn(&refused.to_string(), "see the broker's log; then retry");
            // Retriable: the cluster machine may be back after a restart.
            refuse(ErrorCode::CoordinatorNotAvailable)
        }
    }
}
