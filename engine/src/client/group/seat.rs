//! A member's way into a generation: find the coordinator, join, share out if it is the leader, and
//! get its own share. One future from the first request to the last, which goes on whether the
//! consumer is polled or not; so do the heartbeats from the moment that the seat is taken.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::pulse::{Pulse, Topics, Watched};
use super::{GroupError, GroupOptions};
use crate::client::cluster::Cluster;
use crate::client::fault::CallError;
use crate::client::link::Link;
use crate::client::wait::backoff;
use crate::io::{Instant, Io};
use crate::wire::api::{
    ApiKey, DescribeGroupsRequest, FindCoordinatorRequest, JoinGroupRequest,
    JoinGroupRequestProtocol, JoinGroupResponse, Request, SyncGroupRequest,
    SyncGroupRequestAssignment,
};
use crate::wire::code::ErrorCode;
use crate::wire::subscription::{
    PROTOCOL_TYPE, Partitions, Subscription, assignment_to_bytes, parse_assignment,
};

/// The first version of JoinGroup in which a member may have a name of its own (KIP-345).
const STATIC_VERSION: i16 = 5;

/// How much longer than a rebalance may take a join is waited for, as the Java client does: an empty
/// group first waits for `group.initial.rebalance.delay.ms`, whatever its members say.
const JOIN_LAPSE: Duration = Duration::from_secs(5);

/// A place in a generation.
pub struct Seat<I: Io> {
    /// Says that it is taken, on a connection of the member's own, because a join holds up what is
    /// behind it.
    pub pulse: Rc<Pulse<I>>,
    /// The member's id.
    pub member_id: String,
    /// The generation.
    pub generation: i32,
    /// Its share.
    pub share: Partitions,
}

/// What a member and its join know of each other while that goes on.
#[derive(Clone, Debug)]
pub struct Ties {
    /// When the member was last polled.
    pub polled_at: Rc<Cell<Instant>>,
    /// The id that the group knows it by, empty until it has one.
    pub member_id: Rc<RefCell<String>>,
}

/// What a member brings along.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Its id, empty if it has none.
    pub member_id: String,
    /// The generation in which it got `owned`.
    pub generation: i32,
    /// The partitions that it goes on reading.
    pub owned: Partitions,
}

/// How joining ends.
pub enum Joined<I: Io> {
    /// In the group.
    In(Seat<I>),
    /// The group has forgotten the member: it has to give up everything, and join anew.
    Forgotten,
}

/// Whether waiting and asking again will help against a code.
fn passes(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::RebalanceInProgress
    )
}

/// Joins, for as long as it takes.
pub async fn join<I: Io>(
    cluster: Rc<Cluster<I>>,
    options: Rc<GroupOptions>,
    topics: Vec<String>,
    mut past: Past,
    mut link: Option<Link<I>>,
    ties: Ties,
) -> Result<Joined<I>, GroupError> {
    let mut failures = 0;
    loop {
        let outcome = attempt(&cluster, &options, &topics, &mut past, &mut link, &ties).await;
        let code = match outcome {
            Ok(seat) => return Ok(Joined::In(seat)),
            Err(CallError::Refused(code)) => code,
            Err(error) if error.retriable() => {
                link = None;
                ErrorCode::CoordinatorNotAvailable
            }
            Err(error) => return Err(error.into()),
        };
        match code {
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => {
                if !past.owned.is_empty() {
                    return Ok(Joined::Forgotten);
                }
                past = Past { generation: -1, ..Past::default() };
            }
            ErrorCode::RebalanceInProgress => {}
            code if passes(code) => {
                if code != ErrorCode::CoordinatorLoadInProgress {
                    link = None;
                }
                let client = &cluster.options;
                let pause =
                    backoff(&cluster.io, client.backoff_first, client.backoff_max, failures);
                cluster.io.sleep(pause).await;
                failures += 1;
                continue;
            }
            code => return Err(GroupError::Refused(code)),
        }
        failures = 0;
    }
}

async fn attempt<I: Io>(
    cluster: &Rc<Cluster<I>>,
    options: &Rc<GroupOptions>,
    topics: &[String],
    past: &mut Past,
    link: &mut Option<Link<I>>,
    ties: &Ties,
) -> Result<Seat<I>, CallError> {
    let link = match link.as_ref().filter(|link| link.is_alive()) {
        Some(link) => link.clone(),
        None => link.insert(coordinator(cluster, &options.group).await?).clone(),
    };
    let mut joined = ask_to_join(cluster, &link, options, topics, past).await?;
    if joined.error_code == ErrorCode::MemberIdRequired.code() {
        past.member_id = joined.member_id;
        ties.member_id.borrow_mut().clone_from(&past.member_id);
        joined = ask_to_join(cluster, &link, options, topics, past).await?;
    }
    accepted(joined.error_code)?;
    past.member_id.clone_from(&joined.member_id);
    ties.member_id.borrow_mut().clone_from(&past.member_id);
    let (mut watched, mut assignments) = (Watched::default(), Vec::new());
    if joined.leader == joined.member_id {
        let members = subscriptions(&joined)?;
        watched.topics = topics_of(cluster, &members).await?;
        if joined.skip_assignment {
            // A static leader that comes back finds the shares made (KIP-814), and watches them: by
            // what they are, because topics may have grown while it was away.
            shared_out(cluster, &link, &options.group, &mut watched.topics).await?;
        } else {
            let shares = options.strategy.share_out(&members, &watched.topics);
            let given: usize = shares.values().flat_map(Partitions::values).map(Vec::len).sum();
            watched.held_back = given < watched.topics.values().map(BTreeSet::len).sum();
            assignments = encoded(shares);
        }
    }
    let request = SyncGroupRequest {
        group_id: options.group.clone(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: options.instance.clone(),
        protocol_type: Some(PROTOCOL_TYPE.to_owned()),
        protocol_name: joined.protocol_name.clone(),
        assignments,
    };
    let synced = call(cluster, &link, &request, patience(options)).await?;
    accepted(synced.error_code)?;
    let (member_id, generation) = (joined.member_id, joined.generation_id);
    let share = parse_assignment(&synced.assignment)?;
    let who = (member_id.clone(), generation);
    let pulse = Pulse::start(
        cluster.clone(),
        options.clone(),
        who,
        (link, ties.polled_at.clone()),
        watched,
    );
    Ok(Seat { pulse, member_id, generation, share })
}

async fn ask_to_join<I: Io>(
    cluster: &Rc<Cluster<I>>,
    link: &Link<I>,
    options: &GroupOptions,
    topics: &[String],
    past: &Past,
) -> Result<JoinGroupResponse, CallError> {
    // An older broker would take a static member for one like all others, and fence it later.
    if options.instance.is_some() {
        link.version(ApiKey::JoinGroup, STATIC_VERSION..=i16::MAX)?;
    }
    let subscription = Subscription {
        topics: topics.to_vec(),
        owned: past.owned.clone(),
        generation: past.generation,
    };
    let protocol = JoinGroupRequestProtocol {
        name: options.strategy.name().to_owned(),
        metadata: subscription.to_bytes(),
    };
    let request = JoinGroupRequest {
        group_id: options.group.clone(),
        session_timeout_ms: millis(options.session_timeout),
        rebalance_timeout_ms: millis(options.rebalance_timeout),
        member_id: past.member_id.clone(),
        group_instance_id: options.instance.clone(),
        protocol_type: PROTOCOL_TYPE.to_owned(),
        protocols: vec![protocol],
        reason: None,
    };
    call(cluster, link, &request, patience(options).saturating_add(JOIN_LAPSE)).await
}

/// How long a rebalance may take. A member whose client is of the first hour tells no time for it, and
/// the group waits for it as long as for its session.
fn patience(options: &GroupOptions) -> Duration {
    options.rebalance_timeout.max(options.session_timeout)
}

/// A connection to the group's coordinator.
pub async fn coordinator<I: Io>(
    cluster: &Rc<Cluster<I>>,
    group: &str,
) -> Result<Link<I>, CallError> {
    let request = FindCoordinatorRequest {
        key: group.to_owned(),
        key_type: 0,
        coordinator_keys: vec![group.to_owned()],
    };
    let mut found = cluster.call_any(&request).await?;
    let (code, host, port) = match found.coordinators.pop() {
        Some(one) => (one.error_code, one.host, one.port),
        None => (found.error_code, found.host, found.port),
    };
    accepted(code)?;
    let port = u16::try_from(port).map_err(|_| CallError::NoBroker)?;
    let address = (cluster.options.resolve)(&host, port).ok_or(CallError::NoBroker)?;
    cluster.link_to(address).await
}

/// Asks with room for what the broker may take its time for.
pub async fn call<I: Io, R: Request>(
    cluster: &Rc<Cluster<I>>,
    link: &Link<I>,
    request: &R,
    patience: Duration,
) -> Result<R::Response, CallError> {
    link.call_within(request, cluster.options.request_timeout.saturating_add(patience)).await
}

/// What all members of a generation want.
fn subscriptions(joined: &JoinGroupResponse) -> Result<BTreeMap<String, Subscription>, CallError> {
    let members = joined.members.iter();
    let members = members
        .map(|member| Ok((member.member_id.clone(), Subscription::parse(&member.metadata)?)));
    members.collect()
}

/// The topics that members want, with their partitions as they are now.
async fn topics_of<I: Io>(
    cluster: &Rc<Cluster<I>>,
    members: &BTreeMap<String, Subscription>,
) -> Result<Topics, CallError> {
    let names: BTreeSet<&String> = members.values().flat_map(|member| &member.topics).collect();
    names.iter().for_each(|name| cluster.follow(name));
    cluster.refresh().await?;
    let topic = |name: &String| {
        let known = cluster.known_topic(name);
        let indexes = known.into_iter().flat_map(|topic| topic.partitions.into_keys());
        (name.clone(), indexes.collect())
    };
    Ok(names.into_iter().map(topic).collect())
}

/// Puts the partitions that the group's members have in the place of those that topics have.
async fn shared_out<I: Io>(
    cluster: &Rc<Cluster<I>>,
    link: &Link<I>,
    group: &str,
    topics: &mut Topics,
) -> Result<(), CallError> {
    let request = DescribeGroupsRequest {
        groups: vec![group.to_owned()],
        include_authorized_operations: false,
    };
    let response = call(cluster, link, &request, Duration::ZERO).await?;
    let group = response.groups.first().filter(|group| group.group_state == "Stable");
    // Whatever else it is doing ends with shares that are made anew.
    let Some(group) = group else { return Ok(()) };
    topics.values_mut().for_each(BTreeSet::clear);
    for member in &group.members {
        for (topic, indexes) in parse_assignment(&member.member_assignment)? {
            if let Some(shared) = topics.get_mut(&topic) {
                shared.extend(indexes);
            }
        }
    }
    Ok(())
}

/// The leader's work, as the coordinator passes it on.
fn encoded(shares: BTreeMap<String, Partitions>) -> Vec<SyncGroupRequestAssignment> {
    let encoded = shares.into_iter().map(|(member_id, share)| SyncGroupRequestAssignment {
        member_id,
        assignment: assignment_to_bytes(&share),
    });
    encoded.collect()
}

/// The part of an answer that says whether it worked.
pub fn accepted(code: i16) -> Result<(), CallError> {
    match ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError) {
        ErrorCode::None => Ok(()),
        code => Err(CallError::Refused(code)),
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
