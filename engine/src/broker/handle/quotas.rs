//! DescribeClientQuotas and AlterClientQuotas (KIP-546): the quotas of users and client ids. What
//! they do to requests is `broker/quota.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::broker::Core;
use crate::broker::auth::{Operation, Resource};
use crate::broker::dispatch::Incoming;
use crate::broker::remedy;
use crate::io::Io;
use crate::machine::quota::{Entity, Quota, QuotaError, Rate, Whose};
use crate::machine::{Command, NewQuotas, Reply};
use crate::probe::{self, Probe};
use crate::wire::api::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, AlteredEntity, AlteredQuotas,
    DescribeClientQuotasRequest, DescribeClientQuotasResponse, DescribedEntity, DescribedQuotas,
    QuotaComponent, QuotaValue, QuotasOutcome,
};
use crate::wire::code::ErrorCode;

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
/// Kafka has quotas of addresses, too (KIP-612): here nobody has one.
const IP: &str = "ip";

/// Why a request is refused, for its answer.
type Failure = (ErrorCode, String);

const HOW_TO_ASK: &str = "ask for the entity types user and client-id, each once at most";
const HOW_TO_SET: &str = "name a user, a client-id or both, each once, and give producer_byte_rate, \
                          consumer_byte_rate, request_percentage or controller_mutation_rate a \
                          number above 0";

fn invalid(message: &str) -> Failure {
    (ErrorCode::InvalidRequest, message.to_owned())
}

fn unknown_type(name: &str) -> Failure {
    let what = if name == IP { "quotas of addresses are" } else { "such an entity type is" };
    invalid(&format!("'{name}': {what} not known here; there are {USER} and {CLIENT_ID}"))
}

/// Which of an entity's parts a description asks for.
enum Match {
    Exactly(Option<String>),
    Any,
}

impl Match {
    fn of(component: &QuotaComponent) -> Result<Match, Failure> {
        match (component.match_type, &component.r#match) {
            (0, Some(name)) => Ok(Match::Exactly(Some(name.clone()))),
            (1, None) => Ok(Match::Exactly(None)),
            (2, None) => Ok(Match::Any),
            _ => Err(invalid("a match is 0 with a name, or 1 (default) or 2 (any) without")),
        }
    }

    fn takes(&self, whose: Option<&Whose>) -> bool {
        match (self, whose) {
            (_, None) => false,
            (Match::Any, Some(_)) => true,
            (Match::Exactly(name), Some(whose)) => whose.name() == name.as_deref(),
        }
    }
}

/// Shows the quotas of the entities that match.
pub async fn describe<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    match described(&core, &incoming, &request) {
        Ok(entries) => {
            let entries = Some(entries);
            DescribeClientQuotasResponse { entries, ..DescribeClientQuotasResponse::default() }
        }
        Err((code, message)) => {
            incoming.warn(&message, HOW_TO_ASK);
            DescribeClientQuotasResponse {
                error_code: code.code(),
                error_message: Some(message),
                entries: None,
                ..DescribeClientQuotasResponse::default()
            }
        }
    }
}

fn described<I: Io>(
    core: &Core<I>,
    incoming: &Incoming,
    request: &DescribeClientQuotasRequest,
) -> Result<Vec<DescribedQuotas>, Failure> {
    may(incoming, Operation::DescribeConfigs)?;
    let (mut user, mut client_id) = (None, None);
    for component in &request.components {
        let place = match component.entity_type.as_str() {
            USER => &mut user,
            CLIENT_ID => &mut client_id,
            IP if request.components.len() == 1 => {
                return Match::of(component).map(|_| Vec::new());
            }
            IP => return Err(invalid("an ip is not combined with other entity types")),
            other => return Err(unknown_type(other)),
        };
        if place.replace(Match::of(component)?).is_some() {
            return Err(invalid("an entity type is named twice"));
        }
    }
    let fits = |asked: &Option<Match>, whose: Option<&Whose>| match asked {
        Some(asked) => asked.takes(whose),
        None => whose.is_none() || !request.strict || request.components.is_empty(),
    };
    let image = core.shared.image();
    let fitting = image
        .quotas()
        .filter(|(entity, _)| fits(&user, entity.user()) && fits(&client_id, entity.client_id()));
    let entries = fitting.map(|(entity, quotas)| {
        let part = |kind: &str, whose: Option<&Whose>| {
            whose.map(|whose| DescribedEntity {
                entity_type: kind.to_owned(),
                entity_name: whose.name().map(str::to_owned),
            })
        };
        let parts = [part(USER, entity.user()), part(CLIENT_ID, entity.client_id())];
        let value = |(quota, rate): (&Quota, &Rate)| QuotaValue {
            key: quota.name().to_owned(),
            value: rate.get(),
        };
        DescribedQuotas {
            entity: parts.into_iter().flatten().collect(),
            values: quotas.iter().map(value).collect(),
        }
    });
    Ok(entries.collect())
}

fn may(incoming: &Incoming, operation: Operation) -> Result<(), Failure> {
    let client = &incoming.client;
    if client.authorizer.allows(client, operation, Resource::Cluster) {
        return Ok(());
    }
    let code = ErrorCode::ClusterAuthorizationFailed;
    Err((code, code.message().to_owned()))
}

/// Sets and removes quotas, one entity after the other.
pub async fn alter<I: Io>(
    core: Rc<Core<I>>,
    incoming: Incoming,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let mut entries = Vec::new();
    let repeated: BTreeSet<Vec<Part>> = {
        let mut seen = BTreeSet::new();
        let named = request.entries.iter().map(|altered| parts(&altered.entity));
        named.filter(|entity| !seen.insert(entity.clone())).collect()
    };
    let mut told = BTreeSet::new();
    for altered in request.entries {
        let named = parts(&altered.entity);
        let is_repeated = repeated.contains(&named);
        // An entity is answered once.
        if is_repeated && !told.insert(named) {
            continue;
        }
        let outcome = match may(&incoming, Operation::AlterConfigs) {
            Ok(()) if is_repeated => Err(invalid("the request names an entity more than once")),
            Ok(()) => alter_one(&core, &altered, request.validate_only).await,
            Err(failure) => Err(failure),
        };
        let (error_code, error_message) = match outcome {
            Ok(()) => (ErrorCode::None.code(), None),
            Err((code, message)) => {
                let remedy = match code {
                    ErrorCode::InvalidRequest => HOW_TO_SET,
                    other => remedy::of(other),
                };
                incoming.warn(&message, remedy);
                (code.code(), Some(message))
            }
        };
        entries.push(QuotasOutcome { error_code, error_message, entity: altered.entity });
    }
    AlterClientQuotasResponse { entries, ..AlterClientQuotasResponse::default() }
}

/// A part of an entity, as it is named.
type Part = (String, Option<String>);

fn parts(entity: &[AlteredEntity]) -> Vec<Part> {
    entity.iter().map(|part| (part.entity_type.clone(), part.entity_name.clone())).collect()
}

async fn alter_one<I: Io>(
    core: &Core<I>,
    altered: &AlteredQuotas,
    validate_only: bool,
) -> Result<(), Failure> {
    let entity = entity(&altered.entity)?;
    let mut seen = BTreeSet::new();
    if !altered.ops.iter().all(|operation| seen.insert(&operation.key)) {
        return Err(invalid("a quota is named twice"));
    }
    let change = |value: f64, remove: bool| (!remove).then_some(value);
    let operations = altered.ops.iter();
    let changes: BTreeMap<String, Option<f64>> =
        operations.map(|one| (one.key.clone(), change(one.value, one.remove))).collect();
    let new = NewQuotas { entity, changes };
    let command =
        if validate_only { Command::ValidateQuotas(new) } else { Command::SetQuotas(new) };
    match core.shared.order(command).await {
        Ok(Reply::QuotasSet(_)) => {
            probe::hit(Probe::QuotasChanged);
            Ok(())
        }
        Ok(other) => unreachable!("quotas are answered with quotas, not {other:?}"),
        Err(refused) => Err((refused.code(), refused.to_string())),
    }
}

fn entity(parts: &[AlteredEntity]) -> Result<Entity, Failure> {
    let (mut user, mut client_id) = (None, None);
    for part in parts {
        let place = match part.entity_type.as_str() {
            USER => &mut user,
            CLIENT_ID => &mut client_id,
            other => return Err(unknown_type(other)),
        };
        let whose = match &part.entity_name {
            None => Whose::Default,
            Some(name) => Whose::Named(name.as_str().into()),
        };
        if place.replace(whose).is_some() {
            return Err(invalid("an entity type is named twice"));
        }
    }
    Entity::new(user, client_id).map_err(|error: QuotaError| invalid(&error.to_string()))
}
