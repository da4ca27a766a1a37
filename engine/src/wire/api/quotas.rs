//! DescribeClientQuotas and AlterClientQuotas (KIP-546).

use super::schema::messages;

messages! {
    DescribeClientQuotas: DescribeClientQuotasRequest -> DescribeClientQuotasResponse,
    versions 0-1, flexible 1+;

    /// Asks which quotas are set, for entities that match every component.
    struct DescribeClientQuotasRequest {
        components: Vec<QuotaComponent> [0+],
        /// Whether entities with other types beside these do not match.
        strict: bool [0+],
    }

    struct QuotaComponent {
        /// `user`, `client-id` or `ip`.
        entity_type: String [0+],
        /// 0 the name in `match`, 1 the default, 2 whoever has a name or is the default.
        match_type: i8 [0+],
        r#match: Option<String> [0+ null 0+],
    }

    struct DescribeClientQuotasResponse {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        error_message: Option<String> [0+ null 0+],
        entries: Option<Vec<DescribedQuotas>> [0+ null 0+],
    }

    struct DescribedQuotas {
        entity: Vec<DescribedEntity> [0+],
        values: Vec<QuotaValue> [0+],
    }

    struct DescribedEntity {
        entity_type: String [0+],
        /// Null for the default.
        entity_name: Option<String> [0+ null 0+],
    }

    struct QuotaValue {
        key: String [0+],
        value: f64 [0+],
    }
}

messages! {
    AlterClientQuotas: AlterClientQuotasRequest -> AlterClientQuotasResponse,
    versions 0-1, flexible 1+;

    /// Sets and removes quotas.
    struct AlterClientQuotasRequest {
        entries: Vec<AlteredQuotas> [0+],
        validate_only: bool [0+],
    }

    struct AlteredQuotas {
        entity: Vec<AlteredEntity> [0+],
        ops: Vec<QuotaOperation> [0+],
    }

    struct AlteredEntity {
        entity_type: String [0+],
        /// Null for the default.
        entity_name: Option<String> [0+ null 0+],
    }

    struct QuotaOperation {
        key: String [0+],
        value: f64 [0+],
        remove: bool [0+],
    }

    struct AlterClientQuotasResponse {
        throttle_time_ms: i32 [0+],
        entries: Vec<QuotasOutcome> [0+],
    }

    struct QuotasOutcome {
        error_code: i16 [0+],
        error_message: Option<String> [0+ null 0+],
        entity: Vec<AlteredEntity> [0+],
    }
}
