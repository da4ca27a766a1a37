//! A fetch of one partition without a session, as most consumers at the end of a log send it:
//! planned and answered without any memory of its own.
//!
//! Where there is less to read than the request wants, it asks once more, leaving a [`Wait`], and
//! waits; when its time is up and nothing was written meanwhile, the answer is at hand. Everything
//! happens when its turn to be answered comes, on the connection's core; where it is the oldest
//! request already, that is when it arrives.

use std::rc::Rc;
use std::sync::Arc;

use super::fetch::{self, Limits};
use super::find_topic;
use crate::broker::answer;
use crate::broker::ask::{Ask, Fetch, Fetched};
use crate::broker::auth::Operation;
use crate::broker::dispatch::Incoming;
use crate::broker::wait::Wait;
use crate::broker::{Core, shard};
use crate::id::TopicId;
use crate::io::Io;
use crate::limit::{BATCH_DECOMPRESSED_BYTES_MAX, FETCH_BYTES_MAX, STRING_BYTES_MAX};
use crate::log::First;
use crate::machine::Topic;
use crate::probe::{self, Probe};
use crate::wire::code::ErrorCode;
use crate::wire::fetch::{FetchOne, FetchPartition, FetchResponse};
use crate::wire::frame;

const _: () = assert!(
    FETCH_BYTES_MAX + BATCH_DECOMPRESSED_BYTES_MAX + STRING_BYTES_MAX < i32::MAX as usize,
    "no answer about one partition is too large for a frame"
);

/// Such a fetch.
pub struct Lone {
    incoming: Incoming,
    topic: Arc<Topic>,
    by_id: bool,
    /// As the request has them.
    max_wait_ms: i32,
    min_bytes: i32,
    max_bytes: i32,
    partition: FetchPartition,
}

impl Lone {
    /// Reads the request; gives it back if it is any other.
    pub fn begin<I: Io>(
        core: &Rc<Core<I>>,
        incoming: Incoming,
        body: &[u8],
    ) -> Result<Lone, Incoming> {
        let Some(one) = FetchOne::decode(body, incoming.version) else { return Err(incoming) };
        let image = core.shared.image();
        let read = Operation::Read;
        let found = find_topic(&image, &incoming.client, read, one.name, one.topic_id);
        let Ok(topic) = found else { return Err(incoming) };
        if topic.partition(one.partition.index).is_none() {
            return Err(incoming);
        }
        Ok(Lone {
            incoming,
            topic,
            by_id: one.topic_id != TopicId::NONE,
            max_wait_ms: one.max_wait_ms,
            min_bytes: one.min_bytes,
            max_bytes: one.max_bytes,
            partition: one.partition,
        })
    }

    /// Asks the partition.
    pub async fn ask<I: Io>(&self, core: &Rc<Core<I>>) -> answer::Receiver<Fetched<I::File>> {
        self.ask_and(core, None).await
    }

    async fn ask_and<I: Io>(
        &self,
        core: &Rc<Core<I>>,
        wait: Option<Arc<Wait>>,
    ) -> answer::Receiver<Fetched<I::File>> {
        let limits = Limits::new(core, self.max_wait_ms, self.min_bytes, self.max_bytes);
        let partition = &self.partition;
        let (answer, planned) = core.plans.take();
        let fetch = Fetch {
            from: partition.fetch_offset,
            leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
            max_bytes: u64::from(u32::try_from(partition.max_bytes).unwrap_or(0))
                .min(limits.max_bytes),
            first: First::AtLeastOneBatch,
            wait,
            answer,
        };
        shard::ask(core, (self.topic.id, partition.index), Ask::Fetch(fetch)).await;
        planned
    }

    /// The partition's answer. `None` if that gave less than the request wants to wait for.
    pub async fn plan<I: Io>(
        &self,
        core: &Rc<Core<I>>,
        planned: answer::Receiver<Fetched<I::File>>,
    ) -> Option<Fetched<I::File>> {
        let limits = Limits::new(core, self.max_wait_ms, self.min_bytes, self.max_bytes);
        let fetched = settle(planned).await;
        (limits.is_enough(fetched.bytes) || fetched.is_news()).then_some(fetched)
    }

    /// Appends the answer without its batches, and returns the position where those go.
    pub fn put_head<I: Io>(
        &self,
        core: &Core<I>,
        fetched: &Fetched<I::File>,
        out: &mut Vec<u8>,
    ) -> usize {
        let version = self.incoming.version;
        if fetched.error != ErrorCode::None {
            let place = (self.partition.index, self.partition.fetch_offset);
            fetch::failed(core, &self.incoming, &self.topic.name, place, fetched);
        }
        let start = self.incoming.begin_in(out);
        let (name, id) =
            if self.by_id { ("", self.topic.id) } else { (&*self.topic.name, TopicId::NONE) };
        let response = fetch::partition(core, self.partition.index, fetched);
        let cut = FetchResponse::encode_one(out, version, name, id, &response);
        // One partition has the most that is fetched at once, or one batch: every frame has that room.
        frame::end_frame(out, start, fetch::bytes_of(&fetched.slices));
        cut
    }

    /// The partition's answer once it has as much as the request wants, or the time is up.
    pub async fn wait<I: Io>(&self, core: &Rc<Core<I>>) -> Fetched<I::File> {
        let limits = Limits::new(core, self.max_wait_ms, self.min_bytes, self.max_bytes);
        let wait = Wait::new(limits.min_bytes);
        let fetched = settle(self.ask_and(core, Some(wait.clone())).await).await;
        if limits.is_enough(fetched.bytes) || fetched.is_news() {
            return fetched;
        }
        // What was there counts towards the minimum; its file is not held meanwhile.
        wait.add(fetched.bytes);
        let nothing = Some(fetched).filter(|fetched| fetched.bytes == 0);
        let more = fetch::more(core, &self.incoming, &wait, limits.wait).await;
        drop(wait);
        match nothing.filter(|_| !more) {
            Some(nothing) => nothing,
            None => settle(self.ask(core).await).await,
        }
    }
}

async fn settle<F>(planned: answer::Receiver<Fetched<F>>) -> Fetched<F> {
    // A dropped answer: the partition closed meanwhile, and the client asks again.
    planned.await.unwrap_or_else(|_| {
        probe::hit(Probe::FetchDropped);
        Fetched::failed(ErrorCode::NotLeaderOrFollower)
    })
}
