//! `quorate endpoint`: what each endpoint says of itself, as etcdctl shows it. `quorate status` shows more,
//! for people.

use super::connection::{Address, Connection, Format};
use super::grid::{grid, size};
use super::wire::Wire;
use super::{ClientVerb, fields, json};
use crate::go::parse_integer;
use anyhow::bail;
use futures_util::future::join_all;
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::{
    AlarmRequest, HashKvRequest, HashKvResponse, MemberListRequest, RangeRequest, StatusRequest,
    StatusResponse,
};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::{Duration, Instant};
use tonic::{Code, Response, Status};

const EXAMPLES: &str = "\
Examples:
  quorate endpoint health --cluster      each member, whatever --endpoints names of them
  quorate endpoint status -w table
  quorate endpoint hashkv --rev 1000";

/// Shows what each endpoint says of itself.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Endpoint {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Whether each endpoint can read what the cluster agrees on
    Health(Options),
    /// How far each endpoint is
    Status(Options),
    /// A digest of what each endpoint holds
    #[command(name = "hashkv")]
    HashKv {
        /// As of which revision; 0 for now
        #[arg(
            long, default_value_t = 0, value_parser = parse_integer, allow_negative_numbers = true,
            value_name = "REVISION"
        )]
        rev: i64,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Debug, clap::Args)]
struct Options {
    /// Ask every member of the cluster
    #[arg(long)]
    cluster: bool,
    #[command(flatten)]
    connection: Connection,
}

/// What an endpoint answered, or why it did not.
type Answers<T> = Vec<(String, Result<T, String>)>;

impl ClientVerb for Endpoint {
    async fn execute(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::Health(options) => options.health().await,
            Verb::Status(options) => options.status().await,
            Verb::HashKv { rev, options } => options.hash_kv(rev).await,
        }
    }
}

/// Where the members of the cluster answer, whatever `connection` names of them.
///
/// # Errors
///
/// If nobody answers, or a member has a URL that is none.
pub(super) async fn of_members(connection: &Connection) -> anyhow::Result<Vec<Address>> {
    let live = connection.live().await?;
    let mut cluster = live.cluster();
    let request = MemberListRequest { linearizable: true };
    let call = cluster.member_list(connection.request(request));
    let kind = super::connection::Kind::Read;
    let members = connection.answer(&live, kind, call).await?.members;
    let urls = members.iter().flat_map(|member| &member.client_ur_ls);
    urls.map(|url| Ok(url.parse::<Address>()?)).collect()
}

/// How an endpoint is.
struct Health {
    endpoint: String,
    took: Duration,
    error: Option<String>,
}

impl Options {
    async fn endpoints(&self) -> anyhow::Result<Vec<Address>> {
        if !self.cluster {
            return Ok(self.connection.addresses().await?.to_vec());
        }
        of_members(&self.connection).await
    }

    async fn ask<T>(
        &self,
        question: impl AsyncFn(Wire) -> Result<Response<T>, Status>,
    ) -> anyhow::Result<Answers<T>> {
        let question = &question;
        let ask = |address: Address| async move {
            let answer = self.answer(&address, question).await;
            (address.as_given(), answer)
        };
        Ok(join_all(self.endpoints().await?.into_iter().map(ask)).await)
    }

    async fn answer<T>(
        &self,
        address: &Address,
        question: &impl AsyncFn(Wire) -> Result<Response<T>, Status>,
    ) -> Result<T, String> {
        let wire = self.connection.dialler().dial(address).await?;
        let timeout = self.connection.command_timeout;
        match tokio::time::timeout(timeout, question(wire)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err("context deadline exceeded".to_owned()),
        }
    }

    async fn health(&self) -> anyhow::Result<()> {
        let examined = |address: Address| async move {
            let begun = Instant::now();
            let answer = self.answer(&address, &examine).await;
            let error = match answer {
                Ok(alarms) if alarms.is_empty() => None,
                Ok(alarms) => Some(format!("Active Alarm(s): {}", alarms.join(" "))),
                Err(why) => Some(why),
            };
            Health { endpoint: address.as_given(), took: begun.elapsed(), error }
        };
        let found = join_all(self.endpoints().await?.into_iter().map(examined)).await;
        match self.connection.write_out {
            Format::Json => json::print(&found.iter().map(Health::json).collect())?,
            Format::Fields => found.iter().for_each(Health::fields),
            Format::Table => print!("{}", Health::table(&found)),
            Format::Simple => found.iter().for_each(Health::simple),
        }
        if found.iter().any(|health| health.error.is_some()) {
            bail!("unhealthy cluster");
        }
        Ok(())
    }

    async fn status(&self) -> anyhow::Result<()> {
        let ask = async |wire: Wire| MaintenanceClient::new(wire).status(StatusRequest {}).await;
        let answers = self.ask(ask).await?;
        let found: Vec<(&str, &StatusResponse)> = there(&answers, "status");
        match self.connection.write_out {
            Format::Json => {
                let one = |(endpoint, status): &(&str, &StatusResponse)| json!({ "Endpoint": endpoint, "Status": json::status(status) });
                json::print(&found.iter().map(one).collect())?;
            }
            Format::Fields => {
                for (endpoint, it) in &found {
                    status_fields(endpoint, it);
                }
            }
            Format::Simple => {
                for (endpoint, it) in &found {
                    println!("{}", row(endpoint, it).join(", "));
                }
            }
            Format::Table => {
                let rows: Vec<_> = found.iter().map(|(endpoint, it)| row(endpoint, it)).collect();
                print!("{}", grid(STATUS_HEADINGS, &rows));
            }
        }
        all_there(&answers)
    }

    async fn hash_kv(&self, revision: i64) -> anyhow::Result<()> {
        let ask = async move |wire: Wire| {
            MaintenanceClient::new(wire).hash_kv(HashKvRequest { revision }).await
        };
        let answers = self.ask(ask).await?;
        let found: Vec<(&str, &HashKvResponse)> = there(&answers, "hash");
        let row = |(endpoint, it): &(&str, &HashKvResponse)| {
            [(*endpoint).to_owned(), it.hash.to_string()]
        };
        match self.connection.write_out {
            Format::Json => {
                let one = |(endpoint, it): &(&str, &HashKvResponse)| json!({ "Endpoint": endpoint, "HashKV": json::hash_kv(it) });
                json::print(&found.iter().map(one).collect())?;
            }
            Format::Fields => {
                for (endpoint, it) in &found {
                    fields::header(it.header.as_ref());
                    fields::quoted("Endpoint", endpoint.as_bytes());
                    fields::field("Hash", it.hash);
                    println!();
                }
            }
            Format::Simple => {
                for it in &found {
                    println!("{}", row(it).join(", "));
                }
            }
            Format::Table => {
                let rows: Vec<_> = found.iter().map(row).collect();
                print!("{}", grid(["ENDPOINT", "HASH"], &rows));
            }
        }
        all_there(&answers)
    }
}

/// Reads something that the cluster agrees on, and which alarms are raised. That the key is somebody
/// else's is an answer like any other.
async fn examine(wire: Wire) -> Result<Response<Vec<String>>, Status> {
    let request = RangeRequest { key: "health".into(), ..RangeRequest::default() };
    match KvClient::new(wire.clone()).range(request).await {
        Ok(_) => {}
        Err(status) if status.code() == Code::PermissionDenied => {}
        Err(status) => return Err(status),
    }
    let alarms = MaintenanceClient::new(wire).alarm(AlarmRequest::default()).await?.into_inner();
    let names = alarms.alarms.iter().map(|alarm| alarm.alarm().as_str_name().to_owned());
    Ok(Response::new(names.collect()))
}

impl Health {
    fn words(&self) -> (bool, &str) {
        (self.error.is_none(), self.error.as_deref().unwrap_or_default())
    }

    fn simple(&self) {
        let (endpoint, took) = (&self.endpoint, self.took);
        match &self.error {
            None => {
                println!("{endpoint} is healthy: successfully committed proposal: took = {took:?}");
            }
            Some(error) => {
                // Nobody is left to tell if standard error is closed.
                let _ = writeln!(
                    io::stderr(),
                    "{endpoint} is unhealthy: failed to commit proposal: {error}"
                );
            }
        }
    }

    fn json(&self) -> Value {
        let (is_healthy, error) = self.words();
        let mut value = json!({
            "endpoint": self.endpoint, "health": is_healthy, "took": format!("{:?}", self.took),
        });
        if !error.is_empty()
            && let Value::Object(value) = &mut value
        {
            value.insert("error".to_owned(), error.into());
        }
        value
    }

    fn fields(&self) {
        let (is_healthy, error) = self.words();
        fields::quoted("Endpoint", self.endpoint.as_bytes());
        fields::field("Health", is_healthy);
        fields::field("Took", format_args!("{:?}", self.took));
        fields::field("Error", error);
        println!();
    }

    fn table(all: &[Self]) -> String {
        let row = |health: &Self| {
            let (is_healthy, error) = health.words();
            let took = format!("{:?}", health.took);
            [health.endpoint.clone(), is_healthy.to_string(), took, error.to_owned()]
        };
        let rows: Vec<_> = all.iter().map(row).collect();
        grid(["ENDPOINT", "HEALTH", "TOOK", "ERROR"], &rows)
    }
}

const STATUS_HEADINGS: [&str; 10] = [
    "ENDPOINT",
    "ID",
    "VERSION",
    "DB SIZE",
    "IS LEADER",
    "IS LEARNER",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "ERRORS",
];

fn row(endpoint: &str, status: &StatusResponse) -> [String; 10] {
    let id = status.header.as_ref().map_or(0, |header| header.member_id);
    [
        endpoint.to_owned(),
        format!("{id:x}"),
        status.version.clone(),
        size(status.db_size),
        (status.leader == id).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
    ]
}

fn status_fields(endpoint: &str, status: &StatusResponse) {
    fields::header(status.header.as_ref());
    fields::quoted("Version", status.version.as_bytes());
    fields::field("DBSize", status.db_size);
    fields::field("Leader", status.leader);
    fields::field("IsLearner", status.is_learner);
    fields::field("RaftIndex", status.raft_index);
    fields::field("RaftTerm", status.raft_term);
    fields::field("RaftAppliedIndex", status.raft_applied_index);
    fields::field("Errors", format_args!("[{}]", status.errors.join(" ")));
    fields::quoted("Endpoint", endpoint.as_bytes());
    println!();
}

/// Those that answered; of the others standard error tells.
fn there<'a, T>(answers: &'a Answers<T>, what: &str) -> Vec<(&'a str, &'a T)> {
    let mut found = Vec::new();
    for (endpoint, answer) in answers {
        match answer {
            Ok(answer) => found.push((endpoint.as_str(), answer)),
            Err(why) => {
                let _ = writeln!(
                    io::stderr(),
                    "Failed to get the {what} of endpoint {endpoint} ({why})"
                );
            }
        }
    }
    found
}

/// Why is told by then.
#[derive(Debug, thiserror::Error)]
#[error("{silent} of {all} endpoints did not answer")]
pub(crate) struct Unanswered {
    silent: usize,
    all: usize,
    /// What the last of them said.
    pub(crate) last: String,
}

fn all_there<T>(answers: &Answers<T>) -> anyhow::Result<()> {
    let silent: Vec<&String> =
        answers.iter().filter_map(|(_, answer)| answer.as_ref().err()).collect();
    match silent.last() {
        Some(&last) => {
            let (silent, last) = (silent.len(), last.clone());
            Err(Unanswered { silent, all: answers.len(), last }.into())
        }
        None => Ok(()),
    }
}
