//! The numbers from which seeds are drawn: the same ones in every run.

/// `count` numbers of the stream `stream`.
pub fn numbers(stream: u64, count: usize) -> Vec<u32> {
    let mut state = stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u32
    };
    (0..count).map(|_| next()).collect()
}

/// Takes the first byte, 0 if there is none.
pub fn byte(data: &mut &[u8]) -> u8 {
    let Some((first, rest)) = data.split_first() else { return 0 };
    *data = rest;
    *first
}

/// Takes a part of the length that two bytes say, or what there is.
pub fn part<'a>(data: &mut &'a [u8]) -> &'a [u8] {
    let length = usize::from(byte(data)) << 8 | usize::from(byte(data));
    let (part, rest) = data.split_at(length.min(data.len()));
    *data = rest;
    part
}

/// Appends `part` as [`part`] reads it.
pub fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&u16::try_from(part.len()).expect("a small seed").to_be_bytes());
    out.extend_from_slice(part);
}
