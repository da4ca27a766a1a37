//! The partitions of one core: who they are, and how a question reaches them.
//!
//! A partition that is in use has a task, which starts when it is first asked for something that needs
//! its log and ends when its topic is deleted, when the broker stops, or when the partition has had
//! nothing to do for so long that it rests ([`super::rest`]). Questions from connections of this core
//! go straight to the partition's queue, those of other cores come through the inbox; either way, two
//! questions of one connection to one partition arrive in order.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::poll_immediate;
use futures_util::stream::{FuturesUnordered, StreamExt};
use slab::Slab;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{error, info};

use super::ask::Ask;
use super::clean::{Row, Stand};
use super::rest::{Resting, Upkeep};
use super::wait::Parked;
use super::{Core, data, inbox, partition};
use crate::id::{PartitionIndex, TopicId};
use crate::io::Io;
use crate::limit::{LOGS_CLOSED_AT_ONCE_MAX, LOGS_OPENED_AT_ONCE_MAX};
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

/// The partitions of one core that have been opened, and those that a clean stop told of.
pub struct Shard<F> {
    partitions: RefCell<BTreeMap<Key, State<F>>>,
    /// Those that have no task, side by side: apart, each would hold back a page of the memory that
    /// is given up around it.
    resting: RefCell<Slab<Resting>>,
    /// How many are in use.
    in_use: Cell<usize>,
    /// How many were started since room was made.
    started: Cell<usize>,
    /// Counts questions that are a use: the order in which partitions were last asked.
    uses: Cell<u64>,
    closed: Cell<bool>,
    /// When those at rest have something to do.
    pub(super) upkeep: RefCell<Upkeep>,
    /// Told when that has become sooner.
    pub(super) hurried: Notify,
    /// Where those stand that were closed for good.
    rows: RefCell<Vec<Row>>,
}

/// How a partition is.
enum State<F> {
    /// It has a task.
    InUse {
        queue: mpsc::Sender<Ask<F>>,
        /// The number of the last question that was a use.
        used: Cell<u64>,
    },
    /// It has none, and this place among those.
    Resting(usize),
}

/// How often the progress of a start is told.
const PROGRESS: Duration = Duration::from_secs(5);

impl<F> Default for Shard<F> {
    fn default() -> Self {
        Shard {
            partitions: RefCell::default(),
            resting: RefCell::default(),
            in_use: Cell::new(0),
            started: Cell::new(usize::MAX),
            uses: Cell::new(0),
            closed: Cell::new(false),
            upkeep: RefCell::default(),
            hurried: Notify::new(),
            rows: RefCell::default(),
        }
    }
}

impl<F> Shard<F> {
    /// A partition's task ends, and the partition rests; unless somebody was faster, who then gets its
    /// answers from the task. Nothing can come in between this and the end of the queue.
    pub fn rest(
        &self,
        key: Key,
        resting: Resting,
        queue: &mpsc::Receiver<Ask<F>>,
    ) -> Result<(), Resting> {
        let mut partitions = self.partitions.borrow_mut();
        match partitions.get_mut(&key) {
            // One sender is the table's; another one is somebody's who is about to send.
            Some(state) if queue.is_empty() && queue.sender_strong_count() == 1 => {
                probe::hit(Probe::Rested);
                self.upkeep.borrow_mut().add(key, &resting.stand);
                *state = State::Resting(self.resting.borrow_mut().insert(resting));
                self.in_use.set(self.in_use.get() - 1);
                Ok(())
            }
            _ => {
                probe::hit(Probe::RestInterrupted);
                Err(resting)
            }
        }
    }

    /// A partition was closed for good, and stands there.
    pub fn closed_at(&self, key: Key, stand: Stand) {
        self.rows.borrow_mut().push((key, stand));
    }

    /// Where all partitions stand that were closed; afterwards there are none.
    pub fn take_rows(&self) -> Vec<Row> {
        self.rows.take()
    }

    /// A partition that rests is woken soon, one after another, and looks what it has to do.
    fn look_in_turn(&self, key: Key) {
        if let Some(State::Resting(place)) = self.partitions.borrow().get(&key) {
            let mut resting = self.resting.borrow_mut();
            self.upkeep.borrow_mut().hurry(key, &mut resting[*place].stand);
            self.hurried.notify_one();
        }
    }

    fn use_number(&self) -> u64 {
        let number = self.uses.get() + 1;
        self.uses.set(number);
        number
    }

    /// Asks those that were not asked for longest to rest: a share of all, so that it need not be
    /// done again at once.
    fn make_room(&self) {
        let partitions = self.partitions.borrow();
        let mut in_use: Vec<_> = partitions
            .values()
            .filter_map(|state| match state {
                State::InUse { queue, used } => Some((used.get(), queue)),
                State::Resting(_) => None,
            })
            .collect();
        let share = in_use.len() / 16;
        in_use.select_nth_unstable_by_key(share, |(used, _)| *used);
        for (_, queue) in &in_use[..=share] {
            probe::hit(Probe::RestAsked);
            // One whose queue is full does not rest.
            let _ = queue.try_send(Ask::Rest);
        }
    }
}

/// Takes over what a clean stop told of this core's partitions: they rest.
pub fn begin<I: Io>(core: &Core<I>, rows: Vec<Row>) {
    let image = core.shared.image();
    for (key, stand) in rows {
        let Some((topic, partition)) = image.partition(key.0, key.1) else { continue };
        probe::hit(Probe::BegunAtRest);
        let epoch = partition.leader_epoch;
        let gauge = core.shared.gauges.make(core.id, topic.name.clone(), epoch, stand.end);
        gauge.stand(&stand);
        core.shared.gauges.open(key, gauge.clone());
        core.shard.upkeep.borrow_mut().add(key, &stand);
        let resting = Resting { stand, epoch, parked: Parked::default(), gauge };
        let place = core.shard.resting.borrow_mut().insert(resting);
        core.shard.partitions.borrow_mut().insert(key, State::Resting(place));
    }
}

/// Sends `ask` to the partition's owner, whichever core that is. Waits while its queue is full.
pub async fn ask<I: Io>(core: &Rc<Core<I>>, to: Key, ask: Ask<I::File>) {
    if let Err(ask) = ask_now(core, to, ask) {
        Box::pin(ask_later(core, to, ask)).await;
    }
}

/// Sends `ask` to the partition's owner, or gives it back if that cannot be done without waiting.
/// Nearly always it can, and what waits is kept out of its callers' futures: those are moved as they
/// are begun, all of them for every request.
pub fn ask_now<I: Io>(core: &Rc<Core<I>>, to: Key, ask: Ask<I::File>) -> Result<(), Ask<I::File>> {
    let owner = place::owner(to.0, to.1, core.shared.cores());
    if owner == core.id {
        deliver_now(core, to, ask)
    } else {
        core.shared.inbox(owner).push(Message { to, ask }).map_err(|Message { ask, .. }| ask)
    }
}

/// Sends what [`ask_now`] gave back.
pub async fn ask_later<I: Io>(core: &Rc<Core<I>>, to: Key, ask: Ask<I::File>) {
    let owner = place::owner(to.0, to.1, core.shared.cores());
    if owner == core.id {
        deliver_later(core, to, ask).await;
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

/// Hands `ask` to a partition of this core.
pub async fn deliver<I: Io>(core: &Rc<Core<I>>, to: Key, ask: Ask<I::File>) {
    if let Err(ask) = deliver_now(core, to, ask) {
        deliver_later(core, to, ask).await;
    }
}

/// Hands `ask` to a partition of this core, or gives it back if that has to be started or has no
/// room: nothing is cloned and nothing waits.
fn deliver_now<I: Io>(core: &Rc<Core<I>>, to: Key, ask: Ask<I::File>) -> Result<(), Ask<I::File>> {
    match core.shard.partitions.borrow_mut().get_mut(&to) {
        Some(State::InUse { queue, used }) => {
            let is_use = ask.is_use();
            match queue.try_send(ask) {
                Ok(()) => {
                    if is_use {
                        used.set(core.shard.use_number());
                    }
                    Ok(())
                }
                Err(TrySendError::Full(unsent)) => {
                    probe::hit(Probe::QueueFull);
                    Err(unsent)
                }
                Err(TrySendError::Closed(unsent)) => Err(unsent),
            }
        }
        Some(State::Resting(place)) => {
            core.shard.resting.borrow_mut()[*place].answer(ask).map_or(Ok(()), Err)
        }
        None => Err(ask),
    }
}

async fn deliver_later<I: Io>(core: &Rc<Core<I>>, to: Key, ask: Ask<I::File>) {
    match reach(core, to) {
        // While it waits for room the queue is this question's as well, and its task does not end.
        Some(queue) => {
            if let Err(mpsc::error::SendError(ask)) = queue.send(ask).await {
                probe::hit(Probe::QueueClosed);
                ask.refuse(ErrorCode::NotLeaderOrFollower);
            }
        }
        None => {
            probe::hit(Probe::AskUnknown);
            ask.refuse(match core.shard.closed.get() {
                true => ErrorCode::NotLeaderOrFollower,
                false => ErrorCode::UnknownTopicOrPartition,
            });
        }
    }
}

/// The queue of a partition that the image has, started if need be.
fn reach<I: Io>(core: &Rc<Core<I>>, key: Key) -> Option<mpsc::Sender<Ask<I::File>>> {
    let shard = &core.shard;
    if let Some(State::InUse { queue, .. }) = shard.partitions.borrow().get(&key) {
        return Some(queue.clone());
    }
    if shard.closed.get() {
        return None;
    }
    let image = core.shared.image();
    let (topic, _) = image.partition(key.0, key.1)?;
    let rested = match shard.partitions.borrow_mut().remove(&key) {
        Some(State::Resting(place)) => {
            probe::hit(Probe::Woken);
            let rested = shard.resting.borrow_mut().remove(place);
            shard.upkeep.borrow_mut().remove(key, &rested.stand);
            Some(rested)
        }
        _ => None,
    };
    let queue = partition::start(core, topic.clone(), key.1, rested);
    let state = State::InUse { queue: queue.clone(), used: Cell::new(shard.use_number()) };
    shard.partitions.borrow_mut().insert(key, state);
    shard.in_use.set(shard.in_use.get() + 1);
    shard.started.set(shard.started.get().saturating_add(1));
    let most = core.in_use_max();
    if shard.in_use.get() > most && shard.started.get() > most / 16 {
        shard.started.set(0);
        shard.make_room();
    }
    Some(queue)
}

/// Whether a partition has been opened, or a clean stop told of it.
fn knows<I: Io>(core: &Core<I>, key: Key) -> bool {
    core.shard.partitions.borrow().contains_key(&key)
}

fn is_in_use<I: Io>(core: &Core<I>, key: Key) -> bool {
    matches!(core.shard.partitions.borrow().get(&key), Some(State::InUse { .. }))
}

/// The topics of an image.
fn topics_of(image: &Image) -> BTreeMap<TopicId, Arc<Topic>> {
    image.topics().map(|topic| (topic.id, topic.clone())).collect()
}

/// Passes changed settings on to partitions, those of topics and those of the broker. Nothing that takes
/// long, such as opening logs, holds it up.
pub async fn reconfigure<I: Io>(core: Rc<Core<I>>) {
    let mut images = core.shared.images();
    let mut known: BTreeMap<TopicId, Arc<Topic>> = BTreeMap::new();
    loop {
        let image = images.borrow_and_update().clone();
        core.configure(&image);
        let all = core.reconfigured.take();
        let current = topics_of(&image);
        for topic in current.values() {
            let before = known.get(&topic.id);
            let changed = !before.is_some_and(|before| Arc::ptr_eq(before, topic));
            if !all && !changed {
                continue;
            }
            for key in owned(&core, topic) {
                if is_in_use(&core, key) || (before.is_some() && changed) {
                    // Also one that a client opened with the settings of an image between two rounds.
                    if knows(&core, key) {
                        deliver(&core, key, Ask::Configure(topic.clone())).await;
                    }
                } else if before.is_some() {
                    core.shard.look_in_turn(key);
                }
            }
        }
        core.settings.retain(|id| current.contains_key(&id));
        known = current;
        if images.changed().await.is_err() {
            return;
        }
    }
}

/// Follows the cluster's metadata: opens what is new, and removes what was deleted.
pub async fn follow<I: Io>(core: Rc<Core<I>>) {
    let mut images = core.shared.images();
    let mut known: BTreeMap<TopicId, Arc<Topic>> = BTreeMap::new();
    let mut first = true;
    loop {
        let image = images.borrow_and_update().clone();
        // Before any log is opened with them.
        core.configure(&image);
        let current = topics_of(&image);
        let mut new = Vec::new();
        for topic in current.values() {
            if !known.get(&topic.id).is_some_and(|before| Arc::ptr_eq(before, topic)) {
                new.extend(owned(&core, topic).into_iter().filter(|key| !knows(&core, *key)));
            }
        }
        if first {
            core.tally.logs_to_open.set(new.len() as u64 + 1);
        }
        let looked_at = if first { new.clone() } else { Vec::new() };
        open(&core, new, std::mem::take(&mut first)).await;
        for key in looked_at {
            // Deleted before its turn to be opened came: nobody else knows of its files.
            if !knows(&core, key) && core.shared.image().partition(key.0, key.1).is_none() {
                delete(&core, key, &current[&key.0].name).await;
            }
        }
        // By the newest image, not by the one of this round: while the round waited, a client may
        // have been the first to ask for a partition of a topic that is newer than the round.
        for key in gone(&core, &core.shared.image()) {
            // A stop does not wait for it, and finds files left behind.
            core.shared.left_behind.fetch_add(1, Ordering::Relaxed);
            end(&core, key, Ask::Delete).await;
            core.shared.left_behind.fetch_sub(1, Ordering::Relaxed);
        }
        known = current;
        if images.changed().await.is_err() {
            return;
        }
    }
}

/// Opens partitions, a few at a time: what clients ask for need not wait in line. At the start these
/// are the ones that were not closed cleanly, and recovered by it; they rest if nobody asks for them.
async fn open<I: Io>(core: &Rc<Core<I>>, keys: Vec<Key>, at_start: bool) {
    let all = keys.len();
    let begun = core.io.now();
    let mut told = begun;
    let mut keys = keys.into_iter();
    let mut opening = FuturesUnordered::new();
    let mut opened = 0;
    loop {
        while opening.len() < LOGS_OPENED_AT_ONCE_MAX
            && let Some(key) = keys.next()
        {
            opening.push(async move {
                let (answer, ready) = oneshot::channel();
                let ask = if at_start { Ask::Upkeep(answer) } else { Ask::Ready(answer) };
                deliver(core, key, ask).await;
                // One that fails says so itself.
                let _ = ready.await;
            });
        }
        if opening.next().await.is_none() {
            break;
        }
        opened += 1;
        core.tally.logs_opened.add(u64::from(at_start));
        if at_start && core.io.now().since(told) >= PROGRESS {
            told = core.io.now();
            info!(core = core.id.0, "{opened} of {all} partitions looked at");
        }
    }
    if at_start && all > 0 {
        let ms = core.io.now().since(begun).as_millis();
        info!(core = core.id.0, ms, "looked at {all} partitions that were not closed cleanly");
    }
}

/// The partitions that the image does not have any more.
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
    let mut closing = FuturesUnordered::new();
    loop {
        while closing.len() < LOGS_CLOSED_AT_ONCE_MAX {
            let next = core.shard.partitions.borrow().keys().next().copied();
            let Some(key) = next else { break };
            // Taken out of the table by the first poll, so that the next one is another.
            let mut ending = Box::pin(end(core, key, Ask::Close));
            if poll_immediate(&mut ending).await.is_none() {
                closing.push(ending);
            }
        }
        if closing.next().await.is_none() {
            return;
        }
    }
}

async fn end<I: Io>(
    core: &Rc<Core<I>>,
    key: Key,
    how: impl FnOnce(oneshot::Sender<()>) -> Ask<I::File>,
) {
    let state = core.shard.partitions.borrow_mut().remove(&key);
    let (done, ended) = oneshot::channel();
    match (state, how(done)) {
        (Some(State::InUse { queue, .. }), how) => {
            core.shard.in_use.set(core.shard.in_use.get() - 1);
            if queue.send(how).await.is_ok() {
                let _ = ended.await;
            }
        }
        (Some(State::Resting(place)), how) => {
            let mut resting = core.shard.resting.borrow_mut().remove(place);
            core.shard.upkeep.borrow_mut().remove(key, &resting.stand);
            core.shared.gauges.close(key);
            resting.parked.wake_all();
            if matches!(how, Ask::Delete(_)) {
                probe::hit(Probe::DeletedAtRest);
                delete(core, key, resting.gauge.topic()).await;
            } else {
                core.shard.closed_at(key, resting.stand);
            }
        }
        (None, _) => {}
    }
}

/// Removes the folder of a partition that is not open, and whose topic is gone.
async fn delete<I: Io>(core: &Core<I>, key: Key, topic: &str) {
    let folder = data::folder(&core.shared.data, topic, key.0, key.1);
    if let Err(error) = data::remove_tree(&core.io, &folder).await {
        core.shared.left_behind.fetch_add(1, Ordering::Relaxed);
        error!(folder = %folder.display(), %error,
            "could not remove a deleted partition; the next start tries again");
    }
}
