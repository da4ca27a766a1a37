//! What groups take of memory is counted right, bounded, and no reason to refuse what is there already.

use super::*;
use crate::machine::group::weight;

/// The weights are those of the state.
pub(super) fn check(groups: &Groups) {
    let mut all = Weight::default();
    for (id, group) in &groups.groups {
        let keeper = if group.places.is_empty() { 0 } else { weight::keeper(id) };
        let places = group.places.iter().flat_map(|(topic, places)| {
            places.values().map(|place| weight::place(id, topic, &place.metadata))
        });
        let members = group.members_weight(id);
        let weighed = Weight { members, places: keeper + places.sum::<usize>() };
        assert_eq!(group.weight, weighed, "{id}");
        all.change(Weight::default(), weighed);
    }
    assert_eq!(groups.weight(), all);
}

fn allowing(joins: usize, members: usize, offsets: usize) -> Desk {
    let mut desk = Desk::new();
    desk.groups.allow(Allowance { joins, members, offsets });
    desk
}

fn large(kind: &'static str, bytes: usize) -> Who {
    Who { kind, protocols: vec![("a", vec![1; bytes])], version: 3, ..somebody() }
}

fn join(desk: &mut Desk, group: &str, who: &Who) -> Option<JoinGroupResponse> {
    let ticket = desk.join_to(group, who);
    desk.answers.contains_key(&ticket).then(|| desk.joined(ticket))
}

/// Has `who` join a group of his own, and tells him his id; the generation.
fn alone(desk: &mut Desk, who: &mut Who) -> i32 {
    let ticket = desk.join(who);
    desk.pass(DELAY_MS);
    let joined = desk.joined(ticket);
    who.id = joined.member_id;
    joined.generation_id
}

#[test]
fn joins_have_a_bound_together() {
    let mut desk = allowing(1_000_000, 1_000_000, 0);
    for group in 0..4 {
        // Twice what it says: it will be recorded as well.
        assert_eq!(join(&mut desk, &format!("g{group}"), &large("x", 100_000)), None);
    }
    let refused = join(&mut desk, "g4", &large("x", 100_000)).expect("an answer at once");
    assert_eq!(refused.error_code, ErrorCode::GroupMaxSizeReached.code());
    assert!(!desk.groups.groups.contains_key("g4"), "nothing of it stays");
    assert!(desk.groups.weight().members <= 1_000_000);
    // Another one for a group that is there is no better.
    let refused = join(&mut desk, "g0", &large("x", 100_000)).expect("an answer at once");
    assert_eq!(refused.error_code, ErrorCode::GroupMaxSizeReached.code());
    assert_eq!(join(&mut desk, "g5", &large("x", 1000)), None, "there is room for small ones");
    // Once they have gone, there is room.
    desk.pass(600_000);
    assert_eq!(join(&mut desk, "g6", &large("x", 100_000)), None);
}

#[test]
fn promised_ids_have_the_same_bound() {
    let mut desk = allowing(100_000, 100_000, 0);
    let who = Who { version: 4, ..somebody() };
    let mut promised = 0;
    loop {
        let answer = join(&mut desk, &format!("g{promised}"), &who).expect("an answer at once");
        if answer.error_code == ErrorCode::GroupMaxSizeReached.code() {
            break;
        }
        assert_eq!(answer.error_code, ErrorCode::MemberIdRequired.code());
        promised += 1;
    }
    assert!((20..200).contains(&promised), "{promised}");
    desk.pass(2 * SESSION_MS as u64);
    assert_eq!(desk.groups.weight(), Weight::default());
}

#[test]
fn who_is_in_joins_again_however_little_is_allowed() {
    let mut desk = Desk::new();
    let mut who = large("x", 100_000);
    let generation = alone(&mut desk, &mut who);
    let ticket = desk.sync(&who.id, generation, &[(&who.id, &[7; 1000])]);
    assert_eq!(desk.synced(ticket).error_code, 0);
    desk.groups.allow(Allowance { joins: 0, members: 0, offsets: 0 });
    // A crash takes nothing from it either.
    desk.crash();
    desk.groups.allow(Allowance { joins: 0, members: 0, offsets: 0 });
    let ticket = desk.join(&who);
    let joined = desk.joined(ticket);
    assert_eq!(joined.error_code, 0);
    let more = large("x", 100_001);
    let ticket = desk.join(&Who { id: who.id.clone(), ..more });
    assert_eq!(desk.joined(ticket).error_code, ErrorCode::GroupMaxSizeReached.code());
}

#[test]
fn shares_have_a_bound_and_an_allowance_of_their_own() {
    let mut desk = allowing(300_000, 400_000, 0);
    let mut who = large("x", 100_000);
    let generation = alone(&mut desk, &mut who);
    let refused = join(&mut desk, "other", &large("x", 50_000)).expect("an answer at once");
    assert_eq!(refused.error_code, ErrorCode::GroupMaxSizeReached.code());
    let ticket = desk.sync(&who.id, generation, &[(&who.id, &[7; 100_000])]);
    assert_eq!(desk.synced(ticket).error_code, ErrorCode::UnknownServerError.code());
    let ticket = desk.sync(&who.id, generation, &[(&who.id, &[7; 90_000])]);
    assert_eq!(desk.synced(ticket).error_code, 0);
    assert!(desk.groups.weight().members <= 400_000);
}

/// What is recorded counts until the next record, and is as large as that already.
#[test]
fn shares_that_do_not_grow_are_never_refused() {
    let mut desk = Desk::new();
    let mut who = large("x", 1000);
    let generation = alone(&mut desk, &mut who);
    let ticket = desk.sync(&who.id, generation, &[(&who.id, &[7; 90_000])]);
    assert_eq!(desk.synced(ticket).error_code, 0);
    let all = desk.groups.weight().members;
    desk.groups.allow(Allowance { joins: all, members: all, offsets: 0 });
    let ticket = desk.join(&who);
    let generation = desk.joined(ticket).generation_id;
    let ticket = desk.sync(&who.id, generation, &[(&who.id, &[7; 90_001])]);
    assert_eq!(desk.synced(ticket).error_code, ErrorCode::UnknownServerError.code());
    let ticket = desk.sync(&who.id, generation, &[(&who.id, &[7; 90_000])]);
    assert_eq!(desk.synced(ticket).error_code, 0);
    assert_eq!(desk.groups.weight().members, all);
}

/// Who says more, but less for each strategy, makes the next record smaller; the last one is there until then.
#[test]
fn a_join_takes_no_more_than_was_allowed_for_it() {
    let mut desk = Desk::new();
    let mut who = large("x", 100_000);
    let generation = alone(&mut desk, &mut who);
    let ticket = desk.sync(&who.id, generation, &[(&who.id, &[7])]);
    assert_eq!(desk.synced(ticket).error_code, 0);
    let most = desk.groups.weight().members + 60_000;
    desk.groups.allow(Allowance { joins: most, members: most, offsets: 0 });
    who.protocols = ["a", "b", "c"].map(|name| (name, vec![1; 60_000])).into();
    let ticket = desk.join(&who);
    assert_eq!(desk.joined(ticket).error_code, ErrorCode::GroupMaxSizeReached.code());
    assert!(desk.groups.weight().members <= most, "GROUP-7");
}

#[test]
fn offsets_have_a_bound_together_and_those_that_are_there_may_change() {
    let mut desk = allowing(1_000_000, 1_000_000, 3000);
    let commit = |desk: &mut Desk, group: &str, text: &str, partitions: &[i32]| -> Vec<ErrorCode> {
        let partition = |index: &i32| OffsetCommitRequestPartition {
            partition_index: *index,
            committed_offset: 7,
            committed_leader_epoch: -1,
            committed_metadata: Some(text.into()),
        };
        let topic = OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: partitions.iter().map(partition).collect(),
            ..OffsetCommitRequestTopic::default()
        };
        let request = OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        match desk.answer(|ticket| Command::Commit { ticket, request }) {
            Reply::Committed(response) => {
                let partitions = &response.topics[0].partitions;
                let code = |code| ErrorCode::from_code(code).expect("a code");
                partitions.iter().map(|one| code(one.error_code)).collect()
            }
            other => panic!("not committed: {other:?}"),
        }
    };
    let outcomes = commit(&mut desk, "g", "0123456789", &(0..20).collect::<Vec<_>>());
    let taken = outcomes.iter().filter(|code| **code == ErrorCode::None).count();
    assert!((10..20).contains(&taken), "{taken}");
    assert!(outcomes[taken..].iter().all(|code| *code == ErrorCode::InvalidCommitOffsetSize));
    assert!(desk.groups.weight().places <= 3000);
    assert_eq!(commit(&mut desk, "other", "", &[0]), [ErrorCode::InvalidCommitOffsetSize]);
    desk.groups.allow(Allowance { joins: 1_000_000, members: 1_000_000, offsets: 0 });
    assert_eq!(commit(&mut desk, "g", "9876543210", &[0]), [ErrorCode::None]);
    assert_eq!(commit(&mut desk, "g", "987654321", &[0]), [ErrorCode::None]);
    assert_eq!(commit(&mut desk, "g", "9876543210", &[0]), [ErrorCode::InvalidCommitOffsetSize]);
    // Members have an allowance of their own.
    assert_eq!(join(&mut desk, "g", &large("x", 1000)), None);
    // What was recorded is there again, however much it is.
    desk.crash();
    assert!(desk.groups.weight().places > 2000);
}

/// However often a commit names a partition, it is written once; so is what forgets it.
#[test]
fn a_partition_that_is_named_again_has_one_record() {
    let mut desk = Desk::new();
    let partition = |offset| OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_leader_epoch: -1,
        committed_metadata: None,
    };
    let topic = |offsets: std::ops::Range<i64>| OffsetCommitRequestTopic {
        name: "t".into(),
        partitions: offsets.map(partition).collect(),
        ..OffsetCommitRequestTopic::default()
    };
    let request = OffsetCommitRequest {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic(0..100), topic(100..200)],
        ..OffsetCommitRequest::default()
    };
    desk.answer(|ticket| Command::Commit { ticket, request });
    assert_eq!(desk.log.len(), 1);
    assert_eq!(desk.committed(), Some(199));
    let partition = OffsetDeleteRequestPartition { partition_index: 0 };
    let topic = OffsetDeleteRequestTopic { name: "t".into(), partitions: vec![partition; 100] };
    let request = OffsetDeleteRequest { group_id: GROUP.into(), topics: vec![topic] };
    desk.answer(|ticket| Command::Forget { ticket, request });
    assert_eq!(desk.log.len(), 2);
}

#[test]
fn strategies_cost_something_even_without_names() {
    let mut desk = Desk::new();
    let who = Who { protocols: vec![("", Vec::new()); 1000], version: 3, ..somebody() };
    let ticket = desk.join(&who);
    assert_eq!(desk.joined(ticket).error_code, ErrorCode::InvalidRequest.code());
}
