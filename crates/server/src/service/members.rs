//! The methods about who belongs to the cluster: etcd's five, over the node's one call, and what this
//! member tells the others of itself. Must not know keys, or how a change of the members goes.

use super::plan::{self, Circumstances, Step};
use super::{Service, time_left};
use crate::errors::{MembersRejection, Rejection};
use crate::grpc::frame;
use crate::member::{MemberContext, describe, member_id, peer_urls};
use bytes::Bytes;
use prost::Message;
use quorate::core::{Configuration, MemberRole, Members, NodeId};
use quorate::{MembershipError, MembershipRefusal};
use quorate_etcd_api::etcdserverpb as pb;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Between two attempts at a change that something else was in the way of.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Between two attempts to tell the others of ourselves.
const PUBLISH_PAUSE: Duration = Duration::from_millis(300);
/// Ids that are tried for a new member: one is made of the second in which it is added.
const IDS_COUNT: u64 = 64;

/// Why a wish did not come true.
enum Obstacle {
    /// It will pass.
    Passing,
    /// The change goes on, and waits for something.
    UnderWay { waits: String },
    /// It is in the way for good.
    Lasting(Rejection),
}

impl Service {
    // etcd leaves the revision out of the headers of all of these.

    pub(super) async fn member_list(
        &self,
        message: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Rejection> {
        let request = pb::MemberListRequest::decode(message)?;
        if request.linearizable {
            self.confirm(deadline).await?;
        }
        let configuration = self.node.members().configuration();
        let response =
            pb::MemberListResponse { header: Some(self.header(0)), members: list(&configuration) };
        Ok(frame::encode(&response))
    }

    pub(super) async fn member_add(
        &self,
        message: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Rejection> {
        let request = pb::MemberAddRequest::decode(message)?;
        let urls = peer_urls(&request.peer_ur_ls).ok_or(MembersRejection::BadUrls)?;
        let role = if request.is_learner { MemberRole::Learner } else { MemberRole::Voter };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let ids = || (now..now + IDS_COUNT).map(|second| member_id(&urls, "", Some(second)));
        let plan = |configuration: &Configuration| {
            self.circumstances().add(configuration, ids().map(NodeId::new), &urls, role)
        };
        // A new voter may not run yet, and then the change waits for it: the operator must know its
        // id before.
        let is_there = |configuration: &Configuration| {
            newcomer(configuration.leads_to(), &urls)
                .is_some_and(|id| configuration.members.contains_key(&id))
        };
        let configuration = self.change_members(deadline, plan, is_there).await?;
        let members = list(&configuration);
        let added = newcomer(configuration.leads_to(), &urls).map_or(0, NodeId::get);
        let member = members.iter().find(|member| member.id == added).cloned();
        let response = pb::MemberAddResponse { header: Some(self.header(0)), member, members };
        Ok(frame::encode(&response))
    }

    pub(super) async fn member_remove(
        &self,
        message: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Rejection> {
        let id = NodeId::new(pb::MemberRemoveRequest::decode(message)?.id);
        let plan = |configuration: &Configuration| self.circumstances().remove(configuration, id);
        let members = list(self.change_members(deadline, plan, |_| false).await?.as_ref());
        let response = pb::MemberRemoveResponse { header: Some(self.header(0)), members };
        Ok(frame::encode(&response))
    }

    pub(super) async fn member_update(
        &self,
        message: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Rejection> {
        let request = pb::MemberUpdateRequest::decode(message)?;
        let urls = peer_urls(&request.peer_ur_ls).ok_or(MembersRejection::BadUrls)?;
        let id = NodeId::new(request.id);
        let plan = |configuration: &Configuration| plan::update(configuration, id, &urls);
        let members = list(self.change_members(deadline, plan, |_| false).await?.as_ref());
        let response = pb::MemberUpdateResponse { header: Some(self.header(0)), members };
        Ok(frame::encode(&response))
    }

    /// A learner that does not catch up soon is not ready: the change is taken back then.
    pub(super) async fn member_promote(
        &self,
        message: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Rejection> {
        let id = NodeId::new(pb::MemberPromoteRequest::decode(message)?.id);
        let plan = |configuration: &Configuration| self.circumstances().promote(configuration, id);
        let patience = Instant::now() + self.options.leaderless_timeout;
        let changed = self.change_members(deadline.min(patience), plan, |_| false).await;
        let configuration = match changed {
            Err(Rejection::Members(MembersRejection::UnderWay { .. })) => {
                self.take_back_promotion(id, deadline).await?
            }
            changed => changed?,
        };
        let members = list(&configuration);
        let response = pb::MemberPromoteResponse { header: Some(self.header(0)), members };
        Ok(frame::encode(&response))
    }

    async fn take_back_promotion(
        &self,
        id: NodeId,
        deadline: Instant,
    ) -> Result<Arc<Configuration>, Rejection> {
        let taken_back = self.node.members().cancel().timeout(time_left(deadline)).await;
        let configuration = self.node.members().configuration();
        match taken_back {
            // It was done in the last moment.
            Err(_) if configuration.change.is_none() && configuration.is_voter(id) => {
                Ok(configuration)
            }
            Ok(_) | Err(_) => Err(MembersRejection::LearnerNotReady.into()),
        }
    }

    /// Changes the members as `plan` says, and returns them afterwards; already when `is_enough`
    /// says so of a committed configuration. A plan is made anew if others change them meanwhile.
    async fn change_members(
        &self,
        deadline: Instant,
        plan: impl Fn(&Configuration) -> Result<Step, MembersRejection>,
        is_enough: impl Fn(&Configuration) -> bool,
    ) -> Result<Arc<Configuration>, Rejection> {
        loop {
            self.confirm_as_proposal(deadline).await?;
            let configuration = self.node.members().configuration();
            let step = plan(&configuration)?;
            match self.wish(&configuration, step, &is_enough, deadline).await {
                Ok(version) => return self.configuration_from(version, deadline).await,
                Err(Obstacle::Lasting(rejection)) => return Err(rejection),
                Err(Obstacle::UnderWay { waits }) => {
                    return Err(MembersRejection::UnderWay { waits }.into());
                }
                Err(Obstacle::Passing) if Instant::now() + RETRY_PAUSE >= deadline => {
                    return Err(in_the_way(&configuration));
                }
                Err(Obstacle::Passing) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// The committed configuration of this version, or a later one: the leader knows it before this
    /// member does, and before its status says so.
    async fn configuration_from(
        &self,
        version: u64,
        deadline: Instant,
    ) -> Result<Arc<Configuration>, Rejection> {
        let mut changes = self.node.status_changes();
        loop {
            let known = Arc::clone(&changes.borrow_and_update().committed_configuration);
            if known.version >= version {
                return Ok(known);
            }
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Rejection::Stopped),
                Err(_) => return Err(Rejection::TimedOut),
            }
        }
    }

    /// The version by which it is as wished.
    async fn wish(
        &self,
        configuration: &Configuration,
        step: Step,
        is_enough: &impl Fn(&Configuration) -> bool,
        deadline: Instant,
    ) -> Result<u64, Obstacle> {
        let members = self.node.members();
        let wish = match step {
            Step::Set(target) => members.set(target).expect_version(configuration.version),
            Step::Cancel => members.cancel(),
        };
        let mut changes = self.node.status_changes();
        let enough = async {
            loop {
                let known = Arc::clone(&changes.borrow_and_update().committed_configuration);
                if is_enough(&known) {
                    return known.version;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            outcome = wish.timeout(time_left(deadline)).into_future() => outcome.map_err(obstacle),
            version = enough => Ok(version),
        }
    }

    /// Tells the others this member's name and client URLs, if they know otherwise; ends then.
    pub(crate) async fn publish_member(&self) {
        let Some(own) = &self.options.member else { return };
        let mut changes = self.node.status_changes();
        loop {
            let status = Arc::clone(&changes.borrow_and_update());
            let configuration = &status.committed_configuration;
            match introduced(configuration, status.id, own) {
                None if configuration.leads_to().contains_key(&status.id) => {
                    // In etcd's words: operators wait for this line.
                    tracing::info!(
                        name = own.name,
                        "published local member to cluster through raft"
                    );
                    return;
                }
                Some(target) if configuration.change.is_none() && status.leader.is_some() => {
                    let wish = self.node.members().set(target);
                    let wish = wish.expect_version(configuration.version);
                    match wish.timeout(self.options.request_timeout).await {
                        Ok(_) => tracing::info!(name = own.name, "the other members know me now"),
                        Err(error) => tracing::debug!(%error, "the others do not know me yet"),
                    }
                    tokio::time::sleep(PUBLISH_PAUSE).await;
                }
                None | Some(_) => {
                    if changes.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn circumstances(&self) -> Circumstances {
        let peers = self.node.metrics().peers();
        let connected = peers.into_iter().filter(|(_, peer)| peer.is_connected.get() > 0);
        Circumstances {
            own_id: self.node.status().id,
            connected: connected.map(|(id, _)| id).collect(),
            is_strict: self.options.strict_reconfig_check,
            learners_count_max: self.options.learners_count_max,
        }
    }
}

/// The members as etcd lists them: as they shall be, in the order of their ids.
fn list(configuration: &Configuration) -> Vec<pb::Member> {
    configuration.leads_to().iter().map(|(id, member)| describe(*id, member)).collect()
}

/// The member at these URLs.
fn newcomer(members: &Members, urls: &[String]) -> Option<NodeId> {
    let mut found =
        members.iter().filter(|(_, member)| crate::member::peer_urls_of(member) == urls);
    found.next().map(|(id, _)| *id)
}

/// The members, if they know this one under another name or other client URLs.
fn introduced(configuration: &Configuration, id: NodeId, own: &MemberContext) -> Option<Members> {
    let mut target = configuration.leads_to().clone();
    let member = target.get_mut(&id)?;
    let known = MemberContext::from_bytes(&member.context).unwrap_or_default();
    if (&known.name, &known.client_urls) == (&own.name, &own.client_urls) {
        return None;
    }
    member.context = MemberContext { peer_urls: known.peer_urls, ..own.clone() }.to_bytes();
    Some(target)
}

fn obstacle(error: MembershipError) -> Obstacle {
    let rejection = match error {
        MembershipError::Refused(refusal) => return refused(&refusal),
        MembershipError::Lost => return Obstacle::Passing,
        MembershipError::UnderWay { waits } => {
            let waits = waits.first().map(|wait| format!("; it waits: {wait}"));
            return Obstacle::UnderWay { waits: waits.unwrap_or_default() };
        }
        MembershipError::UnknownMember { .. } => MembersRejection::NotFound.into(),
        MembershipError::Superseded { .. } => {
            MembersRejection::Refused { why: error.to_string() }.into()
        }
        MembershipError::Overloaded { .. } => Rejection::TooManyRequests,
        MembershipError::Unknown(doubt) => doubt.into(),
    };
    Obstacle::Lasting(rejection)
}

fn refused(refusal: &MembershipRefusal) -> Obstacle {
    let rejection = match refusal {
        MembershipRefusal::NotLeader { .. }
        | MembershipRefusal::LeaderTooNew { .. }
        | MembershipRefusal::Transferring { .. }
        | MembershipRefusal::UnderWay { .. }
        | MembershipRefusal::VersionMismatch { .. }
        | MembershipRefusal::NothingToCancel
        | MembershipRefusal::CannotCancelYet { .. } => return Obstacle::Passing,
        MembershipRefusal::Strangers { .. } | MembershipRefusal::WouldLoseQuorum { .. } => {
            MembersRejection::Unhealthy.into()
        }
        MembershipRefusal::NoVoters => MembersRejection::NotEnoughStarted.into(),
        MembershipRefusal::Poisoned => Rejection::Stopped,
        MembershipRefusal::NotARole { .. }
        | MembershipRefusal::Tombstoned { .. }
        | MembershipRefusal::TooManyMembers { .. }
        | MembershipRefusal::MemberTooLarge { .. } => {
            MembersRejection::Refused { why: refusal.to_string() }.into()
        }
    };
    Obstacle::Lasting(rejection)
}

/// What is said when the time is up.
fn in_the_way(configuration: &Configuration) -> Rejection {
    let Some(change) = &configuration.change else { return Rejection::TimedOut };
    let is_new = |id: &&NodeId| !change.origin.contains_key(id);
    let newcomers: Vec<String> =
        change.target.keys().filter(is_new).map(|id| format!("{:x}", id.get())).collect();
    let waits = if newcomers.is_empty() {
        String::new()
    } else {
        let ids = newcomers.join(", ");
        format!("; it waits for {ids} to start and to catch up, or to be removed again")
    };
    MembersRejection::UnderWay { waits }.into()
}
