//! Our own Kafka client, over the seam: for the command line, the simulator, `jepsen`, and later
//! for followers.
//!
//! A [`Client`] is a handle to one cluster: links to its brokers and its metadata. From it come
//! [`Producer`]s, [`Consumer`]s, [`GroupConsumer`]s and an [`Admin`]. Everything runs on the core that made it; there is
//! no global state, and time, randomness, tasks and sockets come from [`Io`]. Everything waits with
//! an end, and every queue has a bound.
//!
//! What it promises about records is the producer's [`Outcome`]: stored, certainly not stored, or
//! unknown; a caller is never told a guess.
//!
//! It must not know the broker's insides. It works against any Kafka, and negotiates versions.

mod admin;
mod cluster;
mod consumer;
mod fault;
mod group;
mod groups;
mod image;
mod link;
mod partitioner;
mod producer;
mod quotas;
mod wait;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::io::{Io, Pool};
use crate::wire::api::{ApiKey, Message, Request};
use crate::wire::code::ErrorCode;
use cluster::Cluster;

pub use admin::{Admin, AdminError, ListedTopic, NewTopic, Setting};
pub use consumer::{
    ConsumeError, ConsumedRecord, Consumer, ConsumerOptions, Isolation, OutOfRange, Start,
};
pub use fault::CallError;
pub use group::{GroupConsumer, GroupError, GroupOptions, Place, Polled, Strategy};
pub use groups::{DescribedGroup, GroupMember, ListedGroup, Standing};
pub use image::{Resolve, Topic, resolve_literal};
pub use producer::{Acks, Failure, NewRecord, Outcome, Producer, ProducerOptions, Receipt, Ticket};
pub use quotas::{QuotaEntity, QuotaOwner};

/// How a client talks to its cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the client calls itself.
    pub client_id: String,
    /// How long connecting, and each request beyond what it asks the broker to wait, may take.
    pub request_timeout: Duration,
    /// The first pause after a failure; it doubles with each further one.
    pub backoff_first: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// How long calls of the admin and the look-up of topics go on trying.
    pub patience: Duration,
    /// Whether asking for a topic may create it, if the broker allows that.
    pub auto_create_topics: bool,
    /// Turns advertised host names into addresses. The default knows numbers and `localhost`.
    pub resolve: Resolve,
    /// Highest versions of APIs to use, for talking as an older client does.
    pub versions_max: BTreeMap<ApiKey, i16>,
    /// Is told of every error code in every answer, `None` included.
    pub observer: Option<Observer>,
}

/// Is told of an answer: its API, its version, and one code in it. Clones tell the same one.
#[derive(Clone)]
pub struct Observer(Rc<dyn Fn(ApiKey, i16, ErrorCode)>);

impl Observer {
    /// An observer that calls `see`.
    #[must_use]
    pub fn new(see: impl Fn(ApiKey, i16, ErrorCode) + 'static) -> Observer {
        Observer(Rc::new(see))
    }

    /// Tells of all codes in a declared message; of `None` if it has no place for one.
    fn see<M: Message>(&self, key: ApiKey, version: i16, message: &M) {
        let mut any = false;
        message.error_codes(version, &mut |code| {
            any = true;
            let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
            self.see_code(key, version, code);
        });
        if !any {
            self.see_code(key, version, ErrorCode::None);
        }
    }

    fn see_code(&self, key: ApiKey, version: i16, code: ErrorCode) {
        (self.0)(key, version, code);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            client_id: "trialog".to_owned(),
            request_timeout: Duration::from_secs(30),
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            patience: Duration::from_secs(60),
            auto_create_topics: true,
            resolve: resolve_literal,
            versions_max: BTreeMap::new(),
            observer: None,
        }
    }
}

/// A handle to one cluster. Clones share links and metadata.
pub struct Client<I: Io> {
    cluster: Rc<Cluster<I>>,
}

impl<I: Io> Clone for Client<I> {
    fn clone(&self) -> Self {
        Client { cluster: self.cluster.clone() }
    }
}

impl<I: Io> Client<I> {
    /// A client that has not talked to anybody yet. Brokers need not be up.
    #[must_use]
    pub fn new(io: I, pool: Pool, bootstrap: Vec<SocketAddr>, options: Options) -> Client<I> {
        Client { cluster: Cluster::new(io, pool, bootstrap, options) }
    }

    /// A client that has reached one of the `bootstrap` addresses and knows the brokers.
    ///
    /// # Errors
    /// [`CallError`] of the last address if none could be reached.
    pub async fn connect(
        io: I,
        pool: Pool,
        bootstrap: Vec<SocketAddr>,
        options: Options,
    ) -> Result<Client<I>, CallError> {
        let client = Client::new(io, pool, bootstrap, options);
        client.cluster.refresh().await?;
        Ok(client)
    }

    /// A producer.
    #[must_use]
    pub fn producer(&self, options: ProducerOptions) -> Producer<I> {
        Producer::new(self.cluster.clone(), options)
    }

    /// A consumer without partitions.
    #[must_use]
    pub fn consumer(&self, options: ConsumerOptions) -> Consumer<I> {
        Consumer::new(self.cluster.clone(), options)
    }

    /// A member of a group that is to read `topics`. It joins with its first poll.
    #[must_use]
    pub fn subscribe(&self, options: GroupOptions, topics: &[&str]) -> GroupConsumer<I> {
        GroupConsumer::new(self.cluster.clone(), options, topics)
    }

    /// Creates, deletes and lists.
    #[must_use]
    pub fn admin(&self) -> Admin<I> {
        Admin::new(self.cluster.clone())
    }

    /// A topic's partitions and their leaders; asks until there are some, for at most
    /// [`Options::patience`]. May create the topic ([`Options::auto_create_topics`]).
    ///
    /// # Errors
    /// [`CallError`], `Refused` with the topic's code if it cannot be had.
    pub async fn topic(&self, name: &str) -> Result<Topic, CallError> {
        let deadline = self.cluster.io.now().after(self.cluster.options.patience);
        self.cluster.topic(name, deadline).await
    }

    /// Sends any request but Produce and Fetch to any broker, in the highest version that both
    /// sides speak. Not repeated if it may have been carried out.
    ///
    /// # Errors
    /// [`CallError`]; codes within the answer are the caller's to read.
    pub async fn call<R: Request>(&self, request: &R) -> Result<R::Response, CallError> {
        self.cluster.any_link().await?.call(request).await
    }
}
