//! What the groups take of memory, about: the bytes that they were told, and what it costs to keep them.
//!
//! GROUP-7. Counted by rules of its own, not by the allocator's, so that machines that have come to the
//! same state count the same. What members say and are given has one allowance, committed offsets have
//! another: who uses one of them up keeps nobody from the other. What takes more is refused; what takes no
//! more than before never is, nor is anything that is recorded: recovery counts, and asks nobody.

use super::Group;
use super::command::Join;
use super::member::Member;
use super::record::{Committed, Generation};
use crate::wire::api::JoinGroupRequestProtocol;
use crate::wire::subscription;

/// A group, a member in it, the same as a part of a recorded generation, a strategy of a member, an id that
/// is promised, and an offset: beside the texts that belong to them, in bytes.
const GROUP: usize = 600;
const MEMBER: usize = 500;
const RECORDED: usize = 250;
const STRATEGY: usize = 64;
const PROMISE: usize = 100;
const PLACE: usize = 160;
/// The longest id that a member is given.
const FRESH_ID: usize = 300;

/// What a group, or all groups together, take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Its members, their shares, the ids that were promised, and the generation that is recorded.
    pub members: usize,
    /// Its committed offsets.
    pub places: usize,
}

impl Weight {
    /// One that weighed `before` weighs `now`.
    pub fn change(&mut self, before: Weight, now: Weight) {
        self.members = self.members - before.members + now.members;
        self.places = self.places - before.places + now.places;
    }
}

/// A group with offsets, without them.
pub(super) fn keeper(group: &str) -> usize {
    GROUP + 2 * group.len()
}

/// One committed offset. Its names count each time: they stand in its record, of which there is one for each
/// that is written or forgotten.
pub(super) fn place(group: &str, topic: &str, metadata: &str) -> usize {
    PLACE + group.len() + topic.len() + metadata.len()
}

/// A recorded generation.
pub(super) fn generation(recorded: &Generation) -> usize {
    let member = |one: &super::record::RecordedMember| {
        let names = one.id.len() + one.instance.as_ref().map_or(0, String::len);
        let client = one.client_id.len() + one.client_host.len();
        RECORDED + names + client + one.subscription.len() + one.assignment.len()
    };
    recorded.members.iter().map(member).sum()
}

/// A member: as it is, and as a part of the next record.
struct Parts {
    live: usize,
    recorded: usize,
}

impl Parts {
    fn of(id: usize, member: &Member, kind: Option<&str>) -> Parts {
        let instance = member.instance.as_ref().map_or(0, String::len);
        let client = member.client_id.len() + member.client_host.len();
        Parts::new((id, instance, client), &said(&member.protocols, kind), member.assignment.len())
    }

    /// What the member will be that `join` makes, or makes of one that has an id of so many bytes and a share.
    fn with(id: usize, join: &Join, share: usize) -> Parts {
        let request = &join.request;
        let instance = request.group_instance_id.as_ref().map_or(0, String::len);
        let client = join.client_id.len() + join.client_host.len();
        let said = said(&request.protocols, Some(&request.protocol_type));
        Parts::new((id, instance, client), &said, share)
    }

    fn new((id, instance, client): (usize, usize, usize), said: &Said, share: usize) -> Parts {
        Parts {
            live: MEMBER + 3 * id + 2 * instance + client + said.all + share,
            recorded: RECORDED + id + instance + client + said.largest + share,
        }
    }
}

struct Said {
    all: usize,
    /// What it says for one strategy, whichever is chosen.
    largest: usize,
}

fn said(protocols: &[JoinGroupRequestProtocol], kind: Option<&str>) -> Said {
    let largest = protocols.iter().map(|one| one.metadata.len()).max().unwrap_or(0);
    // The topics that it names are kept beside it.
    let topics = if kind == Some(subscription::PROTOCOL_TYPE) { largest } else { 0 };
    Said { all: strategies(protocols) + topics, largest }
}

/// What a member says about itself for its strategies.
pub(super) fn strategies(protocols: &[JoinGroupRequestProtocol]) -> usize {
    protocols.iter().map(|one| STRATEGY + one.name.len() + one.metadata.len()).sum()
}

impl Group {
    /// What its members and its recorded generation take. What is recorded becomes what its members are, and
    /// the larger of the two counts.
    pub(super) fn members_weight(&self, id: &str) -> usize {
        if self.recorded.is_none() && self.classic.is_vacant() && self.classic.members.is_empty() {
            return 0;
        }
        let Parts { live, recorded } = self.parts();
        let promised: usize = self.classic.promised.keys().map(|id| PROMISE + id.len()).sum();
        GROUP + 4 * id.len() + live + promised + recorded.max(self.recorded_bytes)
    }

    /// All its members.
    fn parts(&self) -> Parts {
        let kind = self.classic.protocol_type.as_deref();
        let members = self.classic.members.iter();
        let members = members.map(|(id, member)| Parts::of(id.len(), member, kind));
        members.fold(Parts { live: 0, recorded: 0 }, |all, one| Parts {
            live: all.live + one.live,
            recorded: all.recorded + one.recorded,
        })
    }

    /// How much more it takes at most once its members, who have none yet, have shares of so many bytes. What
    /// is recorded may be as large already.
    pub(super) fn more_with_shares(&self, bytes: usize) -> usize {
        let next = self.parts().recorded;
        bytes + (next + bytes).max(self.recorded_bytes) - next.max(self.recorded_bytes)
    }

    /// How much more the group takes at most once it has let `join` in.
    pub(super) fn more_with(&self, id: &str, join: &Join) -> usize {
        let request = &join.request;
        let kind = Some(request.protocol_type.as_str());
        let statics = &self.classic.statics;
        let known =
            match request.group_instance_id.as_ref().filter(|_| request.member_id.is_empty()) {
                Some(instance) => statics.get(instance),
                None => Some(&request.member_id),
            };
        let known = known.and_then(|id| self.classic.members.get_key_value(id));
        match known {
            Some((id, member)) => {
                let before = Parts::of(id.len(), member, kind);
                let now = Parts::with(id.len(), join, member.assignment.len());
                // What is recorded stays as large as it is until the next record.
                let recorded = now.recorded.saturating_sub(before.recorded);
                (now.live + recorded).saturating_sub(before.live)
            }
            None => {
                let group = if self.members_weight(id) == 0 { GROUP + 4 * id.len() } else { 0 };
                let Parts { live, recorded } = Parts::with(FRESH_ID, join, 0);
                group + live + recorded
            }
        }
    }

    /// Sets one offset. Returns the one before.
    pub(super) fn put_place(
        &mut self,
        id: &str,
        topic: String,
        partition: i32,
        new: Committed,
    ) -> Option<Committed> {
        if self.places.is_empty() {
            self.weight.places += keeper(id);
        }
        self.weight.places += place(id, &topic, &new.metadata);
        let before = self.places.entry(topic.clone()).or_default().insert(partition, new);
        self.weight.places -=
            before.as_ref().map_or(0, |before| place(id, &topic, &before.metadata));
        before
    }

    /// Takes out one offset.
    pub(super) fn take_place(
        &mut self,
        id: &str,
        topic: &str,
        partition: i32,
    ) -> Option<Committed> {
        let places = self.places.get_mut(topic)?;
        let taken = places.remove(&partition)?;
        if places.is_empty() {
            self.places.remove(topic);
        }
        self.weight.places -= place(id, topic, &taken.metadata);
        if self.places.is_empty() {
            self.weight.places -= keeper(id);
        }
        Some(taken)
    }
}
