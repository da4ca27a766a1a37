//! InitProducerId: identities for idempotent and transactional producers (KIP-98, KIP-360).

use super::schema::messages;

messages! {
    InitProducerId: InitProducerIdRequest -> InitProducerIdResponse, versions 0-5, flexible 2+;

    /// Asks for a producer id, or for a new epoch of one.
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
