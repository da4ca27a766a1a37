//! Quotas: what is set is told and survives a power cut; who uses more than his share is answered at
//! once, told so, and read from later; nobody else notices.

use std::time::Duration;

use super::peer::{Peer, To, batch, fetch_request, start};
use super::{metadata, topic, with_broker};
use trialog_engine::broker::Shared;
use trialog_engine::id::{PartitionIndex, TopicId};
use trialog_engine::io::ram::{Loss, Ram};
use trialog_engine::io::{Instant, Io};
use trialog_engine::wire::api::*;
use trialog_engine::wire::code::ErrorCode;
use trialog_engine::wire::frame;
use trialog_engine::wire::produce::ProduceResponse;

type Parts<'a> = &'a [(&'a str, Option<&'a str>)];

/// Sets quotas; those below zero are removed.
pub async fn set(
    peer: &mut Peer,
    version: i16,
    entity: Parts<'_>,
    quotas: &[(&str, f64)],
    validate_only: bool,
) -> (i16, String) {
    let part = |&(kind, name): &(&str, Option<&str>)| AlteredEntity {
        entity_type: kind.to_owned(),
        entity_name: name.map(str::to_owned),
    };
    let operation = |&(key, value): &(&str, f64)| QuotaOperation {
        key: key.to_owned(),
        value,
        remove: value < 0.0,
    };
    let altered = AlteredQuotas {
        entity: entity.iter().map(part).collect(),
        ops: quotas.iter().map(operation).collect(),
    };
    let request = AlterClientQuotasRequest { entries: vec![altered.clone()], validate_only };
    let outcome = peer.call(version, &request).await.entries.remove(0);
    assert_eq!(outcome.entity, altered.entity);
    (outcome.error_code, outcome.error_message.unwrap_or_default())
}

/// What is told about entities that match, as `type=name key=value ...`.
async fn told(
    peer: &mut Peer,
    version: i16,
    components: &[(&str, i8, Option<&str>)],
    strict: bool,
) -> Result<Vec<String>, i16> {
    let component = |&(kind, match_type, name): &(&str, i8, Option<&str>)| QuotaComponent {
        entity_type: kind.to_owned(),
        match_type,
        r#match: name.map(str::to_owned),
    };
    let components = components.iter().map(component).collect();
    let answer = peer.call(version, &DescribeClientQuotasRequest { components, strict }).await;
    let Some(entries) = answer.entries else { return Err(answer.error_code) };
    let entry = |entry: DescribedQuotas| {
        let parts = entry.entity.iter().map(|part| {
            format!("{}={}", part.entity_type, part.entity_name.as_deref().unwrap_or("*"))
        });
        let values = entry.values.iter().map(|one| format!("{}={}", one.key, one.value));
        parts.chain(values).collect::<Vec<_>>().join(" ")
    };
    Ok(entries.into_iter().map(entry).collect())
}

const USER: &str = "user";
const CLIENT: &str = "client-id";
const PRODUCE: &str = "producer_byte_rate";
const FETCH: &str = "consumer_byte_rate";
const TIME: &str = "request_percentage";
const MUTATE: &str = "controller_mutation_rate";

#[test]
fn what_is_set_is_told_and_survives_a_power_cut() {
    let ram = Ram::new(7);
    let world = ram.clone();
    ram.block_on(async {
        let shared = start(&world, 2, &[]);
        let mut peer = Peer::connect(&world, &shared).await;
        assert_eq!(told(&mut peer, 0, &[], false).await, Ok(vec![]));
        let alice: Parts<'_> = &[(USER, Some("alice"))];
        let both: Parts<'_> = &[(CLIENT, Some("c")), (USER, Some("alice"))];
        let any: Parts<'_> = &[(CLIENT, None)];
        for (version, entity, quotas) in [
            (0, alice, &[(PRODUCE, 1000.0), (TIME, 12.5)][..]),
            (1, both, &[(FETCH, 5.0)][..]),
            (1, any, &[(PRODUCE, 7.0), (FETCH, 8.0)][..]),
        ] {
            assert_eq!(set(&mut peer, version, entity, quotas, false).await.0, 0);
        }
        let change = &[(PRODUCE, -1.0), (FETCH, 9.0)];
        assert_eq!(set(&mut peer, 1, any, change, true).await.0, 0, "only asked");
        let first = "user=alice producer_byte_rate=1000 request_percentage=12.5";
        let second = "user=alice client-id=c consumer_byte_rate=5";
        let third = "client-id=* producer_byte_rate=7 consumer_byte_rate=8";
        let all = told(&mut peer, 1, &[], false).await.expect("told");
        assert_eq!(all.len(), 3);
        for one in [first, second, third] {
            assert!(all.contains(&one.to_owned()), "{one}: {all:?}");
        }
        let named = (USER, 0, Some("alice"));
        assert_eq!(told(&mut peer, 1, &[named], false).await.expect("told").len(), 2);
        assert_eq!(told(&mut peer, 1, &[named], true).await, Ok(vec![first.to_owned()]));
        let default = (CLIENT, 1, None);
        assert_eq!(told(&mut peer, 0, &[default], false).await, Ok(vec![third.to_owned()]));
        let any_client = (CLIENT, 2, None);
        assert_eq!(told(&mut peer, 0, &[any_client], false).await.expect("told").len(), 2);
        assert_eq!(set(&mut peer, 1, any, change, false).await.0, 0);
    });
    let ram = ram.crash(Loss::Everything);
    let world = ram.clone();
    ram.block_on(async {
        let shared = start(&world, 1, &[]);
        let mut peer = Peer::connect(&world, &shared).await;
        let kept = told(&mut peer, 1, &[(CLIENT, 1, None)], true).await;
        assert_eq!(kept, Ok(vec!["client-id=* consumer_byte_rate=9".to_owned()]));
        let gone = set(&mut peer, 1, &[(CLIENT, None)], &[(FETCH, -1.0)], false).await;
        assert_eq!(gone.0, 0);
        assert_eq!(told(&mut peer, 1, &[], false).await.expect("told").len(), 2);
    });
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    with_broker(1, &[], async |_, _, mut peer| {
        let invalid = ErrorCode::InvalidRequest.code();
        let me: Parts<'_> = &[(CLIENT, Some("c"))];
        type Case<'a> = (Parts<'a>, &'a [(&'a str, f64)], &'a str);
        let cases: [Case<'_>; 9] = [
            (&[], &[(PRODUCE, 1.0)], "none is named"),
            (&[("ip", Some("::1"))], &[(PRODUCE, 1.0)], "quotas of addresses"),
            (&[("group", None)], &[(PRODUCE, 1.0)], "'group'"),
            (&[(USER, None), (USER, Some("a"))], &[(PRODUCE, 1.0)], "twice"),
            (&[(USER, Some(""))], &[(PRODUCE, 1.0)], "empty"),
            (me, &[("connection_creation_rate", 1.0)], "there are producer_byte_rate"),
            (me, &[(MUTATE, 0.0)], "controller_mutation_rate cannot be 0"),
            (me, &[(PRODUCE, 0.5)], "a whole one"),
            (me, &[(PRODUCE, 1.0), (PRODUCE, 2.0)], "twice"),
        ];
        for (entity, quotas, reason) in cases {
            let (code, message) = set(&mut peer, 1, entity, quotas, false).await;
            assert_eq!(code, invalid, "{reason}");
            assert!(message.contains(reason), "{message}");
        }
        assert_eq!(told(&mut peer, 1, &[], false).await, Ok(vec![]), "nothing was set");
        assert_eq!(told(&mut peer, 1, &[("ip", 2, None)], false).await, Ok(vec![]));
        for components in [
            &[("ip", 2, None), (USER, 2, None)][..],
            &[("ip", 0, None)],
            &[(USER, 0, None)],
            &[(USER, 3, None)],
            &[(USER, 2, None), (USER, 1, None)],
        ] {
            assert_eq!(told(&mut peer, 1, components, false).await, Err(invalid));
        }
    });
}

/// Sends a batch of about so many bytes, and returns for how long the answer says to wait, in ms.
pub async fn produce(peer: &mut Peer, to: &To<'_>, bytes: usize) -> i32 {
    peer.send_produce(9, to, -1, &batch(&[&"x".repeat(bytes)])).await;
    let frame = peer.receive().await.expect("an answer");
    let body = frame::response_body(&frame, ApiKey::Produce as i16, 9).expect("a header");
    let answer = ProduceResponse::decode(&frame[body..], 9).expect("an answer");
    assert_eq!(answer.topics[0].partitions[0].error, ErrorCode::None);
    answer.throttle_time_ms
}

fn ms(ram: &Ram, since: Instant) -> u128 {
    ram.now().since(since).as_millis()
}

#[test]
fn who_writes_too_much_is_answered_at_once_and_read_later_and_nobody_else_notices() {
    with_broker(2, &[], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "shared", &[]).await;
        let slow: Parts<'_> = &[(CLIENT, Some("slow"))];
        assert_eq!(set(&mut peer, 1, slow, &[(PRODUCE, 2000.0)], false).await.0, 0);
        let mut slow = Peer::connect(&ram, &shared).await;
        slow.call_itself("slow");
        let began = ram.now();
        let (mut sent, mut told_ms) = (0, 0);
        for round in 0..8_u128 {
            let sent_at = ram.now();
            told_ms = produce(&mut slow, &to, 2000).await;
            sent += 2000;
            // The answer to the first is not held back; a later request is not read before the
            // time that the answer before it told.
            assert!(round > 0 || ms(&ram, sent_at) < 50, "{}", ms(&ram, sent_at));
            assert!(round == 0 || ms(&ram, began) >= round * 1000 - 1000);
            // The other is as quick as ever, and not told to wait.
            let other = ram.now();
            assert_eq!(produce(&mut peer, &to, 4000).await, 0);
            assert!(ms(&ram, other) < 50, "{}", ms(&ram, other));
        }
        assert!((500..2000).contains(&told_ms), "{told_ms}");
        let took = ms(&ram, began);
        // Each is a little larger than its value; the first second's worth is free, and the pause
        // after the last is not waited for.
        assert!((6_100..7_500).contains(&took), "{sent} bytes at 2000 a second took {took} ms");
        // It shares with whoever calls himself the same, on whichever connection and core.
        let mut twin = Peer::connect(&ram, &shared).await;
        twin.call_itself("slow");
        assert!(produce(&mut twin, &to, 2000).await > told_ms);
        // Metadata of one that is muted waits as well: nothing is read from it.
        let asked = ram.now();
        metadata(&mut slow, 9, "shared").await;
        assert!(ms(&ram, asked) > 100);
        // Without the quota nothing is held back any more.
        let none = &[(PRODUCE, -1.0)];
        assert_eq!(set(&mut peer, 1, &[(CLIENT, Some("slow"))], none, false).await.0, 0);
        ram.sleep(Duration::from_millis(100)).await;
        let mut freed = Peer::connect(&ram, &shared).await;
        freed.call_itself("slow");
        let freed_at = ram.now();
        for _ in 0..5 {
            assert_eq!(produce(&mut freed, &to, 4000).await, 0);
        }
        assert!(ms(&ram, freed_at) < 100);
    });
}

#[test]
fn who_reads_too_much_waits_as_well() {
    with_broker(2, &[], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "read", &[]).await;
        for _ in 0..4 {
            produce(&mut peer, &to, 3000).await;
        }
        let user: Parts<'_> = &[(USER, Some("ANONYMOUS")), (CLIENT, None)];
        assert_eq!(set(&mut peer, 1, user, &[(FETCH, 4000.0)], false).await.0, 0);
        for version in [4, 12, 18] {
            let mut reader = Peer::connect(&ram, &shared).await;
            reader.call_itself(
                ["r4", "r12", "r18"][usize::from(version > 4) + usize::from(version > 12)],
            );
            let mut waits = Vec::new();
            let began = ram.now();
            for _ in 0..3 {
                reader.send_fetch(version, &fetch_request(&to, 0, 0)).await;
                let (answer, records) = reader.receive_fetch(version).await;
                assert!(records.len() > 12_000, "the data come all the same");
                waits.push(answer.throttle_time_ms);
            }
            // Three times twelve thousand bytes at four thousand a second, one second's worth free.
            assert!((1_900..2_300).contains(&waits[0]), "{waits:?}");
            assert!(waits[2] > 2_900, "{waits:?}");
            assert!((4_900..5_600).contains(&ms(&ram, began)), "{}", ms(&ram, began));
        }
        // Whom it does not concern.
        let elsewhere = To { index: PartitionIndex(2), ..to };
        let began = ram.now();
        assert_eq!(produce(&mut peer, &elsewhere, 100_000).await, 0);
        assert!(ms(&ram, began) < 50);
    });
}

fn wanted(name: &str, num_partitions: i32) -> CreatableTopic {
    let name = name.to_owned();
    CreatableTopic { name, num_partitions, replication_factor: 1, ..CreatableTopic::default() }
}

/// Asks for topics: with which codes that is answered, and for how long the answer says to wait, in ms.
async fn make(
    peer: &mut Peer,
    version: i16,
    topics: &[(&str, i32)],
    validate_only: bool,
) -> (Vec<i16>, i32) {
    let topics = topics.iter().map(|&(name, partitions)| wanted(name, partitions)).collect();
    let request = CreateTopicsRequest { topics, timeout_ms: 5000, validate_only };
    let answer = peer.call(version, &request).await;
    let codes = answer.topics.iter().map(|topic| topic.error_code).collect();
    (codes, answer.throttle_time_ms)
}

/// The same of more partitions for a topic.
async fn grow(
    peer: &mut Peer,
    version: i16,
    (name, count): (&str, i32),
    validate_only: bool,
) -> (Vec<i16>, i32) {
    let topic = CreatePartitionsTopic { name: name.to_owned(), count, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 5000, validate_only };
    let answer = peer.call(version, &request).await;
    let codes = answer.results.iter().map(|topic| topic.error_code).collect();
    (codes, answer.throttle_time_ms)
}

/// The same of an end of a topic.
async fn delete(peer: &mut Peer, version: i16, name: &str) -> (Vec<i16>, i32) {
    let (topic_names, topics) = match version {
        ..6 => (vec![name.to_owned()], Vec::new()),
        _ => (
            Vec::new(),
            vec![DeleteTopicState { name: Some(name.to_owned()), topic_id: TopicId::NONE }],
        ),
    };
    let request = DeleteTopicsRequest { topics, topic_names, timeout_ms: 5000 };
    let answer = peer.call(version, &request).await;
    let codes = answer.responses.iter().map(|topic| topic.error_code).collect();
    (codes, answer.throttle_time_ms)
}

/// Somebody who may make and delete one partition in a second, and eleven seconds' worth at once.
async fn busy(ram: &Ram, shared: &Shared<Ram>) -> Peer {
    let mut busy = Peer::connect(ram, shared).await;
    busy.call_itself("busy");
    busy
}

const BUSY: Parts<'_> = &[(CLIENT, Some("busy"))];
const FULL: i16 = ErrorCode::ThrottlingQuotaExceeded as i16;

/// KIP-599, for clients that know of it: who has used up what he may make and delete is refused, topic by
/// topic, until that is paid for. What is only checked, or cannot be, costs nothing.
#[test]
fn who_makes_too_much_is_refused_and_waits() {
    with_broker(2, &[], async |ram, shared, mut peer| {
        assert_eq!(set(&mut peer, 1, BUSY, &[(MUTATE, 1.0)], false).await.0, 0);
        let mut first = busy(&ram, &shared).await;
        let exists = ErrorCode::TopicAlreadyExists.code();
        assert_eq!(make(&mut first, 7, &[("a", 10)], false).await, (vec![0], 0));
        assert_eq!(make(&mut first, 6, &[("b", 50)], true).await, (vec![0], 0));
        assert_eq!(grow(&mut first, 3, ("a", 60), true).await, (vec![0], 0));
        assert_eq!(make(&mut first, 7, &[("a", 50)], false).await, (vec![exists], 0));
        // More than is left, but nothing was owed before.
        let (codes, wait) = make(&mut first, 6, &[("b", 4), ("c", 1)], false).await;
        assert_eq!(codes, [0, FULL], "three are owed by now");
        assert!((2_500..=3_000).contains(&wait), "{wait}");
        // Whoever calls himself so shares it, on connections of their own; none is read meanwhile.
        let mut twins =
            [busy(&ram, &shared).await, busy(&ram, &shared).await, busy(&ram, &shared).await];
        let invalid = ErrorCode::InvalidTopicException.code();
        let wrong = [("c", 1), ("c/", 1), ("a", 1)];
        let answers = [
            (make(&mut twins[0], 7, &wrong, false).await, vec![FULL, invalid, exists]),
            (grow(&mut twins[1], 3, ("a", 11), false).await, vec![FULL]),
            (delete(&mut twins[2], 5, "a").await, vec![FULL]),
        ];
        for ((codes, wait), expected) in answers {
            assert_eq!(codes, expected);
            assert!((2_000..=3_000).contains(&wait), "{wait}");
        }
        let topics = metadata(&mut peer, 9, "a").await.topics;
        assert_eq!(topics[0].partitions.len(), 10, "nothing was made or deleted");
        let began = ram.now();
        metadata(&mut twins[0], 9, "a").await;
        assert!(ms(&ram, began) > 1_900, "{}", ms(&ram, began));
        // It was paid for while they were not read.
        assert_eq!(delete(&mut first, 6, "b").await, (vec![0], 0));
        let (codes, wait) = delete(&mut busy(&ram, &shared).await, 6, "a").await;
        assert_eq!(codes, [FULL]);
        assert!((3_000..=4_000).contains(&wait), "{wait}");
        // Nobody else is held up.
        assert_eq!(make(&mut peer, 7, &[("d", 100)], false).await, (vec![0], 0));
    });
}

/// KIP-599, for older clients, which would not know what to make of it: they get what they want, and wait.
#[test]
fn older_clients_make_what_they_want_and_wait() {
    with_broker(2, &[], async |ram, shared, mut peer| {
        assert_eq!(set(&mut peer, 1, BUSY, &[(MUTATE, 2.0)], false).await.0, 0);
        let mut old = busy(&ram, &shared).await;
        let began = ram.now();
        assert_eq!(make(&mut old, 5, &[("a", 20)], false).await, (vec![0], 0));
        let told = |(codes, wait): (Vec<i16>, i32), least| {
            assert_eq!(codes, [0]);
            assert!((least..=least + 500).contains(&wait), "{wait}");
        };
        told(make(&mut old, 4, &[("b", 8)], false).await, 2_500);
        told(grow(&mut old, 2, ("b", 10), false).await, 500);
        told(delete(&mut old, 4, "b").await, 4_500);
        told(make(&mut old, 5, &[("b", 1)], true).await, -500);
        assert!((8_000..9_500).contains(&ms(&ram, began)), "{}", ms(&ram, began));
    });
}

/// Topics that come into being by being asked for are made all the same.
#[test]
fn who_makes_too_much_by_asking_for_it_is_told_to_ask_again() {
    let settings = [("num.partitions", "20"), ("auto.create.topics.enable", "true")];
    with_broker(1, &settings, async |ram, shared, mut peer| {
        assert_eq!(set(&mut peer, 1, BUSY, &[(MUTATE, 1.0)], false).await.0, 0);
        let mut asking = busy(&ram, &shared).await;
        assert_eq!(metadata(&mut asking, 9, "one").await.topics[0].error_code, 0);
        let answer = metadata(&mut asking, 9, "two").await;
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        assert_eq!(answer.topics[0].error_code, unknown);
        assert!((8_500..=9_000).contains(&answer.throttle_time_ms), "{}", answer.throttle_time_ms);
        // By the time that it is read again it may.
        assert_eq!(metadata(&mut asking, 9, "two").await.topics[0].error_code, 0);
    });
}

/// Who must wait is not idle: the connection is there when the time has passed.
#[test]
fn a_client_that_waits_is_not_taken_for_an_idle_one() {
    with_broker(1, &[("connections.max.idle.ms", "1000")], async |ram, shared, mut peer| {
        let to = topic(&mut peer, "waiting", &[]).await;
        assert_eq!(set(&mut peer, 1, &[(CLIENT, None)], &[(PRODUCE, 1000.0)], false).await.0, 0);
        let mut slow = Peer::connect(&ram, &shared).await;
        slow.call_itself("slow");
        let told_ms = produce(&mut slow, &to, 5000).await;
        assert!((4_000..4_300).contains(&told_ms), "{told_ms}");
        let began = ram.now();
        metadata(&mut slow, 9, "waiting").await;
        assert!((3_900..4_400).contains(&ms(&ram, began)), "{}", ms(&ram, began));
    });
}

/// `kafka-configs --describe --entity-type users` asks for both, and shows nothing without either.
#[test]
fn nobody_has_credentials() {
    with_broker(1, &[], async |_, _, mut peer| {
        let user = |name: &str| ScramUserName { name: name.to_owned() };
        let all = peer.call(0, &DescribeUserScramCredentialsRequest { users: None }).await;
        assert_eq!((all.error_code, all.results.len()), (0, 0));
        let users = Some(vec![user("a"), user("b"), user("b")]);
        let named = peer.call(0, &DescribeUserScramCredentialsRequest { users }).await;
        let told = named.results.iter().map(|one| (&*one.user, one.error_code));
        let (none, twice) = (ErrorCode::ResourceNotFound, ErrorCode::DuplicateResource);
        assert_eq!(told.collect::<Vec<_>>(), [("a", none.code()), ("b", twice.code())]);
        assert_eq!(named.error_code, 0);
    });
}
