//! Looking after consumer groups: listing, describing with exact lag, moving, deleting.

use std::collections::{BTreeMap, BTreeSet};

use super::admin::{Admin, AdminError};
use super::consumer::{Isolation, Start, list_offset};
use super::fault::CallError;
use super::group::{Place, accepted, commit_topics, committed, coordinator};
use crate::id::{Offset, PartitionIndex};
use crate::io::Io;
use crate::wire::api::{
    DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetFetchRequest, OffsetFetchRequestGroup,
};
use crate::wire::code::ErrorCode;
use crate::wire::subscription::{PROTOCOL_TYPE, Partitions, parse_assignment};

/// A group that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub group: String,
    /// `consumer`, `connect`, ...; empty if nobody has ever joined.
    pub protocol_type: String,
    /// Its state, from brokers that tell.
    pub state: String,
}

/// A group with its members and how far it has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Its id.
    pub group: String,
    /// `Stable`, `Empty`, `PreparingRebalance`, `CompletingRebalance`, or `Dead`.
    pub state: String,
    /// `consumer`, `connect`, ...
    pub protocol_type: String,
    /// How it shares partitions out; empty between two generations.
    pub strategy: String,
    /// Its members.
    pub members: Vec<GroupMember>,
    /// Where it stands, by topic and partition: all that it has committed or reads.
    pub standings: BTreeMap<Place, Standing>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub id: String,
    /// A static member's own name.
    pub instance: Option<String>,
    /// What it calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// What it reads.
    pub partitions: Vec<Place>,
}

/// How far a group is in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The committed offset, if there is one.
    pub committed: Option<Offset>,
    /// The end of the partition, if its leader could tell.
    pub end: Option<Offset>,
    /// Who reads it.
    pub member: Option<String>,
}

impl Standing {
    /// Records that are still to be read.
    #[must_use]
    pub fn lag(&self) -> Option<i64> {
        Some((self.end?.0 - self.committed?.0).max(0))
    }
}

impl<I: Io> Admin<I> {
    /// All groups, by name.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>, AdminError> {
        self.retried(|| async {
            let response = self.cluster.call_any(&ListGroupsRequest::default()).await?;
            accepted(response.error_code)?;
            let mut groups: Vec<ListedGroup> = response
                .groups
                .into_iter()
                .map(|one| ListedGroup {
                    group: one.group_id,
                    protocol_type: one.protocol_type,
                    state: one.group_state,
                })
                .collect();
            groups.sort_by(|a, b| a.group.cmp(&b.group));
            Ok(groups)
        })
        .await
    }

    /// A group's members, and how far it is in each partition.
    ///
    /// # Errors
    /// [`AdminError`]; `GroupIdNotFound` if there is no such group.
    pub async fn describe_group(&self, group: &str) -> Result<DescribedGroup, AdminError> {
        let mut described = self.retried(|| self.describe_once(group)).await?;
        for (place, standing) in &mut described.standings {
            self.cluster.follow(&place.0);
            let end = self.retried(|| async {
                if self.cluster.partition(&place.0, place.1).is_none() {
                    self.cluster.refresh().await?;
                }
                let latest = Start::Latest;
                let level = Isolation::ReadUncommitted;
                Ok(list_offset(&self.cluster, &place.0, place.1, latest, level).await?)
            });
            match end.await {
                Ok(end) => standing.end = end.map(|(offset, _)| offset),
                // A topic that is gone has no end, and the rest is worth knowing.
                Err(error) => tracing::debug!(topic = place.0, %error, "no end is known"),
            }
        }
        Ok(described)
    }

    async fn describe_once(&self, group: &str) -> Result<DescribedGroup, AdminError> {
        let link = coordinator(&self.cluster, group).await?;
        let request = DescribeGroupsRequest {
            groups: vec![group.to_owned()],
            include_authorized_operations: false,
        };
        let mut response = link.call(&request).await?;
        let one = response.groups.pop().ok_or(CallError::Refused(ErrorCode::GroupIdNotFound))?;
        accepted(one.error_code)?;
        if one.group_state == "Dead" {
            return Err(CallError::Refused(ErrorCode::GroupIdNotFound).into());
        }
        let mut standings: BTreeMap<Place, Standing> = BTreeMap::new();
        let none = Standing { committed: None, end: None, member: None };
        let mut members = Vec::new();
        for member in one.members {
            let consumer = one.protocol_type == PROTOCOL_TYPE;
            let share = parse_assignment(&member.member_assignment).ok().filter(|_| consumer);
            let share = share.unwrap_or_default().into_iter();
            let partitions: Vec<Place> = share
                .flat_map(|(topic, indexes)| {
                    indexes.into_iter().map(move |index| (topic.clone(), index))
                })
                .collect();
            for place in &partitions {
                let standing = standings.entry(place.clone()).or_insert_with(|| none.clone());
                standing.member = Some(member.member_id.clone());
            }
            members.push(GroupMember {
                id: member.member_id,
                instance: member.group_instance_id,
                client_id: member.client_id,
                host: member.client_host,
                partitions,
            });
        }
        for place in self.committed_places(&link, group).await? {
            standings.entry(place).or_insert_with(|| none.clone());
        }
        let mut partitions = Partitions::new();
        for (topic, index) in standings.keys() {
            partitions.entry(topic.clone()).or_default().push(*index);
        }
        for (place, offset) in committed(&link, group, &partitions).await? {
            standings.entry(place).or_insert_with(|| none.clone()).committed = Some(offset);
        }
        Ok(DescribedGroup {
            group: one.group_id,
            state: one.group_state,
            protocol_type: one.protocol_type,
            strategy: one.protocol_data,
            members,
            standings,
        })
    }

    /// Every partition that the group has an offset of.
    async fn committed_places(
        &self,
        link: &super::link::Link<I>,
        group: &str,
    ) -> Result<BTreeSet<Place>, AdminError> {
        let request = OffsetFetchRequest {
            group_id: group.to_owned(),
            groups: vec![OffsetFetchRequestGroup {
                group_id: group.to_owned(),
                ..OffsetFetchRequestGroup::default()
            }],
            ..OffsetFetchRequest::default()
        };
        // The last version in which topics have names.
        let response = link.call_at_most(&request, 9, link.timeout()).await?;
        accepted(response.error_code)?;
        let mut places = BTreeSet::new();
        for topic in response.topics {
            let indexes = topic.partitions.iter().map(|one| PartitionIndex(one.partition_index));
            places.extend(indexes.map(|index| (topic.name.clone(), index)));
        }
        for group in response.groups {
            accepted(group.error_code)?;
            for topic in group.topics {
                let indexes = topic.partitions.iter();
                let indexes = indexes.map(|one| PartitionIndex(one.partition_index));
                places.extend(indexes.map(|index| (topic.name.clone(), index)));
            }
        }
        Ok(places)
    }

    /// What a group has committed of these partitions; those of which it has nothing are left out.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn group_offsets(
        &self,
        group: &str,
        places: &[Place],
    ) -> Result<BTreeMap<Place, Offset>, AdminError> {
        let mut partitions = Partitions::new();
        for (topic, index) in places {
            partitions.entry(topic.clone()).or_default().push(*index);
        }
        self.retried(|| async {
            let link = coordinator(&self.cluster, group).await?;
            Ok(committed(&link, group, &partitions).await?)
        })
        .await
    }

    /// Moves a group without members: it reads on from these offsets.
    ///
    /// # Errors
    /// [`AdminError`]; `UnknownMemberId` if the group has members.
    pub async fn seek_group(
        &self,
        group: &str,
        offsets: &[(Place, Offset)],
    ) -> Result<(), AdminError> {
        let request = OffsetCommitRequest {
            group_id: group.to_owned(),
            topics: commit_topics(offsets),
            ..OffsetCommitRequest::default()
        };
        self.retried(|| async {
            let link = coordinator(&self.cluster, group).await?;
            let response = link.call_at_most(&request, 9, link.timeout()).await?;
            for one in response.topics.iter().flat_map(|topic| &topic.partitions) {
                accepted(one.error_code)?;
            }
            Ok(())
        })
        .await
    }

    /// Deletes a group without members, and its offsets.
    ///
    /// # Errors
    /// [`AdminError`]; `NonEmptyGroup` if it has members, `GroupIdNotFound` if there is none (also
    /// if an earlier attempt of this call, whose answer was lost, deleted it).
    pub async fn delete_group(&self, group: &str) -> Result<(), AdminError> {
        let request = DeleteGroupsRequest { groups_names: vec![group.to_owned()] };
        self.retried(|| async {
            let link = coordinator(&self.cluster, group).await?;
            let response = link.call(&request).await?;
            response.results.iter().try_for_each(|one| accepted(one.error_code))?;
            Ok(())
        })
        .await
    }
}
