//! What tools ask and change: settings, partitions, the cluster, producers, sizes.

use std::collections::BTreeSet;
use std::time::Duration;

use trialog_engine::id::{PartitionIndex, TopicId};
use trialog_engine::io::Io;
use trialog_engine::io::ram::{Loss, Ram};
use trialog_engine::wire::api::*;
use trialog_engine::wire::code::ErrorCode;

use super::peer::{Peer, To, batch, idempotent, start as start_broker};
use super::{metadata, offset_at, topic, with_broker};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;

async fn describe(
    peer: &mut Peer,
    version: i16,
    kind: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> DescribeConfigsResult {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configuration_keys: keys.map(|keys| keys.iter().map(|&key| key.into()).collect()),
        }],
        include_synonyms: true,
        include_documentation: true,
    };
    peer.call(version, &request).await.results.remove(0)
}

async fn edit(
    peer: &mut Peer,
    name: &str,
    validate_only: bool,
    changes: &[(&str, i8, Option<&str>)],
) -> (i16, Option<String>) {
    edit_of(peer, (TOPIC, name), validate_only, changes).await
}

/// Sets one setting of a topic.
pub async fn set(peer: &mut Peer, topic: &str, key: &str, value: &str) {
    assert_eq!(edit(peer, topic, false, &[(key, 0, Some(value))]).await, (0, None));
}

/// Sets one setting of all brokers.
pub async fn set_of_brokers(peer: &mut Peer, key: &str, value: &str) {
    let all = (BROKER, "");
    assert_eq!(edit_of(peer, all, false, &[(key, 0, Some(value))]).await, (0, None));
}

async fn edit_of(
    peer: &mut Peer,
    (resource_type, name): (i8, &str),
    validate_only: bool,
    changes: &[(&str, i8, Option<&str>)],
) -> (i16, Option<String>) {
    let change = |&(name, config_operation, value): &(&str, i8, Option<&str>)| {
        let (name, value) = (name.to_owned(), value.map(str::to_owned));
        IncrementalAlterableConfig { name, config_operation, value }
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![IncrementalAlterConfigsResource {
            resource_type,
            resource_name: name.to_owned(),
            configs: changes.iter().map(change).collect(),
        }],
        validate_only,
    };
    let answer = peer.call(1, &request).await.responses.remove(0);
    (answer.error_code, answer.error_message)
}

#[test]
fn every_setting_is_told_with_its_source() {
    with_broker(2, &[("log.retention.hours", "2")], async |_, _, mut peer| {
        topic(&mut peer, "told", &[("segment.ms", "5000")]).await;
        for version in 1..=4 {
            let told = describe(&mut peer, version, TOPIC, "told", None).await;
            assert_eq!(told.error_code, 0);
            assert_eq!(told.configs.len(), trialog_engine::config::topic::KEYS.len());
            let one = |name: &str| {
                let found = told.configs.iter().find(|config| config.name == name);
                found.unwrap_or_else(|| panic!("{name} is told")).clone()
            };
            let own = one("segment.ms");
            assert_eq!((own.value.as_deref(), own.config_source), (Some("5000"), 1));
            let given = one("retention.ms");
            assert_eq!((given.value.as_deref(), given.config_source), (Some("7200000"), 4));
            assert_eq!(given.synonyms[0].name, "log.retention.hours");
            let default = one("max.message.bytes");
            assert_eq!((default.value.as_deref(), default.config_source), (Some("1048588"), 5));
            if version >= 3 {
                assert_eq!(default.config_type, 3);
                assert!(default.documentation.is_some_and(|text| text.ends_with('.')));
            }
        }
        let some = describe(&mut peer, 4, TOPIC, "told", Some(&["cleanup.policy"])).await;
        assert_eq!(some.configs.len(), 1);
        let broker = describe(&mut peer, 4, BROKER, "1", None).await;
        let hours = broker.configs.iter().find(|config| config.name == "log.retention.hours");
        assert_eq!(hours.map(|config| config.config_source), Some(4));
        let unknown = describe(&mut peer, 4, TOPIC, "nobody", None).await;
        assert_eq!(unknown.error_code, ErrorCode::UnknownTopicOrPartition.code());
        let other = describe(&mut peer, 4, BROKER, "77", None).await;
        assert_eq!(other.error_code, ErrorCode::InvalidRequest.code());
        let request = ListConfigResourcesRequest::default();
        let listed = peer.call(1, &request).await.config_resources;
        assert!(listed.iter().any(|one| one.resource_name == "told"));
        assert_eq!(peer.call(0, &request).await.config_resources, []);
    });
}

#[test]
fn a_topics_settings_change_while_it_runs() {
    with_broker(2, &[("log.retention.check.interval.ms", "1000")], async |ram, _, mut peer| {
        let to = topic(&mut peer, "live", &[("retention.ms", "3600000")]).await;
        // Its time stamp is years old, but the topic's settings say nothing of that yet.
        peer.produce(9, &to, &batch(&["old"])).await;
        assert_eq!(edit(&mut peer, "live", true, &[("retention.ms", 0, Some("1000"))]).await.0, 0);
        let told = describe(&mut peer, 4, TOPIC, "live", Some(&["retention.ms"])).await;
        assert_eq!(told.configs[0].value.as_deref(), Some("3600000"), "only checked");
        let set = [("segment.ms", 0, Some("500")), ("retention.ms", 0, Some("1000"))];
        assert_eq!(edit(&mut peer, "live", false, &set).await.0, 0);
        ram.sleep(Duration::from_secs(5)).await;
        assert_eq!(offset_at(&mut peer, 5, &to, -2).await.1, 1, "retention has changed at once");

        let policy = |value| [("cleanup.policy", 2, Some(value))];
        assert_eq!(edit(&mut peer, "live", false, &policy("compact")).await.0, 0);
        let told = describe(&mut peer, 4, TOPIC, "live", Some(&["cleanup.policy"])).await;
        assert_eq!(told.configs[0].value.as_deref(), Some("delete,compact"));
        let less = [("cleanup.policy", 3, Some("delete")), ("segment.ms", 1, None)];
        assert_eq!(edit(&mut peer, "live", false, &less).await.0, 0);
        let told = describe(&mut peer, 4, TOPIC, "live", None).await;
        let value = |name: &str| {
            let found = told.configs.iter().find(|config| config.name == name);
            found.and_then(|config| config.value.clone())
        };
        assert_eq!(value("cleanup.policy").as_deref(), Some("compact"));
        assert_eq!(value("segment.ms").as_deref(), Some("604800000"));

        // Tools that copy settings take away what they know, whether it is here or not.
        let foreign = [("confluent.tier.enable", 1, None), ("segment.ms", 0, Some("9000"))];
        assert_eq!(edit(&mut peer, "live", false, &foreign).await, (0, None));
        let refused = edit(&mut peer, "live", false, &[("retention.sm", 0, Some("1"))]).await;
        assert_eq!(refused.0, ErrorCode::InvalidConfig.code());
        assert!(refused.1.is_some_and(|text| text.contains("retention.ms")), "it suggests one");
        let refused = edit(&mut peer, "live", false, &[("retention.ms", 2, Some("1"))]).await;
        assert_eq!(refused.0, ErrorCode::InvalidConfig.code());

        // The legacy call resets what it does not name.
        let config = AlterableConfig { name: "segment.ms".into(), value: Some("9000".into()) };
        let request = AlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: "live".into(),
                configs: vec![config],
            }],
            validate_only: false,
        };
        for version in 0..=2 {
            assert_eq!(peer.call(version, &request).await.responses[0].error_code, 0);
        }
        let told = describe(&mut peer, 4, TOPIC, "live", None).await;
        let own: BTreeSet<_> = told
            .configs
            .iter()
            .filter(|config| config.config_source == 1)
            .map(|config| config.name.as_str())
            .collect();
        assert_eq!(own, BTreeSet::from(["segment.ms"]));
    });
}

/// A list is read, and written with an item more or less: nobody may write in between.
#[test]
fn edits_of_one_list_at_a_time_are_all_made() {
    with_broker(2, &[], async |ram, shared, mut peer| {
        let mut other = Peer::connect(&ram, &shared).await;
        for round in 0..20 {
            let name = format!("list-{round}");
            topic(&mut peer, &name, &[("cleanup.policy", "delete")]).await;
            let (append, subtract) = (2, 3);
            let (more, less) = (
                [("cleanup.policy", append, Some("compact"))],
                [("cleanup.policy", subtract, Some("delete"))],
            );
            let later = async {
                ram.sleep(Duration::from_micros(round * 3)).await;
                edit(&mut other, &name, false, &less).await
            };
            let edits = futures_util::future::join(edit(&mut peer, &name, false, &more), later);
            assert_eq!(edits.await, ((0, None), (0, None)));
            let told = describe(&mut peer, 4, TOPIC, &name, Some(&["cleanup.policy"])).await;
            assert_eq!(told.configs[0].value.as_deref(), Some("compact"), "{name}");
        }
    });
}

#[test]
fn partitions_are_added_and_can_be_used_at_once() {
    with_broker(2, &[], async |_, _, mut peer| {
        let to = topic(&mut peer, "growing", &[]).await;
        let wanted = |count| CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: "growing".into(),
                count,
                assignments: None,
            }],
            timeout_ms: 1000,
            validate_only: false,
        };
        for (version, count) in (0..=3).zip(4..) {
            let answer = peer.call(version, &wanted(count)).await;
            assert_eq!(answer.results[0].error_code, 0, "version {version}");
            let index = trialog_engine::id::PartitionIndex(count - 1);
            let newest = super::To { index, ..to };
            let answer = peer.produce(9, &newest, &batch(&["there"])).await;
            assert_eq!(answer.error, ErrorCode::None);
        }
        let refused = peer.call(3, &wanted(7)).await;
        assert_eq!(refused.results[0].error_code, ErrorCode::InvalidPartitions.code());
        assert_eq!(metadata(&mut peer, 12, "growing").await.topics[0].partitions.len(), 7);
    });
}

#[test]
fn topics_are_described_page_by_page() {
    with_broker(1, &[], async |_, _, mut peer| {
        for name in ["a", "b", "c"] {
            topic(&mut peer, name, &[]).await;
        }
        let mut request = DescribeTopicPartitionsRequest {
            response_partition_limit: 2,
            ..DescribeTopicPartitionsRequest::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = peer.call(0, &request).await;
            let mut count = 0;
            for topic in &page.topics {
                for partition in &topic.partitions {
                    seen.push((topic.name.clone().unwrap_or_default(), partition.partition_index));
                    count += 1;
                }
            }
            assert!(count <= 2);
            match page.next_cursor {
                Some(cursor) => request.cursor = Some(cursor),
                None => break,
            }
        }
        let all = ["a", "b", "c"].into_iter();
        let expected: Vec<_> =
            all.flat_map(|name| (0..3).map(move |index| (name.to_owned(), index))).collect();
        assert_eq!(seen, expected);
        let named = |name: &str| DescribeTopicPartitionsTopicRequest { name: name.to_owned() };
        let request = DescribeTopicPartitionsRequest {
            topics: vec![named("nobody"), named("b")],
            ..DescribeTopicPartitionsRequest::default()
        };
        let codes: Vec<_> =
            peer.call(0, &request).await.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [0, ErrorCode::UnknownTopicOrPartition.code()]);
    });
}

#[test]
fn what_names_nothing_is_refused_for_that() {
    with_broker(1, &[], async |_, _, mut peer| {
        for (endpoint_type, code) in
            [(2, ErrorCode::MismatchedEndpointType), (3, ErrorCode::UnsupportedEndpointType)]
        {
            let request = DescribeClusterRequest { endpoint_type, ..Default::default() };
            assert_eq!(peer.call(1, &request).await.error_code, code.code(), "{endpoint_type}");
        }
        let topics = vec![DeleteTopicState::default()];
        let answer = peer.call(6, &DeleteTopicsRequest { topics, ..Default::default() }).await;
        assert_eq!(answer.responses[0].error_code, ErrorCode::InvalidRequest.code());
        let request = InitProducerIdRequest {
            transactional_id: Some(String::new()),
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let answer = peer.call(4, &request).await;
        assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code());
    });
}

/// KIP-412.
#[test]
fn loggers_change_while_a_broker_runs() {
    const LOG: &str = "trialog_engine::log";
    with_broker(1, &[], async |_, _, mut peer| {
        let own = (LOGGER, "1");
        let level = async |peer: &mut Peer, name: &str| {
            let told = describe(peer, 4, LOGGER, "1", Some(&[name])).await;
            assert_eq!((told.error_code, told.configs.len()), (0, 1), "{told:?}");
            assert_eq!(told.configs[0].config_source, 6);
            told.configs[0].value.clone().expect("a level")
        };
        assert_eq!(level(&mut peer, LOG).await, "INFO");
        let set = [(LOG, 0, Some("debug"))];
        assert_eq!(edit_of(&mut peer, own, true, &set).await, (0, None));
        assert_eq!(level(&mut peer, LOG).await, "INFO", "only checked");
        assert_eq!(edit_of(&mut peer, own, false, &set).await, (0, None));
        assert_eq!(level(&mut peer, "trialog_engine::log::recover").await, "DEBUG");
        let reset = [(LOG, 1, None), ("root", 0, Some("WARN"))];
        assert_eq!(edit_of(&mut peer, own, false, &reset).await, (0, None));
        assert_eq!(level(&mut peer, LOG).await, "WARN");

        for (of, change, code, words) in [
            (own, ("nobody", 0, Some("INFO")), ErrorCode::InvalidConfig, "no logger 'nobody'"),
            (own, ("root", 0, Some("LOUD")), ErrorCode::InvalidConfig, "DEBUG"),
            (own, ("root", 0, None), ErrorCode::InvalidConfig, "DEBUG"),
            (own, ("root", 1, None), ErrorCode::InvalidRequest, "root can be set"),
            (own, ("root", 2, Some("INFO")), ErrorCode::InvalidRequest, "set or deleted"),
            ((LOGGER, ""), ("root", 0, Some("INFO")), ErrorCode::InvalidRequest, "name it"),
            ((LOGGER, "7"), ("root", 0, Some("INFO")), ErrorCode::InvalidRequest, "no broker '7'"),
        ] {
            let (refused, why) = edit_of(&mut peer, of, false, &[change]).await;
            assert_eq!(refused, code.code(), "{change:?}");
            assert!(why.as_ref().is_some_and(|why| why.contains(words)), "{why:?}");
        }
        let other = describe(&mut peer, 4, LOGGER, "7", None).await;
        assert_eq!(other.error_code, ErrorCode::InvalidRequest.code());
        let resource = AlterConfigsResource {
            resource_type: LOGGER,
            resource_name: "1".into(),
            configs: vec![AlterableConfig { name: "root".into(), value: Some("INFO".into()) }],
        };
        let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
        let legacy = peer.call(1, &request).await.responses.remove(0);
        assert_eq!(legacy.error_code, ErrorCode::InvalidRequest.code());
        let request = ListConfigResourcesRequest { resource_types: vec![LOGGER] };
        let [listed] = &peer.call(1, &request).await.config_resources[..] else { panic!() };
        assert_eq!((&*listed.resource_name, listed.resource_type), ("1", LOGGER));
    });
}

#[test]
fn tools_see_brokers_sizes_and_producers() {
    with_broker(2, &[], async |_, _, mut peer| {
        let to = topic(&mut peer, "seen", &[]).await;
        let sent = idempotent(7, 2, 0, &["a", "b", "c"]);
        peer.produce(9, &to, &sent).await;
        for version in 0..=2 {
            let cluster = peer.call(version, &DescribeClusterRequest::default()).await;
            assert_eq!((cluster.controller_id, cluster.brokers.len()), (1, 1));
            assert_eq!(cluster.cluster_id.len(), 22);
        }
        for version in 1..=5 {
            let dirs = peer.call(version, &DescribeLogDirsRequest { topics: None }).await;
            let [dir] = &dirs.results[..] else { panic!("{dirs:?}") };
            let known = if version < 4 { -1 } else { i64::MAX };
            assert_eq!((dir.total_bytes, dir.usable_bytes), (known, known), "a RAM disk's");
            assert!(!dir.is_cordoned);
            let topic = dir.topics.iter().find(|topic| topic.name == "seen");
            let sizes = topic.expect("it is told").partitions.iter();
            let sizes: Vec<_> = sizes.map(|partition| partition.partition_size).collect();
            assert_eq!(sizes, [0, sent.len() as i64, 0]);
        }
        let request = DescribeProducersRequest {
            topics: vec![DescribeProducersTopicRequest {
                name: "seen".into(),
                partition_indexes: vec![1, 9],
            }],
        };
        let answer = peer.call(0, &request).await;
        let [known, unknown] = &answer.topics[0].partitions[..] else { panic!("{answer:?}") };
        assert_eq!(unknown.error_code, ErrorCode::UnknownTopicOrPartition.code());
        let producer = &known.active_producers[0];
        assert_eq!((producer.producer_id, producer.producer_epoch), (7, 2));
        assert_eq!(producer.last_sequence, 2);
        let elections = ElectLeadersRequest {
            topic_partitions: Some(vec![TopicPartitions {
                topic: "seen".into(),
                partitions: vec![0, 9],
            }]),
            ..ElectLeadersRequest::default()
        };
        for version in 0..=2 {
            let answer = peer.call(version, &elections).await;
            let results = answer.replica_election_results[0].partition_result.iter();
            let codes: Vec<_> = results.map(|result| result.error_code).collect();
            let (needless, unknown) =
                (ErrorCode::ElectionNotNeeded, ErrorCode::UnknownTopicOrPartition);
            assert_eq!(codes, [needless.code(), unknown.code()]);
        }
        let moved = peer.call(0, &ListPartitionReassignmentsRequest::default()).await;
        assert_eq!((moved.error_code, moved.topics.len()), (0, 0));
    });
}

/// Settings of one broker win over those of all, and both over its start; logs obey them at once, and
/// after a power cut.
#[test]
fn a_brokers_settings_change_while_it_runs_and_stay() {
    const ONE: (i8, &str) = (BROKER, "1");
    const ALL: (i8, &str) = (BROKER, "");
    let start = [("log.retention.check.interval.ms", "500"), ("log.retention.hours", "-1")];
    let ram = Ram::new(17);
    let world = ram.clone();
    ram.block_on(async {
        let shared = start_broker(&world, 2, &start);
        let mut peer = Peer::connect(&world, &shared).await;
        let to = topic(&mut peer, "dynamic", &[]).await;
        let own = topic(&mut peer, "own", &[("max.message.bytes", "100000")]).await;
        let large = batch(&[&"x".repeat(5000)]);
        assert_eq!(peer.produce(9, &to, &large).await.error, ErrorCode::None);
        let told = async |peer: &mut Peer, (kind, name), key: &str| {
            let told = describe(peer, 4, kind, name, Some(&[key])).await;
            let told = told.configs.into_iter().next().expect("it is told");
            let from: Vec<_> =
                told.synonyms.into_iter().map(|one| (one.name, one.source)).collect();
            (told.value.unwrap_or_default(), told.config_source, told.read_only, from)
        };

        let set = |value| [("message.max.bytes", 0, Some(value))];
        assert_eq!(edit_of(&mut peer, ALL, true, &set("2000")).await, (0, None));
        let key = "message.max.bytes".to_owned();
        let (value, source, read_only, _) = told(&mut peer, ONE, &key).await;
        assert_eq!((value.as_str(), source, read_only), ("1048588", 5, false), "only checked");
        assert_eq!(edit_of(&mut peer, ALL, false, &set("2000")).await, (0, None));
        let refused = peer.produce(9, &to, &large).await.error;
        assert_eq!(refused, ErrorCode::MessageTooLarge);
        assert_eq!(peer.produce(9, &own, &large).await.error, ErrorCode::None, "it has its own");
        assert_eq!(edit_of(&mut peer, ONE, false, &set("6000")).await, (0, None));
        assert_eq!(peer.produce(9, &to, &large).await.error, ErrorCode::None);
        let three = [2, 3, 5].map(|source| (key.clone(), source)).to_vec();
        assert_eq!(told(&mut peer, ONE, &key).await, ("6000".into(), 2, false, three.clone()));
        let (value, source, _, from) =
            told(&mut peer, (TOPIC, "dynamic"), "max.message.bytes").await;
        assert_eq!((value.as_str(), source, from), ("6000", 2, three));
        let (value, source, _, from) = told(&mut peer, ALL, &key).await;
        assert_eq!((value.as_str(), source, from), ("2000", 3, vec![(key.clone(), 3)]));

        // Retention obeys at once: the records' time stamps are years old.
        assert_eq!(offset_at(&mut peer, 5, &to, -2).await.1, 0);
        let retention = [("log.retention.ms", 0, Some("1000")), ("log.roll.ms", 0, Some("200"))];
        assert_eq!(edit_of(&mut peer, ALL, false, &retention).await, (0, None));
        world.sleep(Duration::from_secs(4)).await;
        assert_eq!(offset_at(&mut peer, 5, &to, -2).await.1, 2);

        // What cannot be, and why.
        for (changes, code, reason) in [
            (("num.partitions", 0, Some("3")), ErrorCode::InvalidRequest, "at its start"),
            (("retention.ms", 0, Some("3")), ErrorCode::InvalidRequest, "'log.retention.ms'"),
            (("log.retention.ms", 0, Some("x")), ErrorCode::InvalidRequest, "a whole number"),
            (("log.retention.ms", 2, Some("1")), ErrorCode::InvalidConfig, "not a list"),
        ] {
            let (found, message) = edit_of(&mut peer, ONE, false, &[changes]).await;
            let message = message.expect("a reason");
            assert_eq!(found, code.code(), "{message}");
            assert!(message.contains(reason), "{message}");
        }
        let (found, _) = edit_of(&mut peer, (BROKER, "7"), false, &set("1")).await;
        assert_eq!(found, ErrorCode::InvalidRequest.code());
        let (_, _, read_only, _) = told(&mut peer, ONE, "num.partitions").await;
        assert!(read_only);

        // Lists grow from what is in force.
        let policy = [("log.cleanup.policy", 2, Some("compact"))];
        assert_eq!(edit_of(&mut peer, ONE, false, &policy).await, (0, None));
        let (value, ..) = told(&mut peer, (TOPIC, "dynamic"), "cleanup.policy").await;
        assert_eq!(value, "delete,compact");
        // The legacy call resets what it does not name.
        let config =
            AlterableConfig { name: "message.max.bytes".into(), value: Some("7000".into()) };
        let request = AlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: BROKER,
                resource_name: "1".into(),
                configs: vec![config],
            }],
            validate_only: false,
        };
        assert_eq!(peer.call(2, &request).await.responses[0].error_code, 0);
        let (value, ..) = told(&mut peer, (TOPIC, "dynamic"), "cleanup.policy").await;
        assert_eq!(value, "delete");
    });
    let ram = ram.crash(Loss::Everything);
    let world = ram.clone();
    ram.block_on(async {
        let shared = start_broker(&world, 1, &start);
        let mut peer = Peer::connect(&world, &shared).await;
        let told = describe(&mut peer, 4, TOPIC, "dynamic", Some(&["max.message.bytes"])).await;
        assert_eq!(told.configs[0].value.as_deref(), Some("7000"));
        let to = To { name: "dynamic", id: TopicId::NONE, index: PartitionIndex(1) };
        let larger = batch(&[&"x".repeat(7500)]);
        assert_eq!(peer.produce(9, &to, &larger).await.error, ErrorCode::MessageTooLarge);
        let unset = [("message.max.bytes", 1, None)];
        assert_eq!(edit_of(&mut peer, ONE, false, &unset).await, (0, None));
        assert_eq!(edit_of(&mut peer, ALL, false, &unset).await, (0, None));
        assert_eq!(peer.produce(9, &to, &larger).await.error, ErrorCode::None);
    });
}
