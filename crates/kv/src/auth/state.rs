//! Users and roles of one moment: persistent maps, so that a view of the store costs nothing,
//! however many there are. Knows neither passwords, only hashes, nor who asks.

use super::api::Permission;
use super::grants::Grants;
use bytes::Bytes;
use rpds::RedBlackTreeMapSync;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// The user without whom nobody is asked who they are, and the role that may do everything.
pub const ROOT: &str = "root";

/// What all users and roles together may take up, in bytes, roughly as encoded.
pub const AUTH_BYTES_MAX: usize = 32 << 20;

/// What a user, a role, a permission and the name of a role count for beside their bytes.
const ENTRY_BYTES: usize = 32;

/// Who there is, who may what, and whether anybody is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthState {
    enabled: bool,
    revision: u64,
    users: RedBlackTreeMapSync<String, Arc<User>>,
    roles: RedBlackTreeMapSync<String, Arc<Role>>,
    size_bytes: usize,
}

/// A user.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct User {
    pub(super) password_hash: Bytes,
    pub(super) no_password: bool,
    pub(super) roles: BTreeSet<String>,
}

/// A role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// In the order of their first keys; of equal ones the newest last.
    permissions: Vec<Permission>,
    /// What they come to.
    pub(super) grants: Grants,
}

impl User {
    /// What the password's hash must match; empty if no password does.
    #[must_use]
    pub fn password_hash(&self) -> &[u8] {
        &self.password_hash
    }

    /// Whether the user proves itself by other means than a password.
    #[must_use]
    pub const fn has_no_password(&self) -> bool {
        self.no_password
    }

    /// The names of its roles, in order.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(String::as_str)
    }

    /// Whether it has the role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.contains(role)
    }

    fn size_bytes(&self, name: &str) -> usize {
        let roles = self.roles.iter().map(|role| role.len() + ENTRY_BYTES).sum::<usize>();
        name.len() + self.password_hash.len() + roles + ENTRY_BYTES
    }
}

/// Without the hash.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("User");
        shown.field("no_password", &self.no_password).field("roles", &self.roles);
        shown.finish_non_exhaustive()
    }
}

impl Role {
    pub(super) fn new(permissions: Vec<Permission>) -> Self {
        let grants = Grants::of(&permissions);
        Self { permissions, grants }
    }

    /// What it permits, in the order of the first keys.
    #[must_use]
    pub fn permissions(&self) -> &[Permission] {
        &self.permissions
    }

    fn size_bytes(&self, name: &str) -> usize {
        let size_bytes = |one: &Permission| one.key.len() + one.range_end.len() + ENTRY_BYTES;
        name.len() + self.permissions.iter().map(size_bytes).sum::<usize>() + ENTRY_BYTES
    }
}

impl Default for AuthState {
    /// A fresh store's: nobody there, nobody asked.
    fn default() -> Self {
        let (users, roles) = (RedBlackTreeMapSync::default(), RedBlackTreeMapSync::default());
        Self { enabled: false, revision: Self::REVISION_FIRST, users, roles, size_bytes: 0 }
    }
}

impl AuthState {
    pub(super) const REVISION_FIRST: u64 = 1;

    /// Whether everybody is asked who they are.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Counts the changes; 1 before the first one.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The user of that name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(Arc::as_ref)
    }

    /// All users, in the order of their names.
    pub fn users(&self) -> impl Iterator<Item = (&str, &User)> {
        self.users.iter().map(|(name, user)| (name.as_str(), user.as_ref()))
    }

    /// The role of that name.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name).map(Arc::as_ref)
    }

    /// All roles, in the order of their names. [`ROOT`] is among them only if somebody made it.
    pub fn roles(&self) -> impl Iterator<Item = (&str, &Role)> {
        self.roles.iter().map(|(name, role)| (name.as_str(), role.as_ref()))
    }

    /// Whether users may have the role.
    pub(super) fn knows_role(&self, name: &str) -> bool {
        name == ROOT || self.roles.contains_key(name)
    }

    /// What all of it counts for against [`AUTH_BYTES_MAX`].
    pub(super) const fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub(super) const fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    pub(super) const fn set_revision(&mut self, revision: u64) {
        self.revision = revision;
    }

    /// Something changed: whoever was let in before must be looked at again.
    pub(super) const fn raise(&mut self) {
        self.revision += 1;
    }

    pub(super) fn put_user(&mut self, name: String, user: User) {
        self.remove_user(&name);
        self.size_bytes += user.size_bytes(&name);
        self.users.insert_mut(name, Arc::new(user));
    }

    pub(super) fn remove_user(&mut self, name: &str) {
        self.size_bytes -= self.user(name).map_or(0, |user| user.size_bytes(name));
        self.users.remove_mut(name);
    }

    pub(super) fn put_role(&mut self, name: String, role: Role) {
        self.remove_role(&name);
        self.size_bytes += role.size_bytes(&name);
        self.roles.insert_mut(name, Arc::new(role));
    }

    /// Its users are another matter.
    pub(super) fn remove_role(&mut self, name: &str) {
        self.size_bytes -= self.role(name).map_or(0, |role| role.size_bytes(name));
        self.roles.remove_mut(name);
    }
}
