//! ApiVersions: what a broker can do (KIP-35, KIP-511, KIP-584).

use super::schema::messages;

messages! {
    ApiVersions: ApiVersionsRequest -> ApiVersionsResponse, versions 0-4, flexible 3+;

    /// Asks which APIs, versions and features the broker has.
    struct ApiVersionsRequest {
        /// The client library's name, such as `apache-kafka-java`.
        client_software_name: String [3+],
        /// The client library's version.
        client_software_version: String [3+],
    }

    /// The broker's APIs and features. A request of an unknown version is answered with version
    /// 0 and error 35.
    struct ApiVersionsResponse {
        error_code: i16 [0+],
        api_keys: Vec<ApiVersion> [0+],
        throttle_time_ms: i32 [1+],
        /// Before version 4 clients refuse features whose lowest version is 0; leave them out.
        supported_features: Vec<SupportedFeatureKey> [3+ tag 0],
        /// The epoch of the finalized features, -1 if it is not known.
        finalized_features_epoch: i64 [3+ tag 1] = -1,
        /// The features that the whole cluster has agreed on; clients change protocol on these.
        finalized_features: Vec<FinalizedFeatureKey> [3+ tag 2],
        zk_migration_ready: bool [3+ tag 3],
    }

    /// One API with its range of versions, both ends included.
    struct ApiVersion {
        api_key: i16 [0+],
        min_version: i16 [0+],
        max_version: i16 [0+],
    }

    /// A feature that this broker could run.
    struct SupportedFeatureKey {
        name: String [3+],
        min_version: i16 [3+],
        max_version: i16 [3+],
    }

    /// A feature that the cluster runs.
    struct FinalizedFeatureKey {
        name: String [3+],
        max_version_level: i16 [3+],
        min_version_level: i16 [3+],
    }
}
