//! Commands about users and roles as they stand in the log, and who sends a command. Passwords are
//! no part of it: what gets here was hashed. Nothing here shows a hash or a token to a log.

use crate::api::ResponseHeader;
use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};
use std::fmt;

/// Who sent a command, as the server that proposes it found out. A command without one is nobody's.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CallerMessage {
    /// The user's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The revision of users and roles that the user was known at.
    #[prost(uint64, tag = "2")]
    pub auth_revision: u64,
    /// Whether it is no user but the cluster itself, which may do anything.
    #[prost(bool, tag = "3")]
    pub system: bool,
}

impl CallerMessage {
    /// The cluster itself. Only for what a server does on its own account, never on behalf of a
    /// client: there is no other way to say so, and few places do.
    #[must_use]
    pub const fn system() -> Self {
        Self { name: String::new(), auth_revision: 0, system: true }
    }

    /// A user, known as of a revision of users and roles.
    #[must_use]
    pub fn user(name: impl Into<String>, auth_revision: u64) -> Self {
        Self { name: name.into(), auth_revision, system: false }
    }
}

/// What a permission allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enumeration)]
#[repr(i32)]
pub enum PermissionType {
    /// To read.
    Read = 0,
    /// To write.
    Write = 1,
    /// Both.
    ReadWrite = 2,
}

/// That something may be done with some keys. The message is etcd's.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Permission {
    /// See [`PermissionType`]. Of a number that nobody knows it allows nothing.
    #[prost(enumeration = "PermissionType", tag = "1")]
    pub perm_type: i32,
    /// The first key.
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    /// As in [`crate::RangeRequest::range_end`].
    #[prost(bytes = "bytes", tag = "3")]
    pub range_end: Bytes,
}

/// A command about users and roles.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AuthRequest {
    /// What to do. Absent in a command of a version that we do not know.
    #[prost(oneof = "AuthRequestKind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub kind: Option<AuthRequestKind>,
}

impl AuthRequest {
    /// A command about users and roles.
    #[must_use]
    pub const fn new(kind: AuthRequestKind) -> Self {
        Self { kind: Some(kind) }
    }
}

/// What an [`AuthRequest`] does.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum AuthRequestKind {
    /// From now on ask everybody who they are.
    #[prost(message, tag = "1")]
    Enable(EnableRequest),
    /// From now on ask nobody.
    #[prost(message, tag = "2")]
    Disable(DisableRequest),
    /// Make a user.
    #[prost(message, tag = "3")]
    UserAdd(UserAddRequest),
    /// Remove a user.
    #[prost(message, tag = "4")]
    UserDelete(UserDeleteRequest),
    /// Replace the hash of a user's password.
    #[prost(message, tag = "5")]
    UserChangePassword(UserChangePasswordRequest),
    /// Give a role to a user.
    #[prost(message, tag = "6")]
    UserGrantRole(UserRoleRequest),
    /// Take a role from a user.
    #[prost(message, tag = "7")]
    UserRevokeRole(UserRoleRequest),
    /// Make a role, which permits nothing.
    #[prost(message, tag = "8")]
    RoleAdd(RoleAddRequest),
    /// Remove a role, from its users too.
    #[prost(message, tag = "9")]
    RoleDelete(RoleDeleteRequest),
    /// Let a role permit more.
    #[prost(message, tag = "10")]
    RoleGrantPermission(RoleGrantPermissionRequest),
    /// Let a role permit less.
    #[prost(message, tag = "11")]
    RoleRevokePermission(RoleRevokePermissionRequest),
    /// Make a token for a user whose password was right.
    #[prost(message, tag = "12")]
    Authenticate(AuthenticateRequest),
}

/// See [`AuthRequestKind::Enable`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct EnableRequest {}

/// See [`AuthRequestKind::Disable`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct DisableRequest {}

/// See [`AuthRequestKind::UserAdd`].
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub struct UserAddRequest {
    /// The user's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The hash of the password; no password has the empty one.
    #[prost(bytes = "bytes", tag = "2")]
    pub password_hash: Bytes,
    /// Whether the user has no password, and cannot ask for a token.
    #[prost(bool, tag = "3")]
    pub no_password: bool,
}

/// See [`AuthRequestKind::UserDelete`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UserDeleteRequest {
    /// The user's name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// See [`AuthRequestKind::UserChangePassword`].
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub struct UserChangePasswordRequest {
    /// The user's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The hash of the new password; no password has the empty one.
    #[prost(bytes = "bytes", tag = "2")]
    pub password_hash: Bytes,
}

/// See [`AuthRequestKind::UserGrantRole`] and [`AuthRequestKind::UserRevokeRole`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UserRoleRequest {
    /// The user's name.
    #[prost(string, tag = "1")]
    pub user: String,
    /// The role's name.
    #[prost(string, tag = "2")]
    pub role: String,
}

/// See [`AuthRequestKind::RoleAdd`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RoleAddRequest {
    /// The role's name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// See [`AuthRequestKind::RoleDelete`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RoleDeleteRequest {
    /// The role's name.
    #[prost(string, tag = "1")]
    pub role: String,
}

/// See [`AuthRequestKind::RoleGrantPermission`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RoleGrantPermissionRequest {
    /// The role's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it shall permit.
    #[prost(message, optional, tag = "2")]
    pub permission: Option<Permission>,
}

/// See [`AuthRequestKind::RoleRevokePermission`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RoleRevokePermissionRequest {
    /// The role's name.
    #[prost(string, tag = "1")]
    pub role: String,
    /// The first key of a permission.
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    /// And its end, as it was given.
    #[prost(bytes = "bytes", tag = "3")]
    pub range_end: Bytes,
}

/// See [`AuthRequestKind::Authenticate`].
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub struct AuthenticateRequest {
    /// The user's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What the token begins with: letters that nobody can guess.
    #[prost(string, tag = "2")]
    pub token_prefix: String,
    /// The revision of users and roles whose hash the password was compared with.
    #[prost(uint64, tag = "3")]
    pub auth_revision: u64,
}

/// What comes back for an [`AuthRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub struct AuthReply {
    /// See [`ResponseHeader`].
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// The revision of users and roles after it.
    #[prost(uint64, tag = "2")]
    pub auth_revision: u64,
    /// The token that was asked for; empty if none was.
    #[prost(string, tag = "3")]
    pub token: String,
}

impl fmt::Debug for UserAddRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("UserAddRequest");
        shown.field("name", &self.name).field("no_password", &self.no_password);
        shown.finish_non_exhaustive()
    }
}

impl fmt::Debug for UserChangePasswordRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("UserChangePasswordRequest");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthenticateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("AuthenticateRequest");
        shown.field("name", &self.name).field("auth_revision", &self.auth_revision);
        shown.finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("AuthReply");
        shown.field("header", &self.header).field("auth_revision", &self.auth_revision);
        shown.finish_non_exhaustive()
    }
}
