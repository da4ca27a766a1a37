//! DescribeUserScramCredentials (KIP-554). Nobody has credentials, because nobody authenticates: that is
//! the answer. Kafka's `kafka-configs` asks for it before it shows the quotas of users, and shows
//! nothing without.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::broker::Core;
use crate::broker::auth::{Operation, Resource};
use crate::broker::dispatch::Incoming;
use crate::io::Io;
use crate::wire::api::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse, ScramUserCredentials,
};
use crate::wire::code::ErrorCode;

/// Tells of each user that is named that there are no credentials; of all users, that there are none.
pub async fn describe<I: Io>(
    _core: Rc<Core<I>>,
    incoming: Incoming,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let client = &incoming.client;
    if !client.authorizer.allows(client, Operation::Describe, Resource::Cluster) {
        let code = ErrorCode::ClusterAuthorizationFailed;
        return DescribeUserScramCredentialsResponse {
            error_code: code.code(),
            error_message: Some(code.message().to_owned()),
            ..DescribeUserScramCredentialsResponse::default()
        };
    }
    let mut named: BTreeMap<String, u32> = BTreeMap::new();
    for user in request.users.unwrap_or_default() {
        *named.entry(user.name).or_default() += 1;
    }
    let results = named.into_iter().map(|(user, times)| {
        let code =
            if times > 1 { ErrorCode::DuplicateResource } else { ErrorCode::ResourceNotFound };
        ScramUserCredentials {
            error_message: Some(format!("user {user}: {}", code.message())),
            user,
            error_code: code.code(),
            ..ScramUserCredentials::default()
        }
    });
    DescribeUserScramCredentialsResponse {
        results: results.collect(),
        ..DescribeUserScramCredentialsResponse::default()
    }
}
