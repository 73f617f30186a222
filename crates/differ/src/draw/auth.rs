//! Draws users, roles and rights, turns them on and off, and logs in. Must not know what the answers
//! ought to be.

use super::{kv, watch};
use crate::answer::Answer;
use crate::driver::{Ask, Driver};
use crate::method::{self, Method};
use bytes::Bytes;
use prost::Message;
use quorate_etcd_api::authpb::{Permission, UserAddOptions};
use quorate_etcd_api::etcdserverpb as pb;
use serde_json::Value;

const USERS: [&str; 5] = ["root", "u1", "u2", "u3", ""];
const ROLES: [&str; 5] = ["root", "r1", "r2", "r3", ""];
/// After so many operations users are turned on with every seed.
const LATE: u64 = 1_500;
/// With more of them, etcd has those of one key in any order, and a grant changes the first.
const PERMISSION_COUNT_MAX: usize = 6;
const PASSWORDS: [&str; 3] = ["secret", "other", ""];

pub(super) async fn step(driver: &mut Driver) -> anyhow::Result<()> {
    if driver.known.auth && driver.chance.one_in(12) {
        return disable(driver).await;
    }
    match driver.chance.below(40) {
        0..=2 => enable(driver).await,
        3..=7 => authenticate(driver).await,
        8 => driver.ask(&method::AUTH_STATUS, &pb::AuthStatusRequest {}).await.map(drop),
        9 => strange_token(driver).await,
        10..=25 => user(driver).await,
        _ => role(driver).await,
    }
}

fn user_name(driver: &mut Driver) -> String {
    driver.chance.of(&USERS).to_owned()
}

fn role_name(driver: &mut Driver) -> String {
    driver.chance.of(&ROLES).to_owned()
}

/// As somebody who is drawn, or as root.
async fn ask(
    driver: &mut Driver,
    method: &'static Method,
    message: &impl Message,
) -> anyhow::Result<bool> {
    let answer = if driver.chance.one_in(2) {
        driver.ask(method, message).await?
    } else {
        driver.ask_as_root(method, message).await?
    };
    Ok(answer.given().is_some())
}

async fn user(driver: &mut Driver) -> anyhow::Result<()> {
    let (name, role) = (user_name(driver), role_name(driver));
    match driver.chance.below(16) {
        0..=3 => add_user(driver, name).await,
        4 => {
            let request = pb::AuthUserDeleteRequest { name: name.clone() };
            if ask(driver, &method::USER_DELETE, &request).await? {
                driver.known.users.remove(&name);
            }
            Ok(())
        }
        5 | 6 => change_password(driver, name).await,
        7..=9 => {
            let request = pb::AuthUserGrantRoleRequest { user: name, role };
            ask(driver, &method::USER_GRANT_ROLE, &request).await.map(drop)
        }
        10 | 11 => {
            let request = pb::AuthUserRevokeRoleRequest { name, role };
            ask(driver, &method::USER_REVOKE_ROLE, &request).await.map(drop)
        }
        12..=14 => driver.ask(&method::USER_GET, &pb::AuthUserGetRequest { name }).await.map(drop),
        _ => driver.ask(&method::USER_LIST, &pb::AuthUserListRequest {}).await.map(drop),
    }
}

async fn add_user(driver: &mut Driver, name: String) -> anyhow::Result<()> {
    let password = driver.chance.of(&PASSWORDS).to_owned();
    let no_password = driver.chance.one_in(8);
    let options = driver.chance.one_in(2).then_some(UserAddOptions { no_password });
    let request = pb::AuthUserAddRequest {
        name: name.clone(),
        password: password.clone(),
        options,
        ..Default::default()
    };
    if ask(driver, &method::USER_ADD, &request).await? {
        driver.known.users.insert(name, password);
    }
    Ok(())
}

async fn change_password(driver: &mut Driver, name: String) -> anyhow::Result<()> {
    // Root's token has to go on.
    let name = if driver.known.auth && name == "root" { "u1".to_owned() } else { name };
    let password = driver.chance.of(&PASSWORDS).to_owned();
    let request = pb::AuthUserChangePasswordRequest {
        name: name.clone(),
        password: password.clone(),
        ..Default::default()
    };
    if ask(driver, &method::USER_CHANGE_PASSWORD, &request).await? {
        driver.known.users.insert(name, password);
    }
    Ok(())
}

/// A permission for keys of which some are asked for. One without a key, or whose end is not behind
/// its key, is refused by us and changes etcd's state: it is not drawn.
fn permission(driver: &mut Driver) -> Permission {
    let mut key = kv::key(&mut driver.chance);
    if key.is_empty() {
        key = Bytes::from_static(b"a");
    }
    let mut range_end = kv::range_end(&mut driver.chance, &key);
    if *range_end != *b"\0" && range_end <= key {
        range_end = Bytes::new();
    }
    let perm_type = i32::try_from(driver.chance.below(3)).unwrap_or(0);
    Permission { perm_type, key, range_end }
}

async fn role(driver: &mut Driver) -> anyhow::Result<()> {
    let name = role_name(driver);
    match driver.chance.below(16) {
        0..=2 => ask(driver, &method::ROLE_ADD, &pb::AuthRoleAddRequest { name }).await.map(drop),
        3 => {
            let request = pb::AuthRoleDeleteRequest { role: name };
            ask(driver, &method::ROLE_DELETE, &request).await.map(drop)
        }
        4..=8 => {
            if permission_count(driver, &name).await? >= PERMISSION_COUNT_MAX {
                return Ok(());
            }
            let none = driver.chance.one_in(30);
            let perm = if none { None } else { Some(permission(driver)) };
            let request = pb::AuthRoleGrantPermissionRequest { name, perm };
            ask(driver, &method::ROLE_GRANT, &request).await.map(drop)
        }
        9..=11 => {
            let Permission { key, range_end, .. } = permission(driver);
            let request = pb::AuthRoleRevokePermissionRequest { role: name, key, range_end };
            ask(driver, &method::ROLE_REVOKE, &request).await.map(drop)
        }
        12..=14 => {
            driver.ask(&method::ROLE_GET, &pb::AuthRoleGetRequest { role: name }).await.map(drop)
        }
        _ => driver.ask(&method::ROLE_LIST, &pb::AuthRoleListRequest {}).await.map(drop),
    }
}

/// How many permissions a role has, as root is told.
async fn permission_count(driver: &mut Driver, role: &str) -> anyhow::Result<usize> {
    let request = pb::AuthRoleGetRequest { role: role.to_owned() };
    let answer = driver.ask_as_root(&method::ROLE_GET, &request).await?;
    let permissions = answer.given().and_then(|given| given.get("perm")).and_then(Value::as_array);
    Ok(permissions.map_or(0, Vec::len))
}

/// Turns users on: at times as things are, mostly after making what that needs.
async fn enable(driver: &mut Driver) -> anyhow::Result<()> {
    // A stream keeps the rights that it had in etcd, and not here.
    watch::close_all(driver).await?;
    // With every second seed calls wait for their turn until the end: see `recipes`.
    let is_meant = driver.seed.is_multiple_of(2) || driver.operation_count > LATE;
    if !driver.known.auth && is_meant && !driver.chance.one_in(4) {
        for name in ["root", "u1", "u2"] {
            set_up(driver, name).await?;
        }
    } else if driver.known.users.contains_key("root") {
        // It might succeed, and leave nobody who can log in as root.
        return Ok(());
    }
    let answer = driver.ask_as_root(&method::AUTH_ENABLE, &pb::AuthEnableRequest {}).await?;
    if answer.given().is_some() && !driver.known.auth {
        driver.known.auth = true;
        driver.known.was_auth = true;
        driver.known.tokens.clear();
        for name in ["root", "u1", "u2"] {
            log_in(driver, name.to_owned(), "secret".to_owned()).await?;
        }
    }
    Ok(())
}

/// A user with a role of its own and the password that is known.
async fn set_up(driver: &mut Driver, name: &str) -> anyhow::Result<()> {
    let role = if name == "root" { "root" } else { "r1" };
    let (name, role) = (name.to_owned(), role.to_owned());
    let password = "secret".to_owned();
    driver
        .ask_as_root(&method::USER_DELETE, &pb::AuthUserDeleteRequest { name: name.clone() })
        .await?;
    let request = pb::AuthUserAddRequest {
        name: name.clone(),
        password: password.clone(),
        ..Default::default()
    };
    driver.ask_as_root(&method::USER_ADD, &request).await?;
    driver.ask_as_root(&method::ROLE_ADD, &pb::AuthRoleAddRequest { name: role.clone() }).await?;
    let request = pb::AuthUserGrantRoleRequest { user: name.clone(), role };
    driver.ask_as_root(&method::USER_GRANT_ROLE, &request).await?;
    driver.known.users.insert(name, password);
    Ok(())
}

async fn disable(driver: &mut Driver) -> anyhow::Result<()> {
    // A token that has ended is asked for by etcd although users are off.
    watch::close_all(driver).await?;
    if driver.chance.one_in(4) {
        // Mostly nobody who may.
        let answer = driver.ask(&method::AUTH_DISABLE, &pb::AuthDisableRequest {}).await?;
        note_disabled(driver, &answer);
        return Ok(());
    }
    let answer = driver.ask_as_root(&method::AUTH_DISABLE, &pb::AuthDisableRequest {}).await?;
    note_disabled(driver, &answer);
    Ok(())
}

fn note_disabled(driver: &mut Driver, answer: &Answer) {
    if answer.given().is_some() {
        driver.known.auth = false;
        driver.known.tokens.clear();
    }
}

async fn authenticate(driver: &mut Driver) -> anyhow::Result<()> {
    let name = user_name(driver);
    let known = driver.known.users.get(&name).cloned().unwrap_or_default();
    let password =
        if driver.chance.one_in(4) { driver.chance.of(&PASSWORDS).to_owned() } else { known };
    log_in(driver, name, password).await
}

async fn log_in(driver: &mut Driver, name: String, password: String) -> anyhow::Result<()> {
    let request = pb::AuthenticateRequest { name: name.clone(), password };
    let mut ask = Ask::new(&method::AUTHENTICATE, &request);
    ask.by_gateway = driver.chance.one_in(4);
    let answer = driver.carry_out(ask).await?;
    if let Some(token) = answer.text("/token") {
        driver.known.tokens.insert(name, token.to_owned());
    }
    Ok(())
}

/// A token that nobody was given, whether or not anybody asks for one.
async fn strange_token(driver: &mut Driver) -> anyhow::Result<()> {
    let request = kv::range_request(&mut driver.chance, &driver.known);
    let mut ask = Ask::new(&method::RANGE, &request);
    let token = driver.chance.of(&["", "x", "abcdefghijklmnop.1", "Bearer abc"]);
    (ask.user, ask.token) = ("a stranger".to_owned(), Some(token.to_owned()));
    driver.carry_out(ask).await.map(drop)
}
