//! DeleteTopics.

use crate::id::TopicId;
use crate::wire::api::schema::messages;

messages! {
    DeleteTopics: DeleteTopicsRequest -> DeleteTopicsResponse, versions 1-6, flexible 4+;

    struct DeleteTopicsRequest {
        topics: Vec<DeleteTopicState> [6+],
        topic_names: Vec<String> [0-5],
        timeout_ms: i32 [0+],
    }

    /// A topic by name or by id.
    struct DeleteTopicState {
        name: Option<String> [6+ null 6+],
        topic_id: TopicId [6+],
    }

    struct DeleteTopicsResponse {
        throttle_time_ms: i32 [1+],
        responses: Vec<DeletableTopicResult> [0+],
    }

    struct DeletableTopicResult {
        /// Null for an id that does not exist.
        name: Option<String> [0+ null 6+],
        topic_id: TopicId [6+],
        error_code: i16 [0+],
        error_message: Option<String> [5+ null 5+],
    }
}
