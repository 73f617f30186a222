//! Who may do what, judged key by key: slow, and hard to get wrong. Shares no code with the store.

use bytes::Bytes;
use quorate_kv::auth::Right;
use quorate_kv::auth::api::*;
use quorate_kv::*;
use std::collections::{BTreeMap, BTreeSet};

/// Something of each name.
type Listed<T> = Vec<(String, Vec<T>)>;

/// All keys that there are.
pub(crate) const KEYS: [&str; 6] = ["a", "a\0", "b", "c", "c\u{1}", "\u{7f}"];

#[derive(Clone, Debug, Default)]
struct RefUser {
    no_password: bool,
    roles: BTreeSet<String>,
}

/// Users and roles.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reference {
    pub(crate) enabled: bool,
    /// How many changes there were.
    pub(crate) change_count: u64,
    users: BTreeMap<String, RefUser>,
    roles: BTreeMap<String, Vec<Permission>>,
}

/// What a request does: what it needs of which keys, and which leases it touches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    keys: Vec<(Right, Bytes, Bytes)>,
    leases: Vec<i64>,
}

impl Needs {
    pub(crate) fn of(request: &Request) -> Self {
        let (mut needs, mut left) = (Self::default(), vec![request.clone()]);
        while let Some(request) = left.pop() {
            match request {
                Request::Range(range) => needs.push(Right::Read, range.key, range.range_end),
                Request::Put(put) => {
                    needs.push(Right::Write, put.key.clone(), Bytes::new());
                    if put.prev_kv {
                        needs.push(Right::Read, put.key, Bytes::new());
                    }
                    needs.leases.extend((put.lease != 0).then_some(put.lease));
                }
                Request::DeleteRange(delete) => {
                    needs.push(Right::Write, delete.key.clone(), delete.range_end.clone());
                    if delete.prev_kv {
                        needs.push(Right::Read, delete.key, delete.range_end);
                    }
                }
                Request::Txn(txn) => {
                    for compare in txn.compare {
                        needs.push(Right::Read, compare.key, compare.range_end);
                    }
                    let ops = txn.success.into_iter().chain(txn.failure);
                    left.extend(ops.filter_map(|op| op.request));
                }
            }
        }
        needs
    }

    pub(crate) fn of_lease(id: i64) -> Self {
        Self { leases: vec![id], ..Self::default() }
    }

    /// To be shown each of these keys.
    pub(crate) fn to_read(keys: &[Bytes]) -> Self {
        let keys = keys.iter().map(|key| (Right::Read, key.clone(), Bytes::new())).collect();
        Self { keys, ..Self::default() }
    }

    fn push(&mut self, right: Right, key: Bytes, range_end: Bytes) {
        self.keys.push((right, key, range_end));
    }
}

fn holds(from: &[u8], end: &[u8], key: &[u8]) -> bool {
    match end {
        [] => key == from,
        [0] => key >= from,
        _ => key >= from && key < end,
    }
}

/// The first key of each stretch of keys that no permission of a test cuts in two.
fn stretches() -> Vec<Vec<u8>> {
    let keys = KEYS.iter().map(|key| key.as_bytes().to_vec());
    keys.flat_map(|key| [key.clone(), [key, vec![0]].concat()]).collect()
}

impl Reference {
    pub(crate) fn revision(&self) -> u64 {
        self.change_count + 1
    }

    fn is_root(&self, name: &str) -> bool {
        self.users.get(name).is_some_and(|user| user.roles.contains("root"))
    }

    /// Whether a user may do that with a key.
    pub(crate) fn may(&self, name: &str, right: Right, key: &[u8]) -> bool {
        let Some(user) = self.users.get(name) else { return false };
        let permissions = user.roles.iter().filter_map(|role| self.roles.get(role)).flatten();
        let wanted = if right == Right::Read { [0, 2] } else { [1, 2] };
        self.is_root(name)
            || permissions
                .into_iter()
                .any(|one| wanted.contains(&one.perm_type) && holds(&one.key, &one.range_end, key))
    }

    fn may_all(&self, name: &str, right: Right, from: &[u8], end: &[u8]) -> bool {
        let mut inside = stretches();
        inside.retain(|key| holds(from, end, key));
        self.is_root(name)
            || (!inside.is_empty() && inside.iter().all(|key| self.may(name, right, key)))
    }

    /// Whether an answer to somebody may show a key.
    pub(crate) fn may_show(&self, access: &Access, key: &[u8]) -> bool {
        match access {
            Access::User { name, .. } if self.enabled => self.may(name, Right::Read, key),
            Access::Nobody => !self.enabled,
            Access::User { .. } | Access::System => true,
        }
    }

    /// What somebody is told who asks for that while `kvs` is all there is.
    pub(crate) fn judge(
        &self,
        access: &Access,
        needs: &Needs,
        kvs: &[KeyValue],
    ) -> Result<(), AuthError> {
        let Some((name, revision)) = self.named(access)? else { return Ok(()) };
        let mut wanted = needs.keys.clone();
        if !self.is_root(name) {
            let attached = kvs.iter().filter(|kv| needs.leases.contains(&kv.lease));
            wanted.extend(attached.map(|kv| (Right::Write, kv.key.clone(), Bytes::new())));
        }
        if !wanted.is_empty() && revision < self.revision() {
            return Err(AuthError::OldRevision);
        }
        let mut allowed =
            wanted.iter().map(|(right, key, end)| self.may_all(name, *right, key, end));
        let is_allowed = self.users.contains_key(name) && allowed.all(|allowed| allowed);
        if is_allowed { Ok(()) } else { Err(AuthError::PermissionDenied) }
    }

    /// What somebody is told who asks for something that only root may do.
    pub(crate) fn judge_root(&self, access: &Access) -> Result<(), AuthError> {
        match self.named(access)? {
            Some((name, _)) if !self.users.contains_key(name) => Err(AuthError::UserNotFound),
            Some((name, _)) if !self.is_root(name) => Err(AuthError::PermissionDenied),
            Some(_) | None => Ok(()),
        }
    }

    fn named<'a>(&self, access: &'a Access) -> Result<Option<(&'a str, u64)>, AuthError> {
        match access {
            Access::Nobody if self.enabled => Err(AuthError::UserEmpty),
            Access::User { name, revision } if self.enabled => Ok(Some((name, *revision))),
            Access::Nobody | Access::User { .. } | Access::System => Ok(None),
        }
    }

    /// Carries out a command.
    pub(crate) fn apply(&mut self, kind: &AuthRequestKind) -> Result<(), AuthError> {
        let mut after = self.clone();
        if after.change(kind)? {
            after.change_count += 1;
        }
        *self = after;
        Ok(())
    }

    /// Whether something changed that the revision counts.
    fn change(&mut self, kind: &AuthRequestKind) -> Result<bool, AuthError> {
        match kind {
            AuthRequestKind::Enable(_) => {
                let root = self.users.get("root").ok_or(AuthError::RootUserNotFound)?;
                if !self.enabled && !root.roles.contains("root") {
                    return Err(AuthError::RootWithoutRole);
                }
                self.enabled = true;
                Ok(false)
            }
            AuthRequestKind::Disable(_) => Ok(std::mem::take(&mut self.enabled)),
            AuthRequestKind::UserAdd(request) => {
                let fresh = RefUser { no_password: request.no_password, ..RefUser::default() };
                match self.users.insert(request.name.clone(), fresh) {
                    _ if request.name.is_empty() => Err(AuthError::UserEmpty),
                    Some(_) => Err(AuthError::UserExists),
                    None => Ok(true),
                }
            }
            AuthRequestKind::UserDelete(request) => {
                self.guard_root(request.name == "root")?;
                let removed = self.users.remove(&request.name);
                removed.map(|_| true).ok_or(AuthError::UserNotFound)
            }
            AuthRequestKind::UserChangePassword(request) => {
                let known = self.users.contains_key(&request.name);
                known.then_some(true).ok_or(AuthError::UserNotFound)
            }
            AuthRequestKind::UserGrantRole(UserRoleRequest { user, role }) => {
                let user = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
                if role != "root" && !self.roles.contains_key(role) {
                    return Err(AuthError::RoleNotFound);
                }
                Ok(user.roles.insert(role.clone()))
            }
            AuthRequestKind::UserRevokeRole(UserRoleRequest { user, role }) => {
                self.guard_root(user == "root" && role == "root")?;
                let user = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
                user.roles.remove(role).then_some(true).ok_or(AuthError::RoleNotGranted)
            }
            AuthRequestKind::Authenticate(request) => {
                let user = self.users.get(&request.name);
                if !self.enabled {
                    return Err(AuthError::NotEnabled);
                }
                if request.auth_revision != self.revision() {
                    return Err(AuthError::OldRevision);
                }
                let is_fine = user.is_some_and(|user| !user.no_password);
                is_fine.then_some(false).ok_or(AuthError::Failed)
            }
            AuthRequestKind::RoleAdd(_)
            | AuthRequestKind::RoleDelete(_)
            | AuthRequestKind::RoleGrantPermission(_)
            | AuthRequestKind::RoleRevokePermission(_) => self.change_role(kind),
        }
    }

    fn change_role(&mut self, kind: &AuthRequestKind) -> Result<bool, AuthError> {
        match kind {
            AuthRequestKind::RoleAdd(request) => {
                match self.roles.insert(request.name.clone(), Vec::new()) {
                    _ if request.name.is_empty() => Err(AuthError::RoleEmpty),
                    Some(_) => Err(AuthError::RoleExists),
                    None => Ok(true),
                }
            }
            AuthRequestKind::RoleDelete(request) => {
                self.guard_root(request.role == "root")?;
                self.roles.remove(&request.role).ok_or(AuthError::RoleNotFound)?;
                for user in self.users.values_mut() {
                    user.roles.remove(&request.role);
                }
                Ok(true)
            }
            AuthRequestKind::RoleGrantPermission(request) => {
                let given = request.permission.clone().ok_or(AuthError::PermissionNotGiven)?;
                let is_open = given.range_end.is_empty() || given.range_end == "\0";
                if given.key.is_empty() || (!is_open && given.range_end <= given.key) {
                    return Err(AuthError::InvalidManagement);
                }
                let role = self.roles.get_mut(&request.name).ok_or(AuthError::RoleNotFound)?;
                let first = role.iter_mut().find(|one| one.key >= given.key);
                match first {
                    Some(one) if (&one.key, &one.range_end) == (&given.key, &given.range_end) => {
                        *one = given;
                    }
                    Some(_) | None => role.push(given),
                }
                role.sort_by(|one, next| one.key.cmp(&next.key));
                Ok(true)
            }
            AuthRequestKind::RoleRevokePermission(request) => {
                let role = self.roles.get_mut(&request.role).ok_or(AuthError::RoleNotFound)?;
                let count = role.len();
                role.retain(|one| (&one.key, &one.range_end) != (&request.key, &request.range_end));
                (role.len() < count).then_some(true).ok_or(AuthError::PermissionNotGranted)
            }
            AuthRequestKind::Enable(_)
            | AuthRequestKind::Disable(_)
            | AuthRequestKind::UserAdd(_)
            | AuthRequestKind::UserDelete(_)
            | AuthRequestKind::UserChangePassword(_)
            | AuthRequestKind::UserGrantRole(_)
            | AuthRequestKind::UserRevokeRole(_)
            | AuthRequestKind::Authenticate(_) => panic!("{kind:?} is about no role"),
        }
    }

    fn guard_root(&self, is_root: bool) -> Result<(), AuthError> {
        if self.enabled && is_root { Err(AuthError::InvalidManagement) } else { Ok(()) }
    }

    /// The names of the users with their roles, and of the roles with what they permit.
    pub(crate) fn lists(&self) -> (Listed<String>, Listed<Permission>) {
        let users = self.users.iter();
        let roles = |user: &RefUser| user.roles.iter().cloned().collect();
        (
            users.map(|(name, user)| (name.clone(), roles(user))).collect(),
            self.roles.iter().map(|(name, role)| (name.clone(), role.clone())).collect(),
        )
    }
}
