//! Which protocol the cluster speaks: a leader that has heard of every member which versions it knows
//! has the highest that all know recorded in the configuration, by an entry like any other. It never
//! falls. Decides nothing of what a version allows.

use super::Raft;
use super::common::Common;
use super::leader::Leader;
use super::transfer::is_alive;
use crate::explain::Reason;
use crate::{Configuration, NodeId, ProtocolVersion};

impl Raft {
    /// Which protocol the cluster speaks, by the configuration in force: entries, commands and
    /// snapshots of that version and of earlier ones may be appended and sent. It never falls: only an
    /// entry that was never committed is taken back, and with it whatever was appended behind it.
    #[must_use]
    pub fn cluster_version(&self) -> ProtocolVersion {
        self.common.log.configuration().cluster_version
    }

    /// The newest version that a node is known to speak, by what it said when it was heard last; its
    /// own for this server. `None` if nothing is known.
    #[must_use]
    pub fn version_of(&self, id: NodeId) -> Option<ProtocolVersion> {
        self.common.speaks.get(&id).copied()
    }
}

impl Leader {
    /// What the cluster can speak and does not yet: the newest version that every member knows, learners
    /// included. Each has to be there: who is not may come back as another program.
    pub(crate) fn raised_version(
        &self,
        common: &Common,
        configuration: &Configuration,
    ) -> Option<ProtocolVersion> {
        let mut version = *common.speaks.get(&common.id)?;
        if version <= configuration.cluster_version {
            return None;
        }
        for id in configuration.members.keys() {
            version = version.min(self.heard_version(common, *id)?);
        }
        (version > configuration.cluster_version).then_some(version)
    }

    /// What a member that answers speaks.
    fn heard_version(&self, common: &Common, id: NodeId) -> Option<ProtocolVersion> {
        let is_here = id == common.id
            || self.progress.get(&id).is_some_and(|progress| is_alive(progress, common));
        common.speaks.get(&id).filter(|_| is_here).copied()
    }

    /// Who keeps the cluster from speaking what this leader can.
    pub(crate) fn explain_version(&self, common: &Common) -> Option<Reason> {
        let configuration = common.log.configuration();
        let (spoken, own) = (configuration.cluster_version, *common.speaks.get(&common.id)?);
        if spoken >= own {
            return None;
        }
        let (mut older, mut silent) = (Vec::new(), Vec::new());
        for id in configuration.members.keys() {
            match self.heard_version(common, *id) {
                Some(version) if version >= own => {}
                Some(_) => older.push(*id),
                None => silent.push(*id),
            }
        }
        let is_due = older.is_empty() && silent.is_empty();
        (!is_due).then_some(Reason::OldVersion { spoken, own, older, silent })
    }
}
