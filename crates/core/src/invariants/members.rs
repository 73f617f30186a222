//! What must hold of the configurations that follow each other in a log (§4.3). Knows nothing of the
//! cluster: one server, one log.

use super::Violation;
use crate::{Configuration, MemberRole, NodeId, Raft};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Checks that every configuration in a server's log shares a half with the one before it.
///
/// # Errors
///
/// [`Violation::ConfigurationLeap`] if one does not, [`Violation::VersionFell`] if the cluster speaks an
/// older version by it.
pub fn check_configurations(raft: &Raft) -> Result<(), Violation> {
    let mut later: Option<&Arc<Configuration>> = None;
    for configuration in raft.configurations() {
        if let Some(after) = later
            && !share_a_half(configuration, after)
        {
            let (before, after) = (Arc::clone(configuration), Arc::clone(after));
            return Err(Violation::ConfigurationLeap { id: raft.id(), before, after });
        }
        if let Some(after) = later
            && after.cluster_version < configuration.cluster_version
        {
            let (before, after) = (Arc::clone(configuration), Arc::clone(after));
            return Err(Violation::VersionFell { id: raft.id(), before, after });
        }
        later = Some(configuration);
    }
    Ok(())
}

/// Checks that a leader whose configuration was `before` until this step has not left it too early.
/// To take a change back is safe before the joint configuration is committed: who began it knows
/// that nobody can have left it forwards.
///
/// # Errors
///
/// [`Violation::JointLeftEarly`] if the change was finished.
pub fn check_leaving(raft: &Raft, before: &Arc<Configuration>) -> Result<(), Violation> {
    let (after, (_, committed)) = (raft.configuration(), raft.committed_configuration());
    let change = before.change.as_ref().filter(|_| before.is_joint());
    let is_finished = change.is_some_and(|change| after.members == change.target);
    if is_finished && committed.version < before.version {
        let (joint, after) = (Arc::clone(before), Arc::clone(after));
        return Err(Violation::JointLeftEarly { id: raft.id(), joint, after });
    }
    Ok(())
}

/// A server that joined begins without members, and knows nothing that could be contradicted.
fn share_a_half(before: &Configuration, after: &Configuration) -> bool {
    let halves = |configuration: &Configuration| {
        [MemberRole::is_incoming_voter, MemberRole::is_outgoing_voter].map(|votes| {
            let voters = configuration.members.iter().filter(|(_, member)| votes(member.role));
            voters.map(|(id, _)| *id).collect::<BTreeSet<NodeId>>()
        })
    };
    let after = halves(after);
    before.members.is_empty() || halves(before).iter().any(|half| after.contains(half))
}
