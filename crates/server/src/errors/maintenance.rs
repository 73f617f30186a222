//! Why a member does not do what its operator asks of it alone, in etcd's words. Must not know how it
//! would be done.

use super::{Code, Rejection};
use quorate_kv::Refusal;
use std::borrow::Cow;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MaintenanceRejection {
    /// Only the leader can hand over.
    NotLeader,
    /// It cannot lead: it is no member, or only learns.
    BadTransferee,
    /// It did not come to lead in time.
    TransferTimedOut,
    /// A version is none.
    DowngradeFormat,
    /// The cluster cannot go to that version.
    DowngradeTarget,
    /// No downgrade goes on.
    NoDowngrade,
    /// The request's action is none.
    UnknownAction,
    /// The state's file stays as large as it is.
    NotRenewed(Refusal),
}

impl MaintenanceRejection {
    pub(super) fn status(&self) -> (Code, Cow<'static, str>) {
        let (code, text) = match self {
            Self::NotLeader => (Code::FailedPrecondition, "etcdserver: not leader"),
            Self::BadTransferee => (Code::FailedPrecondition, "etcdserver: bad leader transferee"),
            Self::TransferTimedOut => {
                (Code::Unavailable, "etcdserver: request timed out, leader transfer took too long")
            }
            Self::DowngradeFormat => {
                (Code::InvalidArgument, "etcdserver: wrong downgrade target version format")
            }
            Self::DowngradeTarget => {
                (Code::InvalidArgument, "etcdserver: invalid downgrade target version")
            }
            Self::NoDowngrade => {
                (Code::FailedPrecondition, "etcdserver: no inflight downgrade job")
            }
            Self::UnknownAction => (Code::Unknown, "etcdserver: unknown method"),
            Self::NotRenewed(why) => return (Code::ResourceExhausted, why.to_string().into()),
        };
        (code, text.into())
    }
}

impl From<MaintenanceRejection> for Rejection {
    fn from(rejection: MaintenanceRejection) -> Self {
        Self::Maintenance(rejection)
    }
}
