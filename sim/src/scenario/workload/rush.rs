//! A rush: more questions to one partition at once than may wait in its queue, as when everybody
//! comes back at the same time.
//!
//! Each client asks with a fetch that names the partition as often as a broker takes for honest: once for
//! each partition that there is. Most ask for a place that is nowhere, so that their answers are small; the
//! partition has to look for what some others ask, and all that comes meanwhile waits.

use std::time::Duration;

use futures_util::future::{join, join_all};
use trialog_engine::client::Start;
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::limit::PARTITION_MESSAGES_MAX;
use trialog_engine::wire::api::{ApiKey, MetadataRequest};
use trialog_engine::wire::fetch::{FetchPartition, FetchRequest, FetchTopic};

use super::wire::{Wire, at_most};
use crate::scenario::stage::Actor;
use crate::seed::Stream;

/// The newest version of Fetch in which topics have names.
const VERSION: i16 = 12;
/// Behind the end of every log.
const NOWHERE: Offset = Offset(1 << 50);
/// Who is asked.
const INDEX: PartitionIndex = PartitionIndex(0);
/// Of how many clients a rush is at most.
const CLIENTS_MAX: usize = 800;
/// How long connecting may take, and how long the answers are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Has many clients ask at once, and does something else from that moment on.
pub(super) async fn rush(
    actor: &Actor,
    broker: usize,
    topic: &str,
    random: &mut Stream,
    meanwhile: impl Future<Output = ()>,
) {
    let client = actor.client_of(broker, PATIENCE, [].into());
    let told = async {
        let every = MetadataRequest { topics: None, ..MetadataRequest::default() };
        let told = client.call(&every).await.ok()?;
        let (end, _) = client.admin().list_offset(topic, INDEX, Start::Latest).await.ok()??;
        Some((told.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>(), end.0))
    };
    let (partitions, end) = at_most(&actor.io, PATIENCE, told).await.unwrap_or((1, 0));
    let partitions = partitions.max(1);
    let questions = PARTITION_MESSAGES_MAX + random.within(100..600) as usize;
    let clients = questions.div_ceil(partitions).min(CLIENTS_MAX);
    let looks_every = random.pick(&[3, 10, 30]);
    let wires =
        (0..clients).map(|_| at_most(&actor.io, PATIENCE, Wire::open_to(actor, broker, "rush")));
    let wires = join_all(wires.collect::<Vec<_>>()).await;
    let asked = wires.into_iter().flatten().map(|wire| {
        let from = random.chance(1, looks_every).then(|| random.below(end.max(1) as u64));
        let request = request(topic, partitions, from.map_or(NOWHERE, |from| Offset(from as i64)));
        at_most(&actor.io, PATIENCE, ask(wire, request))
    });
    join(join_all(asked.collect::<Vec<_>>()), meanwhile).await;
}

/// Asks, and hears the answer.
async fn ask(mut wire: Wire, request: FetchRequest) -> Option<()> {
    wire.ask(ApiKey::Fetch, VERSION, |out| request.encode(out, VERSION)).await?;
    wire.hear().await.map(|_| ())
}

/// Asks so often, first for what is at `from`.
fn request(topic: &str, times: usize, from: Offset) -> FetchRequest {
    let partition = |row| FetchPartition {
        index: INDEX,
        fetch_offset: if row == 0 { from } else { NOWHERE },
        max_bytes: 1,
        ..FetchPartition::default()
    };
    let partitions = (0..times).map(partition).collect();
    let topic = FetchTopic { name: topic.to_owned(), partitions, ..FetchTopic::default() };
    FetchRequest {
        min_bytes: 0,
        max_bytes: 1,
        session_epoch: -1,
        topics: vec![topic],
        ..FetchRequest::default()
    }
}
