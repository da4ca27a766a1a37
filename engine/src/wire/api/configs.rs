//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs and ListConfigResources.
//!
//! Resource types: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.

use super::schema::messages;

messages! {
    DescribeConfigs: DescribeConfigsRequest -> DescribeConfigsResponse, versions 1-4, flexible 4+;

    struct DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource> [0+],
        include_synonyms: bool [1+],
        include_documentation: bool [3+],
    }

    struct DescribeConfigsResource {
        resource_type: i8 [0+],
        resource_name: String [0+],
        /// Null asks for all keys.
        configuration_keys: Option<Vec<String>> [0+ null 0+],
    }

    struct DescribeConfigsResponse {
        throttle_time_ms: i32 [0+],
        results: Vec<DescribeConfigsResult> [0+],
    }

    struct DescribeConfigsResult {
        error_code: i16 [0+],
        error_message: Option<String> [0+ null 0+],
        resource_type: i8 [0+],
        resource_name: String [0+],
        configs: Vec<DescribeConfigsResourceResult> [0+],
    }

    struct DescribeConfigsResourceResult {
        name: String [0+],
        value: Option<String> [0+ null 0+],
        read_only: bool [0+],
        /// Where the value comes from: 1 topic, 2 dynamic broker, 3 dynamic cluster default,
        /// 4 static broker, 5 default, 6 broker logger, 7 client metrics, 8 group.
        config_source: i8 [1+] = -1,
        is_sensitive: bool [0+],
        /// The values it would have from elsewhere, the one in force first.
        synonyms: Vec<DescribeConfigsSynonym> [1+],
        /// 0 unknown, 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class,
        /// 9 password.
        config_type: i8 [3+],
        documentation: Option<String> [3+ null 0+],
    }

    struct DescribeConfigsSynonym {
        name: String [1+],
        value: Option<String> [1+ null 0+],
        source: i8 [1+],
    }
}

messages! {
    AlterConfigs: AlterConfigsRequest -> AlterConfigsResponse, versions 0-2, flexible 2+;

    /// Sets the configs that are named and resets all others.
    struct AlterConfigsRequest {
        resources: Vec<AlterConfigsResource> [0+],
        /// Whether to check only and change nothing.
        validate_only: bool [0+],
    }

    struct AlterConfigsResource {
        resource_type: i8 [0+],
        resource_name: String [0+],
        configs: Vec<AlterableConfig> [0+],
    }

    struct AlterableConfig {
        name: String [0+],
        value: Option<String> [0+ null 0+],
    }

    struct AlterConfigsResponse {
        throttle_time_ms: i32 [0+],
        responses: Vec<AlterConfigsResourceResponse> [0+],
    }

    struct AlterConfigsResourceResponse {
        error_code: i16 [0+],
        error_message: Option<String> [0+ null 0+],
        resource_type: i8 [0+],
        resource_name: String [0+],
    }
}

messages! {
    IncrementalAlterConfigs: IncrementalAlterConfigsRequest -> IncrementalAlterConfigsResponse,
    versions 0-1, flexible 1+;

    /// Changes the configs that are named (KIP-339).
    struct IncrementalAlterConfigsRequest {
        resources: Vec<IncrementalAlterConfigsResource> [0+],
        /// Whether to check only and change nothing.
        validate_only: bool [0+],
    }

    struct IncrementalAlterConfigsResource {
        resource_type: i8 [0+],
        resource_name: String [0+],
        configs: Vec<IncrementalAlterableConfig> [0+],
    }

    struct IncrementalAlterableConfig {
        name: String [0+],
        /// 0 set, 1 delete, 2 append to a list, 3 take from a list.
        config_operation: i8 [0+],
        value: Option<String> [0+ null 0+],
    }

    struct IncrementalAlterConfigsResponse {
        throttle_time_ms: i32 [0+],
        responses: Vec<IncrementalAlterConfigsResourceResponse> [0+],
    }

    struct IncrementalAlterConfigsResourceResponse {
        error_code: i16 [0+],
        error_message: Option<String> [0+ null 0+],
        resource_type: i8 [0+],
        resource_name: String [0+],
    }
}

messages! {
    ListConfigResources: ListConfigResourcesRequest -> ListConfigResourcesResponse,
    versions 0-1, flexible 0+;

    /// Asks which resources have configs; in version 0, which has no filter, for client metrics
    /// (KIP-714, KIP-1142).
    struct ListConfigResourcesRequest {
        /// Empty asks for all types.
        resource_types: Vec<i8> [1+],
    }

    struct ListConfigResourcesResponse {
        throttle_time_ms: i32 [0+],
        error_code: i16 [0+],
        config_resources: Vec<ConfigResource> [0+],
    }

    struct ConfigResource {
        resource_name: String [0+],
        resource_type: i8 [1+] = 16,
    }
}
