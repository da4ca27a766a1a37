//! Batches against kafka-protocol, both ways, in every codec.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as theirs;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

/// Timestamp, key, value, headers.
pub(super) type Plan = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

pub(super) const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    option::of(prop_oneof![vec(any::<u8>(), 0..20), vec(Just(b'x'), 0..3000)])
}

/// Records with distinct header names, because the oracle keeps a map; timestamps far apart, so
/// that deltas need more than 32 bits.
pub(super) fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let timestamp = prop_oneof![Just(-1i64), 0i64..2_000_000_000_000, -(1i64 << 60)..1 << 60];
    let headers = btree_map("[a-z]{0,5}", option::of(vec(any::<u8>(), 0..9)), 0..3);
    let headers = headers.prop_map(|map| map.into_iter().collect::<Vec<_>>());
    vec((timestamp, bytes(), bytes(), headers), 1..20)
}

pub(super) fn fill(builder: &mut Builder, plans: &[Plan]) {
    for (timestamp, key, value, headers) in plans {
        let headers: Vec<_> = headers
            .iter()
            .map(|(key, value)| RecordHeader { key: key.as_bytes(), value: value.as_deref() })
            .collect();
        builder.push(*timestamp, key.as_deref(), value.as_deref(), &headers);
    }
}

/// What our reader makes of a batch.
pub(super) fn read(batch: &[u8]) -> Result<Vec<(Offset, Plan)>, BatchError> {
    let contents = Batch::parse(batch)?.contents()?;
    let mut out = Vec::new();
    for record in contents.records() {
        let record = record?;
        let headers = record.headers().map(|header| {
            let key = String::from_utf8_lossy(header.key).into_owned();
            (key, header.value.map(<[u8]>::to_vec))
        });
        let headers = headers.collect();
        let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
        out.push((record.offset, (record.timestamp, key, value, headers)));
    }
    Ok(out)
}

fn their_codec(codec: Compression) -> theirs::Compression {
    match codec {
        Compression::None => theirs::Compression::None,
        Compression::Gzip => theirs::Compression::Gzip,
        Compression::Snappy => theirs::Compression::Snappy,
        Compression::Lz4 => theirs::Compression::Lz4,
        Compression::Zstd => theirs::Compression::Zstd,
    }
}

fn their_record(base: i64, sequence: i32, index: usize, plan: &Plan) -> theirs::Record {
    let (timestamp, key, value, headers) = plan.clone();
    theirs::Record {
        transactional: true,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 4,
        producer_id: 9,
        producer_epoch: 3,
        timestamp_type: theirs::TimestampType::Creation,
        offset: base + index as i64,
        sequence: sequence + index as i32,
        timestamp,
        key: key.map(Bytes::from),
        value: value.map(Bytes::from),
        headers: headers
            .into_iter()
            .map(|(key, value)| (StrBytes::from_string(key), value.map(Bytes::from)))
            .collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_oracle_reads_what_we_build(
        plans in plans(),
        base in 0i64..1 << 40,
        sequence in 0i32..1000,
    ) {
        for codec in CODECS {
            let mut builder = Builder::new()
                .compression(codec)
                .placed(Offset(base), LeaderEpoch(4))
                .producer(ProducerId(9), ProducerEpoch(3), sequence)
                .transactional();
            fill(&mut builder, &plans);
            let batch = builder.finish();
            let mut bytes = Bytes::from(batch);
            let set = theirs::RecordBatchDecoder::decode(&mut bytes).expect("readable");
            prop_assert_eq!(set.compression, their_codec(codec));
            let expected: Vec<_> = plans
                .iter()
                .enumerate()
                .map(|(index, plan)| their_record(base, sequence, index, plan))
                .collect();
            prop_assert_eq!(set.records, expected);
        }
    }

    #[test]
    fn we_read_what_the_oracle_builds(
        plans in plans(),
        base in 0i64..1 << 40,
        sequence in 0i32..1000,
    ) {
        for codec in CODECS {
            let records: Vec<_> = plans
                .iter()
                .enumerate()
                .map(|(index, plan)| their_record(base, sequence, index, plan))
                .collect();
            let mut out = BytesMut::new();
            let options =
                theirs::RecordEncodeOptions { version: 2, compression: their_codec(codec) };
            theirs::RecordBatchEncoder::encode(&mut out, &records, &options).expect("writable");
            let batch = Batch::parse(&out).expect("well-formed");
            prop_assert_eq!(batch.size(), out.len());
            prop_assert!(batch.crc_matches());
            prop_assert!(batch.is_transactional());
            prop_assert_eq!(batch.producer_id(), ProducerId(9));
            prop_assert_eq!(batch.base_sequence(), sequence);
            let max = plans.iter().map(|plan| plan.0).max();
            prop_assert_eq!(Some(batch.max_timestamp()), max);
            let offsets = (0..).map(|index| Offset(base + index));
            let expected: Vec<_> = offsets.zip(plans.iter().cloned()).collect();
            prop_assert_eq!(read(&out).expect("readable"), expected);
        }
    }
}
