//! The copying half of a compaction: reads segments that no longer change, and writes what is to
//! remain of them into new files. Runs beside the log's owner and touches nothing of the log.

use std::collections::BTreeSet;

use super::map::{Full, OffsetMap};
use super::{Compaction, Failure, Pace, Replacement};
use crate::id::{LeaderEpoch, Offset};
use crate::io::{self, Buf, ErrorKind, File, Instant, Io, Open, write_all_at};
use crate::limit::{DIRTY_BYTES_PER_LOG_MAX, FRAME_BYTES_MAX};
use crate::log::checkpoint::{Row, removed};
use crate::log::index::{FileId, Index, NO_TIME};
use crate::log::scan::{Chain, Found, Scan};
use crate::log::segment::read_file;
use crate::probe::{self, Probe};
use crate::wire::batch::{Batch, Header, Record, Retained, emptied, retain};

/// Bytes that are written with one call.
const WRITE_BYTES: usize = 1 << 20;

impl<I: Io> Compaction<I> {
    /// The next segment of this pass, or `None` when all is done.
    pub(super) async fn next(&mut self, pace: &Pace) -> Result<Option<Replacement>, Failure> {
        if self.mapped.is_none() {
            self.mapped = Some(self.map_keys(pace).await?);
        }
        let mapped = self.mapped.expect("just mapped");
        loop {
            let sources = self.next_group(mapped);
            let Some(first) = sources.first() else { return Ok(None) };
            let id = FileId { base: first.base, generation: self.generation };
            match self.copy(id, &sources, mapped, pace).await {
                Ok(Some(row)) => return Ok(Some(Replacement { sources, row })),
                Ok(None) => {
                    probe::hit(Probe::CompactedInVain);
                    self.discard(id).await;
                }
                Err(failure) => {
                    self.discard(id).await;
                    return Err(failure);
                }
            }
        }
    }

    /// Notes where each key was last written, from what is not compacted yet; returns up to where.
    async fn map_keys(&mut self, pace: &Pace) -> Result<Offset, Failure> {
        let mut pacer = Pacer::new(&self.io, pace);
        let mut end = self.dirty;
        let rows: Vec<Row> = self.rows.iter().filter(|row| row.end > end).copied().collect();
        for row in rows {
            let (mut scan, mut chain) = self.source(&row).await?;
            while let Some(header) = self.read(&mut scan, &mut chain, &row).await? {
                if header.last_offset() < self.dirty {
                    continue;
                }
                // Whether a transaction was aborted is not known here; what follows waits.
                let unclear = header.is_transactional() || header.is_control();
                if unclear || header.last_offset() >= self.limit {
                    return Ok(end);
                }
                let first = end == self.dirty;
                if self.map_batch(scan.bytes(&header), first)? == Err(Full) {
                    probe::hit(Probe::KeysDoNotFit);
                    return Ok(end);
                }
                end = header.last_offset().plus(1);
                pacer.did(header.size()).await;
            }
            end = row.end.min(self.limit);
        }
        Ok(end)
    }

    /// Notes a batch's keys. A pass gets on by one batch at least. Of one that found no room some
    /// keys may have been noted: their records are kept, so what is older may go.
    fn map_batch(&mut self, bytes: &[u8], first: bool) -> Result<Result<(), Full>, Failure> {
        let batch = Batch::parse(bytes).map_err(|_| Failure::Corrupt)?;
        let contents = batch.contents().map_err(|_| Failure::Corrupt)?;
        for record in contents.records() {
            let record = record.map_err(|_| Failure::Corrupt)?;
            let Some(key) = record.key else { continue };
            if first {
                self.map.put_anyway(key, record.offset);
            } else if self.map.put(key, record.offset).is_err() {
                return Ok(Err(Full));
            }
        }
        Ok(Ok(()))
    }

    /// Neighbours that become one segment: as many as would fit if nothing were removed.
    fn next_group(&mut self, mapped: Offset) -> Vec<Row> {
        let mut group: Vec<Row> = Vec::new();
        let mut bytes = 0;
        while let Some(row) = self.rows.front() {
            let base = group.first().map_or(row.base, |first| first.base);
            let fits = bytes + row.size <= u64::from(self.config.segment_bytes)
                && row.end.0 - base.0 <= i64::from(i32::MAX);
            if row.base >= mapped || !(fits || group.is_empty()) {
                break;
            }
            bytes += row.size;
            group.push(self.rows.pop_front().expect("there is a front"));
        }
        group
    }

    /// Writes what remains of `sources` into a new segment, durably. `None` if a single source
    /// remains as it is.
    async fn copy(
        &mut self,
        id: FileId,
        sources: &[Row],
        mapped: Offset,
        pace: &Pace,
    ) -> Result<Option<Row>, Failure> {
        let mut pacer = Pacer::new(&self.io, pace);
        let file = create(&self.io, self.dir.join(id.log_name())).await?;
        let mut copied = Copied::new(id, file, self.config.index_interval_bytes);
        let mut changed = sources.len() > 1;
        let end = sources.last().expect("a group has a source").end;
        for row in sources {
            let (mut scan, mut chain) = self.source(row).await?;
            while let Some(header) = self.read(&mut scan, &mut chain, row).await? {
                let bytes = scan.bytes(&header);
                match self.remains(bytes, &header, mapped, end)? {
                    Retained::Whole => copied.push(bytes.to_vec()).await?,
                    Retained::Part(part) => {
                        changed = true;
                        copied.push(part).await?;
                    }
                    Retained::Nothing => {
                        probe::hit(Probe::BatchCompactedAway);
                        changed = true;
                    }
                }
                pacer.did(header.size()).await;
            }
        }
        if !changed {
            return Ok(None);
        }
        let table = self.table_at(sources[0].id()).await?;
        let last = sources.last().expect("a group has a source");
        let row = Row {
            base: id.base,
            generation: id.generation,
            end: last.end,
            size: copied.flush().await?,
            max_timestamp: copied.newest,
            created_ms: last.created_ms,
        };
        let (at, bytes) = copied.index.save(row.size, table.as_deref(), id.seal(&self.dir));
        let index = create(&self.io, self.dir.join(id.index_name())).await?;
        write_all_at(&index, vec![Buf::from(bytes)], at).await.0?;
        index.sync().await?;
        self.io.sync_dir(&self.dir).await?;
        Ok(Some(row))
    }

    /// What is to remain of one batch of a segment that reaches up to `end`. Its last batch stays,
    /// though it may have no record any more: after it there may be nothing, and only a batch tells
    /// a reader that the offsets before it are done with.
    fn remains(
        &self,
        bytes: &[u8],
        header: &Header,
        mapped: Offset,
        end: Offset,
    ) -> Result<Retained, Failure> {
        if header.last_offset() >= mapped || header.is_control() || header.is_transactional() {
            return Ok(Retained::Whole);
        }
        let batch = Batch::parse(bytes).map_err(|_| Failure::Corrupt)?;
        let is_last = header.last_offset().plus(1) == end;
        let stays = is_last || self.lasts.contains(&header.base_offset());
        if header.count() == 0 {
            // It stayed before; whether that goes on is asked anew.
            let kept = if stays { Retained::Whole } else { Retained::Nothing };
            return Ok(kept);
        }
        // The base timestamp of a batch with a horizon is the horizon.
        let expired = header.has_delete_horizon() && header.base_timestamp() <= self.now_ms;
        let keep = |record: &Record<'_>| {
            let Some(key) = record.key else { return false };
            let newest = self.map.get(key).is_none_or(|newest| record.offset >= newest);
            let kept = record.offset >= self.start && newest;
            if kept && record.value.is_none() {
                probe::hit(if expired { Probe::TombstoneExpired } else { Probe::TombstoneDated });
            }
            kept && (record.value.is_some() || !expired)
        };
        let horizon = self.now_ms.saturating_add(self.config.delete_retention_ms);
        Ok(match retain(&batch, keep, horizon).map_err(|_| Failure::Corrupt)? {
            Retained::Nothing if stays => {
                probe::hit(Probe::BatchEmptied);
                Retained::Part(emptied(&batch))
            }
            // Written anew it may be larger, and no batch may be larger than any frame.
            Retained::Part(part) if part.len() > FRAME_BYTES_MAX => Retained::Whole,
            retained => retained,
        })
    }

    async fn source(&self, row: &Row) -> Result<(Scan<I::File>, Chain), Failure> {
        let file = match self.io.open(&self.dir.join(row.id().log_name()), Open::Read).await {
            // Retention has removed it meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Failure::Overtaken),
            other => other?,
        };
        let scan = Scan::of_segment(file, row.id(), row.size);
        Ok((scan, Chain { next: row.base, epoch: LeaderEpoch::NONE }))
    }

    async fn read(
        &self,
        scan: &mut Scan<I::File>,
        chain: &mut Chain,
        row: &Row,
    ) -> Result<Option<Header>, Failure> {
        if self.stopped.get() {
            return Err(Failure::Overtaken);
        }
        if scan.position() == row.size {
            return Ok(None);
        }
        match scan.next(chain).await? {
            Found::Batch(header) if header.last_offset() < row.end => Ok(Some(header)),
            _ => Err(Failure::Corrupt),
        }
    }

    /// The producer table that the index of a source begins with, if it does.
    async fn table_at(&self, id: FileId) -> Result<Option<Vec<u8>>, Failure> {
        let bytes = read_file(&self.io, &self.dir.join(id.index_name())).await?;
        Ok(bytes.and_then(|bytes| Index::decode(&bytes, u64::MAX, id.seal(&self.dir)).producers))
    }

    /// Removes what a copy left that does not become part of the log. No checkpoint names it, so
    /// that the next open removes what is still there.
    async fn discard(&self, id: FileId) {
        for name in [id.log_name(), id.index_name()] {
            let path = self.dir.join(name);
            if let Err(error) = removed(self.io.remove(&path).await) {
                tracing::warn!(path = %path.display(), %error, "a file was not removed");
            }
        }
    }
}

/// A file that nobody can have open: its name was never used, or only by a copy that came to
/// nothing.
async fn create<I: Io>(io: &I, path: std::path::PathBuf) -> io::Result<I::File> {
    removed(io.remove(&path).await)?;
    io.open(&path, Open::CreateNew).await
}

/// A segment that is being written.
struct Copied<F> {
    base: Offset,
    file: F,
    index: Index,
    interval_bytes: u32,
    waiting: Vec<Buf>,
    waiting_bytes: usize,
    written: u64,
    unflushed: u64,
    size: u64,
    newest: i64,
}

impl<F: File> Copied<F> {
    fn new(id: FileId, file: F, interval_bytes: u32) -> Self {
        Copied {
            base: id.base,
            file,
            index: Index::default(),
            interval_bytes,
            waiting: Vec::new(),
            waiting_bytes: 0,
            written: 0,
            unflushed: 0,
            size: 0,
            newest: NO_TIME,
        }
    }

    async fn push(&mut self, batch: Vec<u8>) -> io::Result<()> {
        let header = Header::parse(&batch).expect("read before, or just built");
        let relative = u32::try_from(header.base_offset().0 - self.base.0)
            .expect("a group spans less than 31 bits of offsets");
        self.index.note(relative, self.size, self.newest, self.interval_bytes);
        self.newest = self.newest.max(header.max_timestamp());
        self.size += batch.len() as u64;
        self.waiting_bytes += batch.len();
        self.waiting.push(Buf::from(batch));
        if self.waiting_bytes >= WRITE_BYTES {
            self.write().await?;
        }
        if self.unflushed >= DIRTY_BYTES_PER_LOG_MAX {
            self.unflushed = 0;
            self.file.sync().await?;
        }
        Ok(())
    }

    async fn write(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let batches = std::mem::take(&mut self.waiting);
        write_all_at(&self.file, batches, self.written).await.0?;
        self.written += self.waiting_bytes as u64;
        self.unflushed += self.waiting_bytes as u64;
        self.waiting_bytes = 0;
        Ok(())
    }

    /// Makes it durable and returns its size.
    async fn flush(&mut self) -> io::Result<u64> {
        self.write().await?;
        assert_eq!(self.written, self.size, "every batch was written");
        self.file.sync().await?;
        Ok(self.size)
    }
}

/// Keeps a copy to its pace.
struct Pacer<'a, I: Io> {
    io: I,
    pace: &'a Pace,
    since: Instant,
    bytes: usize,
}

impl<'a, I: Io> Pacer<'a, I> {
    fn new(io: &I, pace: &'a Pace) -> Self {
        Pacer { io: io.clone(), pace, since: io.now(), bytes: 0 }
    }

    /// `bytes` were read and copied.
    async fn did(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= crate::limit::COMPACTION_TURN_BYTES {
            let rest = self.pace.rest(self.bytes, self.io.now().since(self.since));
            self.io.sleep(rest).await;
            self.since = self.io.now();
            self.bytes = 0;
        }
    }
}

/// The base offsets of the batches that compaction keeps for their producers' sake.
pub(super) type Lasts = BTreeSet<Offset>;

/// The map that a pass fills.
pub(super) fn map<I: Io>(io: &I, bytes_max: u64) -> OffsetMap {
    OffsetMap::new([io.random(), io.random()], bytes_max)
}
