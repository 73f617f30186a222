//! Who a request is from, and whether a method is for them at all. What of it they may see or do is
//! asked where it is read or applied: by the store.

use super::Service;
use crate::caller::Caller;
use crate::errors::{AuthRejection, Rejection};
use crate::method::Method;
use quorate_kv::{Access, AuthError, CallerMessage};
use tokio::time::Instant;

/// Whom a method is for, while users are asked who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// Everybody, whoever they are: that is how one becomes somebody.
    Open,
    /// Whoever is somebody.
    Anybody,
    /// Those who may do everything.
    Root,
    /// Whoever has a right to what they ask for; the store says so.
    Within,
}

/// The rules of etcd 3.7: 3.5.1 asks nobody about many of them. How a cluster is made up and how it is
/// is nothing for strangers; but a user who may not read a key must still find the members.
const fn gate_of(method: Method) -> Gate {
    match method {
        Method::Authenticate
        | Method::HealthCheck
        | Method::HealthWatch
        | Method::Reflection
        | Method::ReflectionAlpha => Gate::Open,
        Method::Status | Method::MemberList | Method::Explain => Gate::Anybody,
        Method::Defragment
        | Method::Hash
        | Method::HashKv
        | Method::Snapshot
        | Method::MoveLeader
        | Method::Downgrade
        | Method::MemberAdd
        | Method::MemberRemove
        | Method::MemberUpdate
        | Method::MemberPromote => Gate::Root,
        Method::Range
        | Method::Put
        | Method::DeleteRange
        | Method::Txn
        | Method::Compact
        | Method::RangeStream
        | Method::Watch
        | Method::LeaseGrant
        | Method::LeaseRevoke
        | Method::LeaseKeepAlive
        | Method::LeaseTimeToLive
        | Method::LeaseLeases
        | Method::Alarm
        | Method::AuthEnable
        | Method::AuthDisable
        | Method::AuthStatus
        | Method::UserAdd
        | Method::UserGet
        | Method::UserList
        | Method::UserDelete
        | Method::UserChangePassword
        | Method::UserGrantRole
        | Method::UserRevokeRole
        | Method::RoleAdd
        | Method::RoleGet
        | Method::RoleList
        | Method::RoleDelete
        | Method::RoleGrantPermission
        | Method::RoleRevokePermission
        | Method::Lock
        | Method::Unlock
        | Method::Campaign
        | Method::Proclaim
        | Method::Leader
        | Method::Observe
        | Method::Resign => Gate::Within,
    }
}

impl Service {
    /// On whose behalf a method is carried out, if it is for them.
    pub(super) async fn enter(
        &self,
        method: Method,
        caller: &Caller,
        deadline: Instant,
    ) -> Result<Access, Rejection> {
        if gate_of(method) == Gate::Open {
            return Ok(Access::Nobody);
        }
        let access = self.access_of(caller, deadline).await;
        // These are clients of this server's own, to which we talk as to others.
        let access = if method.is_recipe() {
            access.and_then(|access| self.up_to_date(access)).map_err(Rejection::of_step)?
        } else {
            access?
        };
        self.pass(method, &access)?;
        Ok(access)
    }

    /// [`Service::enter`] for a stream that begins.
    pub(super) fn enter_now(&self, method: Method, caller: &Caller) -> Result<Access, Rejection> {
        let access = self.access_now(caller).ok_or(AuthRejection::InvalidToken)?;
        self.pass(method, &access)?;
        Ok(access)
    }

    fn pass(&self, method: Method, access: &Access) -> Result<(), AuthError> {
        match gate_of(method) {
            Gate::Open | Gate::Within => Ok(()),
            Gate::Anybody => self.reader.auth().admit(access),
            Gate::Root => self.reader.auth().admit_root(access),
        }
    }

    /// Of a recipe only the name goes on, with the rights of whenever something is read: a name that
    /// was known at an older revision must not come that far.
    fn up_to_date(&self, access: Access) -> Result<Access, Rejection> {
        match &access {
            Access::User { revision, .. } if *revision < self.reader.auth().revision() => {
                Err(AuthError::OldRevision.into())
            }
            Access::User { .. } | Access::Nobody | Access::System => Ok(access),
        }
    }

    /// On whose behalf a request is carried out.
    pub(super) async fn access_of(
        &self,
        caller: &Caller,
        deadline: Instant,
    ) -> Result<Access, Rejection> {
        if let Some(access) = self.access_now(caller) {
            return Ok(access);
        }
        if caller.token().is_some_and(|token| self.is_ahead(token)) {
            // Another member has made it, and this one is behind.
            Box::pin(self.confirm(deadline)).await?;
        }
        Ok(self.access_now(caller).ok_or(AuthRejection::InvalidToken)?)
    }

    fn is_ahead(&self, token: &str) -> bool {
        let applied = self.reader.applied().index.get();
        self.tokens.is_ahead(token, applied, &self.reader.auth())
    }

    /// `None` for a token that nobody is known to have.
    fn access_now(&self, caller: &Caller) -> Option<Access> {
        let auth = self.reader.auth();
        self.tokens.access_of(caller, &auth)
    }
}

/// What a command says of who sent it: nothing while users are off.
pub(super) fn sender(access: &Access) -> Option<CallerMessage> {
    match access {
        Access::Nobody => None,
        Access::User { name, revision } => Some(CallerMessage::user(name.as_ref(), *revision)),
        Access::System => Some(CallerMessage::system()),
    }
}
