//! What is fuzzed: one file per kind of bytes.

mod batch;
mod compress;
mod config;
mod fetch;
mod frame;
mod message;
mod produce;
mod record;
mod segment;

/// One thing that reads bytes of any origin.
pub struct Target {
    pub name: &'static str,
    /// Panics when a promise is broken.
    pub run: fn(&[u8]),
    /// What real encoders write.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What one input may hold at once, in bytes.
    pub memory_bytes_max: usize,
}

/// Inputs have at most 64 KiB; what decompresses may be up to two limits of 128 MiB beside each
/// other and a Zstandard window.
const INFLATED: usize = 512 << 20;
const SMALL: usize = 16 << 20;

macro_rules! targets {
    ($($name:ident $memory:ident)*) => {
        &[$(Target {
            name: stringify!($name),
            run: $name::run,
            seeds: $name::seeds,
            memory_bytes_max: $memory,
        },)*]
    };
}

pub const ALL: &[Target] = targets! {
    frame SMALL
    message SMALL
    produce SMALL
    fetch SMALL
    batch INFLATED
    compress INFLATED
    config SMALL
    record SMALL
    segment INFLATED
};
