//! The scene of one seed: topics, nodes with their programs, and what must hold.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use trialog_engine::client::NewTopic;
use trialog_jepsen::check::Promise;

use super::node::Node;
use crate::seed::Stream;

/// What a node runs, from its start to its crash or end.
pub(super) type Program = Arc<dyn Fn(Node) -> LocalBoxFuture<'static, ()> + Send + Sync>;
/// Looks whether something holds, and says what does not.
pub(super) type Always = Box<dyn Fn() -> Result<(), String>>;
/// Looks whether something has come about.
pub(super) type Eventually = Box<dyn Fn() -> bool>;

/// What a seed begins with. See [`super::Trial::new`].
pub struct Scene {
    pub(super) topics: Vec<(NewTopic, Promise)>,
    pub(super) actors: Vec<Actor>,
    pub(super) always: Vec<(String, Always)>,
    pub(super) eventually: Vec<(String, Eventually)>,
    random: Stream,
}

/// A node and its program.
pub(super) struct Actor {
    pub name: String,
    pub program: Program,
    /// Whether the trial waits for the program to return.
    pub ends: bool,
}

impl Scene {
    pub(super) fn new(random: Stream) -> Scene {
        let (topics, actors) = (Vec::new(), Vec::new());
        Scene { topics, actors, always: Vec::new(), eventually: Vec::new(), random }
    }

    /// A topic that is there before the nodes start. The judge holds the broker to what a flushed
    /// topic promises.
    pub fn topic(&mut self, name: &str, partitions: i32) {
        self.topic_that(NewTopic::new(name, partitions), Promise::default());
    }

    /// A topic with settings of its own, and what it promises with them.
    pub fn topic_that(&mut self, topic: NewTopic, promise: Promise) {
        self.topics.push((topic, promise));
    }

    /// A node whose program ends: the trial waits for it after everything has healed. A program that
    /// is killed by a fault starts again from its beginning; what it keeps is what it
    /// [stores](Node::store).
    pub fn node<F>(&mut self, name: &str, program: impl Fn(Node) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        self.add(name, program, true);
    }

    /// A node whose program goes on for ever.
    pub fn service<F>(&mut self, name: &str, program: impl Fn(Node) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        self.add(name, program, false);
    }

    /// Something that must hold at every moment; looked at ten times a simulated second and at the
    /// end. `Err` says in a sentence what does not hold.
    pub fn always(&mut self, name: &str, holds: impl Fn() -> Result<(), String> + 'static) {
        self.always.push((name.to_owned(), Box::new(holds)));
    }

    /// Something that must come about once everything has healed.
    pub fn eventually(&mut self, name: &str, done: impl Fn() -> bool + 'static) {
        self.eventually.push((name.to_owned(), Box::new(done)));
    }

    /// What the scene itself draws from: how many nodes, how large, how often.
    pub fn random(&mut self) -> &mut Stream {
        &mut self.random
    }

    fn add<F>(
        &mut self,
        name: &str,
        program: impl Fn(Node) -> F + Send + Sync + 'static,
        ends: bool,
    ) where
        F: Future<Output = ()> + 'static,
    {
        let program: Program = Arc::new(move |node| program(node).boxed_local());
        self.actors.push(Actor { name: name.to_owned(), program, ends });
    }
}
