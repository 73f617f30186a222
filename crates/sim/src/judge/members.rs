//! Who the members are, by what nodes write and what is committed; whoever says or believes something
//! else is wrong. Must not know how a change goes.

use super::Breach;
use quorate_core::{Configuration, Entry, LogIndex, Members, NodeId, Payload, Raft};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known of the members, over all time.
#[derive(Debug, Default)]
pub(crate) struct KnownMembers {
    /// Every configuration that any node has written, by its place in the log.
    configurations: BTreeMap<LogIndex, Vec<Arc<Configuration>>>,
    /// The committed ones by their versions.
    versions: BTreeMap<u64, Arc<Configuration>>,
    /// Where the last of them stands.
    last_committed: LogIndex,
    /// What somebody was told of a version that no state machine has reached yet.
    told: BTreeMap<u64, Vec<Members>>,
    /// What each node was last found to know rightly: it need not be compared again.
    agreed: BTreeMap<NodeId, Arc<Configuration>>,
}

impl KnownMembers {
    /// A cluster that begins with these members.
    pub(super) fn founded(founders: &Arc<Configuration>) -> Self {
        let mut known = Self::default();
        known.configurations.insert(LogIndex::ORIGIN, vec![Arc::clone(founders)]);
        known.versions.insert(founders.version, Arc::clone(founders));
        known
    }

    /// A node asks its disk to write these.
    pub(super) fn written(&mut self, entries: &[Entry]) {
        for entry in entries {
            if let Payload::Configuration(configuration) = &entry.payload {
                let seen = self.configurations.entry(entry.log_id.index).or_default();
                if !seen.contains(configuration) {
                    seen.push(Arc::clone(configuration));
                }
            }
        }
    }

    /// What anybody has written from this place on.
    pub(super) fn written_since(
        &self,
        index: LogIndex,
    ) -> impl Iterator<Item = &Arc<Configuration>> {
        self.configurations.range(index..).flat_map(|(_, seen)| seen)
    }

    /// Where the last committed configuration stands.
    pub(super) const fn last_committed(&self) -> LogIndex {
        self.last_committed
    }

    /// Versions count the committed configurations.
    pub(super) fn committed(&mut self, entry: &Entry) -> Result<(), Breach> {
        let Payload::Configuration(configuration) = &entry.payload else { return Ok(()) };
        let before = self.versions.keys().next_back().copied().unwrap_or_default();
        let (version, log_id) = (configuration.version, entry.log_id);
        if version != before + 1 {
            return Err(Breach::VersionLeap { log_id, before, version });
        }
        self.versions.insert(version, Arc::clone(configuration));
        self.last_committed = log_id.index;
        let told = self.told.remove(&version).unwrap_or_default();
        told.iter().try_for_each(|target| self.told(version, target))
    }

    /// What a node takes for the committed members, out of its log or of a snapshot, is what is
    /// committed under that version. One that joins begins without any.
    pub(super) fn are_known_by(&mut self, raft: &Raft) -> Result<(), Breach> {
        let (_, known) = raft.committed_configuration();
        if self.agreed.get(&raft.id()).is_some_and(|agreed| Arc::ptr_eq(agreed, known)) {
            return Ok(());
        }
        let Configuration { version, ref members, .. } = **known;
        let Some(committed) = self.versions.get(&version) else { return Ok(()) };
        if !members.is_empty() && committed != known {
            return Err(Breach::WrongMembers { node: raft.id(), version });
        }
        self.agreed.insert(raft.id(), Arc::clone(known));
        Ok(())
    }

    /// Somebody was told that the members are these in this version.
    pub(crate) fn told(&mut self, version: u64, target: &Members) -> Result<(), Breach> {
        match self.versions.get(&version) {
            Some(known) if known.change.is_none() && known.members == *target => Ok(()),
            Some(_) => Err(Breach::FalseMembers { version }),
            None => {
                self.told.entry(version).or_default().push(target.clone());
                Ok(())
            }
        }
    }

    /// Everything committed is applied somewhere: so is every version that somebody was told of.
    pub(crate) fn told_came(&self) -> Result<(), Breach> {
        let missing = self.told.keys().next();
        missing.map_or(Ok(()), |version| Err(Breach::FalseMembers { version: *version }))
    }

    /// Who may be the members at this moment: as of the last committed configuration, or of any
    /// that was written behind it.
    pub(crate) fn in_force(&self) -> impl Iterator<Item = &Arc<Configuration>> {
        let later = self.written_since(self.last_committed.next());
        self.versions.values().next_back().into_iter().chain(later)
    }
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;
