//! What the commands about users and roles answer: etcd 3.5.1's answers, and where those of a later
//! etcd are safer, these.

use crate::*;
use quorate_kv::auth::AUTH_BYTES_MAX;

pub(crate) fn authenticate(name: &str, auth_revision: u64) -> AuthRequestKind {
    let (name, token_prefix) = (name.to_owned(), "abcdefgh".to_owned());
    AuthRequestKind::Authenticate(AuthenticateRequest { name, token_prefix, auth_revision })
}

fn delete_user(name: &str) -> AuthRequestKind {
    AuthRequestKind::UserDelete(UserDeleteRequest { name: name.to_owned() })
}

fn delete_role(role: &str) -> AuthRequestKind {
    AuthRequestKind::RoleDelete(RoleDeleteRequest { role: role.to_owned() })
}

fn change_password(name: &str, hash: &'static str) -> AuthRequestKind {
    let (name, password_hash) = (name.to_owned(), hash.into());
    AuthRequestKind::UserChangePassword(UserChangePasswordRequest { name, password_hash })
}

fn forbid(role: &str, key: &'static str, range_end: &'static str) -> AuthRequestKind {
    let (role, key, range_end) = (role.to_owned(), key.into(), range_end.into());
    AuthRequestKind::RoleRevokePermission(RoleRevokePermissionRequest { role, key, range_end })
}

fn read(key: &str, range_end: &str) -> AuthRequestKind {
    permit("letters", PermissionType::Read, key, range_end)
}

/// Carries out the commands, each of which gives this, and says how far the revision rose.
#[track_caller]
fn expect(store: &mut Store, cases: &[(AuthRequestKind, Result<u64, AuthError>)]) {
    for (kind, expected) in cases {
        let before = store.reader.auth();
        let got = store.change(kind.clone());
        let expected = expected.map_err(OpError::Auth);
        let rise = got.map(|reply| reply.auth_revision - before.revision());
        assert_eq!(rise, expected, "{kind:?}");
        let after = store.reader.auth();
        let has_changed = *after != *before;
        assert!(expected.is_ok() || !has_changed, "what is refused changes nothing: {kind:?}");
    }
}

#[test]
fn it_takes_a_root_to_enable_and_the_revision_does_not_rise() {
    let mut store = Store::new();
    assert_eq!(store.reader.auth().revision(), 1);
    expect(
        &mut store,
        &[
            (disable(), Ok(0)),
            (enable(), Err(AuthError::RootUserNotFound)),
            (add_user("root"), Ok(1)),
            (enable(), Err(AuthError::RootWithoutRole)),
            (grant_role("root", "root"), Ok(1)),
            (enable(), Ok(0)),
            (enable(), Ok(0)),
            (disable(), Ok(1)),
            (disable(), Ok(0)),
        ],
    );
}

#[test]
fn root_stays_root_while_users_are_asked() {
    let mut store = guarded();
    let invalid = || Err(AuthError::InvalidManagement);
    expect(
        &mut store,
        &[
            (delete_user("root"), invalid()),
            (revoke_role("root", "root"), invalid()),
            (delete_role("root"), invalid()),
            (grant_role("alice", "root"), Ok(1)),
            (revoke_role("alice", "root"), Ok(1)),
            (disable(), Ok(1)),
            (delete_role("root"), Err(AuthError::RoleNotFound)),
            (revoke_role("root", "root"), Ok(1)),
            (delete_user("root"), Ok(1)),
            (delete_user("root"), Err(AuthError::UserNotFound)),
        ],
    );
}

#[test]
fn users_are_made_changed_and_removed() {
    let mut store = guarded();
    let not_found = || Err(AuthError::UserNotFound);
    let without =
        UserAddRequest { name: "cn".into(), password_hash: "x".into(), no_password: true };
    expect(
        &mut store,
        &[
            (add_user(""), Err(AuthError::UserEmpty)),
            (add_user("alice"), Err(AuthError::UserExists)),
            (AuthRequestKind::UserAdd(without), Ok(1)),
            (change_password("cn", "hash"), Ok(1)),
            (change_password("alice", ""), Ok(1)),
            (change_password("ghost", "hash"), not_found()),
            (delete_user("ghost"), not_found()),
            (grant_role("ghost", "letters"), not_found()),
            (revoke_role("ghost", "letters"), not_found()),
            (grant_role("alice", "ghost"), Err(AuthError::RoleNotFound)),
            (grant_role("alice", "letters"), Ok(0)),
            (revoke_role("alice", "ghost"), Err(AuthError::RoleNotGranted)),
            (revoke_role("alice", "letters"), Ok(1)),
            (revoke_role("alice", "letters"), Err(AuthError::RoleNotGranted)),
        ],
    );
    let state = store.reader.auth();
    let (cn, alice) = (state.user("cn").unwrap(), state.user("alice").unwrap());
    assert!(cn.has_no_password() && cn.password_hash().is_empty());
    assert!(!alice.has_no_password() && alice.password_hash().is_empty());
    assert!(state.users().map(|(name, _)| name).eq(["alice", "cn", "root"]));
}

#[test]
fn roles_are_made_changed_and_removed_from_their_users() {
    let mut store = guarded();
    let not_found = || Err(AuthError::RoleNotFound);
    let nothing = RoleGrantPermissionRequest { name: "ghost".into(), permission: None };
    expect(
        &mut store,
        &[
            (add_role(""), Err(AuthError::RoleEmpty)),
            (add_role("letters"), Err(AuthError::RoleExists)),
            (AuthRequestKind::RoleGrantPermission(nothing), Err(AuthError::PermissionNotGiven)),
            (permit("ghost", PermissionType::Read, "", ""), Err(AuthError::InvalidManagement)),
            (permit("ghost", PermissionType::Read, "a", ""), not_found()),
            (read("b", "b"), Err(AuthError::InvalidManagement)),
            (read("b", "a"), Err(AuthError::InvalidManagement)),
            (read("", "\0"), Err(AuthError::InvalidManagement)),
            (read("b", "\0"), Ok(1)),
            (forbid("ghost", "b", ""), not_found()),
            (forbid("letters", "b", ""), Err(AuthError::PermissionNotGranted)),
            (forbid("letters", "b", "\0"), Ok(1)),
            (delete_role("ghost"), not_found()),
            (delete_role("letters"), Ok(1)),
            (add_role("root"), Ok(1)),
        ],
    );
    let state = store.reader.auth();
    assert_eq!(state.user("alice").unwrap().roles().count(), 0);
    assert!(state.roles().map(|(name, _)| name).eq(["root"]));
}

#[test]
fn permissions_are_kept_as_etcd_lists_them() {
    let mut store = guarded();
    let listed = |store: &Store| -> Vec<(i32, String)> {
        let state = store.reader.auth();
        let text = |one: &Permission| String::from_utf8([&one.key[..], &one.range_end].concat());
        let permissions = state.role("letters").unwrap().permissions();
        permissions.iter().map(|one| (one.perm_type, text(one).unwrap())).collect()
    };
    let list = |list: &[(i32, &str)]| -> Vec<(i32, String)> {
        list.iter().map(|(perm_type, text)| (*perm_type, (*text).to_owned())).collect()
    };
    for kind in [read("a", "c"), read("b", ""), read("a", ""), read("a", "")] {
        store.change(kind).unwrap();
    }
    let twice = list(&[(0, "ac"), (0, "a"), (0, "a"), (0, "b")]);
    assert_eq!(listed(&store), twice, "only the first of a key is ever replaced");
    store.change(forbid("letters", "a", "")).unwrap();
    assert_eq!(listed(&store), list(&[(0, "ac"), (0, "b")]));
}

#[test]
fn a_token_is_made_for_who_has_a_password_while_users_are_asked() {
    let mut store = guarded();
    let no_password = UserAddRequest { name: "cn".into(), no_password: true, ..Default::default() };
    store.change(AuthRequestKind::UserAdd(no_password)).unwrap();
    let now = store.reader.auth().revision();
    let mut malformed = |prefix: &str| {
        let (name, token_prefix) = ("alice".to_owned(), prefix.to_owned());
        let request = AuthenticateRequest { name, token_prefix, auth_revision: now };
        store.change_by(None, AuthRequestKind::Authenticate(request)).err()
    };
    for prefix in ["", "a.b", "a b", &"x".repeat(65)] {
        assert_eq!(malformed(prefix), Some(OpError::MalformedCommand));
    }
    expect(
        &mut store,
        &[
            (authenticate("cn", now), Err(AuthError::Failed)),
            (authenticate("ghost", now), Err(AuthError::Failed)),
            (authenticate("alice", now - 1), Err(AuthError::OldRevision)),
            (authenticate("alice", now + 1), Err(AuthError::OldRevision)),
            (authenticate("alice", now), Ok(0)),
            (disable(), Ok(1)),
            (authenticate("alice", now + 1), Err(AuthError::NotEnabled)),
        ],
    );
}

#[test]
fn users_and_roles_have_a_limit_and_can_shrink_beyond_it() {
    let mut store = guarded();
    let part = AUTH_BYTES_MAX / 4;
    let large = |name: &str, size: usize| {
        let (name, password_hash) = (name.to_owned(), vec![b'x'; size].into());
        AuthRequestKind::UserAdd(UserAddRequest { name, password_hash, no_password: false })
    };
    for name in ["a", "b", "c"] {
        store.change(large(name, part)).unwrap();
    }
    let too_large = Err(OpError::Auth(AuthError::TooLarge));
    assert_eq!(store.change(large("d", part)), too_large);
    store.change(large("d", part - 1024)).unwrap();
    let key = "k".repeat(1024);
    assert_eq!(store.change(read(&key, "")), too_large);
    store.change(change_password("a", "")).unwrap();
    store.change(delete_user("b")).unwrap();
    store.change(read(&key, "")).unwrap();
    let state = store.reader.auth();
    store.restart();
    assert_eq!(store.reader.auth(), state, "what is counted is what is there");
}
