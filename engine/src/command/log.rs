//! `trialog log`: looks at the files of partitions while no broker runs on them, and changes none.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use trialog_engine::io::{ErrorKind, Instant, Io};
use trialog_engine::log::{self, Item, OpenError, Report, Severity};
use trialog_engine::machine;
use trialog_engine::wire::batch::{Batch, Header};

use super::cli::Log;
use super::failure::Failure;
use super::output::{self, Output};
use super::{runtime, time};

/// Dumps or verifies.
pub fn run(command: Log, output: &mut Output) -> Result<(), Failure> {
    match command {
        Log::Dump { dir, records } => runtime::client(async |io| {
            let _held = hold(&io, &dir).await?;
            let mut dump = Dump { output, records, is_metadata: is_metadata(&dir), failed: None };
            let report = log::dump(&io, &dir, &mut |item| dump.see(&item)).await;
            let report = report.map_err(|error| unreadable(&error))?;
            dump.failed.map_or(Ok(()), Err)?;
            judge(&dir, &report)
        }),
        Log::Verify { dir } => runtime::client(async |io| {
            let _held = hold(&io, &dir).await?;
            let mut result = Ok(());
            let partitions = partitions(&dir)?;
            let mut progress = Progress::of(&partitions, output.is_seen_in_passing());
            for partition in partitions {
                let mut see = |item: Item<'_>| progress.see(&io, &item, output);
                let verified = match log::dump(&io, &partition, &mut see).await {
                    Ok(report) => tell(&partition, &report, output),
                    Err(error) => Err(unreadable(&error)),
                };
                progress.partitions_done += 1;
                // The others are looked at all the same; the first failure is the answer.
                result = result.and(verified);
            }
            result
        }),
    }
}

/// How far a verification has come, for whoever waits for it.
struct Progress {
    is_seen: bool,
    partitions: usize,
    partitions_done: usize,
    bytes: u64,
    bytes_done: u64,
    /// When it is told again.
    next: Instant,
}

/// How often it is told.
const PROGRESS: Duration = Duration::from_millis(200);

impl Progress {
    /// Of these logs; looks at their files only if somebody sees it.
    fn of(partitions: &[PathBuf], is_seen: bool) -> Progress {
        let looked_at: &[PathBuf] = if is_seen { partitions } else { &[] };
        Progress {
            is_seen,
            partitions: partitions.len(),
            partitions_done: 0,
            bytes: looked_at.iter().map(|folder| segment_bytes(folder)).sum(),
            bytes_done: 0,
            next: Instant::default(),
        }
    }

    fn see<I: Io>(&mut self, io: &I, item: &Item<'_>, output: &mut Output) {
        let Item::Batch { header, .. } = item else { return };
        self.bytes_done += header.size() as u64;
        if self.is_seen && io.now() >= self.next {
            self.next = io.now().after(PROGRESS);
            output.in_passing(&self.to_string());
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { partitions, partitions_done, bytes, bytes_done, .. } = self;
        // What was reserved and what is damaged is not read as batches.
        let percent = (bytes_done * 100).checked_div(*bytes).unwrap_or(100).min(100);
        write!(f, "{percent} % of {} MiB, ", bytes >> 20)?;
        write!(f, "{partitions_done} of {partitions} partition(s) looked at")
    }
}

/// The bytes of a folder's segments, as far as they can be seen.
fn segment_bytes(folder: &Path) -> u64 {
    let files = folder.read_dir().into_iter().flatten().flatten();
    let segments = files.filter(|file| file.file_name().to_string_lossy().ends_with(".log"));
    segments.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

/// Keeps brokers off the data folder that `dir` is or lies in, as long as the result is held.
async fn hold<I: Io>(io: &I, dir: &Path) -> Result<Option<I::File>, Failure> {
    let full = dir.canonicalize();
    let full = full.map_err(|error| Failure::Usage(format!("{}: {error}", dir.display())))?;
    let Some(data) = full.ancestors().take(4).find(|folder| is_data(folder)) else {
        return Ok(None);
    };
    match io.lock(&data.join("lock")).await {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(Failure::InUse(format!(
            "a broker is running on {}; stop it first, or look at a copy",
            data.display()
        ))),
        // Whoever may only read cannot lock, and may look.
        Err(_) => Ok(None),
    }
}

fn is_data(folder: &Path) -> bool {
    folder.join("meta.properties").is_file()
}

fn is_metadata(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("__cluster_metadata-"))
}

/// The folders of partitions that `dir` means: all of a data folder's, or itself.
fn partitions(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !is_data(dir) {
        let mut names =
            dir.read_dir().into_iter().flatten().flatten().map(|entry| entry.file_name());
        let is_log = |name: std::ffi::OsString| {
            let name = name.to_string_lossy();
            name == "checkpoint" || name.ends_with(".log")
        };
        // What cannot be read is told by whoever reads it.
        if dir.read_dir().is_ok() && !names.any(is_log) {
            return Err(Failure::Usage(format!(
                "{}: here is no log; name the folder of a partition, which holds a checkpoint and \
                 segments, or a data folder, which holds meta.properties",
                dir.display()
            )));
        }
        return Ok(vec![dir.to_owned()]);
    }
    let failed = |error| Failure::Other(format!("{}: {error}", dir.display()));
    let folders = |of: &Path| -> std::io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in of.read_dir()? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    };
    let mut partitions: Vec<PathBuf> = folders(dir).map_err(failed)?;
    partitions.retain(|folder| is_metadata(folder));
    let topics = dir.join("topics");
    if topics.is_dir() {
        for topic in folders(&topics).map_err(failed)? {
            let mut logs = folders(&topic).map_err(failed)?;
            // What is being deleted is not a log any more.
            logs.retain(|folder| !folder.to_string_lossy().ends_with("-delete"));
            partitions.append(&mut logs);
        }
    }
    Ok(partitions)
}

fn unreadable(error: &OpenError) -> Failure {
    let sentence = error.to_string();
    match error {
        OpenError::Corrupt { .. } => Failure::Damaged(sentence),
        OpenError::Storage { source, .. } if source.kind() == ErrorKind::NotADirectory => {
            Failure::Usage(sentence)
        }
        OpenError::Storage { .. } | OpenError::Newer { .. } => Failure::Other(sentence),
    }
}

/// Damage ends with its exit code; what the next start puts right does not.
fn judge(dir: &Path, report: &Report) -> Result<(), Failure> {
    let damages =
        report.problems.iter().filter(|problem| problem.severity == Severity::Damage).count();
    match damages {
        0 => Ok(()),
        _ => Err(Failure::Damaged(format!("{}: damaged in {damages} place(s)", dir.display()))),
    }
}

/// What verifying one partition came to.
fn tell(dir: &Path, report: &Report, output: &mut Output) -> Result<(), Failure> {
    for problem in &report.problems {
        output.remark(&format!("{}: {problem}", dir.display()))?;
    }
    let verdict = match report.worst() {
        None => "sound",
        Some(Severity::Index) => "sound, with an index to be rebuilt",
        Some(Severity::Tail) => "sound, with an end to be cut at the next start",
        Some(Severity::Damage) => "DAMAGED",
    };
    let Report { segments, batches, records, bytes, .. } = report;
    let text = format!(
        "{}: {verdict}; {segments} segment(s), {batches} batch(es), {records} record(s), {bytes} \
         bytes",
        dir.display()
    );
    let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    let json = json!({
        "dir": dir.display().to_string(),
        "damaged": report.worst() == Some(Severity::Damage),
        "segments": segments,
        "batches": batches,
        "records": records,
        "bytes": bytes,
        "problems": problems,
    });
    output.line(&text, &json)?;
    judge(dir, report)
}

/// Prints what a folder holds.
struct Dump<'a> {
    output: &'a mut Output,
    records: bool,
    /// The records are those of the cluster's metadata.
    is_metadata: bool,
    /// Printing failed; what follows is not printed.
    failed: Option<Failure>,
}

impl Dump<'_> {
    fn see(&mut self, item: &Item<'_>) {
        if self.failed.is_none() {
            self.failed = self.print(item).err();
        }
    }

    fn print(&mut self, item: &Item<'_>) -> Result<(), Failure> {
        match item {
            Item::Checkpoint { start, point, epochs } => {
                let list: Vec<_> =
                    epochs.iter().map(|(epoch, first)| format!("{epoch} from {first}")).collect();
                let text = format!(
                    "checkpoint  start {start}  durable to {point}  epochs {}",
                    list.join(", ")
                );
                let epochs: Vec<_> = epochs
                    .iter()
                    .map(|(epoch, first)| json!({ "epoch": epoch.0, "first": first.0 }))
                    .collect();
                let json = json!({
                    "checkpoint": { "start": start.0, "point": point.0, "epochs": epochs }
                });
                self.output.line(&text, &json)
            }
            Item::Segment { base, length } => self.output.line(
                &format!("segment {base}  {length} bytes"),
                &json!({ "segment": { "base": base.0, "bytes": length } }),
            ),
            Item::Batch { position, header, bytes, .. } => {
                self.batch(*position, header)?;
                if self.records { self.records(bytes) } else { Ok(()) }
            }
            Item::Problem(problem) => self
                .output
                .line(&format!("  {problem}"), &json!({ "problem": problem.to_string() })),
        }
    }

    fn batch(&mut self, position: u64, header: &Header) -> Result<(), Failure> {
        let (first, last) = (header.base_offset(), header.last_offset());
        let codec = format!("{:?}", header.compression()).to_lowercase();
        let stamp = time::format(header.max_timestamp());
        let mut text = format!(
            "  byte {position}  offsets {first} to {last}  {} record(s)  {} bytes  epoch {}  \
             {stamp}  {codec}",
            header.count(),
            header.size(),
            header.leader_epoch(),
        );
        if header.producer_id().0 >= 0 {
            text += &format!(
                "  producer {} epoch {} sequence {}",
                header.producer_id(),
                header.producer_epoch(),
                header.base_sequence()
            );
        }
        if header.is_control() {
            text += "  control";
        } else if header.is_transactional() {
            text += "  transactional";
        }
        let json = json!({ "batch": {
            "position": position,
            "first": first.0,
            "last": last.0,
            "records": header.count(),
            "bytes": header.size(),
            "leader_epoch": header.leader_epoch().0,
            "max_timestamp": header.max_timestamp(),
            "timestamp_type": format!("{:?}", header.timestamp_type()),
            "compression": codec,
            "producer_id": header.producer_id().0,
            "producer_epoch": header.producer_epoch().0,
            "base_sequence": header.base_sequence(),
            "transactional": header.is_transactional(),
            "control": header.is_control(),
            "crc": header.crc(),
        } });
        self.output.line(&text, &json)
    }

    fn records(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        // A batch that cannot be read is told as a problem, after this.
        let Ok(batch) = Batch::parse(bytes) else { return Ok(()) };
        let Ok(contents) = batch.contents() else { return Ok(()) };
        for record in contents.records() {
            let Ok(record) = record else { return Ok(()) };
            let value = record.value.map(|value| self.value(value));
            let text = format!(
                "    offset {}  {}  key {}  value {}",
                record.offset,
                time::format(record.timestamp),
                record.key.map_or_else(|| "null".to_owned(), |key| key.escape_ascii().to_string()),
                value.as_deref().unwrap_or("null"),
            );
            let mut object = Map::new();
            object.insert("offset".to_owned(), record.offset.0.into());
            object.insert("timestamp".to_owned(), record.timestamp.into());
            output::put_bytes(&mut object, "key", record.key);
            output::put_bytes(&mut object, "value", record.value);
            if self.is_metadata {
                object.insert("meaning".to_owned(), value.into());
            }
            self.output.line(&text, &json!({ "record": Value::Object(object) }))?;
        }
        Ok(())
    }

    /// A value in words.
    fn value(&self, value: &[u8]) -> String {
        if self.is_metadata {
            return match machine::Record::decode(value) {
                Ok(record) => format!("{record:?}"),
                Err(error) => format!("({error})"),
            };
        }
        value.escape_ascii().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_bytes_and_partitions() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("0.log"), vec![0; 3 << 20]).expect("written");
        std::fs::write(folder.path().join("0.index"), vec![0; 1 << 20]).expect("written");
        let folders = [folder.path().to_owned(), folder.path().join("missing")];
        let mut progress = Progress::of(&folders, true);
        progress.bytes_done = 2 << 20;
        progress.partitions_done = 1;
        assert_eq!(progress.to_string(), "66 % of 3 MiB, 1 of 2 partition(s) looked at");
        let nothing = Progress::of(&[], true);
        assert_eq!(nothing.to_string(), "100 % of 0 MiB, 0 of 0 partition(s) looked at");
        assert_eq!(Progress::of(&folders, false).bytes, 0, "nobody sees it");
    }
}
