//! What can be asked of the groups, and what they answer.
//!
//! Commands carry Kafka's own messages: their fields are what the protocol is made of, and a copy
//! under other names would only have to be kept equal.

use std::collections::BTreeMap;

use super::record::{Committed, Record};
use crate::id::TopicId;
use crate::limit::{COORDINATOR_MEMBERS_BYTES_MAX, COORDINATOR_OFFSETS_BYTES_MAX};
use crate::wire::api::{
    DescribedGroup, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
    OffsetDeleteResponse, SyncGroupRequest, SyncGroupResponse,
};
use crate::wire::code::ErrorCode;

/// The time at which a command is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time in ms from any beginning: what time-outs go by.
    pub monotonic_ms: u64,
    /// Wall-clock time in ms since 1970: what is written down.
    pub wall_ms: i64,
}

/// Whom an answer is for. The host gives each command a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// The settings that groups obey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `group.min.session.timeout.ms`
    pub session_ms_min: i32,
    /// `group.max.session.timeout.ms`
    pub session_ms_max: i32,
    /// `group.max.size`, bounded by `limit::GROUP_MEMBERS_MAX`
    pub members_max: usize,
    /// `group.initial.rebalance.delay.ms`
    pub initial_delay_ms: u64,
    /// What all members of one group may say about themselves, and what their leader may give them,
    /// each together, in bytes: a generation is one record, and must fit into a segment.
    pub group_bytes_max: usize,
    /// `offset.metadata.max.bytes`
    pub metadata_bytes_max: usize,
    /// `offsets.retention.minutes`, in ms
    pub retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub expiry_interval_ms: u64,
}

/// What all groups of a machine may take of memory, in bytes ([`super::Weight`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Their members, once another one has joined or says more of itself.
    pub joins: usize,
    /// Their members, once they have their shares.
    pub members: usize,
    /// Their committed offsets.
    pub offsets: usize,
}

impl Default for Allowance {
    fn default() -> Self {
        Allowance {
            joins: COORDINATOR_MEMBERS_BYTES_MAX / 4 * 3,
            members: COORDINATOR_MEMBERS_BYTES_MAX,
            offsets: COORDINATOR_OFFSETS_BYTES_MAX,
        }
    }
}

/// A member that wants to join.
#[derive(Clone, Debug)]
pub struct Join {
    /// Whom to answer.
    pub ticket: Ticket,
    /// The request.
    pub request: JoinGroupRequest,
    /// Its version.
    pub version: i16,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// A random text that makes a new member's id its own.
    pub fresh: String,
}

/// Partitions by topic.
pub type Wanted = Vec<(String, Vec<i32>)>;

/// What somebody wants of a group.
#[derive(Clone, Debug)]
pub enum Command {
    /// JoinGroup; answered when the group's next generation is there.
    Join(Box<Join>),
    /// SyncGroup; answered when the leader's assignment is recorded.
    Sync {
        /// Whom to answer.
        ticket: Ticket,
        /// The request.
        request: SyncGroupRequest,
    },
    /// Heartbeat.
    Heartbeat {
        /// Whom to answer.
        ticket: Ticket,
        /// The request.
        request: HeartbeatRequest,
    },
    /// LeaveGroup, with the one member of old versions among `members`.
    Leave {
        /// Whom to answer.
        ticket: Ticket,
        /// The request.
        request: LeaveGroupRequest,
    },
    /// OffsetCommit for topics that exist, each with its name.
    Commit {
        /// Whom to answer.
        ticket: Ticket,
        /// The request.
        request: OffsetCommitRequest,
    },
    /// OffsetFetch of one group.
    Places {
        /// Whom to answer.
        ticket: Ticket,
        /// The group.
        group: String,
        /// The partitions; `None` for all that have an offset.
        wanted: Option<Wanted>,
    },
    /// OffsetDelete for partitions that exist.
    Forget {
        /// Whom to answer.
        ticket: Ticket,
        /// The request.
        request: OffsetDeleteRequest,
    },
    /// DeleteGroups, one of them.
    Delete {
        /// Whom to answer.
        ticket: Ticket,
        /// The group.
        group: String,
    },
    /// ListGroups.
    List {
        /// Whom to answer.
        ticket: Ticket,
    },
    /// DescribeGroups, one of them.
    Describe {
        /// Whom to answer.
        ticket: Ticket,
        /// The group.
        group: String,
    },
    /// These topics are gone, and nobody will ever read on where their offsets point.
    TopicsGone {
        /// Their names; of a name that another topic has by now, the id of the one that is gone.
        topics: Vec<(String, Option<TopicId>)>,
    },
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub group: String,
    /// `consumer`, `connect`, ...; empty if nobody has ever joined.
    pub protocol_type: String,
    /// Kafka's name of its state.
    pub state: &'static str,
}

/// Where a group stands, by topic and partition; `None` where it never committed.
pub type Places = BTreeMap<String, BTreeMap<i32, Option<Committed>>>;

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To a join.
    Joined(Box<JoinGroupResponse>),
    /// To a sync.
    Synced(SyncGroupResponse),
    /// To a heartbeat, and to a deletion.
    Code(ErrorCode),
    /// To a leave.
    Left(LeaveGroupResponse),
    /// To a commit.
    Committed(OffsetCommitResponse),
    /// To a question for offsets.
    Places(Places),
    /// To the wish to forget offsets.
    Forgotten(OffsetDeleteResponse),
    /// To a question for all groups.
    Listed(Vec<Listed>),
    /// To a question for one group.
    Described(Box<DescribedGroup>),
}

/// What a command leads to.
#[derive(Debug, Default)]
pub struct Decision {
    /// What must be applied, in order, and be durable before any of the answers leaves.
    pub records: Vec<Record>,
    /// The answers that can be given, to this command or to earlier ones.
    pub replies: Vec<(Ticket, Reply)>,
}

impl Decision {
    pub(super) fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.replies.push((ticket, reply));
    }
}

impl Command {
    /// The group that it may change.
    pub(super) fn group(&self) -> Option<&str> {
        match self {
            Command::Join(join) => Some(&join.request.group_id),
            Command::Sync { request, .. } => Some(&request.group_id),
            Command::Heartbeat { request, .. } => Some(&request.group_id),
            Command::Leave { request, .. } => Some(&request.group_id),
            Command::Commit { request, .. } => Some(&request.group_id),
            Command::Delete { group, .. } => Some(group),
            Command::Places { .. }
            | Command::Forget { .. }
            | Command::List { .. }
            | Command::Describe { .. }
            | Command::TopicsGone { .. } => None,
        }
    }

    /// Whether it may change what the group's members take of memory.
    pub(super) fn changes_members(&self) -> bool {
        !matches!(self, Command::Heartbeat { .. } | Command::Commit { .. })
    }

    /// Whom it is to be answered to.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        match self {
            Command::Join(join) => Some(join.ticket),
            Command::Sync { ticket, .. }
            | Command::Heartbeat { ticket, .. }
            | Command::Leave { ticket, .. }
            | Command::Commit { ticket, .. }
            | Command::Places { ticket, .. }
            | Command::Forget { ticket, .. }
            | Command::Delete { ticket, .. }
            | Command::List { ticket }
            | Command::Describe { ticket, .. } => Some(*ticket),
            Command::TopicsGone { .. } => None,
        }
    }
}
