//! The task of one partition that is written to: it owns the partition's batches.
//!
//! Batches are kept in the order in which they were filled. Up to `in_flight` of them are under way
//! on the leader's link, in that order. When one fails in a way that can be repaired, nothing more
//! is sent until all that are under way have come back; then they are sent again from the first,
//! with the sequence numbers that they had. So the broker sees each producer's batches in order, and
//! recognises those that it has. The first batch of an identity goes alone.
//!
//! A batch whose outcome is not known is never sent under another identity: it could be stored
//! twice. If the broker no longer goes on from our sequence (a batch before was given up, or it
//! forgot us), batches in doubt are reported as unknown, and the rest goes out from sequence 0 in
//! the producer's next epoch ([`super::identity`]), which keeps out what is still on its way.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use tokio::sync::{mpsc, oneshot};

use super::flight::{Flight, OwnedRecord, sequence_after};
use super::identity::Identity;
use super::{Acks, Failure, Shared};
use crate::client::fault::CallError;
use crate::client::link::{Link, Reply};
use crate::client::wait::{until, within};
use crate::id::{PartitionIndex, TopicId};
use crate::io::{Instant, Io};
use crate::limit::CLIENT_BATCHES_MAX;
use crate::wire::api::ApiKey;
use crate::wire::code::ErrorCode;
use crate::wire::produce::{
    self, ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic,
};

/// The highest version in which topics have names.
const NAMED_VERSION_MAX: i16 = 12;

/// What a lane is told.
pub enum Command {
    /// Write this.
    Record(OwnedRecord),
    /// Look again: somebody has begun to wait for memory.
    Hurry,
    /// Do not linger, and say when everything handed over so far has an outcome.
    Flush(oneshot::Sender<()>),
}

/// See the head of this file.
pub struct Lane<I: Io> {
    shared: Rc<Shared<I>>,
    topic: String,
    index: PartitionIndex,
    commands: mpsc::Receiver<Command>,
    /// No more commands will come.
    ended: bool,
    filling: Option<Flight<I>>,
    window: VecDeque<Flight<I>>,
    identity: Option<Identity>,
    /// The broker has taken a batch of this identity, and holds the next ones to their sequence. Of one
    /// that it does not know it takes any (KIP-360): the second if the first is refused.
    is_known: bool,
    next_sequence: i32,
    /// After a failure: when to go on, once nothing is under way.
    stalled: Option<Instant>,
    failures: u32,
    /// What the broker last had against our batches that might have passed, since it last took one.
    refusal: Option<Failure>,
    /// The metadata have led us wrong.
    astray: bool,
    /// The broker does not go on from our sequence, or knows our id from somebody else.
    lost: Option<Lost>,
    /// Somebody waits for everything up to now.
    flushes: Vec<oneshot::Sender<()>>,
}

/// What is no longer of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lost {
    /// The epoch.
    Track,
    /// The producer id.
    Id,
}

enum Event {
    Answer(usize, Result<Reply, CallError>),
    Command(Option<Command>),
    Tick,
}

impl<I: Io> Lane<I> {
    pub fn new(
        shared: Rc<Shared<I>>,
        topic: String,
        index: PartitionIndex,
        commands: mpsc::Receiver<Command>,
    ) -> Lane<I> {
        Lane {
            shared,
            topic,
            index,
            commands,
            ended: false,
            filling: None,
            window: VecDeque::new(),
            identity: None,
            is_known: false,
            next_sequence: 0,
            stalled: None,
            failures: 0,
            refusal: None,
            astray: false,
            lost: None,
            flushes: Vec::new(),
        }
    }

    pub async fn run(mut self) {
        loop {
            self.expire();
            self.close_if_due();
            self.send_what_may().await;
            if self.window.is_empty() && self.filling.is_none() {
                for done in self.flushes.drain(..) {
                    let _ = done.send(());
                }
                if self.ended {
                    return;
                }
            }
            match self.next_event().await {
                Event::Answer(at, result) => self.answered(at, result),
                Event::Command(command) => {
                    self.obey(command);
                    self.obey_the_rest();
                }
                Event::Tick => {}
            }
        }
    }

    fn now(&self) -> Instant {
        self.shared.cluster.io.now()
    }

    fn obey(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Record(record)) => self.fill(record),
            Some(Command::Hurry) => {}
            Some(Command::Flush(done)) => self.flushes.push(done),
            None => self.ended = true,
        }
    }

    /// Takes what else is queued, so that records that came together travel together.
    fn obey_the_rest(&mut self) {
        while self.window.len() < CLIENT_BATCHES_MAX
            && let Ok(command) = self.commands.try_recv()
        {
            self.obey(Some(command));
        }
    }

    fn fill(&mut self, record: OwnedRecord) {
        let options = &self.shared.options;
        let batch_bytes = options.batch_bytes;
        if self.filling.as_ref().is_some_and(|filling| !filling.fits(&record, batch_bytes)) {
            self.window.extend(self.filling.take());
        }
        let opened = self.shared.cluster.io.now();
        let compression = options.compression;
        self.filling.get_or_insert_with(|| Flight::new(compression, opened)).push(record);
    }

    fn under_way(&self) -> usize {
        self.window.iter().filter(|flight| flight.answer.is_some()).count()
    }

    /// The first batch that is not under way; behind it none is, unless something failed.
    fn next_to_send(&self) -> Option<usize> {
        self.window.iter().position(|flight| flight.answer.is_none())
    }

    /// Moves the batch that is being filled to the window, if it need not wait for more records.
    fn close_if_due(&mut self) {
        let Some(filling) = &self.filling else { return };
        let options = &self.shared.options;
        let lingered = self.now() >= filling.opened.after(options.linger);
        // What waits for more records while those wait for its memory would wait in vain.
        let complete = filling.is_full(options.batch_bytes) || self.shared.hungry.get() > 0;
        let is_free = self.next_to_send().is_none() && self.window.len() < options.in_flight;
        if !self.flushes.is_empty() || self.ended || ((lingered || complete) && is_free) {
            self.window.extend(self.filling.take());
        }
    }

    /// Gives up on what is too old.
    fn expire(&mut self) {
        let now = self.now();
        let timeout = self.shared.options.delivery_timeout;
        let is_late = |flight: &Flight<I>| now >= flight.opened.after(timeout);
        if self.filling.as_ref().is_some_and(is_late) {
            self.window.extend(self.filling.take());
        }
        while self.window.front().is_some_and(is_late) {
            let mut flight = self.window.pop_front().expect("looked at");
            // Its answer may still come, to nobody.
            flight.maybe_stored |= flight.answer.take().is_some();
            self.take_back(&flight);
            flight.failed(self.refusal.as_ref().unwrap_or(&Failure::TimedOut));
        }
    }

    /// If the broker certainly did not take a batch and none was sent behind it, its sequence
    /// numbers are free again. Otherwise the broker will tell that there is a gap.
    fn take_back(&mut self, flight: &Flight<I>) {
        let Some((identity, sequence)) = flight.stamp else { return };
        let is_current = self.identity == Some(identity);
        let is_last = sequence_after(sequence, flight.count()) == self.next_sequence;
        if is_current && is_last && !flight.maybe_stored {
            self.next_sequence = sequence;
        }
    }

    async fn send_what_may(&mut self) {
        loop {
            let under_way = self.under_way();
            if let Some(moment) = self.stalled {
                if under_way > 0 || self.now() < moment {
                    return;
                }
                self.stalled = None;
                self.recover();
            }
            let Some(at) = self.next_to_send() else { return };
            let options = &self.shared.options;
            let alone = options.idempotent && !self.is_known;
            if under_way >= if alone { 1 } else { options.in_flight } {
                return;
            }
            let deadline = self.window[at].opened.after(self.shared.options.delivery_timeout);
            let cluster = self.shared.cluster.clone();
            let limit = until(&cluster.io, deadline);
            match within(&cluster.io, limit, self.send(at, under_way == 0)).await {
                Some(Ok(true)) => {}
                Some(Ok(false)) => return,
                Some(Err(failure)) => self.stall(&failure),
                None => return,
            }
        }
    }

    /// Once nothing is under way: starts over in a new epoch if the broker lost our track.
    fn recover(&mut self) {
        let Some(lost) = self.lost.take() else { return };
        if let Some(identity) = self.identity.take() {
            match lost {
                Lost::Track => self.shared.identities.raise(identity),
                Lost::Id => self.shared.identities.give_up(identity),
            }
        }
        for mut flight in std::mem::take(&mut self.window) {
            if flight.maybe_stored {
                let code = ErrorCode::OutOfOrderSequenceNumber;
                flight.failed(&Failure::Refused { code, message: None });
            } else {
                flight.stamp = None;
                self.window.push_back(flight);
            }
        }
    }

    fn stall(&mut self, failure: &Failure) {
        tracing::debug!(topic = self.topic, partition = self.index.0, %failure, "produce again");
        let options = &self.shared.cluster.options;
        let (first, most) = (options.backoff_first, options.backoff_max);
        let pause =
            crate::client::wait::backoff(&self.shared.cluster.io, first, most, self.failures);
        self.failures = self.failures.saturating_add(1);
        self.stalled = Some(self.now().after(pause));
        self.astray = true;
    }

    /// Sends one batch; false if that has to wait for the answers that are under way.
    async fn send(&mut self, at: usize, is_idle: bool) -> Result<bool, Failure> {
        let Some((link, topic_id)) = self.leader(is_idle).await? else { return Ok(false) };
        let shared = self.shared.clone();
        if shared.options.idempotent && !self.identify(is_idle).await? {
            return Ok(false);
        }
        let version = link.version(ApiKey::Produce, produce::VERSION_MIN..=produce::VERSION_MAX)?;
        let version =
            if topic_id == TopicId::NONE { version.min(NAMED_VERSION_MAX) } else { version };
        let place = link.reserve().await?;

        let flight = &mut self.window[at];
        let stamp = match (flight.stamp, self.identity) {
            (None, Some(identity)) => {
                let sequence = self.next_sequence;
                self.next_sequence = sequence_after(sequence, flight.count());
                Some((identity, sequence))
            }
            (stamp, _) => stamp,
        };
        flight.prepare(stamp);
        let records = Some(flight.bytes());
        let partitions = vec![ProducePartition { index: self.index, records }];
        let request = ProduceRequest {
            transactional_id: None,
            acks: shared.options.acks.number(),
            timeout_ms: i32::try_from(shared.cluster.options.request_timeout.as_millis())
                .unwrap_or(i32::MAX),
            topics: vec![ProduceTopic { name: &self.topic, topic_id, partitions }],
        };
        let encode = |out: &mut Vec<u8>| request.encode(out, version);
        if shared.options.acks == Acks::None {
            link.send_unanswered(place, ApiKey::Produce, version, encode).await?;
            let flight = self.window.remove(at).expect("it was there");
            flight.stored(self.index, None);
        } else {
            let answer = link.send(place, ApiKey::Produce, version, encode)?;
            self.window[at].answer = Some((answer, shared.cluster.io.now()));
        }
        Ok(true)
    }

    /// Takes on the producer's identity of now, unless a batch bears another; false if a broker
    /// must be asked for it and batches are under way.
    async fn identify(&mut self, is_idle: bool) -> Result<bool, Failure> {
        let identities = &self.shared.identities;
        let is_bound = self.window.iter().any(|flight| flight.stamp.is_some());
        let is_current = self.identity.is_some() && self.identity == identities.current();
        if is_current || (is_bound && self.identity.is_some()) {
            return Ok(true);
        }
        if !is_idle && identities.current().is_none() {
            return Ok(false);
        }
        let shared = self.shared.clone();
        self.identity = Some(shared.identity().await?);
        self.is_known = false;
        self.next_sequence = 0;
        Ok(true)
    }

    /// The link to the partition's leader. `None` if one would have to be made, or metadata asked
    /// for, and batches are under way: they come first.
    async fn leader(&mut self, is_idle: bool) -> Result<Option<(Link<I>, TopicId)>, Failure> {
        let cluster = self.shared.cluster.clone();
        let known = cluster.partition(&self.topic, self.index).filter(|_| !self.astray);
        if let Some((id, partition)) = known
            && let Some(link) = partition.leader.and_then(|leader| cluster.live_link(leader))
        {
            return Ok(Some((link, id)));
        }
        if !is_idle {
            return Ok(None);
        }
        if known.is_none_or(|(_, partition)| partition.leader.is_none()) {
            cluster.refresh().await?;
            self.astray = false;
        }
        let (id, partition) = cluster
            .partition(&self.topic, self.index)
            .ok_or(CallError::Refused(ErrorCode::UnknownTopicOrPartition))?;
        let leader = partition.leader;
        let leader = leader.ok_or(CallError::Refused(ErrorCode::LeaderNotAvailable))?;
        Ok(Some((cluster.link(leader).await?, id)))
    }

    fn answered(&mut self, at: usize, result: Result<Reply, CallError>) {
        self.window[at].answer = None;
        let parsed = result.and_then(|reply| {
            let response = ProduceResponse::decode(reply.body(), reply.version)?;
            let partition = self.partition_of(&response).cloned();
            let observer = self.shared.cluster.options.observer.as_ref();
            if let Some((observer, partition)) = observer.zip(partition.as_ref()) {
                observer.see_code(ApiKey::Produce, reply.version, partition.error);
            }
            partition
                .map(|p| (response, p))
                .ok_or(CallError::Refused(ErrorCode::UnknownServerError))
        });
        match parsed {
            Ok((response, partition)) => {
                let leader = partition.current_leader;
                let cluster = &self.shared.cluster;
                let hinted =
                    cluster.hint(&self.topic, self.index, leader, &response.node_endpoints);
                self.judged(at, &partition);
                if hinted {
                    self.astray = false;
                }
            }
            Err(error) => {
                self.window[at].maybe_stored = true;
                if error.retriable() {
                    self.stall(&Failure::Call(error));
                } else {
                    let flight = self.window.remove(at).expect("it was there");
                    flight.failed(&Failure::Call(error));
                }
            }
        }
    }

    fn partition_of<'r>(
        &self,
        response: &'r ProduceResponse,
    ) -> Option<&'r ProducePartitionResponse> {
        response.topics.first()?.partitions.iter().find(|partition| partition.index == self.index)
    }

    /// What the broker's code means for a batch.
    fn judged(&mut self, at: usize, answer: &ProducePartitionResponse) {
        let code = answer.error;
        match code {
            ErrorCode::None | ErrorCode::DuplicateSequenceNumber => {
                self.failures = 0;
                self.refusal = None;
                self.is_known = true;
                let flight = self.window.remove(at).expect("it was there");
                flight.stored(self.index, Some(answer));
            }
            ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch
                if self.shared.options.idempotent =>
            {
                // Behind a batch that failed it is the consequence; at the front it is the cause.
                if at == 0 {
                    let is_fenced = code == ErrorCode::InvalidProducerEpoch;
                    let lost = if is_fenced { Lost::Id } else { Lost::Track };
                    self.lost = self.lost.max(Some(lost));
                }
                self.stall(&Failure::Refused { code, message: answer.error_message.clone() });
            }
            code if code.retriable() => {
                self.window[at].maybe_stored |= leaves_doubt(code);
                let refusal = Failure::Refused { code, message: answer.error_message.clone() };
                self.stall(&refusal);
                self.refusal = Some(refusal);
            }
            code => {
                let mut flight = self.window.remove(at).expect("it was there");
                flight.maybe_stored |= leaves_doubt(code);
                self.take_back(&flight);
                flight.refused(code, answer);
            }
        }
    }

    /// Waits for an answer, a command, or the time when something is due. Answers first: they free
    /// memory and make room.
    async fn next_event(&mut self) -> Event {
        let io = self.shared.cluster.io.clone();
        let wake = self.wake();
        let limit = wake.map(|moment| until(&io, moment));
        let mut sleep = pin!(async {
            match limit {
                Some(limit) => io.sleep(limit).await,
                None => std::future::pending().await,
            }
        });
        let may_fill = !self.ended && self.window.len() < CLIENT_BATCHES_MAX;
        let (window, commands) = (&mut self.window, &mut self.commands);
        let event = poll_fn(|cx| {
            // Answers come in order on one link, so only the first can be ready, or all are dead.
            let first = window.iter().position(|flight| flight.answer.is_some());
            if let Some(at) = first
                && let Some((answer, _)) = &mut window[at].answer
                && let Poll::Ready(result) = Pin::new(answer).poll(cx)
            {
                return Poll::Ready(Event::Answer(at, result));
            }
            if may_fill && let Poll::Ready(command) = commands.poll_recv(cx) {
                return Poll::Ready(Event::Command(command));
            }
            sleep.as_mut().poll(cx).map(|()| Event::Tick)
        });
        let event = event.await;
        if matches!(event, Event::Tick) {
            return self.overdue().unwrap_or(event);
        }
        event
    }

    /// The answer that has not come within the request timeout, as an error.
    fn overdue(&mut self) -> Option<Event> {
        let timeout = self.shared.cluster.options.request_timeout;
        let now = self.now();
        let is_late = |flight: &Flight<I>| {
            flight.answer.as_ref().is_some_and(|(_, since)| now >= since.after(timeout))
        };
        let at = self.window.iter().position(is_late)?;
        if let Some((answer, _)) = self.window[at].answer.take() {
            answer.abandon();
        }
        Some(Event::Answer(at, Err(CallError::TimedOut)))
    }

    /// When something is due next, if nothing happens before.
    fn wake(&self) -> Option<Instant> {
        let options = &self.shared.options;
        let cluster = &self.shared.cluster.options;
        let linger = self.filling.as_ref().map(|filling| filling.opened.after(options.linger));
        let is_free = self.next_to_send().is_none() && self.window.len() < options.in_flight;
        let oldest = self.window.front().or(self.filling.as_ref());
        let expiry = oldest.map(|flight| flight.opened.after(options.delivery_timeout));
        let answers = self.window.iter().filter_map(|flight| flight.answer.as_ref());
        let answer = answers.map(|(_, since)| since.after(cluster.request_timeout)).min();
        let stall = self.stalled.filter(|_| self.under_way() == 0);
        [linger.filter(|_| is_free), expiry, answer, stall].into_iter().flatten().min()
    }
}

/// Whether a broker may answer with this code after it has appended the batch.
fn leaves_doubt(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownServerError
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::RequestTimedOut
            | ErrorCode::NetworkException
            | ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::KafkaStorageError
    )
}
