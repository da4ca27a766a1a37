//! `trialog bench`: how fast a cluster is, seen from a client.
//!
//! Works against any Kafka address, with our own client, so that two brokers can be compared under
//! the same load. Three questions, a file each: [`produce`], [`consume`] and [`latency`] from
//! the moment a record should have been sent to the moment it was read. `figures` counts and words
//! what came out, `pace` says when a record is due, `target` what is known of the topic.
//!
//! Latencies count from the *intended* time: a client that is held up does not hide what its
//! records would have seen (open loop, no coordinated omission).

mod consume;
mod figures;
mod latency;
mod pace;
mod produce;
mod target;

use std::time::Duration;

use serde_json::{Value, json};
use trialog_engine::client::{ConsumerOptions, ProducerOptions};

use super::cli::{Bench, BenchLoad, BenchTopic};
use super::failure::Failure;
use super::output::Output;
use super::reach::{Missing, reach};
use super::runtime;
use pace::Pace;
use target::Target;

/// The consumer's fetches wait no longer than this for more bytes, as Kafka's consumers do.
fn reading() -> ConsumerOptions {
    ConsumerOptions { partition_bytes_max: 4 << 20, ..ConsumerOptions::default() }
}

/// Measures what was asked for.
pub fn run(command: Bench, output: &mut Output) -> Result<(), Failure> {
    match command {
        Bench::Produce { topic, load } => runtime::client(async |io| {
            let reached = reach(io.clone(), &topic.bootstrap).await?;
            let target = Target::find(&reached, &topic, Missing::Make).await?;
            let figures = produce::run(&io, &reached, &target, &load).await?;
            figures.print(output, "produced", &settings(&topic, &target, Some(&load)))
        }),
        Bench::Consume { topic, records } => runtime::client(async |io| {
            let reached = reach(io.clone(), &topic.bootstrap).await?;
            let target = Target::find(&reached, &topic, Missing::Refuse).await?;
            let figures = consume::run(&io, &reached, &target, records).await?;
            figures.print(output, "consumed", &settings(&topic, &target, None))
        }),
        Bench::Latency { topic, load } => runtime::client(async |io| {
            let load = BenchLoad { rate: load.rate.or(Some(latency::RATE)), ..load };
            let reached = reach(io.clone(), &topic.bootstrap).await?;
            // Connections of its own, as a producer and a consumer have that are two programs: on a
            // shared one a record may wait behind a fetch that waits for it.
            let writer = reach(io.clone(), &topic.bootstrap).await?;
            let target = Target::find(&reached, &topic, Missing::Make).await?;
            let figures = latency::run(&io, &reached, &writer, &target, &load).await?;
            figures.print(output, "sent and read", &settings(&topic, &target, Some(&load)))
        }),
    }
}

/// What the figures were measured with: without it they mean nothing.
fn settings(
    topic: &BenchTopic,
    target: &Target,
    load: Option<&BenchLoad>,
) -> Vec<(&'static str, Value)> {
    let mut settings = vec![
        ("brokers", json!(topic.bootstrap.bootstrap.join(","))),
        ("topic", json!(topic.topic)),
        ("partitions", json!(target.partitions)),
        ("durability", json!(target.durability)),
    ];
    if let Some(load) = load {
        settings.extend([
            ("record bytes", json!(load.size)),
            ("rate", load.rate.map_or(json!("unlimited"), |rate| json!(rate))),
            ("acks", json!(format!("{:?}", load.acks).to_lowercase())),
            ("compression", json!(format!("{:?}", load.compression).to_lowercase())),
            ("batch bytes", json!(load.batch_bytes)),
            ("linger ms", json!(load.linger_ms)),
        ]);
    }
    settings
}

/// How records are written.
fn writing(load: &BenchLoad) -> ProducerOptions {
    ProducerOptions {
        acks: load.acks.into(),
        compression: load.compression.into(),
        batch_bytes: load.batch_bytes,
        linger: Duration::from_millis(load.linger_ms),
        ..ProducerOptions::default()
    }
}
