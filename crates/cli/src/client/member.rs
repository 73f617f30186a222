//! `quorate member`: who belongs to the cluster, and changing that. The cluster finds the way; this
//! says what is wanted, and what to do next.

use super::connection::{Connection, Format, Kind, Live};
use super::{ClientVerb, fields, json};
use crate::output::Table;
use anyhow::{Context, bail};
use clap::Subcommand;
use quorate_etcd_api::etcdserverpb::{
    Member as Entry, MemberAddRequest, MemberListRequest, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest, ResponseHeader,
};

const EXAMPLES: &str = "\
Examples:
  quorate member list
  quorate member add n4 --peer-urls http://10.0.0.4:2380 --learner
  quorate member promote n4              once it has caught up
  quorate member remove n2               by name, or by the id that `list` shows
To replace a server: remove the old one, add the new one, start it with an empty folder.";

/// Shows who belongs to the cluster, and changes it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Member {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows the members
    List {
        /// Ask one member what it knows, instead of what the cluster agrees on
        #[arg(long)]
        local: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Makes room for one more, which is to be started afterwards
    Add {
        /// What it will be called
        #[arg(value_name = "NAME")]
        name: String,
        /// Where its peers will reach it
        #[arg(long, value_delimiter = ',', required = true, value_name = "URL,...")]
        peer_urls: Vec<String>,
        /// It receives everything and has no vote, until it is promoted
        #[arg(long)]
        learner: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// A member goes, for good
    Remove {
        /// Its id in hexadecimal, or its name
        #[arg(value_name = "MEMBER")]
        member: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// A member is reached at other peer URLs
    Update {
        /// Its id in hexadecimal, or its name
        #[arg(value_name = "MEMBER")]
        member: String,
        /// Where its peers reach it from now on
        #[arg(long, value_delimiter = ',', required = true, value_name = "URL,...")]
        peer_urls: Vec<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// A learner gets a vote
    Promote {
        /// Its id in hexadecimal, or its name
        #[arg(value_name = "MEMBER")]
        member: String,
        #[command(flatten)]
        connection: Connection,
    },
}

/// What a cluster says after each of these.
struct Answer {
    header: Option<ResponseHeader>,
    member: Option<Entry>,
    members: Vec<Entry>,
}

impl ClientVerb for Member {
    async fn execute(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::List { local, connection } => list(&connection, !local).await,
            Verb::Add { name, peer_urls, learner, connection } => {
                add(&connection, &name, peer_urls, learner).await
            }
            Verb::Remove { member, connection } => remove(&connection, &member).await,
            Verb::Update { member, peer_urls, connection } => {
                update(&connection, &member, peer_urls).await
            }
            Verb::Promote { member, connection } => promote(&connection, &member).await,
        }
    }
}

async fn list(connection: &Connection, linearizable: bool) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let answer = listed(connection, &live, linearizable).await?;
    match connection.write_out {
        Format::Json => print_json(&answer),
        Format::Fields => {
            fields::members(answer.header.as_ref(), &answer.members);
            Ok(())
        }
        Format::Simple | Format::Table => {
            print!("{}", as_table(&answer.members).render());
            Ok(())
        }
    }
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
    let (header, member, members) = (response.header, response.member, response.members);
    if connection.write_out == Format::Json {
        return print_json(&Answer { header, member, members });
    }
    let member = member.context("the cluster did not say which id the member has")?;
    let role = if is_learner { "a learner" } else { "a voter, once it has caught up" };
    println!("member {:x} is added as {role}. Start it with an empty folder:\n", member.id);
    println!("{}", start_command(name, &member, &members));
    if is_learner {
        println!("\nWhen it has caught up: quorate member promote {name}");
    }
    Ok(())
}

/// The command line that a new member is started with.
fn start_command(name: &str, member: &Entry, members: &[Entry]) -> String {
    let named = |entry: &Entry| {
        let name = if entry.id == member.id { name.to_owned() } else { shown_name(entry) };
        entry.peer_ur_ls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
    };
    let cluster: Vec<String> = members.iter().map(named).collect();
    let urls = member.peer_ur_ls.join(",");
    // What it shows, its operator knows.
    let is_secure = member.peer_ur_ls.iter().any(|url| url.starts_with("https://"));
    let files = if is_secure {
        " \\\n    --peer-cert-file FILE --peer-key-file FILE --peer-trusted-ca-file FILE"
    } else {
        ""
    };
    format!(
        "  quorate serve --name {name} --initial-cluster-state existing \\\n    \
         --initial-cluster {} \\\n    \
         --initial-advertise-peer-urls {urls} --listen-peer-urls {urls} \\\n    \
         --listen-client-urls URL --advertise-client-urls URL{files}",
        cluster.join(",")
    )
}

async fn remove(connection: &Connection, member: &str) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let id = identified(connection, &live, member).await?;
    let mut cluster = live.cluster();
    let call = cluster.member_remove(connection.request(MemberRemoveRequest { id }));
    let response = connection.answer(&live, Kind::Write, call).await?;
    let answer = Answer { header: response.header, member: None, members: response.members };
    done(connection, &answer, &format!("member {id:x} is removed; its server ends by itself"))
}

async fn update(
    connection: &Connection,
    member: &str,
    peer_urls: Vec<String>,
) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let id = identified(connection, &live, member).await?;
    let mut cluster = live.cluster();
    let request = MemberUpdateRequest { id, peer_ur_ls: peer_urls };
    let call = cluster.member_update(connection.request(request));
    let response = connection.answer(&live, Kind::Write, call).await?;
    let answer = Answer { header: response.header, member: None, members: response.members };
    done(connection, &answer, &format!("member {id:x} is updated"))
}

async fn promote(connection: &Connection, member: &str) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let id = identified(connection, &live, member).await?;
    let mut cluster = live.cluster();
    let call = cluster.member_promote(connection.request(MemberPromoteRequest { id }));
    let response = connection.answer(&live, Kind::Write, call).await?;
    let answer = Answer { header: response.header, member: None, members: response.members };
    done(connection, &answer, &format!("member {id:x} has a vote now"))
}

fn done(connection: &Connection, answer: &Answer, words: &str) -> anyhow::Result<()> {
    match connection.write_out {
        Format::Json => return print_json(answer),
        Format::Fields => fields::members(answer.header.as_ref(), &answer.members),
        Format::Simple => println!("{words}"),
        Format::Table => print!("{words}\n\n{}", as_table(&answer.members).render()),
    }
    Ok(())
}

fn print_json(answer: &Answer) -> anyhow::Result<()> {
    let Answer { header, member, members } = answer;
    json::print(&json::members(header.as_ref(), member.as_ref(), members))
}

async fn listed(
    connection: &Connection,
    live: &Live,
    linearizable: bool,
) -> anyhow::Result<Answer> {
    let mut cluster = live.cluster();
    let call = cluster.member_list(connection.request(MemberListRequest { linearizable }));
    let response = connection.answer(live, Kind::Read, call).await?;
    Ok(Answer { header: response.header, member: None, members: response.members })
}

/// The id that is meant: a name goes before a number that looks like an id.
pub(super) async fn identified(
    connection: &Connection,
    live: &Live,
    member: &str,
) -> anyhow::Result<u64> {
    let members = listed(connection, live, true).await?.members;
    let named: Vec<&Entry> = members.iter().filter(|entry| entry.name == member).collect();
    match named.as_slice() {
        [entry] => Ok(entry.id),
        [] => match u64::from_str_radix(member, 16) {
            Ok(id) => Ok(id),
            Err(_) => bail!("no member is called `{member}`: `quorate member list` shows them"),
        },
        [..] => bail!("{} members are called `{member}`: give the id", named.len()),
    }
}

fn shown_name(entry: &Entry) -> String {
    if entry.name.is_empty() { format!("{:x}", entry.id) } else { entry.name.clone() }
}

fn as_table(members: &[Entry]) -> Table {
    let mut table = Table::new(["MEMBER ID", "NAME", "STATE", "ROLE", "PEER URLS", "CLIENT URLS"]);
    for member in members {
        let has_started = !member.name.is_empty();
        table.row([
            format!("{:x}", member.id),
            if has_started { member.name.clone() } else { "-".to_owned() },
            if has_started { "started" } else { "not started" }.to_owned(),
            if member.is_learner { "learner" } else { "voter" }.to_owned(),
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, name: &str) -> Entry {
        let peer_ur_ls = vec![format!("http://h:{id}")];
        Entry { id, name: name.to_owned(), peer_ur_ls, ..Entry::default() }
    }

    #[test]
    fn a_new_member_is_shown_how_to_start_by_its_name_among_the_others() {
        let members = [entry(1, "n1"), entry(4, "")];
        let command = start_command("n4", &members[1], &members);
        assert!(command.contains("--initial-cluster n1=http://h:1,n4=http://h:4 "), "{command}");
        assert!(command.contains("--initial-cluster-state existing"), "{command}");
        assert!(!command.contains("--peer-cert-file"), "{command}");
    }

    #[test]
    fn a_new_member_at_an_https_url_is_told_that_it_needs_a_certificate() {
        let peer_ur_ls = vec!["https://h:4".to_owned()];
        let member = Entry { id: 4, peer_ur_ls, ..Entry::default() };
        let command = start_command("n4", &member, std::slice::from_ref(&member));
        assert!(command.contains("URL \\\n    --peer-cert-file FILE"), "{command}");
    }

    #[test]
    fn a_member_that_has_not_started_is_listed_without_a_name() {
        let table = as_table(&[entry(0x2a, ""), entry(1, "n1")]).render();
        assert!(table.contains("2a         -     not started  voter"), "{table}");
    }
}
