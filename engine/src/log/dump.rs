//! Reading a log's folder offline, for `trialog log dump` and `trialog log verify`.
//!
//! Changes nothing and trusts nothing: every batch's structure, checksum, offsets, epoch and
//! records are checked, and the checkpoint and the indexes against them. The log must not be open.

use std::fmt;
use std::path::Path;

use super::checkpoint::{Checkpoint, Row};
use super::fault::OpenError;
use super::index::{FileId, Index, NO_TIME};
use super::recover::{Names, read_checkpoint};
use super::scan::{Chain, Found, Scan};
use super::segment::read_file;
use crate::id::{LeaderEpoch, Offset};
use crate::io::{self, File, Io, Open};
use crate::wire::batch::{Batch, Header};

/// One thing that is found in a log's folder, in order.
pub enum Item<'a> {
    /// What the checkpoint promises.
    Checkpoint {
        /// The first readable offset.
        start: Offset,
        /// Everything below was flushed.
        point: Offset,
        /// Each leader epoch and its first offset.
        epochs: &'a [(LeaderEpoch, Offset)],
    },
    /// A segment begins.
    Segment {
        /// Its first offset.
        base: Offset,
        /// Its file's length in bytes, what is allocated ahead included.
        length: u64,
    },
    /// A good batch.
    Batch {
        /// Its segment's first offset.
        segment: Offset,
        /// Its place in the file.
        position: u64,
        /// What it says of itself.
        header: &'a Header,
        /// All its bytes.
        bytes: &'a [u8],
    },
    /// Something is wrong.
    Problem(&'a Problem),
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Derived data does not fit the log; it is rebuilt when needed.
    Index,
    /// Bytes behind the last checkpoint that the next open cuts, as after any crash.
    Tail,
    /// Data that was flushed is damaged or missing.
    Damage,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file's name in the folder.
    pub file: String,
    /// Where in the file.
    pub position: u64,
    /// What it is, in words.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Index => "stale index",
            Severity::Tail => "torn tail",
            Severity::Damage => "DAMAGE",
        };
        write!(f, "{severity}: {} at byte {}: {}", self.file, self.position, self.what)
    }
}

/// What a whole folder came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segment files.
    pub segments: u64,
    /// Good batches.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// All that is wrong.
    pub problems: Vec<Problem>,
}

impl Report {
    /// The worst problem, if any.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.problems.iter().map(|problem| problem.severity).max()
    }
}

/// Checks a log's folder.
///
/// # Errors
/// If the folder cannot be read, or its checkpoint is damaged, of a newer version, or missing beside
/// segments.
pub async fn verify<I: Io>(io: &I, dir: &Path) -> Result<Report, OpenError> {
    dump(io, dir, &mut |_| {}).await
}

/// Checks a log's folder and shows everything in it to `visit`.
///
/// # Errors
/// As [`verify`].
pub async fn dump<I: Io>(
    io: &I,
    dir: &Path,
    visit: &mut impl FnMut(Item<'_>),
) -> Result<Report, OpenError> {
    let storage = |source| OpenError::Storage { path: dir.to_owned(), source };
    let names = Names::read(io, dir).await.map_err(storage)?;
    if !names.checkpoint && names.logs.is_empty() {
        // A crash came before the first checkpoint: nothing was ever written here.
        return Ok(Report::default());
    }
    let checkpoint = read_checkpoint(io, dir).await?;
    let (start, point, epochs) = (checkpoint.start, checkpoint.point, &checkpoint.epochs[..]);
    visit(Item::Checkpoint { start, point, epochs });
    let mut dump = Dump { io, dir, visit, report: Report::default(), checkpoint: &checkpoint };
    dump.missing(&names);
    let first = checkpoint.rows.first().map_or(point, |row| row.base);
    let mut chain = Chain { next: first, epoch: LeaderEpoch::NONE };
    for &id in &names.logs {
        // Whatever else lies there was replaced by a compaction, or never became part of the log;
        // the next open removes it.
        let is_row = checkpoint.rows.iter().any(|row| row.id() == id);
        if is_row || (id.generation == 0 && id.base >= point) {
            dump.segment(id, &mut chain).await.map_err(storage)?;
        }
    }
    Ok(dump.report)
}

/// A dump under way.
struct Dump<'a, I, V> {
    io: &'a I,
    dir: &'a Path,
    visit: &'a mut V,
    report: Report,
    checkpoint: &'a Checkpoint,
}

/// What the batches of a segment say, for checking its index: position, base offset, and the
/// largest timestamp before.
type Truth = Vec<(u64, Offset, i64)>;

impl<I: Io, V: FnMut(Item<'_>)> Dump<'_, I, V> {
    fn problem(&mut self, severity: Severity, file: String, position: u64, what: String) {
        let problem = Problem { severity, file, position, what };
        (self.visit)(Item::Problem(&problem));
        self.report.problems.push(problem);
    }

    fn missing(&mut self, names: &Names) {
        let checkpoint = self.checkpoint;
        let needed = |row: &&Row| row.end > checkpoint.start && row.size > 0;
        for row in checkpoint.rows.iter().filter(needed) {
            if !names.logs.contains(&row.id()) {
                let what = format!("{} bytes were flushed, the file is missing", row.size);
                self.problem(Severity::Damage, row.id().log_name(), 0, what);
            }
        }
    }

    async fn segment(&mut self, id: FileId, chain: &mut Chain) -> io::Result<()> {
        let base = id.base;
        let file = self.io.open(&self.dir.join(id.log_name()), Open::Read).await?;
        let length = file.length().await?;
        let row = self.checkpoint.rows.iter().find(|row| row.id() == id).copied();
        let flushed = row.map_or(0, |row| row.size);
        // What a compacted segment holds is known to the byte: nothing is ever appended to it.
        let length = if id.generation > 0 { length.min(flushed) } else { length };
        self.report.segments += 1;
        (self.visit)(Item::Segment { base, length });
        // Of what retention removed, a power cut may have brought some files back and others not.
        let removed = base <= self.checkpoint.start;
        if base != chain.next && removed {
            chain.next = base;
        }
        if base != chain.next {
            let what = format!("the log goes on at {}", chain.next);
            let severity = if flushed > 0 { Severity::Damage } else { Severity::Tail };
            self.problem(severity, id.log_name(), 0, what);
            chain.next = base;
        }
        let mut scan = Scan::of_segment(file, id, length);
        let mut truth: Truth = Vec::new();
        let mut newest = NO_TIME;
        loop {
            let position = scan.position();
            let severity = if position < flushed { Severity::Damage } else { Severity::Tail };
            match scan.next(chain).await? {
                Found::Batch(header) => {
                    truth.push((position, header.base_offset(), newest));
                    newest = newest.max(header.max_timestamp());
                    self.batch(id, position, &header, scan.bytes(&header), severity);
                }
                Found::End if position < flushed => {
                    let what = format!("{flushed} bytes were flushed, they end here");
                    self.problem(severity, id.log_name(), position, what);
                    break;
                }
                Found::End => break,
                Found::Bad(bad) => {
                    self.problem(severity, id.log_name(), position, bad.to_string());
                    break;
                }
            }
        }
        if let Some(row) = row.filter(|row| scan.position() < row.size || id.generation > 0) {
            // The rest cannot be read, and the next segment is judged on its own; or compaction
            // has removed the rest.
            chain.next = row.end;
        }
        self.index(id, &truth, scan.position()).await
    }

    fn batch(
        &mut self,
        id: FileId,
        position: u64,
        header: &Header,
        bytes: &[u8],
        severity: Severity,
    ) {
        self.report.batches += 1;
        self.report.bytes += bytes.len() as u64;
        (self.visit)(Item::Batch { segment: id.base, position, header, bytes });
        match records(bytes) {
            Ok(count) => self.report.records += count,
            Err(what) => self.problem(severity, id.log_name(), position, what),
        }
    }

    async fn index(&mut self, id: FileId, truth: &Truth, size: u64) -> io::Result<()> {
        let (base, name) = (id.base, id.index_name());
        let Some(bytes) = read_file(self.io, &self.dir.join(&name)).await? else { return Ok(()) };
        let decoded = Index::decode(&bytes, size, id.seal(self.dir));
        for entry in decoded.index.entries() {
            let position = u64::from(entry.position);
            let offset = base.plus(i64::from(entry.relative));
            let found = truth.binary_search_by_key(&position, |fact| fact.0);
            let what = match found.map(|at| truth[at]) {
                Err(_) => "and no batch begins there".to_owned(),
                Ok((_, found, _)) if found != offset => format!("and there is offset {found}"),
                Ok((_, _, before)) if before != entry.time_before => format!(
                    "behind records up to the time {}, and they are up to {before}",
                    entry.time_before
                ),
                Ok(_) => continue,
            };
            let what = format!("an entry says that offset {offset} is at byte {position}, {what}");
            self.problem(Severity::Index, name.clone(), position, what);
        }
        Ok(())
    }
}

/// How many records a batch holds, all of them read.
fn records(bytes: &[u8]) -> Result<u64, String> {
    let batch = Batch::parse(bytes).map_err(|error| error.to_string())?;
    let contents = batch.contents().map_err(|error| error.to_string())?;
    let mut count = 0;
    for record in contents.records() {
        record.map_err(|error| format!("record {count}: {error}"))?;
        count += 1;
    }
    Ok(count)
}
