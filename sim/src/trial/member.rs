//! A member of a consumer group whose every step goes into the history: what it is given, reads,
//! commits and gives up.

use std::time::Duration;

use trialog_engine::client::{
    CallError, ConsumeError, ConsumedRecord, GroupConsumer, GroupError, GroupOptions, Place,
    Polled, Start,
};
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_jepsen::history::{BEGINNING, Group, Membership, Op, Phase, Process, Topic};

use super::client::seen;
use super::node::Node;
use crate::fate::fate_of_commit;
use crate::io::SimIo;

/// Reads as a member of a group. Commits nothing by itself.
pub struct Member {
    node: Node,
    inner: GroupConsumer<SimIo>,
    process: Process,
    group: Group,
    /// Its static name (KIP-345), if it has one.
    instance: Option<Box<str>>,
    /// The last generation in which it was given something.
    generation: i32,
}

impl Member {
    pub(super) fn new(node: Node, options: GroupOptions, topics: &[&str]) -> Member {
        let process = node.next_voice();
        let group = node.group(&options.group);
        let instance = options.instance.as_deref().map(Into::into);
        let subscribed = topics.iter().map(|topic| node.topic(topic)).collect();
        let inner = node.client().subscribe(options, topics);
        let member = Member { node, inner, process, group, instance, generation: -1 };
        member.record(Phase::Ok, Membership::Subscribe { topics: subscribed });
        member
    }

    /// The next news, or no records once `timeout` has passed.
    ///
    /// # Errors
    /// As [`GroupConsumer::poll`].
    pub async fn poll(&mut self, timeout: Duration) -> Result<Polled, GroupError> {
        let mut polled = self.inner.poll(timeout).await?;
        match &mut polled {
            Polled::Records(records) if records.is_empty() => {}
            Polled::Records(records) => {
                let records = records.iter_mut().map(|record| seen(&self.node, record)).collect();
                self.node.record(self.process, Phase::Ok, Op::Poll { records });
            }
            Polled::Assigned(generation, _) => {
                self.generation = *generation;
                let (member, partitions) = (self.instance.clone(), self.parts(&self.inner.owned()));
                let generation = *generation;
                let assigned = Membership::Assigned { member, generation, partitions };
                self.record(Phase::Ok, assigned);
            }
            Polled::Revoked(places) | Polled::Lost(places) => self.given_up(places),
        }
        Ok(polled)
    }

    /// The next records, waiting for some for ever, through every failure that may pass and every
    /// change in the group. What was read and not committed when partitions went to others, they read
    /// again. Reading goes on at the oldest record if what comes next is not in the log any more.
    pub async fn next(&mut self) -> Vec<ConsumedRecord> {
        loop {
            match self.poll(Duration::from_millis(500)).await {
                Ok(Polled::Records(records)) if !records.is_empty() => return records,
                Ok(_) => {}
                Err(GroupError::Consume(ConsumeError::OutOfRange { topic, partition, .. })) => {
                    self.seek(&topic, partition, Start::Earliest);
                }
                Err(_) => self.node.sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Commits what it has read of all that it reads, or has just been told to give up.
    ///
    /// # Errors
    /// As [`GroupConsumer::commit`].
    pub async fn commit(&mut self) -> Result<(), GroupError> {
        let positions = self.inner.positions();
        self.commit_at(&positions).await
    }

    /// Commits these offsets, each that of the next record to read.
    ///
    /// # Errors
    /// As [`GroupConsumer::commit`].
    pub async fn commit_at(&mut self, offsets: &[(Place, Offset)]) -> Result<(), GroupError> {
        let (generation, _) = self.inner.generation().ok_or(GroupError::NotMember)?;
        let part = |((topic, index), at): &(Place, Offset)| (self.node.topic(topic), *index, *at);
        let (generation, told) = (Some(generation), offsets.iter().map(part).collect());
        let commit = Membership::Commit { generation, offsets: told };
        self.record(Phase::Invoke, commit.clone());
        let outcome = self.inner.commit_at(offsets).await;
        self.record(fate_of_commit(&outcome), commit);
        outcome
    }

    /// Goes on in a partition that it reads from another place.
    pub fn seek(&mut self, name: &str, partition: PartitionIndex, start: Start) {
        let offset = match start {
            Start::Offset(offset) => offset,
            Start::Earliest => BEGINNING,
            Start::Latest | Start::Time(_) => trialog_jepsen::history::END,
        };
        let topic = self.node.topic(name);
        self.node.record(self.process, Phase::Ok, Op::Seek { topic, partition, offset });
        self.inner.seek(name, partition, start);
    }

    /// The partitions that it reads.
    #[must_use]
    pub fn owned(&self) -> Vec<Place> {
        self.inner.owned()
    }

    /// Leaves the group. Commits nothing.
    ///
    /// # Errors
    /// As [`GroupConsumer::close`].
    pub async fn close(self) -> Result<(), CallError> {
        self.given_up(&self.inner.owned());
        self.inner.close().await
    }

    fn given_up(&self, places: &[Place]) {
        let (generation, partitions) = (self.generation, self.parts(places));
        self.record(Phase::Ok, Membership::Revoked { generation, partitions });
    }

    fn parts(&self, places: &[Place]) -> Vec<(Topic, PartitionIndex)> {
        places.iter().map(|(topic, index)| (self.node.topic(topic), *index)).collect()
    }

    fn record(&self, phase: Phase, membership: Membership) {
        self.node.record(self.process, phase, Op::Group(self.group, Box::new(membership)));
    }
}
