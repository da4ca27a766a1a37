//! Links to brokers and the metadata behind them, shared by all parts of one client.
//!
//! There is one link per broker, made when somebody needs it and made anew after it died, with a
//! growing pause between failed attempts. Metadata are asked for when a topic is not known or when
//! a leader turns out to be none any more; requests for them that meet are one request.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;

use super::Options;
use super::fault::CallError;
use super::image::{Image, Partition, Topic};
use super::link::{Link, LinkOptions};
use super::wait::{backoff, until, within};
use crate::id::{LeaderEpoch, NodeId, PartitionIndex, TopicId};
use crate::io::{Instant, Io, Pool, watch};
use crate::wire::api::{MetadataRequest, MetadataRequestTopic, MetadataResponse, Request};
use crate::wire::code::ErrorCode;
use crate::wire::leader::NodeEndpoint;

/// What an attempt ended with, once it has ended.
type Outcome<T> = watch::Receiver<Option<Result<T, CallError>>>;

/// The client's side of the cluster.
pub struct Cluster<I: Io> {
    pub io: I,
    pub pool: Pool,
    pub options: Options,
    link_options: LinkOptions,
    bootstrap: Vec<SocketAddr>,
    slots: RefCell<BTreeMap<NodeId, Slot<I>>>,
    image: RefCell<Image>,
    /// The topics that every request for metadata asks for.
    interest: RefCell<BTreeSet<String>>,
    refreshing: RefCell<Option<Outcome<()>>>,
    /// How many of them the last answer was about. They only become more.
    covered: Cell<usize>,
    refreshed: Cell<Option<Instant>>,
    turn: Cell<usize>,
}

/// The place of one broker's link.
struct Slot<I: Io> {
    link: Option<Link<I>>,
    attempt: Option<Outcome<Link<I>>>,
    failures: u32,
}

impl<I: Io> Default for Slot<I> {
    fn default() -> Self {
        Slot { link: None, attempt: None, failures: 0 }
    }
}

/// The bootstrap addresses are brokers with negative ids until metadata name them.
fn bootstrap_id(index: usize) -> NodeId {
    NodeId(-1 - i32::try_from(index).unwrap_or(i32::MAX - 1))
}

impl<I: Io> Cluster<I> {
    pub fn new(io: I, pool: Pool, bootstrap: Vec<SocketAddr>, options: Options) -> Rc<Cluster<I>> {
        let link_options = LinkOptions {
            client_id: options.client_id.as_str().into(),
            request_timeout: options.request_timeout,
            versions_max: options.versions_max.clone(),
            observer: options.observer.clone(),
        };
        Rc::new(Cluster {
            io,
            pool,
            options,
            link_options,
            bootstrap,
            slots: RefCell::default(),
            image: RefCell::default(),
            interest: RefCell::default(),
            refreshing: RefCell::default(),
            covered: Cell::new(0),
            refreshed: Cell::new(None),
            turn: Cell::new(0),
        })
    }

    fn address(&self, node: NodeId) -> Option<SocketAddr> {
        match usize::try_from(-1 - i64::from(node.0)) {
            Ok(index) => self.bootstrap.get(index).copied(),
            Err(_) => self.image.borrow().brokers.get(&node).copied(),
        }
    }

    /// The link to a broker if there is a live one.
    pub fn live_link(&self, node: NodeId) -> Option<Link<I>> {
        let slots = self.slots.borrow();
        slots.get(&node)?.link.clone().filter(Link::is_alive)
    }

    /// The link to a broker, made if need be. Whoever asks meanwhile waits for the same attempt.
    pub async fn link(self: &Rc<Self>, node: NodeId) -> Result<Link<I>, CallError> {
        if let Some(link) = self.live_link(node) {
            return Ok(link);
        }
        let address = self.address(node).ok_or(CallError::NoBroker)?;
        let attempt = {
            let mut slots = self.slots.borrow_mut();
            let slot = slots.entry(node).or_default();
            match &slot.attempt {
                Some(attempt) => attempt.clone(),
                None => {
                    let (sender, receiver) = watch::channel(None);
                    slot.attempt = Some(receiver.clone());
                    let attempt = self.clone().connect(node, address, slot.failures, sender);
                    self.io.spawn(attempt);
                    receiver
                }
            }
        };
        outcome(attempt).await
    }

    async fn connect(
        self: Rc<Self>,
        node: NodeId,
        address: SocketAddr,
        failures: u32,
        sender: watch::Sender<Option<Result<Link<I>, CallError>>>,
    ) {
        if let Some(failures) = failures.checked_sub(1) {
            self.pause(failures).await;
        }
        let result = Link::open(&self.io, &self.pool, address, &self.link_options).await;
        {
            let mut slots = self.slots.borrow_mut();
            let slot = slots.entry(node).or_default();
            slot.attempt = None;
            slot.failures = if result.is_ok() { 0 } else { slot.failures.saturating_add(1) };
            slot.link = result.clone().ok();
        }
        if let Err(error) = &result {
            tracing::debug!(node = node.0, %address, %error, "no connection");
        }
        sender.send_replace(Some(result));
    }

    /// A new link to an address, for whoever needs one of its own.
    pub async fn link_to(&self, address: SocketAddr) -> Result<Link<I>, CallError> {
        Link::open(&self.io, &self.pool, address, &self.link_options).await
    }

    /// Sleeps as long as `failures` + 1 failures in a row ask for.
    pub async fn pause(&self, failures: u32) {
        let options = &self.options;
        let pause = backoff(&self.io, options.backoff_first, options.backoff_max, failures);
        self.io.sleep(pause).await;
    }

    /// Brokers to ask what any can answer: those with a live link first, then all in turn.
    fn candidates(&self) -> Vec<NodeId> {
        let known = self.image.borrow().brokers.keys().copied().collect::<Vec<_>>();
        let bootstrap = (0..self.bootstrap.len()).map(bootstrap_id);
        let mut nodes: Vec<NodeId> = known.into_iter().chain(bootstrap).collect();
        if !nodes.is_empty() {
            let turn = self.turn.get();
            self.turn.set(turn.wrapping_add(1));
            let first = turn % nodes.len();
            nodes.rotate_left(first);
        }
        // Stable: among equals the turn decides.
        nodes.sort_by_key(|&node| self.live_link(node).is_none());
        nodes
    }

    /// Asks one broker.
    pub async fn call_node<R: Request>(
        self: &Rc<Self>,
        node: NodeId,
        request: &R,
    ) -> Result<R::Response, CallError> {
        self.link(node).await?.call(request).await
    }

    /// Asks brokers one after another until one answers. For requests that may be repeated.
    pub async fn call_any<R: Request>(
        self: &Rc<Self>,
        request: &R,
    ) -> Result<R::Response, CallError> {
        let mut last = CallError::NoBroker;
        for node in self.candidates() {
            match self.call_node(node, request).await {
                Ok(response) => return Ok(response),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Some live or new link, for requests that must not be repeated once they are out.
    pub async fn any_link(self: &Rc<Self>) -> Result<Link<I>, CallError> {
        let mut last = CallError::NoBroker;
        for node in self.candidates() {
            match self.link(node).await {
                Ok(link) => return Ok(link),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The broker that creates topics, as far as known.
    pub fn controller(&self) -> Option<NodeId> {
        self.image.borrow().controller
    }

    /// Brings the metadata of all topics asked for so far up to date.
    pub async fn refresh(self: &Rc<Self>) -> Result<(), CallError> {
        let wanted = self.interest.borrow().len();
        loop {
            let attempt = {
                let mut refreshing = self.refreshing.borrow_mut();
                match &*refreshing {
                    Some(attempt) => attempt.clone(),
                    None => {
                        let (sender, receiver) = watch::channel(None);
                        *refreshing = Some(receiver.clone());
                        self.io.spawn(self.clone().refresh_once(sender));
                        receiver
                    }
                }
            };
            let result = outcome(attempt).await;
            // One that was under way already may not have asked for the latest topics.
            if result.is_err() || self.covered.get() >= wanted {
                return result;
            }
        }
    }

    async fn refresh_once(self: Rc<Self>, sender: watch::Sender<Option<Result<(), CallError>>>) {
        // Not more often than the first backoff: many partitions find out about one lost broker.
        if let Some(last) = self.refreshed.get() {
            let earliest = last.after(self.options.backoff_first);
            self.io.sleep(until(&self.io, earliest)).await;
        }
        let topic = |name: &String| MetadataRequestTopic {
            name: Some(name.clone()),
            ..MetadataRequestTopic::default()
        };
        let topics: Vec<_> = self.interest.borrow().iter().map(topic).collect();
        let asked = topics.len();
        let request = MetadataRequest {
            topics: Some(topics),
            allow_auto_topic_creation: self.options.auto_create_topics,
            ..MetadataRequest::default()
        };
        let result = self.metadata(&request).await;
        let result = result.map(|response| {
            self.image.borrow_mut().apply(response, self.options.resolve);
            self.covered.set(asked);
        });
        self.refreshed.set(Some(self.io.now()));
        *self.refreshing.borrow_mut() = None;
        sender.send_replace(Some(result));
    }

    /// Asks any broker for metadata.
    pub async fn metadata(
        self: &Rc<Self>,
        request: &MetadataRequest,
    ) -> Result<MetadataResponse, CallError> {
        self.call_any(request).await
    }

    /// Takes over what a broker said about leaders.
    pub fn hint(
        &self,
        topic: &str,
        index: PartitionIndex,
        leader: Option<(NodeId, LeaderEpoch)>,
        endpoints: &[NodeEndpoint],
    ) -> bool {
        let Some(leader) = leader else { return false };
        let resolve = self.options.resolve;
        self.image.borrow_mut().apply_hint(topic, index, leader, endpoints, resolve)
    }

    /// What is known of a partition, without asking anybody.
    pub fn partition(&self, topic: &str, index: PartitionIndex) -> Option<(TopicId, Partition)> {
        self.image.borrow().partition(topic, index)
    }

    /// What is known of a topic, without asking anybody.
    pub fn known_topic(&self, name: &str) -> Option<Topic> {
        let image = self.image.borrow();
        image.topics.get(name).filter(|topic| topic.error == ErrorCode::None).cloned()
    }

    /// Makes a topic one of those that metadata are asked for.
    pub fn follow(&self, name: &str) {
        self.interest.borrow_mut().insert(name.to_owned());
    }

    /// A topic, asked for until it is there, it turns out that it cannot be, or `deadline` has
    /// passed.
    pub async fn topic(self: &Rc<Self>, name: &str, deadline: Instant) -> Result<Topic, CallError> {
        self.follow(name);
        let mut failures = 0;
        loop {
            if let Some(topic) = self.known_topic(name)
                && !topic.partitions.is_empty()
            {
                return Ok(topic);
            }
            let limit = until(&self.io, deadline);
            let error = match within(&self.io, limit, self.refresh()).await {
                None => CallError::TimedOut,
                Some(Err(error)) => error,
                Some(Ok(())) => match self.image.borrow().topics.get(name) {
                    Some(topic) if topic.error == ErrorCode::None => continue,
                    Some(topic) => CallError::Refused(topic.error),
                    None => CallError::Refused(ErrorCode::UnknownTopicOrPartition),
                },
            };
            if !error.retriable() || self.io.now() >= deadline {
                return Err(error);
            }
            within(&self.io, until(&self.io, deadline), self.pause(failures)).await;
            failures += 1;
        }
    }

    /// Forgets a topic's metadata after a sign that they are wrong, so that they are asked for
    /// again.
    pub fn forget_topic(&self, name: &str) {
        self.image.borrow_mut().topics.remove(name);
    }
}

/// Waits for the end of an attempt that somebody makes.
async fn outcome<T: Clone>(mut attempt: Outcome<T>) -> Result<T, CallError> {
    loop {
        if let Some(result) = attempt.borrow_and_update().clone() {
            return result;
        }
        if attempt.changed().await.is_err() {
            return Err(CallError::Unreachable(ErrorKind::ConnectionAborted));
        }
    }
}
