//! Zigzag varints as record bodies use them: lengths are 32 bits in at most five bytes, timestamp
//! deltas 64 bits in at most ten. Longer or overflowing forms are refused, because clients refuse
//! them (or, worse, read another number).

/// Appends `value` as a zigzag varint. 32-bit fields use the same bytes.
pub fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// How many bytes [`put`] writes for `value`: 1 to 10.
#[must_use]
pub fn size(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Assembles a 32-bit value from the bytes that `next` yields; `None` if it runs out of bytes or
/// the form is too long.
#[inline]
pub fn read_int(mut next: impl FnMut() -> Option<u8>) -> Option<i32> {
    let mut value = 0u32;
    let mut shift = 0;
    loop {
        let byte = next()?;
        let low = u32::from(byte & 0x7f);
        if shift == 28 && byte > 0x0f {
            return None;
        }
        value |= low << shift;
        if byte < 0x80 {
            return Some((value >> 1) as i32 ^ -((value & 1) as i32));
        }
        shift += 7;
    }
}

/// Assembles a 64-bit value; as [`read_int`].
#[inline]
pub fn read_long(mut next: impl FnMut() -> Option<u8>) -> Option<i64> {
    let mut value = 0u64;
    let mut shift = 0;
    loop {
        let byte = next()?;
        let low = u64::from(byte & 0x7f);
        if shift == 63 && byte > 0x01 {
            return None;
        }
        value |= low << shift;
        if byte < 0x80 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
        shift += 7;
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn over(bytes: &[u8]) -> impl FnMut() -> Option<u8> + '_ {
        let mut bytes = bytes.iter().copied();
        move || bytes.next()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in any::<i64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            prop_assert_eq!(bytes.len(), size(value));
            prop_assert_eq!(read_long(over(&bytes)), Some(value));
            let int = read_int(over(&bytes));
            prop_assert_eq!(int, i32::try_from(value).ok());
            prop_assert_eq!(read_long(over(&bytes[..bytes.len() - 1])), None);
        }
    }

    #[test]
    fn long_forms_are_refused() {
        assert_eq!(read_int(over(&[0x80, 0x80, 0x80, 0x80, 0x80, 0])), None);
        assert_eq!(read_int(over(&[0xff, 0xff, 0xff, 0xff, 0x0f])), Some(i32::MIN));
        assert_eq!(read_int(over(&[0xff, 0xff, 0xff, 0xff, 0x1f])), None);
        assert_eq!(read_long(over(&[0x80; 11])), None);
        let mut least = [0xff; 10];
        least[9] = 1;
        assert_eq!(read_long(over(&least)), Some(i64::MIN));
        least[9] = 2;
        assert_eq!(read_long(over(&least)), None);
    }
}
