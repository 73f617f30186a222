//! Who may do what. Asked of a state, for a whole request: every operation of a transaction in every
//! branch at every depth, what a put would reveal, and the keys that a lease would take with it.
//! Must not let anybody pass whom it does not know; only [`CallerMessage::system`] is everybody.

use super::api::{AuthRequest, AuthRequestKind, CallerMessage};
use super::grants::{Right, Span, compare_ends};
use super::state::{AuthState, ROOT, Role, User};
use crate::alarm::AlarmAction;
use crate::api::{DeleteRangeRequest, PutRequest, RangeRequest, Request, RequestOp, TxnRequest};
use crate::command::CommandKind;
use crate::error::{AuthError, ReadError};
use crate::lease;
use crate::view::View;
use bytes::Bytes;
use std::collections::BTreeSet;

/// On whose behalf something is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nobody said who they are.
    Nobody,
    /// A user.
    User {
        /// Its name.
        name: Box<str>,
        /// The revision of users and roles that it was known at.
        revision: u64,
    },
    /// The cluster itself.
    System,
}

impl From<Option<CallerMessage>> for Access {
    fn from(caller: Option<CallerMessage>) -> Self {
        match caller {
            Some(CallerMessage { system: true, .. }) => Self::System,
            Some(CallerMessage { name, auth_revision, .. }) if !name.is_empty() => {
                Self::User { name: name.into(), revision: auth_revision }
            }
            Some(_) | None => Self::Nobody,
        }
    }
}

/// What is known of who asks, before it is known what they ask.
enum Known<'a> {
    /// Nothing need be known.
    Anybody,
    /// A name, and the revision that it was known at.
    Named(&'a str, u64),
}

impl AuthState {
    fn known<'a>(&self, access: &'a Access) -> Result<Known<'a>, AuthError> {
        if !self.is_enabled() {
            return Ok(Known::Anybody);
        }
        match access {
            Access::System => Ok(Known::Anybody),
            Access::User { name, revision } => Ok(Known::Named(name, *revision)),
            Access::Nobody => Err(AuthError::UserEmpty),
        }
    }

    /// Whether this is anybody at all.
    ///
    /// # Errors
    ///
    /// [`AuthError::UserEmpty`] or [`AuthError::PermissionDenied`].
    pub fn admit(&self, access: &Access) -> Result<(), AuthError> {
        match self.known(access)? {
            Known::Anybody => Ok(()),
            Known::Named(name, _) => match self.user(name) {
                Some(_) => Ok(()),
                None => Err(AuthError::PermissionDenied),
            },
        }
    }

    /// Whether this is somebody who may do everything. As in etcd the revision that it was known at
    /// does not matter.
    ///
    /// # Errors
    ///
    /// [`AuthError::UserEmpty`], [`AuthError::UserNotFound`] or [`AuthError::PermissionDenied`].
    pub fn admit_root(&self, access: &Access) -> Result<(), AuthError> {
        match self.known(access)? {
            Known::Anybody => Ok(()),
            Known::Named(name, _) => {
                let user = self.user(name).ok_or(AuthError::UserNotFound)?;
                if user.has_role(ROOT) { Ok(()) } else { Err(AuthError::PermissionDenied) }
            }
        }
    }

    /// Whether this is somebody who may see the user of that name: itself, or root.
    ///
    /// # Errors
    ///
    /// As [`AuthState::admit_root`].
    pub fn admit_to_user(&self, access: &Access, user: &str) -> Result<(), AuthError> {
        match self.known(access)? {
            Known::Named(name, _) if name == user => Ok(()),
            Known::Named(..) | Known::Anybody => self.admit_root(access),
        }
    }

    /// Whether this is somebody who may see the role of that name: who has it, or root.
    ///
    /// # Errors
    ///
    /// As [`AuthState::admit_root`].
    pub fn admit_to_role(&self, access: &Access, role: &str) -> Result<(), AuthError> {
        match self.known(access)? {
            Known::Named(name, _) if self.user(name).is_some_and(|user| user.has_role(role)) => {
                Ok(())
            }
            Known::Named(..) | Known::Anybody => self.admit_root(access),
        }
    }

    /// Whether this is somebody who may do that with every key of a range, the fields of which are
    /// those of a request.
    ///
    /// # Errors
    ///
    /// [`AuthError::UserEmpty`], [`AuthError::OldRevision`] or [`AuthError::PermissionDenied`].
    pub fn admit_to_keys(
        &self,
        access: &Access,
        right: Right,
        key: &Bytes,
        range_end: &Bytes,
    ) -> Result<(), AuthError> {
        let Known::Named(name, revision) = self.known(access)? else { return Ok(()) };
        if revision < self.revision() {
            return Err(AuthError::OldRevision);
        }
        let user = self.user(name).ok_or(AuthError::PermissionDenied)?;
        if user.has_role(ROOT) {
            return Ok(());
        }
        let wanted = Span::new(key, range_end).ok_or(AuthError::PermissionDenied)?;
        if self.covers(user, right, &wanted) { Ok(()) } else { Err(AuthError::PermissionDenied) }
    }

    /// Whether the roles of `user` cover all of `wanted` together, piece by piece.
    fn covers(&self, user: &User, right: Right, wanted: &Span) -> bool {
        let roles: Vec<&Role> = user.roles().filter_map(|role| self.role(role)).collect();
        let mut from = wanted.from();
        loop {
            let spans = roles.iter().filter_map(|role| role.grants.span_at(right, from));
            let furthest = spans.max_by(|one, other| compare_ends(one.to(), other.to()));
            let Some(furthest) = furthest else { return false };
            match furthest.to() {
                Some(to) if compare_ends(Some(to), wanted.to()).is_lt() => from = to,
                Some(_) | None => return true,
            }
        }
    }
}

/// Whether a command may be carried out on `view`.
///
/// # Errors
///
/// The first [`AuthError`]; an error of the engine if the keys of a lease cannot be read.
pub(crate) fn check(
    view: &View,
    caller: Option<CallerMessage>,
    command: &CommandKind,
) -> Result<(), ReadError> {
    let auth = &view.auth;
    if !auth.is_enabled() {
        return Ok(());
    }
    let access = Access::from(caller);
    let mut examiner = Examiner::new(view, &access);
    match command {
        CommandKind::Put(request) => examiner.put(request)?,
        CommandKind::DeleteRange(request) => examiner.delete_range(request)?,
        CommandKind::Txn(request) => examiner.txn(request)?,
        CommandKind::LeaseGrant(_) => auth.admit(&access)?,
        CommandKind::LeaseRevoke(request) => examiner.lease(request.id)?,
        // Clients ask for these on the way to a member, which asks who they are: it proposes them
        // for many at a time, or for nobody.
        CommandKind::LeaseRenew(_) | CommandKind::LeaseExpire(_) => {}
        CommandKind::Alarm(request) if request.action == i32::from(AlarmAction::Get) => {
            auth.admit(&access)?;
        }
        CommandKind::Compact(_) | CommandKind::Alarm(_) => auth.admit_root(&access)?,
        CommandKind::Auth(AuthRequest { kind }) => match kind {
            // That is how one becomes somebody.
            Some(AuthRequestKind::Authenticate(_)) => {}
            Some(
                AuthRequestKind::Enable(_)
                | AuthRequestKind::Disable(_)
                | AuthRequestKind::UserAdd(_)
                | AuthRequestKind::UserDelete(_)
                | AuthRequestKind::UserChangePassword(_)
                | AuthRequestKind::UserGrantRole(_)
                | AuthRequestKind::UserRevokeRole(_)
                | AuthRequestKind::RoleAdd(_)
                | AuthRequestKind::RoleDelete(_)
                | AuthRequestKind::RoleGrantPermission(_)
                | AuthRequestKind::RoleRevokePermission(_),
            )
            | None => auth.admit_root(&access)?,
        },
    }
    Ok(())
}

/// Asks about one request, with the rights and the keys of one moment.
pub(crate) struct Examiner<'a> {
    view: &'a View,
    access: &'a Access,
    /// Leases whose keys may be written: a transaction may name one again and again.
    passed: BTreeSet<i64>,
}

impl<'a> Examiner<'a> {
    pub(crate) const fn new(view: &'a View, access: &'a Access) -> Self {
        Self { view, access, passed: BTreeSet::new() }
    }

    /// Whether a range may be read.
    pub(crate) fn range(&self, request: &RangeRequest) -> Result<(), AuthError> {
        self.keys(Right::Read, &request.key, &request.range_end)
    }

    /// Whether a transaction may be carried out, whichever branches it takes.
    pub(crate) fn txn(&mut self, request: &TxnRequest) -> Result<(), ReadError> {
        self.every_branch(request)?;
        // An empty one says how far the store is.
        Ok(self.view.auth.admit(self.access)?)
    }

    fn every_branch(&mut self, request: &TxnRequest) -> Result<(), ReadError> {
        for compare in &request.compare {
            self.keys(Right::Read, &compare.key, &compare.range_end)?;
        }
        for RequestOp { request } in request.success.iter().chain(&request.failure) {
            match request {
                Some(Request::Range(request)) => self.range(request)?,
                Some(Request::Put(request)) => self.put(request)?,
                Some(Request::DeleteRange(request)) => self.delete_range(request)?,
                Some(Request::Txn(nested)) => self.every_branch(nested)?,
                None => {}
            }
        }
        Ok(())
    }

    fn put(&mut self, request: &PutRequest) -> Result<(), ReadError> {
        self.one_key(Right::Write, &request.key)?;
        if request.prev_kv {
            self.one_key(Right::Read, &request.key)?;
        }
        if request.lease != 0 {
            self.lease(request.lease)?;
        }
        Ok(())
    }

    fn delete_range(&self, request: &DeleteRangeRequest) -> Result<(), AuthError> {
        self.keys(Right::Write, &request.key, &request.range_end)?;
        if request.prev_kv {
            self.keys(Right::Read, &request.key, &request.range_end)?;
        }
        Ok(())
    }

    /// Whether a lease may be kept, ended, or given more keys: its end deletes those that it has.
    pub(crate) fn lease(&mut self, id: i64) -> Result<(), ReadError> {
        let auth = &self.view.auth;
        if auth.admit_root(self.access).is_err() && !self.passed.contains(&id) {
            self.lease_keys(Right::Write, id)?;
            self.passed.insert(id);
        }
        Ok(auth.admit(self.access)?)
    }

    /// The keys of a lease, if that may be done with each of them.
    pub(crate) fn lease_keys(&self, right: Right, id: i64) -> Result<Vec<Bytes>, ReadError> {
        let keys = lease::keys_of(self.view, id)?;
        if self.view.auth.admit_root(self.access).is_err() {
            for key in &keys {
                self.one_key(right, key)?;
            }
        }
        Ok(keys)
    }

    fn one_key(&self, right: Right, key: &Bytes) -> Result<(), AuthError> {
        self.keys(right, key, &Bytes::new())
    }

    fn keys(&self, right: Right, key: &Bytes, range_end: &Bytes) -> Result<(), AuthError> {
        self.view.auth.admit_to_keys(self.access, right, key, range_end)
    }
}
