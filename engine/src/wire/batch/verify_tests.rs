//! Every rule, good batches of every codec, and hostile ones.

use proptest::collection::vec;
use proptest::prelude::*;

use super::oracle::{CODECS, fill, plans, read};
use super::*;
use crate::wire::api::meter::allocated;
use crate::wire::code::ErrorCode;

/// No rule about time, and room for everything.
fn lenient() -> Rules {
    Rules {
        batch_bytes_max: 1 << 30,
        now_ms: 1 << 60,
        timestamp_after_ms_max: i64::MAX,
        ..Rules::default()
    }
}

fn plain() -> Vec<u8> {
    let mut builder = Builder::new();
    builder.push(1_000, Some(b"key"), Some(b"value"), &[]);
    let headers = [RecordHeader { key: b"h", value: Some(b"x") }];
    builder.push(2_000, Some(b"key"), None, &headers);
    builder.finish()
}

/// `batch` with a byte at `at` changed, and a checksum that covers up for it.
fn with(batch: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = batch.to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    stamp_crc(&mut batch);
    batch
}

/// A batch of `count` records whose body is `records`.
fn raw(codec: Compression, count: i32, records: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new();
    builder.push(0, None, None, &[]);
    let mut batch = builder.finish();
    batch.truncate(HEADER_BYTES);
    crate::wire::compress::compress(codec, records, &mut batch);
    let length = i32::try_from(batch.len() - PREFIX_BYTES).expect("short");
    batch[LENGTH_AT..EPOCH_AT].copy_from_slice(&length.to_be_bytes());
    batch[ATTRIBUTES_AT + 1] = codec.bits();
    batch[LAST_DELTA_AT..BASE_TIMESTAMP_AT].copy_from_slice(&(count - 1).to_be_bytes());
    batch[COUNT_AT..HEADER_BYTES].copy_from_slice(&count.to_be_bytes());
    stamp_crc(&mut batch);
    batch
}

fn fault(codec: Compression, count: i32, records: &[u8]) -> BatchError {
    verify(&raw(codec, count, records), &lenient()).expect_err("must be refused")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn good_batches_pass(plans in plans()) {
        for codec in CODECS {
            let mut builder = Builder::new().compression(codec);
            fill(&mut builder, &plans);
            let batch = builder.finish();
            let verified = verify(&batch, &lenient()).expect("good");
            let max = plans.iter().map(|plan| plan.0).max();
            prop_assert_eq!(Some(verified.max_timestamp), max);
        }
    }

    /// What passes can be read; what does not is an error and costs little, in every codec and
    /// whatever lies behind a true checksum.
    #[test]
    fn damage_is_an_error_or_harmless(
        plans in plans(),
        damage in vec(any::<(prop::sample::Index, u8)>(), 1..4),
    ) {
        for codec in CODECS {
            let mut builder = Builder::new().compression(codec);
            fill(&mut builder, &plans);
            let mut batch = builder.finish();
            for &(at, byte) in &damage {
                // Past the fields that nothing vouches for; the length is another test's.
                let at = ATTRIBUTES_AT + at.index(batch.len() - ATTRIBUTES_AT);
                batch[at] ^= byte;
            }
            stamp_crc(&mut batch);
            let (result, bytes) = allocated(|| verify(&batch, &lenient()));
            prop_assert!(bytes < 16 << 20, "{bytes} bytes for a batch of {}", batch.len());
            if codec == Compression::None && result.is_ok() {
                prop_assert_eq!(bytes, 0);
            }
            match (result, read(&batch)) {
                (Ok(_), read) => prop_assert!(read.is_ok(), "verified and unreadable: {read:?}"),
                (Err(_), _) => {}
            }
        }
    }

    #[test]
    fn garbage_records_are_refused(
        records in vec(any::<u8>(), 0..300),
        count in 1i32..50,
    ) {
        for codec in CODECS {
            let batch = raw(codec, count, &records);
            let (result, bytes) = allocated(|| verify(&batch, &lenient()));
            prop_assert!(bytes < 16 << 20, "{bytes} bytes");
            if result.is_ok() {
                prop_assert!(read(&batch).is_ok());
            }
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(verify(&bytes, &lenient()).is_err());
    }

    #[test]
    fn a_cut_batch_is_refused(plans in plans()) {
        let mut builder = Builder::new();
        fill(&mut builder, &plans);
        let batch = builder.finish();
        for end in 0..batch.len().min(400) {
            let error = verify(&batch[..end], &lenient()).expect_err("cut");
            prop_assert_eq!(error.code(), ErrorCode::CorruptMessage);
        }
    }
}

#[test]
fn an_uncompressed_batch_is_verified_without_allocating() {
    let batch = plain();
    let (result, bytes) = allocated(|| verify(&batch, &lenient()));
    assert_eq!(result, Ok(Verified { max_timestamp: 2_000 }));
    assert_eq!(bytes, 0);
}

#[test]
fn header_rules() {
    let good = plain();
    let refuse = |batch: &[u8], rules: &Rules| verify(batch, rules).expect_err("must be refused");
    let mut flipped = good.clone();
    flipped[good.len() - 1] ^= 1;
    assert_eq!(refuse(&flipped, &lenient()), BatchError::Checksum);
    let two = [good.clone(), good.clone()].concat();
    assert_eq!(refuse(&two, &lenient()), BatchError::Trailing(good.len()));
    let small = Rules { batch_bytes_max: good.len() - 1, ..lenient() };
    let error = refuse(&good, &small);
    assert_eq!(error, BatchError::TooLarge { bytes: good.len(), max: good.len() - 1 });
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
    let exact = Rules { batch_bytes_max: good.len(), ..lenient() };
    assert!(verify(&good, &exact).is_ok());

    let control = with(&good, ATTRIBUTES_AT + 1, &[CONTROL_BIT as u8]);
    assert_eq!(refuse(&control, &lenient()), BatchError::Control);
    let append_time = with(&good, ATTRIBUTES_AT + 1, &[APPEND_TIME_BIT as u8]);
    assert_eq!(refuse(&append_time, &lenient()).code(), ErrorCode::InvalidTimestamp);
    assert!(verify(&append_time, &Rules { append_time: true, ..lenient() }).is_ok());
    let transactional = with(&good, ATTRIBUTES_AT + 1, &[TRANSACTIONAL_BIT as u8]);
    assert!(matches!(refuse(&transactional, &lenient()), BatchError::Producer { .. }));
    let mut offset = good.clone();
    offset[7] = 5;
    assert!(matches!(refuse(&offset, &lenient()), BatchError::Offsets { base: 5, .. }));
    for (count, last_delta) in [(0, 1), (1, 1), (3, 1), (2, 0), (2, 2), (1 << 20, (1 << 20) - 1)] {
        let batch = with(&good, COUNT_AT, &i32::to_be_bytes(count));
        let batch = with(&batch, LAST_DELTA_AT, &i32::to_be_bytes(last_delta));
        assert_eq!(refuse(&batch, &lenient()), BatchError::Count { count, last_delta });
    }

    let producer = |id: i64, epoch: i16, sequence: i32| {
        let mut batch = good.clone();
        stamp_producer(&mut batch, ProducerId(id), ProducerEpoch(epoch), sequence);
        verify(&batch, &lenient())
    };
    assert!(producer(7, 0, 0).is_ok());
    assert!(producer(7, 0, i32::MAX).is_ok());
    assert!(producer(-1, -1, -1).is_ok());
    let mut opening = transactional;
    stamp_producer(&mut opening, ProducerId(7), ProducerEpoch(0), 0);
    assert_eq!(refuse(&opening, &lenient()), BatchError::Transactional);
    assert_eq!(BatchError::Transactional.code(), ErrorCode::InvalidTxnState);
    // What was only damaged on its way may come again.
    let mut damaged = good.clone();
    stamp_producer(&mut damaged, ProducerId(7), ProducerEpoch(0), 0);
    damaged[ATTRIBUTES_AT + 1] ^= TRANSACTIONAL_BIT as u8;
    assert_eq!(refuse(&damaged, &lenient()), BatchError::Checksum);
    for (id, epoch, sequence) in [(7, -1, 0), (7, 0, -1), (-2, 0, 0)] {
        assert!(matches!(producer(id, epoch, sequence), Err(BatchError::Producer { .. })));
    }
}

#[test]
fn zstd_needs_a_newer_request() {
    let mut builder = Builder::new().compression(Compression::Zstd);
    builder.push(1, None, Some(b"v"), &[]);
    let batch = builder.finish();
    assert!(verify(&batch, &lenient()).is_ok());
    let error = verify(&batch, &Rules { zstd: false, ..lenient() }).expect_err("too old");
    assert_eq!(error.code(), ErrorCode::UnsupportedCompressionType);
}

#[test]
fn records_that_break_a_topics_rules_are_named() {
    for codec in CODECS {
        let mut builder = Builder::new().compression(codec);
        for index in 0..5i64 {
            let key = (index % 2 == 0).then_some(&b"k"[..]);
            builder.push(1_000 * index, key, None, &[]);
        }
        let batch = builder.finish();
        let rules = Rules { keys_required: true, ..lenient() };
        let error = verify(&batch, &rules).expect_err("keys are missing");
        assert_eq!(error.code(), ErrorCode::InvalidRecord);
        let named: Vec<_> = error.record_errors().into_iter().map(|(index, _)| index).collect();
        assert_eq!(named, [1, 3]);

        let mut rules = lenient();
        rules.now_ms = 2_500;
        rules.timestamp_before_ms_max = 1_500;
        rules.timestamp_after_ms_max = 1_499;
        let error = verify(&batch, &rules).expect_err("out of range");
        assert_eq!(error.code(), ErrorCode::InvalidTimestamp);
        let at = |index: i32| RecordError {
            index,
            fault: RecordFault::Timestamp(1_000 * i64::from(index)),
        };
        assert_eq!(error, BatchError::Records { errors: vec![at(0), at(4)], wrong: 2 });
        assert!(verify(&batch, &Rules { append_time: true, ..rules }).is_ok());
    }
}

#[test]
fn named_records_are_bounded() {
    let mut builder = Builder::new();
    for _ in 0..1000 {
        builder.push(0, None, None, &[]);
    }
    let rules = Rules { keys_required: true, ..lenient() };
    match verify(&builder.finish(), &rules) {
        Err(BatchError::Records { errors, wrong: 1000 }) => {
            assert_eq!(errors.len(), crate::limit::RECORD_ERRORS_MAX);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_without_a_timestamp_is_never_too_old() {
    let mut builder = Builder::new();
    builder.push(-1, None, None, &[]);
    let rules = Rules { now_ms: 1 << 40, timestamp_before_ms_max: 1, ..lenient() };
    assert_eq!(verify(&builder.finish(), &rules), Ok(Verified { max_timestamp: -1 }));
}

#[test]
fn a_wrong_max_timestamp_is_told_and_stamped() {
    let mut batch = with(&plain(), MAX_TIMESTAMP_AT, &i64::to_be_bytes(77));
    let verified = verify(&batch, &lenient()).expect("tolerated");
    assert_eq!(verified.max_timestamp, 2_000);
    stamp_max_timestamp(&mut batch, verified.max_timestamp);
    assert_eq!(batch, plain());
}

#[test]
fn malformed_records_are_named() {
    use RecordFault::{Headers, Length, OffsetDelta, TimestampOverflow, Truncated};
    // Length 6: attributes, timestamp delta, offset delta, null key, null value, no headers.
    let good: &[u8] = &[12, 0, 0, 0, 1, 1, 0];
    let second: &[u8] = &[12, 0, 0, 2, 1, 1, 0];
    let overflow = [&[30, 0][..], &[0xff; 9], &[1, 0, 1, 1, 0]].concat();
    let cases: [(&[u8], RecordFault); 9] = [
        (&[13, 0, 0, 0, 1, 1, 0], Length),
        (&[14, 0, 0, 0, 1, 1, 0, 0], Length),
        (&[10, 0, 0, 0, 1, 1, 0], Length),
        (&[12, 0, 0, 2, 1, 1, 0], OffsetDelta(1)),
        (&[12, 0, 0, 0, 8, 1, 0], Truncated),
        (&[12, 0, 0, 0, 3, 1, 0], Length),
        (&[12, 0, 0, 0, 1, 1, 1], Headers),
        (&[12, 0, 0, 0, 1, 1, 2], Headers),
        (&[16, 0, 0, 0, 1, 1, 2, 1, 1], Headers),
    ];
    for codec in CODECS {
        assert!(verify(&raw(codec, 1, good), &lenient()).is_ok());
        assert!(verify(&raw(codec, 2, &[good, second].concat()), &lenient()).is_ok());
        for (record, fault_expected) in cases {
            let error = fault(codec, 1, record);
            assert_eq!(error, BatchError::Record { index: 0, fault: fault_expected }, "{record:?}");
            assert_eq!(error.code(), ErrorCode::InvalidRecord);
            if fault_expected != OffsetDelta(1) {
                let later = [good, &record[..3], &[2], &record[4..]].concat();
                let error = fault(codec, 2, &later);
                assert_eq!(error, BatchError::Record { index: 1, fault: fault_expected });
            }
        }
        assert_eq!(fault(codec, 1, &[good, second].concat()).code(), ErrorCode::InvalidRecord);
        assert!(matches!(fault(codec, 1, &[good, second].concat()), BatchError::Trailing(_)));
        let batch = with(&raw(codec, 1, &overflow), BASE_TIMESTAMP_AT, &i64::to_be_bytes(-9));
        let error = verify(&batch, &lenient()).expect_err("overflows");
        assert_eq!(error, BatchError::Record { index: 0, fault: TimestampOverflow });
    }
}

#[test]
fn bombs_are_cut_off() {
    // One record with a value of 256 MiB of zeros.
    let size = 256 << 20;
    let mut record = Vec::new();
    varint::put(&mut record, size as i64 + 11);
    record.extend_from_slice(&[0, 0, 0, 1]);
    varint::put(&mut record, size as i64);
    record.resize(record.len() + size, 0);
    record.push(0);
    for codec in [Compression::Gzip, Compression::Zstd] {
        let batch = raw(codec, 1, &record);
        let (result, bytes) = allocated(|| verify(&batch, &lenient()));
        let error = result.expect_err("too much");
        assert_eq!(error, BatchError::Inflated { max: 128 << 20 });
        assert_eq!(error.code(), ErrorCode::MessageTooLarge);
        assert!(bytes < 1 << 20, "{bytes} bytes");
    }
}
