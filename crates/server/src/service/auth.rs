//! The methods about users and roles. Passwords are hashed here, and go no further. Must not know who
//! may do what: the store says so, where a command is applied.

use super::Service;
use super::gate::sender;
use crate::auth::{IssueError, Jwt, fresh_prefix};
use crate::errors::{AuthRejection, Rejection};
use crate::grpc::frame;
use bytes::Bytes;
use prost::Message;
use quorate_etcd_api::{authpb, etcdserverpb as pb};
use quorate_kv::auth::AuthState;
use quorate_kv::auth::api::{self, AuthReply, AuthRequest, AuthRequestKind};
use quorate_kv::{Access, AuthError, Command, CommandKind, OpError, Outcome};
use std::sync::Arc;
use tokio::time::Instant;

/// How often a password is compared again because users or roles have changed meanwhile.
const AUTHENTICATE_TRIES_MAX: usize = 3;

/// A request that somebody sent.
pub(super) struct Asked<'a> {
    pub(super) message: Bytes,
    pub(super) deadline: Instant,
    pub(super) access: &'a Access,
}

impl Service {
    /// Users and roles that are as new as any acknowledged change.
    async fn newest_auth(&self, deadline: Instant) -> Result<Arc<AuthState>, Rejection> {
        self.confirm_as_proposal(deadline).await?;
        Ok(self.reader.auth())
    }

    pub(super) async fn authenticate(
        &self,
        message: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Rejection> {
        // Rare, and large: other requests shall not pay for the room.
        Box::pin(self.log_in(message, deadline)).await
    }

    async fn log_in(&self, message: Bytes, deadline: Instant) -> Result<Bytes, Rejection> {
        let pb::AuthenticateRequest { name, password } = pb::AuthenticateRequest::decode(message)?;
        for _ in 0..AUTHENTICATE_TRIES_MAX {
            self.confirm(deadline).await?;
            let auth = self.reader.auth();
            if !auth.is_enabled() {
                return Err(AuthError::NotEnabled.into());
            }
            let user = auth.user(&name);
            if user.is_some_and(quorate_kv::auth::User::has_no_password) {
                return Err(AuthRejection::NoPasswordUser.into());
            }
            let hash = user.map(quorate_kv::auth::User::password_hash);
            if !self.passwords.compare(password.clone(), hash, deadline).await? {
                tracing::info!(user = name, "invalid password");
                return Err(AuthError::Failed.into());
            }
            if let Some(jwt) = self.tokens.jwt() {
                if self.reader.auth().revision() != auth.revision() {
                    continue;
                }
                let header = Some(self.header(self.reader.revision().to_wire()));
                let token = sign(jwt, &name, auth.revision())?;
                return Ok(frame::encode(&pb::AuthenticateResponse { header, token }));
            }
            let token_prefix = fresh_prefix().map_err(|error| {
                tracing::error!(%error, "no randomness for a token");
                Rejection::Internal
            })?;
            let (name, auth_revision) = (name.clone(), auth.revision());
            let request = api::AuthenticateRequest { name, token_prefix, auth_revision };
            let kind = AuthRequestKind::Authenticate(request);
            match self.propose_auth(kind, &Access::Nobody, deadline).await {
                Err(Rejection::Op(OpError::Auth(AuthError::OldRevision))) => {}
                Err(rejection) => return Err(rejection),
                Ok(AuthReply { mut header, token, .. }) => {
                    self.origin().complete(&mut header);
                    let header = header.map(wire_header);
                    return Ok(frame::encode(&pb::AuthenticateResponse { header, token }));
                }
            }
        }
        Err(AuthError::OldRevision.into())
    }

    /// Changes users or roles as `kind` says.
    pub(super) async fn change<M: Message + Default>(
        &self,
        kind: fn(M) -> AuthRequestKind,
        Asked { message, deadline, access }: Asked<'_>,
    ) -> Result<Bytes, Rejection> {
        let kind = kind(M::decode(message)?);
        self.change_to(kind, access, deadline).await
    }

    pub(super) async fn user_add(
        &self,
        Asked { message, deadline, access }: Asked<'_>,
    ) -> Result<Bytes, Rejection> {
        let request = pb::AuthUserAddRequest::decode(message)?;
        let pb::AuthUserAddRequest { name, password, options, hashed_password: _ } = request;
        let no_password = options.is_some_and(|options| options.no_password);
        let password_hash = if no_password {
            Bytes::new()
        } else {
            Box::pin(self.hash_for(access, password, deadline)).await?
        };
        let request = api::UserAddRequest { name, password_hash, no_password };
        self.change_to(AuthRequestKind::UserAdd(request), access, deadline).await
    }

    pub(super) async fn user_change_password(
        &self,
        Asked { message, deadline, access }: Asked<'_>,
    ) -> Result<Bytes, Rejection> {
        let request = pb::AuthUserChangePasswordRequest::decode(message)?;
        let pb::AuthUserChangePasswordRequest { name, password, hashed_password } = request;
        let password_hash = if password.is_empty() {
            // As in etcd: without either one, no password is the user's.
            let given = base64_of(&hashed_password).ok_or(AuthRejection::NoPasswordUser)?;
            given.into()
        } else {
            Box::pin(self.hash_for(access, password, deadline)).await?
        };
        let request = api::UserChangePasswordRequest { name, password_hash };
        let kind = AuthRequestKind::UserChangePassword(request);
        self.change_to(kind, access, deadline).await
    }

    /// The hash of a password, for somebody who may need it: others shall not keep us busy.
    async fn hash_for(
        &self,
        access: &Access,
        password: String,
        deadline: Instant,
    ) -> Result<Bytes, Rejection> {
        self.newest_auth(deadline).await?.admit_root(access)?;
        self.passwords.hash(password, deadline).await
    }

    async fn change_to(
        &self,
        kind: AuthRequestKind,
        access: &Access,
        deadline: Instant,
    ) -> Result<Bytes, Rejection> {
        let AuthReply { mut header, .. } =
            Box::pin(self.propose_auth(kind, access, deadline)).await?;
        self.origin().complete(&mut header);
        // The responses to all of these methods are a header and nothing else.
        let header = header.map(wire_header);
        Ok(frame::encode(&pb::AuthEnableResponse { header }))
    }

    async fn propose_auth(
        &self,
        kind: AuthRequestKind,
        access: &Access,
        deadline: Instant,
    ) -> Result<AuthReply, Rejection> {
        let kind = Some(CommandKind::Auth(AuthRequest::new(kind)));
        let command = Command { kind, caller: sender(access) }.encode_to_vec();
        if command.len() > self.options.request_bytes_max {
            return Err(Rejection::RequestTooLarge);
        }
        match self.outcome_of(command.into(), deadline).await? {
            Outcome::Auth(reply) => Ok(reply),
            Outcome::Put(_)
            | Outcome::DeleteRange(_)
            | Outcome::Txn(_)
            | Outcome::Compact(_)
            | Outcome::LeaseGrant(_)
            | Outcome::LeaseRevoke(_)
            | Outcome::LeaseRenew(_)
            | Outcome::LeaseExpire(_)
            | Outcome::Alarm(_)
            | Outcome::Refused(_) => Err(Rejection::Internal),
        }
    }

    /// Answers a question about users and roles as `answer` says, who also asks whether it may.
    pub(super) async fn show<M: Message + Default, A: Message>(
        &self,
        answer: fn(&AuthState, &Access, M, pb::ResponseHeader) -> Result<A, AuthError>,
        Asked { message, deadline, access }: Asked<'_>,
    ) -> Result<Bytes, Rejection> {
        let request = M::decode(message)?;
        let auth = Box::pin(self.newest_auth(deadline)).await?;
        let header = self.header(self.reader.revision().to_wire());
        Ok(frame::encode(&answer(&auth, access, request, header)?))
    }
}

/// A token that no other member has to hear of.
fn sign(jwt: &Jwt, name: &str, revision: u64) -> Result<String, Rejection> {
    jwt.issue(name, revision).map_err(|error| match error {
        IssueError::VerifyOnly => AuthRejection::VerifyOnly.into(),
        IssueError::NoRandomness => {
            tracing::error!("no randomness for a token");
            Rejection::Internal
        }
    })
}

pub(super) fn enable(_: pb::AuthEnableRequest) -> AuthRequestKind {
    AuthRequestKind::Enable(api::EnableRequest {})
}

pub(super) fn disable(_: pb::AuthDisableRequest) -> AuthRequestKind {
    AuthRequestKind::Disable(api::DisableRequest {})
}

pub(super) fn user_delete(request: pb::AuthUserDeleteRequest) -> AuthRequestKind {
    AuthRequestKind::UserDelete(api::UserDeleteRequest { name: request.name })
}

pub(super) fn user_grant(request: pb::AuthUserGrantRoleRequest) -> AuthRequestKind {
    let pb::AuthUserGrantRoleRequest { user, role } = request;
    AuthRequestKind::UserGrantRole(api::UserRoleRequest { user, role })
}

pub(super) fn user_revoke(request: pb::AuthUserRevokeRoleRequest) -> AuthRequestKind {
    let pb::AuthUserRevokeRoleRequest { name: user, role } = request;
    AuthRequestKind::UserRevokeRole(api::UserRoleRequest { user, role })
}

pub(super) fn role_add(request: pb::AuthRoleAddRequest) -> AuthRequestKind {
    AuthRequestKind::RoleAdd(api::RoleAddRequest { name: request.name })
}

pub(super) fn role_delete(request: pb::AuthRoleDeleteRequest) -> AuthRequestKind {
    AuthRequestKind::RoleDelete(api::RoleDeleteRequest { role: request.role })
}

pub(super) fn role_permit(request: pb::AuthRoleGrantPermissionRequest) -> AuthRequestKind {
    let pb::AuthRoleGrantPermissionRequest { name, perm } = request;
    let permission = perm.map(|perm| {
        let authpb::Permission { perm_type, key, range_end } = perm;
        api::Permission { perm_type, key, range_end }
    });
    let request = api::RoleGrantPermissionRequest { name, permission };
    AuthRequestKind::RoleGrantPermission(request)
}

pub(super) fn role_forbid(request: pb::AuthRoleRevokePermissionRequest) -> AuthRequestKind {
    let pb::AuthRoleRevokePermissionRequest { role, key, range_end } = request;
    let request = api::RoleRevokePermissionRequest { role, key, range_end };
    AuthRequestKind::RoleRevokePermission(request)
}

pub(super) fn status(
    auth: &AuthState,
    access: &Access,
    _: pb::AuthStatusRequest,
    header: pb::ResponseHeader,
) -> Result<pb::AuthStatusResponse, AuthError> {
    auth.admit_root(access)?;
    let (enabled, auth_revision) = (auth.is_enabled(), auth.revision());
    Ok(pb::AuthStatusResponse { header: Some(header), enabled, auth_revision })
}

pub(super) fn user_get(
    auth: &AuthState,
    access: &Access,
    request: pb::AuthUserGetRequest,
    header: pb::ResponseHeader,
) -> Result<pb::AuthUserGetResponse, AuthError> {
    let pb::AuthUserGetRequest { name } = request;
    auth.admit_to_user(access, &name)?;
    let user = auth.user(&name).ok_or(AuthError::UserNotFound)?;
    let roles = user.roles().map(str::to_owned).collect();
    Ok(pb::AuthUserGetResponse { header: Some(header), roles })
}

pub(super) fn user_list(
    auth: &AuthState,
    access: &Access,
    _: pb::AuthUserListRequest,
    header: pb::ResponseHeader,
) -> Result<pb::AuthUserListResponse, AuthError> {
    auth.admit_root(access)?;
    let users = auth.users().map(|(name, _)| name.to_owned()).collect();
    Ok(pb::AuthUserListResponse { header: Some(header), users })
}

pub(super) fn role_get(
    auth: &AuthState,
    access: &Access,
    request: pb::AuthRoleGetRequest,
    header: pb::ResponseHeader,
) -> Result<pb::AuthRoleGetResponse, AuthError> {
    let pb::AuthRoleGetRequest { role: name } = request;
    auth.admit_to_role(access, &name)?;
    let role = auth.role(&name).ok_or(AuthError::RoleNotFound)?;
    let wire = |one: &api::Permission| {
        let api::Permission { perm_type, key, range_end } = one.clone();
        authpb::Permission { perm_type, key, range_end }
    };
    let perm = role.permissions().iter().map(wire).collect();
    Ok(pb::AuthRoleGetResponse { header: Some(header), perm })
}

pub(super) fn role_list(
    auth: &AuthState,
    access: &Access,
    _: pb::AuthRoleListRequest,
    header: pb::ResponseHeader,
) -> Result<pb::AuthRoleListResponse, AuthError> {
    auth.admit_root(access)?;
    let roles = auth.roles().map(|(name, _)| name.to_owned()).collect();
    Ok(pb::AuthRoleListResponse { header: Some(header), roles })
}

fn wire_header(header: quorate_kv::ResponseHeader) -> pb::ResponseHeader {
    let quorate_kv::ResponseHeader { cluster_id, member_id, revision, raft_term } = header;
    pb::ResponseHeader { cluster_id, member_id, revision, raft_term }
}

/// The bytes of standard base64 with its padding; `None` if it is something else.
fn base64_of(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}
