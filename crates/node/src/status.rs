//! How a node is doing, as of the last turn of its event loop.

use crate::{Admission, Differing, Rot};
use quorate_core::{
    ChangeWait, Configuration, LogId, LogIndex, Member, MemberRole, NodeId, ProtocolVersion, Role,
    Term,
};
use std::sync::Arc;

/// See the head of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Who.
    pub id: NodeId,
    /// The cluster it belongs to.
    pub cluster_id: u64,
    /// The identity of its disk.
    pub storage_id: u128,
    /// The newest protocol that it speaks.
    pub protocol_version: ProtocolVersion,
    /// What it is.
    pub role: Role,
    /// Whether it leads and its state machine has everything that was committed before. A new leader
    /// may have a lot to apply yet: it leads, and its answers wait for that.
    pub is_ready: bool,
    /// The latest term it has seen.
    pub current_term: Term,
    /// The leader of that term, if known.
    pub leader: Option<NodeId>,
    /// Everything up to here is known to be committed.
    pub commit_index: LogIndex,
    /// The state machine has applied everything up to here.
    pub applied: LogIndex,
    /// The log is on this node's disk up to here.
    pub durable_index: LogIndex,
    /// The last entry of the log.
    pub last_log: LogId,
    /// What the log starts after.
    pub base: LogId,
    /// The configuration in force: the latest in the log, which may yet be taken back.
    pub configuration: Arc<Configuration>,
    /// The latest configuration that is known to be committed.
    pub committed_configuration: Arc<Configuration>,
    /// On a leader, what the change of the members under way waits for; empty if there is none, or
    /// if it goes on by itself.
    pub change_waits: Vec<ChangeWait>,
    /// The version of the configuration by which this node is no member any more, if it was one and
    /// knows. It votes for itself no more, and receives nothing new: it may be stopped.
    pub removed_at: Option<u64>,
    /// Whether it votes and counts, and if not, why: a node whose disk is not the one that the
    /// cluster knows it with does not.
    pub admission: Admission,
    /// Members whose replies are others than this node's. Who is alone against a majority with its
    /// own ends.
    pub differing: Arc<[Differing]>,
    /// Files of the log and snapshots that were found to be damaged when they were last read again.
    pub rotten: Arc<[Rot]>,
    /// The last entry that the log is known to have held, if its end was lost to damage and is not there
    /// again. Until then this node votes as if it had it, and is mended by the others.
    pub lost: Option<LogId>,
    /// Proposals and reads whose outcome is open.
    pub pending_count: usize,
    /// On a leader that is handing over, to whom.
    pub transferring: Option<NodeId>,
    /// How many attempts to hand over have ended, one way or the other.
    pub(crate) transfers_ended: u64,
}

impl NodeStatus {
    /// What of the log is lost, in words; `None` if nothing is.
    #[must_use]
    pub fn lost_text(&self) -> Option<String> {
        let horizon = self.lost?;
        let last = self.last_log;
        Some(format!(
            "the log was damaged; it holds up to {last} of {horizon}, and the rest is fetched from the \
             other members"
        ))
    }

    /// Whether this node leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    /// Which protocol the cluster speaks, by the latest configuration that is known to be committed: a
    /// member that does not is none. It never falls.
    #[must_use]
    pub fn cluster_version(&self) -> ProtocolVersion {
        self.committed_configuration.cluster_version
    }

    /// Whether the state machine has nothing, and the log not all that it needs: a snapshot is fetched,
    /// and reads wait for it.
    #[must_use]
    pub fn lacks_state(&self) -> bool {
        self.applied == LogIndex::ORIGIN && self.base.index > LogIndex::ORIGIN
    }

    /// The leader's address and context, if one is known.
    #[must_use]
    pub fn leader_member(&self) -> Option<&Member> {
        self.configuration.members.get(&self.leader?)
    }

    /// What a node does whose disk may speak for it, in words.
    pub(crate) fn part(&self) -> &'static str {
        part_of(self.configuration.members.get(&self.id).map(|member| member.role))
    }
}

const fn part_of(role: Option<MemberRole>) -> &'static str {
    match role {
        Some(MemberRole::Voter | MemberRole::Incoming | MemberRole::Outgoing) => {
            "it votes and counts"
        }
        Some(MemberRole::Learner) => {
            "as a learner it is sent the log, and neither votes nor counts until it is promoted"
        }
        None => "it votes and counts once it learns of a configuration that has it as a voter",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_said_to_vote_only_if_it_does() {
        let votes = "it votes and counts";
        for role in [MemberRole::Voter, MemberRole::Incoming, MemberRole::Outgoing] {
            assert_eq!(part_of(Some(role)), votes);
        }
        let learner = part_of(Some(MemberRole::Learner));
        assert!(learner.contains("neither votes nor counts until it is promoted"), "{learner}");
        assert!(part_of(None).starts_with("it votes and counts once"));
    }
}
