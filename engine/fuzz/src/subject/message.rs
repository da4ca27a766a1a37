//! Every declared message in every version: which one, then which version, then its bytes.

use trialog_engine::wire::api::{ApiKey, Message, Request, sample};

use crate::meter;
use crate::numbers::{byte, numbers};

struct Entry {
    key: ApiKey,
    check: fn(&[u8], i16),
    sample: fn(&[u32], ApiKey, i16) -> Vec<u8>,
}

macro_rules! entries {
    ($($api:ident $request:ident $response:ident;)*) => {
        use trialog_engine::wire::api::{$($request, $response),*};

        const ENTRIES: &[Entry] = &[$(
            Entry { key: <$request as Request>::KEY, check: check::<$request>, sample: drawn::<$request> },
            Entry { key: ApiKey::$api, check: check::<$response>, sample: drawn::<$response> },
        )*];
    };
}

trialog_engine::every_api!(entries);

/// What decodes is encoded, decoded and encoded again to the same bytes. (Bytes, because not every
/// number equals itself.)
fn check<M: Message>(bytes: &[u8], version: i16) {
    let (outcome, memory) = meter::taken(|| M::parse(bytes, version));
    assert!(memory <= 64 * bytes.len() + 1024, "{memory} bytes of memory for {}", bytes.len());
    let message = match outcome {
        Ok(message) => message,
        Err(error) => {
            assert!(error.position <= bytes.len(), "{error}");
            return;
        }
    };
    let mut codes = 0;
    message.error_codes(version, &mut |_| codes += 1);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    message.encode(&mut first, version);
    M::parse(&first, version).expect("what we wrote").encode(&mut second, version);
    assert!(first == second, "version {version} of {}", std::any::type_name::<M>());
}

fn drawn<M: Message + sample::Sample>(numbers: &[u32], key: ApiKey, version: i16) -> Vec<u8> {
    let mut out = Vec::new();
    sample::message::<M>(numbers, key, version).encode(&mut out, version);
    out
}

pub fn run(mut data: &[u8]) {
    let entry = &ENTRIES[usize::from(byte(&mut data)) % ENTRIES.len()];
    let versions = entry.key.versions();
    let count = versions.end() - versions.start() + 1;
    let version = versions.start() + i16::from(byte(&mut data)) % count;
    (entry.check)(data, version);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (number, entry) in ENTRIES.iter().enumerate() {
        for (step, version) in entry.key.versions().enumerate() {
            for draw in 0..2 {
                let stream = (number * 100 + step * 3 + draw) as u64;
                let mut seed = vec![number as u8, step as u8];
                seed.extend((entry.sample)(&numbers(stream, 400), entry.key, version));
                seeds.push(seed);
            }
        }
    }
    seeds
}
