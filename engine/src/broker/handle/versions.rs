//! ApiVersions (KIP-35, KIP-511): what this broker serves.

use std::rc::Rc;

use crate::broker::Core;
use crate::broker::dispatch::{Incoming, SERVED};
use crate::broker::reply::Reply;
use crate::io::Io;
use crate::wire::api::{ApiKey, ApiVersion, ApiVersionsRequest, ApiVersionsResponse, Message};
use crate::wire::code::ErrorCode;

/// Lists everything.
pub async fn list<I: Io>(
    _core: Rc<Core<I>>,
    incoming: Incoming,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    if incoming.version >= 3 && !well_named(&request) {
        incoming.warn("its software name or version is malformed (KIP-511)", "fix the client");
        return ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest.code(),
            ..ApiVersionsResponse::default()
        };
    }
    ApiVersionsResponse {
        api_keys: SERVED.iter().map(|(api, _)| range(*api)).collect(),
        // No features are finalized: -1 says that the epoch is unknown, and clients ignore it.
        finalized_features_epoch: -1,
        ..ApiVersionsResponse::default()
    }
}

/// The answer to a version that does not exist: version 0, so that anybody can read it.
pub fn unsupported<F>(incoming: &Incoming) -> Reply<F> {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: vec![range(ApiKey::ApiVersions)],
        ..ApiVersionsResponse::default()
    };
    incoming.reply_with(|out| response.encode(out, 0))
}

fn range(api: ApiKey) -> ApiVersion {
    let versions = SERVED.iter().find(|(served, _)| *served == api).map(|(_, range)| range);
    let versions = versions.expect("only what is served is listed");
    ApiVersion {
        api_key: api as i16,
        // Produce 0 to 2 are refused, but librdkafka takes a minimum above 0 for a broker that
        // cannot compress.
        min_version: if api == ApiKey::Produce { 0 } else { *versions.start() },
        max_version: *versions.end(),
    }
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`, as Kafka checks it.
fn well_named(request: &ApiVersionsRequest) -> bool {
    [&request.client_software_name, &request.client_software_version].into_iter().all(|name| {
        let bytes = name.as_bytes();
        let inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        let ends = [bytes.first(), bytes.last()];
        bytes.iter().all(inside)
            && ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
    })
}
