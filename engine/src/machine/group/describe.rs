//! Groups seen from outside, and their end.

use super::classic::State;
use super::command::{Decision, Listed, Reply, Ticket};
use super::record::Record;
use super::{Group, Groups};
use crate::id::PartitionIndex;
use crate::wire::api::{DescribedGroup, DescribedGroupMember};
use crate::wire::code::ErrorCode;

impl Groups {
    pub(super) fn list(&self) -> Vec<Listed> {
        let list = |(id, group): (&String, &Group)| Listed {
            group: id.clone(),
            protocol_type: group.classic.protocol_type.clone().unwrap_or_default(),
            state: group.classic.state_name(),
        };
        self.groups.iter().map(list).collect()
    }

    /// The group as DescribeGroups shows it; one that does not exist is `Dead`, as in Kafka.
    pub(super) fn describe(&self, id: &str) -> DescribedGroup {
        let Some(group) = self.groups.get(id) else {
            return DescribedGroup {
                error_code: ErrorCode::GroupIdNotFound.code(),
                error_message: Some(format!("Group {id} not found.")),
                group_id: id.to_owned(),
                group_state: "Dead".to_owned(),
                ..DescribedGroup::default()
            };
        };
        let classic = &group.classic;
        // Between two generations neither strategy nor shares mean anything.
        let stable = classic.state == State::Stable;
        let protocol = classic.protocol.as_deref().filter(|_| stable).unwrap_or_default();
        let members = classic.members.iter().map(|(id, member)| DescribedGroupMember {
            member_id: id.clone(),
            group_instance_id: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            member_metadata: member.metadata(protocol).to_vec(),
            member_assignment: if stable { member.assignment.clone() } else { Vec::new() },
        });
        DescribedGroup {
            group_id: id.to_owned(),
            group_state: classic.state_name().to_owned(),
            protocol_type: classic.protocol_type.clone().unwrap_or_default(),
            protocol_data: protocol.to_owned(),
            members: members.collect(),
            ..DescribedGroup::default()
        }
    }

    pub(super) fn delete(&mut self, ticket: Ticket, id: &str, out: &mut Decision) {
        let code = match self.groups.get_mut(id) {
            None => ErrorCode::GroupIdNotFound,
            Some(group) if !group.classic.is_empty() => ErrorCode::NonEmptyGroup,
            Some(group) => {
                // Ids that were promised are promised to a group that is gone.
                group.classic.promised.clear();
                group.bury(id, out);
                ErrorCode::None
            }
        };
        out.reply(ticket, Reply::Code(code));
    }
}

impl Group {
    /// The records that leave nothing of the group.
    pub(super) fn bury(&self, id: &str, out: &mut Decision) {
        for (topic, partitions) in &self.places {
            out.records.extend(partitions.keys().map(|partition| Record::Committed {
                group: id.to_owned(),
                topic: topic.clone(),
                partition: PartitionIndex(*partition),
                place: None,
            }));
        }
        // Also for a group that has never been recorded: nothing of it may stay.
        out.records.push(Record::Generation { group: id.to_owned(), generation: None });
    }
}
