//! Who may do what. Today everybody may do everything; every request already asks.

use super::dispatch::Client;

/// What a request touches.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// The cluster as a whole.
    Cluster,
    /// One topic.
    Topic(&'a str),
    /// One consumer group.
    Group(&'a str),
}

impl Resource<'_> {
    fn name(&self) -> &str {
        match self {
            Resource::Cluster => "kafka-cluster",
            Resource::Topic(name) | Resource::Group(name) => name,
        }
    }
}

/// Kafka's operations, as far as requests need them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fetch, look up offsets; be in a group, commit.
    Read,
    /// Produce.
    Write,
    /// Make topics.
    Create,
    /// Delete topics, groups, committed offsets.
    Delete,
    /// Change topics or the cluster.
    Alter,
    /// See that a topic or a group is there, and where it stands.
    Describe,
    /// See settings.
    DescribeConfigs,
    /// Change settings.
    AlterConfigs,
    /// Produce with idempotence without rights on a topic (before KIP-679).
    IdempotentWrite,
}

/// Decides about each request.
#[derive(Clone, Copy, Debug)]
pub enum Authorizer {
    /// No authorizer is configured: yes.
    AllowAll,
}

impl Authorizer {
    /// Whether `client` may do `operation` on `resource`.
    #[must_use]
    pub fn allows(self, client: &Client, operation: Operation, resource: Resource<'_>) -> bool {
        match self {
            Authorizer::AllowAll => {
                let resource = resource.name();
                tracing::trace!(principal = client.principal, ?operation, resource, "allowed");
                true
            }
        }
    }
}
