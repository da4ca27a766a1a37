//! How fast records are acknowledged, and how long after they were due.
//!
//! One producer writes to all partitions, a batch's worth to each in turn. Every partition has a
//! task that awaits its outcomes in order, so that a record costs no task of its own.

use tokio::sync::mpsc;
use trialog_engine::client::{self, NewRecord, Outcome, Ticket};
use trialog_engine::id::PartitionIndex;
use trialog_engine::io::kernel::KernelIo;
use trialog_engine::io::{Instant, Io};

use super::super::cli::BenchLoad;
use super::super::failure::Failure;
use super::super::reach::Reached;
use super::figures::Figures;
use super::{Pace, Target, writing};

/// Outcomes of one partition that may be awaited at once.
const AWAITED_MAX: usize = 100_000;

type Awaited = mpsc::Sender<(Instant, Ticket)>;

/// Writes as `load` says.
pub(crate) async fn run(
    io: &KernelIo,
    reached: &Reached,
    target: &Target,
    load: &BenchLoad,
) -> Result<Figures, Failure> {
    let producer = reached.client.producer(writing(load));
    let value = payload(io, load.size);
    let figures = Figures::begin(io);
    let (failed, mut failure) = mpsc::channel(1);
    let queues: Vec<Awaited> = (0..target.partitions)
        .map(|_| {
            let (queue, awaited) = mpsc::channel(AWAITED_MAX);
            let settle = settle(io.clone(), figures.clone(), load.size, awaited, failed.clone());
            io.spawn(settle);
            queue
        })
        .collect();
    drop(failed);
    let run_length = (load.batch_bytes / load.size.max(1)).max(1) as u64;
    let mut pace = Pace::begin(io, load);
    let mut number = 0;
    while let Some(due) = pace.next(io).await {
        let partition = (number / run_length) % queues.len() as u64;
        number += 1;
        let record = NewRecord {
            topic: &target.topic,
            partition: Some(PartitionIndex(i32::try_from(partition).expect("few partitions"))),
            value: Some(&value),
            ..NewRecord::default()
        };
        let ticket = producer.enqueue(record).await.map_err(|error| reached.undelivered(&error))?;
        let queue = &queues[usize::try_from(partition).expect("few partitions")];
        // The task ends early only when a record failed, and then it has said why.
        if queue.send((due, ticket)).await.is_err() {
            break;
        }
    }
    producer.flush().await;
    drop(queues);
    match failure.recv().await {
        None => Ok(figures),
        Some(error) => Err(reached.undelivered(&error)),
    }
}

/// Counts what is stored, until the queue ends or a record is not.
async fn settle(
    io: KernelIo,
    figures: Figures,
    bytes: usize,
    mut awaited: mpsc::Receiver<(Instant, Ticket)>,
    failed: mpsc::Sender<client::Failure>,
) {
    while let Some((due, ticket)) = awaited.recv().await {
        match ticket.await {
            Outcome::Stored(_) => figures.count_since(due, io.now(), bytes),
            Outcome::Failed(error) | Outcome::Unknown(error) => {
                // One failure is enough to end the run.
                let _ = failed.try_send(error);
                return;
            }
        }
    }
}

/// Bytes that look like text: letters that compress a little, as Kafka's own tool sends.
pub fn payload(io: &KernelIo, size: usize) -> Vec<u8> {
    let letter = |bits: u64| b'A' + u8::try_from(bits % 26).expect("below 26");
    (0..size).map(|_| letter(io.random())).collect()
}
