//! `quorate status`. Asks every endpoint, in parallel, and shows those that do not answer too.

use super::connection::{Address, Connection, Format};
use super::dial::Dialler;
use super::wire::Wire;
use super::{ClientVerb, explain, json};
use crate::output::{Table, size};
use anyhow::bail;
use quorate_etcd_api::etcdserverpb::cluster_client::ClusterClient;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::{MemberListRequest, StatusRequest, StatusResponse};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  quorate status
  quorate status --endpoints 10.0.0.1:2379,10.0.0.2:2379 -w json
  quorate status --explain
It exits with 1 if an endpoint did not answer.";

/// Shows who leads and how far each endpoint is.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Status {
    #[command(flatten)]
    connection: Connection,
    /// Also tell what each member waits for, and what may be done about it
    #[arg(long)]
    explain: bool,
}

/// What one endpoint said, or why it said nothing.
type Answer = Result<StatusResponse, String>;

impl ClientVerb for Status {
    async fn execute(self) -> anyhow::Result<()> {
        let answers = self.ask_all().await?;
        let explanations =
            if self.explain { self.explanations(&answers).await } else { Vec::new() };
        match self.connection.write_out {
            Format::Json => json::print(&as_json(&answers, &explanations))?,
            Format::Simple | Format::Table | Format::Fields => {
                let names = self.names(&answers).await;
                print!("{}", as_table(&answers, &names).render());
                for (address, explanation) in &explanations {
                    print!("{}", explain::as_text(address, explanation));
                }
            }
        }
        let silent = answers.iter().filter(|(_, answer)| answer.is_err()).count();
        if silent > 0 {
            bail!("{silent} of {} endpoints did not answer", answers.len());
        }
        Ok(())
    }
}

impl Status {
    async fn ask_all(&self) -> anyhow::Result<Vec<(Address, Answer)>> {
        let (dialler, timeout) = (self.connection.dialler(), self.connection.dial_timeout);
        let ask = |address: &Address| {
            let (dialler, address) = (dialler.clone(), address.clone());
            tokio::spawn(async move { fresh_status(&dialler, &address, timeout).await })
        };
        let addresses = self.connection.addresses().await?;
        let asked: Vec<_> = addresses.iter().map(ask).collect();
        let mut answers = Vec::new();
        for (address, answer) in addresses.iter().zip(asked) {
            let answer = answer.await.unwrap_or_else(|error| Err(error.to_string()));
            answers.push((address.clone(), answer));
        }
        Ok(answers)
    }

    /// What those that answered wait for.
    async fn explanations(&self, answers: &[(Address, Answer)]) -> Vec<(Address, explain::Answer)> {
        let (dialler, timeout) = (self.connection.dialler(), self.connection.dial_timeout);
        let mut explanations = Vec::new();
        for (address, _) in answers.iter().filter(|(_, answer)| answer.is_ok()) {
            let explanation = explain::ask(&dialler, address, timeout).await;
            explanations.push((address.clone(), explanation));
        }
        explanations
    }

    /// The members' names, as far as an endpoint that answered tells them.
    async fn names(&self, answers: &[(Address, Answer)]) -> BTreeMap<u64, String> {
        let dialler = self.connection.dialler();
        for (address, _) in answers.iter().filter(|(_, answer)| answer.is_ok()) {
            let names = member_names(&dialler, address, self.connection.dial_timeout).await;
            if let Ok(names) = names {
                return names;
            }
        }
        BTreeMap::new()
    }
}

async fn fresh_status(dialler: &Dialler, address: &Address, timeout: Duration) -> Answer {
    let wire = dialler.dial(address).await?;
    member_status(wire, timeout).await
}

/// Asks one member how it is.
///
/// # Errors
///
/// A sentence for a person.
pub(crate) async fn member_status(wire: Wire, timeout: Duration) -> Answer {
    let mut client = MaintenanceClient::new(wire);
    match tokio::time::timeout(timeout, client.status(StatusRequest {})).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err(format!("no answer within {timeout:?}")),
    }
}

async fn member_names(
    dialler: &Dialler,
    address: &Address,
    timeout: Duration,
) -> Result<BTreeMap<u64, String>, String> {
    let mut client = ClusterClient::new(dialler.dial(address).await?);
    let request = MemberListRequest { linearizable: false };
    let response = tokio::time::timeout(timeout, client.member_list(request)).await;
    let response = response.map_err(|_| "no answer".to_owned())?;
    let members = response.map_err(|status| status.message().to_owned())?.into_inner().members;
    Ok(members.into_iter().map(|member| (member.id, member.name)).collect())
}

fn as_json(answers: &[(Address, Answer)], explanations: &[(Address, explain::Answer)]) -> Value {
    let one = |(address, answer): &(Address, Answer)| {
        let mut shown = match answer {
            Ok(status) => {
                json!({ "Endpoint": address.to_string(), "Status": json::status(status) })
            }
            Err(why) => json!({ "Endpoint": address.to_string(), "Error": why }),
        };
        let explanation = explanations.iter().find(|(of, _)| of == address);
        if let (Some((_, explanation)), Some(fields)) = (explanation, shown.as_object_mut()) {
            fields.insert("Explanation".to_owned(), explain::as_json(explanation));
        }
        shown
    };
    Value::Array(answers.iter().map(one).collect())
}

fn as_table(answers: &[(Address, Answer)], names: &BTreeMap<u64, String>) -> Table {
    let mut table = Table::new([
        "ENDPOINT",
        "NAME",
        "MEMBER ID",
        "ROLE",
        "TERM",
        "COMMITTED",
        "APPLIED",
        "SIZE",
        "VERSION",
        "ERRORS",
    ]);
    for (address, answer) in answers {
        table.row(match answer {
            Ok(status) => row(address, status, names),
            Err(why) => silent_row(address, why),
        });
    }
    table
}

fn row(address: &Address, status: &StatusResponse, names: &BTreeMap<u64, String>) -> [String; 10] {
    let id = status.header.as_ref().map_or(0, |header| header.member_id);
    [
        address.to_string(),
        names.get(&id).cloned().unwrap_or_else(|| "-".to_owned()),
        format!("{id:x}"),
        role(status).to_owned(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        size(status.db_size),
        status.version.clone(),
        status.errors.join("; "),
    ]
}

fn silent_row(address: &Address, why: &str) -> [String; 10] {
    let mut row = [(); 10].map(|()| "-".to_owned());
    let [endpoint, _, _, role, .., errors] = &mut row;
    *endpoint = address.to_string();
    "unreachable".clone_into(role);
    why.clone_into(errors);
    row
}

/// What a member is, as far as it says.
pub(crate) fn role(status: &StatusResponse) -> &'static str {
    let id = status.header.as_ref().map_or(0, |header| header.member_id);
    if status.is_learner {
        "learner"
    } else if status.leader == 0 {
        "no leader"
    } else if status.leader == id {
        "leader"
    } else {
        "follower"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_does_not_answer_has_a_row_that_says_why() {
        let answers = [("127.0.0.1:1".parse().unwrap(), Err("Connection refused".to_owned()))];
        let table = as_table(&answers, &BTreeMap::new()).render();
        assert!(table.contains("127.0.0.1:1"));
        assert!(table.contains("unreachable"));
        assert!(table.contains("Connection refused"));
    }
}
