//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs (KIP-339) and ListConfigResources
//! (KIP-1142): what settings there are, where they come from, and changing those of topics.
//!
//! A change takes hold at once: the machine checks it, and every partition that it concerns is told.
//! A broker's settings are those it was started with, but for those that Kafka, too, lets change
//! while it runs (KIP-226): the cluster keeps them, for one broker (its number is the resource's
//! name) or for all (the name is empty). A broker's loggers are another file's.

mod loggers;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use super::find_topic;
use crate::broker::Core;
use crate::broker::auth::{Operation, Resource};
use crate::broker::dispatch::Incoming;
use crate::broker::remedy;
use crate::config::{self, Key, Kind, Source, kind};
use crate::id::{NodeId, TopicId};
use crate::io::Io;
use crate::machine::{Command, Image, Topic};
use crate::wire::api::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse, AlterableConfig,
    ConfigResource, DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResourceResponse,
    IncrementalAlterConfigsResponse, IncrementalAlterableConfig, ListConfigResourcesRequest,
    ListConfigResourcesResponse,
};
use crate::wire::code::ErrorCode;

/// Kafka's numbers of the kinds of resources that have settings.
mod resource {
    pub const TOPIC: i8 = 2;
    pub const BROKER: i8 = 4;
    pub const BROKER_LOGGER: i8 = 8;
    pub const CLIENT_METRICS: i8 = 16;
    pub const GROUP: i8 = 32;
}

/// Kafka's numbers of what may happen to a setting.
mod operation {
    pub const SET: i8 = 0;
    pub const DELETE: i8 = 1;
    pub const APPEND: i8 = 2;
    pub const SUBTRACT: i8 = 3;
}

type Failure = (ErrorCode, String);

fn plain(code: ErrorCode) -> Failure {
    (code, code.message().to_owned())
}

/// Tells settings with their sources.
pub async fn describe<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let mut results = Vec::new();
    let mut named = BTreeSet::new();
    for wanted in &request.resources {
        // What is named again is not answered again: a small request has no huge answer.
        if !named.insert((wanted.resource_type, &wanted.resource_name)) {
            continue;
        }
        let described = match wanted.resource_type {
            resource::TOPIC => describe_topic(&core, &incoming, wanted),
            resource::BROKER => describe_broker(&core, &incoming, wanted),
            resource::BROKER_LOGGER => loggers::describe(&core, &incoming, &wanted.resource_name),
            // Nothing can be set for these here, so nothing is.
            resource::CLIENT_METRICS | resource::GROUP => Ok(Vec::new()),
            other => Err((
                ErrorCode::InvalidRequest,
                format!("resources of type {other} have no settings here; ask for 2, 4 or 8"),
            )),
        };
        let (code, message, mut configs) = match described {
            Ok(configs) => (ErrorCode::None, None, configs),
            Err((code, message)) => {
                let name = &wanted.resource_name;
                incoming.refused(code, format_args!("settings of {name}: {message}"));
                (code, Some(message), Vec::new())
            }
        };
        // An empty list stands for all keys, as none at all does.
        if let Some(keys) = wanted.configuration_keys.as_ref().filter(|keys| !keys.is_empty()) {
            configs.retain(|config| keys.contains(&config.name));
        }
        for config in &mut configs {
            if !request.include_synonyms {
                config.synonyms.clear();
            }
            if !request.include_documentation {
                config.documentation = None;
            }
        }
        results.push(DescribeConfigsResult {
            error_code: code.code(),
            error_message: message,
            resource_type: wanted.resource_type,
            resource_name: wanted.resource_name.clone(),
            configs,
        });
    }
    DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }
}

fn described(key: &Key, value: Option<String>, source: Source) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: key.name.to_owned(),
        value,
        read_only: false,
        config_source: source.code(),
        is_sensitive: false,
        synonyms: Vec::new(),
        config_type: key.kind.code(),
        documentation: Some(key.doc.to_owned()),
    }
}

fn describe_topic<I: Io>(
    core: &Core<I>,
    incoming: &Incoming,
    wanted: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, Failure> {
    let image = core.shared.image();
    let client = &incoming.client;
    let name = &wanted.resource_name;
    let topic = find_topic(&image, client, Operation::DescribeConfigs, name, TopicId::NONE)
        .map_err(plain)?;
    let broker = present(core, &image);
    let entries = config::Topic::entries(&broker, &topic.configs);
    let all = entries.map(|entry| {
        let synonym = |(name, value, source): (&str, String, Source)| DescribeConfigsSynonym {
            name: name.to_owned(),
            value: Some(value),
            source: source.code(),
        };
        DescribeConfigsResourceResult {
            synonyms: entry.synonyms.into_iter().map(synonym).collect(),
            ..described(entry.key, Some(entry.value), entry.source)
        }
    });
    Ok(all.collect())
}

fn describe_broker<I: Io>(
    core: &Core<I>,
    incoming: &Incoming,
    wanted: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, Failure> {
    let client = &incoming.client;
    if !client.authorizer.allows(client, Operation::DescribeConfigs, Resource::Cluster) {
        return Err(plain(ErrorCode::ClusterAuthorizationFailed));
    }
    let image = core.shared.image();
    let synonym = |key: &Key, value: &str, source: Source| DescribeConfigsSynonym {
        name: key.name.to_owned(),
        value: Some(value.to_owned()),
        source: source.code(),
    };
    let Some(_) = node(core, &wanted.resource_name)? else {
        // What is set for all brokers at once, and nothing else.
        let kept = image.broker_configs().get(&None);
        let all = kept.into_iter().flatten().filter_map(|(name, value)| {
            let key = config::dynamic::key_of(name).ok()?;
            Some(DescribeConfigsResourceResult {
                synonyms: vec![synonym(key, value, Source::DynamicDefault)],
                ..described(key, Some(value.clone()), Source::DynamicDefault)
            })
        });
        return Ok(all.collect());
    };
    let broker = present(core, &image);
    let all = broker.entries().map(|(key, value, source)| {
        let value = value.map(str::to_owned);
        let set = broker.set(key.name).map(|(value, source)| synonym(key, value, source));
        let default = key.default.map(|value| synonym(key, value, Source::Default));
        DescribeConfigsResourceResult {
            read_only: !config::dynamic::is_dynamic(key.name),
            synonyms: set.chain(default).collect(),
            ..described(key, value, source)
        }
    });
    Ok(all.collect())
}

/// This broker's settings as the image has them: the cores take them over a moment later.
fn present<I: Io>(core: &Core<I>, image: &Image) -> config::Broker {
    let kept = image.broker_configs();
    core.shared.config.with_dynamic(kept.get(&Some(core.shared.node)), kept.get(&None))
}

/// The broker that is named; `None` for all.
fn node<I: Io>(core: &Core<I>, name: &str) -> Result<Option<NodeId>, Failure> {
    if name.is_empty() {
        return Ok(None);
    }
    if name == core.shared.node.0.to_string() {
        return Ok(Some(core.shared.node));
    }
    let message = format!("there is no broker '{name}'; this one is {}", core.shared.node);
    Err((ErrorCode::InvalidRequest, message))
}

/// Changes to settings; `None` returns one to its default.
type Changes = BTreeMap<String, Option<String>>;

/// Whose settings are to be changed.
enum Target {
    Topic(Arc<Topic>),
    /// A broker's, or all brokers'.
    Broker(Option<NodeId>),
}

/// Settings as they are before a change.
struct Before {
    target: Target,
    /// Those of the target's own.
    own: BTreeMap<String, String>,
    /// The broker's in force.
    broker: config::Broker,
}

/// Sets the settings that are named, and returns all others to their defaults.
pub async fn alter<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let named = request.resources.iter().map(|one| (one.resource_type, &*one.resource_name));
    let repeated = repeated(named);
    let mut responses = Vec::new();
    let mut answered = BTreeSet::new();
    for wanted in request.resources {
        // As in Kafka, a resource is answered once.
        let named = (wanted.resource_type, wanted.resource_name.clone());
        if repeated.contains(&named) && !answered.insert(named.clone()) {
            continue;
        }
        let target = (wanted.resource_type, &*wanted.resource_name);
        let configs = wanted.configs;
        let changes = |before: &Before| replaced(&before.own, configs);
        let validate_only = request.validate_only;
        let outcome = if repeated.contains(&named) {
            Err(named_again())
        } else {
            change(&core, &incoming, target, validate_only, changes).await
        };
        let (code, message) = told(&incoming, &wanted.resource_name, outcome);
        responses.push(AlterConfigsResourceResponse {
            error_code: code.code(),
            error_message: message,
            resource_type: wanted.resource_type,
            resource_name: wanted.resource_name,
        });
    }
    AlterConfigsResponse { responses, ..AlterConfigsResponse::default() }
}

/// Changes the settings that are named.
pub async fn alter_some<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let named = request.resources.iter().map(|one| (one.resource_type, &*one.resource_name));
    let repeated = repeated(named);
    let mut responses = Vec::new();
    let mut answered = BTreeSet::new();
    for wanted in request.resources {
        // As in Kafka, a resource is answered once.
        let named = (wanted.resource_type, wanted.resource_name.clone());
        if repeated.contains(&named) && !answered.insert(named.clone()) {
            continue;
        }
        let (kind, name) = (wanted.resource_type, &*wanted.resource_name);
        let configs = wanted.configs;
        let validate_only = request.validate_only;
        let outcome = if repeated.contains(&named) {
            Err(named_again())
        } else if kind == resource::BROKER_LOGGER {
            loggers::alter(&core, &incoming, name, &configs, validate_only)
        } else {
            let changes = |before: &Before| edited(before, configs);
            change(&core, &incoming, (kind, name), validate_only, changes).await
        };
        let (code, message) = told(&incoming, &wanted.resource_name, outcome);
        responses.push(IncrementalAlterConfigsResourceResponse {
            error_code: code.code(),
            error_message: message,
            resource_type: wanted.resource_type,
            resource_name: wanted.resource_name,
        });
    }
    IncrementalAlterConfigsResponse { responses, ..IncrementalAlterConfigsResponse::default() }
}

fn told(
    incoming: &Incoming,
    name: &str,
    outcome: Result<(), Failure>,
) -> (ErrorCode, Option<String>) {
    match outcome {
        Ok(()) => (ErrorCode::None, None),
        Err((code, message)) => {
            let remedy = match code {
                ErrorCode::InvalidRequest => {
                    "name each resource and each setting once, and settings that can be changed while \
                     a broker runs"
                }
                other => remedy::of(other),
            };
            incoming.warn(&format!("settings of {name}: {message}"), remedy);
            (code, Some(message))
        }
    }
}

fn named_again() -> Failure {
    (ErrorCode::InvalidRequest, "the request names this resource more than once".to_owned())
}

/// The resources that a request names more than once.
fn repeated<'a>(named: impl Iterator<Item = (i8, &'a str)>) -> BTreeSet<(i8, String)> {
    let mut seen = BTreeSet::new();
    named.filter(|one| !seen.insert(*one)).map(|(kind, name)| (kind, name.to_owned())).collect()
}

/// Has the machine check and make the changes that `changes` finds necessary.
async fn change<I: Io>(
    core: &Core<I>,
    incoming: &Incoming,
    (kind, name): (i8, &str),
    validate_only: bool,
    changes: impl FnOnce(&Before) -> Result<Changes, Failure>,
) -> Result<(), Failure> {
    let _one_at_a_time = match validate_only {
        true => None,
        false => Some(core.shared.edits.lock().await),
    };
    let image = core.shared.image();
    let client = &incoming.client;
    let (target, own) = match kind {
        resource::TOPIC => {
            let found = find_topic(&image, client, Operation::AlterConfigs, name, TopicId::NONE);
            let topic: Arc<Topic> = found.map_err(plain)?;
            let own = topic.configs.clone();
            (Target::Topic(topic), own)
        }
        resource::BROKER => {
            if !client.authorizer.allows(client, Operation::AlterConfigs, Resource::Cluster) {
                return Err(plain(ErrorCode::ClusterAuthorizationFailed));
            }
            let node = node(core, name)?;
            let own = image.broker_configs().get(&node).cloned().unwrap_or_default();
            (Target::Broker(node), own)
        }
        resource::BROKER_LOGGER => {
            let message = "levels of loggers are changed by IncrementalAlterConfigs".to_owned();
            return Err((ErrorCode::InvalidRequest, message));
        }
        other => {
            let message = format!("settings of resources of type {other} cannot be changed here");
            return Err((ErrorCode::InvalidRequest, message));
        }
    };
    let before = Before { target, own, broker: present(core, &image) };
    let changes = changes(&before)?;
    let command = match (before.target, validate_only) {
        (Target::Topic(topic), true) => {
            Command::ValidateTopicConfigs { name: topic.name.to_string(), changes }
        }
        (Target::Topic(topic), false) => {
            Command::SetTopicConfigs { name: topic.name.to_string(), changes }
        }
        (Target::Broker(node), true) => Command::ValidateBrokerConfigs { node, changes },
        (Target::Broker(node), false) => Command::SetBrokerConfigs { node, changes },
    };
    let outcome = core.shared.order(command).await;
    outcome.map(|_| ()).map_err(|refused| (refused.code(), refused.to_string()))
}

/// The changes that leave nothing of `own` but these settings.
fn replaced(
    own: &BTreeMap<String, String>,
    configs: Vec<AlterableConfig>,
) -> Result<Changes, Failure> {
    let mut changes: Changes = own.keys().map(|key| (key.clone(), None)).collect();
    let mut named = BTreeSet::new();
    for config in configs {
        once(&mut named, &config.name)?;
        changes.insert(config.name, config.value);
    }
    Ok(changes)
}

fn once(named: &mut BTreeSet<String>, name: &str) -> Result<(), Failure> {
    if named.insert(name.to_owned()) {
        return Ok(());
    }
    Err((ErrorCode::InvalidRequest, format!("the request names {name} more than once")))
}

/// The changes that carry out operations on single settings.
fn edited(settings: &Before, configs: Vec<IncrementalAlterableConfig>) -> Result<Changes, Failure> {
    let mut changes = Changes::new();
    let mut named = BTreeSet::new();
    for config in configs {
        once(&mut named, &config.name)?;
        let value = config.value.ok_or_else(|| {
            let message = format!("{} has no value; use the operation delete", config.name);
            (ErrorCode::InvalidConfig, message)
        });
        let change = match config.config_operation {
            operation::SET => Some(value?),
            operation::DELETE => None,
            operation @ (operation::APPEND | operation::SUBTRACT) => {
                let before = list_of(settings, &config.name)?;
                Some(combined(&before, &value?, operation == operation::APPEND))
            }
            other => {
                let message = format!("{} is no operation on a setting", other);
                return Err((ErrorCode::InvalidRequest, message));
            }
        };
        changes.insert(config.name, change);
    }
    Ok(changes)
}

/// The value in force of a setting that is a list.
fn list_of(settings: &Before, name: &str) -> Result<String, Failure> {
    let Before { target, own, broker } = settings;
    let key = match target {
        Target::Topic(_) => config::topic::key_of(name),
        Target::Broker(_) => config::dynamic::key_of(name),
    };
    let invalid = |message: String| (ErrorCode::InvalidConfig, message);
    let key = key.map_err(|error| invalid(error.to_string()))?;
    if !matches!(key.kind, Kind::SomeOf(_)) {
        return Err(invalid(format!("{name} is not a list: it can be set or deleted")));
    }
    if let Target::Broker(_) = target {
        let in_force = broker.set(name).next().map(|(value, _)| value).or(key.default);
        return Ok(own.get(name).map(String::as_str).or(in_force).unwrap_or("").to_owned());
    }
    let mut entries = config::Topic::entries(broker, own);
    let entry = entries.find(|entry| entry.key.name == name);
    Ok(entry.expect("the table has its own keys").value)
}

/// A list with the items of another added or taken away.
fn combined(before: &str, items: &str, add: bool) -> String {
    let items_of = |text| kind::list(text).filter(|item| !item.is_empty());
    let mut all: Vec<&str> = items_of(before).collect();
    for item in items_of(items) {
        all.retain(|known| *known != item);
        if add {
            all.push(item);
        }
    }
    all.join(",")
}

/// Names what has settings.
pub async fn list<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    // Version 0 knows client metrics only, and none can be set here.
    let all = [
        resource::TOPIC,
        resource::BROKER,
        resource::BROKER_LOGGER,
        resource::CLIENT_METRICS,
        resource::GROUP,
    ];
    let types = match &request.resource_types[..] {
        [] if incoming.version >= 1 => &all[..],
        given => given,
    };
    let failed = |code: ErrorCode| ListConfigResourcesResponse {
        error_code: code.code(),
        ..ListConfigResourcesResponse::default()
    };
    if types.iter().any(|kind| !all.contains(kind)) {
        incoming.warn("a type of resources that cannot be listed", "ask for 2, 4, 8, 16 or 32");
        return failed(ErrorCode::UnsupportedVersion);
    }
    let client = &incoming.client;
    if !client.authorizer.allows(client, Operation::DescribeConfigs, Resource::Cluster) {
        return failed(ErrorCode::ClusterAuthorizationFailed);
    }
    let mut config_resources = Vec::new();
    if types.contains(&resource::TOPIC) {
        config_resources.extend(core.shared.image().topics().map(|topic| ConfigResource {
            resource_name: topic.name.to_string(),
            resource_type: resource::TOPIC,
        }));
    }
    for kind in [resource::BROKER, resource::BROKER_LOGGER] {
        if types.contains(&kind) {
            config_resources.push(ConfigResource {
                resource_name: core.shared.node.0.to_string(),
                resource_type: kind,
            });
        }
    }
    ListConfigResourcesResponse { config_resources, ..ListConfigResourcesResponse::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_grow_and_shrink_by_items() {
        assert_eq!(combined("delete", "compact", true), "delete,compact");
        assert_eq!(combined("delete,compact", "delete", true), "compact,delete");
        assert_eq!(combined("delete, compact", "delete", false), "compact");
        assert_eq!(combined("delete", "compact", false), "delete");
        assert_eq!(combined("delete", "delete", false), "");
        assert_eq!(combined("", "compact", true), "compact");
    }

    #[test]
    fn a_legacy_change_resets_what_it_does_not_name() {
        let own = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        let own = own(&[("retention.ms", "5"), ("segment.ms", "7")]);
        let named = |name: &str| AlterableConfig { name: name.into(), value: Some("9".into()) };
        let changes = replaced(&own, vec![named("retention.ms")]).expect("legal");
        assert_eq!(changes["retention.ms"].as_deref(), Some("9"));
        assert_eq!(changes["segment.ms"], None);
        assert!(replaced(&own, vec![named("a"), named("a")]).is_err());
    }
}
