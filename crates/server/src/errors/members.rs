//! Why the members of the cluster are not changed, in etcd's words where etcd has any. Must not know
//! how a change goes.

use super::{Code, Rejection};
use std::borrow::Cow;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MembersRejection {
    /// No member has this id, or it was removed.
    NotFound,
    /// A peer URL belongs to a member.
    UrlExists,
    /// A peer URL is none.
    BadUrls,
    /// Too few of the voters would have started.
    NotEnoughStarted,
    /// Too few of the voters are connected.
    Unhealthy,
    /// It votes already.
    NotLearner,
    /// It does not have what the leader has.
    LearnerNotReady,
    /// One learner more than the limit.
    TooManyLearners,
    /// Another change goes on, and waits for something.
    UnderWay {
        /// For what, in words.
        waits: String,
    },
    /// What etcd does not know.
    Refused {
        /// In words.
        why: String,
    },
}

impl MembersRejection {
    pub(super) fn status(&self) -> (Code, Cow<'static, str>) {
        let (code, text) = match self {
            Self::NotFound => (Code::NotFound, "etcdserver: member not found"),
            Self::UrlExists => (Code::FailedPrecondition, "etcdserver: Peer URLs already exists"),
            Self::BadUrls => (Code::InvalidArgument, "etcdserver: given member URLs are invalid"),
            // As of `TooManyRequests`: an error of etcd's client library, hence no code on the wire.
            Self::NotEnoughStarted => (
                Code::Unknown,
                "etcdserver: re-configuration failed due to not enough started members",
            ),
            Self::Unhealthy => (Code::Unavailable, "etcdserver: unhealthy cluster"),
            Self::NotLearner => {
                (Code::FailedPrecondition, "etcdserver: can only promote a learner member")
            }
            Self::LearnerNotReady => (
                Code::FailedPrecondition,
                "etcdserver: can only promote a learner member which is in sync with leader",
            ),
            Self::TooManyLearners => {
                (Code::FailedPrecondition, "etcdserver: too many learner members in cluster")
            }
            Self::UnderWay { waits } => {
                let text = format!("quorate: another change of the members goes on{waits}");
                return (Code::FailedPrecondition, text.into());
            }
            Self::Refused { why } => {
                return (Code::FailedPrecondition, format!("quorate: {why}").into());
            }
        };
        (code, Cow::Borrowed(text))
    }
}

impl From<MembersRejection> for Rejection {
    fn from(rejection: MembersRejection) -> Self {
        Self::Members(rejection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_the_members_are_refused_in_etcds_words() {
        let table = [
            (MembersRejection::NotFound, 5, "etcdserver: member not found"),
            (MembersRejection::UrlExists, 9, "etcdserver: Peer URLs already exists"),
            (MembersRejection::BadUrls, 3, "etcdserver: given member URLs are invalid"),
            (MembersRejection::Unhealthy, 14, "etcdserver: unhealthy cluster"),
            (MembersRejection::NotLearner, 9, "etcdserver: can only promote a learner member"),
        ];
        for (rejection, code, text) in table {
            let (got, words) = Rejection::from(rejection).status();
            assert_eq!((got.number(), words.as_ref()), (code, text));
        }
    }
}
