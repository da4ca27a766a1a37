//! Fetch: ask every partition for a plan, wait if that is too little, and send heads from memory
//! and batches from their files.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::find_topic;
use super::lone::Lone;
use crate::broker::Core;
use crate::broker::answer;
use crate::broker::ask::{Ask, Fetch, Fetched};
use crate::broker::auth::Operation;
use crate::broker::dispatch::{self, Incoming};
use crate::broker::quota::Timed;
use crate::broker::reply::{Pending, Piece, Reply};
use crate::broker::session::{Fetching, Key, Turn, Wanted};
use crate::broker::shard;
use crate::broker::wait::Wait;
use crate::id::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use crate::io::Io;
use crate::log::{First, Slice, Slices};
use crate::machine::Image;
use crate::machine::quota::Quota;
use crate::probe::{self, Probe};
use crate::wire::code::ErrorCode;
use crate::wire::fetch::{FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopicResponse};

/// The first version that names topics by id (KIP-516).
const BY_ID: i16 = 13;

/// What a request allows its answer.
pub struct Limits {
    /// How long it may be put off.
    pub wait: Duration,
    /// Until there are so many bytes.
    pub min_bytes: u64,
    /// Of all partitions together; the first batch may exceed it.
    pub max_bytes: u64,
}

impl Limits {
    /// As the request has them, and no more than the broker allows.
    pub fn new<I: Io>(core: &Core<I>, wait_ms: i32, min_bytes: i32, max_bytes: i32) -> Limits {
        let max_bytes = u64::from(u32::try_from(max_bytes).unwrap_or(0))
            .min(u64::from(core.shared.config.fetch_max_bytes));
        Limits {
            wait: Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)),
            min_bytes: u64::try_from(min_bytes).unwrap_or(0).min(max_bytes),
            max_bytes,
        }
    }

    /// Whether so many bytes are answered with at once.
    pub fn is_enough(&self, bytes: u64) -> bool {
        self.wait.is_zero() || bytes >= self.min_bytes
    }
}

/// Begins a fetch; all of it happens when its turn to be answered comes.
pub fn hand_on<I: Io>(core: &Rc<Core<I>>, incoming: Incoming, body: &[u8]) -> Pending<I::File> {
    let mut incoming = incoming;
    if !incoming.is_measured() {
        incoming = match Lone::begin(core, incoming, body) {
            Ok(lone) => return Pending::Lone(lone, None),
            Err(incoming) => incoming,
        };
    }
    match FetchRequest::decode(body, incoming.version) {
        Ok(request) => {
            let core = core.clone();
            Pending::later(async move { fetch(&core, &incoming, request).await })
        }
        Err(error) => dispatch::malformed(&incoming, &error),
    }
}

/// Answers a fetch, after waiting if it has to.
pub async fn fetch<I: Io>(
    core: &Rc<Core<I>>,
    incoming: &Incoming,
    request: FetchRequest,
) -> Reply<I::File> {
    if request.replica_id.0 >= 0 {
        incoming.warn(
            "it comes from a follower, and this connection is not one of the cluster's own",
            "replicate with a broker of the same cluster, or fetch as a consumer",
        );
        return refused(incoming, ErrorCode::ClusterAuthorizationFailed);
    }
    let limits = Limits::new(core, request.max_wait_ms, request.min_bytes, request.max_bytes);
    let mut turn = turn(request, incoming.version);
    if turn.wanted.len() > core.shared.image().partition_count() {
        // It names some again: a small request has no huge answer.
        turn.wanted = each_once(turn.wanted);
    }
    let (session, epoch) = (turn.id, turn.epoch);
    let begun = core.sessions.borrow_mut().begin(turn, core.io.now(), core.io.random());
    let fetching = match begun {
        Ok(fetching) => fetching,
        Err(code) => {
            let why = code.message();
            incoming.refused(code, format_args!("fetch session {session}, epoch {epoch}: {why}"));
            return refused(incoming, code);
        }
    };
    let reading = read_enough(core, incoming, &fetching.wanted, &limits);
    let fetched = if incoming.is_measured() {
        let (fetched, busy) = Timed::new(&core.io, reading).await;
        let bytes: u64 = fetched.iter().map(|one| one.bytes).sum();
        incoming.charge(core, Quota::ConsumerByteRate, bytes as f64);
        incoming.charge_time(core, busy);
        fetched
    } else {
        reading.await
    };
    answer(core, incoming, fetching, fetched)
}

fn turn(request: FetchRequest, version: i16) -> Turn {
    let key = |name: &Rc<str>, topic_id: TopicId, index: PartitionIndex| Key {
        topic_id,
        name: name.clone(),
        index,
    };
    let mut wanted = Vec::new();
    for topic in request.topics {
        let name: Rc<str> = topic.name.into();
        wanted.extend(topic.partitions.into_iter().map(|partition| Wanted {
            key: key(&name, topic.topic_id, partition.index),
            from: partition.fetch_offset,
            max_bytes: u32::try_from(partition.max_bytes).unwrap_or(0),
            leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
        }));
    }
    let mut forgotten = Vec::new();
    for topic in request.forgotten_topics {
        let name: Rc<str> = topic.name.into();
        let keys = topic.partitions.into_iter().map(|index| key(&name, topic.topic_id, index));
        forgotten.extend(keys);
    }
    Turn {
        id: request.session_id,
        epoch: request.session_epoch,
        by_id: version >= BY_ID,
        wanted,
        forgotten,
    }
}

/// Each partition once, with the last word on it, as in Kafka.
fn each_once(wanted: Vec<Wanted>) -> Vec<Wanted> {
    let mut places: BTreeMap<Key, usize> = BTreeMap::new();
    let mut once: Vec<Wanted> = Vec::new();
    for one in wanted {
        match places.entry(one.key.clone()) {
            Entry::Occupied(place) => once[*place.get()] = one,
            Entry::Vacant(place) => {
                place.insert(once.len());
                once.push(one);
            }
        }
    }
    once
}

/// Reads; if that is less than the minimum and nothing failed, waits for more and reads again.
async fn read_enough<I: Io>(
    core: &Rc<Core<I>>,
    incoming: &Incoming,
    wanted: &[Wanted],
    limits: &Limits,
) -> Vec<Fetched<I::File>> {
    let patient = !limits.is_enough(0) && !wanted.is_empty();
    let wait = patient.then(|| Wait::new(limits.min_bytes));
    let fetched = read(core, incoming, wanted, limits.max_bytes, wait.as_ref()).await;
    let Some(wait) = wait else { return fetched };
    let bytes: u64 = fetched.iter().map(|one| one.bytes).sum();
    if bytes >= limits.min_bytes || fetched.iter().any(Fetched::is_news) {
        return fetched;
    }
    // What was there counts towards the minimum; its files are not held meanwhile.
    wait.add(bytes);
    let nothing = Some(fetched).filter(|_| bytes == 0);
    let more = more(core, incoming, &wait, limits.wait).await;
    drop(wait);
    match nothing.filter(|_| !more) {
        Some(nothing) => nothing,
        None => read(core, incoming, wanted, limits.max_bytes, None).await,
    }
}

/// Waits for as long as a request allows, until the partitions have reported what it wants; whether
/// they have reported anything.
pub async fn more<I: Io>(
    core: &Core<I>,
    incoming: &Incoming,
    wait: &Wait,
    longest: Duration,
) -> bool {
    tokio::select! {
        biased; // Who has left needs no data; else data that is there goes before the clock.
        () = incoming.client.link.gone() => probe::hit(Probe::FetchAbandoned),
        () = wait.enough() => probe::hit(Probe::FetchWoken),
        () = core.io.sleep(longest) => probe::hit(Probe::FetchTimedOut),
    }
    !wait.is_untouched()
}

/// Asks all partitions at once. If the answers together exceed the limit, what does not fit is
/// asked for again with what is left.
async fn read<I: Io>(
    core: &Rc<Core<I>>,
    incoming: &Incoming,
    wanted: &[Wanted],
    max_bytes: u64,
    wait: Option<&Arc<Wait>>,
) -> Vec<Fetched<I::File>> {
    let image = core.shared.image();
    let mut answers = Vec::with_capacity(wanted.len());
    for one in wanted {
        let limit = u64::from(one.max_bytes).min(max_bytes);
        answers.push(
            ask(core, incoming, &image, one, limit, First::AtLeastOneBatch, wait.cloned()).await,
        );
    }
    let mut left = max_bytes;
    let mut is_first = true;
    let mut fetched = Vec::with_capacity(wanted.len());
    for (one, answer) in wanted.iter().zip(answers) {
        let mut plan = settle(answer).await;
        // The first batch of all may exceed the limit, or a large one would never be fetched: that one
        // only, also where the limit is 0.
        if plan.bytes > left && !is_first {
            probe::hit(Probe::FetchAskedAgain);
            let first = First::WithinLimit;
            plan = settle(ask(core, incoming, &image, one, left, first, None).await).await;
        }
        is_first &= plan.bytes == 0;
        left = left.saturating_sub(plan.bytes);
        fetched.push(plan);
    }
    fetched
}

type Answer<F> = Result<answer::Receiver<Fetched<F>>, ErrorCode>;

async fn ask<I: Io>(
    core: &Rc<Core<I>>,
    incoming: &Incoming,
    image: &Image,
    wanted: &Wanted,
    max_bytes: u64,
    first: First,
    wait: Option<Arc<Wait>>,
) -> Answer<I::File> {
    let Key { topic_id, name, index } = &wanted.key;
    let topic = find_topic(image, &incoming.client, Operation::Read, name, *topic_id)?;
    topic.partition(*index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let (answer, planned) = core.plans.take();
    let fetch = Fetch {
        from: wanted.from,
        leader_epoch: wanted.leader_epoch,
        last_fetched_epoch: wanted.last_fetched_epoch,
        max_bytes,
        first,
        wait,
        answer,
    };
    shard::ask(core, (topic.id, *index), Ask::Fetch(fetch)).await;
    Ok(planned)
}

async fn settle<F>(answer: Answer<F>) -> Fetched<F> {
    match answer {
        // A dropped answer: the partition closed meanwhile, and the client asks again.
        Ok(planned) => planned.await.unwrap_or_else(|_| {
            probe::hit(Probe::FetchDropped);
            Fetched::failed(ErrorCode::NotLeaderOrFollower)
        }),
        Err(code) => Fetched::failed(code),
    }
}

/// Puts the answer together: a head, cut where each partition's batches go.
fn answer<I: Io>(
    core: &Core<I>,
    incoming: &Incoming,
    fetching: Fetching,
    fetched: Vec<Fetched<I::File>>,
) -> Reply<I::File> {
    let Fetching { session, incremental, wanted } = fetching;
    let throttle_time_ms = incoming.throttle_ms();
    let mut response =
        FetchResponse { session_id: session, throttle_time_ms, ..FetchResponse::default() };
    let mut slices: Vec<Slices<I::File>> = Vec::new();
    for (Wanted { key, from, .. }, one) in wanted.into_iter().zip(fetched) {
        if one.error != ErrorCode::None {
            failed(core, incoming, &named(core, &key), (key.index, from), &one);
        }
        let data = one.bytes > 0;
        let changed =
            core.sessions.borrow_mut().tell(session, &key, one.high_watermark, one.start, data);
        let news = data || changed || one.is_news();
        if incremental && !news {
            probe::hit(Probe::SessionQuiet);
            continue;
        }
        let same =
            |topic: &FetchTopicResponse| topic.topic_id == key.topic_id && *topic.name == *key.name;
        if !response.topics.last().is_some_and(same) {
            response.topics.push(FetchTopicResponse {
                name: key.name.to_string(),
                topic_id: key.topic_id,
                partitions: Vec::new(),
            });
        }
        let topic = response.topics.last_mut().expect("there is one now");
        topic.partitions.push(partition(core, key.index, &one));
        slices.push(one.slices);
    }
    let mut head = incoming.begin();
    let cuts = response.encode_head(&mut head, incoming.version);
    assert_eq!(cuts.len(), slices.len(), "one place for each partition's batches");
    if !incoming.end(&mut head, bytes_of(slices.iter().flatten())) {
        return Reply::Close;
    }
    Reply::Send(interleave(head, &cuts, slices))
}

/// How many bytes are sent from files.
pub fn bytes_of<'a, F: 'a>(slices: impl IntoIterator<Item = &'a Slice<F>>) -> usize {
    let bytes: u64 = slices.into_iter().map(|slice| slice.length).sum();
    usize::try_from(bytes).expect("bounded by fetch.max.bytes and one batch")
}

/// What people call the topic of a partition that was asked for.
fn named<I: Io>(core: &Core<I>, key: &Key) -> String {
    if key.topic_id == TopicId::NONE {
        return key.name.to_string();
    }
    let image = core.shared.image();
    let known = image.topic_by_id(key.topic_id).map(|topic| topic.name.to_string());
    known.unwrap_or_else(|| format!("topic id {}", key.topic_id))
}

/// Counts and logs that a partition cannot be read as it was asked.
pub fn failed<I: Io>(
    core: &Core<I>,
    incoming: &Incoming,
    topic: &str,
    (index, from): (PartitionIndex, Offset),
    one: &Fetched<I::File>,
) {
    core.tally.fetches_failed.add(1);
    let why = one.error.message();
    // Where nothing is known of the partition, both are -1.
    let (start, end) = (one.start, one.high_watermark);
    incoming.refused(
        one.error,
        format_args!("{topic} partition {index} from offset {from}, of {start} to {end}: {why}"),
    );
}

/// The answer about one partition, which is on its way from here.
pub fn partition<I: Io>(
    core: &Core<I>,
    index: PartitionIndex,
    one: &Fetched<I::File>,
) -> FetchPartitionResponse {
    if let Some(gauge) = &one.gauge {
        gauge.sent(one.bytes);
    }
    // KIP-951: the epoch that the client has missed. `node_endpoints` stays empty: it tells where a
    // leader is that the client may not know yet, and the only one that there is sends this answer.
    let stale = matches!(one.error, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
    FetchPartitionResponse {
        index,
        error: one.error,
        high_watermark: one.high_watermark,
        // Without transactions nothing is ever undecided below the high watermark.
        last_stable_offset: one.high_watermark,
        log_start_offset: one.start,
        diverging_epoch: one.diverging,
        current_leader: (stale && one.leader_epoch != LeaderEpoch::NONE)
            .then_some((core.shared.node, one.leader_epoch)),
        records: u32::try_from(one.bytes).expect("bounded by fetch.max.bytes and one batch"),
        ..FetchPartitionResponse::default()
    }
}

/// The head cut at `cuts`, with the slices that belong there in between.
fn interleave<F>(head: Vec<u8>, cuts: &[usize], slices: Vec<Slices<F>>) -> Vec<Piece<F>> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for (&cut, slices) in cuts.iter().zip(slices) {
        if slices.is_empty() {
            continue;
        }
        if cut > from {
            pieces.push(Piece::Bytes(head[from..cut].to_vec()));
            from = cut;
        }
        pieces.extend(slices.into_iter().map(Piece::File));
    }
    if from == 0 {
        pieces.push(Piece::Bytes(head));
    } else if from < head.len() {
        pieces.push(Piece::Bytes(head[from..].to_vec()));
    }
    pieces
}

/// An answer that is only a code.
fn refused<F>(incoming: &Incoming, error: ErrorCode) -> Reply<F> {
    let response = FetchResponse { error, ..FetchResponse::default() };
    incoming.reply_with(|out| {
        let cuts = response.encode_head(out, incoming.version);
        assert!(cuts.is_empty());
    })
}
