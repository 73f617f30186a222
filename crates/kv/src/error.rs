//! What can go wrong, one enum per boundary: a request refused at the gate, a command refused by
//! the state it meets, and an engine that fails. Knows nothing of gRPC codes.

use crate::engine::EngineError;
use prost::Message;

/// A request that is refused before anything is proposed: the same request is refused always.
/// The texts are etcd's, without its `etcdserver: ` prefix: clients compare them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A request names no key.
    #[error("key is not provided")]
    EmptyKey,
    /// A transaction holds an empty operation. etcd says it with these words.
    #[error("key not found")]
    EmptyOperation,
    /// A put gives a value and asks to keep the old one.
    #[error("value is provided")]
    ValueProvided,
    /// A put gives a lease and asks to keep the old one.
    #[error("lease is provided")]
    LeaseProvided,
    /// A transaction has too many compares or operations.
    #[error("too many operations in txn request")]
    TooManyOps,
    /// A transaction writes the same key twice.
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// A range asks for an order or target that does not exist.
    #[error("invalid sort option")]
    InvalidSortOption,
}

/// A request that the state of the store refuses. Deterministic: part of a command's reply.
/// The texts are etcd's, without its `etcdserver: ` prefix: clients compare them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// A put wants to keep the value or lease of a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// A put names a lease that does not exist, or one that does not exist is to be revoked.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// A lease is to be granted whose id is taken.
    #[error("lease already exists")]
    LeaseExists,
    /// The revision was compacted away.
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    /// The revision lies in the future.
    #[error("mvcc: required revision is a future revision")]
    FutureRevision,
    /// A member has reached its quota.
    #[error("mvcc: database space exceeded")]
    NoSpace,
    /// A member's store differs from the others'.
    #[error("corrupt cluster")]
    Corrupt,
    /// An alarm, or what to do with it, is none that this version knows.
    #[error("unknown alarm")]
    UnknownAlarm,
    /// As many alarms are raised as can be.
    #[error("too many alarms")]
    TooManyAlarms,
    /// The command holds nothing that this version knows.
    #[error("unknown command")]
    UnknownCommand,
    /// The command's bytes cannot be decoded.
    #[error("malformed command")]
    MalformedCommand,
    /// Somebody may not do it, or it is about users and roles that are not so.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

/// What users and roles have against a request. The texts are etcd's, without its `etcdserver: `
/// prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Nobody said who they are, or a user is to be made that has no name.
    #[error("user name is empty")]
    UserEmpty,
    /// Users and roles have changed since the caller was known.
    #[error("revision of auth store is old")]
    OldRevision,
    /// The caller may not do that.
    #[error("permission denied")]
    PermissionDenied,
    /// Nobody could do everything if everybody were asked.
    #[error("root user does not exist")]
    RootUserNotFound,
    /// The same, though there is a user of that name.
    #[error("root user does not have root role")]
    RootWithoutRole,
    /// The user's name is taken.
    #[error("user name already exists")]
    UserExists,
    /// There is no such user.
    #[error("user name not found")]
    UserNotFound,
    /// A role has no name.
    #[error("role name is empty")]
    RoleEmpty,
    /// The role's name is taken.
    #[error("role name already exists")]
    RoleExists,
    /// There is no such role.
    #[error("role name not found")]
    RoleNotFound,
    /// The user does not have the role.
    #[error("role is not granted to the user")]
    RoleNotGranted,
    /// The role has no such permission.
    #[error("permission is not granted to the role")]
    PermissionNotGranted,
    /// It is not said what to permit.
    #[error("permission not given")]
    PermissionNotGiven,
    /// Root would lose its rights, or a permission would hold no key.
    #[error("invalid auth management")]
    InvalidManagement,
    /// Nobody is asked who they are.
    #[error("authentication is not enabled")]
    NotEnabled,
    /// There is no such user, or that is not its password.
    #[error("authentication failed, invalid user ID or password")]
    Failed,
    /// All of it together exceeds [`crate::auth::AUTH_BYTES_MAX`].
    #[error("too many users and roles")]
    TooLarge,
}

impl AuthError {
    const ALL: [Self; 17] = [
        Self::UserEmpty,
        Self::OldRevision,
        Self::PermissionDenied,
        Self::RootUserNotFound,
        Self::RootWithoutRole,
        Self::UserExists,
        Self::UserNotFound,
        Self::RoleEmpty,
        Self::RoleExists,
        Self::RoleNotFound,
        Self::RoleNotGranted,
        Self::PermissionNotGranted,
        Self::PermissionNotGiven,
        Self::InvalidManagement,
        Self::NotEnabled,
        Self::Failed,
        Self::TooLarge,
    ];

    const fn code(self) -> u32 {
        match self {
            Self::UserEmpty => 40,
            Self::OldRevision => 41,
            Self::PermissionDenied => 42,
            Self::RootUserNotFound => 43,
            Self::RootWithoutRole => 44,
            Self::UserExists => 45,
            Self::UserNotFound => 46,
            Self::RoleEmpty => 47,
            Self::RoleExists => 48,
            Self::RoleNotFound => 49,
            Self::RoleNotGranted => 50,
            Self::PermissionNotGranted => 51,
            Self::PermissionNotGiven => 52,
            Self::InvalidManagement => 53,
            Self::NotEnabled => 54,
            Self::Failed => 55,
            Self::TooLarge => 56,
        }
    }
}

impl OpError {
    const fn code(self) -> u32 {
        match self {
            Self::KeyNotFound => 1,
            Self::LeaseNotFound => 2,
            Self::Compacted => 3,
            Self::FutureRevision => 4,
            Self::UnknownCommand => 5,
            Self::MalformedCommand => 6,
            Self::LeaseExists => 7,
            Self::NoSpace => 20,
            Self::Corrupt => 21,
            Self::UnknownAlarm => 22,
            Self::TooManyAlarms => 23,
            Self::Auth(error) => error.code(),
        }
    }
}

/// An [`OpError`] in a reply.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct WireError {
    /// Which error; the numbers are never reused.
    #[prost(uint32, tag = "1")]
    pub code: u32,
}

impl From<OpError> for WireError {
    fn from(error: OpError) -> Self {
        Self { code: error.code() }
    }
}

impl WireError {
    /// The error; [`OpError::UnknownCommand`] for a code of a later version.
    #[must_use]
    pub fn into_error(self) -> OpError {
        const ALL: [OpError; 10] = [
            OpError::KeyNotFound,
            OpError::LeaseNotFound,
            OpError::LeaseExists,
            OpError::Compacted,
            OpError::FutureRevision,
            OpError::MalformedCommand,
            OpError::NoSpace,
            OpError::Corrupt,
            OpError::UnknownAlarm,
            OpError::TooManyAlarms,
        ];
        let of_auth = AuthError::ALL.into_iter().map(OpError::Auth);
        let known = ALL.into_iter().chain(of_auth).find(|error| error.code() == self.code);
        known.unwrap_or(OpError::UnknownCommand)
    }
}

/// Why a read was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store's state refuses it.
    #[error(transparent)]
    Refused(#[from] OpError),
    /// The storage engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<AuthError> for ReadError {
    fn from(error: AuthError) -> Self {
        Self::Refused(error.into())
    }
}

impl ReadError {
    /// The refusal, if it is one.
    #[must_use]
    pub const fn refused(&self) -> Option<OpError> {
        match self {
            Self::Refused(error) => Some(*error),
            Self::Engine(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_refusal_about_users_arrives_as_it_was_sent() {
        let sent = AuthError::ALL.map(OpError::Auth);
        assert_eq!(sent.map(|error| WireError::from(error).into_error()), sent);
        let codes: BTreeSet<u32> = sent.into_iter().map(OpError::code).collect();
        assert_eq!(codes.len(), sent.len());
    }
}
