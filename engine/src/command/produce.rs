//! `trialog produce`: every line of standard input becomes a record.
//!
//! Lines are handed to the producer as they come and their outcomes taken in the same order. The
//! first record that is not stored ends the reading; those already on their way are waited for.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use trialog_engine::client::{self, NewRecord, Outcome, Producer, ProducerOptions, Ticket};
use trialog_engine::id::PartitionIndex;
use trialog_engine::io::kernel::KernelIo;

use super::cli::Produce;
use super::failure::Failure;
use super::lines;
use super::output::Output;
use super::reach::{Missing, Reached, reach};
use super::runtime;

/// Records whose outcome may be awaited at once.
const AWAITED_MAX: usize = 10_000;

/// Writes standard input's lines.
pub fn run(arguments: Produce, output: &mut Output) -> Result<(), Failure> {
    runtime::client(async |io| {
        let reached = reach(io, &arguments.bootstrap).await?;
        reached.topic(&arguments.topic, Missing::Make).await?;
        let producer = reached.client.producer(options(&arguments));
        let mut work = Work {
            producer,
            arguments: &arguments,
            reached: &reached,
            output,
            awaited: VecDeque::new(),
            taken: 0,
            settled: 0,
            stored: 0,
        };
        let ended = work.read(lines::standard_input()).await;
        let drained = work.drain().await;
        let stored = work.stored;
        output.remark(&format!("{stored} record(s) stored in {}", arguments.topic))?;
        ended.and(drained)
    })
}

fn options(arguments: &Produce) -> ProducerOptions {
    ProducerOptions {
        acks: arguments.acks.into(),
        compression: arguments.compression.into(),
        delivery_timeout: Duration::from_secs(arguments.bootstrap.timeout),
        ..ProducerOptions::default()
    }
}

/// What one run has under way.
struct Work<'a> {
    producer: Producer<KernelIo>,
    arguments: &'a Produce,
    reached: &'a Reached,
    output: &'a mut Output,
    awaited: VecDeque<Ticket>,
    /// Lines handed to the producer.
    taken: u64,
    /// Lines whose outcome is known.
    settled: u64,
    /// Records stored.
    stored: u64,
}

impl Work<'_> {
    /// Takes lines until they end or one fails, and outcomes meanwhile.
    async fn read(
        &mut self,
        mut lines: mpsc::Receiver<io::Result<Vec<u8>>>,
    ) -> Result<(), Failure> {
        loop {
            tokio::select! {
                biased; // Outcomes first: they are what bounds the memory.
                Some(outcome) = next(&mut self.awaited) => self.settle(outcome)?,
                line = lines.recv(), if self.awaited.len() < AWAITED_MAX => match line {
                    None => return Ok(()),
                    Some(Ok(line)) => self.hand_over(&line).await?,
                    Some(Err(error)) => {
                        return Err(Failure::Other(format!("cannot read the input: {error}")));
                    }
                }
            }
        }
    }

    async fn hand_over(&mut self, line: &[u8]) -> Result<(), Failure> {
        let (key, value) = match &self.arguments.key_separator {
            Some(separator) => lines::key_and_value(line, separator.as_bytes()),
            None => (None, line.to_vec()),
        };
        let record = NewRecord {
            topic: &self.arguments.topic,
            partition: self.arguments.partition.map(PartitionIndex),
            key: key.as_deref(),
            value: Some(&value),
            ..NewRecord::default()
        };
        let ticket = self.producer.enqueue(record).await;
        self.taken += 1;
        let ticket =
            ticket.map_err(|error| self.not_stored(self.taken, "was not stored", &error))?;
        self.awaited.push_back(ticket);
        Ok(())
    }

    /// Waits for everything that is under way; the first failure is told.
    async fn drain(&mut self) -> Result<(), Failure> {
        let mut result = Ok(());
        while let Some(outcome) = next(&mut self.awaited).await {
            let settled = self.settle(outcome);
            result = result.and(settled);
        }
        result
    }

    fn settle(&mut self, outcome: Outcome) -> Result<(), Failure> {
        self.settled += 1;
        match outcome {
            Outcome::Stored(receipt) => {
                self.stored += 1;
                if !self.output.is_json() {
                    return Ok(());
                }
                let json = json!({
                    "topic": self.arguments.topic,
                    "partition": receipt.partition.0,
                    "offset": receipt.offset.map(|offset| offset.0),
                    "timestamp": receipt.timestamp,
                });
                self.output.line("", &json)
            }
            Outcome::Failed(error) => Err(self.not_stored(self.settled, "was not stored", &error)),
            Outcome::Unknown(error) => {
                Err(self.not_stored(self.settled, "may or may not be stored", &error))
            }
        }
    }

    fn not_stored(&self, line: u64, what: &str, error: &client::Failure) -> Failure {
        let prefix = |sentence: String| format!("line {line} {what}: {sentence}");
        match self.reached.undelivered(error) {
            Failure::Refused(sentence) => Failure::Refused(prefix(sentence)),
            Failure::NoAnswer(sentence) => Failure::NoAnswer(prefix(sentence)),
            other => Failure::Other(prefix(other.to_string())),
        }
    }
}

/// The outcome of the oldest record under way; `None` if there is none.
async fn next(awaited: &mut VecDeque<Ticket>) -> Option<Outcome> {
    let outcome = awaited.front_mut()?.await;
    awaited.pop_front();
    Some(outcome)
}
