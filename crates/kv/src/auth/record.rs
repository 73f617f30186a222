//! Users and roles as bytes: a row of the engine, and a block of a snapshot, which is not trusted.
//! Nothing here decides which of them there are.

use super::api::Permission;
use super::state::{AuthState, ROOT, Role, User};
use crate::engine::{EngineError, EngineView, Space, Write};
use bytes::Bytes;
use prost::Message;

const AUTH_KEY: &[u8] = b"auth";
/// A revision above this is not believed: whatever is below can be counted on from.
const REVISION_MAX: u64 = 1 << 62;

#[derive(Clone, PartialEq, Eq, Message)]
struct AuthMessage {
    #[prost(bool, tag = "1")]
    enabled: bool,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(message, repeated, tag = "3")]
    users: Vec<UserMessage>,
    #[prost(message, repeated, tag = "4")]
    roles: Vec<RoleMessage>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct UserMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", tag = "2")]
    password_hash: Bytes,
    #[prost(bool, tag = "3")]
    no_password: bool,
    #[prost(string, repeated, tag = "4")]
    roles: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct RoleMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    permissions: Vec<Permission>,
}

/// The write that keeps users and roles; none for a fresh store's.
pub(crate) fn write(state: &AuthState) -> Option<Write> {
    let (space, key, value) = (Space::Meta, AUTH_KEY.to_vec(), state.encode());
    (!value.is_empty()).then_some(Write::Put { space, key, value })
}

/// The users and roles that the engine holds; a fresh store's if there never were any.
pub(crate) fn read(view: &dyn EngineView) -> Result<AuthState, EngineError> {
    let Some(row) = view.get(Space::Meta, AUTH_KEY)? else { return Ok(AuthState::default()) };
    AuthState::decode(row).ok_or_else(|| EngineError::Corrupt {
        space: Space::Meta,
        key: AUTH_KEY.to_vec(),
        what: "not users and roles",
    })
}

impl AuthState {
    /// As they stand in a row or a snapshot: nothing for a fresh store's.
    pub(crate) fn encode(&self) -> Vec<u8> {
        if *self == Self::default() {
            return Vec::new();
        }
        let user = |(name, user): (&str, &User)| UserMessage {
            name: name.to_owned(),
            password_hash: user.password_hash.clone(),
            no_password: user.no_password,
            roles: user.roles().map(str::to_owned).collect(),
        };
        let role = |(name, role): (&str, &Role)| RoleMessage {
            name: name.to_owned(),
            permissions: role.permissions().to_vec(),
        };
        let (users, roles) = (self.users().map(user).collect(), self.roles().map(role).collect());
        let (enabled, revision) = (self.is_enabled(), self.revision());
        AuthMessage { enabled, revision, users, roles }.encode_to_vec()
    }

    /// The inverse of [`AuthState::encode`]; `None` if the bytes are something else, or users and
    /// roles that no state holds.
    pub(crate) fn decode(bytes: Bytes) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let AuthMessage { enabled, revision, users, roles } = AuthMessage::decode(bytes).ok()?;
        let are_in_order = users.is_sorted_by(|one, next| one.name < next.name)
            && roles.is_sorted_by(|one, next| one.name < next.name);
        let revisions = Self::REVISION_FIRST..=REVISION_MAX;
        if !are_in_order || !revisions.contains(&revision) {
            return None;
        }
        let mut state = Self::default();
        for role in roles {
            let RoleMessage { name, permissions } = role.check()?;
            state.put_role(name, Role::new(permissions));
        }
        for user in users {
            let UserMessage { name, password_hash, no_password, roles } = user.check(&state)?;
            let roles = roles.into_iter().collect();
            state.put_user(name, User { password_hash, no_password, roles });
        }
        // Whoever is asked could never be answered.
        if enabled && !state.user(ROOT)?.has_role(ROOT) {
            return None;
        }
        state.set_enabled(enabled);
        state.set_revision(revision);
        Some(state)
    }
}

impl UserMessage {
    fn check(self, state: &AuthState) -> Option<Self> {
        let is_possible = !self.name.is_empty()
            && (!self.no_password || self.password_hash.is_empty())
            && self.roles.is_sorted_by(|one, next| one < next)
            && self.roles.iter().all(|role| state.knows_role(role));
        is_possible.then_some(self)
    }
}

impl RoleMessage {
    fn check(self) -> Option<Self> {
        let is_possible = !self.name.is_empty()
            && self.permissions.is_sorted_by(|one, next| one.key <= next.key)
            && self.permissions.iter().all(|permission| !permission.key.is_empty());
        is_possible.then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, roles: &[&str]) -> UserMessage {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        UserMessage { name: name.to_owned(), roles, ..Default::default() }
    }

    fn role(name: &str, keys: &[&'static str]) -> RoleMessage {
        let permission =
            |key: &&'static str| Permission { key: (*key).into(), ..Default::default() };
        RoleMessage { name: name.to_owned(), permissions: keys.iter().map(permission).collect() }
    }

    fn plain() -> AuthMessage {
        AuthMessage {
            enabled: true,
            revision: 7,
            users: vec![user("alice", &["a", "b"]), user("root", &["root"])],
            roles: vec![role("a", &["k", "k"]), role("b", &[])],
        }
    }

    fn is_believed(change: impl FnOnce(&mut AuthMessage)) -> bool {
        let mut message = plain();
        change(&mut message);
        AuthState::decode(message.encode_to_vec().into()).is_some()
    }

    #[test]
    fn what_was_written_is_read_again() {
        let bytes = plain().encode_to_vec();
        let state = AuthState::decode(bytes.clone().into()).unwrap();
        assert_eq!(state.encode(), bytes);
        assert_eq!((state.is_enabled(), state.revision()), (true, 7));
        assert!(state.user("alice").unwrap().has_role("b"));
        let fresh = AuthState::default();
        assert_eq!(AuthState::decode(fresh.encode().into()), Some(fresh));
    }

    #[test]
    fn users_and_roles_that_no_store_holds_are_not_believed() {
        assert!(is_believed(|_| {}));
        assert!(!is_believed(|message| message.revision = 0));
        assert!(!is_believed(|message| message.revision = u64::MAX));
        assert!(!is_believed(|message| message.users.swap(0, 1)));
        assert!(!is_believed(|message| message.users[0].name.clear()));
        assert!(!is_believed(|message| message.users[1].name = "alice".to_owned()));
        assert!(!is_believed(|message| message.users[0].roles.swap(0, 1)));
        assert!(!is_believed(|message| message.users[0].roles[1] = "c".to_owned()));
        assert!(!is_believed(|message| message.roles.swap(0, 1)));
        assert!(!is_believed(|message| message.roles[0].name.clear()));
        assert!(!is_believed(|message| message.roles[0] = role("a", &["k", "j"])));
        assert!(!is_believed(|message| message.roles[0] = role("a", &[""])));
        assert!(!is_believed(|message| message.users[1].roles.clear()), "a root that is none");
        assert!(!is_believed(|message| drop(message.users.pop())), "no root");
        assert!(is_believed(|message| {
            message.enabled = false;
            message.users.pop();
        }));
        assert!(!is_believed(|message| {
            message.users[0].no_password = true;
            message.users[0].password_hash = "hash".into();
        }));
        assert!(AuthState::decode(Bytes::from_static(b"nonsense")).is_none());
    }
}
