//! Record batches: how they are judged, then their bytes, with the checksum mended if the first
//! byte asks for it, so that what lies behind it is reached.

use trialog_engine::id::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use trialog_engine::wire::batch::{
    Batch, Builder, HEADER_BYTES, Header, PREFIX_BYTES, RecordHeader, Retained, Rules, emptied,
    recompress, retain, stamp, stamp_append_time, verify,
};

use super::compress::CODECS;
use crate::numbers::byte;

/// Gives every whole batch in `bytes` the checksum of its contents.
pub fn mend(mut bytes: &mut [u8]) {
    while let Ok(header) = Header::parse(bytes) {
        let Some(batch) = bytes.get_mut(..header.size()) else { return };
        // Changes nothing but the checksum.
        let (id, epoch) = (header.producer_id(), header.producer_epoch());
        trialog_engine::wire::batch::stamp_producer(batch, id, epoch, header.base_sequence());
        bytes = &mut bytes[header.size()..];
    }
}

pub fn run(mut data: &[u8]) {
    let (first, second) = (byte(&mut data), byte(&mut data));
    let mut bytes = data.to_vec();
    if first & 1 != 0 && bytes.len() >= HEADER_BYTES {
        let length = (bytes.len() - PREFIX_BYTES) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        mend(&mut bytes);
    }
    let rules = Rules {
        batch_bytes_max: if first & 2 != 0 { 1000 } else { 1 << 20 },
        zstd: first & 4 == 0,
        keys_required: first & 8 != 0,
        append_time: first & 16 != 0,
        now_ms: 1_700_000_000_000,
        timestamp_before_ms_max: if first & 32 != 0 { 1000 } else { i64::MAX },
        ..Rules::default()
    };
    read(&bytes);
    match verify(&bytes, &rules) {
        Ok(verified) => good(&mut bytes, &rules, verified.max_timestamp, second),
        Err(error) => {
            let _ = error.code();
            assert!(!error.to_string().is_empty());
            assert!(error.record_errors().len() <= trialog_engine::limit::RECORD_ERRORS_MAX);
        }
    }
}

/// Reading what nobody has verified: an error, never a panic.
fn read(bytes: &[u8]) {
    let Ok(batch) = Batch::parse(bytes) else { return };
    assert!(batch.bytes().len() == batch.size() && batch.size() <= bytes.len());
    let emptied = emptied(&batch);
    let again = Batch::parse(&emptied).expect("an emptied batch is one");
    assert!(again.crc_matches() && again.count() == 0);
    assert_eq!(again.last_offset(), batch.last_offset());
    let Ok(contents) = batch.contents() else { return };
    let mut seen = 0_i64;
    for record in contents.records() {
        let Ok(record) = record else { return };
        seen += 1;
        let headers = record.headers();
        let announced = headers.len();
        assert_eq!(headers.count(), announced);
    }
    assert_eq!(seen, i64::from(batch.count()));
}

type Read = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

fn records(bytes: &[u8]) -> Vec<Read> {
    let batch = Batch::parse(bytes).expect("a batch");
    let contents = batch.contents().expect("readable");
    let own = <[u8]>::to_vec;
    contents
        .records()
        .map(|record| {
            let record = record.expect("a record");
            (record.offset.0, record.timestamp, record.key.map(own), record.value.map(own))
        })
        .collect()
}

/// What verification accepts, a reader reads: all of it, in order, and after every change that a
/// broker makes the same records.
fn good(bytes: &mut [u8], rules: &Rules, max_timestamp: i64, choice: u8) {
    let batch = Batch::parse(bytes).expect("verified");
    assert!(batch.crc_matches() && batch.size() == bytes.len());
    let before = records(bytes);
    assert_eq!(before.len(), batch.count() as usize);
    for (index, record) in before.iter().enumerate() {
        assert_eq!(record.0, index as i64);
        assert!(!rules.keys_required || record.2.is_some());
    }
    if matches!(batch.timestamp_type(), trialog_engine::wire::batch::TimestampType::CreateTime) {
        assert_eq!(before.iter().map(|record| record.1).max(), Some(max_timestamp));
    }
    let wide = Rules { batch_bytes_max: usize::MAX, zstd: true, ..rules.clone() };
    let codec = CODECS[usize::from(choice) % CODECS.len()];
    if let Some(made) = recompress(bytes, codec, usize::MAX).expect("readable") {
        let again = verify(&made, &wide).expect("compressed anew it is still good");
        assert_eq!(again.max_timestamp, max_timestamp);
        assert!(records(&made) == before, "{codec:?}");
    }
    // Compaction: some go, the others stay as they were.
    let keep = |offset: i64| choice >> (offset % 8) & 1 != 0;
    let kept = retain(&batch, |record| keep(record.offset.0), 1_700_000_000_500);
    let expected: Vec<Read> = before.iter().filter(|record| keep(record.0)).cloned().collect();
    match kept.expect("readable") {
        Retained::Whole => assert_eq!(expected.len(), before.len()),
        Retained::Nothing => assert!(expected.is_empty()),
        Retained::Part(part) => {
            let after = Batch::parse(&part).expect("a batch");
            assert!(after.crc_matches() && after.size() == part.len());
            assert_eq!(after.last_offset(), batch.last_offset());
            assert!(records(&part) == expected);
        }
    }
    // The leader's stamp moves the offsets and nothing else.
    stamp(bytes, Offset(1000), LeaderEpoch(3));
    assert!(Batch::parse(bytes).expect("stamped").crc_matches());
    let moved = records(bytes).into_iter().map(|mut record| {
        record.0 -= 1000;
        record
    });
    assert!(moved.eq(before.iter().cloned()));
    stamp_append_time(bytes, 12_345);
    assert!(Batch::parse(bytes).expect("stamped").crc_matches());
    assert!(records(bytes).iter().all(|record| record.1 == 12_345));
}

/// Batches of every codec, with and without keys, headers, a producer.
pub fn built() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for codec in CODECS {
        for shape in 0..6_usize {
            let mut builder = Builder::new().compression(codec);
            if shape % 2 == 1 {
                builder = builder.producer(ProducerId(7), ProducerEpoch(1), shape as i32);
            }
            if shape == 3 {
                builder = builder.transactional();
            }
            for index in 0..=shape as i64 {
                let header = RecordHeader { key: b"h", value: Some(b"x") };
                let null = RecordHeader { key: b"", value: None };
                let headers = if shape == 2 { &[header, null][..] } else { &[] };
                let key = (shape != 1).then_some(&b"key"[..]);
                let value = vec![index as u8; 10 * shape];
                let value = (index != 4).then_some(&value[..]);
                builder.push(1_700_000_000_000 + index, key, value, headers);
            }
            all.push(builder.finish());
        }
    }
    all
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (number, batch) in built().into_iter().enumerate() {
        for flags in [0_u8, 1, 1 | 16, 1 | 8] {
            seeds.push([&[flags, (number as u8).wrapping_mul(37)][..], &batch].concat());
        }
    }
    seeds
}
