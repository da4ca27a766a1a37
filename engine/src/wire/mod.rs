//! The Kafka protocol as bytes.

pub mod api;
pub mod batch;
pub mod code;
pub mod codec;
pub mod compress;
pub mod fetch;
pub mod frame;
pub mod leader;
pub mod produce;
mod snappy;
pub mod subscription;
