//! A rush: more questions to one partition at once than may wait in its queue, as when everybody
//! comes back at the same time.
//!
//! Each is a fetch that names the partition a thousand times, from a place that is nowhere, so that
//! its answers are many and small; a few begin at the beginning, so that the partition has to look.

use std::time::Duration;

use futures_util::future::join_all;
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::limit::PARTITION_MESSAGES_MAX;
use trialog_engine::wire::api::ApiKey;
use trialog_engine::wire::fetch::{FetchPartition, FetchRequest, FetchTopic};

use super::wire::{Wire, at_most};
use crate::scenario::stage::Actor;
use crate::seed::Stream;

/// The newest version of Fetch in which topics have names.
const VERSION: i16 = 12;
/// Behind the end of every log.
const NOWHERE: Offset = Offset(1 << 50);
/// How long the answers are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks on several connections at once.
pub async fn many(actor: &Actor, broker: usize, topic: &str, random: &mut Stream) {
    let count = random.within(2..7);
    let all = (0..count).map(|_| {
        let draw = random.bits();
        async move { at_most(&actor.io, PATIENCE, one(actor, broker, topic, draw)).await }
    });
    join_all(all.collect::<Vec<_>>()).await;
}

/// Asks once, and hears the answer.
pub async fn one(actor: &Actor, broker: usize, topic: &str, draw: u64) -> Option<()> {
    let mut wire = Wire::open_to(actor, broker, "rush").await?;
    let request = request(topic, &mut Stream::new(draw));
    wire.ask(ApiKey::Fetch, VERSION, |out| request.encode(out, VERSION)).await?;
    wire.hear().await.map(|_| ())
}

fn request(topic: &str, random: &mut Stream) -> FetchRequest {
    let index = PartitionIndex(random.pick(&[0, 0, 0, 1]));
    let rows = PARTITION_MESSAGES_MAX as u64 + random.below(500);
    // Only the first ones, or some in between.
    let (first, every) = (random.pick(&[0, 3, 30]), random.pick(&[u64::MAX, u64::MAX, 60, 20]));
    let partition = |row: u64| FetchPartition {
        index,
        fetch_offset: if row < first || row % every == 7 { Offset(0) } else { NOWHERE },
        max_bytes: 1,
        ..FetchPartition::default()
    };
    let partitions = (0..rows).map(partition).collect();
    let topic = FetchTopic { name: topic.to_owned(), partitions, ..FetchTopic::default() };
    FetchRequest {
        min_bytes: 0,
        max_bytes: 1,
        session_epoch: -1,
        topics: vec![topic],
        ..FetchRequest::default()
    }
}
