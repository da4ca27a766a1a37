//! Committed offsets: taken from whom they may be taken, found, forgotten, and expired (KIP-211).

use super::classic::{Classic, State};
use super::command::{Decision, Now, Places, Reply, Ticket, Wanted};
use super::record::{Committed, Record};
use super::{Group, Groups};
use crate::id::{LeaderEpoch, Offset, PartitionIndex};
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
        let mut new = 0;
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                let index = partition.partition_index;
                let known = self.groups.get(&group).is_some_and(|group| {
                    group.places.get(&topic.name).is_some_and(|one| one.contains_key(&index))
                });
                let metadata = partition.committed_metadata.unwrap_or_default();
                let outcome = checked.and_then(|()| {
                    if metadata.len() > self.settings.metadata_bytes_max {
                        return Err(ErrorCode::OffsetMetadataTooLarge);
                    }
                    if !known && self.places + new >= OFFSETS_PER_COORDINATOR_MAX {
                        return Err(ErrorCode::InvalidCommitOffsetSize);
                    }
                    Ok(())
                });
                if outcome.is_ok() {
                    new += usize::from(!known);
                    out.records.push(Record::Committed {
                        group: group.clone(),
                        topic: topic.name.clone(),
                        partition: PartitionIndex(index),
                        place: Some(Committed {
                            offset: Offset(partition.committed_offset),
                            // Requests that set a time know no epochs, and nor does their record.
                            leader_epoch: match expires_ms {
                                Some(_) => LeaderEpoch::NONE,
                                None => LeaderEpoch(partition.committed_leader_epoch),
                            },
                            metadata,
                            committed_ms: now.wall_ms,
                            expires_ms,
                        }),
                    });
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
            let topic =
                |(topic, places): (&String, &std::collections::BTreeMap<i32, Committed>)| {
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
                found.insert(index, known.and_then(|known| known.get(&index)).cloned());
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
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let in_use = group.classic.may_read(&topic.name);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                let index = partition.partition_index;
                let known = group.places.get(&topic.name).is_some_and(|p| p.contains_key(&index));
                if known && !in_use {
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
    pub(super) fn forget_topics(&mut self, topics: &[String], out: &mut Decision) {
        for (id, group) in &self.groups {
            for topic in topics {
                let places = group.places.get(topic).into_iter().flatten();
                out.records.extend(places.map(|(index, _)| forgotten(id, topic, *index)));
            }
        }
    }

    /// The topics that any group has offsets of.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.groups.values().flat_map(|group| group.places.keys().map(String::as_str))
    }

    /// Forgets offsets that are too old (KIP-211), and groups without members of which nothing else
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

impl Group {
    /// Takes out one offset.
    pub(super) fn take_place(&mut self, topic: &str, partition: i32) -> Option<Committed> {
        let places = self.places.get_mut(topic)?;
        let taken = places.remove(&partition);
        if places.is_empty() {
            self.places.remove(topic);
        }
        taken
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
