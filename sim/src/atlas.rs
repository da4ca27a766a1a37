//! The fault atlas: where damage may strike that nobody announces, so that what is destroyed stays
//! within what is promised.
//!
//! **On the wire.** TCP's checksum of 16 bits misses one damaged packet in some ten thousand; what
//! passes it is the protocol's to notice. Kafka's requests and answers carry no checksum, so damage
//! in their heads would change what was asked, and no broker or client could know. What has one is
//! the record batch: CRC-32C from its attributes to its end (KIP-98). Altered bits therefore strike
//! within batches only, at the checksum or what it covers.
//!
//! **On the disk.** One node has no other copy, so what is promised is that damage is noticed and
//! reported, and that no reader takes damaged bytes for records. Damage therefore strikes
//!
//! * segments below the size that the last *durable* checkpoint promises for them: above it a
//!   damaged batch cannot be told from a torn write, and recovery cuts it off, by right. Only where
//!   some batch then fails its checksum or cannot be parsed: a flipped base offset or leader epoch
//!   is covered by no checksum of the format, and nobody, broker or client, could know. Reads that are
//!   misled keep to the same, be they the broker's own or a part of an answer that is sent to a reader;
//! * indexes, anywhere and at any time, lost and misdirected writes included: nothing is believed
//!   because an index says so;
//! * checkpoints, where the partition is then refused as damaged until an operator has mended it;
//! * never the log of the cluster's metadata, without which a single node cannot start at all.

use std::collections::BTreeMap;
use std::ops::Range;

use trialog_engine::wire::batch::{Batch, HEADER_BYTES};

use crate::disk::{Disk, Ino, SECTOR};
use crate::seed::Stream;

/// Where the checksum of a batch begins; what it covers comes right behind it. What is before is
/// covered by nothing: base offset, length, leader epoch, magic.
const CHECKSUM_AT: usize = 17;
/// The version of the checkpoints that brokers write.
const VERSION: u32 = 2;
/// Where the magic byte of a batch is.
const MAGIC_AT: usize = 16;

/// The whole batches in `bytes`, wherever they begin, by their ranges.
#[must_use]
pub fn batches(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + HEADER_BYTES <= bytes.len() {
        if bytes[at + MAGIC_AT] == 2
            && let Ok(batch) = Batch::parse(&bytes[at..])
            && batch.crc_matches()
        {
            found.push(at..at + batch.size());
            at += batch.size();
        } else {
            at += 1;
        }
    }
    found
}

/// Flips 1 to 32 bits of one batch in `bytes` where its checksum shows it. False if there is no
/// whole batch.
pub fn alter_batch(bytes: &mut [u8], random: &mut Stream) -> bool {
    let batches = batches(bytes);
    if batches.is_empty() {
        return false;
    }
    let batch = batches[random.below(batches.len() as u64) as usize].clone();
    let bits = random.within(1..33);
    flip(&mut bytes[batch.start + CHECKSUM_AT..batch.end], bits, random);
    true
}

/// Flips so many bits, near each other as a burst or anywhere; at least one changes in the end.
pub fn flip(bytes: &mut [u8], bits: u64, random: &mut Stream) {
    let total = bytes.len() as u64 * 8;
    let burst = random.chance(1, 2);
    let start = random.below(total);
    let mut flipped = std::collections::BTreeSet::from([start]);
    for _ in 1..bits {
        let place = if burst { (start + random.below(64)) % total } else { random.below(total) };
        flipped.insert(place);
    }
    for bit in flipped {
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
}

/// A kind of silent damage that strikes a file where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rot {
    /// 1 to 32 bits of a sector flip.
    Bits,
    /// A sector cannot be read any more.
    Unreadable,
    /// A sector holds again what it held before the file was written: zeros.
    Stale,
}

/// What a file is, for the atlas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Segment,
    Index,
    Checkpoint,
}

/// A file that damage may strike, below `safe` bytes.
#[derive(Clone, Copy, Debug)]
struct Target {
    folder: Ino,
    ino: Ino,
    sort: Sort,
    safe: u64,
}

/// Whether nothing that a file of this name says is believed without a check.
#[must_use]
pub fn is_unbelieved(name: &str) -> bool {
    name.ends_with(".index") || name.ends_with(".index.new")
}

/// Below which size each segment may be misread.
#[must_use]
pub fn safe_segments(disk: &Disk) -> BTreeMap<Ino, u64> {
    let segments = targets(disk).into_iter().filter(|target| target.sort == Sort::Segment);
    segments.map(|target| (target.ino, target.safe)).collect()
}

/// A sector that a misdirected write may hit, if there is any.
#[must_use]
pub fn victim(disk: &Disk, random: &mut Stream) -> Option<(Ino, u64)> {
    let sort = if random.chance(2, 3) { Sort::Segment } else { Sort::Index };
    let target = pick(disk, sort, random)?;
    Some((target.ino, random.below(target.safe / SECTOR as u64)))
}

/// Damages something on the disk; false if there is nothing yet that may be. What lies side by side
/// goes together: with a segment often its index.
pub fn strike(disk: &mut Disk, rot: Rot, random: &mut Stream) -> bool {
    let sort = match random.below(8) {
        0..5 => Sort::Segment,
        5..7 => Sort::Index,
        _ => Sort::Checkpoint,
    };
    let Some(target) = pick(disk, sort, random) else { return false };
    let struck = strike_at(disk, target, rot, random);
    if struck
        && sort == Sort::Segment
        && random.chance(1, 3)
        && let Some(index) = index_of(disk, target)
    {
        strike_at(disk, index, rot, random);
    }
    struck
}

fn strike_at(disk: &mut Disk, target: Target, rot: Rot, random: &mut Stream) -> bool {
    let Target { ino, safe, .. } = target;
    for _ in 0..8 {
        let sector = random.below(safe.div_ceil(SECTOR as u64));
        let within = (safe - sector * SECTOR as u64).min(SECTOR as u64) as usize;
        let mut bytes = sector_of(disk, ino, sector);
        match rot {
            Rot::Unreadable => {
                disk.spoil(ino, sector);
                return true;
            }
            Rot::Bits => flip(&mut bytes[..within], random.within(1..33), random),
            Rot::Stale => bytes = [0; SECTOR],
        }
        if overwrite(disk, ino, sector, &bytes) {
            return true;
        }
    }
    false
}

/// Puts other bytes into a sector, if that is within what is promised now.
pub fn overwrite(disk: &mut Disk, ino: Ino, sector: u64, bytes: &[u8; SECTOR]) -> bool {
    let Some(target) = targets(disk).into_iter().find(|target| target.ino == ino) else {
        return false;
    };
    let before = sector_of(disk, ino, sector);
    let allowed = before != *bytes
        && sector * (SECTOR as u64) < target.safe
        && match target.sort {
            Sort::Segment => shows(disk, target, sector as usize * SECTOR, bytes),
            Sort::Index | Sort::Checkpoint => true,
        };
    if allowed {
        disk.alter(ino, sector, bytes);
    }
    allowed
}

/// Whether a reader who is sent these bytes, in the place of those that a segment has at `offset`,
/// notices it in every batch that they touch.
#[must_use]
pub fn is_noticed(disk: &Disk, ino: Ino, offset: u64, bytes: &[u8]) -> bool {
    let mut segments = targets(disk).into_iter().filter(|target| target.sort == Sort::Segment);
    let segment = segments.find(|target| target.ino == ino);
    segment.is_some_and(|target| shows(disk, target, offset as usize, bytes))
}

/// Whether every batch that these bytes would change is then seen to be damaged.
fn shows(disk: &Disk, target: Target, start: usize, bytes: &[u8]) -> bool {
    let end = start + bytes.len();
    if end > target.safe as usize {
        return false;
    }
    let before = disk.peek(target.ino, 0, target.safe as usize);
    let mut after = before.clone();
    after[start..end].copy_from_slice(bytes);
    let (mut at, mut touched) = (0, false);
    while at < end {
        let Ok(batch) = Batch::parse(&before[at..]) else { return false };
        let range = at..at + batch.size();
        if before[range.clone()] != after[range.clone()] {
            touched = true;
            let unseen = match Batch::parse(&after[range]) {
                Ok(batch) => batch.crc_matches(),
                // It would look like the end of an answer.
                Err(trialog_engine::wire::batch::BatchError::Truncated { .. }) => true,
                Err(_) => false,
            };
            if unseen {
                return false;
            }
        }
        at += batch.size();
    }
    touched
}

fn pick(disk: &Disk, sort: Sort, random: &mut Stream) -> Option<Target> {
    let room = |target: &Target| match sort {
        Sort::Checkpoint => target.safe > 0,
        Sort::Segment | Sort::Index => target.safe >= SECTOR as u64,
    };
    let fitting: Vec<Target> =
        targets(disk).into_iter().filter(|target| target.sort == sort && room(target)).collect();
    (!fitting.is_empty()).then(|| random.pick(&fitting))
}

/// The index of a segment, if there is one that holds something.
fn index_of(disk: &Disk, segment: Target) -> Option<Target> {
    let name = disk.name_of(segment.ino)?.strip_suffix(".log")?.to_owned() + ".index";
    let (_, names) = disk.folders().find(|(folder, _)| *folder == segment.folder)?;
    let &ino = names.get(&name)?;
    let safe = disk.length(ino);
    (safe > 0).then_some(Target { ino, sort: Sort::Index, safe, ..segment })
}

/// Everything on the disk that may be damaged now.
fn targets(disk: &Disk) -> Vec<Target> {
    let mut targets = Vec::new();
    let metadata = |ino| disk.name_of(ino).is_some_and(|name| name.starts_with("__"));
    for (folder, names) in disk.folders().filter(|(folder, _)| !metadata(*folder)) {
        let Some((_, checkpoint)) = disk.durable(folder, "checkpoint") else { continue };
        for segment in promised(&checkpoint).unwrap_or_default() {
            let (name, safe) = (segment.name(), segment.size);
            if let Some(&ino) = names.get(&name)
                && disk.durable(folder, &name).is_some_and(|(durable, _)| durable == ino)
                && safe <= disk.length(ino)
            {
                targets.push(Target { folder, ino, sort: Sort::Segment, safe });
            }
        }
        for (name, &ino) in names {
            let sort = match name.as_str() {
                "checkpoint" => Sort::Checkpoint,
                name if name.ends_with(".index") => Sort::Index,
                _ => continue,
            };
            targets.push(Target { folder, ino, sort, safe: disk.length(ino) });
        }
    }
    targets
}

/// What a checkpoint promises of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promised {
    /// Its first offset.
    pub base: i64,
    /// Which pass of compaction has written it; 0 for none.
    pub generation: u32,
    /// How many bytes of it there are.
    pub size: u64,
}

impl Promised {
    /// What its file is called.
    #[must_use]
    pub fn name(&self) -> String {
        let Promised { base, generation, .. } = self;
        match generation {
            0 => format!("{base:020}.log"),
            _ => format!("{base:020}.{generation}.log"),
        }
    }
}

/// The segments of a checkpoint, as `docs/format.md` draws it. None if it is damaged.
#[must_use]
pub fn promised(checkpoint: &[u8]) -> Option<Vec<Promised>> {
    let long = |at: usize| {
        let bytes = checkpoint.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_be_bytes(bytes))
    };
    let short = |at: usize| {
        let bytes = checkpoint.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    };
    if checkpoint.get(..4)? != b"TLCP" || short(4)? != VERSION {
        return None;
    }
    let row = |row: usize| {
        let at = 44 + 44 * row;
        // Base offset, generation, end offset, size.
        let base = i64::try_from(long(at)?).ok()?;
        Some(Promised { base, generation: short(at + 8)?, size: long(at + 20)? })
    };
    (0..short(40)? as usize).map(row).collect()
}

fn sector_of(disk: &Disk, ino: Ino, sector: u64) -> [u8; SECTOR] {
    let bytes = disk.peek(ino, sector * SECTOR as u64, SECTOR);
    bytes.try_into().expect("as many as were asked for")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cause::Cause;
    use crate::cluster::{Frame, simulate};
    use crate::disk::Trouble;
    use trialog_engine::id::LeaderEpoch;
    use trialog_engine::io::{Buf, Open, Pool, Wall};
    use trialog_engine::log::{self, Log};
    use trialog_engine::wire::batch::{Builder, Compression};

    fn batch(value: &[u8]) -> Vec<u8> {
        let mut builder = Builder::new().compression(Compression::None);
        builder.push(7, None, Some(value), &[]);
        builder.finish()
    }

    #[test]
    fn altered_bits_strike_batches_and_are_always_noticed() {
        let mut random = Stream::new(1);
        for round in 0..500 {
            let (head, one, two) = ([2; 90], batch(b"first"), batch(&[2; 70]));
            let whole = [&head[..], &one, &two, b"tail"].concat();
            assert_eq!(batches(&whole).len(), 2);
            let mut altered = whole.clone();
            assert!(alter_batch(&mut altered, &mut random));
            let changed = whole.iter().zip(&altered).map(|(a, b)| (a ^ b).count_ones());
            assert!((1..=32).contains(&changed.sum::<u32>()), "round {round}");
            assert_eq!(altered[..90], whole[..90]);
            assert_eq!(altered[whole.len() - 4..], *b"tail");
            assert_eq!(batches(&altered).len(), 1, "the other one is not touched");
        }
        assert!(!alter_batch(&mut [2; 300], &mut random));
        assert!(!alter_batch(&mut batch(b"cut off")[..60], &mut random));
    }

    fn write(disk: &mut Disk, path: &str, bytes: &[u8]) -> Ino {
        let ino = disk.open(Path::new(path), Open::Create).expect("room");
        disk.write(ino, 0, &[bytes]).expect("room");
        let flush = disk.sync_begin(ino);
        disk.sync_end(ino, &flush).expect("no faults");
        ino
    }

    fn sync(disk: &mut Disk, dir: &str) {
        let sync = disk.sync_dir_begin(Path::new(dir)).expect("there");
        disk.sync_dir_end(sync).expect("no faults");
    }

    /// A log of `count` batches in the folder `name`, whose checkpoint promises all but the last.
    fn log(disk: &mut Disk, name: &str, count: usize) -> (Ino, u64, Vec<u8>) {
        let one = batch(&[9; 130]);
        let (bytes, safe) = (one.repeat(count), (one.len() * (count - 1)) as u64);
        disk.make_dir(Path::new(name)).expect("new");
        sync(disk, "/");
        let ino = write(disk, &format!("{name}/{:020}.log", 0), &bytes);
        let mut checkpoint = b"TLCP".to_vec();
        checkpoint.extend([2_u32, 0, 0].map(u32::to_be_bytes).concat());
        checkpoint.extend([0_u64, 7, 0].map(u64::to_be_bytes).concat());
        checkpoint.extend(1_u32.to_be_bytes());
        checkpoint.extend(0_u64.to_be_bytes());
        checkpoint.extend(0_u32.to_be_bytes());
        checkpoint.extend([7, safe, 0, 0].map(u64::to_be_bytes).concat());
        write(disk, &format!("{name}/checkpoint"), &checkpoint);
        write(disk, &format!("{name}/{:020}.index", 0), &[4; 2000]);
        sync(disk, name);
        (ino, safe, bytes)
    }

    const INDEX: &str = "/t-0/00000000000000000000.index";

    #[test]
    fn silent_damage_strikes_where_it_is_noticed_and_never_above_the_checkpoint() {
        let (mut struck, mut indexes, mut both) = (0, 0, 0);
        for seed in 0..300 {
            let mut random = Stream::new(seed);
            let mut disk = Disk::new(1 << 20, Stream::new(seed));
            let (metadata, _, kept) = log(&mut disk, "/__cluster_metadata-0", 9);
            let (ino, safe, bytes) = log(&mut disk, "/t-0", 30);
            let index = disk.open(Path::new(INDEX), Open::Read).expect("there");
            let rot = random.pick(&[Rot::Bits, Rot::Stale, Rot::Unreadable]);
            struck += u32::from(strike(&mut disk, rot, &mut random));
            let damaged = disk.peek(ino, 0, bytes.len());
            assert_eq!(disk.peek(metadata, 0, kept.len()), kept);
            assert!(damaged[safe as usize..] == bytes[safe as usize..], "above the checkpoint");
            let size = bytes.len() / 30;
            for (was, is) in bytes.chunks(size).zip(damaged.chunks(size)) {
                assert!(was == is || batches(is).is_empty(), "damage that no checksum shows");
            }
            let unreadable = disk.readable(ino, 0, bytes.len() as u64);
            assert!(unreadable < safe || unreadable == bytes.len() as u64);
            let spared = damaged == bytes && unreadable == bytes.len() as u64;
            let index_spared =
                disk.peek(index, 0, 2000) == [4; 2000] && disk.readable(index, 0, 2000) == 2000;
            indexes += u32::from(spared);
            both += u32::from(!spared && !index_spared);
            disk.mend();
            assert!(disk.peek(ino, 0, bytes.len()) == bytes);
        }
        assert!(struck > 280 && (20..200).contains(&indexes), "{struck} {indexes}");
        assert!((30..100).contains(&both), "{both}");
    }

    /// Without it, no silent fault would meet a segment once the format of checkpoints has changed.
    #[test]
    fn what_a_real_log_promises_is_understood() {
        let outcome = simulate(Frame::new(1), |cluster| async move {
            let machine = cluster.add("writer", 1 << 20, |io| async move {
                let (pool, dir, config) = (Pool::new(), Path::new("/t-0"), log::Config::default());
                let (mut log, _) = Log::open(&io, &pool, dir, config).await.expect("a fresh disk");
                let batches = (0..20).map(|_| Buf::from(batch(&[9; 130]))).collect();
                log.append(batches, LeaderEpoch(0), Wall(1)).await;
                log.close().await.expect("a good disk");
            });
            cluster.pass(std::time::Duration::from_secs(5)).await;
            cluster.world().machine(machine, |machine| {
                let segments = targets(&machine.disk).into_iter();
                let segments = segments.filter(|target| target.sort == Sort::Segment);
                segments.map(|target| target.safe).collect::<Vec<_>>()
            })
        });
        let promised = 20 * batch(&[9; 130]).len() as u64;
        assert_eq!(outcome.expect("no panic").value, [promised]);
    }

    #[test]
    fn a_misled_read_that_is_sent_shows_in_every_batch_that_it_touches() {
        let mut astray = 0;
        for seed in 0..100 {
            let mut disk = Disk::new(1 << 20, Stream::new(seed));
            let (ino, safe, bytes) = log(&mut disk, "/t-0", 30);
            let size = bytes.len() / 30;
            let (at, len) = (size + 30, 2 * size);
            assert_eq!(disk.send_astray(ino, at as u64, len), None, "nothing ails it");
            let misread = Trouble::Misread(1, safe_segments(&disk));
            disk.troubles.add(Cause(1), misread, 0, 0);
            let above = safe - size as u64;
            assert_eq!(disk.send_astray(ino, above, len), None, "above the checkpoint");
            let Some(wrong) = disk.send_astray(ino, at as u64, len) else { continue };
            let mut sent = bytes.clone();
            sent[at..at + len].copy_from_slice(&wrong);
            for (was, is) in bytes.chunks(size).zip(sent.chunks(size)) {
                assert!(was == is || batches(is).is_empty(), "damage that no checksum shows");
            }
            assert_eq!(disk.peek(ino, 0, bytes.len()), bytes, "what lies there is right");
            assert_eq!(disk.struck().count(), 1);
            assert_eq!(disk.send_astray(ino, at as u64, len), None, "once it was to be");
            astray += 1;
        }
        assert!(astray > 20, "{astray}");
    }

    #[test]
    fn a_base_offset_is_never_altered_alone() {
        let mut disk = Disk::new(1 << 20, Stream::new(1));
        let (ino, _, bytes) = log(&mut disk, "/t-0", 30);
        let mut altered: [u8; SECTOR] = bytes[..SECTOR].try_into().expect("long enough");
        altered[7] ^= 1;
        assert!(!overwrite(&mut disk, ino, 0, &altered));
        altered[100] ^= 1;
        assert!(overwrite(&mut disk, ino, 0, &altered));
    }

    #[test]
    fn nothing_is_struck_before_something_is_durable() {
        let mut disk = Disk::new(1 << 20, Stream::new(1));
        disk.make_dir(Path::new("/t-0")).expect("new");
        write(&mut disk, "/t-0/00000000000000000000.log", &batch(b"x").repeat(20));
        for seed in 0..50 {
            assert!(!strike(&mut disk, Rot::Bits, &mut Stream::new(seed)));
            assert_eq!(victim(&disk, &mut Stream::new(seed)), None);
        }
    }
}
