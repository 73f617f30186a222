//! The one table of refusals: what a client is told, with etcd's codes and etcd's exact words,
//! because clients compare texts. Must not know how an answer travels (gRPC or JSON).

mod auth;
mod code;
mod maintenance;
mod members;
mod message;
mod recipes;

use crate::http::JsonError;
use crate::method::Method;
use quorate::{Doubt, Fate, ReadError, Refusal};
use quorate_kv::{OpError, RequestError};
use std::borrow::Cow;

pub(crate) use auth::AuthRejection;
pub use code::Code;
pub(crate) use maintenance::MaintenanceRejection;
pub(crate) use members::MembersRejection;
pub(crate) use message::MessageRejection;
pub(crate) use recipes::RecipeRejection;

/// Why a request is answered without success.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// The request itself is wrong.
    Request(RequestError),
    /// The state of the store refuses it.
    Op(OpError),
    /// A lease would live longer than any may.
    LeaseTtlTooLarge,
    /// More than `request_bytes_max` would enter the log.
    RequestTooLarge,
    /// A limit of this server or of the node is reached.
    TooManyRequests,
    /// No leader is known, and the client wants to hear of that at once.
    NoLeader,
    /// No leader was found in time to take a proposal: it did not happen.
    NotProposed,
    /// The leader changed; what was asked for did not happen.
    LeaderChanged,
    /// This server is stopping, or its node has failed.
    Stopped,
    /// The outcome is not known in time.
    TimedOut,
    /// The outcome is not known: the log was replaced under it.
    TimedOutLeaderFailed,
    /// The outcome is not known: the leader went away with it.
    TimedOutConnectionLost,
    /// A read waited too long for this member to catch up.
    TimedOutApplying,
    /// The message is beyond what is received at all.
    MessageTooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The client names a version of the API that is no text.
    ClientVersion,
    /// The client stopped in the middle of its message, or took too long over it.
    MessageIncomplete,
    /// The message is not the protobuf message that the method takes.
    MessageMalformed(prost::DecodeError),
    /// The JSON is not the message that the method takes.
    JsonMalformed(JsonError),
    /// The same of a method that takes many messages.
    JsonStreamMalformed(JsonError),
    /// The client says how long it waits in no way that gRPC has.
    TimeoutMalformed {
        /// What it says, or the beginning of that.
        value: Box<str>,
    },
    /// Nothing is served by this name.
    NotServed {
        /// Its full name, `service/method`, or what it is instead.
        method: Cow<'static, str>,
    },
    /// A range in pieces, in another order than the keys'.
    StreamSorted,
    /// A range in pieces, of keys of certain revisions only.
    StreamFiltered,
    /// A health check of something that this server is not.
    UnknownHealthService,
    /// A learner serves little more than its own state.
    Learner,
    /// A message in a form that is not taken.
    Message(MessageRejection),
    /// A change of the members that is not made.
    Members(MembersRejection),
    /// Somebody who is not known, or a password that cannot be one.
    Auth(AuthRejection),
    /// Something that an operator asks of one member, and that it does not do.
    Maintenance(MaintenanceRejection),
    /// A lock that is not held, or an election that is not won.
    Recipe(RecipeRejection),
    /// What this server holds is damaged. Another one has it whole, most likely.
    StateDamaged,
    /// A fault of ours; the details are in the log.
    Internal,
}

impl Rejection {
    /// The gRPC code and the text.
    pub(crate) fn status(&self) -> (Code, Cow<'static, str>) {
        let (code, text) = match self {
            Self::Request(error) => request_status(*error),
            Self::Op(error) => op_status(*error),
            Self::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
            Self::RequestTooLarge => (Code::InvalidArgument, "etcdserver: request is too large"),
            // etcd has the code ResourceExhausted for it, in an error of its client library, which
            // is none to its gRPC server: on the wire it is Unknown, in all of its versions.
            Self::TooManyRequests => (Code::Unknown, "etcdserver: too many requests"),
            Self::NoLeader => (Code::Unavailable, "etcdserver: no leader"),
            // Go's client asks for ever again what may only be unavailable for a moment.
            Self::NotProposed => (Code::Unknown, "context deadline exceeded"),
            Self::LeaderChanged => (Code::Unavailable, "etcdserver: leader changed"),
            Self::Stopped => (Code::Unavailable, "etcdserver: server stopped"),
            Self::TimedOut => (Code::Unavailable, "etcdserver: request timed out"),
            Self::TimedOutLeaderFailed => (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
            ),
            Self::TimedOutConnectionLost => (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to connection lost",
            ),
            Self::TimedOutApplying => (
                Code::Unavailable,
                "etcdserver: request timed out, waiting for the applied index took too long",
            ),
            Self::ClientVersion => {
                (Code::InvalidArgument, "etcdserver: invalid client api version")
            }
            Self::MessageIncomplete => (Code::Canceled, "etcdserver: request canceled"),
            Self::StreamSorted => {
                (Code::Unimplemented, "RangeStream does not support custom sort orders")
            }
            Self::StreamFiltered => {
                (Code::Unimplemented, "RangeStream does not support revision filters")
            }
            Self::UnknownHealthService => (Code::NotFound, "unknown service"),
            Self::Learner => {
                (Code::FailedPrecondition, "etcdserver: rpc not supported for learner")
            }
            Self::Message(rejection) => return rejection.status(),
            Self::Members(rejection) => return rejection.status(),
            Self::Auth(rejection) => rejection.status(),
            Self::Maintenance(rejection) => return rejection.status(),
            Self::Recipe(rejection) => return rejection.status(),
            Self::StateDamaged => (
                Code::DataLoss,
                "quorate: the state of this server is damaged; the server's log says more",
            ),
            Self::Internal => {
                (Code::Internal, "quorate: internal error; the server's log says more")
            }
            Self::MessageTooLarge { size, limit } => {
                let text = format!("grpc: received message larger than max ({size} vs. {limit})");
                return (Code::ResourceExhausted, text.into());
            }
            Self::MessageMalformed(error) => {
                let text = format!("grpc: error unmarshalling request: {error}");
                return (Code::Internal, text.into());
            }
            Self::JsonMalformed(error) => return (Code::InvalidArgument, error.to_string().into()),
            // As in etcd, whose gateway has read nothing yet that could be at fault.
            Self::JsonStreamMalformed(error) => return (Code::Unknown, error.to_string().into()),
            Self::TimeoutMalformed { value } => {
                return (Code::InvalidArgument, format!("invalid grpc-timeout: {value}").into());
            }
            Self::NotServed { method } => {
                let text = format!("quorate does not serve {method}");
                return (Code::Unimplemented, text.into());
            }
        };
        (code, Cow::Borrowed(text))
    }

    /// Whether the same request may fare better in a moment, by itself: a leader is found, a queue
    /// empties. Of what was asked of the log it may have happened all the same.
    pub(crate) const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::NoLeader
                | Self::NotProposed
                | Self::LeaderChanged
                | Self::TooManyRequests
                | Self::TimedOut
                | Self::TimedOutLeaderFailed
                | Self::TimedOutConnectionLost
                | Self::TimedOutApplying
        )
    }

    /// For a method that is in the table, and cannot be asked for in this way.
    pub(crate) const fn not_served(method: Method) -> Self {
        Self::NotServed { method: Cow::Borrowed(method.full_name()) }
    }
}

fn request_status(error: RequestError) -> (Code, &'static str) {
    let text = match error {
        RequestError::EmptyKey => "etcdserver: key is not provided",
        RequestError::EmptyOperation => "etcdserver: key not found",
        RequestError::ValueProvided => "etcdserver: value is provided",
        RequestError::LeaseProvided => "etcdserver: lease is provided",
        RequestError::TooManyOps => "etcdserver: too many operations in txn request",
        RequestError::DuplicateKey => "etcdserver: duplicate key given in txn request",
        RequestError::InvalidSortOption => "etcdserver: invalid sort option",
    };
    (Code::InvalidArgument, text)
}

fn op_status(error: OpError) -> (Code, &'static str) {
    match error {
        OpError::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
        OpError::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
        OpError::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
        OpError::Compacted => {
            (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted")
        }
        OpError::FutureRevision => {
            (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
        }
        OpError::NoSpace => (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
        OpError::Corrupt => (Code::DataLoss, "etcdserver: corrupt cluster"),
        OpError::UnknownAlarm => (Code::InvalidArgument, "quorate: unknown alarm"),
        OpError::TooManyAlarms => (Code::ResourceExhausted, "quorate: too many alarms"),
        OpError::UnknownCommand => (
            Code::Unimplemented,
            "quorate: a member of this cluster is too old to know this command",
        ),
        OpError::MalformedCommand => {
            (Code::Internal, "quorate: the command was damaged on its way to the log")
        }
        OpError::Auth(error) => auth::status(error),
    }
}

impl From<RequestError> for Rejection {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl From<OpError> for Rejection {
    fn from(error: OpError) -> Self {
        Self::Op(error)
    }
}

impl From<quorate_kv::ReadError> for Rejection {
    fn from(error: quorate_kv::ReadError) -> Self {
        match error {
            quorate_kv::ReadError::Refused(error) => Self::Op(error),
            quorate_kv::ReadError::Engine(error) => {
                tracing::error!(%error, "the store cannot be read");
                if error.is_damage() { Self::StateDamaged } else { Self::Internal }
            }
        }
    }
}

impl From<prost::DecodeError> for Rejection {
    fn from(error: prost::DecodeError) -> Self {
        Self::MessageMalformed(error)
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoLeader => Self::NotProposed,
            Refusal::Transferring { .. } => Self::LeaderChanged,
            Refusal::Overloaded { .. } => Self::TooManyRequests,
            Refusal::Stopped => Self::Stopped,
        }
    }
}

impl From<Doubt> for Rejection {
    fn from(doubt: Doubt) -> Self {
        match doubt {
            Doubt::Deadline => Self::TimedOut,
            Doubt::ConnectionLost { .. } => Self::TimedOutConnectionLost,
            Doubt::Superseded => Self::TimedOutLeaderFailed,
            Doubt::Stopped => Self::Stopped,
        }
    }
}

impl From<ReadError> for Rejection {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoLeader | ReadError::NotConfirmed => Self::TimedOut,
            ReadError::NotApplied { .. } | ReadError::Unanswered => Self::TimedOutApplying,
            ReadError::Overloaded { .. } => Self::TooManyRequests,
            ReadError::Stopped => Self::Stopped,
            ReadError::Query(_) => Self::Internal,
        }
    }
}

/// The state machine's reply, or what the client is told instead.
pub(crate) fn reply_of(fate: Fate) -> Result<bytes::Bytes, Rejection> {
    match fate {
        Fate::Applied { reply, .. } => Ok(reply),
        Fate::NotAppended(refusal) => Err(refusal.into()),
        Fate::Lost { .. } => Err(Rejection::LeaderChanged),
        // The server's own commands belong to no session.
        Fate::Refused(_) => Err(Rejection::Internal),
        Fate::Unknown(doubt) => Err(doubt.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate::core::{LogId, LogIndex, NodeId};

    #[track_caller]
    fn assert_says(rejection: impl Into<Rejection>, code: Code, text: &str) {
        let (found_code, found_text) = rejection.into().status();
        assert_eq!((found_code, found_text.as_ref()), (code, text));
    }

    #[test]
    fn wrong_requests_are_refused_in_etcds_words() {
        let code = Code::InvalidArgument;
        assert_says(RequestError::EmptyKey, code, "etcdserver: key is not provided");
        assert_says(RequestError::EmptyOperation, code, "etcdserver: key not found");
        assert_says(RequestError::ValueProvided, code, "etcdserver: value is provided");
        assert_says(RequestError::LeaseProvided, code, "etcdserver: lease is provided");
        let text = "etcdserver: too many operations in txn request";
        assert_says(RequestError::TooManyOps, code, text);
        let text = "etcdserver: duplicate key given in txn request";
        assert_says(RequestError::DuplicateKey, code, text);
        assert_says(RequestError::InvalidSortOption, code, "etcdserver: invalid sort option");
        assert_says(Rejection::RequestTooLarge, code, "etcdserver: request is too large");
    }

    #[test]
    fn the_stores_refusals_are_in_etcds_words() {
        assert_says(OpError::KeyNotFound, Code::InvalidArgument, "etcdserver: key not found");
        let text = "etcdserver: requested lease not found";
        assert_says(OpError::LeaseNotFound, Code::NotFound, text);
        let text = "etcdserver: lease already exists";
        assert_says(OpError::LeaseExists, Code::FailedPrecondition, text);
        let text = "etcdserver: too large lease TTL";
        assert_says(Rejection::LeaseTtlTooLarge, Code::OutOfRange, text);
        let text = "etcdserver: mvcc: required revision has been compacted";
        assert_says(OpError::Compacted, Code::OutOfRange, text);
        let text = "etcdserver: mvcc: required revision is a future revision";
        assert_says(OpError::FutureRevision, Code::OutOfRange, text);
        let text = "etcdserver: mvcc: database space exceeded";
        assert_says(OpError::NoSpace, Code::ResourceExhausted, text);
        assert_says(OpError::Corrupt, Code::DataLoss, "etcdserver: corrupt cluster");
    }

    #[test]
    fn damage_of_the_state_is_data_loss_and_any_other_failure_of_its_engine_is_not() {
        let read = |error: quorate_kv::EngineError| quorate_kv::ReadError::from(error);
        let (space, key) = (quorate_kv::Space::Rows, b"k".to_vec());
        let damage = quorate_kv::EngineError::Corrupt { space, key, what: "a flipped bit" };
        let text = "quorate: the state of this server is damaged; the server's log says more";
        assert_says(read(damage), Code::DataLoss, text);
        let source = "no such device".into();
        let failure = quorate_kv::EngineError::Failed { doing: "read a row", source };
        let text = "quorate: internal error; the server's log says more";
        assert_says(read(failure), Code::Internal, text);
    }

    #[test]
    fn every_fate_but_success_has_etcds_code_and_words() {
        let node = NodeId::new(1);
        let log_id = LogId::ORIGIN;
        let overloaded = Refusal::Overloaded { what: "requests", limit: 1, unit: "requests" };
        let cases = [
            (
                Fate::NotAppended(Refusal::Transferring { to: node }),
                Code::Unavailable,
                "leader changed",
            ),
            (Fate::NotAppended(overloaded), Code::Unknown, "too many requests"),
            (Fate::NotAppended(Refusal::Stopped), Code::Unavailable, "server stopped"),
            (Fate::Lost { log_id }, Code::Unavailable, "leader changed"),
            (Fate::Unknown(Doubt::Deadline), Code::Unavailable, "request timed out"),
            (
                Fate::Unknown(Doubt::ConnectionLost { leader: node }),
                Code::Unavailable,
                "request timed out, possibly due to connection lost",
            ),
            (
                Fate::Unknown(Doubt::Superseded),
                Code::Unavailable,
                "request timed out, possibly due to previous leader failure",
            ),
            (Fate::Unknown(Doubt::Stopped), Code::Unavailable, "server stopped"),
        ];
        for (fate, code, text) in cases {
            let rejection = reply_of(fate).unwrap_err();
            assert_says(rejection, code, &format!("etcdserver: {text}"));
        }
        let leaderless = reply_of(Fate::NotAppended(Refusal::NoLeader)).unwrap_err();
        assert!(leaderless.is_transient());
        assert_says(leaderless, Code::Unknown, "context deadline exceeded");
    }

    #[test]
    fn refused_reads_have_etcds_code_and_words() {
        let index = LogIndex::new(7);
        let cases = [
            (ReadError::NoLeader, Code::Unavailable, "request timed out"),
            (ReadError::NotConfirmed, Code::Unavailable, "request timed out"),
            (
                ReadError::NotApplied { index },
                Code::Unavailable,
                "request timed out, waiting for the applied index took too long",
            ),
            (ReadError::Overloaded { limit_count: 1 }, Code::Unknown, "too many requests"),
            (ReadError::Stopped, Code::Unavailable, "server stopped"),
        ];
        for (error, code, text) in cases {
            assert_says(error, code, &format!("etcdserver: {text}"));
        }
    }

    #[test]
    fn what_etcd_says_by_its_clients_errors_has_the_code_that_its_clients_see() {
        assert_says(Rejection::TooManyRequests, Code::Unknown, "etcdserver: too many requests");
        let text = "etcdserver: re-configuration failed due to not enough started members";
        assert_says(MembersRejection::NotEnoughStarted, Code::Unknown, text);
        assert_eq!(Code::Unknown.http_status(), http::StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn an_oversized_message_is_refused_in_grpc_gos_words() {
        assert_says(
            Rejection::MessageTooLarge { size: 3_000_008, limit: 2_097_152 },
            Code::ResourceExhausted,
            "grpc: received message larger than max (3000008 vs. 2097152)",
        );
    }
}
