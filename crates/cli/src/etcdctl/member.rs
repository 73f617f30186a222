//! `etcdctl member`, with etcdctl's arguments and output: members by their ids alone. Ours, for people, is
//! `client/member.rs`.

use crate::client::grid::grid;
use crate::client::{ClientVerb, Connection, Format, Kind, fields, json};
use anyhow::Context;
use quorate_etcd_api::etcdserverpb::{
    Member as Entry, MemberAddRequest, MemberListRequest, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest, ResponseHeader,
};
use serde_json::{Value, json};

/// Shows who belongs to the cluster, and changes it.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Member {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Adds a member into the cluster
    Add {
        /// What it will be called
        #[arg(value_name = "NAME")]
        name: String,
        /// Where its peers will reach it
        #[arg(long, value_delimiter = ',', required = true, value_name = "URL,...")]
        peer_urls: Vec<String>,
        /// It receives everything and has no vote
        #[arg(long)]
        learner: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Lists all members in the cluster
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Gives a learner a vote
    Promote {
        #[command(flatten)]
        which: Which,
    },
    /// Removes a member from the cluster
    Remove {
        #[command(flatten)]
        which: Which,
    },
    /// Updates a member's peer URLs
    Update {
        #[command(flatten)]
        which: Which,
        /// Where its peers reach it from now on
        #[arg(long, value_delimiter = ',', required = true, value_name = "URL,...")]
        peer_urls: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Its id in hexadecimal
    #[arg(value_name = "ID", value_parser = parse_id)]
    id: u64,
    #[command(flatten)]
    connection: Connection,
}

fn parse_id(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| format!("expected an id in hexadecimal: `{text}`"))
}

impl ClientVerb for Member {
    async fn execute(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::Add { name, peer_urls, learner, connection } => {
                add(&connection, &name, peer_urls, learner).await
            }
            Verb::List { connection } => list(&connection).await,
            Verb::Promote { which } => promote(which).await,
            Verb::Remove { which } => remove(which).await,
            Verb::Update { which, peer_urls } => update(which, peer_urls).await,
        }
    }
}

async fn list(connection: &Connection) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let mut cluster = live.cluster();
    let request = MemberListRequest { linearizable: true };
    let call = cluster.member_list(connection.request(request));
    let response = connection.answer(&live, Kind::Read, call).await?;
    let (header, members) = (response.header.as_ref(), &response.members);
    match connection.write_out {
        Format::Json if connection.hex => json::print(&in_hexadecimal(header, members))?,
        Format::Json => json::print(&json::members(header, None, members))?,
        Format::Fields => fields::members(header, members),
        Format::Simple => {
            for member in members {
                println!("{}", row(member).join(", "));
            }
        }
        Format::Table => {
            let rows: Vec<_> = members.iter().map(row).collect();
            let headings = ["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];
            print!("{}", grid(headings, &rows));
        }
    }
    Ok(())
}

/// With `--hex`: ids as they are everywhere else, and one name in another case, as etcdctl prints it.
fn in_hexadecimal(header: Option<&ResponseHeader>, members: &[Entry]) -> Value {
    let member = |member: &Entry| {
        json::brief(json!({
            "ID": format!("{:x}", member.id),
            "name": member.name,
            "peerURLs": member.peer_ur_ls,
            "clientURLS": member.client_ur_ls,
            "isLearner": member.is_learner,
        }))
    };
    let header = header.copied().unwrap_or_default();
    json!({
        "header": json::brief(json!({
            "cluster_id": format!("{:x}", header.cluster_id),
            "member_id": format!("{:x}", header.member_id),
            "revision": header.revision,
            "raft_term": header.raft_term,
        })),
        "members": members.iter().map(member).collect::<Vec<_>>(),
    })
}

fn row(member: &Entry) -> [String; 6] {
    let status = if member.name.is_empty() { "unstarted" } else { "started" };
    [
        format!("{:x}", member.id),
        status.to_owned(),
        member.name.clone(),
        member.peer_ur_ls.join(","),
        member.client_ur_ls.join(","),
        member.is_learner.to_string(),
    ]
}

async fn add(
    connection: &Connection,
    name: &str,
    peer_urls: Vec<String>,
    is_learner: bool,
) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let mut cluster = live.cluster();
    let request = MemberAddRequest { peer_ur_ls: peer_urls, is_learner };
    let call = cluster.member_add(connection.request(request));
    let response = connection.answer(&live, Kind::Write, call).await?;
    let member = response.member.context("the cluster did not say which id the member has")?;
    let (header, members) = (response.header.as_ref(), &response.members);
    let words = format!("Member {:>16x} added to cluster {:>16x}", member.id, cluster_id(header));
    match connection.write_out {
        Format::Json => json::print(&json::members(header, Some(&member), members))?,
        Format::Fields => fields::members(header, members),
        Format::Simple | Format::Table => {
            println!("{words}\n\n{}", settings(name, &member, members));
        }
    }
    Ok(())
}

/// The variables that the new member is to be started with.
fn settings(name: &str, new: &Entry, members: &[Entry]) -> String {
    let mut cluster = Vec::new();
    for member in members {
        let name = if member.id == new.id { name } else { &member.name };
        cluster.extend(member.peer_ur_ls.iter().map(|url| format!("{name}={url}")));
    }
    format!(
        "ETCD_NAME=\"{name}\"\nETCD_INITIAL_CLUSTER=\"{}\"\n\
         ETCD_INITIAL_ADVERTISE_PEER_URLS=\"{}\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\"",
        cluster.join(","),
        new.peer_ur_ls.join(","),
    )
}

async fn promote(Which { id, connection }: Which) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let mut cluster = live.cluster();
    let call = cluster.member_promote(connection.request(MemberPromoteRequest { id }));
    let response = connection.answer(&live, Kind::Write, call).await?;
    done(&connection, id, "promoted in", response.header.as_ref(), &response.members)
}

async fn remove(Which { id, connection }: Which) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let mut cluster = live.cluster();
    let call = cluster.member_remove(connection.request(MemberRemoveRequest { id }));
    let response = connection.answer(&live, Kind::Write, call).await?;
    done(&connection, id, "removed from", response.header.as_ref(), &response.members)
}

async fn update(which: Which, peer_urls: Vec<String>) -> anyhow::Result<()> {
    let Which { id, connection } = which;
    let live = connection.live().await?;
    let mut cluster = live.cluster();
    let request = MemberUpdateRequest { id, peer_ur_ls: peer_urls };
    let call = cluster.member_update(connection.request(request));
    let response = connection.answer(&live, Kind::Write, call).await?;
    done(&connection, id, "updated in", response.header.as_ref(), &response.members)
}

fn done(
    connection: &Connection,
    id: u64,
    what: &str,
    header: Option<&ResponseHeader>,
    members: &[Entry],
) -> anyhow::Result<()> {
    match connection.write_out {
        Format::Json => json::print(&json::members(header, None, members))?,
        Format::Fields => fields::members(header, members),
        Format::Simple | Format::Table => {
            println!("Member {id:>16x} {what} cluster {:>16x}", cluster_id(header));
        }
    }
    Ok(())
}

fn cluster_id(header: Option<&ResponseHeader>) -> u64 {
    header.map_or(0, |header| header.cluster_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_member_is_shown_its_settings_as_etcdctl_shows_them() {
        let entry = |id: u64, name: &str| Entry {
            id,
            name: name.to_owned(),
            peer_ur_ls: vec![format!("http://h:{id}")],
            ..Entry::default()
        };
        let members = [entry(1, ""), entry(2, "n1")];
        let expected = "ETCD_NAME=\"x\"\n\
                        ETCD_INITIAL_CLUSTER=\"x=http://h:1,n1=http://h:2\"\n\
                        ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://h:1\"\n\
                        ETCD_INITIAL_CLUSTER_STATE=\"existing\"";
        assert_eq!(settings("x", &members[0], &members), expected);
    }
}
