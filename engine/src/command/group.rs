//! `trialog group`: consumer groups from the command line.

use serde_json::{Value, json};

use trialog_engine::client::{AdminError, CallError, DescribedGroup, Start};
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::wire::code::ErrorCode;

use super::cli::{From, Group};
use super::failure::Failure;
use super::output::Output;
use super::reach::{Missing, Reached, reach};
use super::runtime;

/// Carries out one of its commands.
pub fn run(command: Group, output: &mut Output) -> Result<(), Failure> {
    runtime::client(async |io| match command {
        Group::List { bootstrap } => list(&reach(io, &bootstrap).await?, output).await,
        Group::Describe { name, bootstrap } => {
            describe(&reach(io, &bootstrap).await?, &name, output).await
        }
        Group::Seek { name, topic, to, partition, bootstrap } => {
            let reached = reach(io, &bootstrap).await?;
            seek(&reached, (&name, &topic), to, partition, output).await
        }
        Group::Delete { name, bootstrap } => {
            let reached = reach(io, &bootstrap).await?;
            let deleted = reached.client.admin().delete_group(&name).await;
            deleted.map_err(|error| explained(&reached, &name, &error))?;
            output.line(&format!("deleted group '{name}'"), &json!({ "deleted": name }))
        }
    })
}

async fn list(reached: &Reached, output: &mut Output) -> Result<(), Failure> {
    let groups = reached.client.admin().list_groups().await;
    for group in groups.map_err(|error| reached.admin(&error))? {
        let kind = if group.protocol_type.is_empty() { "-" } else { &group.protocol_type };
        let text = format!("{}\t{}\t{kind}", group.group, group.state);
        let json = json!({
            "group": group.group,
            "state": group.state,
            "protocol_type": group.protocol_type,
        });
        output.line(&text, &json)?;
    }
    Ok(())
}

async fn describe(reached: &Reached, name: &str, output: &mut Output) -> Result<(), Failure> {
    let group = reached.client.admin().describe_group(name).await;
    let group = group.map_err(|error| explained(reached, name, &error))?;
    let mut lines = vec![format!(
        "{name}  {}{}  {} member(s)",
        group.state,
        if group.strategy.is_empty() { String::new() } else { format!("  {}", group.strategy) },
        group.members.len(),
    )];
    for member in &group.members {
        let instance = member.instance.as_ref().map(|name| format!("  instance {name}"));
        lines.push(format!(
            "  member {}{}  client {} at {}  {} partition(s)",
            member.id,
            instance.unwrap_or_default(),
            member.client_id,
            member.host.trim_start_matches('/'),
            member.partitions.len(),
        ));
    }
    let or_none = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
    for ((topic, partition), standing) in &group.standings {
        lines.push(format!(
            "  {topic} partition {partition}  committed {}  end {}  lag {}  member {}",
            or_none(standing.committed.map(|offset| offset.0)),
            or_none(standing.end.map(|offset| offset.0)),
            or_none(standing.lag()),
            standing.member.as_deref().unwrap_or("-"),
        ));
    }
    output.line(&lines.join("\n"), &as_json(&group))
}

fn as_json(group: &DescribedGroup) -> Value {
    let members = group.members.iter().map(|member| {
        let partitions = member.partitions.iter();
        let partitions =
            partitions.map(|(topic, index)| json!({ "topic": topic, "partition": index.0 }));
        json!({
            "member": member.id,
            "instance": member.instance,
            "client": member.client_id,
            "host": member.host.trim_start_matches('/'),
            "partitions": partitions.collect::<Vec<_>>(),
        })
    });
    let standings = group.standings.iter().map(|((topic, partition), standing)| {
        json!({
            "topic": topic,
            "partition": partition.0,
            "committed": standing.committed.map(|offset| offset.0),
            "end": standing.end.map(|offset| offset.0),
            "lag": standing.lag(),
            "member": standing.member,
        })
    });
    json!({
        "group": group.group,
        "state": group.state,
        "protocol_type": group.protocol_type,
        "strategy": group.strategy,
        "members": members.collect::<Vec<_>>(),
        "partitions": standings.collect::<Vec<_>>(),
    })
}

async fn seek(
    reached: &Reached,
    (name, topic): (&str, &str),
    to: From,
    partition: Option<i32>,
    output: &mut Output,
) -> Result<(), Failure> {
    let known = reached.topic(topic, Missing::Refuse).await?;
    let mut indexes: Vec<i32> = known.partitions.iter().map(|one| one.partition_index).collect();
    indexes.sort_unstable();
    if let Some(one) = partition {
        if !indexes.contains(&one) {
            return Err(Failure::Refused(format!(
                "topic '{topic}' has no partition {one}; it has {}, numbered from 0",
                indexes.len()
            )));
        }
        indexes = vec![one];
    }
    let mut offsets = Vec::with_capacity(indexes.len());
    for index in indexes {
        let first = reached.offset(topic, index, Start::Earliest).await?.unwrap_or(0);
        let end = reached.offset(topic, index, Start::Latest).await?.unwrap_or(0);
        let offset = match to {
            From::Beginning => first,
            From::End => end,
            From::Offset(offset) if (first..=end).contains(&offset) => offset,
            From::Offset(offset) => {
                return Err(Failure::Refused(format!(
                    "offset {offset} is not in partition {index} of topic '{topic}', which goes \
                     from {first} to {end}"
                )));
            }
            From::Time(ms) => reached.offset(topic, index, Start::Time(ms)).await?.unwrap_or(end),
        };
        offsets.push(((topic.to_owned(), PartitionIndex(index)), Offset(offset)));
    }
    let moved = reached.client.admin().seek_group(name, &offsets).await;
    moved.map_err(|error| explained(reached, name, &error))?;
    for ((topic, index), offset) in offsets {
        let text = format!("{name}: {topic} partition {index} from offset {offset} on");
        let json = json!({
            "group": name, "topic": topic, "partition": index.0, "offset": offset.0,
        });
        output.line(&text, &json)?;
    }
    Ok(())
}

/// Why it was not done, with the group's name.
fn explained(reached: &Reached, name: &str, error: &AdminError) -> Failure {
    let code = match error {
        AdminError::Call(CallError::Refused(code)) | AdminError::Refused { code, .. } => *code,
        _ => return reached.admin(error),
    };
    match code {
        ErrorCode::GroupIdNotFound => Failure::Refused(format!("there is no group '{name}'")),
        ErrorCode::UnknownMemberId | ErrorCode::NonEmptyGroup => Failure::Refused(format!(
            "group '{name}' has members; stop them first ('trialog group describe {name}' lists \
             them)"
        )),
        _ => reached.admin(error),
    }
}
