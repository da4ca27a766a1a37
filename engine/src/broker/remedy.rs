//! What helps whoever is refused: for each Kafka code that a request is refused with here, one
//! sentence for the log beside the reason.
//!
//! Where a handler knows better than the code does, it says so itself. Pure.

use crate::wire::code::ErrorCode;

/// What to do about a refusal with this code.
#[must_use]
pub fn of(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::OffsetOutOfRange => {
            "set the consumer's auto.offset.reset; if it is too slow for what is kept, raise \
             retention.ms or retention.bytes"
        }
        ErrorCode::CorruptMessage => {
            "clients send it again; if that does not help, look for what changes bytes on their way"
        }
        ErrorCode::UnknownTopicOrPartition => {
            "make the topic, give it the partition, or correct the client's name for it"
        }
        ErrorCode::UnknownTopicId => {
            "nothing: the topic was deleted, and the client asks for metadata again"
        }
        ErrorCode::NotLeaderOrFollower
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::UnknownLeaderEpoch
        | ErrorCode::LeaderNotAvailable => {
            "nothing: the partition comes or goes, and the client asks for metadata again"
        }
        ErrorCode::FetchSessionIdNotFound
        | ErrorCode::InvalidFetchSessionEpoch
        | ErrorCode::FetchSessionTopicIdError => "nothing: the client begins a new session",
        ErrorCode::RequestTimedOut => {
            "raise the client's request.timeout.ms, or see with `trialog doctor` whether the disk is slow"
        }
        ErrorCode::MessageTooLarge => {
            "raise the topic's max.message.bytes, or lower the producer's batch.size"
        }
        ErrorCode::RecordListTooLarge => {
            "raise the topic's segment.bytes, or lower the producer's batch.size"
        }
        ErrorCode::InvalidRecord => {
            "correct the records, or the client that puts them into batches: nothing of this batch is \
             stored"
        }
        ErrorCode::InvalidTimestamp => {
            "correct the producer's clock, or widen the topic's message.timestamp.before.max.ms and \
             message.timestamp.after.max.ms"
        }
        ErrorCode::UnsupportedCompressionType => {
            "use gzip, snappy, lz4, zstd (from Produce 7 on) or none"
        }
        ErrorCode::InvalidRequiredAcks => "set the producer's acks to 0, 1 or all",
        ErrorCode::NotEnoughReplicas => "lower the topic's min.insync.replicas",
        ErrorCode::OutOfOrderSequenceNumber => {
            "nothing, if the producer raises its epoch by itself; else restart it"
        }
        ErrorCode::InvalidProducerEpoch => {
            "stop the older of two producers that use one producer id"
        }
        ErrorCode::InvalidTxnState => "leave the producer's transactional.id unset",
        ErrorCode::KafkaStorageError => {
            "see what this log says of the partition and its disk; the client tries again"
        }
        ErrorCode::InvalidTopicException => {
            "use a name of 1 to 249 letters, digits, '.', '_' and '-', unlike those there are; what \
             begins with __ is the broker's own"
        }
        ErrorCode::TopicAlreadyExists => {
            "use the topic that there is, or another name; or delete it first"
        }
        ErrorCode::TopicDeletionDisabled => "start the broker with delete.topic.enable=true",
        ErrorCode::InvalidPartitions => {
            "give 1 partition or more, and more than the topic has; none can be taken away"
        }
        ErrorCode::InvalidReplicationFactor => "give 1, or -1 for the broker's default",
        ErrorCode::InvalidReplicaAssignment => {
            "name one broker that there is for each partition, from 0 on; or leave the assignment out"
        }
        ErrorCode::InvalidConfig => {
            "correct the setting; `trialog config explain KEY` says what it takes"
        }
        ErrorCode::ThrottlingQuotaExceeded => {
            "nothing: the client waits and asks again; raise its controller_mutation_rate if it must not"
        }
        ErrorCode::PolicyViolation => "delete what is not needed any more, or ask for less",
        ErrorCode::InvalidRequest => {
            "correct the client or the tool: it asked for what contradicts itself or the protocol"
        }
        ErrorCode::UnsupportedVersion => "use a newer client, or do not ask for this",
        ErrorCode::MismatchedEndpointType => "ask for brokers: controllers have no listener here",
        ErrorCode::ElectionNotNeeded => "nothing: every partition is led by its only replica",
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed => "give the principal the right to do this",
        ErrorCode::CoordinatorNotAvailable
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::NotCoordinator => {
            "nothing: the client tries again; if it lasts, this log says why groups are not there"
        }
        ErrorCode::MemberIdRequired
        | ErrorCode::RebalanceInProgress
        | ErrorCode::IllegalGeneration
        | ErrorCode::UnknownMemberId => "nothing: the member joins again",
        ErrorCode::FencedInstanceId => "give each member a group.instance.id of its own",
        ErrorCode::InconsistentGroupProtocol => {
            "give all members of the group one partition.assignment.strategy in common"
        }
        ErrorCode::InvalidSessionTimeout => {
            "set the member's session.timeout.ms between the broker's group.min.session.timeout.ms \
             and group.max.session.timeout.ms"
        }
        ErrorCode::InvalidGroupId => "set the consumer's group.id",
        ErrorCode::GroupMaxSizeReached => "raise group.max.size, or run fewer members",
        ErrorCode::NonEmptyGroup => "stop the group's members first",
        ErrorCode::GroupSubscribedToTopic => {
            "stop the members that read the topic, or have them subscribe to others"
        }
        ErrorCode::GroupIdNotFound => "correct the group's name; one that has expired is gone",
        ErrorCode::OffsetMetadataTooLarge => {
            "commit a shorter text, or raise offset.metadata.max.bytes"
        }
        ErrorCode::InvalidCommitOffsetSize => "commit fewer offsets at once",
        ErrorCode::InconsistentClusterId | ErrorCode::BrokerIdNotRegistered => {
            "restart the broker with the node.id that its data belong to"
        }
        // What is left of the codes is a failure of ours, or nothing here refuses with it.
        _ => "see what this log says just before; report it if it comes again",
    }
}

/// Whether clients meet it while all goes well, and get over it by themselves; or whether what is to
/// blame has a line in the log already, where it began. It is for those who look closely.
#[must_use]
pub fn is_expected(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::OffsetOutOfRange
            | ErrorCode::UnknownTopicId
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::FetchSessionIdNotFound
            | ErrorCode::InvalidFetchSessionEpoch
            | ErrorCode::FetchSessionTopicIdError
            | ErrorCode::KafkaStorageError
            | ErrorCode::ElectionNotNeeded
            | ErrorCode::ThrottlingQuotaExceeded
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::NotCoordinator
            | ErrorCode::MemberIdRequired
            | ErrorCode::RebalanceInProgress
            | ErrorCode::IllegalGeneration
            | ErrorCode::UnknownMemberId
            | ErrorCode::GroupIdNotFound
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_to_be_done_only_about_what_is_expected() {
        for code in ErrorCode::ALL {
            let passes = of(*code).starts_with("nothing: ");
            assert!(!passes || is_expected(*code), "{code:?}");
        }
    }
}
