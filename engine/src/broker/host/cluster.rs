//! The host of the cluster machine: decides commands one after another, makes their records
//! durable in the metadata log, applies them, and publishes the image to all cores.
//!
//! Keeps: META-5, a reply or an image never shows what is not durable. A write that finds no room is
//! refused and changes nothing; one that fails ends the
//! host: commands are then refused, while what is known goes on being served, until a restart.
//! Lives on core 0. Must not know why anybody wants a command.

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::each_record;
use crate::broker::{Shared, data};
use crate::id::{LeaderEpoch, Offset};
use crate::io::{self, Buf, Io, Pool, watch};
use crate::limit::METADATA_READ_BYTES;
use crate::log::{self, AppendError, First, Log};
use crate::machine::{Cluster, Command, Image, Record, Refusal, Reply};
use crate::probe::{self, Probe};
use crate::wire::batch::Builder;

/// A command on its way to the machine.
pub struct Order {
    /// What is wanted.
    pub command: Command,
    /// The outcome; dropped without one, it is unknown.
    pub answer: oneshot::Sender<Result<Reply, Refused>>,
}

/// Why a command was not carried out.
#[derive(Clone, Debug)]
pub enum Refused {
    /// The machine said no.
    Machine(Refusal),
    /// The metadata log is out of use.
    Storage(String),
    /// There is no room on the disk: nothing has happened, and it may be tried again.
    Full,
    /// There is no descriptor for a new segment: nothing has happened, and it may be tried again.
    Scarce,
}

/// The machine with its log.
pub struct Host<I: Io> {
    io: I,
    cluster: Cluster,
    log: Log<I>,
    epoch: LeaderEpoch,
    failed: Option<String>,
}

/// Why the metadata cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the cluster's metadata cannot be read: {0}")]
pub struct MetadataError(String);

impl<I: Io> Host<I> {
    /// Opens the metadata log under `data` and replays it.
    pub async fn open(io: &I, pool: &Pool, data: &std::path::Path) -> Result<Self, MetadataError> {
        let failed = |what: &dyn std::fmt::Display| MetadataError(what.to_string());
        let config = log::Config {
            // Metadata is never removed by age or size.
            retention_ms: -1,
            retention_bytes: -1,
            delete: false,
            segment_bytes: 64 << 20,
            ..log::Config::default()
        };
        let folder = data::metadata_folder(data);
        match io.make_dir(&folder).await {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(&error));
            }
            _ => io.sync_dir(data).await.map_err(|error| failed(&error))?,
        }
        let (mut log, recovery) =
            Log::open(io, pool, &folder, config).await.map_err(|error| failed(&error))?;
        if let Some(damage) = recovery.damage.first() {
            return Err(failed(damage));
        }
        if !recovery.clean {
            probe::hit(Probe::MetadataRecovered);
        }
        let latest = log.latest_epoch();
        let next = latest.0.checked_add(1);
        let epoch = next.map(LeaderEpoch).ok_or_else(|| failed(&format!("epoch {latest}")))?;
        log.begin_epoch(epoch);
        let cluster = replay(&log).await.map_err(|error| failed(&error))?;
        info!(topics = cluster.image().topics().len(), "metadata replayed");
        Ok(Host { io: io.clone(), cluster, log, epoch, failed: None })
    }

    /// The cluster as it is now.
    #[must_use]
    pub fn image(&self) -> Image {
        self.cluster.image().clone()
    }

    /// Decides one command, and returns once it is durable and applied.
    pub async fn carry_out(&mut self, command: Command) -> Result<Reply, Refused> {
        if let Some(reason) = &self.failed {
            probe::hit(Probe::MetadataOffline);
            return Err(Refused::Storage(reason.clone()));
        }
        let (records, reply) = self.cluster.decide(command).map_err(|refusal| {
            probe::hit(Probe::CommandRefused);
            Refused::Machine(refusal)
        })?;
        if records.is_empty() {
            probe::hit(Probe::CommandIdle);
            return Ok(reply);
        }
        if let Err(unwritten) = self.write(&records).await {
            let reason = match unwritten {
                // Nothing was appended, and the log stays in use.
                AppendError::Full => {
                    probe::hit(Probe::MetadataFull);
                    return Err(Refused::Full);
                }
                AppendError::Scarce => return Err(Refused::Scarce),
                other => other.to_string(),
            };
            error!(reason, "metadata can no longer be changed, until the broker is restarted");
            probe::hit(Probe::MetadataFailed);
            self.failed = Some(reason.clone());
            return Err(Refused::Storage(reason));
        }
        for record in &records {
            self.cluster.apply(record).expect("META-1: what was decided can be applied");
        }
        Ok(reply)
    }

    async fn write(&mut self, records: &[Record]) -> Result<(), AppendError> {
        let now = self.io.wall();
        let mut batch = Builder::new();
        for record in records {
            batch.push(now.0, None, Some(&record.to_bytes()), &[]);
        }
        let batches = vec![Buf::from(batch.finish())];
        let appended = self.log.append(batches, self.epoch, now).await;
        for outcome in appended {
            outcome?;
        }
        while let Some(flush) = self.log.flush() {
            let flushed = flush.run().await;
            self.log.flushed(flushed)?;
        }
        assert_eq!(self.log.flushed_end(), self.log.end(), "META-5: flushed before it is shown");
        Ok(())
    }

    /// Serves orders until all who could give one are gone or `stop` says so, then closes the log.
    pub async fn serve(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        shared: &Shared<I>,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            let order = tokio::select! {
                biased; // Orders that were given before the stop are carried out.
                order = orders.recv() => order,
                _ = stop.wait_for(|stop| *stop) => None,
            };
            let Some(Order { command, answer }) = order else { break };
            let outcome = self.carry_out(command).await;
            if shared.image().version() < self.cluster.image().version() {
                shared.publish(self.image());
            }
            let _ = answer.send(outcome);
        }
        if let Err(error) = self.log.close().await {
            error!(%error, "the metadata log was not closed cleanly; the next start recovers it");
        }
    }
}

/// Builds the machine from all records of the log.
async fn replay<I: Io>(log: &Log<I>) -> Result<Cluster, String> {
    let mut cluster = Cluster::default();
    let mut next = log.start();
    let end = log.end();
    while next < end {
        let plan = log
            .plan(next, end, METADATA_READ_BYTES, First::AtLeastOneBatch)
            .await
            .map_err(|error| error.to_string())?;
        let before = next;
        for slice in plan.slices {
            let room = usize::try_from(slice.length).map_err(|error| error.to_string())?;
            let (result, bytes) =
                io::fill_at(&slice.file, Buf::with_capacity(room), slice.position).await;
            result.map_err(|error| error.to_string())?;
            next = apply_batches(&mut cluster, &bytes)?.max(next);
        }
        if next == before {
            return Err(format!("the log ends at offset {next} and should reach {end}"));
        }
    }
    Ok(cluster)
}

/// Applies whole batches and returns the offset behind the last.
fn apply_batches(cluster: &mut Cluster, bytes: &[u8]) -> Result<Offset, String> {
    each_record(bytes, |record| {
        let value = record.value.unwrap_or_default();
        let record = Record::decode(value).map_err(|error| error.to_string())?;
        cluster.apply(&record).map_err(|error| error.what)
    })
}
