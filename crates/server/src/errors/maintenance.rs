//! Why a member does not do what its operator asks of it alone, in etcd's words. Must not know how it
//! would be done.

use super::{Code, Rejection};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl MaintenanceRejection {
    pub(super) const fn status(self) -> (Code, &'static str) {
        match self {
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
        }
    }
}

impl From<MaintenanceRejection> for Rejection {
    fn from(rejection: MaintenanceRejection) -> Self {
        Self::Maintenance(rejection)
    }
}
