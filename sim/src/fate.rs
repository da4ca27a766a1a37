//! What became of a commit, as far as the answer tells.

use trialog_engine::client::{CallError, GroupError};
use trialog_engine::wire::code::ErrorCode;
use trialog_jepsen::history::Phase;

/// What a refused commit came to. Some codes are all that is known of a write that failed midway,
/// and one that is given for a partition says nothing of the others.
pub fn fate(code: ErrorCode) -> Phase {
    match code {
        ErrorCode::NotCoordinator
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::RequestTimedOut
        | ErrorCode::KafkaStorageError
        | ErrorCode::UnknownServerError
        | ErrorCode::UnknownTopicOrPartition => Phase::Info,
        _ => Phase::Fail,
    }
}

/// The same for a call that may not have been answered.
pub fn fate_of(error: &CallError) -> Phase {
    match error {
        CallError::Refused(code) => fate(*code),
        error if error.may_have_happened() => Phase::Info,
        _ => Phase::Fail,
    }
}

/// The same of a member's commit.
pub fn fate_of_commit(outcome: &Result<(), GroupError>) -> Phase {
    match outcome {
        Ok(()) => Phase::Ok,
        Err(GroupError::Refused(code)) => fate(*code),
        Err(GroupError::Call(error)) => fate_of(error),
        Err(GroupError::Consume(_) | GroupError::NotMember) => Phase::Fail,
    }
}
