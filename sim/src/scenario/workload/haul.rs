//! A hauler: asks with requests that are so large that a broker has to find memory for them, several at
//! once, of a broker that has little (`queued.max.request.bytes`, by the fault `LittleMemory`).
//!
//! One that finds none waits, unread, and may be closed; some take very long to arrive and keep what they
//! have meanwhile, and some are larger than what a core will ever have. Nothing of them is stored: they
//! name a partition that is not there. Once all is healed, a request that fits must get its answer:
//! whatever was taken for others was given back. Some haulers then ask for all memory several times at
//! once, so evenly that nobody may be put out: who comes last waits in vain, and is closed.

use std::time::Duration;

use futures_util::future::join_all;
use trialog_engine::id::{PartitionIndex, TopicId};
use trialog_engine::io::Io;
use trialog_engine::limit::{LARGE_FRAME_BYTES, REQUEST_MEMORY_UNIT};
use trialog_engine::wire::api::ApiKey;
use trialog_engine::wire::batch::Builder;
use trialog_engine::wire::code::ErrorCode;
use trialog_engine::wire::produce::{
    ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic,
};

use super::wire::{Wire, at_most};
use crate::scenario::shape::HaulerShape;
use crate::scenario::stage::Actor;

/// The newest version in which topics have names.
const VERSION: i16 = 12;
/// A partition that no topic has.
const NOWHERE: PartitionIndex = PartitionIndex(9999);
/// How large a request is at most, in bytes: more than a core of some brokers may have.
const BYTES_MAX: usize = 290_000;
/// What a request is larger than its records, in bytes, at most.
const AROUND: usize = 500;
/// How long an answer is waited for, and one that has to wait for memory first.
const PATIENCE: Duration = Duration::from_secs(35);
/// The last part of a request that dawdles comes in so many pieces, so long apart.
const PIECES: usize = 64;
const DAWDLE: Duration = Duration::from_millis(520);
/// How many requests queue, how long all of one takes to arrive once it is its turn, and in how many
/// pieces: a little faster than memory may be kept, so that two of them keep it from the third for longer
/// than anybody waits.
const QUEUE: u32 = 3;
const TURN: Duration = Duration::from_secs(18);
const TURN_PIECES: u32 = 180;

/// How a request comes.
#[derive(Clone, Copy)]
enum Pace {
    /// At once.
    Whole,
    /// At once, but for its last bytes.
    Dawdling,
    /// So much of it that it needs memory, and the rest evenly, after so long.
    Queueing(Duration),
}

/// A hauler's program.
pub(super) async fn perform(actor: Actor, shape: HaulerShape) {
    super::admin::prepare(&actor).await;
    while !actor.stage.curtain() {
        let (mut random, left_out) = actor.step();
        let hauls: Vec<(usize, Pace)> = (0..shape.at_once)
            .map(|_| {
                let bytes = random.within(LARGE_FRAME_BYTES as u64..BYTES_MAX as u64) as usize;
                let dawdles = random.chance(1, shape.dawdles_every);
                (bytes, if dawdles { Pace::Dawdling } else { Pace::Whole })
            })
            .collect();
        if !left_out {
            let hauls = hauls.iter().map(|&(bytes, pace)| haul(&actor, bytes, pace));
            join_all(hauls.collect::<Vec<_>>()).await;
        }
        actor.pause(&mut random, shape.pause).await;
    }
    until_answered(&actor).await;
    if shape.queues {
        queue(&actor).await;
        until_answered(&actor).await;
    }
}

/// Asks with a request that fits, until it is answered.
async fn until_answered(actor: &Actor) {
    while haul(actor, fitting(actor), Pace::Whole).await.is_none() {
        actor.io.sleep(Duration::from_millis(200)).await;
    }
}

/// Requests for all memory that there is, which come one after the other.
async fn queue(actor: &Actor) {
    let hauls = (0..QUEUE).map(|place| async move {
        // In this order they wait.
        actor.io.sleep(place * Duration::from_millis(500)).await;
        haul(actor, fitting(actor), Pace::Queueing(place * TURN)).await
    });
    join_all(hauls.collect::<Vec<_>>()).await;
}

/// The size of a request that each core of the broker may have, however many cores that has.
fn fitting(actor: &Actor) -> usize {
    let broker = &actor.stage.shape.brokers[actor.shape().home];
    let all = broker.request_memory.expect("there are haulers where it is little") as usize;
    let cores = broker.cores.iter().max().copied().unwrap_or(1);
    all / usize::from(cores) / REQUEST_MEMORY_UNIT * REQUEST_MEMORY_UNIT - AROUND
}

/// Sends one request of about so many bytes; none if it was not answered.
async fn haul(actor: &Actor, bytes: usize, pace: Pace) -> Option<()> {
    let patience = PATIENCE
        + match pace {
            Pace::Whole => Duration::ZERO,
            Pace::Dawdling => PATIENCE,
            Pace::Queueing(pause) => pause + TURN,
        };
    at_most(&actor.io, patience, exchange(actor, bytes, pace)).await
}

async fn exchange(actor: &Actor, bytes: usize, pace: Pace) -> Option<()> {
    let mut batch = Builder::new();
    batch.push(actor.io.wall().0, None, Some(&vec![7; bytes - AROUND]), &[]);
    let records = batch.finish();
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 5000,
        topics: vec![ProduceTopic {
            name: &actor.topic(actor.shape().topics[0]).name,
            topic_id: TopicId::NONE,
            partitions: vec![ProducePartition { index: NOWHERE, records: Some(&*records) }],
        }],
    };
    let mut wire = Wire::open(actor, "hauler").await?;
    let encode = |out: &mut Vec<u8>| request.encode(out, VERSION);
    let (asked, mut frame) = wire.frame(ApiKey::Produce, VERSION, encode);
    let (at_once, pause, piece, apart) = match pace {
        Pace::Whole => (frame.len(), Duration::ZERO, 1, Duration::ZERO),
        Pace::Dawdling => (frame.len() - PIECES, Duration::ZERO, 1, DAWDLE),
        Pace::Queueing(pause) => {
            let rest = frame.len() - LARGE_FRAME_BYTES;
            (LARGE_FRAME_BYTES, pause, rest.div_ceil(TURN_PIECES as usize), TURN / TURN_PIECES)
        }
    };
    let rest = frame.split_off(at_once);
    wire.send(frame).await?;
    actor.io.sleep(pause).await;
    for piece in rest.chunks(piece) {
        actor.io.sleep(apart).await;
        wire.send(piece.to_vec()).await?;
    }
    let answer = wire.hear().await?;
    let response = ProduceResponse::decode(answer.body(ApiKey::Produce, VERSION)?, VERSION).ok()?;
    let told = response.topics.into_iter().next()?.partitions.into_iter().next()?;
    if answer.correlation != asked || told.index != NOWHERE || told.error == ErrorCode::None {
        let text = format!("a produce to no partition was answered {told:?}");
        actor.stage.complain(text);
    }
    Some(())
}
