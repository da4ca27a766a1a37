//! End to end: from the moment a record was due to the moment it was read, producer and consumer in
//! this one process and on one clock.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use trialog_engine::client::{self, NewRecord, Outcome, Producer, Start};
use trialog_engine::id::{Offset, PartitionIndex};
use trialog_engine::io::kernel::KernelIo;
use trialog_engine::io::{Instant, Io};

use super::super::cli::BenchLoad;
use super::super::failure::Failure;
use super::super::reach::Reached;
use super::figures::Figures;
use super::produce::payload;
use super::{Pace, Target, reading, writing};

/// The rate if none is given, in records per second: latency under a load that nobody chose means
/// little.
pub const RATE: u64 = 1000;

/// What a value begins with: the run's number and the intended moment.
const STAMP_BYTES: usize = 16;

const ROUND: Duration = Duration::from_millis(100);

/// How long the last records may take to be read.
const LATE: Duration = Duration::from_secs(30);

/// What the writing task has got to.
#[derive(Default)]
struct Writing {
    handed_over: Cell<u64>,
    is_done: Cell<bool>,
    failed: Cell<Option<client::Failure>>,
}

/// Writes at a rate by way of `writer` and reads along.
pub(crate) async fn run(
    io: &KernelIo,
    reached: &Reached,
    writer: &Reached,
    target: &Target,
    load: &BenchLoad,
) -> Result<Figures, Failure> {
    let topic = target.topic.as_str();
    let mut consumer = reached.client.consumer(reading());
    for partition in 0..target.partitions {
        let end = reached.offset(topic, partition, Start::Latest).await?.unwrap_or(0);
        let start = Start::Offset(Offset(end));
        consumer.assign(topic, PartitionIndex(partition), start);
    }
    let run = io.random();
    let producer = writer.client.producer(writing(load));
    let writing = Rc::new(Writing::default());
    io.spawn(write(io.clone(), producer, topic.to_owned(), load.clone(), run, writing.clone()));

    let figures = Figures::begin(io);
    let mut quiet_since = io.now();
    while !writing.is_done.get() || figures.records() < writing.handed_over.get() {
        if let Some(error) = writing.failed.take() {
            return Err(writer.undelivered(&error));
        }
        let polled = consumer.poll(ROUND).await.map_err(|error| reached.unread(&error))?;
        let now = io.now();
        for record in polled {
            let value = record.value.unwrap_or_default();
            if let Some(due) = stamped(&value, run) {
                figures.count_since(due, now, value.len());
                quiet_since = now;
            }
        }
        if now.since(quiet_since) > LATE {
            let missing = writing.handed_over.get() - figures.records();
            return Err(Failure::NoAnswer(format!(
                "{missing} of {} records were not read within {} s",
                writing.handed_over.get(),
                LATE.as_secs()
            )));
        }
    }
    Ok(figures)
}

async fn write(
    io: KernelIo,
    producer: Producer<KernelIo>,
    topic: String,
    load: BenchLoad,
    run: u64,
    writing: Rc<Writing>,
) {
    let mut value = payload(&io, load.size.max(STAMP_BYTES));
    value[..8].copy_from_slice(&run.to_be_bytes());
    let mut pace = Pace::begin(&io, &load);
    while let Some(due) = pace.next(&io).await {
        value[8..STAMP_BYTES].copy_from_slice(&due.0.to_be_bytes());
        let record = NewRecord { topic: &topic, value: Some(&value), ..NewRecord::default() };
        match producer.enqueue(record).await {
            Ok(ticket) => {
                writing.handed_over.set(writing.handed_over.get() + 1);
                let writing = writing.clone();
                io.spawn(async move {
                    if let Outcome::Failed(error) | Outcome::Unknown(error) = ticket.await {
                        writing.failed.set(Some(error));
                    }
                });
            }
            Err(error) => {
                writing.failed.set(Some(error));
                break;
            }
        }
    }
    producer.flush().await;
    writing.is_done.set(true);
}

/// When a record of this run was due.
fn stamped(value: &[u8], run: u64) -> Option<Instant> {
    let (number, rest) = value.split_first_chunk::<8>()?;
    let due = rest.first_chunk::<8>()?;
    (u64::from_be_bytes(*number) == run).then(|| Instant(u64::from_be_bytes(*due)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_records_of_this_run_count() {
        let mut value = 7_u64.to_be_bytes().to_vec();
        value.extend(9_u64.to_be_bytes());
        assert_eq!(stamped(&value, 7), Some(Instant(9)));
        assert_eq!(stamped(&value, 8), None);
        assert_eq!(stamped(&value[..15], 7), None);
    }
}
