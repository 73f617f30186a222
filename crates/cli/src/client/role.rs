//! `quorate role`: what is permitted to whom has a role. What it prints is what etcdctl prints.

use super::connection::{Connection, Format, Kind, Live};
use super::user::done;
use super::{ClientVerb, KeyRange, OPEN_END, fields, json, prefix_end};
use crate::output::Table;
use anyhow::ensure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::ValueEnum;
use quorate_etcd_api::authpb::Permission;
use quorate_etcd_api::authpb::permission::Type;
use quorate_etcd_api::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGetResponse,
    AuthRoleGrantPermissionRequest, AuthRoleListRequest, AuthRoleRevokePermissionRequest,
};
use serde_json::json;
use std::ffi::OsString;
use std::fmt::Write as _;

const EXAMPLES: &str = "\
Examples:
  quorate role add reader
  quorate role grant-permission reader read --prefix user/     every key that starts with user/
  quorate role grant-permission reader readwrite a c           from a up to, not including, c
  quorate role get reader
  quorate role revoke-permission reader --prefix user/";

/// Shows what roles permit, and changes it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Role {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Makes a role, which permits nothing yet
    Add(Named),
    /// Removes a role, from its users too
    Delete(Named),
    /// Shows what a role permits
    Get(Named),
    /// Shows all roles
    List(Options),
    /// Lets a role permit more
    GrantPermission(Grant),
    /// Lets a role permit less
    RevokePermission(Revoke),
}

#[derive(Debug, clap::Args)]
struct Options {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
struct Named {
    /// Which role
    #[arg(id = "role-name", value_name = "ROLE")]
    name: String,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Right {
    Read,
    Write,
    Readwrite,
}

/// Of which keys.
#[derive(Debug, clap::Args)]
struct Keys {
    /// Which key, or the first of a range
    #[arg(value_name = "KEY")]
    key: OsString,
    /// The first key after the range
    #[arg(value_name = "RANGE_END", conflicts_with_all = ["prefix", "from_key"])]
    range_end: Option<OsString>,
    /// Every key that starts with KEY
    #[arg(long, conflicts_with = "from_key")]
    prefix: bool,
    /// Every key from KEY on
    #[arg(long)]
    from_key: bool,
}

#[derive(Debug, clap::Args)]
struct Grant {
    /// Which role
    #[arg(id = "role-name", value_name = "ROLE")]
    name: String,
    /// What may be done
    #[arg(value_enum, ignore_case = true, value_name = "RIGHT")]
    right: Right,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
struct Revoke {
    /// Which role
    #[arg(id = "role-name", value_name = "ROLE")]
    name: String,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    connection: Connection,
}

impl ClientVerb for Role {
    async fn execute(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::Add(verb) => add(verb).await,
            Verb::Delete(verb) => delete(verb).await,
            Verb::Get(verb) => get(verb).await,
            Verb::List(verb) => list(&verb.connection).await,
            Verb::GrantPermission(verb) => verb.run().await,
            Verb::RevokePermission(verb) => verb.run().await,
        }
    }
}

impl Keys {
    fn range(&self) -> KeyRange {
        KeyRange::new(&self.key, self.range_end.as_ref(), self.prefix, self.from_key)
    }
}

impl Grant {
    async fn run(self) -> anyhow::Result<()> {
        let Self { name, right, keys, connection } = self;
        let KeyRange { key, range_end } = keys.range();
        let perm_type = match right {
            Right::Read => Type::Read,
            Right::Write => Type::Write,
            Right::Readwrite => Type::Readwrite,
        };
        let perm = Some(Permission { perm_type: perm_type.into(), key, range_end });
        let live = connection.live().await?;
        let mut auth = live.auth();
        let request = AuthRoleGrantPermissionRequest { name: name.clone(), perm };
        let call = auth.role_grant_permission(connection.request(request));
        let response = connection.answer(&live, Kind::Write, call).await?;
        done(&connection, response.header.as_ref(), &format!("Role {name} updated"))
    }
}

impl Revoke {
    async fn run(self) -> anyhow::Result<()> {
        let Self { name: role, keys, connection } = self;
        let KeyRange { key, range_end } = keys.range();
        let words = revoked(&role, &key, &range_end);
        let live = connection.live().await?;
        let mut auth = live.auth();
        let request = AuthRoleRevokePermissionRequest { role, key, range_end };
        let call = auth.role_revoke_permission(connection.request(request));
        let response = connection.answer(&live, Kind::Write, call).await?;
        done(&connection, response.header.as_ref(), &words)
    }
}

fn revoked(role: &str, key: &Bytes, range_end: &Bytes) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    if range_end.is_empty() {
        return format!("Permission of key {} is revoked from role {role}", text(key));
    }
    let end = if range_end == OPEN_END {
        "<open ended>".to_owned()
    } else {
        format!("{})", text(range_end))
    };
    format!("Permission of range [{}, {end} is revoked from role {role}", text(key))
}

async fn add(verb: Named) -> anyhow::Result<()> {
    let Named { name, connection } = verb;
    let live = connection.live().await?;
    let mut auth = live.auth();
    let call = auth.role_add(connection.request(AuthRoleAddRequest { name: name.clone() }));
    let response = connection.answer(&live, Kind::Write, call).await?;
    done(&connection, response.header.as_ref(), &format!("Role {name} created"))
}

async fn delete(verb: Named) -> anyhow::Result<()> {
    let Named { name, connection } = verb;
    let live = connection.live().await?;
    let mut auth = live.auth();
    let call = auth.role_delete(connection.request(AuthRoleDeleteRequest { role: name.clone() }));
    let response = connection.answer(&live, Kind::Write, call).await?;
    done(&connection, response.header.as_ref(), &format!("Role {name} deleted"))
}

async fn get(verb: Named) -> anyhow::Result<()> {
    let Named { name, connection } = verb;
    let live = connection.live().await?;
    let mut auth = live.auth();
    let call = auth.role_get(connection.request(AuthRoleGetRequest { role: name.clone() }));
    let response = connection.answer(&live, Kind::Read, call).await?;
    show(&connection, &name, &response)
}

fn show(connection: &Connection, name: &str, response: &AuthRoleGetResponse) -> anyhow::Result<()> {
    let (header, permissions) = (response.header.as_ref(), &response.perm);
    match connection.write_out {
        Format::Json => {
            let permissions: Vec<_> = permissions.iter().map(as_json).collect();
            json::print(&json::with_header(header, json!({ "perm": permissions })))?;
        }
        Format::Fields => {
            fields::header(header);
            permissions.iter().for_each(as_fields);
        }
        Format::Table => print!("{}", as_table(permissions).render()),
        Format::Simple => print!("Role {name}\n{}", as_text(permissions)),
    }
    Ok(())
}

async fn list(connection: &Connection) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let mut auth = live.auth();
    let call = auth.role_list(connection.request(AuthRoleListRequest {}));
    let response = connection.answer(&live, Kind::Read, call).await?;
    let (header, roles) = (response.header.as_ref(), &response.roles);
    match connection.write_out {
        Format::Json => json::print(&json::with_header(header, json!({ "roles": roles }))),
        Format::Fields => {
            fields::header(header);
            fields::names("Roles", roles);
            Ok(())
        }
        Format::Simple | Format::Table => {
            for role in roles {
                println!("{role}");
            }
            Ok(())
        }
    }
}

/// Shows what a role of a user permits.
pub(super) async fn show_in_detail(
    connection: &Connection,
    live: &Live,
    role: &str,
) -> anyhow::Result<()> {
    ensure!(!role.is_empty(), "expected a role's name, found an empty one");
    let mut auth = live.auth();
    let call = auth.role_get(connection.request(AuthRoleGetRequest { role: role.to_owned() }));
    let response = connection.answer(live, Kind::Read, call).await?;
    println!();
    if connection.write_out == Format::Table {
        print!("Role {role}\n{}", as_text(&response.perm));
        return Ok(());
    }
    show(connection, role, &response)
}

fn may(permission: &Permission, right: Type) -> bool {
    permission.perm_type() == right || permission.perm_type() == Type::Readwrite
}

fn as_text(permissions: &[Permission]) -> String {
    let mut text = String::new();
    for (heading, right) in [("KV Read:", Type::Read), ("KV Write:", Type::Write)] {
        let _ = writeln!(text, "{heading}");
        for permission in permissions.iter().filter(|permission| may(permission, right)) {
            let _ = writeln!(text, "\t{}", range_text(permission));
        }
    }
    text
}

fn range_text(permission: &Permission) -> String {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (key, end) = (&permission.key, &permission.range_end);
    if end.is_empty() {
        return shown(key);
    }
    if end.as_ref() == OPEN_END {
        return format!("[{}, <open ended>", shown(key));
    }
    let range = format!("[{}, {})", shown(key), shown(end));
    if prefix_end(key) == end { format!("{range} (prefix {})", shown(key)) } else { range }
}

fn as_table(permissions: &[Permission]) -> Table {
    let mut table = Table::new(["KEYS", "READ", "WRITE"]);
    for permission in permissions {
        let yes = |right| if may(permission, right) { "yes" } else { "-" }.to_owned();
        let keys: String = range_text(permission).chars().flat_map(char::escape_debug).collect();
        table.row([keys, yes(Type::Read), yes(Type::Write)]);
    }
    table
}

fn as_json(permission: &Permission) -> serde_json::Value {
    json::brief(json!({
        "permType": permission.perm_type,
        "key": STANDARD.encode(&permission.key),
        "range_end": STANDARD.encode(&permission.range_end),
    }))
}

fn as_fields(permission: &Permission) {
    // Two blanks, as etcdctl has it.
    fields::field("PermType", format_args!(" {}", permission.perm_type().as_str_name()));
    fields::quoted("Key", &permission.key);
    fields::quoted("RangeEnd", &permission.range_end);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(perm_type: Type, key: &'static str, range_end: &'static str) -> Permission {
        let (key, range_end) = (key.into(), range_end.into());
        Permission { perm_type: perm_type.into(), key, range_end }
    }

    #[test]
    fn permissions_look_as_etcdctl_prints_them() {
        let permissions = [
            permission(Type::Read, "\0", "\0"),
            permission(Type::Readwrite, "a", "c"),
            permission(Type::Read, "foo", "fop"),
            permission(Type::Write, "k", ""),
        ];
        let expected = "KV Read:\n\t[\0, <open ended>\n\t[a, c)\n\t[foo, fop) (prefix foo)\n\
                        KV Write:\n\t[a, c)\n\tk\n";
        assert_eq!(as_text(&permissions), expected);
    }

    #[test]
    fn what_was_revoked_is_named_as_etcdctl_names_it() {
        for (key, end, words) in
            [("k", "", "key k"), ("a", "c", "range [a, c)"), ("x", "\0", "range [x, <open ended>")]
        {
            let expected = format!("Permission of {words} is revoked from role r");
            assert_eq!(revoked("r", &key.into(), &end.into()), expected);
        }
    }
}
