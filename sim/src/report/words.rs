//! Operations in words, with the names of their topics and groups.

use trialog_engine::id::{Offset, PartitionIndex};
use trialog_jepsen::history::{
    Admin, BEGINNING, END, Group, History, Identity, Membership, Op, PartialConfigs, Topic,
};

/// Of a longer list, only the first ones are named.
const NAMED_MAX: usize = 8;

/// What a client asked or was told.
pub fn of(history: &History, op: &Op) -> String {
    let at = |topic: Topic, partition| place(history, topic, partition);
    match op {
        Op::Producer { acks, idempotent, identity } => {
            let how = if *idempotent { "idempotent" } else { "not idempotent" };
            let whose = identity.map_or_else(String::new, |Identity { id, epoch }| {
                format!(", as producer {id} in epoch {epoch}")
            });
            format!("sends with acks {acks:?}, {how}{whose}")
        }
        Op::Send { topic, partition, value, tombstone, offset, .. } => {
            let partition = partition.map_or_else(|| "?".to_owned(), |p| p.0.to_string());
            let what = if *tombstone { "tombstone " } else { "" };
            let offset = offset.map_or_else(String::new, |o| format!(" at offset {}", o.0));
            format!("send {what}{value} to {}/{partition}{offset}", history.name(*topic))
        }
        Op::Poll { records } => {
            let named = records.iter().map(|record| {
                let place = at(record.topic, record.partition);
                format!("{place}@{}={}", record.offset.0, record.value)
            });
            format!("poll of {}: {}", records.len(), list(named))
        }
        Op::Assign { partitions } => format!("reads {}", places(history, partitions)),
        Op::Seek { topic, partition, offset } => {
            format!("seek {} to {}", at(*topic, *partition), target(offset.0))
        }
        Op::Trim { topic, partition, offset } => {
            format!("trim {} below {}", at(*topic, *partition), offset.0)
        }
        Op::ListOffset { topic, partition, ask, offset } => {
            let answer = offset.map_or_else(String::new, |offset| format!(": {}", offset.0));
            format!("list-offset of {}, {}{answer}", at(*topic, *partition), target(*ask))
        }
        Op::Start { topic, partition, offset } => {
            format!("{} starts at {}", at(*topic, *partition), offset.0)
        }
        Op::Admin(admin) => administration(history, admin),
        Op::Group(group, membership) => in_group(history, *group, membership),
        Op::Note(text) => text.to_string(),
        Op::Nemesis { .. } | Op::Final => format!("{op:?}"),
    }
}

fn administration(history: &History, admin: &Admin) -> String {
    match admin {
        Admin::Create { topic, partitions, configs } => {
            let configs = configs.iter().map(|(key, value)| format!(", {key}={value}"));
            let configs: String = configs.collect();
            format!("create {} with {partitions} partitions{configs}", history.name(*topic))
        }
        Admin::Delete { topic } => format!("delete {}", history.name(*topic)),
        Admin::Grow { topic, partitions } => {
            format!("grow {} to {partitions} partitions", history.name(*topic))
        }
        Admin::Configure { topic, configs } => {
            format!("configure {}: {}", history.name(*topic), settings(configs))
        }
        Admin::Describe { topic, configs } => {
            let configs = configs.as_ref().map(|configs| format!(": {}", settings(configs)));
            format!("describe {}{}", history.name(*topic), configs.unwrap_or_default())
        }
        Admin::Metadata { all, topics, .. } => {
            let named = topics.iter().map(|(topic, partitions)| {
                let partitions = partitions.map_or("no such topic".to_owned(), |p| p.to_string());
                format!("{} ({partitions})", history.name(*topic))
            });
            let all = if *all { " of all topics" } else { "" };
            format!("metadata{all}: {}", list(named))
        }
    }
}

fn in_group(history: &History, group: Group, membership: &Membership) -> String {
    let name = history.group_name(group);
    match membership {
        Membership::Subscribe { topics } => {
            format!("{name}: subscribe to {}", list(topics.iter().map(|&t| history.name(t).into())))
        }
        Membership::Assigned { generation, partitions, .. } => {
            format!("{name}: assigned {} in generation {generation}", places(history, partitions))
        }
        Membership::Revoked { generation, partitions } => {
            format!("{name}: gives up {} of generation {generation}", places(history, partitions))
        }
        Membership::Commit { generation, offsets } => {
            let named = offsets.iter().map(|&(topic, partition, Offset(offset))| {
                format!("{}@{offset}", place(history, topic, partition))
            });
            let from = generation.map_or(", from outside".to_owned(), |generation| {
                format!(" in generation {generation}")
            });
            format!("{name}: commit {}{from}", list(named))
        }
        Membership::Committed { offsets } => {
            let named = offsets.iter().map(|&(topic, partition, offset)| {
                let offset = offset.map_or("none".to_owned(), |offset| offset.0.to_string());
                format!("{}@{offset}", place(history, topic, partition))
            });
            format!("{name}: committed {}", list(named))
        }
        Membership::Forget { partitions } => {
            format!("{name}: forget {}", places(history, partitions))
        }
    }
}

/// `topic/partition`.
fn place(history: &History, topic: Topic, partition: PartitionIndex) -> String {
    format!("{}/{}", history.name(topic), partition.0)
}

fn places(history: &History, partitions: &[(Topic, PartitionIndex)]) -> String {
    list(partitions.iter().map(|&(topic, partition)| place(history, topic, partition)))
}

fn settings(configs: &PartialConfigs) -> String {
    list(configs.iter().map(|(key, value)| {
        format!("{key}={}", value.as_deref().unwrap_or("(not set on the topic)"))
    }))
}

/// An offset, or what stands for one.
fn target(offset: i64) -> String {
    match Offset(offset) {
        BEGINNING => "the beginning".to_owned(),
        END => "the end".to_owned(),
        Offset(number) => number.to_string(),
    }
}

fn list(items: impl ExactSizeIterator<Item = String>) -> String {
    let more = if items.len() > NAMED_MAX { ", ..." } else { "" };
    let some: Vec<String> = items.take(NAMED_MAX).collect();
    format!("{}{more}", some.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_so_that_they_can_be_looked_for() {
        let mut history = History::new();
        let (topic, group) = (history.topic("trial"), history.group("crew"));
        let (partition, offset) = (PartitionIndex(2), Offset(5));
        let commit =
            Membership::Commit { generation: Some(3), offsets: vec![(topic, partition, offset)] };
        let commit = Op::Group(group, Box::new(commit));
        assert_eq!(of(&history, &commit), "crew: commit trial/2@5 in generation 3");
        let ask = Op::ListOffset { topic, partition, ask: -2, offset: Some(offset) };
        assert_eq!(of(&history, &ask), "list-offset of trial/2, the beginning: 5");
        let partitions = (0..9).map(|index| (topic, PartitionIndex(index))).collect();
        assert!(of(&history, &Op::Assign { partitions }).ends_with("trial/7, ..."));
    }
}
