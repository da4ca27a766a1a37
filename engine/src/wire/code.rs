//! Kafka's error codes, up to those of Kafka 4.3.
//!
//! The numbers, names and which of them a client retries are Kafka's; the words are ours.

use std::fmt;

/// Declares the enumeration: number, name, whether a client may retry, and what it means.
macro_rules! codes {
    ($($code:literal $name:ident $class:ident $message:literal,)*) => {
        /// An error code of the Kafka protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(
                #[doc = $message]
                $name = $code,
            )*
        }

        impl ErrorCode {
            /// Every code, by rising number.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The code with this number, if Kafka has one.
            #[must_use]
            pub const fn from_code(code: i16) -> Option<ErrorCode> {
                match code {
                    $($code => Some(ErrorCode::$name),)*
                    _ => None,
                }
            }

            /// What it means, in one sentence.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => $message,)*
                }
            }

            /// Whether the same request may succeed later, so that clients send it again.
            #[must_use]
            pub const fn retriable(self) -> bool {
                match self {
                    $(ErrorCode::$name => codes!(@$class),)*
                }
            }
        }
    };
    (@retriable) => {
        true
    };
    (@fatal) => {
        false
    };
}

codes! {
    -1 UnknownServerError fatal "The broker failed in a way that it did not expect.",
    0 None fatal "No error.",
    1 OffsetOutOfRange fatal "The offset lies outside of what the partition holds.",
    2 CorruptMessage retriable "The records are damaged: checksum, length or structure is wrong.",
    3 UnknownTopicOrPartition retriable "This broker has no such topic or partition.",
    4 InvalidFetchSize fatal "The number of bytes to fetch is not valid.",
    5 LeaderNotAvailable retriable "The partition has no leader just now.",
    6 NotLeaderOrFollower retriable "This broker is not the partition's leader, or not one of its replicas.",
    7 RequestTimedOut retriable "The request was not done in time.",
    8 BrokerNotAvailable fatal "The broker is not available.",
    9 ReplicaNotAvailable retriable "The replica is not available.",
    10 MessageTooLarge fatal "The records exceed the largest size that is accepted.",
    11 StaleControllerEpoch fatal "The controller has moved to another broker.",
    12 OffsetMetadataTooLarge fatal "The text committed with the offset is too long.",
    13 NetworkException retriable "The connection was closed before the answer came.",
    14 CoordinatorLoadInProgress retriable "The coordinator is still loading its state.",
    15 CoordinatorNotAvailable retriable "There is no coordinator just now.",
    16 NotCoordinator retriable "This broker is not the coordinator.",
    17 InvalidTopicException fatal "The topic's name is not valid, or the operation is not allowed on it.",
    18 RecordListTooLarge fatal "The batch of records is larger than a segment.",
    19 NotEnoughReplicas retriable "There are fewer in-sync replicas than required; nothing was written.",
    20 NotEnoughReplicasAfterAppend retriable "The records were written, but to fewer in-sync replicas than required.",
    21 InvalidRequiredAcks fatal "The number of acknowledgements must be -1, 0 or 1.",
    22 IllegalGeneration fatal "The group's generation is not the current one.",
    23 InconsistentGroupProtocol fatal "The member and the group have no protocol in common.",
    24 InvalidGroupId fatal "The group's id is not valid.",
    25 UnknownMemberId fatal "The group has no such member.",
    26 InvalidSessionTimeout fatal "The session timeout is outside of the allowed range.",
    27 RebalanceInProgress fatal "The group is rebalancing; the member has to join again.",
    28 InvalidCommitOffsetSize fatal "The committed offset's data has a size that is not valid.",
    29 TopicAuthorizationFailed fatal "Not allowed on this topic.",
    30 GroupAuthorizationFailed fatal "Not allowed on this group.",
    31 ClusterAuthorizationFailed fatal "Not allowed on this cluster.",
    32 InvalidTimestamp fatal "A record's timestamp is outside of the accepted range.",
    33 UnsupportedSaslMechanism fatal "The broker does not have this SASL mechanism.",
    34 IllegalSaslState fatal "The request does not fit the state of the authentication.",
    35 UnsupportedVersion fatal "The broker does not have this version of the API.",
    36 TopicAlreadyExists fatal "There is a topic of this name already.",
    37 InvalidPartitions fatal "The number of partitions is not valid.",
    38 InvalidReplicationFactor fatal "The replication factor is below 1 or above the number of brokers.",
    39 InvalidReplicaAssignment fatal "The assignment of replicas to brokers is not valid.",
    40 InvalidConfig fatal "A configuration is not valid.",
    41 NotController retriable "This broker is not the controller.",
    42 InvalidRequest fatal "The request contradicts itself or the protocol.",
    43 UnsupportedForMessageFormat fatal "The stored format of the records does not allow this.",
    44 PolicyViolation fatal "The request goes against a policy of the cluster.",
    45 OutOfOrderSequenceNumber fatal "The producer's sequence number leaves a gap.",
    46 DuplicateSequenceNumber fatal "The producer's sequence number has been seen before.",
    47 InvalidProducerEpoch fatal "The producer's epoch is not the current one.",
    48 InvalidTxnState fatal "The transaction's state does not allow this.",
    49 InvalidProducerIdMapping fatal "The producer id does not belong to the transactional id.",
    50 InvalidTransactionTimeout fatal "The transaction timeout is above the broker's maximum.",
    51 ConcurrentTransactions retriable "Another operation on this transaction is still under way.",
    52 TransactionCoordinatorFenced fatal "The coordinator that sent the marker has been replaced.",
    53 TransactionalIdAuthorizationFailed fatal "Not allowed with this transactional id.",
    54 SecurityDisabled fatal "Security is not switched on.",
    55 OperationNotAttempted fatal "The operation was not tried, because another one of the request failed.",
    56 KafkaStorageError retriable "The disk failed.",
    57 LogDirNotFound fatal "The broker has no such log directory.",
    58 SaslAuthenticationFailed fatal "Authentication failed.",
    59 UnknownProducerId fatal "Nothing is known about the producer id any more.",
    60 ReassignmentInProgress fatal "The partition's replicas are being moved.",
    61 DelegationTokenAuthDisabled fatal "Delegation tokens are not switched on.",
    62 DelegationTokenNotFound fatal "There is no such delegation token.",
    63 DelegationTokenOwnerMismatch fatal "The principal neither owns nor may renew the delegation token.",
    64 DelegationTokenRequestNotAllowed fatal "Delegation tokens cannot be handled over this connection.",
    65 DelegationTokenAuthorizationFailed fatal "Not allowed on this delegation token.",
    66 DelegationTokenExpired fatal "The delegation token has expired.",
    67 InvalidPrincipalType fatal "This type of principal is not supported.",
    68 NonEmptyGroup fatal "The group still has members.",
    69 GroupIdNotFound fatal "There is no such group.",
    70 FetchSessionIdNotFound retriable "There is no such fetch session.",
    71 InvalidFetchSessionEpoch retriable "The fetch session is at another epoch.",
    72 ListenerNotFound retriable "The leader has no listener of the name the client used.",
    73 TopicDeletionDisabled fatal "Topics cannot be deleted here.",
    74 FencedLeaderEpoch retriable "The client's leader epoch is older than the broker's.",
    75 UnknownLeaderEpoch retriable "The client's leader epoch is newer than the broker's.",
    76 UnsupportedCompressionType fatal "The client does not have the records' compression.",
    77 StaleBrokerEpoch fatal "The broker's epoch has changed.",
    78 OffsetNotAvailable retriable "The new leader does not know the high watermark yet.",
    79 MemberIdRequired fatal "The member has to join again with the id that it was given.",
    80 PreferredLeaderNotAvailable retriable "The preferred leader is not available.",
    81 GroupMaxSizeReached fatal "The group has as many members as it may have.",
    82 FencedInstanceId fatal "Another member has taken over this group instance id.",
    83 EligibleLeadersNotAvailable retriable "No replica that may lead is available.",
    84 ElectionNotNeeded retriable "The partition needs no election.",
    85 NoReassignmentInProgress fatal "No replicas of the partition are being moved.",
    86 GroupSubscribedToTopic fatal "The group is subscribed to the topic, so its offsets stay.",
    87 InvalidRecord fatal "A record breaks a rule of the topic.",
    88 UnstableOffsetCommit retriable "An open transaction has yet to decide on the offset.",
    89 ThrottlingQuotaExceeded retriable "The quota has been used up.",
    90 ProducerFenced fatal "A newer producer has taken over the transactional id.",
    91 ResourceNotFound fatal "There is no such resource.",
    92 DuplicateResource fatal "The same resource is named twice.",
    93 UnacceptableCredential fatal "The credential does not meet the rules.",
    94 InconsistentVoterSet fatal "Sender or receiver is not one of the expected voters.",
    95 InvalidUpdateVersion fatal "The version to update to is not valid.",
    96 FeatureUpdateFailed fatal "The finalized features could not be updated.",
    97 PrincipalDeserializationFailure fatal "The forwarded request's principal is not readable.",
    98 SnapshotNotFound fatal "There is no such snapshot.",
    99 PositionOutOfRange fatal "The position lies outside of the snapshot.",
    100 UnknownTopicId retriable "This broker has no topic with this id.",
    101 DuplicateBrokerRegistration fatal "The broker id is in use already.",
    102 BrokerIdNotRegistered fatal "The broker id is not registered.",
    103 InconsistentTopicId retriable "The topic's id is another one than the request says.",
    104 InconsistentClusterId fatal "The cluster's id is another one than the request says.",
    105 TransactionalIdNotFound fatal "There is no such transactional id.",
    106 FetchSessionTopicIdError retriable "The fetch session mixes topic names and topic ids.",
    107 IneligibleReplica fatal "A replica may not be in the new set of in-sync replicas.",
    108 NewLeaderElected fatal "The partition was changed, and its leader with it.",
    109 OffsetMovedToTieredStorage fatal "The offset has moved to tiered storage.",
    110 FencedMemberEpoch fatal "The member's epoch is not valid any more; it has to give up everything and join again.",
    111 UnreleasedInstanceId fatal "Another member of the group still uses this instance id.",
    112 UnsupportedAssignor fatal "The group does not have this assignor.",
    113 StaleMemberEpoch fatal "The member's epoch is old; its next heartbeat brings the new one.",
    114 MismatchedEndpointType fatal "The request was sent to the wrong kind of endpoint.",
    115 UnsupportedEndpointType fatal "This kind of endpoint is not supported.",
    116 UnknownControllerId fatal "There is no such controller.",
    117 UnknownSubscriptionId fatal "The telemetry subscription is not the current one.",
    118 TelemetryTooLarge fatal "The telemetry exceeds the largest size that is accepted.",
    119 InvalidRegistration fatal "The controller did not accept the broker's registration.",
    120 TransactionAbortable fatal "The transaction failed; after aborting it the producer can go on.",
    121 InvalidRecordState fatal "The record's delivery state does not allow this acknowledgement.",
    122 ShareSessionNotFound retriable "There is no such share session.",
    123 InvalidShareSessionEpoch retriable "The share session is at another epoch.",
    124 FencedStateEpoch fatal "The share group's state is at another epoch.",
    125 InvalidVoterKey fatal "The voter key is not the receiving replica's.",
    126 DuplicateVoter fatal "The voter is one of the voters already.",
    127 VoterNotFound fatal "The voter is not one of the voters.",
    128 InvalidRegularExpression fatal "The regular expression is not valid.",
    129 RebootstrapRequired fatal "The client's metadata is too old; it has to start from its bootstrap servers.",
    130 StreamsInvalidTopology fatal "The streams topology is not valid.",
    131 StreamsInvalidTopologyEpoch fatal "The streams topology's epoch is not valid.",
    132 StreamsTopologyFenced fatal "The streams topology's epoch is old.",
    133 ShareSessionLimitReached retriable "There are as many share sessions as there may be.",
}

impl ErrorCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({}): {}", self.code(), self.message())
    }
}

impl std::error::Error for ErrorCode {}

#[cfg(test)]
mod tests {
    use kafka_protocol::ResponseError;

    use super::*;

    #[test]
    fn numbers_are_dense_and_lead_back() {
        let numbers: Vec<i16> = ErrorCode::ALL.iter().map(|code| code.code()).collect();
        assert_eq!(numbers, (-1..=133).collect::<Vec<i16>>());
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(code.code()), Some(*code));
        }
        assert_eq!(ErrorCode::from_code(134), None);
        assert_eq!(ErrorCode::from_code(-2), None);
    }

    #[test]
    fn the_oracle_agrees() {
        for code in ErrorCode::ALL.iter().filter(|code| **code != ErrorCode::None) {
            let oracle = ResponseError::try_from_code(code.code()).expect("an error");
            assert_eq!(format!("{oracle:?}"), format!("{code:?}"));
            // Kafka's own clients retry this one; the oracle says otherwise.
            if *code != ErrorCode::ConcurrentTransactions {
                assert_eq!(oracle.is_retriable(), code.retriable(), "{code:?}");
            }
        }
    }
}
