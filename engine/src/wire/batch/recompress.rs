//! Compresses a batch with another codec, for topics that ask for one (`compression.type`).

use super::{
    ATTRIBUTES_AT, Batch, BatchError, CODEC_BITS, Compression, HEADER_BYTES, LAST_DELTA_AT,
    LENGTH_AT, PREFIX_BYTES, stamp_crc,
};
use crate::limit::FRAME_BYTES_MAX;
use crate::wire::compress::compress;

/// The batch at the start of `bytes` with the same records under `codec`; `None` if it has that
/// codec already.
///
/// # Errors
/// [`BatchError`] if it cannot be read, or would be larger than `bytes_max` or a frame: recovery takes
/// nothing larger than what could have arrived for a batch.
pub fn recompress(
    bytes: &[u8],
    codec: Compression,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, BatchError> {
    let bytes_max = bytes_max.min(FRAME_BYTES_MAX);
    let batch = Batch::parse(bytes)?;
    if batch.compression() == codec {
        return Ok(None);
    }
    let contents = batch.contents()?;
    let mut out = batch.bytes()[..HEADER_BYTES].to_vec();
    compress(codec, contents.plain(), &mut out);
    if out.len() > bytes_max {
        return Err(BatchError::TooLarge { bytes: out.len(), max: bytes_max });
    }
    let length = i32::try_from(out.len() - PREFIX_BYTES)
        .map_err(|_| BatchError::TooLarge { bytes: out.len(), max: bytes_max })?;
    let attributes = (batch.attributes() & !CODEC_BITS) | i16::from(codec.bits());
    out[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
    out[ATTRIBUTES_AT..LAST_DELTA_AT].copy_from_slice(&attributes.to_be_bytes());
    stamp_crc(&mut out);
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    use super::super::Builder;
    use super::*;

    const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    #[test]
    fn nothing_becomes_larger_than_a_frame() {
        let mut builder = Builder::new().compression(Compression::Zstd);
        builder.push(5, None, Some(&vec![0; FRAME_BYTES_MAX]), &[]);
        let sent = builder.finish();
        let made = recompress(&sent, Compression::None, usize::MAX);
        let Err(BatchError::TooLarge { bytes, max }) = made else { panic!("{made:?}") };
        assert!(bytes > max && max == FRAME_BYTES_MAX);
    }

    #[test]
    fn every_codec_becomes_every_other_and_keeps_the_records() {
        for (from, to) in ALL.into_iter().flat_map(|from| ALL.map(|to| (from, to))) {
            let mut builder = Builder::new().compression(from);
            builder.push(5, Some(b"key"), Some(&[b'x'; 300]), &[]);
            builder.push(6, None, None, &[]);
            let sent = builder.finish();
            let made = recompress(&sent, to, 10_000).expect("readable");
            assert_eq!(made.is_none(), from == to);
            let made = made.unwrap_or_else(|| sent.clone());
            let (before, after) = (Batch::parse(&sent), Batch::parse(&made));
            let (before, after) = (before.expect("a batch"), after.expect("a batch"));
            assert!(after.crc_matches());
            assert_eq!((after.compression(), after.count()), (to, before.count()));
            let (before, after) = (before.contents(), after.contents());
            assert_eq!(
                before.expect("readable").plain(),
                after.expect("readable").plain(),
                "{from:?} to {to:?}"
            );
        }
    }

    #[test]
    fn what_becomes_too_large_is_refused() {
        let mut builder = Builder::new().compression(Compression::Zstd);
        builder.push(5, None, Some(&[b'x'; 3000]), &[]);
        let sent = builder.finish();
        let refused = recompress(&sent, Compression::None, 1000);
        assert!(matches!(refused, Err(BatchError::TooLarge { .. })), "{refused:?}");
    }
}
