//! Who belongs to the cluster, and changing that: one call says who shall, the cluster finds the
//! way (§4). Knows nothing of the steps; the core's leader takes them.

use super::Node;
use crate::runtime::Waiting;
use crate::{Doubt, Input, MembershipError, Refusal};
use quorate_core::{Configuration, Member, MemberRole, Members, MembershipCommand, NodeId};
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a wish waits for its end unless it is told otherwise.
const PATIENCE: Duration = Duration::from_mins(1);

/// The members of a node's cluster; see [`Node::members`].
///
/// ```
/// # use quorate::{MembershipError, Node};
/// async fn replace(node: &Node) -> Result<u64, MembershipError> {
///     // It runs already, with `NodeBuilder::join`, and waits to be added.
///     node.members().add_learner(4, "10.0.0.4:7000").await?;
///     node.members().promote(4).await?;
///     node.members().remove(2).await
/// }
/// ```
#[derive(Debug)]
pub struct NodeMembers<'a> {
    node: &'a Node,
}

/// A wish for other members. Awaiting it sends it, and returns the version of the configuration in
/// which the members are as wished.
///
/// # Errors
///
/// Awaited: any [`MembershipError`].
#[derive(Debug)]
#[must_use = "a wish is sent when it is awaited"]
pub struct MembershipWish<'a> {
    node: &'a Node,
    command: Result<MembershipCommand, MembershipError>,
    timeout: Duration,
}

impl Node {
    /// The members of the cluster, to look at and to change.
    #[must_use]
    pub fn members(&self) -> NodeMembers<'_> {
        NodeMembers { node: self }
    }

    /// Waits until this node knows that it is no member any more, and returns the version of the
    /// configuration that does not have it. It may be stopped then.
    ///
    /// # Errors
    ///
    /// [`Refusal::Stopped`] if the node ends before.
    pub async fn removed(&self) -> Result<u64, Refusal> {
        let mut changes = self.status_changes();
        let mut ended = self.inner.shared.ended.subscribe();
        loop {
            if let Some(version) = changes.borrow_and_update().removed_at {
                return Ok(version);
            }
            tokio::select! {
                news = changes.changed() => news.map_err(|_| Refusal::Stopped)?,
                _ = ended.wait_for(|ended| *ended) => return Err(Refusal::Stopped),
            }
        }
    }
}

impl<'a> NodeMembers<'a> {
    /// The latest configuration that this node knows to be committed.
    #[must_use]
    pub fn configuration(&self) -> Arc<Configuration> {
        Arc::clone(&self.node.status().committed_configuration)
    }

    /// The members shall be these, with these roles, ranks, addresses and contexts; everybody else
    /// goes. New voters catch up first, and a leader that is not among the voters hands over. Any
    /// node may be asked.
    pub fn set(&self, target: Members) -> MembershipWish<'a> {
        let (expected_version, force) = (None, false);
        self.wish(Ok(MembershipCommand::Set { target, expected_version, force }))
    }

    /// Takes the change under way back. [`Configuration::version`] goes on counting.
    pub fn cancel(&self) -> MembershipWish<'a> {
        self.wish(Ok(MembershipCommand::Cancel))
    }

    /// One voter more; it must be running and listening at `address`, or at one of several, separated
    /// by commas (see [`crate::NodeBuilder::join`]). This and the following start from the configuration that this
    /// node knows, and are refused if there is a later one.
    pub fn add_voter(
        &self,
        id: impl Into<NodeId>,
        address: impl Into<String>,
    ) -> MembershipWish<'a> {
        self.add(id.into(), address.into(), MemberRole::Voter)
    }

    /// One member more that only receives the log.
    pub fn add_learner(
        &self,
        id: impl Into<NodeId>,
        address: impl Into<String>,
    ) -> MembershipWish<'a> {
        self.add(id.into(), address.into(), MemberRole::Learner)
    }

    /// A member goes, and its id does not come back.
    pub fn remove(&self, id: impl Into<NodeId>) -> MembershipWish<'a> {
        let id = id.into();
        self.change(id, |members| {
            members.remove(&id);
        })
    }

    /// A learner shall vote.
    pub fn promote(&self, id: impl Into<NodeId>) -> MembershipWish<'a> {
        self.change_role(id.into(), MemberRole::Voter)
    }

    /// A voter shall only receive the log.
    pub fn demote(&self, id: impl Into<NodeId>) -> MembershipWish<'a> {
        self.change_role(id.into(), MemberRole::Learner)
    }

    /// A member listens somewhere else now.
    pub fn move_to(&self, id: impl Into<NodeId>, address: impl Into<String>) -> MembershipWish<'a> {
        let (id, address) = (id.into(), address.into());
        self.change(id, |members| {
            members.entry(id).and_modify(|member| member.address = address);
        })
    }

    fn add(&self, id: NodeId, address: String, role: MemberRole) -> MembershipWish<'a> {
        let configuration = self.configuration();
        let mut target = configuration.leads_to().clone();
        let member = Member { role, rank: 0, address, context: bytes::Bytes::new() };
        target.insert(id, member);
        self.set(target).expect_version(configuration.version)
    }

    fn change_role(&self, id: NodeId, role: MemberRole) -> MembershipWish<'a> {
        self.change(id, |members| {
            members.entry(id).and_modify(|member| member.role = role);
        })
    }

    fn change(&self, member: NodeId, change: impl FnOnce(&mut Members)) -> MembershipWish<'a> {
        let configuration = self.configuration();
        let version = configuration.version;
        let mut target = configuration.leads_to().clone();
        if !target.contains_key(&member) {
            return self.wish(Err(MembershipError::UnknownMember { member, version }));
        }
        change(&mut target);
        self.set(target).expect_version(version)
    }

    fn wish(&self, command: Result<MembershipCommand, MembershipError>) -> MembershipWish<'a> {
        MembershipWish { node: self.node, command, timeout: PATIENCE }
    }
}

impl MembershipWish<'_> {
    /// Refuse the wish unless the configuration still has this version (compare and set). Without
    /// effect on a cancellation.
    pub fn expect_version(mut self, version: u64) -> Self {
        if let Ok(MembershipCommand::Set { expected_version, .. }) = &mut self.command {
            *expected_version = Some(version);
        }
        self
    }

    /// Do it although most voters would be strangers, or a majority of them is not heard of now.
    pub fn force(mut self) -> Self {
        if let Ok(MembershipCommand::Set { force, .. }) = &mut self.command {
            *force = true;
        }
        self
    }

    /// How long to wait for the end, 60 s unless set. The change goes on afterwards.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn send(self) -> Result<u64, MembershipError> {
        let command = self.command?;
        let (sender, end) = oneshot::channel();
        let deadline = self.node.inner.shared.clock.now().after(self.timeout);
        let input = |ticket| Input::ChangeMembership { ticket, command, deadline };
        let asked = self.node.request(Waiting::Wish(sender), (0, deadline), input);
        asked.map_err(|refusal| wish_error(&refusal))?;
        end.await.unwrap_or(Err(MembershipError::Unknown(Doubt::Stopped)))
    }
}

impl<'a> IntoFuture for MembershipWish<'a> {
    type Output = Result<u64, MembershipError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// A wish that was not let in.
fn wish_error(refusal: &Refusal) -> MembershipError {
    match refusal {
        Refusal::Overloaded { limit, .. } => MembershipError::Overloaded { limit_count: *limit },
        Refusal::NoLeader | Refusal::Transferring { .. } | Refusal::Stopped => {
            MembershipError::Unknown(Doubt::Stopped)
        }
    }
}
