//! DescribeConfigs and IncrementalAlterConfigs of a broker's loggers (KIP-412).

use std::collections::BTreeSet;

use super::{Failure, node, once, operation, plain};
use crate::broker::Core;
use crate::broker::auth::{Operation, Resource};
use crate::broker::dispatch::Incoming;
use crate::broker::loggers::{LoggerError, Loggers};
use crate::io::Io;
use crate::wire::api::{DescribeConfigsResourceResult, IncrementalAlterableConfig};
use crate::wire::code::ErrorCode;

/// Kafka's number for the source of a logger's level.
const DYNAMIC_BROKER_LOGGER: i8 = 6;

/// The loggers of the broker that is named.
fn loggers<'a, I: Io>(core: &'a Core<I>, name: &str) -> Result<&'a Loggers, Failure> {
    if node(core, name)?.is_none() {
        let message = "loggers are those of one broker: name it".to_owned();
        return Err((ErrorCode::InvalidRequest, message));
    }
    core.shared.loggers.as_deref().ok_or_else(|| {
        let message = "what this broker reports is up to the program that it runs in".to_owned();
        (ErrorCode::InvalidRequest, message)
    })
}

/// Tells the level of every logger.
pub fn describe<I: Io>(
    core: &Core<I>,
    incoming: &Incoming,
    name: &str,
) -> Result<Vec<DescribeConfigsResourceResult>, Failure> {
    let client = &incoming.client;
    if !client.authorizer.allows(client, Operation::DescribeConfigs, Resource::Cluster) {
        return Err(plain(ErrorCode::ClusterAuthorizationFailed));
    }
    let all = loggers(core, name)?.all().into_iter();
    let described = |(name, level): (&str, &str)| DescribeConfigsResourceResult {
        name: name.to_owned(),
        value: Some(level.to_owned()),
        config_source: DYNAMIC_BROKER_LOGGER,
        ..DescribeConfigsResourceResult::default()
    };
    Ok(all.map(described).collect())
}

/// Sets levels, and takes them off.
pub fn alter<I: Io>(
    core: &Core<I>,
    incoming: &Incoming,
    name: &str,
    configs: &[IncrementalAlterableConfig],
    validate_only: bool,
) -> Result<(), Failure> {
    let client = &incoming.client;
    if !client.authorizer.allows(client, Operation::AlterConfigs, Resource::Cluster) {
        return Err(plain(ErrorCode::ClusterAuthorizationFailed));
    }
    let loggers = loggers(core, name)?;
    let mut named = BTreeSet::new();
    let mut changes = Vec::new();
    for config in configs {
        once(&mut named, &config.name)?;
        let level = match config.config_operation {
            operation::SET => Some(config.value.as_deref().unwrap_or_default()),
            operation::DELETE => None,
            _ => {
                let message = "the level of a logger can be set or deleted".to_owned();
                return Err((ErrorCode::InvalidRequest, message));
            }
        };
        changes.push((&*config.name, level));
    }
    loggers.change(&changes, validate_only).map_err(|error| {
        let code = match error {
            LoggerError::Root => ErrorCode::InvalidRequest,
            LoggerError::Unknown(_) | LoggerError::Level(_) => ErrorCode::InvalidConfig,
        };
        (code, error.to_string())
    })
}
