//! Members of consumer groups: what they read, what they commit, and who takes over from whom.

use std::collections::BTreeSet;

use trialog_engine::client::{GroupConsumer, GroupError, GroupOptions, Place, Polled, Strategy};

use super::*;

const PARTITIONS: i32 = 3;

/// A member with what it has seen.
struct Reader {
    member: GroupConsumer<Ram>,
    seen: Vec<(i32, i64)>,
    /// What it was told to give up, and to take.
    news: Vec<Polled>,
}

fn member(client: &Client<Ram>, strategy: Strategy) -> Reader {
    let options = GroupOptions {
        strategy,
        session_timeout: Duration::from_secs(6),
        heartbeat: Duration::from_millis(500),
        poll_interval: Duration::from_secs(6),
        metadata_max_age: Duration::from_secs(1),
        rebalance_timeout: Duration::from_secs(10),
        ..GroupOptions::new("g")
    };
    Reader { member: client.subscribe(options, &["t"]), seen: Vec::new(), news: Vec::new() }
}

/// Polls all members in turn for a while; each commits after every poll that brought anything.
async fn run(readers: &mut [&mut Reader], rounds: usize) {
    for _ in 0..rounds {
        for reader in readers.iter_mut() {
            match reader.member.poll(Duration::from_millis(50)).await.expect("goes on") {
                Polled::Records(records) if records.is_empty() => continue,
                Polled::Records(records) => {
                    let places = records.iter().map(|one| (one.partition.0, one.offset.0));
                    reader.seen.extend(places);
                }
                news => reader.news.push(news),
            }
            match reader.member.commit().await {
                Ok(_) | Err(GroupError::NotMember | GroupError::Refused(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn owned(readers: &[&Reader]) -> Vec<Vec<i32>> {
    let indexes = |reader: &&Reader| -> Vec<i32> {
        reader.member.owned().iter().map(|(_, index)| index.0).collect()
    };
    readers.iter().map(indexes).collect()
}

async fn write(client: &Client<Ram>, count: usize) {
    let producer = client.producer(ProducerOptions::default());
    for partition in 0..PARTITIONS {
        for _ in 0..count {
            let record = NewRecord {
                topic: "t",
                partition: Some(PartitionIndex(partition)),
                value: Some(b"x"),
                ..NewRecord::default()
            };
            stored(producer.enqueue(record).await.expect("room").await);
        }
    }
}

fn every_partition_once(owned: &[Vec<i32>]) {
    let mut all: Vec<i32> = owned.iter().flatten().copied().collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2], "{owned:?}");
}

#[test]
fn slow_members_stay_and_added_partitions_are_shared_out() {
    for strategy in [Strategy::Range, Strategy::CooperativeSticky] {
        with_client(8, Options::default(), async |io, client| {
            create(&client, "t", PARTITIONS).await;
            let mut slow = GroupOptions {
                strategy,
                session_timeout: Duration::from_secs(6),
                metadata_max_age: Duration::from_secs(1),
                ..GroupOptions::new("g")
            };
            slow.poll_interval = Duration::from_secs(60);
            let member = |options: &GroupOptions| Reader {
                member: client.subscribe(options.clone(), &["t"]),
                seen: Vec::new(),
                news: Vec::new(),
            };
            let (mut one, mut two) = (member(&slow), member(&slow));
            run(&mut [&mut one, &mut two], 150).await;
            let shares = owned(&[&one, &two]);
            every_partition_once(&shares);
            let generation = |reader: &Reader| reader.member.generation().map(|(number, _)| number);
            let before = (generation(&one), generation(&two));
            // Nobody polls for three sessions, and both are still members.
            io.sleep(Duration::from_secs(20)).await;
            run(&mut [&mut one, &mut two], 20).await;
            assert_eq!((generation(&one), generation(&two)), before);
            assert_eq!(owned(&[&one, &two]), shares);

            let grown = client.admin().add_partitions("t", PARTITIONS + 2).await;
            grown.expect("more partitions");
            run(&mut [&mut one, &mut two], 150).await;
            let mut all: Vec<i32> = owned(&[&one, &two]).into_iter().flatten().collect();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4], "nobody but the leader can notice");
        });
    }
}

/// A rebalance that ends while a member is at work finds it alive, however long the work takes.
#[test]
fn a_join_and_its_heartbeats_go_on_beside_the_work() {
    for strategy in [Strategy::Range, Strategy::CooperativeSticky] {
        with_client(9, Options::default(), async |_, client| {
            create(&client, "t", PARTITIONS).await;
            let member = || {
                let mut member = member(&client, strategy);
                let options = GroupOptions {
                    strategy,
                    session_timeout: Duration::from_secs(6),
                    heartbeat: Duration::from_millis(500),
                    rebalance_timeout: Duration::from_secs(30),
                    ..GroupOptions::new("g")
                };
                member.member = client.subscribe(options, &["t"]);
                member
            };
            let (mut one, mut two) = (member(), member());
            run(&mut [&mut one], 100).await;
            // It asks to join, and is at work for two sessions; the other goes on.
            run(&mut [&mut two], 1).await;
            assert_eq!(two.member.generation(), None, "the other has not moved yet");
            run(&mut [&mut one], 240).await;
            let there = member_ids(&client).await;
            assert_eq!(there.len(), 2, "{strategy:?}");
            run(&mut [&mut one, &mut two], 60).await;
            every_partition_once(&owned(&[&one, &two]));
            assert_eq!(member_ids(&client).await, there, "{strategy:?}: nobody was away");
        });
    }
}

/// Also from within a join that waits; nobody comes back by it.
#[test]
fn who_closes_while_it_joins_is_gone() {
    for strategy in [Strategy::Range, Strategy::CooperativeSticky] {
        with_client(10, Options::default(), async |io, client| {
            create(&client, "t", PARTITIONS).await;
            let (mut one, mut two) = (member(&client, strategy), member(&client, strategy));
            run(&mut [&mut one], 100).await;
            run(&mut [&mut two], 1).await;
            assert_eq!(two.member.generation(), None, "the other has not moved yet");
            two.member.close().await.expect("left");
            io.sleep(Duration::from_secs(1)).await;
            let there = member_ids(&client).await;
            assert_eq!(there.len(), 1, "{strategy:?}: {there:?}");
            run(&mut [&mut one], 40).await;
            assert_eq!(owned(&[&one]), [[0, 1, 2]]);
        });
    }
}

async fn member_ids(client: &Client<Ram>) -> BTreeSet<String> {
    let group = client.admin().describe_group("g").await.expect("it is there");
    group.members.into_iter().map(|member| member.id).collect()
}

#[test]
fn members_share_idle_leave_and_fall_silent() {
    for strategy in [Strategy::Range, Strategy::CooperativeSticky] {
        with_client(5, Options::default(), async |_, client| {
            create(&client, "t", PARTITIONS).await;
            write(&client, 10).await;
            let (mut one, mut two) = (member(&client, strategy), member(&client, strategy));
            run(&mut [&mut one, &mut two], 150).await;
            every_partition_once(&owned(&[&one, &two]));
            let mut three = member(&client, strategy);
            let mut four = member(&client, strategy);
            run(&mut [&mut one, &mut two, &mut three, &mut four], 150).await;
            let shares = owned(&[&one, &two, &three, &four]);
            every_partition_once(&shares);
            assert_eq!(shares.iter().filter(|share| share.is_empty()).count(), 1, "one idles");
            write(&client, 10).await;
            run(&mut [&mut one, &mut two, &mut three, &mut four], 50).await;

            // One leaves, and one is never polled again.
            two.member.close().await.expect("left");
            run(&mut [&mut one, &mut three, &mut four], 250).await;
            every_partition_once(&owned(&[&one, &three, &four]));
            let silent = owned(&[&one])[0].clone();
            assert!(!silent.is_empty());
            write(&client, 10).await;
            run(&mut [&mut three, &mut four], 250).await;
            every_partition_once(&owned(&[&three, &four]));

            let mut seen: Vec<_> =
                [&one.seen, &two.seen, &three.seen, &four.seen].into_iter().flatten().collect();
            seen.sort_unstable();
            let places: BTreeSet<_> = seen.iter().copied().collect();
            let count = usize::try_from(PARTITIONS).expect("positive") * 30;
            assert_eq!(places.len(), count, "every record was read");
            assert_eq!(seen.len(), count, "and, with these commits, just once");

            // The one that was silent notices when it comes back.
            let polled = one.member.poll(Duration::from_secs(5)).await.expect("goes on");
            assert!(matches!(polled, Polled::Lost(ref lost) if lost.len() == silent.len()));
        });
    }
}

#[test]
fn cooperative_members_keep_what_need_not_move() {
    with_client(6, Options::default(), async |_, client| {
        create(&client, "t", PARTITIONS).await;
        let strategy = Strategy::CooperativeSticky;
        let (mut one, mut two) = (member(&client, strategy), member(&client, strategy));
        run(&mut [&mut one], 100).await;
        assert_eq!(owned(&[&one])[0].len(), 3);
        one.news.clear();
        run(&mut [&mut one, &mut two], 150).await;
        every_partition_once(&owned(&[&one, &two]));
        let revoked: Vec<&Place> = one
            .news
            .iter()
            .filter_map(|news| match news {
                Polled::Revoked(places) => Some(places),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(revoked.len(), 1, "{:?}", one.news);
    });
}

#[test]
fn groups_are_listed_described_moved_and_deleted() {
    with_client(7, Options::default(), async |_, client| {
        create(&client, "t", PARTITIONS).await;
        write(&client, 10).await;
        let admin = client.admin();
        let mut reader = member(&client, Strategy::Range);
        run(&mut [&mut reader], 100).await;
        write(&client, 5).await;
        let listed = admin.list_groups().await.expect("listed");
        assert_eq!((listed.len(), &*listed[0].group, &*listed[0].state), (1, "g", "Stable"));
        let described = admin.describe_group("g").await.expect("described");
        assert_eq!((&*described.strategy, described.members.len()), ("range", 1));
        for standing in described.standings.values() {
            assert_eq!(standing.committed, Some(Offset(10)));
            assert_eq!((standing.end, standing.lag()), (Some(Offset(15)), Some(5)));
            assert_eq!(standing.member.as_deref(), Some(&*described.members[0].id));
        }
        let place = ("t".to_owned(), P0);
        let code = |error: AdminError| match error {
            AdminError::Call(CallError::Refused(code)) | AdminError::Refused { code, .. } => code,
            AdminError::Call(error) => panic!("{error}"),
        };
        let offsets = [(place.clone(), Offset(3))];
        let refused = admin.seek_group("g", &offsets).await.expect_err("it has a member");
        assert_eq!(code(refused), ErrorCode::UnknownMemberId);
        let refused = admin.delete_group("g").await.expect_err("it has a member");
        assert_eq!(code(refused), ErrorCode::NonEmptyGroup);
        reader.member.close().await.expect("left");
        admin.seek_group("g", &offsets).await.expect("moved");
        let described = admin.describe_group("g").await.expect("described");
        assert_eq!(described.state, "Empty");
        assert_eq!(described.standings[&place].lag(), Some(12));

        let mut reader = member(&client, Strategy::Range);
        run(&mut [&mut reader], 100).await;
        assert_eq!(reader.seen.len(), 12 + 5 + 5);
        assert!(reader.seen.contains(&(0, 3)) && !reader.seen.contains(&(0, 2)));
        reader.member.close().await.expect("left");
        admin.delete_group("g").await.expect("deleted");
        assert_eq!(admin.list_groups().await.expect("listed"), []);
        let missing = admin.describe_group("g").await.expect_err("it is gone");
        assert_eq!(code(missing), ErrorCode::GroupIdNotFound);
    });
}
