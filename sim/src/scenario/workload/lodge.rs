//! A lodger: commits once for a group of its own, stays in it for a while or does not join at all, and
//! looks whether what it committed is there: as long as it is of use and for as long as the broker
//! promises after that, and not for ever (GROUP-8).
//!
//! It goes by true time and by what it was answered: somebody is in the group when the coordinator calls
//! it stable (who has only asked to join is nowhere recorded, as in Kafka, and forgotten by a coordinator
//! that crashes), and nobody is when it names no member after the lodger has left. A commit that is not
//! answered may come later; what is tried again without a group is tried for another one.

use std::time::Duration;

use trialog_engine::client::{
    Admin, ConsumerOptions, GroupConsumer, GroupError, GroupOptions, Place, Polled,
};
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::wire::api::ApiKey;
use trialog_engine::wire::code::ErrorCode;

use super::caretaker::{NAMED_VERSION, commit_request};
use crate::invariant::expiry::{Look, Stay};
use crate::io::SimIo;
use crate::scenario::shape::{LodgerShape, OFFSETS_KEPT};
use crate::scenario::stage::{Actor, Voice};
use crate::seed::nanos;

/// What it commits: nothing of its topic is ever gone.
const COMMITTED: Offset = Offset(0);
/// The state of a group whose members are recorded.
const STABLE: &str = "Stable";
/// How long a poll lasts.
const POLL: Duration = Duration::from_millis(300);
/// How long its group waits for it.
const SESSION: Duration = Duration::from_secs(2);
/// How long it may keep a run that is over otherwise.
const LINGER: Duration = Duration::from_secs(50);
/// How long it looks on after what is kept would be gone if it were not of use.
const PROOF: Duration = Duration::from_secs(6);

/// A lodger's program.
pub(super) async fn perform(actor: Actor, shape: LodgerShape) {
    super::admin::prepare(&actor).await;
    let mut lodger = Lodger::new(&actor, shape);
    while !lodger.is_done() {
        let (mut random, left_out) = actor.step();
        if !left_out {
            lodger.step().await;
        }
        actor.pause(&mut random, lodger.shape.pause).await;
    }
    lodger.move_out().await;
}

struct Lodger {
    voice: Voice,
    shape: LodgerShape,
    admin: Admin<SimIo>,
    place: Place,
    /// How many groups it has tried without joining them.
    tried: u32,
    member: Option<GroupConsumer<SimIo>>,
    /// When it has committed, and what it knows since.
    stay: Option<(u64, Stay)>,
    has_left: bool,
    /// When it first saw that nothing goes wrong any more.
    healed: Option<u64>,
    has_accused: bool,
}

impl Lodger {
    fn new(actor: &Actor, shape: LodgerShape) -> Lodger {
        let topic = actor.topic(actor.shape().topics[0]).name.clone();
        Lodger {
            voice: actor.voice(),
            admin: actor.client().admin(),
            place: (topic, PartitionIndex(0)),
            tried: 0,
            member: None,
            stay: None,
            has_left: shape.stays.is_none(),
            healed: None,
            has_accused: false,
            shape,
        }
    }

    fn actor(&self) -> &Actor {
        &self.voice.actor
    }

    fn now(&self) -> u64 {
        self.actor().io.world().now()
    }

    fn group(&self) -> String {
        format!("lodger-{}-{}", self.voice, self.tried)
    }

    /// How far its broker's wall clock was off at one time against another, at most.
    fn astray(&self) -> u64 {
        let (world, broker) = (self.actor().io.world(), self.actor().shape().home);
        let now = world.now();
        let off = world.machine(broker, |machine| machine.clock.wall_off(now));
        u64::try_from(off.most - off.least).unwrap_or(u64::MAX)
    }

    /// Whether there is nothing more to see, or not soon enough.
    fn is_done(&self) -> bool {
        if !self.actor().stage.curtain() {
            return false;
        }
        let Some((committed, stay)) = &self.stay else { return true };
        if stay.is_gone() || self.has_accused {
            return true;
        }
        let now = self.now();
        let healed = self.healed.unwrap_or(now);
        let until = match self.shape.stays {
            Some(stays) if stays > OFFSETS_KEPT => committed + nanos(OFFSETS_KEPT + PROOF),
            // Who has not got out of its group by now is not waited for.
            _ => stay
                .due(healed, self.astray())
                .map_or(healed + nanos(PROOF), |due| due.saturating_add(nanos(PROOF))),
        };
        now >= until || until > healed + nanos(LINGER)
    }

    async fn step(&mut self) {
        if self.actor().stage.curtain() {
            let now = self.now();
            self.healed.get_or_insert(now);
        }
        let Some((committed, _)) = self.stay else { return self.move_in().await };
        let over = |stays: Duration| self.now() >= committed + nanos(stays);
        if self.has_left || self.shape.stays.is_some_and(over) {
            self.move_out().await;
        } else {
            self.be_in().await;
        }
        self.ask_who_is_there().await;
        self.look().await;
    }

    /// Commits, in its group or without one.
    async fn move_in(&mut self) {
        let asked;
        let place = self.place.clone();
        let vacant = if self.shape.stays.is_some() {
            self.be_in().await;
            let Some(member) = &mut self.member else { return };
            if !member.owned().contains(&place) {
                return;
            }
            asked = self.voice.actor.io.world().now();
            if member.commit_at(&[(place, COMMITTED)]).await.is_err() {
                return;
            }
            None
        } else {
            self.tried += 1;
            let shape = self.actor().shape();
            let mut versions = shape.versions_max.clone();
            let version = versions.entry(ApiKey::OffsetCommit).or_insert(NAMED_VERSION);
            *version = NAMED_VERSION.min(*version);
            let client = self.actor().client_of(shape.home, shape.request_timeout, versions);
            asked = self.now();
            let request = commit_request(&self.group(), &place, COMMITTED.0);
            let Ok(answer) = client.call(&request).await else { return };
            let mut told = answer.topics.iter().flat_map(|topic| &topic.partitions);
            if told.next().is_none_or(|told| told.error_code != ErrorCode::None.code()) {
                return;
            }
            Some(self.now())
        };
        let mut stay = Stay::new(OFFSETS_KEPT, asked);
        vacant.into_iter().for_each(|at| stay.vacant(at));
        self.stay = Some((asked, stay));
    }

    /// Is a member of its group for a while, and does nothing there.
    async fn be_in(&mut self) {
        let mut member = match self.member.take() {
            Some(member) => member,
            None => {
                let options = GroupOptions {
                    session_timeout: SESSION,
                    rebalance_timeout: SESSION,
                    heartbeat: SESSION / 4,
                    consumer: ConsumerOptions {
                        bytes_max: 1000,
                        partition_bytes_max: 1000,
                        ..ConsumerOptions::default()
                    },
                    ..GroupOptions::new(&self.group())
                };
                self.actor().client().subscribe(options, &[self.place.0.as_str()])
            }
        };
        match member.poll(POLL).await {
            Ok(
                Polled::Records(_) | Polled::Revoked(_) | Polled::Assigned(..) | Polled::Lost(_),
            ) => {}
            // What cannot be read is no matter.
            Err(GroupError::Consume(_)) => {}
            // It begins anew.
            Err(_) => return,
        }
        self.member = Some(member);
    }

    async fn move_out(&mut self) {
        self.has_left = true;
        if let Some(member) = self.member.take() {
            // If that is lost, it is missed.
            let _ = member.close().await;
        }
    }

    async fn ask_who_is_there(&mut self) {
        let asked = self.now();
        let described = self.admin.describe_group(&self.group()).await;
        let (answered, has_left) = (self.now(), self.has_left);
        let Some((_, stay)) = &mut self.stay else { return };
        match described {
            Ok(described) if described.state == STABLE => stay.used(asked),
            Ok(described) if has_left && described.members.is_empty() => stay.vacant(answered),
            // A group of which nothing is left, or that cannot be asked for.
            Ok(_) | Err(_) => {}
        }
    }

    async fn look(&mut self) {
        let asked = self.now();
        let places = std::slice::from_ref(&self.place);
        let Ok(found) = self.admin.group_offsets(&self.group(), places).await else { return };
        let found = found.contains_key(&self.place);
        let (answered, healed, astray) = (self.now(), self.healed, self.astray());
        let Some((_, stay)) = &mut self.stay else { return };
        if let Some(wrong) = stay.look(&Look { asked, answered, found, healed, astray }) {
            self.has_accused = true;
            let text = format!("the offset of group {}: {wrong}", self.group());
            self.actor().stage.accuse("GROUP-8", text);
        }
    }
}
