//! The hosts of the pure machines: each decides one command after another, makes the records
//! durable, applies them, and only then lets the answers go.
//!
//! [`cluster`] hosts the cluster's metadata on a log of its own; [`group`] hosts consumer groups on
//! the partitions of `__consumer_offsets`, which are partitions like all others, so that whatever
//! holds for an acknowledged record holds for them.

pub mod cluster;
pub mod group;

pub use cluster::{Host, MetadataError, Order, Refused};

use crate::id::Offset;
use crate::wire::batch::{Batch, Record};

/// Hands each record of whole batches to `apply`, and returns the offset behind the last.
fn each_record(
    mut bytes: &[u8],
    mut apply: impl FnMut(Record<'_>) -> Result<(), String>,
) -> Result<Offset, String> {
    let mut next = Offset(0);
    while !bytes.is_empty() {
        let batch = Batch::parse(bytes).map_err(|error| error.to_string())?;
        if !batch.crc_matches() {
            return Err(format!(
                "the batch at offset {} has a wrong checksum",
                batch.base_offset()
            ));
        }
        if !batch.is_control() {
            let contents = batch.contents().map_err(|error| error.to_string())?;
            for record in contents.records() {
                apply(record.map_err(|error| error.to_string())?)?;
            }
        }
        next = batch.last_offset().plus(1);
        bytes = &bytes[batch.size()..];
    }
    Ok(next)
}
