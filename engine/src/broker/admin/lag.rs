//! Where the consumer groups stand, asked of their coordinators.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::broker::Core;
use crate::broker::host::group;
use crate::io::Io;
use crate::machine::group::{Command, Reply};
use crate::machine::name::OFFSETS_TOPIC;
use crate::wire::api::DescribedGroupMember;
use crate::wire::subscription::{PROTOCOL_TYPE, parse_assignment};

/// One consumer group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its id.
    pub name: String,
    /// Kafka's name of its state.
    pub state: &'static str,
    /// What kind of members it has, such as `consumer`, and how they share out, such as `range`.
    pub protocol: (String, String),
    /// How many members it has.
    pub members: usize,
    /// How many of them have no partition, in a consumer group that is stable.
    pub idle: usize,
    /// Its committed offsets, by topic and partition.
    pub offsets: BTreeMap<String, BTreeMap<i32, i64>>,
}

/// All groups, and how many partitions of `__consumer_offsets` did not tell theirs.
pub async fn groups<I: Io>(core: &Rc<Core<I>>) -> (Vec<Group>, u64) {
    let mut groups = Vec::new();
    let mut silent = 0;
    let image = core.shared.image();
    let Some(topic) = image.topic(OFFSETS_TOPIC) else { return (groups, silent) };
    for (index, _) in topic.indexed() {
        let to = (topic.id, index);
        let command = Command::List { ticket: core.ticket() };
        let Ok(Reply::Listed(listed)) = group::ask_partition(core, to, command).await else {
            silent += 1;
            continue;
        };
        for one in listed {
            let mut found = Group {
                name: one.group,
                state: one.state,
                protocol: Default::default(),
                members: 0,
                idle: 0,
                offsets: BTreeMap::new(),
            };
            let ticket = core.ticket();
            let command = Command::Describe { ticket, group: found.name.clone() };
            if let Ok(Reply::Described(described)) = group::ask_partition(core, to, command).await {
                found.members = described.members.len();
                // What other groups share out nobody knows, nor what is being shared out anew.
                if described.protocol_type == PROTOCOL_TYPE && found.state == "Stable" {
                    found.idle = described.members.iter().filter(|one| is_idle(one)).count();
                }
                found.protocol = (described.protocol_type, described.protocol_data);
            }
            let ticket = core.ticket();
            let command = Command::Places { ticket, group: found.name.clone(), wanted: None };
            if let Ok(Reply::Places(places)) = group::ask_partition(core, to, command).await {
                for (topic, partitions) in places {
                    let offsets = partitions.into_iter();
                    let offsets = offsets.filter_map(|(one, at)| Some((one, at?.offset.0)));
                    found.offsets.insert(topic, offsets.collect());
                }
            }
            groups.push(found);
        }
    }
    (groups, silent)
}

/// Whether a member of a consumer group has no partitions.
fn is_idle(member: &DescribedGroupMember) -> bool {
    parse_assignment(&member.member_assignment)
        .is_ok_and(|share| share.values().all(|indexes| indexes.is_empty()))
}
