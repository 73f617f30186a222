//! A node of a cluster that exists already: who it is there, and whether it still belongs to it. Asks
//! the members' peer addresses; changes nothing, here or there.

use super::Settings;
use super::folder;
use super::initial_cluster::InitialMember;
use anyhow::bail;
use quorate::{ClusterView, Member, Node, ask_cluster};
use quorate_server::{MemberContext, peer_urls_of};
use quorate_tls::Tls;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long one member may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long it is tried to reach any.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(300);

/// Finds out who this node is: by its folder, or from the members that exist, who are asked over TLS
/// where their URL says https.
///
/// # Errors
///
/// If no member can be asked, if they do not know this node, or if it is one that had data.
pub(super) async fn recognise(
    settings: &mut Settings,
    name: &str,
    tls: &Arc<Tls>,
) -> anyhow::Result<()> {
    let cluster = &mut settings.cluster;
    if let Some(owner) = folder::owner_of(&settings.data_dir) {
        (cluster.cluster_id, cluster.own_id) = (owner.cluster_id, owner.member_id);
        return Ok(());
    }
    let others = addresses(&cluster.members, name);
    if others.is_empty() {
        bail!(
            "--initial-cluster-state is `existing`, but --initial-cluster names nobody but this \
             node: name the members that it shall join, or say `new` to found a cluster"
        );
    }
    let view = newest_view(&others, tls).await?;
    let own = own_urls(&cluster.members, name);
    let found = view.configuration.leads_to().iter().find(|(_, member)| {
        let known = peer_urls_of(member);
        known.len() == own.len() && own.iter().all(|url| known.contains(url))
    });
    let Some((id, member)) = found else {
        bail!(
            "the cluster does not know a member at {urls}. Tell it first:\n  \
             quorate member add {name} --peer-urls {urls}",
            urls = own.join(",")
        );
    };
    let log = folder::log_place(&settings.data_dir, settings.wal_dir.as_deref())?;
    if !folder::has_log(log.dir()) {
        check_not_bereft(log.dir(), id.get(), member, name)?;
    }
    (cluster.cluster_id, cluster.own_id) = (view.cluster_id, id.get());
    Ok(())
}

/// A member that has run has made promises; without its data it would break them.
fn check_not_bereft(dir: &Path, id: u64, member: &Member, name: &str) -> anyhow::Result<()> {
    let known = MemberContext::from_bytes(&member.context).unwrap_or_default().name;
    if known.is_empty() {
        return Ok(());
    }
    bail!(
        "member {id:x} ({known}) has run before, and its log is not in {}. A node that started \
         without it would break the promises it has made. Bring the folder back, or replace the \
         member:\n  quorate member remove {id:x}\n  quorate member add {name} --peer-urls {}",
        dir.display(),
        peer_urls_of(member).join(",")
    )
}

fn own_urls(members: &[InitialMember], name: &str) -> Vec<String> {
    let own = members.iter().filter(|member| member.name == name);
    own.flat_map(|member| member.peer_urls.iter().map(ToString::to_string)).collect()
}

/// Where the other members listen for their peers, as their addresses say it.
pub(super) fn addresses(members: &[InitialMember], own_name: &str) -> Vec<String> {
    let others = members.iter().filter(|member| member.name != own_name);
    others.map(InitialMember::peer_address).collect()
}

/// What the best informed of them says, once one answers.
async fn newest_view(addresses: &[String], tls: &Arc<Tls>) -> anyhow::Result<ClusterView> {
    let begun = Instant::now();
    loop {
        let (view, failures) = ask_all(addresses, tls).await;
        match view {
            Some(view) => return Ok(view),
            None if begun.elapsed() > PATIENCE => bail!(
                "--initial-cluster-state is `existing`, but no member of --initial-cluster says \
                 which cluster it belongs to:\n  {}",
                failures.join("\n  ")
            ),
            None => sleep(PAUSE).await,
        }
    }
}

/// Asks everybody; the newest configuration wins. Also, why the others did not answer.
async fn ask_all(addresses: &[String], tls: &Arc<Tls>) -> (Option<ClusterView>, Vec<String>) {
    let (mut newest, mut failures): (Option<ClusterView>, _) = (None, Vec::new());
    for address in addresses {
        match ask_cluster(address, Some(tls), ANSWER_TIMEOUT).await {
            Ok(view) if view.configuration.members.is_empty() => {
                failures.push(format!("{address}: waits to join itself"));
            }
            Ok(view) => {
                let version = view.configuration.version;
                if newest.as_ref().is_none_or(|known| known.configuration.version < version) {
                    newest = Some(view);
                }
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    (newest, failures)
}

/// Waits until this node knows that it was removed; returns the version of a configuration without
/// it. Without a leader it asks, each `patience`, `others` and whom it knows itself: those that it
/// knows may have been removed as well, and be gone.
pub(super) async fn removed(
    node: &Node,
    others: &[String],
    tls: &Arc<Tls>,
    patience: Duration,
) -> u64 {
    let mut told = pin!(node.removed());
    loop {
        tokio::select! {
            told = &mut told => match told {
                Ok(version) => return version,
                // The node ends, and somebody else says why.
                Err(_) => std::future::pending().await,
            },
            () = sleep(patience) => {}
        }
        if node.status().leader.is_none()
            && let Some(version) = asked_around(node, others, tls).await
        {
            return version;
        }
    }
}

async fn asked_around(node: &Node, others: &[String], tls: &Arc<Tls>) -> Option<u64> {
    let status = node.status();
    let known = status.configuration.members.iter().filter(|(id, _)| **id != status.id);
    let mut addresses: Vec<String> = known.map(|(_, member)| member.address.clone()).collect();
    addresses.extend(others.iter().cloned());
    addresses.sort_unstable();
    addresses.dedup();
    let view =
        ask_all(&addresses, tls).await.0.filter(|view| view.cluster_id == status.cluster_id)?;
    let configuration = view.configuration;
    let is_newer = configuration.version > status.committed_configuration.version;
    let is_member = configuration.members.contains_key(&status.id)
        || configuration.leads_to().contains_key(&status.id);
    (is_newer && !is_member).then_some(configuration.version)
}
