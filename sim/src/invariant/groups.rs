//! Consumer groups after the run: what the records of `__consumer_offsets` come to that a last power
//! cut left on a broker's disk.
//!
//! A replay of this file's own, beside the product's machine: the last value of each key. Its
//! committed offsets go into the history as one last look, which `lost-commit` and
//! `offset-regression` judge; generations are judged here.

use std::collections::BTreeMap;

use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::machine::group::Record;
use trialog_engine::wire::subscription::{PROTOCOL_TYPE, parse_assignment};

/// The topic whose records these are.
pub const TOPIC: &str = "__consumer_offsets";

/// Committed offsets: by group, and then by topic and partition.
pub type Committed = BTreeMap<String, BTreeMap<(String, PartitionIndex), Offset>>;

/// What the records of a broker's groups have come to so far.
#[derive(Debug, Default)]
pub struct Replay {
    /// What is committed.
    pub committed: Committed,
    generations: BTreeMap<String, i32>,
    wrong: Vec<String>,
}

impl Replay {
    /// Takes in one record.
    pub fn take(&mut self, key: &[u8], value: Option<&[u8]>) {
        match Record::decode(key, value, None) {
            Ok(Record::Committed { group, topic, partition, place }) => {
                let places = self.committed.entry(group).or_default();
                match place {
                    Some(place) => places.insert((topic, partition), place.offset),
                    None => places.remove(&(topic, partition)),
                };
            }
            Ok(Record::Generation { group, generation: None }) => {
                self.generations.remove(&group);
            }
            Ok(Record::Generation { group, generation: Some(generation) }) => {
                let number = generation.number;
                let before = self.generations.insert(group.clone(), number);
                if before.is_some_and(|before| before > number) {
                    self.wrong.push(format!("{group}: generation {number} after {before:?}"));
                }
                if generation.protocol_type != PROTOCOL_TYPE {
                    return;
                }
                let mut owners = BTreeMap::new();
                for member in generation.members {
                    let share = parse_assignment(&member.assignment).unwrap_or_default();
                    for (topic, indexes) in share {
                        for index in indexes {
                            let place = (topic.clone(), index);
                            if let Some(other) = owners.insert(place, member.id.clone()) {
                                let id = &member.id;
                                self.wrong.push(format!(
                                    "{group}: in generation {number} both {other} and {id} own \
                                     {topic}/{index}"
                                ));
                            }
                        }
                    }
                }
            }
            Err(error) => self.wrong.push(error.to_string()),
        }
    }

    /// GROUP-6: what was wrong with the generations.
    pub fn wrong(&self) -> Option<String> {
        (!self.wrong.is_empty()).then(|| self.wrong.join("; "))
    }
}
