//! `trialog topic`: make, list, describe, change and delete topics.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use trialog_engine::client::{NewTopic, Start};
use trialog_engine::config::{self, broker::split_pair};

use super::cli::Topic;
use super::failure::Failure;
use super::output::Output;
use super::reach::{Missing, Reached, reach};
use super::{retention, runtime};

/// Does what was asked for with topics.
pub fn run(command: Topic, output: &mut Output) -> Result<(), Failure> {
    match command {
        Topic::Create { name, partitions, replication_factor, configs, bootstrap } => {
            let topic = NewTopic {
                partitions: partitions.unwrap_or(-1),
                replication: replication_factor.unwrap_or(-1),
                configs: pairs(&configs)?,
                name,
            };
            runtime::client(async |io| {
                let reached = reach(io, &bootstrap).await?;
                create(&reached, &topic, output).await
            })
        }
        Topic::List { bootstrap } => runtime::client(async |io| {
            let reached = reach(io, &bootstrap).await?;
            list(&reached, output).await
        }),
        Topic::Describe { name, bootstrap } => runtime::client(async |io| {
            let reached = reach(io, &bootstrap).await?;
            describe(&reached, &name, output).await
        }),
        Topic::Alter { name, set, unset, partitions, bootstrap } => {
            let mut changes: BTreeMap<String, Option<String>> =
                pairs(&set)?.into_iter().map(|(key, value)| (key, Some(value))).collect();
            for key in unset {
                config::topic::key_of(&key)?;
                if changes.insert(key.clone(), None).is_some() {
                    return Err(Failure::Usage(format!("setting '{key}' is given twice")));
                }
            }
            if changes.is_empty() && partitions.is_none() {
                let what = "nothing to change: give --set, --unset or --partitions";
                return Err(Failure::Usage(what.to_owned()));
            }
            runtime::client(async |io| {
                let reached = reach(io, &bootstrap).await?;
                alter(&reached, &name, &changes, partitions, output).await
            })
        }
        Topic::ExplainRetention { name, admin, timeout } => {
            retention::explain(&name, &admin, Duration::from_secs(timeout), output)
        }
        Topic::Delete { name, bootstrap } => runtime::client(async |io| {
            let reached = reach(io, &bootstrap).await?;
            let deleted = reached.client.admin().delete_topic(&name).await;
            deleted.map_err(|error| reached.admin(&error))?;
            output.line(&format!("deleted {name}"), &json!({ "deleted": name }))
        }),
    }
}

fn pairs(given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut pairs = BTreeMap::new();
    for pair in given {
        let (key, value) = split_pair(pair)?;
        // Units are ours: a broker takes plain numbers, ours and Kafka's.
        let value = match config::topic::key_of(key) {
            Ok(known) => config::given::plain(known, value),
            Err(_) => value.to_owned(),
        };
        if pairs.insert(key.to_owned(), value).is_some() {
            return Err(Failure::Usage(format!("setting '{key}' is given twice")));
        }
    }
    Ok(pairs)
}

async fn create(reached: &Reached, topic: &NewTopic, output: &mut Output) -> Result<(), Failure> {
    let made = reached.client.admin().create_topic(topic).await;
    made.map_err(|error| reached.admin(&error))?;
    let known = reached.topic(&topic.name, Missing::Refuse).await?;
    let count = known.partitions.len();
    output.line(
        &format!("made {} with {count} partition(s)", topic.name),
        &json!({ "name": topic.name, "id": known.topic_id.to_string(), "partitions": count }),
    )
}

async fn alter(
    reached: &Reached,
    name: &str,
    changes: &BTreeMap<String, Option<String>>,
    partitions: Option<i32>,
    output: &mut Output,
) -> Result<(), Failure> {
    let admin = reached.client.admin();
    if !changes.is_empty() {
        admin.alter_topic(name, changes).await.map_err(|error| reached.admin(&error))?;
    }
    if let Some(count) = partitions {
        admin.add_partitions(name, count).await.map_err(|error| reached.admin(&error))?;
    }
    let json = json!({ "name": name, "changes": changes, "partitions": partitions });
    output.line(&format!("changed {name}"), &json)
}

async fn list(reached: &Reached, output: &mut Output) -> Result<(), Failure> {
    let topics = reached.client.admin().list_topics().await;
    for topic in topics.map_err(|error| reached.admin(&error))? {
        let json = json!({
            "name": topic.name,
            "id": topic.id.to_string(),
            "partitions": topic.partitions,
            "internal": topic.internal,
        });
        output.line(&format!("{}\t{} partition(s)", topic.name, topic.partitions), &json)?;
    }
    Ok(())
}

async fn describe(reached: &Reached, name: &str, output: &mut Output) -> Result<(), Failure> {
    let mut topic = reached.topic(name, Missing::Refuse).await?;
    topic.partitions.sort_by_key(|partition| partition.partition_index);
    let mut lines = vec![format!("{name}  id {}", topic.topic_id)];
    let mut partitions: Vec<Value> = Vec::new();
    for partition in &topic.partitions {
        let index = partition.partition_index;
        let start = reached.offset(name, index, Start::Earliest).await?.unwrap_or(-1);
        let end = reached.offset(name, index, Start::Latest).await?.unwrap_or(-1);
        lines.push(format!(
            "  partition {index}  offsets {start} to {end}  leader {} in epoch {}  copies {}  in \
             sync {}",
            partition.leader_id,
            partition.leader_epoch,
            joined(&partition.replica_nodes),
            joined(&partition.isr_nodes),
        ));
        partitions.push(json!({
            "partition": index,
            "start": start,
            "end": end,
            "leader": partition.leader_id,
            "leader_epoch": partition.leader_epoch,
            "replicas": partition.replica_nodes,
            "isr": partition.isr_nodes,
        }));
    }
    let settings = reached.client.admin().topic_settings(name).await;
    let settings = settings.map_err(|error| reached.admin(&error))?;
    for setting in settings.iter().filter(|setting| setting.own) {
        lines.push(format!("  {}={}", setting.name, setting.value.as_deref().unwrap_or("")));
    }
    let configs: Vec<Value> = settings
        .iter()
        .map(|one| json!({ "key": one.name, "value": one.value, "own": one.own }))
        .collect();
    let id = topic.topic_id.to_string();
    let json = json!({ "name": name, "id": id, "partitions": partitions, "configs": configs });
    output.line(&lines.join("\n"), &json)
}

fn joined(numbers: &[i32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    numbers.join(",")
}
