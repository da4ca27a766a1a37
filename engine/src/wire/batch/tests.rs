//! The view, the stamps and the builder.

use super::*;

fn two_records() -> Vec<u8> {
    let mut builder = Builder::new().producer(ProducerId(7), ProducerEpoch(2), 40);
    builder.push(1_000, Some(b"k"), Some(b"v"), &[]);
    let headers = [RecordHeader { key: b"h", value: None }];
    builder.push(900, None, None, &headers);
    builder.finish()
}

#[test]
fn a_built_batch_is_viewed() {
    let bytes = two_records();
    let batch = Batch::parse(&bytes).expect("well-formed");
    assert!(batch.crc_matches());
    assert_eq!(batch.crc(), crc32c::crc32c(&bytes[ATTRIBUTES_AT..]));
    assert_eq!(batch.size(), bytes.len());
    assert_eq!(batch.count(), 2);
    assert_eq!(batch.last_offset(), Offset(1));
    assert_eq!(batch.base_timestamp(), 1_000);
    assert_eq!(batch.max_timestamp(), 1_000);
    assert_eq!(batch.producer_id(), ProducerId(7));
    assert_eq!(batch.producer_epoch(), ProducerEpoch(2));
    assert_eq!(batch.base_sequence(), 40);
    assert_eq!(batch.compression(), Compression::None);
    assert_eq!(batch.timestamp_type(), TimestampType::CreateTime);
    assert!(!batch.is_transactional());
    assert!(!batch.is_control());
}

#[test]
fn stamps_keep_the_checksum_true() {
    let mut bytes = two_records();
    bytes.extend_from_slice(b"the next batch");
    let size = bytes.len() - 14;
    stamp(&mut bytes[..size], Offset(1 << 40), LeaderEpoch(9));
    let batch = Batch::parse(&bytes).expect("well-formed");
    assert!(batch.crc_matches());
    assert_eq!(batch.base_offset(), Offset(1 << 40));
    assert_eq!(batch.last_offset(), Offset((1 << 40) + 1));
    assert_eq!(batch.leader_epoch(), LeaderEpoch(9));
    stamp_append_time(&mut bytes[..size], 5);
    stamp_producer(&mut bytes[..size], ProducerId(8), ProducerEpoch(0), 3);
    let batch = Batch::parse(&bytes).expect("well-formed");
    assert!(batch.crc_matches());
    assert_eq!(batch.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(batch.max_timestamp(), 5);
    assert_eq!(batch.producer_id(), ProducerId(8));
    assert_eq!(batch.base_sequence(), 3);
    bytes[70] ^= 1;
    assert!(!Batch::parse(&bytes).expect("well-formed").crc_matches());
}

#[test]
fn structure_is_checked() {
    let good = two_records();
    for end in 0..good.len() {
        let needed = if end < HEADER_BYTES { HEADER_BYTES } else { good.len() };
        let error = Batch::parse(&good[..end]).expect_err("cut short");
        assert_eq!(error, BatchError::Truncated { needed, found: end });
    }
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Batch::parse(&bytes).expect_err("damaged")
    };
    assert_eq!(with(MAGIC_AT, 1), BatchError::Magic(1));
    assert_eq!(with(LENGTH_AT + 3, 48), BatchError::Length(48));
    assert!(matches!(with(LENGTH_AT, 0xff), BatchError::Length(_)));
    assert_eq!(with(ATTRIBUTES_AT + 1, 5), BatchError::UnknownCodec(5));
    assert!(matches!(with(LAST_DELTA_AT, 0x80), BatchError::Offsets { .. }));
    assert!(matches!(with(0, 0x80), BatchError::Offsets { .. }));
    assert!(matches!(with(COUNT_AT, 0x80), BatchError::Count { .. }));
}
