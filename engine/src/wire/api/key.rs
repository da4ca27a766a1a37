//! The table of Kafka's APIs: numbers, names, which versions are flexible, which ones this crate
//! can encode and decode.
//!
//! What a broker advertises is its own affair: it must be no more than stands here.

use std::ops::RangeInclusive;

/// Declares the enumeration: number, name, first flexible version or `none` (KIP-482), and the
/// versions that there are messages for, if any.
macro_rules! keys {
    ($($code:literal $name:ident flexible $flexible:tt $(versions $min:literal - $max:literal)?,)*) => {
        /// A request type of the Kafka protocol, by the name in Kafka's message schemas.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        #[allow(missing_docs, reason = "the names are Kafka's")]
        pub enum ApiKey {
            $($name = $code,)*
        }

        impl ApiKey {
            /// Every key of the table, by rising number.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$name,)*];

            /// The key with this number, if the table has it.
            #[must_use]
            pub const fn from_code(code: i16) -> Option<ApiKey> {
                match code {
                    $($code => Some(ApiKey::$name),)*
                    _ => None,
                }
            }

            /// The name in Kafka's message schemas.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$name => stringify!($name),)*
                }
            }

            /// The first version whose messages are in the compact form, `i16::MAX` if none is.
            #[must_use]
            pub const fn flexible_from(self) -> i16 {
                match self {
                    $(ApiKey::$name => flexible_from!($flexible),)*
                }
            }

            /// The versions that this crate can encode and decode; an empty range for an API
            /// without messages here.
            #[must_use]
            pub const fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $(ApiKey::$name => versions!($($min $max)?),)*
                }
            }
        }
    };
}

macro_rules! flexible_from {
    (none) => {
        i16::MAX
    };
    ($from:literal) => {
        $from
    };
}

macro_rules! versions {
    () => {
        RangeInclusive::new(0, -1)
    };
    ($min:literal $max:literal) => {
        RangeInclusive::new($min, $max)
    };
}

keys! {
    0 Produce flexible 9 versions 3-13,
    1 Fetch flexible 12 versions 4-18,
    2 ListOffsets flexible 6 versions 1-11,
    3 Metadata flexible 9 versions 0-13,
    8 OffsetCommit flexible 8 versions 2-10,
    9 OffsetFetch flexible 6 versions 1-10,
    10 FindCoordinator flexible 3 versions 0-6,
    11 JoinGroup flexible 6 versions 0-9,
    12 Heartbeat flexible 4 versions 0-4,
    13 LeaveGroup flexible 4 versions 0-5,
    14 SyncGroup flexible 4 versions 0-5,
    15 DescribeGroups flexible 5 versions 0-6,
    16 ListGroups flexible 3 versions 0-5,
    17 SaslHandshake flexible none versions 0-1,
    18 ApiVersions flexible 3 versions 0-4,
    19 CreateTopics flexible 5 versions 2-7,
    20 DeleteTopics flexible 4 versions 1-6,
    21 DeleteRecords flexible 2 versions 0-2,
    22 InitProducerId flexible 2 versions 0-5,
    23 OffsetForLeaderEpoch flexible 4 versions 2-4,
    24 AddPartitionsToTxn flexible 3 versions 0-5,
    25 AddOffsetsToTxn flexible 3 versions 0-4,
    26 EndTxn flexible 3 versions 0-5,
    27 WriteTxnMarkers flexible 1,
    28 TxnOffsetCommit flexible 3 versions 0-5,
    29 DescribeAcls flexible 2,
    30 CreateAcls flexible 2,
    31 DeleteAcls flexible 2,
    32 DescribeConfigs flexible 4 versions 1-4,
    33 AlterConfigs flexible 2 versions 0-2,
    34 AlterReplicaLogDirs flexible 2,
    35 DescribeLogDirs flexible 2 versions 1-5,
    36 SaslAuthenticate flexible 2 versions 0-2,
    37 CreatePartitions flexible 2 versions 0-3,
    38 CreateDelegationToken flexible 2,
    39 RenewDelegationToken flexible 2,
    40 ExpireDelegationToken flexible 2,
    41 DescribeDelegationToken flexible 2,
    42 DeleteGroups flexible 2 versions 0-2,
    43 ElectLeaders flexible 2 versions 0-2,
    44 IncrementalAlterConfigs flexible 1 versions 0-1,
    45 AlterPartitionReassignments flexible 0,
    46 ListPartitionReassignments flexible 0 versions 0-0,
    47 OffsetDelete flexible none versions 0-0,
    48 DescribeClientQuotas flexible 1 versions 0-1,
    49 AlterClientQuotas flexible 1 versions 0-1,
    50 DescribeUserScramCredentials flexible 0 versions 0-0,
    51 AlterUserScramCredentials flexible 0,
    52 Vote flexible 0,
    53 BeginQuorumEpoch flexible 1,
    54 EndQuorumEpoch flexible 1,
    55 DescribeQuorum flexible 0,
    56 AlterPartition flexible 0,
    57 UpdateFeatures flexible 0,
    58 Envelope flexible 0,
    59 FetchSnapshot flexible 0,
    60 DescribeCluster flexible 0 versions 0-2,
    61 DescribeProducers flexible 0 versions 0-0,
    62 BrokerRegistration flexible 0,
    63 BrokerHeartbeat flexible 0,
    64 UnregisterBroker flexible 0,
    65 DescribeTransactions flexible 0 versions 0-0,
    66 ListTransactions flexible 0 versions 0-2,
    67 AllocateProducerIds flexible 0,
    68 ConsumerGroupHeartbeat flexible 0,
    69 ConsumerGroupDescribe flexible 0,
    70 ControllerRegistration flexible 0,
    71 GetTelemetrySubscriptions flexible 0,
    72 PushTelemetry flexible 0,
    73 AssignReplicasToDirs flexible 0,
    74 ListConfigResources flexible 0 versions 0-1,
    75 DescribeTopicPartitions flexible 0 versions 0-0,
    76 ShareGroupHeartbeat flexible 0,
    77 ShareGroupDescribe flexible 0,
    78 ShareFetch flexible 0,
    79 ShareAcknowledge flexible 0,
    80 AddRaftVoter flexible 0,
    81 RemoveRaftVoter flexible 0,
    82 UpdateRaftVoter flexible 0,
    83 InitializeShareGroupState flexible 0,
    84 ReadShareGroupState flexible 0,
    85 WriteShareGroupState flexible 0,
    86 DeleteShareGroupState flexible 0,
    87 ReadShareGroupStateSummary flexible 0,
    90 DescribeShareGroupOffsets flexible 0,
    91 AlterShareGroupOffsets flexible 0,
    92 DeleteShareGroupOffsets flexible 0,
}

impl ApiKey {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether a request of this version, known or not, is in the compact form and has the
    /// header that goes with it.
    #[must_use]
    pub const fn request_is_flexible(self, version: i16) -> bool {
        version >= self.flexible_from()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back() {
        for code in -1..=100 {
            if let Some(key) = ApiKey::from_code(code) {
                assert_eq!(key.code(), code);
                assert!(ApiKey::ALL.contains(&key));
            }
        }
        for pair in ApiKey::ALL.windows(2) {
            assert!(pair[0].code() < pair[1].code());
        }
        assert_eq!(ApiKey::from_code(18), Some(ApiKey::ApiVersions));
        assert_eq!(ApiKey::ApiVersions.name(), "ApiVersions");
        assert_eq!(ApiKey::from_code(4), None);
    }

    /// The oracle knows the same APIs, and the same first flexible versions (its request header
    /// has version 2 from there on).
    #[test]
    fn the_oracle_agrees() {
        use kafka_protocol::messages::ApiKey as Oracle;
        for key in ApiKey::ALL {
            let oracle = Oracle::try_from(key.code()).expect("the oracle knows the number");
            assert_eq!(format!("{oracle:?}").trim_end_matches("Key"), key.name());
            let valid = oracle.valid_versions();
            for version in valid.min..=valid.max {
                assert_eq!(
                    key.request_is_flexible(version),
                    oracle.request_header_version(version) >= 2,
                    "{key:?} {version}"
                );
            }
        }
    }
}
