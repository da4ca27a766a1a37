//! The reader takes back what the writers wrote, and refuses what they could not have written.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn integers_come_back(a: i8, b: i16, c: i32, d: i64, e: u16, f: u32, g: bool) {
        let mut out = Vec::new();
        put_i8(&mut out, a);
        put_i16(&mut out, b);
        put_i32(&mut out, c);
        put_i64(&mut out, d);
        put_u16(&mut out, e);
        put_u32(&mut out, f);
        put_bool(&mut out, g);
        put_varint(&mut out, c);
        put_varlong(&mut out, d);
        put_unsigned_varint(&mut out, f);
        let mut reader = Reader::new(&out);
        prop_assert_eq!(reader.i8(), Ok(a));
        prop_assert_eq!(reader.i16(), Ok(b));
        prop_assert_eq!(reader.i32(), Ok(c));
        prop_assert_eq!(reader.i64(), Ok(d));
        prop_assert_eq!(reader.u16(), Ok(e));
        prop_assert_eq!(reader.u32(), Ok(f));
        prop_assert_eq!(reader.bool(), Ok(g));
        prop_assert_eq!(reader.varint(), Ok(c));
        prop_assert_eq!(reader.varlong(), Ok(d));
        prop_assert_eq!(reader.unsigned_varint(), Ok(f));
        prop_assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn texts_and_bytes_come_back(text: Option<String>, bytes: Option<Vec<u8>>, flexible: bool) {
        let mut out = Vec::new();
        put_nullable_string(&mut out, flexible, text.as_deref());
        put_nullable_bytes(&mut out, flexible, bytes.as_deref());
        let mut reader = Reader::new(&out);
        prop_assert_eq!(reader.nullable_string(flexible), Ok(text.as_deref()));
        prop_assert_eq!(reader.nullable_bytes(flexible), Ok(bytes.as_deref()));
        prop_assert_eq!(reader.finish(), Ok(()));
    }
}

fn fault<T: fmt::Debug>(result: Result<T, DecodeError>) -> Fault {
    result.expect_err("must be refused").fault
}

#[test]
fn varints_are_bounded_in_bytes_and_bits() {
    let longest_32 = [0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(Reader::new(&longest_32).unsigned_varint(), Ok(u32::MAX));
    let bit_33 = [0xff, 0xff, 0xff, 0xff, 0x1f];
    assert_eq!(fault(Reader::new(&bit_33).unsigned_varint()), Fault::VarintTooLong);
    assert_eq!(fault(Reader::new(&[0x80; 6]).unsigned_varint()), Fault::VarintTooLong);
    let mut longest_64 = [0xff; 10];
    longest_64[9] = 1;
    assert_eq!(Reader::new(&longest_64).varlong(), Ok(i64::MIN));
    longest_64[9] = 3;
    assert_eq!(fault(Reader::new(&longest_64).varlong()), Fault::VarintTooLong);
    assert_eq!(fault(Reader::new(&[0x80; 11]).varlong()), Fault::VarintTooLong);
    assert_eq!(fault(Reader::new(&[0x80]).varlong()), Fault::Truncated);
}

#[test]
fn lengths_are_compared_with_what_remains() {
    assert_eq!(fault(Reader::new(&[0, 3, b'a', b'b']).string(false)), Fault::Truncated);
    assert_eq!(fault(Reader::new(&[4, b'a', b'b']).string(true)), Fault::Truncated);
    assert_eq!(fault(Reader::new(&[0xff, 0xfe]).string(false)), Fault::NegativeLength);
    assert_eq!(fault(Reader::new(&[0xff, 0xff]).string(false)), Fault::UnexpectedNull);
    assert_eq!(fault(Reader::new(&[0]).string(true)), Fault::UnexpectedNull);
    assert_eq!(fault(Reader::new(&[0, 1, 0xff]).string(false)), Fault::NotUtf8);
    let huge = [0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4];
    assert_eq!(fault(Reader::new(&huge).bytes(false)), Fault::Truncated);
    assert_eq!(fault(Reader::new(&huge).array::<u8>(false, 0)), Fault::Truncated);
    let compact_huge = [0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2];
    assert_eq!(fault(Reader::new(&compact_huge).array::<u8>(true, 1)), Fault::Truncated);
    assert_eq!(Reader::new(&[0, 0, 0, 2, 1, 1]).array::<u8>(false, 1), Ok(2));
    assert_eq!(fault(Reader::new(&[0, 0, 0, 2, 1]).array::<u8>(false, 1)), Fault::Truncated);
}

#[test]
fn what_arrays_may_reserve_is_bounded_over_the_whole_message() {
    struct Big(#[allow(dead_code)] [u8; MESSAGE_MEMORY_BYTES_MAX / 2]);
    let bytes = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0];
    let mut reader = Reader::new(&bytes);
    assert_eq!(reader.array::<Big>(false, 1), Ok(1));
    assert_eq!(reader.array::<Big>(false, 1), Ok(1));
    assert_eq!(fault(reader.array::<Big>(false, 1)), Fault::TooLarge);
}

#[test]
fn unknown_tags_are_skipped_and_known_ones_must_fill_their_size() {
    // Two fields: tag 7 with two bytes, tag 1 with one.
    let bytes = [2, 7, 2, 0xaa, 0xbb, 1, 1, 5, 0x99];
    let mut seen = None;
    let mut reader = Reader::new(&bytes);
    reader
        .tagged(|tag, field| {
            if tag == 1 {
                seen = Some(field.i8()?);
            }
            Ok(tag == 1)
        })
        .expect("well formed");
    assert_eq!(seen, Some(5));
    assert_eq!(reader.remaining(), 1);
    let too_much = Reader::new(&bytes).tagged(|tag, _| Ok(tag == 1));
    assert_eq!(fault(too_much), Fault::TrailingBytes);
    let beyond = Reader::new(&bytes).tagged(|_, field| field.i32().map(|_| true));
    assert_eq!(fault(beyond), Fault::Truncated);
    assert_eq!(fault(Reader::new(&[1, 0, 9, 1]).skip_tagged()), Fault::Truncated);
    let endless = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
    assert_eq!(fault(Reader::new(&endless).skip_tagged()), Fault::Truncated);
}

#[test]
fn a_text_that_is_too_long_is_cut_at_a_character() {
    let mut out = Vec::new();
    put_string(&mut out, false, &"ä".repeat(STRING_BYTES_MAX));
    let mut reader = Reader::new(&out);
    let text = reader.string(false).expect("readable");
    assert_eq!(text.len(), STRING_BYTES_MAX - 1);
    assert_eq!(reader.finish(), Ok(()));
    let mut long = vec![0x81, 0x80, 0x02];
    long.resize(40_000, b'a');
    assert_eq!(fault(Reader::new(&long).string(true)), Fault::StringTooLong);
}
