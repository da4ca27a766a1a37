//! What a partition's log is told about itself: sizes, ages, and when an append counts as safe.
//!
//! Pure values. Parsing topic settings is the caller's work; the numbers here are already checked.

/// When an append may be acknowledged and read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After a flush: what a reader saw, a power cut cannot take back.
    #[default]
    Flushed,
    /// Once it is in the page cache: a power cut may lose it, a killed process does not.
    PageCache,
}

/// One log's settings. [`Config::default`] is Kafka's defaults with [`Durability::Flushed`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// A segment is closed before it would grow beyond this (`segment.bytes`). At most
    /// `i32::MAX`.
    pub segment_bytes: u32,
    /// A segment with data is closed this long after its first append (`segment.ms`).
    pub segment_ms: i64,
    /// Segments whose newest record is older than this are removed (`retention.ms`); -1 never.
    pub retention_ms: i64,
    /// Oldest segments are removed while what remains is at least this large
    /// (`retention.bytes`); -1 never.
    pub retention_bytes: i64,
    /// Bytes between two entries of a segment's index (`index.interval.bytes`).
    pub index_interval_bytes: u32,
    /// Whether records carry the broker's time instead of the producer's
    /// (`message.timestamp.type=LogAppendTime`).
    pub append_time: bool,
    /// When an append may be acknowledged.
    pub durability: Durability,
    /// With [`Durability::PageCache`]: flush after this many records (`flush.messages`).
    pub flush_messages: i64,
    /// With [`Durability::PageCache`]: flush this long after the first unflushed append
    /// (`flush.ms`).
    pub flush_ms: i64,
    /// `cleanup.policy` contains `compact`.
    pub compact: bool,
    /// How long a tombstone stays after everything older of its key is gone, so that readers meet
    /// it (`delete.retention.ms`).
    pub delete_retention_ms: i64,
    /// Records younger than this are not compacted (`min.compaction.lag.ms`).
    pub min_compaction_lag_ms: i64,
    /// A segment with records older than this that are not compacted is closed, and compacted
    /// whatever the ratio (`max.compaction.lag.ms`).
    pub max_compaction_lag_ms: i64,
    /// Compaction begins when more than this part of the bytes is not compacted
    /// (`min.cleanable.dirty.ratio`), 0 to 1.
    pub min_dirty_ratio: f64,
    /// What a compaction may take to remember keys (`log.cleaner.dedupe.buffer.size`).
    pub compaction_memory_bytes: u64,
    /// How often a log that has something to compact looks whether it is time, and how long it
    /// waits after a failure (`log.cleaner.backoff.ms`).
    pub compaction_backoff_ms: i64,
    /// `cleanup.policy` contains `delete`: retention by time and size applies.
    pub delete: bool,
    /// An idempotent producer that is silent for longer is forgotten
    /// (`producer.id.expiration.ms`).
    pub producer_expiry_ms: i64,
    /// A checkpoint is written after this many bytes: what recovery reads at most, about.
    pub checkpoint_bytes: u64,
    /// A log that appended fewer bytes since it was opened allocates nothing ahead.
    pub allocate_from_bytes: u64,
}

impl Config {
    /// The age at which a segment is closed: compaction does not touch what is appended to.
    pub(super) fn roll_ms(&self) -> i64 {
        let lag = if self.compact { self.max_compaction_lag_ms.max(1) } else { i64::MAX };
        self.segment_ms.min(lag)
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 60 * 60 * 1000,
            retention_ms: 7 * 24 * 60 * 60 * 1000,
            retention_bytes: -1,
            index_interval_bytes: 4096,
            append_time: false,
            durability: Durability::Flushed,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            compact: false,
            delete_retention_ms: 24 * 60 * 60 * 1000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_dirty_ratio: 0.5,
            compaction_memory_bytes: 128 << 20,
            compaction_backoff_ms: 15_000,
            delete: true,
            producer_expiry_ms: 24 * 60 * 60 * 1000,
            checkpoint_bytes: 16 << 20,
            allocate_from_bytes: 64 << 10,
        }
    }
}
