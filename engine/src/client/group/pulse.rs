//! A member's pulse: the task that says, every [`GroupOptions::heartbeat`], that the member is
//! alive, whether it is being polled or not, and that listens to what the group says back.
//!
//! As in Kafka's clients, being alive is one thing and getting on another: a member that is not
//! polled for [`GroupOptions::poll_interval`] leaves the group, so that others read what it does
//! not; a static one falls silent instead, and may come back within its session (KIP-62, KIP-345).
//!
//! The leader watches the topics that it has shared out: when they have other partitions than then,
//! it wants a new generation. So it does when some are still held back for whoever read them last
//! (cooperative) and a rebalance's time has passed: a static member that was replaced before it
//! heard of its share does not know what it was to give up, and joins no next round.
//!
//! One task for each seat, on the member's core. It ends with the seat.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};

use super::seat::{accepted, coordinator};
use super::{GroupError, GroupOptions};
use crate::client::cluster::Cluster;
use crate::client::fault::CallError;
use crate::client::link::Link;
use crate::id::PartitionIndex;
use crate::io::{Instant, Io, watch};
use crate::wire::api::{HeartbeatRequest, LeaveGroupRequest, MemberIdentity};
use crate::wire::code::ErrorCode;

/// Topics with the partitions that they had.
pub type Topics = BTreeMap<String, BTreeSet<PartitionIndex>>;

/// What a leader shared out; nothing, for everybody else.
#[derive(Debug, Default)]
pub struct Watched {
    /// What there was to share out.
    pub topics: Topics,
    /// Some of it is held back until its former owner has given it up.
    pub held_back: bool,
}

/// What the group has said, the last word of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    /// All is well.
    Fine,
    /// A new generation is being made.
    Rebalance,
    /// The group has gone on without the member.
    Forgotten,
    /// The coordinator was not heard for a whole session: it may have given the member's partitions
    /// to others.
    Unheard,
    /// The member was not polled for too long, and has left.
    Overslept,
    /// The group does not want it.
    Refused(GroupError),
}

/// See the module's head.
pub struct Pulse<I: Io> {
    cluster: Rc<Cluster<I>>,
    options: Rc<GroupOptions>,
    member_id: String,
    generation: i32,
    link: RefCell<Option<Link<I>>>,
    /// When the member was last polled.
    polled_at: Rc<Cell<Instant>>,
    heard_at: Cell<Instant>,
    sign: watch::Sender<Sign>,
    watched: Topics,
    looked_at: Cell<Instant>,
    /// When what is held back should be in other hands.
    next_round: Option<Instant>,
}

impl<I: Io> Pulse<I> {
    /// The pulse of a seat that has just been taken, beating.
    pub fn start(
        cluster: Rc<Cluster<I>>,
        options: Rc<GroupOptions>,
        (member_id, generation): (String, i32),
        (link, polled_at): (Link<I>, Rc<Cell<Instant>>),
        watched: Watched,
    ) -> Rc<Pulse<I>> {
        let (io, now) = (cluster.io.clone(), cluster.io.now());
        let next_round = watched.held_back.then(|| now.after(options.rebalance_timeout));
        let pulse = Rc::new(Pulse {
            cluster,
            options,
            member_id,
            generation,
            link: RefCell::new(Some(link)),
            polled_at,
            heard_at: Cell::new(now),
            sign: watch::channel(Sign::Fine).0,
            watched: watched.topics,
            looked_at: Cell::new(now),
            next_round,
        });
        io.spawn(beat(io.clone(), Rc::downgrade(&pulse)));
        pulse
    }

    /// What the group has said.
    pub fn sign(&self) -> Sign {
        self.sign.borrow().clone()
    }

    /// Waits until the group says something.
    pub async fn told(&self) {
        // It does not end without a word: whoever waits holds the writer's side.
        let _ = self.sign.subscribe().wait_for(|sign| *sign != Sign::Fine).await;
    }

    /// The connection to the coordinator if there is a live one.
    pub fn live_link(&self) -> Option<Link<I>> {
        self.link.borrow().clone().filter(Link::is_alive)
    }

    /// A connection to the coordinator, which is looked for if need be.
    pub async fn link(&self) -> Result<Link<I>, CallError> {
        if let Some(link) = self.live_link() {
            return Ok(link);
        }
        let link = coordinator(&self.cluster, &self.options.group).await?;
        *self.link.borrow_mut() = Some(link.clone());
        Ok(link)
    }

    /// After an answer that says that the coordinator is elsewhere, or away.
    pub fn heed(&self, error: &CallError) {
        if let CallError::Refused(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) =
            error
        {
            *self.link.borrow_mut() = None;
        }
    }

    fn tell(&self, sign: Sign) {
        if *self.sign.borrow() != sign {
            self.sign.send_replace(sign);
        }
    }

    /// One heartbeat; false if it was the last.
    async fn beat_once(&self) -> bool {
        let now = self.cluster.io.now();
        if now.since(self.polled_at.get()) >= self.options.poll_interval {
            self.tell(Sign::Overslept);
            if self.options.instance.is_none()
                && let Some(link) = self.live_link()
            {
                let reason = "it was not polled for too long";
                let _ = leave(&link, &self.options.group, &self.member_id, reason).await;
            }
            return false;
        }
        match self.say().await {
            Ok(()) => self.heard_at.set(self.cluster.io.now()),
            Err(CallError::Refused(ErrorCode::RebalanceInProgress)) => {
                self.heard_at.set(self.cluster.io.now());
                self.tell(Sign::Rebalance);
            }
            Err(CallError::Refused(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration)) => {
                self.tell(Sign::Forgotten);
                return false;
            }
            Err(error) if error.retriable() => {
                let (group, reason) = (&self.options.group, &error);
                tracing::debug!(group, %reason, "looking for the coordinator again");
                self.heed(&error);
                let silent = self.cluster.io.now().since(self.heard_at.get());
                if silent >= self.options.session_timeout {
                    self.tell(Sign::Unheard);
                    return false;
                }
            }
            Err(error) => {
                self.tell(Sign::Refused(error.into()));
                return false;
            }
        }
        self.look_after_topics().await;
        true
    }

    async fn say(&self) -> Result<(), CallError> {
        let request = HeartbeatRequest {
            group_id: self.options.group.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.options.instance.clone(),
        };
        let link = self.link().await?;
        let limit = link.timeout().min(self.options.session_timeout / 2);
        accepted(link.call_within(&request, limit).await?.error_code)
    }

    /// The leader's watch over the topics that it has shared out.
    async fn look_after_topics(&self) {
        if self.watched.is_empty() {
            return;
        }
        let now = self.cluster.io.now();
        if now.since(self.looked_at.get()) >= self.options.metadata_max_age {
            self.looked_at.set(now);
            // What is known stays known if nobody answers; the next look is one age later.
            let _ = self.cluster.refresh().await;
        }
        let changed = self.watched.iter().any(|(name, shared)| {
            // A topic that is gone, or cannot be had just now, leaves the shares as they are.
            let known = self.cluster.known_topic(name);
            known.is_some_and(|topic| !topic.partitions.keys().eq(shared.iter()))
        });
        let overdue = self.next_round.is_some_and(|at| now >= at);
        if (changed || overdue) && *self.sign.borrow() == Sign::Fine {
            tracing::debug!(group = self.options.group, changed, overdue, "wants new shares");
            self.tell(Sign::Rebalance);
        }
    }
}

async fn beat<I: Io>(io: I, pulse: Weak<Pulse<I>>) {
    loop {
        let Some(every) = pulse.upgrade().map(|pulse| pulse.options.heartbeat) else { return };
        io.sleep(every).await;
        let Some(pulse) = pulse.upgrade() else { return };
        if !pulse.beat_once().await {
            return;
        }
    }
}

/// Leaves a group.
pub async fn leave<I: Io>(
    link: &Link<I>,
    group: &str,
    member_id: &str,
    reason: &str,
) -> Result<(), CallError> {
    let identity = MemberIdentity {
        member_id: member_id.to_owned(),
        reason: Some(reason.to_owned()),
        ..MemberIdentity::default()
    };
    let request = LeaveGroupRequest {
        group_id: group.to_owned(),
        member_id: member_id.to_owned(),
        members: vec![identity],
    };
    accepted(link.call(&request).await?.error_code)
}
