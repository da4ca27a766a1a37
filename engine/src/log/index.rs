//! The sparse index of one segment: where batches lie, and how late the records before them are.
//!
//! Pure: entries in memory, and the blocks of an `.index` file as `docs/format.md` draws them. It
//! is a hint that is derived from the log: whoever follows an entry checks the batch header it
//! leads to. Each block is sealed to its segment, so that the whole and well-formed index of
//! another one, which a disk may bring in its place, is none: the producer table in it could be
//! checked by nothing.

use std::path::Path;

use super::bytes::{Bytes, crc};
use crate::id::Offset;

const MAGIC: &[u8; 4] = b"TLIX";
const VERSION: u32 = 2;
const KIND_PRODUCERS: u32 = 1;
const KIND_ENTRIES: u32 = 2;

/// "Nothing before": below every timestamp.
pub(super) const NO_TIME: i64 = i64::MIN;

/// One batch of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its base offset relative to the segment's.
    pub(super) relative: u32,
    /// Its position in the file.
    pub(super) position: u32,
    /// The largest max timestamp of all batches before it in the segment, or [`NO_TIME`].
    pub(super) time_before: i64,
}

/// The entries of one segment, rising in all three columns.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    entries: Vec<Entry>,
    /// How many entries are in the file.
    saved: usize,
    /// How long the file is; 0 if it must be written from its beginning.
    saved_bytes: u64,
    /// Some of its times may be wrong: a batch was damaged when they were read.
    doubtful: bool,
}

/// What an `.index` file holds.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) index: Index,
    /// The entries stand for the first so many bytes of the segment.
    pub(super) covered: u64,
    /// The encoded producer table at the segment's base.
    pub(super) producers: Option<Vec<u8>>,
}

impl Index {
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Takes note of a batch behind all noted so far; keeps it if the last entry is far enough.
    pub(super) fn note(
        &mut self,
        relative: u32,
        position: u64,
        time_before: i64,
        interval_bytes: u32,
    ) {
        // A segment is at most i32::MAX bytes, or one larger batch at position 0.
        let Ok(position) = u32::try_from(position) else { return };
        let due = match self.entries.last() {
            None => true,
            Some(last) => {
                assert!(last.position < position, "batches are noted in order");
                position - last.position >= interval_bytes
            }
        };
        if due {
            self.entries.push(Entry { relative, position, time_before });
        }
    }

    /// Its times are from batches one of which is damaged. They may be right again later, so they
    /// are neither asked nor saved; the places are checked by whoever goes there.
    pub(super) fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// The last entry at or below a relative offset.
    pub(super) fn floor_offset(&self, relative: u32) -> Option<Entry> {
        let after = self.entries.partition_point(|entry| entry.relative <= relative);
        Some(self.entries[after.checked_sub(1)?])
    }

    /// The last entry at or below a position.
    pub(super) fn floor_position(&self, position: u64) -> Option<Entry> {
        let after = self.entries.partition_point(|entry| u64::from(entry.position) <= position);
        Some(self.entries[after.checked_sub(1)?])
    }

    /// The last entry at or below a position whose time can be believed.
    pub(super) fn floor_position_timed(&self, position: u64) -> Option<Entry> {
        self.floor_position(position).filter(|_| !self.doubtful)
    }

    /// The last entry before which nothing is as late as `ms`.
    pub(super) fn floor_time(&self, ms: i64) -> Option<Entry> {
        if self.doubtful {
            return None;
        }
        let after = self.entries.partition_point(|entry| entry.time_before < ms);
        Some(self.entries[after.checked_sub(1)?])
    }

    /// Forgets the batches from a position on. The file no longer fits.
    pub(super) fn cut(&mut self, position: u64) {
        let keep = self.entries.partition_point(|entry| u64::from(entry.position) < position);
        self.entries.truncate(keep);
        self.forget_file();
    }

    /// The next block is written from the beginning of a new file.
    pub(super) fn forget_file(&mut self) {
        self.saved = 0;
        self.saved_bytes = 0;
    }

    /// The bytes to write behind what is saved, and where, so that the file holds all entries of
    /// the first `covered` bytes; all of the file if there is none yet. From then on they count
    /// as saved: an index that misses some is still right. A doubtful one has no entry to save.
    pub(super) fn save(
        &mut self,
        covered: u64,
        producers: Option<&[u8]>,
        seal: Seal,
    ) -> (u64, Vec<u8>) {
        let at = self.saved_bytes;
        let mut out = Vec::new();
        if at == 0 {
            out.extend_from_slice(MAGIC);
            out.extend_from_slice(&VERSION.to_be_bytes());
            if let Some(table) = producers {
                put_block(&mut out, KIND_PRODUCERS, table, seal);
            }
        }
        if self.doubtful {
            return (at, out);
        }
        let upto = self.entries.partition_point(|entry| u64::from(entry.position) < covered);
        let unsaved = self.entries.get(self.saved..upto).unwrap_or_default();
        let mut body = Vec::with_capacity(8 + unsaved.len() * 16);
        body.extend_from_slice(&covered.to_be_bytes());
        for entry in unsaved {
            body.extend_from_slice(&entry.relative.to_be_bytes());
            body.extend_from_slice(&entry.position.to_be_bytes());
            body.extend_from_slice(&entry.time_before.to_be_bytes());
        }
        put_block(&mut out, KIND_ENTRIES, &body, seal);
        self.saved = self.saved.max(upto);
        self.saved_bytes += out.len() as u64;
        (at, out)
    }

    /// Reads a file as far as it is whole and speaks of the first `size` bytes of the segment.
    /// What follows is not believed, and neither is that file's length.
    pub(super) fn decode(bytes: &[u8], size: u64, seal: Seal) -> Decoded {
        let mut decoded = Decoded::default();
        let mut rest = Bytes(bytes);
        if rest.take(4) != Some(MAGIC) || rest.u32() != Some(VERSION) {
            return decoded;
        }
        while let Some((kind, body)) = take_block(&mut rest, seal) {
            match kind {
                KIND_PRODUCERS => decoded.producers = Some(body.to_vec()),
                KIND_ENTRIES => {
                    let taken = decoded.index.take_entries(body, size);
                    let Some(covered) = taken else { break };
                    decoded.covered = covered.min(size);
                    if covered > size {
                        break;
                    }
                    decoded.index.saved = decoded.index.entries.len();
                    decoded.index.saved_bytes = (bytes.len() - rest.0.len()) as u64;
                }
                _ => break,
            }
        }
        decoded
    }

    /// The `covered` of a block, or `None` if it does not continue the entries.
    fn take_entries(&mut self, body: &[u8], size: u64) -> Option<u64> {
        let mut body = Bytes(body);
        let covered = body.u64()?;
        while !body.0.is_empty() {
            let entry =
                Entry { relative: body.u32()?, position: body.u32()?, time_before: body.i64()? };
            let rises = self.entries.last().is_none_or(|last| {
                last.relative < entry.relative
                    && last.position < entry.position
                    && last.time_before <= entry.time_before
            });
            if !rises || u64::from(entry.position) >= covered {
                return None;
            }
            if u64::from(entry.position) < size {
                self.entries.push(entry);
            }
        }
        Some(covered)
    }
}

fn put_block(out: &mut Vec<u8>, kind: u32, body: &[u8], seal: Seal) {
    let kind = kind.to_be_bytes();
    let length = u32::try_from(body.len()).expect("a block is far below 4 GiB").to_be_bytes();
    out.extend_from_slice(&kind);
    out.extend_from_slice(&length);
    out.extend_from_slice(&crc(&[&seal.0, &kind, &length, body]).to_be_bytes());
    out.extend_from_slice(body);
}

fn take_block<'a>(bytes: &mut Bytes<'a>, seal: Seal) -> Option<(u32, &'a [u8])> {
    let kind = bytes.u32()?;
    let length = bytes.u32()?;
    let announced = bytes.u32()?;
    let body = bytes.take(usize::try_from(length).ok()?)?;
    let found = crc(&[&seal.0, &kind.to_be_bytes(), &length.to_be_bytes(), body]);
    (found == announced).then_some((kind, body))
}

/// What the checksums of an index begin with: which segment it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal([u8; 4]);

/// Which file a segment is: appended to (generation 0), or written by compaction in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId {
    /// The segment's first offset.
    pub(super) base: Offset,
    /// Rises with every compaction of the log; no name is used twice for other bytes.
    pub(super) generation: u32,
}

impl FileId {
    /// The file that is, or was, appended to.
    pub(super) fn appended(base: Offset) -> Self {
        FileId { base, generation: 0 }
    }

    /// The name of the file that holds the batches.
    pub(super) fn log_name(self) -> String {
        self.name("log")
    }

    /// The name of that file's index.
    pub(super) fn index_name(self) -> String {
        self.name("index")
    }

    /// The seal of that index in the log's folder `dir`, which has the topic's id and the
    /// partition's number in its name.
    pub(super) fn seal(self, dir: &Path) -> Seal {
        let folder = dir.file_name().unwrap_or_default().as_encoded_bytes();
        Seal(crc(&[folder, b"/", self.index_name().as_bytes()]).to_be_bytes())
    }

    fn name(self, extension: &str) -> String {
        match self {
            FileId { base, generation: 0 } => format!("{:020}.{extension}", base.0),
            FileId { base, generation } => format!("{:020}.{generation}.{extension}", base.0),
        }
    }

    /// The file of this name, if it is a segment's with this extension.
    pub(super) fn of_name(name: &str, extension: &str) -> Option<FileId> {
        let stem = name.strip_suffix(extension)?.strip_suffix('.')?;
        let (base, generation) = stem.split_once('.').unwrap_or((stem, "0"));
        let id = FileId { base: Offset(base.parse().ok()?), generation: generation.parse().ok()? };
        // One way to write each name only.
        (id.base.0 >= 0 && id.name(extension) == name).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAL: Seal = Seal([1, 2, 3, 4]);

    fn sample() -> Index {
        let mut index = Index::default();
        for i in 0..10u32 {
            index.note(i * 10, u64::from(i) * 100, i64::from(i / 2) * 7, 200);
        }
        index
    }

    #[test]
    fn keeps_one_entry_per_interval() {
        let positions: Vec<u32> = sample().entries.iter().map(|entry| entry.position).collect();
        assert_eq!(positions, [0, 200, 400, 600, 800]);
    }

    #[test]
    fn blocks_append_and_read_back() {
        let mut index = sample();
        let (at, mut file) = index.save(450, Some(b"table"), SEAL);
        assert_eq!(at, 0);
        let (at, more) = index.save(1000, Some(b"other"), SEAL);
        assert_eq!(at, file.len() as u64);
        file.extend_from_slice(&more);
        let read = Index::decode(&file, 1000, SEAL);
        assert_eq!(read.index.entries, index.entries);
        assert_eq!(read.index.saved_bytes, file.len() as u64);
        assert_eq!((read.covered, read.producers.as_deref()), (1000, Some(&b"table"[..])));
        let short = Index::decode(&file, 500, SEAL);
        assert_eq!((short.index.entries.len(), short.covered), (3, 500));
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let mut index = sample();
        let (_, mut file) = index.save(450, Some(b"table"), SEAL);
        let (_, more) = index.save(1000, None, SEAL);
        file.extend_from_slice(&more);
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 0x40;
            let read = Index::decode(&bad, 1000, SEAL);
            assert!(read.covered < 1000, "byte {at}");
            let whole = read.index.entries.len();
            assert_eq!(read.index.entries, index.entries[..whole]);
            assert!(Index::decode(&file[..at], 1000, SEAL).covered < 1000);
        }
    }

    /// A write that a disk put into another file left a whole block there, and recovery took its
    /// producers and entries for this segment's.
    #[test]
    fn the_index_of_another_segment_is_none() {
        let own = FileId { base: Offset(42), generation: 7 };
        let dir = Path::new("/data/topics/t/id-0");
        let (_, file) = sample().save(1000, Some(b"table"), own.seal(dir));
        assert_eq!(Index::decode(&file, 1000, own.seal(dir)).covered, 1000);
        let others = [
            FileId::appended(Offset(42)).seal(dir),
            FileId { base: Offset(43), generation: 7 }.seal(dir),
            own.seal(Path::new("/data/topics/t/id-1")),
        ];
        for other in others {
            let read = Index::decode(&file, 1000, other);
            assert_eq!((read.covered, read.producers), (0, None));
            assert!(read.index.entries.is_empty());
        }
    }

    #[test]
    fn names() {
        let appended = FileId::appended(Offset(42));
        assert_eq!(appended.log_name(), "00000000000000000042.log");
        assert_eq!(FileId::of_name("00000000000000000042.log", "log"), Some(appended));
        let compacted = FileId { base: Offset(42), generation: 7 };
        assert_eq!(compacted.index_name(), "00000000000000000042.7.index");
        assert_eq!(FileId::of_name("00000000000000000042.7.index", "index"), Some(compacted));
        for bad in [
            "42.log",
            "00000000000000000042.index",
            "+0000000000000000042.log",
            "00000000000000000042.0.log",
            "00000000000000000042.07.log",
            "00000000000000000042.-1.log",
            "-0000000000000000042.log",
            "log",
        ] {
            assert_eq!(FileId::of_name(bad, "log"), None, "{bad}");
        }
    }
}
