//! `quorate auth`: whether everybody is asked who they are. What it prints is what etcdctl prints.

use super::connection::{Connection, Format, Kind, Refused};
use super::{ClientVerb, fields, json};
use quorate_etcd_api::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthStatusRequest,
    AuthUserGrantRoleRequest,
};
use serde_json::json;

/// The user and the role without which nobody can be asked.
const ROOT: &str = "root";

const EXAMPLES: &str = "\
Examples:
  quorate user add root                      asks for a password
  quorate auth enable                        from now on everybody says who they are:
  quorate get greeting --user root           asks for the password; QUORATE_PASSWORD has it, too
  quorate auth status --user root";

/// Asks everybody who they are, or nobody.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Auth {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// From now on everybody is asked who they are
    Enable(Options),
    /// From now on nobody is
    Disable(Options),
    /// Shows whether anybody is
    Status(Options),
}

#[derive(Debug, clap::Args)]
struct Options {
    #[command(flatten)]
    connection: Connection,
}

impl ClientVerb for Auth {
    async fn execute(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::Enable(options) => enable(&options.connection).await,
            Verb::Disable(options) => disable(&options.connection).await,
            Verb::Status(options) => status(&options.connection).await,
        }
    }
}

/// As etcdctl does, gives root its role if that is all that is missing.
async fn enable(connection: &Connection) -> anyhow::Result<()> {
    let first = try_enable(connection).await;
    let lacks_role = |error: &anyhow::Error| {
        let refused = error.downcast_ref::<Refused>();
        refused.is_some_and(|refused| refused.said.contains("root user does not have root role"))
    };
    match first {
        Err(error) if lacks_role(&error) => {
            give_root_its_role(connection).await?;
            try_enable(connection).await?;
        }
        other => other?,
    }
    println!("Authentication Enabled");
    Ok(())
}

async fn try_enable(connection: &Connection) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let mut auth = live.auth();
    let call = auth.auth_enable(connection.request(AuthEnableRequest {}));
    connection.answer(&live, Kind::Write, call).await.map(drop)
}

async fn give_root_its_role(connection: &Connection) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let mut auth = live.auth();
    let call = auth.role_add(connection.request(AuthRoleAddRequest { name: ROOT.to_owned() }));
    match connection.answer(&live, Kind::Write, call).await {
        Err(error) if !error.to_string().contains("role name already exists") => return Err(error),
        Ok(_) | Err(_) => {}
    }
    let request = AuthUserGrantRoleRequest { user: ROOT.to_owned(), role: ROOT.to_owned() };
    let call = auth.user_grant_role(connection.request(request));
    connection.answer(&live, Kind::Write, call).await.map(drop)
}

async fn disable(connection: &Connection) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let mut auth = live.auth();
    let call = auth.auth_disable(connection.request(AuthDisableRequest {}));
    connection.answer(&live, Kind::Write, call).await?;
    println!("Authentication Disabled");
    Ok(())
}

async fn status(connection: &Connection) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let mut auth = live.auth();
    let call = auth.auth_status(connection.request(AuthStatusRequest {}));
    let response = connection.answer(&live, Kind::Read, call).await?;
    let header = response.header.as_ref();
    match connection.write_out {
        Format::Json => {
            let (enabled, revision) = (response.enabled, response.auth_revision);
            json::print(&json::with_header(
                header,
                json!({ "enabled": enabled, "authRevision": revision }),
            ))
        }
        Format::Fields => {
            fields::header(header);
            fields::field("Enabled", response.enabled);
            fields::field("AuthRevision", response.auth_revision);
            Ok(())
        }
        Format::Simple | Format::Table => {
            println!("Authentication Status: {}", response.enabled);
            println!("AuthRevision: {}", response.auth_revision);
            Ok(())
        }
    }
}
