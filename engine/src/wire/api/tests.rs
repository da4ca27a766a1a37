//! Every message in every version: against the oracle, and against hostile bytes.
//!
//! A new API is tested by its line in `list.rs`. `PROPTEST_CASES` makes the runs longer.

use std::fmt::Debug;
use std::io::Cursor;

use kafka_protocol::messages as oracle;
use kafka_protocol::protocol::{Decodable, Encodable, Message as OracleMessage};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::meter::allocated;
use super::sample::{Sample, message as sample};
use super::*;
use crate::wire::codec::Fault;

/// What any message is, for these tests.
trait Subject: Message + Sample + Default + Debug + PartialEq {}
impl<M: Message + Sample + Default + Debug + PartialEq> Subject for M {}

macro_rules! apis {
    ($($api:ident $request:ident $response:ident;)*) => {
        $(
            #[allow(non_snake_case)]
            mod $api {
                use super::*;

                #[test]
                fn agrees_with_the_oracle() {
                    agrees::<$request, oracle::$request>(ApiKey::$api);
                    agrees::<$response, oracle::$response>(ApiKey::$api);
                }

                #[test]
                fn withstands_hostile_bytes() {
                    withstands::<$request>(ApiKey::$api);
                    withstands::<$response>(ApiKey::$api);
                }

                #[test]
                fn is_answered_in_its_own_versions() {
                    assert_eq!(<$request as Request>::KEY, ApiKey::$api);
                    assert_eq!(<$request>::VERSIONS, ApiKey::$api.versions());
                    assert_eq!(<$response>::VERSIONS, ApiKey::$api.versions());
                }
            }
        )*

        /// No declared API is left out above.
        #[test]
        fn every_api_with_messages_is_tested() {
            let tested = [$(ApiKey::$api),*];
            for key in ApiKey::ALL {
                // These have tests of their own, of the same kinds.
                let by_hand = matches!(key, ApiKey::Produce | ApiKey::Fetch);
                let declared = !key.versions().is_empty() && !by_hand;
                assert_eq!(tested.contains(key), declared, "{key:?}");
            }
        }
    };
}

crate::every_api!(apis);

/// A null array and an empty one, in both forms.
#[test]
fn null_and_empty_are_two_values() {
    let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
    let none = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
    assert_eq!(encoded(&all, 1), [0xff, 0xff, 0xff, 0xff]);
    assert_eq!(encoded(&none, 1), [0, 0, 0, 0]);
    assert_eq!(encoded(&all, 9), [0, 1, 0, 0, 0]);
    assert_eq!(encoded(&none, 9), [1, 1, 0, 0, 0]);
    for version in [1, 9] {
        assert_eq!(MetadataRequest::parse(&encoded(&all, version), version), Ok(all.clone()));
        assert_eq!(MetadataRequest::parse(&encoded(&none, version), version), Ok(none.clone()));
    }
    // Version 0 has no null, and its empty array means "all".
    assert_eq!(encoded(&all, 0), [0, 0, 0, 0]);
    let refused = MetadataRequest::parse(&[0xff, 0xff, 0xff, 0xff], 0).expect_err("no null");
    assert_eq!(refused.fault, Fault::UnexpectedNull);
}

#[test]
fn an_error_names_the_field_and_the_place() {
    // An empty name, then a version that is not UTF-8.
    let error = ApiVersionsRequest::parse(&[1, 2, 0xff, 0], 3).expect_err("not UTF-8");
    assert_eq!(error.fault, Fault::NotUtf8);
    assert_eq!((error.field, error.position), ("client_software_version", 2));
    let text = "a string that is not UTF-8 in field client_software_version at byte 2";
    assert_eq!(error.to_string(), text);
}

/// Known and unknown tagged fields, out of order and inside of an element.
#[test]
fn tagged_fields_are_found_wherever_they_stand() {
    let mut bytes = vec![0, 0, 1, 0, 0, 0, 0];
    bytes.extend_from_slice(&[3]); // three tagged fields
    bytes.extend_from_slice(&[2, 10, 2, 2, b'x', 0, 5, 0, 1, 1, 9, 0]); // finalized features
    bytes.extend_from_slice(&[77, 2, 1, 2]); // nobody knows 77
    bytes.extend_from_slice(&[1, 8, 0, 0, 0, 0, 0, 0, 0, 6]); // finalized epoch
    let response = ApiVersionsResponse::parse(&bytes, 3).expect("well formed");
    let feature =
        FinalizedFeatureKey { name: "x".to_owned(), max_version_level: 5, min_version_level: 1 };
    assert_eq!(response.finalized_features, [feature]);
    assert_eq!(response.finalized_features_epoch, 6);
    assert_eq!(response.supported_features, []);
}

/// Thirteen megabytes of empty elements would be half a gigabyte of structures.
#[test]
fn a_message_has_a_memory_allowance() {
    let count = crate::limit::MESSAGE_MEMORY_BYTES_MAX / size_of::<MetadataRequestTopic>() + 1;
    let mut bytes = Vec::new();
    crate::wire::codec::put_array(&mut bytes, true, count);
    bytes.resize(bytes.len() + 2 * count, 1);
    let (outcome, memory) = allocated(|| MetadataRequest::parse(&bytes, 9));
    let error = outcome.expect_err("too large");
    assert_eq!((error.fault, error.field), (Fault::TooLarge, "topics"));
    assert_eq!(memory, 0);
}

/// The oracle ends at version 10; 11 added a meaning (timestamp -6), no field.
#[test]
fn list_offsets_11_looks_like_10() {
    for_samples(32, &|numbers| {
        let request: ListOffsetsRequest = sample(numbers, ApiKey::ListOffsets, 10);
        prop_assert_eq!(encoded(&request, 10), encoded(&request, 11));
        let response: ListOffsetsResponse = sample(numbers, ApiKey::ListOffsets, 10);
        prop_assert_eq!(encoded(&response, 10), encoded(&response, 11));
        Ok(())
    });
}

/// Runs a property over strings of numbers from which values are drawn.
/// (The property is not a parameter of type: the runner would be compiled anew for each.)
fn for_samples(cases: u32, property: &dyn Fn(&[u32]) -> Result<(), TestCaseError>) {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    let numbers = prop::collection::vec(any::<u32>(), 0..400);
    let outcome = TestRunner::new(config).run(&numbers, |numbers| property(&numbers));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

fn encoded<M: Subject>(message: &M, version: i16) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes, version);
    bytes
}

/// Ours to bytes, bytes to the oracle's and back to the same bytes, and to ours again; with and
/// without a tagged field that nobody knows. Versions that the oracle lacks go round alone.
fn agrees<M: Subject, O>(key: ApiKey)
where
    O: OracleMessage + Encodable + Decodable + Debug,
{
    assert!(O::VERSIONS.max >= *M::VERSIONS.start(), "nothing to compare");
    for_samples(128, &|numbers| {
        for version in M::VERSIONS {
            let message: M = sample(numbers, key, version);
            let bytes = encoded(&message, version);
            let again = M::parse(&bytes, version);
            prop_assert_eq!(again.as_ref(), Ok(&message), "version {}", version);
            let known = (O::VERSIONS.min..=O::VERSIONS.max).contains(&version);
            if known {
                same_in_oracle::<O>(&bytes, version)?;
            }
            let Some(tagged) = with_unknown_tag(&bytes, key, version) else { continue };
            let again = M::parse(&tagged, version);
            prop_assert_eq!(again.as_ref(), Ok(&message), "tag in version {}", version);
            if known {
                same_in_oracle::<O>(&tagged, version)?;
            }
        }
        Ok(())
    });
}

fn same_in_oracle<O>(bytes: &[u8], version: i16) -> Result<(), TestCaseError>
where
    O: Encodable + Decodable + Debug,
{
    let mut rest = Cursor::new(bytes);
    let message = match O::decode(&mut rest, version) {
        Ok(message) => message,
        Err(error) => {
            return Err(TestCaseError::fail(format!("oracle refuses version {version}: {error}")));
        }
    };
    prop_assert_eq!(
        rest.position(),
        bytes.len() as u64,
        "oracle leaves bytes, version {}",
        version
    );
    let mut again = Vec::new();
    if let Err(error) = message.encode(&mut again, version) {
        return Err(TestCaseError::fail(format!("oracle cannot encode {version}: {error}")));
    }
    prop_assert_eq!(&again[..], bytes, "version {}, oracle {:?}", version, message);
    Ok(())
}

/// The bytes with an unknown tagged field at the top level, where that is a matter of putting it
/// in place of the final zero.
fn with_unknown_tag(bytes: &[u8], key: ApiKey, version: i16) -> Option<Vec<u8>> {
    // These responses may end in tagged fields that are known, so the last byte means nothing.
    if !key.request_is_flexible(version) || key == ApiKey::ApiVersions {
        return None;
    }
    let (last, front) = bytes.split_last()?;
    assert_eq!(*last, 0, "no tagged fields at the top level");
    let mut tagged = front.to_vec();
    // One field: tag 5000, three bytes.
    tagged.extend_from_slice(&[1, 0x88, 0x27, 3, 0xde, 0xad, 0xff]);
    Some(tagged)
}

/// Decoding `bytes` neither panics nor costs more memory than an honest frame of that size, and
/// an error points into the bytes.
fn survives<M: Subject>(bytes: &[u8], version: i16) -> Result<M, Fault> {
    let (outcome, memory) = allocated(|| M::parse(bytes, version));
    let most = 64 * bytes.len() + 1024;
    assert!(memory <= most, "version {version}: {memory} bytes of memory for {bytes:02x?}");
    outcome.map_err(|error| {
        assert!(error.position <= bytes.len(), "{error}");
        error.fault
    })
}

fn withstands<M: Subject>(key: ApiKey) {
    for version in [i16::MIN, M::VERSIONS.start() - 1, M::VERSIONS.end() + 1, i16::MAX] {
        assert_eq!(survives::<M>(&[0; 64], version).err(), Some(Fault::UnsupportedVersion));
    }
    // A count of 2^31 - 1, in both forms, and the largest compact one.
    let huge: [&[u8]; 3] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x80, 0x80, 0x80, 0x80, 0x08],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
    ];
    for_samples(32, &|numbers| {
        let noise: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        for version in M::VERSIONS {
            let message: M = sample(numbers, key, version);
            let bytes = encoded(&message, version);
            for length in 0..bytes.len() {
                let cut = survives::<M>(&bytes[..length], version);
                prop_assert!(cut.is_err(), "version {}, {} bytes: {:?}", version, length, cut);
            }
            let mut longer = bytes.clone();
            longer.push(0);
            let outcome = survives::<M>(&longer, version);
            prop_assert_eq!(outcome.err(), Some(Fault::TrailingBytes), "version {}", version);
            for position in 0..bytes.len() {
                for count in huge {
                    let end = bytes.len().min(position + count.len());
                    let mut changed = bytes[..position].to_vec();
                    changed.extend_from_slice(count);
                    changed.extend_from_slice(&bytes[end..]);
                    let _ = survives::<M>(&changed, version);
                }
                let mut flipped = bytes.clone();
                flipped[position] ^= noise.get(position).copied().unwrap_or(0xff);
                let _ = survives::<M>(&flipped, version);
            }
            for start in (0..noise.len()).step_by(37) {
                let _ = survives::<M>(&noise[start..], version);
            }
        }
        Ok(())
    });
    for version in M::VERSIONS {
        // As many empty elements as there can be, wherever an array may begin.
        let empty = encoded(&M::default(), version);
        for position in 0..empty.len() {
            let flexible = key.request_is_flexible(version);
            for count in [300u32, 1000, 2000, 4000] {
                let mut bomb = empty[..position].to_vec();
                if flexible {
                    crate::wire::codec::put_unsigned_varint(&mut bomb, count + 1);
                } else {
                    crate::wire::codec::put_u32(&mut bomb, count);
                }
                // Empty is 0 in the classic form and 1 in the compact one.
                bomb.resize(position + 8000, u8::from(flexible));
                let _ = survives::<M>(&bomb, version);
            }
        }
    }
}
