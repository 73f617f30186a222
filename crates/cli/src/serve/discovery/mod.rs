//! Who the first members are, where the flags do not name them: a domain's SRV records, or another
//! cluster with which they register. Asked once, before the data folder is made; one that knows its
//! cluster is not asked about again. Must not know how a cluster works.

mod flags;
mod registry;
mod service;
mod srv;

pub(crate) use flags::{DiscoveryFlags, DiscoveryFlagsError, Wanted};

use super::flags::{ClusterState, Flags, Settings};
use super::folder;
use super::initial_cluster::InitialCluster;
use super::url::HttpUrl;
use crate::dns::Resolver;
use anyhow::{Context, bail};
use service::{Applicant, Service};
use srv::Question;

/// From where it is known who the members are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// All members know it alike, by flags or by what was registered.
    Alike,
    /// Records name no names: each member knows its own, and tells it once it runs.
    Nameless,
    /// The data folder knows the cluster.
    Folder,
}

/// Finds out who the members are, if the flags say where to ask.
///
/// # Errors
///
/// If that is not known there, or this node is none of them.
pub(super) async fn discover(settings: &mut Settings, flags: &Flags) -> anyhow::Result<()> {
    let Some(wanted) = settings.discovery else { return Ok(()) };
    if let Some(owner) = folder::owner_of(&settings.data_dir) {
        let cluster = &mut settings.cluster;
        (cluster.cluster_id, cluster.own_id) = (owner.cluster_id, owner.member_id);
        settings.origin = Origin::Folder;
        let folder = settings.data_dir.display();
        tracing::warn!(%folder, "discovery is not asked: the data folder knows its cluster already");
        return Ok(());
    }
    // Who registers and cannot be a member has taken a place.
    folder::check_not_etcds(&settings.data_dir)?;
    match wanted {
        Wanted::Srv => {
            settings.cluster = by_srv(flags).await?;
            settings.origin = Origin::Nameless;
        }
        Wanted::Registry => settings.cluster = by_registry(settings, flags).await?,
    }
    for member in &settings.cluster.members {
        tracing::info!(
            name = member.name,
            at = member.peer_address(),
            "found a member by discovery"
        );
    }
    Ok(())
}

async fn by_srv(flags: &Flags) -> anyhow::Result<InitialCluster> {
    let given = &flags.discovery;
    let question = Question {
        domain: given.discovery_srv.as_deref().unwrap_or_default(),
        service_name: given.discovery_srv_name.as_deref(),
        name: &flags.name,
        advertised: &flags.initial_advertise_peer_urls,
    };
    let resolver = Resolver::new(&given.discovery_srv_server);
    tracing::info!(domain = question.domain, servers = %resolver, "asking the DNS for the members");
    let members = srv::members(&question, &resolver).await.context("--discovery-srv")?;
    let cluster = InitialCluster::new(members, &flags.initial_cluster_token, &flags.name);
    cluster.context("--discovery-srv: what the DNS names is no cluster")
}

async fn by_registry(settings: &Settings, flags: &Flags) -> anyhow::Result<InitialCluster> {
    let flag = "--discovery-token";
    if flags.initial_cluster_state == ClusterState::Existing {
        bail!(
            "{flag} is for a new cluster, and --initial-cluster-state is `existing`: name the members \
             of the cluster with --initial-cluster, or leave the state out to found one"
        );
    }
    let connection = flags.discovery.connection();
    let unusable = || format!("{flag}: the discovery service cannot be asked");
    connection.security.check().map_err(anyhow::Error::msg).with_context(unusable)?;
    let named = |url: &HttpUrl| format!("{}={url}", flags.name);
    let own = flags.initial_advertise_peer_urls.iter().map(named).collect::<Vec<_>>().join(",");
    let applicant = Applicant { id: settings.cluster.own_id, name: &flags.name, members: own };
    let token = flags.discovery.discovery_token.as_deref().unwrap_or_default();
    let found = Service::new(connection, token).join(&applicant).await.context(flag)?;
    let advertised = &flags.initial_advertise_peer_urls;
    InitialCluster::parse(&found, token, &flags.name, advertised)
        .with_context(|| format!("{flag}: what is registered, {found}, is no --initial-cluster"))
}
