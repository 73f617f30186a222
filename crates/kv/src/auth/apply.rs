//! The commands about users and roles, as etcd carries them out. Everything here is decided by the
//! command, its place in the log and the state; whether the caller may do it was asked before.

use super::api::{
    AuthReply, AuthRequest, AuthRequestKind, AuthenticateRequest, Permission,
    RoleGrantPermissionRequest, RoleRevokePermissionRequest, UserAddRequest,
    UserChangePasswordRequest, UserRoleRequest,
};
use super::feed::AuthNews;
use super::grants::Span;
use super::state::{AUTH_BYTES_MAX, AuthState, ROOT, Role, User};
use crate::error::{AuthError, OpError};
use crate::range::header;
use crate::view::View;
use bytes::Bytes;
use quorate::core::LogIndex;
use std::sync::Arc;

/// The longest beginning of a token, in bytes.
const TOKEN_PREFIX_BYTES_MAX: usize = 64;

/// Carries out a command; `at` is its place in the log.
///
/// # Errors
///
/// The [`AuthError`] that etcd would give; [`OpError::UnknownCommand`] or
/// [`OpError::MalformedCommand`] for what no server of this version proposes.
pub(crate) fn apply(
    view: &mut View,
    at: LogIndex,
    request: AuthRequest,
) -> Result<AuthReply, OpError> {
    let kind = request.kind.ok_or(OpError::UnknownCommand)?;
    let before = &view.auth;
    let mut after = AuthState::clone(before);
    let Done { token, news } = carry_out(&mut after, at, kind)?;
    let has_grown = after.size_bytes() > before.size_bytes();
    if has_grown && after.size_bytes() > AUTH_BYTES_MAX {
        return Err(AuthError::TooLarge.into());
    }
    view.auth_news.extend(news);
    let auth_revision = after.revision();
    let has_changed =
        auth_revision != before.revision() || after.is_enabled() != before.is_enabled();
    if has_changed {
        let after = Arc::new(after);
        view.active.keep_auth(Arc::clone(&after));
        view.auth = after;
    }
    Ok(AuthReply { header: Some(header(view.revision)), auth_revision, token })
}

/// What a command did beside what it changed.
#[derive(Default)]
struct Done {
    token: String,
    news: Option<AuthNews>,
}

impl From<()> for Done {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<AuthNews> for Done {
    fn from(news: AuthNews) -> Self {
        Self { token: String::new(), news: Some(news) }
    }
}

fn carry_out(state: &mut AuthState, at: LogIndex, kind: AuthRequestKind) -> Result<Done, OpError> {
    Ok(match kind {
        AuthRequestKind::Enable(_) => enable(state)?.into(),
        AuthRequestKind::Disable(_) => disable(state),
        AuthRequestKind::UserAdd(request) => add_user(state, request)?.into(),
        AuthRequestKind::UserDelete(request) => delete_user(state, request.name)?.into(),
        AuthRequestKind::UserChangePassword(request) => change_password(state, request)?.into(),
        AuthRequestKind::UserGrantRole(request) => grant_role(state, request)?.into(),
        AuthRequestKind::UserRevokeRole(request) => revoke_role(state, request)?.into(),
        AuthRequestKind::RoleAdd(request) => add_role(state, request.name)?.into(),
        AuthRequestKind::RoleDelete(request) => delete_role(state, &request.role)?.into(),
        AuthRequestKind::RoleGrantPermission(request) => grant_permission(state, request)?.into(),
        AuthRequestKind::RoleRevokePermission(request) => revoke_permission(state, request)?.into(),
        AuthRequestKind::Authenticate(request) => authenticate(state, at, request)?,
    })
}

/// Does not raise the revision, as in etcd: what a user was let in with before still holds.
fn enable(state: &mut AuthState) -> Result<(), AuthError> {
    if state.is_enabled() {
        return Ok(());
    }
    let root = state.user(ROOT).ok_or(AuthError::RootUserNotFound)?;
    if !root.has_role(ROOT) {
        return Err(AuthError::RootWithoutRole);
    }
    state.set_enabled(true);
    Ok(())
}

fn disable(state: &mut AuthState) -> Done {
    if !state.is_enabled() {
        return Done::default();
    }
    state.set_enabled(false);
    state.raise();
    AuthNews::AllDropped.into()
}

fn add_user(state: &mut AuthState, request: UserAddRequest) -> Result<(), AuthError> {
    let UserAddRequest { name, password_hash, no_password } = request;
    if name.is_empty() {
        return Err(AuthError::UserEmpty);
    }
    if state.user(&name).is_some() {
        return Err(AuthError::UserExists);
    }
    let password_hash = if no_password { Bytes::new() } else { owned(&password_hash) };
    state.put_user(name, User { password_hash, no_password, ..User::default() });
    state.raise();
    Ok(())
}

fn delete_user(state: &mut AuthState, name: String) -> Result<AuthNews, AuthError> {
    if state.is_enabled() && name == ROOT {
        return Err(AuthError::InvalidManagement);
    }
    existing_user(state, &name)?;
    state.remove_user(&name);
    state.raise();
    Ok(AuthNews::Dropped { user: name })
}

fn change_password(
    state: &mut AuthState,
    request: UserChangePasswordRequest,
) -> Result<AuthNews, AuthError> {
    let UserChangePasswordRequest { name, password_hash } = request;
    let mut user = existing_user(state, &name)?;
    if !user.no_password {
        user.password_hash = owned(&password_hash);
    }
    state.put_user(name.clone(), user);
    state.raise();
    Ok(AuthNews::Dropped { user: name })
}

fn grant_role(state: &mut AuthState, request: UserRoleRequest) -> Result<(), AuthError> {
    let UserRoleRequest { user: name, role } = request;
    let mut user = existing_user(state, &name)?;
    if !state.knows_role(&role) {
        return Err(AuthError::RoleNotFound);
    }
    if user.roles.insert(role) {
        state.put_user(name, user);
        state.raise();
    }
    Ok(())
}

fn revoke_role(state: &mut AuthState, request: UserRoleRequest) -> Result<(), AuthError> {
    let UserRoleRequest { user: name, role } = request;
    if state.is_enabled() && name == ROOT && role == ROOT {
        return Err(AuthError::InvalidManagement);
    }
    let mut user = existing_user(state, &name)?;
    if !user.roles.remove(&role) {
        return Err(AuthError::RoleNotGranted);
    }
    state.put_user(name, user);
    state.raise();
    Ok(())
}

fn add_role(state: &mut AuthState, name: String) -> Result<(), AuthError> {
    if name.is_empty() {
        return Err(AuthError::RoleEmpty);
    }
    if state.role(&name).is_some() {
        return Err(AuthError::RoleExists);
    }
    state.put_role(name, Role::default());
    state.raise();
    Ok(())
}

fn delete_role(state: &mut AuthState, name: &str) -> Result<(), AuthError> {
    if state.is_enabled() && name == ROOT {
        return Err(AuthError::InvalidManagement);
    }
    if state.role(name).is_none() {
        return Err(AuthError::RoleNotFound);
    }
    state.remove_role(name);
    let holders = state.users().filter(|(_, user)| user.has_role(name));
    let holders: Vec<_> = holders.map(|(name, user)| (name.to_owned(), user.clone())).collect();
    for (holder, mut user) in holders {
        user.roles.remove(name);
        state.put_user(holder, user);
    }
    state.raise();
    Ok(())
}

fn grant_permission(
    state: &mut AuthState,
    request: RoleGrantPermissionRequest,
) -> Result<(), AuthError> {
    let given = request.permission.ok_or(AuthError::PermissionNotGiven)?;
    if given.key.is_empty() || Span::new(&given.key, &given.range_end).is_none() {
        return Err(AuthError::InvalidManagement);
    }
    let mut permissions = existing_permissions(state, &request.name)?;
    let place = permissions.partition_point(|one| one.key < given.key);
    match permissions.get_mut(place) {
        // Only the first one with this key is looked at, as in etcd: `RoleGet` shows it.
        Some(first) if first.key == given.key && first.range_end == given.range_end => {
            first.perm_type = given.perm_type;
        }
        Some(_) | None => {
            let place = permissions.partition_point(|one| one.key <= given.key);
            let (key, range_end) = (owned(&given.key), owned(&given.range_end));
            permissions.insert(place, Permission { key, range_end, ..given });
        }
    }
    state.put_role(request.name, Role::new(permissions));
    state.raise();
    Ok(())
}

fn revoke_permission(
    state: &mut AuthState,
    request: RoleRevokePermissionRequest,
) -> Result<(), AuthError> {
    let RoleRevokePermissionRequest { role, key, range_end } = request;
    let mut permissions = existing_permissions(state, &role)?;
    let count = permissions.len();
    permissions.retain(|one| one.key != key || one.range_end != range_end);
    if permissions.len() == count {
        return Err(AuthError::PermissionNotGranted);
    }
    state.put_role(role, Role::new(permissions));
    state.raise();
    Ok(())
}

/// The password was compared before, with what was stored as of a revision: if that has passed, the
/// user may be another one.
fn authenticate(
    state: &AuthState,
    at: LogIndex,
    request: AuthenticateRequest,
) -> Result<Done, OpError> {
    let AuthenticateRequest { name, token_prefix, auth_revision } = request;
    let is_prefix = (1..=TOKEN_PREFIX_BYTES_MAX).contains(&token_prefix.len())
        && token_prefix.bytes().all(|byte| byte.is_ascii_alphabetic());
    if !is_prefix {
        return Err(OpError::MalformedCommand);
    }
    if !state.is_enabled() {
        return Err(AuthError::NotEnabled.into());
    }
    if auth_revision != state.revision() {
        return Err(AuthError::OldRevision.into());
    }
    if state.user(&name).is_none_or(User::has_no_password) {
        return Err(AuthError::Failed.into());
    }
    let token = format!("{token_prefix}.{}", at.get());
    let news = AuthNews::Assigned { user: name, token: token.clone() };
    Ok(Done { token, news: Some(news) })
}

fn existing_user(state: &AuthState, name: &str) -> Result<User, AuthError> {
    state.user(name).cloned().ok_or(AuthError::UserNotFound)
}

fn existing_permissions(state: &AuthState, role: &str) -> Result<Vec<Permission>, AuthError> {
    let role = state.role(role).ok_or(AuthError::RoleNotFound)?;
    Ok(role.permissions().to_vec())
}

/// What is kept shall not hold the whole log entry that it came with.
fn owned(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
