//! Every bound of the engine, in one place: what a peer, a disk or a queue may cost at most.
//!
//! A queue, pool, table or retry without a line here is a defect.

/// The largest request frame that is read, in bytes (Kafka's `socket.request.max.bytes`).
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// Requests of one connection that may wait for their answers at once. The next one is not read
/// from the socket until an answer has left.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 256;

/// Messages that may wait in one core's inbox.
pub const INBOX_MESSAGES_MAX: usize = 4096;

/// Idle buffers that one size class of a core's pool keeps.
pub const POOL_BUFFERS_MAX: usize = 64;

/// Files of one core that are flushed at the same time.
pub const FLUSHES_AT_ONCE_MAX: usize = 64;

/// Topics of one cluster.
pub const TOPICS_MAX: usize = 100_000;

/// Partitions of one topic. Kafka creates at most as many in one request.
pub const PARTITIONS_PER_TOPIC_MAX: usize = 10_000;

/// Partitions of all topics of one cluster together.
pub const PARTITIONS_MAX: usize = 200_000;

/// The longest value of one setting, in bytes.
pub const CONFIG_VALUE_BYTES_MAX: usize = 4096;

/// The longest string of a message, in bytes (Kafka's own bound, in both encodings).
pub const STRING_BYTES_MAX: usize = 32_767;

/// Memory that the arrays of one decoded message may take together, in bytes: a small frame of
/// empty elements must not become gigabytes of structures.
pub const MESSAGE_MEMORY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Bytes that the records of one batch may decompress to: more than any request can hold, so that
/// whatever could be sent plain can be sent compressed.
pub const BATCH_DECOMPRESSED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Records of one refused batch that are named one by one in the answer.
pub const RECORD_ERRORS_MAX: usize = 100;
