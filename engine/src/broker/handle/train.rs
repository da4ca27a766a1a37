//! Produces that follow each other on one connection, coupled: what one receive brought for one
//! partition is handed to it in one message, appended with one write, and answered together.
//!
//! A [`Train`] takes requests of one batch each that agree in version, acknowledgement, topic and
//! partition, once their batch has been verified. Whatever is anything else, a batch that is
//! refused included, is not taken: the train departs first, and the request is handled by itself
//! ([`super::produce`]), where the reasons are. So order is kept, and nothing here refuses.
//!
//! Lives on the connection's core; between its receive and its departure nothing is awaited.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use super::produce::{self, Acks, Unsettled};
use super::{find_topic, leader};
use crate::broker::answer;
use crate::broker::ask::{Ask, Outcomes, Produce};
use crate::broker::auth::Operation;
use crate::broker::dispatch::{Client, Incoming};
use crate::broker::{Core, settings, shard};
use crate::id::{CorrelationId, LeaderEpoch, NodeId, PartitionIndex, TopicId};
use crate::io::{Buf, Io};
use crate::limit::TRAIN_REQUESTS_MAX;
use crate::machine::Topic;
use crate::wire::batch::{self, Rules};
use crate::wire::code::ErrorCode;
use crate::wire::produce::{ProduceOne, ProducePartitionResponse, ProduceResponse};
use crate::wire::{self, frame};

/// Requests on their way to one partition.
pub struct Train {
    route: Route,
    rules: Rules,
    batches: SmallVec<[Buf; 1]>,
    requests: SmallVec<[CorrelationId; 1]>,
}

/// Requests that have reached their partition, and wait for its answer.
pub struct Departed {
    route: Route,
    requests: SmallVec<[CorrelationId; 1]>,
    answer: answer::Receiver<Outcomes>,
    outcomes: Option<Result<Outcomes, Unsettled>>,
}

/// What all requests of a train have in common.
struct Route {
    client: Rc<Client>,
    version: i16,
    acks: Acks,
    timeout_ms: i32,
    by_id: bool,
    topic: Arc<Topic>,
    index: PartitionIndex,
    leader: Option<(NodeId, LeaderEpoch)>,
}

/// Couples a request of `version` to `train`, or begins one with it. `frame` is the request's frame,
/// its body begins at `body`. Gives the frame back if it has to be handled by itself.
pub fn couple<I: Io>(
    core: &Rc<Core<I>>,
    client: &Rc<Client>,
    train: &mut Option<Train>,
    (version, request): (i16, CorrelationId),
    (frame, body): (Buf, usize),
) -> Result<(), Buf> {
    let Some(one) = ProduceOne::decode(&frame[body..], version) else { return Err(frame) };
    let records = body + one.records.start..body + one.records.end;
    match train {
        Some(train) if train.takes(core, version, &one) => train.admit(request, frame, records),
        Some(_) => Err(frame),
        none => {
            let Some(mut first) = Train::begin(core, client, version, &one) else {
                return Err(frame);
            };
            first.admit(request, frame, records)?;
            *none = Some(first);
            Ok(())
        }
    }
}

impl Train {
    fn begin<I: Io>(
        core: &Rc<Core<I>>,
        client: &Rc<Client>,
        version: i16,
        one: &ProduceOne<'_>,
    ) -> Option<Train> {
        // With acks=0 there is no answer to share, and failures close the connection.
        let acks = Acks::from_wire(one.acks).ok().filter(|acks| *acks != Acks::None)?;
        let image = core.shared.image();
        core.configure(&image);
        let found = find_topic(&image, client, Operation::Write, one.name, one.topic_id);
        let min_insync = |topic: &_| core.topic_config(topic).min_insync_replicas;
        let topic = produce::admit(&found, one.index, acks, min_insync).ok()?;
        if core.shared.room.is_none() {
            return None;
        }
        let config = core.topic_config(topic);
        if settings::codec(&config).is_some() {
            // Its batches may have to be compressed anew, each by itself.
            return None;
        }
        Some(Train {
            rules: settings::rules(&config, version, core.io.wall()),
            route: Route {
                client: client.clone(),
                version,
                acks,
                timeout_ms: one.timeout_ms,
                by_id: one.topic_id != TopicId::NONE,
                leader: leader(topic, one.index),
                topic: topic.clone(),
                index: one.index,
            },
            batches: SmallVec::new(),
            requests: SmallVec::new(),
        })
    }

    /// Whether the request belongs to this train and there is room.
    fn takes<I: Io>(&self, core: &Core<I>, version: i16, one: &ProduceOne<'_>) -> bool {
        let route = &self.route;
        let room = TRAIN_REQUESTS_MAX.min(core.shared.config.requests_in_flight_max);
        let same_topic = if route.by_id {
            one.topic_id == route.topic.id
        } else {
            one.topic_id == TopicId::NONE && *one.name == *route.topic.name
        };
        same_topic
            && one.index == route.index
            && version == route.version
            && Acks::from_wire(one.acks) == Ok(route.acks)
            && one.timeout_ms == route.timeout_ms
            && self.requests.len() < room
    }

    /// Takes the request's batch if it may be appended.
    fn admit(
        &mut self,
        request: CorrelationId,
        mut frame: Buf,
        records: Range<usize>,
    ) -> Result<(), Buf> {
        let Ok(verified) = batch::verify(&frame[records.clone()], &self.rules) else {
            return Err(frame);
        };
        frame.truncate(records.end);
        frame.advance(records.start);
        produce::correct_max_timestamp(&mut frame, verified);
        self.batches.push(frame);
        self.requests.push(request);
        Ok(())
    }

    /// How many requests it carries.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// How large their batches are together.
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.len()).sum()
    }

    /// Hands everything to the partition, or gives back what has to wait for that.
    pub fn depart<I: Io>(self, core: &Rc<Core<I>>) -> (Departed, Option<Unsent<I::File>>) {
        let Train { route, batches, requests, .. } = self;
        assert_eq!(batches.len(), requests.len(), "ORDER-1: one batch for each request");
        let (answer, outcomes) = core.outcomes.take();
        let to = (route.topic.id, route.index);
        let sent = shard::ask_now(core, to, Ask::Produce(Produce { batches, answer }));
        let unsent = sent.err().map(|ask| Unsent { to, ask });
        (Departed { route, requests, answer: outcomes, outcomes: None }, unsent)
    }
}

/// What could not be handed to its partition at once. Nothing else of its connection may be before
/// it was sent.
pub struct Unsent<F> {
    to: shard::Key,
    ask: Ask<F>,
}

impl<F> Unsent<F> {
    /// Hands it to the partition when there is room.
    pub async fn send<I: Io<File = F>>(self, core: &Rc<Core<I>>) {
        shard::ask_later(core, self.to, self.ask).await;
    }
}

impl Departed {
    /// Whether the partition has answered, so that [`Departed::arrive`] need not wait.
    pub fn has_arrived(&mut self) -> bool {
        let answer = self.answer.try_answer();
        self.outcomes = answer.map(|outcomes| outcomes.map_err(|_| Unsettled::Closed));
        self.outcomes.is_some()
    }

    /// Waits for the partition's answer, or until it is too late; appends all answers to `out`.
    pub async fn arrive<I: Io>(&mut self, io: &I, out: &mut Vec<u8>) {
        let outcomes = match self.outcomes.take() {
            Some(outcomes) => outcomes,
            None => self.settle(io).await,
        };
        let Route { client, version, by_id, topic, index, leader, .. } = &self.route;
        let (name, id) = if *by_id { ("", topic.id) } else { (&*topic.name, TopicId::NONE) };
        let mut put = |request, response: ProducePartitionResponse| {
            if response.error != ErrorCode::None {
                let incoming = Incoming::produce(client.clone(), *version, request);
                produce::refused(&incoming, &topic.name, &response);
            }
            let start = frame::begin_frame(out);
            frame::put_response_header(out, wire::produce::KEY, *version, request);
            ProduceResponse::encode_one(out, *version, name, id, &response);
            frame::end_frame(out, start, 0);
        };
        match outcomes {
            Ok(outcomes) => {
                assert_eq!(outcomes.len(), self.requests.len(), "one outcome for each request");
                for (&request, outcome) in self.requests.iter().zip(outcomes) {
                    put(request, produce::answered(*index, *leader, outcome));
                }
            }
            Err(unsettled) => {
                for &request in &self.requests {
                    put(request, unsettled.response(*index));
                }
            }
        }
    }

    async fn settle<I: Io>(&mut self, io: &I) -> Result<Outcomes, Unsettled> {
        let Departed { route, answer, .. } = self;
        let closed = |_| Unsettled::Closed;
        // Only acks=all has a time limit in Kafka: acks=1 waits for the local append alone.
        if route.acks != Acks::All {
            return answer.await.map_err(closed);
        }
        tokio::select! {
            biased; // Answers that are there count, however late it is.
            outcomes = answer => outcomes.map_err(closed),
            () = io.sleep(produce::patience(route.timeout_ms)) => Err(Unsettled::Late),
        }
    }
}
