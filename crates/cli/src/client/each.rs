//! The verbs that ask every endpoint the same and show what each said: `quorate hashkv` and
//! `quorate defrag`. Must not know how an endpoint comes to its answer.

use super::connection::{Address, Connection, Format};
use super::endpoint::of_members;
use super::wire::Wire;
use super::{ClientVerb, json};
use crate::go::parse_integer;
use crate::output::Table;
use anyhow::bail;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::{DefragmentRequest, HashKvRequest, HashKvResponse};
use serde_json::json;
use std::time::Duration;
use tonic::{Response, Status};

const HASH_EXAMPLES: &str = "\
Examples:
  quorate hashkv --rev 1000      digests as of revision 1000: equal on members that hold the same
  quorate hashkv                 ... as of what each has now: equal only if nobody writes
It exits with 1 if an endpoint did not answer.";

/// Shows a digest of what each endpoint holds.
#[derive(Debug, clap::Args)]
#[command(after_help = HASH_EXAMPLES)]
pub(crate) struct HashKv {
    /// As of which revision; 0 for now
    #[arg(
        long, default_value_t = 0, value_parser = parse_integer, allow_negative_numbers = true,
        value_name = "REVISION"
    )]
    rev: i64,
    #[command(flatten)]
    connection: Connection,
}

const DEFRAG_EXAMPLES: &str = "\
Examples:
  quorate defrag
There is no need to: freed space is used again, a file with much of it is made anew by itself, and
--quota-backend-bytes looks at what is in use. Nothing stops meanwhile. For a while the disk needs room
for both files; it is not begun without.";

/// Makes the state file of each endpoint as small as it can be, and waits for it.
#[derive(Debug, clap::Args)]
#[command(after_help = DEFRAG_EXAMPLES)]
pub(crate) struct Defrag {
    /// Ask every member of the cluster
    #[arg(long)]
    cluster: bool,
    #[command(flatten)]
    connection: Connection,
}

/// What one endpoint said, or why it said nothing.
type Answer<T> = Result<T, String>;

impl ClientVerb for HashKv {
    async fn execute(self) -> anyhow::Result<()> {
        let revision = self.rev;
        let connection = &self.connection;
        let answers = ask_each(connection, async move |mut maintenance| {
            maintenance.hash_kv(HashKvRequest { revision }).await
        })
        .await?;
        match connection.write_out {
            Format::Json => json::print(&hashes_json(&answers))?,
            Format::Simple | Format::Table | Format::Fields => {
                print!("{}", hashes(&answers).render());
            }
        }
        all_answered(&answers)
    }
}

impl ClientVerb for Defrag {
    async fn execute(self) -> anyhow::Result<()> {
        let mut connection = self.connection;
        if self.cluster {
            let members = of_members(&connection).await?;
            connection = connection.at(members);
        }
        let answers = ask_each(&connection, async move |mut maintenance| {
            maintenance.defragment(DefragmentRequest {}).await
        })
        .await?;
        for (address, answer) in &answers {
            let address = address.as_given();
            match answer {
                Ok(_) => println!("Finished defragmenting etcd member[{address}]"),
                Err(why) => eprintln!("Failed to defragment etcd member[{address}] ({why})"),
            }
        }
        all_answered(&answers)
    }
}

/// Asks the endpoints one after the other: these questions are not for a hurry.
async fn ask_each<T>(
    connection: &Connection,
    question: impl AsyncFn(MaintenanceClient<Wire>) -> Result<Response<T>, Status>,
) -> anyhow::Result<Vec<(Address, Answer<T>)>> {
    let mut answers = Vec::new();
    let dialler = connection.dialler();
    for address in connection.addresses().await? {
        let answer = match dialler.dial(address).await {
            Ok(wire) => {
                let answer = question(MaintenanceClient::new(wire));
                in_time(connection.command_timeout, answer).await
            }
            Err(why) => Err(why),
        };
        answers.push((address.clone(), answer));
    }
    Ok(answers)
}

async fn in_time<T>(
    timeout: Duration,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Answer<T> {
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err(format!("no answer within {timeout:?}")),
    }
}

fn hashes(answers: &[(Address, Answer<HashKvResponse>)]) -> Table {
    let mut table = Table::new(["ENDPOINT", "HASH", "REVISION", "COMPACTED"]);
    for (address, answer) in answers {
        table.row(match answer {
            Ok(said) => [
                address.to_string(),
                said.hash.to_string(),
                said.hash_revision.to_string(),
                said.compact_revision.to_string(),
            ],
            Err(why) => [address.to_string(), why.clone(), "-".to_owned(), "-".to_owned()],
        });
    }
    table
}

fn hashes_json(answers: &[(Address, Answer<HashKvResponse>)]) -> serde_json::Value {
    let one = |(address, answer): &(Address, Answer<HashKvResponse>)| match answer {
        Ok(said) => json!({ "Endpoint": address.to_string(), "HashKV": json::hash_kv(said) }),
        Err(why) => json!({ "Endpoint": address.to_string(), "Error": why }),
    };
    answers.iter().map(one).collect()
}

fn all_answered<T>(answers: &[(Address, Answer<T>)]) -> anyhow::Result<()> {
    let silent = answers.iter().filter(|(_, answer)| answer.is_err()).count();
    if silent > 0 {
        bail!("{silent} of {} endpoints did not answer", answers.len());
    }
    Ok(())
}
