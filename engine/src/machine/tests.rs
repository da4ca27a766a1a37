//! The cluster machine against a naive model, and its rules one by one.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::cluster::PRODUCER_IDS_PER_BLOCK;
use super::quota::{Entity, Quota, Whose};
use super::refusal::AssignmentError;
use super::*;
use crate::id::{LeaderEpoch, NodeId, PartitionIndex, ProducerId, TopicId};
use crate::limit::PARTITIONS_PER_TOPIC_MAX;

const NODE: NodeId = NodeId(1);

fn start(incarnation: u64) -> Command {
    Command::StartBroker { node: NODE, incarnation, cluster: ClusterId([5; 16]) }
}

fn topic(name: &str, seed: u8) -> NewTopic {
    NewTopic {
        name: name.into(),
        id: TopicId([seed; 16]),
        layout: Layout::Count { partitions: 2, replication_factor: 1 },
        configs: BTreeMap::new(),
    }
}

/// Decides, and applies what was decided through its bytes.
fn run(cluster: &mut Cluster, command: Command) -> Result<Reply, Refusal> {
    let (records, reply) = cluster.decide(command)?;
    for record in records {
        let read = Record::decode(&record.to_bytes()).expect("just written");
        cluster.apply(&read).expect("just decided");
    }
    Ok(reply)
}

fn started() -> Cluster {
    let mut cluster = Cluster::new();
    run(&mut cluster, start(1)).expect("the first start");
    cluster
}

fn refused(cluster: &Cluster, command: Command) -> Refusal {
    cluster.decide(command).expect_err("to be refused")
}

/// What the model knows of a topic: own settings, and of each partition the starts since it was
/// made.
#[derive(Clone, Debug)]
struct Known {
    id: TopicId,
    configs: BTreeMap<String, String>,
    starts: Vec<i32>,
}

#[derive(Default)]
struct Model {
    incarnation: Option<u64>,
    topics: BTreeMap<String, Known>,
    brokers: BrokerConfigs,
    quotas: BTreeMap<String, BTreeMap<String, f64>>,
    blocks: i64,
}

fn check_quotas(new: &NewQuotas) -> Result<(), &'static str> {
    let known = |(name, change): (&String, &Option<f64>)| {
        Quota::named(name).is_some() && change.is_none_or(|value| value > 0.0)
    };
    if new.changes.iter().all(known) { Ok(()) } else { Err("quota") }
}

fn kind(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::TopicName { .. } => "name",
        Refusal::TopicNameCollides { .. } => "collides",
        Refusal::TopicExists { .. } => "exists",
        Refusal::TopicIdExists { .. } => "id",
        Refusal::Partitions { .. } | Refusal::NotMorePartitions { .. } => "partitions",
        Refusal::ReplicationFactor { .. } => "copies",
        Refusal::Config(_) | Refusal::BrokerConfig(_) => "config",
        Refusal::Quota(_) => "quota",
        Refusal::UnknownTopic { .. } | Refusal::UnknownTopicId { .. } => "unknown",
        Refusal::OtherNode { .. } => "node",
        Refusal::UnregisteredBroker { .. } => "unregistered",
        _ => "other",
    }
}

impl Model {
    /// What the machine should say; carries it out if that is yes.
    fn run(&mut self, command: &Command) -> Result<(), &'static str> {
        match command {
            Command::StartBroker { node, incarnation, .. } => {
                if *node != NODE && self.incarnation.is_some() {
                    return Err("node");
                }
                if self.incarnation != Some(*incarnation) {
                    let all = self.topics.values_mut().flat_map(|topic| &mut topic.starts);
                    all.for_each(|starts| *starts += 1);
                    self.incarnation = Some(*incarnation);
                }
            }
            Command::CreateTopic(wanted) => {
                let known = self.check(wanted)?;
                self.topics.insert(wanted.name.clone(), known);
            }
            Command::ValidateTopic(wanted) => drop(self.check(wanted)?),
            Command::CreatePartitions(more) => {
                let starts = self.more(more)?;
                self.topics.get_mut(&more.name).expect("just found").starts = starts;
            }
            Command::ValidatePartitions(more) => drop(self.more(more)?),
            Command::DeleteTopic { id } => {
                let found = self.topics.iter().find(|(_, topic)| topic.id == *id);
                let name = found.ok_or("unknown")?.0.clone();
                self.topics.remove(&name);
            }
            Command::SetTopicConfigs { name, changes } => {
                let topic = self.topics.get_mut(name).ok_or("unknown")?;
                if changes.get("bad").is_some_and(Option::is_some) {
                    return Err("config");
                }
                for (key, change) in changes {
                    match change {
                        Some(value) => topic.configs.insert(key.clone(), value.clone()),
                        None => topic.configs.remove(key),
                    };
                }
            }
            Command::ValidateTopicConfigs { name, changes } => {
                self.topics.get(name).ok_or("unknown")?;
                if changes.get("bad").is_some_and(Option::is_some) {
                    return Err("config");
                }
            }
            Command::SetBrokerConfigs { node, changes } => {
                self.check_broker(*node, changes)?;
                let own = self.brokers.entry(*node).or_default();
                for (key, change) in changes {
                    match change {
                        Some(value) => own.insert(key.clone(), value.clone()),
                        None => own.remove(key),
                    };
                }
                self.brokers.retain(|_, own| !own.is_empty());
            }
            Command::ValidateBrokerConfigs { node, changes } => {
                self.check_broker(*node, changes)?;
            }
            Command::SetQuotas(new) => {
                check_quotas(new)?;
                let entry = self.quotas.entry(new.entity.to_string()).or_default();
                for (name, change) in &new.changes {
                    match change {
                        Some(value) => entry.insert(name.clone(), *value),
                        None => entry.remove(name),
                    };
                }
                self.quotas.retain(|_, quotas| !quotas.is_empty());
            }
            Command::ValidateQuotas(new) => check_quotas(new)?,
            Command::AllocateProducerIds { .. } => {
                self.incarnation.ok_or("unregistered")?;
                self.blocks += 1;
            }
        }
        Ok(())
    }

    fn check_broker(
        &self,
        node: Option<NodeId>,
        changes: &BTreeMap<String, Option<String>>,
    ) -> Result<(), &'static str> {
        if node.is_some_and(|node| node != NODE || self.incarnation.is_none()) {
            return Err("unregistered");
        }
        let known =
            |key: &String| ["log.retention.ms", "message.max.bytes"].contains(&key.as_str());
        if changes.keys().all(known) { Ok(()) } else { Err("config") }
    }

    fn more(&self, more: &MorePartitions) -> Result<Vec<i32>, &'static str> {
        let topic = self.topics.get(&more.name).ok_or("unknown")?;
        let count = usize::try_from(more.count).unwrap_or(0);
        if count <= topic.starts.len() {
            return Err("partitions");
        }
        let mut starts = topic.starts.clone();
        starts.resize(count, 0);
        Ok(starts)
    }

    fn check(&self, wanted: &NewTopic) -> Result<Known, &'static str> {
        if wanted.name == ".." {
            return Err("name");
        }
        if self.topics.contains_key(&wanted.name) {
            return Err("exists");
        }
        let folded = |name: &str| name.replace('.', "_");
        if self.topics.keys().any(|name| folded(name) == folded(&wanted.name)) {
            return Err("collides");
        }
        if self.topics.values().any(|topic| topic.id == wanted.id) {
            return Err("id");
        }
        let Layout::Count { partitions, replication_factor } = wanted.layout else {
            panic!("the strategy makes no manual layouts");
        };
        if partitions < 1 {
            return Err("partitions");
        }
        if replication_factor != 1 || self.incarnation.is_none() {
            return Err("copies");
        }
        if wanted.configs.contains_key("bad") {
            return Err("config");
        }
        Ok(Known {
            id: wanted.id,
            configs: wanted.configs.clone(),
            starts: vec![0; usize::try_from(partitions).expect("positive")],
        })
    }

    fn compare(&self, image: &Image) {
        assert_eq!(image.topics().len(), self.topics.len());
        let mut partitions = 0;
        for (topic, (name, known)) in image.topics().zip(&self.topics) {
            assert_eq!(*topic.name, **name);
            assert_eq!(topic.id, known.id);
            assert_eq!(topic.configs, known.configs);
            assert_eq!(topic.partitions.len(), known.starts.len());
            partitions += known.starts.len();
            for (partition, starts) in topic.partitions.iter().zip(&known.starts) {
                assert_eq!(partition.leader, NODE);
                assert_eq!(partition.leader_epoch, LeaderEpoch(*starts), "META-3");
            }
            assert_eq!(image.topic(name), Some(topic));
            assert_eq!(image.topic_by_id(topic.id), Some(topic));
        }
        assert_eq!(image.partition_count(), partitions);
        assert_eq!(**image.broker_configs(), self.brokers);
        let quotas = image.quotas().map(|(entity, quotas)| {
            let named = quotas.iter().map(|(quota, rate)| (quota.name().to_owned(), rate.get()));
            (entity.to_string(), named.collect())
        });
        assert_eq!(quotas.collect::<BTreeMap<_, BTreeMap<_, _>>>(), self.quotas);
    }
}

fn any_quotas() -> impl Strategy<Value = NewQuotas> {
    const NAMES: &[&str] =
        &["producer_byte_rate", "request_percentage", "controller_mutation_rate", "bad"];
    let whose = || proptest::sample::select(&[None, Some(""), Some("a"), Some("b")][..]);
    let whose = move || {
        whose().prop_map(|whose| {
            whose.map(|name| match name {
                "" => Whose::Default,
                name => Whose::Named(name.into()),
            })
        })
    };
    let change =
        prop_oneof![3 => (0_u8..4).prop_map(|value| Some(f64::from(value))), 1 => Just(None)];
    let name = proptest::sample::select(NAMES).prop_map(str::to_owned);
    let changes = proptest::collection::btree_map(name, change, 0..3);
    (whose(), whose(), changes).prop_filter_map("of nobody", |(user, client_id, changes)| {
        Some(NewQuotas { entity: Entity::new(user, client_id).ok()?, changes })
    })
}

fn any_configs() -> impl Strategy<Value = BTreeMap<String, Option<String>>> + Clone {
    let pair = prop_oneof![
        3 => (0_u8..3).prop_map(|n| ("retention.ms", Some(n.to_string()))),
        2 => Just(("retention.ms", None)),
        2 => Just(("cleanup.policy", Some("compact".to_owned()))),
        1 => Just(("cleanup.policy", None)),
        1 => Just(("bad", None)),
        1 => Just(("bad", Some("1".to_owned()))),
    ];
    proptest::collection::btree_map(pair.clone().prop_map(|(key, _)| key.to_owned()), pair, 0..3)
        .prop_map(|pairs| pairs.into_values().map(|(key, value)| (key.into(), value)).collect())
}

fn any_broker_configs()
-> impl Strategy<Value = (Option<NodeId>, BTreeMap<String, Option<String>>)> + Clone {
    const KEYS: &[&str] =
        &["log.retention.ms", "log.retention.ms", "message.max.bytes", "num.partitions", "bad"];
    let node = proptest::sample::select(&[None, Some(NODE), Some(NodeId(7))][..]);
    let value = proptest::option::of((1_u8..3).prop_map(|n| n.to_string()));
    let key = proptest::sample::select(KEYS).prop_map(str::to_owned);
    (node, proptest::collection::btree_map(key, value, 0..3))
}

fn any_topic() -> impl Strategy<Value = NewTopic> {
    const NAMES: &[&str] = &["a", "b", "a.b", "a_b", "c", "..", "d"];
    let partitions = prop_oneof![8 => 1..4, 1 => Just(0), 1 => Just(-5)];
    let copies = prop_oneof![9 => Just(1_i16), 1 => Just(0), 1 => Just(2)];
    (proptest::sample::select(NAMES), 1_u8..8, partitions, copies, any_configs()).prop_map(
        |(name, seed, partitions, replication_factor, configs)| NewTopic {
            name: name.to_owned(),
            id: TopicId([seed; 16]),
            layout: Layout::Count { partitions, replication_factor },
            configs: configs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
        },
    )
}

fn any_command() -> impl Strategy<Value = Command> {
    let name = proptest::sample::select(&["a", "b", "a.b", "nobody"][..]);
    let changes = (name.clone(), any_configs());
    let more = (name, -1..7).prop_map(|(name, count)| MorePartitions {
        name: name.to_owned(),
        count,
        assignment: None,
    });
    prop_oneof![
        2 => more.clone().prop_map(Command::CreatePartitions),
        1 => more.prop_map(Command::ValidatePartitions),
        2 => (0_u64..4).prop_map(start),
        1 => Just(Command::StartBroker {
            node: NodeId(2),
            incarnation: 9,
            cluster: ClusterId([6; 16]),
        }),
        8 => any_topic().prop_map(Command::CreateTopic),
        1 => any_topic().prop_map(Command::ValidateTopic),
        4 => (1_u8..8).prop_map(|seed| Command::DeleteTopic { id: TopicId([seed; 16]) }),
        4 => changes.clone().prop_map(|(name, changes)| {
            Command::SetTopicConfigs { name: name.to_owned(), changes }
        }),
        1 => changes.prop_map(|(name, changes)| {
            Command::ValidateTopicConfigs { name: name.to_owned(), changes }
        }),
        3 => any_broker_configs()
            .prop_map(|(node, changes)| Command::SetBrokerConfigs { node, changes }),
        1 => any_broker_configs()
            .prop_map(|(node, changes)| Command::ValidateBrokerConfigs { node, changes }),
        3 => any_quotas().prop_map(Command::SetQuotas),
        1 => any_quotas().prop_map(Command::ValidateQuotas),
        2 => Just(Command::AllocateProducerIds { node: NODE }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_machine_agrees_with_the_model(commands in proptest::collection::vec(any_command(), 1..60)) {
        let mut cluster = started();
        let mut model = Model::default();
        model.run(&start(1)).expect("the first start");
        let mut log: Vec<Vec<u8>> = Vec::new();
        for record in Cluster::new().decide(start(1)).expect("the first start").0 {
            log.push(record.to_bytes());
        }
        let mut given = BTreeSet::new();
        for command in commands {
            let before = cluster.clone();
            let decided = cluster.decide(command.clone());
            prop_assert_eq!(&before, &cluster, "deciding changes nothing");
            let expected = model.run(&command);
            match (decided, expected) {
                (Ok((records, reply)), Ok(())) => {
                    for record in records {
                        let bytes = record.to_bytes();
                        cluster.apply(&Record::decode(&bytes).expect("just written")).expect("decided");
                        log.push(bytes);
                    }
                    if let Reply::ProducerIds { first, count } = reply {
                        for id in first.0..first.0 + count {
                            prop_assert!(given.insert(id), "META-4: {} given twice", id);
                        }
                    }
                }
                (Err(refusal), Err(expected)) => prop_assert_eq!(kind(&refusal), expected),
                (decided, expected) => {
                    prop_assert!(false, "{command:?}: {decided:?}, but {expected:?}");
                }
            }
            model.compare(cluster.image());
            prop_assert_eq!(given.len() as i64, model.blocks * PRODUCER_IDS_PER_BLOCK);
        }
        let mut replayed = Cluster::new();
        for bytes in &log {
            replayed.apply(&Record::decode(bytes).expect("just written")).expect("in order");
        }
        prop_assert_eq!(&replayed, &cluster, "META-1");
        prop_assert_eq!(replayed.image().version(), log.len() as u64);
    }

    /// A damaged or foreign log is refused or taken, but never a panic, and a refused record
    /// leaves the state as it was.
    #[test]
    fn records_in_any_order_never_panic(
        records in proptest::collection::vec(any_damage(), 0..40),
    ) {
        let mut cluster = Cluster::new();
        for record in records {
            let before = cluster.clone();
            if cluster.apply(&record).is_err() {
                prop_assert_eq!(&before, &cluster);
            }
        }
    }
}

fn any_damage() -> impl Strategy<Value = Record> {
    let id = (0_u8..4).prop_map(|seed| TopicId([seed; 16]));
    let node = (-1..3).prop_map(NodeId);
    let names = proptest::sample::select(&["a", "a.b", "a_b", "", "x/y"][..]);
    let replicas = proptest::collection::vec(node.clone(), 0..3);
    let added = proptest::collection::vec(replicas.clone(), 0..3);
    prop_oneof![
        (0_u8..2).prop_map(|byte| Record::ClusterFormed { cluster: ClusterId([byte; 16]) }),
        (node.clone(), any::<u64>())
            .prop_map(|(node, incarnation)| Record::BrokerStarted { node, incarnation }),
        (id.clone(), names, proptest::collection::vec(replicas, 0..3)).prop_map(
            |(id, name, partitions)| Record::TopicCreated {
                id,
                name: name.to_owned(),
                partitions,
                configs: BTreeMap::new(),
            }
        ),
        id.clone().prop_map(|id| Record::TopicDeleted { id }),
        id.clone().prop_map(|id| Record::TopicConfigured { id, configs: BTreeMap::new() }),
        (id, added).prop_map(|(id, partitions)| Record::PartitionsAdded { id, partitions }),
        (node, any::<i64>())
            .prop_map(|(node, next)| Record::ProducerIdsAllocated { node, next: ProducerId(next) }),
    ]
}

#[test]
fn partitions_are_added_behind_those_there_are() {
    let mut cluster = started();
    run(&mut cluster, Command::CreateTopic(topic("t", 1))).expect("new");
    run(&mut cluster, start(2)).expect("the next start");
    let more = |count, assignment: Option<&[i32]>| {
        let assignment =
            assignment.map(|nodes| nodes.iter().map(|&node| vec![NodeId(node)]).collect());
        MorePartitions { name: "t".to_owned(), count, assignment }
    };
    for count in [-1, 0, 1, 2] {
        let refusal = refused(&cluster, Command::CreatePartitions(more(count, None)));
        assert_eq!(refusal, Refusal::NotMorePartitions { partitions: count, before: 2 });
    }
    let unknown = MorePartitions { name: "u".to_owned(), ..more(3, None) };
    assert_eq!(refused(&cluster, Command::CreatePartitions(unknown)).code().code(), 3);
    let node = cluster.image().brokers().next().expect("one broker").0.0;
    let short = refused(&cluster, Command::CreatePartitions(more(4, Some(&[node]))));
    assert_eq!(short, Refusal::AssignmentCount { given: 1, added: 2 });
    let elsewhere = refused(&cluster, Command::CreatePartitions(more(3, Some(&[node + 1]))));
    assert!(matches!(elsewhere, Refusal::Assignment { .. }), "{elsewhere:?}");
    run(&mut cluster, Command::ValidatePartitions(more(5, None))).expect("possible");
    assert_eq!(cluster.image().partition_count(), 2);
    run(&mut cluster, Command::CreatePartitions(more(3, Some(&[node])))).expect("possible");
    run(&mut cluster, Command::CreatePartitions(more(5, None))).expect("possible");
    let topic = cluster.image().topic("t").expect("it is there");
    let epochs: Vec<i32> = topic.partitions.iter().map(|one| one.leader_epoch.0).collect();
    assert_eq!(epochs, [1, 1, 0, 0, 0], "the old ones stay what they were");
    assert_eq!(cluster.image().partition_count(), 5);
}

#[test]
fn a_start_raises_every_epoch_once() {
    let mut cluster = started();
    assert_eq!(cluster.image().cluster_id(), ClusterId([5; 16]));
    run(&mut cluster, Command::CreateTopic(topic("t", 1))).expect("new");
    let epoch = |cluster: &Cluster| {
        let (_, partition) = cluster
            .image()
            .partition(TopicId([1; 16]), PartitionIndex(1))
            .expect("it has two partitions");
        partition.leader_epoch
    };
    assert_eq!(epoch(&cluster), LeaderEpoch(0));
    run(&mut cluster, start(2)).expect("the next start");
    assert_eq!(epoch(&cluster), LeaderEpoch(1));
    run(&mut cluster, start(2)).expect("the same start, told again");
    assert_eq!(epoch(&cluster), LeaderEpoch(1));
    run(&mut cluster, start(3)).expect("the next start");
    assert_eq!(epoch(&cluster), LeaderEpoch(2));
    let image = cluster.image();
    assert_eq!(image.cluster_id(), ClusterId([5; 16]), "formed once");
    assert!(image.broker(NODE).is_some_and(|broker| broker.incarnation == 3));
}

#[test]
fn an_old_image_stays_as_it_was() {
    let mut cluster = started();
    run(&mut cluster, Command::CreateTopic(topic("t", 1))).expect("new");
    let old = cluster.image().clone();
    run(&mut cluster, Command::DeleteTopic { id: TopicId([1; 16]) }).expect("there");
    assert!(old.topic("t").is_some());
    assert!(cluster.image().topic("t").is_none());
    run(&mut cluster, Command::CreateTopic(topic("t", 2))).expect("free again");
    assert!(cluster.image().version() > old.version());
}

#[test]
fn data_of_another_node_are_refused_by_name() {
    let command =
        Command::StartBroker { node: NodeId(7), incarnation: 2, cluster: ClusterId([1; 16]) };
    let message = refused(&started(), command).to_string();
    assert!(message.contains("node.id 1"), "{message}");
    assert!(message.contains("node.id=1"), "{message}");
}

#[test]
fn manual_assignments() {
    let cluster = started();
    let with = |assignment: &[(i32, &[i32])]| {
        let of = |nodes: &[i32]| nodes.iter().copied().map(NodeId).collect();
        let map =
            assignment.iter().map(|&(index, nodes)| (PartitionIndex(index), of(nodes))).collect();
        Command::CreateTopic(NewTopic { layout: Layout::Manual(map), ..topic("t", 1) })
    };
    let (records, _) = cluster.decide(with(&[(0, &[1]), (1, &[1])])).expect("possible");
    assert_eq!(records.len(), 1);
    assert_eq!(refused(&cluster, with(&[])), Refusal::Partitions { partitions: 0 });
    for (assignment, partition, why) in [
        (&[(0, &[1_i32][..]), (2, &[1])][..], 1, AssignmentError::Missing),
        (&[(-1, &[1])], 0, AssignmentError::Missing),
        (&[(0, &[])], 0, AssignmentError::Empty),
        (&[(0, &[1]), (1, &[1, 1])], 1, AssignmentError::Uneven),
        (&[(0, &[1, 1])], 0, AssignmentError::Repeated(NodeId(1))),
        (&[(0, &[4])], 0, AssignmentError::UnknownBroker(NodeId(4))),
    ] {
        let partition = PartitionIndex(partition);
        let expected = Refusal::Assignment { partition, why };
        assert_eq!(refused(&cluster, with(assignment)), expected);
    }
}

#[test]
fn limits_hold() {
    let most = i32::try_from(PARTITIONS_PER_TOPIC_MAX).expect("small");
    let mut cluster = started();
    let with = |partitions, seed| {
        let layout = Layout::Count { partitions, replication_factor: 1 };
        Command::CreateTopic(NewTopic { layout, ..topic(&format!("t{seed}"), seed) })
    };
    assert!(matches!(refused(&cluster, with(most + 1, 1)), Refusal::Limit { .. }));
    assert!(matches!(refused(&cluster, with(i32::MAX, 1)), Refusal::Limit { .. }));
    for seed in 1..=20 {
        run(&mut cluster, with(most, seed)).expect("within the limit");
    }
    assert!(matches!(refused(&cluster, with(1, 21)), Refusal::Limit { .. }));
}

#[test]
fn settings_of_another_version_are_refused_and_named() {
    let mut cluster = started();
    let configs = BTreeMap::from([("retention.years".to_owned(), "1".to_owned())]);
    let created = Record::TopicCreated {
        id: TopicId([1; 16]),
        name: "t".to_owned(),
        partitions: vec![vec![NODE]],
        configs: configs.clone(),
    };
    let error = cluster.apply(&created).expect_err("no such setting").to_string();
    assert!(error.contains("retention.years"), "{error}");
    run(&mut cluster, Command::CreateTopic(topic("t", 1))).expect("new");
    let configured = Record::TopicConfigured { id: TopicId([1; 16]), configs };
    assert!(cluster.apply(&configured).is_err());
}

#[test]
fn producer_ids_end_politely() {
    let mut cluster = started();
    let next = ProducerId(i64::MAX - 10);
    cluster.apply(&Record::ProducerIdsAllocated { node: NODE, next }).expect("larger");
    let command = Command::AllocateProducerIds { node: NODE };
    assert_eq!(refused(&cluster, command), Refusal::ProducerIdsExhausted);
    let again = Record::ProducerIdsAllocated { node: NODE, next: ProducerId(5) };
    assert!(cluster.apply(&again).is_err(), "META-4");
}

/// Neither when a topic is made nor one by one later.
#[test]
fn compaction_lags_may_not_cross() {
    let mut cluster = started();
    let lags = |least: i64, most: i64| {
        let configs = [("min.compaction.lag.ms", least), ("max.compaction.lag.ms", most)];
        BTreeMap::from(configs.map(|(key, value)| (key.to_owned(), value.to_string())))
    };
    let make = |configs| Command::CreateTopic(NewTopic { configs, ..topic("t", 1) });
    let refusal = refused(&cluster, make(lags(11, 10)));
    assert!(matches!(refusal, Refusal::Config(_)), "{refusal}");
    run(&mut cluster, make(lags(10, 10))).expect("as large as that it may be");
    for (key, value) in [("min.compaction.lag.ms", "11"), ("max.compaction.lag.ms", "9")] {
        let changes = BTreeMap::from([(key.to_owned(), Some(value.to_owned()))]);
        let refusal = refused(&cluster, Command::SetTopicConfigs { name: "t".into(), changes });
        assert!(matches!(refusal, Refusal::Config(_)), "{refusal}");
    }
}

#[test]
fn refusals_have_kafkas_codes() {
    use crate::wire::code::ErrorCode;
    let mut cluster = started();
    run(&mut cluster, Command::CreateTopic(topic("a.b", 1))).expect("new");
    let with = |layout, key: &str| {
        let configs = BTreeMap::from([(key.to_owned(), "1".to_owned())]);
        Command::CreateTopic(NewTopic { layout, configs, ..topic("t", 2) })
    };
    let count = |partitions, replication_factor| Layout::Count { partitions, replication_factor };
    let changes = BTreeMap::new();
    for (command, code) in [
        (Command::CreateTopic(topic("a/b", 2)), ErrorCode::InvalidTopicException),
        (Command::CreateTopic(topic("a_b", 2)), ErrorCode::InvalidTopicException),
        (Command::CreateTopic(topic("a.b", 2)), ErrorCode::TopicAlreadyExists),
        (with(count(0, 1), "retention.ms"), ErrorCode::InvalidPartitions),
        (with(count(1, 3), "retention.ms"), ErrorCode::InvalidReplicationFactor),
        (with(count(1, 1), "retention"), ErrorCode::InvalidConfig),
        (with(count(10_001, 1), "retention.ms"), ErrorCode::PolicyViolation),
        (Command::DeleteTopic { id: TopicId([9; 16]) }, ErrorCode::UnknownTopicId),
        (
            Command::SetTopicConfigs { name: "t".into(), changes },
            ErrorCode::UnknownTopicOrPartition,
        ),
    ] {
        let refusal = refused(&cluster, command);
        assert_eq!(refusal.code(), code, "{refusal}");
        assert!(!refusal.to_string().contains("  "), "{refusal}");
    }
}
