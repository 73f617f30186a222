//! What is said to somebody who asks for a lock or an election: etcd's codes and words. etcd serves
//! these methods as a client of its own, whose errors are none to gRPC: what it says has no code.
//! Must not know what was asked.

use super::{Code, Rejection};
use std::borrow::Cow;

/// How texts begin that etcd's client library knows, and makes errors of its own of.
const KNOWN_TO_CLIENTS: &str = "etcdserver: ";

/// Why a lock is not held, or an election not won.
#[derive(Debug)]
pub(crate) enum RecipeRejection {
    /// The key of who waits for a lock is gone: its lease has ended, or somebody has deleted it.
    SessionExpired,
    /// The same with an election; or somebody speaks for a leader that is one no more.
    NotLeader,
    /// Nobody leads.
    NoLeader,
    /// It is not said who leads.
    LeaderMissing,
    /// The caller would not wait any longer.
    DeadlinePassed,
    /// A step of it was refused.
    Step(Box<Rejection>),
}

impl RecipeRejection {
    /// The gRPC code and the text.
    pub(super) fn status(&self) -> (Code, Cow<'static, str>) {
        let (code, text) = match self {
            Self::SessionExpired => (Code::Unknown, "mutex: session is expired"),
            Self::NotLeader => (Code::Unknown, "election: not leader"),
            Self::NoLeader => (Code::Unknown, "election: no leader"),
            Self::LeaderMissing => (Code::Unknown, "\"leader\" field must be provided"),
            Self::DeadlinePassed => (Code::DeadlineExceeded, "context deadline exceeded"),
            Self::Step(rejection) => return step_status(rejection),
        };
        (code, Cow::Borrowed(text))
    }
}

fn step_status(rejection: &Rejection) -> (Code, Cow<'static, str>) {
    let (code, text) = rejection.status();
    // Whoever hears that goes to another member: as in etcd, whose connections end then.
    let is_elsewhere = matches!(rejection, Rejection::Stopped | Rejection::NoLeader);
    let is_plain = text.starts_with(KNOWN_TO_CLIENTS) && !is_elsewhere;
    (if is_plain { Code::Unknown } else { code }, text)
}

impl From<RecipeRejection> for Rejection {
    fn from(rejection: RecipeRejection) -> Self {
        Self::Recipe(rejection)
    }
}

impl Rejection {
    /// The same, said about a step of a recipe.
    pub(crate) fn of_step(self) -> Self {
        if let Self::Recipe(_) = self { self } else { RecipeRejection::Step(Box::new(self)).into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::AuthRejection;
    use quorate_kv::{AuthError, OpError, RequestError};

    #[track_caller]
    fn assert_says(rejection: impl Into<Rejection>, code: Code, text: &str) {
        let (found_code, found_text) = rejection.into().of_step().status();
        assert_eq!((found_code, found_text.as_ref()), (code, text));
    }

    #[test]
    fn recipes_refuse_in_etcds_words_and_without_a_code() {
        let code = Code::Unknown;
        assert_says(RecipeRejection::SessionExpired, code, "mutex: session is expired");
        assert_says(RecipeRejection::NotLeader, code, "election: not leader");
        assert_says(RecipeRejection::NoLeader, code, "election: no leader");
        assert_says(RecipeRejection::LeaderMissing, code, "\"leader\" field must be provided");
        assert_says(AuthError::PermissionDenied, code, "etcdserver: permission denied");
        assert_says(AuthRejection::InvalidToken, code, "etcdserver: invalid auth token");
        assert_says(OpError::LeaseNotFound, code, "etcdserver: requested lease not found");
        assert_says(RequestError::EmptyKey, code, "etcdserver: key is not provided");
    }

    #[test]
    fn who_should_ask_another_member_is_told_so_and_a_fault_of_ours_stays_one() {
        assert_says(Rejection::Stopped, Code::Unavailable, "etcdserver: server stopped");
        assert_says(Rejection::NoLeader, Code::Unavailable, "etcdserver: no leader");
        let text = "quorate: internal error; the server's log says more";
        assert_says(Rejection::Internal, Code::Internal, text);
        let text = "context deadline exceeded";
        assert_says(RecipeRejection::DeadlinePassed, Code::DeadlineExceeded, text);
    }
}
