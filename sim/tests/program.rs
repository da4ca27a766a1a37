//! Other people's programs on trial: what a trial finds, and what it says of it.
//!
//! Not in the library, whose own tests need no broker, and are compiled without one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use trialog_engine::client::{ConsumerOptions, NewRecord, Outcome, ProducerOptions, Start};
use trialog_engine::id::PartitionIndex;
use trialog_sim::trial::{Faults, Ledger, Node, Scene, Trial};

const WORDS: [&[u8]; 3] = [b"one", b"two", b"three"];

async fn write(node: Node) {
    let producer = node.producer(ProducerOptions::default());
    for word in WORDS {
        let record = NewRecord { topic: "words", value: Some(word), ..NewRecord::default() };
        let outcome = producer.send(record).await;
        assert!(matches!(outcome, Outcome::Stored(_)), "{outcome:?}");
    }
}

/// Reads all words, from where it had stopped before a crash, and writes them into a ledger.
async fn read(node: Node, heard: Ledger<Vec<u8>>) {
    let mut consumer = node.consumer(ConsumerOptions::default());
    consumer.assign("words", PartitionIndex(0), Start::Earliest);
    loop {
        for record in consumer.next().await {
            assert!(record.headers.is_empty(), "the judge's mark is for the judge");
            heard.write(&node, record.value.expect("a word"));
        }
    }
}

fn words(scene: &mut Scene) -> Ledger<Vec<u8>> {
    let heard = Ledger::new();
    scene.topic("words", 1);
    scene.node("writer", write);
    let reader = heard.clone();
    scene.service("reader", move |node| read(node, reader.clone()));
    heard
}

#[test]
fn a_sound_program_passes_and_is_counted() {
    let trial = Trial::new(|scene| {
        let heard = words(scene);
        scene.eventually("all words are heard in order", move || heard.entries() == WORDS);
    });
    let summary = trial.faults(Faults::none()).seeds(3).find().expect("sound");
    assert_eq!((summary.seeds, summary.twice, summary.acknowledged), (3, 1, 9), "{summary}");
    assert_eq!(summary.faults, 0);
}

#[test]
fn what_never_comes_about_is_named() {
    let trial = Trial::new(|scene| {
        let heard = words(scene);
        scene.eventually("a fourth word", move || heard.entries().len() > WORDS.len());
    });
    let trial = trial.faults(Faults::none()).patience(Duration::from_secs(3));
    let failure = trial.seeds(3).find().expect_err("there are three words");
    assert_eq!(failure.what, "eventually: a fourth word");
    assert!(failure.command.starts_with("TRIALOG_SEED=0 cargo test -p trialog-sim"), "{failure}");
    assert!(failure.command.ends_with("what_never_comes_about_is_named"), "{failure}");
}

#[test]
fn what_must_always_hold_is_looked_at() {
    let trial = Trial::new(|scene| {
        let heard = words(scene);
        scene.always("fewer than two words", move || match heard.entries().as_slice() {
            [] | [_] => Ok(()),
            words => Err(format!("{} words", words.len())),
        });
    });
    let failure = trial.faults(Faults::none()).find().expect_err("there are three words");
    assert_eq!(failure.what, "always: fewer than two words");
}

#[test]
fn a_program_that_panics_fails_with_its_words() {
    let trial = Trial::new(|scene| {
        scene.node("careless", |node| async move {
            node.sleep(Duration::from_millis(5)).await;
            panic!("seven");
        });
    });
    let failure = trial.find().expect_err("it panicked");
    assert_eq!(failure.what, "a panic");
    assert!(failure.text.starts_with("seven\nat sim/tests/program.rs:"), "{}", failure.text);
}

#[test]
fn state_that_seeds_share_is_noticed() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let trial = Trial::new(|scene| {
        let pause = RUNS.fetch_add(1, Ordering::Relaxed);
        scene.node("sleeper", move |node| async move {
            node.sleep(Duration::from_millis(pause)).await;
            node.note(&format!("slept {pause} ms"));
        });
    });
    let failure = trial.faults(Faults::none()).find().expect_err("no two runs are alike");
    assert_eq!(failure.what, "determinism");
}

#[test]
fn what_is_stored_is_there_after_every_crash() {
    let trial = Trial::new(|scene| {
        let stored = Ledger::new();
        scene.service("clerk", move |node| {
            let stored = stored.clone();
            async move {
                let kept = node.load("count").await.expect("no faults of its disk");
                let known = kept.map_or(0, |bytes| bytes[0]);
                let promised = stored.entries().last().copied().unwrap_or(0);
                assert!(known >= promised, "{promised} was stored, {known} is there");
                for count in known + 1..=u8::MAX {
                    node.store("count", &[count]).await.expect("no faults of its disk");
                    stored.write(&node, count);
                    node.sleep(Duration::from_millis(50)).await;
                }
                node.sleep(Duration::from_secs(3600)).await;
            }
        });
    });
    let summary = trial.faults(Faults::crashes()).seeds(12).find().expect("sound");
    assert!(summary.faults > 12, "{summary}");
}
