//! The Kafka protocol as bytes.
