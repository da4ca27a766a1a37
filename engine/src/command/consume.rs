//! `trialog consume`: prints records, each on a line.
//!
//! Without `--follow` it ends where the topic ended when it began, so that it can stand in a pipe.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use trialog_engine::client::{
    ConsumedRecord, ConsumerOptions, GroupError, GroupOptions, Polled, Start,
};
use trialog_engine::id::{Offset, PartitionIndex};

use super::cli::{Consume, From};
use super::failure::Failure;
use super::output::{self, Output};
use super::reach::{Missing, Reached, reach};
use super::runtime;

/// How long one round waits for records, so that what was printed is seen soon.
const ROUND: Duration = Duration::from_millis(500);

/// Prints records.
pub fn run(arguments: Consume, output: &mut Output) -> Result<(), Failure> {
    runtime::client(async |io| {
        let reached = reach(io, &arguments.bootstrap).await?;
        if let Some(group) = &arguments.group {
            return as_member(&reached, &arguments, group, output).await;
        }
        let partitions = partitions(&reached, &arguments).await?;
        consume(&reached, &arguments, &partitions, output).await
    })
}

/// The partitions to read.
async fn partitions(reached: &Reached, arguments: &Consume) -> Result<Vec<i32>, Failure> {
    let name = &arguments.topic;
    let topic = reached.topic(name, Missing::Refuse).await?;
    let all: Vec<i32> = topic.partitions.iter().map(|one| one.partition_index).collect();
    match arguments.partition {
        Some(one) if all.contains(&one) => Ok(vec![one]),
        Some(one) => Err(Failure::Refused(format!(
            "topic '{name}' has no partition {one}; it has {}, numbered from 0",
            all.len()
        ))),
        None if all.len() > 1 && matches!(arguments.from, From::Offset(_)) => {
            Err(Failure::Usage(format!(
                "an offset belongs to one partition, and topic '{name}' has {}; say which with \
                 --partition",
                all.len()
            )))
        }
        None => Ok(all),
    }
}

async fn consume(
    reached: &Reached,
    arguments: &Consume,
    partitions: &[i32],
    output: &mut Output,
) -> Result<(), Failure> {
    let topic = arguments.topic.as_str();
    let mut consumer = reached.client.consumer(ConsumerOptions::default());
    // Where each partition that is still being read ends for us.
    let mut ends: BTreeMap<PartitionIndex, Offset> = BTreeMap::new();
    for &partition in partitions {
        let end = reached.offset(topic, partition, Start::Latest).await?.unwrap_or(0);
        let start = start(reached, arguments, partition, end).await?;
        if arguments.follow || start < end {
            let index = PartitionIndex(partition);
            consumer.assign(topic, index, Start::Offset(Offset(start)));
            ends.insert(index, Offset(end));
        }
    }
    let mut left = arguments.count.unwrap_or(u64::MAX);
    while left > 0 && !ends.is_empty() {
        let polled = consumer.poll(ROUND).await;
        let records = polled.map_err(|error| reached.unread(&error))?;
        for record in &records {
            let is_ours = arguments.follow
                || ends.get(&record.partition).is_some_and(|&end| record.offset < end);
            if is_ours && left > 0 {
                print(record, arguments.key_separator.as_deref(), output)?;
                left -= 1;
            }
        }
        output.flush()?;
        if !arguments.follow {
            ends.retain(|&partition, &mut end| {
                let is_read = consumer.position(topic, partition).is_some_and(|at| at >= end);
                if is_read {
                    consumer.unassign(topic, partition);
                }
                !is_read
            });
        }
    }
    Ok(())
}

/// Reads as a member of a group, and commits what was printed. Without `--follow` it ends where the
/// partitions that it was given ended. Told to end, it leaves the group, so that others need not wait
/// for its session to be over.
async fn as_member(
    reached: &Reached,
    arguments: &Consume,
    group: &str,
    output: &mut Output,
) -> Result<(), Failure> {
    let topic = arguments.topic.as_str();
    reached.topic(topic, Missing::Refuse).await?;
    let mut options = GroupOptions::new(group);
    options.start = match arguments.from {
        From::Beginning => Start::Earliest,
        From::End => Start::Latest,
        From::Offset(offset) => Start::Offset(Offset(offset)),
        From::Time(ms) => Start::Time(ms),
    };
    let mut member = reached.client.subscribe(options, &[topic]);
    let mut ends: Option<BTreeMap<PartitionIndex, Offset>> = None;
    let mut left = arguments.count.unwrap_or(u64::MAX);
    runtime::watch_for_end();
    while left > 0 && !runtime::is_asked_to_end() {
        match member.poll(ROUND).await.map_err(|error| reached.member(&error))? {
            Polled::Records(records) => {
                let mut printed = BTreeMap::new();
                for record in records {
                    if left == 0 {
                        break;
                    }
                    print(&record, arguments.key_separator.as_deref(), output)?;
                    printed.insert((topic.to_owned(), record.partition), record.offset.plus(1));
                    left -= 1;
                }
                output.flush()?;
                let printed: Vec<_> = printed.into_iter().collect();
                match member.commit_at(&printed).await {
                    // Whoever has the partitions next prints these once more.
                    Ok(()) | Err(GroupError::NotMember | GroupError::Refused(_)) => {}
                    Err(error) => return Err(reached.member(&error)),
                }
            }
            Polled::Assigned(_, partitions) => {
                let known = ends.get_or_insert_default();
                for (_, partition) in partitions {
                    let end = reached.offset(topic, partition.0, Start::Latest).await?;
                    known.insert(partition, Offset(end.unwrap_or(0)));
                }
            }
            Polled::Revoked(partitions) | Polled::Lost(partitions) => {
                let mut known = ends.take().unwrap_or_default();
                for (_, partition) in partitions {
                    known.remove(&partition);
                }
                // Who has nothing left is told next what it is to have.
                ends = Some(known).filter(|known| !known.is_empty());
            }
        }
        let at_end = |(partition, end): (&PartitionIndex, &Offset)| {
            member.position(topic, *partition).is_some_and(|at| at >= *end)
        };
        if !arguments.follow && ends.as_ref().is_some_and(|ends| ends.iter().all(at_end)) {
            break;
        }
    }
    member.close().await.map_err(|error| reached.call(&error))
}

/// Where reading a partition begins.
async fn start(
    reached: &Reached,
    arguments: &Consume,
    partition: i32,
    end: i64,
) -> Result<i64, Failure> {
    let topic = &arguments.topic;
    let first = reached.offset(topic, partition, Start::Earliest).await?.unwrap_or(0);
    match arguments.from {
        From::Beginning => Ok(first),
        From::End => Ok(end),
        From::Offset(offset) if offset < first || offset > end => Err(Failure::Refused(format!(
            "offset {offset} is not in partition {partition} of topic '{topic}', which goes from \
             {first} to {end}"
        ))),
        From::Offset(offset) => Ok(offset),
        From::Time(ms) => {
            let found = reached.offset(topic, partition, Start::Time(ms)).await?;
            Ok(found.unwrap_or(end))
        }
    }
}

fn print(
    record: &ConsumedRecord,
    key_separator: Option<&str>,
    output: &mut Output,
) -> Result<(), Failure> {
    if output.is_json() {
        return output.line("", &json(record));
    }
    if let Some(separator) = key_separator {
        output.bytes(record.key.as_deref().unwrap_or_default())?;
        output.bytes(separator.as_bytes())?;
    }
    output.bytes(record.value.as_deref().unwrap_or_default())?;
    output.bytes(b"\n")
}

fn json(record: &ConsumedRecord) -> Value {
    let mut object = Map::new();
    object.insert("topic".to_owned(), (&*record.topic).into());
    object.insert("partition".to_owned(), record.partition.0.into());
    object.insert("offset".to_owned(), record.offset.0.into());
    object.insert("timestamp".to_owned(), record.timestamp.into());
    object.insert("time".to_owned(), super::time::format(record.timestamp).into());
    output::put_bytes(&mut object, "key", record.key.as_deref());
    output::put_bytes(&mut object, "value", record.value.as_deref());
    let headers = record.headers.iter().map(|(name, value)| {
        let mut header = Map::from_iter([("name".to_owned(), json!(name))]);
        output::put_bytes(&mut header, "value", value.as_deref());
        Value::Object(header)
    });
    object.insert("headers".to_owned(), headers.collect());
    Value::Object(object)
}
