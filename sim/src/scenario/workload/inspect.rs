//! What only tools ask of a broker: who writes to a partition, how large it is, who leads it, which
//! settings and quotas there are.
//!
//! Whatever a broker is going through, an answer says of what was asked for that it is well, or why
//! not; it never says anything of a topic that nobody asked about.

use trialog_engine::client::{CallError, Client};
use trialog_engine::wire::api::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig, DescribableLogDirTopic,
    DescribeClientQuotasRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeConfigsResource, DescribeLogDirsRequest, DescribeProducersRequest,
    DescribeProducersTopicRequest, DescribeTopicPartitionsCursor, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsTopicRequest, DescribeUserScramCredentialsRequest, ElectLeadersRequest,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource, IncrementalAlterableConfig,
    ListConfigResourcesRequest, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics, QuotaComponent, ScramUserName, TopicPartitions,
};

use super::change::TOPIC;
use crate::io::SimIo;
use crate::scenario::stage::Actor;
use crate::seed::Stream;

/// Kafka's number for a broker's loggers.
const LOGGER: i8 = 8;

/// What is complained about when an answer is about something else than was asked for.
const STRANGE_ANSWER: &str = "strange-answer";

/// Asks one thing.
pub(super) async fn inspect(client: &Client<SimIo>, actor: &Actor, random: &mut Stream) {
    let at = random.pick(&actor.shape().topics);
    let shape = actor.topic(at);
    let known = shape.name.clone();
    let topic = if random.chance(1, 6) { "nowhere".to_owned() } else { known };
    let index = if random.chance(1, 6) { 99 } else { random.below(shape.partitions as u64) as i32 };
    let partitions = vec![index];
    let told = match random.below(11) {
        0 => {
            let one = DescribableLogDirTopic { topic: topic.clone(), partitions };
            let topics = random.chance(2, 3).then(|| vec![one]);
            let everything = topics.is_none();
            client.call(&DescribeLogDirsRequest { topics }).await.map(|answer| {
                let topics = answer.results.into_iter().flat_map(|dir| dir.topics);
                topics.map(|one| one.name).filter(|_| !everything).collect()
            })
        }
        1 => {
            let one = DescribeProducersTopicRequest {
                name: topic.clone(),
                partition_indexes: partitions,
            };
            let answer = client.call(&DescribeProducersRequest { topics: vec![one] }).await;
            answer.map(|answer| answer.topics.into_iter().map(|one| one.name).collect())
        }
        2 => {
            let request = DescribeTopicPartitionsRequest {
                topics: vec![DescribeTopicPartitionsTopicRequest { name: topic.clone() }],
                response_partition_limit: random.pick(&[1, 2000]),
                cursor: random.chance(1, 3).then(|| DescribeTopicPartitionsCursor {
                    topic_name: topic.clone(),
                    partition_index: index,
                }),
            };
            let answer = client.call(&request).await;
            answer.map(|answer| answer.topics.into_iter().filter_map(|one| one.name).collect())
        }
        3 => {
            let one = TopicPartitions { topic: topic.clone(), partitions };
            let request = ElectLeadersRequest {
                election_type: random.pick(&[0, 1]),
                topic_partitions: Some(vec![one]),
                timeout_ms: 5000,
            };
            client.call(&request).await.map(|answer| {
                let results = answer.replica_election_results.into_iter();
                results.map(|one| one.topic).collect()
            })
        }
        4 => {
            let one = ListPartitionReassignmentsTopics {
                name: topic.clone(),
                partition_indexes: partitions,
            };
            let topics = Some(vec![one]);
            let request = ListPartitionReassignmentsRequest { timeout_ms: 5000, topics };
            let answer = client.call(&request).await;
            answer.map(|answer| answer.topics.into_iter().map(|one| one.name).collect())
        }
        5 => {
            // Its settings as they were meant to be, all at once, and only to see whether they may be.
            let configs = shape.configs.iter().map(|(name, value)| AlterableConfig {
                name: name.clone(),
                value: Some(value.clone()),
            });
            let resource = AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: topic.clone(),
                configs: configs.collect(),
            };
            let resources = vec![resource];
            let answer = client.call(&AlterConfigsRequest { resources, validate_only: true }).await;
            answer.map(|answer| answer.responses.into_iter().map(|one| one.resource_name).collect())
        }
        6 => {
            let component = QuotaComponent {
                entity_type: random.pick(&["user", "client-id", "planet"]).to_owned(),
                match_type: random.pick(&[1, 2]),
                r#match: None,
            };
            let strict = random.chance(1, 2);
            let request = DescribeClientQuotasRequest { components: vec![component], strict };
            client.call(&request).await.map(|_| Vec::new())
        }
        7 => client.call(&DescribeClusterRequest::default()).await.map(|_| Vec::new()),
        8 => {
            // By the name of the topic: nobody else is to be told of.
            let users = random.chance(1, 2).then(|| vec![ScramUserName { name: topic.clone() }]);
            let answer = client.call(&DescribeUserScramCredentialsRequest { users }).await;
            answer.map(|answer| answer.results.into_iter().map(|one| one.user).collect())
        }
        9 => {
            // A broker's; all of them share the number 1, each in a cluster of its own.
            let own = || (LOGGER, "1".to_owned());
            let (resource_type, resource_name) = own();
            let levels = [(0, Some("TRACE")), (0, Some("OFF")), (0, Some("LOUD")), (1, None)];
            let (config_operation, level) = random.pick(&levels);
            let value = level.map(str::to_owned);
            let name = random.pick(&["root", "trialog_engine::log", "nobody"]).to_owned();
            let configs = vec![IncrementalAlterableConfig { name, config_operation, value }];
            let resource =
                IncrementalAlterConfigsResource { resource_type, resource_name, configs };
            let validate_only = random.chance(1, 4);
            let resources = vec![resource];
            let request = IncrementalAlterConfigsRequest { resources, validate_only };
            let _ = client.call(&request).await;
            let (resource_type, resource_name) = own();
            let resource =
                DescribeConfigsResource { resource_type, resource_name, configuration_keys: None };
            let resources = vec![resource];
            let request = DescribeConfigsRequest { resources, ..Default::default() };
            client.call(&request).await.map(|_| Vec::new())
        }
        _ => {
            let resource_types = random.pick(&[&[][..], &[TOPIC], &[4, 8, 16]]).to_vec();
            let request = ListConfigResourcesRequest { resource_types };
            client.call(&request).await.map(|_| Vec::new())
        }
    };
    judge(actor, &topic, told);
}

fn judge(actor: &Actor, asked: &str, told: Result<Vec<String>, CallError>) {
    for other in told.unwrap_or_default().iter().filter(|told| *told != asked) {
        let text = format!("{asked} was asked for, and the answer tells of {other}");
        actor.stage.accuse(STRANGE_ANSWER, text);
    }
}
