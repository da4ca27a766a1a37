//! The cluster's metadata as a state machine: brokers, topics, settings, producer ids.
//!
//! [`Cluster::decide`] checks a [`Command`] against the state and answers with the records that
//! would carry it out and the reply for whoever asked, or with a [`Refusal`] that has a Kafka code
//! and a sentence. It changes nothing. Its host makes the records durable and then hands each to
//! [`Cluster::apply`]. Between the two the host decides nothing else: commands are decided one
//! after another, each on the state that all earlier records led to.
//!
//! Keeps: META-1, replaying the records from the first on gives an equal machine; META-2, names
//! are unique even with `.` and `_` taken as equal, and ids are never used twice at a time;
//! META-3, a leader epoch never falls, and rises at every start of the leader; META-4, no producer
//! id is given out twice.
//!
//! Must not know: the clock, random numbers (ids come with the command), logs and connections.
//! One core, the one that hosts the machine, owns it; all others read its [`Image`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::image::{ClusterId, Image, Partition, ProducerIdsNext, Registration, Topic};
use super::name;
use super::quota::{self, Entity, Quota, QuotaError, Quotas};
use super::record::Record;
use super::refusal::{AssignmentError, Refusal};
use crate::config;
use crate::id::{LeaderEpoch, NodeId, PartitionIndex, ProducerId, TopicId};
use crate::limit::{PARTITIONS_MAX, PARTITIONS_PER_TOPIC_MAX, QUOTA_ENTITIES_MAX, TOPICS_MAX};

/// How many producer ids one allocation gives to a broker, as in Kafka.
pub const PRODUCER_IDS_PER_BLOCK: i64 = 1000;

/// What somebody wants the cluster to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A broker has started and wants to serve. Repeating it with the same incarnation changes
    /// nothing.
    StartBroker {
        /// The broker's id.
        node: NodeId,
        /// A random number, new at every start.
        incarnation: u64,
        /// A random identity for the cluster, used only if it has none yet.
        cluster: ClusterId,
    },
    /// Make a topic.
    CreateTopic(NewTopic),
    /// Check that a topic could be made; the reply is as if it had been.
    ValidateTopic(NewTopic),
    /// Give a topic more partitions.
    CreatePartitions(MorePartitions),
    /// Check that a topic could have more partitions; the reply is as if it had them.
    ValidatePartitions(MorePartitions),
    /// Delete the topic of this id. (Whoever has a name looks it up in the image first.)
    DeleteTopic {
        /// The topic's id.
        id: TopicId,
    },
    /// Change some of a topic's own settings; `None` returns one to its default.
    SetTopicConfigs {
        /// The topic's name.
        name: String,
        /// The changes, by Kafka's names.
        changes: BTreeMap<String, Option<String>>,
    },
    /// Check that the settings could be changed.
    ValidateTopicConfigs {
        /// The topic's name.
        name: String,
        /// The changes, by Kafka's names.
        changes: BTreeMap<String, Option<String>>,
    },
    /// Change some of the settings that the cluster keeps for a broker; `None` takes one away.
    SetBrokerConfigs {
        /// The broker; all of them if none is named.
        node: Option<NodeId>,
        /// The changes, by Kafka's names.
        changes: BTreeMap<String, Option<String>>,
    },
    /// Check that they could be changed.
    ValidateBrokerConfigs {
        /// The broker; all of them if none is named.
        node: Option<NodeId>,
        /// The changes, by Kafka's names.
        changes: BTreeMap<String, Option<String>>,
    },
    /// Change some of the quotas of users or clients; `None` removes one.
    SetQuotas(NewQuotas),
    /// Check that the quotas could be changed.
    ValidateQuotas(NewQuotas),
    /// Give the broker a block of producer ids that nobody ever had.
    AllocateProducerIds {
        /// The broker that asks.
        node: NodeId,
    },
}

/// Changes to the quotas of one entity (KIP-546).
#[derive(Clone, Debug, PartialEq)]
pub struct NewQuotas {
    /// Whose.
    pub entity: Entity,
    /// The changes, by Kafka's names.
    pub changes: BTreeMap<String, Option<f64>>,
}

impl Eq for NewQuotas {}

/// A topic that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// A fresh random id.
    pub id: TopicId,
    /// How many partitions, and where.
    pub layout: Layout,
    /// Settings of its own, by Kafka's names.
    pub configs: BTreeMap<String, String>,
}

/// More partitions for a topic (KIP-195).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MorePartitions {
    /// The topic's name.
    pub name: String,
    /// How many partitions it is to have in the end: more than it has.
    pub count: i32,
    /// The brokers of each new partition, the preferred leader first; the cluster chooses if none
    /// are given.
    pub assignment: Option<Vec<Vec<NodeId>>>,
}

/// How a new topic's partitions are laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// So many of each; the cluster chooses the brokers. Defaults have been filled in.
    Count {
        /// Partitions, 1 or more.
        partitions: i32,
        /// Copies of each, 1 or more.
        replication_factor: i16,
    },
    /// The brokers of each partition, the preferred leader first. Indexes must be dense from 0.
    Manual(BTreeMap<PartitionIndex, Vec<NodeId>>),
}

/// The answer to a command that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The broker may serve.
    BrokerStarted,
    /// The topic as it now is (or would be).
    TopicCreated(Arc<Topic>),
    /// The topic with its new partitions.
    PartitionsCreated(Arc<Topic>),
    /// The topic that is gone.
    TopicDeleted(Arc<Topic>),
    /// The topic's settings are these (or would be).
    TopicConfigured(BTreeMap<String, String>),
    /// What the cluster keeps for the broker, or would.
    BrokerConfigured(BTreeMap<String, String>),
    /// The quotas are these (or would be).
    QuotasSet(Quotas),
    /// The broker owns the ids `first .. first + count`.
    ProducerIds {
        /// The first id of the block.
        first: ProducerId,
        /// How many there are.
        count: i64,
    },
}

/// A record that cannot follow the ones before it: the log that it came from is not the log that
/// this machine wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// What the record says that cannot be.
    pub what: String,
}

/// The machine. See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    image: Image,
}

impl Cluster {
    /// A machine that has seen no record.
    #[must_use]
    pub fn new() -> Cluster {
        Cluster::default()
    }

    /// The state, to look things up in and to publish.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// What carrying out `command` takes, and its answer once that has been done.
    ///
    /// # Errors
    /// A [`Refusal`] if the command cannot be carried out on the present state.
    pub fn decide(&self, command: Command) -> Result<(Vec<Record>, Reply), Refusal> {
        match command {
            Command::StartBroker { node, incarnation, cluster } => {
                self.start_broker(node, incarnation, cluster)
            }
            Command::CreateTopic(topic) => self.create_topic(topic),
            Command::ValidateTopic(topic) => {
                self.create_topic(topic).map(|(_, reply)| (Vec::new(), reply))
            }
            Command::CreatePartitions(more) => self.create_partitions(more),
            Command::ValidatePartitions(more) => {
                self.create_partitions(more).map(|(_, reply)| (Vec::new(), reply))
            }
            Command::DeleteTopic { id } => {
                let topic = self.image.topic_by_id(id).ok_or(Refusal::UnknownTopicId { id })?;
                Ok((vec![Record::TopicDeleted { id }], Reply::TopicDeleted(Arc::clone(topic))))
            }
            Command::SetTopicConfigs { name, changes } => self.set_configs(name, changes),
            Command::ValidateTopicConfigs { name, changes } => {
                self.set_configs(name, changes).map(|(_, reply)| (Vec::new(), reply))
            }
            Command::SetBrokerConfigs { node, changes } => self.set_broker_configs(node, changes),
            Command::ValidateBrokerConfigs { node, changes } => {
                self.set_broker_configs(node, changes).map(|(_, reply)| (Vec::new(), reply))
            }
            Command::SetQuotas(new) => self.set_quotas(new),
            Command::ValidateQuotas(new) => {
                self.set_quotas(new).map(|(_, reply)| (Vec::new(), reply))
            }
            Command::AllocateProducerIds { node } => self.allocate_producer_ids(node),
        }
    }

    fn start_broker(
        &self,
        node: NodeId,
        incarnation: u64,
        cluster: ClusterId,
    ) -> Result<(Vec<Record>, Reply), Refusal> {
        if node.0 < 0 {
            return Err(Refusal::NodeId { node });
        }
        // One node today: whoever registered first owns the data.
        if let Some((owner, _)) = self.image.brokers().find(|&(known, _)| known != node) {
            return Err(Refusal::OtherNode { node, owner });
        }
        let mut records = Vec::new();
        if self.image.cluster_id() == ClusterId::default() {
            records.push(Record::ClusterFormed { cluster });
        }
        if self.image.broker(node) != Some(Registration { incarnation }) {
            records.push(Record::BrokerStarted { node, incarnation });
        }
        Ok((records, Reply::BrokerStarted))
    }

    fn create_topic(&self, wanted: NewTopic) -> Result<(Vec<Record>, Reply), Refusal> {
        let NewTopic { name, id, layout, configs } = wanted;
        if let Err(error) = name::check(&name) {
            return Err(Refusal::TopicName { name, error });
        }
        if self.image.topic(&name).is_some() {
            return Err(Refusal::TopicExists { name });
        }
        if let Some(existing) = self.image.state.by_folded.get(&name::folded(&name)) {
            return Err(Refusal::TopicNameCollides { name, existing: Arc::clone(existing) });
        }
        if id == TopicId::NONE || self.image.topic_by_id(id).is_some() {
            return Err(Refusal::TopicIdExists { id });
        }
        let partitions = self.lay_out(layout)?;
        if self.image.topics().len() >= TOPICS_MAX {
            return Err(Refusal::Limit { what: "topics of a cluster", most: TOPICS_MAX });
        }
        if self.image.partition_count() + partitions.len() > PARTITIONS_MAX {
            return Err(Refusal::Limit { what: "partitions of a cluster", most: PARTITIONS_MAX });
        }
        for (key, value) in &configs {
            config::topic::check(key, value).map_err(Refusal::Config)?;
        }
        config::topic::check_together(&configs).map_err(Refusal::Config)?;
        let reply = Reply::TopicCreated(Arc::new(new_topic(id, &name, &partitions, &configs)));
        Ok((vec![Record::TopicCreated { id, name, partitions, configs }], reply))
    }

    fn create_partitions(&self, more: MorePartitions) -> Result<(Vec<Record>, Reply), Refusal> {
        let MorePartitions { name, count, assignment } = more;
        let Some(topic) = self.image.topic(&name) else {
            return Err(Refusal::UnknownTopic { name });
        };
        let before = topic.partitions.len();
        let wanted = usize::try_from(count).unwrap_or(0);
        if wanted <= before {
            return Err(Refusal::NotMorePartitions { partitions: count, before });
        }
        bound_partitions(wanted)?;
        let added = wanted - before;
        if self.image.partition_count() + added > PARTITIONS_MAX {
            return Err(Refusal::Limit { what: "partitions of a cluster", most: PARTITIONS_MAX });
        }
        let copies = topic.partitions[0].replicas.len();
        let partitions = match assignment {
            None => {
                let brokers: Vec<NodeId> = self.image.brokers().map(|(node, _)| node).collect();
                // The turns go on where those of the partitions before have ended.
                let turn = |first: usize| {
                    (0..copies).map(|copy| brokers[(first + copy) % brokers.len()]).collect()
                };
                (before..wanted).map(turn).collect()
            }
            Some(assignment) => self.assigned(topic, assignment, added)?,
        };
        let mut grown = Topic::clone(topic);
        grown.partitions.extend(partitions.iter().map(|replicas| begin(replicas)));
        let reply = Reply::PartitionsCreated(Arc::new(grown));
        Ok((vec![Record::PartitionsAdded { id: topic.id, partitions }], reply))
    }

    /// A manual assignment of `added` new partitions, if it fits those that the topic has.
    fn assigned(
        &self,
        topic: &Topic,
        assignment: Vec<Vec<NodeId>>,
        added: usize,
    ) -> Result<Vec<Vec<NodeId>>, Refusal> {
        let brokers: Vec<NodeId> = self.image.brokers().map(|(node, _)| node).collect();
        let old = topic.partitions.iter().map(|one| one.replicas.clone());
        // Judged as a whole, so that a new partition has as many copies as the old ones.
        let all: Vec<Vec<NodeId>> = old.chain(assignment.iter().cloned()).collect();
        let all = (0..).map(PartitionIndex).zip(all).collect();
        check_assignment(&all, &brokers)?;
        if assignment.len() != added {
            let given = assignment.len();
            return Err(Refusal::AssignmentCount { given, added });
        }
        Ok(assignment)
    }

    /// The replicas of each partition.
    fn lay_out(&self, layout: Layout) -> Result<Vec<Vec<NodeId>>, Refusal> {
        let brokers: Vec<NodeId> = self.image.brokers().map(|(node, _)| node).collect();
        let partitions = match layout {
            Layout::Count { partitions, replication_factor } => {
                let count = usize::try_from(partitions).unwrap_or(0);
                if count == 0 {
                    return Err(Refusal::Partitions { partitions });
                }
                bound_partitions(count)?;
                let copies = usize::try_from(replication_factor).unwrap_or(0);
                if copies == 0 || copies > brokers.len() {
                    let brokers = brokers.len();
                    return Err(Refusal::ReplicationFactor { replication_factor, brokers });
                }
                let turn = |first: usize| {
                    (0..copies).map(|copy| brokers[(first + copy) % brokers.len()]).collect()
                };
                (0..count).map(turn).collect()
            }
            Layout::Manual(assignment) => {
                bound_partitions(assignment.len())?;
                if assignment.is_empty() {
                    return Err(Refusal::Partitions { partitions: 0 });
                }
                check_assignment(&assignment, &brokers)?;
                assignment.into_values().collect()
            }
        };
        Ok(partitions)
    }

    fn set_configs(
        &self,
        name: String,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<(Vec<Record>, Reply), Refusal> {
        let Some(topic) = self.image.topic(&name) else {
            return Err(Refusal::UnknownTopic { name });
        };
        let mut configs = topic.configs.clone();
        for (key, change) in changes {
            match change {
                Some(value) => {
                    config::topic::check(&key, &value).map_err(Refusal::Config)?;
                    configs.insert(key, value);
                }
                // As in Kafka, nobody minds if what is not there is taken away: tools that copy settings
                // from another cluster do it for all that it knows.
                None => drop(configs.remove(&key)),
            }
        }
        config::topic::check_together(&configs).map_err(Refusal::Config)?;
        let reply = Reply::TopicConfigured(configs.clone());
        if configs == topic.configs {
            return Ok((Vec::new(), reply));
        }
        Ok((vec![Record::TopicConfigured { id: topic.id, configs }], reply))
    }

    fn set_broker_configs(
        &self,
        node: Option<NodeId>,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<(Vec<Record>, Reply), Refusal> {
        if let Some(node) = node.filter(|node| self.image.broker(*node).is_none()) {
            return Err(Refusal::UnregisteredBroker { node });
        }
        let before = self.image.broker_configs().get(&node).cloned().unwrap_or_default();
        let mut configs = before.clone();
        for (key, change) in changes {
            match change {
                Some(value) => {
                    config::dynamic::check(&key, &value).map_err(Refusal::BrokerConfig)?;
                    configs.insert(key, value);
                }
                None => {
                    config::dynamic::key_of(&key).map_err(Refusal::BrokerConfig)?;
                    configs.remove(&key);
                }
            }
        }
        let reply = Reply::BrokerConfigured(configs.clone());
        if configs == before {
            return Ok((Vec::new(), reply));
        }
        Ok((vec![Record::BrokerConfigured { node, configs }], reply))
    }

    fn set_quotas(&self, new: NewQuotas) -> Result<(Vec<Record>, Reply), Refusal> {
        let NewQuotas { entity, changes } = new;
        let known = &self.image.state.quotas;
        let before = known.get(&entity);
        let mut quotas = before.cloned().unwrap_or_default();
        for (name, change) in changes {
            let found = Quota::named(&name);
            let quota = found.ok_or(Refusal::Quota(QuotaError::Unknown(name)))?;
            match change {
                Some(value) => {
                    quotas.insert(quota, quota::rate(quota, value).map_err(Refusal::Quota)?);
                }
                None => {
                    quotas.remove(&quota);
                }
            }
        }
        if before.is_none() && !quotas.is_empty() && known.len() >= QUOTA_ENTITIES_MAX {
            let what = "users and clients with quotas";
            return Err(Refusal::Limit { what, most: QUOTA_ENTITIES_MAX });
        }
        let reply = Reply::QuotasSet(quotas.clone());
        if before.unwrap_or(&Quotas::new()) == &quotas {
            return Ok((Vec::new(), reply));
        }
        Ok((vec![Record::QuotasSet { entity, quotas }], reply))
    }

    fn allocate_producer_ids(&self, node: NodeId) -> Result<(Vec<Record>, Reply), Refusal> {
        if self.image.broker(node).is_none() {
            return Err(Refusal::UnregisteredBroker { node });
        }
        let first = self.image.state.producer_ids_next.0;
        let Some(next) = first.0.checked_add(PRODUCER_IDS_PER_BLOCK) else {
            return Err(Refusal::ProducerIdsExhausted);
        };
        let record = Record::ProducerIdsAllocated { node, next: ProducerId(next) };
        Ok((vec![record], Reply::ProducerIds { first, count: PRODUCER_IDS_PER_BLOCK }))
    }

    /// Takes a record into the state. Records come in the order of their log, from the first on.
    ///
    /// # Errors
    /// A [`Contradiction`] if the record cannot follow those before it; the state is as it was.
    pub fn apply(&mut self, record: &Record) -> Result<(), Contradiction> {
        self.check(record)?;
        let state = Arc::make_mut(&mut self.image.state);
        match record {
            Record::ClusterFormed { cluster } => state.cluster = *cluster,
            Record::BrokerStarted { node, incarnation } => {
                state.brokers.insert(*node, Registration { incarnation: *incarnation });
                let led = |topic: &Topic| topic.partitions.iter().any(|one| one.leader == *node);
                let topics: Vec<Arc<Topic>> =
                    state.by_name.values().filter(|topic| led(topic)).cloned().collect();
                for mut topic in topics {
                    for one in &mut Arc::make_mut(&mut topic).partitions {
                        if one.leader == *node {
                            one.leader_epoch = next_epoch(one.leader_epoch);
                        }
                    }
                    state.put(topic);
                }
            }
            Record::TopicCreated { id, name, partitions, configs } => {
                state.partitions += partitions.len();
                state.put(Arc::new(new_topic(*id, name, partitions, configs)));
            }
            Record::TopicDeleted { id } => {
                let topic = state.by_id.remove(id).expect("checked above");
                state.partitions -= topic.partitions.len();
                state.by_name.remove(&topic.name);
                state.by_folded.remove(&name::folded(&topic.name));
            }
            Record::PartitionsAdded { id, partitions } => {
                state.partitions += partitions.len();
                let mut topic = Arc::clone(&state.by_id[id]);
                Arc::make_mut(&mut topic)
                    .partitions
                    .extend(partitions.iter().map(|replicas| begin(replicas)));
                state.put(topic);
            }
            Record::TopicConfigured { id, configs } => {
                let mut topic = Arc::clone(&state.by_id[id]);
                Arc::make_mut(&mut topic).configs = configs.clone();
                state.put(topic);
            }
            Record::BrokerConfigured { node, configs } => {
                let all = Arc::make_mut(&mut state.broker_configs);
                if configs.is_empty() {
                    all.remove(node);
                } else {
                    all.insert(*node, configs.clone());
                }
            }
            Record::QuotasSet { entity, quotas } => {
                if quotas.is_empty() {
                    state.quotas.remove(entity);
                } else {
                    state.quotas.insert(entity.clone(), quotas.clone());
                }
            }
            Record::ProducerIdsAllocated { next, .. } => {
                state.producer_ids_next = ProducerIdsNext(*next);
            }
        }
        state.records_applied += 1;
        assert_eq!(state.by_name.len(), state.by_id.len(), "META-2: one id for each name");
        assert_eq!(state.by_name.len(), state.by_folded.len(), "META-2: folded names are unique");
        Ok(())
    }

    /// Whether a record can follow those before it.
    fn check(&self, record: &Record) -> Result<(), Contradiction> {
        let image = &self.image;
        let contradiction = |what: String| Err(Contradiction { what });
        match record {
            Record::ClusterFormed { cluster } => {
                if image.cluster_id() != ClusterId::default() {
                    return contradiction(format!(
                        "it forms cluster {cluster} within cluster {}",
                        image.cluster_id()
                    ));
                }
            }
            Record::BrokerStarted { node, .. } => {
                if node.0 < 0 {
                    return contradiction(format!("it starts a broker numbered {node}"));
                }
            }
            Record::TopicCreated { id, name, partitions, configs } => {
                check_configs(configs)?;
                if image.topic_by_id(*id).is_some()
                    || image.state.by_folded.contains_key(&name::folded(name))
                {
                    return contradiction(format!("it creates topic {name} ({id}) once more"));
                }
                if name::check(name).is_err() || *id == TopicId::NONE {
                    return contradiction(format!("it creates a topic {name:?} ({id})"));
                }
                if partitions.is_empty()
                    || partitions.len() > PARTITIONS_PER_TOPIC_MAX
                    || partitions.iter().any(Vec::is_empty)
                {
                    return contradiction(format!("topic {name} has impossible partitions"));
                }
            }
            Record::TopicDeleted { id } => self.check_topic(*id)?,
            Record::PartitionsAdded { id, partitions } => {
                self.check_topic(*id)?;
                let before = image.topic_by_id(*id).map_or(0, |topic| topic.partitions.len());
                if partitions.is_empty()
                    || before + partitions.len() > PARTITIONS_PER_TOPIC_MAX
                    || partitions.iter().any(Vec::is_empty)
                {
                    return contradiction(format!("it gives topic {id} impossible partitions"));
                }
            }
            Record::TopicConfigured { id, configs } => {
                check_configs(configs)?;
                self.check_topic(*id)?;
            }
            Record::BrokerConfigured { node, configs } => {
                for (key, value) in configs {
                    if let Err(error) = config::dynamic::check(key, value) {
                        return contradiction(format!("this version refuses a setting: {error}"));
                    }
                }
                if let Some(node) = node.filter(|node| image.broker(*node).is_none()) {
                    return contradiction(format!("it sets up broker {node}, which never started"));
                }
            }
            // Its parts were checked when they were read, and whatever they were before they may be.
            Record::QuotasSet { .. } => {}
            Record::ProducerIdsAllocated { next, .. } => {
                let first = image.state.producer_ids_next.0;
                if *next <= first {
                    return contradiction(format!("it gives out producer ids below {first} again"));
                }
            }
        }
        Ok(())
    }

    fn check_topic(&self, id: TopicId) -> Result<(), Contradiction> {
        match self.image.topic_by_id(id) {
            Some(_) => Ok(()),
            None => {
                Err(Contradiction { what: format!("it changes topic {id}, which does not exist") })
            }
        }
    }
}

/// Settings that were legal when they were decided may not be for another version of the program.
/// Then it does not start: a topic must not lose its settings silently.
fn check_configs(configs: &BTreeMap<String, String>) -> Result<(), Contradiction> {
    for (key, value) in configs {
        if let Err(error) = config::topic::check(key, value) {
            return Err(Contradiction { what: format!("this version refuses a setting: {error}") });
        }
    }
    Ok(())
}

impl super::image::State {
    /// Puts a topic into all tables.
    fn put(&mut self, topic: Arc<Topic>) {
        self.by_folded.insert(name::folded(&topic.name), Arc::clone(&topic.name));
        self.by_name.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        self.by_id.insert(topic.id, topic);
    }
}

/// A partition as it begins: the first replica leads, all are in sync, the epoch is 0.
fn begin(replicas: &[NodeId]) -> Partition {
    Partition {
        leader: replicas[0],
        leader_epoch: LeaderEpoch(0),
        replicas: replicas.to_vec(),
        isr: replicas.to_vec(),
    }
}

/// A topic as it begins.
fn new_topic(
    id: TopicId,
    name: &str,
    partitions: &[Vec<NodeId>],
    configs: &BTreeMap<String, String>,
) -> Topic {
    let partitions = partitions.iter().map(|replicas| begin(replicas)).collect();
    Topic { name: name.into(), id, partitions, configs: configs.clone() }
}

/// META-3. An epoch has 31 bits; at one start a second they last for 68 years, and then it stays.
fn next_epoch(epoch: LeaderEpoch) -> LeaderEpoch {
    LeaderEpoch(epoch.0.saturating_add(1))
}

fn bound_partitions(count: usize) -> Result<(), Refusal> {
    if count > PARTITIONS_PER_TOPIC_MAX {
        return Err(Refusal::Limit {
            what: "partitions of a topic",
            most: PARTITIONS_PER_TOPIC_MAX,
        });
    }
    Ok(())
}

fn check_assignment(
    assignment: &BTreeMap<PartitionIndex, Vec<NodeId>>,
    brokers: &[NodeId],
) -> Result<(), Refusal> {
    let copies = assignment.first_key_value().map_or(0, |(_, replicas)| replicas.len());
    for (expected, (&partition, replicas)) in (0..).zip(assignment) {
        let refuse = |why| Err(Refusal::Assignment { partition, why });
        if partition.0 != expected {
            let partition = PartitionIndex(expected);
            return Err(Refusal::Assignment { partition, why: AssignmentError::Missing });
        }
        if replicas.is_empty() {
            return refuse(AssignmentError::Empty);
        }
        if replicas.len() != copies {
            return refuse(AssignmentError::Uneven);
        }
        for (place, &node) in replicas.iter().enumerate() {
            if replicas[..place].contains(&node) {
                return refuse(AssignmentError::Repeated(node));
            }
            if !brokers.contains(&node) {
                return refuse(AssignmentError::UnknownBroker(node));
            }
        }
    }
    Ok(())
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a metadata record contradicts the ones before it: {}", self.what)
    }
}

impl std::error::Error for Contradiction {}
