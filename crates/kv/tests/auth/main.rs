//! Users and roles: what commands make of them, who may do what with which keys, and that a crash, a
//! snapshot or a change at the last moment lets nobody through.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod claims;
#[path = "../common/mod.rs"]
mod common;
mod drawn;
mod manage;
mod model;
mod reference;
mod watches;

use common::{apply, snapshot, tiny_limits};
use prost::Message;
use quorate::core::{LogId, LogIndex, Term};
use quorate::{Committed, StateMachine};
use quorate_kv::auth::api::*;
use quorate_kv::*;
use std::sync::Arc;

/// A store, and its log.
struct Store {
    machine: KvStateMachine,
    reader: Reader,
    engine: MemoryEngine,
    next_index: u64,
}

impl Store {
    fn new() -> Self {
        Self::on(MemoryEngine::new(), 1)
    }

    fn on(engine: MemoryEngine, next_index: u64) -> Self {
        let (machine, reader) =
            open_with(Arc::new(engine.clone()), Arc::new(Inline), tiny_limits()).unwrap();
        Self { machine, reader, engine, next_index }
    }

    fn send(
        &mut self,
        caller: Option<CallerMessage>,
        kind: CommandKind,
    ) -> Result<Outcome, OpError> {
        let log_id = LogId::new(Term::new(1), LogIndex::new(self.next_index));
        self.next_index += 1;
        let command = Command { kind: Some(kind), caller }.encode_to_vec().into();
        apply(&mut self.machine, Committed { log_id, command }).into_result()
    }

    /// The cluster itself changes users and roles.
    fn change(&mut self, kind: AuthRequestKind) -> Result<AuthReply, OpError> {
        self.change_by(Some(CallerMessage::system()), kind)
    }

    fn change_by(
        &mut self,
        caller: Option<CallerMessage>,
        kind: AuthRequestKind,
    ) -> Result<AuthReply, OpError> {
        let outcome = self.send(caller, CommandKind::Auth(AuthRequest::new(kind)))?;
        let Outcome::Auth(reply) = outcome else { panic!("{outcome:?}") };
        Ok(reply)
    }

    /// A user, as it is known now, and as a command takes it.
    #[allow(clippy::unnecessary_wraps)]
    fn user(&self, name: &str) -> Option<CallerMessage> {
        Some(CallerMessage::user(name, self.reader.auth().revision()))
    }

    fn access(&self, name: &str) -> Access {
        Access::from(self.user(name))
    }

    /// A restart that finds all of it.
    fn restart(&mut self) {
        self.machine.flush().unwrap();
        *self = Self::on(self.engine.after_crash(), self.next_index);
    }

    /// Another store that took this one over.
    fn copied(&self) -> Self {
        Self::restored(self.next_index, &snapshot(&self.machine))
    }

    fn restored(next_index: u64, snapshot: &[u8]) -> Self {
        let mut other = Self::new();
        let last_included = LogId::new(Term::new(1), LogIndex::new(next_index - 1));
        other.machine.restore(last_included, &mut &*snapshot).unwrap();
        other.next_index = next_index;
        other
    }
}

fn add_user(name: &str) -> AuthRequestKind {
    let (name, password_hash) = (name.to_owned(), "the hash".into());
    AuthRequestKind::UserAdd(UserAddRequest { name, password_hash, no_password: false })
}

fn add_role(name: &str) -> AuthRequestKind {
    AuthRequestKind::RoleAdd(RoleAddRequest { name: name.to_owned() })
}

fn pair(user: &str, role: &str) -> UserRoleRequest {
    UserRoleRequest { user: user.to_owned(), role: role.to_owned() }
}

fn grant_role(user: &str, role: &str) -> AuthRequestKind {
    AuthRequestKind::UserGrantRole(pair(user, role))
}

fn revoke_role(user: &str, role: &str) -> AuthRequestKind {
    AuthRequestKind::UserRevokeRole(pair(user, role))
}

fn permit(role: &str, perm_type: PermissionType, key: &str, range_end: &str) -> AuthRequestKind {
    let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
    let permission = Some(Permission { perm_type: perm_type.into(), key, range_end });
    let name = role.to_owned();
    AuthRequestKind::RoleGrantPermission(RoleGrantPermissionRequest { name, permission })
}

const fn enable() -> AuthRequestKind {
    AuthRequestKind::Enable(EnableRequest {})
}

const fn disable() -> AuthRequestKind {
    AuthRequestKind::Disable(DisableRequest {})
}

/// Users are asked: root, and alice, who may read and write what lies from `a` to before `c`.
fn guarded() -> Store {
    let mut store = Store::new();
    for name in ["root", "alice"] {
        store.change(add_user(name)).unwrap();
    }
    store.change(grant_role("root", "root")).unwrap();
    store.change(add_role("letters")).unwrap();
    store.change(permit("letters", PermissionType::ReadWrite, "a", "c")).unwrap();
    store.change(grant_role("alice", "letters")).unwrap();
    store.change(enable()).unwrap();
    store
}
