//! What is said to somebody who may not do something, or who asks for users and roles that are not
//! so: etcd's codes and words. Must not know what was asked.

use super::{Code, Rejection};
use quorate_kv::AuthError;

/// Why somebody is not let in, or not made a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthRejection {
    /// A token that nobody has, or has any longer.
    InvalidToken,
    /// A password for a user that has none.
    NoPasswordUser,
    /// A password was right, and there is no key to sign a token with.
    VerifyOnly,
    /// A password of which bcrypt would only look at a part.
    PasswordTooLong,
}

impl AuthRejection {
    /// The gRPC code and the text. etcd hands the words of its parts on where it has none.
    pub(super) const fn status(self) -> (Code, &'static str) {
        match self {
            Self::InvalidToken => (Code::Unauthenticated, "etcdserver: invalid auth token"),
            Self::NoPasswordUser => (
                Code::Unknown,
                "auth: authentication failed, password was given for no password user",
            ),
            Self::VerifyOnly => {
                (Code::Unknown, "auth: token signing attempted with verify-only key")
            }
            Self::PasswordTooLong => (Code::Unknown, "bcrypt: password length exceeds 72 bytes"),
        }
    }
}

impl From<AuthRejection> for Rejection {
    fn from(rejection: AuthRejection) -> Self {
        Self::Auth(rejection)
    }
}

impl From<AuthError> for Rejection {
    fn from(error: AuthError) -> Self {
        Self::Op(error.into())
    }
}

/// The gRPC code and the text.
pub(super) const fn status(error: AuthError) -> (Code, &'static str) {
    match error {
        AuthError::UserEmpty => (Code::InvalidArgument, "etcdserver: user name is empty"),
        AuthError::OldRevision => {
            (Code::InvalidArgument, "etcdserver: revision of auth store is old")
        }
        AuthError::PermissionDenied => (Code::PermissionDenied, "etcdserver: permission denied"),
        AuthError::RootUserNotFound => {
            (Code::FailedPrecondition, "etcdserver: root user does not exist")
        }
        AuthError::RootWithoutRole => {
            (Code::FailedPrecondition, "etcdserver: root user does not have root role")
        }
        AuthError::UserExists => (Code::FailedPrecondition, "etcdserver: user name already exists"),
        AuthError::UserNotFound => (Code::FailedPrecondition, "etcdserver: user name not found"),
        AuthError::RoleEmpty => (Code::InvalidArgument, "etcdserver: role name is empty"),
        AuthError::RoleExists => (Code::FailedPrecondition, "etcdserver: role name already exists"),
        AuthError::RoleNotFound => (Code::FailedPrecondition, "etcdserver: role name not found"),
        AuthError::RoleNotGranted => {
            (Code::FailedPrecondition, "etcdserver: role is not granted to the user")
        }
        AuthError::PermissionNotGranted => {
            (Code::FailedPrecondition, "etcdserver: permission is not granted to the role")
        }
        AuthError::PermissionNotGiven => {
            (Code::InvalidArgument, "etcdserver: permission not given")
        }
        AuthError::InvalidManagement => {
            (Code::InvalidArgument, "etcdserver: invalid auth management")
        }
        AuthError::NotEnabled => {
            (Code::FailedPrecondition, "etcdserver: authentication is not enabled")
        }
        AuthError::Failed => (
            Code::InvalidArgument,
            "etcdserver: authentication failed, invalid user ID or password",
        ),
        AuthError::TooLarge => (Code::ResourceExhausted, "quorate: too many users and roles"),
    }
}
