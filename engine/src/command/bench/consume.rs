//! How fast records are read: all partitions, from the first record to the end as it was when the
//! run began.

use std::collections::BTreeMap;
use std::time::Duration;

use trialog_engine::client::Start;
use trialog_engine::id::PartitionIndex;
use trialog_engine::io::Io;
use trialog_engine::io::kernel::KernelIo;

use super::super::failure::Failure;
use super::super::reach::Reached;
use super::figures::Figures;
use super::{Target, reading};

const ROUND: Duration = Duration::from_secs(1);

/// Reads everything there is, at most `records` records.
pub(crate) async fn run(
    io: &KernelIo,
    reached: &Reached,
    target: &Target,
    records: Option<u64>,
) -> Result<Figures, Failure> {
    let most = records.unwrap_or(u64::MAX);
    let topic = target.topic.as_str();
    let mut consumer = reached.client.consumer(reading());
    let mut ends = BTreeMap::new();
    for partition in 0..target.partitions {
        let start = reached.offset(topic, partition, Start::Earliest).await?.unwrap_or(0);
        let end = reached.offset(topic, partition, Start::Latest).await?.unwrap_or(0);
        if start < end {
            consumer.assign(topic, PartitionIndex(partition), Start::Earliest);
            ends.insert(PartitionIndex(partition), end);
        }
    }
    let figures = Figures::begin(io);
    while !ends.is_empty() && figures.records() < most {
        let polled = consumer.poll(ROUND).await.map_err(|error| reached.unread(&error))?;
        let now = io.now();
        for record in polled {
            let bytes = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
            figures.count(now, bytes(&record.key) + bytes(&record.value));
        }
        ends.retain(|&partition, &mut end| {
            let is_read = consumer.position(topic, partition).is_some_and(|at| at.0 >= end);
            if is_read {
                consumer.unassign(topic, partition);
            }
            !is_read
        });
    }
    Ok(figures)
}
