//! Produce: verify each batch here, on the connection's core; append it on the partition's.
//!
//! The batches leave for their partitions before the next request of the connection is looked at,
//! so two produces to one partition reach it in order; the answers are awaited in the answer's
//! future, so the second does not wait for the first one's flush.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{find_topic, leader};
use crate::broker::Core;
use crate::broker::answer;
use crate::broker::ask::{Accepted, Ask, Outcomes, Produce, Rejection};
use crate::broker::auth::Operation;
use crate::broker::dispatch::{self, Incoming};
use crate::broker::remedy;
use crate::broker::reply::{Pending, Reply};
use crate::broker::{settings, shard};
use crate::id::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId};
use crate::io::{Buf, Instant, Io, yield_now};
use crate::limit::{PRODUCED_UNKNOWN_MAX, RECORD_ERRORS_PER_REQUEST_MAX, TURN_MAX};
use crate::machine::Topic;
use crate::probe::{self, Probe};
use crate::wire::batch::{self, BatchError, Header, Verified};
use crate::wire::code::ErrorCode;
use crate::wire::produce::{
    ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopicResponse,
};
use smallvec::smallvec;

/// When the client wants its answer (Kafka's `acks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Never.
    None,
    /// When the leader has it.
    Leader,
    /// When all in-sync replicas have it.
    All,
}

impl Acks {
    /// As the request has it.
    pub fn from_wire(acks: i16) -> Result<Acks, ErrorCode> {
        match acks {
            0 => Ok(Acks::None),
            1 => Ok(Acks::Leader),
            -1 => Ok(Acks::All),
            _ => Err(ErrorCode::InvalidRequiredAcks),
        }
    }
}

/// Why it is not known what became of a batch.
#[derive(Clone, Copy, Debug)]
pub enum Unsettled {
    /// The partition closed with the batch appended and not yet flushed.
    Closed,
    /// The request's time is up.
    Late,
}

/// A partition of the request: answered, or on its way.
enum Outcome {
    Done(ProducePartitionResponse),
    Asked {
        index: PartitionIndex,
        leader: Option<(NodeId, LeaderEpoch)>,
        answer: answer::Receiver<Outcomes>,
    },
}

struct TopicOutcome {
    name: String,
    topic_id: TopicId,
    partitions: Vec<Outcome>,
}

/// Sends every batch of the request to its partition.
pub async fn hand_on<I: Io>(
    core: &Rc<Core<I>>,
    incoming: Incoming,
    mut frame: Buf,
    body: usize,
) -> Pending<I::File> {
    let request = match ProduceRequest::decode(&frame[body..], incoming.version) {
        Ok(request) => request,
        Err(error) => return dispatch::malformed(&incoming, &error),
    };
    let image = core.shared.image();
    core.configure(&image);
    let named: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    if named > image.partition_count().max(PRODUCED_UNKNOWN_MAX) {
        // So a batch of bytes is not answered with many times as many.
        incoming.warn(
            &format!("it names {named} partitions, and there are fewer"),
            "closing the connection; report this to the client's makers",
        );
        return Pending::Now(Reply::Close);
    }
    let timeout = patience(request.timeout_ms);
    let transactional = request.transactional_id.is_some_and(|id| !id.is_empty());
    let acks = Acks::from_wire(request.acks);
    // What each batch needs, in the order of its bytes, while the frame is still whole.
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut batches = Vec::new();
    let mut records_named = 0;
    let mut since = core.io.now();
    for topic in &request.topics {
        let found =
            find_topic(&image, &incoming.client, Operation::Write, topic.name, topic.topic_id);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let index = partition.index;
            let records = partition.records.clone().unwrap_or(0..0);
            let checked = acks
                .and_then(|acks| {
                    let min_insync = |topic: &_| core.topic_config(topic).min_insync_replicas;
                    if transactional {
                        return Err(ErrorCode::InvalidTxnState);
                    }
                    admit(&found, index, acks, min_insync)
                })
                .map_err(|code| refusal(index, code, code.message().to_owned()))
                .and_then(|topic| match core.shared.room.is_none() {
                    true => Err(no_room(core, index)),
                    false => Ok(topic),
                })
                .and_then(|topic| {
                    let config = core.topic_config(topic);
                    let rules = settings::rules(&config, incoming.version, core.io.wall());
                    let bytes = &frame[body..][records.clone()];
                    let rejected = |error: BatchError| rejected(index, &error);
                    let verified = batch::verify(bytes, &rules).map_err(rejected)?;
                    let codec = settings::codec(&config);
                    Ok((topic, verified, codec.map(|codec| (codec, rules.batch_bytes_max))))
                });
            give_way(core, &mut since).await;
            partitions.push(match checked {
                Ok((topic, verified, codec)) => {
                    let (answer, outcome) = core.outcomes.take();
                    let range = body + records.start..body + records.end;
                    batches.push((range, verified, codec, (topic.id, index), answer));
                    Outcome::Asked { index, leader: leader(topic, index), answer: outcome }
                }
                Err(mut response) => {
                    let room = RECORD_ERRORS_PER_REQUEST_MAX - records_named;
                    response.record_errors.truncate(room);
                    records_named += response.record_errors.len();
                    Outcome::Done(response)
                }
            });
        }
        topics.push(TopicOutcome {
            // From version 13 on the request has the id alone; our log names the topic all the same.
            name: found.as_ref().map_or(topic.name, |known| &known.name).to_owned(),
            topic_id: topic.topic_id,
            partitions,
        });
    }
    let mut at = 0;
    for (range, verified, codec, partition, answer) in batches {
        frame.advance(range.start - at);
        let mut batch = frame.split_to(range.len());
        at = range.end;
        // Only now, when it is handed on at once: what comes out may be a thousand times as large.
        if let Some((codec, bytes_max)) = codec {
            match batch::recompress(&batch, codec, bytes_max) {
                Ok(None) => {}
                Ok(Some(anew)) => {
                    probe::hit(Probe::Recompressed);
                    batch = Buf::from(anew);
                }
                Err(error) => {
                    probe::hit(Probe::BatchRefused);
                    let (code, message) = (error.code(), error.to_string());
                    answer.send(smallvec![Err(Rejection { code, message })]);
                    continue;
                }
            }
            yield_now().await;
        }
        correct_max_timestamp(&mut batch, verified);
        let produce = Produce { batches: smallvec![batch], answer };
        shard::ask(core, partition, Ask::Produce(produce)).await;
    }
    drop(frame);
    match acks {
        Ok(Acks::None) => unanswered(topics, incoming),
        Ok(Acks::All) => {
            let io = core.io.clone();
            Pending::later(
                async move { answer(&incoming, gather(topics, io.sleep(timeout)).await) },
            )
        }
        // Only acks=all has a time limit in Kafka: acks=1 waits for the local append alone.
        Ok(Acks::Leader) | Err(_) => Pending::later(async move {
            answer(&incoming, gather(topics, std::future::pending()).await)
        }),
    }
}

/// Lets others have the core if this request has had it for long: a small batch may take long to read.
async fn give_way<I: Io>(core: &Core<I>, since: &mut Instant) {
    if core.io.now().since(*since) >= TURN_MAX {
        yield_now().await;
        *since = core.io.now();
    }
}

fn answer<F>(incoming: &Incoming, topics: Vec<ProduceTopicResponse>) -> Reply<F> {
    for topic in &topics {
        for partition in topic.partitions.iter().filter(|one| one.error != ErrorCode::None) {
            refused(incoming, &topic.name, partition);
        }
    }
    let throttle_time_ms = incoming.throttle_ms();
    let response = ProduceResponse { topics, throttle_time_ms, ..ProduceResponse::default() };
    incoming.reply_with(|out| response.encode(out, incoming.version))
}

/// Counts and logs that a batch was not taken.
pub fn refused(incoming: &Incoming, topic: &str, partition: &ProducePartitionResponse) {
    let ProducePartitionResponse { index, error, error_message, .. } = partition;
    let reason = error_message.as_deref().unwrap_or("");
    incoming.refused(*error, format_args!("{topic} partition {index}: {reason}"));
}

/// How long a request waits for the replicas.
pub fn patience(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

/// Some clients do not fill the batch's largest time stamp in; Kafka does it for them.
pub fn correct_max_timestamp(batch: &mut [u8], verified: Verified) {
    let header = Header::parse(batch);
    if header.is_ok_and(|header| header.max_timestamp() != verified.max_timestamp) {
        batch::stamp_max_timestamp(batch, verified.max_timestamp);
    }
}

/// Checks everything about a partition of the request but its bytes.
pub fn admit(
    found: &Result<Arc<Topic>, ErrorCode>,
    index: PartitionIndex,
    acks: Acks,
    min_insync: impl Fn(&Arc<Topic>) -> usize,
) -> Result<&Arc<Topic>, ErrorCode> {
    let topic = found.as_ref().map_err(|code| *code)?;
    let partition = topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic.is_internal() {
        return Err(ErrorCode::InvalidTopicException);
    }
    // There cannot be more in sync than there are (Kafka's `effectiveMinIsr`).
    let enough = || min_insync(topic).min(partition.replicas.len());
    if acks == Acks::All && partition.isr.len() < enough() {
        return Err(ErrorCode::NotEnoughReplicas);
    }
    Ok(topic)
}

fn refusal(index: PartitionIndex, error: ErrorCode, message: String) -> ProducePartitionResponse {
    ProducePartitionResponse {
        index,
        error,
        base_offset: Offset(-1),
        log_append_time_ms: -1,
        log_start_offset: Offset(-1),
        record_errors: Vec::new(),
        error_message: Some(message),
        current_leader: None,
    }
}

/// The answer about a partition that could take the batch if the disk had room.
fn no_room<I: Io>(core: &Core<I>, index: PartitionIndex) -> ProducePartitionResponse {
    probe::hit(Probe::ProduceWithoutRoom);
    core.tally.produces_without_room.add(1);
    let message = core.shared.room.refusal(&core.shared.data, core.marks());
    refusal(index, ErrorCode::KafkaStorageError, message)
}

fn rejected(index: PartitionIndex, error: &BatchError) -> ProducePartitionResponse {
    probe::hit(Probe::BatchRefused);
    let code = error.code();
    let mut response = refusal(index, code, error.to_string());
    response.record_errors = error.record_errors();
    response
}

/// Waits for all partitions, and for those that are still open when `late` completes no longer: what
/// became of the others is known, and is told.
async fn gather(
    topics: Vec<TopicOutcome>,
    late: impl Future<Output = ()>,
) -> Vec<ProduceTopicResponse> {
    let mut late = pin!(late);
    let mut is_late = false;
    let mut gathered = Vec::with_capacity(topics.len());
    for TopicOutcome { name, topic_id, partitions } in topics {
        let mut settled = Vec::with_capacity(partitions.len());
        for outcome in partitions {
            settled.push(match outcome {
                Outcome::Done(response) => response,
                Outcome::Asked { index, leader, mut answer } => {
                    let outcome = if is_late {
                        answer.try_answer()
                    } else {
                        tokio::select! {
                            biased; // Answers that are there count, however late it is.
                            outcome = &mut answer => Some(outcome),
                            () = &mut late => {
                                probe::hit(Probe::ProduceLate);
                                is_late = true;
                                None
                            }
                        }
                    };
                    match outcome {
                        Some(Ok(mut outcomes)) => {
                            let outcome = outcomes.pop().expect("one for the batch");
                            answered(index, leader, outcome)
                        }
                        Some(Err(_)) => Unsettled::Closed.response(index),
                        None => Unsettled::Late.response(index),
                    }
                }
            });
        }
        gathered.push(ProduceTopicResponse { name, topic_id, partitions: settled });
    }
    gathered
}

/// The answer about a partition that has decided.
pub fn answered(
    index: PartitionIndex,
    leader: Option<(NodeId, LeaderEpoch)>,
    outcome: Result<Accepted, Rejection>,
) -> ProducePartitionResponse {
    match outcome {
        Ok(Accepted { base, append_time_ms, start }) => ProducePartitionResponse {
            index,
            error: ErrorCode::None,
            base_offset: base,
            log_append_time_ms: append_time_ms,
            log_start_offset: start,
            ..ProducePartitionResponse::default()
        },
        Err(Rejection { code, message }) => {
            // KIP-951. Without `node_endpoints`: the only leader that there is sends this answer.
            let current_leader = leader.filter(|_| code == ErrorCode::NotLeaderOrFollower);
            ProducePartitionResponse { current_leader, ..refusal(index, code, message) }
        }
    }
}

impl Unsettled {
    /// The answer about such a partition.
    pub fn response(self, index: PartitionIndex) -> ProducePartitionResponse {
        let (code, message) = match self {
            Unsettled::Closed => {
                probe::hit(Probe::ProduceDropped);
                (ErrorCode::NotLeaderOrFollower, "the partition closed")
            }
            Unsettled::Late => (
                ErrorCode::RequestTimedOut,
                "not flushed within the request's timeout; whether it will be is unknown",
            ),
        };
        refusal(index, code, message.to_owned())
    }
}

/// With acks=0 nothing is sent; a failure that is known at once closes the connection, which is
/// all that such a client can notice.
fn unanswered<F>(topics: Vec<TopicOutcome>, incoming: Incoming) -> Pending<F> {
    let close = move |topic: &str, partition: &ProducePartitionResponse| {
        let ProducePartitionResponse { index, error, error_message, .. } = partition;
        let reason = error_message.as_deref().unwrap_or("");
        let reason = format!(
            "closing, for acks=0 leaves no other way to tell: {topic} partition {index}: {reason}"
        );
        incoming.warn(&reason, remedy::of(*error));
        Reply::Close
    };
    for topic in &topics {
        let done = topic.partitions.iter().find_map(|one| match one {
            Outcome::Done(response) => Some(response),
            Outcome::Asked { .. } => None,
        });
        if let Some(response) = done {
            return Pending::Now(close(&topic.name, response));
        }
    }
    Pending::later(async move {
        for topic in gather(topics, std::future::pending()).await {
            if let Some(failed) = topic.partitions.iter().find(|one| one.error != ErrorCode::None) {
                probe::hit(Probe::UnansweredFailed);
                return close(&topic.name, failed);
            }
        }
        Reply::Silence
    })
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::broker::answer::{Sender, Slots};

    fn asked(slots: &Slots<Outcomes>, index: i32) -> (Sender<Outcomes>, Outcome) {
        let (sender, answer) = slots.take();
        (sender, Outcome::Asked { index: PartitionIndex(index), leader: None, answer })
    }

    fn accept(sender: Sender<Outcomes>, base: i64) {
        let accepted = Accepted { base: Offset(base), append_time_ms: -1, start: Offset(0) };
        sender.send(smallvec![Ok(accepted)]);
    }

    /// Kafka keeps what it knows (`DelayedProduce`). A client that is told of a flushed batch that it
    /// timed out sends it again, and without idempotence it is stored twice.
    #[test]
    fn only_what_is_open_is_late() {
        let slots = Slots::default();
        let refused = refusal(PartitionIndex(0), ErrorCode::MessageTooLarge, String::new());
        let (_open, first) = asked(&slots, 1);
        let (flushed, second) = asked(&slots, 2);
        let (closed, third) = asked(&slots, 3);
        let (full, fourth) = asked(&slots, 0);
        let (_open_too, fifth) = asked(&slots, 1);
        accept(flushed, 7);
        drop(closed);
        let code = ErrorCode::OutOfOrderSequenceNumber;
        full.send(smallvec![Err(Rejection { code, message: String::new() })]);
        let topic =
            |partitions| TopicOutcome { name: "t".to_owned(), topic_id: TopicId::NONE, partitions };
        let topics = vec![
            topic(vec![Outcome::Done(refused), first, second, third]),
            topic(vec![fourth, fifth]),
        ];
        let told = gather(topics, std::future::ready(())).now_or_never().expect("it is late");
        let told: Vec<_> = told.iter().flat_map(|topic| &topic.partitions).collect();
        let outcomes: Vec<_> = told.iter().map(|one| (one.index.0, one.error)).collect();
        let expected = [
            (0, ErrorCode::MessageTooLarge),
            (1, ErrorCode::RequestTimedOut),
            (2, ErrorCode::None),
            (3, ErrorCode::NotLeaderOrFollower),
            (0, code),
            (1, ErrorCode::RequestTimedOut),
        ];
        assert_eq!(outcomes, expected);
        assert_eq!(told[2].base_offset, Offset(7));
    }

    #[test]
    fn what_comes_in_time_is_waited_for() {
        let slots = Slots::default();
        let (sender, outcome) = asked(&slots, 4);
        let name = "t".to_owned();
        let topic = TopicOutcome { name, topic_id: TopicId::NONE, partitions: vec![outcome] };
        let mut gathered = pin!(gather(vec![topic], std::future::pending()));
        assert!(gathered.as_mut().now_or_never().is_none());
        accept(sender, 3);
        let told = gathered.now_or_never().expect("it has come");
        assert_eq!(told[0].partitions[0].base_offset, Offset(3));
    }
}
