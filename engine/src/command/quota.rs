//! `trialog quota`: what users and clients may use.

use std::collections::BTreeMap;

use serde_json::json;

use trialog_engine::client::{QuotaEntity, QuotaOwner};
use trialog_engine::config::broker::split_pair;

use super::cli::{Quota, QuotaOf};
use super::failure::Failure;
use super::output::Output;
use super::reach::{Reached, reach};
use super::runtime;

/// Carries out one of its commands.
pub fn run(command: Quota, output: &mut Output) -> Result<(), Failure> {
    match command {
        Quota::List { bootstrap } => runtime::client(async |io| {
            let reached = reach(io, &bootstrap).await?;
            list(&reached, output).await
        }),
        Quota::Set { of, quotas, bootstrap } => {
            let entity = entity(of)?;
            let mut changes = BTreeMap::new();
            for pair in &quotas {
                let (name, value) = split_pair(pair)?;
                let number = value.parse().map_err(|_| {
                    let what = "a number of bytes or partitions in a second, or of percent";
                    Failure::Usage(format!("{name}={value}: the value is {what}"))
                })?;
                if changes.insert(name.to_owned(), Some(number)).is_some() {
                    return Err(Failure::Usage(format!("quota '{name}' is given twice")));
                }
            }
            runtime::client(async |io| {
                let reached = reach(io, &bootstrap).await?;
                alter(&reached, &entity, &changes, output).await
            })
        }
        Quota::Remove { of, quotas, bootstrap } => {
            let entity = entity(of)?;
            runtime::client(async |io| {
                let reached = reach(io, &bootstrap).await?;
                let mut changes: BTreeMap<String, Option<f64>> =
                    quotas.iter().map(|name| (name.clone(), None)).collect();
                if changes.is_empty() {
                    let listed = reached.client.admin().quotas().await;
                    let listed = listed.map_err(|error| reached.admin(&error))?;
                    let own = listed.into_iter().filter(|(whose, _)| *whose == entity);
                    changes =
                        own.flat_map(|(_, values)| values).map(|(key, _)| (key, None)).collect();
                }
                if changes.is_empty() {
                    let what = format!("no quota is set for {}", named(&entity));
                    return Err(Failure::Usage(what));
                }
                alter(&reached, &entity, &changes, output).await
            })
        }
    }
}

fn entity(of: QuotaOf) -> Result<QuotaEntity, Failure> {
    let owner = |name: Option<String>, default: bool| match name {
        Some(name) => Some(QuotaOwner::Named(name)),
        None => default.then_some(QuotaOwner::Default),
    };
    let user = owner(of.user, of.any_user);
    let client_id = owner(of.client_id, of.any_client_id);
    if user.is_none() && client_id.is_none() {
        let what = "whose quota? give --user or --any-user, --client-id or --any-client-id";
        return Err(Failure::Usage(what.to_owned()));
    }
    Ok(QuotaEntity { user, client_id })
}

/// The entity in words.
fn named(entity: &QuotaEntity) -> String {
    let part = |kind: &str, owner: &Option<QuotaOwner>| {
        owner.as_ref().map(|owner| match owner.name() {
            Some(name) => format!("{kind} '{name}'"),
            None => format!("any {kind}"),
        })
    };
    let parts = [part("user", &entity.user), part("client-id", &entity.client_id)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// As JSON: absent where it is not about any, null for the default.
fn object(entity: &QuotaEntity) -> serde_json::Map<String, serde_json::Value> {
    let mut object = serde_json::Map::new();
    for (key, owner) in [("user", &entity.user), ("client_id", &entity.client_id)] {
        if let Some(owner) = owner {
            object.insert(key.to_owned(), json!(owner.name()));
        }
    }
    object
}

async fn list(reached: &Reached, output: &mut Output) -> Result<(), Failure> {
    let quotas = reached.client.admin().quotas().await;
    for (entity, values) in quotas.map_err(|error| reached.admin(&error))? {
        let text: Vec<String> =
            values.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut json = object(&entity);
        json.insert("quotas".to_owned(), json!(values));
        output.line(&format!("{}\t{}", named(&entity), text.join("\t")), &json.into())?;
    }
    Ok(())
}

async fn alter(
    reached: &Reached,
    entity: &QuotaEntity,
    changes: &BTreeMap<String, Option<f64>>,
    output: &mut Output,
) -> Result<(), Failure> {
    let altered = reached.client.admin().alter_quotas(entity, changes).await;
    altered.map_err(|error| reached.admin(&error))?;
    let mut json = object(entity);
    json.insert("changes".to_owned(), json!(changes));
    output.line(&format!("changed the quotas of {}", named(entity)), &json.into())
}
