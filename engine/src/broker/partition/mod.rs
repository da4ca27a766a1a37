//! One partition on its core, from its first opening to its end: who owns its log, and what is
//! answered while nobody can.
//!
//! An [`owner`] serves for as long as the log is open; it appends ([`mod@write`]) and plans fetches
//! ([`read`]). It ends, with the log closed, when the partition has had nothing to do for some time
//! ([`super::rest`]). A log that cannot be opened is offline until a restart, or until there is room on
//! the disk. Lives on the core that `machine::place` names.

mod owner;
mod read;
mod write;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{error, warn};

use self::owner::Owner;
pub(super) use self::read::timestamp;
use super::ask::Ask;
use super::rest::Resting;
use super::{Core, data};
use crate::id::{LeaderEpoch, PartitionIndex};
use crate::io::{self, Io};
use crate::limit::{PARTITION_MESSAGES_MAX, ROOM_RETRY_PAUSE};
use crate::log;
use crate::machine::Topic;
use crate::probe::{self, Probe};
use crate::wire::code::ErrorCode;

/// How an owner's work ended.
enum Ended {
    /// For good.
    Closed,
    /// Its log is closed, and it may be opened again.
    Rested(Arc<Topic>, Resting),
    /// Its log could not be closed.
    Failed(Arc<Topic>, Resting, io::Error),
}

/// Starts the task that owns partition `index` of `topic`, which may have rested, and returns the way
/// to it.
pub fn start<I: Io>(
    core: &Rc<Core<I>>,
    topic: Arc<Topic>,
    index: PartitionIndex,
    rested: Option<Resting>,
) -> mpsc::Sender<Ask<I::File>> {
    let (sender, asks) = mpsc::channel(PARTITION_MESSAGES_MAX);
    core.io.spawn(run(core.clone(), topic, index, rested, asks));
    sender
}

async fn run<I: Io>(
    core: Rc<Core<I>>,
    mut topic: Arc<Topic>,
    index: PartitionIndex,
    mut rested: Option<Resting>,
    mut asks: mpsc::Receiver<Ask<I::File>>,
) {
    let mut told = false;
    loop {
        let opened = Owner::open(&core, &topic, index, rested.take()).await;
        let Unopened { reason, full, scarce } = match opened {
            Ok(owner) => match owner.serve(&mut asks).await {
                Ended::Closed => return,
                Ended::Rested(newest, resting) => {
                    topic = newest;
                    match core.shard.rest((topic.id, index), resting, &asks) {
                        Ok(()) => {
                            core.shared.rested.send_modify(|times| *times += 1);
                            return;
                        }
                        Err(back) => rested = Some(back),
                    }
                    continue;
                }
                Ended::Failed(newest, resting, error) => {
                    topic = newest;
                    if io::is_full(&error) || io::is_scarce(&error) {
                        // What could not be written says nothing about the log: it is opened again.
                        if io::is_full(&error) {
                            core.shared.room.found_none();
                        }
                        rested = Some(resting);
                        continue;
                    }
                    Unopened::of(format!("its log could not be closed: {error}"))
                }
            },
            Err(unopened) => unopened,
        };
        if full {
            core.shared.room.found_none();
            if !std::mem::replace(&mut told, true) {
                probe::hit(Probe::PartitionWaitedForRoom);
                warn!(topic = %topic.name, partition = %index, reason,
                    "the partition is offline until there is room on the disk to open its log");
            }
        } else if scarce {
            if !std::mem::replace(&mut told, true) {
                probe::hit(Probe::PartitionWaitedForMore);
                warn!(topic = %topic.name, partition = %index, reason,
                    "the partition is offline until the system has descriptors and memory again; \
                     raise the limit (`ulimit -n`), or lower trialog.partitions.open.max");
            }
        } else {
            probe::hit(Probe::PartitionOffline);
            error!(topic = %topic.name, partition = %index, reason,
                "the partition is offline: its log cannot be opened; `trialog log verify` on its \
                 folder says where it is damaged");
        }
        core.tally.logs_offline.add(1);
        let retry = (full || scarce).then_some(ROOM_RETRY_PAUSE);
        let ended = offline(&core, &topic, index, &mut asks, retry).await;
        core.tally.logs_offline.set(core.tally.logs_offline.get() - 1);
        if ended {
            return;
        }
    }
}

/// Why a log could not be opened, and whether that will pass.
struct Unopened {
    reason: String,
    /// For lack of room on the disk.
    full: bool,
    /// For lack of what the system gives out.
    scarce: bool,
}

impl Unopened {
    /// Something that does not pass.
    fn of(reason: String) -> Unopened {
        Unopened { reason, full: false, scarce: false }
    }

    fn storage(error: &io::Error) -> Unopened {
        let (full, scarce) = (io::is_full(error), io::is_scarce(error));
        Unopened { reason: error.to_string(), full, scarce }
    }

    fn log(error: &log::OpenError) -> Unopened {
        let reason = error.to_string();
        match error {
            log::OpenError::Storage { source, .. } => {
                Unopened { reason, ..Unopened::storage(source) }
            }
            _ => Unopened::of(reason),
        }
    }

    /// Its log has an epoch that no leader has had.
    fn ahead(latest: LeaderEpoch, leader: LeaderEpoch) -> Unopened {
        Unopened::of(format!(
            "the log is damaged: it has batches of leader epoch {latest}, and its leader's is {leader}"
        ))
    }
}

/// Answers everything with a storage error: the log could not be opened. False if it is time to try
/// that again, true at the end.
async fn offline<I: Io>(
    core: &Rc<Core<I>>,
    topic: &Arc<Topic>,
    index: PartitionIndex,
    asks: &mut mpsc::Receiver<Ask<I::File>>,
    retry: Option<Duration>,
) -> bool {
    let mut pause = std::pin::pin!(async {
        match retry {
            Some(pause) => core.io.sleep(pause).await,
            None => std::future::pending().await,
        }
    });
    loop {
        let ask = tokio::select! {
            biased; // Questions do not put the next attempt off.
            () = &mut pause => return false,
            ask = asks.recv() => ask,
        };
        match ask {
            None => return true,
            Some(Ask::Close(done)) => {
                refuse_rest(asks);
                let _ = done.send(());
                return true;
            }
            Some(Ask::Delete(done)) => {
                refuse_rest(asks);
                let folder = data::partition_folder(&core.shared.data, topic, index);
                if let Err(error) = data::remove_tree(&core.io, &folder).await {
                    core.shared.left_behind.fetch_add(1, Ordering::Relaxed);
                    error!(folder = %folder.display(), %error,
                        "could not remove a deleted partition; the next start tries again");
                }
                let _ = done.send(());
                return true;
            }
            Some(other) => other.refuse(ErrorCode::KafkaStorageError),
        }
    }
}

/// Refuses what was asked before a partition's end and came too late.
fn refuse_rest<F>(asks: &mut mpsc::Receiver<Ask<F>>) {
    asks.close();
    while let Ok(ask) = asks.try_recv() {
        probe::hit(Probe::ClosedWithAsks);
        ask.refuse(ErrorCode::NotLeaderOrFollower);
    }
}

pub(super) fn retention_check<I: Io>(core: &Core<I>) -> Duration {
    Duration::from_millis(core.shared.config.retention_check_interval_ms)
}
