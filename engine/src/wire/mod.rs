//! The Kafka protocol as bytes.

pub mod batch;
