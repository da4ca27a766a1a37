//! The broker on trial: the sweep that plain `cargo test` runs.

use trialog_engine::probe::Probe;
use trialog_sim::nemesis::Counts;
use trialog_sim::plan::Kind;
use trialog_sim::scenario::{
    self, BrokerDisk, Cut, Facts, Failed, Failure, Run, Size, Step, Watch, rehearsal,
};
use trialog_sim::sweep::{sweep, twice};
use trialog_sim::tape::{Entry, What};

/// How many seeds a test run covers; TRIALOG_SEEDS changes it.
fn seeds() -> u64 {
    std::env::var("TRIALOG_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

#[test]
fn every_acknowledged_record_is_there_once_and_in_order() {
    for (size, seeds) in [(Size::Small, seeds()), (Size::Full, seeds().div_ceil(25))] {
        let totals = sweep(0..seeds, 2, |seed| scenario::run(&Run::new(seed, size)), |_| {});
        println!("{size}: {totals}");
        for failure in &totals.failures {
            println!("{failure}");
        }
        assert!(totals.failures.is_empty(), "{} seeds failed", totals.failures.len());
        assert!(totals.acknowledged_min >= size.acknowledged_min() as u64, "{totals}");
        assert!(totals.crashes_min >= size.crashes_min() as u64, "{totals}");
    }
}

/// Leaving a step, a client or a fault out shifts nothing that came before it, and what it would
/// have proved is not missed.
#[test]
fn what_is_left_out_is_not_done_and_not_missed() {
    let whole = scenario::run(&Run::new(5, Size::Small)).expect("passes").facts;
    let mut run = Run::new(5, Size::Small);
    run.cut.clients = (1..whole.steps.len()).collect();
    run.cut.faults = (0..whole.plan.faults.len()).collect();
    run.cut.steps = (0..5).map(|number| Step { client: 0, number }).collect();
    let left = scenario::run(&run).expect("passes, though thin").facts;
    assert_eq!(left.plan, whole.plan);
    assert!(left.counts.is_empty(), "{:?}", left.counts);
    assert!(left.steps[0] > 5 && left.steps[1..].iter().all(|&steps| steps == 0));
    assert!(left.tally.acknowledged < whole.tally.acknowledged);
}

#[test]
fn one_seed_runs_twice_the_same() {
    for seed in [1, 17] {
        let passed = twice(seed, |seed| scenario::run(&Run::new(seed, Size::Small)));
        match passed {
            Ok(passed) => println!("seed {seed}: {:?}", passed.facts.digest),
            Err(failure) => panic!("{failure}"),
        }
    }
}

/// A small run with faults of one kind, or of none.
fn calm(seed: u64, but: Option<Kind>) -> Box<Facts> {
    let all = rehearsal::faults(seed).faults.into_iter().enumerate();
    let faults = all.filter(|(_, planned)| Some(planned.kind) != but).map(|(index, _)| index);
    let cut = Cut { faults: faults.collect(), ..Cut::default() };
    let passed = scenario::run(&Run { cut, ..Run::new(seed, Size::Small) });
    passed.unwrap_or_else(|failure| panic!("a calm run: {failure}")).facts
}

/// The power cuts behind which disks are examined counted as if they had met the run.
#[test]
fn a_run_without_faults_counts_none() {
    for seed in [3, 4, 12] {
        assert_eq!(calm(seed, None).counts, Counts::default(), "seed {seed}");
    }
}

/// Where memory for requests is little they wait for it, and nothing else is wrong.
#[test]
fn requests_wait_for_memory_where_it_is_little() {
    let seed = rehearsal::seeds_that_queue().next().expect("there is always another");
    let facts = calm(seed, Some(Kind::LittleMemory));
    assert_eq!(facts.counts, [(Kind::LittleMemory, 1)].into());
    assert_eq!(calm(seed, None).probes.of(Probe::RequestMemoryUsedUp), 0);
}

/// More is asked of a partition at once than its queue holds.
#[test]
fn a_rush_fills_a_queue() {
    let mut seeds = rehearsal::seeds_that_rush().take(4);
    assert!(seeds.any(|seed| calm(seed, None).probes.of(Probe::QueueFull) > 0));
}

/// All clients hung, and nobody looked.
#[test]
fn a_broker_is_looked_at_while_no_client_is_told_anything() {
    assert_eq!(rehearsal::proven_in_silence(1), ["ACK-2"]);
}

/// The same trial on a disk that only pretends to flush. Records get lost there, or the broker
/// notices that its files do not fit together and keeps a partition closed: a trial that passed
/// would not notice a broker that forgets to flush either.
#[test]
fn a_disk_that_lies_about_flushes_is_found_out() {
    let mut kinds = std::collections::BTreeMap::new();
    for seed in 0..8 {
        match scenario::run_on(BrokerDisk::Lying, &Run::new(seed, Size::Small)) {
            Ok(_) => *kinds.entry("passed".to_owned()).or_insert(0) += 1,
            Err(Failure { how: how @ (Failed::Safety | Failed::Liveness), text, .. }) => {
                println!("seed {seed}: {how:?}: {text}");
                *kinds.entry(format!("{how:?}")).or_insert(0) += 1;
            }
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{kinds:?}");
    let passed = kinds.get("passed").copied().unwrap_or(0);
    assert!(passed <= 4, "most crashes must show that nothing was flushed: {kinds:?}");
}

#[test]
fn who_watches_changes_nothing() {
    let quiet = Run::new(3, Size::Small);
    let taped = Run { watch: Watch::Tape, ..quiet.clone() };
    let unseen = scenario::run(&quiet).expect("passes").facts;
    let seen = scenario::run(&taped).expect("passes").facts;
    assert_eq!(unseen.digest, seen.digest);
    let is_event = |entry: &&Entry| matches!(entry.what, What::Event { .. });
    let events = seen.tape.iter().filter(is_event).count() as u64;
    assert!(events >= seen.digest.expect("no panic").events, "every event is on the tape");
}
