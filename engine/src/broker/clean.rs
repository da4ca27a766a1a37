//! What a broker that stopped cleanly leaves for its next start: where each partition stood, so that
//! no partition's folder has to be touched before somebody asks for it.
//!
//! ```text
//! DATA/clean     magic "TLCS", version u32, CRC-32C of the rest u32,
//!                metadata version u64: records of the metadata applied when it was written,
//!                settings u32: stands for the settings of topics that have none of their own,
//!                then per partition: topic id 16 bytes, number i32, start i64, end i64,
//!                bytes u64, upkeep due i64 (milliseconds since 1970, -1 for never),
//!                idempotent producers u8 (whether there are any)
//! ```
//! Big-endian. The file is written when every log in it is closed and flushed, and removed, durably,
//! before a start believes it and before anything can be written to a log: there is one exactly as
//! long as it is true (REST-2). A partition that is not in it, or a file that is missing, damaged, of another
//! version or of other metadata than the log holds, costs an opening of the log, which recovers it.
//! With other settings each partition looks soon what there is to do.

use std::path::Path;

use super::data::{read_bytes, write_small};
use super::shard::Key;
use crate::id::{Offset, PartitionIndex, TopicId};
use crate::io::{self, ErrorKind, Io, Wall};
use crate::limit::PARTITIONS_MAX;

const NAME: &str = "clean";
const MAGIC: &[u8; 4] = b"TLCS";
const VERSION: u32 = 2;
const HEAD_BYTES: usize = 24;
const ROW_BYTES: usize = 53;

/// Where one partition stands whose log is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The first offset that can be read.
    pub start: Offset,
    /// The offset of the next record. Everything below is flushed.
    pub end: Offset,
    /// Bytes of batches.
    pub bytes: u64,
    /// When its log has something to do by itself, if ever.
    pub due: Option<Wall>,
    /// Whether it remembers idempotent producers.
    pub producers: bool,
}

/// What a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Belongs {
    /// The version of the metadata.
    pub metadata: u64,
    /// The [`digest`] of the settings of topics that have none of their own.
    pub settings: u32,
}

/// Stands for a list of texts.
pub fn digest(texts: impl Iterator<Item = String>) -> u32 {
    crc_of(texts.collect::<String>().as_bytes())
}

/// One partition and where it stands.
pub type Row = (Key, Stand);

/// Leaves the file, durably.
pub async fn leave<I: Io>(io: &I, data: &Path, belongs: Belongs, rows: &[Row]) -> io::Result<()> {
    write_small(io, data, NAME, encode(belongs, rows)).await
}

/// Takes the file away and returns what it said; `None` if there was none that can be believed by a
/// broker whose metadata are of this version.
pub async fn take<I: Io>(io: &I, data: &Path, belongs: Belongs) -> io::Result<Option<Vec<Row>>> {
    let path = data.join(NAME);
    let bytes = read_bytes(io, &path, HEAD_BYTES + PARTITIONS_MAX * ROW_BYTES).await?;
    let Some(bytes) = bytes else { return Ok(None) };
    match io.remove(&path).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        other => other?,
    }
    io.sync_dir(data).await?;
    Ok(match decode(&bytes, belongs) {
        Ok(rows) => Some(rows),
        Err(why) => {
            tracing::warn!(file = %path.display(), why, "every log will be looked at");
            None
        }
    })
}

fn encode(belongs: Belongs, rows: &[Row]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + rows.len() * ROW_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&belongs.metadata.to_be_bytes());
    out.extend_from_slice(&belongs.settings.to_be_bytes());
    for ((topic, index), stand) in rows {
        out.extend_from_slice(&topic.0);
        out.extend_from_slice(&index.0.to_be_bytes());
        out.extend_from_slice(&stand.start.0.to_be_bytes());
        out.extend_from_slice(&stand.end.0.to_be_bytes());
        out.extend_from_slice(&stand.bytes.to_be_bytes());
        out.extend_from_slice(&stand.due.map_or(-1, |due| due.0).to_be_bytes());
        out.push(u8::from(stand.producers));
    }
    let crc = crc_of(&out[12..]);
    out[8..12].copy_from_slice(&crc.to_be_bytes());
    out
}

fn decode(bytes: &[u8], belongs: Belongs) -> Result<Vec<Row>, &'static str> {
    let mut rest = bytes;
    if field(&mut rest) != Some(*MAGIC) {
        return Err("it does not begin as the file of a clean stop does");
    }
    if field(&mut rest).map(u32::from_be_bytes) != Some(VERSION) {
        return Err("it has another format version");
    }
    if field(&mut rest).map(u32::from_be_bytes) != Some(crc_of(rest)) {
        return Err("its checksum does not match");
    }
    if field(&mut rest).map(u64::from_be_bytes) != Some(belongs.metadata) {
        return Err("it belongs to another state of the cluster's metadata");
    }
    let settings = field(&mut rest).map(u32::from_be_bytes).ok_or("it ends too soon")?;
    let mut rows = Vec::with_capacity(rest.len() / ROW_BYTES);
    while !rest.is_empty() {
        let (key, mut stand) = row(&mut rest).ok_or("its rows do not fit")?;
        if settings != belongs.settings {
            stand.due = Some(Wall(0));
        }
        rows.push((key, stand));
    }
    Ok(rows)
}

fn row(rest: &mut &[u8]) -> Option<Row> {
    let topic = TopicId(field(rest)?);
    let index = PartitionIndex(i32::from_be_bytes(field(rest)?));
    let start = Offset(i64::from_be_bytes(field(rest)?));
    let end = Offset(i64::from_be_bytes(field(rest)?));
    let bytes = u64::from_be_bytes(field(rest)?);
    let due = Some(Wall(i64::from_be_bytes(field(rest)?))).filter(|due| due.0 >= 0);
    let [producers] = field(rest)?;
    let ordered = Offset(0) <= start && start <= end;
    let stand = Stand { start, end, bytes, due, producers: producers != 0 };
    ordered.then_some(((topic, index), stand))
}

fn field<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

fn crc_of(bytes: &[u8]) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(crc).expect("the algorithm has 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BELONGS: Belongs = Belongs { metadata: 5, settings: 7 };

    fn rows() -> Vec<Row> {
        let stand = |end, due: Option<i64>| Stand {
            start: Offset(3),
            end: Offset(end),
            bytes: 700,
            due: due.map(Wall),
            producers: due.is_none(),
        };
        vec![
            ((TopicId([1; 16]), PartitionIndex(0)), stand(3, None)),
            ((TopicId([9; 16]), PartitionIndex(77)), stand(1 << 40, Some(1_700_000_000_000))),
        ]
    }

    #[test]
    fn survives_its_encoding_and_belongs_to_its_metadata() {
        let bytes = encode(BELONGS, &rows());
        assert_eq!(bytes.len(), HEAD_BYTES + 2 * ROW_BYTES);
        assert_eq!(decode(&bytes, BELONGS), Ok(rows()));
        assert!(decode(&bytes, Belongs { metadata: 6, ..BELONGS }).is_err());
    }

    #[test]
    fn with_other_settings_everybody_looks_at_once() {
        let bytes = encode(BELONGS, &rows());
        let other = decode(&bytes, Belongs { settings: 8, ..BELONGS }).expect("whole");
        for ((key, stand), (was_key, was)) in other.into_iter().zip(rows()) {
            assert_eq!((key, stand), (was_key, Stand { due: Some(Wall(0)), ..was }));
        }
    }

    #[test]
    fn every_bit_counts() {
        let bytes = encode(BELONGS, &rows());
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad, BELONGS).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], BELONGS).is_err(), "cut {cut}");
        }
    }
}
