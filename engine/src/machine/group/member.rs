//! One member of a classic group.

use super::command::{Join, Now, Ticket};
use super::record::RecordedMember;
use crate::wire::api::JoinGroupRequestProtocol;

/// A member, and what it waits for.
#[derive(Clone, Debug)]
pub struct Member {
    /// A static member's own name (KIP-345).
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// How long it may be silent, in ms.
    pub session_ms: i32,
    /// How long a rebalance waits for it, in ms.
    pub rebalance_ms: i32,
    /// The strategies it can do, the preferred one first, each with what the member says for it.
    pub protocols: Vec<JoinGroupRequestProtocol>,
    /// Its share in the generation that is in force.
    pub assignment: Vec<u8>,
    /// Its join that waits for the next generation.
    pub joining: Option<Ticket>,
    /// Its sync that waits for the leader's.
    pub syncing: Option<Ticket>,
    /// Whether it has yet to ask for its share of the present generation.
    pub sync_owed: bool,
    /// Whether it has not been in any generation yet: then nothing has told it its id, it cannot
    /// send heartbeats, and its join alone is given a time.
    pub is_new: bool,
    /// When it counts as gone unless heard of, in ms of monotonic time. Who waits for an answer is
    /// not expected to be heard.
    pub silent_at: Option<u64>,
}

impl Member {
    /// The member that `join` makes.
    pub fn new(join: &Join) -> Member {
        Member {
            instance: join.request.group_instance_id.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            session_ms: join.request.session_timeout_ms,
            rebalance_ms: rebalance_ms(join),
            protocols: join.request.protocols.clone(),
            assignment: Vec::new(),
            joining: Some(join.ticket),
            syncing: None,
            sync_owed: false,
            is_new: true,
            silent_at: None,
        }
    }

    /// The member that a record names.
    pub fn of(recorded: &RecordedMember, protocol: Option<&str>, now: Now) -> Member {
        let mut member = Member {
            instance: recorded.instance.clone(),
            client_id: recorded.client_id.clone(),
            client_host: recorded.client_host.clone(),
            session_ms: recorded.session_ms,
            rebalance_ms: recorded.rebalance_ms,
            protocols: vec![JoinGroupRequestProtocol {
                name: protocol.unwrap_or_default().to_owned(),
                metadata: recorded.subscription.clone(),
            }],
            assignment: recorded.assignment.clone(),
            joining: None,
            syncing: None,
            sync_owed: false,
            is_new: false,
            silent_at: None,
        };
        member.heard(now);
        member
    }

    /// Takes over what a further join says. Returns a join that is superseded by it.
    pub fn join_again(&mut self, join: &Join) -> Option<Ticket> {
        self.session_ms = join.request.session_timeout_ms;
        self.rebalance_ms = rebalance_ms(join);
        self.protocols.clone_from(&join.request.protocols);
        self.client_id.clone_from(&join.client_id);
        self.client_host.clone_from(&join.client_host);
        self.joining.replace(join.ticket)
    }

    /// It has been heard of: a whole session begins.
    pub fn heard(&mut self, now: Now) {
        self.silent_at = Some(now.monotonic_ms + millis(self.session_ms));
    }

    /// Whether it is to be sent away at this time.
    pub fn is_silent(&self, now: Now) -> bool {
        self.silent_at.is_some_and(|at| at <= now.monotonic_ms)
    }

    /// Whether it waits for an answer, which is a sign of life.
    pub fn is_waiting(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    /// What it says for `protocol`.
    pub fn metadata(&self, protocol: &str) -> &[u8] {
        let found = self.protocols.iter().find(|one| one.name == protocol);
        found.map_or(&[], |one| &one.metadata)
    }

    /// Whether it can do `protocol`.
    pub fn can(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|one| one.name == protocol)
    }
}

/// How long a rebalance waits for the member; version 0 does not say.
fn rebalance_ms(join: &Join) -> i32 {
    match join.request.rebalance_timeout_ms {
        ..0 => join.request.session_timeout_ms,
        given => given,
    }
}

/// A time-out of a request in ms; negative ones are none.
pub fn millis(ms: i32) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}
