//! Diversity: what a run has seen of the protocol and of the clients' options.
//!
//! A sweep adds these up, and what stays unseen is where nothing has been on trial. Counts draw no
//! randomness and change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use trialog_engine::broker::SERVED;
use trialog_engine::wire::api::ApiKey;
use trialog_engine::wire::code::ErrorCode;

use super::Size;
use super::shape::{ClientShape, Role, Shape};
use crate::seed::Seed;

/// Seeds whose shapes say which pairs of options there are.
const SHAPES_DRAWN: u64 = 3000;

/// One kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    /// The API.
    pub api: ApiKey,
    /// Its version.
    pub version: i16,
    /// A code in it.
    pub code: ErrorCode,
}

/// Two options of one client, each as `name=value`, the lesser one first.
pub type Pair = (String, String);

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Answers, and how often each came.
    pub answers: BTreeMap<Answer, u64>,
    /// Pairs of options that one client had.
    pub pairs: BTreeSet<Pair>,
}

impl Seen {
    /// The pairs of options in a shape, and no answers.
    #[must_use]
    pub(super) fn of_shape(shape: &Shape) -> Seen {
        let mut seen = Seen::default();
        for client in &shape.clients {
            let options = options(client);
            seen.pairs.extend(pairs(&options).map(|(one, other)| pair(one, other)));
        }
        seen
    }

    /// Adds what another run has seen.
    pub fn add(&mut self, other: &Seen) {
        for (answer, count) in &other.answers {
            *self.answers.entry(*answer).or_default() += count;
        }
        self.pairs.extend(other.pairs.iter().cloned());
    }
}

/// Every API and version that a broker serves.
pub fn versions_possible() -> impl Iterator<Item = (ApiKey, i16)> {
    SERVED.iter().flat_map(|(api, versions)| versions.clone().map(|version| (*api, version)))
}

/// The pairs of options that seeds of a size draw, as far as many shapes tell. Found once in a process.
#[must_use]
pub fn pairs_possible(size: Size) -> &'static BTreeSet<Pair> {
    static SMALL: OnceLock<BTreeSet<Pair>> = OnceLock::new();
    static FULL: OnceLock<BTreeSet<Pair>> = OnceLock::new();
    let found = match size {
        Size::Small => &SMALL,
        Size::Full => &FULL,
    };
    found.get_or_init(|| pairs_drawn(size))
}

fn pairs_drawn(size: Size) -> BTreeSet<Pair> {
    // All these shapes have some hundred options, and millions of pairs that are mostly the same: as
    // numbers they are compared in no time.
    let mut numbers = BTreeMap::new();
    let mut possible = BTreeSet::new();
    for seed in 0..SHAPES_DRAWN {
        for client in &Shape::draw(Seed(seed), size).clients {
            let options = options(client).into_iter().map(|option| {
                let next = numbers.len();
                *numbers.entry(option).or_insert(next)
            });
            let options: Vec<usize> = options.collect();
            possible.extend(pairs(&options).map(|(one, other)| (*one.min(other), *one.max(other))));
        }
    }
    let mut names = vec![""; numbers.len()];
    for (name, number) in &numbers {
        names[*number] = name;
    }
    possible.into_iter().map(|(one, other)| pair(names[one], names[other])).collect()
}

/// Every two of a client's options.
fn pairs<T>(options: &[T]) -> impl Iterator<Item = (&T, &T)> {
    let each = options.iter().enumerate();
    each.flat_map(|(at, one)| options[at + 1..].iter().map(move |other| (one, other)))
}

fn pair(one: &str, other: &str) -> Pair {
    (one.min(other).to_owned(), one.max(other).to_owned())
}

/// The options of a client that are drawn from a few values each.
fn options(client: &ClientShape) -> Vec<String> {
    let mut options = vec![
        format!("role={}", client.role.name()),
        format!("request timeout={:?}", client.request_timeout),
        format!("old={}", !client.versions_max.is_empty()),
    ];
    let mut add = |name: &str, value: &dyn std::fmt::Debug| {
        options.push(format!("{name}={value:?}"));
    };
    match &client.role {
        Role::Producer(shape) => {
            add("acks", &shape.options.acks);
            add("idempotent", &shape.options.idempotent);
            add("compression", &shape.options.compression);
            add("batch", &shape.options.batch_bytes);
            add("linger", &shape.options.linger);
            add("delivery timeout", &shape.options.delivery_timeout);
            add("buffer", &shape.options.buffer_bytes);
            add("in flight", &shape.options.in_flight);
            add("burst", &shape.burst);
            add("value", &shape.value_bytes);
            add("keys", &shape.keys);
            add("names partition", &shape.names_partition);
            add("headers", &shape.headers);
            add("times", &shape.times_around_ms);
            add("producer renewed", &shape.renewed_every);
        }
        Role::Consumer(shape) => {
            add("wait", &shape.options.wait_max);
            add("bytes min", &shape.options.bytes_min);
            add("bytes max", &shape.options.bytes_max);
            add("partition bytes", &shape.options.partition_bytes_max);
            add("isolation", &shape.options.isolation);
            add("poll", &shape.poll);
            add("pause", &shape.pause);
            add("seeks", &shape.seeks_every);
            add("changes", &shape.changes_every);
            add("consumer renewed", &shape.renewed_every);
            add("keeps", &shape.keeps);
        }
        Role::Admin(shape) => {
            shape.calls.iter().for_each(|call| add("call", call));
            add("admin pause", &shape.pause);
        }
        Role::Changer(shape) => {
            shape.calls.iter().for_each(|call| add("change", call));
            add("changer pause", &shape.pause);
        }
        Role::Zombie(shape) => {
            add("repeats", &shape.repeats_every);
            add("fences", &shape.fences_every);
            add("records", &shape.batch);
        }
        Role::Member(shape) => {
            add("static", &shape.instance.is_some());
            add("commits", &shape.commits);
            add("wait", &shape.options.wait_max);
            add("bytes max", &shape.options.bytes_max);
            add("partition bytes", &shape.options.partition_bytes_max);
            add("poll", &shape.poll);
            add("pause", &shape.pause);
            add("poll interval", &shape.poll_interval);
            add("dozes", &shape.dozes_every);
            add("member renewed", &shape.renewed_every);
            add("leaves", &shape.leaves);
        }
        Role::Caretaker(shape) => {
            shape.calls.iter().for_each(|call| add("care", call));
            add("caretaker pause", &shape.pause);
        }
        Role::Session(shape) => {
            add("session wait", &shape.wait);
            add("session bytes max", &shape.bytes_max);
            add("session partition bytes", &shape.partition_bytes_max);
            add("session changes", &shape.changes_every);
            add("session renewed", &shape.renewed_every);
            add("pipelined", &shape.pipelined_every);
        }
        Role::Stranger(shape) => {
            shape.oddities.iter().for_each(|oddity| add("oddity", oddity));
            add("stranger pause", &shape.pause);
        }
        Role::Limited(shape) => {
            add("quota", &shape.quota);
            add("rate", &shape.rates[0]);
            add("rate changes", &shape.changes_every);
            add("connections", &shape.connections);
            add("size", &shape.size_max);
            add("limited pause", &shape.pause);
        }
        Role::Lodger(shape) => {
            add("stays", &shape.stays);
            add("lodger pause", &shape.pause);
        }
        Role::Hauler(shape) => {
            add("at once", &shape.at_once);
            add("dawdles", &shape.dawdles_every);
            add("hauler pause", &shape.pause);
            add("queues", &shape.queues);
        }
        Role::Operator(shape) => shape.moments.iter().for_each(|moment| add("moment", moment)),
    }
    options
}
