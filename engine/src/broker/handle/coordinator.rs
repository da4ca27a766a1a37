//! FindCoordinator: this broker, for every group. The topic that remembers groups is made when a
//! coordinator is first asked for.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::broker::auth::{Operation, Resource};
use crate::broker::dispatch::Incoming;
use crate::broker::host::{Refused, group};
use crate::broker::remedy;
use crate::broker::{Core, advertise};
use crate::io::Io;
use crate::machine::name::OFFSETS_TOPIC;
use crate::machine::{Command, Refusal, Reply};
use crate::probe::{self, Probe};
use crate::wire::api::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use crate::wire::code::ErrorCode;

/// Kafka's number for a consumer group among the types of keys.
const GROUP: i8 = 0;
/// The first version that asks for several keys.
const BATCHED: i16 = 4;

const NO_OFFSETS_TOPIC: &str = "correct the broker's offsets.topic.* settings, or what its disk \
                                lacks, so that it can make __consumer_offsets";

const NO_TRANSACTIONS: &str = "this broker coordinates consumer groups only";

/// Says who coordinates each key.
pub async fn find<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let mut keys =
        if incoming.version < BATCHED { vec![request.key] } else { request.coordinator_keys };
    // What is named again is not answered again: a small request has no huge answer.
    let mut named = BTreeSet::new();
    keys.retain(|key| named.insert(key.clone()));
    let mut coordinators = Vec::with_capacity(keys.len());
    for key in keys {
        let outcome = coordinator(&core, &incoming, request.key_type, &key).await;
        coordinators.push(match outcome {
            Ok((host, port)) => Coordinator {
                key,
                node_id: core.shared.node.0,
                host,
                port: i32::from(port),
                ..Coordinator::default()
            },
            Err((code, message)) => {
                let remedy = match request.key_type {
                    GROUP if code == ErrorCode::CoordinatorNotAvailable => NO_OFFSETS_TOPIC,
                    GROUP => remedy::of(code),
                    _ => "use consumer groups only, and leave transactional.id unset",
                };
                incoming.warn(&format!("no coordinator for {key:?}: {message}"), remedy);
                Coordinator {
                    key,
                    node_id: -1,
                    port: -1,
                    error_code: code.code(),
                    error_message: Some(message),
                    ..Coordinator::default()
                }
            }
        });
    }
    if incoming.version >= BATCHED {
        return FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() };
    }
    let Some(one) = coordinators.pop() else { return FindCoordinatorResponse::default() };
    FindCoordinatorResponse {
        error_code: one.error_code,
        error_message: one.error_message,
        node_id: one.node_id,
        host: one.host,
        port: one.port,
        ..FindCoordinatorResponse::default()
    }
}

async fn coordinator<I: Io>(
    core: &Rc<Core<I>>,
    incoming: &Incoming,
    key_type: i8,
    key: &str,
) -> Result<(String, u16), (ErrorCode, String)> {
    let explained = |code: ErrorCode| (code, code.message().to_owned());
    if key_type != GROUP {
        // Not retriable: who waits for a coordinator here waits for ever.
        return Err((ErrorCode::UnsupportedVersion, NO_TRANSACTIONS.to_owned()));
    }
    let client = &incoming.client;
    if !client.authorizer.allows(client, Operation::Describe, Resource::Group(key)) {
        return Err(explained(ErrorCode::GroupAuthorizationFailed));
    }
    if core.shared.image().topic(OFFSETS_TOPIC).is_none() {
        match core.shared.order(Command::CreateTopic(group::offsets_topic(core))).await {
            Ok(Reply::TopicCreated(topic)) => super::ready(core, &topic).await,
            // Another client was faster.
            Err(Refused::Machine(Refusal::TopicExists { .. })) => {
                probe::hit(Probe::OffsetsTopicRace);
            }
            Ok(other) => unreachable!("a creation is answered with a topic, not {other:?}"),
            Err(refused) => {
                return Err((ErrorCode::CoordinatorNotAvailable, refused.to_string()));
            }
        }
    }
    Ok(advertise::address(core, client))
}
