//! Users, roles, keys and what changes them, drawn: for every test that judges rights key by key. The
//! tests of the server's watches have it, too.

use super::reference::KEYS;
use bytes::Bytes;
use proptest::prelude::*;
use quorate_kv::auth::api::*;

pub(crate) const USERS: [&str; 4] = ["alice", "bob", "carol", "root"];
pub(crate) const ROLES: [&str; 4] = ["one", "two", "three", "root"];

pub(crate) fn name_of(names: [&'static str; 4]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(names.to_vec())
}

pub(crate) fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(&KEYS[..]).prop_map(|key| Bytes::from_static(key.as_bytes()))
}

pub(crate) fn range() -> impl Strategy<Value = (Bytes, Bytes)> {
    let after = |key: Bytes| [key.as_ref(), b"\0"].concat().into();
    let end = prop_oneof![
        5 => Just(Bytes::new()),
        1 => Just(Bytes::from_static(b"\0")),
        3 => key(),
        1 => key().prop_map(after),
    ];
    (key(), end)
}

fn permission() -> impl Strategy<Value = Permission> {
    (0..4_i32, range()).prop_map(|(perm_type, (key, range_end))| Permission {
        perm_type,
        key,
        range_end,
    })
}

pub(crate) fn change() -> impl Strategy<Value = AuthRequestKind> {
    use AuthRequestKind as Kind;
    let (user, role) = (|| name_of(USERS).prop_map(str::to_owned), || name_of(ROLES));
    let pair = move || {
        (user(), role()).prop_map(|(user, role)| UserRoleRequest { user, role: role.to_owned() })
    };
    let named = move || role().prop_map(str::to_owned);
    prop_oneof![
        2 => Just(Kind::Enable(EnableRequest {})),
        1 => Just(Kind::Disable(DisableRequest {})),
        2 => (user(), any::<bool>()).prop_map(|(name, no_password)| {
            Kind::UserAdd(UserAddRequest { name, no_password, password_hash: "hash".into() })
        }),
        1 => user().prop_map(|name| Kind::UserDelete(UserDeleteRequest { name })),
        1 => user().prop_map(|name| {
            Kind::UserChangePassword(UserChangePasswordRequest { name, ..Default::default() })
        }),
        4 => pair().prop_map(Kind::UserGrantRole),
        2 => pair().prop_map(Kind::UserRevokeRole),
        2 => named().prop_map(|name| Kind::RoleAdd(RoleAddRequest { name })),
        1 => named().prop_map(|role| Kind::RoleDelete(RoleDeleteRequest { role })),
        8 => (named(), permission()).prop_map(|(name, permission)| {
            let permission = Some(permission);
            Kind::RoleGrantPermission(RoleGrantPermissionRequest { name, permission })
        }),
        4 => (named(), range()).prop_map(|(role, (key, range_end))| {
            Kind::RoleRevokePermission(RoleRevokePermissionRequest { role, key, range_end })
        }),
        1 => (user(), 1..9_u64).prop_map(|(name, auth_revision)| {
            let token_prefix = "abc".to_owned();
            Kind::Authenticate(AuthenticateRequest { name, token_prefix, auth_revision })
        }),
    ]
}

pub(crate) fn grant() -> impl Strategy<Value = AuthRequestKind> {
    (name_of(ROLES), permission()).prop_map(|(role, permission)| {
        let (name, permission) = (role.to_owned(), Some(permission));
        AuthRequestKind::RoleGrantPermission(RoleGrantPermissionRequest { name, permission })
    })
}
