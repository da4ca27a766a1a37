//! `trialog topic`: make, list, describe and delete topics.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use trialog_engine::client::{NewTopic, Start};
use trialog_engine::config::broker::split_pair;

use super::cli::Topic;
use super::failure::Failure;
use super::output::Output;
use super::reach::{Missing, Reached, reach};
use super::runtime;

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
        if pairs.insert(key.to_owned(), value.to_owned()).is_some() {
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
    let id = topic.topic_id.to_string();
    let json = json!({ "name": name, "id": id, "partitions": partitions });
    output.line(&lines.join("\n"), &json)
}

fn joined(numbers: &[i32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    numbers.join(",")
}
