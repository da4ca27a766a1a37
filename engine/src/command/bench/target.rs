//! The topic under load: how many partitions it has, and what an acknowledgement there means.

use trialog_engine::client::NewTopic;
use trialog_engine::wire::api::{DescribeConfigsRequest, DescribeConfigsResource};

use super::super::cli::BenchTopic;
use super::super::failure::Failure;
use super::super::reach::{Missing, Reached};

/// A topic's resource type in DescribeConfigs.
const TOPIC: i8 = 2;

/// Kafka's `flush.messages` when it leaves flushing to the kernel.
const NEVER: &str = "9223372036854775807";

/// A topic that exists.
pub struct Target {
    /// Its name.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// What an acknowledged record has survived, in words.
    pub durability: String,
}

impl Target {
    /// Finds the topic, and makes it with as many partitions as were asked for where it may.
    pub async fn find(
        reached: &Reached,
        asked: &BenchTopic,
        missing: Missing,
    ) -> Result<Target, Failure> {
        let name = asked.topic.as_str();
        let found = match (reached.topic(name, Missing::Refuse).await, missing) {
            (Err(Failure::Refused(_)), Missing::Make) => {
                let topic = NewTopic::new(name, asked.partitions.unwrap_or(-1));
                let made = reached.client.admin().create_topic(&topic).await;
                made.map_err(|error| reached.admin(&error))?;
                reached.topic(name, Missing::Refuse).await?
            }
            (found, _) => found?,
        };
        let partitions = i32::try_from(found.partitions.len()).unwrap_or(i32::MAX);
        if asked.partitions.is_some_and(|wanted| wanted != partitions) {
            return Err(Failure::Refused(format!(
                "topic '{name}' exists with {partitions} partition(s); leave --partitions out, or \
                 name another topic"
            )));
        }
        let durability = durability(reached, name).await;
        Ok(Target { topic: name.to_owned(), partitions, durability })
    }
}

/// What the topic's settings promise about acknowledged records.
async fn durability(reached: &Reached, topic: &str) -> String {
    let keys = ["flush.messages", "flush.ms", "trialog.durability"];
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: topic.to_owned(),
            configuration_keys: Some(keys.map(str::to_owned).to_vec()),
        }],
        ..DescribeConfigsRequest::default()
    };
    let Ok(response) = reached.client.call(&request).await else {
        return "unknown: the broker does not describe its settings".to_owned();
    };
    let value = |key: &str| {
        let configs = response.results.iter().flat_map(|result| &result.configs);
        configs.filter(|config| config.name == key).find_map(|config| config.value.clone())
    };
    match (value("trialog.durability"), value("flush.messages")) {
        (Some(ours), _) => format!("trialog.durability={ours}"),
        (None, Some(messages)) if messages == NEVER => {
            "acknowledged from the page cache (flush.messages unset)".to_owned()
        }
        (None, Some(messages)) => format!("flush.messages={messages}"),
        (None, None) => "unknown: the broker does not name flush.messages".to_owned(),
    }
}
