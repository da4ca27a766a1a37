//! The checkpoint: what a log promises to be on the disk, in one small file.
//!
//! Pure encoding and decoding as `docs/format.md` draws it, and the [`Saver`], which replaces the
//! file. A checkpoint is true when it is written: everything below its point was flushed before.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tokio::sync::Mutex;

use super::bytes::{Bytes, crc};
use super::index::{FileId, NO_TIME};
use crate::id::{LeaderEpoch, Offset};
use crate::io::{self, Buf, ErrorKind, File, Io, Open, write_all_at};
use crate::probe::{self, Probe};

/// The file's name.
pub(super) const NAME: &str = "checkpoint";
/// The name while it is being written.
pub(super) const NAME_NEW: &str = "checkpoint.new";
/// How the names of files end that are being written.
pub(super) const NEW_SUFFIX: &str = ".new";
/// The newest format version of a log's folder that this program knows.
pub(super) const VERSION: u32 = 2;
/// The version before compaction: it lacks the column and the field that tell of it.
const VERSION_1: u32 = 1;
const MAGIC: &[u8; 4] = b"TLCP";

/// What is known of a segment; of the last one, up to the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) base: Offset,
    pub(super) generation: u32,
    pub(super) end: Offset,
    pub(super) size: u64,
    pub(super) max_timestamp: i64,
    /// Wall time of the first append; of the last one if no record has a time.
    pub(super) created_ms: i64,
}

impl Row {
    /// A segment without batches.
    pub(super) fn begun(base: Offset, created_ms: i64) -> Row {
        let (generation, size, max_timestamp) = (0, 0, NO_TIME);
        Row { base, generation, end: base, size, max_timestamp, created_ms }
    }

    pub(super) fn id(&self) -> FileId {
        FileId { base: self.base, generation: self.generation }
    }
}

/// The contents of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) start: Offset,
    pub(super) point: Offset,
    /// COMPACT-1: below, every key has one record at most.
    pub(super) compacted: Offset,
    pub(super) rows: Vec<Row>,
    pub(super) epochs: Vec<(LeaderEpoch, Offset)>,
    /// The encoded producer table at the point.
    pub(super) producers: Vec<u8>,
}

/// Why a file is not a checkpoint that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    Newer(u32),
    Damaged(&'static str),
}

impl Checkpoint {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(
            64 + self.rows.len() * 44 + self.epochs.len() * 12 + self.producers.len(),
        );
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.start.0.to_be_bytes());
        out.extend_from_slice(&self.point.0.to_be_bytes());
        out.extend_from_slice(&self.compacted.0.to_be_bytes());
        out.extend_from_slice(&(self.rows.len() as u32).to_be_bytes());
        for row in &self.rows {
            out.extend_from_slice(&row.base.0.to_be_bytes());
            out.extend_from_slice(&row.generation.to_be_bytes());
            out.extend_from_slice(&row.end.0.to_be_bytes());
            out.extend_from_slice(&row.size.to_be_bytes());
            out.extend_from_slice(&row.max_timestamp.to_be_bytes());
            out.extend_from_slice(&row.created_ms.to_be_bytes());
        }
        out.extend_from_slice(&(self.epochs.len() as u32).to_be_bytes());
        for (epoch, start) in &self.epochs {
            out.extend_from_slice(&epoch.0.to_be_bytes());
            out.extend_from_slice(&start.0.to_be_bytes());
        }
        out.extend_from_slice(&self.producers);
        let length = u32::try_from(out.len() - 16).expect("a checkpoint is far below 4 GiB");
        out[12..16].copy_from_slice(&length.to_be_bytes());
        let crc = crc(&[&out[12..]]);
        out[8..12].copy_from_slice(&crc.to_be_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unusable> {
        let mut rest = Bytes(bytes);
        if rest.take(4) != Some(MAGIC) {
            return Err(Unusable::Damaged("it does not begin as a checkpoint does"));
        }
        let version = match rest.u32() {
            Some(version @ (VERSION_1 | VERSION)) => version,
            Some(version) if version > VERSION => return Err(Unusable::Newer(version)),
            _ => return Err(Unusable::Damaged("it has no format version")),
        };
        let announced = rest.u32();
        if announced != Some(crc(&[rest.0])) {
            return Err(Unusable::Damaged("its checksum does not match"));
        }
        if rest.u32().map(|length| length as usize) != Some(rest.0.len()) {
            return Err(Unusable::Damaged("its length is not the announced one"));
        }
        let fields =
            Checkpoint::fields(rest, version).ok_or(Unusable::Damaged("its fields do not fit"))?;
        if fields.is_consistent() {
            Ok(fields)
        } else {
            Err(Unusable::Damaged("its segments contradict each other"))
        }
    }

    fn fields(mut rest: Bytes<'_>, version: u32) -> Option<Self> {
        let start = Offset(rest.i64()?);
        let point = Offset(rest.i64()?);
        let compacted = if version > VERSION_1 { Offset(rest.i64()?) } else { Offset(0) };
        let mut rows = Vec::new();
        for _ in 0..rest.u32()? {
            rows.push(Row {
                base: Offset(rest.i64()?),
                generation: if version > VERSION_1 { rest.u32()? } else { 0 },
                end: Offset(rest.i64()?),
                size: rest.u64()?,
                max_timestamp: rest.i64()?,
                created_ms: rest.i64()?,
            });
        }
        let mut epochs = Vec::new();
        for _ in 0..rest.u32()? {
            epochs.push((LeaderEpoch(rest.i32()?), Offset(rest.i64()?)));
        }
        Some(Checkpoint { start, point, compacted, rows, epochs, producers: rest.0.to_vec() })
    }

    fn is_consistent(&self) -> bool {
        let in_order = self.rows.iter().all(|row| row.base.0 >= 0 && row.base <= row.end);
        let joined = self.rows.windows(2).all(|two| two[0].end == two[1].base);
        let last = self.rows.last().is_none_or(|row| row.end == self.point);
        let compacted = self.compacted.0 >= 0 && self.compacted <= self.point;
        self.start.0 >= 0 && self.point.0 >= 0 && compacted && in_order && joined && last
    }
}

/// Replaces one log's checkpoint, one at a time and never by an older one.
pub(super) struct Saver<I: Io> {
    io: I,
    dir: PathBuf,
    newest: Mutex<u64>,
    /// The point of the last checkpoint that was written with success. One that failed may be on
    /// the disk nevertheless.
    written: Cell<Offset>,
    /// That checkpoint's number.
    number: Cell<u64>,
}

/// One checkpoint to write, and the index block that goes before it.
pub(super) struct Job {
    /// Rises with every job of the log.
    pub(super) number: u64,
    pub(super) point: Offset,
    pub(super) index: Option<IndexJob>,
    pub(super) checkpoint: Vec<u8>,
}

/// Bytes to write into a segment's index.
pub(super) struct IndexJob {
    pub(super) id: FileId,
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
}

impl<I: Io> Saver<I> {
    pub(super) fn new(io: &I, dir: &Path, written: Offset) -> Rc<Self> {
        let (newest, written) = (Mutex::new(0), Cell::new(written));
        let number = Cell::new(0);
        Rc::new(Saver { io: io.clone(), dir: dir.to_owned(), newest, written, number })
    }

    /// The point of the checkpoint on the disk, or of one before it.
    pub(super) fn written(&self) -> Offset {
        self.written.get()
    }

    /// That checkpoint's number.
    pub(super) fn number(&self) -> u64 {
        self.number.get()
    }

    /// Writes the checkpoint and makes it durable, unless a newer one was written before.
    pub(super) async fn save(&self, job: Job) -> io::Result<()> {
        let mut newest = self.newest.lock().await;
        if job.number <= *newest {
            probe::hit(Probe::CheckpointOvertaken);
            return Ok(());
        }
        if let Some(index) = job.index {
            // Flushed, because truncation wants the producer table that it begins with.
            if let Some(file) = write_index(&self.io, &self.dir, index).await {
                file.sync().await?;
            }
        }
        let path = self.dir.join(NAME_NEW);
        // Never a file that was left by an attempt that failed: after a failed flush nobody knows
        // what of it is on the disk.
        removed(self.io.remove(&path).await)?;
        let file = self.io.open(&path, Open::CreateNew).await?;
        write_all_at(&file, vec![Buf::from(job.checkpoint)], 0).await.0?;
        file.sync().await?;
        self.io.rename(&path, &self.dir.join(NAME)).await?;
        self.io.sync_dir(&self.dir).await?;
        *newest = job.number;
        self.written.set(job.point);
        self.number.set(job.number);
        Ok(())
    }

    /// Waits for a job that is being written, and rules out those up to `number` that wait.
    pub(super) async fn overtake(&self, number: u64) {
        let mut newest = self.newest.lock().await;
        *newest = (*newest).max(number);
    }
}

/// Writes a block of an index and returns the file, which is not flushed. A failure costs only
/// time later: what is missing is rebuilt.
pub(super) async fn write_index<I: Io>(io: &I, dir: &Path, job: IndexJob) -> Option<I::File> {
    let path = dir.join(job.id.index_name());
    let written = async {
        let file = io.open(&path, Open::Create).await?;
        if job.at == 0 {
            file.truncate(0).await?;
        }
        write_all_at(&file, vec![Buf::from(job.bytes)], job.at).await.0?;
        io::Result::Ok(file)
    };
    written.await.inspect_err(|error| not_saved(&path, error)).ok()
}

/// Replaces an index that no longer fits its segment: after a crash there is the old one or the
/// new one, once the folder is flushed the new one. Without the room for it there is none.
pub(super) async fn replace_index<I: Io>(io: &I, dir: &Path, job: IndexJob) -> io::Result<()> {
    assert_eq!(job.at, 0, "a replaced index is written whole");
    let path = dir.join(job.id.index_name());
    let new = dir.join(format!("{}{NEW_SUFFIX}", job.id.index_name()));
    let written = async {
        let file = io.open(&new, Open::CreateNew).await?;
        write_all_at(&file, vec![Buf::from(job.bytes)], 0).await.0?;
        file.sync().await?;
        io.rename(&new, &path).await
    };
    let Err(error) = written.await else { return Ok(()) };
    not_saved(&path, &error);
    removed(io.remove(&new).await)?;
    removed(io.remove(&path).await)
}

fn not_saved(path: &Path, error: &io::Error) {
    probe::hit(Probe::IndexNotSaved);
    tracing::warn!(path = %path.display(), %error, "an index was not saved; it can be rebuilt");
}

/// Removing what is not there is no failure.
pub(super) fn removed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        let row = |base, end, size| Row {
            base: Offset(base),
            generation: 5,
            end: Offset(end),
            size,
            max_timestamp: 7,
            created_ms: 9,
        };
        Checkpoint {
            start: Offset(3),
            point: Offset(12),
            compacted: Offset(10),
            rows: vec![row(0, 10, 700), row(10, 12, 140)],
            epochs: vec![(LeaderEpoch(1), Offset(0)), (LeaderEpoch(4), Offset(11))],
            producers: vec![0; 4],
        }
    }

    #[test]
    fn survives_its_encoding() {
        assert_eq!(Checkpoint::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn every_bit_counts() {
        let bytes = sample().encode();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Checkpoint::decode(&bad).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(Checkpoint::decode(&bytes[..cut]).is_err(), "cut {cut}");
        }
    }

    /// As version 1 had it: without generations, and without how far the log is compacted.
    #[test]
    fn version_1_is_read_and_written_anew() {
        let mut old = [MAGIC.as_slice(), &1u32.to_be_bytes(), &[0; 8]].concat();
        let Checkpoint { start, point, rows, epochs, producers, .. } = sample();
        old.extend([start.0.to_be_bytes(), point.0.to_be_bytes()].concat());
        old.extend((rows.len() as u32).to_be_bytes());
        for row in &rows {
            old.extend([row.base.0.to_be_bytes(), row.end.0.to_be_bytes()].concat());
            old.extend(row.size.to_be_bytes());
            old.extend([row.max_timestamp.to_be_bytes(), row.created_ms.to_be_bytes()].concat());
        }
        old.extend((epochs.len() as u32).to_be_bytes());
        for (epoch, start) in &epochs {
            old.extend(epoch.0.to_be_bytes());
            old.extend(start.0.to_be_bytes());
        }
        old.extend(producers);
        let length = old.len() as u32 - 16;
        old[12..16].copy_from_slice(&length.to_be_bytes());
        let sum = crc(&[&old[12..]]);
        old[8..12].copy_from_slice(&sum.to_be_bytes());

        let mut expected = Checkpoint { compacted: Offset(0), ..sample() };
        expected.rows.iter_mut().for_each(|row| row.generation = 0);
        assert_eq!(Checkpoint::decode(&old), Ok(expected.clone()));
        let new = expected.encode();
        assert_eq!(new[4..8], VERSION.to_be_bytes());
        assert_eq!(Checkpoint::decode(&new), Ok(expected));
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = sample().encode();
        bytes[4..8].copy_from_slice(&3u32.to_be_bytes());
        assert_eq!(Checkpoint::decode(&bytes), Err(Unusable::Newer(3)));
    }
}
