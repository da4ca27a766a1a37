//! Reading as a member of a consumer group, in the classic protocol: eager with `range`,
//! cooperative with `cooperative-sticky`, with or without a name of its own (KIP-345).
//!
//! What changes is decided within [`GroupConsumer::poll`]; only joins ([`seat`]) and heartbeats
//! ([`pulse`]) go on beside it, so that a slow application stays a member. One that is not polled for
//! [`GroupOptions::poll_interval`] is not slow but stuck: it leaves. Poll says what changes, and a
//! member that is told [`Polled::Revoked`] still owns what it is about to lose until it polls again:
//! that is the time to commit.
//!
//! A partition is read from where the group has committed, else from [`GroupOptions::start`].
//! Offsets are committed by [`GroupConsumer::commit`] alone.

mod assign;
mod pulse;
mod seat;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use thiserror::Error;
use tokio::sync::oneshot;

use super::cluster::Cluster;
use super::consumer::{ConsumeError, ConsumedRecord, Consumer, ConsumerOptions, Start};
use super::fault::CallError;
use super::link::Link;
use super::wait::{until, within};
use crate::id::{Offset, PartitionIndex};
use crate::io::{Instant, Io};
use crate::wire::api::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use crate::wire::code::ErrorCode;
use crate::wire::subscription::Partitions;
use pulse::{Pulse, Sign};
use seat::{Joined, Past, Seat, Ties};

pub use assign::Strategy;
pub(super) use seat::{accepted, coordinator};

/// How a member takes part.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// The group.
    pub group: String,
    /// A name of its own: then it keeps its place while it is away for less than a session. Brokers
    /// before Kafka 2.3 do not know such members, and it cannot join there.
    pub instance: Option<String>,
    /// How partitions are shared out.
    pub strategy: Strategy,
    /// How long it may be silent.
    pub session_timeout: Duration,
    /// How long the group waits for it in a rebalance.
    pub rebalance_timeout: Duration,
    /// How often it says that it is alive; a third of the session or less.
    pub heartbeat: Duration,
    /// How long it may go without being polled, before it gives its partitions to others
    /// (`max.poll.interval.ms`).
    pub poll_interval: Duration,
    /// How often a leader looks whether topics have got more partitions (`metadata.max.age.ms`).
    pub metadata_max_age: Duration,
    /// Where to begin in a partition without a committed offset.
    pub start: Start,
    /// How it reads.
    pub consumer: ConsumerOptions,
}

impl GroupOptions {
    /// A member of `group` with Kafka's defaults, which begins at the oldest record.
    #[must_use]
    pub fn new(group: &str) -> GroupOptions {
        GroupOptions {
            group: group.to_owned(),
            instance: None,
            strategy: Strategy::default(),
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(60),
            heartbeat: Duration::from_secs(3),
            poll_interval: Duration::from_secs(300),
            metadata_max_age: Duration::from_secs(300),
            start: Start::Earliest,
            consumer: ConsumerOptions::default(),
        }
    }
}

/// A partition by its topic's name.
pub type Place = (String, PartitionIndex);

/// What a poll brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Records, each partition's in order; none if the time was up first.
    Records(Vec<ConsumedRecord>),
    /// These are taken away with the next poll; nothing more is read of them. Commit now.
    Revoked(Vec<Place>),
    /// These are read from now on, in this generation.
    Assigned(i32, Vec<Place>),
    /// These are lost already: the group has gone on without this member.
    Lost(Vec<Place>),
}

/// Why a member cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GroupError {
    /// The coordinator refused for good, or for now (a commit that a rebalance has overtaken).
    #[error("{}", .0.message())]
    Refused(ErrorCode),
    /// The coordinator could not be asked; see [`CallError::may_have_happened`].
    #[error(transparent)]
    Call(CallError),
    /// Reading failed.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// It is in no generation, so it cannot commit.
    #[error("not in the group at the moment")]
    NotMember,
}

impl From<CallError> for GroupError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(code) => GroupError::Refused(code),
            error => GroupError::Call(error),
        }
    }
}

/// How a join will have ended. Dropping it ends the join.
type Joining<I> = oneshot::Receiver<Result<Joined<I>, GroupError>>;
/// Where the group stands in partitions.
type Finding = Pin<Box<dyn Future<Output = Result<BTreeMap<Place, Offset>, CallError>>>>;

enum State<I: Io> {
    /// Not in any generation, with what was known of the last one.
    Out(Past),
    /// On the way into the next one.
    Joining(Past, Joining<I>),
    /// In a generation.
    In(Seat<I>),
}

/// A member of a group. See the module's head.
pub struct GroupConsumer<I: Io> {
    cluster: Rc<Cluster<I>>,
    options: Rc<GroupOptions>,
    topics: Vec<String>,
    consumer: Consumer<I>,
    state: State<I>,
    ties: Ties,
    /// What is being read.
    owned: Partitions,
    /// Where it stood in what was revoked, for as long as that can be committed.
    leaving: Vec<(Place, Offset)>,
    /// Shares of the present generation that are yet to be begun.
    beginning: Partitions,
    /// On the way: where to begin with them.
    finding: Option<Finding>,
    /// Something was revoked: the next poll joins again.
    moves_on: bool,
}

impl<I: Io> GroupConsumer<I> {
    pub(super) fn new(
        cluster: Rc<Cluster<I>>,
        options: GroupOptions,
        topics: &[&str],
    ) -> GroupConsumer<I> {
        let polled_at = Rc::new(Cell::new(cluster.io.now()));
        let ties = Ties { polled_at, member_id: Rc::default() };
        GroupConsumer {
            consumer: Consumer::new(cluster.clone(), options.consumer.clone()),
            cluster,
            options: Rc::new(options),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            state: State::Out(Past { generation: -1, ..Past::default() }),
            ties,
            owned: Partitions::new(),
            leaving: Vec::new(),
            beginning: Partitions::new(),
            finding: None,
            moves_on: false,
        }
    }

    /// The partitions that are being read.
    #[must_use]
    pub fn owned(&self) -> Vec<Place> {
        places(&self.owned)
    }

    /// The generation it is in, if it is in any, and its member id.
    #[must_use]
    pub fn generation(&self) -> Option<(i32, &str)> {
        match &self.state {
            State::In(seat) => Some((seat.generation, &seat.member_id)),
            _ => None,
        }
    }

    /// The offset of the next record of a partition that it reads.
    #[must_use]
    pub fn position(&self, topic: &str, partition: PartitionIndex) -> Option<Offset> {
        self.consumer.position(topic, partition)
    }

    /// Goes on in a partition that it reads from another place.
    pub fn seek(&mut self, topic: &str, partition: PartitionIndex, start: Start) {
        if self.owned.get(topic).is_some_and(|own| own.contains(&partition)) {
            self.consumer.seek(topic, partition, start);
        }
    }

    /// The next news, or no records once `timeout` has passed.
    ///
    /// # Errors
    /// [`GroupError`] for what will not pass by waiting.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Polled, GroupError> {
        let io = self.cluster.io.clone();
        let deadline = io.now().after(timeout);
        loop {
            // Whoever waits in here is polling, however long.
            self.note_poll();
            let pause = deadline.min(io.now().after(self.options.poll_interval / 3));
            let polled = within(&io, until(&io, pause), self.step(pause)).await;
            self.note_poll();
            match polled {
                Some(Ok(Some(news))) => return Ok(news),
                Some(Ok(None)) | None if io.now() < deadline => {}
                Some(Ok(None)) | None => return Ok(Polled::Records(Vec::new())),
                Some(Err(error)) => return Err(error),
            }
        }
    }

    fn note_poll(&self) {
        self.ties.polled_at.set(self.cluster.io.now());
    }

    /// One step; may be dropped anywhere.
    async fn step(&mut self, deadline: Instant) -> Result<Option<Polled>, GroupError> {
        match &mut self.state {
            State::Out(past) => {
                let past = past.clone();
                self.join(past, None);
                Ok(None)
            }
            State::Joining(past, joining) => {
                // What it keeps is read on meanwhile.
                let reading = self.consumer.poll(until(&self.cluster.io, deadline));
                let joined = match select(joining, pin!(reading)).await {
                    // It does not end without a word while somebody waits.
                    Either::Left((joined, _)) => joined.unwrap_or(Err(GroupError::NotMember)),
                    Either::Right((records, _)) => {
                        let records = records?;
                        return Ok((!records.is_empty()).then_some(Polled::Records(records)));
                    }
                };
                let past = std::mem::take(past);
                self.state = State::Out(Past { generation: -1, ..Past::default() });
                match joined {
                    Ok(Joined::In(seat)) => Ok(self.enter_if_kept(seat)),
                    Ok(Joined::Forgotten) => Ok(self.lose()),
                    Err(error) => {
                        // The group may have given it an id meanwhile, and wait for it.
                        let member_id = self.ties.member_id.borrow().clone();
                        self.state = State::Out(Past { member_id, ..past });
                        Err(error)
                    }
                }
            }
            State::In(_) if self.moves_on => Ok(self.move_on()),
            State::In(seat) => {
                let pulse = seat.pulse.clone();
                match pulse.sign() {
                    Sign::Fine => {}
                    Sign::Rebalance => return Ok(self.give_way()),
                    Sign::Forgotten | Sign::Overslept => return Ok(self.lose()),
                    Sign::Unheard => return Ok(self.lose_touch()),
                    Sign::Refused(error) => return Err(error),
                }
                if !self.beginning.is_empty() {
                    return self.begin().await;
                }
                let reading = self.consumer.poll(until(&self.cluster.io, deadline));
                match select(pin!(pulse.told()), pin!(reading)).await {
                    Either::Left(((), _)) => Ok(None),
                    Either::Right((records, _)) => {
                        let records = records?;
                        Ok((!records.is_empty()).then_some(Polled::Records(records)))
                    }
                }
            }
        }
    }

    /// Takes a seat, unless the group has given it to others while nobody polled.
    fn enter_if_kept(&mut self, seat: Seat<I>) -> Option<Polled> {
        match seat.pulse.sign() {
            Sign::Fine | Sign::Rebalance | Sign::Refused(_) => self.enter(seat),
            Sign::Forgotten | Sign::Overslept => self.lose(),
            Sign::Unheard => {
                self.state = State::In(seat);
                self.lose_touch()
            }
        }
    }

    /// Takes a seat: says what has to be given up, or goes on to what is new.
    fn enter(&mut self, seat: Seat<I>) -> Option<Polled> {
        let revoked = minus(&self.owned, &seat.share);
        self.beginning = minus(&seat.share, &self.owned);
        self.finding = None;
        self.state = State::In(seat);
        if revoked.is_empty() {
            if self.beginning.is_empty() {
                // An idle member, or one for which nothing has changed, hears of the generation.
                let generation = self.generation().expect("just taken").0;
                return Some(Polled::Assigned(generation, Vec::new()));
            }
            return None;
        }
        // Cooperative: it goes on with the rest, and joins again so that others get these.
        self.stop_reading(&revoked);
        self.moves_on = true;
        Some(Polled::Revoked(places(&revoked)))
    }

    fn stop_reading(&mut self, partitions: &Partitions) {
        for (topic, index) in places(partitions) {
            if let Some(offset) = self.consumer.position(&topic, index) {
                self.leaving.push(((topic.clone(), index), offset));
            }
            self.consumer.unassign(&topic, index);
        }
    }

    /// Begins to read new partitions, each where the group stands.
    async fn begin(&mut self) -> Result<Option<Polled>, GroupError> {
        let State::In(seat) = &self.state else { return Ok(None) };
        let (pulse, generation) = (seat.pulse.clone(), seat.generation);
        let finding = self.finding.get_or_insert_with(|| {
            let (options, wanted) = (self.options.clone(), self.beginning.clone());
            Box::pin(find(seat.pulse.clone(), options, wanted))
        });
        let found = match select(pin!(pulse.told()), finding.as_mut()).await {
            Either::Left(((), _)) => return Ok(None),
            Either::Right((found, _)) => found,
        };
        self.finding = None;
        let found = match found {
            Ok(found) => found,
            Err(error) if error.retriable() => {
                pulse.heed(&error);
                self.cluster.pause(0).await;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let wanted = places(&self.beginning);
        for (topic, index) in &wanted {
            let place = found.get(&(topic.clone(), *index));
            let start = place.map_or(self.options.start, |offset| Start::Offset(*offset));
            self.consumer.assign(topic, *index, start);
        }
        for (topic, indexes) in std::mem::take(&mut self.beginning) {
            self.owned.entry(topic).or_default().extend(indexes);
        }
        Ok(Some(Polled::Assigned(generation, wanted)))
    }

    /// The group makes a new generation.
    fn give_way(&mut self) -> Option<Polled> {
        if self.options.strategy.keeps() || self.owned.is_empty() {
            return self.rejoin();
        }
        let owned = std::mem::take(&mut self.owned);
        self.stop_reading(&owned);
        // The seat stays for one more poll, so that what was read can be committed.
        self.moves_on = true;
        Some(Polled::Revoked(places(&owned)))
    }

    /// What was revoked is gone now.
    fn move_on(&mut self) -> Option<Polled> {
        if let State::In(seat) = &self.state {
            self.owned = intersection(&self.owned, &seat.share);
        }
        self.rejoin()
    }

    fn rejoin(&mut self) -> Option<Polled> {
        let State::In(seat) = &self.state else { return None };
        let past = Past {
            member_id: seat.member_id.clone(),
            generation: seat.generation,
            owned: self.owned.clone(),
        };
        let link = seat.pulse.live_link();
        self.forget_share();
        self.join(past, link);
        None
    }

    /// Begins to join, in a task of its own: the group waits for its members, not for what they do
    /// with their records.
    fn join(&mut self, past: Past, link: Option<Link<I>>) {
        let (cluster, options) = (self.cluster.clone(), self.options.clone());
        self.ties.member_id.borrow_mut().clone_from(&past.member_id);
        let ties = self.ties.clone();
        let join = seat::join(cluster, options, self.topics.clone(), past.clone(), link, ties);
        let (mut sender, joining) = oneshot::channel();
        self.cluster.io.spawn(async move {
            let joined = tokio::select! {
                biased; // A seat that nobody wants is not taken.
                () = sender.closed() => return,
                joined = join => joined,
            };
            let _ = sender.send(joined);
        });
        self.state = State::Joining(past, joining);
    }

    /// The group may have gone on without it, or not: it gives everything up, and comes back under
    /// the id that it had.
    fn lose_touch(&mut self) -> Option<Polled> {
        let member_id = match &self.state {
            State::In(seat) => seat.member_id.clone(),
            _ => String::new(),
        };
        let lost = self.lose();
        self.state = State::Out(Past { member_id, generation: -1, ..Past::default() });
        lost
    }

    fn lose(&mut self) -> Option<Polled> {
        let owned = std::mem::take(&mut self.owned);
        self.stop_reading(&owned);
        self.forget_share();
        self.state = State::Out(Past { generation: -1, ..Past::default() });
        (!owned.is_empty()).then(|| Polled::Lost(places(&owned)))
    }

    fn forget_share(&mut self) {
        self.leaving.clear();
        self.beginning = Partitions::new();
        self.finding = None;
        self.moves_on = false;
    }

    /// Commits the positions of all partitions that it reads, or has just been told to give up,
    /// records returned by the last poll included; returns what was committed.
    ///
    /// # Errors
    /// [`GroupError`]; with `Call`, see [`CallError::may_have_happened`].
    pub async fn commit(&mut self) -> Result<Vec<(Place, Offset)>, GroupError> {
        let positions = self.positions();
        self.commit_at(&positions).await?;
        Ok(positions)
    }

    /// What [`GroupConsumer::commit`] would commit.
    #[must_use]
    pub fn positions(&self) -> Vec<(Place, Offset)> {
        let position = |place: Place| {
            let offset = self.consumer.position(&place.0, place.1)?;
            Some((place, offset))
        };
        let mut positions: Vec<_> = self.owned().into_iter().filter_map(position).collect();
        positions.extend(self.leaving.iter().cloned());
        positions
    }

    /// Commits these offsets, each that of the next record to read.
    ///
    /// # Errors
    /// As [`GroupConsumer::commit`].
    pub async fn commit_at(&mut self, offsets: &[(Place, Offset)]) -> Result<(), GroupError> {
        let (pulse, generation, member_id) = match &self.state {
            State::In(seat) => (&seat.pulse, seat.generation, seat.member_id.clone()),
            _ => return Err(GroupError::NotMember),
        };
        if offsets.is_empty() {
            return Ok(());
        }
        let request = OffsetCommitRequest {
            group_id: self.options.group.clone(),
            generation_id_or_member_epoch: generation,
            member_id,
            group_instance_id: self.options.instance.clone(),
            topics: commit_topics(offsets),
            ..OffsetCommitRequest::default()
        };
        let timeout = self.cluster.options.request_timeout;
        let link = pulse.link().await?;
        let response = link.call_at_most(&request, COMMIT_BY_NAME_MAX, timeout).await?;
        for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
            accepted(partition.error_code).inspect_err(|error| pulse.heed(error))?;
        }
        Ok(())
    }

    /// Leaves the group at once, so that others need not wait for its session to end. A static
    /// member stays: it may come back. Does not commit.
    ///
    /// # Errors
    /// [`CallError`] if the coordinator could not be told.
    pub async fn close(mut self) -> Result<(), CallError> {
        let out = State::Out(Past { generation: -1, ..Past::default() });
        // A join that goes on while the member leaves would come back as another one: it ends here.
        let (link, member_id) = match std::mem::replace(&mut self.state, out) {
            State::In(seat) => (seat.pulse.live_link(), seat.member_id),
            State::Joining(..) => (None, self.ties.member_id.borrow().clone()),
            State::Out(past) => (None, past.member_id),
        };
        if self.options.instance.is_some() || member_id.is_empty() {
            return Ok(());
        }
        // On a way of its own: a join that waits would hold this up.
        let link = match link {
            Some(link) => link,
            None => coordinator(&self.cluster, &self.options.group).await?,
        };
        pulse::leave(&link, &self.options.group, &member_id, "the consumer is closing").await
    }
}

/// Asks where the group stands in partitions.
async fn find<I: Io>(
    pulse: Rc<Pulse<I>>,
    options: Rc<GroupOptions>,
    wanted: Partitions,
) -> Result<BTreeMap<Place, Offset>, CallError> {
    committed(&pulse.link().await?, &options.group, &wanted).await
}

/// The last version of OffsetCommit and of OffsetFetch in which topics have names.
const COMMIT_BY_NAME_MAX: i16 = 9;

/// What a group has committed of some partitions.
pub(super) async fn committed<I: Io>(
    link: &Link<I>,
    group: &str,
    partitions: &Partitions,
) -> Result<BTreeMap<Place, Offset>, CallError> {
    let numbers = |indexes: &[PartitionIndex]| indexes.iter().map(|index| index.0).collect();
    let old = partitions.iter().map(|(name, indexes)| OffsetFetchRequestTopic {
        name: name.clone(),
        partition_indexes: numbers(indexes),
    });
    let new = partitions.iter().map(|(name, indexes)| OffsetFetchRequestTopics {
        name: name.clone(),
        partition_indexes: numbers(indexes),
        ..OffsetFetchRequestTopics::default()
    });
    let request = OffsetFetchRequest {
        group_id: group.to_owned(),
        topics: Some(old.collect()),
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.to_owned(),
            topics: Some(new.collect()),
            ..OffsetFetchRequestGroup::default()
        }],
        require_stable: true,
    };
    let timeout = link.timeout();
    let response = link.call_at_most(&request, COMMIT_BY_NAME_MAX, timeout).await?;
    accepted(response.error_code)?;
    let mut found = BTreeMap::new();
    let mut take = |name: &str, index: i32, offset: i64, code: i16| {
        accepted(code)?;
        if offset >= 0 {
            found.insert((name.to_owned(), PartitionIndex(index)), Offset(offset));
        }
        Ok::<(), CallError>(())
    };
    for topic in &response.topics {
        for one in &topic.partitions {
            take(&topic.name, one.partition_index, one.committed_offset, one.error_code)?;
        }
    }
    for group in &response.groups {
        accepted(group.error_code)?;
        for topic in &group.topics {
            for one in &topic.partitions {
                take(&topic.name, one.partition_index, one.committed_offset, one.error_code)?;
            }
        }
    }
    Ok(found)
}

/// Offsets by topic, as OffsetCommit wants them.
pub(super) fn commit_topics(offsets: &[(Place, Offset)]) -> Vec<OffsetCommitRequestTopic> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, index), offset) in offsets {
        topics.entry(topic).or_default().push(OffsetCommitRequestPartition {
            partition_index: index.0,
            committed_offset: offset.0,
            ..OffsetCommitRequestPartition::default()
        });
    }
    let topic = |(name, partitions): (&str, _)| OffsetCommitRequestTopic {
        name: name.to_owned(),
        partitions,
        ..OffsetCommitRequestTopic::default()
    };
    topics.into_iter().map(topic).collect()
}

fn places(partitions: &Partitions) -> Vec<Place> {
    let places = partitions
        .iter()
        .flat_map(|(topic, indexes)| indexes.iter().map(|index| (topic.clone(), *index)));
    places.collect()
}

/// What is in `of` and not in `others`.
fn minus(of: &Partitions, others: &Partitions) -> Partitions {
    filtered(of, |topic, index| !others.get(topic).is_some_and(|other| other.contains(&index)))
}

fn intersection(of: &Partitions, others: &Partitions) -> Partitions {
    filtered(of, |topic, index| others.get(topic).is_some_and(|other| other.contains(&index)))
}

fn filtered(of: &Partitions, keep: impl Fn(&str, PartitionIndex) -> bool) -> Partitions {
    let mut kept = Partitions::new();
    for (topic, index) in places(of) {
        if keep(&topic, index) {
            kept.entry(topic).or_default().push(index);
        }
    }
    kept
}
