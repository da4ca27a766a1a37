//! Records of our own logs: of the cluster machine, of the groups, and what members say of
//! themselves. Which kind, then parts, each with its length in front.

use std::collections::BTreeMap;

use trialog_engine::id::{LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerId, TopicId};
use trialog_engine::machine::group::record::RecordedMember;
use trialog_engine::machine::group::{
    self, Committed, Generation, Groups, Now, Record as GroupRecord, Settings,
};
use trialog_engine::machine::quota::{Entity, Quota, Quotas, Rate, Whose};
use trialog_engine::machine::{Cluster, ClusterId, Record};
use trialog_engine::wire::subscription::{self, Subscription};

use crate::numbers::{byte, part, put_part};

pub fn run(mut data: &[u8]) {
    match byte(&mut data) % 4 {
        0 => cluster(data),
        1 => groups(data),
        2 => {
            let Ok(said) = Subscription::parse(data) else { return };
            assert_eq!(Subscription::parse(&said.to_bytes()).as_ref(), Ok(&said));
            assert!(subscription::topics(data).is_some());
        }
        _ => {
            let Ok(given) = subscription::parse_assignment(data) else { return };
            let bytes = subscription::assignment_to_bytes(&given);
            assert_eq!(subscription::parse_assignment(&bytes).as_ref(), Ok(&given));
        }
    }
}

/// A metadata log: what cannot be applied is refused, and what is applied can be written again.
fn cluster(mut data: &[u8]) {
    let mut machine = Cluster::new();
    while !data.is_empty() {
        let bytes = part(&mut data);
        let record = match Record::decode(bytes) {
            Ok(record) => record,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        assert_eq!(record.to_bytes(), bytes, "there is one way to write each record");
        let before = machine.image().version();
        if machine.apply(&record).is_err() {
            assert_eq!(machine.image().version(), before, "refused and taken");
        }
    }
    let image = machine.image();
    let counted: usize = image.topics().map(|topic| topic.indexed().count()).sum();
    assert_eq!(image.partition_count(), counted);
}

/// A partition of `__consumer_offsets`.
fn groups(mut data: &[u8]) {
    let mut machine = Groups::new(SETTINGS);
    while !data.is_empty() {
        let (key, is_null) = (part(&mut data), byte(&mut data) == 1);
        let value = (!is_null).then(|| part(&mut data));
        let topic_id = (byte(&mut data) == 1).then_some(TopicId([7; 16]));
        let record = match GroupRecord::decode(key, value, topic_id) {
            Ok(record) => record,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        reads_itself(&record);
        machine.apply(record);
    }
    let mut now = Now { monotonic_ms: 1000, wall_ms: 1_700_000_000_000 };
    machine.loaded(now);
    for _ in 0..4 {
        let Some(at) = machine.wake_at() else { break };
        now.monotonic_ms = now.monotonic_ms.max(at);
        let decision: group::Decision = machine.tick(now);
        for record in decision.records {
            reads_itself(&record);
            machine.apply(record);
        }
    }
}

/// What is written is what is read.
fn reads_itself(record: &GroupRecord) {
    let (key, value) = (record.key(), record.value());
    let read = GroupRecord::decode(&key, value.as_deref(), record.topic_id());
    assert_eq!(read.as_ref(), Ok(record));
}

const SETTINGS: Settings = Settings {
    session_ms_min: 6000,
    session_ms_max: 1_800_000,
    members_max: 100,
    initial_delay_ms: 3000,
    group_bytes_max: 1 << 20,
    metadata_bytes_max: 4096,
    retention_ms: 604_800_000,
    expiry_interval_ms: 600_000,
};

pub fn seeds() -> Vec<Vec<u8>> {
    let id = TopicId::from_random(1, 2);
    let configs = || BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
    let partitions = || vec![vec![NodeId(1)], vec![NodeId(1), NodeId(2)]];
    let name = || "topic".to_owned();
    let user = Some(Whose::Named("user".into()));
    let entity = Entity::new(user, Some(Whose::Default)).expect("somebody");
    let quotas = Quotas::from([
        (Quota::ProducerByteRate, Rate::new(1000.0).expect("a rate")),
        (Quota::RequestPercentage, Rate::new(0.5).expect("a rate")),
        (Quota::ControllerMutationRate, Rate::new(2.0).expect("a rate")),
    ]);
    let records = [
        Record::ClusterFormed { cluster: ClusterId([1; 16]) },
        Record::BrokerStarted { node: NodeId(1), incarnation: 9 },
        Record::TopicCreated { id, name: name(), partitions: partitions(), configs: configs() },
        Record::TopicConfigured { id, configs: BTreeMap::new() },
        Record::PartitionsAdded { id, partitions: partitions() },
        Record::QuotasSet { entity: entity.clone(), quotas },
        Record::QuotasSet { entity, quotas: Quotas::new() },
        Record::ProducerIdsAllocated { node: NodeId(1), next: ProducerId(1000) },
        Record::TopicDeleted { id },
    ];
    let mut seeds = Vec::new();
    for count in 1..=records.len() {
        let mut seed = vec![0];
        for record in &records[..count] {
            put_part(&mut seed, &record.to_bytes());
        }
        seeds.push(seed);
    }
    seeds.extend(group_seeds());
    let topics = ["a", "b"].map(str::to_owned).to_vec();
    let said = Subscription { topics, ..Subscription::default() };
    seeds.push([&[2][..], &said.to_bytes()].concat());
    let given = BTreeMap::from([("a".to_owned(), vec![PartitionIndex(0), PartitionIndex(1)])]);
    seeds.push([&[3][..], &subscription::assignment_to_bytes(&given)].concat());
    seeds
}

fn group_seeds() -> Vec<Vec<u8>> {
    let group = || "group".to_owned();
    let member = RecordedMember {
        id: "m-1".to_owned(),
        instance: Some("one".to_owned()),
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        rebalance_ms: 60_000,
        session_ms: 10_000,
        subscription: vec![0, 1, 0, 0],
        assignment: vec![0, 1],
    };
    let generation = Generation {
        protocol_type: "consumer".to_owned(),
        number: 3,
        protocol: Some("range".to_owned()),
        leader: Some("m-1".to_owned()),
        since_ms: 5,
        members: vec![member],
    };
    let committed = |expires_ms| Committed {
        topic_id: TopicId([7; 16]),
        offset: Offset(7),
        leader_epoch: LeaderEpoch(2),
        metadata: "text".to_owned(),
        committed_ms: 9,
        expires_ms,
    };
    let place = |place| GroupRecord::Committed {
        group: group(),
        topic: "topic".to_owned(),
        partition: PartitionIndex(0),
        place,
    };
    let records = [
        place(Some(committed(None))),
        place(Some(committed(Some(10)))),
        GroupRecord::Generation { group: group(), generation: Some(generation) },
        place(None),
        GroupRecord::Generation { group: group(), generation: None },
    ];
    (1..=records.len())
        .map(|count| {
            let mut seed = vec![1];
            for record in &records[..count] {
                put_part(&mut seed, &record.key());
                match record.value() {
                    None => seed.push(1),
                    Some(value) => {
                        seed.push(0);
                        put_part(&mut seed, &value);
                    }
                }
                seed.push(u8::from(record.topic_id().is_some()));
            }
            seed
        })
        .collect()
}
