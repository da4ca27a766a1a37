//! Committed offsets: taken from whom they may be taken, found, forgotten, and expired (KIP-211).

use std::collections::{BTreeMap, BTreeSet};

use super::classic::{Classic, State};
use super::command::{Decision, Now, Places, Reply, Ticket, Wanted};
use super::record::{Committed, Record};
use super::{Groups, weight};
use crate::id::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use crate::limit::{GROUPS_PER_COORDINATOR_MAX, OFFSETS_PER_COORDINATOR_MAX};
use crate::probe::{self, Probe};
use crate::wire::api::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use crate::wire::code::ErrorCode;
use crate::wire::subscription;

impl Groups {
    pub(super) fn commit(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: OffsetCommitRequest,
        out: &mut Decision,
    ) {
        let checked = self.check_commit(now, &request);
        let expires_ms = u64::try_from(request.retention_time_ms)
            .ok()
            .and_then(|ms| now.wall_ms.checked_add_unsigned(ms));
        let group = request.group_id;
        let known = self.groups.get(&group);
        let mut taken = Taken { places: self.places, bytes: self.weight.places, refused: 0 };
        if known.is_none_or(|group| group.places.is_empty()) {
            taken.bytes += weight::keeper(&group);
        }
        // The records by place: a request that names one many times has the last word only once.
        let mut written: BTreeMap<String, BTreeMap<i32, usize>> = BTreeMap::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            let known = known.and_then(|group| group.places.get(&topic.name));
            for partition in topic.partitions {
                let index = partition.partition_index;
                let again = written.get(&topic.name).and_then(|one| one.get(&index)).copied();
                let before = match again.map(|place| &out.records[place]) {
                    Some(Record::Committed { place, .. }) => place.as_ref(),
                    _ => known.and_then(|known| known.get(&index)),
                };
                let metadata = partition.committed_metadata.unwrap_or_default();
                let weigh = |metadata: &str| weight::place(&group, &topic.name, metadata);
                let change = (before.map(|before| weigh(&before.metadata)), weigh(&metadata));
                let outcome = checked.and_then(|()| {
                    // As Kafka counts a string's length.
                    if metadata.encode_utf16().count() > self.settings.metadata_bytes_max {
                        return Err(ErrorCode::OffsetMetadataTooLarge);
                    }
                    taken.take(change, self.allowance.offsets)
                });
                if outcome.is_ok() {
                    let now = Committed {
                        topic_id: topic.topic_id,
                        offset: Offset(partition.committed_offset),
                        // Requests that set a time know no epochs, and nor does their record.
                        leader_epoch: match expires_ms {
                            Some(_) => LeaderEpoch::NONE,
                            None => LeaderEpoch(partition.committed_leader_epoch),
                        },
                        metadata,
                        committed_ms: now.wall_ms,
                        expires_ms,
                    };
                    match again.map(|place| &mut out.records[place]) {
                        Some(Record::Committed { place, .. }) => *place = Some(now),
                        _ => {
                            let places = written.entry(topic.name.clone()).or_default();
                            places.insert(index, out.records.len());
                            out.records.push(Record::Committed {
                                group: group.clone(),
                                topic: topic.name.clone(),
                                partition: PartitionIndex(index),
                                place: Some(now),
                            });
                        }
                    }
                }
                let error_code = outcome.err().unwrap_or(ErrorCode::None).code();
                partitions
                    .push(OffsetCommitResponsePartition { partition_index: index, error_code });
            }
            topics.push(OffsetCommitResponseTopic {
                name: topic.name,
                topic_id: topic.topic_id,
                partitions,
            });
        }
        if taken.refused > 0 {
            probe::hit(Probe::OffsetsFull);
            tracing::warn!(
                group,
                refused = taken.refused,
                places = self.places,
                bytes = self.weight.places,
                "offsets are refused: those of this partition's groups take all that they may; delete \
                 groups that nobody needs, have clients send less metadata, or lower \
                 offsets.retention.minutes"
            );
        }
        let response = OffsetCommitResponse { topics, ..OffsetCommitResponse::default() };
        out.reply(ticket, Reply::Committed(response));
    }

    /// GROUP-2: whether whoever asks may commit now.
    fn check_commit(&mut self, now: Now, request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
        let generation = request.generation_id_or_member_epoch;
        let full = self.groups.len() >= GROUPS_PER_COORDINATOR_MAX;
        let Some(group) = self.groups.get_mut(&request.group_id) else {
            return match generation {
                // Somebody who is in no group keeps its offsets here.
                ..0 if !full => Ok(()),
                ..0 => Err(ErrorCode::InvalidCommitOffsetSize),
                _ => Err(ErrorCode::IllegalGeneration),
            };
        };
        let classic = &mut group.classic;
        let (id, instance) = (&request.member_id, request.group_instance_id.as_deref());
        if generation < 0 && classic.is_empty() {
            return Ok(());
        }
        if generation < 0 && id.is_empty() && instance.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        classic.check_member(id, instance)?;
        if generation != classic.generation {
            probe::hit(Probe::CommitFenced);
            return Err(ErrorCode::IllegalGeneration);
        }
        if classic.state == State::Completing {
            probe::hit(Probe::CommitTooEarly);
            return Err(ErrorCode::RebalanceInProgress);
        }
        classic.members.get_mut(id).expect("checked").heard(now);
        Ok(())
    }

    pub(super) fn places_of(&self, id: &str, wanted: Option<Wanted>) -> Places {
        let group = self.groups.get(id);
        let Some(wanted) = wanted else {
            let all = group.into_iter().flat_map(|group| &group.places);
            let topic = |(topic, places): (&String, &BTreeMap<i32, Committed>)| {
                let places = places.iter().map(|(index, place)| (*index, Some(place.clone())));
                (topic.clone(), places.collect())
            };
            return all.map(topic).collect();
        };
        let mut places = Places::new();
        for (topic, partitions) in wanted {
            let known = group.and_then(|group| group.places.get(&topic));
            let found = places.entry(topic).or_default();
            for index in partitions {
                let place = || known.and_then(|known| known.get(&index)).cloned();
                found.entry(index).or_insert_with(place);
            }
        }
        places
    }

    pub(super) fn forget(
        &mut self,
        ticket: Ticket,
        request: OffsetDeleteRequest,
        out: &mut Decision,
    ) {
        let refused = |code: ErrorCode| {
            Reply::Forgotten(OffsetDeleteResponse {
                error_code: code.code(),
                ..OffsetDeleteResponse::default()
            })
        };
        let Some(group) = self.groups.get(&request.group_id) else {
            return out.reply(ticket, refused(ErrorCode::GroupIdNotFound));
        };
        let consumers = group.classic.protocol_type.as_deref() == Some(subscription::PROTOCOL_TYPE);
        if !group.classic.is_empty() && !consumers {
            return out.reply(ticket, refused(ErrorCode::NonEmptyGroup));
        }
        let mut named = BTreeSet::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let in_use = group.classic.may_read(&topic.name);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                let index = partition.partition_index;
                let known = group.places.get(&topic.name).is_some_and(|p| p.contains_key(&index));
                // One that is named again is forgotten once.
                if known && !in_use && named.insert((topic.name.clone(), index)) {
                    out.records.push(forgotten(&request.group_id, &topic.name, index));
                }
                let code = if in_use { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None };
                partitions.push(OffsetDeleteResponsePartition {
                    partition_index: index,
                    error_code: code.code(),
                });
            }
            topics.push(OffsetDeleteResponseTopic { name: topic.name, partitions });
        }
        let response = OffsetDeleteResponse { topics, ..OffsetDeleteResponse::default() };
        out.reply(ticket, Reply::Forgotten(response));
    }

    /// Forgets all offsets of topics that are gone.
    pub(super) fn forget_topics(
        &mut self,
        topics: &[(String, Option<TopicId>)],
        out: &mut Decision,
    ) {
        for (id, group) in &self.groups {
            for (topic, gone) in topics {
                let places = group.places.get(topic).into_iter().flatten();
                let places = places.filter(|(_, place)| gone.is_none_or(|id| place.topic_id == id));
                out.records.extend(places.map(|(index, _)| forgotten(id, topic, *index)));
            }
        }
    }

    /// Each committed offset's topic, by the name and the id that it was committed under.
    pub fn places(&self) -> impl Iterator<Item = (&str, TopicId)> {
        let topics = self.groups.values().flat_map(|group| &group.places);
        topics.flat_map(|(name, places)| places.values().map(|place| (&**name, place.topic_id)))
    }

    /// The topics that any group has offsets of.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.groups.values().flat_map(|group| group.places.keys().map(String::as_str))
    }

    /// GROUP-8: forgets offsets that are too old (KIP-211), and groups without members of which nothing else
    /// is left.
    pub(super) fn expire(&mut self, now: Now, out: &mut Decision) {
        for (id, group) in &self.groups {
            let mut kept = 0;
            for (topic, places) in &group.places {
                for (index, place) in places {
                    if group.classic.keeps(topic, place, self.settings.retention_ms, now) {
                        kept += 1;
                    } else {
                        probe::hit(Probe::OffsetsExpired);
                        out.records.push(forgotten(id, topic, *index));
                    }
                }
            }
            if kept == 0 && group.classic.is_empty() && group.recorded.is_some() {
                let group = id.clone();
                out.records.push(Record::Generation { group, generation: None });
            }
        }
    }
}

impl Classic {
    /// Whether members may be reading the topic; if nobody can tell, they may.
    fn may_read(&self, topic: &str) -> bool {
        !self.is_empty() && self.topics.as_ref().is_none_or(|topics| topics.contains(topic))
    }

    /// Whether an offset is still of use.
    fn keeps(&self, topic: &str, place: &Committed, retention_ms: i64, now: Now) -> bool {
        let since_ms = match (&self.protocol_type, self.state) {
            // Nobody ever joined: each offset has its own age.
            (None, _) => place.committed_ms,
            // All have left: the group's age counts.
            (Some(_), State::Empty) if self.since_ms >= 0 => self.since_ms.max(place.committed_ms),
            (Some(_), State::Empty) => place.committed_ms,
            // Members read other topics by now.
            (Some(kind), State::Stable)
                if kind == subscription::PROTOCOL_TYPE && !self.may_read(topic) =>
            {
                place.committed_ms
            }
            (Some(_), _) => return true,
        };
        match place.expires_ms {
            Some(expires_ms) => now.wall_ms < expires_ms,
            None => now.wall_ms.saturating_sub(since_ms) < retention_ms,
        }
    }
}

/// What the offsets of all groups take while a commit is looked at.
struct Taken {
    places: usize,
    bytes: usize,
    /// How many offsets of the commit there was no room for.
    refused: usize,
}

impl Taken {
    /// An offset comes to weigh so much, after what it weighed before; one that weighs no more than before
    /// is never refused.
    fn take(
        &mut self,
        (before, now): (Option<usize>, usize),
        bytes_max: usize,
    ) -> Result<(), ErrorCode> {
        let bytes = self.bytes - before.unwrap_or(0) + now;
        let is_one_too_many = before.is_none() && self.places >= OFFSETS_PER_COORDINATOR_MAX;
        if is_one_too_many || (bytes > bytes_max && before.is_none_or(|before| now > before)) {
            self.refused += 1;
            return Err(ErrorCode::InvalidCommitOffsetSize);
        }
        self.places += usize::from(before.is_none());
        self.bytes = bytes;
        Ok(())
    }
}

fn forgotten(group: &str, topic: &str, partition: i32) -> Record {
    Record::Committed {
        group: group.to_owned(),
        topic: topic.to_owned(),
        partition: PartitionIndex(partition),
        place: None,
    }
}
