//! `quorate user`: who there is. What it prints is what etcdctl prints. A password comes from a flag, from
//! standard input, or from the terminal; it is shown nowhere.

use super::ask;
use super::connection::{Connection, Format, Kind, Live};
use super::login::Secret;
use super::role::show_in_detail;
use super::{ClientVerb, fields, json};
use crate::output::Table;
use anyhow::ensure;
use quorate_etcd_api::authpb::UserAddOptions;
use quorate_etcd_api::etcdserverpb::{
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest, ResponseHeader,
};
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  quorate user add alice                     asks for a password
  quorate user add web --no-password         known by the name in its certificate
  quorate user grant-role alice reader
  quorate user get alice --detail            with what her roles permit
  quorate user passwd alice";

/// Shows who may log in, and changes it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct User {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Makes a user
    Add(Add),
    /// Removes a user
    Delete(Named),
    /// Shows a user's roles
    Get(Get),
    /// Shows all users
    List(Options),
    /// Replaces a user's password
    Passwd(Passwd),
    /// Gives a role to a user
    GrantRole(WithRole),
    /// Takes a role from a user
    RevokeRole(WithRole),
}

#[derive(Debug, clap::Args)]
struct Options {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
struct Named {
    /// Who
    #[arg(id = "user-name", value_name = "NAME")]
    name: String,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
struct Add {
    /// What to call them; with a colon behind it, the password: others see it on the command line
    #[arg(id = "user-name", value_name = "NAME[:PASSWORD]")]
    name: Secret,
    /// The password
    #[arg(long, value_name = "PASSWORD", conflicts_with = "no_password")]
    new_user_password: Option<Secret>,
    /// They have none, and are known by the name in their certificate
    #[arg(long)]
    no_password: bool,
    /// Ask at the terminal; otherwise a line of standard input is the password
    #[arg(long, action = clap::ArgAction::Set, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    interactive: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
struct Get {
    /// Who
    #[arg(id = "user-name", value_name = "NAME")]
    name: String,
    /// What their roles permit, too
    #[arg(long)]
    detail: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
struct Passwd {
    /// Whose
    #[arg(id = "user-name", value_name = "NAME")]
    name: String,
    /// Ask at the terminal; otherwise a line of standard input is the password
    #[arg(long, action = clap::ArgAction::Set, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    interactive: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
struct WithRole {
    /// Who
    #[arg(id = "user-name", value_name = "NAME")]
    name: String,
    /// Which role
    #[arg(id = "role-name", value_name = "ROLE")]
    role: String,
    #[command(flatten)]
    connection: Connection,
}

impl ClientVerb for User {
    async fn execute(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::Add(verb) => verb.run().await,
            Verb::Delete(verb) => delete(verb).await,
            Verb::Get(verb) => verb.run().await,
            Verb::List(verb) => list(&verb.connection).await,
            Verb::Passwd(verb) => verb.run().await,
            Verb::GrantRole(verb) => grant(verb).await,
            Verb::RevokeRole(verb) => revoke(verb).await,
        }
    }
}

impl Add {
    async fn run(self) -> anyhow::Result<()> {
        let (name, password) = self.name_and_password()?;
        let live = self.connection.live().await?;
        let mut auth = live.auth();
        let request = AuthUserAddRequest {
            name: name.clone(),
            password: password.expose().to_owned(),
            options: Some(UserAddOptions { no_password: self.no_password }),
            ..Default::default()
        };
        let call = auth.user_add(self.connection.request(request));
        let response = self.connection.answer(&live, Kind::Write, call).await?;
        done(&self.connection, response.header.as_ref(), &format!("User {name} created"))
    }

    /// As in etcdctl: behind a colon only where nothing else says it.
    fn name_and_password(&self) -> anyhow::Result<(String, Secret)> {
        let given = self.name.expose();
        let none = Secret::default();
        let (name, password) = match (self.no_password, &self.new_user_password) {
            (true, _) => (given, Some(none)),
            (false, Some(password)) => (given, Some(password.clone())),
            (false, None) => match given.split_once(':') {
                Some((name, password)) => (name, Some(password.to_owned().into())),
                None => (given, None),
            },
        };
        ensure!(!name.is_empty(), "expected a user's name, found an empty one");
        let password = match password {
            Some(password) => password,
            None => new_password(name, self.interactive)?,
        };
        Ok((name.to_owned(), password))
    }
}

impl Passwd {
    async fn run(self) -> anyhow::Result<()> {
        let password = new_password(&self.name, self.interactive)?;
        let live = self.connection.live().await?;
        let mut auth = live.auth();
        let request = AuthUserChangePasswordRequest {
            name: self.name,
            password: password.expose().to_owned(),
            ..Default::default()
        };
        let call = auth.user_change_password(self.connection.request(request));
        let response = self.connection.answer(&live, Kind::Write, call).await?;
        done(&self.connection, response.header.as_ref(), "Password updated")
    }
}

/// At the terminal it is asked for twice: nobody sees what they type.
fn new_password(name: &str, interactive: bool) -> anyhow::Result<Secret> {
    let password = if interactive {
        let first = ask::ask(&format!("Password of {name}: "))?;
        let again = ask::ask(&format!("Type password of {name} again for confirmation: "))?;
        ensure!(first == again, "the two passwords differ");
        first
    } else {
        ask::read()?
    };
    ensure!(!password.expose().is_empty(), "empty password");
    Ok(password)
}

impl Get {
    async fn run(self) -> anyhow::Result<()> {
        let connection = &self.connection;
        let live = connection.live().await?;
        let mut auth = live.auth();
        let call =
            auth.user_get(connection.request(AuthUserGetRequest { name: self.name.clone() }));
        let response = connection.answer(&live, Kind::Read, call).await?;
        let (header, roles) = (response.header.as_ref(), &response.roles);
        if self.detail {
            return self.detail(&live, roles).await;
        }
        match connection.write_out {
            Format::Json => json::print(&json::with_header(header, json!({ "roles": roles }))),
            Format::Fields => {
                fields::header(header);
                fields::names("Roles", roles);
                Ok(())
            }
            Format::Simple | Format::Table => {
                println!("User: {}", self.name);
                println!(
                    "{}",
                    ["Roles:"]
                        .into_iter()
                        .chain(roles.iter().map(String::as_str))
                        .collect::<Vec<_>>()
                        .join(" ")
                );
                Ok(())
            }
        }
    }

    /// In every form the name comes first, as in etcdctl, and then what each role permits.
    async fn detail(&self, live: &Live, roles: &[String]) -> anyhow::Result<()> {
        println!("User: {}", self.name);
        for role in roles {
            show_in_detail(&self.connection, live, role).await?;
        }
        Ok(())
    }
}

async fn delete(verb: Named) -> anyhow::Result<()> {
    let Named { name, connection } = verb;
    let live = connection.live().await?;
    let mut auth = live.auth();
    let call = auth.user_delete(connection.request(AuthUserDeleteRequest { name: name.clone() }));
    let response = connection.answer(&live, Kind::Write, call).await?;
    done(&connection, response.header.as_ref(), &format!("User {name} deleted"))
}

async fn list(connection: &Connection) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let mut auth = live.auth();
    let call = auth.user_list(connection.request(AuthUserListRequest {}));
    let response = connection.answer(&live, Kind::Read, call).await?;
    let (header, users) = (response.header.as_ref(), &response.users);
    match connection.write_out {
        Format::Json => json::print(&json::with_header(header, json!({ "users": users }))),
        Format::Fields => {
            fields::header(header);
            fields::names("Users", users);
            Ok(())
        }
        Format::Simple => {
            for user in users {
                println!("{user}");
            }
            Ok(())
        }
        Format::Table => list_with_roles(connection, &live, users).await,
    }
}

async fn list_with_roles(
    connection: &Connection,
    live: &Live,
    users: &[String],
) -> anyhow::Result<()> {
    let mut table = Table::new(["USER", "ROLES"]);
    let mut auth = live.auth();
    for user in users {
        let call = auth.user_get(connection.request(AuthUserGetRequest { name: user.clone() }));
        let roles = connection.answer(live, Kind::Read, call).await?.roles;
        table.row([user.clone(), roles.join(", ")]);
    }
    print!("{}", table.render());
    Ok(())
}

async fn grant(verb: WithRole) -> anyhow::Result<()> {
    let WithRole { name, role, connection } = verb;
    let live = connection.live().await?;
    let mut auth = live.auth();
    let request = AuthUserGrantRoleRequest { user: name.clone(), role: role.clone() };
    let call = auth.user_grant_role(connection.request(request));
    let response = connection.answer(&live, Kind::Write, call).await?;
    let words = format!("Role {role} is granted to user {name}");
    done(&connection, response.header.as_ref(), &words)
}

async fn revoke(verb: WithRole) -> anyhow::Result<()> {
    let WithRole { name, role, connection } = verb;
    let live = connection.live().await?;
    let mut auth = live.auth();
    let request = AuthUserRevokeRoleRequest { name: name.clone(), role: role.clone() };
    let call = auth.user_revoke_role(connection.request(request));
    let response = connection.answer(&live, Kind::Write, call).await?;
    let words = format!("Role {role} is revoked from user {name}");
    done(&connection, response.header.as_ref(), &words)
}

/// What is shown of an answer that is a header and nothing else.
pub(super) fn done(
    connection: &Connection,
    header: Option<&ResponseHeader>,
    words: &str,
) -> anyhow::Result<()> {
    match connection.write_out {
        Format::Json => return json::print(&json::with_header(header, json!({}))),
        Format::Fields => fields::header(header),
        Format::Simple | Format::Table => println!("{words}"),
    }
    Ok(())
}
