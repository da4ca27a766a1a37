//! Consumer groups, rule by rule, and under random clients: whatever they do and whenever the
//! coordinator dies, shares and offsets stay what they were promised to be.

use std::collections::BTreeMap;

use super::*;
use crate::id::{Offset, PartitionIndex, TopicId};
use crate::wire::api::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
    LeaveGroupRequest, MemberIdentity, OffsetCommitRequest, OffsetCommitRequestPartition,
    OffsetCommitRequestTopic, OffsetDeleteRequest, OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic, SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};
use crate::wire::code::ErrorCode;
use crate::wire::subscription::Subscription;

mod memory;
mod random;

const GROUP: &str = "g";
const SESSION_MS: i32 = 10_000;
const DELAY_MS: u64 = 3_000;

fn settings() -> Settings {
    Settings {
        session_ms_min: 6_000,
        session_ms_max: 1_800_000,
        members_max: 5,
        initial_delay_ms: DELAY_MS,
        group_bytes_max: 1 << 20,
        metadata_bytes_max: 10,
        retention_ms: 7 * 24 * 3_600_000,
        expiry_interval_ms: 600_000,
    }
}

/// A machine with its log: what a host does, but in one step.
struct Desk {
    groups: Groups,
    log: Vec<Record>,
    now: Now,
    tickets: u64,
    open: BTreeSet<Ticket>,
    answers: BTreeMap<Ticket, Reply>,
}

impl Desk {
    fn new() -> Desk {
        let mut desk = Desk {
            groups: Groups::new(settings()),
            log: Vec::new(),
            now: Now { monotonic_ms: 1_000, wall_ms: 1_700_000_000_000 },
            tickets: 0,
            open: BTreeSet::new(),
            answers: BTreeMap::new(),
        };
        desk.groups.loaded(desk.now);
        desk
    }

    fn take(&mut self, decision: Decision) {
        for record in decision.records {
            let read = Record::decode(&record.key(), record.value().as_deref(), record.topic_id());
            assert_eq!(read.as_ref(), Ok(&record), "GROUP-3: records survive their bytes");
            self.groups.apply(record.clone());
            self.log.push(record);
        }
        for (ticket, reply) in decision.replies {
            assert!(self.open.remove(&ticket), "GROUP-4: answered once");
            self.answers.insert(ticket, reply);
        }
        memory::check(&self.groups);
    }

    fn ask(&mut self, command: impl FnOnce(Ticket) -> Command) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.open.insert(ticket);
        let decision = self.groups.decide(self.now, command(ticket));
        self.take(decision);
        ticket
    }

    fn answer(&mut self, command: impl FnOnce(Ticket) -> Command) -> Reply {
        let ticket = self.ask(command);
        self.answers.remove(&ticket).expect("an answer at once")
    }

    /// Lets time pass, with every alarm at its time.
    fn pass(&mut self, ms: u64) {
        let end = self.now.monotonic_ms + ms;
        while let Some(at) = self.groups.wake_at().filter(|at| *at <= end) {
            let at = at.max(self.now.monotonic_ms);
            self.now.wall_ms += i64::try_from(at - self.now.monotonic_ms).expect("short");
            self.now.monotonic_ms = at;
            let decision = self.groups.tick(self.now);
            self.take(decision);
            assert!(self.groups.wake_at().is_none_or(|next| next > at), "a tick does what is due");
        }
        self.now.wall_ms += i64::try_from(end - self.now.monotonic_ms).expect("short");
        self.now.monotonic_ms = end;
    }

    /// The coordinator dies and another one reads its log. Nobody is answered any more.
    fn crash(&mut self) {
        let before = std::mem::replace(&mut self.groups, Groups::new(settings()));
        for record in self.log.clone() {
            self.groups.apply(record);
        }
        self.groups.loaded(self.now);
        memory::check(&self.groups);
        self.open.clear();
        assert_eq!(self.groups.places, before.places, "GROUP-3");
        for (id, group) in &before.groups {
            let same = self.groups.groups.get(id);
            if group.recorded.is_some() || !group.places.is_empty() {
                let same = same.expect("GROUP-3: what was recorded is there");
                assert_eq!(same.recorded, group.recorded, "GROUP-3");
                assert_eq!(same.places, group.places, "GROUP-3");
            } else {
                assert!(same.is_none(), "GROUP-3: what was not recorded is not there");
            }
        }
    }

    fn state(&self) -> &'static str {
        self.groups.groups.get(GROUP).map_or("Dead", |group| group.classic.state_name())
    }

    fn join(&mut self, who: &Who) -> Ticket {
        self.join_to(GROUP, who)
    }

    fn join_to(&mut self, group: &str, who: &Who) -> Ticket {
        let request = JoinGroupRequest { group_id: group.into(), ..who.join() };
        let fresh = format!("{}", self.tickets);
        self.ask(|ticket| {
            Command::Join(Box::new(Join {
                ticket,
                request,
                version: who.version,
                client_id: "client".into(),
                client_host: "/127.0.0.1".into(),
                fresh,
            }))
        })
    }

    fn joined(&mut self, ticket: Ticket) -> JoinGroupResponse {
        match self.answers.remove(&ticket) {
            Some(Reply::Joined(response)) => *response,
            other => panic!("not joined: {other:?}"),
        }
    }

    /// Asks for an id and joins with it.
    fn enter(&mut self, who: &mut Who) -> Ticket {
        let ticket = self.join(who);
        let told = self.joined(ticket);
        assert_eq!(told.error_code, ErrorCode::MemberIdRequired.code());
        who.id = told.member_id;
        self.join(who)
    }

    fn sync(&mut self, id: &str, generation: i32, shares: &[(&str, &[u8])]) -> Ticket {
        let share = |(id, share): &(&str, &[u8])| SyncGroupRequestAssignment {
            member_id: (*id).to_owned(),
            assignment: share.to_vec(),
        };
        let request = SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: generation,
            member_id: id.into(),
            assignments: shares.iter().map(share).collect(),
            ..SyncGroupRequest::default()
        };
        self.ask(|ticket| Command::Sync { ticket, request })
    }

    fn synced(&mut self, ticket: Ticket) -> SyncGroupResponse {
        match self.answers.remove(&ticket) {
            Some(Reply::Synced(response)) => response,
            other => panic!("not synced: {other:?}"),
        }
    }

    fn beat(&mut self, id: &str, generation: i32) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: GROUP.into(),
            generation_id: generation,
            member_id: id.into(),
            group_instance_id: None,
        };
        match self.answer(|ticket| Command::Heartbeat { ticket, request }) {
            Reply::Code(code) => code,
            other => panic!("not a code: {other:?}"),
        }
    }

    fn leave(&mut self, id: &str, instance: Option<&str>) -> i16 {
        let identity = MemberIdentity {
            member_id: id.into(),
            group_instance_id: instance.map(str::to_owned),
            reason: None,
        };
        let request = LeaveGroupRequest {
            group_id: GROUP.into(),
            members: vec![identity],
            ..LeaveGroupRequest::default()
        };
        match self.answer(|ticket| Command::Leave { ticket, request }) {
            Reply::Left(response) => response.members[0].error_code,
            other => panic!("not left: {other:?}"),
        }
    }

    fn commit(&mut self, id: &str, generation: i32, offset: i64) -> ErrorCode {
        self.commit_with(id, generation, offset, "", -1)
    }

    fn commit_with(
        &mut self,
        id: &str,
        generation: i32,
        offset: i64,
        text: &str,
        retention_ms: i64,
    ) -> ErrorCode {
        let partition = OffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            committed_leader_epoch: 3,
            committed_metadata: Some(text.into()),
        };
        let topic = OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![partition],
            ..OffsetCommitRequestTopic::default()
        };
        let request = OffsetCommitRequest {
            group_id: GROUP.into(),
            generation_id_or_member_epoch: generation,
            member_id: id.into(),
            retention_time_ms: retention_ms,
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        match self.answer(|ticket| Command::Commit { ticket, request }) {
            Reply::Committed(response) => {
                let code = response.topics[0].partitions[0].error_code;
                ErrorCode::from_code(code).expect("a code")
            }
            other => panic!("not committed: {other:?}"),
        }
    }

    fn committed(&mut self) -> Option<i64> {
        let wanted = Some(vec![("t".to_owned(), vec![0])]);
        match self.answer(|ticket| Command::Places { ticket, group: GROUP.into(), wanted }) {
            Reply::Places(places) => places["t"][&0].as_ref().map(|place| place.offset.0),
            other => panic!("no offsets: {other:?}"),
        }
    }

    fn delete(&mut self) -> ErrorCode {
        match self.answer(|ticket| Command::Delete { ticket, group: GROUP.into() }) {
            Reply::Code(code) => code,
            other => panic!("not a code: {other:?}"),
        }
    }

    fn forget(&mut self) -> (i16, Option<i16>) {
        let partition = OffsetDeleteRequestPartition { partition_index: 0 };
        let topic = OffsetDeleteRequestTopic { name: "t".into(), partitions: vec![partition] };
        let request = OffsetDeleteRequest { group_id: GROUP.into(), topics: vec![topic] };
        match self.answer(|ticket| Command::Forget { ticket, request }) {
            Reply::Forgotten(response) => {
                let topics = &response.topics;
                (response.error_code, topics.first().map(|topic| topic.partitions[0].error_code))
            }
            other => panic!("not forgotten: {other:?}"),
        }
    }
}

/// Somebody who joins.
#[derive(Clone)]
struct Who {
    id: String,
    instance: Option<&'static str>,
    version: i16,
    session_ms: i32,
    rebalance_ms: i32,
    kind: &'static str,
    protocols: Vec<(&'static str, Vec<u8>)>,
}

fn somebody() -> Who {
    let subscription =
        Subscription { topics: vec!["t".into()], generation: -1, ..Subscription::default() };
    Who {
        id: String::new(),
        instance: None,
        version: 9,
        session_ms: SESSION_MS,
        rebalance_ms: 60_000,
        kind: "consumer",
        protocols: vec![("range", subscription.to_bytes())],
    }
}

fn named(instance: &'static str) -> Who {
    Who { instance: Some(instance), ..somebody() }
}

impl Who {
    fn join(&self) -> JoinGroupRequest {
        let protocol = |(name, metadata): &(&str, Vec<u8>)| JoinGroupRequestProtocol {
            name: (*name).to_owned(),
            metadata: metadata.clone(),
        };
        JoinGroupRequest {
            group_id: GROUP.into(),
            session_timeout_ms: self.session_ms,
            rebalance_timeout_ms: self.rebalance_ms,
            member_id: self.id.clone(),
            group_instance_id: self.instance.map(str::to_owned),
            protocol_type: self.kind.into(),
            protocols: self.protocols.iter().map(protocol).collect(),
            reason: None,
        }
    }
}

/// A stable group of `count` members, the leader first.
fn stable(desk: &mut Desk, count: usize) -> Vec<Who> {
    let mut members = vec![somebody(); count];
    let tickets: Vec<Ticket> = members.iter_mut().map(|who| desk.enter(who)).collect();
    desk.pass(DELAY_MS * 2);
    let joined: Vec<_> = tickets.into_iter().map(|ticket| desk.joined(ticket)).collect();
    let leader = joined[0].leader.clone();
    members.sort_by_key(|who| who.id != leader);
    let generation = joined[0].generation_id;
    settle(desk, &members, generation);
    members
}

/// Everybody asks for the share, the leader last; each gets its own id.
fn settle(desk: &mut Desk, members: &[Who], generation: i32) {
    let shares: Vec<_> = members.iter().map(|who| (who.id.as_str(), who.id.as_bytes())).collect();
    let mut tickets = Vec::new();
    for who in members.iter().skip(1) {
        tickets.push((who, desk.sync(&who.id, generation, &[])));
    }
    tickets.push((&members[0], desk.sync(&members[0].id, generation, &shares)));
    for (who, ticket) in tickets {
        let synced = desk.synced(ticket);
        assert_eq!(synced.error_code, 0);
        assert_eq!(synced.assignment, who.id.as_bytes());
    }
    assert_eq!(desk.state(), "Stable");
}

#[test]
fn members_that_start_together_share_the_first_generation() {
    let mut desk = Desk::new();
    let (mut one, mut two) = (somebody(), somebody());
    let first = desk.enter(&mut one);
    assert_eq!(desk.state(), "PreparingRebalance");
    desk.pass(DELAY_MS - 1);
    let second = desk.enter(&mut two);
    desk.pass(1);
    assert!(desk.answers.is_empty(), "somebody came: the beginning is put off");
    desk.pass(DELAY_MS);
    let (first, second) = (desk.joined(first), desk.joined(second));
    assert_eq!((first.generation_id, second.generation_id), (1, 1));
    assert_eq!(first.leader, one.id);
    assert_eq!(first.members.len(), 2);
    assert_eq!((second.leader, second.members.len()), (one.id.clone(), 0));
    assert_eq!(first.protocol_name.as_deref(), Some("range"));
    settle(&mut desk, &[one, two], 1);
}

#[test]
fn a_beginning_is_put_off_for_no_longer_than_a_rebalance() {
    let mut desk = Desk::new();
    for _ in 0..30 {
        let mut who = Who { rebalance_ms: 10_000, ..somebody() };
        if desk.groups.groups.get(GROUP).is_none_or(|group| group.classic.members.len() < 4) {
            desk.enter(&mut who);
        }
        desk.pass(2_900);
        if desk.state() == "CompletingRebalance" {
            assert!(desk.now.monotonic_ms <= 1_000 + 10_000 + 2_900);
            return;
        }
    }
    panic!("it never began");
}

#[test]
fn a_new_member_makes_all_join_again_and_the_silent_ones_are_sent_away() {
    let mut desk = Desk::new();
    let old = stable(&mut desk, 2);
    let mut new = somebody();
    let ticket = desk.enter(&mut new);
    assert_eq!(desk.beat(&old[0].id, 1), ErrorCode::RebalanceInProgress);
    let again = desk.join(&old[0]);
    assert!(desk.answers.is_empty(), "the other one is still waited for");
    // It is never heard of again.
    desk.pass(u64::try_from(SESSION_MS).expect("positive"));
    let (new_joined, again) = (desk.joined(ticket), desk.joined(again));
    assert_eq!(again.generation_id, 2);
    assert_eq!(new_joined.generation_id, 2);
    assert_eq!(desk.beat(&old[1].id, 2), ErrorCode::UnknownMemberId);
    assert_eq!(desk.beat(&old[0].id, 1), ErrorCode::IllegalGeneration);
    assert_eq!(desk.beat(&old[0].id, 2), ErrorCode::None);
    settle(&mut desk, &[old[0].clone(), new], 2);
}

#[test]
fn a_sync_that_a_rebalance_overtakes_is_refused_and_never_empty() {
    let mut desk = Desk::new();
    let (mut one, mut two) = (somebody(), somebody());
    let tickets = [desk.enter(&mut one), desk.enter(&mut two)];
    desk.pass(2 * DELAY_MS);
    let leader = desk.joined(tickets[0]).leader;
    let follower = if leader == one.id { &two } else { &one };
    let sync = desk.sync(&follower.id, 1, &[]);
    let mut three = somebody();
    desk.enter(&mut three);
    let refused = desk.synced(sync);
    assert_eq!(refused.error_code, ErrorCode::RebalanceInProgress.code());
    let late = desk.sync(&leader, 1, &[]);
    assert_eq!(desk.synced(late).error_code, ErrorCode::RebalanceInProgress.code());
    assert!(desk.log.is_empty(), "GROUP-1: an assignment of the past is not recorded");
}

#[test]
fn a_leader_that_never_assigns_is_replaced() {
    let mut desk = Desk::new();
    let (mut one, mut two) = (somebody(), somebody());
    let tickets = [desk.enter(&mut one), desk.enter(&mut two)];
    desk.pass(2 * DELAY_MS);
    let leader = desk.joined(tickets[0]).leader;
    let follower = if leader == one.id { two } else { one };
    let sync = desk.sync(&follower.id, 1, &[]);
    for _ in 0..30 {
        desk.pass(2_000);
        desk.beat(&leader, 1);
    }
    let refused = desk.synced(sync);
    assert_eq!(refused.error_code, ErrorCode::RebalanceInProgress.code());
    assert_eq!(desk.beat(&leader, 1), ErrorCode::UnknownMemberId);
    let ticket = desk.join(&follower);
    let joined = desk.joined(ticket);
    assert_eq!((joined.generation_id, joined.leader), (2, follower.id.clone()));
}

#[test]
fn a_static_member_comes_back_to_its_share_and_fences_its_former_self() {
    let mut desk = Desk::new();
    let (mut one, mut two) = (named("a"), named("b"));
    let tickets = [desk.join(&one), desk.join(&two)];
    desk.pass(2 * DELAY_MS);
    one.id = desk.joined(tickets[0]).member_id;
    let joined = desk.joined(tickets[1]);
    two.id = joined.member_id.clone();
    let mut members = [one.clone(), two.clone()];
    members.sort_by_key(|who| who.id != joined.leader);
    settle(&mut desk, &members, 1);
    let [leader, follower] = members;

    // The follower starts again: no rebalance.
    let again = Who { id: String::new(), ..follower.clone() };
    let ticket = desk.join(&again);
    let joined = desk.joined(ticket);
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_ne!(joined.member_id, follower.id);
    let instance = follower.instance;
    let mut beat = HeartbeatRequest {
        group_id: GROUP.into(),
        generation_id: 1,
        member_id: follower.id.clone(),
        group_instance_id: instance.map(str::to_owned),
    };
    let request = beat.clone();
    let fenced = desk.answer(|ticket| Command::Heartbeat { ticket, request });
    assert_eq!(fenced, Reply::Code(ErrorCode::FencedInstanceId));
    // It keeps the share that its former self had, after a crash as well.
    for _ in 0..2 {
        let ticket = desk.sync(&joined.member_id, 1, &[]);
        assert_eq!(desk.synced(ticket).assignment, follower.id.as_bytes());
        beat.member_id.clone_from(&joined.member_id);
        let request = beat.clone();
        let alive = desk.answer(|ticket| Command::Heartbeat { ticket, request });
        assert_eq!(alive, Reply::Code(ErrorCode::None));
        desk.crash();
    }

    // The leader starts again: told to keep its hands off, or that another one leads.
    let again = Who { id: String::new(), ..leader.clone() };
    let ticket = desk.join(&again);
    let joined = desk.joined(ticket);
    assert!(joined.skip_assignment);
    assert_eq!((joined.leader, joined.members.len()), (joined.member_id.clone(), 2));
    let ticket = desk.join(&Who { version: 8, ..again });
    let older = desk.joined(ticket);
    assert!(!older.skip_assignment);
    assert_eq!(older.leader, joined.member_id, "its former self");
    assert_eq!(older.members.len(), 0);

    // An operator sends it away by its name.
    assert_eq!(desk.leave("", Some("nobody")), ErrorCode::UnknownMemberId.code());
    assert_eq!(desk.leave("", leader.instance), 0);
    assert_eq!(desk.state(), "PreparingRebalance");
}

#[test]
fn members_are_what_they_say() {
    let mut desk = Desk::new();
    let refused = |desk: &mut Desk, who: Who| {
        let ticket = desk.join(&who);
        ErrorCode::from_code(desk.joined(ticket).error_code).expect("a code")
    };
    for session_ms in [5_999, 1_800_001] {
        let who = Who { session_ms, ..somebody() };
        assert_eq!(refused(&mut desk, who), ErrorCode::InvalidSessionTimeout);
    }
    let who = Who { id: "nobody".into(), ..somebody() };
    assert_eq!(refused(&mut desk, who), ErrorCode::UnknownMemberId);
    let who = Who { protocols: Vec::new(), ..somebody() };
    assert_eq!(refused(&mut desk, who), ErrorCode::InconsistentGroupProtocol);
    assert!(desk.groups.groups.is_empty(), "nothing is left of what was refused");

    let members = stable(&mut desk, 5);
    assert_eq!(refused(&mut desk, somebody()), ErrorCode::GroupMaxSizeReached);
    assert_eq!(desk.leave(&members[4].id, None), 0);
    let who = Who { kind: "connect", ..somebody() };
    assert_eq!(refused(&mut desk, who), ErrorCode::InconsistentGroupProtocol);
    let who = Who { protocols: vec![("other", Vec::new())], ..somebody() };
    assert_eq!(refused(&mut desk, who), ErrorCode::InconsistentGroupProtocol);
    let who = Who { instance: Some("x"), ..members[0].clone() };
    assert_eq!(refused(&mut desk, who), ErrorCode::UnknownMemberId);
}

#[test]
fn groups_of_other_kinds_come_back_unchanged() {
    let mut desk = Desk::new();
    let mut who =
        Who { kind: "connect", protocols: vec![("sessioned", vec![0, 255, 7])], ..somebody() };
    let ticket = desk.enter(&mut who);
    desk.pass(DELAY_MS);
    let joined = desk.joined(ticket);
    assert_eq!(joined.protocol_type.as_deref(), Some("connect"));
    assert_eq!(joined.members[0].metadata, [0, 255, 7]);
    let ticket = desk.sync(&who.id, 1, &[(&who.id, &[9, 9])]);
    assert_eq!(desk.synced(ticket).assignment, [9, 9]);
    desk.crash();
    let described = match desk.answer(|ticket| Command::Describe { ticket, group: GROUP.into() }) {
        Reply::Described(described) => *described,
        other => panic!("{other:?}"),
    };
    assert_eq!((&*described.group_state, &*described.protocol_type), ("Stable", "connect"));
    assert_eq!(described.protocol_data, "sessioned");
    assert_eq!(described.members[0].member_metadata, [0, 255, 7]);
    assert_eq!(described.members[0].member_assignment, [9, 9]);
    assert_eq!(described.members[0].client_host, "/127.0.0.1");
    let listed = desk.answer(|ticket| Command::List { ticket });
    let one = Listed { group: GROUP.into(), protocol_type: "connect".into(), state: "Stable" };
    assert_eq!(listed, Reply::Listed(vec![one]));
    assert_eq!(desk.forget(), (ErrorCode::NonEmptyGroup.code(), None));
}

#[test]
fn the_strategy_is_one_that_all_can_do_and_most_prefer() {
    let mut desk = Desk::new();
    let with = |names: &[&'static str]| Who {
        protocols: names.iter().map(|name| (*name, Vec::new())).collect(),
        ..somebody()
    };
    let mut members = [
        with(&["mine", "sticky", "range"]),
        with(&["range", "sticky"]),
        with(&["sticky", "range"]),
    ];
    let tickets: Vec<_> = members.iter_mut().map(|who| desk.enter(who)).collect();
    desk.pass(3 * DELAY_MS);
    for ticket in tickets {
        assert_eq!(desk.joined(ticket).protocol_name.as_deref(), Some("sticky"));
    }
}

#[test]
fn commits_come_from_the_present_generation_or_from_nobody() {
    let mut desk = Desk::new();
    assert_eq!(desk.commit("", 4, 1), ErrorCode::IllegalGeneration);
    assert_eq!(desk.committed(), None);
    assert_eq!(desk.commit("", -1, 1), ErrorCode::None, "nobody is in the group");
    assert_eq!(desk.committed(), Some(1));
    // As Kafka counts: the half characters of Java.
    for (metadata, code) in [
        ("01234567890", ErrorCode::OffsetMetadataTooLarge),
        ("äöüäöüäöüä", ErrorCode::None),
        ("😀😀😀😀😀", ErrorCode::None),
        ("😀😀😀😀😀!", ErrorCode::OffsetMetadataTooLarge),
    ] {
        assert_eq!(desk.commit_with("", -1, 1, metadata, -1), code, "{metadata}");
    }

    let members = stable(&mut desk, 2);
    assert_eq!(desk.commit("", -1, 9), ErrorCode::UnknownMemberId);
    assert_eq!(desk.commit(&members[0].id, 0, 9), ErrorCode::IllegalGeneration);
    assert_eq!(desk.commit("nobody", 1, 9), ErrorCode::UnknownMemberId);
    assert_eq!(desk.commit(&members[0].id, 1, 2), ErrorCode::None);
    // While others join, the old owner may still say how far it came.
    let mut new = somebody();
    desk.enter(&mut new);
    assert_eq!(desk.commit(&members[1].id, 1, 3), ErrorCode::None);
    assert_eq!(desk.committed(), Some(3));
    for who in &members {
        desk.join(who);
    }
    assert_eq!(desk.state(), "CompletingRebalance");
    assert_eq!(desk.commit(&members[1].id, 2, 4), ErrorCode::RebalanceInProgress);
    assert_eq!(desk.commit(&members[1].id, 1, 4), ErrorCode::IllegalGeneration);
    desk.crash();
    assert_eq!(desk.committed(), Some(3));
}

#[test]
fn offsets_expire_when_nobody_uses_them() {
    const WEEK_MS: u64 = 7 * 24 * 3_600_000;
    const LOOK_MS: u64 = 600_000;
    let mut desk = Desk::new();
    // A consumer without a group: the age of the commit counts.
    assert_eq!(desk.commit("", -1, 1), ErrorCode::None);
    desk.pass(WEEK_MS - LOOK_MS);
    assert_eq!(desk.committed(), Some(1));
    desk.pass(2 * LOOK_MS);
    assert_eq!(desk.committed(), None);
    assert!(desk.groups.groups.is_empty());
    assert_eq!(desk.groups.places, 0);

    // A time of its own.
    assert_eq!(desk.commit_with("", -1, 1, "", 1_000), ErrorCode::None);
    desk.pass(LOOK_MS);
    assert_eq!(desk.committed(), None);

    // A group: the time since all have left counts.
    let members = stable(&mut desk, 1);
    assert_eq!(desk.commit(&members[0].id, 1, 7), ErrorCode::None);
    for _ in 0..10 * 24 * 360 {
        desk.pass(9_900);
        if desk.beat(&members[0].id, 1) != ErrorCode::None {
            panic!("it was heard of");
        }
    }
    assert_eq!(desk.committed(), Some(7), "it is in use");
    assert_eq!(desk.leave(&members[0].id, None), 0);
    desk.pass(WEEK_MS - LOOK_MS);
    desk.crash();
    assert_eq!(desk.committed(), Some(7));
    desk.pass(2 * LOOK_MS);
    assert_eq!(desk.committed(), None);
    assert!(desk.groups.groups.is_empty(), "nothing is left of the group");
    desk.crash();
    assert!(desk.groups.groups.is_empty());
}

#[test]
fn offsets_of_what_members_read_no_more_expire_unless_they_rebalance() {
    const WEEK_MS: u64 = 7 * 24 * 3_600_000;
    let mut desk = Desk::new();
    let elsewhere = Subscription { topics: vec!["other".into()], ..Subscription::default() };
    let patient = || Who {
        rebalance_ms: 3_600_000,
        protocols: vec![("range", elsewhere.to_bytes())],
        ..somebody()
    };
    let beat_for = |desk: &mut Desk, id: &str, generation, span_ms: u64| {
        for _ in 0..=span_ms / 9_900 {
            desk.pass(9_900);
            desk.beat(id, generation);
        }
    };
    let mut first = patient();
    let ticket = desk.enter(&mut first);
    desk.pass(2 * DELAY_MS);
    let generation = desk.joined(ticket).generation_id;
    settle(&mut desk, std::slice::from_ref(&first), generation);

    // It goes on reading, but not this topic: the age of the commit counts.
    assert_eq!(desk.commit(&first.id, generation, 7), ErrorCode::None);
    beat_for(&mut desk, &first.id, generation, WEEK_MS - 1_200_000);
    assert_eq!(desk.committed(), Some(7));
    beat_for(&mut desk, &first.id, generation, 2_400_000);
    assert_eq!(desk.committed(), None);
    assert_eq!(desk.state(), "Stable");

    // While somebody joins nobody knows yet what will be read.
    desk.enter(&mut patient());
    assert_eq!(desk.state(), "PreparingRebalance");
    assert_eq!(desk.commit_with(&first.id, generation, 8, "", 1_000), ErrorCode::None);
    beat_for(&mut desk, &first.id, generation, 1_200_000);
    assert_eq!(desk.state(), "PreparingRebalance");
    assert_eq!(desk.committed(), Some(8));
}

#[test]
fn groups_and_offsets_can_be_deleted_when_nobody_uses_them() {
    let mut desk = Desk::new();
    assert_eq!(desk.delete(), ErrorCode::GroupIdNotFound);
    assert_eq!(desk.forget(), (ErrorCode::GroupIdNotFound.code(), None));
    assert_eq!(desk.commit("", -1, 1), ErrorCode::None);
    let members = stable(&mut desk, 1);
    assert_eq!(desk.delete(), ErrorCode::NonEmptyGroup);
    assert_eq!(desk.forget(), (0, Some(ErrorCode::GroupSubscribedToTopic.code())));
    assert_eq!(desk.leave(&members[0].id, None), 0);
    assert_eq!(desk.state(), "Empty");
    assert_eq!(desk.forget(), (0, Some(0)));
    assert_eq!(desk.committed(), None);
    assert_eq!(desk.commit("", -1, 1), ErrorCode::None);
    assert_eq!(desk.delete(), ErrorCode::None);
    assert_eq!((desk.state(), desk.committed()), ("Dead", None));
    desk.crash();
    assert_eq!((desk.state(), desk.committed()), ("Dead", None));

    assert_eq!(desk.commit("", -1, 1), ErrorCode::None);
    // Of another topic that had the name it has nothing.
    let topics = vec![("t".to_owned(), Some(TopicId([1; 16])))];
    let decision = desk.groups.decide(desk.now, Command::TopicsGone { topics });
    desk.take(decision);
    assert_eq!(desk.committed(), Some(1));
    for id in [Some(TopicId::NONE), None] {
        let topics = vec![("t".to_owned(), id)];
        let decision = desk.groups.decide(desk.now, Command::TopicsGone { topics });
        desk.take(decision);
        assert_eq!((desk.state(), desk.committed()), ("Dead", None));
        assert_eq!(desk.commit("", -1, 1), ErrorCode::None);
    }
    assert_eq!(desk.delete(), ErrorCode::None);

    // Somebody who was promised an id has not come back with it yet.
    let members = stable(&mut desk, 1);
    assert_eq!(desk.leave(&members[0].id, None), 0);
    let ticket = desk.join(&somebody());
    assert_eq!(desk.joined(ticket).error_code, ErrorCode::MemberIdRequired.code());
    assert_eq!(desk.delete(), ErrorCode::None);
    assert_eq!(desk.state(), "Dead");
    desk.pass(60_000);
}

/// The setting was lowered while the coordinator was down: the group shrinks to it at once, by a
/// rebalance in which the first stay, as in Kafka.
#[test]
fn a_group_that_is_too_large_when_it_is_loaded_shrinks() {
    let mut desk = Desk::new();
    let members = stable(&mut desk, 4);
    desk.groups = Groups::new(Settings { members_max: 2, ..settings() });
    for record in desk.log.clone() {
        desk.groups.apply(record);
    }
    desk.groups.loaded(desk.now);
    assert_eq!(desk.state(), "PreparingRebalance");
    let first: Vec<Ticket> = members[1..3].iter().map(|member| desk.join(member)).collect();
    for late in [&members[0], &members[3], &somebody()] {
        let ticket = desk.join(late);
        assert_eq!(desk.joined(ticket).error_code, ErrorCode::GroupMaxSizeReached.code());
    }
    desk.pass(SESSION_MS as u64 + 1_000);
    for ticket in first {
        assert_eq!(desk.joined(ticket).error_code, 0);
    }
    let group = &desk.groups.groups[GROUP].classic;
    let left: Vec<&str> = group.members.keys().map(String::as_str).collect();
    let mut stayed: Vec<&str> = members[1..3].iter().map(|member| &*member.id).collect();
    stayed.sort_unstable();
    assert_eq!(left, stayed);
}

#[test]
fn promised_ids_keep_nobody_out_who_needs_none() {
    let mut desk = Desk::new();
    let members = stable(&mut desk, 2);
    let most = settings().members_max;
    for _ in 0..most {
        let ticket = desk.join(&somebody());
        assert_eq!(desk.joined(ticket).error_code, ErrorCode::MemberIdRequired.code());
    }
    let ticket = desk.join(&somebody());
    let refused = desk.joined(ticket).error_code;
    assert_eq!(refused, ErrorCode::GroupMaxSizeReached.code(), "there are enough promises");
    // A member of the group, a static one, and one that asks for no id all come in.
    let again = desk.join(&members[0]);
    let fixed = desk.join(&Who { instance: Some("fixed"), ..somebody() });
    let old = desk.join(&Who { version: 3, ..somebody() });
    let other = desk.join(&members[1]);
    // The round waits for those who were promised an id, for as long as their sessions last.
    desk.pass(SESSION_MS as u64 + 1_000);
    for ticket in [again, fixed, old, other] {
        assert_eq!(desk.joined(ticket).error_code, 0);
    }
}

#[test]
fn an_offset_is_found_where_it_was_committed() {
    let mut desk = Desk::new();
    assert_eq!(desk.commit_with("", -1, 5, "text", -1), ErrorCode::None);
    let all = desk.answer(|ticket| Command::Places { ticket, group: GROUP.into(), wanted: None });
    let Reply::Places(all) = all else { panic!("{all:?}") };
    let place = all["t"][&0].as_ref().expect("committed");
    assert_eq!((place.offset, &*place.metadata), (Offset(5), "text"));
    let record = Record::Committed {
        group: GROUP.into(),
        topic: "t".into(),
        partition: PartitionIndex(0),
        place: Some(place.clone()),
    };
    assert_eq!(desk.log, [record]);
    let nothing = desk.answer(|ticket| Command::Places {
        ticket,
        group: "other".into(),
        wanted: Some(vec![("t".into(), vec![0, 1])]),
    });
    let none = BTreeMap::from([(0, None), (1, None)]);
    assert_eq!(nothing, Reply::Places(BTreeMap::from([("t".into(), none)])));
}
