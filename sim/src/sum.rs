//! A sum by which a change is seen.

/// A sum over parts (FNV-1a), in which an absent one differs from an empty one.
pub(crate) fn sum<'a>(parts: impl IntoIterator<Item = Option<&'a [u8]>>) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |byte: u8| sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for part in parts {
        mix(u8::from(part.is_some()));
        part.unwrap_or_default().iter().for_each(|byte| mix(*byte));
        mix(0xff);
    }
    sum
}
