//! The partitions of one core: who they are, and how a question reaches them.
//!
//! A partition's task starts when it is first asked for or when the core's round at start-up comes
//! to it, and ends when its topic is deleted or the broker stops. Questions from connections of
//! this core go straight to the partition's queue, those of other cores come through the inbox;
//! either way, two questions of one connection to one partition arrive in order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::ask::Ask;
use super::{Core, inbox, partition};
use crate::id::{PartitionIndex, TopicId};
use crate::io::Io;
use crate::machine::{Image, Topic, place};
use crate::probe::{self, Probe};
use crate::wire::code::ErrorCode;

/// A partition, by the identity of its topic.
pub type Key = (TopicId, PartitionIndex);

/// What travels between cores.
pub struct Message<F> {
    /// Whom it is for.
    pub to: Key,
    /// The question.
    pub ask: Ask<F>,
}

/// The running partitions of one core.
pub struct Shard<F> {
    partitions: RefCell<BTreeMap<Key, mpsc::Sender<Ask<F>>>>,
    closed: std::cell::Cell<bool>,
}

impl<F> Default for Shard<F> {
    fn default() -> Self {
        Shard { partitions: RefCell::default(), closed: std::cell::Cell::new(false) }
    }
}

/// Sends `ask` to the partition's owner, whichever core that is. Waits while its queue is full.
pub async fn ask<I: Io>(core: &Rc<Core<I>>, to: Key, ask: Ask<I::File>) {
    let owner = place::owner(to.0, to.1, core.shared.cores());
    if owner == core.id {
        deliver(core, to, ask).await;
    } else {
        core.shared.inbox(owner).send(Message { to, ask }).await;
    }
}

/// Hands on what the other cores send, for as long as the core runs.
pub async fn pump<I: Io>(core: Rc<Core<I>>, mut inbox: inbox::Receiver<Message<I::File>>) {
    loop {
        let Message { to, ask } = inbox.receive().await;
        deliver(&core, to, ask).await;
    }
}

async fn deliver<I: Io>(core: &Rc<Core<I>>, to: Key, mut ask: Ask<I::File>) {
    // Nearly always the partition runs and has room: then nothing is cloned and nothing waits.
    if let Some(queue) = core.shard.partitions.borrow().get(&to) {
        match queue.try_send(ask) {
            Ok(()) => return,
            Err(TrySendError::Full(unsent)) => {
                probe::hit(Probe::QueueFull);
                ask = unsent;
            }
            Err(TrySendError::Closed(unsent)) => ask = unsent,
        }
    }
    match reach(core, to) {
        Some(queue) => {
            if let Err(mpsc::error::SendError(ask)) = queue.send(ask).await {
                probe::hit(Probe::QueueClosed);
                ask.refuse(ErrorCode::NotLeaderOrFollower);
            }
        }
        None => {
            probe::hit(Probe::AskUnknown);
            ask.refuse(ErrorCode::UnknownTopicOrPartition);
        }
    }
}

/// The queue of a partition that the image has, started if need be.
fn reach<I: Io>(core: &Rc<Core<I>>, key: Key) -> Option<mpsc::Sender<Ask<I::File>>> {
    if let Some(queue) = core.shard.partitions.borrow().get(&key) {
        return Some(queue.clone());
    }
    if core.shard.closed.get() {
        return None;
    }
    let image = core.shared.image();
    let (topic, _) = image.partition(key.0, key.1)?;
    let queue = partition::start(core, topic.clone(), key.1);
    core.shard.partitions.borrow_mut().insert(key, queue.clone());
    Some(queue)
}

/// Follows the cluster's metadata: opens what is new one after another, removes what was deleted,
/// and passes changed settings on, those of topics and those of the broker.
pub async fn follow<I: Io>(core: Rc<Core<I>>) {
    let mut images = core.shared.images();
    let mut known: BTreeMap<TopicId, Arc<Topic>> = BTreeMap::new();
    loop {
        let image = images.borrow_and_update().clone();
        // Before any log is opened with them.
        core.configure(&image);
        let reconfigured = core.reconfigured.take();
        let current: BTreeMap<TopicId, Arc<Topic>> =
            image.topics().map(|topic| (topic.id, topic.clone())).collect();
        if core.tally.logs_to_open.get() == 0 {
            let logs = current.values().map(|topic| owned(&core, topic).len()).sum::<usize>();
            core.tally.logs_to_open.set(logs as u64 + 1);
        }
        for topic in current.values() {
            let before = known.get(&topic.id);
            if !reconfigured && before.is_some_and(|before| Arc::ptr_eq(before, topic)) {
                continue;
            }
            for key in owned(&core, topic) {
                if before.is_some() {
                    deliver(&core, key, Ask::Configure(topic.clone())).await;
                } else {
                    let (answer, ready) = oneshot::channel();
                    deliver(&core, key, Ask::Ready(answer)).await;
                    // One after another: what is asked for by clients need not wait in line.
                    let _ = ready.await;
                    if !core.has_opened.get() {
                        core.tally.logs_opened.add(1);
                    }
                }
            }
        }
        // By the newest image, not by the one of this round: while the round waited, a client may
        // have been the first to ask for a partition of a topic that is newer than the round.
        for key in gone(&core, &core.shared.image()) {
            end(&core, key, Ask::Delete).await;
        }
        core.settings.retain(|id| current.contains_key(&id));
        core.has_opened.set(true);
        known = current;
        if images.changed().await.is_err() {
            return;
        }
    }
}

/// The running partitions that the image does not have any more.
fn gone<I: Io>(core: &Core<I>, image: &Image) -> Vec<Key> {
    let partitions = core.shard.partitions.borrow();
    partitions.keys().filter(|key| image.partition(key.0, key.1).is_none()).copied().collect()
}

fn owned<I: Io>(core: &Core<I>, topic: &Topic) -> Vec<Key> {
    let indexes = topic.indexed().map(|(index, _)| (topic.id, index));
    indexes.filter(|key| place::owner(key.0, key.1, core.shared.cores()) == core.id).collect()
}

/// Closes every partition cleanly; those asked for afterwards are refused.
pub async fn close<I: Io>(core: &Rc<Core<I>>) {
    core.shard.closed.set(true);
    loop {
        let next = core.shard.partitions.borrow().keys().next().copied();
        let Some(key) = next else { return };
        end(core, key, Ask::Close).await;
    }
}

async fn end<I: Io>(
    core: &Rc<Core<I>>,
    key: Key,
    how: impl FnOnce(oneshot::Sender<()>) -> Ask<I::File>,
) {
    let queue = core.shard.partitions.borrow_mut().remove(&key);
    if let Some(queue) = queue {
        let (done, ended) = oneshot::channel();
        if queue.send(how(done)).await.is_ok() {
            let _ = ended.await;
        }
    }
}
