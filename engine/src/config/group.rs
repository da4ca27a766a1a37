//! The settings of consumer groups and of the topic that remembers them, parsed.

use super::broker::narrow;

/// What a broker is told about consumer groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups {
    /// `offsets.topic.num.partitions`
    pub topic_partitions: i32,
    /// `offsets.topic.replication.factor`
    pub topic_replication_factor: i16,
    /// `offsets.topic.segment.bytes`
    pub topic_segment_bytes: i32,
    /// `offsets.retention.minutes`, in ms
    pub retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub expiry_interval_ms: u64,
    /// `offset.metadata.max.bytes`
    pub metadata_bytes_max: usize,
    /// `group.min.session.timeout.ms`
    pub session_ms_min: i32,
    /// `group.max.session.timeout.ms`
    pub session_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`
    pub initial_delay_ms: u64,
    /// `group.max.size`
    pub members_max: usize,
}

impl Groups {
    /// From the values of the broker's keys, which have been checked.
    pub(super) fn parse(number: impl Fn(&str) -> i64) -> Groups {
        Groups {
            topic_partitions: narrow(number("offsets.topic.num.partitions")),
            topic_replication_factor: narrow(number("offsets.topic.replication.factor")),
            topic_segment_bytes: narrow(number("offsets.topic.segment.bytes")),
            retention_ms: number("offsets.retention.minutes") * 60_000,
            expiry_interval_ms: narrow(number("offsets.retention.check.interval.ms")),
            metadata_bytes_max: narrow(number("offset.metadata.max.bytes")),
            session_ms_min: narrow(number("group.min.session.timeout.ms")),
            session_ms_max: narrow(number("group.max.session.timeout.ms")),
            initial_delay_ms: narrow(number("group.initial.rebalance.delay.ms")),
            members_max: narrow(number("group.max.size")),
        }
    }
}
