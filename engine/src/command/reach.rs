//! Reaching a cluster from the command line, and saying in words why that failed.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use trialog_engine::client::{AdminError, CallError, Client, ConsumeError, Failure as Undelivered};
use trialog_engine::client::{GroupError, Options, Start};
use trialog_engine::id::PartitionIndex;
use trialog_engine::io::Pool;
use trialog_engine::io::kernel::KernelIo;
use trialog_engine::wire::api::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};
use trialog_engine::wire::code::ErrorCode;

use super::cli::Bootstrap;
use super::failure::Failure;

/// A client that has reached a broker.
pub struct Reached {
    /// The client.
    pub client: Client<KernelIo>,
    /// The addresses it began with, as they were given.
    bootstrap: String,
}

/// Whether asking for a topic may make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It may, if the broker allows that.
    Make,
    /// It may not.
    Refuse,
}

/// Connects to the first of the brokers that answers.
pub(crate) async fn reach(io: KernelIo, bootstrap: &Bootstrap) -> Result<Reached, Failure> {
    let timeout = Duration::from_secs(bootstrap.timeout);
    let options = Options {
        client_id: "trialog".to_owned(),
        request_timeout: timeout,
        patience: timeout,
        auto_create_topics: false,
        resolve: |host, port| (host, port).to_socket_addrs().ok()?.next(),
        ..Options::default()
    };
    let mut addresses = Vec::new();
    for given in &bootstrap.bootstrap {
        addresses.extend(addresses_of(given)?);
    }
    let bootstrap = bootstrap.bootstrap.join(",");
    let client = Client::connect(io, Pool::new(), addresses, options);
    match client.await {
        Ok(client) => Ok(Reached { client, bootstrap }),
        Err(error @ CallError::Unreachable(_)) => Err(Failure::NoAnswer(format!(
            "no broker at {bootstrap}: {error}; start one with 'trialog serve', or say where it is \
             with --bootstrap HOST:PORT"
        ))),
        Err(error) => Err(call(&error, &bootstrap)),
    }
}

fn addresses_of(given: &str) -> Result<Vec<SocketAddr>, Failure> {
    let mistake = |why: &str| {
        Failure::Usage(format!("'{given}' is no address of a broker: {why}; write HOST:PORT"))
    };
    let Some((host, port)) = given.trim().rsplit_once(':') else {
        return Err(mistake("it has no port"));
    };
    let port: u16 = port.parse().map_err(|_| mistake("its port is no number up to 65535"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found = (host, port).to_socket_addrs();
    let found = found.map_err(|error| mistake(&format!("its host has no address ({error})")))?;
    Ok(found.collect())
}

impl Reached {
    /// What the cluster says of a topic now, without waiting for it to appear.
    pub async fn topic(
        &self,
        name: &str,
        missing: Missing,
    ) -> Result<MetadataResponseTopic, Failure> {
        let topic =
            MetadataRequestTopic { name: Some(name.to_owned()), ..MetadataRequestTopic::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: missing == Missing::Make,
            ..MetadataRequest::default()
        };
        let response: MetadataResponse =
            self.client.call(&request).await.map_err(|error| self.call(&error))?;
        let topic = response.topics.into_iter().next();
        let topic = topic.ok_or_else(|| Failure::Other("the answer names no topic".to_owned()))?;
        match known(topic.error_code) {
            ErrorCode::None => Ok(topic),
            ErrorCode::UnknownTopicOrPartition => {
                Err(Failure::Refused(format!("there is no topic '{name}'")))
            }
            // It is being made; whoever reads or writes waits for its leaders.
            ErrorCode::LeaderNotAvailable if missing == Missing::Make => Ok(topic),
            code => Err(Failure::Refused(format!("topic '{name}': {}", code.message()))),
        }
    }

    /// The offset of a place in a partition; for a moment that no record has reached, none.
    pub async fn offset(
        &self,
        topic: &str,
        partition: i32,
        place: Start,
    ) -> Result<Option<i64>, Failure> {
        let found = self.client.admin().list_offset(topic, PartitionIndex(partition), place).await;
        Ok(found.map_err(|error| self.admin(&error))?.map(|(offset, _)| offset.0))
    }

    /// Why a request has no answer.
    pub fn call(&self, error: &CallError) -> Failure {
        call(error, &self.bootstrap)
    }

    /// Why something was not done.
    pub fn admin(&self, error: &AdminError) -> Failure {
        match error {
            AdminError::Call(error) => self.call(error),
            AdminError::Refused { code, message } => refused(*code, message.as_deref()),
        }
    }

    /// Why a record was not stored.
    pub fn undelivered(&self, error: &Undelivered) -> Failure {
        match error {
            Undelivered::Call(error) => self.call(error),
            Undelivered::Refused { code, message } => refused(*code, message.as_deref()),
            Undelivered::TimedOut => self.call(&CallError::TimedOut),
            Undelivered::NoPartition(_) => Failure::Refused(error.to_string()),
            other => Failure::Other(other.to_string()),
        }
    }

    /// Why a member of a group cannot go on.
    pub fn member(&self, error: &GroupError) -> Failure {
        match error {
            GroupError::Refused(code) => refused(*code, None),
            GroupError::Call(error) => self.call(error),
            GroupError::Consume(error) => self.unread(error),
            GroupError::NotMember => Failure::Other(error.to_string()),
        }
    }

    /// Why reading ended.
    pub fn unread(&self, error: &ConsumeError) -> Failure {
        match error {
            ConsumeError::Call(error) => self.call(error),
            ConsumeError::Corrupt { .. } => Failure::Damaged(error.to_string()),
            other => Failure::Refused(other.to_string()),
        }
    }
}

/// A code, newer ones than this program knows included.
fn known(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

/// The broker's words if it gave any, else what its code means.
fn refused(code: ErrorCode, message: Option<&str>) -> Failure {
    let words = message.filter(|message| !message.is_empty());
    Failure::Refused(words.unwrap_or(code.message()).to_owned())
}

fn call(error: &CallError, bootstrap: &str) -> Failure {
    match error {
        CallError::Refused(code) => refused(*code, None),
        CallError::Unsupported(_) | CallError::Malformed(_) => Failure::Other(error.to_string()),
        _ => Failure::NoAnswer(format!("the brokers of {bootstrap} do not answer: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let one = |given: &str| addresses_of(given).expect("an address")[0].to_string();
        assert_eq!(one("127.0.0.1:1"), "127.0.0.1:1");
        assert_eq!(one("[::1]:2"), "[::1]:2");
        for given in ["localhost", "127.0.0.1:", "127.0.0.1:70000", ""] {
            assert!(matches!(addresses_of(given), Err(Failure::Usage(_))), "{given}");
        }
    }
}
