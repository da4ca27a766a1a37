//! Creating, deleting and listing topics, and asking for offsets.

use std::collections::BTreeMap;
use std::rc::Rc;

use thiserror::Error;

use super::cluster::Cluster;
use super::consumer::{Isolation, Start, list_offset};
use super::fault::CallError;
use super::wait::{until, within};
use crate::id::{Offset, PartitionIndex, TopicId};
use crate::io::{Instant, Io};
use crate::wire::api::{
    CreatableTopic, CreatableTopicConfig, CreatePartitionsRequest, CreatePartitionsTopic,
    CreateTopicsRequest, DeleteTopicState, DeleteTopicsRequest, DescribeConfigsRequest,
    DescribeConfigsResource, DescribeConfigsResourceResult, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource, IncrementalAlterableConfig, MetadataRequest, Request,
};
use crate::wire::code::ErrorCode;

/// Asks a cluster for what is not reading or writing.
pub struct Admin<I: Io> {
    pub(super) cluster: Rc<Cluster<I>>,
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 for the broker's default.
    pub partitions: i32,
    /// How many replicas; -1 for the broker's default.
    pub replication: i16,
    /// Settings that differ from the broker's defaults.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the broker's default settings and replication.
    #[must_use]
    pub fn new(name: &str, partitions: i32) -> NewTopic {
        let configs = BTreeMap::new();
        NewTopic { name: name.to_owned(), partitions, replication: -1, configs }
    }
}

/// A topic that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTopic {
    /// Its name.
    pub name: String,
    /// Its id, none from old brokers.
    pub id: TopicId,
    /// Whether it is the broker's own.
    pub internal: bool,
    /// How many partitions it has.
    pub partitions: usize,
}

/// Kafka's number for topics among what has settings.
const TOPIC_RESOURCE: i8 = 2;

/// One setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Kafka's name for it.
    pub name: String,
    /// What it is; none for a secret.
    pub value: Option<String>,
    /// Whether it was given for the topic itself.
    pub own: bool,
}

/// Why something asked of an [`Admin`] did not happen, or may not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AdminError {
    /// No answer, see [`CallError::may_have_happened`].
    #[error(transparent)]
    Call(#[from] CallError),
    /// The broker refused, with its words if it gave any.
    #[error("{}{}", .code.message(), .message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Refused {
        /// The broker's code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<String>,
    },
}

/// The part of an answer that says whether it worked.
fn accepted(code: i16, message: Option<String>) -> Result<(), AdminError> {
    match ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError) {
        ErrorCode::None => Ok(()),
        code => Err(AdminError::Refused { code, message }),
    }
}

impl<I: Io> Admin<I> {
    pub(super) fn new(cluster: Rc<Cluster<I>>) -> Admin<I> {
        Admin { cluster }
    }

    fn deadline(&self) -> Instant {
        self.cluster.io.now().after(self.cluster.options.patience)
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// [`AdminError`]; `TopicAlreadyExists` also if an earlier attempt of this call, whose answer
    /// was lost, created it.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<(), AdminError> {
        let configs = topic.configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: name.clone(),
            value: Some(value.clone()),
        });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: topic.name.clone(),
                num_partitions: topic.partitions,
                replication_factor: topic.replication,
                configs: configs.collect(),
                ..CreatableTopic::default()
            }],
            timeout_ms: self.timeout_ms(),
            ..CreateTopicsRequest::default()
        };
        self.retried(|| async {
            let response = self.call_controller(&request).await?;
            let result = response.topics.into_iter().find(|result| result.name == topic.name);
            let result = result.ok_or(CallError::Refused(ErrorCode::UnknownServerError))?;
            accepted(result.error_code, result.error_message)
        })
        .await
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// [`AdminError`]; `UnknownTopicOrPartition` also if an earlier attempt of this call, whose
    /// answer was lost, deleted it.
    pub async fn delete_topic(&self, name: &str) -> Result<(), AdminError> {
        let state = DeleteTopicState { name: Some(name.to_owned()), topic_id: TopicId::NONE };
        let request = DeleteTopicsRequest {
            topics: vec![state],
            topic_names: vec![name.to_owned()],
            timeout_ms: self.timeout_ms(),
        };
        let result = self
            .retried(|| async {
                let response = self.call_controller(&request).await?;
                let result = response.responses.into_iter().next();
                let result = result.ok_or(CallError::Refused(ErrorCode::UnknownServerError))?;
                accepted(result.error_code, result.error_message)
            })
            .await;
        self.cluster.forget_topic(name);
        result
    }

    /// Changes a topic's settings; `None` returns one to its default.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn alter_topic(
        &self,
        name: &str,
        changes: &BTreeMap<String, Option<String>>,
    ) -> Result<(), AdminError> {
        let change = |(key, value): (&String, &Option<String>)| IncrementalAlterableConfig {
            name: key.clone(),
            config_operation: i8::from(value.is_none()),
            value: value.clone(),
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![IncrementalAlterConfigsResource {
                resource_type: TOPIC_RESOURCE,
                resource_name: name.to_owned(),
                configs: changes.iter().map(change).collect(),
            }],
            validate_only: false,
        };
        self.retried(|| async {
            let response = self.call_controller(&request).await?;
            let result = response.responses.into_iter().next();
            let result = result.ok_or(CallError::Refused(ErrorCode::UnknownServerError))?;
            accepted(result.error_code, result.error_message)
        })
        .await
    }

    /// Gives a topic more partitions, `count` in the end.
    ///
    /// # Errors
    /// [`AdminError`]; `InvalidPartitions` also if an earlier attempt of this call, whose answer
    /// was lost, added them.
    pub async fn add_partitions(&self, name: &str, count: i32) -> Result<(), AdminError> {
        let topic = CreatePartitionsTopic { name: name.to_owned(), count, assignments: None };
        let request = CreatePartitionsRequest {
            topics: vec![topic],
            timeout_ms: self.timeout_ms(),
            validate_only: false,
        };
        let result = self
            .retried(|| async {
                let response = self.call_controller(&request).await?;
                let result = response.results.into_iter().next();
                let result = result.ok_or(CallError::Refused(ErrorCode::UnknownServerError))?;
                accepted(result.error_code, result.error_message)
            })
            .await;
        self.cluster.forget_topic(name);
        result
    }

    /// Every setting of a topic.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn topic_settings(&self, name: &str) -> Result<Vec<Setting>, AdminError> {
        /// Kafka's number for "given for the topic itself".
        const OWN: i8 = 1;
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: TOPIC_RESOURCE,
                resource_name: name.to_owned(),
                configuration_keys: None,
            }],
            ..DescribeConfigsRequest::default()
        };
        self.retried(|| async {
            let response = self.call_controller(&request).await?;
            let result = response.results.into_iter().next();
            let result = result.ok_or(CallError::Refused(ErrorCode::UnknownServerError))?;
            accepted(result.error_code, result.error_message)?;
            let setting = |config: DescribeConfigsResourceResult| Setting {
                own: config.config_source == OWN,
                name: config.name,
                value: config.value,
            };
            Ok(result.configs.into_iter().map(setting).collect())
        })
        .await
    }

    /// The topics that there are, by name.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn list_topics(&self) -> Result<Vec<ListedTopic>, AdminError> {
        let request = MetadataRequest {
            topics: None,
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        let listed =
            self.retried(|| async { Ok(self.cluster.metadata(&request).await?.topics) }).await?;
        let mut topics: Vec<ListedTopic> = listed
            .into_iter()
            .filter(|topic| topic.error_code == ErrorCode::None.code())
            .map(|topic| ListedTopic {
                name: topic.name.unwrap_or_default(),
                id: topic.topic_id,
                internal: topic.is_internal,
                partitions: topic.partitions.len(),
            })
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// The offset that `start` means in a partition, with its timestamp in ms or -1. For a time, it
    /// is the first record that is not older; `None` if there is none.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn list_offset(
        &self,
        topic: &str,
        partition: PartitionIndex,
        start: Start,
    ) -> Result<Option<(Offset, i64)>, AdminError> {
        let deadline = self.deadline();
        self.cluster.topic(topic, deadline).await?;
        self.retried(|| async {
            let isolation = Isolation::ReadUncommitted;
            Ok(list_offset(&self.cluster, topic, partition, start, isolation).await?)
        })
        .await
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.cluster.options.request_timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// Asks the controller if one is known, or any broker: it knows whom to pass it to.
    pub(super) async fn call_controller<R: Request>(
        &self,
        request: &R,
    ) -> Result<R::Response, CallError> {
        let link = match self.cluster.controller() {
            Some(node) => self.cluster.link(node).await,
            None => self.cluster.any_link().await,
        };
        let link = match link {
            Ok(link) => link,
            Err(_) => self.cluster.any_link().await?,
        };
        link.call(request).await
    }

    /// Tries until it works, cannot work, or the client's patience ends.
    pub(super) async fn retried<T, F: Future<Output = Result<T, AdminError>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<T, AdminError> {
        let deadline = self.deadline();
        let cluster = &self.cluster;
        let mut failures = 0;
        loop {
            let limit = until(&cluster.io, deadline);
            let error = match within(&cluster.io, limit, attempt()).await {
                Some(Ok(value)) => return Ok(value),
                Some(Err(error)) => error,
                None => AdminError::Call(CallError::TimedOut),
            };
            let retriable = match &error {
                AdminError::Call(error) => error.retriable(),
                AdminError::Refused { code, .. } => code.retriable(),
            };
            // A topic that does not exist will not by asking again to delete it.
            let unknown = matches!(
                error,
                AdminError::Refused { code: ErrorCode::UnknownTopicOrPartition, .. }
            );
            if !retriable || unknown || cluster.io.now() >= deadline {
                return Err(error);
            }
            within(&cluster.io, until(&cluster.io, deadline), cluster.pause(failures)).await;
            let refresh = cluster.refresh();
            let _ = within(&cluster.io, until(&cluster.io, deadline), refresh).await;
            failures += 1;
        }
    }
}
